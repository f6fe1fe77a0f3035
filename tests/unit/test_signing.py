"""What is around the signature: pairs as people give them, and the request that comes out. Signatures: `test_vectors.py`."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ibkr_oauth import Consumer, LiveSessionToken, Signer, signing
from ibkr_oauth.errors import InvalidValue, LiveSessionTokenExpired
from ibkr_oauth.signing import SignedRequest

LST = "AAECAwQFBgcICQoLDA0ODxAREhM="
URL = "https://api.ibkr.com/v1/api/tickle"
EXPIRY = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def signer(pem: dict[str, str]) -> Signer:
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    return Signer(consumer, LiveSessionToken(LST, EXPIRY, access_token="a1b2"), query_signing="merge")


def test_pairs_are_joined_as_they_are_or_encoded_first() -> None:
    pairs = [("b", "1 2"), ("a", "ü")]
    assert signing.normalise(pairs) == "a=ü&b=1 2"
    assert signing.normalise(pairs, rfc5849=True) == "a=%C3%BC&b=1%202"


@pytest.mark.parametrize("form", [None, {"side": "BUY"}])
def test_a_signed_request_is_what_was_asked_for(signer: Signer, form: dict[str, str] | None) -> None:
    signed = signer.sign("POST", URL, {"a": 1}, form)
    assert (signed.method, signed.url) == ("POST", f"{URL}?a=1")
    assert signed.body == (None if form is None else b"side=BUY")
    assert ("Content-Type" in signed.headers) is (form is not None)
    assert repr(signed) == f"<SignedRequest POST {URL}>"
    assert signer.query_signing == "merge"


def test_who_made_a_request_by_hand_has_no_session_to_blame() -> None:
    assert SignedRequest("GET", URL, {})._proof is None


def test_nothing_is_signed_from_the_moment_of_expiry_on(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = EXPIRY.timestamp()
    monkeypatch.setattr("time.time", lambda: now - 1)
    assert f'oauth_timestamp="{int(now) - 1}"' in signer.sign("GET", URL).headers["Authorization"]
    monkeypatch.setattr("time.time", lambda: now)
    with pytest.raises(LiveSessionTokenExpired):
        signer.sign("GET", URL)


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ({"a": "b", "c": 1}, [("a", "b"), ("c", "1")]),
        ((("c", True), ["a", False]), [("c", "true"), ("a", "false")]),
        ({"fields": [31, "84", 1.5]}, [("fields", "31"), ("fields", "84"), ("fields", "1.5")]),
        ([], []),
    ],
)
def test_pairs_are_text_in_the_order_they_came_in(given: Any, pairs: list[tuple[str, str]]) -> None:
    assert signing.as_pairs(given) == pairs


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("ab", TypeError, "form must be a mapping or pairs of (name, value), not str"),
        (b"ab", TypeError, "form must be a mapping or pairs of (name, value), not bytes"),
        (5, TypeError, "form must be a mapping or pairs of (name, value), not int"),
        (["ab"], TypeError, "form must be a mapping or pairs of (name, value): one of them is no pair"),
        ([("a",)], TypeError, "form must be a mapping or pairs of (name, value): one of them is no pair"),
        ([("a", "b", "c")], TypeError, "form must be a mapping or pairs of (name, value): one of them is no pair"),
        ({1: "a"}, TypeError, "form: a name must be str, not int"),
        ({"a": [None]}, TypeError, "parameter 'a' must be text, a number, a boolean or a list of them, not NoneType"),
        ({"a": [float("inf")]}, InvalidValue, "parameter 'a' is no finite number"),
    ],
)
def test_what_is_no_pair_is_named(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        signing.as_pairs(given, "form")
    assert str(caught.value).splitlines()[0] == words


def test_without_another_name_they_are_params() -> None:
    with pytest.raises(TypeError, match=r"^params must be"):
        signing.as_pairs("ab")  # type: ignore[arg-type]
