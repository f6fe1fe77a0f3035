"""`ibkr-oauth explain`: what an answer or an error means, and what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ibkr_oauth.redact import redact

from . import common

if TYPE_CHECKING:
    from ibkr_oauth import advice

#: How many explanations are told; the best one comes first, and the others seldom help.
_MOST = 3
#: Bytes that are read from standard input.
_MAX_TEXT = 200_000


@click.command("explain")
@click.argument("text", nargs=-1)
@common.output_options
@click.pass_context
def command(ctx: click.Context, text: tuple[str, ...], as_json: bool) -> None:
    """Say what TEXT means: a message, a JSON body, a whole answer, a traceback, a line of a log.

    Without TEXT, or with -, it is read from standard input. Nothing is sent. Ends with 1 where
    nobody knows the text.
    """
    from ibkr_oauth import advice  # noqa: PLC0415 - `--help` does without

    given = " ".join(text)
    if given in ("", "-"):
        if sys.stdin.isatty():
            click.echo("Paste the message, then press Ctrl-D:", err=True)
        given = sys.stdin.buffer.read(_MAX_TEXT).decode(errors="replace")
    if not given.strip():
        raise click.UsageError("there is no text: give it as an argument, or on standard input")
    heard = advice.hear(given)
    entries = advice.explain_heard(heard)
    is_known = bool(entries) and advice.is_recognised(entries[0], heard)
    if as_json:
        common.print_json(_as_document(heard, entries, is_known))
    else:
        _show(heard, entries, is_known)
    ctx.exit(0 if entries else 1)


def _words(heard: advice.Heard) -> str:
    """What was made out of it, in one line and without secrets."""
    words = " ".join(redact(heard.text, limit=200).split())
    status = "" if heard.status is None or words.startswith(str(heard.status)) else str(heard.status)
    return " ".join(part for part in (status, redact(heard.path), words) if part)


def _as_document(heard: advice.Heard, entries: list[advice.Entry], is_known: bool) -> dict[str, object]:
    return {
        "heard": {
            "status": heard.status,
            "path": redact(heard.path) or None,
            "text": redact(heard.text),
            "error": None if heard.kind is None else heard.kind.__name__,
        },
        "recognised": is_known,
        "explanations": [
            {
                "id": entry.id,
                "says": entry.says,
                "status": list(entry.status),
                "error": entry.kind.__name__,
                "code": entry.kind.default_code,
                "means": entry.means,
                "causes": list(entry.causes),
                "remedy": entry.remedy,
            }
            for entry in entries[:_MOST]
        ],
    }


def _show(heard: advice.Heard, entries: list[advice.Entry], is_known: bool) -> None:
    from rich.text import Text  # noqa: PLC0415 - `--help` does without

    console = common.make_console()

    def say(text: str, style: str = "", head: str = "") -> None:
        common.print_hanging(console, Text(head), Text(text, style))

    say(common.printable(_words(heard)), "dim", head="heard: ")
    if not entries:
        say("\nThis text is not known.\n", "bold")
        say(
            "What to do: give the whole answer, with its status and body, for instance\n"
            "  curl -i … 2>&1 | ibkr-oauth explain\n"
            "or let `ibkr-oauth doctor` look for the cause. If it is IBKR's, report the text with its status and "
            "path, so that it can be added."
        )
        return
    if not is_known:
        what = f"its status {heard.status}" if heard.kind is None else f"the error {heard.kind.__name__}"
        say(f"\nThe text itself is not known. This is what {what} means:", "yellow")
    first, *others = entries[:_MOST]
    say(f"\n{first.means}\n", "bold")
    say("Likely causes:")
    for cause in first.causes:
        say(cause, head="  - ")
    say("")
    say(first.remedy, "green", head="What to do: ")
    say(f"\nThe library raises {first.kind.__name__}.", "dim")
    if others:
        say("\nLess likely:", "dim")
    for entry in others:
        say(f"{entry.says}: {entry.means}", head="  - ")
