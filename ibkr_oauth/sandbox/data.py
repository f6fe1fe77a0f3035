"""Plausible data for the read endpoints: one paper account per username, three positions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable

from .orders import Order

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


def positions(account: str, page: int) -> list[dict[str, object]]:
    """The answer to ``GET /portfolio/{account}/positions/{page}``; all of them on page 0."""
    return [
        {
            "acctId": account,
            "conid": conid,
            "contractDesc": symbol,
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
            "ticker": symbol,
            "fullName": symbol,
            "name": company,
            "model": "",
        }
        for conid, symbol, company, asset_class, quantity, cost, last in _HOLDINGS
        if page == 0
    ]


def last_price(conid: int) -> float:
    """What the contract was last traded at."""
    return next((holding[-1] for holding in _HOLDINGS if holding[0] == conid), 100.0)


def ticker(conid: int) -> str:
    """The symbol of the contract."""
    return next((holding[1] for holding in _HOLDINGS if holding[0] == conid), f"C{conid}")


def snapshot(conid: int, fields: Iterable[str], updated: float) -> dict[str, object]:
    """One contract's row of ``GET /iserver/marketdata/snapshot`` once its data flows.

    `updated` is the time of the quote in seconds. Unknown field numbers are left out, as the real
    service does; an unknown contract quotes at 100.
    """
    last = last_price(conid)
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


# --- Balances and performance ---------------------------------------------------------------------

_CASH = 25_000.0


def _invested() -> float:
    return sum(quantity * last for *_, quantity, _cost, last in _HOLDINGS)


def _unrealized() -> float:
    return sum(quantity * (last - cost) for *_, quantity, cost, last in _HOLDINGS)


def balances() -> dict[str, float]:
    """The balances of every account, in US dollars."""
    return {
        "availablefunds": _CASH,
        "buyingpower": 4 * _CASH,
        "equitywithloanvalue": _CASH + _invested(),
        "grosspositionvalue": _invested(),
        "netliquidation": _CASH + _invested(),
        "totalcashvalue": _CASH,
    }


def summary(account: str, now: float) -> dict[str, object]:
    """The answer to ``GET /portfolio/{account}/summary``."""
    common = {"currency": "USD", "isNull": False, "timestamp": int(now * 1000), "severity": 0}
    rows: dict[str, object] = {
        "accountcode": {**common, "amount": 0.0, "currency": None, "value": account},
        "accounttype": {**common, "amount": 0.0, "currency": None, "value": "INDIVIDUAL"},
    }
    return rows | {name: {**common, "amount": round(amount, 2), "value": None} for name, amount in balances().items()}


def ledger(account: str, now: float) -> dict[str, object]:
    """The answer to ``GET /portfolio/{account}/ledger``."""
    row = {
        "acctcode": account,
        "cashbalance": _CASH,
        "exchangerate": 1,
        "netliquidationvalue": round(_CASH + _invested(), 2),
        "realizedpnl": 0.0,
        "settledcash": _CASH,
        "stockmarketvalue": round(_invested(), 2),
        "timestamp": int(now),
        "unrealizedpnl": round(_unrealized(), 2),
    }
    return {
        "USD": {**row, "currency": "USD", "key": "LedgerList", "secondkey": "USD"},
        "BASE": {**row, "currency": "BASE", "key": "LedgerList", "secondkey": "BASE"},
    }


def performance(account: str, period: str, now: float) -> dict[str, object]:
    """The answer to ``POST /pa/performance``: three days that end today."""
    dates = [time.strftime("%Y%m%d", time.gmtime(now - days * 86400)) for days in (2, 1, 0)]
    end = _CASH + _invested()
    values = [round(end * part, 2) for part in (0.99, 0.995, 1)]
    return {
        "id": "getPerformanceData",
        "pm": "TWR",
        "included": [account],
        "currencyType": "base",
        "rc": 0,
        "nav": {
            "freq": "D",
            "dates": dates,
            "data": [
                {
                    "id": account,
                    "idType": "acctid",
                    "navs": values,
                    "baseCurrency": "USD",
                    "start": dates[0],
                    "end": dates[-1],
                    "startNAV": {"date": dates[0], "val": values[0]},
                }
            ],
            "periods": [period],
        },
        "cps": {
            "freq": "D",
            "dates": dates,
            "data": [{"id": account, "idType": "acctid", "returns": [0.0, 0.0051, 0.0101], "baseCurrency": "USD"}],
        },
    }


def profit(account: str) -> dict[str, object]:
    """What the web socket's topic ``spl`` shows: profit and loss."""
    return {
        f"{account}.Core": {
            "rowType": 1,
            "dpl": 0.0,
            "nl": round(_CASH + _invested(), 2),
            "upl": round(_unrealized(), 2),
            "el": _CASH,
            "mv": round(_invested(), 2),
        }
    }


# --- Contracts ------------------------------------------------------------------------------------


def contracts(symbol: str) -> list[dict[str, object]]:
    """The answer to ``GET /iserver/secdef/search``: the contracts whose symbol begins so."""
    return [
        {
            "conid": str(conid),
            "companyHeader": f"{name} - NASDAQ",
            "companyName": name,
            "symbol": own_symbol,
            "description": "NASDAQ",
            "restricted": None,
            "sections": [{"secType": asset_class}],
        }
        for conid, own_symbol, name, asset_class, *_ in _HOLDINGS
        if own_symbol.startswith(symbol.upper())
    ]


def scanner_rows() -> dict[str, object]:
    """The answer to ``POST /iserver/scanner/run``."""
    rows = [
        {
            "server_id": str(position),
            "column_name": "Chg%",
            "symbol": symbol,
            "conidex": str(conid),
            "con_id": conid,
            "company_name": name,
            "contract_description_1": symbol,
            "listing_exchange": "NASDAQ.NMS",
            "sec_type": asset_class,
        }
        for position, (conid, symbol, name, asset_class, *_) in enumerate(_HOLDINGS)
    ]
    return {"contracts": rows, "scan_data_column_name": "Chg%"}


# --- Orders and trades ----------------------------------------------------------------------------


def order_row(order: Order) -> dict[str, object]:
    """One row of ``GET /iserver/account/orders`` and of the web socket's topic ``sor``."""
    filled = order.quantity if order.status == "Filled" else 0.0
    return {
        "acct": order.account,
        "account": order.account,
        "conid": order.conid,
        "conidex": str(order.conid),
        "orderId": order.order_id,
        "order_ref": order.coid,
        "cashCcy": "USD",
        "orderDesc": f"{order.side.title()} {order.quantity:g} {order.order_type}, {order.tif}",
        "ticker": ticker(order.conid),
        "secType": "STK",
        "remainingQuantity": order.quantity - filled,
        "filledQuantity": filled,
        "totalSize": order.quantity,
        "status": order.status,
        "order_ccp_status": order.status,
        "origOrderType": order.order_type,
        "orderType": order.order_type,
        "price": order.price,
        "side": order.side,
        "timeInForce": order.tif,
        "lastExecutionTime_r": int(order.placed_at * 1000),
    }


def trade_row(order: Order) -> dict[str, object]:
    """One row of ``GET /iserver/account/trades`` and of the topic ``str``: a market order, filled."""
    price = last_price(order.conid)
    return {
        "execution_id": f"0000e0d5.{order.order_id:x}.01.01",
        "symbol": ticker(order.conid),
        "side": order.side[0],
        "order_description": f"{order.side.title()} {order.quantity:g} @ {price:.2f}",
        "trade_time": time.strftime("%Y%m%d-%H:%M:%S", time.gmtime(order.placed_at)),
        "trade_time_r": int(order.placed_at * 1000),
        "size": order.quantity,
        "price": f"{price:.2f}",
        "order_ref": order.coid,
        "exchange": "NASDAQ",
        "net_amount": round(order.quantity * price, 2),
        "account": order.account,
        "accountCode": order.account,
        "sec_type": "STK",
        "conid": order.conid,
        "conidEx": str(order.conid),
    }
