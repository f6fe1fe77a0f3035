"""`ibkr-oauth doctor`: its lines, its exit code, and a bundle that is safe to post."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from doctor.conftest import NewCase
from doctor.mistakes import Case
from doctor.test_mistakes import lock_keyring, register, secrets

from ibkr_oauth.cli.app import program


def run(case: Case, *arguments: str) -> Result:
    return CliRunner().invoke(program, ["doctor", *arguments], prog_name="ibkr-oauth", env={**case.environment})


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_line_for_each_step_one_verdict_and_the_next_step(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    result = run(case)
    lines = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert "ok    Which key is which: the access token secret decrypts with the encryption key" in lines
    assert "ok    Brokerage session: opens; closed again" in lines
    assert lines[-2:] == ["Verdict: Everything works.", "Next:    Nothing is to be done."]
    assert not [piece for piece in secrets(case) if piece in result.output]


@pytest.mark.parametrize(
    ("spoil", "code", "mark"),
    [
        (lambda case: case.write("private_signature.pem", ""), 3, "BAD   Signing key: "),
        (lambda case: setattr(case, "active", False), 4, "BAD   Live session token: your side is proven correct"),
        (lambda case: case.portal.__setitem__(2, case.pem["other_dh"]), 5, "BAD   Its signature: "),
        (lambda case: case.later.append(lambda: case.sandbox.compete_from("TWS", case.username)), 6, "BAD   Competing"),
        (
            lambda case: case.set("BASE_URL", "https://nowhere.invalid/v1/api"),
            7,
            "BAD   Host name: host name not found",
        ),
        (lambda case: case.fail(503, None), 8, "BAD   Service: "),
        (lambda case: case.set("BASE_URL", "http://192.0.2.1/v1/api"), 9, "BAD   Address of the API: "),
    ],
)
def test_the_exit_code_tells_the_family(new_case: NewCase, spoil: object, code: int, mark: str) -> None:
    case = new_case()
    assert callable(spoil)
    spoil(case)
    register(case)
    result = run(case)
    assert result.exit_code == code, result.output
    assert f"\n{mark}" in result.output
    assert re.search(r"\nVerdict: .+\nNext:    .+\n", result.output)


def test_offline_sends_nothing(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    before = len(case.sandbox.requests)
    result = run(case, "--offline", "--json")
    document = json.loads(result.output)
    assert len(case.sandbox.requests) == before
    assert document["good"]
    assert not document["asked_service"]
    assert {one["id"] for one in document["findings"]}.isdisjoint({"name", "live_session_token"})


def test_json_is_one_document(new_case: NewCase) -> None:
    case = new_case()
    case.active = False
    register(case)
    result = run(case, "--json")
    document = json.loads(result.output)
    assert result.exit_code == 4
    assert (document["cause"], document["good"], document["bundle"]) == ("not-activated", False, None)
    assert not [piece for piece in secrets(case) if piece in result.output]


def test_settings_that_cannot_be_read_are_a_finding(new_case: NewCase) -> None:
    case = new_case()
    case.set("PROFILE", "nobody")
    register(case)
    result = run(case, "--json")
    assert result.exit_code == 3
    assert json.loads(result.output)["cause"] == "settings-unreadable"


@pytest.mark.parametrize("as_text", [False, True], ids=["keys in files", "keys as text"])
def test_the_bundle_holds_no_secret(new_case: NewCase, tmp_path: Path, as_text: bool) -> None:
    case = new_case()
    if as_text:
        del case.environment["IBKR_OAUTH_KEYS_DIR"]
        for name, slot in (("SIGNING_KEY", "signing"), ("ENCRYPTION_KEY", "encryption"), ("DH_PARAMS", "dh_params")):
            case.set(name, case.pem[slot])
    case.set("KEY_PASSWORD", "correct-horse-battery")
    register(case)
    path = tmp_path / "bundle.zip"
    result = run(case, "--bundle", str(path))
    assert result.exit_code == 0, result.output
    assert f"Bundle:  {path} (no secret in it)" in result.output
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(files) == {"report.txt", "report.json", "versions.json", "settings.json", "keys.json"}
    content = "".join(files.values())
    signatures = re.findall(r"oauth_signature=\"?([^\",&]+)", repr(case.sandbox.requests))
    token = case.environment["IBKR_OAUTH_ACCESS_TOKEN"]
    hidden = [*secrets(case), token, case.consumer_key, str(tmp_path / "keys"), *signatures]
    assert len(hidden) > 40
    assert [piece for piece in hidden if piece and piece in content] == []
    assert "Everything works." in files["report.txt"]
    assert len(json.loads(files["keys.json"])["signing_key"]["fingerprint"]) == 64


def test_neither_the_screen_nor_the_bundle_shows_the_password_of_a_proxy(new_case: NewCase, tmp_path: Path) -> None:
    case = new_case()
    case.set("PROXY", "http://planted:hunter2@127.0.0.1:9")
    register(case)
    path = tmp_path / "bundle.zip"
    result = run(case, "--bundle", str(path))
    assert (result.exit_code, "Proxy 127.0.0.1:9: connection refused" in result.output) == (7, True)
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist()).decode()
    assert "http://…@127.0.0.1:9" in content
    assert [word for word in ("planted", "hunter2") if word in content + result.output] == []


def documents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_bundle_without_settings_that_can_be_read(new_case: NewCase, tmp_path: Path) -> None:
    case = new_case()
    case.set("PROFILE", "nobody")
    register(case)
    path = tmp_path / "bundle.zip"
    assert run(case, "--bundle", str(path)).exit_code == 3
    files = documents(path)
    assert set(files) == {"report.txt", "report.json", "versions.json"}
    assert str(tmp_path) not in files["report.txt"]


def test_a_bundle_of_half_a_set_up(new_case: NewCase, tmp_path: Path) -> None:
    """What is not set is left out, and a consumer key that everybody has is shown."""
    case = new_case()
    case.environment = {"HOME": str(tmp_path), "IBKR_OAUTH_CONSUMER_KEY": "TESTCONS"}
    path = tmp_path / "bundle.zip"
    assert run(case, "--offline", "--bundle", str(path)).exit_code == 3
    files = documents(path)
    assert json.loads(files["keys.json"]) == {}
    assert "TESTCONS" in files["settings.json"] + files["report.txt"]


def test_a_bundle_of_a_keyring_that_fails(new_case: NewCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = new_case()
    register(case)
    access_token = case.environment["IBKR_OAUTH_ACCESS_TOKEN"]
    lock_keyring(case, monkeypatch)
    path = tmp_path / "bundle.zip"
    run(case, "--offline", "--bundle", str(path))
    content = "".join(documents(path).values())
    assert "the system's keyring failed" in content
    assert case.consumer_key not in content
    assert access_token not in content


def test_a_bundle_that_cannot_be_written_says_so(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    result = run(case, "--offline", "--bundle", "/proc/nowhere/bundle.zip")
    assert result.exit_code == 3
    assert "could not be written" in result.output
