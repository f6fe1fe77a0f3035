"""The live session token, judged by `hmac`; its expiry, judged by whole-number arithmetic."""

import base64
import hmac
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth import (
    AccessToken,
    Consumer,
    InvalidValue,
    LiveSessionToken,
    LiveSessionTokenMismatch,
    MissingSetting,
    RequestToken,
    Secret,
)
from ibkr_oauth.flow import Credential
from ibkr_oauth.oauth import TokenExchange, _expiry
from ibkr_oauth.transport import Response

KEY = st.from_regex(r"[A-Z]{9}|TESTCONS", fullmatch=True)
BYTES = st.binary(min_size=1, max_size=300)
NOW = datetime(2026, 9, 21, 12, 0, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(BYTES, BYTES, KEY)
def test_deriving_and_proving(shared: bytes, secret: bytes, consumer_key: str) -> None:
    expected = hmac.digest(shared, secret, "sha1")
    proof = hmac.digest(expected, consumer_key.encode(), "sha1").hex()
    for wrap in (bytes, Secret):
        token = LiveSessionToken.derive(wrap(shared), wrap(secret), consumer_key=consumer_key, access_token="a1b2")
        assert base64.b64decode(token.reveal()) == expected
        assert (token.consumer_key, token.access_token) == (consumer_key, "a1b2")
        token.verify(proof)
        token.verify(proof.upper())
    assert token.fingerprint == hmac.digest(expected, b"fingerprint", "sha256")[:8].hex()
    again = LiveSessionToken(base64.b64encode(expected).decode())
    assert again == token
    again.verify(proof, consumer_key)


@given(BYTES, BYTES, KEY, st.integers(0, 39), st.integers(1, 15))
def test_one_wrong_digit_proves_nothing(
    shared: bytes, secret: bytes, consumer_key: str, position: int, change: int
) -> None:
    token = LiveSessionToken.derive(shared, secret, consumer_key=consumer_key)
    proof = hmac.digest(hmac.digest(shared, secret, "sha1"), consumer_key.encode(), "sha1").hex()
    digit = f"{int(proof[position], 16) ^ change:x}"
    with pytest.raises(LiveSessionTokenMismatch):
        token.verify(proof[:position] + digit + proof[position + 1 :])
    with pytest.raises(LiveSessionTokenMismatch):
        token.verify(proof, f"{consumer_key}X")


@given(st.binary(max_size=64).filter(lambda data: len(data) != 20))
def test_tokens_of_another_length(data: bytes) -> None:
    kind, words = (InvalidValue, f"has {len(data)} bytes, expected 20") if data else (MissingSetting, "empty")
    with pytest.raises(kind, match=words):
        LiveSessionToken(base64.b64encode(data).decode())


# --- Expiry --------------------------------------------------------------------------------------


@given(st.integers(-7 * 86_400_000, 7 * 86_400_000))
def test_milliseconds_become_a_moment(from_now: int) -> None:
    """Exact to the millisecond, and in UTC."""
    milliseconds = (NOW - EPOCH) // timedelta(milliseconds=1) + from_now
    expires_at = _expiry(milliseconds, NOW)
    assert expires_at.utcoffset() == timedelta(0)
    exact = EPOCH + timedelta(milliseconds=milliseconds)
    if abs(exact - NOW) <= timedelta(days=2):
        assert abs(expires_at - exact) < timedelta(milliseconds=1)
    else:
        assert expires_at in (NOW + timedelta(hours=24), exact)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=14),
    st.lists(st.integers(), max_size=2),
    st.floats(),
    st.integers(),
    st.integers(1_600_000_000, 1_900_000_000),  # seconds, not milliseconds
)


@given(ODD)
def test_whatever_the_service_says_a_token_has_an_end(said: Any) -> None:
    """In seconds, missing, negative, infinite, absurd: 24 hours are assumed. Never naive, never years ahead."""
    expires_at = _expiry(said, NOW)
    assert expires_at.utcoffset() == timedelta(0)
    assert abs(expires_at - NOW) < timedelta(days=365)
    if isinstance(said, (bool, str, list)) or said is None:
        assert expires_at == NOW + timedelta(hours=24)


@given(st.floats(1, 7 * 86_400), st.floats(0, 1))
def test_a_token_is_renewed_in_time_and_not_at_once(lifetime: float, part: float) -> None:
    """Never in the first nine tenths of its life, always before the last twentieth of it begins."""
    now = NOW.timestamp()
    token = LiveSessionToken("A" * 27 + "=", datetime.fromtimestamp(now + lifetime, UTC))
    credential = Credential(token, None, now)  # type: ignore[arg-type]
    passed = lifetime * part
    left = credential.expires - (now + passed)
    if part < 0.89:
        assert now + passed <= credential.due
    if left < min(3600, lifetime / 10) - 1e-3:
        assert now + passed > credential.due


@given(st.timedeltas(timedelta(days=-3), timedelta(days=3)), st.integers(-14, 14))
def test_time_that_remains(remaining: timedelta, zone: int) -> None:
    """In whatever zone the expiry is written."""
    if abs(remaining) < timedelta(minutes=1):
        remaining += timedelta(minutes=2)
    token = LiveSessionToken(
        "A" * 27 + "=", (datetime.now(UTC) + remaining).astimezone(timezone(timedelta(hours=zone)))
    )
    assert timedelta(0) <= remaining - token.remaining < timedelta(minutes=1)
    assert token.expired is (remaining < timedelta(0))


def test_an_exchange_hands_on_the_servers_expiry(pem: dict[str, str], vectors: dict[str, Any]) -> None:
    """The whole third leg with numbers of our own: proof, expiry, and whose the token is."""
    granted = vectors["access_token_secrets"]["typical_32"]
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    exchange = TokenExchange(consumer, AccessToken("a1b2", granted["encrypted_base64"]), "https://host", timestamp=1)
    prime, ours = consumer.dh_params.prime, 0x1234567
    found = re.search(r'diffie_hellman_challenge="([0-9a-f]+)"', exchange.request.headers["Authorization"])
    assert found is not None
    shared = pow(int(found[1], 16), ours, prime)
    token = hmac.digest(
        shared.to_bytes(shared.bit_length() // 8 + 1, "big"), bytes.fromhex(granted["plaintext_hex"]), "sha1"
    )
    answer = {
        "diffie_hellman_response": f"{pow(2, ours, prime):x}",
        "live_session_token_signature": hmac.digest(token, b"ABCDEFGHI", "sha1").hex(),
        "live_session_token_expiration": (NOW - EPOCH) // timedelta(milliseconds=1) + 86_400_123,
    }
    made = exchange.finish(Response("POST", "https://host", 200, [], json.dumps(answer).encode()), NOW)
    assert base64.b64decode(made.reveal()) == token
    assert made.expires_at == NOW + timedelta(milliseconds=86_400_123)
    assert (made.consumer_key, made.access_token) == ("ABCDEFGHI", "a1b2")


# --- Tokens as values ----------------------------------------------------------------------------

WORD = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=' "'), min_size=1)
CIPHERTEXT = st.binary(min_size=1, max_size=60).map(lambda data: base64.b64encode(data).decode())


@given(WORD, WORD, CIPHERTEXT, CIPHERTEXT)
def test_tokens_are_equal_by_what_they_hold(one: str, other: str, secret: str, second: str) -> None:
    assert (RequestToken(one) == RequestToken(other)) is (one == other)
    assert hash(RequestToken(one)) == hash(RequestToken(f" {one}\n"))
    assert (AccessToken(one, secret) == AccessToken(other, second)) is ((one, secret) == (other, second))
    assert hash(AccessToken(one, secret)) == hash(AccessToken(one, f"\n{secret} "))
    assert RequestToken(one) != AccessToken(one, secret)
    assert AccessToken(one, secret) != RequestToken(one)
    assert one not in {RequestToken(one), AccessToken(one, secret)}
