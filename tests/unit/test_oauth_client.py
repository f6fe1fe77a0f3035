"""`OAuthClient`: what it refuses before anything is sent, and where it sends users."""

from __future__ import annotations

from typing import Any

import pytest

from ibkr_oauth import Consumer, InvalidValue, OAuthClient, SessionClosed
from ibkr_oauth.signing import SignedRequest


def test_settings_that_cannot_work(consumer: Consumer) -> None:
    for options, words in (
        ({"parameters_in": "body"}, "'header' or 'json'"),
        ({"query_signing": "both"}, "one of omit, merge, url, rfc5849"),
        ({"base_url": "https://host/?a=b"}, "has a query"),
        ({"base_url": "http://host/"}, "plain http is for this machine only"),
        ({"timeout": 0}, "timeout"),
    ):
        wrong: dict[str, Any] = options
        with pytest.raises(InvalidValue, match=words):
            OAuthClient(consumer, **wrong)


def test_one_body_and_no_more(consumer: Consumer) -> None:
    with OAuthClient(consumer, base_url="https://127.0.0.1:9/") as client:
        request = SignedRequest("POST", "https://127.0.0.1:9/x", {}, b"a=b")
        with pytest.raises(InvalidValue, match="not both"):
            client.send(request, json={})


def test_nothing_is_sent_after_closing(consumer: Consumer) -> None:
    client = OAuthClient(consumer, base_url="https://127.0.0.1:9/")
    client.close()
    client.close()
    with pytest.raises(SessionClosed, match="closed"):
        client.request_token()


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.ibkr.com/v1/api", "https://www.interactivebrokers.com/authorize"),
        ("https://7.api.ibkr.com/v1/api", "https://www.interactivebrokers.com/authorize"),
        ("https://127.0.0.1:5000/v1/api", "https://127.0.0.1:5000/authorize"),
        ("https://api.ibkr.com.example.com/v1/api", "https://api.ibkr.com.example.com/authorize"),
    ],
)
def test_where_users_grant_access(consumer: Consumer, base_url: str, expected: str) -> None:
    with OAuthClient(consumer, base_url=base_url) as client:
        assert client.authorize_url == expected
