"""One signed call after the other, and from several threads, to the native server: TLS 1.3, keep-alive, loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import pytest
from ibind.oauth import oauth1a as ibind

from . import peers
from .conftest import Measure
from .known import Known
from .native import Server
from .peers import Client
from .table import Results

PATH = "/portfolio/accounts"
CALLS = 512
#: Seconds. A call whose answer is there before the thread sleeps takes some 70 % of the time of one that has to be woken:
#: a sample of a few calls is one or the other by chance, and a long one has both.
SAMPLE = 0.1

CLIENTS: dict[str, Callable[[Server, Known], Client]] = {
    "ours": peers.Ours,
    "bare pycurl": peers.BarePycurl,
    "ibind's signing, requests": peers.RequestsIbind,
    "ibind's client": peers.IbindClient,
    "our signing, httpx": peers.HttpxOurs,
    "ibind's signing, httpx": peers.HttpxIbind,
    "caller's thread": peers.SignedHttpClient,
    "engine's thread": peers.SignedEngineClient,
    "bare pycurl, a handle each": peers.BarePycurlEach,
}
UNSIGNED = {"bare pycurl", "bare pycurl, a handle each"}

NewClient = Callable[[str], Client]


@pytest.fixture(scope="module")
def client(server: Server, known: Known) -> Iterator[NewClient]:
    """By name, opened with its first use and kept."""
    clients: dict[str, Client] = {}

    def get(name: str) -> Client:
        if name not in clients:
            clients[name] = CLIENTS[name](server, known)
            clients[name].get(PATH)
        return clients[name]

    yield get
    for one in clients.values():
        one.close()


def decoded(body: Any) -> Any:
    """ibind's client has done it already."""
    return json.loads(body) if isinstance(body, bytes) else body


@pytest.mark.parametrize("name", CLIENTS)
def test_calls_are_signed(name: str, client: NewClient, known: Known, server: Server) -> None:
    """As the server sees them, with the signature computed anew from ibind's base string."""
    one = client(name)
    assert decoded(one.get(PATH))[0]["id"] == "DU1234567"
    head = decoded(one.get("/echo"))
    assert head.startswith("GET /v1/api/echo HTTP/1.1\r\n")
    assert ("authorization:" in head.lower()) == (name not in UNSIGNED)
    if name not in UNSIGNED:
        check_signature(head, f"{server.base_url}/echo", known)


def check_signature(head: str, url: str, known: Known) -> None:
    [header] = re.findall(r"(?im)^authorization: OAuth (.*)\r$", head)
    pairs = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    assert pairs.pop("realm") == known.consumer.realm
    signature = base64.b64decode(pairs.pop("oauth_signature"))
    base_string = ibind.generate_base_string("GET", url, pairs)
    assert signature == hmac.digest(known.header_key, base_string.encode(), hashlib.sha256)
    assert abs(int(pairs["oauth_timestamp"]) - time.time()) < 60


@pytest.mark.benchmark(timer=time.perf_counter, min_time=SAMPLE)
@pytest.mark.contest(
    "ours",
    "bare pycurl",
    "ibind's signing, requests",
    "ibind's client",
    "our signing, httpx",
    "ibind's signing, httpx",
)
def test_call(contestant: str, client: NewClient, measure: Measure) -> None:
    one = client(contestant)
    measure("call", contestant, lambda: one.get(PATH))


@pytest.mark.benchmark(timer=time.perf_counter, min_time=SAMPLE)
@pytest.mark.contest("caller's thread", "engine's thread")
def test_thread_of_transfer(contestant: str, client: NewClient, measure: Measure) -> None:
    """Which of the two `Session` should use."""
    one = client(contestant)
    measure("transfer", "ours" if contestant == "caller's thread" else contestant, lambda: one.get(PATH))


@pytest.fixture(scope="module", params=[1, 4, 16])
def threads(request: pytest.FixtureRequest) -> Iterator[tuple[int, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(request.param) as pool:
        yield request.param, pool


@pytest.mark.contest("ours", "bare pycurl, a handle each")
def test_threads(
    contestant: str,
    threads: tuple[int, ThreadPoolExecutor],
    client: NewClient,
    results: Results,
    smoke: bool,
) -> None:
    """One session for all of them."""
    one, (count, pool) = client(contestant), threads
    calls = iter(range(2 * count if smoke else CALLS))

    def work() -> None:
        for _ in calls:
            one.get(PATH)

    list(pool.map(lambda _: one.get(PATH), range(count)))  # connections
    start = time.perf_counter()
    for future in [pool.submit(work) for _ in range(count)]:
        future.result()
    if not smoke:
        results.add(f"{count} threads", contestant, (time.perf_counter() - start) / CALLS)
