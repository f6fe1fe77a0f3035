"""Listens to the keep-alives of this process's sessions.

The C engine tickles on a thread of its own, whatever Python does. What the service answers is read here, on one thread
for all sessions of the process, as soon as Python gets to it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from . import _core

if TYPE_CHECKING:
    from .session import Session


class Keeper:
    """One mailbox, one thread; the thread is there while there are sessions, and keeps nobody from exiting.

    `has_thread` is False where none may be: then the sessions' calls `listen`.
    """

    def __init__(self) -> None:
        self.mailbox = _core.Mailbox()
        self.pid = os.getpid()
        self._keys = itertools.count(1)
        self._lock = threading.Lock()
        self._sessions: WeakValueDictionary[int, Session] = WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self.has_thread = True

    def add(self, session: Session) -> int:
        """The key under which the session's keep-alive is to leave what it hears."""
        key = next(self._keys)
        with self._lock:
            self._sessions[key] = session
            if self._thread is None and self.has_thread:
                try:
                    self._thread = threading.Thread(target=self._listen, name="ibkr_oauth keeper", daemon=True)
                    self._thread.start()
                except RuntimeError:  # isolated subinterpreters allow no daemon threads
                    self._thread, self.has_thread = None, False
        return key

    def listen(self) -> None:
        """What was heard so far: for calls to ask, where there may be no thread."""
        if not self.has_thread:
            self._hand_out(self.mailbox.take())

    def remove(self, key: int) -> None:
        """Wakes the thread too: where that was the last one, it ends."""
        with self._lock:
            self._sessions.pop(key, None)
        self.mailbox.wake()

    def _listen(self) -> None:
        while True:
            self._hand_out(self.mailbox.wait(_LOOK_ROUND))
            with self._lock:
                if not self._sessions:
                    self._thread = None
                    return

    def _hand_out(self, heard: Sequence[tuple[int, object]]) -> None:
        for key, outcome in heard:
            session = self._sessions.get(key)
            if session is not None:
                session._heard(outcome)
            del session


#: Milliseconds. Sessions that were dropped without being closed do not wake the thread.
_LOOK_ROUND = 60_000

_guard = threading.Lock()
_keeper: Keeper | None = None


def keeper() -> Keeper:
    """This process's own."""
    global _keeper, _guard  # noqa: PLW0603 - one for each process
    if _keeper is not None and _keeper.pid != os.getpid():
        _keeper, _guard = None, threading.Lock()  # in a forked child: the parent's thread is not here
    with _guard:
        if _keeper is None:
            _keeper = Keeper()
        return _keeper
