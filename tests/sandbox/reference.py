"""A tiny client, written from the protocol with `cryptography` and the standard library.

It signs right unless told otherwise: each deviation is an argument of `Client.send`, so that a test
reads as "a right request, but …".
"""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ibkr_oauth.sandbox import Sandbox

Pairs = list[tuple[str, str]]


def encode(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def base_string(method: str, url: str, pairs: Pairs, prepend: str = "") -> str:
    listed = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    return f"{prepend}{method}&{encode(url)}&{encode(listed)}"


def authorization(pairs: Pairs) -> str:
    return "OAuth " + ", ".join(f'{name}="{encode(value)}"' for name, value in pairs)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The words of a refusal, without the trace number."""
        return str(self.json()["error"]).partition(", error: ")[2] or str(self.json()["error"])


def exchange(
    sandbox: Sandbox,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    *,
    raw_headers: Pairs | None = None,
) -> Reply:
    """Send one HTTP request exactly as given, on a connection of its own."""
    if sandbox.ca_file is None:
        connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    else:
        context = ssl.create_default_context(cafile=str(sandbox.ca_file))
        connection = http.client.HTTPSConnection("127.0.0.1", sandbox.port, timeout=10, context=context)
    try:
        named = list((headers or {}).items()) + (raw_headers or [])
        given = {name.lower(): value for name, value in named}
        if given.get("transfer-encoding") == "chunked":
            body = b"0\r\n\r\n"
        connection.putrequest(method, target, skip_host="host" in given, skip_accept_encoding=True)
        for name, value in named:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Reply(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


@dataclass
class Client:
    """One consumer, and the tokens that it has got so far."""

    sandbox: Sandbox
    consumer_key: str
    signature_key: RSAPrivateKey
    encryption_key: RSAPrivateKey
    prime: int
    realm: str = "limited_poa"
    access_token: str = ""
    encrypted_secret: str = ""
    live_session_token: bytes = b""
    expires_at_ms: int = 0

    # --- Signing ---------------------------------------------------------------------------------

    @property
    def secret(self) -> bytes:
        ciphertext = base64.b64decode(self.encrypted_secret)
        return self.encryption_key.decrypt(ciphertext, padding.PKCS1v15())

    def sign_rsa(self, text: str, key: RSAPrivateKey | None = None) -> str:
        signature = (key or self.signature_key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()

    def sign_hmac(self, text: str) -> str:
        return base64.b64encode(hmac.digest(self.live_session_token, text.encode(), "sha256")).decode()

    def send(self, method: str, path: str, oauth: Mapping[str, str | None] | None = None, **deviations: Any) -> Reply:
        """Sign and send, on a connection of its own."""
        return exchange(self.sandbox, method, *self.prepare(method, path, oauth, **deviations))

    def raw(self, method: str, path: str, **deviations: Any) -> bytes:
        """A whole signed request, to be sent over a socket."""
        target, headers, content = self.prepare(method, path, **deviations)
        lines = [f"{method} {target} HTTP/1.1", "Host: sandbox", *(f"{name}: {headers[name]}" for name in headers)]
        return "\r\n".join([*lines, "", ""]).encode() + content

    def prepare(  # each argument is one way to deviate
        self,
        method: str,
        path: str,
        oauth: Mapping[str, str | None] | None = None,
        *,
        query: str = "",
        form: str | None = None,
        body: object = None,
        rule: str = "omit",
        prepend: str = "",
        signed: Mapping[str, Any] | None = None,
        text: str | None = None,
        signature: str | None = None,
        header: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[str, dict[str, str], bytes]:
        """A signed request: its target, headers and body.

        `oauth` adds parameters or, with None, removes them; `signed` replaces what goes into the
        base string (method, url, pairs, prepend); `text` replaces the whole base string,
        `signature` what comes of it, `header` the Authorization header ("{}" for the right one).
        """
        is_rsa = path.startswith("/oauth/")
        parameters: dict[str, str | None] = {
            "oauth_consumer_key": self.consumer_key,
            "oauth_nonce": secrets.token_hex(16),
            "oauth_signature_method": "RSA-SHA256" if is_rsa else "HMAC-SHA256",
            "oauth_timestamp": str(int(time.time())),
            **({} if is_rsa else {"oauth_token": self.access_token}),
            **(oauth or {}),
        }
        sent = [(name, value) for name, value in parameters.items() if value is not None]
        url = self.sandbox.base_url + path
        pairs = sent + parse_qsl(form or "", keep_blank_values=True)
        if rule == "merge":
            pairs += parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        elif rule == "url" and query:
            url += f"?{query}"
        parts: dict[str, Any] = {"method": method, "url": url, "pairs": pairs, "prepend": prepend}
        text = base_string(**(parts | dict(signed or {}))) if text is None else text
        if signature is None:
            signature = self.sign_rsa(text) if is_rsa else self.sign_hmac(text)
        right_header = authorization([("realm", self.realm), *sorted([*sent, ("oauth_signature", signature)])])
        content = form.encode() if form is not None else b""
        content = json.dumps(body).encode() if body is not None else content
        all_headers: dict[str, str | None] = {
            "User-Agent": "reference",
            "Authorization": header.replace("{}", right_header) if header else right_header,
            "Content-Length": None if method == "GET" and not content else str(len(content)),
        }
        if form is not None:
            all_headers["Content-Type"] = "application/x-www-form-urlencoded"
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        all_headers |= headers or {}
        target = urlsplit(self.sandbox.base_url).path + path + (f"?{query}" if query else "")
        return target, {name: value for name, value in all_headers.items() if value is not None}, content

    # --- The three legs --------------------------------------------------------------------------

    def get_request_token(self, **deviations: Any) -> Reply:
        oauth = {"oauth_callback": "oob", **deviations.pop("oauth", {})}
        return self.send("POST", "/oauth/request_token", oauth, **deviations)

    def get_access_token(self, request_token: str, verifier: str, **deviations: Any) -> Reply:
        oauth = {
            "oauth_token": request_token,
            "oauth_verifier": verifier,
            **deviations.pop("oauth", {}),
        }
        reply = self.send("POST", "/oauth/access_token", oauth, **deviations)
        if reply.status == 200:
            self.access_token = reply.json()["oauth_token"]
            self.encrypted_secret = reply.json()["oauth_token_secret"]
        return reply

    def get_live_session_token(self, a: int | None = None, **deviations: Any) -> Reply:
        """The whole exchange; `assert`s that the server proves to hold the same token."""
        a = a or secrets.randbits(64)  # short for the sake of speed; a real client takes 256 bits
        oauth = {
            "oauth_token": self.access_token,
            "diffie_hellman_challenge": f"{pow(2, a, self.prime):x}",
            **deviations.pop("oauth", {}),
        }
        deviations.setdefault("prepend", self.secret.hex())
        reply = self.send("POST", "/oauth/live_session_token", oauth, **deviations)
        if reply.status == 200:
            self.finish(a, reply.json())
        return reply

    def finish(self, a: int, answer: dict[str, Any]) -> None:
        shared = f"{pow(int(answer['diffie_hellman_response'], 16), a, self.prime):x}"
        key = bytes.fromhex(shared if len(shared) % 2 == 0 else f"0{shared}")
        if key[0] & 0x80:
            key = b"\0" + key
        token = hmac.digest(key, self.secret, "sha1")
        proof = hmac.digest(token, self.consumer_key.encode(), "sha1").hex()
        assert answer["live_session_token_signature"] == proof
        self.live_session_token = token
        self.expires_at_ms = answer["live_session_token_expiration"]

    # --- Protected calls -------------------------------------------------------------------------

    def get(self, path: str, **deviations: Any) -> Reply:
        return self.send("GET", path, **deviations)

    def post(self, path: str, **deviations: Any) -> Reply:
        return self.send("POST", path, **deviations)

    def open_brokerage(self, *, compete: bool = False) -> Reply:
        return self.post("/iserver/auth/ssodh/init", body={"publish": True, "compete": compete})
