"""The wheel that carries OpenSSL and libcurl: what is in it, that it can be made again, and that it runs where nothing else is.

`make check-wheel` runs this, for half an hour: it compiles the libraries twice and fetches two releases of Debian.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(5400)]

# Debian's releases with the Python of each: stable, and the one before.
RELEASES = {"trixie": "3.13", "bookworm": "3.11"}


@pytest.fixture(scope="session")
def folder(project: Path) -> Path:
    folder = project / "build" / "wheel-check"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def wheel(run, folder: Path) -> Path:
    run("make", "wheel", f"DIST={folder}")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def site(run, folder: Path, wheel: Path) -> Path:
    """The wheel, installed by itself."""
    site = folder / "site"
    run(sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", site, wheel)
    return site


@pytest.fixture(scope="session")
def module(site: Path) -> Path:
    return site / "ibkr_oauth" / "_core.abi3.so"


def test_it_is_named_for_the_glibc_it_needs(wheel):
    assert re.search(r"-cp311-abi3-manylinux_2_\d+_\w+\.whl$", wheel.name)


def test_the_module_needs_nothing_but_the_c_library_and_shows_one_name(run, module):
    dynamic = run("readelf", "--dynamic", "--wide", module).stdout
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
    assert {name.partition(".")[0] for name in needed} <= {"libc", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    shown = run("nm", "--dynamic", "--defined-only", module).stdout.split()
    assert shown[2::3] == ["PyInit__core"]


def test_no_path_of_the_building_machine_is_in_it(project, module):
    assert os.fsencode(project) not in module.read_bytes()


def test_licences_and_parts_are_listed(wheel):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        bill = archive.read(f"{info}/sboms/bundled.cdx.json").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        for library in ("openssl", "curl", "zlib"):
            assert len(archive.read(f"{info}/licenses/bundled/{library}.txt")) > 900
            assert f"License-File: bundled/{library}.txt\n" in metadata
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    versions = {part["name"]: part["version"] for part in json.loads(bill)["components"]}
    assert set(versions) == {"openssl", "curl", "zlib"}
    assert "License-Expression: MIT AND Apache-2.0 AND curl AND Zlib\n" in metadata


BOTH = """
import sys
order, url, ca_file = sys.argv[1:]
host, port = url.split("/")[2].split(":")

def theirs():
    import http.client, ssl
    connection = http.client.HTTPSConnection(host, int(port), context=ssl.create_default_context(cafile=ca_file), timeout=30)
    connection.request("GET", "/" + url.split("/", 3)[3], headers={"User-Agent": "both/1"})
    assert connection.getresponse().status == 401

def ours():
    from ibkr_oauth import _core
    client = _core.HttpClient(user_agent="both/1", ca_file=ca_file)
    for _ in range(3):
        assert client.send("GET", url, [], None, True, 30000)[0] == 401
    assert len(_core.nonce()) == 32

for who in order * 2:
    {"t": theirs, "o": ours}[who]()
import ssl
from ibkr_oauth import _core
print(ssl.OPENSSL_VERSION, "|", _core.versions()["openssl"])
"""


@pytest.mark.parametrize("order", ["to", "ot"])
def test_it_lives_beside_the_openssl_of_python(run, folder, site, order):
    with Sandbox(tls=True) as sandbox:
        arguments = (order, f"{sandbox.base_url}/tickle", sandbox.ca_file)
        printed = run(sys.executable, "-c", BOTH, *arguments, cwd=folder, PYTHONPATH=str(site)).stdout
    theirs, ours = printed.strip().split(" | ")
    assert theirs != ours, "Python has the very version that is bundled: this proves nothing here"


@pytest.fixture(scope="session")
def sdist(run, folder: Path) -> Path:
    run("make", "sdist", f"DIST={folder}")
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def test_whoever_makes_it_gets_the_same(run, project, folder, wheel, sdist):
    """Another folder, another time, another zone, and everything compiled anew, from an sdist."""
    other = folder / "elsewhere"
    other.mkdir()
    run("tar", "xf", sdist, "-C", other, "--strip-components=1")
    shutil.copytree(project / "build/bundle/sources", other / "build/bundle/sources")
    run(other / "csrc/bundle/wheel.sh", sys.executable, other / "dist", cwd=other, TZ="Asia/Tokyo")
    (again,) = (other / "dist").glob("*.whl")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()

    run(sys.executable, "csrc/bundle/sdist.py", other / "dist", cwd=other, TZ="Asia/Tokyo")
    assert (other / "dist" / sdist.name).read_bytes() == sdist.read_bytes()


def test_the_sdist_builds_without_a_network(run, folder, sdist):
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps")
    run("unshare", "--map-root-user", "--net", *pip, "--target", folder / "from-sdist", sdist)
    where = "from ibkr_oauth import _core; print(_core.__file__)"
    printed = run(sys.executable, "-c", where, cwd=folder, PYTHONPATH=str(folder / "from-sdist")).stdout
    assert printed.startswith(str(folder / "from-sdist"))


# $1: the root. Processes, devices and the loopback interface are its own; there is no other network.
ENTER = """
set -e
root=$1
shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t tmpfs dev "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ip link set lo up
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb chroot "$root" "$@"
"""
NOTHING_TO_BUILD_WITH = """
for name in cc gcc clang make ld pkg-config; do ! command -v $name; done
! find / -xdev -name Python.h -o -xdev -name curl.h -o -xdev -path '*/openssl/ssl.h' -o -xdev -name 'libcurl*' | grep .
"""


@pytest.fixture(scope="session", params=RELEASES)
def root(run, project: Path, wheel: Path, request) -> Path:
    """A minimal Debian, with the wheels of the extras, and of pytest, for its Python."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.fail("needs root and debootstrap")
    release = request.param
    root = project / "build" / "roots" / release
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        targets = run("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages").stdout
        mirror = max(line.split()[1] for line in targets.splitlines() if line.startswith("Debian "))
        run("debootstrap", "--variant=minbase", "--include=python3,python3-venv", release, root, mirror)
        (root / "made").touch()
    house = root / "wheels"
    shutil.rmtree(house, ignore_errors=True)
    extras = tomllib.loads((project / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    platforms = [
        f"--platform={tag}_{os.uname().machine}" for tag in ("manylinux_2_34", "manylinux_2_28", "manylinux2014")
    ]
    download = ("-m", "pip", "download", "--only-binary=:all:", f"--python-version={RELEASES[release]}", *platforms)
    run(sys.executable, *download, "--dest", house, *extras["cli"], *extras["sandbox"], "pytest", "pytest-timeout")
    shutil.copy(wheel, house)
    shutil.rmtree(root / "tests", ignore_errors=True)
    for part in ("binding", "vectors"):
        shutil.copytree(project / "tests" / part, root / "tests" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(root / "venv", ignore_errors=True)
    return root


@pytest.fixture(scope="session")
def inside(project: Path, root: Path):
    """Runs a shell script in the root, and keeps what it printed in build/log."""
    log = project / "build" / "log" / f"check-wheel-{root.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")

    def inside(script: str) -> str:
        unshare = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
        command = [*unshare, "sh", "-c", ENTER, "sh", str(root), "sh", "-ec", f"cd /; {script}"]
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with log.open("a") as opened:
            opened.write(done.stdout)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return inside


@pytest.fixture(scope="session")
def installed(inside):
    """The wheel in an empty environment, where nothing can be built, and the extras after it."""
    inside(NOTHING_TO_BUILD_WITH)
    inside("python3 -m venv /venv && /venv/bin/pip install --no-index --no-deps /wheels/ibkr_oauth-*.whl")
    inside("/venv/bin/python -c 'from ibkr_oauth import Session, _core; print(_core.versions())'")
    inside("/venv/bin/pip install --no-index --find-links /wheels 'ibkr_oauth[cli,sandbox]' pytest pytest-timeout")


def test_the_demo_runs_in_a_minimal_debian(installed, inside):
    assert "logout" in inside("/venv/bin/ibkr-oauth demo")


def test_the_tests_of_the_binding_pass_in_a_minimal_debian(installed, inside):
    settings = "[pytest]\\npythonpath = /tests\\nfilterwarnings = error\\n"
    options = "-q -p no:ibkr_oauth -p no:cacheprovider --import-mode=importlib -c /tests/pytest.ini --confcutdir=/tests/binding"
    printed = inside(f"printf '{settings}' >/tests/pytest.ini; /venv/bin/python -m pytest {options} /tests/binding")
    assert re.search(r"^\d+ passed", printed, re.MULTILINE)


def test_without_authorities_the_error_says_what_to_install(installed, inside):
    call = "_core.HttpClient(user_agent='none/1').send('GET', 'https://localhost/', [], None, True, 5000)"
    hide = "mount -t tmpfs none /etc/ssl"
    printed = inside(f'{hide}; ! /venv/bin/python -c "from ibkr_oauth import _core; {call}"')
    assert "no file of certificate authorities on this system" in printed
    assert "ca-certificates" in printed
