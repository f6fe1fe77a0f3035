"""Known answers, IBKR's own published signatures among them, through the sandbox's own code."""

from __future__ import annotations

import base64
import itertools
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from starlette.datastructures import Headers

from ibkr_oauth.sandbox import crypto, testcons
from ibkr_oauth.sandbox.state import (
    AccessToken,
    LiveSessionToken,
    RegisteredConsumer,
    Settings,
    State,
)
from ibkr_oauth.sandbox.verify import IncomingRequest, SignatureRefusal, candidates, percent_encode, verify

from .conftest import Keys
from .reference import authorization

ORIGIN = "https://api.ibkr.com"


def state_at(timestamp: str, **settings: Any) -> State:
    """An empty memory whose clock stands at the time of a vector."""
    return State(Settings(**settings), clock=lambda: float(timestamp))


def incoming(method: str, url: str, header: str, *, form: str = "", content_type: str = "") -> IncomingRequest:
    parts = urlsplit(url)
    headers = {"Authorization": header, "User-Agent": "vector"}
    if form or content_type:
        headers["Content-Type"] = content_type or "application/x-www-form-urlencoded"
    return IncomingRequest(method, parts.path, parts.query, Headers(headers), form.encode())


def register(state: State, consumer_key: str, keys: Keys) -> RegisteredConsumer:
    return state.register(
        consumer_key,
        signature_key=keys.signature_pem,
        encryption_key=keys.encryption_pem,
        dh_params=keys.dh_pem,
        callback="oob",
        active=True,
        realm=None,
    )


def register_testcons(state: State) -> RegisteredConsumer:
    return state.register(
        "TESTCONS",
        signature_key=testcons.SIGNATURE_KEY,
        encryption_key=testcons.ENCRYPTION_KEY,
        dh_params=testcons.DH_PARAMS,
        callback=testcons.CALLBACK,
        active=True,
        realm=None,
    )


def remember_access_token(state: State, consumer: RegisteredConsumer, token: str, secret: bytes = b"") -> AccessToken:
    access_token = AccessToken(token, consumer, "paper", secret, session="0" * 32)
    state.access_tokens[token] = access_token
    return access_token


# --- IBKR's published signatures -----------------------------------------------------------------


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("damage", [None, "timestamp", "signature"])
def test_official_signatures_of_2024(vectors: dict[str, Any], index: int, damage: str | None) -> None:
    official = vectors["official"]["signatures"][index]
    parameters = dict(official["signed_params"])
    state = state_at(parameters["oauth_timestamp"])
    consumer = register_testcons(state)
    token = parameters.get("oauth_token", "")
    if official["url"].endswith("/access_token"):
        issued = state.issue_request_token(consumer)
        issued.token, issued.state, issued.verifier = (
            token,
            "approved",
            parameters["oauth_verifier"],
        )
        state.request_tokens[token] = issued
    elif official["url"].endswith("/live_session_token"):
        remember_access_token(state, consumer, token, bytes.fromhex(official["prepend"]))
    if damage == "timestamp":
        parameters["oauth_timestamp"] = str(int(parameters["oauth_timestamp"]) + 1)
    signature = official["signature_base64"]
    if damage == "signature":
        signature = base64.b64encode(bytes(256)).decode()
    header = authorization([("realm", official["realm"]), *parameters.items(), ("oauth_signature", signature)])
    request = incoming(official["method"], official["url"], header)

    if damage:
        with pytest.raises(SignatureRefusal, match="Error validating signature"):
            verify(state, request, ORIGIN)
        return
    verified = verify(state, request, ORIGIN)
    assert verified.consumer is consumer
    (base_string,) = {
        one.base_string()
        for one in candidates(
            request,
            parameters,
            origin=ORIGIN,
            query_rules=("merge", "omit", "url"),
            prepend=official["prepend"] or "",
        )
    }
    assert base_string == official["base_string"]


def test_official_live_session_token_signature(vectors: dict[str, Any]) -> None:
    official = vectors["official"]["other"]["lst_signature_2020"]
    token = base64.b64decode(official["live_session_token"])
    assert (
        crypto.live_session_token_signature(token, official["consumer_key"]) == official["live_session_token_signature"]
    )


def test_published_testcons_material(vectors: dict[str, Any]) -> None:
    other = vectors["official"]["other"]
    assert other["testcons_public_keys"]["signature_spki_pem"].strip() == (testcons.SIGNATURE_KEY.strip())
    assert other["testcons_public_keys"]["encryption_spki_pem"].strip() == (testcons.ENCRYPTION_KEY.strip())
    group = crypto.load_dh_parameters(testcons.DH_PARAMS)
    assert (group.prime, group.generator) == (int(other["testcons_dh"]["prime_hex"], 16), 2)


# --- Live session tokens -------------------------------------------------------------------------


def test_live_session_tokens(vectors: dict[str, Any]) -> None:
    cases = vectors["live_session_token"]
    assert len(cases) == 29
    for case in cases:
        group = crypto.load_dh_parameters(vectors["dh_groups"][case["dh_group"]]["pem"])
        exchanged = crypto.exchange(
            group,
            int(case["diffie_hellman_challenge"], 16),
            secret=int(case["server_private_hex"], 16),
        )
        assert f"{exchanged.response:x}" == case["diffie_hellman_response"], case["id"]
        assert f"{exchanged.shared_secret:x}" == case["shared_secret_hex"], case["id"]
        assert crypto.to_byte_array(exchanged.shared_secret).hex() == case["K_bytes_hex"]
        secret = bytes.fromhex(vectors["access_token_secrets"][case["access_token_secret"]]["plaintext_hex"])
        token = crypto.live_session_token(exchanged.shared_secret, secret)
        assert base64.b64encode(token).decode() == case["lst_base64"], case["id"]
        signature = crypto.live_session_token_signature(token, case["consumer_key"])
        assert signature == case["live_session_token_signature"], case["id"]


def test_live_session_token_requests(vectors: dict[str, Any], keys: Keys) -> None:
    signed = [case for case in vectors["live_session_token"] if "request" in case]
    assert signed
    for case in signed:
        request = case["request"]
        for header in ("authorization_header", "authorization_header_sorted_variant"):
            state = state_at(request["timestamp"])
            consumer = register(state, case["consumer_key"], keys)
            secret = vectors["access_token_secrets"][case["access_token_secret"]]["plaintext_hex"]
            token = request["oauth_token"]
            remember_access_token(state, consumer, token, bytes.fromhex(secret))
            verified = verify(state, incoming(request["method"], request["url"], request[header]), ORIGIN)
            challenge = verified.parameters["diffie_hellman_challenge"]
            assert challenge == case["diffie_hellman_challenge"]


def test_to_byte_array(vectors: dict[str, Any]) -> None:
    cases = vectors["to_byte_array"]["cases"]
    assert len(cases) == 21
    for number, expected in cases:
        assert crypto.to_byte_array(int(number, 16)).hex() == expected


# --- Request tokens and access tokens ------------------------------------------------------------


def test_rsa_requests(vectors: dict[str, Any], keys: Keys) -> None:
    for case in vectors["rsa_requests"]:
        headers = [case["authorization_header_realm_first"], case["authorization_header_sorted"]]
        for header in filter(None, headers):
            state = state_at(case["timestamp"])
            consumer = register(state, case["consumer_key"], keys)
            if case["oauth_token"]:
                issued = state.issue_request_token(consumer)
                issued.state, issued.verifier = "approved", case["oauth_verifier"]
                state.request_tokens[case["oauth_token"]] = issued
            verify(state, incoming(case["method"], case["url"], header), ORIGIN)


# --- Protected calls -----------------------------------------------------------------------------


def hmac_state(case: dict[str, Any], keys: Keys, **settings: Any) -> State:
    state = state_at(case["timestamp"], **settings)
    consumer = register(state, case["consumer_key"], keys)
    access_token = remember_access_token(state, consumer, case["oauth_token"])
    token = base64.b64decode(case["live_session_token"])
    access_token.live_session_tokens.append(LiveSessionToken(token, 0, 2e9))
    return state


def test_hmac_requests(vectors: dict[str, Any], keys: Keys) -> None:
    """The recorded convention is `merge`; with nothing to merge any rule holds."""
    assert len(vectors["hmac_requests"]) == 14
    for case in vectors["hmac_requests"]:
        form = case["form_body_as_sent_by_web_demo"] or ""
        request = incoming(
            case["method"],
            case["url"],
            case["authorization_header"],
            form=form,
            content_type="application/json" if case["json_body"] else "",
        )
        for rule in ("merge", "omit", "url"):
            state = hmac_state(case, keys, query_rules=(rule,))
            if rule == "merge" or not request.query:
                verified = verify(state, request, ORIGIN)
                assert verified.query_rule == ("merge" if request.query else None), case["id"]
            else:
                with pytest.raises(SignatureRefusal, match="Invalid signature"):
                    verify(state, request, ORIGIN)


RULE_OF = {
    "own: single encoding, RFC 3986 unreserved only": "merge",
    "query_omitted": "omit",
    "query_left_in_url_part": "url",
    "rfc5849_double_encoded": "rfc5849",
}


def test_disagreements(vectors: dict[str, Any], keys: Keys) -> None:
    """Odd characters in a query: each rule accepts its own signature and no other one."""
    seen = set[str]()
    for case in vectors["disagreements"]:
        if not case["id"].startswith("probe_"):
            continue
        for result, rule in itertools.product(case["results"], RULE_OF.values()):
            header = authorization(
                [
                    ("realm", case["realm"]),
                    ("oauth_consumer_key", case["consumer_key"]),
                    ("oauth_nonce", case["nonce"]),
                    ("oauth_signature", result["signature_base64"]),
                    ("oauth_signature_method", "HMAC-SHA256"),
                    ("oauth_timestamp", case["timestamp"]),
                    ("oauth_token", case["oauth_token"]),
                ]
            )
            request = incoming(case["method"], case["url"], header)
            state = hmac_state(case, keys, query_rules=(rule,))
            named = {RULE_OF[name] for name in result["implementations"] if name in RULE_OF}
            if rule in named:
                assert verify(state, request, ORIGIN).query_rule == rule, case["id"]
                seen.add(rule)
            else:
                with pytest.raises(SignatureRefusal):
                    verify(state, request, ORIGIN)
    assert seen == {"merge", "omit", "url", "rfc5849"}


# --- Keys ----------------------------------------------------------------------------------------


def test_registered_keys_of_every_form(vectors: dict[str, Any]) -> None:
    for role in ("signature", "encryption"):
        pems = vectors["keys"][role]
        spki = crypto.load_rsa_public_key(pems["public_spki_pem"], "key")
        pkcs1 = crypto.load_rsa_public_key(pems["public_pkcs1_pem"].encode(), "key")
        assert spki.public_numbers() == pkcs1.public_numbers()


def test_encrypted_secret_decrypts(vectors: dict[str, Any], keys: Keys) -> None:
    public = crypto.load_rsa_public_key(keys.encryption_pem, "key")
    for secret in (bytes(32), b"\0\1" * 10):
        ciphertext = base64.b64decode(crypto.encrypt_access_token_secret(public, secret))
        assert len(ciphertext) == 256
        assert keys.encryption.decrypt(ciphertext, padding.PKCS1v15()) == secret


def test_percent_encoding(vectors: dict[str, Any]) -> None:
    case = vectors["percent_encoding"]
    assert percent_encode(case["input"]) == case["rfc3986"]
    assert unquote(percent_encode("a b/ü")) == "a b/ü"
