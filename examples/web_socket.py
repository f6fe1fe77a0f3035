"""IBKR's web socket: quotes of two contracts, as they come, over a connection that mends itself.

    pip install 'ibkr_oauth[websockets]'
    python examples/web_socket.py

Settings come from the environment (IBKR_OAUTH_CONSUMER_KEY, ...), see `AsyncSession.from_env`.
"""

import asyncio

from ibkr_oauth import AsyncSession
from ibkr_oauth.integrations.websockets import WebSocket

CONTRACTS = {"265598": "AAPL", "8314": "IBM"}
QUOTES = 4


async def main() -> None:
    async with AsyncSession.from_env() as ibkr:
        await ibkr.get("/iserver/accounts")  # opens the brokerage session, and has to come before market data
        async with WebSocket(ibkr) as ws:
            for contract in CONTRACTS:
                await ws.send(f'smd+{contract}+{{"fields":["31","84","86"]}}')  # last, bid, ask
            quotes = 0
            async for message in ws:
                match message:
                    case {"topic": str(topic), "31": last} if topic.startswith("smd+"):
                        print(CONTRACTS[topic.removeprefix("smd+")], last)
                        quotes += 1
                    case {"topic": "ibkr_oauth", "args": {"event": "reconnected", "away": away}}:
                        print(f"connected again after {away} s: quotes of that time are missing")
                    case {"topic": "sts", "args": {"authenticated": False}}:
                        print("the brokerage session has ended")
                if quotes >= QUOTES:
                    break


if __name__ == "__main__":
    asyncio.run(main())
