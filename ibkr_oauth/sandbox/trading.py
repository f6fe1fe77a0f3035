"""Orders and trades: what a test sends once and must find exactly once."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from . import answers, data
from .answers import Answer, json_answer
from .call import Call, endpoint
from .orders import Order

_LISTED = 1_000


def place_orders(call: Call) -> Answer:
    """``POST /iserver/account/{account}/orders``: all of them, or none if one is wrong."""
    account = _own_account(call)
    described = call.arguments().get("orders")
    if not isinstance(described, list) or not described:
        raise answers.bad_request('the body must be {"orders": [{…}]}')
    orders = [_read(call, account, one) for one in cast("list[object]", described)]
    for order in orders:
        call.state.orders.put(order)
    return json_answer([_accepted(order) for order in orders])


def list_orders(call: Call) -> Answer:
    """``GET /iserver/account/orders``: the newest thousand of the account."""
    call.primed_session()
    orders = [data.order_row(order) for order in call.state.orders if order.account == call.account]
    return json_answer({"orders": orders[-_LISTED:], "snapshot": True})


def list_trades(call: Call) -> Answer:
    """``GET /iserver/account/trades``: market orders are filled at once, others never."""
    call.primed_session()
    trades = [
        data.trade_row(order)
        for order in call.state.orders
        if order.account == call.account and order.status == "Filled"
    ]
    return json_answer(trades[-_LISTED:])


def modify_order(call: Call) -> Answer:
    """``POST /iserver/account/{account}/order/{id}``: the whole order again, with what is to change."""
    order = _order(call)
    if order.status != "Submitted":
        raise answers.bad_request(f"order {order.order_id} is {order.status}")
    changed = replace(
        _read(call, order.account, call.arguments(), former=order),
        order_id=order.order_id,
        placed_at=order.placed_at,
        modifications=order.modifications + 1,
    )
    call.state.orders.put(changed)
    return json_answer([_accepted(changed)])


def cancel_order(call: Call) -> Answer:
    """``DELETE /iserver/account/{account}/order/{id}``."""
    order = _order(call)
    call.state.orders.cancel(order)
    return json_answer(
        {
            "msg": "Request was submitted",
            "order_id": order.order_id,
            "conid": order.conid,
            "account": order.account,
        }
    )


def _own_account(call: Call) -> str:
    call.primed_session()
    if call.path_values["account"] != call.account:
        raise answers.bad_request(f"account {call.path_values['account']} is not one of this user")
    return call.account


def _order(call: Call) -> Order:
    order = call.state.orders.get(_own_account(call), int(call.path_values["order"]))
    if order is None:
        raise answers.bad_request(f"OrderID {call.path_values['order']} doesn't exist")
    return order


def _accepted(order: Order) -> dict[str, object]:
    accepted: dict[str, object] = {"order_id": str(order.order_id), "order_status": order.status}
    if order.coid is not None:
        accepted["local_order_id"] = order.coid
    return {**accepted, "encrypt_message": "1"}


def _read(call: Call, account: str, described: object, former: Order | None = None) -> Order:
    """An order from what the client says; a changed one keeps what is not said. Raises `Refusal`."""
    if not isinstance(described, dict):
        raise answers.bad_request("an order must be an object")
    fields = cast("dict[str, object]", described)
    if former is not None:
        kept = {"conid": former.conid, "side": former.side, "orderType": former.order_type}
        fields = {**kept, "quantity": former.quantity, "price": former.price, "tif": former.tif, **fields}
        fields.setdefault("cOID", former.coid)
    side, order_type = str(fields.get("side", "")).upper(), str(fields.get("orderType", "")).upper()
    if side not in ("BUY", "SELL"):
        raise answers.bad_request("side must be BUY or SELL")
    if not order_type:
        raise answers.bad_request("orderType is missing")
    quantity = _number(fields, "quantity")
    if not quantity or quantity < 0:
        raise answers.bad_request("quantity must be more than 0")
    coid = fields.get("cOID")
    return Order(
        order_id=former.order_id if former else call.state.orders.next_id(),
        account=account,
        coid=None if coid is None else str(coid),
        conid=int(_number(fields, "conid") or 0),
        side=side,
        order_type=order_type,
        quantity=quantity,
        price=_number(fields, "price") if fields.get("price") is not None else None,
        tif=str(fields.get("tif", "DAY")).upper(),
        status="Filled" if order_type in ("MKT", "MARKET") else "Submitted",
        placed_at=call.state.now(),
    )


def _number(fields: dict[str, object], name: str) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise answers.bad_request(f"{name} must be a number")
    return value


ENDPOINTS = (
    endpoint("GET", "/iserver/account/orders", list_orders),
    endpoint("GET", "/iserver/account/trades", list_trades),
    endpoint("POST", r"/iserver/account/(?P<account>[^/]+)/orders", place_orders),
    endpoint("POST PUT", r"/iserver/account/(?P<account>[^/]+)/order/(?P<order>\d{1,18})", modify_order),
    endpoint("DELETE", r"/iserver/account/(?P<account>[^/]+)/order/(?P<order>\d{1,18})", cancel_order),
)
