"""Orders: each is processed exactly as often as it arrived; and the read endpoints beside them."""

from __future__ import annotations

from typing import Any

import pytest

from ibkr_oauth.sandbox import Sandbox

from .reference import Client, Reply

LIMIT = {"conid": 265598, "side": "BUY", "orderType": "LMT", "price": 165, "quantity": 10, "tif": "GTC", "cOID": "a1"}
MARKET = {"conid": 8314, "side": "sell", "orderType": "MKT", "quantity": 2.5, "cOID": "a2"}


@pytest.fixture
def account(client: Client) -> str:
    """With an open brokerage session, and the accounts read."""
    client.open_brokerage()
    accounts: list[str] = client.get("/iserver/accounts").json()["accounts"]
    return accounts[0]


def place(client: Client, account: str, *orders: dict[str, Any]) -> Reply:
    return client.post(f"/iserver/account/{account}/orders", body={"orders": list(orders)})


def test_place_and_list(client: Client, account: str) -> None:
    accepted = place(client, account, LIMIT, MARKET)
    assert accepted.status == 200
    first, second = accepted.json()
    assert (first["order_status"], first["local_order_id"]) == ("Submitted", "a1")
    assert second["order_status"] == "Filled"
    one, two = client.sandbox.orders
    assert (one.coid, one.conid, one.side, one.quantity, one.price, one.tif) == ("a1", 265598, "BUY", 10, 165, "GTC")
    assert (two.coid, two.side, two.price, two.tif, two.status) == ("a2", "SELL", None, "DAY", "Filled")
    assert [str(one.order_id), str(two.order_id)] == [first["order_id"], second["order_id"]]
    listed = client.get("/iserver/account/orders").json()["orders"]
    assert [(row["orderId"], row["order_ref"], row["status"]) for row in listed] == [
        (one.order_id, "a1", "Submitted"),
        (two.order_id, "a2", "Filled"),
    ]
    trades = client.get("/iserver/account/trades").json()
    assert [(trade["order_ref"], trade["size"], trade["side"]) for trade in trades] == [("a2", 2.5, "S")]


def test_what_came_twice_is_there_twice(client: Client, account: str) -> None:
    for _ in range(2):
        assert place(client, account, LIMIT).status == 200
    assert [order.coid for order in client.sandbox.orders] == ["a1", "a1"]


def test_a_cut_connection_tells_nothing_but_the_book_does(client: Client, account: str) -> None:
    client.sandbox.drop_connection(before_processing=True)
    client.sandbox.drop_connection()
    for coid, processed in (("never", False), ("once", True)):
        with pytest.raises(OSError, match=r"reset|closed"):
            place(client, account, LIMIT | {"cOID": coid})
        assert (coid in [order.coid for order in client.sandbox.orders]) == processed
        assert client.sandbox.requests[-1].processed == processed


def test_modify_and_cancel(client: Client, account: str) -> None:
    number = place(client, account, LIMIT).json()[0]["order_id"]
    path = f"/iserver/account/{account}/order/{number}"
    assert client.post(path, body={"price": 170.5}).json()[0]["order_id"] == number
    assert client.send("PUT", path, body={"quantity": 11}).status == 200
    (order,) = client.sandbox.orders
    assert (order.price, order.quantity, order.coid, order.modifications) == (170.5, 11, "a1", 2)
    cancelled = client.send("DELETE", path).json()
    assert (cancelled["msg"], cancelled["order_id"]) == ("Request was submitted", order.order_id)
    assert client.sandbox.orders[0].status == "Cancelled"
    assert client.post(path, body={"price": 1}).error == f"Bad Request: order {number} is Cancelled"
    assert client.get(path).status == 405


def test_a_filled_order_stays_filled(client: Client, account: str) -> None:
    number = place(client, account, MARKET).json()[0]["order_id"]
    assert client.send("DELETE", f"/iserver/account/{account}/order/{number}").status == 200
    assert client.sandbox.orders[0].status == "Filled"


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({}, "side must be BUY or SELL"),
        (LIMIT | {"side": "HOLD"}, "side must be BUY or SELL"),
        (LIMIT | {"orderType": ""}, "orderType is missing"),
        (LIMIT | {"quantity": 0}, "quantity must be more than 0"),
        (LIMIT | {"quantity": "10"}, "quantity must be a number"),
        (LIMIT | {"conid": None}, "conid must be a number"),
        (LIMIT | {"price": True}, "price must be a number"),
        ("buy", "an order must be an object"),
    ],
)
def test_wrong_orders(client: Client, account: str, order: Any, words: str) -> None:
    """One wrong order, and none of them is accepted."""
    refused = place(client, account, LIMIT, order)
    assert (refused.status, refused.error) == (400, f"Bad Request: {words}")
    assert client.sandbox.orders == ()


def test_wrong_requests(client: Client, account: str) -> None:
    assert client.post(f"/iserver/account/{account}/orders", body={"orders": []}).status == 400
    assert client.post(f"/iserver/account/{account}/orders", body=[]).status == 400
    assert place(client, "DU0000000", LIMIT).status == 400
    assert client.send("DELETE", f"/iserver/account/{account}/order/1").error == "Bad Request: OrderID 1 doesn't exist"


def test_the_session_comes_first(client: Client) -> None:
    assert place(client, "DU1", LIMIT).error == "Bad Request: no bridge"
    client.open_brokerage()
    for reply in (
        place(client, "DU1", LIMIT),
        client.get("/iserver/account/orders"),
        client.get("/iserver/account/trades"),
        client.send("DELETE", "/iserver/account/DU1/order/1"),
    ):
        assert (reply.status, reply.error) == (500, "Please query /accounts first")


def test_orders_of_another_account_are_not_seen(client: Client, account: str) -> None:
    place(client, account, LIMIT)
    sandbox = client.sandbox
    client.access_token, client.encrypted_secret = sandbox.grant(client.consumer_key, username="other")
    client.get_live_session_token()
    client.open_brokerage()
    client.get("/iserver/accounts")
    assert client.get("/iserver/account/orders").json()["orders"] == []


def test_the_book_is_bounded(monkeypatch: pytest.MonkeyPatch, client: Client, account: str) -> None:
    monkeypatch.setattr("ibkr_oauth.sandbox.orders._REMEMBERED", 3)
    place(client, account, *(LIMIT | {"cOID": str(number)} for number in range(5)))
    assert [order.coid for order in client.sandbox.orders] == ["2", "3", "4"]


# --- Reading --------------------------------------------------------------------------------------


def test_balances(client: Client) -> None:
    account = client.get("/portfolio/accounts").json()[0]["accountId"]
    summary = client.get(f"/portfolio/{account}/summary").json()
    assert summary["accountcode"]["value"] == account
    ledger = client.get(f"/portfolio/{account}/ledger").json()
    assert ledger["USD"]["netliquidationvalue"] == summary["netliquidation"]["amount"] > 0
    for path in ("summary", "ledger"):
        foreign = client.get(f"/portfolio/DU0000000/{path}")
        assert (foreign.status, foreign.body) == (401, b"")


def test_performance(client: Client) -> None:
    account = client.get("/portfolio/accounts").json()[0]["accountId"]
    answer = client.post("/pa/performance", body={"acctIds": [account], "period": "1D"}).json()
    assert answer["included"] == [account]
    assert len(answer["nav"]["dates"]) == len(answer["nav"]["data"][0]["navs"]) == 3
    assert client.post("/pa/performance", body={"acctIds": ["DU0"]}).status == 400


def test_contracts_and_scanner(client: Client) -> None:
    assert client.get("/iserver/secdef/search", query="symbol=AAPL").status == 400
    client.open_brokerage()
    found = client.get("/iserver/secdef/search", query="symbol=aapl").json()
    assert [row["conid"] for row in found] == ["265598"]
    assert client.post("/iserver/secdef/search", body={"symbol": "SPY"}).json()[0]["symbol"] == "SPY"
    assert client.get("/iserver/secdef/search").error == "Bad Request: symbol is missing"
    scan = {"instrument": "STK", "type": "TOP_PERC_GAIN", "location": "STK.US.MAJOR", "filter": []}
    assert len(client.post("/iserver/scanner/run", body=scan).json()["contracts"]) == 3
    assert client.post("/iserver/scanner/run", body={}).status == 400


def test_nothing_is_there_at_first() -> None:
    sandbox = Sandbox()
    assert (sandbox.orders, sandbox.counts, sandbox.requests, sandbox.web_sockets) == ((), {}, (), ())
