"""For requests: `IBKRAuth` signs single requests or those of a session, `IBKRAdapter` all below an address.

```python
requests.get(f"{ibkr.base_url}/portfolio/accounts", auth=IBKRAuth(ibkr))
```

Both sign the URL as requests sends it and the fields of forms, and send once more, newly signed, what was refused for a
stale token or a wrong clock. They differ where requests sends by itself: see `IBKRAuth` on redirects and `IBKRAdapter`
on retries.
"""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import Any, cast

from ibkr_oauth.signing import SignedRequest

from ._common import DOUBTFUL, SAFE, Signing, check_session, form_of, is_own, missing, put_signature

try:
    import requests
    import requests.adapters
    import requests.auth
    import requests.utils
    import urllib3
    import urllib3.util
except ModuleNotFoundError as error:
    raise missing("requests", "requests", error) from None

__all__ = ["IBKRAdapter", "IBKRAuth"]


class IBKRAuth(requests.auth.AuthBase):
    """Signs with a `Session`: `requests.get(url, auth=IBKRAuth(ibkr))`, or `s.auth = IBKRAuth(ibkr)`.

    A request is signed when it is prepared, so a prepared one can be sent once. Raises InvalidValue for an address that
    is not below the session's `base_url`, before anything is sent. Threads may share one.

    Redirects: those of GET and HEAD, and those that turn another method into GET, are followed as requests is told to.
    Each hop is signed for its own address; one that leaves `base_url` carries no signature. A redirect that would send
    a POST, PUT, PATCH or DELETE a second time is not followed but returned.

    With retries of urllib3 (`HTTPAdapter(max_retries=...)`) use `IBKRAdapter` instead: urllib3 would repeat a
    signature, which the service refuses.
    """

    def __init__(self, session: Signing) -> None:
        check_session(session, "IBKRAuth", asynchronous=False)
        self._session = session

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.register_hook("response", _Exchange(self._session, _sign(self._session, r)))
        return r

    def __repr__(self) -> str:
        return f"<IBKRAuth for {self._session.base_url}>"


class _Exchange:
    """What happens to the answers of one request and of its redirects: a hook of requests."""

    def __init__(self, session: Signing, signed: SignedRequest) -> None:
        self._session = session
        self._signed: SignedRequest | None = signed

    def __call__(self, response: requests.Response, **options: Any) -> requests.Response:
        signed = self._signed
        if signed is not None and _must_sign_again(self._session, signed, response) and _rewind(response.request):
            self._signed = _sign(self._session, response.request)
            refused, response = response, response.connection.send(response.request, **options)
            response.history.append(refused)
        response = _without_unsafe_redirect(response)
        if response.is_redirect:
            self._prepare_next_hop(response)
        return response

    def _prepare_next_hop(self, response: requests.Response) -> None:
        """Requests copies the headers of this request to the next hop: they have to be right for that one by now."""
        request, hop = response.request, _next_hop(response)
        request.headers.pop("Authorization", None)
        self._signed = None
        if is_own(self._session, _sent_url(hop)):
            self._signed = _sign(self._session, hop)
            if "Authorization" in hop.headers:  # a session may have nothing but a cookie
                request.headers["Authorization"] = hop.headers["Authorization"]


class IBKRAdapter(requests.adapters.HTTPAdapter):
    """Signs every request below the address where it is mounted, each attempt anew. Threads may share one.

    ```python
    s.mount(f"{ibkr.base_url}/", IBKRAdapter(ibkr, max_retries=Retry(3, status_forcelist=[502, 503, 504])))
    ```

    No `auth` is needed. `max_retries` and the other arguments are those of HTTPAdapter; urllib3's `Retry` decides what
    is repeated and when. Its default repeats, beside GET, also PUT and DELETE after they were sent;
    `allowed_methods=["GET"]` does not. Redirects are followed as requests is told to, each hop newly signed; one to an
    address that the adapter is not mounted at goes through another adapter, without a signature. A redirect that would
    send a POST, PUT, PATCH or DELETE a second time is not followed but returned.
    """

    def __init__(self, session: Signing, *, max_retries: int | urllib3.Retry = 0, **options: Any) -> None:
        check_session(session, "IBKRAdapter", asynchronous=False)
        super().__init__(**options)  # urllib3 itself is to repeat nothing: it would repeat the signature, too
        self._session = session
        self._retries = urllib3.Retry.from_int(max_retries)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("an IBKRAdapter cannot be pickled, since its session holds keys; make one in each process")

    def __repr__(self) -> str:
        return f"<IBKRAdapter for {self._session.base_url}>"

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """One request of requests': as many attempts as the retries allow, and one more after a stale signature."""
        retries, signed_again = self._retries, False
        while True:
            attempt = request.copy()
            signed = _sign(self._session, attempt)
            try:
                response = super().send(attempt, *args, **options)
            except (requests.ConnectionError, requests.ReadTimeout) as error:
                error.request = request
                following = _wait_after_error(retries, request, error)
                if following is None:
                    raise
            else:
                response.request = request  # without the signature, which is no good for another hop
                if not signed_again and _must_sign_again(self._session, signed, response) and _rewind(request):
                    signed_again, following = True, retries
                else:
                    following = _wait_after_answer(retries, response)
                if following is None:
                    return _without_unsafe_redirect(response)
            retries = following


# --- Signing -------------------------------------------------------------------------------------


def _sign(session: Signing, request: requests.PreparedRequest) -> SignedRequest:
    """Signs what is about to be sent, into its headers."""
    headers = cast("MutableMapping[str, str]", request.headers)
    for name in ("Content-Type", "Cookie"):
        if isinstance(value := request.headers.get(name), bytes):  # which requests accepts
            headers[name] = value.decode("latin-1")
    request.url = _sent_url(request)
    signed = session.sign(request.method or "GET", request.url, form=form_of(headers.get("Content-Type"), request.body))
    put_signature(headers, signed)
    return signed


def _sent_url(request: requests.PreparedRequest) -> str:
    """The address as urllib3 puts it on the wire: what is left to encode is encoded, the fragment is gone."""
    return urllib3.util.parse_url(request.url or "")._replace(fragment=None).url


def _must_sign_again(session: Signing, signed: SignedRequest, response: requests.Response) -> bool:
    if response.status_code not in DOUBTFUL:
        return False
    return session.must_sign_again(signed, response.status_code, response.headers, response.content)


# --- Redirects -----------------------------------------------------------------------------------


class _NotFollowed(requests.Response):
    """A redirect that requests is to return instead of following it."""

    @property
    def is_redirect(self) -> bool:
        return False


def _without_unsafe_redirect(response: requests.Response) -> requests.Response:
    """The answer itself, unless it would make requests send a second time what changes something."""
    if not response.is_redirect or _next_hop(response).method in SAFE:
        return response
    returned = _NotFollowed()
    returned.__dict__.update(response.__dict__)
    return returned


def _next_hop(response: requests.Response) -> requests.PreparedRequest:
    """What requests would send for a redirect; nothing is sent here."""
    with requests.Session() as throwaway:
        hops: Any = throwaway.resolve_redirects(response, response.request, yield_requests=True)
        hop: requests.PreparedRequest = next(hops)
    return hop


# --- Repeating -----------------------------------------------------------------------------------


def _wait_after_error(
    retries: urllib3.Retry, request: requests.PreparedRequest, error: requests.RequestException
) -> urllib3.Retry | None:
    """Waits as the policy says and returns what is left of it; None where the request is not to be repeated."""
    cause = error.args[0] if error.args else error
    try:
        left = retries.increment(request.method, request.url, error=getattr(cause, "reason", cause))
    except urllib3.exceptions.HTTPError:  # used up, or not to be repeated: requests' own error tells it better
        return None
    if not _rewind(request):
        return None
    left.sleep()
    return left


def _wait_after_answer(retries: urllib3.Retry, response: requests.Response) -> urllib3.Retry | None:
    """The same for an answer. Raises RetryError where the policy says so of the last one."""
    request, method = response.request, response.request.method or "GET"
    if not retries.is_retry(method, response.status_code, "Retry-After" in response.headers) or not _rewind(request):
        return None
    try:
        left = retries.increment(method, request.url, response=response.raw)
    except urllib3.exceptions.MaxRetryError as error:
        if not retries.raise_on_status:
            return None
        with contextlib.suppress(requests.RequestException):
            _ = response.content  # read now: who gets an error would not close its connection
        raise requests.exceptions.RetryError(error, request=request, response=response) from None
    response.raw.drain_conn()
    left.sleep(response.raw)
    return left


def _rewind(request: requests.PreparedRequest) -> bool:
    """Whether the body can be sent again, from its beginning."""
    if request.body is None or isinstance(request.body, (str, bytes)):
        return True
    try:
        requests.utils.rewind_body(request)
    except requests.exceptions.UnrewindableBodyError:
        return False
    return True
