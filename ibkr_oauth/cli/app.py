"""The program: its commands, imported when they are called, and the one place where errors end."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from . import common

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name, where the command is, and the line in the list. A command's module is imported when it is called.
COMMANDS = {
    "init": (".init:command", "Set up: keys, IBKR's portal, token, profile, and a first signed call."),
    "keygen": (".keygen:command", "Make the keys and parameters that IBKR's portal asks for."),
    "keys": (".keys:command", "Say what each key file is and where it belongs."),
    "import": (".imports:command", "Take over the set-up of another client."),
    "config": (".config:command", "Show the settings and where each of them comes from."),
    "login": (".login:command", "Third parties: let a user grant access, and keep the access token."),
    "doctor": (".doctor:command", "Find out what is wrong, and on which side."),
    "wait": (".wait:command", "Wait until IBKR has activated a new consumer key."),
    "token": (".token:command", "Show, renew or forget the live session token."),
    "status": (".status:command", "Show the state of the session."),
    "get": (".call:get", "Make a signed GET."),
    "post": (".call:post", "Make a signed POST."),
    "put": (".call:put", "Make a signed PUT."),
    "delete": (".call:delete", "Make a signed DELETE."),
    "sign": (".sign:command", "Print the Authorization header for a request."),
    "explain": (".explain:command", "Say what an answer or error of IBKR's means."),
    "logout": (".logout:command", "End the brokerage session."),
    "sandbox": (".sandbox:command", "Play IBKR on this machine, for programs in any language."),
    "demo": (".demo:command", "Show every leg of the login, against a sandbox on this machine."),
}


class Program(click.Group):
    """A group that knows its commands without importing them, and what to do with their errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module, __package__), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows: Sequence[tuple[str, str]] = [(str(code), what) for code, what in common.EXIT_CODES]
        with formatter.section("Exit codes"):
            formatter.write_dl(rows)
        with formatter.section("Completion with the Tab key"):
            formatter.write_dl([(shell, common.completion(shell)) for shell in ("bash", "zsh", "fish")])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            ctx.exit(common.EXIT_INTERRUPTED)
        except Exception as error:  # whatever it is, a person gets words for it
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has gone: click ends the program quietly
            ctx.exit(common.report(error, common.settings(ctx)))


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from ibkr_oauth import _core  # noqa: PLC0415
    from ibkr_oauth._version import VERSION  # noqa: PLC0415

    libraries = ", ".join(_core.versions().values())
    click.echo(f"ibkr_oauth {VERSION} ({libraries})")
    ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Interactive Brokers' OAuth 1.0a: from the keys to signed calls, and what to do where it fails.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the versions of this package and of the libraries it runs on.",
)
@common.debug_option
def program() -> None:
    """What is said for people is `help` above."""
