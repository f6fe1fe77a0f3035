"""Where live session tokens are kept between runs and shared by processes.

A token is good for about a day. Programs that start often, and processes that work side by side for the same user,
agree on one together and go on with that.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, cast

from . import files
from .errors import IBKROAuthError, StoreError
from .log import WARNING, Log
from .tokens import LiveSessionToken

logger = Log("ibkr_oauth.stores")

_VERSION = 1
#: Longest file that is read, in bytes.
_MAX_FILE = 65_536


class Store(Protocol):
    """What a session needs of a store. Each may raise StoreError, and then the session goes on without."""

    def load(self, consumer_key: str, access_token: str, base_url: str) -> LiveSessionToken | None:
        """The token of this consumer, access token and address, expired or not; None where none is kept."""
        ...

    def save(self, token: LiveSessionToken, base_url: str) -> None:
        """Keeps it, in place of the one that was kept before."""
        ...

    def try_lock(self) -> bool:
        """The right to agree on another token: False, at once, while another process or session has it."""
        ...

    def unlock(self) -> None:
        """Gives it back. Who dies gives it back as well."""
        ...


class FileStore:
    """One live session token in a JSON file that only its owner can read.

    The token stands there as it is: whoever can read the file can act as its user until the token expires. The file is
    replaced as a whole. One that is damaged, or that others may read, is not used, with a warning, and replaced by the
    next token. `path`: the folder is made where it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self._lock = files.FileLock(f"{self.path}.lock")

    def __repr__(self) -> str:
        return f"<FileStore {self.path}>"

    def load(self, consumer_key: str, access_token: str, base_url: str) -> LiveSessionToken | None:
        """The token of this consumer, access token and address, expired or not; None where none is kept.

        Raises StoreError where the file cannot be read.
        """
        content = self._read()
        if content is None:
            return None
        try:
            kept = _parse(content)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError, IBKROAuthError):
            logger.log(WARNING, "%s is damaged and not used", self.path)
            return None
        owner = (consumer_key, access_token, base_url.rstrip("/"))
        if kept is None or (kept[0].consumer_key, kept[0].access_token, kept[1]) != owner:
            return None
        return kept[0]

    def save(self, token: LiveSessionToken, base_url: str) -> None:
        """Keeps it, in place of the one that was kept before. Raises StoreError."""
        document = {
            "version": _VERSION,
            "base_url": base_url.rstrip("/"),
            "consumer_key": token.consumer_key,
            "access_token": token.access_token,
            "live_session_token": token.reveal(),
            "expires_at": token.expires_at.isoformat(),
        }
        with self._named_failures("written"):
            files.write_private(self.path, json.dumps(document, indent=1).encode())

    def clear(self) -> bool:
        """Forgets the token; says whether there was one. Raises StoreError."""
        with self._named_failures("removed"):
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                return False
            return True

    def try_lock(self) -> bool:
        """The right to agree on another token: False, at once, while another process or session has it.

        Raises StoreError. The system takes it back where its process dies.
        """
        with self._named_failures("locked"):
            return self._lock.acquire(wait=False)

    def unlock(self) -> None:
        """Gives it back. May be called again."""
        self._lock.release()

    @contextmanager
    def lock(self) -> Generator[None, None, None]:
        """Waits for the right to agree on another token, as a context manager. Raises StoreError."""
        with self._named_failures("locked"):
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _read(self) -> bytes | None:
        with self._named_failures("read"):
            try:
                with open(self.path, "rb") as file:
                    if not files.is_private(file.fileno()):
                        logger.log(WARNING, "others may read or change %s: it is not used", self.path)
                        return None
                    return file.read(_MAX_FILE)
            except FileNotFoundError:
                return None

    @contextmanager
    def _named_failures(self, what: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.path} could not be {what}: {error.strerror}",
                advice="Live session tokens are kept there between runs. Give another place, on a disk with room that "
                "you may write to, or none.",
            ) from None


def default_path(profile: str, environment: Mapping[str, str] | None = None) -> str:
    """Where the platform keeps what may be lost without harm: a file for each profile.

    That is below `~/.local/state/ibkr-oauth` ($XDG_STATE_HOME), on macOS below `~/Library/Application Support`, on
    Windows below `%LOCALAPPDATA%`.
    """
    folder = files.state_folder(os.environ if environment is None else environment)
    return os.path.join(folder, "tokens", re.sub(r"[^\w-]", "_", profile) + ".json")


def _parse(content: bytes) -> tuple[LiveSessionToken, str] | None:
    """Token and address; None for the file of another version of ours. Raises what comes up."""
    document = json.loads(content)
    if not isinstance(document, dict):
        raise TypeError
    kept = cast("dict[str, Any]", document)
    if kept["version"] != _VERSION:
        return None
    expires_at = datetime.fromisoformat(kept["expires_at"])
    owner = {name: kept[name] for name in ("consumer_key", "access_token")}
    return LiveSessionToken(kept["live_session_token"], expires_at, **owner), kept["base_url"]
