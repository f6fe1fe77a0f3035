"""What the adapters have in common: whom they take, what of a request is signed, and what they do to its headers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping
from typing import Protocol
from urllib.parse import parse_qsl

from ibkr_oauth.errors import InvalidValue, ServerError
from ibkr_oauth.redact import without_query
from ibkr_oauth.signing import FORM_TYPE, Pairs, SignedRequest

#: Answers that may refuse the signature itself; the session is asked about them.
DOUBTFUL = (401, 410)

#: Methods that change nothing: a redirect of these, and only of these, may be followed.
SAFE = ("GET", "HEAD")


class Signing(Protocol):
    """What the adapters need of a session: `Session` has it."""

    @property
    def base_url(self) -> str: ...
    def sign(self, method: str, url: str, *, form: Pairs | None = None) -> SignedRequest: ...
    def must_sign_again(
        self, signed: SignedRequest, status_code: int, headers: Mapping[str, str], content: bytes
    ) -> bool: ...


class AsyncSigning(Protocol):
    """The same, awaitable: `AsyncSession` has it."""

    @property
    def base_url(self) -> str: ...
    async def sign(self, method: str, url: str, *, form: Pairs | None = None) -> SignedRequest: ...
    async def must_sign_again(
        self, signed: SignedRequest, status_code: int, headers: Mapping[str, str], content: bytes
    ) -> bool: ...


def missing(package: str, extra: str, error: ModuleNotFoundError) -> ImportError:
    """What to raise where an import of `package` failed: how to install it, unless something else is broken."""
    if (error.name or "").partition(".")[0] != package:
        return error
    return ModuleNotFoundError(
        f"{package.replace('_', '-')} is not installed: pip install 'ibkr_oauth[{extra}]'", name=package
    )


def check_session(session: object, adapter: str, *, asynchronous: bool) -> None:
    """Raises TypeError for anything but a session of the wanted kind."""
    sign = getattr(session, "sign", None)
    if hasattr(session, "must_sign_again") and inspect.iscoroutinefunction(sign) is asynchronous:
        return
    wanted = "AsyncSession" if asynchronous else "Session"
    raise TypeError(f"{adapter} needs an ibkr_oauth.{wanted}, not {type(session).__name__}")


def is_own(session: Signing | AsyncSigning, url: str) -> bool:
    """Whether the session signs for this URL. It refuses others itself; redirects want to know before."""
    return url.startswith(f"{session.base_url}/")


def form_of(content_type: str | None, body: object) -> Pairs | None:
    """The fields of a form body, which are signed; None for bodies of other types, which are not.

    Raises InvalidValue for a form that cannot be read back into its fields, such as a stream.
    """
    if not body or (content_type or "").partition(";")[0].strip().lower() != FORM_TYPE:
        return None
    if not isinstance(body, (bytes, str)):
        raise InvalidValue("a form in a stream cannot be signed: give its fields, or its text as a whole")
    try:
        text = body if isinstance(body, str) else body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        reason = "its fields are not UTF-8 in percent-encoding"
    # Outside of the handler: an error of decoding holds the whole body, and would be kept as context.
    raise InvalidValue(f"a form that cannot be signed: {reason}")


def put_signature(headers: MutableMapping[str, str], signed: SignedRequest) -> None:
    """Into the headers of one attempt; those of an earlier attempt go. The body stays as the other client made it."""
    headers.pop("Authorization", None)
    for name, value in signed.headers.items():
        if name == "Authorization":
            headers[name] = value
        elif name == "Cookie":
            headers[name] = _merged(headers.get(name), value)


def _merged(cookies: str | None, ours: str) -> str:
    """The other client's cookies, but for those that the session knows better."""
    names = {_cookie_name(pair) for pair in ours.split(";")}
    kept = [pair.strip() for pair in (cookies or "").split(";") if pair.strip() and _cookie_name(pair) not in names]
    return "; ".join([*kept, ours])


def _cookie_name(pair: str) -> str:
    return pair.partition("=")[0].strip()


def redirect_refused(method: str, url: str, status: int) -> ServerError:
    """For a redirect that would repeat what changes something."""
    return ServerError(
        f"answered with a redirect ({status}); a {method} is not sent a second time by itself",
        advice="IBKR's API does not redirect: check base_url and what lies between here and there.",
        status=status,
        method=method,
        url=without_query(url),
    )
