"""Places one order, at most once, whatever the network does.

    python examples/place_order.py BUY 1 265598 --limit 100.00
    python examples/place_order.py BUY 1 265598 --limit 100.00 --yes    # answers IBKR's questions with yes

Shows: an order number of your own (cOID), IBKR's questions before it takes an order, and what to do when nobody knows
whether the order arrived: look for it before you send anything again.
"""

import argparse
import uuid
from typing import Any

from ibkr_oauth import OutcomeUnknown, Session


def place(ibkr: Session, account: str, order: dict[str, Any], *, yes: bool, looks: int) -> dict[str, Any] | None:
    """The accepted order, or None where it was not placed. Raises OutcomeUnknown if even looking did not tell."""
    try:
        answer = ibkr.post(f"/iserver/account/{account}/orders", json={"orders": [order]})
        rows = answer.raise_for_status().json()
        while "message" in rows[0]:  # IBKR asks first: price far from the market, no market data, ...
            print(*rows[0]["message"], sep="\n")
            if not yes:
                print("not placed: say yes with --yes")
                return None
            answer = ibkr.post(f"/iserver/reply/{rows[0]['id']}", json={"confirmed": True})
            rows = answer.raise_for_status().json()
    except OutcomeUnknown as error:
        # The request went out and no answer came back. The library does not repeat it, and neither do we.
        print(f"unknown: {error.message}; looking for the order")
        found = find(ibkr, order["cOID"], looks)
        if found is None:
            raise  # not there *yet* is all that we know: look again later, with the same cOID
        return found
    return dict(rows[0])


def find(ibkr: Session, coid: str, looks: int) -> dict[str, Any] | None:
    """The order with our own number, among those of the day. The session spaces these calls by 5 s, as IBKR wants."""
    for look in range(looks):
        # IBKR keeps the list. Every second look asks for a fresh one, whose first answer is empty, and the next is not.
        params = {"force": True} if look % 2 else None
        answer = ibkr.get("/iserver/account/orders", params).raise_for_status().json()
        for order in answer["orders"]:
            if order.get("order_ref") == coid:
                return dict(order)
    return None


def main() -> None:
    arguments = argparse.ArgumentParser(description="Places one order.")
    arguments.add_argument("side", choices=["BUY", "SELL"])
    arguments.add_argument("quantity", type=float)
    arguments.add_argument("conid", type=int, help="IBKR's number of the contract")
    arguments.add_argument("--limit", type=float, help="limit price; without it a market order")
    arguments.add_argument("--yes", action="store_true", help="answer IBKR's questions with yes")
    arguments.add_argument("--looks", type=int, default=5, help="how often to look for an order that may have arrived")
    wanted = arguments.parse_args()

    order: dict[str, Any] = {
        # IBKR refuses a second order with the same number within a day: the last line of defence, on its side.
        "cOID": f"example-{uuid.uuid4().hex[:12]}",
        "conid": wanted.conid,
        "side": wanted.side,
        "quantity": wanted.quantity,
        "orderType": "MKT",
        "tif": "DAY",
    }
    if wanted.limit is not None:
        order |= {"orderType": "LMT", "price": wanted.limit}

    with Session.from_env() as ibkr:
        account = ibkr.get("/iserver/accounts").raise_for_status().json()["selectedAccount"]
        placed = place(ibkr, account, order, yes=wanted.yes, looks=wanted.looks)
        if placed is not None:
            print(f"placed as {placed.get('order_id', placed.get('orderId'))}, our number {order['cOID']}")


if __name__ == "__main__":
    main()
