"""HttpClient: values in, values out, the GIL, and how a transfer is stopped. Its wire is tested in C."""

import re
import threading
import time

import pytest

from ibkr_oauth import _core, errors

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_answer(serve, client):
    server = serve(
        lambda head, body: (
            b"HTTP/1.1 418 Teapot\r\nX-Second: b\r\nx-second:  caf\xe9 \r\nEmpty:\r\n"
            b"Content-Type: text/plain; a:b\r\nContent-Length: 4\r\n\r\n\0\r\n\xff"
        )
    )
    result = client.send("GET", server.url + "/path?q=1", [], None, True, 5000)
    assert type(result) is tuple
    status, headers, body, elapsed_us, reused = result
    assert status == 418
    assert headers == (
        b"X-Second: b\r\nx-second:  caf\xe9 \r\nEmpty:\r\nContent-Type: text/plain; a:b\r\nContent-Length: 4\r\n"
    )
    assert _core.header_pairs(headers) == [
        ("X-Second", "b"),
        ("x-second", "café"),
        ("Empty", ""),
        ("Content-Type", "text/plain; a:b"),
        ("Content-Length", "4"),
    ]
    assert body == b"\0\r\n\xff"
    assert type(body) is bytes
    assert 0 < elapsed_us < 5_000_000
    assert reused is False
    assert client.send("GET", server.url + "/", [], None, True, 5000)[4] is True


def test_empty_body(serve, client):
    server = serve(lambda head, body: b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.send("GET", server.url + "/", (), None, True, 5000)[:3] == (204, b"", b"")


def test_blanks_around_the_values_of_headers_go(serve, client):
    answer = b"HTTP/1.1 200 OK\nA:b\nTabs:\t c d \t\nEmpty: \t \nFolded: e\r\n  f\r\nContent-Length: 0\n\n"
    server = serve(lambda head, body: answer)
    headers = client.send("GET", server.url + "/", [], None, True, 5000)[1]
    pairs = [("A", "b"), ("Tabs", "c d"), ("Empty", ""), ("Folded", "e  f"), ("Content-Length", "0")]
    assert _core.header_pairs(headers) == pairs
    assert [_core.header_values(headers, name) for name, _ in pairs] == [[value] for _, value in pairs]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_request(serve, client, kind):
    server = serve(lambda head, body: OK)
    headers = [("Authorization", 'OAuth a="b"'), ["X-Test", "one"], ("X-Test", "two")]
    client.send("POST", server.url + "/orders", headers, kind(b"{\0}"), False, 5000)
    head, body = server.requests[0]
    lines = head.decode().splitlines()
    assert lines[0] == "POST /orders HTTP/1.1"
    for line in ('Authorization: OAuth a="b"', "X-Test: one", "X-Test: two", "User-Agent: binding-test/1"):
        assert line in lines
    assert body == b"{\0}"


def test_empty_body_is_a_body(serve, client):
    server = serve(lambda head, body: OK)
    for body in (b"", bytearray(), None):
        client.send("POST", server.url + "/", [], body, False, 5000)
        assert b"content-length: 0\r\n" in server.requests[-1][0].lower()


def test_types_of_arguments(client):
    url = "http://127.0.0.1:1/"
    for arguments, message in [
        ((b"GET", url, [], None, True, 1), "method must be str, not bytes"),
        (("GET", 5, [], None, True, 1), "url must be str, not int"),
        (("GET", url, None, None, True, 1), r"headers must be a sequence of \(name, value\) tuples, not NoneType"),
        (("GET", url, [("a", 1)], None, True, 1), r"the value of headers\[0\] must be str, not int"),
        (("GET", url, [], "text", True, 1), "body must be bytes, bytearray or memoryview, not str"),
        (("GET", url, [], None, 1, 1), "repeatable must be bool, not int"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}$"):
            client.send(*arguments)
    for timeout in ("5", 1.5, None):
        with pytest.raises(TypeError):
            client.send("GET", url, [], None, True, timeout)
    with pytest.raises(OverflowError):
        client.send("GET", url, [], None, True, 2**64)
    with pytest.raises(errors.InvalidValue, match="timeout_ms must be above 0, not -1"):
        client.send("GET", url, [], None, True, -1)
    with pytest.raises(TypeError, match=r"takes 6 arguments for a request, and 5 more to sign it \(2 given\)"):
        client.send("GET", url)


@pytest.fixture
def signer():
    return _core.RequestSigner(
        "VECTORKEY", "token", _core.Secret.from_base64("uB3F/ZuM5uKK51tyHhn8j5dNRfA="), "r", "merge"
    )


def test_signed_on_its_way(serve, client, signer):
    """The header that RequestSigner.sign gives, behind the caller's own, and the query that was signed."""
    server = serve(lambda head, body: OK)
    url = server.url + "/orders?a=1"
    signature = (signer, [("b", "x y")], [("f", "ü")], "abc", 1700000000)
    client.send("POST", url, [("X-Test", "one")], b"f=%C3%BC", False, 5000, *signature)
    signed_url, header = signer.sign("POST", url, *signature[1:])
    lines = server.requests[0][0].decode().splitlines()
    assert lines[0] == f"POST {signed_url.removeprefix(server.url)} HTTP/1.1"
    assert signed_url.endswith("/orders?a=1&b=x%20y")
    assert lines[lines.index("X-Test: one") + 1] == f"Authorization: {header}"
    assert server.requests[0][1] == b"f=%C3%BC"


def test_unsigned_without_a_signer(serve, client):
    server = serve(lambda head, body: OK)
    client.send("GET", server.url + "/", [], None, True, 5000, None, None, None, None, 0)
    assert b"authorization" not in server.requests[0][0].lower()


def test_signed_on_its_way_with_a_nonce_of_its_own(serve, client, signer):
    server = serve(lambda head, body: OK)
    for _ in range(40):
        client.send("GET", server.url + "/", [], None, True, 5000, signer, None, None, None, "1700000000")
    nonces = [re.findall(rb'oauth_nonce="([0-9a-f]{32})"', head) for head, _ in server.requests]
    assert len({one for [one] in nonces}) == 40


def test_what_cannot_be_signed_is_not_sent(serve, client, signer):
    server = serve(lambda head, body: OK)
    request = ("GET", server.url + "/", [], None, True, 5000)
    for signature, kind in [
        (("signer", None, None, None, 1), TypeError),
        ((signer, 5, None, None, 1), TypeError),
        ((signer, None, 5, None, 1), TypeError),
        ((signer, None, None, 5, 1), TypeError),
        ((signer, None, None, None, None), TypeError),
        ((signer, None, None, None, 2**64), OverflowError),
        ((signer, None, None, 'a"b', 1), errors.InvalidValue),
    ]:
        with pytest.raises(kind):
            client.send(*request, *signature)
    with pytest.raises(TypeError, match=r"\(10 given\)"):
        client.send(*request, signer, None, None, None)
    assert server.requests == []


def test_constructor():
    for keywords, kind in [
        ({}, TypeError),
        ({"user_agent": b"x"}, TypeError),
        ({"user_agent": "a\0b"}, errors.InvalidValue),
        ({"user_agent": "x", "proxy": 5}, TypeError),
        ({"user_agent": "x", "proxy": "a\0b"}, errors.InvalidValue),
        ({"user_agent": "x", "ca_file": b"x"}, TypeError),
        ({"user_agent": "x", "ca_file": "a\0b"}, errors.InvalidValue),
        ({"user_agent": "x", "ca_file": "\ud800"}, errors.InvalidValue),
        ({"user_agent": "x", "max_body_bytes": -1}, errors.InvalidValue),
        ({"user_agent": "x", "max_header_bytes": -1}, errors.InvalidValue),
        ({"user_agent": "x", "max_header_bytes": 2**64}, OverflowError),
        ({"user_agent": "x", "connect_timeout_ms": "5"}, TypeError),
        ({"user_agent": "x", "other": 1}, TypeError),
    ]:
        with pytest.raises(kind):
            _core.HttpClient(**keywords)
    with pytest.raises(TypeError):
        _core.HttpClient("agent")
    with pytest.raises(TypeError, match="'user_agent'"):
        _core.HttpClient(proxy=None)


def test_only_loopback_without_tls(client):
    with pytest.raises(errors.InvalidValue):
        client.send("GET", "http://192.0.2.1/", [], None, True, 1000)


def test_refused_headers_and_urls(client):
    for url, headers in [
        ("http://127.0.0.1:1/ x", []),
        ("http://127.0.0.1:1/\0", []),
        ("http://127.0.0.1:1/", [("A", "b\r\nC: d")]),
        ("http://127.0.0.1:1/", [("A: b", "c")]),
        ("http://127.0.0.1:1/", [("A", "b\0")]),
        ("http://127.0.0.1:1/", [("A", "\ud800")]),
    ]:
        with pytest.raises(errors.InvalidValue):
            client.send("GET", url, headers, None, True, 1000)


def test_nobody_answers(client):
    with pytest.raises(errors.ConnectError) as caught:
        client.send("GET", "http://127.0.0.1:1/", [], None, True, 5000)
    assert caught.value.code == "connect"
    assert caught.value.native.startswith("curl ")
    assert caught.value.sent is False


def test_timeout_and_outcome(serve, client):
    server = serve(lambda head, body: None)
    with pytest.raises(errors.Timeout) as caught:
        client.send("GET", server.url + "/", [], None, True, 100)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(errors.OutcomeUnknown) as caught:
        client.send("POST", server.url + "/", [], b"{}", False, 100)
    assert caught.value.sent is True


def test_limits(serve):
    server = serve(lambda head, body: OK)
    client = _core.HttpClient(user_agent="x", max_body_bytes=1, connect_timeout_ms=1000)
    with pytest.raises(errors.ResponseTooLarge):
        client.send("GET", server.url + "/", [], None, True, 5000)


def in_thread(function) -> tuple[threading.Thread, list]:
    """Runs function in a thread; the list gets its result or our exception."""
    result: list = []

    def run() -> None:
        try:
            result.append(function())
        except errors.IBKROAuthError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_one_thread_at_a_time_and_cancel(serve, client):
    server = serve(lambda head, body: None)
    url = server.url + "/"
    thread, result = in_thread(lambda: client.send("GET", url, [], None, True, 20_000))
    assert server.asked.wait(10)
    with pytest.raises(errors.UsageError) as caught:
        client.send("GET", url, [], None, True, 1000)
    assert caught.value.code == "busy"
    start = time.perf_counter()
    assert client.cancel() is None
    thread.join(10)
    assert time.perf_counter() - start < 1
    assert isinstance(result[0], errors.SessionClosed)
    assert result[0].code == "cancelled"


def test_cancel_before_send(client):
    client.cancel()
    with pytest.raises(errors.SessionClosed):
        client.send("GET", "http://127.0.0.1:1/", [], None, True, 1000)


def test_what_is_sent_cannot_be_taken_away(serve, client):
    release = threading.Event()

    def answer(head: bytes, body: bytes) -> bytes:
        release.wait(10)
        return OK

    server = serve(answer)
    headers = [("X-Name", "value" * 100)] * 50
    body = bytearray(b"b" * 100_000)
    thread, result = in_thread(lambda: client.send("POST", server.url + "/", headers, body, False, 20_000))
    assert server.asked.wait(10)
    headers.clear()
    with pytest.raises(BufferError):
        body.append(1)
    release.set()
    thread.join(10)
    assert result[0][0] == 200
    body.append(1)
    assert server.requests[0][1] == b"b" * 100_000
    assert server.requests[0][0].count(b"value" * 100) == 50


def test_client_may_go_while_its_connection_is_open(serve):
    server = serve(lambda head, body: OK)
    for _ in range(20):
        client = _core.HttpClient(user_agent="x")
        client.send("GET", server.url + "/", [], None, True, 5000)
        del client
    assert len(server.requests) == 20
