"""Plausible data for the read endpoints: one paper account per username, three positions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

SERVER = {"serverName": "JifN19007", "serverVersion": "Build 10.25.0p, Dec 5, 2023 5:48:12 PM"}
MAC = "98:F2:B3:23:BF:A0"

_HOLDINGS = (
    # conid, ticker, company, asset class, quantity, average cost, last price
    (265598, "AAPL", "APPLE INC", "STK", 120.0, 171.25, 227.52),
    (8314, "IBM", "INTL BUSINESS MACHINES CORP", "STK", 40.0, 143.1, 221.04),
    (756733, "SPY", "SS SPDR S&P 500 ETF TRUST-US", "STK", 15.0, 489.77, 573.76),
)

_FIELDS: dict[str, Callable[[float], str]] = {
    # field number: how the last price becomes the value that the service would show
    "31": lambda last: f"{last:.2f}",
    "84": lambda last: f"{last - 0.01:.2f}",
    "86": lambda last: f"{last + 0.02:.2f}",
    "85": lambda _last: "300",
    "88": lambda _last: "500",
    "87": lambda _last: "41.2M",
    "7295": lambda last: f"{last * 0.995:.2f}",
}


def account_id(username: str) -> str:
    """The paper account of a username: always the same, different for different names."""
    number = int.from_bytes(hashlib.sha256(username.encode()).digest()[:4], "big")
    return f"DU{1_000_000 + number % 9_000_000}"


def portfolio_accounts(username: str) -> list[dict[str, object]]:
    """The answer to ``GET /portfolio/accounts``."""
    account = account_id(username)
    return [
        {
            "id": account,
            "PrepaidCrypto-Z": False,
            "PrepaidCrypto-P": False,
            "brokerageAccess": True,
            "accountId": account,
            "accountVan": account,
            "accountTitle": username,
            "displayName": username,
            "accountAlias": None,
            "accountStatus": 1_651_723_200_000,
            "currency": "USD",
            "type": "DEMO",
            "tradingType": "STKNOPT",
            "businessType": "INDEPENDENT",
            "ibEntity": "IBLLC-US",
            "faclient": False,
            "clearingStatus": "O",
            "covestor": False,
            "noClientTrading": False,
            "trackVirtualFXPortfolio": True,
            "acctCustType": "INDIVIDUAL",
            "parent": {
                "mmc": [],
                "accountId": "",
                "isMParent": False,
                "isMChild": False,
                "isMultiplex": False,
            },
            "desc": account,
        }
    ]


def brokerage_accounts(username: str, session: str) -> dict[str, object]:
    """The answer to ``GET /iserver/accounts``."""
    account = account_id(username)
    return {
        "accounts": [account],
        "acctProps": {
            account: {
                "hasChildAccounts": False,
                "supportsCashQty": True,
                "supportsFractions": True,
                "allowCustomerTime": False,
            }
        },
        "aliases": {account: account},
        "allowFeatures": {
            "showGFIS": True,
            "showEUCostReport": False,
            "allowFXConv": True,
            "allowFinancialLens": False,
            "allowMTA": True,
            "allowTypeAhead": True,
            "allowEventTrading": True,
            "snapshotRefreshTimeout": 30,
            "liteUser": False,
            "showWebNews": True,
            "research": True,
            "debugPnl": True,
            "showTaxOpt": True,
            "showImpactDashboard": True,
            "allowDynAccount": False,
            "allowCrypto": False,
            "allowedAssetTypes": "STK,CFD,OPT,FOP,WAR,FUT,BAG,CASH,IND,BOND,FUND,CMDTY",
        },
        "chartPeriods": {"STK": ["*"], "OPT": ["2h", "1d", "2d", "1w", "1m"], "FUT": ["*"]},
        "groups": [],
        "profiles": [],
        "selectedAccount": account,
        "serverInfo": SERVER,
        "sessionId": session,
        "isFT": False,
        "isPaper": True,
    }


def positions(username: str, page: int) -> list[dict[str, object]]:
    """The answer to ``GET /portfolio/{account}/positions/{page}``; all of them on page 0."""
    account = account_id(username)
    return [
        {
            "acctId": account,
            "conid": conid,
            "contractDesc": ticker,
            "position": quantity,
            "mktPrice": last,
            "mktValue": round(quantity * last, 2),
            "currency": "USD",
            "avgCost": cost,
            "avgPrice": cost,
            "realizedPnl": 0.0,
            "unrealizedPnl": round(quantity * (last - cost), 2),
            "exchs": None,
            "expiry": None,
            "putOrCall": None,
            "multiplier": None,
            "strike": 0.0,
            "exerciseStyle": None,
            "conExchMap": [],
            "assetClass": asset_class,
            "undConid": 0,
            "ticker": ticker,
            "fullName": ticker,
            "name": company,
            "model": "",
        }
        for conid, ticker, company, asset_class, quantity, cost, last in _HOLDINGS
        if page == 0
    ]


def snapshot(conid: int, fields: Iterable[str], updated: float) -> dict[str, object]:
    """One contract's row of ``GET /iserver/marketdata/snapshot`` once its data flows.

    `updated` is the time of the quote in seconds. Unknown field numbers are left out, as the real
    service does; an unknown contract quotes at 100.
    """
    last = next((holding[-1] for holding in _HOLDINGS if holding[0] == conid), 100.0)
    return {
        **snapshot_begun(conid),
        **{field: _FIELDS[field](last) for field in fields if field in _FIELDS},
        "6119": f"q{conid % 10}",
        "6509": "RpB",
        "_updated": int(updated * 1000),
        "server_id": f"q{conid % 10}",
    }


def snapshot_begun(conid: int) -> dict[str, object]:
    """The row of the first call, which only starts the flow of data."""
    return {"conid": conid, "conidEx": str(conid)}
