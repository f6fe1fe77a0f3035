"""The server's side of the cryptography, with `cryptography` and plain integers.

Written from the protocol description alone, so that it can judge the package's own C core: keys as
they are registered, the server's half of the Diffie-Hellman exchange, the live session token, and
the verification of both kinds of signature.
"""

from __future__ import annotations

import base64
import functools
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MINIMUM_BITS = 2048
"""Smallest RSA modulus and Diffie-Hellman prime that can be registered."""

ExchangeShape = Literal["sign_byte", "short_secret", "odd_secret", "short_response", "odd_response"]
"""Shapes of one exchange that clients get wrong, see `exchange`."""


# --- Keys as they are registered -----------------------------------------------------------------


@dataclass(frozen=True)
class DHGroup:
    """The Diffie-Hellman group of a consumer: prime modulus and generator."""

    prime: int
    generator: int


def read_pem(source: str | bytes | Path) -> bytes:
    """The PEM text given as text, as bytes or by the path of its file."""
    if isinstance(source, Path):
        return source.read_bytes()
    return source.encode() if isinstance(source, str) else source


def load_rsa_public_key(source: str | bytes | Path, role: str) -> RSAPublicKey:
    """Load an RSA public key, SPKI (``PUBLIC KEY``) or PKCS#1 (``RSA PUBLIC KEY``) PEM.

    `role` ("signature key", "encryption key") names the key in the `ValueError` raised when the
    text is something else or the modulus has less than 2048 bits.
    """
    pem = read_pem(source)
    if b"PRIVATE KEY" in pem:
        raise ValueError(f"{role}: this is a private key; register the public half only")
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise ValueError(f"{role}: not a public key in PEM form") from error
    if not isinstance(key, RSAPublicKey):
        raise ValueError(f"{role}: not an RSA key")
    if key.key_size < MINIMUM_BITS:
        raise ValueError(f"{role}: {key.key_size} bits, at least {MINIMUM_BITS} are needed")
    return key


def load_dh_parameters(source: str | bytes | Path) -> DHGroup:
    """Load PKCS#3 ``DH PARAMETERS``: SEQUENCE { INTEGER p, INTEGER g, INTEGER length OPTIONAL }.

    Read by hand: `cryptography` refuses some of the files that IBKR takes. Raises `ValueError` for
    anything else, also for a negative prime. (IBKR's portal accepts a negative one, and its server
    then answers 401 for ever; to say so at once is more useful.)
    """
    pem = read_pem(source).decode("ascii", "replace")
    found = re.search(r"-----BEGIN DH PARAMETERS-----(.+?)-----END DH PARAMETERS-----", pem, re.DOTALL)
    if found is None:
        raise ValueError("DH parameters: no PEM block 'DH PARAMETERS' (PKCS#3)")
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True)
    except ValueError as error:  # binascii.Error is one, and other letters than ASCII's are another
        raise ValueError("DH parameters: the PEM block is not base64") from error
    sequence, rest = _der_element(der, tag=0x30)
    if rest:
        raise ValueError("DH parameters: bytes after the DER sequence")
    prime, rest = _der_integer(sequence)
    generator, rest = _der_integer(rest)
    if rest:
        _length, rest = _der_integer(rest)
    if rest:
        raise ValueError("DH parameters: more than three integers")
    if prime < 0:
        raise ValueError("DH parameters: the prime is negative; its leading zero byte is missing")
    if prime.bit_length() < MINIMUM_BITS:
        raise ValueError(f"DH parameters: {prime.bit_length()} bits, at least {MINIMUM_BITS} are needed")
    if not _is_probably_prime(prime):
        raise ValueError("DH parameters: the modulus is not prime")
    if generator != 2:
        raise ValueError(f"DH parameters: generator {generator}; IBKR works with 2 only")
    return DHGroup(prime, generator)


@functools.lru_cache(maxsize=64)  # takes 20 ms, and tests register the same group again and again
def _is_probably_prime(number: int) -> bool:
    """Fermat's test: enough to tell a prime from a damaged one or from an RSA modulus."""
    return pow(3, number - 1, number) == 1


def _der_element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Split the first DER element off `data`: its content, and what follows it."""
    if len(data) < 3 or data[0] != tag:
        raise ValueError("DH parameters: not the DER structure of PKCS#3")
    length, start = data[1], 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[2:start], "big")
    if length == 0:  # BER's "until the end" is no DER
        raise ValueError("DH parameters: not the DER structure of PKCS#3")
    if len(data) < start + length:
        raise ValueError("DH parameters: the DER structure is truncated")
    return data[start : start + length], data[start + length :]


def _der_integer(data: bytes) -> tuple[int, bytes]:
    content, rest = _der_element(data, tag=0x02)
    return int.from_bytes(content, "big", signed=True), rest


# --- Diffie-Hellman and the live session token ---------------------------------------------------


@dataclass(frozen=True)
class Exchange:
    """The server's half of one exchange: its secret b, B = g^b mod p, and K = A^b mod p."""

    secret: int
    response: int
    shared_secret: int


def exchange(
    group: DHGroup,
    challenge: int,
    *,
    secret: int | None = None,
    shape: ExchangeShape | None = None,
) -> Exchange:
    """Answer the client's `challenge` A with B and the shared secret K.

    `secret` fixes b, for known answers; otherwise it has 256 random bits. `shape` asks for a b
    whose exchange has a property that clients get wrong:

    - ``"sign_byte"``: the bit length of K is a multiple of 8, so Java puts a zero byte before it;
    - ``"short_secret"``: K has at least one byte less than the prime;
    - ``"odd_secret"``: K has an odd number of hex digits;
    - ``"short_response"``: B has at least one byte less than the prime;
    - ``"odd_response"``: B has an odd number of hex digits.
    """
    prime = group.prime
    b = secrets.randbits(256) | 1 << 255 if secret is None else secret
    response, shared = pow(group.generator, b, prime), pow(challenge, b, prime)
    has_shape = _SHAPES[shape] if shape else _any_shape
    while not has_shape(shared, response, prime):
        # From b to b + 1 is one multiplication, so even a 1 in 256 property is found at once.
        b += 1
        response, shared = response * group.generator % prime, shared * challenge % prime
    return Exchange(b, response, shared)


def _any_shape(_shared: int, _response: int, _prime: int) -> bool:
    return True


def _byte_length(number: int) -> int:
    return (number.bit_length() + 7) // 8


def _has_odd_hex(number: int) -> bool:
    return len(f"{number:x}") % 2 == 1


_SHAPES: dict[ExchangeShape, Callable[[int, int, int], bool]] = {
    "sign_byte": lambda shared, _response, _prime: shared.bit_length() % 8 == 0,
    "short_secret": lambda shared, _response, prime: _byte_length(shared) < _byte_length(prime),
    "odd_secret": lambda shared, _response, _prime: _has_odd_hex(shared),
    "short_response": lambda _shared, response, prime: _byte_length(response) < _byte_length(prime),
    "odd_response": lambda _shared, response, _prime: _has_odd_hex(response),
}


def to_byte_array(number: int) -> bytes:
    """What Java's ``BigInteger.toByteArray()`` gives for a number that is not negative.

    The shortest big-endian form with room for a sign bit: one zero byte leads if, and only if, the
    bit length is a multiple of 8.
    """
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def live_session_token(shared_secret: int, access_token_secret: bytes) -> bytes:
    """The 20 bytes of the live session token: HMAC-SHA1 over the secret, keyed with K."""
    return hmac_sha1(to_byte_array(shared_secret), access_token_secret)


def live_session_token_signature(token: bytes, consumer_key: str) -> str:
    """What proves to the client that both sides hold the same token: 40 lower-case hex digits."""
    return hmac_sha1(token, consumer_key.encode()).hex()


def hmac_sha1(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA1, as the live session token uses it."""
    return hmac.digest(key, message, "sha1")


def encrypt_access_token_secret(key: RSAPublicKey, secret: bytes) -> str:
    """The access token secret as the consumer gets it: base64 of RSAES-PKCS1-v1_5."""
    return base64.b64encode(key.encrypt(secret, padding.PKCS1v15())).decode()


# --- Signatures ----------------------------------------------------------------------------------


def decode_signature(text: str) -> bytes | None:
    """The bytes of a base64 signature; None unless `text` is their one canonical spelling.

    A second spelling of the same bytes (other padding bits) would pass as an unbroken signature.
    """
    try:
        signature = base64.b64decode(text)
    except ValueError:
        return None
    return signature if base64.b64encode(signature).decode() == text else None


def verify_rsa(
    key: RSAPublicKey,
    signature: bytes,
    base_string: str,
    algorithm: type[hashes.HashAlgorithm] = hashes.SHA256,
) -> bool:
    """Whether `signature` is RSASSA-PKCS1-v1_5 over the UTF-8 bytes of `base_string`."""
    try:
        key.verify(signature, _utf8(base_string), padding.PKCS1v15(), algorithm())
    except InvalidSignature:
        return False
    return True


def verify_hmac(key: bytes, signature: bytes, base_string: str, algorithm: str = "sha256") -> bool:
    """Whether `signature` is the HMAC over the UTF-8 bytes of `base_string`, in constant time."""
    return hmac.compare_digest(hmac.digest(key, _utf8(base_string), algorithm), signature)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
