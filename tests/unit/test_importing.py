"""What is recognised, what is refused and why, and what becomes of keys."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest

from ibkr_oauth import DHParameters, PrivateKey, importing
from ibkr_oauth.errors import ConfigurationError, DHParametersError, IBKROAuthError, KeyFormatError


@pytest.fixture(scope="module")
def signing_key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def pem(signing_key: PrivateKey) -> str:
    return signing_key.private_pem().reveal().decode()


@pytest.fixture(scope="module")
def encryption_pem() -> str:
    return PrivateKey.generate().private_pem().reveal().decode()


@pytest.fixture
def folder(tmp_path: Path, pem: str, encryption_pem: str) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "private_signature.pem").write_text(pem)
    (folder / "private_encryption.pem").write_text(encryption_pem)
    (folder / "dhparam.pem").write_text(DHParameters.rfc7919().pem())
    return folder


def setup_of(**values: str) -> importing.Setup:
    return importing.Setup("a test", values, {name: name.upper() for name in values}, Path.cwd())


# --- Lines NAME=value -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("  A = b  ", "b"),
        ("A=b # c", "b"),
        ("A=b#c", "b#c"),
        ("A='b # c'", "b # c"),
        ('A="b # c"', "b # c"),
        ("A='b\\nc'", "b\\nc"),
        ('A="b\\nc"', "b\nc"),
        ('A="b\nc"', "b\nc"),
        ('A="say \\"b\\""', 'say "b"'),
        ("A=C:\\keys\\new.pem", "C:\\keys\\new.pem"),
        ("A=b\r", "b"),
        ("A=", ""),
        ("A==b==", "=b=="),
        ("# X=y\nA=b", "b"),
    ],
)
def test_a_line_is_read_as_shells_read_it(line: str, value: str) -> None:
    assert importing.parse_variables(line + "\nZ=last\n") == {"A": value, "Z": "last"}


def test_variables_of_several_lines_do_not_run_into_each_other(pem: str) -> None:
    text = f"A=\"{pem}\"\nB='{pem}'\nC=c\n"
    assert importing.parse_variables(text) == {"A": pem, "B": pem, "C": "c"}


# --- Recognising ----------------------------------------------------------------------------------

SAMPLE = {
    "consumer_key": "ABCDEFGHI",
    "dhparam": "d.pem",
    "encryption": "e.pem",
    "signature": "s.pem",
    "access_token": "t",
    "access_token_secret": "s",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "sample.json"
    file.write_text(json.dumps({"user1": SAMPLE}), encoding=encoding)
    assert importing.read(file, environment={}).kind == "IBKR's sample credentials"


def test_one_of_several_users_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sample.json"
    file.write_text(json.dumps({"user1": SAMPLE, "user2": {**SAMPLE, "consumer_key": "SECONDKEY"}}))
    with pytest.raises(ConfigurationError, match="several users: user1, user2") as caught:
        importing.read(file, environment={})
    assert "--user" in caught.value.advice
    assert importing.read(file, user="user2", environment={}).values["consumer_key"] == "SECONDKEY"
    with pytest.raises(ConfigurationError, match="no user user3"):
        importing.read(file, user="user3", environment={})


def test_a_secret_in_the_place_of_a_users_name_is_not_shown(tmp_path: Path) -> None:
    secret = "Zm9ydHktdHdv/c2VjcmV0"
    file = tmp_path / "sample.json"
    file.write_text(json.dumps({"user1": SAMPLE, f"x{secret}": SAMPLE, "": SAMPLE}))
    for user, shown in ((None, "several users: user1, 1 more"), ("user3", "Users there: user1, 1 more.")):
        with pytest.raises(ConfigurationError) as caught:
            importing.read(file, user=user, environment={})
        text = f"{caught.value} {caught.value.advice}"
        assert shown in text
        assert secret not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"user1": {"dhparam": "C:\\keys\\d.pem"}}', "line 1"),
        (b"{}", "not the set-up of a client"),
        (b"[]", "not the set-up of a client"),
        (b'{"consumerKey": "A", "accessToken": "B"}', "not the set-up of a client"),
        (b'{"consumerKey": 1, "accessToken": 2, "accessTokenSecret": 3, "dhPrime": 4}', "not the set-up"),
        (b"hello", "not the set-up of a client"),
        (b"", "not the set-up of a client"),
        (b"IBIND_OAUTH1A_CONSUMER_KEY=ABCDEFGHI\n", "not the set-up of a client"),
        (b"\x80\x81", "not a text file"),
        (b" " * ((1 << 20) + 1), "longer than 1 MiB"),
    ],
)
def test_what_is_unknown_is_refused_and_what_was_looked_for_is_said(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "something"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        importing.read(file, environment={})
    assert caught.value.advice
    if "not the set-up" in message:
        for word in ("IBIND_OAUTH1A_CONSUMER_KEY", "signaturePrivateKey", "oauth1.json", "dhparam", "folder"):
            assert word in caught.value.advice
    assert caught.value.__context__ is None or "C:" not in str(caught.value.__context__)


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name too long"):
        importing.read(tmp_path / ("a" * 300), environment={})


def test_a_long_row_of_blanks_takes_no_time() -> None:
    started = time.process_time()
    assert importing.parse_variables(f"A=x{' ' * 100_000}y #z") == {"A": f"x{' ' * 100_000}y"}
    assert time.process_time() - started < 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        importing.read(tmp_path / "nothing", environment={})


def test_nothing_shows_a_secret(tmp_path: Path, pem: str) -> None:
    file = tmp_path / "c.json"
    document = {"consumerKey": "ABCDEFGHI", "accessToken": "t", "accessTokenSecret": "SECRET", "signature": pem}
    file.write_text(json.dumps(document))
    setup = importing.read(file, environment={})
    converted = importing.convert(setup, tmp_path / "keys", environment={})
    for shown in (repr(setup), repr(converted)):
        assert "SECRET" not in shown
        assert "PRIVATE KEY" not in shown


# --- Folders --------------------------------------------------------------------------------------


def test_a_folder_takes_its_tokens_from_the_environment(folder: Path) -> None:
    variables = {"IBKR_OAUTH_CONSUMER_KEY": "ABCDEFGHI", "IBKR_OAUTH_SIGNING_KEY": "other.pem"}
    setup = importing.read(folder, environment=variables)
    assert setup.values["consumer_key"] == "ABCDEFGHI"
    assert setup.values["signing_key"] == str(folder / "private_signature.pem")
    assert setup.missing == ("access_token", "access_token_secret")


def test_other_names_are_understood(folder: Path) -> None:
    (folder / "private_signature.pem").rename(folder / "my-signing.key")
    (folder / "private_encryption.pem").rename(folder / "ENC.PEM")
    (folder / "dhparam.pem").rename(folder / "dh2048.txt")
    (folder / "public_signature.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    setup = importing.read(folder, environment={})
    assert setup.fields == {"signing_key": "my-signing.key", "encryption_key": "ENC.PEM", "dh_params": "dh2048.txt"}


def test_keys_of_unclear_names_are_named(folder: Path) -> None:
    (folder / "private_signature.pem").rename(folder / "one.pem")
    with pytest.raises(ConfigurationError, match=r"not in it: private_signature\.pem") as caught:
        importing.read(folder, environment={})
    assert "one.pem (a private key, of which the name does not say" in caught.value.advice


def test_two_candidates_are_named(folder: Path, pem: str) -> None:
    (folder / "private_signature.pem").rename(folder / "sig1.pem")
    (folder / "sig2.pem").write_text(pem)
    with pytest.raises(ConfigurationError, match=r"several files could be the signing key: sig1\.pem, sig2\.pem"):
        importing.read(folder, environment={})


def test_a_standard_name_wins(folder: Path, pem: str) -> None:
    (folder / "old_sig.pem").write_text(pem)
    assert importing.read(folder, environment={}).fields["signing_key"] == "private_signature.pem"


def test_a_public_key_under_a_private_name_is_named(folder: Path, signing_key: PrivateKey) -> None:
    (folder / "private_signature.pem").write_text(signing_key.public_pem())
    with pytest.raises(KeyFormatError, match="public key"):
        importing.read(folder, environment={})


def test_what_is_no_key_file_by_its_name_is_passed_over(folder: Path, pem: str) -> None:
    (folder / "sig.pdf").write_text(pem)
    (folder / "sig.pem").mkdir()
    assert importing.read(folder, environment={}).fields["signing_key"] == "private_signature.pem"


def test_parameters_under_the_standard_name_that_are_broken_are_named(folder: Path) -> None:
    (folder / "dhparam.pem").write_text("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n")
    with pytest.raises(DHParametersError):
        importing.read(folder, environment={})


def test_a_folder_without_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("none")
    with pytest.raises(ConfigurationError, match=r"not in it: private_signature\.pem"):
        importing.read(tmp_path, environment={})


# --- Converting -----------------------------------------------------------------------------------


def test_texts_become_private_files_and_paths_stay(tmp_path: Path, folder: Path, pem: str) -> None:
    setup = setup_of(signing_key=pem, encryption_key=str(folder / "private_encryption.pem"), realm=" limited_poa ")
    converted = importing.convert(setup, tmp_path / "new" / "keys", environment={})
    written = tmp_path / "new/keys/private_signature.pem"
    assert converted.written == (written,)
    assert written.read_text() == pem
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    assert converted.values == {
        "signing_key": str(written),
        "encryption_key": str(folder / "private_encryption.pem"),
        "realm": "limited_poa",
    }


def test_the_same_once_more_changes_nothing(tmp_path: Path, pem: str) -> None:
    first = importing.convert(setup_of(signing_key=pem), tmp_path / "keys", environment={})
    assert importing.convert(setup_of(signing_key=pem), tmp_path / "keys", environment={}) == first


def test_a_file_with_another_key_is_never_replaced(tmp_path: Path, pem: str, encryption_pem: str) -> None:
    importing.convert(setup_of(signing_key=pem), tmp_path / "keys", environment={})
    second = importing.convert(setup_of(signing_key=encryption_pem), tmp_path / "keys", environment={})
    assert second.written == (tmp_path / "keys-2/private_signature.pem",)
    assert (tmp_path / "keys/private_signature.pem").read_text() == pem


def test_nothing_is_written_when_one_of_them_cannot_be_loaded(tmp_path: Path, pem: str) -> None:
    with pytest.raises(DHParametersError, match="DH_PARAMS"):
        importing.convert(setup_of(signing_key=pem, dh_params="-----BEGIN"), tmp_path / "keys", environment={})
    with pytest.raises(KeyFormatError, match=r"encryption key \(ENCRYPTION_KEY\)"):
        importing.convert(setup_of(signing_key=pem, encryption_key=pem[:600]), tmp_path / "keys", environment={})
    assert not (tmp_path / "keys").exists()


def test_an_encrypted_key_stays_encrypted(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = generate_private_key(65537, 2048)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")).decode()
    with pytest.raises(KeyFormatError, match="pass phrase"):
        importing.convert(setup_of(signing_key=text), tmp_path / "keys", environment={})
    environment = {"IBKR_OAUTH_KEY_PASSWORD": "open"}
    converted = importing.convert(setup_of(signing_key=text), tmp_path / "keys", environment=environment)
    assert converted.written[0].read_text() == text


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"SIGNING_KEY names the file C:\\keys\\s\.pem") as caught:
        importing.convert(setup_of(signing_key="C:\\keys\\s.pem"), tmp_path / "keys", environment={})
    assert "Put s.pem into" in caught.value.advice


@pytest.mark.parametrize(
    "text",
    [
        "A/bcdefghIJKLmnopqrstuvWXYZ=",
        "A/bcdefghIJKLmnopqrstuvWXYZ=.pem",
        'x = ["A/bcdefghIJKLmnopqrstuvWXYZ.pem',
        "KEY----- MIIEvQIBADANBgkq/hkiG9w0BAQEF",
    ],
)
def test_a_piece_of_a_key_in_the_place_of_a_path_is_not_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(IBKROAuthError) as caught:
        importing.convert(setup_of(signing_key=text), tmp_path / "keys", environment={})
    assert text[-12:] not in f"{caught.value} {caught.value.advice}"
    assert "BEGIN line" in caught.value.advice or "PEM" in caught.value.advice


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, pem: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="could not be written"):
        importing.convert(setup_of(signing_key=pem), tmp_path / "file" / "keys", environment={})
