"""The rule `rfc5849` of the C core beside oauthlib, which knows no other: percent-encoding, the base URI, the collected and
normalised parameters, the base string, and the signature of a whole signed request. The query is read by oauthlib's
`urldecode` and not its `collect_parameters`, which treats names that begin with "oauth_" as if they came from the header:
their values are decoded twice, and an oauth_signature is dropped.

Where the two differ by decision, the difference is written down here: see `ours_differ` and `theirs_refuse`.

Input: a line each for method, scheme and authority, path, query, then lines in turn for names and values.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from urllib.parse import unquote_to_bytes

from harness import Input, main, watched

with watched("oauthlib.oauth1.rfc5849.signature", "oauthlib.oauth1.rfc5849.utils", "oauthlib.common"):
    from oauthlib.common import urldecode, urlencoded
    from oauthlib.oauth1.rfc5849 import signature, utils

    from ibkr_oauth import _core
    from ibkr_oauth.errors import IBKROAuthError

KEY = bytes(range(20))
SIGNER = _core.RequestSigner("ABCDEFGHI", "0123456789abcdef0123", _core.Secret(KEY), "limited_poa", "rfc5849")


def theirs_refuse(query: str) -> bool:
    """oauthlib takes fewer characters in a query than RFC 3986 allows, such as no "'"."""
    return not set(query) <= urlencoded


def ours_differ(url: str) -> bool:
    """A URL is signed as it is written, since it is sent so: oauthlib drops leading zeros of a port and a ";" with nothing
    behind it, and writes an IPv6 address in its shortest form or refuses it."""
    bracketed = re.match(r"[^/]*//\[([^]]*)\]", url)
    try:
        if bracketed and str(ipaddress.ip_address(bracketed[1])) != bracketed[1].lower():
            return True
    except ValueError:
        return True
    return re.match(r"[^/]*//[^/?]*(?::0|/[^?]*(?<=/)[^/;?]*;(?:\?|$))", url) is not None


def is_utf8(text: str) -> bool:
    """Other bytes have no text, so that a Python client cannot sign them; oauthlib puts other characters in their place."""
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def check_stages(method: str, url: str, query: str, pairs: list[tuple[str, str]]) -> None:
    collected = _core.query_pairs(url)
    assert collected == urldecode(query)
    everything = [*pairs, *collected]
    normalised = signature.normalize_parameters(everything)
    assert _core.normalise(everything, rfc5849=True) == normalised
    uri = signature.base_string_uri(url)
    expected = signature.signature_base_string(method, uri, normalised)
    assert _core.base_string(method, url, pairs, query_signing="rfc5849") == expected


def check_request(method: str, url: str, query: str, params: list[tuple[str, str]]) -> None:
    sent_url, header = SIGNER.sign(method, url, params, None, "0123456789abcdef", 1_700_000_000)
    given = dict(utils.parse_authorization_header(header))
    proof = utils.unescape(given.pop("oauth_signature"))
    given.pop("realm")
    sent_query = sent_url.partition("?")[2]
    if theirs_refuse(sent_query):
        return
    pairs = [(name, utils.unescape(value)) for name, value in given.items()]
    pairs += urldecode(sent_query)
    text = signature.signature_base_string(
        method, signature.base_string_uri(sent_url), signature.normalize_parameters(pairs)
    )
    assert proof == base64.b64encode(hmac.digest(KEY, text.encode(), hashlib.sha256)).decode()


def target(data: bytes) -> None:
    given = Input(data)
    method, authority, path, query = (given.text() for _ in range(4))
    pairs: list[tuple[str, str]] = []
    while given.rest and len(pairs) < 64:
        pairs.append((given.text(), given.text()))
    for name, value in pairs:
        assert _core.percent_encode(name + value) == utils.escape(name + value)
    url = authority + path + (f"?{query}" if query else "")
    try:
        _core.base_string(method, url, pairs, query_signing="rfc5849")
    except IBKROAuthError:
        return
    query = url.partition("?")[2]
    if not is_utf8(query) or theirs_refuse(query) or ours_differ(url):
        return
    check_stages(method, url, query, pairs)
    check_request(method, url, query, pairs)


if __name__ == "__main__":
    main(target)
