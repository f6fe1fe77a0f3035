"""The site builds without a warning, its links hold, and what its pages list is what the code has."""

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest

import ibkr_oauth
from ibkr_oauth import Session, config
from ibkr_oauth.cli import app

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def blocks(language: str) -> list[Any]:
    """The fenced blocks of all pages in this language."""
    return [
        pytest.param(found[1], id=f"{page.stem}-{number}")
        for page in PAGES
        for number, found in enumerate(re.finditer(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL))
    ]


def rows(page: str, header: str) -> list[list[str]]:
    """The rows of the table that begins with this header, without back quotes."""
    text = (DOCS / page).read_text("utf-8")
    below = text.split(f"| {header} |", 1)[1].splitlines()[2:]
    found: list[list[str]] = []
    for line in below:
        if not line.startswith("|"):
            break
        found.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return found


# --- The site ------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """What a page links to, and what can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if name := found.get("id"):
            self.names.add(name)
        if tag == "a" and (link := found.get("href")):
            self.links.append(link)
        if tag in ("script", "img", "iframe") and (source := found.get("src")):
            self.fetched.append(source)
        if tag == "link" and found.get("rel") == "stylesheet" and (source := found.get("href")):
            self.fetched.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    """Built as `make docs` does it: nitpicky, and every warning is an error."""
    place = tmp_path_factory.mktemp("site")
    options = ["-q", "-b", "html", "-W", "-n", "--keep-going", "-d", str(place / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(place / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return {page: _Page(page.read_text("utf-8")) for page in (place / "html").glob("*.html")}


def test_each_page_is_there(site: dict[Path, _Page]) -> None:
    assert {page.stem for page in PAGES} <= {page.stem for page in site}


def test_links_inside_the_site_hold(site: dict[Path, _Page]) -> None:
    checked = 0
    for path, page in site.items():
        for link in page.links:
            if "//" in link or link.startswith("mailto:"):
                continue
            target, _, name = link.partition("#")
            linked = (path.parent / target).resolve() if target else path
            assert linked.exists(), f"{path.name}: {link}"
            if name and linked in site:
                assert name in site[linked].names, f"{path.name}: {link}"
            checked += 1
    assert checked > 500


def test_nothing_is_fetched_from_elsewhere(site: dict[Path, _Page]) -> None:
    for path, page in site.items():
        assert [source for source in page.fetched if "//" in source] == [], path.name


def test_every_public_name_has_its_reference(site: dict[Path, _Page]) -> None:
    page = next(page for path, page in site.items() if path.name == "reference.html")
    for name in ibkr_oauth.__all__:
        places = {
            f"ibkr_oauth.{name}",
            f"ibkr_oauth.errors.{name}",
            f"ibkr_oauth.signing.{name}",
            f"module-ibkr_oauth.{name}",
        }
        assert places & page.names, name


# --- Snippets that are no Python -----------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in re.finditer(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in found[1].splitlines():
                if line.startswith("$ ibkr-oauth "):
                    yield page.stem, line.removeprefix("$ ")


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_command_lines_are_understood(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / ".env").touch()
    monkeypatch.chdir(tmp_path)
    parse(app.program, shlex.split(line, comments=True))


def parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """As click does it, without calling anything."""
    name, *rest = words
    with command.make_context(name, rest, parent=parent) as ctx:
        if isinstance(command, click.Group):
            left = [*ctx._protected_args, *ctx.args]
            assert left, f"{name}: no command"
            inner = command.get_command(ctx, left[0])
            assert inner is not None, left[0]
            parse(inner, left, ctx)
        else:
            assert not ctx.args, f"{name}: {ctx.args}"


def test_an_unknown_option_is_noticed() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(app.program, ["ibkr-oauth", "doctor", "--no-such-option"])


@pytest.mark.parametrize("text", blocks("toml"))
def test_profiles_are_read(text: str, tmp_path: Path) -> None:
    parsed = tomllib.loads(text)
    for profile in parsed["profile"].values():
        assert set(profile) <= {*config.NAMES, "keyring"}
    path = tmp_path / "config.toml"
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    settings = config.load(environment={"IBKR_OAUTH_CONFIG": str(path)})
    assert settings.profile == parsed["default_profile"]
    key = settings.get("signing_key")
    assert key is not None
    assert Path(key.text).is_relative_to(tmp_path)


@pytest.mark.parametrize("text", blocks("ini"))
def test_units_of_systemd(text: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert Path(unit["Service"]["ExecStart"].split()[0]).is_absolute()


def test_variables_that_pages_name_are_read() -> None:
    ours = {name for setting in config._SETTINGS for name in setting.variables}
    ours |= {config._KEYS_DIR, config._PROFILE, config._CONFIG, config._KEY_PASSWORD, config._DH_GENERATOR}
    ours |= {"IBKR_OAUTH_INSECURE_PERMISSIONS"}
    for page in PAGES:
        for name in re.findall(r"\b(?:IBKR_OAUTH|IBIND)_[A-Z0-9_]*[A-Z0-9]\b", page.read_text("utf-8")):
            assert name in ours, f"{page.name}: {name}"


# --- Tables --------------------------------------------------------------------------------------


def test_settings() -> None:
    told = rows("configuration.md", "Setting | Variable | File in the folder of keys")
    assert told == [[one.name, one.variables[0], one.file or ""] for one in config._SETTINGS]


def test_names_of_ibind() -> None:
    """Those on the left exist in ibind, those on the right in ours, and they are the same setting."""
    client = pytest.importorskip("ibind.client.ibkr_client").IbkrClient
    import ibind.var

    ours = {name: one.variables[0] for one in config._SETTINGS for name in one.variables[1:]}
    told = rows("migrating.md", "ibind | ibkr_oauth")
    assert dict(told) == ours
    for name in ours:
        assert name in Path(ibind.var.__file__).read_text("utf-8"), name
    methods = rows("migrating.md", "Method of ibind | Of a session here | Difference")
    assert len(methods) > 10
    for theirs, mine, _ in methods:
        assert hasattr(client, theirs), theirs
        assert hasattr(Session, mine), mine
    text = (DOCS / "migrating.md").read_text("utf-8")
    calls = re.findall(r"`client\.(\w+)\(", text)
    assert calls
    for name in calls:
        assert hasattr(client, name), name
    for name in re.findall(r"`ibkr\.(\w+)\(", text):
        assert hasattr(Session, name), name


@pytest.fixture(scope="module")
def generate(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("docs/generate.py")


def test_the_page_of_commands_is_that_of_the_code(generate: ModuleType) -> None:
    assert (DOCS / "commands.md").read_text("utf-8") == generate.commands_page(), "run python docs/generate.py"


# --- Protocol and drawings -----------------------------------------------------------------------


def test_the_worked_example_is_a_vector(project: Path) -> None:
    import json

    vectors = json.loads((project / "tests/vectors/vectors.json").read_text("utf-8"))
    vector = next(one for one in vectors["hmac_requests"] if one["id"] == "GET_portfolio_accounts")
    text = (DOCS / "protocol.md").read_text("utf-8")
    for name in ("url", "consumer_key", "oauth_token", "nonce", "timestamp", "live_session_token", "signature_base64"):
        assert f"{vector[name]}" in text, name
    assert f"print(base_string[:40])  # {vector['base_string'][:40]}\n" in text
    assert f"print(signature)  # {vector['signature_base64']}\n" in text


@pytest.mark.parametrize("path", sorted((DOCS / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_drawings_have_words(path: Path) -> None:
    """For those who cannot see them, and in the colours of the page: no colour of its own."""
    drawing = ET.fromstring(path.read_text("utf-8"))
    title, description = drawing[0], drawing[1]
    assert drawing.get("role") == "img"
    assert drawing.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert description.text
    assert len(description.text) > 100
    assert "#" not in re.sub(r"url\(#[\w-]+\)", "", path.read_text("utf-8"))
