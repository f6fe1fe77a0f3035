"""Why a signature was refused: the sandbox's base string, and where the client's differs.

A server sees a signature, not what was signed. So `explain` either compares with the base string
that the client sends along for the purpose, or tries the mistakes that clients are known to make
until the signature verifies over one of them. The decrypted access token secret, with which the
base string of a live session token request begins, is never shown.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import cast, get_args
from urllib.parse import quote, unquote, urlsplit

from cryptography.hazmat.primitives.hashes import SHA1

from . import crypto, verify
from .state import QueryRule
from .verify import Candidate, SignatureTrial

MAXIMUM_LENGTH = 6000
"""Length limit of an explanation: it travels in a response header."""
_SHOWN_BASE_STRING = 3000
_CONTEXT = 16

Verifies = Callable[[str], bool]


def explain(trial: SignatureTrial, client_base_string: str | None = None) -> str:
    """One line of printable ASCII on a refused signature.

    `client_base_string` is the text that the client says it signed, if it does: percent-encoded
    for its way in a header, or as it is.
    """
    tried = _distinct(trial.candidates)
    if client_base_string is None:
        finding, right = _search(trial, tried)
    else:
        # A base string has its & between the parts; percent-encoded once more, it has none.
        is_raw = "&" in client_base_string
        client = client_base_string if is_raw else unquote(client_base_string)
        finding, right = _compare(trial, tried, client)
    rule = f" under the query rule {right.rule}" if trial.request.query else ""
    shown = _masked(right.base_string(), right.prepend)
    if len(shown) > _SHOWN_BASE_STRING:
        shown = f"{shown[:_SHOWN_BASE_STRING]}... ({len(shown)} characters)"
    return _printable(f"{finding}. The sandbox's base string{rule}: {shown}")[:MAXIMUM_LENGTH]


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates without repetition: without a query the rules agree."""
    return list({one.base_string(): one for one in reversed(list(candidates))}.values())[::-1]


# --- With the client's base string ---------------------------------------------------------------


def _compare(trial: SignatureTrial, tried: list[Candidate], client: str) -> tuple[str, Candidate]:
    nearest = max(tried, key=lambda one: _common_length(one.base_string(), client))
    if nearest.base_string() != client:
        return _difference(nearest, client), nearest
    other = _other_key(trial, [nearest]) or "another key than the registered one"
    return f"Your base string is right, but the signature was made with {other}", nearest


def _common_length(one: str, other: str) -> int:
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _difference(right: Candidate, client: str) -> str:
    """Where `client` leaves the right base string, with some characters around the place."""
    expected = right.base_string()
    index = _common_length(expected, client)
    if index < len(right.prepend):
        # No position: who may ask often enough could read the secret from it, digit by digit.
        missing = client.startswith(("GET&", "POST&", "PUT&", "DELETE&"))
        what = f"the prepend of {len(right.prepend)} hex digits"
        if missing:
            return f"First difference at character 1: {what} is missing"
        return f"First difference within {what}"
    return (
        f"First difference at character {index + 1}: "
        f"the sandbox has {_excerpt(expected, index, len(right.prepend))}, "
        f"you have {_excerpt(client, index, len(right.prepend))}"
    )


def _excerpt(text: str, index: int, start: int) -> str:
    """The surroundings of a position, its character in brackets; nothing before `start`."""
    before = text[max(start, index - _CONTEXT) : index]
    here = f"[{text[index]}]" if index < len(text) else "[end]"
    return f'"{before}{here}{text[index + 1 : index + 1 + _CONTEXT]}"'


# --- Without it: known mistakes ------------------------------------------------------------------


def _search(trial: SignatureTrial, tried: list[Candidate]) -> tuple[str, Candidate]:
    signature, misspelling = _decode(trial.parameters["oauth_signature"])
    if signature is None:
        return "oauth_signature is not base64", tried[0]
    verifies = _right_key(trial, signature)
    if misspelling:
        for right in tried:
            if verifies(right.base_string()):
                return f"The base string is right, but {misspelling}", right
        return f"{misspelling}; beyond that, none of the known mistakes matches", tried[0]
    for mistakes, right, text in _mistaken_base_strings(trial, tried):
        if verifies(text):
            named = " and ".join(mistakes)
            return f"The signature verifies if {named}. {_difference(right, text)}", right
    if other := _other_key(trial, tried):
        return f"The base string is right, but the signature was made with {other}", tried[0]
    return "None of the known mistakes matches; most likely the key is not the registered one", tried[0]


def _decode(text: str) -> tuple[bytes | None, str]:
    """The signature's bytes, and what is wrong with their spelling (empty: nothing)."""
    spellings = (
        (text, ""),
        (unquote(text), "oauth_signature is percent-encoded twice"),
        (text.translate(str.maketrans("-_", "+/")), "oauth_signature is URL-safe base64"),
        (text.replace(" ", "+"), "oauth_signature is not percent-encoded, its + became a space"),
        ("".join(text.split()), "oauth_signature has white space in it"),
        (text + "=" * (-len(text) % 4), "oauth_signature lacks its padding"),
    )
    for spelled, wrong in spellings:
        signature = crypto.decode_signature(spelled)
        if signature:
            return signature, wrong
    return None, ""


def _right_key(trial: SignatureTrial, signature: bytes) -> Verifies:
    if trial.parameters["oauth_signature_method"] == "RSA-SHA256":
        return partial(crypto.verify_rsa, trial.consumer.signature_key, signature)
    sessions = trial.access_token.live_session_tokens if trial.access_token else []
    return lambda text: any(crypto.verify_hmac(one.value, signature, text) for one in sessions)


def _mistaken_base_strings(
    trial: SignatureTrial, tried: list[Candidate]
) -> Iterator[tuple[tuple[str, ...], Candidate, str]]:
    """Names of the mistakes, the right candidate, the base string: single ones, then pairs."""
    for right in tried:
        for name, text in _mistaken_encodings(right):
            yield (name,), right, text
        for name, wrong in _mistaken_candidates(trial, right):
            yield (name,), right, wrong.base_string()
    for right in tried:
        for name, wrong in _mistaken_candidates(trial, right):
            for second_name, worse in _mistaken_candidates(trial, wrong):
                yield (name, second_name), right, worse.base_string()
            for second_name, text in _mistaken_encodings(wrong):
                yield (name, second_name), right, text


def _mistaken_candidates(trial: SignatureTrial, right: Candidate) -> Iterator[tuple[str, Candidate]]:
    """Everything that may go into the base string wrongly: method, URL, parameters, prepend."""
    mistakes = (
        *_mistaken_methods(right),
        *((name, replace(right, url=url)) for name, url in _mistaken_urls(trial, right.url)),
        *((name, replace(right, pairs=pairs)) for name, pairs in _mistaken_pairs(trial, right.pairs)),
        *_mistaken_rules(trial, right),
        *_mistaken_prepends(trial, right),
    )
    return ((name, wrong) for name, wrong in mistakes if wrong != right)


def _mistaken_methods(right: Candidate) -> Iterator[tuple[str, Candidate]]:
    for method in ("GET", "POST", "PUT", "DELETE", right.method.lower()):
        yield f"the method is {method}", replace(right, method=method)


def _mistaken_rules(trial: SignatureTrial, right: Candidate) -> Iterator[tuple[str, Candidate]]:
    """The query under the rules that this sandbox does not accept."""
    if not trial.request.query:
        return
    accepted = [one.rule for one in trial.candidates]
    every_rule = cast("tuple[QueryRule, ...]", get_args(QueryRule))
    for other in verify.candidates(
        trial.request, trial.parameters, origin=trial.origin, query_rules=every_rule, prepend=right.prepend
    ):
        if other.rule not in accepted:
            yield f"the query is signed under the rule {other.rule}", other


def _mistaken_prepends(trial: SignatureTrial, right: Candidate) -> Iterator[tuple[str, Candidate]]:
    secret = trial.access_token.secret if trial.access_token else b""
    if not right.prepend or right.prepend != secret.hex():
        return  # mistaken already
    for name, prepend in (
        ("the prepend is missing", ""),
        ("the prepend is in upper case", right.prepend.upper()),
        ("an & follows the prepend", f"{right.prepend}&"),
        ("the prepend has lost its leading zeros", right.prepend.lstrip("0")),
        ("the prepend is base64, not hex", base64.b64encode(secret).decode()),
    ):
        yield name, replace(right, prepend=prepend)


def _mistaken_urls(trial: SignatureTrial, url: str) -> Iterator[tuple[str, str]]:
    if not url.startswith(trial.origin):
        return  # mistaken already
    scheme, host = trial.origin.split("://")
    rest = url.removeprefix(trial.origin)
    port = urlsplit(trial.origin).port
    port_suffix = f":{port}" if port else ""

    other_scheme = "http" if scheme == "https" else "https"
    yield f"the scheme is {other_scheme}", f"{other_scheme}://{host}{rest}"
    hosts = [trial.request.headers.get("host", ""), "api.ibkr.com"]
    hosts += [f"{name}{port_suffix}" for name in ("localhost", "127.0.0.1", "api.ibkr.com")]
    for other_host in hosts:
        if other_host:
            yield f"the host is {other_host}", f"{scheme}://{other_host}{rest}"
    if port:
        yield "the port is left out", f"{scheme}://{host.removesuffix(port_suffix)}{rest}"
    else:
        default_port = 443 if scheme == "https" else 80
        yield f"the port {default_port} is shown", f"{scheme}://{host}:{default_port}{rest}"
    path, mark, query = rest.partition("?")
    slashed = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    change = "missing" if path.endswith("/") else "added"
    yield f"a trailing slash is {change}", f"{trial.origin}{slashed}{mark}{query}"
    yield "/v1/api is missing", trial.origin + rest.removeprefix(verify.API_ROOT)
    yield "the path is decoded", trial.origin + unquote(path) + mark + query


def _mistaken_pairs(trial: SignatureTrial, pairs: verify.Pairs) -> Iterator[tuple[str, verify.Pairs]]:
    names = [name for name, _value in pairs]
    for name in names:
        yield f"{name} is left out", tuple(pair for pair in pairs if pair[0] != name)
    realm = trial.parameters.get("realm", trial.consumer.realm)
    for name, value in (("realm", realm), ("oauth_version", "1.0"), ("oauth_callback", "oob")):
        if name not in names:
            yield f"{name}={value} is signed too", (*pairs, (name, value))
    if trial.request.query:
        raw = tuple(
            (name, value) for name, _, value in (part.partition("=") for part in trial.request.query.split("&"))
        )
        decoded = trial.request.query_pairs()
        rest = tuple(pair for pair in pairs if pair not in decoded)
        yield "the query's parameters are signed without decoding them", rest + raw
    if form := trial.request.form_pairs():
        yield "the form body is left out", tuple(pair for pair in pairs if pair not in form)
    if trial.request.media_type == "application/json":
        yield "the JSON body is signed too", pairs + _json_pairs(trial.request.body)


def _json_pairs(body: bytes) -> verify.Pairs:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(value, dict):
        return ()
    items = cast("dict[str, object]", value).items()
    pairs = ((name, one if isinstance(one, str) else json.dumps(one)) for name, one in items)
    return tuple((_encodable(name), _encodable(one)) for name, one in pairs)


def _encodable(text: str) -> str:
    """JSON can spell half a character; nothing else can."""
    return text.encode("utf-8", "replace").decode()


def _mistaken_encodings(right: Candidate) -> Iterator[tuple[str, str]]:
    """The right parts, written down wrongly."""
    encode = verify.percent_encode
    pairs = sorted(right.pairs)
    doubled = sorted((encode(name), encode(value)) for name, value in right.pairs)
    styles: tuple[tuple[str, Callable[[str], str], Iterable[tuple[str, str]]], ...] = (
        ("the parameters are percent-encoded twice, as in RFC 5849", encode, doubled),
        ("the parameters are not sorted", encode, right.pairs),
        ("a space is encoded as +", lambda text: encode(text).replace("%20", "+"), pairs),
        ("slashes are not encoded", lambda text: encode(text).replace("%2F", "/"), pairs),
        ("! * ' ( ) are not encoded", partial(_encode_all_but, "!*'()"), pairs),
        ("percent escapes are in lower case", _lower_case_escapes, pairs),
        ("nothing is percent-encoded", lambda text: text, pairs),
    )
    correct = right.base_string()
    for name, encoder, listed_pairs in styles:
        listed = "&".join(f"{one}={value}" for one, value in listed_pairs)
        text = f"{right.prepend}{right.method}&{encoder(right.url)}&{encoder(listed)}"
        if text != correct:
            yield name, text
    listed = "&".join(f"{one}={value}" for one, value in pairs)
    yield (
        "the URL is not percent-encoded",
        f"{right.prepend}{right.method}&{right.url}&{encode(listed)}",
    )
    yield (
        "the parameters are not percent-encoded",
        f"{right.prepend}{right.method}&{encode(right.url)}&{listed}",
    )


def _encode_all_but(kept: str, text: str) -> str:
    return quote(text, safe=kept, errors="surrogateescape")


def _lower_case_escapes(text: str) -> str:
    return re.sub("%..", lambda escape: escape[0].lower(), verify.percent_encode(text))


def _other_key(trial: SignatureTrial, tried: list[Candidate]) -> str:
    """Which wrong key or algorithm made the signature, if it is a well-known one."""
    signature, _ = _decode(trial.parameters["oauth_signature"])
    for name, verifies in _wrong_keys(trial, signature or b""):
        if any(verifies(one.base_string()) for one in tried):
            return name
    return ""


def _wrong_keys(trial: SignatureTrial, signature: bytes) -> Iterator[tuple[str, Verifies]]:
    if trial.parameters["oauth_signature_method"] == "RSA-SHA256":
        yield (
            "the private encryption key: the two keys are exchanged",
            partial(crypto.verify_rsa, trial.consumer.encryption_key, signature),
        )
        yield (
            "SHA-1 in place of SHA-256",
            partial(crypto.verify_rsa, trial.consumer.signature_key, signature, algorithm=SHA1),
        )
    elif trial.access_token is not None:
        secret = trial.access_token.secret
        prime_length = (trial.consumer.dh_group.prime.bit_length() + 7) // 8
        yield "the access token secret", partial(crypto.verify_hmac, secret, signature)
        for session in trial.access_token.live_session_tokens:
            token, shared = session.value, session.shared_secret
            yield (
                "SHA-1 in place of SHA-256",
                partial(crypto.verify_hmac, token, signature, algorithm="sha1"),
            )
            minimal = shared.to_bytes((shared.bit_length() + 7) // 8, "big")
            padded = shared.to_bytes(prime_length, "big")
            for name, key in (
                ("the live session token's base64 text, not its bytes", base64.b64encode(token)),
                ("the live session token's hex text, not its bytes", token.hex().encode()),
                (
                    "a live session token derived without Java's sign byte",
                    crypto.hmac_sha1(minimal, secret),
                ),
                (
                    "a live session token derived from the shared secret in the prime's length",
                    crypto.hmac_sha1(padded, secret),
                ),
            ):
                yield name, partial(crypto.verify_hmac, key, signature)


# --- Showing -------------------------------------------------------------------------------------


def _masked(base_string: str, prepend: str) -> str:
    if not prepend:
        return base_string
    return f"<{len(prepend)} hex digits>{base_string.removeprefix(prepend)}"


def _printable(text: str) -> str:
    """Printable ASCII as it is, everything else percent-encoded, so that a header can carry it."""
    return "".join(
        character if " " <= character <= "~" else quote(character, safe="", errors="replace") for character in text
    )
