"""Completion in real shells: bash and zsh at a pseudo-terminal, set up with the lines that the documentation gives."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], ""),
    "zsh": (["-f", "-i"], "autoload -Uz compinit && compinit -D"),
}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, project: Path, tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    """Ready for a command line; `ibkr-oauth` is on its path, and there are two profiles."""
    arguments, before = SHELLS[request.param]
    page = (project / "docs" / "commands.md").read_text("utf-8")
    found = re.search(rf"^eval .*{request.param}_source.*$", page, re.MULTILINE)
    assert found is not None
    config = tmp_path / "config.toml"
    config.write_text('[profile.paper]\nconsumer_key = "AAAAAAAAA"\n[profile.live]\nconsumer_key = "BBBBBBBBB"\n')
    config.chmod(0o600)
    folder = Path(sys.executable).parent  # where the program of this Python is
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PS1": "ready> ",
        "TERM": "dumb",
        "IBKR_OAUTH_CONFIG": str(config),
    }
    child = pexpect.spawn(request.param, arguments, env=environment, encoding="utf-8", timeout=30, dimensions=(40, 200))
    child.expect("ready> ")
    for line in filter(None, (before, found[0])):
        child.sendline(line)
        child.expect("ready> ")
    yield child
    child.close(force=True)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ibkr-oauth doc", "ibkr-oauth doctor "),
        ("ibkr-oauth config pa", "ibkr-oauth config path "),
        ("ibkr-oauth status --profile pa", "ibkr-oauth status --profile paper "),
        ("ibkr-oauth get --dry", "ibkr-oauth get --dry-run "),
    ],
)
def test_a_word_is_completed(shell: pexpect.spawn[str], typed: str, completed: str) -> None:
    shell.send(f"{typed}\t")
    shell.expect_exact(completed)
