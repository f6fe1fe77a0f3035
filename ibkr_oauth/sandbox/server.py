"""`Sandbox`: the server's life, and the verbs that tests and programs steer it with."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, get_args
from urllib.parse import urlsplit

import trustme
import uvicorn

from . import consent, testcons
from .app import Application
from .crypto import ExchangeShape
from .faults import Alteration, Faults
from .record import RecordedRequest
from .state import TESTCONS, QueryRule, RegisteredConsumer, Settings, State
from .verify import API_ROOT

_KEEP_ALIVE = 75  # seconds that an idle connection is kept, as long as common servers do
_START_TIMEOUT = 10.0
_RECORDED_REQUESTS = 10_000  # the oldest fall out, so that a sandbox may run for weeks


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
            ),
            clock,
        )
        self._faults = Faults()
        self._recorded: deque[RecordedRequest] = deque(maxlen=_RECORDED_REQUESTS)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if testcons:
            self._register_testcons()

    def __repr__(self) -> str:
        return f"<Sandbox {self.origin if self._thread else 'not running'}>"

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen and serve. Raises `OSError` when the port is taken; once per sandbox."""
        if self._server is not None:
            raise RuntimeError("a sandbox can be started once")
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, self._port), family=family, backlog=256)
        try:
            # Accepted connections inherit it. Head and body of an answer are two packets; the
            # second would wait 40 ms for the client's delayed acknowledgement of the first.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._port = listener.getsockname()[1]
            certificate = self._make_certificate() if self._tls else None
            application = Application(self._state, self._faults, self._recorded, self.origin)
            self._server = _Server(application, certificate)
        except BaseException:
            listener.close()
            self._remove_directory()
            raise
        self._thread = threading.Thread(
            target=self._server.serve_until_stopped,
            args=(listener,),
            name=f"ibkr-sandbox-{self._port}",
            daemon=True,
        )
        self._thread.start()
        if not self._server.ready.wait(_START_TIMEOUT):
            self.stop()
            raise RuntimeError("the sandbox's server did not start")
        return self

    def stop(self) -> None:
        """Close every connection and end the thread. Stopping twice does no harm."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._thread = None
        self._remove_directory()

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
        if self._public_origin is not None:
            return self._public_origin
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        bracketed = f"[{host}]" if ":" in host else host
        return f"{'https' if self._tls else 'http'}://{bracketed}:{self._port}"

    @property
    def base_url(self) -> str:
        """What a client is configured with, in place of ``https://api.ibkr.com/v1/api``."""
        return f"{self.origin}{API_ROOT}"

    @property
    def authorize_url(self) -> str:
        """The consent page; append ``?oauth_token=<request token>``."""
        return f"{self.origin}/authorize"

    @property
    def ca_file(self) -> Path | None:
        """PEM file of the authority that a client must trust, while running; None without TLS."""
        return Path(self._directory.name, "ca.pem") if self._directory else None

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
            return tuple(self._recorded)

    # --- Misbehaviour ----------------------------------------------------------------------------

    def expire_token(self) -> None:
        """Let every live session token expire now."""
        with self._state.lock:
            for access_token in self._state.access_tokens.values():
                for live_session_token in access_token.live_session_tokens:
                    live_session_token.expires_at = self._state.now()

    def end_brokerage(self) -> None:
        """End every brokerage session, as the nightly reset does."""
        with self._state.lock:
            self._state.brokerage_sessions.clear()

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

    def _make_certificate(self) -> Path:
        """Write the authority's certificate, and a server certificate with its key."""
        self._directory = tempfile.TemporaryDirectory(prefix="ibkr-sandbox-")
        authority = trustme.CA()
        names = {"localhost", "127.0.0.1", "::1", self.host, urlsplit(self.origin).hostname or ""}
        server = authority.issue_cert(*sorted(names - {""}))
        authority.cert_pem.write_to_path(Path(self._directory.name, "ca.pem"))
        certificate = Path(self._directory.name, "server.pem")
        server.private_key_and_cert_chain_pem.write_to_path(certificate)
        return certificate

    def _remove_directory(self) -> None:
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


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
                http="h11",
                ws="none",
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
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        async with asyncio.timeout(1):
            while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
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
