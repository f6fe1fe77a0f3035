"""Five kinds of set-up, converted: and then they work against the sandbox, as a profile."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import DHParameters, PrivateKey, Session, config
from ibkr_oauth.keygen import KeyFiles
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "IMPORTERS"


@pytest.fixture(scope="module")
def sandbox(key_files: KeyFiles) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.register(CONSUMER_KEY, key_files.public_signature, key_files.public_encryption, key_files.dh_params)
        yield sandbox


@pytest.fixture(scope="module")
def token(sandbox: Sandbox) -> tuple[str, str]:
    return sandbox.grant(CONSUMER_KEY)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own settings takes part."""
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_", "API_IBKR_", "XDG_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def key_texts(key_files: KeyFiles) -> tuple[str, str, str]:
    prime = DHParameters.load(key_files.dh_params).prime
    return key_files.private_signature.read_text(), key_files.private_encryption.read_text(), f"{prime:x}"


Source = Callable[[], str]


def ibind_variables(key_directory: Path, token: tuple[str, str], prime: str) -> dict[str, str]:
    return {
        "IBIND_OAUTH1A_CONSUMER_KEY": CONSUMER_KEY,
        "IBIND_OAUTH1A_ACCESS_TOKEN": token[0],
        "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET": token[1],
        "IBIND_OAUTH1A_SIGNATURE_KEY_FP": str(key_directory / "private_signature.pem"),
        "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": str(key_directory / "private_encryption.pem"),
        "IBIND_OAUTH1A_DH_PRIME": prime,
    }


def oauth1(token: tuple[str, str], signing: str, encryption: str, prime: str) -> dict[str, str]:
    """The contents of another client's oauth1.json."""
    return {
        "consumerKey": CONSUMER_KEY,
        "accessToken": token[0],
        "accessTokenSecret": token[1],
        "signature": signing,
        "encryption": encryption,
        "dhPrime": prime,
        "realm": "limited_poa",
    }


@pytest.fixture(
    params=[
        "ibind environment",
        "ibind .env",
        "ibind .env of texts",
        "conduit",
        "conduit in base64",
        "conduit environment",
        "oauth1.json",
        "sample",
        "sample of Windows",
        "directory",
    ]
)
def source(  # noqa: C901 - a maker for each kind
    request: pytest.FixtureRequest,
    key_directory: Path,
    key_texts: tuple[str, str, str],
    token: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """What another client has, as it has it; the argument of the command."""
    for path in key_directory.glob("private_*"):
        path.chmod(0o600)
    signing, encryption, prime = key_texts
    secrets = {"consumerKey": CONSUMER_KEY, "accessToken": token[0], "accessTokenSecret": token[1]}
    file = tmp_path / "setup.json"

    def environment() -> str:
        for name, text in ibind_variables(key_directory, token, prime).items():
            monkeypatch.setenv(name, text)
        return "env"

    def dotenv() -> str:
        lines = [f"export {name}={text}" for name, text in ibind_variables(Path("keys"), token, prime).items()]
        (tmp_path / ".env").write_text("# ibind\n" + "\n".join(lines) + "  # the end\n")
        return str(tmp_path / ".env")

    def dotenv_of_texts() -> str:
        variables = ibind_variables(key_directory, token, prime)
        variables["IBIND_OAUTH1A_SIGNATURE_KEY"] = signing.replace("\n", "\\n")
        variables["IBIND_OAUTH1A_ENCRYPTION_KEY"] = encryption
        del variables["IBIND_OAUTH1A_SIGNATURE_KEY_FP"], variables["IBIND_OAUTH1A_ENCRYPTION_KEY_FP"]
        (tmp_path / ".env").write_text("".join(f'{name}="{text}"\r\n' for name, text in variables.items()))
        return str(tmp_path / ".env")

    def conduit() -> str:
        return write({**secrets, "signaturePrivateKey": signing, "encryptionPrivateKey": encryption, "dhPrime": prime})

    def conduit_in_base64() -> str:
        keys = {"signaturePrivateKey": signing, "encryptionPrivateKey": encryption}
        packed = {name: base64.b64encode(text.encode()).decode() for name, text in keys.items()}
        return write({**secrets, **packed, "dhPrime": prime.upper()})

    def conduit_environment() -> str:
        monkeypatch.setenv("IBKR_CONSUMER_KEY", CONSUMER_KEY)
        monkeypatch.setenv("IBKR_ACCESS_TOKEN", token[0])
        monkeypatch.setenv("IBKR_ACCESS_TOKEN_SECRET", token[1])
        monkeypatch.setenv("IBKR_SIGNATURE_KEY", base64.b64encode(signing.encode()).decode())
        monkeypatch.setenv("IBKR_ENCRYPTION_KEY", base64.b64encode(encryption.encode()).decode())
        monkeypatch.setenv("IBKR_DH_PRIME", prime)
        return "env"

    def oauth1_json() -> str:
        return write(oauth1(token, signing, encryption, prime))

    def sample(folder: str = "keys/") -> str:
        user = {
            "consumer_key": CONSUMER_KEY,
            "dhparam": f"{folder}dhparam.pem",
            "encryption": f"{folder}private_encryption.pem",
            "signature": f"{folder}private_signature.pem",
            "access_token": token[0],
            "access_token_secret": token[1],
        }
        return write({"user1": user})

    def sample_of_windows() -> str:
        for path in key_directory.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
            (tmp_path / path.name).chmod(0o600)
        return sample("C:\\Users\\me\\keys\\")

    def directory() -> str:
        (key_directory / "notes.txt").write_text("what is what")
        monkeypatch.setenv("IBKR_OAUTH_CONSUMER_KEY", CONSUMER_KEY)
        monkeypatch.setenv("IBKR_OAUTH_ACCESS_TOKEN", token[0])
        monkeypatch.setenv("IBKR_OAUTH_ACCESS_TOKEN_SECRET", token[1])
        return str(key_directory)

    def write(document: dict[str, Any]) -> str:
        file.write_text(json.dumps(document, indent=2))
        return str(file)

    makers: dict[str, Source] = {
        "ibind environment": environment,
        "ibind .env": dotenv,
        "ibind .env of texts": dotenv_of_texts,
        "conduit": conduit,
        "conduit in base64": conduit_in_base64,
        "conduit environment": conduit_environment,
        "oauth1.json": oauth1_json,
        "sample": sample,
        "sample of Windows": sample_of_windows,
        "directory": directory,
    }
    return makers[request.param]()


def test_it_is_converted_and_works(run, source, sandbox, token, key_texts, home, monkeypatch) -> None:
    result = run("import", source, "--base-url", sandbox.base_url)
    assert result.exit_code == 0, result.output
    for secret in (token[1], *key_texts[:2]):
        assert secret not in result.output
        assert secret[100:140] not in result.output
    for name in list(os.environ):  # the profile stands for itself
        if name.startswith(("IBKR_", "IBIND_")):
            monkeypatch.delenv(name)
    with Session.from_profile("default", store=None, keep_alive=None) as ibkr:
        assert ibkr.get("/portfolio/accounts").status_code == 200
    folder = home / ".config/ibkr-oauth"
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*.*")] == ["0o600"] * len(
        list(folder.rglob("*.*"))
    )


def test_its_document(run, key_directory, token, key_texts, monkeypatch) -> None:
    for path in key_directory.glob("private_*"):
        path.chmod(0o600)
    for name, text in ibind_variables(key_directory, token, key_texts[2]).items():
        monkeypatch.setenv(name, text)
    result = run("import", "env", "--profile", "live", "--json")
    document = json.loads(result.stdout)
    assert document["kind"] == "environment of ibind"
    assert document["profile"] == "live"
    assert document["fields"]["signing_key"] == "IBIND_OAUTH1A_SIGNATURE_KEY_FP"
    assert [Path(path).name for path in document["written"]] == ["dhparam.pem"]
    assert document["doctor"]["good"] is True
    assert token[1] not in result.output


def test_a_name_that_leads_elsewhere_is_refused(run, tmp_path, token, key_texts, home) -> None:
    signing, encryption, prime = key_texts
    file = tmp_path / "oauth1.json"
    file.write_text(
        json.dumps({"accessToken": token[0], "signature": signing, "encryption": encryption, "dhPrime": prime})
    )
    result = run("import", str(file), "--profile", "../../elsewhere")
    assert result.exit_code == 3
    assert "the name of a profile" in result.output
    assert not home.exists()


def test_what_a_folder_lacks_is_said(run, key_directory) -> None:
    for path in key_directory.glob("private_*"):
        path.chmod(0o600)
    result = run("import", str(key_directory))
    assert result.exit_code == 0, result.output
    assert "Missing: consumer key, access token, access token secret" in result.output
    assert "ibkr-oauth init --profile default" in result.output


def test_a_profile_that_exists_is_replaced_only_by_force_and_its_keys_never(
    run, tmp_path, token, key_texts, home
) -> None:
    signing, encryption, prime = key_texts
    document = oauth1(token, signing, encryption, prime)
    file = tmp_path / "oauth1.json"
    file.write_text(json.dumps(document))
    assert run("import", str(file)).exit_code == 0
    before = (home / ".config/ibkr-oauth/config.toml").read_bytes()
    first_keys = config.load("default").get("signing_key").text

    again = run("import", str(file))
    assert again.exit_code == 3
    assert "--force" in again.output
    assert (home / ".config/ibkr-oauth/config.toml").read_bytes() == before

    document["signature"] = PrivateKey.generate().private_pem().reveal().decode()
    del document["realm"]
    file.write_text(json.dumps(document))
    assert run("import", str(file), "--force").exit_code == 0
    second_keys = config.load("default").get("signing_key").text
    assert second_keys != first_keys
    assert Path(first_keys).read_text() == signing
    assert config.load("default").get("realm") is None


def test_keys_that_do_not_fit_are_stored_and_named(run, tmp_path, token, key_texts) -> None:
    signing, encryption, prime = key_texts
    file = tmp_path / "oauth1.json"
    file.write_text(json.dumps(oauth1(token, encryption, signing, prime)))
    result = run("import", str(file))
    assert result.exit_code == 3
    assert "swapped" in result.output


KILLED = """
import os, signal, sys
from ibkr_oauth.cli import main

moment, count = int(sys.argv.pop(1)), 0
replace = os.replace


def killed(*arguments):
    global count
    count += 1
    if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments)


os.replace = killed
main()
"""


@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_killed_while_writing_it_leaves_the_former_profile(
    run, moment, tmp_path, token, key_texts, home, sandbox
) -> None:
    signing, encryption, prime = key_texts
    document = oauth1(token, signing, encryption, prime)
    file = tmp_path / "oauth1.json"
    file.write_text(json.dumps(document))
    assert run("import", str(file), "--base-url", sandbox.base_url).exit_code == 0
    before = (home / ".config/ibkr-oauth/config.toml").read_bytes()
    document["encryption"] = PrivateKey.generate().private_pem().reveal().decode()
    file.write_text(json.dumps(document))
    program = [sys.executable, "-c", KILLED, str(moment), "import", str(file), "--force"]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (home / ".config/ibkr-oauth/config.toml").read_bytes() == before
    with Session.from_profile("default", store=None, keep_alive=None) as ibkr:
        assert ibkr.get("/portfolio/accounts").status_code == 200
