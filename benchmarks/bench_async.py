"""Signed calls of one event loop, several in flight at any time, to the native server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from .bench_calls import check_signature
from .known import Known
from .native import Server
from .peers import ASYNC_CLIENTS, PATHS, InLoop
from .table import Results, contest

#: Seconds.
TURN = 0.15

NewClient = Callable[[str], InLoop]


@pytest.fixture(scope="module", params=[64, 1, 8, 256])
def at_once(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def client(at_once: int, server: Server, known: Known, smoke: bool) -> Iterator[NewClient]:
    """By name, opened with its first use, with all its connections, and kept as long as there are as many in flight."""
    clients: dict[str, InLoop] = {}

    def get(name: str) -> InLoop:
        if name not in clients:
            clients[name] = InLoop(ASYNC_CLIENTS[name](server, known))
            if not smoke:
                clients[name].calls(PATHS["keep-alive"], 2 * at_once, at_once)
        return clients[name]

    yield get
    for one in clients.values():
        one.close()


@pytest.mark.contest("ours", "our signing, aiohttp", "our signing, curl_cffi", "our signing, httpx", turns=5)
@pytest.mark.parametrize("connection", PATHS)
def test_in_flight(
    contestant: str,
    connection: str,
    at_once: int,
    client: NewClient,
    known: Known,
    server: Server,
    results: Results,
    smoke: bool,
) -> None:
    if contestant == "our signing, httpx" and at_once > 64:
        return  # its time grows with the square of their number: 256 connections alone would take it 15 s
    one, path = client(contestant), PATHS[connection]
    check_signature(json.loads(one.get("/echo")), f"{server.base_url}/echo", known)
    total = max(256, 2 * at_once)
    if smoke:
        one.calls(path, 4, 2)
        return
    one.calls(path, total, at_once)  # not measured: the turn with new connections has used up those that this one keeps
    samples = [one.calls(path, total, at_once)]
    while sum(samples) < TURN:
        samples.append(one.calls(path, total, at_once))
    results.add(contest(f"{at_once} in flight", connection), contestant, median(samples) / total)
