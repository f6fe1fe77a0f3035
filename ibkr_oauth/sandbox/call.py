"""A verified request, and what the functions that answer such requests have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from . import answers, data
from .answers import Answer
from .faults import Faults
from .state import AccessToken, BrokerageSession, State
from .verify import IncomingRequest, Verified


@dataclass(frozen=True)
class Call:
    """A verified request on its way to the function that answers it."""

    state: State
    faults: Faults
    request: IncomingRequest
    verified: Verified
    path_values: dict[str, str]

    @property
    def access_token(self) -> AccessToken:
        """The access token of a protected call or of a live session token request."""
        assert self.verified.access_token is not None
        return self.verified.access_token

    @property
    def account(self) -> str:
        """The account of the user."""
        return data.account_id(self.access_token.username)

    def brokerage_session(self) -> BrokerageSession:
        """The open brokerage session of a call to ``/iserver``; `api.answer` has checked that there is one."""
        session = self.state.brokerage_session(self.access_token)
        assert session is not None
        return session

    def primed_session(self) -> BrokerageSession:
        """The same, for what is served only once ``/iserver/accounts`` was read. Raises `Refusal`."""
        session = self.brokerage_session()
        if not session.accounts_queried:
            raise answers.accounts_not_queried()
        return session

    def arguments(self) -> dict[str, object]:
        """The arguments of the call, from its query, its form body or its JSON object."""
        arguments: dict[str, object] = dict(self.request.query_pairs() + self.request.form_pairs())
        if self.request.media_type == "application/json" and self.request.body:
            try:
                body: object = json.loads(self.request.body)
            except (ValueError, RecursionError):
                raise answers.bad_request("the body is not JSON") from None
            if isinstance(body, dict):
                arguments |= cast("dict[str, object]", body)
        return arguments


@dataclass(frozen=True)
class Endpoint:
    """A path below ``/v1/api``, the methods it takes, and the function that answers."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    answer: Callable[[Call], Answer]


def endpoint(methods: str, path: str, answer: Callable[[Call], Answer]) -> Endpoint:
    """One line of the table of endpoints: methods with spaces between, pattern of the path, function."""
    return Endpoint(tuple(methods.split()), re.compile(path, re.ASCII), answer)
