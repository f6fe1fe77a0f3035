"""Third parties: a user grants access, from a notebook or any other program of one user. See docs/third-party.md.

Two steps, since a person sits between them:

    started = login.start(consumer, "http://127.0.0.1:20000/")
    started  # in a notebook: the link to IBKR's page
    access_token = started.finish()  # or .finish("the address that the browser ended at")

A service with users of its own catches their redirects in its own web server: `OAuthClient` is all that it needs.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from .closing import Closing
from .consumer import Consumer
from .errors import InvalidValue, UsageError
from .oauth import OAuthClient
from .redirect import HOSTS, RedirectListener
from .tokens import AccessToken

# By port. A notebook's cell is run again and again: each start gives up the one before it, whose port it needs.
_listening: dict[int, RedirectListener] = {}
_lock = threading.Lock()


class Login(Closing):
    """One user on the way to IBKR's page and back; made by `start`. As a context manager it closes itself.

    `authorization_url`: the page where the user logs in and grants access. It holds the request token, which is good
    for one login and for some minutes.
    """

    def __init__(self, client: OAuthClient, listener: RedirectListener | None) -> None:
        self._client = client
        self._listener = listener
        self._request_token = client.request_token()
        self.authorization_url = self._request_token.authorization_url()
        if listener is not None:
            listener.expect(self._request_token.token)

    def __repr__(self) -> str:
        return f"<Login of {self._client.consumer.key}, {'listens' if self.listens else 'waits for finish(address)'}>"

    def _repr_html_(self) -> str:
        from . import html  # noqa: PLC0415 - only notebooks need it

        return html.login(self)

    @property
    def listens(self) -> bool:
        """Whether the redirect is caught on this machine, so that `finish` needs no address."""
        return self._listener is not None

    def finish(self, redirect: str | None = None, *, timeout: float = 300.0) -> AccessToken:
        """The access token, once the user has granted access. Then the login is closed.

        `redirect`: the whole address that the browser ended at, or the verifier alone; without it, the redirect is
        waited for, `timeout` seconds long, if it was caught on this machine. A wrong address can be followed by the
        right one.

        Raises UsageError (nothing listens, or it is closed), AuthorizationError (denied, or nobody answered), and what
        `OAuthClient.access_token` raises.
        """
        if redirect is None:
            if self._listener is None:
                raise UsageError(
                    "nothing on this machine waits for the redirect",
                    advice="Call finish() with the address that the browser ended at after access was granted.",
                )
            if self._listener.closed:
                raise UsageError(
                    "this login is over: it was finished, closed, or started again", advice="Start a new one."
                )
            redirect = self._listener.wait(timeout)
        access_token = self._client.access_token(self._request_token, redirect)
        self.close()
        return access_token

    def close(self) -> None:
        """Gives up: closes the port and the connections. May be called again."""
        if self._listener is not None:
            self._listener.close()
        self._client.close()


def start(consumer: Consumer, callback: str | None = None, **options: Any) -> Login:
    """Asks for a request token, and listens for the redirect if `callback` is an address of this machine.

    `callback`: the one that is registered with the consumer key. `http://127.0.0.1:PORT/…` and
    `http://localhost:PORT/…` are listened to, until the login is finished, closed, or started again; with any other, or
    none, the address that the browser ended at goes into `Login.finish`. `options`: those of `OAuthClient`.

    Raises what `OAuthClient.request_token` raises, and UsageError if the port cannot be used.
    """
    place = None if callback is None else _place(callback)
    with ExitStack() as opened:  # closed again if what follows fails
        client = opened.enter_context(OAuthClient(consumer, **options))
        listener = None if place is None else opened.enter_context(_listen(*place))
        login = Login(client, listener)
        opened.pop_all()
    return login


def is_here(callback: str) -> bool:
    """Whether `start` can listen at this address. Raises InvalidValue if it is none."""
    return _place(callback) is not None


def _place(callback: str) -> tuple[int, str] | None:
    """Port and path to listen at; None for an address that is not on this machine."""
    try:
        parts = urlsplit(callback)
        port = parts.port
    except ValueError:
        raise InvalidValue(
            "the callback is no address",
            advice="It looks like http://127.0.0.1:20000/, and is the one registered with the consumer key.",
        ) from None
    if parts.scheme != "http" or parts.hostname not in HOSTS or port is None:
        return None
    return port, parts.path or "/"


def _listen(port: int, path: str) -> RedirectListener:
    with _lock:
        former = _listening.pop(port, None)
        if former is not None:
            former.close()
        try:
            listener = RedirectListener(port, path)
        except OSError as error:
            raise UsageError(
                f"port {port} of this machine, where the redirect is to arrive, cannot be used: {error.strerror}",
                advice="End the program that holds it, or leave the callback out and paste the address.",
            ) from None
        _listening[port] = listener
    return listener
