"""How tokens, sessions and answers look in a notebook. Imported when a notebook shows one, never before.

Saved notebooks are shown to others: nothing secret is written, and everything that came from outside is escaped.
"""

from __future__ import annotations

import contextlib
import html
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from .clock import duration
from .redact import HIDDEN, is_secret_name, mask, redact, without_query

if TYPE_CHECKING:
    from .health import Health
    from .login import Login
    from .session import AnySession
    from .tokens import AccessToken, LiveSessionToken, RequestToken
    from .transport import Response

#: An answer is cut after so many values, so deep, and each text after so many characters: a notebook keeps what it
#: shows, and a long one becomes slow to open.
_MOST_VALUES = 200
_DEEPEST = 8
_LONGEST_TEXT = 300
_MOST_BYTES = 1_000_000

_TABLE = "border-collapse:collapse;margin:.25em 0"
_NAME = (
    "text-align:left;vertical-align:top;padding:.1em 1em .1em 0;font-weight:normal;opacity:.75;overflow-wrap:break-word"
)
# Values may break anywhere, and so would the names of a tree within one: a long text would squeeze them to a letter.
_VALUE = "text-align:left;vertical-align:top;padding:.1em 0;overflow-wrap:anywhere"
_CODE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.25em 0"


def login(one: Login) -> str:
    """The link to IBKR's page, which a person needs to follow, and what to do then."""
    then = (
        "come back here and call finish()" if one.listens else "call finish() with the address that the browser ends at"
    )
    url = _escape(one.authorization_url)
    link = f'<a href="{url}" target="_blank" rel="noopener noreferrer">Log in and grant access</a>'
    return f"<div>{link}, then {then}.</div>"


def request_token(token: RequestToken) -> str:
    return _card("Request token", {"token": mask(token.token)})


def access_token(token: AccessToken) -> str:
    user = {True: "paper", False: "live", None: "not said"}[token.is_paper]
    return _card("Access token", {"token": mask(token.token), "secret": "hidden", "user": user})


def live_session_token(token: LiveSessionToken) -> str:
    return _card(
        "Live session token",
        {
            "consumer": token.consumer_key or "not known",
            "fingerprint": token.fingerprint,
            "expires": f"{token.expires_at:%Y-%m-%d %H:%M:%S} UTC",
            "remaining": duration(token.remaining),
        },
    )


def session(one: AnySession) -> str:
    consumer = one.consumer
    who = {"consumer": "none, with a cookie" if consumer is None else consumer.key, "service": one.base_url}
    return _card(type(one).__name__, who | _health_rows(one.health()))


def health(one: Health) -> str:
    return _card("Health", _health_rows(one))


def response(answer: Response) -> str:
    """Status, request, and the body: JSON as a tree to open and close, other text as it is, both cut when long."""
    milliseconds = answer.elapsed.total_seconds() * 1000
    where = f"{answer.request.method} {without_query(answer.request.url)}"
    heading = f"<b>{answer.status_code}</b> <code>{_escape(where)}</code> {milliseconds:.0f} ms"
    return f"<div>{heading}{_body(answer)}</div>"


def _health_rows(one: Health) -> dict[str, str]:
    rows: dict[str, str] = {"state": one.state}
    if one.state != "closed":
        rows |= _life(one)
    rows["calls"] = f"{one.counters.requests} answered, {one.counters.retries} repeated"
    if abs(one.clock_skew) >= 1:
        rows["clock"] = f"{abs(one.clock_skew):.0f} s {'ahead of' if one.clock_skew > 0 else 'behind'} the server"
    if one.last_error is not None:
        rows["last error"] = redact(one.last_error)
    return rows


def _life(one: Health) -> dict[str, str]:
    tier = {
        "open": "brokerage (orders and market data)",
        "not open": "portfolio; the brokerage session is not open",
        "lost": "portfolio; the brokerage session was lost",
        "competing": "portfolio; another login holds the brokerage session",
        "refused": "portfolio; the brokerage session was refused",
    }[one.brokerage]
    return {
        "tier": tier,
        "live session token": "none yet" if one.token_remaining is None else duration(one.token_remaining),
        "keep-alive": _keep_alive(one),
    }


def _keep_alive(one: Health) -> str:
    if not one.keep_alive:
        return "off"
    if one.last_tickle is None:
        return "on"
    return f"on, last tickle {duration(datetime.now(UTC) - one.last_tickle)} ago"


def _body(answer: Response) -> str:
    if not answer.content:
        return ""
    if len(answer.content) <= _MOST_BYTES:
        with contextlib.suppress(ValueError, RecursionError):
            return _Tree().show(json.loads(answer.content))
    return f'<pre style="{_CODE}">{_escape(redact(answer.text))}</pre>'


class _Tree:
    """A JSON value as nested `<details>`, until it has shown enough."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def show(self, value: object, depth: int = 0) -> str:
        self._left -= 1
        if value in ({}, []):  # nothing to open
            return f"<code>{value}</code>"
        if isinstance(value, dict):
            entries = cast("dict[str, object]", value)
            return self._branch(f"{{{len(entries)}}}", entries.items(), depth)
        if isinstance(value, list):
            items = cast("list[object]", value)
            return self._branch(f"[{len(items)}]", ((str(number), one) for number, one in enumerate(items)), depth)
        # In quotes: IBKR sends many a number as text, which is not to be added up.
        text = f'"{redact(value, _LONGEST_TEXT)}"' if isinstance(value, str) else json.dumps(value)
        return f"<code>{_escape(text)}</code>"

    def _branch(self, summary: str, entries: Iterable[tuple[str, object]], depth: int) -> str:
        if depth >= _DEEPEST:
            return f"<code>{summary}</code> (not shown: too deep)"
        rows: list[str] = []
        for name, value in entries:
            if self._left <= 0:
                rows.append(_row("…", "cut here; <code>.json()</code> has all of it"))
                break
            shown = f"<code>{HIDDEN}</code>" if is_secret_name(name) else self.show(value, depth + 1)
            rows.append(_row(redact(name, _LONGEST_TEXT), shown))
        opened = " open" if depth < 2 else ""
        return f'<details{opened}><summary>{summary}</summary><table style="{_TABLE}">{"".join(rows)}</table></details>'


def _card(title: str, rows: Mapping[str, str]) -> str:
    shown = "".join(_row(name, _escape(value)) for name, value in rows.items())
    return f'<div><b>{_escape(title)}</b><table style="{_TABLE}">{shown}</table></div>'


def _row(name: str, shown: str) -> str:
    return f'<tr><th scope="row" style="{_NAME}">{_escape(name)}</th><td style="{_VALUE}">{shown}</td></tr>'


def _escape(text: str) -> str:
    """As HTML, lone surrogates replaced: a notebook is saved as UTF-8."""
    return html.escape(text.encode("utf-8", "replace").decode())
