"""The web application: three entrances, and an envelope around all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableSequence
from email.utils import formatdate
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import answers, api, consent, control
from .answers import Answer, Refusal
from .explain import explain
from .faults import Faults
from .record import RecordedRequest, redacted
from .state import State
from .verify import API_ROOT, IncomingRequest, SignatureRefusal, verify

_log = logging.getLogger("ibkr_oauth.sandbox")

_EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


class Application:
    """The sandbox as an ASGI application, verifying against the public `origin`.

    Handlers do their work without awaiting anything, under the state's lock: requests are answered
    one after the other, each against a consistent state.
    """

    def __init__(
        self,
        state: State,
        faults: Faults,
        recorded: MutableSequence[RecordedRequest],
        origin: str,
    ) -> None:
        self._state = state
        self._faults = faults
        self._recorded = recorded
        self._origin = origin
        self._routes: ASGIApp = Starlette(
            routes=[
                Route("/authorize", self._authorize, methods=["GET", "POST"]),
                Route(f"{control.ROOT}/{{verb}}", self._control, methods=_EVERY_METHOD),
                Route(f"{API_ROOT}/{{path:path}}", self._api, methods=_EVERY_METHOD),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: add what every answer carries, and record it."""
        if scope["type"] != "http":
            return
        notes: dict[str, Any] = {"query_rule": None, "refusal": None}
        scope["state"] = notes
        began = time.monotonic()

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                milliseconds = round((time.monotonic() - began) * 1000)
                with self._state.lock:
                    headers = MutableHeaders(scope=message)
                    headers["Date"] = formatdate(self._state.now(), usegmt=True)
                    headers["X-Response-Time"] = f"{milliseconds}ms"
                    # Before the client can see the answer, so that it finds the record of it.
                    self._record(scope, message["status"], notes)
            await send(message)

        await self._routes(scope, receive, send_enveloped)

    def _record(self, scope: Scope, status: int, notes: dict[str, Any]) -> None:
        if scope["path"].startswith(f"{control.ROOT}/"):
            return
        recorded = RecordedRequest(
            method=scope["method"],
            path=scope["path"],
            status=status,
            headers=redacted(Headers(scope=scope)),
            query_rule=notes["query_rule"],
            refusal=notes["refusal"],
        )
        self._recorded.append(recorded)
        _log.debug("%s %s: %d", recorded.method, recorded.path, status)

    # --- The three entrances ---------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        body = await request.body()
        with self._state.lock:
            if request.method == "POST":
                return _response(consent.decide(self._state, body.decode("utf-8", "replace")))
            return _response(consent.show(self._state, request.url.query))

    async def _control(self, request: Request) -> Response:
        body = await request.body()
        with self._state.lock:
            return _response(control.answer(self._state, self._recorded, request, body))

    async def _api(self, request: Request) -> Response:
        incoming = IncomingRequest(
            method=request.method,
            target=request.scope["raw_path"].decode("ascii"),
            query=request.scope["query_string"].decode("ascii"),
            headers=request.headers,
            body=await request.body(),
        )
        with self._state.lock:
            try:
                return _response(self._answer(incoming, request))
            except Refusal as refusal:
                request.state.refusal = refusal.words
                response = _response(refusal.answer(self._state.next_number()))
                if isinstance(refusal, SignatureRefusal):
                    self._explain(refusal, response)
                return response

    # --- The interface below /v1/api -------------------------------------------------------------

    def _answer(self, incoming: IncomingRequest, request: Request) -> Answer:
        path = incoming.path
        failure = self._faults.instead(path)
        if failure is not None:
            request.state.refusal = "failed on request"
            return failure
        if not incoming.headers.get("user-agent"):
            raise answers.no_user_agent()
        has_length = {"content-length", "transfer-encoding"} & set(incoming.headers)
        if incoming.method == "POST" and not has_length:
            raise answers.no_content_length()
        verified = verify(self._state, incoming, self._origin)
        request.state.query_rule = verified.query_rule
        answer = api.answer(self._state, self._faults, incoming, verified)
        return self._faults.afterwards(path, answer)

    def _explain(self, refusal: SignatureRefusal, response: Response) -> None:
        """Add the explanation that the settings or the client ask for, to header and log."""
        headers = refusal.trial.request.headers
        if self._state.settings.explain or headers.get("x-sandbox-explain") == "1":
            explanation = explain(refusal.trial, headers.get("x-sandbox-base-string"))
            response.headers["X-Sandbox-Explanation"] = explanation
            _log.warning("%s: %s", refusal.trial.request.target, explanation)


def _response(answer: Answer) -> Response:
    headers = dict(answer.headers)
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    return Response(answer.body, answer.status, headers)
