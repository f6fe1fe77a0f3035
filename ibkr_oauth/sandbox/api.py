"""What the service does once a request is verified: the OAuth endpoints and the protected calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from . import answers, crypto, data
from .answers import Answer, json_answer
from .faults import Faults
from .state import AccessToken, State
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


# --- The three OAuth endpoints -------------------------------------------------------------------


def request_token(call: Call) -> Answer:
    """Issue a request token. There is no secret with it: IBKR signs with RSA."""
    issued = call.state.issue_request_token(call.verified.consumer)
    return json_answer({"oauth_token": issued.token})


def access_token(call: Call) -> Answer:
    """Exchange an approved request token, once."""
    approved = call.verified.request_token
    assert approved is not None
    approved.state = "used"
    granted, secret = call.state.grant(call.verified.consumer, approved.username)
    return json_answer({"is_paper": True, "oauth_token": granted.token, "oauth_token_secret": secret})


def live_session_token(call: Call) -> Answer:
    """Do the server's half of the exchange."""
    challenge_text = call.verified.parameters["diffie_hellman_challenge"]
    if not re.fullmatch(r"[0-9A-Fa-f]+", challenge_text):
        raise answers.challenge_not_hex()
    challenge, group = int(challenge_text, 16), call.verified.consumer.dh_group
    if not 2 <= challenge <= group.prime - 2:
        raise answers.challenge_out_of_range()
    exchanged = crypto.exchange(group, challenge, shape=call.faults.next_shape())
    issued = call.state.issue_live_session_token(call.access_token, exchanged.shared_secret)
    return json_answer(
        {
            "diffie_hellman_response": f"{exchanged.response:x}",
            "live_session_token_signature": crypto.live_session_token_signature(
                issued.value, call.verified.consumer.key
            ),
            "live_session_token_expiration": int(issued.expires_at * 1000),
        }
    )


# --- Session and brokerage session ---------------------------------------------------------------


def _authentication_status(call: Call) -> dict[str, object]:
    is_open = call.state.brokerage_session(call.access_token) is not None
    return {
        "authenticated": is_open,
        "competing": call.state.is_competing(call.access_token),
        "connected": True,
        "message": "",
        "MAC": data.MAC,
        "serverInfo": data.SERVER,
    }


def open_brokerage_session(call: Call) -> Answer:
    """``ssodh/init``: with ``compete`` another holder of the username is logged off."""
    arguments = call.arguments()
    if arguments.get("publish") not in (True, "true"):
        raise answers.not_published()
    compete = arguments.get("compete") in (True, "true")
    if compete or not call.state.is_competing(call.access_token):
        call.state.open_brokerage_session(call.access_token)
    status = _authentication_status(call)
    status["established"] = status["authenticated"]
    status["hardware_info"] = f"05bf8a5f|{data.MAC}"
    return json_answer(status)


def authentication_status(call: Call) -> Answer:
    """``auth/status``."""
    return json_answer({**_authentication_status(call), "fail": ""})


def tickle(call: Call) -> Answer:
    """Keep the brokerage session from timing out; every verified call does so."""
    return json_answer(
        {
            "session": call.access_token.session,
            "hmds": {"error": "no bridge"},  # as recorded where no historical data is in use
            "iserver": {"authStatus": _authentication_status(call)},
        }
    )


def validate_sso(_call: Call) -> Answer:
    """``/sso/validate`` belongs to gateway sessions."""
    raise answers.not_with_oauth_1()


def logout(call: Call) -> Answer:
    """End the brokerage session. Access token and live session token stay valid."""
    call.state.end_brokerage_session(call.access_token)
    return json_answer({"status": True})


# --- Reading -------------------------------------------------------------------------------------


def portfolio_accounts(call: Call) -> Answer:
    """The accounts of the user; needs no brokerage session."""
    return json_answer(data.portfolio_accounts(call.access_token.username))


def positions(call: Call) -> Answer:
    """The positions of an account, by pages."""
    if call.path_values["account"] != data.account_id(call.access_token.username):
        raise answers.foreign_account()
    return json_answer(data.positions(call.access_token.username, int(call.path_values["page"])))


def brokerage_accounts(call: Call) -> Answer:
    """The accounts that can trade; must be read before market data or orders."""
    session = call.state.brokerage_session(call.access_token)
    assert session is not None
    session.accounts_queried = True
    return json_answer(data.brokerage_accounts(call.access_token.username, call.access_token.session))


def snapshot(call: Call) -> Answer:
    """Market data: the first call for a contract only starts its flow, later ones have data."""
    session = call.state.brokerage_session(call.access_token)
    assert session is not None
    if not session.accounts_queried:
        raise answers.accounts_not_queried()
    arguments = call.arguments()
    conids = re.findall(r"[0-9]{1,12}", str(arguments.get("conids", "")))
    if not conids:
        raise answers.bad_request("conids is missing")
    fields = str(arguments.get("fields", "31,84,86")).split(",")
    rows: list[dict[str, object]] = []
    for conid in map(int, conids):
        if conid in session.snapshots_begun:
            rows.append(data.snapshot(conid, fields, call.state.now()))
        else:
            session.snapshots_begun.add(conid)
            rows.append(data.snapshot_begun(conid))
    return json_answer(rows)


# --- Where each path leads -----------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """A path below ``/v1/api``, the methods it takes, and the function that answers."""

    methods: tuple[str, ...]
    path: re.Pattern[str]
    answer: Callable[[Call], Answer]


def _endpoint(methods: str, path: str, answer: Callable[[Call], Answer]) -> Endpoint:
    return Endpoint(tuple(methods.split()), re.compile(path, re.ASCII), answer)


ENDPOINTS = (
    _endpoint("POST", "/oauth/request_token", request_token),
    _endpoint("POST", "/oauth/access_token", access_token),
    _endpoint("POST", "/oauth/live_session_token", live_session_token),
    _endpoint("POST", "/iserver/auth/ssodh/init", open_brokerage_session),
    _endpoint("POST GET", "/iserver/auth/status", authentication_status),
    _endpoint("POST GET", "/tickle", tickle),
    _endpoint("GET", "/sso/validate", validate_sso),
    _endpoint("POST", "/logout", logout),
    _endpoint("GET", "/portfolio/accounts", portfolio_accounts),
    _endpoint("GET", r"/portfolio/(?P<account>[^/]+)/positions/(?P<page>\d{1,6})", positions),
    _endpoint("GET", "/iserver/accounts", brokerage_accounts),
    _endpoint("GET", "/iserver/marketdata/snapshot", snapshot),
)


def answer(state: State, faults: Faults, request: IncomingRequest, verified: Verified) -> Answer:
    """Answer a verified request; raises `Refusal` for what the service would not do."""
    if verified.access_token is not None and verified.live_session_token is not None:
        if state.now() >= verified.live_session_token.expires_at:
            raise answers.live_session_token_expired()
        session = state.brokerage_session(verified.access_token)
        if session is not None:
            session.last_call = state.now()
        elif request.path.startswith("/iserver/") and not request.path.startswith("/iserver/auth/"):
            raise answers.no_bridge()
    for endpoint in ENDPOINTS:
        if found := endpoint.path.fullmatch(request.path):
            if request.method not in endpoint.methods:
                raise answers.method_not_allowed()
            return endpoint.answer(Call(state, faults, request, verified, found.groupdict()))
    raise answers.not_found()
