"""From a request to its Authorization header, in stages that can each be called alone.

IBKR's rule differs from RFC 5849 in one point: pairs are joined as they are and the whole list is percent-encoded once.
The `query_signing` rules: `omit` leaves a URL's query out of the signature (default), `merge` adds its decoded pairs,
`url` leaves it in the URL part, `rfc5849` adds its pairs and encodes twice, as generic OAuth does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, cast

from . import _core
from ._core import Secret
from .consumer import Consumer, KeySource, PrivateKey
from .errors import InvalidValue, LiveSessionTokenExpired, UsageError
from .redact import without_query
from .tokens import LiveSessionToken

#: Names and values, decoded. Numbers and booleans become text (`true`, `false`), lists repeat the name.
Pairs: TypeAlias = Mapping[str, object] | Iterable[tuple[str, object]]
QuerySigning: TypeAlias = Literal["omit", "merge", "url", "rfc5849"]

FORM_TYPE = "application/x-www-form-urlencoded"


def percent_encode(text: str) -> str:
    """RFC 3986 section 2.1: all bytes of the UTF-8 text but `A-Z a-z 0-9 - . _ ~` as `%XX`."""
    return _core.percent_encode(text)


def normalise(pairs: Pairs, *, rfc5849: bool = False) -> str:
    """The pairs sorted by name and value and joined: what the base string encodes."""
    return _core.normalise(as_pairs(pairs), rfc5849)


def base_string(
    method: str, url: str, pairs: Pairs, prepend: str | None = "", *, query_signing: QuerySigning = "omit"
) -> str:
    """The text that is signed (RFC 5849 section 3.4.1, with IBKR's single encoding).

    `pairs`: all parameters but `oauth_signature` and `realm`. `prepend`: for the live session token request the
    decrypted access token secret in hex; such a base string is secret itself. `query_signing`: what becomes of the
    URL's own query.
    """
    return _core.base_string(method, url, as_pairs(pairs), prepend or "", query_signing)


def rsa_sha256(base_string: str, private_key: PrivateKey | KeySource) -> str:
    """Base64 of RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2) over the UTF-8 text."""
    return PrivateKey.load(private_key)._handle.sign(base_string)


def hmac_sha256(base_string: str, key: LiveSessionToken | Secret | bytes | str) -> str:
    """Base64 of HMAC-SHA256. `key`: a live session token, its 20 bytes, or its base64 text."""
    if isinstance(key, LiveSessionToken):
        secret = key._secret
    elif isinstance(key, Secret):
        secret = key
    elif isinstance(key, str):
        secret = LiveSessionToken(key)._secret
    else:
        secret = Secret(key)
    return _core.hmac_sha256(base_string, secret)


def authorization_header(pairs: Pairs, realm: str | None = None) -> str:
    """`OAuth realm="…", …`: realm first, the rest sorted, values percent-encoded (RFC 5849 section 3.5.1).

    Raises InvalidValue for line breaks, other control characters, quotes and backslashes in a value.
    """
    return _core.authorization_header(as_pairs(pairs), realm or "")


def nonce() -> str:
    """32 random hex digits. Another one for every attempt: IBKR refuses repeated ones."""
    return _core.nonce()


class SignedRequest:
    """A request as it must be sent, once: `method`, `url` (byte for byte), `headers` and, for forms, `body` (bytes)."""

    __slots__ = ("_proof", "body", "headers", "method", "url")
    _proof: object  # what a session signed it with, to tell whether a refusal is to blame on that

    def __init__(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self._proof = None

    def __repr__(self) -> str:
        return f"<SignedRequest {self.method} {without_query(self.url)}>"


class Signer:
    """Signs protected requests with a live session token. Immutable; threads may share one.

    Raises LiveSessionTokenExpired at `sign` once the token has expired, before the server would refuse.
    """

    __slots__ = ("_expires", "_handle", "query_signing")

    def __init__(
        self,
        consumer: Consumer,
        live_session_token: LiveSessionToken,
        *,
        query_signing: QuerySigning = "omit",
    ) -> None:
        token = live_session_token.access_token
        if token is None:
            raise UsageError(
                "the live session token does not know its access token",
                advice="Make it with access_token=…, or take it from OAuthClient.live_session_token.",
            )
        owner = live_session_token.consumer_key
        if owner is not None and owner != consumer.key:
            raise UsageError(
                f"the live session token belongs to consumer {owner}, not to {consumer.key}",
                advice="Sign with the consumer that the token was agreed for.",
            )
        self._handle = _core.RequestSigner(
            consumer.key, token, live_session_token._secret, consumer.realm, query_signing
        )
        self._expires = live_session_token.expires_at.timestamp()
        self.query_signing = query_signing

    def sign(
        self,
        method: str,
        url: str,
        params: Pairs | None = None,
        form: Pairs | None = None,
        *,
        nonce: str | None = None,
        timestamp: int | None = None,
    ) -> SignedRequest:
        """Signs one attempt of one request.

        `params` are put at the end of the URL's query; send `.url` exactly as it is. `form` becomes `.body` and is
        signed; JSON bodies are not part of a signature. `nonce` and `timestamp` (seconds since 1970) are for tests.
        """
        if timestamp is None:
            now = time.time()
            if now >= self._expires:
                raise LiveSessionTokenExpired("the live session token has expired")
            timestamp = int(now)
        form_pairs = None if form is None else as_pairs(form)
        sent_url, header = self._handle.sign(
            method,
            url,
            None if params is None else as_pairs(params),
            form_pairs,
            nonce,
            timestamp,
        )
        if form_pairs is None:
            return SignedRequest(method, sent_url, {"Authorization": header})
        return SignedRequest(
            method,
            sent_url,
            {"Authorization": header, "Content-Type": FORM_TYPE},
            encode_form(form_pairs),
        )

    def __repr__(self) -> str:
        return f"<Signer query_signing={self.query_signing!r}>"


def encode_form(pairs: Pairs) -> bytes:
    """The body that means these pairs: `application/x-www-form-urlencoded`, every byte but the unreserved as %XX."""
    encode = _core.percent_encode
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in as_pairs(pairs)).encode()


def as_pairs(pairs: Pairs, what: str = "params") -> list[tuple[str, str]]:
    """Text pairs in the caller's order, from a mapping or an iterable of pairs. `what` names the argument in errors."""
    result: list[tuple[str, str]] = []
    for name, value in _items(pairs, what):
        if not isinstance(name, str):
            raise TypeError(f"{what}: a name must be str, not {type(name).__name__}")
        if isinstance(value, str):
            result.append((name, value))
        elif isinstance(value, (list, tuple)):
            result.extend((name, _as_text(name, item)) for item in cast("Iterable[object]", value))
        else:
            result.append((name, _as_text(name, value)))
    return result


def _items(pairs: object, what: str) -> Iterable[tuple[object, object]]:
    if isinstance(pairs, Mapping):
        return cast("Mapping[object, object]", pairs).items()
    if isinstance(pairs, (str, bytes, bytearray)) or not isinstance(pairs, Iterable):
        raise TypeError(f"{what} must be a mapping or pairs of (name, value), not {type(pairs).__name__}")
    items = list(cast("Iterable[object]", pairs))
    for item in items:
        if not isinstance(item, (tuple, list)) or len(cast("list[object]", item)) != 2:
            raise TypeError(f"{what} must be a mapping or pairs of (name, value): one of them is no pair")
    return cast("list[tuple[object, object]]", items)


def _as_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue(f"parameter {name!r} is no finite number")
    if isinstance(value, (int, float)):
        return str(value)
    raise TypeError(
        f"parameter {name!r} must be text, a number, a boolean or a list of them, not {type(value).__name__}"
    )
