"""From an incoming request to a verified one: the checks, in the service's order.

`verify` is the whole of it. What it does not find in order it refuses with the words of
`answers`; the order decides which of several faults a client is told about.
"""

from __future__ import annotations

import hmac
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import cast
from urllib.parse import parse_qsl, quote, unquote

from starlette.datastructures import Headers

from . import answers, crypto
from .state import (
    AccessToken,
    LiveSessionToken,
    QueryRule,
    RegisteredConsumer,
    RequestToken,
    State,
)

API_ROOT = "/v1/api"

Pairs = tuple[tuple[str, str], ...]

_ALWAYS = (
    "oauth_consumer_key",
    "oauth_nonce",
    "oauth_signature",
    "oauth_signature_method",
    "oauth_timestamp",
)
REQUIRED = {
    "/oauth/request_token": (*_ALWAYS, "oauth_callback"),
    "/oauth/access_token": (*_ALWAYS, "oauth_token", "oauth_verifier"),
    "/oauth/live_session_token": (*_ALWAYS, "oauth_token", "diffie_hellman_challenge"),
}
"""The RSA-signed endpoints and the parameters that each requires."""
REQUIRED_ELSEWHERE = (*_ALWAYS, "oauth_token")
"""The parameters of an HMAC-signed, protected call."""


@dataclass(frozen=True)
class IncomingRequest:
    """A request as it came in; `target` and `query` are kept as they were sent."""

    method: str
    target: str
    query: str
    headers: Headers
    body: bytes

    @cached_property
    def path(self) -> str:
        """The decoded path below ``/v1/api``."""
        return unquote(self.target).removeprefix(API_ROOT)

    @property
    def is_oauth_endpoint(self) -> bool:
        """Whether it goes to one of the three RSA-signed endpoints."""
        return self.path in REQUIRED

    @cached_property
    def media_type(self) -> str:
        """The type of the body without its parameters, in lower case; empty when not given."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @cached_property
    def session_cookie(self) -> str | None:
        """The cookie ``api``, None when it was not sent."""
        return session_cookie(self.headers)

    def query_pairs(self) -> Pairs:
        """The decoded parameters of the query, repeated names and empty values included."""
        return decode_pairs(self.query)

    def form_pairs(self) -> Pairs:
        """The decoded parameters of a form body; none for a body of another type."""
        if self.media_type != "application/x-www-form-urlencoded":
            return ()
        return decode_pairs(self.body.decode("utf-8", "surrogateescape"))


def session_cookie(headers: Headers) -> str | None:
    """The value of the cookie ``api``, None when it was not sent."""
    return cookie_of(headers, "api")


def cookie_of(headers: Headers, wanted: str) -> str | None:
    """The value of a cookie, None when it was not sent."""
    for header in headers.getlist("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == wanted:
                return value
    return None


@dataclass(frozen=True)
class Verified:
    """A request that passed every check, and what it was found to belong to.

    `query_rule` says under which rule the signature holds; None when the request has no query, so
    that nothing can be told.
    """

    parameters: dict[str, str]
    consumer: RegisteredConsumer
    request_token: RequestToken | None
    access_token: AccessToken | None
    live_session_token: LiveSessionToken | None
    query_rule: QueryRule | None


# --- The base string -----------------------------------------------------------------------------


def percent_encode(text: str) -> str:
    """RFC 3986: everything but ``A-Z a-z 0-9 - . _ ~``, as upper-case escapes of its UTF-8."""
    return quote(text, safe="", errors="surrogateescape")


def decode_pairs(text: str) -> Pairs:
    """Decode a query or form body; bytes that are not UTF-8 survive as lone surrogates."""
    return tuple(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))


@dataclass(frozen=True)
class Candidate:
    """What a signature may have been made over, under one of the query rules."""

    rule: QueryRule
    method: str
    url: str
    pairs: Pairs
    prepend: str = ""

    def base_string(self) -> str:
        """``METHOD&url&parameters``, after the prepend; the sorted list is encoded once.

        Sorted by name, then by value: Python's order of text is that of its UTF-8 bytes.
        Only ``rfc5849`` encodes twice: each name and value, and then the list of them.
        """
        pairs = self.pairs
        if self.rule == "rfc5849":
            pairs = tuple((percent_encode(name), percent_encode(value)) for name, value in pairs)
        listed = "&".join(f"{name}={value}" for name, value in sorted(pairs))
        return f"{self.prepend}{self.method}&{percent_encode(self.url)}&{percent_encode(listed)}"


def candidates(
    request: IncomingRequest,
    parameters: dict[str, str],
    *,
    origin: str,
    query_rules: tuple[QueryRule, ...],
    prepend: str = "",
) -> list[Candidate]:
    """The base strings to try, one for each rule.

    - ``merge``: the decoded query joins the parameters;
    - ``omit``: the query is not signed at all;
    - ``url``: the query stays in the URL, as it was sent;
    - ``rfc5849``: as ``merge``, with the double encoding of RFC 5849.

    The URL is the public one, never what the Host header says. A form body always joins the
    parameters; realm and signature never do.
    """
    signed = tuple((name, value) for name, value in parameters.items() if name not in ("realm", "oauth_signature"))
    signed += request.form_pairs()
    url = origin + request.target
    with_query = f"{url}?{request.query}" if request.query else url
    merged = signed + request.query_pairs()
    made: dict[QueryRule, tuple[str, Pairs]] = {
        "merge": (url, merged),
        "omit": (url, signed),
        "url": (with_query, signed),
        "rfc5849": (url, merged),
    }
    return [Candidate(rule, request.method, *made[rule], prepend) for rule in query_rules]


# --- The parameters ------------------------------------------------------------------------------

_PAIR = re.compile(r'\s*([A-Za-z0-9_]+)=(?:"([^"]*)"|([^\s",]*))\s*(,|$)')


def parse_authorization(header: str) -> dict[str, str]:
    """The parameters of an ``Authorization: OAuth …`` header, decoded, in any order.

    Values stand in double quotes; only a realm may lack them, as one of IBKR's own samples writes.
    Raises `Refusal`.
    """
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "oauth" or not rest.strip():
        raise answers.authorization_not_oauth()
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        pair = _PAIR.match(rest, position)
        if pair is None:
            raise answers.authorization_unreadable(f"at character {position + len(scheme) + 2}")
        name, quoted, bare, comma = pair.groups()
        if quoted is None and name != "realm":
            raise answers.authorization_unreadable(f"{name} is not quoted")
        if name in parameters:
            raise answers.duplicate_parameter(name)
        parameters[name] = _percent_decode(name, bare if quoted is None else quoted)
        position = pair.end()
        if comma and not rest[position:].strip():
            raise answers.authorization_unreadable("it ends in a comma")
    return parameters


def _percent_decode(name: str, value: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        raise answers.authorization_unreadable(f"{name} has an incomplete percent escape")
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise answers.authorization_unreadable(f"{name} is not UTF-8") from None


def parse_json_parameters(body: bytes) -> dict[str, str]:
    """The parameters of a JSON body, as the oldest documentation has them. Raises `Refusal`."""

    def collect(pairs: list[tuple[str, object]]) -> dict[str, str]:
        collected: dict[str, str] = {}
        for name, value in pairs:
            if name in collected:
                raise answers.duplicate_parameter(name)
            if not isinstance(value, str) or not value.isprintable():
                raise answers.bad_request(f"{name} must be a string of printable characters")
            collected[name] = value
        return collected

    try:
        parameters: object = json.loads(body, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        raise answers.bad_request("the body is not JSON") from None
    if not isinstance(parameters, dict):
        raise answers.bad_request("the body is not a JSON object")
    return cast("dict[str, str]", parameters)


def read_parameters(request: IncomingRequest) -> dict[str, str]:
    """The OAuth parameters of a request, each required one present and not empty."""
    required = REQUIRED.get(request.path)
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise answers.duplicate_parameter("Authorization")
    if headers:
        parameters = parse_authorization(headers[0])
    elif required and request.media_type == "application/json" and request.body:
        parameters = parse_json_parameters(request.body)
    else:
        raise answers.no_authorization()
    for name in required or REQUIRED_ELSEWHERE:
        if not parameters.get(name):
            raise answers.missing_parameter(name)
    return parameters


# --- The checks ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignatureTrial:
    """Everything a refused signature was judged by, for `explain`."""

    request: IncomingRequest
    origin: str
    parameters: dict[str, str]
    consumer: RegisteredConsumer
    access_token: AccessToken | None
    candidates: list[Candidate]


class SignatureRefusal(answers.Refusal):
    """A signature that verifies over none of the candidates."""

    def __init__(self, refusal: answers.Refusal, trial: SignatureTrial) -> None:
        super().__init__(refusal.status, refusal.words)
        self.trial = trial


def verify(state: State, request: IncomingRequest, origin: str) -> Verified:
    """Check parameters, consumer, realm, method, time, nonce, tokens and signature, in that order.

    Raises `Refusal` at the first fault. An accepted request's nonce is used up.
    """
    if state.settings.cookie_auth and not request.is_oauth_endpoint and "authorization" not in request.headers:
        return _verify_cookie(state, request)
    parameters = read_parameters(request)

    consumer = state.consumers.get(parameters["oauth_consumer_key"])
    if consumer is None or not consumer.active:
        raise answers.invalid_consumer()

    _check_settings(state, request, consumer, parameters)
    _check_timestamp(state, parameters["oauth_timestamp"])
    nonce = (
        consumer.key,
        parameters.get("oauth_token", ""),
        parameters["oauth_timestamp"],
        parameters["oauth_nonce"],
    )
    if state.nonce_was_used(*nonce):
        raise answers.nonce_used()

    request_token, access_token = _check_tokens(state, request, consumer, parameters)
    # The access token secret begins the base string of the live session token request only.
    prepend = access_token.secret.hex() if access_token and request.is_oauth_endpoint else ""
    tried = candidates(request, parameters, origin=origin, query_rules=state.settings.query_rules, prepend=prepend)
    candidate, live_session_token = _check_signature(
        SignatureTrial(request, origin, parameters, consumer, access_token, tried)
    )
    state.remember_nonce(*nonce)
    return Verified(
        parameters=parameters,
        consumer=consumer,
        request_token=request_token,
        access_token=access_token,
        live_session_token=live_session_token,
        query_rule=candidate.rule if request.query else None,
    )


def _verify_cookie(state: State, request: IncomingRequest) -> Verified:
    """A call without a signature, by its session alone: the cookieAuth of the older documentation."""
    session = request.session_cookie
    if session is None:
        raise answers.no_authorization()
    for access_token in state.access_tokens.values():
        if hmac.compare_digest(access_token.session.encode(), session.encode()):
            break
    else:
        raise answers.wrong_session()
    if not access_token.consumer.active:
        raise answers.invalid_consumer()
    if not access_token.live_session_tokens:
        raise answers.no_live_session_token()
    return Verified(
        parameters={},
        consumer=access_token.consumer,
        request_token=None,
        access_token=access_token,
        live_session_token=access_token.live_session_tokens[0],
        query_rule=None,
    )


def _check_settings(
    state: State,
    request: IncomingRequest,
    consumer: RegisteredConsumer,
    parameters: dict[str, str],
) -> None:
    if parameters.get("realm", consumer.realm) != consumer.realm:
        raise answers.wrong_realm(consumer.realm)
    method = "RSA-SHA256" if request.is_oauth_endpoint else "HMAC-SHA256"
    if parameters["oauth_signature_method"] != method:
        raise answers.wrong_signature_method(method)
    if parameters.get("oauth_version", "1.0") != "1.0":
        raise answers.wrong_version()
    if state.settings.strict_callback and parameters.get("oauth_callback", "oob") != "oob":
        raise answers.callback_not_oob()


def _check_timestamp(state: State, timestamp: str) -> None:
    if not re.fullmatch(r"[0-9]{10}", timestamp):
        raise answers.bad_timestamp()
    ahead = int(timestamp) - math.floor(state.now())
    if abs(ahead) > state.settings.skew_window:
        raise answers.stale_timestamp(ahead, state.settings.skew_window)


def _check_tokens(
    state: State,
    request: IncomingRequest,
    consumer: RegisteredConsumer,
    parameters: dict[str, str],
) -> tuple[RequestToken | None, AccessToken | None]:
    """The request token or access token that the call is about."""
    if request.path == "/oauth/request_token":
        return None, None
    token = parameters["oauth_token"]
    if request.path == "/oauth/access_token":
        request_token = state.live_request_token(token)
        if request_token.consumer is not consumer:
            raise answers.request_token_of_another_consumer()
        if request_token.state != "approved":
            raise answers.request_token_not_approved()
        if not state.verifier_is_right(request_token, parameters["oauth_verifier"]):
            raise answers.wrong_verifier()
        return request_token, None
    access_token = state.access_tokens.get(token)
    if access_token is None:
        if request.is_oauth_endpoint:
            raise answers.no_access_secret(token)
        raise answers.unknown_access_token()
    if access_token.consumer is not consumer:
        raise answers.access_token_of_another_consumer()
    if not request.is_oauth_endpoint and not access_token.live_session_tokens:
        raise answers.no_live_session_token()
    return None, access_token


def _check_signature(trial: SignatureTrial) -> tuple[Candidate, LiveSessionToken | None]:
    """The candidate that the signature holds for and, if HMAC, the token that made it."""
    signature = crypto.decode_signature(trial.parameters["oauth_signature"]) or b""
    if trial.request.is_oauth_endpoint:
        for candidate in trial.candidates:
            if crypto.verify_rsa(trial.consumer.signature_key, signature, candidate.base_string()):
                return candidate, None
        raise SignatureRefusal(answers.rsa_signature_refused(), trial)
    sessions = trial.access_token.live_session_tokens if trial.access_token else []
    for candidate in trial.candidates:
        base_string = candidate.base_string()
        for live_session_token in sessions:
            if crypto.verify_hmac(live_session_token.value, signature, base_string):
                return candidate, live_session_token
    raise SignatureRefusal(answers.hmac_signature_refused(), trial)
