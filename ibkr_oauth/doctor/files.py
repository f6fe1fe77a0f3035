"""What a key file is, whatever it was given as."""

from __future__ import annotations

import binascii
import os
import re
from pathlib import Path
from typing import NamedTuple

from ibkr_oauth.consumer import DHParameters, KeySource, PrivateKey, _read
from ibkr_oauth.errors import ConfigurationError, DHParametersError, IBKROAuthError, KeyFormatError, KeyMismatchError

from .report import short

_PRIVATE = "private RSA key"
_PUBLIC = "public key"
_DH = "Diffie-Hellman parameters"

# What the label of a BEGIN line says of those that are no private RSA key.
_KINDS = {
    "PUBLIC KEY": _PUBLIC,
    "RSA PUBLIC KEY": _PUBLIC,
    "SSH2 PUBLIC KEY": "public key of SSH",
    "CERTIFICATE": "certificate",
    "CERTIFICATE REQUEST": "certificate request",
    "NEW CERTIFICATE REQUEST": "certificate request",
    "EC PRIVATE KEY": "EC key",
    "EC PARAMETERS": "EC key",
    "DSA PRIVATE KEY": "DSA key",
    "DSA PARAMETERS": "DSA parameters",
    "OPENSSH PRIVATE KEY": "private key in OpenSSH's own format",
    "DH PARAMETERS": _DH,
    "X9.42 DH PARAMETERS": _DH,
    "ENCRYPTED PRIVATE KEY": "encrypted private key",
    "PGP PRIVATE KEY BLOCK": "PGP key",
    "PGP PUBLIC KEY BLOCK": "PGP key",
}
_CAUSES = {
    _PUBLIC: "public-instead-of-private",
    "public key of SSH": "public-instead-of-private",
    "certificate": "certificate-instead-of-key",
    "certificate request": "certificate-instead-of-key",
    "EC key": "ec-key",
    "DSA key": "dsa-key",
    "DSA parameters": "dsa-key",
    "private key in OpenSSH's own format": "openssh-key",
    "encrypted private key": "encrypted-key",
    "PGP key": "pgp-key",
    _DH: "dh-parameters-instead-of-key",
    "empty file": "empty-file",
    "no file": "file-missing",
}
_ADVICE = {
    "public key": "Give the private half that was made with it, private_signature.pem or private_encryption.pem; "
    "the public one is for IBKR's portal only.",
    "certificate": "Give the private RSA key; certificates play no part in this.",
    "certificate request": "Give the private RSA key that it was made with; requests play no part in this.",
    "EC key": "IBKR takes RSA keys only: make new ones with `ibkr-oauth keygen` and upload their public halves.",
    "DSA key": "IBKR takes RSA keys only: make new ones with `ibkr-oauth keygen` and upload their public halves.",
    "private key in OpenSSH's own format": "Convert a copy of it: ssh-keygen -p -m PEM -f COPY; or make new keys with "
    "`ibkr-oauth keygen`.",
    "encrypted private key": "Set IBKR_OAUTH_KEY_PASSWORD to the pass phrase of the file.",
    _DH: "Give a private RSA key here, and this file as dh_params.",
    "empty file": "Copy the file again; if the key is lost, make new ones with `ibkr-oauth keygen`.",
    "no file": "Correct the path.",
}


# The same for what is wrong with a file of the right kind.
_ADVICE_BY_CAUSE = {
    "key-password-wrong": "Correct IBKR_OAUTH_KEY_PASSWORD: the pass phrase of both private key files.",
    "key-too-short": "Make keys of 2048 bits with `ibkr-oauth keygen`, and upload their public halves.",
    "file-cut-off": "Copy the file again, whole, from its first line to its last; if it is lost, make new ones with "
    "`ibkr-oauth keygen`.",
}


class KeyFile(NamedTuple):
    """What a file is. `kind`: in words. `slot`: the setting that it belongs to, `upload` for what goes to the portal,
    None where it belongs nowhere or where only the access token secret could tell signing key from encryption key.

    `bits` and `fingerprint` (SHA-256 of the public half or parameters, hex) where they are known. `problem`: why it
    cannot be used where it belongs, None for a good one. `cause` is a stable word for that, `advice` what to do.
    `notes`: what is odd about the spelling of a file that can be used.
    """

    kind: str
    slot: str | None
    bits: int | None = None
    fingerprint: str | None = None
    problem: str | None = None
    cause: str | None = None
    advice: str = ""
    notes: tuple[str, ...] = ()


def identify(source: KeySource, *, passphrase: str | None = None, access_token_secret: str | None = None) -> KeyFile:
    """What a key file is. `source`: path, text or bytes.

    `passphrase`: of an encrypted key. `access_token_secret`: base64 as IBKR gives it; it tells the encryption key from
    the signing key. Raises nothing for a file that is wrong: that is in `problem`.
    """
    try:
        data = _read(source, "file", KeyFormatError)
    except ConfigurationError as error:
        return KeyFile("no file", None, problem=_plain(error), cause="file-missing", advice=error.advice)
    try:
        return _identify(data, passphrase, access_token_secret)
    finally:
        data[:] = bytes(len(data))


def check_files(folder: str | os.PathLike[str], *, passphrase: str | None = None) -> dict[str, KeyFile]:
    """By name, in order: what each file of a folder is. Folders in it, and files that begin with a dot, are left out.

    Raises ConfigurationError where the folder cannot be read.
    """
    path = Path(folder)
    try:
        path = path.expanduser()
        found = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except (OSError, RuntimeError) as error:  # the latter: no home folder for "~"
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
    else:
        return {entry.name: identify(entry, passphrase=passphrase) for entry in found}
    raise ConfigurationError(f"{path} could not be read: {reason}", advice="Give the folder that holds the keys.")


def _identify(data: bytearray, passphrase: str | None, secret: str | None) -> KeyFile:
    if not data.strip():
        return KeyFile(
            "empty file", None, problem="it is empty", cause=_CAUSES["empty file"], advice=_ADVICE["empty file"]
        )
    text, notes = _spelling(data)
    labels = re.findall(r"-----BEGIN ([A-Z0-9 .]+)-----", text)
    label = next((one for one in labels if one not in ("EC PARAMETERS", "DSA PARAMETERS")), labels[0] if labels else "")
    if "DH PARAMETERS" in label or (not label and _is_hex(text)):
        return _dh(data, notes)
    try:
        key = PrivateKey.load(bytes(data), passphrase, what="file")
    except KeyFormatError as error:
        return _no_private_key(error, data, label, text, notes)
    slot = None if secret is None else _slot_of(key, secret)
    return KeyFile(_PRIVATE, slot, key.bits, key.fingerprint, notes=notes)


def _dh(data: bytearray, notes: tuple[str, ...]) -> KeyFile:
    try:
        parameters = DHParameters.load(bytes(data))
    except DHParametersError as error:
        return KeyFile(_DH, "dh_params", problem=_plain(error), cause=cause_of_dh(error), advice=error.advice)
    return KeyFile(_DH, "dh_params", parameters.bits, parameters.fingerprint, notes=notes)


def _no_private_key(error: KeyFormatError, data: bytearray, label: str, text: str, notes: tuple[str, ...]) -> KeyFile:
    if not label:
        # DER has no label, and that of these parameters looks like that of a public key.
        try:
            parameters = DHParameters.load(bytes(data))
        except DHParametersError:
            pass
        else:
            return KeyFile(_DH, "dh_params", parameters.bits, parameters.fingerprint, notes=notes)
    kind = _KINDS.get(label) or _from_words(error, text)
    if error.code == "passphrase":
        kind = "encrypted private key"
        cause = "key-password-missing" if "no pass phrase" in error.message else "key-password-wrong"
    else:
        cause = _CAUSES.get(kind or "") or _cause_of_text(error, label)
    slot = "upload" if kind == _PUBLIC else None
    advice = _ADVICE_BY_CAUSE.get(cause) or _ADVICE.get(kind or "") or error.advice
    if kind == _PUBLIC and any("Windows" in note for note in notes):
        advice += " IBKR's portal has refused public keys with Windows line ends: upload one with plain ones."
    if kind is None:
        kind = "private key that cannot be read" if "PRIVATE KEY" in label else "no key"
    return KeyFile(kind, slot, problem=_plain(error), cause=cause, advice=advice, notes=notes)


def _from_words(error: KeyFormatError, text: str) -> str | None:
    """The kind of a file whose label does not tell it."""
    if text.startswith("ssh-"):
        return "public key of SSH"
    for words, kind in (
        ("a public key", _PUBLIC),
        ("a certificate", "certificate"),
        ("EC key", "EC key"),
        ("DSA key", "DSA key"),
        ("ED25519 key", "EC key"),
        ("RSA key of", _PRIVATE),
    ):
        if words in error.message:
            return kind
    return None


def _cause_of_text(error: KeyFormatError, label: str) -> str:
    if "RSA key of" in error.message:
        return "key-too-short"
    if "without its END line" in error.message or label:
        return "file-cut-off"
    return "not-a-key"


def cause_of_dh(error: DHParametersError) -> str:
    """A stable word for what is wrong with Diffie-Hellman parameters."""
    for words, cause in (
        ("negative", "dh-negative"),
        ("X9.42", "dh-x942"),
        ("is even", "dh-not-prime"),
        ("is not safe", "dh-not-safe"),
        ("is not prime", "dh-not-prime"),
        ("generator", "dh-generator"),
        ("bits, expected", "dh-too-short"),
        ("the file has BEGIN", "dh-other-file"),
        ("is empty", "empty-file"),
        ("could not be read", "file-missing"),
        ("END line", "file-cut-off"),
        ("PKCS#3", "file-cut-off"),
    ):
        if words in error.message:
            return cause
    return "dh-unreadable"


def _slot_of(key: PrivateKey, secret: str) -> str | None:
    try:
        return "encryption_key" if key._handle.fits("".join(secret.split())) else "signing_key"
    except KeyMismatchError:  # the secret is cut: it tells nothing
        return None


def _spelling(data: bytes | bytearray) -> tuple[str, tuple[str, ...]]:
    """The text, as far as it is one, and what is odd about how it is written."""
    notes: list[str] = []
    raw = bytes(data)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = raw.decode("utf-16", "replace")
        notes.append("UTF-16, as Windows tools write it")
    elif raw.startswith(b"\xef\xbb\xbf"):
        text = raw[3:].decode("latin-1")
        notes.append("a byte order mark at its start")
    else:
        text = raw.decode("latin-1")
    if "-----BEGIN" not in text:
        inner = _unwrapped(text)
        if inner is not None:
            text = inner
            notes.append("base64 of the whole file")
    if "\\n" in text:
        notes.append("literal \\n in place of line ends")
    elif "-----BEGIN" in text and "\n" not in text.strip():
        notes.append("all on one line")
    elif "\r\n" in text:
        notes.append("Windows line ends")
    return text.strip(), tuple(notes)


def _unwrapped(text: str) -> str | None:
    try:
        inner = binascii.a2b_base64("".join(text.split()).encode())
    except (binascii.Error, ValueError):
        return None
    return inner.decode("latin-1") if b"-----BEGIN" in inner else None


def _is_hex(text: str) -> bool:
    return re.fullmatch(r"[0-9A-Fa-f\s:]{256,}", text) is not None


def _plain(error: IBKROAuthError) -> str:
    """Without the name that the file was given."""
    return error.message.removeprefix("file: ").removeprefix(f"{_DH}: ")


def describe(file: KeyFile) -> str:
    """In one line."""
    size = "" if file.bits is None else f" of {file.bits} bits"
    mark = "" if file.fingerprint is None else f", fingerprint {short(file.fingerprint)}"
    notes = f" ({'; '.join(file.notes)})" if file.notes else ""
    return f"{file.kind}{size}{mark}{notes}"
