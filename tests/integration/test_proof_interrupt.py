"""Whatever a call waits for, it ends at once: by Ctrl-C, by cancelling its task, by closing the session. And fork."""

import asyncio
import json
import multiprocessing
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.proof_sandbox import PROGRAMS, SandboxProcess

from ibkr_oauth import AsyncSession, IBKROAuthError, Session, SessionClosed
from ibkr_oauth.clock import Clock
from ibkr_oauth.sandbox import Sandbox

_AT_ONCE = 0.1  # seconds
_TOKEN = "/oauth/live_session_token"
_PATH = "/portfolio/accounts"
_ROUNDS = 5
_SOON = 1.0  # seconds, where the stall lasts for 25 or more


@pytest.fixture
def options(reach: dict[str, Any]) -> dict[str, Any]:
    return {
        **reach,
        "keep_alive": None,
        "brokerage": "never",
        "pacing": None,
    }


# --- Ctrl-C --------------------------------------------------------------------------------------

_ARM: dict[str, Callable[[SandboxProcess], None]] = {
    "call": lambda sandbox: sandbox.do("delay", seconds=100, times=_ROUNDS, path=_PATH),
    "pacing": lambda sandbox: None,
    "pause": lambda sandbox: sandbox.do("rate_limit", per_second=0.001, retry_after=25, path=_PATH),
    "renewal": lambda sandbox: sandbox.do("delay", seconds=100, path=_TOKEN),
}


@pytest.mark.parametrize("stall", _ARM)
def test_ctrl_c_ends_what_the_main_thread_waits_for(far_sandbox: SandboxProcess, stall: str) -> None:
    _ARM[stall](far_sandbox)
    program = subprocess.Popen(
        [sys.executable, PROGRAMS, "interrupted", stall],
        env=far_sandbox.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    took: list[float] = []
    with program:
        for _ in range(_ROUNDS):
            program.stdin.write("again\n")
            program.stdin.flush()
            assert json.loads(program.stdout.readline()) == {"stalled": True}
            sent = time.monotonic()
            program.send_signal(signal.SIGINT)
            took.append(json.loads(program.stdout.readline())["at"] - sent)
        program.stdin.close()
    far_sandbox.do("rate_limit")  # lifted
    assert program.returncode == 0
    print(took)
    assert statistics.median(took) < _AT_ONCE  # another program may have the processor once


# --- Cancelling and closing ----------------------------------------------------------------------


class WatchedClock(Clock):
    """Tells when somebody has begun to wait."""

    def __init__(self) -> None:
        self.is_waited_for = threading.Event()

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        self.is_waited_for.set()
        super().sleep(seconds, closing)

    async def sleep_async(self, seconds: float) -> None:
        self.is_waited_for.set()
        await super().sleep_async(seconds)


class Stall:
    """What a call is made to wait for, for much longer than any test lasts."""

    def __init__(self, sandbox: Sandbox, kind: str) -> None:
        self.clock = WatchedClock()
        self.options: dict[str, Any] = {"clock": self.clock, "pacing": 0.01 if kind == "pacing" else None}
        self._sandbox = sandbox
        self._kind = kind

    def arm(self) -> None:
        """After one good call."""
        if self._kind == "call":
            self._sandbox.delay(100, path=_PATH)
        elif self._kind == "pause":
            self._sandbox.rate_limit(0.001, path=_PATH, retry_after=25)
            self._sandbox._limits.check(_PATH, self._sandbox._state.true_time())  # the one call that it admits
        elif self._kind == "renewal":
            self._sandbox.expire_token()
            self._sandbox.delay(100, path=_TOKEN)
        self._requests = len(self._sandbox.requests)

    def wait(self) -> None:
        """Until the call waits."""
        if self._kind in ("call", "renewal"):
            path = f"/v1/api{_PATH if self._kind == 'call' else _TOKEN}"
            self._sandbox.wait_until(lambda: path in [one.path for one in self._sandbox.requests[self._requests :]])
        else:
            assert self.clock.is_waited_for.wait(10)


@pytest.fixture(params=["call", "pacing", "pause", "renewal"])
def stall(request: pytest.FixtureRequest, sandbox: Sandbox, options: dict[str, Any]) -> Stall:
    made = Stall(sandbox, request.param)
    options |= made.options
    return made


def test_close_from_another_thread(sandbox: Sandbox, options: dict[str, Any], stall: Stall) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            session.get(_PATH)
        except IBKROAuthError as error:
            errors.append(error)

    session = Session(**options)
    session.get(_PATH)
    stall.arm()
    thread = threading.Thread(target=call)
    thread.start()
    stall.wait()
    sent = len(sandbox.requests)
    began = time.monotonic()
    session.close()
    thread.join(10)
    assert time.monotonic() - began < _SOON
    assert [type(error) for error in errors] == [SessionClosed]
    assert len(sandbox.requests) == sent, "something was sent after the session was closed"


def test_close_from_another_task(sandbox: Sandbox, options: dict[str, Any], stall: Stall) -> None:
    async def main() -> None:
        session = AsyncSession(**options)
        await session.get(_PATH)
        stall.arm()
        task = asyncio.create_task(session.get(_PATH))
        await asyncio.to_thread(stall.wait)
        sent = len(sandbox.requests)
        began = time.monotonic()
        await session.close()
        with pytest.raises(SessionClosed):
            await task
        assert time.monotonic() - began < _SOON
        assert len(sandbox.requests) == sent, "something was sent after the session was closed"

    asyncio.run(main())


def test_cancelled_task(options: dict[str, Any], stall: Stall) -> None:
    async def main() -> None:
        async with AsyncSession(**options) as session:
            await session.get(_PATH)
            stall.arm()
            task = asyncio.create_task(session.get(_PATH))
            await asyncio.to_thread(stall.wait)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < _SOON

    asyncio.run(main())


def test_cancelling_ends_the_connection_too(sandbox: Sandbox, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncSession(**options) as session:
            await session.get(_PATH)
            assert len(connections()) == 1
            stall = Stall(sandbox, "call")
            stall.arm()
            task = asyncio.create_task(session.get(_PATH))
            await asyncio.to_thread(stall.wait)
            task.cancel()
            async with asyncio.timeout(5):
                while connections():  # noqa: ASYNC110 - the sandbox lives on another thread
                    await asyncio.sleep(0.005)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await session.get(_PATH)).status_code == 200

    def connections() -> list[object]:
        assert sandbox._server is not None
        return list(sandbox._server.server_state.connections)

    asyncio.run(main())


def test_another_task_renews_in_place_of_a_cancelled_one(sandbox: Sandbox, options: dict[str, Any]) -> None:
    stall = Stall(sandbox, "renewal")

    async def main() -> None:
        async with AsyncSession(**options | stall.options) as session:
            await session.get(_PATH)
            stall.arm()
            first = asyncio.create_task(session.get(_PATH))
            await asyncio.to_thread(stall.wait)
            others = [asyncio.create_task(session.get(_PATH)) for _ in range(5)]
            await asyncio.to_thread(sandbox.wait_until, lambda: sandbox.counts[f"/v1/api{_PATH}"] == 2 + len(others))
            first.cancel()
            answers = await asyncio.gather(*others)
            assert {answer.status_code for answer in answers} == {200}

    asyncio.run(main())
    assert sandbox.counts[f"/v1/api{_TOKEN}"] == 3


# --- Other processes -----------------------------------------------------------------------------


def test_fork_during_traffic(far_sandbox: SandboxProcess) -> None:
    said, _ = far_sandbox.run("fork_during_traffic")
    assert said["statuses"] == [200]
    assert said["children"] == [0] * 5
    assert said["new_connections"] <= 4, "one for each thread: no fork cost the parent a connection"


@pytest.mark.parametrize("kind", [Session, AsyncSession])
def test_session_cannot_be_handed_to_a_spawned_process(kind: Callable[..., Any], options: dict[str, Any]) -> None:
    session = kind(**options)
    context = multiprocessing.get_context("spawn")
    with pytest.raises(TypeError, match="cannot be pickled, since it holds keys; make one in each process"):
        context.Process(target=print, args=(session,)).start()
