"""`ibkr-oauth login`: a real process, a browser played by the test, and the sandbox's pages over TLS."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from support.cli_account import Account
from support.person import Person

CONSUMER_KEY = "THIRDPART"


def get(url: str, **headers: str) -> tuple[int, str, str]:
    """Status, page and content security policy of what the listener answers."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read().decode(), answer.headers["Content-Security-Policy"]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def callback(account: Account, port: int) -> str:
    """As it is registered; the environment has everything but an access token."""
    url = f"http://127.0.0.1:{port}/done"
    files = ("public_signature.pem", "public_encryption.pem", "dhparam.pem")
    account.sandbox.register(CONSUMER_KEY, *((account.keys / name).read_text() for name in files), callback=url)
    for name in ("IBKR_OAUTH_ACCESS_TOKEN", "IBKR_OAUTH_ACCESS_TOKEN_SECRET"):
        del account.environment[name]
    account.environment["IBKR_OAUTH_CONSUMER_KEY"] = CONSUMER_KEY
    return url


@pytest.fixture
def browser(account: Account) -> Person:
    return Person(account.sandbox.ca_file)


Login = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def login(account: Account, callback: str) -> Iterator[Login]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ibkr_oauth", "login", "--profile", "third", "--no-browser", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=account.environment, text=True, **pipes))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        with contextlib.suppress(ValueError):
            one.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"https://\S+/authorize\?oauth_token=\w+", line)
        if found:
            return found[0]
    pytest.fail("no address was shown")


def end(process: subprocess.Popen[str], account: Account) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    account.check_no_secret(out + err)
    return process.returncode, out, err


def profile(account: Account) -> dict[str, str]:
    path = Path(account.home["HOME"]) / ".config" / "ibkr-oauth" / "config.toml"
    return dict(tomllib.loads(path.read_text())["profile"]["third"])


def test_the_redirect_is_caught_and_the_token_works(
    account: Account, callback: str, browser: Person, login: Login
) -> None:
    process = login("--callback", callback)
    status, page, policy = get(browser.answer(url_of(process), "approve"))
    assert (status, "Access granted" in page) == (200, True)
    assert policy.startswith("default-src 'none'")
    code, out, _ = end(process, account)
    assert code == 0
    assert "kept in profile third" in out
    kept = profile(account)
    assert len(kept["access_token_secret"]) == 344
    assert kept["access_token_secret"] not in out
    call = subprocess.run(
        [sys.executable, "-m", "ibkr_oauth", "get", "/portfolio/accounts", "--profile", "third"],
        env=account.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (call.returncode, '"accountId"' in call.stdout) == (0, True), call.stderr


def test_what_is_not_the_answer_is_refused_and_waited_past(
    account: Account, callback: str, browser: Person, login: Login
) -> None:
    process = login("--callback", callback)
    redirect = browser.answer(url_of(process), "approve")
    foreign = re.sub(r"oauth_token=\w+", "oauth_token=0123456789abcdef0123", redirect)
    for url, headers, expected in [
        (foreign, {}, 400),
        (callback, {}, 400),
        (redirect.replace("/done", "/other"), {}, 404),
        (redirect, {"Host": "evil.example"}, 421),
    ]:
        assert get(url, **headers)[0] == expected
    assert get(redirect)[0] == 200
    assert end(process, account)[0] == 0


def test_access_is_denied(account: Account, callback: str, browser: Person, login: Login) -> None:
    process = login("--callback", callback)
    assert "Access denied" in get(browser.answer(url_of(process), "deny"))[1]
    code, out, err = end(process, account)
    assert (code, out) == (4, "")
    assert "denied" in err


def test_nobody_answers(account: Account, callback: str, login: Login) -> None:
    code, _, err = end(login("--callback", callback, "--timeout", "1"), account)
    assert code == 4
    assert "nobody answered" in err
    assert "leave the callback out" in err


def test_the_port_is_taken(account: Account, callback: str, port: int, login: Login) -> None:
    with socket.create_server(("127.0.0.1", port)):
        code, _, err = end(login("--callback", callback), account)
    assert code == 9
    assert f"port {port}" in err


@pytest.mark.parametrize("arguments", [(), ("--callback", "https://example.com/done")])
def test_nobody_can_paste(account: Account, login: Login, arguments: tuple[str, ...]) -> None:
    code, _, err = end(login(*arguments), account)
    assert code == 9
    assert "no terminal" in err
    assert not account.sandbox.requests


def test_as_json(account: Account, callback: str, browser: Person, login: Login) -> None:
    process = login("--callback", callback, "--json")
    get(browser.answer(url_of(process), "approve"))
    code, out, _ = end(process, account)
    assert code == 0
    document = json.loads(out)
    assert document.pop("file").endswith("config.toml")
    assert len(document.pop("access_token")) == 5
    assert document == {"profile": "third", "is_paper": True}


@pytest.mark.parametrize("paste", ["redirect", "verifier"])
def test_pasting(account: Account, callback: str, browser: Person, paste: str) -> None:
    """At a terminal, over SSH: nothing listens, and a wrong paste is said and asked again."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", "login", "--profile", "third", "--callback", callback],
        env={**account.environment, "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"},
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 200),
    )
    child.expect(r"https://\S+/authorize\?oauth_token=\w+")
    redirect = browser.answer(child.after, "approve")
    child.expect("Paste the address")
    child.sendline(re.sub(r"oauth_token=\w+", "oauth_token=0123456789abcdef0123", redirect))
    child.expect("belongs to another request token")
    child.expect("Paste the address")
    verifier = urllib.parse.parse_qs(urllib.parse.urlsplit(redirect).query)["oauth_verifier"][0]
    child.sendline(redirect if paste == "redirect" else verifier)
    child.expect("kept in profile third")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert profile(account)["access_token"]


def test_over_ssh_with_a_forwarded_port(account: Account, callback: str, browser: Person, login: Login) -> None:
    account.environment["SSH_CONNECTION"] = "192.0.2.1 1 192.0.2.2 22"
    process = login("--callback", callback, "--listen")
    assert get(browser.answer(url_of(process), "approve"))[0] == 200
    code, out, _ = end(process, account)
    assert (code, "kept in profile third" in out) == (0, True)


def test_over_ssh_it_says_how_to_paste_and_how_to_forward_the_port(account: Account, callback: str, port: int) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", "login", "--profile", "third", "--callback", callback],
        env={**account.environment, "SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22", "DISPLAY": ":0"},
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 200),
    )
    child.expect("Whether it can show that page does not matter")
    child.expect_exact(f"ssh -L {port}:127.0.0.1:{port}")
    child.expect("Paste the address")
    assert "A browser was asked" not in child.before
    child.sendintr()
    child.expect(pexpect.EOF)


def test_without_a_callback_of_this_machine_there_is_no_port_to_forward(account: Account, callback: str) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", "login", "--profile", "third"],
        env=account.environment,
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 200),
    )
    child.expect("Whether it can show that page does not matter")
    child.expect("Paste the address")
    assert "ssh -L" not in child.before
    child.sendintr()
    child.expect(pexpect.EOF)


def test_listening_needs_an_address_of_this_machine(account: Account, login: Login) -> None:
    code, _, err = end(login("--callback", "https://example.com/done", "--listen"), account)
    assert (code, "--listen goes with" in err) == (2, True)
    assert not account.sandbox.requests


@pytest.mark.parametrize("has_screen", [False, True])
def test_a_browser_is_opened_where_there_is_a_screen(
    account: Account, callback: str, tmp_path: Path, has_screen: bool
) -> None:
    """Otherwise lynx and the like would take the terminal over: they play themselves here."""
    opened = tmp_path / "opened"
    for name in ("www-browser", "lynx", "w3m", "links", "xdg-open", "x-www-browser"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
        script.chmod(0o755)
    environment = {**account.environment, "PATH": str(tmp_path), "TERM": "xterm"}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "ibkr_oauth", "login", "--profile", "third", "--callback", callback],
        env={**environment, **({"DISPLAY": ":0"} if has_screen else {})},
        encoding="utf-8",
        timeout=20,
        dimensions=(40, 200),
    )
    child.expect("Waiting for the browser")
    assert ("A browser was asked" in child.before) is has_screen
    until = time.monotonic() + (10 if has_screen else 0)
    while not opened.exists() and time.monotonic() < until:
        time.sleep(0.05)
    child.sendintr()
    child.expect(pexpect.EOF)
    assert opened.exists() is has_screen
    assert not has_screen or "/authorize?oauth_token=" in opened.read_text()
