"""The sandbox as another process, for proofs in which this one is blocked."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ibkr_oauth

PROGRAMS = Path(__file__).with_name("proof_programs.py")


class SandboxProcess:
    """`ibkr-oauth sandbox`, with keys from the vectors. `environment`: what programs need for `Session.from_env`."""

    def __init__(self, pem: dict[str, str], keys: Path) -> None:
        keys.mkdir(mode=0o700)
        for name, text in (
            ("private_signature.pem", pem["signing"]),
            ("private_encryption.pem", pem["encryption"]),
            ("dhparam.pem", pem["dh_params"]),
        ):
            (keys / name).write_text(text)
            (keys / name).chmod(0o600)
        environment = {**os.environ, "PYTHONPATH": str(Path(ibkr_oauth.__file__).parents[1])}
        options = ["--json", "--quiet", "--until-eof", "--keys", str(keys)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ibkr_oauth", "sandbox", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.settings: dict[str, str] = said["environment"]
        self.environment = environment | self.settings
        self._control: str = said["control_url"]
        self._context = ssl.create_default_context(cafile=said["ca_file"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def count(self, path: str) -> int:
        """How many requests there were of a path below `/v1/api`."""
        with urllib.request.urlopen(f"{self._control}/counts", context=self._context) as answer:
            counts: dict[str, int] = json.loads(answer.read())
        return counts.get(f"/v1/api{path}", 0)

    def do(self, verb: str, **arguments: Any) -> None:
        """A verb of `Sandbox`."""
        request = urllib.request.Request(
            f"{self._control}/{verb}", json.dumps(arguments).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, context=self._context).close()

    def run(self, program: str) -> list[dict[str, Any]]:
        """Runs a program of `proof_programs` to its end; what it said, and then when it ended (monotonic seconds)."""
        done = subprocess.run(
            [sys.executable, "-W", "error", PROGRAMS, program],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        ended = time.monotonic()
        assert (done.returncode, done.stderr) == (0, "")
        return [*map(json.loads, done.stdout.splitlines()), {"ended": ended}]
