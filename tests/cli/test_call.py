"""`ibkr-oauth get`, `post`, `put`, `delete`: signed calls from the command line, against the sandbox."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner
from support.cli_account import Account, calls

from ibkr_oauth import Session, config, signing
from ibkr_oauth.cli.app import program

from .conftest import Run

ORDERS = "/iserver/account/DU7028233/orders"
ORDER = '{"orders":[{"conid":265598,"side":"BUY","quantity":1,"orderType":"MKT","tif":"DAY"}]}'


def call(account: Account, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The real program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ibkr_oauth", *arguments],
        env=account.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


# --- Answers --------------------------------------------------------------------------------------


def test_the_body_comes_as_it_is(account: Account) -> None:
    done = call(account, "get", "/portfolio/accounts")
    assert done.returncode == 0
    with Session.from_env() as session:
        assert done.stdout == session.get("/portfolio/accounts").content
    assert re.fullmatch(rb"200 GET /portfolio/accounts, \d+ ms\n", done.stderr)
    account.check_no_secret((done.stdout + done.stderr).decode())


def test_as_json(run: Run, account: Account) -> None:
    done = run("get", "/portfolio/accounts", "--json")
    document = json.loads(done.stdout)
    assert (document["method"], document["path"], document["status"]) == ("GET", "/portfolio/accounts", 200)
    assert document["body"][0]["accountId"].startswith("DU")
    assert document["milliseconds"] > 0
    account.check_no_secret(done.output)


def test_commands_share_one_live_session_token(run: Run, account: Account) -> None:
    for _ in range(3):
        assert run("get", "/portfolio/accounts").exit_code == 0
    assert calls(account.sandbox, "/oauth/live_session_token") == 1


def test_an_error_status_is_the_exit_code_of_its_family(run: Run, account: Account) -> None:
    done = run("get", "/portfolio/U1/positions/0")
    assert done.exit_code == 4
    assert done.stderr.startswith("401 GET /portfolio/U1/positions/0, ")
    assert "Take the account numbers that GET /portfolio/accounts lists." in done.stderr
    account.sandbox.fail_next(404, body='{"error":"nothing here"}')
    done = run("get", "/portfolio/nothing")
    assert (done.exit_code, done.stdout) == (8, '{"error":"nothing here"}')
    account.sandbox.fail_next(404, body='{"error":"nothing here"}')
    done = run("get", "/portfolio/nothing", "--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["status"], document["error"]["code"]) == (8, 404, "service")
    assert document["body"] == {"error": "nothing here"}


def test_a_refused_consumer_is_explained(run: Run, account: Account) -> None:
    account.sandbox.deactivate_consumer("COMMANDER")
    done = run("get", "/portfolio/accounts")
    assert (done.exit_code, done.stdout) == (4, "")
    assert "invalid consumer" in done.stderr
    account.check_no_secret(done.output)


def test_parameters_and_headers(run: Run, account: Account) -> None:
    done = run("get", "/portfolio/accounts", "--param", "a=b c=d", "--param", "a=2", "--header", "X-Test: on")
    assert done.exit_code == 0
    request = account.sandbox.requests[-1]
    assert "x-test" in request.headers
    assert request.query_rule == "omit"


# --- The brokerage session ------------------------------------------------------------------------


def test_a_session_that_was_opened_for_the_call_is_closed_again(run: Run, account: Account) -> None:
    assert run("get", "/iserver/accounts").exit_code == 0
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 1
    assert calls(account.sandbox, "/logout") == 1


def test_a_session_that_another_program_uses_is_left_alone(run: Run, account: Account) -> None:
    with Session.from_env(keep_alive=None) as other:
        other.brokerage.open()
        assert run("get", "/iserver/accounts").exit_code == 0
        assert calls(account.sandbox, "/logout") == 0
        assert other.status().authenticated


def test_a_status_that_is_refused_means_that_none_is_open(run: Run, account: Account) -> None:
    account.sandbox.fail_next(401, body='{"error":"not authenticated"}', path="/iserver/auth/status")
    assert run("get", "/iserver/accounts").exit_code == 0
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 1


def test_a_session_that_the_user_opens_stays_open(run: Run, account: Account) -> None:
    assert run("post", "/iserver/auth/ssodh/init", "-d", '{"publish":true,"compete":false}').exit_code == 0
    assert calls(account.sandbox, "/logout") == 0
    assert json.loads(run("post", "/iserver/auth/status", "--json").stdout)["body"]["authenticated"] is True


def test_another_login_is_not_thrown_out(run: Run, account: Account) -> None:
    account.sandbox.compete_from("TWS")
    done = run("get", "/iserver/accounts")
    assert done.exit_code == 6
    assert "active elsewhere" in done.stderr


# --- Bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["text", "file", "stdin"])
def test_bodies(account: Account, tmp_path: Path, source: str) -> None:
    body = '{"publish": true, "compete": false}'
    (tmp_path / "body.json").write_text(body)
    data = {"text": body, "file": f"@{tmp_path / 'body.json'}", "stdin": "-"}[source]
    done = CliRunner().invoke(program, ["post", "/iserver/auth/ssodh/init", "-d", data], input=body)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["authenticated"] is True
    assert calls(account.sandbox, "/iserver/auth/ssodh/init") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["post", "/tickle", "-d", "{bad"], 9, "-d is not JSON, line 1, column 2"),
        (["post", "/tickle", "-d", "@/nowhere/body.json"], 9, "/nowhere/body.json: No such file or directory"),
        (["get", "/tickle", "--param", "novalue"], 2, "--param: expected NAME=VALUE"),
        (["get", "/tickle", "--header", "novalue"], 2, "--header: expected NAME:VALUE"),
        (["get", "/tickle", "--header", "Authorization: OAuth x"], 9, "the session signs each attempt itself"),
        (["get", "https://evil.example/tickle"], 9, "a host of its own"),
        (["get", "/tickle", "--dry-run", "--curl"], 2, "one of them"),
        (["get", "/tickle", "--show-signature"], 2, "--show-signature goes with --curl"),
        (["delete", f"{ORDERS[:-1]}/1", "--read-only"], 9, "the session is read-only"),
        (["post", ORDERS, "-d", ORDER, "--read-only"], 9, "the session is read-only"),
    ],
)
def test_what_cannot_be_sent_is_said_before_anything_is_sent(
    run: Run, account: Account, arguments: list[str], code: int, words: str
) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert words in done.stderr
    assert account.sandbox.requests == ()


def test_each_method_is_sent_as_such(run: Run, account: Account) -> None:
    for method, arguments in (("get", []), ("post", []), ("put", ["-d", "{}"]), ("delete", [])):
        account.sandbox.fail_next(404, body="{}", path="/x")
        assert run(method, "/x", *arguments).stderr.startswith(f"404 {method.upper()} /x, ")
        assert account.sandbox.requests[-1].method == method.upper()


def test_an_answer_that_is_no_json(run: Run, account: Account) -> None:
    account.sandbox.fail_next(404, body="<p>Not here</p>", content_type="text/html", path="/x")
    assert json.loads(run("get", "/x", "--json").stdout)["body"] == "<p>Not here</p>"
    account.sandbox.fail_next(404, body="<p>Not here</p>", content_type="text/html", path="/x")
    with on_terminal(account, "get", "/x") as terminal:
        terminal.expect(pexpect.EOF)
        shown = str(terminal.before)
    assert "\n<p>Not here</p>\r\n" in shown


# --- Without sending ------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing_and_shows_what_is_signed(run: Run, account: Account) -> None:
    done = run("post", "/iserver/secdef/search", "--param", "a=b c", "-d", '{"symbol":"AAPL"}', "--dry-run")
    assert done.exit_code == 0
    assert account.sandbox.requests == ()
    assert done.stdout.startswith(f"POST {account.sandbox.base_url}/iserver/secdef/search?a=b%20c\n")
    assert 'oauth_signature="…"' in done.stdout
    assert '\n\n{"symbol":"AAPL"}\n\n' in done.stdout
    assert "Content-Type: application/json" in done.stdout
    assert account.token not in done.output
    assert done.stderr == "nothing was sent\n"
    account.check_no_secret(done.output)


@pytest.mark.parametrize("rule", ["omit", "merge", "url", "rfc5849"])
def test_the_base_string_of_a_dry_run_is_the_one_that_is_signed(run: Run, account: Account, rule: str) -> None:
    arguments = ["/portfolio/accounts", "--param", "a=b c", "--query-signing", rule]
    shown = json.loads(run("get", *arguments, "--dry-run", "--json").stdout)
    base_string = shown["base_string"].replace(f"{account.token[:4]}…", account.token)
    nonce, timestamp = re.findall(r'oauth_(?:nonce|timestamp)="(\w+)"', shown["headers"]["Authorization"])
    assert run("get", "/portfolio/accounts").exit_code == 0
    token = account.kept_token()
    assert token is not None
    with Session.from_env(query_signing=rule, keep_alive=None) as session:  # type: ignore[arg-type]
        session.open()
        credential = session._flow.credential
        assert credential is not None
        _, header = credential.signer.sign(
            "GET", f"{account.sandbox.base_url}/portfolio/accounts", [("a", "b c")], None, nonce, int(timestamp)
        )
    expected = signing.percent_encode(signing.hmac_sha256(base_string, credential.token))
    assert f'oauth_signature="{expected}"' in header


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "/portfolio/accounts", "--param", "a=it's b"],
        ["post", "/iserver/auth/ssodh/init", "-d", '{"publish":true,"compete":false,"note":"it\'s"}'],
        ["post", "/tickle"],
    ],
)
def test_the_line_for_curl_works(account: Account, tmp_path: Path, arguments: list[str]) -> None:
    program = tmp_path / "ibkr-oauth"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ibkr_oauth "$@"\n')
    program.chmod(0o755)
    line = call(account, *arguments, "--curl").stdout.decode()
    account.check_no_secret(line)
    assert "$(ibkr-oauth sign " in line
    assert account.token not in line
    assert account.sandbox.requests == ()
    environment = {**account.environment, "PATH": f"{tmp_path}:{account.environment['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", line.replace("curl ", "curl --silent --fail-with-body --user-agent test ", 1)],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


def test_the_line_for_curl_signs_with_the_same_profile_and_rule(run: Run, account: Account) -> None:
    profile = {"consumer_key": "COMMANDER", "access_token": account.token, "access_token_secret": account.secret}
    config.save_profile("paper", profile)
    line = run("get", "/tickle", "--curl", "--profile", "paper", "--query-signing", "merge").stdout
    assert f"$(ibkr-oauth sign GET {account.sandbox.base_url}/tickle --profile paper --query-signing merge)" in line


def test_the_password_of_a_proxy_is_not_in_the_line(run: Run, account: Account) -> None:
    os.environ["IBKR_OAUTH_PROXY"] = "http://user:PLANTED@127.0.0.1:9"
    line = run("get", "/tickle", "--curl").stdout
    assert '--proxy "$IBKR_OAUTH_PROXY"' in line
    assert "PLANTED" not in line


def test_a_line_for_curl_with_its_signature(run: Run, account: Account) -> None:
    line = run("get", "/portfolio/accounts", "--curl", "--show-signature").stdout
    assert "ibkr-oauth sign" not in line
    header = re.search(r"'Authorization: (OAuth [^']+)'", line)
    assert header
    assert 'oauth_signature="' in header[1]
    assert calls(account.sandbox, "/portfolio/accounts") == 0


def test_the_line_for_curl_as_json(run: Run, account: Account) -> None:
    line = run("get", "/portfolio/accounts", "--curl").stdout
    document = json.loads(run("get", "/portfolio/accounts", "--curl", "--json").stdout)
    assert document == {"sent": False, "curl": line.rstrip("\n")}


def test_curl_does_not_open_a_brokerage_session(run: Run, account: Account) -> None:
    assert "needs the brokerage session" in run("get", "/iserver/accounts", "--curl").stderr
    assert run("get", "/portfolio/accounts", "--curl").stderr == ""


# --- Orders ---------------------------------------------------------------------------------------


def on_terminal(account: Account, *arguments: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", *arguments],
        env={**account.environment, "TERM": "dumb"},  # type: ignore[arg-type]
        encoding="utf-8",
        timeout=30,
    )


def test_orders_are_asked_about_on_a_terminal(account: Account) -> None:
    with on_terminal(account, "post", ORDERS, "-d", ORDER) as terminal:
        terminal.expect_exact("this may place or change an order. Send it?")
        terminal.sendline("n")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 1
    assert account.sandbox.orders == ()
    with on_terminal(account, "post", ORDERS, "-d", ORDER) as terminal:
        terminal.expect_exact("Send it?")
        terminal.sendline("y")
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0
    assert len(account.sandbox.orders) == 1


@pytest.mark.parametrize("arguments", [["--yes"], []])
def test_without_a_terminal_or_with_yes_an_order_goes_out_once(
    run: Run, account: Account, arguments: list[str]
) -> None:
    assert run("post", ORDERS, "-d", ORDER, *arguments).exit_code == 0
    assert len(account.sandbox.orders) == 1


def test_on_a_terminal_json_is_laid_out(account: Account) -> None:
    with on_terminal(account, "get", "/portfolio/accounts") as terminal:
        terminal.expect(pexpect.EOF)
        shown = str(terminal.before)
    assert '\r\n    "id": "DU7028233"' in shown
