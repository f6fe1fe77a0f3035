"""For the tests of programs that trade: a sandbox in a fixture, and a guard in front of the real service.

pytest finds it by itself where `ibkr_oauth` is installed. Nothing but the guard happens until a test asks for a
fixture; the fixtures need the extra `sandbox`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from . import _core, transport
from .errors import UsageError
from .redact import HIDDEN, redact

if TYPE_CHECKING:
    from . import AccessToken, AsyncSession, Consumer, Session
    from .sandbox import RecordedRequest, Sandbox

_KEY = "PYTESTKEY"
_MARK = "ibkr_live: may reach hosts other than this machine, if --ibkr-live is given too; is skipped without it"


# --- The guard -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("ibkr_oauth").addoption(
        "--ibkr-live", action="store_true", help="run the tests marked ibkr_live, which reach the real service"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)
    transport.guard = refuse_other_hosts


def pytest_unconfigure() -> None:
    transport.guard = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """From the set-up of its first fixture to the end of its last one, a marked test may send wherever it wants."""
    if item.get_closest_marker("ibkr_live") is None:
        return (yield)
    if not item.config.getoption("--ibkr-live"):
        item.add_marker(pytest.mark.skip(reason="reaches the real service: run with --ibkr-live"))
        return (yield)
    transport.guard = None
    try:
        return (yield)
    finally:
        transport.guard = refuse_other_hosts


def refuse_other_hosts(url: str) -> None:
    """Raises UsageError unless the URL leads to this machine: 127.0.0.0/8, [::1], localhost."""
    host = urlsplit(url).netloc
    if not _core.may_be_sent(f"http://{host}/"):  # plain http is for loopback only
        raise UsageError(
            f"a test wanted to send to {host}, and only this machine is allowed under pytest",
            code="refused_under_pytest",
            advice="Use the fixture ibkr_session, or give the session the base_url of ibkr_sandbox. For a test that is "
            "meant to reach the service: mark it with @pytest.mark.ibkr_live and run pytest --ibkr-live.",
        )


# --- Fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def ibkr_consumer() -> Consumer:
    """A consumer with keys made for this run."""
    from . import Consumer, DHParameters, PrivateKey  # noqa: PLC0415 - who asks for nothing loads nothing

    return Consumer(_KEY, PrivateKey.generate(), PrivateKey.generate(), DHParameters.rfc7919())


@pytest.fixture
def ibkr_sandbox(ibkr_consumer: Consumer) -> Generator[Sandbox]:
    """IBKR in a box, new for each test, over TLS, with `ibkr_consumer` registered and active."""
    try:
        from .sandbox import Sandbox  # noqa: PLC0415 - as above
    except ImportError as error:
        pytest.fail(
            f"the fixtures of ibkr_oauth need the sandbox ({error.name} is missing): pip install 'ibkr_oauth[sandbox]'"
        )
    with Sandbox(tls=True) as sandbox:
        sandbox.register(
            ibkr_consumer.key,
            ibkr_consumer.signing_key.public_pem(),
            ibkr_consumer.encryption_key.public_pem(),
            ibkr_consumer.dh_params.pem(),
        )
        yield sandbox


@pytest.fixture
def ibkr_access_token(ibkr_sandbox: Sandbox) -> AccessToken:
    """Of the sandbox's user `paper`, who has granted access."""
    from . import AccessToken  # noqa: PLC0415 - as above

    return AccessToken(*ibkr_sandbox.grant(_KEY), is_paper=True)


@pytest.fixture
def ibkr_session(ibkr_sandbox: Sandbox, ibkr_consumer: Consumer, ibkr_access_token: AccessToken) -> Generator[Session]:
    """A session with the sandbox, which has sent nothing yet."""
    from . import Session  # noqa: PLC0415 - as above

    with Session(ibkr_consumer, ibkr_access_token, **_reach(ibkr_sandbox)) as session:
        yield session


@pytest.fixture
def ibkr_async_session(
    ibkr_sandbox: Sandbox, ibkr_consumer: Consumer, ibkr_access_token: AccessToken
) -> Generator[AsyncSession]:
    """The same for asyncio, with any runner of coroutines: it takes the loop of its first call."""
    import asyncio  # noqa: PLC0415 - slow to import

    from .aio import AsyncSession  # noqa: PLC0415 - as above

    session = AsyncSession(ibkr_consumer, ibkr_access_token, **_reach(ibkr_sandbox))
    yield session
    asyncio.run(session.close())


def _reach(sandbox: Sandbox) -> Any:
    # Without pacing: IBKR allows some paths once in five seconds, and tests would wait for it.
    return {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file, "pacing": None}


# --- What to say of what was sent ----------------------------------------------------------------


def assert_signed(requests: Iterable[RecordedRequest]) -> None:
    """Every request, and at least one, came with a signature, and none was refused for who sent it (401).

    `requests`: `ibkr_sandbox.requests`, or some of them.
    """
    number = 0
    for number, one in enumerate(requests, 1):  # noqa: B007 - how many there were
        what = f"{one.method} {one.path}"
        if "oauth_signature" not in one.headers.get("authorization", ""):
            raise AssertionError(f"{what} came without a signature")
        if one.status == 401:
            raise AssertionError(f"{what} was refused: {one.refusal}")
    if not number:
        raise AssertionError("nothing was sent, so nothing was signed")


def assert_nonces_unique(requests: Iterable[RecordedRequest]) -> None:
    """No two requests, and there is at least one signed one, came with the same nonce: each attempt was signed anew."""
    nonces = Counter(one.nonce for one in requests if one.nonce is not None)
    if not nonces:
        raise AssertionError("nothing signed was sent, so there is no nonce")
    again = sum(number - 1 for number in nonces.values())
    if again:
        raise AssertionError(f"{again} of {nonces.total()} signed requests came with a nonce that was sent before")


# --- Cassettes -----------------------------------------------------------------------------------


def vcr_options() -> dict[str, Any]:
    """For `vcr.VCR(**vcr_options())`, or pytest-recording's fixture `vcr_config`: cassettes without secrets.

    What libcurl sends, and so a `Session` itself, vcrpy does not see; this is for the adapters of `integrations`.
    A replayed request is found by method and path, since signatures and nonces differ each time.
    """
    return {
        "before_record_request": scrub_request,
        "before_record_response": scrub_response,
        "decode_compressed_response": True,  # before the scrubber, which finds no secret in compressed bytes
        "match_on": ["method", "scheme", "host", "port", "path"],
    }


def scrub_request(request: Any) -> Any:
    """vcrpy's request without signature, cookies, secrets in its query and its body."""
    for name in [name for name in request.headers if name.lower() in _SECRET_HEADERS]:
        request.headers[name] = HIDDEN
    request.uri = redact(request.uri, len(request.uri))
    if request.body is not None:
        request.body = _scrub_body(request.body)
    return request


def scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """vcrpy's response without cookies, tokens and secrets in its body."""
    headers = response["headers"]
    for name in [name for name in headers if name.lower() in _SECRET_HEADERS]:
        headers[name] = [HIDDEN]
    for name in [name for name in headers if name.lower() == "location"]:
        headers[name] = [redact(value, len(value)) for value in headers[name]]
    if response["body"].get("string"):
        response["body"]["string"] = _scrub_body(response["body"]["string"])
    return response


_SECRET_HEADERS = {"authorization", "cookie", "set-cookie", "proxy-authorization"}


def _scrub_body(body: Any) -> Any:
    """What is neither text nor bytes (a file, an iterator) is left out: it cannot be looked through unread."""
    if isinstance(body, str):
        return redact(body, len(body))
    if isinstance(body, (bytes, bytearray)):
        text = bytes(body).decode("utf-8", "surrogateescape")
        return redact(text, len(text)).encode("utf-8", "surrogateescape")
    return HIDDEN
