"""Mutation testing of what decides about retries, expiry and signatures: `make mutate`.

mutmut changes one expression of a module at a time and runs the tests that reach it. A mutant that no test notices is
either killed by a new test, or listed in explained.toml with the reason why it may live. Whatever else survives is a
failure, and so is an entry there that fits no survivor.

    run.py                      every module of MODULES, from nothing
    run.py pacing flow          these ones
    run.py --again pacing       what was killed before stays killed: for work on tests
    run.py --only GLOB clock    mutants of these functions, for instance '*ServerClock*at*'

Not mutated: what errors and log entries say (lines with `raise` and `logger`), and values outside of functions.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).with_name("explained.toml")
WORK = PROJECT / "build" / "mutation"

_FLOW = [f"tests/unit/test_{name}.py" for name in ("flow_calls", "flow_life", "flow_authorization", "flow_brokerage")]
_SESSION = [*_FLOW, "tests/unit/test_pacing.py", "tests/unit/test_health.py", "tests/unit/test_stores.py"]

_COUNTS_IMPORTS = "tests/unit/test_html.py::test_nobody_pays_for_it_who_has_no_notebook"  # mutants import json

#: Modules by their name, with the tests that are about them.
MODULES = {
    "tokens": ["tests/unit/test_tokens.py", "tests/unit/test_html.py", "tests/properties/test_live_session_token.py"],
    "clock": ["tests/unit/test_clock.py", "tests/properties/test_clock.py"],
    "pacing": ["tests/unit/test_pacing.py"],
    "signing": [
        "tests/unit/test_signing.py",
        "tests/unit/test_tokens.py",
        "tests/unit/test_vectors.py",
        "tests/properties/test_signing.py",
    ],
    "answers": ["tests/unit/test_answers.py", *_FLOW[:3]],
    "sandbox/verify": ["tests/sandbox/test_verify.py"],
    "sandbox/crypto": [f"tests/sandbox/test_{name}.py" for name in ("crypto", "vectors", "registration")],
    "sandbox/limits": ["tests/sandbox/test_limits.py"],
    "flow": [*_SESSION, "tests/properties/test_retries.py"],
    "brokerage": [*_SESSION[3:4], *_FLOW[:2], "tests/unit/test_health.py", "tests/unit/test_stores.py"],
    "keeper": ["tests/unit/test_keeper.py", "tests/unit/test_flow_life.py"],
    "redirect": ["tests/unit/test_redirect.py"],
}

_NOT_MUTATED = [r"^\s*raise\b", r"\blogger\.", r"^\s*from .* import "]
# How mutmut's test runner ends.
_KILLED = (1, 3)
_SURVIVED = (0, 5, 33)  # the latter two: no test reaches it
_TIMED_OUT = (24, 36, 152, 255, -24)


@dataclass(frozen=True)
class Mutant:
    """One change: the lines of a function that it takes away, and those that it puts in their place."""

    module: str
    function: str
    before: str
    after: str

    @property
    def is_in_words(self) -> bool:
        """Whether it changes nothing but a sentence for people, or the type that a `cast` names."""
        return _without_words(self.before) == _without_words(self.after)

    def __str__(self) -> str:
        lines = [f"module = {self.module!r}", f"function = {self.function!r}"]
        lines += [f"before = '''{self.before}'''", f"after = '''{self.after}'''", 'reason = ""']
        return "\n".join(["[[mutant]]", *lines])


def _without_words(code: str) -> str:
    code = re.sub(r'"(?:[^"\\\n]|\\.)* (?:[^"\\\n]|\\.)*"', '"…"', code)
    return re.sub(r'\bcast\((?:"[^"]*"|None), ', "cast(", code)


def explained() -> dict[Mutant, str]:
    """The survivors that may live, and why."""
    listed = tomllib.loads(EXPLAINED.read_text("utf-8")).get("mutant", [])
    return {Mutant(**{name: entry[name] for name in Mutant.__annotations__}): entry["reason"] for entry in listed}


def prepare(module: str, work: Path = WORK, *, again: bool = False) -> Path:
    """A folder for mutmut, which reads its settings from where it is started."""
    folder = work / module.replace("/", ".")
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ibkr_oauth", "tests"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(PROJECT / name)
    settings = {
        "source_paths": ["ibkr_oauth"],
        "only_mutate": [f"ibkr_oauth/{module}.py"],
        "do_not_mutate_patterns": _NOT_MUTATED,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", f"--deselect={_COUNTS_IMPORTS}"],
        "pytest_add_cli_args_test_selection": MODULES[module],
        "use_git_change_detection": False,
        "timeout_constant": 10.0,  # seconds; that and the tests' own time, five times over, is too long
        "timeout_multiplier": 5.0,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    text = (PROJECT / "pyproject.toml").read_text("utf-8")
    (folder / "pyproject.toml").write_text("\n".join([text, "[tool.mutmut]", *lines, ""]), "utf-8")
    meta = folder / "mutants" / "ibkr_oauth" / f"{module}.py.meta"
    if meta.exists():  # --again: survivors are tried anew, with the tests as they are now
        made = json.loads(meta.read_text("utf-8"))
        codes = made["exit_code_by_key"]
        made["exit_code_by_key"] = {name: code if code in _KILLED else None for name, code in codes.items()}
        meta.write_text(json.dumps(made), "utf-8")
        (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    return folder


def mutate(folder: Path, only: list[str]) -> None:
    """Runs mutmut, one mutant at a time. Ends the program where it does not get to its end."""
    environment = {**os.environ, "COLUMNS": "120"}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *only]
    with (folder / "log").open("w") as log:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"mutmut failed:\n{(folder / 'log').read_text(errors='replace')[-3000:]}")


def outcomes(folder: Path, module: str) -> Iterator[tuple[Mutant, int | None]]:
    """Every mutant of a module, with how the tests ended; None where it was not tried."""
    meta = json.loads((folder / "mutants" / "ibkr_oauth" / f"{module}.py.meta").read_text("utf-8"))
    source = (folder / "mutants" / "ibkr_oauth" / f"{module}.py").read_text("utf-8")
    lines = source.splitlines()
    functions = {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for key, code in meta["exit_code_by_key"].items():
        name = key.rpartition(".")[2]
        mangled = name.rpartition("__mutmut_")[0]
        before, after = functions[f"{mangled}__mutmut_orig"], functions[name]
        changed = [line for line in difflib.ndiff(before[1:], after[1:]) if line[0] in "+-"]
        if _signature(before[0]) != _signature(after[0]):
            changed += [f"- {_signature(before[0])}", f"+ {_signature(after[0])}"]
        taken, put = (" ".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
        function = re.sub("^x[_ǁ]", "", mangled).replace("ǁ", ".")
        yield Mutant(module, function, taken, put), code


def _signature(line: str) -> str:
    return line.partition("(")[2].strip()


def judge(module: str, found: list[tuple[Mutant, int | None]], *, is_whole: bool) -> bool:
    """Prints the counts of a module and what is wrong. True where nothing is."""
    reasons = {mutant: reason for mutant, reason in explained().items() if mutant.module == module}
    survivors = [mutant for mutant, code in found if code in _SURVIVED]
    odd = [(mutant, code) for mutant, code in found if code not in (*_KILLED, *_SURVIVED, *_TIMED_OUT)]
    counts = Counter(
        "in words" if mutant.is_in_words else "explained" if reasons.get(mutant) else "unexplained"
        for mutant in survivors
    )
    tried = [mutant for mutant, code in found if code is not None]
    killed = sum(code in (*_KILLED, *_TIMED_OUT) for _, code in found)
    print(
        f"{module}: {len(tried)} mutants, {killed} killed, {counts['explained']} explained, "
        f"{counts['in words']} in words alone, {counts['unexplained']} unexplained",
        flush=True,
    )
    left = [mutant for mutant in survivors if not mutant.is_in_words and not reasons.get(mutant)]
    stale = set(reasons) - set(survivors) if is_whole else set()
    for mutant in left:
        print(f"\n# survives in {module}: kill it, or explain it in {EXPLAINED.name}\n{mutant}")
    for mutant in stale:
        print(f"\n# explained, and killed or gone by now: remove it from {EXPLAINED.name}\n{mutant}")
    odd = [(mutant, code) for mutant, code in odd if is_whole or code is not None]
    for mutant, code in odd:
        print(f"\n# its tests ended in an odd way ({code})\n{mutant}")
    return not left and not stale and not odd


def main() -> None:
    parser = argparse.ArgumentParser(description="mutation testing; see the top of this file")
    parser.add_argument("modules", nargs="*", metavar="module", help=f"one of {', '.join(MODULES)}; default: all")
    parser.add_argument("--again", action="store_true", help="keep what was killed before")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="mutants by mutmut's names")
    parser.add_argument("--work", type=Path, default=WORK, help="folder to work in")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(MODULES):
        parser.error(f"unknown: {', '.join(unknown)}")
    good = []
    for module in options.modules or MODULES:
        folder = prepare(module, options.work, again=options.again)
        mutate(folder, options.only)
        good.append(judge(module, list(outcomes(folder, module)), is_whole=not options.only))
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
