"""Settings and where each of them comes from, read when they are used and not at import.

The order is: keyword argument, the profile that was chosen, environment, the default profile of the file, folder of
keys. Two sources that disagree are a warning; the first one is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from . import files
from .consumer import Consumer, DHParameters, PrivateKey, _is_path, _names_a_file
from .errors import ConfigurationError, IBKROAuthError, MissingSetting
from .log import WARNING, Log
from .redact import mask
from .tokens import AccessToken

if TYPE_CHECKING:
    from .stores import FileStore

logger = Log("ibkr_oauth.config")


class _Setting(NamedTuple):
    """A setting, the names of its variables in the order of asking, and its file in the folder of keys."""

    name: str
    variables: tuple[str, ...]
    file: str | None = None
    is_path: bool = False


# Ours, and those that users of ibind have already, whose text of a key comes before its path.
_SETTINGS = (
    _Setting("consumer_key", ("IBKR_OAUTH_CONSUMER_KEY", "IBIND_OAUTH1A_CONSUMER_KEY")),
    _Setting("access_token", ("IBKR_OAUTH_ACCESS_TOKEN", "IBIND_OAUTH1A_ACCESS_TOKEN")),
    _Setting("access_token_secret", ("IBKR_OAUTH_ACCESS_TOKEN_SECRET", "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET")),
    _Setting(
        "signing_key",
        ("IBKR_OAUTH_SIGNING_KEY", "IBIND_OAUTH1A_SIGNATURE_KEY", "IBIND_OAUTH1A_SIGNATURE_KEY_FP"),
        "private_signature.pem",
        is_path=True,
    ),
    _Setting(
        "encryption_key",
        ("IBKR_OAUTH_ENCRYPTION_KEY", "IBIND_OAUTH1A_ENCRYPTION_KEY", "IBIND_OAUTH1A_ENCRYPTION_KEY_FP"),
        "private_encryption.pem",
        is_path=True,
    ),
    _Setting("dh_params", ("IBKR_OAUTH_DH_PARAMS", "IBIND_OAUTH1A_DH_PRIME"), "dhparam.pem", is_path=True),
    _Setting("realm", ("IBKR_OAUTH_REALM", "IBIND_OAUTH1A_REALM")),
    _Setting("base_url", ("IBKR_OAUTH_BASE_URL", "IBIND_OAUTH1A_REST_URL")),
    _Setting("ca_file", ("IBKR_OAUTH_CA_FILE",), is_path=True),
    _Setting("proxy", ("IBKR_OAUTH_PROXY",)),
)
#: Names of all settings, as keyword arguments of `load` and keys of a profile have them.
NAMES = tuple(setting.name for setting in _SETTINGS)

_KEYS_DIR = "IBKR_OAUTH_KEYS_DIR"
_PROFILE = "IBKR_OAUTH_PROFILE"
_CONFIG = "IBKR_OAUTH_CONFIG"
_KEY_PASSWORD = "IBKR_OAUTH_KEY_PASSWORD"  # noqa: S105 - names of secrets are none
_DH_GENERATOR = "IBIND_OAUTH1A_DH_GENERATOR"

_KEYWORD = "keyword argument"
_KEYRING = "keyring"
_SECRET = "access_token_secret"  # noqa: S105
_PRIVATE_KEYS = ("signing_key", "encryption_key")
#: Longest file that is read, in bytes.
_MAX_FILE = 1 << 20


class Value(NamedTuple):
    """A setting as found. `origin`: where, for people."""

    text: str
    origin: str

    def __repr__(self) -> str:
        return f"<Value from {self.origin}>"


#: The keyring's, which may want its owner to unlock it: asked for when it is needed.
_IN_KEYRING = Value("", _KEYRING)


class Conflict(NamedTuple):
    """Two sources of one setting that say different things."""

    name: str
    used: Value
    other: Value

    def __str__(self) -> str:
        return f"{_words(self.name)}: {self.used.origin} is used, and {self.other.origin} says something else"


class Shown(NamedTuple):
    """A setting that may be shown: secrets are masked. `value` is None where there is none."""

    name: str
    value: str | None
    origin: str | None


class Settings:
    """Values as found, and where. Nothing is loaded before `consumer()`.

    `profile`: the one that was chosen, or else the file's default; None where no profile takes part.
    """

    def __init__(
        self,
        found: Mapping[str, list[Value]],
        environment: Mapping[str, str],
        *,
        profile: str | None = None,
        file: str | None = None,
        advice: str | None = None,
    ) -> None:
        self.profile = profile
        self._found = found
        self._environment = environment
        self._file = file
        self._profiles_origin = None if profile is None or file is None else _origin(profile, file)
        self._advice = advice

    def __repr__(self) -> str:
        return f"<Settings {', '.join(f'{name} from {origin}' for name, origin in self.origins.items())}>"

    # --- What was found --------------------------------------------------------------------------

    @cached_property
    def origins(self) -> Mapping[str, str]:
        """By setting: where its value comes from."""
        return {name: self._found[name][0].origin for name in NAMES if name in self._found}

    def get(self, name: str) -> Value | None:
        """The value that is used, None where there is none. Raises ConfigurationError where the keyring fails."""
        value = self._found[name][0] if name in self._found else None
        return self._kept_value if value == _IN_KEYRING else value

    @cached_property
    def _kept_value(self) -> Value | None:
        assert self.profile is not None
        text = _from_keyring(f"{self.profile}/{_SECRET}")
        return None if text is None else Value(text, _KEYRING)

    @cached_property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Sources that disagree about a setting, in the order of the settings. Does not ask the keyring."""
        return tuple(
            Conflict(name, used, other)
            for name, (used, *others) in ((name, self._found[name]) for name in NAMES if name in self._found)
            for other in others
            if _IN_KEYRING not in (used, other) and not self._agree(name, used.text, other.text)
        )

    def _agree(self, name: str, one: str, other: str) -> bool:
        """Whether they mean the same: a key may be given as its text or as a path, an address with a slash at its
        end."""
        return one == other or self._meaning(name, one) == self._meaning(name, other)

    def _meaning(self, name: str, text: str) -> object:
        try:
            if name == "dh_params":
                return DHParameters.load(text)
            if name in _PRIVATE_KEYS:
                return PrivateKey.load(text, key_password(self._environment))
        except IBKROAuthError:
            return os.path.realpath(os.path.expanduser(text)) if _is_path(text) else text
        if name == "ca_file":
            return os.path.realpath(os.path.expanduser(text))
        return "".join(text.split()).rstrip("/") if name == "base_url" else "".join(text.split())

    def masked(self) -> list[Shown]:
        """All settings, with and without a value, for people. Does not ask the keyring."""
        shown: list[Shown] = []
        for name in NAMES:
            value = self._found[name][0] if name in self._found else None
            if value is None:
                shown.append(Shown(name, None, None))
            else:
                text = "(not shown)" if value == _IN_KEYRING else _masked(name, value.text)
                shown.append(Shown(name, text, value.origin))
        return shown

    # --- What is made of it ----------------------------------------------------------------------

    def consumer(self) -> Consumer:
        """Loads the keys. Raises MissingSetting, InsecurePermissionsError and the errors of `Consumer`.

        Where sources disagree, that is logged as a warning.
        """
        self._warn()
        consumer_key = self._need("consumer_key").text
        signing_key, encryption_key = (self._private(name) for name in _PRIVATE_KEYS)
        dh_params = DHParameters.load(self._need("dh_params").text)
        if self._environment.get(_DH_GENERATOR) not in (None, "", str(dh_params.generator)):
            raise ConfigurationError(f"{_DH_GENERATOR} is not {dh_params.generator}, the generator of the parameters")
        realm = self.get("realm")
        return Consumer(
            consumer_key,
            signing_key,
            encryption_key,
            dh_params,
            realm=None if realm is None else realm.text,
            passphrase=key_password(self._environment),
        )

    def access_token(self) -> AccessToken:
        """Raises MissingSetting, InsecurePermissionsError, and ConfigurationError where the keyring fails."""
        token, secret = self._need("access_token"), self._need(_SECRET)
        self._check_file(_SECRET, secret)
        return AccessToken(token.text, secret.text)

    def options(self) -> dict[str, Any]:
        """Keyword arguments of a session: addresses."""
        found = ((name, self.get(name)) for name in ("base_url", "ca_file", "proxy"))
        return {name: value.text for name, value in found if value is not None}

    def store(self) -> FileStore:
        """Where live session tokens are kept between runs: a place for each profile, and one for what the environment
        says."""
        from . import stores  # noqa: PLC0415 - not every program keeps them

        name = "environment"
        if self.profile is not None and self.origins.get("access_token") == self._profiles_origin:
            name = self.profile
        return stores.FileStore(stores.default_path(name, self._environment))

    def _private(self, name: str) -> str:
        value = self._need(name)
        if _is_path(value.text):
            files.check_private(value.text, _words(name), self._environment)
        else:
            self._check_file(name, value)
        return value.text

    def _check_file(self, name: str, value: Value) -> None:
        """A file of profiles that holds a secret itself has to be private."""
        if self._file is not None and value.origin == self._profiles_origin:
            files.check_private(self._file, _words(name), self._environment)

    def _need(self, name: str) -> Value:
        value = self.get(name)
        if value is None:
            setting = next(setting for setting in _SETTINGS if setting.name == name)
            places = " or ".join(setting.variables)
            if setting.file:
                places += f", or put {setting.file} into the folder that {_KEYS_DIR} names"
            advice = f"Set {places}."
            raise MissingSetting(
                f"{_words(name)}: missing", advice=advice if self._advice is None else f"{advice} {self._advice}"
            )
        return value

    def _warn(self) -> None:
        for conflict in self.conflicts:
            message = str(conflict)
            if message not in _told:
                _told.add(message)
                logger.log(WARNING, "%s", message)


_told: set[str] = set()


# --- Sources --------------------------------------------------------------------------------------


def from_env(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from these variables, by default those of the process. Empty ones count as not set."""
    environment = os.environ if environment is None else environment
    return Settings(_found([_variables(environment), _key_folder(environment)]), environment)


def load(profile: str | None = None, *, environment: Mapping[str, str] | None = None, **given: str | None) -> Settings:
    """Settings from everywhere. `given`: settings by name, which come first; None counts as not given.

    `profile`: by default the one that IBKR_OAUTH_PROFILE names; either comes before the environment. Where none is
    named, the file's `default_profile` comes after it.

    Raises ConfigurationError where the file, the profile or one of its keys cannot be used, TypeError for a name in
    `given` that is none of `NAMES`.
    """
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
    environment = os.environ if environment is None else environment
    path = config_file(environment)
    file = _File.read(path)
    chosen = profile or environment.get(_PROFILE) or None
    used = chosen or file.default
    chosen_by = "" if profile else f" (from {_PROFILE})" if chosen else " (the default_profile)"
    values = {} if used is None else file.profile(used, chosen_by)
    is_kept = values.pop(_KEYRING, False)
    from_profile = [(name, Value(text, _origin(used or "", path))) for name, text in values.items()]
    if is_kept:
        from_profile.append((_SECRET, _IN_KEYRING))
    keywords = [(name, Value(text, _KEYWORD)) for name, text in given.items() if text]
    sources: list[Any] = [keywords, _variables(environment), _key_folder(environment)]
    sources.insert(1 if chosen else 2, from_profile)
    found = _found(sources)
    if used is not None:
        advice = f"Or put it into the profile {used} of {path}."
    elif file.names:
        advice = f"Or choose a profile with --profile or {_PROFILE}: {', '.join(file.names)}."
    else:
        advice = "Or let `ibkr-oauth init` make a profile."
    return Settings(
        found,
        environment,
        profile=used,
        file=path,
        advice=advice,
    )


def config_file(environment: Mapping[str, str] | None = None) -> str:
    """Path of the file of profiles, whether it is there or not: IBKR_OAUTH_CONFIG, or where the platform has settings.

    That is `~/.config/ibkr-oauth/config.toml` ($XDG_CONFIG_HOME), on macOS below `~/Library/Application Support`, on
    Windows below `%APPDATA%`.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(_CONFIG)
    if given:
        return os.path.abspath(os.path.expanduser(given))
    return os.path.join(files.config_folder(environment), "config.toml")


def profile_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Of the profiles in the file, as they stand there. Raises ConfigurationError where it cannot be read."""
    return _File.read(config_file(environment)).names


def key_password(environment: Mapping[str, str] | None = None) -> str | None:
    """Of both private key files, where they are encrypted: IBKR_OAUTH_KEY_PASSWORD."""
    environment = os.environ if environment is None else environment
    return environment.get(_KEY_PASSWORD) or None


def _found(sources: list[Any]) -> dict[str, list[Value]]:
    """By setting: all its values, the first of which is used."""
    found: dict[str, list[Value]] = {}
    for source in sources:
        for name, value in source:
            found.setdefault(name, []).append(value)
    return found


def _variables(environment: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    for setting in _SETTINGS:
        for variable in setting.variables:
            text = environment.get(variable)
            if text:
                yield setting.name, Value(text, variable)


def _key_folder(environment: Mapping[str, str]) -> Iterator[tuple[str, Value]]:
    folder = environment.get(_KEYS_DIR)
    if folder:
        for setting in _SETTINGS:
            path = os.path.join(os.path.expanduser(folder), setting.file or "")
            if setting.file and os.path.exists(path):
                yield setting.name, Value(path, _KEYS_DIR)


# --- The file of profiles -------------------------------------------------------------------------


class _File:
    """The file of profiles, checked as far as all of them have it in common. One that is not there has none."""

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self._path = path
        unknown = sorted(set(content) - {"default_profile", "profile"})
        if unknown:
            raise ConfigurationError(
                f"{path}: unknown key {_shown_key(unknown[0])} at the top",
                advice="At the top of the file stands default_profile; settings belong below a line [profile.NAME].",
            )
        self.default = content.get("default_profile") or None
        if self.default is not None and not isinstance(self.default, str):
            raise ConfigurationError(
                f"{path}: default_profile is {_kind(self.default)}, expected a text",
                advice='Write the name of a profile in quotes: default_profile = "paper".',
            )
        profiles = content.get("profile", {})
        if not isinstance(profiles, dict):
            raise ConfigurationError(
                f"{path}: profile is {_kind(profiles)}, expected a table for each profile",
                advice="Begin each profile with a line of its own: [profile.paper].",
            )
        self._profiles = cast("dict[str, Any]", profiles)
        for name in (*self._profiles, *filter(None, [self.default])):
            _check_name(name, f"{path}: ")

    @classmethod
    def read(cls, path: str) -> _File:
        """Raises ConfigurationError."""
        data = _read_file(path)
        return cls(path, {} if data is None else _parse(path, data))

    @property
    def names(self) -> list[str]:
        return list(self._profiles)

    def profile(self, name: str, chosen_by: str = "") -> dict[str, Any]:
        """The settings of a profile, with paths made absolute: they are relative to the file's folder.

        `keyring` is True where the secret is kept there. Raises ConfigurationError.
        """
        values = self._profiles.get(name)
        if values is None:
            others = f"Profiles there: {', '.join(self.names)}." if self.names else "It has none."
            if not os.path.exists(self._path):
                others = "There is no such file yet: `ibkr-oauth init` makes one."
            raise ConfigurationError(f"profile {name}{chosen_by}: not in {self._path}", advice=others)
        where = f"{self._path}, profile {name}"
        if not isinstance(values, dict):
            raise ConfigurationError(f"{where}: it is {_kind(values)}, expected a table", advice=_WRITE_TABLE)
        for key, value in cast("dict[str, Any]", values).items():
            _check_key(where, key, value)
        checked = {key: value for key, value in cast("dict[str, Any]", values).items() if value != ""}
        if checked.get(_KEYRING) and _SECRET in checked:
            raise ConfigurationError(
                f"{where}: {_SECRET} is there, and keyring = true says that it is kept in the keyring",
                advice="Remove one of the two.",
            )
        for setting in _SETTINGS:
            text = checked.get(setting.name)
            if setting.is_path and text and _is_path(text):
                checked[setting.name] = os.path.join(os.path.dirname(self._path), os.path.expanduser(text))
        return checked


def _check_key(where: str, key: str, value: object) -> None:
    if key not in (*NAMES, _KEYRING):
        raise ConfigurationError(f"{where}: unknown key {_shown_key(key)}", advice=_advice_for_key(key))
    expected, kind = (bool, "true or false") if key == _KEYRING else (str, "a text in quotes")
    if not isinstance(value, expected):
        raise ConfigurationError(
            f"{where}: {key} is {_kind(value)}, expected {kind}", advice=f"Correct {key} in that file."
        )


_WRITE_TABLE = "Begin the profile with a line of its own, [profile.NAME], and give each setting a line below it."


def _read_file(path: str) -> bytes | None:
    """None where there is no such file."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        raise ConfigurationError(
            f"{path} could not be read: {reason}", advice=f"Give a file of your own as {_CONFIG}, or none."
        ) from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError(
            f"{path} is longer than {_MAX_FILE >> 20} MiB", advice=f"That is no file of profiles: correct {_CONFIG}."
        )
    return data


def _parse(path: str, data: bytes) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - settings from the environment do without

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line, what = data.count(b"\n", 0, error.start) + 1, "not UTF-8"
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+), column", str(error))
        line, what = int(place[1]) if place else data.count(b"\n") + 1, "not valid TOML"
    except ValueError:  # of Python itself, from 4300 digits on
        line, what = 0, "a number in it is too long"
    except RecursionError:
        line, what = 0, "it is nested too deeply"
    # Outside of the handlers: the errors hold the text of the file, and would be kept as context.
    raise ConfigurationError(
        f"{path}, line {line}: {what}" if line else f"{path}: {what}",
        advice='A setting is one line, its value in quotes: consumer_key = "ABCDEFGHI". Correct the line.',
    )


def _advice_for_key(key: str) -> str:
    import difflib  # noqa: PLC0415 - only where something is wrong

    close = difflib.get_close_matches(key, (*NAMES, _KEYRING), n=1)
    return f"Did you mean {close[0]}?" if close else f"Known are {', '.join(NAMES)} and {_KEYRING}."


def _shown_key(key: str) -> str:
    """A key that is no word may be a value that slipped."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key) else f"of {len(key)} characters"


def _kind(value: object) -> str:
    kinds = ((bool, "true or false"), (str, "a text"), ((int, float), "a number"), (list, "a list"), (dict, "a table"))
    return next((words for kind, words in kinds if isinstance(value, kind)), "a date or time")


def _origin(profile: str, path: str) -> str:
    return f"profile {profile} in {path}"


# --- Writing --------------------------------------------------------------------------------------


def save_profile(
    name: str,
    values: Mapping[str, str],
    *,
    environment: Mapping[str, str] | None = None,
    keyring: bool = False,
    default: bool = False,
) -> str:
    """Writes these settings into a profile, a new one or one that is there; returns the path of the file.

    What else the profile and the file hold, comments too, stays. An empty text removes a setting. Paths are relative to
    the working directory; those below the file's folder are written relative to that. `keyring`: the access token
    secret goes to the system's keyring and not into the file. `default`: from now on this is the default profile; the
    first one always is.

    The file is replaced as a whole, and can be read by its owner only. Whatever goes wrong, the former one stays. Needs
    the extra `cli`. Raises ConfigurationError.
    """
    environment = os.environ if environment is None else environment
    _check_name(name)
    path = config_file(environment)
    updates = {key: _written(key, text, os.path.dirname(path)) for key, text in values.items()}
    tomlkit = _import_tomlkit()
    try:
        with files.FileLock(f"{os.path.realpath(path)}.lock"):
            data = _read_file(path) or b""
            before = _File(path, _parse(path, data))
            former = before.profile(name) if name in before.names else {}
            secret = updates.get(_SECRET)
            if keyring and secret:
                _to_keyring(f"{name}/{_SECRET}", secret)
                updates[_SECRET] = ""
            document = tomlkit.parse(data.decode("utf-8-sig"))
            if default or not before.names:
                document["default_profile"] = name
            profiles = document.setdefault("profile", tomlkit.table(is_super_table=True))
            if name not in profiles:
                profiles[name] = {}  # becomes a table of the kind that fits there
            table = profiles[name]
            for key, text in updates.items():
                if text:
                    table[key] = text
                else:
                    table.pop(key, None)
            if secret is not None:
                table.pop(_KEYRING, None)
                if keyring and secret:
                    table[_KEYRING] = True
            content = cast("str", tomlkit.dumps(document)).encode()
            _File(path, _parse(path, content)).profile(name)  # what is written can be read
            files.write_private(path, content)
    except OSError as error:
        raise ConfigurationError(
            f"{path} could not be written: {error.strerror}",
            advice=f"Give a file in a folder of your own as {_CONFIG}. What was there before is unchanged.",
        ) from None
    if former.get(_KEYRING) and secret is not None and not keyring:
        _forget_in_keyring(f"{name}/{_SECRET}")
    return path


def _check_name(name: str, where: str = "") -> None:
    """The name itself is not shown: where it is none, it may be a value that slipped."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigurationError(
            f"{where}the name of a profile has {len(name)} characters, and others than letters, digits, _ and -"
            if name
            else f"{where}the name of a profile is empty",
            advice="Choose a short name, for instance paper or live.",
        )


def _written(key: str, text: str, folder: str) -> str:
    """As it stands in the file."""
    if key not in NAMES:
        raise ConfigurationError(f"{_shown_key(key)} is no setting of a profile", advice=_advice_for_key(key))
    if not isinstance(text, str):
        raise ConfigurationError(f"{key} is {_kind(text)}, expected a text", advice=f"Correct {key}.")
    is_path = next(setting.is_path for setting in _SETTINGS if setting.name == key)
    if not text or not is_path or not _is_path(text):
        return text
    path = os.path.abspath(os.path.expanduser(text))
    return os.path.relpath(path, folder) if path.startswith(os.path.join(folder, "")) else path


def _import_tomlkit() -> Any:
    try:
        import tomlkit  # noqa: PLC0415 - an extra, and only for those who write profiles
    except ImportError:
        raise ConfigurationError(
            "profiles are written with tomlkit, which is not installed", advice='pip install "ibkr_oauth[cli]"'
        ) from None
    return tomlkit


# --- The system's keyring -------------------------------------------------------------------------

_SERVICE = "ibkr_oauth"


def _import_keyring() -> Any:
    try:
        import keyring  # noqa: PLC0415 - an extra, and only for those who keep secrets there
    except ImportError:
        raise ConfigurationError(
            "the access token secret is to be kept in the system's keyring, and the package keyring is not installed",
            advice='pip install "ibkr_oauth[keyring]", or keep the secret in the file.',
        ) from None
    return keyring


def _from_keyring(account: str) -> str | None:
    backend = _import_keyring()
    try:
        return cast("str | None", backend.get_password(_SERVICE, account))
    except Exception as error:  # noqa: BLE001 - backends raise what they like
        reason = type(error).__name__
    raise _keyring_error(reason, account)


def _to_keyring(account: str, secret: str) -> None:
    backend = _import_keyring()
    try:
        backend.set_password(_SERVICE, account, secret)
    except Exception as error:  # noqa: BLE001 - as above
        reason = type(error).__name__
    else:
        return
    raise _keyring_error(reason, account)


def _forget_in_keyring(account: str) -> None:
    """What is not used any more. A keyring that cannot forget it keeps it: the file says that it is not there."""
    backend = _import_keyring()
    try:
        backend.delete_password(_SERVICE, account)
    except Exception as error:  # noqa: BLE001 - as above
        logger.log(WARNING, "the keyring did not forget %s: %s", account, type(error).__name__)


def _keyring_error(reason: str, account: str) -> ConfigurationError:
    """Outside of a handler, since frames of a backend's error hold the secret."""
    return ConfigurationError(
        f"the system's keyring failed ({reason}) for {account} of the service {_SERVICE}",
        advice="Unlock it, or see with `python -m keyring diagnose` whether there is one; on a server there often is "
        "none. The secret can also be kept in the file, or in IBKR_OAUTH_ACCESS_TOKEN_SECRET.",
    )


# --- Words ----------------------------------------------------------------------------------------


def _words(name: str) -> str:
    return name.replace("_", " ")


def _masked(name: str, text: str) -> str:
    """A value for people: enough to recognise it, and no secret."""
    if name == _SECRET:
        return f"({len(''.join(text.split()))} characters)"
    if name == "access_token":
        return mask(text.strip())
    if name in (*_PRIVATE_KEYS, "dh_params") and not (_is_path(text) and (_names_a_file(text) or os.path.exists(text))):
        return f"(text of {len(text)} characters)"
    if name in ("proxy", "base_url"):
        return re.sub(r"//[^/@]*@", "//…@", text)
    return text
