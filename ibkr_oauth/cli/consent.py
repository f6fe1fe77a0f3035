"""The user's browser in the second leg: a small loopback server for its way out and back."""

from __future__ import annotations

import hmac
import queue
import ssl
import threading
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from ibkr_oauth.errors import AuthorizationError

_AUTHORIZE = "/authorize"
_CALLBACK = "/callback"
_MAX_FORM = 10_000  # bytes; the consent page's form has some hundred
_PASSED_ON = ("Content-Type", "Location", "Content-Security-Policy", "Referrer-Policy")

_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head>
<body style="font: 1rem/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 28rem">
<h1>{title}</h1>
<p>{text}</p>
</body>
</html>
"""


class ConsentListener:
    """Serves one request token's consent on a free port of 127.0.0.1, on threads of its own.

    `callback_url` is what the consumer registers: there the verifier arrives. `authorize_url` is the
    consent page of `consent_page` (https) handed on unchanged, since no browser trusts the
    certificate of a sandbox. `url` leads there too, and holds no token.
    """

    def __init__(self, consent_page: str, ca_file: Path | None) -> None:
        self._answers: queue.Queue[dict[str, str]] = queue.Queue()
        self._expected = ""
        parts = urlsplit(consent_page)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.authorize_url = f"{self.url[:-1]}{_AUTHORIZE}"
        self.callback_url = f"{self.url[:-1]}{_CALLBACK}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="consent-listener", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def expect(self, request_token: str) -> None:
        """Accept the answer about this request token and no other."""
        self._expected = request_token

    def wait(self, seconds: float) -> str:
        """The verifier. Raises AuthorizationError if the user denies, or answers too late."""
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise AuthorizationError(
                f"nobody answered on the consent page within {seconds:.0f} s",
                advice="Run it again, open the address that it prints in a browser on this machine, "
                "and press Approve. Without --open no page is needed.",
            ) from None
        verifier = answer.get("oauth_verifier", "")
        if not verifier:
            raise AuthorizationError("access was denied on the consent page", advice="Run it again and press Approve.")
        return verifier

    # --- Requests, on the server's threads --------------------------------------------------------

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30  # seconds for a browser that connects ahead of need and says nothing

            def do_GET(self) -> None:
                listener._get(self)

            def do_POST(self) -> None:
                listener._post(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing: the addresses hold tokens."""

        return Handler

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        if parts.path == "/" and self._expected:
            location = f"{_AUTHORIZE}?oauth_token={self._expected}"
            _respond(request, 302, b"", {"Location": location})
        elif parts.path == _AUTHORIZE:
            self._hand_on(request)
        elif parts.path == _CALLBACK:
            self._take_answer(request, {name: one[-1] for name, one in parse_qs(parts.query).items()})
        else:
            _respond_page(request, 404, "Not found", "There is nothing here.")

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        length = request.headers.get("Content-Length", "")
        if request.path != _AUTHORIZE or not length.isdecimal() or int(length) > _MAX_FORM:
            _respond_page(request, 400, "Bad request", "This is not an answer to the consent page.")
            return
        self._hand_on(request, request.rfile.read(int(length)))

    def _take_answer(self, request: BaseHTTPRequestHandler, answer: dict[str, str]) -> None:
        token = answer.get("oauth_token", "").encode()
        if not self._expected or not hmac.compare_digest(token, self._expected.encode()):
            words = "This answer belongs to another request token."
            _respond_page(request, 400, "Not the answer that was expected", words)
            return
        title = "Access granted" if "oauth_verifier" in answer else "Access denied"
        _respond_page(request, 200, title, "You may close this window and return to the terminal.")
        self._answers.put(answer)

    def _hand_on(self, request: BaseHTTPRequestHandler, form: bytes | None = None) -> None:
        """Ask the sandbox the same over TLS, and answer what it answers."""
        headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        connection = HTTPSConnection(self._host, self._port, context=self._tls, timeout=10)
        try:
            connection.request(request.command, request.path, form, headers)
            answer = connection.getresponse()
            body = answer.read()
            passed_on = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        except (OSError, HTTPException):
            _respond_page(request, 502, "No answer", "The sandbox did not answer.")
        else:
            _respond(request, answer.status, body, passed_on)
        finally:
            connection.close()


def _respond_page(request: BaseHTTPRequestHandler, status: int, title: str, text: str) -> None:
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "Referrer-Policy": "no-referrer",
    }
    _respond(request, status, _PAGE.format(title=title, text=text).encode(), headers)


def _respond(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Cache-Control", "no-store")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
