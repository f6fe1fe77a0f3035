"""One of many costs what one of few costs: sessions from 1 to 1,000, and parameters from 1 to 10,000."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
from ibind.oauth import oauth1a as ibind

from ibkr_oauth import Signer

from .conftest import Measure
from .known import Known
from .native import Server
from .peers import PATHS, Ours, oauthlib_client
from .table import OURS

SESSIONS = (1, 10, 100, 1000)
PARAMETERS = (1, 10, 100, 1000, 10_000)
SIGNERS = (OURS, "ibind", "oauthlib")


def sessions(count: int, server: Server, known: Known) -> list[Ours]:
    return [Ours(server, known) for _ in range(count)]


def close(opened: list[Ours]) -> None:
    for one in opened:
        one.close()


@pytest.mark.contest(*map(str, SESSIONS))
def test_sessions_made(contestant: str, server: Server, known: Known, measure: Measure) -> None:
    """Opened and closed, without a call."""
    count = int(contestant)
    measure("sessions made", contestant, lambda: close(sessions(count, server, known)), count)


@pytest.fixture(scope="module")
def opened(server: Server, known: Known) -> Iterator[Callable[[int], list[Ours]]]:
    made: dict[int, list[Ours]] = {}

    def get(count: int) -> list[Ours]:
        if count not in made:
            made[count] = sessions(count, server, known)
        return made[count]

    yield get
    for some in made.values():
        close(some)


@pytest.mark.contest(*map(str, SESSIONS))
def test_sessions_called(contestant: str, opened: Callable[[int], list[Ours]], measure: Measure, smoke: bool) -> None:
    """Each in turn, in processor time of this process."""
    some, path = opened(2 if smoke else int(contestant)), PATHS["keep-alive"]

    def call() -> None:
        for one in some:
            one.get(path)

    measure("sessions called", contestant, call, len(some))


def pairs(count: int) -> list[tuple[str, str]]:
    """In no order, so that sorting has something to do."""
    made = [(f"conid{number:05}", f"{number * 7919 % 100_000}") for number in range(count)]
    random.Random(count).shuffle(made)  # the same one each time
    return made


@pytest.mark.contest(*(f"{who}, {count}" for count in PARAMETERS for who in SIGNERS), turns=5)
def test_parameters(contestant: str, known: Known, measure: Measure) -> None:
    """A form of so many pairs is signed; the header of the call is part of it."""
    who, _, number = contestant.partition(", ")
    method, url, form = "POST", known.header["url"], pairs(int(number))
    body, headers = urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"}
    signer, other = Signer(known.consumer, known.live_session_token), oauthlib_client(known)
    functions = {
        OURS: lambda: signer._handle.sign(method, url, None, form, None, 1_700_000_000),
        "ibind": lambda: ibind.generate_base_string(method, url, known.header_pairs() | dict(form)),
        "oauthlib": lambda: other.sign(url, method, body, headers),
    }
    measure("parameters" if who == OURS else f"parameters, {who}", number, functions[who], int(number))
