"""The plugin leaks.py tells a leak from a library's first use."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

CONFTEST = """\
from watched import leaks

from ibkr_oauth import _core

leaks.PATIENCE = 0.1
_core._live_allocations = lambda: len(allocated)
allocated = []
"""

SUITE = """\
import os

import pytest
from conftest import allocated

kept = []


@pytest.fixture(scope="module")
def whole_module():
    allocated.append("for all tests of the module")
    return os.open(os.devnull, os.O_RDONLY)


def test_allocation():
    allocated.append("never freed")


def test_descriptor():
    os.open(os.devnull, os.O_RDONLY)


def test_first_use():
    if not kept:
        kept.append(os.open(os.devnull, os.O_RDONLY))


def test_fixture(whole_module):
    pass


def test_fixture_again(whole_module):
    pass


def test_nothing():
    os.close(os.open(os.devnull, os.O_RDONLY))


def test_skipped():
    pytest.skip("whatever it says")


def test_fails():
    os.open(os.devnull, os.O_RDONLY)
    assert False, "as it is"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_leaks_and_first_uses(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "watched.leaks", "-p", "no:cacheprovider", "-rA", "--tb=line"]
    environment = {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    words = ("ERROR", "FAILED", "PASSED")
    ends = {word: re.findall(rf"^{word} test_suite.py::test_(\w+)", done.stdout, re.MULTILINE) for word in words}
    assert ends["ERROR"] == ["allocation", "descriptor"], done.stdout
    assert ends["FAILED"] == ["fails"], done.stdout
    assert set(ends["PASSED"]) > {"first_use", "fixture", "fixture_again", "nothing"}, done.stdout
    assert "left behind by every run of test_suite.py::test_allocation: {'native allocations': 1}" in done.stdout
    assert "left behind by every run of test_suite.py::test_descriptor: {'descriptors': 1}" in done.stdout
