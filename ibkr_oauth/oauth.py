"""The three endpoints of IBKR's OAuth 1.0a: request token, access token, live session token."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from . import _core, answers
from ._core import Secret
from .closing import Closing
from .consumer import Consumer
from .errors import (
    ConnectError,
    InvalidValue,
    LiveSessionTokenError,
    OutcomeUnknown,
    ServerError,
    SessionClosed,
    Timeout,
    VerifierError,
)
from .log import DEBUG, WARNING, Log
from .signing import QuerySigning, SignedRequest, Signer
from .tokens import DEFAULT_LIFETIME, AccessToken, LiveSessionToken, RequestToken, token_text
from .transport import DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT, Response, Transport, milliseconds, transport_options

logger = Log("ibkr_oauth.token")

DEFAULT_BASE_URL = "https://api.ibkr.com/v1/api"

Answer = TypeVar("Answer")
ParametersIn: TypeAlias = Literal["header", "json"]

_IBKR_HOST = re.compile(r"https://(?:\d\.)?api\.ibkr\.com(?::443)?(?:/|$)", re.IGNORECASE)
_IBKR_AUTHORIZE_URL = "https://www.interactivebrokers.com/authorize"

#: An expiry further away than this (either way) is no expiry in milliseconds; then 24 hours count.
_PLAUSIBLE_LIFETIME = timedelta(days=8)


class OAuthClient(Closing):
    """Gets tokens for one consumer. Does no I/O before the first call; threads may share one.

    `base_url`: where the API lives; requests are signed for exactly that address. `authorize_url`: the page where users
    grant access, IBKR's own for its hosts, else `/authorize` of the same origin. `timeout` and `connect_timeout`:
    seconds.
    `ca_file`: PEM of the authorities to trust, else the system's. `proxy`: URL. `query_signing`: for `signer`.
    `parameters_in`: `header`, or `json` for the body that IBKR's older documentation describes.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        base_url: str = DEFAULT_BASE_URL,
        authorize_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        query_signing: QuerySigning = "omit",
        parameters_in: ParametersIn = "header",
    ) -> None:
        if parameters_in not in ("header", "json"):
            raise InvalidValue("parameters_in must be 'header' or 'json'")
        milliseconds(timeout)  # a wrong one shows here and not in the first call
        check_base_url(base_url)
        if query_signing not in get_args(QuerySigning):
            raise InvalidValue(f"query_signing must be one of {', '.join(get_args(QuerySigning))}")
        self.consumer = consumer
        self.base_url = base_url.rstrip("/")
        self.authorize_url = authorize_url or _authorize_url(self.base_url)
        self.timeout = timeout
        self.query_signing: QuerySigning = query_signing
        self.parameters_in: ParametersIn = parameters_in
        options = transport_options(ca_file=ca_file, proxy=proxy, connect_timeout=connect_timeout)
        self._transport: Transport | None = Transport(options)

    def request_token(self, callback: str = "oob") -> RequestToken:
        """First leg. `callback` is `oob`: the real one is registered with the consumer key.

        Raises ConsumerNotActive, SignatureRejected, ClockSkewError, TransportError.
        """
        answer = _repeatable(lambda: self._post("/oauth/request_token", [("oauth_callback", callback)]))
        return RequestToken(_field(answer, "oauth_token"), self.authorize_url)

    def access_token(self, request_token: RequestToken | str, verifier: str) -> AccessToken:
        """Second leg, after the user granted access. `verifier`: `oauth_verifier`, or the whole redirect URL.

        A request token works once; repeating the flow gives the same access token with a new secret, and the former
        secret stops working. Raises VerifierError, RequestTokenError, KeyMismatchError (the secret is for another
        encryption key).
        """
        token = token_text("request token", request_token)
        pairs = [("oauth_token", token), ("oauth_verifier", _verifier(verifier, token))]
        answer = self._post("/oauth/access_token", pairs)
        is_paper = _json_object(answer).get("is_paper")
        access_token = AccessToken(
            _field(answer, "oauth_token"),
            _field(answer, "oauth_token_secret"),
            is_paper=is_paper if isinstance(is_paper, bool) else None,
        )
        self.consumer.decrypt_secret(access_token)  # a wrong encryption key shows now, and not at the next start
        return access_token

    def live_session_token(self, access_token: AccessToken) -> LiveSessionToken:
        """Third leg: agrees on a token and returns it only if the server's signature proves it.

        Raises KeyMismatchError before anything is sent, AccessTokenUnknown, SignatureRejected, LiveSessionTokenError
        (the server's half is unusable), LiveSessionTokenMismatch.
        """
        exchange, answer = _repeatable(lambda: self._exchange(access_token))
        return exchange.finish(answer)

    def signer(self, live_session_token: LiveSessionToken) -> Signer:
        """For protected calls with this client's `query_signing`."""
        return Signer(self.consumer, live_session_token, query_signing=self.query_signing)

    def send(self, request: SignedRequest, *, json: object = None, timeout: float | None = None) -> Response:
        """Sends a signed request once and returns the answer, whatever its status. `json`: a body for it."""
        headers, body = list(request.headers.items()), request.body
        if json is not None:
            if body is not None:
                raise InvalidValue("a request has a form or a JSON body, not both")
            headers.append(("Content-Type", "application/json"))
            body = encode_json(json)
        return self._open_transport().send(
            request.method,
            request.url,
            headers,
            body,
            timeout=self.timeout if timeout is None else timeout,
        )

    def close(self) -> None:
        """Closes the connections. May be called again."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def __repr__(self) -> str:
        return f"<OAuthClient {self.consumer.key} at {self.base_url}>"

    def _open_transport(self) -> Transport:
        if self._transport is None:
            raise SessionClosed("this OAuthClient was closed")
        return self._transport

    def _post(self, path: str, pairs: list[tuple[str, str]]) -> Response:
        request = sign_oauth_request(
            self.consumer, self.base_url + path, pairs, timestamp=int(time.time()), parameters_in=self.parameters_in
        )
        return self.send(request).raise_for_status()

    def _exchange(self, access_token: AccessToken) -> tuple[TokenExchange, Response]:
        exchange = TokenExchange(
            self.consumer, access_token, self.base_url, timestamp=int(time.time()), parameters_in=self.parameters_in
        )
        return exchange, self.send(exchange.request).raise_for_status()


def sign_oauth_request(
    consumer: Consumer,
    url: str,
    pairs: list[tuple[str, str]],
    *,
    timestamp: int,
    nonce: str | None = None,
    prepend: Secret | None = None,
    parameters_in: ParametersIn = "header",
) -> SignedRequest:
    """One attempt at one of the three endpoints, signed with the signing key (RSA-SHA256)."""
    oauth = [
        *pairs,
        ("oauth_consumer_key", consumer.key),
        ("oauth_nonce", nonce or _core.nonce()),
        ("oauth_signature_method", "RSA-SHA256"),
        ("oauth_timestamp", str(timestamp)),
    ]
    signature = _core.rsa_signature("POST", url, oauth, consumer.signing_key._handle, prepend)
    oauth.append(("oauth_signature", signature))
    header = _core.authorization_header(oauth, consumer.realm)  # also refuses values that no header may have
    if parameters_in == "header":
        return SignedRequest("POST", url, {"Authorization": header})
    return SignedRequest("POST", url, {"Content-Type": "application/json"}, encode_json(dict(oauth)))


class TokenExchange:
    """One attempt to agree on a live session token: `request` is to be sent once, `finish` takes its answer.

    Raises KeyMismatchError before anything is sent. A fresh Diffie-Hellman half is made for every attempt.
    """

    __slots__ = ("_access_token", "_consumer", "_exchange", "_secret", "request")

    def __init__(
        self,
        consumer: Consumer,
        access_token: AccessToken,
        base_url: str,
        *,
        timestamp: int,
        nonce: str | None = None,
        parameters_in: ParametersIn = "header",
    ) -> None:
        if not isinstance(access_token, AccessToken):
            raise TypeError(f"access_token must be an AccessToken, not {type(access_token).__name__}")
        self._consumer = consumer
        self._access_token = access_token
        self._secret = consumer.decrypt_secret(access_token)
        self._exchange = consumer.dh_params.exchange()
        pairs = [("diffie_hellman_challenge", self._exchange.challenge), ("oauth_token", access_token.token)]
        self.request = sign_oauth_request(
            consumer,
            f"{base_url}/oauth/live_session_token",
            pairs,
            timestamp=timestamp,
            nonce=nonce,
            prepend=self._secret,
            parameters_in=parameters_in,
        )

    def finish(self, answer: Response, now: datetime | None = None) -> LiveSessionToken:
        """The token, proved by the server's signature. `now`: where the server's clock differs from this computer's."""
        token = LiveSessionToken.derive(
            self._exchange.finish(_field(answer, "diffie_hellman_response", LiveSessionTokenError)),
            self._secret,
            expires_at=_expiry(_json_object(answer).get("live_session_token_expiration"), now or datetime.now(UTC)),
            consumer_key=self._consumer.key,
            access_token=self._access_token,
        )
        token.verify(_field(answer, "live_session_token_signature", LiveSessionTokenError))
        return token


def _repeatable(attempt: Callable[[], Answer]) -> Answer:
    """A call that does no harm when it is done twice: one more attempt, newly signed, where the transport failed."""
    try:
        return attempt()
    except (ConnectError, OutcomeUnknown, Timeout) as error:
        logger.log(DEBUG, "%s; trying once more", error.message)
        return attempt()


def check_base_url(base_url: str) -> None:
    """Raises InvalidValue for an address that could not be signed, sent to, or continued with a path."""
    _core.query_pairs(base_url)
    if "?" in base_url:
        raise InvalidValue("base_url has a query ('?')")
    if not _core.may_be_sent(base_url):
        raise InvalidValue("base_url: plain http is for this machine only (127.0.0.1, [::1], localhost); use https")


def _authorize_url(base_url: str) -> str:
    if _IBKR_HOST.match(base_url):
        return _IBKR_AUTHORIZE_URL
    return "/".join([*base_url.split("/")[:3], "authorize"])


def _verifier(text: str | None, token: str) -> str:
    """The verifier itself, also from a pasted redirect URL, which must belong to this request token."""
    if text is None:
        raise VerifierError("the verifier is missing: the redirect had none, so the user may have refused")
    text = text.strip()
    if "oauth_verifier=" in text:
        from urllib.parse import parse_qsl, urlsplit  # noqa: PLC0415 - slow to import, and rarely needed

        try:
            query = dict(parse_qsl(urlsplit(text).query or text.partition("?")[2] or text))
        except ValueError:
            raise VerifierError("the pasted text is no address") from None
        if query.get("oauth_token", token) != token:
            raise VerifierError("the redirect URL belongs to another request token")
        text = query.get("oauth_verifier", "").strip()
    if not text:
        raise VerifierError("the verifier is empty")
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", text):
        raise VerifierError(f"a verifier of {len(text)} characters with other ones than A-Z a-z 0-9 . _ ~ -")
    return text


def _json_object(response: Response) -> dict[str, Any]:
    value = response.json()
    if not isinstance(value, dict):
        raise answers.describe(
            response,
            ServerError,
            f"the answer is a JSON {type(value).__name__}, expected an object",
        )
    return cast("dict[str, Any]", value)


def _field(
    response: Response,
    name: str,
    kind: type[LiveSessionTokenError | ServerError] = ServerError,
) -> str:
    """A required text field."""
    value = _json_object(response).get(name)
    if value is None:
        raise answers.describe(response, kind, f"the answer has no {name}")
    if not isinstance(value, str) or not value:
        found = "empty" if value == "" else f"a {type(value).__name__}"
        raise answers.describe(response, kind, f"{name} is {found}, expected a text")
    return value


def _expiry(milliseconds: object, now: datetime) -> datetime:
    """The server's expiry: milliseconds since 1970, converted here and nowhere else. Where it gives none: 24 hours."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        return now + DEFAULT_LIFETIME
    try:
        expires_at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return now + DEFAULT_LIFETIME
    if abs(expires_at - now) > _PLAUSIBLE_LIFETIME:
        logger.log(WARNING, "the live session token's expiry is not in milliseconds since 1970; 24 hours are assumed")
        return now + DEFAULT_LIFETIME
    return expires_at


def encode_json(value: object) -> bytes:
    import json  # noqa: PLC0415 - the name is an argument of send

    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        reason = f"character {error.start + 1} of its text is no character"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    # Outside of the handlers: an error of encoding holds the whole body, and would be kept as context.
    raise InvalidValue(f"the body cannot be written as JSON: {reason}")
