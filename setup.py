"""Builds the extension module ibkr_oauth._core; all else about the package is in pyproject.toml.

Three things happen here: OpenSSL and libcurl are found, the limited API is chosen, and these
variables are obeyed:

    PKG_CONFIG                pkg-config to ask (a name or a command line)
    OPENSSL_DIR, CURL_DIR     prefixes of libraries elsewhere: their lib/pkgconfig is asked first
    IBKR_OAUTH_STATIC=1       link the libraries statically, and show none of their symbols
    IBKR_OAUTH_WERROR=1       warnings are errors

and, for builds that are never shipped, with the seams that tests look through (IBK_TESTING):

    IBKR_OAUTH_DEBUG=1        no optimisation
    IBKR_OAUTH_SANITIZE=...   sanitizers, for instance address,undefined
    IBKR_OAUTH_COVERAGE=1     counts which lines run (gcov)
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LAYERS = ["platform", "core", "http", "session", "binding"]
LIBRARIES = ["libcrypto >= 3.0", "libcurl >= 7.84"]
ADVICE = """
ibkr_oauth needs OpenSSL 3.0 or newer and libcurl 7.84 or newer, and pkg-config did not find both.

    Debian, Ubuntu   apt-get install build-essential pkg-config python3-dev \\
                         libssl-dev libcurl4-openssl-dev
    Fedora           dnf install gcc pkgconf-pkg-config python3-devel openssl-devel libcurl-devel
    Homebrew         brew install pkgconf openssl@3 curl
                     export OPENSSL_DIR="$(brew --prefix openssl@3)"
                     export CURL_DIR="$(brew --prefix curl)"

Libraries in other places: set OPENSSL_DIR and CURL_DIR to their prefixes, or PKG_CONFIG_PATH.
"""


def on(name: str) -> bool:
    return os.environ.get(f"IBKR_OAUTH_{name}", "0") not in ("", "0")


def pkg_config(question: str) -> list[str]:
    """What pkg-config answers for our libraries; ends the build with advice where it cannot."""
    prefixes = [os.environ[name] for name in ("OPENSSL_DIR", "CURL_DIR") if os.environ.get(name)]
    path = [f"{prefix}/{lib}/pkgconfig" for prefix in prefixes for lib in ("lib", "lib64")]
    path += filter(None, [os.environ.get("PKG_CONFIG_PATH")])
    command = shlex.split(os.environ.get("PKG_CONFIG") or "pkg-config")
    command += ["--print-errors", question, *(["--static"] if on("STATIC") else []), *LIBRARIES]
    environment = {**os.environ, "PKG_CONFIG_PATH": os.pathsep.join(path)}
    try:
        answer = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}\n{ADVICE}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{shlex.join(command)} says:\n{error.stderr}{ADVICE}")
    return shlex.split(answer.stdout)


def known_flags(group: str) -> list[str]:
    """The flags of one group of csrc/flags.txt that the compiler knows."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    command = ["sh", "csrc/tools/flags.sh", group, *compiler]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


class BuildCore(build_ext):
    """Asks for flags when something is compiled: an sdist needs no compiler and no libraries."""

    def build_extension(self, ext: Extension) -> None:
        # CPython's headers are not held to our warnings: -isystem overrules the -I of setuptools.
        python = ["-isystem", sysconfig.get_path("include")]
        compile_mode, link_mode = self.mode()
        ext.extra_compile_args = [
            *known_flags("define"),
            *known_flags("compile"),
            *compile_mode,
            *pkg_config("--cflags"),
            *python,
        ]
        libraries = pkg_config("--libs")
        ext.extra_link_args = [*known_flags("link"), *link_mode, *libraries]
        # Before the folder that setuptools names, which may have the system's OpenSSL.
        ext.library_dirs = [flag[2:] for flag in libraries if flag.startswith("-L")]
        # Where the building Python has its own libraries is no place for a module to look for others.
        linker = [flag for flag in self.compiler.linker_so if not flag.startswith(("-Wl,-rpath", "-L"))]
        self.compiler.set_executable("linker_so", linker)
        super().build_extension(ext)

    def mode(self) -> tuple[list[str], list[str]]:
        """Flags to compile and to link with, by the variables above."""
        both, compile_only, link_only = [], [], []
        if on("SANITIZE"):
            sanitizers = os.environ["IBKR_OAUTH_SANITIZE"]
            both += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
        elif on("COVERAGE"):
            both += ["-O0", "-g", "--coverage"]
        elif on("DEBUG"):
            both += ["-O0", "-g3"]
        if both:
            compile_only += ["-DIBK_TESTING"]
            self.force = True  # the sources are as old as before, the module is another one
        else:
            compile_only += known_flags("harden")
        if on("WERROR"):
            compile_only += ["-Werror"]
        if on("STATIC"):
            compile_only += ["-g0"]
            link_only += known_flags("static")
        return both + compile_only, both + link_only


# One binary serves every CPython from 3.11 on, but for free-threaded ones, which have no such API.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    ext_modules=[
        Extension(
            "ibkr_oauth._core",
            sources=sorted(file for layer in LAYERS for file in glob(f"csrc/{layer}/*.c")),
            # What the module is made of besides: a change in any of these compiles it anew.
            depends=[
                *glob("csrc/**/*.h", recursive=True),
                *("csrc/flags.txt", "csrc/tools/flags.sh", "csrc/tools/ibk.map", "setup.py"),
            ],
            include_dirs=["csrc/include"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited_api else [],
            py_limited_api=limited_api,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited_api else {},
    cmdclass={"build_ext": BuildCore},
)
