"""Token objects: immutable, silent, never pickled."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ibkr_oauth import (
    AccessToken,
    Consumer,
    InvalidValue,
    KeyMismatchError,
    LiveSessionToken,
    LiveSessionTokenExpired,
    LiveSessionTokenMismatch,
    MissingSetting,
    RequestToken,
    Secret,
    Signer,
    UsageError,
    signing,
)

LST = "uB3F/ZuM5uKK51tyHhn8j5dNRfA="
SECRET = "QUJD" * 86


def test_request_token() -> None:
    token = RequestToken("d4e6 ".strip() + "0123456789abcdef")
    assert token.authorization_url() == (
        "https://www.interactivebrokers.com/authorize?oauth_token=d4e60123456789abcdef"
    )
    own = RequestToken("a&b", "https://127.0.0.1:1/authorize")
    assert own.authorization_url() == "https://127.0.0.1:1/authorize?oauth_token=a%26b"
    assert token.token not in repr(token)


def test_access_token_forgives_line_breaks_of_mail_and_terminals() -> None:
    token = AccessToken(" a1b2c3d4e5f60718293a\n", f"{SECRET[:60]}\n  {SECRET[60:]}\r\n", is_paper=True)
    assert token == AccessToken("a1b2c3d4e5f60718293a", SECRET)
    assert token.is_paper
    assert SECRET[:8] not in repr(token)


@pytest.mark.parametrize(
    ("token", "secret"), [("", SECRET), ("  ", SECRET), (None, SECRET), ("a1b2", ""), ("a1b2", " \n"), ("a1b2", None)]
)
def test_empty_parts_are_missing_settings(token: str, secret: str) -> None:
    with pytest.raises(MissingSetting):
        AccessToken(token, secret)


@pytest.mark.parametrize("token", ["a b", "a\x00b", 'a"b', "ä"])
def test_words_with_other_characters(token: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        AccessToken(token, SECRET)
    assert token not in caught.value.message


def test_live_session_token() -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    token = LiveSessionToken(LST, expires_at=soon, consumer_key="ABCDEFGHI", access_token="a1b2")
    assert token.expires_at == soon
    assert timedelta(minutes=4) < token.remaining < timedelta(minutes=5)
    assert not token.expired
    assert token.reveal() == LST
    assert token == LiveSessionToken(LST)
    assert token != LiveSessionToken("AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
    assert LST[:6] not in repr(token)
    assert LiveSessionToken(LST, expires_at=datetime.now(UTC) - timedelta(seconds=1)).expired
    with pytest.raises(TypeError):
        hash(token)


@pytest.mark.parametrize("value", ["", "not base64!!", "QUJD", LST[:-1], LST + "\0"])
def test_what_is_no_live_session_token(value: str) -> None:
    with pytest.raises((InvalidValue, MissingSetting)) as caught:
        LiveSessionToken(value)
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (RequestToken, "request token"),
        (lambda value: AccessToken(value, SECRET), "access token"),
        (LiveSessionToken, "live session token"),
        (lambda value: LiveSessionToken(LST, access_token=value or 0), "access token"),
        (lambda value: AccessToken("a1b2", value), "access token secret"),
    ],
)
@pytest.mark.parametrize(
    ("value", "kind"), [("", MissingSetting), (None, MissingSetting), ("ä", Exception), (1, TypeError)]
)
def test_errors_name_the_value(make: Any, name: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises((kind, TypeError)) as caught:
        make(value)
    assert str(caught.value).startswith(name)


def test_a_secret_that_is_no_base64() -> None:
    """The first such character is named by its place, whatever the length."""
    for bad, place in ((SECRET[:7] + "*" + SECRET[8:], 8), (SECRET[:3] + "*", 4), ("**" + SECRET[:2], 1)):
        with pytest.raises(KeyMismatchError, match=f"character {place} of {len(bad)}"):
            AccessToken("a1b2", bad)


def test_hashes_tell_tokens_apart() -> None:
    assert len({hash(RequestToken(f"a{i}")) for i in range(20)}) > 15
    assert len({hash(AccessToken(f"a{i}", SECRET)) for i in range(20)}) > 15


def test_without_an_expiry_a_token_lives_a_day() -> None:
    token = LiveSessionToken(LST, consumer_key="ABCDEFGHI")
    assert token.expires_at.utcoffset() == timedelta(0)
    assert timedelta(hours=23, minutes=59) < token.remaining <= timedelta(hours=24)
    assert repr(token) == f"<LiveSessionToken ABCDEFGHI, expires {token.expires_at:%Y-%m-%dT%H:%M:%S}+00:00>"


def test_expiry_needs_a_time_zone() -> None:
    with pytest.raises(InvalidValue, match="time zone"):
        LiveSessionToken(LST, expires_at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_expiry_is_kept_in_utc() -> None:
    hawaii = timezone(timedelta(hours=-10))
    token = LiveSessionToken(LST, expires_at=datetime(2026, 1, 1, 14, tzinfo=hawaii))
    assert token.expires_at.isoformat() == "2026-01-02T00:00:00+00:00"
    with pytest.raises(InvalidValue, match="after 9999"):
        LiveSessionToken(LST, expires_at=datetime(9999, 12, 31, 23, tzinfo=hawaii))


@pytest.mark.parametrize("signature", ["", "0" * 39, "0" * 40, "0" * 41, "x" * 40, "ü" * 20])
def test_a_token_that_is_not_proved(signature: str) -> None:
    with pytest.raises(LiveSessionTokenMismatch):
        LiveSessionToken(LST, consumer_key="ABCDEFGHI").verify(signature)


@pytest.mark.parametrize("signature", [None, 1, b"0" * 40])
def test_a_proof_that_is_no_text(signature: Any) -> None:
    with pytest.raises(LiveSessionTokenMismatch, match="not a text"):
        LiveSessionToken(LST, consumer_key="ABCDEFGHI").verify(signature)


def test_verifying_needs_the_consumer_key() -> None:
    with pytest.raises(MissingSetting, match="consumer key"):
        LiveSessionToken(LST).verify("0" * 40)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AccessToken("a1b2", SECRET),
        lambda: LiveSessionToken(LST),
        lambda: RequestToken("a1b2"),
        lambda: Secret(b"abc"),
    ],
)
def test_tokens_cannot_be_pickled_or_changed(make: Any) -> None:
    token = make()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(token, protocol)
    with pytest.raises(AttributeError):
        token.token = "x"
    assert not hasattr(token, "__dict__")


def test_secret() -> None:
    secret = Secret(bytearray(b"abc"))
    assert secret == Secret(b"abc") != Secret(b"abd")
    assert secret != b"abc"
    assert (repr(secret), str(secret), len(secret)) == ("<Secret 3 bytes>", "<Secret 3 bytes>", 3)
    assert secret.reveal() == b"abc"
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    with pytest.raises(TypeError):
        bytes(secret)  # type: ignore[call-overload]


def test_signer_refuses_what_cannot_work(pem: dict[str, str]) -> None:
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    with pytest.raises(UsageError, match="access token"):
        Signer(consumer, LiveSessionToken(LST))
    with pytest.raises(InvalidValue, match="query_signing"):
        Signer(consumer, LiveSessionToken(LST, access_token="a1b2"), query_signing="other")  # type: ignore[arg-type]
    past = LiveSessionToken(LST, datetime.now(UTC) - timedelta(seconds=1), access_token="a1b2")
    with pytest.raises(LiveSessionTokenExpired):
        Signer(consumer, past).sign("GET", "https://api.ibkr.com/v1/api/tickle")


def test_signer_builds_the_url_that_it_signs(pem: dict[str, str]) -> None:
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    signer = Signer(consumer, LiveSessionToken(LST, access_token="a1b2"), query_signing="merge")
    url = "https://api.ibkr.com/v1/api/probe"
    request = signer.sign("GET", url, {"symbol": "BRK B", "conids": [1, 2], "force": True, "x": 1.5})
    assert request.url == f"{url}?symbol=BRK%20B&conids=1&conids=2&force=true&x=1.5"
    assert request.body is None
    again = signer.sign("GET", request.url, nonce="n", timestamp=1717600900)
    same = signer.sign("GET", f"{url}?symbol=BRK%20B", [("conids", "1"), ("conids", "2"), ("force", "true"), ("x", "1.5")],
                       nonce="n", timestamp=1717600900)  # fmt: skip
    assert again.headers == same.headers
    form = signer.sign("POST", url, form={"publish": True, "text": "a b&c"})
    assert form.body == b"publish=true&text=a%20b%26c"
    assert form.headers["Content-Type"] == "application/x-www-form-urlencoded"
    with pytest.raises(TypeError, match="parameter 'x'"):
        signer.sign("GET", url, {"x": object()})
    assert "Authorization" not in repr(form)
    assert "query" not in repr(signer.sign("GET", url + "?query=1"))


def test_signer_refuses_a_token_of_another_consumer(pem: dict[str, str]) -> None:
    consumer = Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])
    with pytest.raises(UsageError, match=r"OTHERCONS.*ABCDEFGHI"):
        Signer(consumer, LiveSessionToken(LST, consumer_key="OTHERCONS", access_token="a1b2"))


@pytest.mark.parametrize("key", ["c2hvcnQ=", LST[:-4], "QUJD" * 7])
def test_a_cut_token_signs_nothing(key: str) -> None:
    with pytest.raises(InvalidValue, match="expected 20"):
        signing.hmac_sha256("x", key)
    assert signing.hmac_sha256("x", f" {LST}\n") == signing.hmac_sha256("x", LiveSessionToken(LST))


@pytest.mark.parametrize("expires_at", [1722222222222, "2026-01-01T00:00:00Z"])
def test_an_expiry_of_another_type(expires_at: Any) -> None:
    with pytest.raises(TypeError, match="expires_at must be a datetime"):
        LiveSessionToken(LST, expires_at)


def test_an_access_token_as_text_is_tidied() -> None:
    assert LiveSessionToken(LST, access_token="a1b2\n").access_token == "a1b2"
