"""What is compared with what, the bounds, and the table at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

OURS = "ours"


def contest(name: str, connection: str) -> str:
    """The name of a contest over the wire, for each `connection` of `peers.PATHS`."""
    return name if connection == "keep-alive" else f"{name}, {connection}"


@dataclass(frozen=True)
class Comparison:
    """Ours against one peer, in a contest whose contestants take turns.

    `at_least`: how many times faster ours must be. `at_most`: how many times the peer's cost ours may be; the ratio is then
    the cost. `aim` is told and not enforced. `limit`: a contestant that does nothing but the work itself; where even that one
    is not `at_least` times as fast as the peer on this processor, ours must come within MOST_OF_BARE of it. `ours`: the
    contestant that stands for us where the peer is ours too, as the same with fewer of something.
    """

    title: str
    contest: str
    peer: str
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    is_cost: bool = False
    limit: str | None = None
    ours: str = OURS

    def ratio(self, ours: float, theirs: float) -> float:
        return ours / theirs if self.is_cost else theirs / ours

    def least(self, limit_ratio: float | None) -> float | None:
        """How many times faster ours must be here, where the limit is `limit_ratio` times faster than the peer."""
        if self.at_least is None or limit_ratio is None:
            return self.at_least
        return min(self.at_least, limit_ratio / MOST_OF_BARE)


#: What one of a thousand sessions may cost, as a multiple of one of ten (in memory: of a hundred), and one of ten thousand
#: parameters, as a multiple of one of a hundred. Sorting those takes the logarithm of their number more for each, and they
#: leave the processor's caches.
MOST_OF_FEW_SESSIONS, MOST_OF_FEW_PARAMETERS = 1.5, 3.0

#: The cost of one live session token may be so many times that of the bare OpenSSL operations.
MOST_OF_BARE = 1.15

# "As it is" ibind parses both key files for every token, which is most of its time and depends on pycryptodome: releases before
# 4 take twice as long. Its functions called with keys at hand are told beside it. Two RSA and two Diffie-Hellman operations of
# OpenSSL are nearly all of our time, so bare OpenSSL bounds every ratio from above.
COMPARISONS = (
    Comparison("HMAC-signed header", "header", "ibind", at_least=12, aim=25),
    Comparison("HMAC-signed header", "header", "oauthlib"),
    Comparison("HMAC-signed header", "header", "authlib"),
    Comparison("HMAC-signed header, cost", "header", "bare HMAC", is_cost=True),
    Comparison("live session token", "token", "ibind as it is", at_least=25, aim=45, limit="bare OpenSSL"),
    Comparison("live session token", "token", "ibind, keys loaded"),
    Comparison("live session token, cost", "token", "bare OpenSSL", at_most=MOST_OF_BARE, is_cost=True),
    Comparison("the same, first of a consumer", "first token", "bare OpenSSL", is_cost=True),
    Comparison("load a private key", "key", "ibind"),
    Comparison("load a private key", "key", "cryptography"),
    Comparison("load a private key, cost", "key", "bare OpenSSL", is_cost=True),
    Comparison("percent-encode", "percent-encode", "urllib.parse"),
    *(Comparison("base string", "base string", peer) for peer in ("ibind", "oauthlib", "authlib")),
    Comparison("nonce", "nonce", "ibind"),
    Comparison("import", "import", "ibind", at_least=8),
    Comparison("start to first answer", "start", "ibind", at_least=4),
    Comparison("signed GET, cost", "call beside pycurl", "bare pycurl", at_most=1.4, aim=1.2, is_cost=True),
    Comparison("signed GET, cost", "call", "bare libcurl, C", is_cost=True),
    Comparison("signed GET", "call", "ibind's signing, pycurl"),
    Comparison("signed GET", "call", "ibind's signing, curl_cffi"),
    Comparison("signed GET", "call", "ibind's signing, requests", at_least=4),
    Comparison("signed GET", "call", "requests-oauthlib"),
    Comparison("signed GET", "call", "authlib, requests"),
    Comparison("signed GET", "call", "ibind's client"),
    Comparison("signed GET", "call", "our signing, httpx", at_least=3),
    Comparison("signed GET", "call", "ibind's signing, httpx"),
    Comparison("transfer on caller's thread", "transfer", "engine's thread"),
    Comparison("signed GET, new connection, cost", "call, cold", "bare pycurl", is_cost=True),
    Comparison("signed GET, new connection", "call, cold", "ibind's signing, requests"),
    Comparison("signed GET, new connection", "call, cold", "our signing, httpx"),
    *(
        Comparison(f"signed GET, {count} threads, cost", f"{count} threads", "bare pycurl, a handle each", is_cost=True)
        for count in (8, 64, 256)
    ),
    *(
        Comparison(f"signed GET, {count} threads", f"{count} threads", peer)
        for count in (8, 64, 256)
        for peer in ("ibind's signing, requests", "our signing, httpx")
    ),
    Comparison("async, 64 in flight", "64 in flight", "our signing, aiohttp", at_least=2),
    Comparison("async, 64 in flight", "64 in flight", "our signing, httpx", at_least=5),
    Comparison("async, 64 in flight", "64 in flight", "our signing, curl_cffi"),
    Comparison("async, 64 in flight, new connections", "64 in flight, cold", "our signing, aiohttp"),
    *(
        Comparison(f"async, {count} in flight", f"{count} in flight", f"our signing, {peer}")
        for count, peer in ((1, "aiohttp"), (1, "httpx"), (8, "aiohttp"), (8, "httpx"), (256, "aiohttp"))
    ),
    *(
        Comparison(f"{what} of 1,000", contest, few, at_most=MOST_OF_FEW_SESSIONS, is_cost=True, ours="1000")
        for what, contest, few in (
            ("open and close a session", "sessions made", "10"),
            ("a call of a session", "sessions called", "10"),
            # Memory is told in pages: of ten sessions, which take two dozen, 14 to 26 were counted.
            ("memory of a session", "sessions in memory", "100"),
        )
    ),
    Comparison(
        "sign a parameter of 10,000", "parameters", "100", at_most=MOST_OF_FEW_PARAMETERS, is_cost=True, ours="10000"
    ),
)


class Results:
    """Figures by contest and contestant, one a turn: seconds for one operation, or bytes where the contest is of memory."""

    def __init__(self, turns: Mapping[str, Mapping[str, list[float]]] | None = None) -> None:
        self.turns: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for name, contestants in (turns or {}).items():
            self.turns[name].update(contestants)

    def add(self, contest: str, contestant: str, figure: float) -> None:
        self.turns[contest][contestant].append(figure)

    def median(self, contest: str, contestant: str) -> float:
        return median(self.turns[contest][contestant])

    def pairs(self, contest: str, ours: str, theirs: str) -> list[tuple[float, float]]:
        """One for each turn that both have had: neighbours in time, so that both met the same machine."""
        figures = self.turns.get(contest, {})
        return list(zip(figures.get(ours, ()), figures.get(theirs, ()), strict=False))

    def ratios(self, comparison: Comparison) -> list[float]:
        return [comparison.ratio(*pair) for pair in self.pairs(comparison.contest, comparison.ours, comparison.peer)]

    def limit_ratio(self, comparison: Comparison) -> float | None:
        """How many times faster than the peer the limit is here."""
        if comparison.limit is None:
            return None
        return median(self.ratios(replace(comparison, ours=comparison.limit)))

    def is_met(self, comparison: Comparison) -> bool:
        ratio = median(self.ratios(comparison))
        least = comparison.least(self.limit_ratio(comparison))
        return (least is None or ratio >= least) and (comparison.at_most is None or ratio <= comparison.at_most)

    def bound(self, comparison: Comparison) -> str:
        aim = f" (aim {comparison.aim:g})" if comparison.aim else ""
        if comparison.at_most is not None:
            return f"<= {comparison.at_most:g}{aim}"
        if comparison.at_least is None:
            return ""
        words = f">= {comparison.at_least:g}{aim}"
        limit = self.limit_ratio(comparison)
        least = comparison.least(limit)
        if limit is not None and least is not None and least < comparison.at_least:
            words += f"; {comparison.limit} reaches {limit:.1f} here, so >= {least:.1f}"
        return words

    def missed(self) -> list[Comparison]:
        return [comparison for comparison in COMPARISONS if self.ratios(comparison) and not self.is_met(comparison)]

    def lines(self) -> list[str]:
        rows = [("", OURS, "", "theirs", "ratio", "spread", "bound", "")]
        rows += [self._row(comparison) for comparison in COMPARISONS if self.ratios(comparison)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return [
            "  ".join(
                cell.rjust(width) if column in (1, 3, 4, 5) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]

    def _row(self, comparison: Comparison) -> tuple[str, ...]:
        ratios = self.ratios(comparison)
        middle = median(ratios)
        bound = self.bound(comparison)
        return (
            comparison.title,
            amount(self.median(comparison.contest, comparison.ours), comparison.contest),
            comparison.peer,
            amount(self.median(comparison.contest, comparison.peer), comparison.contest),
            f"{middle:.2f}x" if comparison.is_cost else f"{middle:.1f}x",
            f"{min(ratios):.2f}-{max(ratios):.2f}" if comparison.is_cost else f"{min(ratios):.1f}-{max(ratios):.1f}",
            bound,
            ("met" if self.is_met(comparison) else "MISSED") if bound else "",
        )


def amount(figure: float, contest: str) -> str:
    """With its unit: of time, or of memory."""
    units = BYTES if "memory" in contest else SECONDS
    for unit, size in units:
        if figure >= size:
            return f"{figure / size:.3g} {unit}" if figure < 1000 * size else f"{figure / size:.0f} {unit}"
    unit, size = units[-1]
    return f"{figure / size:.2g} {unit}"


SECONDS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
BYTES = (("MiB", 2.0**20), ("KiB", 2.0**10), ("bytes", 1.0))
