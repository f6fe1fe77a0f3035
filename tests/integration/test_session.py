"""Both sessions against the strict sandbox over TLS: real signatures, real connections, the keep-alive of the C engine."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from support.drivers import DRIVERS, AsyncDriver, Driver, SyncDriver

from ibkr_oauth import AccessToken, AsyncSession, Consumer, Event, Session
from ibkr_oauth.errors import CompetingSession, MaintenanceError, RateLimited, SessionClosed
from ibkr_oauth.oauth import ParametersIn
from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.sandbox.state import QueryRule
from ibkr_oauth.signing import QuerySigning

from .conftest import CONSUMER_KEY, register

Open = Callable[..., Driver]
ACCOUNTS = "/iserver/accounts"
PORTFOLIO = "/portfolio/accounts"
ROOT = "/v1/api"


@pytest.fixture(params=sorted(DRIVERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Sync or async: every test that opens a session runs with both."""
    kind: str = request.param
    return kind


@pytest.fixture
def open_session(kind: str, sandbox: Sandbox, consumer: Consumer, access_token: AccessToken) -> Iterator[Open]:
    """Without keep-alive and pacing unless given."""
    opened: list[Driver] = []

    def make(**options: Any) -> Driver:
        defaults = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file, "keep_alive": None, "pacing": None}
        driver = DRIVERS[kind](consumer, access_token, **(defaults | options))
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.shut()


def paths(sandbox: Sandbox) -> list[str]:
    return [request.path.removeprefix(ROOT) for request in sandbox.requests]


class Listener:
    """Collects events, and waits for them; a session on a loop needs the loop to run meanwhile."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def wait(self, ibkr: Driver, condition: Callable[[], object]) -> None:
        """What is waited for may be a counter, of which no event tells."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.kinds
            if isinstance(ibkr, AsyncDriver):
                ibkr._runner.run(asyncio.sleep(0.005))
            else:
                time.sleep(0.005)


# --- Calls ---------------------------------------------------------------------------------------


def test_first_calls(open_session: Open, sandbox: Sandbox) -> None:
    ibkr = open_session()
    assert sandbox.requests == ()
    assert ibkr.get(PORTFOLIO).json()
    assert ibkr.get(ACCOUNTS).json()["accounts"]
    assert ibkr.status().authenticated
    assert ibkr.tickle().json()["session"]
    assert paths(sandbox) == [
        "/oauth/live_session_token",
        PORTFOLIO,
        "/iserver/auth/ssodh/init",
        ACCOUNTS,
        "/iserver/auth/status",
        "/tickle",
    ]
    ibkr.close()
    assert paths(sandbox)[-1] == "/logout"
    assert sandbox.brokerage_holder() is None


@pytest.mark.parametrize("rule", get_args(QuerySigning))
def test_queries_and_forms(kind: str, pem: dict[str, str], consumer: Consumer, rule: QueryRule) -> None:
    """With commas, blanks and umlauts; the sandbox accepts this one way of signing a query only."""
    with Sandbox(tls=True, query_rules=[rule]) as strict:
        register(strict, pem)
        options: dict[str, Any] = {
            "base_url": strict.base_url,
            "ca_file": strict.ca_file,
            "keep_alive": None,
            "pacing": None,
        }
        token = AccessToken(*strict.grant(CONSUMER_KEY))
        with DRIVERS[kind](consumer, token, query_signing=rule, **options) as ibkr:
            for path, params in (
                (PORTFOLIO, {"a": "1,2", "b": "x y/ü", "c": [1, 2], "d": True}),
                (f"{PORTFOLIO}?q=1%2C2&r=x%20y", None),
            ):
                assert ibkr.get(path, params).status_code == 200
                assert ibkr.post("/tickle", params=params).status_code == 200
            assert ibkr.post("/tickle", json={"note": "a b,ü"}).status_code == 200
            # How a form and a query are joined under other rules nobody has published.
            if rule in ("omit", "merge"):
                assert ibkr.post("/tickle", data={"note": "a b,ü&="}).status_code == 200


@pytest.mark.parametrize("place", get_args(ParametersIn))
def test_where_the_parameters_of_the_token_request_go(open_session: Open, place: ParametersIn) -> None:
    assert open_session(parameters_in=place).get(PORTFOLIO).status_code == 200


def test_threads_and_tasks_share_one(open_session: Open, sandbox: Sandbox) -> None:
    ibkr = open_session()
    answers = ibkr.together(*[lambda session: session.get(ACCOUNTS)] * 24)
    assert [answer.status_code for answer in answers] == [200] * 24
    assert sandbox.counts[f"{ROOT}/oauth/live_session_token"] == 1
    assert sandbox.counts[f"{ROOT}/iserver/auth/ssodh/init"] == 1


def test_a_session_from_the_environment(
    kind: str, sandbox: Sandbox, access_token: AccessToken, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "CONSUMER_KEY": CONSUMER_KEY,
        "ACCESS_TOKEN": access_token.token,
        "ACCESS_TOKEN_SECRET": access_token.secret,
        "SIGNING_KEY": pem["signing"],
        "ENCRYPTION_KEY": pem["encryption"],
        "DH_PARAMS": pem["dh_params"],
        "BASE_URL": sandbox.base_url,
        "CA_FILE": str(sandbox.ca_file),
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"IBKR_OAUTH_{name}", value)
    if kind == "sync":
        with Session.from_env(keep_alive=None) as ibkr:
            assert ibkr.get(PORTFOLIO).status_code == 200
    else:

        async def run() -> int:
            async with AsyncSession.from_env(keep_alive=None) as ibkr:
                return (await ibkr.get(PORTFOLIO)).status_code

        assert asyncio.run(run()) == 200


def test_the_cookie(open_session: Open, sandbox: Sandbox) -> None:
    """The service sets it with the first good answer, and gets it back with every further call."""
    ibkr = open_session()
    ibkr.get(PORTFOLIO)
    cookie = ibkr.session._flow.cookie
    assert cookie
    assert ibkr.get(PORTFOLIO).headers["set-cookie"].startswith(f"api={cookie};")


def test_a_cookie_is_all_there_is(kind: str, pem: dict[str, str], consumer: Consumer) -> None:
    """As IBKR's older documentation has it: unsigned calls of a session that exists."""
    with Sandbox(tls=True, cookie_auth=True) as sandbox:
        register(sandbox, pem)
        options: dict[str, Any] = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file, "keep_alive": None}
        with Session(consumer, AccessToken(*sandbox.grant(CONSUMER_KEY)), **options) as signed:
            cookie = signed.tickle().json()["session"]
            with DRIVERS[kind](cookie=cookie, **options) as ibkr:
                assert ibkr.get(ACCOUNTS).status_code == 200
            with DRIVERS[kind](cookie="0123456789abcdef", **options) as ibkr:
                assert ibkr.get(PORTFOLIO).status_code == 401


# --- Bad days ------------------------------------------------------------------------------------


def test_a_token_that_the_service_lets_expire(open_session: Open, sandbox: Sandbox) -> None:
    listener = Listener()
    ibkr = open_session(on_event=listener)
    ibkr.get(PORTFOLIO)
    sandbox.expire_token()
    assert ibkr.post("/tickle").status_code == 200
    assert listener.kinds == ["opened", "renewed"]


@pytest.mark.parametrize("skew", [-900.0, 900.0])
def test_a_wrong_clock(open_session: Open, sandbox: Sandbox, skew: float) -> None:
    sandbox.skew(skew)
    ibkr = open_session()
    assert ibkr.get(PORTFOLIO).status_code == 200
    sandbox.skew(0)
    assert ibkr.post("/tickle").status_code == 200
    assert ibkr.health().clock_skew == 0
    assert sandbox.counts[f"{ROOT}/oauth/live_session_token"] == 2


def test_another_program_takes_over(open_session: Open, sandbox: Sandbox) -> None:
    ibkr = open_session()
    ibkr.get(ACCOUNTS)
    sandbox.compete_from("TWS")
    with pytest.raises(CompetingSession):
        ibkr.get(ACCOUNTS)
    assert sandbox.brokerage_holder() == "TWS"
    assert ibkr.brokerage.open(compete=True).authenticated
    assert ibkr.get(ACCOUNTS).status_code == 200
    ibkr.close()
    assert sandbox.brokerage_holder() is None


def test_leaving_the_other_program_alone(open_session: Open, sandbox: Sandbox) -> None:
    ibkr = open_session()
    ibkr.get(ACCOUNTS)
    sandbox.compete_from("TWS")
    with pytest.raises(CompetingSession):
        ibkr.get(ACCOUNTS)
    ibkr.close()
    assert sandbox.brokerage_holder() == "TWS"


def test_a_hidden_loss(open_session: Open, sandbox: Sandbox) -> None:
    ibkr = open_session()
    ibkr.get(ACCOUNTS)
    sandbox.lose_session()
    ibkr.tickle()
    assert ibkr.brokerage.state == "lost"
    assert ibkr.get(ACCOUNTS).status_code == 200


def test_maintenance(open_session: Open, sandbox: Sandbox) -> None:
    """Short enough: nobody notices. Else the answer says so."""
    ibkr = open_session(retries=0)
    ibkr.get(ACCOUNTS)
    sandbox.maintenance()
    with pytest.raises(MaintenanceError):
        ibkr.get(PORTFOLIO).raise_for_status()
    sandbox.maintenance(False)
    assert ibkr.get(ACCOUNTS).status_code == 200


def test_a_penalty(open_session: Open, sandbox: Sandbox) -> None:
    """The service asks for ten minutes: no further request goes out."""
    sandbox.rate_limit(1, retry_after=600, penalty=600)
    ibkr = open_session(pacing=10, retries=0)
    path = "/portfolio/DU1234567/summary"
    while ibkr.get(path).status_code != 429:
        assert len(sandbox.requests) < 5
    sent = len(sandbox.requests)
    with pytest.raises(RateLimited) as caught:
        ibkr.get(path)
    assert caught.value.retry_after == pytest.approx(600, abs=20)
    assert len(sandbox.requests) == sent


def test_the_service_restarts(open_session: Open, sandbox: Sandbox) -> None:
    """Kept connections are dead: a call, an order too, takes another one, and is made once."""
    ibkr = open_session()
    ibkr.get(ACCOUNTS)
    sandbox.restart()
    assert ibkr.post("/tickle").status_code == 200
    sandbox.restart()
    assert ibkr.get(ACCOUNTS).status_code == 200


# --- The keep-alive ------------------------------------------------------------------------------

QUICK = 0.05


def test_tickles_are_heard(open_session: Open, sandbox: Sandbox) -> None:
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener)
    assert ibkr.health().keep_alive is False
    ibkr.get(ACCOUNTS)
    assert ibkr.health().keep_alive is True
    listener.wait(ibkr, lambda: ibkr.health().counters.tickles >= 3)
    health = ibkr.health()
    assert health.counters.tickles >= 3
    assert health.last_tickle is not None
    assert listener.kinds == ["opened", "brokerage_opened"]
    ibkr.close()
    assert ibkr.health().keep_alive is False


def test_nobody_calls_and_the_brokerage_session_ends(open_session: Open, sandbox: Sandbox) -> None:
    """The keep-alive notices, and it is opened again."""
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener)
    ibkr.get(ACCOUNTS)
    sandbox.end_brokerage()
    listener.wait(ibkr, lambda: listener.kinds.count("brokerage_opened") == 2)
    assert listener.kinds == ["opened", "brokerage_opened", "brokerage_lost", "brokerage_opened"]
    assert sandbox.brokerage_holder() == CONSUMER_KEY


def test_nobody_calls_and_the_token_expires(open_session: Open, sandbox: Sandbox) -> None:
    """It is renewed, and the keep-alive signs with the new one."""
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener)
    ibkr.get(PORTFOLIO)
    sandbox.expire_token()
    listener.wait(ibkr, lambda: "tickle_recovered" in listener.kinds)
    assert listener.kinds == ["opened", "tickle_failed", "renewed", "tickle_recovered"]


def test_nobody_calls_and_another_program_takes_over(open_session: Open, sandbox: Sandbox) -> None:
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener, on_competing="yield")
    ibkr.get(ACCOUNTS)
    sandbox.compete_from("TWS")
    listener.wait(ibkr, lambda: "competing" in listener.kinds)
    assert ibkr.brokerage.state == "competing"
    assert sandbox.brokerage_holder() == "TWS"
    sandbox.stop_competing()
    listener.wait(ibkr, lambda: listener.kinds.count("brokerage_opened") == 2)
    assert sandbox.brokerage_holder() == CONSUMER_KEY


def test_the_service_is_away_for_a_while(open_session: Open, sandbox: Sandbox) -> None:
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener)
    ibkr.get(PORTFOLIO)
    sandbox.stop()
    listener.wait(ibkr, lambda: "tickle_failed" in listener.kinds)
    sandbox.start()
    listener.wait(ibkr, lambda: "tickle_recovered" in listener.kinds)
    assert listener.kinds == ["opened", "tickle_failed", "tickle_recovered"]
    assert ibkr.health().counters.tickle_failures >= 1


def test_the_clock_of_the_keep_alive_is_corrected(open_session: Open, sandbox: Sandbox) -> None:
    """After a tickle was refused for its time, the next one has the right one; no token is renewed for it."""
    listener = Listener()
    ibkr = open_session(keep_alive=QUICK, on_event=listener)
    ibkr.get(PORTFOLIO)
    sandbox.skew(900)
    listener.wait(ibkr, lambda: "tickle_recovered" in listener.kinds)
    assert listener.kinds == ["opened", "clock_skew", "tickle_failed", "tickle_recovered"]


def test_a_dropped_session_tickles_no_more(
    kind: str, sandbox: Sandbox, consumer: Consumer, access_token: AccessToken
) -> None:
    """Nobody closed it. (Two tickles may be on their way when it goes.)"""
    options: dict[str, Any] = {
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
        "keep_alive": QUICK,
        "brokerage": "never",
    }
    ibkr = DRIVERS[kind](consumer, access_token, **options)
    ibkr.get(PORTFOLIO)
    sandbox.wait_until(lambda: sandbox.counts.get(f"{ROOT}/tickle", 0) >= 2)
    seen = weakref.ref(ibkr.session)
    ibkr.session = None
    gc.collect()
    deadline = time.monotonic() + 10
    while seen() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.005)
    assert seen() is None
    if isinstance(ibkr, AsyncDriver):
        ibkr._runner.close()
    count = len(sandbox.requests)
    time.sleep(6 * QUICK)
    assert len(sandbox.requests) <= count + 2


# --- close() -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_close_ends_a_call_under_way(open_session: Open, sandbox: Sandbox, method: str) -> None:
    """At once, although the service would answer in half a minute."""
    ibkr = open_session(brokerage="never")
    ibkr.get(PORTFOLIO)
    sandbox.delay(30, path="/portfolio/DU1234567/summary")
    begin = time.monotonic()

    def arrived() -> None:
        sandbox.wait_until(lambda: paths(sandbox)[-1].endswith("/summary"))

    if isinstance(ibkr, SyncDriver):

        def close(session: Any) -> None:
            arrived()
            session.close()

        outcome, _ = ibkr.together(lambda session: session.request(method, "/portfolio/DU1234567/summary"), close)
    else:

        async def close_async(session: Any) -> None:
            await asyncio.to_thread(arrived)
            await session.close()

        outcome, _ = ibkr.together(lambda session: session.request(method, "/portfolio/DU1234567/summary"), close_async)
    assert isinstance(outcome, SessionClosed)
    assert outcome.sent  # perhaps processed
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(("method", "kinds"), [("GET", []), ("POST", ["outcome_unknown"])])
def test_a_cancelled_task(
    sandbox: Sandbox, consumer: Consumer, access_token: AccessToken, method: str, kinds: list[str]
) -> None:
    """Ends at once. What became of an order is unknown: the log and an event say so, since the caller gets no error."""
    listener = Listener()
    options: dict[str, Any] = {
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
        "keep_alive": None,
        "brokerage": "never",
    }
    path = "/portfolio/DU1234567/summary"

    async def run() -> float:
        async with AsyncSession(consumer, access_token, on_event=listener, **options) as ibkr:
            await ibkr.open()
            sandbox.delay(30, path=path)
            task = asyncio.create_task(ibkr.request(method, path))
            await asyncio.to_thread(sandbox.wait_until, lambda: paths(sandbox)[-1] == path)
            begin = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took = time.monotonic() - begin
            assert ibkr.health().counters.outcomes_unknown == len(kinds)
            assert (await ibkr.get(PORTFOLIO)).status_code == 200
            return took

    assert asyncio.run(run()) < 5
    assert listener.kinds == ["opened", *kinds, "closed"]


def test_nothing_is_left_of_closed_sessions(
    kind: str, sandbox: Sandbox, consumer: Consumer, access_token: AccessToken
) -> None:
    """No thread but the engine's, which serves the whole process. Threads of sessions that were dropped end with these."""
    options: dict[str, Any] = {
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
        "keep_alive": QUICK,
        "brokerage": "never",
    }
    before = set() if kind == "sync" else our_threads()
    for _ in range(3):
        with DRIVERS[kind](consumer, access_token, **options) as ibkr:
            ibkr.get(PORTFOLIO)
    for thread in our_threads() - before:
        thread.join(10)
        assert not thread.is_alive()


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("ibkr_oauth")}
