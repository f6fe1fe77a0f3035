"""`WebSocket`: IBKR's web socket on asyncio, with the websockets library, that stays connected.

For other clients there is `ibkr_oauth.integrations.web_socket`: address, cookie and User-Agent of one connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, cast

from ibkr_oauth import answers
from ibkr_oauth.errors import (
    AuthorizationError,
    BrokerageError,
    ConnectError,
    IBKROAuthError,
    InvalidValue,
    MaintenanceError,
    ProxyError,
    RateLimited,
    ServerError,
    SessionClosed,
    Timeout,
    TLSError,
    TransportError,
)
from ibkr_oauth.redact import without_query
from ibkr_oauth.transport import Response, milliseconds

from ._common import check_session, missing
from ._web_sockets import WebSocketParameters, web_socket_async

try:
    from websockets import exceptions
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.http11 import Response as WireResponse
except ModuleNotFoundError as error:
    raise missing("websockets", "websockets", error) from None

if not hasattr(exceptions, "ProxyError"):  # since version 15, as are proxies
    raise ImportError("this version of websockets is too old: pip install 'ibkr_oauth[websockets]'")

if TYPE_CHECKING:
    from ibkr_oauth.aio import AsyncSession

__all__ = ["Message", "WebSocket"]

logger = logging.getLogger("ibkr_oauth.web_socket")

#: A JSON object, or the text of anything else.
Message: TypeAlias = dict[str, Any] | str

#: Bytes; one message of IBKR's has some kilobytes.
_LARGEST_MESSAGE = 16 * 1024 * 1024
_FIRST_WAIT = 1.0

#: What passes: another attempt makes sense.
_PASSING = (TransportError, MaintenanceError, RateLimited, ServerError, BrokerageError)

# The websockets library writes all headers to its log at DEBUG, the cookie among them. This logger has no name that
# anybody could switch to DEBUG; warnings come out of ours.
_wire_logger = logging.Logger("websockets", logging.WARNING)  # noqa: LOG001
_wire_logger.parent = logger


class WebSocket:
    """A web socket that stays connected, for one task that reads and any that send.

    ```python
    async with WebSocket(ibkr) as ws:
        await ws.send('smd+265598+{"fields":["31","84","86"]}')
        async for message in ws:
            print(message)
    ```

    Entering it connects and waits until the service has accepted the session; what is wrong then is raised at once.
    Messages are dicts where they are JSON objects, else texts. A lost connection is replaced: with growing pauses, a
    fresh tickle, and the subscriptions that were sent before (`smd`, `sor`, `spl`, ... until `umd`, `uor`, `upl`, ...).
    What was missed meanwhile is gone; a message tells of it:

    ```python
    {"topic": "ibkr_oauth", "args": {"event": "reconnected", "away": 3.2, "subscriptions": ["smd+265598"]}}
    ```

    Iterating ends after `close`. It raises AuthorizationError where the service refuses token or session, and what the
    session itself cannot mend. Network, maintenance and a lost brokerage session are waited out, however long.

    Keyword arguments, in seconds: `heartbeat` between two `tic`; `timeout` for connecting and closing; `silence` after
    which a connection without any message counts as dead (the service sends one every 10 seconds); `longest_wait`
    between two attempts.
    """

    def __init__(
        self,
        session: AsyncSession,
        *,
        heartbeat: float = 30.0,
        timeout: float = 20.0,
        silence: float = 60.0,
        longest_wait: float = 60.0,
    ) -> None:
        check_session(session, "WebSocket", asynchronous=True)
        for seconds in (heartbeat, timeout, silence, longest_wait):
            milliseconds(seconds)  # refuses what is no time
        self._session = session
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._silence = silence
        self._waits = _Waits(longest_wait)
        self._connection: ClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._since = 0.0  # when it was connected or lost, in the loop's time
        self._closing = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._news: deque[Message] = deque()  # to be read before the connection is
        self._subscriptions: dict[_Topic, str] = {}

    # --- What people use -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connects. Raises TransportError, AuthorizationError, ServiceError and what `AsyncSession.tickle` raises."""
        if self._beating is not None or self._closing.is_set():
            raise SessionClosed("a WebSocket connects once", advice="Make another one.")
        self._connection, greeting = await self._connect()
        self._since = asyncio.get_running_loop().time()
        self._news.extend(greeting)
        self._beating = asyncio.create_task(self._beat(), name="ibkr_oauth web socket heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, text: str) -> None:
        """Sends a message such as `smd+265598+{"fields":["31"]}`, after a reconnection where one is due.

        Subscriptions are remembered and sent again on every new connection. Raises SessionClosed after `close`.
        """
        if not isinstance(text, str):
            raise TypeError(f"a message must be a str, not {type(text).__name__}")
        if not text or not text.isprintable():
            raise InvalidValue("a message is one line of text, for instance 'spl+{}'")
        is_remembered = self._remember(text)
        while True:
            is_new = self._connection is None
            connection = await self._connected()
            if is_new and is_remembered:  # it went out with the others
                return
            try:
                await connection.send(text)
            except exceptions.ConnectionClosed:
                self._drop(connection)
            else:
                return

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while True:
            try:
                connection = await self._connected()
            except SessionClosed:
                if self._closing.is_set():
                    raise StopAsyncIteration from None
                raise
            if self._news:
                return self._news.popleft()
            try:
                message = await _receive(connection, self._silence)
            except (exceptions.ConnectionClosed, TimeoutError):
                self._drop(connection)
                continue
            if not _is_waiting(message):
                return message
            self._drop(connection)  # it has forgotten the session: another connection brings a fresh one

    async def close(self) -> None:
        """Closes the connection and ends the iteration. May be called again, from any task of the loop."""
        self._closing.set()
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.wait([beating])
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._closing.is_set() else "not connected" if self._connection is None else "connected"
        return f"<WebSocket {state}, {len(self._subscriptions)} subscriptions>"

    # --- The connection --------------------------------------------------------------------------

    async def _connected(self) -> ClientConnection:
        """The connection, or another one where it was lost. One task makes it while the others wait."""
        if self._beating is None:
            raise SessionClosed("the WebSocket is not connected", advice="Use it within `async with`.")
        async with self._connecting:
            while self._connection is None:
                await self._pause(self._waits.next())
                try:
                    await self._reconnect()
                except _PASSING as error:
                    self._waits.failed(error)
                    logger.info("still no web socket: %s", error.message)
            return self._connection

    async def _pause(self, seconds: float) -> None:
        """Raises SessionClosed as soon as this web socket is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        if self._closing.is_set():
            raise SessionClosed("the WebSocket was closed")

    async def _reconnect(self) -> None:
        connection, greeting = await self._connect()
        sent: dict[_Topic, str] = {}
        async with _aborting(connection):
            # Other tasks may subscribe to more while this one waits.
            while topics := [topic for topic in self._subscriptions if topic not in sent]:
                sent[topics[0]] = self._subscriptions[topics[0]]
                await connection.send(sent[topics[0]])
            if self._closing.is_set():
                raise SessionClosed("the WebSocket was closed")
        away, self._since = asyncio.get_running_loop().time() - self._since, asyncio.get_running_loop().time()
        self._connection = connection
        told = {"event": "reconnected", "away": round(away, 3), "subscriptions": [str(topic) for topic in sent]}
        self._news.extend([{"topic": "ibkr_oauth", "args": told}, *greeting])
        logger.info("the web socket is connected again after %.1f s, %d subscriptions", away, len(sent))

    async def _connect(self) -> tuple[ClientConnection, list[Message]]:
        """A connection whose session the service has accepted, and what it said with that."""
        parameters = await web_socket_async(self._session)
        connection = await self._open(parameters)
        async with _aborting(connection):
            return connection, await _greet(connection, parameters.session, self._timeout)

    async def _open(self, parameters: WebSocketParameters) -> ClientConnection:
        try:
            return await _Connect(
                **parameters.for_websockets(),
                open_timeout=self._timeout,
                close_timeout=self._timeout,
                ping_interval=None,  # the service's own heartbeats tell more: see `silence`
                compression=None,
                max_size=_LARGEST_MESSAGE,
                logger=_wire_logger,
            )
        except (OSError, exceptions.WebSocketException) as error:
            failure = _failure_of(error, parameters, self._timeout)
        raise failure  # outside of the handler: the library's errors may hold the whole address

    def _drop(self, connection: ClientConnection) -> None:
        """Gives up a connection that is of no more use, unless another task has done so."""
        if self._connection is connection:
            self._connection = None
            lived, self._since = asyncio.get_running_loop().time() - self._since, asyncio.get_running_loop().time()
            self._waits.lost(lived)
            logger.info("the web socket was lost after %.1f s (code %s)", lived, connection.close_code or "none")
        connection.transport.abort()

    async def _beat(self) -> None:
        """Tells the service that we are here; it closes those that say nothing for a minute."""
        while True:
            await asyncio.sleep(self._heartbeat)
            if self._connection is not None:
                with suppress(exceptions.ConnectionClosed):  # whoever reads or sends finds out, too
                    await self._connection.send("tic")

    def _remember(self, text: str) -> bool:
        """Takes note of a subscription or its end; True for these, whose sum a new connection gets anyway."""
        parts = text.split("+", 2)
        found = _SUBSCRIPTION.fullmatch(parts[0])
        if found is None:
            return False
        target = parts[1] if len(parts) > 1 and not parts[1].startswith("{") else ""
        topic = _Topic(found[2], target)
        if found[1] == "s":
            self._subscriptions[topic] = text
        else:
            self._subscriptions.pop(topic, None)
        return True


# Begun with s, ended with u. Not smh: history is asked for once, and its end has another name than its beginning.
_SUBSCRIPTION = re.compile(r"([su])((?!mh)[a-z]{2})")


class _Topic(NamedTuple):
    """What a subscription is about: `md` of contract 265598, `or` of nothing in particular."""

    name: str
    target: str

    def __str__(self) -> str:
        return f"s{self.name}+{self.target}" if self.target else f"s{self.name}"


class _Waits:
    """The pauses before each attempt, in seconds: they double up to `longest`, and differ between clients."""

    def __init__(self, longest: float) -> None:
        self._first = _FIRST_WAIT
        self._longest = longest
        self._failures = 0
        self._asked_for = 0.0

    def next(self) -> float:
        """The pause before the next attempt."""
        wait = min(self._first * 2.0 ** min(self._failures, 16), self._longest)
        return max(wait * random.uniform(0.5, 1), self._asked_for)  # noqa: S311 - no secret

    def failed(self, error: IBKROAuthError) -> None:
        """An attempt failed; the service may have said when to come back."""
        self._failures += 1
        self._asked_for = (error.retry_after or 0.0) if isinstance(error, RateLimited) else 0.0

    def lost(self, lived: float) -> None:
        """A connection was lost. One that did not live long counts as a failure, too."""
        self._failures = 0 if lived >= self._longest else self._failures + 1
        self._asked_for = 0.0


# --- Connecting ----------------------------------------------------------------------------------


class _Connect(connect):
    """Follows no redirects: the address has the access token in it."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@asynccontextmanager
async def _aborting(connection: ClientConnection) -> AsyncGenerator[None, None]:
    """Cuts the connection where what is done with it fails. A connection that closes meanwhile is a TransportError."""
    code: int | None
    try:
        yield
    except exceptions.ConnectionClosed:
        code = connection.close_code
    except BaseException:
        connection.transport.abort()
        raise
    else:
        return
    connection.transport.abort()
    raise TransportError(f"the web socket was closed as soon as it was open (code {code or 'none'})")


async def _greet(connection: ClientConnection, session: str, seconds: float) -> list[Message]:
    """Reads up to the first message with a topic: from then on the service has accepted the session."""
    heard: list[Message] = []
    answered = False
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                message = _decode(await connection.recv())
                if _is_waiting(message) and not answered:
                    answered = True
                    await connection.send(json.dumps({"session": session}))
                    continue
                if _is_waiting(message) or _is_error(message):
                    raise AuthorizationError(
                        "the web socket refuses the session that /tickle named",
                        code="session_refused",
                        advice="See whether another login of the user name took over, and connect again.",
                    )
                heard.append(message)
                if isinstance(message, dict) and "topic" in message:
                    return heard
    raise Timeout(f"the web socket was open, and the service said nothing within {seconds:g} s")


def _failure_of(error: Exception, parameters: WebSocketParameters, seconds: float) -> IBKROAuthError:
    """What an error of the websockets library or of the network means."""
    if isinstance(error, exceptions.InvalidStatus):
        return _refusal_of(error.response, parameters)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or error.reason
        return TLSError(f"web socket: no TLS connection: {reason}")
    if isinstance(error, TimeoutError):
        return Timeout(f"the web socket did not open within {seconds:g} s")
    if isinstance(error, (exceptions.ProxyError, exceptions.InvalidProxy)):
        return ProxyError("web socket: the proxy did not let it through")
    if isinstance(error, OSError):
        return ConnectError(f"web socket: no connection: {error.strerror or error}")
    return TransportError("web socket: the handshake was cut off, or answered as no web socket server does")


def _refusal_of(refusal: WireResponse, parameters: WebSocketParameters) -> IBKROAuthError:
    """What an answer to the handshake means."""
    # Without its date: nothing was signed, so a wrong clock is no reason.
    headers = [(name, value) for name, value in refusal.headers.raw_items() if name.lower() != "date"]
    url, body = without_query(parameters.url), bytes(refusal.body or b"")
    response = Response("GET", url, refusal.status_code, headers, body)
    return answers.error_of(response) or answers.describe(
        response, ServerError, f"status {refusal.status_code} instead of a web socket"
    )


# --- Messages ------------------------------------------------------------------------------------


async def _receive(connection: ClientConnection, seconds: float) -> Message:
    """Raises TimeoutError after so many seconds without a message."""
    async with asyncio.timeout(seconds):
        return _decode(await connection.recv())


def _decode(frame: str | bytes) -> Message:
    """The service sends JSON in binary frames."""
    text = frame if isinstance(frame, str) else frame.decode("utf-8", errors="replace")
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
    return text


def _is_waiting(message: Message) -> bool:
    return isinstance(message, dict) and message.get("message") == "waiting for session"


def _is_error(message: Message) -> bool:
    return isinstance(message, dict) and "error" in message and "topic" not in message
