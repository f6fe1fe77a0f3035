"""What the service answers, and what is made of it: its headers, the error that it means, its redacted text, JSON, dates,
the third leg, and texts that a person pastes to have them explained. Nothing raises what is not ours, and a secret never
gets through.

Input: a byte that chooses, a line each for status, header name, header value and path, then the body. SECRET in it stands
for the secrets below, in turn.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from harness import Input, as_text, main, watched

with watched(
    "ibkr_oauth.answers",
    "ibkr_oauth.advice",
    "ibkr_oauth.redact",
    "ibkr_oauth.oauth",
    "ibkr_oauth.clock",
    "ibkr_oauth.html",
    "ibkr_oauth.transport",
):
    from ibkr_oauth import _core, advice, answers, clock, html, oauth
    from ibkr_oauth.errors import IBKROAuthError, LiveSessionTokenError, ServerError
    from ibkr_oauth.redact import MAX_BODY, redact
    from ibkr_oauth.transport import Response

# Each is hidden by what it looks like, wherever it stands: a live session token, raw and percent-encoded in either case, a
# signature, the hex of a decrypted secret.
_TOKEN = "a+b/TFkhSPGCC3EFfwmFc+/9E4g="
_ENCODED = _TOKEN.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
_BYTES = hashlib.sha256(b"a secret").digest()
SECRETS = (
    _TOKEN,
    _ENCODED,
    _ENCODED.replace("%2B", "%2b").replace("%2F", "%2f"),
    base64.b64encode(_BYTES * 8).decode(),
    (_BYTES * 2).hex(),
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def check_hidden(shown: str) -> None:
    for secret in SECRETS:
        assert secret not in shown, shown


def check_error(error: IBKROAuthError | None) -> None:
    if error is not None:
        check_hidden(f"{error} {error!r} {error.advice} {error.body} {error.message}")
        assert error.advice
        assert "\n" not in error.message


def check_redacted(text: str) -> None:
    for limit in (MAX_BODY, 20):
        shown = redact(text, limit)
        check_hidden(shown)
        assert len(shown) <= limit + 40


def read_token(response: Response) -> str:
    return oauth._field(response, "oauth_token", LiveSessionTokenError)


def check_answer(response: Response) -> None:
    check_error(answers.error_of(response, 1_700_000_000.0))
    seconds = answers.retry_after(response)
    assert seconds is None or 0 <= seconds < float("inf")
    check_hidden(f"{response!r} {response.headers!r}")
    for read in (Response.json, oauth._json_object, read_token):
        try:
            read(response)
        except (ServerError, LiveSessionTokenError) as error:
            check_error(error)
    html.response(response).encode()


def check_expiry(response: Response) -> None:
    try:
        milliseconds = oauth._json_object(response).get("live_session_token_expiration")
    except IBKROAuthError as error:
        check_error(error)
    else:
        expires_at = oauth._expiry(milliseconds, NOW)
        assert abs(expires_at - NOW) <= oauth._PLAUSIBLE_LIFETIME


def check_date(value: str) -> None:
    """As the standard library reads it, where it is written as it should be. It takes 0026 for 2026, and we take nothing
    before 1970."""
    seconds = clock.parse_date(value)
    if re.fullmatch(
        r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} (?!00)\d{4} \d{2}:\d{2}:[0-5]\d GMT", value, re.ASCII
    ):
        try:
            theirs: float | None = parsedate_to_datetime(value).timestamp()
        except ValueError:
            theirs = None
        assert seconds == (theirs if theirs is not None and theirs >= 0 else None)


def check_header_lines(lines: bytes) -> None:
    """As they are split here, without a look at the C core's way."""
    expected = []
    for line in lines.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            expected.append((name.decode("latin-1"), value.lstrip(b" \t").rstrip(b" \t\r").decode("latin-1")))
    assert _core.header_pairs(lines) == expected
    for name, _ in [*expected, ("date", "")]:
        if name.isascii():
            values = [value for other, value in expected if other.lower() == name.lower()]
            assert _core.header_values(lines, name.upper()) == values
            assert _core.header_values(expected, name.lower()) == values


def target(data: bytes) -> None:
    given = Input(data)
    kind = given.choice(4)
    status, name, value, path = (given.text() for _ in range(4))
    for secret in SECRETS:
        given.rest = given.rest.replace(b"SECRET", secret.encode(), 1)
    body = given.rest
    text = as_text(body)
    code = int(status) if status.isdecimal() and len(status) == 3 else 200
    response = Response(
        "POST" if kind == 1 else "GET", f"https://api.ibkr.com/v1/api/{path}", code, [(name, value)], body
    )
    check_redacted(text)
    check_date(value)
    check_header_lines(body)
    if kind == 3:
        advice.explain_heard(advice.hear(text))
    elif kind == 2:
        check_expiry(response)
    else:
        check_answer(response)


if __name__ == "__main__":
    main(target)
