"""What IBKR's answers mean: from status and body to the error that says what to do. The one home of that mapping."""

from __future__ import annotations

import math
import time
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

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
    PrimingRequired,
    RateLimited,
    RequestTokenError,
    ServerError,
    ServiceError,
    SessionLost,
    SignatureRejected,
    VerifierError,
)
from .redact import redact, without_query

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


def error_of(response: Response) -> IBKROAuthError | None:
    """The error that an answer means, or None below 400."""
    status = response.status_code
    if status < 400:
        return None
    text = response.text
    if status == 403 and "html" in response.headers.get("content-type", "").lower():
        return describe(response, EdgeBlocked, "refused with a page of HTML before OAuth was looked at (403)")
    kind = _kind(status, text.lower(), urlsplit(response.request.url).path)
    skew = clock_skew(response)
    if kind in (SignatureRejected, AuthorizationError, ClockSkewError) and abs(skew) > SUSPICIOUS_SKEW:
        ahead = "ahead of" if skew > 0 else "behind"
        return describe(
            response,
            ClockSkewError,
            f"refused (401): this clock is {abs(skew):.0f} s {ahead} the server's",
        )
    error = describe(response, kind, f"refused with status {status}: {_one_line(text)}")
    if isinstance(error, RateLimited):
        error.retry_after = _retry_after(response)
    return error


def describe(response: Response, kind: type[IBKROAuthError], message: str) -> IBKROAuthError:
    """An error of this kind that carries the answer, redacted."""
    request = response.request
    return kind(
        f"{request.method} {urlsplit(request.url).path}: {message}",
        status=response.status_code,
        body=redact(response.text),
        method=request.method,
        url=without_query(request.url),
    )


def clock_skew(response: Response) -> float:
    """Seconds that this computer's clock is ahead of the server's Date header; 0 where there is none."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - heavy to import, needed for refusals only

    try:
        date = parsedate_to_datetime(response.headers["date"])
        return time.time() - (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (KeyError, ValueError, OverflowError):
        return 0.0


def _kind(status: int, text: str, path: str) -> type[IBKROAuthError]:
    for rule in _RULES:
        if status in rule.statuses and rule.text in text and path.endswith(rule.path):
            return rule.kind
    return ServerError if status >= 500 else ServiceError


def _one_line(text: str) -> str:
    return " ".join(redact(text, limit=200).split()) or "no text"


def _retry_after(response: Response) -> float | None:
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
