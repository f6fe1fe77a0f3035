"""`AsyncSession`: the same flow, run by tasks, with the transfers on the C engine's thread."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from . import _core, telemetry
from .consumer import Consumer
from .errors import IBKROAuthError, SessionClosed, UsageError, UsedAfterFork
from .flow import Call
from .health import BrokerageStatus
from .log import WARNING, Log
from .redact import path_of
from .session import AnySession, SessionOptions, carry
from .signing import Pairs, SignedRequest
from .steps import Adopt, Background, Enter, Gate, Pause, Result, Send, Step, Steps
from .tokens import AccessToken
from .transport import Answered, Response, answer, check_allowed

if TYPE_CHECKING:
    from .integrations import WebSocketParameters

logger = Log("ibkr_oauth.session")

#: What the keep-alive brings comes under this key; calls have others.
_KEEP_ALIVE = 0


class _Line:
    """The way between one event loop and the engine: requests go down, answers come up in batches.

    It knows the session by a weak reference only, so that one that nobody uses any more can go.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, options: dict[str, Any], session: AsyncSession) -> None:
        self.loop = loop
        self.mailbox = _core.Mailbox()
        self.client = _core.EngineClient(self.mailbox, **options)
        self._session = weakref.ref(session)
        self._keys = itertools.count(_KEEP_ALIVE + 1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        loop.add_reader(self.mailbox.fileno(), self._take)

    async def send(self, step: Send) -> Response:
        check_allowed(step.url)
        key = next(self._keys)
        future: asyncio.Future[object] = self.loop.create_future()
        self._waiting[key] = future
        try:
            self.client.submit(key, *step.native())
            answered = cast("Answered", await future)
        except asyncio.CancelledError:
            session = self._session()
            if self.client.cancel(key) and not step.repeatable and session is not None:
                session._flow.unknown(f"{step.method} {path_of(step.url)}: cancelled, and perhaps processed")
            raise
        finally:
            self._waiting.pop(key, None)
        return answer(step, answered)

    def _take(self) -> None:
        for key, outcome in self.mailbox.take():
            if key == _KEEP_ALIVE:
                session = self._session()
                if session is not None:
                    session._heard(outcome)
                continue
            future = self._waiting.get(key)
            if future is None or future.done():
                continue  # it was cancelled just now: nobody waits
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def cancel(self) -> None:
        """Ends what is under way: those who wait get SessionClosed."""
        for key, future in list(self._waiting.items()):
            sent = self.client.cancel(key)  # or perhaps: it was under way
            if not future.done() and not self.loop.is_closed():
                future.set_exception(SessionClosed("the session was closed while the call was under way", sent=sent))

    def close(self) -> None:
        """On the loop's thread."""
        self.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self.mailbox.fileno())
        self.client.close()

    def abandon(self) -> None:
        """The session was dropped without being closed; on whatever thread that shows."""
        self.client.close()
        if not self.loop.is_closed():
            try:
                self.loop.call_soon_threadsafe(self.loop.remove_reader, self.mailbox.fileno())
            except RuntimeError:  # it was closed just now
                return


class AsyncSession(AnySession):
    """`Session` for asyncio: the same keyword arguments and names, to be awaited.

    ```python
    async with AsyncSession(consumer, access_token) as ibkr:
        response = await ibkr.get("/iserver/accounts")
    ```

    Tasks of one event loop may share one. Cancelling a task ends its transfer; a request that is not safe to repeat may
    then have been processed. A `transport` for tests has `send` as a coroutine function.
    """

    def __init__(
        self,
        consumer: Consumer | None = None,
        access_token: AccessToken | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        super().__init__(consumer, access_token, **options)
        self._carrier = options.get("transport")
        _core.HttpClient(**self._options)  # wrong options show at once
        self._line: _Line | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pauses: set[asyncio.Future[None]] = set()
        self._drop: weakref.finalize[[], AsyncSession] | None = None

    # --- Calls -----------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - for each attempt, and enforced by the engine
    ) -> Response:
        """One call; see `Session.request`."""
        call = self._flow.prepare(method, path, params, json, data, headers, timeout)
        if telemetry.API in sys.modules:
            with telemetry.span(method, call.path) as span:
                return span.done(await self._call(call))
        return await self._call(call)

    async def _call(self, call: Call) -> Response:
        """See `Session._call`."""
        flow, line = self._flow, self._line
        at_hand = line is not None and line.loop is asyncio.get_running_loop() and self._pid == os.getpid()
        if line is None or not at_hand or not flow.attempt(call):
            return await self._run(flow.call(call))
        try:
            response = await line.send(call)
            if flow.is_settled(call, response):
                return response
            outcome: Response | IBKROAuthError = response
        except IBKROAuthError as error:
            outcome = error.with_traceback(None)
        return await self._run(flow.call(call, outcome))

    async def get(
        self,
        path: str,
        params: Pairs | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """`GET`; see `Session.request`."""
        return await self.request("GET", path, params=params, headers=headers, timeout=timeout)

    async def post(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """`POST`, once; see `Session.request`."""
        return await self.request("POST", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    async def put(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """`PUT`, once; see `Session.request`."""
        return await self.request("PUT", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    async def patch(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        data: Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """`PATCH`, once; see `Session.request`."""
        return await self.request("PATCH", path, params=params, json=json, data=data, headers=headers, timeout=timeout)

    async def delete(
        self,
        path: str,
        *,
        params: Pairs | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Response:
        """`DELETE`, once; see `Session.request`."""
        return await self.request("DELETE", path, params=params, json=json, headers=headers, timeout=timeout)

    # --- The session itself ----------------------------------------------------------------------

    async def open(self) -> Self:
        """Agrees on a live session token now, and opens the brokerage session where that is wanted eagerly."""
        await self._run(self._flow.open())
        return self

    async def status(self) -> BrokerageStatus:
        """Asks the service about the brokerage session."""
        return await self._run(self._flow.status())

    async def refresh(self) -> None:
        """Another live session token, agreed on now, whatever the store has."""
        await self._run(self._flow.renew(self._flow.credential, anew=True))

    async def tickle(self) -> Response:
        """One tickle by hand; the answer has the identifier that the web socket needs."""
        return await self._run(self._flow.tickle())

    @property
    def brokerage(self) -> AsyncSessionBrokerage:
        """The second tier: `open()`, `close()`, `state`."""
        return AsyncSessionBrokerage(self)

    async def close(self) -> None:
        """Ends what other tasks have under way, logs out what this session opened, and closes. May be called again."""
        if self._flow.closed:
            return
        if self._pid != os.getpid():
            self._flow.closed = True
            return  # in a forked child: all of it is the parent's
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            self._pick_up()  # the farewell goes by the loop that runs now
        self._flow.closed = True
        keep_alive, self._keep_alive = self._keep_alive, None
        if keep_alive is not None:
            keep_alive.stop()
        for task in self._tasks:
            task.cancel()
        for pause in self._pauses:
            if not pause.done():
                pause.set_result(None)
        if self._line is not None:
            self._line.cancel()
        try:
            await self._run(self._flow.close())
        finally:
            self._hang_up()
            self._flow.emit("closed", "the session is closed")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- For other clients -----------------------------------------------------------------------

    async def sign(self, method: str, url: str, *, form: Pairs | None = None) -> SignedRequest:
        """Signs one attempt of a request that another client will send; see `Session.sign`."""
        return await self._run(self._flow.sign(method, url, form))

    async def must_sign_again(
        self, signed: SignedRequest, status_code: int, headers: Mapping[str, str], content: bytes
    ) -> bool:
        """Whether an answer refuses the signature itself; see `Session.must_sign_again`."""
        return await self._run(self._flow.must_sign_again(signed, status_code, headers, content))

    async def web_socket(self) -> WebSocketParameters:
        """Address, cookie and user agent of the web socket, for any client; asks for a tickle. See `integrations`."""
        from .integrations import web_socket_async  # noqa: PLC0415 - only for those who open one

        return await web_socket_async(self)

    # --- Running flows as tasks ------------------------------------------------------------------

    @staticmethod
    def _new_gate(places: int) -> Gate:
        return asyncio.Lock() if places == 1 else asyncio.Semaphore(places)

    async def _run(self, steps: Steps[Result]) -> Result:
        line = self._line
        if line is None or line.loop is not asyncio.get_running_loop() or self._pid != os.getpid():
            self._pick_up()
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Send) and self._line is not None:
                        value: object = await self._line.send(step)
                    else:
                        value = await self._do(step)
                except IBKROAuthError as error:
                    # Without the frames that sent it: their variables hold signatures and bodies.
                    step = steps.throw(error.with_traceback(None))
                except BaseException as error:  # noqa: BLE001 - the flow lets go of its gates
                    step = steps.throw(error)
                else:
                    step = steps.send(value)
        except StopIteration as done:
            return cast("Result", done.value)

    async def _do(self, step: Step) -> object:
        if isinstance(step, Send):
            carrier = self._carrier
            if carrier is None:
                raise SessionClosed("the session was closed")
            return await carry(carrier, step)
        if type(step) is Pause:
            await self._pause(step.seconds)
        elif type(step) is Enter:
            await cast("asyncio.Lock", step.gate).acquire()
        elif type(step) is Background:
            self._in_background(step.steps)
        elif type(step) is Adopt:
            self._keep()
        return None

    async def _pause(self, seconds: float) -> None:
        """Cut short by `close`."""
        sleep = asyncio.ensure_future(self._flow.clock.sleep_async(seconds))
        closing = asyncio.get_running_loop().create_future()
        self._pauses.add(closing)
        try:
            await asyncio.wait({sleep, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pauses.discard(closing)
            sleep.cancel()
        self._flow.check_open()

    def _in_background(self, steps: Steps[None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run_quietly(steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_quietly(self, steps: Steps[None]) -> None:
        try:
            await self._run(steps)
        except SessionClosed:
            pass
        except Exception:  # noqa: BLE001 - told with its traceback
            logger.log(WARNING, "work in the background failed", trace=True)

    def _pick_up(self) -> None:
        """A line to the loop that runs now."""
        if self._pid != os.getpid():
            raise UsedAfterFork(
                "this AsyncSession was made before a fork", advice="Make another one in the child, with its own loop."
            )
        if self._flow.closed:
            return
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise UsageError(
                    "this AsyncSession belongs to another event loop, which is still there",
                    advice="Make one for each event loop; threads without one share a Session.",
                )
            self._hang_up()
            self._flow.new_gates(self._new_gate)  # the former ones belong to the loop that is gone
        if self._loop is not loop:
            self._loop = loop
            if self._carrier is None:
                line = self._line = _Line(loop, self._options, self)
                self._drop = weakref.finalize(self, line.abandon)
                self._drop.atexit = False
        self._keep()

    def _hang_up(self) -> None:
        line, self._line, self._keep_alive, self._loop = self._line, None, None, None
        if self._drop is not None:
            self._drop.detach()
            self._drop = None
        if line is not None and self._pid == os.getpid():
            line.close()

    # --- The keep-alive --------------------------------------------------------------------------

    def _keep(self) -> None:
        """Starts the keep-alive as soon as there is something to sign with, or gives it the new token."""
        if self._line is None or not self._can_be_kept():
            return
        if self._keep_alive is None:
            self._keep_alive = self._make_keep_alive(self._line.client, _KEEP_ALIVE)
        self._start(self._keep_alive)


class AsyncSessionBrokerage:
    """The brokerage session of an `AsyncSession`; see `SessionBrokerage`."""

    __slots__ = ("_session",)

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    @property
    def state(self) -> str:
        """`not open`, `open`, `lost`, `competing` or `refused`: what is known without asking."""
        return self._session._flow.brokerage.state

    async def open(self, compete: bool | None = None) -> BrokerageStatus:
        """Opens it (`ssodh/init`). Raises CompetingSession, BrokerageRefused."""
        return await self._session._run(self._session._flow.brokerage.open(self._session._flow, compete))

    async def close(self) -> None:
        """Logs out, where it is open. The live session token stays."""
        await self._session._run(self._session._flow.brokerage.close(self._session._flow))

    def __repr__(self) -> str:
        return f"<brokerage session {self.state}>"
