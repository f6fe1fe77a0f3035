"""Profiles: read, written, kept whole; several sources and which of them is used; secrets in the keyring."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
from cryptography.hazmat.primitives import serialization

from ibkr_oauth import AccessToken, AsyncSession, Session, config
from ibkr_oauth.errors import ConfigurationError, InsecurePermissionsError, KeyFormatError, MissingSetting

TOKEN = "a1b2c3d4e5f60718293a"
PLANTED = "cGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZA=="


@pytest.fixture(autouse=True)
def untold() -> None:
    """Nothing has been warned of yet."""
    config._told.clear()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


@pytest.fixture
def file(tmp_path: Path, pem: dict[str, str]) -> Path:
    """Where the file of profiles will be; the keys are there already, below it."""
    folder = tmp_path / ".config" / "ibkr-oauth"
    (folder / "keys").mkdir(parents=True)
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        path = folder / "keys" / f"{name}.pem"
        path.write_text(pem[key])
        path.chmod(0o600)
    return folder / "config.toml"


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_text(text)
    file.chmod(mode)


@pytest.fixture
def paper(file: Path, secret: dict[str, str]) -> str:
    """The text of a whole profile."""
    return f'''\
default_profile = "paper"

# What the portal said.
[profile.paper]
consumer_key = "VECTORKEY"   # nine letters
access_token = "{TOKEN}"
access_token_secret = "{secret["encrypted_base64"]}"
signing_key = "keys/private_signature.pem"
encryption_key = "keys/private_encryption.pem"
dh_params = "keys/dhparam.pem"
'''


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- Where it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.config/ibkr-oauth/config.toml"),
        ("linux", {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/c/ibkr-oauth/config.toml"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/ibkr-oauth/config.toml"),
        ("win32", {"APPDATA": "/roaming"}, "/roaming/ibkr-oauth/config.toml"),
        ("linux", {"HOME": "/h", "IBKR_OAUTH_CONFIG": "/x/mine.toml"}, "/x/mine.toml"),
    ],
)
def test_the_file(platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert config.config_file(environment) == expected


def test_no_file_is_no_error(home: dict[str, str]) -> None:
    assert config.profile_names(home) == []
    settings = config.load(environment=home)
    assert (settings.profile, dict(settings.origins), settings.conflicts) == (None, {}, ())


# --- Reading -------------------------------------------------------------------------------------


def test_a_profile(file: Path, paper: str, home: dict[str, str], secret: dict[str, str]) -> None:
    write(file, paper + 'base_url = "https://localhost:1/v1/api"\nrealm = "test_realm"\nproxy = ""\n')
    settings = config.load("paper", environment=home)
    consumer = settings.consumer()
    assert (consumer.key, consumer.realm) == ("VECTORKEY", "test_realm")
    assert settings.access_token() == AccessToken(TOKEN, secret["encrypted_base64"])
    assert settings.options() == {"base_url": "https://localhost:1/v1/api"}
    assert settings.profile == "paper"
    assert set(settings.origins.values()) == {f"profile paper in {file}"}
    assert settings.get("signing_key") == (str(file.parent / "keys/private_signature.pem"), settings.origins["realm"])
    assert settings.get("proxy") is None


def test_paths(file: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch, pem: dict[str, str]) -> None:
    """Relative to the file, to the home folder, and the text of a key where a path may be."""
    monkeypatch.setenv("HOME", home["HOME"])
    text = pem["signing"].replace("\n", "\\n")
    write(
        file, f'[profile.a]\nsigning_key = "{text}"\nencryption_key = "~/x.pem"\ndh_params = "/y.pem"\nca_file = "c"\n'
    )
    settings = config.load("a", environment=home)
    found = {name: settings.get(name) for name in ("signing_key", "encryption_key", "dh_params", "ca_file")}
    assert {name: value.text for name, value in found.items() if value} == {
        "signing_key": pem["signing"],
        "encryption_key": f"{home['HOME']}/x.pem",
        "dh_params": "/y.pem",
        "ca_file": str(file.parent / "c"),
    }


TWO = """
default_profile = "paper"
[profile.paper]
consumer_key = "PAPERKEYS"
realm = "paper"
[profile.live]
consumer_key = "LIVEKEYSS"
"""


@pytest.mark.parametrize(
    ("profile", "variables", "given", "expected"),
    [
        ("live", {"CONSUMER_KEY": "ENVIRONME", "PROFILE": "paper"}, {"consumer_key": "KEYWORDSS"}, "KEYWORDSS"),
        ("live", {"CONSUMER_KEY": "ENVIRONME", "PROFILE": "paper"}, {"consumer_key": None}, "LIVEKEYSS"),
        (None, {"CONSUMER_KEY": "ENVIRONME", "PROFILE": "live"}, {}, "LIVEKEYSS"),
        (None, {"CONSUMER_KEY": "ENVIRONME"}, {}, "ENVIRONME"),
        (None, {"PROFILE": ""}, {}, "PAPERKEYS"),
    ],
)
def test_the_order_of_sources(
    file: Path,
    home: dict[str, str],
    profile: str | None,
    variables: dict[str, str],
    given: dict[str, Any],
    expected: str,
) -> None:
    write(file, TWO)
    environment = home | {f"IBKR_OAUTH_{name}": value for name, value in variables.items()}
    value = config.load(profile, environment=environment, **given).get("consumer_key")
    assert value is not None
    assert value.text == expected


def test_the_folder_of_keys_is_last(file: Path, paper: str, home: dict[str, str], tmp_path: Path) -> None:
    write(file, paper.replace('dh_params = "keys/dhparam.pem"', ""))
    environment = home | {"IBKR_OAUTH_KEYS_DIR": str(file.parent / "keys")}
    settings = config.load(environment=environment)
    assert settings.origins["dh_params"] == "IBKR_OAUTH_KEYS_DIR"
    assert settings.origins["signing_key"].startswith("profile paper")
    assert settings.conflicts == ()  # it is the same file
    assert settings.consumer().key == "VECTORKEY"


def test_an_unknown_keyword() -> None:
    with pytest.raises(TypeError, match="colour"):
        config.load(colour="blue")


def test_it_is_read_when_it_is_used(file: Path, home: dict[str, str]) -> None:
    write(file, TWO)
    assert config.profile_names(home) == ["paper", "live"]
    write(file, "")
    assert config.profile_names(home) == []


# --- What is wrong with it -----------------------------------------------------------------------

BAD = {
    "no TOML": (f'[profile.paper]\naccess_token_secret = "{PLANTED}\n', "line 2: not valid TOML"),
    "a value without quotes": (f"[profile.paper]\n\naccess_token_secret = {PLANTED}\n", "line 3: not valid TOML"),
    "cut in the middle": ("[profile.paper]\nconsumer_key = ", "line 2: not valid TOML"),
    "nested without end": ("[profile.paper]\nrealm = " + "[" * 10_000, "nested too deeply"),
    "a number without end": (f"[profile.paper]\nrealm = 1\nx = {'1' * 10_000}", "a number in it is too long"),
    "twice": ('[profile.paper]\nrealm = "a"\nrealm = "b"', "not valid TOML"),
    "latin-1": ('[profile.paper]\n# é\nrealm = "a"'.encode("latin-1"), "line 2: not UTF-8"),
    "an unknown key": ('[profile.paper]\nconsumer_kee = "X"', "profile paper: unknown key consumer_kee"),
    "a value as a key": (f'[profile.paper]\n"{PLANTED}" = "X"', "profile paper: unknown key of 68 characters"),
    "a value as a name": (f'[profile."{PLANTED}"]', "the name of a profile has 68 characters, and others than"),
    "a value as the default": (f'default_profile = "{PLANTED}"', "the name of a profile has 68 characters, and others"),
    "an empty name": ('[profile.""]', "the name of a profile is empty"),
    "an unknown key at the top": ('consumer_key = "X"', "unknown key consumer_key at the top"),
    "a number": ("[profile.paper]\nconsumer_key = 123456789", "consumer_key is a number, expected a text in quotes"),
    "a list": (f'[profile.paper]\naccess_token_secret = ["{PLANTED}"]', "access_token_secret is a list, expected"),
    "a text for true": ('[profile.paper]\nkeyring = "yes"', "keyring is a text, expected true or false"),
    "a date": ("[profile.paper]\nrealm = 2026-01-01", "realm is a date or time"),
    "no table": ('profile = "paper"', "profile is a text, expected a table for each profile"),
    "a text for a profile": (f'[profile]\npaper = "{PLANTED}"', "profile paper: it is a text, expected a table"),
    "a number for the default": ("default_profile = 5", "default_profile is a number, expected a text"),
    "another profile": ('[profile.live]\nrealm = "a"', "profile paper: not in"),
    "both": (f'[profile.paper]\nkeyring = true\naccess_token_secret = "{PLANTED}"', "keyring = true says"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_bad_file_is_named_with_the_place(file: Path, home: dict[str, str], content: str | bytes, words: str) -> None:
    """And without the value, which may be secret."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        config.load("paper", environment=home)
    assert words in caught.value.message
    assert str(file) in caught.value.message
    seen = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=False).format())
    assert PLANTED[:12] not in seen + str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_missing_profile_names_those_that_exist(file: Path, home: dict[str, str]) -> None:
    write(file, TWO)
    with pytest.raises(ConfigurationError, match="profile papper: not in") as caught:
        config.load("papper", environment=home)
    assert caught.value.advice == "Profiles there: paper, live."
    with pytest.raises(ConfigurationError, match=r"profile papper \(from IBKR_OAUTH_PROFILE\): not in"):
        config.load(environment=home | {"IBKR_OAUTH_PROFILE": "papper"})
    write(file, 'default_profile = "papper"')
    with pytest.raises(ConfigurationError, match=r"profile papper \(the default_profile\): not in"):
        config.load(environment=home)
    write(file, "")
    with pytest.raises(ConfigurationError, match="not in") as caught:
        config.load("paper", environment=home)
    assert caught.value.advice == "It has none."
    file.unlink()
    with pytest.raises(ConfigurationError, match="not in") as caught:
        config.load("paper", environment=home)
    assert "ibkr-oauth init" in caught.value.advice


def test_a_typo_is_recognised(file: Path, home: dict[str, str]) -> None:
    write(file, '[profile.paper]\nconsumer_kee = "X"')
    with pytest.raises(ConfigurationError) as caught:
        config.load("paper", environment=home)
    assert caught.value.advice == "Did you mean consumer_key?"


def test_no_file_of_that_kind(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "could not be read"), (tmp_path / "big", "longer than 1 MiB")):
        if path != tmp_path:
            path.write_bytes(b"#" * 1_100_000)
        with pytest.raises(ConfigurationError, match=words) as caught:
            config.load(environment={"IBKR_OAUTH_CONFIG": str(path)})
        assert "IBKR_OAUTH_CONFIG" in caught.value.advice


@pytest.mark.parametrize(
    ("content", "profile", "words"),
    [
        ("", None, "Or let `ibkr-oauth init` make a profile."),
        ("[profile.a]\n[profile.b]", None, "Or choose a profile with --profile or IBKR_OAUTH_PROFILE: a, b."),
        ("[profile.a]", "a", "Or put it into the profile a of "),
    ],
)
def test_what_is_missing_may_be_put_into_a_profile(
    file: Path, home: dict[str, str], content: str, profile: str | None, words: str
) -> None:
    write(file, content)
    with pytest.raises(MissingSetting) as caught:
        config.load(profile, environment=home).consumer()
    assert words in caught.value.advice
    assert "Set IBKR_OAUTH_CONSUMER_KEY or IBIND_OAUTH1A_CONSUMER_KEY." in caught.value.advice


# --- Who may read it -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
@pytest.mark.parametrize("name", ["private_signature", "private_encryption"])
def test_private_keys_are_private(file: Path, paper: str, home: dict[str, str], name: str, mode: int) -> None:
    write(file, paper)
    path = file.parent / f"keys/{name}.pem"
    path.chmod(mode)
    with pytest.raises(InsecurePermissionsError, match=f"mode {mode:04o}") as caught:
        config.load(environment=home).consumer()
    assert f"chmod 600 {path}" in caught.value.advice
    override = home | {"IBKR_OAUTH_INSECURE_PERMISSIONS": "1"}
    assert config.load(environment=override).consumer().key == "VECTORKEY"
    with pytest.raises(InsecurePermissionsError):
        config.load(environment=home | {"IBKR_OAUTH_INSECURE_PERMISSIONS": "0"}).consumer()


def test_the_chmod_line_works(file: Path, paper: str, home: dict[str, str]) -> None:
    """As it stands, in a shell."""
    path = file.parent / "my key's.pem"
    path.write_bytes((file.parent / "keys/private_signature.pem").read_bytes())
    path.chmod(0o644)
    write(file, paper.replace("keys/private_signature.pem", path.name))
    with pytest.raises(InsecurePermissionsError) as caught:
        config.load(environment=home).consumer()
    line = caught.value.advice.partition(": ")[2].partition(". Where")[0]
    subprocess.run(["sh", "-c", line], check=True)
    assert config.load(environment=home).consumer().key == "VECTORKEY"


def test_parameters_are_no_secret(file: Path, paper: str, home: dict[str, str]) -> None:
    write(file, paper)
    (file.parent / "keys/dhparam.pem").chmod(0o644)
    assert config.load(environment=home).consumer().key == "VECTORKEY"


def test_permissions_mean_nothing_on_windows(
    file: Path, paper: str, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, paper, 0o644)
    environment = home | {"IBKR_OAUTH_CONFIG": str(file)}
    monkeypatch.setattr("sys.platform", "win32")
    assert config.load(environment=environment).access_token().token == TOKEN


def test_a_file_with_a_secret_in_it_is_private(
    file: Path, paper: str, home: dict[str, str], secret: dict[str, str], pem: dict[str, str]
) -> None:
    write(file, paper, 0o644)
    settings = config.load(environment=home)
    assert settings.consumer().key == "VECTORKEY"  # what it needs of the file is no secret
    with pytest.raises(InsecurePermissionsError, match="access token secret: others may read") as caught:
        settings.access_token()
    assert str(file) in caught.value.advice
    elsewhere = home | {"IBKR_OAUTH_ACCESS_TOKEN_SECRET": secret["encrypted_base64"]}
    assert config.load(environment=elsewhere).access_token().token == TOKEN
    text = pem["signing"].replace("\n", "\\n")
    write(file, paper.replace("keys/private_signature.pem", text), 0o644)
    with pytest.raises(InsecurePermissionsError, match="signing key"):
        config.load(environment=home).consumer()


# --- Encrypted keys ------------------------------------------------------------------------------


@pytest.fixture
def encrypted(file: Path, pem: dict[str, str]) -> None:
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption")):
        loaded = serialization.load_pem_private_key(pem[key].encode(), None)
        (file.parent / f"keys/{name}.pem").write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"open sesame"),
            )
        )


@pytest.mark.usefixtures("encrypted")
def test_a_password_for_the_keys(file: Path, paper: str, home: dict[str, str]) -> None:
    write(file, paper)
    environment = home | {"IBKR_OAUTH_KEY_PASSWORD": "open sesame"}
    assert config.key_password(environment) == "open sesame"
    assert config.load(environment=environment).consumer().key == "VECTORKEY"
    for wrong in ({}, {"IBKR_OAUTH_KEY_PASSWORD": "closed sesame"}):
        with pytest.raises(KeyFormatError, match="signing key") as caught:
            config.load(environment=home | wrong).consumer()
        assert "sesame" not in str(caught.value)


# --- Sources that disagree -----------------------------------------------------------------------


def conflicts(settings: config.Settings) -> list[tuple[str, str, str]]:
    return [(one.name, one.used.origin, one.other.origin) for one in settings.conflicts]


def test_conflicts(file: Path, home: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    write(file, TWO)
    environment = home | {"IBKR_OAUTH_CONSUMER_KEY": "ENVIRONME", "IBKR_OAUTH_REALM": "paper"}
    settings = config.load(environment=environment, proxy="http://p:1")
    assert conflicts(settings) == [("consumer_key", "IBKR_OAUTH_CONSUMER_KEY", f"profile paper in {file}")]
    for again in (settings, settings, config.load(environment=environment)):
        with pytest.raises(MissingSetting):
            again.consumer()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ibkr_oauth.config", logging.WARNING)
    assert record.getMessage() == str(settings.conflicts[0])
    assert record.getMessage() == (
        f"consumer key: IBKR_OAUTH_CONSUMER_KEY is used, and profile paper in {file} says something else"
    )


def test_the_same_in_other_words_is_no_conflict(
    file: Path, paper: str, home: dict[str, str], pem: dict[str, str], vectors: dict[str, Any], secret: dict[str, str]
) -> None:
    """The key as text and as a path, the prime in hex, an address with a slash, a secret with its line breaks."""
    (file.parent / "link.pem").symlink_to(file.parent / "keys/private_encryption.pem")
    write(file, paper + 'base_url = "https://localhost/v1/api"\n')
    environment = home | {
        "IBKR_OAUTH_SIGNING_KEY": pem["signing"],
        "IBKR_OAUTH_ENCRYPTION_KEY": str(file.parent / "link.pem"),
        "IBIND_OAUTH1A_DH_PRIME": vectors["dh_groups"]["ffdhe2048"]["prime_hex"].upper(),
        "IBIND_OAUTH1A_REST_URL": "https://localhost/v1/api/",
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": secret["encrypted_base64"][:100] + "\n" + secret["encrypted_base64"][100:],
        "IBKR_OAUTH_KEYS_DIR": str(file.parent / "keys"),
    }
    assert conflicts(config.load(environment=environment)) == []


def test_another_key_is_one(file: Path, paper: str, home: dict[str, str], vectors: dict[str, Any]) -> None:
    write(file, paper)
    environment = home | {
        "IBKR_OAUTH_SIGNING_KEY": str(file.parent / "keys/private_encryption.pem"),
        "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": "/nowhere/key.pem",
        "IBIND_OAUTH1A_DH_PRIME": vectors["dh_groups"]["modp2048"]["prime_hex"],
    }
    assert [name for name, _, _ in conflicts(config.load(environment=environment))] == [
        "signing_key",
        "encryption_key",
        "dh_params",
    ]


def test_two_variables_may_disagree() -> None:
    settings = config.from_env({"IBKR_OAUTH_REALM": "a", "IBIND_OAUTH1A_REALM": "b"})
    assert conflicts(settings) == [("realm", "IBKR_OAUTH_REALM", "IBIND_OAUTH1A_REALM")]


def test_no_secret_shows(file: Path, paper: str, home: dict[str, str], secret: dict[str, str]) -> None:
    write(file, paper)
    environment = home | {"IBKR_OAUTH_ACCESS_TOKEN_SECRET": PLANTED, "IBKR_OAUTH_PROXY": "http://me:pass@proxy:1"}
    settings = config.load("paper", environment=environment)
    shown = repr(settings) + repr(settings.conflicts) + repr(settings.get("access_token_secret"))
    shown += repr(settings.masked()) + str(settings.conflicts[0])
    for hidden in (secret["encrypted_base64"][:12], PLANTED[:12], "pass", TOKEN):
        assert hidden not in shown
    rows = {one.name: (one.value, one.origin) for one in settings.masked()}
    origin = f"profile paper in {file}"
    assert list(rows) == list(config.NAMES)
    assert rows["access_token_secret"] == ("(344 characters)", origin)
    assert rows["access_token"] == ("a1b2…", origin)
    assert rows["consumer_key"] == ("VECTORKEY", origin)
    assert rows["proxy"] == ("http://…@proxy:1", "IBKR_OAUTH_PROXY")
    assert rows["realm"] == (None, None)


# --- Writing -------------------------------------------------------------------------------------

VALUES = {"consumer_key": "VECTORKEY", "access_token": TOKEN}


def test_the_first_profile(file: Path, home: dict[str, str], secret: dict[str, str]) -> None:
    """Everything is made for its owner only, and it is the default."""
    for path in sorted(file.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    file.parent.rmdir()
    mask = os.umask(0)
    try:
        path = config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home)
    finally:
        os.umask(mask)
    assert path == str(file)
    assert (mode_of(file), mode_of(file.parent)) == (0o600, 0o700)
    assert tomllib.loads(file.read_text()) == {
        "default_profile": "paper",
        "profile": {"paper": {**VALUES, "access_token_secret": "QUJD"}},
    }
    assert config.load(environment=home).access_token() == AccessToken(TOKEN, "QUJD")


@pytest.mark.parametrize(
    "before",
    [
        '# mine\n[profile.live]\nrealm = "a" # why\n',
        'default_profile = "live"\n# mine\nprofile.live.realm = "a" # why\n',
        '# mine\nprofile = {live = {realm = "a"}} # why\n',
        '# mine\n[profile]\nlive = {realm = "a"} # why\n',
        '\ufeff# mine\r\n[profile.live]\r\nrealm = "a" # why\r\n',
        '# mine\n[profile.live]\nrealm = "a" # why',
    ],
)
def test_the_rest_of_the_file_stays(file: Path, home: dict[str, str], before: str) -> None:
    file.write_bytes(before.encode())
    former = tomllib.loads(before.removeprefix("\ufeff"))
    config.save_profile("paper", VALUES, environment=home)
    text = file.read_text()
    assert tomllib.loads(text) == {**former, "profile": {"live": {"realm": "a"}, "paper": VALUES}}
    assert "# mine" in text
    assert "# why" in text
    config.save_profile("live", {"realm": "b"}, environment=home, default=True)
    after = tomllib.loads(file.read_text())
    assert after == {"default_profile": "live", "profile": {"live": {"realm": "b"}, "paper": VALUES}}


def test_a_profile_is_updated(file: Path, paper: str, home: dict[str, str]) -> None:
    """What is not given stays; an empty text removes."""
    write(file, paper + 'realm = "a"\n')
    config.save_profile("paper", {"access_token": "ffff", "realm": "", "proxy": ""}, environment=home)
    expected = tomllib.loads(paper)
    expected["profile"]["paper"]["access_token"] = "ffff"
    assert tomllib.loads(file.read_text()) == expected
    assert "# nine letters" in file.read_text()


def test_paths_are_written_to_be_found(file: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From wherever they were given; those below the file move with it."""
    monkeypatch.chdir(file.parent / "keys")
    values = {"signing_key": "private_signature.pem", "encryption_key": "../../x.pem", "ca_file": "/etc/ca.pem"}
    config.save_profile("paper", values, environment=home)
    written = tomllib.loads(file.read_text())["profile"]["paper"]
    assert written == {
        "signing_key": "keys/private_signature.pem",
        "encryption_key": str(file.parent.parent / "x.pem"),
        "ca_file": "/etc/ca.pem",
    }


def test_the_text_of_a_key_is_written_as_it_is(file: Path, home: dict[str, str], pem: dict[str, str]) -> None:
    config.save_profile("paper", {"signing_key": pem["signing"]}, environment=home)
    value = config.load(environment=home).get("signing_key")
    assert value is not None
    assert value.text == pem["signing"]


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "..", "a.b", "x" * 65])
def test_a_bad_name(home: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a profile"):
        config.save_profile(name, VALUES, environment=home)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"consumer_kee": "X"}, "consumer_kee is no setting"),
        ({"realm": 5}, "realm is a number"),
        ({PLANTED: "X"}, "68"),
    ],
)
def test_bad_values(home: dict[str, str], values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        config.save_profile("paper", values, environment=home)


def test_a_bad_file_is_not_written_to(file: Path, home: dict[str, str]) -> None:
    """It may hold what a person wants to mend."""
    for content in ("[profile.paper\n", '[profile.paper]\nconsumer_kee = "X"\n', "profile = 5\n"):
        file.write_text(content)
        with pytest.raises(ConfigurationError):
            config.save_profile("paper", VALUES, environment=home)
        assert file.read_text() == content


def test_a_failure_leaves_the_former_file(
    file: Path, paper: str, home: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, paper)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{step}", fail)
            with pytest.raises(ConfigurationError, match="No space left on device") as caught:
                config.save_profile("paper", {"realm": "b"}, environment=home)
        assert "unchanged" in caught.value.advice
        assert file.read_text() == paper
        assert sorted(path.name for path in file.parent.iterdir()) == ["config.toml", "config.toml.lock", "keys"]


def test_a_crash_leaves_the_former_file(file: Path, paper: str, home: dict[str, str]) -> None:
    """At each of the steps in which something is written."""
    write(file, paper)
    for step in ("write", "fsync", "replace"):
        child = os.fork()
        if child == 0:
            if step == "write":
                import io

                class Dying(io.FileIO):
                    def write(self, data: Any, /) -> int:
                        super().write(memoryview(data)[:20])
                        os._exit(7)

                config.files.open = lambda descriptor, *_, **__: Dying(descriptor, "wb")  # type: ignore[attr-defined]
            else:
                setattr(os, step, lambda *_: os._exit(7))
            try:
                config.save_profile("paper", {"realm": "b"}, environment=home)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert file.read_text() == paper
    config.save_profile("paper", {"realm": "b"}, environment=home)  # nor does its lock stay
    assert 'realm = "b"' in file.read_text()


def test_permissions_are_mended(file: Path, paper: str, home: dict[str, str]) -> None:
    write(file, paper, 0o644)
    config.save_profile("paper", {"realm": "b"}, environment=home)
    assert mode_of(file) == 0o600


def test_a_link_stays_one(file: Path, paper: str, home: dict[str, str], tmp_path: Path) -> None:
    """As those have it who keep their settings elsewhere."""
    real = tmp_path / "dotfiles.toml"
    write(real, paper)
    file.symlink_to(real)
    config.save_profile("paper", {"realm": "b"}, environment=home)
    assert file.is_symlink()
    assert 'realm = "b"' in real.read_text()


def test_two_that_write_at_once(file: Path, home: dict[str, str]) -> None:
    """Neither loses what the other one wrote."""
    program = "import sys; from ibkr_oauth import config\nfor n in range(10): config.save_profile(f'{sys.argv[1]}{n}', {'realm': 'a'})"
    environment = {**os.environ, **home, "PYTHONPATH": str(Path(config.__file__).parents[1])}
    environment = {name: value for name, value in environment.items() if not name.startswith(("IBKR_", "XDG_"))}
    writers = [subprocess.Popen([sys.executable, "-c", program, name], env=environment) for name in "ab"]
    for writer in writers:
        assert writer.wait(30) == 0
    assert sorted(config.profile_names(home)) == sorted(f"{name}{n}" for name in "ab" for n in range(10))


def test_without_tomlkit(file: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    with pytest.raises(ConfigurationError, match="tomlkit, which is not installed") as caught:
        config.save_profile("paper", VALUES, environment=home)
    assert caught.value.advice == 'pip install "ibkr_oauth[cli]"'


# --- The keyring ---------------------------------------------------------------------------------


class InMemory(keyring.backend.KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _check(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"{PLANTED} is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.kept[service, username]


@pytest.fixture
def backend() -> Iterator[InMemory]:
    former = keyring.get_keyring()
    fake = InMemory()
    keyring.set_keyring(fake)
    yield fake
    keyring.set_keyring(former)


ACCOUNT = ("ibkr_oauth", "paper/access_token_secret")


def test_a_secret_in_the_keyring(file: Path, home: dict[str, str], backend: InMemory) -> None:
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    assert backend.kept == {ACCOUNT: "QUJD"}
    assert tomllib.loads(file.read_text())["profile"]["paper"] == {**VALUES, "keyring": True}
    settings = config.load(environment=home)
    assert settings.origins["access_token_secret"] == "keyring"
    assert settings.get("access_token_secret") == ("QUJD", "keyring")
    assert settings.access_token() == AccessToken(TOKEN, "QUJD")


def test_the_secret_moves(file: Path, home: dict[str, str], backend: InMemory) -> None:
    """From the file to the keyring and back, and is never left behind."""
    both = {**VALUES, "access_token_secret": "QUJD"}
    config.save_profile("paper", both, environment=home)
    config.save_profile("paper", {"access_token_secret": "QUJE"}, environment=home, keyring=True)
    assert "QUJ" not in file.read_text()
    config.save_profile("paper", {"realm": "a"}, environment=home)  # leaves it where it is
    assert config.load(environment=home).access_token().secret == "QUJE"
    config.save_profile("paper", {"access_token_secret": "QUJF"}, environment=home)
    assert backend.kept == {}
    assert config.load(environment=home).access_token().secret == "QUJF"


def test_a_keyring_that_cannot_forget_is_no_failure(
    file: Path, home: dict[str, str], backend: InMemory, caplog: pytest.LogCaptureFixture
) -> None:
    """The file says that the secret is not there any more, whatever the keyring keeps."""
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    backend.kept.clear()
    config.save_profile("paper", {"access_token_secret": "QUJE"}, environment=home)
    assert config.load(environment=home).get("access_token_secret").text == "QUJE"  # type: ignore[union-attr]
    assert "the keyring did not forget paper/access_token_secret: KeyError" in caplog.text


def test_the_keyring_is_asked_last(file: Path, home: dict[str, str], backend: InMemory) -> None:
    """It may want its owner to unlock it."""
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    backend.locked = True
    settings = config.load(environment=home | {"IBKR_OAUTH_ACCESS_TOKEN_SECRET": "QUJE"})
    assert settings.access_token().secret == "QUJE"
    rows = {one.name: (one.value, one.origin) for one in config.load(environment=home).masked()}
    assert rows["access_token_secret"] == ("(not shown)", "keyring")


def test_the_keyring_has_the_place_of_its_profile(file: Path, home: dict[str, str], backend: InMemory) -> None:
    """A profile that was chosen comes before the environment, whose secret may be of another token."""
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    environment = home | {"IBKR_OAUTH_ACCESS_TOKEN_SECRET": "QUJE"}
    backend.locked = True
    assert config.load("paper", environment=environment).conflicts == ()  # that would be asking
    backend.locked = False
    settings = config.load("paper", environment=environment)
    assert settings.access_token().secret == "QUJD"
    assert config.load("paper", environment=environment, access_token_secret="QUJF").access_token().secret == "QUJF"


def test_an_empty_keyring(file: Path, home: dict[str, str], backend: InMemory) -> None:
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    backend.kept.clear()
    with pytest.raises(MissingSetting, match="access token secret"):
        config.load(environment=home).access_token()


def test_a_locked_keyring(file: Path, home: dict[str, str], backend: InMemory) -> None:
    config.save_profile("paper", {**VALUES, "access_token_secret": "QUJD"}, environment=home, keyring=True)
    before = file.read_text()
    backend.locked = True
    uses = (
        lambda: config.load(environment=home).access_token(),
        lambda: config.save_profile("paper", {"access_token_secret": PLANTED}, environment=home, keyring=True),
    )
    for use in uses:
        with pytest.raises(ConfigurationError, match=r"keyring failed \(KeyringLocked\) for paper/") as caught:
            use()
        assert PLANTED not in str(caught.value)
        assert caught.value.__context__ is None
        assert "python -m keyring diagnose" in caught.value.advice
    assert file.read_text() == before


def test_no_keyring_at_all(file: Path, home: dict[str, str], backend: InMemory) -> None:
    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(ConfigurationError, match="NoKeyringError"):
        config.save_profile("paper", {"access_token_secret": "QUJD"}, environment=home, keyring=True)
    assert not file.exists()


def test_without_the_package(file: Path, home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigurationError, match="package keyring is not installed") as caught:
        config.save_profile("paper", {"access_token_secret": "QUJD"}, environment=home, keyring=True)
    assert 'pip install "ibkr_oauth[keyring]"' in caught.value.advice
    write(file, '[profile.paper]\nkeyring = true\naccess_token = "a"\n')
    with pytest.raises(ConfigurationError, match="package keyring is not installed"):
        config.load("paper", environment=home).access_token()


# --- Sessions ------------------------------------------------------------------------------------


@pytest.fixture
def at_home(file: Path, paper: str, home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, paper + 'base_url = "https://localhost:1/v1/api"\n')
    for name in list(os.environ):
        if name.startswith(("IBKR_OAUTH_", "IBIND_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", home["HOME"])


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("maker", [Session, AsyncSession])
@pytest.mark.parametrize("name", ["paper", None])
def test_a_session_from_a_profile(maker: Any, name: str | None, home: dict[str, str]) -> None:
    session = maker.from_profile(name)
    assert session.consumer.key == "VECTORKEY"
    assert session.base_url == "https://localhost:1/v1/api"
    assert session._flow._store.path == f"{home['HOME']}/.local/state/ibkr-oauth/tokens/paper.json"
    assert maker.from_profile(name, store=None)._flow._store is None
    assert maker.from_profile(name, base_url="https://localhost:2/v1/api").base_url == "https://localhost:2/v1/api"
    with pytest.raises(ConfigurationError, match="profile live"):
        maker.from_profile("live")


@pytest.mark.usefixtures("at_home")
def test_credentials_of_the_environment_have_a_store_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take the profile's token for theirs in turn, and throw it away."""
    monkeypatch.setenv("IBKR_OAUTH_ACCESS_TOKEN", "ffff")
    assert config.load().store().path.endswith("/tokens/environment.json")
    assert config.load("paper").store().path.endswith("/tokens/paper.json")


@pytest.mark.usefixtures("at_home")
def test_from_env_looks_into_no_profile() -> None:
    with pytest.raises(MissingSetting):
        Session.from_env()


def test_a_token_in_the_place_of_a_keys_path_is_not_shown() -> None:
    token = "A/bcdefghIJKLmnopqrstuvWXYZ="  # as long as a live session token, and no file's name
    settings = config.from_env({"IBKR_OAUTH_SIGNING_KEY": token, "IBKR_OAUTH_ENCRYPTION_KEY": "missing.pem"})
    rows = {one.name: one.value for one in settings.masked()}
    assert token not in repr(rows)
    assert rows["encryption_key"] == "missing.pem"
