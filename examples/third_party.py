"""The three legs: somebody else grants your program access to his account.

    python examples/third_party.py                # once: asks for the user's consent, prints what is to be stored

Needs the consumer's settings only (consumer key, both private keys, Diffie-Hellman parameters), no access token. First
parties skip all this: the self-service portal gives them access token and secret.
"""

from ibkr_oauth import OAuthClient, Session, config


def main() -> None:
    settings = config.from_env()
    consumer = settings.consumer()
    with OAuthClient(consumer, **settings.options()) as oauth:
        request_token = oauth.request_token()
        print("The user opens this page, logs in and grants access:")
        print(request_token.authorization_url())
        redirect = input("Then paste the address that the browser was sent to: ")
        access_token = oauth.access_token(request_token, redirect)

    # Permanent until the user withdraws it. Store both parts, the secret as you store a password. It is a ciphertext
    # that only your encryption key opens, and still nothing to show: this program prints its length.
    print(f"access token {access_token.token}, secret of {len(access_token.secret)} characters")

    with Session(consumer, access_token, **settings.options()) as ibkr:
        for account in ibkr.get("/portfolio/accounts").raise_for_status().json():
            print("may now act for", account["accountId"])


if __name__ == "__main__":
    main()
