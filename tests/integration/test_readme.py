"""The README's Python runs as it stands there."""

import builtins
import contextlib
import io
import re
from pathlib import Path

import pytest

import ibkr_oauth
from ibkr_oauth import OAuthClient
from ibkr_oauth.sandbox import Sandbox

from .conftest import register


def snippets(project: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (project / "README.md").read_text("utf-8"), re.DOTALL)


def run(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    return printed.getvalue()


def keys_into(folder: Path, pem: dict[str, str]) -> None:
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        (folder / f"{name}.pem").write_text(pem[key])
        (folder / f"{name}.pem").chmod(0o600)


def test_every_snippet_is_known(project: Path) -> None:
    assert len(snippets(project)) == 4


def test_first_screen(project: Path, pem: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing but the environment."""
    with Sandbox(tls=True) as sandbox:
        register(sandbox, pem, "ABCDEFGHI")
        token, secret = sandbox.grant("ABCDEFGHI")
        keys_into(tmp_path, pem)
        settings = {
            "CONSUMER_KEY": "ABCDEFGHI",
            "ACCESS_TOKEN": token,
            "ACCESS_TOKEN_SECRET": secret,
            "KEYS_DIR": str(tmp_path),
            "BASE_URL": sandbox.base_url,
            "CA_FILE": str(sandbox.ca_file),
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"IBKR_OAUTH_{name}", value)
        assert "DU" in run(snippets(project)[0])


def test_two_minutes(project: Path) -> None:
    printed = run(snippets(project)[1]).splitlines()
    assert "accountId" in printed[0]
    assert printed[-1] == "200"


def test_three_legs(project: Path, tmp_path: Path, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's files, the reader's user at the consent page; only the address is another one."""
    keys_into(tmp_path, pem)
    monkeypatch.chdir(tmp_path)
    with Sandbox(tls=True) as sandbox:
        register(sandbox, pem, "ABCDEFGHI")
        tokens: list[str] = []

        class Client(OAuthClient):
            def __init__(self, consumer: ibkr_oauth.Consumer) -> None:
                super().__init__(consumer, base_url=sandbox.base_url, ca_file=sandbox.ca_file)

            def request_token(self, callback: str = "oob") -> ibkr_oauth.RequestToken:
                token = super().request_token(callback)
                tokens.append(token.token)
                return token

        class Here(ibkr_oauth.Session):
            def __init__(self, consumer: ibkr_oauth.Consumer, access_token: ibkr_oauth.AccessToken) -> None:
                super().__init__(consumer, access_token, base_url=sandbox.base_url, ca_file=sandbox.ca_file)

        monkeypatch.setattr(ibkr_oauth, "OAuthClient", Client)
        monkeypatch.setattr(ibkr_oauth, "Session", Here)
        monkeypatch.setattr(builtins, "input", lambda prompt: sandbox.consent(tokens[0]))
        assert "accounts" in run(snippets(project)[2])
        assert all(request.status == 200 for request in sandbox.requests)


def test_errors_say_what_the_readme_says(project: Path) -> None:
    code = snippets(project)[3]
    printed = run("import ibkr_oauth\n" + code).splitlines()
    promised = re.findall(r"# (.*)", code)
    assert printed[0] == promised[0]
    assert printed[1].startswith(promised[1].removesuffix(" ..."))
