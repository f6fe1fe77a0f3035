"""The third party's way in a real browser: log in, consent, redirect caught, access token stored, signed call."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import Consumer, DHParameters, Session, errors, login
from ibkr_oauth.keygen import KeyFiles, generate_keys
from ibkr_oauth.redirect import respond
from ibkr_oauth.sandbox import Sandbox

playwright = pytest.importorskip("playwright.sync_api")
from support import chromium  # noqa: E402 - needs Playwright
from support.pages import Pages  # noqa: E402

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium: csrc/tools/system.sh browser installs it")

CONSUMER_KEY = "THIRDPART"
ACCOUNT = "DU7028233"  # of the user paper

Start = Callable[..., login.Login]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return generate_keys(tmp_path_factory.mktemp("keys") / "made", dh_params=DHParameters.rfc7919())


@pytest.fixture(scope="module")
def callback() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture(scope="module")
def sandbox(keys: KeyFiles, callback: str) -> Iterator[Sandbox]:
    with Sandbox(tls=True) as running:
        files = ("public_signature.pem", "public_encryption.pem", "dhparam.pem")
        public = [(keys.directory / name).read_text() for name in files]
        running.register(CONSUMER_KEY, *public, callback=callback)
        running.register("OUTOFBAND", *public, callback="oob")
        yield running


@pytest.fixture(scope="module")
def browser(sandbox: Sandbox) -> Iterator[Any]:
    with chromium.launched(sandbox) as launched:
        yield launched


@pytest.fixture
def pages(browser: Any) -> Iterator[Pages]:
    """A browser without history; fails in the end if a page did what none may do."""
    with Pages.opened(browser) as opened:
        yield opened


@pytest.fixture
def start(sandbox: Sandbox, keys: KeyFiles, callback: str) -> Iterator[Start]:
    with contextlib.ExitStack() as started:

        def one(consumer_key: str = CONSUMER_KEY) -> login.Login:
            files = ("private_signature.pem", "private_encryption.pem", "dhparam.pem")
            consumer = Consumer(consumer_key, *(keys.directory / name for name in files))
            where = callback if consumer_key == CONSUMER_KEY else None
            reach = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file}
            return started.enter_context(login.start(consumer, where, **reach))

        yield one


@pytest.fixture
def environment(sandbox: Sandbox, keys: KeyFiles, tmp_path: Path) -> dict[str, str]:
    """A user's, who has everything but an access token, and whose browser hands the address on to the test."""
    os.mkfifo(tmp_path / "opened")
    write = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "BROWSER": shlex.join([sys.executable, "-c", write, str(tmp_path / "opened"), "%s"]),
        "IBKR_OAUTH_CONSUMER_KEY": CONSUMER_KEY,
        "IBKR_OAUTH_KEYS_DIR": str(keys.directory),
        "IBKR_OAUTH_BASE_URL": sandbox.base_url,
        "IBKR_OAUTH_CA_FILE": str(sandbox.ca_file),
    }


@contextlib.contextmanager
def command(environment: dict[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it opens in the browser."""
    call = [sys.executable, "-m", "ibkr_oauth", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(call, env=environment, text=True, **pipes) as process:
        try:
            yield process, Path(environment["HOME"], "opened").read_text()
        finally:
            process.kill()


# --- To the first signed call ---------------------------------------------------------------------


def test_the_command(environment: dict[str, str], callback: str, pages: Pages) -> None:
    with command(environment, "login", "--profile", "third", "--callback", callback) as (process, url):
        pages.goto(url)
        pages.expect_heading("Log in")
        pages.fill("Password", "guess")
        pages.press_button("Log in")
        pages.expect_alert("Not the one above")
        pages.log_in()
        pages.expect_heading(f"{CONSUMER_KEY} asks for access to your account")
        pages.expect_text(ACCOUNT)
        pages.press_button("Approve")
        pages.expect_heading("Access granted")
        pages.expect_text("You may close this window")
        assert pages.url.startswith(f"{callback}?oauth_token=")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "kept in profile third" in out
    assert "A browser was asked to open it." in err
    call = [sys.executable, "-m", "ibkr_oauth", "get", "/portfolio/accounts", "--profile", "third"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, f'"{ACCOUNT}"' in done.stdout) == (0, True), done.stderr


def test_the_demo(environment: dict[str, str], pages: Pages) -> None:
    """Its pages come over http, handed on by the command."""
    with command(environment, "demo", "--open") as (process, url):
        pages.goto(url)
        pages.log_in()
        pages.press_button("Approve")
        pages.expect_heading("Access granted")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "logout" in out


def test_with_the_keyboard_alone(start: Start, pages: Pages, sandbox: Sandbox) -> None:
    """Tab goes through what can be used, in the order of the page, and through nothing else."""
    started = start()
    pages.goto(started.authorization_url)
    assert pages.tab() == "Username"
    pages.keyboard.press("Control+A")
    pages.keyboard.type("trader1")
    assert pages.tab() == "Password"
    pages.keyboard.type(pages.shown_password())
    assert pages.tab() == "Log in"
    pages.keyboard.press("Enter")
    pages.expect_heading(f"{CONSUMER_KEY} asks for access to your account")
    assert pages.tab() == "Approve"
    assert pages.tab() == "Deny"
    pages.keyboard.press("Shift+Tab")
    pages.keyboard.press("Enter")
    pages.expect_heading("Access granted")
    access_token = started.finish(timeout=10)
    with Session(started._client.consumer, access_token, base_url=sandbox.base_url, ca_file=sandbox.ca_file) as ibkr:
        (account,) = ibkr.get("/portfolio/accounts").json()
    assert account["accountTitle"] == "trader1"


def test_enter_in_a_field_logs_in(start: Start, pages: Pages) -> None:
    pages.goto(start().authorization_url)
    pages.fill("Password", pages.shown_password())
    pages.keyboard.press("Enter")
    pages.expect_heading(f"{CONSUMER_KEY} asks for access to your account")


def test_denied(start: Start, pages: Pages) -> None:
    started = start()
    pages.goto(started.authorization_url)
    pages.log_in()
    pages.press_button("Deny")
    pages.expect_heading("Access denied")
    with pytest.raises(errors.AuthorizationError, match="denied"):
        started.finish(timeout=10)


def test_back_and_again(start: Start, pages: Pages) -> None:
    """Loaded again, the consent page is the same; gone back to after the answer, it gives none for the second time."""
    url = start().authorization_url
    pages.goto(url)
    pages.log_in()
    pages.reload()
    pages.expect_heading(f"{CONSUMER_KEY} asks for access to your account")
    pages.press_button("Approve")
    pages.expect_heading("Access granted")
    pages.goto(url)
    pages.expect_heading("No access can be granted here")
    pages.expect_text("This request token is approved already")


# --- Every page, looked at ------------------------------------------------------------------------


def test_every_page_is_fit_for_everybody(start: Start, pages: Pages, sandbox: Sandbox, callback: str) -> None:
    denied = start()
    pages.goto(denied.authorization_url)
    pages.check("login page")
    pages.fill("Password", "guess")
    pages.press_button("Log in")
    pages.expect_alert("Not the one above")
    pages.check("login page after a wrong password")
    pages.log_in()
    pages.check("consent page")
    pages.press_button("Deny")
    pages.expect_heading("Access denied")
    pages.check("redirect after a denial")
    pages.goto(denied.authorization_url)
    pages.expect_text("The user denied this request token")
    pages.check("page about a request token that is denied")

    granted = start()
    pages.goto(granted.authorization_url)
    pages.log_in()
    pages.press_button("Approve")
    pages.expect_heading("Access granted")
    pages.check("redirect after consent")
    pages.reload()
    pages.expect_heading("Not the answer that was expected")
    pages.check("redirect that comes a second time")
    pages.goto(f"{callback}elsewhere")
    pages.check("page at a wrong path")

    for decision in ("Approve", "Deny"):
        pages.goto(start("OUTOFBAND").authorization_url)
        pages.log_in()
        pages.press_button(decision)
        pages.expect_heading(f"Access {'granted' if decision == 'Approve' else 'denied'}")
        pages.check(f"outcome out of band: {decision}")

    pages.goto(f"{sandbox.authorize_url}?oauth_token=00000000000000000000")
    pages.expect_text("Unknown request token")
    pages.check("page about an unknown request token")
    late = start().authorization_url
    sandbox.skew(601)
    try:
        pages.goto(late)
        pages.expect_text("Request token has expired")
    finally:
        sandbox.skew(0)
    pages.check("page about a request token that has expired")


# --- What others try ------------------------------------------------------------------------------


@contextlib.contextmanager
def site(html: str) -> Iterator[str]:
    """Somebody else's, at another name for this machine: Chromium lets no page from outside embed one from here."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self, 200, html.encode(), {"Content-Type": "text/html"})

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_a_page_elsewhere(start: Start, pages: Pages) -> None:
    """Its form, sent by a user who is logged in here, with a token that was stolen, is refused; no frame shows ours."""
    url = start().authorization_url
    pages.goto(url)
    pages.log_in()
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in pages.hidden_fields().items())
    form = f'<form method="post" action="{url.partition("?")[0]}">{fields}<button name="decision" value="approve">Win</button>'
    page = f'{form}</form><iframe src="{url}" title="framed"></iframe>'
    with site(page) as elsewhere, pages.misbehaviour_expected() as seen:
        pages.goto(elsewhere)
        assert "refused to connect" in pages.text_of_frame("framed")
        pages.press_button("Win")
        pages.expect_heading("No access can be granted here")
    assert any("frame-ancestors 'none'" in one for one in seen)
    pages.goto(url)  # nothing was granted
    pages.expect_heading(f"{CONSUMER_KEY} asks for access to your account")


def test_another_certificate_is_refused(pages: Pages) -> None:
    """What the other tests show of TLS holds: the browser takes the one sandbox's key, and nothing else."""
    with Sandbox(tls=True) as other, pytest.raises(playwright.Error, match="ERR_CERT_AUTHORITY_INVALID"):
        pages.goto(other.authorize_url)
