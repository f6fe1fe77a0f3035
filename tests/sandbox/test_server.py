"""The server's life, its record of requests, and its manners inside another program."""

from __future__ import annotations

import asyncio
import errno
import gc
import http.client
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox, server

from .conftest import Connect
from .reference import Client, exchange


def _running() -> set[str]:
    return {one.name for one in threading.enumerate() if one.name.startswith("ibkr-sandbox")}


_OTHERS: set[str] = set()  # of other tests, that may be running still


@pytest.fixture(autouse=True)
def _note_others() -> None:
    _OTHERS.clear()
    _OTHERS.update(_running())


def sandbox_threads() -> list[str]:
    """Those that were started in this test."""
    return sorted(_running() - _OTHERS)


# --- Life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_start_and_stop(tls: bool) -> None:
    sandbox = Sandbox(tls=tls)
    assert repr(sandbox) == "<Sandbox not running>"
    assert sandbox.ca_file is None
    began = time.perf_counter()
    with sandbox:
        assert time.perf_counter() - began < 1
        assert sandbox_threads()
        scheme = "https" if tls else "http"
        assert sandbox.origin == f"{scheme}://127.0.0.1:{sandbox.port}"
        assert sandbox.base_url == f"{sandbox.origin}/v1/api"
        assert sandbox.authorize_url == f"{sandbox.origin}/authorize"
        assert repr(sandbox) == f"<Sandbox {sandbox.origin}>"
        ca_file = sandbox.ca_file
        assert (ca_file is not None and ca_file.read_text().startswith("-----BEGIN")) == tls
        assert exchange(sandbox, "GET", "/v1/api/tickle", {"User-Agent": "x"}).status == 401
    assert not sandbox_threads()
    assert ca_file is None or not ca_file.parent.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port), timeout=1)
    sandbox.stop()


def test_the_thread_ends_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), Sandbox():
        raise ZeroDivisionError
    assert not sandbox_threads()


def test_stop_without_start() -> None:
    Sandbox().stop()


def test_connections_of_one_that_is_stopped_are_gone_already() -> None:
    sandbox = Sandbox()
    sandbox.drop_connections()
    with sandbox:
        assert exchange(sandbox, "GET", "/v1/api/tickle", {"User-Agent": "x"}).status == 401
    sandbox.drop_connections()


def test_taken_port(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.port, tls=True).start()
    assert len(sandbox_threads()) == 1


def test_a_start_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Sandbox() as other:
        port = other.port
    with monkeypatch.context() as patched:
        patched.setattr(server.Certificate, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            Sandbox(port=port, tls=True).start()
    with Sandbox(port=port) as again:
        assert again.port == port
    startup = server._Server.startup

    async def late(self: server._Server, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(0.2)
        await startup(self, sockets)

    with monkeypatch.context() as patched:
        patched.setattr(server, "_START_TIMEOUT", 0.01)
        patched.setattr(server._Server, "startup", late)
        with pytest.raises(RuntimeError, match="did not start"):
            Sandbox(port=port).start()
    assert not sandbox_threads()
    with Sandbox(port=port) as again:
        assert again.port == port


def test_fixed_port(sandbox: Sandbox) -> None:
    with Sandbox() as other:
        port = other.port
    with Sandbox(port=port) as again:
        assert again.port == port


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_stop_does_not_wait_for_idle_clients(connections: ExitStack) -> None:
    for tls in (False, True):
        sandbox = Sandbox(tls=tls).start()
        address = ("127.0.0.1", sandbox.port)
        connections.enter_context(socket.create_connection(address))  # never says a word
        kept = connections.enter_context(socket.create_connection(address))
        if sandbox.ca_file:
            context = ssl.create_default_context(cafile=str(sandbox.ca_file))
            kept = connections.enter_context(context.wrap_socket(kept, server_hostname="127.0.0.1"))
        kept.sendall(b"GET /authorize HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(12) == b"HTTP/1.1 400"
        began = time.perf_counter()
        sandbox.stop()
        assert time.perf_counter() - began < 1
        gc.collect()  # what was left open would warn here, and warnings are errors


def test_many_at_once(connect: Connect) -> None:
    with ExitStack() as stack:
        sandboxes = [stack.enter_context(Sandbox(tls=n % 2 == 0)) for n in range(6)]
        clients = [connect(sandbox, granted=True) for sandbox in sandboxes]
        assert len({sandbox.port for sandbox in sandboxes}) == 6
        assert {client.get_live_session_token().status for client in clients} == {200}
        assert {client.get("/tickle").status for client in clients} == {200}
        clients[0].access_token = clients[1].access_token  # sandboxes share nothing
        assert clients[0].get("/tickle").error == "unknown access token"
    assert not sandbox_threads()


def test_ipv6(connect: Connect) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(OSError, match=r".+"):
            Sandbox(host="::1").start()
        return
    with Sandbox(host="::1") as sandbox:
        assert sandbox.origin == f"http://[::1]:{sandbox.port}"
        connection = http.client.HTTPConnection("::1", sandbox.port, timeout=5)
        connection.request("GET", "/authorize")
        assert connection.getresponse().status == 400
        connection.close()


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://api.ibkr.com", "https://api.ibkr.com"),
        ("https://API.IBKR.com:443/", "https://api.ibkr.com"),
        ("http://sandbox:8080/v1/api", "http://sandbox:8080"),
        ("http://[::1]:80/v1/api/", "http://[::1]"),
    ],
)
def test_public_url(public_url: str, origin: str) -> None:
    assert Sandbox(public_url=public_url).base_url == f"{origin}/v1/api"


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "https://x/path", "https://x?q=1"])
def test_odd_public_urls(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Sandbox(public_url=url)


def test_certificate_covers_the_public_host() -> None:
    with Sandbox(tls=True, public_url="https://api.ibkr.com") as sandbox:
        context = ssl.create_default_context(cafile=str(sandbox.ca_file))
        for name in ("api.ibkr.com", "localhost", "127.0.0.1"):
            with (
                socket.create_connection(("127.0.0.1", sandbox.port)) as plain,
                context.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                assert wrapped.version() == "TLSv1.3"


# --- Manners -------------------------------------------------------------------------------------


def test_signals_and_logging_are_left_alone() -> None:
    """In a fresh process, since pytest has its own hand on logging."""
    program = """
import logging, signal
from ibkr_oauth.sandbox import Sandbox

def handlers():
    return [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

def loggers():
    names = [None, "uvicorn", "uvicorn.access", "uvicorn.error", "asyncio"]
    found = [logging.getLogger(name) for name in names]
    return [(one.level, one.handlers[:], one.propagate, one.disabled) for one in found]

before = handlers(), loggers()
with Sandbox(tls=True) as sandbox:
    assert (handlers(), loggers()) == before
assert (handlers(), loggers()) == before
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_signal_handlers(sandbox: Sandbox) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    logger = logging.getLogger("ibkr_oauth.sandbox")
    assert any(isinstance(one, logging.NullHandler) for one in logger.handlers)


# --- What every answer carries -------------------------------------------------------------------


def test_every_answer_has_a_date(sandbox: Sandbox, client: Client) -> None:
    replies = [
        client.get("/tickle"),
        client.get("/tickle", signature="AAAA"),
        client.get("/tickle", headers={"User-Agent": None}),
        exchange(sandbox, "GET", "/nowhere"),
        exchange(sandbox, "GET", "/authorize"),
        exchange(sandbox, "PUT", "/authorize"),
        exchange(sandbox, "GET", "/_sandbox/requests"),
    ]
    assert [reply.status for reply in replies] == [200, 401, 403, 404, 400, 405, 200]
    for reply in replies:
        date = parsedate_to_datetime(reply.headers["date"]).timestamp()
        assert abs(date - time.time()) < 5
        assert reply.headers["x-response-time"].endswith("ms")
        assert "server" not in reply.headers


def test_connections_are_kept_and_answers_are_quick(client: Client) -> None:
    """A hundred calls on one connection; delayed acknowledgements would cost 40 ms each."""
    connection = http.client.HTTPConnection("127.0.0.1", client.sandbox.port, timeout=5)
    connection.connect()
    local = connection.sock.getsockname()
    began = time.perf_counter()
    for _ in range(100):
        connection.request("POST", "/v1/api/tickle", headers={"User-Agent": "x"})
        response = connection.getresponse()
        response.read()
        assert response.status == 401
    assert time.perf_counter() - began < 2
    assert connection.sock.getsockname() == local
    connection.close()


# --- The record ----------------------------------------------------------------------------------


def test_requests_are_recorded_without_secrets(client: Client) -> None:
    query = "conids=1"
    client.get("/portfolio/accounts", query=query, headers={"X-Own": "s3cret", "Cookie": "api=1"})
    client.get("/tickle", signature="AAAA", headers={"X-Sandbox-Base-String": "s3cret"})
    good, bad = client.sandbox.requests[-2:]
    assert (good.method, good.path, good.status) == ("GET", "/v1/api/portfolio/accounts", 200)
    assert (good.query_rule, good.refusal) == ("omit", None)
    assert good.headers["user-agent"] == "reference"
    assert good.headers["authorization"] == (
        "OAuth realm, oauth_consumer_key, oauth_nonce, oauth_signature, oauth_signature_method, "
        "oauth_timestamp, oauth_token"
    )
    assert good.headers["x-own"] == good.headers["cookie"] == "<redacted>"
    assert (bad.status, bad.refusal) == (401, "Invalid signature")
    shown = repr(client.sandbox.requests)
    for secret in ("s3cret", client.access_token, client.consumer_key, "AAAA", client.secret.hex()):
        assert secret not in shown


def test_authorization_of_another_kind_is_redacted(sandbox: Sandbox) -> None:
    headers = {"User-Agent": "x", "Authorization": "Bearer s3cret"}
    exchange(sandbox, "GET", "/v1/api/tickle", headers)
    assert sandbox.requests[-1].headers["authorization"] == "<redacted>"


def test_the_record_is_complete_when_the_answer_arrives(client: Client) -> None:
    for expected in range(len(client.sandbox.requests) + 1, 60):
        client.get("/tickle")
        assert len(client.sandbox.requests) == expected


def test_counts_outlive_the_record(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibkr_oauth.sandbox.record._COUNTED_PATHS", 3)
    for path in ("/tickle", "/tickle", "/a", "/b", "/c", "/tickle"):
        client.get(path)
    assert client.sandbox.counts == {
        "/v1/api/oauth/live_session_token": 1,
        "/v1/api/tickle": 3,
        "/v1/api/a": 1,
        "…": 2,
    }


def test_wait_until(client: Client) -> None:
    sandbox = client.sandbox
    thread = threading.Thread(target=client.get, args=("/tickle",))
    thread.start()
    sandbox.wait_until(lambda: "/v1/api/tickle" in sandbox.counts)
    thread.join()
    sandbox.wait_until(lambda: True, timeout=0)
    with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
        sandbox.wait_until(lambda: False, timeout=0.01)


def test_concurrent_clients(client: Client) -> None:
    """Eight threads, one nonce each time: nobody's request is taken for a replay."""
    statuses: list[int] = []

    def work() -> None:
        own = replace(client)
        statuses.extend(own.get("/portfolio/accounts").status for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
