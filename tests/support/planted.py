"""Secrets that were put somewhere on purpose, and the search for them in whatever comes out, in every spelling."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import quote


def spellings(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """A secret as programs write it: by name of the spelling. Also turned around, as its bytes are on some way or other."""
    coded = base64.b64encode(secret)
    plain = {
        "raw": secret,
        "hex": secret.hex().encode(),
        "upper hex": secret.hex().upper().encode(),
        # Inside of longer text its base64 depends on where it begins; the middle is the same for one of three places.
        "base64": coded.rstrip(b"=")[:-1],
        "base64, one byte on": base64.b64encode(b"\0" + secret)[2:].rstrip(b"=")[:-1],
        "base64, two bytes on": base64.b64encode(b"\0\0" + secret)[3:].rstrip(b"=")[:-1],
        "base64 for URLs": base64.urlsafe_b64encode(secret).rstrip(b"=")[:-1],
        "percent-encoded": quote(secret, safe="").encode(),
        "percent-encoded base64": quote(coded, safe="").encode(),
        "repr": repr(secret)[2:-1].encode(),
        "utf-16": secret.decode("latin-1").encode("utf-16-le"),
    }
    for name, text in plain.items():
        yield name, text
        yield f"{name}, reversed", text[::-1]


class Planted:
    """What must not be found. Keys are looked for line by line: any line of one is enough."""

    def __init__(self) -> None:
        self.forms: dict[bytes, str] = {}

    def add(self, name: str, secret: str | bytes) -> None:
        data = secret.encode() if isinstance(secret, str) else secret
        assert len(data) >= 12, f"{name}: too short to be looked for"
        for spelling, form in spellings(data):
            self.forms[form] = f"{name} ({spelling})"

    def add_pem(self, name: str, text: str) -> None:
        lines = text.strip().splitlines()[1:-1]
        for number, line in enumerate(line for line in lines if len(line) >= 40):
            self.add(f"{name}, line {number + 1}", line)
        der = base64.b64decode("".join(lines))
        for begin in range(64, len(der) - 32, 200):
            self.add(f"{name}, bytes from {begin}", der[begin : begin + 32])

    def found_in(self, data: bytes) -> list[str]:
        """In the data as it is, and without its line ends, which tables and wrapped text put in between."""
        squeezed = b"".join(data.split())
        return [name for form, name in self.forms.items() if form in data or form in squeezed]
