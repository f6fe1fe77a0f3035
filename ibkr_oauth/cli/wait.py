"""`ibkr-oauth wait`: until IBKR has activated a new consumer key."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import click

from ibkr_oauth.errors import (
    ConnectError,
    ConsumerNotActive,
    IBKROAuthError,
    MaintenanceError,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    Timeout,
)

from . import common

#: What waiting cures. Everything else is a mistake, which is told at once.
_PASSES = (ConsumerNotActive, ConnectError, Timeout, OutcomeUnknown, MaintenanceError, RateLimited, ServerError)

#: Seconds until the next look: keys become active at a reset, and nobody is to be bothered meanwhile.
_SOON = (60.0, 120.0)
_FIRST, _LONGEST = 300.0, 900.0


@click.command("wait")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=1, max=86_400),
    help="Between two looks; by default soon at first, then after 5 to 15 minutes.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Give up after so long; by default never.",
)
@common.profile_options
@click.pass_context
def command(ctx: click.Context, interval: float | None, timeout: float | None, as_json: bool) -> None:
    """Wait until IBKR has activated a new consumer key: until a live session token can be agreed on.

    Ends with 0 then. A mistake that waiting cannot cure, such as a wrong key or token, ends it at
    once, with the code of its family.
    """
    since = datetime.now().astimezone()
    began = time.monotonic()
    attempts = 0
    with common.open_session(ctx, brokerage="never") as session:
        for pause in _pauses(interval):
            attempts += 1
            error: IBKROAuthError
            try:
                session.refresh()
                break
            except _PASSES as passing:
                error = passing
            except IBKROAuthError as mistake:
                if as_json:
                    ctx.exit(common.report(mistake, common.settings(ctx), _as_document(False, since, attempts)))
                raise
            wait = max(pause, (error.retry_after or 0.0) if isinstance(error, RateLimited) else 0.0)
            if timeout is not None and time.monotonic() - began + wait > timeout:
                click.echo(f"gave up after {attempts} looks", err=True)
                document = _as_document(False, since, attempts) if as_json else None
                ctx.exit(common.report(error, common.settings(ctx), document))
            if not as_json:
                _tell(error, since, attempts, wait)
            time.sleep(wait)
    if as_json:
        common.print_json(_as_document(True, since, attempts))
    else:
        click.echo("the consumer key is active: a live session token was agreed on")


def _pauses(interval: float | None) -> Iterator[float]:
    """Seconds, with jitter, so that many who wait for the same reset do not come at once."""
    if interval is not None:
        while True:
            yield interval
    for pause in _SOON:
        yield pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
    pause = _FIRST
    while True:
        yield min(pause * random.uniform(0.8, 1.2), _LONGEST)  # noqa: S311
        pause = min(pause * 1.3, _LONGEST)


def _tell(error: IBKROAuthError, since: datetime, attempts: int, wait: float) -> None:
    what = "not active yet" if isinstance(error, ConsumerNotActive) else f"no answer to build on ({error.code})"
    next_at = datetime.now().astimezone() + timedelta(seconds=wait)
    looks = "1 look" if attempts == 1 else f"{attempts} looks"
    common.say(f"{what}: {looks} since {since:%a %H:%M:%S}, next at {next_at:%H:%M:%S}; Ctrl-C ends this", err=True)
    if attempts == 1:
        common.say(error.advice, err=True)


def _as_document(active: bool, since: datetime, attempts: int) -> dict[str, object]:
    return {"active": active, "since": since.isoformat(timespec="seconds"), "attempts": attempts}
