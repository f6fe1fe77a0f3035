"""Files that people write, copy and edit: profiles (TOML), the set-ups of other clients (JSON, lines NAME=value), and a kept
live session token. Whatever is in them, they are read, or refused with an error of ours that shows no secret.

Input: a byte that chooses the kind, then the file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Input, main, watched

with watched("ibkr_oauth.config", "ibkr_oauth.importing", "ibkr_oauth.stores", "ibkr_oauth.tokens", "json", "tomllib"):
    from ibkr_oauth import config, importing, stores
    from ibkr_oauth.errors import IBKROAuthError
    from ibkr_oauth.tokens import LiveSessionToken

SECRET = "Zm9ydHktdHdv/c2VjcmV0czQ="  # put wherever the input says SECRET; padded, as tokens are and no file's name is

folder = Path(tempfile.mkdtemp(prefix="fuzz-files-"))
path = folder / "file"
config._from_keyring = lambda account: None  # of the machine it runs on


def check_error(error: IBKROAuthError) -> None:
    shown = f"{error} {error.advice} {error!r}"
    assert SECRET not in shown, shown
    assert error.advice
    # What Python would print with it, and a debugger keep.
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def check_profiles() -> None:
    environment = {"IBKR_OAUTH_CONFIG": str(path)}
    try:
        names = config.profile_names(environment)
    except IBKROAuthError as error:
        check_error(error)
        return
    for name in names:
        try:
            config.load(name, environment=environment)
        except IBKROAuthError as error:
            check_error(error)


def check_setup() -> None:
    try:
        setup = importing.read(path, environment={})
        assert SECRET not in repr(setup)
        importing.convert(setup, folder / "keys", environment={})
    except IBKROAuthError as error:
        check_error(error)
    assert not (folder / "keys").exists()  # no key of the corpus can be loaded, and before that nothing is written


def check_store() -> None:
    token = stores.FileStore(path).load("TESTCONS", "0123456789abcdef0123", "https://api.ibkr.com/v1/api")
    if token is not None:
        assert isinstance(token, LiveSessionToken)
        assert (token.consumer_key, token.access_token) == ("TESTCONS", "0123456789abcdef0123")
        assert token.expires_at.tzinfo is not None
        assert token.reveal() not in repr(token)
        _ = token.remaining, token.expired, token.fingerprint, token._repr_html_()


def target(data: bytes) -> None:
    given = Input(data)
    check = (check_profiles, check_setup, check_store)[given.choice(3)]
    path.write_bytes(given.rest.replace(b"SECRET", SECRET.encode()))
    path.chmod(0o600)
    check()


if __name__ == "__main__":
    main(target)
