"""What is built holds nothing of its builder's: keys and settings that lay about are in no artefact, in no spelling."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.planted import Planted

from ibkr_oauth import PrivateKey

from .conftest import Run

pytestmark = pytest.mark.timeout(300)

#: Where people leave keys, in the order of how bad an idea that is.
PLACES = ("", "ibkr_oauth", "ibkr_oauth/sandbox/templates", "csrc/core", "tests/vectors", "docs", "examples", ".ci")
FILES = (
    "private_signature.pem",
    "private_encryption.key",
    "key.der",
    "dhparam.pem",
    ".env",
    "config.toml",
    "bundle.zip",
)


@pytest.fixture(scope="module")
def planted() -> Planted:
    made = Planted()
    made.add("access token secret", "plantedAccessTokenSecret0123")
    made.add("access token", "buildersAccessToken01")
    made.add("pass phrase", "planted pass phrase")
    return made


@pytest.fixture(scope="module")
def littered(project: Path, planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a key and settings in every folder."""
    folder = tmp_path_factory.mktemp("littered") / "project"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
    )
    shutil.copytree(project, folder, ignore=ignored)
    key = PrivateKey.generate().private_pem().reveal().decode()
    planted.add_pem("private key", key)
    for place in PLACES:
        (folder / place).mkdir(exist_ok=True)
        for name in FILES:
            (folder / place / name).write_text(f'{key}\naccess_token_secret = "plantedAccessTokenSecret0123"\n')
    # Compiled once already: what is packed is the point here.
    built = folder / "build" / "lib" / "ibkr_oauth"
    built.mkdir(parents=True)
    (module,) = (project / "ibkr_oauth").glob("_core*.so")
    shutil.copy(module, built)
    return folder


@pytest.fixture(scope="module")
def artefacts(run: Run, littered: Path) -> list[Path]:
    """Built with secrets in the environment as well."""
    settings = {
        "IBKR_OAUTH_ACCESS_TOKEN": "buildersAccessToken01",
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": "plantedAccessTokenSecret0123",
        "IBKR_OAUTH_KEY_PASSWORD": "planted pass phrase",
    }
    dist = littered / "dist"
    run(sys.executable, "setup.py", "-q", "sdist", "-d", dist, cwd=littered, **settings)
    command = (sys.executable, "setup.py", "-q", "build", "--build-lib", "build/lib", "bdist_wheel", "-d", dist)
    run(*command, cwd=littered, **settings)
    return sorted(dist.iterdir())


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist.getmembers():
                file = sdist.extractfile(member)
                yield member.name, b"" if file is None else file.read()


def test_wheel_and_sdist(artefacts: list[Path], planted: Planted) -> None:
    assert [archive.suffix for archive in artefacts] == [".whl", ".gz"]
    for archive in artefacts:
        found = {name: planted.found_in(data) for name, data in members(archive)}
        assert len(found) > 80
        assert not {name: what for name, what in found.items() if what}
        assert not [name for name in found if Path(name).name in FILES]


def test_the_search_finds_what_is_there(littered: Path, planted: Planted) -> None:
    for name in ("private_signature.pem", ".env"):
        assert planted.found_in((littered / name).read_bytes())
    assert planted.found_in(b"x" + b"plantedAccessTokenSecret0123".hex().encode())


def test_the_library_needs_nothing_from_a_registry(artefacts: list[Path]) -> None:
    texts = dict(members(artefacts[0]))
    (metadata,) = (text.decode() for name, text in texts.items() if name.endswith("/METADATA"))
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    assert needed
    assert all("extra ==" in line for line in needed)


def test_the_extension_and_the_site_hold_no_key_of_the_tests(project: Path, vectors: dict[str, Any]) -> None:
    """Neither the builder's home, nor a key or secret that the tests know."""
    known = Planted()
    for name in ("signature", "encryption"):
        known.add_pem(f"{name} key", vectors["keys"][name]["private_pkcs8_pem"])
    for name, secret in vectors["access_token_secrets"].items():
        if len(secret["plaintext_hex"]) >= 24:
            known.add(f"secret {name}", bytes.fromhex(secret["plaintext_hex"]))
            known.add(f"secret {name}, encrypted", secret["encrypted_base64"][:60])
    assert known.found_in(json.dumps(vectors).encode()), "the search finds them where they are"
    site = project / "build" / "docs" / "html"
    files = [*(project / "ibkr_oauth").glob("_core*.so"), *(file for file in site.rglob("*") if file.is_file())]
    for file in files:
        data = file.read_bytes()
        assert not known.found_in(data), file
        assert file.suffix != ".so" or os.fsencode(Path.home()) + b"/" not in data
