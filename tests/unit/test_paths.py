"""What is known of IBKR's paths."""

import pytest

from ibkr_oauth import paths

ACCOUNT = "/iserver/account/DU1"


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("/iserver/accounts", True),
        ("/iserver/marketdata/snapshot", True),
        (f"{ACCOUNT}/orders", True),
        ("/iserver/reauthenticate", True),
        ("/iserver/auth/status", False),
        ("/iserver/auth/ssodh/init", False),
        ("/portfolio/accounts", False),
        ("/tickle", False),
        ("/logout", False),
        ("/oauth/live_session_token", False),
        ("/iservers", False),
        ("/pa/performance", False),
    ],
)
def test_which_paths_need_the_brokerage_session(path: str, needed: bool) -> None:
    assert paths.needs_brokerage(path) is needed


READING = [
    ("GET", "/portfolio/accounts"),
    ("HEAD", "/portfolio/accounts"),
    ("GET", "/iserver/account/orders"),
    ("GET", "/iserver/account/trades"),
    ("GET", "/iserver/accounts"),
    ("GET", "/iserver/reauthenticated"),
    ("POST", "/tickle"),
    ("POST", "/iserver/auth/status"),
    ("POST", "/iserver/auth/ssodh/init"),
    ("POST", "/iserver/scanner/run"),
    ("POST", "/hmds/scanner"),
    ("POST", "/hmds/auth/init"),
    ("POST", "/pa/performance"),
    ("POST", "/pa/transactions"),
    ("POST", f"{ACCOUNT}/orders/whatif"),
    ("POST", f"{ACCOUNT}/order/whatif"),
    ("POST", "/iserver/secdef/search"),
    ("POST", "/iserver/contract/rules"),
]
WRITING = [
    ("POST", f"{ACCOUNT}/orders"),
    ("POST", f"{ACCOUNT}/order/123"),
    ("DELETE", f"{ACCOUNT}/order/123"),
    ("POST", f"{ACCOUNT}/orders/whatif/now"),
    ("POST", f"{ACCOUNT}/DU2/orders/whatif"),
    ("POST", "/iserver/reply/abc"),
    ("POST", "/iserver/account"),
    ("POST", f"{ACCOUNT}/alert"),
    ("DELETE", f"{ACCOUNT}/alert/0"),
    ("POST", "/iserver/watchlist"),
    ("POST", "/iserver/questions/suppress"),
    ("GET", "/iserver/reauthenticate"),
    ("POST", "/iserver/reauthenticate"),
    ("GET", "/logout"),
    ("POST", "/logout"),
    ("POST", "/fyi/settings/BA"),
    ("PUT", "/fyi/deliveryoptions/email"),
    ("PUT", "/tickle"),
    ("PATCH", "/portfolio/accounts"),
    ("POST", "/portfolio/DU1/positions/invalidate"),
    ("POST", "/pa/"),
    ("POST", "/tickle/more"),
    ("post", "/tickle"),
    ("POST", ""),
]


@pytest.mark.parametrize(("method", "path"), READING)
def test_what_only_reads(method: str, path: str) -> None:
    assert paths.is_reading(method, path)


@pytest.mark.parametrize(("method", "path"), WRITING)
def test_what_may_change_something(method: str, path: str) -> None:
    """In doubt a call is refused: what is not known to read is taken for writing."""
    assert not paths.is_reading(method, path)


# IBKR, Web API, "Pacing Limitations", as published.
PUBLISHED = [
    ("/iserver/marketdata/snapshot", 10, 1),
    ("/tickle", 1, 1),
    ("/iserver/account/orders", 1, 5),
    ("/iserver/account/trades", 1, 5),
    ("/iserver/account/pnl/partitioned", 1, 5),
    ("/portfolio/accounts", 1, 5),
    ("/portfolio/subaccounts", 1, 5),
    ("/portfolio/subaccounts2", 1, 5),
    ("/iserver/scanner/params", 1, 900),
    ("/iserver/scanner/run", 1, 1),
    ("/pa/performance", 1, 900),
    ("/pa/summary", 1, 900),
    ("/pa/transactions", 1, 900),
    ("/fyi/unreadnumber", 1, 1),
    ("/fyi/settings/BA", 1, 1),
    ("/sso/validate", 1, 60),
]


@pytest.mark.parametrize(("path", "calls", "seconds"), PUBLISHED)
def test_the_published_limits(path: str, calls: int, seconds: float) -> None:
    limit = paths.limit_of(path)
    assert limit is not None
    assert (limit.calls, limit.seconds) == (calls, seconds)


@pytest.mark.parametrize(
    "path", ["/iserver/accounts", f"{ACCOUNT}/orders", "/portfolio/accounts/x", "/tickles", "/portfolio/subaccounts3"]
)
def test_paths_without_a_limit_of_their_own(path: str) -> None:
    assert paths.limit_of(path) is None


def test_history_is_limited_by_calls_under_way() -> None:
    assert paths.CONCURRENT.match("/iserver/marketdata/history")
    assert not paths.CONCURRENT.match("/iserver/marketdata/snapshot")
    assert paths.CONCURRENT_CALLS == 5
