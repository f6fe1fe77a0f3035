"""What IBKR's answers, and the mistakes behind them, mean: one table, and `explain`, which looks a text up in it.

`answers` classifies by this table, `ibkr-oauth explain` searches it, and the documentation's page on troubleshooting is
made from it. So a text means the same everywhere. It is imported when something was refused, and not before.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, cast

from . import errors
from .errors import IBKROAuthError
from .redact import path_of, redact


class Entry(NamedTuple):
    """One thing that is said, and what it means.

    `says`: the text as it is seen, or what the mistake is. `status`: HTTP statuses that it comes with; none for what
    this computer says. `kind`: the error that the library raises. `means`, `causes` (the likely ones first) and
    `remedy` (what to do next) are for people. `texts`: any of them marks it, in upper or lower case. `paths`: parts of
    the paths that it comes from, where it does not come from all.
    """

    id: str
    says: str
    status: tuple[int, ...]
    kind: type[IBKROAuthError]
    means: str
    causes: tuple[str, ...]
    remedy: str
    texts: tuple[str, ...]
    paths: tuple[str, ...] = ()


#: In `texts`: whatever the answer says, or nothing; its status and path are enough.
ANY = "*"
#: In `texts`: the answer has no body.
NO_TEXT = ""

_LIVE_SESSION_TOKEN = ("/oauth/live_session_token",)
_ACCESS_TOKEN = ("/oauth/access_token",)

# The first entry that fits an answer is what it means: special ones stand before general ones.
ENTRIES: tuple[Entry, ...] = (
    # --- Consumer and tokens ----------------------------------------------------------------------
    Entry(
        "invalid-consumer",
        "id: 39687, error: invalid consumer",
        (400, 401, 403),
        errors.ConsumerNotActive,
        "IBKR does not know this consumer key yet, or not any more. The number is a trace number and no code.",
        (
            "The key is new: it becomes active overnight, officially after the weekend, at times only after two weeks.",
            "It is misspelt, or not in upper case: IBKR stores nine letters A-Z.",
            "Paper and live user names have consumer keys of their own.",
        ),
        errors.ConsumerNotActive.default_advice,
        ("invalid consumer",),
    ),
    Entry(
        "no-access-secret",
        "LST failed, error: No access secret key found for a1b2c3d4e5f60718293a",
        (400, 401),
        errors.AccessTokenUnknown,
        "IBKR has no secret for this access token. Consumer key and keys were accepted.",
        (
            "Another token was generated since: only the last one is good.",
            "Token and secret were copied from two different turns of the portal.",
            "The token was generated a moment ago.",
        ),
        errors.AccessTokenUnknown.default_advice,
        ("no access secret key found",),
    ),
    Entry(
        "live-session-token-expired",
        "Access token expired",
        (401,),
        errors.LiveSessionTokenExpired,
        "The live session token has expired, in spite of the words: access tokens do not.",
        ("It is older than 24 hours.", "IBKR ended it early, as at a reset."),
        errors.LiveSessionTokenExpired.default_advice,
        ("access token expired", "the live session token has expired"),
    ),
    # --- The brokerage session --------------------------------------------------------------------
    Entry(
        "hmds-no-bridge",
        '"hmds": {"error": "no bridge"} inside the answer of /tickle',
        (200,),
        errors.ServiceError,
        "No historical data has been asked for. Nothing is wrong.",
        ("The answer of /tickle speaks of several services; this one is about historical data only.",),
        "Nothing is to be done; before /hmds paths call POST /hmds/auth/init.",
        ("hmds: no bridge",),
    ),
    Entry(
        "no-bridge",
        "Bad Request: no bridge",
        (400, 401),
        errors.BrokerageNotOpen,
        "The path needs the brokerage session, and there is none. OAuth works.",
        (
            "The brokerage session was not opened: /portfolio does without, /iserver does not.",
            "It ended: a nightly reset, a logout, minutes without any call, or another login.",
            "It was opened a second ago and is not ready yet.",
        ),
        errors.BrokerageNotOpen.default_advice,
        ("no bridge",),
    ),
    Entry(
        "init-session-first",
        "Init session first",
        (400, 401, 500),
        errors.BrokerageNotOpen,
        "The path needs the brokerage session, and there is none. OAuth works.",
        ("The brokerage session was not opened, or has ended.",),
        errors.BrokerageNotOpen.default_advice,
        ("init session first",),
    ),
    Entry(
        "no-sso-dh-token",
        "failed to generate sso dh token",
        (500,),
        errors.BrokerageRefused,
        "OAuth works; IBKR refused to open the brokerage session.",
        (
            "The user name or account is new: goes away by itself after days, for paper users after up to two weeks.",
            "The account has no trading permission, or waits for an agreement to be signed.",
            "The user name is logged in elsewhere.",
        ),
        errors.BrokerageRefused.default_advice,
        ("failed to generate sso dh token",),
    ),
    Entry(
        "gone",
        "410 Gone",
        (410,),
        errors.BrokerageRefused,
        "The session has moved to another server of IBKR's.",
        ("The live session token was agreed with another server.", "Paper and live user names live on other servers."),
        "Renew the live session token (`ibkr-oauth token refresh`), or use a sibling server as base_url: "
        "https://1.api.ibkr.com/v1/api.",
        (ANY, "410 gone"),
    ),
    Entry(
        "query-accounts-first",
        "Please query /accounts first",
        (400, 500),
        errors.PrimingRequired,
        "Orders and market data are served after GET /iserver/accounts only. Nothing was done.",
        ("The brokerage session is new, and accounts were not asked for in it.",),
        errors.PrimingRequired.default_advice,
        ("query /accounts first", "query /iserver/accounts first"),
    ),
    Entry(
        "force-compete",
        "Force compete capability must be used together with compete flag",
        (400, 401, 500),
        errors.CompetingSession,
        "The user name is logged in elsewhere, and IBKR was not told what is to become of that login.",
        ("TWS, the phone, the web site or another script uses the same user name.",),
        'To end that login send {"publish": true, "compete": true}, both together; "compete": false leaves it alone.',
        ("force compete",),
    ),
    Entry(
        "competing",
        '"competing": true',
        (200, 400, 401, 500),
        errors.CompetingSession,
        "Another login of the same user name holds the brokerage session. There can be only one.",
        (
            "TWS or IB Gateway runs with this user name.",
            "You looked at your account with the phone or on the web site.",
            "Another script, or an earlier run of this one, holds it.",
        ),
        errors.CompetingSession.default_advice,
        ("compete", '"competing": true', "competing session", "holds the brokerage session"),
    ),
    Entry(
        "not-authenticated",
        "not authenticated",
        (401,),
        errors.SessionLost,
        "The brokerage session has ended. OAuth works.",
        ("IBKR's nightly reset.", "Another login of the user name took over.", "Nobody called for some minutes."),
        errors.SessionLost.default_advice,
        ("not authenticated", "due to lack of authentication"),
    ),
    Entry(
        "no-session",
        "no session",
        (200, 401),
        errors.SessionLost,
        "There is no brokerage session; /tickle says so with status 200.",
        ("It ended by a reset, a logout or another login.", "It was never opened."),
        errors.SessionLost.default_advice,
        ("no session",),
    ),
    Entry(
        "publish",
        "500 at /iserver/auth/ssodh/init with publish other than true",
        (500,),
        errors.ServerError,
        "The brokerage session is opened with publish=true only.",
        ('The body is not {"publish": true, "compete": false}.', "The body was not sent as JSON."),
        'POST /iserver/auth/ssodh/init with the JSON body {"publish": true, "compete": false}; '
        "a session of this library does so itself.",
        ("needs publish=true",),
    ),
    # --- Requests that cannot be right ------------------------------------------------------------
    Entry(
        "realm",
        "wrong realm, this consumer uses limited_poa",
        (401,),
        errors.AuthorizationError,
        "The realm of the Authorization header is not this consumer's.",
        ("test_realm belongs to TESTCONS only, and does not mean paper; every other key has limited_poa.",),
        "Leave the realm out of the settings; it follows from the consumer key.",
        ("wrong realm",),
    ),
    Entry(
        "missing-parameter",
        "missing parameter oauth_token",
        (400, 401),
        errors.AuthorizationError,
        "Something is missing in the Authorization header, or there twice; the answer names it.",
        ("The header was put together by hand.", "A proxy cut it."),
        "Let `ibkr-oauth sign` make the header, and send it unchanged.",
        ("missing parameter", "duplicate parameter"),
    ),
    Entry(
        "authorization-header",
        "missing Authorization header",
        (401,),
        errors.AuthorizationError,
        "The request came without a readable OAuth header.",
        ("A proxy or a redirect took it away.", "The client sent another kind of authorisation."),
        "Let `ibkr-oauth sign` make the header, send it unchanged, and follow no redirects.",
        ("authorization header",),
    ),
    Entry(
        "signature-method",
        "oauth_signature_method must be HMAC-SHA256 here",
        (401,),
        errors.AuthorizationError,
        "The request is signed by the wrong method or version.",
        ("The /oauth paths take RSA-SHA256, all others HMAC-SHA256 with the live session token.",),
        "Let a session or `ibkr-oauth sign` sign.",
        ("oauth_signature_method", "oauth_version"),
    ),
    Entry(
        "callback",
        "oauth_callback must be oob",
        (401,),
        errors.AuthorizationError,
        "IBKR knows the callback already: it is registered with the consumer key.",
        ("A URL was given as callback.",),
        'Give "oob", which is what request_token() sends by itself.',
        ("oauth_callback",),
    ),
    Entry(
        "nonce",
        "oauth_nonce was used before",
        (401,),
        errors.AuthorizationError,
        "A signed request was sent twice. The second one is refused.",
        ("An HTTP client, a proxy or a redirect repeated the request with the headers of the first one.",),
        "Sign every attempt anew, and switch off repetition in the HTTP client; sessions of this library do so.",
        ("oauth_nonce",),
    ),
    Entry(
        "challenge",
        "diffie_hellman_challenge must be hexadecimal, without 0x",
        (401,),
        errors.AuthorizationError,
        "IBKR cannot use our half of the Diffie-Hellman exchange.",
        ("The challenge has a prefix, or was computed with another prime than the uploaded one.",),
        "Give the dhparam.pem that was uploaded; `ibkr-oauth keys check` looks at it.",
        ("diffie_hellman_challenge",),
    ),
    # --- Clock and signature ----------------------------------------------------------------------
    Entry(
        "timestamp",
        "oauth_timestamp is 600 seconds behind the server's clock",
        (401,),
        errors.ClockSkewError,
        "The time in the signature is not the server's time.",
        (
            "This computer's clock is wrong: usual after sleep, in WSL, virtual machines and containers.",
            "The timestamp is in milliseconds; IBKR wants the 10 digits of the seconds since 1970.",
        ),
        errors.ClockSkewError.default_advice,
        ("timestamp", "s behind the server's", "s ahead of the server's"),
    ),
    Entry(
        "verifier",
        "oauth_verifier is wrong",
        (400, 401),
        errors.VerifierError,
        "The verifier does not belong to this request token.",
        ("It is that of an earlier login.", "It was cut off when it was copied."),
        errors.VerifierError.default_advice,
        ("verifier",),
    ),
    Entry(
        "request-token-denied",
        "the user denied this request token",
        (400, 401),
        errors.RequestTokenError,
        "The user said no on the consent page.",
        ("Access was denied, or the page was left.",),
        "Ask the user, and begin the login anew.",
        ("denied this request token",),
    ),
    Entry(
        "request-token-not-approved",
        "the user has not approved this request token yet",
        (400, 401),
        errors.RequestTokenError,
        "The user has not logged in and granted access yet.",
        ("The second leg was called before the redirect came.",),
        "Send the user to the authorisation page, and wait for the redirect with its verifier.",
        ("has not approved this request token",),
    ),
    Entry(
        "request-token",
        "unknown request token",
        (400, 401),
        errors.RequestTokenError,
        "The request token is unknown, was used before, or has expired.",
        ("Each is good for one access token.", "Too much time has passed between the legs."),
        errors.RequestTokenError.default_advice,
        ("request token", "token"),
        _ACCESS_TOKEN,
    ),
    Entry(
        "error-validating-signature",
        "error 23804 Error validating signature",
        (401,),
        errors.SignatureRejected,
        "IBKR knows the consumer key, and the RSA signature does not verify with the public key that it has.",
        (
            "The signing key here is not the one whose public half is in the portal.",
            "Signing and encryption keys are swapped, here or in the portal.",
            "The access token secret belongs to another encryption key, so that the base string begins with noise.",
            "In clients written by hand: the signature was percent-encoded twice, or a parameter was not signed.",
        ),
        errors.SignatureRejected.default_advice,
        ("validating signature",),
    ),
    Entry(
        "invalid-signature",
        "Invalid signature",
        (401,),
        errors.SignatureRejected,
        "The HMAC signature of a call does not verify with the live session token that IBKR has.",
        (
            "The live session token is an older one: another program has agreed on one since.",
            "The query is signed by another rule than IBKR's: try query_signing.",
            "The URL was changed after it was signed: order of parameters, encoding, a redirect.",
        ),
        "Get another live session token (`ibkr-oauth token refresh`). If it stays: compare the signing key's "
        "fingerprint with the public key in the portal, and let `ibkr-oauth doctor` try the rules for queries.",
        ("invalid signature",),
    ),
    # --- The live session token -------------------------------------------------------------------
    Entry(
        "lst-failed",
        "LST failed, error: (and nothing more)",
        (401,),
        errors.AccessTokenUnknown,
        "IBKR could not make a live session token for this access token, and does not say why.",
        ("The access token is not known to that server yet.", "Another one was generated since."),
        "Generate a new access token in the portal and store token and secret together. If it stays, wait for the "
        "weekend's reset.",
        ("lst failed",),
        _LIVE_SESSION_TOKEN,
    ),
    Entry(
        "access-token-of-another-consumer",
        "access token belongs to another consumer",
        (401,),
        errors.AccessTokenUnknown,
        "Consumer key and access token do not belong together.",
        ("The token was generated for another consumer key, perhaps that of paper or live.",),
        "Use consumer key, token and secret of one and the same set-up; a profile for each keeps them apart.",
        ("belongs to another consumer",),
        _LIVE_SESSION_TOKEN,
    ),
    Entry(
        "unknown-access-token",
        "unknown access token",
        (401,),
        errors.AccessTokenUnknown,
        "IBKR does not know this access token.",
        ("It was revoked, or replaced by a newer one.", "It was copied incompletely: it has 20 hex digits."),
        errors.AccessTokenUnknown.default_advice,
        ("unknown access token", "token"),
        _LIVE_SESSION_TOKEN,
    ),
    Entry(
        "lst-refused",
        "401 at /oauth/live_session_token, with another text or none",
        (401,),
        errors.AuthorizationError,
        "IBKR refused the request for a live session token without saying why.",
        (
            "The public signing key in the portal is not that of the key in use.",
            "The Diffie-Hellman parameters in the portal are not those in use, or their prime is negative.",
            "The consumer key or the access token is not active yet.",
        ),
        "Run `ibkr-oauth doctor`: it proves what can be proven of your side, and says what is left.",
        (ANY,),
        _LIVE_SESSION_TOKEN,
    ),
    # --- Refusals that are no fault of the credentials --------------------------------------------
    Entry(
        "no-live-session-token",
        "no live session token was requested for this access token",
        (401,),
        errors.AuthorizationError,
        "The call is signed with a live session token that this server has not given.",
        ("Another server or another service gave it.", "The server has forgotten it, as after a restart."),
        "Get another one: `ibkr-oauth token refresh`.",
        ("no live session token was requested",),
    ),
    Entry(
        "unknown-session",
        "unknown session in the cookie api",
        (401,),
        errors.AuthorizationError,
        "The cookie belongs to no session.",
        ("The session of that cookie has ended.",),
        "Take the cookie of a session that exists, or give consumer and keys.",
        ("unknown session",),
    ),
    Entry(
        "sso-validate",
        "401 at /sso/validate",
        (401,),
        errors.AuthorizationError,
        "This path is for the gateway and OAuth 2.0. Nothing is wrong with the credentials.",
        ("/sso/validate was called in an OAuth 1.0a session.",),
        "Ask POST /iserver/auth/status instead, or `ibkr-oauth status`.",
        (ANY, "not available to oauth 1.0a"),
        ("/sso/validate",),
    ),
    Entry(
        "foreign-account",
        "401 without a body, at /portfolio/{account}/… or /acesws/{account}/…",
        (401,),
        errors.AuthorizationError,
        "The user name may not see this account. Nothing is wrong with the credentials.",
        ("The account number is misspelt.", "The account belongs to another user name, or to paper instead of live."),
        "Take the account numbers that GET /portfolio/accounts lists.",
        (NO_TEXT,),
        ("/portfolio/", "/acesws/"),
    ),
    Entry(
        "dynaccount",
        "401 at /iserver/dynaccount",
        (401,),
        errors.AuthorizationError,
        "The account has not the feature of dynamic accounts. Nothing is wrong with the credentials.",
        ("Only advisers and brokers with many accounts have it.",),
        "Choose the account with POST /iserver/account instead.",
        (ANY,),
        ("/iserver/dynaccount",),
    ),
    Entry(
        "refused-by-edge",
        "403 with a page of HTML: Access Denied",
        (403,),
        errors.EdgeBlocked,
        "The network in front of IBKR refused. Nobody looked at OAuth.",
        (
            "The address is a cloud's or a VPN's that the network does not like.",
            "The request has no User-Agent.",
            "Too many requests came from this address before.",
        ),
        errors.EdgeBlocked.default_advice,
        ("<html", "access denied", "page of html"),
    ),
    Entry(
        "alerts-on-paper",
        "403 at /iserver/account/{account}/alert",
        (403,),
        errors.AuthorizationError,
        "Paper accounts can make no alerts. Nothing is wrong with the credentials.",
        ("The account is a paper account.",),
        "Use a live account for alerts.",
        (ANY,),
        ("/alert",),
    ),
    Entry(
        "unauthorized",
        "401 or 403, with a text that no entry knows",
        (401, 403),
        errors.AuthorizationError,
        "IBKR refuses the credentials, or this user may not do that.",
        (
            "A key, a token or the consumer key is not the one that IBKR has.",
            "The consumer key is not active yet.",
            "The path is not for this account.",
        ),
        errors.AuthorizationError.default_advice,
        (ANY,),
    ),
    # --- Pace, maintenance, and other answers -----------------------------------------------------
    Entry(
        "too-many-requests",
        "429 Too Many Requests",
        (429,),
        errors.RateLimited,
        "Too many calls: of this user name, or of this path.",
        (
            "More than about 10 calls a second.",
            "Some paths have limits of their own, for instance one call in five seconds, or in 15 minutes.",
            "Several programs share the user name.",
        ),
        errors.RateLimited.default_advice,
        (ANY, "too many requests"),
    ),
    Entry(
        "search-not-for-this-account",
        "503 at /iserver/account/search/{text}",
        (503,),
        errors.MaintenanceError,
        "The account has not the feature of dynamic accounts; the status says less than it seems.",
        ("Only advisers and brokers with many accounts have it.",),
        "Take the account numbers that GET /iserver/accounts lists; repeating does not help.",
        (ANY,),
        ("/iserver/account/search",),
    ),
    Entry(
        "unavailable",
        "503 Service Unavailable, also 502 and 504",
        (502, 503, 504),
        errors.MaintenanceError,
        "The service does not answer at the moment.",
        (
            "IBKR's nightly reset: around midnight or 01:00 of the region, and Saturday evening for longer.",
            "The call took the service longer than 10 seconds.",
        ),
        errors.MaintenanceError.default_advice,
        (ANY, "service unavailable", "bad gateway", "gateway time"),
    ),
    Entry(
        "hmds-not-initialised",
        "404 at /hmds/…",
        (404,),
        errors.ServiceError,
        "Historical data has not been switched on in this session.",
        ("POST /hmds/auth/init was not called.",),
        "Call POST /hmds/auth/init once, then repeat.",
        (ANY,),
        ("/hmds/",),
    ),
    Entry(
        "not-found",
        "404 Not Found",
        (404,),
        errors.ServiceError,
        "There is no such path, or not in this version of the API.",
        ("The path is misspelt, or /v1/api stands in it twice.",),
        "Compare the path with IBKR's reference; give it without /v1/api.",
        (ANY, "404 not found"),
    ),
    Entry(
        "length-required",
        "411 Length Required",
        (411,),
        errors.ServiceError,
        "A POST without a body came without Content-Length.",
        ("The HTTP client leaves the header out where there is no body.",),
        "Send Content-Length: 0; sessions of this library do.",
        (ANY, "length required"),
    ),
    Entry(
        "tickle-not-processed",
        "failed to process request",
        (200,),
        errors.ServiceError,
        "The tickle was heard and not processed. One alone means nothing.",
        ("The service is busy, or being reset.",),
        "Send another one after a minute; the keep-alive of a session does.",
        ("failed to process request",),
    ),
    Entry(
        "waiting-for-session",
        "waiting for session",
        (),
        errors.SessionLost,
        "The web socket was opened without the session's cookie.",
        ("The cookie api, which /tickle gives, was not sent along.",),
        "Take address and headers from session.web_socket(), or send the session as the first message.",
        ("waiting for session",),
    ),
    Entry(
        "portal-put-consumer",
        "failed to put consumer info (in the portal)",
        (),
        errors.ServiceError,
        "IBKR's portal does not take the uploaded file.",
        ("Line ends of Windows in the PEM file, or another kind of file.", "The account may not use the portal yet."),
        "Make the files anew with `ibkr-oauth keygen`, which writes them as the portal wants them, and upload those.",
        ("failed to put consumer info",),
    ),
    Entry(
        "portal-set-key",
        "failed to set key (in the portal)",
        (),
        errors.ServiceError,
        "IBKR's portal could not store the file, which is not to blame.",
        ("A disturbance of the portal, seen on regional ones.",),
        "Try again on the next business day, or at the login page of another region.",
        ("failed to set key",),
    ),
    # --- What this computer says ------------------------------------------------------------------
    Entry(
        "setting-missing",
        "consumer key: missing",
        (),
        errors.MissingSetting,
        "A value is needed that no source gives.",
        (
            "A variable is misspelt, or not exported.",
            "Another profile is used than you think: `ibkr-oauth config show`.",
        ),
        errors.MissingSetting.default_advice,
        (": missing", "access token is empty", "access token secret is empty"),
    ),
    Entry(
        "secret-miscopied",
        "access token secret has 129 characters, expected 344 for this 2048-bit key",
        (),
        errors.KeyMismatchError,
        "The access token secret is not what the portal showed.",
        ("It was cut off, or a character came in, when it was copied.",),
        errors.KeyMismatchError.default_advice,
        (
            "access token secret has",
            "access token secret is not base64",
            "binascii.error",
            "incorrect padding",
            "invalid base64-encoded string",
        ),
    ),
    Entry(
        "secret-of-another-key",
        "access token secret does not decrypt with this key",
        (),
        errors.KeyMismatchError,
        "The access token secret was encrypted for another key.",
        (
            "Signing and encryption keys are swapped.",
            "The keys were made anew after the token was generated.",
            "The public half in the portal is another one.",
        ),
        "Swap the two private keys and try again; else generate a new access token in the portal. "
        "`ibkr-oauth keys check` shows which file is which.",
        (
            "access token secret does not decrypt",
            "incorrect decryption",
            "ciphertext with incorrect length",
            "decryption failed",
        ),
    ),
    Entry(
        "key-format",
        "signing key: this is a public key, expected a private RSA key",
        (),
        errors.KeyFormatError,
        "The file is no private RSA key.",
        (
            "The public half, which was uploaded, was given.",
            "The file lost its line ends on the way through an environment variable.",
            "It is a certificate, an EC key, or a key in OpenSSH's own format.",
        ),
        errors.KeyFormatError.default_advice,
        (
            "could not deserialize key data",
            "rsa key format is not supported",
            "invalidbyte(0, 92)",
            "expected a private rsa key",
            "that are no private key",
            "no start line",
        ),
    ),
    Entry(
        "key-passphrase",
        "signing key: it is encrypted and no pass phrase was given",
        (),
        errors.KeyFormatError,
        "The private key file is protected with a pass phrase.",
        ("It was written so, or is meant to be.",),
        "Give the pass phrase as IBKR_OAUTH_KEY_PASSWORD, or write the file without it: openssl pkey -in OLD -out NEW.",
        ("pass phrase", "password was not given but private key is encrypted"),
    ),
    Entry(
        "dh-parameters",
        "Diffie-Hellman parameters: a negative DER integer (its leading zero byte is missing)",
        (),
        errors.DHParametersError,
        "The Diffie-Hellman parameters cannot be used.",
        (
            "A program wrote the prime without its leading zero byte: IBKR takes the file, and answers 401 for ever.",
            "The file is another one, for instance X9.42, or was cut off.",
            "The prime is too small, or none.",
        ),
        errors.DHParametersError.default_advice,
        ("diffie-hellman parameters", "diffie-hellman prime", "diffie-hellman generator", "unable to load dh"),
    ),
    Entry(
        "permissions",
        "signing key: others may read or change private_signature.pem (mode 0644)",
        (),
        errors.InsecurePermissionsError,
        "A private file can be read by other users of this computer.",
        ("It was copied or unpacked with the usual permissions.",),
        errors.InsecurePermissionsError.default_advice,
        ("others may read or change",),
    ),
    Entry(
        "token-mismatch",
        "the server's signature does not prove the live session token that was computed here",
        (),
        errors.LiveSessionTokenMismatch,
        "IBKR has accepted the request, and arrives at another live session token than this computer.",
        (
            "dhparam.pem is not the file that was uploaded.",
            "The access token secret belongs to another encryption key.",
            "In clients written by hand: the sign byte of the shared secret is missing; about half of the logins fail.",
        ),
        errors.LiveSessionTokenMismatch.default_advice,
        ("live session token validation failed", "does not prove the live session token"),
    ),
    Entry(
        "token-answer",
        "the answer has no diffie_hellman_response",
        (),
        errors.LiveSessionTokenError,
        "The answer is not that of IBKR's live session token service.",
        ("base_url leads somewhere else.", "The service is disturbed."),
        errors.LiveSessionTokenError.default_advice,
        ("diffie_hellman_response", "diffie-hellman response"),
    ),
    Entry(
        "masked-refusal",
        "AttributeError: live_session_token (ibind)",
        (),
        errors.AuthorizationError,
        "ibind failed while it cleaned up; the refusal that came before is hidden.",
        ("The login was refused with 401.",),
        "Look for the answer above it in the log, or let `ibkr-oauth doctor` find the cause with the same variables.",
        ("has no attribute 'live_session_token'", "attributeerror: live_session_token"),
    ),
    Entry(
        "host-not-found",
        "host name not found",
        (),
        errors.ConnectError,
        "The name of the server could not be looked up.",
        ("There is no network, or no name service.", "base_url is misspelt."),
        errors.ConnectError.default_advice,
        (
            "host name not found",
            "name or service not known",
            "getaddrinfo failed",
            "nodename nor servname",
            "temporary failure in name resolution",
            "nameresolutionerror",
        ),
    ),
    Entry(
        "connection-refused",
        "connection refused",
        (),
        errors.ConnectError,
        "Nobody listens at that address, or the way there is closed.",
        ("A firewall, or a wrong port.", "A gateway or sandbox that does not run: base_url leads to this computer."),
        errors.ConnectError.default_advice,
        ("connection refused", "failed to establish a new connection", "network unreachable", "no route to"),
    ),
    Entry(
        "certificate",
        "certificate from an unknown authority",
        (),
        errors.TLSError,
        "The server's certificate could not be verified.",
        ("A company's proxy opens the traffic with an authority of its own.", "This computer's clock is far off."),
        errors.TLSError.default_advice,
        (
            "certificate from an unknown authority",
            "certificate_verify_failed",
            "certificate verify failed",
            "certificate for another host name",
            "certificate expired",
            "certificate not valid yet",
            "self-signed certificate",
            "no certificate authorities",
        ),
    ),
    Entry(
        "proxy",
        "proxy refused the tunnel with status 407",
        (),
        errors.ProxyError,
        "The proxy did not let the connection through.",
        ("It wants a user name and a password.", "It does not know the host, or is not there."),
        errors.ProxyError.default_advice,
        ("refused the tunnel", "through the proxy", "proxyerror", "cannot connect to proxy", "407 proxy"),
    ),
    Entry(
        "outcome-unknown",
        "connection lost after the request was sent",
        (),
        errors.OutcomeUnknown,
        "The request went out, and no answer came. It may have been processed, an order too.",
        ("The connection broke, or the service took longer than the time-out.",),
        errors.OutcomeUnknown.default_advice,
        ("after the request was sent", "perhaps processed", "remotedisconnected", "remote end closed connection"),
    ),
    Entry(
        "timeout",
        "timed out while waiting for the answer",
        (),
        errors.Timeout,
        "The answer took longer than the time-out.",
        ("The network or the service is slow; resets are slow, too.",),
        errors.Timeout.default_advice,
        ("timed out", "readtimeout", "connecttimeout"),
    ),
    Entry(
        "too-large",
        "body of the answer over the limit of 67108864 bytes",
        (),
        errors.ResponseTooLarge,
        "The answer was longer than anything that IBKR sends, and was thrown away.",
        ("base_url leads somewhere else.", "The answer is a page of a proxy."),
        errors.ResponseTooLarge.default_advice,
        ("of the answer over the limit", "of the answer too large"),
    ),
    Entry(
        "read-only",
        "refused, the session is read-only",
        (),
        errors.ReadOnlyError,
        "This computer refused the call, since it could change something. Nothing was sent.",
        ("read_only=True or --read-only was given.",),
        errors.ReadOnlyError.default_advice,
        ("the session is read-only",),
    ),
    Entry(
        "closed",
        "the session was closed",
        (),
        errors.SessionClosed,
        "The session or client was closed before, or while, it was used.",
        ("It was used after its `with` block.", "Another thread closed it."),
        errors.SessionClosed.default_advice,
        ("the session was closed", "this oauthclient was closed", "the connections were closed"),
    ),
    Entry(
        "forked",
        "the client was made by process 4711, before a fork",
        (),
        errors.UsedAfterFork,
        "The object belongs to the process that this one was forked from.",
        ("multiprocessing, or a web server that forks its workers, took it along.",),
        errors.UsedAfterFork.default_advice,
        ("before a fork",),
    ),
    Entry(
        "store",
        "tokens/paper.json could not be written: No space left on device",
        (),
        errors.StoreError,
        "The file that keeps the live session token between runs cannot be used.",
        ("The disk is full, or the folder belongs to somebody else.",),
        errors.StoreError.default_advice,
        (".json could not be",),
    ),
)

#: Those of answers that are refusals: by them `answers` classifies.
_REFUSALS = tuple(one for one in ENTRIES if any(status >= 400 for status in one.status))


def meaning_of(status: int, text: str, path: str) -> Entry | None:
    """The entry that an answer of this status is, by its body and path; None for one that the table does not know."""
    text = text.lower()
    for one in _REFUSALS:
        if status in one.status and _comes_from(one, path) and _speaks(one, text):
            return one
    return None


def _speaks(one: Entry, text: str) -> bool:
    """`text`: in lower case."""
    return ANY in one.texts or any(sought in text if sought else not text.strip() for sought in one.texts)


def _comes_from(one: Entry, path: str) -> bool:
    return not one.paths or any(part in path for part in one.paths)


# --- Looking up what somebody has seen ------------------------------------------------------------


class Heard(NamedTuple):
    """What a pasted text says: as much of an answer as can be made out, and the class of ours that it names."""

    text: str
    status: int | None = None
    path: str = ""
    kind: type[IBKROAuthError] | None = None

    def __repr__(self) -> str:
        return f"<Heard {self.status or ''} {redact(self.text, limit=80)!r}>"


def explain(text: str) -> list[Entry]:
    """What a message means, the best explanation first; empty where nobody knows.

    `text`: a message, a JSON body, a whole HTTP answer, a traceback, or a line of a log.
    """
    return explain_heard(hear(text))


def explain_heard(heard: Heard) -> list[Entry]:
    """The same for a text that has been taken apart."""
    meant = None if heard.status is None else meaning_of(heard.status, heard.text, heard.path)
    found = [] if meant is None else [meant]
    recognised = _recognised(heard)
    if meant is not None and is_recognised(meant, heard):
        found += recognised
    elif recognised:
        found = recognised + found
    elif heard.kind is not None:
        found = _of_class(heard.kind) + found
    return list(dict.fromkeys(found))


def is_recognised(one: Entry, heard: Heard) -> bool:
    """Whether the text itself is known, and not its status or class alone."""
    if NO_TEXT in one.texts and not heard.text.strip():
        return True
    text = heard.text.lower()
    return any(sought in text for sought in one.texts if sought not in (ANY, NO_TEXT))


def _recognised(heard: Heard) -> list[Entry]:
    """By their texts: a long one says more than a short one, and one word proves nothing where the path is unknown."""
    text = heard.text.lower()
    found: list[tuple[int, Entry]] = []
    for one in ENTRIES:
        if heard.status is not None and one.status and heard.status not in one.status:
            continue
        if heard.path and not _comes_from(one, heard.path):
            continue
        for sought in one.texts:
            is_enough = " " in sought or bool(heard.path) or not one.paths
            if sought not in (ANY, NO_TEXT) and is_enough and sought in text:
                found.append((len(sought), one))
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def _of_class(kind: type[IBKROAuthError]) -> list[Entry]:
    entries = [one for one in ENTRIES if one.kind is kind]
    return [one for one in entries if one.remedy == kind.default_advice] or entries


_STATUS_LINE = re.compile(r"^(?:< )?HTTP/\d(?:\.\d)?\s+(\d{3})\b[^\n]*", re.MULTILINE)
_STATUSES = (
    re.compile(r"refused with status (\d{3})\b"),
    re.compile(r"::\s*(\d{3})\s*::"),  # ibind
    re.compile(r"\b(\d{3}) (?:Client|Server) Error"),  # requests
    re.compile(r"(?:Client|Server) error '(\d{3})\b"),  # httpx
    re.compile(r"(?i)\bstatus(?:[ _]?code)?[\"']?\s*[:=]?\s*(\d{3})\b"),
    re.compile(r"-> (\d{3}),"),  # our log
    re.compile(r"^\s*(\d{3})\b"),
)
_URL = re.compile(r"https?://[^\s'\"<>)]+")
_PATH = re.compile(r"(?:GET|POST|PUT|DELETE|HEAD|PATCH)\s+(/[^\s:?'\"]*)")
_REFUSED = re.compile(r"refused with status \d{3}: (.*)")
_CLASS = re.compile(r"\b(" + "|".join(sorted(errors.__all__, key=len, reverse=True)) + r")\b")
_KINDS = {name: cast("type[IBKROAuthError]", vars(errors)[name]) for name in errors.__all__}
_CODES = {kind.default_code: kind for kind in _KINDS.values()}
# An exception's own line in a traceback: not indented, a dotted name and perhaps a message.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?::|$)")
#: Longest text that is looked at, in characters.
_MAX_TEXT = 200_000


def hear(text: str) -> Heard:
    """Takes a pasted text apart."""
    text = text[:_MAX_TEXT].replace("\r\n", "\n").replace("\ufeff", "").strip()
    status_line = _STATUS_LINE.search(text)
    if status_line:
        body = text[status_line.end() :].partition("\n\n")[2]
        return _hear_body(body, int(status_line[1]), _path(text[: status_line.start()]))
    if "Traceback (most recent call last)" in text:
        text = _without_frames(text)
    statuses = (pattern.search(text) for pattern in _STATUSES)
    status = next((int(found[1]) for found in statuses if found and 100 <= int(found[1]) <= 599), None)
    refused = None if text.startswith("{") else _REFUSED.search(text)  # our own words around the server's
    heard = _hear_body(refused[1].replace("no text", "") if refused else text, status, _path(text))
    named = _CLASS.search(text)
    return heard if named is None else heard._replace(kind=_KINDS[named[1]])


def _without_frames(text: str) -> str:
    """The lines of the exceptions themselves: code in between says nothing."""
    lines = (line for line in text.splitlines() if line and not line[0].isspace())
    return "\n".join(line for line in lines if _EXCEPTION.match(line) and not line.startswith("Traceback")) or text


def _hear_body(body: str, status: int | None, path: str) -> Heard:
    """A body in one of the service's shapes, or our own `--json`: its words count, and its status."""
    fields = _json_object(body)
    if fields is None:
        return Heard(_URL.sub(" ", body), status, path)  # words of an address mean nothing
    error = fields.get("error")
    kind = None
    if isinstance(error, dict):  # ours
        ours = cast("dict[str, Any]", error)
        kind = _CODES.get(str(ours.get("code")))
        error = ours.get("message")
        if isinstance(error, str):
            return hear(error)._replace(kind=kind)
    words = [word for word in (error, fields.get("detail"), fields.get("message")) if isinstance(word, str) and word]
    hmds = fields.get("hmds")
    if isinstance(hmds, dict) and not words:
        words = [f"hmds: {cast('dict[str, Any]', hmds).get('error', '')}"]
    if _is_competing(fields):
        words.append('"competing": true')
    return Heard("\n".join(words) or body, status, path, kind)


def _is_competing(fields: dict[str, Any]) -> bool:
    iserver = fields.get("iserver")
    status = cast("dict[str, Any]", iserver).get("authStatus") if isinstance(iserver, dict) else fields
    return isinstance(status, dict) and cast("dict[str, Any]", status).get("competing") is True


def _json_object(text: str) -> dict[str, Any] | None:
    """The first object in a text, which may have other words around it."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _path(text: str) -> str:
    url = _URL.search(text)
    if url:
        return path_of(url[0])
    path = _PATH.search(text)
    return path[1] if path else ""
