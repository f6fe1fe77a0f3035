"""`ibkr-oauth wait`: until a consumer key is active, and no longer than it makes sense."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import islice

import pytest
from support.cli_account import Account, calls

from ibkr_oauth import errors
from ibkr_oauth.cli import wait

from .conftest import Run

KEY = "COMMANDER"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What it would have slept; it does not, and not for ever."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) < 10, "it waits for what does not come"

    monkeypatch.setattr(wait.time, "sleep", sleep)
    return pauses


def then(monkeypatch: pytest.MonkeyPatch, slept: list[float], after: int, act: Callable[[], object]) -> None:
    """Does something after so many pauses."""

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == after:
            act()

    monkeypatch.setattr(wait.time, "sleep", sleep)


def test_an_active_key_ends_it_at_once(run: Run, account: Account, slept: list[float]) -> None:
    done = run("wait")
    assert done.exit_code == 0
    assert "is active" in done.stdout
    assert slept == []
    assert account.kept_token() is not None
    account.check_no_secret(done.output)


def test_it_waits_until_the_key_is_active(
    run: Run, account: Account, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.sandbox.deactivate_consumer(KEY)
    then(monkeypatch, slept, 3, lambda: account.sandbox.activate(KEY))
    done = run("wait")
    assert done.exit_code == 0
    assert len(slept) == 3
    assert 48 <= slept[0] <= 72
    assert 96 <= slept[1] <= 144
    assert 240 <= slept[2] <= 360
    assert done.stderr.count("not active yet") == 3
    assert "2 looks since" in done.stderr
    assert "next at" in done.stderr
    assert done.stderr.count(errors.ConsumerNotActive.default_advice) == 1
    assert calls(account.sandbox, "/oauth/live_session_token") == 4


def test_as_json_it_says_what_it_took(
    run: Run, account: Account, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.sandbox.deactivate_consumer(KEY)
    then(monkeypatch, slept, 2, lambda: account.sandbox.activate(KEY))
    done = run("wait", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert (document["active"], document["attempts"]) == (True, 3)


def test_a_token_that_is_kept_is_no_proof(run: Run, account: Account, slept: list[float]) -> None:
    assert run("get", "/portfolio/accounts").exit_code == 0
    account.sandbox.deactivate_consumer(KEY)
    assert run("wait", "--timeout", "0").exit_code == 4
    assert slept == []


def test_pauses_stay_within_5_to_15_minutes() -> None:
    pauses = list(islice(wait._pauses(None), 200))
    assert all(240 <= pause <= 900 for pause in pauses[2:])
    assert len(set(pauses[-20:])) > 1  # jitter
    assert max(pauses) > 700
    assert list(islice(wait._pauses(7.0), 3)) == [7.0, 7.0, 7.0]


@pytest.mark.parametrize("mode", [[], ["--json"]])
def test_a_time_out_is_the_last_refusal(run: Run, account: Account, slept: list[float], mode: list[str]) -> None:
    account.sandbox.deactivate_consumer(KEY)
    done = run("wait", "--timeout", "10", "--interval", "60", *mode)
    assert done.exit_code == 4
    assert slept == []
    if mode:
        document = json.loads(done.stdout)
        assert (document["active"], document["attempts"]) == (False, 1)
        assert document["error"]["code"] == "consumer_not_active"
    else:
        assert "gave up" in done.stderr


def break_token(account: Account, environment: dict[str, str]) -> int:
    environment["IBKR_OAUTH_ACCESS_TOKEN"] = "a1b2c3d4e5f60718293a"
    return 4


def break_keys(account: Account, environment: dict[str, str]) -> int:
    """Swapped."""
    environment["IBKR_OAUTH_SIGNING_KEY"] = str(account.keys / "private_encryption.pem")
    environment["IBKR_OAUTH_ENCRYPTION_KEY"] = str(account.keys / "private_signature.pem")
    return 3


def break_secret(account: Account, environment: dict[str, str]) -> int:
    environment["IBKR_OAUTH_ACCESS_TOKEN_SECRET"] = account.secret[:-3]
    return 3


def break_certificate(account: Account, environment: dict[str, str]) -> int:
    del environment["IBKR_OAUTH_CA_FILE"]
    return 7


@pytest.mark.parametrize("mode", [[], ["--json"]])
@pytest.mark.parametrize("spoil", [break_token, break_keys, break_secret, break_certificate])
def test_mistakes_that_waiting_cannot_cure_end_it_at_once(
    run: Run,
    account: Account,
    slept: list[float],
    mode: list[str],
    spoil: Callable[[Account, dict[str, str]], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import os

    environment = dict(account.environment)
    code = spoil(account, environment)
    monkeypatch.setattr(os, "environ", environment)
    done = run("wait", *mode)
    assert done.exit_code == code, done.output
    assert slept == []
    assert not mode or json.loads(done.stdout)["error"]["exit_code"] == code
    account.check_no_secret(done.output)


def test_a_disturbance_is_sat_out(
    run: Run, account: Account, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.sandbox.fail_next(429, times=1, path="/oauth/live_session_token")
    done = run("wait", "--interval", "5")
    assert done.exit_code == 0, done.output
    assert slept == [5.0]
    assert "no answer to build on (rate_limited)" in done.stderr


def test_ctrl_c_ends_it(account: Account) -> None:
    account.sandbox.deactivate_consumer(KEY)
    with subprocess.Popen(
        [sys.executable, "-m", "ibkr_oauth", "wait"],
        env=account.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "not active yet: 1 look since" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors_shown = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors_shown.endswith("stopped\n")
    assert "Traceback" not in errors_shown
