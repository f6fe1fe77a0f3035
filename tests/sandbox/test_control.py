"""The control interface: the verbs of `Sandbox` over HTTP, for other languages."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from starlette.datastructures import Headers

from ibkr_oauth.sandbox import RecordedRequest, Sandbox, control

from .conftest import Keys
from .reference import Client, Reply, exchange


def post(sandbox: Sandbox, verb: str, value: object, content_type: str = "application/json") -> Reply:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    return exchange(sandbox, "POST", f"/_sandbox/{verb}", headers, body)


def registration(keys: Keys, **more: Any) -> dict[str, Any]:
    return {
        "consumer_key": "ABCDEFGHI",
        "signature_key": keys.signature_pem,
        "encryption_key": keys.encryption_pem,
        "dh_params": keys.dh_pem,
        **more,
    }


def test_a_client_in_another_language(sandbox: Sandbox, keys: Keys) -> None:
    reply = post(sandbox, "consumers", registration(keys, callback="oob"))
    assert reply.status == 201
    assert reply.json() == {
        "consumer_key": "ABCDEFGHI",
        "realm": "limited_poa",
        "callback": "oob",
        "active": True,
    }
    client = Client(sandbox, "ABCDEFGHI", keys.signature, keys.encryption, keys.prime)

    granted = post(sandbox, "grant", {"consumer_key": "ABCDEFGHI"}).json()
    client.access_token = granted["oauth_token"]
    client.encrypted_secret = granted["oauth_token_secret"]
    assert client.get_live_session_token().status == 200

    token = client.get_request_token().json()["oauth_token"]
    consented = post(sandbox, "consent", {"oauth_token": token, "username": "trader1"}).json()
    assert client.get_access_token(token, consented["oauth_verifier"]).status == 200
    assert client.access_token != granted["oauth_token"]

    recorded = exchange(sandbox, "GET", "/_sandbox/requests").json()
    assert [(one["method"], one["path"], one["status"]) for one in recorded] == [
        ("POST", "/v1/api/oauth/live_session_token", 200),
        ("POST", "/v1/api/oauth/request_token", 200),
        ("POST", "/v1/api/oauth/access_token", 200),
    ]
    assert set(recorded[0]) == {field.name for field in fields(RecordedRequest)}


@pytest.mark.parametrize(
    ("verb", "value", "status", "words"),
    [
        ("consumers", {}, 400, "consumer_key: missing or not text"),
        ("consumers", {"consumer_key": 1}, 400, "consumer_key: missing or not text"),
        ("consumers", [], 400, "the body is not a JSON object"),
        ("consumers", b"{", 400, "Expecting property name"),
        ("consumers", b"[" * 100_000, 400, "the body is nested too deeply"),
        ("grant", {"consumer_key": "NOBODY"}, 404, "consumer NOBODY is not registered"),
        ("consent", {"oauth_token": "0"}, 404, "unknown request token"),
        ("nothing", {}, 404, "Not Found"),
    ],
)
def test_errors(sandbox: Sandbox, verb: str, value: object, status: int, words: str) -> None:
    reply = post(sandbox, verb, value)
    assert reply.status == status
    assert reply.json()["error"].startswith(words)


def test_registration_errors(sandbox: Sandbox, keys: Keys) -> None:
    reply = post(sandbox, "consumers", registration(keys, active="yes"))
    assert (reply.status, reply.json()["error"]) == (400, "active: neither true nor false")
    reply = post(sandbox, "consumers", registration(keys, signature_key="x"))
    assert (reply.status, reply.json()["error"]) == (
        400,
        "signature key: not a public key in PEM form",
    )


def test_a_web_page_cannot_steer_it(sandbox: Sandbox, keys: Keys) -> None:
    """What a page on another origin can post without asking is not taken."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert post(sandbox, "consumers", registration(keys), content_type).status == 415
    assert exchange(sandbox, "GET", "/_sandbox/grant").status == 405
    assert post(sandbox, "requests", {}).status == 405


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.10", 1), True),
        (("::1", 1), True),
        (("192.0.2.1", 1), False),
        (("2001:db8::1", 1), False),
        (None, False),
    ],
)
def test_loopback_only(client: tuple[str, int] | None, allowed: bool) -> None:
    answer = control.answer(Sandbox(), client and client[0], "GET", "requests", Headers(), b"")
    assert answer.status == (200 if allowed else 403)


# --- The verbs --------------------------------------------------------------------------------------


def done(sandbox: Sandbox, verb: str, **arguments: Any) -> None:
    reply = post(sandbox, verb, arguments)
    assert (reply.status, reply.json()) == (200, {})


def ask(sandbox: Sandbox, question: str) -> Any:
    reply = exchange(sandbox, "GET", f"/_sandbox/{question}")
    assert reply.status == 200
    return reply.json()


def test_tokens_and_clock(client: Client) -> None:
    sandbox = client.sandbox
    done(sandbox, "expire_token")
    assert client.get("/tickle").status == 401
    client.get_live_session_token()
    done(sandbox, "skew", seconds=-4000.5)
    assert "ahead of" in client.get("/tickle").error
    done(sandbox, "skew", seconds=0)
    done(sandbox, "deactivate_consumer", consumer_key=client.consumer_key)
    assert client.get("/tickle").error == "invalid consumer"
    done(sandbox, "activate", consumer_key=client.consumer_key)
    done(sandbox, "shape_next_exchange", shape="odd_response")
    assert len(client.get_live_session_token().json()["diffie_hellman_response"]) % 2 == 1


def test_brokerage(client: Client) -> None:
    sandbox = client.sandbox
    client.open_brokerage()
    done(sandbox, "compete_from", program="TWS")
    assert sandbox.brokerage_holder() == "TWS"
    done(sandbox, "stop_competing", username="paper")
    assert sandbox.brokerage_holder() is None
    client.open_brokerage()
    done(sandbox, "end_brokerage")
    assert sandbox.brokerage_holder() is None
    done(sandbox, "lose_session")
    assert client.get("/tickle").json() == {"error": "no session"}
    done(sandbox, "maintenance")
    assert client.get("/tickle").status == 503
    done(sandbox, "maintenance", on=False)
    assert client.get("/tickle").status == 200


def test_failures(client: Client) -> None:
    sandbox = client.sandbox
    done(sandbox, "fail_next", status=410, body="gone", content_type="text/plain", path="/tickle")
    reply = client.get("/tickle")
    assert (reply.status, reply.body) == (410, b"gone")
    done(sandbox, "rate_limit", per_second=0.01, retry_after=7, path="/tickle")
    client.get("/tickle")
    assert client.get("/tickle").headers["retry-after"] == "7"
    done(sandbox, "rate_limit")
    done(sandbox, "drop_connection", before_processing=True)
    done(sandbox, "drop_connection", after_bytes=10, times=1, path="/tickle")
    for _ in range(2):
        with pytest.raises((OSError, http.client.HTTPException)):
            client.get("/tickle")
    done(sandbox, "drop_randomly", probability=1, seed=3)
    with pytest.raises((OSError, http.client.HTTPException)):
        client.get("/tickle")
    done(sandbox, "drop_randomly", probability=0)
    done(sandbox, "delay", seconds=0.05)
    began = time.monotonic()
    assert client.get("/tickle").status == 200
    assert time.monotonic() - began >= 0.05
    dropped = [one["dropped"] for one in ask(sandbox, "requests") if one["dropped"]]
    assert dropped[:2] == ["before processing", "in the answer"]


def test_questions(client: Client) -> None:
    sandbox = client.sandbox
    client.open_brokerage()
    account = client.get("/iserver/accounts").json()["accounts"][0]
    order = {"conid": 1, "side": "BUY", "orderType": "MKT", "quantity": 1, "cOID": "a1"}
    client.post(f"/iserver/account/{account}/orders", body={"orders": [order]})
    (listed,) = ask(sandbox, "orders")
    assert (listed["coid"], listed["account"], listed["status"]) == ("a1", account, "Filled")
    assert ask(sandbox, "counts") == {
        "/v1/api/oauth/live_session_token": 1,
        "/v1/api/iserver/auth/ssodh/init": 1,
        "/v1/api/iserver/accounts": 1,
        f"/v1/api/iserver/account/{account}/orders": 1,
    }
    assert ask(sandbox, "web_sockets") == []
    done(sandbox, "send_web_socket", text="hello")
    done(sandbox, "drop_web_sockets")


def test_connections(client: Client) -> None:
    """The answer still comes; what is open afterwards does not."""
    sandbox = client.sandbox
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as idle:
        idle.sendall(client.raw("GET", "/tickle"))
        assert idle.recv(12) == b"HTTP/1.1 200"
        done(sandbox, "drop_connections")
        with pytest.raises(ConnectionResetError):
            read_on(idle)


def read_on(own: socket.socket) -> None:
    while own.recv(65536):
        pass


def test_restart(client: Client) -> None:
    sandbox = client.sandbox
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as idle:
        idle.sendall(client.raw("GET", "/tickle"))
        assert idle.recv(12) == b"HTTP/1.1 200"
        done(sandbox, "restart")
        with suppress(ConnectionResetError):
            read_on(idle)
    deadline = time.monotonic() + 10
    while True:
        try:
            assert client.get("/tickle").status == 200
        except OSError:  # nobody listens for a moment
            assert time.monotonic() < deadline
        else:
            break


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("skew", {}, "seconds: missing or not a number"),
        ("skew", {"seconds": "1"}, "seconds: missing or not a number"),
        ("skew", {"seconds": True}, "seconds: missing or not a number"),
        ("fail_next", {"status": 503.5}, "status: missing or not a whole number"),
        ("fail_next", {"status": 99}, "status 99: from 200 to 599"),
        ("drop_connection", {"afterbytes": 1}, "afterbytes: no argument of this verb"),
        ("expire_token", {"when": 1}, "when: no argument of this verb; it takes none"),
        ("drop_randomly", {"probability": 2}, "probability 2"),
        ("drop_randomly", {"probability": 1, "seed": 1.5}, "seed: missing or not a whole number"),
        ("rate_limit", {"per_second": -1}, "per_second -1"),
        ("compete_from", {"program": ""}, "program"),
        ("maintenance", {"on": 1}, "on: neither true nor false"),
        ("shape_next_exchange", {"shape": "round"}, "shape 'round'"),
    ],
)
def test_wrong_arguments_change_nothing(client: Client, verb: str, arguments: dict[str, Any], words: str) -> None:
    reply = post(client.sandbox, verb, arguments)
    assert reply.status == 400
    assert reply.json()["error"].startswith(words)
    assert client.get("/tickle").status == 200


def test_asking_is_not_acting(sandbox: Sandbox) -> None:
    for question in control.QUESTIONS:
        assert post(sandbox, question, {}).status == 405
    for verb in control.VERBS:
        assert exchange(sandbox, "GET", f"/_sandbox/{verb}").status == 405


def test_every_verb_of_the_sandbox_is_there() -> None:
    """Except those that take a function, or that a client does by itself."""
    methods = {name for name in vars(Sandbox) if not name.startswith("_") and callable(getattr(Sandbox, name))}
    assert methods - {"start", "stop", "wait_until", "tamper_next", "brokerage_holder", "register"} <= set(
        control.VERBS
    )
