"""What the sandbox remembers: consumers, tokens, nonces, brokerage sessions.

Everything here is guarded by one lock, `State.lock`. The application holds it for the length of a
request, the verbs of `Sandbox` for the length of the call, so each sees a consistent whole.
"""

from __future__ import annotations

import hmac
import itertools
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from . import answers, crypto
from .orders import OrderBook

QueryRule = Literal["merge", "omit", "url", "rfc5849"]
"""How a query string takes part in the signature of a protected call, see `verify.candidates`."""

CONSUMER_KEY = re.compile(r"[A-Z0-9]{1,25}")
USERNAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")

TESTCONS = "TESTCONS"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the sandbox behaves for its whole life; times are in seconds. See `Sandbox`."""

    query_rules: tuple[QueryRule, ...] = ("merge", "omit", "url")
    skew_window: float = 300.0
    strict_callback: bool = False
    auto_consent: bool = False
    explain: bool = False
    request_token_lifetime: float = 600.0
    live_session_token_lifetime: float = 86400.0
    brokerage_idle_timeout: float = 360.0
    keep_former_live_session_tokens: bool = False
    enforce_pacing: bool = False
    send_cookie: bool = True
    cookie_auth: bool = False
    web_socket_heartbeat: float = 10.0
    web_socket_idle_timeout: float = 75.0


@dataclass(eq=False)
class RegisteredConsumer:
    """A consumer as it was registered: its public keys, its group, where its users are sent back.

    `callback` is the address that receives ``oauth_token`` and ``oauth_verifier`` after the user's
    consent, or ``"oob"`` for a page that shows the verifier. While `active` is false the service
    answers ``invalid consumer``, as it does for hours or days after a real registration.
    """

    key: str
    realm: str
    callback: str
    active: bool
    signature_key: RSAPublicKey = field(repr=False)
    encryption_key: RSAPublicKey = field(repr=False)
    dh_group: crypto.DHGroup = field(repr=False)


@dataclass(eq=False)
class RequestToken:
    """The first leg's token on its way: issued, then approved or denied by the user, then used."""

    token: str
    consumer: RegisteredConsumer
    expires_at: float
    form_token: str  # proves that what the login page sends comes from that page
    login_token: str = ""  # the same for the consent page, and the browser of the user who logged in
    state: Literal["issued", "approved", "denied", "used"] = "issued"
    username: str = ""
    verifier: str = ""


@dataclass(eq=False)
class LiveSessionToken:
    """The 20 bytes that sign protected calls. `shared_secret` is kept to explain wrong ones."""

    value: bytes = field(repr=False)
    shared_secret: int = field(repr=False)
    expires_at: float


@dataclass(eq=False)
class AccessToken:
    """What one user granted to one consumer. `session` is the identifier that tickle returns.

    While `session_lost` is true, tickle says ``no session``: see `Sandbox.lose_session`. `logouts`
    counts the calls of ``/logout``, each of which closes the web sockets.
    """

    token: str
    consumer: RegisteredConsumer
    username: str
    secret: bytes = field(repr=False)
    session: str = field(repr=False)
    live_session_tokens: list[LiveSessionToken] = field(default_factory=list[LiveSessionToken])
    session_lost: bool = False
    logouts: int = 0


@dataclass(eq=False)
class BrokerageSession:
    """The second tier, opened by ``ssodh/init``: one for each username, held by one token.

    Or held by another program, such as TWS, whose name is then the holder; it never falls idle.
    """

    holder: AccessToken | str
    last_call: float
    accounts_queried: bool = False
    snapshots_begun: set[int] = field(default_factory=set[int])


class State:
    """The memory of one sandbox; take `lock` around every use."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)  # notified of whatever `Sandbox.wait_until` may wait for
        self.settings = settings
        self.consumers: dict[str, RegisteredConsumer] = {}
        self.request_tokens: dict[str, RequestToken] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.brokerage_sessions: dict[str, BrokerageSession] = {}
        self.orders = OrderBook()
        self.maintenance = False
        self.password = secrets.token_hex(3)  # of every user; the login page shows it
        self._clock = clock
        self._skew = 0.0
        self._nonces: dict[tuple[str, str, str, str], int] = {}
        self._nonces_looked_through_at = 10_000
        self._numbers = itertools.count(100_001)

    # --- The clock -------------------------------------------------------------------------------

    def now(self) -> float:
        """The server's time, in seconds since 1970."""
        return self._clock() + self._skew

    def true_time(self) -> float:
        """The time that limits of calls within a second are measured by: never skewed."""
        return self._clock()

    def skew(self, seconds: float) -> None:
        """Let the server's clock differ from the real one by so much; 0 sets it right again."""
        self._skew = seconds

    def next_number(self) -> int:
        """The trace number of the next refusal; the real service's numbers mean nothing either."""
        return next(self._numbers)

    # --- Consumers -------------------------------------------------------------------------------

    def register(
        self,
        consumer_key: str,
        *,
        signature_key: str | bytes | Path,
        encryption_key: str | bytes | Path,
        dh_params: str | bytes | Path,
        callback: str,
        active: bool,
        realm: str | None,
    ) -> RegisteredConsumer:
        """Register a consumer; raises `ValueError` for whatever cannot work, see `Sandbox`."""
        if not CONSUMER_KEY.fullmatch(consumer_key):
            raise ValueError(f"consumer key {consumer_key!r}: 1 to 25 upper-case letters or digits")
        if consumer_key in self.consumers:
            raise ValueError(f"consumer {consumer_key} is registered already")
        if callback != "oob" and not re.fullmatch(r"https?://[!-~]+", callback):
            raise ValueError(f"callback {callback!r}: an http or https address, or oob")
        consumer = RegisteredConsumer(
            key=consumer_key,
            realm=realm or ("test_realm" if consumer_key == TESTCONS else "limited_poa"),
            callback=callback,
            active=active,
            signature_key=crypto.load_rsa_public_key(signature_key, "signature key"),
            encryption_key=crypto.load_rsa_public_key(encryption_key, "encryption key"),
            dh_group=crypto.load_dh_parameters(dh_params),
        )
        self.consumers[consumer_key] = consumer
        return consumer

    def consumer(self, consumer_key: str) -> RegisteredConsumer:
        """The registered consumer; raises `LookupError` when there is none of that name."""
        consumer = self.consumers.get(consumer_key)
        if consumer is None:
            raise LookupError(f"consumer {consumer_key} is not registered")
        return consumer

    # --- Nonces ----------------------------------------------------------------------------------

    def nonce_was_used(self, consumer_key: str, token: str, timestamp: str, nonce: str) -> bool:
        """Whether an accepted request carried these four before."""
        return (consumer_key, token, timestamp, nonce) in self._nonces

    def remember_nonce(self, consumer_key: str, token: str, timestamp: str, nonce: str) -> None:
        """Note an accepted request, so that it cannot be sent a second time."""
        if len(self._nonces) >= self._nonces_looked_through_at:
            # What the timestamp alone would refuse by now need not be remembered.
            oldest = self.now() - self.settings.skew_window
            self._nonces = {key: at for key, at in self._nonces.items() if at >= oldest}
            self._nonces_looked_through_at = max(10_000, 2 * len(self._nonces))
        self._nonces[consumer_key, token, timestamp, nonce] = int(timestamp)

    # --- Request tokens and the user's consent ---------------------------------------------------

    def issue_request_token(self, consumer: RegisteredConsumer) -> RequestToken:
        """Begin the three-legged flow."""
        request_token = RequestToken(
            token=secrets.token_hex(10),
            consumer=consumer,
            expires_at=self.now() + self.settings.request_token_lifetime,
            form_token=secrets.token_urlsafe(24),
        )
        self.request_tokens[request_token.token] = request_token
        return request_token

    def live_request_token(self, token: str) -> RequestToken:
        """The request token, issued or approved; raises `Refusal` for one that leads nowhere."""
        request_token = self.request_tokens.get(token)
        if request_token is None:
            raise answers.unknown_request_token()
        if request_token.state == "used":
            raise answers.request_token_used()
        if request_token.state == "denied":
            raise answers.request_token_denied()
        if self.now() >= request_token.expires_at:
            raise answers.request_token_expired()
        return request_token

    def log_in(self, request_token: RequestToken, username: str, password: str) -> None:
        """The user logs in, in place of whoever did so before. `ValueError` for an odd username or a wrong password."""
        _check_username(username)
        if not hmac.compare_digest(password.encode("utf-8", "replace"), self.password.encode()):
            raise ValueError("password: not the one above")
        request_token.username = username
        request_token.login_token = secrets.token_urlsafe(24)

    def approve(self, request_token: RequestToken, username: str) -> str:
        """The user grants access: returns the verifier. `ValueError` for an odd username."""
        _check_username(username)
        request_token.state = "approved"
        request_token.username = username
        request_token.verifier = secrets.token_hex(10)
        return request_token.verifier

    def verifier_is_right(self, request_token: RequestToken, verifier: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(request_token.verifier.encode(), verifier.encode())

    # --- Access tokens and live session tokens ---------------------------------------------------

    def grant(self, consumer: RegisteredConsumer, username: str) -> tuple[AccessToken, str]:
        """The access token of a user for a consumer, and its secret as the consumer gets it.

        The token is permanent: the same pair gets the same token again, with a new secret, and the
        former secret works no more.
        """
        _check_username(username)
        secret = secrets.token_bytes(32)
        for access_token in self.access_tokens.values():
            if access_token.consumer is consumer and access_token.username == username:
                access_token.secret = secret
                break
        else:
            access_token = AccessToken(
                token=secrets.token_hex(10),
                consumer=consumer,
                username=username,
                secret=secret,
                session=secrets.token_hex(16),
            )
            self.access_tokens[access_token.token] = access_token
        return access_token, crypto.encrypt_access_token_secret(consumer.encryption_key, secret)

    def issue_live_session_token(self, access_token: AccessToken, shared_secret: int) -> LiveSessionToken:
        """Begin a session; unless the settings say otherwise it ends the token's former ones."""
        live_session_token = LiveSessionToken(
            value=crypto.live_session_token(shared_secret, access_token.secret),
            shared_secret=shared_secret,
            expires_at=self.now() + self.settings.live_session_token_lifetime,
        )
        if not self.settings.keep_former_live_session_tokens:
            access_token.live_session_tokens.clear()
        access_token.live_session_tokens.insert(0, live_session_token)
        return live_session_token

    # --- Brokerage sessions ----------------------------------------------------------------------

    def brokerage_session(self, access_token: AccessToken) -> BrokerageSession | None:
        """The open brokerage session that this access token holds."""
        session = self._open_session(access_token.username)
        return session if session and session.holder is access_token else None

    def is_competing(self, access_token: AccessToken) -> bool:
        """Whether another access token, or program, of the same username holds the brokerage session."""
        session = self._open_session(access_token.username)
        return session is not None and session.holder is not access_token

    def open_brokerage_session(self, access_token: AccessToken) -> None:
        """Open it, or keep the one that is open; another holder of the username loses it."""
        if self.brokerage_session(access_token) is None:
            self.brokerage_sessions[access_token.username] = BrokerageSession(access_token, self.now())
        access_token.session_lost = False

    def compete_from(self, program: str, username: str) -> None:
        """Another program logs in under the user name: whoever held the brokerage session loses it."""
        _check_username(username)
        if not program:
            raise ValueError("program: the name of another program, such as TWS")
        self.brokerage_sessions[username] = BrokerageSession(program, self.now())

    def stop_competing(self, username: str) -> None:
        """The other program logs out. Does nothing while none is logged in."""
        _check_username(username)
        session = self.brokerage_sessions.get(username)
        if session is not None and isinstance(session.holder, str):
            del self.brokerage_sessions[username]

    def brokerage_holder(self, username: str) -> AccessToken | str | None:
        """Who holds the brokerage session of a user name."""
        session = self._open_session(username)
        return None if session is None else session.holder

    def end_brokerage_session(self, access_token: AccessToken) -> None:
        """End it, if this access token holds it."""
        if self.brokerage_session(access_token) is not None:
            del self.brokerage_sessions[access_token.username]

    def _open_session(self, username: str) -> BrokerageSession | None:
        session = self.brokerage_sessions.get(username)
        if session is None:
            return None
        is_idle = self.now() - session.last_call > self.settings.brokerage_idle_timeout
        if is_idle and not isinstance(session.holder, str):
            del self.brokerage_sessions[username]
            return None
        return session


def _check_username(username: str) -> None:
    if not USERNAME.fullmatch(username):
        raise ValueError("username: 1 to 64 letters, digits or . _ @ -")
