"""The command run in this process, and key files that need no search for a prime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.cli_account import Account

from ibkr_oauth import DHParameters
from ibkr_oauth.cli.app import program
from ibkr_oauth.keygen import KeyFiles, generate_keys
from ibkr_oauth.sandbox import Sandbox

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """`run("demo", "--json")`: standard output and error are apart in the result."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(program, arguments, prog_name="ibkr-oauth")

    return run


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    """Keys for tests that only read them."""
    directory = tmp_path_factory.mktemp("keys") / "made"
    return generate_keys(directory, dh_params=DHParameters.rfc7919())


@pytest.fixture
def key_directory(key_files: KeyFiles, tmp_path: Path) -> Path:
    """A copy of them to change."""
    directory = tmp_path / "keys"
    directory.mkdir()
    for path in key_files.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


@pytest.fixture
def account(key_files: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A consumer at a sandbox of its own, set in the environment: nothing else of ours is there."""
    home = tmp_path / "home"
    home.mkdir()
    with Sandbox(tls=True) as sandbox:
        made = Account(sandbox, key_files, home)
        monkeypatch.setattr(os, "environ", dict(made.environment))
        yield made
