"""What can be said of files and values without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from ibkr_oauth import _core, config
from ibkr_oauth._version import VERSION
from ibkr_oauth.consumer import Consumer, DHParameters, PrivateKey, _is_path
from ibkr_oauth.errors import (
    ConfigurationError,
    DHParametersError,
    IBKROAuthError,
    InsecurePermissionsError,
    InvalidValue,
    KeyFormatError,
    KeyMismatchError,
    MissingSetting,
    TLSError,
)
from ibkr_oauth.oauth import DEFAULT_BASE_URL, check_base_url
from ibkr_oauth.redact import mask
from ibkr_oauth.tokens import AccessToken
from ibkr_oauth.transport import Transport, transport_options

from .files import cause_of_dh, describe, identify
from .report import Finding, bad, failed, good, short, warning

TESTCONS = "TESTCONS"
# SHA-256 of the public halves of the demonstration keys that IBKR publishes.
_TESTCONS_KEYS = {
    "signing_key": "b415ef53d4673ce93f4abd5878cfb4c5dcc559c078c2d74ab05fcc6219440451",
    "encryption_key": "ab7000106671c0a7405c7e6de492b6347a5503d1a8080b9b7a53e5a2d854872a",
}
_NEEDED = ("consumer_key", "signing_key", "encryption_key", "dh_params", "access_token", "access_token_secret")
_BEGIN = "Run `ibkr-oauth init`, which makes keys and asks for the rest, or choose a profile with --profile."
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_IBKR_PATH = "/v1/api"


class Parts:
    """What was found good on the way, for the steps that build on it."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.environment: Mapping[str, str] = settings._environment
        self.consumer_key: str | None = None
        self.realm: str | None = None
        self.signing_key: PrivateKey | None = None
        self.encryption_key: PrivateKey | None = None
        self.dh_params: DHParameters | None = None
        self.token: str | None = None
        self.access_token: AccessToken | None = None  # token and secret
        self.is_proven = False  # the secret decrypts with the encryption key
        self.base_url: str | None = None

    def text(self, name: str) -> str | None:
        """A setting as it was given. Raises ConfigurationError where the keyring fails."""
        value = self.settings.get(name)
        return None if value is None else value.text

    def consumer(self) -> Consumer | None:
        """None where a part is missing."""
        if (
            self.consumer_key is None
            or self.signing_key is None
            or self.encryption_key is None
            or self.dh_params is None
            or not self.is_proven
        ):
            return None
        return Consumer(self.consumer_key, self.signing_key, self.encryption_key, self.dh_params, realm=self.realm)


def check(parts: Parts) -> Iterator[Finding]:
    """Every step that needs no network."""
    yield _libraries()
    yield from _settings(parts)
    for step in (_consumer_key, _realm, _signing_key, _encryption_key, _dh_params, _permissions):
        finding = step(parts)
        if finding is not None:
            yield finding
    yield from _access_token(parts)
    for step in (_key_roles, _base_url, _ca_file):
        finding = step(parts)
        if finding is not None:
            yield finding
    yield from _environment(parts)


def _libraries() -> Finding:
    return good("libraries", f"ibkr_oauth {VERSION}, {', '.join(_core.versions().values())}")


# --- Settings -------------------------------------------------------------------------------------


def _settings(parts: Parts) -> Iterator[Finding]:
    """What is missing, and what is given twice."""
    settings = parts.settings
    missing = [name for name in _NEEDED if name not in settings.origins]
    if missing:
        cause, where = "nothing-set", _BEGIN
        if len(missing) < len(_NEEDED):
            cause = "setting-missing"
            try:
                settings._need(missing[0])
            except MissingSetting as error:
                where = error.advice
        names = ", ".join(name.replace("_", " ") for name in missing)
        yield bad("settings", cause, f"missing: {names}", where, MissingSetting)
    for conflict in settings.conflicts:
        yield warning(
            "settings",
            "settings-disagree",
            str(conflict),
            f"Remove one of the two: {conflict.used.origin} or {conflict.other.origin}.",
        )
    if not missing and not settings.conflicts:
        sources = dict.fromkeys(settings.origins.values())
        yield good("settings", f"from {', '.join(sources)}")


def _consumer_key(parts: Parts) -> Finding | None:
    text = parts.text("consumer_key")
    if text is None:
        return None
    bare = text.strip().strip("\"'").strip()
    if bare != text:
        return bad(
            "consumer_key",
            "consumer-key-blanks",
            "the consumer key has blanks, line ends or quotes around it",
            f"Write it bare in {_origin(parts, 'consumer_key')}: nine letters and nothing else.",
            ConfigurationError,
        )
    if re.search(r"[^A-Za-z0-9._-]", text):
        return bad(
            "consumer_key",
            "consumer-key-characters",
            "the consumer key has characters that none has",
            f"Copy it again from the portal into {_origin(parts, 'consumer_key')}: nine letters A-Z.",
            ConfigurationError,
        )
    if text != text.upper():
        return bad(
            "consumer_key",
            "consumer-key-lower-case",
            "the consumer key has small letters, and IBKR stores it in capitals",
            f"Write it in capitals in {_origin(parts, 'consumer_key')}.",
            ConfigurationError,
        )
    parts.consumer_key = text
    if text != TESTCONS and not re.fullmatch(r"[A-Z]{9}", text):
        what = f"{len(text)} characters" if text.isalpha() else f"{len(text)} characters, digits or signs among them"
        return warning(
            "consumer_key",
            "consumer-key-shape",
            f"the consumer key has {what}; those of the self-service portal are nine letters A-Z",
            f"Compare it with the portal, letter by letter, and correct it in {_origin(parts, 'consumer_key')}.",
        )
    return good("consumer_key", "TESTCONS, IBKR's test consumer" if text == TESTCONS else "nine capital letters")


def _realm(parts: Parts) -> Finding | None:
    if parts.consumer_key is None:
        return None
    given = parts.text("realm")
    expected = "test_realm" if parts.consumer_key == TESTCONS else "limited_poa"
    if given is not None and given != expected:
        why = (
            "TESTCONS belongs to test_realm"
            if parts.consumer_key == TESTCONS
            else "test_realm is for TESTCONS only and does not mean paper; a consumer key of your own has limited_poa"
            if given == "test_realm"
            else f"this consumer key has {expected}"
        )
        return bad(
            "realm",
            "realm-wrong",
            f"the realm is set to another one than the consumer key has: {why}",
            f"Remove the realm from {_origin(parts, 'realm')}; it follows from the consumer key.",
            ConfigurationError,
        )
    parts.realm = expected
    return good("realm", expected)


# --- Keys -----------------------------------------------------------------------------------------


def _signing_key(parts: Parts) -> Finding | None:
    finding, parts.signing_key = _private_key(parts, "signing_key")
    return finding


def _encryption_key(parts: Parts) -> Finding | None:
    finding, parts.encryption_key = _private_key(parts, "encryption_key")
    return finding


def _private_key(parts: Parts, name: str) -> tuple[Finding | None, PrivateKey | None]:
    text = parts.text(name)
    if text is None:
        return None, None
    password = config.key_password(parts.environment)
    what = f"the {name.replace('_', ' ')}"
    file = identify(text, passphrase=password)
    if file.problem is not None or file.kind != "private RSA key":
        problem = file.problem or f"this is {_article(file.kind)}, expected a private RSA key"
        cause = file.cause or "dh-parameters-instead-of-key"
        advice = file.advice or "Give a private RSA key here, and this file as dh_params."
        where = f" ({_origin(parts, name)})"
        return bad(name, cause, f"{what} cannot be used: {problem}{where}", advice, KeyFormatError), None
    try:
        key = PrivateKey.load(text, password, what=what)
    except KeyFormatError as error:  # it changed meanwhile
        return failed(name, error), None
    published = parts.consumer_key == TESTCONS and key.fingerprint != _TESTCONS_KEYS[name]
    if published:
        return bad(
            name,
            "testcons-with-own-keys",
            f"TESTCONS is mixed with {what} of your own: it works with the keys that IBKR publishes for it only",
            "Take your own consumer key, nine letters from the portal, or for TESTCONS IBKR's demonstration keys.",
            ConfigurationError,
        ), None
    if parts.consumer_key is not None and parts.consumer_key != TESTCONS and key.fingerprint in _TESTCONS_KEYS.values():
        return bad(
            name,
            "published-key",
            f"{what} is IBKR's published demonstration key, which everybody has",
            "Make keys of your own with `ibkr-oauth keygen`, and upload their public halves.",
            ConfigurationError,
        ), None
    return good(name, describe(file)), key


def _dh_params(parts: Parts) -> Finding | None:
    text = parts.text("dh_params")
    if text is None:
        return None
    where = _origin(parts, "dh_params")
    try:
        parameters = DHParameters.load(text)
        _prove(parameters)
    except DHParametersError as error:
        cause = cause_of_dh(error)
        if cause == "dh-other-file":
            kind = identify(text).kind
            detail = f"{error.message}: this is {_article(kind)} ({where})"
        else:
            detail = f"{error.message} ({where})"
        return bad("dh_params", cause, detail, _advice_for_dh(cause, error), DHParametersError)
    generator = parts.environment.get("IBIND_OAUTH1A_DH_GENERATOR")
    if generator and generator != str(parameters.generator):
        return bad(
            "dh_params",
            "dh-generator-setting",
            f"IBIND_OAUTH1A_DH_GENERATOR is not {parameters.generator}, the generator of the parameters",
            f"Set IBIND_OAUTH1A_DH_GENERATOR to {parameters.generator}, or remove it.",
            ConfigurationError,
        )
    parts.dh_params = parameters
    return good(
        "dh_params",
        f"{parameters.bits} bits, generator {parameters.generator}, a safe prime, "
        f"fingerprint {short(parameters.fingerprint)}",
    )


def _advice_for_dh(cause: str, error: DHParametersError) -> str:
    if cause in ("dh-negative", "dh-not-prime", "dh-not-safe", "dh-generator", "dh-too-short", "dh-x942"):
        return (
            "Make others with `ibkr-oauth keygen` or `openssl dhparam -out dhparam.pem 2048`, and upload them in "
            "place of these."
        )
    if cause == "file-cut-off":
        return "Copy dhparam.pem again, whole; if it is lost, make another with `ibkr-oauth keygen` and upload that."
    return error.advice


@lru_cache(maxsize=16)
def _prove(parameters: DHParameters) -> None:
    """That the prime is one, and safe. Takes a moment, and a wizard asks more than once."""
    parameters.check()


def _permissions(parts: Parts) -> Finding | None:
    checked = False
    for name in ("signing_key", "encryption_key", "access_token_secret"):
        if parts.settings.origins.get(name) in (None, "keyring"):
            continue
        value = parts.settings.get(name)
        assert value is not None
        checked = True
        try:
            if name == "access_token_secret":
                parts.settings._check_file(name, value)
            else:
                parts.settings._private(name)
        except InsecurePermissionsError as error:
            return failed("permissions", error)
    return good("permissions", "private files are their owner's only") if checked else None


# --- The access token -----------------------------------------------------------------------------


def _access_token(parts: Parts) -> Iterator[Finding]:
    token = parts.text("access_token")
    try:
        secret = parts.text("access_token_secret")
    except ConfigurationError as error:
        yield failed("access_token_secret", error, "keyring")
        return
    if token is not None and secret is not None and len(token) > 64 > len("".join(secret.split())):
        yield bad(
            "access_token",
            "token-and-secret-swapped",
            "access token and access token secret are swapped: the token is the short one, 20 hex digits",
            "Exchange the two values.",
            ConfigurationError,
        )
        return
    if token is not None:
        yield _token(parts, token)
    if secret is not None:
        yield _secret(parts, secret)


def _token(parts: Parts, text: str) -> Finding:
    try:
        token = AccessToken(text, "AAAA").token
    except IBKROAuthError as error:
        again = f"Copy it again from the portal into {_origin(parts, 'access_token')}."
        return bad("access_token", "access-token-unreadable", error.message, again, ConfigurationError)
    parts.token = token
    if not re.fullmatch(r"[0-9a-fA-F]{20}", token):
        return warning(
            "access_token",
            "access-token-shape",
            f"the access token has {len(token)} characters; those seen so far have 20 hex digits",
            f"Compare it with the portal and copy it again into {_origin(parts, 'access_token')}.",
        )
    return good("access_token", f"{mask(token)}, 20 hex digits")


def _secret(parts: Parts, text: str) -> Finding:
    bare = "".join(text.split())
    key = parts.encryption_key
    again = f"Copy it again, whole, from the portal into {_origin(parts, 'access_token_secret')}."
    cause, detail, advice = None, "", again
    if bare[:1] in "\"'":
        cause, detail = "secret-quoted", "the access token secret has quotes around it"
        advice = f"Remove them in {_origin(parts, 'access_token_secret')}."
    elif re.search(r"%(2[BbFf]|3[Dd])", bare):
        cause = "secret-percent-encoded"
        detail = "the access token secret is percent-encoded: %2B, %2F and %3D stand for + / ="
        advice = "Copy it from the portal's page and not out of an address or log; or decode it."
    elif re.fullmatch(r"(?:[0-9a-fA-F]{2}){20,128}", bare):
        cause = "secret-decrypted"
        detail = (
            f"the access token secret is {len(bare)} hex digits, as after decryption; expected the base64 of IBKR's"
        )
        advice = f"Give it as IBKR gave it; it is decrypted here. {again}"
    elif re.search(r"[-_]", bare) and re.fullmatch(r"[A-Za-z0-9_=-]+", bare):
        cause, detail = "secret-url-base64", "the access token secret is base64 with - and _, expected + and /"
    else:
        try:
            AccessToken("-", bare)
        except KeyMismatchError as error:
            not_base64 = "not base64" in error.message
            cause, detail = ("secret-not-base64" if not_base64 else "secret-truncated"), error.message
    if cause is None and key is not None:
        expected = (key.bits + 7) // 8
        length = 4 * ((expected + 2) // 3)
        if len(bare) != length:
            cause = "secret-truncated" if len(bare) < length else "secret-too-long"
            detail = f"the access token secret has {len(bare)} characters, expected {length} for a {key.bits}-bit key"
    if cause is not None:
        return bad("access_token_secret", cause, detail, advice, KeyMismatchError)
    # Which key is which can be told by the secret alone.
    parts.access_token = AccessToken(parts.token or "-", bare)
    return good("access_token_secret", f"{len(bare)} characters of base64")


def _key_roles(parts: Parts) -> Finding | None:
    """With implicit rejection switched off: OpenSSL would decrypt any secret, if need be to random bytes."""
    signing, encryption, token = parts.signing_key, parts.encryption_key, parts.access_token
    if signing is None or encryption is None or token is None:
        return None
    try:
        fits, fits_signing = encryption._handle.fits(token.secret), _fits(signing, token)
    except KeyMismatchError as error:
        return failed("key_roles", error, "secret-truncated")
    if fits and signing != encryption:
        parts.is_proven = True
        return good("key_roles", "the access token secret decrypts with the encryption key")
    return _wrong_roles(signing, encryption, fits=fits, fits_signing=fits_signing)


def _fits(key: PrivateKey, token: AccessToken) -> bool:
    """False for a key of another size as well."""
    try:
        return key._handle.fits(token.secret)
    except KeyMismatchError:
        return False


def _wrong_roles(signing: PrivateKey, encryption: PrivateKey, *, fits: bool, fits_signing: bool) -> Finding:
    if fits:
        return bad(
            "key_roles",
            "one-key-twice",
            "the encryption key was given as signing key too; IBKR asks for two",
            "Give private_signature.pem as signing key, the one whose public half is in the portal.",
            KeyMismatchError,
        )
    if signing == encryption:
        return bad(
            "key_roles",
            "one-key-twice",
            "one key was given both as signing and as encryption key, and the access token secret belongs to another",
            "Give private_encryption.pem as encryption key, the one whose public half is in the portal.",
            KeyMismatchError,
        )
    if fits_signing:
        return bad(
            "key_roles",
            "keys-swapped",
            "signing key and encryption key are swapped: the access token secret decrypts with the signing key",
            "Exchange the two files in the settings. If they are right, their public halves were exchanged at the "
            "upload: then exchange them in the portal.",
            KeyMismatchError,
        )
    return bad(
        "key_roles",
        "secret-of-another-key",
        "the access token secret was encrypted for another key than this encryption key "
        f"(fingerprint {short(encryption.fingerprint)})",
        "Generate the access token again in the portal, after this key's public half was uploaded there; or give the "
        "encryption key that was there when the secret was made.",
        KeyMismatchError,
    )


# --- The way to the service -----------------------------------------------------------------------


def _base_url(parts: Parts) -> Finding | None:
    text = parts.text("base_url") or DEFAULT_BASE_URL
    try:
        check_base_url(text)
    except InvalidValue as error:
        return bad(
            "base_url",
            "base-url",
            f"the address of the API cannot be used: {error.message.removeprefix('base_url: ')}",
            f"Correct it in {_origin(parts, 'base_url')}; IBKR's is {DEFAULT_BASE_URL}.",
            InvalidValue,
        )
    parts.base_url = text.rstrip("/")
    if not parts.base_url.endswith(_IBKR_PATH):
        return warning(
            "base_url",
            "base-url-path",
            f"the address of the API does not end with {_IBKR_PATH}",
            f"Correct it in {_origin(parts, 'base_url')}; IBKR's is {DEFAULT_BASE_URL}.",
        )
    return good("base_url", parts.base_url)


def _ca_file(parts: Parts) -> Finding | None:
    given = parts.text("ca_file")
    if given is None:
        try:
            file, folder = _core.find_ca()
        except TLSError:
            return bad(
                "ca_file",
                "ca-missing",
                "this system has no certificate authorities to check the service's certificate with",
                "Install the package ca-certificates, or give a PEM file as ca_file.",
                TLSError,
            )
        return good("ca_file", f"the system's, {file or folder}")
    where = _origin(parts, "ca_file")
    try:
        with Path(given).expanduser().open("rb") as opened:
            content = opened.read(1 << 24)
    except (OSError, ValueError, RuntimeError) as error:  # the last: no home folder for "~"
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        return bad(
            "ca_file",
            "ca-file-unreadable",
            f"the file of certificate authorities cannot be read: {reason} ({where})",
            "Correct the path, or leave ca_file out to trust the system's authorities.",
            ConfigurationError,
        )
    if b"-----BEGIN CERTIFICATE-----" not in content and b"-----BEGIN TRUSTED CERTIFICATE-----" not in content:
        return bad(
            "ca_file",
            "ca-file-no-certificate",
            f"the file of certificate authorities holds no certificate ({where})",
            "Give a PEM file with BEGIN CERTIFICATE lines, or leave ca_file out to trust the system's authorities.",
            ConfigurationError,
        )
    return good("ca_file", given)


def _environment(parts: Parts) -> Iterator[Finding]:
    try:
        Transport(transport_options(proxy=parts.text("proxy"))).close()  # connects to nothing yet
    except InvalidValue as error:
        where = _origin(parts, "proxy")
        advice = f"Write the whole address in {where}: http://host:port."
        yield bad("environment", "proxy-setting", f"the proxy cannot be used: {error.message}", advice, InvalidValue)
        return
    is_quiet = True
    if parts.environment.get("SSLKEYLOGFILE") or _core.tls_keys_are_logged():
        is_quiet = False
        yield warning(
            "environment",
            "sslkeylogfile",
            "SSLKEYLOGFILE is set: whoever reads that file can decrypt the TLS traffic of this process",
            "Unset SSLKEYLOGFILE unless you are debugging TLS, and remove the file.",
        )
    variable = next((name for name in _PROXIES if parts.environment.get(name)), None)
    if variable is not None and parts.text("proxy") is None:
        is_quiet = False
        yield warning(
            "environment",
            "proxy-variable",
            f"{variable} is set, and is not obeyed here: a proxy is used only where it is set for this program",
            "Where the network has no other way out, set IBKR_OAUTH_PROXY to the same address.",
        )
    if is_quiet:
        proxy = "a proxy is set" if parts.text("proxy") else "no proxy"
        yield good("environment", f"{proxy}, TLS keys are not logged")


def _origin(parts: Parts, name: str) -> str:
    value = parts.settings.get(name)
    return "the settings" if value is None else _place(value)


def _place(value: config.Value) -> str:
    """A source, and the file that it names."""
    return f"{value.origin}: {value.text}" if _is_shown_path(value.text) else value.origin


def _is_shown_path(text: str) -> bool:
    return _is_path(text) and re.fullmatch(r"[^\n]{1,200}\.\w{1,12}", text) is not None


def _article(kind: str) -> str:
    return (
        kind if kind.endswith("parameters") or kind.startswith("no ") else f"{'an' if kind[0] in 'aeE' else 'a'} {kind}"
    )
