"""`ibkr-oauth status`: it looks, and changes nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pexpect
import pytest
from support.cli_account import Account, calls

from ibkr_oauth import Session
from ibkr_oauth.cli import status

from .conftest import Run


def look(run: Run) -> dict[str, object]:
    done = run("status", "--json")
    assert done.exit_code == 0, done.output
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_a_signed_session(run: Run, account: Account) -> None:
    document = look(run)
    assert document["tier"] == "signed session"
    assert (document["authenticated"], document["competing"], document["problem"]) == (False, False, None)
    remaining = document["token_remaining"]
    assert isinstance(remaining, float)
    assert 86_000 < remaining < 86_500
    assert document["base_url"] == account.sandbox.base_url
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 0


def test_a_brokerage_session_is_seen_and_left_alone(run: Run, account: Account) -> None:
    with Session.from_env(keep_alive=None) as other:
        other.brokerage.open()
        document = look(run)
        assert (document["tier"], document["authenticated"]) == ("brokerage session", True)
        assert isinstance(document["server"], str)
        assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 1
        assert calls(account.sandbox, "/logout") == 0
        assert other.status().authenticated


def test_another_login_is_named_and_not_thrown_out(run: Run, account: Account) -> None:
    account.sandbox.compete_from("TWS")
    document = look(run)
    assert (document["competing"], document["authenticated"]) == (True, False)
    text = run("status").stdout
    assert "second user name" in text
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 0
    with Session.from_env(keep_alive=None) as session:
        assert session.status().competing


def test_in_words(run: Run, account: Account) -> None:
    done = run("status")
    assert done.exit_code == 0
    for words in ("COMMANDER at ", "signed session", "token good for  24 h 0 min", "clock           right"):
        assert words in done.stdout
    account.check_no_secret(done.output)
    assert account.token not in done.output


def test_a_wrong_clock_is_told(run: Run, account: Account) -> None:
    account.sandbox.skew(-300)
    assert "s ahead of the server's" in run("status").stdout


def test_an_ibind_users_environment_works_unchanged(
    run: Run, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(os, "environ", account.ibind)
    assert not [name for name in account.ibind if name.startswith("IBKR_OAUTH_") and name != "IBKR_OAUTH_CA_FILE"]
    document = look(run)
    assert (document["consumer_key"], document["tier"]) == ("COMMANDER", "signed session")
    assert document["base_url"] == account.sandbox.base_url


def test_what_is_wrong_ends_it_with_its_family(run: Run, account: Account) -> None:
    account.sandbox.deactivate_consumer("COMMANDER")
    done = run("status")
    assert done.exit_code == 4
    assert "invalid consumer" in done.stderr
    account.check_no_secret(done.output)


def test_what_the_service_says_about_it_is_shown(run: Run, account: Account) -> None:
    account.sandbox.fail_next(401, body='{"error":"not authenticated"}', path="/iserver/auth/status")
    shown = " ".join(run("status").stdout.split())
    assert "message POST /v1/api/iserver/auth/status: refused with status 401: " in shown


def test_an_answer_in_another_shape_says_nothing(run: Run, account: Account) -> None:
    account.sandbox.fail_next(200, body="[]", path="/iserver/auth/status")
    document = look(run)
    assert (document["authenticated"], document["message"], document["server"]) == (False, "", None)


def test_a_brokerage_session_needs_no_advice(run: Run, account: Account) -> None:
    with Session.from_env(keep_alive=None) as other:
        other.brokerage.open()
        text = run("status").stdout
    assert re.search(r"^authenticated +yes *$", text, re.MULTILINE)
    assert "what to do" not in text


# --- The live view --------------------------------------------------------------------------------


@contextmanager
def watching(account: Account, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", "-m", "ibkr_oauth", "status", "--watch", "--interval", "0.5", *arguments]
    with subprocess.Popen(
        command, env=account.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watching_as_json_is_a_line_for_each_look(account: Account) -> None:
    with watching(account, "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["tier"], first["problem"]) == ("signed session", None)
        account.sandbox.maintenance()
        until = time.monotonic() + 20  # looks of before may still be on their way
        while "503" not in (json.loads(process.stdout.readline())["problem"] or ""):
            assert time.monotonic() < until, "it did not notice"
        account.sandbox.maintenance(False)
        while json.loads(process.stdout.readline())["problem"] is not None:
            assert time.monotonic() < until, "it did not recover"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 0
    assert calls(account.sandbox, "/logout") == 0


def test_watching_in_a_pipe_is_a_line_for_each_look(account: Account) -> None:
    with watching(account) as process:
        assert process.stdout is not None
        assert "signed session, token good for 24 h 0 min" in process.stdout.readline()
        assert "signed session" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def once(_seconds: float) -> None:
    raise KeyboardInterrupt


def watch(account: Account) -> pexpect.spawn[str]:
    """`ibkr-oauth status --watch` on a terminal of its own."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", "status", "--watch", "--interval", "0.5"],
        env={**account.environment, "TERM": "xterm"},  # type: ignore[arg-type]
        encoding="utf-8",
        timeout=30,
        dimensions=(40, 120),
    )


def test_a_view_that_begins_in_a_disturbance(run: Run, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=once))
    account.sandbox.maintenance()
    done = run("status", "--watch")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(r"\S+  maintenance: .*503.*\n", done.stdout)
    with watch(account) as terminal:
        terminal.expect_exact("token good for")
        terminal.expect_exact("maintenance: ")
        assert "24 h" not in str(terminal.before)
        account.sandbox.maintenance(False)
        terminal.expect_exact("24 h 0 min")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0


def test_the_live_view_on_a_terminal_shows_changes_and_ends_with_ctrl_c(account: Account) -> None:
    with watch(account) as terminal:
        terminal.expect_exact("signed session")
        account.sandbox.compete_from("TWS")
        terminal.expect_exact("second user name")
        terminal.sendintr()
        terminal.expect(pexpect.EOF)
        shown = str(terminal.before)
    assert terminal.exitstatus == 0
    assert "Traceback" not in shown
    assert "\x1b[?25h" in shown  # the cursor is back
