"""What a key file is, however it is spelled."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import DHParameters, PrivateKey, doctor
from ibkr_oauth.errors import ConfigurationError
from ibkr_oauth.sandbox import Sandbox

SPELLINGS: dict[str, tuple[Callable[[str], bytes], tuple[str, ...]]] = {
    "as openssl writes it": (lambda pem: pem.encode(), ()),
    "CRLF": (lambda pem: pem.replace("\n", "\r\n").encode(), ("Windows line ends",)),
    "byte order mark": (lambda pem: b"\xef\xbb\xbf" + pem.encode(), ("a byte order mark at its start",)),
    "UTF-16": (lambda pem: pem.encode("utf-16"), ("UTF-16, as Windows tools write it",)),
    "one line": (lambda pem: pem.replace("\n", " ").encode(), ("all on one line",)),
    "literal \\n": (lambda pem: pem.replace("\n", "\\n").encode(), ("literal \\n in place of line ends",)),
    "base64": (lambda pem: base64.b64encode(pem.encode()), ("base64 of the whole file",)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", ["signing", "dh_params"])
def test_a_good_file_is_known_in_every_spelling(pem: dict[str, str], spelling: str, name: str, tmp_path: Path) -> None:
    write, notes = SPELLINGS[spelling]
    path = tmp_path / "file.pem"
    path.write_bytes(write(pem[name]))
    found = doctor.identify(path)
    assert (found.problem, found.bits, found.notes) == (None, 2048, notes)
    if name == "signing":
        assert (found.kind, found.fingerprint) == ("private RSA key", PrivateKey.load(pem[name]).fingerprint)
        assert found.slot is None  # only the secret can tell
    else:
        assert (found.slot, found.fingerprint) == ("dh_params", DHParameters.load(pem[name]).fingerprint)
    assert doctor.identify(write(pem[name])) == found


def test_the_secret_tells_encryption_key_and_signing_key_apart(pem: dict[str, str]) -> None:
    sandbox = Sandbox()
    sandbox.register("VECTORKEY", pem["signing_public"], pem["encryption_public"], pem["dh_params"])
    _, secret = sandbox.grant("VECTORKEY")
    assert doctor.identify(pem["encryption"], access_token_secret=secret).slot == "encryption_key"
    assert doctor.identify(pem["signing"], access_token_secret=secret).slot == "signing_key"
    assert doctor.identify(pem["signing"], access_token_secret=secret[:-4]).slot is None


def test_a_public_key_belongs_to_the_portal(pem: dict[str, str]) -> None:
    found = doctor.identify(pem["signing_public"])
    assert (found.kind, found.slot, found.cause) == ("public key", "upload", "public-instead-of-private")
    crlf = doctor.identify(pem["signing_public"].replace("\n", "\r\n"))
    assert "refused public keys with Windows line ends" in crlf.advice


def test_an_encrypted_key_opens_with_its_pass_phrase(vectors: dict[str, Any]) -> None:
    keys = vectors["keys"]
    for name in ("private_pkcs8_encrypted_pem", "private_pkcs1_legacy_encrypted_pem"):
        text = keys["signature"][name]
        assert doctor.identify(text).cause == "key-password-missing"
        assert doctor.identify(text, passphrase="another").cause == "key-password-wrong"
        found = doctor.identify(text, passphrase=keys["encrypted_pem_passphrase"])
        assert (found.problem, found.kind) == (None, "private RSA key")


def test_der_is_known_as_well(pem: dict[str, str]) -> None:
    body = "".join(pem["dh_params"].splitlines()[1:-1])
    assert doctor.identify(base64.b64decode(body)).slot == "dh_params"
    body = "".join(pem["signing"].splitlines()[1:-1])
    assert doctor.identify(base64.b64decode(body)).kind == "private RSA key"
    body = "".join(pem["signing_public"].splitlines()[1:-1])
    assert doctor.identify(base64.b64decode(body)).kind == "public key"


@pytest.mark.parametrize(
    ("content", "kind", "cause"),
    [
        (b"", "empty file", "empty-file"),
        (b" \r\n", "empty file", "empty-file"),
        (b"\x00\x01\x02\xff", "no key", "not-a-key"),
        (b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ== me@here\n", "public key of SSH", "public-instead-of-private"),
        (b"-----BEGIN PRIVATE KEY-----\nMIIE", "private key that cannot be read", "file-cut-off"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxx\n-----END PGP PRIVATE KEY BLOCK-----\n", "PGP key", "pgp-key"),
    ],
)
def test_what_is_no_key_is_said_to_be_none(content: bytes, kind: str, cause: str) -> None:
    found = doctor.identify(content)
    assert (found.kind, found.cause, found.slot) == (kind, cause, None)
    assert found.problem
    assert found.advice


def test_parameters_that_cannot_be_read_are_for_their_place_all_the_same() -> None:
    for content, cause in (
        (b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "file-cut-off"),
        (b"23" * 128, "dh-too-short"),
    ):
        found = doctor.identify(content)
        assert (found.kind, found.slot, found.cause) == ("Diffie-Hellman parameters", "dh_params", cause), found
        assert found.problem
        assert found.advice


def test_a_folder_is_looked_through(pem: dict[str, str], tmp_path: Path) -> None:
    for name, text in (("b.pem", pem["signing"]), ("a.pem", pem["dh_params"]), (".hidden", pem["signing"])):
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    found = doctor.check_files(tmp_path)
    assert [(name, one.kind) for name, one in found.items()] == [
        ("a.pem", "Diffie-Hellman parameters"),
        ("b.pem", "private RSA key"),
    ]
    with pytest.raises(ConfigurationError, match="could not be read: No such file"):
        doctor.check_files(tmp_path / "missing")


def test_no_answer_holds_a_piece_of_the_key(pem: dict[str, str]) -> None:
    for length in range(0, len(pem["signing"]), 97):
        said = repr(doctor.identify(pem["signing"][:length].encode()))
        assert not any(line in said for line in pem["signing"].splitlines()[1:-1])
    assert "-----" not in repr(doctor.identify(pem["signing"]))
