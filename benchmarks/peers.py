"""Clients of the same server, each used as its own users would use it well: made once, with connections that stay open.

Every one has `get(path)`, which makes one call, raises if it was refused, and returns the body. All but bare pycurl
sign it correctly.
"""

from __future__ import annotations

import ssl
import threading
from io import BytesIO
from typing import Any, Protocol

import aiohttp
import httpx
import pycurl
import requests
from ibind import IbkrClient
from ibind.oauth import oauth1a as ibind

from ibkr_oauth import AsyncSession, Session, Signer, _core
from ibkr_oauth.transport import transport_options

from .known import Known
from .native import Server

#: Seconds, as in a program that means to run for long. Nothing here takes so long.
TIMEOUT = 10.0
TIMEOUT_MS = 10_000


class Client(Protocol):
    """What takes turns on the caller's thread."""

    def get(self, path: str) -> Any: ...
    def close(self) -> None: ...


class AsyncClient(Protocol):
    """What takes turns in an event loop of its own, in which it is opened and closed."""

    async def open(self) -> None: ...
    async def get(self, path: str) -> Any: ...
    async def close(self) -> None: ...


def session_options(server: Server, known: Known) -> dict[str, Any]:
    """With a live session token at hand, and without what calls other paths, or waits."""
    return {
        "base_url": server.base_url,
        "ca_file": server.ca_file,
        "live_session_token": known.live_session_token,
        "brokerage": "never",
        "keep_alive": None,
        "pacing": None,
        "timeout": TIMEOUT,
    }


class Ours:
    """`Session`."""

    def __init__(self, server: Server, known: Known) -> None:
        self._session = Session(known.consumer, known.access_token, **session_options(server, known))

    def get(self, path: str) -> bytes:
        return self._session.get(path).raise_for_status().content

    def close(self) -> None:
        self._session.close()


class SignedHttpClient:
    """What is below `Session`, on the caller's thread: our Signer and the C transport."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url = server.base_url
        self._signer = Signer(known.consumer, known.live_session_token)
        self._client = _core.HttpClient(**core_options(server))

    def get(self, path: str) -> bytes:
        request = self._signer.sign("GET", self._base_url + path)
        headers = list(request.headers.items())
        status, _, content, _, _ = self._client.send(request.method, request.url, headers, None, True, TIMEOUT_MS)
        assert status == 200
        return content

    def close(self) -> None:
        del self._client


class SignedEngineClient:
    """The same through the C engine's thread, one call at a time."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url = server.base_url
        self._signer = Signer(known.consumer, known.live_session_token)
        self._mailbox = _core.Mailbox()
        self._client = _core.EngineClient(self._mailbox, **core_options(server))

    def get(self, path: str) -> bytes:
        request = self._signer.sign("GET", self._base_url + path)
        headers = list(request.headers.items())
        self._client.submit(1, request.method, request.url, headers, None, True, TIMEOUT_MS)
        while not (arrived := self._mailbox.wait(TIMEOUT_MS)):
            pass
        ((_, (status, _, content, _, _)),) = arrived
        assert status == 200
        return content

    def close(self) -> None:
        self._client.close()


def core_options(server: Server) -> dict[str, Any]:
    return transport_options(ca_file=server.ca_file, proxy=None, connect_timeout=TIMEOUT)


class BarePycurl:
    """One handle, kept; header and body are collected; nothing is signed."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url = server.base_url
        self._handle = handle = pycurl.Curl()
        handle.setopt(pycurl.CAINFO, str(server.ca_file))
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.TIMEOUT_MS, TIMEOUT_MS)

    def get(self, path: str) -> bytes:
        handle, head, body = self._handle, BytesIO(), BytesIO()
        handle.setopt(pycurl.URL, self._base_url + path)
        handle.setopt(pycurl.WRITEHEADER, head)
        handle.setopt(pycurl.WRITEDATA, body)
        handle.perform()
        assert handle.getinfo(pycurl.RESPONSE_CODE) == 200
        return body.getvalue()

    def close(self) -> None:
        self._handle.close()


class BarePycurlEach:
    """The same for several threads: a handle for each."""

    def __init__(self, server: Server, known: Known) -> None:
        self._make = lambda: BarePycurl(server, known)
        self._own = threading.local()

    def get(self, path: str) -> bytes:
        client = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._make()
        return client.get(path)

    def close(self) -> None:
        del self._own  # a handle is closed with its thread


class RequestsIbind:
    """requests with the headers of ibind's own function, called as its client calls it."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url, self._known = server.base_url, known
        self._verify = str(server.ca_file)  # given with every call, or REQUESTS_CA_BUNDLE would overrule it
        self._session = requests.Session()

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        headers = ibind_headers(self._known, url)
        response = self._session.get(url, headers=headers, timeout=TIMEOUT, verify=self._verify)
        response.raise_for_status()
        return response.content

    def close(self) -> None:
        self._session.close()


class IbindClient:
    """ibind's client, unchanged, with a live session token at hand. It parses the JSON of every answer."""

    def __init__(self, server: Server, known: Known) -> None:
        config = known.new_ibind_config(oauth_rest_url=f"{server.base_url}/", init_oauth=False, shutdown_oauth=False)
        self._client = IbkrClient(use_oauth=True, oauth_config=config, auto_register_shutdown=False)
        self._client.live_session_token = known.header["live_session_token"]
        self._client.cacert = str(server.ca_file)  # with OAuth its constructor allows the system's authorities only

    def get(self, path: str) -> Any:
        return self._client.get(path).data

    def close(self) -> None:
        self._client.close()


class HttpxOurs:
    """httpx with our Signer."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url = server.base_url
        self._signer = Signer(known.consumer, known.live_session_token)
        self._client = httpx.Client(verify=ssl.create_default_context(cafile=server.ca_file), timeout=TIMEOUT)

    def get(self, path: str) -> bytes:
        request = self._signer.sign("GET", self._base_url + path)
        return self._client.get(request.url, headers=request.headers).raise_for_status().content

    def close(self) -> None:
        self._client.close()


class HttpxIbind(HttpxOurs):
    """httpx with ibind's signing."""

    def __init__(self, server: Server, known: Known) -> None:
        super().__init__(server, known)
        self._known = known

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        return self._client.get(url, headers=ibind_headers(self._known, url)).raise_for_status().content


def ibind_headers(known: Known, url: str) -> dict[str, str]:
    """As IbkrClient._get_headers calls it."""
    return ibind.generate_oauth_headers(
        oauth_config=known.ibind_config,
        request_method="GET",
        request_url=url,
        live_session_token=known.header["live_session_token"],
    )


class AsyncOurs:
    """`AsyncSession`."""

    def __init__(self, server: Server, known: Known) -> None:
        self._session = AsyncSession(known.consumer, known.access_token, **session_options(server, known))

    async def open(self) -> None:
        await self._session.__aenter__()

    async def get(self, path: str) -> bytes:
        return (await self._session.get(path)).raise_for_status().content

    async def close(self) -> None:
        await self._session.close()


class AiohttpOurs:
    """aiohttp with our Signer, as many connections as calls in flight."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url, self._ca_file = server.base_url, server.ca_file
        self._signer = Signer(known.consumer, known.live_session_token)

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self._ca_file), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT))

    async def get(self, path: str) -> bytes:
        request = self._signer.sign("GET", self._base_url + path)
        async with self._session.get(request.url, headers=request.headers) as response:
            response.raise_for_status()
            return await response.read()

    async def close(self) -> None:
        await self._session.close()


class AsyncHttpxOurs:
    """httpx with our Signer. Without these limits it would keep 20 connections only, and make the others anew."""

    def __init__(self, server: Server, known: Known) -> None:
        self._base_url, self._ca_file = server.base_url, server.ca_file
        self._signer = Signer(known.consumer, known.live_session_token)

    async def open(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        context = ssl.create_default_context(cafile=self._ca_file)
        self._client = httpx.AsyncClient(verify=context, limits=limits, timeout=TIMEOUT)

    async def get(self, path: str) -> bytes:
        request = self._signer.sign("GET", self._base_url + path)
        return (await self._client.get(request.url, headers=request.headers)).raise_for_status().content

    async def close(self) -> None:
        await self._client.aclose()
