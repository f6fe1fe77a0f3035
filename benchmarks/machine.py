"""On what, when and with which versions the figures of one run were measured."""

from __future__ import annotations

import os
import platform
import ssl
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import curl_cffi
import pycurl

from ibkr_oauth import _core

PACKAGES = (
    "ibkr_oauth",
    "aiohttp",
    "authlib",
    "cryptography",
    "curl_cffi",
    "httpx",
    "ibind",
    "oauthlib",
    "pycryptodome",
    "pycurl",
    "requests",
    "requests-oauthlib",
)


def describe() -> dict[str, Any]:
    ours = _core.versions()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "system": _system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": [round(figure, 2) for figure in os.getloadavg()],
        "libraries": {
            "ibkr_oauth": f"{ours['openssl']}, {ours['libcurl']}",
            "Python's ssl (requests, httpx, aiohttp)": ssl.OPENSSL_VERSION,
            "pycurl": " ".join(pycurl.version.split()[1:3]),
            "curl_cffi": " ".join(curl_cffi.Curl().version().decode().split()[:2]),
        },
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.partition(": ")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}, {platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def lines(machine: dict[str, Any]) -> list[str]:
    """For the terminal."""
    load = ", ".join(f"{figure:.2f}" for figure in machine["load"])
    return [
        f"{machine['date']}, {machine['processor']}, {machine['processors']} CPUs, load {load} at the start",
        f"{machine['system']}; {machine['python']}",
        "; ".join(f"{who}: {what}" for who, what in machine["libraries"].items()),
        ", ".join(f"{name} {found}" for name, found in machine["packages"].items()),
    ]
