"""What all commands share: `--json` and `--debug`, output, errors and their exit codes."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

import click

from ibkr_oauth import errors
from ibkr_oauth.redact import redact

from . import EXIT_USAGE, missing_extra

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ibkr_oauth import Session, config
    from ibkr_oauth.sandbox import Sandbox
    from ibkr_oauth.session import SessionOptions

EXIT_UNEXPECTED = 1
EXIT_INTERRUPTED = 130

_FAMILIES: tuple[tuple[type[errors.IBKROAuthError], int, str], ...] = (
    (errors.ConfigurationError, 3, "configuration: a key, file or setting cannot work"),
    (errors.AuthorizationError, 4, "authorization: the credentials were refused"),
    (errors.LiveSessionTokenError, 5, "live session token: it could not be agreed on"),
    (errors.BrokerageError, 6, "brokerage: the brokerage session was refused or lost"),
    (errors.TransportError, 7, "transport: no usable answer came back"),
    (errors.ServiceError, 8, "service: another answer than asked for, or maintenance"),
    (errors.UsageError, 9, "usage: a value or a call that cannot work"),
    (errors.StoreError, 10, "store: tokens could not be read or kept"),
)

#: For `--help`, the documentation and the tests.
EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (EXIT_UNEXPECTED, "an error of no family below"),
    (EXIT_USAGE, "wrong command line, or an extra is not installed"),
    *((code, meaning) for _, code, meaning in _FAMILIES),
    (EXIT_INTERRUPTED, "stopped with Ctrl-C"),
)


def completion(shell: str) -> str:
    """The line that sets up completion in bash, zsh or fish, for `--help` and the documentation."""
    if shell == "fish":
        return "_IBKR_OAUTH_COMPLETE=fish_source ibkr-oauth | source"
    return f'eval "$(_IBKR_OAUTH_COMPLETE={shell}_source ibkr-oauth)"'


@dataclass
class Settings:
    """The options that every command has."""

    json: bool = False
    debug: bool = False
    profile: str | None = None


def settings(ctx: click.Context) -> Settings:
    """Those of this run of the program, filled while its command line is read."""
    return ctx.find_root().ensure_object(Settings)


_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def _keep_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    settings(ctx).json |= value
    return value


def _keep_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    settings(ctx).debug |= value


def debug_option(command: _Decorated) -> _Decorated:
    """`--debug`: the only way to see a traceback."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_keep_debug,
        help="Show the traceback of an error.",
    )(command)


def _keep_profile(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    settings(ctx).profile = value or settings(ctx).profile


def output_options(command: _Decorated) -> _Decorated:
    """`--json`, the argument `as_json`: one JSON document on standard output in place of text; and `--debug`."""
    as_json = click.option("--json", "as_json", is_flag=True, callback=_keep_json, help="Print one JSON document.")
    return as_json(debug_option(command))


def profile_options(command: _Decorated) -> _Decorated:
    """`--profile`: whose settings `load_settings` and `open_session` use; and `output_options`."""
    return click.option(
        "--profile",
        metavar="NAME",
        expose_value=False,
        callback=_keep_profile,
        shell_complete=_complete_profile,
        help="Use this profile of the configuration file; by default IBKR_OAUTH_PROFILE, else its default profile.",
    )(output_options(command))


def _complete_profile(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from ibkr_oauth import config  # noqa: PLC0415 - as below

    try:
        return [name for name in config.profile_names() if name.startswith(incomplete)]
    except errors.ConfigurationError:
        return []


def load_settings(ctx: click.Context) -> config.Settings:
    """Those of the profile that was chosen, of the environment and of the configuration file. Raises
    ConfigurationError."""
    from ibkr_oauth import config  # noqa: PLC0415 - `--help` does without

    return config.load(settings(ctx).profile)


def open_session(ctx: click.Context, **options: Unpack[SessionOptions]) -> Session:
    """A session with those settings. Commands share its live session token: it is kept in the
    profile's store.

    Nothing is sent yet, and no tickle will be: commands are short. Raises ConfigurationError and
    UsageError.
    """
    from ibkr_oauth import Session  # noqa: PLC0415 - as above

    found = load_settings(ctx)
    defaults = {"keep_alive": None, "store": found.store(), **found.options()}
    return Session(found.consumer(), found.access_token(), **cast("SessionOptions", {**defaults, **options}))


def make_console(*, stderr: bool = False) -> Console:
    """For text that may come from a server: no mark-up in it is obeyed."""
    from rich.console import Console  # noqa: PLC0415 - `--help` does without

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def say(text: str, *, err: bool = False) -> None:
    """Sentences, which a narrow terminal breaks between words and not within them."""
    console = make_console(stderr=err)
    console.print(text, soft_wrap=not console.is_terminal)


def print_hanging(console: Console, head: Text, rest: Text) -> None:
    """`head` and then `rest`, whose further lines on a terminal begin below its first."""
    from rich.table import Table  # noqa: PLC0415 - as above

    if not console.is_terminal:
        console.print(head + rest, soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(no_wrap=True, width=head.cell_len)
    grid.add_column(overflow="fold")
    grid.add_row(head, rest)
    console.print(grid)


def printable(text: str) -> str:
    """Without control characters, which could steer the terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


def print_json(document: object, *, indent: int | None = 2) -> None:
    """To standard output, at once."""
    click.echo(json.dumps(document, indent=indent, ensure_ascii=False))


# --- Errors ---------------------------------------------------------------------------------------


def exit_code(error: BaseException) -> int:
    """By the error's family."""
    for kind, code, _ in _FAMILIES:
        if isinstance(error, kind):
            return code
    return EXIT_UNEXPECTED


def _describe(error: Exception) -> dict[str, object]:
    """The error in a JSON document."""
    message, advice = _words(error)
    code = error.code if isinstance(error, errors.IBKROAuthError) else "unexpected"
    return {"code": code, "message": message, "advice": advice, "exit_code": exit_code(error)}


def report(error: Exception, options: Settings, document: dict[str, object] | None = None) -> int:
    """Tell what went wrong and what to do next, in words or in a JSON document. Returns the exit
    code."""
    if options.debug:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if options.json:
        print_json({**(document or {}), "error": _describe(error)})
    else:
        _show_error(error)
    return exit_code(error)


def _show_error(error: Exception) -> None:
    """Message and advice on standard error, in red where there are colours."""
    from rich.text import Text  # noqa: PLC0415

    console = make_console(stderr=True)
    message, advice = _words(error)
    lines = Text.assemble((f"error: {printable(message)}", "bold red"), f"\n{printable(advice)}")
    console.print(lines, soft_wrap=not console.is_terminal)


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, errors.IBKROAuthError):
        return error.message, error.advice
    return (
        f"{type(error).__name__}: {redact(str(error))}",
        "This should not happen. Run it again with --debug and report what it shows.",
    )


# --- The sandbox's extra --------------------------------------------------------------------------


class MissingExtra(click.ClickException):
    """A package of an extra is not installed."""

    exit_code = EXIT_USAGE


def import_sandbox() -> type[Sandbox]:
    """The class `Sandbox`. Raises MissingExtra where its extra is not installed."""
    try:
        from ibkr_oauth.sandbox import Sandbox  # noqa: PLC0415 - what it stands on takes 0.5 s to import
    except ImportError as error:
        raise MissingExtra(missing_extra("cli,sandbox", error)) from None
    return Sandbox
