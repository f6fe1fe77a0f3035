"""`ibkr-oauth config`: each setting with its source, and no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ibkr_oauth import config
from ibkr_oauth.keygen import KeyFiles

from .conftest import Run

SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of somebody who has set nothing yet."""
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def paper(key_files: KeyFiles) -> str:
    """A profile; the path of its file."""
    values = {
        "consumer_key": "ABCDEFGHI",
        "access_token": "a1b2c3d4e5f60718293a",
        "access_token_secret": SECRET,
        "signing_key": str(key_files.private_signature),
    }
    return config.save_profile("paper", values)


def test_show(run: Run, paper: str, key_files: KeyFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_REALM", "test_realm")
    monkeypatch.setenv("IBIND_OAUTH1A_CONSUMER_KEY", "OTHERKEYS")
    result = run("config", "show", "--profile", "paper")
    assert (result.exit_code, result.stderr) == (0, "")
    assert SECRET[:12] not in result.stdout
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    origin = f"  from profile paper in {paper}"
    assert ["consumer_key", f"ABCDEFGHI{origin}"] in lines
    assert ["access_token", f"a1b2…{origin}"] in lines
    assert ["access_token_secret", f"(56 characters){origin}"] in lines
    assert ["signing_key", f"{key_files.private_signature}{origin}"] in lines
    assert ["realm", "test_realm  from IBKR_OAUTH_REALM"] in lines
    assert ["proxy", "-"] in lines
    conflict = f"consumer key: profile paper in {paper} is used, and IBIND_OAUTH1A_CONSUMER_KEY says something else"
    assert ["conflict:", conflict] in lines
    assert lines[-1] == ["profile", f"paper; profiles are kept in {paper}"]


def test_show_as_json(run: Run, paper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_CONSUMER_KEY", "OTHERKEYS")
    result = run("config", "show", "--json")
    assert SECRET[:12] not in result.stdout
    shown = json.loads(result.stdout)
    assert set(shown["settings"]) == set(config.NAMES)
    assert (shown["file"], shown["profile"]) == (paper, "paper")
    assert shown["settings"]["consumer_key"] == {"value": "OTHERKEYS", "origin": "IBKR_OAUTH_CONSUMER_KEY"}
    assert shown["settings"]["realm"] == {"value": None, "origin": None}
    assert shown["conflicts"] == [
        {"name": "consumer_key", "used": "IBKR_OAUTH_CONSUMER_KEY", "other": f"profile paper in {paper}"}
    ]


def test_nothing_is_set(run: Run, home: Path) -> None:
    result = run("config", "show")
    assert result.exit_code == 0
    assert f"no profile; profiles are kept in {home}/.config/ibkr-oauth/config.toml, not there yet" in result.stdout


def test_it_shows_what_does_not_work(run: Run, paper: str) -> None:
    """Files that are not there, or that others may read: it is the place to see that."""
    Path(paper).chmod(0o644)
    config.save_profile("paper", {"dh_params": "/nowhere.pem"})
    result = run("config", "show")
    assert result.exit_code == 0
    assert "/nowhere.pem" in result.stdout


def test_a_steering_text_is_harmless(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_REALM", "\x1b[31mred[/bold]")
    result = run("config", "show")
    assert "\x1b" not in result.stdout
    assert "red[/bold]" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        (["--profile", "live"], None, "profile live: not in"),
        ([], f"[profile.paper]\naccess_token_secret = {SECRET}", "line 2: not valid TOML"),
        ([], "[profile.paper]\ncolour = 5\n", None),
        (["--profile", "paper"], "[profile.paper]\ncolour = 5\n", "unknown key colour"),
    ],
)
def test_errors(run: Run, paper: str, arguments: list[str], content: str | None, words: str | None) -> None:
    if content is not None:
        Path(paper).write_text(content)
    result = run("config", "show", *arguments)
    assert result.exit_code == (3 if words else 0)
    assert (words or "") in " ".join(result.stderr.split())
    assert SECRET[:12] not in result.output
    if words:
        error = json.loads(run("config", "show", *arguments, "--json").stdout)["error"]
        assert words in error["message"]
        assert (error["code"], error["exit_code"]) == ("configuration", 3)


def test_the_profile_of_the_environment(run: Run, paper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config.save_profile("live", {"consumer_key": "LIVEKEYSS"})
    monkeypatch.setenv("IBKR_OAUTH_PROFILE", "live")
    assert json.loads(run("config", "show", "--json").stdout)["profile"] == "live"
    assert json.loads(run("config", "show", "--json", "--profile", "paper").stdout)["profile"] == "paper"


def test_path(run: Run, paper: str, home: Path) -> None:
    assert run("config", "path").stdout == f"{paper}\n"
    assert json.loads(run("config", "path", "--json").stdout) == {"path": paper, "exists": True, "profiles": ["paper"]}
    Path(paper).write_text("[profile.paper")
    assert json.loads(run("config", "path", "--json").stdout) == {"path": paper, "exists": True, "profiles": None}
    Path(paper).unlink()
    assert run("config", "path").stdout == f"{paper}\n"
    assert json.loads(run("config", "path", "--json").stdout) == {"path": paper, "exists": False, "profiles": []}


def test_profiles_are_completed(run: Run, paper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config.save_profile("live", {"consumer_key": "LIVEKEYSS"})
    monkeypatch.setenv("_IBKR_OAUTH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "ibkr-oauth config show --profile p")
    monkeypatch.setenv("COMP_CWORD", "4")
    assert run().stdout == "plain,paper\n"
    Path(paper).write_text("[profile.paper")
    assert run().stdout.strip() == ""
