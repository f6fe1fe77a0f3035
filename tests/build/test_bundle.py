"""What makes the wheel with its own libraries, but for the compiling, which `make check-wheel` tries out."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

LIBRARIES = {"openssl": ("libcrypto", "3.5.7"), "curl": ("libcurl", "8.14.1"), "zlib": ("zlib", "1.3.1")}
INFO = "ibkr_oauth-0.1.0.dist-info"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder as build.sh leaves it."""
    bundle = tmp_path / "bundle"
    for name in ("lib/pkgconfig", "licenses", "patches"):
        (bundle / name).mkdir(parents=True)
    (bundle / "compiler").write_text("cc 12.2.0\n")
    for package, (pkg_config, version) in LIBRARIES.items():
        (bundle / "lib/pkgconfig" / f"{pkg_config}.pc").write_text(f"Name: x\nVersion: {version}\n")
        (bundle / "licenses" / f"{package}.txt").write_text(f"the licence of {package}\n")
        (bundle / "patches" / package).write_text("")
    (bundle / "patches/curl").write_text("build.patch\nCVE-2025-10148.patch\n")
    return bundle


def pack(wheel: Path, names: list[str], year: int) -> Path:
    contents = {
        "ibkr_oauth/_core.abi3.so": "\x7fELF",
        f"{INFO}/METADATA": "Metadata-Version: 2.4\nLicense-Expression: MIT\nLicense-File: LICENSE\n\nText: of the readme\n",
        f"{INFO}/RECORD": "",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), contents[name])
    return wheel


NAMES = ["ibkr_oauth/_core.abi3.so", f"{INFO}/METADATA", f"{INFO}/RECORD", f"{INFO}/WHEEL"]


@pytest.fixture
def finish(run, project, tmp_path):
    def finish(*arguments: object, into: str = "out") -> Path:
        command = (sys.executable, project / "csrc/bundle/finish.py", *arguments, tmp_path / into)
        return Path(run(*command).stdout.strip())

    return finish


@pytest.fixture
def finished(finish, bundle, tmp_path) -> dict[str, bytes]:
    """The files of a finished wheel."""
    wheel = finish("wheel", pack(tmp_path / "ibkr_oauth-0.1.0-cp311-abi3-any.whl", NAMES, 1999), bundle)
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_licences_are_in_the_wheel(finished):
    for library in LIBRARIES:
        assert finished[f"{INFO}/licenses/bundled/{library}.txt"] == f"the licence of {library}\n".encode()
    metadata, _, readme = finished[f"{INFO}/METADATA"].decode().partition("\n\n")
    assert "License-Expression: MIT AND Apache-2.0 AND curl AND Zlib\n" in metadata
    assert re.findall(r"License-File: (.*)", metadata) == ["LICENSE", *(f"bundled/{name}.txt" for name in LIBRARIES)]
    assert readme == "Text: of the readme\n"


def test_the_record_is_true(finished):
    listed = {
        name: (digest, size) for name, digest, size in csv.reader(io.StringIO(finished[f"{INFO}/RECORD"].decode()))
    }
    assert listed.pop(f"{INFO}/RECORD") == ("", "")
    assert listed.keys() == finished.keys() - {f"{INFO}/RECORD"}
    for name, (digest, size) in listed.items():
        kind, _, encoded = digest.partition("=")
        assert base64.urlsafe_b64decode(encoded + "=") == hashlib.new(kind, finished[name]).digest()
        assert int(size) == len(finished[name])


def test_the_list_of_what_is_bundled_is_a_valid_one(finished):
    text = finished[f"{INFO}/sboms/bundled.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    assert {name: part["version"] for name, part in parts.items()} == {name: v for name, (_, v) in LIBRARIES.items()}
    for name, part in parts.items():
        assert part["purl"].startswith(f"pkg:deb/debian/{name}@")
        files = {reference["url"] for reference in part["externalReferences"]}
        assert any(file.endswith(".dsc") for file in files)
        assert any(".orig.tar." in file for file in files)
    plain, security = parts["curl"]["pedigree"]["patches"]
    assert "resolves" not in plain
    assert security["resolves"] == [{"type": "security", "id": "CVE-2025-10148"}]


def test_a_wheel_is_the_same_whoever_packed_it_and_when(finish, bundle, tmp_path):
    wheel = tmp_path / "ibkr_oauth-0.1.0-cp311-abi3-any.whl"
    first = finish("wheel", pack(wheel, NAMES, 1999), bundle, into="first").read_bytes()
    second = finish("wheel", pack(wheel, NAMES[::-1], 2024), bundle, into="second").read_bytes()
    assert first == second


def test_an_sdist_is_the_same_whoever_packed_it_and_when(finish, tmp_path):
    def packed(names: list[str], mtime: int, uid: int) -> bytes:
        sdist = tmp_path / "ibkr_oauth-0.1.0.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                content = str(mtime).encode() if name.endswith("SOURCES.txt") else b"abc"
                member.size, member.mtime, member.uid, member.uname, member.mode = (
                    len(content),
                    mtime,
                    uid,
                    f"u{uid}",
                    0o640,
                )
                archive.addfile(member, io.BytesIO(content))
        return finish("sdist", sdist, into=f"sdist-{uid}").read_bytes()

    listing = "a/x.egg-info/SOURCES.txt"
    assert packed(["a/b", "a/c", listing], 1, 0) == packed([listing, "a/c", "a/b"], 1_000_000_000, 1000)


def test_every_pinned_package_has_its_files(project):
    lines = [line.split() for line in (project / "csrc/bundle/sources.txt").read_text().splitlines()]
    packages = [words[1:] for words in lines if words[0] == "package"]
    files = {words[2]: words[1] for words in lines if words[0] == "sha256"}
    assert {name for name, _ in packages} == set(LIBRARIES)
    for name, version in packages:
        assert f"{name}_{version.rpartition(':')[2]}.dsc" in files
        assert any(file.startswith(f"{name}_") and ".orig.tar." in file for file in files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", total) for total in files.values())


@pytest.fixture
def fetch(run, project, tmp_path):
    """fetch.sh, in a project with one pinned file that is there, on a system without apt-get."""
    scripts = tmp_path / "csrc/bundle"
    scripts.mkdir(parents=True)
    shutil.copy(project / "csrc/bundle/fetch.sh", scripts)
    total = hashlib.sha256(b"good").hexdigest()
    (scripts / "sources.txt").write_text(f"release trixie\npackage one 1-1\nsha256 {total} one_1-1.dsc\n")
    (tmp_path / "build/bundle/sources").mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "sed", "sha256sum", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or pytest.fail(name))

    def fetch(content: bytes, **how: bool) -> str:
        (tmp_path / "build/bundle/sources/one_1-1.dsc").write_bytes(content)
        return run(programs / "sh", scripts / "fetch.sh", PATH=str(programs), **how).stdout

    return fetch


def test_what_is_there_with_the_right_sum_is_not_fetched(fetch):
    assert fetch(b"good") == ""


def test_a_file_with_another_sum_is_not_taken(fetch):
    assert "needs Debian's apt-get" in fetch(b"bad", fails=True)
