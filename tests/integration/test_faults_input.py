"""Bad input: a clear error at once, before anything goes out, even a request of the session's own."""

import datetime as dt
import decimal
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from support.callers import (
    BODY,
    CALLERS,
    PLAIN,
    QUERY,
    Caller,
    assert_helpful,
    assert_hidden,
    credentials,
)
from support.rogue import Rogue

from ibkr_oauth import Consumer, InvalidValue, ReadOnlyError, UsageError

CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


def nested(depth: int) -> object:
    """Deeper than anybody reads."""
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


def short(value: object) -> str:
    """For the names of tests."""
    try:
        return ascii(value)[:30]
    except RecursionError:
        return "too deep"


@pytest.fixture(scope="module")
def rogue() -> Iterator[Rogue]:
    with Rogue() as running:
        yield running


@pytest.fixture(scope="module", params=["signed on", "new"])
def ready(request: pytest.FixtureRequest) -> bool:
    """Whether there is a live session token: without one, a request for it would go out first."""
    return bool(request.param == "signed on")


@pytest.fixture(scope="module", params=CALLERS)
def caller(request: pytest.FixtureRequest, ready: bool, rogue: Rogue, consumer: Consumer) -> Iterator[Caller]:
    """One for all tests, since it must stay as usable as it was."""
    options = {**PLAIN, "base_url": rogue.base_url, **credentials(consumer)}
    if not ready:
        options |= {"live_session_token": None, "brokerage": "lazy"}
    with CALLERS[request.param](**options) as opened:
        for path, headers in (("/a b", {}), ("/a", {"X": "\r"})):  # else its first test left behind what it keeps
            with pytest.raises(InvalidValue):
                opened.request("GET", path, headers=headers)
        yield opened


def refuse(
    caller: Caller,
    rogue: Rogue,
    caplog: pytest.LogCaptureFixture,
    says: str,
    method: Any,
    path: Any,
    **keywords: Any,
) -> None:
    """An error that names what is wrong, and nothing on the wire."""
    caplog.set_level(logging.DEBUG)
    before = rogue.connections
    with pytest.raises((UsageError, TypeError), match=says) as caught:
        caller.request(method, path, **keywords)
    error = caught.value
    assert rogue.connections == before
    if isinstance(error, UsageError):
        assert isinstance(error, InvalidValue)
        assert not error.sent
        assert_helpful(error)
        assert_hidden(error, caplog.records)
    else:
        assert QUERY not in str(error)
        assert BODY not in str(error)


PATHS = [
    ("https://evil.test/x", "host of its own"),
    ("HTTPS://evil.test/x", "host of its own"),
    ("ftp://evil.test", "host of its own"),
    ("//evil.test/x", "host of its own"),
    ("evil.test://x", "host of its own"),
    ("/x#fragment", "fragment"),
    ("/x?y=1#fragment", "fragment"),
    ("/../x", r"'\.\.'"),
    ("/a/./b", r"'\.'"),
    ("/a/..", r"'\.\.'"),
    ("..", r"'\.\.'"),
    ("/a b", "(?i)url|path"),
    ("/a\tb", "(?i)url|path"),
    ("/a\r\nHost: evil.test", "(?i)url|path"),
    ("/a\nb", "(?i)url|path"),
    ("/a\0b", "(?i)url|path"),
    ("/a\x7fb", "(?i)url|path"),
    ("/ü", "(?i)url|path"),
    ("/\ud800", "(?i)url|path"),
    ("/a\\b", "(?i)url|path"),
    ("/a%", "(?i)url|path"),
    ("/a%zz", "(?i)url|path"),
    (f"/a?q={QUERY} x", "(?i)url|path"),
    (f"/a?q={QUERY}ü", "(?i)url|path"),
    (f"/a?q={QUERY}\r\n", "(?i)url|path"),
    (f"/a?q={QUERY}\ud800", "(?i)url|path"),
    ("/" + "x" * 2_000_000, "(?i)url|path"),
    ("/a?q=" + "x" * 2_000_000, "(?i)url|path"),
    (b"/a", "path must be a str"),
    (None, "path must be a str"),
    (5, "path must be a str"),
]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("path", "says"), PATHS, ids=short)
def test_paths(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, path: object, says: str, method: str
) -> None:
    refuse(caller, rogue, caplog, says, method, path)


def test_a_query_in_the_path_together_with_params(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture
) -> None:
    says = "query already.*put all of it into params"
    refuse(caller, rogue, caplog, says, "GET", f"/a?q={QUERY}", params={"r": QUERY})


PARAMS: list[tuple[Any, str]] = [
    ({"q": object()}, "parameter 'q' must be"),
    ({"q": None}, "parameter 'q' must be"),
    ({"q": QUERY.encode()}, "parameter 'q' must be"),
    ({"q": {"a": QUERY}}, "parameter 'q' must be"),
    ({"q": {QUERY}}, "parameter 'q' must be"),
    ({"q": [None]}, "parameter 'q' must be"),
    ({"q": [[QUERY]]}, "parameter 'q' must be"),
    ({"q": decimal.Decimal(1)}, "parameter 'q' must be"),
    ({"q": dt.datetime.now(dt.UTC)}, "parameter 'q' must be"),
    ({"q": math.nan}, "'q'"),
    ({"q": -math.inf}, "'q'"),
    ({1: QUERY}, "name"),
    ({None: QUERY}, "name"),
    ({b"q": QUERY}, "name"),
    ({"q": f"{QUERY}\ud800"}, "param|surrogate|UTF-8|encod"),
    ({"q\ud800": QUERY}, "param|surrogate|UTF-8|encod"),
    (f"q={QUERY}", "pairs|mapping"),
    (f"q={QUERY}".encode(), "pairs|mapping"),
    (5, "pairs|mapping"),
    ([QUERY], "pairs|mapping"),
    ([("q",)], "pairs|mapping"),
    ([("q", QUERY, 1)], "pairs|mapping"),
    ([5], "pairs|mapping"),
    (True, "pairs|mapping"),
]


@pytest.mark.parametrize("name", ["params", "data"])
@pytest.mark.parametrize(("pairs", "says"), PARAMS, ids=short)
def test_parameters(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, pairs: object, says: str, name: str
) -> None:
    refuse(caller, rogue, caplog, f"{says}|data are the fields of a form", "POST", "/a", **{name: pairs})


def test_parameters_beyond_all_measure(caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture) -> None:
    refuse(caller, rogue, caplog, "(?i)param|URL", "GET", "/a", params={"q": "x" * 2_000_000})


BODIES: list[tuple[dict[str, Any], str]] = [
    ({"json": {"x": math.nan}}, "cannot be written as JSON"),
    ({"json": [math.inf, -math.inf]}, "cannot be written as JSON"),
    ({"json": {"x": object(), "order": BODY}}, "cannot be written as JSON"),
    ({"json": {BODY}}, "cannot be written as JSON"),
    ({"json": BODY.encode()}, "cannot be written as JSON"),
    ({"json": {(BODY,): 1}}, "cannot be written as JSON"),
    ({"json": {"x": f"{BODY}\ud800"}}, "cannot be written as JSON"),
    ({"json": CIRCLE}, "cannot be written as JSON"),
    ({"json": nested(200_000)}, "cannot be written as JSON"),
    ({"json": decimal.Decimal(1)}, "cannot be written as JSON"),
    ({"json": dt.datetime.now(dt.UTC)}, "cannot be written as JSON"),
    ({"json": {}, "data": {}}, "not both"),
    ({"json": {"a": BODY}, "data": {"a": BODY}}, "not both"),
    ({"data": BODY}, "give a JSON body as json"),
    ({"data": BODY.encode()}, "give a JSON body as json"),
    ({"data": bytearray(BODY.encode())}, "give a JSON body as json"),
    ({"data": memoryview(BODY.encode())}, "give a JSON body as json|pairs|mapping"),
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(("body", "says"), BODIES, ids=short)
def test_bodies(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, body: dict[str, Any], says: str, method: str
) -> None:
    refuse(caller, rogue, caplog, says, method, "/a", **body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "body", [{"json": {"a": BODY}}, {"json": {}}, {"json": 0}, {"data": {"a": BODY}}, {"data": {}}]
)
def test_requests_that_have_no_body(
    caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, body: dict[str, Any], method: str
) -> None:
    refuse(caller, rogue, caplog, f"{method} has no body", method, "/a", **body)


HEADERS: list[tuple[Any, str]] = [
    ({"X": f"{BODY}\r\nX-Other: 1"}, "header X"),
    ({"X": f"{BODY}\n"}, "header X"),
    ({"X": f"{BODY}\r"}, "header X"),
    ({"X": f"{BODY}\0"}, "header X"),
    ({"X": f"{BODY}\x1b"}, "header X"),
    ({"X": f"{BODY}\ud800"}, "header|UTF-8|surrogate"),
    ({"X\r\nY": BODY}, "header"),
    ({"X Y": BODY}, "header"),
    ({"X:": BODY}, "header"),
    ({" X": BODY}, "header"),
    ({"Ü": BODY}, "header"),
    ({"": BODY}, "header"),
    ({"X": 5}, "str to str"),
    ({"X": None}, "str to str"),
    ({"X": BODY.encode()}, "str to str"),
    ({5: BODY}, "str to str"),
    ({"Host": "evil.test"}, "header Host"),
    ({"host": "evil.test"}, "header host"),
    ({"Content-Length": "3"}, "header Content-Length"),
    ({"content-length": "0"}, "header content-length"),
    ({"Transfer-Encoding": "chunked"}, "header Transfer-Encoding"),
    ({"Connection": "close"}, "header Connection"),
    ({"Expect": "100-continue"}, "header Expect"),
    ({"Upgrade": "h2c"}, "header Upgrade"),
    ({"Proxy-Authorization": BODY}, "header Proxy-Authorization"),
    ({"Authorization": BODY}, "header Authorization.*signs"),
    ({"AUTHORIZATION": BODY}, "header Authorization.*signs"),
    ({f"X-{number}": BODY for number in range(200)}, "headers"),
    ({"X": "x" * 2_000_000}, "header"),
    ([("X", BODY)], "mapping"),
    (BODY, "mapping"),
    (5, "mapping"),
]


@pytest.mark.parametrize(("headers", "says"), HEADERS, ids=short)
def test_headers(caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, headers: object, says: str) -> None:
    refuse(caller, rogue, caplog, says, "POST", "/a", headers=headers)


TIMEOUTS = [0, -1, -0.0, math.nan, math.inf, -math.inf, 1e300, 86_401, "5", b"5", True, object(), (1, 2), 1 + 0j,
            decimal.Decimal(1), dt.timedelta(seconds=1)]  # fmt: skip


@pytest.mark.parametrize("timeout", TIMEOUTS, ids=repr)
def test_timeouts(caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, timeout: object) -> None:
    refuse(caller, rogue, caplog, "timeout must be a number of seconds", "GET", "/a", timeout=timeout)


METHODS: list[Any] = ["get", "Get", " GET", "GET ", "GET\r\n", "G T", "G\0T", "", "GÉT", "\ud800", "CONNECT", "TRACE",
                      "A" * 17, "A" * 2_000_000, "GET/1", b"GET", None, 5]  # fmt: skip


@pytest.mark.parametrize("path", ["/a", "/iserver/accounts"])
@pytest.mark.parametrize("method", METHODS, ids=short)
def test_methods(caller: Caller, rogue: Rogue, caplog: pytest.LogCaptureFixture, method: object, path: str) -> None:
    refuse(caller, rogue, caplog, "method", method, path)


# --- What is not wrong, though it looks so -------------------------------------------------------


@pytest.fixture(scope="module", params=CALLERS)
def signed_on(request: pytest.FixtureRequest, rogue: Rogue, consumer: Consumer) -> Iterator[Caller]:
    """One whose calls go out as they are."""
    with CALLERS[request.param](base_url=rogue.base_url, **credentials(consumer), **PLAIN) as opened:
        opened.request("GET", "/a")
        yield opened


GOOD: list[tuple[str, str, dict[str, Any], str, bytes]] = [
    ("GET", "a", {}, "/v1/api/a", b""),
    ("GET", "/@evil.test/", {}, "/v1/api/@evil.test/", b""),
    ("GET", ":80@evil.test/x", {}, "/v1/api/:80@evil.test/x", b""),
    ("GET", "/a?to=https://x.test/", {}, "/v1/api/a?to=https://x.test/", b""),
    ("GET", "/a%20b", {}, "/v1/api/a%20b", b""),
    ("GET", "/a", {"params": {}}, "/v1/api/a", b""),
    ("GET", "/a?b=1", {"params": {}}, "/v1/api/a?b=1", b""),
    ("GET", "/a", {"params": {"q": ["1", 2, True, 0.5]}}, "/v1/api/a?q=1&q=2&q=true&q=0.5", b""),
    ("GET", "/a", {"params": [("q", "é&=\r\n")]}, "/v1/api/a?q=%C3%A9%26%3D%0D%0A", b""),
    ("POST", "/a", {"json": {"ü": None}}, "/v1/api/a", '{"ü":null}'.encode()),
    ("POST", "/a", {"json": []}, "/v1/api/a", b"[]"),
    ("POST", "/a", {"json": False}, "/v1/api/a", b"false"),
    ("POST", "/a", {}, "/v1/api/a", b""),
    ("POST", "/a", {"data": {}}, "/v1/api/a", b""),
    ("POST", "/a", {"data": {"a": "ü b"}}, "/v1/api/a", b"a=%C3%BC%20b"),
    ("DELETE", "/a", {"json": {"a": 1}}, "/v1/api/a", b'{"a":1}'),
    ("GET", "/a", {"timeout": 86_400}, "/v1/api/a", b""),
    ("GET", "/a", {"headers": {}}, "/v1/api/a", b""),
    ("OPTIONS", "/a", {}, "/v1/api/a", b""),
]


@pytest.mark.parametrize(("method", "path", "keywords", "target", "body"), GOOD)
def test_unusual_calls(
    signed_on: Caller, rogue: Rogue, method: str, path: str, keywords: dict[str, Any], target: str, body: bytes
) -> None:
    assert signed_on.request(method, path, **keywords).json() == {"fine": True}
    seen = rogue.requests[-1]
    assert (seen.method, seen.target, seen.body) == (method, target, body)
    assert seen.headers["host"] == f"127.0.0.1:{rogue.port}"


def test_bad_input_between_good_calls(signed_on: Caller, rogue: Rogue) -> None:
    """It costs neither the connection nor the session."""
    signed_on.request("GET", "/a")
    connections, requests = rogue.connections, len(rogue.requests)
    wrong: list[tuple[Any, Any, dict[str, Any]]] = [
        ("get", "/a", {}),
        ("GET", "/a b", {}),
        ("POST", "/a", {"json": math.nan}),
        ("POST", "/a", {"headers": {"Host": "x"}}),
        ("POST", "/a", {"params": {"q": object()}}),
        ("GET", "/a", {"timeout": 0}),
    ]
    for method, path, keywords in wrong:
        with pytest.raises((UsageError, TypeError)):
            signed_on.request(method, path, **keywords)
        assert signed_on.request("GET", "/a").json() == {"fine": True}
    assert rogue.connections == connections
    assert len(rogue.requests) == requests + len(wrong)


def test_read_only_is_refused_before_anything_else(rogue: Rogue, consumer: Consumer) -> None:
    before = rogue.connections
    for kind in CALLERS.values():
        with kind(base_url=rogue.base_url, **credentials(consumer), **PLAIN, read_only=True) as caller:
            for method, path in (
                ("POST", "/iserver/account/U1/orders"),
                ("DELETE", "/a"),
                ("PUT", "/a"),
                ("PATCH", "/a"),
            ):
                with pytest.raises(ReadOnlyError, match=f"{method} {path}") as caught:
                    caller.request(method, path)
                assert not caught.value.sent
    assert rogue.connections == before


# --- Constructors --------------------------------------------------------------------------------

OPTIONS: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, "timeout") for name in ("timeout", "connect_timeout", "keep_alive") for value in
      (0, -1, math.nan, math.inf, "5", True)),
    *(({"base_url": value}, "URL|url|https") for value in
      ("", "x", "ftp://h/", "http://api.ibkr.com/v1/api", "https://", "https://h/?q=1", "https://h/#f", "https://h/a b",
       "https://u:hunter2@h/", "https://h\r\nX/", "https://ü.test/", "https://h:99999/", "https://h:x/", None, 5, b"x")),
    *(({"ca_file": value}, "ca_file|NUL|path") for value in (5, "a\0b")),
    *(({"proxy": value}, "proxy") for value in (5, b"http://h", "http://h\0")),
    *(({"cookie": value}, "cookie") for value in ("", "a;b", "a\r\nb", "a b", "ü", 5, b"x")),
    *(({"pacing": value}, "pacing") for value in (0, -1, math.nan, math.inf, "10", True)),
    *(({"retries": value}, "retries") for value in (-1, 101, 1.5, "2", None, True)),
    *(({"brokerage": value}, "brokerage") for value in ("always", None, 5, [])),
    *(({"on_competing": value}, "on_competing") for value in ("fight", None)),
    *(({"query_signing": value}, "query_signing") for value in ("none", None)),
    *(({"parameters_in": value}, "parameters_in") for value in ("body", None)),
    ({"live_session_token": "cGxhbnRlZHBsYW50ZWRwbGFudGU="}, "live_session_token"),
    ({"access_token": "text"}, "access_token"),
    ({"consumer": "text"}, "consumer"),
    ({"on_event": "print"}, "on_event"),
    ({"read_only": "no"}, "read_only"),
    ({"colour": 1}, "colour"),
]  # fmt: skip


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(("option", "says"), OPTIONS, ids=short)
def test_options(kind: str, consumer: Consumer, option: dict[str, Any], says: str) -> None:
    """They show where the session is made, and name themselves."""
    with pytest.raises((UsageError, TypeError), match=says) as caught:
        CALLERS[kind](**{**credentials(consumer), **PLAIN, **option})
    assert "hunter2" not in str(caught.value)
    assert_hidden(caught.value, [])
