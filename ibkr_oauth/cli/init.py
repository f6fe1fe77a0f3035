"""`ibkr-oauth init`: from nothing to a first signed call, one question at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibkr_oauth import config, errors

from . import common, prompts

if TYPE_CHECKING:
    from ibkr_oauth import Consumer, DHParameters
    from ibkr_oauth.consumer import PrivateKey

_KEYS = ("signing_key", "encryption_key", "dh_params")
_TOKENS = ("consumer_key", "access_token", "access_token_secret")
_LATER = "later"
_DEFAULT_PROFILE = "paper"
_FIRST_CALL = "/portfolio/accounts"
_MAX_SHOWN = 20  # lines of an answer


class _Later(Exception):
    """The portal has not answered yet."""


@click.command("init")
@click.option(
    "--dh-params",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use the Diffie-Hellman parameters in this file, and search for no prime.",
)
@click.option("--keyring", is_flag=True, help="Keep the access token secret in the system's keyring.")
@click.option("--base-url", metavar="URL", help="Where to call: a sandbox, or another host of IBKR's.")
@click.option("--ca-file", type=click.Path(), help="Trust the authority in this PEM file.")
@common.profile_options
@click.pass_context
def command(
    ctx: click.Context,
    dh_params: Path | None,
    keyring: bool,
    base_url: str | None,
    ca_file: str | None,
    as_json: bool,
) -> None:
    """Set up a profile: keys, IBKR's portal, access token, and a first signed call.

    Asks one thing at a time and keeps each answer at once: stop with Ctrl-C when you like, and run
    it again to go on. Secrets are pasted at the terminal, never given as arguments.
    """
    if as_json or not prompts.are_possible():
        raise errors.UsageError(
            "init asks questions, and a JSON document has no answers"
            if as_json
            else "init asks questions, and there is no terminal to answer at",
            advice="Run it in a terminal, without --json. In a script: `ibkr-oauth keygen DIR`, then set "
            "IBKR_OAUTH_CONSUMER_KEY, IBKR_OAUTH_ACCESS_TOKEN and IBKR_OAUTH_ACCESS_TOKEN_SECRET, then "
            "`ibkr-oauth import DIR --profile NAME`.",
        )
    addresses = {"base_url": base_url or "", "ca_file": ca_file or ""}
    wizard = _Wizard(ctx, common.settings(ctx).profile, keyring=keyring)
    try:
        code = wizard.run(dh_params, {name: text for name, text in addresses.items() if text})
    except (KeyboardInterrupt, click.Abort):
        common.say(f"\nStopped. What is done is kept; go on with: {wizard.again}", err=True)
        code = common.EXIT_INTERRUPTED
    except _Later:
        common.say(
            f"\nStored what there is. When the portal gives you the rest, go on with: {wizard.again}\n"
            f"Then `ibkr-oauth wait --profile {wizard.name}` tells you when IBKR has activated it."
        )
        code = 0
    ctx.exit(code)


class _Wizard:
    """The profile itself is the draft: each answer is written to it at once, and only what it lacks is asked for."""

    def __init__(self, ctx: click.Context, name: str | None, *, keyring: bool) -> None:
        self._ctx = ctx
        self._keyring = keyring
        self.name = name

    @property
    def again(self) -> str:
        return "ibkr-oauth init" if self.name is None else f"ibkr-oauth init --profile {self.name}"

    def run(self, dh_params: Path | None, addresses: Mapping[str, str]) -> int:
        """Returns the exit code."""
        self._choose_profile()
        if addresses:
            self._save(addresses)
        stored = self._stored()
        is_complete = all(name in stored.origins for name in (*_KEYS, *_TOKENS))
        if is_complete:
            common.say(f"The profile {self.name} is complete. (For new keys, choose another name.)")
            choices = ("check it", "replace access token and secret")
            if prompts.choose("What now", choices) == 0:
                return self._check()
        else:
            self._make_keys(dh_params)
        consumer = self._show_portal()
        self._ask_token(consumer, keep_token=not is_complete)
        return self._check()

    # --- The profile -----------------------------------------------------------------------------

    def _choose_profile(self) -> None:
        if self.name is None:
            _title("1. Profile")
            common.say("A profile keeps the settings of one login: one for paper trading, another for real money.")
            self.name = prompts.ask("Name of the profile", _read_profile_name, default=_DEFAULT_PROFILE)
        else:
            _read_profile_name(self.name)
        common.settings(self._ctx).profile = self.name

    def _stored(self) -> config.Settings:
        """What the profile itself has, without the environment; nothing where it does not exist yet."""
        environment = {"IBKR_OAUTH_CONFIG": config.config_file()}
        if self.name not in config.profile_names(environment):
            return config.from_env({})
        return config.load(self.name, environment=environment)

    def _value(self, name: str) -> str | None:
        value = self._stored().get(name) if name in self._stored().origins else None
        return None if value is None else value.text

    def _save(self, values: Mapping[str, str]) -> None:
        assert self.name is not None
        config.save_profile(self.name, values, keyring=self._keyring and "access_token_secret" in values)

    # --- Keys ------------------------------------------------------------------------------------

    def _make_keys(self, dh_params: Path | None) -> None:
        _title("2. Keys")
        if all(name in self._stored().origins for name in _KEYS):
            common.say(f"The keys are there: {self._value('signing_key')}")
            return
        folder = self._key_folder()
        if _is_complete(folder):
            common.say(f"Keys of an earlier run are there, and used: {folder}")
            self._save(_in_folder(folder))
        elif prompts.choose("Your choice", ("make new keys", "use key files that I have")) == 0:
            self._save(_generate(folder, dh_params))
        else:
            self._save(_ask_for_files())

    def _key_folder(self) -> Path:
        return Path(config.config_file()).parent / "keys" / str(self.name)

    def _load_keys(self) -> tuple[PrivateKey, PrivateKey, DHParameters]:
        from ibkr_oauth.consumer import DHParameters, PrivateKey  # noqa: PLC0415 - `--help` does without

        password = config.key_password()
        signing_key, encryption_key, dh_params = (self._value(name) or "" for name in _KEYS)
        return (
            PrivateKey.load(signing_key, password, what="signing key"),
            PrivateKey.load(encryption_key, password, what="encryption key"),
            DHParameters.load(dh_params),
        )

    # --- The portal ------------------------------------------------------------------------------

    def _show_portal(self) -> Consumer:
        from ibkr_oauth import Consumer  # noqa: PLC0415 - as above

        from .keygen import PORTAL  # noqa: PLC0415 - as above

        signing_key, encryption_key, dh_params = self._load_keys()
        _title("3. IBKR's portal")
        consumer_key = self._value("consumer_key")
        if consumer_key is None:
            uploads = (
                ("Public Signing Key", self._public("public_signature.pem", signing_key), signing_key.fingerprint),
                (
                    "Public Encryption Key",
                    self._public("public_encryption.pem", encryption_key),
                    encryption_key.fingerprint,
                ),
                ("Diffie-Hellman Parameters", self._value("dh_params"), dh_params.fingerprint),
            )
            click.echo(f"Log in, with the user name that will trade:\n  {PORTAL}\n")
            common.say("Choose a consumer key of nine capital letters there, save it, and upload three files:\n")
            for field, path, fingerprint in uploads:
                click.echo(f"  {field}\n    file     {path}\n    SHA-256  {fingerprint}")
            common.say(
                "\nPrivate keys stay on this machine. Where the portal refuses something, ask with its words:\n"
                f'  ibkr-oauth explain "failed to set key"\nWhere it keeps you waiting, type `{_LATER}`.\n'
            )
            consumer_key = prompts.ask("Consumer key", _insist(_read_consumer_key))
            self._save({"consumer_key": consumer_key})
        else:
            common.say(f"The consumer key is {consumer_key}.")
        return Consumer(consumer_key, signing_key, encryption_key, dh_params)

    def _public(self, name: str, key: PrivateKey) -> Path:
        """The file to upload: where the private one is, or written to the profile's folder of keys."""
        from ibkr_oauth import files  # noqa: PLC0415 - as above

        setting = "signing_key" if "signature" in name else "encryption_key"
        content = key.public_pem().encode()
        beside = Path(self._value(setting) or "").with_name(name)
        if beside.is_file() and beside.read_bytes() == content:
            return beside
        path = self._key_folder() / name
        try:
            files.write_private(str(path), content)
        except OSError as error:
            raise errors.ConfigurationError(
                f"{path} could not be written: {error.strerror}",
                advice="Give a file in a folder of your own as IBKR_OAUTH_CONFIG.",
            ) from None
        return path

    # --- Access token ----------------------------------------------------------------------------

    def _ask_token(self, consumer: Consumer, *, keep_token: bool) -> None:
        """Asks for token and secret. `keep_token`: one that is there, and a new one at once; without it nothing is
        written before the pair is complete, since a token with the former secret is worth nothing."""
        _title("4. Access token")
        token = self._value("access_token") if keep_token else None
        if token is None:
            common.say(
                "Press Generate Token in the portal, then enable OAuth access. It shows an access token (20 digits "
                f"and letters) and its secret, once. Nothing yet? Type `{_LATER}`.\n"
            )
            token = prompts.ask("Access token", _insist(_read_access_token))
            if keep_token:
                self._save({"access_token": token})
        else:
            common.say(f"The access token that begins with {token[:4]} is there; now its secret.")
        length = -(-consumer.encryption_key.bits // 24) * 4
        secret = prompts.ask_secret(
            "Access token secret", lambda text: self._read_secret(text, token, consumer), length
        )
        self._save({"access_token": token, "access_token_secret": secret})

    def _read_secret(self, text: str, token: str, consumer: Consumer) -> str:
        """Proves by decrypting it that the secret belongs to the key."""
        from ibkr_oauth import AccessToken  # noqa: PLC0415 - as above

        if text.strip().lower() == _LATER:
            raise _Later
        access_token = AccessToken(token, text)
        try:
            consumer.decrypt_secret(access_token)
        except errors.KeyMismatchError as error:
            if "swapped" not in error.message:
                raise
            common.say("Signing key and encryption key are swapped: the secret belongs to the other one.")
            click.confirm("Exchange them", default=True, abort=True)
            signing_key, encryption_key = self._value("signing_key"), self._value("encryption_key")
            self._save({"signing_key": encryption_key or "", "encryption_key": signing_key or ""})
        if access_token.secret != text.strip():
            common.say("Blanks and line breaks inside are taken out: they come from copying.")
        common.say(f"The secret fits: {len(access_token.secret)} characters, and it decrypts.")
        return access_token.secret

    # --- The end ---------------------------------------------------------------------------------

    def _check(self) -> int:
        from . import doctor  # noqa: PLC0415 - `--help` does without

        _title("5. Check")
        report = doctor._examine(config.load(self.name), offline=False, as_json=False)
        doctor._conclude(report, None)
        if not report.good:
            common.say(f"The profile is stored; check it again with: {self.again}")
            return doctor._exit_code(report)
        self._first_call()
        return 0

    def _first_call(self) -> None:
        _title("6. A first signed call")
        with common.open_session(self._ctx, brokerage="never") as session:
            click.echo(f"GET {session.base_url}{_FIRST_CALL}")
            answer = session.get(_FIRST_CALL).raise_for_status()
        lines = json.dumps(answer.json(), indent=2, ensure_ascii=False).splitlines()
        shown = lines[:_MAX_SHOWN] + (["…"] if len(lines) > _MAX_SHOWN else [])
        click.echo(f"{answer.status_code}, signed with your keys:")
        for line in shown:
            click.echo(f"  {common.printable(line)}")
        click.echo(
            f"\nDone. In a program:\n"
            f"  from ibkr_oauth import Session\n"
            f'  with Session.from_profile("{self.name}") as ibkr:\n'
            f'      print(ibkr.get("{_FIRST_CALL}").json())\n'
            f"In the shell: ibkr-oauth get {_FIRST_CALL} --profile {self.name}"
        )


def _title(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


# --- Key files ------------------------------------------------------------------------------------


def _in_folder(folder: Path) -> dict[str, str]:
    from ibkr_oauth import keygen  # noqa: PLC0415 - as above

    names = (keygen.PRIVATE_SIGNATURE, keygen.PRIVATE_ENCRYPTION, keygen.DH_PARAMS)
    return {setting: str(folder / name) for setting, name in zip(_KEYS, names, strict=True)}


def _is_complete(folder: Path) -> bool:
    return all(Path(path).is_file() for path in _in_folder(folder).values())


def _generate(folder: Path, dh_params: Path | None) -> dict[str, str]:
    """New keys; what was there before, and was not complete, stays."""
    from ibkr_oauth import DHParameters, keygen  # noqa: PLC0415 - as above

    from .keygen import _progress  # noqa: PLC0415 - as above

    given = None if dh_params is None else DHParameters.load(dh_params)
    if given is None:
        common.say("The search for a prime of your own takes 10 seconds to some minutes.")
    number, chosen = 1, folder
    while chosen.exists() and any(chosen.iterdir()):
        number += 1
        chosen = folder.with_name(f"{folder.name}-{number}")
    with _progress(common.make_console()) as progress:
        made = keygen.generate_keys(chosen, dh_params=given, progress=progress)
    common.say(f"Made the keys in {made.directory}")
    return _in_folder(made.directory)


def _ask_for_files() -> dict[str, str]:
    signing = prompts.ask("File of the private key that signs", lambda text: _read_key_file("signing key", text))
    encryption = prompts.ask(
        "File of the private key that decrypts", lambda text: _read_key_file("encryption key", text, other=signing)
    )
    dh_params = prompts.ask("File of the Diffie-Hellman parameters", _read_dh_file)
    return dict(zip(_KEYS, (signing, encryption, dh_params), strict=True))


def _read_key_file(what: str, text: str, *, other: str | None = None) -> str:
    """The path of a private key. `other`: that of the key which it must not be."""
    from ibkr_oauth import doctor  # noqa: PLC0415 - as above

    path = _read_path(text)
    password = config.key_password()
    file = doctor.identify(path, passphrase=password)
    if file.problem is not None:
        raise errors.KeyFormatError(f"{what}: {file.problem}", advice=file.advice)
    if file.slot == "dh_params":
        raise errors.KeyFormatError(f"{what}: these are {file.kind}, expected a private RSA key")
    if other is not None and doctor.identify(other, passphrase=password).fingerprint == file.fingerprint:
        raise errors.KeyFormatError(
            f"{what}: this is the key that signs, again",
            advice="Give the other private key, whose public half you upload as Public Encryption Key.",
        )
    return path


def _read_dh_file(text: str) -> str:
    from ibkr_oauth import DHParameters, doctor  # noqa: PLC0415 - as above

    path = _read_path(text)
    file = doctor.identify(path, passphrase=config.key_password())
    if file.slot != "dh_params":
        raise errors.DHParametersError(f"this is a {file.kind}, expected Diffie-Hellman parameters")
    DHParameters.load(path).check()
    return path


def _read_path(text: str) -> str:
    path = Path(text.strip("'\"")).expanduser().absolute()
    if path.is_dir():
        names = ", ".join(sorted(one.name for one in path.iterdir())[:10]) or "nothing"
        raise errors.ConfigurationError(f"{path} is a folder", advice=f"Give the file itself. In it: {names}.")
    if not path.is_file():
        raise errors.ConfigurationError(f"{path} is not there", advice="Give the path of an existing file.")
    return str(path)


# --- Answers --------------------------------------------------------------------------------------


def _read_profile_name(text: str) -> str:
    config._check_name(text)
    return text


def _read_consumer_key(text: str) -> str:
    if text.lower() == _LATER:
        raise _Later
    word = "".join(text.split())
    if word != text:
        common.say("Blanks are taken out.")
    if re.fullmatch(r"[A-Za-z]{9}", word) and word != word.upper():
        word = word.upper()
        common.say(f"IBKR keeps it in capitals: {word}")
    if not re.fullmatch(r"[A-Z]{9}|TESTCONS", word):
        raise errors.InvalidValue(
            f"consumer key: {len(word)} characters{_others(word, 'A-Za-z', 'letters')}, expected nine letters",
            advice="It is the one that you chose in the portal.",
        )
    return word


def _read_access_token(text: str) -> str:
    if text.lower() == _LATER:
        raise _Later
    word = "".join(text.split())
    if word != text:
        common.say("Blanks are taken out.")
    if len(word) > 100:
        raise errors.InvalidValue(
            f"access token: {len(word)} characters, expected 20: this looks like the secret",
            advice="Paste the short one first. The secret is asked for next.",
        )
    if not re.fullmatch(r"[0-9a-f]{20}", word):
        raise errors.InvalidValue(
            f"access token: {len(word)} characters{_others(word, '0-9a-f', '0-9 and a-f')}, expected 20 of 0-9 and a-f",
            advice="Copy it again from the portal, whole.",
        )
    return word


def _others(word: str, allowed: str, words: str) -> str:
    bad = re.search(f"[^{allowed}]", word)
    return "" if bad is None else f", character {bad.start() + 1} is none of {words}"


def _insist(read: Callable[[str], str]) -> Callable[[str], str]:
    """Takes at the second time in a row what `read` refuses: IBKR may change its formats before we do."""
    refused: list[str] = []

    def read_again(text: str) -> str:
        if text and text in refused and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
            return text
        try:
            return read(text)
        except errors.InvalidValue as error:
            refused[:] = [text]
            raise errors.InvalidValue(
                error.message, advice=f"{error.advice} Is it right? Then type it once more."
            ) from None

    return read_again
