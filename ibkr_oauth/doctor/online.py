"""What the service says, step by step: each needs the one before."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast, get_args

from ibkr_oauth import advice, answers
from ibkr_oauth.clock import Clock, parse_date
from ibkr_oauth.consumer import Consumer
from ibkr_oauth.errors import (
    AuthorizationError,
    BrokerageError,
    CompetingSession,
    ConnectError,
    ConsumerNotActive,
    EdgeBlocked,
    IBKROAuthError,
    LiveSessionTokenError,
    LiveSessionTokenMismatch,
    ProxyError,
    SignatureRejected,
    Timeout,
    TLSError,
    TransportError,
)
from ibkr_oauth.oauth import sign_oauth_request
from ibkr_oauth.redact import path_of
from ibkr_oauth.session import Session
from ibkr_oauth.signing import QuerySigning, Signer
from ibkr_oauth.transport import Response, Transport, transport_options

from .report import Finding, bad, failed, good, short, skipped, warning

if TYPE_CHECKING:
    from .offline import Parts

#: Seconds for each request; a person waits.
TIMEOUT = 15.0
#: A clock this far off (seconds) is worth a word.
_SKEW = 30.0
_PROBE = "/iserver/auth/status"


def check(parts: Parts, clock: Clock, *, is_sound: bool, timeout: float) -> Iterator[Finding]:
    """Ends at the first step that fails. `is_sound`: nothing was wrong with files and values."""
    assert parts.base_url is not None
    options = parts.settings.options()
    transport = Transport(transport_options(ca_file=options.get("ca_file"), proxy=options.get("proxy")))
    try:
        date = yield from _reach(transport, parts, clock, timeout)
        consumer, token = parts.consumer(), parts.access_token
        if date is None or consumer is None or token is None or not is_sound:
            return
        session = Session(
            consumer,
            token,
            base_url=parts.base_url,
            timeout=timeout,
            brokerage="never",
            keep_alive=None,
            pacing=None,
            retries=0,
            store=parts.settings.store(),
            clock=clock,
            transport=transport,
        )
        # So that a wrong clock, which is told by now, hides nothing else.
        session._flow.server_clock.observe(date)
        try:
            yield from _sign(session, transport, consumer, parts)
        finally:
            with contextlib.suppress(IBKROAuthError):
                session.close()  # logs out what it opened
    finally:
        transport.close()


# --- Getting there --------------------------------------------------------------------------------


def _reach(transport: Transport, parts: Parts, clock: Clock, timeout: float) -> Generator[Finding, None, str | None]:
    """An unsigned request, as far as it gets. Returns the server's Date header, None where it is no use to go on."""
    assert parts.base_url is not None
    url = f"{parts.base_url}{_PROBE}"
    sent = clock.time()
    try:
        response = transport.send("GET", url, [], timeout=timeout)
    except TransportError as error:
        yield from _unreached(error, parts, clock)
        return None
    now = (sent + clock.time()) / 2
    yield good("name", "found")
    yield good("tcp", "connected")
    secure = url.lower().startswith("https:")
    yield good("tls", "the certificate is good") if secure else skipped("tls", "plain http, to this machine only")
    refusal = answers.error_of(response, now)
    if isinstance(refusal, EdgeBlocked):
        yield bad(
            "edge",
            "edge-blocked",
            "the network edge in front of IBKR refuses this computer before anybody looks at OAuth (403, a page of "
            "HTML)",
            "Nothing in your keys or settings changes that. Try from another network: addresses of clouds, VPNs and "
            "some countries are blocked.",
            EdgeBlocked,
        )
        return None
    yield good("edge", "lets this computer through")
    finding = _service(response, refusal, parts)
    yield finding
    date = response.headers.get("date", "")
    if finding.state == "bad":
        return None
    yield _clock(date, now)
    return date


def _unreached(error: TransportError, parts: Parts, clock: Clock) -> Iterator[Finding]:
    step, cause = _place_of(error)
    for before in ("name", "tcp", "tls"):
        if before == step:
            break
        yield good(before, "found" if before == "name" else "connected")
    now = f"{datetime.fromtimestamp(clock.time(), UTC):%Y-%m-%d %H:%M} UTC"
    words = _WHAT_TO_DO.get(cause, error.advice).replace("{now}", now)
    if (isinstance(error, ConnectError) or cause == "timeout-connection") and any(
        parts.environment.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        words = "A proxy is named in the environment: set IBKR_OAUTH_PROXY to that address, if it is the only way out."
    yield failed(step, error, cause)._replace(advice=words)


# Words of the transport's errors: the step, and a stable word for what it was.
_PLACES: tuple[tuple[type[TransportError], str, str, str], ...] = (
    (TLSError, "no certificate authorities", "tls", "ca-missing"),
    (TLSError, "self-signed certificate)", "tls", "certificate-self-signed"),
    (TLSError, "unknown authority", "tls", "unknown-authority"),
    (TLSError, "another host", "tls", "certificate-host"),
    (TLSError, "expired", "tls", "certificate-expired"),
    (TLSError, "not valid yet", "tls", "certificate-not-yet-valid"),
    (TLSError, "", "tls", "tls-failed"),
    (ProxyError, "status 407", "tcp", "proxy-password"),
    (ProxyError, "refused the tunnel", "tcp", "proxy-refuses"),
    (ProxyError, "", "tcp", "proxy"),
    (ConnectError, "host name not found", "name", "host-name"),
    (ConnectError, "shaking hands", "tls", "tls-cut-off"),
    (ConnectError, "refused", "tcp", "connection-refused"),
    (ConnectError, "", "tcp", "no-connection"),
    (Timeout, "looking up", "name", "timeout-name"),
    (Timeout, "through the proxy", "tcp", "timeout-proxy"),
    (Timeout, "connecting", "tcp", "timeout-connection"),
    (Timeout, "shaking hands", "tls", "timeout-tls"),
    (TransportError, "timed out while reading", "service", "timeout-in-answer"),
    (TransportError, "timed out", "service", "timeout"),
    (TransportError, "", "service", "no-answer"),
)

# What to do, where doctor can say more than the error does.
_WHAT_TO_DO = {
    "host-name": "Check the address of the API for a slip, and that this computer's DNS works.",
    "connection-refused": "Nobody listens at that address and port, or a firewall stands between: check base_url and "
    "the network.",
    "unknown-authority": "Something between here and IBKR shows its own certificate, as company proxies do: give that "
    "company's certificate authority as ca_file. Verification cannot be switched off.",
    "certificate-self-signed": "The server there vouches for itself, as none of IBKR's does: check base_url. If it is "
    "a server of your own, give its certificate as ca_file.",
    "certificate-host": "Check the host in base_url: the server there is another one.",
    "certificate-expired": "Look at this computer's date first, which is {now}. If it is right, the certificate of the "
    "server there, or of a company proxy on the way, is too old, and whoever runs that must renew it.",
    "certificate-not-yet-valid": "Look at this computer's date first, which is {now}: set the clock, best by NTP. If "
    "it is right, the certificate of the server there is dated wrongly, and whoever runs that must replace it.",
    "proxy-password": "This proxy wants a user name and a password: set IBKR_OAUTH_PROXY to "
    "http://user:password@host:port.",
    "proxy-refuses": "Ask whoever runs the proxy to let connections to that host through.",
    "timeout-name": "This computer's DNS does not answer: check the network, and that a VPN or firewall lets it "
    "through.",
    "timeout-proxy": "The proxy does not do its work: check its address, and that it can reach the host.",
    "timeout-connection": "Nothing comes back from there, as where a firewall drops what is sent: check base_url, and "
    "try from another network. Where a proxy is the only way out, set IBKR_OAUTH_PROXY.",
    "timeout-tls": "The connection stands, and nothing comes through it: a firewall that looks into TLS, or a VPN with "
    "packets too large for it (MTU). Try from another network.",
    "timeout": "The service took the request and is silent. Try again in some minutes; nightly resets are normal. If "
    "it stays, try from another network.",
    "timeout-in-answer": "The answer began and does not end: the network or the service is too slow. Try again, and "
    "from another network if it stays.",
    "no-answer": TransportError.default_advice,  # what else there is to say of a lost order does not concern doctor
}


def _place_of(error: TransportError) -> tuple[str, str]:
    return next(
        (step, cause) for kind, words, step, cause in _PLACES if isinstance(error, kind) and words in error.message
    )


def _service(response: Response, error: IBKROAuthError | None, parts: Parts) -> Finding:
    """Whether IBKR's API answers. A refusal for want of a signature is the answer that we want."""
    status = response.status_code
    if status == 401 or error is None:
        return good("service", f"answers ({status})")
    if status == 404 or "html" in response.headers.get("content-type", "").lower():
        return bad(
            "service",
            "not-the-api",
            f"what answers at {parts.base_url} is not IBKR's API (status {status})",
            "Correct base_url; IBKR's is https://api.ibkr.com/v1/api.",
            type(error),
        )
    if isinstance(error, AuthorizationError):
        return good("service", f"answers ({status})")
    return failed("service", error)


def _clock(date: str, now: float) -> Finding:
    server = parse_date(date)
    if server is None:
        return warning(
            "clock",
            "no-date",
            "the server's time is not known: its answer has no Date",
            "Check that this computer's clock is set by NTP.",
        )
    skew = now - server
    if abs(skew) <= _SKEW:
        return good("clock", "as the server's")
    ahead = "ahead of" if skew > 0 else "behind"
    return warning(
        "clock",
        "clock-skew",
        f"this computer's clock is {abs(skew):.0f} s {ahead} the server's",
        "Set the clock, best by NTP. This library signs with the server's time meanwhile; other programs are refused.",
    )


# --- Signing --------------------------------------------------------------------------------------


def _sign(session: Session, transport: Transport, consumer: Consumer, parts: Parts) -> Iterator[Finding]:
    try:
        session.refresh()
    except LiveSessionTokenMismatch:
        yield good("live_session_token", "agreed on: consumer key, signing key, access token and secret are accepted")
        yield _other_group("token_signature", "the service derives another token than we do", consumer)
        return
    except IBKROAuthError as error:
        yield _refused(error, session, transport, consumer)
        return
    credential = session._flow.credential
    assert credential is not None
    token = credential.token
    yield good("live_session_token", f"agreed on, good until {token.expires_at:%Y-%m-%d %H:%M} UTC")
    yield good("token_signature", "proves the token: the Diffie-Hellman parameters are the same on both sides")
    try:
        accounts = session.get("/portfolio/accounts").raise_for_status().json()
    except IBKROAuthError as error:
        yield _failed("portfolio", error)
        return
    count = len(cast("list[object]", accounts)) if isinstance(accounts, list) else 0
    yield good("portfolio", f"answers with {count} account{'' if count == 1 else 's'}")
    yield from _brokerage(session)
    yield _query_signing(session, transport, Signer(consumer, token), parts)


def _refused(error: IBKROAuthError, session: Session, transport: Transport, consumer: Consumer) -> Finding:
    step = "live_session_token"
    if isinstance(error, ConsumerNotActive):
        if _is_plain(consumer.key):
            return bad(
                step,
                "not-activated",
                f"your side is proven correct as far as it can be, and IBKR has not activated the consumer key "
                f"{consumer.key} (it answers: invalid consumer)",
                "Compare the consumer key with the portal, letter by letter; then wait: new keys become active "
                "overnight, officially after the weekend, at times only after two weeks. `ibkr-oauth wait` asks for "
                "you.",
                ConsumerNotActive,
            )
        return bad(
            step,
            "consumer-key-shape",
            "IBKR does not know the consumer key, and it is not spelled as those of the portal are: nine letters A-Z",
            "Compare it with the portal, letter by letter, and correct it.",
            ConsumerNotActive,
        )
    if isinstance(error, LiveSessionTokenError) and (error.code == "dh_response" or "challenge" in error.message):
        return _other_group(step, "the service's half of the exchange does not fit", consumer)
    if "diffie_hellman_challenge" in (error.body or ""):
        return _other_group(step, "the service refuses our half of the exchange", consumer)
    if isinstance(error, SignatureRejected):
        return _whose_signature(error, session, transport, consumer)
    return _failed(step, error)


def _is_plain(consumer_key: str) -> bool:
    return consumer_key == "TESTCONS" or (len(consumer_key) == 9 and consumer_key.isalpha())


def _whose_signature(error: SignatureRejected, session: Session, transport: Transport, consumer: Consumer) -> Finding:
    """The signing key, or the access token secret, which is part of what was signed. A request token needs the former
    only."""
    request = sign_oauth_request(
        consumer,
        f"{session.base_url}/oauth/request_token",
        [("oauth_callback", "oob")],
        timestamp=int(session._flow.server_clock.now()),
    )
    step = "live_session_token"
    timeout = session._flow.timeout_ms / 1000
    try:
        response = transport.send("POST", request.url, list(request.headers.items()), request.body, timeout=timeout)
        refusal = answers.error_of(response)
    except TransportError:
        return failed(step, error, "signature-rejected")
    fingerprint = short(consumer.signing_key.fingerprint)
    if refusal is None:
        return bad(
            step,
            "secret-outdated",
            "the signing key is accepted, and the access token secret is not the one that IBKR has for this token",
            "Generate the access token again in the portal, and store token and secret of the same turn together. The "
            "keys stay.",
            SignatureRejected,
        )
    if not isinstance(refusal, SignatureRejected):
        return failed(step, error, "signature-rejected")
    return bad(
        step,
        "signing-key-not-registered",
        f"IBKR has another public key than that of this signing key (fingerprint {fingerprint})",
        "Upload public_signature.pem of this key to the portal in place of the one there, or give the signing key "
        "whose public half was uploaded.",
        SignatureRejected,
    )


def _other_group(step: str, what: str, consumer: Consumer) -> Finding:
    return bad(
        step,
        "dh-parameters-differ",
        f"{what}: the Diffie-Hellman parameters in the portal are others than these "
        f"(fingerprint {short(consumer.dh_params.fingerprint)})",
        "Upload this dhparam.pem to the portal again, or give the file that was uploaded.",
        LiveSessionTokenMismatch,
    )


def _failed(step: str, error: IBKROAuthError) -> Finding:
    cause = _cause(error)
    return failed(step, error, cause)._replace(advice=_WHAT_TO_DO.get(cause, error.advice))


def _cause(error: IBKROAuthError) -> str:
    """The name of the answer in the table of `advice`, where it is there."""
    if isinstance(error, TransportError):
        return _place_of(error)[1]
    if error.status is not None:
        entry = advice.meaning_of(error.status, error.body or "", path_of(error.url or ""))
        if entry is not None:
            return entry.id
    return error.code.replace("_", "-")


# --- The brokerage session ------------------------------------------------------------------------


def _brokerage(session: Session) -> Iterator[Finding]:
    """Opens it and lets it go again. One that is open already stays, and nobody is thrown out."""
    try:
        status = session.status()
    except IBKROAuthError as error:
        yield _failed("brokerage", error)
        return
    if status.competing:
        yield skipped("brokerage", "not tried: another login has it, and nobody is thrown out")
        yield _competing()
        return
    if status.authenticated:
        yield good("brokerage", "open already, and left as it is")
        yield good("competing", "none")
        return
    try:
        session.brokerage.open(compete=False)
    except CompetingSession:
        yield skipped("brokerage", "not opened: another login has it, and nobody is thrown out")
        yield _competing()
        return
    except IBKROAuthError as error:
        if not isinstance(error, BrokerageError) or error.sent:
            with contextlib.suppress(IBKROAuthError):  # it may be open all the same
                session.post("/logout")
        found = _failed("brokerage", error)
        found = found._replace(detail=f"OAuth works, and the brokerage session does not: {found.detail}")
        if not isinstance(error, TransportError):
            more = "Try again tomorrow; if it stays, ask IBKR about the account's permissions."
            found = found._replace(advice=f"{found.advice} {more}")
        yield found
        return
    yield good("brokerage", "opens; closed again")
    yield good("competing", "none")


def _competing() -> Finding:
    return bad(
        "competing",
        "competing-login",
        "OAuth works, and another login of the user name (TWS, the phone, another program) has the brokerage session",
        "Log out there, or use a second user name for the API; on_competing='take' throws the other one out.",
        CompetingSession,
    )


# --- Queries --------------------------------------------------------------------------------------


def _query_signing(session: Session, transport: Transport, signer: Signer, parts: Parts) -> Finding:
    """Which rules for queries the service accepts."""
    assert session.consumer is not None
    credential = session._flow.credential
    assert credential is not None
    accepted: list[str] = []
    for rule in get_args(QuerySigning):
        signer = Signer(session.consumer, credential.token, query_signing=rule)
        request = signer.sign(
            "POST",
            f"{parts.base_url}{_PROBE}",
            # A blank tells single from double encoding.
            [("probe", "a b")],
            timestamp=int(session._flow.server_clock.now()),
        )
        try:
            timeout = session._flow.timeout_ms / 1000
            response = transport.send("POST", request.url, list(request.headers.items()), timeout=timeout)
        except TransportError as error:
            return skipped("query_signing", f"no answer: {error.message}")
        if response.status_code < 400:
            accepted.append(rule)
        elif not isinstance(answers.error_of(response), AuthorizationError):
            return skipped("query_signing", f"the service answers with status {response.status_code}")
    if "omit" in accepted:
        return good("query_signing", f"accepted: {', '.join(accepted)}")
    if accepted:
        return warning(
            "query_signing",
            "query-signing",
            f"the service signs queries by the rule {accepted[0]} and not by omit, which is the default",
            f"Make sessions with query_signing={accepted[0]!r}.",
        )
    return warning(
        "query_signing",
        "query-signing",
        "the service accepts none of the rules for signing queries",
        "Calls without a query work. Report it, with a bundle: ibkr-oauth doctor --bundle FILE.",
    )
