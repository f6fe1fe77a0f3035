"""The published `ibind` package, unmodified and configured only by its environment variables, against the sandbox."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import DHParameters
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY, register

PROGRAM = """
import ibind
client = ibind.IbkrClient()
print([account["id"] for account in client.portfolio_accounts().data])
print(client.initialize_brokerage_session().data["authenticated"])
print(len(client.receive_brokerage_accounts().data["accounts"]) > 0)
client.close()
"""


def ibind_environment(sandbox: Sandbox, pem: dict[str, str], folder: Path) -> dict[str, str]:
    token, secret = sandbox.grant(CONSUMER_KEY)
    for name in ("signing", "encryption"):
        (folder / f"{name}.pem").write_text(pem[name])
    return {
        "IBIND_USE_OAUTH": "True",
        "IBIND_OAUTH1A_REST_URL": f"{sandbox.base_url}/",
        "IBIND_OAUTH1A_ACCESS_TOKEN": token,
        "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET": secret,
        "IBIND_OAUTH1A_CONSUMER_KEY": CONSUMER_KEY,
        "IBIND_OAUTH1A_DH_PRIME": f"{DHParameters.load(pem['dh_params']).prime:x}",
        "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": str(folder / "encryption.pem"),
        "IBIND_OAUTH1A_SIGNATURE_KEY_FP": str(folder / "signing.pem"),
        "IBIND_LOG_TO_FILE": "False",
    }


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_ibind_logs_in_and_reads_accounts(pem: dict[str, str], tmp_path: Path, tls: bool) -> None:
    with Sandbox(tls=tls) as sandbox:
        register(sandbox, pem)
        environment = ibind_environment(sandbox, pem, tmp_path)
        if sandbox.ca_file:
            environment["REQUESTS_CA_BUNDLE"] = str(sandbox.ca_file)
        done = run(environment)
        assert done.returncode == 0, done.stdout
        assert "True" in done.stdout
        seen = [(request.method, request.path, request.status) for request in sandbox.requests]
        assert ("POST", "/v1/api/oauth/live_session_token", 200) in seen
        assert ("GET", "/v1/api/portfolio/accounts", 200) in seen
        assert ("GET", "/v1/api/iserver/accounts", 200) in seen
        assert all(status == 200 for _, _, status in seen), seen
        assert {request.headers["host"] for request in sandbox.requests} == {"api.ibkr.com"}


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def test_a_wrong_prime_is_refused(pem: dict[str, str], vectors: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise the test above could pass against a server that verifies nothing."""
    with Sandbox() as sandbox:
        register(sandbox, pem)
        environment = ibind_environment(sandbox, pem, tmp_path)
        environment["IBIND_OAUTH1A_DH_PRIME"] = vectors["dh_groups"]["modp2048"]["prime_hex"]
        assert run(environment).returncode != 0
        assert not any(request.path.endswith("/portfolio/accounts") for request in sandbox.requests)
