"""From IBKR's real answers to the class that says what to do."""

from email.utils import formatdate
from time import process_time, time
from typing import Any

import pytest

from ibkr_oauth import advice, answers, errors
from ibkr_oauth.errors import IBKROAuthError
from ibkr_oauth.redact import mask, redact
from ibkr_oauth.transport import Headers, Response

BASE = "https://api.ibkr.com/v1/api"


def answer(status: int, body: str, path: str = "/portfolio/accounts", method: str = "GET", **headers: str) -> Response:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Response(method, f"{BASE}{path}?oauth_token=1", status, pairs, body.encode())


def error_of(response: Response, now: float | None = None) -> IBKROAuthError:
    error = answers.error_of(response, now)
    assert error is not None
    return error


SEEN = [
    (401, '{"error":"id: 39687, error: invalid consumer","statusCode":401}', "/oauth/request_token", "ConsumerNotActive"),
    (
        401,
        '{"error":"id: 118871, error: LST failed, error: No access secret key found for a1b2","statusCode":401}',
        "/oauth/live_session_token",
        "AccessTokenUnknown",
    ),
    (401, '{"error":"id: 515400, error: LST failed, error: ","statusCode":401}', "/oauth/live_session_token", "AccessTokenUnknown"),
    (401, '{"error":"id: 1, error: error 23804 Error validating signature","statusCode":401}', "/oauth/live_session_token", "SignatureRejected"),
    (401, '{"error":"Invalid signature","statusCode":401}', "/portfolio/accounts", "SignatureRejected"),
    (401, '{"type":"/simple","title":"Unauthorized","status":401,"detail":"Access token expired"}', "/tickle", "LiveSessionTokenExpired"),
    (401, "", "/portfolio/U1/positions/0", "AuthorizationError"),
    (400, '{"error":"Bad Request: no bridge","statusCode":400}', "/iserver/accounts", "BrokerageNotOpen"),
    (500, '{"error":"failed to generate sso dh token"}', "/iserver/auth/ssodh/init", "BrokerageRefused"),
    (410, "Gone", "/iserver/auth/ssodh/init", "BrokerageRefused"),
    (500, '{"error":"Please query /accounts first"}', "/iserver/account/orders", "PrimingRequired"),
    (401, '{"error":"not authenticated","statusCode":401}', "/iserver/accounts", "SessionLost"),
    (429, '{"error":"Too many requests"}', "/tickle", "RateLimited"),
    (503, '{"error":"Service Unavailable","statusCode":503}', "/tickle", "MaintenanceError"),
    (500, "oops", "/tickle", "ServerError"),
    (404, "no", "/hmds/history", "ServiceError"),
    (418, "teapot", "/hmds/history", "ServiceError"),
    (599, "kettle", "/hmds/history", "ServerError"),
    (401, '{"error":"id: 2, error: invalid verifier"}', "/oauth/access_token", "VerifierError"),
    (401, '{"error":"id: 2, error: unknown token"}', "/oauth/access_token", "RequestTokenError"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "path", "name"), SEEN)
def test_what_the_service_says(status: int, body: str, path: str, name: str) -> None:
    with pytest.raises(IBKROAuthError) as caught:
        answer(status, body, path).raise_for_status()
    error = caught.value
    assert type(error) is getattr(errors, name)
    assert (error.status, error.method, error.url) == (status, "GET", f"{BASE}{path}")
    entry = advice.meaning_of(status, body, f"/v1/api{path}")
    assert error.advice == (type(error).default_advice if entry is None else entry.remedy)
    assert error.sent is False


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize(("method", "unknown"), [("GET", False), ("HEAD", False), ("POST", True), ("DELETE", True)])
def test_a_gateway_gives_up_while_an_order_may_go_on(status: int, method: str, unknown: bool) -> None:
    error = error_of(answer(status, "", method=method))
    assert error.sent is unknown
    assert (error.advice == errors.OutcomeUnknown.default_advice) is unknown


def test_the_message_is_one_short_line() -> None:
    where = "GET /v1/api/tickle: refused with status 418: "
    assert error_of(answer(418, " a\n b\t", "/tickle")).message == f"{where}a b"
    assert error_of(answer(418, " ", "/tickle")).message == f"{where}no text"
    long = "word, " * 50
    assert error_of(answer(418, long, "/tickle")).message == f"{where}{long[:200]}… (300 characters)"


def test_good_answers_raise_nothing() -> None:
    for status in (200, 201, 204, 302):
        response = answer(status, "{}")
        assert response.raise_for_status() is response


def test_html_from_the_network_edge() -> None:
    with pytest.raises(errors.EdgeBlocked):
        answer(403, "<html>Access Denied</html>", content_type="text/html").raise_for_status()
    told = error_of(answer(403, "Forbidden", content_type="Text/HTML; charset=utf-8"))
    assert type(told) is errors.EdgeBlocked
    assert told.message.endswith("refused with a page of HTML before OAuth was looked at (403)")
    for status, headers in ((403, {}), (403, {"content_type": "text/plain"}), (404, {"content_type": "text/html"})):
        assert type(error_of(answer(status, "Forbidden", **headers))) is not errors.EdgeBlocked


@pytest.mark.parametrize(("offset", "word"), [(-600, "ahead of"), (600, "behind")])
def test_a_wrong_clock_is_the_cause_where_it_is_one(offset: float, word: str) -> None:
    date = formatdate(time() + offset, usegmt=True)
    with pytest.raises(errors.ClockSkewError, match=f"(599|600|601) s {word}"):
        answer(401, '{"error":"Invalid signature"}', date=date).raise_for_status()
    with pytest.raises(errors.ConsumerNotActive):
        answer(401, '{"error":"invalid consumer"}', date=date).raise_for_status()


def test_a_clock_explains_a_refusal_from_a_minute_on() -> None:
    now = 1_700_000_000
    for skew, kind in ((60, errors.SignatureRejected), (61, errors.ClockSkewError), (-61, errors.ClockSkewError)):
        date = formatdate(now - skew, usegmt=True)
        assert type(error_of(answer(401, '{"error":"Invalid signature"}', date=date), now)) is kind
    assert answers.clock_skew(answer(401, ""), now) == 0.0


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0", 0.0), ("0.5", 0.5)])
def test_retry_after(header: str, seconds: float) -> None:
    with pytest.raises(errors.RateLimited) as caught:
        answer(429, "", retry_after=header).raise_for_status()
    assert caught.value.retry_after == seconds


def test_json_of_something_else() -> None:
    with pytest.raises(errors.ServerError, match=r"not JSON \(text/html, 6 bytes\)"):
        answer(200, "<html>", content_type="text/html").json()


def test_headers_in_any_case() -> None:
    headers = Headers([("Set-Cookie", "a=1"), ("X-Time", "79ms"), ("set-cookie", "b=2")])
    assert headers["SET-COOKIE"] == "a=1, b=2"
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert headers.get("missing") is None
    assert (list(headers), len(headers)) == (["set-cookie", "x-time"], 2)
    assert "a=1" not in repr(headers)


SECRETS: list[Any] = [
    ('{"oauth_token":"47b63b79","oauth_token_secret":"BGJsaMbL/dQ=="}', "BGJsaMbL"),
    ('{"live_session_token_signature": "543c55477d6cbb0e"}', "543c55"),
    ('{"session":"0123456789abcdef0123456789abcdef","hmds":{}}', "0123456789abcdef"),
    ('{"sessionId":"0123456789abcdef0123456789abcdef"}', "0123456789abcdef"),
    ("oauth_signature=abc%2Bdef&x=1", "abc%2Bdef"),
    ('OAuth realm="limited_poa", oauth_signature="czbA1d"', "czbA1d"),
    ("Authorization: OAuth oauth_nonce=x, oauth_signature=y", "oauth_nonce=x"),
    ("https://h/?oauth_verifier=01028463e7", "01028463e7"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "MIIE"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "MIIE"),
    ("6882f47f7937851c4ffe5a95754b2ee80c60cf64c22f86a410be0f8b469e468fPOST&https", "6882f47f"),
    ('{"oauth_token_secret":"cut off in the mid', "cut off"),
    ('{"access_token_secret": {"a": 1}}', '"a"'),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_redaction(text: str, secret: str) -> None:
    assert secret not in redact(text)


def test_redaction_keeps_what_is_harmless() -> None:
    text = '{"error":"id: 39687, error: invalid consumer","statusCode":401}'
    assert redact(text) == text
    assert redact("x " * 3000).endswith("(6000 characters)")
    assert (mask("0123456789"), mask("0123")) == ("0123…", "…")


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "yesterday", "", "Mon, 99 Jan 2026 00:00:00 GMT"]
)
def test_a_date_that_is_none_does_not_hide_the_refusal(date: str) -> None:
    with pytest.raises(errors.SignatureRejected):
        answer(401, '{"error":"Invalid signature"}', date=date).raise_for_status()


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time as clock

    monkeypatch.setenv("TZ", "America/New_York")
    clock.tzset()
    try:
        date = formatdate(time()).removesuffix(" -0000")
        with pytest.raises(errors.SignatureRejected):
            answer(401, '{"error":"Invalid signature"}', date=date).raise_for_status()
    finally:
        monkeypatch.undo()
        clock.tzset()


@pytest.mark.parametrize("text", ["nan", "inf", "-5", "Wed, 21 Oct 2026 07:28:00 GMT", ""])
def test_retry_after_that_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(errors.RateLimited) as caught:
        answer(429, "", retry_after=text).raise_for_status()
    assert caught.value.retry_after is None


def test_deeply_nested_json() -> None:
    with pytest.raises(errors.ServerError, match="not JSON"):
        answer(200, "[" * 200_000, content_type="application/json").json()


def test_a_huge_page_is_not_searched_to_its_end() -> None:
    page = "lorem ipsum dolor 12345 sit amet " * 60_000
    response = answer(500, page)
    start = process_time()
    with pytest.raises(errors.ServerError) as caught:
        response.raise_for_status()
    raised = process_time()
    redact(page, len(page))
    assert raised - start < (process_time() - raised) / 4, "as long as to search it to its end"
    assert f"({len(page)} characters)" in str(caught.value.body)
