"""Python tests in an extension module that a tool watches: `run.py TOOL [PATH...]`.

asan        AddressSanitizer and UndefinedBehaviorSanitizer, the first of them preloaded
ubsan       UndefinedBehaviorSanitizer alone, which is fast
valgrind    memcheck with Debian's Python, whose own memory it understands
references  the debug build of Debian's Python, which counts all references: each test several times
threads     a CPython without a GIL, made by csrc/tools/freethreaded.sh

Each has a build of the module in a folder of its own below build/, with the seams of IBK_TESTING, and leaks.py looks after
each test for what is left behind. The module in the source folder stays as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tool:
    paths: tuple[str, ...]
    build: dict[str, str]
    python: str = sys.executable
    packages: tuple[str, ...] = ()  # of an environment of its own; none: that of the interpreter
    runner: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


# Its packages are what tests/binding needs. Those of other tests are wheels full of code that is not ours.
LITTLE = ("pytest>=8.2", "pytest-timeout>=2.3", "setuptools>=77")

TOOLS = {
    "asan": Tool(
        paths=("binding", "unit", "integration", "integrations", "sandbox"),
        build={"CC": "gcc", "IBKR_OAUTH_SANITIZE": "address,undefined"},
        preload=("libasan.so", "libubsan.so"),
        environment={
            # Python keeps memory until it ends, and freed memory that is held back looks like a leak.
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=0:thread_local_quarantine_size_kb=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        },
    ),
    "ubsan": Tool(
        paths=("binding", "unit"),
        build={"CC": "gcc", "IBKR_OAUTH_SANITIZE": "undefined"},
        environment={"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"},
    ),
    "valgrind": Tool(
        paths=("binding",),
        build={"IBKR_OAUTH_DEBUG": "1"},
        python="/usr/bin/python3",
        packages=LITTLE,
        runner=("valgrind", "-q", "--error-exitcode=99"),
        options=(
            "-k",
            "not leave_nothing_behind and not search_for_primes",
        ),  # thousands of rounds, and minutes of arithmetic
    ),
    "references": Tool(
        paths=("binding",),
        build={"IBKR_OAUTH_DEBUG": "1"},
        python="/usr/bin/python3-dbg",
        packages=LITTLE,
        options=("-k", "not leave_nothing_behind and not search_for_primes"),
    ),
    "threads": Tool(
        paths=("binding",),
        build={"IBKR_OAUTH_DEBUG": "1"},
        python=str(PROJECT / "build/freethreaded/bin/python3"),
        packages=LITTLE,
    ),
}


def interpreter(tool: Tool, folder: Path) -> str:
    """The Python to run, in an environment of its own where the tool wants one."""
    if not tool.packages:
        return tool.python
    python, made = folder / "venv" / "bin" / "python", folder / "venv" / "made"
    if not made.exists() or made.read_text() != str(tool.packages):
        subprocess.run([tool.python, "-m", "venv", "--clear", folder / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *tool.packages], check=True)
        made.write_text(str(tool.packages))
    return str(python)


def build(tool: Tool, python: str, folder: Path) -> Path:
    """The package with its module, freshly compiled."""
    package = folder / "package"
    shutil.rmtree(package, ignore_errors=True)
    command = (python, "setup.py", "-q", "build", "--build-lib", package, "--build-temp", folder / "objects")
    subprocess.run(command, check=True, cwd=PROJECT, env={**os.environ, **tool.build})
    return package


def libraries(names: tuple[str, ...]) -> str:
    """Sanitizers' libraries, which must be in the process before Python itself."""
    found = [
        subprocess.run(["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
        for name in names
    ]
    for file in found:
        if not Path(file).is_absolute():
            sys.exit(f"this gcc comes without {file}")
    return " ".join(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("paths", nargs="*", help="tests, for instance tests/unit; otherwise the tool's own")
    parser.add_argument("-k", dest="expression", help="as pytest has it, instead of the tool's own")
    chosen = parser.parse_args()
    tool = TOOLS[chosen.tool]
    folder = PROJECT / "build" / "watched" / chosen.tool
    folder.mkdir(parents=True, exist_ok=True)

    python = interpreter(tool, folder)
    package = build(tool, python, folder)
    environment = {
        **os.environ,
        **tool.environment,
        "PYTHONPATH": f"{package}:{PROJECT / 'tests'}",
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": libraries(tool.preload),
    }
    if chosen.tool == "threads":
        del environment["PYTHONMALLOC"]  # such a build has its own only
    where = "from ibkr_oauth import _core; print(_core._live_allocations(), _core.__file__)"
    if chosen.tool == "threads":
        where += "; import sys; assert not sys._is_gil_enabled(), 'the module brought the GIL back'"
    there = subprocess.run(
        [python, "-c", where], check=True, cwd=package, env=environment, capture_output=True, text=True
    )
    if str(package) not in there.stdout:
        sys.exit(f"another module was imported: {there.stdout}")

    paths = [Path(path).absolute() for path in chosen.paths] or [PROJECT / "tests" / path for path in tool.paths]
    options = ["-c", PROJECT / "pyproject.toml", "-p", "watched.leaks", "-p", "no:cacheprovider", "-m", "not slow"]
    options += ["-o", "timeout=900", *(("-k", chosen.expression) if chosen.expression else tool.options)]
    command = [*tool.runner, python, "-m", "pytest", *options, *paths]
    return subprocess.run(command, check=False, cwd=package, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
