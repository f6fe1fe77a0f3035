"""A week in minutes: three sessions, one for each policy against other logins, live through all that a service does.

Session and sandbox go by one simulated clock. Every hour (in the slow version every five minutes) each session
tickles, reads, and places an order, whatever has just happened. What can be repeated must succeed; what cannot must
have happened exactly as often as its caller was told.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from support.proof_clock import SimulatedClock
from support.proof_drivers import AsyncDriver, Driver, SyncDriver

from ibkr_oauth import (
    AccessToken,
    CompetingSession,
    Consumer,
    Event,
    IBKROAuthError,
    MaintenanceError,
    OutcomeUnknown,
    RateLimited,
    signing,
)
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY, register

_HOUR = 3600
_POLICIES = ("raise", "yield", "take")

Policy = Literal["raise", "yield", "take"]
#: What a trader may expect: everything works; the service is down; somebody else has the brokerage session.
Mood = Literal["fine", "down", "competing"]


class Trader:
    """One session of one user name, and the book that its owner keeps."""

    def __init__(
        self, policy: Policy, drive: Callable[..., Driver], token: AccessToken, options: dict[str, Any]
    ) -> None:
        self.policy = policy
        self.events: list[Event] = []
        self.mood: Mood = "fine"
        self.orders: dict[str, str] = {}
        self.secrets = {token.secret}
        self._numbers = itertools.count()
        self.driver = drive(access_token=token, on_competing=policy, on_event=self.events.append, **options)
        self._account = ""

    def trade(self) -> None:
        """Some reading and an order; fails unless each goes as the mood says."""
        if not self._account:
            self._account = self.driver.get("/portfolio/accounts").json()[0]["id"]
        self.read(f"/portfolio/{self._account}/summary")
        self.read("/iserver/accounts")
        self.read("/iserver/marketdata/snapshot?conids=265598&fields=31%2C84")
        wanted = "done" if self.mood == "fine" else "not done"
        assert self.order() == wanted, f"{self.policy}: an order, the mood being {self.mood}"

    def beat(self) -> None:
        self.driver.beat()
        self.driver.settle()

    def read(self, path: str) -> None:
        outcome: object
        try:
            outcome = self.driver.get(path).status_code
        except IBKROAuthError as error:
            outcome = error
        self.driver.settle()  # a renewal that it began: simulated time must not leap while that is under way
        right = {
            "fine": outcome == 200,
            "down": outcome == 503 or isinstance(outcome, MaintenanceError),
            "competing": isinstance(outcome, CompetingSession) if path.startswith("/iserver") else outcome == 200,
        }
        assert right[self.mood], f"{self.policy}: {path} gave {outcome!r}, the mood being {self.mood}"

    def order(self) -> str:
        """Places one, and notes what its caller knows of it."""
        number = f"{self.policy}-{next(self._numbers)}"
        order = {"conid": 265598, "side": "BUY", "orderType": "LMT", "price": 1, "quantity": 1, "cOID": number}
        try:
            response = self.driver.post(f"/iserver/account/{self._account}/orders", {"orders": [order]})
            self.orders[number] = "done" if response.status_code == 200 else "not done"
        except OutcomeUnknown:
            self.orders[number] = "unknown"
        except IBKROAuthError as error:
            assert not error.sent, f"{self.policy}: neither unknown nor unsent: {error!r}"  # noqa: PT017
            self.orders[number] = "not done"
        self.driver.settle()
        return self.orders[number]

    def remember_secrets(self) -> None:
        flow = self.driver.session._flow
        if flow.credential is not None:
            live = flow.credential.token.reveal()
            self.secrets |= {live, signing.percent_encode(live)}
        if flow.cookie is not None:
            self.secrets.add(flow.cookie)

    def story(self) -> list[str]:
        """The kinds of the events in order, each once for as often as it came in a row."""
        return [kind for kind, _ in itertools.groupby(event.kind for event in self.events)]


class Week:
    """The sandbox, the clock and the traders; `step`: seconds between two rounds."""

    def __init__(self, sandbox: Sandbox, clock: SimulatedClock, traders: list[Trader], step: int) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self.traders = traders
        self._step = step
        self._asleep = False
        self._begin = clock.true_time()

    def live(self) -> None:
        chapters = self._chapters()
        for seconds in range(0, 168 * _HOUR, self._step):
            self.clock.advance(max(0.0, self._begin + seconds - self.clock.true_time()))
            if seconds % _HOUR == 0:
                for happening in chapters.get(seconds // _HOUR, ()):
                    happening()
            for trader in self.traders:
                if not self._asleep:
                    trader.beat()
                    trader.trade()
                    trader.remember_secrets()

    def _chapters(self) -> dict[int, list[Callable[[], object]]]:
        """What happens at which hour, before the round of that hour."""
        sandbox, clock, each = self.sandbox, self.clock, self._each
        return {
            0: [lambda: clock.set_wrong(600), each(Trader.trade)],
            3: [lambda: clock.set_wrong(0)],
            5: [sandbox.restart],
            7: [lambda: clock.set_wrong(-600)],
            9: [lambda: clock.set_wrong(0)],
            11: [each(self._read_while_the_server_restarts)],
            13: [sandbox.end_brokerage],
            15: [sandbox.lose_session],
            17: [sandbox.end_brokerage, each(Trader.trade)],
            19: [sandbox.end_brokerage, each(lambda trader: _expect(trader.order(), "not done"))],
            # 23: a new token before the first one expires
            25: [self._begin_maintenance],
            26: [self._end_maintenance],
            30: [sandbox.expire_token],
            34: [sandbox.expire_token, each(Trader.trade)],
            36: [sandbox.expire_token, each(lambda trader: _expect(trader.order(), "done"))],
            40: [self._begin_competing],
            44: [self._end_competing],
            46: [each(self._open_by_hand)],
            49: [self._begin_maintenance],
            50: [self._end_maintenance],
            52: [each(self._pass_the_limit)],
            54: [each(self._pass_the_limit_badly)],
            # 59: a new token before the last one expires
            73: [self._begin_maintenance],
            74: [self._end_maintenance],
            76: [each(self._lose_connections)],
            81: [self._begin_maintenance],  # the token expires meanwhile
            85: [self._end_maintenance],
            97: [self._begin_maintenance],
            98: [self._end_maintenance],
            # 108: a new token before the last one expires
            110: [lambda: self._sleep(True)],  # a notebook is closed, until after the token has expired
            146: [lambda: self._sleep(False)],
            150: [self._begin_competing, each(Trader.trade)],
            156: [self._end_competing],
            158: [each(self._open_by_hand)],
        }

    def _each(self, action: Callable[[Trader], object]) -> Callable[[], object]:
        return lambda: [action(trader) for trader in self.traders]

    # --- What happens ----------------------------------------------------------------------------

    def _read_while_the_server_restarts(self, trader: Trader) -> None:
        self.sandbox.stop()
        self.clock.on_next_sleep(self.sandbox.start)
        trader.read("/portfolio/accounts")
        self.sandbox.stop()
        self.clock.on_next_sleep(self.sandbox.start)
        assert trader.order() == "done", "nothing was sent when the server was away, so it may be tried again"

    def _begin_maintenance(self) -> None:
        self.sandbox.maintenance(True)
        for trader in self.traders:
            trader.mood = "down"

    def _end_maintenance(self) -> None:
        self.sandbox.maintenance(False)
        for trader in self.traders:
            trader.mood = "fine"

    def _begin_competing(self) -> None:
        for trader in self.traders:
            self.sandbox.compete_from("TWS", trader.policy)
            trader.mood = "fine" if trader.policy == "take" else "competing"

    def _end_competing(self) -> None:
        """The other one leaves: who yielded comes back by himself, and who raised leaves it to his owner."""
        for trader in self.traders:
            self.sandbox.stop_competing(trader.policy)
            trader.mood = "competing" if trader.policy == "raise" else "fine"

    def _open_by_hand(self, trader: Trader) -> None:
        if trader.policy == "raise":
            trader.driver.open_brokerage()
            trader.mood = "fine"

    def _pass_the_limit(self, trader: Trader) -> None:
        """Reading waits as long as the service asks, so that no second request is refused; an order is sent once."""
        before = len(self.sandbox.requests)
        self.sandbox.rate_limit(1, retry_after=20, penalty=19)
        trader.read("/iserver/accounts")
        trader.read("/iserver/accounts")
        _expect(trader.order(), "not done")
        trader.read("/iserver/accounts")
        self.sandbox.rate_limit()
        statuses = [request.status for request in self.sandbox.requests[before:]]
        assert statuses == [200, 429, 200, 429, 200]

    def _pass_the_limit_badly(self, trader: Trader) -> None:
        """The service asks for a pause that is too long to wait in a call: until then nothing is sent at all."""
        self.sandbox.rate_limit(1, retry_after=300, penalty=290)
        trader.read("/iserver/accounts")
        assert trader.driver.get("/iserver/accounts").status_code == 429
        before = len(self.sandbox.requests)
        with pytest.raises(RateLimited) as caught:
            trader.driver.get("/iserver/accounts")
        assert caught.value.retry_after == pytest.approx(300, abs=5)
        _expect(trader.order(), "not done")
        assert len(self.sandbox.requests) == before
        self.sandbox.rate_limit()
        self.clock.advance(301)

    def _lose_connections(self, trader: Trader) -> None:
        self.sandbox.drop_connection(before_processing=True)
        trader.read("/iserver/accounts")
        self.sandbox.drop_connection()
        trader.read("/portfolio/accounts")
        self.sandbox.fail_next(502)
        trader.read("/iserver/accounts")
        for before_processing in (True, False):
            self.sandbox.drop_connection(before_processing=before_processing)
            _expect(trader.order(), "unknown")
        self.sandbox.drop_connections()
        trader.trade()

    def _sleep(self, asleep: bool) -> None:
        self._asleep = asleep


def _expect(found: str, wanted: str) -> None:
    assert found == wanted


def _told(policy: Policy) -> list[str]:
    """The events of the week."""
    lost = ["brokerage_lost", "brokerage_opened"]
    night = ["tickle_failed", "tickle_recovered", *lost]
    taken = ["competing", "brokerage_opened"]
    return [
        *["clock_skew", "opened", "brokerage_opened"],
        *["clock_skew"],  # right again, wrong again, right again
        *lost * 4,
        "renewed",
        *night,
        *["tickle_failed", "renewed", "tickle_recovered"],  # the keep-alive noticed
        *["renewed"],  # a reading and an order noticed
        *taken,
        *night,
        "rate_limited",
        "renewed",
        *night,
        "outcome_unknown",
        *["tickle_failed", "renewal_failed", "renewed", *lost, "tickle_recovered"],
        *night,
        "renewed",
        *["tickle_failed", "renewed", *lost, "tickle_recovered"],
        # The refusal of a call does not say what a tickle would: that somebody else came.
        *(lost if policy == "take" else ["brokerage_lost", *taken]),
        "closed",
    ]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(
    params=[_HOUR, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(900)])], ids=["hours", "five minutes"]
)
def step(request: pytest.FixtureRequest) -> int:
    seconds: int = request.param
    return seconds


@pytest.fixture
def sandbox(pem: dict[str, str], clock: SimulatedClock, step: int) -> Iterator[Sandbox]:
    with Sandbox(tls=True, clock=clock.true_time, brokerage_idle_timeout=max(1800, 2 * step)) as running:
        register(running, pem)
        yield running


@pytest.mark.parametrize("drive", [SyncDriver, AsyncDriver], ids=["Session", "AsyncSession"])
def test_week(
    drive: Callable[..., Driver],
    step: int,
    sandbox: Sandbox,
    clock: SimulatedClock,
    consumer: Consumer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    options = {
        "consumer": consumer,
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
        "clock": clock,
        "keep_alive": None,
    }
    tokens = {policy: AccessToken(*sandbox.grant(CONSUMER_KEY, policy)) for policy in _POLICIES}
    traders = [Trader(policy, drive, tokens[policy], options) for policy in _POLICIES]  # type: ignore[arg-type]
    Week(sandbox, clock, traders, step).live()
    for trader in traders:
        assert trader.driver.session.health().counters.renewals == 9, "eight tokens expired, or were about to"
        trader.driver.close()

    _assert_orders_are_as_told(sandbox, traders)
    for trader in traders:
        assert trader.story() == _told(trader.policy)
        assert [event.at for event in trader.events] == sorted(event.at for event in trader.events)
    _assert_log_is_clean(caplog, set().union(*(trader.secrets for trader in traders)))


def _assert_orders_are_as_told(sandbox: Sandbox, traders: list[Trader]) -> None:
    arrived = Counter(order.coid for order in sandbox.orders)
    assert set(arrived.values()) == {1}, "an order arrived twice"
    for trader in traders:
        for number, known in trader.orders.items():
            assert known == "unknown" or (number in arrived) == (known == "done"), f"order {number}: {known}"
        assert Counter(trader.orders.values())["unknown"] == 2


def _assert_log_is_clean(caplog: pytest.LogCaptureFixture, secrets: set[str]) -> None:
    assert len(secrets) > 20
    for record in caplog.records:
        if record.name.startswith("ibkr_oauth.sandbox"):
            continue
        text = record.getMessage()
        assert not record.exc_info, text
        assert record.levelno < logging.ERROR, text
        assert "Traceback" not in text
        assert not [secret for secret in secrets if secret in text]
        assert "oauth_signature=" not in text
