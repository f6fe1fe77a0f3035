"""Explanations of refused signatures."""

from __future__ import annotations

import base64
import hmac
import logging
import re
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client, Pairs, Reply, base_string, encode

ASK = {"X-Sandbox-Explain": "1"}


def explanation(reply: Reply) -> str:
    assert reply.status == 401
    text = reply.headers["x-sandbox-explanation"]
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 6000
    return text


def own_pairs(client: Client, **more: str) -> tuple[dict[str, str | None], Pairs]:
    """Parameters with a nonce and a time of our own, for `oauth=` and for a base string."""
    oauth: dict[str, str | None] = {"oauth_nonce": "n", "oauth_timestamp": str(int(time.time()))}
    oauth.update(more)
    pairs = [("oauth_consumer_key", client.consumer_key)]
    pairs += [(name, value) for name, value in oauth.items() if value is not None]
    method = "RSA-SHA256" if "oauth_callback" in more or "oauth_verifier" in more else "HMAC-SHA256"
    pairs.append(("oauth_signature_method", method))
    if method == "HMAC-SHA256":
        pairs.append(("oauth_token", client.access_token))
    return oauth, pairs


# --- When ----------------------------------------------------------------------------------------


def test_only_on_request(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ibkr_oauth.sandbox"):
        reply = client.get("/tickle", signature="AAAA")
        assert "x-sandbox-explanation" not in reply.headers
        assert not caplog.records
        reply = client.get("/tickle", signature="AAAA", headers=dict(ASK))
        assert caplog.messages == [f"/v1/api/tickle: {explanation(reply)}"]
    assert "x-sandbox-explanation" not in client.get("/tickle", headers=dict(ASK)).headers


def test_always(connect: Connect) -> None:
    with Sandbox(explain=True) as sandbox:
        consumer = connect(sandbox)
        assert explanation(consumer.get_request_token(signed={"method": "GET"}))
        # Other refusals say in their body what is wrong.
        missing = consumer.get_request_token(oauth={"oauth_nonce": None})
        assert "x-sandbox-explanation" not in missing.headers


# --- With the client's base string ---------------------------------------------------------------


def test_compares_with_the_clients_base_string(client: Client) -> None:
    oauth, pairs = own_pairs(client)
    url = f"{client.sandbox.base_url}/tickle"
    right, mine = base_string("POST", url, pairs), base_string("POST", f"{url}/", pairs)
    reply = client.post("/tickle", oauth=oauth, text=mine, headers={**ASK, "X-Sandbox-Base-String": mine})
    text = explanation(reply)
    position = right.index("tickle") + len("tickle") + 1
    assert text.startswith(f"First difference at character {position}: ")
    assert 'the sandbox has "1%2Fapi%2Ftickle[&]oauth_consumer_k", ' in text
    assert 'you have "1%2Fapi%2Ftickle[%]2F&oauth_consume". ' in text
    assert text.endswith(f"The sandbox's base string: {right}")


def test_the_client_stops_early(client: Client) -> None:
    oauth, pairs = own_pairs(client)
    mine = base_string("POST", f"{client.sandbox.base_url}/tickle", pairs)[:-3]
    headers = {**ASK, "X-Sandbox-Base-String": encode(mine)}
    text = explanation(client.post("/tickle", oauth=oauth, text=mine, headers=headers))
    assert f"First difference at character {len(mine) + 1}: " in text
    assert '[end]"' in text


def test_right_base_string_wrong_key(client: Client) -> None:
    oauth, pairs = own_pairs(client)
    right = base_string("POST", f"{client.sandbox.base_url}/tickle", pairs)
    headers = {**ASK, "X-Sandbox-Base-String": right}
    client.live_session_token = bytes(20)
    text = explanation(client.post("/tickle", oauth=oauth, headers=headers))
    assert "Your base string is right, but the signature was made with another key" in text


def test_nearest_query_rule_is_compared(client: Client) -> None:
    oauth, pairs = own_pairs(client)
    url = f"{client.sandbox.base_url}/portfolio/accounts"
    mine = base_string("GET", url, pairs).replace("oauth_nonce%3Dn", "oauth_nonce%3Dm")
    reply = client.get(
        "/portfolio/accounts",
        query="a=1",
        oauth=oauth,
        text=mine,
        headers={**ASK, "X-Sandbox-Base-String": mine},
    )
    text = explanation(reply)
    assert '[n]%26oauth_signatu", you have "' in text
    assert "under the query rule omit: GET&" in text


# --- Without it: the known mistakes --------------------------------------------------------------

Signed = Callable[[Client, str, Pairs], dict[str, Any]]


def swap_scheme(url: str) -> str:
    return url.replace("http://", "https://", 1)


MISTAKES: dict[str, tuple[str, Signed]] = {
    # id: words of the explanation, what the client signed (of client, url, pairs)
    "method": ("the method is GET", lambda _c, _u, _p: {"method": "GET"}),
    "lower-case method": ("the method is post", lambda _c, _u, _p: {"method": "post"}),
    "scheme": ("the scheme is https", lambda _c, u, _p: {"url": swap_scheme(u)}),
    "host": (
        "the host is api.ibkr.com",
        lambda c, u, _p: {"url": u.replace(f"127.0.0.1:{c.sandbox.port}", "api.ibkr.com")},
    ),
    "host name": (
        "the host is localhost:",
        lambda _c, u, _p: {"url": u.replace("127.0.0.1", "localhost")},
    ),
    "port": (
        "the port is left out",
        lambda c, u, _p: {"url": u.replace(f":{c.sandbox.port}", "")},
    ),
    "trailing slash": ("a trailing slash is added", lambda _c, u, _p: {"url": f"{u}/"}),
    "API root": ("/v1/api is missing", lambda _c, u, _p: {"url": u.replace("/v1/api", "")}),
    "left out": ("oauth_nonce is left out", lambda _c, _u, p: {"pairs": drop(p, "oauth_nonce")}),
    "realm": (
        "realm=limited_poa is signed too",
        lambda _c, _u, p: {"pairs": [*p, ("realm", "limited_poa")]},
    ),
    "version": (
        "oauth_version=1.0 is signed too",
        lambda _c, _u, p: {"pairs": [*p, ("oauth_version", "1.0")]},
    ),
    "two mistakes": (
        "the method is GET and the scheme is https",
        lambda _c, u, _p: {"method": "GET", "url": swap_scheme(u)},
    ),
}


def drop(pairs: Pairs, name: str) -> Pairs:
    return [pair for pair in pairs if pair[0] != name]


@pytest.mark.parametrize("case", MISTAKES)
@pytest.mark.parametrize("path", ["/tickle", "/oauth/request_token"])
def test_known_mistakes(client: Client, case: str, path: str) -> None:
    words, deviate = MISTAKES[case]
    more = {"oauth_callback": "oob"} if path.startswith("/oauth") else {}
    oauth, pairs = own_pairs(client, **more)
    url = client.sandbox.base_url + path
    text = explanation(client.post(path, oauth=oauth, signed=deviate(client, url, pairs), headers=dict(ASK)))
    assert text.startswith("The signature verifies if ")
    assert words in text
    assert "First difference at character " in text
    assert text.endswith(f"The sandbox's base string: {base_string('POST', url, pairs)}")


def test_position_and_surroundings(client: Client) -> None:
    oauth, _pairs = own_pairs(client)
    text = explanation(client.post("/tickle", oauth=oauth, signed={"method": "GET"}, headers=dict(ASK)))
    assert (
        'First difference at character 1: the sandbox has "[P]OST&http%3A%2F%2", you have "[G]ET&http%3A%2F%2F". '
    ) in text


Encoder = Callable[[str], str]
Rendering = Callable[[str, str], str]


def lower_case_escapes(text: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), encode(text))


VALUE = "EUR/USD x*"  # of the query parameter a; every mistake below shows in it
TWICE = encode(VALUE)

RENDERINGS: dict[str, Rendering] = {
    # words of the explanation: what becomes of the URL, and of the sorted, joined parameters
    "a space is encoded as +": lambda url, listed: f"{quote_plus(url)}&{quote_plus(listed)}",
    "slashes are not encoded": lambda url, listed: f"{quote(url)}&{quote(listed)}",
    "! * ' ( ) are not encoded": lambda url, listed: encode(url) + "&" + encode(listed).replace("%2A", "*"),
    "percent escapes are in lower case": lambda url, listed: f"{lower_case_escapes(url)}&{lower_case_escapes(listed)}",
    "nothing is percent-encoded": lambda url, listed: f"{url}&{listed}",
    "the URL is not percent-encoded": lambda url, listed: f"{url}&{encode(listed)}",
    "the parameters are not percent-encoded": lambda url, listed: f"{encode(url)}&{listed}",
    "the parameters are percent-encoded twice, as in RFC 5849": lambda url, listed: (
        f"{encode(url)}&{encode(listed.replace(VALUE, TWICE))}"
    ),
    "the parameters are not sorted": lambda url, listed: (
        f"{encode(url)}&{encode(listed.removeprefix(f'a={VALUE}&') + f'&a={VALUE}')}"
    ),
    "the query's parameters are signed without decoding them": lambda url, listed: (
        f"{encode(url)}&{encode(listed.replace(' x', '%20x'))}"
    ),
}


@pytest.mark.parametrize("words", RENDERINGS)
def test_encoding_mistakes(client: Client, words: str) -> None:
    oauth, pairs = own_pairs(client)
    url = f"{client.sandbox.base_url}/portfolio/accounts"
    listed = "&".join(f"{name}={value}" for name, value in sorted([*pairs, ("a", VALUE)]))
    reply = client.get(
        "/portfolio/accounts",
        query="a=EUR/USD%20x*",
        oauth=oauth,
        text=f"GET&{RENDERINGS[words](url, listed)}",
        headers=dict(ASK),
    )
    text = explanation(reply)
    assert text.startswith(f"The signature verifies if {words}. First difference at character ")
    assert "under the query rule merge" in text


def test_query_under_a_rule_that_is_not_accepted(connect: Connect) -> None:
    with Sandbox(query_rules=["merge"]) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        reply = client.get("/portfolio/accounts", query="a=1", rule="omit", headers=dict(ASK))
        assert "verifies if a is left out" in explanation(reply)
        reply = client.get("/portfolio/accounts", query="a=1&b=2", headers=dict(ASK))
        assert "the query is signed under the rule omit" in explanation(reply)


def test_bodies(client: Client) -> None:
    oauth, pairs = own_pairs(client)
    reply = client.post("/tickle", form="a=1&b=2", oauth=oauth, signed={"pairs": pairs}, headers=dict(ASK))
    assert "verifies if the form body is left out" in explanation(reply)
    reply = client.post(
        "/tickle",
        body={"publish": True, "name": "x"},
        oauth=oauth,
        signed={"pairs": [*pairs, ("publish", "true"), ("name", "x")]},
        headers=dict(ASK),
    )
    assert "verifies if the JSON body is signed too" in explanation(reply)


def test_bodies_that_cannot_have_been_signed(client: Client) -> None:
    """They are no explanation, and do not stand in the way of one."""
    as_json = {**ASK, "Content-Type": "application/json"}
    for body in ("[1]", "{", "[" * 100_000):
        oauth, pairs = own_pairs(client)
        mistaken = {"method": "GET", "pairs": pairs}
        reply = client.post("/tickle", form=body, oauth=oauth, signed=mistaken, headers=as_json)
        assert "verifies if the method is GET" in explanation(reply)
    for body in ("{", "[" * 100_000):  # rightly signed, they are refused for what they are
        oauth, pairs = own_pairs(client, oauth_nonce=f"n{len(body)}")
        path = "/iserver/auth/ssodh/init"
        reply = client.post(path, form=body, oauth=oauth, signed={"pairs": pairs}, headers=as_json)
        assert (reply.status, reply.error) == (400, "Bad Request: the body is not JSON")


def test_an_address_without_a_port(connect: Connect) -> None:
    with Sandbox(public_url="https://ibkr.example") as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        url = "https://ibkr.example:443/v1/api/tickle"
        reply = client.post("/tickle", signed={"url": url}, headers=dict(ASK))
        assert "verifies if the port 443 is shown" in explanation(reply)


def test_a_request_without_a_host(client: Client) -> None:
    """As of HTTP/1.0."""
    request = client.raw("POST", "/tickle", signed={"method": "GET"}, headers=dict(ASK))
    request = request.replace(b" HTTP/1.1\r\nHost: sandbox\r\n", b" HTTP/1.0\r\n")
    with socket.create_connection(("127.0.0.1", client.sandbox.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"verifies if the method is GET" in answer
    assert b"the host is  " not in answer


# --- The prepend ---------------------------------------------------------------------------------


PREPENDS: dict[str, Encoder] = {
    "the prepend is missing": lambda _prepend: "",
    "the prepend is in upper case": lambda prepend: prepend.upper(),
    "an & follows the prepend": lambda prepend: f"{prepend}&",
    "the prepend has lost its leading zeros": lambda prepend: prepend.lstrip("0"),
    "the prepend is base64, not hex": lambda prepend: base64.b64encode(bytes.fromhex(prepend)).decode(),
}


@pytest.mark.parametrize("words", PREPENDS)
def test_prepend_mistakes(granted: Client, words: str) -> None:
    prepend = granted.secret.hex()
    if "zeros" in words:
        while not prepend.startswith("0"):
            granted.encrypted_secret = granted.sandbox.grant("VECTORKEY")[1]
            prepend = granted.secret.hex()
    for told in (False, True):
        headers = dict(ASK)
        oauth = {
            "oauth_nonce": f"n{told}",
            "oauth_timestamp": str(int(time.time())),
            "oauth_token": granted.access_token,
            "diffie_hellman_challenge": "1234",
        }
        pairs = [("oauth_consumer_key", granted.consumer_key), *oauth.items()]
        pairs += [("oauth_signature_method", "RSA-SHA256")]
        url = f"{granted.sandbox.base_url}/oauth/live_session_token"
        mine = base_string("POST", url, pairs, PREPENDS[words](prepend))
        if told:
            headers["X-Sandbox-Base-String"] = mine
        reply = granted.get_live_session_token(None, oauth=oauth, text=mine, headers=headers)
        text = explanation(reply)
        if not told:
            assert f"verifies if {words}" in text
        assert "First difference " in text
        # A position within the prepend would give the secret away, digit by digit, to who asks often enough.
        assert not re.search(r"at character (?!1:|65:)\d+: within", text)
        assert "The sandbox's base string: <64 hex digits>POST&http" in text
        assert_no_secret(text, prepend)


def assert_no_secret(text: str, prepend: str) -> None:
    """Not even eight digits in a row of it, in either case."""
    for start in range(len(prepend) - 8):
        assert prepend[start : start + 8] not in text.lower()


def test_difference_behind_the_prepend(granted: Client) -> None:
    reply = granted.get_live_session_token(signed={"method": "GET"}, headers=dict(ASK))
    text = explanation(reply)
    assert "First difference at character 65: " in text
    assert 'the sandbox has "[P]OST&' in text
    assert_no_secret(text, granted.secret.hex())


@pytest.mark.parametrize("told", ["", "x", "é\x01 garbage"])
def test_any_client_base_string_is_harmless(granted: Client, told: str) -> None:
    headers = {**ASK, "X-Sandbox-Base-String": told.replace("\x01", "\t")}
    for text in (told, granted.secret.hex() + told, granted.secret.hex()[:40]):
        headers["X-Sandbox-Base-String"] = text.replace("\x01", "\t")
        reply = granted.get_live_session_token(signature="AAAA", headers=headers)
        assert_no_secret(explanation(reply), granted.secret.hex())


# --- The key and the signature -------------------------------------------------------------------


def test_exchanged_keys(consumer: Client) -> None:
    consumer.signature_key = consumer.encryption_key
    text = explanation(consumer.get_request_token(headers=dict(ASK)))
    assert "made with the private encryption key: the two keys are exchanged" in text


def test_unknown_key(consumer: Client) -> None:
    signature = base64.b64encode(bytes(255) + b"\1").decode()
    text = explanation(consumer.get_request_token(signature=signature, headers=dict(ASK)))
    assert text.startswith("None of the known mistakes matches; most likely the key is not the registered one. ")


def test_rsa_sha1(consumer: Client) -> None:
    oauth, pairs = own_pairs(consumer, oauth_callback="oob")
    text = base_string("POST", f"{consumer.sandbox.base_url}/oauth/request_token", pairs)
    signature = consumer.signature_key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA1())
    reply = consumer.get_request_token(oauth=oauth, signature=base64.b64encode(signature).decode(), headers=dict(ASK))
    assert "made with SHA-1 in place of SHA-256" in explanation(reply)


def test_hmac_keys(granted: Client) -> None:
    a = 0xABCDEF
    granted.sandbox.shape_next_exchange("sign_byte")
    answer = granted.get_live_session_token(a).json()
    shared = pow(int(answer["diffie_hellman_response"], 16), a, granted.prime)
    unsigned = shared.to_bytes((shared.bit_length() + 7) // 8, "big")
    right = granted.live_session_token
    for key, words in (
        (base64.b64encode(right), "the live session token's base64 text, not its bytes"),
        (right.hex().encode(), "the live session token's hex text, not its bytes"),
        (hmac.digest(unsigned, granted.secret, "sha1"), "derived without Java's sign byte"),
        (granted.secret, "the access token secret"),
    ):
        granted.live_session_token = key
        assert words in explanation(granted.get("/tickle", headers=dict(ASK)))


def test_hmac_key_padded_to_the_prime(granted: Client) -> None:
    a, shared = 0xABCDEF, 0
    while shared.bit_length() % 8 == 0:  # there the sign byte is the padding
        granted.sandbox.shape_next_exchange("short_secret")
        answer = granted.get_live_session_token(a).json()
        shared = pow(int(answer["diffie_hellman_response"], 16), a, granted.prime)
    granted.live_session_token = hmac.digest(shared.to_bytes(256, "big"), granted.secret, "sha1")
    text = explanation(granted.get("/tickle", headers=dict(ASK)))
    assert "derived from the shared secret in the prime's length" in text


MISSPELLINGS: dict[str, Encoder] = {
    "oauth_signature is percent-encoded twice": encode,
    "oauth_signature is URL-safe base64": lambda text: text.replace("+", "-").replace("/", "_"),
    "oauth_signature is not percent-encoded, its + became a space": lambda text: text.replace("+", " "),
    "oauth_signature has white space in it": lambda text: f"{text}\n",
    "oauth_signature lacks its padding": lambda text: text.rstrip("="),
}


@pytest.mark.parametrize("words", MISSPELLINGS)
def test_misspelled_signatures(client: Client, words: str) -> None:
    url = f"{client.sandbox.base_url}/tickle"
    oauth: dict[str, str | None] = {}
    signature, number = "", 0
    while not ("+" in signature and "/" in signature):
        number += 1
        oauth, pairs = own_pairs(client, oauth_nonce=f"n{number}")
        signature = client.sign_hmac(base_string("POST", url, pairs))
    for right, expected in (
        (signature, f"The base string is right, but {words}"),
        ("+/+/" * 10 + "+/8=", f"{words}; beyond that, none of the known mistakes matches"),
    ):
        spelled = MISSPELLINGS[words](right)
        reply = client.post("/tickle", oauth=oauth, signature=spelled, headers=dict(ASK))
        assert explanation(reply).startswith(expected)


def test_signature_that_is_no_base64(client: Client) -> None:
    text = explanation(client.post("/tickle", signature="!!!", headers=dict(ASK)))
    assert text.startswith("oauth_signature is not base64. The sandbox's base string: POST&")


def test_text_that_is_not_unicode(client: Client) -> None:
    reply = client.get("/portfolio/accounts", query="a=%FF", signature="AAAA", headers=dict(ASK))
    assert "None of the known mistakes matches" in explanation(reply)
    reply = client.post("/tickle", body={"a\ud800": "\udfff"}, signature="AAAA", headers=dict(ASK))
    assert "None of the known mistakes matches" in explanation(reply)


def test_long_explanations_are_cut(connect: Connect) -> None:
    with Sandbox(query_rules=["merge"]) as sandbox:
        client = connect(sandbox, granted=True)
        client.get_live_session_token()
        query = "n" * 7_000 + "=1"
        text = explanation(client.get("/portfolio/accounts", query=query, headers=dict(ASK)))
        assert text.startswith("The signature verifies if nnn")
        assert len(text) == 6000


def test_long_requests_are_cut(client: Client) -> None:
    query = "a=" + "x" * 4_000
    text = explanation(client.get("/portfolio/accounts", query=query, signature="AAAA", headers=dict(ASK)))
    assert "characters)" in text


def test_positions_within_the_prepend_are_not_told(granted: Client) -> None:
    prepend = granted.secret.hex()
    url = f"{granted.sandbox.base_url}/oauth/live_session_token"
    texts = set()
    for known in (0, 5, 63):
        wrong = prepend[:known] + "x" * (64 - known)
        mine = f"{wrong}POST&{url}"
        reply = granted.get_live_session_token(None, text="other", headers={**ASK, "X-Sandbox-Base-String": mine})
        texts.add(explanation(reply).partition(". ")[0])
    assert texts == {"First difference within the prepend of 64 hex digits"}
