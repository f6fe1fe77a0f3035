"""Runs the fuzz targets: python tests/fuzz/run.py [--seconds N] [--jobs N] [TARGET ...]

Each target starts from its corpus and its dictionary, and keeps what it finds in build/fuzz/TARGET. A finding ends its
target, is written to build/fuzz/findings, and makes the whole run fail. The programs are built by `make fuzz`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build"
PROGRAMS = BUILD / "c-fuzz"
FINDINGS = BUILD / "fuzz" / "findings"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))
# Formats that several targets read.
DICTIONARIES = {"rsa_key": "pem", "dh_params": "pem", "params": "oauth", "header": "oauth", "sign": "oauth"}


def command(target: str, seconds: int) -> list[str]:
    own = BUILD / "fuzz" / target
    own.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={FINDINGS}/{target}-",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]
    dictionary = HERE / "dictionaries" / f"{DICTIONARIES.get(target, target)}.dict"
    if dictionary.exists():
        arguments.append(f"-dict={dictionary}")
    return [str(PROGRAMS / f"fuzz_{target}"), *arguments, str(own), str(HERE / "corpus" / target)]


def run(target: str, seconds: int) -> tuple[str, bool]:
    """A line that says how it went, and whether it went well."""
    done = subprocess.run(command(target, seconds), capture_output=True, text=True, errors="replace", check=False)
    executed = re.search(r"number_of_executed_units:\s+(\d+)", done.stderr)
    covered = re.findall(r"\bcov: (\d+)", done.stderr)
    count = int(executed[1]) if executed else 0
    line = f"{target:<10} {count:>12,} runs, {covered[-1] if covered else '?':>5} edges"
    if done.returncode == 0:
        return f"{line}, nothing found", True
    shown = "\n".join(done.stderr.splitlines()[-60:])
    return f"{line}: FOUND SOMETHING\n{shown}", False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {min(unknown)}")
    good = True
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for line, went_well in pool.map(lambda target: run(target, arguments.seconds), arguments.targets or TARGETS):
            print(line, flush=True)
            good &= went_well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
