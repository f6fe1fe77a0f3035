"""How many requests are taken: limits that a test sets, and those that IBKR publishes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.sandbox.limits import _LEEWAY, RateLimits, Window

from .conftest import Connect
from .reference import Client


class Clock:
    """It stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(connect: Connect, clock: Clock, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Sandbox(clock=clock, skew_window=1e9, **getattr(request, "param", {})) as sandbox:
        client = connect(sandbox, granted=True)
        assert client.get_live_session_token().status == 200
        yield client


paced = pytest.mark.parametrize("client", [{"enforce_pacing": True}], indirect=True, ids=["paced"])


def statuses(client: Client, number: int, path: str = "/portfolio/X/summary") -> list[int]:
    """401 is a good answer here: the account is foreign, so that no other limit plays a part."""
    return [client.get(path).status for _ in range(number)]


def test_window() -> None:
    window = Window(3, 1.0)
    assert [window.admits(now) for now in (0, 0.5, 0.6, 0.7, 0.94, 0.96, 1.0, 1.4, 1.46)] == [
        *(True, True, True),
        *(False, False),
        True,  # a little early counts as in time
        False,
        False,
        True,
    ]
    single = Window(1, 1.0)
    assert [single.admits(now) for now in (0.0, 1.0 - _LEEWAY)] == [True, True]


def test_rate_limit(client: Client, clock: Clock) -> None:
    client.sandbox.rate_limit(2)
    assert statuses(client, 4) == [401, 401, 429, 429]
    refused = client.get("/tickle")
    assert refused.json() == {"error": "Too Many Requests", "statusCode": 429}
    assert "retry-after" not in refused.headers
    assert not client.sandbox.requests[-1].processed
    clock.now += 1
    assert statuses(client, 3) == [401, 401, 429]
    client.sandbox.rate_limit()
    assert statuses(client, 5) == [401] * 5


def test_less_than_one_a_second(client: Client, clock: Clock) -> None:
    client.sandbox.rate_limit(0.2)
    assert statuses(client, 2) == [401, 429]
    clock.now += 4.9
    assert statuses(client, 1) == [429]
    clock.now += 0.1
    assert statuses(client, 2) == [401, 429]


def test_retry_after_and_penalty(client: Client, clock: Clock) -> None:
    client.sandbox.rate_limit(1, retry_after=1.5, penalty=600)
    assert statuses(client, 2) == [401, 429]
    clock.now += 599
    refused = client.get("/tickle")
    assert (refused.status, refused.headers["retry-after"]) == (429, "2")
    clock.now += 1  # the refused ones in between did not prolong it
    assert client.get("/tickle").status == 200


def test_the_limit_of_a_path(client: Client) -> None:
    client.sandbox.rate_limit(1, path="/tickle")
    assert statuses(client, 3, "/tickle") == [200, 429, 429]
    assert statuses(client, 3) == [401] * 3
    client.sandbox.rate_limit(2)
    assert statuses(client, 3) == [401, 401, 429]
    client.sandbox.rate_limit(path="/tickle")
    assert statuses(client, 1) == [429], "the other one stays"
    client.sandbox.rate_limit(100)
    assert statuses(client, 3, "/tickle") == [200] * 3
    client.sandbox.rate_limit(1, path="/tickle")
    client.sandbox.rate_limit()
    assert statuses(client, 3, "/tickle") == [200] * 3, "that lifts all of them"


@pytest.mark.parametrize("retry_after", [0, 0.5])
def test_a_server_may_say_at_once(retry_after: float) -> None:
    limits = RateLimits()
    limits.set(1, retry_after=retry_after, penalty=0, path=None)
    assert limits._limits[None].retry_after == retry_after


def test_a_limited_request_need_not_be_right(client: Client) -> None:
    client.sandbox.rate_limit(1)
    client.get("/tickle")
    assert client.get("/tickle", signature="AAAA").status == 429


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), 1_000_000])
def test_nonsense_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="per_second"):
        Sandbox().rate_limit(wrong)
    for name in ("retry_after", "penalty"):
        with pytest.raises(ValueError, match=name):
            Sandbox().rate_limit(1, **{name: -1.0})  # type: ignore[arg-type]


@paced
def test_ten_calls_a_second(client: Client, clock: Clock) -> None:
    assert statuses(client, 11) == [401] * 10 + [429]
    clock.now += 1
    assert statuses(client, 1) == [401]


@paced
@pytest.mark.parametrize(
    ("path", "calls", "seconds"),
    [
        ("/tickle", 1, 1),
        ("/portfolio/accounts", 1, 5),
        ("/iserver/account/orders", 1, 5),
        ("/iserver/account/trades", 1, 5),
        ("/iserver/scanner/params", 1, 900),
        ("/pa/performance", 1, 900),
        ("/sso/validate", 1, 60),
        ("/iserver/marketdata/snapshot", 10, 1),
    ],
)
def test_published_limits(client: Client, clock: Clock, path: str, calls: int, seconds: float) -> None:
    assert 429 not in statuses(client, calls, path)
    assert statuses(client, 1, path) == [429]
    clock.now += seconds - 0.2
    assert statuses(client, 1, path) == [429]
    clock.now += 0.2
    assert 429 not in statuses(client, 1, path)


@paced
def test_pacing_is_for_each_token(client: Client, connect: Connect) -> None:
    other = connect(client.sandbox, "OTHERKEYS", granted=True)
    assert other.get_live_session_token().status == 200
    assert statuses(client, 2, "/tickle") == [200, 429]
    assert statuses(other, 2, "/tickle") == [200, 429]


def test_pacing_is_not_enforced_by_default(client: Client) -> None:
    assert statuses(client, 15, "/tickle") == [200] * 15
