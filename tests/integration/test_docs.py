"""What the docs say is true: their Python runs as it stands there, their tables are those of the code, their links lead somewhere.

The snippets of a page run one after the other in one namespace, with a sandbox and the settings of a first party in the
environment. `<!-- test: … -->` right above a snippet is Python that prepares the sandbox for it. Where a line of a
snippet ends in `# …` after a `print`, that is what it prints, up to an ellipsis.
"""

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, get_args

import pytest

import ibkr_oauth
from ibkr_oauth import AccessToken, Consumer, Session, config, files, health, paths
from ibkr_oauth.flow import Flow
from ibkr_oauth.sandbox import Sandbox
from ibkr_oauth.session import SessionOptions

from .conftest import register
from .test_examples import settings_for

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
_SNIPPET = re.compile(r"(?:<!-- test: (?P<before>.*?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


class Snippet(NamedTuple):
    before: str
    code: str
    line: int


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text("utf-8")
    found = _SNIPPET.finditer(text)
    return [Snippet(one["before"] or "", one["code"], text.count("\n", 0, one.start("code"))) for one in found]


def promised(code: str) -> list[str]:
    """What the comments say that the snippet prints."""
    return [found[1] for line in code.splitlines() if (found := re.search(r"^\s*print\(.*\)  # (.+)$", line))]


class Reader:
    """Somebody who types in the snippets of a page, one after the other."""

    def __init__(self, sandbox: Sandbox, pem: dict[str, str], keys: Path, patch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self._patch = patch
        self._pem = pem
        self._keys = keys
        self._names: dict[str, Any] = {"__name__": "docs"}
        self._loop = asyncio.Runner()
        self._started: list[Sandbox] = []

    def read(self, page: Path, snippet: Snippet) -> str:
        """What it prints."""
        self.sandbox.stop_competing()
        exec(snippet.before, self._helpers())
        # As if the page were a program: tracebacks show its lines.
        code: CodeType = compile(
            "\n" * snippet.line + snippet.code, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if code.co_flags & inspect.CO_COROUTINE:
                self._loop.run(eval(code, self._names))
            else:
                exec(code, self._names)
        return printed.getvalue()

    def close(self) -> None:
        self._loop.close()
        for sandbox in self._started:
            sandbox.stop()

    def _helpers(self) -> dict[str, Any]:
        """For the comments above snippets: what they make is there for the page, too."""
        self._names |= {
            "sandbox": self.sandbox,
            "start": self._start,
            "session_cookie": self._session_cookie,
            "save_profile": self._save_profile,
        }
        return self._names

    def _save_profile(self, name: str) -> None:
        """The settings of the environment as a profile, which only this page knows of."""
        folders = {"IBKR_OAUTH_CONFIG": str(self._keys / "config.toml"), "XDG_STATE_HOME": str(self._keys / "state")}
        for variable, path in folders.items():
            self._patch.setenv(variable, path)
        settings = config.from_env()
        found = {one: settings.get(one) for one in config.NAMES}
        config.save_profile(name, {one: value.text for one, value in found.items() if value is not None})

    def _start(self, **options: Any) -> Sandbox:
        """Another sandbox; its settings are those of the environment from now on."""
        sandbox = Sandbox(tls=True, **options)
        register(sandbox, self._pem)
        self._started.append(sandbox.start())
        os.environ.update(settings_for(sandbox, self._pem, self._keys))
        return sandbox

    def _session_cookie(self) -> str:
        """As a browser that has logged in would have it."""
        with Session.from_env() as ibkr:
            cookie: str = ibkr.tickle().json()["session"]
            return cookie


@pytest.fixture
def reader(sandbox: Sandbox, pem: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_")):
            monkeypatch.delenv(name)
    for name, value in settings_for(sandbox, pem, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    reading = Reader(sandbox, pem, tmp_path, monkeypatch)
    try:
        yield reading
    finally:
        reading.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run(page: Path, reader: Reader) -> None:
    for snippet in snippets(page):
        printed = reader.read(page, snippet)
        at = 0
        for words in promised(snippet.code):
            start = words.removesuffix("...")
            at = printed.find(start, at)
            assert at >= 0, f"{page.name}, line {snippet.line + 1}: {words!r} is not what it prints:\n{printed}"
            at += len(start)


def test_links_lead_somewhere(project: Path) -> None:
    for page in [*PAGES, project / "examples/README.md"]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(linked), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


# --- Tables --------------------------------------------------------------------------------------


def table(page: str, header: str) -> list[list[str]]:
    """The rows below the one that begins with this text, without back quotes."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header}"))
    rows: list[list[str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def test_keyword_arguments() -> None:
    rows = {name: default for name, default, _ in table("sessions.md", "Argument")}
    assert set(rows) == set(SessionOptions.__annotations__)
    consumer, access_token = Consumer.__new__(Consumer), AccessToken.__new__(AccessToken)
    defaults = made_with(consumer, access_token)
    for name, default in rows.items():
        if name not in ("clock", "nonce", "transport"):
            expected = defaults[name]
            assert default == (
                f'"{expected}"' if isinstance(expected, str) and name != "base_url" else str(expected)
            ), name


def made_with(consumer: Any, access_token: Any) -> dict[str, Any]:
    """The values that a session without options comes to."""
    seen: dict[str, Any] = {}

    class Noting(Flow):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            seen.update(options)
            super().__init__(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ibkr_oauth.session.Flow", Noting)
        session = Session(consumer, access_token)
    seen["keep_alive"] = session._keep_alive_seconds
    options = dict(session._options)
    seen["connect_timeout"] = options["connect_timeout_ms"] / 1000
    return seen | {"ca_file": options["ca_file"], "proxy": options["proxy"]}


def test_variables() -> None:
    rows = table("sessions.md", "Variable")
    told = {name for ours, theirs, _ in rows for name in (ours, *theirs.split(", ")) if name}
    read = {name for setting in config._SETTINGS for name in setting.variables}
    read |= {config._KEYS_DIR, config._PROFILE, config._CONFIG, config._KEY_PASSWORD, files.INSECURE_PERMISSIONS}
    assert told == read


def test_events() -> None:
    assert [row[0] for row in table("sessions.md", "Event")] == list(get_args(health.EventKind))


def test_states() -> None:
    assert [row[0] for row in table("sessions.md", "State")] == list(get_args(health.BrokerageState))


def test_limits() -> None:
    told = [(path, int(calls), seconds) for path, calls, seconds in table("sessions.md", "Path")]
    assert told == [(limit.path.pattern, limit.calls, f"{limit.seconds:g} s") for limit in paths.LIMITS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_exist(page: Path) -> None:
    """Every name in back quotes that looks like one of our classes is one."""
    others = {"CancelledError", "Cookie", "Date", "False", "KeyboardInterrupt", "None", "True"}
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for name in set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)(?:[.(][^`]*)?`", text)) - others:
        assert hasattr(ibkr_oauth, name) or page.stem in ("adapters", "web-sockets"), name
