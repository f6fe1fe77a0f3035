"""Your own HTTP client, our signature: here the standard library's urllib.

    python examples/own_http_client.py

Shows: `Signer`, which does no I/O: it turns a request into headers for exactly this URL, once. A program that runs for
longer than a token uses `Session.sign` instead, which renews it; for requests, httpx and aiohttp there are adapters.
"""

import json
import ssl
import urllib.request
from typing import Any

from ibkr_oauth import OAuthClient, Signer, config


def get(signer: Signer, url: str, context: ssl.SSLContext) -> Any:
    """One signed GET. Sign again before you send again: each nonce is good for one request."""
    signed = signer.sign("GET", url)
    # Send signed.url byte for byte; IBKR's network edge refuses requests without a User-Agent.
    request = urllib.request.Request(signed.url, headers={**signed.headers, "User-Agent": "my-program/1.0"})
    with urllib.request.urlopen(request, timeout=20, context=context) as answer:
        return json.load(answer)


def main() -> None:
    settings = config.from_env()
    with OAuthClient(settings.consumer(), **settings.options()) as oauth:
        live_session_token = oauth.live_session_token(settings.access_token())
        signer = oauth.signer(live_session_token)
        print("live session token until", live_session_token.expires_at.isoformat(timespec="seconds"))
        context = ssl.create_default_context(cafile=settings.options().get("ca_file"))
        for account in get(signer, f"{oauth.base_url}/portfolio/accounts", context):
            print(account["accountId"])


if __name__ == "__main__":
    main()
