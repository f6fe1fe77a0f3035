"""When a call may go out: IBKR blocks addresses that ask too often, so we wait before the service has to refuse."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache

from . import paths

#: Calls a second over all paths. IBKR's pages say 10 (older) and 50 (newer).
DEFAULT_RATE = 10.0

#: Seconds of the first penalty after a 429 without Retry-After. It doubles while they go on.
_FIRST_PENALTY = 10.0
#: IBKR blocks an address for about 10 minutes; asking more seldom than that helps nobody.
_LONGEST_PENALTY = 600.0

_limit_of = lru_cache(maxsize=1024)(paths.limit_of)


class _Window:
    """At most `calls` within any `seconds`: remembers when the last ones went out, or will."""

    __slots__ = ("_seconds", "_times")

    def __init__(self, calls: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=calls)

    def book(self, now: float) -> float:
        """Seconds until one more may go out, which is noted."""
        full = len(self._times) == self._times.maxlen
        at = max(now, self._times[0] + self._seconds) if full else now
        self._times.append(at)
        return at - now


class _Penalty:
    """How long nothing may go out after a 429."""

    __slots__ = ("_last", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._last: float = 0.0  # seconds of the latest one

    def impose(self, now: float, seconds: float | None) -> None:
        if seconds is None:
            if now < self.until:
                return  # one of several calls that were under way when the limit was passed
            seconds = self._last = min(2 * self._last, _LONGEST_PENALTY) or _FIRST_PENALTY
        self.until = max(self.until, now + seconds)

    def forgive(self) -> None:
        self._last = 0.0


class Pacer:
    """Books a place for each call, in the order of asking. Threads may share one; it waits for nobody itself.

    `rate`: calls a second over all paths. `steady`: the clock to go by, in seconds.
    """

    def __init__(self, rate: float, steady: Callable[[], float]) -> None:
        calls = max(1, int(rate))
        self._steady = steady
        self._lock = threading.Lock()
        self._all = _Window(calls, calls / rate)
        self._windows: dict[paths.Limit, _Window] = {}
        self._penalties: dict[paths.Limit | None, _Penalty] = {}

    def after_fork(self) -> None:
        """In the child: whoever held the lock in the parent is not here."""
        self._lock = threading.Lock()

    def book(self, path: str) -> Iterator[float]:
        """Seconds to wait, twice: for the path's own limit, and then for the one over all. Each place is taken at once.

        In two steps, so that a call that waits minutes for its path takes no place from those that go out meanwhile.
        """
        limit = _limit_of(path)
        if limit is not None:
            with self._lock:
                window = self._windows.setdefault(limit, _Window(limit.calls, limit.seconds))
                wait = window.book(self._steady())
            yield wait
        with self._lock:
            wait = self._all.book(self._steady())
        yield wait

    def penalty(self, path: str) -> float:
        """Seconds for which the service's last 429 forbids this path; 0 where it does not."""
        if not self._penalties:
            return 0.0
        limit = _limit_of(path)
        with self._lock:
            now = self._steady()
            ends = [self._penalties[key].until for key in {None, limit} if key in self._penalties]
            return max([end - now for end in ends] + [0.0])

    def refused(self, path: str, retry_after: float | None) -> None:
        """Remembers a 429: against this path where it has a limit of its own, else against all."""
        with self._lock:
            self._penalties.setdefault(_limit_of(path), _Penalty()).impose(self._steady(), retry_after)

    def accepted(self, path: str) -> None:
        """Something other than a 429 came back: the next penalty is a short one again."""
        if self._penalties:
            with self._lock:
                for key in {None, _limit_of(path)} & set(self._penalties):
                    self._penalties[key].forgive()
