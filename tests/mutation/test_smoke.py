"""Mutation testing works, in the small: `make mutate` takes hours."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def run(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/mutation/run.py")


def function_text(path: Path, name: str) -> str:
    """The source of `function` or `Class.method`, each line without what is around it."""
    source = path.read_text("utf-8")
    owner, _, wanted = name.rpartition(".")
    for node in ast.walk(ast.parse(source)):
        body = node.body if isinstance(node, ast.ClassDef) and node.name == owner else []
        body = node.body if not owner and isinstance(node, ast.Module) else body
        for child in body:
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and child.name == wanted:
                lines = source.splitlines()[child.lineno - 1 : child.end_lineno]
                return " ".join(line.strip() for line in lines)
    raise AssertionError(f"{path.name} has no {name}")


def test_what_is_explained_is_there(run: ModuleType, project: Path) -> None:
    """A line that was changed needs its explanation looked at again."""
    explained = run.explained()
    assert explained
    for mutant, reason in explained.items():
        assert mutant.module in run.MODULES
        text = function_text(project / "ibkr_oauth" / f"{mutant.module}.py", mutant.function)
        assert mutant.before in text, mutant
        assert mutant.after != mutant.before
        assert len(reason.split()) > 3, mutant


def test_every_module_has_its_tests(run: ModuleType, project: Path) -> None:
    for module, tests in run.MODULES.items():
        assert (project / "ibkr_oauth" / f"{module}.py").is_file()
        assert tests
        assert all((project / test).is_file() for test in tests)


def test_the_verdict(run: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A survivor is a failure unless it is explained or changes words alone; so is an explanation of what was killed."""
    explained = next(mutant for mutant in run.explained() if mutant.module == "clock")
    survivor = run.Mutant("clock", "f", "return a < b", "return a <= b")
    words = run.Mutant("clock", "f", 'tell("it is late")', 'tell("XXit is lateXX")')
    name = run.Mutant("clock", "f", 'get("date")', 'get("DATE")')
    others = [(mutant, 0) for mutant in run.explained() if mutant.module == "clock"]
    assert run.judge("clock", [*others, (survivor, 1), (words, 0)], is_whole=True)
    assert not run.judge("clock", [*others, (survivor, 0)], is_whole=True)
    assert not run.judge("clock", [*others, (name, 0)], is_whole=True)
    assert not run.judge("clock", [(explained, 1)], is_whole=True)
    assert not run.judge("clock", [*others, (survivor, -6)], is_whole=True)
    capsys.readouterr()


@pytest.mark.timeout(300)
def test_planted_mutants_are_killed(run: ModuleType, tmp_path: Path) -> None:
    """All of one small function, by the tests that are about it, with mutmut as `make mutate` starts it."""
    command = [
        sys.executable,
        run.__file__,
        "--work",
        tmp_path,
        "--only",
        "ibkr_oauth.clock.x*ServerClock*now__*",
        "clock",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"clock: (\d+) mutants, (\d+) killed", done.stdout)
    assert found is not None
    assert int(found[1]) == int(found[2]) > 0
