"""Runs the flows of one session side by side in simulated time: no threads, no tasks, no waiting, the same every time."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from ibkr_oauth import AccessToken, Consumer
from ibkr_oauth.session import make_flow
from ibkr_oauth.steps import Adopt, Background, Enter, Pause, Send

from .fake_service import Carrier, FakeService


class SimulatedGate:
    """A lock or semaphore that lets those who wait in, one after the other."""

    def __init__(self, simulation: Simulation, places: int) -> None:
        self._simulation = simulation
        self._free = places
        self._queue: deque[Run] = deque()

    def enter(self, run: Run) -> None:
        if self._free:
            self._free -= 1
            self._simulation.resume(run, 0.0)
        else:
            self._queue.append(run)

    def release(self) -> None:
        if self._queue:
            self._simulation.resume(self._queue.popleft(), 0.0)
        else:
            self._free += 1


class Run:
    """One flow on its way. `result` or `error` once it has ended, `ended` the moment, on the steady clock."""

    def __init__(self, steps: Any) -> None:
        self.steps = steps
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended: float | None = None


class Simulation:
    """`flow`: of a session with these options. `latency`: seconds from a request to its answer."""

    def __init__(
        self, service: FakeService, consumer: Consumer | None, access_token: AccessToken | None, **options: Any
    ) -> None:
        self.service = service
        self.clock = service.clock
        self.latency = 0.0
        self.adopted: list[Any] = []
        self.in_background: list[Run] = []
        self.most_under_way = 0
        self._under_way = 0
        self._carrier = Carrier(service)
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Run, Any, BaseException | None]] = []
        self.flow = make_flow(
            consumer, access_token, lambda places: SimulatedGate(self, places), options | {"clock": self.clock}
        )  # type: ignore[arg-type]

    def start(self, steps: Any, after: float = 0.0) -> Run:
        run = Run(steps)
        self.resume(run, after)
        return run

    def call(self, method: str, path: str, after: float = 0.0, json: object = None) -> Run:
        return self.start(self.flow.call(self.flow.prepare(method, path, None, json, None, None, None)), after)

    def at(self, after: float, action: Callable[[], object]) -> None:
        """Something that happens to the service meanwhile."""

        def steps() -> Any:
            yield Pause(0)
            action()

        self.start(steps(), after)

    def resume(self, run: Run, after: float, value: Any = None, error: BaseException | None = None) -> None:
        heapq.heappush(self._agenda, (self.clock.steady() + after, next(self._numbers), run, value, error))

    def run(self) -> None:
        """Until nothing is left to do."""
        while self._agenda:
            moment, _, run, value, error = heapq.heappop(self._agenda)
            self.clock.advance(max(0.0, moment - self.clock.steady()))
            try:
                step = run.steps.throw(error) if error is not None else run.steps.send(value)
            except StopIteration as done:
                run.result, run.ended = done.value, self.clock.steady()
            except Exception as failure:  # noqa: BLE001 - an outcome like any other
                run.error, run.ended = failure, self.clock.steady()
            else:
                self._do(run, step)

    def _do(self, run: Run, step: Any) -> None:
        if isinstance(step, Send):
            self._send(run, step)
        elif isinstance(step, Pause):
            self.resume(run, step.seconds)
        elif isinstance(step, Enter):
            step.gate.enter(run)  # type: ignore[attr-defined]
        elif isinstance(step, Background):
            self.in_background.append(self.start(step.steps))
            self.resume(run, 0.0)
        elif isinstance(step, Adopt):
            self.adopted.append(step.signer)
            self.resume(run, 0.0)

    def _send(self, run: Run, step: Send) -> None:
        response, error = None, None
        try:
            url, headers = step.signed()
            response = self._carrier.send(
                step.method, url, list(headers), step.body, timeout=step.timeout_ms / 1000, repeatable=step.repeatable
            )
        except Exception as failure:  # noqa: BLE001 - what the flow is to get
            error = failure
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)

        def arrive() -> Any:
            yield Pause(0)
            self._under_way -= 1

        self.start(arrive(), self.latency)
        self.resume(run, self.latency, response, error)
