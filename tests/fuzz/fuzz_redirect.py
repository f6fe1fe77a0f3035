"""The way back from the consent page: what a browser, or anything else on this machine, sends to the listener, and what a
person pastes. Nothing but the answer about the expected request token is taken, nothing raises what is not ours, and no
byte of the request comes back as HTML.

Input: a byte that chooses, then a request as it comes in, or the pasted text.
"""

from __future__ import annotations

import io
import queue
import re
from urllib.parse import unquote_plus

from harness import Input, as_text, main, watched

with watched("ibkr_oauth.redirect", "ibkr_oauth.oauth"):
    from ibkr_oauth import oauth, redirect
    from ibkr_oauth.errors import VerifierError

TOKEN = "0123456789abcdef0123"

listener = redirect.RedirectListener()
handler = listener._make_handler()
port = listener._server.server_port


class Connection:
    """As much of a socket as a handler needs."""

    def __init__(self, request: bytes) -> None:
        self.request = io.BytesIO(request)
        self.answer = b""

    def settimeout(self, seconds: float) -> None:
        pass

    def makefile(self, mode: str, size: int = -1) -> io.BytesIO:
        return self.request

    def sendall(self, data: bytes) -> None:
        self.answer += data


def send(request: bytes) -> tuple[bytes, dict[str, str] | None]:
    """What the listener answers, and what it passes on."""
    listener.expect(TOKEN)
    connection = Connection(request)
    handler(connection, ("127.0.0.1", 1), listener._server)  # type: ignore[arg-type]
    try:
        return connection.answer, listener._answers.get_nowait()
    except queue.Empty:
        return connection.answer, None


def check_request(data: bytes) -> None:
    request = data.replace(b"PORT", str(port).encode())
    answer, taken = send(request)
    head, _, body = answer.partition(b"\r\n\r\n")
    if answer and not answer.startswith(b"<"):  # HTTP/0.9 has no head
        assert re.match(rb"HTTP/1\.[01] [2-5]\d\d [^\x00-\x1f\x7f]*\r\n", answer), answer
        names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
        assert len(set(names)) == len(names), names
    # Our pages hold no word of the request; those of http.server quote it, escaped.
    assert not re.search(rb"<(?!/?(?:!doctype|html|head|meta|title|style|body|main|h1|p)\b)", body, re.IGNORECASE), body
    if taken is not None:
        text = request.decode("latin-1")  # as http.server reads it
        said = unquote_plus(text)
        lines = text.replace("\r", "\n")  # which it takes for the end of a line, too
        assert taken.get("oauth_token") == TOKEN
        assert TOKEN in said
        assert taken.get("oauth_verifier", "") in said
        assert re.search(rf"(?im)^host:\s*(?:127\.0\.0\.1|localhost):{port}\s*$", lines), request
        assert b"<h1>Access granted" in answer or b"<h1>Access denied" in answer


def check_pasted(text: str) -> None:
    try:
        verifier = oauth._verifier(text, TOKEN)
    except VerifierError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", verifier)
    assert verifier in unquote_plus(
        re.sub(r"[\t\r\n]", "", text)
    )  # a terminal breaks lines, and urlsplit passes over that


def target(data: bytes) -> None:
    given = Input(data)
    if given.choice(2):
        check_request(given.rest)
    else:
        check_pasted(as_text(given.rest))


if __name__ == "__main__":
    main(target)
