"""What redact() lets through, with secrets planted in texts of every shape."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth.redact import MAX_BODY, is_secret_name, mask, path_of, redact, without_query

TOKEN = st.binary(min_size=20, max_size=20).map(lambda data: base64.b64encode(data).decode())
LONG = st.binary(min_size=48, max_size=300)
PROSE = st.text("abc {}[]:,.\"'\\\n=&<>", max_size=30)
NAMES = (
    "oauth_token_secret",
    "oauth_signature",
    "oauth_verifier",
    "live_session_token_signature",
    "live_session_token",
    "diffie_hellman_response",
    "diffie_hellman_challenge",
    "access_token_secret",
    "access_token",
    "session",
)
#: No secret that a rule could know by its look alone, only by its name.
PLAIN = st.text("abcdefghjk", min_size=6, max_size=20).map(lambda text: f"zq{text}")


@pytest.mark.parametrize("name", NAMES)
@given(secret=PLAIN, before=PROSE, after=PROSE)
def test_what_has_a_name_is_hidden(name: str, secret: str, before: str, after: str) -> None:
    assert is_secret_name(name)
    for text in (
        json.dumps({"a": before, name: secret, "b": after}),
        json.dumps({"a": {"b": [{name: secret}]}}, indent=2),
        f"{before} {name}={secret}&x=1 {after}",
        f'{before} {name}="{secret}", {after}',
        f"Authorization: OAuth realm=x, {name}={secret}",
    ):
        assert secret not in redact(text), text


@given(TOKEN, PROSE, PROSE)
def test_a_live_session_token_is_known_by_its_look(token: str, before: str, after: str) -> None:
    for spelled in (token, quote(token, safe="")):
        assert spelled not in redact(f"{before} {spelled} {after}")


@given(LONG, PROSE, PROSE)
def test_long_runs_are_hidden(data: bytes, before: str, after: str) -> None:
    for spelled in (
        data.hex(),
        data.hex().upper(),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    ):
        assert spelled[:40] not in redact(f"{before} {spelled} {after}")


@given(st.lists(st.text("ABCab01+/", min_size=64, max_size=64), min_size=1, max_size=4), PROSE, st.booleans())
def test_keys_are_hidden_whole_or_cut(lines: list[str], before: str, is_cut: bool) -> None:
    text = (
        before
        + "\n-----BEGIN PRIVATE KEY-----\n"
        + "\n".join(lines)
        + ("" if is_cut else "\n-----END PRIVATE KEY-----\nrest")
    )
    shown = redact(text)
    for line in lines:
        assert line[:20] not in shown
    assert is_cut or shown.endswith("rest")


@given(st.text(max_size=200), st.integers(0, 100))
def test_nothing_is_longer_than_the_limit(text: str, limit: int) -> None:
    shown = redact(text, limit)
    head, sign, tail = shown.partition("… (")
    assert len(shown) <= limit or (sign and len(head) <= limit and tail == f"{len(text)} characters)")


@given(TOKEN, st.integers(-40, 10))
def test_a_secret_at_the_cut_is_not_half_shown(token: str, where: int) -> None:
    """It is hidden first, and cut afterwards."""
    shown = redact("." * (MAX_BODY + where) + f'"session": "{token}"')
    assert token[:8] not in shown


@given(st.text("abc xyz<>", max_size=60))
def test_plain_words_stay(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=40))
def test_a_mask_shows_four_characters_at_most(value: str) -> None:
    shown = mask(value)
    assert shown in ("…", f"{value[:4]}…")
    assert shown == "…" or len(value) > 8


@given(st.lists(st.text("abc-_", min_size=1, max_size=5), max_size=4), st.text("a=1&?/", max_size=8))
def test_addresses_lose_their_query(parts: list[str], query: str) -> None:
    url = "/".join(["https://host", *parts])
    assert without_query(f"{url}?{query}") == url
    assert path_of(f"{url}?{query}") == "/" + "/".join(parts)
