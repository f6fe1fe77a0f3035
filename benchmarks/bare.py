"""Compiles bare.c and bare_http.c, and calls them in this process."""

from __future__ import annotations

import ctypes
from pathlib import Path

from .native import compile_c

CHALLENGE, SECRET, SIGNATURE, TOKEN, PROOF, HEADER_MAC = range(6)


class Bare:
    """The functions of bare.c. Those that fail raise RuntimeError."""

    def __init__(self, folder: Path) -> None:
        library = compile_c("bare.c", folder / "bare.so", "-shared", "-fPIC")
        self._library = ctypes.CDLL(str(library))
        self._library.bare_version.restype = ctypes.c_char_p
        self._library.bare_result.restype = ctypes.c_size_t

    @property
    def version(self) -> str:
        return self._library.bare_version().decode()

    def set_group(self, prime: bytes, generator: int, exponent: bytes, response: bytes) -> None:
        self._call(
            "bare_set_group",
            *(prime, len(prime), ctypes.c_ulong(generator)),
            *(exponent, len(exponent), response, len(response)),
        )

    def set_keys(self, signing_pem: str, encryption_pem: str) -> None:
        self._call("bare_set_keys", signing_pem.encode(), encryption_pem.encode())

    def read_key(self, pem: bytes) -> None:
        self._call("bare_read_key", pem)

    def set_texts(self, ciphertext: bytes, base_string: bytes, consumer_key: bytes) -> None:
        texts = (ciphertext, base_string, consumer_key)
        self._call("bare_set_texts", *(part for t in texts for part in (t, ctypes.c_size_t(len(t)))))

    def set_hmac(self, live_session_token: bytes) -> None:
        self._call("bare_set_hmac", live_session_token, ctypes.c_size_t(len(live_session_token)))

    def token(self) -> None:
        self._call("bare_token")

    def header_mac(self, message: bytes, count: int = 1) -> None:
        self._call("bare_header_mac", message, ctypes.c_size_t(len(message)), ctypes.c_long(count))

    def result(self, which: int) -> bytes:
        out = ctypes.create_string_buffer(1024)
        size = self._library.bare_result(which, out)
        return out.raw[:size]

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self._library, name)(*arguments) != 1:
            raise RuntimeError(f"{name} failed")


class BareHttp:
    """bare_http.c: one handle for one URL."""

    def __init__(self, folder: Path, url: str, ca_file: Path) -> None:
        library = compile_c("bare_http.c", folder / "bare_http.so", "-shared", "-fPIC", libraries=("libcurl",))
        self._library = ctypes.CDLL(str(library))
        self._library.bare_http_version.restype = ctypes.c_char_p
        if self._library.bare_http_open(url.encode(), str(ca_file).encode()) != 1:
            raise RuntimeError("libcurl takes no handle or option")

    @property
    def version(self) -> str:
        return self._library.bare_http_version().decode()

    def get(self, count: int) -> None:
        if self._library.bare_http_get(ctypes.c_long(count)) != 1:
            raise RuntimeError("a GET failed")

    def close(self) -> None:
        self._library.bare_http_close()
