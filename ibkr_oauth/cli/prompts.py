"""Questions at the terminal, asked again until the answer can be used: each time with what was wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click

from ibkr_oauth.errors import IBKROAuthError

from . import common

_Read = TypeVar("_Read")


def are_possible() -> bool:
    """Whether somebody sits at a terminal who can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str, read: Callable[[str], _Read], *, default: str | None = None) -> _Read:
    """What `read` makes of the answer. The errors of ours that it raises are shown, and the question comes again.

    Raises click.Abort at Ctrl-C and at the end of the input.
    """
    while True:
        text: str = click.prompt(question, default=default)
        try:
            return read(text.strip())
        except IBKROAuthError as error:
            complain(error)


def choose(question: str, choices: Sequence[str]) -> int:
    """The number of one of the choices, from 0 on; the first one is the default."""
    for number, choice in enumerate(choices, 1):
        click.echo(f"  {number}  {choice}")
    return int(click.prompt(question, type=click.IntRange(1, len(choices)), default=1)) - 1


def ask_secret(question: str, read: Callable[[str], _Read], length: int) -> _Read:
    """As `ask`, without an echo, for a text of so many characters.

    What was copied with line breaks arrives as several lines: they are taken together until the length is reached, or
    an empty line comes.
    """
    while True:
        try:
            return read(_read_hidden(question, length))
        except IBKROAuthError as error:
            complain(error)


def complain(error: IBKROAuthError) -> None:
    """Says what is wrong and what to do, as the end of the program would, and goes on."""
    common._show_error(error)


def _read_hidden(question: str, length: int) -> str:
    lines: list[str] = []
    with _without_echo():  # before the question: who is quick must not be seen either
        click.echo(f"{question} (what you paste is not shown): ", nl=False)
        while True:
            line = _read_line()
            lines.append(line)
            size = sum(len("".join(one.split())) for one in lines)
            if not line.strip() or size >= length:
                break
            click.echo(f"\n{size} of {length} characters; paste the rest, or press Enter to end here: ", nl=False)
    click.echo()
    return "\n".join(lines)


if sys.platform == "win32":
    import getpass

    @contextmanager
    def _without_echo() -> Generator[None, None, None]:
        yield

    def _read_line() -> str:
        return getpass.getpass("")

else:
    import termios

    @contextmanager
    def _without_echo() -> Generator[None, None, None]:
        """Not with getpass: it throws away what waits, which are the further lines of a paste."""
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        hidden = list(before)
        hidden[3] = before[3] & ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
            yield
        finally:
            # What still waits, such as the line end after a paste, would answer the next question.
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)

    def _read_line() -> str:
        line = sys.stdin.readline()
        if not line:
            raise click.Abort
        return line
