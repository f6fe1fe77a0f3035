"""`ibkr-oauth token`: the live session token that commands share, without showing it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ibkr_oauth import DHParameters, Session, config
from ibkr_oauth.cli import common
from ibkr_oauth.keygen import KeyFiles
from ibkr_oauth.sandbox import Sandbox

from .conftest import Run

LST = "/v1/api/oauth/live_session_token"


@pytest.fixture
def sandbox(key_files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The default profile is one of its consumers'."""
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Sandbox() as running:
        running.register(
            "ABCDEFGHI",
            key_files.public_signature.read_text(),
            key_files.public_encryption.read_text(),
            DHParameters.load(key_files.dh_params).pem(),
        )
        access_token, secret = running.grant("ABCDEFGHI")
        values = {
            "consumer_key": "ABCDEFGHI",
            "access_token": access_token,
            "access_token_secret": secret,
            "signing_key": str(key_files.private_signature),
            "encryption_key": str(key_files.private_encryption),
            "dh_params": str(key_files.dh_params),
            "base_url": running.base_url,
        }
        config.save_profile("paper", values)
        yield running


@pytest.fixture
def file(sandbox: Sandbox, tmp_path: Path) -> Path:
    return tmp_path / ".local/state/ibkr-oauth/tokens/paper.json"


def agreed(sandbox: Sandbox) -> int:
    return sum(request.path == LST for request in sandbox.requests)


def test_none_is_kept_yet(run: Run, sandbox: Sandbox, file: Path) -> None:
    result = run("token", "show")
    assert (result.exit_code, result.stdout) == (0, f"none is kept in {file}: the next call agrees on one\n")
    assert json.loads(run("token", "show", "--json").stdout) == {"file": str(file), "token": None}
    assert not sandbox.requests


def test_it_is_shown_without_itself(run: Run, sandbox: Sandbox, file: Path) -> None:
    with Session.from_profile("paper", keep_alive=None) as ibkr:
        ibkr.get("/portfolio/accounts")
        credential = ibkr._flow.credential
        assert credential is not None
        token = credential.token
    result = run("token", "show")
    assert result.exit_code == 0
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert {name: text.strip() for name, text in lines.items()} == {
        "consumer key": "ABCDEFGHI",
        "fingerprint": token.fingerprint,
        "expires": f"{token.expires_at:%Y-%m-%d %H:%M:%S} UTC, good for 24 h 0 min",
        "kept in": str(file),
    }
    document = json.loads(run("token", "show", "--json").stdout)
    assert document["token"]["fingerprint"] == token.fingerprint
    assert not document["token"]["expired"]
    assert 86_000 < document["token"]["remaining_seconds"] <= 86_400
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token.reveal() in file.read_text()
    for output in (result.output, json.dumps(document)):
        assert token.reveal() not in output


def test_refresh(run: Run, sandbox: Sandbox, file: Path) -> None:
    """One exchange each time, whatever was there."""
    first = json.loads(run("token", "refresh", "--json").stdout)
    assert agreed(sandbox) == 1
    result = run("token", "refresh")
    assert (result.exit_code, agreed(sandbox)) == (0, 2)
    second = json.loads(run("token", "show", "--json").stdout)
    assert second["token"]["fingerprint"] != first["token"]["fingerprint"]
    assert second["token"]["fingerprint"] in result.stdout
    with Session.from_profile("paper", keep_alive=None) as ibkr:
        assert ibkr.get("/portfolio/accounts").status_code == 200
    assert agreed(sandbox) == 2


def test_commands_share_it(sandbox: Sandbox, file: Path) -> None:
    """What each of them begins with."""
    for profile in (None, "paper"):
        context = click.Context(click.Command("get"))
        common.settings(context).profile = profile
        with common.open_session(context) as session:
            assert session.get("/portfolio/accounts").status_code == 200
            assert not session.health().keep_alive
        assert agreed(sandbox) == 1
        assert common.load_settings(context).origins["consumer_key"].startswith("profile paper in ")
    with common.open_session(context, store=None, timeout=3.0) as session:
        assert session._flow.timeout_ms == 3000
        session.open()
    assert agreed(sandbox) == 2


def test_an_expired_one_is_said_to_be(run: Run, sandbox: Sandbox, file: Path) -> None:
    run("token", "refresh")
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "expires_at": "2020-01-01T00:00:00+00:00"}))
    assert "expires       2020-01-01 00:00:00 UTC, expired" in run("token", "show").stdout
    shown = json.loads(run("token", "show", "--json").stdout)["token"]
    assert (shown["expired"], shown["remaining_seconds"]) == (True, 0)


def test_clear(run: Run, sandbox: Sandbox, file: Path) -> None:
    run("token", "refresh")
    assert run("token", "clear").stdout == f"removed {file}\n"
    assert not file.exists()
    assert run("token", "clear").stdout == f"there was no token in {file}\n"
    assert json.loads(run("token", "clear", "--json").stdout) == {"file": str(file), "cleared": False}


def test_that_of_other_credentials_is_not_shown(run: Run, sandbox: Sandbox, file: Path) -> None:
    run("token", "refresh")
    config.save_profile("paper", {"access_token": "ffff"})
    assert json.loads(run("token", "show", "--json").stdout)["token"] is None


def test_a_refusal_keeps_the_former_one(run: Run, sandbox: Sandbox, file: Path) -> None:
    run("token", "refresh")
    before = file.read_text()
    sandbox.deactivate_consumer("ABCDEFGHI")
    result = run("token", "refresh", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["error"]["code"] == "consumer_not_active"
    assert file.read_text() == before


def test_a_place_that_cannot_be_used(run: Run, sandbox: Sandbox, file: Path) -> None:
    file.mkdir(parents=True)
    for command in ("show", "clear"):
        result = run("token", command)
        assert result.exit_code == 10
        assert f"{file} could not be" in " ".join(result.stderr.split())


def test_missing_settings(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / ".config/ibkr-oauth/config.toml").unlink()
    result = run("token", "refresh")
    assert result.exit_code == 3
    assert "consumer key: missing" in result.stderr
    assert "ibkr-oauth init" in result.stderr
    result = run("token", "show", "--json")
    assert (result.exit_code, json.loads(result.stdout)["token"]) == (0, None)
