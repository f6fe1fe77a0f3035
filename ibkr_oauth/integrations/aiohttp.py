"""For aiohttp (3.12 and newer, which has middlewares for clients): `ibkr_middleware`.

```python
async with aiohttp.ClientSession(middlewares=[ibkr_middleware(ibkr)]) as client:
    async with client.get(f"{ibkr.base_url}/portfolio/accounts") as response:
        print(await response.json())
```
"""

from __future__ import annotations

from ibkr_oauth.signing import Pairs, SignedRequest

from ._common import DOUBTFUL, SAFE, AsyncSigning, check_session, form_of, missing, put_signature, redirect_refused

try:
    import aiohttp
    from aiohttp import payload
except ModuleNotFoundError as error:
    raise missing("aiohttp", "aiohttp", error) from None

if not hasattr(aiohttp, "ClientMiddlewareType"):
    raise ImportError(f"aiohttp {aiohttp.__version__} has no client middlewares: pip install 'ibkr_oauth[aiohttp]'")

__all__ = ["ibkr_middleware"]


def ibkr_middleware(session: AsyncSigning) -> aiohttp.ClientMiddlewareType:
    """Signs with an `AsyncSession` what an `aiohttp.ClientSession` sends, for all of its requests or for one.

    The URL is signed as aiohttp sends it, which may be written differently than you gave it (`%2C` becomes a comma),
    and so are the fields of forms. What was refused for a stale token or a wrong clock is signed and sent once more,
    POST too, unless its body was a stream that is used up.

    Raises InvalidValue for an address that is not below the session's `base_url`, before anything is sent; also where a
    redirect leads there. Other redirects of GET and HEAD are followed as aiohttp is told to, each hop newly signed. One
    that answers a POST, PUT, PATCH or DELETE raises ServerError, since aiohttp might send that a second time.

    When a kept connection turns out to be dead, aiohttp itself repeats GET, HEAD, PUT and DELETE once, newly signed.
    Web sockets pass unsigned, as IBKR wants them.
    """
    check_session(session, "ibkr_middleware", asynchronous=True)

    async def sign_and_send(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await handler(request)
        signed = await _sign(session, request)
        response = await handler(request)
        if response.status in DOUBTFUL and not _is_used_up(request):
            content = await response.read()
            if await session.must_sign_again(signed, response.status, response.headers, content):
                await _sign(session, request)
                response = await handler(request)
        if request.method not in SAFE and response.status in _REDIRECTS:
            response.release()
            raise redirect_refused(request.method, str(request.url), response.status)
        return response

    return sign_and_send


_REDIRECTS = (301, 302, 303, 307, 308)


async def _sign(session: AsyncSigning, request: aiohttp.ClientRequest) -> SignedRequest:
    """Signs what is about to be sent, into its headers."""
    url = f"{request.url.origin()}{request.url.raw_path_qs}"
    signed = await session.sign(request.method, url, form=await _form(request))
    put_signature(request.headers, signed)
    return signed


async def _form(request: aiohttp.ClientRequest) -> Pairs | None:
    body: object = request.body
    if isinstance(body, payload.BytesPayload):
        body = await body.as_bytes()
    return form_of(request.headers.get("Content-Type"), body)


def _is_used_up(request: aiohttp.ClientRequest) -> bool:
    """Whether the body was a stream that cannot be sent again."""
    return isinstance(request.body, payload.Payload) and request.body.consumed
