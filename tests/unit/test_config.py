"""Settings from the environment: ours, those that users of ibind have, and a folder of keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibkr_oauth import AccessToken, AsyncSession, Session, config
from ibkr_oauth.errors import ConfigurationError, KeyFormatError, MissingSetting, UsageError

TOKEN = "a1b2c3d4e5f60718293a"
MAKERS = [Session, AsyncSession]


@pytest.fixture
def folder(pem: dict[str, str], tmp_path: Path) -> Path:
    """As `ibkr-oauth keygen` leaves it."""
    for name, text in (
        ("private_signature", "signing"),
        ("private_encryption", "encryption"),
        ("dhparam", "dh_params"),
    ):
        file = tmp_path / f"{name}.pem"
        file.write_text(pem[text])
        file.chmod(0o600)
    return tmp_path


@pytest.fixture
def ours(folder: Path, secret: dict[str, str]) -> dict[str, str]:
    return {
        "IBKR_OAUTH_CONSUMER_KEY": "VECTORKEY",
        "IBKR_OAUTH_ACCESS_TOKEN": TOKEN,
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": secret["encrypted_base64"],
        "IBKR_OAUTH_SIGNING_KEY": str(folder / "private_signature.pem"),
        "IBKR_OAUTH_ENCRYPTION_KEY": str(folder / "private_encryption.pem"),
        "IBKR_OAUTH_DH_PARAMS": str(folder / "dhparam.pem"),
    }


@pytest.fixture
def ibinds(folder: Path, secret: dict[str, str], vectors: dict[str, Any]) -> dict[str, str]:
    """ibind wants the prime in hex."""
    prime = vectors["dh_groups"]["ffdhe2048"]["prime_hex"]
    return {
        "IBIND_OAUTH1A_CONSUMER_KEY": "VECTORKEY",
        "IBIND_OAUTH1A_ACCESS_TOKEN": TOKEN,
        "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET": secret["encrypted_base64"],
        "IBIND_OAUTH1A_SIGNATURE_KEY_FP": str(folder / "private_signature.pem"),
        "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": str(folder / "private_encryption.pem"),
        "IBIND_OAUTH1A_DH_PRIME": prime,
        "IBIND_OAUTH1A_DH_GENERATOR": "2",
        "IBIND_OAUTH1A_REST_URL": "https://localhost:5000/v1/api/",
        "IBIND_OAUTH1A_REALM": "limited_poa",
    }


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Puts these variables, and no others of ours, into the process's environment."""
    import os

    def put(variables: dict[str, str]) -> None:
        for name in list(os.environ):
            if name.startswith(("IBKR_OAUTH_", "IBIND_")):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize("maker", MAKERS)
def test_a_session_from_our_variables(
    maker: Any, environment: Any, ours: dict[str, str], pem: dict[str, str], secret: dict[str, str]
) -> None:
    environment(ours | {"IBKR_OAUTH_BASE_URL": "https://localhost:1/v1/api", "IBKR_OAUTH_REALM": "test_realm"})
    session = maker.from_env()
    assert session.base_url == "https://localhost:1/v1/api"
    assert session.access_token == AccessToken(TOKEN, secret["encrypted_base64"])
    assert (session.consumer.key, session.consumer.realm) == ("VECTORKEY", "test_realm")
    assert session.consumer.decrypt_secret(session.access_token).reveal().hex() == secret["plaintext_hex"]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_session_from_ibinds_variables(maker: Any, environment: Any, ibinds: dict[str, str]) -> None:
    environment(ibinds)
    session = maker.from_env()
    assert session.base_url == "https://localhost:5000/v1/api"
    assert session.consumer.key == "VECTORKEY"
    assert session.consumer.dh_params.generator == 2


def test_keyword_arguments_come_first(environment: Any, ours: dict[str, str]) -> None:
    environment(ours | {"IBKR_OAUTH_BASE_URL": "https://localhost:1/v1/api"})
    assert Session.from_env(base_url="https://localhost:2/v1/api").base_url == "https://localhost:2/v1/api"
    with pytest.raises(TypeError, match="unexpected keyword"):
        Session.from_env(colour="blue")  # type: ignore[call-arg]


def test_ours_come_before_ibinds(ours: dict[str, str], ibinds: dict[str, str]) -> None:
    settings = config.from_env(ibinds | ours | {"IBKR_OAUTH_CONSUMER_KEY": "OURSFIRST"})
    assert settings.consumer().key == "OURSFIRST"
    assert settings.origins["consumer_key"] == "IBKR_OAUTH_CONSUMER_KEY"
    assert settings.origins["base_url"] == "IBIND_OAUTH1A_REST_URL"


def test_an_empty_variable_is_none(ours: dict[str, str], ibinds: dict[str, str]) -> None:
    settings = config.from_env(ibinds | {"IBKR_OAUTH_CONSUMER_KEY": "", "IBKR_OAUTH_BASE_URL": ""})
    assert settings.origins["consumer_key"] == "IBIND_OAUTH1A_CONSUMER_KEY"
    assert config.from_env({"IBKR_OAUTH_BASE_URL": ""}).options() == {}


def test_a_folder_of_keys(ours: dict[str, str], folder: Path) -> None:
    words = {name: value for name, value in ours.items() if not value.startswith("/")}
    settings = config.from_env(words | {"IBKR_OAUTH_KEYS_DIR": str(folder)})
    assert settings.consumer().key == "VECTORKEY"
    assert {settings.origins[name] for name in ("signing_key", "encryption_key", "dh_params")} == {
        "IBKR_OAUTH_KEYS_DIR"
    }


def test_a_variable_comes_before_the_folder(ours: dict[str, str], folder: Path, pem: dict[str, str]) -> None:
    (folder / "private_signature.pem").write_text(pem["encryption"])
    settings = config.from_env(ours | {"IBKR_OAUTH_KEYS_DIR": str(folder), "IBKR_OAUTH_SIGNING_KEY": pem["signing"]})
    assert settings.origins["signing_key"] == "IBKR_OAUTH_SIGNING_KEY"
    consumer = settings.consumer()
    assert consumer.signing_key.fingerprint != consumer.encryption_key.fingerprint


def test_a_folder_below_the_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    settings = config.from_env({"IBKR_OAUTH_KEYS_DIR": f"~/{folder.name}"})
    assert set(settings.origins) == {"signing_key", "encryption_key", "dh_params"}


NAMES = ("CONSUMER_KEY", "ACCESS_TOKEN", "ACCESS_TOKEN_SECRET", "SIGNING_KEY", "ENCRYPTION_KEY", "DH_PARAMS")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_missing_is_named(maker: Any, environment: Any, ours: dict[str, str], name: str) -> None:
    """With all the places where it may be put."""
    del ours[f"IBKR_OAUTH_{name}"]
    environment(ours)
    with pytest.raises(MissingSetting, match=name.replace("_", " ").lower()) as caught:
        maker.from_env()
    assert f"IBKR_OAUTH_{name} or IBIND_OAUTH1A_" in caught.value.advice
    is_file = name in ("SIGNING_KEY", "ENCRYPTION_KEY", "DH_PARAMS")
    assert ("into the folder that IBKR_OAUTH_KEYS_DIR names" in caught.value.advice) is is_file


def test_a_folder_that_lacks_a_file(ours: dict[str, str], folder: Path) -> None:
    (folder / "private_encryption.pem").unlink()
    words = {name: value for name, value in ours.items() if not value.startswith("/")}
    with pytest.raises(MissingSetting, match="encryption key"):
        config.from_env(words | {"IBKR_OAUTH_KEYS_DIR": str(folder)}).consumer()


def test_a_file_that_is_not_there(ours: dict[str, str], folder: Path) -> None:
    (folder / "private_signature.pem").unlink()
    with pytest.raises(ConfigurationError) as caught:
        config.from_env(ours).consumer()
    assert "private_signature.pem" in str(caught.value)


def test_a_wrong_file(ours: dict[str, str], pem: dict[str, str]) -> None:
    with pytest.raises(KeyFormatError):
        config.from_env(ours | {"IBKR_OAUTH_SIGNING_KEY": pem["dh_params"]}).consumer()


@pytest.mark.parametrize(("generator", "good"), [("", True), ("2", True), ("5", False), ("two", False)])
def test_ibinds_generator(ibinds: dict[str, str], generator: str, good: bool) -> None:
    """It belongs to the parameters: a second word about it must be the same."""
    settings = config.from_env(ibinds | {"IBIND_OAUTH1A_DH_GENERATOR": generator})
    if good:
        assert settings.consumer().dh_params.generator == 2
    else:
        with pytest.raises(ConfigurationError, match="IBIND_OAUTH1A_DH_GENERATOR is not 2"):
            settings.consumer()


def test_the_environment_is_read_when_it_is_used(environment: Any, ours: dict[str, str]) -> None:
    """And not at import: a .env file may be loaded later."""
    environment({})
    with pytest.raises(MissingSetting):
        Session.from_env()
    environment(ours)
    assert Session.from_env().consumer is not None


def test_addresses(ours: dict[str, str]) -> None:
    values = {
        "IBKR_OAUTH_CA_FILE": "/x/ca.pem",
        "IBKR_OAUTH_PROXY": "http://proxy:3128",
        "IBKR_OAUTH_BASE_URL": "https://h/v1/api",
    }
    assert config.from_env(ours | values).options() == {
        "ca_file": "/x/ca.pem",
        "proxy": "http://proxy:3128",
        "base_url": "https://h/v1/api",
    }


def test_a_bad_address_is_refused(environment: Any, ours: dict[str, str]) -> None:
    environment(ours | {"IBKR_OAUTH_BASE_URL": "http://api.ibkr.com/v1/api"})
    with pytest.raises(UsageError, match="https"):
        Session.from_env()


def test_repr_shows_origins_and_no_values(ours: dict[str, str], ibinds: dict[str, str], pem: dict[str, str]) -> None:
    ours["IBKR_OAUTH_SIGNING_KEY"] = pem["signing"]
    shown = repr(config.from_env(ours))
    assert "signing_key from IBKR_OAUTH_SIGNING_KEY" in shown
    for value in ours.values():
        assert value not in shown
