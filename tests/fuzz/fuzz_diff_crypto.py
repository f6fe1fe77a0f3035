"""The C core's keys and Diffie-Hellman beside the package `cryptography` and Python's own numbers: what is a key, what a
signature, what decrypts, what both sides of an exchange share.

The core takes more spellings of a file and fewer keys. So: a key that `cryptography` takes is taken if it is an RSA key of
2048 to 8192 bits; and one that the core takes is, once written out, the same one to `cryptography`, whose checks it passes.

Input: a byte that chooses, then the file of a key, or of Diffie-Hellman parameters, or a line each for an exponent, a half
and a text.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import warnings

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dh, padding, rsa
from harness import Input, main, watched

with watched("ibkr_oauth.tokens"):
    from ibkr_oauth import _core
    from ibkr_oauth.errors import IBKROAuthError
    from ibkr_oauth.tokens import LiveSessionToken

warnings.simplefilter("ignore")  # cryptography: finite fields are on their way out

MESSAGE = "GET&https%3A%2F%2Fapi.ibkr.com%2Fv1%2Fapi&oauth_nonce%3D1"
_PARAMETERS = dh.DHParameterNumbers(
    int(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f"
        "14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8"
        "a163bf0598da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c3290"
        "5e462e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa051015728e5a8aacaa68"
        "ffffffffffffffff",
        16,
    ),
    2,
)  # RFC 3526 section 3
GROUP = _core.DHParameters.from_numbers(_PARAMETERS.p.to_bytes(256, "big"), 2)


def theirs(data: bytes) -> rsa.RSAPrivateKey | None:
    for load in (serialization.load_pem_private_key, serialization.load_der_private_key):
        try:
            key = load(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return key if isinstance(key, rsa.RSAPrivateKey) else None
    return None


def check_key(data: bytes) -> None:
    their_key = theirs(data)
    try:
        our_key = _core.RSAKey.load(data)
    except IBKROAuthError:
        # cryptography passes over whatever stands before the BEGIN line. For us a file is one thing: UTF-16, or DER, or PEM.
        begins_as_another = b"\0" in data[:2] or (data[:1] == b"\x30" and b"-----BEGIN" in data)
        assert their_key is None or not 2048 <= their_key.key_size <= 8192 or begins_as_another
        return
    written = theirs(our_key.private_pem().reveal())
    assert written is not None
    if their_key is not None:
        assert written.private_numbers() == their_key.private_numbers()
    public = written.public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert our_key.fingerprint == hashlib.sha256(der).hexdigest()
    proof = written.sign(MESSAGE.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert our_key.sign(MESSAGE) == base64.b64encode(proof).decode()
    secret = data[:200] or b"x"
    ciphertext = base64.b64encode(public.encrypt(secret, padding.PKCS1v15())).decode()
    assert our_key.decrypt(ciphertext).reveal() == secret
    assert our_key.fits(ciphertext)


def their_group(data: bytes) -> dh.DHParameterNumbers | None:
    for load in (serialization.load_pem_parameters, serialization.load_der_parameters):
        try:
            return load(data).parameter_numbers()
        except (ValueError, UnsupportedAlgorithm):
            continue
    return None


def check_composite(group: _core.DHParameters) -> None:
    """Theirs looks for primes at once, ours when it is asked to."""
    try:
        group.check()
    except IBKROAuthError:
        return
    raise AssertionError("a group that cryptography refuses")


def check_group(data: bytes) -> None:
    numbers = their_group(data)
    try:
        ours = _core.DHParameters.load(data)
    except IBKROAuthError:
        good = numbers is not None and numbers.q is None and numbers.g in (2, 5) and numbers.p % 2
        assert not good or not 2048 <= numbers.p.bit_length() <= 8192  # type: ignore[union-attr]
        return
    if numbers is not None:
        assert (ours.prime, ours.generator) == (numbers.p, numbers.g)
    again = their_group(ours.pem().encode())
    if again is not None:
        assert (again.p, again.g) == (ours.prime, ours.generator)
    else:
        check_composite(ours)


def java_bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def check_exchange(given: Input) -> None:
    exponent = int.from_bytes(given.line()[:32], "big")
    half, text = given.text(), given.text() or "x"
    prime = _PARAMETERS.p
    try:
        exchange = GROUP.exchange(exponent.to_bytes(32, "big"))
    except IBKROAuthError:
        assert exponent < 2
        return
    assert exchange.challenge == f"{pow(2, exponent, prime):x}"
    number = int(half, 16) if re.fullmatch(r"[0-9a-fA-F]+", half) else 0
    try:
        shared = exchange.finish(half)
    except IBKROAuthError:
        assert not 2 <= number <= prime - 2
        return
    assert 2 <= number <= prime - 2
    expected = java_bytes(pow(number, exponent, prime))
    assert shared.reveal() == expected
    assert _core.java_bytes(half) == java_bytes(number)
    secret = text.encode()
    token = LiveSessionToken.derive(shared, secret, consumer_key="ABCDEFGHI")
    value = hmac.digest(expected, secret, hashlib.sha1)
    assert token.reveal() == base64.b64encode(value).decode()
    token.verify(hmac.digest(value, b"ABCDEFGHI", hashlib.sha1).hex())
    assert (
        _core.hmac_sha256(text, _core.Secret(value))
        == base64.b64encode(hmac.digest(value, secret, hashlib.sha256)).decode()
    )


def target(data: bytes) -> None:
    given = Input(data)
    kind = given.choice(3)
    if kind == 0:
        check_key(given.rest)
    elif kind == 1:
        check_group(given.rest)
    else:
        check_exchange(given)


if __name__ == "__main__":
    main(target)
