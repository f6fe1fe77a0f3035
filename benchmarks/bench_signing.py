"""Signed requests, and what they are made of."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from ibind.oauth import oauth1a as ibind

from ibkr_oauth import PrivateKey, Signer, signing

from .bare import HEADER_MAC, Bare
from .conftest import Measure
from .known import Known

TEXT = "grant_type=a b&c/ü€~._-" * 8

#: In one call of C, so that the way there does not count.
LOOP = 1000


@pytest.fixture(scope="module")
def signer(known: Known) -> Signer:
    return Signer(known.consumer, known.live_session_token)


def ibind_headers(known: Known) -> dict[str, str]:
    """As IbkrClient._get_headers calls it."""
    return ibind.generate_oauth_headers(
        oauth_config=known.ibind_config,
        request_method=known.header["method"],
        request_url=known.header["url"],
        live_session_token=known.header["live_session_token"],
    )


def test_headers_are_equal(known: Known, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    call = known.header
    monkeypatch.setattr(ibind, "generate_oauth_nonce", lambda: call["nonce"])
    monkeypatch.setattr(ibind, "generate_request_timestamp", lambda: call["timestamp"])
    ours = signer.sign(call["method"], call["url"], nonce=call["nonce"], timestamp=int(call["timestamp"]))
    assert ours.headers["Authorization"] == call["authorization_header"]
    assert ibind_headers(known)["Authorization"] == call["authorization_header"]


def test_bare_hmac_is_equal(known: Known, bare: Bare) -> None:
    bare.set_hmac(known.header_key)
    bare.header_mac(known.header["base_string"].encode(), 2)
    assert b64encode(bare.result(HEADER_MAC)).decode() == known.header["signature_base64"]


@pytest.mark.contest("ours", "ibind", "bare HMAC")
def test_header(contestant: str, known: Known, signer: Signer, bare: Bare, measure: Measure) -> None:
    method, url = known.header["method"], known.header["url"]
    message = known.header["base_string"].encode()
    bare.set_hmac(known.header_key)
    functions = {
        "ours": lambda: signer.sign(method, url),
        "ibind": lambda: ibind_headers(known),
        "bare HMAC": lambda: bare.header_mac(message, LOOP),
    }
    operations = LOOP if contestant == "bare HMAC" else 1
    measure("header", contestant, functions[contestant], operations)


@pytest.mark.contest("ours", "ibind")
def test_base_string(contestant: str, known: Known, measure: Measure) -> None:
    call, pairs = known.header, known.header_pairs()
    functions = {
        "ours": lambda: signing.base_string(call["method"], call["url"], pairs),
        "ibind": lambda: ibind.generate_base_string(call["method"], call["url"], pairs),
    }
    assert functions[contestant]() == call["base_string"]
    measure("base string", contestant, functions[contestant])


@pytest.mark.contest("ours", "urllib.parse")
def test_percent_encode(contestant: str, measure: Measure) -> None:
    functions = {
        "ours": lambda: signing.percent_encode(TEXT),
        "urllib.parse": lambda: quote(TEXT, safe=""),
    }
    assert functions["ours"]() == functions["urllib.parse"]()
    measure("percent-encode", contestant, functions[contestant])


@pytest.mark.contest("ours", "ibind")
def test_nonce(contestant: str, measure: Measure) -> None:
    functions = {"ours": signing.nonce, "ibind": ibind.generate_oauth_nonce}
    assert functions[contestant]() != functions[contestant]()
    measure("nonce", contestant, functions[contestant])


@pytest.mark.contest("ours", "ibind")
def test_load_key(contestant: str, known: Known, measure: Measure) -> None:
    pem = known.signing_pem
    functions = {
        "ours": lambda: PrivateKey.load(pem),
        "ibind": lambda: ibind.read_private_key(private_key_content=pem),
    }
    measure("key", contestant, functions[contestant])
