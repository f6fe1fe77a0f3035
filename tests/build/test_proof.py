"""The slow proof (docs/proof.md): a short smoke of each tool, and all of it with `make test-slow`."""

import re
import shutil
import sys
from pathlib import Path

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the tools of Linux")


@pytest.fixture
def valgrind() -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind on this machine")


@linux
@pytest.mark.timeout(300)
def test_secrets_take_constant_time_and_leaks_are_seen(run, valgrind):
    output = run("make", "-C", "csrc", "constant-time").stdout
    assert re.search(r"^constant time: 1[4-9] cases, 0 failed$", output, flags=re.MULTILINE)
    assert len(re.findall(r"^planted: .* [1-9]\d* decisions", output, flags=re.MULTILINE)) == 3


@linux
@pytest.mark.timeout(300)
def test_memcheck_finds_nothing(run, valgrind):
    assert "test_encode: nothing found" in run("make", "-C", "csrc", "memcheck", "TESTS=test_encode").stdout


@linux
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tool", ["asan", "ubsan"])
def test_the_binding_is_clean(run, project: Path, tool):
    run(sys.executable, "tests/watched/run.py", tool, "tests/binding")
