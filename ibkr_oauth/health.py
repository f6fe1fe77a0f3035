"""What a session tells about itself: events as they happen, and snapshots of its health."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

EventKind: TypeAlias = Literal[
    "opened",  # the first live session token is there
    "renewed",  # another one took its place
    "renewal_failed",  # tried again by the next call, and in the background
    "brokerage_opened",
    "brokerage_lost",  # ended by a reset, a logout or maintenance
    "competing",  # another login of the user name holds the brokerage session
    "brokerage_failed",  # it could not be opened again in the background
    "tickle_failed",  # the first of a row; the keep-alive goes on
    "tickle_recovered",
    "rate_limited",
    "clock_skew",  # this computer's clock is wrong; calls are signed with the server's time
    "outcome_unknown",  # a request was sent, perhaps processed, and no answer was read
    "closed",
]


class Event(NamedTuple):
    """Something that happened to a session. `at`: aware datetime by this computer's clock. Holds no secret."""

    kind: EventKind
    message: str
    at: datetime


EventHandler: TypeAlias = Callable[[Event], object]

SessionState: TypeAlias = Literal["new", "open", "closed"]
BrokerageState: TypeAlias = Literal["not open", "open", "lost", "competing", "refused"]


class Counters(NamedTuple):
    """Since the session was made."""

    requests: int = 0  # answered ones, the session's own calls included
    retries: int = 0
    renewals: int = 0  # live session tokens agreed on with the service, the first one included
    brokerage_openings: int = 0
    tickles: int = 0  # good ones of the keep-alive
    tickle_failures: int = 0
    rate_limited: int = 0
    outcomes_unknown: int = 0


class Health(NamedTuple):
    """A snapshot; taking it does no I/O.

    `token_remaining`: until the live session token expires, by the server's clock. `last_tickle`: the last good one of
    the keep-alive. `clock_skew`: seconds that this computer's clock is ahead of the server's. `last_error`: what went
    wrong last, without secrets, whether or not it was mended since.
    """

    state: SessionState
    brokerage: BrokerageState
    keep_alive: bool
    token_remaining: timedelta | None
    last_tickle: datetime | None
    last_error: str | None
    clock_skew: float
    counters: Counters

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.health(self)


class BrokerageStatus(NamedTuple):
    """What the service says of the brokerage session (`/iserver/auth/status`, `/tickle`, `ssodh/init`)."""

    authenticated: bool
    competing: bool
    connected: bool
    message: str = ""
