"""The user's browser in the second leg: small loopback servers for its way back, and out."""

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
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 28rem; padding: 0 1rem }}</style>
</head>
<body><main><h1>{title}</h1><p>{text}</p></main></body>
</html>
"""


class RedirectListener:
    """Waits at 127.0.0.1 for the redirect of one request token, on threads of its own.

    `port`: 0 for a free one. `path`: of the callback. `callback_url` is what the consumer registers. Refused, with the
    reason on the page: another path, a redirect of another or of no request token, a `Host` that is not this machine
    (a page elsewhere whose name leads here), and whatever comes after the answer.
    """

    _other_way = " Or leave --callback out, and paste the address that the browser ends at."

    def __init__(self, port: int = 0, path: str = _CALLBACK) -> None:
        self._answers: queue.Queue[dict[str, str]] = queue.Queue()
        self._expected = ""
        self._path = path
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._make_handler())
        self._server.daemon_threads = True
        self._hosts = {f"{name}:{self._server.server_port}" for name in ("127.0.0.1", "localhost")}
        self.callback_url = f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="redirect-listener", daemon=True).start()
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
                f"and grant access there.{self._other_way}",
            ) from None
        verifier = answer.get("oauth_verifier", "")
        if not verifier:
            raise AuthorizationError("access was denied on the consent page", advice="Run it again and grant access.")
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
        if request.headers.get("Host") not in self._hosts:
            _respond_page(request, 421, "Not for this address", "Open it as 127.0.0.1 or localhost.")
        elif parts.path == self._path:
            self._take_answer(request, {name: one[-1] for name, one in parse_qs(parts.query).items()})
        else:
            self._get_other(request, parts.path)

    def _get_other(self, request: BaseHTTPRequestHandler, path: str) -> None:  # noqa: ARG002
        _respond_page(request, 404, "Not found", "There is nothing here.")

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        _respond_page(request, 405, "Not allowed", "There is nothing to send here.")

    def _take_answer(self, request: BaseHTTPRequestHandler, answer: dict[str, str]) -> None:
        token = answer.get("oauth_token", "").encode()
        if not self._expected or not hmac.compare_digest(token, self._expected.encode()):
            words = "This answer belongs to another request token."
            _respond_page(request, 400, "Not the answer that was expected", words)
            return
        title = "Access granted" if "oauth_verifier" in answer else "Access denied"
        _respond_page(request, 200, title, "You may close this window and return to the terminal.")
        self._expected = ""
        self._answers.put(answer)


class ConsentListener(RedirectListener):
    """Serves the consent page, too: for a sandbox, whose certificate no browser trusts.

    `authorize_url` is the consent page of `consent_page` (https) handed on unchanged. `url` leads there too, and holds
    no token.
    """

    _other_way = " Without --open no page is needed."

    def __init__(self, consent_page: str, ca_file: Path | None) -> None:
        super().__init__()
        parts = urlsplit(consent_page)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = ssl.create_default_context(cafile=ca_file)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.authorize_url = f"{self.url[:-1]}{_AUTHORIZE}"

    def _get_other(self, request: BaseHTTPRequestHandler, path: str) -> None:
        if path == "/" and self._expected:
            location = f"{_AUTHORIZE}?oauth_token={self._expected}"
            _respond(request, 302, b"", {"Location": location})
        elif path == _AUTHORIZE:
            self._hand_on(request)
        else:
            super()._get_other(request, path)

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        length = request.headers.get("Content-Length", "")
        if request.path != _AUTHORIZE or not length.isdecimal() or int(length) > _MAX_FORM:
            _respond_page(request, 400, "Bad request", "This is not an answer to the consent page.")
            return
        self._hand_on(request, request.rfile.read(int(length)))

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
