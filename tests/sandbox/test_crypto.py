"""The server's side of the cryptography, against `cryptography`, `hmac` and plain integers."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ibkr_oauth.sandbox import crypto

from .conftest import Keys


@pytest.fixture(scope="module")
def group(vectors: dict[str, Any]) -> crypto.DHGroup:
    return crypto.load_dh_parameters(next(iter(vectors["dh_groups"].values()))["pem"])


# --- Exchanges -----------------------------------------------------------------------------------


def length(number: int) -> int:
    """In bytes."""
    return len(f"{number:x}") // 2 + len(f"{number:x}") % 2


SHAPES: dict[str, Callable[[int, int, int], bool]] = {
    "sign_byte": lambda shared, _response, _prime: f"{shared:x}"[0] in "89abcdef" and len(f"{shared:x}") % 2 == 0,
    "short_secret": lambda shared, _response, prime: length(shared) < length(prime),
    "odd_secret": lambda shared, _response, _prime: len(f"{shared:x}") % 2 == 1,
    "short_response": lambda _shared, response, prime: length(response) < length(prime),
    "odd_response": lambda _shared, response, _prime: len(f"{response:x}") % 2 == 1,
}


@pytest.mark.parametrize("bits", [2048, 89, 127])
@pytest.mark.parametrize("shape", get_args(crypto.ExchangeShape))
def test_shapes(group: crypto.DHGroup, shape: crypto.ExchangeShape, bits: int) -> None:
    """The first exponent from the given one on whose exchange has the property, and none that lacks it."""
    if bits < 2048:
        group = crypto.DHGroup(2**bits - 1, 3)  # a prime of Mersenne's
    challenge = pow(group.generator, 0xC11E97, group.prime)
    for start in (1 << 255, 3 << 254):
        found = crypto.exchange(group, challenge, secret=start, shape=shape)
        assert found.response == pow(group.generator, found.secret, group.prime)
        assert found.shared_secret == pow(challenge, found.secret, group.prime)
        response, shared = (pow(base, start, group.prime) for base in (group.generator, challenge))
        for secret in range(start, found.secret + 1):
            assert SHAPES[shape](shared, response, group.prime) is (secret == found.secret)
            response, shared = response * group.generator % group.prime, shared * challenge % group.prime


def test_any_shape(group: crypto.DHGroup) -> None:
    """An exponent of 256 bits, another one each time."""
    secrets = {crypto.exchange(group, 4).secret for _ in range(20)}
    assert len(secrets) == 20
    assert {secret.bit_length() for secret in secrets} == {256}
    assert crypto.exchange(group, 4, secret=5).secret == 5


# --- Signatures ----------------------------------------------------------------------------------


def test_decoded_signatures() -> None:
    """One spelling each."""
    assert crypto.decode_signature("AAECAw==") == bytes(range(4))
    assert crypto.decode_signature("") == b""
    for other in ("AAECAx==", "AAECAw", "AAECAw=", "AAEC\nAw==", "AAECAw==A", "AA_CAw==", "é", "=AAA"):
        assert crypto.decode_signature(other) is None


#: A base string that came in as bytes which are no UTF-8 is signed as those bytes.
BASE_STRINGS = [("GET&a", b"GET&a"), ("ü&€", "ü&€".encode()), ("a\udcff", b"a\xff")]


@pytest.mark.parametrize(("text", "signed"), BASE_STRINGS)
@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_hmac(text: str, signed: bytes, algorithm: str) -> None:
    key = os.urandom(20)
    options = {} if algorithm == "sha256" else {"algorithm": algorithm}
    signature = hmac.digest(key, signed, algorithm)
    assert crypto.verify_hmac(key, signature, text, **options)
    assert not crypto.verify_hmac(key, signature, f"{text}x", **options)
    assert not crypto.verify_hmac(key[1:], signature, text, **options)
    assert not crypto.verify_hmac(key, signature[:-1], text, **options)
    assert not crypto.verify_hmac(key, b"", text, **options)


@pytest.mark.parametrize(("text", "signed"), BASE_STRINGS)
@pytest.mark.parametrize("algorithm", [hashes.SHA256, hashes.SHA1])
def test_rsa(keys: Keys, text: str, signed: bytes, algorithm: type[hashes.HashAlgorithm]) -> None:
    signature = keys.signature.sign(signed, padding.PKCS1v15(), algorithm())
    public = crypto.load_rsa_public_key(keys.signature_pem, "key")
    options = {} if algorithm is hashes.SHA256 else {"algorithm": algorithm}
    assert crypto.verify_rsa(public, signature, text, **options)
    assert not crypto.verify_rsa(public, signature, f"{text}x", **options)
    assert not crypto.verify_rsa(public, signature[:-1], text, **options)
    assert not crypto.verify_rsa(keys.encryption.public_key(), signature, text, **options)


def test_the_secret_of_an_access_token(keys: Keys) -> None:
    """Base64 of PKCS#1 v1.5, another ciphertext each time."""
    public = crypto.load_rsa_public_key(keys.encryption_pem, "key")
    first, second = (crypto.encrypt_access_token_secret(public, b"s3cr3t") for _ in range(2))
    assert first != second
    for ciphertext in (first, second):
        assert keys.encryption.decrypt(base64.b64decode(ciphertext, validate=True), padding.PKCS1v15()) == b"s3cr3t"
