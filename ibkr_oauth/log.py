"""Loggers that cost nothing until they have something to say: importing `logging` takes longer than our C core."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

DEBUG = 10
INFO = 20
WARNING = 30


class Log:
    """`logging.getLogger(name)`, looked up at the first message. Without a handler of the program's it is silent."""

    __slots__ = ("_logger", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: logging.Logger | None = None

    def is_debugging(self) -> bool:
        """Whether DEBUG messages go anywhere."""
        logger = self._logger
        if logger is None:
            if "logging" not in sys.modules:
                return False
            logger = self._get()
        return logger is not None and logger.isEnabledFor(DEBUG)

    def log(self, level: int, message: str, *values: object, trace: bool = False) -> None:
        """`trace`: with the exception that is being handled."""
        logger = self._get()
        if logger is not None:
            logger.log(level, message, *values, exc_info=trace, stacklevel=2)

    def _get(self) -> logging.Logger | None:
        """None where nobody can be listening, since the program has not imported `logging`."""
        if self._logger is None and "logging" in sys.modules:
            import logging  # noqa: PLC0415 - see above

            root = logging.getLogger("ibkr_oauth")
            if not any(isinstance(handler, logging.NullHandler) for handler in root.handlers):
                root.addHandler(logging.NullHandler())
            self._logger = logging.getLogger(self._name)
        return self._logger
