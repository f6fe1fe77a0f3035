"""Private files: their owner's only from the first byte on, replaced whole or not at all; locks between processes."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from .errors import InsecurePermissionsError

#: Set to 1 where others are meant to be able to read private files, as with secrets that a container's engine mounts.
INSECURE_PERMISSIONS = "IBKR_OAUTH_INSECURE_PERMISSIONS"

_NAME = "ibkr-oauth"
#: What others than the owner must not be allowed: to read and to write.
_OTHERS = 0o066


def check_private(path: str, what: str, environment: Mapping[str, str] | None = None) -> None:
    """Raises InsecurePermissionsError where others than the owner may read or write the file.

    Says nothing of one that is not there, and nothing on Windows, whose files have other permissions.
    """
    environment = os.environ if environment is None else environment
    if sys.platform == "win32" or environment.get(INSECURE_PERMISSIONS, "") not in ("", "0"):
        return
    path = os.path.expanduser(path)
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except (OSError, ValueError):
        return  # whoever reads it will say so
    if mode & _OTHERS:
        import shlex  # noqa: PLC0415 - only where something is wrong

        raise InsecurePermissionsError(
            f"{what}: others may read or change {path} (mode {mode:04o})",
            advice=f"Make it yours alone: chmod 600 {shlex.quote(path)}. Where others are meant to read it, as with "
            f"secrets of a container, set {INSECURE_PERMISSIONS}=1.",
        )


def is_private(descriptor: int) -> bool:
    """Whether nobody but its owner may read or write the open file. On Windows nobody can tell."""
    return sys.platform == "win32" or not stat.S_IMODE(os.fstat(descriptor).st_mode) & _OTHERS


def write_private(path: str, content: bytes) -> None:
    """Puts `content` in place of the file, on the disk before this returns. Raises OSError; then the former one stays.

    Folders that are missing are made for their owner only. A link stays one, and what it leads to is replaced.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    _make_folder(folder)
    staging = os.path.join(folder, f".{os.path.basename(path)}.{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(staging, flags, 0o600)
    try:
        with open(descriptor, "wb", buffering=0) as file, memoryview(content) as rest:
            written = 0
            while written < len(rest):
                written += file.write(rest[written:])
            os.fsync(descriptor)
        os.replace(staging, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staging)
        raise
    _sync_folder(folder)


def _make_folder(path: str) -> None:
    """With all that is missing above it, for its owner only. What is there stays as it is."""
    if path and not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


def _sync_folder(folder: str) -> None:
    """So that the new name is on the disk as well; where the system knows of no such thing the file is safe anyway."""
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FileLock:
    """A lock between processes, and between threads that have a FileLock each. It ends with its process, whatever ends
    that.

    The file beside it is never removed: whoever waits for it would wait for another one than the next to come.
    """

    __slots__ = ("_descriptor", "_path", "_pid")

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._pid = 0

    def acquire(self, *, wait: bool = True) -> bool:
        """False where another one has it and `wait` is False. Raises OSError."""
        if self._pid != os.getpid():
            self.release()  # the parent's, inherited by a fork
        _make_folder(os.path.dirname(self._path))
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)  # not inherited by programs that are started
        try:
            if not _lock(descriptor, wait=wait):
                os.close(descriptor)
                return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self._pid = descriptor, os.getpid()
        return True

    def release(self) -> None:
        """May be called again. A forked child gives up its copy, and the lock stays with its parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if self._pid == os.getpid():
            _unlock(descriptor)
        os.close(descriptor)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(descriptor: int, *, wait: bool) -> bool:
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            except PermissionError:
                if not wait:
                    return False
                time.sleep(0.05)
            else:
                return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, *, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


# --- Where files belong --------------------------------------------------------------------------


def config_folder(environment: Mapping[str, str]) -> str:
    """Of settings, as the platform has it."""
    if sys.platform == "win32":
        return os.path.join(environment.get("APPDATA") or os.path.expanduser("~\\AppData\\Roaming"), _NAME)
    if sys.platform == "darwin":
        return os.path.join(_home(environment), "Library", "Application Support", _NAME)
    return os.path.join(environment.get("XDG_CONFIG_HOME") or os.path.join(_home(environment), ".config"), _NAME)


def state_folder(environment: Mapping[str, str]) -> str:
    """Of what may be lost without harm, as the platform has it."""
    if sys.platform == "win32":
        return os.path.join(environment.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local"), _NAME)
    if sys.platform == "darwin":
        return os.path.join(_home(environment), "Library", "Application Support", _NAME)
    return os.path.join(environment.get("XDG_STATE_HOME") or os.path.join(_home(environment), ".local/state"), _NAME)


def _home(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or os.path.expanduser("~")
