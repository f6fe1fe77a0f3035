"""Coverage is counted and reported rightly, in the small: `make coverage` takes half an hour."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def run(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/coverage/run.py")


def test_every_reason_is_about_code_that_is_there(run: ModuleType, project: Path) -> None:
    reasons = run.reasons()
    assert reasons
    for each in reasons:
        assert set(each) == {"file", "code", "reason"}
        files = [path for path in project.glob(each["file"]) if path.is_file()]
        lines = [line.strip() for path in files for line in path.read_text("utf-8").splitlines()]
        assert any(re.search(each["code"], line) for line in lines), each
        assert len(each["reason"].split()) > 3, each


def test_lines_in_a_row_are_one_gap(run: ModuleType) -> None:
    """Blank lines and comments between them are no code; lines that were run are."""
    assert list(run.rows([5, 6, 8, 12, 20], {1, 10, 14})) == [(5, 8), (12, 12), (20, 20)]
    assert list(run.rows([], {1})) == []


def test_a_reason_fits_by_file_and_by_code(run: ModuleType) -> None:
    known = [{"file": "csrc/core/*.c", "code": "^return NULL;", "reason": "x"}]
    assert run.reason_of(run.Gap("csrc/core/a.c", 1, 1, "return NULL;"), known) is known[0]
    assert run.reason_of(run.Gap("csrc/http/a.c", 1, 1, "return NULL;"), known) is None
    assert run.reason_of(run.Gap("csrc/core/a.c", 1, 1, "if (x) return NULL;"), known) is None


@pytest.mark.timeout(300)
def test_lines_of_c_are_counted(project: Path, tmp_path: Path) -> None:
    """One function that a program calls, and one that it does not."""
    (tmp_path / "a.c").write_text(
        "int used(int a)\n{\n    return a ? 1 : 2;\n}\n\nint unused(void)\n{\n    return 3;\n}\n\nint main(void)\n{\n    return used(0) - 2;\n}\n"
    )
    subprocess.run(["gcc", "--coverage", "-O0", "-o", "a", "a.c"], cwd=tmp_path, check=True)
    subprocess.run(["./a"], cwd=tmp_path, check=True)
    gcovr = Path(sys.executable).with_name("gcovr")
    done = subprocess.run([gcovr, "-r", ".", "--csv"], cwd=tmp_path, check=True, capture_output=True, text=True)
    heads, values = (line.split(",") for line in done.stdout.split()[:2])
    found = dict(zip(heads, values, strict=False))
    assert (found["line_total"], found["line_covered"]) == ("6", "4")
    assert (found["branch_total"], found["branch_covered"]) == ("2", "1")
