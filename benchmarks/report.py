"""Writes docs/benchmarks.md and its plots: python -m benchmarks.report [FIGURES] [--docs FOLDER]

FIGURES is what `make bench` wrote. It is kept as docs/images/benchmarks/figures.json, which is read where none is given: page,
plots and figures always belong to one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from . import figures, plots
from .pair import BLOCK, BLOCKS
from .profile_get import LAYERS
from .table import (
    COMPARISONS,
    MOST_OF_BARE,
    MOST_OF_FEW_PARAMETERS,
    MOST_OF_FEW_SESSIONS,
    OURS,
    Results,
    amount,
    contest,
)

DOCS = Path(__file__).parents[1] / "docs"

# --- Parts ---------------------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Left the first column, right the others."""
    cells = list(head)
    return [
        "",
        f"| {' | '.join(cells)} |",
        f"|---|{'---:|' * (len(cells) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def plot(name: str) -> list[str]:
    shows = plots.PLOTS[name][1]
    return ["", f"![{shows}](images/benchmarks/{name}.svg)", "", f"([as PNG](images/benchmarks/{name}.png))", ""]


def spread(values: list[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}" if max(values) < 10 else f"{min(values):.1f}-{max(values):.1f}"


def times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def by_contestant(results: Results, *contests: tuple[str, str]) -> list[str]:
    """(contest, title) each: all contestants with their medians, and how many times our time theirs is."""
    lines: list[str] = []
    for name, title in contests:
        rows = []
        contestants = results.turns.get(name, {})
        for who in sorted(contestants, key=lambda one: median(contestants[one])):
            ratios = [theirs / ours for ours, theirs in results.pairs(name, OURS, who)]
            least, greatest = (amount(edge(contestants[who]), name) for edge in (min, max))
            of_ours = ("1", "") if who == OURS else (times(median(ratios)), spread(ratios))
            rows.append((_bold(who), amount(results.median(name, who), name), f"{least} to {greatest}", *of_ours))
        if rows:
            lines += table((title, "median", "least to greatest", "times ours", "spread"), rows)
    return lines


def _bold(who: str) -> str:
    return f"**{who}**" if OURS in who.split(": ") else who


def across(results: Results, title: str, columns: list[tuple[str, str]]) -> list[str]:
    """Medians of several contests, a column each: (heading, contest). Who takes part in one only is left out."""
    medians: dict[str, dict[str, str]] = {}
    for heading, name in columns:
        for who in results.turns.get(name, {}):
            told = who.removesuffix(", a handle each")
            medians.setdefault(told, {})[heading] = amount(results.median(name, who), name)
    rows = [
        (_bold(who), *(found.get(heading, "") for heading, _ in columns))
        for who, found in medians.items()
        if len(found) > 1
    ]
    return table((title, *(heading for heading, _ in columns)), rows)


# --- Sections ------------------------------------------------------------------------------------------


def bounds(results: Results) -> list[str]:
    rows, aims = [], []
    for one in COMPARISONS:
        ratios = results.ratios(one)
        if not ratios or not results.bound(one):
            continue
        met = "met" if results.is_met(one) else "**not met**"
        middle = median(ratios)
        if one.aim is not None and (middle > one.aim if one.is_cost else middle < one.aim):
            aims.append(f"{one.title}, {one.peer}: {times(middle)}, aim {one.aim:g}")
        ours, theirs = (amount(results.median(one.contest, who), one.contest) for who in (one.ours, one.peer))
        rows.append((one.title, one.peer, ours, theirs, times(middle), spread(ratios), results.bound(one), met))
    lines = table(("", "against", "ours", "theirs", "ratio", "spread", "bound", ""), rows)
    count, missed = len(rows), len(results.missed())
    lines.append(f"{count - missed} of {count} bounds are met." + (f" {missed} are not." if missed else ""))
    if aims:
        lines += ["", "Aims are told and not enforced. Not reached: " + "; ".join(aims) + "."]
    return [*lines, *plot("bounds")]


def layers(results: Results) -> list[str]:
    name = "layers"
    if OURS not in results.turns.get("call", {}) or name not in results.turns:
        return []
    rows, before = [], None
    for layer in LAYERS:
        middle = results.median(name, layer)
        more = "" if before is None else f"{(middle - before) * 1e6:+.1f} us"
        of_bare = median(ours / bare for ours, bare in results.pairs(name, layer, LAYERS[0]))
        rows.append((layer, amount(middle, name), more, f"{of_bare:.2f}"))
        before = middle
    return table(("layer", "median", "more", "of bare pycurl"), rows)


def machine_table(machine: dict[str, Any], results: Results) -> list[str]:
    repeated = [turns for contestants in results.turns.values() for turns in contestants.values() if len(turns) > 1]
    widths = [(max(turns) - min(turns)) / median(turns) for turns in repeated] or [0.0]
    rows = [
        ("date", machine["date"]),
        ("processor", f"{machine['processor']}, {machine['processors']} CPUs"),
        ("system", machine["system"]),
        ("Python", machine["python"]),
        ("load at the start", " ".join(f"{one:.2f}" for one in machine["load"])),
        *((f"TLS and HTTP of {who}", what) for who, what in machine["libraries"].items()),
        ("packages", ", ".join(f"{name} {found}" for name, found in machine["packages"].items())),
        ("noise", f"greatest less least turn, of the median: {median(widths):.0%} (half of all figures have less)"),
    ]
    lines = table(("", "this run"), rows)
    lines[2] = "|---|---|"
    return lines


def page(machine: dict[str, Any], results: Results) -> str:
    def at_once(unit: str, connection: str) -> list[tuple[str, str]]:
        return [
            (str(count), contest("call" if (unit, count) == ("threads", 1) else f"{count} {unit}", connection))
            for count in plots.IN_FLIGHT
        ]

    lines = [
        "# Benchmarks",
        "",
        "What `ibkr_oauth` costs beside other people's clients, and beside OpenSSL and libcurl alone. All figures of",
        "this page are from one run on one machine; they are made to compare, and other machines have others.",
        "",
        "This page and its plots are made from that run's own data ([all figures](images/benchmarks/figures.json)):",
        "`make bench` measures and `make bench-report` writes it.",
        "",
        "## Bounds",
        "",
        "A ratio is taken between neighbours in time, turn by turn; it is the median of the turns, and the spread is",
        "from the least to the greatest. A *cost* is our time divided by theirs, every other ratio theirs by ours. Each",
        "has a bound that fails `make bench` where it is missed. For the cost of a signed GET beside bare pycurl the two take",
        f"{BLOCKS} turns of {BLOCK} calls in a process of their own, nine times, so that a busy host is as busy for both. In the",
        "plot the thick mark is the bound, the dashed one an aim, the vertical line a ratio of one.",
        *bounds(results),
        "ibind reads both key files for every token, which is most of its time and depends on its pycryptodome. Where bare",
        f"OpenSSL itself is not 25 times as fast as that, the token must come within {MOST_OF_BARE - 1:.0%} of what bare",
        "OpenSSL reaches.",
        "",
        "## Signing",
        "",
        "Processor time, no network. *bare HMAC* and *bare OpenSSL* are C against the same OpenSSL, with everything made",
        "ready that can be. oauthlib is what requests-oauthlib signs with.",
        *plot("signing"),
        *by_contestant(
            results,
            ("header", "Authorization header"),
            ("base string", "Base string"),
            ("token", "Live session token"),
            ("first token", "The first of a consumer"),
            ("key", "Load a private key"),
            ("percent-encode", "Percent-encode"),
            ("nonce", "Nonce"),
        ),
        "Empty on purpose: oauthlib, requests-oauthlib and authlib have no live session token (no Diffie-Hellman, no",
        "decryption of the secret). Both know HMAC with two secrets as text only, authlib SHA-1 only; for these figures",
        "each was given IBKR's method by its own hook, which is a line, and signs rightly as long as no parameter needs",
        "percent-encoding. httpx, aiohttp, pycurl and curl_cffi sign nothing: above the wire they are no contestants.",
        "",
        "## Calls, one after the other",
        "",
        "A signed GET over TLS 1.3 on loopback, to a small server in C that answers at once and verifies nothing. Each",
        "client is used as its documentation has it: made once, connections kept. For *new connection* the server ends",
        "the connection behind every answer. Clients of libcurl resume the TLS session then, those of Python's `ssl` do",
        "not by themselves. *bare libcurl, C* is no Python at all, on the libcurl that `ibkr_oauth` uses; *bare pycurl*",
        "brings a libcurl and an OpenSSL of its own. Neither signs.",
        *plot("calls"),
        *by_contestant(results, ("call", "Kept connection"), ("call, cold", "New connection")),
        "## Many in flight",
        "",
        "Time for one call, while so many are in flight: from so many threads with one client, then from one event loop.",
        "The server has the other processor. More calls per second is better in the plot, less time in the tables.",
        *plot("in-flight"),
        *across(results, "Threads, kept connections", at_once("threads", "keep-alive")),
        *across(results, "Threads, new connections", at_once("threads", "cold")),
        *across(results, "Event loop, kept connections", at_once("in flight", "keep-alive")),
        *across(results, "Event loop, new connections", at_once("in flight", "cold")),
        "Threads: bare pycurl has a handle for each. Empty on purpose: httpx with an event loop and 256 in flight, since the time of its pool grows with the square",
        "of the connections: opening them takes it a quarter of a minute. requests has no event loop, aiohttp no",
        "threads.",
        "",
        "## Start",
        "",
        "Fresh interpreters, byte code written before. *With the whole log-in* is from the start of the process to the",
        "first answer, configured by environment variables, against the sandbox: keys, live session token, call. No other",
        "package makes a log-in. *First answer* without it has a live session token at hand, and the C server.",
        *plot("start"),
        *by_contestant(
            results, ("import", "Import"), ("first call", "First answer"), ("start", "First answer with log-in")
        ),
        "## Memory",
        "",
        "What Linux counts as in memory for a process that makes 1,000 calls with one client, and what each more client",
        "of the same kind takes, with one call made. All but the bare ones sign: ibind's client as it does, ours as it",
        "does, the others with oauthlib or authlib, which are light. *bare Python* is an interpreter that does nothing.",
        "Sessions with the same settings share connections; of other libraries each client has its own.",
        *plot("memory"),
        *by_contestant(
            results,
            ("memory after calls", "After 1,000 calls"),
            ("memory at the first answer", "At the first answer"),
            ("memory of one more client", "One more client"),
        ),
        "## Scale",
        "",
        "One of many costs what one of few costs. Bounds: one of 1,000 sessions costs at most",
        f"{MOST_OF_FEW_SESSIONS:g} times the time of one of 10, and the memory of one of 100: ten take two dozen pages of",
        "memory, and how many of these were free before is chance. One of 10,000 parameters costs at most",
        f"{MOST_OF_FEW_PARAMETERS:g} times one of 100: they are sorted, which takes the logarithm of their number more for",
        "each, and they no longer fit into the processor's nearest caches. They are those of a form, in no order; ibind's",
        "figure is its base string only.",
        *plot("scale"),
        *scale(results),
        "## Where the time of a call goes",
        "",
        "Each line adds one layer to the line before, in turns: `python -m benchmarks.profile_get` prints the same, and",
        "with `--functions` the functions of `Session.get`.",
        *layers(results),
        "Instructions in user space for a call, counted once by callgrind (libcurl 7.88.1, OpenSSL 3.0.19; pycurl with",
        "8.23.0 and 3.6.5): `Session.get` 209,000, bare pycurl 97,000. Some 60,000 of the difference are libcurl 7.88",
        "formatting a request byte by byte, most of which is the Authorization header that bare pycurl does not send, and",
        "20,000 an easy handle for each call, which libcurl needs before 8.2 (it is made while the answer is awaited).",
        "Our C takes 24,000 (pycurl's 3,000), Python 32,000 (22,000), OpenSSL 31,000 (12,000), of which the HMAC is 11,000",
        "where the processor has no instructions for it, as under callgrind.",
        "",
        "This ratio is the one that depends on the neighbours of a virtual machine. After each wait little of a program is",
        "in the processor's caches, so that a bytecode takes 15 to 20 ns, and on a busy host all that runs between two waits",
        "takes half as long again; we have more of that than bare pycurl. Within one hour this contest alone gave 1.39 to 1.43",
        "on a busy host and 1.24 on a quiet one.",
        "",
        "## Machine and noise",
        *machine_table(machine, results),
        "Contestants take turns (A B A B …): nine each, five of many calls at once, three of processes for memory. A turn is a",
        "median of many samples, or one sample of 0.1 s and more. Work without a network is measured in processor time,",
        "everything else by the clock. A ratio of two figures whose spreads overlap says no more than that they are near.",
        "",
        "## Again",
        "",
        "```sh",
        "make bench         # measures, on an idle machine; figures go to build/figures.json",
        "make bench-report  # this page and its plots, from those figures",
        "```",
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def scale(results: Results) -> list[str]:
    rows = []
    for name, title in (
        ("parameters", "sign a parameter"),
        ("parameters, ibind", "the same, ibind's base string"),
        ("parameters, oauthlib", "the same, oauthlib"),
        ("sessions made", "open and close a session"),
        ("sessions called", "a call of one of them"),
        ("sessions in memory", "memory of a session"),
    ):
        if name in results.turns:
            found = [
                amount(results.median(name, count), name) if count in results.turns[name] else ""
                for count in ("1", "10", "100", "1000", "10000")
            ]
            rows.append((title, *found))
    return table(("", "1", "10", "100", "1,000", "10,000"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="?", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS)
    parser.add_argument(
        "--plots", nargs="*", choices=("svg", "png"), default=("svg", "png"), help="in these formats only"
    )
    arguments = parser.parse_args()
    images = arguments.docs / "images" / "benchmarks"
    kept = images / "figures.json"
    if arguments.figures is not None:
        figures.write(kept, *figures.read(arguments.figures))
    machine, results = figures.read(kept)
    plots.draw(results, images, arguments.plots)
    (arguments.docs / "benchmarks.md").write_text(page(machine, results), encoding="utf-8")


if __name__ == "__main__":
    main()
