"""Everything that `ibkr_oauth` raises.

    IBKROAuthError
    ├─ ConfigurationError     what you gave cannot work: nothing was sent
    │  ├─ MissingSetting          a required value is empty
    │  ├─ KeyFormatError          not a private RSA key of 2048 bits or more
    │  ├─ KeyMismatchError        a secret that does not belong to this key
    │  ├─ DHParametersError       not a usable Diffie-Hellman group
    │  └─ InsecurePermissionsError
    ├─ AuthorizationError     IBKR refuses your credentials
    │  ├─ ConsumerNotActive       the consumer key is unknown, or not active yet
    │  ├─ RequestTokenError       request token unknown or used
    │  ├─ VerifierError           verifier wrong, or of another request token
    │  ├─ AccessTokenUnknown      access token or its secret unknown
    │  ├─ SignatureRejected       the signature does not verify there
    │  └─ ClockSkewError          your clock is wrong
    ├─ LiveSessionTokenError  the live session token could not be agreed
    │  ├─ LiveSessionTokenMismatch
    │  └─ LiveSessionTokenExpired
    ├─ BrokerageError         the brokerage session (`/iserver`)
    │  ├─ BrokerageNotOpen
    │  ├─ BrokerageRefused
    │  ├─ CompetingSession
    │  ├─ SessionLost
    │  └─ PrimingRequired
    ├─ TransportError         no usable answer came back
    │  ├─ ConnectError
    │  ├─ TLSError
    │  ├─ ProxyError
    │  ├─ EdgeBlocked             refused by the network edge, before OAuth
    │  ├─ Timeout                 also a builtin TimeoutError
    │  ├─ OutcomeUnknown          sent, perhaps processed, no answer read
    │  └─ ResponseTooLarge
    ├─ ServiceError           IBKR answered, and not with what was asked for
    │  ├─ MaintenanceError
    │  ├─ RateLimited             has .retry_after in seconds
    │  └─ ServerError
    ├─ UsageError             the library was called in a way that cannot work
    │  ├─ InvalidValue            also a builtin ValueError
    │  ├─ SessionClosed
    │  ├─ UsedAfterFork
    │  └─ ReadOnlyError
    └─ StoreError

Each error says what was wrong in `.message` and what to do next in `.advice`; `str()` gives both. No error holds a
secret, and all can be pickled.
"""

from __future__ import annotations

from typing import Any, ClassVar


class IBKROAuthError(Exception):
    """Root of all errors of this library.

    `message`: what was wrong. `advice`: what to do next, one or two sentences. `code`: a stable word for programs
    ("key_format"). Where there was an HTTP answer: `status`, `body` (redacted text), `method` and `url` (without
    query).
    `where` and `native`: the C function and the OpenSSL, libcurl or system error number, for bug reports. `sent`: bytes
    of the request may have reached the server.
    """

    default_code: ClassVar[str] = "error"
    default_advice: ClassVar[str] = "Read the message; if it does not help, report it with the code."

    def __init__(
        self,
        message: str,
        *,
        advice: str | None = None,
        code: str | None = None,
        status: int | None = None,
        body: str | None = None,
        method: str | None = None,
        url: str | None = None,
        where: str | None = None,
        native: str | None = None,
        sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice or self.default_advice
        self.code = code or self.default_code
        self.status = status
        self.body = body
        self.method = method
        self.url = url
        self.where = where
        self.native = native
        self.sent = sent

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.__dict__.copy())


def _restore(kind: type[IBKROAuthError], message: str, state: dict[str, Any]) -> IBKROAuthError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class ConfigurationError(IBKROAuthError):
    """What was given cannot work. Nothing was sent."""

    default_code = "configuration"
    default_advice = "Correct the setting that the message names."


class MissingSetting(ConfigurationError):
    default_code = "missing_setting"
    default_advice = "Give the value that the message names; consumer key, keys and tokens come from IBKR's portal."


class KeyFormatError(ConfigurationError):
    default_code = "key_format"
    default_advice = (
        "Give the private PEM file that `ibkr-oauth keygen` or `openssl genrsa 2048` wrote, not the public "
        "half that was uploaded."
    )


class KeyMismatchError(ConfigurationError):
    default_code = "key_mismatch"
    default_advice = (
        "Copy the access token secret again, whole, and check that the encryption key is the one whose "
        "public half is in the portal."
    )


class DHParametersError(ConfigurationError):
    default_code = "dh_parameters"
    default_advice = (
        "Give the dhparam.pem that was uploaded to IBKR (PKCS#3, `openssl dhparam 2048`), or make another "
        "with `ibkr-oauth keygen`."
    )


class InsecurePermissionsError(ConfigurationError):
    default_code = "insecure_permissions"
    default_advice = "Make the file readable by its owner only: chmod 600 FILE."


class AuthorizationError(IBKROAuthError):
    """IBKR refuses the credentials."""

    default_code = "authorization"
    default_advice = "Check consumer key, access token and keys against the portal."


class ConsumerNotActive(AuthorizationError):
    default_code = "consumer_not_active"
    default_advice = (
        "Check the spelling (IBKR stores consumer keys in upper case). New keys become active at an IBKR reset: often "
        "overnight, officially after the weekend, up to two weeks were reported. `ibkr-oauth wait` tells when."
    )


class RequestTokenError(AuthorizationError):
    default_code = "request_token"
    default_advice = "Request tokens work once. Ask for another one and let the user authorise it."


class VerifierError(AuthorizationError):
    default_code = "verifier"
    default_advice = (
        "Use the oauth_verifier of the redirect that belongs to this request token, or the whole redirect URL."
    )


class AccessTokenUnknown(AuthorizationError):
    default_code = "access_token_unknown"
    default_advice = (
        "Generate a new access token in the portal and store token and secret together; the keys stay. It "
        "usually works within a minute."
    )


class SignatureRejected(AuthorizationError):
    default_code = "signature_rejected"
    default_advice = (
        "Compare the signing key's fingerprint (`ibkr-oauth keys check`) with the public key in the portal, and check "
        "that the access token secret belongs to the encryption key."
    )


class ClockSkewError(AuthorizationError):
    default_code = "clock_skew"
    default_advice = "Set this computer's clock (NTP); OAuth timestamps must be close to the server's time."


class LiveSessionTokenError(IBKROAuthError):
    """The live session token could not be agreed with the server."""

    default_code = "live_session_token"
    default_advice = (
        "Try again; if it stays, the answer comes from something else than IBKR, or the service is disturbed."
    )


class LiveSessionTokenMismatch(LiveSessionTokenError):
    default_code = "token_mismatch"
    default_advice = (
        "The Diffie-Hellman parameters are not those that were uploaded, or the access token secret belongs to another "
        "encryption key. The token was thrown away."
    )


class LiveSessionTokenExpired(LiveSessionTokenError):
    default_code = "live_session_token_expired"
    default_advice = "Ask for a new live session token; they last about 24 hours."


class BrokerageError(IBKROAuthError):
    """The brokerage session, which `/iserver` paths need."""

    default_code = "brokerage"
    default_advice = "Open the brokerage session again: POST /iserver/auth/ssodh/init."


class BrokerageNotOpen(BrokerageError):
    default_code = "brokerage_not_open"
    default_advice = "This path needs the brokerage session: POST /iserver/auth/ssodh/init first."


class BrokerageRefused(BrokerageError):
    default_code = "brokerage_refused"
    default_advice = (
        "OAuth works; IBKR refused the brokerage session. Seen on new or paper users and accounts without trading "
        "permission. /portfolio works meanwhile."
    )


class CompetingSession(BrokerageError):
    default_code = "competing_session"
    default_advice = (
        "The user name is active elsewhere (TWS, the phone, another script). Use a second user name, or "
        "take over with compete=true."
    )


class SessionLost(BrokerageError):
    default_code = "session_lost"
    default_advice = "The brokerage session ended (reset, logout or another login). Open it again."


class PrimingRequired(BrokerageError):
    default_code = "priming_required"
    default_advice = "Call GET /iserver/accounts once, then repeat."


class TransportError(IBKROAuthError):
    """No usable answer came back."""

    default_code = "transport"
    default_advice = "Try again; if it stays, look at the network between here and the server."


class ConnectError(TransportError):
    default_code = "connect"
    default_advice = "Nothing was sent, so it is safe to repeat. Check host name, network and firewall."


class TLSError(TransportError):
    default_code = "tls"
    default_advice = (
        "Nothing was sent. Behind a company proxy give its certificate authority as ca_file; verification "
        "cannot be switched off."
    )


class ProxyError(TransportError):
    default_code = "proxy"
    default_advice = "Check the proxy's address and whether it lets this host through."


class EdgeBlocked(TransportError):
    default_code = "edge_blocked"
    default_advice = (
        "The network edge refused before OAuth was looked at; typical for cloud addresses and missing User-Agents."
    )


class Timeout(TransportError, TimeoutError):
    default_code = "timeout"
    default_advice = "It is safe to repeat. Raise the timeout if the service is slow."


class OutcomeUnknown(TransportError):
    """The request was sent and no answer was read: the server may have done it, or not. It is never repeated by
    itself.
    """

    default_code = "outcome_unknown"
    default_advice = "Ask the server what it did (orders, trades) before you repeat the request."


class ResponseTooLarge(TransportError):
    default_code = "too_large"
    default_advice = (
        "The answer passed the limit and was thrown away; ask for less, or check that the address is IBKR's."
    )


class ServiceError(IBKROAuthError):
    """IBKR answered, and not with what was asked for."""

    default_code = "service"
    default_advice = "Read what the service says in .body."


class MaintenanceError(ServiceError):
    default_code = "maintenance"
    default_advice = "The service is down or restarting; try again in some minutes. Nightly resets are normal."


class RateLimited(ServiceError):
    """`retry_after`: seconds that the server asks to wait, or None."""

    default_code = "rate_limited"
    default_advice = "Slow down: IBKR paces at 10 requests a second and may block an address for about 10 minutes."
    retry_after: float | None = None


class ServerError(ServiceError):
    default_code = "server"
    default_advice = "The answer is not what the service documents; try again, and report it if it stays."


class UsageError(IBKROAuthError):
    """The library was called in a way that cannot work. Nothing was sent."""

    default_code = "usage"
    default_advice = "Correct the call."


class InvalidValue(UsageError, ValueError):
    """A URL, parameter, header value, hex or base64 text that cannot be signed or sent."""

    default_code = "invalid_value"
    default_advice = "Correct the value; nothing was sent."


class SessionClosed(UsageError):
    default_code = "closed"
    default_advice = "It was closed; make a new one."


class UsedAfterFork(UsageError):
    default_code = "forked"
    default_advice = "Make a new one in the child process; a connection cannot be shared across fork."


class ReadOnlyError(UsageError):
    default_code = "read_only"
    default_advice = "Nothing was sent: read-only is your own setting. Make a session without it for this call."


class StoreError(IBKROAuthError):
    default_code = "store"
    default_advice = "Make room, or give another place; tokens that are lost there are agreed on anew."


#: What the C core reports, by its code (csrc/include/ibk/error.h): the class, and advice where the class's own does not
#: fit.
_CORE_ERRORS: dict[str, tuple[type[IBKROAuthError], str | None]] = {
    "limit": (InvalidValue, None),
    "encoding": (InvalidValue, None),
    "url": (InvalidValue, None),
    "header": (
        InvalidValue,
        "At most 128 headers, of 64 KiB together, one line each: remove a line end that was copied along.",
    ),
    "argument": (InvalidValue, None),
    "key_format": (KeyFormatError, None),
    "passphrase": (KeyFormatError, "Give the pass phrase of the key file as passphrase=..."),
    "key_mismatch": (KeyMismatchError, None),
    "dh_parameters": (DHParametersError, None),
    "dh_response": (LiveSessionTokenError, None),
    "token_mismatch": (LiveSessionTokenMismatch, None),
    "used": (UsageError, "Start another one."),
    "crypto": (
        ConfigurationError,
        "OpenSSL refused; on FIPS systems this operation may be forbidden by policy.",
    ),
    "interrupted": (UsageError, "It was stopped."),
    "cancelled": (SessionClosed, "It was stopped from another thread."),
    "busy": (UsageError, "One client serves one thread at a time; use one for each."),
    "forked": (UsedAfterFork, None),
    "ca_missing": (
        TLSError,
        "Install the system's CA certificates (package ca-certificates) or give a PEM file as ca_file.",
    ),
    "resolve": (ConnectError, None),
    "connect": (ConnectError, None),
    "tls": (TLSError, None),
    "proxy": (ProxyError, None),
    "timeout": (Timeout, None),
    "outcome_unknown": (OutcomeUnknown, None),
    "too_large": (ResponseTooLarge, None),
    "protocol": (TransportError, None),
}


def from_core(code: str, text: str, where: str, domain: str, native: int, sent: bool) -> IBKROAuthError:
    """The error for a failure in the C core. Called by the binding only."""
    kind, advice = _CORE_ERRORS.get(code, (IBKROAuthError, None))
    return kind(
        text,
        advice=advice,
        code=code,
        where=where,
        native=f"{domain} {native}" if native else None,
        sent=sent,
    )


__all__ = [
    "AccessTokenUnknown",
    "AuthorizationError",
    "BrokerageError",
    "BrokerageNotOpen",
    "BrokerageRefused",
    "ClockSkewError",
    "CompetingSession",
    "ConfigurationError",
    "ConnectError",
    "ConsumerNotActive",
    "DHParametersError",
    "EdgeBlocked",
    "IBKROAuthError",
    "InsecurePermissionsError",
    "InvalidValue",
    "KeyFormatError",
    "KeyMismatchError",
    "LiveSessionTokenError",
    "LiveSessionTokenExpired",
    "LiveSessionTokenMismatch",
    "MaintenanceError",
    "MissingSetting",
    "OutcomeUnknown",
    "PrimingRequired",
    "ProxyError",
    "RateLimited",
    "ReadOnlyError",
    "RequestTokenError",
    "ResponseTooLarge",
    "ServerError",
    "ServiceError",
    "SessionClosed",
    "SessionLost",
    "SignatureRejected",
    "StoreError",
    "TLSError",
    "Timeout",
    "TransportError",
    "UsageError",
    "UsedAfterFork",
    "VerifierError",
]
