"""`ibkr-oauth config`: the settings, and where each of them comes from."""

from __future__ import annotations

from pathlib import Path

import click

from ibkr_oauth import config, errors

from . import common


@click.group("config")
def command() -> None:
    """Show the settings and where each of them comes from."""


@command.command("show")
@common.profile_options
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show each setting and its source; secrets are masked.

    Sources in the order of asking: the profile that was chosen, the environment, the default
    profile, the folder of keys. Where two disagree, the first one is used and the other one named.
    """
    settings = common.load_settings(ctx)
    path = config.config_file()
    if as_json:
        common.print_json(_as_document(settings, path))
    else:
        _show(settings, path)


def _as_document(settings: config.Settings, path: str) -> dict[str, object]:
    return {
        "file": path,
        "profile": settings.profile,
        "settings": {one.name: {"value": one.value, "origin": one.origin} for one in settings.masked()},
        "conflicts": [
            {"name": one.name, "used": one.used.origin, "other": one.other.origin} for one in settings.conflicts
        ],
    }


def _show(settings: config.Settings, path: str) -> None:
    from rich.text import Text  # noqa: PLC0415 - `--help` does without

    console = common.make_console()
    for one in settings.masked():
        value = Text("-", "dim")
        if one.value is not None:
            origin = (f"  from {common.printable(one.origin or '')}", "dim")
            value = Text.assemble((common.printable(one.value), "bold"), origin)
        common.print_hanging(console, Text(f"{one.name:<20} "), value)
    for conflict in settings.conflicts:
        words = Text(common.printable(str(conflict)), "yellow")
        common.print_hanging(console, Text("conflict: ", "yellow"), words)
    profile = "no profile" if settings.profile is None else f"profile {settings.profile}"
    common.say(f"{profile}; profiles are kept in {path}{'' if Path(path).exists() else ', not there yet'}")


@command.command("path")
@common.output_options
def path(as_json: bool) -> None:
    """Print the path of the file of profiles, whether it is there or not."""
    file = config.config_file()
    if not as_json:
        click.echo(file)
        return
    try:
        profiles: list[str] | None = config.profile_names()
    except errors.ConfigurationError:  # the path is what was asked for; `config show` says what is wrong
        profiles = None
    common.print_json({"path": file, "exists": Path(file).exists(), "profiles": profiles})
