"""The `ibkr-oauth` command.

It is made of click and rich, which come with the extra `cli`; the library needs neither. So this
module imports nothing of them before `main` has found them.
"""

from __future__ import annotations

import io
import sys

#: Exit code where an extra is not installed; click's for a wrong command line.
EXIT_USAGE = 2


def main() -> int:
    """Run the command line of this process. Returns where it cannot; click ends the process else."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a character: still no error
    try:
        import click  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
        import rich  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        print(f"ibkr-oauth: {missing_extra('cli', error)}", file=sys.stderr)
        print('For `demo` and `sandbox`: pip install "ibkr_oauth[cli,sandbox]"', file=sys.stderr)
        return EXIT_USAGE
    from .app import program  # noqa: PLC0415

    return program.main(prog_name="ibkr-oauth")


def missing_extra(extras: str, error: ImportError) -> str:
    """What to say where a package of an extra cannot be imported."""
    package = (error.name or "a package").partition(".")[0]
    return f'{package} is not installed: pip install "ibkr_oauth[{extras}]"'
