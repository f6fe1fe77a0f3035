"""What a server or the network does to an exchange: a named error each, and the session goes on."""

import gzip
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.callers import (
    CALLERS,
    PLAIN,
    Caller,
    NoWaiting,
    assert_helpful,
    assert_hidden,
    assert_locals_hidden,
    counts,
    credentials,
    eventually,
    resident_bytes,
    secret_call,
    state_of_process,
)
from support.rogue import Peer, Rogue

from ibkr_oauth import Consumer, OutcomeUnknown, ResponseTooLarge, ServerError, Timeout, TransportError

SECRET_OF_THE_SERVER = b"leaked-by-server"
HEAD = b"HTTP/1.1 200 OK\r\n"


class Fault(NamedTuple):
    """`deed`: to the request, after `after` bytes of it or, with None, once it is there whole. `says`: in the error."""

    deed: Callable[[Peer], object]
    says: str
    after: int | None = None
    timeout: float = 5.0


def _send(data: bytes, then: Callable[[Peer], object]) -> Callable[[Peer], object]:
    return lambda peer: then(peer.send(data))


_BODY = HEAD + b"Content-Length: 99\r\n\r\n" + SECRET_OF_THE_SERVER
_CHUNK = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

# The request is on its way, or there. Nothing comes of it that could be read.
LOST = {
    "closed after part of the request": Fault(Peer.close, "connection closed without an answer|lost", after=20),
    "cut after part of the request": Fault(Peer.cut, "connection closed without an answer|lost", after=20),
    "reset after part of the request": Fault(Peer.reset, "connection lost", after=20),
    "closed after the request": Fault(Peer.close, "connection closed without an answer"),
    "cut after the request": Fault(Peer.cut, "connection closed without an answer"),
    "reset after the request": Fault(Peer.reset, "connection lost"),
    "closed in the status line": Fault(_send(b"HTTP/1.1 20", Peer.close), "connection closed without an answer"),
    "cut in the status line": Fault(_send(b"HTTP/1.1 20", Peer.cut), "connection closed without an answer"),
    "reset in the status line": Fault(_send(b"HTTP/1.1 20", Peer.reset), "connection lost"),
    "closed in the headers": Fault(_send(HEAD + b"X: leaked-by-server", Peer.close), "answer cut off"),
    "cut in the headers": Fault(_send(HEAD + b"X: leaked-by-server\r\n", Peer.cut), "answer cut off"),
    "reset in the headers": Fault(_send(HEAD + b"X: leaked-by-server\r\n", Peer.reset), "connection lost"),
    "closed in the body": Fault(_send(_BODY, Peer.close), "answer cut off"),
    "cut in the body": Fault(_send(_BODY, Peer.cut), "answer cut off"),
    "reset in the body": Fault(_send(_BODY, Peer.reset), "connection lost"),
    "closed in a chunk": Fault(_send(_CHUNK + b"63\r\nleaked-by-server", Peer.close), "answer cut off"),
    "closed between chunks": Fault(_send(_CHUNK + b"2\r\nok\r\n", Peer.close), "answer cut off"),
    "closed in the last chunk": Fault(_send(_CHUNK + b"2\r\nok\r\n0\r\n", Peer.close), "answer cut off"),
}

# An answer that is none.
WRONG = {
    "no HTTP": Fault(_send(b"leaked-by-server leaked-by-server\r\n\r\n", Peer.close), "answer is not HTTP"),
    "another protocol": Fault(_send(b"SSH-2.0-leaked-by-server\r\n", Peer.close), "answer is not HTTP"),
    "HTTP/0.9": Fault(_send(b"<html>leaked-by-server</html>", Peer.close), "answer is not HTTP"),
    "only an interim answer": Fault(_send(b"HTTP/1.1 100 Continue\r\n\r\n", Peer.close), "without an answer"),
    "NUL in a header": Fault(
        _send(HEAD + b"X: leaked-by-\0server\r\nContent-Length: 0\r\n\r\n", Peer.close), "answer is not HTTP"
    ),
    "a length that is none": Fault(
        _send(HEAD + b"Content-Length: leaked-by-server\r\n\r\n", Peer.close), "answer is not HTTP"
    ),
    "a chunk without a size": Fault(_send(_CHUNK + b"leaked-by-server\r\n", Peer.close), "while reading the answer"),
    "unknown compression": Fault(
        _send(HEAD + b"Content-Encoding: leaked-by-server\r\nContent-Length: 2\r\n\r\nok", Peer.close),
        "cannot be decompressed",
    ),
    "broken compression": Fault(
        _send(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 16\r\n\r\nleaked-by-server", Peer.close),
        "cannot be decompressed",
    ),
}

_LATE = "timed out while (waiting for|reading) the answer"

STALLED = {
    "no answer": Fault(Peer.stall, _LATE, timeout=0.1),
    "in the status line": Fault(_send(b"HTTP/1.1 20", Peer.stall), _LATE, timeout=0.1),
    "in the headers": Fault(_send(HEAD + b"X: ", Peer.stall), _LATE, timeout=0.1),
    "in the body": Fault(_send(_BODY, Peer.stall), _LATE, timeout=0.1),
    "after an interim answer": Fault(_send(b"HTTP/1.1 100 Continue\r\n\r\n", Peer.stall), _LATE, timeout=0.1),
    "one byte after the other": Fault(
        lambda peer: peer.send(HEAD + b"Content-Length: 9999\r\n\r\n").drip(b"x"),
        _LATE,
        timeout=0.1,
    ),
}

_BOMB = gzip.compress(bytes(80_000_000), 6)
_OVER = "of the answer (over the limit of|too large)"

# More than is ever taken in. What became of the request is known no better than that it was sent.
TOO_MUCH = {
    "headers": Fault(lambda peer: peer.send(HEAD).flood(b"X-Header: leaked-by-server\r\n" * 99), f"header {_OVER}"),
    "one header": Fault(lambda peer: peer.send(HEAD + b"X: ").flood(SECRET_OF_THE_SERVER * 99), f"header {_OVER}"),
    "a status line": Fault(lambda peer: peer.send(HEAD[:-2]).flood(SECRET_OF_THE_SERVER * 99), f"header {_OVER}"),
    "interim answers": Fault(lambda peer: peer.flood(b"HTTP/1.1 103 Early\r\n\r\n" * 99), f"header {_OVER}"),
    "trailers": Fault(lambda peer: peer.send(_CHUNK + b"0\r\n").flood(b"X-Trailer: leaked-by-server\r\n" * 99), _OVER),
    "a body": Fault(lambda peer: peer.send(HEAD + b"\r\n").flood(bytes(1 << 20)), f"body {_OVER}"),
    "a gzip bomb": Fault(lambda peer: peer.answer(_BOMB, headers="Content-Encoding: gzip\r\n"), f"body {_OVER}"),
    "a gzip bomb in a gzip bomb": Fault(
        lambda peer: peer.answer(gzip.compress(_BOMB), headers="Content-Encoding: gzip, gzip\r\n"), f"body {_OVER}"
    ),
}


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest, rogue: Rogue, consumer: Consumer, ca_file: Path) -> Iterator[Caller]:
    options = {**PLAIN, "base_url": rogue.base_url, "ca_file": ca_file}
    with CALLERS[request.param](**credentials(consumer), **options) as opened:
        yield opened


def fail(
    caller: Caller,
    rogue: Rogue,
    fault: Fault,
    method: str,
    expected: type[TransportError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One call that meets the fault, its error looked at from all sides, and a good call after it."""
    caplog.set_level(logging.DEBUG)
    if fault.after is None:
        rogue.answering(fault.deed)
    else:
        rogue.reading(fault.deed, fault.after)
    with pytest.raises(TransportError, match=fault.says) as caught:
        caller.request(method, "/portfolio/accounts", timeout=fault.timeout, **secret_call(method))
    error = caught.value
    assert type(error) is expected
    assert error.sent
    assert f"{method} 127.0.0.1:{rogue.port}/v1/api/portfolio/accounts" in error.message
    assert "leaked" not in str(error)
    assert_helpful(error)
    assert_hidden(error, caplog.records)
    before = len(rogue.requests)
    assert caller.request(method, "/portfolio/accounts").json() == {"fine": True}
    assert len(rogue.requests) == before + 1
    rogue.wait_for_connections(1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", LOST | WRONG)
def test_no_answer_that_could_be_read(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, name: str, method: str
) -> None:
    fail(caller, rogue, (LOST | WRONG)[name], method, TransportError if method == "GET" else OutcomeUnknown, caplog)


@pytest.mark.parametrize(("rogue", "method"), [("http", "GET"), ("https", "POST")], indirect=["rogue"])
@pytest.mark.parametrize("name", STALLED)
def test_stalled_servers(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, name: str, method: str
) -> None:
    caller.request("GET", "/portfolio/accounts")  # the connection is there: only the answer is waited for
    fail(caller, rogue, STALLED[name], method, Timeout if method == "GET" else OutcomeUnknown, caplog)


@pytest.mark.parametrize(("rogue", "method"), [("http", "GET"), ("https", "POST")], indirect=["rogue"])
@pytest.mark.parametrize("name", TOO_MUCH)
def test_answers_without_end(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, name: str, method: str
) -> None:
    fail(caller, rogue, TOO_MUCH[name], method, ResponseTooLarge, caplog)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_local_variables_hide_what_is_secret(caller: Caller, rogue: Rogue, method: str) -> None:
    rogue.answering(Peer.reset)
    with pytest.raises(TransportError) as caught:
        caller.request(method, "/portfolio/accounts", **secret_call(method))
    assert_locals_hidden(caught.value)


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("name", ["reset after the request", "closed in the body", "no HTTP"])
def test_faults_of_the_sessions_own_requests(
    kind: str, rogue: Rogue, consumer: Consumer, ca_file: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The caller's order was not sent at all, and the decrypted secret that was signed with shows nowhere."""
    caplog.set_level(logging.DEBUG)
    options = {**PLAIN, "base_url": rogue.base_url, "ca_file": ca_file, **credentials(consumer)}
    with CALLERS[kind](**{**options, "live_session_token": None}) as caller:
        rogue.answering(LOST[name].deed if name in LOST else WRONG[name].deed)
        with pytest.raises(TransportError, match=f"POST 127.0.0.1:{rogue.port}/v1/api/oauth") as caught:
            caller.request("POST", "/iserver/account/U1/orders", **secret_call("POST"))
    error = caught.value
    assert not isinstance(error, OutcomeUnknown)
    assert not error.sent
    assert_helpful(error)
    assert_hidden(error, caplog.records)
    assert_locals_hidden(error)
    assert [seen.target for seen in rogue.requests] == ["/v1/api/oauth/live_session_token"]


def test_compression_that_is_cut_off(caller: Caller, rogue: Rogue) -> None:
    """libcurl does not tell: half a body is at least no JSON."""
    body = gzip.compress(b"[" + b"12345," * 999 + b"0]")
    rogue.answering(lambda peer: peer.answer(body[:-20], headers="Content-Encoding: gzip\r\n"))
    with pytest.raises(ServerError, match="not JSON"):
        caller.request("GET", "/portfolio/accounts").json()
    assert caller.request("GET", "/portfolio/accounts").json() == {"fine": True}


@pytest.mark.parametrize("kind", CALLERS)
def test_reading_goes_on_newly_signed_after_any_of_them(
    kind: str, rogue: Rogue, consumer: Consumer, ca_file: str
) -> None:
    faults = [fault for fault in (LOST | WRONG).values() if fault.after is None]
    options = {**PLAIN, "base_url": rogue.base_url, "ca_file": ca_file, "retries": len(faults), "clock": NoWaiting()}
    for fault in faults:
        rogue.answering(fault.deed)
    with CALLERS[kind](**credentials(consumer), **options) as caller:
        assert caller.request("GET", "/portfolio/accounts").json() == {"fine": True}
        assert caller.session.health().counters.retries == len(faults)
    signatures = {seen.headers["authorization"] for seen in rogue.requests}
    assert len(signatures) == len(rogue.requests) == len(faults) + 1


@counts
@pytest.mark.parametrize("kind", CALLERS)
def test_nothing_is_left_behind(kind: str, rogue: Rogue, consumer: Consumer, ca_file: str) -> None:
    """Neither descriptors nor threads: not after faults, and not after the session."""
    at_first = state_of_process()
    with CALLERS[kind](**credentials(consumer), base_url=rogue.base_url, ca_file=ca_file, **PLAIN) as caller:
        meet(caller, rogue, LOST | WRONG)
        after_one_round = state_of_process()
        meet(caller, rogue, LOST | WRONG)
        eventually(after_one_round)
    del caller
    eventually(at_first)


@counts
@pytest.mark.parametrize("kind", CALLERS)
def test_memory_does_not_grow(kind: str, rogue: Rogue, consumer: Consumer, ca_file: str) -> None:
    """Some hundred failures, each with an answer of 64 KB that comes to nothing."""
    lost = _send(HEAD + b"Content-Length: 99999\r\n\r\n" + bytes(65536), Peer.close)
    faults = {"lost": Fault(lost, "cut off"), "reset": LOST["reset after the request"]}
    with CALLERS[kind](**credentials(consumer), base_url=rogue.base_url, ca_file=ca_file, **PLAIN) as caller:
        rounds = 75 if rogue.tls is None else 20  # the handshakes take their time
        for _ in range(rounds // 2):
            meet(caller, rogue, faults)
        rogue.requests.clear()
        before = resident_bytes()
        for _ in range(rounds):
            meet(caller, rogue, faults)
        rogue.requests.clear()
        assert resident_bytes() - before < 1_500_000  # 300 failures that keep 5 KB each would be more


def meet(caller: Caller, rogue: Rogue, faults: dict[str, Fault]) -> None:
    """Each of them with a GET and a POST, always on a fresh connection, and a good call afterwards."""
    for fault in faults.values():
        for method in ("GET", "POST"):
            if fault.after is None:
                rogue.answering(fault.deed)
            else:
                rogue.reading(fault.deed, fault.after)
            with pytest.raises(TransportError, match=fault.says):
                caller.request(method, "/portfolio/accounts", **secret_call(method))
    rogue.answering(lambda peer: peer.answer(headers="Connection: close\r\n"))
    assert caller.request("GET", "/portfolio/accounts").json() == {"fine": True}
    rogue.wait_for_connections(0)
