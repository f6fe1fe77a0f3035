"""Keys from the vectors file, a sandbox for each test, and a client at three stages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ibkr_oauth.sandbox import Sandbox

from .reference import Client

CONSUMER = "VECTORKEY"


@dataclass(frozen=True)
class Keys:
    """Two key pairs and a group, as a consumer has them."""

    signature: RSAPrivateKey
    signature_pem: str
    encryption: RSAPrivateKey
    encryption_pem: str
    prime: int
    dh_pem: str

    def exchanged(self) -> Keys:
        """Another consumer's keys: the same pairs in each other's place."""
        return Keys(
            self.encryption,
            self.encryption_pem,
            self.signature,
            self.signature_pem,
            self.prime,
            self.dh_pem,
        )


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "vectors" / "vectors.json"
    loaded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return loaded


def _private_key(pem: str) -> RSAPrivateKey:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


@pytest.fixture(scope="session")
def keys(vectors: dict[str, Any]) -> Keys:
    signature, encryption = vectors["keys"]["signature"], vectors["keys"]["encryption"]
    group = vectors["dh_groups"]["ffdhe2048"]
    return Keys(
        _private_key(signature["private_pkcs8_pem"]),
        signature["public_spki_pem"],
        _private_key(encryption["private_pkcs8_pem"]),
        encryption["public_spki_pem"],
        int(group["prime_hex"], 16),
        group["pem"],
    )


Connect = Callable[..., Client]


@pytest.fixture
def connect(keys: Keys) -> Connect:
    """Register a consumer with a sandbox; with `granted`, hand it an access token as well."""

    def connect(sandbox: Sandbox, consumer_key: str = CONSUMER, *, granted: bool = False, **options: Any) -> Client:
        own = keys if consumer_key == CONSUMER else keys.exchanged()
        sandbox.register(consumer_key, own.signature_pem, own.encryption_pem, own.dh_pem, **options)
        client = Client(sandbox, consumer_key, own.signature, own.encryption, own.prime)
        if granted:
            client.access_token, client.encrypted_secret = sandbox.grant(consumer_key)
        return client

    return connect


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def consumer(sandbox: Sandbox, connect: Connect) -> Client:
    """A registered consumer without tokens."""
    return connect(sandbox)


@pytest.fixture
def granted(sandbox: Sandbox, connect: Connect) -> Client:
    """A consumer with an access token from the portal."""
    return connect(sandbox, granted=True)


@pytest.fixture
def client(granted: Client) -> Client:
    """A consumer with a live session token: ready for protected calls."""
    assert granted.get_live_session_token().status == 200
    return granted
