"""A consumer whose public halves are registered with a sandbox, and a client of ours that talks to it over TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.proof_sandbox import SandboxProcess
from support.rogue import Rogue

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


@pytest.fixture
def reach(sandbox: Sandbox, consumer: Consumer, access_token: AccessToken) -> dict[str, Any]:
    """What a session needs to reach the sandbox, as keyword arguments."""
    return {
        "consumer": consumer,
        "access_token": access_token,
        "base_url": sandbox.base_url,
        "ca_file": sandbox.ca_file,
    }


# --- For single modules --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def far_sandbox(pem: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """In another process, which Python's lock of this one does not hold up."""
    with SandboxProcess(pem, tmp_path_factory.mktemp("sandbox") / "keys") as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(params=["http", "https"])
def rogue(request: pytest.FixtureRequest, authority: trustme.CA) -> Iterator[Rogue]:
    """A server that misbehaves as it is told to."""
    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    with Rogue(tls) as running:
        yield running
