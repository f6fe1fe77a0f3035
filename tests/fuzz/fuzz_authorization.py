"""The sandbox's reading of a request, which judges every other client, beside the C core's writing of one: two programs that
share no code. What the core writes is read as it was meant, under every rule of the query; what is neither is refused.

Input: a byte that chooses, then an Authorization header, a JSON body, or a line each for method, path, query and form and
lines in turn for names and values.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from harness import Input, as_text, main, watched
from starlette.datastructures import Headers

with watched("ibkr_oauth.sandbox.verify"):
    from ibkr_oauth import _core
    from ibkr_oauth.errors import IBKROAuthError
    from ibkr_oauth.sandbox import answers, crypto, verify
    from ibkr_oauth.sandbox.state import QueryRule

ORIGIN = "https://api.ibkr.com"
KEY = bytes(range(20))
RULES: tuple[QueryRule, ...] = ("merge", "omit", "url", "rfc5849")


def check_written(parameters: dict[str, str]) -> None:
    pairs = [pair for pair in parameters.items() if pair[0] != "realm"]
    try:
        header = _core.authorization_header(pairs, parameters.get("realm", ""))
    except IBKROAuthError:  # a control character, a quote or a backslash in a value, or too long
        return
    expected = {name: value for name, value in parameters.items() if (name, value) != ("realm", "")}
    if expected:
        assert verify.parse_authorization(header) == expected


def check_header(header: str) -> None:
    try:
        parameters = verify.parse_authorization(header)
    except answers.Refusal:
        return
    check_written(parameters)


def check_json(body: bytes) -> None:
    try:
        parameters = verify.parse_json_parameters(body)
    except answers.Refusal:
        return
    assert all(isinstance(value, str) and value.isprintable() for value in parameters.values())


def is_utf8(text: str) -> bool:
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return True


def check_base_strings(given: Input) -> None:
    method, path, query, form = (given.text() for _ in range(4))
    parameters: dict[str, str] = {}
    while given.rest:
        name, value = given.text(), given.text()
        if re.fullmatch(r"[A-Za-z0-9_]+", name, re.ASCII) and name != "oauth_signature":
            parameters[name] = value
    url = f"{ORIGIN}/{path}" + (f"?{query}" if query else "")
    # Under which bytes other than UTF-8 would sort differently: the sandbox sorts text.
    if "?" in path or "#" in path + query or not (is_utf8(query) and is_utf8(form)):
        return
    check_written(parameters)
    headers = Headers({"content-type": "application/x-www-form-urlencoded"})
    request = verify.IncomingRequest(method, f"/{path}", query, headers, form.encode())
    try:
        pairs = [pair for pair in parameters.items() if pair[0] != "realm"] + list(request.form_pairs())
        ours = {rule: _core.base_string(method, url, pairs, "00ff", rule) for rule in RULES}
    except (IBKROAuthError, UnicodeEncodeError):  # such as a URL that is none
        return
    theirs = verify.candidates(request, parameters, origin=ORIGIN, query_rules=RULES, prepend="00ff")
    assert ours == {one.rule: one.base_string() for one in theirs}
    check_signed(request, url)


def check_signed(request: verify.IncomingRequest, url: str) -> None:
    """The whole call: what goes out is what the sandbox would let in."""
    for rule in RULES:
        signer = _core.RequestSigner("ABCDEFGHI", "0123456789abcdef0123", _core.Secret(KEY), "limited_poa", rule)
        sent, header = signer.sign(request.method, url, None, list(request.form_pairs()), "a nonce/+", 1_700_000_000)
        assert sent == url
        parameters = verify.parse_authorization(header)
        (candidate,) = verify.candidates(request, parameters, origin=ORIGIN, query_rules=(rule,))
        proof = crypto.decode_signature(parameters["oauth_signature"])
        assert proof is not None
        assert crypto.verify_hmac(KEY, proof, candidate.base_string())


def target(data: bytes) -> None:
    given = Input(data)
    kind = given.choice(3)
    if kind == 0:
        check_header(as_text(given.rest))
    elif kind == 1:
        check_json(given.rest)
    else:
        check_base_strings(given)


if __name__ == "__main__":
    main(target)
