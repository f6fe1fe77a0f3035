"""One test for both: drives a `Session`, or an `AsyncSession` on a loop of its own, by the same plain calls."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ibkr_oauth import AsyncSession, Session


class Driver:
    """A session whose methods are called plainly, whatever it is. `session`: the thing itself."""

    session: Any

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self.session, name))

    def _plain(self, value: Any) -> Any:
        return value

    def settle(self) -> None:
        """Waits until the work in the background has ended."""
        raise NotImplementedError

    def together(self, *calls: Callable[[Any], Any]) -> list[Any]:
        """Runs all calls at the same time, each with the session; gives results or errors in the same order."""
        raise NotImplementedError

    def shut(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()


class SyncDriver(Driver):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.session = Session(*arguments, **options)

    def settle(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "ibkr_oauth renewal":
                thread.join(20)
                assert not thread.is_alive()

    def together(self, *calls: Callable[[Any], Any]) -> list[Any]:
        outcomes: list[Any] = [None] * len(calls)

        def run(index: int) -> None:
            try:
                outcomes[index] = calls[index](self.session)
            except Exception as error:  # noqa: BLE001 - an outcome like any other
                outcomes[index] = error

        threads = [threading.Thread(target=run, args=[index]) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a call hangs"
        return outcomes

    def shut(self) -> None:
        self.session.close()
        self.settle()


class AsyncDriver(Driver):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.session = AsyncSession(*arguments, **options)  # first: a wrong option leaves no loop behind
        self._runner = asyncio.Runner()

    def _plain(self, value: Any) -> Any:
        if inspect.iscoroutinefunction(value):
            return lambda *arguments, **options: self._runner.run(value(*arguments, **options))
        if type(value).__name__ == "AsyncSessionBrokerage":
            return _PlainBrokerage(value, self._plain)
        return value

    def settle(self) -> None:
        async def wait() -> None:
            while self.session._tasks:
                await asyncio.wait(self.session._tasks, timeout=20)

        self._runner.run(wait())

    def together(self, *calls: Callable[[Any], Any]) -> list[Any]:
        async def run() -> list[Any]:
            made = [call(self.session) for call in calls]
            return await asyncio.wait_for(asyncio.gather(*made, return_exceptions=True), 30)

        return self._runner.run(run())

    def shut(self) -> None:
        try:
            self._runner.run(self.session.close())
        finally:
            self._runner.close()


class _PlainBrokerage:
    def __init__(self, brokerage: Any, plain: Callable[[Any], Any]) -> None:
        self._brokerage = brokerage
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        return self._plain(getattr(self._brokerage, name))


DRIVERS: dict[str, type[Driver]] = {"sync": SyncDriver, "async": AsyncDriver}
