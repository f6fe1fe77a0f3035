"""What goes wrong, each made for real: the one table behind the tests of `doctor` and the page docs/mistakes.md."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import NameOID
from support.rogue import Deed, Peer, Rogue

from ibkr_oauth import DHParameters
from ibkr_oauth.sandbox import Sandbox

PASSWORD = "correct-horse-battery"

Used = TypeVar("Used")


@dataclass
class Case:
    """A set-up that works, to be spoilt. Afterwards it is registered as `portal` says, unless that is empty."""

    sandbox: Sandbox
    folder: Path
    pem: dict[str, str]
    consumer_key: str
    environment: dict[str, str]
    #: As uploaded: signing key, encryption key, Diffie-Hellman parameters.
    portal: list[str]
    realm: str | None = None
    active: bool = True
    #: Seconds that doctor waits for each answer.
    timeout: float = 15.0
    #: Of the portal's page; None: asked of the sandbox.
    token: tuple[str, str] | None = None
    #: Runs after the registration.
    later: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])
    undo: list[Callable[[], object]] = field(default_factory=list[Callable[[], object]])

    def use(self, what: contextlib.AbstractContextManager[Used]) -> Used:
        """Until the case is over."""
        stack = contextlib.ExitStack()
        self.undo.append(stack.close)
        return stack.enter_context(what)

    @property
    def username(self) -> str:
        return self.consumer_key

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the key folder, its owner's only."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o600)

    def set(self, name: str, value: str) -> None:
        self.environment[f"IBKR_OAUTH_{name}"] = value

    def change(self, name: str, change: Callable[[str], str]) -> None:
        """A value that is there only once the portal has given it."""
        self.later.append(lambda: self.set(name, change(self.environment[f"IBKR_OAUTH_{name}"])))

    def fail(
        self, status: int, path: str | None, *, times: int = 1, body: str | None = None, html: bool = False
    ) -> None:
        self.later.append(lambda: self.sandbox.fail_next(status, times, body, "text/html" if html else None, path=path))


class Mistake(NamedTuple):
    """`did`: what was done, or happened. `says`: what IBKR says to it, None where it is never asked.

    `cause`, `verdict` and `step`: doctor's stable word, and parts of its verdict and its next step.
    """

    did: str
    says: str | None
    cause: str
    verdict: str
    step: str
    spoil: Callable[[Case], object]
    offline: bool = False


# --- Material -------------------------------------------------------------------------------------


def _private(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, password: str = "") -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


@cache
def other_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)  # short ones are part of the matter


def _public(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _load(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@cache
def _certificate_request() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(other_key(), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def _certificate(case: Case) -> str:
    assert case.sandbox.ca_file is not None
    return case.sandbox.ca_file.read_text()


def _openssh(case: Case) -> str:
    key = _load(case.pem["signing"])
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _prime(case: Case) -> int:
    return DHParameters.load(case.pem["dh_params"]).prime


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes([tag]) + length + content


def _integer(value: int, *, signed: bool = True) -> bytes:
    size = value.bit_length() // 8 + 1 if signed else (value.bit_length() + 7) // 8
    return _der(2, value.to_bytes(size, "big"))


def _dh_pem(*integers: bytes, label: str = "DH PARAMETERS") -> str:
    body = base64.encodebytes(_der(0x30, b"".join(integers))).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n"


@cache
def _plain_prime() -> int:
    """A prime that is not safe, nearly surely."""
    made = subprocess.run(["openssl", "prime", "-generate", "-bits", "2048"], check=True, capture_output=True)
    return int(made.stdout)


def _group(prime: int, generator: int = 2) -> str:
    return _dh_pem(_integer(prime), _integer(generator))


_SHORT_PRIME = int(  # RFC 2409, the group of 1024 bits
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)


# --- Ways to spoil it -----------------------------------------------------------------------------

_SIGNING, _ENCRYPTION, _DH = "private_signature.pem", "private_encryption.pem", "dhparam.pem"


def _swap_files(case: Case) -> None:
    case.write(_SIGNING, case.pem["encryption"])
    case.write(_ENCRYPTION, case.pem["signing"])


def _swap_token_and_secret(case: Case) -> None:
    def swap() -> None:
        one, other = "IBKR_OAUTH_ACCESS_TOKEN", "IBKR_OAUTH_ACCESS_TOKEN_SECRET"
        values = case.environment
        values[one], values[other] = values[other], values[one]

    case.later.append(swap)


def _testcons(case: Case) -> None:
    case.later.append(lambda: case.set("CONSUMER_KEY", "TESTCONS"))


def _unset(case: Case, *names: str) -> None:
    case.later.extend(lambda name=name: case.environment.pop(f"IBKR_OAUTH_{name}", None) for name in names)


def _config(case: Case, text: str) -> None:
    path = case.folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    case.set("CONFIG", str(path))


def _own_token(case: Case) -> str:
    return case.environment["IBKR_OAUTH_ACCESS_TOKEN"]


def _foreign_token(case: Case) -> None:
    other = f"{case.consumer_key[:-1]}Z"
    case.sandbox.register(other, case.pem["signing_public"], case.pem["encryption_public"], case.pem["dh_params"])
    case.token = case.sandbox.grant(other, case.username)


def _skew(case: Case) -> None:
    case.later.append(lambda: case.sandbox.skew(-3600))
    case.undo.append(lambda: case.sandbox.skew(0))


def _maintenance(case: Case) -> None:
    case.later.append(case.sandbox.maintenance)
    case.undo.append(lambda: case.sandbox.maintenance(False))


def _strict(case: Case) -> None:
    """The service takes one rule only."""
    state = case.sandbox._state
    settings = state.settings
    import dataclasses

    state.settings = dataclasses.replace(settings, query_rules=("merge",))
    case.undo.append(lambda: setattr(state, "settings", settings))


def _compete(case: Case) -> None:
    case.later.append(lambda: case.sandbox.compete_from("TWS", case.username))


def _revoke(case: Case) -> None:
    case.later.append(lambda: case.sandbox._state.access_tokens.pop(_own_token(case)))


# --- Servers and proxies that are none of IBKR's ----------------------------------------------------

_DAY = timedelta(days=1)
_NOW = datetime.now(UTC)
#: Seconds that doctor waits for those that keep silent.
_SHORT = 1.0


@cache
def _authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name)


def _tls(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def _issue(*hosts: str, since: timedelta = -_DAY, until: timedelta = _DAY) -> ssl.SSLContext:
    """Of an authority that the case trusts, see `_stand_in`."""
    return _tls(_authority("Trusted").issue_cert(*hosts, not_before=_NOW + since, not_after=_NOW + until))


def _foreign() -> ssl.SSLContext:
    """As a company's proxy makes one for every host."""
    return _tls(_authority("Contoso").issue_cert("127.0.0.1"))


def _stand_in(case: Case, context: ssl.SSLContext | None = None) -> Rogue:
    """In the place of IBKR; the certificates of `_issue` are trusted."""
    rogue = case.use(Rogue(context or _issue("127.0.0.1")))
    case.set("BASE_URL", rogue.base_url)
    case.write("ca.pem", _authority("Trusted").cert_pem.bytes())
    case.set("CA_FILE", str(case.folder / "ca.pem"))
    return rogue


def _self_signed(case: Case) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, _NOW - _DAY, _NOW + _DAY)
    content = _private(key).encode() + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    case.write("server.pem", content)
    context = _tls()
    context.load_cert_chain(case.folder / "server.pem")
    return context


@contextlib.contextmanager
def _full_queue() -> Iterator[int]:
    """A port that drops who asks for a connection, as a firewall does: its queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def _unanswered(case: Case) -> None:
    case.set("BASE_URL", f"https://127.0.0.1:{case.use(_full_queue())}/v1/api")
    case.timeout = _SHORT


def _silent_handshake(case: Case) -> None:
    _stand_in(case).greeting(Peer.stall)
    case.timeout = _SHORT


def _slow_answer(case: Case, deed: Deed) -> None:
    _stand_in(case).answering(deed)
    case.timeout = _SHORT


def _trickle(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n").drip(b" ")


def _silent(case: Case, path: str) -> None:
    case.later.append(lambda: case.sandbox.delay(2 * _SHORT, 1, path=path))
    case.timeout = _SHORT


def _proxy(case: Case, deed: Deed) -> None:
    """A proxy that does this to whoever asks for a tunnel."""
    rogue = case.use(Rogue())
    rogue.answering(deed)
    case.set("PROXY", f"http://127.0.0.1:{rogue.port}")


def _intercept(peer: Peer) -> None:
    """Opens the tunnel, and sits at its other end itself."""
    peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n").wrap(_foreign())


def _port(case: Case) -> str:
    return str(case.sandbox.port)


_PAGE = "<html><head><title>Access Denied</title></head><body><h1>Access Denied</h1></body></html>"
_INVALID = "401 id: 39687, error: invalid consumer"

MISTAKES: tuple[Mistake, ...] = (
    # Key files
    Mistake(
        "gave the public half as signing key",
        None,
        "public-instead-of-private",
        (
            "The signing key cannot be used: this is a public key (BEGIN PUBLIC KEY), expected a "
            "private RSA key (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        (
            "Give the private half that was made with it, private_signature.pem or "
            "private_encryption.pem; the public one is for IBKR's portal only."
        ),
        lambda c: c.write(_SIGNING, c.pem["signing_public"]),
        True,
    ),
    Mistake(
        "gave the public half as encryption key",
        None,
        "public-instead-of-private",
        (
            "The encryption key cannot be used: this is a public key (BEGIN PUBLIC KEY), expected a "
            "private RSA key (IBKR_OAUTH_KEYS_DIR: …/keys/private_encryption.pem)."
        ),
        (
            "Give the private half that was made with it, private_signature.pem or "
            "private_encryption.pem; the public one is for IBKR's portal only."
        ),
        lambda c: c.write(_ENCRYPTION, c.pem["encryption_public"]),
        True,
    ),
    Mistake(
        "gave a certificate as signing key",
        None,
        "certificate-instead-of-key",
        (
            "The signing key cannot be used: this is a certificate (BEGIN CERTIFICATE), expected a "
            "private RSA key (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Give the private RSA key; certificates play no part in this.",
        lambda c: c.write(_SIGNING, _certificate(c)),
        True,
    ),
    Mistake(
        "gave a certificate request as signing key",
        None,
        "certificate-instead-of-key",
        (
            "The signing key cannot be used: this is a certificate request (BEGIN CERTIFICATE "
            "REQUEST), expected a private RSA key (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Give the private RSA key that it was made with; requests play no part in this.",
        lambda c: c.write(_SIGNING, _certificate_request()),
        True,
    ),
    Mistake(
        "made an EC key",
        None,
        "ec-key",
        (
            "The signing key cannot be used: this is an EC key, expected a private RSA key "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        ("IBKR takes RSA keys only: make new ones with `ibkr-oauth keygen` and upload their public halves."),
        lambda c: c.write(_SIGNING, _private(ec.generate_private_key(ec.SECP256R1()))),
        True,
    ),
    Mistake(
        "made a DSA key",
        None,
        "dsa-key",
        (
            "The signing key cannot be used: this is a DSA key, expected a private RSA key "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        ("IBKR takes RSA keys only: make new ones with `ibkr-oauth keygen` and upload their public halves."),
        lambda c: c.write(_SIGNING, _private(dsa.generate_private_key(1024))),
        True,
    ),
    Mistake(
        "gave a key of ssh-keygen",
        None,
        "openssh-key",
        (
            "The signing key cannot be used: this is a key in OpenSSH's own format (BEGIN OPENSSH "
            "PRIVATE KEY), expected a private RSA key (IBKR_OAUTH_KEYS_DIR: "
            "…/keys/private_signature.pem)."
        ),
        ("Convert a copy of it: ssh-keygen -p -m PEM -f COPY; or make new keys with `ibkr-oauth keygen`."),
        lambda c: c.write(_SIGNING, _openssh(c)),
        True,
    ),
    Mistake(
        "encrypted the key file and gave no pass phrase",
        None,
        "key-password-missing",
        (
            "The signing key cannot be used: it is encrypted and no pass phrase was given "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Set IBKR_OAUTH_KEY_PASSWORD to the pass phrase of the file.",
        lambda c: c.write(_SIGNING, _private(_load(c.pem["signing"]), PASSWORD)),
        True,
    ),
    Mistake(
        "gave a wrong pass phrase",
        None,
        "key-password-wrong",
        (
            "The signing key cannot be used: it is encrypted and the pass phrase does not open it (or "
            "it was cut off) (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Correct IBKR_OAUTH_KEY_PASSWORD: the pass phrase of both private key files.",
        lambda c: (c.write(_SIGNING, _private(_load(c.pem["signing"]), PASSWORD)), c.set("KEY_PASSWORD", "another")),
        True,
    ),
    Mistake(
        "gave dhparam.pem as signing key",
        None,
        "dh-parameters-instead-of-key",
        (
            "The signing key cannot be used: this is Diffie-Hellman parameters, expected a private RSA "
            "key (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Give a private RSA key here, and this file as dh_params.",
        lambda c: c.write(_SIGNING, c.pem["dh_params"]),
        True,
    ),
    Mistake(
        "gave an empty key file",
        None,
        "empty-file",
        ("The encryption key cannot be used: it is empty (IBKR_OAUTH_KEYS_DIR: …/keys/private_encryption.pem)."),
        "Copy the file again; if the key is lost, make new ones with `ibkr-oauth keygen`.",
        lambda c: c.write(_ENCRYPTION, "\n"),
        True,
    ),
    Mistake(
        "copied half of a key file",
        None,
        "file-cut-off",
        (
            "The signing key cannot be used: a BEGIN line without its END line, or with a damaged label (700 bytes: cut off?) "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        (
            "Copy the file again, whole, from its first line to its last; if it is lost, make new ones "
            "with `ibkr-oauth keygen`."
        ),
        lambda c: c.write(_SIGNING, c.pem["signing"][:700]),
        True,
    ),
    Mistake(
        "lost lines in the middle of a key",
        None,
        "file-cut-off",
        (
            "The signing key cannot be used: 1074 bytes that are no private key (cut off, or changed "
            "while copying?) (IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        (
            "Copy the file again, whole, from its first line to its last; if it is lost, make new ones "
            "with `ibkr-oauth keygen`."
        ),
        lambda c: c.write(
            _SIGNING,
            "".join(c.pem["signing"].splitlines(keepends=True)[:9] + c.pem["signing"].splitlines(keepends=True)[12:]),
        ),
        True,
    ),
    Mistake(
        "made a key of 1024 bits",
        None,
        "key-too-short",
        (
            "The signing key cannot be used: RSA key of 1024 bits, expected 2048 to 8192 "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        "Make keys of 2048 bits with `ibkr-oauth keygen`, and upload their public halves.",
        lambda c: c.write(_SIGNING, _private(other_key(1024))),
        True,
    ),
    Mistake(
        "named a key file that does not exist",
        None,
        "file-missing",
        (
            "The signing key cannot be used: '…/keys/signature.pem' could not be read: No such file or "
            "directory (IBKR_OAUTH_SIGNING_KEY: …/keys/signature.pem)."
        ),
        "Give the path of an existing file, or the text of the key with its BEGIN line.",
        lambda c: c.set("SIGNING_KEY", str(c.folder / "signature.pem")),
        True,
    ),
    Mistake(
        "gave something else as key file",
        None,
        "not-a-key",
        (
            "The signing key cannot be used: no '-----BEGIN ...-----' line in its 10 bytes "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/private_signature.pem)."
        ),
        (
            "Give the private PEM file that `ibkr-oauth keygen` or `openssl genrsa 2048` wrote, not "
            "the public half that was uploaded."
        ),
        lambda c: c.write(_SIGNING, '{"key": 1}'),
        True,
    ),
    Mistake(
        "left the private key readable by others",
        None,
        "insecure-permissions",
        "Signing key: others may read or change …/keys/private_signature.pem (mode 0644).",
        (
            "Make it yours alone: chmod 600 …/keys/private_signature.pem. Where others are meant to "
            "read it, as with secrets of a container, set IBKR_OAUTH_INSECURE_PERMISSIONS=1."
        ),
        lambda c: (c.folder / _SIGNING).chmod(0o644),
        True,
    ),
    # Which key is which
    Mistake(
        "swapped signing key and encryption key",
        None,
        "keys-swapped",
        ("Signing key and encryption key are swapped: the access token secret decrypts with the signing key."),
        (
            "Exchange the two files in the settings. If they are right, their public halves were "
            "exchanged at the upload: then exchange them in the portal."
        ),
        _swap_files,
        True,
    ),
    Mistake(
        "uploaded the two public keys in each other's place",
        "401 error 23804 Error validating signature",
        "keys-swapped",
        ("Signing key and encryption key are swapped: the access token secret decrypts with the signing key."),
        (
            "Exchange the two files in the settings. If they are right, their public halves were "
            "exchanged at the upload: then exchange them in the portal."
        ),
        lambda c: c.portal.__setitem__(slice(2), [c.pem["encryption_public"], c.pem["signing_public"]]),
    ),
    Mistake(
        "gave the signing key twice",
        None,
        "one-key-twice",
        ("One key was given both as signing and as encryption key, and the access token secret belongs to another."),
        "Give private_encryption.pem as encryption key, the one whose public half is in the portal.",
        lambda c: c.write(_ENCRYPTION, c.pem["signing"]),
        True,
    ),
    Mistake(
        "gave the encryption key twice",
        "401 error 23804 Error validating signature",
        "one-key-twice",
        "The encryption key was given as signing key too; IBKR asks for two.",
        "Give private_signature.pem as signing key, the one whose public half is in the portal.",
        lambda c: c.write(_SIGNING, c.pem["encryption"]),
        True,
    ),
    Mistake(
        "made new keys and kept the old access token secret",
        None,
        "secret-of-another-key",
        ("The access token secret was encrypted for another key than this encryption key (fingerprint …)."),
        (
            "Generate the access token again in the portal, after this key's public half was uploaded "
            "there; or give the encryption key that was there when the secret was made."
        ),
        lambda c: c.write(_ENCRYPTION, _private(other_key())),
        True,
    ),
    # Diffie-Hellman parameters
    Mistake(
        "wrote the prime as a negative DER integer",
        "401 error 23804 Error validating signature",
        "dh-negative",
        (
            "Diffie-Hellman parameters: a negative DER integer (its leading zero byte is missing); "
            "IBKR would accept the upload and then answer 401 (IBKR_OAUTH_KEYS_DIR: "
            "…/keys/dhparam.pem)."
        ),
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _dh_pem(_integer(_prime(c), signed=False), _integer(2))),
        True,
    ),
    Mistake(
        "made X9.42 parameters",
        None,
        "dh-x942",
        (
            "Diffie-Hellman parameters: X9.42 or with other extra numbers, expected PKCS#3 with prime "
            "and generator (IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."
        ),
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _dh_pem(_integer(_prime(c)), _integer(2), _integer((_prime(c) - 1) // 2))),
        True,
    ),
    Mistake(
        "gave a number that is not prime",
        None,
        "dh-not-prime",
        "Diffie-Hellman prime of 2048 bits is not prime (IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem).",
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _group(_prime(c) - 2)),
        True,
    ),
    Mistake(
        "gave a prime that is not safe",
        None,
        "dh-not-safe",
        (
            "Diffie-Hellman prime of 2048 bits is not safe: (p - 1) / 2 is not prime "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."
        ),
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _group(_plain_prime())),
        True,
    ),
    Mistake(
        "made Diffie-Hellman parameters of 1024 bits",
        None,
        "dh-too-short",
        ("Diffie-Hellman prime of 1024 bits, expected 2048 to 8192 (IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."),
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _group(_SHORT_PRIME)),
        True,
    ),
    Mistake(
        "gave parameters with generator 3",
        None,
        "dh-generator",
        ("Diffie-Hellman generator is 3, expected 2 (or 5) (IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."),
        (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and "
            "upload them in place of these."
        ),
        lambda c: c.write(_DH, _group(_prime(c), 3)),
        True,
    ),
    Mistake(
        "gave a key in place of dhparam.pem",
        None,
        "dh-other-file",
        (
            "Diffie-Hellman parameters: the file has BEGIN PUBLIC KEY, expected BEGIN DH PARAMETERS "
            "(PKCS#3): this is a public key (IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."
        ),
        (
            "Give the dhparam.pem that was uploaded to IBKR (PKCS#3, `openssl dhparam 2048`), or make "
            "another with `ibkr-oauth keygen`."
        ),
        lambda c: c.write(_DH, c.pem["signing_public"]),
        True,
    ),
    Mistake(
        "copied half of dhparam.pem",
        None,
        "file-cut-off",
        (
            "Diffie-Hellman parameters: a BEGIN line without its END line, or with a damaged label (200 bytes: cut off?) "
            "(IBKR_OAUTH_KEYS_DIR: …/keys/dhparam.pem)."
        ),
        ("Copy dhparam.pem again, whole; if it is lost, make another with `ibkr-oauth keygen` and upload that."),
        lambda c: c.write(_DH, c.pem["dh_params"][:200]),
        True,
    ),
    Mistake(
        "set ibind's generator to another number",
        None,
        "dh-generator-setting",
        "IBIND_OAUTH1A_DH_GENERATOR is not 2, the generator of the parameters.",
        "Set IBIND_OAUTH1A_DH_GENERATOR to 2, or remove it.",
        lambda c: c.environment.update(IBIND_OAUTH1A_DH_GENERATOR="5"),
        True,
    ),
    # Access token and secret
    Mistake(
        "copied the access token secret without its end",
        None,
        "secret-truncated",
        "The access token secret has 340 characters, expected 344 for a 2048-bit key.",
        "Copy it again, whole, from the portal into IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda s: s[:340]),
        True,
    ),
    Mistake(
        "lost one character of the secret",
        None,
        "secret-truncated",
        "Access token secret has 343 characters, expected 344 (the base64 text for a 2048-bit key).",
        "Copy it again, whole, from the portal into IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda s: s[1:]),
        True,
    ),
    Mistake(
        "pasted the secret twice",
        None,
        "secret-too-long",
        "The access token secret has 688 characters, expected 344 for a 2048-bit key.",
        "Copy it again, whole, from the portal into IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
        lambda c: c.change(
            "ACCESS_TOKEN_SECRET", lambda s: s.rstrip("=") + s[:1] * (688 - len(s) - len(s.rstrip("="))) + s
        ),
        True,
    ),
    Mistake(
        "caught a stray character in the secret",
        None,
        "secret-not-base64",
        "Access token secret is not base64: character 101 of 344.",
        "Copy it again, whole, from the portal into IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda s: s[:100] + "…" + s[101:]),
        True,
    ),
    Mistake(
        "left the quotes around the secret",
        None,
        "secret-quoted",
        "The access token secret has quotes around it.",
        "Remove them in IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda s: f'"{s}"'),
        True,
    ),
    Mistake(
        "copied the secret from an address, percent-encoded",
        None,
        "secret-percent-encoded",
        "The access token secret is percent-encoded: %2B, %2F and %3D stand for + / =.",
        "Copy it from the portal's page and not out of an address or log; or decode it.",
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda s: s.replace("=", "%3D")),
        True,
    ),
    Mistake(
        "gave the decrypted secret",
        None,
        "secret-decrypted",
        ("The access token secret is 64 hex digits, as after decryption; expected the base64 of IBKR's."),
        (
            "Give it as IBKR gave it; it is decrypted here. Copy it again, whole, from the portal into "
            "IBKR_OAUTH_ACCESS_TOKEN_SECRET."
        ),
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda _: "ab" * 32),
        True,
    ),
    Mistake(
        "swapped access token and secret",
        None,
        "token-and-secret-swapped",
        ("Access token and access token secret are swapped: the token is the short one, 20 hex digits."),
        "Exchange the two values.",
        _swap_token_and_secret,
        True,
    ),
    Mistake(
        "copied a blank into the access token",
        None,
        "access-token-unreadable",
        "Access token: blanks, quotes, control or non-ASCII characters among its 21 characters.",
        "Copy it again from the portal into IBKR_OAUTH_ACCESS_TOKEN.",
        lambda c: c.change("ACCESS_TOKEN", lambda t: f"{t[:10]} {t[10:]}"),
        True,
    ),
    # Consumer key and realm
    Mistake(
        "wrote the consumer key in small letters",
        _INVALID,
        "consumer-key-lower-case",
        "The consumer key has small letters, and IBKR stores it in capitals.",
        "Write it in capitals in IBKR_OAUTH_CONSUMER_KEY.",
        lambda c: c.change("CONSUMER_KEY", str.lower),
        True,
    ),
    Mistake(
        "copied a line end with the consumer key",
        None,
        "consumer-key-blanks",
        "The consumer key has blanks, line ends or quotes around it.",
        "Write it bare in IBKR_OAUTH_CONSUMER_KEY: nine letters and nothing else.",
        lambda c: c.change("CONSUMER_KEY", lambda k: f"{k}\n"),
        True,
    ),
    Mistake(
        "lost a letter of the consumer key",
        _INVALID,
        "consumer-key-shape",
        ("IBKR does not know the consumer key, and it is not spelled as those of the portal are: nine letters A-Z."),
        "Compare it with the portal, letter by letter, and correct it.",
        lambda c: c.change("CONSUMER_KEY", lambda k: k[:-1]),
    ),
    Mistake(
        "mixed TESTCONS with keys of one's own",
        None,
        "testcons-with-own-keys",
        ("TESTCONS is mixed with the signing key of your own: it works with the keys that IBKR publishes for it only."),
        ("Take your own consumer key, nine letters from the portal, or for TESTCONS IBKR's demonstration keys."),
        _testcons,
        True,
    ),
    Mistake(
        "took test_realm for paper trading",
        "401 wrong realm",
        "realm-wrong",
        (
            "The realm is set to another one than the consumer key has: test_realm is for TESTCONS "
            "only and does not mean paper; a consumer key of your own has limited_poa."
        ),
        "Remove the realm from IBKR_OAUTH_REALM; it follows from the consumer key.",
        lambda c: c.set("REALM", "test_realm"),
        True,
    ),
    Mistake(
        "has a consumer key whose realm is another one",
        "401 wrong realm",
        "realm",
        (
            'POST /v1/api/oauth/live_session_token: refused with status 401: {"error":"id: …, error: '
            'wrong realm, this consumer uses other_realm","statusCode":401}.'
        ),
        "Leave the realm out of the settings; it follows from the consumer key.",
        lambda c: setattr(c, "realm", "other_realm"),
    ),
    # Settings
    Mistake(
        "set nothing",
        None,
        "nothing-set",
        ("Missing: consumer key, signing key, encryption key, dh params, access token, access token secret."),
        ("Run `ibkr-oauth init`, which makes keys and asks for the rest, or choose a profile with --profile."),
        lambda c: c.later.append(c.environment.clear),
        True,
    ),
    Mistake(
        "forgot the access token secret",
        None,
        "setting-missing",
        "Missing: access token secret.",
        (
            "Set IBKR_OAUTH_ACCESS_TOKEN_SECRET or IBIND_OAUTH1A_ACCESS_TOKEN_SECRET. Or let "
            "`ibkr-oauth init` make a profile."
        ),
        lambda c: _unset(c, "ACCESS_TOKEN_SECRET"),
        True,
    ),
    Mistake(
        "set ibind's variable and ours to different keys",
        None,
        "settings-disagree",
        (
            "All files and values fit together, but note: Consumer key: IBKR_OAUTH_CONSUMER_KEY is "
            "used, and IBIND_OAUTH1A_CONSUMER_KEY says something else."
        ),
        "Remove one of the two: IBKR_OAUTH_CONSUMER_KEY or IBIND_OAUTH1A_CONSUMER_KEY.",
        lambda c: c.environment.update(IBIND_OAUTH1A_CONSUMER_KEY="ANOTHERKY"),
        True,
    ),
    Mistake(
        "broke the file of profiles",
        None,
        "settings-unreadable",
        "…/keys/config.toml, line 1: not valid TOML.",
        'A setting is one line, its value in quotes: consumer_key = "ABCDEFGHI". Correct the line.',
        lambda c: _config(c, "consumer_key = ABC"),
        True,
    ),
    Mistake(
        "misspelt a setting in a profile",
        None,
        "settings-unreadable",
        "…/keys/config.toml, profile paper: unknown key consumer_kye.",
        "Did you mean consumer_key?",
        lambda c: _config(c, '[profile.paper]\nconsumer_kye = "A"\n[profile.live]\n') or c.set("PROFILE", "paper"),
        True,
    ),
    Mistake(
        "chose a profile that does not exist",
        None,
        "settings-unreadable",
        "Profile nobody (from IBKR_OAUTH_PROFILE): not in …/.config/ibkr-oauth/config.toml.",
        "There is no such file yet: `ibkr-oauth init` makes one.",
        lambda c: c.set("PROFILE", "nobody"),
        True,
    ),
    # The way to the service
    Mistake(
        "gave an address with plain http",
        None,
        "base-url",
        (
            "The address of the API cannot be used: plain http is for this machine only (127.0.0.1, "
            "[::1], localhost); use https."
        ),
        "Correct it in IBKR_OAUTH_BASE_URL; IBKR's is https://api.ibkr.com/v1/api.",
        lambda c: c.set("BASE_URL", "http://api.ibkr.com/v1/api"),
        True,
    ),
    Mistake(
        "named a file of authorities that is not there",
        None,
        "ca-file-unreadable",
        (
            "The file of certificate authorities cannot be read: No such file or directory "
            "(IBKR_OAUTH_CA_FILE: …/keys/ca.pem)."
        ),
        "Correct the path, or leave ca_file out to trust the system's authorities.",
        lambda c: c.set("CA_FILE", str(c.folder / "ca.pem")),
        True,
    ),
    Mistake(
        "gave a key as file of authorities",
        None,
        "ca-file-no-certificate",
        ("The file of certificate authorities holds no certificate (IBKR_OAUTH_CA_FILE: …/keys/dhparam.pem)."),
        ("Give a PEM file with BEGIN CERTIFICATE lines, or leave ca_file out to trust the system's authorities."),
        lambda c: c.set("CA_FILE", str(c.folder / _DH)),
        True,
    ),
    Mistake(
        "left SSLKEYLOGFILE set",
        None,
        "sslkeylogfile",
        (
            "All files and values fit together, but note: SSLKEYLOGFILE is set: whoever reads that "
            "file can decrypt the TLS traffic of this process."
        ),
        "Unset SSLKEYLOGFILE unless you are debugging TLS, and remove the file.",
        lambda c: c.environment.update(SSLKEYLOGFILE="/tmp/keys"),
        True,
    ),
    Mistake(
        "named a proxy for other programs only",
        None,
        "proxy-variable",
        (
            "All files and values fit together, but note: HTTPS_PROXY is set, and is not obeyed here: "
            "a proxy is used only where it is set for this program."
        ),
        "Where the network has no other way out, set IBKR_OAUTH_PROXY to the same address.",
        lambda c: c.environment.update(HTTPS_PROXY="http://127.0.0.1:9"),
        True,
    ),
    Mistake(
        "misspelt the host",
        None,
        "host-name",
        "Host name not found after … ms: GET nowhere.invalid:443/v1/api/iserver/auth/status.",
        "Check the address of the API for a slip, and that this computer's DNS works.",
        lambda c: c.set("BASE_URL", "https://nowhere.invalid/v1/api"),
    ),
    Mistake(
        "gave a port where nobody listens",
        None,
        "connection-refused",
        "Connection refused after … ms: GET 127.0.0.1:9/v1/api/iserver/auth/status.",
        ("Nobody listens at that address and port, or a firewall stands between: check base_url and the network."),
        lambda c: c.set("BASE_URL", "https://127.0.0.1:9/v1/api"),
    ),
    Mistake(
        "gave a proxy that is not there",
        None,
        "proxy",
        ("Proxy 127.0.0.1:9: connection refused after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status."),
        "Check the proxy's address and whether it lets this host through.",
        lambda c: c.set("PROXY", "http://127.0.0.1:9"),
    ),
    Mistake(
        "gave the proxy's address without its scheme",
        None,
        "proxy-setting",
        "The proxy cannot be used: proxy: expected http://, https://, socks5:// or socks5h:// and a host.",
        "Write the whole address in IBKR_OAUTH_PROXY: http://host:port.",
        lambda c: c.set("PROXY", "127.0.0.1:9"),
    ),
    Mistake(
        "is behind a proxy that wants a password",
        None,
        "proxy-password",
        (
            "Proxy 127.0.0.1:… refused the tunnel with status 407 after … ms: GET "
            "127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        "This proxy wants a user name and a password: set IBKR_OAUTH_PROXY to http://user:password@host:port.",
        lambda c: _proxy(c, lambda peer: peer.answer(b"", "407 Proxy Authentication Required").close()),
    ),
    Mistake(
        "is behind a proxy that does not let IBKR through",
        None,
        "proxy-refuses",
        (
            "Proxy 127.0.0.1:… refused the tunnel with status 403 after … ms: GET "
            "127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        "Ask whoever runs the proxy to let connections to that host through.",
        lambda c: _proxy(c, lambda peer: peer.answer(b"", "403 Forbidden").close()),
    ),
    Mistake(
        "gave the address of something that is no proxy",
        None,
        "timeout-proxy",
        "Timed out while connecting through the proxy after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status.",
        "The proxy does not do its work: check its address, and that it can reach the host.",
        lambda c: (_proxy(c, Peer.stall), setattr(c, "timeout", _SHORT)),
    ),
    Mistake(
        "is behind a company proxy that looks into TLS",
        None,
        "unknown-authority",
        (
            "Certificate from an unknown authority (SSL certificate problem: unable to get local issuer "
            "certificate) after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        (
            "Something between here and IBKR shows its own certificate, as company proxies do: give "
            "that company's certificate authority as ca_file. Verification cannot be switched off."
        ),
        lambda c: _proxy(c, _intercept),
    ),
    Mistake(
        "is in a network that looks into TLS without asking",
        None,
        "unknown-authority",
        (
            "Certificate from an unknown authority (SSL certificate problem: unable to get local issuer "
            "certificate) after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        (
            "Something between here and IBKR shows its own certificate, as company proxies do: give "
            "that company's certificate authority as ca_file. Verification cannot be switched off."
        ),
        lambda c: _stand_in(c, _foreign()),
    ),
    Mistake(
        "met a server with a certificate of its own making",
        None,
        "certificate-self-signed",
        (
            "Certificate from an unknown authority (SSL certificate problem: self-signed certificate) after … ms: GET "
            "127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        (
            "The server there vouches for itself, as none of IBKR's does: check base_url. If it is a server of your "
            "own, give its certificate as ca_file."
        ),
        lambda c: _stand_in(c, _self_signed(c)),
    ),
    Mistake(
        "gave a host whose certificate is for another one",
        None,
        "certificate-host",
        ("Certificate for another host name (…) after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status."),
        "Check the host in base_url: the server there is another one.",
        lambda c: _stand_in(c, _issue("api.ibkr.com", "127.0.0.2")),
    ),
    Mistake(
        "met a certificate that has expired, or has a clock years ahead",
        None,
        "certificate-expired",
        (
            "Certificate expired (SSL certificate problem: certificate has expired) after … ms: GET "
            "127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        (
            "Look at this computer's date first, which is … UTC. If it is right, the certificate of the server there, "
            "or of a company proxy on the way, is too old, and whoever runs that must renew it."
        ),
        lambda c: _stand_in(c, _issue("127.0.0.1", since=-9 * _DAY, until=-_DAY)),
    ),
    Mistake(
        "has a clock that is years behind",
        None,
        "certificate-not-yet-valid",
        (
            "Certificate not valid yet (SSL certificate problem: certificate is not yet valid) after … ms: GET "
            "127.0.0.1:…/v1/api/iserver/auth/status."
        ),
        (
            "Look at this computer's date first, which is … UTC: set the clock, best by NTP. If it is right, the "
            "certificate of the server there is dated wrongly, and whoever runs that must replace it."
        ),
        lambda c: _stand_in(c, _issue("127.0.0.1", since=1000 * _DAY, until=1400 * _DAY)),
    ),
    Mistake(
        "is behind a firewall that drops what is sent",
        None,
        "timeout-connection",
        "Timed out while connecting after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status.",
        (
            "Nothing comes back from there, as where a firewall drops what is sent: check base_url, and try from "
            "another network. Where a proxy is the only way out, set IBKR_OAUTH_PROXY."
        ),
        _unanswered,
    ),
    Mistake(
        "is behind a firewall that lets TCP through and no TLS",
        None,
        "timeout-tls",
        "Timed out while shaking hands (TLS) after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status.",
        (
            "The connection stands, and nothing comes through it: a firewall that looks into TLS, or a VPN with "
            "packets too large for it (MTU). Try from another network."
        ),
        _silent_handshake,
    ),
    Mistake(
        "waits for an answer that does not come",
        None,
        "timeout",
        "Timed out while waiting for the answer after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status.",
        (
            "The service took the request and is silent. Try again in some minutes; nightly resets are normal. If it "
            "stays, try from another network."
        ),
        lambda c: _slow_answer(c, Peer.stall),
    ),
    Mistake(
        "gets an answer by drops",
        None,
        "timeout-in-answer",
        "Timed out while reading the answer after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status.",
        (
            "The answer began and does not end: the network or the service is too slow. Try again, and from another "
            "network if it stays."
        ),
        lambda c: _slow_answer(c, _trickle),
    ),
    Mistake(
        "met a service that is silent when it is asked for a live session token",
        None,
        "timeout",
        "Timed out while waiting for the answer after … ms: POST 127.0.0.1:…/v1/api/oauth/live_session_token.",
        (
            "The service took the request and is silent. Try again in some minutes; nightly resets are normal. If it "
            "stays, try from another network."
        ),
        lambda c: _silent(c, "/oauth/live_session_token"),
    ),
    Mistake(
        "met a service that is silent when the brokerage session is opened",
        None,
        "timeout",
        (
            "OAuth works, and the brokerage session does not: timed out while waiting for the answer after … ms: POST "
            "127.0.0.1:…/v1/api/iserver/auth/ssodh/init."
        ),
        (
            "The service took the request and is silent. Try again in some minutes; nightly resets are normal. If it "
            "stays, try from another network."
        ),
        lambda c: _silent(c, "/iserver/auth/ssodh/init"),
    ),
    Mistake(
        "gave the address of something else",
        "404",
        "not-the-api",
        "What answers at https://127.0.0.1:…/v2/api is not IBKR's API (status 404).",
        "Correct base_url; IBKR's is https://api.ibkr.com/v1/api.",
        lambda c: c.set("BASE_URL", f"https://127.0.0.1:{_port(c)}/v2/api"),
    ),
    Mistake(
        "comes from a blocked network",
        "403 with a page of HTML: Access Denied",
        "edge-blocked",
        (
            "The network edge in front of IBKR refuses this computer before anybody looks at OAuth "
            "(403, a page of HTML)."
        ),
        (
            "Nothing in your keys or settings changes that. Try from another network: addresses of "
            "clouds, VPNs and some countries are blocked."
        ),
        lambda c: c.fail(403, None, body=_PAGE, html=True),
    ),
    Mistake(
        "came during maintenance",
        "503 Service Unavailable",
        "maintenance",
        ('GET /v1/api/iserver/auth/status: refused with status 503: {"error":"Service Unavailable","statusCode":503}.'),
        "The service is down or restarting; try again in some minutes. Nightly resets are normal.",
        _maintenance,
    ),
    Mistake(
        "asked too often",
        "429 Too Many Requests",
        "rate-limited",
        ('GET /v1/api/iserver/auth/status: refused with status 429: {"error":"Too Many Requests","statusCode":429}.'),
        ("Slow down: IBKR paces at 10 requests a second and may block an address for about 10 minutes."),
        lambda c: c.fail(429, None),
    ),
    Mistake(
        "lost the connection in the middle",
        None,
        "no-answer",
        ("Connection lost while waiting for the answer after … ms: GET 127.0.0.1:…/v1/api/iserver/auth/status."),
        "Try again; if it stays, look at the network between here and the server.",
        lambda c: c.later.append(lambda: c.sandbox.drop_connection(0, 1)),
    ),
    Mistake(
        "has a clock that is an hour ahead",
        "401 oauth_timestamp is 3600 seconds ahead of the server's clock",
        "clock-skew",
        "Everything works, but note: This computer's clock is … s ahead of the server's.",
        (
            "Set the clock, best by NTP. This library signs with the server's time meanwhile; other "
            "programs are refused."
        ),
        _skew,
    ),
    # What IBKR answers
    Mistake(
        "registered the consumer key today",
        _INVALID,
        "not-activated",
        (
            "Your side is proven correct as far as it can be, and IBKR has not activated the consumer "
            "key … (it answers: invalid consumer)."
        ),
        (
            "Compare the consumer key with the portal, letter by letter; then wait: new keys become "
            "active overnight, officially after the weekend, at times only after two weeks. "
            "`ibkr-oauth wait` asks for you."
        ),
        lambda c: setattr(c, "active", False),
    ),
    Mistake(
        "had the consumer key switched off",
        _INVALID,
        "not-activated",
        (
            "Your side is proven correct as far as it can be, and IBKR has not activated the consumer "
            "key … (it answers: invalid consumer)."
        ),
        (
            "Compare the consumer key with the portal, letter by letter; then wait: new keys become "
            "active overnight, officially after the weekend, at times only after two weeks. "
            "`ibkr-oauth wait` asks for you."
        ),
        lambda c: c.later.append(lambda: c.sandbox.deactivate_consumer(c.consumer_key)),
    ),
    Mistake(
        "made another signing key after the upload",
        "401 error 23804 Error validating signature",
        "signing-key-not-registered",
        "IBKR has another public key than that of this signing key (fingerprint …).",
        (
            "Upload public_signature.pem of this key to the portal in place of the one there, or give "
            "the signing key whose public half was uploaded."
        ),
        lambda c: c.portal.__setitem__(0, _public(other_key())),
    ),
    Mistake(
        "made other Diffie-Hellman parameters after the upload",
        None,
        "dh-parameters-differ",
        (
            "The service derives another token than we do: the Diffie-Hellman parameters in the portal "
            "are others than these (fingerprint …)."
        ),
        "Upload this dhparam.pem to the portal again, or give the file that was uploaded.",
        lambda c: c.portal.__setitem__(2, c.pem["other_dh"]),
    ),
    Mistake(
        "generated the access token again and kept the old secret",
        "401 error 23804 Error validating signature",
        "secret-outdated",
        ("The signing key is accepted, and the access token secret is not the one that IBKR has for this token."),
        (
            "Generate the access token again in the portal, and store token and secret of the same "
            "turn together. The keys stay."
        ),
        lambda c: c.later.append(lambda: c.sandbox.grant(c.consumer_key, c.username)),
    ),
    Mistake(
        "had the access token revoked",
        "401 LST failed, error: No access secret key found",
        "no-access-secret",
        (
            'POST /v1/api/oauth/live_session_token: refused with status 401: {"error":"id: …, error: '
            'LST failed, error: No access secret key found for …","statusCode":401}.'
        ),
        (
            "Generate a new access token in the portal and store token and secret together; the keys "
            "stay. It usually works within a minute."
        ),
        _revoke,
    ),
    Mistake(
        "gave the access token of another consumer key",
        "401 access token belongs to another consumer",
        "access-token-of-another-consumer",
        (
            'POST /v1/api/oauth/live_session_token: refused with status 401: {"error":"id: …, error: '
            'access token belongs to another consumer","statusCode":401}.'
        ),
        ("Use consumer key, token and secret of one and the same set-up; a profile for each keeps them apart."),
        _foreign_token,
    ),
    Mistake(
        "is logged in at TWS with the same user name",
        None,
        "competing-login",
        (
            "OAuth works, and another login of the user name (TWS, the phone, another program) has the "
            "brokerage session."
        ),
        ("Log out there, or use a second user name for the API; on_competing='take' throws the other one out."),
        _compete,
    ),
    Mistake(
        "has an account without trading permission",
        "500 failed to generate sso dh token",
        "no-sso-dh-token",
        (
            "OAuth works, and the brokerage session does not: POST /v1/api/iserver/auth/ssodh/init: "
            'refused with status 500: {"error":"failed to generate sso dh token"}.'
        ),
        (
            "OAuth works; IBKR refused the brokerage session. Seen on new or paper users and accounts "
            "without trading permission. /portfolio works meanwhile. Try again tomorrow; if it stays, "
            "ask IBKR about the account's permissions."
        ),
        lambda c: c.fail(500, "/iserver/auth/ssodh/init", times=2, body='{"error":"failed to generate sso dh token"}'),
    ),
    Mistake(
        "met a service that signs queries otherwise",
        "401 invalid signature, with queries only",
        "query-signing",
        (
            "Everything works, but note: The service signs queries by the rule merge and not by omit, "
            "which is the default."
        ),
        "Make sessions with query_signing='merge'.",
        _strict,
    ),
    Mistake(
        "met a fault of the service",
        "500 Internal Server Error",
        "server",
        (
            'GET /v1/api/portfolio/accounts: refused with status 500: {"error":"Internal Server '
            'Error","statusCode":500}.'
        ),
        "The answer is not what the service documents; try again, and report it if it stays.",
        lambda c: c.fail(500, "/portfolio/accounts"),
    ),
)
