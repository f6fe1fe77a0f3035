"""What IBKR's answers mean: from status and body to the error that says what to do. The table is in `advice`."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from .clock import parse_date
from .errors import (
    AuthorizationError,
    ClockSkewError,
    EdgeBlocked,
    IBKROAuthError,
    MaintenanceError,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    ServiceError,
    SignatureRejected,
)
from .redact import path_of, redact, without_query

if TYPE_CHECKING:
    from .transport import Response

#: A clock this far off (seconds) explains a refused signature or timestamp. IBKR's own window is not published.
SUSPICIOUS_SKEW = 60.0


def error_of(response: Response, now: float | None = None) -> IBKROAuthError | None:
    """The error that an answer means, or None below 400. `now`: the time that the request was signed with."""
    status = response.status_code
    if status < 400:
        return None
    text = response.text
    if status == 403 and "html" in response.headers.get("content-type", "").lower():
        return describe(response, EdgeBlocked, "refused with a page of HTML before OAuth was looked at (403)")
    from . import advice  # noqa: PLC0415 - a long table, and nobody needs it before something is refused

    entry = advice.meaning_of(status, text, path_of(response.request.url))
    kind = entry.kind if entry is not None else ServerError if status >= 500 else ServiceError
    skew = clock_skew(response, now)
    if kind in (SignatureRejected, AuthorizationError, ClockSkewError) and abs(skew) > SUSPICIOUS_SKEW:
        ahead = "ahead of" if skew > 0 else "behind"
        return describe(
            response,
            ClockSkewError,
            f"refused (401): this clock is {abs(skew):.0f} s {ahead} the server's",
        )
    error = describe(
        response,
        kind,
        f"refused with status {status}: {_one_line(text)}",
        advice=None if entry is None else entry.remedy,
    )
    if kind in (ServerError, MaintenanceError) and response.request.method not in ("GET", "HEAD"):
        # A gateway gives up waiting while the request goes on behind it.
        error.sent, error.advice = True, OutcomeUnknown.default_advice
    if isinstance(error, RateLimited):
        error.retry_after = retry_after(response)
    return error


def describe(
    response: Response, kind: type[IBKROAuthError], message: str, *, advice: str | None = None
) -> IBKROAuthError:
    """An error of this kind that carries the answer, redacted. `advice`: where that of the kind does not fit."""
    request = response.request
    return kind(
        f"{request.method} {path_of(request.url)}: {message}",
        advice=advice,
        status=response.status_code,
        body=redact(response.text),
        method=request.method,
        url=without_query(request.url),
    )


def clock_skew(response: Response, now: float | None = None) -> float:
    """Seconds that `now`, or else this computer's clock, is ahead of the answer's Date header; 0 without one."""
    date = parse_date(response.headers.get("date", ""))
    return 0.0 if date is None else (time.time() if now is None else now) - date


def retry_after(response: Response) -> float | None:
    """Seconds that the service asks to wait."""
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _one_line(text: str) -> str:
    return " ".join(redact(text, limit=200).split()) or "no text"
