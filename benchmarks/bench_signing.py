"""Signed requests, and what they are made of."""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from urllib.parse import quote

import pytest
from authlib.oauth1.rfc5849.signature import construct_base_string as authlib_base_string
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from ibind.oauth import oauth1a as ibind
from oauthlib.oauth1.rfc5849 import signature as oauthlib

from ibkr_oauth import PrivateKey, Signer, signing

from . import peers
from .bare import HEADER_MAC, Bare
from .bench_calls import check_signature
from .conftest import Measure
from .known import Known

TEXT = "grant_type=a b&c/ü€~._-" * 8

#: In one call of C, so that the way there does not count.
LOOP = 1000


@pytest.fixture(scope="module")
def signer(known: Known) -> Signer:
    return Signer(known.consumer, known.live_session_token)


def test_headers_are_equal(known: Known, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    call = known.header
    monkeypatch.setattr(ibind, "generate_oauth_nonce", lambda: call["nonce"])
    monkeypatch.setattr(ibind, "generate_request_timestamp", lambda: call["timestamp"])
    ours = signer.sign(call["method"], call["url"], nonce=call["nonce"], timestamp=int(call["timestamp"]))
    assert ours.headers["Authorization"] == call["authorization_header"]
    assert peers.ibind_signing(known)(call["url"])["Authorization"] == call["authorization_header"]


def test_bare_hmac_is_equal(known: Known, bare: Bare) -> None:
    bare.set_hmac(known.header_key)
    bare.header_mac(known.header["base_string"].encode(), 2)
    assert b64encode(bare.result(HEADER_MAC)).decode() == known.header["signature_base64"]


#: Whose headers the calls of other benchmarks carry, where the server's view of them is checked.
SIGNERS = {"ibind": peers.ibind_signing, "oauthlib": peers.oauthlib_signing, "authlib": peers.authlib_signing}


@pytest.mark.parametrize("signer_of", SIGNERS)
def test_signatures_are_right(signer_of: str, known: Known) -> None:
    url = known.header["url"]
    head = f"GET / HTTP/1.1\r\nAuthorization: {SIGNERS[signer_of](known)(url)['Authorization']}\r\n"
    check_signature(head, url, known)


@pytest.mark.contest("ours", "bare HMAC", *SIGNERS)
def test_header(contestant: str, known: Known, signer: Signer, bare: Bare, measure: Measure) -> None:
    method, url = known.header["method"], known.header["url"]
    message = known.header["base_string"].encode()
    bare.set_hmac(known.header_key)
    functions = {
        "ours": lambda: signer.sign(method, url),
        **{name: partial(make(known), url) for name, make in SIGNERS.items()},
        "bare HMAC": lambda: bare.header_mac(message, LOOP),
    }
    operations = LOOP if contestant == "bare HMAC" else 1
    measure("header", contestant, functions[contestant], operations)


def oauthlib_base_string(method: str, url: str, pairs: dict[str, str]) -> str:
    normalised = oauthlib.normalize_parameters(list(pairs.items()))
    return oauthlib.signature_base_string(method, oauthlib.base_string_uri(url), normalised)


@pytest.mark.contest("ours", "ibind", "oauthlib", "authlib")
def test_base_string(contestant: str, known: Known, measure: Measure) -> None:
    method, url, pairs = known.header["method"], known.header["url"], known.header_pairs()
    functions = {
        "ours": lambda: signing.base_string(method, url, pairs),
        "ibind": lambda: ibind.generate_base_string(method, url, pairs),
        "oauthlib": lambda: oauthlib_base_string(method, url, pairs),
        "authlib": lambda: authlib_base_string(method, url, list(pairs.items())),
    }
    assert functions[contestant]() == known.header["base_string"]
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


@pytest.mark.contest("ours", "bare OpenSSL", "ibind", "cryptography")
def test_load_key(contestant: str, known: Known, bare: Bare, measure: Measure) -> None:
    """oauthlib and authlib load theirs with cryptography."""
    pem, data = known.signing_pem, known.signing_pem.encode()
    functions = {
        "ours": lambda: PrivateKey.load(pem),
        "bare OpenSSL": lambda: bare.read_key(data),
        "ibind": lambda: ibind.read_private_key(private_key_content=pem),
        "cryptography": lambda: load_pem_private_key(data, None),
    }
    measure("key", contestant, functions[contestant])
