"""From the start of a process to the first answer of a signed call: import, keys, live session token, call.

Both programs are configured by their environment variables, and both talk to the sandbox, which stays up.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .table import Results

# The time up to the line counts. Then nothing is tidied up: the log-out that ibind makes at exit is no part of this.
OURS = """
import os
from ibkr_oauth import Session
print(Session.from_env().get("/portfolio/accounts").json()[0]["id"], flush=True)
os._exit(0)
"""
IBIND = """
import os
from ibind import IbkrClient
print(IbkrClient().portfolio_accounts().data[0]["id"], flush=True)
os._exit(0)
"""
PROGRAMS = {"ours": OURS, "ibind": IBIND}


@pytest.fixture(scope="module")
def environment(
    installed: dict[str, str], tmp_path_factory: pytest.TempPathFactory, smoke: bool, pytestconfig: pytest.Config
) -> Iterator[dict[str, str]]:
    """Of a client of a sandbox in a process of its own."""
    command = [sys.executable, "-m", "ibkr_oauth", "sandbox", "--ibind", "--json"]
    log = tmp_path_factory.mktemp("sandbox") / "requests.log"
    with log.open("w") as errors:
        sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert sandbox.stdout is not None
    line = sandbox.stdout.readline()
    assert line, log.read_text()
    # The brokerage session is none of this: by default only ibind would open it before the call.
    options = {"IBIND_INIT_BROKERAGE_SESSION": "False", "IBIND_LOG_TO_FILE": "False"}
    environment = {**installed, **json.loads(line)["environment"], **options}
    for program in () if smoke else PROGRAMS.values():
        first_answer(program, environment, pytestconfig.rootpath)  # writes the byte code
    yield environment
    sandbox.send_signal(signal.SIGTERM)
    sandbox.communicate()


def first_answer(program: str, environment: dict[str, str], folder: Path) -> float:
    """Seconds."""
    command = [sys.executable, "-c", program]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    assert re.fullmatch(r"D?U\d+", line.strip()), f"the answer is {line!r}"
    return seconds


@pytest.mark.contest("ours", "ibind")
def test_start(
    contestant: str, environment: dict[str, str], results: Results, smoke: bool, pytestconfig: pytest.Config
) -> None:
    seconds = first_answer(PROGRAMS[contestant], environment, pytestconfig.rootpath)
    if not smoke:
        results.add("start", contestant, seconds)
