"""`ibkr-oauth keygen`: makes the files of a consumer and says where each one goes."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ibkr_oauth import keygen
from ibkr_oauth.keygen import KeyFiles, KeyProgress

from . import common

PORTAL = "https://ndcdyn.interactivebrokers.com/sso/Login?action=OAUTH&RL=1&ip2loc=US"

_REDRAWN_AFTER = 0.1  # seconds; progress is reported for each candidate


@click.command("keygen")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--bits",
    type=click.IntRange(2048, 16384),
    default=2048,
    show_default=True,
    help="Length of the RSA keys; IBKR asks for 2048.",
)
@click.option("--force", is_flag=True, help="Replace files of an earlier run: they are lost.")
@common.output_options
def command(directory: Path, bits: int, force: bool, as_json: bool) -> None:
    """Make the keys and parameters that IBKR's portal asks for, in DIRECTORY.

    Two RSA key pairs, one to sign and one to decrypt, and Diffie-Hellman parameters with a prime of
    your own. The search for the prime takes 10 seconds to some minutes. What it writes can be read
    by you only, and nothing leaves this machine.
    """
    began = time.monotonic()
    with _progress(common.make_console(stderr=True)) as progress:
        files = keygen.generate_keys(directory, bits=bits, force=force, progress=progress)
    if as_json:
        common.print_json(_as_document(files, time.monotonic() - began))
    else:
        _show(files)


@contextmanager
def _progress(console: Console) -> Generator[KeyProgress, None, None]:
    """Shows what is being made, for how long, and the number of candidates: on standard error, as
    one line that is drawn anew on a terminal, and as a line for each thing elsewhere."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[tried]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", tried="")
    making, tried, drawn = "", 0, 0.0

    def progress(what: str) -> None:
        nonlocal making, tried, drawn
        tried += 1
        now = time.monotonic()
        if what != making:
            making, tried = what, 0
            if not console.is_terminal:
                console.print(f"making the {what}")
            bar.reset(task, description=f"making the {what}", tried="")
        elif now - drawn >= _REDRAWN_AFTER and what == keygen.DH_PRIME:
            drawn = now
            bar.update(task, tried=f"{tried} candidates")

    with bar:
        yield progress


def _show(files: KeyFiles) -> None:
    console = common.make_console()
    uploads = (
        (files.public_signature, "Public Signing Key", files.signature_fingerprint),
        (files.public_encryption, "Public Encryption Key", files.encryption_fingerprint),
        (files.dh_params, "Diffie-Hellman Parameters", files.dh_fingerprint),
    )
    console.print(Text.assemble("Wrote to ", (str(files.directory), "bold")), soft_wrap=True)
    console.print("\nStay here, and secret:")
    console.print(f"  {files.private_signature.name:<22}  signs your requests")
    console.print(f"  {files.private_encryption.name:<22}  decrypts your access token secret")
    console.print("\nUpload to IBKR's portal:")
    for path, field, fingerprint in uploads:
        console.print(Text.assemble(f"  {path.name:<22}  as ", (field, "bold")))
        console.print(Text(f"    SHA-256 {fingerprint}", "dim"), soft_wrap=True)
    console.print(f"\nNext:\n  1. Log in at\n     {PORTAL}", soft_wrap=True)
    console.print(
        "  2. Choose a consumer key of nine letters, save it, and upload the three files.\n"
        "  3. Press Generate Token. Keep access token and secret: they are shown once.\n"
        "  4. Enable OAuth access. New keys become active at an IBKR reset: often\n"
        "     overnight, officially after the weekend."
    )


def _as_document(files: KeyFiles, seconds: float) -> dict[str, object]:
    paths = {
        "private_signature": files.private_signature,
        "public_signature": files.public_signature,
        "private_encryption": files.private_encryption,
        "public_encryption": files.public_encryption,
        "dh_params": files.dh_params,
    }
    return {
        "directory": str(files.directory.absolute()),
        "files": {name: str(path.absolute()) for name, path in paths.items()},
        "sha256": {
            "signature": files.signature_fingerprint,
            "encryption": files.encryption_fingerprint,
            "dh_params": files.dh_fingerprint,
        },
        "seconds": round(seconds, 3),
    }
