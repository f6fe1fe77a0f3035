"""Where the time of one `Session.get` goes: python -m benchmarks.profile_get [--functions] [--flight]

By default layer by layer, in turns, against the native server: each line adds one layer to the line before. Code that
takes some microseconds in a loop takes several times as long here, since the kernel's work for the network pushes it
out of the processor's caches; the column "alone" is that loop, without any network.
`--functions` adds what cProfile says of `Session.get`, own time first; `--flight` the same of 64 calls in flight.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from ibkr_oauth import Response, Session, Signer, _core
from ibkr_oauth.steps import Send
from ibkr_oauth.transport import Transport, answer, transport_options

from . import peers
from .known import Known
from .native import Server

PATH = peers.PATHS["keep-alive"]
TURNS = 41
CALLS = 100

#: Each adds one layer to the one before.
LAYERS = (
    "bare pycurl",
    "HttpClient.send",
    "the same, a ready header",
    "signed on its way",
    "and Transport, Response",
    "Session.get",
)

Call = Callable[[], object]


class Canned:
    """In the place of the transport: an answer without a network."""

    def __init__(self, like: Response) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in like.headers.items()).encode()
        self._content = like.content

    def send(self, method: str, url: str, *_: object, **__: object) -> Response:
        return answer(Send(method, url, peers.TIMEOUT_MS, True), (200, self._headers, self._content, 100, True))

    def cancel(self) -> None: ...
    def close(self) -> None: ...


@contextmanager
def layers(server: Server, known: Known) -> Iterator[dict[str, tuple[Call, Call | None]]]:
    """By name: with the network, and alone."""
    url = server.base_url + PATH
    signer = Signer(known.consumer, known.live_session_token)
    header = list(signer.sign("GET", url).headers.items())
    bare = peers.Pycurl(server, known)
    client = _core.HttpClient(**peers.core_options(server))
    transport = Transport(transport_options(ca_file=server.ca_file))

    def send(headers: list[tuple[str, str]]) -> Any:
        return client.send("GET", url, headers, None, True, peers.TIMEOUT_MS)

    def send_signed() -> Any:
        signature = (signer._handle, None, None, None, int(time.time()))
        return client.send("GET", url, [], None, True, peers.TIMEOUT_MS, *signature)

    def step() -> Send:
        made = Send("GET", url, peers.TIMEOUT_MS, True)
        made.signer, made.timestamp = signer._handle, time.time()
        return made

    with Session(known.consumer, known.access_token, **peers.session_options(server, known)) as session:
        canned: Any = Canned(session.get(PATH))
        options = peers.session_options(server, known) | {"transport": canned}
        with Session(known.consumer, known.access_token, **options) as alone:
            pairs: tuple[tuple[Call, Call | None], ...] = (
                (lambda: bare.get(PATH), None),
                (lambda: send([]), None),
                (lambda: send(header), None),
                (send_signed, lambda: step().signed()),
                (lambda: transport.perform(step()), lambda: (step().signed(), canned.send("GET", url))),
                (lambda: session.get(PATH), lambda: alone.get(PATH)),
            )
            yield dict(zip(LAYERS, pairs, strict=True))
    bare.close()
    transport.close()


def microseconds(call: Call, count: int = CALLS) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e6


def print_layers(calls: dict[str, tuple[Call, Call | None]]) -> None:
    turns = [{name: microseconds(call) for name, (call, _) in calls.items()} for _ in range(TURNS)]
    first = next(iter(calls))
    print(f"{'':26} {'us':>7} {'more':>7} {'of bare':>8} {'alone':>7}")
    before = None
    for name, (_, alone) in calls.items():
        now = median(turn[name] for turn in turns)
        more = "" if before is None else f"{median(turn[name] - turn[before] for turn in turns):+.1f}"
        ratio = median(turn[name] / turn[first] for turn in turns)
        by_itself = "" if alone is None else f"{min(microseconds(alone, 1000) for _ in range(9)):.1f}"
        print(f"{name:26} {now:7.1f} {more:>7} {ratio:7.2f}x {by_itself:>7}")
        before = name


def print_functions(call: Call, count: int) -> None:
    """Own time of each function, for `count` calls. The profiler makes Python look dearer than it is."""
    profile = cProfile.Profile()
    profile.runcall(lambda: [call() for _ in range(count)])
    pstats.Stats(profile).sort_stats("tottime").print_stats(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", action="store_true")
    parser.add_argument("--flight", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name, Server(Path(name)) as server:
        known = Known(Path(name))
        with layers(server, known) as calls:
            print_layers(calls)
            if arguments.functions:
                print_functions(calls["Session.get"][0], 2000)
        if arguments.flight:
            one = peers.InLoop(peers.AsyncOurs(server, known))
            one.calls(PATH, 128, 64)
            print_functions(lambda: one.calls(PATH, 2048, 64), 1)
            one.close()


if __name__ == "__main__":
    main()
