"""``/_sandbox/…``: the verbs of `Sandbox` over HTTP, for clients in other languages and processes.

Loopback only. A GET asks, a POST acts: it takes a JSON object sent as ``application/json``, which no
web page on another origin can do without asking first. Names and arguments are those of `Sandbox`.
"""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, cast, get_args

from starlette.datastructures import Headers

from . import answers, consent
from .answers import Answer, Refusal, json_answer
from .crypto import ExchangeShape

if TYPE_CHECKING:
    from .server import Sandbox

ROOT = "/_sandbox"


class Arguments:
    """The JSON object of a control call; complains about what is missing or of another type."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values
        self._known = set[str]()

    def text(self, name: str, default: str | None = None) -> str:
        """A text argument; a missing one is the default, or an error if there is none."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise ValueError(f"{name}: missing or not text")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text argument that may be missing or null."""
        return None if self._value(name, None) is None else self.text(name)

    def flag(self, name: str, default: bool) -> bool:
        """A true or false argument."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name}: neither true nor false")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; a missing one is the default, or an error if there is none."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}: missing or not a number")
        return value

    def optional_number(self, name: str) -> float | None:
        """A number that may be missing or null."""
        return None if self._value(name, None) is None else self.number(name)

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; a missing one is the default, or an error if there is none."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name}: missing or not a whole number")
        return value

    def check_all_known(self) -> None:
        """Raises `ValueError` for an argument that nobody has asked for: a misspelt one would go unnoticed."""
        unknown = sorted(set(self._values) - self._known)
        if unknown:
            raise ValueError(f"{unknown[0]}: no argument of this verb; it takes {sorted(self._known) or 'none'}")

    def _value(self, name: str, default: object) -> object:
        self._known.add(name)
        return self._values.get(name, default)


Action = Callable[[], object]
"""What a verb does once its arguments are read; returns the value to answer with, if any."""


def register(sandbox: Sandbox, arguments: Arguments) -> Action:
    """``POST /_sandbox/consumers``: as `Sandbox.register`, keys and parameters as PEM text."""
    consumer_key, signature_key = arguments.text("consumer_key"), arguments.text("signature_key")
    encryption_key, dh_params = arguments.text("encryption_key"), arguments.text("dh_params")
    callback, realm = arguments.text("callback", "http://localhost:20000/"), arguments.text("realm", "") or None
    active = arguments.flag("active", True)

    def act() -> object:
        consumer = sandbox.register(
            consumer_key, signature_key, encryption_key, dh_params, callback=callback, active=active, realm=realm
        )
        return {
            "consumer_key": consumer.key,
            "realm": consumer.realm,
            "callback": consumer.callback,
            "active": consumer.active,
        }

    return act


def grant(sandbox: Sandbox, arguments: Arguments) -> Action:
    """``POST /_sandbox/grant``: as `Sandbox.grant`."""
    consumer_key, username = arguments.text("consumer_key"), _username(arguments)

    def act() -> object:
        token, secret = sandbox.grant(consumer_key, username)
        return {"oauth_token": token, "oauth_token_secret": secret}

    return act


def approve(sandbox: Sandbox, arguments: Arguments) -> Action:
    """``POST /_sandbox/consent``: as `Sandbox.consent`."""
    token, username = arguments.text("oauth_token"), _username(arguments)
    return lambda: {"oauth_verifier": sandbox.consent(token, username)}


def _activate(sandbox: Sandbox, arguments: Arguments) -> Action:
    consumer_key = arguments.text("consumer_key")
    return lambda: sandbox.activate(consumer_key)


def _deactivate_consumer(sandbox: Sandbox, arguments: Arguments) -> Action:
    consumer_key = arguments.text("consumer_key")
    return lambda: sandbox.deactivate_consumer(consumer_key)


def _compete_from(sandbox: Sandbox, arguments: Arguments) -> Action:
    program, username = arguments.text("program"), _username(arguments)
    return lambda: sandbox.compete_from(program, username)


def _stop_competing(sandbox: Sandbox, arguments: Arguments) -> Action:
    username = _username(arguments)
    return lambda: sandbox.stop_competing(username)


def _skew(sandbox: Sandbox, arguments: Arguments) -> Action:
    seconds = arguments.number("seconds")
    return lambda: sandbox.skew(seconds)


def _maintenance(sandbox: Sandbox, arguments: Arguments) -> Action:
    on = arguments.flag("on", True)
    return lambda: sandbox.maintenance(on)


def _fail_next(sandbox: Sandbox, arguments: Arguments) -> Action:
    status, times = arguments.integer("status"), arguments.integer("times", 1)
    body, content_type = arguments.optional_text("body"), arguments.optional_text("content_type")
    path = arguments.optional_text("path")
    return lambda: sandbox.fail_next(status, times, body, content_type, path=path)


def _delay(sandbox: Sandbox, arguments: Arguments) -> Action:
    seconds, times = arguments.number("seconds"), arguments.integer("times", 1)
    path = arguments.optional_text("path")
    return lambda: sandbox.delay(seconds, times, path=path)


def _drop_connection(sandbox: Sandbox, arguments: Arguments) -> Action:
    after_bytes, times = arguments.integer("after_bytes", 0), arguments.integer("times", 1)
    path, before = arguments.optional_text("path"), arguments.flag("before_processing", False)
    return lambda: sandbox.drop_connection(after_bytes, times, path=path, before_processing=before)


def _drop_randomly(sandbox: Sandbox, arguments: Arguments) -> Action:
    probability = arguments.number("probability")
    seed = None if arguments.optional_number("seed") is None else arguments.integer("seed")
    return lambda: sandbox.drop_randomly(probability, seed)


def _rate_limit(sandbox: Sandbox, arguments: Arguments) -> Action:
    per_second, retry_after = arguments.optional_number("per_second"), arguments.optional_number("retry_after")
    penalty, path = arguments.number("penalty", 0.0), arguments.optional_text("path")
    return lambda: sandbox.rate_limit(per_second, retry_after, path, penalty=penalty)


def _shape_next_exchange(sandbox: Sandbox, arguments: Arguments) -> Action:
    shape, times = arguments.text("shape"), arguments.integer("times", 1)
    if shape not in get_args(ExchangeShape):
        raise ValueError(f"shape {shape!r}: one of {get_args(ExchangeShape)}")
    return lambda: sandbox.shape_next_exchange(cast("ExchangeShape", shape), times)


def _send_web_socket(sandbox: Sandbox, arguments: Arguments) -> Action:
    text, username = arguments.text("text"), arguments.optional_text("username")
    return lambda: sandbox.send_web_socket(text, username)


def _restart(sandbox: Sandbox, arguments: Arguments) -> Action:
    """On a thread of its own: it ends the one that answers here, and perhaps this very connection."""
    pause = arguments.number("pause", 0.0)
    return threading.Thread(target=sandbox.restart, args=(pause,), daemon=True).start


def _username(arguments: Arguments) -> str:
    return arguments.text("username", consent.DEFAULT_USERNAME)


VERBS: Mapping[str, Callable[[Sandbox, Arguments], Action]] = {
    "consumers": register,
    "grant": grant,
    "consent": approve,
    "activate": _activate,
    "deactivate_consumer": _deactivate_consumer,
    "expire_token": lambda sandbox, _: sandbox.expire_token,
    "end_brokerage": lambda sandbox, _: sandbox.end_brokerage,
    "lose_session": lambda sandbox, _: sandbox.lose_session,
    "compete_from": _compete_from,
    "stop_competing": _stop_competing,
    "skew": _skew,
    "maintenance": _maintenance,
    "fail_next": _fail_next,
    "delay": _delay,
    "drop_connection": _drop_connection,
    "drop_connections": lambda sandbox, _: sandbox.drop_connections,
    "drop_randomly": _drop_randomly,
    "rate_limit": _rate_limit,
    "shape_next_exchange": _shape_next_exchange,
    "drop_web_sockets": lambda sandbox, _: sandbox.drop_web_sockets,
    "send_web_socket": _send_web_socket,
    "restart": _restart,
}

QUESTIONS: Mapping[str, Callable[[Sandbox], object]] = {
    "requests": lambda sandbox: [asdict(one) for one in sandbox.requests],
    "counts": lambda sandbox: sandbox.counts,
    "orders": lambda sandbox: [asdict(one) for one in sandbox.orders],
    "web_sockets": lambda sandbox: [asdict(one) for one in sandbox.web_sockets],
}

_CREATED = ("consumers",)


def answer(sandbox: Sandbox, client: str | None, method: str, name: str, headers: Headers, body: bytes) -> Answer:
    """Answer a control call of a `client` at that address; errors come as ``{"error": …}`` with a 4xx status."""
    try:
        if not client or not ipaddress.ip_address(client).is_loopback:
            raise Refusal(403, "the control interface answers loopback only", "plain")
        if name in QUESTIONS:
            if method != "GET":
                raise answers.method_not_allowed()
            return json_answer(QUESTIONS[name](sandbox))
        if name not in VERBS:
            raise answers.not_found()
        if method != "POST":
            raise answers.method_not_allowed()
        arguments = _arguments(headers, body)
        act = VERBS[name](sandbox, arguments)
        arguments.check_all_known()
        value = act()
        return json_answer({} if value is None else value, 201 if name in _CREATED else 200)
    except Refusal as refusal:
        return refusal.answer(sandbox._state.next_number())
    except ValueError as error:
        return json_answer({"error": str(error)}, 400)
    except LookupError as error:
        return json_answer({"error": str(error)}, 404)


def _arguments(headers: Headers, body: bytes) -> Arguments:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "send the arguments as application/json", "plain")
    try:
        values: object = json.loads(body)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("the body is not a JSON object")
    return Arguments(cast("dict[str, object]", values))
