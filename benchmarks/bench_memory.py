"""What a process of one client holds in memory, and how long it takes to its first answer with a live session token at hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .known import Known
from .native import Server
from .table import Results

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by Linux only")

CALLS = 1000
CLIENTS = 100

#: All but the bare ones sign: ibind's client as it does, the others with the lightest signing that fits.
PEERS = (
    "ours",
    "bare Python",
    "async: ours",
    "bare pycurl",
    "oauthlib's signing, pycurl",
    "oauthlib's signing, curl_cffi",
    "requests-oauthlib",
    "authlib, requests",
    "oauthlib's signing, httpx",
    "async: oauthlib's signing, aiohttp",
    "ibind's client",
)


#: Client, calls, clients: seconds from the start of a process to its first answer, and what it says of its memory.
Run = Callable[[str, int, int], tuple[float, dict[str, float]]]


@pytest.fixture
def run(known: Known, server: Server, installed: dict[str, str]) -> Run:
    where = (str(known.folder), server.base_url, str(server.ca_file))

    def run(name: str, calls: int, clients: int) -> tuple[float, dict[str, float]]:
        command = [sys.executable, "-m", "benchmarks.process", name, *where, str(calls), str(clients)]
        start = time.perf_counter()
        folder = Path(__file__).parents[1]
        with subprocess.Popen(command, cwd=folder, env=installed, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "answered\n"
            seconds = time.perf_counter() - start
            memory = json.loads(process.stdout.read())
        assert process.returncode == 0
        return seconds, memory

    return run


@pytest.mark.contest(*PEERS, turns=3)
def test_process(contestant: str, run: Run, results: Results, smoke: bool) -> None:
    calls, clients = (1, 2) if smoke else (CALLS, CLIENTS)
    seconds, memory = run(contestant, calls, clients)
    if not smoke:
        results.add("first call", contestant, seconds)
        for what, size in memory.items():
            results.add(what, contestant, size)


@pytest.mark.contest("10", "100", "1000", turns=3)
def test_sessions(contestant: str, run: Run, results: Results, smoke: bool) -> None:
    """So many sessions, each of which has made a call."""
    count = 2 if smoke else int(contestant)
    _, memory = run("ours", 10, count)
    if not smoke:
        results.add("sessions in memory", contestant, memory["memory of one more client"])
