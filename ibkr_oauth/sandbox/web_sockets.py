"""``/v1/api/ws``: the web socket, from its handshake to its close.

The upgrade request is not signed. It names an access token in its query, and brings the session of
``/tickle`` as the cookie ``api``; without the cookie the service waits for the session as a message.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast
from urllib.parse import parse_qs

from starlette.websockets import WebSocket, WebSocketDisconnect

from . import answers, data
from .orders import Order
from .state import AccessToken, State
from .verify import session_cookie
from .wire import Wire

_REMEMBERED_MESSAGES = 1_000
_NORMAL, _POLICY_VIOLATION = 1000, 1008

Message = dict[str, object]


@dataclass(frozen=True)
class ConnectedWebSocket:
    """A web socket as it stands. `received`: the messages of the client that are no heartbeats, oldest first,
    a session being shown as ``<session>``; `tics`: how many heartbeats came; `topics`: what it subscribed to."""

    username: str
    received: tuple[str, ...]
    tics: int
    topics: tuple[str, ...]


class _Closed(Exception):
    """The client has gone, or is to go."""


class _Connection:
    """One connected client. `tell` and `close` may be called from any thread."""

    def __init__(self, state: State, access_token: AccessToken, wire: Wire) -> None:
        self.access_token = access_token
        self.wire = wire
        self.loop = asyncio.get_running_loop()
        self.outbox: asyncio.Queue[bytes | int] = asyncio.Queue()  # messages, and the code of the close
        self.received: deque[str] = deque(maxlen=_REMEMBERED_MESSAGES)
        self.tics = 0
        self.topics: dict[str, None] = {}
        self.last_heard = self.loop.time()
        self._state = state
        self._announced: bool | None = None
        self._orders_seen = state.orders.change_count
        self._logouts = access_token.logouts

    def tell(self, message: Message) -> None:
        self.send(json.dumps(message, separators=(",", ":")))

    def send(self, text: str) -> None:
        self.loop.call_soon_threadsafe(self.outbox.put_nowait, text.encode())

    def close(self, code: int) -> None:
        self.loop.call_soon_threadsafe(self.outbox.put_nowait, code)

    def refresh(self) -> None:
        """Tell what has changed since the last time: the brokerage session, orders, a logout."""
        authenticated = self._state.brokerage_session(self.access_token) is not None
        if authenticated != self._announced:
            self._announced = authenticated
            competing = self._state.is_competing(self.access_token)
            status = {"authenticated": authenticated, "competing": competing, "message": "", "fail": ""}
            self.tell({"topic": "sts", "args": status})
        if "sor" in self.topics and self._orders_seen != self._state.orders.change_count:
            self._tell_orders(self._state.orders.changes_since(self._orders_seen))
        self._orders_seen = self._state.orders.change_count
        if self._logouts != self.access_token.logouts:
            self.close(_NORMAL)

    # --- Messages of the client ------------------------------------------------------------------

    def hear(self, text: str) -> None:
        """Act on one message: a heartbeat, or a topic such as ``smd+265598+{"fields":["31"]}``."""
        self.last_heard = self.loop.time()
        if text == "tic":
            self.tics += 1
            return
        self.received.append(text)
        topic, _, rest = text.partition("+")
        subscribe = _TOPICS.get(topic)
        if subscribe is not None:
            subscribe(self, topic, rest)
        elif topic in ("umd", "uor", "upl", "utr", "usd"):
            key = rest.partition("+")[0]
            begun = {"umd": "smd", "uor": "sor", "upl": "spl", "utr": "str", "usd": "ssd"}[topic]
            self.topics.pop(f"{begun}+{key}" if begun in ("smd", "ssd") else begun, None)
        else:
            self.tell({"topic": "error", "error": f"unknown topic {topic[:40]}"})

    def _quotes(self, _topic: str, rest: str) -> None:
        conid, _, wish = rest.partition("+")
        if not (conid.isascii() and conid.isdigit()):
            self.tell({"topic": "error", "error": "smd needs a contract: smd+265598+{}"})
            return
        fields = _object(wish).get("fields")
        listed = [str(field) for field in cast("list[object]", fields)] if isinstance(fields, list) else ["31"]
        self.topics[f"smd+{conid}"] = None
        for _ in range(2):
            self.tell({"topic": f"smd+{conid}", **data.snapshot(int(conid), listed, self._state.now())})

    def _orders(self, topic: str, _rest: str) -> None:
        self.topics[topic] = None
        self._tell_orders(list(self._state.orders))

    def _tell_orders(self, orders: list[Order]) -> None:
        account = data.account_id(self.access_token.username)
        rows = [data.order_row(order) for order in orders if order.account == account]
        if rows:
            self.tell({"topic": "sor", "args": rows})

    def _profit(self, topic: str, _rest: str) -> None:
        self.topics[topic] = None
        self.tell({"topic": "spl", "args": data.profit(data.account_id(self.access_token.username))})

    def _trades(self, topic: str, _rest: str) -> None:
        self.topics[topic] = None
        account = data.account_id(self.access_token.username)
        filled = [one for one in self._state.orders if one.account == account and one.status == "Filled"]
        self.tell({"topic": "str", "args": [data.trade_row(order) for order in filled]})

    def _summary(self, _topic: str, rest: str) -> None:
        account = rest.partition("+")[0]
        if account != data.account_id(self.access_token.username):
            self.tell({"topic": "error", "error": "ssd needs an account of this user"})
            return
        self.topics[f"ssd+{account}"] = None
        result = [{"key": key, "value": round(value, 2), "currency": "USD"} for key, value in data.balances().items()]
        self.tell({"topic": f"ssd+{account}", "result": result})


_TOPICS: dict[str, Callable[[_Connection, str, str], None]] = {
    "smd": _Connection._quotes,
    "sor": _Connection._orders,
    "spl": _Connection._profit,
    "str": _Connection._trades,
    "ssd": _Connection._summary,
}


class WebSockets:
    """The connected web sockets of one sandbox; take the state's lock around every use but `serve`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._connections: list[_Connection] = []

    # --- What the verbs of the sandbox do ---------------------------------------------------------

    def connected(self) -> tuple[ConnectedWebSocket, ...]:
        """Those that have completed their handshake, the session included."""
        return tuple(
            ConnectedWebSocket(one.access_token.username, tuple(one.received), one.tics, tuple(one.topics))
            for one in self._connections
        )

    def refresh(self) -> None:
        """Tell every client what has changed for it; to be called after whatever may change something."""
        for one in self._connections:
            one.refresh()

    def send(self, text: str, username: str | None) -> None:
        """Send a message to every client, or to those of one user."""
        for one in self._connections:
            if username in (None, one.access_token.username):
                one.send(text)

    def drop(self) -> None:
        """Cut them all, without a close of the protocol."""
        for one in self._connections:
            one.loop.call_soon_threadsafe(one.wire.cut)

    # --- The handshake ----------------------------------------------------------------------------

    def admit(self, socket: WebSocket) -> tuple[AccessToken, bool]:
        """Whose web socket it is to be, and whether the session is known already. Raises `Refusal`."""
        if self._state.maintenance:
            raise answers.maintenance()
        if not socket.headers.get("user-agent"):
            raise answers.no_user_agent()
        tokens = parse_qs(socket.scope["query_string"].decode("ascii")).get("oauth_token", [""])
        access_token = self._state.access_tokens.get(tokens[0])
        if access_token is None or len(tokens) > 1:
            raise answers.unknown_access_token()
        if not access_token.consumer.active:
            raise answers.invalid_consumer()
        session = session_cookie(socket.headers)
        if session is not None and not _is_session(access_token, session):
            raise answers.wrong_session()
        return access_token, session is not None

    # --- The connection ---------------------------------------------------------------------------

    async def serve(self, socket: WebSocket, access_token: AccessToken, wire: Wire, *, has_session: bool) -> None:
        """Serve one admitted client until either side ends it."""
        settings = self._state.settings
        try:
            await socket.accept()
            if not has_session:
                async with asyncio.timeout(settings.web_socket_idle_timeout):
                    await _await_session(socket, access_token)
        except (_Closed, TimeoutError):
            with suppress(WebSocketDisconnect, RuntimeError):
                await socket.close(_POLICY_VIOLATION)
            return
        with self._state.lock:
            connection = _Connection(self._state, access_token, wire)
            username = access_token.username
            connection.tell({"topic": "system", "success": username, "isFT": False, "isPaper": True})
            connection.refresh()
            self._connections.append(connection)
            self._state.changed.notify_all()
        talking = (_write(socket, connection), self._beat(connection))
        tasks = [asyncio.create_task(one) for one in talking]
        try:
            with suppress(_Closed):
                await self._listen(socket, connection)
        finally:
            with self._state.lock:
                self._connections.remove(connection)
                self._state.changed.notify_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, socket: WebSocket, connection: _Connection) -> None:
        while True:
            text = await _receive(socket)
            with self._state.lock:
                connection.hear(text)
                self._state.changed.notify_all()

    async def _beat(self, connection: _Connection) -> None:
        """The service's heartbeats; a client that says nothing for long is closed."""
        settings = self._state.settings
        while True:
            await asyncio.sleep(settings.web_socket_heartbeat)
            with self._state.lock:
                connection.refresh()  # a brokerage session may have timed out
                connection.tell({"topic": "system", "hb": int(self._state.now() * 1000)})
            if connection.loop.time() - connection.last_heard > settings.web_socket_idle_timeout:
                connection.close(_NORMAL)


async def _write(socket: WebSocket, connection: _Connection) -> None:
    """Send what waits in the outbox; the service sends binary frames."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            message = await connection.outbox.get()
            if isinstance(message, int):
                await socket.close(message)
                return
            await socket.send_bytes(message)


async def _await_session(socket: WebSocket, access_token: AccessToken) -> None:
    """Ask for the session and wait for it. Raises `_Closed` for a wrong one, once that is said."""
    await socket.send_bytes(b'{"message":"waiting for session"}')
    text = "tic"
    while text == "tic":
        text = await _receive(socket)
    if not _is_session(access_token, str(_object(text).get("session", ""))):
        await socket.send_bytes(b'{"error":"unknown session","code":1}')
        raise _Closed


async def _receive(socket: WebSocket) -> str:
    """The next message, in whichever kind of frame. Raises `_Closed` at the end."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise _Closed
    text = message.get("text")
    return text if text is not None else cast("bytes", message["bytes"]).decode("utf-8", "replace")


def _is_session(access_token: AccessToken, session: str) -> bool:
    return hmac.compare_digest(access_token.session.encode(), session.encode("utf-8", "replace"))


def _object(text: str) -> dict[str, object]:
    """The JSON object of a message; an empty one where there is none."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
