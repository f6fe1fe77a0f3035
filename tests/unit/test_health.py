"""What the keep-alive in C brings, and what the session makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any

import pytest
from support.fake_clock import START, FakeClock
from support.fake_service import COMPETING, INIT, LST, NO_DH, Answer, FakeService
from support.simulation import Simulation

from ibkr_oauth import AccessToken, Consumer, Event
from ibkr_oauth.errors import ConnectError, IBKROAuthError, OutcomeUnknown, Timeout

from .conftest import live_token

PATH = "/portfolio/DU1/summary"
SNAPSHOT = "/iserver/marketdata/snapshot"
EXPIRED = (401, {"error": "Access token expired"})


class Kept:
    """A session in simulated time, with a keep-alive whose every tickle the test writes itself."""

    def __init__(
        self, service: FakeService, consumer: Consumer | None, access_token: AccessToken, **options: Any
    ) -> None:
        self.service = service
        self.clock = service.clock
        self.events: list[Event] = []
        token = None if consumer is None else live_token(service, access_token)
        credentials = (None, None) if consumer is None else (consumer, access_token)
        defaults = {"pacing": None, "live_session_token": token, "on_event": self.events.append}
        self.world = Simulation(service, *credentials, **(defaults | options))

    def hear(self, status: int, body: object = None, headers: tuple[tuple[str, str], ...] = ()) -> bool:
        """A tickle's answer; whether anything was to be done about it, which then is done."""
        date = ("Date", formatdate(self.service.now(), usegmt=True))
        content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return self.take((status, [date, *headers], content, 1000, True))

    def tickled(self, authenticated: bool, competing: bool = False) -> bool:
        status = {"authenticated": authenticated, "competing": competing, "connected": True}
        return self.hear(200, {"session": "5e55104", "iserver": {"authStatus": status}})

    def take(self, outcome: object) -> bool:
        steps = self.world.flow.heard_tickle(outcome)
        if steps is not None:
            self.world.start(steps)
            self.world.run()
        return steps is not None

    def get(self, path: str) -> Any:
        run = self.world.call("GET", path)
        self.world.run()
        if run.error is not None:
            raise run.error
        return run.result

    @property
    def health(self) -> Any:
        return self.world.flow.health(True)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def kept(service: FakeService, consumer: Consumer, access_token: AccessToken) -> Callable[..., Kept]:
    return lambda **options: Kept(service, consumer, access_token, **options)


def test_a_good_tickle(kept: Callable[..., Kept], clock: FakeClock) -> None:
    session = kept()
    session.get(SNAPSHOT)
    clock.advance(60)
    assert not session.tickled(True)
    health = session.health
    assert health.last_tickle == datetime.fromtimestamp(START + 60, UTC)
    assert (health.keep_alive, health.counters.tickles, health.counters.tickle_failures) == (True, 1, 0)
    assert session.world.flow.cookie == "5e55104"
    assert session.kinds == ["brokerage_opened"]


def test_a_tickle_does_not_open_what_nobody_opened(kept: Callable[..., Kept], service: FakeService) -> None:
    session = kept()
    assert not session.tickled(False)
    assert not session.tickled(False, competing=True)
    assert session.health.brokerage == "not open"
    assert service.seen == []


@pytest.mark.parametrize(
    "failure",
    [
        ConnectError("refused"),
        Timeout("slow", sent=True),
        OutcomeUnknown("reset", sent=True),
        (503, [], b"<html>", 1000, False),
        (200, [], b"<html>", 1000, False),
        (200, [], b"[]", 1000, False),
        (500, [], b"", 1000, False),
        (429, [], b"", 1000, False),
    ],
)
def test_a_failure_of_the_tickle(kept: Callable[..., Kept], service: FakeService, failure: object) -> None:
    """The first of a row is an event; one failure is not death."""
    session = kept()
    session.get(SNAPSHOT)
    for _ in range(3):
        assert not session.take(failure)
    assert session.health.brokerage == "open"
    told = session.health.last_error
    assert told == (failure.message if isinstance(failure, IBKROAuthError) else told)
    session.tickled(True)
    session.tickled(True)
    assert session.kinds == ["brokerage_opened", "tickle_failed", "tickle_recovered"]
    assert session.events[1].message == told
    assert session.events[2].message == "the keep-alive is answered again"
    assert (session.health.counters.tickles, session.health.counters.tickle_failures) == (2, 3)
    assert session.health.counters.outcomes_unknown == 0
    assert service.paths() == [INIT, SNAPSHOT]


def test_a_failure_says_what_was_asked(kept: Callable[..., Kept]) -> None:
    session = kept()
    session.hear(500, {"error": "oops"})
    assert session.events[0].message.startswith("POST /v1/api/tickle: ")
    assert "500" in session.events[0].message


@pytest.mark.parametrize("status", [401, 500])
def test_only_a_good_tickle_names_the_session(kept: Callable[..., Kept], status: int) -> None:
    session = kept(cookie="first")
    session.hear(status, {"session": "another", "error": "not authenticated"})
    assert session.world.flow.cookie == "first"


def test_a_tickle_forgives_the_penalty_of_tickles(kept: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    session = kept(pacing=10.0)
    accepted: list[str] = []
    monkeypatch.setattr(session.world.flow.pacer, "accepted", accepted.append)
    session.tickled(True)
    assert accepted == ["/tickle"]


def test_a_tickle_that_is_forbidden_renews_nothing(kept: Callable[..., Kept], service: FakeService) -> None:
    session = kept()
    assert not session.hear(403, {"error": "forbidden"})
    assert service.count(LST) == 0


# --- The brokerage session -----------------------------------------------------------------------

NO_SESSION = {"error": "no session"}


@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_lost(kept: Callable[..., Kept], service: FakeService, mode: str) -> None:
    """Also with status 200 and an error in the body. It is opened again at once, in the background."""
    session = kept(brokerage=mode)
    session.get(SNAPSHOT)
    service.lose_brokerage()
    assert session.hear(200, NO_SESSION)
    assert session.health.brokerage == "open"
    service.lose_brokerage()
    assert session.tickled(False)
    assert session.kinds == [
        "brokerage_opened",
        "brokerage_lost",
        "brokerage_opened",
        "brokerage_lost",
        "brokerage_opened",
    ]
    assert service.paths() == [INIT, SNAPSHOT, INIT, INIT]


def test_lost_and_told_by_a_refusal(kept: Callable[..., Kept], service: FakeService) -> None:
    """A 401 of the tickle that speaks of the brokerage session is no failure of the keep-alive, and no reason for a token."""
    session = kept()
    session.get(SNAPSHOT)
    service.lose_brokerage()
    assert session.hear(401, {"error": "not authenticated", "statusCode": 401})
    assert session.health.brokerage == "open"
    assert service.count(LST) == 0
    assert session.kinds == ["brokerage_opened", "brokerage_lost", "brokerage_opened"]


def test_competing_and_told_by_a_refusal(kept: Callable[..., Kept], service: FakeService) -> None:
    session = kept()
    session.get(SNAPSHOT)
    service.compete()
    assert not session.hear(401, COMPETING.body)
    assert session.health.brokerage == "competing"
    assert session.kinds == ["brokerage_opened", "competing"]


def test_lost_and_refused(kept: Callable[..., Kept], service: FakeService, clock: FakeClock) -> None:
    """The next tickles try again, when the refusal has been believed long enough."""
    session = kept()
    session.get(SNAPSHOT)
    service.lose_brokerage()
    service.script(INIT, Answer(503), Answer(503), Answer(503))
    session.hear(200, NO_SESSION)
    assert session.kinds[-1] == "brokerage_failed"
    assert "503" in session.events[-1].message
    clock.advance(60)
    assert session.tickled(False)
    assert session.health.brokerage == "open"
    assert session.kinds == ["brokerage_opened", "brokerage_lost", "brokerage_failed", "brokerage_opened"]


def test_refused_for_good(kept: Callable[..., Kept], service: FakeService, clock: FakeClock) -> None:
    """A refusal is not a loss: the keep-alive does not ask for it again and again."""
    session = kept()
    session.get(SNAPSHOT)
    service.lose_brokerage()
    service.script(INIT, NO_DH, NO_DH)
    session.hear(200, NO_SESSION)
    assert session.health.brokerage == "refused"
    for _ in range(5):
        clock.advance(60)
        assert not session.tickled(False)
    assert service.count(INIT) == 3


def test_never(kept: Callable[..., Kept], service: FakeService) -> None:
    session = kept(brokerage="never")
    assert session.tickled(True) is session.hear(200, NO_SESSION) is session.tickled(False, True) is False
    assert service.seen == []


@pytest.mark.parametrize("policy", ["raise", "yield", "take"])
def test_never_and_opened_on_the_callers_own_word(kept: Callable[..., Kept], service: FakeService, policy: str) -> None:
    """What he opened he opens again himself."""
    session = kept(brokerage="never", on_competing=policy)
    session.world.start(session.world.flow.brokerage.open(session.world.flow))
    session.world.run()
    assert session.health.brokerage == "open"
    service.compete()
    assert not session.tickled(False, competing=True)
    assert not session.tickled(False)
    assert service.paths() == [INIT]


@pytest.mark.parametrize(
    ("policy", "reopens", "takes"), [("raise", False, False), ("yield", True, False), ("take", True, True)]
)
def test_taken_away(
    kept: Callable[..., Kept], service: FakeService, clock: FakeClock, policy: str, reopens: bool, takes: bool
) -> None:
    session = kept(on_competing=policy)
    session.get(SNAPSHOT)
    service.compete()
    assert session.tickled(False, competing=True) is takes
    assert session.health.brokerage == ("open" if takes else "competing")
    assert service.rival is not takes
    clock.advance(60)
    if not takes:
        assert not session.tickled(False, competing=True)
        service.rival = False
        clock.advance(60)
        assert session.tickled(False) is reopens
        assert session.health.brokerage == ("open" if reopens else "lost")
    assert [kind for kind in session.kinds if kind != "brokerage_failed"] == ["brokerage_opened", "competing"] + [
        "brokerage_opened"
    ] * reopens


# --- The token -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal", [EXPIRED, (401, {"error": "Invalid signature"}), (401, b""), (401, {"error": "new words"})]
)
def test_a_tickle_that_is_refused_renews_the_token(
    kept: Callable[..., Kept], service: FakeService, refusal: tuple[int, object]
) -> None:
    """Here an empty body is no foreign account."""
    session = kept()
    assert session.hear(*refusal)
    assert service.paths() == [LST]
    assert session.kinds == ["tickle_failed", "renewed"]
    assert len(session.world.adopted) == 1


def test_a_tickle_with_the_wrong_time(kept: Callable[..., Kept], service: FakeService) -> None:
    """The next one has the right one: nothing else was wrong."""
    session = kept()
    service.skew = 600
    assert not session.hear(401, {"error": "Invalid signature"})
    assert session.kinds == ["clock_skew", "tickle_failed"]
    assert session.health.clock_skew == pytest.approx(-600, abs=1.5)
    assert service.seen == []


def test_the_keep_alive_renews_before_the_expiry(
    kept: Callable[..., Kept], service: FakeService, clock: FakeClock
) -> None:
    """Though nobody calls; once, and with a rest after a failure."""
    session = kept(retries=0)
    clock.advance(86_400 - 3600)
    service.script(LST, Answer(503))
    assert session.tickled(False)
    assert not session.tickled(False)
    clock.advance(31)
    assert session.tickled(False)
    assert not session.tickled(False)
    assert session.kinds == ["renewal_failed", "renewed"]
    assert session.health.token_remaining > timedelta(hours=23)


def test_no_second_renewal_beside_one(kept: Callable[..., Kept], service: FakeService, clock: FakeClock) -> None:
    session = kept()
    clock.advance(86_400 - 3600)
    first = session.world.flow.heard_tickle((200, [], b"{}", 1000, True))
    assert first is not None
    assert session.world.flow.heard_tickle((200, [], b"{}", 1000, True)) is None
    assert session.world.flow.heard_tickle((401, [], b"{}", 1000, True)) is None
    session.world.start(first)
    session.world.run()
    assert service.count(LST) == 1


def test_a_session_that_has_only_a_cookie(service: FakeService, access_token: AccessToken) -> None:
    session = Kept(service, None, access_token, cookie="c00k1e", brokerage="never")
    assert not session.tickled(True)
    assert not session.hear(401)
    assert session.kinds == ["tickle_failed"]
    assert session.health.token_remaining is None
    assert service.seen == []


def test_cookies_of_a_tickle(kept: Callable[..., Kept]) -> None:
    session = kept()
    session.hear(200, {}, (("Set-Cookie", "api=fromheader; Path=/"),))
    assert session.world.flow.cookie == "fromheader"
    session.get(PATH)
    assert session.service.seen[-1].cookie == "api=fromheader"


@pytest.mark.parametrize("skews", [(600.0, 1200.0, 0.0)])
def test_a_clock_that_wanders_is_told_each_time(
    kept: Callable[..., Kept], service: FakeService, clock: FakeClock, skews: tuple[float, ...]
) -> None:
    session = kept()
    for skew in skews:
        service.skew = skew
        clock.advance(60)
        session.tickled(False)
        session.tickled(False)
    assert session.kinds == ["clock_skew"] * 3
    assert session.events[-1].message == "this computer's clock is right again"


# --- Figures -------------------------------------------------------------------------------------


def test_figures_are_rounded(kept: Callable[..., Kept], clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """To milliseconds, and to a tenth of a second."""
    session = kept()
    clock.advance(0.123456)
    remaining = session.health.token_remaining
    assert remaining.microseconds % 1000 == 0
    assert remaining.microseconds % 10_000 != 0
    assert remaining == timedelta(seconds=86_400 - 0.123)
    monkeypatch.setattr(type(session.world.flow.server_clock), "skew", 1.26)
    assert session.health.clock_skew == 1.3
