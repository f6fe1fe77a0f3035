"""`ibkr-oauth sign`: a header that another client sends, and the sandbox verifies."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse

import pytest
from support.cli_account import Account

from .conftest import Run


def fetch(account: Account, url: str, headers: dict[str, str]) -> int:
    """With the standard library's client, which knows nothing of OAuth."""
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=str(account.sandbox.ca_file))
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port or 443, context=context, timeout=10)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.request("GET", path, headers={"User-Agent": "test", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("form", ["/portfolio/accounts", "portfolio/accounts", "whole"])
def test_the_header_is_accepted(run: Run, account: Account, form: str) -> None:
    url = f"{account.sandbox.base_url}/portfolio/accounts"
    done = run("sign", "get", url if form == "whole" else form)
    assert (done.exit_code, done.stderr) == (0, "")
    name, _, value = done.stdout.strip().partition(": ")
    assert name == "Authorization"
    assert fetch(account, url, {name: value}) == 200
    assert fetch(account, url, {name: value}) == 401  # once


def test_as_json(run: Run, account: Account) -> None:
    done = json.loads(run("sign", "GET", "/portfolio/accounts?a=b%20c", "--json").stdout)
    assert done["url"] == f"{account.sandbox.base_url}/portfolio/accounts?a=b%20c"
    assert fetch(account, done["url"], done["headers"]) == 200


@pytest.mark.parametrize("rule", ["omit", "merge", "url"])
def test_rules_for_queries(run: Run, account: Account, rule: str) -> None:
    done = json.loads(run("sign", "GET", "/portfolio/accounts?a=b%20c", "--query-signing", rule, "--json").stdout)
    assert fetch(account, done["url"], done["headers"]) == 200
    assert account.sandbox.requests[-1].query_rule == rule


def test_the_token_is_agreed_on_once(run: Run, account: Account) -> None:
    for _ in range(2):
        assert run("sign", "GET", "/portfolio/accounts").exit_code == 0
    assert [one.path for one in account.sandbox.requests] == ["/v1/api/oauth/live_session_token"]


def test_another_host_gets_no_signature(run: Run, account: Account) -> None:
    done = run("sign", "GET", "https://evil.example/v1/api/portfolio/accounts")
    assert done.exit_code == 9
    assert done.stdout == ""
    assert "not below this session's base_url" in done.stderr
    account.check_no_secret(done.stderr)
