"""Requests out, answers back: the face of the C transport, which knows nothing of OAuth."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from . import _core, answers
from .errors import InvalidValue, ServerError
from .redact import without_query

logger = logging.getLogger("ibkr_oauth.http")

#: Seconds for a whole exchange, and for name look-up, TCP and TLS together.
DEFAULT_TIMEOUT = 20.0
DEFAULT_CONNECT_TIMEOUT = 10.0


@cache
def user_agent() -> str:
    """Sent with every request: IBKR's network edge answers 403 to requests without one."""
    from importlib import metadata  # noqa: PLC0415 - takes longer to import than the rest of this package

    try:
        return f"ibkr_oauth/{metadata.version('ibkr_oauth')}"
    except metadata.PackageNotFoundError:  # run from a folder or a bundle without it
        return "ibkr_oauth/0"


class Headers(Mapping[str, str]):
    """Response headers: names in any case; repeated headers are joined with a comma, `get_all` keeps them apart."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.lower() for key, _ in self._pairs))

    def __len__(self) -> int:
        return len({key.lower() for key, _ in self._pairs})

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"


class Request:
    """What was asked: `method` and `url` (with its query). Headers are not kept, since they hold the signature."""

    __slots__ = ("method", "url")

    def __init__(self, method: str, url: str) -> None:
        self.method = method
        self.url = url

    def __repr__(self) -> str:
        return f"<Request {self.method} {without_query(self.url)}>"


class Response:
    """An HTTP answer.

    `status_code`, `headers` (any case), `content` (bytes), `text`, `json()`, `elapsed` (timedelta from call to last
    byte),
    `request`. `raise_for_status()` turns a refusal into the error class that says what it means.
    """

    __slots__ = ("content", "elapsed", "headers", "request", "status_code")

    def __init__(
        self,
        request: Request,
        status_code: int,
        headers: Headers,
        content: bytes,
        elapsed: timedelta = timedelta(),
    ) -> None:
        self.request = request
        self.status_code = status_code
        self.headers = headers
        self.content = content
        self.elapsed = elapsed

    @property
    def text(self) -> str:
        """The body as text: UTF-8 (IBKR's only encoding), broken bytes replaced."""
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises ServerError where it is something else, such as a page of HTML."""
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(self.content)
        # Outside of the handler: json's own error keeps the whole text, and would be kept as context.
        kind = self.headers.get("content-type", "no content type")
        raise answers.describe(self, ServerError, f"the answer is not JSON ({kind}, {len(self.content)} bytes)")

    def raise_for_status(self) -> Response:
        """This response, or the error that its status and body mean (400 and above)."""
        error = answers.error_of(self)
        if error is not None:
            raise error
        return self

    def __repr__(self) -> str:
        return f"<Response {self.status_code} {self.request.method} {without_query(self.request.url)}>"


class Transport:
    """Connections to one service, kept alive and shared by threads.

    Each thread that sends takes an idle connection or opens another. After `fork` the child opens its own and leaves
    the parent's alone. Options: `ca_file` (PEM; otherwise the system's), `proxy` (URL), `connect_timeout` in seconds.
    """

    def __init__(
        self,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
    ) -> None:
        self._options: dict[str, Any] = {
            "user_agent": user_agent(),
            "ca_file": None if ca_file is None else os.fspath(ca_file),
            "proxy": proxy,
            "connect_timeout_ms": milliseconds(connect_timeout),
        }
        self._idle: deque[_core.HttpClient] = deque()
        self._pid = os.getpid()
        self._give_back(_core.HttpClient(**self._options))  # wrong options show at once
        if _core.tls_keys_are_logged():
            # libcurl obeys this variable before anybody can stop it. Who set it by mistake should know.
            logger.warning("SSLKEYLOGFILE is set: whoever reads that file can decrypt the TLS traffic of this process")

    def _take(self) -> _core.HttpClient:
        if self._pid != os.getpid():
            # Dropping the parent's clients is safe: a client that finds itself in a child lets go without closing.
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return _core.HttpClient(**self._options)

    def _give_back(self, client: _core.HttpClient) -> None:
        self._idle.append(client)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Response:
        """One request, one answer of any status. Raises TransportError and its kinds; never repeats a POST."""
        client = self._take()
        repeatable = method in ("GET", "HEAD")
        try:
            status, pairs, content, elapsed, reused = client.send(
                method, url, list(headers.items()), body, repeatable, milliseconds(timeout)
            )
        finally:
            self._give_back(client)
        logger.debug(
            "%s %s -> %d, %.1f ms%s",
            method,
            without_query(url),
            status,
            elapsed / 1000,
            ", reused" if reused else "",
        )
        return Response(Request(method, url), status, Headers(pairs), content, timedelta(microseconds=elapsed))

    def close(self) -> None:
        """Closes the idle connections. Sending afterwards opens new ones."""
        self._idle.clear()


def milliseconds(seconds: float) -> int:
    """For the C core. Raises InvalidValue unless it is a time-out: a positive number of seconds below a day."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"a timeout must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds <= 86_400:
        raise InvalidValue("a timeout must be a number of seconds above 0 and at most 86400")
    return max(1, round(seconds * 1000))
