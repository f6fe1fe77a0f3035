"""Misbehaviour of the connection: cut at every stage, late, and gone for a restart."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import time
from asyncio import sslproto
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.sandbox.faults import Faults
from ibkr_oauth.sandbox.wire import Wire

from .conftest import Connect
from .reference import Client

TICKLE = "/v1/api/tickle"


@pytest.fixture(params=[False, True], ids=["http", "tls"])
def client(request: pytest.FixtureRequest, connect: Connect) -> Iterator[Client]:
    with Sandbox(tls=request.param) as sandbox:
        client = connect(sandbox, granted=True)
        assert client.get_live_session_token().status == 200
        yield client


@contextmanager
def connection(sandbox: Sandbox) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as plain:
        if sandbox.ca_file is None:
            yield plain
        else:
            context = ssl.create_default_context(cafile=str(sandbox.ca_file))
            with context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as wrapped:
                yield wrapped


def read_to_the_cut(own: socket.socket) -> bytes:
    """What arrives before the connection is reset, which it must be: an orderly end is no cut.

    Under TLS, OpenSSL tells of the reset as of an end without notice."""
    received = list[bytes]()

    def read() -> None:
        while chunk := own.recv(65536):
            received.append(chunk)

    with pytest.raises(
        (ConnectionResetError, ssl.SSLEOFError) if isinstance(own, ssl.SSLSocket) else ConnectionResetError
    ):
        read()
    return b"".join(received)


# --- Cut ------------------------------------------------------------------------------------------


def test_before_processing(client: Client) -> None:
    client.sandbox.drop_connection(before_processing=True)
    request = client.raw("POST", "/logout")
    with connection(client.sandbox) as own:
        own.sendall(request)
        assert read_to_the_cut(own) == b""
    dropped = client.sandbox.requests[-1]
    assert (dropped.path, dropped.status, dropped.processed) == ("/v1/api/logout", 0, False)
    assert dropped.dropped == "before processing"
    with connection(client.sandbox) as own:  # the nonce was not used up: nobody has looked at it
        own.sendall(request)
        assert own.recv(12) == b"HTTP/1.1 200"


def test_before_the_answer(client: Client) -> None:
    client.sandbox.drop_connection()
    request = client.raw("POST", "/logout")
    with connection(client.sandbox) as own:
        own.sendall(request)
        assert read_to_the_cut(own) == b""
    dropped = client.sandbox.requests[-1]
    assert (dropped.status, dropped.processed, dropped.dropped) == (200, True, "before the answer")
    with connection(client.sandbox) as own:
        own.sendall(request)
        assert own.recv(12) == b"HTTP/1.1 401"  # a replay


def test_a_client_that_leaves_before_it_has_said_all(client: Client) -> None:
    """Half a request is none: nothing is done, and nothing is written down."""
    request = client.raw("POST", "/logout", form="a=1")
    before = len(client.sandbox.requests)
    with connection(client.sandbox) as own:
        own.sendall(request[:-1])
    with connection(client.sandbox) as own:
        own.sendall(request)
        assert own.recv(12) == b"HTTP/1.1 200"
    assert len(client.sandbox.requests) == before + 1


@pytest.mark.parametrize("after_bytes", [1, 16, 150])
def test_in_the_answer(client: Client, after_bytes: int) -> None:
    client.sandbox.drop_connection(after_bytes, path="/tickle")
    assert client.get("/portfolio/accounts").status == 200
    with connection(client.sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        received = read_to_the_cut(own)
    assert len(received) == after_bytes
    assert b"HTTP/1.1 200 OK".startswith(received[:15])
    dropped = client.sandbox.requests[-1]
    assert (dropped.status, dropped.processed, dropped.dropped) == (200, True, "in the answer")
    assert client.get("/tickle").status == 200


def test_after_the_answer(client: Client) -> None:
    client.sandbox.drop_connection(1_000_000)
    with connection(client.sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        head, _, body = read_to_the_cut(own).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert body.endswith(b"}")


def test_a_body_of_some_length(client: Client) -> None:
    client.sandbox.tamper_next("/tickle", lambda _: b"x" * 100_000)
    client.sandbox.drop_connection(50_000)
    with connection(client.sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        assert len(read_to_the_cut(own)) == 50_000


def test_times_and_order(client: Client) -> None:
    sandbox = client.sandbox
    sandbox.drop_connection(times=2)
    sandbox.drop_connection(before_processing=True)
    for _ in range(3):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLEOFError)):
            client.get("/tickle")
    assert client.get("/tickle").status == 200
    assert [one.processed for one in sandbox.requests[-4:]] == [True, True, False, True]


def test_a_refused_request_is_not_processed(client: Client) -> None:
    client.get("/tickle", signature="AAAA")
    client.get("/iserver/accounts")
    client.get("/nowhere")
    assert [one.processed for one in client.sandbox.requests[-3:]] == [False, False, False]


def test_at_random() -> None:
    def sequence(seed: int) -> list[str]:
        faults = Faults()
        faults.drop_randomly(0.25, seed)
        return [drop.stage if (drop := faults.next_drop("/tickle")) else "" for _ in range(400)]

    seen = Counter(sequence(1))
    assert set(seen) == {"", "before processing", "before the answer", "in the answer"}
    assert 250 < seen[""] < 350
    assert min(seen.values()) > 15
    assert sequence(1) == sequence(1) != sequence(2)


def test_at_random_on_the_wire(client: Client) -> None:
    client.sandbox.drop_randomly(1.0, seed=7)
    arrived = 0
    for _ in range(12):
        with connection(client.sandbox) as own:
            own.sendall(client.raw("GET", "/tickle"))
            arrived += len(read_to_the_cut(own)) > 0
    stages = Counter(one.dropped for one in client.sandbox.requests[-12:])
    assert set(stages) == {"before processing", "before the answer", "in the answer"}
    assert arrived == stages["in the answer"]
    client.sandbox.drop_randomly(0)
    assert client.get("/tickle").status == 200


def test_idle_connections(client: Client) -> None:
    with connection(client.sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        assert own.recv(12) == b"HTTP/1.1 200"
        client.sandbox.drop_connections()
        read_to_the_cut(own)
    assert client.get("/tickle").status == 200


def test_an_answer_travels_in_one_packet(client: Client) -> None:
    with connection(client.sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        head, _, body = own.recv(65536).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head


def test_pipelined_and_closing_requests(client: Client) -> None:
    """The gathering of an answer must not stand in the way of what HTTP allows."""
    with connection(client.sandbox) as own:
        closing = client.raw("GET", "/portfolio/accounts", headers={"Connection": "close"})
        own.sendall(client.raw("GET", "/tickle") + client.raw("POST", "/tickle") + closing)
        received = b""
        while chunk := own.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.endswith(b"]")


# --- Late -----------------------------------------------------------------------------------------


def test_delay(client: Client) -> None:
    """Processed at once, answered late; others do not wait."""
    sandbox, finished = client.sandbox, list[str]()
    sandbox.delay(0.3, path="/logout")

    def slow() -> None:
        assert client.post("/logout").status == 200
        finished.append("slow")

    thread = threading.Thread(target=slow)
    began = time.monotonic()
    thread.start()
    sandbox.wait_until(lambda: "/v1/api/logout" in sandbox.counts)
    assert sandbox.requests[-1].processed
    assert client.get("/tickle").status == 200
    finished.append("quick")
    thread.join()
    assert finished == ["quick", "slow"]
    assert time.monotonic() - began >= 0.3
    assert client.post("/logout").status == 200


def test_a_client_that_gives_up(client: Client) -> None:
    """And a sandbox that stops: neither waits for a late answer."""
    client.sandbox.delay(60, times=2)
    for number in (1, 2):
        with connection(client.sandbox) as own:
            own.sendall(client.raw("GET", "/tickle"))
            client.sandbox.wait_until(lambda number=number: client.sandbox.counts.get(TICKLE) == number)
            if number == 2:
                began = time.monotonic()
                client.sandbox.stop()
                assert time.monotonic() - began < 1


def test_nonsense_cannot_be_armed() -> None:
    sandbox = Sandbox()
    for wrong in (
        lambda: sandbox.drop_connection(-1),
        lambda: sandbox.drop_connection(times=0),
        lambda: sandbox.drop_connection(5, before_processing=True),
        lambda: sandbox.drop_randomly(1.5),
        lambda: sandbox.drop_randomly(float("nan")),
        lambda: sandbox.delay(-1),
        lambda: sandbox.delay(float("inf")),
        lambda: sandbox.delay(1, times=0),
    ):
        with pytest.raises(ValueError, match=r"times|after_bytes|probability|seconds"):
            wrong()


def test_a_connection_that_was_closed_twice_can_be_aborted() -> None:
    """Closing waits for the client's goodbye; a stop does not. Python 3.11's TLS transport breaks on a second close."""

    async def close_twice_and_abort() -> None:
        loop = asyncio.get_running_loop()
        protocol = sslproto.SSLProtocol(
            loop, asyncio.Protocol(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), None, server_side=True
        )
        transport = protocol._get_app_transport()
        wire = Wire(transport)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            wire._socket = ours
            transport.close()
            transport.close()
            wire.abort()
            if transport._ssl_protocol is None:
                theirs.settimeout(5)
                assert theirs.recv(1) == b""

    asyncio.run(close_twice_and_abort())


# --- Restart --------------------------------------------------------------------------------------


def test_restart(client: Client) -> None:
    """The same port, certificate and memory; what was connected is not."""
    sandbox = client.sandbox
    client.open_brokerage()
    base_url, ca_file = sandbox.base_url, sandbox.ca_file
    authority = ca_file.read_bytes() if ca_file else b""
    with connection(sandbox) as own:
        own.sendall(client.raw("GET", "/tickle"))
        assert own.recv(12) == b"HTTP/1.1 200"
        replayed = client.raw("GET", "/tickle")
        own.sendall(replayed)
        own.recv(12)
        sandbox.restart()
        with suppress(ConnectionResetError, ssl.SSLEOFError):
            while own.recv(65536):
                pass
    assert (sandbox.base_url, sandbox.ca_file) == (base_url, ca_file)
    assert ca_file is None or ca_file.read_bytes() == authority
    assert client.get("/iserver/accounts").status == 200
    with connection(sandbox) as own:
        own.sendall(replayed)
        assert own.recv(12) == b"HTTP/1.1 401"
    assert sandbox.counts[TICKLE] == 3


def test_stop_and_start_again(client: Client) -> None:
    sandbox, ca_file = client.sandbox, client.sandbox.ca_file
    port = sandbox.port
    with pytest.raises(RuntimeError, match="is running"):
        sandbox.start()
    sandbox.stop()
    assert ca_file is None or not ca_file.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    with pytest.raises(RuntimeError, match="not running"):
        sandbox.restart()
    sandbox.start()
    assert (sandbox.port, sandbox.ca_file) == (port, ca_file)
    assert client.get("/tickle").status == 200


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_restarts_while_clients_are_busy(client: Client) -> None:
    # Python's wrap_socket does not close a socket that was reset just before it, and so warns of itself.
    stopped, statuses = threading.Event(), Counter[object]()

    def work() -> None:
        own = replace(client)
        while not stopped.is_set():
            try:
                statuses[own.get("/tickle").status] += 1
            except (OSError, http.client.HTTPException) as error:
                statuses[type(error)] += 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        good = statuses[200]
        client.sandbox.wait_until(lambda good=good: statuses[200] > good)
        client.sandbox.restart(0.01)
    stopped.set()
    for thread in threads:
        thread.join()
    assert {one for one in statuses if isinstance(one, int)} == {200}
    assert client.get("/tickle").status == 200
