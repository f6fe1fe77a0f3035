"""Processes of one profile share a live session token: one of them agrees on it, the others find it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from support.proof_sandbox import SandboxProcess

from ibkr_oauth import config

LST = "/oauth/live_session_token"

#: Calls each time that it is told to; says the status and how many tokens it has agreed on itself.
PROGRAM = """
import asyncio, json, sys
from ibkr_oauth import AsyncSession, Session

def say(response, ibkr):
    token = ibkr._flow.credential.token
    print(json.dumps({
        "status": response.status_code, "agreed": ibkr.health().counters.renewals, "token": token.fingerprint
    }), flush=True)

def threads():
    with Session.from_profile("shared", keep_alive=None, pacing=None) as ibkr:
        print("ready", flush=True)
        for _ in sys.stdin:
            say(ibkr.get("/portfolio/accounts"), ibkr)

async def tasks():
    async with AsyncSession.from_profile("shared", keep_alive=None, pacing=None) as ibkr:
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            say(await ibkr.get("/portfolio/accounts"), ibkr)

asyncio.run(tasks()) if sys.argv[1] == "async" else threads()
"""


class Program:
    def __init__(self, kind: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate(timeout=20)
        assert self.process.returncode == 0

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("call\n")

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended"
        said: dict[str, Any] = json.loads(line)
        return said


@pytest.fixture
def environment(far_sandbox: SandboxProcess, tmp_path: Path) -> dict[str, str]:
    """With nothing but a profile, and nothing in it that is not."""
    settings = far_sandbox.settings
    environment = {
        name: value
        for name, value in far_sandbox.environment.items()
        if not name.startswith(("IBKR_", "IBIND_", "XDG_"))
    } | {"HOME": str(tmp_path)}
    names = {name: f"IBKR_OAUTH_{name.upper()}" for name in config.NAMES}
    values = {name: settings[variable] for name, variable in names.items() if variable in settings}
    config.save_profile("shared", values, environment=environment)
    return environment


@pytest.fixture
def programs(environment: dict[str, str]) -> Iterator[list[Program]]:
    with ExitStack() as cleanup:
        yield [cleanup.enter_context(Program(kind, environment)) for kind in ("sync", "async", "sync")]


def all_call(programs: list[Program]) -> list[dict[str, Any]]:
    for program in programs:
        program.tell()
    said = [program.hear() for program in programs]
    assert {one["status"] for one in said} == {200}
    assert len({one["token"] for one in said}) == 1
    return said


def test_they_agree_on_one_token(far_sandbox: SandboxProcess, programs: list[Program]) -> None:
    """At the start, and again after it is refused."""
    before = far_sandbox.count(LST)
    said = all_call(programs)
    assert far_sandbox.count(LST) - before == 1
    assert sum(one["agreed"] for one in said) == 1
    for times in range(2, 6):
        far_sandbox.do("expire_token")
        again = all_call(programs)
        assert again[0]["token"] != said[0]["token"]
        assert far_sandbox.count(LST) - before == times
        assert sum(one["agreed"] for one in again) == times
        said = again


def test_the_next_run_goes_on_with_it(far_sandbox: SandboxProcess, environment: dict[str, str]) -> None:
    with Program("sync", environment) as program:
        (first,) = all_call([program])
    before = far_sandbox.count(LST)
    with Program("async", environment) as program:
        (second,) = all_call([program])
    assert second["token"] == first["token"]
    assert far_sandbox.count(LST) == before


def test_one_that_is_killed_while_it_agrees_keeps_nobody_waiting(
    far_sandbox: SandboxProcess, environment: dict[str, str]
) -> None:
    """The system takes its lock back."""
    before = far_sandbox.count(LST)
    far_sandbox.do("delay", seconds=30.0, path=LST)
    with Program("sync", environment) as survivor:
        killed = Program("sync", environment)
        killed.tell()
        while far_sandbox.count(LST) == before:
            time.sleep(0.01)
        survivor.tell()
        time.sleep(0.2)  # it waits for the lock
        assert far_sandbox.count(LST) - before == 1
        killed.process.kill()
        killed.process.communicate()
        assert survivor.hear()["agreed"] == 1
    assert far_sandbox.count(LST) - before == 2
