"""Refused, and why: which 401 renews the token, which corrects the clock, and which is simply the answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import timedelta
from email.utils import formatdate
from typing import Any

import pytest
from support.drivers import DRIVERS, Driver
from support.fake_clock import FakeClock
from support.fake_service import (
    BAD_SIGNATURE,
    EMPTY_401,
    LST,
    ORDERS,
    STALE,
    Answer,
    AsyncCarrier,
    Carrier,
    FakeService,
    Seen,
)
from support.simulation import Simulation

from ibkr_oauth import AccessToken, Consumer, Event
from ibkr_oauth.errors import (
    AccessTokenUnknown,
    ConnectError,
    IBKROAuthError,
    KeyMismatchError,
    LiveSessionTokenError,
    LiveSessionTokenMismatch,
    MaintenanceError,
    MissingSetting,
    OutcomeUnknown,
    SignatureRejected,
    Timeout,
    UsageError,
)
from ibkr_oauth.signing import SignedRequest

from .conftest import live_token

Open = Callable[..., Driver]
PATH = "/portfolio/DU1/summary"
UNKNOWN_401 = Answer(401, {"error": "something new", "statusCode": 401})
INACTIVE = Answer(401, {"error": "id: 39687, error: invalid consumer", "statusCode": 401})
GONE = Answer(410, "Gone")
MINUTES = 60.0


def use_up(ibkr: Driver, service: FakeService) -> None:
    """A token that has just signed a good call is above suspicion."""
    assert ibkr.get("/portfolio/accounts").status_code == 200
    service.seen.clear()


# --- Stale tokens --------------------------------------------------------------------------------

STALE_WORDS = [STALE, BAD_SIGNATURE, UNKNOWN_401]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("words", STALE_WORDS, ids=["expired", "signature", "unknown"])
def test_a_stale_token_is_renewed_once(open_session: Open, service: FakeService, method: str, words: Answer) -> None:
    """And the call sent again, newly signed, even an order: the 401 proves that nobody looked at it."""
    ibkr = open_session()
    service.stale = words
    service.expire_tokens()
    assert ibkr.request(method, PATH).status_code == 200
    assert service.paths(skip=("/tickle",)) == [PATH, LST, PATH]
    assert [seen.token for seen in service.of(PATH)] == [0, 1]
    assert [seen.path for seen in service.processed] == [LST, PATH]
    assert ibkr.health().counters.renewals == 1


@pytest.mark.parametrize("words", [STALE, BAD_SIGNATURE], ids=["expired", "signature"])
def test_the_service_may_say_so_of_a_token_that_was_good_a_moment_ago(
    open_session: Open, service: FakeService, words: Answer
) -> None:
    ibkr = open_session()
    use_up(ibkr, service)
    service.stale = words
    service.expire_tokens()
    assert ibkr.post(PATH).status_code == 200
    assert service.paths() == [PATH, LST, PATH]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_second_401_is_the_answer(open_session: Open, service: FakeService, method: str) -> None:
    service.script(PATH, STALE, STALE, STALE)
    response = open_session().request(method, PATH)
    assert response.status_code == 401
    assert service.paths() == [PATH, LST, PATH]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("body", [EMPTY_401, UNKNOWN_401], ids=["empty", "unknown"])
def test_a_foreign_account_is_no_reason_to_renew(
    open_session: Open, service: FakeService, method: str, body: Answer
) -> None:
    """The token has just signed a good call: then nobody is asked either."""
    ibkr = open_session()
    use_up(ibkr, service)
    service.script(PATH, body)
    assert ibkr.request(method, PATH).status_code == 401
    assert service.paths() == [PATH]


def test_a_foreign_account_with_a_token_that_was_not_proved_lately(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """The service is asked by a tickle, which says that the token is good."""
    ibkr = open_session()
    use_up(ibkr, service)
    service.script(PATH, EMPTY_401, EMPTY_401)
    clock.advance(61)
    assert ibkr.get(PATH).status_code == 401
    assert service.paths() == [PATH, "/tickle"]
    clock.advance(59)
    assert ibkr.get(PATH).status_code == 401  # the tickle has proved it
    assert service.paths() == [PATH, "/tickle", PATH]


def test_an_empty_401_of_a_dead_token(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session()
    use_up(ibkr, service)
    clock.advance(61)
    service.stale = EMPTY_401
    service.expire_tokens()
    assert ibkr.post(PATH).status_code == 200
    assert service.paths() == [PATH, "/tickle", LST, PATH]


def test_the_question_may_fail(open_session: Open, service: FakeService) -> None:
    """Then that is what the caller gets to know: whether the call was refused for the token cannot be told."""
    service.script(PATH, EMPTY_401)
    service.script("/tickle", *[ConnectError("refused")] * 3)
    ibkr = open_session()
    with pytest.raises(ConnectError):
        ibkr.get(PATH)
    assert service.count(LST) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_consumer_that_is_not_active(open_session: Open, service: FakeService, method: str) -> None:
    """No renewal will help: the answer says what it is."""
    service.script(PATH, INACTIVE)
    response = open_session().request(method, PATH)
    assert response.status_code == 401
    assert service.paths() == [PATH]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (INACTIVE, "ConsumerNotActive"),
        (Answer(401, {"error": "LST failed, error: No access secret key found"}), "AccessTokenUnknown"),
        (BAD_SIGNATURE, "SignatureRejected"),
    ],
)
def test_credentials_that_are_refused(open_session: Open, service: FakeService, answer: Answer, name: str) -> None:
    """Where no live session token is to be had, there is nothing to return: each is raised, and asked for once."""
    service.script(LST, answer)
    ibkr = open_session(live_session_token=None)
    with pytest.raises(IBKROAuthError) as caught:
        ibkr.get(PATH)
    assert type(caught.value).__name__ == name
    assert service.paths() == [LST]


def test_another_access_token_secret(kind: str, open_session: Open, service: FakeService) -> None:
    """The server's half is good, but proves another token: thrown away, and not asked for again."""
    service.secret = b"somebody else's"
    with pytest.raises(LiveSessionTokenMismatch):
        open_session(live_session_token=None).get(PATH)
    assert service.paths() == [LST]


def test_an_unusable_half(open_session: Open, service: FakeService) -> None:
    service.script(LST, *[Answer(body={"diffie_hellman_response": "1", "live_session_token_signature": "0" * 40})] * 3)
    with pytest.raises(LiveSessionTokenError):
        open_session(live_session_token=None).get(PATH)
    assert service.count(LST) == 3


# --- 410 -----------------------------------------------------------------------------------------


def test_gone(open_session: Open, service: FakeService) -> None:
    """A 410 says "refresh the token": a call that is safe to repeat is repeated, another only prepares the next."""
    service.script(PATH, GONE)
    ibkr = open_session()
    assert ibkr.get(PATH).status_code == 200
    assert service.paths() == [PATH, LST, PATH]
    service.seen.clear()
    service.script(PATH, GONE)
    assert ibkr.post(PATH).status_code == 410
    assert service.paths() == [PATH, LST]


def test_gone_for_another_reason(open_session: Open, service: FakeService) -> None:
    service.script(PATH, Answer(410, "this was removed in 2025"))
    assert open_session().get(PATH).status_code == 410
    assert service.paths() == [PATH]


# --- The clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_a_wrong_clock(open_session: Open, service: FakeService, method: str, skew: float) -> None:
    """The first refusal has the server's time; the call is sent again with that, and the token left alone."""
    events: list[Event] = []
    service.skew = skew
    ibkr = open_session(on_event=events.append)
    assert ibkr.request(method, PATH).status_code == 200
    assert service.paths() == [PATH, PATH]
    assert ibkr.health().clock_skew == pytest.approx(-skew, abs=1.5)
    assert ibkr.get(PATH).status_code == 200
    assert service.count(PATH) == 3
    assert [event.kind for event in events] == ["clock_skew"]
    assert ("behind" in events[0].message) is (skew > 0)


def test_a_clock_that_is_set_from_late_to_early(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    for skew in (600.0, -600.0):
        service.skew = skew
        assert ibkr.get(PATH).status_code == 200
    assert [event.message.split()[6] for event in events] == ["behind", "ahead"]


@pytest.mark.parametrize(("skew", "told"), [(-10.5, 1), (10.5, 1), (-9.5, 0), (9.5, 0)])
def test_ten_seconds_are_told(open_session: Open, service: FakeService, skew: float, told: int) -> None:
    events: list[Event] = []
    service.skew = skew
    open_session(on_event=events.append).get(PATH)
    assert [event.kind for event in events] == ["clock_skew"] * told


def test_a_wrong_clock_for_the_first_token(open_session: Open, service: FakeService) -> None:
    service.skew = 3000.0
    ibkr = open_session(live_session_token=None)
    assert ibkr.get(PATH).status_code == 200
    assert service.paths() == [LST, LST, PATH]
    assert ibkr.health().token_remaining == pytest.approx(timedelta(days=1), abs=timedelta(seconds=2))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_clock_and_a_stale_token(open_session: Open, service: FakeService, method: str) -> None:
    """Each is mended once; both refusals prove that nobody looked at the call."""
    service.skew = 600.0
    ibkr = open_session()
    service.expire_tokens()
    assert ibkr.request(method, PATH).status_code == 200
    assert service.paths() == [PATH, PATH, LST, PATH]
    assert [seen.path for seen in service.processed] == [LST, PATH]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_clock_that_somebody_sets(open_session: Open, service: FakeService, clock: FakeClock, method: str) -> None:
    """After the first answer the wall clock is not asked any more."""
    ibkr = open_session()
    ibkr.get(PATH)
    for seconds in (600, -1200, 86_400 * 365):
        clock.jump(seconds)
        assert ibkr.request(method, PATH).status_code == 200
    assert service.paths() == [PATH] * 4
    assert ibkr.health().token_remaining > timedelta(hours=23)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_slow_refusal_is_no_proof_of_a_wrong_clock(open_session: Open, service: FakeService, method: str) -> None:
    """A 401 that took 15 seconds has a Date 15 seconds after the signature's, although the clock is right."""
    ibkr = open_session()
    use_up(ibkr, service)
    service.script(PATH, Answer(401, b"", delay=15.0))
    assert ibkr.request(method, PATH).status_code == 401
    assert service.paths() == [PATH]


def test_a_slow_answer_may_have_its_date_from_the_beginning(open_session: Open, service: FakeService) -> None:
    """A Date that is 15 seconds old when it comes moves no clock."""
    ibkr = open_session()
    ibkr.get(PATH)
    service.script(PATH, Answer(headers=(("Date", formatdate(service.now() + 1, usegmt=True)),), delay=15.0))
    ibkr.get(PATH)
    assert ibkr.health().clock_skew == 0


def test_a_service_that_does_not_know_the_time(open_session: Open, service: FakeService) -> None:
    """Every refusal has another Date: that is mended once, and then it is the answer."""

    def wander(_: Seen) -> Answer:
        service.skew += 3600
        return BAD_SIGNATURE

    service.window = float("inf")
    service.script(PATH, *[wander] * 10)
    assert open_session().get(PATH).status_code == 401
    assert service.paths() == [PATH, PATH]


def test_a_service_without_a_date(open_session: Open, service: FakeService) -> None:
    """Then this computer's clock has to do."""
    service.send_date = False
    ibkr = open_session()
    assert ibkr.get(PATH).status_code == 200
    assert ibkr.health().clock_skew == 0


# --- Renewal before the expiry -------------------------------------------------------------------


@pytest.mark.parametrize("remaining", [3599.0, 60.0, 6.0])
def test_the_token_is_renewed_in_the_background(
    open_session: Open, service: FakeService, clock: FakeClock, remaining: float
) -> None:
    """The call that notices goes out with the old one, and is not kept waiting."""
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    clock.advance(86_400 - remaining)
    service.hold(LST)
    service.keeps_former = True
    assert ibkr.get(PATH).status_code == 200
    assert service.of(PATH)[0].token == 0
    service.unhold(LST)
    ibkr.settle()
    assert [event.kind for event in events] == ["renewed"]
    assert service.count(LST) == 1
    ibkr.get(PATH)
    assert service.of(PATH)[1].token == 1
    assert service.count(LST) == 1


def test_a_token_is_renewed_in_its_last_hour_and_not_before(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """5 % of 24 hours, 72 minutes, are more than an hour."""
    ibkr = open_session()
    clock.advance(86_400 - 73 * MINUTES)
    ibkr.get(PATH)
    ibkr.settle()
    assert service.count(LST) == 0
    clock.advance(2 * MINUTES)
    ibkr.get(PATH)
    ibkr.settle()
    assert service.count(LST) == 1


def test_a_short_lived_token_is_not_renewed_all_the_time(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """An hour of a token that lives for one would be always: a tenth of its life it is."""
    service.lifetime = 600.0
    ibkr = open_session(lifetime=600.0)
    for _ in range(9):
        ibkr.get(PATH)
        ibkr.settle()
        clock.advance(59)
    assert service.count(LST) == 0
    clock.advance(10)
    ibkr.get(PATH)
    ibkr.settle()
    assert service.count(LST) == 1


@pytest.mark.parametrize("remaining", [4.0, 0.0, -10_000.0])
def test_a_token_that_expires_on_the_way_is_not_used(
    open_session: Open, service: FakeService, clock: FakeClock, remaining: float
) -> None:
    ibkr = open_session()
    clock.advance(86_400 - remaining)
    assert ibkr.get(PATH).status_code == 200
    assert service.paths() == [LST, PATH]
    assert service.of(PATH)[0].token == 1


def test_a_renewal_that_fails_rests(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """It is an event, nobody's error, and tried again after half a minute."""
    events: list[Event] = []
    ibkr = open_session(on_event=events.append, retries=0)
    clock.advance(86_400 - 600)
    service.script(LST, Answer(503), OutcomeUnknown("reset", sent=True))
    for expected in (1, 1, 2, 2, 3):
        assert ibkr.get(PATH).status_code == 200
        ibkr.settle()
        assert service.count(LST) == expected
        clock.advance(16)
    assert [event.kind for event in events] == ["renewal_failed", "renewal_failed", "renewed"]
    assert "503" in events[0].message
    assert events[1].message == "reset"
    assert ibkr.health().counters.renewals == 1


def test_the_rest_is_over_when_it_ends(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session(retries=0)
    clock.advance(86_400 - 600)
    service.script(LST, Answer(503))
    ibkr.get(PATH)
    ibkr.settle()
    clock._steady = ibkr.session._flow._next_renewal
    ibkr.get(PATH)
    ibkr.settle()
    assert service.count(LST) == 2


def test_a_renewal_that_fails_matters_where_the_token_is_needed(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """No rest for a token that has expired: then each call asks, and gets the error."""
    ibkr = open_session(retries=0)
    clock.advance(86_400)
    service.script(LST, Answer(503), Answer(503))
    for _ in range(2):
        with pytest.raises(MaintenanceError):
            ibkr.get(PATH)
    assert service.paths() == [LST, LST]
    assert ibkr.health().last_error is not None
    assert ibkr.get(PATH).status_code == 200


def test_the_parameters_of_the_token_request_go_where_they_are_wanted(open_session: Open, service: FakeService) -> None:
    for where in ("header", "json"):
        service.script(LST, INACTIVE)
        with pytest.raises(IBKROAuthError):
            open_session(live_session_token=None, parameters_in=where).get(PATH)
    in_header, in_json = service.of(LST)
    assert "diffie_hellman_challenge" in in_header.headers["authorization"]
    assert "diffie_hellman_challenge" in in_json.json
    assert "authorization" not in in_json.headers


def test_the_token_request_counts_for_the_pace(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ibkr = open_session(live_session_token=None, pacing=10.0)
    accepted: list[str] = []
    monkeypatch.setattr(ibkr.session._flow.pacer, "accepted", accepted.append)
    ibkr.get(PATH)
    assert accepted == [LST, PATH]


def test_refresh(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.refresh()
    ibkr.get(PATH)
    assert re.fullmatch(r"live session token until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", events[0].message)
    assert service.paths() == [LST, PATH]
    assert service.of(PATH)[0].token == 1
    assert [event.kind for event in events] == ["renewed"]


# --- Single flight -------------------------------------------------------------------------------


@pytest.fixture
def simulation(consumer: Consumer, access_token: AccessToken, service: FakeService) -> Callable[..., Simulation]:
    def make(lifetime: float | None = None, **options: Any) -> Simulation:
        token = None if lifetime is None else live_token(service, access_token, lifetime)
        return Simulation(service, consumer, access_token, pacing=None, live_session_token=token, **options)

    return make


def test_many_first_calls_agree_on_one_token(simulation: Callable[..., Simulation], service: FakeService) -> None:
    world = simulation()
    world.latency = 1.0
    runs = [world.call("GET", PATH, after=0.1 * number) for number in range(20)]
    world.run()
    assert service.count(LST) == 1
    assert [run.result.status_code for run in runs] == [200] * 20
    assert world.adopted == [world.flow.credential.signer]


def test_many_calls_are_refused_for_the_same_token(simulation: Callable[..., Simulation], service: FakeService) -> None:
    """Some while the new one is being agreed on, some after: there is one renewal, and every call is sent again once."""
    world = simulation(86_400.0)
    world.latency = 1.0
    service.expire_tokens()
    runs = [world.call("POST", PATH, after=0.17 * number) for number in range(20)]
    world.run()
    assert service.count(LST) == 1
    assert [run.result.status_code for run in runs] == [200] * 20
    assert len([seen for seen in service.processed if seen.path == PATH]) == 20


def test_all_who_wait_get_the_error(simulation: Callable[..., Simulation], service: FakeService) -> None:
    """And nobody asks again for what was refused while he waited; each gets an error of his own."""
    world = simulation()
    world.latency = 1.0
    service.script(LST, *[INACTIVE] * 20)
    runs = [world.call("GET", PATH, after=0.01 * number) for number in range(20)]
    late = world.call("GET", PATH, after=5.0)
    world.run()
    assert service.count(LST) == 2
    assert {type(run.error).__name__ for run in [*runs, late]} == {"ConsumerNotActive"}
    assert len({id(run.error) for run in runs}) == 20


def test_all_who_wait_get_the_error_each_time(simulation: Callable[..., Simulation], service: FakeService) -> None:
    world = simulation()
    world.latency = 1.0
    service.script(LST, *[INACTIVE] * 20)
    for asked in (1, 2, 3):
        runs = [world.call("GET", PATH, after=0.01 * number) for number in range(5)]
        world.run()
        assert {type(run.error).__name__ for run in runs} == {"ConsumerNotActive"}
        assert service.count(LST) == asked


def test_an_unexplained_refusal_of_a_token_that_is_no_more(
    simulation: Callable[..., Simulation], service: FakeService
) -> None:
    """Somebody has renewed it while the call was under way: nobody needs to ask about the former one."""
    world = simulation(86_400.0)
    world.latency = 5.0
    service.script(PATH, EMPTY_401)
    world.start(world.flow.renew(world.flow.credential))
    run = world.call("GET", PATH, after=0.5)
    world.run()
    assert service.paths() == [LST, PATH, PATH]
    assert run.result.status_code == 200


@pytest.mark.parametrize("keeps_former", [True, False])
def test_one_renewal_in_the_background(
    simulation: Callable[..., Simulation], service: FakeService, keeps_former: bool
) -> None:
    """Where the service voids the former token at once, the calls that are under way are sent again."""
    service.keeps_former = keeps_former
    world = simulation(600.0)
    world.latency = 1.0
    world.clock.advance(550)
    runs = [world.call("GET", PATH, after=0.13 * number) for number in range(30)]
    world.run()
    assert len(world.in_background) == 1
    assert service.count(LST) == 1
    assert [run.result.status_code for run in runs] == [200] * 30
    again = 0 if keeps_former else 7  # the one that began the renewal was answered before it
    assert sorted(seen.token for seen in service.of(PATH)) == [0] * 8 + [1] * (22 + again)


def test_an_old_failure_is_not_told_again(simulation: Callable[..., Simulation], service: FakeService) -> None:
    world = simulation(retries=0)
    service.script(LST, Answer(503))
    failed = world.call("GET", PATH)
    world.run()
    assert isinstance(failed.error, MaintenanceError)
    good = [world.call("GET", PATH) for _ in range(3)]
    world.run()
    assert [run.error for run in good] == [None] * 3


@pytest.mark.parametrize("fails", [False, True])
def test_single_flight_of_threads_and_tasks(open_session: Open, service: FakeService, fails: bool) -> None:
    """The same with real locks: one request, all get its result."""
    ibkr = open_session()
    ibkr.get(PATH)
    service.expire_tokens()
    if fails:
        service.script(LST, *[INACTIVE] * 16)
    outcomes = ibkr.together(*[lambda session: session.post(PATH, json={})] * 16)
    if fails:
        assert {type(outcome).__name__ for outcome in outcomes} == {"ConsumerNotActive"}
        assert service.count(LST) <= 16
    else:
        assert {outcome.status_code for outcome in outcomes} == {200}
        assert service.count(LST) == 1
    assert len([seen for seen in service.processed if seen.path == PATH]) == (1 if fails else 17)


# --- Tokens of the caller's ----------------------------------------------------------------------


def test_a_token_that_is_there_already(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    assert ibkr.health().state == "open"
    ibkr.open()
    ibkr.get(PATH)
    assert service.paths() == [PATH]
    assert ibkr.health().counters.renewals == 0


def test_a_token_that_names_nobody(
    kind: str, open_session: Open, service: FakeService, access_token: AccessToken
) -> None:
    ibkr = open_session(
        live_session_token=live_token(service, access_token, owner={"consumer_key": None, "access_token": None})
    )
    assert ibkr.get(PATH).status_code == 200


@pytest.mark.parametrize("changes", [{"consumer_key": "SOMEBODY9"}, {"access_token": "00000000000000000000"}])
def test_a_token_of_somebody_else(
    open_session: Open, service: FakeService, access_token: AccessToken, changes: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match="belongs to another"):
        open_session(live_session_token=live_token(service, access_token, owner=changes))


def test_what_must_be_given(kind: str, consumer: Consumer, access_token: AccessToken, service: FakeService) -> None:
    kinds = DRIVERS[kind]
    with pytest.raises(MissingSetting, match=r"^consumer: missing"):
        kinds(None, access_token)
    with pytest.raises(MissingSetting, match=r"^access token: missing"):
        kinds(consumer)
    with pytest.raises(UsageError, match="needs its consumer"):
        kinds(cookie="c00k1e", live_session_token=live_token(service, access_token))


def test_half_of_the_credentials_and_a_cookie(kind: str, consumer: Consumer) -> None:
    """A cookie alone is a session, and so are consumer and access token; a consumer alone signs nothing."""
    with pytest.raises(MissingSetting, match="access token"):
        DRIVERS[kind](consumer, cookie="c00k1e")


def test_refreshing_a_session_that_has_only_a_cookie(kind: str, clock: FakeClock, service: FakeService) -> None:
    carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
    with DRIVERS[kind](cookie="c00k1e", transport=carrier, clock=clock) as ibkr, pytest.raises(UsageError):
        ibkr.refresh()


def test_a_wrong_encryption_key_shows_before_anything_is_sent(
    kind: str, pem: dict[str, str], access_token: AccessToken, service: FakeService
) -> None:
    swapped = Consumer("VECTORKEY", pem["encryption"], pem["signing"], pem["dh_params"])
    carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
    with DRIVERS[kind](swapped, access_token, transport=carrier, clock=service.clock) as ibkr:
        with pytest.raises((KeyMismatchError, SignatureRejected, LiveSessionTokenMismatch)):
            ibkr.get(PATH)
        assert service.count(PATH) == 0


# --- For other clients ---------------------------------------------------------------------------


def test_must_sign_again(open_session: Open, service: FakeService) -> None:
    """For an adapter: a stale token is renewed, and the same answer to the new one is final."""
    ibkr = open_session()
    url = f"{ibkr.base_url}{ORDERS}"
    signed = ibkr.sign("POST", url, form={"a": "1"})
    assert signed.body == b"a=1"
    assert ibkr.must_sign_again(signed, 401, {}, STALE.content())
    assert service.paths() == [LST]
    assert ibkr.sign("POST", url).headers["Authorization"] != signed.headers["Authorization"]
    assert not ibkr.must_sign_again(signed, 403, {}, b"")
    assert not ibkr.must_sign_again(signed, 200, {}, b"{}")


def test_a_signature_for_other_clients(open_session: Open, service: FakeService) -> None:
    """Over the fields of the form, too."""
    ibkr = open_session()
    url = f"{ibkr.base_url}{PATH}"
    for form in (None, {"b": "1 2", "a": "ü"}):
        signed = ibkr.sign("POST", url, form=form)
        assert (signed.method, signed.url) == ("POST", url)
        headers = {name.lower(): value for name, value in signed.headers.items()}
        if form:
            headers["content-type"] = "application/x-www-form-urlencoded"
        seen = Seen("POST", PATH, "", headers, signed.body, 0.0, 0.0, False)
        service._note(seen)  # which verifies it
        assert seen.token == 0


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("POST", False)])
def test_must_sign_again_what_is_gone(open_session: Open, service: FakeService, method: str, again: bool) -> None:
    """As with calls of the session's: the token is another one by now, and what is not safe to repeat is not repeated."""
    ibkr = open_session()
    signed = ibkr.sign(method, f"{ibkr.base_url}{PATH}")
    assert ibkr.must_sign_again(signed, 410, {}, GONE.content()) is again
    assert service.paths() == [LST]


def test_must_sign_again_by_the_right_clock(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    signed = ibkr.sign("POST", f"{ibkr.base_url}{PATH}")
    headers = {"Date": formatdate(service.now() + 1000, usegmt=True)}
    assert ibkr.must_sign_again(signed, 401, headers, BAD_SIGNATURE.content())
    assert service.seen == []
    assert ibkr.health().clock_skew == pytest.approx(-1000, abs=2)


def test_what_others_signed_is_not_signed_again(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    signed = SignedRequest("GET", f"{ibkr.base_url}{PATH}", {})
    assert ibkr.must_sign_again(signed, 401, {}, STALE.content()) is False
    assert service.seen == []


def test_what_is_answered_elsewhere_counts_for_the_pace(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    ibkr = open_session(pacing=10.0)
    accepted: list[str] = []
    monkeypatch.setattr(ibkr.session._flow.pacer, "accepted", accepted.append)
    for query in ("", "?a=1"):
        signed = ibkr.sign("GET", f"{ibkr.base_url}{PATH}{query}")
        ibkr.must_sign_again(signed, 401, {}, INACTIVE.content())
    assert accepted == [PATH, PATH]


def test_must_sign_again_and_cannot(open_session: Open, service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    """The credentials were withdrawn: the answer at hand says so well enough."""
    caplog.set_level(logging.ERROR)
    ibkr = open_session()
    signed = ibkr.sign("GET", f"{ibkr.base_url}{PATH}")
    service.script(LST, INACTIVE)
    assert not ibkr.must_sign_again(signed, 401, {}, STALE.content())
    assert not caplog.records


def test_only_urls_of_the_service_are_signed(open_session: Open) -> None:
    ibkr = open_session()
    for url in ("https://example.com/v1/api/x", "https://api.ibkr.com/v1/api", "https://api.ibkr.com/v1/apix/y"):
        with pytest.raises(UsageError):
            ibkr.sign("GET", url)


def test_the_access_token_was_revoked_meanwhile(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    service.expire_tokens()
    service.script(LST, Answer(401, {"error": "No access secret key found"}))
    with pytest.raises(AccessTokenUnknown):
        ibkr.get(PATH)


# --- The question whether a token is dead --------------------------------------------------------


def test_the_question_is_a_call_of_the_sessions_own(open_session: Open, service: FakeService) -> None:
    """A tickle, with the session's time-out, repeated where it fails on the way."""
    ibkr = open_session(timeout=7.0)
    service.expire_tokens()
    service.stale = EMPTY_401
    service.script("/tickle", Timeout("slow", sent=True))
    assert ibkr.post("/portfolio/DU1/summary", json={}, timeout=3.0).status_code == 200
    assert [(seen.method, seen.timeout) for seen in service.of("/tickle")] == [("POST", 7.0)] * 2
    assert service.count(LST) == 1


@pytest.mark.parametrize(("ago", "asked"), [(59.0, 0), (60.0, 1)])
def test_who_signed_a_good_call_a_moment_ago_is_not_asked_about(
    open_session: Open, service: FakeService, clock: FakeClock, ago: float, asked: int
) -> None:
    ibkr = open_session()
    ibkr.session._flow.credential.proven = clock.steady() - ago
    service.script(PATH, EMPTY_401)
    assert ibkr.get(PATH).status_code == 401
    assert service.count("/tickle") == asked


def test_the_question_keeps_to_the_limits(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """One tickle a second, also where the session wants to know something."""
    ibkr = open_session(pacing=10)
    ibkr.tickle()
    ibkr.session._flow.credential.proven = 0.0
    service.script(PATH, EMPTY_401)
    assert ibkr.get(PATH).status_code == 401
    first, second = service.of("/tickle")
    assert second.at - first.at == pytest.approx(1.0)


# --- Each cause is mended once -------------------------------------------------------------------


def at(service: FakeService, seconds: float) -> Answer:
    """A refusal by a server whose clock is so far ahead."""
    return Answer(401, STALE.body, headers=(("Date", formatdate(service.now() + seconds, usegmt=True)),))


def test_a_clock_in_between_does_not_make_a_token_stale_twice(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    service.script(PATH, STALE, at(service, 1000), STALE)
    assert ibkr.get(PATH).status_code == 401
    assert service.count(LST) == 1
    assert service.count(PATH) == 3


def test_a_token_in_between_does_not_make_a_clock_wrong_twice(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    service.script(PATH, at(service, 1000), at(service, 1000), at(service, 5000))
    assert ibkr.get(PATH).status_code == 401
    assert service.count(PATH) == 3


def test_a_corrected_clock_waits_for_nothing(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session(live_session_token=None)
    service.skew = 5000
    assert ibkr.get(PATH).status_code == 200
    assert service.count(LST) == 2
    assert sum(clock.slept) == 0


def test_what_failed_last_is_told(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append, retries=0)
    service.script(PATH, Timeout("slow", sent=True), OutcomeUnknown("reset", sent=True))
    with pytest.raises(Timeout):
        ibkr.get(PATH)
    assert ibkr.health().last_error == "slow"
    with pytest.raises(OutcomeUnknown):
        ibkr.post(PATH, json={})
    assert ibkr.health().last_error == "reset"
    assert [(event.kind, event.message) for event in events] == [("outcome_unknown", "reset")]
