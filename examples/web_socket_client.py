"""IBKR's web socket with a client of your own choice: here websocket-client, on threads, without asyncio.

    pip install ibkr_oauth websocket-client
    python examples/web_socket_client.py

Settings come from the environment (IBKR_OAUTH_CONSUMER_KEY, ...), see `Session.from_env`.
"""

import json

import websocket

from ibkr_oauth import Session
from ibkr_oauth.integrations import web_socket


def main() -> None:
    with Session.from_env() as ibkr:
        parameters = web_socket(ibkr)  # address, cookie, User-Agent: for one connection
        socket = websocket.create_connection(**parameters.for_websocket_client(), **parameters.for_run_forever())
        try:
            socket.send("spl+{}")  # profit and loss
            topic = ""
            while topic != "spl":
                message = json.loads(socket.recv())
                topic = message.get("topic", "")
                print(topic or message)
        finally:
            socket.close()


if __name__ == "__main__":
    main()
