"""``/_sandbox/…``: the verbs of `Sandbox` over HTTP, for clients in other languages.

Loopback only. A POST takes a JSON object sent as ``application/json``, which no web page on another
origin can do without asking first.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import cast

from starlette.requests import Request

from . import answers, consent
from .answers import Answer, Refusal, json_answer
from .record import RecordedRequest
from .state import State

ROOT = "/_sandbox"


class Arguments:
    """The JSON object of a control call; complains about what is missing or not text."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def text(self, name: str, default: str | None = None) -> str:
        """A text argument; a missing one is the default, or an error if there is none."""
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise ValueError(f"{name}: missing or not text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A true or false argument."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name}: neither true nor false")
        return value


def register(state: State, arguments: Arguments) -> Answer:
    """``POST /_sandbox/consumers``: as `Sandbox.register`, keys and parameters as PEM text."""
    consumer = state.register(
        arguments.text("consumer_key"),
        signature_key=arguments.text("signature_key"),
        encryption_key=arguments.text("encryption_key"),
        dh_params=arguments.text("dh_params"),
        callback=arguments.text("callback", "http://localhost:20000/"),
        active=arguments.flag("active", True),
        realm=arguments.text("realm", "") or None,
    )
    registered = {
        "consumer_key": consumer.key,
        "realm": consumer.realm,
        "callback": consumer.callback,
        "active": consumer.active,
    }
    return json_answer(registered, 201)


def grant(state: State, arguments: Arguments) -> Answer:
    """``POST /_sandbox/grant``: as `Sandbox.grant`."""
    consumer = state.consumer(arguments.text("consumer_key"))
    username = arguments.text("username", consent.DEFAULT_USERNAME)
    access_token, secret = state.grant(consumer, username)
    return json_answer({"oauth_token": access_token.token, "oauth_token_secret": secret})


def approve(state: State, arguments: Arguments) -> Answer:
    """``POST /_sandbox/consent``: as `Sandbox.consent`."""
    token = arguments.text("oauth_token")
    username = arguments.text("username", consent.DEFAULT_USERNAME)
    return json_answer({"oauth_verifier": consent.approve(state, token, username)})


VERBS: dict[str, Callable[[State, Arguments], Answer]] = {
    "consumers": register,
    "grant": grant,
    "consent": approve,
}


def answer(state: State, recorded: Iterable[RecordedRequest], request: Request, body: bytes) -> Answer:
    """Answer a control call; errors come as ``{"error": …}`` with a 4xx status."""
    try:
        client = request.client.host if request.client else ""
        if not client or not ipaddress.ip_address(client).is_loopback:
            raise Refusal(403, "the control interface answers loopback only", "plain")
        name = request.path_params["verb"]
        if name == "requests":
            if request.method != "GET":
                raise answers.method_not_allowed()
            return json_answer([asdict(one) for one in recorded])
        verb = VERBS.get(name)
        if verb is None:
            raise answers.not_found()
        if request.method != "POST":
            raise answers.method_not_allowed()
        return verb(state, _arguments(request, body))
    except Refusal as refusal:
        return refusal.answer(state.next_number())
    except ValueError as error:
        return json_answer({"error": str(error)}, 400)
    except LookupError as error:
        return json_answer({"error": str(error)}, 404)


def _arguments(request: Request, body: bytes) -> Arguments:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "send the arguments as application/json", "plain")
    try:
        values: object = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("the body is not a JSON object")
    return Arguments(cast("dict[str, object]", values))
