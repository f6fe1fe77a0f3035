"""The cryptography of one live session token: two powers, decryption, signature, derivation, check. No network."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import NamedTuple

import pytest
from ibind.oauth import oauth1a as ibind

from ibkr_oauth import Consumer, LiveSessionToken, _core

from . import bare as bare_openssl
from .bare import Bare
from .conftest import Measure
from .known import Known


class Outcome(NamedTuple):
    challenge: str
    signature: str  # base64
    token: str  # base64


@pytest.fixture(scope="module")
def expected(known: Known) -> Outcome:
    return Outcome(
        known.token["diffie_hellman_challenge"],
        known.request["signature_base64"],
        known.token["lst_base64"],
    )


def ours(known: Known, consumer: Consumer) -> tuple[str, str, LiveSessionToken]:
    """As OAuthClient.live_session_token does it, with a given exponent."""
    secret = consumer.decrypt_secret(known.access_token)
    exchange = consumer.dh_params.exchange(known.exponent)
    challenge = exchange.challenge
    pairs = list(known.request_pairs(challenge).items())
    signature = _core.rsa_signature("POST", known.request["url"], pairs, known.signing_core, secret)
    token = LiveSessionToken.derive(
        exchange.finish(known.token["diffie_hellman_response"]),
        secret,
        consumer_key=consumer.key,
        access_token=known.access_token,
    )
    token.verify(known.token["live_session_token_signature"])
    return challenge, signature, token


def ibind_loaded(known: Known) -> tuple[str, str, str]:
    """ibind's functions one by one, where they take key objects."""
    config, exponent = known.ibind_config, known.token["dh_random_hex"]
    challenge = ibind.generate_dh_challenge(config.dh_prime, exponent, int(config.dh_generator))
    prepend = ibind.calculate_live_session_token_prepend(config.access_token_secret, known.ibind_encryption_key)
    base_string = ibind.generate_base_string(
        "POST", known.request["url"], known.request_pairs(challenge), prepend=prepend
    )
    signature = ibind.generate_rsa_sha_256_signature(base_string, known.ibind_signing_key)
    token = ibind.calculate_live_session_token(
        config.dh_prime, exponent, known.token["diffie_hellman_response"], prepend
    )
    proof = known.token["live_session_token_signature"]
    if not ibind.validate_live_session_token(token, proof, config.consumer_key):
        raise AssertionError("ibind does not accept its own token")
    return challenge, signature, token


def ibind_as_it_is(known: Known) -> tuple[str, str]:
    """The body of ibind's req_live_session_token without its request, and its check."""
    config = known.ibind_config
    prepend, extra_headers, exponent = ibind.prepare_oauth(config)
    headers = ibind.generate_oauth_headers(
        oauth_config=config,
        request_method="POST",
        request_url=known.request["url"],
        extra_headers=extra_headers,
        signature_method="RSA-SHA256",
        prepend=prepend,
    )
    token = ibind.calculate_live_session_token(
        config.dh_prime, exponent, known.token["diffie_hellman_response"], prepend
    )
    ibind.validate_live_session_token(token, known.token["live_session_token_signature"], config.consumer_key)
    return headers["Authorization"], token


@pytest.fixture(scope="module")
def ready(known: Known, bare: Bare) -> Bare:
    """bare.c with the same keys and texts."""
    token = known.token
    bare.set_group(
        bytes.fromhex(known.group["prime_hex"]),
        known.group["generator"],
        bytes.fromhex(token["dh_random_hex"]),
        bytes.fromhex(token["diffie_hellman_response"].zfill(512)),
    )
    bare.set_keys(known.signing_pem, known.encryption_pem)
    bare.set_texts(
        b64decode(known.secret["encrypted_base64"]),
        known.request["base_string"].encode(),
        token["consumer_key"].encode(),
    )
    bare.set_hmac(b"any: the token's keys replace it")
    return bare


def test_ours_is_right(known: Known, expected: Outcome) -> None:
    challenge, signature, token = ours(known, known.consumer)
    assert Outcome(challenge, signature, token.reveal()) == expected


def test_ibind_is_right(known: Known, expected: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge, signature, token = ibind_loaded(known)
    quoted = known.request["oauth_signature_header_value"]
    assert (challenge, signature, token) == (expected.challenge, quoted, expected.token)
    monkeypatch.setattr(ibind, "generate_dh_random_bytes", lambda: known.token["dh_random_hex"])
    monkeypatch.setattr(ibind, "generate_oauth_nonce", lambda: known.request["nonce"])
    monkeypatch.setattr(ibind, "generate_request_timestamp", lambda: known.request["timestamp"])
    header = known.request["authorization_header"]
    assert ibind_as_it_is(known) == (header, expected.token)


def test_bare_openssl_is_right(known: Known, expected: Outcome, ready: Bare) -> None:
    ready.token()
    outcome = Outcome(
        ready.result(bare_openssl.CHALLENGE).hex(),
        b64encode(ready.result(bare_openssl.SIGNATURE)).decode(),
        b64encode(ready.result(bare_openssl.TOKEN)).decode(),
    )
    assert outcome == expected
    assert ready.result(bare_openssl.SECRET).hex() == known.secret["plaintext_hex"]
    assert ready.result(bare_openssl.PROOF).hex() == known.token["live_session_token_signature"]


@pytest.mark.contest("ours", "bare OpenSSL", "ibind, keys loaded", "ibind as it is")
def test_token(contestant: str, known: Known, ready: Bare, measure: Measure) -> None:
    functions = {
        "ours": lambda: ours(known, known.consumer),
        "bare OpenSSL": ready.token,
        "ibind, keys loaded": lambda: ibind_loaded(known),
        "ibind as it is": lambda: ibind_as_it_is(known),
    }
    measure("token", contestant, functions[contestant])


@pytest.mark.contest("ours", "bare OpenSSL")
def test_first_token(contestant: str, known: Known, ready: Bare, measure: Measure) -> None:
    """A consumer proves once for each access token secret that it fits the encryption key: a third private operation."""
    functions = {"ours": lambda: ours(known, known.new_consumer()), "bare OpenSSL": ready.token}
    measure("first token", contestant, functions[contestant])
