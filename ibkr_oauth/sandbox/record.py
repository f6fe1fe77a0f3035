"""The record of what clients sent, without anything secret in it."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from .faults import DropStage
from .state import QueryRule

_RECORDED_REQUESTS = 10_000  # the oldest fall out, so that a sandbox may run for weeks
_COUNTED_PATHS = 10_000

_SHOWN = {
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
    "x-sandbox-explain",
}


@dataclass(frozen=True)
class RecordedRequest:
    """One request that a client sent, and how it was answered.

    `path` is without the query. `headers` has lower-case names; of ``Authorization`` only the names
    of the parameters are kept, in the order in which they came, and other headers that may carry
    secrets read ``<redacted>``. `query_rule` is the rule under which the signature of a call with a
    query was found right. `refusal` is the sandbox's reason in plain words, None for a good answer.

    `processed` says whether the service acted on the request: it passed every check, and what it
    asks for was done, whether or not the answer arrived. `dropped` is the stage at which the
    connection was cut on request; `status` is then that of the answer that did not arrive or not
    whole, and 0 where there is none. `cookie_sent`: whether it came with a cookie ``api``.
    `nonce`: of its ``Authorization``, None without one.
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    query_rule: QueryRule | None
    refusal: str | None
    processed: bool = False
    dropped: DropStage | None = None
    cookie_sent: bool = False
    nonce: str | None = None


class Record:
    """The newest requests, and how many there were of each path."""

    def __init__(self) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=_RECORDED_REQUESTS)
        self.counts: Counter[str] = Counter()

    def add(self, request: RecordedRequest) -> None:
        """Note one more."""
        self.requests.append(request)
        is_new = request.path not in self.counts
        self.counts["…" if is_new and len(self.counts) >= _COUNTED_PATHS else request.path] += 1


def redacted(headers: Headers) -> dict[str, str]:
    """The headers without their secrets; repeated ones are joined with commas."""
    shown: dict[str, str] = {}
    for name, value in headers.items():
        text = _redacted_value(name, value)
        shown[name] = f"{shown[name]}, {text}" if name in shown else text
    return shown


def nonce_of(headers: Headers) -> str | None:
    """The nonce of ``Authorization``, as it was sent."""
    found = re.search(r'\boauth_nonce="([^"]*)"', headers.get("authorization", ""))
    return found[1] if found else None


def _redacted_value(name: str, value: str) -> str:
    if name in _SHOWN:
        return value
    if name == "authorization" and value[:6].lower() == "oauth ":
        names = re.findall(r"\b(realm|oauth_\w+|diffie_hellman_challenge)=", value)
        return f"OAuth {', '.join(names)}"
    return "<redacted>"
