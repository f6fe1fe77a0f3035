"""aiohttp's client, as people use it, with our signatures."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from ibkr_oauth import AsyncSession, Consumer, InvalidValue, ServerError, Session
from ibkr_oauth.integrations.aiohttp import ibkr_middleware
from ibkr_oauth.sandbox import Sandbox

from .conftest import (
    ACCESS_TOKEN,
    FORM,
    ORDER,
    PARAMS,
    QUERIES,
    RULES,
    Redirector,
    api_requests,
    assert_signed,
    redirected_options,
    tls,
)

ACCOUNTS = "/portfolio/accounts"


@pytest.fixture
def connected(new_async_session: Callable[..., Any]) -> Callable[..., Any]:
    """A session of ours, and a client that signs with it."""

    @asynccontextmanager
    async def make(sandbox: Sandbox, **options: Any) -> AsyncIterator[tuple[AsyncSession, aiohttp.ClientSession]]:
        async with (
            new_async_session(sandbox, **options) as ibkr,
            aiohttp.ClientSession(
                middlewares=[ibkr_middleware(ibkr)], connector=aiohttp.TCPConnector(ssl=tls(sandbox))
            ) as client,
        ):
            yield ibkr, client

    return make


@pytest.fixture
def redirected(consumer: Consumer, redirector: Redirector) -> Callable[[], Any]:
    @asynccontextmanager
    async def make() -> AsyncIterator[tuple[AsyncSession, aiohttp.ClientSession]]:
        async with (
            AsyncSession(consumer, ACCESS_TOKEN, **redirected_options(redirector)) as ibkr,
            aiohttp.ClientSession(middlewares=[ibkr_middleware(ibkr)]) as client,
        ):
            yield ibkr, client

    return make


async def status_of(call: Any) -> int:
    async with call as response:
        await response.read()
        return int(response.status)


@pytest.mark.parametrize("rule", RULES)
def test_queries_are_signed_as_they_are_sent(
    rule: Any, new_sandbox: Callable[..., Sandbox], connected: Callable[..., Any]
) -> None:
    sandbox = new_sandbox(query_rules=(rule,))

    async def main() -> None:
        async with connected(sandbox, query_signing=rule) as (ibkr, client):
            for query in QUERIES:
                assert await status_of(client.get(f"{ibkr.base_url}{ACCOUNTS}?{query}#part")) == 200, query
            for query in ("conids=265598%2C756733", "list=%5B1%5D"):  # yarl would write them differently
                assert await status_of(client.get(URL(f"{ibkr.base_url}{ACCOUNTS}?{query}", encoded=True))) == 200
            assert await status_of(client.get(f"{ibkr.base_url}{ACCOUNTS}", params=PARAMS)) == 200

    asyncio.run(main())
    assert {request.query_rule for request in api_requests(sandbox)} == {rule}


def test_all_methods_with_json_and_forms(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            url = ibkr.base_url
            async with client.post(f"{url}/iserver/auth/ssodh/init", data=FORM) as response:
                assert (await response.json())["authenticated"] is True
            async with client.get(f"{url}/iserver/accounts") as response:
                account = (await response.json())["accounts"][0]
            async with client.post(f"{url}/iserver/account/{account}/orders", json={"orders": [ORDER]}) as response:
                place = f"{url}/iserver/account/{account}/order/{(await response.json())[0]['order_id']}"
            assert await status_of(client.put(place, json={**ORDER, "quantity": 2})) == 200
            assert await status_of(client.delete(place)) == 200
            assert await status_of(client.post(f"{url}/tickle")) == 200

    asyncio.run(main())
    assert len(sandbox.orders) == 1


def test_a_form_that_cannot_be_signed_is_refused_unsent(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            for body, words in ((io.BytesIO(b"a=1"), "stream"), (b"a=%FF", "UTF-8")):
                with pytest.raises(InvalidValue, match=words):
                    await client.post(f"{ibkr.base_url}/tickle", data=body, headers=headers)

    asyncio.run(main())
    assert api_requests(sandbox) == []


def test_a_single_call(sandbox: Sandbox, new_async_session: Callable[..., Any]) -> None:
    async def main() -> None:
        async with new_async_session(sandbox) as ibkr, aiohttp.ClientSession() as client:
            url, middlewares = f"{ibkr.base_url}{ACCOUNTS}", [ibkr_middleware(ibkr)]
            assert await status_of(client.get(url, middlewares=middlewares, ssl=tls(sandbox))) == 200

    asyncio.run(main())


def test_a_stale_token_is_renewed_for_a_post_too(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            url = f"{ibkr.base_url}/tickle"
            assert await status_of(client.post(url)) == 200
            for body in (None, b"{}", io.BytesIO(b"{}")):
                sandbox.expire_token()
                assert await status_of(client.post(url, data=body)) == 200

    asyncio.run(main())
    assert [request.status for request in api_requests(sandbox)] == [200, *[401, 200] * 3]


def test_a_stream_that_is_used_up_is_not_sent_again(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"{}"

    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            url = f"{ibkr.base_url}/tickle"
            await status_of(client.post(url))
            sandbox.expire_token()
            assert await status_of(client.post(url, data=parts())) == 401

    asyncio.run(main())
    assert [request.status for request in api_requests(sandbox)] == [200, 401]


def test_a_wrong_clock_is_corrected(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            assert await status_of(client.get(f"{ibkr.base_url}{ACCOUNTS}")) == 200
            sandbox.skew(600)
            assert await status_of(client.post(f"{ibkr.base_url}/tickle")) == 200
            assert await status_of(client.get(f"{ibkr.base_url}{ACCOUNTS}")) == 200

    asyncio.run(main())
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200, 200]


def test_a_foreign_account_is_answered_once(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            await status_of(client.get(f"{ibkr.base_url}{ACCOUNTS}"))
            async with client.get(f"{ibkr.base_url}/portfolio/U0000000/positions/0") as response:
                assert (response.status, await response.read()) == (401, b"")

    asyncio.run(main())
    assert sandbox.counts["/v1/api/portfolio/U0000000/positions/0"] == 1


def test_a_lasting_refusal_is_returned_after_one_renewal(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            url = f"{ibkr.base_url}/tickle"
            await status_of(client.post(url))
            sandbox.fail_next(401, 2, '{"error":"Access token expired"}', path="/tickle")
            async with client.post(url) as response:
                assert (response.status, await response.json()) == (401, {"error": "Access token expired"})

    asyncio.run(main())
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 401]


def test_a_dead_connection_is_replaced_newly_signed(sandbox: Sandbox, connected: Callable[..., Any]) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            url = f"{ibkr.base_url}{ACCOUNTS}"
            assert await status_of(client.get(url)) == 200
            sandbox.drop_connection(path=ACCOUNTS)
            assert await status_of(client.get(url)) == 200

    asyncio.run(main())
    # aiohttp itself sent it once more. The sandbox would have refused the same nonce.
    assert [request.status for request in api_requests(sandbox)][-1] == 200
    assert len(api_requests(sandbox)) == 3


# --- Where it must not go ------------------------------------------------------------------------


def test_other_addresses_get_no_signature(
    sandbox: Sandbox, elsewhere: Redirector, connected: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with connected(sandbox) as (ibkr, client):
            for address in (
                f"{elsewhere.origin}/v1/api/tickle",
                f"{sandbox.origin}/other",
                f"{sandbox.origin}@127.0.0.1{ACCOUNTS}",
                f"{ibkr.base_url}.example{ACCOUNTS}",
            ):
                with pytest.raises((InvalidValue, aiohttp.InvalidURL)):
                    await client.get(address)

    asyncio.run(main())
    assert elsewhere.seen == []
    assert api_requests(sandbox) == []


def test_a_redirect_within_is_signed_for_its_own_address(redirector: Redirector, redirected: Callable[[], Any]) -> None:
    redirector.answers["/v1/api/old?a=1"] = [(302, "/v1/api/new?b=c+d,e%7Cf")]
    redirector.answers["/v1/api/new?b=c+d,e%7Cf"] = [(307, "newest")]

    async def main() -> None:
        async with redirected() as (ibkr, client):
            assert await status_of(client.get(f"{ibkr.base_url}/old?a=1")) == 200

    asyncio.run(main())
    assert len(redirector.seen) == 3
    assert len({assert_signed(seen, redirector) for seen in redirector.seen}) == 3


def test_a_redirect_that_leaves_is_refused(
    redirector: Redirector, elsewhere: Redirector, redirected: Callable[[], Any]
) -> None:
    redirector.answers["/v1/api/old"] = [(302, f"{elsewhere.base_url}/new")]

    async def main() -> None:
        async with redirected() as (ibkr, client):
            with pytest.raises(InvalidValue):
                await client.get(f"{ibkr.base_url}/old")

    asyncio.run(main())
    assert elsewhere.seen == []


@pytest.mark.parametrize(("method", "status"), [("POST", 307), ("POST", 303), ("PUT", 308), ("DELETE", 301)])
def test_what_changes_something_is_not_redirected(
    method: str, status: int, redirector: Redirector, redirected: Callable[[], Any]
) -> None:
    redirector.answers["/v1/api/orders?secret=1"] = [(status, "/v1/api/new")]

    async def main() -> None:
        async with redirected() as (ibkr, client):
            with pytest.raises(ServerError, match="redirect") as caught:
                await client.request(method, f"{ibkr.base_url}/orders?secret=1", json={})
            assert (caught.value.status, caught.value.method) == (status, method)
            assert caught.value.url == f"{ibkr.base_url}/orders"

    asyncio.run(main())
    assert len(redirector.seen) == 1


def test_web_sockets_pass_unsigned(redirector: Redirector, redirected: Callable[[], Any]) -> None:
    async def main() -> None:
        async with redirected() as (ibkr, client):
            with pytest.raises(aiohttp.WSServerHandshakeError):  # it is no server for web sockets, but it takes notes
                await client.ws_connect(f"{ibkr.base_url}/ws?oauth_token=a", headers={"Cookie": "api=b"})

    asyncio.run(main())
    assert redirector.seen[0].headers["cookie"] == "api=b"
    assert "authorization" not in redirector.seen[0].headers


# --- What is given, and what is shown ------------------------------------------------------------


def test_other_things_than_sessions_are_refused(ibkr: Session) -> None:
    for wrong in (None, object(), ibkr):
        with pytest.raises(TypeError, match=r"ibkr_middleware needs an ibkr_oauth\.AsyncSession, not"):
            ibkr_middleware(wrong)  # type: ignore[arg-type]


def test_nothing_secret_is_shown(
    sandbox: Sandbox, connected: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> str:
        async with connected(sandbox) as (ibkr, client):
            await status_of(client.post(f"{ibkr.base_url}/tickle"))
            sandbox.expire_token()
            async with client.post(f"{ibkr.base_url}/tickle") as response:
                return repr(client) + repr(response.request_info.url)

    with caplog.at_level(logging.DEBUG):
        shown = asyncio.run(main())
    assert "oauth_signature" not in caplog.text + shown
