"""A TLS server whose connections break at random points, as a program: `proof_breaking_server.py CERTIFICATE SEED`.

It prints its port, then serves `POST /v1/api/order/<number>`, and at the end of its standard input prints as JSON what
reached it: see `Notes`. Connections end with a reset, so that what was not read by then is lost.
"""

import itertools
import json
import random
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

_RESET = struct.pack("ii", 1, 0)
_HEAD = re.compile(rb"POST /v1/api/order/(\d+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)

#: What becomes of a request, and how often of a hundred times.
_FATES = {
    "answered": 60,
    "unread": 6,  # it has arrived, and nothing of it is read
    "partly read": 8,
    "unanswered": 8,
    "partly answered": 8,
    "answered, then reset": 5,
    "answered, then closed": 5,
}
#: And of a connection: the chance of a reset in the handshake, and of one before the first request. Out of 1,000
#: connections these are all reset in the handshake: whoever tries again meets the next one.
_STILLBORN = 0.1
_OUTAGE = range(100, 300)


class Notes:
    """`whole`, `part`: how often so much of each order has reached us; `fates`: how often there was which one."""

    def __init__(self) -> None:
        self.whole: Counter[int] = Counter()
        self.part: Counter[int] = Counter()
        self.fate_of: dict[int, str] = {}
        self.fates: Counter[str] = Counter()
        self.lock = threading.Lock()

    def as_json(self) -> str:
        with self.lock:
            return json.dumps(
                {"whole": self.whole, "part": self.part, "fate_of": self.fate_of, "fates": self.fates},
            )


class Server:
    def __init__(self, certificate: str, seed: int) -> None:
        self.notes = Notes()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._seeds = random.Random(seed)

    def accept(self) -> None:
        for count in itertools.count():
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own = random.Random(self._seeds.random())
            works = count % 1000 not in _OUTAGE and own.random() > _STILLBORN
            threading.Thread(target=self._serve, args=(connection, own, works), daemon=True).start()

    def _serve(self, connection: socket.socket, chance: random.Random, works: bool) -> None:
        try:
            if not works:
                return self._note("reset in the handshake")
            connection = self._context.wrap_socket(connection, server_side=True)
            if chance.random() < _STILLBORN:
                return self._note("reset before a request")
            while self._serve_one(connection, chance):
                pass
            return None
        except (OSError, EOFError):
            return None  # the client has gone
        finally:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()

    def _note(self, fate: str, number: int | None = None) -> None:
        with self.notes.lock:
            self.notes.fates[fate] += 1
            if number is not None:
                self.notes.fate_of[number] = fate

    def _serve_one(self, connection: Any, chance: random.Random) -> bool:
        """One request; whether the connection lives on."""
        (fate,) = chance.choices(list(_FATES), list(_FATES.values()))
        select.select([connection], [], [])
        if fate == "unread":
            self._note(fate)
            return False
        number, length, body = self._read_head(connection)
        if fate == "partly read":
            self._note(fate, number)
            return False
        while len(body) < length:
            body += _receive(connection)
        with self.notes.lock:
            self.notes.whole[number] += 1
        self._note(fate, number)
        if fate == "unanswered":
            return False
        answer = b'{"order": %d}' % number
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(answer),
            answer,
        )
        connection.sendall(answer if fate != "partly answered" else answer[: chance.randrange(1, len(answer))])
        if fate.startswith("answered, then"):
            time.sleep(chance.choice([0, 0.002]))  # time for a next request, which is lost with the connection
        if fate == "answered, then closed":
            connection.unwrap()
        return fate == "answered"

    def _read_head(self, connection: Any) -> tuple[int, int, bytes]:
        """The order's number, the length of its body, and what came of the body so far."""
        received = b""
        number = None
        while b"\r\n\r\n" not in received:
            received += _receive(connection)
            if number is None and (head := _HEAD.match(received)):
                number = int(head[1])
                with self.notes.lock:
                    self.notes.part[number] += 1
        length = _LENGTH.search(received)
        assert number is not None, received[:100]
        assert length is not None, received[:100]
        return number, int(length[1]), received.partition(b"\r\n\r\n")[2]


def _receive(connection: Any) -> bytes:
    received: bytes = connection.recv(4096)
    if not received:
        raise EOFError
    return received


def main() -> None:
    server = Server(sys.argv[1], int(sys.argv[2]))
    threading.Thread(target=server.accept, daemon=True).start()
    print(server.listener.getsockname()[1], flush=True)
    sys.stdin.read()
    print(server.notes.as_json(), flush=True)


if __name__ == "__main__":
    main()
