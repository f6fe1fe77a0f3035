"""What a flow asks of whoever runs it: a thread (`session.py`) or a task (`aio.py`).

A flow is a generator. It yields one of these and is resumed with the result, or with the error that came instead. So
everything that decides about signing, renewing and repeating is written once, and never waits by itself.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ._core import RequestSigner

Result = TypeVar("Result")


class Lines(list[tuple[str, str]]):
    """Header lines. Some hold signatures and cookies, so none are shown: local variables end up in error reports."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} header lines>"


TextPairs: TypeAlias = list[tuple[str, str]]


class Send:
    """Send a request once; gives the Response. `timeout_ms`: milliseconds, checked. See `Transport.send`.

    With a `signer` it is signed on its way out, in C; without one `url` and `headers` are complete.
    """

    body: bytes | None = None
    headers: Sequence[tuple[str, str]] = ()
    signer: RequestSigner | None = None
    params: TextPairs | None = None  # of the query, to be signed
    form: TextPairs | None = None  # the fields of one in the body, to be signed
    nonce: str | None = None  # None: a new one
    timestamp = 0.0  # seconds since 1970, as the signature is to have it

    def __init__(self, method: str, url: str, timeout_ms: int, repeatable: bool) -> None:
        self.method = method
        self.url = url
        self.timeout_ms = timeout_ms
        self.repeatable = repeatable

    def native(self) -> tuple[Any, ...]:
        """The arguments of the C core's senders, which sign."""
        return (
            self.method,
            self.url,
            self.headers,
            self.body,
            self.repeatable,
            self.timeout_ms,
            self.signer,
            self.params,
            self.form,
            self.nonce,
            int(self.timestamp),
        )

    def signed(self) -> tuple[str, Lines]:
        """URL and headers as they go out, for senders that do not sign."""
        headers = Lines(self.headers)
        if self.signer is None:
            return self.url, headers
        url, header = self.signer.sign(self.method, self.url, self.params, self.form, self.nonce, int(self.timestamp))
        headers.append(("Authorization", header))
        return url, headers


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
