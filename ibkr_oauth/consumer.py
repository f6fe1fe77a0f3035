"""The consumer: its key, its two private RSA keys, its Diffie-Hellman group."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TypeAlias

from . import _core
from ._core import DHExchange, Secret
from .errors import (
    ConfigurationError,
    DHParametersError,
    IBKROAuthError,
    InvalidValue,
    KeyFormatError,
    KeyMismatchError,
    MissingSetting,
)
from .tokens import AccessToken, require_text

#: A path, the text or bytes of a PEM file in any spelling, or DER.
KeySource: TypeAlias = str | bytes | bytearray | os.PathLike[str]

#: Called now and then during a search that takes long.
Progress: TypeAlias = Callable[[], object]

#: Largest file that is read as a key, in bytes.
_MAX_FILE = 65_536

#: Advice where a text should have been a key or the path of one, and is neither.
NO_FILE = "Give the path of an existing file, or the text of the key with its BEGIN line."

# Names may hold nearly everything. Without "=" they are no token, without quotes and brackets no piece of a file.
_NAMES_A_FILE = re.compile(r"[^\n=\"'<>{}\[\]|*?;,]{0,4090}\.\w{1,12}")

# RFC 7919, appendix A.1. Public, well examined, and found without a search; a consumer of one's own should have its own
# prime.
_FFDHE2048 = """
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


class PrivateKey:
    """A private RSA key of 2048 bits or more. Immutable; threads may share one. `repr` shows its fingerprint only."""

    __slots__ = ("_handle",)
    _handle: _core.RSAKey

    def __init__(self, handle: _core.RSAKey) -> None:
        """Use `load` or `generate`."""
        object.__setattr__(self, "_handle", handle)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a PrivateKey cannot be changed")

    @classmethod
    def load(
        cls,
        source: KeySource | PrivateKey,
        passphrase: str | bytes | bytearray | None = None,
        *,
        what: str = "private key",
    ) -> PrivateKey:
        """From a path, PEM text or bytes.

        Takes PKCS#1, PKCS#8 and encrypted keys, with CRLF, byte order mark, UTF-16, literal `\\n`, on one line, or
        base64 of the whole file. Raises KeyFormatError, which names what was given instead (a public key, a
        certificate, an EC key, a short key) and, for an encrypted key, says that the pass phrase is missing or wrong.
        Never asks at the terminal.
        `what` names the key in the message.
        """
        if isinstance(source, PrivateKey):
            return source
        if isinstance(passphrase, str):
            passphrase = _encode(passphrase, f"{what}: pass phrase", KeyFormatError)
        data = _read(source, what, KeyFormatError)
        try:
            return cls(_core.RSAKey.load(data, passphrase, what))
        finally:
            _wipe(data)

    @classmethod
    def generate(cls, bits: int = 2048, progress: Progress | None = None) -> PrivateKey:
        """A new key. `progress` is called many times; an exception that it raises ends the search."""
        return cls(_core.RSAKey.generate(bits, progress))

    @property
    def bits(self) -> int:
        return self._handle.bits

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public half (DER of SubjectPublicKeyInfo) in hex, as `openssl pkey -pubout -outform DER |
        sha256sum`.
        """
        return self._handle.fingerprint

    def decrypt(self, ciphertext: str) -> Secret:
        """The plaintext of base64 text (RSAES-PKCS1-v1_5, RFC 8017 section 7.2).

        Raises KeyMismatchError where the text has another length than this key's ciphertexts, is not base64, or does
        not decrypt. OpenSSL 3.2 and newer decrypt a foreign ciphertext to random bytes, so success alone does not prove
        the key.
        """
        return self._handle.decrypt(ciphertext)

    def public_pem(self) -> str:
        """The half to upload: SubjectPublicKeyInfo PEM with LF line ends."""
        return self._handle.public_pem()

    def private_pem(self) -> Secret:
        """PKCS#8 PEM without encryption, for writing to a file."""
        return self._handle.private_pem()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"<PrivateKey {self.bits} bits, fingerprint {self.fingerprint[:16]}…>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a PrivateKey cannot be pickled; load it again where it is needed")


class DHParameters:
    """A Diffie-Hellman group. Immutable; threads may share one."""

    __slots__ = ("_handle",)
    _handle: _core.DHParameters

    def __init__(self, prime: int, generator: int = 2) -> None:
        """From numbers. Raises DHParametersError unless the prime is odd, positive and of 2048 bits or more."""
        _check_int("prime", prime)
        if prime <= 0:
            raise DHParametersError("Diffie-Hellman prime is not positive")
        self._set(_core.DHParameters.from_numbers(prime.to_bytes((prime.bit_length() + 7) // 8, "big"), generator))

    def _set(self, handle: _core.DHParameters) -> None:
        object.__setattr__(self, "_handle", handle)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("DHParameters cannot be changed")

    @classmethod
    def _wrap(cls, handle: _core.DHParameters) -> DHParameters:
        made = cls.__new__(cls)
        made._set(handle)
        return made

    @classmethod
    def load(cls, source: KeySource | DHParameters) -> DHParameters:
        """From a path, PKCS#3 PEM text or bytes, or the prime in hex (then the generator is 2).

        Raises DHParametersError, which says what is wrong: X9.42, a negative DER integer, even, short, another
        generator. The prime's primality is not tested here, since that takes long: see `check`.
        """
        if isinstance(source, DHParameters):
            return source
        return cls._wrap(_core.DHParameters.load(_read(source, "Diffie-Hellman parameters", DHParametersError)))

    @classmethod
    def generate(cls, bits: int = 2048, progress: Progress | None = None) -> DHParameters:
        """A new safe prime with generator 2: takes seconds to minutes."""
        return cls._wrap(_core.DHParameters.generate(bits, progress))

    @classmethod
    def rfc7919(cls) -> DHParameters:
        """The public group ffdhe2048: for tests and demonstrations, without the search."""
        return cls.load(_FFDHE2048)

    @property
    def prime(self) -> int:
        return self._handle.prime

    @property
    def generator(self) -> int:
        return self._handle.generator

    @property
    def bits(self) -> int:
        return self._handle.bits

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER in hex, as `openssl dhparam -outform DER | sha256sum`."""
        return self._handle.fingerprint

    def check(self) -> None:
        """Tests that the prime is prime and safe (about 0.2 s). Raises DHParametersError if not."""
        self._handle.check()

    def exchange(self, secret: int | None = None) -> DHExchange:
        """Starts an exchange. `secret`: the exponent, for tests; otherwise 256 random bits."""
        if secret is None:
            return self._handle.exchange()
        _check_int("secret", secret)
        if secret < 0:
            raise InvalidValue("Diffie-Hellman secret must lie between 1 and p - 1")
        exponent = bytearray(secret.to_bytes((secret.bit_length() + 7) // 8, "big"))
        try:
            return self._handle.exchange(exponent)
        finally:
            _wipe(exponent)

    def pem(self) -> str:
        """PKCS#3 PEM with LF line ends, as IBKR's portal takes it."""
        return self._handle.pem()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DHParameters) and (self.prime, self.generator) == (
            other.prime,
            other.generator,
        )

    def __hash__(self) -> int:
        return hash((self.prime, self.generator))

    def __repr__(self) -> str:
        return f"<DHParameters {self.bits} bits, generator {self.generator}>"

    def __reduce__(self) -> tuple[object, ...]:
        return DHParameters, (self.prime, self.generator)


class Consumer:
    """Who calls: what is registered with IBKR under one consumer key. Immutable; does no network I/O.

    `key`: nine capital letters from the self-service portal, or `TESTCONS`. `signing_key`, `encryption_key`: see
    PrivateKey.load. `dh_params`: see DHParameters.load. `realm`: `test_realm` for TESTCONS, else `limited_poa`.
    `passphrase`: of both key files, if they are encrypted.
    """

    __slots__ = ("_proven", "dh_params", "encryption_key", "key", "realm", "signing_key")
    key: str
    signing_key: PrivateKey
    encryption_key: PrivateKey
    dh_params: DHParameters
    realm: str
    _proven: set[str]

    def __init__(
        self,
        key: str,
        signing_key: KeySource | PrivateKey,
        encryption_key: KeySource | PrivateKey,
        dh_params: KeySource | DHParameters,
        *,
        realm: str | None = None,
        passphrase: str | bytes | bytearray | None = None,
    ) -> None:
        _check_word("consumer key", key)
        if realm is not None:
            _check_word("realm", realm)
        values: dict[str, object] = {
            "key": key,
            "signing_key": PrivateKey.load(signing_key, passphrase, what="signing key"),
            "encryption_key": PrivateKey.load(encryption_key, passphrase, what="encryption key"),
            "dh_params": DHParameters.load(dh_params),
            "realm": realm or ("test_realm" if key == "TESTCONS" else "limited_poa"),
            "_proven": set(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Consumer cannot be changed")

    def decrypt_secret(self, access_token: AccessToken) -> Secret:
        """The access token's secret, decrypted with the encryption key.

        Raises KeyMismatchError, which says whether the secret was cut, the two keys are swapped, or it belongs to
        another key.
        """
        ciphertext = access_token.secret
        try:
            secret = self.encryption_key.decrypt(ciphertext)
        except KeyMismatchError as error:
            raise self._explain(ciphertext, error) from None
        if self.encryption_key._handle.rejects_implicitly:
            self._prove(ciphertext)
        return secret

    def _prove(self, ciphertext: str) -> None:
        """Tells a person at once that a key is wrong, once for each secret, where OpenSSL's decryption hides it.

        It does so for the sake of services that whoever sends them ciphertexts could use as an oracle. Here the
        ciphertext comes from IBKR and the answer goes to the key's owner.
        """
        digest = _fingerprint(ciphertext)
        if digest in self._proven:
            return
        if not self.encryption_key._handle.fits(ciphertext):
            raise self._explain(ciphertext, KeyMismatchError("access token secret does not decrypt with this key"))
        self._proven.add(digest)

    def _explain(self, ciphertext: str, error: KeyMismatchError) -> KeyMismatchError:
        """A better error where a mistake with the two keys is the cause."""
        try:
            fits_signing_key = self.signing_key._handle.fits(ciphertext)
        except KeyMismatchError:  # a wrong length: `error` says so
            return error
        if fits_signing_key:
            return KeyMismatchError(
                "signing key and encryption key are swapped: the access token secret decrypts with the signing key",
                advice="Exchange the two files.",
            )
        if self.signing_key == self.encryption_key:
            return KeyMismatchError(
                "access token secret does not decrypt: one key was given both as signing and as encryption key"
            )
        return error

    def __repr__(self) -> str:
        return f"<Consumer {self.key}, realm {self.realm}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Consumer cannot be pickled, since it holds private keys; make it again where it is needed")


def _check_int(what: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")


def _check_word(what: str, value: str | None) -> None:
    """Consumer keys and realms are plain words; anything else came along while copying."""
    value = require_text(what, value)
    if not value:
        raise MissingSetting(f"{what} is empty")
    bad = re.search(r"[^A-Za-z0-9._-]", value)
    if bad:
        raise ConfigurationError(
            f"{what}: character {bad.start() + 1} of {len(value)} is none of A-Z a-z 0-9 . _ - (a line end or blank "
            f"from copying?)"
        )


def _fingerprint(text: str) -> str:
    """To recognise a ciphertext without keeping it."""
    return f"{len(text)}:{hash(text)}"


def _encode(text: str, what: str, kind: type[IBKROAuthError]) -> bytearray:
    """UTF-8. Python's own error for a lone surrogate holds the whole text, so it must not be the context of ours."""
    try:
        return bytearray(text.encode())
    except UnicodeEncodeError as error:
        position = error.start + 1
    raise kind(f"{what}: character {position} of {len(text)} is no character (broken encoding)")


def _wipe(data: bytearray) -> None:
    data[:] = bytes(len(data))


def _read(source: KeySource | None, what: str, kind: type[IBKROAuthError]) -> bytearray:
    """The bytes of a key, in memory that can be wiped. Files are read without a buffer in between."""
    if source is None:
        raise MissingSetting(f"{what}: missing")
    if isinstance(source, (bytes, bytearray)):
        return bytearray(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"{what} must be a path, text or bytes, not {type(source).__name__}")
    if isinstance(source, str) and not _is_path(source):
        return _encode(source, what, kind)
    if not os.fspath(source):
        raise MissingSetting(f"{what} is empty")
    return _read_file(os.fspath(source), what, kind)


def _is_path(text: str) -> bool:
    """Key text has a PEM mark, line ends, or is one long run of base64 or hex; everything else names a file."""
    if "-----" in text or "\n" in text or "\0" in text:
        return False
    # Path.exists raises for a text that is too long for a name, with the text in its error; this one does not.
    return len(text) < 250 or os.path.exists(text)  # noqa: PTH110


def _names_a_file(text: str) -> bool:
    """Whether errors may show it: what does not look like a file's name may be a piece of a key."""
    return _NAMES_A_FILE.fullmatch(text) is not None


def _read_file(path: str, what: str, kind: type[IBKROAuthError]) -> bytearray:
    data = bytearray(_MAX_FILE + 1)
    try:
        # Not with pathlib, whose import takes longer than that of the C core.
        with open(os.path.expanduser(path), "rb", buffering=0) as file:  # noqa: PTH111, PTH123
            size = 0
            while size < len(data) and (count := file.readinto(memoryview(data)[size:])):
                size += count
    except (OSError, ValueError, RuntimeError) as error:  # the last: no home folder for "~"
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
    else:
        content = data[:size]
        _wipe(data)
        return content
    # Outside of the handler, so that the system's error, which repeats the path, is not kept as context.
    shown = repr(path) if _names_a_file(path) else f"a text of {len(path)} characters"
    raise kind(f"{what}: {shown} could not be read: {reason}", advice=NO_FILE)
