"""One session, many threads: the balances of all accounts at once.

    python examples/threads.py

Shows: a `Session` is shared, not copied. Threads that meet an expired token cause one renewal, and wait for the same
limits of pacing.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ibkr_oauth import Session


def main() -> None:
    with Session.from_env(read_only=True, brokerage="never") as ibkr, ThreadPoolExecutor(8) as threads:
        rows = ibkr.get("/portfolio/accounts").raise_for_status().json()
        accounts = [row["accountId"] for row in rows]

        def ask(account: str, what: str) -> dict[str, Any]:
            answer: dict[str, Any] = ibkr.get(f"/portfolio/{account}/{what}").raise_for_status().json()
            return answer

        summaries = {account: threads.submit(ask, account, "summary") for account in accounts}
        ledgers = {account: threads.submit(ask, account, "ledger") for account in accounts}
        for account in accounts:
            value = summaries[account].result()["netliquidation"]
            cash = ledgers[account].result()["BASE"]["cashbalance"]
            print(f"{account}: net liquidation {value['amount']:,.2f} {value['currency']}, cash {cash:,.2f}")


if __name__ == "__main__":
    main()
