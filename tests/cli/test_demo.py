"""The demo: all legs, no secret, and what happens when one fails."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Callable
from typing import Any, Self

import pytest
from rich.console import Console
from support.person import Person

from ibkr_oauth import AccessToken, LiveSessionToken, OAuthClient, PrivateKey, RequestToken
from ibkr_oauth.cli import common, demo
from ibkr_oauth.cli.consent import ConsentListener
from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.signing import SignedRequest, Signer

from .conftest import Run

STEPS = [
    "sandbox",
    "keys",
    "registration",
    "request token",
    "authorisation",
    "access token",
    "live session token",
    "brokerage session",
    "brokerage accounts",
    "portfolio",
    "positions",
    "keep-alive",
    "logout",
]
SENT = [
    "POST /oauth/request_token",
    "POST /oauth/access_token",
    "POST /oauth/live_session_token",
    "POST /iserver/auth/ssodh/init",
    "GET /iserver/accounts",
    "GET /portfolio/accounts",
    "POST /tickle",
    "POST /logout",
]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Everything of the demo's run that must not be seen, collected while it runs."""
    found: set[str] = set()

    def spy(kind: Any, name: str, collect: Callable[[Any], object]) -> None:
        real = getattr(kind, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            collect(result)
            return result

        monkeypatch.setattr(kind, name, wrapper)

    def key(made: PrivateKey) -> None:
        found.update(made.private_pem().reveal().decode().splitlines()[1:-1])

    def access_token(granted: AccessToken) -> None:
        found.update((granted.token, granted.secret))

    def live_session_token(agreed: LiveSessionToken) -> None:
        found.update((agreed.reveal(), agreed._secret.reveal().hex()))

    def signed(request: SignedRequest) -> None:
        for part in re.findall(r'"([^"]+)"', request.headers["Authorization"]):
            if len(part) > 20:
                found.update((part, urllib.parse.unquote(part)))

    def request_token(issued: RequestToken) -> None:
        found.add(issued.token)

    spy(PrivateKey, "generate", key)
    spy(OAuthClient, "request_token", request_token)
    spy(Sandbox, "consent", found.add)
    spy(OAuthClient, "access_token", access_token)
    spy(OAuthClient, "live_session_token", live_session_token)
    spy(Signer, "sign", signed)
    return found


def assert_nothing_secret(output: str, secrets: set[str]) -> None:
    assert len(secrets) > 60
    text = "".join(output.split())
    for secret in secrets:
        assert secret not in text


# --- All is well ----------------------------------------------------------------------------------


def test_it_shows_every_step_and_no_secret(run: Run, secrets: set[str]) -> None:
    result = run("demo")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    positions = [next(i for i, line in enumerate(lines) if line.startswith(one)) for one in STEPS]
    assert positions == sorted(positions)
    for sent in SENT:
        assert sent in result.stdout
    for words in ("total", "3 RSA-SHA256 and 6 HMAC-SHA256", "9 nonces", "AAPL"):
        assert words in result.stdout
    assert "\x1b" not in result.output
    assert max(map(len, lines)) <= 80
    assert result.stderr == ""
    assert_nothing_secret(result.output, secrets)


def test_as_json(run: Run, secrets: set[str]) -> None:
    result = run("demo", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [step["name"] for step in document["steps"]] == STEPS
    assert all(step["ok"] for step in document["steps"])
    assert document["base_url"].startswith("https://127.0.0.1:")
    assert document["error"] is None
    assert len(document["verified"]) == 5
    assert document["milliseconds"] == pytest.approx(sum(step["milliseconds"] for step in document["steps"]), abs=0.1)
    assert_nothing_secret(result.output, secrets)


def on_a_terminal(*arguments: str, columns: int, **environment: str) -> str:
    """What the command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    variables = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")
    }
    variables |= {"TERM": "xterm-256color", "COLUMNS": str(columns)} | environment
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_oauth", *arguments], stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the other side has closed
            block = b""
        if not block:
            break
        written += block
    os.close(ours)
    assert process.wait(30) == 0
    return written.decode()


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal(columns: int) -> None:
    written = on_a_terminal("demo", columns=columns)
    assert "\x1b[32m" in written
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    lines = [line.rpartition("\r")[2] for line in plain.replace("\r\n", "\n").split("\n")]
    assert max(map(len, lines)) <= columns
    for step in STEPS:
        assert any(line.startswith(step) for line in lines)


def test_no_color_on_a_terminal() -> None:
    written = on_a_terminal("demo", columns=80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", written)
    assert "total" in written


# --- A leg fails ----------------------------------------------------------------------------------


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Sandbox], object]], None]:
    """Let the demo's sandbox do something wrong."""

    def misbehave(how: Callable[[Sandbox], object]) -> None:
        class Bad(Sandbox):
            def start(self) -> Self:
                how(self)
                return super().start()

        monkeypatch.setattr(common, "import_sandbox", lambda: Bad)

    return misbehave


def test_a_live_session_token_that_does_not_verify(run: Run, misbehave: Any) -> None:
    misbehave(
        lambda sandbox: sandbox.tamper_next(
            "/oauth/live_session_token",
            lambda body: body | {"live_session_token_signature": "0" * 40},
        )
    )
    result = run("demo")
    assert result.exit_code == 5
    assert "failed:" in result.stdout
    assert "token_mismatch" in result.stdout
    assert "brokerage session" not in result.stdout
    assert "Verified" not in result.stdout
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_a_refused_call_as_json(run: Run, misbehave: Any) -> None:
    misbehave(lambda sandbox: sandbox.fail_next(503, path="/iserver/accounts"))
    result = run("demo", "--json")
    assert result.exit_code == 8
    document = json.loads(result.stdout)
    assert document["error"]["code"] == "maintenance"
    assert document["error"]["exit_code"] == 8
    assert document["error"]["advice"]
    assert [step["name"] for step in document["steps"]] == STEPS[: STEPS.index("portfolio")]
    assert [step["ok"] for step in document["steps"]].count(False) == 1
    assert document["verified"] == []


def test_a_brokerage_session_that_does_not_open(run: Run, misbehave: Any) -> None:
    misbehave(
        lambda sandbox: sandbox.tamper_next("/iserver/auth/ssodh/init", lambda body: body | {"authenticated": False})
    )
    assert run("demo").exit_code == 6


# --- The consent page in the browser --------------------------------------------------------------


def fetch(url: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answer_page(url: str, decision: str) -> tuple[int, str]:
    """What a person does: log in, look at the page, press a button, follow the way back."""
    person = Person()
    address, page = person.log_in(url)
    assert "DEMOTRADE asks for access" in page
    return fetch(person.decide((address, page), decision))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], object]], list[Any]]:
    """A browser, of which each page does what the test says, on a thread of its own as real ones
    do. Returns the list that gets what it returned."""
    threads: list[threading.Thread] = []

    def browser(visit: Callable[[str], object], *, opens: bool = True) -> list[Any]:
        seen: list[Any] = []

        def open_page(url: str) -> bool:
            thread = threading.Thread(target=lambda: seen.append(visit(url)))
            thread.start()
            threads.append(thread)
            return opens

        monkeypatch.setattr(webbrowser, "open", open_page)
        return seen

    yield browser
    for thread in threads:
        thread.join(10)


def test_open_approved(run: Run, browser: Any, secrets: set[str]) -> None:
    seen = browser(lambda url: answer_page(url, "approve"))
    result = run("demo", "--open")
    assert result.exit_code == 0
    ((status, page),) = seen
    assert status == 200
    assert "Access granted" in page
    assert "You may close this window" in page
    assert re.search(r"^Answer in your browser: http://127\.0\.0\.1:\d+/$", result.stdout, re.MULTILINE)
    assert "logout" in result.stdout
    assert_nothing_secret(result.output, secrets)


def test_open_denied(run: Run, browser: Any) -> None:
    seen = browser(lambda url: answer_page(url, "deny"))
    result = run("demo", "--open")
    assert result.exit_code == 4
    assert "denied" in result.stderr
    assert "Access denied" in seen[0][1]


def test_open_with_json_asks_on_standard_error(run: Run, browser: Any) -> None:
    browser(lambda url: answer_page(url, "approve"))
    result = run("demo", "--open", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["error"] is None
    assert result.stderr.startswith("Answer in your browser: ")


def test_open_without_a_browser(run: Run, browser: Any) -> None:
    """The address that is shown leads to the page."""
    browser(lambda url: answer_page(urllib.parse.urljoin(url, "/"), "approve"), opens=False)
    result = run("demo", "--open")
    assert result.exit_code == 0
    assert "Open this in a browser on this machine: http://127.0.0.1:" in result.stdout


def test_open_and_nobody_answers(run: Run, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "CONSENT_TIMEOUT", 0.1)
    browser(lambda _: None)
    result = run("demo", "--open")
    assert result.exit_code == 4
    assert "nobody answered" in result.stderr
    assert "Without --open" in result.stderr


def test_a_sandbox_that_does_not_answer_the_browser() -> None:
    with ConsentListener("https://127.0.0.1:1/authorize", None) as listener:
        status, page = fetch(f"{listener.authorize_url}?oauth_token=abc")
    assert (status, "The sandbox did not answer." in page) == (502, True)


def test_on_a_terminal_it_asks_where_it_shows_what_it_does() -> None:
    written = io.StringIO()
    screen = demo._Screen(Console(file=written, force_terminal=True, width=120))
    with screen:
        screen.begin("authorize")
        screen.ask("Answer in your browser: http://127.0.0.1:9/")
    assert "Answer in your browser: http://127.0.0.1:9/" in written.getvalue()


def test_open_takes_no_other_answers(run: Run, browser: Any) -> None:
    def visit(url: str) -> object:
        def other(path: str, form: dict[str, str] | None = None, **headers: str) -> int:
            return fetch(urllib.parse.urljoin(url, path), form, **headers)[0]

        refused = [
            other("/callback?oauth_token=00000000000000000000&oauth_verifier=abc"),
            other("/callback"),
            other("/elsewhere"),
            other("/callback", {"oauth_verifier": "abc"}),
            other("/authorize", {"decision": "x" * 20_000}),
            other("/authorize", {"decision": "approve"}),
            other("/authorize", {"decision": "approve"}, Origin="http://evil.example"),
            other("/authorize", {"decision": "approve"}, Host="evil.example"),
        ]
        return refused, answer_page(url, "approve")[0]

    seen = browser(visit)
    assert run("demo", "--open").exit_code == 0
    assert seen == [([400, 400, 404, 400, 400, 400, 403, 403], 200)]


def test_a_terminal_that_lacks_characters() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ibkr_oauth", "demo"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert b"total" in done.stdout
