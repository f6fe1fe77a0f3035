"""A call on a bad day: what is sent again, when, and what never is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.drivers import DRIVERS, Driver
from support.fake_clock import FakeClock
from support.fake_service import ACCOUNTS, BASE, INIT, LST, ORDERS, Answer, AsyncCarrier, Carrier, FakeService

from ibkr_oauth import AccessToken, AsyncSession, Consumer, Event, Session
from ibkr_oauth.errors import (
    ConnectError,
    EdgeBlocked,
    IBKROAuthError,
    InvalidValue,
    MaintenanceError,
    OutcomeUnknown,
    ProxyError,
    ReadOnlyError,
    ResponseTooLarge,
    ServerError,
    Timeout,
    TLSError,
    TransportError,
)

Open = Callable[..., Driver]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PATH = "/portfolio/DU1/summary"


# --- Signing -------------------------------------------------------------------------------------


def test_every_attempt_is_signed_anew(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """With the time of that attempt. The service checks each signature, and that no nonce comes twice."""
    wait = (("Retry-After", "20"),)
    service.script(PATH, Answer(503, headers=wait), ConnectError("refused"), Answer(503, headers=wait))
    open_session(retries=5).get(PATH)
    attempts = service.of(PATH)
    assert len({seen.oauth["oauth_signature"] for seen in attempts}) == len(attempts) == 4
    start = clock.time() - clock.steady()
    for seen in attempts:
        assert abs(int(seen.oauth["oauth_timestamp"]) - (start + seen.at)) <= 1
    assert attempts[-1].at - attempts[0].at > 40


def test_the_nonces_are_the_callers_own(open_session: Open, service: FakeService) -> None:
    """Those of the live session token request as well."""
    nonces = (f"nonce{number}" for number in range(100))
    ibkr = open_session(live_session_token=None, nonce=lambda: next(nonces))
    service.script(PATH, Answer(503))
    ibkr.get(PATH)
    assert [seen.oauth["oauth_nonce"] for seen in service.seen] == ["nonce0", "nonce1", "nonce2"]


@pytest.mark.parametrize("method", METHODS)
def test_the_transport_is_told_what_may_be_repeated(open_session: Open, service: FakeService, method: str) -> None:
    """Else libcurl itself would repeat an order on a dead connection."""
    open_session().request(method, PATH, timeout=7)
    assert service.seen[-1].repeatable is (method in ("GET", "HEAD"))
    assert service.seen[-1].timeout == 7


def test_each_method_is_sent_as_named(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    for method in ("get", "post", "put", "patch", "delete"):
        getattr(ibkr, method)(PATH, params={"a": [1, 2], "b": "x y"})
    for method in ("post", "put", "patch", "delete"):
        getattr(ibkr, method)(PATH, json={"qty": 1})
    assert [seen.method for seen in service.seen] == [
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
    ]
    assert {seen.query for seen in service.seen} == {"a=1&a=2&b=x%20y", ""}
    assert {seen.body for seen in service.seen} == {None, b'{"qty":1}'}


def test_a_form_is_signed_and_sent(open_session: Open, service: FakeService) -> None:
    """The service adds its fields to what it verifies."""
    open_session().post(PATH, data=[("b", "1 2"), ("a", "ü")])
    assert service.seen[-1].body == b"b=1%202&a=%C3%BC"
    assert service.seen[-1].headers["content-type"] == "application/x-www-form-urlencoded"


def test_urls(open_session: Open) -> None:
    prepare = open_session().session._flow.prepare
    for path, url in ((PATH, PATH), (f"{PATH}?", PATH), (f"{PATH}?a=1", f"{PATH}?a=1")):
        assert prepare("GET", path, None, None, None, None, None).url == BASE + url


def test_the_path_may_have_a_query_and_no_slash(open_session: Open, service: FakeService) -> None:
    open_session().get("portfolio/accounts?a=1,2")
    assert (service.seen[-1].path, service.seen[-1].query) == ("/portfolio/accounts", "a=1,2")


# --- What is repeated ----------------------------------------------------------------------------

SAFE = ("GET", "HEAD")
FAILURES: list[tuple[str, IBKROAuthError, tuple[str, ...]]] = [
    ("connect", ConnectError("refused"), METHODS),
    ("timeout before sending", Timeout("slow"), METHODS),
    ("timeout after sending", Timeout("slow", sent=True), SAFE),
    ("outcome unknown", OutcomeUnknown("reset", sent=True), ()),
    ("tls", TLSError("unknown authority"), ()),
    ("proxy before sending", ProxyError("refused"), METHODS),
    ("proxy after sending", ProxyError("reset", sent=True), SAFE),
    ("protocol", TransportError("not HTTP", sent=True), SAFE),
    ("too large", ResponseTooLarge("a gigabyte", sent=True), ()),
    ("edge", EdgeBlocked("refused", sent=True), ()),
    ("not of the transport", ServerError("odd"), ()),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("error", "repeated"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
def test_failures(
    open_session: Open, service: FakeService, method: str, error: IBKROAuthError, repeated: tuple[str, ...]
) -> None:
    """Three attempts or one, and the last failure is the caller's."""
    service.script(PATH, *[error] * 3)
    ibkr = open_session()
    with pytest.raises(type(error)) as caught:
        ibkr.request(method, PATH)
    assert caught.value is error
    assert service.count(PATH) == (3 if method in repeated else 1)
    assert ibkr.health().counters.retries == service.count(PATH) - 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 400, 403, 404, 409])
def test_answers(open_session: Open, service: FakeService, method: str, status: int) -> None:
    """The caller gets the last answer, whatever its status."""
    service.script(PATH, *[Answer(status, "oops")] * 3)
    response = open_session().request(method, PATH)
    assert (response.status_code, response.text) == (status, "oops")
    assert service.count(PATH) == (3 if method in SAFE and status in (502, 503, 504) else 1)


def test_a_repeated_call_may_end_well(open_session: Open, service: FakeService) -> None:
    service.script(PATH, Timeout("slow", sent=True), Answer(502))
    ibkr = open_session()
    assert ibkr.get(PATH).json() == {"path": PATH}
    assert ibkr.health().last_error is not None


def test_redirects_are_not_followed(open_session: Open, service: FakeService) -> None:
    service.script(PATH, Answer(302, headers=(("Location", f"{BASE}/elsewhere"),)))
    assert open_session().get(PATH).status_code == 302
    assert service.paths() == [PATH]


def test_no_retries_at_all(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    ibkr = open_session(retries=0)
    service.script(PATH, ConnectError("refused"), Answer(503), Answer(429))
    with pytest.raises(ConnectError):
        ibkr.get(PATH)
    assert ibkr.get(PATH).status_code == 503
    assert ibkr.get(PATH).status_code == 429
    assert clock.slept == []


def test_back_off(open_session: Open, service: FakeService, clock: FakeClock) -> None:
    """From a quarter of a second on, doubled, with up to as much again of jitter."""
    rounds = 20
    ibkr = open_session(retries=3)
    for _ in range(rounds):
        service.script(PATH, *[Answer(503)] * 4)
        ibkr.get(PATH)
    for attempt in range(3):
        waits = clock.slept[attempt::3]
        shortest = 0.25 * 2**attempt
        assert all(shortest <= wait <= 2 * shortest for wait in waits)
        assert len(set(waits)) > rounds / 2
        assert max(waits) - min(waits) > shortest / 4  # 20 draws of an even spread; all within a quarter: 1 in 10^10


@pytest.mark.parametrize(("asked", "waited"), [("12", 12), ("3600", 30), ("0", None)])
def test_the_service_says_how_long_maintenance_takes(
    open_session: Open, service: FakeService, clock: FakeClock, asked: str, waited: float | None
) -> None:
    """Nobody waits longer than half a minute for it, or shorter than the back-off."""
    service.script(PATH, Answer(503, headers=(("Retry-After", asked),)))
    open_session().get(PATH)
    assert len(clock.slept) == 1
    assert clock.slept[0] == waited or (waited is None and 0.25 <= clock.slept[0] <= 0.5)


def test_the_outcome_is_unknown(open_session: Open, service: FakeService) -> None:
    events: list[Event] = []
    service.script(ORDERS, OutcomeUnknown("the server closed the connection", sent=True))
    ibkr = open_session(brokerage="never", on_event=events.append)
    with pytest.raises(OutcomeUnknown) as caught:
        ibkr.post(ORDERS, json={})
    assert caught.value.sent
    assert service.count(ORDERS) == 1
    assert ibkr.health().counters.outcomes_unknown == 1
    assert [event.kind for event in events] == ["outcome_unknown"]


def test_the_sessions_own_calls_are_safe_to_repeat(open_session: Open, service: FakeService) -> None:
    """Although they are POST, and although the outcome of one may be unknown."""
    service.script("/tickle", OutcomeUnknown("reset", sent=True), Answer(502))
    ibkr = open_session(timeout=7.0)
    assert ibkr.tickle().status_code == 200
    assert [(seen.path, seen.timeout, seen.repeatable) for seen in service.seen] == [("/tickle", 7.0, True)] * 3
    assert ibkr.health().counters.outcomes_unknown == 0


def test_the_live_session_token_request_is_repeated(open_session: Open, service: FakeService) -> None:
    """Each time with another half of the exchange; never by libcurl, which would send the same nonce again."""
    service.script(LST, OutcomeUnknown("reset", sent=True), Answer(503))
    ibkr = open_session(live_session_token=None, timeout=7.0)
    ibkr.get(PATH)
    attempts = service.of(LST)
    assert {seen.timeout for seen in attempts} == {7.0}
    assert len({seen.oauth["diffie_hellman_challenge"] for seen in attempts}) == len(attempts) == 3
    assert {seen.repeatable for seen in attempts} == {False}


def test_the_live_session_token_request_is_given_up(open_session: Open, service: FakeService) -> None:
    service.script(LST, *[Answer(503)] * 10)
    with pytest.raises(MaintenanceError):
        open_session(live_session_token=None).get(PATH)
    assert service.paths() == [LST] * 3


@pytest.mark.parametrize("path", [LST, INIT, ACCOUNTS])
@pytest.mark.parametrize(
    "error",
    [kind("something", sent=True, where="the wire", native=56) for kind in (OutcomeUnknown, Timeout, ResponseTooLarge)],
)
def test_what_the_session_needed_first_failed(
    open_session: Open, service: FakeService, path: str, error: IBKROAuthError
) -> None:
    """Then the order was not sent, and nothing about it is unknown, whatever became of the session's own call."""
    service.script(path, *[error] * 3)
    ibkr = open_session(live_session_token=None)
    with pytest.raises(TransportError) as caught:
        ibkr.post(ORDERS, json={})
    assert not isinstance(caught.value, OutcomeUnknown)
    assert not caught.value.sent
    assert caught.value.sent is False
    assert (caught.value.message, caught.value.where, caught.value.native) == (error.message, "the wire", 56)
    assert service.count(ORDERS) == 0
    assert ibkr.health().counters.outcomes_unknown == 0


def test_what_would_mend_a_refusal_failed(open_session: Open, service: FakeService) -> None:
    """The order was refused, and so not processed; that no other token is to be had is the caller's to know."""
    service.script(ORDERS, Answer(401, {"error": "Access token expired"}))
    service.script(LST, *[OutcomeUnknown("reset", sent=True)] * 3)
    ibkr = open_session(brokerage="never")
    with pytest.raises(TransportError) as caught:
        ibkr.post(ORDERS, json={})
    assert not isinstance(caught.value, OutcomeUnknown)
    assert not caught.value.sent
    assert service.count(ORDERS) == 1


# --- Cookies and headers -------------------------------------------------------------------------


def test_the_cookie_api_is_kept_and_sent(open_session: Open, service: FakeService) -> None:
    cookies = (("Set-Cookie", "x=1; Path=/"), ("Set-Cookie", "api=abc123; Path=/; Secure; HttpOnly"))
    service.script(PATH, Answer(headers=cookies), Answer(headers=(("set-cookie", "api=next"),)))
    ibkr = open_session()
    for _ in range(3):
        ibkr.get(PATH)
    assert [seen.cookie for seen in service.seen] == [None, "api=abc123", "api=next"]


@pytest.mark.parametrize("value", ["a=b", "=", "XYZ", "a'b", "~!#$%&()*+-./:<>?@[]^_`{|}"])
def test_a_cookie_of_odd_letters(open_session: Open, service: FakeService, value: str) -> None:
    service.script(PATH, Answer(headers=(("Set-Cookie", f"api={value}; Path=/"),)))
    for ibkr in (open_session(), open_session(cookie=value)):
        ibkr.get(PATH)
        ibkr.get(PATH)
    assert [seen.cookie for seen in service.seen] == [None, *[f"api={value}"] * 3]


@pytest.mark.parametrize("bad", ["api=", "api=a b", "api=a,b", 'api="a"', "api=\x7f", "other=1"])
def test_a_cookie_that_could_not_be_sent_is_left(open_session: Open, service: FakeService, bad: str) -> None:
    service.script(PATH, Answer(headers=(("Set-Cookie", bad),)))
    ibkr = open_session(cookie="first")
    ibkr.get(PATH)
    ibkr.get(PATH)
    assert [seen.cookie for seen in service.seen] == ["api=first"] * 2


def test_a_callers_own_cookie_goes_first(open_session: Open, service: FakeService) -> None:
    """The fake service refuses a header that comes twice."""
    ibkr = open_session(cookie="ours")
    ibkr.get(PATH, headers={"cookie": "api=theirs"})
    ibkr.get(PATH)
    assert [seen.cookie for seen in service.seen] == ["api=theirs", "api=ours"]


def test_the_tickle_names_the_session(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    assert ibkr.tickle().json()["session"] == "5e55104"
    ibkr.get(PATH)
    assert service.seen[-1].cookie == "api=5e55104"


def test_a_session_that_has_only_a_cookie_signs_nothing(kind: str, service: FakeService, clock: FakeClock) -> None:
    carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
    with DRIVERS[kind](cookie="c00k1e", transport=carrier, clock=clock, brokerage="never") as ibkr:
        ibkr.open()
        ibkr.get(PATH, params={"a": "1 2"})
        service.script(PATH, Answer(401, "who are you?"))
        assert ibkr.get(PATH).status_code == 401
        assert ibkr.consumer is None
        assert ibkr.access_token is None
    for seen in service.seen:
        assert "authorization" not in seen.headers
        assert seen.cookie == "api=c00k1e"
    assert [seen.query for seen in service.seen] == ["a=1%202", ""]


def test_headers_of_the_callers(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    service.script(PATH, Answer(503))
    ibkr.get(PATH, headers={"X-One": "1"})
    assert [seen.headers["x-one"] for seen in service.seen] == ["1", "1"]
    with pytest.raises(InvalidValue, match="Authorization"):
        ibkr.get(PATH, headers={"authorization": "OAuth mine"})
    ibkr.post(PATH, json={}, headers={"content-type": "application/vnd.x+json"})
    assert service.seen[-1].headers["content-type"] == "application/vnd.x+json"
    ibkr.post(PATH, json={})
    assert service.seen[-1].headers["content-type"] == "application/json"


@pytest.mark.parametrize("headers", [{"X": "a\nb"}, {"X": "a" * 65_536}, {f"X-{number}": "x" for number in range(129)}])
def test_headers_that_cannot_be_sent(open_session: Open, service: FakeService, headers: dict[str, str]) -> None:
    """Whatever is wrong with them, the advice fits."""
    with pytest.raises(InvalidValue, match="header") as caught:
        open_session().get(ACCOUNTS, headers=headers)
    assert all(words in caught.value.advice for words in ("128 headers", "64 KiB", "line end"))
    assert service.seen == []


@pytest.mark.parametrize("headers", [{"X": 1}, {1: "x"}, {"X": None}, {"X": b"x"}])
def test_headers_are_text(open_session: Open, service: FakeService, headers: Any) -> None:
    with pytest.raises(TypeError, match="headers must be a mapping of str to str"):
        open_session().get(PATH, headers=headers)
    assert service.seen == []


# --- What is refused before anything is sent -----------------------------------------------------


def test_read_only(open_session: Open, service: FakeService) -> None:
    ibkr = open_session(read_only=True, brokerage="never")
    ibkr.get(ORDERS)
    ibkr.post(f"{ORDERS}/whatif", json={})
    with pytest.raises(ReadOnlyError):
        ibkr.post(ORDERS, json={})
    with pytest.raises(ReadOnlyError):
        ibkr.get("/logout?x=1")
    assert service.paths() == [ORDERS, f"{ORDERS}/whatif"]


def test_one_query_is_enough(open_session: Open, service: FakeService) -> None:
    """Which of two comes first would be a guess, and so would be what is signed."""
    ibkr = open_session()
    with pytest.raises(InvalidValue, match="query already"):
        ibkr.get(f"{PATH}?a=1", params={"b": 2})
    assert service.seen == []
    assert ibkr.get(f"{PATH}?a=1", params={}).status_code == 200
    assert ibkr.get(f"{PATH}?", params={"b": 2}).status_code == 200
    assert [seen.query for seen in service.seen] == ["a=1", "b=2"]


def test_a_body_needs_a_method_that_has_one(open_session: Open, service: FakeService) -> None:
    ibkr = open_session()
    for method in SAFE:
        with pytest.raises(InvalidValue, match="has no body"):
            ibkr.request(method, PATH, json={})
    with pytest.raises(InvalidValue, match="not both"):
        ibkr.post(PATH, json={}, data={})
    with pytest.raises(TypeError, match=r"^data must be"):
        ibkr.post(PATH, data=5)
    assert service.seen == []


def test_what_cannot_be_sent_is_refused_before_the_session_does_anything_for_it(
    open_session: Open, service: FakeService
) -> None:
    """No token is agreed on, and no brokerage session opened, for the sake of a call that could never go out."""
    ibkr = open_session(live_session_token=None)
    for path in (ACCOUNTS, PATH):
        for options in ({"params": {"a": "x" * 20_000_000}}, {"headers": {"X": "a\nb"}}):
            with pytest.raises(InvalidValue):
                ibkr.get(path, **options)
    assert service.seen == []


# --- Options -------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"retry": 1}, TypeError, "unexpected keyword argument 'retry'"),
    ({"brokerage": "always"}, InvalidValue, "lazy, eager, never"),
    ({"on_competing": "fight"}, InvalidValue, "raise, yield, take"),
    ({"query_signing": "no"}, InvalidValue, "query_signing"),
    ({"parameters_in": "body"}, InvalidValue, "header, json"),
    ({"pacing": 0}, InvalidValue, "pacing"),
    ({"pacing": "10"}, InvalidValue, "pacing"),
    ({"pacing": float("nan")}, InvalidValue, "pacing"),
    ({"retries": -1}, InvalidValue, "retries"),
    ({"retries": 1.5}, InvalidValue, "retries"),
    ({"timeout": 0}, InvalidValue, "timeout"),
    ({"timeout": "20"}, TypeError, "timeout"),
    ({"connect_timeout": -1}, InvalidValue, "timeout"),
    ({"keep_alive": 0}, InvalidValue, "above 0"),
    ({"base_url": "http://api.ibkr.com/v1/api"}, InvalidValue, "https"),
    ({"base_url": "https://api.ibkr.com/v1/api?x"}, InvalidValue, "query"),
    ({"cookie": "a;b"}, InvalidValue, "cookie"),
    ({"cookie": ""}, InvalidValue, "cookie"),
]


@pytest.mark.parametrize(("options", "kind_of_error", "words"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_wrong_options(
    kind: str,
    consumer: Consumer,
    access_token: AccessToken,
    options: dict[str, Any],
    kind_of_error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind_of_error, match=words):
        {"sync": Session, "async": AsyncSession}[kind](consumer, access_token, **options)


def test_log_of_retries_has_no_query(
    open_session: Open, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.script(PATH, Answer(503))
    open_session().get(PATH, params={"secret": "s3cr3t"})
    assert "s3cr3t" not in caplog.text
