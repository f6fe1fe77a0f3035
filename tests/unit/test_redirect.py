"""The way back from the consent page: requests that are no redirect, and pasted texts that are no address."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from ibkr_oauth import oauth
from ibkr_oauth.errors import VerifierError
from ibkr_oauth.redirect import RedirectListener


@pytest.fixture
def listener() -> Iterator[RedirectListener]:
    with RedirectListener() as one:
        one.expect("0123")
        yield one


def send(listener: RedirectListener, target: str) -> bytes:
    port = int(listener.callback_url.split(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as browser:
        browser.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        return browser.makefile("rb").read()


@pytest.mark.parametrize("target", ["http://[/callback?oauth_token=0123", "http://[x]/callback", "http://a]b/"])
def test_a_target_that_is_no_address_is_not_found(
    listener: RedirectListener, capfd: pytest.CaptureFixture[str], target: str
) -> None:
    assert send(listener, target).startswith(b"HTTP/1.0 404 ")
    assert capfd.readouterr() == ("", "")  # no traceback of the server's thread


@pytest.mark.parametrize("text", ["https://[x/?oauth_verifier=abc", "https://x]y/?oauth_verifier=abc"])
def test_a_pasted_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(VerifierError, match="no address"):
        oauth._verifier(text, "0123")
