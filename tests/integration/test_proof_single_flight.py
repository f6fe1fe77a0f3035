"""However many threads or tasks find the token expired or the brokerage session gone, one of them mends it for all."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from support.proof_clock import SimulatedClock

from ibkr_oauth import AccessToken, AsyncSession, Consumer, Session
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY, register

_CROWDS = ("64 threads", "1000 tasks")
_SMALLER_CROWDS = ("64 threads", "200 tasks")
_DAY = 86_400.0
_TOKEN = "/oauth/live_session_token"
_INIT = "/iserver/auth/ssodh/init"

Options = dict[str, Any]


class Outcome(NamedTuple):
    statuses: set[int]
    renewals: int  # that were done when the last call was answered


#: Makes a good call, lets something happen, and then lets all make the same call at once.
Crowd = Callable[[str, Callable[[], object]], Outcome]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, pem: dict[str, str], clock: SimulatedClock) -> Iterator[Sandbox]:
    with Sandbox(tls=True, clock=clock.true_time, **getattr(request, "param", {})) as running:
        register(running, pem)
        yield running


@pytest.fixture
def access_token(sandbox: Sandbox) -> AccessToken:
    return AccessToken(*sandbox.grant(CONSUMER_KEY))


@pytest.fixture(params=_CROWDS)
def crowd(
    request: pytest.FixtureRequest,
    sandbox: Sandbox,
    consumer: Consumer,
    access_token: AccessToken,
    clock: SimulatedClock,
) -> Crowd:
    options: Options = {
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
        "clock": clock,
        "pacing": None,
        "keep_alive": None,
    }
    size, kind = request.param.split()
    run = {"threads": _in_threads, "tasks": _in_tasks}[kind]
    return lambda path, happening: run(int(size), consumer, access_token, options, path, happening)


def _in_threads(
    size: int,
    consumer: Consumer,
    access_token: AccessToken,
    options: Options,
    path: str,
    happening: Callable[[], object],
) -> Outcome:
    start = threading.Barrier(size)

    with Session(consumer, access_token, **options) as ibkr, ThreadPoolExecutor(size) as pool:

        def call(_: int) -> int:
            start.wait()
            return ibkr.get(path).status_code

        assert ibkr.get(path).status_code == 200
        happening()
        statuses = set(pool.map(call, range(size)))
        return Outcome(statuses, ibkr.health().counters.renewals)


def _in_tasks(
    size: int,
    consumer: Consumer,
    access_token: AccessToken,
    options: Options,
    path: str,
    happening: Callable[[], object],
) -> Outcome:
    async def main() -> Outcome:
        async with AsyncSession(consumer, access_token, **options) as ibkr:
            assert (await ibkr.get(path)).status_code == 200
            happening()
            answers = await asyncio.gather(*(ibkr.get(path) for _ in range(size)))
            return Outcome({answer.status_code for answer in answers}, ibkr.health().counters.renewals)

    return asyncio.run(main())


def _count(sandbox: Sandbox, path: str) -> int:
    return sandbox.counts.get(f"/v1/api{path}", 0)


def test_expired_token_is_renewed_once(crowd: Crowd, sandbox: Sandbox, clock: SimulatedClock) -> None:
    def happening() -> None:
        sandbox.delay(0.05, path=_TOKEN)  # all the others come while it is under way
        clock.advance(_DAY + 1)

    assert crowd("/portfolio/accounts", happening) == ({200}, 2)
    assert _count(sandbox, _TOKEN) == 2
    assert 401 not in {request.status for request in sandbox.requests}, "a token known to be expired was used"


def test_token_that_expired_by_the_servers_word_is_renewed_once(crowd: Crowd, sandbox: Sandbox) -> None:
    def happening() -> None:
        sandbox.delay(0.05, path=_TOKEN)
        sandbox.expire_token()

    assert crowd("/portfolio/accounts", happening) == ({200}, 2)
    assert _count(sandbox, _TOKEN) == 2


@pytest.mark.parametrize("crowd", _SMALLER_CROWDS, indirect=True)
def test_lost_brokerage_session_is_opened_once(crowd: Crowd, sandbox: Sandbox) -> None:
    def happening() -> None:
        sandbox.delay(0.05, path=_INIT)
        sandbox.end_brokerage()

    assert crowd("/iserver/accounts", happening) == ({200}, 1)
    assert _count(sandbox, _INIT) == 2
    assert _count(sandbox, _TOKEN) == 1


@pytest.mark.parametrize("crowd", _SMALLER_CROWDS, indirect=True)
def test_both_tiers_are_mended_once(crowd: Crowd, sandbox: Sandbox) -> None:
    def happening() -> None:
        for path in (_TOKEN, _INIT):
            sandbox.delay(0.05, path=path)
        sandbox.expire_token()
        sandbox.end_brokerage()

    assert crowd("/iserver/accounts", happening) == ({200}, 2)
    assert _count(sandbox, _TOKEN) == 2
    assert _count(sandbox, _INIT) == 2


@pytest.mark.parametrize("crowd", _SMALLER_CROWDS, indirect=True)
@pytest.mark.parametrize("sandbox", [{"keep_former_live_session_tokens": True}], indirect=True)
def test_token_that_expires_soon_is_renewed_once_and_nobody_waits_for_it(
    crowd: Crowd, sandbox: Sandbox, clock: SimulatedClock
) -> None:
    def happening() -> None:
        sandbox.delay(100, path=_TOKEN)  # closing ends it
        clock.advance(_DAY - 600)

    assert crowd("/portfolio/accounts", happening) == ({200}, 1)
    sandbox.wait_until(lambda: _count(sandbox, _TOKEN) >= 2)
    assert _count(sandbox, _TOKEN) == 2
