"""The fuzz targets, without a fuzzer: each over its corpus and some thousand changes of it, under sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import run as fuzz

ROOT = Path(__file__).parent.parent.parent
# Those that work with big numbers, or with a server on loopback, take longer for each, and so does Python.
ROUNDS = dict.fromkeys(fuzz.IN_C, 10_000) | dict.fromkeys(fuzz.IN_PYTHON, 1_000)
ROUNDS |= dict.fromkeys(("answer", "ciphertext", "dh_params", "request", "rsa_key", "token"), 1_000)
ROUNDS |= dict.fromkeys(("diff_crypto", "exchanges"), 200)


@pytest.fixture(scope="module")
def programs() -> Path:
    make = ["make", "-C", "csrc", "replays", "SAN=address,undefined", f"-j{os.cpu_count()}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "c-address-undefined"


def replay(target: str, command: list[str | Path]) -> None:
    corpus = fuzz.HERE / "corpus" / target
    command += [str(ROUNDS[target]), corpus]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{len(list(corpus.iterdir()))} inputs, {ROUNDS[target]} changed ones\n"


@pytest.mark.parametrize("target", fuzz.IN_C)
def test_nothing_is_found(target: str, programs: Path) -> None:
    replay(target, [programs / f"replay_{target}"])


@pytest.mark.parametrize("target", fuzz.IN_PYTHON)
def test_nothing_is_found_in_python(target: str) -> None:
    replay(target, [sys.executable, fuzz.HERE / f"fuzz_{target}.py", "--replay"])


def test_a_finding_is_told(tmp_path: Path) -> None:
    """The other tests would be worth nothing if a broken promise went unnoticed."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one").write_bytes(b"a")
    (tmp_path / "target.c").write_text(
        '#include "fuzz.h"\n'
        "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)\n{\n    REQUIRE(size == 0 || data[0] == 'a');\n"
        "    return 0;\n}\n"
    )
    sources = [tmp_path / "target.c", fuzz.HERE / "replay.c"]
    flags = ["-std=c11", "-D_DEFAULT_SOURCE", f"-I{fuzz.HERE}", f"-I{ROOT / 'csrc' / 'include'}"]
    subprocess.run([compiler, *flags, *sources, "-o", tmp_path / "replay"], check=True)
    corpus = str(tmp_path / "corpus")
    good = subprocess.run([tmp_path / "replay", "0", corpus], capture_output=True, text=True, check=False)
    assert good.stdout == "1 inputs, 0 changed ones\n"
    bad = subprocess.run([tmp_path / "replay", "100", corpus], capture_output=True, text=True, check=False)
    assert bad.returncode != 0
    assert re.search(r"target\.c:4: size == 0", bad.stderr)


def test_a_finding_is_told_in_python(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one").write_bytes(b"a")
    (tmp_path / "target.py").write_text(
        "from harness import main\n\n\ndef target(data):\n    assert data[:1] in (b'', b'a'), 'another'\n\n\nmain(target)\n"
    )
    command = [sys.executable, tmp_path / "target.py", "--replay"]
    environment = {**os.environ, "PYTHONPATH": str(fuzz.HERE)}
    for rounds, code in (("0", 0), ("100", 1)):
        words = [*command, rounds, tmp_path / "corpus"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == code
        assert ("AssertionError: another" in done.stderr) == (code == 1)


def test_time_is_that_of_the_processor() -> None:
    assert abs(fuzz.used(os.getpid()) - time.process_time()) < 0.5


def test_every_target_has_a_corpus() -> None:
    folders = {path.name: path for path in (fuzz.HERE / "corpus").iterdir()}
    assert sorted(folders) == fuzz.TARGETS
    assert all(len(list(folder.iterdir())) >= 5 for folder in folders.values())
    files = [path for folder in folders.values() for path in folder.iterdir()]
    assert len(files) <= 600
    assert sum(path.stat().st_size for path in files) < 600_000
