"""Which lines and branches the tests run, of the C core and of the Python package: `make coverage`.

Writes build/coverage/report.md: totals, every file, and each line or branch that no test reaches, with the reason from
reasons.toml. Fails where one is left without a reason, and where a reason fits nothing any more.

The tests run in a copy of the project, with an extension that counts (IBKR_OAUTH_COVERAGE=1), so that the one in use stays
as it is. Programs that the tests start are counted too.

    run.py              everything: builds, runs the tests, reports
    run.py --report     the report alone, from what was counted last
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
REASONS = Path(__file__).with_name("reasons.toml")
OUT = PROJECT / "build" / "coverage"
COPY = OUT / "project"
#: Those about the package itself; those about wheels, sites, benchmarks and mutants start from the project's own folder.
TESTS = ["unit", "properties", "binding", "sandbox", "cli", "doctor", "integration", "integrations"]

SETTINGS = f"""\
[run]
branch = true
parallel = true
source = {COPY}/ibkr_oauth
data_file = {OUT}/python/data
patch = _exit
concurrency = thread
disable_warnings = no-ctracer, couldnt-parse
sigterm = true

[report]
exclude_also =
    if TYPE_CHECKING:
    raise NotImplementedError
    ^\\s*\\.\\.\\.$
    class .*\\(Protocol\\):
"""


#: In every process that finds it on its path, and so in those that the tests start with an environment of their own.
SITE = f"""\
import os
os.environ.setdefault("COVERAGE_PROCESS_START", {str(OUT / "settings")!r})
import coverage
coverage.process_startup()
"""

#: Tests of time and of what is imported, which the counting itself disturbs.
DISTURBED = [
    "tests/unit/test_answers.py::test_a_huge_page_is_not_searched_to_its_end",
    "tests/unit/test_html.py::test_nobody_pays_for_it_who_has_no_notebook",
    "tests/integration/test_proof_scale.py::test_thousand_sessions",
    "tests/cli/test_program.py::test_help_answers_in_less_than_200_ms",
    "tests/cli/test_program.py::test_the_library_imports_nothing_of_command_sandbox_and_settings",
]


def run(
    *command: object, cwd: Path = PROJECT, log: str | None = None, may_fail: bool = False, **environment: str
) -> bool:
    """Runs a program quietly. Where it fails, shows what it printed and ends, unless it may."""
    path = OUT / "log" / f"{log or 'last'}.log"
    with path.open("w") as out:
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd, env=os.environ | environment, stdout=out, stderr=out, check=False
        )
    if done.returncode and not may_fail:
        sys.exit(f"{command}: exit {done.returncode}\n{path.read_text(errors='replace')[-4000:]}")
    return done.returncode == 0


def measure() -> bool:
    """Runs every test that counts. False where some of them failed."""
    shutil.rmtree(OUT, ignore_errors=True)
    for name in ("log", "python"):
        (OUT / name).mkdir(parents=True)
    print("-- C tests", flush=True)
    shutil.rmtree(PROJECT / "build" / "c-coverage", ignore_errors=True)
    run("make", "-C", "csrc", "check", "COVERAGE=1", "CC=gcc", log="c-tests")

    print("-- an extension that counts", flush=True)
    for name in ("ibkr_oauth", "csrc", "tests", "examples", "docs", "benchmarks"):
        shutil.copytree(PROJECT / name, COPY / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for file in PROJECT.iterdir():
        if file.is_file():
            shutil.copy2(file, COPY)
    run(
        sys.executable,
        "setup.py",
        "build_ext",
        "--inplace",
        cwd=COPY,
        log="extension",
        CC="gcc",
        IBKR_OAUTH_COVERAGE="1",
    )

    print("-- Python tests", flush=True)
    (OUT / "settings").write_text(SETTINGS)
    (OUT / "site").mkdir()
    (OUT / "site" / "sitecustomize.py").write_text(SITE)
    tests = [f"tests/{name}" for name in TESTS] + [f"--deselect={test}" for test in DISTURBED]
    command = [sys.executable, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", "-o", "timeout=600"]
    path = f"{COPY}{os.pathsep}{OUT / 'site'}"
    good = run(*command, *tests, cwd=COPY, log="python-tests", may_fail=True, PYTHONPATH=path)
    print("\n".join((OUT / "log" / "python-tests.log").read_text(errors="replace").splitlines()[-20:]), flush=True)
    return good


# --- What was counted ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """Lines in a row that no test runs, or one line that is never left in some way (`branch`)."""

    file: str
    first: int
    last: int
    text: str
    branch: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.first}" + (f"-{self.last}" if self.last > self.first else "")


@dataclass
class Counted:
    """One file."""

    file: str
    lines: int
    lines_run: int
    branches: int
    branches_run: int
    gaps: list[Gap]


def rows(numbers: list[int], is_code: set[int]) -> Iterator[tuple[int, int]]:
    """Runs of lines without a line of other code between them."""
    begin = last = None
    for number in sorted(numbers):
        if last is not None and not any(between in is_code for between in range(last + 1, number)):
            last = number
            continue
        if begin is not None and last is not None:
            yield begin, last
        begin = last = number
    if begin is not None and last is not None:
        yield begin, last


def python_files() -> list[Counted]:
    settings = f"--rcfile={OUT / 'settings'}"
    if any((OUT / "python").glob("data.*")):
        run(sys.executable, "-m", "coverage", "combine", "--append", settings, "--quiet", log="combine")
    run(sys.executable, "-m", "coverage", "json", settings, "--quiet", "-o", OUT / "python.json", log="json")
    run(sys.executable, "-m", "coverage", "html", settings, "--quiet", "-d", OUT / "python-html", log="html")
    found = []
    for path, entry in sorted(json.loads((OUT / "python.json").read_text())["files"].items()):
        file = str((PROJECT / path).resolve().relative_to(COPY.resolve()))
        text = (COPY / file).read_text("utf-8").splitlines()
        summary = entry["summary"]
        missing = entry["missing_lines"]
        gaps = [Gap(file, a, b, text[a - 1].strip()) for a, b in rows(missing, set(entry["executed_lines"]))]
        gaps += [
            Gap(file, a, a, text[a - 1].strip(), "never leaves the function" if b < 0 else f"never goes to line {b}")
            for a, b in entry["missing_branches"]
            if a not in missing and b not in missing
        ]
        found.append(
            Counted(
                file,
                summary["num_statements"],
                summary["covered_lines"],
                summary["num_branches"],
                summary["covered_branches"],
                gaps,
            )
        )
    return found


def c_files() -> list[Counted]:
    """The tests of C, and what the Python tests run of the extension, taken together."""
    # gcov names files as the compiler saw them: each build is read from its own folder, and the two are added up.
    for name, root, objects in (
        ("c", PROJECT / "csrc", PROJECT / "build" / "c-coverage"),
        ("extension", COPY, COPY / "build"),
    ):
        options = ["--json", OUT / f"{name}.json", "--gcov-ignore-parse-errors", "--exclude-unreachable-branches"]
        run(
            Path(sys.executable).with_name("gcovr"),
            "-r",
            root,
            "--object-directory",
            objects,
            *options,
            objects,
            cwd=root,
            log=f"gcovr-{name}",
        )
    lines: dict[str, dict[int, int]] = {}
    branches: dict[str, dict[tuple[int, int], int]] = {}
    for name, prefix in (("c", "csrc/"), ("extension", "")):
        for entry in json.loads((OUT / f"{name}.json").read_text())["files"]:
            file = prefix + entry["file"]
            if not file.startswith("csrc/") or "/tests/" in file or ".." in file:
                continue
            for line in entry["lines"]:
                number = line["line_number"]
                counts = lines.setdefault(file, {})
                counts[number] = counts.get(number, 0) + line["count"]
                for index, branch in enumerate(line["branches"]):
                    ways = branches.setdefault(file, {})
                    ways[number, index] = ways.get((number, index), 0) + branch["count"]
    found = []
    for file, counts in sorted(lines.items()):
        text = (PROJECT / file).read_text("utf-8").splitlines()
        ways = branches.get(file, {})
        missing = [number for number, count in counts.items() if not count]
        is_run = {number for number, count in counts.items() if count}
        gaps = [Gap(file, a, b, text[a - 1].strip()) for a, b in rows(missing, is_run)]
        never = sorted({number for (number, _), count in ways.items() if not count and counts[number]})
        gaps += [Gap(file, number, number, text[number - 1].strip(), "not every way") for number in never]
        found.append(Counted(file, len(counts), len(is_run), len(ways), sum(map(bool, ways.values())), gaps))
    return found


# --- The report ----------------------------------------------------------------------------------


def reasons() -> list[dict[str, str]]:
    """Each: `file` (a pattern), `code` (a regular expression for the first line of the gap), `reason`."""
    listed: list[dict[str, str]] = tomllib.loads(REASONS.read_text("utf-8")).get("gap", [])
    return listed


def reason_of(gap: Gap, known: list[dict[str, str]]) -> dict[str, str] | None:
    for each in known:
        if fnmatch.fnmatch(gap.file, each["file"]) and re.search(each["code"], gap.text):
            return each
    return None


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def report() -> bool:
    """Writes the page, prints its totals. True where everything that no test reaches has a reason."""
    known, used = reasons(), set()
    out = ["# Coverage", ""]
    good = True
    parts = {"C core and binding": c_files(), "Python package": python_files()}
    for title, files in parts.items():
        totals = [
            sum(getattr(one, name) for one in files) for name in ("lines_run", "lines", "branches_run", "branches")
        ]
        line = f"{title}: {percent(*totals[:2])} of {totals[1]} lines, {percent(*totals[2:])} of {totals[3]} branches"
        print(line)
        out += [f"## {title}", "", line.partition(": ")[2], "", "| File | Lines | Branches |", "|---|---:|---:|"]
        out += [
            f"| {one.file} | {percent(one.lines_run, one.lines)} of {one.lines} "
            f"| {percent(one.branches_run, one.branches)} of {one.branches} |"
            for one in files
        ]
        out += ["", "### What no test reaches", ""]
        by_reason: dict[str, list[Gap]] = {}
        for gap in (gap for one in files for gap in one.gaps):
            why = reason_of(gap, known)
            if why is not None:
                used.add(id(why))
            by_reason.setdefault("" if why is None else why["reason"], []).append(gap)
        for reason, gaps in sorted(by_reason.items(), key=lambda item: (item[0] == "", item[0])):
            whole = [gap for gap in gaps if not gap.branch]
            out += [f"{reason or 'Without a reason:'} ({len(whole)} places, {len(gaps) - len(whole)} branches)", ""]
            out += [f"- {gap.place} `{gap.text}`{' ' + gap.branch if gap.branch else ''}" for gap in gaps] + [""]
            if not reason:
                good = False
                print(f"without a reason: {len(whole)} places, {len(gaps) - len(whole)} branches")
                for gap in gaps:
                    print(f"    {gap.place} {gap.text} {gap.branch}".rstrip())
    for each in known:
        if id(each) not in used:
            good = False
            print(f"fits nothing any more: {each['file']} {each['code']}")
    (OUT / "report.md").write_text("\n".join(out), "utf-8")
    print(f"the whole list: {(OUT / 'report.md').relative_to(PROJECT)}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage; see the top of this file")
    parser.add_argument("--report", action="store_true", help="from what was counted last")
    options = parser.parse_args()
    good = options.report or measure()
    sys.exit(not (report() and good))


if __name__ == "__main__":
    main()
