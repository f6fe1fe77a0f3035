"""The published `ibind` package, unmodified and configured only by its environment variables, against the sandbox."""

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import AsyncSession, DHParameters, Session, config
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY, register

#: What a client needs to know of ibind's variables: the rest is about ibind itself, or the same for everybody.
NOT_OURS = {"IBIND_OAUTH1A_WS_URL", "IBIND_OAUTH1A_LIVE_SESSION_TOKEN_ENDPOINT"}

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
        (folder / f"{name}.pem").chmod(0o600)  # as openssl leaves it
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


# --- The same environment, with us ----------------------------------------------------------------


@pytest.fixture
def as_for_ibind(pem: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Nothing in the environment but what ibind reads."""
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_")):
            monkeypatch.delenv(name)
    with Sandbox() as sandbox:
        register(sandbox, pem)
        for name, value in ibind_environment(sandbox, pem, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield sandbox


def both_tiers(sandbox: Sandbox) -> None:
    with Session.from_env(keep_alive=None) as ibkr:
        assert ibkr.base_url == sandbox.base_url
        assert ibkr.get("/portfolio/accounts").raise_for_status().json()
        assert ibkr.get("/iserver/accounts").raise_for_status().json()["accounts"]


def test_a_session(as_for_ibind: Sandbox) -> None:
    both_tiers(as_for_ibind)


async def read_accounts() -> int:
    async with AsyncSession.from_env(keep_alive=None) as ibkr:
        return (await ibkr.get("/portfolio/accounts")).status_code


@pytest.mark.usefixtures("as_for_ibind")
def test_an_async_session() -> None:
    assert asyncio.run(read_accounts()) == 200


def test_keys_as_text(as_for_ibind: Sandbox, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which ibind prefers to the files; that the two disagree is said."""
    for name, other in (("SIGNATURE", "encryption"), ("ENCRYPTION", "signing")):
        path = Path(os.environ[f"IBIND_OAUTH1A_{name}_KEY_FP"])
        path.write_text(pem[other])
        key = "signing" if name == "SIGNATURE" else "encryption"
        monkeypatch.setenv(f"IBIND_OAUTH1A_{name}_KEY", pem[key])
    both_tiers(as_for_ibind)
    assert [conflict.name for conflict in config.from_env().conflicts] == ["signing_key", "encryption_key"]


def test_all_its_settings(
    as_for_ibind: Sandbox, pem: dict[str, str], vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBIND_OAUTH1A_REALM", "limited_poa")
    monkeypatch.setenv("IBIND_OAUTH1A_DH_GENERATOR", "2")
    monkeypatch.setenv("IBIND_OAUTH1A_DH_PRIME", vectors["dh_groups"]["ffdhe2048"]["prime_hex"])
    both_tiers(as_for_ibind)


def test_no_variable_of_its_is_forgotten() -> None:
    """What the installed ibind reads of OAuth, we read too, or know why not."""
    spec = importlib.util.find_spec("ibind")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("var.py").read_text("utf-8")
    theirs = set(re.findall(r"['\"](IBIND_OAUTH1A_\w+)['\"]", source))
    assert len(theirs) > 10
    ours = {name for setting in config._SETTINGS for name in setting.variables} | {config._DH_GENERATOR}
    assert theirs - ours == NOT_OURS
