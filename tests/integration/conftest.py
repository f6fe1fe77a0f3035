"""A consumer whose public halves are registered with a sandbox, and a client of ours that talks to it over TLS."""

from collections.abc import Iterator

import pytest

from ibkr_oauth import AccessToken, Consumer, OAuthClient
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "VECTORKEY"


@pytest.fixture(scope="session")
def consumer(pem: dict[str, str]) -> Consumer:
    return Consumer(CONSUMER_KEY, pem["signing"], pem["encryption"], pem["dh_params"])


def register(sandbox: Sandbox, pem: dict[str, str], consumer_key: str = CONSUMER_KEY) -> None:
    sandbox.register(consumer_key, pem["signing_public"], pem["encryption_public"], pem["dh_params"])


@pytest.fixture
def sandbox(pem: dict[str, str]) -> Iterator[Sandbox]:
    with Sandbox(tls=True) as running:
        register(running, pem)
        yield running


@pytest.fixture
def oauth(sandbox: Sandbox, consumer: Consumer) -> Iterator[OAuthClient]:
    with OAuthClient(consumer, base_url=sandbox.base_url, ca_file=sandbox.ca_file) as client:
        yield client


@pytest.fixture
def access_token(sandbox: Sandbox) -> AccessToken:
    """As the self-service portal gives it."""
    return AccessToken(*sandbox.grant(CONSUMER_KEY))
