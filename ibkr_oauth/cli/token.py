"""`ibkr-oauth token`: the live session token that is kept between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibkr_oauth.clock import duration
from ibkr_oauth.oauth import DEFAULT_BASE_URL

from . import common

if TYPE_CHECKING:
    from ibkr_oauth import LiveSessionToken, config
    from ibkr_oauth.stores import FileStore


@click.group("token")
def command() -> None:
    """Show, renew or forget the live session token that commands share.

    It signs all calls for about a day. The token itself is never shown.
    """


@command.command("show")
@common.profile_options
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show where it is kept, its fingerprint, and until when it is good."""
    settings = common.load_settings(ctx)
    store = settings.store()
    _tell(_kept(settings, store), store, as_json)


@command.command("refresh")
@common.profile_options
@click.pass_context
def refresh(ctx: click.Context, as_json: bool) -> None:
    """Agree with IBKR on another one, and keep that."""
    settings = common.load_settings(ctx)
    with common.open_session(ctx) as session:
        session.refresh()
    store = settings.store()
    _tell(_kept(settings, store), store, as_json)


@command.command("clear")
@common.profile_options
@click.pass_context
def clear(ctx: click.Context, as_json: bool) -> None:
    """Forget it on this machine. The next call agrees on another one."""
    store = common.load_settings(ctx).store()
    was_there = store.clear()
    if as_json:
        common.print_json({"file": store.path, "cleared": was_there})
    else:
        click.echo(f"{'removed' if was_there else 'there was no token in'} {store.path}")


def _kept(settings: config.Settings, store: FileStore) -> LiveSessionToken | None:
    """Only that of the credentials which are set now: another one would not be used."""
    names = [settings.get(name) for name in ("consumer_key", "access_token")]
    consumer_key, access_token = (None if one is None else one.text.strip() for one in names)
    if consumer_key is None or access_token is None:
        return None
    return store.load(consumer_key, access_token, settings.options().get("base_url", DEFAULT_BASE_URL))


def _tell(token: LiveSessionToken | None, store: FileStore, as_json: bool) -> None:
    if as_json:
        common.print_json(_as_document(token, store))
    elif token is None:
        click.echo(f"none is kept in {store.path}: the next call agrees on one")
    else:
        state = "expired" if token.expired else f"good for {duration(token.remaining)}"
        click.echo(f"consumer key  {common.printable(token.consumer_key or '')}")
        click.echo(f"fingerprint   {token.fingerprint}")
        click.echo(f"expires       {token.expires_at:%Y-%m-%d %H:%M:%S} UTC, {state}")
        click.echo(f"kept in       {store.path}")


def _as_document(token: LiveSessionToken | None, store: FileStore) -> dict[str, object]:
    if token is None:
        return {"file": store.path, "token": None}
    return {
        "file": store.path,
        "token": {
            "consumer_key": token.consumer_key,
            "fingerprint": token.fingerprint,
            "expires_at": token.expires_at.isoformat(timespec="seconds"),
            "expired": token.expired,
            "remaining_seconds": max(0, round(token.remaining.total_seconds())),
        },
    }
