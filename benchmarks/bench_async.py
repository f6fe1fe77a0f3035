"""Signed calls of one event loop, several in flight at any time, to the native server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from . import peers
from .bench_calls import PATH, check_signature
from .known import Known
from .native import Server
from .peers import AsyncClient
from .table import Results

CLIENTS: dict[str, Callable[[Server, Known], AsyncClient]] = {
    "ours": peers.AsyncOurs,
    "our signing, aiohttp": peers.AiohttpOurs,
    "our signing, httpx": peers.AsyncHttpxOurs,
}

#: Seconds.
TURN = 0.15


class InLoop:
    """A client with an event loop of its own, which runs only while it is its turn."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()
        self._runner.run(client.open())

    def get(self, path: str) -> bytes:
        return self._runner.run(self._client.get(path))

    def calls(self, total: int, at_once: int) -> float:
        """Seconds for `total` calls by `at_once` tasks, each of which makes its next call when it has its answer."""
        return self._runner.run(self._calls(total, at_once))

    async def _calls(self, total: int, at_once: int) -> float:
        calls = iter(range(total))

        async def work() -> None:
            for _ in calls:
                await self._client.get(PATH)

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return time.perf_counter() - start

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


NewClient = Callable[[str], InLoop]


@pytest.fixture(scope="module", params=[64, 1, 8, 256])
def at_once(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def client(at_once: int, server: Server, known: Known) -> Iterator[NewClient]:
    """By name, opened with its first use, with all its connections, and kept as long as there are as many in flight."""
    clients: dict[str, InLoop] = {}

    def get(name: str) -> InLoop:
        if name not in clients:
            clients[name] = InLoop(CLIENTS[name](server, known))
            clients[name].calls(2 * at_once, at_once)
        return clients[name]

    yield get
    for one in clients.values():
        one.close()


@pytest.mark.contest(*CLIENTS)
def test_in_flight(
    contestant: str,
    at_once: int,
    client: NewClient,
    known: Known,
    server: Server,
    results: Results,
    smoke: bool,
) -> None:
    if contestant == "our signing, httpx" and at_once > 64:
        return  # its time grows with the square of their number: 256 connections alone would take it 15 s
    one = client(contestant)
    check_signature(json.loads(one.get("/echo")), f"{server.base_url}/echo", known)
    total = max(256, 2 * at_once)
    if smoke:
        one.calls(at_once, at_once)
        return
    samples = [one.calls(total, at_once)]
    while sum(samples) < TURN:
        samples.append(one.calls(total, at_once))
    results.add(f"{at_once} in flight", contestant, median(samples) / total)
