"""The five files of a consumer of one's own: two RSA key pairs and Diffie-Hellman parameters."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from .consumer import DHParameters, PrivateKey
from .errors import ConfigurationError, DHParametersError

PRIVATE_SIGNATURE = "private_signature.pem"
PUBLIC_SIGNATURE = "public_signature.pem"
PRIVATE_ENCRYPTION = "private_encryption.pem"
PUBLIC_ENCRYPTION = "public_encryption.pem"
DH_PARAMS = "dhparam.pem"

#: What is being made at the moment, in the order in which it happens.
SIGNING_KEY = "signing key"
ENCRYPTION_KEY = "encryption key"
DH_PRIME = "Diffie-Hellman prime"

#: Called with one of the three names above for every candidate that is tried: thousands of times.
KeyProgress: TypeAlias = Callable[[str], object]

_PRIVATE_MODE = 0o600
_PUBLIC_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFiles:
    """What `generate_keys` wrote, and SHA-256 fingerprints in hex to compare with the portal.

    They are those of `PrivateKey.fingerprint` and `DHParameters.fingerprint`.
    """

    directory: Path
    private_signature: Path
    public_signature: Path
    private_encryption: Path
    public_encryption: Path
    dh_params: Path
    signature_fingerprint: str
    encryption_fingerprint: str
    dh_fingerprint: str


def generate_keys(
    directory: str | os.PathLike[str],
    *,
    bits: int = 2048,
    force: bool = False,
    dh_params: DHParameters | None = None,
    progress: KeyProgress | None = None,
) -> KeyFiles:
    """Make both key pairs and the Diffie-Hellman parameters, and write them to `directory`.

    A directory that does not exist is made for its owner only. The files appear together, once all
    of them are complete; whatever ends the work before, Ctrl-C too, leaves everything as it was.
    The private ones can be read by their owner only from their first byte on.

    `bits`: of the RSA keys. `force`: replace files of an earlier run, which are lost. `dh_params`:
    these, and no search for a prime of one's own, which takes 10 s to some minutes; a `dhparam.pem`
    that holds them already stays. An exception that `progress` raises ends the work.

    Raises ConfigurationError where files exist or cannot be written, InvalidValue for odd `bits`.
    """
    folder = Path(directory).expanduser()
    if not force:
        _refuse_to_overwrite(folder, dh_params)
    with _staging(folder) as staging:
        signing = PrivateKey.generate(bits, _about(SIGNING_KEY, progress))
        encryption = PrivateKey.generate(bits, _about(ENCRYPTION_KEY, progress))
        dh = dh_params or DHParameters.generate(progress=_about(DH_PRIME, progress))
        if not force:
            _refuse_to_overwrite(folder, dh_params)  # again, since the search may take minutes
        with _named_failures(folder):
            _write_private(staging / PRIVATE_SIGNATURE, signing)
            _write(staging / PUBLIC_SIGNATURE, signing.public_pem().encode(), _PUBLIC_MODE)
            _write_private(staging / PRIVATE_ENCRYPTION, encryption)
            _write(staging / PUBLIC_ENCRYPTION, encryption.public_pem().encode(), _PUBLIC_MODE)
            _write(staging / DH_PARAMS, dh.pem().encode(), _PUBLIC_MODE)
            _move_in(staging, folder)
    return KeyFiles(
        directory=folder,
        private_signature=folder / PRIVATE_SIGNATURE,
        public_signature=folder / PUBLIC_SIGNATURE,
        private_encryption=folder / PRIVATE_ENCRYPTION,
        public_encryption=folder / PUBLIC_ENCRYPTION,
        dh_params=folder / DH_PARAMS,
        signature_fingerprint=signing.fingerprint,
        encryption_fingerprint=encryption.fingerprint,
        dh_fingerprint=dh.fingerprint,
    )


def write_dh_params(directory: str | os.PathLike[str], dh_params: DHParameters) -> Path:
    """Add a `dhparam.pem` to a directory that has none. Raises ConfigurationError."""
    folder = Path(directory).expanduser()
    if (folder / DH_PARAMS).exists():
        raise ConfigurationError(f"{folder / DH_PARAMS} exists")
    with _staging(folder) as staging, _named_failures(folder):
        _write(staging / DH_PARAMS, dh_params.pem().encode(), _PUBLIC_MODE)
        _move_in(staging, folder)
    return folder / DH_PARAMS


def _about(what: str, progress: KeyProgress | None) -> Callable[[], object] | None:
    if progress is None:
        return None
    progress(what)
    return partial(progress, what)


def _refuse_to_overwrite(folder: Path, dh_params: DHParameters | None) -> None:
    names = (PRIVATE_SIGNATURE, PUBLIC_SIGNATURE, PRIVATE_ENCRYPTION, PUBLIC_ENCRYPTION, DH_PARAMS)
    existing = [name for name in names if os.path.lexists(folder / name)]
    if DH_PARAMS in existing and _holds(folder / DH_PARAMS, dh_params):
        existing.remove(DH_PARAMS)
    if existing:
        raise ConfigurationError(
            f"{folder} already has {', '.join(existing)}",
            advice="Give another directory. To replace the files, which may be keys in use, force it (--force).",
        )


def _holds(path: Path, dh_params: DHParameters | None) -> bool:
    try:
        return dh_params is not None and DHParameters.load(path) == dh_params
    except DHParametersError:
        return False


# --- Files ----------------------------------------------------------------------------------------


@contextmanager
def _staging(folder: Path) -> Generator[Path, None, None]:
    """A private place inside `folder` to build files in; at the end it is gone, and so is a `folder`
    that was made for nothing."""
    is_new = not folder.exists()
    with _named_failures(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with _named_failures(folder):
            staging = tempfile.TemporaryDirectory(prefix=".keygen-", dir=folder)
        with staging as name:
            yield Path(name)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _named_failures(folder: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"no files can be written to {folder}: {error.strerror}",
            advice="Give a directory on a disk with room that you may write to.",
        ) from None


def _write_private(path: Path, key: PrivateKey) -> None:
    """The text passes through memory that is wiped, and never through an immutable `bytes`."""
    secret = key.private_pem()
    pem = bytearray(len(secret))
    try:
        secret.copy_into(pem)
        _write(path, pem, _PRIVATE_MODE)
    finally:
        pem[:] = bytes(len(pem))


def _write(path: Path, content: bytes | bytearray, mode: int) -> None:
    """A new file, on the disk before this returns; as bytes, so that line ends stay LF."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as file, memoryview(content) as rest:
        written = 0
        while written < len(rest):
            written += file.write(rest[written:])
        os.fsync(descriptor)


def _move_in(staging: Path, folder: Path) -> None:
    """Move all files from `staging` to `folder`, or none: what they replace waits in `former`."""
    names = sorted(path.name for path in staging.iterdir())
    former = staging / "former"
    former.mkdir()
    try:
        for name in names:
            if os.path.lexists(folder / name):
                (folder / name).rename(former / name)
            (staging / name).rename(folder / name)
    except BaseException:
        # What was moved shows on the disk; an interrupt may have come between any two steps.
        for name in names:
            if not (staging / name).exists():
                (folder / name).unlink()
            if os.path.lexists(former / name):
                (former / name).rename(folder / name)
        raise
