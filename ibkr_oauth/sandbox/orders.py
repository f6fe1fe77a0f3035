"""The orders that clients placed, in the order in which they were processed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

_FIRST_ID = 1_370_093_239
_REMEMBERED = 100_000  # the oldest fall out, so that a sandbox may run for weeks
_CHANGES = 1_000


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order that the service accepted.

    `coid` is the customer's own number for it (``cOID``), None if it had none. `status` is
    ``"Submitted"``, ``"Filled"`` (a market order, at once) or ``"Cancelled"``. `placed_at` is the
    server's time in seconds since 1970. `modifications` counts the changes that were processed.
    """

    order_id: int
    account: str
    coid: str | None
    conid: int
    side: str
    order_type: str
    quantity: float
    price: float | None
    tif: str
    status: str
    placed_at: float
    modifications: int = 0


class OrderBook:
    """Every order by its number. The service refuses a ``cOID`` that it has seen; this book takes it
    again, since a test that looks for orders sent twice must find both of them."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}
        self._ids = itertools.count(_FIRST_ID)
        self._changes: deque[Order] = deque(maxlen=_CHANGES)
        self.change_count = 0

    def __iter__(self) -> Iterator[Order]:
        """The orders in the order in which they were placed."""
        return iter(self._orders.values())

    def next_id(self) -> int:
        """The number of the next order."""
        return next(self._ids)

    def get(self, account: str, order_id: int) -> Order | None:
        """The order of that number, if it belongs to the account."""
        order = self._orders.get(order_id)
        return order if order is not None and order.account == account else None

    def put(self, order: Order) -> None:
        """Place a new order, or replace the one of the same number."""
        if len(self._orders) >= _REMEMBERED and order.order_id not in self._orders:
            del self._orders[next(iter(self._orders))]
        self._orders[order.order_id] = order
        self._changes.append(order)
        self.change_count += 1

    def cancel(self, order: Order) -> None:
        """The order ends, unless it was filled before."""
        if order.status != "Filled":
            self.put(replace(order, status="Cancelled"))

    def changes_since(self, count: int) -> list[Order]:
        """What was placed, changed or cancelled since `change_count` was so much; the newest thousand at most."""
        new = min(self.change_count - count, len(self._changes))
        return list(self._changes)[len(self._changes) - new :]
