"""The brokerage session: opened when it is needed, kept, lost, taken away, and never taken from others unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.drivers import Driver
from support.fake_clock import FakeClock
from support.fake_service import (
    ACCOUNTS,
    COMPETING,
    INIT,
    LST,
    NO_DH,
    NOT_AUTHENTICATED,
    ORDERS,
    STALE,
    STATUS,
    UNPRIMED,
    Answer,
    FakeService,
)
from support.simulation import Simulation

from ibkr_oauth import AccessToken, BrokerageStatus, Consumer, Event
from ibkr_oauth.errors import (
    BrokerageError,
    BrokerageNotOpen,
    BrokerageRefused,
    CompetingSession,
    ConnectError,
    MaintenanceError,
    PrimingRequired,
    ServerError,
)

from .conftest import live_token

Open = Callable[..., Driver]
SNAPSHOT = "/iserver/marketdata/snapshot"
NO_BRIDGE = Answer(400, {"error": "Bad Request: no bridge", "statusCode": 400})
POLICIES = ("raise", "yield", "take")


def competes(service: FakeService) -> list[bool]:
    """What each `ssodh/init` said about throwing others out."""
    assert all(seen.json["publish"] is True for seen in service.of(INIT))
    return [seen.json["compete"] for seen in service.of(INIT)]


# --- Lazy, eager, never --------------------------------------------------------------------------


def test_lazy(open_session: Open, service: FakeService) -> None:
    """`/iserver` paths open it, once; others, and those that ask about it, do not."""
    ibkr = open_session()
    ibkr.open()
    ibkr.get("/portfolio/accounts")
    assert ibkr.status().authenticated is False
    ibkr.post(STATUS)
    assert ibkr.brokerage.state == "not open"
    assert service.count(INIT) == 0
    for _ in range(2):
        assert ibkr.get(SNAPSHOT).status_code == 200
    assert service.paths(skip=("/portfolio/accounts", STATUS)) == [INIT, SNAPSHOT, SNAPSHOT]
    assert ibkr.brokerage.state == "open"
    assert ibkr.health().counters.brokerage_openings == 1


def test_eager(open_session: Open, service: FakeService) -> None:
    ibkr = open_session(brokerage="eager")
    assert service.seen == []
    ibkr.open()
    assert service.paths() == [INIT]
    ibkr.open()
    assert service.paths() == [INIT]


def test_eager_without_a_word_of_open(open_session: Open, service: FakeService) -> None:
    """`eager` opens the brokerage session with the first call, whatever that is."""
    ibkr = open_session(brokerage="eager")
    ibkr.get("/portfolio/accounts")
    assert service.paths() == [INIT, "/portfolio/accounts"]
    assert [seen.token for seen in service.seen] == [0, 0]  # both are signed


def test_eager_and_refused(open_session: Open, service: FakeService) -> None:
    """What does not need the brokerage session works meanwhile; it is an event, and tried again when it is needed."""
    events: list[Event] = []
    service.script(INIT, NO_DH, NO_DH)
    ibkr = open_session(brokerage="eager", on_event=events.append)
    for _ in range(2):
        assert ibkr.get("/portfolio/accounts").status_code == 200
    assert service.count(INIT) == 2
    assert [event.kind for event in events] == ["brokerage_failed"]
    with pytest.raises(BrokerageRefused):
        ibkr.get(SNAPSHOT)


def test_eager_and_refused_at_open(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Said once, to whom it matters; what does not need the brokerage session does not ask for it again."""
    service.script(INIT, NO_DH, NO_DH)
    ibkr = open_session(brokerage="eager")
    with pytest.raises(BrokerageRefused):
        ibkr.open()
    clock.advance(60)
    assert ibkr.get("/portfolio/accounts").status_code == 200
    assert service.count(INIT) == 2


@pytest.mark.parametrize("path", [INIT, "/logout"])
def test_eager_leaves_what_is_done_by_hand(open_session: Open, service: FakeService, path: str) -> None:
    """Who opens it or logs out himself gets just that."""
    ibkr = open_session(brokerage="eager")
    ibkr.post(path, json={"publish": True, "compete": False} if path == INIT else None)
    assert service.paths() == [path]


def test_never(open_session: Open, service: FakeService) -> None:
    """The service's own answer tells; nothing is mended."""
    ibkr = open_session(brokerage="never")
    ibkr.open()
    for _ in range(2):
        assert ibkr.get(SNAPSHOT).status_code == 401
        assert ibkr.post(ORDERS, json={}).status_code == 401
    assert set(service.paths()) == {SNAPSHOT, ORDERS}
    assert ibkr.brokerage.open().authenticated  # on the caller's own word, it may
    assert ibkr.get(SNAPSHOT).status_code == 200


def test_the_answer_of_init_may_come_seconds_before_the_session(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    service.looks = 3
    ibkr = open_session()
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert service.paths() == [INIT, STATUS, STATUS, STATUS, SNAPSHOT]
    assert clock.slept == [1.0] * 3


def test_a_session_that_is_never_authenticated(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    service.looks = 100
    ibkr = open_session()
    with pytest.raises(BrokerageRefused, match="5 s"):
        ibkr.get(SNAPSHOT)
    assert service.count(STATUS) == 5
    assert ibkr.brokerage.state == "refused"
    assert service.count(SNAPSHOT) == 0


def test_the_token_is_renewed_on_the_way(open_session: Open, service: FakeService) -> None:
    """While the brokerage session is opened: the call itself then goes out with the new one, at once."""
    ibkr = open_session()
    service.expire_tokens()
    assert ibkr.post(ORDERS, json={}).status_code == 200
    assert service.paths() == [INIT, LST, INIT, ACCOUNTS, ORDERS]


# --- Refused -------------------------------------------------------------------------------------


def test_refused_and_then_not(open_session: Open, service: FakeService) -> None:
    """Seen to go away after a tickle and a moment."""
    service.script(INIT, NO_DH)
    assert open_session().get(SNAPSHOT).status_code == 200
    assert [(seen.method, seen.path) for seen in service.seen] == [
        ("POST", INIT),
        ("POST", "/tickle"),
        ("POST", INIT),
        ("GET", SNAPSHOT),
    ]


def test_refused(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Asked once more; then the refusal is believed for 5 seconds, 10, 20, 40, and never longer than 60."""
    service.script(INIT, *[NO_DH] * 100)
    ibkr = open_session()
    asked = 0
    for rest in (5, 10, 20, 40, 60, 60):
        with pytest.raises(BrokerageRefused):
            ibkr.get(SNAPSHOT)
        asked += 2
        assert service.paths() == [INIT, "/tickle", INIT] * (asked // 2)
        clock.advance(rest - 0.5)
        with pytest.raises(BrokerageRefused):
            ibkr.get(SNAPSHOT)
        assert service.count(INIT) == asked
        clock.advance(0.5)
    assert ibkr.brokerage.state == "refused"
    assert ibkr.get("/portfolio/accounts").status_code == 200


def test_a_refusal_after_better_times_is_a_first_one(
    open_session: Open, service: FakeService, clock: FakeClock
) -> None:
    """Believed for 5 seconds again, neither longer nor shorter."""
    service.script(INIT, *[NO_DH] * 4)
    ibkr = open_session()
    for _ in range(2):
        with pytest.raises(BrokerageRefused):
            ibkr.get(SNAPSHOT)
        clock.advance(10)
    ibkr.get(SNAPSHOT)
    ibkr.post("/logout")
    service.script(INIT, NO_DH, NO_DH)
    service.seen.clear()
    for asked, wait in ((2, 4.5), (2, 0.5)):
        with pytest.raises(BrokerageRefused):
            ibkr.get(SNAPSHOT)
        assert service.count(INIT) == asked
        clock.advance(wait)
    assert ibkr.get(SNAPSHOT).status_code == 200


def test_each_gets_an_error_of_his_own(open_session: Open, service: FakeService) -> None:
    """One error object raised twice would carry the traceback of somebody else's call."""
    service.script(INIT, *[NO_DH] * 100)
    ibkr = open_session()
    errors = []
    for _ in range(3):
        with pytest.raises(BrokerageRefused) as caught:
            ibkr.get(SNAPSHOT)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3
    assert len({str(error) for error in errors}) == 1


def test_the_callers_own_word_does_not_wait(open_session: Open, service: FakeService) -> None:
    service.script(INIT, NO_DH, NO_DH)
    ibkr = open_session()
    with pytest.raises(BrokerageRefused):
        ibkr.get(SNAPSHOT)
    assert ibkr.brokerage.open().authenticated
    assert ibkr.get(SNAPSHOT).status_code == 200


def test_a_disturbance_is_no_refusal(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """It has been repeated as the session's own calls are, and is believed for some seconds too."""
    service.script(INIT, *[Answer(503)] * 3)
    ibkr = open_session()
    with pytest.raises(MaintenanceError):
        ibkr.get(SNAPSHOT)
    assert service.paths() == [INIT] * 3
    assert ibkr.brokerage.state == "lost"
    clock.advance(6)
    assert ibkr.get(SNAPSHOT).status_code == 200


def test_the_network_fails_while_opening(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """Nothing of the caller's was sent, so that an order may be repeated by him."""
    service.script(INIT, *[ConnectError("refused")] * 3)
    ibkr = open_session()
    with pytest.raises(ConnectError):
        ibkr.post(ORDERS, json={})
    assert service.count(ORDERS) == 0
    clock.advance(6)
    assert ibkr.post(ORDERS, json={}).status_code == 200


def test_what_the_answers_say(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    for body, expected in (
        ({"authenticated": True, "competing": True, "connected": True}, BrokerageStatus(True, True, True, "")),
        ({"authenticated": False, "competing": False, "connected": False}, BrokerageStatus(False, False, False, "")),
        ({"authenticated": 1, "competing": "yes", "connected": 1}, BrokerageStatus(False, False, False, "")),
        ({"message": "maintenance", "error": "x"}, BrokerageStatus(False, False, False, "maintenance")),
        ({"message": "", "error": "no session"}, BrokerageStatus(False, False, False, "no session")),
        ({"connected": True}, BrokerageStatus(False, False, True, "")),
    ):
        service.script(STATUS, Answer(body=body))
        assert ibkr.status() == expected


@pytest.mark.parametrize("iserver", [{"authStatus": "no"}, {"authStatus": None}, {}, {"authStatus": [True]}])
def test_a_tickle_without_a_status(open_session: Open, service: FakeService, iserver: object) -> None:
    """Nobody is authenticated, as far as it says."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.script("/tickle", Answer(body={"iserver": iserver}))
    ibkr.tickle()
    assert ibkr.brokerage.state == "lost"


def test_an_answer_that_is_no_status(open_session: Open, service: FakeService) -> None:
    service.script(INIT, Answer(body=["?"]))
    with pytest.raises(ServerError, match="expected an object"):
        open_session().get(SNAPSHOT)


# --- Competing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["raise", "yield"])
def test_another_login_is_left_alone(open_session: Open, service: FakeService, clock: FakeClock, policy: str) -> None:
    """It was there first. Both say so; the next call asks again after a rest."""
    events: list[Event] = []
    service.compete()
    ibkr = open_session(on_competing=policy, on_event=events.append)
    with pytest.raises(CompetingSession) as caught:
        ibkr.get(SNAPSHOT)
    assert [(event.kind, event.message) for event in events] == [("competing", caught.value.message)]
    assert caught.value.message == "the user name is active elsewhere, and holds the brokerage session"
    assert caught.value.advice == (
        "Use a second user name for the API, log out there, or let this session take over with on_competing='take' or "
        "brokerage.open(compete=True)."
    )
    assert ibkr.brokerage.state == "competing"
    assert service.rival
    assert competes(service) == [False]
    assert clock.slept == []  # there is nothing to wait for
    service.rival = False
    clock.advance(6)
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert competes(service) == [False, False]


def test_another_login_is_thrown_out(open_session: Open, service: FakeService) -> None:
    service.compete()
    ibkr = open_session(on_competing="take")
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert competes(service) == [True]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("compete", [None, False, True])
def test_on_the_callers_own_word(open_session: Open, service: FakeService, policy: str, compete: bool | None) -> None:
    service.compete()
    ibkr = open_session(on_competing=policy)
    expected = policy == "take" if compete is None else compete
    if expected:
        assert ibkr.brokerage.open(compete=compete).authenticated
    else:
        with pytest.raises(CompetingSession):
            ibkr.brokerage.open(compete=compete)
    assert competes(service) == [expected]


@pytest.fixture(params=[NOT_AUTHENTICATED, COMPETING], ids=["not authenticated", "competing"])
def taken(request: pytest.FixtureRequest, service: FakeService) -> Callable[[], None]:
    """Another login takes the session. The service's words may tell, or only that nobody is authenticated any more."""
    service.rival_words = request.param
    return service.compete


@pytest.mark.parametrize("was_taken", [False, True])
def test_the_callers_own_word_counts_though_it_is_refused(
    open_session: Open, service: FakeService, clock: FakeClock, was_taken: bool
) -> None:
    """He wants it back: calls may ask for it again, once the refusal has been believed."""
    ibkr = open_session()
    if was_taken:
        ibkr.get(SNAPSHOT)
        service.compete()
        service.rival_words = COMPETING
        with pytest.raises(CompetingSession):
            ibkr.get(SNAPSHOT)
        service.rival = False
    service.script(INIT, NO_DH, NO_DH)
    with pytest.raises(BrokerageRefused):
        ibkr.brokerage.open()
    clock.advance(6)
    assert ibkr.get(SNAPSHOT).status_code == 200


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if event.kind != "brokerage_lost"]


def test_taken_from_us_under_raise(
    open_session: Open, service: FakeService, clock: FakeClock, taken: Callable[[], None]
) -> None:
    """Only the caller may take it back: neither time, nor that the other has left, nor a tickle changes that."""
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.get(SNAPSHOT)
    taken()
    for _ in range(2):
        with pytest.raises(CompetingSession):
            ibkr.get(SNAPSHOT)
        with pytest.raises(CompetingSession):
            ibkr.post(ORDERS, json={})
    service.rival = False
    clock.advance(3600)
    ibkr.tickle()
    with pytest.raises(CompetingSession):
        ibkr.get(SNAPSHOT)
    assert not any(competes(service))
    ibkr.brokerage.open()
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert kinds(events) == ["brokerage_opened", "competing", "brokerage_opened"]


def test_taken_from_us_under_yield(
    open_session: Open, service: FakeService, clock: FakeClock, taken: Callable[[], None]
) -> None:
    events: list[Event] = []
    ibkr = open_session(on_competing="yield", on_event=events.append)
    ibkr.get(SNAPSHOT)
    taken()
    for _ in range(3):
        clock.advance(61)
        with pytest.raises(CompetingSession):
            ibkr.get(SNAPSHOT)
    service.rival = False
    clock.advance(61)
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert not any(competes(service))
    assert kinds(events) == ["brokerage_opened", "competing", "brokerage_opened"]


def test_taken_from_us_under_take(open_session: Open, service: FakeService, taken: Callable[[], None]) -> None:
    """A GET is sent again; an order was refused, and is the caller's to repeat."""
    ibkr = open_session(on_competing="take")
    ibkr.get(SNAPSHOT)
    taken()
    assert ibkr.get(SNAPSHOT).status_code == 200
    ibkr.get(ACCOUNTS)
    taken()
    service.seen.clear()
    assert ibkr.post(ORDERS, json={}).status_code == 401
    assert service.paths() == [ORDERS, INIT]
    assert ibkr.post(ORDERS, json={}).status_code == 200
    assert competes(service) == [True]


def test_the_other_has_left_a_moment_after(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """A tickle shows that nobody competes: then the refusal that was believed is forgotten."""
    ibkr = open_session(on_competing="yield")
    service.compete()
    with pytest.raises(CompetingSession):
        ibkr.get(SNAPSHOT)
    service.rival = False
    ibkr.tickle()
    service.script(INIT, NO_DH, NO_DH)
    for wait in (4.5, 0.5):  # the next refusal is a first one again
        with pytest.raises(BrokerageRefused):
            ibkr.get(SNAPSHOT)
        clock.advance(wait)
    assert service.count(INIT) == 3
    assert ibkr.get(SNAPSHOT).status_code == 200


def test_authenticated_and_competing_both(open_session: Open, service: FakeService) -> None:
    """Seen (USERS): then it is ours."""
    service.script(INIT, lambda _: opened(service))
    ibkr = open_session()
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert ibkr.brokerage.state == "open"


def opened(service: FakeService) -> Answer:
    service.authenticated = True
    return Answer(body={"authenticated": True, "competing": True, "connected": True})


# --- Priming -------------------------------------------------------------------------------------


def test_an_order_is_primed_before(open_session: Open, service: FakeService) -> None:
    """So that it is never refused for that, and never to be repeated."""
    ibkr = open_session()
    for _ in range(2):
        assert ibkr.post(ORDERS, json={}).status_code == 200
    assert service.paths() == [INIT, ACCOUNTS, ORDERS, ORDERS]


def test_a_get_is_primed_when_the_service_asks_for_it(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    assert ibkr.get("/iserver/account/DU1/summary").status_code == 200
    assert ibkr.get("/iserver/account/orders").status_code == 200
    assert service.paths() == [
        INIT,
        "/iserver/account/DU1/summary",
        ACCOUNTS,
        "/iserver/account/DU1/summary",
        "/iserver/account/orders",
    ]


def test_priming_that_does_not_help(open_session: Open, service: FakeService) -> None:
    service.script("/iserver/account/orders", UNPRIMED, UNPRIMED)
    response = open_session().get("/iserver/account/orders")
    assert response.status_code == 500
    with pytest.raises(PrimingRequired):
        response.raise_for_status()
    assert service.paths() == [INIT, "/iserver/account/orders", ACCOUNTS, "/iserver/account/orders"]


@pytest.mark.parametrize("words", [NOT_AUTHENTICATED, NO_BRIDGE], ids=["not authenticated", "no bridge"])
def test_priming_that_meets_a_lost_session(open_session: Open, service: FakeService, words: Answer) -> None:
    """It is opened again, since nothing of the order was sent yet."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.lose_brokerage()
    service.script(ACCOUNTS, words)
    assert ibkr.post(ORDERS, json={}).status_code == 200
    assert service.paths() == [INIT, SNAPSHOT, ACCOUNTS, INIT, ACCOUNTS, ORDERS]


def test_priming_that_meets_a_lost_session_twice(open_session: Open, service: FakeService) -> None:
    """The order is not sent."""
    service.script(ACCOUNTS, NOT_AUTHENTICATED, NOT_AUTHENTICATED)
    with pytest.raises(BrokerageError, match="not authenticated"):
        open_session().post(ORDERS, json={})
    assert service.paths() == [INIT, ACCOUNTS, INIT, ACCOUNTS]


def test_priming_that_meets_another_login(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.compete()
    with pytest.raises(CompetingSession):
        ibkr.post(ORDERS, json={})
    assert ibkr.brokerage.state == "competing"
    assert service.count(ORDERS) == 0


def test_priming_that_is_refused(open_session: Open, service: FakeService) -> None:
    """The order is not sent."""
    service.script(ACCOUNTS, Answer(500, "oops"))
    with pytest.raises(ServerError):
        open_session().post(ORDERS, json={})
    assert service.count(ORDERS) == 0


def test_a_new_session_is_primed_anew(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    ibkr.post(ORDERS, json={})
    service.lose_brokerage()
    assert ibkr.get(SNAPSHOT).status_code == 200
    service.seen.clear()
    assert ibkr.post(ORDERS, json={}).status_code == 200
    assert service.paths() == [ACCOUNTS, ORDERS]


# --- Lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [NOT_AUTHENTICATED, NO_BRIDGE], ids=["not authenticated", "no bridge"])
def test_lost_in_the_middle_of_a_get(open_session: Open, service: FakeService, words: Answer) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.get(SNAPSHOT)
    service.script(SNAPSHOT, words)
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert service.paths() == [INIT, SNAPSHOT, SNAPSHOT, INIT, SNAPSHOT]
    said = [(event.kind, event.message) for event in events]
    opened = ("brokerage_opened", "the brokerage session is open")
    told = f"GET /v1/api{SNAPSHOT}: refused with status {words.status}: {words.content().decode()}"
    assert said == [opened, ("brokerage_lost", told), opened]
    assert service.count(LST) == 0


@pytest.mark.parametrize("words", [NOT_AUTHENTICATED, NO_BRIDGE], ids=["not authenticated", "no bridge"])
def test_lost_in_the_middle_of_an_order(open_session: Open, service: FakeService, words: Answer) -> None:
    """The answer is returned, and the order not sent again; the session is open for the next one."""
    ibkr = open_session()
    ibkr.post(ORDERS, json={})
    service.lose_brokerage()
    service.script(ORDERS, words)
    service.seen.clear()
    response = ibkr.post(ORDERS, json={})
    assert response.status_code == words.status
    assert service.paths() == [ORDERS, INIT]
    assert ibkr.brokerage.state == "open"
    assert ibkr.post(ORDERS, json={}).status_code == 200


def test_lost_again_at_once(open_session: Open, service: FakeService) -> None:
    """The reopened session did not help: that is the answer then."""
    ibkr = open_session()
    service.script(SNAPSHOT, *[NOT_AUTHENTICATED] * 5)
    assert ibkr.get(SNAPSHOT).status_code == 401
    assert service.paths() == [INIT, SNAPSHOT, INIT, SNAPSHOT]


def test_a_tickle_by_hand_tells(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.get(SNAPSHOT)
    service.lose_brokerage()
    service.script("/tickle", Answer(body={"error": "no session"}))
    ibkr.tickle()
    assert ibkr.brokerage.state == "lost"
    assert [event.kind for event in events] == ["brokerage_opened", "brokerage_lost"]
    assert events[-1].message == "the brokerage session is gone: the service ended it"
    assert ibkr.get(SNAPSHOT).status_code == 200
    assert service.count(INIT) == 2


def test_competing_told_by_a_tickle(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    ibkr.get(SNAPSHOT)
    service.compete()
    ibkr.tickle()
    assert ibkr.brokerage.state == "competing"
    assert events[-1].kind == "competing"
    assert events[-1].message == "the brokerage session is gone: another login of the user name"


# --- By hand -------------------------------------------------------------------------------------


def test_ssodh_init_by_hand(open_session: Open, service: FakeService) -> None:
    """The caller's plain call does what ours would have done, and opens nothing where it is open."""
    events: list[Event] = []
    ibkr = open_session(on_event=events.append)
    for _ in range(2):
        assert ibkr.post(INIT, json={"publish": True, "compete": False}).status_code == 200
        assert ibkr.brokerage.state == "open"
    ibkr.get(SNAPSHOT)
    assert service.count(INIT) == 2
    assert kinds(events) == ["brokerage_opened"]


@pytest.mark.parametrize("answer", [NO_DH, Answer(body="no JSON"), Answer(body=["?"]), Answer(503)])
def test_ssodh_init_by_hand_that_fails(open_session: Open, service: FakeService, answer: Answer) -> None:
    """The caller sees the answer, and judges for himself."""
    service.script(INIT, answer)
    ibkr = open_session(retries=0)
    response = ibkr.post(INIT, json={"publish": True, "compete": False})
    assert (response.status_code, response.content) == (answer.status, answer.content())
    assert ibkr.brokerage.state == "not open"


def test_ssodh_init_by_hand_that_does_not_open(open_session: Open, service: FakeService) -> None:
    service.compete()
    ibkr = open_session()
    assert ibkr.post(INIT, json={"publish": True, "compete": False}).json()["authenticated"] is False
    assert ibkr.brokerage.state != "open"


def test_accounts_by_hand(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    ibkr.get(ACCOUNTS)
    ibkr.post(ORDERS, json={})
    assert service.paths() == [INIT, ACCOUNTS, ORDERS]


def test_logout_by_hand(open_session: Open, service: FakeService) -> None:
    """Not logged out a second time at the end."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    ibkr.post("/logout")
    assert ibkr.brokerage.state == "not open"
    ibkr.close()
    assert service.count("/logout") == 1


def test_a_session_that_is_opened_after_a_logout_by_hand(open_session: Open, service: FakeService) -> None:
    """It is a new one, and wants to be primed as such."""
    ibkr = open_session()
    ibkr.post(ORDERS, json={})
    ibkr.post("/logout")
    service.seen.clear()
    assert ibkr.post(ORDERS, json={}).status_code == 200
    assert service.paths() == [INIT, ACCOUNTS, ORDERS]


def test_brokerage_close(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    ibkr.brokerage.close()
    assert service.seen == []
    ibkr.get(SNAPSHOT)
    ibkr.brokerage.close()
    assert service.paths() == [INIT, SNAPSHOT, "/logout"]
    assert ibkr.brokerage.state == "not open"
    assert ibkr.get("/portfolio/accounts").status_code == 200
    assert "not open" in repr(ibkr.session.brokerage)


# --- One opening for all -------------------------------------------------------------------------


@pytest.fixture
def simulation(consumer: Consumer, access_token: AccessToken, service: FakeService) -> Callable[..., Simulation]:
    def make(**options: Any) -> Simulation:
        token = live_token(service, access_token)
        world = Simulation(service, consumer, access_token, pacing=None, live_session_token=token, **options)
        world.latency = 1.0
        return world

    return make


def test_one_opening_for_many(simulation: Callable[..., Simulation], service: FakeService) -> None:
    world = simulation()
    runs = [world.call("GET", SNAPSHOT, after=0.15 * number) for number in range(20)]
    world.run()
    assert service.count(INIT) == 1
    assert [run.result.status_code for run in runs] == [200] * 20


def test_one_reopening_for_many(simulation: Callable[..., Simulation], service: FakeService) -> None:
    """Those who were refused for the former session do not end the new one."""
    world = simulation()
    world.call("GET", SNAPSHOT)
    world.run()
    service.lose_brokerage()
    runs = [world.call("GET", SNAPSHOT, after=0.15 * number) for number in range(20)]
    world.run()
    assert service.count(INIT) == 2
    assert [run.result.status_code for run in runs] == [200] * 20


def test_one_refusal_for_many(simulation: Callable[..., Simulation], service: FakeService) -> None:
    service.compete()
    world = simulation()
    runs = [world.call("GET", SNAPSHOT, after=0.15 * number) for number in range(20)]
    world.run()
    assert service.count(INIT) == 1
    assert {type(run.error) for run in runs} == {CompetingSession}


def test_one_priming_for_many(simulation: Callable[..., Simulation], service: FakeService) -> None:
    """Sixty orders do not ask for the accounts sixty times; IBKR allows ten calls a second."""
    world = simulation()
    runs = [world.call("POST", ORDERS, json={}) for _ in range(20)]
    world.run()
    assert service.count(ACCOUNTS) == 1
    assert [run.result.status_code for run in runs] == [200] * 20


def test_a_late_refusal_does_not_end_what_was_opened_since(simulation: Callable[..., Simulation]) -> None:
    world = simulation()
    for _ in range(3):
        world.call("GET", SNAPSHOT)
        world.run()
        world.service.lose_brokerage()
    brokerage = world.flow.brokerage
    assert (brokerage.state, brokerage.openings) == ("open", 3)
    for opening in (1, 2):
        late = BrokerageNotOpen("not authenticated")
        assert list(brokerage.recover(world.flow, late, opening)) == []
        assert brokerage.state == "open"


@pytest.mark.parametrize("mode", ["lazy", "eager", "never"])
@pytest.mark.parametrize("state", ["not open", "open", "lost", "competing", "refused"])
def test_is_ready(simulation: Callable[..., Simulation], mode: str, state: str) -> None:
    """Else a call goes the long way, and waits where others prime."""
    brokerage = simulation(brokerage=mode).flow.brokerage
    brokerage.state = state
    good = mode == "never" or state == "open"
    assert brokerage.is_ready(primed=False) is good
    assert brokerage.is_ready(primed=True) is (mode == "never")
    brokerage.used_by_hand(None, ACCOUNTS, None)
    assert brokerage.is_ready(primed=False) is brokerage.is_ready(primed=True) is good


@pytest.mark.parametrize("policy", ["raise", "yield"])
def test_competing_text_in_an_answer(open_session: Open, service: FakeService, policy: str) -> None:
    """Nobody needs to be asked again."""
    ibkr = open_session(on_competing=policy)
    ibkr.get(SNAPSHOT)
    service.script(SNAPSHOT, COMPETING)
    with pytest.raises(CompetingSession):
        ibkr.get(SNAPSHOT)
    assert service.count(INIT) == 1
    assert ibkr.brokerage.state == "competing"


def test_each_cause_is_mended_once_whatever_comes_between(open_session: Open, service: FakeService) -> None:
    """A stale token, a lost brokerage session, and a stale token again: the latter is the caller's to see."""
    ibkr = open_session()
    ibkr.get(SNAPSHOT)
    service.script(SNAPSHOT, STALE, NOT_AUTHENTICATED, STALE)
    assert ibkr.get(SNAPSHOT).status_code == 401
    assert service.count(LST) == 1
    assert service.count(SNAPSHOT) == 4
    assert "not authenticated" in ibkr.health().last_error
