"""No error, repr, log, traceback or pickle shows a secret: all of them are walked with the real secrets at hand."""

import gc
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ibkr_oauth
from ibkr_oauth import (
    AccessToken,
    Consumer,
    DHParameters,
    IBKROAuthError,
    LiveSessionToken,
    OAuthClient,
    PrivateKey,
    Secret,
    signing,
)
from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY


class Planted:
    """The secrets of one walk through the three legs, in every form that text can take."""

    def __init__(
        self, consumer: Consumer, access_token: AccessToken, token: LiveSessionToken, pem: dict[str, str]
    ) -> None:
        plaintext = consumer.decrypt_secret(access_token).reveal()
        live = token.reveal()
        self.forms = {
            "access token secret": access_token.secret[:40],
            "end of the access token secret": access_token.secret[-40:],
            "decrypted secret in hex": plaintext.hex(),
            "decrypted secret, repr": repr(plaintext)[2:20],
            "live session token": live,
            "live session token, encoded": signing.percent_encode(live),
            "live session token in hex": Secret.from_base64(live).reveal().hex(),
            "signing key": pem["signing"].splitlines()[5],
            "encryption key": pem["encryption"].splitlines()[5],
        }

    def assert_not_in(self, text: str) -> None:
        for name, form in self.forms.items():
            assert form not in text, name
        assert "oauth_signature=" not in text.replace("oauth_signature=[hidden]", "")


def refusals(
    sandbox: Sandbox, oauth: OAuthClient, access_token: AccessToken, pem: dict[str, str], planted: Planted
) -> list[Callable[[], Any]]:
    """Calls that fail, each with secrets in reach."""
    secret, live = access_token.secret, planted.forms["live session token"]
    token = LiveSessionToken(live, consumer_key=CONSUMER_KEY, access_token=access_token)
    lst = "/oauth/live_session_token"

    def tampered(path: str, alter: Any) -> Callable[[], Any]:
        def call() -> Any:
            sandbox.tamper_next(path, alter)
            return oauth.live_session_token(access_token)

        return call

    def failing(status: int, body: str) -> Callable[[], Any]:
        def call() -> Any:
            sandbox.fail_next(status, body=body)
            return oauth.live_session_token(access_token)

        return call

    echo = (
        f'{{"error":"bad","oauth_token_secret":"{secret}","echo":"{live} {planted.forms["decrypted secret in hex"]}"}}'
    )
    return [
        tampered(lst, lambda body: body | {"live_session_token_signature": "0" * 40}),
        tampered(lst, lambda body: body | {"diffie_hellman_response": "1"}),
        tampered(lst, lambda body: {"error": live}),
        tampered(lst, lambda body: f"<html>{secret}"),
        failing(401, echo),
        failing(500, echo),
        failing(401, f"Authorization: OAuth oauth_signature={live}"),
        lambda: token.verify("0" * 40),
        lambda: AccessToken(access_token.token, secret[:-1]),
        lambda: AccessToken(access_token.token, secret[:100] + "*" + secret[101:]),
        lambda: PrivateKey.load(pem["encryption"]).decrypt(secret[:340]),
        lambda: PrivateKey.load(pem["encryption"]).decrypt(secret[:100] + "*" + secret[101:]),
        lambda: PrivateKey.load(pem["signing"][:700]),
        lambda: PrivateKey.load(pem["signing"].replace("\n", "*\n", 3)),
        lambda: PrivateKey.load(pem["signing"].splitlines()[5]),
        lambda: DHParameters.load(pem["signing"]),
        lambda: Consumer(secret, pem["signing"], pem["encryption"], pem["dh_params"]),
        lambda: LiveSessionToken(live[:-1]),
        lambda: LiveSessionToken(live + "\ud800"),
        lambda: signing.hmac_sha256("x", live[:-4]),
        lambda: signing.authorization_header([("oauth_token", secret + "\n")]),
        lambda: signing.base_string("GET", f"https://host/{live} ", []),
        lambda: oauth.signer(token).sign("GET", f"https://host/?x={live}\n"),
        lambda: oauth.signer(token).sign("G T", "https://host/"),
    ]


def test_errors_logs_and_tracebacks(
    sandbox: Sandbox,
    oauth: OAuthClient,
    access_token: AccessToken,
    pem: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = oauth.live_session_token(access_token)
    planted = Planted(oauth.consumer, access_token, token, pem)
    calls = refusals(sandbox, oauth, access_token, pem, planted)
    for number, call in enumerate(calls):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is not the point here
            call()
        error = caught.value
        assert isinstance(error, IBKROAuthError), (number, error)
        shown = [str(error), repr(error), *map(repr, vars(error).values()), repr(pickle.dumps(error))]
        shown += traceback.format_exception(error)
        while error := error.__cause__ or error.__context__:  # type: ignore[assignment]
            shown += [str(error), repr(error)]
        for text in shown:
            planted.assert_not_in(text)
    for record in caplog.records:
        planted.assert_not_in(record.getMessage())
    assert any(record.name == "ibkr_oauth.http" for record in caplog.records)


def test_reprs_of_everything(
    oauth: OAuthClient, sandbox: Sandbox, access_token: AccessToken, pem: dict[str, str]
) -> None:
    token = oauth.live_session_token(access_token)
    planted = Planted(oauth.consumer, access_token, token, pem)
    signer = oauth.signer(token)
    request = signer.sign("GET", f"{oauth.base_url}/portfolio/accounts?secret=1")
    response = oauth.send(request)
    consumer = oauth.consumer
    exchange = consumer.dh_params.exchange()
    objects = [oauth, consumer, consumer.signing_key, consumer.dh_params, access_token, token, signer, request, response,
               response.headers, response.request, exchange, signer._handle, consumer.signing_key._handle,
               consumer.decrypt_secret(access_token), oauth._transport, *sandbox.requests]  # fmt: skip
    for thing in objects:
        planted.assert_not_in(f"{thing!r} {thing!s}")
        assert "secret=1" not in repr(thing)
        assert request.headers["Authorization"][-40:] not in repr(thing)
    for thing in (consumer, consumer.signing_key, access_token, token, signer._handle, exchange):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_no_python_object_holds_the_decrypted_secret(oauth: OAuthClient, access_token: AccessToken) -> None:
    """The base string of the live session token request begins with it, so that must not become a `str` either."""
    oauth.live_session_token(access_token)
    prefix = oauth.consumer.decrypt_secret(access_token).reveal().hex()[:16]
    gc.collect()
    holders = [thing for thing in gc.get_objects() if isinstance(thing, (dict, list, tuple, set))]
    for holder in holders:
        values = holder.values() if isinstance(holder, dict) else holder
        assert not any(type(value) is str and prefix in value for value in list(values) if value is not prefix)


def test_a_log_of_tls_keys_is_announced(tmp_path: Path) -> None:
    """libcurl itself obeys SSLKEYLOGFILE when it starts; the least that we can do is to say so."""
    program = "import logging; logging.basicConfig(); from ibkr_oauth.transport import Transport; Transport()"
    for value, expected in ((str(tmp_path / "keys"), True), ("", False)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "SSLKEYLOGFILE": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("SSLKEYLOGFILE is set" in done.stderr) is expected


def test_the_package_logs_only_under_its_own_name() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("ibkr_oauth").handlers)
    assert ibkr_oauth.__all__
