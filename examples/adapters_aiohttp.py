"""aiohttp, signed by ibkr_oauth: several calls at once.

    pip install 'ibkr_oauth[aiohttp]'
    python examples/adapters_aiohttp.py

Settings come from the environment (IBKR_OAUTH_CONSUMER_KEY, ...), see `AsyncSession.from_env`.
"""

import asyncio
import os
import ssl

import aiohttp

from ibkr_oauth import AsyncSession
from ibkr_oauth.integrations.aiohttp import ibkr_middleware


async def main() -> None:
    trust = ssl.create_default_context(cafile=os.environ.get("IBKR_OAUTH_CA_FILE") or None)
    async with (
        AsyncSession.from_env() as ibkr,
        aiohttp.ClientSession(
            middlewares=[ibkr_middleware(ibkr)],
            connector=aiohttp.TCPConnector(ssl=trust),
            raise_for_status=True,
        ) as http,
    ):
        async with http.get(f"{ibkr.base_url}/portfolio/accounts") as answer:
            accounts = [account["id"] for account in await answer.json()]

        async def positions(account: str) -> int:
            async with http.get(f"{ibkr.base_url}/portfolio/{account}/positions/0") as answer:
                return len(await answer.json())

        counts = await asyncio.gather(*(positions(account) for account in accounts))
        for account, count in zip(accounts, counts, strict=True):
            print(account, count, "positions")


if __name__ == "__main__":
    asyncio.run(main())
