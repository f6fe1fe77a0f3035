"""requests, signed by ibkr_oauth: accounts and positions.

    pip install 'ibkr_oauth[requests]'
    python examples/adapters_requests.py

Settings come from the environment (IBKR_OAUTH_CONSUMER_KEY, ...), see `Session.from_env`.
"""

import os

import requests
from urllib3 import Retry

from ibkr_oauth import Session
from ibkr_oauth.integrations.requests import IBKRAdapter, IBKRAuth


def main() -> None:
    verify = os.environ.get("IBKR_OAUTH_CA_FILE") or True
    with Session.from_env() as ibkr, requests.Session() as http:
        # A single call.
        answer = requests.get(f"{ibkr.base_url}/portfolio/accounts", auth=IBKRAuth(ibkr), verify=verify, timeout=20)
        answer.raise_for_status()

        # Many calls over one connection, repeated where that does no harm, each attempt newly signed.
        retries = Retry(3, status_forcelist=[502, 503, 504], allowed_methods=["GET"], backoff_factor=0.5)
        http.mount(f"{ibkr.base_url}/", IBKRAdapter(ibkr, max_retries=retries))
        for account in answer.json():
            positions = http.get(f"{ibkr.base_url}/portfolio/{account['id']}/positions/0", verify=verify, timeout=20)
            positions.raise_for_status()
            print(account["id"], len(positions.json()), "positions")


if __name__ == "__main__":
    main()
