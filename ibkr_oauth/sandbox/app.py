"""The web application: its entrances, what happens to an answer on its way, and the record of it all."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from . import answers, api, consent, control
from .answers import Answer, Refusal
from .explain import explain
from .faults import Drop
from .limits import Pacing
from .record import RecordedRequest, nonce_of, redacted
from .state import QueryRule
from .verify import API_ROOT, IncomingRequest, SignatureRefusal, session_cookie, verify
from .wire import Wire, still_there_after

if TYPE_CHECKING:
    from .server import Sandbox

_log = logging.getLogger("ibkr_oauth.sandbox")


@dataclass
class _Outcome:
    """What becomes of a request: the answer, and what happens on its way to the client."""

    answer: Answer | None = None  # None: the connection is cut before the request is processed
    query_rule: QueryRule | None = None
    refusal: str | None = None
    processed: bool = False
    drop: Drop | None = None
    delay: float = 0.0


class Application:
    """The sandbox as an ASGI application, verifying against its public origin.

    Requests are dealt with under the state's lock, one after the other, each against a consistent
    state; nothing is awaited meanwhile, and nothing is locked while an answer is on its way.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._state = sandbox._state
        self._faults = sandbox._faults
        self._limits = sandbox._limits
        self._web_sockets = sandbox._web_sockets
        self._pacing = Pacing()
        self._origin = sandbox.origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one web socket."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_web_socket(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        wire: Wire = scope["state"]["wire"]
        body = await _read_body(receive)
        if body is None:
            return
        with self._state.lock:
            outcome = self._outcome(scope, Headers(scope=scope), body)
            # Before the client can see the answer, so that it finds the record of it.
            self._record(scope, outcome)
        if outcome.delay and not await still_there_after(receive, outcome.delay):
            return
        if outcome.answer is None or (outcome.drop and outcome.drop.stage == "before the answer"):
            wire.cut()
            await still_there_after(receive, None)
            return
        wire.hold(outcome.drop.kept if outcome.drop else None)
        await send(self._head(outcome.answer, began))
        await send({"type": "http.response.body", "body": outcome.answer.body})
        wire.release()

    def _head(self, answer: Answer, began: float) -> MutableMapping[str, Any]:
        """What every answer carries: its length, the server's time, and how long it took."""
        milliseconds = round((time.monotonic() - began) * 1000)
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        if answer.content_type is not None:
            headers.append(("Content-Type", answer.content_type))
        headers += [("Date", formatdate(self._state.now(), usegmt=True)), ("X-Response-Time", f"{milliseconds}ms")]
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return {"type": "http.response.start", "status": answer.status, "headers": encoded}

    def _record(self, scope: Scope, outcome: _Outcome) -> None:
        if scope["path"].startswith(f"{control.ROOT}/"):
            return
        headers = Headers(scope=scope)
        recorded = RecordedRequest(
            method=scope.get("method", "GET"),
            path=scope["path"],
            status=outcome.answer.status if outcome.answer else 0,
            headers=redacted(headers),
            query_rule=outcome.query_rule,
            refusal=outcome.refusal,
            processed=outcome.processed,
            dropped=outcome.drop.stage if outcome.drop else None,
            cookie_sent=session_cookie(headers) is not None,
            nonce=nonce_of(headers),
        )
        self._sandbox._record.add(recorded)
        self._state.changed.notify_all()
        _log.debug("%s %s: %d", recorded.method, recorded.path, recorded.status, extra={"request": recorded})

    # --- The entrances ---------------------------------------------------------------------------

    def _outcome(self, scope: Scope, headers: Headers, body: bytes) -> _Outcome:
        path: str = scope["path"]
        query = cast("bytes", scope["query_string"]).decode("ascii")
        if path.startswith(f"{API_ROOT}/"):
            target = cast("bytes", scope["raw_path"]).decode("ascii")
            return self._api(IncomingRequest(scope["method"], target, query, headers, body))
        if path.startswith(f"{control.ROOT}/"):
            client = scope["client"][0] if scope["client"] else None
            verb = path.removeprefix(f"{control.ROOT}/")
            return _Outcome(control.answer(self._sandbox, client, scope["method"], verb, headers, body))
        if path != "/authorize":
            return _Outcome(answers.not_found().answer(self._state.next_number()))
        match scope["method"]:
            case "POST":
                return _Outcome(consent.receive(self._state, headers, body.decode("utf-8", "replace")))
            case "GET" | "HEAD":
                return _Outcome(consent.show(self._state, headers, query))
            case _:
                return _Outcome(answers.method_not_allowed().answer(self._state.next_number()))

    async def _serve_web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        with self._state.lock:
            outcome = _Outcome(Answer(101, b""), processed=True)
            access_token, has_session = None, False
            try:
                if scope["path"] != f"{API_ROOT}/ws":
                    raise answers.not_found()
                access_token, has_session = self._web_sockets.admit(socket)
            except Refusal as refusal:
                outcome = _Outcome(refusal.answer(self._state.next_number()), refusal=refusal.words)
            self._record(scope, outcome)
        if access_token is not None:
            await self._web_sockets.serve(socket, access_token, scope["state"]["wire"], has_session=has_session)
        elif outcome.answer is not None:
            answer = outcome.answer
            await socket.send_denial_response(
                Response(answer.body, answer.status, dict(answer.headers), answer.content_type)
            )

    # --- The interface below /v1/api -------------------------------------------------------------

    def _api(self, request: IncomingRequest) -> _Outcome:
        drop = self._faults.next_drop(request.path)
        if drop is not None and drop.stage == "before processing":
            return _Outcome(drop=drop)
        outcome = _Outcome(drop=drop, delay=self._faults.next_delay(request.path))
        try:
            outcome.answer = self._answer(request, outcome)
        except Refusal as refusal:
            outcome.refusal = refusal.words
            outcome.answer = refusal.answer(self._state.next_number())
            if isinstance(refusal, SignatureRefusal):
                outcome.answer = self._explained(refusal, outcome.answer)
        self._web_sockets.refresh()
        return outcome

    def _answer(self, request: IncomingRequest, outcome: _Outcome) -> Answer:
        if self._state.maintenance:
            raise answers.maintenance()
        self._limits.check(request.path, self._state.true_time())
        failure = self._faults.instead(request.path)
        if failure is not None:
            outcome.refusal = "failed on request"
            return failure
        if not request.headers.get("user-agent"):
            raise answers.no_user_agent()
        has_length = "content-length" in request.headers or "transfer-encoding" in request.headers
        if request.method == "POST" and not has_length:
            raise answers.no_content_length()
        verified = verify(self._state, request, self._origin)
        outcome.query_rule = verified.query_rule
        answer = api.answer(self._state, self._faults, self._pacing, request, verified)
        outcome.processed = True
        if verified.live_session_token and verified.access_token and self._state.settings.send_cookie:
            cookie = f"api={verified.access_token.session}; Path=/; Secure; HttpOnly"
            answer = replace(answer, headers=(*answer.headers, ("Set-Cookie", cookie)))
        return self._faults.afterwards(request.path, answer)

    def _explained(self, refusal: SignatureRefusal, answer: Answer) -> Answer:
        """Add the explanation that the settings or the client ask for, to header and log."""
        headers = refusal.trial.request.headers
        if not self._state.settings.explain and headers.get("x-sandbox-explain") != "1":
            return answer
        explanation = explain(refusal.trial, headers.get("x-sandbox-base-string"))
        _log.warning("%s: %s", refusal.trial.request.target, explanation)
        return replace(answer, headers=(*answer.headers, ("X-Sandbox-Explanation", explanation)))


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body; None when the client has gone before its end."""
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)
