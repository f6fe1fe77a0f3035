"""A consumer at a sandbox, as the environment of the command has it, and the secrets that no output may hold."""

from __future__ import annotations

import os
from pathlib import Path

from ibkr_oauth import AccessToken, Consumer, PrivateKey, stores
from ibkr_oauth.keygen import KeyFiles
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "COMMANDER"


class Account:
    """`environment`: what a user of the commands sets. `ibind`: the same in the names that users of ibind have."""

    def __init__(self, sandbox: Sandbox, keys: KeyFiles, home: Path) -> None:
        self.sandbox = sandbox
        self.keys = keys.directory
        public = ("public_signature.pem", "public_encryption.pem", "dhparam.pem")
        sandbox.register(CONSUMER_KEY, *((self.keys / name).read_text() for name in public))
        self.token, self.secret = sandbox.grant(CONSUMER_KEY)
        self.home = {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "200"}
        self.home["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        self.environment = {
            **self.home,
            "IBKR_OAUTH_CONSUMER_KEY": CONSUMER_KEY,
            "IBKR_OAUTH_ACCESS_TOKEN": self.token,
            "IBKR_OAUTH_ACCESS_TOKEN_SECRET": self.secret,
            "IBKR_OAUTH_KEYS_DIR": str(self.keys),
            "IBKR_OAUTH_BASE_URL": sandbox.base_url,
            "IBKR_OAUTH_CA_FILE": str(sandbox.ca_file),
        }

    @property
    def ibind(self) -> dict[str, str]:
        dh_params = Consumer(CONSUMER_KEY, *self._private(), self.keys / "dhparam.pem").dh_params
        return {
            **self.home,
            "IBIND_OAUTH1A_CONSUMER_KEY": CONSUMER_KEY,
            "IBIND_OAUTH1A_ACCESS_TOKEN": self.token,
            "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET": self.secret,
            "IBIND_OAUTH1A_SIGNATURE_KEY_FP": str(self.keys / "private_signature.pem"),
            "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": str(self.keys / "private_encryption.pem"),
            "IBIND_OAUTH1A_DH_PRIME": f"{dh_params.prime:x}",
            "IBIND_OAUTH1A_DH_GENERATOR": "2",
            "IBIND_OAUTH1A_REALM": "limited_poa",
            "IBIND_OAUTH1A_REST_URL": f"{self.sandbox.base_url}/",
            "IBKR_OAUTH_CA_FILE": str(self.sandbox.ca_file),
        }

    def kept_token(self) -> str | None:
        """The live session token that the commands keep."""
        store = stores.FileStore(stores.default_path("environment", self.environment))
        token = store.load(CONSUMER_KEY, self.token, self.sandbox.base_url)
        return None if token is None else token.reveal()

    def check_no_secret(self, output: str) -> None:
        """Fails where the output holds any of the account's secrets."""
        consumer = Consumer(CONSUMER_KEY, *self._private(), self.keys / "dhparam.pem")
        plain = consumer.decrypt_secret(AccessToken(self.token, self.secret)).reveal()
        secrets = [self.secret, plain.hex(), self.kept_token() or self.secret]
        for name in ("private_signature.pem", "private_encryption.pem"):
            secrets += (self.keys / name).read_text().splitlines()[1:-1]
        for secret in secrets:
            assert secret not in output
        assert 'oauth_signature="' not in output.replace('oauth_signature="…"', "")

    def _private(self) -> list[PrivateKey]:
        return [PrivateKey.load(self.keys / name) for name in ("private_signature.pem", "private_encryption.pem")]


def calls(sandbox: Sandbox, path: str) -> int:
    """How often the sandbox was asked for this path."""
    return sum(one.path.endswith(path) for one in sandbox.requests)
