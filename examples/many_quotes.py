"""Quotes of many symbols, with 64 calls under way at once.

    python examples/many_quotes.py AAPL IBM SPY ...

Shows: one `AsyncSession` for all tasks. Start as many as you like: the session lets them out at the pace that IBKR
allows, 10 a second unless you say otherwise.
"""

import argparse
import asyncio
from typing import Any

from ibkr_oauth import AsyncSession

IN_FLIGHT = 64
IN_ONE_SNAPSHOT = 50


async def find_contracts(ibkr: AsyncSession, symbols: list[str]) -> dict[int, str]:
    """Contract numbers (conids) and their symbols; unknown symbols are left out."""
    places = asyncio.Semaphore(IN_FLIGHT)

    async def find(symbol: str) -> int | None:
        async with places:
            answer = await ibkr.get("/iserver/secdef/search", {"symbol": symbol})
        rows = answer.raise_for_status().json()
        return next((int(row["conid"]) for row in rows if row["symbol"] == symbol), None)

    found = await asyncio.gather(*map(find, symbols))
    return {conid: symbol for conid, symbol in zip(found, symbols, strict=True) if conid is not None}


async def last_prices(ibkr: AsyncSession, conids: list[int]) -> dict[int, str]:
    """Last price of each contract that has one, as IBKR writes it; asks again while the flow of data starts."""
    prices: dict[int, str] = {}
    for _ in range(20):
        params = {"conids": ",".join(map(str, conids)), "fields": "31"}
        answer = await ibkr.get("/iserver/marketdata/snapshot", params)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()
        prices |= {row["conid"]: row["31"] for row in rows if "31" in row}
        if len(prices) == len(conids):
            break
        await asyncio.sleep(0.2)
    return prices


async def main() -> None:
    arguments = argparse.ArgumentParser(description="Last prices of many symbols.")
    arguments.add_argument("symbols", nargs="+", type=str.upper)
    arguments.add_argument("--per-second", type=float, default=10.0, help="calls that may go out in a second")
    wanted = arguments.parse_args()

    async with AsyncSession.from_env(read_only=True, pacing=wanted.per_second) as ibkr:
        names = await find_contracts(ibkr, wanted.symbols)
        conids = list(names)
        batches = [conids[start : start + IN_ONE_SNAPSHOT] for start in range(0, len(conids), IN_ONE_SNAPSHOT)]
        for prices in await asyncio.gather(*(last_prices(ibkr, batch) for batch in batches)):
            for conid, price in prices.items():
                print(f"{names[conid]:<6} {price}")
        print(f"{len(names)} of {len(wanted.symbols)} symbols, {ibkr.health().counters.requests} requests")


if __name__ == "__main__":
    asyncio.run(main())
