"""One thread for the keep-alives of a process, there while there are sessions."""

from __future__ import annotations

import gc
import os
import queue
import threading
from typing import Any

import pytest

from ibkr_oauth import keeper
from ibkr_oauth.keeper import Keeper


class Letters:
    """A mailbox that the test fills itself."""

    def __init__(self) -> None:
        self.queue: queue.Queue[list[tuple[int, object]]] = queue.Queue()

    def wait(self, milliseconds: int) -> list[tuple[int, object]]:
        return self.queue.get(timeout=milliseconds / 1000)

    def take(self) -> list[tuple[int, object]]:
        return [] if self.queue.empty() else self.queue.get()

    def wake(self) -> None:
        self.queue.put([])


class Listener:
    """What the keeper needs of a session."""

    def __init__(self) -> None:
        self.heard: queue.Queue[object] = queue.Queue()

    def _heard(self, outcome: object) -> None:
        self.heard.put(outcome)


@pytest.fixture
def kept() -> Any:
    made: Any = Keeper()
    made.mailbox = Letters()
    return made


def test_one_for_the_process() -> None:
    assert keeper.keeper() is keeper.keeper()
    assert keeper.keeper().pid == os.getpid()
    assert keeper.keeper().mailbox.take() == []


def test_one_thread_for_all_sessions(kept: Any) -> None:
    sessions = [Listener() for _ in range(3)]
    before = set(threading.enumerate())
    keys = [kept.add(session) for session in sessions]
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "ibkr_oauth keeper"
    assert thread.daemon  # it keeps no program from its end
    assert len(set(keys)) == 3

    kept.mailbox.queue.put([(keys[2], "third"), (keys[0], "first"), (12345, "nobody's")])
    assert sessions[2].heard.get(timeout=10) == "third"
    assert sessions[0].heard.get(timeout=10) == "first"
    assert sessions[1].heard.empty()

    for key in keys[:2]:
        kept.remove(key)
    kept.mailbox.queue.put([(keys[0], "too late"), (keys[2], "still there")])
    assert sessions[2].heard.get(timeout=10) == "still there"
    assert sessions[0].heard.empty()
    kept.remove(keys[2])
    thread.join(10)
    assert not thread.is_alive()


def test_the_thread_comes_back(kept: Any) -> None:
    first, second = Listener(), Listener()
    key = kept.add(first)
    thread = kept._thread
    kept.remove(key)
    thread.join(10)
    key = kept.add(second)
    kept.mailbox.queue.put([(key, "news")])
    assert second.heard.get(timeout=10) == "news"
    kept.remove(key)


def test_a_session_that_was_dropped_is_forgotten(kept: Any) -> None:
    """Nobody took it out: its letters are thrown away, and so may be its key."""
    session = Listener()
    key = kept.add(session)
    thread = kept._thread
    del session
    gc.collect()
    kept.mailbox.queue.put([(key, "for nobody")])
    thread.join(10)
    assert not thread.is_alive()
    kept.remove(key)


def test_where_no_thread_may_be(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an isolated subinterpreter: then calls ask for what was heard."""
    tried: list[object] = []

    def refuse(thread: threading.Thread) -> None:
        tried.append(thread)
        raise RuntimeError("daemon threads are disabled in this interpreter")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    session = Listener()
    key = kept.add(session)
    kept.add(session)
    assert len(tried) == 1
    kept.mailbox.queue.put([(key, "news")])
    kept.listen()
    assert session.heard.get_nowait() == "news"
    kept.listen()
    assert session.heard.empty()


def test_calls_do_not_ask_where_a_thread_does(kept: Any) -> None:
    kept.mailbox.queue.put([(1, "for the thread")])
    kept.listen()
    assert not kept.mailbox.queue.empty()
