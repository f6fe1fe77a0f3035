"""Programs that a proof runs as a process of their own: `proof_programs.py NAME`, with a sandbox in the environment.

Each prints JSON, one line for each thing that it has to say.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibkr_oauth import AsyncSession, IBKROAuthError, LiveSessionToken, Session, SessionClosed, _core

_PATIENCE = 10.0  # seconds


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def wait_for(condition: Callable[[], object], seconds: float = _PATIENCE) -> None:
    """Looks often. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.005)


async def wait_in_loop(condition: Callable[[], object]) -> None:
    """`wait_for`, without blocking the loop."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - what happens on threads of C sets no asyncio.Event
            await asyncio.sleep(0.005)


def threads_of_the_system() -> int:
    """Of this process, Python's and others."""
    return len([*Path("/proc/self/task").iterdir()])


# --- The life of a keep-alive --------------------------------------------------------------------


def beaten(session: Session | AsyncSession, times: int = 2) -> Callable[[], bool]:
    return lambda: session.health().counters.tickles >= times


def keep_alive_ends() -> None:
    """With close, and with the last reference."""
    session = Session.from_env(keep_alive=0.02).open()
    wait_for(beaten(session))
    running = _core.engine_threads()
    session.close()
    say(running=running, kept=session.health().keep_alive, after_close=_core.engine_threads())

    session = Session.from_env(keep_alive=0.02).open()
    wait_for(beaten(session))
    running, gone = _core.engine_threads(), weakref.ref(session)
    del session
    gc.collect()
    say(running=running, collected=gone() is None, after_collection=_core.engine_threads())


def async_keep_alive_ends() -> None:
    async def main() -> None:
        session = await AsyncSession.from_env(keep_alive=0.02).open()
        await wait_in_loop(beaten(session))
        running = _core.engine_threads()
        await session.close()
        say(running=running, kept=session.health().keep_alive, after_close=_core.engine_threads())

        session = await AsyncSession.from_env(keep_alive=0.02).open()
        await wait_in_loop(beaten(session))
        running, gone = _core.engine_threads(), weakref.ref(session)
        del session
        gc.collect()
        say(running=running, collected=gone() is None, after_collection=_core.engine_threads())

    asyncio.run(main())


def exit_without_close() -> None:
    session = Session.from_env(keep_alive=0.02).open()
    wait_for(beaten(session))
    say(running=_core.engine_threads(), at=time.monotonic())
    sys.modules["__main__"].__dict__["kept_until_the_end"] = session


def async_exit_without_close() -> None:
    async def main() -> AsyncSession:
        session = await AsyncSession.from_env(keep_alive=0.02).open()
        await wait_in_loop(beaten(session))
        return session

    sys.modules["__main__"].__dict__["kept_until_the_end"] = asyncio.run(main())
    say(running=_core.engine_threads(), at=time.monotonic())


def fork_while_kept_alive() -> None:
    session = Session.from_env(keep_alive=0.02).open()
    wait_for(beaten(session))
    read, write = os.pipe()
    tickles = session.health().counters.tickles
    child = os.fork()
    if child == 0:
        os.read(read, 1)  # the parent has been kept alive meanwhile
        say(
            who="child",
            engine_threads=_core.engine_threads(),
            threads=threads_of_the_system(),
            kept=session.health().keep_alive,
            more_tickles=session.health().counters.tickles > tickles + 1,
        )
        os._exit(0)
    wait_for(lambda: session.health().counters.tickles >= tickles + 5)
    os.write(write, b".")
    _, status = os.waitpid(child, 0)
    say(who="parent", engine_threads=_core.engine_threads(), kept=session.health().keep_alive, child=status)
    session.close()


# --- A thousand sessions -------------------------------------------------------------------------


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def beats(keeping: list[_core.KeepAlive]) -> int:
    return sum(good for _, good, _, _, _ in (one.status() for one in keeping))


def thousand_sessions() -> None:
    first = Session.from_env(keep_alive=0.1).open()
    wait_for(beaten(first))
    credential = first._flow.credential
    assert credential is not None
    assert first.consumer is not None
    token = LiveSessionToken(credential.token.reveal(), credential.token.expires_at)
    options = {name: os.environ[f"IBKR_OAUTH_{name.upper()}"] for name in ("base_url", "ca_file")}
    gc.collect()
    before = resident()
    sessions = [
        Session(first.consumer, first.access_token, live_session_token=token, keep_alive=3, **options).open()  # type: ignore[arg-type]
        for _ in range(1000)
    ]
    keeping = [session._keep_alive for session in sessions if session._keep_alive]
    longest_silence = 0
    began, beats_before = time.monotonic(), beats(keeping)

    def all_were_kept_alive_twice() -> bool:
        nonlocal longest_silence
        states = [one.status() for one in keeping]
        longest_silence = max(longest_silence, *(silence for _, _, _, silence, _ in states))
        return all(good >= 2 for _, good, _, _, _ in states)

    wait_for(all_were_kept_alive_twice, 60)
    seconds_each = (time.monotonic() - began) / (beats(keeping) - beats_before)
    gc.collect()
    say(
        kept=len(keeping),
        failures=sum(sent - good for sent, good, _, _, _ in (one.status() for one in keeping)),
        longest_silence=longest_silence / 1000,
        turn=seconds_each * len(keeping),
        bytes_each=(resident() - before) / 1000,
        engine_threads=_core.engine_threads(),
        threads=threads_of_the_system(),
    )
    for session in [*sessions, first]:
        session.close()
    say(after_close=_core.engine_threads())


# --- Ctrl-C --------------------------------------------------------------------------------------


def interrupted() -> None:
    """Stalls on the main thread as the second argument says; each line of standard input is one more time."""
    STALLS[sys.argv[2]]()


def stalled_call() -> None:
    with Session.from_env(keep_alive=None, brokerage="never", pacing=None) as session:
        session.get("/tickle")
        be_interrupted(lambda: session.get("/portfolio/accounts"), "perform")


def wait_for_a_place() -> None:
    with Session.from_env(keep_alive=None, brokerage="never", pacing=0.01) as session:
        session.get("/portfolio/accounts")
        be_interrupted(lambda: session.get("/portfolio/accounts"), "sleep")


def pause_before_a_repetition() -> None:
    with Session.from_env(keep_alive=None, brokerage="never", pacing=None) as session:
        session.get("/portfolio/accounts")
        be_interrupted(lambda: session.get("/portfolio/accounts"), "sleep")


def wait_for_another_thread() -> None:
    session = Session.from_env(keep_alive=None, brokerage="never", pacing=None)
    other = threading.Thread(target=until_closed, args=(session,))
    other.start()
    wait_for(lambda: where(other) == "perform")
    be_interrupted(lambda: session.get("/portfolio/accounts"), "_do")
    session.close()
    other.join()


STALLS = {
    "call": stalled_call,
    "pacing": wait_for_a_place,
    "pause": pause_before_a_repetition,
    "renewal": wait_for_another_thread,
}


def until_closed(session: Session) -> None:
    with contextlib.suppress(SessionClosed):
        session.get("/portfolio/accounts")


def where(thread: threading.Thread) -> str:
    """The innermost function of ours that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and "ibkr_oauth" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_name


def be_interrupted(stall: Callable[[], object], function: str) -> None:
    """Says when it is stalled in a function of ours, and when (monotonic seconds) the interrupt came out of it."""
    main = threading.current_thread()

    def watch() -> None:
        wait_for(lambda: where(main) == function)
        say(stalled=True)

    for _ in sys.stdin:
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            stall()
        except KeyboardInterrupt:
            say(at=time.monotonic())
        watcher.join()


# --- Fork during traffic -------------------------------------------------------------------------


class Connections(logging.Handler):
    """How many requests went over a new connection."""

    def __init__(self) -> None:
        super().__init__()
        self.new = 0

    def emit(self, record: logging.LogRecord) -> None:
        if " -> " in record.getMessage() and "reused" not in record.getMessage():
            self.new += 1


def fork_during_traffic() -> None:
    connections = Connections()
    logger = logging.getLogger("ibkr_oauth.http")
    logger.addHandler(connections)
    logger.setLevel(logging.DEBUG)
    session = Session.from_env(keep_alive=0.02, brokerage="never", pacing=None).open()
    statuses: list[int] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            statuses.append(session.get("/portfolio/accounts").status_code)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    children: list[int] = []
    for _ in range(5):
        reached = len(statuses) + 20
        wait_for(lambda reached=reached: len(statuses) >= reached)  # type: ignore[misc]
        child = os.fork()
        if child == 0:
            os._exit(in_the_child(session))
        children.append(os.waitpid(child, 0)[1])
    reached = len(statuses) + 20
    wait_for(lambda: len(statuses) >= reached)
    done.set()
    for thread in threads:
        thread.join()
    say(statuses=sorted(set(statuses)), children=children, new_connections=connections.new)
    session.close()


def in_the_child(session: Session) -> int:
    """The exit status: 0 where calls and keep-alive work as in the parent."""
    try:
        good = all(session.get("/portfolio/accounts").status_code == 200 for _ in range(3))
        tickles = session.health().counters.tickles
        wait_for(beaten(session, tickles + 2))
        session.close()
    except (IBKROAuthError, TimeoutError) as error:
        print(repr(error), file=sys.stderr, flush=True)
        return 1
    return 0 if good else 2


if __name__ == "__main__":
    {
        function.__name__: function
        for function in (
            keep_alive_ends,
            async_keep_alive_ends,
            exit_without_close,
            async_exit_without_close,
            fork_while_kept_alive,
            thousand_sessions,
            interrupted,
            fork_during_traffic,
        )
    }[sys.argv[1]]()
