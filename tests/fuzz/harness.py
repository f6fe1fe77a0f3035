"""What the fuzz targets in Python share: the main program, and how an input is taken apart.

A target is one file with a function of bytes, which asserts what must be true of what comes out. As `fuzz_NAME.py` it takes
the arguments of libFuzzer, through atheris, which watches the branches of the modules that were imported below `watched`.
As `fuzz_NAME.py --replay ROUNDS FOLDER...` it is what replay.c is to the targets in C: the files of the folders, and then
so many changed ones, always the same, without atheris.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

_REPLAY = "--replay"
_LONGEST = 65_536


def watched(*packages: str) -> contextlib.AbstractContextManager[object]:
    """Around the imports whose branches the fuzzer is to see."""
    if _REPLAY in sys.argv:
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=list(packages), enable_loader_override=False)


class Input:
    """Taken from the front, in the same way as in fuzz.h."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def choice(self, limit: int) -> int:
        """A number below `limit` out of the first byte."""
        first, self.rest = self.rest[:1], self.rest[1:]
        return first[0] % limit if first else 0

    def line(self) -> bytes:
        """What is before the next line feed, or all of the rest."""
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def text(self) -> str:
        """The same as text; what is no UTF-8 becomes characters of one byte each."""
        return as_text(self.line())


def as_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def main(target: Callable[[bytes], None]) -> None:
    warnings.simplefilter("ignore")  # of our own there are many: a file that others may read, sources that disagree
    if _REPLAY in sys.argv:
        rounds, *folders = sys.argv[sys.argv.index(_REPLAY) + 1 :]
        _replay(target, int(rounds), folders)
        return
    import atheris

    # The target's own branches too: where C does the work, they are all that tells one input from another.
    program = vars(sys.modules["__main__"])
    for name, value in list(program.items()):
        if inspect.isfunction(value) and value.__module__ == "__main__":
            program[name] = atheris.instrument_func(value)
    atheris.Setup(sys.argv, program[target.__name__])
    atheris.Fuzz()


def _replay(target: Callable[[bytes], None], rounds: int, folders: list[str]) -> None:
    inputs = [path.read_bytes() for folder in folders for path in sorted(Path(folder).iterdir())]
    for data in inputs:
        target(data)
    chance = random.Random(0)
    for _ in range(rounds):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.randint(1, 8)):
            _change(data, chance, inputs)
        target(bytes(data))
    print(f"{len(inputs)} inputs, {rounds} changed ones")


def _change(data: bytearray, chance: random.Random, inputs: list[bytes]) -> None:
    """A byte, a bit, a cut, a piece of another input, a piece twice."""
    at, length, other = chance.randint(0, len(data)), chance.randint(0, 16), chance.choice(inputs)
    kind = chance.randrange(5)
    if kind == 0:
        data[at : at + 1] = bytes([chance.randrange(256)])
    elif kind == 1 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        start = chance.randint(0, len(other))
        data[at : at + length] = other[start : start + length]
    elif len(data) + length <= _LONGEST:
        data[at:at] = data[at : at + length]
