"""The newcomer's path at a real terminal: with nothing but what the screens say, from an empty home to a signed call."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pexpect
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ibkr_oauth import DHParameters
from ibkr_oauth.cli import init
from ibkr_oauth.errors import InvalidValue
from ibkr_oauth.keygen import KeyFiles, generate_keys
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "NEWCOMERS"
INTERRUPTED = 130
NOT_YET = 4


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(tls=True) as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """A newcomer's: nothing of ours in it."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TERM": "xterm",
        "COLUMNS": "200",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }


@pytest.fixture
def dh_file(tmp_path: Path) -> Path:
    path = tmp_path / "prepared.pem"
    path.write_text(DHParameters.rfc7919().pem())
    return path


class Terminal:
    """`ibkr-oauth init` on a pseudo-terminal. `screen` is all that it ever showed."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "ibkr_oauth", "init", *arguments],
            env=environment,
            encoding="utf-8",
            timeout=20,
            dimensions=(60, 160),
        )
        self._child.delaybeforesend = None  # as quick as a paste
        self.screen = ""

    def reads(self, text: str) -> str:
        """Waits for it; returns what came before."""
        self._child.expect(re.escape(text))
        self.screen += self._child.before + text
        return str(self._child.before)

    def types(self, text: str) -> None:
        self._child.sendline(text)

    def answers(self, question: str, text: str) -> str:
        before = self.reads(question)
        self.types(text)
        return before

    def presses_ctrl_c(self) -> None:
        """Until it ends: Python does not hear one that comes between its question and its reading of the answer."""
        for _ in range(3):
            self._child.sendintr()
            if self._child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=7) == 0:
                break
        self.screen += self._child.before

    def presses_ctrl_d(self) -> None:
        self._child.sendeof()

    def is_killed(self) -> None:
        self._child.kill(signal.SIGKILL)
        self._child.close()

    def ends(self) -> int:
        self._child.expect(pexpect.EOF)
        self.screen += self._child.before
        self._child.close()
        assert self._child.exitstatus is not None, self.screen
        return int(self._child.exitstatus)


Start = Callable[..., Terminal]


@pytest.fixture
def start(environment: dict[str, str], sandbox: Sandbox, dh_file: Path) -> Start:
    def start(*arguments: str) -> Terminal:
        addresses = ("--base-url", sandbox.base_url, "--ca-file", str(sandbox.ca_file))
        return Terminal(environment, *addresses, "--dh-params", str(dh_file), *arguments)

    return start


class Portal:
    """IBKR's side: what the newcomer uploads and copies there, read off the screen."""

    def __init__(self, sandbox: Sandbox, screen: str) -> None:
        self._sandbox = sandbox
        uploads = re.findall(r"  ([A-Z][\w -]+?)\r?\n    file +(\S+)\r?\n    SHA-256 +([0-9a-f]{64})", screen)
        self.files = {field: Path(path) for field, path, _ in uploads}
        self.fingerprints = {field: fingerprint for field, _, fingerprint in uploads}

    def register(self, consumer_key: str = CONSUMER_KEY, *, active: bool = True) -> tuple[str, str]:
        self._sandbox.register(
            consumer_key,
            self.files["Public Signing Key"],
            self.files["Public Encryption Key"],
            self.files["Diffie-Hellman Parameters"],
            active=active,
        )
        return self._sandbox.grant(consumer_key)


@pytest.fixture
def consumer_key(request: pytest.FixtureRequest) -> str:
    """One of its own for each test: the sandbox registers none twice."""
    digest = sha256(request.node.name.encode()).digest()
    return "".join(chr(ord("A") + byte % 26) for byte in digest[:9])


def test_a_newcomer_comes_to_a_first_signed_call(
    start: Start, sandbox: Sandbox, consumer_key: str, home: Path, environment: dict[str, str]
) -> None:
    terminal = start()
    terminal.answers("Name of the profile [paper]: ", "")
    terminal.answers("Your choice [1]: ", "1")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    assert set(portal.files) == {"Public Signing Key", "Public Encryption Key", "Diffie-Hellman Parameters"}
    for field in ("Public Signing Key", "Public Encryption Key"):
        key = load_pem_public_key(portal.files[field].read_bytes())
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert sha256(der).hexdigest() == portal.fingerprints[field]
    token, secret = portal.register(consumer_key)
    terminal.types(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.answers("not shown): ", secret)
    assert terminal.ends() == 0, terminal.screen
    assert "200, signed with your keys" in terminal.screen
    assert "DU" in terminal.screen.partition("200, signed")[2]  # a paper account of the answer
    assert secret not in terminal.screen
    assert secret[:40] not in terminal.screen
    file = home / ".config/ibkr-oauth/config.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for path in (home / ".config/ibkr-oauth/keys/paper").glob("private_*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_at_a_narrow_terminal_no_word_is_broken(
    start: Start, sandbox: Sandbox, consumer_key: str, environment: dict[str, str]
) -> None:
    environment["COLUMNS"] = "64"
    terminal = start("--profile", "narrow")
    terminal.answers("Your choice [1]: ", "1")
    token, _ = Portal(sandbox, terminal.reads("Consumer key: ")).register(consumer_key)
    terminal.types(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.reads("not shown): ")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED
    sentences = [line for line in terminal.screen.splitlines() if "/" not in line and not line.startswith("  ")]
    assert len(sentences) > 10
    assert [line for line in sentences if len(line) > 64] == []


def test_every_wrong_answer_is_named_and_asked_for_again(start: Start, sandbox: Sandbox, consumer_key: str) -> None:
    terminal = start()
    terminal.answers("Name of the profile [paper]: ", "my profile!")
    terminal.reads("others than letters, digits")
    terminal.answers("Name of the profile [paper]: ", "first")
    terminal.answers("Your choice [1]: ", "3")
    terminal.answers("Your choice [1]: ", "")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    token, secret = portal.register(consumer_key)
    terminal.types("ABC1")
    terminal.reads("4 characters, character 4 is none of letters, expected nine letters")
    terminal.answers("Consumer key: ", f"{consumer_key[:4].lower()} {consumer_key[4:].lower()}")
    terminal.reads("Blanks are taken out.")
    terminal.reads(f"IBKR keeps it in capitals: {consumer_key}")
    terminal.answers("Access token: ", secret)
    terminal.reads("this looks like the secret")
    terminal.answers("Access token: ", token[:-1])
    terminal.reads("19 characters, expected 20")
    terminal.answers("Access token: ", f"{token[:10]} {token[10:]}")
    terminal.reads("Blanks are taken out.")
    terminal.answers("not shown): ", secret[:129])
    terminal.reads("129 of 344 characters")
    terminal.types("")
    terminal.reads("error: access token secret has 129 characters, expected 344")
    terminal.answers("not shown): ", "!" + secret[1:])
    terminal.reads("character 1 of 344")
    terminal.answers("not shown): ", b64encode(bytes(255) + b"\x01").decode())
    terminal.reads("error: access token secret does not decrypt with this key")
    terminal.answers("not shown): ", secret[:64])
    for begin in range(64, 344, 64):  # as mail and narrow terminals break it
        terminal.types(secret[begin : begin + 64])
    terminal.reads("line breaks inside are taken out")
    assert terminal.ends() == 0, terminal.screen
    assert "200, signed with your keys" in terminal.screen
    assert secret[:64] not in terminal.screen.replace(secret, "", 1)  # once typed in the wrong place, where it shows


def test_stopped_at_each_question_it_goes_on_from_there(
    start: Start, sandbox: Sandbox, consumer_key: str, environment: dict[str, str]
) -> None:
    terminal = start()
    terminal.reads("Name of the profile [paper]: ")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED
    assert "go on with: ibkr-oauth init" in terminal.screen

    terminal = start()
    terminal.answers("Name of the profile [paper]: ", "")
    terminal.answers("Your choice [1]: ", "1")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED
    assert "go on with: ibkr-oauth init --profile paper" in terminal.screen
    token, secret = portal.register(consumer_key)

    terminal = start("--profile", "paper")
    again = Portal(sandbox, terminal.answers("Consumer key: ", consumer_key))
    assert again.fingerprints == portal.fingerprints  # the keys of the first time
    terminal.answers("Access token: ", token)
    terminal.reads("not shown): ")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED

    terminal = start("--profile", "paper")
    terminal.reads(f"The access token that begins with {token[:4]} is there")
    terminal.answers("not shown): ", secret)
    assert terminal.ends() == 0, terminal.screen


def whole_setup(start: Start, sandbox: Sandbox, consumer_key: str) -> tuple[str, str]:
    """Access token and its secret, as the portal gave them."""
    terminal = start("--profile", "paper")
    terminal.answers("Your choice [1]: ", "1")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    token, secret = portal.register(consumer_key)
    terminal.types(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.answers("not shown): ", secret)
    assert terminal.ends() == 0, terminal.screen
    return token, secret


def test_killed_in_the_middle_it_goes_on_and_the_former_profile_stays(
    start: Start, sandbox: Sandbox, consumer_key: str, environment: dict[str, str], home: Path
) -> None:
    whole_setup(start, sandbox, consumer_key)
    before = (home / ".config/ibkr-oauth/config.toml").read_bytes()

    terminal = start("--profile", "paper")
    terminal.answers("What now [1]: ", "2")
    terminal.answers("Access token: ", "0" * 20)
    terminal.reads("not shown): ")
    terminal.is_killed()
    assert (home / ".config/ibkr-oauth/config.toml").read_bytes() == before

    terminal = start("--profile", "paper")
    terminal.answers("What now [1]: ", "1")
    assert terminal.ends() == 0, terminal.screen


def test_access_token_and_secret_are_replaced(
    start: Start, sandbox: Sandbox, consumer_key: str, environment: dict[str, str], home: Path
) -> None:
    _, secret = whole_setup(start, sandbox, consumer_key)
    other_token, other_secret = sandbox.grant(consumer_key)
    assert other_secret != secret
    terminal = start("--profile", "paper")
    terminal.answers("What now [1]: ", "2")
    terminal.answers("Access token: ", other_token)
    terminal.answers("not shown): ", other_secret)
    assert terminal.ends() == 0, terminal.screen
    stored = (home / ".config/ibkr-oauth/config.toml").read_text()
    assert other_token in stored
    assert other_secret in stored
    assert secret not in stored


def test_without_options_it_searches_a_prime_and_may_be_stopped(environment: dict[str, str], home: Path) -> None:
    terminal = Terminal(environment)
    terminal.answers("Name of the profile [paper]: ", "mine")
    terminal.answers("Your choice [1]: ", "1")
    terminal.reads("The search for a prime of your own takes 10 seconds to some minutes.")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED
    assert "go on with: ibkr-oauth init --profile mine" in terminal.screen
    folder = home / ".config/ibkr-oauth/keys/mine"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_files_that_are_in_the_way_stay(start: Start, home: Path) -> None:
    keys = home / ".config/ibkr-oauth/keys"
    for name in ("paper", "paper-2"):
        (keys / name).mkdir(parents=True)
        (keys / name / "private_signature.pem").write_text("mine")
    terminal = start("--profile", "paper")
    terminal.answers("Your choice [1]: ", "1")
    terminal.reads(f"Made the keys in {keys / 'paper-3'}")
    terminal.reads("Consumer key: ")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED
    for name in ("paper", "paper-2"):
        assert (keys / name / "private_signature.pem").read_text() == "mine"


def test_keys_of_a_run_that_was_killed_are_used(start: Start, home: Path) -> None:
    folder = home / ".config/ibkr-oauth/keys/paper"
    made = generate_keys(folder, dh_params=DHParameters.rfc7919())
    terminal = start("--profile", "paper")
    terminal.reads("Keys of an earlier run are there, and used")
    terminal.reads(made.signature_fingerprint)
    terminal.reads("Consumer key: ")
    terminal.presses_ctrl_c()
    assert terminal.ends() == INTERRUPTED


KEYRING = """
import json, os, pathlib
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    priority = 9
    file = pathlib.Path(os.environ["HOME"]) / "keyring.json"

    def _read(self):
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def get_password(self, service, username):
        return self._read().get(f"{service} {username}")

    def set_password(self, service, username, password):
        self.file.write_text(json.dumps({**self._read(), f"{service} {username}": password}))
"""


def test_the_secret_may_be_kept_in_the_keyring(
    start: Start, sandbox: Sandbox, consumer_key: str, environment: dict[str, str], tmp_path: Path, home: Path
) -> None:
    (tmp_path / "fake_keyring.py").write_text(KEYRING)
    environment["PYTHON_KEYRING_BACKEND"] = "fake_keyring.Keyring"
    environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    terminal = start("--profile", "kept", "--keyring")
    terminal.answers("Your choice [1]: ", "1")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    token, secret = portal.register(consumer_key)
    terminal.types(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.answers("not shown): ", secret)
    assert terminal.ends() == 0, terminal.screen
    stored = (home / ".config/ibkr-oauth/config.toml").read_text()
    assert "keyring = true" in stored
    assert secret not in stored
    assert secret in (home / "keyring.json").read_text()


def test_who_waits_for_the_portal_may_say_so(start: Start, sandbox: Sandbox, consumer_key: str) -> None:
    terminal = start("--profile", "waiting")
    terminal.answers("Your choice [1]: ", "1")
    terminal.answers("Consumer key: ", consumer_key)
    terminal.answers("Access token: ", "later")
    assert terminal.ends() == 0
    assert "go on with: ibkr-oauth init --profile waiting" in terminal.screen
    assert "ibkr-oauth wait --profile waiting" in terminal.screen

    terminal = start("--profile", "waiting")
    terminal.reads(f"The consumer key is {consumer_key}.")
    terminal.answers("Access token: ", "0" * 20)
    terminal.answers("not shown): ", "later")
    terminal.types("")
    assert terminal.ends() == 0
    assert "go on with: ibkr-oauth init --profile waiting" in terminal.screen

    terminal = start("--profile", "waiting")
    terminal.reads("The access token that begins with 0000 is there")
    terminal.reads("not shown): ")
    terminal.presses_ctrl_d()
    assert terminal.ends() == INTERRUPTED


def test_who_has_no_consumer_key_yet_may_say_so(start: Start) -> None:
    terminal = start("--profile", "waiting")
    terminal.answers("Your choice [1]: ", "1")
    terminal.answers("Consumer key: ", "Later")
    assert terminal.ends() == 0
    assert "go on with: ibkr-oauth init --profile waiting" in terminal.screen


def test_keys_that_are_there_are_tried_and_named(
    start: Start, sandbox: Sandbox, consumer_key: str, key_files: KeyFiles, tmp_path: Path
) -> None:
    folder = key_files.directory
    truncated = tmp_path / "truncated.pem"
    truncated.write_bytes(key_files.private_signature.read_bytes()[:800])
    encrypted = tmp_path / "encrypted.pem"
    key = load_pem_private_key(key_files.private_signature.read_bytes(), None)
    encrypted.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")))
    terminal = start("--profile", "mine")
    terminal.answers("Your choice [1]: ", "2")
    question = "File of the private key that signs: "
    for answer, complaint in (
        (str(folder), "is a folder"),
        (str(folder / "nothing.pem"), "is not there"),
        (str(key_files.public_signature), "public key"),
        (str(key_files.dh_params), "these are Diffie-Hellman parameters"),
        (str(truncated), "END line"),
        (str(encrypted), "IBKR_OAUTH_KEY_PASSWORD"),
    ):
        terminal.answers(question, answer)
        terminal.reads(complaint)
    terminal.answers(question, str(key_files.private_encryption))  # swapped: nobody can tell yet
    terminal.answers("File of the private key that decrypts: ", str(key_files.private_encryption))
    terminal.reads("this is the key that signs, again")
    terminal.answers("File of the private key that decrypts: ", str(key_files.private_signature))
    terminal.answers("File of the Diffie-Hellman parameters: ", str(key_files.private_signature))
    terminal.reads("this is a private RSA key, expected Diffie-Hellman parameters")
    terminal.answers("File of the Diffie-Hellman parameters: ", str(key_files.dh_params))
    terminal.answers("Consumer key: ", consumer_key)
    sandbox.register(consumer_key, key_files.public_signature, key_files.public_encryption, key_files.dh_params)
    token, secret = sandbox.grant(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.answers("not shown): ", secret)
    terminal.reads("Signing key and encryption key are swapped")
    terminal.answers("Exchange them [Y/n]: ", "")
    assert terminal.ends() == 0, terminal.screen


def test_public_halves_that_cannot_be_written(start: Start, key_files: KeyFiles, home: Path, tmp_path: Path) -> None:
    """Where the user's own keys came without them."""
    folder = home / ".config" / "ibkr-oauth"
    folder.mkdir(parents=True)
    (folder / "keys").write_text("a file, where the folder would be")
    own = tmp_path / "own"
    own.mkdir()
    for path in (key_files.private_signature, key_files.private_encryption, key_files.dh_params):
        (own / path.name).write_bytes(path.read_bytes())
        (own / path.name).chmod(0o600)
    terminal = start("--profile", "mine")
    terminal.answers("Your choice [1]: ", "2")
    terminal.answers("File of the private key that signs: ", str(own / "private_signature.pem"))
    terminal.answers("File of the private key that decrypts: ", str(own / "private_encryption.pem"))
    terminal.answers("File of the Diffie-Hellman parameters: ", str(own / "dhparam.pem"))
    terminal.reads("could not be written: Not a directory")
    assert terminal.ends() == 3
    assert "Give a file in a folder of your own as IBKR_OAUTH_CONFIG." in terminal.screen


def test_a_consumer_that_is_not_active_yet_is_no_fault_of_the_user(
    start: Start, sandbox: Sandbox, consumer_key: str
) -> None:
    terminal = start("--profile", "early")
    terminal.answers("Your choice [1]: ", "1")
    portal = Portal(sandbox, terminal.reads("Consumer key: "))
    token, secret = portal.register(consumer_key, active=False)
    terminal.types(consumer_key)
    terminal.answers("Access token: ", token)
    terminal.answers("not shown): ", secret)
    assert terminal.ends() == NOT_YET, terminal.screen
    assert "wait" in terminal.screen.partition("5. Check")[2]

    sandbox.activate(consumer_key)
    terminal = start("--profile", "early")
    terminal.answers("What now [1]: ", "")
    assert terminal.ends() == 0, terminal.screen


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_without_a_terminal_it_asks_nothing_and_says_what_to_do(run, arguments, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("IBKR_OAUTH_CONFIG", str(tmp_path / "config.toml"))
    result = run("init", *arguments)
    assert result.exit_code == 9
    assert "ibkr-oauth import" in result.output
    assert not (tmp_path / "config.toml").exists()


def test_no_option_takes_a_secret(run) -> None:
    text = run("init", "--help").output
    assert not re.search(r"--\S*(secret|token|password|consumer)", text)


def test_an_odd_consumer_key_is_taken_when_typed_again() -> None:
    read = init._insist(init._read_consumer_key)
    with pytest.raises(InvalidValue, match="4 characters") as caught:
        read("ABC1")
    assert "type it once more" in caught.value.advice
    with pytest.raises(InvalidValue, match="5 characters"):
        read("ABC12")
    with pytest.raises(InvalidValue, match="4 characters"):
        read("ABC1")
    assert read("ABC1") == "ABC1"


def test_a_secret_is_no_access_token_however_often_it_is_pasted() -> None:
    read = init._insist(init._read_access_token)
    for _ in range(3):
        with pytest.raises(InvalidValue, match="looks like the secret"):
            read("a" * 344)
