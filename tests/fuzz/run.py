"""Runs the fuzz targets: python tests/fuzz/run.py [--cpu-seconds N] [--jobs N] [--afl] [TARGET ...]

Each target starts from its corpus and its dictionary, and keeps what it finds in build/fuzz/TARGET. A finding ends its
target, is written to build/fuzz/findings, and makes the whole run fail. The programs are built by `make fuzz`.

The time of a target is what its process used of a processor, not what the clock on the wall says: on a busy machine a
run takes longer, and is worth the same.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build"
PROGRAMS = BUILD / "c-fuzz"
FINDINGS = BUILD / "fuzz" / "findings"
IN_C = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c"))
IN_PYTHON = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
TARGETS = sorted(IN_C + IN_PYTHON)
# Formats that several targets read.
DICTIONARIES = dict.fromkeys(("params", "header", "sign", "authorization"), "oauth")
DICTIONARIES |= dict.fromkeys(("rsa_key", "dh_params", "diff_crypto"), "pem")
DICTIONARIES |= {"exchanges": "answer", "diff_oauthlib": "url"}
# A second between two looks at the processor time; a target that waits all the time must end too.
LOOK, PATIENCE = 1.0, 20


def program(target: str) -> list[str]:
    """What runs one target, before libFuzzer's arguments: both kinds take the same."""
    return [str(PROGRAMS / f"fuzz_{target}")] if target in IN_C else [sys.executable, str(HERE / f"fuzz_{target}.py")]


def dictionary_of(target: str) -> Path:
    return HERE / "dictionaries" / f"{DICTIONARIES.get(target, target)}.dict"


def command(target: str) -> list[str]:
    own = BUILD / "fuzz" / target
    own.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-artifact_prefix={FINDINGS}/{target}-",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    if target in IN_PYTHON:
        arguments.append("-keep_seed=1")  # of what C does with them nothing is seen, so they would seem alike
    if dictionary_of(target).exists():
        arguments.append(f"-dict={dictionary_of(target)}")
    return [*program(target), *arguments, str(own), str(HERE / "corpus" / target)]


def used(pid: int) -> float:
    """Seconds of processor time of a process that runs, its threads included."""
    if sys.platform == "linux":
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    clock = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    seconds = 0.0
    for part in clock.strip().replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def run(target: str, cpu_seconds: int) -> tuple[str, bool]:
    """A line that says how it went, and whether it went well."""
    log = BUILD / "fuzz" / f"{target}.log"
    words = command(target)
    with log.open("wb") as errors:
        process = subprocess.Popen(words, stdout=errors, stderr=errors)
        deadline = time.monotonic() + PATIENCE * max(cpu_seconds, 60)
        # libFuzzer has a limit for the clock on the wall alone. At SIGUSR1 it ends in order, with its statistics.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if used(process.pid) >= cpu_seconds or time.monotonic() > deadline:
                process.send_signal(signal.SIGUSR1)
            time.sleep(LOOK)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    told = log.read_text(errors="replace")
    executed = re.search(r"number_of_executed_units:\s+(\d+)", told)
    covered = re.findall(r"\bcov: (\d+)", told)
    count = int(executed[1]) if executed else 0
    seconds = usage.ru_utime + usage.ru_stime
    line = f"{target:<14}{seconds:7.0f} CPU s {count:>12,} runs {covered[-1] if covered else '?':>6} edges"
    if process.returncode == 0 and seconds >= cpu_seconds:
        return f"{line}  nothing found", True
    if process.returncode == 0:
        return f"{line}  ENDED EARLY, see {log}", False
    shown = "\n".join(told.splitlines()[-60:])
    return f"{line}  FOUND SOMETHING\n{shown}", False


def run_afl(target: str, seconds: int) -> tuple[str, bool]:
    """The same with AFL++, whose time is that of the clock: it works in children of its own."""
    found = BUILD / "fuzz" / "afl" / target
    found.mkdir(parents=True, exist_ok=True)
    words = [
        "afl-fuzz",
        "-i",
        str(HERE / "corpus" / target),
        "-o",
        str(found),
        "-m",
        "none",
        "-t",
        "10000",
        "-V",
        str(seconds),
    ]
    words += ["-x", str(dictionary_of(target))] if dictionary_of(target).exists() else []
    quiet = (
        "AFL_NO_UI",
        "AFL_SKIP_CPUFREQ",
        "AFL_NO_AFFINITY",
        "AFL_AUTORESUME",
        "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES",
    )
    environment = {**os.environ, **dict.fromkeys(quiet, "1")}
    with (BUILD / "fuzz" / f"{target}-afl.log").open("wb") as log:
        words += ["--", str(BUILD / "c-afl" / f"fuzz_{target}")]
        done = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    report = found / "default" / "fuzzer_stats"
    if done.returncode != 0 or not report.exists():
        return f"{target:<14} DID NOT RUN, see {log.name}", False
    facts = dict(re.findall(r"(\w+)\s+: (.*)", report.read_text()))
    line = f"{target:<14}{int(facts['run_time']):7} s {int(facts['execs_done']):>12,} runs {int(facts['edges_found']):>6} edges"
    if int(facts["saved_crashes"]) + int(facts["saved_hangs"]) == 0:
        return f"{line}  nothing found", True
    return f"{line}  FOUND SOMETHING: {found}/default", False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu-seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--afl", action="store_true", help="with AFL++: the targets in C")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    known, runner = (IN_C, run_afl) if arguments.afl else (TARGETS, run)
    unknown = set(arguments.targets) - set(known)
    if unknown:
        parser.error(f"no such target: {min(unknown)}")
    good = True
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for line, went_well in pool.map(lambda one: runner(one, arguments.cpu_seconds), arguments.targets or known):
            print(line, flush=True)
            good &= went_well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
