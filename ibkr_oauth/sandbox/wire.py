"""Connections as the sandbox sees them: each can be cut, hard and at a chosen byte.

Uvicorn writes an answer to an asyncio transport. `Wire` stands between the two: it gathers head and
body into one packet, and cuts the connection where a fault wants it cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

_LINGER_NOT = struct.pack("ii", 1, 0)  # close at once, with a reset

Kept = Callable[[int], int]
"""From the length of an answer in bytes, head included, to how many of them are sent before the cut."""


class Wire:
    """One connection. What is not defined here is done by the transport itself."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._socket: socket.socket | None = transport.get_extra_info("socket")
        self._held: list[bytes] | None = None
        self._kept: Kept | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self, kept: Kept | None = None) -> None:
        """Gather what is written until `release`; with `kept`, send so much of it and then cut."""
        self._held, self._kept = [], kept

    def write(self, data: bytes) -> None:
        """Send, or gather."""
        if self._held is None:
            self._transport.write(data)
        else:
            self._held.append(data)

    def release(self) -> None:
        """Send what was gathered; a cut that was asked for comes after it."""
        held, kept = self._held, self._kept
        self._held = self._kept = None
        if held is None or self._transport.is_closing():
            return
        answer = b"".join(held)
        self._transport.write(answer if kept is None else answer[: kept(len(answer))])
        if kept is not None:
            self.cut()

    def close(self) -> None:
        """Close in order, once everything is sent."""
        self.release()
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        # Python's TLS transport forgets its protocol when it is closed twice. Then abort fails (3.11.2) or does nothing
        # (3.11.7); the socket is ended either way.
        with contextlib.suppress(AttributeError):
            self._transport.abort()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End the connection with a TCP reset: what the client has not sent or read by then is lost."""
        if not self._transport.is_closing() and self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._transport.abort()


class HTTPProtocol(H11Protocol):
    """Uvicorn's, on a `Wire`, which requests find as ``scope["state"]["wire"]``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the wire between."""
        wire = Wire(transport)
        super().connection_made(cast("asyncio.Transport", wire))
        self.app_state = {**self.app_state, "wire": wire}


async def still_there_after(receive: Receive, seconds: float | None) -> bool:
    """Let so many seconds pass, None for no limit; false when the client has gone meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return True
    return False
