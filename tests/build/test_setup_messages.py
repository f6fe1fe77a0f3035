"""Who lacks a library is told which package to install, in one message and without a traceback."""

import sys

import pytest


@pytest.fixture
def build(run, tmp_path):
    def build(**environment: str) -> str:
        command = ("setup.py", "build_ext", "--build-lib", tmp_path, "--build-temp", tmp_path)
        return run(sys.executable, *command, fails=True, **environment).stdout

    return build


@pytest.mark.parametrize("pkg_config", ["false", "no-such-pkg-config"])
def test_missing_libraries_are_named_with_their_packages(build, pkg_config):
    message = build(PKG_CONFIG=pkg_config)

    assert "libssl-dev libcurl4-openssl-dev" in message
    assert "openssl-devel libcurl-devel" in message
    assert "brew install pkgconf openssl@3 curl" in message
    assert "Traceback" not in message


def test_a_version_that_is_too_old_is_named(build, tmp_path):
    folder = tmp_path / "lib" / "pkgconfig"
    folder.mkdir(parents=True)
    (folder / "libcurl.pc").write_text("Name: libcurl\nDescription: old\nVersion: 7.68.0\n")

    message = build(CURL_DIR=str(tmp_path))

    assert "7.68.0" in message
    assert "libcurl 7.84 or newer" in message
