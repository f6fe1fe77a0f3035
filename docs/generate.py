"""Writes those pages that are made from the code: `python docs/generate.py`, or with `--check` says which are stale."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ibkr_oauth import advice, errors

if TYPE_CHECKING:
    import click

HERE = Path(__file__).parent

_FAMILIES: tuple[tuple[type[errors.IBKROAuthError], str], ...] = (
    (errors.AuthorizationError, "The credentials are refused"),
    (errors.LiveSessionTokenError, "The live session token"),
    (errors.BrokerageError, "The brokerage session"),
    (errors.ServiceError, "Pace, maintenance, and other answers"),
    (errors.TransportError, "Network and certificates"),
    (errors.ConfigurationError, "Keys, files and settings"),
    (errors.UsageError, "Calls that cannot work"),
    (errors.StoreError, "The place of the live session token"),
)


def troubleshooting_page() -> str:
    """Every text of `ibkr_oauth.advice`, what it means, and what to do."""
    lines = [
        "# Troubleshooting",
        "",
        "Search this page for the text that you see; the number after `id:` differs each time and means nothing.",
        "On your machine `ibkr-oauth explain` does the same, with a whole answer, a line of a log or a traceback on",
        "standard input, and `ibkr-oauth doctor` finds the cause by itself. In programs there is `error.advice`.",
        "",
        "This page is made from the table that the library classifies answers by: `python docs/generate.py`.",
    ]
    for family, title in _FAMILIES:
        lines += ["", f"## {title}"]
        for entry in advice.ENTRIES:
            if issubclass(entry.kind, family):
                lines += _entry(entry)
    return "\n".join(lines) + "\n"


def _entry(entry: advice.Entry) -> list[str]:
    status = " or ".join(str(one) for one in entry.status)
    facts = [f"raises `{entry.kind.__name__}`"]
    if status:
        facts.insert(0, f"status {status}")
    if entry.paths:
        facts.insert(1, f"at {', '.join(f'`{path}`' for path in entry.paths)}")
    return [
        "",
        f"### {_heading(entry.says)}",
        "",
        f"{entry.means} ({', '.join(facts)})",
        "",
        *(f"- {cause}" for cause in entry.causes),
        "",
        f"**What to do:** {entry.remedy}",
    ]


def _heading(says: str) -> str:
    """As code, since it is somebody's exact text."""
    return f"`{says}`"


# --- Mistakes that doctor finds --------------------------------------------------------------------


def mistakes_page() -> str:
    """Every mistake that the tests make for real, what it looks like, and what doctor says to it."""
    # The table is the tests' own, so that the page says nothing that is not shown.
    sys.path.insert(0, str(HERE.parent / "tests"))
    try:
        from doctor.mistakes import MISTAKES  # noqa: PLC0415 - found there only now
    finally:
        del sys.path[0]
    lines = [
        "# What `ibkr-oauth doctor` finds",
        "",
        "Doctor checks every key file and value, asks the service step by step, and ends in one verdict with the next",
        "step. Each of these mistakes and refusals is made for real by the tests, in files or in the sandbox; … stands",
        f"for paths, times and fingerprints. There are {len(MISTAKES)} of them.",
        "",
        "The word in the fourth column is `cause` in the output of `ibkr-oauth doctor --json`. For the exact texts of",
        "IBKR's answers see [Troubleshooting](troubleshooting.md).",
        "",
        "This page is made from the table of those tests: `python docs/generate.py`.",
        "",
        "| What happened | What IBKR says | What doctor says | Cause | What to do |",
        "|---|---|---|---|---|",
    ]
    for one in MISTAKES:
        says = "is not asked, or answers well" if one.says is None else f"`{one.says}`"
        cells = (_capital(one.did), says, one.verdict, f"`{one.cause}`", one.step)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- Commands ----------------------------------------------------------------------------------------


def commands_page() -> str:
    """The help of every command as it prints it, and the exit codes."""
    import click  # noqa: PLC0415 - the other pages need no more than the library

    from ibkr_oauth.cli import app, common  # noqa: PLC0415 - as above

    lines = [
        "# Commands",
        "",
        "`ibkr-oauth COMMAND --help` prints what stands here. Every command that prints a result takes `--json`: one",
        "JSON document on standard output, for programs. No secret is taken from the command line's arguments.",
        "",
        "This page is made from the commands themselves: `python docs/generate.py`.",
        "",
        "| Command | What it does |",
        "|---|---|",
        *(f"| [`{name}`](#ibkr-oauth-{name}) | {line} |" for name, (_, line) in app.COMMANDS.items()),
        "",
        "## Exit codes",
        "",
        "| Code | Meaning |",
        "|---|---|",
        *(f"| {code} | {_capital(meaning)} |" for code, meaning in common.EXIT_CODES),
    ]
    lines += [
        "",
        "## Completion",
        "",
        "Commands, options and the names of profiles, with the Tab key. In `~/.bashrc` (bash 4.4 or later):",
        "",
        *_shell(common.completion("bash")),
        "",
        "In `~/.zshrc`, after `compinit`:",
        "",
        *_shell(common.completion("zsh")),
        "",
        "In `~/.config/fish/completions/ibkr-oauth.fish`:",
        "",
        *_shell(common.completion("fish")),
    ]
    with click.Context(app.program, info_name="ibkr-oauth", **app.program.context_settings) as root:
        for name in app.COMMANDS:
            command = app.program.get_command(root, name)
            assert command is not None
            lines += _help(command, name, root, level=2)
    return "\n".join(lines) + "\n"


def _shell(line: str) -> list[str]:
    return ["```sh", line, "```"]


def _help(command: click.Command, name: str, parent: click.Context, level: int) -> list[str]:
    import click  # noqa: PLC0415 - as above

    # 88 columns fit into the page beside its navigation.
    context = click.Context(command, info_name=name, parent=parent, terminal_width=88, **command.context_settings)
    text = command.get_help(context)
    lines = ["", f"{'#' * level} `{context.command_path}`", "", "```text", *map(str.rstrip, text.splitlines()), "```"]
    for inner, part in getattr(command, "commands", {}).items():
        lines += _help(part, inner, context, level + 1)
    return lines


#: Where each page goes, and what makes it.
PAGES: dict[str, Callable[[], str]] = {
    "troubleshooting.md": troubleshooting_page,
    "mistakes.md": mistakes_page,
    "commands.md": commands_page,
}


def main() -> int:
    """Exit status: 1 where `--check` finds a stale page."""
    check, stale = "--check" in sys.argv[1:], 0
    for name, make in PAGES.items():
        path, page = HERE / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
            sys.stderr.write(f"{path} is stale: run python docs/generate.py\n")
            stale = 1
        elif not check:
            path.write_text(page, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
