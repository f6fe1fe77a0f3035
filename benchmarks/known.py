"""One consumer with known answers, as ibkr_oauth and as ibind hold it. Nothing of ibind is changed.

Each package is imported with the first use of what belongs to it: a process of one client has nothing else in its memory.
"""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ibind.oauth import oauth1a as ibind

    from ibkr_oauth import AccessToken, Consumer, DHParameters, LiveSessionToken, PrivateKey, _core

VECTORS = Path(__file__).parents[1] / "tests" / "vectors" / "vectors.json"


def _named(cases: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(case for case in cases if case["id"] == name)


def _from_vectors() -> dict[str, Any]:
    vectors = json.loads(VECTORS.read_text())
    token = _named(vectors["live_session_token"], "ffdhe2048/K_top_bit_set")
    return {
        "token": token,
        "header": _named(vectors["hmac_requests"], "GET_portfolio_accounts"),
        "group": vectors["dh_groups"][token["dh_group"]],
        "secret": vectors["access_token_secrets"][token["access_token_secret"]],
        "signing_pem": vectors["keys"]["signature"]["private_pkcs8_pem"],
        "encryption_pem": vectors["keys"]["encryption"]["private_pkcs8_pem"],
    }


class Known:
    """`token`, `request` and `header`: the vectors of one live session token, its request and one signed call.

    `folder` keeps them, and the keys in files, for processes that start later: they need not read all vectors.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = folder / "known.json"
        if not kept.exists():
            kept.write_text(json.dumps(_from_vectors()))
        case = json.loads(kept.read_text())
        self.token: dict[str, Any] = case["token"]
        self.request: dict[str, str] = self.token["request"]
        self.header: dict[str, str] = case["header"]
        self.group: dict[str, Any] = case["group"]
        self.secret: dict[str, str] = case["secret"]
        self.signing_pem: str = case["signing_pem"]
        self.encryption_pem: str = case["encryption_pem"]
        self.realm = self.request["realm"]

    # --- Ours ---

    @cached_property
    def signing_key(self) -> PrivateKey:
        from ibkr_oauth import PrivateKey

        return PrivateKey.load(self.signing_pem)

    @cached_property
    def encryption_key(self) -> PrivateKey:
        from ibkr_oauth import PrivateKey

        return PrivateKey.load(self.encryption_pem)

    @cached_property
    def signing_core(self) -> _core.RSAKey:
        from ibkr_oauth import _core

        return _core.RSAKey.load(self.signing_pem.encode())

    @cached_property
    def dh_params(self) -> DHParameters:
        from ibkr_oauth import DHParameters

        return DHParameters.load(self.group["pem"])

    @cached_property
    def access_token(self) -> AccessToken:
        from ibkr_oauth import AccessToken

        return AccessToken(self.request["oauth_token"], self.secret["encrypted_base64"])

    @cached_property
    def consumer(self) -> Consumer:
        return self.new_consumer()

    @cached_property
    def live_session_token(self) -> LiveSessionToken:
        from ibkr_oauth import LiveSessionToken

        return LiveSessionToken(
            self.header["live_session_token"],
            consumer_key=self.consumer.key,
            access_token=self.header["oauth_token"],
        )

    def new_consumer(self) -> Consumer:
        from ibkr_oauth import Consumer

        key = self.token["consumer_key"]
        return Consumer(key, self.signing_key, self.encryption_key, self.dh_params, realm=self.realm)

    # --- ibind's, with its keys in files, as its documentation has it ---

    @cached_property
    def ibind_config(self) -> ibind.OAuth1aConfig:
        return self.new_ibind_config()

    @cached_property
    def ibind_signing_key(self) -> Any:
        from ibind.oauth import oauth1a

        return oauth1a.read_private_key(self._file("signing.pem", self.signing_pem))

    @cached_property
    def ibind_encryption_key(self) -> Any:
        from ibind.oauth import oauth1a

        return oauth1a.read_private_key(self._file("encryption.pem", self.encryption_pem))

    def new_ibind_config(self, **settings: Any) -> ibind.OAuth1aConfig:
        from ibind.oauth import oauth1a

        return oauth1a.OAuth1aConfig(
            access_token=self.request["oauth_token"],
            access_token_secret=self.secret["encrypted_base64"],
            consumer_key=self.token["consumer_key"],
            dh_prime=self.group["prime_hex"],
            dh_generator=str(self.group["generator"]),
            encryption_key_fp=self._file("encryption.pem", self.encryption_pem),
            signature_key_fp=self._file("signing.pem", self.signing_pem),
            realm=self.realm,
            **settings,
        )

    def _file(self, name: str, text: str) -> str:
        path = self.folder / name
        if not path.exists():
            path.write_text(text)
        return str(path)

    # --- Anybody's ---

    @property
    def exponent(self) -> int:
        return int(self.token["dh_random_hex"], 16)

    def request_pairs(self, challenge: str) -> dict[str, str]:
        """The parameters of the live session token request."""
        return {
            "oauth_consumer_key": self.token["consumer_key"],
            "oauth_nonce": self.request["nonce"],
            "oauth_signature_method": "RSA-SHA256",
            "oauth_timestamp": self.request["timestamp"],
            "oauth_token": self.request["oauth_token"],
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
