"""`ibkr-oauth import`: takes over what another client has been working with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibkr_oauth import config, errors, importing

from . import common, doctor

if TYPE_CHECKING:
    from ibkr_oauth.doctor import Report

_DEFAULT_PROFILE = "default"


@click.command("import")
@click.argument("source", metavar="SOURCE")
@click.option("--profile", metavar="NAME", default=_DEFAULT_PROFILE, show_default=True, help="The profile to make.")
@click.option("--user", metavar="NAME", help="Which user, where IBKR's sample file has several.")
@click.option("--force", is_flag=True, help="Replace the settings of a profile that exists; its keys stay.")
@click.option("--keyring", is_flag=True, help="Keep the access token secret in the system's keyring.")
@click.option("--base-url", metavar="URL", help="Where to call: a sandbox, or another host of IBKR's.")
@click.option("--ca-file", type=click.Path(), help="Trust the authority in this PEM file.")
@common.output_options
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    profile: str,
    user: str | None,
    force: bool,
    keyring: bool,
    base_url: str | None,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Make a profile of the set-up that another client has.

    SOURCE is a file, a folder of PEM files, or `env` for the variables of this process. Recognised
    by content are the variables of ibind (also in a .env file), ibkr-conduit and ibkr_web_client,
    ibkr-credentials.json of ibkr-conduit, oauth1.json of ibkr-client, and IBKR's sample JSON. A
    folder of PEM files gets its tokens from IBKR_OAUTH_CONSUMER_KEY, IBKR_OAUTH_ACCESS_TOKEN and
    IBKR_OAUTH_ACCESS_TOKEN_SECRET.

    Keys that the source holds as text become files that only you can read; the source is not
    changed. Ends with the checks of `ibkr-oauth doctor --offline`.
    """
    config._check_name(profile)  # before it becomes the name of a folder
    is_there = profile in config.profile_names()
    if is_there and not force:
        raise errors.ConfigurationError(
            f"profile {profile}: it exists in {config.config_file()}",
            advice="Give another name with --profile, or replace its settings with --force.",
        )
    setup = importing.read(source, user=user)
    converted = importing.convert(setup, Path(config.config_file()).parent / "keys" / profile)
    values = dict(converted.values)
    values.update({name: text for name, text in (("base_url", base_url), ("ca_file", ca_file)) if text})
    former = dict.fromkeys(config.NAMES, "") if is_there else {}  # an empty text removes a setting
    file = config.save_profile(profile, {**former, **values}, keyring=keyring)
    if not as_json:
        _show(setup, converted, profile, file)
    report = None if setup.missing else doctor._examine(config.load(profile), offline=True, as_json=as_json)
    if as_json:
        common.print_json(_as_document(setup, converted, profile, file, report))
    elif report is not None:
        doctor._conclude(report, None)
    if report is not None:
        ctx.exit(doctor._exit_code(report))


def _show(setup: importing.Setup, converted: importing.Converted, profile: str, file: str) -> None:
    from rich.text import Text  # noqa: PLC0415 - `--help` does without

    console = common.make_console()
    click.echo(f"Found: {setup.kind}")
    written = {str(path) for path in converted.written}
    for one in config.load(profile).masked():
        if one.name in setup.fields:
            is_new = converted.values.get(one.name) in written
            target = f"{'written to ' if is_new else ''}{common.printable(one.value or '')}"
            origin = Text(f"from {common.printable(setup.fields[one.name])}: {target}")
            common.print_hanging(console, Text(f"  {one.name:<20} "), origin)
    common.say(f"Stored as profile {profile} in {file}")
    if setup.missing:
        missing = ", ".join(name.replace("_", " ") for name in setup.missing)
        click.echo(f"Missing: {missing}\nGo on with: ibkr-oauth init --profile {profile}")


def _as_document(
    setup: importing.Setup, converted: importing.Converted, profile: str, file: str, report: Report | None
) -> dict[str, object]:
    return {
        "kind": setup.kind,
        "profile": profile,
        "file": file,
        "fields": dict(setup.fields),
        "written": [str(path) for path in converted.written],
        "missing": list(setup.missing),
        "doctor": None if report is None else report.as_document(),
    }
