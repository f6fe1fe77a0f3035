"""A clock that only goes on when somebody waits for it, or sets it."""

import asyncio
import threading

from ibkr_oauth.clock import Clock

#: Some moment in 2026, in seconds since 1970.
START = 1_790_000_000.0


class FakeClock(Clock):
    """Sleeping takes no time, and moves all hands at once. Threads may share one.

    `slept`: the seconds of every wait, in order. `jump` sets the wall clock only, as somebody does who sets a computer's time.
    """

    def __init__(self, start: float = START) -> None:
        self._lock = threading.Lock()
        self._steady = 5_000.0
        self._wall = start - self._steady
        self.slept: list[float] = []

    def time(self) -> float:
        return self._steady + self._wall

    def steady(self) -> float:
        return self._steady

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        if not closing.is_set():
            self._sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self._sleep(seconds)
        await asyncio.sleep(0)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        with self._lock:
            self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self._wall += seconds


class PatientClock(FakeClock):
    """Waiting never ends by itself: only `closing`, or the cancelling of the task, ends it. `waiting` is set when somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        self.slept.append(seconds)
        self.waiting.set()
        if not closing.wait(20):
            raise AssertionError("closing did not end the wait")

    async def sleep_async(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.waiting.set()
        await asyncio.Event().wait()
