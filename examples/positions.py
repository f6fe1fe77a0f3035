"""What is in my accounts? Reads the portfolio, and could not change anything if it wanted to.

    python examples/positions.py

Shows: settings from the environment, `read_only`, paging, `raise_for_status`.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from ibkr_oauth import Session


def positions(ibkr: Session, account: str) -> Iterator[dict[str, Any]]:
    """Page after page, up to the first empty one."""
    for page in count():
        rows = ibkr.get(f"/portfolio/{account}/positions/{page}").raise_for_status().json()
        if not rows:
            return
        yield from rows


def main() -> None:
    # read_only: whatever could place, change or cancel something is refused here, before it is sent.
    # brokerage="never": /portfolio needs no brokerage session, so nobody's TWS is disturbed.
    with Session.from_env(read_only=True, brokerage="never") as ibkr:
        for account in ibkr.get("/portfolio/accounts").raise_for_status().json():
            print(account["accountId"])
            for row in positions(ibkr, account["accountId"]):
                print(f"  {row['contractDesc']:<20} {row['position']:>10g} {row['mktValue']:>14,.2f} {row['currency']}")


if __name__ == "__main__":
    main()
