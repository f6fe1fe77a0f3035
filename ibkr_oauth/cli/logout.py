"""`ibkr-oauth logout`: the end of the brokerage session."""

from __future__ import annotations

import click

from . import common


@click.command("logout")
@common.profile_options
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """End the brokerage session of the user name, whichever program opened it.

    Access token and live session token stay good; `ibkr-oauth token clear` forgets the latter here.
    """
    with common.open_session(ctx, brokerage="never") as session:
        session.post("/logout").raise_for_status()
    if as_json:
        common.print_json({"logged_out": True})
    else:
        click.echo("the brokerage session is closed; tokens stay")
