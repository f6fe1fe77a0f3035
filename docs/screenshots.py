"""Pictures of the pages between a program and its access token, for third-party.md: `make screenshots`.

A real login against the sandbox, in Chromium. The callback is the one that the page is written with, so the pictures
differ from run to run by little more than the sandbox's password.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ibkr_oauth import Consumer, DHParameters, login
from ibkr_oauth.keygen import generate_keys
from ibkr_oauth.sandbox import Sandbox

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))
from support import chromium  # noqa: E402 - found there
from support.pages import Pages  # noqa: E402

CALLBACK = "http://127.0.0.1:20000/"
CONSUMER_KEY = "YOURFIRM"
DESKTOP, PHONE = (640, 600), (360, 640)


def main(directory: Path) -> None:
    with TemporaryDirectory() as made, Sandbox(tls=True) as sandbox:
        keys = generate_keys(Path(made, "keys"), dh_params=DHParameters.rfc7919()).directory
        public = ("public_signature.pem", "public_encryption.pem", "dhparam.pem")
        sandbox.register(CONSUMER_KEY, *((keys / name).read_text() for name in public), callback=CALLBACK)
        private = ("private_signature.pem", "private_encryption.pem", "dhparam.pem")
        consumer = Consumer(CONSUMER_KEY, *(keys / name for name in private))
        with (
            login.start(consumer, CALLBACK, base_url=sandbox.base_url, ca_file=sandbox.ca_file) as started,
            chromium.launched(sandbox) as browser,
            Pages.opened(browser) as pages,
        ):
            pages.goto(started.authorization_url)
            pages.shoot(directory / "login.png", DESKTOP)
            pages.fill("Password", "guess")
            pages.press_button("Log in")
            pages.expect_alert("Not the one above")
            pages.shoot(directory / "login-again.png", DESKTOP)
            pages.log_in()
            pages.shoot(directory / "consent.png", DESKTOP)
            pages.shoot(directory / "consent-dark.png", DESKTOP, dark=True)
            pages.shoot(directory / "consent-phone.png", PHONE)
            pages.press_button("Approve")
            pages.expect_heading("Access granted")
            pages.shoot(directory / "granted.png", (640, 220))
            started.finish(timeout=10)
            pages.goto(started.authorization_url)
            pages.shoot(directory / "gone.png", (640, 400))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "images")
