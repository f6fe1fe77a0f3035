"""One signed call after the other, and from several threads, to the native server: TLS 1.3, keep-alive, loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ibind.oauth import oauth1a as ibind

from ibkr_oauth import _core

from .bare import BareHttp
from .conftest import Measure
from .known import Known
from .native import Server
from .pair import BLOCKS
from .peers import BARE, CLIENTS, PATHS, Client
from .profile_get import LAYERS, layers
from .table import Results, contest

PATH = PATHS["keep-alive"]
CALLS = 512
#: Seconds. A call whose answer is there before the thread sleeps takes some 70 % of the time of one that has to be woken:
#: a sample of a few calls is one or the other by chance, and a long one has both.
SAMPLE = 0.1

#: Calls in one call of C, so that the way there does not count.
LOOP = 16

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


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "bare Python"])
def test_calls_are_signed(name: str, client: NewClient, known: Known, server: Server) -> None:
    """As the server sees them, with the signature computed anew from ibind's base string."""
    one = client(name)
    assert decoded(one.get(PATH))[0]["id"] == "DU1234567"
    head = decoded(one.get("/echo"))
    assert head.startswith("GET /v1/api/echo HTTP/1.1\r\n")
    assert ("authorization:" in head.lower()) == (name not in BARE)
    if name not in BARE:
        check_signature(head, f"{server.base_url}/echo", known)


def check_signature(head: str, url: str, known: Known) -> None:
    [header] = re.findall(r"(?im)^authorization: OAuth (.*)\r$", head)
    pairs = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    assert pairs.pop("realm") == known.realm
    signature = base64.b64decode(pairs.pop("oauth_signature"))
    base_string = ibind.generate_base_string("GET", url, pairs)
    assert signature == hmac.digest(known.header_key, base_string.encode(), hashlib.sha256)
    assert abs(int(pairs["oauth_timestamp"]) - time.time()) < 60


@pytest.mark.parametrize("connection", PATHS)
def test_connections_are_kept_or_not(connection: str, client: NewClient, server: Server, known: Known) -> None:
    """Which libcurl tells of each answer; the other clients see the same server."""
    one = client("bare pycurl")
    one.get(PATHS[connection])
    one.get(PATHS[connection])
    made = one._handle.getinfo(one._curl.NUM_CONNECTS)  # by the last call
    assert made == (1 if connection == "cold" else 0)


@pytest.fixture(scope="module")
def bare_http(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Callable[[str], BareHttp]]:
    """libcurl without us, and the very one that the extension module uses."""
    made: dict[str, BareHttp] = {}

    def get(path: str) -> BareHttp:
        if path not in made:
            folder = tmp_path_factory.mktemp("bare-http")
            made[path] = BareHttp(folder, server.base_url + path, server.ca_file)
            assert made[path].version in _core.versions()["libcurl"]
        return made[path]

    yield get
    for one in made.values():
        one.close()


@pytest.mark.benchmark(timer=time.perf_counter, min_time=SAMPLE)
@pytest.mark.contest(
    "ours",
    "bare pycurl",
    "bare libcurl, C",
    "ibind's signing, pycurl",
    "ibind's signing, curl_cffi",
    "ibind's signing, requests",
    "requests-oauthlib",
    "authlib, requests",
    "ibind's client",
    "our signing, httpx",
    "ibind's signing, httpx",
)
@pytest.mark.parametrize("connection", PATHS)
def test_call(
    contestant: str,
    connection: str,
    client: NewClient,
    bare_http: Callable[[str], BareHttp],
    measure: Measure,
) -> None:
    path = PATHS[connection]
    if contestant == "bare libcurl, C":
        bare = bare_http(path)
        measure(contest("call", connection), contestant, lambda: bare.get(LOOP), LOOP)
    else:
        one = client(contestant)
        measure(contest("call", connection), contestant, lambda: one.get(path))


def test_call_beside_pycurl(server: Server, known: Known, results: Results, smoke: bool, turns: int) -> None:
    pair = ("ours", "bare pycurl")
    blocks = 1 if smoke else BLOCKS
    command = [
        sys.executable,
        "-m",
        "benchmarks.pair",
        *pair,
        known.folder,
        server.base_url,
        server.ca_file,
        str(blocks),
    ]
    root = Path(__file__).parents[1]
    for _ in range(turns):
        seconds = json.loads(subprocess.run(command, check=True, cwd=root, stdout=subprocess.PIPE, text=True).stdout)
        assert set(seconds) == set(pair)
        if not smoke:
            for who in pair:
                results.add("call beside pycurl", who, seconds[who])


@pytest.mark.benchmark(timer=time.perf_counter, min_time=SAMPLE)
@pytest.mark.contest("caller's thread", "engine's thread")
def test_thread_of_transfer(contestant: str, client: NewClient, measure: Measure) -> None:
    """Which of the two `Session` should use."""
    one = client(contestant)
    measure("transfer", "ours" if contestant == "caller's thread" else contestant, lambda: one.get(PATH))


@pytest.fixture(scope="module", params=[8, 64, 256])
def threads(request: pytest.FixtureRequest) -> Iterator[tuple[int, ThreadPoolExecutor]]:
    with ThreadPoolExecutor(request.param) as pool:
        yield request.param, pool


@pytest.mark.contest(
    "ours",
    "bare pycurl, a handle each",
    "ibind's signing, curl_cffi",
    "ibind's signing, requests",
    "our signing, httpx",
)
@pytest.mark.parametrize("connection", PATHS)
def test_threads(
    contestant: str,
    connection: str,
    threads: tuple[int, ThreadPoolExecutor],
    client: NewClient,
    results: Results,
    smoke: bool,
) -> None:
    """One client for all of them."""
    one, (count, pool), path = client(contestant), threads, PATHS[connection]
    if smoke:
        list(pool.map(one.get, [path, path]))
        return
    total = max(CALLS, 2 * count)
    calls = iter(range(total))

    def work() -> None:
        for _ in calls:
            one.get(path)

    if connection == "keep-alive":
        list(pool.map(lambda _: one.get(path), range(count)))  # makes the connections
    start = time.perf_counter()
    for future in [pool.submit(work) for _ in range(count)]:
        future.result()
    results.add(contest(f"{count} threads", connection), contestant, (time.perf_counter() - start) / total)


@pytest.fixture(scope="module")
def by_layer(server: Server, known: Known) -> Iterator[dict[str, Callable[[], object]]]:
    with layers(server, known) as calls:
        yield {name: call for name, (call, _) in calls.items()}


@pytest.mark.benchmark(timer=time.perf_counter, min_time=SAMPLE)
@pytest.mark.contest(*LAYERS, turns=5)
def test_layers(contestant: str, by_layer: dict[str, Callable[[], object]], measure: Measure) -> None:
    """Where the time of a call goes: each adds one layer to the one before."""
    measure("layers", contestant, by_layer[contestant])
