"""Sessions that are closed, forked, or used from a loop or a thread that is not theirs."""

import asyncio
import gc
import os
import pickle
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.callers import (
    CALLERS,
    PLAIN,
    assert_helpful,
    assert_hidden,
    counts,
    credentials,
    eventually,
    state_of_process,
)
from support.rogue import PATIENCE, Peer, Rogue

from ibkr_oauth import (
    AsyncSession,
    ConnectError,
    Consumer,
    IBKROAuthError,
    OutcomeUnknown,
    Session,
    SessionClosed,
    TransportError,
    UsageError,
    UsedAfterFork,
)
from ibkr_oauth.transport import Transport

FINE = {"fine": True}


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    with Rogue() as running:
        yield running


@pytest.fixture
def options(rogue: Rogue, consumer: Consumer) -> dict[str, Any]:
    return {"base_url": rogue.base_url, **credentials(consumer), **PLAIN}


def test_work_in_the_background_that_fails_is_told_and_no_more(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def steps(error: Exception) -> Any:
        raise error
        yield

    async def as_tasks() -> None:
        async with AsyncSession(**options) as session:
            for error in (SessionClosed("closed"), ZeroDivisionError("odd")):
                await session._run_quietly(steps(error))

    with Session(**options) as session:
        for error in (SessionClosed("closed"), ZeroDivisionError("odd")):
            session._run_quietly(steps(error))
    asyncio.run(as_tasks())
    told = [record for record in caplog.records if record.getMessage() == "work in the background failed"]
    assert [record.exc_info[0] for record in told if record.exc_info] == [ZeroDivisionError, ZeroDivisionError]


def test_a_tickle_that_is_answered_after_the_end_is_no_news(options: dict[str, Any]) -> None:
    told: list[Any] = []
    session = Session(**options, on_event=told.append)
    session.close()
    before = list(told)
    session._heard(ConnectError("nobody is there"))
    assert told == before
    assert session.health().last_error is None


def test_connections_that_are_closed_send_nothing() -> None:
    transport = Transport()
    transport.close()
    transport.close()
    with pytest.raises(SessionClosed):
        transport.send("GET", "https://127.0.0.1:1/", [])


def test_who_sends_may_say_what_is_safe_to_repeat(rogue: Rogue) -> None:
    transport = Transport()
    for method, repeatable, is_unknown in (
        ("GET", None, False),
        ("GET", False, True),
        ("POST", None, True),
        ("POST", True, False),
    ):
        for _ in range(4):
            rogue.answering(Peer.cut)
        with pytest.raises(TransportError) as caught:
            transport.send(method, rogue.base_url, [], repeatable=repeatable)
        assert isinstance(caught.value, OutcomeUnknown) is is_unknown
    transport.close()


def in_child(deed: Callable[[], object]) -> None:
    """Does it in a forked child; what goes wrong there goes wrong here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            deed()
            said = b""
        except BaseException:  # noqa: BLE001 - it is told to the parent
            said = traceback.format_exc().encode()
        os.write(writing, said)
        os._exit(0 if not said else 1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said_there = pipe.read()
    _, status = os.waitpid(child, 0)
    assert not said_there, said_there
    assert status == 0


def in_thread(deed: Callable[[], object]) -> None:
    """Does it in another thread, and waits for it."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            deed()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


# --- Closed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("kind", CALLERS)
def test_closed_sessions(
    kind: str, rogue: Rogue, options: dict[str, Any], used: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with CALLERS[kind](**options) as caller:
        if used:
            assert caller.request("GET", "/a").json() == FINE
        caller.run("close")
        before = len(rogue.requests)
        calls: list[Callable[[], Any]] = [
            lambda: caller.request("GET", "/a"),
            lambda: caller.request("POST", "/a", json={"a": 1}),
            lambda: caller.request("POST", "/iserver/account/U1/orders"),
            lambda: caller.run("open"),
            lambda: caller.run("status"),
            lambda: caller.run("refresh"),
            lambda: caller.run("tickle"),
            lambda: caller.run("sign", "GET", f"{rogue.base_url}/a"),
        ]
        for number, call in enumerate(calls):
            with pytest.raises(SessionClosed) as caught:
                call()
            assert not caught.value.sent, number
            assert_helpful(caught.value)
            assert_hidden(caught.value, caplog.records)
        caller.run("close")
        assert caller.session.health().state == "closed"
        assert "closed" in repr(caller.session)
        assert len(rogue.requests) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closing_ends_what_another_thread_has_under_way(rogue: Rogue, options: dict[str, Any], method: str) -> None:
    session = Session(**{**options, "timeout": PATIENCE})
    rogue.answering(Peer.stall)
    errors: list[IBKROAuthError] = []

    def call() -> None:
        with pytest.raises(SessionClosed) as caught:
            session.request(method, "/a")
        errors.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    rogue.wait_until_stalled()
    session.close()
    thread.join(PATIENCE)
    assert errors[0].sent  # whoever sent an order has to ask what became of it
    rogue.wait_for_connections(0)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closing_ends_what_another_task_has_under_way(rogue: Rogue, options: dict[str, Any], method: str) -> None:
    async def main() -> None:
        session = AsyncSession(**{**options, "timeout": PATIENCE})
        rogue.answering(Peer.stall)
        call = asyncio.create_task(session.request(method, "/a"))
        await asyncio.to_thread(rogue.wait_until_stalled)
        await session.close()
        with pytest.raises(SessionClosed) as caught:
            await call
        assert caught.value.sent

    asyncio.run(main())
    rogue.wait_for_connections(0)


def test_cancelling_a_task_ends_its_transfer_only(rogue: Rogue, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncSession(**options) as session:
            rogue.answering(Peer.stall)
            stalled = asyncio.create_task(session.get("/a"))
            await asyncio.to_thread(rogue.wait_until_stalled)
            assert (await session.get("/b")).json() == FINE
            stalled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stalled
            await asyncio.to_thread(rogue.wait_for_connections, 1)
            assert (await session.get("/c")).json() == FINE

    asyncio.run(main())


def test_a_deadline_of_the_callers(rogue: Rogue, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncSession(**options) as session:
            rogue.answering(Peer.stall)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await session.get("/a")
            assert (await session.get("/b")).json() == FINE

    asyncio.run(main())


# --- Dropped -------------------------------------------------------------------------------------


@counts
def test_sessions_that_nobody_closes(rogue: Rogue, options: dict[str, Any]) -> None:
    """They go when nobody holds them any more, with their connections."""
    before = state_of_process()
    session = Session(**options)
    assert session.get("/a").json() == FINE
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    rogue.wait_for_connections(0)
    eventually(before)


@counts
@pytest.mark.parametrize("inside", [True, False])
def test_async_sessions_that_nobody_closes(rogue: Rogue, options: dict[str, Any], inside: bool) -> None:
    """While their loop still runs, and after it is gone."""
    before = state_of_process()

    async def main() -> AsyncSession | None:
        session = AsyncSession(**options)
        assert (await session.get("/a")).json() == FINE
        if not inside:
            return session
        del session
        gc.collect()
        await asyncio.to_thread(rogue.wait_for_connections, 0)
        return None

    kept = asyncio.run(main())
    del kept
    gc.collect()
    rogue.wait_for_connections(0)
    eventually(before)


@pytest.mark.parametrize("kind", CALLERS)
def test_sessions_are_not_to_be_copied_elsewhere(kind: str, options: dict[str, Any]) -> None:
    with CALLERS[kind](**options) as caller, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(caller.session)


# --- Forked --------------------------------------------------------------------------------------


def test_a_session_in_a_forked_child(rogue: Rogue, options: dict[str, Any]) -> None:
    """The child calls on connections of its own, and the parent's is as it was."""
    with Session(**options) as session:
        session.get("/parent")

        def child() -> None:
            assert session.get("/child").json() == FINE
            assert session.post("/child", json={}).json() == FINE

        in_child(child)
        assert session.get("/parent").json() == FINE
    by_connection = {(seen.target, seen.connection) for seen in rogue.requests}
    assert by_connection == {("/v1/api/parent", 1), ("/v1/api/child", 2)}


def test_closing_in_a_forked_child_closes_nothing_of_the_parents(rogue: Rogue, options: dict[str, Any]) -> None:
    with Session(**options) as session:
        session.get("/parent")

        def child() -> None:
            session.close()
            with pytest.raises(SessionClosed):
                session.get("/child")

        in_child(child)
        assert session.get("/parent").json() == FINE
    assert rogue.connections == 1


def test_a_fork_while_another_thread_calls(rogue: Rogue, options: dict[str, Any]) -> None:
    """What the thread was doing is not the child's; the parent gets its answer."""
    go_on = threading.Event()
    with Session(**options) as session:

        def late(peer: Peer) -> None:
            rogue.stalled.release()
            assert go_on.wait(PATIENCE)
            peer.answer()

        rogue.answering(late)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(session.get("/late").json()))
        thread.start()
        rogue.wait_until_stalled()

        def child() -> None:
            assert session.get("/child").json() == FINE

        in_child(child)
        go_on.set()
        thread.join(PATIENCE)
    assert answers == [FINE]


def test_an_async_session_in_a_forked_child(rogue: Rogue, options: dict[str, Any]) -> None:
    """Its loop is the parent's: another one is needed, and the parent's goes on."""

    async def main() -> None:
        async with AsyncSession(**options) as session:
            await session.get("/parent")

            def child() -> None:
                with asyncio.Runner() as own, pytest.raises(UsedAfterFork, match="fork") as caught:
                    own.run(session.get("/child"))
                assert not caught.value.sent
                assert_helpful(caught.value)

            in_child(child)
            assert (await session.get("/parent")).json() == FINE

    asyncio.run(main())
    assert rogue.connections == 1
    assert len(rogue.requests) == 2


def test_another_async_session_in_a_forked_child(rogue: Rogue, options: dict[str, Any]) -> None:
    async def once() -> object:
        async with AsyncSession(**options) as session:
            return (await session.get("/a")).json()

    with asyncio.Runner() as runner:
        assert runner.run(once()) == FINE

        def child() -> None:
            with asyncio.Runner() as own:
                assert own.run(once()) == FINE

        in_child(child)
        assert runner.run(once()) == FINE


# --- Loops and threads ---------------------------------------------------------------------------


def test_a_session_inside_a_running_loop(rogue: Rogue, options: dict[str, Any]) -> None:
    """It blocks the loop, as any function does, and works."""

    async def main() -> None:
        with Session(**options) as session:
            assert session.get("/a").json() == FINE
            assert (await asyncio.to_thread(session.get, "/b")).json() == FINE

    asyncio.run(main())


def test_one_async_session_and_a_second_loop_while_the_first_is_there(rogue: Rogue, options: dict[str, Any]) -> None:
    session = AsyncSession(**options)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(session.get("/a")).json() == FINE
        for call in (session.get("/b"), session.post("/b"), session.open(), session.brokerage.open()):
            with pytest.raises(UsageError, match="belongs to another event loop") as caught:
                second.run(call)
            assert not caught.value.sent
            assert_helpful(caught.value)
        assert first.run(session.get("/a")).json() == FINE
        first.run(session.close())
    assert {seen.target for seen in rogue.requests} == {"/v1/api/a"}


def test_an_async_session_in_another_threads_loop(rogue: Rogue, options: dict[str, Any]) -> None:
    session = AsyncSession(**options)
    with asyncio.Runner() as runner:
        assert runner.run(session.get("/a")).json() == FINE

        def elsewhere() -> None:
            with asyncio.Runner() as other, pytest.raises(UsageError, match="belongs to another event loop"):
                other.run(session.get("/b"))

        in_thread(elsewhere)
        assert runner.run(session.get("/a")).json() == FINE
        runner.run(session.close())


@counts
def test_an_async_session_outlives_its_loop(rogue: Rogue, options: dict[str, Any]) -> None:
    """As with several asyncio.run() in one script: it moves on to the next one, and leaves nothing behind."""
    before = state_of_process()
    session = AsyncSession(**options)
    for _ in range(5):
        assert asyncio.run(session.get("/a")).json() == FINE
    asyncio.run(session.close())
    with pytest.raises(SessionClosed):
        asyncio.run(session.get("/a"))
    del session
    rogue.wait_for_connections(0)
    eventually(before)


def test_a_loop_that_is_closed_under_a_call(rogue: Rogue, options: dict[str, Any]) -> None:
    """The task is gone with its loop. The next loop finds the session as usable as ever."""
    session = AsyncSession(**options)
    loop = asyncio.new_event_loop()
    rogue.answering(Peer.stall)

    async def call_and_leave() -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.create_task(session.get("/stalled"))
        await asyncio.to_thread(rogue.wait_until_stalled)
        return task

    task = loop.run_until_complete(call_and_leave())
    task._log_destroy_pending = False
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert asyncio.run(session.get("/a")).json() == FINE
    asyncio.run(session.close())
    del task
    gc.collect()
    rogue.wait_for_connections(0)


def test_many_threads_share_a_session(rogue: Rogue, options: dict[str, Any]) -> None:
    """While some of the calls break: everybody gets his own answer or his own error."""
    for number in range(60):
        rogue.answering(Peer.reset if number % 3 == 0 else lambda peer: peer.answer(_target_of(peer)))
    outcomes: list[str] = []
    with Session(**options) as session:

        def work(name: int) -> None:
            for number in range(10):
                try:
                    got = session.post(f"/{name}/{number}").text
                except OutcomeUnknown as error:
                    got = f"/v1/api/{name}/{number}" if f"/{name}/{number}" in error.message else error.message
                outcomes.append("fine" if got == f"/v1/api/{name}/{number}" else got)

        threads = [threading.Thread(target=work, args=[name]) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes == ["fine"] * 60
        assert session.health().counters.outcomes_unknown == 20
        assert session.get("/a").json() == FINE
    assert len(rogue.requests) == 61
    rogue.wait_for_connections(0)


def test_many_tasks_share_a_session(rogue: Rogue, options: dict[str, Any]) -> None:
    for number in range(60):
        rogue.answering(Peer.reset if number % 3 == 0 else lambda peer: peer.answer(_target_of(peer)))

    async def one(session: AsyncSession, name: int) -> bool:
        try:
            return (await session.post(f"/{name}")).text == f"/v1/api/{name}"
        except OutcomeUnknown as error:
            return error.message.endswith(f"/v1/api/{name}")

    async def main() -> None:
        async with AsyncSession(**options) as session:
            assert all(await asyncio.gather(*(one(session, name) for name in range(60))))
            assert session.health().counters.outcomes_unknown == 20
            assert (await session.get("/a")).json() == FINE

    asyncio.run(main())
    assert len(rogue.requests) == 61
    rogue.wait_for_connections(0)


def _target_of(peer: Peer) -> bytes:
    assert peer.request is not None
    return peer.request.target.encode()


def test_the_helpers_themselves(options: dict[str, Any]) -> None:
    """A failure in a child or a thread does not go unseen."""
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        in_child(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 // 0)
    with pytest.raises(AssertionError):
        eventually((0, 0), patience=0.01)
