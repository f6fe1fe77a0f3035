"""The authorities are found where each system keeps them, by a module that was built on another one.

Each layout is an /etc of its own, in a mount namespace: nothing of this machine changes.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox

# Paths below /etc that hold the authorities, and those that are links to them.
LAYOUTS = {
    "debian": {"file": "ssl/certs/ca-certificates.crt"},
    "fedora": {"file": "pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "link": "pki/tls/certs/ca-bundle.crt"},
    "fedora-without-the-old-name": {"file": "pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
    "alpine": {"file": "ssl/certs/ca-certificates.crt", "link": "ssl/cert.pem"},
    "alpine-without-package": {"file": "ssl/cert.pem"},
    "suse": {"file": "ssl/ca-bundle.pem"},
}
CALL = """
import sys
from ibkr_oauth import _core
print(_core.find_ca())
print(_core.HttpClient(user_agent="layouts/1").send("GET", sys.argv[1], [], None, True, 20000)[0])
"""
# $1: the new /etc; the rest is the program to run there.
ENTER = 'mount -t tmpfs none /etc && cp -R "$1/." /etc && shift && exec "$@"'
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(tls=True) as sandbox:
        yield sandbox


@pytest.fixture
def call(tmp_path: Path, sandbox: Sandbox):
    """Calls the sandbox from a system with those files in /etc, and without any setting."""
    if sys.platform != "linux" or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs Linux, and the right to mount namespaces")
    # What finding the loopback address and the libraries takes.
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("hosts", "ld.so.cache", "nsswitch.conf", "passwd"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc)

    def call(file: str | None = None, link: str | None = None) -> subprocess.CompletedProcess[str]:
        if file is not None:
            (etc / file).parent.mkdir(parents=True)
            shutil.copy(sandbox.ca_file, etc / file)
        if link is not None:
            (etc / link).parent.mkdir(parents=True, exist_ok=True)
            (etc / link).symlink_to(f"/etc/{file}")
        program = (sys.executable, "-c", CALL, f"{sandbox.base_url}/tickle")
        command = [*UNSHARE, "sh", "-c", ENTER, "sh", str(etc), *program]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)

    return call


@pytest.mark.parametrize("layout", LAYOUTS)
def test_authorities_are_found(call, layout):
    done = call(**LAYOUTS[layout])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n401\n"), done.stdout  # nobody signed it, but it was heard


def test_a_system_without_any_is_told_so(call):
    done = call()
    assert done.stdout == ""
    assert "TLSError: no file of certificate authorities on this system" in done.stderr
    assert "ca-certificates" in done.stderr
    assert "ca_file" in done.stderr
