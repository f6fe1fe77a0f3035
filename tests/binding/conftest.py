"""Keys and known answers for the tests of the extension module, and a server on loopback."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ibkr_oauth import _core

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "vectors.json").read_text())


@pytest.fixture(scope="session")
def vectors() -> dict:
    return VECTORS


@pytest.fixture(scope="session")
def signing_pem() -> str:
    return VECTORS["keys"]["signature"]["private_pkcs8_pem"]


@pytest.fixture(scope="session")
def signing_key(signing_pem) -> _core.RSAKey:
    return _core.RSAKey.load(signing_pem.encode(), what="signing key")


@pytest.fixture(scope="session")
def encryption_key() -> _core.RSAKey:
    pem = VECTORS["keys"]["encryption"]["private_pkcs1_pem"]
    return _core.RSAKey.load(pem.encode(), what="encryption key")


@pytest.fixture(scope="session")
def dh_parameters() -> _core.DHParameters:
    return _core.DHParameters.load(VECTORS["dh_groups"]["openssl2048"]["pem"].encode())


@pytest.fixture(params=VECTORS["live_session_token"], ids=lambda case: case["id"])
def lst_case(request) -> dict:
    return request.param


@pytest.fixture(
    params=[case for case in VECTORS["live_session_token"] if "request" in case], ids=lambda case: case["id"]
)
def lst_request_case(request) -> dict:
    return request.param


@pytest.fixture(params=VECTORS["rsa_requests"], ids=lambda case: case["id"])
def rsa_case(request) -> dict:
    return request.param


@pytest.fixture(params=VECTORS["hmac_requests"], ids=lambda case: case["id"])
def hmac_case(request) -> dict:
    return request.param


@pytest.fixture
def signer() -> _core.RequestSigner:
    token = _core.Secret.from_base64("uB3F/ZuM5uKK51tyHhn8j5dNRfA=")
    return _core.RequestSigner("VECTORKEY", "a1b2c3d4e5f60718293a", token, "limited_poa", "omit")


class Loopback:
    """Answers every request on 127.0.0.1 with what `answer(head, body)` gives; None: with silence."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes | None]) -> None:
        self.answer = answer
        self.requests: list[tuple[bytes, bytes]] = []
        self.asked = threading.Event()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while request := self._read(stream):
                self.requests.append(request)
                self.asked.set()
                answer = self.answer(*request)
                if answer is None:
                    self._closing.wait(30)
                    return
                connection.sendall(answer)

    @staticmethod
    def _read(stream) -> tuple[bytes, bytes] | None:
        head = b""
        try:
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    return None
                head += line
            sizes = [
                int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")
            ]
            return head, stream.read(sizes[0]) if sizes else b""
        except ConnectionError:
            return None

    def close(self) -> None:
        self._closing.set()
        with socket.create_connection(self._listener.getsockname()):
            self._threads[0].join(10)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[bytes, bytes], bytes | None]], Loopback]]:
    servers: list[Loopback] = []

    def start(answer: Callable[[bytes, bytes], bytes | None]) -> Loopback:
        servers.append(Loopback(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def client() -> _core.HttpClient:
    return _core.HttpClient(user_agent="binding-test/1")
