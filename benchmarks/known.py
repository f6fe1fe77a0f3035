"""One consumer with known answers, as ibkr_oauth and as ibind hold it. Nothing of ibind is changed."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from ibind.oauth import oauth1a as ibind

from ibkr_oauth import AccessToken, Consumer, DHParameters, LiveSessionToken, PrivateKey, _core

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "vectors.json"


def _named(cases: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(case for case in cases if case["id"] == name)


class Known:
    """`token`, `request` and `header`: the vectors of one live session token, its request and one signed call."""

    def __init__(self, folder: Path) -> None:
        vectors = json.loads(VECTORS.read_text())
        self.token = _named(vectors["live_session_token"], "ffdhe2048/K_top_bit_set")
        self.request: dict[str, str] = self.token["request"]
        self.header = _named(vectors["hmac_requests"], "GET_portfolio_accounts")
        self.group = vectors["dh_groups"][self.token["dh_group"]]
        self.secret = vectors["access_token_secrets"][self.token["access_token_secret"]]
        keys = vectors["keys"]
        self.signing_pem: str = keys["signature"]["private_pkcs8_pem"]
        self.encryption_pem: str = keys["encryption"]["private_pkcs8_pem"]
        self._load_ours()
        self._load_ibind(folder)

    def _load_ours(self) -> None:
        self.signing_key = PrivateKey.load(self.signing_pem)
        self.encryption_key = PrivateKey.load(self.encryption_pem)
        self.signing_core = _core.RSAKey.load(self.signing_pem.encode())
        self.dh_params = DHParameters.load(self.group["pem"])
        self.access_token = AccessToken(self.request["oauth_token"], self.secret["encrypted_base64"])
        self.consumer = self.new_consumer()
        self.live_session_token = LiveSessionToken(
            self.header["live_session_token"],
            consumer_key=self.consumer.key,
            access_token=self.header["oauth_token"],
        )

    def new_consumer(self) -> Consumer:
        return Consumer(
            self.token["consumer_key"],
            self.signing_key,
            self.encryption_key,
            self.dh_params,
            realm=self.request["realm"],
        )

    def _load_ibind(self, folder: Path) -> None:
        """With its keys in files, as its documentation has it."""
        signing, encryption = folder / "signing.pem", folder / "encryption.pem"
        signing.write_text(self.signing_pem)
        encryption.write_text(self.encryption_pem)
        self._ibind_settings = {
            "access_token": self.request["oauth_token"],
            "access_token_secret": self.secret["encrypted_base64"],
            "consumer_key": self.token["consumer_key"],
            "dh_prime": self.group["prime_hex"],
            "dh_generator": str(self.group["generator"]),
            "encryption_key_fp": str(encryption),
            "signature_key_fp": str(signing),
            "realm": self.request["realm"],
        }
        self.ibind_config = self.new_ibind_config()
        self.ibind_signing_key = ibind.read_private_key(str(signing))
        self.ibind_encryption_key = ibind.read_private_key(str(encryption))

    def new_ibind_config(self, **settings: Any) -> ibind.OAuth1aConfig:
        return ibind.OAuth1aConfig(**self._ibind_settings, **settings)

    @property
    def exponent(self) -> int:
        return int(self.token["dh_random_hex"], 16)

    def request_pairs(self, challenge: str) -> dict[str, str]:
        """The parameters of the live session token request."""
        return {
            "oauth_consumer_key": self.consumer.key,
            "oauth_nonce": self.request["nonce"],
            "oauth_signature_method": "RSA-SHA256",
            "oauth_timestamp": self.request["timestamp"],
            "oauth_token": self.access_token.token,
            "diffie_hellman_challenge": challenge,
        }

    def header_pairs(self) -> dict[str, str]:
        """The parameters of the signed call."""
        return {
            "oauth_consumer_key": self.header["consumer_key"],
            "oauth_nonce": self.header["nonce"],
            "oauth_signature_method": "HMAC-SHA256",
            "oauth_timestamp": self.header["timestamp"],
            "oauth_token": self.header["oauth_token"],
        }

    @property
    def header_key(self) -> bytes:
        return b64decode(self.header["live_session_token"])
