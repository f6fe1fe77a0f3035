"""The stages of signing and the live session token, as functions."""

import base64
import hashlib
import hmac
import re

import pytest

from ibkr_oauth import _core, errors

URL = "https://api.ibkr.com/v1/api/x"


def test_percent_encode(vectors):
    case = vectors["percent_encoding"]
    assert _core.percent_encode(case["input"]) == case["rfc3986"]
    assert _core.percent_encode(text="a b/ü\0\U0001f600") == "a%20b%2F%C3%BC%00%F0%9F%98%80"
    assert _core.percent_encode("") == ""


def test_percent_encode_of_long_texts():
    assert len(_core.percent_encode(" " * 100_000)) == 300_000
    with pytest.raises(errors.InvalidValue) as caught:
        _core.percent_encode("x" * (17 << 20))
    assert caught.value.code == "limit"


def test_query_pairs():
    assert _core.query_pairs(URL) == []
    assert _core.query_pairs(url=URL + "?a=1&b=x%20y+z&a=%C3%BC&empty&=v") == [
        ("a", "1"),
        ("b", "x y z"),
        ("a", "ü"),
        ("empty", ""),
        ("", "v"),
    ]


@pytest.mark.parametrize("query", ["a=1&b=%FF", "%ED%A0%80=1"])
def test_query_that_is_not_utf8_is_refused(query):
    with pytest.raises(errors.InvalidValue, match=r"parameter [12] of the query is not UTF-8") as caught:
        _core.query_pairs(f"{URL}?{query}")
    assert caught.value.code == "encoding"
    assert caught.value.__context__ is None


def test_url_with_query():
    assert _core.url_with_query(URL, []) == URL
    assert _core.url_with_query(URL, [("a", "1"), ("b", "ü &")]) == URL + "?a=1&b=%C3%BC%20%26"
    assert _core.url_with_query(url=URL + "?a=1", pairs=(("b", "2"),)) == URL + "?a=1&b=2"
    with pytest.raises(errors.InvalidValue):
        _core.url_with_query(URL + "#fragment", [])


def test_normalise(vectors):
    assert _core.normalise([("b", "2"), ("a", "x y"), ("a", "1")]) == "a=1&a=x y&b=2"
    assert _core.normalise([("b", "2"), ("a", "x y")], rfc5849=True) == "a=x%20y&b=2"
    assert _core.normalise([]) == ""
    with pytest.raises(TypeError, match=r"^rfc5849 must be bool, not int$"):
        _core.normalise([], 1)


def test_base_string_of_rfc5849(vectors):
    case = vectors["generic_standards"]["rfc5849_3_4_1_1"]
    url = "http://example.com/request"
    assert _core.base_string("POST", url, case["params"], query_signing="rfc5849") == case["base_string"]
    once = _core.base_string("POST", url, case["params"], "", "merge")
    assert once == case["same_params_under_ibkr_single_encoding"]


def test_base_string_of_ibkrs_own_examples(vectors):
    for case in vectors["official"]["signatures"]:
        text = _core.base_string(
            case["method"], case["url"], list(case["signed_params"].items()), case["prepend"] or ""
        )
        assert text == case["base_string"], case["id"]


def test_base_string_words():
    with pytest.raises(errors.InvalidValue, match="omit, merge, url or rfc5849"):
        _core.base_string("GET", URL, [], query_signing="none")
    for keywords, message in [
        ({"prepend": b"x"}, "prepend must be str, not bytes"),
        ({"query_signing": None}, "query_signing must be str, not NoneType"),
        ({"method": 5}, "method must be str, not int"),
        ({"pairs": None}, "pairs must be a sequence of (name, value) tuples, not NoneType"),
    ]:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            _core.base_string(**({"method": "GET", "url": URL, "pairs": []} | keywords))


def test_hmac_sha256(vectors, hmac_case):
    key = _core.Secret.from_base64(hmac_case["live_session_token"])
    assert _core.hmac_sha256(hmac_case["base_string"], key) == hmac_case["signature_base64"]
    text = "ü" * 10_000
    digest = hmac.digest(key.reveal(), text.encode(), hashlib.sha256)
    assert _core.hmac_sha256(base_string=text, key=key) == base64.b64encode(digest).decode()
    with pytest.raises(TypeError, match=r"must be ibkr_oauth\._core\.Secret, not bytes"):
        _core.hmac_sha256("text", b"key")


def test_authorization_header():
    pairs = [("oauth_token", "t"), ("oauth_nonce", "a+b")]
    expected = 'OAuth realm="r", oauth_nonce="a%2Bb", oauth_token="t"'
    assert _core.authorization_header(pairs, "r") == expected
    assert _core.authorization_header(pairs=pairs) == expected.replace('realm="r", ', "")
    with pytest.raises(errors.InvalidValue) as caught:
        _core.authorization_header([("oauth_token", "secret\r\nX: y")])
    assert caught.value.code == "header"
    assert "secret" not in str(caught.value)


def oauth_pairs(case: dict) -> list[tuple[str, str]]:
    pairs = {
        "oauth_callback": case.get("oauth_callback"),
        "oauth_consumer_key": case["consumer_key"],
        "oauth_nonce": case["nonce"],
        "oauth_signature_method": case["signature_method"],
        "oauth_timestamp": case["timestamp"],
        "oauth_token": case.get("oauth_token"),
        "oauth_verifier": case.get("oauth_verifier"),
        "diffie_hellman_challenge": case.get("diffie_hellman_challenge"),
    }
    return [(name, value) for name, value in pairs.items() if value is not None]


def test_rsa_signature(rsa_case, signing_key):
    pairs = oauth_pairs(rsa_case)
    signature = _core.rsa_signature(rsa_case["method"], rsa_case["url"], pairs, signing_key)
    assert signature == rsa_case["signature_base64"]
    header = _core.authorization_header([*pairs, ("oauth_signature", signature)], rsa_case["realm"])
    assert header == rsa_case["authorization_header_realm_first"]


def test_live_session_token_request(lst_request_case, vectors, signing_key, encryption_key):
    case, request = lst_request_case, lst_request_case["request"]
    ciphertext = vectors["access_token_secrets"][case["access_token_secret"]]["encrypted_base64"]
    signature = _core.rsa_signature(
        method=request["method"],
        url=request["url"],
        oauth=oauth_pairs({**case, **request}),
        key=signing_key,
        prepend=encryption_key.decrypt(ciphertext),
    )
    assert signature == request["signature_base64"]


def test_live_session_token(lst_case, vectors):
    secret = vectors["access_token_secrets"][lst_case["access_token_secret"]]["plaintext_hex"]
    shared = _core.Secret(bytes.fromhex(lst_case["K_bytes_hex"]))
    assert _core.java_bytes(lst_case["shared_secret_hex"]) == shared.reveal()
    token = _core.derive_live_session_token(
        shared_secret=shared, access_token_secret=_core.Secret(bytes.fromhex(secret))
    )
    assert type(token) is _core.Secret
    assert token.reveal_base64() == lst_case["lst_base64"]
    consumer_key, signature = lst_case["consumer_key"], lst_case["live_session_token_signature"]
    assert _core.verify_live_session_token(token, consumer_key, signature) is None
    _core.verify_live_session_token(token=token, consumer_key=consumer_key, signature=signature.upper())


@pytest.mark.parametrize("signature", ["", "00", "0" * 40, "z" * 40, "ü" * 20])
def test_wrong_proof(signature):
    with pytest.raises(errors.LiveSessionTokenMismatch) as caught:
        _core.verify_live_session_token(_core.Secret(b"0" * 20), "CONSUMER", signature)
    assert caught.value.code == "token_mismatch"


def test_published_proof(vectors):
    case = vectors["official"]["other"]["lst_signature_2020"]
    token = _core.Secret.from_base64(case["live_session_token"])
    _core.verify_live_session_token(token, case["consumer_key"], case["live_session_token_signature"])


def test_types_of_secrets_and_keys(signing_key):
    secret = _core.Secret(b"s")
    for call in (
        lambda: _core.derive_live_session_token(b"s", secret),
        lambda: _core.derive_live_session_token(secret, "s"),
        lambda: _core.verify_live_session_token("s", "CONSUMER", "0" * 40),
        lambda: _core.rsa_signature("GET", URL, [], secret),
        lambda: _core.rsa_signature("GET", URL, [], signing_key, b"prepend"),
        lambda: _core.rsa_signature(b"GET", URL, [], signing_key),
        lambda: _core.rsa_signature("GET", None, [], signing_key),
        lambda: _core.rsa_signature("GET", URL, None, signing_key),
    ):
        with pytest.raises(TypeError, match=r"must be .*, not "):
            call()
    with pytest.raises(TypeError, match=r"^prepend must be Secret or None, not RSAKey$"):
        _core.rsa_signature("GET", URL, [], signing_key, prepend=signing_key)


def test_java_bytes(vectors):
    for digits, expected in vectors["to_byte_array"]["cases"]:
        assert _core.java_bytes(digits).hex() == expected
        assert _core.java_bytes(digits.upper()).hex() == expected
        assert _core.java_bytes("000" + digits).hex() == expected


@pytest.mark.parametrize("digits", ["", "-1", "0x1", "1 ", "g", "ü"])
def test_java_bytes_is_strict(digits):
    with pytest.raises(errors.InvalidValue) as caught:
        _core.java_bytes(hex_digits=digits)
    assert caught.value.code == "encoding"


def test_nonce():
    nonces = {_core.nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in nonces)


def test_functions_check_their_arguments():
    for call in (
        _core.percent_encode,
        lambda: _core.percent_encode("a", "b"),
        lambda: _core.percent_encode(other="a"),
        lambda: _core.nonce(1),
        lambda: _core.versions(1),
        _core.normalise,
    ):
        with pytest.raises(TypeError):
            call()


def test_errors_carry_where_they_come_from():
    with pytest.raises(errors.InvalidValue) as caught:
        _core.java_bytes("zz")
    assert caught.value.where == "ibk_hex_decode"
    assert caught.value.native is None
    assert caught.value.advice


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://host/x", True),
        ("http://127.0.0.1:8000/x", True),
        ("http://[::1]/x", True),
        ("HTTP://LOCALHOST", True),
        ("http://host/x", False),
        ("http://127.0.0.1.host/x", False),
    ],
)
def test_what_may_be_sent(url, may):
    assert _core.may_be_sent(url) is may


def test_what_is_no_url_is_refused():
    with pytest.raises(errors.InvalidValue):
        _core.may_be_sent("host/x")
    with pytest.raises(TypeError):
        _core.may_be_sent(None)


def test_header_values():
    headers = [("Date", "1"), ("Set-Cookie", "a"), ("set-cookie", "b"), ("Datex", "no"), ("DATE", "2"), ("", "no")]
    assert _core.header_values(headers, "date") == ["1", "2"]
    assert _core.header_values(headers, "SET-COOKIE") == ["a", "b"]
    assert _core.header_values(headers, "x") == []
    assert _core.header_values([], "date") == []
    assert _core.header_values([("date", None)], "date") == [None]
    for wrong in (None, (("a", "b"),), [["a", "b"]], [("a",)], [(1, "b")], [("a", "b"), None]):
        with pytest.raises(TypeError):
            _core.header_values(wrong, "a")
    with pytest.raises(TypeError):
        _core.header_values([], 1)
    with pytest.raises(TypeError):
        _core.header_values(b"", 1)
    with pytest.raises(TypeError, match=r"takes 2 arguments \(1 given\)"):
        _core.header_values([])


@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        (b"", []),
        (b"A: b\r\na:c\r\n", [("A", "b"), ("a", "c")]),
        (b"A:\t b c \t\r\nB: \r\nC:", [("A", "b c"), ("B", ""), ("C", "")]),
        (b"no header\r\nA: b:c\nneither", [("A", "b:c")]),
        (b"\r\n\n:\r\n", [("", "")]),
        (b"caf\xe9: \xff\0\r\n", [("caf\xe9", "\xff\0")]),
    ],
)
def test_header_lines(lines, pairs):
    assert _core.header_pairs(lines) == pairs
    for name in [name for name, _ in pairs if name.isascii()]:
        for spelled in (name, name.upper(), name.lower()):
            assert _core.header_values(lines, spelled) == _core.header_values(pairs, spelled)
            assert _core.header_values(pairs, spelled)
    assert _core.header_values(lines, "x") == []


@pytest.mark.parametrize("wrong", [None, "a: b", bytearray(b"a: b"), ["a: b"]])
def test_header_lines_are_bytes(wrong):
    with pytest.raises(TypeError, match="bytes"):
        _core.header_pairs(wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.url_with_query(1, []),
        lambda: _core.url_with_query("https://host/"),
        _core.authorization_header,
        lambda: _core.authorization_header([], 1),
        lambda: _core.java_bytes(1),
        _core.java_bytes,
        lambda: _core.rsa_signature("POST"),
        lambda: _core.hmac_sha256("x", b"key"),
        lambda: _core.hmac_sha256(b"x", _core.Secret(b"key")),
        _core.query_pairs,
        lambda: _core.query_pairs(None),
        lambda: _core.normalise(None),
        lambda: _core.base_string("GET", URL),
        lambda: _core.base_string("GET", None, []),
        lambda: _core.url_with_query(URL, None),
        lambda: _core.authorization_header(None),
        lambda: _core.derive_live_session_token(_core.Secret(b"s")),
        lambda: _core.verify_live_session_token(_core.Secret(b"s"), "KEY"),
        lambda: _core.verify_live_session_token(_core.Secret(b"s"), b"KEY", "0" * 40),
        lambda: _core.verify_live_session_token(_core.Secret(b"s"), "KEY", None),
    ],
)
def test_arguments_that_are_missing_or_of_another_type(call):
    with pytest.raises(TypeError):
        call()


def test_a_key_of_no_bytes():
    with pytest.raises(errors.InvalidValue, match="0 bytes"):
        _core.hmac_sha256("x", _core.Secret(b""))
    with pytest.raises(errors.InvalidValue, match="0 bytes"):
        _core.derive_live_session_token(_core.Secret(b""), _core.Secret(b"x"))
