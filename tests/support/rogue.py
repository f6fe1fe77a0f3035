"""A server on loopback that does to a client what no server should, at exactly the moment that a test names.

```python
with Rogue() as rogue:
    rogue.answering(lambda peer: peer.send(b"HTTP/1.1 200 O").reset())     # the next request
    rogue.reading(lambda peer: peer.reset(), after=20)                     # the next one, after 20 bytes of it
    rogue.greeting(lambda peer: peer.reset())                              # the next connection, before TLS
```

Each connection has a thread of its own. Every request that nothing was said about is answered well.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

Deed: TypeAlias = Callable[["Peer"], object]

#: How long a thread waits for anything before the test is given up, in seconds.
PATIENCE = 10.0


class Seen(NamedTuple):
    """A request that arrived whole, or as far as it was read."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Peer:
    """The server's end of one connection. Its verbs return the peer, so that they can be strung together."""

    def __init__(self, rogue: Rogue, sock: socket.socket, number: int) -> None:
        self.rogue = rogue
        self.number = number
        self.open = True
        self.request: Seen | None = None
        self.thread: threading.Thread | None = None
        self._sock = sock
        self._buffer = b""

    def send(self, data: bytes) -> Self:
        """Bytes as they are. A client that has left is no trouble."""
        with contextlib.suppress(OSError):
            self._sock.sendall(data)
        return self

    def hear(self) -> Self:
        """Takes in what the client says first."""
        self._read_more()
        return self

    def answer(self, body: bytes = b'{"fine":true}', status: str = "200 OK", headers: str = "") -> Self:
        """A good answer; the connection stays."""
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        return self.send(head.encode("latin-1") + body)

    def close(self) -> None:
        """Leaves in good order: TLS's goodbye, then TCP's."""
        if isinstance(self._sock, ssl.SSLSocket):
            self._sock.setblocking(False)
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()  # the goodbye goes out; the client's own is not waited for
        self.cut()

    def cut(self) -> None:
        """Leaves without TLS's goodbye."""
        self.open = False
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def reset(self) -> None:
        """Leaves with TCP's reset; what the client has not read yet may be lost to it."""
        self.open = False
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def stall(self) -> None:
        """Nothing more, until the client leaves or the server ends."""
        self.rogue.stalled.release()
        with contextlib.suppress(OSError):
            while self._sock.recv(65536):
                pass
        self.cut()

    def flood(self, data: bytes) -> None:
        """The same over and over, until the client leaves."""
        with contextlib.suppress(OSError):
            while True:
                self._sock.sendall(data)
        self.cut()

    def drip(self, data: bytes) -> None:
        """The same again every few milliseconds, until the client leaves."""
        with contextlib.suppress(OSError):
            while True:
                self._sock.sendall(data)
                time.sleep(0.01)
        self.cut()

    def tunnel(self, port: int) -> None:
        """A proxy's work: to this port of the machine, until either side leaves."""
        self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as inner:
            back = threading.Thread(target=_pump, args=(inner, self._sock))
            back.start()
            _pump(self._sock, inner)
            back.join(PATIENCE)
        self.cut()

    # --- For the server itself -------------------------------------------------------------------

    def wrap(self, context: ssl.SSLContext) -> None:
        """The TLS handshake. Raises OSError where it fails."""
        self._sock = context.wrap_socket(self._sock, server_side=True)

    def shut_down(self) -> None:
        """From another thread: wakes what waits for the client."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def has_begun(self) -> bool:
        """Waits for the first byte of another request; False where the client has left."""
        return bool(self._buffer) or self._read_more()

    def read(self, enough: int) -> None:
        """At least so many bytes of a request."""
        while len(self._buffer) < enough and self._read_more():
            pass

    def read_request(self) -> bool:
        """A request, head and body, into `request`."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._read_more():
                return False
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        self.read(length)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        method, target, _ = first.split(" ")
        self.request = Seen(method, target, headers, body, self.number)
        return len(body) == length

    def _read_more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Step(NamedTuple):
    deed: Deed
    after: int | None  # bytes of the request; None: the whole


class Rogue:
    """See the module. `tls`: the server's side of it; None for plain http."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.requests: list[Seen] = []
        self.connections = 0
        self.handshake_errors: list[str] = []
        self.stalled = threading.Semaphore(0)  # released whenever somebody is made to wait
        self._steps: deque[_Step] = deque()
        self._greetings: deque[Deed] = deque()
        self._changed = threading.Condition()
        self._peers: set[Peer] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="rogue", daemon=True)

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1/api"

    # --- What is to happen -----------------------------------------------------------------------

    def greeting(self, deed: Deed) -> None:
        """To the next connection, before TLS. Where it stays open after that, it is served as usual."""
        self._greetings.append(deed)

    def answering(self, deed: Deed) -> None:
        """To the next request, once it is there."""
        self._steps.append(_Step(deed, None))

    def reading(self, deed: Deed, after: int) -> None:
        """To the next request, as soon as so many bytes of it are there."""
        self._steps.append(_Step(deed, after))

    # --- What has happened -----------------------------------------------------------------------

    def wait_for_connections(self, most: int) -> None:
        """Until no more than so many connections are open, nor threads that serve them. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._peers) <= most, PATIENCE):
                raise TimeoutError(f"{len(self._peers)} connections are open, expected at most {most}")
            serving = {peer.thread for peer in self._peers}
        for thread in self._threads:
            if thread not in serving:
                thread.join(PATIENCE)

    def wait_until_stalled(self) -> None:
        """Until a client waits for what does not come."""
        if not self.stalled.acquire(timeout=PATIENCE):
            raise TimeoutError("nobody waits")

    # --- Life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE)
        self._listener.close()
        with self._changed:
            peers = list(self._peers)
        for peer in peers:
            peer.shut_down()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            self.connections += 1
            peer = Peer(self, sock, self.connections)
            thread = threading.Thread(target=self._serve, args=[peer], name="rogue", daemon=True)
            peer.thread = thread
            with self._changed:
                self._peers.add(peer)
            self._threads = [thread, *(other for other in self._threads if other.is_alive())]
            thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._greetings:
                self._greetings.popleft()(peer)
            if peer.open and self.tls is not None:
                peer.wrap(self.tls)
            while peer.open and not self._stopping and peer.has_begun():
                self._handle(peer)
        except OSError as error:
            self.handshake_errors.append(str(error))
        finally:
            if peer.open:
                peer.cut()
            with self._changed:
                self._peers.discard(peer)
                self._changed.notify_all()

    def _handle(self, peer: Peer) -> None:
        step = self._steps.popleft() if self._steps else _Step(Peer.answer, None)
        if step.after is not None:
            peer.read(step.after)
        elif not peer.read_request():
            peer.cut()
            return
        else:
            assert peer.request is not None
            self.requests.append(peer.request)
        step.deed(peer)
