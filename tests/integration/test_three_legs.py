"""The whole way over TLS, against a server that verifies every byte with other people's cryptography."""

import os
import re
import threading
from datetime import timedelta
from typing import Any

import pytest

from ibkr_oauth import (
    AccessToken,
    AccessTokenUnknown,
    AuthorizationError,
    ClockSkewError,
    ConnectError,
    Consumer,
    ConsumerNotActive,
    InvalidValue,
    LiveSessionToken,
    OAuthClient,
    PrivateKey,
    ProxyError,
    RequestTokenError,
    SessionClosed,
    SignatureRejected,
    Signer,
    TLSError,
    VerifierError,
)
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY, register


def walk(oauth: OAuthClient, sandbox: Sandbox) -> tuple[AccessToken, LiveSessionToken]:
    request_token = oauth.request_token()
    verifier = sandbox.consent(request_token.token)
    access_token = oauth.access_token(request_token, verifier)
    return access_token, oauth.live_session_token(access_token)


def test_three_legs_and_signed_calls(oauth: OAuthClient, sandbox: Sandbox) -> None:
    access_token, token = walk(oauth, sandbox)
    assert access_token.is_paper is True
    assert timedelta(hours=23) < token.remaining <= timedelta(hours=24)
    assert (token.consumer_key, token.access_token) == (CONSUMER_KEY, access_token.token)

    signer = oauth.signer(token)
    assert isinstance(signer, Signer)
    accounts = oauth.send(signer.sign("GET", f"{oauth.base_url}/portfolio/accounts")).raise_for_status().json()
    assert accounts
    init = signer.sign("POST", f"{oauth.base_url}/iserver/auth/ssodh/init")
    opened = oauth.send(init, json={"publish": True, "compete": False}).raise_for_status().json()
    assert opened["authenticated"] is True
    assert oauth.send(signer.sign("GET", f"{oauth.base_url}/iserver/accounts")).raise_for_status().json()["accounts"]
    assert oauth.send(signer.sign("POST", f"{oauth.base_url}/tickle")).raise_for_status().json()["session"]
    assert oauth.send(signer.sign("POST", f"{oauth.base_url}/logout")).raise_for_status().json()["status"] is True
    assert [request.status for request in sandbox.requests] == [200] * len(sandbox.requests)
    for request in sandbox.requests:
        assert request.headers["user-agent"].startswith("ibkr_oauth/")
        if request.method == "POST" and "content-type" not in request.headers:
            assert request.headers["content-length"] == "0"


@pytest.mark.parametrize("rule", ["omit", "merge", "url"])
def test_every_query_rule_is_accepted_by_a_server_that_insists_on_it(
    consumer: Consumer, pem: dict[str, str], rule: Any
) -> None:
    with Sandbox(query_rules=(rule,)) as sandbox:
        register(sandbox, pem)
        with OAuthClient(consumer, base_url=sandbox.base_url, query_signing=rule) as oauth:
            signer = oauth.signer(oauth.live_session_token(AccessToken(*sandbox.grant(CONSUMER_KEY))))
            init = signer.sign("POST", f"{oauth.base_url}/iserver/auth/ssodh/init", form={"publish": True})
            oauth.send(init).raise_for_status()
            oauth.send(signer.sign("GET", f"{oauth.base_url}/iserver/accounts")).raise_for_status()
            query = {"conids": "265598,8314", "fields": "31,84,86", "text": "BRK B/ü+%&=", "empty": ""}
            snapshot = signer.sign("GET", f"{oauth.base_url}/iserver/marketdata/snapshot", query)
            assert oauth.send(snapshot).raise_for_status().json()
            assert sandbox.requests[-1].query_rule == rule


def test_parameters_in_a_json_body(consumer: Consumer, sandbox: Sandbox) -> None:
    with OAuthClient(consumer, base_url=sandbox.base_url, ca_file=sandbox.ca_file, parameters_in="json") as oauth:
        walk(oauth, sandbox)
        assert sandbox.requests[0].headers["content-type"] == "application/json"
        assert "authorization" not in sandbox.requests[0].headers


def test_a_request_token_works_once(oauth: OAuthClient, sandbox: Sandbox) -> None:
    request_token = oauth.request_token()
    verifier = sandbox.consent(request_token.token)
    with pytest.raises(VerifierError):
        oauth.access_token(request_token, "0" * 20)
    oauth.access_token(request_token, verifier)
    with pytest.raises(RequestTokenError):
        oauth.access_token(request_token, verifier)
    for verifier in ("", "a b", "x" * 4 + '"'):
        with pytest.raises(VerifierError):
            oauth.access_token(request_token, verifier)


def test_refusals_have_the_class_that_says_what_to_do(
    sandbox: Sandbox,
    oauth: OAuthClient,
    access_token: AccessToken,
    pem: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place: dict[str, Any] = {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file}
    keys = (pem["signing"], pem["encryption"], pem["dh_params"])
    with OAuthClient(Consumer("UNKNOWNKY", *keys), **place) as stranger, pytest.raises(ConsumerNotActive) as caught:
        stranger.request_token()
    assert re.search(r"id: \d+, error: invalid consumer", caught.value.message)
    other_key = Consumer(CONSUMER_KEY, PrivateKey.generate(), *keys[1:])
    with OAuthClient(other_key, **place) as client, pytest.raises(SignatureRejected):
        client.request_token()
    wrong_realm = Consumer(CONSUMER_KEY, *keys, realm="test_realm")
    with OAuthClient(wrong_realm, **place) as client, pytest.raises(AuthorizationError, match="realm"):
        client.request_token()
    sandbox.grant(CONSUMER_KEY)  # voids the former secret
    with pytest.raises((SignatureRejected, AccessTokenUnknown)):
        oauth.live_session_token(access_token)
    with pytest.raises(AccessTokenUnknown):
        oauth.live_session_token(AccessToken("0" * 20, access_token.secret))
    sandbox.deactivate_consumer(CONSUMER_KEY)
    with pytest.raises(ConsumerNotActive):
        oauth.request_token()
    sandbox.activate(CONSUMER_KEY)
    sandbox.skew(1000)
    with pytest.raises(ClockSkewError, match=r"1000 s behind|999 s behind|1001 s behind"):
        oauth.request_token()


def test_threads_may_share_one_client(oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken) -> None:
    signer = oauth.signer(oauth.live_session_token(access_token))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                oauth.send(signer.sign("GET", f"{oauth.base_url}/portfolio/accounts")).raise_for_status()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(sandbox.requests) == 81


def test_fork_leaves_the_parents_connection_alone(oauth: OAuthClient, access_token: AccessToken) -> None:
    signer = oauth.signer(oauth.live_session_token(access_token))
    url = f"{oauth.base_url}/portfolio/accounts"
    oauth.send(signer.sign("GET", url)).raise_for_status()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if oauth.send(signer.sign("GET", url)).status_code == 200 else 2
            oauth.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    oauth.send(signer.sign("GET", url)).raise_for_status()


def test_a_closed_client_says_so(oauth: OAuthClient) -> None:
    oauth.close()
    oauth.close()
    with pytest.raises(SessionClosed):
        oauth.request_token()


def test_constructors_do_no_network(consumer: Consumer) -> None:
    OAuthClient(consumer, base_url="https://127.0.0.1:9/v1/api").close()


def test_transport_failures_have_names(consumer: Consumer, sandbox: Sandbox) -> None:
    with OAuthClient(consumer, base_url="https://127.0.0.1:9/v1/api") as nobody, pytest.raises(ConnectError):
        nobody.request_token()
    with OAuthClient(consumer, base_url=sandbox.base_url) as distrusting, pytest.raises(TLSError):
        distrusting.request_token()
    for wrong in ("api.ibkr.com", "ftp://host", "https://user:pw@host/"):
        with pytest.raises(InvalidValue):
            OAuthClient(consumer, base_url=wrong)
    for timeout in (0, -1, float("nan"), 1e9):
        with pytest.raises(InvalidValue):
            OAuthClient(consumer, timeout=timeout)


def test_the_request_is_repeated_once_newly_signed(oauth: OAuthClient, sandbox: Sandbox) -> None:
    oauth.request_token()
    port = sandbox.port
    assert port
    sandbox.fail_next(503, path="/oauth/request_token")
    with pytest.raises(Exception, match="503"):
        oauth.request_token()
    assert len([request for request in sandbox.requests if request.path.endswith("request_token")]) == 2


def test_settings_that_cannot_work_show_in_the_constructor(consumer: Consumer) -> None:
    for base_url in ("https://h/v1/api?x=1", "https://h/v1/api?", "http://ibkr.example/v1/api"):
        with pytest.raises(InvalidValue):
            OAuthClient(consumer, base_url=base_url)
    with pytest.raises(InvalidValue, match="query_signing"):
        OAuthClient(consumer, query_signing="bogus")  # type: ignore[arg-type]
    for timeout in (None, "20"):
        with pytest.raises(TypeError, match="timeout must be a number"):
            OAuthClient(consumer, timeout=timeout)  # type: ignore[arg-type]


def test_arguments_that_are_missing_are_named(oauth: OAuthClient) -> None:
    request_token = oauth.request_token()
    with pytest.raises(VerifierError, match="missing"):
        oauth.access_token(request_token, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="access_token must be an AccessToken"):
        oauth.live_session_token("abc")  # type: ignore[arg-type]


def test_a_request_token_as_text_is_tidied(oauth: OAuthClient, sandbox: Sandbox) -> None:
    token = oauth.request_token().token
    assert oauth.access_token(f" {token}\n", sandbox.consent(token)).secret


def test_a_body_that_is_no_text_is_not_kept_in_the_error(oauth: OAuthClient, access_token: AccessToken) -> None:
    signer = oauth.signer(oauth.live_session_token(access_token))
    request = signer.sign("POST", f"{oauth.base_url}/tickle")
    for body in ({"a": "order of 100\ud800"}, {"a": object()}, {"a": float("nan")}):
        with pytest.raises(InvalidValue) as caught:
            oauth.send(request, json=body)
        assert caught.value.__context__ is None


def test_a_proxy_that_is_not_found_is_named(consumer: Consumer, sandbox: Sandbox) -> None:
    for proxy in ("socks5://user:word@nohost.invalid:1", "http://user:word@nohost.invalid:1"):
        with (
            OAuthClient(consumer, base_url=sandbox.base_url, ca_file=sandbox.ca_file, proxy=proxy) as oauth,
            pytest.raises(ProxyError, match=r"nohost\.invalid") as caught,
        ):
            oauth.request_token()
        assert "word" not in str(caught.value)


def test_explaining_does_not_change_the_answer(pem: dict[str, str]) -> None:
    """A signing key that is another one is explained by none of the known mistakes, nor by two of them."""
    with Sandbox(explain=True) as sandbox:
        register(sandbox, pem)
        other = Consumer(CONSUMER_KEY, PrivateKey.generate(), pem["encryption"], pem["dh_params"])
        with OAuthClient(other, base_url=sandbox.base_url) as oauth, pytest.raises(SignatureRejected):
            oauth.live_session_token(AccessToken(*sandbox.grant(CONSUMER_KEY)))
