"""A clock for proofs that take weeks: time passes where somebody sleeps, or where the test says so."""

import asyncio
import threading
import time
from collections.abc import Callable

from ibkr_oauth.clock import Clock


class SimulatedClock(Clock):
    """One for a session and the sandbox that it talks to. Seconds everywhere; threads may share it."""

    def __init__(self) -> None:
        self._start = self._now = time.time()  # certificates go by the real time
        self._wrong = 0.0
        self._lock = threading.Lock()
        self._on_sleep: list[Callable[[], object]] = []

    def true_time(self) -> float:
        """Since 1970: the server's clock."""
        return self._now

    def time(self) -> float:
        """What the session's computer believes."""
        return self._now + self._wrong

    def steady(self) -> float:
        return self._now - self._start + 1000

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        self._sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self._sleep(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds

    def set_wrong(self, seconds: float) -> None:
        """Lets the session's wall clock be ahead by so much; the steady clock does not notice."""
        self._wrong = seconds

    def on_next_sleep(self, action: Callable[[], object]) -> None:
        """What happens while somebody waits the next time."""
        self._on_sleep.append(action)

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            actions, self._on_sleep = self._on_sleep, []
        for action in actions:
            action()
        self.advance(seconds)
