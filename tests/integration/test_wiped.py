"""What the core wipes is gone from a Python program too: the memory of one is searched by another, before and after the release.

`tests/c/test_wiped.c` does this for each function of the core. Here it is a whole session, of a program that was given paths.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ibkr_oauth.sandbox import Sandbox

from .test_examples import settings_for

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of another process as Linux shows it"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers keep freed memory"),
]

PROGRAM = """
import gc, sys
from ibkr_oauth import Session
{before}
ibkr = Session.from_env(pacing=None)
assert ibkr.get("/portfolio/accounts").status_code == 200
print("open", flush=True)
sys.stdin.readline()
ibkr.refresh()
assert ibkr.get("/portfolio/accounts").status_code == 200
print("renewed", flush=True)
sys.stdin.readline()
ibkr.close()
del ibkr
gc.collect()
print("closed", flush=True)
sys.stdin.readline()
"""
LARGEST = 1 << 30  # bytes; nothing of this program is as large


def memory(pid: int) -> Iterator[bytes]:
    """All that a process may write to, region by region."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            (start, end), flags = (int(part, 16) for part in line.split()[0].split("-")), line.split()[1]
            if "w" in flags and end - start < LARGEST:
                file.seek(start)
                yield file.read(end - start)


def windows(secret: bytes) -> set[bytes]:
    """Parts of a copy are found as well."""
    middle = len(secret) // 2
    return {secret[:8], secret[middle : middle + 8], secret[-8:]}


def numbers_of(pem: str) -> dict[str, bytes]:
    key = load_pem_private_key(pem.encode(), None).private_numbers()
    private = {"d": key.d, "p": key.p, "q": key.q, "dmp1": key.dmp1, "dmq1": key.dmq1, "iqmp": key.iqmp}
    made = {}
    for name, number in private.items():
        size = (number.bit_length() + 7) // 8
        made[name] = number.to_bytes(size, "big")
        made[f"{name}, as OpenSSL holds it"] = number.to_bytes(size, "little")
    return made


@pytest.fixture
def environment(sandbox: Sandbox, pem: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {**os.environ, **settings_for(sandbox, pem, tmp_path)}


class Watched:
    """The program, and the secrets that it has had by now: by name, the parts that are looked for."""

    def __init__(self, environment: dict[str, str], before: str = "") -> None:
        program = PROGRAM.format(before=before)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{word}\n"

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def found(self, secrets: dict[str, bytes]) -> set[str]:
        regions = list(memory(self._process.pid))
        assert sum(map(len, regions)) > 1 << 20
        return {
            name
            for name, secret in secrets.items()
            if any(part in region for part in windows(secret) for region in regions)
        }


def secrets_of(sandbox: Sandbox, pem: dict[str, str]) -> dict[str, bytes]:
    (granted,) = sandbox._state.access_tokens.values()
    made = {"access token secret": granted.secret, "the same in hex": granted.secret.hex().encode()}
    for which in ("signing", "encryption"):
        made |= {f"{which} key: {name}": number for name, number in numbers_of(pem[which]).items()}
        made[f"{which} key: text"] = pem[which].splitlines()[5].encode()
    (live,) = granted.live_session_tokens
    for order in ("big", "little"):
        made[f"{order}-endian shared secret {live.expires_at}"] = live.shared_secret.to_bytes(256, order)
    made[f"live session token {live.expires_at}"] = live.value
    return made


def test_a_session_leaves_no_secret_in_the_memory_of_its_program(
    sandbox: Sandbox, pem: dict[str, str], environment: dict[str, str]
) -> None:
    with Watched(environment) as program:
        program.wait_for("open")
        secrets = secrets_of(sandbox, pem)
        seen = program.found(secrets)
        assert "signing key: d, as OpenSSL holds it" in seen, "the search finds what is there"
        assert "encryption key: p, as OpenSSL holds it" in seen
        program.go_on()
        program.wait_for("renewed")
        former = secrets.keys()
        secrets = secrets_of(sandbox, pem) | secrets
        assert len(secrets.keys() - former) == 3, "another token"
        program.go_on()
        program.wait_for("closed")
        assert program.found(secrets) == set()


def test_what_is_given_as_text_is_found(sandbox: Sandbox, pem: dict[str, str], environment: dict[str, str]) -> None:
    """So the search sees Python's own memory, and the advice to give a path is worth something."""
    path = Path(environment["IBKR_OAUTH_KEYS_DIR"]) / "private_signature.pem"
    with Watched(environment, f"text = open({str(path)!r}).read()") as program:
        for word in ("open", "renewed"):
            program.wait_for(word)
            program.go_on()
        program.wait_for("closed")
        assert program.found({"text": pem["signing"].splitlines()[5].encode()}) == {"text"}
