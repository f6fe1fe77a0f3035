"""`make audit` says "all is well" only where it has asked. The answers of pip-audit are made up: no test asks the Internet."""

import json
from collections.abc import Callable
from types import ModuleType

import pytest

GOOD = {"name": "click", "version": "8.1", "vulns": []}
HOLE = {"name": "jinja2", "version": "3.1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1.6"]}]}
UNKNOWN = {"name": "rich", "skip_reason": "Dependency not found and could not be audited: rich (13)"}


@pytest.fixture(scope="module")
def audit(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("tests/build/audit.py")


@pytest.mark.parametrize(
    ("packages", "is_good", "words"),
    [
        ([GOOD, GOOD], True, "2 packages asked about, 0 known holes"),
        ([GOOD, HOLE], False, "jinja2 3.1.0: PYSEC-1, fixed in 3.1.6"),
        ([GOOD, UNKNOWN], False, "1 packages that the source does not know: rich"),
        ([UNKNOWN] * 9, False, "rich, ..."),
        ([], False, "does not get to them"),
    ],
)
def test_what_was_not_asked_about_is_not_well(
    audit: ModuleType, packages: list[object], is_good: bool, words: str
) -> None:
    lines, good = audit.judge(json.dumps({"dependencies": packages, "fixes": []}))
    assert good is is_good
    assert words in "\n".join(lines)
    assert ("make audit AUDIT=" in "\n".join(lines)) is (UNKNOWN in packages or not packages)


@pytest.mark.parametrize("output", ["", "Traceback", "[]", "{}"])
def test_no_result_is_a_failure_with_advice(audit: ModuleType, output: str) -> None:
    lines, good = audit.judge(output)
    assert not good
    assert "make audit AUDIT=" in lines[-1]
