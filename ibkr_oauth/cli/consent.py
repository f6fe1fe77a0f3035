"""The consent page of a sandbox, for a browser that does not trust the sandbox's certificate."""

from __future__ import annotations

import ssl
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from ibkr_oauth.redirect import RedirectListener, respond, respond_page

_AUTHORIZE = "/authorize"
_MAX_FORM = 10_000  # bytes; the consent page's form has some hundred
_PASSED_ON = ("Content-Type", "Location", "Content-Security-Policy", "Referrer-Policy", "Set-Cookie")


class ConsentListener(RedirectListener):
    """Serves the consent page, too: for a sandbox, whose certificate no browser trusts.

    `authorize_url` is the consent page of `consent_page` (https) handed on unchanged. `url` leads there too, and holds
    no token.
    """

    _other_way = " Without --open no page is needed."

    def __init__(self, consent_page: str, ca_file: Path | None) -> None:
        parts = urlsplit(consent_page)
        self._host, self._port = parts.hostname or "", parts.port
        self._tls = ssl.create_default_context(cafile=ca_file)
        super().__init__()  # from here on it answers
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.authorize_url = f"{self.url[:-1]}{_AUTHORIZE}"

    def _get_other(self, request: BaseHTTPRequestHandler, path: str) -> None:
        if path == "/" and self._expected:
            location = f"{_AUTHORIZE}?oauth_token={self._expected}"
            respond(request, 302, b"", {"Location": location})
        elif path == _AUTHORIZE:
            self._hand_on(request)
        else:
            super()._get_other(request, path)

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        length = request.headers.get("Content-Length", "")
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if host not in self._hosts or origin not in (None, f"http://{host}"):
            respond_page(request, 403, "Not from this page", "This answer does not come from the consent page.")
            return
        if request.path != _AUTHORIZE or not length.isdecimal() or int(length) > _MAX_FORM:
            respond_page(request, 400, "Bad request", "This is not an answer to the consent page.")
            return
        self._hand_on(request, request.rfile.read(int(length)))

    def _hand_on(self, request: BaseHTTPRequestHandler, form: bytes | None = None) -> None:
        """Ask the sandbox the same over TLS, and answer what it answers. The origin would be ours, and stays here."""
        headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        if "Cookie" in request.headers:
            headers["Cookie"] = request.headers["Cookie"]
        connection = HTTPSConnection(self._host, self._port, context=self._tls, timeout=10)
        try:
            connection.request(request.command, request.path, form, headers)
            answer = connection.getresponse()
            body = answer.read()
            passed_on = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        except (OSError, HTTPException):
            respond_page(request, 502, "No answer", "The sandbox did not answer.")
        else:
            respond(request, answer.status, body, passed_on)
        finally:
            connection.close()
