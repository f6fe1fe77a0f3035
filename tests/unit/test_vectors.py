"""Known answers through the public names. None of them was made with this project."""

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ibkr_oauth import Consumer, DHParameters, LiveSessionToken, PrivateKey, Secret, Signer, _core, signing


def oauth_pairs(request: dict[str, Any], method: str, **more: str) -> list[tuple[str, str]]:
    """The oauth_* pairs that a vector's request signs."""
    pairs = [
        ("oauth_consumer_key", request["consumer_key"]),
        ("oauth_nonce", request["nonce"]),
        ("oauth_signature_method", method),
        ("oauth_timestamp", request["timestamp"]),
    ]
    optional = ("oauth_callback", "oauth_token", "oauth_verifier")
    pairs += [(name, request[name]) for name in optional if request.get(name) is not None]
    return pairs + list(more.items())


def test_every_live_session_token(vectors: dict[str, Any]) -> None:
    key = PrivateKey.load(vectors["keys"]["encryption"]["private_pkcs1_pem"])
    signing_key = PrivateKey.load(vectors["keys"]["signature"]["private_pkcs8_pem"])
    assert len(vectors["live_session_token"]) == 29
    for case in vectors["live_session_token"]:
        group = DHParameters.load(vectors["dh_groups"][case["dh_group"]]["pem"])
        exchange = group.exchange(int(case["dh_random_hex"], 16))
        assert exchange.challenge == case["diffie_hellman_challenge"], case["id"]
        shared = exchange.finish(case["diffie_hellman_response"])
        assert shared.reveal().hex() == case["K_bytes_hex"], case["id"]

        granted = vectors["access_token_secrets"][case["access_token_secret"]]
        secret = key.decrypt(granted["encrypted_base64"])
        assert secret.reveal().hex() == granted["plaintext_hex"]

        token = LiveSessionToken.derive(shared, secret, consumer_key=case["consumer_key"])
        assert token.reveal() == case["lst_base64"], case["id"]
        token.verify(case["live_session_token_signature"])

        if request := case.get("request"):
            pairs = oauth_pairs(
                request | {"consumer_key": case["consumer_key"]},
                "RSA-SHA256",
                diffie_hellman_challenge=case["diffie_hellman_challenge"],
            )
            base = signing.base_string("POST", request["url"], pairs, prepend=secret.reveal().hex())
            assert base == request["base_string"]
            assert hashlib.sha256(base.encode()).hexdigest() == request["base_string_sha256"]
            signature = signing.rsa_sha256(base, signing_key)
            assert signature == request["signature_base64"]
            assert signature == _core.rsa_signature("POST", request["url"], pairs, signing_key._handle, secret)
            header = signing.authorization_header([*pairs, ("oauth_signature", signature)], request["realm"])
            assert header == request["authorization_header"]


def test_every_rsa_request(vectors: dict[str, Any]) -> None:
    key = vectors["keys"]["signature"]["private_pkcs1_pem"]
    assert vectors["rsa_requests"]
    for case in vectors["rsa_requests"]:
        pairs = oauth_pairs(case, "RSA-SHA256")
        base = signing.base_string(case["method"], case["url"], pairs)
        assert base == case["base_string"], case["id"]
        signature = signing.rsa_sha256(base, key)
        assert signature == case["signature_base64"]
        assert signing.percent_encode(signature) == case["oauth_signature_header_value"]
        header = signing.authorization_header([*pairs, ("oauth_signature", signature)], case["realm"])
        assert header == case["authorization_header_realm_first"]


def test_every_hmac_request(vectors: dict[str, Any], pem: dict[str, str]) -> None:
    assert len(vectors["hmac_requests"]) == 14
    for case in vectors["hmac_requests"]:
        form = [tuple(pair) for pair in case["form_params"] or []]
        everything = oauth_pairs(case, "HMAC-SHA256") + [tuple(pair) for pair in case["query_params"]] + form
        base = signing.base_string(case["method"], case["url_without_query"], everything)
        assert base == case["base_string"], case["id"]
        merged = oauth_pairs(case, "HMAC-SHA256") + form
        assert base == signing.base_string(case["method"], case["url"], merged, query_signing="merge")
        assert signing.hmac_sha256(base, case["live_session_token"]) == case["signature_base64"]

        consumer = Consumer(
            case["consumer_key"], pem["signing"], pem["encryption"], pem["dh_params"], realm=case["realm"]
        )
        token = LiveSessionToken(case["live_session_token"], access_token=case["oauth_token"])
        request = Signer(consumer, token, query_signing="merge").sign(
            case["method"],
            case["url_without_query"],
            case["query_params"],
            form or None,
            nonce=case["nonce"],
            timestamp=int(case["timestamp"]),
        )
        assert request.headers["Authorization"] == case["authorization_header"], case["id"]
        assert request.url == case["url"]


RULE_OF = {
    "own: single encoding, RFC 3986 unreserved only": "merge",
    "rfc5849_double_encoded": "rfc5849",
    "query_omitted": "omit",
    "query_left_in_url_part": "url",
}


def test_where_other_clients_disagree_each_rule_is_one_of_them(vectors: dict[str, Any]) -> None:
    checked = 0
    for case in vectors["disagreements"]:
        pairs = oauth_pairs(case, "HMAC-SHA256")
        for result in case["results"]:
            for name in result["implementations"]:
                if name in RULE_OF:
                    base = signing.base_string(case["method"], case["url"], pairs, query_signing=RULE_OF[name])
                    assert base == result["base_string"], (case["id"], name)
                    checked += 1
    assert checked == 7 * 4


def test_ibkrs_published_signatures_verify_over_our_base_strings(vectors: dict[str, Any]) -> None:
    official = vectors["official"]
    key = load_pem_public_key(official["other"]["testcons_public_keys"]["signature_spki_pem"].encode())
    assert isinstance(key, RSAPublicKey)
    assert len(official["signatures"]) == 3
    for case in official["signatures"]:
        base = signing.base_string(case["method"], case["url"], case["signed_params"], prepend=case["prepend"])
        assert base == case["base_string"]
        key.verify(base64.b64decode(case["signature_base64"]), base.encode(), PKCS1v15(), SHA256())


def test_ibkrs_published_token_signature(vectors: dict[str, Any]) -> None:
    published = vectors["official"]["other"]["lst_signature_2020"]
    token = LiveSessionToken(published["live_session_token"], consumer_key=published["consumer_key"])
    token.verify(published["live_session_token_signature"])


def test_javas_bytes(vectors: dict[str, Any]) -> None:
    for spelling, expected in vectors["to_byte_array"]["cases"]:
        assert _core.java_bytes(spelling).hex() == expected


def test_percent_encoding(vectors: dict[str, Any]) -> None:
    case = vectors["percent_encoding"]
    assert signing.percent_encode(case["input"]) == case["rfc3986"]
    assert signing.percent_encode("a b/ü") == "a%20b%2F%C3%BC"


def test_generic_oauth_with_double_encoding(vectors: dict[str, Any]) -> None:
    case = vectors["generic_standards"]["rfc5849_3_4_1_1"]
    base = signing.base_string("POST", "http://example.com/request", case["params"], query_signing="rfc5849")
    assert base == case["base_string"]
    once = signing.base_string("POST", "http://example.com/request", case["params"])
    assert once == case["same_params_under_ibkr_single_encoding"]


@pytest.mark.parametrize("form", ["private_pkcs1_pem", "private_pkcs8_pem", "private_pkcs8_encrypted_pem"])
def test_keys_in_every_form_are_the_same_key(vectors: dict[str, Any], form: str) -> None:
    for name in ("signature", "encryption"):
        keys = vectors["keys"][name]
        key = PrivateKey.load(keys[form], vectors["keys"]["encrypted_pem_passphrase"])
        public = load_pem_public_key(keys["public_spki_pem"].encode())
        assert isinstance(public, RSAPublicKey)
        assert key.public_pem() == keys["public_spki_pem"]
        assert key.bits == public.key_size


def test_groups_in_every_form_are_the_same_group(vectors: dict[str, Any]) -> None:
    for group in vectors["dh_groups"].values():
        from_pem = DHParameters.load(group["pem"])
        assert from_pem == DHParameters.load(group["prime_hex"]) == DHParameters(int(group["prime_hex"], 16))
        assert (from_pem.prime, from_pem.generator) == (int(group["prime_hex"], 16), group["generator"])
        assert from_pem.bits == group["bits"]
        assert DHParameters.load(from_pem.pem()) == from_pem
        assert from_pem.pem() == group["pem"]
    assert DHParameters.rfc7919() == DHParameters.load(vectors["dh_groups"]["ffdhe2048"]["pem"])


def test_an_exchange_agrees_with_pythons_own_arithmetic() -> None:
    group = DHParameters.rfc7919()
    server = 0x123456789ABCDEF123456789
    for _ in range(8):
        exchange = group.exchange()
        shared = pow(int(exchange.challenge, 16), server, group.prime)
        expected = shared.to_bytes(shared.bit_length() // 8 + 1, "big")
        assert exchange.finish(f"{pow(2, server, group.prime):x}") == Secret(expected)
