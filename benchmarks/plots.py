"""The plots of a run. Dark on white: readable on light pages and on dark ones. Colours are those of Okabe and Ito."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .table import COMPARISONS, OURS, Comparison, Results, contest

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "savefig.pad_inches": 0.1,
    "svg.hashsalt": "ibkr_oauth",  # the same figures give the same file
    "xtick.color": "#444444",
    "ytick.color": "#222222",
    "ytick.labelcolor": "#222222",
}

OURS_COLOUR = "#0072B2"
LIMIT_COLOUR = "#777777"
PEER_COLOUR = "#E69F00"
#: The first word that is found says it. A marker of its own for those who see no colours.
LINES = {
    "ours": (OURS_COLOUR, "o"),
    "bare": (LIMIT_COLOUR, "s"),
    "aiohttp": ("#009E73", "^"),
    "httpx": ("#D55E00", "v"),
    "curl_cffi": ("#CC79A7", "D"),
    "requests": ("#E69F00", "P"),
    "ibind": ("#E69F00", "P"),
    "oauthlib": ("#009E73", "^"),
}

IN_FLIGHT = (1, 8, 64, 256)


def is_limit(name: str) -> bool:
    return name.startswith("bare ")


def colour(name: str) -> str:
    return OURS_COLOUR if OURS in name.split(": ") else LIMIT_COLOUR if is_limit(name) else PEER_COLOUR


def line_style(name: str) -> tuple[str, str]:
    return next(style for word, style in LINES.items() if word in name)


# --- Parts ---------------------------------------------------------------------------------------------


def bars(axes: Axes, results: Results, name: str, unit: float, title: str, axis: str) -> None:
    """A contestant a bar, the quickest on top; the whisker is from the least turn to the greatest."""
    figures = {who: [one / unit for one in turns] for who, turns in results.turns.get(name, {}).items()}
    order = sorted(figures, key=lambda who: median(figures[who]), reverse=True)
    most = max((max(turns) for turns in figures.values()), default=1.0)
    for row, who in enumerate(order):
        middle, least, greatest = median(figures[who]), min(figures[who]), max(figures[who])
        axes.barh(row, middle, height=0.62, color=colour(who))
        axes.plot([least, greatest], [row, row], color="#222222", linewidth=1)
        axes.annotate(
            f"{middle:,.3g}" if middle < 1000 else f"{middle:,.0f}",
            (max(greatest, middle), row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    if OURS in figures:  # a ratio of one
        axes.axvline(median(figures[OURS]), color=OURS_COLOUR, linewidth=0.9, linestyle=(0, (2, 1.5)))
    axes.set_yticks(range(len(order)), order)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlim(0, most * 1.16)
    axes.set_title(title)
    axes.set_xlabel(axis)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def bottom_at_zero(axes: Axes) -> None:
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)


def log_ticks(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def series(axes: Axes, name: str, points: Sequence[tuple[float, Iterable[float]]], label: str | None = None) -> None:
    """Medians joined, each with its spread."""
    tint, marker = line_style(name)
    places = [x for x, _ in points]
    turns = [list(figures) for _, figures in points]
    axes.plot(
        places,
        [median(one) for one in turns],
        color=tint,
        marker=marker,
        markersize=5,
        linewidth=1.6,
        label=label or name,
    )
    for x, one in zip(places, turns, strict=True):
        axes.plot([x, x], [min(one), max(one)], color=tint, linewidth=1)


# --- Pages ---------------------------------------------------------------------------------------------


def bounds(results: Results) -> Figure:
    """Each ratio that is bound, beside its bound."""
    found = [one for one in COMPARISONS if results.ratios(one) and (one.at_least or one.at_most)]
    faster, cost = [one for one in found if not one.is_cost], [one for one in found if one.is_cost]
    figure = Figure(figsize=(8, 1.9 + 0.34 * len(found)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[len(faster) + 0.8, len(cost) + 0.8])
    _ratios(above, results, faster, "Times as fast as the peer (right of the mark is better)")
    above.set_xscale("log")
    above.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    log_ticks(above, "x")
    above.set_xlim(left=0.85)
    _ratios(below, results, cost, "Times the cost of the limit, or of one of few (left of the mark is better)")
    below.set_xlim(left=0)
    return figure


def _ratios(axes: Axes, results: Results, comparisons: list[Comparison], title: str) -> None:
    for row, one in enumerate(reversed(comparisons)):
        ratios = results.ratios(one)
        tint = OURS_COLOUR if results.is_met(one) else "#D55E00"
        axes.plot([min(ratios), max(ratios)], [row, row], color=tint, linewidth=1.4)
        axes.plot(median(ratios), row, marker="o" if results.is_met(one) else "X", color=tint, markersize=7)
        bound = one.least(results.limit_ratio(one)) if not one.is_cost else one.at_most
        axes.plot([bound, bound], [row - 0.32, row + 0.32], color="#222222", linewidth=2.2)
        if one.aim is not None:
            axes.plot(
                [one.aim, one.aim], [row - 0.32, row + 0.32], color="#222222", linewidth=1, linestyle=(0, (2, 1.5))
            )
    axes.axvline(1, color="#222222", linewidth=0.9)
    axes.set_yticks(
        range(len(comparisons)), [f"{one.title}\nagainst {_peer(one)}" for one in reversed(comparisons)], fontsize=7.5
    )
    axes.set_ylim(-0.6, len(comparisons) - 0.4)
    axes.set_xlabel(title)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _peer(one: Comparison) -> str:
    return f"one of {one.peer}" if one.peer.isdigit() else one.peer


def signing(results: Results) -> Figure:
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, (name, title, unit, axis) in zip(
        panels,
        (
            ("header", "Authorization header, HMAC", 1e-6, "microseconds"),
            ("base string", "Base string", 1e-6, "microseconds"),
            ("token", "Live session token", 1e-3, "milliseconds"),
            ("key", "Load a private key", 1e-6, "microseconds"),
        ),
        strict=True,
    ):
        bars(axes, results, name, unit, title, axis)
    return figure


def calls(results: Results) -> Figure:
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1)
    bars(above, results, "call", 1e-6, "Kept connection", "microseconds for one call")
    bars(below, results, "call, cold", 1e-6, "New connection for each call", "microseconds for one call")
    return figure


def in_flight(results: Results) -> Figure:
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, (kind, unit) in enumerate((("Threads", "threads"), ("Event loop", "in flight"))):
        for axes, connection in zip(panels[row], ("keep-alive", "cold"), strict=True):
            _calls_at_once(axes, results, unit, connection)
            axes.set_title(f"{kind}, {'kept connections' if connection == 'keep-alive' else 'new connections'}")
            axes.legend(fontsize=7.5, loc="best")
        panels[row][0].set_ylabel("calls per second")
    for axes in panels[1]:
        axes.set_xlabel("calls in flight")
    return figure


def _calls_at_once(axes: Axes, results: Results, unit: str, connection: str) -> None:
    points: dict[str, list[tuple[float, list[float]]]] = {}
    for count in IN_FLIGHT:
        name = contest("call" if unit == "threads" and count == 1 else f"{count} {unit}", connection)
        for who, turns in results.turns.get(name, {}).items():
            points.setdefault(who.removesuffix(", a handle each"), []).append((count, [1 / one for one in turns]))
    for who, some in points.items():
        if len(some) > 1:
            series(axes, who, some)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(IN_FLIGHT)
    log_ticks(axes, "x")
    log_ticks(axes, "y")


def start(results: Results) -> Figure:
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    above, middle, below = figure.subplots(3, 1, height_ratios=[8, 10, 2.6])
    bars(above, results, "import", 1e-3, "Import", "milliseconds")
    bars(
        middle,
        results,
        "first call",
        1e-3,
        "Start of the process to the first answer, live session token at hand",
        "milliseconds",
    )
    bars(below, results, "start", 1e-3, "The same with the whole log-in", "milliseconds")
    return figure


def memory(results: Results) -> Figure:
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1)
    bars(above, results, "memory after calls", 2**20, "Process of one client, after 1,000 calls", "MiB in memory")
    bars(
        below,
        results,
        "memory of one more client",
        2**10,
        "One more client in that process, with one call",
        "KiB in memory",
    )
    return figure


def scale(results: Results) -> Figure:
    figure = Figure(figsize=(8, 5.6), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, (name, title, unit, y, x) in zip(
        panels,
        (
            ("parameters", "Sign a form", 1e-6, "microseconds for a parameter", "parameters"),
            ("sessions made", "Open and close", 1e-6, "microseconds for a session", "sessions"),
            ("sessions called", "Call one after the other", 1e-6, "microseconds of processor for a call", "sessions"),
            ("sessions in memory", "Memory", 2**10, "KiB for a session", "sessions"),
        ),
        strict=True,
    ):
        for who in (OURS, "ibind", "oauthlib"):
            contestants = results.turns.get(name if who == OURS else f"{name}, {who}", {})
            points = [(float(count), [one / unit for one in turns]) for count, turns in contestants.items()]
            if points:
                series(axes, who, points)
        axes.set_title(title)
        axes.set_xscale("log")
        log_ticks(axes, "x")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if name == "parameters":
            axes.set_yscale("log")
            log_ticks(axes, "y")
            axes.legend(fontsize=7.5)
        else:
            bottom_at_zero(axes)
    return figure


#: By file name: what draws it, and what it shows, for those who cannot see it.
PLOTS = {
    "bounds": (bounds, "Every bound ratio with its spread, the bound as a mark, a ratio of one as a line"),
    "signing": (signing, "Bars: time for a header, a base string, a live session token and a key, by library"),
    "calls": (calls, "Bars: time of one call on a kept connection and on a new one, by library"),
    "in-flight": (in_flight, "Lines: calls per second with 1, 8, 64 and 256 in flight, by library"),
    "start": (start, "Bars: time to import and time to the first answer, by library"),
    "memory": (memory, "Bars: memory of a process after 1,000 calls and of one more client, by library"),
    "scale": (scale, "Lines: cost of one parameter and of one session, against their number"),
}


def draw(results: Results, folder: Path, formats: Iterable[str] = ("svg", "png")) -> None:
    """Each as SVG, for pages, and as PNG, for what shows no SVG. No date in them: the same figures give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, (make, _) in PLOTS.items():
            figure = make(results)
            for suffix in formats:
                unsaid = {"svg": "Date", "png": "Software"}[suffix]
                figure.savefig(folder / f"{name}.{suffix}", dpi=130, metadata={unsaid: None})
