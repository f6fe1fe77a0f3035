"""`ibkr-oauth login`: the three legs of a third party, for one user, and the access token into a profile."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from ibkr_oauth import config, errors
from ibkr_oauth.redact import mask

from . import common, prompts

if TYPE_CHECKING:
    from ibkr_oauth import AccessToken
    from ibkr_oauth.login import Login


@click.command("login")
@click.option(
    "--callback",
    metavar="URL",
    help="The callback that is registered with the consumer key. One on this machine, such as "
    "http://127.0.0.1:20000/, is listened to; else the address that the browser ends at is pasted.",
)
@click.option("--listen", is_flag=True, help="Listen at the callback over SSH too: its port is forwarded (ssh -L).")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option("--authorize-url", metavar="URL", help="The page where users grant access; by default IBKR's.")
@click.option("--keyring", is_flag=True, help="Keep the access token secret in the system's keyring.")
@click.option(
    "--timeout", type=click.FloatRange(1, 3600), default=300, show_default=True, help="Seconds to wait for the browser."
)
@common.profile_options
@click.pass_context
def command(
    ctx: click.Context,
    callback: str | None,
    listen: bool,
    no_browser: bool,
    authorize_url: str | None,
    keyring: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Third parties: let a user grant access, and keep the access token.

    Opens IBKR's page in a browser, catches the redirect on this machine or takes the address that
    the browser ended at, and stores the access token in the profile. Over SSH, open the page in the
    browser of the machine where you sit, and paste the address that it ends at; or forward the
    callback's port to here, and give --listen.
    """
    from ibkr_oauth import login  # noqa: PLC0415 - `--help` does without

    chosen = common.settings(ctx).profile
    settings = config.load(chosen if chosen in config.profile_names() else None)  # a new one is made at the end
    profile = chosen or settings.profile or "default"
    is_here = callback is not None and login.is_here(callback)
    if listen and not is_here:
        raise click.UsageError("--listen goes with a --callback on this machine, such as http://127.0.0.1:20000/")
    listens = is_here and (listen or not _is_remote())
    if not listens and not prompts.are_possible():
        raise errors.UsageError(
            "nobody can paste the redirect: this is no terminal",
            advice="Give --callback with an address of this machine, or run it at a terminal.",
        )
    with login.start(
        settings.consumer(), callback if listens else None, authorize_url=authorize_url, **settings.options()
    ) as started:
        _show(started.authorization_url, no_browser=no_browser or _is_remote() or not _has_screen())
        if not listens:
            _show_how_to_paste(callback if is_here else None)
        access_token = _finish(started, timeout)
        path = _keep(profile, access_token, keyring=keyring)
    _tell(profile, access_token, path, as_json=as_json)


def _is_remote() -> bool:
    """A browser of the machine where the user sits cannot reach a listener here."""
    return bool(os.environ.get("SSH_CONNECTION"))


def _has_screen() -> bool:
    """Without one, Python would open a browser for text in this terminal."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in variables)


def _show_how_to_paste(callback: str | None) -> None:
    common.say(
        "Then the browser goes to the callback. Whether it can show that page does not matter: its address is asked "
        "for here.",
        err=True,
    )
    if callback is not None:
        port = urlsplit(callback).port
        common.say(f"(Or connect with ssh -L {port}:127.0.0.1:{port}, and run this with --listen.)", err=True)


def _show(url: str, *, no_browser: bool) -> None:
    click.echo(f"Log in and grant access at\n\n    {url}\n", err=True)
    if not no_browser and webbrowser.open(url):
        click.echo("A browser was asked to open it.", err=True)


def _finish(started: Login, timeout: float) -> AccessToken:
    if started.listens:
        click.echo("Waiting for the browser to come back …", err=True)
        return started.finish(timeout=timeout)
    return prompts.ask("Paste the address that the browser ended at, or the verifier", started.finish)


def _keep(profile: str, access_token: AccessToken, *, keyring: bool) -> str:
    values = {"access_token": access_token.token, "access_token_secret": access_token.secret}
    return config.save_profile(profile, values, keyring=keyring)


def _tell(profile: str, access_token: AccessToken, path: str, *, as_json: bool) -> None:
    paper = access_token.is_paper
    if as_json:
        common.print_json(
            {"profile": profile, "file": path, "access_token": mask(access_token.token), "is_paper": paper}
        )
        return
    kind = "" if paper is None else " of a paper user" if paper else " of a live user"
    common.say(f"The access token{kind} is kept in profile {profile} of {path}.")
    click.echo(f"Next: ibkr-oauth get /portfolio/accounts --profile {profile}")
