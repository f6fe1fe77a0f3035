"""Limits of how many requests are taken: those that a test sets, and those that IBKR publishes."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from . import answers

_LEEWAY = 0.05
"""Seconds by which a call may come early: between a client's clock and ours lies a network."""


class Window:
    """At most `calls` within any `seconds`; what is refused does not count."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._accepted: deque[float] = deque(maxlen=calls)
        self._seconds = seconds

    def admits(self, now: float) -> bool:
        """Take one call, or refuse it."""
        accepted = self._accepted
        if len(accepted) == accepted.maxlen and now - accepted[0] < self._seconds - _LEEWAY:
            return False
        accepted.append(now)  # the oldest falls out
        return True


@dataclass(eq=False)
class RateLimit:
    """A limit that a test has set, see `Sandbox.rate_limit`."""

    window: Window
    retry_after: float | None
    penalty: float
    blocked_until: float = 0.0

    def check(self, now: float) -> None:
        """Raises `Refusal` for one request too many, and for every one in the time of penalty."""
        if now < self.blocked_until:
            raise answers.rate_limited(self.retry_after)
        if not self.window.admits(now):
            self.blocked_until = now + self.penalty
            raise answers.rate_limited(self.retry_after)


class RateLimits:
    """The limits that are set: one for everything (None), and one for each path."""

    def __init__(self) -> None:
        self._limits: dict[str | None, RateLimit] = {}

    def set(
        self,
        per_second: float | None,
        *,
        retry_after: float | None,
        penalty: float,
        path: str | None,
    ) -> None:
        """Set the limit of a path or of everything, or lift it; without path and number, lift all."""
        if retry_after is not None and retry_after < 0:
            raise ValueError(f"retry_after {retry_after}: seconds, at least 0")
        if penalty < 0:
            raise ValueError(f"penalty {penalty}: seconds, at least 0")
        if per_second is None:
            if path is None:
                self._limits.clear()
            self._limits.pop(path, None)
            return
        if not 0 < per_second < 1_000_000:
            raise ValueError(f"per_second {per_second}: more than 0, or None to lift the limit")
        calls = max(1, int(per_second))
        self._limits[path] = RateLimit(Window(calls, calls / per_second), retry_after, penalty)

    def check(self, path: str, now: float) -> None:
        """Raises `Refusal` for a request that comes too soon."""
        for key in (None, path):
            if limit := self._limits.get(key):
                limit.check(now)


_PUBLISHED = (
    # calls, seconds, path
    (10, 1.0, r"/iserver/marketdata/snapshot"),
    (1, 1.0, r"/tickle|/iserver/scanner/run|/fyi/.+"),
    (1, 5.0, r"/iserver/account/(orders|trades|pnl/partitioned)"),
    (1, 5.0, r"/portfolio/(sub)?accounts"),
    (1, 60.0, r"/sso/validate"),
    (1, 900.0, r"/iserver/scanner/params|/pa/.+"),
)
_PATHS = tuple((calls, seconds, re.compile(path)) for calls, seconds, path in _PUBLISHED)
_OVERALL = (10, 1.0)


class Pacing:
    """The limits that IBKR publishes, for each access token: 10 calls a second, and less for some paths."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], Window] = {}

    def check(self, token: str, path: str, now: float) -> None:
        """Raises `Refusal` for a call of an access token that comes too soon."""
        limits = [("", *_OVERALL)]
        limits += [(path, calls, seconds) for calls, seconds, pattern in _PATHS if pattern.fullmatch(path)]
        for key, calls, seconds in limits:
            window = self._windows.setdefault((token, key), Window(calls, seconds))
            if not window.admits(now):
                raise answers.rate_limited()
