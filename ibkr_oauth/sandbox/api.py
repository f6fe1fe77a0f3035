"""What the service does once a request is verified: the OAuth endpoints and the protected calls."""

from __future__ import annotations

import re

from . import answers, crypto, data, trading
from .answers import Answer, json_answer
from .call import Call, endpoint
from .faults import Faults
from .limits import Pacing
from .state import State
from .verify import IncomingRequest, Verified

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
    if call.access_token.session_lost:
        return json_answer({"error": "no session"})
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
    call.access_token.logouts += 1
    return json_answer({"status": True})


# --- Reading -------------------------------------------------------------------------------------


def portfolio_accounts(call: Call) -> Answer:
    """The accounts of the user; needs no brokerage session."""
    return json_answer(data.portfolio_accounts(call.access_token.username))


def positions(call: Call) -> Answer:
    """The positions of an account, by pages."""
    return json_answer(data.positions(_own_account(call), int(call.path_values["page"])))


def summary(call: Call) -> Answer:
    """The balances of an account, one object for each."""
    return json_answer(data.summary(_own_account(call), call.state.now()))


def ledger(call: Call) -> Answer:
    """The balances of an account by currency."""
    return json_answer(data.ledger(_own_account(call), call.state.now()))


def performance(call: Call) -> Answer:
    """``/pa/performance``: the value of accounts over time."""
    arguments = call.arguments()
    if arguments.get("acctIds") != [call.account]:
        raise answers.bad_request(f"acctIds must be [{call.account}], the accounts of this user")
    return json_answer(data.performance(call.account, str(arguments.get("period", "1M")), call.state.now()))


def _own_account(call: Call) -> str:
    if call.path_values["account"] != call.account:
        raise answers.foreign_account()
    return call.account


def brokerage_accounts(call: Call) -> Answer:
    """The accounts that can trade; must be read before market data or orders."""
    call.brokerage_session().accounts_queried = True
    return json_answer(data.brokerage_accounts(call.access_token.username, call.access_token.session))


def snapshot(call: Call) -> Answer:
    """Market data: the first call for a contract only starts its flow, later ones have data."""
    session = call.primed_session()
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


def contracts(call: Call) -> Answer:
    """``/iserver/secdef/search``: the contracts of a symbol."""
    symbol = str(call.arguments().get("symbol", "")).strip()
    if not symbol:
        raise answers.bad_request("symbol is missing")
    return json_answer(data.contracts(symbol))


def run_scanner(call: Call) -> Answer:
    """``/iserver/scanner/run``: what a market scanner finds."""
    arguments = call.arguments()
    for name in ("instrument", "type", "location"):
        if not arguments.get(name):
            raise answers.bad_request(f"{name} is missing")
    return json_answer(data.scanner_rows())


# --- Where each path leads -----------------------------------------------------------------------

ENDPOINTS = (
    endpoint("POST", "/oauth/request_token", request_token),
    endpoint("POST", "/oauth/access_token", access_token),
    endpoint("POST", "/oauth/live_session_token", live_session_token),
    endpoint("POST", "/iserver/auth/ssodh/init", open_brokerage_session),
    endpoint("POST GET", "/iserver/auth/status", authentication_status),
    endpoint("POST GET", "/tickle", tickle),
    endpoint("GET", "/sso/validate", validate_sso),
    endpoint("POST", "/logout", logout),
    endpoint("GET", "/portfolio/accounts", portfolio_accounts),
    endpoint("GET", r"/portfolio/(?P<account>[^/]+)/positions/(?P<page>\d{1,6})", positions),
    endpoint("GET", "/iserver/accounts", brokerage_accounts),
    endpoint("GET", "/iserver/marketdata/snapshot", snapshot),
    endpoint("GET POST", "/iserver/secdef/search", contracts),
    endpoint("POST", "/iserver/scanner/run", run_scanner),
    endpoint("GET", r"/portfolio/(?P<account>[^/]+)/summary", summary),
    endpoint("GET", r"/portfolio/(?P<account>[^/]+)/ledger", ledger),
    endpoint("POST", "/pa/performance", performance),
    *trading.ENDPOINTS,
)


def answer(state: State, faults: Faults, pacing: Pacing, request: IncomingRequest, verified: Verified) -> Answer:
    """Answer a verified request; raises `Refusal` for what the service would not do."""
    if verified.access_token is not None and verified.live_session_token is not None:
        if state.now() >= verified.live_session_token.expires_at:
            raise answers.live_session_token_expired()
        if state.settings.enforce_pacing:
            pacing.check(verified.access_token.token, request.path, state.true_time())
        session = state.brokerage_session(verified.access_token)
        if session is not None:
            session.last_call = state.now()
        elif request.path.startswith("/iserver/") and not request.path.startswith("/iserver/auth/"):
            raise answers.not_authenticated() if state.is_competing(verified.access_token) else answers.no_bridge()
    is_known = False
    for one in ENDPOINTS:
        if found := one.path.fullmatch(request.path):
            if request.method in one.methods:
                return one.answer(Call(state, faults, request, verified, found.groupdict()))
            is_known = True
    raise answers.method_not_allowed() if is_known else answers.not_found()
