"""A person at the sandbox's login and consent pages, whose browser is urllib: it has cookies, and shows what it gets."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import pytest


class Person(urllib.request.HTTPRedirectHandler):
    def __init__(self, ca_file: Path | None = None) -> None:
        handlers: list[urllib.request.BaseHandler] = [self, urllib.request.HTTPCookieProcessor()]
        if ca_file is not None:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def redirect_request(self, request, answer, code, words, headers, url):  # type: ignore[no-untyped-def]
        """To the pages and from one to the next, and not from there to the consumer."""
        follows = urlsplit(url).path == "/authorize"
        return super().redirect_request(request, answer, code, words, headers, url) if follows else None

    def log_in(self, url: str) -> tuple[str, str]:
        """Does what the login page says. Returns the address of the consent page, and the page."""
        with self._opener.open(url, timeout=10) as page:
            login, html = page.url, page.read().decode()
        found = re.search(r"with the password <code>(\w+)</code>", html)
        assert found, html
        with self._submit(login, html, username="paper", password=found[1]) as page:
            return page.url, page.read().decode()

    def decide(self, consent_page: tuple[str, str], decision: str) -> str:
        """Presses a button of the page that `log_in` led to; returns where the browser is sent."""
        with pytest.raises(urllib.error.HTTPError) as sent:
            self._submit(*consent_page, decision=decision)
        with sent.value as redirect:
            assert redirect.code == 302
            return str(redirect.headers["Location"])

    def answer(self, url: str, decision: str) -> str:
        """Both."""
        return self.decide(self.log_in(url), decision)

    def _submit(self, url: str, html: str, **typed: str):  # type: ignore[no-untyped-def]
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html)) | typed
        headers = {"Origin": "{0.scheme}://{0.netloc}".format(urlsplit(url))}
        request = urllib.request.Request(urljoin(url, "/authorize"), urlencode(fields).encode(), headers)
        return self._opener.open(request, timeout=10)
