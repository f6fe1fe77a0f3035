"""A pytest plugin: after each test nothing of the C core is left, neither blocks nor descriptors nor, in a debug build of
Python, references.

What a fixture of a module or a session makes may stay.
"""

import gc
import itertools
import logging
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from ibkr_oauth import _core, keeper

WARM_UP, ROUNDS = 3, 4
PATIENCE = 3.0  # seconds for threads that are on their way out


def counts() -> dict[str, int]:
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else 0
    return {"native allocations": _core._live_allocations(), "descriptors": descriptors}


def collect() -> None:
    # An exception that a parameter or a log record holds has the frames of all who raised it: not ours to count.
    for thing in gc.get_objects():
        kind = type(thing)  # not what `isinstance` asks: a proxy of something that is gone raises
        if issubclass(kind, BaseException):
            thing.__traceback__ = None
        elif issubclass(kind, logging.LogRecord):
            thing.exc_info = None
    gc.collect()


class Leaks:
    """Counts before and after each test. One that leaves something runs again: what only the first run leaves is a library's
    first use (others keep a descriptor, for instance); what every run leaves is a leak.
    """

    def __init__(self) -> None:
        keeper.keeper()  # the process keeps it, whichever test is the first to need one
        self.before = counts()
        self.kept = dict.fromkeys(self.before, 0)  # by fixtures that outlive their test
        self.left: dict[str, int] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        before = counts()
        result = yield
        if fixturedef.scope != "function":
            after = counts()
            for name, count in before.items():
                self.kept[name] += max(0, after[name] - count)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.reports(item, nextitem):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        reports = self.run(item, nextitem)
        if self.left and all(report.passed for report in reports):
            reports = self.run(item, nextitem)
            if self.left:
                fail(reports, f"left behind by every run of {item.nodeid}: {self.left}")
        return reports

    def run(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        self.before, self.kept = counts(), dict.fromkeys(self.kept, 0)
        return runtestprotocol(item, log=False, nextitem=nextitem)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        getattr(item, "funcargs", {}).clear()  # else pytest itself keeps them a little longer
        until = time.monotonic() + PATIENCE
        while self.grown() and time.monotonic() < until:
            collect()
            time.sleep(0.02)
        self.left = self.grown()
        return result

    def grown(self) -> dict[str, int]:
        grown = {name: count - self.before[name] - self.kept[name] for name, count in counts().items()}
        return {name: count for name, count in grown.items() if count > 0}


class References(Leaks):
    """The same in a debug build of Python, where each test runs several times: references that grow with every run are a
    leak too.
    """

    def reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
        totals = [0] * (WARM_UP + ROUNDS - 1)  # filled, not made longer, which would count
        for number in range(len(totals)):
            reports = self.run(item, None)  # all is made anew
            if not all(report.passed for report in reports):
                return reports
            del reports  # they would count
            gc.collect()
            totals[number] = sys.gettotalrefcount()  # type: ignore[attr-defined]
        grown = [after - before for before, after in itertools.pairwise(totals[WARM_UP - 1 :])]
        reports = super().reports(item, nextitem)
        if min(grown) > 0:
            fail(reports, f"references that grow with every run of {item.nodeid}: {grown}")
        return reports


def fail(reports: list[pytest.TestReport], why: str) -> None:
    reports[-1].outcome, reports[-1].longrepr = "failed", why


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(References() if hasattr(sys, "gettotalrefcount") else Leaks())
