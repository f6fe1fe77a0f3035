"""Which functions of the C core can run out of memory is found by the compiler, and that each of them does by test_alloc.c."""

import re
from pathlib import Path

import pytest

# Tested where they have a server or an engine to talk to: the test program, and the name of the helper that makes the call.
ELSEWHERE = {
    "ibk_engine_client_new": ("test_engine", "ibk_engine_client_new"),
    "ibk_engine_submit": ("test_engine", "submit"),
    "ibk_http_client_new": ("test_http", "ibk_http_client_new"),
    "ibk_http_send": ("test_http", "send_it"),
    "ibk_keepalive_beat": ("test_keepalive", "ibk_keepalive_beat"),
    "ibk_keepalive_new": ("test_keepalive", "make"),
}
# Allocates in ibk_dh_params_new alone, after minutes of searching for a prime.
SLOW = {"ibk_dh_params_generate"}


def public_functions(project: Path) -> set[str]:
    headers = "".join(file.read_text() for file in (project / "csrc/include/ibk").glob("*.h"))
    headers = re.sub(r"/\*.*?\*/", "", headers, flags=re.DOTALL)
    return {*re.findall(r"^(?!static).*?\b(ibk_\w+)\([^;{]*;", headers, flags=re.MULTILINE)}


@pytest.fixture(scope="module")
def calls(run, project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Caller and called, for all of csrc but the binding."""
    folder = tmp_path_factory.mktemp("calls")
    files = sorted(file for layer in ("core", "http", "session") for file in (project / "csrc" / layer).glob("*.c"))
    if run("gcc", "--version").stdout.startswith("Apple"):
        pytest.skip("clang does not write call graphs")
    for file in files:
        output = folder / f"{file.stem}.o"
        run("gcc", "-std=c11", "-O0", "-fcallgraph-info", f"-I{project}/csrc/include", "-c", file, "-o", output)
    calls: dict[str, set[str]] = {}
    for graph in folder.glob("*.ci"):
        for caller, called in re.findall(r'sourcename: "(.*?)" targetname: "(.*?)"', graph.read_text()):
            calls.setdefault(caller.split(":")[-1], set()).add(called.split(":")[-1])
    return calls


def allocating(calls: dict[str, set[str]]) -> set[str]:
    """All that reach ibk_alloc."""
    found = {"ibk_alloc"}
    while more := {caller for caller, called in calls.items() if called & found} - found:
        found |= more
    return found


def body_of(function: str, source: str) -> str:
    return re.search(rf"^static void {function}\(.*?^}}$", source, flags=re.MULTILINE | re.DOTALL)[0]


def test_every_function_that_allocates_is_made_to_fail(project, calls):
    tests = project / "tests" / "c"
    tested = {*re.findall(r"\bibk_\w+", (tests / "test_alloc.c").read_text())}
    for function, (program, call) in ELSEWHERE.items():
        body = body_of("test_memory_runs_out", (tests / f"{program}.c").read_text())
        assert re.search(rf"\b{call}\(", body), function
        tested.add(function)
    wanted = public_functions(project) & allocating(calls) - SLOW - {"ibk_alloc"}
    assert len(wanted) > 40
    assert sorted(wanted - tested) == []
