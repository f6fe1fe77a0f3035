"""The same test for `Session` and `AsyncSession`, and what must be as before once a fault is over."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import pickle
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ibkr_oauth import AccessToken, AsyncSession, Consumer, IBKROAuthError, LiveSessionToken, Response, Session
from ibkr_oauth.clock import Clock

ACCESS_TOKEN = "planted0access0token"
COOKIE = "planted0cookie"
QUERY = "planted0query"
BODY = "planted0body"
DECRYPTED = "planted0secret0of0the0token"
LIVE = "cGxhbnRlZHBsYW50ZWRwbGFudGU="

#: Without waiting, repeating and ticking: one call, one attempt.
PLAIN: dict[str, Any] = {"keep_alive": None, "pacing": None, "retries": 0, "timeout": 5.0, "brokerage": "never"}


class NoWaiting(Clock):
    """Back-off in no time."""

    def sleep(self, seconds: float, closing: threading.Event) -> None:
        """At once."""

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Caller(Protocol):
    """A session, called as a plain function would be."""

    session: Any

    def request(self, method: str, path: str, **keywords: Any) -> Response: ...
    def run(self, name: str, *arguments: Any, **keywords: Any) -> Any: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SyncCaller:
    """With a `Session`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.session = Session(*arguments, **options)

    def request(self, method: str, path: str, **keywords: Any) -> Response:
        return self.session.request(method, path, **keywords)

    def run(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Any other method."""
        return getattr(self.session, name)(*arguments, **keywords)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()


class AsyncCaller:
    """With an `AsyncSession`, on a loop of its own that runs while a call does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.session = AsyncSession(*arguments, **options)
        self._runner = asyncio.Runner()
        self._runner.get_loop()  # its descriptors are there from the beginning

    def request(self, method: str, path: str, **keywords: Any) -> Response:
        return self._runner.run(self.session.request(method, path, **keywords))

    def run(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Any other method."""
        return self._runner.run(getattr(self.session, name)(*arguments, **keywords))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self.session.close())
        finally:
            self._runner.close()


CALLERS: dict[str, type[SyncCaller | AsyncCaller]] = {"sync": SyncCaller, "async": AsyncCaller}


def credentials(consumer: Consumer) -> dict[str, Any]:
    """Of a session that is signed on already, and has a cookie: nothing but the calls themselves is sent."""
    expires_at = datetime.now(UTC) + timedelta(days=1)
    token = LiveSessionToken(LIVE, expires_at=expires_at, consumer_key=consumer.key, access_token=ACCESS_TOKEN)
    return {
        "consumer": consumer,
        "access_token": AccessToken(ACCESS_TOKEN, _encrypted(consumer)),
        "live_session_token": token,
        "cookie": COOKIE,
    }


@cache
def _encrypted(consumer: Consumer) -> str:
    """A secret as the portal gives it."""
    key = serialization.load_pem_public_key(consumer.encryption_key.public_pem().encode())
    assert isinstance(key, rsa.RSAPublicKey)
    return base64.b64encode(key.encrypt(DECRYPTED.encode(), padding.PKCS1v15())).decode()


def secret_call(method: str) -> dict[str, Any]:
    """Arguments with something in them that no error, log or repr may show."""
    return {"params": {"q": QUERY}} if method == "GET" else {"params": {"q": QUERY}, "json": {"order": BODY}}


# --- Secrets -------------------------------------------------------------------------------------

#: Never to be seen at all; a signature is known by its name.
OURS = (LIVE, COOKIE, ACCESS_TOKEN, DECRYPTED, DECRYPTED.encode().hex(), "oauth_signature")


def assert_hidden(error: BaseException, records: list[logging.LogRecord]) -> None:
    """No secret in what the error shows, nor in the log."""
    texts = [text for link in _chain(error) for text in (str(link), repr(link), repr(vars(link)))]
    texts += [repr(pickle.dumps(error)), *traceback.format_exception(error)]
    texts += [logging.Formatter().format(record) for record in records]
    for text in texts:
        for secret in (*OURS, QUERY, BODY):
            assert secret not in text


def assert_locals_hidden(error: BaseException) -> None:
    """Nothing of the session's own in the local variables of a traceback, which some programs log."""
    for link in _chain(error):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if "ibkr_oauth" in Path(frame.f_code.co_filename).parts:
                shown = {
                    name for name, value in frame.f_locals.items() if any(secret in repr(value) for secret in OURS)
                }
                assert not shown, frame.f_code.co_qualname


def _chain(error: BaseException) -> list[BaseException]:
    links = [error]
    while (link := links[-1].__cause__ or links[-1].__context__) is not None:
        links.append(link)
    return links


def assert_helpful(error: BaseException) -> None:
    """An error of ours, in one or two lines of plain text, with advice."""
    assert isinstance(error, IBKROAuthError)
    assert error.message
    assert error.message.isprintable()
    assert len(error.message) < 400
    assert error.advice in str(error)
    assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__


# --- Leaks ---------------------------------------------------------------------------------------

counts = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")


def state_of_process() -> tuple[int, int]:
    """How many descriptors are open, and how many threads there are, not only Python's."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


def eventually(expected: tuple[int, int], patience: float = 5.0) -> None:
    """For what another thread does a moment later, such as closing a socket. Raises AssertionError."""
    deadline = time.monotonic() + patience
    while (found := state_of_process()) != expected and time.monotonic() < deadline:
        time.sleep(0.002)
    assert found == expected


def resident_bytes() -> int:
    """Of memory that this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
