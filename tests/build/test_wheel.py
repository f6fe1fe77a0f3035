"""One wheel, built with the lowest Python, serves every newer one, subinterpreters included."""

import os
import platform
import shutil
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox

pytestmark = pytest.mark.timeout(300)

# In an interpreter with a GIL of its own; the module that makes one has another name since 3.13.
SUBINTERPRETER = """
import sys
code = sys.argv[1]
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    made = interpreters.create("isolated")
    problem = interpreters.run_string(made, code)
    assert problem is None, problem
else:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated=True)
    interpreters.run_string(made, code)
interpreters.destroy(made)
"""
BINDING = """
from ibkr_oauth import _core
assert _core.percent_encode("a b/\u00fc") == "a%20b%2F%C3%BC"
assert len(_core.nonce()) == 32
"""
# No daemon threads are allowed there, so the calls read what the keep-alive in C has heard.
SESSION = """
import time
from ibkr_oauth import Session
with Session.from_env(keep_alive=0.05, pacing=None) as ibkr:
    until = time.monotonic() + 30
    while ibkr.health().counters.tickles < 2 and time.monotonic() < until:
        assert ibkr.get("/portfolio/accounts").status_code == 200
    health = ibkr.health()
    assert health.keep_alive and health.counters.tickles >= 2, health
    ibkr.refresh()
    assert ibkr.get("/iserver/accounts").status_code == 200
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter beside the one that builds the wheel, with the wheel installed for it."""

    version: tuple[int, ...]
    path: str
    site: Path


@pytest.fixture(scope="session")
def folder(project: Path) -> Path:
    folder = project / "build" / "wheel-test"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def wheel(run, folder: Path) -> Path:
    """The one that IBKR_OAUTH_WHEEL names, or one that is built here."""
    if given := os.environ.get("IBKR_OAUTH_WHEEL"):
        return Path(given).absolute()
    run("make", "wheel-system", f"DIST={folder}")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def others(run, folder: Path, wheel: Path) -> list[Interpreter]:
    found = []
    for line in run("sh", "csrc/tools/pythons.sh").stdout.splitlines():
        number, path, _ = line.split()
        if number != platform.python_version():
            # The pip of this environment, run by that interpreter: it judges whether it fits.
            site = folder / f"python-{number}"
            pip = (sys.executable, "-m", "pip", "--python", path, "install", "--no-index")
            run(*pip, "--no-deps", "--target", site, wheel)
            found.append(Interpreter(tuple(map(int, number.split("."))), path, site))
    if not found:
        pytest.skip("no other CPython >= 3.11 on this machine")
    return found


@pytest.fixture(scope="session")
def pytest_site(run, folder: Path) -> Path:
    """pytest alone, for interpreters that have none, in the release that runs this test."""
    site = folder / "pytest"
    run(sys.executable, "-m", "pip", "install", "--target", site, f"pytest=={pytest.__version__}")
    return site


def test_its_name_says_that_it_fits_every_python_from_3_11_on(wheel):
    assert wheel.name.startswith(f"ibkr_oauth-{version('ibkr_oauth')}-cp311-abi3-")


def test_it_carries_what_the_package_needs_and_no_sources(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ibkr_oauth/_core.abi3.so", "ibkr_oauth/_core.pyi", "ibkr_oauth/py.typed"} <= {*names}
    assert any(name.startswith("ibkr_oauth/sandbox/templates/") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ibkr_oauth"}


# None of these runs in the project's folder, where the sources would be imported, not the wheel.


def test_every_other_interpreter_imports_it(run, folder, others):
    where = "from ibkr_oauth import _core; print(_core.__file__)"
    for python in others:
        place = run(python.path, "-c", where, cwd=folder, PYTHONPATH=str(python.site)).stdout
        assert Path(place.strip()).parent == python.site / "ibkr_oauth"


def test_the_tests_of_the_binding_pass_on_every_other_interpreter(run, project, folder, pytest_site, others):
    tests = project / "tests" / "binding"
    settings = folder / "pytest.ini"
    settings.write_text(f"[pytest]\npythonpath = {project / 'tests'}\nfilterwarnings = error\n")
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", settings)
    for python in others:
        path = f"{python.site}:{pytest_site}"
        command = (python.path, "-m", "pytest", *options, f"--confcutdir={tests}", tests)
        run(*command, cwd=folder, PYTHONPATH=path)


@pytest.fixture(scope="session")
def newer(others: list[Interpreter]) -> list[Interpreter]:
    """Those that have interpreters with a GIL of their own."""
    newer = [python for python in others if python.version >= (3, 12)]
    if not newer:
        pytest.skip("no other CPython >= 3.12 on this machine: older ones have no such interpreters")
    return newer


def test_it_works_in_an_isolated_subinterpreter(run, folder, newer):
    for python in newer:
        run(python.path, "-c", SUBINTERPRETER, BINDING, cwd=folder, PYTHONPATH=str(python.site))


def test_a_session_lives_in_an_isolated_subinterpreter(run, folder, newer, pem, tmp_path):
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        (tmp_path / f"{name}.pem").write_text(pem[key])
        (tmp_path / f"{name}.pem").chmod(0o600)
    with Sandbox(tls=True) as sandbox:
        sandbox.register("ABCDEFGHI", pem["signing_public"], pem["encryption_public"], pem["dh_params"])
        token, secret = sandbox.grant("ABCDEFGHI")
        settings = {
            "IBKR_OAUTH_CONSUMER_KEY": "ABCDEFGHI",
            "IBKR_OAUTH_ACCESS_TOKEN": token,
            "IBKR_OAUTH_ACCESS_TOKEN_SECRET": secret,
            "IBKR_OAUTH_KEYS_DIR": str(tmp_path),
            "IBKR_OAUTH_BASE_URL": sandbox.base_url,
            "IBKR_OAUTH_CA_FILE": str(sandbox.ca_file),
        }
        for python in newer:
            environment = {"PYTHONPATH": str(python.site), **settings}
            run(python.path, "-c", SUBINTERPRETER, SESSION, cwd=folder, **environment)
