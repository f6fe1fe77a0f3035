"""What is secret stays hidden, wherever it stands; what a person needs in order to act, such as a path, is shown."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from ibkr_oauth.redact import HIDDEN, redact

PATHS = (
    "/home/maria/.config/ibkr-oauth/keys/private_signature.pem",
    "/Users/maria/Documents/trading/interactive-brokers/oauth/production/keys/private_signature.pem",
    "/var/lib/kubelet/pods/volumes/secrets/ibkr-oauth-paper/2026-11-27/private_encryption.pem",
    "C:/Users/Maria/OneDrive/MyDocuments/InteractiveBrokers/OAuthKeys/v2/private_signature.pem",
    "/mnt/AUTOMATION/ibkrOAuth/environments/production/accounts/first/keys/dhparam",
    "https://api.ibkr.com/v1/api/iserver/account/orders/whatif/portfolio/subaccounts/positions/summary",
    "https%3A%2F%2Fexample.com%2Fcallback%2Fof%2Fthe%2Fprogram%2Fthat%2Fwaits%2Ffor%2Fthe%2Fverifier",
    "-" * 80,
)

AROUND = ("{}", "/home/maria/keys/{}", "/home/maria/{}/private_signature.pem", "keys/{}/of/the/interactive-brokers-api",
          "could not be read: '{}'", "live_session_token-{}", "https://api.ibkr.com/v1/api/{}?x=1")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_stay_readable(path: str) -> None:
    assert redact(f"'{path}' could not be read") == f"'{path}' could not be read"


def known(vectors: dict[str, Any]) -> Iterator[str]:
    """Tokens, secrets, ciphertexts, signatures, exchanged numbers, and the lines of the keys."""
    yield from (one["lst_base64"] for one in vectors["live_session_token"])
    yield from (one["encrypted_base64"] for one in vectors["access_token_secrets"].values())
    yield from (one["signature_base64"] for one in vectors["rsa_requests"])
    for one in vectors["live_session_token"]:
        yield from (one[name] for name in ("shared_secret_hex", "diffie_hellman_challenge"))
    for pair in (vectors["keys"]["signature"], vectors["keys"]["encryption"]):
        for name, text in pair.items():
            if name.startswith("private"):
                yield from re.findall(r"(?m)^[A-Za-z0-9+/=]{64}$", text)


def drawn(generator: random.Random) -> Iterator[str]:
    for size in (20, 48, 51, 64, 128, 256, 300):
        raw = generator.randbytes(size)
        yield base64.b64encode(raw).decode()
        if size > 20:
            yield base64.urlsafe_b64encode(raw).decode()
            yield base64.b64encode(raw).decode().rstrip("=")
            yield raw.hex()


def shown_of(secret: str, text: str) -> list[str]:
    """Pieces of the secret that can be read in the text."""
    return [secret[at : at + 12] for at in range(len(secret) - 12) if secret[at : at + 12] in text]


def assert_hidden(secret: str) -> None:
    for around in AROUND:
        for spelling in (secret, quote(secret, safe="")):
            said = redact(around.format(spelling))
            assert HIDDEN in said, around
            assert shown_of(spelling, said) == [], around


def test_known_secrets_stay_hidden(vectors: dict[str, Any]) -> None:
    secrets = list(known(vectors))
    assert len(secrets) > 100
    for secret in secrets:
        assert_hidden(secret)


def test_drawn_secrets_stay_hidden() -> None:
    """Some of them begin or end like a word, or have slashes close together."""
    generator = random.Random(20261127)
    for _ in range(300):
        for secret in drawn(generator):
            assert_hidden(secret)


def test_a_secret_that_looks_much_like_a_path_stays_hidden() -> None:
    """As good as it gets by chance: nearly all of it is words, and one piece is not."""
    words = "/home/maria/keys/of/the/brokers/account/in/the/folder/of/the/program"
    for odd in ("aB3dE5", "x+y", "q7w8", "AbCdE", "12345678901", "k" * 21, "AB=="):
        assert redact(f"{words}/{odd}/end") == HIDDEN


def test_what_is_made_to_be_slow_is_not() -> None:
    for text in ("aA" * 100_000, "a/" * 100_000, "A" * 200_000, "%2F" * 60_000, "ab1" * 60_000):
        redact(text, limit=200_000)
