"""The certificate of a sandbox that serves https, and the authority that clients must trust."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

import trustme


class Certificate:
    """Made once, and on disk while it is needed: a sandbox that starts again has the same one.

    `ca_file` is the PEM file of the authority, `file` that of the server's certificate and key.
    """

    def __init__(self, names: set[str]) -> None:
        authority = trustme.CA()
        server = authority.issue_cert(*sorted(names))
        self._directory = Path(tempfile.mkdtemp(prefix="ibkr-sandbox-"))
        self.ca_file = self._directory / "ca.pem"
        self.file = self._directory / "server.pem"
        self._contents = {
            self.ca_file: authority.cert_pem.bytes(),
            self.file: server.private_key_and_cert_chain_pem.bytes(),
        }
        self._remove_at_the_end()

    def write(self) -> None:
        """Write the files. Raises `OSError` where somebody else has made a directory of that name meanwhile."""
        if not self._finalizer.alive:
            self._directory.mkdir(mode=0o700)
            self._remove_at_the_end()
        for file, content in self._contents.items():
            file.write_bytes(content)

    def remove(self) -> None:
        """Remove the files; `write` brings them back, the same ones at the same place."""
        self._finalizer()

    def _remove_at_the_end(self) -> None:
        """Also of a program that ends, or forgets its sandbox, without stopping it."""
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
