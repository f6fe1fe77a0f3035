"""What a flow asks of whoever runs it: a thread (`session.py`) or a task (`aio.py`).

A flow is a generator. It yields one of these and is resumed with the result, or with the error that came instead. So
everything that decides about signing, renewing and repeating is written once, and never waits by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ._core import RequestSigner

Result = TypeVar("Result")


class Lines(list[tuple[str, str]]):
    """Header lines. Some hold signatures and cookies, so none are shown: local variables end up in error reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} header lines>"


class Send:
    """Send a request once; gives the Response. `timeout`: seconds. See `Transport.send`."""

    __slots__ = ("body", "headers", "method", "repeatable", "timeout", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Lines,
        body: bytes | None,
        timeout: float,
        repeatable: bool,
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.timeout = timeout
        self.repeatable = repeatable


class Pause:
    """Wait; gives None."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Gate(Protocol):
    """A lock or semaphore of the threads or tasks that run the flows."""

    def release(self) -> None: ...


class Enter:
    """Wait for a gate and take it; gives None. The flow gives it back itself: that takes no waiting."""

    __slots__ = ("gate",)

    def __init__(self, gate: Gate) -> None:
        self.gate = gate


class Background:
    """Let another flow run beside this one; gives None at once."""

    __slots__ = ("steps",)

    def __init__(self, steps: Steps[None]) -> None:
        self.steps = steps


class Adopt:
    """There is a new live session token: the keep-alive is to sign with it from now on; gives None."""

    __slots__ = ("signer",)

    def __init__(self, signer: RequestSigner) -> None:
        self.signer = signer


Step: TypeAlias = Send | Pause | Enter | Background | Adopt
Steps: TypeAlias = Generator[Step, Any, Result]
