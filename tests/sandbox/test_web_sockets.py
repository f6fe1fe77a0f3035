"""The web socket, from the side of a client that shares no code with the server: the package `websockets`."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_web_socket

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client, exchange

ORDER = {"conid": 265598, "side": "BUY", "orderType": "LMT", "price": 165, "quantity": 10, "cOID": "a1"}
_COOKIE = object()


@contextmanager
def web_socket(
    client: Client,
    cookie: object = _COOKIE,
    *,
    query: str | None = None,
    user_agent: str | None = "test",
    path: str = "",
) -> Iterator[ClientConnection]:
    """With the right cookie unless another one, or None, is given."""
    sandbox = client.sandbox
    if cookie is _COOKIE:
        cookie = f"api={client.get('/tickle').json()['session']}"
    context = ssl.create_default_context(cafile=str(sandbox.ca_file)) if sandbox.ca_file else None
    query = f"oauth_token={client.access_token}" if query is None else query
    with open_web_socket(
        f"{sandbox.web_socket_url}{path}?{query}",
        additional_headers={} if cookie is None else {"Cookie": str(cookie)},
        user_agent_header=user_agent,
        ssl=context,
        proxy=None,
    ) as opened:
        yield opened


def receive(socket: ClientConnection) -> Any:
    """The next message, which is a binary frame as the service's are."""
    message = socket.recv(timeout=10)
    assert isinstance(message, bytes)
    return json.loads(message)


def greeted(socket: ClientConnection, *, authenticated: bool = False) -> None:
    welcome, status = receive(socket), receive(socket)
    assert (welcome["topic"], welcome["success"]) == ("system", "paper")
    assert (status["topic"], status["args"]["authenticated"]) == ("sts", authenticated)


# --- The handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_with_the_cookie(connect: Connect, tls: bool) -> None:
    with Sandbox(tls=tls) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        client.open_brokerage()
        with web_socket(client) as socket:
            greeted(socket, authenticated=True)
            (connected,) = sandbox.web_sockets
            assert (connected.username, connected.received, connected.tics) == ("paper", (), 0)
        sandbox.wait_until(lambda: not sandbox.web_sockets)
        handshake = sandbox.requests[-1]
        assert (handshake.method, handshake.path, handshake.status) == ("GET", "/v1/api/ws", 101)
        assert handshake.cookie_sent
        assert handshake.processed
        assert client.access_token not in repr(handshake)


def test_without_a_cookie_it_waits_for_the_session(client: Client) -> None:
    session = client.get("/tickle").json()["session"]
    with web_socket(client, cookie=None) as socket:
        assert receive(socket) == {"message": "waiting for session"}
        socket.send("tic")
        assert client.sandbox.web_sockets == ()
        socket.send(json.dumps({"session": session}))
        greeted(socket)
        assert session not in repr(client.sandbox.web_sockets)


@pytest.mark.parametrize("answer", ['{"session":"0123456789abcdef0123456789abcdef"}', '{"session":1}', "[]", "{", ""])
def test_a_wrong_session(client: Client, answer: str) -> None:
    with web_socket(client, cookie=None) as socket:
        assert receive(socket) == {"message": "waiting for session"}
        socket.send(answer)
        assert "error" in receive(socket)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    assert client.sandbox.web_sockets == ()


def test_nobody_waits_for_ever(connect: Connect) -> None:
    with Sandbox(web_socket_idle_timeout=0.05) as sandbox:
        client = connect(sandbox, granted=True)
        with web_socket(client, cookie=None) as socket:
            assert receive(socket) == {"message": "waiting for session"}
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)


@pytest.mark.parametrize(
    ("deviation", "status", "words"),
    [
        ({"query": ""}, 401, "unknown access token"),
        ({"query": "oauth_token=0123456789abcdef0123"}, 401, "unknown access token"),
        ({"query": "bearer_token=1"}, 401, "unknown access token"),
        ({"cookie": "api=0123456789abcdef0123456789abcdef"}, 401, "unknown session in the cookie api"),
        ({"cookie": "api="}, 401, "unknown session in the cookie api"),
        ({"user_agent": None}, 403, "Access Denied"),
        ({"path": "/more"}, 404, "Not Found"),
    ],
)
def test_refusals(client: Client, deviation: dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(InvalidStatus) as refused, web_socket(client, **deviation):
        pass
    assert refused.value.response.status_code == status
    assert words.encode() in (refused.value.response.body or b"")
    assert client.sandbox.requests[-1].status == status
    assert not client.sandbox.requests[-1].processed


def test_another_users_session(client: Client) -> None:
    session = client.get("/tickle").json()["session"]
    token, _ = client.sandbox.grant(client.consumer_key, username="other")
    with pytest.raises(InvalidStatus), web_socket(client, f"api={session}", query=f"oauth_token={token}"):
        pass


def test_an_inactive_consumer_and_maintenance(client: Client) -> None:
    session = client.get("/tickle").json()["session"]
    client.sandbox.deactivate_consumer(client.consumer_key)
    with pytest.raises(InvalidStatus, match="401"), web_socket(client, f"api={session}"):
        pass
    client.sandbox.activate(client.consumer_key)
    client.sandbox.maintenance()
    with pytest.raises(InvalidStatus, match="503"), web_socket(client, f"api={session}"):
        pass


def test_a_plain_request_is_no_web_socket(client: Client) -> None:
    assert client.get("/ws").status == 404
    assert exchange(client.sandbox, "GET", "/v1/api/ws", {"User-Agent": "x"}).status == 401


# --- Heartbeats -----------------------------------------------------------------------------------


def test_the_service_beats(connect: Connect) -> None:
    with Sandbox(web_socket_heartbeat=0.02) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        with web_socket(client) as socket:
            greeted(socket)
            for _ in range(3):
                beat = receive(socket)
                assert beat["topic"] == "system"
                assert abs(beat["hb"] / 1000 - time.time()) < 5


def test_tics_are_counted(client: Client) -> None:
    with web_socket(client) as socket:
        greeted(socket)
        for _ in range(3):
            socket.send("tic")
        client.sandbox.wait_until(lambda: client.sandbox.web_sockets[0].tics == 3)
        assert client.sandbox.web_sockets[0].received == ()


def test_silence_is_closed_and_tics_prevent_it(connect: Connect) -> None:
    with Sandbox(web_socket_heartbeat=0.02, web_socket_idle_timeout=0.4) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        with web_socket(client) as socket:
            greeted(socket)
            began = time.monotonic()
            while time.monotonic() - began < 0.6:
                socket.send("tic")
                assert "hb" in receive(socket)
            with pytest.raises(ConnectionClosedOK):
                hear_beats(socket)


def hear_beats(socket: ClientConnection) -> None:
    while True:
        assert "hb" in receive(socket)


# --- Topics ---------------------------------------------------------------------------------------


def test_quotes(client: Client) -> None:
    with web_socket(client) as socket:
        greeted(socket)
        socket.send('smd+265598+{"fields":["31","84","9999"]}')
        for _ in range(2):
            quote = receive(socket)
            assert (quote["topic"], quote["conid"]) == ("smd+265598", 265598)
            assert {"31", "84", "_updated"} <= set(quote)
        assert client.sandbox.web_sockets[0].topics == ("smd+265598",)
        socket.send("umd+265598+{}")
        client.sandbox.wait_until(lambda: client.sandbox.web_sockets[0].topics == ())
        assert client.sandbox.web_sockets[0].received == ('smd+265598+{"fields":["31","84","9999"]}', "umd+265598+{}")


def test_orders_and_trades(client: Client) -> None:
    client.open_brokerage()
    account = client.get("/iserver/accounts").json()["accounts"][0]

    def place(coid: str, kind: str = "LMT") -> None:
        order = ORDER | {"cOID": coid, "orderType": kind}
        assert client.post(f"/iserver/account/{account}/orders", body={"orders": [order]}).status == 200

    place("before", "MKT")
    with web_socket(client) as socket:
        greeted(socket, authenticated=True)
        place("unnoticed")
        socket.send("sor+{}")
        assert [row["order_ref"] for row in receive(socket)["args"]] == ["before", "unnoticed"]
        place("live")
        told = receive(socket)
        assert (told["topic"], [row["order_ref"] for row in told["args"]]) == ("sor", ["live"])
        number = told["args"][0]["orderId"]
        assert client.send("DELETE", f"/iserver/account/{account}/order/{number}").status == 200
        assert receive(socket)["args"][0]["status"] == "Cancelled"
        socket.send("str+{}")
        trades = receive(socket)
        assert (trades["topic"], [row["order_ref"] for row in trades["args"]]) == ("str", ["before"])
        socket.send("uor+{}")
        client.sandbox.wait_until(lambda: client.sandbox.web_sockets[0].topics == ("str",))


def test_profit_and_summary(client: Client) -> None:
    account = client.get("/portfolio/accounts").json()[0]["accountId"]
    with web_socket(client) as socket:
        greeted(socket)
        socket.send("spl+{}")
        assert f"{account}.Core" in receive(socket)["args"]
        socket.send(f'ssd+{account}+{{"keys":[]}}')
        summary = receive(socket)
        assert summary["topic"] == f"ssd+{account}"
        assert {"key", "value", "currency"} == set(summary["result"][0])


@pytest.mark.parametrize("message", ["smd+x+{}", "ssd+DU0+{}", "xyz+1", "", "{}"])
def test_nonsense_is_answered_with_an_error(client: Client, message: str) -> None:
    with web_socket(client) as socket:
        greeted(socket)
        socket.send(message)
        assert receive(socket)["topic"] == "error"
        socket.send(b"tic")  # and the connection goes on, with binary frames too
        client.sandbox.wait_until(lambda: client.sandbox.web_sockets[0].tics == 1)


# --- What happens meanwhile -----------------------------------------------------------------------


def test_the_brokerage_session_is_announced(client: Client) -> None:
    sandbox = client.sandbox
    with web_socket(client) as socket:
        greeted(socket)

        def told() -> tuple[bool, bool]:
            status = receive(socket)
            assert status["topic"] == "sts"
            return status["args"]["authenticated"], status["args"]["competing"]

        client.open_brokerage()
        assert told() == (True, False)
        sandbox.compete_from("TWS")
        assert told() == (False, True)
        client.open_brokerage(compete=True)
        assert told() == (True, False)
        sandbox.end_brokerage()
        assert told() == (False, False)
        client.open_brokerage()
        assert told() == (True, False)
        sandbox.maintenance()
        assert told() == (False, False)


def test_logout_closes(client: Client) -> None:
    client.open_brokerage()
    with web_socket(client) as socket:
        greeted(socket, authenticated=True)
        client.post("/logout")
        assert receive(socket)["args"]["authenticated"] is False
        with pytest.raises(ConnectionClosedOK):
            socket.recv(timeout=10)
    client.sandbox.wait_until(lambda: not client.sandbox.web_sockets)


def test_send_to_all_or_to_one(client: Client) -> None:
    with web_socket(client) as one, web_socket(client) as two:
        greeted(one)
        greeted(two)
        client.sandbox.send_web_socket('{"topic":"blt"}', username="somebody")
        client.sandbox.send_web_socket('{"topic":"ntf"}', username="paper")
        client.sandbox.send_web_socket("not JSON at all")
        for socket in (one, two):
            assert receive(socket) == {"topic": "ntf"}
            assert socket.recv(timeout=10) == b"not JSON at all"


def test_drop(client: Client) -> None:
    with web_socket(client) as socket:
        greeted(socket)
        client.sandbox.drop_web_sockets()
        with pytest.raises(ConnectionClosed) as cut:
            socket.recv(timeout=10)
        assert cut.value.rcvd is None
    client.sandbox.wait_until(lambda: not client.sandbox.web_sockets)
    with web_socket(client) as again:
        greeted(again)


def test_restart_and_stop_cut(client: Client) -> None:
    with web_socket(client) as socket:
        greeted(socket)
        client.sandbox.restart()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    assert client.sandbox.web_sockets == ()
    with web_socket(client) as again:
        greeted(again)
        client.sandbox.stop()
        with pytest.raises(ConnectionClosed):
            again.recv(timeout=10)
