"""The unit tests of the C core, as it is shipped and under sanitizers."""

import os
import re

import pytest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sanitizers", ["", "address,undefined"], ids=["plain", "sanitizers"])
def test_every_program_passes(run, project, sanitizers):
    jobs = f"-j{os.cpu_count()}"

    output = run("make", "-C", "csrc", jobs, "check", f"SAN={sanitizers}").stdout

    passed = dict(re.findall(r"^(test_\w+): (\d+) passed$", output, flags=re.MULTILINE))
    programs = {file.stem for file in (project / "tests" / "c").glob("test_*.c")}
    assert passed.keys() == (programs - {"test_wiped"} if sanitizers else programs)  # see csrc/Makefile
    assert passed
    assert all(int(count) > 0 for count in passed.values())


@pytest.mark.timeout(300)
def test_threads_do_not_race(run):
    programs = ["test_threads", "test_engine", "test_keepalive"]
    tests = f"TESTS={' '.join(programs)}"
    output = run("make", "-C", "csrc", f"-j{os.cpu_count()}", "check", "SAN=thread", tests).stdout
    for program in programs:
        assert re.search(rf"^{program}: [1-9]\d* passed$", output, flags=re.MULTILINE)


def test_no_program_at_all_is_a_failure(run):
    """Otherwise a suite that nobody finds would look like one that passed."""
    output = run("make", "-C", "csrc", "check", "TESTS=", fails=True).stdout
    assert "no C tests found" in output
