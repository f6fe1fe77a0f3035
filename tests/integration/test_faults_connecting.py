"""What goes wrong before a request is written: nothing was sent, the error says so, and what to do."""

import datetime as dt
import errno
import logging
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.callers import (
    CALLERS,
    PLAIN,
    Caller,
    assert_helpful,
    assert_hidden,
    counts,
    credentials,
    eventually,
    secret_call,
    state_of_process,
)
from support.rogue import Peer, Rogue

from ibkr_oauth import ConnectError, Consumer, ProxyError, Timeout, TLSError, TransportError, UsageError

DAY = dt.timedelta(days=1)
NOW = dt.datetime.now(dt.UTC)


def context(certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """The server's side of TLS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        certificate.configure_cert(made)
    return made


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    certificate = builder.sign(key, hashes.SHA256())
    file = folder / "self-signed.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    made = context()
    made.load_cert_chain(file)
    return made


def old_tls(certificate: trustme.LeafCert, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that knows nothing newer, and minds no weakness."""
    made = context(certificate)
    made.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        made.minimum_version = made.maximum_version = version
    return made


@pytest.fixture(scope="module")
def good(authority: trustme.CA) -> ssl.SSLContext:
    return context(authority.issue_cert("127.0.0.1"))


@pytest.fixture
def rogue(good: ssl.SSLContext) -> Iterator[Rogue]:
    with Rogue(good) as running:
        yield running


@pytest.fixture
def options(rogue: Rogue, consumer: Consumer, ca_file: Path) -> dict[str, Any]:
    return {**credentials(consumer), **PLAIN, "base_url": rogue.base_url, "ca_file": ca_file}


@pytest.fixture(params=CALLERS)
def new_caller(request: pytest.FixtureRequest) -> Callable[..., Caller]:
    return CALLERS[request.param]


def fail(
    caller: Caller,
    rogue: Rogue,
    method: str,
    kind: type[TransportError] | tuple[type[TransportError], ...],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> TransportError:
    """A call of which nothing is sent; its error is looked at from all sides."""
    caplog.set_level(logging.DEBUG)
    before = len(rogue.requests)
    with pytest.raises(kind, match=says) as caught:
        caller.request(method, "/portfolio/accounts", **secret_call(method))
    error = caught.value
    assert not error.sent
    assert f"{method} 127.0.0.1:{rogue.port}/v1/api/portfolio/accounts" in error.message
    assert_helpful(error)
    assert_hidden(error, caplog.records)
    assert len(rogue.requests) == before
    return error


def assert_usable(caller: Caller, rogue: Rogue) -> None:
    before = len(rogue.requests)
    assert caller.request("POST", "/portfolio/accounts", json={}).json() == {"fine": True}
    assert len(rogue.requests) == before + 1
    rogue.wait_for_connections(1)


# --- The handshake breaks ------------------------------------------------------------------------

_ALERT = bytes.fromhex("15030300020228")  # fatal, handshake_failure

BROKEN: dict[str, tuple[Callable[[Peer], object], Any, str]] = {
    "closed at once": (Peer.close, (ConnectError, TLSError), ""),
    "reset at once": (Peer.reset, (ConnectError, TLSError), ""),
    "closed after the client's hello": (lambda peer: peer.hear().close(), (ConnectError, TLSError), ""),
    "reset after the client's hello": (lambda peer: peer.hear().reset(), (ConnectError, TLSError), ""),
    "closed in the server's hello": (
        lambda peer: peer.hear().send(bytes.fromhex("1603030050")).close(), (ConnectError, TLSError), ""
    ),
    "an alert": (lambda peer: peer.hear().send(_ALERT).close(), TLSError, "alert"),
    "plain HTTP": (lambda peer: peer.hear().send(b"HTTP/1.1 400 Bad Request\r\n\r\n").close(), TLSError, "TLS failed"),
    "another protocol": (lambda peer: peer.send(b"SSH-2.0-leaked-by-server\r\n").stall(), TLSError, "TLS failed"),
    "a flood": (lambda peer: peer.flood(bytes(65536)), TLSError, "TLS failed"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", BROKEN)
def test_handshakes_that_break(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    name: str,
    method: str,
) -> None:
    deed, kind, says = BROKEN[name]
    with new_caller(**options) as caller:
        rogue.greeting(deed)
        error = fail(caller, rogue, method, kind, says or "after", caplog)
        assert "leaked" not in str(error)
        assert_usable(caller, rogue)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_handshake_that_stalls(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """`connect_timeout` counts, though `timeout` is longer; for an order too nothing is unknown."""
    with new_caller(**options, connect_timeout=0.4) as caller:
        rogue.greeting(Peer.stall)
        fail(caller, rogue, method, Timeout, r"timed out while shaking hands \(TLS\) after", caplog)
        assert_usable(caller, rogue)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_a_host_that_does_not_reply(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """A port whose queue is full: what asks for a connection is dropped, as by a firewall."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            assert waiting.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        port = listener.getsockname()[1]
        address = {"base_url": f"https://127.0.0.1:{port}/v1/api", name: 0.15}
        with new_caller(**{**options, **address}) as caller, pytest.raises(Timeout, match="connecting") as caught:
            caller.request("POST", "/portfolio/accounts")
    assert not caught.value.sent
    assert_helpful(caught.value)
    assert_hidden(caught.value, caplog.records)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_listens(
    new_caller: Callable[..., Caller], good: ssl.SSLContext, options: dict[str, Any], method: str
) -> None:
    with Rogue(good) as gone:
        pass
    with (
        new_caller(**{**options, "base_url": gone.base_url}) as caller,
        pytest.raises(ConnectError, match="connection refused") as caught,
    ):
        caller.request(method, "/portfolio/accounts", **secret_call(method))
    assert not caught.value.sent
    assert "safe to repeat" in caught.value.advice
    assert_helpful(caught.value)
    assert_hidden(caught.value, [])


def test_a_name_that_does_not_exist(new_caller: Callable[..., Caller], options: dict[str, Any]) -> None:
    address = "https://no-such-host.invalid/v1/api"
    with (
        new_caller(**{**options, "base_url": address}) as caller,
        pytest.raises(ConnectError, match="host name not found") as caught,
    ):
        caller.request("POST", "/portfolio/accounts")
    assert not caught.value.sent
    assert_helpful(caught.value)


# --- Certificates and versions -------------------------------------------------------------------


def certificates(authority: trustme.CA, folder: Path) -> dict[str, tuple[Callable[[], ssl.SSLContext], str]]:
    issue = authority.issue_cert
    return {
        "unknown authority": (
            lambda: context(trustme.CA().issue_cert("127.0.0.1")),
            "certificate from an unknown authority",
        ),
        "self-signed": (lambda: self_signed(folder), "certificate from an unknown authority"),
        "expired": (
            lambda: context(issue("127.0.0.1", not_before=NOW - 9 * DAY, not_after=NOW - DAY)),
            "certificate expired",
        ),
        "not yet valid": (
            lambda: context(issue("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 9 * DAY)),
            "certificate not valid yet",
        ),
        "wrong host name": (lambda: context(issue("api.ibkr.com", "127.0.0.2")), "certificate for another host name"),
        "the authority's own": (lambda: _authority_as_server(authority, folder), "common name"),
    }


def _authority_as_server(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    """The authority's own certificate, which names no host."""
    file = folder / "authority.pem"
    file.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    made = context()
    made.load_cert_chain(file)
    return made


CERTIFICATES = ("unknown authority", "self-signed", "expired", "not yet valid", "wrong host name",
                "the authority's own")  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_that_are_not_to_be_trusted(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    good: ssl.SSLContext,
    authority: trustme.CA,
    options: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    method: str,
) -> None:
    make, says = certificates(authority, tmp_path)[name]
    with new_caller(**options) as caller:
        rogue.tls = make()
        error = fail(caller, rogue, method, TLSError, says, caplog)
        assert "cannot be switched off" in error.advice
        rogue.tls = good
        assert_usable(caller, rogue)


def test_certificates_are_not_retried(new_caller: Callable[..., Caller], rogue: Rogue, options: dict[str, Any]) -> None:
    """The next attempt would meet the same one."""
    rogue.tls = context(trustme.CA().issue_cert("127.0.0.1"))
    with new_caller(**{**options, "retries": 5}) as caller, pytest.raises(TLSError):
        caller.request("GET", "/portfolio/accounts")
    assert rogue.connections == 1


def test_a_kept_connection_is_not_borrowed_by_who_trusts_less(
    new_caller: Callable[..., Caller], rogue: Rogue, options: dict[str, Any], tmp_path: Path
) -> None:
    """A connection that one session made must not serve another one that does not trust that certificate."""
    other_ca = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other_ca))
    with new_caller(**options) as trusting, new_caller(**{**options, "ca_file": other_ca}) as other:
        assert_usable(trusting, rogue)
        with pytest.raises(TLSError, match="unknown authority"):
            other.request("GET", "/portfolio/accounts")
        assert_usable(trusting, rogue)
    assert len(rogue.requests) == 2


# OpenSSL as somebody might have it set up: content with anything.
_LAX = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = lax
[lax]
MinProtocol = TLSv1
CipherString = ALL:@SECLEVEL=0
"""

_PROGRAM = """
import socket, ssl, sys, warnings
from datetime import UTC, datetime, timedelta
from ibkr_oauth import AsyncSession, Session, TLSError
import asyncio

address, ca_file, version = sys.argv[1:]
port = int(address.split(":")[2].split("/")[0])
warnings.simplefilter("ignore")
careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
careless.load_verify_locations(ca_file)
careless.set_ciphers("ALL:@SECLEVEL=0")
careless.minimum_version = ssl.TLSVersion[version]
with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
    try:
        with careless.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            print(sock.version())
    except ssl.SSLError:
        sys.exit("not to be had")

async def main():
    async with AsyncSession(cookie="x", **options) as session:
        await session.post("/a")

options = {"base_url": address, "ca_file": ca_file, "keep_alive": None, "retries": 0}
for call in (lambda: Session(cookie="x", **options).post("/a"), lambda: asyncio.run(main())):
    try:
        call()
    except TLSError as error:
        assert not error.sent
        print(error.message)
"""


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_tls_below_1_2(
    rogue: Rogue, authority: trustme.CA, ca_file: Path, tmp_path: Path, project: Path, version: str
) -> None:
    """Where server, certificate and the system's OpenSSL would all go along, it is us who refuse."""
    lax = tmp_path / "openssl.cnf"
    lax.write_text(_LAX)
    rogue.tls = old_tls(authority.issue_cert("127.0.0.1"), ssl.TLSVersion[version])
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, rogue.base_url, ca_file, version],
        check=False,
        env={**os.environ, "OPENSSL_CONF": str(lax), "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    if "not to be had" in done.stderr:
        pytest.skip(f"this OpenSSL cannot do {version} at all")
    assert done.returncode == 0, done.stderr
    agreed, *refusals = done.stdout.splitlines()
    assert agreed == version.replace("_", ".")
    assert len(refusals) == 2
    for refusal in refusals:
        assert refusal.startswith("TLS failed")
        assert "protocol" in refusal
    assert not rogue.requests


@pytest.mark.parametrize("name", ["missing", "a folder", "no PEM", "empty", "a key"])
def test_files_of_authorities_that_are_none(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    options: dict[str, Any],
    authority: trustme.CA,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """Never is anything trusted for want of a list."""
    file = tmp_path / "ca.pem"
    if name == "a folder":
        file.mkdir()
    elif name != "missing":
        contents = {"no PEM": b"leaked", "empty": b"", "a key": authority.private_key_pem.bytes()}
        file.write_bytes(contents[name])
    caplog.set_level(logging.DEBUG)
    with (
        new_caller(**{**options, "ca_file": file}) as caller,
        pytest.raises(TLSError, match="certificate authorities") as caught,
    ):
        caller.request("POST", "/portfolio/accounts", **secret_call("POST"))
    assert str(file) in caught.value.message
    assert "ca_file" in caught.value.advice
    assert not caught.value.sent
    assert_helpful(caught.value)
    assert_hidden(caught.value, caplog.records)
    assert not rogue.requests


# --- Proxies -------------------------------------------------------------------------------------


def _refuse(status: str) -> Callable[[Peer], object]:
    return lambda peer: peer.answer(b"leaked-by-proxy", status).close()


PROXIES: dict[str, tuple[Callable[[Peer], object], type[TransportError], str]] = {
    "refuses": (_refuse("403 Forbidden"), ProxyError, "refused the tunnel with status 403"),
    "wants a password": (_refuse("407 Proxy Authentication Required"), ProxyError, "status 407"),
    "cannot reach the host": (_refuse("502 Bad Gateway"), ProxyError, "status 502"),
    "redirects": (_refuse("302 Found"), ProxyError, "status 302"),
    "closes": (Peer.close, ProxyError, "broke off"),
    "resets": (Peer.reset, ProxyError, "broke off"),
    "closes in its answer": (lambda peer: peer.send(b"HTTP/1.1 200 Conn").close(), ProxyError, "broke off"),
    "is none": (lambda peer: peer.send(b"SSH-2.0-leaked-by-proxy\r\n").close(), ProxyError, "broke off"),
    "answers without end": (
        lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n").flood(b"X: leaked\r\n" * 999),
        ProxyError,
        "",
    ),
    "opens no tunnel": (lambda peer: peer.answer(b"leaked-by-proxy").close(), TransportError, ""),
    "stalls": (Peer.stall, Timeout, "connecting through the proxy"),
}


@pytest.fixture
def proxy() -> Iterator[Rogue]:
    with Rogue() as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", PROXIES)
def test_proxies_that_are_of_no_use(
    new_caller: Callable[..., Caller],
    rogue: Rogue,
    proxy: Rogue,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    name: str,
    method: str,
) -> None:
    deed, kind, says = PROXIES[name]
    address = f"http://planted:hunter2@127.0.0.1:{proxy.port}"
    timeout = 0.4 if name == "stalls" else 5.0
    with new_caller(**options, proxy=address, connect_timeout=timeout) as caller:
        assert "hunter2" not in repr(caller.session)
        proxy.answering(deed)
        error = fail(caller, rogue, method, kind, says or "after", caplog)
        if kind is ProxyError:
            assert f"proxy 127.0.0.1:{proxy.port}" in error.message
        assert "hunter2" not in str(vars(error))
        assert "leaked" not in str(error)
        assert "authorization" not in proxy.requests[0].headers
        proxy.answering(lambda peer: peer.tunnel(rogue.port))
        assert_usable(caller, rogue)
        assert [seen.method for seen in proxy.requests] == ["CONNECT", "CONNECT"]
    assert not any("hunter2" in record.getMessage() for record in caplog.records)


def test_a_proxy_that_is_not_there(
    new_caller: Callable[..., Caller], rogue: Rogue, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Rogue() as gone:
        pass
    with new_caller(**options, proxy=f"http://user:hunter2@127.0.0.1:{gone.port}") as caller:
        error = fail(caller, rogue, "POST", ProxyError, f"proxy 127.0.0.1:{gone.port}: connection refused", caplog)
    assert "hunter2" not in str(vars(error))


@pytest.mark.parametrize("address", ["", "127.0.0.1:8080", "ftp://u:hunter2@h", "http://", "http://u:hunter2@h\r\n"])
def test_proxies_that_are_no_urls(new_caller: Callable[..., Caller], options: dict[str, Any], address: str) -> None:
    with pytest.raises(UsageError, match="proxy") as caught:
        new_caller(**options, proxy=address)
    assert "hunter2" not in str(caught.value)


# --- Afterwards ----------------------------------------------------------------------------------


@counts
@pytest.mark.parametrize("kind", CALLERS)
def test_nothing_is_left_behind(
    kind: str, rogue: Rogue, proxy: Rogue, good: ssl.SSLContext, options: dict[str, Any]
) -> None:
    """Neither descriptors nor threads, of some hundred connections that came to nothing."""
    untrusted = context(trustme.CA().issue_cert("127.0.0.1"))

    def meet(caller: Caller) -> None:
        for deed, *_ in BROKEN.values():
            rogue.greeting(deed)
            with pytest.raises(TransportError):
                caller.request("POST", "/portfolio/accounts")
        rogue.tls = untrusted
        with pytest.raises(TLSError):
            caller.request("GET", "/portfolio/accounts")
        rogue.tls = good
        rogue.answering(lambda peer: peer.answer(headers="Connection: close\r\n"))
        caller.request("GET", "/portfolio/accounts")
        rogue.wait_for_connections(0)

    at_first = state_of_process()
    with CALLERS[kind](**options) as caller:
        meet(caller)
        after_one_round = state_of_process()
        for _ in range(10):
            meet(caller)
        eventually(after_one_round)
    del caller
    eventually(at_first)
