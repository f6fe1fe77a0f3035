"""`Session` and `AsyncSession` behind one face, for proofs that hold for both, with a keep-alive that goes by hand."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Protocol

from ibkr_oauth import AsyncSession, IBKROAuthError, Response, Session, _core
from ibkr_oauth.transport import USER_AGENT


class Driver(Protocol):
    """What a trader does with a session. Background work is done when `settle` returns."""

    session: Session | AsyncSession

    def get(self, path: str) -> Response: ...
    def post(self, path: str, json: object) -> Response: ...
    def open_brokerage(self) -> None: ...
    def beat(self) -> None: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


class _Beats:
    """What the keep-alive in C does by real time: a signed tickle, whose answer the session hears."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._client = _core.HttpClient(user_agent=USER_AGENT, ca_file=str(options["ca_file"]))

    def outcome(self, session: Session | AsyncSession) -> object:
        flow = session._flow
        if flow.credential is None:
            return None
        timestamp = str(int(flow.server_clock.now()))
        url, header = flow.credential.signer.sign(
            "POST", f"{session.base_url}/tickle", None, None, _core.nonce(), timestamp
        )
        try:
            return self._client.send("POST", url, [("Authorization", header)], None, True, 5000)
        except IBKROAuthError as error:
            return error


class SyncDriver:
    def __init__(self, **options: Any) -> None:
        self.session = Session(**options)
        self._beats = _Beats(options)

    def get(self, path: str) -> Response:
        return self.session.get(path)

    def post(self, path: str, json: object) -> Response:
        return self.session.post(path, json=json)

    def open_brokerage(self) -> None:
        self.session.brokerage.open()

    def beat(self) -> None:
        if outcome := self._beats.outcome(self.session):
            self.session._heard(outcome)

    def settle(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "ibkr_oauth renewal":
                thread.join()

    def close(self) -> None:
        self.session.close()


class AsyncDriver:
    def __init__(self, **options: Any) -> None:
        self.session = AsyncSession(**options)
        self._beats = _Beats(options)
        self._runner = asyncio.Runner()

    def get(self, path: str) -> Response:
        return self._run(self.session.get(path))

    def post(self, path: str, json: object) -> Response:
        return self._run(self.session.post(path, json=json))

    def open_brokerage(self) -> None:
        self._run(self.session.brokerage.open())

    def beat(self) -> None:
        async def hear(outcome: object) -> None:
            self.session._heard(outcome)

        if outcome := self._beats.outcome(self.session):
            self._run(hear(outcome))

    def settle(self) -> None:
        async def wait() -> None:
            while self.session._tasks:
                await asyncio.wait(set(self.session._tasks))

        self._run(wait())

    def close(self) -> None:
        self._run(self.session.close())
        self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)
