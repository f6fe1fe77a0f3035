"""Python without memory, at each of its allocations in turn: MemoryError, nothing lost, nothing broken. And a core without."""

import _imp
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from textwrap import dedent

import pytest

from ibkr_oauth import _core

URL = "https://api.ibkr.com/v1/api/x"
PAIRS = [["name", "value"], ("other", "café")]
#: More than any of the calls makes.
ALLOCATIONS = 40


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Whoever listens to the collector, as Hypothesis does, would run within a call, and miss its memory."""
    gc.disable()
    yield
    gc.enable()


def each_call(key: _core.RSAKey, group: _core.DHParameters, signer: _core.RequestSigner, key_pem: bytes) -> dict:
    """Without a function of Python in between, which would take memory of its own."""
    secret = _core.Secret(b"s" * 20)
    exchange = group.exchange(b"\5")
    mailbox = _core.Mailbox()
    engine = _core.EngineClient(mailbox, user_agent="x")
    return {
        "Secret": partial(_core.Secret, b"data"),
        "Secret.from_base64": partial(_core.Secret.from_base64, "QUJD"),
        "Secret.reveal": secret.reveal,
        "Secret.reveal_base64": secret.reveal_base64,
        "Secret.__repr__": secret.__repr__,
        "RSAKey.load": partial(_core.RSAKey.load, key_pem),
        "RSAKey.bits": partial(getattr, key, "bits"),
        "RSAKey.fingerprint": partial(getattr, key, "fingerprint"),
        "RSAKey.public_pem": key.public_pem,
        "RSAKey.private_pem": key.private_pem,
        "RSAKey.sign": partial(key.sign, "message"),
        "RSAKey.__repr__": key.__repr__,
        "DHParameters.load": partial(_core.DHParameters.load, group.pem().encode()),
        "DHParameters.from_numbers": partial(_core.DHParameters.from_numbers, group.prime.to_bytes(256, "big"), 2),
        "DHParameters.prime": partial(getattr, group, "prime"),
        "DHParameters.fingerprint": partial(getattr, group, "fingerprint"),
        "DHParameters.pem": group.pem,
        "DHParameters.exchange": partial(group.exchange, b"\5"),
        "DHParameters.__repr__": group.__repr__,
        "DHExchange.challenge": partial(getattr, exchange, "challenge"),
        "RequestSigner": partial(_core.RequestSigner, "KEY", "token", secret, "realm", "omit"),
        "RequestSigner.sign": partial(signer.sign, "GET", URL, PAIRS, PAIRS, "n", 1),
        "HttpClient": partial(_core.HttpClient, user_agent="x", ca_file=__file__),
        "Mailbox": _core.Mailbox,
        "EngineClient": partial(_core.EngineClient, mailbox, user_agent="x"),
        "KeepAlive": partial(_core.KeepAlive, engine, 2, "GET", URL, PAIRS, 1000),
        "percent_encode": partial(_core.percent_encode, "ü"),
        "query_pairs": partial(_core.query_pairs, URL + "?a=1000&caf%C3%A9=%C3%BC%C3%BC"),
        "url_with_query": partial(_core.url_with_query, URL, PAIRS),
        "normalise": partial(_core.normalise, PAIRS),
        "base_string": partial(_core.base_string, "GET", URL, PAIRS),
        "hmac_sha256": partial(_core.hmac_sha256, "text", secret),
        "authorization_header": partial(_core.authorization_header, PAIRS),
        "rsa_signature": partial(_core.rsa_signature, "GET", URL, PAIRS, key),
        "java_bytes": partial(_core.java_bytes, "00ff80"),
        "nonce": _core.nonce,
        "versions": _core.versions,
        "find_ca": _core.find_ca,
        "derive_live_session_token": partial(_core.derive_live_session_token, secret, secret),
        "header_values": partial(_core.header_values, [("a", str(i)) for i in range(20)], "A"),
        "header_values of lines": partial(_core.header_values, b"a: 1\r\n" * 20, "A"),
        "header_pairs": partial(_core.header_pairs, b"a: 1\r\n" * 20),
        "a wrong value": partial(_core.query_pairs, URL + "?a=%ff"),
        "a lone surrogate": partial(_core.percent_encode, "\ud800"),
        "a path with NUL": partial(_core.HttpClient, user_agent="x", ca_file="a\0b"),
    }


def shown(result: object) -> object:
    """What can be compared with the same of the next call."""
    if isinstance(result, Exception):
        return type(result), str(result)
    if isinstance(result, _core.Secret):
        return result.reveal()
    return result if isinstance(result, str | bytes | int | tuple | list | dict) else type(result)


def usual_outcome(call: Callable[[], object]) -> object:
    try:
        return shown(call())
    except Exception as error:  # noqa: BLE001 - whichever it is, it is looked at
        return shown(error)


def outcome_without_memory(testcapi, fail_at: int, call: Callable[[], object]) -> object:
    """The same where the allocation of this number fails, and no other."""
    result: object
    testcapi.set_nomemory(fail_at, fail_at + 1)
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - as above
        result = error.with_traceback(None)  # which would have this very frame
    finally:
        testcapi.remove_mem_hooks()
    return shown(result)


def test_python_has_no_memory_for_one_thing(signing_key, signing_pem, dh_parameters, signer):
    testcapi = pytest.importorskip("_testcapi")
    no_memory = (MemoryError, "")
    live = getattr(_core, "_live_allocations", int)  # only in builds with IBK_TESTING
    for name, call in each_call(signing_key, dh_parameters, signer, signing_pem.encode()).items():
        usual = usual_outcome(call)
        native = live()
        outcomes = [outcome_without_memory(testcapi, number, call) for number in range(ALLOCATIONS)]
        assert no_memory in outcomes, name
        if name != "nonce":
            assert all(one in (usual, no_memory) for one in outcomes), (name, usual, outcomes)
            assert usual_outcome(call) == usual, name
        assert live() == native, name


def test_calls_without_memory_leave_nothing_behind(signing_key, signing_pem, dh_parameters, signer):
    testcapi = pytest.importorskip("_testcapi")
    times = 100
    for name, call in each_call(signing_key, dh_parameters, signer, signing_pem.encode()).items():
        if name.startswith(("RSA", "rsa", "DH", "HttpClient", "EngineClient", "KeepAlive")):
            continue  # which take longer, and are made of the same pieces
        for number in range(10):
            outcome_without_memory(testcapi, number, call)
            blocks = sys.getallocatedblocks()
            for _ in range(times):
                outcome_without_memory(testcapi, number, call)
            assert sys.getallocatedblocks() - blocks < times // 2, (name, number)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python 3.13 does not survive that with modules of its own")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what Python has no memory to raise
def test_python_has_no_memory_for_the_module():
    testcapi = pytest.importorskip("_testcapi")
    outcomes, half_made = [], []
    for number in range(1000):
        module = _imp.create_dynamic(ModuleSpec(_core.__name__, None, origin=_core.__file__))
        half_made.append(module)
        outcomes.append(outcome_without_memory(testcapi, number, partial(_imp.exec_dynamic, module)))
    gc.collect()  # which looks into what is half made, too
    assert (MemoryError, "") in outcomes
    assert outcomes[-1] == 0
    assert module.Secret(b"a").reveal() == b"a"
    for outcome in outcomes:
        # Python itself forgets here and there to say what it had no memory for.
        assert outcome in (0, (MemoryError, "")) or "failed without setting an exception" in outcome[1]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_core_has_no_memory():
    """A process with little room is asked for a text that needs more of it, and goes on."""
    code = """
        import resource
        from ibkr_oauth import _core
        text = "%" * 5_000_000
        used = 4096 * int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used + 8_000_000, resource.RLIM_INFINITY))
        try:
            _core.percent_encode(text)
        except MemoryError as error:
            print(repr(error))
        print(_core.percent_encode("%"))
    """
    # AddressSanitizer would end the process.
    environment = os.environ | {"ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:allocator_may_return_null=1"}
    command = [sys.executable, "-c", dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "MemoryError()\n%25\n"
