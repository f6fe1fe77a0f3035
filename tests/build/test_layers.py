"""Each layer knows no more than it may, and the check that says so notices when one does."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECK = "csrc/tools/check_layers.py"


def test_this_tree_keeps_its_layers(run, project):
    run(sys.executable, CHECK, project)


@pytest.fixture
def plant(project: Path, tmp_path: Path) -> Callable[[str, str], set[str]]:
    """Adds text to a file in a copy of the tree; returns what the check has to say beyond what it said before."""
    problems = runpy.run_path(str(project / CHECK))["problems"]
    for folder in ("csrc", "ibkr_oauth"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(project / folder, tmp_path / folder, ignore=ignored)
    before = set(problems(tmp_path))

    def plant(file: str, text: str) -> set[str]:
        planted = tmp_path / file
        planted.parent.mkdir(parents=True, exist_ok=True)
        with planted.open("a") as opened:
            opened.write(f"\n{text}\n")
        return set(problems(tmp_path)) - before

    return plant


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("csrc/core/planted.c", "#include <Python.h>"),
        ("csrc/http/planted.c", '# include "Python.h"'),
        ("csrc/include/ibk/planted.h", "#include <Python.h>"),
        ("csrc/core/planted.c", "#include <curl/curl.h>"),
        ("csrc/core/planted.c", '#include "ibk/http.h"'),
        ("csrc/include/ibk/planted.h", "#include <curl/easy.h>"),
        ("csrc/http/planted.c", '#include "ibk/oauth.h"'),
        ("csrc/http/planted.c", '#include "ibk/key.h"'),
        ("csrc/http/planted.c", '#include "ibk/signer.h"'),
        ("csrc/http/planted.c", '#include "ibk/keepalive.h"'),
        ("csrc/core/planted.c", '#include "ibk/engine.h"'),
        ("csrc/core/planted.c", '#include "ibk/mailbox.h"'),
        ("csrc/core/planted.c", '#include "ibk/keepalive.h"'),
        ("csrc/include/ibk/engine.h", '#include "ibk/oauth.h"'),
        ("csrc/include/ibk/mailbox.h", '#include "ibk/params.h"'),
        ("csrc/session/planted.c", "#include <Python.h>"),
        ("csrc/session/planted.c", "#include <curl/curl.h>"),
        ("csrc/session/planted.c", '#include "../http/http_internal.h"'),
        ("csrc/platform/planted.c", "#include <openssl/crypto.h>"),
        ("csrc/platform/planted.c", '#include "ibk/secret.h"'),
        ("csrc/core/planted.c", "#include <unistd.h>"),
        ("csrc/http/planted.c", "#include <sys/socket.h>"),
        ("csrc/session/planted.c", "#include <threads.h>"),
        ("csrc/binding/planted.c", "#include <pthread.h>"),
        ("csrc/http/planted.c", "static void f(void) { (void)close(3); }"),
        ("csrc/http/planted.c", "static int f(void) { return (int)getpid(); }"),
        ("csrc/session/planted.c", "static void f(ibk_mutex *a) { pthread_mutex_lock(a); }"),
        ("csrc/binding/planted.c", "static int f(ibk_polled *a) { return poll (a, 1, 0); }"),
        ("csrc/core/planted.c", "static void f(char *a) { strcpy(a, a); }"),
        ("csrc/core/planted.c", "static void f(int a) { assert (a); }"),
        ("csrc/core/planted.c", 'static int f(void) { return "/*"[0] + atoi("1"); }'),
        ("csrc/http/planted.c", "static void *f(void *a) { return realloc(a, 2); }"),
        ("csrc/binding/planted.c", 'static void f(char *a) { sprintf(a, "%d", 1); }'),
        ("ibkr_oauth/errors.py", "from . import tokens"),
        ("ibkr_oauth/errors.py", "import ibkr_oauth._core"),
        ("ibkr_oauth/signing.py", "import hashlib"),
        ("ibkr_oauth/signing.py", "from http import client"),
        ("ibkr_oauth/oauth.py", "import urllib.request"),
        ("ibkr_oauth/oauth.py", "def f():\n    import requests"),
        ("ibkr_oauth/stores.py", "def f():\n    import keyring"),
        ("ibkr_oauth/sandbox/planted.py", "from ibkr_oauth import _core"),
        ("ibkr_oauth/sandbox/planted.py", "from ..signing import base_string"),
        ("ibkr_oauth/sandbox/planted.py", "import ibkr_oauth.consumer"),
        ("ibkr_oauth/sandbox/deeper/planted.py", "from ... import oauth"),
    ],
)
def test_a_violation_is_named_with_its_place(plant, tmp_path, file, line):
    (found,) = plant(file, line)
    last = len((tmp_path / file).read_text().splitlines())
    assert found.startswith(f"{file}:{last}: ")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("csrc/core/planted.c", '/* strcpy(a, b); // */ _Static_assert(1, "atoi(x)");'),
        ("csrc/core/planted.c", "// #include <Python.h>"),
        ("csrc/core/planted.c", "static char quote = '\"'; // don't assert(quote)"),
        ("csrc/http/planted.c", "#include <curl/curl.h>"),
        (
            "csrc/http/planted.c",
            "static void f(struct t *a) { a->close(a); ibk_socket_close(3); curl_multi_poll(a->m, 0, 0, 1, 0); }",
        ),
        ("csrc/core/planted.c", "#include <stdatomic.h>\n#include <time.h>"),
        ("csrc/platform/planted.c", "#include <unistd.h>\nstatic void f(void) { (void)close(3); }"),
        ("csrc/session/planted.c", '#include "ibk/engine.h"\n#include "ibk/signer.h"'),
        ("csrc/binding/planted.c", '#include <Python.h>\n#include "ibk/oauth.h"'),
        ("ibkr_oauth/signing.py", "from http import HTTPStatus\nfrom . import _core"),
        ("ibkr_oauth/config.py", "def f():\n    from tomlkit import parse"),
        ("ibkr_oauth/sandbox/planted.py", "import hmac, ssl, cryptography\nfrom . import state"),
    ],
)
def test_what_is_allowed_passes(plant, file, line):
    assert plant(file, line) == set()


def test_a_violation_fails_the_check(run, plant, tmp_path):
    (found,) = plant("csrc/core/planted.c", "#include <Python.h>")
    assert found in run(sys.executable, CHECK, tmp_path, fails=True).stdout


def test_an_empty_tree_is_no_success(run, tmp_path):
    run(sys.executable, CHECK, tmp_path, fails=True)
