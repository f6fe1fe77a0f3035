"""The compiled module: what it shows, what it needs, how it is hardened."""

import re
import sys
from pathlib import Path

import pytest

from ibkr_oauth import _core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")


@pytest.fixture
def extension() -> Path:
    assert _core.__file__ is not None
    return Path(_core.__file__)


def test_it_is_built_for_the_limited_api(extension):
    assert extension.name == "_core.abi3.so"


def test_it_exports_one_symbol(run, extension):
    symbols = run("nm", "-D", "--defined-only", extension).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["PyInit__core"]


def test_it_needs_openssl_libcurl_and_libc_only(run, extension):
    dynamic = run("readelf", "-dW", extension).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.+?)\.so", dynamic)
    loader = {
        name for name in needed if name.startswith("ld-linux")
    }  # a part of libc: where each thread's own data are
    assert sorted(set(needed) - loader) == ["libc", "libcrypto", "libcurl"]
    assert not re.search(r"\(TEXTREL\)", dynamic)


def test_its_tables_are_read_only_and_its_stack_is_not_executable(run, extension):
    assert re.search(r"\(FLAGS_1\).*\bNOW\b", run("readelf", "-dW", extension).stdout)
    headers = run("readelf", "-lW", extension).stdout
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK.*\bRW\b", headers)
