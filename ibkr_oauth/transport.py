"""Requests out, answers back: the face of the C transport, which knows nothing of OAuth."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from . import _core, answers
from ._version import VERSION
from .errors import InvalidValue, ServerError, SessionClosed
from .log import DEBUG, WARNING, Log
from .redact import without_query
from .steps import Send

logger = Log("ibkr_oauth.http")

#: Seconds for a whole exchange, and for name look-up, TCP and TLS together.
DEFAULT_TIMEOUT = 20.0
DEFAULT_CONNECT_TIMEOUT = 10.0


#: Sent with every request: IBKR's network edge answers 403 to requests without one.
USER_AGENT = f"ibkr_oauth/{VERSION}"


#: Asked about each URL before anything is sent there; it raises to refuse. Set by the pytest plugin.
guard: Callable[[str], None] | None = None


def check_allowed(url: str) -> None:
    """Raises what the guard raises."""
    if guard is not None:
        guard(url)


class Headers(Mapping[str, str]):
    """Response headers: names in any case; repeated headers are joined with a comma, `get_all` keeps them apart."""

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self._values: dict[str, list[str]] | None = None

    def _by_name(self) -> dict[str, list[str]]:
        values = self._values
        if values is None:
            made: dict[str, list[str]] = {}
            for name, value in self._pairs:
                made.setdefault(name.lower(), []).append(value)
            values = self._values = made
        return values

    def get_all(self, name: str) -> list[str]:
        return list(self._by_name().get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._by_name()[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name())

    def __len__(self) -> int:
        return len(self._by_name())

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
    byte), `request`. `raise_for_status()` turns a refusal into the error class that says what it means.
    """

    __slots__ = ("_headers", "_looked_through", "_method", "_microseconds", "_url", "content", "status_code")

    def __init__(
        self,
        method: str,
        url: str,
        status_code: int,
        headers: bytes | list[tuple[str, str]],
        content: bytes,
        microseconds: int = 0,
    ) -> None:
        self._method = method
        self._url = url
        self.status_code = status_code
        self._headers = headers
        self._looked_through: Headers | None = None
        self.content = content
        self._microseconds = microseconds

    @property
    def request(self) -> Request:
        """Method and URL of what was asked."""
        return Request(self._method, self._url)

    @property
    def headers(self) -> Headers:
        """Of the final answer."""
        made = self._looked_through
        if made is None:  # made when asked for: most answers are not
            lines = self._headers
            made = self._looked_through = Headers(_core.header_pairs(lines) if isinstance(lines, bytes) else lines)
        return made

    @property
    def elapsed(self) -> timedelta:
        """From the call to the last byte."""
        return timedelta(microseconds=self._microseconds)

    @property
    def text(self) -> str:
        """The body as text: UTF-8 (IBKR's only encoding), broken bytes replaced."""
        return self.content.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises ServerError where it is something else, such as a page of HTML."""
        import json  # noqa: PLC0415 - slow to import, and not every program reads JSON

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
        return f"<Response {self.status_code} {self._method} {without_query(self._url)}>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - for notebooks only

        return html.response(self)


class _Pool:
    """Idle connections that were made with the same options: all sessions of the process share them."""

    __slots__ = ("__weakref__", "idle", "options")

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.forget()

    def forget(self) -> None:
        """In a child: the parent's clients let go without closing."""
        self.idle: deque[_core.HttpClient] = deque(maxlen=_MOST_IDLE)  # the one that was idle longest falls out


_MOST_IDLE = 32
_pools: WeakValueDictionary[tuple[tuple[str, Any], ...], _Pool] = WeakValueDictionary()


def _after_fork() -> None:
    for pool in _pools.values():
        pool.forget()


os.register_at_fork(after_in_child=_after_fork)


class Transport:
    """Connections to one service, kept alive and shared by threads.

    Each thread that sends takes an idle connection or opens another. After `fork` the child opens its own and leaves
    the parent's alone. `options`: of `transport_options`, by default all of its defaults.
    """

    # On the caller's thread, not on the engine's: a call that waits for its answer gains nothing there, and would pay
    # two changes of thread. `make bench` compares both.

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        options = options or transport_options()
        key = tuple(options.items())
        pool = _pools.get(key)
        if pool is None:
            pool = _Pool(options)
            pool.idle.append(_core.HttpClient(**options))  # wrong options show at once
            _pools[key] = pool
        self._pool: _Pool | None = pool
        self._busy: set[_core.HttpClient] = set()
        self._cancelled = 0
        self._closed = False

    def send(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        repeatable: bool | None = None,
    ) -> Response:
        """One request, one answer of any status.

        `timeout`: seconds. `repeatable`: sending it twice does no harm; by default true for GET and HEAD. What is not
        is written to one connection only. Raises TransportError and its kinds, and SessionClosed after `close`.
        """
        if repeatable is None:
            repeatable = method in ("GET", "HEAD")
        step = Send(method, url, milliseconds(timeout), repeatable)
        step.headers, step.body = headers, body
        return self.perform(step)

    def perform(self, step: Send) -> Response:
        """The same for a step of a flow, which is signed on its way."""
        pool = self._pool
        if pool is None:
            raise SessionClosed("the connections were closed")
        if guard is not None:  # as check_allowed, without a function more on the way of each call
            guard(step.url)
        try:
            client = pool.idle.pop()
        except IndexError:
            client = _core.HttpClient(**pool.options)
        cancelled = self._cancelled
        self._busy.add(client)  # before looking at _closed: close() looks in the other order
        try:
            if self._closed:
                raise SessionClosed("the connections were closed")
            answered = client.send(*step.native())
        finally:
            self._busy.discard(client)
            if cancelled == self._cancelled:  # a client that was cancelled may remember it
                pool.idle.append(client)
        return answer(step, answered)

    def close(self) -> None:
        """Ends what is under way. May be called again; sending raises SessionClosed afterwards."""
        self._closed = True
        self._pool = None  # idle connections go with their last user
        self.cancel()

    def cancel(self) -> None:
        """Ends what other threads have under way: their calls raise SessionClosed."""
        self._cancelled += 1
        for client in list(self._busy):
            client.cancel()


def transport_options(
    *,
    ca_file: str | os.PathLike[str] | None = None,
    proxy: str | None = None,
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
) -> dict[str, Any]:
    """As the C core's clients take them: `ca_file` (PEM, else the system's), `proxy` (URL), time-out in seconds."""
    if _core.tls_keys_are_logged():
        # libcurl obeys this variable before anybody can stop it. Who set it by mistake should know.
        logger.log(WARNING, "SSLKEYLOGFILE is set: whoever reads that file can decrypt the TLS traffic of this process")
    if ca_file is not None and not isinstance(ca_file, (str, os.PathLike)):
        raise TypeError(f"ca_file must be a path, not {type(ca_file).__name__}")
    return {
        "user_agent": USER_AGENT,
        "ca_file": None if ca_file is None else os.fspath(ca_file),
        "proxy": proxy,
        "connect_timeout_ms": milliseconds(connect_timeout),
    }


#: What the C core gives for a request: status, header lines, body, microseconds, whether the connection was reused.
Answered: TypeAlias = tuple[int, bytes, bytes, int, bool]


def answer(step: Send, answered: Answered) -> Response:
    """What the C core gave for it, as people see it."""
    status, headers, content, elapsed, reused = answered
    if logger.is_debugging():
        how = ", reused" if reused else ""
        words = "%s %s -> %d, %.1f ms%s"
        logger.log(DEBUG, words, step.method, without_query(step.url), status, elapsed / 1000, how)
    url = _core.url_with_query(step.url, step.params) if step.params else step.url
    return Response(step.method, url, status, headers, content, elapsed)


def milliseconds(seconds: float) -> int:
    """For the C core. Raises InvalidValue unless it is a time-out: a positive number of seconds below a day."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"a timeout must be a number of seconds, not {type(seconds).__name__}")
    if not 0 < seconds <= 86_400:
        raise InvalidValue("a timeout must be a number of seconds above 0 and at most 86400")
    return max(1, round(seconds * 1000))
