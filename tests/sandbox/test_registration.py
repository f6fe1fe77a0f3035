"""What can be registered, and what is refused by name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ibkr_oauth.sandbox import Sandbox

from .conftest import Keys


def public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def der_integer(number: int, *, signed: bool = True) -> bytes:
    length = number.bit_length() // 8 + 1 if signed else (number.bit_length() + 7) // 8
    return der(2, number.to_bytes(length, "big", signed=number < 0))


def der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(2, "big")
    return bytes([tag, 0x82]) + length + content


def dh_pem(content: bytes, label: str = "DH PARAMETERS") -> str:
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


@pytest.fixture
def idle() -> Sandbox:
    """A sandbox that is not running: registration needs no server."""
    return Sandbox()


def register(sandbox: Sandbox, keys: Keys, **options: Any) -> None:
    sandbox.register(
        options.pop("consumer_key", "ABCDEFGHI"),
        options.pop("signature_key", keys.signature_pem),
        options.pop("encryption_key", keys.encryption_pem),
        options.pop("dh_params", keys.dh_pem),
        **options,
    )


def test_text_bytes_and_files(idle: Sandbox, keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "dhparam.pem"
    file.write_text(keys.dh_pem)
    consumer = idle.register("ABCDEFGHI", keys.signature_pem, keys.encryption_pem.encode(), file, callback="oob")
    assert (consumer.key, consumer.realm, consumer.active) == ("ABCDEFGHI", "limited_poa", True)
    assert consumer.dh_group.prime == keys.prime
    assert "RSA" not in repr(consumer)


def test_testcons(keys: Keys) -> None:
    with pytest.raises(LookupError):
        Sandbox().grant("TESTCONS")
    ready = Sandbox(testcons=True)
    token, secret = ready.grant("TESTCONS")
    assert (len(token), len(secret)) == (20, 344)
    with pytest.raises(ValueError, match="TESTCONS is registered already"):
        register(ready, keys, consumer_key="TESTCONS")
    own = Sandbox().register("TESTCONS", keys.signature_pem, keys.encryption_pem, keys.dh_pem)
    assert own.realm == "test_realm"


@pytest.mark.parametrize("key", ["", "abcdefghi", "ABC DEF", "A" * 26, 'AB"C'])
def test_consumer_key(idle: Sandbox, keys: Keys, key: str) -> None:
    with pytest.raises(ValueError, match="upper-case letters or digits"):
        register(idle, keys, consumer_key=key)


@pytest.mark.parametrize("callback", ["", "localhost:20000", "ftp://x/", "http://x/\r\nX: y"])
def test_callback(idle: Sandbox, keys: Keys, callback: str) -> None:
    with pytest.raises(ValueError, match="an http or https address, or oob"):
        register(idle, keys, callback=callback)


@pytest.mark.parametrize("role", ["signature", "encryption"])
def test_rsa_keys(idle: Sandbox, keys: Keys, vectors: dict[str, Any], role: str) -> None:
    short = rsa.generate_private_key(65537, 1024)
    for pem, words in (
        (vectors["keys"][role]["private_pkcs8_pem"], "this is a private key"),
        (vectors["keys"][role]["private_pkcs1_pem"], "this is a private key"),
        (public_pem(ec.generate_private_key(ec.SECP256R1())), "not an RSA key"),
        (public_pem(short), "1024 bits, at least 2048"),
        ("nonsense", "not a public key"),
        (keys.dh_pem, "not a public key"),
    ):
        with pytest.raises(ValueError, match=f"{role} key: {words}"):
            register(idle, keys, **{f"{role}_key": pem})


DH_ERRORS: dict[str, tuple[Callable[[int], str], str]] = {
    "negative": (
        lambda p: dh_pem(der(0x30, der_integer(p, signed=False) + der_integer(2))),
        "the prime is negative",
    ),
    "composite": (
        lambda p: dh_pem(der(0x30, der_integer(p - 2) + der_integer(2))),
        "not prime",
    ),
    "short": (
        lambda _p: dh_pem(der(0x30, der_integer(2**521 - 1) + der_integer(2))),
        "521 bits, at least 2048",
    ),
    "generator": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(5))),
        "generator 5",
    ),
    "four integers": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(2) * 3)),
        "more than three integers",
    ),
    "one integer": (lambda p: dh_pem(der(0x30, der_integer(p))), "not the DER structure"),
    "trailing bytes": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(2)) + b"\0"),
        "bytes after the DER sequence",
    ),
    "truncated": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(2))[:-5]),
        "truncated",
    ),
    "no sequence": (lambda p: dh_pem(der_integer(p)), "not the DER structure"),
    "not base64": (
        lambda _p: "-----BEGIN DH PARAMETERS-----\n!!!\n-----END DH PARAMETERS-----",
        "not base64",
    ),
    "no text": (
        lambda _p: "-----BEGIN DH PARAMETERS-----\né\n-----END DH PARAMETERS-----",
        "not base64",
    ),
    "zero": (lambda _p: dh_pem(der(0x30, der_integer(0) + der_integer(2))), "0 bits, at least 2048"),
    "without end": (
        lambda p: dh_pem(b"\x30\x80" + der_integer(p) + der_integer(2) + bytes(2)),
        "not the DER structure",
    ),
    "empty integer": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(2) + b"\x02\x00")),
        "not the DER structure",
    ),
    "X9.42": (
        lambda p: dh_pem(der(0x30, der_integer(p) + der_integer(2)), "X9.42 DH PARAMETERS"),
        "no PEM block",
    ),
    "empty": (lambda _p: "", "no PEM block"),
}


@pytest.mark.parametrize("case", DH_ERRORS)
def test_dh_parameters(idle: Sandbox, keys: Keys, case: str) -> None:
    make, words = DH_ERRORS[case]
    with pytest.raises(ValueError, match=f"DH parameters: .*{words}"):
        register(idle, keys, dh_params=make(keys.prime))


def test_dh_parameters_below_words_in_another_language(idle: Sandbox, keys: Keys) -> None:
    register(idle, keys, dh_params=f"Schlüssel für IBKR\n{keys.dh_pem}")


def test_dh_parameters_with_a_private_length(idle: Sandbox, keys: Keys) -> None:
    content = der_integer(keys.prime) + der_integer(2) + der_integer(225)
    register(idle, keys, dh_params=dh_pem(der(0x30, content)))


def test_usernames(idle: Sandbox, keys: Keys) -> None:
    register(idle, keys)
    for username in ("", "a b", "x" * 65, "<script>"):
        with pytest.raises(ValueError, match="username"):
            idle.grant("ABCDEFGHI", username)
