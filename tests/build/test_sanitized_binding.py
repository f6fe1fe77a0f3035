"""The tests of the binding once more, in a module that AddressSanitizer and UBSan watch."""

import shutil
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SANITIZERS = {"address": "libasan.so", "undefined": "libubsan.so"}


@pytest.fixture
def runtimes(run) -> str:
    """The sanitizers' libraries, which must be in the process before Python itself."""
    if sys.platform != "linux":
        pytest.skip("preloads gcc's libraries")
    found = [run("gcc", f"-print-file-name={name}").stdout.strip() for name in SANITIZERS.values()]
    if not all(Path(file).is_absolute() for file in found):
        pytest.skip("this gcc comes without sanitizers")
    return " ".join(found)


def test_the_binding_is_clean(run, project, runtimes):
    # A copy of its own: the module in the source folder stays as it is.
    folder = project / "build" / "sanitized"
    shutil.rmtree(folder, ignore_errors=True)
    build = ("setup.py", "build", "--build-lib", folder, "--build-temp", f"{folder}-objects")
    run(sys.executable, *build, CC="gcc", IBKR_OAUTH_SANITIZE=",".join(SANITIZERS))

    tests = project / "tests" / "binding"
    settings = folder / "pytest.ini"
    settings.write_text(f"[pytest]\npythonpath = {project / 'tests'}\nfilterwarnings = error\n")
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", settings)
    watched = {
        "LD_PRELOAD": runtimes,
        "PYTHONPATH": str(folder),
        "PYTHONMALLOC": "malloc",
        # Python keeps memory until it ends, and freed memory that is held back looks like a leak.
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=0:thread_local_quarantine_size_kb=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    where = "from ibkr_oauth import _core; print(_core._live_allocations(), _core.__file__)"
    assert str(folder) in run(sys.executable, "-c", where, cwd=folder, **watched).stdout
    command = (sys.executable, "-m", "pytest", *options, f"--confcutdir={tests}", tests)
    run(*command, cwd=folder, **watched)
