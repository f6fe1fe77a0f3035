"""The keep-alive beats in C: while Python holds the GIL or blocks its loop, as long as the session lives, no longer."""

import asyncio
import ctypes
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from support.proof_sandbox import SandboxProcess

from ibkr_oauth import AsyncSession, CompetingSession, Event, Session
from ibkr_oauth.sandbox import Sandbox

_TICKLE = "/tickle"

_HOLD = """
#include <time.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

void hold(double seconds)
{
    double end = now() + seconds;
    while (now() < end) {
    }
}
"""


@pytest.fixture
def options(reach: dict[str, Any]) -> dict[str, Any]:
    return {
        **reach,
        "keep_alive": 0.05,
    }


def _count(sandbox: Sandbox, path: str = _TICKLE) -> int:
    return sandbox.counts.get(f"/v1/api{path}", 0)


# --- While Python is busy ------------------------------------------------------------------------


@pytest.fixture
def hold(tmp_path: Path) -> Callable[[float], None]:
    """Holds the GIL for so many seconds."""
    source, library = tmp_path / "hold.c", tmp_path / "hold.so"
    source.write_text(_HOLD)
    compiler = sysconfig.get_config_var("CC").split()[0]
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    function = ctypes.PyDLL(str(library)).hold
    function.argtypes, function.restype = [ctypes.c_double], None
    return cast("Callable[[float], None]", function)


def test_ten_seconds_without_the_gil(
    far_sandbox: SandboxProcess, hold: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in far_sandbox.settings.items():
        monkeypatch.setenv(name, value)
    steps = 0
    end = threading.Event()

    def count_steps() -> None:
        nonlocal steps
        while not end.wait(0.01):
            steps += 1

    other = threading.Thread(target=count_steps)
    with Session.from_env(keep_alive=1.0) as ibkr:
        assert ibkr.get("/portfolio/accounts").status_code == 200
        other.start()
        before, steps_before = far_sandbox.count(_TICKLE), steps
        hold(10.0)
        steps_after, after = steps, far_sandbox.count(_TICKLE)
    end.set()
    other.join()
    assert steps_after - steps_before <= 2, "another thread of Python ran: the GIL was not held"
    assert after - before >= 9


def test_blocked_event_loop(sandbox: Sandbox, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncSession(**options) as ibkr:
            await ibkr.get("/portfolio/accounts")
            before = _count(sandbox)
            sandbox.wait_until(lambda: _count(sandbox) >= before + 5)  # a notebook's cell that awaits nothing
            assert ibkr.health().counters.tickles == 0, "the loop was not blocked"
            await asyncio.to_thread(sandbox.wait_until, lambda: _count(sandbox) >= before + 7)
            assert ibkr.health().counters.tickles > 0
            assert ibkr.health().keep_alive

    asyncio.run(main())


# --- What it hears -------------------------------------------------------------------------------


class Story:
    """Events as they come."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.kinds.append(event.kind)
            self._changed.notify_all()

    def wait_for(self, *kinds: str) -> None:
        """Until the story ends so."""
        with self._changed:
            assert self._changed.wait_for(lambda: tuple(self.kinds[-len(kinds) :]) == kinds, 10), self.kinds


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def ibkr(options: dict[str, Any], story: Story) -> Iterator[Session]:
    """Trading, and then nobody calls any more."""
    with Session(**options, on_event=story) as session:
        assert session.get("/iserver/accounts").status_code == 200
        yield session


def test_lost_brokerage_session(sandbox: Sandbox, ibkr: Session, story: Story) -> None:
    sandbox.end_brokerage()
    story.wait_for("brokerage_lost", "brokerage_opened")
    assert ibkr.health().brokerage == "open"
    sandbox.lose_session()
    story.wait_for("brokerage_opened", "brokerage_lost", "brokerage_opened")


def test_competing_session(sandbox: Sandbox, ibkr: Session, story: Story) -> None:
    sandbox.compete_from("TWS")
    story.wait_for("competing")
    assert ibkr.health().brokerage == "competing"
    assert sandbox.brokerage_holder() == "TWS"
    sent = _count(sandbox, "/iserver/accounts")
    with pytest.raises(CompetingSession):
        ibkr.get("/iserver/accounts")
    assert _count(sandbox, "/iserver/accounts") == sent


def test_token_that_expires_while_nobody_calls(sandbox: Sandbox, ibkr: Session, story: Story) -> None:
    sandbox.expire_token()
    story.wait_for("tickle_failed", "renewed", "tickle_recovered")
    assert ibkr.health().counters.renewals == 2
    assert _count(sandbox, "/oauth/live_session_token") == 2


def test_service_that_is_down_for_a_while(sandbox: Sandbox, ibkr: Session, story: Story) -> None:
    sandbox.maintenance()
    story.wait_for("tickle_failed")
    sandbox.wait_until(lambda: [one.status for one in sandbox.requests[-3:]] == [503, 503, 503])
    sandbox.maintenance(False)
    story.wait_for("tickle_recovered", "brokerage_lost", "brokerage_opened")
    assert story.kinds.count("tickle_failed") == 1


def test_events_and_states_of_an_async_session(sandbox: Sandbox, options: dict[str, Any], story: Story) -> None:
    async def wait_for(*kinds: str) -> None:
        await asyncio.to_thread(story.wait_for, *kinds)

    async def main() -> None:
        async with AsyncSession(**options, on_event=story) as ibkr:
            assert (await ibkr.get("/iserver/accounts")).status_code == 200
            sandbox.expire_token()
            await wait_for("tickle_failed", "renewed", "tickle_recovered")
            sandbox.end_brokerage()
            await wait_for("brokerage_lost", "brokerage_opened")
            sandbox.compete_from("TWS")
            await wait_for("competing")
            assert ibkr.health().brokerage == "competing"

    asyncio.run(main())


# --- How it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["keep_alive_ends", "async_keep_alive_ends"])
def test_ends_with_the_session(far_sandbox: SandboxProcess, program: str) -> None:
    closed, dropped, _ = far_sandbox.run(program)
    assert closed == {"running": 1, "kept": False, "after_close": 0}
    assert dropped == {"running": 1, "collected": True, "after_collection": 0}


@pytest.mark.parametrize("program", ["exit_without_close", "async_exit_without_close"])
def test_keeps_nobody_from_exiting(far_sandbox: SandboxProcess, program: str) -> None:
    said, end = far_sandbox.run(program)
    assert said["running"] == 1
    assert end["ended"] - said["at"] < 3


def test_nothing_of_it_in_a_forked_child(far_sandbox: SandboxProcess) -> None:
    child, parent, _ = far_sandbox.run("fork_while_kept_alive")
    assert child == {"who": "child", "engine_threads": 0, "threads": 1, "kept": False, "more_tickles": False}
    assert parent == {"who": "parent", "engine_threads": 1, "kept": True, "child": 0}
