"""Wrong requests: each check of the service, in its order, with the words of its refusal."""

from __future__ import annotations

import base64
import http.client
import re
import string
import time
from typing import Any

import pytest

from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.sandbox.state import Settings, State

from .conftest import Connect
from .reference import Client, Reply, authorization, base_string, encode, exchange


def refusal(reply: Reply) -> str:
    """The words of a refusal in the service's numbered shape, which is checked as well."""
    body = reply.json()
    assert reply.status == 401
    assert list(body) == ["error", "statusCode"]
    assert body["statusCode"] == 401
    assert re.fullmatch(r"id: [0-9]+, error: .+", body["error"])
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    return reply.error


# --- 1. The network's edge -----------------------------------------------------------------------


@pytest.mark.parametrize("agent", [None, ""])
def test_user_agent_is_required(client: Client, agent: str | None) -> None:
    reply = client.post("/tickle", headers={"User-Agent": agent})
    assert reply.status == 403
    assert reply.headers["content-type"].startswith("text/html")
    assert b"<h1>Access Denied</h1>" in reply.body


def test_empty_post_needs_a_content_length(client: Client) -> None:
    reply = client.post("/tickle", headers={"Content-Length": None})
    assert reply.status == 411
    assert client.get("/tickle", headers={"Content-Length": None}).status == 200


def test_chunked_post_needs_no_content_length(client: Client) -> None:
    reply = client.post("/tickle", headers={"Content-Length": None, "Transfer-Encoding": "chunked"})
    assert reply.status == 200


# --- 2. The parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "missing Authorization header"),
        ("Bearer abc", "Authorization header does not begin with OAuth"),
        ("OAuth", "Authorization header does not begin with OAuth"),
        ("OAuth ", "Authorization header does not begin with OAuth"),
        ('OAuthrealm="limited_poa"', "Authorization header does not begin with OAuth"),
        ("OAuth !", "Authorization header cannot be read: at character 7"),
        ('OAuth realm="limited_poa', "Authorization header cannot be read: at character 7"),
        ('OAuth realm="a" realm="b"', "Authorization header cannot be read: at character 7"),
        ('OAuth realm="limited_poa",', "Authorization header cannot be read: it ends in a comma"),
        ("OAuth oauth_nonce=1", "Authorization header cannot be read: oauth_nonce is not quoted"),
        (
            'OAuth oauth_nonce="%4"',
            "Authorization header cannot be read: oauth_nonce has an incomplete percent escape",
        ),
        (
            'OAuth oauth_nonce="%ff"',
            "Authorization header cannot be read: oauth_nonce is not UTF-8",
        ),
        ('{}, oauth_nonce="again"', "duplicate parameter oauth_nonce"),
        ('OAuth oauth_token="47b63b7961c51e1df1e6"', "missing parameter oauth_consumer_key"),
    ],
)
def test_authorization_header(granted: Client, header: str | None, words: str) -> None:
    granted.live_session_token = bytes(20)
    if header is None:
        reply = granted.post("/tickle", headers={"Authorization": None})
    else:
        reply = granted.post("/tickle", header=header)
    assert refusal(reply) == words


def test_two_authorization_headers(client: Client) -> None:
    twice = [("Authorization", "OAuth a"), ("Authorization", "OAuth b"), ("User-Agent", "x")]
    reply = exchange(client.sandbox, "GET", "/v1/api/tickle", raw_headers=twice)
    assert refusal(reply) == "duplicate parameter Authorization"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for path, more in (
            ("/oauth/request_token", ["oauth_callback"]),
            ("/oauth/access_token", ["oauth_token", "oauth_verifier"]),
            ("/oauth/live_session_token", ["oauth_token", "diffie_hellman_challenge"]),
            ("/tickle", ["oauth_token"]),
        )
        for name in (
            "oauth_consumer_key",
            "oauth_nonce",
            "oauth_signature",
            "oauth_signature_method",
            "oauth_timestamp",
            *more,
        )
    ],
)
def test_required_parameters(granted: Client, path: str, name: str) -> None:
    granted.live_session_token = bytes(20)  # these refusals come before any signature is looked at
    everything: dict[str, str | None] = {
        "oauth_callback": "oob",
        "oauth_token": granted.access_token,
        "oauth_verifier": "01028463e73960e27b3f",
        "diffie_hellman_challenge": "1234",
    }
    for value in (None, ""):
        if name == "oauth_signature":
            pairs = [("oauth_consumer_key", "VECTORKEY"), ("oauth_nonce", "n")]
            pairs += [("oauth_signature_method", "x"), ("oauth_timestamp", "1")]
            pairs += [("oauth_signature", "")] if value == "" else []
            reply = granted.post(path, header=authorization(pairs))
        else:
            reply = granted.post(path, oauth={**everything, name: value})
        assert refusal(reply) == f"missing parameter {name}"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "Bad Request: the body is not JSON"),
        (b"[]", 400, "Bad Request: the body is not a JSON object"),
        (b'{"a":1}', 400, "Bad Request: a must be a string of printable characters"),
        (b'{"a":"\\ud800"}', 400, "Bad Request: a must be a string of printable characters"),
        (b'{"a":"1","a":"2"}', 401, "duplicate parameter a"),
        (b"{}", 401, "missing parameter oauth_consumer_key"),
        (b"", 401, "missing Authorization header"),
    ],
)
def test_json_parameters(sandbox: Sandbox, body: bytes, status: int, words: str) -> None:
    headers = {"User-Agent": "x", "Content-Type": "application/json"}
    headers["Content-Length"] = str(len(body))
    reply = exchange(sandbox, "POST", "/v1/api/oauth/request_token", headers, body)
    assert (reply.status, reply.error) == (status, words)


def test_json_parameters_are_for_the_oauth_endpoints_only(client: Client) -> None:
    reply = client.post("/tickle", headers={"Authorization": None}, body={"oauth_nonce": "1"})
    assert refusal(reply) == "missing Authorization header"


# --- 3. The consumer -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["UNKNOWNKEY", "vectorkey", "VECTORKEY "])
def test_unknown_consumer(consumer: Client, key: str) -> None:
    reply = consumer.get_request_token(oauth={"oauth_consumer_key": key})
    assert refusal(reply) == "invalid consumer"


def test_trace_numbers_differ(consumer: Client) -> None:
    def number() -> str:
        reply = consumer.get_request_token(oauth={"oauth_consumer_key": "X"})
        return str(reply.json()["error"]).partition(",")[0]

    assert number() != number()


def test_activation(sandbox: Sandbox, connect: Connect) -> None:
    waiting = connect(sandbox, active=False)
    assert refusal(waiting.get_request_token()) == "invalid consumer"
    sandbox.activate("VECTORKEY")
    assert waiting.get_request_token().status == 200
    sandbox.deactivate_consumer("VECTORKEY")
    assert refusal(waiting.get_request_token()) == "invalid consumer"
    for verb in (sandbox.activate, sandbox.deactivate_consumer, sandbox.grant):
        with pytest.raises(LookupError, match="NOBODY is not registered"):
            verb("NOBODY")


# --- 4. Realm, method, version -------------------------------------------------------------------


def test_realm(client: Client) -> None:
    client.realm = "test_realm"
    assert refusal(client.post("/tickle")) == "wrong realm, this consumer uses limited_poa"
    assert client.get_request_token().error == "wrong realm, this consumer uses limited_poa"


def test_realm_of_the_consumer(sandbox: Sandbox, connect: Connect) -> None:
    special = connect(sandbox, realm="own_realm")
    assert refusal(special.get_request_token()) == "wrong realm, this consumer uses own_realm"
    special.realm = "own_realm"
    assert special.get_request_token().status == 200


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/oauth/request_token", "HMAC-SHA256", "RSA-SHA256"),
        ("/oauth/request_token", "RSA-SHA1", "RSA-SHA256"),
        ("/tickle", "RSA-SHA256", "HMAC-SHA256"),
        ("/tickle", "hmac-sha256", "HMAC-SHA256"),
        ("/tickle", "PLAINTEXT", "HMAC-SHA256"),
    ],
)
def test_signature_method(client: Client, path: str, method: str, expected: str) -> None:
    oauth = {"oauth_signature_method": method, "oauth_callback": "oob"}
    words = f"oauth_signature_method must be {expected} here"
    assert refusal(client.post(path, oauth=oauth)) == words


def test_version(client: Client) -> None:
    words = "oauth_version must be absent or 1.0"
    assert refusal(client.post("/tickle", oauth={"oauth_version": "2.0"})) == words


def test_strict_callback(connect: Connect) -> None:
    with Sandbox(strict_callback=True) as sandbox:
        consumer = connect(sandbox)
        assert consumer.get_request_token().status == 200
        reply = consumer.get_request_token(oauth={"oauth_callback": "localhost:5002"})
        assert refusal(reply) == "oauth_callback must be oob"


# --- 5. Timestamp and nonce ----------------------------------------------------------------------


@pytest.mark.parametrize("timestamp", ["123456789", "1717600900000", "17176009.0", "-171760090", "\uff11717600900"])
def test_timestamp_has_ten_digits(client: Client, timestamp: str) -> None:
    reply = client.post("/tickle", oauth={"oauth_timestamp": timestamp})
    assert refusal(reply) == "oauth_timestamp must have 10 digits, the seconds since 1970"


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (-300, None),
        (300, None),
        (-301, "oauth_timestamp is 301 seconds behind the server's clock, 300 are allowed"),
        (301, "oauth_timestamp is 301 seconds ahead of the server's clock, 300 are allowed"),
    ],
)
def test_timestamp_window(connect: Connect, offset: int, words: str | None) -> None:
    now = int(time.time())
    with Sandbox(clock=lambda: now + 0.9) as sandbox:
        consumer = connect(sandbox)
        reply = consumer.get_request_token(oauth={"oauth_timestamp": str(now + offset)})
        assert (refusal(reply) if words else reply.status) == (words or 200)


def test_replayed_nonce(client: Client) -> None:
    now = int(time.time())
    oauth = {"oauth_nonce": "once", "oauth_timestamp": str(now)}
    assert client.post("/tickle", oauth=oauth).status == 200
    assert refusal(client.post("/tickle", oauth=oauth)) == "oauth_nonce was used before"
    assert refusal(client.get("/portfolio/accounts", oauth=oauth)) == "oauth_nonce was used before"
    earlier = {**oauth, "oauth_timestamp": str(now - 1)}
    assert client.post("/tickle", oauth=earlier).status == 200


def test_replayed_nonce_at_the_oauth_endpoints(consumer: Client) -> None:
    oauth = {"oauth_nonce": "once", "oauth_timestamp": str(int(time.time()))}
    assert consumer.get_request_token(oauth=oauth).status == 200
    assert refusal(consumer.get_request_token(oauth=oauth)) == "oauth_nonce was used before"


def test_a_refused_signature_does_not_use_up_the_nonce(client: Client) -> None:
    oauth = {"oauth_nonce": "once", "oauth_timestamp": str(int(time.time()))}
    assert client.post("/tickle", oauth=oauth, signature="AAAA").error == "Invalid signature"
    assert client.post("/tickle", oauth=oauth).status == 200


def test_nonces_are_forgotten_only_when_stale() -> None:
    """Ten thousand requests make the memory of nonces clean itself; none may slip through."""
    now = 1_717_600_900.0
    state = State(Settings(), clock=lambda: now)
    for number in range(10_001):
        state.remember_nonce("C", "T", str(int(now) - number % 300), f"n{number}")
    for number in (0, 299, 9_999, 10_000):
        assert state.nonce_was_used("C", "T", str(int(now) - number % 300), f"n{number}")
    now += 301
    for number in range(10_000):
        state.remember_nonce("C", "T", str(int(now)), f"later{number}")
    assert state.nonce_was_used("C", "T", str(int(now)), "later0")
    assert not state.nonce_was_used("C", "T", "1717600900", "n0")
    assert state.nonce_was_used("C", "T", str(int(now)), "later9999")


# --- 6. Tokens -----------------------------------------------------------------------------------


def test_request_token_states(sandbox: Sandbox, consumer: Client) -> None:
    assert refusal(consumer.get_access_token("0" * 20, "1")) == "unknown request token"

    token = consumer.get_request_token().json()["oauth_token"]
    words = "the user has not approved this request token yet"
    assert refusal(consumer.get_access_token(token, "1")) == words

    verifier = sandbox.consent(token)
    assert refusal(consumer.get_access_token(token, "1" * 20)) == "oauth_verifier is wrong"
    assert refusal(consumer.get_access_token(token, verifier.upper() + "A")) == ("oauth_verifier is wrong")
    wrong = consumer.get_access_token(token, verifier, signature="AAAA")
    assert refusal(wrong) == "error 23804 Error validating signature"
    assert consumer.get_access_token(token, verifier).status == 200  # a failure uses up nothing
    words = "request token was used before, each is good for one access token"
    assert refusal(consumer.get_access_token(token, verifier)) == words


def test_request_token_expires(connect: Connect) -> None:
    now = time.time()
    with Sandbox(clock=lambda: now, request_token_lifetime=60) as sandbox:
        consumer = connect(sandbox)
        token = consumer.get_request_token().json()["oauth_token"]
        verifier = sandbox.consent(token)
        now += 60
        assert refusal(consumer.get_access_token(token, verifier)) == "request token has expired"
        with pytest.raises(LookupError, match="has expired"):
            sandbox.consent(token)


def test_tokens_of_another_consumer(sandbox: Sandbox, connect: Connect) -> None:
    first, second = connect(sandbox, granted=True), connect(sandbox, "OTHERKEYS", granted=True)
    token = first.get_request_token().json()["oauth_token"]
    reply = second.get_access_token(token, sandbox.consent(token))
    assert refusal(reply) == "request token belongs to another consumer"
    first.get_live_session_token()
    second.get_live_session_token()
    second.access_token = first.access_token
    for reply in (second.get("/tickle"), second.get_live_session_token()):
        assert refusal(reply) == "access token belongs to another consumer"


def test_unknown_access_token(client: Client) -> None:
    client.access_token = "0" * 20
    assert refusal(client.get("/tickle")) == "unknown access token"
    words = f"LST failed, error: No access secret key found for {'0' * 20}"
    assert refusal(client.get_live_session_token()) == words


def test_no_live_session_token_yet(granted: Client) -> None:
    granted.live_session_token = b"x" * 20
    words = "no live session token was requested for this access token"
    assert refusal(granted.get("/tickle")) == words


# --- 7. The signature ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tampering",
    [
        pytest.param({"signed": {"method": "GET"}}, id="method"),
        pytest.param({"signed": {"url": "https://api.ibkr.com/v1/api{path}"}}, id="other host"),
        pytest.param({"signed": {"url": "{base}{path}/"}}, id="trailing slash"),
        pytest.param({"signed": {"url": "{base_tls}{path}"}}, id="scheme"),
        pytest.param({"signed": {"pairs": []}}, id="no parameters"),
        pytest.param({"signed": {"prepend": "00"}}, id="prepend"),
        pytest.param({"text": ""}, id="empty base string"),
        pytest.param({"signature": "AAAA"}, id="short signature"),
        pytest.param({"signature": "not base64!"}, id="not base64"),
        pytest.param({"form": "a=1", "signed": {"pairs": []}}, id="unsigned form"),
    ],
)
@pytest.mark.parametrize("path", ["/oauth/request_token", "/oauth/live_session_token", "/tickle"])
def test_tampered_signatures(client: Client, path: str, tampering: dict[str, Any]) -> None:
    deviations = dict(tampering)
    if "url" in tampering.get("signed", {}):
        base = client.sandbox.base_url
        url = tampering["signed"]["url"]
        deviations["signed"] = {"url": url.format(base=base, path=path, base_tls=base.replace("http:", "https:"))}
    words = "error 23804 Error validating signature"
    if path == "/oauth/request_token":
        reply = client.get_request_token(**deviations)
    elif path == "/oauth/live_session_token":
        if "prepend" in tampering.get("signed", {}):
            deviations = {"prepend": "00"}
        reply = client.get_live_session_token(None, **deviations)
    else:
        reply, words = client.post(path, **deviations), "Invalid signature"
    assert refusal(reply) == words


def test_every_bit_of_an_hmac_signature_counts(client: Client) -> None:
    timestamp = str(int(time.time()))
    oauth = {"oauth_nonce": "n", "oauth_timestamp": timestamp}
    pairs = [("oauth_consumer_key", client.consumer_key), *oauth.items()]
    pairs += [("oauth_signature_method", "HMAC-SHA256"), ("oauth_token", client.access_token)]
    text = client.sign_hmac(base_string("POST", f"{client.sandbox.base_url}/tickle", pairs))
    right = base64.b64decode(text)

    def send(signature: str) -> Reply:
        return client.post("/tickle", oauth=oauth, signature=signature)

    for bit in range(0, 256, 5):
        flipped = bytearray(right)
        flipped[bit // 8] ^= 1 << bit % 8
        assert send(base64.b64encode(flipped).decode()).error == "Invalid signature"
    # The last digit before the padding has two bits that mean nothing: another spelling.
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    respelled = text[:-2] + alphabet[alphabet.index(text[-2]) + 1] + "="
    assert base64.b64decode(respelled) == right
    assert send(respelled).error == "Invalid signature"
    assert send(text).status == 200


def test_bits_of_an_rsa_signature_count(consumer: Client) -> None:
    oauth = {
        "oauth_callback": "oob",
        "oauth_nonce": "n",
        "oauth_timestamp": str(int(time.time())),
    }
    pairs = [("oauth_consumer_key", consumer.consumer_key), *oauth.items()]
    pairs += [("oauth_signature_method", "RSA-SHA256")]
    url = f"{consumer.sandbox.base_url}/oauth/request_token"
    right = base64.b64decode(consumer.sign_rsa(base_string("POST", url, pairs)))
    for bit in range(0, 2048, 101):
        flipped = bytearray(right)
        flipped[bit // 8] ^= 1 << bit % 8
        reply = consumer.get_request_token(oauth=oauth, signature=base64.b64encode(flipped).decode())
        assert refusal(reply) == "error 23804 Error validating signature"
    reply = consumer.get_request_token(oauth=oauth, signature=base64.b64encode(right).decode())
    assert reply.status == 200


def test_access_token_request_tampered(sandbox: Sandbox, consumer: Client) -> None:
    token = consumer.get_request_token().json()["oauth_token"]
    verifier = sandbox.consent(token)
    reply = consumer.get_access_token(token, verifier, signed={"method": "GET"})
    assert refusal(reply) == "error 23804 Error validating signature"


def test_wrong_keys(client: Client) -> None:
    right, client.signature_key = client.signature_key, client.encryption_key
    assert refusal(client.get_request_token()) == "error 23804 Error validating signature"
    client.signature_key = right
    client.live_session_token = bytes(20)
    assert refusal(client.get("/tickle")) == "Invalid signature"


def test_double_encoded_signature(consumer: Client) -> None:
    """As some official examples print it; the real service refuses it with these words."""
    oauth = {"oauth_nonce": "n", "oauth_timestamp": str(int(time.time())), "oauth_callback": "oob"}
    pairs = [("oauth_consumer_key", consumer.consumer_key), *oauth.items()]
    pairs += [("oauth_signature_method", "RSA-SHA256")]
    url = f"{consumer.sandbox.base_url}/oauth/request_token"
    signature = consumer.sign_rsa(base_string("POST", url, pairs))
    reply = consumer.get_request_token(oauth=oauth, signature=encode(signature))
    assert refusal(reply) == "error 23804 Error validating signature"
    assert consumer.get_request_token(oauth=oauth, signature=signature).status == 200


# --- 8. The live session token -------------------------------------------------------------------


def test_challenge(granted: Client) -> None:
    hexadecimal = "diffie_hellman_challenge must be hexadecimal, without 0x"
    range_words = "diffie_hellman_challenge must lie between 2 and p - 2"
    p = granted.prime
    for challenge, words in (
        ("0x1f", hexadecimal),
        ("12 34", hexadecimal),
        ("-2", hexadecimal),
        ("xyz", hexadecimal),
        ("0", range_words),
        ("1", range_words),
        (f"{p - 1:x}", range_words),
        (f"{p:x}", range_words),
        (f"{p + 2:x}", range_words),
    ):
        reply = granted.get_live_session_token(oauth={"diffie_hellman_challenge": challenge})
        assert refusal(reply) == words, challenge


@pytest.mark.parametrize("spell", ["{:x}", "{:X}", "{:0512x}", "00{:x}"])
def test_challenge_is_parsed_as_a_number(granted: Client, spell: str) -> None:
    a = 0x1234567
    challenge = spell.format(pow(2, a, granted.prime))
    reply = granted.get_live_session_token(a, oauth={"diffie_hellman_challenge": challenge})
    assert reply.status == 200


def test_response_is_lower_case_hex_without_padding(granted: Client) -> None:
    for _ in range(20):
        response = granted.get_live_session_token().json()["diffie_hellman_response"]
        assert re.fullmatch(r"[1-9a-f][0-9a-f]*", response)


# --- The order of the checks ---------------------------------------------------------------------


def test_order(client: Client) -> None:
    """Start with every fault at once and mend one after the other."""
    client.realm = "test_realm"
    faults: dict[str, str | None] = {
        "oauth_nonce": None,
        "oauth_consumer_key": "NOBODY",
        "oauth_signature_method": "RSA-SHA256",
        "oauth_version": "2.0",
        "oauth_timestamp": "1",
        "oauth_token": "0" * 20,
    }
    agent: dict[str, str | None] = {"User-Agent": None, "Content-Length": None}

    def words() -> str:
        reply = client.post("/iserver/nowhere", oauth=faults, headers=agent, signature="AAAA")
        return reply.error if reply.status != 403 else "403"

    assert words() == "403"
    del agent["User-Agent"]
    assert words().startswith("Length Required")
    del agent["Content-Length"]
    assert words() == "missing parameter oauth_nonce"
    del faults["oauth_nonce"]
    assert words() == "invalid consumer"
    del faults["oauth_consumer_key"]
    assert words().startswith("wrong realm")
    client.realm = "limited_poa"
    assert words().startswith("oauth_signature_method must be")
    del faults["oauth_signature_method"]
    assert words().startswith("oauth_version must be")
    del faults["oauth_version"]
    assert words().startswith("oauth_timestamp must have")
    del faults["oauth_timestamp"]
    assert words() == "unknown access token"
    del faults["oauth_token"]
    assert words() == "Invalid signature"
    assert client.post("/iserver/nowhere").error == "Bad Request: no bridge"
    client.open_brokerage()
    assert client.post("/iserver/nowhere").status == 404


def test_malformed_http_is_not_a_traceback(sandbox: Sandbox) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=5)
    connection.connect()
    connection.sock.sendall(b"\x16\x03\x01 not http\r\n\r\n")
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 400")
    connection.close()
