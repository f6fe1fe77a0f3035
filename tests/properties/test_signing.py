"""Base string, header and signatures, judged by what is written here from the rules, by oauthlib, and by `cryptography`."""

import base64
import hmac
import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from oauthlib.oauth1.rfc5849 import signature as oauthlib

from ibkr_oauth import Consumer, InvalidValue, LiveSessionToken, PrivateKey, Secret, Signer, signing

Pairs = list[tuple[str, str]]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
#: Names and values in which the order of bytes differs from that of joined or encoded text.
TRICKY = TEXT | st.text("aA-.=&~%+ \u00fc\U0001f600", max_size=4)
PAIRS = st.lists(st.tuples(TRICKY, TRICKY), max_size=8)
NAMED = PAIRS.map(lambda pairs: [(name or "n", value) for name, value in pairs])
RULES = ("omit", "merge", "url", "rfc5849")
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"])
SEGMENT = st.text("abc012-._~%", max_size=6).map(quote).filter(lambda text: text not in (".", ".."))


@st.composite
def urls(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from(["https", "HTTPS", "http"]))
    host = draw(st.sampled_from(["api.ibkr.com", "API.ibkr.com", "127.0.0.1", "[::1]"]))
    port = draw(st.sampled_from(["", ":443", ":80", ":5000"]))
    path = "".join(f"/{segment}" for segment in draw(st.lists(SEGMENT, max_size=4)))
    pairs = draw(NAMED)
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"{scheme}://{host}{port}{path}" + (f"?{query}" if query else "")


def encode(text: str) -> str:
    return quote(text, safe="-._~")


def base_url(url: str) -> str:
    """RFC 5849 section 3.4.1.2."""
    parts = urlsplit(url)
    host = parts.netloc.lower()
    default = {"https": ":443", "http": ":80"}[parts.scheme]
    return f"{parts.scheme}://{host.removesuffix(default)}{parts.path or '/'}"


def expected_base_string(method: str, url: str, pairs: Pairs, prepend: str, rule: str) -> str:
    """The four rules, as the protocol's description has them."""
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    text = base_url(url)
    everything = [(name.encode(), value.encode()) for name, value in pairs]
    if rule in ("merge", "rfc5849"):
        everything += [(name.encode(), value.encode()) for name, value in query]
    if rule == "url" and "?" in url:
        text += "?" + url.partition("?")[2]
    if rule == "rfc5849":
        everything = [(encode(n.decode()).encode(), encode(v.decode()).encode()) for n, v in everything]
    listed = b"&".join(name + b"=" + value for name, value in sorted(everything)).decode()
    return f"{prepend}{method}&{encode(text)}&{encode(listed)}"


@pytest.mark.parametrize("rule", RULES)
@given(method=METHODS, url=urls(), pairs=NAMED, prepend=st.binary(max_size=40).map(bytes.hex))
def test_the_base_string_of_each_rule(rule: Any, method: str, url: str, pairs: Pairs, prepend: str) -> None:
    made = signing.base_string(method, url, pairs, prepend, query_signing=rule)
    assert made == expected_base_string(method, url, pairs, prepend, rule)


@given(METHODS, urls(), NAMED)
def test_the_rule_of_rfc_5849_is_oauthlibs(method: str, url: str, pairs: Pairs) -> None:
    collected = oauthlib.collect_parameters(
        uri_query=urlsplit(url).query, body=pairs, exclude_oauth_signature=False, with_realm=True
    )
    theirs = oauthlib.signature_base_string(
        method, oauthlib.base_string_uri(url), oauthlib.normalize_parameters(collected)
    )
    assert signing.base_string(method, url, pairs, query_signing="rfc5849") == theirs


@given(NAMED, st.randoms())
def test_the_order_of_giving_does_not_matter(pairs: Pairs, random: Any) -> None:
    mixed = list(pairs)
    random.shuffle(mixed)
    for rfc5849 in (False, True):
        assert signing.normalise(mixed, rfc5849=rfc5849) == signing.normalise(pairs, rfc5849=rfc5849)


# --- The header ----------------------------------------------------------------------------------

WORD = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0189_-.", min_size=1, max_size=20)
HEADER_PAIRS = st.lists(st.tuples(WORD, TEXT), min_size=1, max_size=8)


def is_refused(text: str) -> bool:
    """Control characters, quotes and backslashes have no business in a value."""
    return re.search(r'[\x00-\x1f\x7f"\\]', text) is not None


@given(HEADER_PAIRS, WORD | st.none())
def test_a_header_reads_back(pairs: Pairs, realm: str | None) -> None:
    if any(is_refused(value) for _, value in pairs):
        with pytest.raises(InvalidValue):
            signing.authorization_header(pairs, realm)
        return
    header = signing.authorization_header(pairs, realm)
    scheme, _, rest = header.partition(" ")
    read = re.findall(r'([^\s=,]+)="([^"]*)"(?:, |$)', rest)
    assert scheme == "OAuth"
    assert ", ".join(f'{name}="{value}"' for name, value in read) == rest, "nothing is between the pairs"
    assert header.isascii()
    assert header.isprintable()
    if realm:
        assert read.pop(0) == ("realm", realm)
    decoded = [(name, unquote(value, errors="strict")) for name, value in read]
    assert [name for name, _ in decoded] == sorted(name for name, _ in pairs)
    assert sorted(decoded) == sorted(pairs)


# --- Signatures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signing_key(pem: dict[str, str]) -> PrivateKey:
    return PrivateKey.load(pem["signing"])


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_rsa_signatures_verify(signing_key: PrivateKey, pem: dict[str, str], text: str) -> None:
    public = load_pem_public_key(pem["signing_public"].encode())
    assert isinstance(public, RSAPublicKey)
    signature = base64.b64decode(signing.rsa_sha256(text, signing_key), validate=True)
    public.verify(signature, text.encode(), PKCS1v15(), SHA256())


@given(TEXT, st.binary(min_size=20, max_size=20))
def test_hmac_signatures(text: str, key: bytes) -> None:
    expected = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
    as_text = base64.b64encode(key).decode()
    for given_key in (key, Secret(key), as_text, LiveSessionToken(as_text)):
        assert signing.hmac_sha256(text, given_key) == expected


@pytest.fixture(scope="module")
def consumer(pem: dict[str, str]) -> Consumer:
    return Consumer("ABCDEFGHI", pem["signing"], pem["encryption"], pem["dh_params"])


@pytest.mark.parametrize("rule", RULES)
@given(
    method=METHODS,
    url=urls(),
    params=st.none() | NAMED,
    form=st.none() | NAMED,
    key=st.binary(min_size=20, max_size=20),
    nonce=WORD,
    timestamp=st.integers(0, 2**40),
)
def test_a_signed_request_is_what_its_signature_says(
    rule: Any,
    consumer: Consumer,
    method: str,
    url: str,
    params: Pairs | None,
    form: Pairs | None,
    key: bytes,
    nonce: str,
    timestamp: int,
) -> None:
    token = LiveSessionToken(base64.b64encode(key).decode(), access_token="a1b2c3")
    request = Signer(consumer, token, query_signing=rule).sign(
        method, url, params, form, nonce=nonce, timestamp=timestamp
    )
    header = request.headers["Authorization"]
    sent = {name: unquote(value) for name, value in re.findall(r'(\w+)="([^"]*)"', header)}
    assert sent.pop("realm") == "limited_poa"
    signature = sent.pop("oauth_signature")
    assert sent == {
        "oauth_consumer_key": "ABCDEFGHI",
        "oauth_nonce": nonce,
        "oauth_signature_method": "HMAC-SHA256",
        "oauth_timestamp": str(timestamp),
        "oauth_token": "a1b2c3",
    }
    assert request.url.startswith(url)
    query = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    assert query == parse_qsl(urlsplit(url).query, keep_blank_values=True) + (params or [])
    assert parse_qsl((request.body or b"").decode(), keep_blank_values=True) == (form or [])
    assert ("Content-Type" in request.headers) is (request.body is not None) is (form is not None)
    signed = expected_base_string(method, request.url, [*sent.items(), *(form or [])], "", rule)
    assert base64.b64decode(signature) == hmac.digest(key, signed.encode(), "sha256")


def test_nonces() -> None:
    made = {signing.nonce() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in made)
