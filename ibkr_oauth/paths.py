"""What is known of IBKR's paths: which need the brokerage session, which only read, how often each may be called."""

from __future__ import annotations

import re
from typing import NamedTuple

_BROKERAGE = re.compile(r"/iserver/(?!auth/)")

# Calls that change nothing although they are POST: searches, calculations, and what keeps the session itself alive.
_READING_POSTS = re.compile(
    r"/tickle|/iserver/auth/(?:status|ssodh/init)|/iserver/scanner/run|/hmds/(?:auth/init|scanner)|/pa/.+"
    r"|/iserver/account/[^/]+/orders?/whatif|/iserver/secdef/search|/iserver/contract/rules|/fyi/.*/read"
)
# And GETs that do change something.
_WRITING_GETS = re.compile(r"/iserver/reauthenticate|/logout")


class Limit(NamedTuple):
    """At most `calls` within any `seconds`, for paths that match. Published by IBKR (Web API, "Pacing Limitations")."""

    path: re.Pattern[str]
    calls: int
    seconds: float


def _limit(path: str, calls: int, seconds: float) -> Limit:
    return Limit(re.compile(path), calls, seconds)


LIMITS = (
    _limit(r"/iserver/marketdata/snapshot", 10, 1),
    _limit(r"/tickle", 1, 1),
    _limit(r"/iserver/account/orders", 1, 5),
    _limit(r"/iserver/account/trades", 1, 5),
    _limit(r"/iserver/account/pnl/partitioned", 1, 5),
    _limit(r"/portfolio/accounts", 1, 5),
    _limit(r"/portfolio/subaccounts2?", 1, 5),
    _limit(r"/iserver/scanner/params", 1, 900),
    _limit(r"/iserver/scanner/run", 1, 1),
    _limit(r"/pa/.+", 1, 900),
    _limit(r"/fyi/.+", 1, 1),
    _limit(r"/sso/validate", 1, 60),
)

#: Of these paths only so many calls may be under way at once.
CONCURRENT = re.compile(r"/iserver/marketdata/history")
CONCURRENT_CALLS = 5


def needs_brokerage(path: str) -> bool:
    """Whether the service answers this path only within a brokerage session."""
    return _BROKERAGE.match(path) is not None


def is_reading(method: str, path: str) -> bool:
    """Whether the call leaves orders, alerts, settings and sessions as they are: what `read_only` lets through."""
    if method in ("GET", "HEAD"):
        return _WRITING_GETS.fullmatch(path) is None
    return method == "POST" and _READING_POSTS.fullmatch(path) is not None


def limit_of(path: str) -> Limit | None:
    """The published limit of its own that a path has."""
    for limit in LIMITS:
        if limit.path.fullmatch(path):
            return limit
    return None
