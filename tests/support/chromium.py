"""The system's Chromium, driven by Playwright: it reaches this machine only, and takes the certificate of one sandbox."""

from __future__ import annotations

import base64
import hashlib
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, sync_playwright

from ibkr_oauth.sandbox import Sandbox


def find() -> str | None:
    """The program; None where there is none, which `csrc/tools/system.sh browser` mends."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


@contextmanager
def launched(sandbox: Sandbox) -> Iterator[Browser]:
    """While Playwright runs, nothing else on this thread can run an event loop."""
    arguments = [
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        f"--ignore-certificate-errors-spki-list={_key_of(sandbox)}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def _key_of(sandbox: Sandbox) -> str:
    """How Chromium names a public key."""
    certificate = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", sandbox.port)).encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()
