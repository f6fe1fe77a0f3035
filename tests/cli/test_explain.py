"""`ibkr-oauth explain`."""

from __future__ import annotations

import json
import sys

import pexpect
import pytest
from click.testing import CliRunner, Result

from ibkr_oauth import errors
from ibkr_oauth.cli.app import program

from .conftest import Run

BODY = '{"error":"id: 39687, error: invalid consumer","statusCode":401}'


def pipe(text: str | bytes, *arguments: str) -> Result:
    return CliRunner().invoke(program, ["explain", *arguments], input=text, prog_name="ibkr-oauth")


@pytest.mark.parametrize("result", [lambda run: run("explain", BODY), lambda _: pipe(BODY), lambda _: pipe(BODY, "-")])
def test_says_what_it_means_and_what_to_do(run: Run, result: object) -> None:
    done = result(run)  # type: ignore[operator]
    assert done.exit_code == 0
    assert done.stdout.startswith("heard: 401 id: 39687, error: invalid consumer\n")
    assert f"What to do: {errors.ConsumerNotActive.default_advice}" in done.stdout
    assert "Likely causes:\n  - The key is new" in done.stdout
    assert done.stderr == ""


def test_words_need_no_quotes(run: Run) -> None:
    assert "BrokerageNotOpen" in run("explain", "Bad", "Request:", "no", "bridge").stdout


def test_as_json(run: Run) -> None:
    document = json.loads(run("explain", "--json", BODY).stdout)
    assert document["recognised"] is True
    assert document["heard"]["status"] == 401
    best = document["explanations"][0]
    assert (best["id"], best["error"]) == ("invalid-consumer", "ConsumerNotActive")
    assert best["remedy"] == errors.ConsumerNotActive.default_advice


def test_what_else_it_may_mean(run: Run) -> None:
    done = run("explain", "invalid consumer, and no bridge")
    first, _, others = done.stdout.partition("\nLess likely:\n")
    assert errors.ConsumerNotActive.default_advice in first
    assert others.startswith("  - ")
    assert "no bridge: " in others.lower()


def test_at_a_terminal_it_says_how_to_end() -> None:
    command = ["-m", "ibkr_oauth", "explain"]
    with pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=30, dimensions=(60, 200)) as terminal:
        terminal.expect_exact("Paste the message, then press Ctrl-D:")
        terminal.sendline(BODY)
        terminal.sendeof()
        terminal.expect(pexpect.EOF)
        shown = str(terminal.before)
    assert terminal.exitstatus == 0
    assert "401 id: 39687, error: invalid consumer" in shown


def test_a_text_that_nobody_knows_is_called_so(run: Run) -> None:
    done = run("explain", "the flux capacitor is empty-handed")
    assert done.exit_code == 1
    assert "This text is not known." in done.stdout
    assert "ibkr-oauth doctor" in done.stdout
    document = run("explain", "--json", "flux")
    assert document.exit_code == 1
    assert json.loads(document.stdout)["explanations"] == []


def test_what_is_known_by_its_status_alone_is_called_so(run: Run) -> None:
    done = run("explain", "HTTP/1.1 429 Slow down\n\nhush")
    assert done.exit_code == 0
    assert "The text itself is not known. This is what its status 429 means:" in done.stdout
    assert json.loads(run("explain", "--json", "429 hush").stdout)["recognised"] is False


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_text_is_a_usage_error(text: str) -> None:
    done = pipe(text)
    assert done.exit_code == 2
    assert "there is no text" in done.stderr


@pytest.mark.parametrize("mode", [[], ["--json"]])
@pytest.mark.parametrize(
    "planted",
    [
        'Authorization: OAuth oauth_signature="PLANTED%2Bsignature", oauth_token="1"',
        '{"oauth_token_secret": "PLANTED"}',
        "ibind: OAuth1aConfig(access_token_secret=PLANTED, realm=limited_poa)",
        "-----BEGIN PRIVATE KEY-----\nPLANTED\n-----END PRIVATE KEY-----",
        "GET https://api.ibkr.com/v1/api/tickle?oauth_signature=PLANTED 401",
    ],
)
def test_secrets_that_were_pasted_are_not_echoed(planted: str, mode: list[str]) -> None:
    done = pipe(f"401 Invalid signature {planted}", *mode)
    assert "PLANTED" not in done.stdout + done.stderr
    assert "SignatureRejected" in done.stdout or "oauth_token_secret" in planted


def test_bytes_and_control_characters_do_no_harm() -> None:
    done = pipe(b"\xff\xfe 401 \x1b[31m Invalid signature \a")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "SignatureRejected" in done.stdout
