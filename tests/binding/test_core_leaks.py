"""Nothing is kept: memory and reference counts stay where they are over thousands of rounds."""

import contextlib
import gc
import resource
import sys

import pytest

from ibkr_oauth import _core, errors

ROUNDS = 2000
URL = "https://api.ibkr.com/v1/api/x"


def secrets(objects) -> None:
    secret = _core.Secret(b"x" * 1000)
    assert secret == _core.Secret.from_base64(secret.reveal_base64())
    repr(secret)


def signing(objects) -> None:
    signer = _core.RequestSigner("KEY", "token", objects["secret"], "realm", "merge")
    signer.sign("POST", URL, [["a", "b" * 1000]] * 5, (["c", "d" * 1000],) * 5, "n", "1")


def stages(objects) -> None:
    pairs = [("name", "value" * 200)] * 5
    _core.base_string("GET", URL, pairs, "prepend" * 100, "merge")
    _core.normalise(pairs, True)
    _core.query_pairs(_core.url_with_query(URL, pairs))
    _core.authorization_header(pairs, "realm")
    _core.hmac_sha256("text", objects["secret"])
    _core.java_bytes("ab" * 1000)
    _core.percent_encode("ü" * 1000)
    _core.nonce()
    _core.versions()
    _core.find_ca()


def tokens(objects) -> None:
    token = _core.derive_live_session_token(objects["secret"], objects["secret"])
    with contextlib.suppress(errors.LiveSessionTokenMismatch):
        _core.verify_live_session_token(token, "KEY", "0" * 40)


def keys(objects) -> None:
    key = _core.RSAKey.load(objects["pem"], b"not needed" * 100, "what" * 100)
    key.public_pem(), key.fingerprint, repr(key), key.bits
    with contextlib.suppress(errors.KeyMismatchError):
        key.decrypt("QUJD")
    with contextlib.suppress(errors.InvalidValue):
        _core.rsa_signature("GET", "ftp://host/", [("a", "b" * 1000)], key, objects["secret"])


def groups(objects) -> None:
    group = _core.DHParameters.load(objects["dh_pem"])
    group.prime, group.pem(), repr(group)
    exchange = group.exchange(b"\5")
    exchange.finish(exchange.challenge)
    with contextlib.suppress(errors.UsageError):
        exchange.finish("2")


def clients(objects) -> None:
    client = _core.HttpClient(user_agent="x" * 1000)
    with contextlib.suppress(errors.InvalidValue):
        client.send("GET", "ftp://host", [("a", "b" * 1000)] * 10, b"x" * 1000, True, 1000)


def engines(objects) -> None:
    mailbox = _core.Mailbox()
    mailbox.wake()
    mailbox.wait(-1)
    client = _core.EngineClient(mailbox, user_agent="x" * 1000)
    with contextlib.suppress(errors.InvalidValue):
        client.submit(1, "GET", "ftp://host", [("a", "b" * 1000)] * 10, b"x" * 1000, True, 1000)
    client.submit(2, "GET", "http://127.0.0.1:1/", [("a", "b" * 1000)] * 10, b"x" * 1000, True, 1000)
    signer = _core.RequestSigner("KEY", "token", objects["secret"], "realm", "merge")
    with contextlib.suppress(errors.InvalidValue):
        client.submit(4, "GET", "http://127.0.0.1:1/", [], None, True, 1, signer, [("a", "b" * 1000)], None, '"', 1)
    client.submit(
        5, "GET", "http://127.0.0.1:1/", [("a", "b" * 1000)], None, True, 1, signer, [("a", "b" * 1000)], None, None, 1
    )
    keep_alive = _core.KeepAlive(client, 3, "POST", URL, [("a", "b" * 1000)] * 10, 1000)
    for argument in (signer, None, signer):
        keep_alive.start(argument)
    keep_alive.set_headers([("c", "d" * 1000)] * 10)
    keep_alive.set_clock(10**12)
    keep_alive.status()
    with contextlib.suppress(TypeError, errors.InvalidValue):
        keep_alive.set_headers([("c", "d" * 1000), ("e", "\n")])


def refused_values(objects) -> None:
    for pairs in ("text", [5], [("a", 5)], [("a", "\ud800")], [("a", "b", "c")], [("a", "b")] * 16385):
        with contextlib.suppress(TypeError, errors.InvalidValue):
            _core.normalise(pairs)
    for call, argument in [
        (_core.Secret, "text"),
        (_core.Secret, bytes(70_000)),
        (_core.RSAKey.load, b"no key" * 1000),
        (_core.DHParameters.load, b"no parameters" * 1000),
        (_core.java_bytes, "zz" * 1000),
        (_core.query_pairs, URL + "?a=%ff"),
        (_core.percent_encode, "\ud800" * 1000),
    ]:
        with contextlib.suppress(TypeError, errors.IBKROAuthError):
            call(argument)


def failing_callables(objects) -> None:
    results = iter([object(), object()])
    with contextlib.suppress(StopIteration):
        _core.RSAKey.generate(2048, lambda: next(results))


WORK = {
    function.__name__: (function, rounds)
    for function, rounds in [
        (secrets, ROUNDS),
        (signing, ROUNDS),
        (stages, ROUNDS),
        (tokens, ROUNDS),
        (keys, ROUNDS // 8),
        (groups, ROUNDS // 2),
        (clients, ROUNDS),
        (engines, ROUNDS // 4),
        (refused_values, ROUNDS // 4),
        (failing_callables, ROUNDS // 4),
    ]
}


@pytest.fixture
def objects(signing_pem, vectors) -> dict:
    return {
        "pem": signing_pem.encode(),
        "secret": _core.Secret(b"s" * 20),
        "dh_pem": vectors["dh_groups"]["modp2048"]["pem"].encode(),
    }


def reference_counts(objects) -> dict[str, int]:
    counted = {name: getattr(_core, name) for name in dir(_core) if isinstance(getattr(_core, name), type)}
    counted |= {**objects, "errors": errors, "from_core": errors.from_core, "none": None, "url": URL}
    return {name: sys.getrefcount(value) for name, value in counted.items()}


@pytest.mark.parametrize("name", WORK)
def test_rounds_leave_nothing_behind(name, objects):
    assert_nothing_stays(*WORK[name], objects)


def test_transfers_leave_nothing_behind(serve, client, objects):
    header = b"X-Name: " + b"value" * 100
    server = serve(lambda head, body: b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 1000\r\n\r\n%b" % (header, body))

    def transfer(objects) -> None:
        result = client.send("POST", server.url + "/", [("X-Name", "value" * 100)] * 5, b"x" * 1000, False, 5000)
        assert result[2] == b"x" * 1000
        server.requests.clear()

    assert_nothing_stays(transfer, ROUNDS // 4, objects)


def test_transfers_of_the_engine_leave_nothing_behind(serve, objects):
    header = b"X-Name: " + b"value" * 100
    server = serve(lambda head, body: b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 1000\r\n\r\n%b" % (header, body))
    mailbox = _core.Mailbox()
    engine = _core.EngineClient(mailbox, user_agent="x")

    def transfer(objects) -> None:
        engine.submit(1, "POST", server.url + "/", [("X-Name", "value" * 100)] * 5, b"x" * 1000, False, 5000)
        assert mailbox.wait(5000)[0][1][2] == b"x" * 1000
        engine.submit(2, "GET", "http://127.0.0.1:1/", [], None, True, 5000)
        assert isinstance(mailbox.wait(5000)[0][1], errors.ConnectError)
        server.requests.clear()

    # How many jobs it has for reuse depends on when its thread gives one back: some more blocks, not one for each round.
    assert_nothing_stays(transfer, ROUNDS // 4, objects, kept=ROUNDS // 50)
    engine.close()


def assert_nothing_stays(work, rounds, objects, kept=0) -> None:
    """`kept`: native allocations that may stay for use again."""
    live = getattr(_core, "_live_allocations", int)  # only in builds with IBK_TESTING
    for _ in range(rounds // 10):
        work(objects)
    gc.collect()
    references, native, blocks = reference_counts(objects), live(), sys.getallocatedblocks()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        work(objects)
    gc.collect()
    assert abs(live() - native) <= kept
    # The interpreter itself may take some for its caches; a leak takes one for each round.
    assert sys.getallocatedblocks() - blocks < rounds // 10
    after = reference_counts(objects)
    assert {key: after[key] - count for key, count in references.items() if after[key] - count > rounds // 10} == {}
    unit = 1024 if sys.platform == "darwin" else 1
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / unit
    # tuple() of a long list costs CPython 3.13 without a GIL some 2 KiB each time; refused_values makes 500.
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert growth < (1024 if has_gil else 2048), f"{growth:.0f} KiB more after {rounds} rounds"
