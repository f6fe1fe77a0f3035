"""The plugin as its users meet it: pytest in a program of its own, in a folder of theirs."""

import gzip
import os
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import vcr
import yaml

from ibkr_oauth import AccessToken, Session, UsageError
from ibkr_oauth.pytest_plugin import (
    assert_nonces_unique,
    assert_signed,
    refuse_other_hosts,
    scrub_request,
    scrub_response,
    vcr_options,
)
from ibkr_oauth.sandbox import RecordedRequest, Sandbox

_PROJECT = Path(__file__).parents[2]


def run(folder: Path, tests: str, *arguments: str) -> tuple[int, str]:
    (folder / "test_theirs.py").write_text(tests)
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "PYTHONPATH": str(_PROJECT),
    }
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "ibkr_oauth.pytest_plugin", "--strict-markers"]
    # --rootdir and -c: our own settings are not theirs.
    done = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(folder), "-rs", *arguments, str(folder)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_pytest_finds_it(project: Path) -> None:
    settings = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert settings["project"]["entry-points"]["pytest11"] == {"ibkr_oauth": "ibkr_oauth.pytest_plugin"}


def test_the_fixtures_work_together(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
import asyncio
from ibkr_oauth.pytest_plugin import assert_nonces_unique, assert_signed

def test_sync(ibkr_session, ibkr_sandbox, ibkr_access_token, ibkr_consumer):
    assert ibkr_session.consumer is ibkr_consumer
    assert ibkr_session.access_token == ibkr_access_token
    assert ibkr_sandbox.requests == ()
    ibkr_sandbox.fail_next(503, path="/portfolio/accounts")
    assert ibkr_session.get("/portfolio/accounts").json()
    assert ibkr_session.get("/iserver/accounts").status_code == 200
    assert_signed(ibkr_sandbox.requests)
    ibkr_sandbox.expire_token()
    assert ibkr_session.get("/portfolio/accounts").status_code == 200
    assert_nonces_unique(ibkr_sandbox.requests)
    assert len(ibkr_sandbox.requests) >= 5

def test_async(ibkr_async_session):
    async def main():
        assert (await ibkr_async_session.get("/portfolio/accounts")).status_code == 200
    asyncio.run(main())

def test_async_that_was_closed(ibkr_async_session):
    async def main():
        async with ibkr_async_session as ibkr:
            await ibkr.get("/portfolio/accounts")
    asyncio.run(main())

def test_async_that_was_not_used(ibkr_async_session):
    pass
""",
    )
    assert code == 0, said
    assert "4 passed" in said


_LIVE = """
import asyncio, pytest
from ibkr_oauth import AsyncSession, OAuthClient, Session, TransportError, UsageError

ADDRESS = "https://service.invalid/v1/api"  # a name that no resolver knows

@pytest.fixture
def unmarked(ibkr_consumer, ibkr_sandbox, ibkr_access_token):
    return ibkr_consumer, ibkr_access_token

def test_sync(unmarked):
    with Session(*unmarked, base_url=ADDRESS) as ibkr, pytest.raises(UsageError, match="service.invalid") as caught:
        ibkr.get("/portfolio/accounts")
    assert "ibkr_live" in caught.value.advice
    assert caught.value.sent is False

def test_oauth(unmarked):
    with OAuthClient(unmarked[0], base_url=ADDRESS) as client, pytest.raises(UsageError, match="only this machine"):
        client.request_token()

def test_cookie():
    with Session(cookie="x", base_url=ADDRESS, keep_alive=1) as ibkr, pytest.raises(UsageError, match="only this machine"):
        ibkr.open().get("/portfolio/accounts")

def test_async(unmarked):
    async def main():
        async with AsyncSession(*unmarked, base_url=ADDRESS) as ibkr:
            with pytest.raises(UsageError, match="only this machine"):
                await ibkr.get("/portfolio/accounts")
    asyncio.run(main())

@pytest.mark.ibkr_live
def test_marked(ibkr_consumer):
    client = OAuthClient(ibkr_consumer, base_url=ADDRESS, connect_timeout=1)
    with client, pytest.raises(TransportError):
        client.request_token()

def test_after_it(unmarked):
    test_oauth(unmarked)
"""


@pytest.mark.parametrize(("arguments", "end"), [((), "5 passed, 1 skipped"), (("--ibkr-live",), "6 passed")])
def test_only_marked_tests_leave_this_machine(tmp_path: Path, arguments: tuple[str, ...], end: str) -> None:
    code, said = run(tmp_path, _LIVE, *arguments)
    assert code == 0, said
    assert end in said
    assert ("run with --ibkr-live" in said) == (not arguments)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://localhost/x", "https://[::1]:5000/v1/api", "https://127.9.9.9/"]
)
def test_this_machine_is_allowed(url: str) -> None:
    refuse_other_hosts(url)


@pytest.mark.parametrize(
    "url", ["https://api.ibkr.com/v1/api", "https://localhost.example/", "https://10.0.0.1/", "https://[::2]/"]
)
def test_other_hosts_are_not(url: str) -> None:
    with pytest.raises(UsageError, match="only this machine"):
        refuse_other_hosts(url)


def test_without_the_sandbox_it_says_what_to_install(tmp_path: Path) -> None:
    code, said = run(
        tmp_path,
        """
import sys
sys.modules["ibkr_oauth.sandbox"] = None

def test_it(ibkr_sandbox):
    pass
""",
    )
    assert code == 1
    assert "need the sandbox (ibkr_oauth.sandbox is missing): pip install 'ibkr_oauth[sandbox]'" in said


def test_nothing_heavy_is_loaded() -> None:
    heavy = "'asyncio', 'ibkr_oauth.sandbox', 'ibkr_oauth.config', 'ibkr_oauth.aio', 'starlette', 'cryptography', 'vcr'"
    program = f"import pytest, sys; before = set(sys.modules); import ibkr_oauth.pytest_plugin; print(({{{heavy}}} & set(sys.modules)) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def recorded(
    status: int = 200, authorization: str = "OAuth oauth_nonce, oauth_signature", nonce: str | None = "1"
) -> RecordedRequest:
    return RecordedRequest(
        "GET", "/x", status, {"authorization": authorization}, None, "wrong" if status == 401 else None, nonce=nonce
    )


def test_what_was_not_signed_is_found() -> None:
    assert_signed([recorded(), recorded(503)])
    for wrong, words in (
        ([], "nothing was sent"),
        ([recorded(), recorded(authorization="")], "GET /x came without a signature"),
        ([recorded(401)], "GET /x was refused: wrong"),
    ):
        with pytest.raises(AssertionError, match=words):
            assert_signed(wrong)


def test_nonces_that_come_again_are_found() -> None:
    assert_nonces_unique([recorded(nonce="1"), recorded(nonce="2"), recorded(nonce=None)])
    with pytest.raises(AssertionError, match="1 of 3"):
        assert_nonces_unique([recorded(nonce="1"), recorded(nonce="2"), recorded(nonce="1")])
    with pytest.raises(AssertionError, match="no nonce"):
        assert_nonces_unique([recorded(nonce=None)])


def test_cassettes_hold_no_secret(
    sandbox: Sandbox, reach: dict[str, Any], access_token: AccessToken, tmp_path: Path
) -> None:
    cassette = tmp_path / "tickle.yaml"
    verify = str(sandbox.ca_file)
    with Session(**reach) as session:
        session.open()
        signed = session.sign("POST", f"{sandbox.base_url}/tickle")
        with vcr.VCR(**vcr_options()).use_cassette(str(cassette)):
            answer = requests.post(signed.url, headers=dict(signed.headers), verify=verify, timeout=10)
        assert answer.status_code == 200
        text = cassette.read_text()
        secret = answer.json()["session"]
        assert len(secret) > 8
        signature = dict(signed.headers)["Authorization"].split('oauth_signature="')[1].split('"')[0]
        for one in (secret, signature, access_token.token, access_token.secret):
            assert one not in text
        assert "/tickle" in text
        again = session.sign("POST", f"{sandbox.base_url}/tickle")
        with vcr.VCR(**vcr_options()).use_cassette(str(cassette), record_mode="none"):
            replayed = requests.post(again.url, headers=dict(again.headers), verify=verify, timeout=10)
        assert replayed.json()["session"] == "[hidden]"


def test_compressed_answers_are_scrubbed_too(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = gzip.compress(b'{"session": "very-secret-session"}')
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    cassette = tmp_path / "compressed.yaml"
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with vcr.VCR(**vcr_options()).use_cassette(str(cassette)):
            answer = requests.get(f"http://127.0.0.1:{server.server_port}/tickle", timeout=10)
        thread.join()
    assert answer.json() == {"session": "very-secret-session"}
    responses = yaml.safe_load(cassette.read_text())["interactions"]
    body = responses[0]["response"]["body"]["string"]
    assert body == '{"session": "[hidden]"}'


def test_bodies_of_every_kind_are_scrubbed() -> None:
    class Request:
        uri = "https://127.0.0.1/authorize?oauth_verifier=abcdef"

        def __init__(self, body: object) -> None:
            self.body, self.headers = body, {"COOKIE": "api=secret"}

    secret = "oauth_token_secret=verysecret"
    for body, left in (
        (secret, "oauth_token_secret=[hidden]"),
        (secret.encode() + b"\n\xff", b"oauth_token_secret=[hidden]\n\xff"),
        (None, None),
        (iter(()), "[hidden]"),
    ):
        scrubbed = scrub_request(Request(body))
        assert scrubbed.body == left
        assert scrubbed.headers == {"COOKIE": "[hidden]"}
        assert "abcdef" not in scrubbed.uri


def test_redirects_are_scrubbed_and_may_have_no_body() -> None:
    there = "https://127.0.0.1/done?oauth_token=0123456789abcdef0123&oauth_verifier=verysecret"
    for body in ({"string": b""}, {}):
        headers = {"Location": [there], "SET-COOKIE": ["api=verysecret"], "Date": ["now"]}
        scrubbed = scrub_response({"headers": headers, "body": dict(body)})
        assert scrubbed["body"] == body
        assert "verysecret" not in str(scrubbed)
        assert scrubbed["headers"]["Location"][0].startswith("https://127.0.0.1/done?oauth_token=")
        assert scrubbed["headers"]["Date"] == ["now"]
