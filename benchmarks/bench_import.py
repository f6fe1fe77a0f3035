"""What it takes to import the packages, in a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .table import Results

MODULES = {
    "ours": "ibkr_oauth",
    "ibind": "ibind",
    "requests-oauthlib": "requests_oauthlib",
    "authlib, requests": "authlib.integrations.requests_client",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "pycurl": "pycurl",
    "curl_cffi": "curl_cffi.requests",
}
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


@pytest.fixture(scope="module")
def compiled(installed: dict[str, str], smoke: bool) -> dict[str, str]:
    for module in () if smoke else MODULES.values():
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=installed)
    return installed


@pytest.mark.contest(*MODULES)
def test_import(contestant: str, compiled: dict[str, str], results: Results, smoke: bool) -> None:
    command = [sys.executable, "-c", TIMED.format(MODULES[contestant])]
    seconds = float(subprocess.run(command, check=True, env=compiled, stdout=subprocess.PIPE, text=True).stdout)
    if not smoke:
        results.add("import", contestant, seconds)
