"""Two clocks: this computer's, and the server's as its answers tell it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from . import _core

_DAYS = ("Mon,", "Tue,", "Wed,", "Thu,", "Fri,", "Sat,", "Sun,")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: A Date header has whole seconds, and an answer takes a moment: smaller differences mean nothing.
_NOISE = 2.0


class Clock:
    """This computer's time. Tests give a `Session` another one by overriding all of these."""

    def time(self) -> float:
        """Seconds since 1970. May jump, and may be wrong."""
        return time.time()

    def steady(self) -> float:
        """Seconds since some moment; never jumps, and goes on while the computer sleeps where the system tells."""
        return _core.steady_ms() / 1000

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        """Returns after so many seconds, or at once when `closing` is set."""
        closing.wait(seconds)

    async def sleep_async(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - whoever calls this has it; nobody else needs to wait for its import

        await asyncio.sleep(seconds)


class ServerClock:
    """The server's time: the last Date header, carried on by the steady clock.

    So a wrong clock, or one that somebody sets while we run, does not matter after the first answer. Before it, the
    computer's own time has to do. Threads may share one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._header: str | None = None
        self._offset: float | None = None  # of the server's time from the steady clock

    def observe(self, header: str | None, sent: float | None = None) -> bool:
        """Takes a Date header in; True where it was a new one.

        `sent`: when the request went out, by the steady clock: the header may be as old as that.
        """
        if header is None or header == self._header:  # many answers come within one second
            return False
        self._header = header
        date = parse_date(header)
        if date is None:
            return False
        steady = self._clock.steady()
        offset = date + 0.5 - steady
        way = 0.0 if sent is None else steady - sent
        if self._offset is None or not offset - _NOISE <= self._offset <= offset + _NOISE + way:
            self._offset = offset
        return True

    def now(self) -> float:
        """Seconds since 1970, as far as we know the server's."""
        return self.at(self._clock.steady())

    def at(self, steady: float) -> float:
        """The same for a moment of the steady clock."""
        offset = self._offset
        return self._clock.time() if offset is None else steady + offset

    @property
    def skew(self) -> float:
        """Seconds that this computer's clock is ahead of the server's; 0 up to 2 seconds, and where unknown."""
        skew = self._clock.time() - self.now()
        return skew if abs(skew) > _NOISE else 0.0

    @property
    def offset(self) -> float:
        """Seconds from the steady clock to the server's time."""
        return self.now() - self._clock.steady()


def parse_date(header: str) -> float | None:
    """Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7); None for what is no such date.

    By hand: the standard library's parser takes longer to import than the rest of this package.
    """
    try:
        weekday, day, month, year, clock, zone = header.split()
        hours, minutes, seconds = map(int, clock.split(":"))
        date = datetime(int(year), _MONTHS.index(month) + 1, int(day), hours, minutes, min(seconds, 59), tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    moment = date.timestamp()
    return moment if weekday in _DAYS and zone == "GMT" and moment >= 0 else None


def duration(span: timedelta) -> str:
    """For people: the two greatest units."""
    seconds = round(span.total_seconds())
    if seconds < 0:
        return "expired"
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
