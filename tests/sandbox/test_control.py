"""The control interface: the verbs of `Sandbox` over HTTP, for other languages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.requests import Request

from ibkr_oauth.sandbox import Sandbox, control
from ibkr_oauth.sandbox.state import Settings, State

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
    assert set(recorded[0]) == {"method", "path", "status", "headers", "query_rule", "refusal"}


@pytest.mark.parametrize(
    ("verb", "value", "status", "words"),
    [
        ("consumers", {}, 400, "consumer_key: missing or not text"),
        ("consumers", {"consumer_key": 1}, 400, "consumer_key: missing or not text"),
        ("consumers", [], 400, "the body is not a JSON object"),
        ("consumers", b"{", 400, "Expecting property name"),
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
    scope: dict[str, object] = {
        "type": "http",
        "method": "GET",
        "headers": [],
        "client": client,
        "path_params": {"verb": "requests"},
    }
    answer = control.answer(State(Settings(), clock=lambda: 0.0), [], Request(scope), b"")
    assert answer.status == (200 if allowed else 403)
