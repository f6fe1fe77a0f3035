"""OpenTelemetry spans, where the program uses OpenTelemetry. Otherwise nothing is imported, and nothing is spent."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from .transport import Response

#: The module that a program which uses OpenTelemetry has imported: spans are made where it is in `sys.modules`.
API = "opentelemetry.trace"


class Span:
    """One call, retries included."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def done(self, response: Response) -> Response:
        """Notes what came back, and hands it on."""
        self._span.set_attribute("http.response.status_code", response.status_code)
        return response


@contextmanager
def span(method: str, path: str) -> Generator[Span]:
    """A client span. Errors end it with their class and message, which hold no secret; queries are not shown."""
    trace = sys.modules[API]
    attributes = {"http.request.method": method, "url.path": path}
    tracer = trace.get_tracer("ibkr_oauth")
    with tracer.start_as_current_span(f"{method} {path}", kind=trace.SpanKind.CLIENT, attributes=attributes) as opened:
        yield Span(opened)
