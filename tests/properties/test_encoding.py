"""Percent, hex, base64 and pairs, judged by the standard library: the same bytes, and strict where it can be lenient."""

import base64
import string
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth import InvalidValue, LiveSessionToken, LiveSessionTokenMismatch, Secret, _core, signing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PAIRS = st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=8)
HEX = st.text("0123456789abcdefABCDEF", min_size=1, max_size=600)


@given(TEXT)
def test_percent_encoding_is_that_of_urllib(text: str) -> None:
    encoded = signing.percent_encode(text)
    assert encoded == quote(text, safe="-._~")
    assert unquote(encoded, errors="strict") == text
    assert set(encoded) <= set(string.ascii_letters + string.digits + "-._~%")


@given(PAIRS)
def test_a_form_means_its_pairs(pairs: list[tuple[str, str]]) -> None:
    assert parse_qsl(signing.encode_form(pairs).decode("ascii"), keep_blank_values=True) == pairs


@given(PAIRS, st.sampled_from(["", "?", "?x=1", "?x=1&"]))
def test_a_query_is_read_as_it_is_written(pairs: list[tuple[str, str]], begin: str) -> None:
    before = [("x", "1")] if "x" in begin else []
    url = _core.url_with_query(f"https://host/path{begin}", pairs)
    assert url.startswith(f"https://host/path{begin}")
    assert _core.query_pairs(url) == before + pairs
    assert parse_qsl(url.partition("?")[2], keep_blank_values=True) == before + pairs


@given(PAIRS)
def test_a_query_that_somebody_else_wrote(pairs: list[tuple[str, str]]) -> None:
    """With + for blanks, as forms have it."""
    assert _core.query_pairs(f"https://host/?{urlencode(pairs)}") == pairs


VALUE = st.one_of(st.text(max_size=5), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(st.dictionaries(st.text(max_size=5), VALUE | st.lists(VALUE, max_size=3) | st.tuples(VALUE), max_size=5))
def test_values_become_text(given_pairs: dict[str, Any]) -> None:
    words: dict[object, str] = {True: "true", False: "false"}
    expected = [
        (name, words[each] if isinstance(each, bool) else str(each))
        for name, value in given_pairs.items()
        for each in (value if isinstance(value, (list, tuple)) else [value])
    ]
    assert signing.as_pairs(given_pairs) == expected
    assert signing.as_pairs(iter(given_pairs.items())) == expected


# --- Base64 --------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_base64_and_back(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert Secret.from_base64(text).reveal() == data
    assert Secret(data).reveal_base64() == text


@given(st.binary(max_size=40), st.data())
def test_no_second_spelling_of_base64(data: bytes, draw: st.DataObject) -> None:
    """Whatever is not exactly what an encoder writes is refused: blanks, missing padding, unused bits, other letters."""
    text = list(base64.b64encode(data).decode())
    for _ in range(draw.draw(st.integers(1, 3))):
        where = draw.draw(st.integers(0, len(text)))
        put = draw.draw(st.sampled_from(["", *"ABab09+/=-_ \n\0é"]))
        text[where : where + draw.draw(st.integers(0, 1))] = put
    spelled = "".join(text)
    try:
        decoded = base64.b64decode(spelled.encode("ascii"), validate=True)
        is_canonical = base64.b64encode(decoded).decode() == spelled
    except ValueError:
        is_canonical = False
    if is_canonical:
        assert Secret.from_base64(spelled).reveal() == decoded
    else:
        with pytest.raises(InvalidValue):
            Secret.from_base64(spelled)


# --- Hex -----------------------------------------------------------------------------------------


@given(HEX)
def test_javas_bytes_of_a_number(digits: str) -> None:
    """BigInteger.toByteArray: two's complement, big-endian, as few bytes as hold it with its sign."""
    number = int(digits, 16)
    made = _core.java_bytes(digits)
    assert int.from_bytes(made, "big", signed=True) == number
    assert len(made) == number.bit_length() // 8 + 1


@given(st.text(max_size=20))
def test_what_is_no_hex(text: str) -> None:
    """Python's own `int` takes signs, blanks, underscores, prefixes and other alphabets' digits."""
    if text and set(text) <= set(string.hexdigits):
        assert int.from_bytes(_core.java_bytes(text), "big") == int(text, 16)
    else:
        with pytest.raises(InvalidValue):
            _core.java_bytes(text)


@given(st.text(string.hexdigits + "g -+x", min_size=38, max_size=42))
def test_no_text_but_the_proof_proves_a_token(text: str) -> None:
    with pytest.raises(LiveSessionTokenMismatch):
        LiveSessionToken("A" * 27 + "=", consumer_key="ABCDEFGHI").verify(text)
