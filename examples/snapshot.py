"""Last, bid and ask of some symbols.

    python examples/snapshot.py AAPL IBM

Shows: a brokerage session that opens by itself, and market data, whose first answer only starts the flow.
"""

import sys
import time
from typing import Any

from ibkr_oauth import Session

FIELDS = {"31": "last", "84": "bid", "86": "ask"}


def find_contract(ibkr: Session, symbol: str) -> int | None:
    """The number (conid) of the first contract with exactly this symbol."""
    found = ibkr.get("/iserver/secdef/search", {"symbol": symbol}).raise_for_status().json()
    return next((int(row["conid"]) for row in found if row["symbol"] == symbol), None)


def snapshot(ibkr: Session, conids: list[int], patience: float = 10.0) -> list[dict[str, Any]]:
    """Rows with a last price, or what there is of them after `patience` seconds."""
    # IBKR takes lists as one text with commas, not as a repeated parameter.
    params = {"conids": ",".join(map(str, conids)), "fields": ",".join(FIELDS)}
    until = time.monotonic() + patience
    while True:
        rows: list[dict[str, Any]] = ibkr.get("/iserver/marketdata/snapshot", params).raise_for_status().json()
        if all("31" in row for row in rows) or time.monotonic() > until:
            return rows
        time.sleep(0.2)


def main() -> None:
    with Session.from_env(read_only=True) as ibkr:
        symbols = {symbol.upper(): find_contract(ibkr, symbol.upper()) for symbol in sys.argv[1:] or ["AAPL"]}
        for symbol, conid in symbols.items():
            if conid is None:
                print(f"{symbol}: no such contract")
        names = {conid: symbol for symbol, conid in symbols.items() if conid is not None}
        for row in snapshot(ibkr, list(names)) if names else []:
            print(names[row["conid"]], *(f"{name} {row.get(field, '-')}" for field, name in FIELDS.items()))


if __name__ == "__main__":
    main()
