"""How often a call goes out, and when: whatever the service does, and for every kind of call."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.drivers import DRIVERS
from support.fake_clock import FakeClock
from support.fake_service import (
    BAD_SIGNATURE,
    EMPTY_401,
    LST,
    STALE,
    Answer,
    AsyncCarrier,
    Carrier,
    FakeService,
    Scripted,
)

from ibkr_oauth import AccessToken, Consumer, LiveSessionToken, Secret
from ibkr_oauth.errors import (
    ConnectError,
    IBKROAuthError,
    OutcomeUnknown,
    ProxyError,
    Timeout,
    TLSError,
    TransportError,
)

PATH = "/portfolio/DU1/summary"

#: What may come instead of a good answer, and whether the request was, or may have been, processed.
UNSENT: list[Any] = [
    lambda: ConnectError("refused"),
    lambda: ProxyError("refused"),
    lambda: Timeout("slow", sent=False),
]
SENT: list[Any] = [
    lambda: Timeout("slow", sent=True),
    lambda: OutcomeUnknown("reset", sent=True),
    lambda: TransportError("broken", sent=True),
    *(lambda status=status: Answer(status) for status in (502, 503, 504)),
]
FINAL: list[Any] = [
    lambda: TLSError("unknown authority"),
    *(lambda status=status: Answer(status, {"error": "no"}) for status in (200, 201, 400, 403, 404, 500)),
    lambda: EMPTY_401,
]
REFUSED: list[Any] = [lambda: STALE, lambda: BAD_SIGNATURE]
LIMITED: list[Any] = [lambda: Answer(429, ""), lambda: Answer(429, "", headers=(("Retry-After", "7"),))]
WHATEVER = st.lists(st.sampled_from(UNSENT + SENT + FINAL + REFUSED + LIMITED), max_size=7)


@pytest.fixture(scope="module")
def owner(pem: dict[str, str], vectors: dict[str, Any]) -> tuple[Consumer, AccessToken, bytes]:
    secret = vectors["access_token_secrets"]["typical_32"]
    consumer = Consumer("VECTORKEY", pem["signing"], pem["encryption"], pem["dh_params"])
    return (
        consumer,
        AccessToken("a1b2c3d4e5f60718293a", secret["encrypted_base64"]),
        bytes.fromhex(secret["plaintext_hex"]),
    )


class World:
    """A session without pacing, its service, and the one call that is made."""

    def __init__(
        self, owner: tuple[Consumer, AccessToken, bytes], kind: str, script: list[Scripted], retries: int
    ) -> None:
        consumer, access_token, secret = owner
        self.clock = FakeClock()
        self.service = FakeService(consumer, secret, self.clock)
        self.service.add_token(bytes(range(20)))
        self.service.script(PATH, *script)
        token = LiveSessionToken(Secret(bytes(range(20))).reveal_base64())
        carrier = {"sync": Carrier, "async": AsyncCarrier}[kind](self.service)
        options: dict[str, Any] = {"clock": self.clock, "pacing": None, "retries": retries, "live_session_token": token}
        self.driver = DRIVERS[kind](consumer, access_token, transport=carrier, **options)

    def call(self, method: str) -> Any:
        """The answer, or the error."""
        try:
            return self.driver._plain(self.driver.session.request)(method, PATH)
        except IBKROAuthError as error:
            return error
        finally:
            self.driver.shut()


def moments(world: World) -> list[float]:
    return [seen.at for seen in world.service.of(PATH)]


def may_have_been_processed(each: Any) -> bool:
    """Anything but a refusal that comes before the request is looked at."""
    if isinstance(each, Answer):
        return each not in (STALE, BAD_SIGNATURE)
    return bool(each.sent)


@pytest.mark.parametrize("kind", sorted(DRIVERS))
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@given(makers=WHATEVER, retries=st.integers(0, 4))
def test_what_changes_something_is_never_processed_twice(
    owner: tuple[Consumer, AccessToken, bytes], kind: str, method: str, makers: list[Any], retries: int
) -> None:
    script = [make() for make in makers]
    world = World(owner, kind, script, retries)
    world.call(method)
    sent = world.service.count(PATH)
    outcomes = [*script, Answer()][:sent]
    assert sum(may_have_been_processed(each) for each in outcomes) <= 1
    assert not any(may_have_been_processed(each) for each in outcomes[:-1]), "nothing follows what may have happened"
    nonces = [seen.oauth["oauth_nonce"] for seen in world.service.seen if seen.oauth]
    assert len(nonces) == len(set(nonces))


@pytest.mark.parametrize("kind", sorted(DRIVERS))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@given(makers=WHATEVER, retries=st.integers(0, 4))
def test_what_only_reads_is_tried_so_often_and_no_more(
    owner: tuple[Consumer, AccessToken, bytes], kind: str, method: str, makers: list[Any], retries: int
) -> None:
    """Once, and again for each retry; and once more for a token that was renewed."""
    world = World(owner, kind, [make() for make in makers], retries)
    outcome = world.call(method)
    sent = world.service.count(PATH)
    renewed = world.service.count(LST)
    assert 1 <= sent <= 1 + retries + 1
    assert renewed <= 1
    assert sent <= 1 + retries + renewed
    if isinstance(outcome, (ConnectError, Timeout)):
        assert sent >= 1 + retries, "given up too early"


#: The transport never says of what may be repeated that its outcome is unknown.
PASSING = [make for make in UNSENT + SENT if not isinstance(make(), OutcomeUnknown)]


@given(retries=st.integers(0, 7), fails=st.integers(0, 9), what=st.sampled_from(PASSING))
def test_the_waits_double(owner: tuple[Consumer, AccessToken, bytes], retries: int, fails: int, what: Any) -> None:
    """From a quarter of a second on, each up to twice as long, so that callers do not come back together."""
    world = World(owner, "sync", [what() for _ in range(fails)], retries)
    world.call("GET")
    times = moments(world)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(waits) == min(retries, fails)
    for number, wait in enumerate(waits):
        assert 0.25 * 2**number <= wait < 0.5 * 2**number


@given(st.floats(0, 30), st.integers(1, 3))
@example(30.0, 1)
def test_nobody_comes_back_before_the_service_allows(
    owner: tuple[Consumer, AccessToken, bytes], seconds: float, fails: int
) -> None:
    refusal = Answer(429, "", headers=(("Retry-After", repr(seconds)),))
    world = World(owner, "sync", [refusal] * fails, retries=3)
    assert world.call("GET").status_code == 200
    times = moments(world)
    assert len(times) == 1 + fails
    assert all(later - earlier > seconds - 1e-6 for earlier, later in itertools.pairwise(times))


@given(st.floats(30.1, 1e9))
def test_a_long_penalty_is_told_at_once(owner: tuple[Consumer, AccessToken, bytes], seconds: float) -> None:
    world = World(owner, "sync", [Answer(429, "", headers=(("Retry-After", repr(seconds)),))], retries=3)
    assert world.call("GET").status_code == 429
    assert moments(world) == [moments(world)[0]]
    assert world.clock.slept == []


@given(st.sampled_from(UNSENT + SENT), st.sampled_from(["GET", "POST"]), st.integers(0, 2))
def test_an_error_says_whether_the_request_may_have_been_processed(
    owner: tuple[Consumer, AccessToken, bytes], what: Any, method: str, retries: int
) -> None:
    outcome = World(owner, "sync", [what() for _ in range(9)], retries).call(method)
    if isinstance(outcome, IBKROAuthError):
        assert outcome.sent is what().sent
    else:
        assert outcome.status_code in (502, 503, 504)
