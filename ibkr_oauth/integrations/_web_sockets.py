"""What a web socket client needs to know to connect: address, cookie, User-Agent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from ibkr_oauth import _core, answers
from ibkr_oauth.errors import InvalidValue, MissingSetting, ServerError, SessionLost
from ibkr_oauth.redact import without_query
from ibkr_oauth.transport import USER_AGENT, Response

if TYPE_CHECKING:
    from ibkr_oauth.aio import AsyncSession
    from ibkr_oauth.session import Session


@dataclass(frozen=True, slots=True, repr=False)
class WebSocketParameters:
    """For one connection: the cookie belongs to the session of the moment, so ask for others to connect again.

    `url`: with the access token in its query. `cookie`: the whole header, `api=…`. `user_agent`: IBKR's network edge
    refuses clients without one. `ca_file`: PEM of the authorities to trust, None for the client's own. `proxy`: URL.

    The methods give keyword arguments for known clients, for instance
    `websockets.connect(**parameters.for_websockets())`. Access token and cookie grant access: switch off what logs the
    headers of the client (`websocket.enableTrace`, the logger `websockets.client` at DEBUG).
    """

    url: str
    cookie: str
    user_agent: str
    ca_file: str | None = None
    proxy: str | None = None

    @property
    def session(self) -> str:
        """What answers `{"message":"waiting for session"}`, as `{"session":"…"}`."""
        return self.cookie.partition("=")[2]

    def for_websockets(self) -> dict[str, Any]:
        """For `websockets.connect` (asyncio), and for `websockets.sync.client.connect`."""
        return {
            "uri": self.url,
            "additional_headers": {"Cookie": self.cookie},
            "user_agent_header": self.user_agent,
            "proxy": self.proxy,
            **self._ssl(),
        }

    def for_aiohttp(self) -> dict[str, Any]:
        """For `aiohttp.ClientSession.ws_connect`."""
        headers = {"Cookie": self.cookie, "User-Agent": self.user_agent}
        return {"url": self.url, "headers": headers, "proxy": self.proxy, **self._ssl()}

    def for_websocket_client(self) -> dict[str, Any]:
        """For `websocket.WebSocketApp` and, with `for_run_forever`, `websocket.create_connection`."""
        return {"url": self.url, "header": [f"User-Agent: {self.user_agent}"], "cookie": self.cookie}

    def for_run_forever(self) -> dict[str, Any]:
        """For `WebSocketApp.run_forever`: authorities and proxy."""
        options: dict[str, Any] = {}
        if self.ca_file is not None:
            options["sslopt"] = {"ca_certs": self.ca_file}
        if self.proxy is not None:
            proxy = urlsplit(self.proxy)
            options |= {"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port or 1080}
            options["proxy_type"] = proxy.scheme if proxy.scheme.startswith("socks") else "http"
            if proxy.username:
                options["http_proxy_auth"] = (unquote(proxy.username), unquote(proxy.password or ""))
        return options

    def _ssl(self) -> dict[str, Any]:
        if self.ca_file is None or not self.url.startswith("wss:"):
            return {}
        import ssl  # noqa: PLC0415 - the library itself has no need of it

        return {"ssl": ssl.create_default_context(cafile=self.ca_file)}

    def __repr__(self) -> str:
        return f"<WebSocketParameters {without_query(self.url)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("WebSocketParameters cannot be pickled, since they grant access; make them in each process")


def web_socket(session: Session) -> WebSocketParameters:
    """Parameters for one connection. Asks for them with a tickle.

    Raises MissingSetting for a session without access token, SessionLost and ServerError for a tickle that names none,
    and what `Session.tickle` raises.
    """
    _access_token(session)  # before anything is sent
    return _parameters(session, session.tickle())


async def web_socket_async(session: AsyncSession) -> WebSocketParameters:
    """The same with an `AsyncSession`."""
    _access_token(session)
    return _parameters(session, await session.tickle())


def _access_token(session: Session | AsyncSession) -> str:
    if session.access_token is None:
        raise MissingSetting(
            "access token: missing; the web socket needs it", advice="Make the session with consumer and access token."
        )
    return session.access_token.token


def _parameters(session: Session | AsyncSession, tickle: Response) -> WebSocketParameters:
    token, options = _core.percent_encode(_access_token(session)), session._options
    return WebSocketParameters(
        url=f"{_address(session.base_url)}/ws?oauth_token={token}",
        cookie=f"api={_session_of(tickle)}",
        user_agent=USER_AGENT,
        ca_file=options["ca_file"],
        proxy=options["proxy"],
    )


def _address(base_url: str) -> str:
    """The base URL for web sockets. Without TLS for this machine only, as everywhere."""
    if not _core.may_be_sent(base_url):
        raise InvalidValue("base_url: a web socket without TLS is for this machine only; use https")
    scheme, _, rest = base_url.partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}"


def _session_of(tickle: Response) -> str:
    body = tickle.raise_for_status().json()
    fields = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    session = fields.get("session")
    if isinstance(session, str) and re.fullmatch(r"[A-Za-z0-9._~-]+", session):
        return session
    if fields.get("error"):  # with status 200, as the service says that there is no session
        raise answers.describe(tickle, SessionLost, "the service has no session for a web socket")
    raise answers.describe(tickle, ServerError, "the answer names no session, which the web socket needs")
