"""Answers that are not what the service documents: a clear error each, and never a token that is not proved."""

import time
from typing import Any

import pytest

from ibkr_oauth import (
    AccessToken,
    Consumer,
    IBKROAuthError,
    KeyMismatchError,
    LiveSessionTokenError,
    LiveSessionTokenMismatch,
    OAuthClient,
    ResponseTooLarge,
    ServerError,
)
from ibkr_oauth.sandbox import Sandbox

LST = "/oauth/live_session_token"


def changed(**fields: object) -> Any:
    return lambda body: body | fields


def without(name: str) -> Any:
    return lambda body: {key: value for key, value in body.items() if key != name}


@pytest.fixture(scope="session")
def prime(vectors: dict[str, Any]) -> int:
    return int(vectors["dh_groups"]["ffdhe2048"]["prime_hex"], 16)


RESPONSES = {
    "0": lambda p: "0",
    "1": lambda p: "1",
    "p-1": lambda p: f"{p - 1:x}",
    "p": lambda p: f"{p:x}",
    "p+1": lambda p: f"{p + 1:x}",
    "negative": lambda p: "-2",
    "prefix": lambda p: "0x12",
    "not hex": lambda p: "xyz",
    "huge": lambda p: "f" * 100_000,
    "blank": lambda p: " 12",
}


@pytest.mark.parametrize("name", RESPONSES)
def test_diffie_hellman_responses_out_of_range(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, prime: int, name: str
) -> None:
    response = RESPONSES[name](prime)
    sandbox.tamper_next(LST, changed(diffie_hellman_response=response))
    with pytest.raises(LiveSessionTokenError, match="Diffie-Hellman response") as caught:
        oauth.live_session_token(access_token)
    assert len(response) < 8 or response not in str(caught.value)
    oauth.live_session_token(access_token)  # nothing is broken afterwards


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("diffie_hellman_response", ""),
        ("diffie_hellman_response", 12),
        ("diffie_hellman_response", None),
        ("live_session_token_signature", None),
        ("live_session_token_signature", ["x"]),
    ],
)
def test_fields_that_are_no_text(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, field: str, value: object
) -> None:
    sandbox.tamper_next(LST, changed(**{field: value}))
    with pytest.raises(LiveSessionTokenError, match=field):
        oauth.live_session_token(access_token)


@pytest.mark.parametrize("signature", ["0" * 40, "0" * 39, "z" * 40, "0" * 41, "é" * 40])
def test_a_token_that_does_not_verify_is_never_returned(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, signature: str
) -> None:
    sandbox.tamper_next(LST, changed(live_session_token_signature=signature))
    with pytest.raises(LiveSessionTokenMismatch):
        oauth.live_session_token(access_token)


def test_an_answer_for_another_exchange_does_not_verify(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken
) -> None:
    kept: list[dict[str, object]] = []
    sandbox.tamper_next(LST, lambda body: kept.append(body) or body)
    oauth.live_session_token(access_token)
    sandbox.tamper_next(LST, lambda body: kept[0])
    with pytest.raises(LiveSessionTokenMismatch):
        oauth.live_session_token(access_token)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/oauth/request_token", "oauth_token"),
        ("/oauth/access_token", "oauth_token_secret"),
        (LST, "diffie_hellman_response"),
    ],
)
def test_missing_fields_are_named(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, path: str, field: str
) -> None:
    sandbox.tamper_next(path, without(field))
    with pytest.raises(IBKROAuthError, match=f"the answer has no {field}"):
        call(oauth, sandbox, access_token, path)


def call(oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, path: str) -> object:
    if path == LST:
        return oauth.live_session_token(access_token)
    request_token = oauth.request_token()
    return oauth.access_token(request_token, sandbox.consent(request_token.token))


@pytest.mark.parametrize("path", ["/oauth/request_token", "/oauth/access_token", LST])
@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("<html>Sorry</html>", "text/html", "not JSON"),
        ("", "application/json", "not JSON"),
        ('{"oauth_token":', "application/json", "not JSON"),
        ("[1, 2]", "application/json", "JSON list"),
        ("null", "application/json", "JSON NoneType"),
    ],
)
def test_bodies_of_another_kind(
    oauth: OAuthClient,
    sandbox: Sandbox,
    access_token: AccessToken,
    path: str,
    body: str,
    content_type: str,
    text: str,
) -> None:
    sandbox.tamper_next(path, lambda _: body, content_type=content_type)
    with pytest.raises(ServerError, match=text):
        call(oauth, sandbox, access_token, path)


def test_huge_bodies_are_not_read_to_the_end(oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken) -> None:
    sandbox.tamper_next(LST, lambda _: b" " * 70_000_000)
    with pytest.raises(ResponseTooLarge, match="67108864"):
        oauth.live_session_token(access_token)


@pytest.mark.parametrize("secret", ["QUJD", "QUJD" * 86, "A" * 343, "*" * 344])
def test_secrets_that_are_not_for_this_key(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, secret: str
) -> None:
    """They are refused when they arrive, and not at the first use tomorrow morning."""
    sandbox.tamper_next("/oauth/access_token", changed(oauth_token_secret=secret))
    with pytest.raises(KeyMismatchError) as caught:
        call(oauth, sandbox, access_token, "/oauth/access_token")
    assert secret not in str(caught.value)


def test_wrong_keys_are_refused_before_anything_is_sent(
    sandbox: Sandbox, access_token: AccessToken, pem: dict[str, str]
) -> None:
    before = len(sandbox.requests)
    swapped = Consumer("VECTORKEY", pem["encryption"], pem["signing"], pem["dh_params"])
    place: dict[str, Any] = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file}
    with OAuthClient(swapped, **place) as oauth, pytest.raises(KeyMismatchError, match="swapped"):
        oauth.live_session_token(access_token)
    assert len(sandbox.requests) == before


def test_other_parameters_than_the_registered_ones_end_in_a_mismatch(
    sandbox: Sandbox, access_token: AccessToken, pem: dict[str, str], vectors: dict[str, Any]
) -> None:
    consumer = Consumer("VECTORKEY", pem["signing"], pem["encryption"], vectors["dh_groups"]["modp2048"]["pem"])
    place: dict[str, Any] = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file}
    # Nearly always a mismatch; the server's half may also lie beyond the other prime.
    with OAuthClient(consumer, **place) as oauth, pytest.raises((LiveSessionTokenMismatch, LiveSessionTokenError)):
        oauth.live_session_token(access_token)


@pytest.mark.parametrize("shape", ["sign_byte", "short_secret", "odd_secret", "short_response", "odd_response"])
def test_every_shape_of_secret_agrees(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, shape: Any
) -> None:
    sandbox.shape_next_exchange(shape)
    signer = oauth.signer(oauth.live_session_token(access_token))
    oauth.send(signer.sign("GET", f"{oauth.base_url}/portfolio/accounts")).raise_for_status()


@pytest.mark.parametrize("expiry", [None, "soon", 86_400, True, -1, 1e300])
def test_an_expiry_that_is_none_counts_as_24_hours(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, expiry: object
) -> None:
    sandbox.tamper_next(LST, changed(live_session_token_expiration=expiry))
    token = oauth.live_session_token(access_token)
    assert 86_300 < token.remaining.total_seconds() <= 86_400


def test_the_servers_expiry_is_in_milliseconds(oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken) -> None:
    sandbox.tamper_next(LST, changed(live_session_token_expiration=int((time.time() + 600) * 1000)))
    assert 590 < oauth.live_session_token(access_token).remaining.total_seconds() <= 600


def test_json_that_is_nested_too_deeply(oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken) -> None:
    sandbox.tamper_next(LST, lambda _: "[" * 200_000)
    with pytest.raises(ServerError, match="not JSON"):
        oauth.live_session_token(access_token)
