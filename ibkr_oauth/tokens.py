"""The four tokens of the flow as values. None of them does I/O, and none shows its secret."""

from __future__ import annotations

import re
from binascii import a2b_base64
from datetime import UTC, datetime, timedelta

from . import _core
from ._core import Secret
from .errors import InvalidValue, KeyMismatchError, LiveSessionTokenMismatch, MissingSetting
from .redact import mask

#: How long a live session token lives where the server does not say.
DEFAULT_LIFETIME = timedelta(hours=24)


class _Token:
    """Immutable, and never pickled: the secret must be stored on purpose or not at all."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(f"{type(self).__name__} cannot be pickled, since it holds a secret; store its parts on purpose")


class RequestToken(_Token):
    """First leg: a token that the user authorises once (IBKR, OAuth 1.0a Extended, request_token).

    `token`: 20 hex digits. `authorization_url()`: where the user logs in and grants access.
    """

    __slots__ = ("_authorize_url", "token")
    token: str
    _authorize_url: str

    def __init__(self, token: str, authorize_url: str = "https://www.interactivebrokers.com/authorize") -> None:
        self._set(token=_text("request token", token), _authorize_url=authorize_url)

    def authorization_url(self) -> str:
        """For the user's browser. It ends at the consumer's registered callback, with `oauth_verifier` in the query."""
        return f"{self._authorize_url}?oauth_token={_core.percent_encode(self.token)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestToken) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __repr__(self) -> str:
        return f"<RequestToken {mask(self.token)}>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.request_token(self)


class AccessToken(_Token):
    """Second leg: permanent for one consumer and one user name. Store both parts; the portal gives them to first
    parties.

    `token`: 20 hex digits. `secret`: base64 of the ciphertext, as IBKR gives it (344 characters for a 2048-bit
    encryption key).
    `is_paper`: whether it belongs to a paper user name, or None where the service did not say.
    """

    __slots__ = ("is_paper", "secret", "token")
    token: str
    secret: str
    is_paper: bool | None

    def __init__(self, token: str, secret: str, *, is_paper: bool | None = None) -> None:
        self._set(token=_text("access token", token), secret=_ciphertext(secret), is_paper=is_paper)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccessToken) and (self.token, self.secret) == (
            other.token,
            other.secret,
        )

    def __hash__(self) -> int:
        return hash((self.token, self.secret))

    def __repr__(self) -> str:
        return f"<AccessToken {mask(self.token)}, secret of {len(self.secret)} characters>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.access_token(self)


class LiveSessionToken(_Token):
    """Third leg: the key that signs protected requests for about 24 hours.

    `value`: base64 of its 20 bytes. `expires_at`: aware datetime, kept in UTC. `consumer_key`, `access_token`: whom it
    belongs to; the consumer key is what the server's proof covers.
    """

    __slots__ = ("_secret", "access_token", "consumer_key", "expires_at")
    _secret: Secret
    access_token: str | None
    consumer_key: str | None
    expires_at: datetime

    def __init__(
        self,
        value: str,
        expires_at: datetime | None = None,
        *,
        consumer_key: str | None = None,
        access_token: AccessToken | str | None = None,
    ) -> None:
        self._init(
            Secret.from_base64(_text("live session token", value), "live session token"),
            expires_at,
            consumer_key,
            access_token,
        )

    def _init(
        self,
        secret: Secret,
        expires_at: datetime | None,
        consumer_key: str | None,
        access_token: AccessToken | str | None,
    ) -> None:
        if len(secret) != _SIZE:
            raise InvalidValue(f"live session token has {len(secret)} bytes, expected {_SIZE}")
        self._set(
            _secret=secret,
            expires_at=datetime.now(UTC) + DEFAULT_LIFETIME if expires_at is None else _in_utc(expires_at),
            consumer_key=consumer_key,
            access_token=None if access_token is None else token_text("access token", access_token),
        )

    @classmethod
    def derive(
        cls,
        shared_secret: Secret | bytes,
        access_token_secret: Secret | bytes,
        *,
        expires_at: datetime | None = None,
        consumer_key: str | None = None,
        access_token: AccessToken | str | None = None,
    ) -> LiveSessionToken:
        """From the Diffie-Hellman secret (Java bytes) and the decrypted access token secret: HMAC-SHA1. Unverified.

        Without `expires_at` it counts as valid for 24 hours.
        """
        made = cls.__new__(cls)
        token = _core.derive_live_session_token(_as_secret(shared_secret), _as_secret(access_token_secret))
        made._init(token, expires_at, consumer_key, access_token)
        return made

    def verify(self, signature: str, consumer_key: str | None = None) -> None:
        """Checks the server's `live_session_token_signature` (40 hex digits), in constant time.

        Raises LiveSessionTokenMismatch. `consumer_key` is needed only where the token does not know its own.
        """
        key = consumer_key or self.consumer_key
        if not key:
            raise MissingSetting("the consumer key is needed to verify a live session token")
        if not isinstance(signature, str):
            raise LiveSessionTokenMismatch("live session token signature is not a text")
        _core.verify_live_session_token(self._secret, key, signature)

    @property
    def remaining(self) -> timedelta:
        """Until it expires, by this computer's clock; negative afterwards."""
        return self.expires_at - datetime.now(UTC)

    @property
    def expired(self) -> bool:
        return self.remaining <= timedelta(0)

    @property
    def fingerprint(self) -> str:
        """16 hex digits to tell tokens apart by: HMAC-SHA256 with the token as its key. They reveal nothing of it."""
        return a2b_base64(_core.hmac_sha256("fingerprint", self._secret))[:8].hex()

    def reveal(self) -> str:
        """The token as base64 text: the one exit. The text cannot be wiped from memory."""
        return self._secret.reveal_base64()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiveSessionToken) and self._secret == other._secret

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        expiry = self.expires_at.isoformat(timespec="seconds")
        return f"<LiveSessionToken {self.consumer_key or 'of no consumer'}, expires {expiry}>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.live_session_token(self)


_SIZE = 20


def token_text(what: str, token: RequestToken | AccessToken | str) -> str:
    """The token itself, tidied where it is text."""
    return token.token if isinstance(token, (RequestToken, AccessToken)) else _text(what, token)


def _in_utc(expires_at: datetime) -> datetime:
    if not isinstance(expires_at, datetime):
        raise TypeError(f"expires_at must be a datetime, not {type(expires_at).__name__}")
    advice = "Give an aware datetime, for instance datetime.now(UTC)."
    if expires_at.tzinfo is None:
        raise InvalidValue("expires_at has no time zone", advice=advice)
    try:
        return expires_at.astimezone(UTC)
    except OverflowError:
        raise InvalidValue("expires_at is a time before the year 1, or after 9999, in UTC", advice=advice) from None


def _as_secret(value: Secret | bytes) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def require_text(what: str, value: str | None) -> str:
    """None is what an environment variable gives that is not set."""
    if value is None:
        raise MissingSetting(f"{what}: missing")
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    return value


def _text(what: str, value: str | None) -> str:
    """Tokens are one word; blanks around them come from copying."""
    word = require_text(what, value).strip()
    if not word:
        raise MissingSetting(f"{what} is empty")
    if not word.isascii() or not word.isprintable() or " " in word or '"' in word:
        raise InvalidValue(f"{what}: blanks, quotes, control or non-ASCII characters among its {len(word)} characters")
    return word


def _ciphertext(secret: str) -> str:
    """Line breaks inside come from mail and terminals and are no part of it; a wrong length is a wrong copy."""
    word = "".join(require_text("access token secret", secret).split())
    if not word:
        raise MissingSetting("access token secret is empty")
    bad = re.search(r"[^A-Za-z0-9+/=]", word)
    if bad:
        raise KeyMismatchError(f"access token secret is not base64: character {bad.start() + 1} of {len(word)}")
    if len(word) % 4:
        raise KeyMismatchError(
            f"access token secret has {len(word)} characters, expected 344 (the base64 text for a 2048-bit key)"
        )
    return word
