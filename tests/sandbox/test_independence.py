"""The sandbox is an oracle only as long as it shares nothing with what it judges."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import ibkr_oauth.sandbox

ALLOWED = {"cryptography", "jinja2", "starlette", "trustme", "uvicorn", *sys.stdlib_module_names}


def imported(file: Path) -> set[str]:
    """What a module imports: top-level names, or the dots of a relative import."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level or str(node.module).partition(".")[0])
    return names


def test_imports() -> None:
    files = sorted(Path(ibkr_oauth.sandbox.__file__).parent.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        assert imported(file) - {"."} <= ALLOWED, file.name
