"""`Session`: signed calls that stay alive."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypedDict, Unpack, cast, get_args

from . import _core, telemetry
from .brokerage import BrokerageMode, CompetingPolicy
from .clock import Clock
from .closing import Closing
from .consumer import Consumer
from .errors import IBKROAuthError, InvalidValue, SessionClosed
from .flow import Call, Flow
from .keeper import Keeper, keeper
from .log import WARNING, Log
from .oauth import DEFAULT_BASE_URL, ParametersIn
from .pacing import DEFAULT_RATE
from .redact import path_of
from .signing import Pairs, QuerySigning, SignedRequest
from .steps import Adopt, Background, Enter, Gate, Pause, Result, Send, Step, Steps
from .tokens import AccessToken, LiveSessionToken
from .transport import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_TIMEOUT,
    Response,
    Transport,
    check_allowed,
    milliseconds,
    transport_options,
)

if TYPE_CHECKING:
    from .health import BrokerageStatus, EventHandler, Health
    from .integrations import WebSocketParameters
    from .stores import Store

logger = Log("ibkr_oauth.session")

#: Seconds between two tickles. Without any call the brokerage session ends after about six minutes.
DEFAULT_KEEP_ALIVE = 60.0


class Carrier(Protocol):
    """What sends for a `Session`: `Transport`, or what a test puts in its place."""

    def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | None = None,
        *,
        timeout: float,
        repeatable: bool | None = None,
    ) -> Response:
        """One request, one answer; raises TransportError and its kinds. `timeout`: seconds."""
        ...

    def cancel(self) -> None: ...
    def close(self) -> None: ...


class SessionOptions(TypedDict, total=False):
    """Keyword arguments of `Session` and `AsyncSession`, which describe them."""

    base_url: str
    timeout: float
    connect_timeout: float
    ca_file: str | os.PathLike[str] | None
    proxy: str | None
    query_signing: QuerySigning
    parameters_in: ParametersIn
    live_session_token: LiveSessionToken | None
    store: Store | None
    cookie: str | None
    brokerage: BrokerageMode
    on_competing: CompetingPolicy
    read_only: bool
    keep_alive: float | None
    pacing: float | None
    retries: int
    on_event: EventHandler | None
    clock: Clock
    nonce: Callable[[], str]
    transport: Any


class AnySession:
    """What `Session` and `AsyncSession` have in common: all that waits for nothing."""

    def __init__(
        self,
        consumer: Consumer | None = None,
        access_token: AccessToken | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        seconds = _keep_alive_of(options)
        self._keep_alive_seconds = seconds if options.get("transport") is None else None
        self._options = transport_options(
            ca_file=options.get("ca_file"),
            proxy=options.get("proxy"),
            connect_timeout=options.get("connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        )
        self._flow = make_flow(consumer, access_token, self._new_gate, options)
        self._pid = os.getpid()
        self._keep_alive: _core.KeepAlive | None = None

    @classmethod
    def from_env(cls, **options: Unpack[SessionOptions]) -> Self:
        """With keys, tokens and addresses from the environment, see `config`; keyword arguments come first."""
        from . import config  # noqa: PLC0415 - who gives everything himself does not wait for its import

        settings = config.from_env()
        return cls(settings.consumer(), settings.access_token(), **cast("SessionOptions", settings.options() | options))

    @classmethod
    def from_profile(cls, name: str | None = None, **options: Unpack[SessionOptions]) -> Self:
        """With the settings of a profile, see `config`; keyword arguments come first.

        `name`: by default the profile that IBKR_OAUTH_PROFILE names, or else the file's default one. What the profile
        lacks comes from the environment. Processes of one profile, and its next runs, share a live session token:
        `store=None` keeps it to this session.

        Raises ConfigurationError and its kinds where the profile, or one of the keys in it, cannot be used.
        """
        from . import config  # noqa: PLC0415 - as above

        settings = config.load(name)
        defaults = settings.options() if "store" in options else {"store": settings.store(), **settings.options()}
        return cls(settings.consumer(), settings.access_token(), **cast("SessionOptions", defaults | options))

    @property
    def base_url(self) -> str:
        """Without a slash at its end."""
        return self._flow.base_url

    @property
    def consumer(self) -> Consumer | None:
        """None for a session that has only a cookie."""
        return self._flow.consumer

    @property
    def access_token(self) -> AccessToken | None:
        """None for a session that has only a cookie."""
        return self._flow.access_token

    def health(self) -> Health:
        """What is known without asking: state, remaining time, last tickle, last error, counters. Does no I/O."""
        keep_alive = self._keep_alive
        is_kept = keep_alive is not None and self._pid == os.getpid() and keep_alive.status()[4]
        return self._flow.health(is_kept)

    def __repr__(self) -> str:
        flow = self._flow
        who = "with a cookie" if flow.consumer is None else flow.consumer.key
        state = f"{flow.health(False).state}, brokerage session {flow.brokerage.state}"
        return f"<{type(self).__name__} {who} at {flow.base_url}, {state}>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.session(self)

    def __reduce__(self) -> str | tuple[object, ...]:
        name = type(self).__name__
        raise TypeError(f"{name} cannot be pickled, since it holds keys; make one in each process")

    # --- For those who run the flows -------------------------------------------------------------

    @staticmethod
    def _new_gate(places: int) -> Gate:
        raise NotImplementedError

    def _in_background(self, steps: Steps[None]) -> None:
        raise NotImplementedError

    def _can_be_kept(self) -> bool:
        """Whether a keep-alive is wanted, and there is something to sign with, or a cookie."""
        flow = self._flow
        can_sign = flow.credential is not None or flow.consumer is None
        return self._keep_alive_seconds is not None and not flow.closed and can_sign

    def _make_keep_alive(self, client: _core.EngineClient, key: int) -> _core.KeepAlive:
        """Not started yet."""
        flow, interval = self._flow, milliseconds(self._keep_alive_seconds or DEFAULT_KEEP_ALIVE)
        check_allowed(flow.base_url)
        backoff = min(5000, interval)
        return _core.KeepAlive(client, key, "POST", f"{flow.base_url}/tickle", [], interval, backoff, flow.timeout_ms)

    def _start(self, keep_alive: _core.KeepAlive) -> None:
        """Or gives it the new token."""
        self._tune(keep_alive)
        keep_alive.start(None if self._flow.credential is None else self._flow.credential.signer)

    def _tune(self, keep_alive: _core.KeepAlive) -> None:
        """The server's time and the cookie, as known now."""
        flow = self._flow
        keep_alive.set_clock(round(flow.server_clock.now() * 1000) - _core.steady_ms())
        keep_alive.set_headers([("Cookie", f"api={flow.cookie}")] if flow.cookie is not None else [])

    def _heard(self, outcome: object) -> None:
        """A tickle was answered, or not."""
        if self._flow.closed:
            return
        steps = self._flow.heard_tickle(outcome)
        keep_alive = self._keep_alive
        if keep_alive is not None:
            self._tune(keep_alive)
        if steps is not None:
            self._in_background(steps)


class Session(AnySession, Closing):
    """Signed calls to IBKR's Web API that stay alive for weeks. Threads may share one.

    ```python
    with Session(consumer, access_token) as ibkr:
        print(ibkr.get("/portfolio/accounts").json())
    ```

    Nothing is sent before the first call. That one agrees on a live session token; it is renewed before it expires, and
    where the service refuses it. `/iserver` paths get their brokerage session. A tickle keeps both alive, in C, while
    Python does something else. What is not safe to repeat is sent once: where no answer could be read, OutcomeUnknown
    says so. Paths are relative to `base_url`.

    Keyword arguments, times in seconds:

    - `base_url`: where the API lives; requests are signed for exactly that address.
    - `timeout`: for each attempt of a call; `connect_timeout`: of that for name, TCP and TLS.
    - `ca_file`: PEM of the authorities to trust, else the system's. `proxy`: URL.
    - `query_signing`, `parameters_in`: see `OAuthClient`.
    - `live_session_token`: one that you have already.
    - `store`: where the live session token is kept between runs, shared with other processes of the same user: see
      `stores.FileStore`. None: it ends with the session.
    - `cookie`: the value of the cookie `api` of a session that exists:
      without consumer and access token, calls then go unsigned, as IBKR's older documentation has it.
    - `brokerage`: `lazy` opens the brokerage session when a path needs it, `eager` with the first call, `never` not.
    - `on_competing`: another login of the user name holds the brokerage session. `raise` raises CompetingSession, and
      once it was taken from us leaves it to you (`brokerage.open()`); `yield` takes it back when the other has left;
      `take` throws the other one out.
    - `read_only`: refuse locally, by method and path, what could change anything.
    - `keep_alive`: seconds between two tickles, None for none.
    - `pacing`: calls a second, on top of IBKR's published limits of single paths; None for no waiting at all.
    - `retries`: how often a call that is safe to repeat is repeated after a failure of network or service.
    - `on_event`: called with an `Event` when something happens to the session, on whatever thread it happens.
    - `clock`, `nonce`, `transport`: for tests. With a `transport` of yours there is no keep-alive.
    """

    def __init__(
        self,
        consumer: Consumer | None = None,
        access_token: AccessToken | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        super().__init__(consumer, access_token, **options)
        transport = options.get("transport") or Transport(self._options)
        self._transport: Carrier = transport
        self._perform = transport.perform if isinstance(transport, Transport) else partial(carry, transport)
        self._closing = threading.Event()
        self._keeping = threading.Lock()
        self._keeper: Keeper | None = None
        self._key = 0
        self._engine: _core.EngineClient | None = None
        # Whether the keep-alive runs, or is not wanted; and whether calls need do nothing for it.
        self._kept = self._is_quick = self._keep_alive_seconds is None

    # --- Calls -----------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """One call; returns the answer, whatever its status, unless the session has to act on it.

        `path`: below `base_url`, with or without a query. `params`: of the query, in order; lists repeat a name.
        `json`: a body that the signature does not cover; `data`: fields of a form, which it does. `timeout`: seconds
        for each attempt.

        Raises UsageError and its kinds for what cannot be sent; TransportError where no answer came, among them
        OutcomeUnknown where the request may have been processed; AuthorizationError and LiveSessionTokenError where no
        live session token is to be had; BrokerageError where the brokerage session is not; RateLimited in a penalty.
        `error.sent` is False where nothing of the request left this computer.
        """
        call = self._flow.prepare(method, path, params, json, data, headers, timeout)
        if telemetry.API in sys.modules:
            with telemetry.span(method, call.path) as span:
                return span.done(self._call(call))
        return self._call(call)

    def _call(self, call: Call) -> Response:
        """Nearly every call is one attempt with a good answer: that one goes without the machinery for the others."""
        flow = self._flow
        if not (self._is_quick and self._pid == os.getpid() and flow.attempt(call)):
            return self._run(flow.call(call))
        try:
            response = self._send(call)
            if flow.is_settled(call, response):
                return response
            outcome: Response | IBKROAuthError = response
        except IBKROAuthError as error:
            outcome = error.with_traceback(None)
        return self._run(flow.call(call, outcome))

    def _send(self, step: Send) -> Response:
        perform = self._perform  # what is called as a method is looked for in the class first
        try:
            return perform(step)
        except KeyboardInterrupt:
            if not step.repeatable:
                self._flow.unknown(f"{step.method} {path_of(step.url)}: interrupted, and perhaps processed")
            raise

    def get(
        self,
        path: str,
        params: Pairs | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """`GET`; see `request`."""
        return self.request("GET", path, params=params, headers=headers, timeout=timeout)

    def post(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """`POST`, once; see `request`."""
        return self.request("POST", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    def put(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """`PUT`, once; see `request`."""
        return self.request("PUT", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    def patch(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """`PATCH`, once; see `request`."""
        return self.request("PATCH", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    def delete(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """`DELETE`, once; see `request`."""
        return self.request("DELETE", path, params=params, json=json, headers=headers, timeout=timeout)

    # --- The session itself ----------------------------------------------------------------------

    def open(self) -> Self:
        """Agrees on a live session token now, and opens the brokerage session where that is wanted eagerly."""
        self._run(self._flow.open())
        return self

    def status(self) -> BrokerageStatus:
        """Asks the service about the brokerage session."""
        return self._run(self._flow.status())

    def refresh(self) -> None:
        """Another live session token, agreed on now, whatever the store has."""
        self._run(self._flow.renew(self._flow.credential, anew=True))

    def tickle(self) -> Response:
        """One tickle by hand; the answer has the identifier that the web socket needs."""
        return self._run(self._flow.tickle())

    @property
    def brokerage(self) -> SessionBrokerage:
        """The second tier: `open()`, `close()`, `state`."""
        return SessionBrokerage(self)

    def close(self) -> None:
        """Ends what other threads have under way, and logs out what this session opened. May be called again."""
        if self._flow.closed:
            return
        if self._pid != os.getpid():
            self._after_fork()
        self._flow.closed = True
        self._closing.set()
        self._stop_keeping()
        self._transport.cancel()
        try:
            self._run(self._flow.close())
        finally:
            self._transport.close()
            self._flow.emit("closed", "the session is closed")

    # --- For other clients -----------------------------------------------------------------------

    def sign(self, method: str, url: str, *, form: Pairs | None = None) -> SignedRequest:
        """Signs one attempt of a request that another client will send: `url` whole, byte for byte as it goes out.

        Gets or renews the live session token where that is due. `form`: the fields of a form in the body.
        """
        return self._run(self._flow.sign(method, url, form))

    def must_sign_again(
        self, signed: SignedRequest, status_code: int, headers: Mapping[str, str], content: bytes
    ) -> bool:
        """Whether an answer refuses the signature itself, before anybody looked at the request.

        Then the token has been renewed, or the clock corrected, and the request may be signed again and sent once more,
        even where it is not safe to repeat.
        """
        return self._run(self._flow.must_sign_again(signed, status_code, headers, content))

    def web_socket(self) -> WebSocketParameters:
        """Address, cookie and user agent of the web socket, for any client; asks for a tickle. See `integrations`."""
        from .integrations import web_socket  # noqa: PLC0415 - only for those who open one

        return web_socket(self)

    # --- Running flows on the caller's thread ----------------------------------------------------

    @staticmethod
    def _new_gate(places: int) -> Gate:
        return threading.Lock() if places == 1 else threading.BoundedSemaphore(places)

    def _run(self, steps: Steps[Result]) -> Result:
        if self._pid != os.getpid():
            self._after_fork()
        if not self._kept:
            self._keep()
        elif self._keeper is not None:
            self._keeper.listen()
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Send):
                        value: object = self._send(step)
                    else:
                        value = None
                        self._do(step)
                except IBKROAuthError as error:
                    # Without the frames that sent it: their variables hold signatures and bodies.
                    step = steps.throw(error.with_traceback(None))
                except BaseException as error:  # noqa: BLE001 - the flow lets go of its gates
                    step = steps.throw(error)
                else:
                    step = steps.send(value)
        except StopIteration as done:
            return cast("Result", done.value)

    def _do(self, step: Step) -> None:
        if type(step) is Pause:
            self._flow.clock.sleep(step.seconds, self._closing)
            self._flow.check_open()
        elif type(step) is Enter:
            cast("threading.Lock", step.gate).acquire()
        elif type(step) is Background:
            self._in_background(step.steps)
        elif type(step) is Adopt:
            self._keep()

    def _in_background(self, steps: Steps[None]) -> None:
        try:
            threading.Thread(target=self._run_quietly, args=[steps], name="ibkr_oauth renewal", daemon=True).start()
        except RuntimeError:  # isolated subinterpreters allow no daemon threads
            self._run_quietly(steps)

    def _run_quietly(self, steps: Steps[None]) -> None:
        try:
            self._run(steps)
        except SessionClosed:
            pass
        except Exception:  # noqa: BLE001 - told with its traceback
            logger.log(WARNING, "work in the background failed", trace=True)

    def _after_fork(self) -> None:
        """In the child: its own connections and keep-alive; the parent's are left alone."""
        self._pid = os.getpid()
        self._keeping = threading.Lock()
        self._keeper = self._engine = self._keep_alive = None
        self._kept = self._is_quick = self._keep_alive_seconds is None
        self._closing = threading.Event()
        self._flow.after_fork(self._new_gate)

    # --- The keep-alive --------------------------------------------------------------------------

    def _keep(self) -> None:
        """Starts the keep-alive as soon as there is something to sign with, or gives it the new token."""
        if not self._can_be_kept():
            return
        with self._keeping:
            if self._keep_alive is None:
                self._keeper = keeper()
                self._key = self._keeper.add(self)
                self._engine = _core.EngineClient(self._keeper.mailbox, **self._options)
                self._keep_alive = self._make_keep_alive(self._engine, self._key)
            self._start(self._keep_alive)
            self._kept = True
            self._is_quick = self._keeper is not None and self._keeper.has_thread

    def _stop_keeping(self) -> None:
        with self._keeping:
            keep_alive, self._keep_alive = self._keep_alive, None
            engine, self._engine = self._engine, None
            self._kept = True
        if keep_alive is not None:
            keep_alive.stop()
        if engine is not None:
            engine.close()
        if self._keeper is not None:
            self._keeper.remove(self._key)


def carry(carrier: Any, step: Send) -> Any:
    """By a transport of the caller's, which does not sign; what its `send` gives, a coroutine or a Response."""
    url, headers = step.signed()
    return carrier.send(
        step.method, url, headers, step.body, timeout=step.timeout_ms / 1000, repeatable=step.repeatable
    )


class SessionBrokerage:
    """The brokerage session of a `Session`. One for each user name, and for each `Session`."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def state(self) -> str:
        """`not open`, `open`, `lost`, `competing` or `refused`: what is known without asking."""
        return self._session._flow.brokerage.state

    def open(self, compete: bool | None = None) -> BrokerageStatus:
        """Opens it (`ssodh/init`). `compete`: whether another login is thrown out; by default as `on_competing` says.

        Raises CompetingSession, BrokerageRefused.
        """
        return self._session._run(self._session._flow.brokerage.open(self._session._flow, compete))

    def close(self) -> None:
        """Logs out, where it is open. The live session token stays."""
        self._session._run(self._session._flow.brokerage.close(self._session._flow))

    def __repr__(self) -> str:
        return f"<brokerage session {self.state}>"


# --- Options --------------------------------------------------------------------------------------


def make_flow(
    consumer: Consumer | None,
    access_token: AccessToken | None,
    new_gate: Callable[[int], Gate],
    options: SessionOptions,
) -> Flow:
    """Checks the options and fills in the defaults. Raises UsageError and ConfigurationError and their kinds."""
    unknown = set(options) - set(SessionOptions.__annotations__)
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    brokerage = options.get("brokerage", "lazy")
    on_competing = options.get("on_competing", "raise")
    query_signing = options.get("query_signing", "omit")
    parameters_in = options.get("parameters_in", "header")
    _check_word("brokerage", brokerage, get_args(BrokerageMode))
    _check_word("on_competing", on_competing, get_args(CompetingPolicy))
    _check_word("query_signing", query_signing, get_args(QuerySigning))
    _check_word("parameters_in", parameters_in, get_args(ParametersIn))
    _check_types(consumer, access_token, options)
    pacing = options.get("pacing", DEFAULT_RATE)
    if pacing is not None and not (_is_number(pacing) and 0 < pacing <= 10_000):
        raise InvalidValue("pacing must be a number of calls a second above 0, or None")
    retries = options.get("retries", 2)
    if not _is_number(retries) or retries != int(retries) or not 0 <= retries <= 100:
        raise InvalidValue("retries must be a number from 0 to 100")
    return Flow(
        consumer,
        access_token,
        new_gate,
        base_url=options.get("base_url", DEFAULT_BASE_URL),
        timeout=options.get("timeout", DEFAULT_TIMEOUT),
        query_signing=query_signing,
        parameters_in=parameters_in,
        live_session_token=options.get("live_session_token"),
        store=options.get("store"),
        cookie=options.get("cookie"),
        brokerage=brokerage,
        on_competing=on_competing,
        read_only=options.get("read_only", False),
        pacing=pacing,
        retries=retries,
        on_event=options.get("on_event"),
        clock=options.get("clock") or Clock(),
        nonce=options.get("nonce"),
    )


def _keep_alive_of(options: SessionOptions) -> float | None:
    """Seconds, checked."""
    seconds = options.get("keep_alive", DEFAULT_KEEP_ALIVE)
    if seconds is not None:
        milliseconds(seconds)
    return seconds


def _check_types(consumer: object, access_token: object, options: SessionOptions) -> None:
    """What would otherwise show in the middle of a call, or do the opposite of what it says."""
    expected: tuple[tuple[str, object, type], ...] = (
        ("consumer", consumer, Consumer),
        ("access_token", access_token, AccessToken),
        ("live_session_token", options.get("live_session_token"), LiveSessionToken),
        ("read_only", options.get("read_only", False), bool),
        ("clock", options.get("clock"), Clock),
    )
    for name, value, kind in expected:
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    for name in ("on_event", "nonce"):
        value = options.get(name)
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    store = options.get("store")
    if store is not None and not all(hasattr(store, name) for name in ("load", "save", "try_lock", "unlock")):
        raise TypeError(f"store must be a stores.FileStore, or made like one, not {type(store).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_word(what: str, word: object, words: tuple[str, ...]) -> None:
    if word not in words:
        raise InvalidValue(f"{what} must be one of {', '.join(words)}")
