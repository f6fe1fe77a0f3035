"""The brokerage session in other hands, lost the hidden way, and in maintenance."""

from __future__ import annotations

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client


def status(client: Client) -> tuple[bool, bool]:
    """Authenticated and competing, on which all three places must agree."""
    seen = client.post("/iserver/auth/status").json()
    tickled = client.post("/tickle").json()["iserver"]["authStatus"]
    assert (seen["authenticated"], seen["competing"]) == (tickled["authenticated"], tickled["competing"])
    return seen["authenticated"], seen["competing"]


def test_another_program_takes_over(client: Client) -> None:
    sandbox = client.sandbox
    assert client.open_brokerage().json()["authenticated"] is True
    assert sandbox.brokerage_holder() == client.consumer_key
    sandbox.compete_from("TWS")
    assert sandbox.brokerage_holder() == "TWS"
    assert status(client) == (False, True)
    refused = client.get("/iserver/accounts")
    assert (refused.status, refused.json()) == (401, {"error": "not authenticated", "statusCode": 401})
    assert client.get("/portfolio/accounts").status == 200


def test_compete_false_leaves_the_other_one(client: Client) -> None:
    client.sandbox.compete_from("TWS")
    yielded = client.open_brokerage(compete=False).json()
    assert (yielded["authenticated"], yielded["established"], yielded["competing"]) == (False, False, True)
    assert client.sandbox.brokerage_holder() == "TWS"


def test_compete_true_throws_it_out(client: Client) -> None:
    client.sandbox.compete_from("TWS")
    taken = client.open_brokerage(compete=True).json()
    assert (taken["authenticated"], taken["established"], taken["competing"]) == (True, True, False)
    assert client.sandbox.brokerage_holder() == client.consumer_key
    assert client.get("/iserver/accounts").status == 200


def test_the_other_one_logs_out(client: Client) -> None:
    client.open_brokerage()
    client.sandbox.compete_from("TWS")
    client.sandbox.stop_competing()
    assert client.sandbox.brokerage_holder() is None
    assert status(client) == (False, False)
    assert client.get("/iserver/accounts").error == "Bad Request: no bridge"
    assert client.open_brokerage().json()["authenticated"] is True
    client.sandbox.stop_competing()  # nobody else is there: ours stays
    assert status(client) == (True, False)


def test_another_user_is_not_touched(client: Client) -> None:
    client.open_brokerage()
    client.sandbox.compete_from("TWS", username="somebody")
    assert status(client) == (True, False)
    assert client.sandbox.brokerage_holder("somebody") == "TWS"


def test_the_other_one_never_falls_idle(connect: Connect) -> None:
    now = [1_700_000_000.0]
    with Sandbox(clock=lambda: now[0], brokerage_idle_timeout=60) as sandbox:
        sandbox.compete_from("TWS")
        now[0] += 100_000
        assert sandbox.brokerage_holder() == "TWS"


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="program"):
        Sandbox().compete_from("")
    with pytest.raises(ValueError, match="username"):
        Sandbox().compete_from("TWS", username="no good")
    with pytest.raises(ValueError, match="username"):
        Sandbox().stop_competing("no good")


def test_lose_session(client: Client) -> None:
    """A good status that hides an error, until the session is opened again."""
    client.open_brokerage()
    client.sandbox.lose_session()
    for _ in range(2):
        reply = client.post("/tickle")
        assert (reply.status, reply.json()) == (200, {"error": "no session"})
    assert client.post("/iserver/auth/status").json()["authenticated"] is False
    assert client.get("/iserver/accounts").error == "Bad Request: no bridge"
    assert client.open_brokerage().json()["authenticated"] is True
    assert status(client) == (True, False)


def test_maintenance(client: Client) -> None:
    sandbox = client.sandbox
    client.open_brokerage()
    sandbox.maintenance()
    for reply in (client.get("/tickle"), client.get("/portfolio/accounts"), client.get_live_session_token()):
        assert reply.status == 503
        assert reply.json() == {"error": "Service Unavailable", "statusCode": 503}
    assert not sandbox.requests[-1].processed
    sandbox.maintenance(on=False)
    assert status(client) == (False, False)  # with the same live session token
