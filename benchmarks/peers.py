"""Clients of the same server, each used as its own users would use it well: made once, with connections that stay open.

Every one has `get(path)`, which makes one call, raises if it was refused, and returns the body. All but the bare ones sign it
correctly. Packages are imported where they are used: a process of one client has nothing else in its memory.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from .known import Known

if TYPE_CHECKING:
    from pathlib import Path
    from ssl import SSLContext

#: Seconds, as in a program that means to run for long. Nothing here takes so long.
TIMEOUT = 10.0
TIMEOUT_MS = 10_000

#: By what becomes of a connection behind the answer.
PATHS = {"keep-alive": "/portfolio/accounts", "cold": "/portfolio/close"}

#: More connections than any benchmark opens at once.
MANY = 512


class Place(Protocol):
    """Where to send calls: `native.Server` is one."""

    base_url: str
    ca_file: Path


class Client(Protocol):
    """What takes turns on the caller's thread."""

    def get(self, path: str) -> Any: ...
    def close(self) -> None: ...


class AsyncClient(Protocol):
    """What takes turns in an event loop of its own, in which it is opened and closed."""

    async def open(self) -> None: ...
    async def get(self, path: str) -> Any: ...
    async def close(self) -> None: ...


#: The headers that sign a GET of a URL.
Sign = Callable[[str], dict[str, str]]

# --- Who signs ---------------------------------------------------------------------------------------


def our_signing(known: Known) -> Sign:
    from ibkr_oauth import Signer

    signer = Signer(known.consumer, known.live_session_token)
    return lambda url: signer.sign("GET", url).headers


def ibind_signing(known: Known) -> Sign:
    """As IbkrClient._get_headers calls it."""
    from ibind.oauth import oauth1a

    config, token = known.ibind_config, known.header["live_session_token"]
    return lambda url: oauth1a.generate_oauth_headers(
        oauth_config=config, request_method="GET", request_url=url, live_session_token=token
    )


def no_signing(known: Known) -> Sign:
    return lambda url: {}


# oauthlib (which requests-oauthlib signs with) and authlib know OAuth 1 as RFC 5849 has it, whose HMAC key is two secrets as
# text. IBKR's is the live session token's bytes, so both are given a method of that name, by the hook that each has for it.
# Their base strings are those of RFC 5849: right for IBKR too as long as no parameter needs percent-encoding.


def _mac(base_string: str, key: bytes) -> str:
    import hashlib
    import hmac

    return b64encode(hmac.digest(key, base_string.encode(), hashlib.sha256)).decode()


def _oauthlib_mac(base_string: str, client: Any) -> str:
    return _mac(base_string, b64decode(client.resource_owner_secret))


def _authlib_mac(client: Any, request: Any) -> str:
    from authlib.oauth1.rfc5849.signature import generate_signature_base_string

    return _mac(generate_signature_base_string(request), b64decode(client.token_secret))


def oauthlib_client(known: Known) -> Any:
    from oauthlib.oauth1 import Client

    Client.register_signature_method("HMAC-SHA256", _oauthlib_mac)
    return Client(*_oauth1(known), signature_method="HMAC-SHA256", realm=known.realm)


def oauthlib_signing(known: Known) -> Sign:
    client = oauthlib_client(known)
    return lambda url: client.sign(url)[1]


def authlib_auth(known: Known) -> Any:
    from authlib.integrations.requests_client import OAuth1Auth

    OAuth1Auth.register_signature_method("HMAC-SHA256", _authlib_mac)
    return OAuth1Auth(*_oauth1(known), signature_method="HMAC-SHA256", realm=known.realm)


def authlib_signing(known: Known) -> Sign:
    auth = authlib_auth(known)
    return lambda url: auth.sign("GET", url, {}, b"")[1]


def _oauth1(known: Known) -> tuple[str, str, str, str]:
    """Consumer key, no secret of the consumer, token, and the secret beside it."""
    return known.header["consumer_key"], "", known.header["oauth_token"], known.header["live_session_token"]


def _trust(ca_file: Path) -> SSLContext:
    import ssl

    return ssl.create_default_context(cafile=ca_file)


# --- Who sends, one call after the other ------------------------------------------------------------


def session_options(place: Place, known: Known) -> dict[str, Any]:
    """With a live session token at hand, and without what calls other paths, or waits."""
    return {
        "base_url": place.base_url,
        "ca_file": place.ca_file,
        "live_session_token": known.live_session_token,
        "brokerage": "never",
        "keep_alive": None,
        "pacing": None,
        "timeout": TIMEOUT,
    }


class Nobody:
    """Python alone: what every client is on top of."""

    def __init__(self, place: Place, known: Known) -> None: ...
    def get(self, path: str) -> None: ...
    def close(self) -> None: ...


class Ours:
    """`Session`."""

    def __init__(self, place: Place, known: Known) -> None:
        from ibkr_oauth import Session

        self._session = Session(known.consumer, known.access_token, **session_options(place, known))

    def get(self, path: str) -> bytes:
        return self._session.get(path).raise_for_status().content

    def close(self) -> None:
        self._session.close()


class SignedHttpClient:
    """What is below `Session`, on the caller's thread: our Signer and the C transport."""

    def __init__(self, place: Place, known: Known) -> None:
        from ibkr_oauth import _core

        self._base_url, self._sign = place.base_url, our_signing(known)
        self._client = _core.HttpClient(**core_options(place))

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        status, _, content, _, _ = self._client.send("GET", url, list(self._sign(url).items()), None, True, TIMEOUT_MS)
        assert status == 200
        return content

    def close(self) -> None:
        del self._client


class SignedEngineClient:
    """The same through the C engine's thread, one call at a time."""

    def __init__(self, place: Place, known: Known) -> None:
        from ibkr_oauth import _core

        self._base_url, self._sign = place.base_url, our_signing(known)
        self._mailbox = _core.Mailbox()
        self._client = _core.EngineClient(self._mailbox, **core_options(place))

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        self._client.submit(1, "GET", url, list(self._sign(url).items()), None, True, TIMEOUT_MS)
        while not (arrived := self._mailbox.wait(TIMEOUT_MS)):
            pass
        ((_, (status, _, content, _, _)),) = arrived
        assert status == 200
        return content

    def close(self) -> None:
        self._client.close()


def core_options(place: Place) -> dict[str, Any]:
    from ibkr_oauth.transport import transport_options

    return transport_options(ca_file=place.ca_file, proxy=None, connect_timeout=TIMEOUT)


class Pycurl:
    """One handle, kept; header and body are collected."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign] = no_signing) -> None:
        import pycurl

        self._curl, self._base_url, self._sign = pycurl, place.base_url, signing(known)
        self._is_signed = signing is not no_signing
        self._handle = handle = pycurl.Curl()
        handle.setopt(pycurl.CAINFO, str(place.ca_file))
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.TCP_NODELAY, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        handle.setopt(pycurl.TIMEOUT_MS, TIMEOUT_MS)

    def get(self, path: str) -> bytes:
        pycurl, handle, head, body = self._curl, self._handle, BytesIO(), BytesIO()
        url = self._base_url + path
        handle.setopt(pycurl.URL, url)
        if self._is_signed:
            handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in self._sign(url).items()])
        handle.setopt(pycurl.WRITEHEADER, head)
        handle.setopt(pycurl.WRITEDATA, body)
        handle.perform()
        assert handle.getinfo(pycurl.RESPONSE_CODE) == 200
        return body.getvalue()

    def close(self) -> None:
        self._handle.close()


class PycurlEach:
    """The same for several threads: a handle for each."""

    def __init__(self, place: Place, known: Known) -> None:
        import threading

        self._make = lambda: Pycurl(place, known)
        self._own = threading.local()

    def get(self, path: str) -> bytes:
        client = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._make()
        return client.get(path)

    def close(self) -> None:
        del self._own  # a handle is closed with its thread


class Requests:
    """requests with headers that somebody signs, or with its own kind of `auth`."""

    def __init__(
        self,
        place: Place,
        known: Known,
        signing: Callable[[Known], Sign] = no_signing,
        auth: Callable[[Known], Any] | None = None,
    ) -> None:
        import requests

        self._base_url, self._sign = place.base_url, signing(known)
        self._verify = str(place.ca_file)  # given with every call, or REQUESTS_CA_BUNDLE would overrule it
        self._session = requests.Session()
        # Of its own accord it keeps ten connections only, whatever the number of threads.
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=MANY))
        self._session.auth = None if auth is None else auth(known)

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        response = self._session.get(url, headers=self._sign(url), timeout=TIMEOUT, verify=self._verify)
        response.raise_for_status()
        return response.content

    def close(self) -> None:
        self._session.close()


def requests_oauthlib_auth(known: Known) -> Any:
    from requests_oauthlib import OAuth1

    oauthlib_client(known)  # teaches oauthlib the method
    return OAuth1(*_oauth1(known), signature_method="HMAC-SHA256", realm=known.realm)


class IbindClient:
    """ibind's client, unchanged, with a live session token at hand. It parses the JSON of every answer."""

    def __init__(self, place: Place, known: Known) -> None:
        from ibind import IbkrClient

        config = known.new_ibind_config(oauth_rest_url=f"{place.base_url}/", init_oauth=False, shutdown_oauth=False)
        self._client = IbkrClient(use_oauth=True, oauth_config=config, auto_register_shutdown=False)
        self._client.live_session_token = known.header["live_session_token"]
        self._client.cacert = str(place.ca_file)  # with OAuth its constructor allows the system's authorities only

    def get(self, path: str) -> Any:
        return self._client.get(path).data

    def close(self) -> None:
        self._client.close()


class Httpx:
    """Without these limits it would keep 20 connections only, and make the others anew."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign]) -> None:
        import httpx

        self._base_url, self._sign = place.base_url, signing(known)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        context = _trust(place.ca_file)
        self._client = httpx.Client(verify=context, limits=limits, timeout=TIMEOUT)

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        return self._client.get(url, headers=self._sign(url)).raise_for_status().content

    def close(self) -> None:
        self._client.close()


class CurlCffi:
    """It keeps a handle for each thread by itself."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign]) -> None:
        from curl_cffi import CurlHttpVersion
        from curl_cffi.requests import Session

        self._base_url, self._sign = place.base_url, signing(known)
        self._session: Any = Session(
            verify=str(place.ca_file), timeout=TIMEOUT, trust_env=False, http_version=CurlHttpVersion.V1_1
        )

    def get(self, path: str) -> bytes:
        url = self._base_url + path
        response = self._session.get(url, headers=self._sign(url))
        response.raise_for_status()
        return response.content

    def close(self) -> None:
        self._session.close()


# --- Who sends, with an event loop --------------------------------------------------------------------


class AsyncOurs:
    """`AsyncSession`."""

    def __init__(self, place: Place, known: Known) -> None:
        from ibkr_oauth import AsyncSession

        self._session = AsyncSession(known.consumer, known.access_token, **session_options(place, known))

    async def open(self) -> None:
        await self._session.__aenter__()

    async def get(self, path: str) -> bytes:
        return (await self._session.get(path)).raise_for_status().content

    async def close(self) -> None:
        await self._session.close()


class Aiohttp:
    """As many connections as calls in flight."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign]) -> None:
        self._base_url, self._ca_file, self._sign = place.base_url, place.ca_file, signing(known)

    async def open(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(ssl=_trust(self._ca_file), limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(TIMEOUT))

    async def get(self, path: str) -> bytes:
        url = self._base_url + path
        async with self._session.get(url, headers=self._sign(url)) as response:
            response.raise_for_status()
            return await response.read()

    async def close(self) -> None:
        await self._session.close()


class AsyncHttpx:
    """See Httpx about its limits."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign]) -> None:
        self._base_url, self._ca_file, self._sign = place.base_url, place.ca_file, signing(known)

    async def open(self) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        context = _trust(self._ca_file)
        self._client = httpx.AsyncClient(verify=context, limits=limits, timeout=TIMEOUT)

    async def get(self, path: str) -> bytes:
        url = self._base_url + path
        return (await self._client.get(url, headers=self._sign(url))).raise_for_status().content

    async def close(self) -> None:
        await self._client.aclose()


class AsyncCurlCffi:
    """Of its own accord it would have ten calls in flight at most."""

    def __init__(self, place: Place, known: Known, signing: Callable[[Known], Sign]) -> None:
        self._base_url, self._ca_file, self._sign = place.base_url, place.ca_file, signing(known)

    async def open(self) -> None:
        from curl_cffi import CurlHttpVersion
        from curl_cffi.requests import AsyncSession

        self._session: Any = AsyncSession(
            verify=str(self._ca_file),
            timeout=TIMEOUT,
            trust_env=False,
            max_clients=MANY,
            http_version=CurlHttpVersion.V1_1,
        )

    async def get(self, path: str) -> bytes:
        url = self._base_url + path
        response = await self._session.get(url, headers=self._sign(url))
        response.raise_for_status()
        return response.content

    async def close(self) -> None:
        await self._session.close()


class InLoop:
    """An asynchronous client with an event loop of its own, which runs only while it is its turn."""

    def __init__(self, client: AsyncClient) -> None:
        import asyncio

        self._client, self._gather = client, asyncio.gather
        self._runner = asyncio.Runner()
        self._runner.run(client.open())

    def get(self, path: str) -> Any:
        return self._runner.run(self._client.get(path))

    def calls(self, path: str, total: int, at_once: int) -> float:
        """Seconds for `total` calls by `at_once` tasks, each of which makes its next call when it has its answer."""
        return self._runner.run(self._calls(path, total, at_once))

    async def _calls(self, path: str, total: int, at_once: int) -> float:
        calls = iter(range(total))

        async def work() -> None:
            for _ in calls:
                await self._client.get(path)

        start = time.perf_counter()
        await self._gather(*(work() for _ in range(at_once)))
        return time.perf_counter() - start

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


# --- By name -------------------------------------------------------------------------------------------

#: Those that sign nothing.
BARE = frozenset({"bare Python", "bare pycurl", "bare pycurl, a handle each"})

CLIENTS: dict[str, Callable[[Place, Known], Client]] = {
    "ours": Ours,
    "bare Python": Nobody,
    "bare pycurl": Pycurl,
    "bare pycurl, a handle each": PycurlEach,
    "caller's thread": SignedHttpClient,
    "engine's thread": SignedEngineClient,
    "ibind's client": IbindClient,
    "ibind's signing, pycurl": partial(Pycurl, signing=ibind_signing),
    "ibind's signing, curl_cffi": partial(CurlCffi, signing=ibind_signing),
    "ibind's signing, requests": partial(Requests, signing=ibind_signing),
    "ibind's signing, httpx": partial(Httpx, signing=ibind_signing),
    "our signing, httpx": partial(Httpx, signing=our_signing),
    "requests-oauthlib": partial(Requests, auth=requests_oauthlib_auth),
    "authlib, requests": partial(Requests, auth=authlib_auth),
    # Light ones for the memory of a process: oauthlib brings nothing that is heavy.
    "oauthlib's signing, pycurl": partial(Pycurl, signing=oauthlib_signing),
    "oauthlib's signing, curl_cffi": partial(CurlCffi, signing=oauthlib_signing),
    "oauthlib's signing, httpx": partial(Httpx, signing=oauthlib_signing),
}

ASYNC_CLIENTS: dict[str, Callable[[Place, Known], AsyncClient]] = {
    "ours": AsyncOurs,
    "our signing, aiohttp": partial(Aiohttp, signing=our_signing),
    "our signing, httpx": partial(AsyncHttpx, signing=our_signing),
    "our signing, curl_cffi": partial(AsyncCurlCffi, signing=our_signing),
    "oauthlib's signing, aiohttp": partial(Aiohttp, signing=oauthlib_signing),
}


def new_client(name: str, place: Place, known: Known) -> Client:
    """`name` of the first table, or of the second with `async: ` in front."""
    if name.startswith("async: "):
        return InLoop(ASYNC_CLIENTS[name.removeprefix("async: ")](place, known))
    return CLIENTS[name](place, known)
