"""`ibkr-oauth logout`."""

from __future__ import annotations

import json

from support.cli_account import Account

from ibkr_oauth import Session

from .conftest import Run


def test_it_ends_the_brokerage_session_and_keeps_the_token(run: Run, account: Account) -> None:
    with Session.from_env(keep_alive=None) as session:
        session.brokerage.open()
        assert session.status().authenticated
        done = run("logout")
        assert (done.exit_code, done.stdout) == (0, "the brokerage session is closed; tokens stay\n")
        assert not session.status().authenticated
    assert account.kept_token() is not None
    account.check_no_secret(done.output)


def test_as_json(run: Run, account: Account) -> None:
    assert json.loads(run("logout", "--json").stdout) == {"logged_out": True}
    assert account.sandbox.requests[-1].path.endswith("/logout")


def test_a_service_that_is_down_is_an_error(run: Run, account: Account) -> None:
    account.sandbox.maintenance()
    done = run("logout")
    assert done.exit_code == 8
    assert "503" in done.stderr
