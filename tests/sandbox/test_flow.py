"""Right requests: the three legs, the two tiers, and every spelling that is right."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client, Pairs, authorization, base_string, exchange

HEX20 = re.compile(r"[0-9a-f]{20}")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


# --- The three legs ------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_three_legs_and_protected_calls(connect: Connect, tls: bool) -> None:
    with Sandbox(tls=tls, auto_consent=True) as sandbox:
        client = connect(sandbox, callback="http://localhost:20000/back?keep=1")

        reply = client.get_request_token()
        assert reply.status == 200
        assert list(reply.json()) == ["oauth_token"]
        request_token = reply.json()["oauth_token"]
        assert HEX20.fullmatch(request_token)

        target = f"{urlsplit(sandbox.authorize_url).path}?oauth_token={request_token}"
        redirect = exchange(sandbox, "GET", target)
        assert redirect.status == 302
        address = urlsplit(redirect.headers["location"])
        assert f"{address.scheme}://{address.netloc}{address.path}" == "http://localhost:20000/back"
        returned = parse_qs(address.query)
        assert returned["keep"] == ["1"]
        assert returned["oauth_token"] == [request_token]
        (verifier,) = returned["oauth_verifier"]
        assert HEX20.fullmatch(verifier)

        reply = client.get_access_token(request_token, verifier)
        assert reply.status == 200
        assert list(reply.json()) == ["is_paper", "oauth_token", "oauth_token_secret"]
        assert reply.json()["is_paper"] is True
        assert HEX20.fullmatch(client.access_token)
        assert len(client.encrypted_secret) == 344
        assert len(client.secret) == 32

        reply = client.get_live_session_token()
        assert reply.status == 200
        assert list(reply.json()) == [
            "diffie_hellman_response",
            "live_session_token_signature",
            "live_session_token_expiration",
        ]
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert client.expires_at_ms / 1000 - time.time() == pytest.approx(86400, abs=5)

        accounts = client.get("/portfolio/accounts").json()
        account = accounts[0]["accountId"]
        assert re.fullmatch(r"DU[0-9]{7}", account)
        rows = client.get(f"/portfolio/{account}/positions/0").json()
        assert {row["acctId"] for row in rows} == {account}
        assert client.get(f"/portfolio/{account}/positions/1").json() == []

        opened = client.open_brokerage()
        assert opened.json()["authenticated"] is True
        assert opened.json()["established"] is True
        assert client.get("/iserver/accounts").json()["accounts"] == [account]
        assert client.post("/logout").json() == {"status": True}


def test_callback_may_be_signed_with_the_access_token_request(sandbox: Sandbox, consumer: Client) -> None:
    request_token = consumer.get_request_token().json()["oauth_token"]
    verifier = sandbox.consent(request_token)
    reply = consumer.get_access_token(request_token, verifier, oauth={"oauth_callback": "oob"})
    assert reply.status == 200


def test_other_callbacks_than_oob_unless_strict(sandbox: Sandbox, consumer: Client) -> None:
    assert consumer.get_request_token(oauth={"oauth_callback": "localhost:5002"}).status == 200


def test_access_token_is_permanent_and_its_secret_is_renewed(sandbox: Sandbox, granted: Client) -> None:
    token, secret, former = granted.access_token, granted.encrypted_secret, granted.secret
    again = sandbox.grant("VECTORKEY")
    assert again[0] == token
    assert again[1] != secret
    refused = granted.get_live_session_token(prepend=former.hex())
    assert (refused.status, refused.error) == (401, "error 23804 Error validating signature")
    granted.encrypted_secret = again[1]
    assert granted.get_live_session_token().status == 200
    assert sandbox.grant("VECTORKEY", username="another")[0] != token


def test_request_token_flow_gives_the_portal_token(sandbox: Sandbox, granted: Client) -> None:
    portal_token = granted.access_token
    request_token = granted.get_request_token().json()["oauth_token"]
    granted.get_access_token(request_token, sandbox.consent(request_token))
    assert granted.access_token == portal_token


def test_json_parameters(sandbox: Sandbox, consumer: Client) -> None:
    def post(path: str, parameters: dict[str, str], prepend: str = "") -> dict[str, str]:
        everything = {
            "oauth_consumer_key": consumer.consumer_key,
            "oauth_nonce": f"nonce{time.monotonic_ns()}",
            "oauth_signature_method": "RSA-SHA256",
            "oauth_timestamp": str(int(time.time())),
            **parameters,
        }
        text = base_string("POST", sandbox.base_url + path, list(everything.items()), prepend)
        everything["oauth_signature"] = consumer.sign_rsa(text)
        reply = consumer.send("POST", path, headers={"Authorization": None}, body=everything, text="unused")
        assert reply.status == 200, reply.body
        answer: dict[str, str] = reply.json()
        return answer

    request_token = post("/oauth/request_token", {"oauth_callback": "oob"})["oauth_token"]
    verifier = sandbox.consent(request_token)
    answer = post("/oauth/access_token", {"oauth_token": request_token, "oauth_verifier": verifier})
    consumer.access_token = answer["oauth_token"]
    consumer.encrypted_secret = answer["oauth_token_secret"]
    challenge = {"diffie_hellman_challenge": f"{pow(2, 12345, consumer.prime):x}"}
    challenge["oauth_token"] = consumer.access_token
    answer = post("/oauth/live_session_token", challenge, consumer.secret.hex())
    consumer.finish(12345, answer)
    assert consumer.get("/portfolio/accounts").status == 200


def test_form_body_of_the_live_session_token_request_is_signed(granted: Client) -> None:
    """As IBKR's own capture has it: sent as it is, signed with the pipe encoded once."""
    form = "device_id=CCCCCC95|48-DF-37-57-33-80"
    assert granted.get_live_session_token(form=form).status == 200


# --- Headers that other people's clients send ----------------------------------------------------


Spelling = Callable[[Pairs], str]

SPELLINGS: dict[str, Spelling] = {
    "all sorted, realm last": lambda pairs: authorization(sorted(pairs)),
    "reversed": lambda pairs: authorization(pairs[::-1]),
    "bare commas": lambda pairs: authorization(pairs).replace(", ", ","),
    "wide commas": lambda pairs: authorization(pairs).replace(", ", " , "),
    "lower-case scheme": lambda pairs: authorization(pairs).replace("OAuth", "oauth"),
    "unquoted realm": lambda pairs: authorization(pairs).replace('"limited_poa"', "limited_poa"),
    "no realm": lambda pairs: authorization(pairs[1:]),
    "lower-case escapes": lambda pairs: authorization(pairs).replace("%3D", "%3d"),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_header_spellings(client: Client, spell: Spelling) -> None:
    pairs = [
        ("oauth_consumer_key", client.consumer_key),
        ("oauth_nonce", f"8e9d8a30-{time.monotonic_ns()}"),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", str(int(time.time()))),
        ("oauth_token", client.access_token),
    ]
    url = f"{client.sandbox.base_url}/tickle"
    signature = client.sign_hmac(base_string("POST", url, pairs))
    header = spell([("realm", "limited_poa"), *pairs, ("oauth_signature", signature)])
    reply = client.post("/tickle", header=header)
    assert reply.status == 200, reply.body


def test_oauth_version_may_be_sent_if_signed(client: Client) -> None:
    assert client.post("/tickle", oauth={"oauth_version": "1.0"}).status == 200


def test_host_header_plays_no_part(client: Client) -> None:
    assert client.post("/tickle", headers={"Host": "api.ibkr.com"}).status == 200


def test_public_url_is_what_gets_signed(connect: Connect) -> None:
    with Sandbox(public_url="https://API.ibkr.com:443/v1/api/") as sandbox:
        assert sandbox.base_url == "https://api.ibkr.com/v1/api"
        client = connect(sandbox, granted=True)
        assert client.get_live_session_token().status == 200
        listening = f"http://127.0.0.1:{sandbox.port}/v1/api/tickle"
        assert client.post("/tickle", signed={"url": listening}).status == 401


# --- Queries and bodies --------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["merge", "omit", "url"])
@pytest.mark.parametrize(
    "query",
    ["a=1", "symbol=EUR%2FUSD&q=a%20b", "b=2&b=1&a=&c", "conids=265598,8314", "name=%C3%BC&x=%FF"],
)
def test_query_rules_are_recorded(client: Client, rule: str, query: str) -> None:
    assert client.get("/portfolio/accounts", query=query, rule=rule).status == 200
    assert client.sandbox.requests[-1].query_rule == rule


def test_without_a_query_no_rule_is_recorded(client: Client) -> None:
    client.get("/portfolio/accounts")
    assert client.sandbox.requests[-1].query_rule is None


@pytest.mark.parametrize("allowed", ["merge", "omit", "url"])
@pytest.mark.parametrize("rule", ["merge", "omit", "url"])
def test_one_rule_alone_is_strict(connect: Connect, allowed: str, rule: str) -> None:
    with Sandbox(query_rules=[allowed]) as sandbox:  # type: ignore[list-item]
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        reply = client.get("/portfolio/accounts", query="a=b%20c", rule=rule)
        assert reply.status == (200 if rule == allowed else 401)


def test_rfc5849_rule(connect: Connect) -> None:
    """The worked example of RFC 5849, 3.4.1.1: what is encoded twice there is so here."""
    with Sandbox(query_rules=["rfc5849"]) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        oauth = {"oauth_nonce": "n1"}
        query = "b5=%3D%253D&a3=a&c%40=&a2=r%20b"
        encoded = [("a2", "r%20b"), ("a3", "a"), ("b5", "%3D%253D"), ("c%40", "")]
        pairs = [
            ("oauth_consumer_key", client.consumer_key),
            ("oauth_nonce", "n1"),
            ("oauth_signature_method", "HMAC-SHA256"),
            ("oauth_timestamp", str(int(time.time()))),
            ("oauth_token", client.access_token),
        ]
        oauth["oauth_timestamp"] = pairs[3][1]
        reply = client.get("/portfolio/accounts", oauth=oauth, query=query, signed={"pairs": pairs + encoded})
        assert reply.status == 200
        assert client.get("/portfolio/accounts", query=query, rule="merge").status == 401


def test_query_rules_must_be_known() -> None:
    with pytest.raises(ValueError, match="query_rules"):
        Sandbox(query_rules=["marge"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="query_rules"):
        Sandbox(query_rules=[])


def test_form_body_joins_under_every_rule(client: Client) -> None:
    path = "/iserver/auth/ssodh/init"
    for rule in ("merge", "omit", "url"):
        form = "publish=true&compete=false"
        assert client.post(path, form=form, rule=rule).status == 200
    charset = {"Content-Type": "Application/X-WWW-Form-Urlencoded; charset=utf-8"}
    assert client.post(path, form="publish=true&a=b+c", headers=charset).status == 200
    unsigned = client.post(path, form="publish=true", signed={"pairs": []})
    assert (unsigned.status, unsigned.error) == (401, "Invalid signature")


def test_publish_and_compete_in_the_query(client: Client) -> None:
    reply = client.post("/iserver/auth/ssodh/init", query="publish=true&compete=true", rule="merge")
    assert reply.json()["authenticated"] is True


# --- The two tiers -------------------------------------------------------------------------------


def test_brokerage_tier(client: Client) -> None:
    refused = client.get("/iserver/accounts")
    assert refused.status == 400
    assert refused.json() == {"error": "Bad Request: no bridge", "statusCode": 400}
    assert client.post("/iserver/auth/status").json()["authenticated"] is False
    tickled = client.post("/tickle").json()
    assert tickled["iserver"]["authStatus"]["authenticated"] is False

    unpublished = client.post("/iserver/auth/ssodh/init", body={"publish": False, "compete": True})
    assert unpublished.status == 500
    assert client.open_brokerage().json()["competing"] is False
    assert client.get("/iserver/auth/status").json()["authenticated"] is True
    tickled = client.get("/tickle").json()
    assert tickled["hmds"] == {"error": "no bridge"}
    assert re.fullmatch(r"[0-9a-f]{32}", tickled["session"])
    assert tickled["iserver"]["authStatus"]["authenticated"] is True
    assert client.get("/iserver/accounts").status == 200

    client.post("/logout")
    assert client.get("/iserver/accounts").status == 400
    assert client.get("/portfolio/accounts").status == 200


def test_snapshot_is_primed(client: Client) -> None:
    client.open_brokerage()
    path, query = "/iserver/marketdata/snapshot", "conids=265598,8314&fields=31,84,9999"
    refused = client.get(path, query=query)
    assert (refused.status, refused.error) == (500, "Please query /accounts first")
    client.get("/iserver/accounts")
    first = client.get(path, query=query).json()
    assert first == [
        {"conid": 265598, "conidEx": "265598"},
        {"conid": 8314, "conidEx": "8314"},
    ]
    rows = client.get(path, query=query).json()
    assert [row["conid"] for row in rows] == [265598, 8314]
    assert all("31" in row and "84" in row and "9999" not in row for row in rows)
    assert client.get(path).status == 400


def test_brokerage_session_times_out_without_calls(connect: Connect) -> None:
    clock = Clock()
    with Sandbox(clock=clock, brokerage_idle_timeout=60, skew_window=600) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        client.open_brokerage()
        clock.now += 59
        assert client.post("/tickle").json()["iserver"]["authStatus"]["authenticated"] is True
        clock.now += 59
        assert client.get("/iserver/accounts").status == 200
        clock.now += 61
        assert client.get("/iserver/accounts").status == 400


def test_one_brokerage_session_for_each_username(sandbox: Sandbox, connect: Connect) -> None:
    first = connect(sandbox, granted=True)
    second = connect(sandbox, "OTHERKEYS", granted=True)
    for client in (first, second):
        assert client.get_live_session_token().status == 200
    assert first.open_brokerage().json()["authenticated"] is True
    loser = second.open_brokerage().json()
    assert (loser["authenticated"], loser["competing"]) == (False, True)
    assert first.get("/iserver/accounts").status == 200
    assert second.open_brokerage(compete=True).json()["authenticated"] is True
    status = first.post("/iserver/auth/status").json()
    assert (status["authenticated"], status["competing"]) == (False, True)
    refused = first.get("/iserver/accounts")
    assert (refused.status, refused.error) == (401, "not authenticated")


def test_foreign_account_gets_an_empty_401(client: Client) -> None:
    reply = client.get("/portfolio/DU0000000/positions/0")
    assert (reply.status, reply.body) == (401, b"")
    assert client.sandbox.requests[-1].refusal == "not an account of this user"


def test_sso_validate_is_not_for_oauth_1(client: Client) -> None:
    assert client.get("/sso/validate").status == 401


def test_unknown_path_and_method_after_verification(client: Client) -> None:
    assert client.get("/nowhere").status == 404
    assert client.send("DELETE", "/tickle").status == 405
    assert client.get("/nowhere", signature="AAAA").error == "Invalid signature"


# --- Live session tokens -------------------------------------------------------------------------


@pytest.fixture
def two_tokens(request: pytest.FixtureRequest, connect: Connect) -> Iterator[tuple[Client, bytes]]:
    """A client that has got a second live session token, and its first one."""
    with Sandbox(keep_former_live_session_tokens=request.param) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        former = client.live_session_token
        client.get_live_session_token()
        yield client, former


@pytest.mark.parametrize(("two_tokens", "expected"), [(False, 401), (True, 200)], indirect=["two_tokens"])
def test_former_live_session_token(two_tokens: tuple[Client, bytes], expected: int) -> None:
    client, former = two_tokens
    assert client.get("/portfolio/accounts").status == 200
    client.live_session_token = former
    assert client.get("/portfolio/accounts").status == expected


def test_live_session_token_expires(connect: Connect) -> None:
    clock = Clock()
    with Sandbox(clock=clock, live_session_token_lifetime=100) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        assert client.expires_at_ms == int((clock.now + 100) * 1000)
        clock.now += 99
        assert client.get("/portfolio/accounts").status == 200
        clock.now += 1
        reply = client.get("/portfolio/accounts")
        assert reply.status == 401
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json() == {
            "type": "/simple",
            "title": "Unauthorized",
            "status": 401,
            "detail": "Access token expired",
        }
        # A wrong signature is told before the expiry is.
        assert client.get("/portfolio/accounts", signature="AAAA").error == "Invalid signature"
        assert client.get_live_session_token().status == 200
        assert client.get("/portfolio/accounts").status == 200
