"""Misbehaviour on request: what the sandbox does wrong in the next answers.

A fault is armed for a number of requests and, if wanted, for one path. It acts at one of three
points: `instead` of any check, `afterwards` on a good answer, or on the connection, by a `Drop` or
a delay. Another kind of misbehaviour is another method of `Faults` that arms a `Fault`.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from . import answers
from .answers import Answer
from .crypto import ExchangeShape

Alteration = Callable[[dict[str, object]], dict[str, object] | str | bytes]
"""Takes the JSON object of a good answer; returns another one, or the raw body to send."""


DropStage = Literal["before processing", "before the answer", "in the answer"]
"""Where a connection is cut: the request was read and nothing was done with it; it was processed, and
no byte of the answer was sent; it was processed, and only the first bytes of the answer were sent."""


@dataclass(frozen=True)
class Drop:
    """Cut the connection at a stage; in the answer after so many bytes, or after such a part of it."""

    stage: DropStage
    after_bytes: int = 0
    fraction: float = 0.0

    def kept(self, length: int) -> int:
        """How many bytes of an answer of that length are sent."""
        return self.after_bytes or max(1, int(length * self.fraction))


@dataclass(eq=False)
class Fault:
    """One armed misbehaviour; `times` counts down the requests that it will still hit."""

    path: str | None
    times: int
    instead: Callable[[], Answer] | None = None
    afterwards: Callable[[Answer], Answer] | None = None
    drop: Drop | None = None
    delay: float = 0.0


class Faults:
    """The armed faults of one sandbox, in the order in which they were armed."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._shapes: list[ExchangeShape] = []
        self._drop_probability = 0.0
        self._random = random.Random()  # noqa: S311

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
            return replace(answer, body=_to_bytes(body), content_type=content_type or answer.content_type)

        self._armed.append(Fault(path, times, afterwards=afterwards))

    def shape_next_exchange(self, shape: ExchangeShape, times: int) -> None:
        """Choose the server's Diffie-Hellman secret. See `Sandbox.shape_next_exchange`."""
        _check_times(times)
        self._shapes.extend(itertools.repeat(shape, times))

    def drop_connection(self, after_bytes: int, times: int, *, path: str | None, before_processing: bool) -> None:
        """Cut the connection. See `Sandbox.drop_connection`."""
        _check_times(times)
        if after_bytes < 0:
            raise ValueError(f"after_bytes {after_bytes}: at least 0")
        if before_processing and after_bytes:
            raise ValueError("after_bytes: there is no answer before_processing")
        stage: DropStage = "in the answer" if after_bytes else "before the answer"
        drop = Drop("before processing" if before_processing else stage, after_bytes)
        self._armed.append(Fault(path, times, drop=drop))

    def drop_randomly(self, probability: float, seed: int | None) -> None:
        """Cut connections now and then. See `Sandbox.drop_randomly`."""
        if not 0 <= probability <= 1:
            raise ValueError(f"probability {probability}: from 0 to 1")
        self._drop_probability = probability
        self._random = random.Random(seed)  # noqa: S311

    def delay(self, seconds: float, times: int, *, path: str | None) -> None:
        """Answer late. See `Sandbox.delay`."""
        _check_times(times)
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds {seconds}: at least 0")
        self._armed.append(Fault(path, times, delay=seconds))

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

    def next_drop(self, path: str) -> Drop | None:
        """Where the connection of this request is to be cut, if at all."""
        for fault in self._armed:
            if fault.drop and self._hits(fault, path):
                return fault.drop
        if self._drop_probability and self._random.random() < self._drop_probability:
            return Drop(self._random.choice(get_args(DropStage)), fraction=self._random.random())
        return None

    def next_delay(self, path: str) -> float:
        """By how many seconds the answer to this request is to be late."""
        for fault in self._armed:
            if fault.delay and self._hits(fault, path):
                return fault.delay
        return 0.0

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
