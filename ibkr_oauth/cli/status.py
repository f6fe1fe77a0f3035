"""`ibkr-oauth status`: the state of the session, once or as a live view."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from ibkr_oauth.clock import duration
from ibkr_oauth.errors import BrokerageError, IBKROAuthError, ServiceError, TransportError

from . import common

if TYPE_CHECKING:
    from rich.table import Table

    from ibkr_oauth import Session

#: Seconds between two tickles while somebody watches.
_KEEP_ALIVE = 60.0


@click.command("status")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C. A tickle each minute keeps alive what is open.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.5, max=3600),
    default=5.0,
    show_default=True,
    help="Between two looks, with --watch.",
)
@common.profile_options
@click.pass_context
def command(ctx: click.Context, watch: bool, interval: float, as_json: bool) -> None:
    """Show the state of the session: which tier is open, who holds it, how long the token is good.

    Looks only: no brokerage session is opened, and nobody is thrown out. With --watch and --json,
    each look is one line of JSON.
    """
    keep_alive = _KEEP_ALIVE if watch else None
    with common.open_session(ctx, brokerage="never", read_only=True, keep_alive=keep_alive) as session:
        if watch:
            _watch(session, interval, as_json=as_json)
            return
        status = _ask(session)
        if as_json:
            common.print_json(asdict(status))
        else:
            common.make_console().print(_table(status))


@dataclass
class _Status:
    """One look. Times in seconds; `clock_skew`: how far this computer's clock is ahead of the server's."""

    at: str
    base_url: str
    consumer_key: str | None
    tier: str
    authenticated: bool
    connected: bool
    competing: bool
    message: str
    server: str | None
    token_remaining: float | None
    last_tickle: str | None
    clock_skew: float
    problem: str | None = None


def _ask(session: Session) -> _Status:
    """Raises what is wrong with the credentials, the network or the service; no brokerage session is no error."""
    fields: dict[str, Any] = {}
    message = ""
    response = session.post("/iserver/auth/status")
    try:
        body: object = response.raise_for_status().json()
        if isinstance(body, dict):
            fields = cast("dict[str, Any]", body)
    except BrokerageError as error:
        message = error.message
    return _status(session, fields, message)


def _status(session: Session, fields: dict[str, Any], message: str, problem: str | None = None) -> _Status:
    health = session.health()
    server = fields.get("serverInfo")
    name = cast("dict[str, Any]", server).get("serverName") if isinstance(server, dict) else None
    authenticated = fields.get("authenticated") is True
    remaining = health.token_remaining
    tier = "brokerage session" if authenticated else "none" if remaining is None else "signed session"
    return _Status(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        base_url=session.base_url,
        consumer_key=None if session.consumer is None else session.consumer.key,
        tier=tier,
        authenticated=authenticated,
        connected=fields.get("connected") is True,
        competing=fields.get("competing") is True,
        message=str(fields.get("message") or message),
        server=name if isinstance(name, str) else None,
        token_remaining=None if remaining is None else remaining.total_seconds(),
        last_tickle=None if health.last_tickle is None else health.last_tickle.isoformat(timespec="seconds"),
        clock_skew=health.clock_skew,
        problem=problem,
    )


# --- The live view --------------------------------------------------------------------------------


def _watch(session: Session, interval: float, *, as_json: bool) -> None:
    from rich.live import Live  # noqa: PLC0415 - one look does without

    console = common.make_console()
    is_live = console.is_terminal and not as_json
    live = Live(console=console, auto_refresh=False) if is_live else None
    try:
        with live or nullcontext():
            while True:
                status = _look(session)
                if live is not None:
                    live.update(_table(status), refresh=True)
                elif as_json:
                    click.echo(json.dumps(asdict(status)))
                else:
                    click.echo(f"{status.at}  {_summary(status)}")
                sys.stdout.flush()
                time.sleep(interval)
    except KeyboardInterrupt:
        return  # the way out of a live view, and no failure


def _look(session: Session) -> _Status:
    """What passes is shown, and the view goes on; what does not, ends it."""
    try:
        return _ask(session)
    except (TransportError, ServiceError) as error:
        return _status(session, {}, "", problem=_words(error))


def _words(error: IBKROAuthError) -> str:
    return f"{error.code}: {error.message}"


def _summary(status: _Status) -> str:
    if status.problem is not None:
        return common.printable(status.problem)
    competing = ", another login holds it" if status.competing else ""
    return f"{status.tier}{competing}, token good for {_remaining(status.token_remaining)}"


def _table(status: _Status) -> Table:
    from rich.table import Table  # noqa: PLC0415 - `--help` does without
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: str, style: str = "") -> None:
        table.add_row(Text(name), Text(common.printable(value), style))

    def flag(value: bool, style: str) -> tuple[str, str]:
        return ("yes", style) if value else ("no", "")

    row("consumer key", f"{status.consumer_key or 'none, with a cookie'} at {status.base_url}")
    row("tier", status.tier, "green" if status.authenticated else "yellow")
    row("authenticated", *flag(status.authenticated, "green"))
    row("connected", *flag(status.connected, "green"))
    row("competing", *flag(status.competing, "red"))
    if status.message:
        row("message", status.message)
    row("server", status.server or "-")
    row("token good for", _remaining(status.token_remaining))
    row("last tickle", _moment(status.last_tickle))
    row("clock", _skew(status.clock_skew))
    if status.problem is not None:
        row("problem", status.problem, "red")
    elif status.competing:
        row("what to do", "Log out there, or use a second user name for the API.", "yellow")
    elif not status.authenticated:
        row("what to do", "Nothing, for /portfolio; a session opens the rest when an /iserver path is used.")
    row("at", _moment(status.at))
    return table


def _moment(text: str | None) -> str:
    return "-" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def _skew(seconds: float) -> str:
    if abs(seconds) < 1:
        return "right"
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"


def _remaining(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return duration(timedelta(seconds=seconds)) if seconds > 0 else "no time: it has expired"
