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


def test_every_snippet_is_known(project: Path) -> None:
    assert len(snippets(project)) == 3


def test_two_minutes(project: Path) -> None:
    assert "accountId" in run(snippets(project)[0])


def test_three_legs(project: Path, tmp_path: Path, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's files, the reader's user at the consent page; only the address is another one."""
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        (tmp_path / f"{name}.pem").write_text(pem[key])
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

        monkeypatch.setattr(ibkr_oauth, "OAuthClient", Client)
        monkeypatch.setattr(builtins, "input", lambda prompt: sandbox.consent(tokens[0]))
        assert "accounts" in run(snippets(project)[1])
        assert all(request.status == 200 for request in sandbox.requests)


def test_errors_say_what_the_readme_says(project: Path) -> None:
    code = snippets(project)[2]
    printed = run("import ibkr_oauth\n" + code).splitlines()
    promised = re.findall(r"# (.*)", code)
    assert printed[0] == promised[0]
    assert printed[1].startswith(promised[1].removesuffix(" ..."))
