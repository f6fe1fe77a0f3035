"""For httpx: `IBKRAuth`, for `httpx.Client` with a `Session` and for `httpx.AsyncClient` with an `AsyncSession`.

```python
with httpx.Client(base_url=ibkr.base_url, auth=IBKRAuth(ibkr)) as client:
    client.get("/portfolio/accounts")
```
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from typing import cast

from ibkr_oauth.signing import Pairs

from ._common import DOUBTFUL, SAFE, AsyncSigning, Signing, check_session, form_of, is_own, missing, put_signature

try:
    import httpx
except ModuleNotFoundError as error:
    raise missing("httpx", "httpx", error) from None

__all__ = ["IBKRAuth"]


class IBKRAuth(httpx.Auth):
    """Signs the URL as httpx sends it and the fields of forms; use it for a client or for one request.

    What was refused for a stale token or a wrong clock is signed and sent once more, POST too. Raises InvalidValue for
    an address that is not below the session's `base_url`, before anything is sent. Bodies are read into memory first,
    so that they can be sent again.

    httpx follows no redirects unless told to, and that is best: IBKR does not redirect. Where it is told to, a GET or
    HEAD that ends below `base_url` is signed anew for its own address; elsewhere httpx drops the signature. A POST that
    httpx itself sends on (307, 308) is not signed for its new address, so that IBKR refuses it.

    `HTTPTransport(retries=...)` repeats only what never reached the server, so that no signature is used twice.
    """

    def __init__(self, session: Signing | AsyncSigning) -> None:
        if not hasattr(session, "must_sign_again"):
            raise TypeError(f"IBKRAuth needs an ibkr_oauth.Session or AsyncSession, not {type(session).__name__}")
        self._session = session

    def __repr__(self) -> str:
        return f"<IBKRAuth for {self._session.base_url}>"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """For `httpx.Client`."""
        check_session(self._session, "IBKRAuth in an httpx.Client", asynchronous=False)
        session = cast("Signing", self._session)
        signed_again = False
        while True:
            request.read()
            _encode_rest(request)
            signed = session.sign(request.method, _sent_url(request), form=_form(request))
            put_signature(request.headers, signed)
            response = yield request
            hop = self._last_hop(request, response)
            if hop is not None:
                request = hop
                continue
            if signed_again or not _is_doubtful(request, response):
                return
            content = response.read()
            if not session.must_sign_again(signed, response.status_code, response.headers, content):
                return
            signed_again = True

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """For `httpx.AsyncClient`."""
        check_session(self._session, "IBKRAuth in an httpx.AsyncClient", asynchronous=True)
        session = cast("AsyncSigning", self._session)
        signed_again = False
        while True:
            await request.aread()
            _encode_rest(request)
            signed = await session.sign(request.method, _sent_url(request), form=_form(request))
            put_signature(request.headers, signed)
            response = yield request
            hop = self._last_hop(request, response)
            if hop is not None:
                request = hop
                continue
            if signed_again or not _is_doubtful(request, response):
                return
            content = await response.aread()
            if not await session.must_sign_again(signed, response.status_code, response.headers, content):
                return
            signed_again = True

    def _last_hop(self, request: httpx.Request, response: httpx.Response) -> httpx.Request | None:
        """Where httpx followed redirects and was refused at the end for the first address's signature: that request."""
        hop = response.request
        refused = response.status_code == 401 and hop is not request and hop.method in SAFE
        return hop if refused and is_own(self._session, _sent_url(hop)) else None


def _is_doubtful(request: httpx.Request, response: httpx.Response) -> bool:
    """Whether the answer may refuse this very request for its signature."""
    return response.status_code in DOUBTFUL and response.request is request


def _sent_url(request: httpx.Request) -> str:
    """The address byte for byte as httpx puts it on the wire."""
    url = request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}"


def _encode_rest(request: httpx.Request) -> None:
    """Percent-encodes what httpx leaves although no URL may have it (RFC 3986 section 2): servers differ about that."""
    target = request.url.raw_path
    encoded = _FORBIDDEN.sub(lambda found: b"%%%02X" % found[0][0], target)
    if encoded != target:
        request.url = request.url.copy_with(raw_path=encoded)


_FORBIDDEN = re.compile(rb'["<>\\^`{|}]')


def _form(request: httpx.Request) -> Pairs | None:
    return form_of(request.headers.get("Content-Type"), request.content)
