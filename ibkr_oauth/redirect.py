"""The user's browser on its way back from the consent page: a small server on this machine catches the redirect."""

from __future__ import annotations

import queue
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from .closing import Closing
from .errors import AuthorizationError

#: Under these names a browser on this machine reaches a listener.
HOSTS = ("127.0.0.1", "localhost")

_CALLBACK = "/callback"
#: Seconds for a browser that connects ahead of need and says nothing.
_PATIENCE = 30.0

# Colours are the browser's own, so that light and dark are what the user has chosen.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · ibkr_oauth</title>
<style nonce="{nonce}">
body {{
  margin: 15vh auto; max-width: 28rem; padding: 0 1.5rem;
  background: Canvas; color: CanvasText; font: 1rem/1.5 system-ui, sans-serif;
}}
h1 {{ font-size: 1.375rem; line-height: 1.3; }}
</style>
</head>
<body><main><h1>{title}</h1><p>{text}</p></main></body>
</html>
"""


class RedirectListener(Closing):
    """Waits at 127.0.0.1 for the redirect of one request token, on threads of its own, from the beginning.

    `port`: 0 for a free one. `path`: of the callback. `callback_url` is what the consumer registers. Refused, with the
    reason on the page: another path, a redirect of another or of no request token, a `Host` that is not this machine
    (a page elsewhere whose name leads here), and whatever comes after the answer.
    """

    _other_way = " Or leave the callback out, and paste the address that the browser ends at."

    def __init__(self, port: int = 0, path: str = _CALLBACK) -> None:
        self._answers: queue.Queue[dict[str, str]] = queue.Queue()
        self._expected = ""
        self._taking = threading.Lock()
        self.closed = False
        self._path = path
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._make_handler())
        self._server.daemon_threads = True
        self._hosts = {f"{name}:{self._server.server_port}" for name in HOSTS}
        self.callback_url = f"http://127.0.0.1:{self._server.server_port}{path}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="redirect-listener", daemon=True).start()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
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
                advice="Start again, open the address in a browser on this machine, and grant access there."
                f"{self._other_way}",
            ) from None
        verifier = answer.get("oauth_verifier", "")
        if not verifier:
            raise AuthorizationError("access was denied on the consent page", advice="Start again and grant access.")
        return verifier

    # --- Requests, on the server's threads --------------------------------------------------------

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE

            def do_GET(self) -> None:
                listener._get(self)

            def do_POST(self) -> None:
                listener._post(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing: the addresses hold tokens."""

        return Handler

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        path, query = _split(request.path)
        if request.headers.get("Host") not in self._hosts:
            respond_page(request, 421, "Not for this address", "Open it as 127.0.0.1 or localhost.")
        elif path == self._path:
            self._take_answer(request, {name: one[-1] for name, one in parse_qs(query).items()})
        else:
            self._get_other(request, path)

    def _get_other(self, request: BaseHTTPRequestHandler, path: str) -> None:  # noqa: ARG002
        respond_page(request, 404, "Not found", "There is nothing here.")

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        respond_page(request, 405, "Not allowed", "There is nothing to send here.")

    def _take_answer(self, request: BaseHTTPRequestHandler, answer: dict[str, str]) -> None:
        token = answer.get("oauth_token", "").encode()
        with self._taking:
            is_expected = bool(self._expected) and secrets.compare_digest(token, self._expected.encode())
            if is_expected:
                self._expected = ""
        if not is_expected:
            words = "This answer belongs to another request token, or was given before."
            respond_page(request, 400, "Not the answer that was expected", words)
            return
        title = "Access granted" if "oauth_verifier" in answer else "Access denied"
        try:
            respond_page(request, 200, title, "You may close this window and return to your program.")
        finally:  # the browser may have gone; and not before, since whoever waits for the answer may end the program
            self._answers.put(answer)


def _split(target: str) -> tuple[str, str]:
    """Path and query of a request's target; of one that is no address, none."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "", ""
    return parts.path, parts.query


def respond_page(request: BaseHTTPRequestHandler, status: int, title: str, text: str) -> None:
    nonce = secrets.token_urlsafe(12)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'none'; "
        "base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    respond(request, status, _PAGE.format(title=title, text=text, nonce=nonce).encode(), headers)


def respond(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Cache-Control", "no-store")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
