"""`Sandbox`: the server's life, and the verbs that tests and programs steer it with."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast, get_args
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

from . import consent, control, testcons
from .app import Application
from .certificate import Certificate
from .crypto import ExchangeShape
from .faults import Alteration, Faults
from .limits import RateLimits
from .orders import Order
from .record import Record, RecordedRequest
from .state import TESTCONS, AccessToken, QueryRule, RegisteredConsumer, Settings, State
from .verify import API_ROOT
from .web_sockets import ConnectedWebSocket, WebSockets
from .wire import HTTPProtocol, Wire

_KEEP_ALIVE = 75  # seconds that an idle connection is kept, as long as common servers do
_START_TIMEOUT = 10.0


class Sandbox:
    """Interactive Brokers' side of OAuth 1.0a, on a loopback port, verifying everything.

    ```python
    with Sandbox(tls=True) as sandbox:
        sandbox.register("ABCDEFGHI", signature_key=..., encryption_key=..., dh_params=...)
        access_token, access_token_secret = sandbox.grant("ABCDEFGHI")
        ...  # a client of sandbox.base_url that trusts sandbox.ca_file
    ```

    It runs on a thread of its own, touches neither signals nor logging, and several may run in one
    process. Every method may be called from any thread, before the start, while clients are
    talking to it, and after the end.

    Parameters (times in seconds):

    - `host`, `port`: where to listen; port 0 takes a free one.
    - `tls`: serve https, with a certificate of the sandbox's own authority; see `ca_file`.
    - `public_url`: scheme, host and port under which clients address the sandbox when that is not
      where it listens, for instance behind a proxy. Signatures are verified against it, never
      against the ``Host`` header.
    - `clock`: the server's time in seconds since 1970.
    - `skew_window`: how far a timestamp may lie from the server's time.
    - `query_rules`: the ways accepted to sign a query: any of ``merge`` (its parameters join the
      signed ones), ``omit`` (not signed), ``url`` (left in the signed URL) and ``rfc5849``
      (``merge`` with double encoding). One rule alone makes the sandbox strict.
    - `auto_consent`: ``/authorize`` approves at once, without a page.
    - `explain`: explain each refused signature in the log ``ibkr_oauth.sandbox`` and in the
      response header ``X-Sandbox-Explanation``. A client asks for one explanation with the request
      header ``X-Sandbox-Explain: 1``; sent along in ``X-Sandbox-Base-String`` (percent-encoded), its
      own base string is compared with the sandbox's.
    - `strict_callback`: accept no ``oauth_callback`` but ``oob``.
    - `testcons`: register ``TESTCONS`` with the keys that IBKR publishes.
    - `request_token_lifetime`, `live_session_token_lifetime`, `brokerage_idle_timeout`: see names.
    - `keep_former_live_session_tokens`: a new live session token leaves the former ones valid.
      What IBKR does is not known; by default the sandbox voids them.
    - `enforce_pacing`: answer 429 to calls of one access token beyond the limits that IBKR publishes:
      10 a second, and for some paths as few as one in 15 minutes.
    - `send_cookie`: good answers of protected calls set the cookie ``api`` to the session.
    - `cookie_auth`: accept protected calls that have the cookie and no ``Authorization`` at all, as
      the older documentation describes.
    - `web_socket_heartbeat`: how often the service says ``hb``. `web_socket_idle_timeout`: after how
      long without any message a web socket is closed.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        public_url: str | None = None,
        clock: Callable[[], float] = time.time,
        skew_window: float = 300.0,
        query_rules: Sequence[QueryRule] = ("merge", "omit", "url"),
        auto_consent: bool = False,
        explain: bool = False,
        strict_callback: bool = False,
        testcons: bool = False,
        request_token_lifetime: float = 600.0,
        live_session_token_lifetime: float = 86400.0,
        brokerage_idle_timeout: float = 360.0,
        keep_former_live_session_tokens: bool = False,
        enforce_pacing: bool = False,
        send_cookie: bool = True,
        cookie_auth: bool = False,
        web_socket_heartbeat: float = 10.0,
        web_socket_idle_timeout: float = 75.0,
    ) -> None:
        if not query_rules or not set(query_rules) <= set(get_args(QueryRule)):
            raise ValueError(f"query_rules {query_rules!r}: one or more of {get_args(QueryRule)}")
        self.host = host
        self._port = port
        self._tls = tls
        self._public_origin = None if public_url is None else _origin(public_url)
        self._state = State(
            Settings(
                query_rules=tuple(query_rules),
                skew_window=skew_window,
                strict_callback=strict_callback,
                auto_consent=auto_consent,
                explain=explain,
                request_token_lifetime=request_token_lifetime,
                live_session_token_lifetime=live_session_token_lifetime,
                brokerage_idle_timeout=brokerage_idle_timeout,
                keep_former_live_session_tokens=keep_former_live_session_tokens,
                enforce_pacing=enforce_pacing,
                send_cookie=send_cookie,
                cookie_auth=cookie_auth,
                web_socket_heartbeat=web_socket_heartbeat,
                web_socket_idle_timeout=web_socket_idle_timeout,
            ),
            clock,
        )
        self._faults = Faults()
        self._limits = RateLimits()
        self._record = Record()
        self._web_sockets = WebSockets(self._state)
        self._life = threading.Lock()  # held for the length of a start or stop
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._certificate: Certificate | None = None
        if testcons:
            self._register_testcons()

    def __repr__(self) -> str:
        return f"<Sandbox {self.origin if self._thread else 'not running'}>"

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen and serve. After a stop it may start again: on the same port, with the same certificate, and
        remembering everything. Raises `OSError` when the port is taken, `RuntimeError` while it is running."""
        with self._life:
            if self._thread is not None:
                raise RuntimeError("the sandbox is running")
            self._begin()
        return self

    def stop(self) -> None:
        """Cut every connection and end the thread. Stopping twice does no harm."""
        with self._life:
            self._end()
            if self._certificate is not None:
                self._certificate.remove()

    def restart(self, pause: float = 0.0) -> None:
        """Stop and start again, with so many seconds between, in which nobody listens; `ca_file` stays.

        Raises `RuntimeError` while it is not running, and `OSError` if the port was taken meanwhile."""
        with self._life:
            if self._thread is None:
                raise RuntimeError("the sandbox is not running")
            self._end()
            time.sleep(pause)
            self._begin()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # --- Addresses -------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start unless one was given."""
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port for clients: ``https://127.0.0.1:40123``, or the public URL."""
        return self._public_origin or self._listening_origin

    @property
    def _listening_origin(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        bracketed = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{bracketed}:{self._port}"

    @property
    def base_url(self) -> str:
        """What a client is configured with, in place of ``https://api.ibkr.com/v1/api``."""
        return f"{self.origin}{API_ROOT}"

    @property
    def control_url(self) -> str:
        """Where the verbs below are to be had over HTTP: append ``/<verb>``, see `control`. Always where the
        sandbox listens, whatever its public URL."""
        return f"{self._listening_origin}{control.ROOT}"

    @property
    def web_socket_url(self) -> str:
        """The web socket; append ``?oauth_token=<access token>``."""
        return f"ws{self.base_url.removeprefix('http')}/ws"

    @property
    def authorize_url(self) -> str:
        """The login page, then the consent page; append ``?oauth_token=<request token>``."""
        return f"{self.origin}/authorize"

    @property
    def ca_file(self) -> Path | None:
        """PEM file of the authority that a client must trust, from the first start on; None without TLS.

        It exists while the sandbox is running. A sandbox that starts again has the same one."""
        return self._certificate.ca_file if self._certificate else None

    # --- Consumers and consent -------------------------------------------------------------------

    def register(
        self,
        consumer_key: str,
        signature_key: str | bytes | Path,
        encryption_key: str | bytes | Path,
        dh_params: str | bytes | Path,
        *,
        callback: str = "http://localhost:20000/",
        active: bool = True,
        realm: str | None = None,
    ) -> RegisteredConsumer:
        """Register a consumer, as one does in IBKR's portal.

        The public keys (SPKI or PKCS#1) and the Diffie-Hellman parameters (PKCS#3) are PEM text,
        bytes, or the `Path` of a file. `realm` is ``limited_poa`` unless given, for TESTCONS
        ``test_realm``. Raises `ValueError` for a key that is not RSA or has less than 2048 bits,
        for a prime that is negative, short or composite, and for a consumer key that is taken or
        has other characters than upper-case letters and digits (the portal stores upper case).
        """
        with self._state.lock:
            return self._state.register(
                consumer_key,
                signature_key=signature_key,
                encryption_key=encryption_key,
                dh_params=dh_params,
                callback=callback,
                active=active,
                realm=realm,
            )

    def activate(self, consumer_key: str) -> None:
        """Let a consumer take part. Raises `LookupError` for an unknown one."""
        with self._state.lock:
            self._state.consumer(consumer_key).active = True

    def deactivate_consumer(self, consumer_key: str) -> None:
        """Answer ``invalid consumer`` from now on. Raises `LookupError` for an unknown one."""
        with self._state.lock:
            self._state.consumer(consumer_key).active = False

    def grant(self, consumer_key: str, username: str = "paper") -> tuple[str, str]:
        """Access token and encrypted secret, as "Generate Token" in the portal gives them.

        Again for the same username: the same token with a new secret, the former one being void.
        """
        with self._state.lock:
            access_token, secret = self._state.grant(self._state.consumer(consumer_key), username)
            return access_token.token, secret

    def consent(self, request_token: str, username: str = "paper") -> str:
        """Approve a request token without the page; returns the verifier.

        Raises `LookupError` for a token that is unknown, used, denied, expired or approved already.
        """
        with self._state.lock:
            return consent.approve(self._state, request_token, username)

    # --- What happened ---------------------------------------------------------------------------

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """What clients sent so far, oldest first, without secrets."""
        with self._state.lock:
            return tuple(self._record.requests)

    @property
    def counts(self) -> dict[str, int]:
        """How many requests there were of each path, from the beginning on."""
        with self._state.lock:
            return dict(self._record.counts)

    @property
    def orders(self) -> tuple[Order, ...]:
        """The orders that were processed, in that order; a ``cOID`` that came twice is there twice."""
        with self._state.lock:
            return tuple(self._state.orders)

    @property
    def web_sockets(self) -> tuple[ConnectedWebSocket, ...]:
        """The web sockets that are connected, their session being known."""
        with self._state.lock:
            return self._web_sockets.connected()

    def brokerage_holder(self, username: str = "paper") -> str | None:
        """Who holds the brokerage session of a user: a consumer key, another program's name, or None."""
        with self._state.lock:
            holder = self._state.brokerage_holder(username)
            return holder.consumer.key if isinstance(holder, AccessToken) else holder

    def wait_until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Wait until `condition` holds, which is looked at after each request and each web socket's doing:

        ```python
        sandbox.wait_until(lambda: sandbox.counts.get("/v1/api/tickle", 0) >= 3)
        ```

        Raises `TimeoutError` after so many seconds.
        """
        with self._state.lock:
            if not self._state.changed.wait_for(condition, timeout):
                raise TimeoutError(f"the condition did not come true within {timeout:g} seconds")

    # --- Misbehaviour ----------------------------------------------------------------------------

    def expire_token(self) -> None:
        """Let every live session token expire now."""
        with self._state.lock:
            for access_token in self._state.access_tokens.values():
                for live_session_token in access_token.live_session_tokens:
                    live_session_token.expires_at = self._state.now()

    def end_brokerage(self) -> None:
        """End every brokerage session, as the nightly reset does; other programs' too."""
        with self._state.lock:
            self._state.brokerage_sessions.clear()
            self._web_sockets.refresh()

    def lose_session(self) -> None:
        """End every brokerage session the hidden way: ``/tickle`` answers 200 ``{"error":"no session"}``
        until the session is opened again."""
        with self._state.lock:
            for access_token in self._state.access_tokens.values():
                access_token.session_lost = True
            self.end_brokerage()

    def compete_from(self, program: str, username: str = "paper") -> None:
        """Another program, such as TWS, logs in under the user name and takes over the brokerage session.

        For our clients the session is then not authenticated, and competing; ``/iserver`` answers 401.
        ``ssodh/init`` with ``compete`` throws the other one out, without it leaves it alone.
        """
        with self._state.lock:
            self._state.compete_from(program, username)
            self._web_sockets.refresh()

    def stop_competing(self, username: str = "paper") -> None:
        """The other program logs out again. Nobody holds the brokerage session then."""
        with self._state.lock:
            self._state.stop_competing(username)
            self._web_sockets.refresh()

    def maintenance(self, on: bool = True) -> None:
        """Answer 503 to everything. Brokerage sessions end with it; live session tokens stay valid."""
        with self._state.lock:
            self._state.maintenance = on
            if on:
                self.end_brokerage()

    def rate_limit(
        self,
        per_second: float | None = None,
        retry_after: float | None = None,
        path: str | None = None,
        *,
        penalty: float = 0.0,
    ) -> None:
        """Answer 429, before any check, to more requests than so many a second; 0.2 is one in 5 seconds.

        `path` limits it to one path, beside the limit for all. `retry_after`: the seconds to send as
        ``Retry-After``. `penalty`: for so many seconds after one request too many, every further one gets
        429 as well, as IBKR deals with an address that offends. Without `per_second` the limit is lifted;
        without anything, all are. Time is measured by the sandbox's clock, without its skew.
        """
        with self._state.lock:
            self._limits.set(per_second, retry_after=retry_after, penalty=penalty, path=path)

    def skew(self, seconds: float) -> None:
        """Let the server's clock be ahead by so much, behind if negative; 0 sets it right."""
        with self._state.lock:
            self._state.skew(seconds)

    def fail_next(
        self,
        status: int,
        times: int = 1,
        body: str | bytes | None = None,
        content_type: str | None = None,
        *,
        path: str | None = None,
    ) -> None:
        """Answer the next requests below ``/v1/api`` with this status, before any check.

        The body is the service's usual error object unless given. `path` limits it to one path,
        for instance ``"/tickle"``.
        """
        with self._state.lock:
            self._faults.fail_next(status, times, path=path, body=body, content_type=content_type)

    def delay(self, seconds: float, times: int = 1, *, path: str | None = None) -> None:
        """Answer the next requests so many seconds late. They are processed at once, and nothing else waits."""
        with self._state.lock:
            self._faults.delay(seconds, times, path=path)

    def drop_connection(
        self,
        after_bytes: int = 0,
        times: int = 1,
        *,
        path: str | None = None,
        before_processing: bool = False,
    ) -> None:
        """Cut the connection of the next requests below ``/v1/api``, with a TCP reset.

        - ``drop_connection(before_processing=True)``: the request is read, and nothing is done with it;
        - ``drop_connection()``: it is processed, and no byte of the answer is sent;
        - ``drop_connection(100)``: it is processed, and 100 bytes of the answer are sent, head included;
          with more bytes than the answer has, all of it.

        `requests` tells which it was: see `RecordedRequest.processed` and `RecordedRequest.dropped`.
        """
        with self._state.lock:
            self._faults.drop_connection(after_bytes, times, path=path, before_processing=before_processing)

    def drop_randomly(self, probability: float, seed: int | None = None) -> None:
        """From now on cut each connection below ``/v1/api`` with this probability (0: no more), at a random
        one of the stages of `drop_connection`. The same seed gives the same sequence."""
        with self._state.lock:
            self._faults.drop_randomly(probability, seed)

    def drop_connections(self) -> None:
        """Cut all connections that are open now, idle ones too."""
        with self._state.lock:
            if self._server is not None:
                self._server.cut_connections()

    def drop_web_sockets(self) -> None:
        """Cut all web sockets, without the close of the protocol."""
        with self._state.lock:
            self._web_sockets.drop()

    def send_web_socket(self, text: str, username: str | None = None) -> None:
        """Send a message to all web sockets, or to those of one user."""
        with self._state.lock:
            self._web_sockets.send(text, username)

    def tamper_next(self, path: str, alter: Alteration, times: int = 1, *, content_type: str | None = None) -> None:
        """Alter the next good answers of a path below ``/v1/api``.

        `alter` gets the JSON object that would be sent, and returns another object, or the whole
        body as text or bytes:

        ```python
        sandbox.tamper_next("/oauth/live_session_token",
                            lambda body: body | {"diffie_hellman_response": "0"})
        sandbox.tamper_next("/tickle", lambda _: "<html>", content_type="text/html")
        ```
        """
        with self._state.lock:
            self._faults.tamper_next(path, alter, times, content_type=content_type)

    def shape_next_exchange(self, shape: ExchangeShape, times: int = 1) -> None:
        """Choose the secret of the next Diffie-Hellman exchanges so that they have a `shape`.

        ``"sign_byte"``, ``"short_secret"``, ``"odd_secret"``, ``"short_response"`` or
        ``"odd_response"``; what they mean says `crypto.exchange`.
        """
        if shape not in get_args(ExchangeShape):
            raise ValueError(f"shape {shape!r}: one of {get_args(ExchangeShape)}")
        with self._state.lock:
            self._faults.shape_next_exchange(shape, times)

    # --- Inside ----------------------------------------------------------------------------------

    def _register_testcons(self) -> None:
        self.register(
            TESTCONS,
            testcons.SIGNATURE_KEY,
            testcons.ENCRYPTION_KEY,
            testcons.DH_PARAMS,
            callback=testcons.CALLBACK,
        )

    def _begin(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self._port), family=family, backlog=256)
        try:
            # Accepted connections inherit it: a packet does not wait for the acknowledgement of the one before.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._port = listener.getsockname()[1]
            self._server = _Server(Application(self), self._certificate_file())
        except BaseException:
            listener.close()
            raise
        self._thread = threading.Thread(
            target=self._server.serve_until_stopped,
            args=(listener,),
            name=f"ibkr-sandbox-{self._port}",
            daemon=True,
        )
        self._thread.start()
        if not self._server.ready.wait(_START_TIMEOUT):
            self._end()
            raise RuntimeError("the sandbox's server did not start")

    def _end(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._server = self._thread = None

    def _certificate_file(self) -> Path | None:
        if not self._tls:
            return None
        if self._certificate is None:
            names = {"localhost", "127.0.0.1", "::1", self.host, urlsplit(self.origin).hostname or ""}
            self._certificate = Certificate(names - {""})
        self._certificate.write()
        return self._certificate.file


class _Config(uvicorn.Config):
    """Uvicorn's settings, without its hand on the logging of the process."""

    def configure_logging(self) -> None:
        """Leave logging as the program has set it up."""


class _Server(uvicorn.Server):
    """Uvicorn on a thread: told when to stop by an event, and then at once."""

    def __init__(self, application: Application, certificate: Path | None) -> None:
        super().__init__(
            _Config(
                application,
                loop="asyncio",
                http=HTTPProtocol,
                ws=WSProtocol,
                ws_ping_interval=None,  # the service has heartbeats of its own
                lifespan="off",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # the application sends the sandbox's own time
                timeout_keep_alive=_KEEP_ALIVE,
                ssl_certfile=certificate,
                ssl_keyfile=certificate,
            )
        )
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def serve_until_stopped(self, listener: socket.socket) -> None:
        """What the thread does. Uvicorn handles signals on the main thread only."""
        with listener:
            asyncio.run(self.serve(sockets=[listener]))

    def stop(self) -> None:
        """Let the thread end; called from another one."""
        self.should_exit = True
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def cut_connections(self) -> None:
        """Cut every connection; called from another thread."""

        def cut() -> None:
            for connection in list(self.server_state.connections):
                cast("Wire", connection.transport).cut()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(cut)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, then say so."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Wait for `stop`; uvicorn would look ten times a second."""
        assert self._stopping is not None
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Cut every connection, idle ones included; uvicorn would wait for them."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        await _rounds(3)  # what was accepted a moment ago becomes a connection: a closed server would lose it
        for server in self.servers:
            server.close()
        others = asyncio.all_tasks() - self.server_state.tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()  # a TLS handshake that is under way
        async with asyncio.timeout(1):
            while self.server_state.connections or self.server_state.tasks or any(not one.done() for one in others):
                for connection in list(self.server_state.connections):
                    connection.transport.abort()
                await _rounds(1)
        await _rounds(3)  # their sockets are closed


async def _rounds(number: int) -> None:
    """Let the loop do what is waiting, and so often what follows from it."""
    for _ in range(number):
        await asyncio.sleep(0)


def _origin(public_url: str) -> str:
    """Scheme, host and port of a URL, as they are signed: lower case, without a default port."""
    parts = urlsplit(public_url.removesuffix("/").removesuffix(API_ROOT))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise ValueError(f"public_url {public_url!r}: scheme, host and port, nothing else")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default_port = 443 if parts.scheme == "https" else 80
    port = "" if parts.port in (None, default_port) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
