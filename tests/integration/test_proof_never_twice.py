"""Thousands of POSTs through connections that break: each arrives at most once, and its caller knows what became of it.

Three things can be true of a request: it was done, it was not done, or nobody can know. Each report is held against
what the server saw.
"""

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from support.proof_clock import SimulatedClock

from ibkr_oauth import (
    AccessToken,
    AsyncSession,
    Consumer,
    IBKROAuthError,
    LiveSessionToken,
    OutcomeUnknown,
    Response,
    Session,
)
from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.sandbox.certificate import Certificate

_SERVER = Path(__file__).parents[1] / "support" / "proof_breaking_server.py"
_THREADS = 8
_TASKS = 64
_SIZES = pytest.mark.parametrize(
    "posts", [1000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)

Knowledge = Literal["done", "not done", "unknown"]
Reports = dict[int, Knowledge]
#: Sends so many POSTs at once from many places: path and body of each by its number.
SendAll = Callable[[dict[str, Any], int, Callable[[int], tuple[str, object]]], Reports]


def knowledge(outcome: Response | IBKROAuthError) -> Knowledge:
    """What a caller knows, by what the documentation tells him to look at."""
    if isinstance(outcome, Response):
        return "done" if outcome.status_code == 200 else "not done"
    if isinstance(outcome, OutcomeUnknown):
        return "unknown"
    assert not outcome.sent, f"neither unknown nor unsent: {outcome!r}"
    return "not done"


def send_from_threads(options: dict[str, Any], posts: int, describe: Callable[[int], tuple[str, object]]) -> Reports:
    with Session(**options) as ibkr, ThreadPoolExecutor(_THREADS) as pool:

        def post(number: int) -> Knowledge:
            path, body = describe(number)
            try:
                return knowledge(ibkr.post(path, json=body))
            except IBKROAuthError as error:
                return knowledge(error)

        return dict(enumerate(pool.map(post, range(posts))))


def send_from_tasks(options: dict[str, Any], posts: int, describe: Callable[[int], tuple[str, object]]) -> Reports:
    async def main() -> Reports:
        numbers = iter(range(posts))
        reports: Reports = {}

        async def worker() -> None:
            for number in numbers:
                path, body = describe(number)
                try:
                    reports[number] = knowledge(await ibkr.post(path, json=body))
                except IBKROAuthError as error:
                    reports[number] = knowledge(error)

        async with AsyncSession(**options) as ibkr:
            await asyncio.gather(*(worker() for _ in range(_TASKS)))
        return reports

    return asyncio.run(main())


@pytest.fixture(params=[send_from_threads, send_from_tasks], ids=["threads", "tasks"])
def send_all(request: pytest.FixtureRequest) -> SendAll:
    chosen: SendAll = request.param
    return chosen


# --- Every byte of the way -----------------------------------------------------------------------


@pytest.fixture
def certificate() -> Iterator[Certificate]:
    made = Certificate({"127.0.0.1"})
    made.write()
    yield made
    made.remove()


class BreakingServer:
    """The program of that name; `stop` returns its notes."""

    def __init__(self, certificate: Certificate, seed: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, _SERVER, certificate.file, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.base_url = f"https://127.0.0.1:{int(self._process.stdout.readline())}/v1/api"

    def stop(self) -> dict[str, dict[str, Any]]:
        output, _ = self._process.communicate(timeout=30)
        notes: dict[str, dict[str, Any]] = json.loads(output)
        return notes


@_SIZES
def test_connections_that_break_at_every_stage(
    posts: int, send_all: SendAll, certificate: Certificate, consumer: Consumer
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    bodies = [{"fill": "x" * random.Random(seed + size).choice([10, 1000, 40_000])} for size in range(20)]
    server = BreakingServer(certificate, seed)
    try:
        reports = send_all(
            {
                "consumer": consumer,
                "access_token": AccessToken("0" * 20, "QUJD"),
                "live_session_token": LiveSessionToken("A" * 27 + "="),
                "base_url": server.base_url,
                "ca_file": certificate.ca_file,
                "brokerage": "never",
                "pacing": None,
                "keep_alive": None,
                "clock": SimulatedClock(),  # nobody waits for the pauses before a repetition
            },
            posts,
            lambda number: (f"/order/{number}", bodies[number % len(bodies)]),
        )
    finally:
        notes = server.stop()
    _compare(reports, posts, notes)


def _compare(reports: Reports, posts: int, notes: dict[str, dict[str, Any]]) -> None:
    whole = {int(number) for number in notes["whole"]}
    part = {int(number) for number in notes["part"]}
    fates = {int(number): fate for number, fate in notes["fate_of"].items()}
    by_knowledge = {
        kind: {number for number, known in reports.items() if known == kind} for kind in ("done", "not done", "unknown")
    }
    print(notes["fates"], Counter(reports.values()))

    assert len(reports) == posts
    assert set(notes["part"].values()) == {1}, "a POST arrived twice"
    assert whole <= part
    assert by_knowledge["done"] <= whole
    assert not by_knowledge["not done"] & part
    assert {fates[number] for number in by_knowledge["unknown"] & part} <= {
        "partly read",
        "unanswered",
        "partly answered",
        "answered, then reset",  # which may destroy an answer that was not read yet
    }
    unread, unused, unborn, reset, closed = (
        notes["fates"][fate]
        for fate in (
            "unread",
            "reset before a request",
            "reset in the handshake",
            "answered, then reset",
            "answered, then closed",
        )
    )
    # After an answer the connection may be used again before its end is seen.
    assert len(by_knowledge["unknown"] - part) <= unread + unused + reset + closed
    assert 3 * len(by_knowledge["not done"]) <= unborn + unused, "what was not sent must be tried three times"
    assert all(by_knowledge.values()), "all three must occur, or this shows nothing"


# --- Orders, at a server that checks everything --------------------------------------------------

_ORDERS = "/iserver/account/{}/orders"


@pytest.fixture
def options(reach: dict[str, Any]) -> dict[str, Any]:
    return {
        **reach,
        "pacing": None,
        "keep_alive": None,
        "clock": SimulatedClock(),
    }


@pytest.fixture
def orders_path(options: dict[str, Any]) -> str:
    with Session(**options) as ibkr:
        return _ORDERS.format(ibkr.get("/iserver/accounts").json()["accounts"][0])


def _order(number: int) -> dict[str, Any]:
    order = {"conid": 265598, "side": "BUY", "orderType": "LMT", "price": 1, "quantity": 1, "cOID": str(number)}
    return {"orders": [order]}


def test_orders_while_everything_breaks(
    send_all: SendAll, sandbox: Sandbox, options: dict[str, Any], orders_path: str
) -> None:
    """Dropped connections, tokens that expire and brokerage sessions that end: all at once."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")

    def describe(number: int) -> tuple[str, object]:
        if number % 50 == 20:
            sandbox.expire_token()
        if number % 50 == 40:
            sandbox.end_brokerage()
        return orders_path, _order(number)

    sandbox.drop_randomly(0.2, seed)
    reports = send_all({**options, "retries": 5}, 600, describe)
    arrived = Counter(int(order.coid or -1) for order in sandbox.orders)
    known = {
        kind: {number for number, one in reports.items() if one == kind} for kind in ("done", "not done", "unknown")
    }
    dropped = Counter(
        request.processed for request in sandbox.requests if request.dropped and request.path.endswith("/orders")
    )
    print(Counter(reports.values()), dropped)

    assert len(reports) == 600
    assert set(arrived.values()) == {1}, "an order arrived twice"
    assert known["done"] <= set(arrived)
    assert not known["not done"] & set(arrived)
    assert len(known["unknown"]) == dropped.total(), "unknown is what was dropped, and nothing else"
    assert len(known["unknown"] & set(arrived)) == dropped[True]
    assert known["done"]
    assert known["unknown"]


@pytest.mark.parametrize("before_processing", [True, False])
@pytest.mark.parametrize("path", ["/oauth/live_session_token", "/iserver/auth/ssodh/init", "/iserver/accounts"])
def test_order_that_was_not_sent_is_known_as_not_done(
    send_all: SendAll,
    sandbox: Sandbox,
    options: dict[str, Any],
    orders_path: str,
    path: str,
    before_processing: bool,
) -> None:
    """What the session sends on its own account before the order may fail in every way: the order was not sent."""
    sandbox.drop_connection(times=100, path=path, before_processing=before_processing)
    assert send_all(options, 3, lambda number: (orders_path, _order(number))) == dict.fromkeys(range(3), "not done")
    assert not sandbox.orders
