"""Compiles the C sources of this folder, and runs the server among them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

FOLDER = Path(__file__).parent


def compile_c(source: str, output: Path, *options: str, libraries: tuple[str, ...] = ("libcrypto",)) -> Path:
    """Compiles `source` against libraries that pkg-config knows, and returns `output`."""
    compiler = shlex.split(os.environ.get("CC") or "cc")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", *options]
    command = [*compiler, *flags, str(FOLDER / source), "-o", str(output), *_library_flags(libraries)]
    subprocess.run(command, check=True)
    return output


def _library_flags(libraries: tuple[str, ...]) -> list[str]:
    """How libraries are compiled against and linked, found as setup.py finds them."""
    prefix = os.environ.get("OPENSSL_DIR")
    path = [f"{prefix}/{lib}/pkgconfig" for lib in ("lib", "lib64")] if prefix else []
    path += filter(None, [os.environ.get("PKG_CONFIG_PATH")])
    command = [*shlex.split(os.environ.get("PKG_CONFIG") or "pkg-config"), "--cflags", "--libs", *libraries]
    environment = {**os.environ, "PKG_CONFIG_PATH": os.pathsep.join(path)}
    answer = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return shlex.split(answer.stdout)


class Server:
    """server.c in a process of its own, on a free port of loopback, with a certificate made for this run.

    `base_url`: where requests go. `ca_file`: whom to trust for that.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        chain, key = folder / "server.pem", folder / "server-key.pem"
        chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(key)
        program = compile_c("server.c", folder / "server", libraries=("libssl", "libcrypto"))
        self._process = subprocess.Popen(
            [str(program), str(chain), str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the server did not start: exit {self._process.wait()}")
        self.base_url = f"https://127.0.0.1:{port}/v1/api"

    def close(self) -> None:
        """The end of its standard input is the end of it."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
