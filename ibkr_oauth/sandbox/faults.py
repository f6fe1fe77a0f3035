"""Misbehaviour on request: what the sandbox does wrong in the next answers.

A fault is armed for a number of requests and, if wanted, for one path. It acts at one of two
points: `instead` of any check, or `afterwards` on a good answer. Another kind of misbehaviour is
another method of `Faults` that arms a `Fault`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass

from . import answers
from .answers import Answer
from .crypto import ExchangeShape

Alteration = Callable[[dict[str, object]], dict[str, object] | str | bytes]
"""Takes the JSON object of a good answer; returns another one, or the raw body to send."""


@dataclass(eq=False)
class Fault:
    """One armed misbehaviour; `times` counts down the requests that it will still hit."""

    path: str | None
    times: int
    instead: Callable[[], Answer] | None = None
    afterwards: Callable[[Answer], Answer] | None = None


class Faults:
    """The armed faults of one sandbox, in the order in which they were armed."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._shapes: list[ExchangeShape] = []

    # --- Arming ----------------------------------------------------------------------------------

    def fail_next(
        self,
        status: int,
        times: int,
        *,
        path: str | None,
        body: str | bytes | None,
        content_type: str | None,
    ) -> None:
        """Answer with this status, before any check. See `Sandbox.fail_next`."""
        if not 200 <= status <= 599:
            raise ValueError(f"status {status}: from 200 to 599")
        _check_times(times)
        if body is None:
            error = {"error": answers.status_phrase(status), "statusCode": status}
            answer = answers.json_answer(error, status)
        else:
            answer = Answer(status, _to_bytes(body))
        if content_type is not None:
            answer = Answer(status, answer.body, content_type)
        self._armed.append(Fault(path, times, instead=lambda: answer))

    def tamper_next(self, path: str, alter: Alteration, times: int, *, content_type: str | None) -> None:
        """Alter good answers of one path. See `Sandbox.tamper_next`."""
        _check_times(times)

        def afterwards(answer: Answer) -> Answer:
            altered = alter(json.loads(answer.body))
            body = json.dumps(altered) if isinstance(altered, dict) else altered
            return Answer(answer.status, _to_bytes(body), content_type or answer.content_type)

        self._armed.append(Fault(path, times, afterwards=afterwards))

    def shape_next_exchange(self, shape: ExchangeShape, times: int) -> None:
        """Choose the server's Diffie-Hellman secret. See `Sandbox.shape_next_exchange`."""
        _check_times(times)
        self._shapes.extend(itertools.repeat(shape, times))

    # --- Acting ----------------------------------------------------------------------------------

    def instead(self, path: str) -> Answer | None:
        """The answer to give without looking at the request at all, if any."""
        for fault in self._armed:
            if fault.instead and self._hits(fault, path):
                return fault.instead()
        return None

    def afterwards(self, path: str, answer: Answer) -> Answer:
        """The good answer, or what a fault makes of it."""
        for fault in self._armed:
            if fault.afterwards and self._hits(fault, path):
                return fault.afterwards(answer)
        return answer

    def next_shape(self) -> ExchangeShape | None:
        """The shape that the next exchange is to have, if any."""
        return self._shapes.pop(0) if self._shapes else None

    def _hits(self, fault: Fault, path: str) -> bool:
        if fault.path not in (None, path):
            return False
        fault.times -= 1
        if fault.times == 0:
            self._armed.remove(fault)
        return True


def _check_times(times: int) -> None:
    if times < 1:
        raise ValueError(f"times {times}: at least 1")


def _to_bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body
