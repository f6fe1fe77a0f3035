"""Live session tokens in a file: who may read it, what is in it, and what a session makes of it."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.drivers import Driver
from support.fake_clock import FakeClock
from support.fake_service import (
    ACCOUNTS,
    BASE,
    EMPTY_401,
    INIT,
    LST,
    NO_DH,
    NOT_AUTHENTICATED,
    STATUS,
    Answer,
    Carrier,
    FakeService,
)

from ibkr_oauth import AccessToken, LiveSessionToken, Secret, Session, files
from ibkr_oauth.errors import ConnectError, SessionClosed, StoreError
from ibkr_oauth.stores import FileStore, default_path

from .conftest import CONSUMER_KEY, live_token

Open = Callable[..., Driver]
VALUE = "ZGVmZ2hpamtsbW5vcHFyc3R1dnc="
PATH = "/portfolio/accounts"
POSTED = "/pa/performance"


def token(value: str = VALUE, hours: float = 20) -> LiveSessionToken:
    return LiveSessionToken(
        value, datetime.now(UTC) + timedelta(hours=hours), consumer_key="ABCDEFGHI", access_token="a1b2"
    )


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "deep" / "down" / "paper.json")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def load(store: FileStore) -> LiveSessionToken | None:
    return store.load("ABCDEFGHI", "a1b2", BASE)


# --- The file ------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(store: FileStore) -> None:
    assert load(store) is None
    saved = token()
    store.save(saved, BASE)
    loaded = load(store)
    assert loaded is not None
    assert loaded == saved
    assert (loaded.consumer_key, loaded.access_token, loaded.expires_at) == ("ABCDEFGHI", "a1b2", saved.expires_at)
    assert store.clear()
    assert load(store) is None
    assert not store.clear()


def test_only_its_owner_can_read_it(store: FileStore) -> None:
    """And see that it is there, whatever the process's mask says."""
    mask = os.umask(0)
    try:
        with store.lock():
            store.save(token(), BASE)
    finally:
        os.umask(mask)
    folder = Path(store.path).parent
    for path in (store.path, f"{store.path}.lock"):
        assert mode_of(path) == 0o600
    for made in (folder, folder.parent):
        assert mode_of(made) == 0o700
    assert names(folder) == ["paper.json", "paper.json.lock"]


@pytest.mark.parametrize(
    ("consumer_key", "access_token", "base_url"),
    [("OTHERKEYS", "a1b2", BASE), ("ABCDEFGHI", "c3d4", BASE), ("ABCDEFGHI", "a1b2", "https://localhost:5000/v1/api")],
)
def test_that_of_others_is_not_ours(store: FileStore, consumer_key: str, access_token: str, base_url: str) -> None:
    store.save(token(), BASE)
    assert store.load(consumer_key, access_token, base_url) is None


def test_a_slash_at_the_end_of_the_address_means_nothing(store: FileStore) -> None:
    store.save(token(), f"{BASE}/")
    assert load(store) is not None


GOOD = {
    "version": 1,
    "base_url": BASE,
    "consumer_key": "ABCDEFGHI",
    "access_token": "a1b2",
    "live_session_token": VALUE,
    "expires_at": "2126-01-01T00:00:00+00:00",
}
DAMAGED = {
    "empty": b"",
    "cut": json.dumps(GOOD).encode()[:-20],
    "no JSON": b"\xff\xfe\x00",
    "a list": b"[]",
    "nested": b"[" * 60_000,
    "too long": b'"' + b"x" * 100_000 + b'"',
    "no version": json.dumps({**GOOD, "version": None}).encode().replace(b"version", b""),
    "no token": json.dumps({**GOOD, "live_session_token": None}).encode(),
    "a short token": json.dumps({**GOOD, "live_session_token": VALUE[:8]}).encode(),
    "a token that is a number": json.dumps({**GOOD, "live_session_token": 5}).encode(),
    "no date": json.dumps({**GOOD, "expires_at": "tomorrow"}).encode(),
    "no time zone": json.dumps({**GOOD, "expires_at": "2126-01-01T00:00:00"}).encode(),
    "a number for a date": json.dumps({**GOOD, "expires_at": 5}).encode(),
}


def put(store: FileStore, content: bytes, mode: int = 0o600) -> None:
    path = Path(store.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def test_the_good_one_of_these_is_good(store: FileStore) -> None:
    put(store, json.dumps(GOOD).encode())
    assert load(store) == LiveSessionToken(VALUE)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_not_used(store: FileStore, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    put(store, content)
    assert load(store) is None
    assert VALUE[:8] not in caplog.text
    assert f"{store.path} is damaged" in caplog.text
    store.save(token(), BASE)
    assert load(store) is not None


def test_one_of_a_later_version_is_not_used(store: FileStore, caplog: pytest.LogCaptureFixture) -> None:
    """And is no damage."""
    put(store, json.dumps({**GOOD, "version": 2}).encode())
    assert load(store) is None
    assert caplog.text == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_one_that_others_may_read_is_not_used(store: FileStore, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    """Who may write to it could slip in a token that he knows."""
    put(store, json.dumps(GOOD).encode(), mode)
    assert load(store) is None
    assert f"others may read or change {store.path}" in caplog.text
    store.save(token(), BASE)
    assert load(store) is not None
    assert mode_of(store.path) == 0o600


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = FileStore(tmp_path / "file" / "paper.json")
    for use in (lambda: load(store), lambda: store.save(token(), BASE), store.clear, store.try_lock):
        with pytest.raises(StoreError, match="could not be") as caught:
            use()
        assert store.path in caught.value.message
        assert caught.value.__cause__ is None
    with pytest.raises(StoreError), store.lock():
        pass


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    tmp_path /= "paper.json"
    tmp_path.mkdir()
    store = FileStore(tmp_path)
    with pytest.raises(StoreError):
        load(store)
    with pytest.raises(StoreError):
        store.save(token(), BASE)
    assert names(tmp_path.parent) == [tmp_path.name]


def test_a_write_that_fails_leaves_the_former_one(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing beside it."""
    saved = token()
    store.save(saved, BASE)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{step}", fail)
            with pytest.raises(StoreError, match="No space left"):
                store.save(token("cGxhbnRlZHBsYW50ZWRwbGFudGU="), BASE)
        assert load(store) == saved
        assert names(Path(store.path).parent) == ["paper.json"]


def test_a_link_stays_one(store: FileStore, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    Path(store.path).parent.mkdir(parents=True)
    Path(store.path).symlink_to(real)
    store.save(token(), BASE)
    assert Path(store.path).is_symlink()
    assert load(store) is not None
    assert real.exists()


def test_no_secret_shows(store: FileStore) -> None:
    saved = token()
    assert saved.reveal() not in repr(store) + repr(saved) + saved.fingerprint


def test_fingerprints(store: FileStore) -> None:
    """Alike for the same token only."""
    assert token().fingerprint == LiveSessionToken(VALUE).fingerprint
    assert token().fingerprint != token("cGxhbnRlZHBsYW50ZWRwbGFudGU=").fingerprint
    assert len(bytes.fromhex(token().fingerprint)) == 8


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.local/state/ibkr-oauth/tokens/paper.json"),
        ("linux", {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/ibkr-oauth/tokens/paper.json"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/ibkr-oauth/tokens/paper.json"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/ibkr-oauth/tokens/paper.json"),
    ],
)
def test_where_tokens_are_kept(
    platform: str, environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert default_path("paper", environment) == expected


def test_a_profile_names_no_other_folder() -> None:
    assert default_path("../live account", {"XDG_STATE_HOME": "/s"}) == "/s/ibkr-oauth/tokens/___live_account.json"


# --- The lock ------------------------------------------------------------------------------------


def test_one_has_the_lock(store: FileStore) -> None:
    other = FileStore(store.path)
    assert store.try_lock()
    assert not other.try_lock()
    assert not store.try_lock()  # nor twice
    store.unlock()
    store.unlock()
    assert other.try_lock()
    other.unlock()


def test_waiting_for_the_lock(store: FileStore) -> None:
    other = FileStore(store.path)
    assert store.try_lock()
    waited = threading.Event()

    def wait() -> None:
        with other.lock():
            waited.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not waited.wait(0.1)
    store.unlock()
    assert waited.wait(10)
    thread.join()


def test_the_lock_ends_with_its_process(store: FileStore) -> None:
    """However that ends."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        store.try_lock()
        os.write(tell, b".")
        os.read(os.pipe()[0], 1)  # for ever
    assert os.read(ready, 1) == b"."
    assert not store.try_lock()
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert store.try_lock()
    store.unlock()
    for descriptor in (ready, tell):
        os.close(descriptor)


def test_a_forked_child_does_not_give_back_its_parents_lock(store: FileStore) -> None:
    assert store.try_lock()
    child = os.fork()
    if child == 0:
        store.unlock()
        os._exit(0 if not store.try_lock() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not FileStore(store.path).try_lock()
    store.unlock()


# --- Sessions ------------------------------------------------------------------------------------


@pytest.fixture
def kept(store: FileStore, service: FakeService, access_token: AccessToken) -> LiveSessionToken:
    """A token of an earlier run, in the store and good."""
    service.keeps_former = True
    saved = live_token(service, access_token)
    store.save(saved, BASE)
    return saved


def in_store(store: FileStore, access_token: AccessToken) -> LiveSessionToken:
    loaded = store.load(CONSUMER_KEY, access_token.token, BASE)
    assert loaded is not None
    return loaded


def plant(store: FileStore, service: FakeService, access_token: AccessToken, value: bytes, hours: float = 24) -> int:
    """Another process has agreed on this token; returns its number."""
    service.add_token(value)
    expires_at = datetime.fromtimestamp(service.now(), UTC) + timedelta(hours=hours)
    text = Secret(value).reveal_base64()
    other = LiveSessionToken(text, expires_at, consumer_key=CONSUMER_KEY, access_token=access_token)
    store.save(other, BASE)
    return len(service.tokens) - 1


def test_the_first_run_keeps_its_token(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken
) -> None:
    events: list[Any] = []
    ibkr = open_session(live_session_token=None, store=store, on_event=events.append)
    ibkr.get(PATH)
    assert service.count(LST) == 1
    assert in_store(store, access_token) == ibkr.session._flow.credential.token
    assert ibkr.health().counters.renewals == 1
    assert [event.message[:24] for event in events] == ["live session token until"]


def test_the_next_run_goes_on_with_it(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken
) -> None:
    events: list[Any] = []
    ibkr = open_session(live_session_token=None, store=store, on_event=events.append)
    assert ibkr.get(PATH).status_code == 200
    assert service.count(LST) == 0
    assert service.seen[-1].token == 0
    assert ibkr.health().counters.renewals == 0
    assert [(event.kind, "from the store" in event.message) for event in events] == [("opened", True)]


def test_without_a_store_there_is_none(open_session: Open, service: FakeService, kept: LiveSessionToken) -> None:
    open_session(live_session_token=None).get(PATH)
    assert service.count(LST) == 1


@pytest.mark.parametrize("hours", [-1, 0.001])
def test_one_that_has_expired_is_replaced(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, hours: float
) -> None:
    plant(store, service, access_token, bytes(20), hours)
    open_session(live_session_token=None, store=store).get(PATH)
    assert service.count(LST) == 1
    assert in_store(store, access_token).expires_at.timestamp() > service.now() + 3600


@pytest.mark.parametrize("path", [PATH, POSTED])
def test_a_refused_one_is_replaced_for_all(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken, path: str
) -> None:
    """The first call of a run, with a token that did not outlive the night."""
    service.expire_tokens()
    ibkr = open_session(live_session_token=None, store=store)
    send = ibkr.get if path == PATH else lambda path: ibkr.post(path, json={})
    assert send(path).status_code == 200
    assert service.count(LST) == 1
    assert service.count("/tickle") == 0, "the token that was refused is not asked about"
    assert [seen.token for seen in service.of(path)] == [0, 1]
    service.seen.clear()
    assert open_session(live_session_token=None, store=store).get(PATH).status_code == 200
    assert [seen.token for seen in service.seen] == [1]


def test_a_refusal_first_looks_into_the_store(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, kept: LiveSessionToken
) -> None:
    """Another process has renewed it: nobody needs to again."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    service.expire_tokens()
    number = plant(store, service, access_token, bytes(20), hours=1)
    assert ibkr.get(PATH).status_code == 200
    assert service.count(LST) == 0
    assert service.of(PATH)[-1].token == number


@pytest.mark.parametrize("hours", [23, 24, 30])
def test_what_ended_one_token_may_have_ended_the_other(
    open_session: Open,
    service: FakeService,
    store: FileStore,
    access_token: AccessToken,
    kept: LiveSessionToken,
    hours: float,
) -> None:
    """A POST is answered by one more attempt at most, so the store's token is tried with a tickle."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    plant(store, service, access_token, bytes(20), hours)
    service.expire_tokens()
    assert ibkr.post(POSTED, json={}).status_code == 200
    assert service.count(LST) == 1
    assert service.count(POSTED) == 2
    assert in_store(store, access_token) == ibkr.session._flow.credential.token


def test_a_token_that_could_not_be_asked_about_is_tried(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, kept: LiveSessionToken
) -> None:
    """Where the tickle brings no answer, the call itself tells."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    service.expire_tokens()
    number = plant(store, service, access_token, bytes(20), hours=1)
    service.script("/tickle", ConnectError("refused"))
    assert ibkr.post(POSTED, json={}).status_code == 200
    (probe,) = service.of("/tickle")
    assert (probe.method, probe.token, probe.timeout) == ("POST", number, service.of(POSTED)[-1].timeout)
    assert service.count(LST) == 0
    assert service.of(POSTED)[-1].token == number


@pytest.mark.parametrize("status", [401, 410])
def test_a_token_that_is_gone_as_well_is_not_taken(
    open_session: Open,
    service: FakeService,
    store: FileStore,
    access_token: AccessToken,
    kept: LiveSessionToken,
    status: int,
) -> None:
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    service.expire_tokens()
    plant(store, service, access_token, bytes(20), hours=1)
    service.script("/tickle", *[Answer(status, {"error": "gone"})] * 2)  # asked again with the lock in hand
    assert ibkr.post(POSTED, json={}).status_code == 200
    assert service.count(LST) == 1


def test_nobody_asks_about_a_token_that_follows_an_expired_one(
    open_session: Open,
    service: FakeService,
    store: FileStore,
    access_token: AccessToken,
    kept: LiveSessionToken,
    clock: FakeClock,
) -> None:
    """Nothing was refused: the store's next token is as good as its word."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    clock.advance(86_400)
    number = plant(store, service, access_token, bytes(20))
    assert ibkr.get(PATH).status_code == 200
    assert service.of(PATH)[-1].token == number
    assert (service.count("/tickle"), service.count(LST)) == (0, 0)


def test_the_keep_alive_learns_of_another_ones_token(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, kept: LiveSessionToken
) -> None:
    """A tickle was refused: the store's token is taken though it ends earlier, since ours has ended already."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    service.expire_tokens()
    number = plant(store, service, access_token, bytes(20), hours=1)
    steps = ibkr.session._flow.heard_tickle((401, [], b'{"error":"Access token expired"}', 1000, True))
    assert steps is not None
    ibkr._plain(ibkr.session._run_quietly)(steps)
    ibkr.settle()
    assert service.count(LST) == 0
    assert ibkr.get(PATH).status_code == 200
    assert service.of(PATH)[-1].token == number


def test_the_store_is_no_reason_for_a_refusal_of_another_kind(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken
) -> None:
    """A foreign account is answered by an empty 401."""
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    service.script("/portfolio/DU9/summary", EMPTY_401)
    assert ibkr.get("/portfolio/DU9/summary").status_code == 401
    assert service.count(LST) == 0


def test_a_due_one_is_renewed_once_for_two_sessions(
    open_session: Open,
    service: FakeService,
    store: FileStore,
    access_token: AccessToken,
    kept: LiveSessionToken,
    clock: FakeClock,
) -> None:
    service.keeps_former = True
    both = [open_session(live_session_token=None, store=FileStore(store.path)) for _ in range(2)]
    for ibkr in both:
        ibkr.get(PATH)
    clock.advance(86_400 - 600)
    for ibkr in both:
        ibkr.get(PATH)
        ibkr.settle()
    assert service.count(LST) == 1
    tokens = [ibkr.session._flow.credential.token for ibkr in both]
    assert tokens[0] == tokens[1] == in_store(store, access_token)


def test_refresh_agrees_on_another_one(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, kept: LiveSessionToken
) -> None:
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.refresh()
    assert service.count(LST) == 1
    assert in_store(store, access_token) != kept


def test_a_session_waits_for_the_lock(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, clock: FakeClock
) -> None:
    """And takes what its holder has left."""
    other = FileStore(store.path)
    assert other.try_lock()

    class Waiting(FileStore):
        def try_lock(self) -> bool:
            if len(clock.slept) == 3:
                plant(store, service, access_token, bytes(20))
                other.unlock()
            return super().try_lock()

    ibkr = open_session(live_session_token=None, store=Waiting(store.path))
    ibkr.get(PATH)
    assert clock.slept == [0.05] * 3
    assert service.count(LST) == 0
    assert other.try_lock()  # given back
    other.unlock()


def test_nobody_waits_for_ever(
    open_session: Open, service: FakeService, store: FileStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its holder may have been stopped."""
    unlocked: list[object] = []

    class Counting(FileStore):
        def unlock(self) -> None:
            unlocked.append(self)
            super().unlock()

    other = FileStore(store.path)
    assert other.try_lock()
    assert open_session(live_session_token=None, store=Counting(store.path)).get(PATH).status_code == 200
    assert unlocked == []
    assert 59 < sum(clock.slept) < 61
    assert "locked for 60 s" in caplog.text
    assert not store.try_lock()  # it was not given back by whom it does not belong to
    other.unlock()


def test_closing_ends_the_wait(
    open_session: Open, service: FakeService, store: FileStore, clock: FakeClock, kind: str
) -> None:
    with store.lock():

        class Closing(FileStore):
            def try_lock(self) -> bool:
                ibkr.session._flow.closed = True
                return super().try_lock()

        ibkr = open_session(live_session_token=None, store=Closing(store.path))
        with pytest.raises(SessionClosed):
            ibkr.get(PATH)
        ibkr.session._flow.closed = False
    assert service.count(LST) == 0


def test_the_lock_is_given_back_after_a_failure(open_session: Open, service: FakeService, store: FileStore) -> None:
    service.script(LST, ConnectError("no way"))
    ibkr = open_session(live_session_token=None, store=store, retries=0)
    with pytest.raises(ConnectError):
        ibkr.get(PATH)
    assert store.try_lock()
    store.unlock()


@pytest.mark.parametrize("fails", ["load", "save", "try_lock"])
def test_a_store_that_fails_costs_no_call(
    open_session: Open, service: FakeService, store: FileStore, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    unlocked: list[object] = []

    class Failing(FileStore):
        def unlock(self) -> None:
            unlocked.append(self)
            super().unlock()

    def fail(*_: object) -> Any:
        raise StoreError("the disk is gone")

    setattr(Failing, fails, fail)
    assert open_session(live_session_token=None, store=Failing(store.path)).get(PATH).status_code == 200
    assert service.count(LST) == 1
    assert "the disk is gone" in caplog.text
    assert {record.levelno for record in caplog.records if "disk" in record.message} == {logging.WARNING}
    assert len(unlocked) == (fails != "try_lock")


def test_what_is_no_store(open_session: Open) -> None:
    with pytest.raises(TypeError, match=r"store must be a stores\.FileStore"):
        open_session(store="/tmp/token.json")


def test_a_token_of_ones_own_comes_first(
    open_session: Open, service: FakeService, store: FileStore, access_token: AccessToken, kept: LiveSessionToken
) -> None:
    plant(store, service, access_token, bytes(20))
    open_session(store=store).get(PATH)
    assert service.of(PATH)[-1].token == 0


def test_the_brokerage_session_of_another_process_is_not_logged_out(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken
) -> None:
    """A script that runs beside a service that trades."""
    first, second = (open_session(live_session_token=None, store=FileStore(store.path)) for _ in range(2))
    for ibkr in (first, second):
        assert ibkr.get(ACCOUNTS).status_code == 200
    assert service.count(INIT) == 1
    assert second.brokerage.state == "open"
    second.close()
    assert service.count("/logout") == 0
    assert first.get(ACCOUNTS).status_code == 200
    first.close()
    assert service.count("/logout") == 1


def test_who_opens_it_anew_logs_it_out(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken
) -> None:
    first, second = (open_session(live_session_token=None, store=FileStore(store.path)) for _ in range(2))
    for ibkr in (first, second):
        ibkr.get(ACCOUNTS)
    first.close()
    assert second.get(ACCOUNTS).status_code == 200
    assert service.count(INIT) == 2
    second.close()
    assert service.count("/logout") == 2


@pytest.mark.parametrize("answer", [NOT_AUTHENTICATED, NO_DH, Answer(400, {"error": "Bad Request: no bridge"})])
def test_a_status_that_says_nothing_costs_nothing(
    open_session: Open, service: FakeService, store: FileStore, answer: Answer
) -> None:
    service.script(STATUS, answer)
    ibkr = open_session(live_session_token=None, store=store)
    assert ibkr.get(ACCOUNTS).status_code == 200
    assert (service.count(LST), service.count(INIT)) == (1, 1)


def test_taking_over_asks_nobody(
    open_session: Open, service: FakeService, store: FileStore, kept: LiveSessionToken
) -> None:
    ibkr = open_session(live_session_token=None, store=store, on_competing="take")
    ibkr.get(ACCOUNTS)
    assert service.paths() == [INIT, ACCOUNTS]


def test_calls_do_not_look_into_the_store(
    open_session: Open, store: FileStore, kept: LiveSessionToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    ibkr = open_session(live_session_token=None, store=store)
    ibkr.get(PATH)
    for name in ("load", "save", "try_lock"):
        monkeypatch.delattr(FileStore, name)
    assert ibkr.get(PATH).status_code == 200


def test_a_forked_child_uses_the_store(
    consumer: Any, access_token: AccessToken, service: FakeService, store: FileStore, clock: FakeClock
) -> None:
    """Its parent holds the lock at that moment, and then gives it back."""
    assert store.try_lock()
    session = Session(
        consumer, access_token, store=store, transport=Carrier(service), clock=clock, pacing=None, keep_alive=None
    )
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if session.get(PATH).status_code == 200 and sum(clock.slept) > 59 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.unlock()
    assert in_store(store, access_token) is not None


def test_private_means_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    for mode, private in ((0o600, True), (0o400, True), (0o700, True), (0o644, False), (0o602, False)):
        path.chmod(mode)
        with path.open() as opened:
            assert files.is_private(opened.fileno()) is private


def test_a_lock_that_cannot_be_had_keeps_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def fail(descriptor: int, *, wait: bool) -> bool:
        opened.append(descriptor)
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", fail)
    with pytest.raises(OSError, match="No locks available"):
        files.FileLock(str(tmp_path / "lock")).acquire()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
