"""A sandbox that verifies everything, sessions of ours for it, and a server that only redirects and takes notes."""

import base64
import hmac
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest

from ibkr_oauth import AccessToken, AsyncSession, Consumer, LiveSessionToken, Session
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "VECTORKEY"
RULES = ("merge", "omit", "url", "rfc5849")
LIVE_SESSION_TOKEN = bytes(range(20))

#: Queries that clients write differently from each other; each of them has to arrive as it was signed.
QUERIES = (
    "conids=265598,756733&fields=31,84,86",
    "conids=265598%2C756733",
    "name=a b",
    "name=a+b",
    "name=a%20b",
    "name=a%2Bb",
    "share=100%25",
    "city=Zürich",
    "city=Z%C3%BCrich",
    "hex=%2f%7e",
    "key=2&key=1&key=2",
    "empty=&flag",
    "list=[1,2]",
    "either=a|b",
    "mark=!*'();:@$,/?",
    "x=1=2&&y=",
)
#: The same as parameters, which the client encodes itself.
PARAMS = {"name": "a b/ü,+%&=~*'", "key": ["2", "1", "2"], "empty": "", "list": "[1,2]|x"}
FORM = {"publish": "true", "compete": "false", "note": "a b+c/ü&=%"}
ORDER = {
    "conid": 265598,
    "side": "BUY",
    "quantity": 1,
    "orderType": "LMT",
    "price": 1.5,
    "tif": "DAY",
    "cOID": "ü 1",
}


@pytest.fixture(scope="session")
def consumer(pem: dict[str, str]) -> Consumer:
    return Consumer(CONSUMER_KEY, pem["signing"], pem["encryption"], pem["dh_params"])


@pytest.fixture
def new_sandbox(pem: dict[str, str]) -> Iterator[Callable[..., Sandbox]]:
    running: list[Sandbox] = []

    def start(**options: Any) -> Sandbox:
        sandbox = Sandbox(**({"tls": True} | options))
        sandbox.register(CONSUMER_KEY, pem["signing_public"], pem["encryption_public"], pem["dh_params"])
        running.append(sandbox.start())
        return sandbox

    yield start
    for sandbox in running:
        sandbox.stop()


@pytest.fixture
def sandbox(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return new_sandbox()


@pytest.fixture
def new_session(consumer: Consumer) -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(sandbox: Sandbox, **options: Any) -> Session:
        made.append(Session(consumer, AccessToken(*sandbox.grant(CONSUMER_KEY)), **options_for(sandbox), **options))
        return made[-1]

    yield make
    for session in made:
        session.close()


@pytest.fixture
def ibkr(sandbox: Sandbox, new_session: Callable[..., Session]) -> Session:
    return new_session(sandbox)


@pytest.fixture
def new_async_session(consumer: Consumer) -> Callable[..., Any]:
    @asynccontextmanager
    async def make(sandbox: Sandbox, **options: Any) -> AsyncIterator[AsyncSession]:
        access_token = AccessToken(*sandbox.grant(CONSUMER_KEY))
        async with AsyncSession(consumer, access_token, **options_for(sandbox), **options) as session:
            yield session

    return make


def options_for(sandbox: Sandbox) -> dict[str, Any]:
    """Without keep-alive: what is counted here are the calls of the tests."""
    return {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file, "keep_alive": None, "pacing": None}


def tls(sandbox: Sandbox) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=sandbox.ca_file) if sandbox.ca_file else True


def api_requests(sandbox: Sandbox) -> list[Any]:
    """What the other client sent: everything but the session's own way to its token."""
    return [request for request in sandbox.requests if "/oauth/" not in request.path]


# --- A server that redirects ---------------------------------------------------------------------


class Seen(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Redirector:
    """Plain http on loopback. `answers`: for each target the answers to give, in turn; 200 for others.

    An answer is a status, or a status and where to go.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answers: dict[str, list[Any]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                planned = outer.answers.get(self.path, [])
                answer = planned.pop(0) if planned else 200
                status, location = answer if isinstance(answer, tuple) else (answer, None)
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the server's names

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.base_url = f"{self.origin}/v1/api"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def new_redirector() -> Iterator[Callable[[], Redirector]]:
    made: list[Redirector] = []

    def make() -> Redirector:
        made.append(Redirector())
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def redirector(new_redirector: Callable[[], Redirector]) -> Redirector:
    return new_redirector()


@pytest.fixture
def elsewhere(new_redirector: Callable[[], Redirector]) -> Redirector:
    """Another origin."""
    return new_redirector()


def redirected_options(redirector: Redirector) -> dict[str, Any]:
    """For a session that needs no service to sign: it has its live session token already."""
    token = LiveSessionToken(
        base64.b64encode(LIVE_SESSION_TOKEN).decode(), consumer_key=CONSUMER_KEY, access_token=ACCESS_TOKEN
    )
    return {
        "base_url": redirector.base_url,
        "live_session_token": token,
        "query_signing": "merge",
        "keep_alive": None,
        "pacing": None,
        "brokerage": "never",
    }


ACCESS_TOKEN = AccessToken("a1b2c3d4e5f60718293a", "A" * 344)


@pytest.fixture
def redirected(consumer: Consumer, redirector: Redirector) -> Iterator[Session]:
    with Session(consumer, ACCESS_TOKEN, **redirected_options(redirector)) as session:
        yield session


def assert_signed(seen: Seen, redirector: Redirector) -> str:
    """Raises unless the request carries a signature for its own method, address, query and form. Returns its nonce."""
    header = seen.headers["authorization"]
    oauth = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    signature = oauth.pop("oauth_signature")
    oauth.pop("realm", None)
    parts = urlsplit(redirector.origin + seen.target)
    pairs = [*oauth.items(), *parse_qsl(parts.query, keep_blank_values=True)]
    if seen.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        pairs += parse_qsl(seen.body.decode(), keep_blank_values=True)
    joined = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    base = "&".join([seen.method, *(quote(part, safe="~") for part in (f"{redirector.origin}{parts.path}", joined))])
    expected = base64.b64encode(hmac.digest(LIVE_SESSION_TOKEN, base.encode(), "sha256")).decode()
    assert signature == expected, f"signed for another request than {seen.method} {seen.target}"
    return oauth["oauth_nonce"]
