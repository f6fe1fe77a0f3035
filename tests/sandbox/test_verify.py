"""The checks without a server around them: one right request for each kind of call, and what happens to each change of it."""

from __future__ import annotations

import base64
import dataclasses
import hmac
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from ibkr_oauth.sandbox import answers, crypto, verify
from ibkr_oauth.sandbox.state import Settings, State

from .conftest import CONSUMER, Keys
from .reference import Client, authorization, base_string

NOW = 1_790_000_000.75
ORIGIN = "https://sandbox:1"
PATH = "/portfolio/DU1/ledger"
LEGS = ("/oauth/request_token", "/oauth/access_token", "/oauth/live_session_token")


class Desk:
    """A service's memory with one consumer in it, and a client that signs by `cryptography`."""

    def __init__(self, keys: Keys, **settings: Any) -> None:
        self.keys = keys
        self.time = NOW
        self.state = State(Settings(**settings), lambda: self.time)
        self.consumer = self.register(CONSUMER)
        self.granted, secret = self.state.grant(self.consumer, "paper")
        place: Any = SimpleNamespace(base_url=f"{ORIGIN}{verify.API_ROOT}")
        self.client = Client(place, CONSUMER, keys.signature, keys.encryption, keys.prime)
        self.client.access_token, self.client.encrypted_secret = self.granted.token, secret
        self.token = self.state.issue_live_session_token(self.granted, 5)
        self.client.live_session_token = self.token.value

    def register(self, name: str) -> Any:
        keys = self.keys
        return self.state.register(
            name,
            signature_key=keys.signature_pem,
            encryption_key=keys.encryption_pem,
            dh_params=keys.dh_pem,
            callback="oob",
            active=True,
            realm=None,
        )

    def request(self, path: str = PATH, method: str = "GET", **deviations: Any) -> verify.IncomingRequest:
        """A right one, but for the deviations: see `reference.Client.prepare`."""
        oauth = {"oauth_timestamp": str(int(self.time)), **deviations.pop("oauth", {})}
        if path in LEGS:
            method = "POST"
            more = {
                LEGS[0]: {"oauth_callback": "oob"},
                LEGS[1]: {"oauth_token": "?", "oauth_verifier": "?"},
                LEGS[2]: {"oauth_token": self.granted.token, "diffie_hellman_challenge": "7b"},
            }[path]
            oauth = more | oauth
            if path == LEGS[2]:
                deviations.setdefault("prepend", self.granted.secret.hex())
        target, headers, body = self.client.prepare(method, path, oauth, **deviations)
        target, _, query = target.partition("?")
        return verify.IncomingRequest(method, target, query, Headers(headers), body)

    def check(self, request: verify.IncomingRequest) -> verify.Verified:
        return verify.verify(self.state, request, ORIGIN)

    def refusal(self, *arguments: Any, **deviations: Any) -> str:
        """The words; what was refused leaves no trace."""
        with pytest.raises(answers.Refusal) as caught:
            self.check(self.request(*arguments, **deviations))
        return caught.value.words


@pytest.fixture
def desk(keys: Keys) -> Iterator[Desk]:
    return Desk(keys)


# --- Right ones ----------------------------------------------------------------------------------


def test_a_protected_call(desk: Desk) -> None:
    verified = desk.check(desk.request())
    assert verified.consumer is desk.consumer
    assert verified.access_token is desk.granted
    assert verified.live_session_token is desk.token
    assert verified.request_token is None
    assert verified.query_rule is None
    assert verified.parameters["oauth_token"] == desk.granted.token


def test_the_three_legs(desk: Desk) -> None:
    first = desk.check(desk.request(LEGS[0]))
    assert (first.request_token, first.access_token, first.live_session_token) == (None, None, None)
    issued = desk.state.issue_request_token(desk.consumer)
    verifier = desk.state.approve(issued, "paper")
    second = desk.check(desk.request(LEGS[1], oauth={"oauth_token": issued.token, "oauth_verifier": verifier}))
    assert second.request_token is issued
    assert second.access_token is None
    third = desk.check(desk.request(LEGS[2]))
    assert third.access_token is desk.granted
    assert third.live_session_token is None
    assert third.request_token is None
    assert third.parameters["diffie_hellman_challenge"] == "7b"


def test_the_first_token_needs_no_live_session_token(desk: Desk) -> None:
    desk.granted.live_session_tokens.clear()
    desk.check(desk.request(LEGS[2]))
    assert desk.refusal() == "no live session token was requested for this access token"


@pytest.mark.parametrize("rule", ["merge", "omit", "url"])
def test_the_rule_that_matched_is_noted(desk: Desk, rule: str) -> None:
    assert desk.check(desk.request(query="a=b%20c&a=&z", rule=rule)).query_rule == rule


@pytest.mark.parametrize("allowed", ["merge", "omit", "url", "rfc5849"])
@pytest.mark.parametrize("used", ["merge", "omit", "url"])
def test_only_the_rules_that_are_set(keys: Keys, allowed: Any, used: str) -> None:
    desk = Desk(keys, query_rules=(allowed,))
    request = desk.request(query="a=b%20c", rule=used)
    if allowed == used:
        assert desk.check(request).query_rule == allowed
    else:
        with pytest.raises(verify.SignatureRefusal):
            desk.check(request)


@pytest.mark.parametrize("rule", ["merge", "omit", "url", "rfc5849"])
def test_without_a_query_every_rule_is_the_same(keys: Keys, rule: Any) -> None:
    desk = Desk(keys, query_rules=(rule,))
    request = desk.request()
    assert desk.check(request).query_rule is None
    (candidate,) = verify.candidates(request, {"a": "b", "realm": "r"}, origin=ORIGIN, query_rules=(rule,))
    assert candidate.base_string() == base_string("GET", f"{ORIGIN}{verify.API_ROOT}{PATH}", [("a", "b")])


def test_the_double_encoding_of_rfc_5849(keys: Keys) -> None:
    desk = Desk(keys, query_rules=("rfc5849",))
    oauth = {"oauth_nonce": "n" * 8, "oauth_timestamp": str(int(NOW))}
    pairs = [
        ("a", "b%20%26"),
        ("oauth_consumer_key", CONSUMER),
        ("oauth_nonce", "n" * 8),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", str(int(NOW))),
        ("oauth_token", desk.granted.token),
    ]
    text = base_string("GET", f"{ORIGIN}{verify.API_ROOT}{PATH}", pairs)
    assert desk.check(desk.request(query="a=b%20%26", oauth=oauth, text=text)).query_rule == "rfc5849"


def test_a_form_is_signed_under_every_rule(desk: Desk) -> None:
    desk.check(desk.request("/portfolio", "POST", form="a=b+c&d=%C3%BC&e="))
    with pytest.raises(verify.SignatureRefusal):
        desk.check(desk.request("/portfolio", "POST", form="a=b", signed={"pairs": []}))
    request = desk.request("/portfolio", "POST", form="a=b", headers={"Content-Type": "text/plain"})
    with pytest.raises(verify.SignatureRefusal):
        desk.check(request)  # of another type, its fields are none


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/x-www-form-urlencoded", (("a", "b c"), ("d", ""))),
        (" Application/X-WWW-form-urlencoded ; charset=utf-8", (("a", "b c"), ("d", ""))),
        ("application/json", ()),
        (None, ()),
    ],
)
def test_the_fields_of_a_body(kind: str | None, expected: Any) -> None:
    headers = Headers({} if kind is None else {"content-type": kind})
    request = verify.IncomingRequest("POST", "/v1/api/%41", "x=%20&y", headers, b"a=b+c&d=")
    assert request.form_pairs() == expected
    assert request.query_pairs() == (("x", " "), ("y", ""))
    assert request.path == "/A"
    assert request.media_type == ("" if kind is None else kind.split(";")[0].strip().lower())


def test_bytes_that_are_no_text_survive() -> None:
    assert verify.decode_pairs("a=%ff") == (("a", "\udcff"),)
    assert verify.percent_encode("\udcff /~") == "%FF%20%2F~"
    body = verify.IncomingRequest(
        "POST", "/", "", Headers({"content-type": "application/x-www-form-urlencoded"}), b"a=\xff"
    )
    assert body.form_pairs() == (("a", "\udcff"),)


def test_any_of_the_live_session_tokens(keys: Keys) -> None:
    desk = Desk(keys, keep_former_live_session_tokens=True)
    second = desk.state.issue_live_session_token(desk.granted, 6)
    assert desk.check(desk.request()).live_session_token is desk.token
    desk.client.live_session_token = second.value
    assert desk.check(desk.request()).live_session_token is second


# --- Wrong ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signed", [{"method": "PUT"}, {"url": f"{ORIGIN}/v1/api/tickle"}, {"prepend": "00"}, {"pairs": []}]
)
@pytest.mark.parametrize("path", [PATH, LEGS[0], LEGS[2]])
def test_another_base_string(desk: Desk, path: str, signed: dict[str, Any]) -> None:
    right = "Invalid signature" if path == PATH else "error 23804 Error validating signature"
    assert desk.refusal(path, signed=signed) == right


@pytest.mark.parametrize("path", [PATH, LEGS[0]])
@pytest.mark.parametrize("signature", ["AAAA", "!", "A" * 43 + "="])
def test_another_signature(desk: Desk, path: str, signature: str) -> None:
    assert "ignature" in desk.refusal(path, signature=signature)


def test_a_refused_signature_can_be_explained(desk: Desk) -> None:
    request = desk.request(signature="AAAA")
    with pytest.raises(verify.SignatureRefusal) as caught:
        desk.check(request)
    trial = caught.value.trial
    assert trial.request is request
    assert trial.origin == ORIGIN
    assert trial.consumer is desk.consumer
    assert trial.access_token is desk.granted
    assert trial.parameters["oauth_signature"] == "AAAA"
    assert [each.rule for each in trial.candidates] == ["merge", "omit", "url"]
    assert all(each.method == "GET" and not each.prepend for each in trial.candidates)
    assert (caught.value.status, caught.value.words, caught.value.shape) == (401, "Invalid signature", "numbered")


def test_the_decrypted_secret_begins_one_base_string_only(desk: Desk) -> None:
    """That of the live session token request."""
    secret = desk.granted.secret.hex()
    assert desk.refusal(LEGS[2], prepend="") == "error 23804 Error validating signature"
    assert desk.refusal(PATH, prepend=secret) == "Invalid signature"
    assert desk.refusal(LEGS[0], prepend=secret) == "error 23804 Error validating signature"


def test_the_public_address_counts_and_not_the_host(desk: Desk) -> None:
    request = desk.request(headers={"Host": "elsewhere"})
    assert desk.check(request)
    with pytest.raises(verify.SignatureRefusal):
        verify.verify(desk.state, desk.request(), "https://elsewhere")


@pytest.mark.parametrize("path", [PATH, *LEGS])
@pytest.mark.parametrize(
    "name", ["oauth_consumer_key", "oauth_nonce", "oauth_signature_method", "oauth_timestamp", "realm"]
)
def test_a_parameter_that_came_twice(desk: Desk, path: str, name: str) -> None:
    assert desk.refusal(path, header=f'{{}}, {name}="x"') == f"duplicate parameter {name}"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for path in (PATH, *LEGS)
        for name in ("oauth_consumer_key", "oauth_nonce", "oauth_signature_method", "oauth_timestamp", "oauth_token")
        if (path, name) != (LEGS[0], "oauth_token")
    ]
    + [(LEGS[0], "oauth_callback"), (LEGS[1], "oauth_verifier"), (LEGS[2], "diffie_hellman_challenge")],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_parameter_that_is_missing(desk: Desk, path: str, name: str, value: str | None) -> None:
    assert desk.refusal(path, oauth={name: value}) == f"missing parameter {name}"


def test_a_signature_that_is_missing(desk: Desk) -> None:
    assert desk.refusal(signature="") == "missing parameter oauth_signature"


@pytest.mark.parametrize("path", [PATH, LEGS[0]])
def test_consumers(desk: Desk, path: str) -> None:
    assert desk.refusal(path, oauth={"oauth_consumer_key": "OTHER"}) == "invalid consumer"
    desk.consumer.active = False
    assert desk.refusal(path) == "invalid consumer"


def test_the_realm(desk: Desk) -> None:
    desk.client.realm = "test_realm"
    assert desk.refusal() == "wrong realm, this consumer uses limited_poa"
    desk.consumer.realm = "test_realm"
    desk.check(desk.request())
    oauth = {"oauth_nonce": "n" * 8}
    header = desk.request(oauth=oauth).headers["authorization"].replace('realm="test_realm", ', "")
    desk.check(desk.request(oauth=oauth, headers={"Authorization": header}))  # may be left out


@pytest.mark.parametrize(("path", "method"), [(PATH, "HMAC-SHA256"), (LEGS[0], "RSA-SHA256")])
@pytest.mark.parametrize("wrong", ["HMAC-SHA1", "hmac-sha256", "PLAINTEXT"])
def test_the_method_of_signing(desk: Desk, path: str, method: str, wrong: str) -> None:
    said = f"oauth_signature_method must be {method} here"
    assert desk.refusal(path, oauth={"oauth_signature_method": wrong}) == said


def test_the_version(desk: Desk) -> None:
    desk.check(desk.request(oauth={"oauth_version": "1.0"}))
    assert desk.refusal(oauth={"oauth_version": "2.0"}) == "oauth_version must be absent or 1.0"


def test_the_callback(keys: Keys) -> None:
    elsewhere = {"oauth_callback": "https://host/"}
    desk = Desk(keys)
    desk.check(desk.request(LEGS[0], oauth=elsewhere))
    strict = Desk(keys, strict_callback=True)
    strict.check(strict.request(LEGS[0]))
    strict.check(strict.request())
    assert strict.refusal(LEGS[0], oauth=elsewhere) == "oauth_callback must be oob"


# --- Time and nonces -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, LEGS[0]])
@pytest.mark.parametrize(("seconds", "is_good"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_the_window_of_time(desk: Desk, path: str, seconds: int, is_good: bool) -> None:
    """To the second, on either side. By the server's clock, the part of a second left out."""
    oauth = {"oauth_timestamp": str(int(NOW) + seconds)}
    if is_good:
        desk.check(desk.request(path, oauth=oauth))
    else:
        direction = "ahead of" if seconds > 0 else "behind"
        assert f"301 seconds {direction}" in desk.refusal(path, oauth=oauth)


@pytest.mark.parametrize("window", [0.0, 10.0])
def test_another_window(keys: Keys, window: float) -> None:
    desk = Desk(keys, skew_window=window)
    edge = int(NOW) + int(window)
    desk.check(desk.request(oauth={"oauth_timestamp": str(edge)}))
    assert "oauth_timestamp" in desk.refusal(oauth={"oauth_timestamp": str(edge + 1)})


@pytest.mark.parametrize(
    "text", ["179000000", "17900000000", "1790000000.0", "179000000x", "१७९०००००००", "1790000000\n"]
)
def test_what_is_no_time(desk: Desk, text: str) -> None:
    header = desk.request().headers["authorization"].replace(str(int(NOW)), "%" + text.encode().hex("%"))
    said = desk.refusal(headers={"Authorization": header})
    assert said == "oauth_timestamp must have 10 digits, the seconds since 1970"


def test_a_nonce_is_good_once(desk: Desk) -> None:
    """For one consumer, token and time; and only what was accepted uses it up."""
    again = {"oauth_nonce": "same"}
    desk.refusal(oauth=again, signature="AAAA")
    desk.check(desk.request(oauth=again))
    assert desk.refusal(oauth=again) == "oauth_nonce was used before"
    assert desk.refusal(oauth=again, signature="AAAA") == "oauth_nonce was used before"
    desk.check(desk.request(oauth={"oauth_nonce": "Same"}))
    desk.check(desk.request(oauth={**again, "oauth_timestamp": str(int(NOW) + 1)}))
    desk.check(desk.request(LEGS[0], oauth=again))  # without a token
    desk.register("OTHER")
    desk.client.consumer_key = "OTHER"
    desk.check(desk.request(LEGS[0], oauth=again))
    assert desk.refusal(LEGS[0], oauth=again) == "oauth_nonce was used before"


# --- Tokens --------------------------------------------------------------------------------------


def test_access_tokens(desk: Desk) -> None:
    assert desk.refusal(oauth={"oauth_token": "f" * 20}) == "unknown access token"
    said = desk.refusal(LEGS[2], oauth={"oauth_token": "f" * 20})
    assert said == f"LST failed, error: No access secret key found for {'f' * 20}"
    desk.register("OTHER")
    desk.client.consumer_key = "OTHER"
    for path in (PATH, LEGS[2]):
        assert desk.refusal(path) == "access token belongs to another consumer"


def test_request_tokens(desk: Desk) -> None:
    def exchange(token: str, verifier: str) -> str:
        return desk.refusal(LEGS[1], oauth={"oauth_token": token, "oauth_verifier": verifier})

    assert exchange("f" * 20, "x") == "unknown request token"
    issued = desk.state.issue_request_token(desk.consumer)
    assert exchange(issued.token, "x") == "the user has not approved this request token yet"
    verifier = desk.state.approve(issued, "paper")
    assert exchange(issued.token, "x") == "oauth_verifier is wrong"
    assert exchange(issued.token, verifier.upper() + "0") == "oauth_verifier is wrong"
    other = desk.register("OTHER")
    foreign = desk.state.issue_request_token(other)
    assert exchange(foreign.token, desk.state.approve(foreign, "paper")) == "request token belongs to another consumer"
    desk.time += desk.state.settings.request_token_lifetime
    assert exchange(issued.token, verifier) == "request token has expired"


# --- Where the parameters stand ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('OAuth a="1", b="2"', {"a": "1", "b": "2"}),
        ('oauth a="1",b="2"', {"a": "1", "b": "2"}),
        ('OAUTH   a = "1"', None),
        ('OAuth a="1" , b="2" ', {"a": "1", "b": "2"}),
        ('OAuth realm=x, b="2"', {"realm": "x", "b": "2"}),
        ('OAuth b="2", realm=', {"realm": "", "b": "2"}),
        ('OAuth a="%41%2B%20+%C3%BC"', {"a": "A+ +ü"}),
        ('OAuth a=""', {"a": ""}),
        ('OAuth a="1" b="2"', None),
        ('OAuth a="1",, b="2"', None),
    ],
)
def test_headers(header: str, expected: dict[str, str] | None) -> None:
    if expected is not None:
        assert verify.parse_authorization(header) == expected
    else:
        with pytest.raises(answers.Refusal, match="cannot be read"):
            verify.parse_authorization(header)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("Basic a", "does not begin with OAuth"),
        ("OAuth", "does not begin with OAuth"),
        ("OAuth  ", "does not begin with OAuth"),
        ("OAuth !", "at character 7"),
        ('OAuth a="1", !', "at character 13"),
        ("oauth  a=1", "a is not quoted"),
        ('OAuth a="%4"', "a has an incomplete percent escape"),
        ('OAuth a="%g0"', "a has an incomplete percent escape"),
        ('OAuth a="%"', "a has an incomplete percent escape"),
        ('OAuth a="%ff"', "a is not UTF-8"),
        ('OAuth a="1",', "it ends in a comma"),
        ('OAuth a="1", ', "it ends in a comma"),
        ('OAuth a="1", a="1"', "duplicate parameter a"),
    ],
)
def test_headers_that_cannot_be_read(header: str, words: str) -> None:
    with pytest.raises(answers.Refusal) as caught:
        verify.parse_authorization(header)
    assert caught.value.words.endswith(words)


PAIRS = st.dictionaries(
    st.text("abcXYZ_019", min_size=1, max_size=8), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)


@given(PAIRS.filter(bool))
def test_every_header_reads_back(pairs: dict[str, str]) -> None:
    assert verify.parse_authorization(authorization(list(pairs.items()))) == pairs


def test_parameters_in_a_json_body(desk: Desk) -> None:
    """As the oldest documentation has it: for the three legs, where no header is."""
    request = desk.request(LEGS[0])
    parameters = verify.parse_authorization(request.headers["authorization"])
    parameters.pop("realm")
    body = str(parameters).replace("'", '"').encode()
    headers = Headers({"content-type": "application/json"})
    desk.check(dataclasses.replace(request, headers=headers, body=body))
    for changed in (
        dataclasses.replace(request, headers=Headers({"content-type": "text/plain"}), body=body),
        dataclasses.replace(request, headers=headers, body=b""),
        dataclasses.replace(desk.request(), headers=headers, body=body),
    ):
        with pytest.raises(answers.Refusal, match="missing Authorization header"):
            desk.check(changed)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"a":"1","a":"2"}', 401, "duplicate parameter a"),
        (b'{"a":1}', 400, "Bad Request: a must be a string of printable characters"),
        (b'{"a":"\\n"}', 400, "Bad Request: a must be a string of printable characters"),
        (b"{", 400, "Bad Request: the body is not JSON"),
        (b"[" * 100_000, 400, "Bad Request: the body is not JSON"),
        (b"\xff", 400, "Bad Request: the body is not JSON"),
        (b"[]", 400, "Bad Request: the body is not a JSON object"),
    ],
)
def test_json_that_cannot_be_read(body: bytes, status: int, words: str) -> None:
    with pytest.raises(answers.Refusal) as caught:
        verify.parse_json_parameters(body)
    assert (caught.value.status, caught.value.words) == (status, words)


def test_two_headers(desk: Desk) -> None:
    one = desk.request().headers["authorization"].encode()
    headers = Headers(raw=[(b"authorization", one), (b"authorization", one)])
    with pytest.raises(answers.Refusal, match="duplicate parameter Authorization"):
        desk.check(dataclasses.replace(desk.request(), headers=headers))


# --- The cookie ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([], None),
        (["api=x"], "x"),
        (["a=b; api=x=y ; c=d"], "x=y"),
        (["a=b", "api=x"], "x"),
        (["apis=x"], None),
        (["api"], ""),
        (["api=1; api=2"], "1"),
    ],
)
def test_the_cookie_api(sent: list[str], expected: str | None) -> None:
    headers = Headers(raw=[(b"cookie", each.encode()) for each in sent])
    assert verify.session_cookie(headers) == expected
    assert verify.IncomingRequest("GET", "/", "", headers, b"").session_cookie == expected


def test_a_call_by_its_cookie_alone(keys: Keys) -> None:
    desk = Desk(keys, cookie_auth=True)
    bare = verify.IncomingRequest("GET", f"{verify.API_ROOT}{PATH}", "a=b", Headers(), b"")

    def by(cookie: str, path: str = PATH) -> verify.Verified:
        headers = Headers({"cookie": f"api={cookie}"})
        return desk.check(dataclasses.replace(bare, target=f"{verify.API_ROOT}{path}", headers=headers))

    verified = by(desk.granted.session)
    assert verified.access_token is desk.granted
    assert verified.consumer is desk.consumer
    assert verified.live_session_token is desk.token
    assert (verified.parameters, verified.request_token, verified.query_rule) == ({}, None, None)
    with pytest.raises(answers.Refusal, match="unknown session"):
        by("x\u00ff")
    with pytest.raises(answers.Refusal, match="missing Authorization"):
        desk.check(bare)
    with pytest.raises(answers.Refusal, match="missing Authorization"):
        by(desk.granted.session, LEGS[0])
    desk.check(desk.request())  # a signature is good as well, and has to be
    assert desk.refusal(signature="AAAA", headers={"Cookie": f"api={desk.granted.session}"}) == "Invalid signature"
    desk.consumer.active = False
    with pytest.raises(answers.Refusal, match="invalid consumer"):
        by(desk.granted.session)
    desk.consumer.active = True
    desk.granted.live_session_tokens.clear()
    with pytest.raises(answers.Refusal, match="no live session token"):
        by(desk.granted.session)
    strict = Desk(keys)
    with pytest.raises(answers.Refusal, match="missing Authorization"):
        strict.check(dataclasses.replace(bare, headers=Headers({"cookie": f"api={strict.granted.session}"})))


# --- Cryptography, by the standard library -------------------------------------------------------


@given(st.integers(1, 2**2048), st.binary(max_size=64), st.from_regex("[A-Z]{9}", fullmatch=True))
def test_live_session_tokens(shared: int, secret: bytes, consumer_key: str) -> None:
    key = crypto.to_byte_array(shared)
    assert int.from_bytes(key, "big", signed=True) == shared
    assert len(key) == shared.bit_length() // 8 + 1
    token = crypto.live_session_token(shared, secret)
    assert token == hmac.digest(key, secret, "sha1")
    assert (
        crypto.live_session_token_signature(token, consumer_key)
        == hmac.digest(token, consumer_key.encode(), "sha1").hex()
    )


@given(st.binary(max_size=60), st.sampled_from(["", "=", "==", "A", "\n", " "]))
def test_signatures_have_one_spelling(data: bytes, more: str) -> None:
    text = base64.b64encode(data).decode()
    assert crypto.decode_signature(text) == data
    if more:
        decoded = crypto.decode_signature(text + more)
        assert decoded is None or base64.b64encode(decoded).decode() == text + more


@pytest.mark.parametrize("text", ["é", "AA=", "AB==", "A", "A===", "AA-_", "AAA A"])
def test_no_signature(text: str) -> None:
    assert crypto.decode_signature(text) is None


@pytest.mark.parametrize(
    ("shape", "holds"),
    [
        ("sign_byte", lambda shared, response, p: shared.bit_length() % 8 == 0),
        ("short_secret", lambda shared, response, p: shared.bit_length() <= p.bit_length() - 8),
        ("odd_secret", lambda shared, response, p: len(f"{shared:x}") % 2 == 1),
        ("short_response", lambda shared, response, p: response.bit_length() <= p.bit_length() - 8),
        ("odd_response", lambda shared, response, p: len(f"{response:x}") % 2 == 1),
    ],
)
def test_shapes_of_an_exchange(keys: Keys, shape: Any, holds: Any) -> None:
    group = crypto.DHGroup(keys.prime, 2)
    challenge = pow(2, 0x1234567, keys.prime)
    made = crypto.exchange(group, challenge, shape=shape, secret=3 << 250)
    assert made.secret >= 3 << 250
    assert made.response == pow(2, made.secret, keys.prime)
    assert made.shared_secret == pow(challenge, made.secret, keys.prime)
    assert holds(made.shared_secret, made.response, keys.prime)


def test_an_exchange_of_no_shape(keys: Keys) -> None:
    group = crypto.DHGroup(keys.prime, 2)
    made = crypto.exchange(group, 9, secret=7)
    assert (made.secret, made.response, made.shared_secret) == (7, 2**7, 9**7)
    secrets = {crypto.exchange(group, 9).secret for _ in range(5)}
    assert len(secrets) == 5
    assert all(secret.bit_length() == 256 for secret in secrets)
