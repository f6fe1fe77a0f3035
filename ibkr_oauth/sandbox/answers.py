"""Answers, and every refusal with its words.

Texts of the real service are marked "real", as far as they were seen in public. The real text of
the others is unknown: they are inventions of the sandbox, each distinct and naming the cause.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: status, body, its content type (None: no body to speak of), more headers."""

    status: int
    body: bytes
    content_type: str | None = JSON
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: object, status: int = 200) -> Answer:
    """An answer that carries `value` as JSON."""
    return Answer(status, json.dumps(value, separators=(",", ":")).encode())


def html_answer(html: str, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer that carries a page."""
    return Answer(status, html.encode(), HTML, headers)


def status_phrase(status: int) -> str:
    """The standard phrase of an HTTP status, ``"Service Unavailable"`` for 503."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


RefusalShape = Literal["numbered", "plain", "problem", "page", "empty"]


class Refusal(Exception):
    """A request that is refused: status, words, and which of the service's body shapes it takes.

    - ``"numbered"``: ``{"error":"id: N, error: WORDS","statusCode":S}``, N being a trace number;
    - ``"plain"``: ``{"error":"WORDS","statusCode":S}``;
    - ``"problem"``: ``application/problem+json`` with the words as its detail;
    - ``"page"``: the HTML of the network's edge;
    - ``"empty"``: no body at all.
    """

    def __init__(
        self,
        status: int,
        words: str,
        shape: RefusalShape = "numbered",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.shape: RefusalShape = shape
        self.headers = headers

    def answer(self, number: int) -> Answer:
        """The answer to send; `number` is the trace number of this refusal."""
        return replace(self._body(number), headers=self.headers)

    def _body(self, number: int) -> Answer:
        match self.shape:
            case "numbered":
                error = f"id: {number}, error: {self.words}"
                return json_answer({"error": error, "statusCode": self.status}, self.status)
            case "plain":
                return json_answer({"error": self.words, "statusCode": self.status}, self.status)
            case "problem":
                problem = {
                    "type": "/simple",
                    "title": status_phrase(self.status),
                    "status": self.status,
                    "detail": self.words,
                }
                body = json.dumps(problem, separators=(",", ":")).encode()
                return Answer(self.status, body, "application/problem+json")
            case "page":
                title = status_phrase(self.status) if self.status != 403 else "Access Denied"
                page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>"
                return html_answer(f"{page}<p>{self.words}</p></body></html>", self.status)
            case "empty":
                return Answer(self.status, b"", None)


# --- 1. The network's edge -----------------------------------------------------------------------


def no_user_agent() -> Refusal:
    """Real: the content delivery network turns away a client without this header."""
    return Refusal(403, "You don't have permission to access this server: no User-Agent.", "page")


def no_content_length() -> Refusal:
    """Real status, invented text."""
    return Refusal(411, "Length Required: send Content-Length: 0 with an empty POST", "plain")


def rate_limited(retry_after: float | None = None) -> Refusal:
    """Real status; ``Retry-After`` (seconds) only where the sandbox was told to send it."""
    headers = () if retry_after is None else (("Retry-After", str(math.ceil(retry_after))),)
    return Refusal(429, "Too Many Requests", "plain", headers)


def maintenance() -> Refusal:
    """Real shape; the service answers so during its maintenance."""
    return Refusal(503, "Service Unavailable", "plain")


# --- 2. The parameters ---------------------------------------------------------------------------


def no_authorization() -> Refusal:
    """Invented."""
    return Refusal(401, "missing Authorization header")


def authorization_not_oauth() -> Refusal:
    """Invented."""
    return Refusal(401, "Authorization header does not begin with OAuth")


def authorization_unreadable(why: str) -> Refusal:
    """Invented."""
    return Refusal(401, f"Authorization header cannot be read: {why}")


def duplicate_parameter(name: str) -> Refusal:
    """Invented."""
    return Refusal(401, f"duplicate parameter {name}")


def missing_parameter(name: str) -> Refusal:
    """Real in that the reply names the missing part; its wording is invented."""
    return Refusal(401, f"missing parameter {name}")


# --- 3. The consumer -----------------------------------------------------------------------------


def invalid_consumer() -> Refusal:
    """Real: for a key that is unknown, not active yet, or spelled in another case."""
    return Refusal(401, "invalid consumer")


# --- 4. Realm, method, version -------------------------------------------------------------------


def wrong_realm(expected: str) -> Refusal:
    """Invented."""
    return Refusal(401, f"wrong realm, this consumer uses {expected}")


def wrong_signature_method(expected: str) -> Refusal:
    """Invented."""
    return Refusal(401, f"oauth_signature_method must be {expected} here")


def wrong_version() -> Refusal:
    """Invented."""
    return Refusal(401, "oauth_version must be absent or 1.0")


def callback_not_oob() -> Refusal:
    """Invented; the documents say that it must be oob."""
    return Refusal(401, "oauth_callback must be oob")


# --- 5. Timestamp and nonce ----------------------------------------------------------------------


def bad_timestamp() -> Refusal:
    """Invented."""
    return Refusal(401, "oauth_timestamp must have 10 digits, the seconds since 1970")


def stale_timestamp(seconds: int, window: float) -> Refusal:
    """Invented. `seconds`: how far the client's clock is ahead, negative for behind."""
    direction = "ahead of" if seconds > 0 else "behind"
    return Refusal(
        401,
        f"oauth_timestamp is {abs(seconds)} seconds {direction} the server's clock, {window:g} are allowed",
    )


def nonce_used() -> Refusal:
    """Invented."""
    return Refusal(401, "oauth_nonce was used before")


# --- 6. Tokens -----------------------------------------------------------------------------------


def unknown_request_token() -> Refusal:
    """Invented."""
    return Refusal(401, "unknown request token")


def request_token_of_another_consumer() -> Refusal:
    """Invented."""
    return Refusal(401, "request token belongs to another consumer")


def request_token_used() -> Refusal:
    """Invented."""
    return Refusal(401, "request token was used before, each is good for one access token")


def request_token_expired() -> Refusal:
    """Invented."""
    return Refusal(401, "request token has expired")


def request_token_denied() -> Refusal:
    """Invented."""
    return Refusal(401, "the user denied this request token")


def request_token_not_approved() -> Refusal:
    """Invented."""
    return Refusal(401, "the user has not approved this request token yet")


def wrong_verifier() -> Refusal:
    """Invented."""
    return Refusal(401, "oauth_verifier is wrong")


def no_access_secret(token: str) -> Refusal:
    """Real: the live session token cannot be made, the service has no secret for the token."""
    return Refusal(401, f"LST failed, error: No access secret key found for {token}")


def unknown_access_token() -> Refusal:
    """Invented."""
    return Refusal(401, "unknown access token")


def access_token_of_another_consumer() -> Refusal:
    """Invented."""
    return Refusal(401, "access token belongs to another consumer")


def no_live_session_token() -> Refusal:
    """Invented."""
    return Refusal(401, "no live session token was requested for this access token")


# --- 7. The signature ----------------------------------------------------------------------------


def rsa_signature_refused() -> Refusal:
    """Real words."""
    return Refusal(401, "error 23804 Error validating signature")


def hmac_signature_refused() -> Refusal:
    """Real words."""
    return Refusal(401, "Invalid signature")


# --- 8. The live session token -------------------------------------------------------------------


def challenge_not_hex() -> Refusal:
    """Invented."""
    return Refusal(401, "diffie_hellman_challenge must be hexadecimal, without 0x")


def challenge_out_of_range() -> Refusal:
    """Invented."""
    return Refusal(401, "diffie_hellman_challenge must lie between 2 and p - 2")


# --- Without a signature: the cookie ---------------------------------------------------------------


def wrong_session() -> Refusal:
    """Invented: the cookie ``api`` holds no session that tickle would give."""
    return Refusal(401, "unknown session in the cookie api")


# --- 9. Protected calls --------------------------------------------------------------------------


def live_session_token_expired() -> Refusal:
    """Real, from the official description of the interface."""
    return Refusal(401, "Access token expired", "problem")


def no_bridge() -> Refusal:
    """Real: the path needs a brokerage session, and there is none."""
    return Refusal(400, "Bad Request: no bridge", "plain")


def not_authenticated() -> Refusal:
    """Real: the brokerage session of the user name is in other hands."""
    return Refusal(401, "not authenticated", "plain")


def not_published() -> Refusal:
    """Real status for ``publish`` other than true, invented text."""
    return Refusal(500, "ssodh/init needs publish=true", "plain")


def accounts_not_queried() -> Refusal:
    """Real: market data and orders are served only after ``/iserver/accounts``."""
    return Refusal(500, "Please query /accounts first", "plain")


def foreign_account() -> Refusal:
    """Real: a portfolio path with somebody else's account gives 401 with an empty body."""
    return Refusal(401, "not an account of this user", "empty")


def not_with_oauth_1() -> Refusal:
    """Real status for ``/sso/validate``, invented text."""
    return Refusal(401, "not available to OAuth 1.0a sessions", "plain")


def bad_request(why: str) -> Refusal:
    """Invented."""
    return Refusal(400, f"Bad Request: {why}", "plain")


def not_found() -> Refusal:
    """Invented: a path that the sandbox does not serve."""
    return Refusal(404, "Not Found", "plain")


def method_not_allowed() -> Refusal:
    """Invented."""
    return Refusal(405, "Method Not Allowed", "plain")
