"""Ctrl-C while C code runs without the GIL. Each test has a process of its own, since the signal goes to all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ibkr_oauth

PRELUDE = """
import json, os, signal, socket, threading, time
from ibkr_oauth import _core

signal.signal(signal.SIGINT, signal.default_int_handler)
fired = []

def fire(to):
    time.sleep(0.2)
    fired.append(time.perf_counter())
    if to == "process":
        os.kill(os.getpid(), signal.SIGINT)
    else:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

def interrupted(call, to):
    thread = threading.Thread(target=fire, args=[to], daemon=True)
    thread.start()
    try:
        call()
    except KeyboardInterrupt as error:
        now = time.perf_counter()
        print(json.dumps({"ms": (now - fired[0]) * 1000, "context": repr(error.__context__)}))
    else:
        print(json.dumps({"ms": None}))
    thread.join()
"""

SEND = """
listener = socket.create_server(("127.0.0.1", 0))
client = _core.HttpClient(user_agent="test")
url = f"http://127.0.0.1:{{listener.getsockname()[1]}}/"
interrupted(lambda: client.send("POST", url, [], b"{{}}", False, 10_000), {to!r})
"""

GENERATE = """
interrupted(lambda: _core.DHParameters.generate(4096{progress}), {to!r})
"""


def run(code: str) -> dict:
    package = Path(ibkr_oauth.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize("to", ["process", "thread"])
def test_send_ends_within_100_ms(to):
    result = run(SEND.format(to=to))
    assert result["ms"] is not None
    assert result["ms"] < 100
    assert result["context"] == "None"


@pytest.mark.parametrize("progress", ["", ", time.perf_counter"], ids=["alone", "with progress"])
def test_search_for_primes_ends(progress):
    result = run(GENERATE.format(to="process", progress=progress))
    assert result["ms"] is not None
    assert result["ms"] < 2000
