"""The benchmarks still run and compare equal results; their figures are for `make bench`."""

import re
import sys

import pytest


@pytest.mark.timeout(300)
def test_every_contestant_computes_the_same(run):
    done = run(sys.executable, "-m", "pytest", "benchmarks", "--smoke", "-p", "no:cacheprovider")
    assert re.search(r"[1-9]\d* passed", done.stdout)
