"""`with` for whatever has a `close`."""

from types import TracebackType
from typing import Self


class Closing:
    """As a context manager it closes itself."""

    def close(self) -> None:
        """Of the class itself. May be called again."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
