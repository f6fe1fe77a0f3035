"""`ibkr-oauth keys`: what key files are, and whether they go together."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from ibkr_oauth import config, doctor, errors, files, keygen
from ibkr_oauth.consumer import DHParameters, _is_path

from . import common

_EXIT_WRONG = 3  # as a ConfigurationError
_SLOTS = ("signing_key", "encryption_key", "dh_params")
_STANDARD = {
    "signing_key": keygen.PRIVATE_SIGNATURE,
    "encryption_key": keygen.PRIVATE_ENCRYPTION,
    "dh_params": keygen.DH_PARAMS,
}
_PRIVATE, _PUBLIC = "private RSA key", "public key"
_FIELDS = {"signing_key": "Public Signing Key", "encryption_key": "Public Encryption Key"}
#: A file of another kind in a folder is looked at only where its name says that it should be a key.
_KEY_SUFFIXES = (".pem", ".key", ".der", ".pub", ".crt")


@dataclass(slots=True)
class _Checked:
    """A file, what it is, and what is wrong with it: pairs of problem and advice."""

    path: Path
    file: doctor.KeyFile
    slot: str | None
    fingerprint: str | None
    role: str = ""
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def is_private(self) -> bool:
        return self.file.kind == _PRIVATE

    @property
    def is_public(self) -> bool:
        return self.file.kind == _PUBLIC


@click.group("keys")
def command() -> None:
    """Say what each key file is and where it belongs."""


@command.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@common.profile_options
@click.pass_context
def check(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Say what each of the files is, which setting it belongs to, and whether they go together.

    PATHS are files or a folder; without any, those that the profile or the environment names.
    Fingerprints are SHA-256 of the public half, to compare with what was uploaded to the portal.
    Ends with exit code 3 where something is wrong.
    """
    checked, missing = _of_settings(ctx) if not paths else _of_paths(paths)
    _compare(checked)
    is_good = not missing and not any(one.problems for one in checked)
    if as_json:
        common.print_json(_as_document(checked, missing, is_good))
    else:
        _show(checked, missing, is_good)
    if not is_good:
        ctx.exit(_EXIT_WRONG)


# --- What is there --------------------------------------------------------------------------------


def _of_settings(ctx: click.Context) -> tuple[list[_Checked], list[str]]:
    """The files in use: their slot is known."""
    settings = common.load_settings(ctx)
    found = {name: value for name in _SLOTS if (value := settings.get(name)) is not None}
    if not found:
        raise errors.MissingSetting(
            "no key files: none given, and no settings name any",
            advice="Give a folder or files, or a profile with --profile.",
        )
    secret = settings.get("access_token_secret")
    checked = [_check_setting(name, value, None if secret is None else secret.text) for name, value in found.items()]
    return checked, [_STANDARD[name] for name in _SLOTS if name not in found]


def _of_paths(paths: Sequence[Path]) -> tuple[list[_Checked], list[str]]:
    checked: list[_Checked] = []
    missing: list[str] = []
    for path in paths:
        if not path.is_dir():
            checked.append(_check(path))
            continue
        inside = [_check(path / name) for name in doctor.check_files(path)]
        inside = [one for one in inside if one.file.kind != "no key" or one.path.suffix.lower() in _KEY_SUFFIXES]
        missing += [f"{path / _STANDARD[slot]}" for slot in _SLOTS if all(one.slot != slot for one in inside)]
        checked += inside
    return checked, missing


def _check_setting(name: str, value: config.Value, secret: str | None) -> _Checked:
    """What a setting names, or holds as text."""
    if _is_path(value.text):
        one = _check(Path(value.text), secret)
    else:
        file = doctor.identify(value.text, passphrase=config.key_password(), access_token_secret=secret)
        one = _Checked(Path(value.origin), file, file.slot, file.fingerprint, f"text of the setting {name}")
        if file.problem is not None:
            one.problems.append((file.problem, file.advice))
    known = one.file.slot
    if one.is_public and not one.problems:
        one.problems.append((f"{name} names it: {one.file.problem}", one.file.advice))
    elif (known or name) != name and not one.is_public:
        one.problems.append((f"{name} names it, and it is for {known}", "Correct the settings: exchange the two."))
    elif one.is_private and name == "dh_params":
        one.problems.append((f"{name} names it, and it is a private RSA key", "Give the file dhparam.pem there."))
    one.slot = name
    return one


def _check(path: Path, secret: str | None = None) -> _Checked:
    """One file by itself."""
    path = path.expanduser()
    file = doctor.identify(path, passphrase=config.key_password(), access_token_secret=secret)
    slot = file.slot if file.slot in _SLOTS else _slot_by_name(path, file)
    one = _Checked(path, file, slot, file.fingerprint)
    if one.is_public:
        one.fingerprint = _public_fingerprint(path)
        one.role = "for IBKR's portal"
        if "private" in path.name.lower():
            one.problems.append((file.problem or "a public key", file.advice))
    elif file.problem is not None:
        one.problems.append((file.problem, file.advice))
    elif one.is_private:
        _check_private(one)
    else:
        one.role = "for both sides: keep it, and upload it to IBKR's portal"
        try:
            DHParameters.load(path).check()
        except errors.DHParametersError as error:
            one.problems.append((error.message, error.advice))
    return one


def _check_private(one: _Checked) -> None:
    roles = {"signing_key": "signs your requests", "encryption_key": "decrypts the access token secret"}
    one.role = roles.get(one.slot or "", "signing key or encryption key: the name does not say which")
    if "public" in one.path.name.lower():
        one.problems.append(
            ("private key under the name of a public one", "Rename it, and never upload it; upload its public half.")
        )
    try:
        files.check_private(str(one.path), "private key")
    except errors.InsecurePermissionsError as error:
        one.problems.append((error.message, error.advice))


def _slot_by_name(path: Path, file: doctor.KeyFile) -> str | None:
    """Of an RSA key: which of the two it is meant to be."""
    if "private key" not in file.kind and file.kind not in (_PRIVATE, _PUBLIC):
        return None
    name = path.name.lower()
    is_signing, is_encryption = "sig" in name, "enc" in name
    if is_signing == is_encryption:
        return None
    return "signing_key" if is_signing else "encryption_key"


def _public_fingerprint(path: Path) -> str | None:
    """SHA-256 of SubjectPublicKeyInfo, as that of a private key is; None for a spelling that is not plain PEM."""
    block = re.search(rb"-----BEGIN (RSA )?PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END", path.read_bytes())
    if block is None:
        return None
    try:
        der = binascii.a2b_base64(block[2])
    except binascii.Error:
        return None
    if block[1]:  # PKCS#1, which SubjectPublicKeyInfo wraps in a BIT STRING, after the name of the algorithm
        der = _der(0x30, _RSA_ENCRYPTION + _der(0x03, b"\0" + der))
    return hashlib.sha256(der).hexdigest()


_RSA_ENCRYPTION = base64.b64decode("MA0GCSqGSIb3DQEBAQUA")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


# --- Whether they go together ---------------------------------------------------------------------


def _compare(checked: list[_Checked]) -> None:
    """Public halves with private keys, and the two private keys with each other."""
    private = {one.fingerprint: one for one in checked if one.is_private}
    for one in checked:
        if one.is_public and private and one.fingerprint is not None and not one.problems:
            half = private.get(one.fingerprint)
            if half is None:
                one.problems.append(
                    ("public key of no private key here", "Upload the public half of a private key that you have.")
                )
            elif half.slot != one.slot and None not in (half.slot, one.slot):
                one.problems.append(
                    (
                        f"public half of {half.path.name}, unlike its name",
                        "Rename it, and upload it to the right field.",
                    )
                )
            else:
                field = _FIELDS.get(half.slot or "")
                one.role = f"public half of {half.path.name}" + (f", to upload as {field}" if field else "")
    by_slot = {one.slot: one for one in checked if one.is_private}
    signing, encryption = by_slot.get("signing_key"), by_slot.get("encryption_key")
    if signing and encryption and signing.fingerprint == encryption.fingerprint:
        encryption.problems.append(
            (f"the same key as {signing.path.name}", "IBKR wants two keys: make another with `ibkr-oauth keygen`.")
        )


# --- Showing --------------------------------------------------------------------------------------


def _show(checked: list[_Checked], missing: list[str], is_good: bool) -> None:
    from rich.text import Text  # noqa: PLC0415 - `--help` does without

    console = common.make_console()
    for one in checked:
        bits = "" if one.file.bits is None else f", {one.file.bits} bits"
        click.secho(common.printable(str(one.path)), bold=True)
        click.echo(f"  {one.file.kind}{bits}" + (f": {common.printable(one.role)}" if one.role else ""))
        if one.fingerprint is not None:
            click.echo(f"  SHA-256 {one.fingerprint}")
        for note in one.file.notes:
            common.print_hanging(console, Text("  note: "), Text(common.printable(note)))
        for problem, advice in one.problems:
            common.print_hanging(console, Text("  wrong: ", "red"), Text(common.printable(problem), "red"))
            common.print_hanging(console, Text("         "), Text(common.printable(advice)))
    for name in missing:
        click.secho(f"missing: {common.printable(name)}", fg="red")
    click.echo("All of them can be used." if is_good else "Something is wrong: see above.")


def _as_document(checked: list[_Checked], missing: list[str], is_good: bool) -> dict[str, object]:
    return {
        "good": is_good,
        "files": [
            {
                "path": str(one.path),
                "kind": one.file.kind,
                "slot": one.slot,
                "role": one.role or None,
                "bits": one.file.bits,
                "sha256": one.fingerprint,
                "notes": list(one.file.notes),
                "problems": [{"message": problem, "advice": advice} for problem, advice in one.problems],
            }
            for one in checked
        ],
        "missing": missing,
    }
