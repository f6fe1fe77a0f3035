"""The fuzz targets, without a fuzzer: each over its corpus and some thousand changes of it, under sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from . import run as fuzz

ROOT = Path(__file__).parent.parent.parent
# Those that work with big numbers, or with a server on loopback, take longer for each.
ROUNDS = dict.fromkeys(fuzz.TARGETS, 10_000) | dict.fromkeys(("answer", "dh_params", "rsa_key", "token"), 1_000)


@pytest.fixture(scope="module")
def programs() -> Path:
    make = ["make", "-C", "csrc", "replays", "SAN=address,undefined", f"-j{os.cpu_count()}"]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "c-address-undefined"


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_nothing_is_found(target: str, programs: Path) -> None:
    corpus = fuzz.HERE / "corpus" / target
    command = [programs / f"replay_{target}", str(ROUNDS[target]), corpus]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(list(corpus.iterdir()))} inputs, {ROUNDS[target]} changed ones\n"


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


def test_every_target_has_a_corpus() -> None:
    folders = {path.name: path for path in (fuzz.HERE / "corpus").iterdir()}
    assert sorted(folders) == fuzz.TARGETS
    assert all(len(list(folder.iterdir())) >= 5 for folder in folders.values())
    assert sum(path.stat().st_size for folder in folders.values() for path in folder.iterdir()) < 500_000
