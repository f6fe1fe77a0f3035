"""The server's time, whatever somebody does to this computer's clock."""

import asyncio
import threading
import time
from datetime import timedelta
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_clock import START, FakeClock

from ibkr_oauth import _core
from ibkr_oauth.clock import Clock, ServerClock, duration, parse_date


def date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


@pytest.fixture
def server(clock: FakeClock) -> ServerClock:
    return ServerClock(clock)


def test_before_the_first_answer_this_computers_time_has_to_do(server: ServerClock, clock: FakeClock) -> None:
    assert server.now() == clock.time() == START
    clock.jump(-500)
    assert server.now() == START - 500
    assert server.skew == 0
    assert server.observe(None) is False


@pytest.mark.parametrize("skew", [-600.0, -3.0, 3.0, 86_400.0])
def test_the_servers_time_is_carried_on(server: ServerClock, clock: FakeClock, skew: float) -> None:
    """By the steady clock: half a second is what a Date header hides."""
    assert server.observe(date(START - skew))
    assert server.now() == START - skew + 0.5
    assert server.skew == pytest.approx(skew - 0.5)
    clock.advance(1000)
    assert server.now() == START - skew + 1000.5
    assert server.offset == pytest.approx(server.now() - clock.steady())


@pytest.mark.parametrize("jump", [-600.0, 600.0, 86_400.0 * 365])
def test_jumps_of_the_wall_clock_do_not_matter(server: ServerClock, clock: FakeClock, jump: float) -> None:
    server.observe(date(START))
    clock.jump(jump)
    assert server.now() == START + 0.5
    assert server.skew == pytest.approx(jump - 0.5)
    clock.advance(10)
    assert server.observe(date(START + 10))
    assert server.now() == START + 10.5


def test_noise_changes_nothing(server: ServerClock, clock: FakeClock) -> None:
    """A Date has whole seconds, and an answer takes a moment; the time does not shiver."""
    server.observe(date(START))
    for late in (-2, -1, 1, 2):
        clock.advance(7)
        before = server.now()
        server.observe(date(before + late - 0.5))
        assert server.now() == before
    for late in (3, -3):
        server.observe(date(before + late - 0.5))
        assert server.now() == before + late
        before += late


def test_a_slow_answer_is_no_news(server: ServerClock, clock: FakeClock) -> None:
    """Its Date may be as old as the request: that much is explained, and no more."""
    server.observe(date(START))
    sent = clock.steady()
    clock.advance(10)
    assert server.observe(date(START + 1), sent)
    assert server.now() == START + 10.5
    clock.advance(10)
    assert server.observe(date(START + 11), clock.steady() - 1)
    assert server.now() == START + 11.5


def test_an_answer_of_unknown_age_explains_nothing(server: ServerClock, clock: FakeClock) -> None:
    server.observe(date(START))
    clock.advance(2.5)
    assert server.observe(date(START - 1))
    assert server.now() == START - 0.5


def test_a_small_skew_is_none(server: ServerClock) -> None:
    server.observe(date(START - 1))
    assert server.skew == 0


def test_the_same_date_again_is_not_looked_at(server: ServerClock, clock: FakeClock) -> None:
    """Many answers come within one second. A date that stands still is then no news either."""
    assert server.observe(date(START + 60))
    clock.advance(5)
    assert server.observe(date(START + 60)) is False


@pytest.mark.parametrize(
    "header", ["", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Foo 1994 08:49:37 GMT", "0", "\ud800"]
)
def test_nonsense_is_left(server: ServerClock, clock: FakeClock, header: str) -> None:
    server.observe(date(START + 60))
    assert server.observe(header) is False
    assert server.now() == START + 60.5


@given(st.integers(0, 4_102_444_800))
def test_dates(moment: int) -> None:
    assert parse_date(date(moment)) == moment


@pytest.mark.parametrize(
    "header",
    [
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 31 Feb 2026 00:00:00 GMT",
        "Sun, 06 Nov 1994 25:00:00 GMT",
        "a b c d e f",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sunday, 06 Nov 1994 8:9:7 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "0000 06 Nov 1994 08:49:37 GMT",
        ", 1 Jan 1 0:0:0 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
    ],
)
def test_what_is_no_date(header: str) -> None:
    assert parse_date(header) is None


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
def test_dates_are_not_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    try:
        assert parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_leap_second() -> None:
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_date("Sat, 31 Dec 2016 23:59:59 GMT")


def test_the_computers_own_clock() -> None:
    clock = Clock()
    assert abs(clock.time() - time.time()) < 5
    assert abs(clock.steady() - _core.steady_ms() / 1000) < 0.1 + 1e-5 * clock.steady()
    clock.sleep(0.001, threading.Event())  # ends by itself
    first = clock.steady()
    assert 0 <= clock.steady() - first < 5
    closing = threading.Event()
    closing.set()
    clock.sleep(60, closing)  # ends at once
    asyncio.run(clock.sleep_async(0.001))
    assert clock.steady() - first < 20


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.6, "expired"),
        (-0.4, "0 s"),
        (0.4, "0 s"),
        (0.6, "1 s"),
        (59, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (3660, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (86_400, "24 h 0 min"),
    ],
)
def test_how_long_it_takes(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words
