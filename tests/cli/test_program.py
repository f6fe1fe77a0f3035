"""The program around the commands: help, extras, errors and exit codes."""

from __future__ import annotations

import errno
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ibkr_oauth import _core, errors
from ibkr_oauth.cli import app, common, keygen

from .conftest import Run


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a Python where importing this package fails."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv[0] = 'ibkr-oauth'; "
        "from ibkr_oauth.cli import main; sys.exit(main())"
    )
    return python(code, *arguments)


# --- Help and extras ------------------------------------------------------------------------------


def test_help_lists_commands_and_exit_codes(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("demo", "keygen", "sandbox", "Exit codes:", "130", "authorization"):
        assert word in result.stdout


def _commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        part = command.get_command(context, name)
        assert part is not None
        yield from _commands(part, (*words, name))


ALL_COMMANDS = dict(_commands(app.program))


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_each_command_has_help_json_and_debug(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words, "-h")
    assert result.exit_code == 0
    for word in ("--json", "--debug", "--help"):
        assert word in result.stdout


def test_no_secret_is_taken_from_the_command_line() -> None:
    """Other users of the machine see it, and so does the shell's history."""
    names = {name for command in ALL_COMMANDS.values() for parameter in command.params for name in parameter.opts}
    assert len(names) > 40
    suspicious = {name for name in names if re.search("secret|password|phrase|token|verifier|signing-key", name)}
    assert suspicious == {"--token-lifetime"}


def test_version_names_the_libraries(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("ibkr_oauth ")
    for version in _core.versions().values():
        assert version in result.stdout


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    result = run("demos")
    assert result.exit_code == 2
    assert "demos" in result.stderr


def test_python_m() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ibkr_oauth", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ibkr-oauth ")


def test_importing_the_command_does_not_run_it() -> None:
    done = python("import ibkr_oauth.__main__; print('imported')")
    assert (done.returncode, done.stdout) == (0, "imported\n")


def test_help_imports_neither_rich_tables_nor_the_sandbox() -> None:
    done = python(
        "import sys\n"
        "from ibkr_oauth.cli import main\n"
        "sys.argv = ['ibkr-oauth', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'rich.console', 'starlette', 'cryptography'}))"
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_answers_in_less_than_200_ms() -> None:
    """In time of the processor, which is what a machine that does nothing else takes. The best of some runs counts."""
    best = 1.0
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "ibkr_oauth", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if best < 0.2:
            break
    assert best < 0.2


def test_the_library_imports_nothing_of_command_sandbox_and_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import ibkr_oauth"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"ibkr_oauth", "ibkr_oauth.session"} <= imported
    ours = {"ibkr_oauth.cli", "ibkr_oauth.sandbox", "ibkr_oauth.config", "ibkr_oauth.doctor", "ibkr_oauth.advice"}
    theirs = {"click", "rich", "platformdirs", "tomllib", "tomlkit", "keyring", "starlette", "uvicorn", "jinja2"}
    more = {"cryptography", "trustme", "asyncio", "json", "http.server", "ssl"}
    assert imported & (ours | theirs | more) == set()


def test_importing_the_package_of_the_command_needs_no_extra() -> None:
    done = python("import sys; sys.modules['click'] = sys.modules['rich'] = None; import ibkr_oauth.cli")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_the_extra_it_says_which_one(package: str) -> None:
    done = run_without(package, "--help")
    assert done.returncode == 2
    assert f"{package} is not installed" in done.stderr
    assert 'pip install "ibkr_oauth[cli]"' in done.stderr
    assert 'pip install "ibkr_oauth[cli,sandbox]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["demo", "sandbox"])
@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2", "cryptography", "trustme"])
def test_without_the_sandbox_extra_it_says_so(package: str, command: str) -> None:
    done = run_without(package, command)
    assert done.returncode == 2
    assert f"{package} is not installed" in done.stderr
    assert 'pip install "ibkr_oauth[cli,sandbox]"' in done.stderr
    assert "Traceback" not in done.stderr


# --- Errors ---------------------------------------------------------------------------------------


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let `keygen` fail."""

    def fail_with(error: BaseException) -> None:
        def generate_keys(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(keygen.keygen, "generate_keys", generate_keys)

    return fail_with


ONE_OF_EACH_FAMILY = [
    (errors.DHParametersError, 3),
    (errors.ConsumerNotActive, 4),
    (errors.LiveSessionTokenMismatch, 5),
    (errors.CompetingSession, 6),
    (errors.Timeout, 7),
    (errors.MaintenanceError, 8),
    (errors.InvalidValue, 9),
    (errors.StoreError, 10),
    (errors.IBKROAuthError, 1),
]


@pytest.mark.parametrize(("kind", "code"), ONE_OF_EACH_FAMILY)
def test_an_error_is_message_and_advice_and_the_code_of_its_family(
    run: Run, fail_with: Any, kind: type[errors.IBKROAuthError], code: int
) -> None:
    fail_with(kind("it [bold]broke[/bold], [hidden]", advice="Mend it."))
    result = run("keygen", "anywhere")
    assert result.exit_code == code
    assert result.stderr == "error: it [bold]broke[/bold], [hidden]\nMend it.\n"
    assert result.stdout == ""


def test_every_family_has_an_exit_code() -> None:
    families = errors.IBKROAuthError.__subclasses__()
    codes = {common.exit_code(family("")) for family in families}
    assert len(codes) == len(families)
    assert codes == {code for code, _ in common.EXIT_CODES} - {0, 1, 2, 130}


def test_an_error_as_json(run: Run, fail_with: Any) -> None:
    fail_with(errors.ConnectError("no such host"))
    result = run("keygen", "anywhere", "--json")
    assert result.exit_code == 7
    assert json.loads(result.stdout)["error"] == {
        "code": "connect",
        "message": "no such host",
        "advice": errors.ConnectError.default_advice,
        "exit_code": 7,
    }
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["keygen", "x", "--debug"], ["--debug", "keygen", "x"]])
def test_debug_shows_the_traceback(run: Run, fail_with: Any, arguments: list[str]) -> None:
    fail_with(errors.TLSError("bad certificate"))
    result = run(*arguments)
    assert result.exit_code == 7
    assert "Traceback" in result.stderr
    assert result.stderr.endswith(f"error: bad certificate\n{errors.TLSError.default_advice}\n")


def test_control_characters_do_not_reach_the_terminal(run: Run, fail_with: Any) -> None:
    fail_with(errors.ServerError("red \x1b[31m bell \a"))
    assert run("keygen", "x").stderr.startswith("error: red �[31m bell �\n")


def test_a_bug_is_no_traceback_either(run: Run, fail_with: Any) -> None:
    fail_with(RuntimeError("odd"))
    result = run("keygen", "x")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: RuntimeError: odd\n")
    assert "--debug" in result.stderr


def test_ctrl_c_exits_with_130(run: Run, fail_with: Any) -> None:
    fail_with(KeyboardInterrupt())
    result = run("keygen", "x")
    assert (result.exit_code, result.stderr, result.stdout) == (130, "stopped\n", "")


def test_a_reader_that_has_gone_is_no_error_to_tell(run: Run, fail_with: Any) -> None:
    fail_with(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    result = run("keygen", "x")
    assert (result.exit_code, result.stderr) == (1, "")


def test_output_that_is_no_file() -> None:
    """As in programs that run the command in their own process, or have no console."""
    done = python(
        "import io, sys\n"
        "from ibkr_oauth.cli import main\n"
        "sys.argv = ['ibkr-oauth', '--version']\n"
        "sys.stdout, out = io.StringIO(), sys.stdout\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, sys.stdout.getvalue(), file=out)"
    )
    assert done.stdout.startswith("0 ibkr_oauth "), done.stderr


def test_output_is_plain_without_a_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "private_signature.pem").touch()
    result = run("keygen", str(tmp_path))
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr
