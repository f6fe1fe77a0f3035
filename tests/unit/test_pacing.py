"""When calls go out: exact to the second, in simulated time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.drivers import Driver
from support.fake_clock import FakeClock
from support.fake_service import Answer, FakeService
from support.simulation import Simulation

from ibkr_oauth import AccessToken, Consumer, Event
from ibkr_oauth.errors import RateLimited
from ibkr_oauth.pacing import Pacer

from .conftest import live_token

Open = Callable[..., Driver]
Worlds = Callable[..., Simulation]
FREE = "/portfolio/DU1/summary"  # no limit of its own
FIVE_SECONDS = "/portfolio/accounts"
HISTORY = "/iserver/marketdata/history"


@pytest.fixture
def simulation(consumer: Consumer, access_token: AccessToken, service: FakeService) -> Worlds:
    def make(**options: Any) -> Simulation:
        token = live_token(service, access_token)
        return Simulation(
            service, consumer, access_token, **({"live_session_token": token, "brokerage": "never"} | options)
        )

    return make


def moments(service: FakeService, path: str | None = None) -> list[float]:
    """Seconds after the first request at which each one came."""
    begin = service.seen[0].at
    return [round(seen.at - begin, 3) for seen in service.seen if path in (None, seen.path)]


# --- Limits --------------------------------------------------------------------------------------


def test_ten_calls_a_second(simulation: Worlds, service: FakeService) -> None:
    world = simulation()
    for _ in range(35):
        world.call("GET", FREE)
    world.run()
    assert moments(service) == [0.0] * 10 + [1.0] * 10 + [2.0] * 10 + [3.0] * 5


def test_the_window_slides(simulation: Worlds, service: FakeService) -> None:
    """Never more than ten within any second: a fixed window would let twenty through around its edge."""
    world = simulation()
    for after in (0.0, *[0.9] * 15):
        world.call("GET", FREE, after=after)
    world.run()
    assert moments(service) == [0.0] + [0.9] * 9 + [1.0] + [1.9] * 5


@given(st.floats(0.1, 100), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_more_than_the_rate_whatever_comes(rate: float, gaps: list[float]) -> None:
    """In any span of `calls / rate` seconds there are at most `calls`: here with the places as they are booked."""
    clock = FakeClock()
    pacer = Pacer(rate, clock.steady)
    calls = max(1, int(rate))
    out = []
    for gap in gaps:
        clock.advance(gap)
        out.append(clock.steady() + sum(pacer.book(FREE)))
    assert out == sorted(out)
    for earlier, later in zip(out, out[calls:], strict=False):
        assert later - earlier >= calls / rate - 1e-6


@pytest.mark.parametrize(("rate", "expected"), [(0.5, [0.0, 2.0, 4.0]), (1.0, [0.0, 1.0, 2.0]), (2.5, [0.0, 0.0, 0.8])])
def test_other_rates(simulation: Worlds, service: FakeService, rate: float, expected: list[float]) -> None:
    world = simulation(pacing=rate)
    for _ in range(3):
        world.call("GET", FREE)
    world.run()
    assert moments(service) == expected


def test_no_pacing(simulation: Worlds, service: FakeService) -> None:
    world = simulation(pacing=None)
    for _ in range(50):
        world.call("GET", FIVE_SECONDS)
    world.run()
    assert moments(service) == [0.0] * 50


def test_a_paths_own_limit(simulation: Worlds, service: FakeService) -> None:
    world = simulation()
    for _ in range(4):
        world.call("GET", FIVE_SECONDS)
    world.run()
    assert moments(service) == [0.0, 5.0, 10.0, 15.0]


def test_a_slow_path_does_not_block_others(simulation: Worlds, service: FakeService) -> None:
    """Nor does its wait take places from those that go out meanwhile."""
    world = simulation()
    for _ in range(15):
        world.call("GET", "/pa/performance")
    for _ in range(10):
        world.call("GET", FREE, after=0.5)
    world.run()
    assert moments(service, FREE) == [0.5] * 9 + [1.0]
    assert moments(service, "/pa/performance") == [900.0 * number for number in range(15)]


def test_paths_of_one_limit_share_it(simulation: Worlds, service: FakeService) -> None:
    world = simulation()
    for path in ("/pa/performance", "/pa/summary"):
        world.call("GET", path)
    world.run()
    assert moments(service) == [0.0, 900.0]


def test_each_limit_has_places_of_its_own() -> None:
    pacer = Pacer(10, FakeClock().steady)
    paths = ("/sso/validate", "/portfolio/accounts", "/iserver/account/orders", "/portfolio/accounts")
    assert [next(pacer.book(path)) for path in paths] == [0.0, 0.0, 0.0, 5.0]


def test_the_query_does_not_matter(simulation: Worlds, service: FakeService) -> None:
    world = simulation()
    world.call("GET", f"{FIVE_SECONDS}?a=1")
    world.call("GET", f"{FIVE_SECONDS}?a=2")
    world.run()
    assert moments(service) == [0.0, 5.0]


def test_in_the_order_of_asking(simulation: Worlds, service: FakeService) -> None:
    world = simulation(pacing=1)
    for number in range(8):
        world.call("GET", f"/portfolio/DU{number}/summary", after=0.01 * number)
    world.run()
    assert service.paths() == [f"/portfolio/DU{number}/summary" for number in range(8)]


def test_five_of_history_under_way(simulation: Worlds, service: FakeService) -> None:
    """However many there are, and however slow; then the next goes out as soon as one has come back."""
    world = simulation()
    world.latency = 3.0
    runs = [world.call("GET", HISTORY) for _ in range(12)]
    world.run()
    assert world.most_under_way == 5
    assert moments(service) == [0.0] * 5 + [3.0] * 5 + [6.0] * 2
    assert all(run.error is None for run in runs)


def test_history_lets_go_after_a_failure(simulation: Worlds, service: FakeService) -> None:
    world = simulation(retries=0)
    world.latency = 1.0
    service.script(HISTORY, *[RuntimeError("of the transport's own")] * 6)
    runs = [world.call("GET", HISTORY) for _ in range(8)]
    world.run()
    assert [run.error is None for run in runs] == [False] * 6 + [True] * 2


def test_history_without_pacing(simulation: Worlds) -> None:
    world = simulation(pacing=None)
    world.latency = 1.0
    for _ in range(12):
        world.call("GET", HISTORY)
    world.run()
    assert world.most_under_way == 12


def test_history_of_threads_and_tasks(open_session: Open, service: FakeService) -> None:
    """With real gates."""
    ibkr = open_session(pacing=1000, brokerage="never")
    outcomes = ibkr.together(*[lambda session: session.get(HISTORY)] * 12)
    assert [outcome.status_code for outcome in outcomes] == [401] * 12


@pytest.mark.parametrize(("path", "warned"), [("/pa/performance", True), ("/portfolio/accounts", False)])
def test_a_long_wait_is_told(simulation: Worlds, caplog: pytest.LogCaptureFixture, path: str, warned: bool) -> None:
    """Over 5 seconds, and before it begins: a program that seems to hang says why."""
    caplog.set_level(logging.WARNING, "ibkr_oauth")
    world = simulation()
    for _ in range(2):
        world.call("GET", path)
    world.run()
    assert [record.getMessage() for record in caplog.records] == (
        [f"{path}: waiting 900 s, the limit of this path allows no call before"] if warned else []
    )


class Moment(float):
    """A time that lets other threads run while it is compared."""

    def __lt__(self, other: object) -> bool:
        time.sleep(0)
        return super().__lt__(other)  # type: ignore[operator]


def test_threads_book_no_place_twice() -> None:
    """Eight threads at once; the places are all different ones."""
    pacer = Pacer(1, lambda: Moment(0.0))
    waits: list[float] = []
    start = threading.Barrier(8)

    def book() -> None:
        start.wait(10)
        for _ in range(50):
            waits.append(sum(pacer.book(FREE)))  # noqa: PERF401 - while the others do

    threads = [threading.Thread(target=book) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(waits) == [float(number) for number in range(400)]


# --- 429 -----------------------------------------------------------------------------------------

REFUSED = Answer(429, {"error": "Too many requests"})


def refused(seconds: float) -> Answer:
    return Answer(429, {"error": "Too many requests"}, headers=(("Retry-After", f"{seconds:g}"),))


def test_the_service_says_how_long(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """A short wait for a call that is safe to repeat: nobody notices but the health."""
    events: list[Event] = []
    service.script(FREE, refused(7))
    ibkr = open_session(pacing=10, on_event=events.append)
    assert ibkr.get(FREE).status_code == 200
    assert moments(service)[1] == 7.0
    assert [event.kind for event in events] == ["rate_limited"]
    assert ibkr.health().counters.rate_limited == 1


def test_the_service_says_nothing(open_session: Open, service: FakeService) -> None:
    """Ten seconds for the first."""
    service.script(FREE, REFUSED)
    assert open_session(pacing=10).get(FREE).status_code == 200
    assert moments(service)[1] == 10.0


def test_an_order_is_not_repeated(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """The caller gets the 429. The next call waits: the service is not asked while it will refuse."""
    path = "/iserver/account/DU1/orders"
    service.script(path, refused(7))
    ibkr = open_session(pacing=10, brokerage="never")
    response = ibkr.post(path, json={})
    assert response.status_code == 429
    assert clock.slept == []
    with pytest.raises(RateLimited) as caught:
        response.raise_for_status()
    assert caught.value.retry_after == 7
    ibkr.get(FREE)
    assert clock.slept == [7.0]


def test_nobody_waits_longer_than_half_a_minute(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """The answer itself, and then an error that says when to come back, without a request."""
    service.script(FREE, refused(600))
    ibkr = open_session(pacing=10)
    assert ibkr.get(FREE).status_code == 429
    clock.advance(60)
    with pytest.raises(RateLimited) as caught:
        ibkr.get(FREE)
    assert caught.value.retry_after == pytest.approx(540)
    assert not caught.value.sent
    assert "540 s" in caught.value.message
    assert service.count(FREE) == 1
    clock.advance(520)
    assert ibkr.get(FREE).status_code == 200
    assert clock.slept == [pytest.approx(20)]


def test_penalties_double_and_are_forgiven(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session(pacing=10, retries=0)
    for expected in (10, 20, 40, 80, 160, 320, 600, 600):
        service.script(FREE, REFUSED)
        assert ibkr.get(FREE).status_code == 429
        assert ibkr.session._flow.pacer.penalty(FREE) == pytest.approx(expected)
        clock.advance(expected)
    assert ibkr.get(FREE).status_code == 200
    service.script(FREE, REFUSED)
    ibkr.get(FREE)
    assert ibkr.session._flow.pacer.penalty(FREE) == pytest.approx(10)


def test_calls_that_were_under_way_do_not_double_it(simulation: Worlds, service: FakeService) -> None:
    world = simulation(retries=0)
    world.latency = 1.0
    service.script(FREE, *[REFUSED] * 10)
    for _ in range(10):
        world.call("GET", FREE)
    world.run()
    assert world.flow.pacer is not None
    assert world.flow.pacer.penalty(FREE) == pytest.approx(10.0)


def test_a_short_penalty_does_not_end_a_long_one() -> None:
    """Of several calls that were under way each is told something else: the longest counts."""
    clock = FakeClock()
    pacer = Pacer(10, clock.steady)
    for seconds in (5.0, 100.0, 7.0):
        pacer.refused(FREE, seconds)
    assert pacer.penalty(FREE) == 100.0


def test_one_path_is_punished_alone(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Where it has a limit of its own; the others go on."""
    service.script(FIVE_SECONDS, refused(20))
    ibkr = open_session(pacing=10, retries=0)
    ibkr.get(FIVE_SECONDS)
    ibkr.get(FREE)
    assert clock.slept == []
    ibkr.get(FIVE_SECONDS)
    assert clock.slept[0] == 20.0


def test_all_are_punished_for_a_path_without_a_limit(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    service.script(FREE, refused(20))
    ibkr = open_session(pacing=10, retries=0)
    ibkr.get(FREE)
    ibkr.get(FIVE_SECONDS)
    assert clock.slept == [20.0]


@pytest.mark.parametrize("answer", [refused(7), REFUSED])
def test_429_without_pacing(open_session: Open, service: FakeService, clock: FakeClock, answer: Answer) -> None:
    """Nothing is remembered; a call that is safe to repeat waits as long as it is told, or a second."""
    service.script(FREE, answer)
    ibkr = open_session(pacing=None)
    assert ibkr.get(FREE).status_code == 200
    assert len(clock.slept) == 1
    assert clock.slept[0] == (7.0 if answer.headers else 1.0)
    service.script(FREE, refused(31))
    assert ibkr.get(FREE).status_code == 429


def test_429_again_and_again(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Three attempts at most."""
    service.script(FREE, *[refused(2)] * 10)
    ibkr = open_session(pacing=10)
    assert ibkr.get(FREE).status_code == 429
    assert service.count(FREE) == 3
    assert ibkr.health().counters.rate_limited == 3


@pytest.mark.parametrize("header", ["soon", "-1", "nan", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number(open_session: Open, service: FakeService, header: str) -> None:
    service.script(FREE, Answer(429, "", headers=(("Retry-After", header),)))
    assert open_session(pacing=10).get(FREE).status_code == 200
    assert moments(service)[1] == 10.0


def test_a_penalty_that_grows_while_one_waits_for_a_place(simulation: Worlds, service: FakeService) -> None:
    """A call that has waited minutes for its path looks again before it goes out."""
    world = simulation(retries=0)
    service.script(FREE, refused(100))
    world.call("GET", FIVE_SECONDS)
    waiting = world.call("GET", FIVE_SECONDS, after=0.1)
    world.call("GET", FREE, after=1.0)
    world.run()
    assert isinstance(waiting.error, RateLimited)
    assert service.count(FIVE_SECONDS) == 1


def test_a_penalty_at_the_beginning_of_time() -> None:
    """The steady clock may begin at zero."""
    pacer = Pacer(10, lambda: 0.0)
    pacer.refused(FREE, None)
    assert pacer.penalty(FREE) == 10.0


def test_a_child_waits_for_nobody_of_its_parent() -> None:
    clock = FakeClock()
    pacer = Pacer(10, clock.steady)
    pacer._lock.acquire()  # by a thread that is not there after the fork
    pacer.after_fork()
    assert list(pacer.book(FREE)) == [0.0]
    pacer.refused(FREE, 5)
    assert pacer.penalty(FREE) == 5.0


@pytest.mark.parametrize(("seconds", "is_sent"), [(0.5, True), (1.0, True), (30.0, True), (30.5, False)])
def test_a_short_penalty_is_sat_out_and_a_long_one_is_told(
    open_session: Open, service: FakeService, clock: FakeClock, seconds: float, is_sent: bool
) -> None:
    ibkr = open_session(pacing=10)
    clock._steady = 4096.0  # sums of these are exact
    ibkr.session._flow.pacer.refused(FREE, seconds)
    if is_sent:
        assert ibkr.get(FREE).status_code == 200
        assert service.seen[0].at == 4096.0 + seconds
    else:
        with pytest.raises(RateLimited) as caught:
            ibkr.get(FREE)
        assert caught.value.retry_after == seconds
        assert service.seen == []


def test_a_refusal_is_told(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    service.script(FREE, Answer(429, "", headers=(("Retry-After", "99"),)))
    assert ibkr.get(FREE).status_code == 429
    assert [(event.kind, event.message.partition(":")[0]) for event in events] == [("rate_limited", FREE)]
