"""Set-ups of other clients, taken over: read from wherever they keep them, and made into the settings of a profile."""

from __future__ import annotations

import json
import ntpath
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from . import config, files
from .consumer import NO_FILE, DHParameters, PrivateKey, _is_path, _names_a_file
from .errors import ConfigurationError, DHParametersError, KeyFormatError
from .keygen import DH_PARAMS, PRIVATE_ENCRYPTION, PRIVATE_SIGNATURE

#: The source that stands for the variables of this process.
ENVIRONMENT = "env"

_FILES = {"signing_key": PRIVATE_SIGNATURE, "encryption_key": PRIVATE_ENCRYPTION, "dh_params": DH_PARAMS}
_SECRETS = ("consumer_key", "access_token", "access_token_secret")
_MAX_FILE = 1 << 20
_USER = re.compile(r"[\w.@ -]{1,32}")


class _Format(NamedTuple):
    """How one client calls our settings. Of several names for one the first that has a value counts."""

    kind: str
    names: Mapping[str, tuple[str, ...]]


_OURS = _Format("variables of ibkr_oauth", {name: (f"IBKR_OAUTH_{name.upper()}",) for name in config.NAMES})
_VARIABLES = (
    _OURS,
    _Format(
        "environment of ibind",
        {
            "consumer_key": ("IBIND_OAUTH1A_CONSUMER_KEY",),
            "access_token": ("IBIND_OAUTH1A_ACCESS_TOKEN",),
            "access_token_secret": ("IBIND_OAUTH1A_ACCESS_TOKEN_SECRET",),
            "signing_key": ("IBIND_OAUTH1A_SIGNATURE_KEY", "IBIND_OAUTH1A_SIGNATURE_KEY_FP"),
            "encryption_key": ("IBIND_OAUTH1A_ENCRYPTION_KEY", "IBIND_OAUTH1A_ENCRYPTION_KEY_FP"),
            "dh_params": ("IBIND_OAUTH1A_DH_PRIME",),
            "realm": ("IBIND_OAUTH1A_REALM",),
            "base_url": ("IBIND_OAUTH1A_REST_URL",),
        },
    ),
    _Format(
        "environment of ibkr-conduit",
        {
            "consumer_key": ("IBKR_CONSUMER_KEY",),
            "access_token": ("IBKR_ACCESS_TOKEN",),
            "access_token_secret": ("IBKR_ACCESS_TOKEN_SECRET",),
            "signing_key": ("IBKR_SIGNATURE_KEY",),
            "encryption_key": ("IBKR_ENCRYPTION_KEY",),
            "dh_params": ("IBKR_DH_PRIME",),
        },
    ),
    _Format(
        "environment of ibkr_web_client",
        {
            "consumer_key": ("API_IBKR_CONSUMER_KEY",),
            "access_token": ("API_IBKR_TOKEN",),
            "access_token_secret": ("API_IBKR_SECRET",),
            "signing_key": ("API_IBKR_DH_PRIVATE_SIGNATURE",),
            "encryption_key": ("API_IBKR_DH_PRIVATE_ENCRYPTION",),
            "dh_params": ("API_IBKR_DH_PARAM",),
        },
    ),
)
_DOCUMENTS = (
    _Format(
        "credentials of ibkr-conduit",
        {
            "consumer_key": ("consumerKey",),
            "access_token": ("accessToken",),
            "access_token_secret": ("accessTokenSecret",),
            "signing_key": ("signaturePrivateKey", "signatureKey"),
            "encryption_key": ("encryptionPrivateKey", "encryptionKey"),
            "dh_params": ("dhPrime",),
        },
    ),
    _Format(
        "oauth1.json of ibkr-client",
        {
            "consumer_key": ("consumerKey",),
            "access_token": ("accessToken",),
            "access_token_secret": ("accessTokenSecret",),
            "signing_key": ("signature",),
            "encryption_key": ("encryption",),
            "dh_params": ("dhPrime",),
            "realm": ("realm",),
        },
    ),
    _Format(
        "IBKR's sample credentials",
        {
            "consumer_key": ("consumer_key",),
            "access_token": ("access_token",),
            "access_token_secret": ("access_token_secret",),
            "signing_key": ("signature",),
            "encryption_key": ("encryption",),
            "dh_params": ("dhparam",),
            "realm": ("realm",),
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a source holds. `kind`: what it is, for people. `values`: by setting; a key is its text or a path.

    `fields`: by setting, what it is called there. `folder`: where its relative paths begin.
    """

    kind: str
    values: Mapping[str, str] = field(repr=False)
    fields: Mapping[str, str]
    folder: Path

    @property
    def missing(self) -> tuple[str, ...]:
        """Settings that a session needs and the source does not have."""
        return tuple(name for name in (*_SECRETS, *_FILES) if name not in self.values)


@dataclass(frozen=True, slots=True)
class Converted:
    """The settings of a profile, and the `written` key files."""

    values: Mapping[str, str] = field(repr=False)
    written: tuple[Path, ...]


# --- Reading --------------------------------------------------------------------------------------


def read(
    source: str | os.PathLike[str], *, user: str | None = None, environment: Mapping[str, str] | None = None
) -> Setup:
    """The set-up in a file, or in a folder of PEM files; `env` stands for `environment`, by default the process's.

    Files are recognised by their content: JSON of ibkr-conduit, of ibkr-client (oauth1.json) and of IBKR's sample, or
    lines NAME=value with the variables of ibind, ibkr-conduit, ibkr_web_client or ours. `user`: which one, where a
    sample has several. A folder has no tokens: they come from the variables of ours, if they are set.

    Raises ConfigurationError, which says what was looked for.
    """
    environment = os.environ if environment is None else environment
    if os.fspath(source) == ENVIRONMENT:
        return _from_variables(environment, Path.cwd(), "the environment")
    path = Path(source).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for a name that is too long
        return _from_folder(path, environment)
    text = _read_text(path)
    if text.lstrip().startswith(("{", "[")):
        return _from_json(text, path, user)
    return _from_variables(parse_variables(text), path.absolute().parent, str(path))


def parse_variables(text: str) -> dict[str, str]:
    """Lines NAME=value, as shells, Docker and python-dotenv read them: `export`, comments, quotes.

    A value in quotes may have several lines; in double quotes a backslash escapes.
    """
    variables: dict[str, str] = {}
    for match in _ASSIGNMENT.finditer(text):
        name, single, double, plain = match.groups()
        if double is not None:
            value = re.sub(r"\\([nrt\\\"'$])", lambda found: _ESCAPES.get(found[1], found[1]), double)
        else:
            value = single if single is not None else re.sub(r"\s#.*", "", plain).strip()
        variables[name] = value
    return variables


_ASSIGNMENT = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"""
    r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\n]*))""",
    re.MULTILINE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def _from_variables(variables: Mapping[str, str], folder: Path, where: str) -> Setup:
    found = [(form, _pick(form, variables)) for form in _VARIABLES]
    form, fields = max(found, key=lambda one: len(one[1]))
    if len(fields) < 3:
        raise ConfigurationError(
            f"{where}: not the set-up of a client that is known here",
            advice=_LOOKED_FOR + (f" Of these {', '.join(fields.values())} was found." if fields else ""),
        )
    return Setup(form.kind, {name: variables[fields[name]] for name in fields}, fields, folder)


_LOOKED_FOR = (
    "Looked for: lines NAME=value with IBIND_OAUTH1A_CONSUMER_KEY and the like (ibind), IBKR_CONSUMER_KEY "
    "(ibkr-conduit), API_IBKR_CONSUMER_KEY (ibkr_web_client) or IBKR_OAUTH_CONSUMER_KEY; JSON with consumerKey, "
    "accessToken and signaturePrivateKey (ibkr-conduit) or signature (oauth1.json), or with consumer_key, access_token "
    "and dhparam (IBKR's sample); a folder of PEM files."
)


def _from_json(text: str, path: Path, user: str | None) -> Setup:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        place = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "somewhere"
    except RecursionError:
        place = "nested too deeply"
    else:
        folder = path.absolute().parent
        setups = {name: setup for name, one in _objects(document) if (setup := _from_object(one, folder))}
        return _choose(setups, path, user)
    # Outside of the handler: the error holds the text of the file, and would be kept as context.
    raise ConfigurationError(
        f"{path}: not valid JSON ({place})",
        advice="Copy the file again, whole. In JSON a backslash in a Windows path is written twice.",
    )


def _objects(document: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    """The document itself, and what it holds by name, as IBKR's sample does for each user."""
    if isinstance(document, dict):
        members = cast("dict[str, Any]", document)
        yield "", members
        for name, member in members.items():
            if isinstance(member, dict):
                yield name, cast("dict[str, Any]", member)


def _from_object(members: Mapping[str, Any], folder: Path) -> Setup | None:
    texts = {name: value for name, value in members.items() if isinstance(value, str)}
    found = [(form, _pick(form, texts)) for form in _DOCUMENTS]
    form, fields = max(found, key=lambda one: len(one[1]))
    if len(fields) < 4:  # two of the formats have three names in common
        return None
    return Setup(form.kind, {name: texts[fields[name]] for name in fields}, fields, folder)


def _choose(setups: Mapping[str, Setup], path: Path, user: str | None) -> Setup:
    if user is not None:
        if user not in setups:
            raise ConfigurationError(f"{path}: no user {user} in it", advice=f"Users there: {_names(setups)}.")
        return setups[user]
    if not setups:
        raise ConfigurationError(f"{path}: not the set-up of a client that is known here", advice=_LOOKED_FOR)
    if len(setups) > 1:
        raise ConfigurationError(
            f"{path}: it holds several users: {_names(setups)}", advice="Name one of them with --user."
        )
    return next(iter(setups.values()))


def _names(setups: Mapping[str, Setup]) -> str:
    """Of the users, where they look like names: a value that slipped into such a place is not shown."""
    plain = [name for name in setups if _USER.fullmatch(name)]
    others = len(setups.keys() - {""}) - len(plain)
    return ", ".join(plain + [f"{others} more"] * (others > 0)) or "none"


def _pick(form: _Format, values: Mapping[str, str]) -> dict[str, str]:
    """By setting: the name under which there is a value."""
    return {
        setting: next(name for name in names if values.get(name, "").strip())
        for setting, names in form.names.items()
        if any(values.get(name, "").strip() for name in names)
    }


def _from_folder(folder: Path, environment: Mapping[str, str]) -> Setup:
    """Key files by what they are; which of the two RSA keys is which, by their names."""
    found: dict[str, list[Path]] = {name: [] for name in _FILES}
    unclear: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in (".pem", ".key", ".der", ".txt", ""):
            slot = _slot(path, environment)
            if slot in found:
                found[slot].append(path)
            elif slot:
                unclear.append(f"{path.name} ({slot})")
    paths = {name: _only(name, candidates) for name, candidates in found.items() if candidates}
    if len(paths) < len(_FILES) and (unclear or not paths):
        lacking = ", ".join(standard for name, standard in _FILES.items() if name not in paths)
        raise ConfigurationError(
            f"{folder}: not in it: {lacking}",
            advice=f"Not clear: {', '.join(unclear)}. {_NAME_THEM}"
            if unclear
            else "Give the folder of your PEM files.",
        )
    values = {name: str(path.absolute()) for name, path in paths.items()}
    fields = {name: path.name for name, path in paths.items()}
    for name, variable in _pick(_OURS, environment).items():
        if name not in _FILES:
            values[name], fields[name] = environment[variable], variable
    return Setup("folder of key files", values, fields, folder.absolute())


def _only(name: str, candidates: list[Path]) -> Path:
    standard = _FILES[name]
    exact = [path for path in candidates if path.name == standard]
    if len(candidates) > 1 and not exact:
        names = ", ".join(path.name for path in candidates)
        raise ConfigurationError(
            f"{candidates[0].parent}: several files could be the {name.replace('_', ' ')}: {names}",
            advice=f"Name the one to use {standard}.",
        )
    return (exact or candidates)[0]


_NAME_THEM = f"Name the key that signs {PRIVATE_SIGNATURE} and the one that decrypts {PRIVATE_ENCRYPTION}."


def _slot(path: Path, environment: Mapping[str, str]) -> str | None:
    """The setting that a file belongs to, or what else may be told of it; None for what is no key of ours."""
    name = path.name.lower()
    try:
        PrivateKey.load(path, config.key_password(environment))
    except KeyFormatError as error:
        if path.name in (PRIVATE_SIGNATURE, PRIVATE_ENCRYPTION):
            raise
        reason = error.message
    else:
        is_signing, is_encryption = "sig" in name, "enc" in name
        if is_signing != is_encryption:
            return "signing_key" if is_signing else "encryption_key"
        return "a private key, of which the name does not say whether it signs or decrypts"
    try:
        DHParameters.load(path)
    except DHParametersError:
        if path.name == DH_PARAMS:
            raise
        return reason.partition(": ")[2] if "priv" in name else None
    return "dh_params"


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        raise ConfigurationError(
            f"{path} could not be read: {reason}",
            advice=f"Give a file, a folder of key files, or {ENVIRONMENT} for the variables of this process.",
        ) from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError(f"{path} is longer than {_MAX_FILE >> 20} MiB", advice=_LOOKED_FOR)
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # what redirects of Windows write
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        pass
    raise ConfigurationError(f"{path}: not a text file", advice=_LOOKED_FOR)


# --- Converting -----------------------------------------------------------------------------------


def convert(setup: Setup, folder: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> Converted:
    """Makes the settings of a profile. Keys that the source holds as text become files in `folder`, their owner's only.

    Keys that it names by path stay where they are. A path of another computer, such as that of a Windows machine, is
    looked for by its file name beside the source, too. A file in `folder` that holds another key is never replaced:
    then it is `folder`-2, and so on. All keys are loaded before anything is written.

    Raises KeyFormatError, DHParametersError and ConfigurationError.
    """
    environment = os.environ if environment is None else environment
    values = {name: text.strip() for name, text in setup.values.items() if name not in _FILES}
    contents: dict[str, bytes] = {}
    for name in _FILES:
        text = setup.values.get(name)
        if text is None:
            continue
        if _is_path(text.strip()):
            values[name] = _find(text.strip(), name, setup)
            _content(name, values[name], setup, environment)  # only to see that it can be loaded
        else:
            contents[name] = _content(name, text, setup, environment)
    written = _write(contents, Path(folder))
    return Converted({**values, **{name: str(path) for name, path in written.items()}}, tuple(written.values()))


def _find(text: str, name: str, setup: Setup) -> str:
    """The file that a path means, here."""
    path = os.path.expanduser(text)  # noqa: PTH111 - pathlib raises for a "~" of nobody
    tried = [setup.folder / path, setup.folder / path.replace("\\", "/"), setup.folder / ntpath.basename(path)]
    for one in tried:
        if one.is_file():
            return str(one)
    if not _names_a_file(text):
        message = f"{setup.fields[name]} is neither a key nor the path of a file: a text of {len(text)} characters"
        raise ConfigurationError(message, advice=NO_FILE)
    raise ConfigurationError(
        f"{setup.fields[name]} names the file {text}, which is not there",
        advice=f"Put {ntpath.basename(text)} into {setup.folder}, or correct the path in the source.",
    )


def _content(name: str, source: str, setup: Setup, environment: Mapping[str, str]) -> bytes:
    """Of the file for a key, in the one form that every program reads; what is encrypted stays so."""
    what = f"{name.replace('_', ' ')} ({setup.fields[name]})"
    if name == "dh_params":
        try:
            return DHParameters.load(source.strip()).pem().encode()
        except DHParametersError as error:
            raise DHParametersError(f"{setup.fields[name]}: {error.message}", advice=error.advice) from None
    password = config.key_password(environment)
    key = PrivateKey.load(source, password, what=what)
    if password is not None:
        try:
            PrivateKey.load(source)
        except KeyFormatError:
            return source.encode()
    return key.private_pem().reveal()


def _write(contents: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    if not contents:
        return {}
    number, chosen = 1, folder
    try:
        while any(_holds_another(chosen / _FILES[name], content) for name, content in contents.items()):
            number += 1
            chosen = folder.with_name(f"{folder.name}-{number}")
        paths = {name: chosen / _FILES[name] for name in contents}
        for name, content in contents.items():
            files.write_private(str(paths[name]), content)
    except OSError as error:
        raise ConfigurationError(
            f"{chosen}: keys could not be written: {error.strerror}",
            advice="Give a file in a folder of your own as IBKR_OAUTH_CONFIG. The profile is unchanged.",
        ) from None
    return paths


def _holds_another(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() != content
    except FileNotFoundError:
        return False
