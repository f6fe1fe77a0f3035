"""Mailbox, EngineClient, KeepAlive: values in, values out, lifetimes, the GIL. What they do on the wire is tested in C."""

import asyncio
import gc
import re
import select
import threading
import time
import weakref

import pytest

from ibkr_oauth import _core, errors

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEADERS = [("X-Test", "one")]


@pytest.fixture
def mailbox() -> _core.Mailbox:
    return _core.Mailbox()


@pytest.fixture
def engine(mailbox):
    client = _core.EngineClient(mailbox, user_agent="engine-test/1")
    yield client
    client.close()


def wait_for(mailbox, count: int = 1) -> list:
    """So many outcomes, in the order in which they came."""
    outcomes: list = []
    deadline = time.monotonic() + 20
    while len(outcomes) < count:
        assert time.monotonic() < deadline, f"{len(outcomes)} of {count} outcomes came"
        outcomes += mailbox.wait(1000)
    assert len(outcomes) == count
    return outcomes


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# requests


def test_outcome_is_what_send_returns(serve, mailbox, engine, client):
    answer = (
        b"HTTP/1.1 418 Teapot\r\nX-Second: b\r\nx-second:  caf\xe9 \r\nEmpty:\r\nContent-Length: 4\r\n\r\n\0\r\n\xff"
    )
    server = serve(lambda head, body: answer)
    engine.submit(7, "POST", server.url + "/orders", HEADERS, b"{\0}", False, 5000)
    ((key, outcome),) = wait_for(mailbox)
    assert key == 7
    assert type(outcome) is tuple
    expected = client.send("POST", server.url + "/orders", HEADERS, b"{\0}", False, 5000)
    assert outcome[:3] == expected[:3] == (418, expected[1], b"\0\r\n\xff")
    assert 0 < outcome[3] < 5_000_000
    assert outcome[4] is False
    head, body = server.requests[0]
    assert head.replace(b"engine-test/1", b"binding-test/1") == server.requests[1][0]
    assert body == b"{\0}"
    engine.submit(8, "GET", server.url + "/", (), None, True, 5000)
    assert wait_for(mailbox)[0][1][4] is True


def test_many_at_once(serve, mailbox, engine):
    server = serve(lambda head, body: OK)
    keys = [-(2**63), -1, 0, 2**63 - 1, *range(10, 60)]
    for key in keys:
        engine.submit(key, "GET", server.url + "/", HEADERS, None, True, 5000)
    outcomes = dict(wait_for(mailbox, len(keys)))
    assert outcomes.keys() == set(keys)
    assert {outcome[0] for outcome in outcomes.values()} == {200}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_request_is_copied(serve, mailbox, engine, kind):
    server = serve(lambda head, body: OK)
    memory = bytearray(b"b" * 100_000)
    body = kind(memory)
    headers = [("X-Name", "value")]
    engine.submit(1, "PUT", server.url + "/", headers, body, False, 5000)
    headers.clear()
    del body
    memory[:] = b"x"  # nobody holds it any more
    wait_for(mailbox)
    assert server.requests[0][1] == b"b" * 100_000
    assert b"X-Name: value\r\n" in server.requests[0][0]


def test_types_of_arguments(mailbox, engine):
    url = "http://127.0.0.1:1/"
    for arguments, message in [
        ((1, b"GET", url, [], None, True, 1), "method must be str, not bytes"),
        ((1, "GET", 5, [], None, True, 1), "url must be str, not int"),
        ((1, "GET", url, None, None, True, 1), r"headers must be a sequence of \(name, value\) tuples, not NoneType"),
        ((1, "GET", url, [], "text", True, 1), "body must be bytes, bytearray or memoryview, not str"),
        ((1, "GET", url, [], None, 1, 1), "repeatable must be bool, not int"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}$"):
            engine.submit(*arguments)
    for key, kind in [("1", TypeError), (None, TypeError), (1.5, TypeError), (2**63, OverflowError)]:
        with pytest.raises(kind):
            engine.submit(key, "GET", url, [], None, True, 1)
        with pytest.raises(kind):
            engine.cancel(key)
    with pytest.raises(TypeError, match=r"takes 6 arguments for a request, and 5 more to sign it \(1 given\)"):
        engine.submit(1, "GET")
    with pytest.raises(TypeError, match="takes a key and a request"):
        engine.submit()
    assert engine.cancel(-1) is False
    assert mailbox.take() == []


def test_what_cannot_be_sent_is_refused_at_once(mailbox, engine, client):
    for url, headers, timeout in [
        ("http://192.0.2.1/", [], 1000),
        ("http://127.0.0.1:1/ x", [], 1000),
        ("http://127.0.0.1:1/", [("A", "b\r\nC: d")], 1000),
        ("http://127.0.0.1:1/", [("Host", "x")], 1000),
        ("http://127.0.0.1:1/", [("A", "x" * 70_000)], 1000),
        ("http://127.0.0.1:1/", [], 0),
    ]:
        with pytest.raises(errors.InvalidValue) as refused:
            engine.submit(1, "GET", url, headers, None, True, timeout)
        with pytest.raises(errors.InvalidValue) as expected:
            client.send("GET", url, headers, None, True, timeout)
        assert str(refused.value) == str(expected.value)
    assert mailbox.wait(20) == []


def test_failures_are_delivered_as_exceptions(serve, mailbox, engine):
    server = serve(lambda head, body: None)
    engine.submit(1, "GET", "http://127.0.0.1:1/", [], None, True, 5000)
    engine.submit(2, "GET", server.url + "/", [], None, True, 300)
    engine.submit(3, "POST", server.url + "/", [], b"{}", False, 300)
    outcomes = dict(wait_for(mailbox, 3))
    assert type(outcomes[1]) is errors.ConnectError
    assert (outcomes[1].code, outcomes[1].sent) == ("connect", False)
    assert outcomes[1].native.startswith("curl ")
    assert outcomes[1].__traceback__ is None
    assert type(outcomes[2]) is errors.Timeout
    assert type(outcomes[3]) is errors.OutcomeUnknown
    assert outcomes[3].sent is True


def test_answer_that_python_has_no_memory_for(serve, mailbox, engine):
    testcapi = pytest.importorskip("_testcapi")
    body = b"x" * 200_000
    server = serve(lambda head, _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    for fail_at in range(30):
        engine.submit(fail_at, "GET", server.url + "/", [], None, True, 5000)
        until(lambda: select.select([mailbox], [], [], 0)[0])
        testcapi.set_nomemory(fail_at, fail_at + 1)
        try:
            outcomes = mailbox.take()
        except MemoryError:
            outcomes = None
        finally:
            testcapi.remove_mem_hooks()
        if outcomes is None:  # nothing is lost
            outcomes = mailbox.take()
        ((key, outcome),) = outcomes
        assert key == fail_at
        assert isinstance(outcome, MemoryError) or outcome[2] == body


def test_constructor(mailbox):
    for arguments, keywords, kind in [
        ((), {"user_agent": "x"}, TypeError),
        ((None,), {"user_agent": "x"}, TypeError),
        ((mailbox,), {}, TypeError),
        ((mailbox, "agent"), {}, TypeError),
        ((mailbox,), {"user_agent": b"x"}, TypeError),
        ((mailbox,), {"user_agent": "a\0b"}, errors.InvalidValue),
        ((mailbox,), {"user_agent": "x", "proxy": "ftp://host"}, errors.InvalidValue),
        ((mailbox,), {"user_agent": "x", "ca_file": b"x"}, TypeError),
        ((mailbox,), {"user_agent": "x", "max_body_bytes": -1}, errors.InvalidValue),
        ((mailbox,), {"user_agent": "x", "connect_timeout_ms": 0}, errors.InvalidValue),
        ((mailbox,), {"user_agent": "x", "other": 1}, TypeError),
    ]:
        with pytest.raises(kind):
            _core.EngineClient(*arguments, **keywords)
    with pytest.raises(TypeError, match="mailbox must be Mailbox, not NoneType"):
        _core.EngineClient(None, user_agent="x")
    with pytest.raises(TypeError, match=r"EngineClient\(\) missing required keyword-only argument: 'user_agent'"):
        _core.EngineClient(mailbox)
    with pytest.raises(TypeError):
        _core.Mailbox(1)
    _core.EngineClient(mailbox=mailbox, user_agent="x").close()
    assert _core.engine_threads() == 0


def test_limits(serve, mailbox):
    server = serve(lambda head, body: OK)
    client = _core.EngineClient(mailbox, user_agent="x", max_body_bytes=1)
    client.submit(1, "GET", server.url + "/", [], None, True, 5000)
    assert isinstance(wait_for(mailbox)[0][1], errors.ResponseTooLarge)
    client.close()


def test_cancel(serve, mailbox, engine):
    server = serve(lambda head, body: None)
    assert engine.cancel(1) is False
    engine.submit(1, "GET", server.url + "/", [], None, True, 20_000)
    assert server.asked.wait(10)
    assert engine.cancel(1) is True
    assert engine.cancel(1) is False
    assert mailbox.wait(50) == []


# lifetimes


def test_close(serve, mailbox):
    server = serve(lambda head, body: None)
    client = _core.EngineClient(mailbox, user_agent="x")
    other = _core.EngineClient(mailbox, user_agent="x")
    assert _core.engine_threads() == 1
    client.submit(1, "GET", server.url + "/", [], None, True, 20_000)
    assert server.asked.wait(10)
    start = time.perf_counter()
    assert client.close() is None
    assert client.close() is None
    assert time.perf_counter() - start < 1
    assert client.cancel(1) is False
    with pytest.raises(errors.SessionClosed):
        client.submit(1, "GET", server.url + "/", [], None, True, 20_000)
    assert _core.engine_threads() == 1
    other.close()
    assert _core.engine_threads() == 0
    assert mailbox.take() == []


def test_dropping_the_last_reference_closes(serve):
    server = serve(lambda head, body: None)
    mailbox = _core.Mailbox()
    client = _core.EngineClient(mailbox, user_agent="x")
    client.submit(1, "GET", server.url + "/", [], None, True, 20_000)
    assert server.asked.wait(10)
    keep_alive = _core.KeepAlive(client, 2, "GET", server.url + "/", [], 5)
    keep_alive.start(None)
    del mailbox
    del client
    assert _core.engine_threads() == 0
    assert keep_alive.status()[4] is False
    with pytest.raises(errors.SessionClosed):
        keep_alive.start(None)


def test_what_is_in_the_mailbox_outlives_the_client(serve, mailbox, engine):
    server = serve(lambda head, body: OK)
    engine.submit(1, "GET", server.url + "/", [], None, True, 5000)
    until(lambda: select.select([mailbox], [], [], 0)[0])
    engine.close()
    ((key, outcome),) = mailbox.take()
    assert (key, outcome[0]) == (1, 200)


# waiting


def test_waiting_and_waking(mailbox):
    start = time.perf_counter()
    assert mailbox.wait(60) == []
    assert time.perf_counter() - start >= 0.06
    assert mailbox.take() == []
    mailbox.wake()
    assert mailbox.wait(-1) == []
    threading.Timer(0.05, mailbox.wake).start()
    start = time.perf_counter()
    assert mailbox.wait(20_000) == []
    assert time.perf_counter() - start < 10
    for timeout in ("5", None, 1.5):
        with pytest.raises(TypeError):
            mailbox.wait(timeout)
    with pytest.raises(OverflowError):
        mailbox.wait(2**64)


def test_descriptor_is_readable_while_there_is_something(serve, mailbox, engine):
    server = serve(lambda head, body: OK)
    assert mailbox.fileno() == mailbox.fileno()
    assert select.select([mailbox], [], [], 0)[0] == []
    for key in range(5):
        engine.submit(key, "GET", server.url + "/", [], None, True, 5000)
    until(lambda: len(server.requests) == 5)
    assert select.select([mailbox], [], [], 10)[0] == [mailbox]
    taken = mailbox.take()
    taken += [] if len(taken) == 5 else wait_for(mailbox, 5 - len(taken))
    assert select.select([mailbox], [], [], 0)[0] == []


def test_asyncio_watches_a_mailbox(serve, mailbox, engine):
    server = serve(lambda head, body: OK)

    async def fetch() -> list[int]:
        loop = asyncio.get_running_loop()
        futures = {key: loop.create_future() for key in range(30)}

        def deliver() -> None:
            for key, outcome in mailbox.take():
                futures[key].set_result(outcome[0])

        loop.add_reader(mailbox, deliver)
        for key in futures:
            engine.submit(key, "GET", server.url + "/", [], None, True, 5000)
        try:
            return await asyncio.wait_for(asyncio.gather(*futures.values()), 20)
        finally:
            loop.remove_reader(mailbox)

    assert asyncio.run(fetch()) == [200] * 30


def test_other_threads_run_while_one_waits(mailbox):
    started = threading.Event()
    results: list = []

    def run() -> None:
        started.set()
        results.append(mailbox.wait(20_000))

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    turns = 0
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        turns += 1
    mailbox.wake()
    thread.join(10)
    assert results == [[]]
    assert turns > 1000


def test_threads_share_a_client(serve, mailbox, engine):
    server = serve(lambda head, body: OK)
    start = threading.Barrier(4)

    def run(first: int) -> None:
        start.wait()
        for key in range(first, first + 25):
            engine.submit(key, "GET", server.url + "/", HEADERS, None, True, 10_000)

    threads = [threading.Thread(target=run, args=[first]) for first in range(0, 100, 25)]
    for thread in threads:
        thread.start()
    outcomes = wait_for(mailbox, 100)
    for thread in threads:
        thread.join()
    assert sorted(key for key, _ in outcomes) == list(range(100))
    assert all(outcome[0] == 200 for _, outcome in outcomes)


# keep-alive


@pytest.fixture
def beats(serve, mailbox, engine):
    """Makes KeepAlive objects that beat at a server that answers "ok", and stops them."""
    made: list[_core.KeepAlive] = []

    def make(interval_ms: int = 10, headers=(), **keywords):
        server = serve(lambda head, body: OK)
        keep_alive = _core.KeepAlive(engine, 5, "POST", server.url + "/tickle", headers, interval_ms, **keywords)
        made.append(keep_alive)
        return server, keep_alive

    yield make
    for keep_alive in made:
        keep_alive.stop()


def test_beats_are_signed_as_requests_are(beats, mailbox, signer):
    server, keep_alive = beats(headers=HEADERS)
    assert keep_alive.status() == (0, 0, 0, -1, False)
    assert keep_alive.start(signer) is None
    keep_alive.set_clock(1_800_000_000_000 - _core.steady_ms())
    ((key, outcome),) = wait_for(mailbox)
    assert (key, outcome[0], outcome[2]) == (5, 200, b"ok")
    head = server.requests[0][0].decode()
    assert head.startswith("POST /tickle HTTP/1.1\r\n")
    assert "\r\nX-Test: one\r\n" in head
    header = re.search(r"\r\nAuthorization: (.*)\r\n", head)[1]
    nonce, timestamp = (re.search(f'oauth_{name}="([^"]*)"', header)[1] for name in ("nonce", "timestamp"))
    assert len(nonce) == 32
    assert 1_800_000_000 <= int(timestamp) < 1_800_000_100
    assert signer.sign("POST", server.url + "/tickle", None, None, nonce, timestamp) == (server.url + "/tickle", header)


def test_status_and_the_latest_outcome(beats, mailbox):
    _, keep_alive = beats(1)
    keep_alive.start(None)
    until(lambda: keep_alive.status()[0] >= 20)
    assert len(mailbox.take()) <= 1
    sent, good, failures, since, running = keep_alive.status()
    assert sent >= 20
    assert good == sent
    assert failures == 0
    assert 0 <= since < 10_000
    assert running is True
    assert keep_alive.stop() is None
    assert keep_alive.stop() is None
    mailbox.take()
    assert keep_alive.status()[4] is False
    assert mailbox.wait(20) == []


def test_failures_are_counted_and_delivered(mailbox, engine):
    keep_alive = _core.KeepAlive(engine, 5, "GET", "http://127.0.0.1:1/", [], 20, 1, 1000)
    keep_alive.start(None)
    assert isinstance(wait_for(mailbox)[0][1], errors.ConnectError)
    until(lambda: keep_alive.status()[2] >= 3)
    assert keep_alive.status()[1:4:2] == (0, -1)
    keep_alive.stop()


def test_beat_now_with_other_headers(beats, mailbox):
    server, keep_alive = beats(60_000)
    assert keep_alive.beat() is None  # does not run
    keep_alive.start(None)
    keep_alive.set_headers([("Cookie", "a=b")])
    keep_alive.beat()
    wait_for(mailbox)
    assert b"\r\nCookie: a=b\r\n" in server.requests[0][0]
    assert b"Authorization" not in server.requests[0][0]


def test_types_of_keep_alive_arguments(engine, mailbox, beats):
    url = "http://127.0.0.1:1/"
    for arguments, kind in [
        ((None, 1, "GET", url, [], 1), TypeError),
        ((engine, "1", "GET", url, [], 1), TypeError),
        ((engine, 2**63, "GET", url, [], 1), OverflowError),
        ((engine, 1, b"GET", url, [], 1), TypeError),
        ((engine, 1, "GET", None, [], 1), TypeError),
        ((engine, 1, "GET", url, None, 1), TypeError),
        ((engine, 1, "GET", url, [], 1.5), TypeError),
        ((engine, 1, "GET", url, []), TypeError),
        ((engine, 1, "get", url, [], 1), errors.InvalidValue),
        ((engine, 1, "GET", "http://192.0.2.1/", [], 1), errors.InvalidValue),
        ((engine, 1, "GET", url, [("Host", "x")], 1), errors.InvalidValue),
        ((engine, 1, "GET", url, [], 0), errors.InvalidValue),
        ((engine, 1, "GET", url, [], 1, 0), errors.InvalidValue),
        ((engine, 1, "GET", url, [], 1, 1, 0), errors.InvalidValue),
        ((engine, 1, "GET", url, [], 86_400_001), errors.InvalidValue),
    ]:
        with pytest.raises(kind):
            _core.KeepAlive(*arguments)
    _, keep_alive = beats(1000)
    with pytest.raises(TypeError, match="signer must be RequestSigner or None, not str"):
        keep_alive.start("signer")
    with pytest.raises(TypeError):
        keep_alive.set_clock("1")
    with pytest.raises(OverflowError):
        keep_alive.set_clock(2**63)
    with pytest.raises(errors.InvalidValue):
        keep_alive.set_headers([("A", "b\n")])
    with pytest.raises(TypeError, match="headers must be a sequence"):
        keep_alive.set_headers(None)
    assert keep_alive.set_clock(None) is None
    assert keep_alive.set_clock(-1) is None
    assert keep_alive.status()[4] is False


def test_keep_alive_stops_when_nobody_holds_it(beats, mailbox, engine, serve):
    server = serve(lambda head, body: OK)
    keep_alive = _core.KeepAlive(engine, 9, "GET", server.url + "/", [], 1)
    keep_alive.start(None)
    wait_for(mailbox)
    del keep_alive
    mailbox.take()
    seen = len(server.requests)
    assert mailbox.wait(30) == []
    assert len(server.requests) <= seen + 1


def test_objects_refer_to_their_types_only(mailbox, engine, beats):
    _, keep_alive = beats(1000)
    for item in (mailbox, engine, keep_alive):
        assert gc.get_referents(item) == [type(item)]
        with pytest.raises(TypeError):
            weakref.ref(item)


def test_steady_clock():
    first = _core.steady_ms()
    time.sleep(0.02)
    assert 20 <= _core.steady_ms() - first < 20_000
