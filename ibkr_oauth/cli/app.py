"""The program: its commands, imported when they are called, and the one place where errors end."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from . import common

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Name, module, and the line in the list. A command module is imported when its command is called.
COMMANDS = {
    "demo": (".demo", "Show every leg of the login, against a sandbox on this machine."),
    "keygen": (".keygen", "Make the keys and parameters that IBKR's portal asks for."),
    "sandbox": (".sandbox", "Play IBKR on this machine, for programs in any language."),
}


class Program(click.Group):
    """A group that knows its commands without importing them, and what to do with their errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0], __package__).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        rows: Sequence[tuple[str, str]] = [(str(code), what) for code, what in common.EXIT_CODES]
        with formatter.section("Exit codes"):
            formatter.write_dl(rows)

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
    help="Interactive Brokers' OAuth 1.0a: keys, a look at every leg, and a sandbox to test against.",
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
