"""Misbehaviour on request."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from ibkr_oauth.sandbox import ExchangeShape, Sandbox

from .conftest import Connect
from .reference import Client

LST = "/oauth/live_session_token"


def test_expire_token(client: Client) -> None:
    client.sandbox.expire_token()
    reply = client.get("/portfolio/accounts")
    assert reply.status == 401
    assert reply.json()["detail"] == "Access token expired"
    assert client.get_live_session_token().status == 200
    assert client.get("/portfolio/accounts").status == 200


def test_end_brokerage(client: Client) -> None:
    client.open_brokerage()
    client.sandbox.end_brokerage()
    assert client.get("/iserver/accounts").error == "Bad Request: no bridge"
    assert client.get("/portfolio/accounts").status == 200


def test_skew(client: Client) -> None:
    client.sandbox.skew(3600)
    reply = client.get("/tickle")
    assert reply.error.startswith("oauth_timestamp is 3600 seconds behind") or (
        reply.error.startswith("oauth_timestamp is 3601 seconds behind")
    )
    date = parsedate_to_datetime(reply.headers["date"]).timestamp()
    assert date - time.time() == pytest.approx(3600, abs=3)
    corrected = {"oauth_timestamp": str(int(date))}
    assert client.get("/tickle", oauth=corrected).status == 200
    client.sandbox.skew(0)
    assert client.get("/tickle").status == 200


def test_fail_next(client: Client) -> None:
    client.sandbox.fail_next(503, times=2)
    for path in ("/tickle", "/portfolio/accounts"):
        reply = client.get(path)
        assert reply.status == 503
        assert reply.json() == {"error": "Service Unavailable", "statusCode": 503}
        assert "date" in reply.headers
    assert client.get("/tickle").status == 200
    assert [one.refusal for one in client.sandbox.requests[-3:]] == [
        "failed on request",
        "failed on request",
        None,
    ]


def test_fail_next_with_a_body(client: Client) -> None:
    client.sandbox.fail_next(410, body="<h1>gone</h1>", content_type="text/html", path="/tickle")
    assert client.get("/portfolio/accounts").status == 200
    reply = client.get("/tickle")
    assert (reply.status, reply.body) == (410, b"<h1>gone</h1>")
    assert reply.headers["content-type"] == "text/html"
    client.sandbox.fail_next(500, body=b'{"error":"failed to generate sso dh token"}')
    reply = client.open_brokerage()
    assert (reply.status, reply.error) == (500, "failed to generate sso dh token")
    assert client.open_brokerage().status == 200


def test_failures_come_in_the_order_of_arming(client: Client) -> None:
    client.sandbox.fail_next(503)
    client.sandbox.fail_next(429)
    assert [client.get("/tickle").status for _ in range(3)] == [503, 429, 200]


def test_a_failure_needs_no_valid_request(sandbox: Sandbox, consumer: Client) -> None:
    sandbox.fail_next(599)
    reply = consumer.get_request_token(headers={"User-Agent": None})
    assert reply.json() == {"error": "Status 599", "statusCode": 599}


def test_tamper_next(granted: Client) -> None:
    p = granted.prime
    for value in ("", "0", "1", f"{p - 1:x}", f"{p + 1:x}", "not hex"):

        def alter(body: dict[str, object], value: str = value) -> dict[str, object]:
            return body | {"diffie_hellman_response": value}

        granted.sandbox.tamper_next(LST, alter)
        reply = granted.send("POST", LST, **right_live_session_token_request(granted))
        assert reply.status == 200
        assert reply.json()["diffie_hellman_response"] == value
        assert len(reply.json()["live_session_token_signature"]) == 40


def right_live_session_token_request(client: Client) -> dict[str, Any]:
    return {
        "oauth": {
            "oauth_token": client.access_token,
            "diffie_hellman_challenge": f"{pow(2, 0x1234567, client.prime):x}",
        },
        "prepend": client.secret.hex(),
    }


def test_tamper_next_with_raw_bodies(granted: Client) -> None:
    sandbox, request = granted.sandbox, right_live_session_token_request(granted)
    sandbox.tamper_next(LST, lambda _: "<html>", content_type="text/html")
    reply = granted.send("POST", LST, **request)
    assert (reply.status, reply.body) == (200, b"<html>")
    assert reply.headers["content-type"] == "text/html"
    sandbox.tamper_next(LST, lambda _: b"x" * 3_000_000)
    assert len(granted.send("POST", LST, **request).body) == 3_000_000
    sandbox.tamper_next(LST, lambda body: {k: v for k, v in body.items() if "expiration" not in k})
    assert list(granted.send("POST", LST, **request).json()) == [
        "diffie_hellman_response",
        "live_session_token_signature",
    ]
    assert granted.get_live_session_token().status == 200


def test_tampering_hits_good_answers_of_its_path_only(client: Client) -> None:
    client.sandbox.tamper_next("/tickle", lambda _: {"error": "no session"})
    assert client.get("/portfolio/accounts").status == 200
    assert client.get("/tickle", signature="AAAA").status == 401
    assert client.get("/tickle").json() == {"error": "no session"}
    assert "session" in client.get("/tickle").json()


@pytest.mark.parametrize("shape", ["sign_byte", "short_secret", "odd_secret", "short_response", "odd_response"])
def test_shape_next_exchange(granted: Client, shape: ExchangeShape) -> None:
    """The reference client follows the rules, so it takes all of them."""
    a, p = 0xFEDCBA98765432100123456789ABCDEF, granted.prime
    granted.sandbox.shape_next_exchange(shape, times=2)
    for _ in range(2):
        answer = granted.get_live_session_token(a).json()
        response = answer["diffie_hellman_response"]
        shared = pow(int(response, 16), a, p)
        assert {
            "sign_byte": shared.bit_length() % 8 == 0,
            "short_secret": shared.bit_length() <= 2040,
            "odd_secret": len(f"{shared:x}") % 2 == 1,
            "short_response": int(response, 16).bit_length() <= 2040,
            "odd_response": len(response) % 2 == 1,
        }[shape]
        assert granted.get("/portfolio/accounts").status == 200


def test_shapes_need_not_come_by_chance(connect: Connect) -> None:
    """Without a shape, some of sixteen exchanges lack the sign byte; with it, none does."""
    with Sandbox() as sandbox:
        client = connect(sandbox, granted=True)

        def has_sign_byte() -> bool:
            response = client.get_live_session_token(0x1234567).json()["diffie_hellman_response"]
            return pow(int(response, 16), 0x1234567, client.prime).bit_length() % 8 == 0

        sandbox.shape_next_exchange("sign_byte", times=16)
        assert all(has_sign_byte() for _ in range(16))
        assert not all(has_sign_byte() for _ in range(64))


def test_nonsense_cannot_be_armed(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="times 0"):
        sandbox.fail_next(503, times=0)
    with pytest.raises(ValueError, match="status 99"):
        sandbox.fail_next(99)
    with pytest.raises(ValueError, match="times 0"):
        sandbox.tamper_next("/tickle", lambda body: body, times=0)
    with pytest.raises(ValueError, match="shape 'round'"):
        sandbox.shape_next_exchange("round")  # type: ignore[arg-type]
