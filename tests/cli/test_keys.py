"""`keys check`: what each file is, where it belongs, and whether they go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ibkr_oauth.keygen import KeyFiles


@pytest.fixture
def keys(key_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A good folder; and settings that are nobody's."""
    monkeypatch.setenv("IBKR_OAUTH_CONFIG", str(tmp_path / "config.toml"))
    for path in key_directory.glob("private_*"):
        path.chmod(0o600)
    return key_directory


@pytest.fixture
def check(run):
    def check(*paths: Path, code: int = 3) -> dict[str, Any]:
        result = run("keys", "check", *map(str, paths), "--json")
        assert result.exit_code == code, result.output
        assert "PRIVATE KEY" not in result.output
        document = json.loads(result.stdout)
        assert document["good"] is (code == 0)
        document["by_name"] = {Path(one["path"]).name: one for one in document["files"]}
        return document

    return check


def problems(document: dict[str, Any], name: str) -> str:
    assert all(problem["advice"] for problem in document["by_name"][name]["problems"])
    return " | ".join(problem["message"] for problem in document["by_name"][name]["problems"])


def test_good_files_are_named_with_the_fingerprints_of_what_was_uploaded(check, keys, key_files: KeyFiles) -> None:
    document = check(keys, code=0)
    assert {name: (one["slot"], one["sha256"]) for name, one in document["by_name"].items()} == {
        "private_signature.pem": ("signing_key", key_files.signature_fingerprint),
        "public_signature.pem": ("signing_key", key_files.signature_fingerprint),
        "private_encryption.pem": ("encryption_key", key_files.encryption_fingerprint),
        "public_encryption.pem": ("encryption_key", key_files.encryption_fingerprint),
        "dhparam.pem": ("dh_params", key_files.dh_fingerprint),
    }
    role = document["by_name"]["public_signature.pem"]["role"]
    assert role == "public half of private_signature.pem, to upload as Public Signing Key"


def test_words_for_people(run, keys) -> None:
    result = run("keys", "check", str(keys))
    assert result.exit_code == 0
    assert "private RSA key, 2048 bits: signs your requests" in result.output
    assert "All of them can be used." in result.output


def test_what_a_folder_lacks(check, keys) -> None:
    (keys / "dhparam.pem").unlink()
    assert check(keys)["missing"] == [str(keys / "dhparam.pem")]


def test_single_files_are_no_folder_that_lacks_something(check, keys) -> None:
    assert check(keys / "private_signature.pem", code=0)["missing"] == []


def test_a_file_that_is_not_there(check, keys) -> None:
    assert "No such file" in problems(check(keys / "nothing.pem"), "nothing.pem")


def test_files_that_are_no_keys_are_passed_over(check, keys) -> None:
    (keys / "README.txt").write_text("notes")
    assert "README.txt" not in check(keys, code=0)["by_name"]


def test_a_public_key_under_a_private_name(check, keys) -> None:
    (keys / "private_signature.pem").write_bytes((keys / "public_signature.pem").read_bytes())
    assert "public key" in problems(check(keys), "private_signature.pem")


def test_a_private_key_under_a_public_name(check, keys) -> None:
    content = (keys / "private_signature.pem").read_bytes()
    (keys / "public_signature.pem").write_bytes(content)
    (keys / "public_signature.pem").chmod(0o600)
    assert "private key under the name of a public one" in problems(check(keys), "public_signature.pem")


def test_public_halves_that_are_swapped(check, keys) -> None:
    one, other = keys / "public_signature.pem", keys / "public_encryption.pem"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert "public half of private_encryption.pem, unlike its name" in problems(check(keys), "public_signature.pem")


def test_a_public_half_of_another_key(check, keys, tmp_path) -> None:
    from ibkr_oauth import PrivateKey

    (keys / "public_signature.pem").write_text(PrivateKey.generate().public_pem())
    assert problems(check(keys), "public_signature.pem") == "public key of no private key here"


def test_a_public_key_as_older_tools_write_it(check, keys) -> None:
    path = keys / "public_signature.pem"
    key = load_pem_public_key(path.read_bytes())
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.PKCS1))
    assert check(keys, code=0)["by_name"]["public_signature.pem"]["role"].startswith("public half of private_signature")


def test_one_key_for_both(check, keys) -> None:
    (keys / "private_encryption.pem").write_bytes((keys / "private_signature.pem").read_bytes())
    assert "the same key as private_signature.pem" in problems(check(keys), "private_encryption.pem")


def test_permissions(check, keys) -> None:
    (keys / "private_signature.pem").chmod(0o644)
    assert "others may read" in problems(check(keys), "private_signature.pem")


def test_a_truncated_file(check, keys) -> None:
    path = keys / "private_encryption.pem"
    path.write_bytes(path.read_bytes()[:700])
    document = check(keys)
    assert problems(document, "private_encryption.pem")
    assert document["missing"] == []  # it is there, and broken


def test_an_empty_file(check, keys) -> None:
    (keys / "dhparam.pem").write_bytes(b"")
    assert "empty" in problems(check(keys), "dhparam.pem")


def test_an_encrypted_file(check, keys, monkeypatch) -> None:
    path = keys / "private_signature.pem"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")))
    document = check(keys)
    assert "pass phrase" in problems(document, "private_signature.pem")
    assert "IBKR_OAUTH_KEY_PASSWORD" in document["by_name"]["private_signature.pem"]["problems"][0]["advice"]
    monkeypatch.setenv("IBKR_OAUTH_KEY_PASSWORD", "open")
    check(keys, code=0)


def test_parameters_whose_prime_is_none(check, keys) -> None:
    from ibkr_oauth import DHParameters

    prime = DHParameters.rfc7919().prime
    (keys / "dhparam.pem").write_text(DHParameters(prime - 2).pem())
    assert "prime" in problems(check(keys), "dhparam.pem")


def test_an_odd_spelling_is_noted(check, keys) -> None:
    path = keys / "private_signature.pem"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert check(keys, code=0)["by_name"]["private_signature.pem"]["notes"] == ["Windows line ends"]


def test_the_files_of_the_settings_are_the_default(check, keys, monkeypatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_KEYS_DIR", str(keys))
    assert set(check(code=0)["by_name"]) == {"private_signature.pem", "private_encryption.pem", "dhparam.pem"}
    monkeypatch.setenv("IBKR_OAUTH_DH_PARAMS", str(keys / "private_signature.pem"))
    assert "dh_params names it" in problems(check(), "private_signature.pem")


def test_keys_that_settings_hold_as_text(check, keys, monkeypatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_KEYS_DIR", str(keys))
    monkeypatch.setenv("IBKR_OAUTH_SIGNING_KEY", (keys / "private_signature.pem").read_text())
    assert check(code=0)["by_name"]["IBKR_OAUTH_SIGNING_KEY"]["role"] == "text of the setting signing_key"
    monkeypatch.setenv("IBKR_OAUTH_SIGNING_KEY", (keys / "public_signature.pem").read_text())
    assert "public key" in problems(check(), "IBKR_OAUTH_SIGNING_KEY")


def test_settings_that_swap_the_keys_are_found_by_the_secret(check, keys, key_files, monkeypatch) -> None:
    from ibkr_oauth.sandbox.crypto import encrypt_access_token_secret

    public = load_pem_public_key(key_files.public_encryption.read_bytes())
    monkeypatch.setenv("IBKR_OAUTH_ACCESS_TOKEN_SECRET", encrypt_access_token_secret(public, b"x" * 32))
    monkeypatch.setenv("IBKR_OAUTH_SIGNING_KEY", str(keys / "private_encryption.pem"))
    monkeypatch.setenv("IBKR_OAUTH_ENCRYPTION_KEY", str(keys / "private_signature.pem"))
    monkeypatch.setenv("IBKR_OAUTH_DH_PARAMS", str(keys / "dhparam.pem"))
    document = check()
    assert "signing_key names it" in problems(document, "private_encryption.pem")
    assert "encryption_key names it" in problems(document, "private_signature.pem")


def test_a_setting_that_names_a_public_key(check, keys, monkeypatch) -> None:
    monkeypatch.setenv("IBKR_OAUTH_SIGNING_KEY", str(keys / "public_signature.pem"))
    assert problems(check(), "public_signature.pem").startswith("signing_key names it: ")


def test_a_name_that_does_not_say_which_key_it_is(check, keys) -> None:
    path = (keys / "private_signature.pem").rename(keys / "mine.pem")
    one = check(path, code=0)["by_name"]["mine.pem"]
    assert one["slot"] is None
    assert "the name does not say which" in one["role"]


@pytest.mark.parametrize("label", ["PUBLIC KEY", "RSA PUBLIC KEY"])
@pytest.mark.parametrize("body", ["AAAA", "A"])
def test_a_public_key_that_is_cut(check, keys, label: str, body: str) -> None:
    """Whether anything can be made of it or not, it is the half of no private key, and never takes the place of one."""
    (keys / "public_signature.pem").write_text(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    document = check(keys, code=3 if body == "AAAA" else 0)
    one = document["by_name"]["public_signature.pem"]
    assert (one["sha256"] is None) is (body == "A")
    assert not one["role"].startswith("public half")


def test_a_public_key_in_binary_is_named_without_its_fingerprint(check, keys) -> None:
    key = load_pem_public_key((keys / "public_signature.pem").read_bytes())
    (keys / "public_signature.pem").write_bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    one = check(keys / "public_signature.pem", code=0)["by_name"]["public_signature.pem"]
    assert (one["sha256"], one["role"]) == (None, "for IBKR's portal")


def test_words_for_people_where_something_is_wrong(run, keys) -> None:
    path = keys / "private_signature.pem"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    path = keys / "private_encryption.pem"
    path.write_bytes(path.read_bytes()[:700])
    (keys / "dhparam.pem").unlink()
    result = run("keys", "check", str(keys))
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert "  note: Windows line ends" in lines
    wrong = lines.index("  wrong: " + next(line for line in lines if line.startswith("  wrong: "))[9:])
    assert lines[wrong - 2] == str(path)  # without a fingerprint between
    assert lines[wrong + 1].startswith("         ")
    assert f"missing: {keys / 'dhparam.pem'}" in lines
    assert lines[-1] == "Something is wrong: see above."


def test_without_settings_it_says_what_to_give(run, keys) -> None:
    result = run("keys", "check")
    assert result.exit_code == 3
    assert "Give a folder or files" in result.stderr
