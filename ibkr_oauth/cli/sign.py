"""`ibkr-oauth sign`: the Authorization header for a request that another tool sends."""

from __future__ import annotations

import click

from ibkr_oauth.signing import QuerySigning

from . import common
from .call import query_signing_option


@click.command("sign")
@click.argument("method")
@click.argument("url")
@query_signing_option
@common.profile_options
@click.pass_context
def command(ctx: click.Context, method: str, url: str, query_signing: QuerySigning, as_json: bool) -> None:
    """Print the Authorization header for METHOD and URL, to be sent once and within a minute or so.

    URL is a path below base_url, or the whole address as it will be sent, with its query:

        curl -H "$(ibkr-oauth sign GET URL)" URL

    Agrees on a live session token where none is kept. Whoever has the header can make this one
    request: do not publish it.
    """
    with common.open_session(ctx, query_signing=query_signing, brokerage="never") as session:
        whole = url if "://" in url else f"{session.base_url}/{url.removeprefix('/')}"
        signed = session.sign(method.upper(), whole)
    if as_json:
        common.print_json({"method": signed.method, "url": signed.url, "headers": signed.headers})
    else:
        click.echo(f"Authorization: {signed.headers['Authorization']}")
