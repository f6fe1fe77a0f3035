"""Style, types and static analysis: the commands are those of the Makefile."""

import pytest


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["python", "types", "format", "tidy"])
def test_lint(run, part):
    run("make", f"lint-{part}")
