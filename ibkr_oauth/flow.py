"""The one way that a call goes, whoever runs it: sign, send, look at the answer, mend, repeat or give up.

What may be repeated, and when:

* Every attempt is signed anew. Redirects are not followed.
* GET, HEAD and the session's own calls are repeated after a failed connection, a time-out, and 502, 503, 504.
* Everything else is sent once. It is repeated only where nothing of it was sent, or where a 401 proves that it was
  refused before anybody looked at what it asks for (stale token, wrong clock): then once for each, newly signed.
* A 401 without a body is how the service answers for an account that one may not see: no reason to renew anything.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from . import _core, answers, paths
from .brokerage import Brokerage, BrokerageMode, CompetingPolicy, status_of
from .clock import Clock, ServerClock
from .errors import (
    AuthorizationError,
    BrokerageError,
    CompetingSession,
    ConnectError,
    IBKROAuthError,
    InvalidValue,
    LiveSessionTokenError,
    LiveSessionTokenExpired,
    LiveSessionTokenMismatch,
    MissingSetting,
    OutcomeUnknown,
    PrimingRequired,
    ProxyError,
    RateLimited,
    ReadOnlyError,
    SessionClosed,
    SignatureRejected,
    StoreError,
    Timeout,
    TransportError,
    UsageError,
)
from .log import INFO, WARNING, Log
from .oauth import ParametersIn, TokenExchange, check_base_url, encode_json
from .pacing import Pacer
from .signing import FORM_TYPE, Pairs, QuerySigning, SignedRequest, as_pairs, encode_form
from .steps import Adopt, Background, Enter, Gate, Lines, Pause, Send, Steps
from .transport import Response, milliseconds

if TYPE_CHECKING:
    from .consumer import Consumer
    from .health import BrokerageStatus, EventHandler, EventKind, Health, SessionState
    from .stores import Store
    from .tokens import AccessToken, LiveSessionToken

logger = Log("ibkr_oauth.session")

#: A difference between the signed timestamp and the server's Date that explains a refusal, in seconds.
_WRONG_CLOCK = 10.0
#: A token is not used for its last seconds: it would expire on the way.
_LAST_SECONDS = 5.0
#: Seconds between two attempts to renew a token that is still good.
_RENEWAL_REST = 30.0
#: Seconds to wait for another process that agrees on a token, and between two looks whether it has.
_STORE_PATIENCE = 60.0
_STORE_REST = 0.05
#: A token that signed a good call within so many seconds is not the reason of a 401 that gives none.
_PROVEN = 60.0
#: Longer than this nobody waits for a penalty: RateLimited says when to come back.
_PATIENCE = 30.0
#: Waiting longer than this for a free place is worth a warning.
_LONG_WAIT = 5.0

# Calls of the user's that change what we know of the brokerage session.
_TIER_CALLS = ("/iserver/accounts", "/iserver/auth/ssodh/init", "/logout")
#: Milliseconds that closing may take to log out.
_FAREWELL_MS = 5000
# The fields of `Counters`.
_COUNTED = (
    "requests",
    "retries",
    "renewals",
    "brokerage_openings",
    "tickles",
    "tickle_failures",
    "rate_limited",
    "outcomes_unknown",
)
_LONGEST_HEADER = 65_536
_FROM_STORE = " from the store"
_MAINTENANCE = (502, 503, 504)
# Answers that may mean more than they say: looked at for what can be mended.
_TELLING = frozenset((400, 401, 410, 429, 500, *_MAINTENANCE))


class Credential:
    """A live session token in use: immutable but for `proven`, when it last signed a good call (steady seconds)."""

    __slots__ = ("due", "expires", "proven", "signer", "token")

    def __init__(self, token: LiveSessionToken, signer: _core.RequestSigner, now: float) -> None:
        self.token = token
        self.signer = signer
        self.expires = token.expires_at.timestamp()
        lifetime = self.expires - now
        #: When it is time for another one, in the server's seconds since 1970.
        self.due = self.expires - min(max(3600.0, lifetime / 20), lifetime / 10)
        self.proven = 0.0


class Call(Send):
    """One call on its way: what the caller asked for, checked, and what was tried so far."""

    given: Sequence[tuple[str, str]]  # the caller's headers
    has_cookie = False
    last = False  # may still go out while the session closes
    attempts = 1
    mended: frozenset[str] = frozenset()  # each cause is mended once
    steady = 0.0  # what the steady clock said when the last attempt was signed
    credential: Credential | None = None  # and the token that it was signed with
    opening = 0  # of the brokerage session that the last attempt relied on

    def __init__(
        self, method: str, path: str, url: str, timeout_ms: int, *, own: bool = False, brokerage: bool = False
    ) -> None:
        self.method = method
        self.path = path
        self.url = url
        self.timeout_ms = timeout_ms
        self.own = own  # of the session itself: safe to repeat, and not to be mended by what it mends
        self.repeatable = own or method in ("GET", "HEAD")
        self.brokerage = brokerage  # needs the brokerage session
        # Each is read with every attempt, and an object's own attributes are found sooner than those of its class.
        self.given = ()
        self.body = self.params = self.form = self.nonce = None


class Flow:
    """State and decisions of one session. Waits for nothing itself: see `steps`."""

    # Not for memory: CPython finds attributes and methods of an object with more than 30 of them the slow way.
    __slots__ = (
        "_counting",
        "_counts",
        "_crowd",
        "_eager",
        "_failures",
        "_next_renewal",
        "_nonce",
        "_on_event",
        "_parameters_in",
        "_query_signing",
        "_renewal_error",
        "_renewal_gate",
        "_renewing",
        "_retries",
        "_skew_told",
        "_store",
        "_tickles_failing",
        "access_token",
        "base_url",
        "brokerage",
        "clock",
        "closed",
        "consumer",
        "cookie",
        "credential",
        "last_error",
        "last_tickle",
        "pacer",
        "read_only",
        "server_clock",
        "timeout_ms",
    )

    def __init__(
        self,
        consumer: Consumer | None,
        access_token: AccessToken | None,
        new_gate: Callable[[int], Gate],
        *,
        base_url: str,
        timeout: float,
        query_signing: QuerySigning,
        parameters_in: ParametersIn,
        live_session_token: LiveSessionToken | None,
        store: Store | None,
        cookie: str | None,
        brokerage: BrokerageMode,
        on_competing: CompetingPolicy,
        read_only: bool,
        pacing: float | None,
        retries: int,
        on_event: EventHandler | None,
        clock: Clock,
        nonce: Callable[[], str] | None,
    ) -> None:
        check_base_url(base_url)
        self.timeout_ms = milliseconds(timeout)
        if cookie is not None:
            _check_cookie(cookie)
        if (consumer is None) != (access_token is None) or (consumer is None and cookie is None):
            what = "consumer" if consumer is None else "access token"
            raise MissingSetting(f"{what}: missing; a session needs both, or only the cookie of one that exists")
        self.consumer = consumer
        self.access_token = access_token
        self.base_url = base_url.rstrip("/")
        self.read_only = read_only
        self.clock = clock
        self.server_clock = ServerClock(clock)
        self.brokerage = Brokerage(brokerage, on_competing, new_gate(1))
        self.pacer = None if pacing is None else Pacer(pacing, clock.steady)
        self.cookie = cookie
        self.last_error: str | None = None
        self.last_tickle: datetime | None = None
        self.closed = False
        self._eager = brokerage == "eager"
        self._query_signing: QuerySigning = query_signing
        self._parameters_in: ParametersIn = parameters_in
        self._retries = retries
        self._on_event = on_event
        self._nonce = nonce
        self._store = store
        self._renewal_gate = new_gate(1)
        self._crowd = new_gate(paths.CONCURRENT_CALLS)
        self._failures = 0  # of renewals
        self._renewal_error: IBKROAuthError | None = None
        self._renewing = False
        self._next_renewal = 0.0
        self._skew_told = 0.0
        self._tickles_failing = False
        self._counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._counting = threading.Lock()
        self.credential: Credential | None = None
        if live_session_token is not None:
            self._take_token(live_session_token)

    def new_gates(self, new_gate: Callable[[int], Gate]) -> None:
        """Whoever held the former ones is not there any more."""
        self._renewal_gate = new_gate(1)
        self._crowd = new_gate(paths.CONCURRENT_CALLS)
        self._renewing = False
        self.brokerage.gate = new_gate(1)

    def after_fork(self, new_gate: Callable[[int], Gate]) -> None:
        """In the child: the parent's threads are not here, and what it opened is its own to log out."""
        self.new_gates(new_gate)
        self._counting = threading.Lock()
        self.brokerage.is_inherited = True
        if self.pacer is not None:
            self.pacer.after_fork()

    @property
    def shares_token(self) -> bool:
        """Whether other processes may sign with the same live session token."""
        return self._store is not None

    # --- A call of the user's --------------------------------------------------------------------

    def prepare(
        self,
        method: str,
        path: str,
        params: Pairs | None,
        json: object,
        data: Pairs | None,
        headers: Mapping[str, str] | None,
        timeout: float | None,
    ) -> Call:
        """Checks what was asked for. Raises UsageError and its kinds; nothing is sent."""
        path, query, brokerage = _split_path(path)
        if query and params:
            raise InvalidValue("the path has a query already, and params were given: put all of it into params")
        if self.read_only and not paths.is_reading(method, path):
            raise ReadOnlyError(f"{method} {path}: refused, the session is read-only")
        timeout_ms = self.timeout_ms if timeout is None else milliseconds(timeout)
        url = f"{self.base_url}{path}?{query}" if query else self.base_url + path
        call = Call(method, path, url, timeout_ms, brokerage=brokerage)
        if params:
            call.params = as_pairs(params)
        if headers:
            if not isinstance(headers, Mapping):
                raise TypeError(f"headers must be a mapping of str to str, not {type(headers).__name__}")
            call.given = [(name, _header(name, value)) for name, value in headers.items()]
            call.has_cookie = any(name.lower() == "cookie" for name, _ in call.given)
        if json is not None or data is not None:
            _put_body(call, json, data)
        return call

    def attempt(self, call: Call) -> bool:
        """Whether nothing is to be done before the call is sent, as nearly always; else see `call`."""
        credential = self.credential
        if (
            credential is None
            or self.pacer is not None
            or self._eager
            or self.closed
            or (call.brokerage and not self.brokerage.is_ready(primed=not call.repeatable))
        ):
            return False
        steady = self.clock.steady()
        now = self.server_clock.at(steady)
        if now > credential.due:
            return False
        call.opening = self.brokerage.openings
        self._prepare_attempt(call, credential, steady, now)
        return True

    def is_settled(self, call: Call, response: Response) -> bool:
        """Whether the answer to `attempt` can be handed on as it is; else it goes to `call`."""
        if response.status_code in _TELLING:
            return False
        self._look(call, response)
        return True

    def call(self, call: Call, outcome: Response | IBKROAuthError | None = None) -> Steps[Response]:
        """The whole way of a call, or what remains of it after an `attempt` that gave this outcome."""
        if outcome is not None:
            return self._repeat(call, outcome)
        if self.pacer is not None and paths.CONCURRENT.match(call.path):
            return self._one_of_a_crowd(call)
        return self._repeat(call)

    def _one_of_a_crowd(self, call: Call) -> Steps[Response]:
        yield Enter(self._crowd)
        try:
            return (yield from self._repeat(call))
        finally:
            self._crowd.release()

    def own(self, method: str, path: str, json: object = None, *, last: bool = False) -> Steps[Response]:
        """A call of the session's own: safe to repeat. `last`: the session closes, nobody waits for a second try."""
        call = self._own_call(method, path)
        if last:
            call.timeout_ms = min(call.timeout_ms, _FAREWELL_MS)
            call.last = True
            call.attempts += self._retries
        if json is not None:
            _put_body(call, json, None)
        return self._repeat(call)

    def _own_call(self, method: str, path: str) -> Call:
        return Call(method, path, self.base_url + path, self.timeout_ms, own=True)

    def check_open(self) -> None:
        """Raises SessionClosed."""
        if self.closed:
            raise SessionClosed("the session was closed")

    def _repeat(self, call: Call, outcome: Response | IBKROAuthError | None = None) -> Steps[Response]:
        while True:
            if outcome is None:
                outcome = yield from self._send(call)
            if isinstance(outcome, IBKROAuthError):
                wait = self._wait_after(outcome, call) if isinstance(outcome, TransportError) else None
                if wait is None:
                    raise outcome
                outcome = yield Pause(wait)  # None
                continue
            response, outcome = outcome, None
            self._look(call, response)
            if call.last or response.status_code not in _TELLING:
                return response
            try:
                if not (yield from self._mend(call, response)):
                    return response
            except IBKROAuthError as error:
                raise _not_sent(error) from None  # the answer was a refusal, and what failed is not the call itself

    def _send(self, call: Call) -> Steps[Response | IBKROAuthError]:
        """One attempt. Its own failure is an outcome; that of what comes before is raised."""
        try:
            credential = yield from self._get_ready(call)
        except IBKROAuthError as error:
            raise _not_sent(error) from None
        self._prepare_now(call, credential)
        try:
            response: Response = yield call
        except TransportError as error:
            return error
        return response

    def _get_ready(self, call: Call) -> Steps[Credential | None]:
        """All that comes before an attempt: a place, a token, the brokerage session."""
        if not call.last:
            self.check_open()
        if self.pacer is not None and not call.last:
            yield from self._wait_for_place(call.path, self.pacer)
        if not call.own and (self.credential is None or call.brokerage):
            _check(call)
        credential = yield from self._usable_credential()
        if self._eager and not call.own and call.path not in _TIER_CALLS:
            self._eager = False
            yield from self.brokerage.reopen(self)
            credential = self.credential
        if call.brokerage:
            # What changes something is never refused for want of priming, and so never to be repeated.
            yield from self.brokerage.need(self, primed=not call.repeatable)
            call.opening = self.brokerage.openings
            credential = self.credential
        return credential

    # --- Signing ---------------------------------------------------------------------------------

    def _prepare_now(self, call: Call, credential: Credential | None) -> None:
        steady = self.clock.steady()
        self._prepare_attempt(call, credential, steady, self.server_clock.at(steady))

    def _prepare_attempt(self, call: Call, credential: Credential | None, steady: float, now: float) -> None:
        """Puts together what the next attempt is sent and signed with, as late as it is by both clocks."""
        call.credential = credential
        call.steady = steady
        call.timestamp = now
        if credential is not None:
            call.signer = credential.signer
            if self._nonce is not None:
                call.nonce = self._nonce()
        elif call.params is not None:
            call.url, call.params = _core.url_with_query(call.url, call.params), None
        if self.cookie is not None and not call.has_cookie:
            call.headers = Lines((*call.given, ("Cookie", f"api={self.cookie}")))
        else:
            call.headers = call.given

    def sign(self, method: str, url: str, form: Pairs | None) -> Steps[SignedRequest]:
        """One attempt of a request that somebody else will send."""
        if not url.startswith(f"{self.base_url}/"):
            raise InvalidValue("the URL is not below this session's base_url, and a signature belongs nowhere else")
        self.check_open()
        credential = yield from self._usable_credential()
        call = Call(method, "", url, self.timeout_ms)
        call.form = None if form is None else as_pairs(form)
        self._prepare_now(call, credential)
        sent_url, headers = call.signed()
        signed = SignedRequest(method, sent_url, dict(headers), None if form is None else encode_form(form))
        signed._proof = (credential, call.timestamp, call.steady)
        return signed

    def must_sign_again(
        self, signed: SignedRequest, status: int, headers: Mapping[str, str], content: bytes
    ) -> Steps[bool]:
        """Whether an answer to a signed request is the refusal of a stale token or a wrong clock, mended by now."""
        response = Response(signed.method, signed.url, status, list(headers.items()), content)
        proof = cast("tuple[Credential | None, float, float] | None", signed._proof)
        if proof is None or status not in (401, 410):
            return False
        call = Call(
            signed.method, signed.url.partition("?")[0].removeprefix(self.base_url), signed.url, self.timeout_ms
        )
        call.credential, call.timestamp, call.steady = proof
        self._look(call, response)
        try:
            return (yield from self._mend_authorization(call, response))
        except AuthorizationError:
            return False  # the answer says so better

    # --- The live session token ------------------------------------------------------------------

    def open(self) -> Steps[None]:
        """The token, and the brokerage session where that is wanted eagerly."""
        self.check_open()
        if self.credential is None:
            yield from self._usable_credential()
        if self._eager:
            self._eager = False
            yield from self.brokerage.need(self, primed=False)

    def renew(self, stale: Credential | None, *, refused: bool = False, anew: bool = False) -> Steps[Credential]:
        """Another token than `stale`: by one caller, while the others wait and then share the result, good or bad.

        `refused`: by the service. `anew`: agreed on now, whatever the store has.
        """
        if self.consumer is None:
            raise UsageError("a session that has only a cookie has no token to renew", advice="Give consumer and keys.")
        self.check_open()
        failures = self._failures
        yield Enter(self._renewal_gate)
        try:
            self.check_open()
            if self.credential is not None and self.credential is not stale:
                return self.credential
            if self._failures != failures and self._renewal_error is not None:
                raise copy.copy(self._renewal_error)
            try:
                token, origin = yield from self._obtain(stale, refused=refused, anew=anew)
            except IBKROAuthError as error:
                self._renewal_error = error
                self._failures += 1
                self.last_error = error.message
                raise
            self.check_open()
            self._renewal_error = None
            first = self.credential is None
            credential = self._take_token(token)
            until = f"{token.expires_at:%Y-%m-%d %H:%M:%S}"
            self.emit("opened" if first else "renewed", f"live session token{origin} until {until} UTC")
            yield Adopt(credential.signer)
            return credential
        finally:
            self._renewal_gate.release()

    def renew_quietly(self, stale: Credential, *, refused: bool) -> Steps[None]:
        """In the background: what goes wrong is an event, and tried again later."""
        try:
            yield from self.renew(stale, refused=refused)
        except IBKROAuthError as error:
            self._next_renewal = self.clock.steady() + _RENEWAL_REST
            if not self.closed:
                self.emit("renewal_failed", error.message)
        finally:
            self._renewing = False

    def _usable_credential(self) -> Steps[Credential | None]:
        """What to sign with now; None where a cookie is all there is. One that is due is renewed in the background."""
        credential, now = self.credential, self.server_clock.now()
        if self.consumer is None or (credential is not None and now <= credential.due):
            return credential
        if credential is None or credential.expires - now < _LAST_SECONDS:
            return (yield from self.renew(credential))
        steps = self._renewal(credential)
        if steps is not None:
            yield Background(steps)
        return credential

    def _renewal(self, stale: Credential, *, refused: bool = False) -> Steps[None] | None:
        """For the background; None where one is under way, or failed a moment ago though the token is not refused."""
        if self._renewing or (not refused and self.clock.steady() < self._next_renewal):
            return None
        self._renewing = True
        return self.renew_quietly(stale, refused=refused)

    def _obtain(self, stale: Credential | None, *, refused: bool, anew: bool) -> Steps[tuple[LiveSessionToken, str]]:
        """A token, and words on where it comes from: the store, where another process or an earlier run has put a good
        one there, or else the service, and then it goes into the store. Nothing that is wrong with a store is worth an
        error."""
        store = self._store
        if store is None:
            return (yield from self._agree()), ""
        kept = None if anew else (yield from self._kept(store, stale, refused))
        if kept is not None:
            return kept, _FROM_STORE
        is_locked = yield from self._lock(store)
        try:
            kept = None if anew else (yield from self._kept(store, stale, refused))
            if kept is not None:
                return kept, _FROM_STORE
            token = yield from self._agree()
            try:
                store.save(token, self.base_url)
            except StoreError as error:
                logger.log(WARNING, "the live session token is not kept: %s", error.message)
            return token, ""
        finally:
            if is_locked:
                store.unlock()

    def _lock(self, store: Store) -> Steps[bool]:
        """Waits for whoever agrees on a token, though not for ever: a process may have been stopped meanwhile."""
        until = self.clock.steady() + _STORE_PATIENCE
        try:
            while not store.try_lock():
                if self.clock.steady() >= until:
                    logger.log(WARNING, "%r has been locked for %.0f s: going on without", store, _STORE_PATIENCE)
                    return False
                yield Pause(_STORE_REST)
        except StoreError as error:
            logger.log(WARNING, "%s", error.message)
            return False
        return True

    def _kept(self, store: Store, stale: Credential | None, refused: bool) -> Steps[LiveSessionToken | None]:
        """The store's token, where it is another than `stale` and better."""
        assert self.consumer is not None
        assert self.access_token is not None
        try:
            token = store.load(self.consumer.key, self.access_token.token, self.base_url)
        except StoreError as error:
            logger.log(WARNING, "%s", error.message)
            return None
        if token is None or token.expires_at.timestamp() - self.server_clock.now() < _LAST_SECONDS:
            return None
        if stale is None:
            return token
        if token == stale.token or (not refused and token.expires_at <= stale.token.expires_at):
            return None
        # What ended the one token may have ended the other, and the caller's request is sent anew only once.
        return token if not refused or (yield from self._is_accepted(token)) else None

    def _is_accepted(self, token: LiveSessionToken) -> Steps[bool]:
        """Asks the service. Where no answer comes, the caller's own call will tell."""
        probe = self._own_call("POST", "/tickle")
        self._prepare_now(probe, self._credential_of(token))
        try:
            response: Response = yield probe
        except TransportError:
            return True
        self._look(probe, response)
        return response.status_code not in (401, 410)

    def _agree(self) -> Steps[LiveSessionToken]:
        """A token from the service. Safe to repeat, each time with a new half and a new signature."""
        assert self.consumer is not None
        assert self.access_token is not None
        call = self._own_call("POST", "/oauth/live_session_token")
        while True:
            call.timestamp, call.steady = self.server_clock.now(), self.clock.steady()
            exchange = TokenExchange(
                self.consumer,
                self.access_token,
                self.base_url,
                timestamp=int(call.timestamp),
                nonce=None if self._nonce is None else self._nonce(),
                parameters_in=self._parameters_in,
            )
            request = exchange.request
            try:
                # Not repeatable for libcurl, which would send the same nonce again.
                step = Send("POST", request.url, call.timeout_ms, repeatable=False)
                step.headers, step.body = Lines(request.headers.items()), request.body
                response: Response = yield step
                self._look(call, response)
                error = self._error_of(response, call)
                if error is None:
                    token = exchange.finish(response, datetime.fromtimestamp(self.server_clock.now(), UTC))
                    self.count("renewals")
                    return token
            except (TransportError, LiveSessionTokenError) as failure:
                if isinstance(failure, LiveSessionTokenMismatch):
                    raise
                error = failure
            wait = self._wait_after(error, call)
            if wait is None:
                raise _not_sent(error)
            yield Pause(wait)

    def _take_token(self, token: LiveSessionToken) -> Credential:
        self.credential = self._credential_of(token)
        return self.credential

    def _credential_of(self, token: LiveSessionToken) -> Credential:
        if self.consumer is None or self.access_token is None:
            raise UsageError("a live session token needs its consumer and access token", advice="Give both, or none.")
        if token.access_token not in (None, self.access_token.token) or token.consumer_key not in (
            None,
            self.consumer.key,
        ):
            raise UsageError(
                "the live session token belongs to another consumer or access token",
                advice="Leave it out; the session gets one by itself.",
            )
        signer = _core.RequestSigner(
            self.consumer.key, self.access_token.token, token._secret, self.consumer.realm, self._query_signing
        )
        return Credential(token, signer, self.server_clock.now())

    # --- Waiting and repeating -------------------------------------------------------------------

    def _wait_for_place(self, path: str, pacer: Pacer) -> Steps[None]:
        yield from self._sit_out(path, pacer)
        for wait in pacer.book(path):
            if wait > _LONG_WAIT:
                logger.log(WARNING, "%s: waiting %.0f s, the limit of this path allows no call before", path, wait)
            if wait > 0:
                yield Pause(wait)
                yield from self._sit_out(path, pacer)  # it may have come meanwhile

    def _sit_out(self, path: str, pacer: Pacer) -> Steps[None]:
        """A penalty: a short one is waited for, a long one is told."""
        while (penalty := pacer.penalty(path)) > 0:
            if penalty > _PATIENCE:
                error = RateLimited(f"{path}: not sent, the service asked for a pause of {penalty:.0f} s more")
                error.retry_after = penalty
                raise error
            yield Pause(penalty)

    def _wait_after(self, error: IBKROAuthError, call: Call) -> float | None:
        """Seconds until the next attempt after a failure; None where there is to be none."""
        self.last_error = error.message
        unknown = isinstance(error, OutcomeUnknown)
        if unknown and not call.own:
            self.unknown(error.message)
            return None
        if isinstance(error, AuthorizationError) and self._clock_was_wrong(call):
            return 0.0
        passes = isinstance(error, (ConnectError, ProxyError, Timeout, OutcomeUnknown, LiveSessionTokenError))
        passes = passes or type(error) is TransportError or error.status in _MAINTENANCE
        if not passes or (error.sent and not call.repeatable):
            return None
        return self._next_wait(call)

    def _next_wait(self, call: Call, at_least: float = 0.0) -> float | None:
        """A quarter of a second, doubled each time, with jitter, so that many callers do not come back together."""
        if call.attempts > self._retries:
            return None
        jitter = 1 + int(_core.nonce()[:4], 16) / 0x10000
        wait = 0.25 * 2.0 ** (call.attempts - 1) * jitter
        call.attempts += 1
        self.count("retries")
        return max(wait, at_least)

    # --- What answers tell -----------------------------------------------------------------------

    def _look(self, call: Call, response: Response) -> None:
        """What every answer tells: the time, the cookie, whether the token is good."""
        with self._counting:  # as `count`, without a function more on the way of each call
            self._counts["requests"] += 1
        for date in _core.header_values(response._headers, "date"):
            if self.server_clock.observe(date, call.steady):
                self._tell_skew()
        for cookie in _core.header_values(response._headers, "set-cookie"):
            self._keep_cookie(cookie)
        if response.status_code < 300:
            if call.credential is not None:
                call.credential.proven = call.steady
            if not call.own and call.path in _TIER_CALLS:
                self.brokerage.used_by_hand(self, call.path, response)
        if self.pacer is not None and response.status_code != 429:
            self.pacer.accepted(call.path)

    def _keep_cookie(self, header: str) -> None:
        name, _, value = header.partition(";")[0].partition("=")
        if name.strip().lower() == "api":
            self.keep_cookie(value.strip())

    def keep_cookie(self, value: str) -> None:
        """The identifier of the session, which the web socket needs and the service likes to see again."""
        if value and value.isascii() and value.isprintable() and not set(value) & set('; ,"'):
            self.cookie = value

    def _tell_skew(self) -> None:
        skew = self.server_clock.skew
        if abs(skew - self._skew_told) > _WRONG_CLOCK:
            self._skew_told = skew
            words = (
                f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's; calls are signed with that one"
            )
            self.emit(
                "clock_skew", f"this computer's clock is {words}" if skew else "this computer's clock is right again"
            )

    def _error_of(self, response: Response, call: Call) -> IBKROAuthError | None:
        """By the clock that signed the call, as it goes now: the time that the answer took is no skew."""
        return answers.error_of(response, call.timestamp + self.clock.steady() - call.steady)

    def _clock_was_wrong(self, call: Call) -> bool:
        """Once for each call: it was signed with a time that the server's Date, known by now, contradicts."""
        if "clock" in call.mended or abs(call.timestamp - call.steady - self.server_clock.offset) <= _WRONG_CLOCK:
            return False
        call.mended |= {"clock"}
        return True

    def _mend(self, call: Call, response: Response) -> Steps[bool]:
        """Mends what the refusal complains of; True where the call is to be sent again. Raises what it cannot mend."""
        status = response.status_code
        if status in (401, 410) and (yield from self._mend_authorization(call, response)):
            return True
        if status == 429:
            return (yield from self._mend_pace(call, response))
        error = self._error_of(response, call)
        assert error is not None
        if status in _MAINTENANCE and call.repeatable:
            self.last_error = error.message
            wait = self._next_wait(call, min(answers.retry_after(response) or 0.0, _PATIENCE))
            if wait is not None:
                yield Pause(wait)
            return wait is not None
        if isinstance(error, BrokerageError) and call.brokerage and self.brokerage.mode != "never":
            return (yield from self._mend_brokerage(call, error))
        return False

    def _mend_authorization(self, call: Call, response: Response) -> Steps[bool]:
        """True where a token or a clock was to blame, and is so no more. Raises what is wrong with the credentials."""
        if self._clock_was_wrong(call):
            return response.status_code == 401
        credential = call.credential
        if credential is None or "token" in call.mended:
            return False
        error = self._error_of(response, call)
        stale = isinstance(error, (LiveSessionTokenExpired, SignatureRejected))
        gone = response.status_code == 410 and b"gone" in response.content.lower()
        if not stale and not gone:
            unexplained = response.status_code == 401 and type(error) is AuthorizationError
            stale = unexplained and (yield from self._token_is_dead(call, credential))
        if not stale and not gone:
            return False
        call.mended |= {"token"}
        yield from self.renew(credential, refused=True)
        return stale or call.repeatable

    def _token_is_dead(self, call: Call, credential: Credential) -> Steps[bool]:
        """Asks the service where a 401 does not say what it is about: a foreign account looks the same.

        Nobody needs to ask about a token that signed a good call a moment ago.
        """
        if call.own or self.credential is not credential:
            return call.own or self.credential is not None
        if credential.proven and self.clock.steady() - credential.proven < _PROVEN:
            return False
        probe = self._own_call("POST", "/tickle")
        probe.mended |= {"token"}
        answer = yield from self._repeat(probe)
        return answer.status_code == 401

    def _mend_pace(self, call: Call, response: Response) -> Steps[bool]:
        asked = answers.retry_after(response)
        self.count("rate_limited")
        self.emit("rate_limited", f"{call.path}: the service refused for calling too often")
        if self.pacer is not None:
            self.pacer.refused(call.path, asked)
            wait = self.pacer.penalty(call.path)
        else:
            wait = 1.0 if asked is None else asked
        if not call.repeatable or wait > _PATIENCE:
            return False
        pause = self._next_wait(call, wait)
        if pause is not None:
            yield Pause(pause)
        return pause is not None

    def _mend_brokerage(self, call: Call, error: BrokerageError) -> Steps[bool]:
        kind = "priming" if isinstance(error, PrimingRequired) else "brokerage"
        if kind in call.mended:
            return False
        call.mended |= {kind}
        self.last_error = error.message
        if kind == "priming":
            yield from self.brokerage.prime(self)
        else:
            yield from self.brokerage.recover(self, error, call.opening)
        return call.repeatable

    # --- The keep-alive --------------------------------------------------------------------------

    def heard_tickle(self, outcome: object) -> Steps[None] | None:
        """Takes in what the keep-alive in C brought; what is to be done about it, if anything."""
        call = self._own_call("POST", "/tickle")
        call.timestamp, call.steady = self.server_clock.now(), self.clock.steady()
        call.credential = credential = self.credential
        try:
            if isinstance(outcome, IBKROAuthError):
                raise outcome
            status, pairs, content, microseconds, _ = cast("tuple[Any, ...]", outcome)
            response = Response("POST", call.url, status, pairs, content, microseconds)
            self._look(call, response)
            self._heard(response)
            status_now = self._status_of_tickle(response)
        except IBKROAuthError as error:
            self._tickle_failed(error)
            if self._clock_was_wrong(call):
                return None  # the next one has the right time
            stale = isinstance(error, AuthorizationError) and error.status == 401
            stale = stale or isinstance(error, LiveSessionTokenExpired)
            # The clock may have been to blame; a new token does no harm then.
            return self._renewal(credential, refused=True) if stale and credential is not None else None
        self._tickle_was_good()
        reopen = self.brokerage.heard(self, status_now)
        return self._maintain(credential, reopen)

    def _status_of_tickle(self, response: Response) -> BrokerageStatus:
        """A refusal that speaks of the brokerage session is news of it, and no failure of the keep-alive."""
        try:
            return status_of(response)
        except BrokerageError as error:
            from .health import BrokerageStatus  # noqa: PLC0415

            competing = isinstance(error, CompetingSession)
            return BrokerageStatus(authenticated=False, competing=competing, connected=False)

    def _heard(self, response: Response) -> None:
        with contextlib.suppress(IBKROAuthError):
            body = response.json() if response.status_code == 200 else None
            session = cast("dict[str, Any]", body).get("session") if isinstance(body, dict) else None
            if isinstance(session, str):
                self.keep_cookie(session)

    def _tickle_failed(self, error: IBKROAuthError) -> None:
        self.count("tickle_failures")
        self.last_error = error.message
        if not self._tickles_failing:
            self._tickles_failing = True
            self.emit("tickle_failed", error.message)

    def _tickle_was_good(self) -> None:
        self.count("tickles")
        self.last_tickle = datetime.fromtimestamp(self.clock.time(), UTC)
        if self._tickles_failing:
            self._tickles_failing = False
            self.emit("tickle_recovered", "the keep-alive is answered again")

    def _maintain(self, credential: Credential | None, reopen: bool) -> Steps[None] | None:
        if credential is not None and self.server_clock.now() > credential.due:
            steps = self._renewal(credential)
            if steps is not None:
                return steps
        return self.brokerage.reopen(self) if reopen else None

    # --- What it tells ---------------------------------------------------------------------------

    def count(self, name: str) -> None:
        """One more; see `Counters`."""
        with self._counting:
            self._counts[name] += 1

    def unknown(self, message: str) -> None:
        """A request may have been processed, and nobody will know from here."""
        self.last_error = message
        self.count("outcomes_unknown")
        self.emit("outcome_unknown", message)

    def emit(self, kind: EventKind, message: str) -> None:
        """To the log, and to the caller's `on_event`, whose errors stay there."""
        logger.log(_LEVELS.get(kind, INFO), "%s: %s", kind.replace("_", " "), message)
        if self._on_event is not None:
            from .health import Event  # noqa: PLC0415 - only where somebody listens

            try:
                self._on_event(Event(kind, message, datetime.fromtimestamp(self.clock.time(), UTC)))
            except Exception:  # noqa: BLE001 - told with its traceback
                logger.log(WARNING, "on_event failed", trace=True)

    def health(self, keep_alive: bool) -> Health:
        """See `Session.health`."""
        from .health import Counters, Health  # noqa: PLC0415 - only where somebody asks

        credential = self.credential
        state: SessionState = "closed" if self.closed else "new" if credential is None and not self.cookie else "open"
        with self._counting:
            counters = Counters(**self._counts)
        return Health(
            state=state,
            brokerage=self.brokerage.state,
            keep_alive=keep_alive,
            token_remaining=None
            if credential is None
            else timedelta(seconds=round(credential.expires - self.server_clock.now(), 3)),
            last_tickle=self.last_tickle,
            last_error=self.last_error,
            clock_skew=round(self.server_clock.skew, 1),
            counters=counters,
        )

    def status(self) -> Steps[BrokerageStatus]:
        """Asks the service."""
        return status_of((yield from self.own("POST", "/iserver/auth/status")))

    def tickle(self) -> Steps[Response]:
        """One by hand."""
        response = yield from self.own("POST", "/tickle")
        self._heard(response)
        if response.status_code == 200:
            self.brokerage.heard(self, status_of(response))
        return response

    def close(self) -> Steps[None]:
        """Logs out what it opened. Whatever goes wrong is not worth an error."""
        if self.brokerage.state == "open":
            try:
                yield from self.brokerage.close(self)
            except IBKROAuthError as error:
                logger.log(INFO, "the log-out failed: %s", error.message)


_LEVELS: dict[EventKind, int] = {
    "renewal_failed": WARNING,
    "brokerage_lost": WARNING,
    "competing": WARNING,
    "brokerage_failed": WARNING,
    "tickle_failed": WARNING,
    "rate_limited": WARNING,
    "clock_skew": WARNING,
    "outcome_unknown": WARNING,
}


@lru_cache(maxsize=512)
def _split_path(path: str) -> tuple[str, str, bool]:
    """Path, query, whether it needs the brokerage session. Refuses what would not go where it says."""
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    if "://" in path.partition("?")[0] or path.startswith("//"):
        raise InvalidValue("the path has a host of its own: a session calls its base_url only, for instance '/tickle'")
    path, _, query = path.partition("?")
    if not path.startswith("/"):
        path = f"/{path}"
    if "#" in path or "#" in query:
        raise InvalidValue("the path has a fragment ('#'), which no server gets to see")
    if any(part in (".", "..") for part in path.split("/")):
        raise InvalidValue("the path has '.' or '..' among its parts")
    return path, query, paths.needs_brokerage(path)


def _check(call: Call) -> None:
    """Raises what sending would raise, before anything else is sent for the sake of the call."""
    url = call.url if call.params is None else _core.url_with_query(call.url, call.params)
    _core.check_request(call.method, url, call.given, call.body, call.repeatable, call.timeout_ms)


def _not_sent(error: IBKROAuthError) -> IBKROAuthError:
    """What the session did on its own account failed: nothing is unknown about the caller's request."""
    if isinstance(error, OutcomeUnknown):
        error = TransportError(error.message, where=error.where, native=error.native)
    error.sent = False
    return error


def _header(name: str, value: str) -> str:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("headers must be a mapping of str to str")
    if name.lower() == "authorization":
        raise InvalidValue("header Authorization: the session signs each attempt itself")
    if len(value) > _LONGEST_HEADER:
        raise InvalidValue(f"header {name[:60]}: {len(value)} characters, at most {_LONGEST_HEADER} are sent")
    return value


def _put_body(call: Call, json: object, data: Pairs | None) -> None:
    if call.method in ("GET", "HEAD"):
        raise InvalidValue(f"{call.method} has no body: give parameters as params")
    if json is not None and data is not None:
        raise InvalidValue("a request has a form (data) or a JSON body (json), not both")
    if data is None:
        call.body, kind = encode_json(json), "application/json"
    elif isinstance(data, (str, bytes, bytearray, memoryview)):
        raise InvalidValue("data are the fields of a form (a mapping or pairs): give a JSON body as json")
    else:
        call.form = as_pairs(data, "data")
        call.body, kind = encode_form(call.form), FORM_TYPE
    if not any(name.lower() == "content-type" for name, _ in call.given):
        call.given = [*call.given, ("Content-Type", kind)]


def _check_cookie(cookie: str) -> None:
    if not isinstance(cookie, str) or not cookie or not cookie.isascii() or set(cookie) & set('; ,"\r\n\0'):
        raise InvalidValue("cookie: expected the value of the cookie `api`, without its name")
