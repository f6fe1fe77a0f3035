"""The cookie ``api``: given with each good answer, noted when it comes back, and good for calls on its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client, exchange


@pytest.fixture
def lenient(connect: Connect) -> Iterator[Client]:
    with Sandbox(cookie_auth=True) as sandbox:
        client = connect(sandbox, granted=True)
        assert client.get_live_session_token().status == 200
        yield client


def test_good_answers_set_it(client: Client) -> None:
    reply = client.get("/tickle")
    assert reply.headers["set-cookie"] == f"api={reply.json()['session']}; Path=/; Secure; HttpOnly"
    assert "set-cookie" not in client.get("/tickle", signature="AAAA").headers
    assert "set-cookie" not in client.get_live_session_token().headers


def test_it_can_be_left_out(connect: Connect) -> None:
    with Sandbox(send_cookie=False) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        assert "set-cookie" not in client.get("/tickle").headers


def test_whether_it_came_is_recorded_and_not_what(client: Client) -> None:
    client.get("/tickle", headers={"Cookie": "a=b; api=s3cret; c=d"})
    client.get("/tickle", headers={"Cookie": "a=b; apis=1"})
    client.get("/tickle")
    assert [one.cookie_sent for one in client.sandbox.requests[-3:]] == [True, False, False]
    assert "s3cret" not in repr(client.sandbox.requests)


def bare(client: Client, cookie: str | None, path: str = "/tickle") -> tuple[int, str]:
    headers = {"User-Agent": "x", "Content-Length": "0"} | ({} if cookie is None else {"Cookie": cookie})
    reply = exchange(client.sandbox, "POST", f"/v1/api{path}", headers)
    return reply.status, "" if reply.status == 200 else reply.error


def test_without_a_signature(lenient: Client) -> None:
    session = lenient.get("/tickle").json()["session"]
    assert bare(lenient, f"api={session}") == (200, "")
    assert bare(lenient, f"other=1; api={session}") == (200, "")
    assert bare(lenient, f"api={session[:-1]}") == (401, "unknown session in the cookie api")
    assert bare(lenient, "api=\xfc") == (401, "unknown session in the cookie api")
    assert bare(lenient, None) == (401, "missing Authorization header")
    assert bare(lenient, f"api={session}", "/oauth/request_token") == (401, "missing Authorization header")
    # A signature that is there is checked, cookie or not.
    assert lenient.get("/tickle", signature="AAAA", headers={"Cookie": f"api={session}"}).status == 401


def test_it_ends_with_the_live_session_token(lenient: Client) -> None:
    session = lenient.get("/tickle").json()["session"]
    lenient.sandbox.expire_token()
    headers = {"User-Agent": "x", "Cookie": f"api={session}"}
    reply = exchange(lenient.sandbox, "GET", "/v1/api/tickle", headers)
    assert (reply.status, reply.json()["detail"]) == (401, "Access token expired")
    lenient.sandbox.deactivate_consumer(lenient.consumer_key)
    assert exchange(lenient.sandbox, "GET", "/v1/api/tickle", headers).error == "invalid consumer"


def test_by_default_it_is_no_authentication(client: Client) -> None:
    session = client.get("/tickle").json()["session"]
    assert bare(client, f"api={session}") == (401, "missing Authorization header")
