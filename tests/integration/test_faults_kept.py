"""A connection that was kept, and ends: while nobody uses it, or under the next request."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.callers import CALLERS, PLAIN, Caller, assert_helpful, credentials
from support.rogue import PATIENCE, Peer, Rogue

from ibkr_oauth import Consumer, OutcomeUnknown, TransportError

ENDINGS: dict[str, Callable[[Peer], object]] = {"closed": Peer.close, "cut": Peer.cut, "reset": Peer.reset}
ORDERS = "/iserver/account/U1/orders"


@pytest.fixture(params=CALLERS)
def caller(
    request: pytest.FixtureRequest,
    rogue: Rogue,
    consumer: Consumer,
    ca_file: Path,
) -> Iterator[Caller]:
    options = {**PLAIN, "base_url": rogue.base_url, "ca_file": ca_file}
    with CALLERS[request.param](**credentials(consumer), **options) as opened:
        yield opened


class Idle:
    """A deed: a good answer and then, once the client has had it and called `over`, something else."""

    def __init__(self, then: Callable[[Peer], object]) -> None:
        self._then = then
        self._read = threading.Event()
        self._done = threading.Event()

    def __call__(self, peer: Peer) -> None:
        peer.answer()
        assert self._read.wait(PATIENCE)
        self._then(peer)
        self._done.set()

    def over(self) -> None:
        """Returns when it is done."""
        self._read.set()
        assert self._done.wait(PATIENCE)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_that_ended_while_idle(caller: Caller, rogue: Rogue, ending: str, method: str) -> None:
    """Servers close what is idle for long. An order must not become "outcome unknown" for that, every time."""
    for number in range(3):
        idle = Idle(ENDINGS[ending])
        rogue.answering(idle)
        assert caller.request(method, ORDERS).json() == {"fine": True}
        idle.over()
        assert len(rogue.requests) == rogue.connections == number + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_came_while_idle_is_no_answer(caller: Caller, rogue: Rogue, method: str) -> None:
    """Nobody asked for it: else it would be taken for the answer to the next request."""
    idle = Idle(lambda peer: peer.answer(b'{"fine":false}'))
    rogue.answering(idle)
    assert caller.request("GET", ORDERS).json() == {"fine": True}
    idle.over()
    assert caller.request(method, ORDERS).json() == {"fine": True}
    assert rogue.connections == 2


@pytest.mark.parametrize("after", [20, None])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_post_under_which_a_kept_connection_ends(
    caller: Caller, rogue: Rogue, ending: str, after: int | None
) -> None:
    """The server may have read it: once, and no more."""
    caller.request("POST", ORDERS)
    if after is None:
        rogue.answering(ENDINGS[ending])
    else:
        rogue.reading(ENDINGS[ending], after)
    with pytest.raises(OutcomeUnknown, match=r"connection lost|closed without an answer") as caught:
        caller.request("POST", ORDERS, json={"order": 1})
    assert caught.value.sent
    assert_helpful(caught.value)
    assert [seen.body for seen in rogue.requests].count(b'{"order":1}') == (1 if after is None else 0)
    assert caller.request("POST", ORDERS, json={"order": 2}).json() == {"fine": True}
    assert [seen.body for seen in rogue.requests].count(b'{"order":2}') == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_attempt_is_signed_anew(caller: Caller, rogue: Rogue, ending: str) -> None:
    """Also a GET's, which may be repeated: a server that has seen the nonce would refuse the second one."""
    caller.request("GET", ORDERS)
    rogue.answering(ENDINGS[ending])
    try:
        caller.request("GET", ORDERS)
    except TransportError as error:
        assert error.sent  # noqa: PT017 - with `retries` at 0, this is as good as an answer
    signatures = [seen.headers["authorization"] for seen in rogue.requests]
    assert len(set(signatures)) == len(signatures)


@pytest.mark.parametrize("name", ["status line", "headers", "body"])
def test_no_replay_once_an_answer_has_begun(caller: Caller, rogue: Rogue, name: str) -> None:
    begun = {"status line": b"HTTP/1.1 2", "headers": b"HTTP/1.1 200 OK\r\nX: ", "body": b"HTTP/1.1 200 OK\r\n\r\n1"}
    caller.request("POST", ORDERS)
    rogue.answering(lambda peer: peer.send(begun[name]).reset())
    with pytest.raises(OutcomeUnknown):
        caller.request("POST", ORDERS)
    assert len(rogue.requests) == 2
