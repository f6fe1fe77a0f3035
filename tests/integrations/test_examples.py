"""The examples about adapters and web sockets run as they are, with settings from the environment."""

import runpy
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("adapters_requests", "DU7028233 3 positions"),
        ("adapters_httpx", "Client: ['DU7028233']\nAsyncClient: ['DU7028233']"),
        ("adapters_aiohttp", "DU7028233 3 positions"),
        ("web_socket", "AAPL "),
        ("web_socket_client", "system\n"),
    ],
)
def test_example(
    name: str,
    output: str,
    project: Path,
    sandbox: Sandbox,
    pem: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    access_token, secret = sandbox.grant(CONSUMER_KEY)
    for variable, value in {
        "CONSUMER_KEY": CONSUMER_KEY,
        "ACCESS_TOKEN": access_token,
        "ACCESS_TOKEN_SECRET": secret,
        "BASE_URL": sandbox.base_url,
        "CA_FILE": str(sandbox.ca_file),
        "KEYS_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"IBKR_OAUTH_{variable}", value)
    for file, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        (tmp_path / f"{file}.pem").write_text(pem[key])
        (tmp_path / f"{file}.pem").chmod(0o600)
    runpy.run_path(str(project / "examples" / f"{name}.py"), run_name="__main__")
    assert output in capsys.readouterr().out
