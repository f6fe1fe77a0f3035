"""Settings from the environment, read when they are used and not at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .consumer import Consumer, DHParameters
from .errors import ConfigurationError, MissingSetting
from .tokens import AccessToken


class _Setting(NamedTuple):
    """A setting, the names of its variables in the order of asking, and its file in the folder of keys."""

    name: str
    variables: tuple[str, ...]
    file: str | None = None


# Ours, and those that users of ibind have already.
_SETTINGS = (
    _Setting("consumer_key", ("IBKR_OAUTH_CONSUMER_KEY", "IBIND_OAUTH1A_CONSUMER_KEY")),
    _Setting("access_token", ("IBKR_OAUTH_ACCESS_TOKEN", "IBIND_OAUTH1A_ACCESS_TOKEN")),
    _Setting("access_token_secret", ("IBKR_OAUTH_ACCESS_TOKEN_SECRET", "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET")),
    _Setting("signing_key", ("IBKR_OAUTH_SIGNING_KEY", "IBIND_OAUTH1A_SIGNATURE_KEY_FP"), "private_signature.pem"),
    _Setting(
        "encryption_key", ("IBKR_OAUTH_ENCRYPTION_KEY", "IBIND_OAUTH1A_ENCRYPTION_KEY_FP"), "private_encryption.pem"
    ),
    _Setting("dh_params", ("IBKR_OAUTH_DH_PARAMS", "IBIND_OAUTH1A_DH_PRIME"), "dhparam.pem"),
    _Setting("realm", ("IBKR_OAUTH_REALM", "IBIND_OAUTH1A_REALM")),
    _Setting("base_url", ("IBKR_OAUTH_BASE_URL", "IBIND_OAUTH1A_REST_URL")),
    _Setting("ca_file", ("IBKR_OAUTH_CA_FILE",)),
    _Setting("proxy", ("IBKR_OAUTH_PROXY",)),
)
_KEYS_DIR = "IBKR_OAUTH_KEYS_DIR"
_DH_GENERATOR = "IBIND_OAUTH1A_DH_GENERATOR"


class Settings:
    """Values as found, and where. Nothing is loaded before `consumer()`."""

    def __init__(self, values: Mapping[str, str], origins: Mapping[str, str], generator: str | None) -> None:
        self._values = values
        self.origins = origins
        self._generator = generator

    def __repr__(self) -> str:
        return f"<Settings {', '.join(f'{name} from {origin}' for name, origin in self.origins.items())}>"

    def consumer(self) -> Consumer:
        """Loads the keys. Raises MissingSetting and the errors of `Consumer`."""
        dh_params = DHParameters.load(self._need("dh_params"))
        if self._generator not in (None, "", str(dh_params.generator)):
            raise ConfigurationError(f"{_DH_GENERATOR} is not {dh_params.generator}, the generator of the parameters")
        return Consumer(
            self._need("consumer_key"),
            self._need("signing_key"),
            self._need("encryption_key"),
            dh_params,
            realm=self._values.get("realm"),
        )

    def access_token(self) -> AccessToken:
        """Raises MissingSetting."""
        return AccessToken(self._need("access_token"), self._need("access_token_secret"))

    def options(self) -> dict[str, Any]:
        """Keyword arguments of a session."""
        return {name: self._values[name] for name in ("base_url", "ca_file", "proxy") if name in self._values}

    def _need(self, name: str) -> str:
        value = self._values.get(name)
        if value is None:
            setting = next(setting for setting in _SETTINGS if setting.name == name)
            places = " or ".join(setting.variables)
            if setting.file:
                places += f", or put {setting.file} into the folder that {_KEYS_DIR} names"
            raise MissingSetting(f"{name.replace('_', ' ')}: missing", advice=f"Set {places}.")
        return value


def from_env(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from these variables, by default those of the process. Empty ones count as not set."""
    environment = os.environ if environment is None else environment
    folder = environment.get(_KEYS_DIR)
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for setting in _SETTINGS:
        for variable in setting.variables:
            if environment.get(variable):
                values[setting.name], origins[setting.name] = environment[variable], variable
                break
        else:
            # Not with pathlib, whose import takes a part of what a program waits for at its start.
            path = os.path.join(os.path.expanduser(folder or ""), setting.file or "")  # noqa: PTH111, PTH118
            if folder and setting.file and os.path.exists(path):  # noqa: PTH110
                values[setting.name], origins[setting.name] = path, _KEYS_DIR
    return Settings(values, origins, environment.get(_DH_GENERATOR))
