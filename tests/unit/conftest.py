"""Sessions that talk to a service without a network, on a clock that never waits."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest
from support.drivers import DRIVERS, Driver
from support.fake_clock import FakeClock
from support.fake_service import AsyncCarrier, Carrier, FakeService

from ibkr_oauth import AccessToken, Consumer, LiveSessionToken, Secret

CONSUMER_KEY = "VECTORKEY"
#: The live session token that sessions of these tests begin with.
TOKEN = bytes(range(100, 120))

Opener: TypeAlias = Callable[..., Any]


@pytest.fixture(scope="session")
def consumer(pem: dict[str, str]) -> Consumer:
    return Consumer(CONSUMER_KEY, pem["signing"], pem["encryption"], pem["dh_params"])


@pytest.fixture(scope="session")
def secret(vectors: dict[str, Any]) -> dict[str, str]:
    """Of the access token: what the portal gives, and what it means."""
    chosen: dict[str, str] = vectors["access_token_secrets"]["typical_32"]
    return chosen


@pytest.fixture(scope="session")
def access_token(secret: dict[str, str]) -> AccessToken:
    return AccessToken("a1b2c3d4e5f60718293a", secret["encrypted_base64"])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(consumer: Consumer, secret: dict[str, str], clock: FakeClock) -> FakeService:
    return FakeService(consumer, bytes.fromhex(secret["plaintext_hex"]), clock)


def live_token(
    service: FakeService, access_token: AccessToken, lifetime: float = 86_400.0, owner: dict[str, Any] | None = None
) -> LiveSessionToken:
    """One that the service knows: `lifetime` in seconds from now. `owner`: what it says of whom it belongs to."""
    service.add_token(TOKEN)
    owner: dict[str, Any] = {"consumer_key": CONSUMER_KEY, "access_token": access_token} | (owner or {})
    expires_at = datetime.fromtimestamp(service.now() + lifetime, UTC)
    return LiveSessionToken(Secret(TOKEN).reveal_base64(), expires_at, **owner)


@pytest.fixture(params=sorted(DRIVERS))
def kind(request: pytest.FixtureRequest) -> str:
    """Sync or async: every test that opens a session runs with both."""
    kind: str = request.param
    return kind


@pytest.fixture
def open_session(
    kind: str, consumer: Consumer, access_token: AccessToken, service: FakeService, clock: FakeClock
) -> Iterator[Callable[..., Driver]]:
    """Makes a session that has a token already, unless `live_session_token=None` or `lifetime` (seconds) say otherwise.

    Without pacing, so that `clock.slept` has the back-off alone."""
    opened: list[Driver] = []

    def make(lifetime: float = 86_400.0, **options: Any) -> Driver:
        if "live_session_token" not in options:
            options["live_session_token"] = live_token(service, access_token, lifetime)
        options.setdefault("clock", clock)
        options.setdefault("pacing", None)
        carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](service)
        driver = DRIVERS[kind](consumer, access_token, transport=carrier, **options)
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.shut()
