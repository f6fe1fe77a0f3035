"""From the constructor, which does nothing, to `close`, after which nothing goes out."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.drivers import DRIVERS, AsyncDriver, Driver, SyncDriver
from support.fake_clock import START, FakeClock, PatientClock
from support.fake_service import ACCOUNTS, INIT, LST, ORDERS, Answer, AsyncCarrier, Carrier, FakeService

from ibkr_oauth import AccessToken, AsyncSession, Consumer, Event, Session
from ibkr_oauth.errors import ConnectError, RateLimited, SessionClosed, UsageError
from ibkr_oauth.paths import CONCURRENT_CALLS

from .conftest import live_token

Open = Callable[..., Driver]
PATH = "/portfolio/DU1/summary"
SNAPSHOT = "/iserver/marketdata/snapshot"


# --- The constructor -----------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [Session, AsyncSession])
def test_the_constructor_does_nothing(
    maker: Any, consumer: Consumer, access_token: AccessToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network, no thread, no signal handler, no other logger, and no event loop is needed."""
    import signal

    def forbidden(*arguments: object, **options: object) -> Any:
        raise AssertionError("the constructor reaches out")

    for owner, name in (
        (socket, "socket"),
        (socket, "getaddrinfo"),
        (threading.Thread, "start"),
        (signal, "signal"),
        (signal, "set_wakeup_fd"),
    ):
        monkeypatch.setattr(owner, name, forbidden)
    tasks = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0  # noqa: PTH208
    handlers = list(logging.getLogger().handlers)
    session = maker(consumer, access_token, base_url="https://127.0.0.1:9/v1/api")
    assert session.health().state == "new"
    if tasks:
        assert len(os.listdir("/proc/self/task")) == tasks  # noqa: PTH208
    assert logging.getLogger().handlers == handlers


def test_nothing_is_sent_before_the_first_call(open_session: Open, service: FakeService) -> None:
    ibkr = open_session(live_session_token=None)
    ibkr.health()
    repr(ibkr.session)
    assert service.seen == []
    ibkr.get(PATH)
    assert service.paths() == [LST, PATH]


def test_open(open_session: Open, service: FakeService) -> None:
    ibkr = open_session(live_session_token=None)
    assert ibkr.open() is ibkr.session
    ibkr.open()
    assert service.paths() == [LST]


def test_context_manager(consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock) -> None:
    options: dict[str, Any] = {"clock": clock, "pacing": None}
    with Session(consumer, access_token, transport=Carrier(service), **options) as ibkr:
        ibkr.get(PATH)
    assert ibkr.health().state == "closed"

    async def run() -> AsyncSession:
        async with AsyncSession(consumer, access_token, transport=AsyncCarrier(service), **options) as ibkr:
            await ibkr.get(PATH)
        return ibkr

    assert asyncio.run(run()).health().state == "closed"


def test_pickling_is_refused(open_session: Open) -> None:
    """In words that say what to do; copying would share keys as well."""
    ibkr = open_session()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds keys; make one in each process"):
            attempt(ibkr.session)


@pytest.mark.parametrize("base_url", ["https://api.ibkr.com/v1/api", "https://localhost/IBKRX"])
def test_what_other_clients_may_ask(
    open_session: Open, consumer: Consumer, access_token: AccessToken, base_url: str
) -> None:
    ibkr = open_session(base_url=f"{base_url}/")
    assert (ibkr.base_url, ibkr.consumer, ibkr.access_token) == (base_url, consumer, access_token)


# --- close() -------------------------------------------------------------------------------------


def test_close_may_be_called_again(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.get(SNAPSHOT)
    for _ in range(3):
        ibkr.close()
    assert service.count("/logout") == 1
    assert [event.kind for event in events] == ["brokerage_opened", "closed"]


def test_close_logs_out_only_what_it_opened(open_session: Open, service: FakeService) -> None:
    service.authenticated = True  # by another program of the same user
    ibkr = open_session(brokerage="never")
    assert ibkr.get(SNAPSHOT).status_code == 200
    ibkr.tickle()
    assert ibkr.status().authenticated
    ibkr.close()
    assert service.count("/logout") == 0


@pytest.mark.parametrize("taken", [False, True])
def test_close_does_not_log_out_what_it_lost(open_session: Open, service: FakeService, taken: bool) -> None:
    """A log-out would throw out the other one."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.compete() if taken else service.lose_brokerage()
    ibkr.tickle()
    ibkr.close()
    assert service.count("/logout") == 0


FAREWELLS = [
    ConnectError("refused"),
    Answer(500, "oops"),
    Answer(401),
    Answer(503),
    Answer(429, "", headers=(("Retry-After", "25"),)),
]


@pytest.mark.parametrize("farewell", FAREWELLS, ids=["connect", "500", "401", "503", "429"])
def test_a_log_out_that_fails_is_no_error(
    open_session: Open, service: FakeService, clock: FakeClock, farewell: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried once, nobody waits for it, and nothing is renewed for it."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.script("/logout", *[farewell] * 3)
    ibkr.close()
    assert service.paths()[2:] == ["/logout"]
    assert service.seen[-1].timeout <= 5
    assert clock.slept == []
    assert ibkr.health().state == "closed"
    assert not [
        record
        for record in caplog.records
        if record.levelno > logging.INFO and "rate limited" not in record.getMessage()
    ]


def test_close_does_not_mask_the_first_error(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    token = live_token(service, access_token)
    service.script("/logout", Answer(500, "oops"))

    def use() -> None:
        with Session(consumer, access_token, transport=Carrier(service), clock=clock, live_session_token=token) as ibkr:
            ibkr.get(SNAPSHOT)
            raise KeyError("the first")

    with pytest.raises(KeyError, match="the first"):
        use()
    assert service.count("/logout") == 1


def test_close_does_not_wait_for_a_place(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Neither for the pace, nor for the end of a penalty."""
    ibkr = open_session(pacing=1, retries=0)
    ibkr.get(SNAPSHOT)
    service.script(PATH, Answer(429, "", headers=(("Retry-After", "25"),)))
    ibkr.get(PATH)
    clock.slept.clear()
    ibkr.close()
    assert clock.slept == []


USES: dict[str, Callable[[Any], Any]] = {
    "get": lambda ibkr: ibkr.get(PATH),
    "post": lambda ibkr: ibkr.post(ORDERS, json={}),
    "open": lambda ibkr: ibkr.open(),
    "status": lambda ibkr: ibkr.status(),
    "tickle": lambda ibkr: ibkr.tickle(),
    "refresh": lambda ibkr: ibkr.refresh(),
    "sign": lambda ibkr: ibkr.sign("GET", f"{ibkr.base_url}{PATH}"),
    "brokerage.open": lambda ibkr: ibkr.brokerage.open(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_closed_session_is_of_no_use(open_session: Open, service: FakeService, use: Callable[[Any], Any]) -> None:
    ibkr = open_session()
    ibkr.close()
    with pytest.raises(SessionClosed, match="closed"):
        use(ibkr)
    assert service.seen == []
    assert ibkr.health().state == "closed"


def test_a_session_that_was_never_used_closes(open_session: Open, service: FakeService) -> None:
    open_session(live_session_token=None).close()
    assert service.seen == []


# --- close() from elsewhere ----------------------------------------------------------------------


class Closing:
    """A call that waits for something, in a thread or task, and `close` from another."""

    def __init__(
        self, kind: str, consumer: Consumer, access_token: AccessToken, service: FakeService, **options: Any
    ) -> None:
        token = live_token(service, access_token)
        carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
        self.driver = DRIVERS[kind](
            consumer, access_token, transport=carrier, **{"live_session_token": token} | options
        )

    def outcome(self, call: Callable[[Any], Any], waiting: threading.Event | threading.Semaphore) -> Any:
        """What becomes of the call when the session is closed while it waits."""
        if isinstance(self.driver, SyncDriver):
            return self.driver.together(call, lambda session: (self._wait(waiting), session.close()))[0]
        assert isinstance(self.driver, AsyncDriver)

        async def close(session: AsyncSession) -> None:
            while not (waiting.is_set() if isinstance(waiting, threading.Event) else waiting.acquire(blocking=False)):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await session.close()

        return self.driver.together(call, close)[0]

    def _wait(self, waiting: threading.Event | threading.Semaphore) -> None:
        assert waiting.wait(10) if isinstance(waiting, threading.Event) else waiting.acquire(timeout=10)


@pytest.fixture
def patient(consumer: Consumer, secret: dict[str, str]) -> FakeService:
    """A service on a clock by which waiting never ends."""
    return FakeService(consumer, bytes.fromhex(secret["plaintext_hex"]), PatientClock())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_close_ends_who_waits_for_a_place(
    kind: str, consumer: Consumer, access_token: AccessToken, patient: FakeService, method: str
) -> None:
    """And nothing of it goes out afterwards: an order would, long after everybody went home."""
    clock = patient.clock
    assert isinstance(clock, PatientClock)
    closing = Closing(kind, consumer, access_token, patient, clock=clock, pacing=1)
    with closing.driver as ibkr:
        ibkr.get(PATH)
        patient.seen.clear()
        outcome = closing.outcome(lambda session: session.request(method, PATH), clock.waiting)
    assert isinstance(outcome, SessionClosed)
    assert patient.seen == []


def test_close_ends_who_waits_to_try_again(
    kind: str, consumer: Consumer, access_token: AccessToken, patient: FakeService
) -> None:
    clock = patient.clock
    assert isinstance(clock, PatientClock)
    patient.script(PATH, Answer(503), Answer(503))
    closing = Closing(kind, consumer, access_token, patient, clock=clock, pacing=None)
    with closing.driver:
        outcome = closing.outcome(lambda session: session.get(PATH), clock.waiting)
    assert isinstance(outcome, SessionClosed)
    assert patient.paths() == [PATH]


def test_close_ends_who_waits_for_the_brokerage_session(
    kind: str, consumer: Consumer, access_token: AccessToken, patient: FakeService
) -> None:
    clock = patient.clock
    assert isinstance(clock, PatientClock)
    patient.looks = 3
    closing = Closing(kind, consumer, access_token, patient, clock=clock, pacing=None)
    with closing.driver:
        outcome = closing.outcome(lambda session: session.post(ORDERS, json={}), clock.waiting)
    assert isinstance(outcome, SessionClosed)
    assert patient.paths() == [INIT]


def test_close_ends_who_waits_for_a_token_to_be_tried_again(
    kind: str, consumer: Consumer, access_token: AccessToken, patient: FakeService
) -> None:
    clock = patient.clock
    assert isinstance(clock, PatientClock)
    patient.script(LST, Answer(503), Answer(503), Answer(503))
    closing = Closing(kind, consumer, access_token, patient, clock=clock, pacing=None, live_session_token=None)
    with closing.driver:
        outcome = closing.outcome(lambda session: session.get(PATH), clock.waiting)
    assert isinstance(outcome, SessionClosed)
    assert patient.paths() == [LST]


def test_close_ends_a_call_under_way(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """Its own transport does that; and one that waits for the same renewal does not start its own."""
    hold = service.hold(LST)
    closing = Closing("sync", consumer, access_token, service, clock=clock, pacing=None, live_session_token=None)
    with closing.driver as ibkr:

        def close(session: Session) -> None:
            assert hold.arrived.acquire(timeout=10)
            session.close()

        outcomes = ibkr.together(*[lambda session: session.get(PATH)] * 4, close)
    assert {type(outcome) for outcome in outcomes[:4]} == {SessionClosed}
    assert set(service.paths()) == {LST}
    assert len(service.paths()) == 1


def test_close_ends_the_renewal_in_the_background(
    kind: str, open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """That is no failure of anything."""
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    clock.advance(86_400 - 100)
    service.keeps_former = True
    hold = service.hold(LST)
    ibkr.get(PATH)
    if kind == "sync":
        assert hold.arrived.acquire(timeout=10)
    ibkr.close()
    ibkr.settle()
    assert ibkr.health().counters.renewals == 0
    assert [event.kind for event in events] == ["closed"]


def test_closing_while_another_thread_does(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """The second has nothing to do, and does not log out again."""
    closing = Closing("sync", consumer, access_token, service, clock=clock, pacing=None)
    with closing.driver as ibkr:
        ibkr.get(SNAPSHOT)

        def closed_meanwhile(_: Any) -> Answer:
            other = threading.Thread(target=ibkr.close)
            other.start()
            other.join(10)
            assert not other.is_alive()
            return Answer()

        service.script("/logout", closed_meanwhile)
        ibkr.close()
    assert service.count("/logout") == 1


# --- Health and events ---------------------------------------------------------------------------


def test_health(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session(live_session_token=None)
    before = ibkr.health()
    assert (before.state, before.brokerage, before.keep_alive) == ("new", "not open", False)
    assert (before.token_remaining, before.last_tickle, before.last_error, before.clock_skew) == (None, None, None, 0)
    assert set(before.counters) == {0}
    service.script(SNAPSHOT, Answer(502, "<html>bad gateway"))
    ibkr.get(SNAPSHOT)
    clock.advance(100)
    health = ibkr.health()
    assert (health.state, health.brokerage, health.keep_alive) == ("open", "open", False)
    assert health.token_remaining == pytest.approx(timedelta(seconds=86_400 - 100), abs=timedelta(seconds=2))
    assert "502" in (health.last_error or "")
    assert (
        health.counters.requests,
        health.counters.retries,
        health.counters.renewals,
        health.counters.brokerage_openings,
    ) == (4, 1, 1, 1)
    assert service.count(SNAPSHOT) == 2


def test_health_asks_nobody(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    for _ in range(3):
        ibkr.health()
    assert service.seen == []


def test_events_in_their_order(
    open_session: Open, service: FakeService, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is in the log as well, and says when it was."""
    caplog.set_level(logging.INFO, "ibkr_oauth")
    events: list[Event] = []
    ibkr = open_session(live_session_token=None, on_event=events.append)
    ibkr.get(SNAPSHOT)
    service.lose_brokerage()
    ibkr.get(SNAPSHOT)
    clock.advance(86_400)
    ibkr.get(PATH)
    ibkr.close()
    kinds = ["opened", "brokerage_opened", "brokerage_lost", "brokerage_opened", "renewed", "closed"]
    assert [event.kind for event in events] == kinds
    assert [event.at for event in events] == [datetime.fromtimestamp(START, UTC)] * 4 + [
        datetime.fromtimestamp(START + 86_400, UTC)
    ] * 2
    logged = [record.getMessage() for record in caplog.records if record.name == "ibkr_oauth.session"]
    assert logged == [f"{event.kind.replace('_', ' ')}: {event.message}" for event in events]


def test_on_event_that_raises(open_session: Open, service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    """Is its own affair: the call goes on, and the log has the traceback."""

    def burn(event: Event) -> None:
        raise LookupError(event.kind)

    ibkr = open_session(live_session_token=None, on_event=burn)
    assert ibkr.get(SNAPSHOT).status_code == 200
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in logged] == ["on_event failed"] * 2
    assert all(record.exc_info and record.exc_info[0] is LookupError for record in logged)


def test_on_event_may_call_the_session(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """It runs on whatever thread the thing happened on, and no gate is held against it (cf. USERS 43)."""
    heard: list[Any] = []

    def look(event: Event) -> None:
        heard.append((event.kind, ibkr.health().state, ibkr.brokerage.state))

    ibkr = Session(consumer, access_token, transport=Carrier(service), clock=clock, pacing=None, on_event=look)
    with ibkr:
        ibkr.get(SNAPSHOT)
    assert heard == [
        ("opened", "open", "not open"),
        ("brokerage_opened", "open", "open"),
        ("closed", "closed", "not open"),
    ]


def test_repr(open_session: Open, kind: str) -> None:
    ibkr = open_session()
    name = {"sync": "Session", "async": "AsyncSession"}[kind]
    assert repr(ibkr.session) == f"<{name} VECTORKEY at https://api.ibkr.com/v1/api, open, brokerage session not open>"
    ibkr.close()
    assert "closed" in repr(ibkr.session)


# --- Left alone ----------------------------------------------------------------------------------


def test_a_dropped_session_goes(kind: str, consumer: Consumer, access_token: AccessToken, service: FakeService) -> None:
    carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
    maker: Any = {"sync": Session, "async": AsyncSession}[kind]
    session = maker(consumer, access_token, transport=carrier, clock=service.clock)
    seen = weakref.ref(session)
    if kind == "sync":
        session.get(PATH)
    else:
        asyncio.run(session.get(PATH))
    del session
    gc.collect()
    assert seen() is None


def test_one_loop_after_the_other(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """As notebooks and `asyncio.run` do; two at the same time are refused."""
    ibkr = AsyncSession(consumer, access_token, transport=AsyncCarrier(service), clock=clock, pacing=None)
    for _ in range(3):
        assert asyncio.run(ibkr.get(SNAPSHOT)).status_code == 200
    assert service.count(LST) == service.count(INIT) == 1
    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(ibkr.get(PATH))
        with pytest.raises(UsageError, match="another event loop"):
            asyncio.run(ibkr.get(PATH))
        first.run_until_complete(ibkr.close())
    finally:
        first.close()


def test_a_cancelled_task_lets_go_of_its_gates(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """The one that was agreeing on a token is cancelled: another one that waits does it instead."""

    async def run() -> list[int]:
        hold = service.hold(LST)
        async with AsyncSession(
            consumer, access_token, transport=AsyncCarrier(service), clock=clock, pacing=None
        ) as ibkr:
            tasks = [asyncio.create_task(ibkr.get(PATH)) for _ in range(3)]
            await asyncio.wait_for(hold.arrived_async.acquire(), 10)
            tasks[0].cancel()
            service.unhold(LST)
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(done[0], asyncio.CancelledError)
            return [answer.status_code for answer in done[1:]]  # type: ignore[union-attr]

    assert asyncio.run(run()) == [200, 200]
    assert service.count(LST) == 2


def test_an_interrupted_call_lets_go_of_its_gates(
    consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> None:
    """Ctrl-C while the token is agreed on, or the brokerage session opened: the next call works."""
    with Session(consumer, access_token, transport=Carrier(service), clock=clock, pacing=10) as ibkr:
        for path in (LST, INIT, ACCOUNTS, "/iserver/marketdata/history"):
            service.script(path, KeyboardInterrupt())
        for path in (PATH, SNAPSHOT):
            with pytest.raises(KeyboardInterrupt):
                ibkr.get(path)
        with pytest.raises(KeyboardInterrupt):
            ibkr.post(ORDERS, json={})
        for _ in range(6):
            with pytest.raises(KeyboardInterrupt):
                ibkr.get("/iserver/marketdata/history")
            service.script("/iserver/marketdata/history", KeyboardInterrupt())
        service._scripts.clear()
        assert ibkr.post(ORDERS, json={}).status_code == 200
        assert ibkr.get("/iserver/marketdata/history").status_code == 200


def test_the_failure_of_a_token_is_not_that_of_an_interrupted_one(open_session: Open, service: FakeService) -> None:
    ibkr = open_session(live_session_token=None, retries=0)
    service.script(LST, Answer(503))
    with pytest.raises(Exception, match="503"):
        ibkr.get(PATH)
    assert ibkr.get(PATH).status_code == 200


def test_rate_limited_says_so_locally(open_session: Open, service: FakeService) -> None:
    service.script(PATH, Answer(429, "", headers=(("Retry-After", "100"),)))
    ibkr = open_session(pacing=10)
    ibkr.get(PATH)
    with pytest.raises(RateLimited):
        ibkr.tickle()
    assert service.count("/tickle") == 0


# --- Spans ---------------------------------------------------------------------------------------

SPANS = """
import sys
sys.path[:0] = {path!r}
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import asyncio
from ibkr_oauth import AsyncSession, Response, Session
from ibkr_oauth.errors import ConnectError
from ibkr_oauth.transport import Headers, Request

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

class Carrier:
    def send(self, method, url, headers, body=None, *, timeout, repeatable=None):
        if "refused" in url:
            raise ConnectError("refused by host")
        return Response(method, url, 404, [], b"{{}}")
    def cancel(self): pass
    def close(self): pass

class AsyncCarrier(Carrier):
    async def send(self, *arguments, **options):
        return Carrier.send(self, *arguments, **options)

with Session(cookie="c00k1e", transport=Carrier(), brokerage="never", retries=0) as ibkr:
    ibkr.get("/portfolio/accounts?secret=1", headers={{"X-Secret": "2"}})
    try:
        ibkr.post("/refused", json={{"secret": 3}})
    except ConnectError:
        pass

async def main():
    async with AsyncSession(cookie="c00k1e", transport=AsyncCarrier(), brokerage="never") as ibkr:
        await asyncio.gather(ibkr.get("/one"), ibkr.get("/two"))

asyncio.run(main())
for span in exporter.get_finished_spans():
    events = [event.attributes["exception.type"] for event in span.events]
    print(span.name, span.kind.name, span.status.status_code.name, dict(span.attributes), events, span.parent, sep="|")
text = "".join(span.to_json() for span in exporter.get_finished_spans())
assert "secret" not in text.lower() and "c00k1e" not in text, text
"""


def test_spans(project: Path) -> None:
    """In a process of its own: OpenTelemetry is set up once for each."""
    pytest.importorskip("opentelemetry.sdk.trace")
    done = subprocess.run(
        [sys.executable, "-c", SPANS.format(path=[str(project)])],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert lines[0] == [
        "GET /portfolio/accounts",
        "CLIENT",
        "UNSET",
        "{'http.request.method': 'GET', 'url.path': '/portfolio/accounts', 'http.response.status_code': 404}",
        "[]",
        "None",
    ]
    assert lines[1][:3] == ["POST /refused", "CLIENT", "ERROR"]
    assert "ConnectError" in lines[1][4]
    assert sorted(line[0] for line in lines[2:]) == ["GET /one", "GET /two"]
    assert {line[5] for line in lines} == {"None"}


def test_opentelemetry_is_not_imported_by_us(project: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {[str(project)]!r}
from ibkr_oauth import AsyncSession, Session, telemetry
session = Session(cookie="x")
assert telemetry.API not in sys.modules
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- In a forked child ---------------------------------------------------------------------------


@pytest.mark.parametrize("pacing", [None, 10.0])
def test_after_a_fork(open_session: Open, pacing: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held locks and places is not there any more, and the parent logs out what it opened."""
    ibkr = open_session(pacing=pacing)
    ibkr.get(SNAPSHOT)
    flow = ibkr.session._flow
    flow._counting.acquire()
    flow._renewing = True
    told: list[str] = []
    if pacing is not None:
        monkeypatch.setattr(flow.pacer, "after_fork", lambda: told.append("pacer"))
    gates: list[tuple[int, object]] = []

    def new_gate(places: int) -> Any:
        gates.append((places, object()))
        return gates[-1][1]

    flow.after_fork(new_gate)
    assert gates == [(1, flow._renewal_gate), (CONCURRENT_CALLS, flow._crowd), (1, flow.brokerage.gate)]
    assert flow._counting.acquire(blocking=False)
    flow._counting.release()
    assert flow._renewal(flow.credential) is not None
    flow._renewing = False
    assert flow.brokerage.is_inherited
    assert told == ["pacer"] * (pacing is not None)
