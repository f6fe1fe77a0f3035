"""RequestSigner: the URL to send and its Authorization header."""

import re

import pytest

from ibkr_oauth import _core, errors

URL = "https://api.ibkr.com/v1/api/portfolio/accounts"
TOKEN = "uB3F/ZuM5uKK51tyHhn8j5dNRfA="


def make(**changes) -> _core.RequestSigner:
    arguments = {
        "consumer_key": "VECTORKEY",
        "access_token": "a1b2c3d4e5f60718293a",
        "live_session_token": _core.Secret.from_base64(TOKEN),
        "realm": "limited_poa",
        "query_signing": "omit",
    }
    return _core.RequestSigner(**(arguments | changes))


def test_vectors(hmac_case):
    signer = _core.RequestSigner(
        hmac_case["consumer_key"],
        hmac_case["oauth_token"],
        _core.Secret.from_base64(hmac_case["live_session_token"]),
        hmac_case["realm"],
        "merge",
    )
    url, header = signer.sign(
        hmac_case["method"],
        hmac_case["url_without_query"],
        hmac_case["query_params"],
        hmac_case["form_params"],
        hmac_case["nonce"],
        hmac_case["timestamp"],
    )
    assert url == hmac_case["url"]
    assert header == hmac_case["authorization_header"]


@pytest.mark.parametrize(
    ("query_signing", "implementation"),
    [
        ("omit", "query_omitted"),
        ("merge", "own: single encoding, RFC 3986 unreserved only"),
        ("url", "query_left_in_url_part"),
        ("rfc5849", "rfc5849_double_encoded"),
    ],
)
def test_query_signing(vectors, query_signing, implementation):
    case = vectors["disagreements"][0]
    expected = {name: result["signature_base64"] for result in case["results"] for name in result["implementations"]}
    _, header = make(query_signing=query_signing).sign("GET", case["url"], None, None, case["nonce"], case["timestamp"])
    signature = _core.percent_encode(expected[implementation])
    assert f'oauth_signature="{signature}"' in header


def test_url_without_parameters_is_the_callers_own(signer):
    url = f"{URL}?a=1"
    for nothing in (None, [], ()):
        assert signer.sign("GET", url, nothing, nothing, "n", "1")[0] is url


def test_parameters_join_a_query_that_is_there(signer):
    url, _ = signer.sign("GET", URL + "?a=1", [("ü b", "c&d"), ("a", "")], None, "n", "1")
    assert url == URL + "?a=1&%C3%BC%20b=c%26d&a="


class Sequence:
    """Neither list nor tuple."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_any_sequence_of_pairs_will_do(signer):
    expected = signer.sign("POST", URL, [("a", "1"), ("b", "2")], [("c", "3")], "n", "1")
    for params in (
        (("a", "1"), ("b", "2")),
        [["a", "1"], ["b", "2"]],
        Sequence(Sequence("a", "1"), ("b", "2")),
        list({"a": "1", "b": "2"}.items()),
    ):
        assert signer.sign("POST", URL, params, (("c", "3"),), "n", "1") == expected


class Failing(Sequence):
    def __getitem__(self, index):
        raise ZeroDivisionError


def test_exceptions_of_sequences_pass_through(signer):
    for params in (Failing(1), [Failing(1)]):
        with pytest.raises(ZeroDivisionError):
            signer.sign("GET", URL, params, None, "n", "1")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("ab", "params must be a sequence of (name, value) tuples, not str"),
        (b"ab", "params must be a sequence of (name, value) tuples, not bytes"),
        ({"a": "1"}, "params must be a sequence of (name, value) tuples, not dict"),
        (5, "params must be a sequence of (name, value) tuples, not int"),
        (iter([("a", "1")]), "params must be a sequence of (name, value) tuples, not list_iterator"),
        (["ab"], "params[0] must be a (name, value) tuple, not str"),
        ([("a", "1"), None], "params[1] must be a (name, value) tuple, not NoneType"),
        ([("a", "1", "hidden")], "params[0] must be a (name, value) tuple, not a sequence of 3"),
        ([()], "params[0] must be a (name, value) tuple, not a sequence of 0"),
        ([("a", "1"), (5, "hidden")], "the name of params[1] must be str, not int"),
        ([("a", b"hidden")], "the value of params[0] must be str, not bytes"),
        ([("a", None)], "the value of params[0] must be str, not NoneType"),
    ],
)
def test_what_is_no_pair_is_refused_by_position(signer, params, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$") as caught:
        signer.sign("GET", URL, params, None, "n", "1")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("position", range(6))
def test_other_types_are_refused(signer, position):
    name = ["method", "url", "params", "form", "nonce", "timestamp"][position]
    arguments = ["GET", URL, None, None, "n", "1"]
    arguments[position] = 5.0
    with pytest.raises(TypeError, match=f"^{name} must be "):
        signer.sign(*arguments)


def test_number_of_arguments(signer):
    with pytest.raises(TypeError, match=r"takes 6 arguments \(5 given\)"):
        signer.sign("GET", URL, None, None, "n")
    with pytest.raises(TypeError, match="keyword"):
        signer.sign("GET", URL, None, None, "n", timestamp="1")


def test_number_of_seconds_is_its_digits(signer):
    for seconds in (-(2**63), -1, 0, 9, 10, 1700000000, 2**63 - 1):
        assert signer.sign("GET", URL, None, None, "n", seconds) == signer.sign(
            "GET", URL, None, None, "n", str(seconds)
        )


def test_lone_surrogates(signer):
    for position, name in enumerate(["method", "url", None, None, "nonce", "timestamp"]):
        if name:
            arguments = ["GET", URL, None, None, "n", "1"]
            arguments[position] += "\ud800"
            with pytest.raises(errors.InvalidValue, match=f"{name} has a lone surrogate"):
                signer.sign(*arguments)
    with pytest.raises(errors.InvalidValue, match=r"the value of form\[0\] has a lone surrogate"):
        signer.sign("GET", URL, None, [("a", "\udfff")], "n", "1")


def test_errors_of_the_core_arrive(signer):
    for arguments, code in [
        (("get", URL, None, None, "n", "1"), "argument"),
        (("GET", "ftp://host/", None, None, "n", "1"), "url"),
        (("GET", "ftp://host/", [("a", "b")], None, "n", "1"), "url"),
        (("GET", URL, None, None, 'n"', "1"), "header"),
        (("GET", URL, [("a", "b" * 20000)], None, "n", "1"), "limit"),
        (("GET", URL, [("a", "b")] * 5000, None, "n", "1"), "limit"),
        (("GET", URL, None, [("a", "b" * (1 << 20))], "n", "1"), "limit"),
    ]:
        with pytest.raises(errors.InvalidValue) as caught:
            signer.sign(*arguments)
        assert caught.value.code == code
        assert caught.value.sent is False


@pytest.mark.parametrize("name", ["consumer_key", "access_token", "realm", "query_signing"])
def test_constructor_takes_texts(name):
    with pytest.raises(TypeError, match=f"^{name} must be str, not bytes$"):
        make(**{name: b"x"})
    with pytest.raises(errors.InvalidValue):
        make(**{name: "\ud800"})


def test_constructor_takes_a_secret():
    with pytest.raises(TypeError, match=r"must be ibkr_oauth\._core\.Secret, not bytes"):
        make(live_session_token=b"0" * 20)
    with pytest.raises(errors.InvalidValue):
        make(live_session_token=_core.Secret(b""))
    with pytest.raises(TypeError):
        _core.RequestSigner("a", "b")


@pytest.mark.parametrize("word", ["", "Omit", "all", "omit "])
def test_query_signing_is_one_of_four(word):
    with pytest.raises(errors.InvalidValue, match="omit, merge, url or rfc5849"):
        make(query_signing=word)


def test_empty_realm_is_left_out():
    _, header = make(realm="").sign("GET", URL, None, None, "n", "1")
    assert header.startswith("OAuth oauth_consumer_key=")


def test_repr_shows_nothing(signer):
    assert repr(signer) == "<RequestSigner>"


def test_signer_outlives_its_token():
    token = _core.Secret.from_base64(TOKEN)
    signer = make(live_session_token=token)
    expected = signer.sign("GET", URL, None, None, "n", "1")
    del token
    assert signer.sign("GET", URL, None, None, "n", "1") == expected
