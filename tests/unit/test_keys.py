"""Key files: tolerant of form, strict of substance, and silent about what they hold."""

import base64
import hashlib
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ibkr_oauth import (
    AccessToken,
    ConfigurationError,
    Consumer,
    DHParameters,
    DHParametersError,
    InvalidValue,
    KeyFormatError,
    KeyMismatchError,
    MissingSetting,
    PrivateKey,
    Secret,
)


def spellings(text: str) -> dict[str, str | bytes]:
    """The ways in which one key file reaches a program."""
    return {
        "crlf": text.replace("\n", "\r\n"),
        "byte order mark": text.encode("utf-8-sig"),
        "utf-16 little": text.encode("utf-16"),
        "utf-16 big": b"\xfe\xff" + text.encode("utf-16-be"),
        "utf-16 without mark": text.encode("utf-16-le"),
        "literal line ends": text.replace("\n", "\\n"),
        "literal windows line ends": text.replace("\n", "\\r\\n"),
        "one line": text.replace("\n", " "),
        "no line ends at all": text.replace("\n", ""),
        "base64 of the file": base64.b64encode(text.encode()).decode(),
        "base64 of a UTF-16 file": base64.b64encode(text.encode("utf-16")).decode(),
        "base64 in lines": base64.encodebytes(text.encode()).decode(),
        "text around": f"Key of 2026\n\n{text}\nend of mail",
        "indented": "\n".join(f"    {line}" for line in text.splitlines()),
        "bytes": text.encode(),
    }


@pytest.mark.parametrize("spelling", spellings("x"))
def test_spellings_of_private_keys(vectors: dict[str, Any], spelling: str) -> None:
    keys = vectors["keys"]["signature"]
    expected = PrivateKey.load(keys["private_pkcs8_pem"])
    passphrase = vectors["keys"]["encrypted_pem_passphrase"]
    for form in (
        "private_pkcs1_pem",
        "private_pkcs8_pem",
        "private_pkcs8_encrypted_pem",
        "private_pkcs1_legacy_encrypted_pem",
    ):
        if "legacy" in form and spelling == "no line ends at all":
            continue  # where its header lines end is lost then
        assert PrivateKey.load(spellings(keys[form])[spelling], passphrase) == expected, form


@pytest.mark.parametrize("spelling", spellings("x"))
def test_spellings_of_groups(pem: dict[str, str], spelling: str) -> None:
    assert DHParameters.load(spellings(pem["dh_params"])[spelling]) == DHParameters.load(pem["dh_params"])


def test_paths(tmp_path: Path, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private_signature.pem"
    path.write_text(pem["signing"])
    expected = PrivateKey.load(pem["signing"])
    assert PrivateKey.load(path) == PrivateKey.load(str(path)) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert PrivateKey.load("~/private_signature.pem") == expected


def test_der(pem: dict[str, str]) -> None:
    der = serialization.load_pem_private_key(pem["signing"].encode(), None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    assert PrivateKey.load(der) == PrivateKey.load(pem["signing"])


def _private_pem(key: Any) -> str:
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded.decode()


@pytest.fixture(scope="module")
def wrong_keys(vectors: dict[str, Any], pem: dict[str, str]) -> dict[str, str | bytes]:
    ec_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, ec_key.public_key(), 7, start, start + timedelta(days=1))
        .sign(ec_key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    openssh = ec_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    old = ec_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return {
        "public key": pem["signing_public"],
        "public key ": vectors["keys"]["signature"]["public_pkcs1_pem"],
        "certificate": certificate,
        "EC key": _private_pem(ec_key),
        "EC key ": old,
        "OpenSSH": openssh,
        "1024 bits": _private_pem(rsa.generate_private_key(65537, 1024)),
        "Diffie-Hellman parameter file": pem["dh_params"],
        "pass phrase": vectors["keys"]["signature"]["private_pkcs8_encrypted_pem"],
        "cut off": pem["signing"][:900],
        "changed while copying": pem["signing"].replace("MII", "MIX", 1),
        "not base64": pem["signing"].replace("MII", "M!I", 1),
        "could not be read": "no-such-file.pem",
        "empty": b"",
        "no '-----BEGIN": b"\x00\x01\x02" * 100,
    }


NAMED = [
    "public key",
    "public key ",
    "certificate",
    "EC key",
    "EC key ",
    "OpenSSH",
    "1024 bits",
    "Diffie-Hellman parameter file",
    "pass phrase",
    "cut off",
    "changed while copying",
    "not base64",
    "could not be read",
    "empty",
    "no '-----BEGIN",
]


@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_private_rsa_key_is_named(wrong_keys: dict[str, str | bytes], name: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        PrivateKey.load(wrong_keys[name], what="signing key")
    assert name.strip() in caught.value.message
    assert "signing key" in caught.value.message
    assert caught.value.advice


def test_a_wrong_pass_phrase_is_named(vectors: dict[str, Any]) -> None:
    for form in ("private_pkcs8_encrypted_pem", "private_pkcs1_legacy_encrypted_pem"):
        with pytest.raises(KeyFormatError, match="pass phrase does not open"):
            PrivateKey.load(vectors["keys"]["signature"][form], "wrong")


def test_a_piece_of_a_key_given_as_a_path_is_not_repeated(pem: dict[str, str]) -> None:
    piece = pem["signing"].splitlines()[3] + pem["signing"].splitlines()[4]
    with pytest.raises(KeyFormatError) as caught:
        PrivateKey.load(piece)
    assert piece[:20] not in str(caught.value)


def der_integer(value: bytes) -> bytes:
    return b"\x02\x82" + len(value).to_bytes(2, "big") + value


def pkcs3(prime: bytes, generator: bytes = b"\x02\x01\x02", more: bytes = b"") -> bytes:
    inner = der_integer(prime) + generator + more
    return b"\x30\x82" + len(inner).to_bytes(2, "big") + inner


def test_groups_that_cannot_work_are_named(vectors: dict[str, Any], pem: dict[str, str]) -> None:
    prime = bytes.fromhex(vectors["dh_groups"]["ffdhe2048"]["prime_hex"])
    wrong: dict[str, str | bytes] = {
        "negative": pkcs3(prime),
        "even": pkcs3(b"\0" + prime[:-1] + b"\xfe"),
        "1024 bits": pkcs3(b"\0" + prime[:127] + b"\xff"),
        "generator is 3": pkcs3(b"\0" + prime, b"\x02\x01\x03"),
        "X9.42": vectors["dh_other_formats"]["x942_pem_not_used_by_ibkr"],
        "two integers": pkcs3(b"\0" + prime)[:-3],
        "BEGIN PRIVATE KEY": pem["signing"],
        "character 512 of 512 is no hex digit": prime.hex()[:-1] + "x",
        "character 2 of 514 is no hex digit": "0x" + prime.hex(),
        "no '-----BEGIN": "the prime of our consumer\n",
        "could not be read": "nowhere/dhparam.pem",
    }
    for name, source in wrong.items():
        with pytest.raises(DHParametersError) as caught:
            DHParameters.load(source)
        assert name in caught.value.message
    assert DHParameters.load(pkcs3(b"\0" + prime, more=b"\x02\x02\x00\xff")).prime == int.from_bytes(prime)
    for number in (0, -5, 7, 2**2047):
        with pytest.raises(DHParametersError):
            DHParameters(number)


def test_a_prime_that_is_none_is_found_by_the_thorough_check(vectors: dict[str, Any]) -> None:
    group = DHParameters.load(vectors["dh_groups"]["openssl2048"]["pem"])
    group.check()
    with pytest.raises(DHParametersError, match="not prime"):
        DHParameters(group.prime + 2).check()


def test_a_truncated_secret_says_both_lengths(pem: dict[str, str], vectors: dict[str, Any]) -> None:
    key = PrivateKey.load(pem["encryption"])
    secret = vectors["access_token_secrets"]["typical_32"]["encrypted_base64"]
    with pytest.raises(KeyMismatchError, match=r"340 characters, expected 344 for this 2048-bit key"):
        key.decrypt(secret[:340])
    with pytest.raises(KeyMismatchError, match=r"129 characters, expected 344"):
        AccessToken("a1b2c3d4e5f60718293a", secret[:129])
    with pytest.raises(KeyMismatchError, match="not base64: character 5"):
        key.decrypt(secret[:4] + "*" + secret[5:])


def test_swapped_and_foreign_keys_are_told_apart(pem: dict[str, str], vectors: dict[str, Any]) -> None:
    token = AccessToken("a1b2c3d4e5f60718293a", vectors["access_token_secrets"]["typical_32"]["encrypted_base64"])
    dh_params = pem["dh_params"]
    good = Consumer("VECTORKEY", pem["signing"], pem["encryption"], dh_params)
    plaintext = vectors["access_token_secrets"]["typical_32"]["plaintext_hex"]
    assert good.decrypt_secret(token).reveal().hex() == plaintext
    other = PrivateKey.generate()
    for signing_key, encryption_key, expected in (
        (pem["encryption"], pem["signing"], "swapped"),
        (pem["signing"], other, "does not decrypt with this key"),
        (pem["signing"], pem["signing"], "one key was given both as signing and as encryption key"),
    ):
        consumer = Consumer("VECTORKEY", signing_key, encryption_key, dh_params)
        with pytest.raises(KeyMismatchError, match=expected):
            consumer.decrypt_secret(token)


@pytest.mark.parametrize(
    ("key", "kind", "text"),
    [
        ("", MissingSetting, "consumer key is empty"),
        ("ABCDEFGHI\n", ConfigurationError, "character 10 of 10"),
        ("ABC DEFGH", ConfigurationError, "character 4 of 9"),
        ('A"BCDEFGH', ConfigurationError, "character 2"),
    ],
)
def test_consumer_keys(pem: dict[str, str], key: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Consumer(key, pem["signing"], pem["encryption"], pem["dh_params"])


def test_the_consumers_errors_say_which_file(pem: dict[str, str]) -> None:
    with pytest.raises(KeyFormatError, match="encryption key: this is a public key"):
        Consumer("ABCDEFGHI", pem["signing"], pem["encryption_public"], pem["dh_params"])
    with pytest.raises(MissingSetting, match="signing key: missing"):
        Consumer("ABCDEFGHI", None, pem["encryption"], pem["dh_params"])  # type: ignore[arg-type]
    with pytest.raises(MissingSetting, match="Diffie-Hellman parameters: missing"):
        Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], None)  # type: ignore[arg-type]
    with pytest.raises(MissingSetting, match="consumer key: missing"):
        Consumer(None, pem["signing"], pem["encryption"], pem["dh_params"])  # type: ignore[arg-type]


def test_realm_follows_the_consumer_key(pem: dict[str, str]) -> None:
    keys = (pem["signing"], pem["encryption"], pem["dh_params"])
    assert Consumer("TESTCONS", *keys).realm == "test_realm"
    assert Consumer("ABCDEFGHI", *keys).realm == "limited_poa"
    assert Consumer("ABCDEFGHI", *keys, realm="other").realm == "other"


def test_the_groups_fingerprint_is_that_of_its_der(pem: dict[str, str]) -> None:
    der = base64.b64decode("".join(pem["dh_params"].splitlines()[1:-1]))
    assert DHParameters.load(pem["dh_params"]).fingerprint == hashlib.sha256(der).hexdigest()


def test_generated_keys_are_what_cryptography_reads() -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    key = PrivateKey.generate(progress=step)
    assert steps > 0
    loaded = serialization.load_pem_private_key(key.private_pem().reveal(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    assert loaded.key_size == 2048
    public = loaded.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public.decode() == key.public_pem()
    assert b"\r" not in key.private_pem().reveal()


def test_what_progress_raises_ends_the_search() -> None:
    def stop() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        DHParameters.generate(progress=stop)


class ImplicitlyRejecting:
    """A key of an OpenSSL that hides a wrong key behind random bytes, whatever the one here does."""

    rejects_implicitly = True

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.proofs = 0

    def decrypt(self, ciphertext: str) -> Secret:
        return self._handle.decrypt(ciphertext) if self._handle.fits(ciphertext) else Secret(b"random bytes")

    def fits(self, ciphertext: str) -> bool:
        self.proofs += 1
        return bool(self._handle.fits(ciphertext))


def test_a_wrong_key_shows_where_openssl_hides_it(pem: dict[str, str], vectors: dict[str, Any]) -> None:
    secrets = vectors["access_token_secrets"]
    token = AccessToken("a1b2c3d4e5f60718293a", secrets["typical_32"]["encrypted_base64"])

    def hiding(source: str) -> PrivateKey:
        return PrivateKey(ImplicitlyRejecting(PrivateKey.load(source)._handle))  # type: ignore[arg-type]

    swapped = Consumer("VECTORKEY", pem["encryption"], hiding(pem["signing"]), pem["dh_params"])
    with pytest.raises(KeyMismatchError, match="swapped"):
        swapped.decrypt_secret(token)
    good = Consumer("VECTORKEY", pem["signing"], hiding(pem["encryption"]), pem["dh_params"])
    for _ in range(3):
        assert good.decrypt_secret(token).reveal().hex() == secrets["typical_32"]["plaintext_hex"]
    handle: Any = good.encryption_key._handle
    assert handle.proofs == 1


@pytest.mark.parametrize("name", ["key", "pass phrase", "group"])
def test_broken_text_is_not_kept_in_any_error(pem: dict[str, str], name: str) -> None:
    """os.environ and files read with surrogateescape give such text, and Python's own error would hold all of it."""
    secret = f"-----{pem['signing'].splitlines()[5]}\udc80"
    calls: dict[str, Any] = {
        "key": lambda: PrivateKey.load(pem["signing"] + secret),
        "pass phrase": lambda: PrivateKey.load(pem["signing"], secret),
        "group": lambda: DHParameters.load(secret),
    }
    with pytest.raises((KeyFormatError, DHParametersError), match="character 70") as caught:
        calls[name]() if name != "key" else PrivateKey.load(secret)
    error: BaseException | None = caught.value
    while error is not None:
        assert secret[5:20] not in f"{error!r} {error} {vars(error)} {error.args}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("prime", [1.5, "x", None])
def test_numbers_of_another_type(prime: Any) -> None:
    with pytest.raises(TypeError, match="prime must be an int"):
        DHParameters(prime)
    with pytest.raises(TypeError, match="secret must be an int"):
        DHParameters.rfc7919().exchange(1.5)  # type: ignore[arg-type]


def test_keys_and_groups_cannot_be_changed(pem: dict[str, str]) -> None:
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    for thing, name in ((consumer, "key"), (consumer.signing_key, "_handle"), (consumer.dh_params, "_handle")):
        before = getattr(thing, name)
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(thing, name, None)
        assert getattr(thing, name) is before


class _Nowhere:
    """A path without a name."""

    def __fspath__(self) -> str:
        return ""


def test_groups_are_values(pem: dict[str, str]) -> None:
    """Public, and so they may be kept and sent: a pickle holds the two numbers."""
    group = DHParameters.load(pem["dh_params"])
    assert pickle.loads(pickle.dumps(group)) == group
    assert hash(PrivateKey.load(pem["signing"])) == hash(PrivateKey.load(pem["signing"]))
    with pytest.raises(InvalidValue, match="between 1 and p - 1"):
        group.exchange(-1)


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (3.5, TypeError, "not float"),
        (Path(), KeyFormatError, "could not be read"),
        (_Nowhere(), MissingSetting, "is empty"),
    ],
)
def test_what_is_no_source_of_a_key(source: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        PrivateKey.load(source)
