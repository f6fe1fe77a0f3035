"""IBKR's web socket: our helper that stays connected, and the parameters for other people's clients."""

import asyncio
import base64
import inspect
import itertools
import json
import logging
import pickle
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
import websocket
import websockets
import websockets.asyncio.server
import websockets.sync.client
from support.rogue import Rogue

from ibkr_oauth import (
    AsyncSession,
    AuthorizationError,
    ConnectError,
    Consumer,
    InvalidValue,
    LiveSessionToken,
    MissingSetting,
    ProxyError,
    Response,
    ServerError,
    Session,
    SessionClosed,
    SessionLost,
    Timeout,
    TLSError,
    TransportError,
)
from ibkr_oauth.integrations import WebSocketParameters, web_socket, web_socket_async
from ibkr_oauth.integrations._web_sockets import _address
from ibkr_oauth.integrations.websockets import WebSocket
from ibkr_oauth.sandbox import Sandbox

from .conftest import ACCESS_TOKEN, CONSUMER_KEY, LIVE_SESSION_TOKEN, tls

QUICK = {"longest_wait": 0.01, "timeout": 5.0}
TICKLE = "/v1/api/tickle"
SESSION = "0123456789abcdef0123456789abcdef"


def run(main: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(20):
            return await main

    return asyncio.run(limited())


async def read_until(ws: WebSocket, topic: str) -> dict[str, Any]:
    async for message in ws:
        if isinstance(message, dict) and message.get("topic") == topic:
            return message
    raise AssertionError(f"the web socket ended before {topic}")


# --- Against the sandbox -------------------------------------------------------------------------


def test_it_connects_and_subscribes(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            assert (await anext(ws))["topic"] == "system"  # type: ignore[index]
            await ws.send('smd+265598+{"fields":["31","84"]}')
            ticks = [await read_until(ws, "smd+265598") for _ in range(2)]
            assert all("31" in tick for tick in ticks)
            (connected,) = sandbox.web_sockets
            assert (connected.username, connected.topics) == ("paper", ("smd+265598",))
            assert repr(ws) == "<WebSocket connected, 1 subscriptions>"

    run(main())


def test_it_says_that_it_is_there(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, heartbeat=0.005, **QUICK):
            await asyncio.to_thread(
                sandbox.wait_until, lambda: sandbox.web_sockets and sandbox.web_sockets[0].tics >= 3
            )

    run(main())


def test_a_lost_connection_is_replaced(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            for text in ("smd+265598+{}", "smd+8314+{}", "spl+{}", "sor+{}", "umd+8314+{}", "uor+{}"):
                await ws.send(text)
            await read_until(ws, "spl")
            sandbox.drop_web_sockets()
            told = await read_until(ws, "ibkr_oauth")
            assert told["args"]["event"] == "reconnected"
            assert told["args"]["away"] >= 0
            assert told["args"]["subscriptions"] == ["smd+265598", "spl"]
            await read_until(ws, "spl")
            assert sandbox.web_sockets[0].received == ("smd+265598+{}", "spl+{}")
            assert sandbox.counts[TICKLE] == 2  # a fresh one for each connection

    run(main())


def test_sending_finds_out_about_a_lost_connection_too(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            sandbox.drop_web_sockets()
            await asyncio.to_thread(sandbox.wait_until, lambda: not sandbox.web_sockets)
            while sandbox.counts[TICKLE] < 2:  # until the reset has come through
                await ws.send("spl+{}")
                await asyncio.sleep(0)
            await ws.send("smd+265598+{}")
            await read_until(ws, "smd+265598")
            assert sandbox.web_sockets[0].received.count("smd+265598+{}") == 1

    run(main())


def test_a_restart_of_the_service_is_waited_out(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox, retries=0) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            await ws.send("spl+{}")
            await read_until(ws, "spl")
            restart = asyncio.create_task(asyncio.to_thread(sandbox.restart, 0.05))
            assert (await read_until(ws, "ibkr_oauth"))["args"]["subscriptions"] == ["spl"]
            await restart

    run(main())


def test_maintenance_and_limits_are_waited_out(
    sandbox: Sandbox, new_async_session: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with new_async_session(sandbox, retries=0) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            sandbox.fail_next(503, 2, path="/tickle")
            sandbox.fail_next(429, path="/tickle")
            sandbox.tamper_next("/tickle", lambda _: {"error": "no session"})
            sandbox.drop_web_sockets()
            assert (await read_until(ws, "ibkr_oauth"))["args"]["event"] == "reconnected"
            assert sandbox.counts[TICKLE] == 6

    with caplog.at_level(logging.INFO, "ibkr_oauth.web_socket"):
        run(main())
    assert len(re.findall("still no web socket", caplog.text)) == 4


def test_an_end_of_the_brokerage_session_is_told(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            assert (await read_until(ws, "sts"))["args"]["authenticated"] is False
            await ibkr.brokerage.open()
            assert (await read_until(ws, "sts"))["args"]["authenticated"] is True
            sandbox.end_brokerage()
            assert (await read_until(ws, "sts"))["args"]["authenticated"] is False

    run(main())


def test_a_refused_session_is_an_error_with_a_name(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    def other(body: dict[str, object]) -> dict[str, object]:
        return body | {"session": SESSION}

    async def main() -> None:
        async with new_async_session(sandbox) as ibkr:
            sandbox.tamper_next("/tickle", other)
            with pytest.raises(AuthorizationError, match="unknown session") as caught:
                await WebSocket(ibkr, **QUICK).__aenter__()
            assert SESSION not in str(caught.value)
            assert caught.value.__context__ is None
            async with WebSocket(ibkr, **QUICK) as ws:
                sandbox.tamper_next("/tickle", other)
                sandbox.drop_web_sockets()
                with pytest.raises(AuthorizationError):
                    await read_until(ws, "never")

    run(main())


def test_closing_ends_the_reading(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr:
            ws = WebSocket(ibkr, **QUICK)
            async with ws:
                await read_until(ws, "sts")

                async def read() -> int:
                    return len([message async for message in ws])

                reading = asyncio.create_task(read())
                await asyncio.sleep(0)
                await ws.close()
                assert await reading == 0
                await ws.close()
                with pytest.raises(SessionClosed):
                    await ws.send("spl+{}")
            with pytest.raises(StopAsyncIteration):
                await anext(ws)
            with pytest.raises(SessionClosed, match="once"):
                await ws.__aenter__()
            assert "closed" in repr(ws)

    run(main())


def test_closing_ends_the_waiting_for_another_connection(
    sandbox: Sandbox, new_async_session: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with new_async_session(sandbox, retries=0) as ibkr, WebSocket(ibkr, longest_wait=60.0) as ws:
            reading = asyncio.create_task(read_until(ws, "never"))
            sandbox.drop_web_sockets()
            while "not connected" not in repr(ws):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await ws.close()
            with pytest.raises(AssertionError, match="ended"):
                await reading

    run(main())


def test_closing_the_session_ends_the_web_socket_with_an_error(
    sandbox: Sandbox, new_async_session: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            await ibkr.close()
            sandbox.drop_web_sockets()
            with pytest.raises(SessionClosed):
                await read_until(ws, "never")

    run(main())


def test_a_logout_elsewhere_brings_another_connection(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, WebSocket(ibkr, **QUICK) as ws:
            await ibkr.post("/logout")
            assert await read_until(ws, "ibkr_oauth")

    run(main())


def test_it_is_used_within_its_block(ibkr: Session, sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as session:
            ws = WebSocket(session)
            for use in (ws.send("spl+{}"), anext(ws)):
                with pytest.raises(SessionClosed, match="not connected"):
                    await use
            assert "not connected" in repr(ws)
            async with WebSocket(session) as open_one:
                for wrong in ("", "a\nb", "\x00"):
                    with pytest.raises(InvalidValue):
                        await open_one.send(wrong)
                with pytest.raises(TypeError):
                    await open_one.send(b"spl+{}")  # type: ignore[arg-type]
            with pytest.raises(InvalidValue):
                WebSocket(session, heartbeat=0)
        with pytest.raises(TypeError, match=r"needs an ibkr_oauth\.AsyncSession, not Session"):
            WebSocket(ibkr)  # type: ignore[arg-type]

    run(main())


def test_where_nothing_listens_or_tls_fails(
    sandbox: Sandbox, new_sandbox: Callable[..., Sandbox], new_async_session: Callable[..., Any], monkeypatch: Any
) -> None:
    gone = new_sandbox()
    gone_port = gone.port
    gone.stop()

    async def main() -> None:
        async with new_async_session(sandbox) as ibkr:
            right = await web_socket_async(ibkr)
            wrong = [
                (right.url.replace(str(sandbox.port), str(gone_port)), right.ca_file, ConnectError),
                (right.url, None, TLSError),
                (right.url.replace("/ws?", "/nowhere?"), right.ca_file, Exception),
            ]
            for url, ca_file, kind in wrong:
                parameters = WebSocketParameters(url, right.cookie, right.user_agent, ca_file)

                async def give(_: Any, parameters: WebSocketParameters = parameters) -> WebSocketParameters:
                    return parameters

                monkeypatch.setattr("ibkr_oauth.integrations.websockets.web_socket_async", give)
                with pytest.raises(kind) as caught:
                    await WebSocket(ibkr, **QUICK).__aenter__()
                assert type(caught.value).__module__ == "ibkr_oauth.errors"
                assert "oauth_token" not in str(caught.value)
                assert caught.value.__context__ is None

    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    run(main())


def test_nothing_secret_is_shown(
    sandbox: Sandbox, new_async_session: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[str]:
        async with new_async_session(sandbox) as ibkr:
            parameters = await web_socket_async(ibkr)
            async with WebSocket(ibkr, **QUICK) as ws:
                sandbox.drop_web_sockets()
                await read_until(ws, "ibkr_oauth")
                shown = repr(parameters) + repr(ws)
            with pytest.raises(TypeError, match="pickled"):
                pickle.dumps(parameters)
            assert parameters.session not in shown
            assert ibkr.access_token.token not in shown
            return [parameters.session, ibkr.access_token.token]

    with caplog.at_level(logging.DEBUG):
        secrets = run(main())
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ibkr_oauth"))
    theirs = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("websockets"))
    assert "connected again" in ours
    for secret in secrets:
        assert secret not in ours + theirs


# --- Other people's clients ----------------------------------------------------------------------


def test_the_parameters_fit_websockets(sandbox: Sandbox, ibkr: Session) -> None:
    with websockets.sync.client.connect(**web_socket(ibkr).for_websockets()) as socket:
        assert json.loads(socket.recv())["topic"] == "system"

    async def main() -> None:
        async with websockets.connect(**web_socket(ibkr).for_websockets()) as connection:
            assert json.loads(await connection.recv())["topic"] == "system"

    run(main())


def test_the_parameters_fit_aiohttp(new_sandbox: Callable[..., Sandbox], new_async_session: Callable[..., Any]) -> None:
    sandbox = new_sandbox(tls=False)

    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, aiohttp.ClientSession() as client:
            parameters = await web_socket_async(ibkr)
            async with client.ws_connect(**parameters.for_aiohttp()) as socket:
                assert json.loads(await socket.receive_bytes())["topic"] == "system"

    run(main())


def test_the_parameters_have_tls_for_aiohttp(sandbox: Sandbox, ibkr: Session) -> None:
    options = web_socket(ibkr).for_aiohttp()
    assert options["ssl"].get_ca_certs() == tls(sandbox).get_ca_certs()  # type: ignore[union-attr]


def test_the_parameters_fit_websocket_client(sandbox: Sandbox, ibkr: Session) -> None:
    parameters = web_socket(ibkr)
    socket = websocket.create_connection(**parameters.for_websocket_client(), **parameters.for_run_forever(), timeout=5)
    try:
        assert json.loads(socket.recv())["topic"] == "system"
    finally:
        socket.close()
    heard: list[Any] = []

    def on_message(app: websocket.WebSocketApp, message: bytes) -> None:
        heard.append(json.loads(message)["topic"])
        app.close()

    app = websocket.WebSocketApp(**web_socket(ibkr).for_websocket_client(), on_message=on_message)
    app.run_forever(**parameters.for_run_forever())
    assert heard[0] == "system"


def test_a_proxy_is_handed_on() -> None:
    parameters = WebSocketParameters("wss://h/ws", "api=1", "me", proxy="http://user:p%40ss@proxy.example:3128")
    assert parameters.for_websockets()["proxy"] == parameters.for_aiohttp()["proxy"] == parameters.proxy
    assert parameters.for_run_forever() == {
        "http_proxy_host": "proxy.example",
        "http_proxy_port": 3128,
        "proxy_type": "http",
        "http_proxy_auth": ("user", "p@ss"),
    }
    assert WebSocketParameters("wss://h/ws", "api=1", "me").for_run_forever() == {}


def test_sessions_hand_them_out(sandbox: Sandbox, ibkr: Session, new_async_session: Callable[..., Any]) -> None:
    assert ibkr.web_socket() == web_socket(ibkr)

    async def main() -> None:
        async with new_async_session(sandbox) as session:
            assert await session.web_socket() == await web_socket_async(session)

    run(main())


def test_the_names_are_those_of_the_clients() -> None:
    parameters = WebSocketParameters("wss://h/ws", "api=1", "me", proxy="socks5://p:1")
    inspect.signature(websocket.WebSocketApp).bind(**parameters.for_websocket_client())
    assert set(parameters.for_run_forever()) <= set(inspect.signature(websocket.WebSocketApp.run_forever).parameters)
    assert set(parameters.for_aiohttp()) <= set(inspect.signature(aiohttp.ClientSession._ws_connect).parameters)


def test_without_tls_only_on_this_machine() -> None:
    assert _address("http://127.0.0.1:1/v1/api") == "ws://127.0.0.1:1/v1/api"
    assert _address("https://api.ibkr.com/v1/api") == "wss://api.ibkr.com/v1/api"
    with pytest.raises(InvalidValue, match="without TLS"):
        _address("http://api.ibkr.com/v1/api")


def test_a_version_of_websockets_that_is_too_old_is_said_to_be() -> None:
    code = (
        "import websockets.asyncio.client\n"
        "from websockets import exceptions\n"
        "del exceptions.ProxyError\n"
        "try: import ibkr_oauth.integrations.websockets\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("this version of websockets is too old: pip install"), done.stderr


def test_what_a_tickle_must_have(sandbox: Sandbox, ibkr: Session) -> None:
    for body, kind in (
        ({"error": "no session"}, SessionLost),
        ({}, ServerError),
        ({"session": "a; b=c"}, ServerError),
        ({"session": "a\r\nX: y"}, ServerError),
        ({"session": 5}, ServerError),
    ):
        sandbox.tamper_next("/tickle", lambda _, body=body: body)  # type: ignore[misc]
        with pytest.raises(kind) as caught:
            web_socket(ibkr)
        assert "a; b" not in str(caught.value)
    with pytest.raises(MissingSetting, match="access token"):
        web_socket(Session(cookie=SESSION, base_url=sandbox.base_url))


# --- Against a service that behaves oddly --------------------------------------------------------


class Tickle:
    """Answers every request as /tickle does, without a network."""

    async def send(self, method: str, url: str, *args: Any, **options: Any) -> Response:
        return Response(method, url, 200, [], json.dumps({"session": SESSION}).encode())

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


@asynccontextmanager
async def odd_service(
    consumer: Consumer,
    serve: Callable[[websockets.asyncio.server.ServerConnection], Awaitable[None]],
    *,
    process_request: Any = None,
    **options: Any,
) -> AsyncIterator[WebSocket]:
    """A web socket of ours that is not connected yet, to a server that does what `serve` does."""

    async def handle(connection: websockets.asyncio.server.ServerConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            await serve(connection)

    async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0, process_request=process_request) as server:
        port = server.sockets[0].getsockname()[1]
        token = LiveSessionToken(
            base64.b64encode(LIVE_SESSION_TOKEN).decode(), consumer_key=CONSUMER_KEY, access_token=ACCESS_TOKEN
        )
        async with AsyncSession(
            consumer,
            ACCESS_TOKEN,
            base_url=f"http://127.0.0.1:{port}/v1/api",
            live_session_token=token,
            transport=Tickle(),
            pacing=None,
        ) as session:
            yield WebSocket(session, **(QUICK | options))


SUCCESS = b'{"topic":"system","success":"paper"}'


def test_the_handshake_is_what_the_service_wants(consumer: Consumer) -> None:
    seen: list[Any] = []

    async def serve(connection: Any) -> None:
        seen.append(connection.request)
        await connection.send(SUCCESS)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws, ws:
            pass

    run(main())
    assert seen[0].path == f"/v1/api/ws?oauth_token={ACCESS_TOKEN.token}"
    assert seen[0].headers["Cookie"] == f"api={SESSION}"
    assert seen[0].headers["User-Agent"].startswith("ibkr_oauth/")
    assert "Authorization" not in seen[0].headers


def test_a_service_that_waits_for_the_session_gets_it(consumer: Consumer) -> None:
    heard: list[str | bytes] = []

    async def serve(connection: Any) -> None:
        await connection.send(b'{"message":"waiting for session"}')
        heard.append(await connection.recv())
        await connection.send(SUCCESS)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws, ws:
            assert (await anext(ws))["topic"] == "system"  # type: ignore[index]

    run(main())
    assert heard == [json.dumps({"session": SESSION})]


@pytest.mark.parametrize("answer", [b'{"message":"waiting for session"}', b'{"error":"unknown session","code":1}'])
def test_a_session_that_is_not_accepted_is_an_error_with_a_name(answer: bytes, consumer: Consumer) -> None:
    async def serve(connection: Any) -> None:
        await connection.send(b'{"message":"waiting for session"}')
        await connection.recv()
        await connection.send(answer)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws:
            with pytest.raises(AuthorizationError) as caught:
                await ws.__aenter__()
            assert caught.value.code == "session_refused"
            assert SESSION not in str(caught.value)

    run(main())


def test_a_service_that_forgets_the_session_is_connected_to_again(consumer: Consumer) -> None:
    connections = 0

    async def serve(connection: Any) -> None:
        nonlocal connections
        connections += 1
        await connection.send(SUCCESS)
        if connections == 1:
            await connection.send(b'{"message":"waiting for session"}')
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws, ws:
            assert await read_until(ws, "ibkr_oauth")

    run(main())
    assert connections == 2


def test_messages_of_all_kinds(consumer: Consumer) -> None:
    frames: list[str | bytes] = [
        b'{"a": "\xc3\xbc"}',
        '{"b": 1}',
        b"[1,2]",
        "plain",
        b"\xff\xfe",
        b"[" * 100_000,
        b"nul",
    ]

    async def serve(connection: Any) -> None:
        await connection.send(SUCCESS)
        for frame in frames:
            await connection.send(frame)
        await connection.wait_closed()

    async def main() -> list[Any]:
        async with odd_service(consumer, serve) as ws, ws:
            return [await anext(ws) for _ in range(len(frames) + 1)][1:]

    assert run(main()) == [{"a": "ü"}, {"b": 1}, "[1,2]", "plain", "��", "[" * 100_000, "nul"]


def test_a_silent_connection_counts_as_dead_and_is_cut(consumer: Consumer) -> None:
    connections: list[Any] = []

    async def serve(connection: Any) -> None:
        connections.append(connection)
        await connection.send(SUCCESS)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve, silence=0.05) as ws, ws:
            assert await read_until(ws, "ibkr_oauth")
            await connections[0].wait_closed()
            assert len(connections) == 2

    run(main())


def test_a_service_that_says_nothing_at_all(consumer: Consumer) -> None:
    async def serve(connection: Any) -> None:
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve, timeout=0.05) as ws:
            with pytest.raises(Timeout, match="said nothing"):
                await ws.__aenter__()

    run(main())


def test_what_is_said_before_the_session_is_accepted_is_handed_out_too(consumer: Consumer) -> None:
    async def serve(connection: Any) -> None:
        for text in ('{"message":"welcome"}', "plain", SUCCESS):
            await connection.send(text)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws, ws:
            assert [await anext(ws) for _ in range(3)] == [{"message": "welcome"}, "plain", json.loads(SUCCESS)]

    run(main())


def test_a_handshake_that_is_not_answered(consumer: Consumer) -> None:
    async def stall(connection: Any, request: Any) -> None:
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, lambda _: asyncio.sleep(0), process_request=stall, timeout=0.05) as ws:
            with pytest.raises(Timeout, match=r"did not open within 0\.05 s"):
                await ws.__aenter__()

    run(main())


def test_a_handshake_that_is_answered_by_something_else(consumer: Consumer) -> None:
    async def babble(connection: Any, request: Any) -> None:
        connection.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        connection.transport.close()
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, lambda _: asyncio.sleep(0), process_request=babble) as ws:
            with pytest.raises(TransportError, match="cut off, or answered as no web socket server does"):
                await ws.__aenter__()

    run(main())


def test_a_proxy_that_lets_nothing_through(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(rogue: Rogue) -> None:
        proxy = f"http://127.0.0.1:{rogue.port}"
        parameters = WebSocketParameters("ws://127.0.0.1:1/ws?oauth_token=a", "api=1", "me", proxy=proxy)

        async def give(_: Any) -> WebSocketParameters:
            return parameters

        monkeypatch.setattr("ibkr_oauth.integrations.websockets.web_socket_async", give)
        async with odd_service(consumer, lambda _: asyncio.sleep(0)) as ws:
            with pytest.raises(ProxyError, match="did not let it through") as caught:
                await ws.__aenter__()
            assert caught.value.__context__ is None

    with Rogue() as rogue:
        rogue.answering(lambda peer: peer.answer(b"", "403 Forbidden").close())
        run(main(rogue))


def test_the_heart_rests_while_there_is_no_connection(consumer: Consumer) -> None:
    connections = 0

    async def delay(connection: Any, request: Any) -> None:
        if connections:
            await asyncio.sleep(0.1)

    async def serve(connection: Any) -> None:
        nonlocal connections
        connections += 1
        await connection.send(SUCCESS)
        if connections > 1:
            assert await connection.recv() == "tic"
            await connection.send('{"topic":"beats"}')
            await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve, process_request=delay, heartbeat=0.01) as ws, ws:
            assert await read_until(ws, "beats")

    run(main())
    assert connections == 2


def test_a_service_that_closes_at_once(consumer: Consumer) -> None:
    async def serve(connection: Any) -> None:
        await connection.close(1012, "restart")

    async def main() -> None:
        async with odd_service(consumer, serve) as ws:
            with pytest.raises(TransportError, match=r"closed as soon as it was open .*1012"):
                await ws.__aenter__()

    run(main())


def test_connections_that_do_not_last_are_asked_for_more_slowly(consumer: Consumer) -> None:
    times: list[float] = []

    async def serve(connection: Any) -> None:
        times.append(asyncio.get_running_loop().time())
        await connection.send(SUCCESS)
        await connection.close()

    async def main() -> None:
        async with odd_service(consumer, serve, longest_wait=60.0) as ws, ws:
            ws._waits._first = 0.002
            while len(times) < 8:
                await anext(ws)

    run(main())
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Each pause is at least half of a value that doubles: 4, 8, 16 ... milliseconds.
    assert all(pause >= 0.002 * 2**number for number, pause in enumerate(pauses))


def test_subscriptions_made_while_it_reconnects_go_out_once(consumer: Consumer) -> None:
    heard: list[str] = []
    connections: list[Any] = []

    async def serve(connection: Any) -> None:
        connections.append(connection)
        await connection.send(SUCCESS)
        async for text in connection:
            heard.append(text)
            await connection.send(json.dumps({"topic": text}))

    async def main() -> None:
        async with odd_service(consumer, serve, longest_wait=0.2) as ws, ws:
            await ws.send("spl+{}")
            await read_until(ws, "spl+{}")
            connections[0].transport.abort()
            reading = asyncio.create_task(read_until(ws, "ech+hb"))
            while "not connected" not in repr(ws):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            texts = ("sor+{}", "smd+1+{}", "umd+1+{}", "ech+hb")
            await asyncio.gather(*map(ws.send, texts), reading)

    run(main())
    assert heard == ["spl+{}", "spl+{}", "sor+{}", "ech+hb"]


def test_closing_while_it_reconnects_leaves_nothing_behind(consumer: Consumer) -> None:
    connections: list[Any] = []
    closed = asyncio.Event()

    async def serve(connection: Any) -> None:
        connections.append(connection)
        if len(connections) == 2:
            await closed.wait()
        await connection.send(SUCCESS)
        await connection.wait_closed()

    async def main() -> None:
        async with odd_service(consumer, serve) as ws, ws:
            connections[0].transport.abort()
            reading = asyncio.create_task(read_until(ws, "never"))
            while len(connections) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await ws.close()
            closed.set()
            with pytest.raises(AssertionError, match="ended"):
                await reading
            await connections[1].wait_closed()

    run(main())


def refusing(consumer: Consumer, status: int, headers: dict[str, str]) -> Any:
    """A web socket of ours, not connected yet, to a server that refuses the handshake like this."""

    def refuse(connection: Any, request: Any) -> Any:
        response = connection.respond(status, '{"error":"Unauthorized","statusCode":401}')
        for name, value in headers.items():
            if name in response.headers:
                del response.headers[name]
            response.headers[name] = value
        return response

    async def serve(connection: Any) -> None:
        raise AssertionError("the handshake was to be refused")

    return odd_service(consumer, serve, process_request=refuse)


def test_a_wrong_clock_is_not_to_blame(consumer: Consumer) -> None:
    """Nothing is signed here."""

    async def main() -> None:
        async with refusing(consumer, 401, {"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}) as ws:
            with pytest.raises(AuthorizationError) as caught:
                await ws.__aenter__()
            assert type(caught.value) is AuthorizationError

    run(main())


def test_redirects_are_not_followed(consumer: Consumer) -> None:
    reached: list[str] = []

    async def serve(connection: Any) -> None:
        reached.append(connection.request.path)

    async def main() -> None:
        async with websockets.asyncio.server.serve(serve, "127.0.0.1", 0) as target:
            location = f"ws://127.0.0.1:{target.sockets[0].getsockname()[1]}/taken"
            async with refusing(consumer, 302, {"Location": location}) as ws:
                with pytest.raises(ServerError, match="status 302 instead of a web socket"):
                    await ws.__aenter__()

    run(main())
    assert reached == []
