"""Key files: what is in them, who may read them, and that they appear together or not at all."""

from __future__ import annotations

import base64
import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ibkr_oauth import (
    ConfigurationError,
    Consumer,
    DHParameters,
    InvalidValue,
    PrivateKey,
    keygen,
)
from ibkr_oauth.keygen import KeyFiles, generate_keys, write_dh_params
from ibkr_oauth.sandbox import Sandbox

from .conftest import Run

NAMES = [
    "dhparam.pem",
    "private_encryption.pem",
    "private_signature.pem",
    "public_encryption.pem",
    "public_signature.pem",
]
GROUP = DHParameters.rfc7919()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="session")
def two_keys() -> list[PrivateKey]:
    return [PrivateKey.generate(), PrivateKey.generate()]


@pytest.fixture
def no_wait(two_keys: list[PrivateKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """Key pairs that are made in no time, for tests of what happens with the files."""
    keys = itertools.cycle(two_keys)
    monkeypatch.setattr(PrivateKey, "generate", lambda *_: next(keys))


@pytest.fixture
def no_mask() -> Any:
    """A process that gives everything to everybody."""
    former = os.umask(0)
    yield
    os.umask(former)


# --- What is in them ------------------------------------------------------------------------------


def test_five_files_with_lf_line_ends(key_files: KeyFiles) -> None:
    assert names(key_files.directory) == NAMES
    for content in contents(key_files.directory).values():
        assert b"\r" not in content
        assert content.endswith(b"-----\n")


def test_they_load_back(key_files: KeyFiles) -> None:
    consumer = Consumer("ABCDEFGHI", key_files.private_signature, key_files.private_encryption, key_files.dh_params)
    assert consumer.signing_key.bits == consumer.encryption_key.bits == 2048
    assert consumer.signing_key.fingerprint == key_files.signature_fingerprint
    assert consumer.encryption_key.fingerprint == key_files.encryption_fingerprint
    assert key_files.signature_fingerprint != key_files.encryption_fingerprint
    assert consumer.dh_params == GROUP


@pytest.mark.parametrize("what", ["signature", "encryption"])
def test_cryptography_loads_the_pairs(key_files: KeyFiles, what: str) -> None:
    private = load_pem_private_key((key_files.directory / f"private_{what}.pem").read_bytes(), None)
    public = load_pem_public_key((key_files.directory / f"public_{what}.pem").read_bytes())
    assert isinstance(private, RSAPrivateKey)
    assert private.key_size == 2048
    assert private.public_key() == public
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(der).hexdigest() == getattr(key_files, f"{what}_fingerprint")


def test_the_fingerprint_of_the_parameters_is_that_of_their_der(key_files: KeyFiles) -> None:
    lines = key_files.dh_params.read_text().splitlines()
    assert lines[0] == "-----BEGIN DH PARAMETERS-----"
    der = base64.b64decode("".join(lines[1:-1]))
    assert key_files.dh_fingerprint == hashlib.sha256(der).hexdigest()


def test_the_portal_takes_the_uploads(key_files: KeyFiles) -> None:
    Sandbox().register("ABCDEFGHI", key_files.public_signature, key_files.public_encryption, key_files.dh_params)


def test_the_length_of_the_rsa_keys(tmp_path: Path) -> None:
    files = generate_keys(tmp_path, bits=3072, dh_params=GROUP)
    assert PrivateKey.load(files.private_signature).bits == 3072


# --- Who may read them ----------------------------------------------------------------------------


@pytest.mark.usefixtures("no_mask", "no_wait")
def test_modes(tmp_path: Path) -> None:
    files = generate_keys(tmp_path / "new", dh_params=GROUP)
    assert mode(files.directory) == 0o700
    assert mode(files.private_signature) == mode(files.private_encryption) == 0o600
    assert mode(files.public_signature) == mode(files.public_encryption) == 0o644
    assert mode(files.dh_params) == 0o644


@pytest.mark.usefixtures("no_wait")
def test_private_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, tuple[int, int, int]] = {}
    real_open = os.open

    def spy(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if not isinstance(path, (str, Path)) or Path(path).suffix != ".pem":
            return real_open(path, flags, mode, **options)
        opened[Path(path).name] = (flags, mode, stat.S_IMODE(Path(path).parent.stat().st_mode))
        return real_open(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", spy)
    generate_keys(tmp_path, dh_params=GROUP)
    assert sorted(opened) == NAMES
    for name in ("private_signature.pem", "private_encryption.pem"):
        flags, file_mode, directory_mode = opened[name]
        assert flags & os.O_EXCL
        assert flags & os.O_CREAT
        assert (file_mode, directory_mode) == (0o600, 0o700)


@pytest.mark.usefixtures("no_wait")
def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    generate_keys(tmp_path, dh_params=GROUP)
    assert mode(tmp_path) == 0o750


@pytest.mark.usefixtures("no_wait")
def test_the_text_of_private_keys_is_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytearray] = []
    real_write = keygen._write

    def spy(path: Path, content: bytes | bytearray, mode: int) -> None:
        real_write(path, content, mode)
        if path.name.startswith("private"):
            assert isinstance(content, bytearray)
            assert content.startswith(b"-----BEGIN PRIVATE KEY-----")
            written.append(content)

    monkeypatch.setattr(keygen, "_write", spy)
    files = generate_keys(tmp_path, dh_params=GROUP)
    assert len(written) == 2
    for content in written:
        assert content == bytes(len(content))
    PrivateKey.load(files.private_signature)


# --- Nothing is lost, nothing is left half done ---------------------------------------------------


@pytest.mark.parametrize("existing", [["private_signature.pem"], ["dhparam.pem"], NAMES])
def test_files_are_not_overwritten(tmp_path: Path, existing: list[str]) -> None:
    for name in existing:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigurationError) as caught:
        generate_keys(tmp_path, dh_params=GROUP)
    for name in NAMES:
        assert (name in caught.value.message) == (name in existing)
    assert "--force" in caught.value.advice
    assert contents(tmp_path) == dict.fromkeys(existing, b"mine")


def test_a_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "private_signature.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"private_signature\.pem"):
        generate_keys(tmp_path, dh_params=GROUP)


@pytest.mark.usefixtures("no_wait")
def test_files_that_appear_during_the_search_are_not_overwritten(tmp_path: Path) -> None:
    def progress(what: str) -> None:
        if what == keygen.ENCRYPTION_KEY:
            (tmp_path / "private_signature.pem").write_text("mine")

    with pytest.raises(ConfigurationError):
        generate_keys(tmp_path, dh_params=GROUP, progress=progress)
    assert contents(tmp_path) == {"private_signature.pem": b"mine"}


@pytest.mark.usefixtures("no_wait")
def test_force_replaces_all_of_them(key_directory: Path) -> None:
    former = contents(key_directory)
    files = generate_keys(key_directory, dh_params=GROUP, force=True)
    assert names(key_directory) == NAMES
    for name, content in contents(key_directory).items():
        assert (content == former[name]) == (name == "dhparam.pem")
    assert PrivateKey.load(files.private_signature).fingerprint == files.signature_fingerprint


@pytest.mark.usefixtures("no_wait")
def test_force_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    directory = tmp_path / "keys"
    directory.mkdir()
    (directory / "private_signature.pem").symlink_to(target)
    files = generate_keys(directory, dh_params=GROUP, force=True)
    assert target.read_text() == "mine"
    assert not files.private_signature.is_symlink()


@pytest.mark.usefixtures("no_wait")
def test_parameters_that_are_there_already_stay(tmp_path: Path) -> None:
    write_dh_params(tmp_path, GROUP)
    generate_keys(tmp_path, dh_params=GROUP)
    assert names(tmp_path) == NAMES
    with pytest.raises(ConfigurationError, match="exists"):
        write_dh_params(tmp_path, GROUP)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("when", [keygen.SIGNING_KEY, keygen.ENCRYPTION_KEY])
@pytest.mark.parametrize("is_new", [True, False])
def test_ctrl_c_leaves_nothing(tmp_path: Path, when: str, is_new: bool) -> None:
    def progress(what: str) -> None:
        if what == when:
            raise KeyboardInterrupt

    directory = tmp_path / "new" if is_new else tmp_path
    with pytest.raises(KeyboardInterrupt):
        generate_keys(directory, dh_params=GROUP, progress=progress)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("no_wait")
def test_ctrl_c_in_the_search_for_the_prime_leaves_nothing(tmp_path: Path) -> None:
    tried: list[str] = []

    def progress(what: str) -> None:
        tried.append(what)
        if tried.count(keygen.DH_PRIME) == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_keys(tmp_path / "new", progress=progress)
    assert list(dict.fromkeys(tried)) == [
        keygen.SIGNING_KEY,
        keygen.ENCRYPTION_KEY,
        keygen.DH_PRIME,
    ]
    assert names(tmp_path) == []


def stop_rename(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *, after: bool) -> Callable[[], bool]:
    """Raise at the given rename, before or after it is done. Returns whether that happened."""
    real_rename = Path.rename
    calls = 0

    def rename(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == at and not after:
            raise error
        renamed = real_rename(path, target)
        if calls == at and after:
            raise error
        return renamed

    monkeypatch.setattr(Path, "rename", rename)
    return lambda: calls >= at


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("at", range(1, 11))
def test_ctrl_c_while_files_are_replaced_restores_them(
    key_directory: Path, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    former = contents(key_directory)
    happened = stop_rename(monkeypatch, at, KeyboardInterrupt(), after=after)
    with pytest.raises(KeyboardInterrupt):
        generate_keys(key_directory, dh_params=GROUP, force=True)
    assert happened()
    assert contents(key_directory) == former


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("at", range(1, 6))
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    stop_rename(monkeypatch, at, error, after=False)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        generate_keys(tmp_path / "new", dh_params=GROUP)
    assert names(tmp_path) == []


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Not a directory"):
        generate_keys(tmp_path / "file" / "keys", dh_params=GROUP)


def test_a_key_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="1024"):
        generate_keys(tmp_path / "new", bits=1024, dh_params=GROUP)
    assert names(tmp_path) == []


# --- The command ----------------------------------------------------------------------------------


@pytest.fixture
def found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for a prime that ends after three candidates."""

    def generate(bits: int = 2048, progress: Callable[[], object] | None = None) -> DHParameters:
        assert bits == 2048
        assert progress is not None
        for _ in range(3):
            progress()
        return GROUP

    monkeypatch.setattr(DHParameters, "generate", generate)


@pytest.mark.usefixtures("found_at_once", "no_wait")
def test_the_command_says_what_goes_where(run: Run, tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path / "keys"))
    assert result.exit_code == 0
    assert names(tmp_path / "keys") == NAMES
    for name in (*NAMES, "Public Signing Key", "Public Encryption Key", "Diffie-Hellman Parameters"):
        assert name in result.stdout
    assert PrivateKey.load(tmp_path / "keys/private_signature.pem").fingerprint in result.stdout
    assert "PRIVATE KEY" not in result.output
    assert "\x1b" not in result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stderr.splitlines() == [
        "making the signing key",
        "making the encryption key",
        "making the Diffie-Hellman prime",
    ]


@pytest.mark.usefixtures("found_at_once", "no_wait")
def test_the_command_as_json(run: Run, tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path), "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert sorted(Path(path).name for path in document["files"].values()) == NAMES
    for path in document["files"].values():
        assert Path(path).is_file()
    key = PrivateKey.load(document["files"]["private_signature"])
    assert document["sha256"]["signature"] == key.fingerprint


@pytest.mark.usefixtures("found_at_once", "no_wait")
def test_the_command_refuses_and_forces(run: Run, key_directory: Path) -> None:
    former = contents(key_directory)
    refused = run("keygen", str(key_directory))
    assert refused.exit_code == 3
    assert "private_signature.pem" in refused.stderr
    assert "--force" in refused.stderr
    assert contents(key_directory) == former
    assert run("keygen", str(key_directory), "--force").exit_code == 0
    assert contents(key_directory) != former


def test_the_command_refuses_short_keys(run: Run, tmp_path: Path) -> None:
    assert run("keygen", str(tmp_path), "--bits", "1024").exit_code == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a matter of luck: half a minute as a rule, and some minutes at times
def test_a_prime_of_ones_own(run: Run, tmp_path: Path) -> None:
    result = run("keygen", str(tmp_path), "--json")
    assert result.exit_code == 0
    dh_params = DHParameters.load(json.loads(result.stdout)["files"]["dh_params"])
    assert dh_params.bits == 2048
    assert dh_params.generator == 2
    assert dh_params != GROUP
    dh_params.check()
