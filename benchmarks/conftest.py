"""How the benchmarks are run: contestants take turns, pytest-benchmark measures each turn, the table shows ratios."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ibkr_oauth import _core

from . import figures, machine
from .bare import Bare
from .known import Known
from .native import Server
from .table import Results

TURNS = 9
RESULTS = pytest.StashKey[Results]()
MACHINE = pytest.StashKey[dict[str, Any]]()

#: (contest, contestant, function, operations in one call of it)
Measure = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="benchmarks: each once, no figures and no bounds")
    parser.addoption("--turns", type=int, default=TURNS, help="benchmarks: of each contestant, fewer for a quick look")
    parser.addoption("--figures", type=Path, metavar="FILE", help="benchmarks: where to write all figures, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "contest(*contestants, turns=9): run in turns, once for each `contestant`")
    config.stash[RESULTS] = Results()
    config.stash[MACHINE] = machine.describe()
    if config.get_verbosity() <= 0:
        config.option.benchmark_quiet = True  # its table has a line for every turn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A B A B ..., so that what else happens on the machine happens to all of them."""
    marker = metafunc.definition.get_closest_marker("contest")
    if marker is not None:
        options = metafunc.config.option
        turns = 1 if options.smoke else min(options.turns, marker.kwargs.get("turns", TURNS))
        cases = [pytest.param(who, id=f"{who}-{turn}") for turn in range(1, turns + 1) for who in marker.args]
        metafunc.parametrize("contestant", cases)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Samples of a millisecond or more, for about 0.15 s a turn, in processor time unless a test says otherwise."""
    options = {"timer": time.process_time, "min_time": 0.001, "max_time": 0.15, "min_rounds": 3, "warmup": False}
    for item in items:
        own = item.get_closest_marker("benchmark")
        item.add_marker(pytest.mark.benchmark(**(options | (own.kwargs if own else {}))), append=False)


@pytest.fixture(scope="session")
def smoke(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("smoke"))


@pytest.fixture(scope="session")
def turns(pytestconfig: pytest.Config, smoke: bool) -> int:
    return 1 if smoke else pytestconfig.getoption("turns")


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Results:
    return pytestconfig.stash[RESULTS]


@pytest.fixture
def measure(benchmark: BenchmarkFixture, results: Results, smoke: bool) -> Measure:
    """Runs one turn."""

    def run(contest: str, contestant: str, function: Callable[[], object], operations: int = 1) -> None:
        if smoke:
            benchmark.pedantic(function)
            return
        benchmark(function)
        assert benchmark.stats is not None
        results.add(contest, contestant, benchmark.stats.stats.median / operations)

    return run


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """OpenSSL without us, and the very one that the extension module uses."""
    made = Bare(tmp_path_factory.mktemp("bare"))
    assert made.version == _core.versions()["openssl"]
    return made


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, smoke: bool) -> dict[str, str]:
    """The environment of interpreters in which every package has its byte code written, as after its installation.

    Ours is run from its sources, which stay as they are.
    """
    if smoke:
        return dict(os.environ)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus != pytest.ExitCode.OK:
        return
    results, path = session.config.stash[RESULTS], session.config.getoption("figures")
    if path is not None:
        figures.write(path, session.config.stash[MACHINE], results)
    if results.missed():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[RESULTS]
    lines = results.lines()
    if len(lines) == 1:
        return
    terminalreporter.section("ratios", sep="-")
    for line in lines:
        terminalreporter.write_line(line, red="MISSED" in line)
    terminalreporter.write_line("")
    terminalreporter.write_line(
        f"wall-clock time of calls, imports and starts, else processor time; medians of {config.option.turns} turns, "
        "spread from least to greatest"
    )
    for line in machine.lines(config.stash[MACHINE]):
        terminalreporter.write_line(line)
    for comparison in results.missed():
        terminalreporter.write_line(
            f"bound missed: {comparison.title} against {comparison.peer}, {results.bound(comparison)}", red=True
        )
