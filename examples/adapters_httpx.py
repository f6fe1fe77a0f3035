"""httpx, signed by ibkr_oauth: the same call with both of its clients.

    pip install 'ibkr_oauth[httpx]'
    python examples/adapters_httpx.py

Settings come from the environment (IBKR_OAUTH_CONSUMER_KEY, ...), see `Session.from_env`.
"""

import asyncio
import os
import ssl

import httpx

from ibkr_oauth import AsyncSession, Session
from ibkr_oauth.integrations.httpx import IBKRAuth


def main(trust: ssl.SSLContext) -> None:
    with (
        Session.from_env() as ibkr,
        httpx.Client(base_url=ibkr.base_url, auth=IBKRAuth(ibkr), verify=trust) as http,
    ):
        answer = http.get("/portfolio/accounts").raise_for_status()
        print("Client:", [account["id"] for account in answer.json()])


async def main_async(trust: ssl.SSLContext) -> None:
    async with (
        AsyncSession.from_env() as ibkr,
        httpx.AsyncClient(base_url=ibkr.base_url, auth=IBKRAuth(ibkr), verify=trust) as http,
    ):
        answer = (await http.get("/portfolio/accounts")).raise_for_status()
        print("AsyncClient:", [account["id"] for account in answer.json()])


if __name__ == "__main__":
    context = ssl.create_default_context(cafile=os.environ.get("IBKR_OAUTH_CA_FILE") or None)
    main(context)
    asyncio.run(main_async(context))
