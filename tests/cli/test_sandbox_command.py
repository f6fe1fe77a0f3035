"""The sandbox in the foreground: what it prints works, what it logs, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import AccessToken, Consumer, DHParameters, OAuthClient, PrivateKey
from ibkr_oauth.keygen import KeyFiles

from .conftest import Run


class Running:
    """A sandbox in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], first_line: str) -> None:
        self.process = process
        self.first_line = first_line
        self.log = ""

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.first_line)
        return document

    def end(self, number: int = signal.SIGINT) -> str:
        """End it with a signal; returns what is left of standard output."""
        self.process.send_signal(number)
        output, self.log = self.process.communicate(timeout=30)
        return output


@contextmanager
def running(*arguments: str, stdin: int | None = None) -> Generator[Running, None, None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "ibkr_oauth", "sandbox", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        assert process.stdout is not None
        try:
            yield Running(process, process.stdout.readline())
        finally:
            process.kill()


def client(environment: dict[str, str]) -> tuple[OAuthClient, AccessToken]:
    """Made of nothing but the printed lines."""
    consumer = Consumer(
        environment["IBKR_OAUTH_CONSUMER_KEY"],
        environment["IBKR_OAUTH_SIGNING_KEY"],
        environment["IBKR_OAUTH_ENCRYPTION_KEY"],
        environment["IBKR_OAUTH_DH_PARAMS"],
    )
    access_token = AccessToken(environment["IBKR_OAUTH_ACCESS_TOKEN"], environment["IBKR_OAUTH_ACCESS_TOKEN_SECRET"])
    oauth = OAuthClient(
        consumer,
        base_url=environment["IBKR_OAUTH_BASE_URL"],
        ca_file=environment.get("IBKR_OAUTH_CA_FILE"),
    )
    return oauth, access_token


def read_accounts(environment: dict[str, str]) -> None:
    oauth, access_token = client(environment)
    with oauth:
        signer = oauth.signer(oauth.live_session_token(access_token))
        request = signer.sign("GET", f"{oauth.base_url}/portfolio/accounts", {"page": 0})
        assert oauth.send(request).raise_for_status().json()[0]["currency"] == "USD"


# --- It works -------------------------------------------------------------------------------------


def test_the_printed_environment_works_and_ctrl_c_ends_it() -> None:
    with running("--json") as sandbox:
        document = sandbox.document
        environment = document["environment"]
        assert document["base_url"] == environment["IBKR_OAUTH_BASE_URL"]
        assert document["base_url"].startswith("https://127.0.0.1:")
        assert document["ca_file"] == environment["IBKR_OAUTH_CA_FILE"]
        keys = Path(environment["IBKR_OAUTH_SIGNING_KEY"]).parent
        assert keys.is_dir()
        read_accounts(environment)
        assert sandbox.end() == ""
    assert sandbox.process.returncode == 0
    assert sandbox.log.splitlines() == [
        "POST /v1/api/oauth/live_session_token 200",
        "GET /v1/api/portfolio/accounts 200 omit",
        "sandbox stopped",
    ]
    assert not keys.exists()
    assert not Path(document["ca_file"]).exists()


def test_a_shell_can_read_what_it_prints(key_files: KeyFiles) -> None:
    with running("--http", "--ibind", "--keys", str(key_files.directory)) as sandbox:
        text = sandbox.first_line
        while "IBIND_OAUTH1A_DH_PRIME" not in text:
            assert sandbox.process.stdout is not None
            text += sandbox.process.stdout.readline()
        read = subprocess.run(["sh", "-c", f"{text}\nenv"], capture_output=True, text=True, env={}, check=True)
        environment = dict(line.split("=", 1) for line in read.stdout.splitlines())
        read_accounts(environment)
        sandbox.end()
    assert text.splitlines()[0].startswith("# Sandbox at http://127.0.0.1:")
    assert "IBKR_OAUTH_CA_FILE" not in environment
    assert environment["IBKR_OAUTH_SIGNING_KEY"] == str(key_files.private_signature)
    assert environment["IBIND_USE_OAUTH"] == "True"
    assert environment["IBIND_OAUTH1A_REST_URL"] == environment["IBKR_OAUTH_BASE_URL"] + "/"
    for ours, theirs in {
        "CONSUMER_KEY": "CONSUMER_KEY",
        "ACCESS_TOKEN": "ACCESS_TOKEN",
        "ACCESS_TOKEN_SECRET": "ACCESS_TOKEN_SECRET",
        "SIGNING_KEY": "SIGNATURE_KEY_FP",
        "ENCRYPTION_KEY": "ENCRYPTION_KEY_FP",
    }.items():
        assert environment[f"IBKR_OAUTH_{ours}"] == environment[f"IBIND_OAUTH1A_{theirs}"]
    prime = int(environment["IBIND_OAUTH1A_DH_PRIME"], 16)
    assert prime == DHParameters.rfc7919().prime
    assert key_files.directory.is_dir()


def test_ibind_gets_the_certificate_too(key_files: KeyFiles) -> None:
    with running("--json", "--ibind", "--keys", str(key_files.directory)) as sandbox:
        environment = sandbox.document["environment"]
        assert environment["REQUESTS_CA_BUNDLE"] == environment["IBKR_OAUTH_CA_FILE"]
        assert environment["IBIND_OAUTH1A_REST_URL"].startswith("https://127.0.0.1:")
        sandbox.end()


def test_the_options_reach_the_sandbox(key_files: KeyFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--port", str(port), "--consumer-key", "MYOWNKEYS", "--auto-consent")
    public = ("--public-url", "https://ibkr.example:8443")
    keys = ("--keys", str(key_files.directory))
    with running("--json", "--http", *options, *public, *keys) as sandbox:
        assert sandbox.document["consumer_key"] == "MYOWNKEYS"
        assert sandbox.document["base_url"] == "https://ibkr.example:8443/v1/api"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 404")
        sandbox.end()
    assert sandbox.process.returncode == 0


def control(document: dict[str, Any], verb: str, arguments: dict[str, Any] | None = None) -> Any:
    """A POST with arguments, a GET without."""
    body = None if arguments is None else json.dumps(arguments).encode()
    context = ssl.create_default_context(cafile=document["ca_file"]) if document["ca_file"] else None
    request = urllib.request.Request(f"{document['control_url']}/{verb}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.load(answer)


def test_another_process_steers_it(key_files: KeyFiles) -> None:
    """Over the address where it listens, whatever the public one is."""
    keys = ("--keys", str(key_files.directory), "--quiet", "--token-lifetime", "0.5")
    with running("--json", "--public-url", "https://ibkr.example", *keys) as sandbox:
        document = sandbox.document
        assert document["control_url"].startswith("https://127.0.0.1:")
        assert document["web_socket_url"] == "wss://ibkr.example/v1/api/ws"
        consumer = document["consumer_key"]
        assert set(control(document, "grant", {"consumer_key": consumer})) == {"oauth_token", "oauth_token_secret"}
        assert control(document, "maintenance", {"on": True}) == {}
        assert control(document, "counts") == {}
        sandbox.end()
    assert sandbox.log == "sandbox stopped\n"


def test_strict_options(key_files: KeyFiles) -> None:
    options = ("--http", "--query-rule", "merge", "--query-rule", "url", "--enforce-pacing")
    with running("--json", "--keys", str(key_files.directory), *options) as sandbox:
        oauth, access_token = client(sandbox.document["environment"])
        with oauth:
            signer = oauth.signer(oauth.live_session_token(access_token))
            request = signer.sign("GET", f"{oauth.base_url}/portfolio/accounts", {"page": 0})
            assert oauth.send(request).status_code == 401  # signed by the rule "omit"
            for status in (200, 429):
                assert oauth.send(signer.sign("GET", f"{oauth.base_url}/tickle")).status_code == status
        sandbox.end()
    assert "GET /v1/api/tickle 429 Too Many Requests" in sandbox.log


def test_cut_connections_are_logged(key_files: KeyFiles) -> None:
    with running("--json", "--http", "--keys", str(key_files.directory)) as sandbox:
        control(sandbox.document, "drop_connection", {"before_processing": True})
        base_url = sandbox.document["base_url"]
        with pytest.raises(OSError, match=r"reset|closed"):
            urllib.request.urlopen(f"{base_url}/tickle", timeout=10)
        sandbox.end()
    assert sandbox.log.startswith("GET /v1/api/tickle - connection cut before processing\n")


def test_it_ends_with_standard_input(key_files: KeyFiles) -> None:
    """So that it does not outlive a test that was killed."""
    with running(
        "--json", "--http", "--keys", str(key_files.directory), "--until-eof", stdin=subprocess.PIPE
    ) as sandbox:
        assert sandbox.process.stdin is not None
        assert sandbox.document["consumer_key"] == "SANDBOXED"
        assert sandbox.process.poll() is None
        sandbox.process.stdin.write("what is said there means nothing\n")
        sandbox.process.stdin.close()
        assert sandbox.process.wait(10) == 0


def test_refusals_are_logged_with_reason_and_explanation(key_files: KeyFiles) -> None:
    keys = ("--keys", str(key_files.directory))
    with running("--json", "--http", "--explain", *keys) as sandbox:
        oauth, access_token = client(sandbox.document["environment"])
        with oauth:
            signer = oauth.signer(oauth.live_session_token(access_token))
            request = signer.sign("GET", f"{oauth.base_url}/tickle")
            request.method = "POST"
            assert oauth.send(request).status_code == 401
            odd = signer.sign("GET", f"{oauth.base_url}/%1b%5b31m")
            assert oauth.send(odd).status_code == 404
        sandbox.end()
    _, refused, explanation, odd_path, _ = sandbox.log.splitlines()
    assert refused == "POST /v1/api/tickle 401 Invalid signature"
    assert "the method is GET" in explanation
    assert odd_path.startswith("GET /v1/api/�[31m 404")
    assert "\x1b" not in sandbox.log


# --- Keys -----------------------------------------------------------------------------------------


def test_a_key_directory_is_filled_and_used_again(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    with running("--json", "--http", "--keys", str(directory)) as sandbox:
        sandbox.end()
    key = PrivateKey.load(directory / "private_signature.pem")
    assert DHParameters.load(directory / "dhparam.pem") == DHParameters.rfc7919()
    with running("--json", "--http", "--keys", str(directory)) as sandbox:
        read_accounts(sandbox.document["environment"])
        sandbox.end()
    assert PrivateKey.load(directory / "private_signature.pem") == key


def test_missing_parameters_are_added(key_directory: Path) -> None:
    (key_directory / "dhparam.pem").unlink()
    with running("--json", "--http", "--keys", str(key_directory)) as sandbox:
        read_accounts(sandbox.document["environment"])
        sandbox.end()
    assert DHParameters.load(key_directory / "dhparam.pem") == DHParameters.rfc7919()


def test_given_parameters_are_kept(tmp_path: Path, vectors_group: str) -> None:
    (tmp_path / "dhparam.pem").write_text(vectors_group)
    with running("--json", "--http", "--keys", str(tmp_path)) as sandbox:
        read_accounts(sandbox.document["environment"])
        sandbox.end()
    assert (tmp_path / "dhparam.pem").read_text() == vectors_group
    assert (tmp_path / "private_encryption.pem").is_file()


@pytest.fixture
def vectors_group(vectors: dict[str, Any]) -> str:
    groups = vectors["dh_groups"]
    group: str = next(groups[name]["pem"] for name in groups if name != "ffdhe2048")
    return group


def test_half_a_key_directory_is_refused(run: Run, key_directory: Path) -> None:
    (key_directory / "private_encryption.pem").unlink()
    result = run("sandbox", "--keys", str(key_directory))
    assert result.exit_code == 3
    assert "has private_signature.pem, and no private_encryption.pem" in result.stderr


# --- What cannot work, and how it ends ------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--consumer-key", "lower case"],
        ["--public-url", "ftp://example"],
        ["--host", "192.0.2.1"],
    ],
)
def test_wrong_options(run: Run, key_files: KeyFiles, arguments: list[str]) -> None:
    result = run("sandbox", "--keys", str(key_files.directory), *arguments)
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""


def test_a_port_that_is_taken(run: Run, key_files: KeyFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("sandbox", "--keys", str(key_files.directory), "--port", port)
    assert result.exit_code == 3
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_remove_the_keys_too(number: int) -> None:
    with running("--json", "--http") as sandbox:
        keys = Path(sandbox.document["environment"]["IBKR_OAUTH_SIGNING_KEY"]).parent
        assert keys.is_dir()
        sandbox.end(number)
    assert sandbox.process.returncode == 128 + number
    assert "Traceback" not in sandbox.log
    assert not keys.exists()


def test_it_ends_when_nobody_reads_the_log(key_files: KeyFiles) -> None:
    with running("--json", "--http", "--keys", str(key_files.directory)) as sandbox:
        assert sandbox.process.stderr is not None
        sandbox.process.stderr.close()
        oauth, access_token = client(sandbox.document["environment"])
        with oauth:
            oauth.live_session_token(access_token)
        assert sandbox.process.wait(30) >= 0
