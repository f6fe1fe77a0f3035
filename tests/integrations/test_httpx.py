"""httpx, both of its clients, as people use them, with our signatures."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from ibkr_oauth import AsyncSession, Consumer, InvalidValue, Session
from ibkr_oauth.integrations.httpx import IBKRAuth
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


class Caller:
    """`httpx.Client` or, on an event loop of its own, `httpx.AsyncClient`: called the same way."""

    def __init__(self, session: Any, client: Any, run: Callable[[Any], Any]) -> None:
        self.session, self.client, self._run = session, client, run

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        url = path if "://" in path else self.session.base_url + path
        response: httpx.Response = self._run(self.client.request(method, url, **options))
        return response


@pytest.fixture(params=["Client", "AsyncClient"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def new_caller(
    kind: str, new_session: Callable[..., Session], new_async_session: Callable[..., Any]
) -> Iterator[Callable[..., Caller]]:
    """A caller of a sandbox; of another session where one is given."""
    ends: list[Callable[[], object]] = []

    def make_sync(sandbox: Sandbox, **options: Any) -> Caller:
        session = new_session(sandbox, **options)
        client = httpx.Client(auth=IBKRAuth(session), verify=tls(sandbox), trust_env=False)
        ends.append(client.close)
        return Caller(session, client, lambda response: response)

    def make_async(sandbox: Sandbox, **options: Any) -> Caller:
        runner = asyncio.Runner()
        making = new_async_session(sandbox, **options)
        session = runner.run(making.__aenter__())
        client = httpx.AsyncClient(auth=IBKRAuth(session), verify=tls(sandbox), trust_env=False)
        ends.extend(
            [runner.close, lambda: runner.run(making.__aexit__(None, None, None)), lambda: runner.run(client.aclose())]
        )
        return Caller(session, client, runner.run)

    yield make_sync if kind == "Client" else make_async
    for end in reversed(ends):
        end()


@pytest.fixture
def call(new_caller: Callable[..., Caller], sandbox: Sandbox) -> Caller:
    return new_caller(sandbox)


@pytest.fixture
def redirected(kind: str, consumer: Consumer, redirector: Redirector) -> Iterator[Caller]:
    """A caller of the redirecting server, told to follow redirects."""
    options = redirected_options(redirector)
    if kind == "Client":
        with (
            Session(consumer, ACCESS_TOKEN, **options) as session,
            httpx.Client(auth=IBKRAuth(session), trust_env=False, follow_redirects=True) as client,
        ):
            yield Caller(session, client, lambda response: response)
        return
    with asyncio.Runner() as runner:
        asynchronous = AsyncSession(consumer, ACCESS_TOKEN, **options)
        other = httpx.AsyncClient(auth=IBKRAuth(asynchronous), trust_env=False, follow_redirects=True)
        yield Caller(asynchronous, other, runner.run)
        runner.run(other.aclose())
        runner.run(asynchronous.close())


@pytest.mark.parametrize("rule", RULES)
def test_queries_are_signed_as_they_are_sent(
    rule: Any, new_sandbox: Callable[..., Sandbox], new_caller: Callable[..., Caller]
) -> None:
    sandbox = new_sandbox(query_rules=(rule,))
    call = new_caller(sandbox, query_signing=rule)
    for query in (*QUERIES, 'odd="<a>\\^`{b}|'):
        assert call("GET", f"{ACCOUNTS}?{query}#part").status_code == 200, query
    assert call("GET", ACCOUNTS, params=PARAMS).status_code == 200
    assert {request.query_rule for request in api_requests(sandbox)} == {rule}


def test_all_methods_with_json_and_forms(call: Caller, sandbox: Sandbox) -> None:
    assert call("POST", "/iserver/auth/ssodh/init", data=FORM).json()["authenticated"] is True
    account = call("GET", "/iserver/accounts").json()["accounts"][0]
    placed = call("POST", f"/iserver/account/{account}/orders", json={"orders": [ORDER]})
    assert placed.status_code == 200
    place = f"/iserver/account/{account}/order/{placed.json()[0]['order_id']}"
    assert call("PUT", place, json={**ORDER, "quantity": 2}).status_code == 200
    assert call("DELETE", place).status_code == 200
    assert call("POST", "/tickle").status_code == 200
    assert len(sandbox.orders) == 1


def test_a_client_with_a_base_url(ibkr: Session, sandbox: Sandbox) -> None:
    with httpx.Client(base_url=ibkr.base_url, auth=IBKRAuth(ibkr), verify=tls(sandbox), trust_env=False) as client:
        assert client.get(ACCOUNTS).status_code == 200


def test_a_form_that_cannot_be_signed_is_refused_unsent(call: Caller, sandbox: Sandbox) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with pytest.raises(InvalidValue, match="UTF-8"):
        call("POST", "/tickle", content=b"a=%FF", headers=headers)
    assert api_requests(sandbox) == []


def test_a_stale_token_is_renewed_for_a_post_too(call: Caller, sandbox: Sandbox, kind: str) -> None:
    def parts() -> Iterator[bytes]:
        yield from (b"{", b"}")

    async def async_parts() -> AsyncIterator[bytes]:
        for part in parts():
            yield part

    stream = parts() if kind == "Client" else async_parts()
    assert call("POST", "/tickle").status_code == 200
    for body in (None, b"{}", stream):
        sandbox.expire_token()
        assert call("POST", "/tickle", content=body).status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, *[401, 200] * 3]


def test_a_wrong_clock_is_corrected(call: Caller, sandbox: Sandbox) -> None:
    assert call("GET", ACCOUNTS).status_code == 200
    sandbox.skew(600)
    assert call("POST", "/tickle").status_code == 200
    assert call("GET", ACCOUNTS).status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200, 200]


def test_a_foreign_account_is_answered_once(call: Caller, sandbox: Sandbox) -> None:
    call("GET", ACCOUNTS)
    answer = call("GET", "/portfolio/U0000000/positions/0")
    assert (answer.status_code, answer.content) == (401, b"")
    assert sandbox.counts["/v1/api/portfolio/U0000000/positions/0"] == 1


def test_a_lasting_refusal_is_returned_after_one_renewal(call: Caller, sandbox: Sandbox) -> None:
    call("POST", "/tickle")
    sandbox.fail_next(401, 2, '{"error":"Access token expired"}', path="/tickle")
    assert call("POST", "/tickle").status_code == 401
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 401]


def test_an_answer_can_still_be_streamed(ibkr: Session, sandbox: Sandbox) -> None:
    with httpx.Client(auth=IBKRAuth(ibkr), verify=tls(sandbox), trust_env=False) as client:
        client.get(f"{ibkr.base_url}{ACCOUNTS}")
        for path, status in ((ACCOUNTS, 200), ("/portfolio/U0000000/positions/0", 401)):
            with client.stream("GET", ibkr.base_url + path) as answer:
                assert answer.status_code == status
                assert bool(b"".join(answer.iter_bytes())) is (status == 200)


# --- Where it must not go ------------------------------------------------------------------------


def test_other_addresses_get_no_signature(call: Caller, elsewhere: Redirector, sandbox: Sandbox) -> None:
    for address in (
        f"{elsewhere.origin}/v1/api/tickle",
        f"{sandbox.origin}/other",
        f"{sandbox.origin}@127.0.0.1{ACCOUNTS}",
        f"{call.session.base_url}.example{ACCOUNTS}",
    ):
        with pytest.raises((InvalidValue, httpx.InvalidURL)):
            call("GET", address)
    assert elsewhere.seen == []
    assert api_requests(sandbox) == []


def test_redirects_are_not_followed_by_default(call: Caller, sandbox: Sandbox) -> None:
    sandbox.fail_next(302, path=ACCOUNTS)
    assert call("GET", ACCOUNTS).status_code == 302


def test_a_redirect_within_is_signed_for_its_own_address(redirected: Caller, redirector: Redirector) -> None:
    redirector.answers["/v1/api/old?a=1"] = [(302, "/v1/api/new?b=c+d,e|f")]
    redirector.answers["/v1/api/new?b=c+d,e|f"] = [401]  # as the service answers the signature of another address
    answer = redirected("GET", "/old?a=1")
    assert answer.status_code == 200
    first, _, last = redirector.seen
    assert [seen.target for seen in redirector.seen] == [
        "/v1/api/old?a=1",
        "/v1/api/new?b=c+d,e|f",
        "/v1/api/new?b=c+d,e%7Cf",
    ]
    assert assert_signed(first, redirector) != assert_signed(last, redirector)


def test_a_redirect_that_leaves_carries_no_signature(
    redirected: Caller, redirector: Redirector, elsewhere: Redirector
) -> None:
    redirector.answers["/v1/api/old"] = [(302, f"{elsewhere.base_url}/new")]
    elsewhere.answers["/v1/api/new"] = [401]
    assert redirected("GET", "/old").status_code == 401
    (left,) = elsewhere.seen
    assert not {"authorization", "cookie"} & set(left.headers)


def test_a_redirected_post_gets_no_signature_for_its_new_address(redirected: Caller, redirector: Redirector) -> None:
    redirector.answers["/v1/api/orders"] = [(307, "/v1/api/new")]
    redirector.answers["/v1/api/new"] = [401]
    assert redirected("POST", "/orders", json={}).status_code == 401
    first, second = redirector.seen
    assert assert_signed(first, redirector)
    with pytest.raises(AssertionError, match="signed for another"):
        assert_signed(second, redirector)


# --- What is given, and what is shown ------------------------------------------------------------


def test_other_things_than_sessions_are_refused(ibkr: Session) -> None:
    with pytest.raises(TypeError, match=r"needs an ibkr_oauth\.Session or AsyncSession, not object"):
        IBKRAuth(object())  # type: ignore[arg-type]
    asynchronous = AsyncSession(cookie="c")
    with (
        httpx.Client(auth=IBKRAuth(asynchronous)) as client,
        pytest.raises(TypeError, match=r"IBKRAuth in an httpx.Client needs an ibkr_oauth.Session, not AsyncSession"),
    ):
        client.get(f"{asynchronous.base_url}{ACCOUNTS}")

    async def use_the_wrong_one() -> None:
        async with httpx.AsyncClient(auth=IBKRAuth(ibkr)) as client:
            await client.get(f"{ibkr.base_url}{ACCOUNTS}")

    with pytest.raises(TypeError, match=r"IBKRAuth in an httpx.AsyncClient needs an ibkr_oauth.AsyncSession"):
        asyncio.run(use_the_wrong_one())


def test_nothing_secret_is_shown(call: Caller, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        call("POST", "/tickle")
        sandbox.expire_token()
        call("POST", "/tickle")
    shown = caplog.text + repr(call.client.auth)
    assert "oauth_signature" not in shown
    assert call.session.access_token.token not in shown
