"""`ibkr-oauth doctor`: what is wrong, on which side, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibkr_oauth.errors import ConfigurationError

from . import common

if TYPE_CHECKING:
    from ibkr_oauth import config
    from ibkr_oauth.doctor import Finding, Report

# Read without colours as well.
_MARKS = {
    "good": ("ok  ", "green"),
    "bad": ("BAD ", "bold red"),
    "warning": ("warn", "yellow"),
    "skipped": ("-   ", "dim"),
}


@click.command("doctor")
@click.option("--offline", is_flag=True, help="Check files and values only, and send nothing.")
@click.option(
    "--bundle",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Also write a zip file with the findings that is safe to post: it holds no secret.",
)
@common.profile_options
@click.pass_context
def command(ctx: click.Context, offline: bool, bundle: str | None, as_json: bool) -> None:
    """Find out what is wrong, and on which side.

    Checks every key file and setting, then asks the service, one step after the other: the name, the
    connection, the clock, the live session token, a signed call, the brokerage session. Ends in one
    verdict and the next step. Nobody is thrown out, and a brokerage session that it opens it closes.

    The exit code is 0 where nothing is wrong, else that of the error's family, see `ibkr-oauth --help`.
    """
    from ibkr_oauth import doctor  # noqa: PLC0415 - `--help` does without

    settings: config.Settings | None = None
    try:
        settings = common.load_settings(ctx)
    except ConfigurationError as error:
        report = doctor.unreadable(error)
    else:
        report = _examine(settings, offline, as_json)
    path = None if bundle is None else doctor.write_bundle(bundle, report, settings)
    if as_json:
        common.print_json({**report.as_document(), "bundle": path})
    else:
        _conclude(report, path)
    ctx.exit(_exit_code(report))


def _examine(settings: config.Settings, offline: bool, as_json: bool) -> Report:
    """With a line for each step as it is done."""
    from ibkr_oauth import doctor  # noqa: PLC0415 - as above

    if as_json:
        return doctor.diagnose(settings, offline=offline)
    from rich.text import Text  # noqa: PLC0415 - as above

    console = common.make_console()

    def show(finding: Finding) -> None:
        mark, style = _MARKS[finding.state]
        detail = Text(common.printable(finding.detail), style if finding.state != "good" else "")
        common.print_hanging(console, Text.assemble((mark, style), "  "), Text.assemble(f"{finding.title}: ", detail))

    with console.status("checking …") if console.is_terminal else _Quiet():
        return doctor.diagnose(settings, offline=offline, on_finding=show)


class _Quiet:
    """In place of a spinner, where nobody would see it turn."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def _conclude(report: Report, path: str | None) -> None:
    from rich.text import Text  # noqa: PLC0415 - as above

    console = common.make_console()
    style = "bold green" if report.good else "bold red"
    console.print()
    common.print_hanging(console, Text("Verdict: ", "bold"), Text(common.printable(report.verdict), style))
    common.print_hanging(console, Text("Next:    ", "bold"), Text(common.printable(report.next_step)))
    if path is not None:
        click.echo(f"Bundle:  {path} (no secret in it)")


def _exit_code(report: Report) -> int:
    deciding = report.deciding
    if report.good or deciding is None or deciding.kind is None:
        return 0
    return common.exit_code(deciding.kind(deciding.detail))
