"""IBKR's side without a network: scripted answers, and by default those of a good day. It verifies every signature."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ibkr_oauth import Consumer, SessionClosed
from ibkr_oauth.transport import Response

from .fake_clock import FakeClock

BASE = "https://api.ibkr.com/v1/api"
LST = "/oauth/live_session_token"
INIT = "/iserver/auth/ssodh/init"
STATUS = "/iserver/auth/status"
ACCOUNTS = "/iserver/accounts"
ORDERS = "/iserver/account/DU1/orders"

_METHODS = {LST: "POST", INIT: "POST", STATUS: "POST", "/tickle": "POST", "/logout": "POST", ACCOUNTS: "GET"}
_EXPONENT = 0x5A17_C0DE_2B5D_9F31  # the server's half needs no secrecy here, only speed


@dataclass
class Seen:
    """A request as it arrived. `token`: the number of the live session token that signed it, or None."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes | None
    at: float
    timeout: float
    repeatable: bool | None
    oauth: dict[str, str] = field(default_factory=dict)
    token: int | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")

    @property
    def cookie(self) -> str | None:
        return self.headers.get("cookie")


@dataclass
class Answer:
    """`body`: bytes and text as they are, anything else as JSON. `delay`: seconds on the clock before it comes."""

    status: int = 200
    body: object = None
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0

    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (
            self.body.encode()
            if isinstance(self.body, str)
            else json.dumps({} if self.body is None else self.body).encode()
        )


#: What a script may hold: an answer, an error instead of one, or something that makes either from the request.
Scripted = Answer | BaseException | Callable[[Seen], "Answer | BaseException"]

STALE = Answer(401, {"error": "Access token expired", "statusCode": 401})
BAD_SIGNATURE = Answer(401, {"error": "Invalid signature", "statusCode": 401})
EMPTY_401 = Answer(401, b"")
NOT_AUTHENTICATED = Answer(401, {"error": "not authenticated", "statusCode": 401})
COMPETING = Answer(401, {"error": "compete: the user name is active elsewhere", "statusCode": 401})
UNPRIMED = Answer(500, {"error": "Please query /accounts first"})
NO_DH = Answer(500, {"error": "failed to generate sso dh token"})


class Hold:
    """Requests of one path wait here until they are let go. `arrived`: released once for each of them."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.go = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._go_async = asyncio.Event()
        self.arrived_async = asyncio.Semaphore(0)

    def wait(self) -> None:
        self.arrived.release()
        assert self.go.wait(20), "nobody let the request go"

    async def wait_async(self) -> None:
        self.arrived_async.release()
        self.arrived.release()
        await asyncio.wait_for(self._go_async.wait(), 20)

    def release(self) -> None:
        """From a thread for threads, from a task for tasks."""
        self.go.set()
        self._go_async.set()


class FakeService:
    """State of the service and what it has seen. Threads may call it.

    `script(path, ...)` queues answers; where a queue is empty, the service does its work. `skew`: seconds that its clock is ahead of
    the client's true time. `window`: how far a timestamp may be off. `stale`: how it refuses a token that is no more.
    """

    def __init__(self, consumer: Consumer, secret: bytes, clock: FakeClock) -> None:
        self.clock = clock
        self.secret = secret
        self.seen: list[Seen] = []
        self.tokens: list[bytes] = []
        self.void: set[int] = set()
        self.lifetime = 86_400.0
        self.skew = 0.0
        self.window = 300.0
        self.send_date = True
        self.stale = STALE
        self.keeps_former = False  # a new live session token leaves the former ones valid
        self.authenticated = False
        self.looks = 0  # of /iserver/auth/status, until the session is authenticated after an init
        self.rival = False  # another login holds the brokerage session
        self.rival_words = NOT_AUTHENTICATED  # what it answers while another login holds the session
        self.accounts_asked = False
        self.processed: list[Seen] = []  # what passed all checks and was not scripted
        self.cancelled = False
        self._consumer = consumer
        self._true_time = clock.time() - clock.steady()
        self._scripts: dict[str, deque[Scripted]] = {}
        self._holds: dict[str, Hold] = {}
        self._nonces: set[str] = set()
        self._lock = threading.RLock()
        self._pending_looks = 0

    # --- For tests -------------------------------------------------------------------------------

    def script(self, path: str, *answers: Scripted) -> None:
        self._scripts.setdefault(path, deque()).extend(answers)

    def hold(self, path: str) -> Hold:
        hold = self._holds[path] = Hold()
        return hold

    def unhold(self, path: str) -> None:
        self._holds.pop(path).release()

    def paths(self, *, skip: tuple[str, ...] = ()) -> list[str]:
        return [seen.path for seen in self.seen if seen.path not in skip]

    def of(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def count(self, path: str) -> int:
        return len(self.of(path))

    def expire_tokens(self) -> None:
        """By its own word: the tokens' dates say otherwise."""
        self.void.update(range(len(self.tokens)))

    def lose_brokerage(self) -> None:
        self.authenticated = self.accounts_asked = False

    def compete(self) -> None:
        self.lose_brokerage()
        self.rival = True

    def now(self) -> float:
        return self.clock.steady() + self._true_time + self.skew

    def add_token(self, token: bytes) -> None:
        self.tokens.append(token)

    # --- Answering -------------------------------------------------------------------------------

    def holding(self, path: str) -> Hold | None:
        return self._holds.get(path)

    def answer(self, seen: Seen) -> Answer:
        """What comes back; raises what comes instead."""
        with self._lock:
            self._note(seen)
            queue = self._scripts.get(seen.path)
            scripted = queue.popleft() if queue else None
            if callable(scripted) and not isinstance(scripted, BaseException):
                scripted = scripted(seen)
            if scripted is None:
                scripted = self._work(seen)
        if isinstance(scripted, BaseException):
            raise scripted
        assert isinstance(scripted, Answer)
        self.clock.advance(scripted.delay)
        return scripted

    def response(self, seen: Seen, url: str, answer: Answer) -> Response:
        headers = [("content-type", "application/json"), *answer.headers]
        if self.send_date and not any(name.lower() == "date" for name, _ in answer.headers):
            headers.append(("Date", formatdate(self.now(), usegmt=True)))
        return Response(seen.method, url, answer.status, headers, answer.content(), 1000)

    def _note(self, seen: Seen) -> None:
        self.seen.append(seen)
        authorization = seen.headers.get("authorization")
        if authorization is None:
            return
        seen.oauth = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', authorization)}
        nonce = seen.oauth["oauth_nonce"]
        assert nonce not in self._nonces, "a nonce came twice"
        self._nonces.add(nonce)
        if seen.path != LST:
            seen.token = next((i for i, token in enumerate(self.tokens) if self._verifies(seen, token)), None)
            assert seen.token is not None, "the signature verifies with no live session token"

    def _verifies(self, seen: Seen, token: bytes) -> bool:
        pairs = [(name, value) for name, value in seen.oauth.items() if name not in ("realm", "oauth_signature")]
        if seen.headers.get("content-type", "").startswith("application/x-www-form"):
            form = (seen.body or b"").decode().split("&")
            pairs += [(unquote(name), unquote(value)) for name, _, value in (pair.partition("=") for pair in form)]
        text = "&".join(f"{name}={value}" for name, value in sorted(pairs))
        base = f"{seen.method}&{quote(BASE + seen.path, safe='')}&{quote(text, safe='')}"
        expected = hmac.new(token, base.encode(), hashlib.sha256).digest()
        return base64.b64encode(expected).decode() == seen.oauth["oauth_signature"]

    def _work(self, seen: Seen) -> Answer:
        refused = self._refusal(seen)
        if refused is not None:
            return refused
        self.processed.append(seen)
        if seen.path == LST:
            return self._agree(seen)
        if seen.path in (STATUS, INIT, "/tickle"):
            return self._tier(seen)
        if seen.path == "/logout":
            self.lose_brokerage()
            return Answer(body={"status": True})
        if seen.path.startswith("/iserver/"):
            return self._brokerage(seen)
        return Answer(body={"path": seen.path})

    def _refusal(self, seen: Seen) -> Answer | None:
        if not seen.oauth:
            return None
        if seen.method != _METHODS.get(seen.path, seen.method):
            return Answer(405)
        if abs(int(seen.oauth["oauth_timestamp"]) - self.now()) > self.window:
            return BAD_SIGNATURE
        return self.stale if seen.token in self.void else None

    def _agree(self, seen: Seen) -> Answer:
        prime = self._consumer.dh_params.prime
        shared = pow(int(seen.oauth["diffie_hellman_challenge"], 16), _EXPONENT, prime)
        token = hmac.new(shared.to_bytes(shared.bit_length() // 8 + 1, "big"), self.secret, hashlib.sha1).digest()
        if not self.keeps_former:
            self.expire_tokens()
        self.tokens.append(token)
        return Answer(
            body={
                "diffie_hellman_response": f"{pow(self._consumer.dh_params.generator, _EXPONENT, prime):x}",
                "live_session_token_signature": hmac.new(token, self._consumer.key.encode(), hashlib.sha1).hexdigest(),
                "live_session_token_expiration": int((self.now() + self.lifetime) * 1000),
            }
        )

    def _tier(self, seen: Seen) -> Answer:
        if seen.path == INIT:
            if self.rival and seen.json["compete"]:
                self.rival = False
            self._pending_looks = self.looks
            self.authenticated = not self.rival and self.looks == 0
        elif seen.path == STATUS and self._pending_looks:
            self._pending_looks -= 1
            self.authenticated = self._pending_looks == 0
        status = {"authenticated": self.authenticated, "competing": self.rival, "connected": True, "message": ""}
        return Answer(
            body={"session": "5e55104", "iserver": {"authStatus": status}} if seen.path == "/tickle" else status
        )

    def _brokerage(self, seen: Seen) -> Answer:
        if not self.authenticated:
            self.processed.pop()
            return self.rival_words if self.rival else NOT_AUTHENTICATED
        if seen.path == ACCOUNTS:
            self.accounts_asked = True
            return Answer(body={"accounts": ["DU1"]})
        if not self.accounts_asked and seen.path.startswith("/iserver/account/"):
            self.processed.pop()
            return UNPRIMED
        return Answer(body={"path": seen.path})


class Carrier:
    """A transport to the fake service, for `Session`. `cancel` ends what is held, as the real one does."""

    def __init__(self, service: FakeService) -> None:
        self.service = service

    def send(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | None = None,
        *,
        timeout: float,
        repeatable: bool | None = None,
    ) -> Response:
        seen = self._seen(method, url, headers, body, timeout, repeatable)
        hold = self.service.holding(seen.path)
        answer = self.service.answer(seen)
        if hold is not None:
            hold.wait()
            if self.service.cancelled:
                raise SessionClosed("it was stopped from another thread")
        return self.service.response(seen, url, answer)

    def cancel(self) -> None:
        self.service.cancelled = True
        for hold in list(self.service._holds.values()):
            hold.go.set()
        self.service._holds.clear()

    def close(self) -> None:
        """Nothing is open."""

    def _seen(
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | None,
        timeout: float,
        repeatable: bool | None,
    ) -> Seen:
        assert url.startswith(BASE), url
        parts = urlsplit(url)
        by_name: dict[str, str] = {}
        for name, value in headers:
            assert name.lower() not in by_name, f"header {name} came twice"
            by_name[name.lower()] = value
        path = parts.path.removeprefix("/v1/api")
        return Seen(method, path, parts.query, by_name, body, self.service.clock.steady(), timeout, repeatable)


class AsyncCarrier(Carrier):
    """The same for `AsyncSession`."""

    async def send(  # type: ignore[override]
        self,
        method: str,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes | None = None,
        *,
        timeout: float,  # noqa: ASYNC109 - the real one's name
        repeatable: bool | None = None,
    ) -> Response:
        seen = self._seen(method, url, headers, body, timeout, repeatable)
        hold = self.service.holding(seen.path)
        answer = self.service.answer(seen)
        await asyncio.sleep(0)
        if hold is not None:
            await hold.wait_async()
        return self.service.response(seen, url, answer)
