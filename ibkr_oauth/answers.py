"""What IBKR's answers mean: from status and body to the error that says what to do. The one home of that mapping."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from .clock import parse_date
from .errors import (
    AccessTokenUnknown,
    AuthorizationError,
    BrokerageNotOpen,
    BrokerageRefused,
    ClockSkewError,
    CompetingSession,
    ConsumerNotActive,
    EdgeBlocked,
    IBKROAuthError,
    LiveSessionTokenExpired,
    MaintenanceError,
    OutcomeUnknown,
    PrimingRequired,
    RateLimited,
    RequestTokenError,
    ServerError,
    ServiceError,
    SessionLost,
    SignatureRejected,
    VerifierError,
)
from .redact import path_of, redact, without_query

if TYPE_CHECKING:
    from .transport import Response

#: A clock this far off (seconds) explains a refused signature or timestamp. IBKR's own window is not published.
SUSPICIOUS_SKEW = 60.0


class _Rule(NamedTuple):
    """Applies where the status is one of `statuses`, the path ends in `path`, and the body has `text` (any case)."""

    kind: type[IBKROAuthError]
    statuses: tuple[int, ...]
    text: str = ""
    path: str = ""


# The first rule that applies wins; texts as the service sends them.
_RULES = (
    _Rule(ConsumerNotActive, (400, 401, 403), "invalid consumer"),
    _Rule(AccessTokenUnknown, (400, 401), "no access secret key found"),
    _Rule(LiveSessionTokenExpired, (401,), "access token expired"),
    _Rule(BrokerageNotOpen, (400, 401), "no bridge"),
    _Rule(BrokerageNotOpen, (400, 401, 500), "init session first"),
    _Rule(BrokerageRefused, (500,), "failed to generate sso dh token"),
    _Rule(BrokerageRefused, (410,)),
    _Rule(PrimingRequired, (400, 500), "query /accounts first"),
    _Rule(PrimingRequired, (400, 500), "query /iserver/accounts first"),
    _Rule(CompetingSession, (400, 401, 500), "compete"),
    _Rule(SessionLost, (401,), "not authenticated"),
    _Rule(SessionLost, (401,), "no session"),
    _Rule(ClockSkewError, (401,), "timestamp"),
    _Rule(VerifierError, (400, 401), "verifier"),
    _Rule(RequestTokenError, (400, 401), "token", "/oauth/access_token"),
    _Rule(SignatureRejected, (401,), "validating signature"),
    _Rule(SignatureRejected, (401,), "invalid signature"),
    _Rule(AccessTokenUnknown, (401,), "lst failed", "/oauth/live_session_token"),
    _Rule(AccessTokenUnknown, (401,), "token", "/oauth/live_session_token"),
    _Rule(AuthorizationError, (401, 403)),
    _Rule(RateLimited, (429,)),
    _Rule(MaintenanceError, (502, 503, 504)),
)


def error_of(response: Response, now: float | None = None) -> IBKROAuthError | None:
    """The error that an answer means, or None below 400. `now`: the time that the request was signed with."""
    status = response.status_code
    if status < 400:
        return None
    text = response.text
    if status == 403 and "html" in response.headers.get("content-type", "").lower():
        return describe(response, EdgeBlocked, "refused with a page of HTML before OAuth was looked at (403)")
    kind = _kind(status, text.lower(), path_of(response.request.url))
    skew = clock_skew(response, now)
    if kind in (SignatureRejected, AuthorizationError, ClockSkewError) and abs(skew) > SUSPICIOUS_SKEW:
        ahead = "ahead of" if skew > 0 else "behind"
        return describe(
            response,
            ClockSkewError,
            f"refused (401): this clock is {abs(skew):.0f} s {ahead} the server's",
        )
    error = describe(response, kind, f"refused with status {status}: {_one_line(text)}")
    if kind in (ServerError, MaintenanceError) and response.request.method not in ("GET", "HEAD"):
        # A gateway gives up waiting while the request goes on behind it.
        error.sent, error.advice = True, OutcomeUnknown.default_advice
    if isinstance(error, RateLimited):
        error.retry_after = retry_after(response)
    return error


def describe(response: Response, kind: type[IBKROAuthError], message: str) -> IBKROAuthError:
    """An error of this kind that carries the answer, redacted."""
    request = response.request
    return kind(
        f"{request.method} {path_of(request.url)}: {message}",
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


def _kind(status: int, text: str, path: str) -> type[IBKROAuthError]:
    for rule in _RULES:
        if status in rule.statuses and rule.text in text and path.endswith(rule.path):
            return rule.kind
    return ServerError if status >= 500 else ServiceError


def _one_line(text: str) -> str:
    return " ".join(redact(text, limit=200).split()) or "no text"
