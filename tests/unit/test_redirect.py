"""The listener for the user's way back: one answer, about one request token, asked of this machine by its own name."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import pytest

from ibkr_oauth import AuthorizationError, VerifierError, oauth, redirect
from ibkr_oauth.redirect import RedirectListener

TOKEN = "d4e60123456789abcdef"


@pytest.fixture
def listener() -> Iterator[RedirectListener]:
    with RedirectListener() as made:
        yield made


PAGE = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Length": "{length}",
}


def ask(listener: RedirectListener, target: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, title and text of a page, whose headers are those of every page."""
    port = urlsplit(listener.callback_url).port
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    page = body.decode()
    found = re.search('<style nonce="(.{16})">.*<h1>(.*)</h1><p>(.*)</p>', page, re.DOTALL)
    assert found is not None
    nonce, title, text = found.groups()
    assert f"<title>{title} · ibkr_oauth</title>" in page
    own = {name: value for name, value in answer.getheaders() if name not in {"Server", "Date"}}
    assert own == {name: value.format(nonce=nonce, length=len(body)) for name, value in PAGE.items()}
    return answer.status, title, text


def test_the_answer_that_was_expected(listener: RedirectListener) -> None:
    listener.expect(TOKEN)
    page = ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=abc123")
    assert page == (200, "Access granted", "You may close this window and return to your program.")
    assert listener.wait(5) == "abc123"


def test_an_answer_comes_once(listener: RedirectListener) -> None:
    listener.expect(TOKEN)
    assert ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=first")[0] == 200
    assert ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=second")[0] == 400
    assert listener.wait(5) == "first"
    with pytest.raises(AuthorizationError, match="nobody answered on the consent page within 0 s"):
        listener.wait(0.01)


def test_an_answer_comes_once_though_the_first_still_waits_for_its_page(
    listener: RedirectListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: list[int] = []
    respond_page = redirect.respond_page

    def respond_late(request: BaseHTTPRequestHandler, status: int, title: str, text: str) -> None:
        if not statuses:
            statuses.append(status)
            statuses.append(ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=second")[0])
        respond_page(request, status, title, text)

    monkeypatch.setattr(redirect, "respond_page", respond_late)
    listener.expect(TOKEN)
    assert ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=first")[0] == 200
    assert statuses == [200, 400]
    assert listener.wait(5) == "first"
    with pytest.raises(AuthorizationError, match="nobody answered"):
        listener.wait(0.01)


def test_a_browser_that_does_not_wait_for_the_page(listener: RedirectListener, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(redirect, "respond_page", fail)
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *_: None)  # prints it
    listener.expect(TOKEN)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=first")
    assert listener.wait(5) == "first"


@pytest.mark.parametrize("query", [f"oauth_token={TOKEN}", f"oauth_token={TOKEN}&oauth_verifier="])
def test_denied(listener: RedirectListener, query: str) -> None:
    listener.expect(TOKEN)
    assert ask(listener, f"/callback?{query}")[:2] == (200, "Access denied")
    with pytest.raises(AuthorizationError, match="denied"):
        listener.wait(5)


@pytest.mark.parametrize("token", [TOKEN[:-1], TOKEN.upper(), "", "é", f"{TOKEN}0"])
def test_an_answer_about_another_request_token(listener: RedirectListener, token: str) -> None:
    """It would bind the user's session to whoever sent him here."""
    listener.expect(TOKEN)
    page = ask(listener, f"/callback?oauth_token={quote(token)}&oauth_verifier=x")
    words = "This answer belongs to another request token, or was given before."
    assert page == (400, "Not the answer that was expected", words)
    assert ask(listener, f"/callback?oauth_token={TOKEN}&oauth_verifier=right")[0] == 200
    assert listener.wait(5) == "right"


def test_before_anything_is_expected(listener: RedirectListener) -> None:
    assert ask(listener, "/callback?oauth_token=&oauth_verifier=x")[0] == 400
    assert ask(listener, "/callback?oauth_verifier=x")[0] == 400


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "127.0.0.1:1", "localhost.example.com:{port}", ""])
def test_a_page_elsewhere_whose_name_leads_here(listener: RedirectListener, host: str) -> None:
    listener.expect(TOKEN)
    port = str(urlsplit(listener.callback_url).port)
    target = f"/callback?oauth_token={TOKEN}&oauth_verifier=x"
    page = ask(listener, target, Host=host.replace("{port}", port))
    assert page == (421, "Not for this address", "Open it as 127.0.0.1 or localhost.")
    assert ask(listener, target, Host=f"localhost:{port}")[0] == 200


def test_other_ways_to_ask(listener: RedirectListener) -> None:
    listener.expect(TOKEN)
    answer = f"?oauth_token={TOKEN}&oauth_verifier=x"
    assert ask(listener, f"/elsewhere{answer}") == (404, "Not found", "There is nothing here.")
    assert ask(listener, f"/callback/{answer}")[0] == 404
    assert ask(listener, f"/callback{answer}", "POST") == (405, "Not allowed", "There is nothing to send here.")
    assert ask(listener, f"/callback{answer}")[0] == 200


def test_the_last_of_repeated_values_counts(listener: RedirectListener) -> None:
    listener.expect(TOKEN)
    assert ask(listener, f"/callback?oauth_token=x&oauth_token={TOKEN}&oauth_verifier=a&oauth_verifier=b")[0] == 200
    assert listener.wait(5) == "b"


def test_a_path_of_ones_own() -> None:
    with RedirectListener(path="/done") as listener:
        assert listener.callback_url.endswith("/done")
        listener.expect(TOKEN)
        assert ask(listener, "/callback")[0] == 404
        assert ask(listener, f"/done?oauth_token={TOKEN}&oauth_verifier=x")[0] == 200


def test_closing_ends_it(listener: RedirectListener) -> None:
    threads = {thread for thread in threading.enumerate() if thread.name == "redirect-listener"}
    assert threads
    assert all(thread.daemon for thread in threads)
    listener.close()
    listener.close()
    assert listener.closed
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    with pytest.raises(OSError, match="refused"):
        ask(listener, "/callback")


def test_closing_does_not_wait_for_a_browser_that_says_nothing(listener: RedirectListener) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(listener.callback_url).port), timeout=5):
        ask(listener, "/callback")  # so that the connection before this one has its thread
        began = time.monotonic()
        listener.close()
        assert time.monotonic() - began < 10  # not the 30 seconds after which it is given up


def test_a_browser_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redirect, "_PATIENCE", 0.1)
    with RedirectListener() as listener:
        port = urlsplit(listener.callback_url).port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as browser:
            assert browser.recv(1) == b""


@pytest.mark.parametrize("target", ["http://[/callback?oauth_token=0123", "http://[x]/callback", "http://a]b/"])
def test_a_target_that_is_no_address_is_not_found(
    listener: RedirectListener, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    port = urlsplit(listener.callback_url).port
    with socket.create_connection(("127.0.0.1", port), timeout=5) as browser:
        browser.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert browser.makefile("rb").read().startswith(b"HTTP/1.0 404 ")
    assert capfd.readouterr() == ("", "")  # no traceback of the server's thread


@pytest.mark.parametrize("text", ["https://[x/?oauth_verifier=abc", "https://x]y/?oauth_verifier=abc"])
def test_a_pasted_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(VerifierError, match="no address"):
        oauth._verifier(text, "0123")
