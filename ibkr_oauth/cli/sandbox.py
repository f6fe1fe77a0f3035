"""`ibkr-oauth sandbox`: a sandbox in the foreground, with a consumer that is ready to be used."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, cast

import click
from rich.console import Console
from rich.text import Text

from ibkr_oauth import keygen
from ibkr_oauth.consumer import DHParameters, PrivateKey
from ibkr_oauth.errors import ConfigurationError, MissingSetting

from . import common

if TYPE_CHECKING:
    from ibkr_oauth.sandbox import QueryRule, RecordedRequest, RegisteredConsumer, Sandbox

CONSUMER_KEY = "SANDBOXED"
USERNAME = "paper"

_LOGGER = "ibkr_oauth.sandbox"


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--tls/--http",
    "tls",
    default=True,
    help="Serve https with a certificate authority of its own (the default), or plain http.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="Scheme, host and port that clients use, if they differ from where it listens.",
)
@click.option(
    "--keys",
    "keys_directory",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path, file_okay=False),
    help="Use the key files there, and make those that are missing. Otherwise keys are made for this run only.",
)
@click.option("--consumer-key", metavar="KEY", default=CONSUMER_KEY, show_default=True, help="To register.")
@click.option("--auto-consent", is_flag=True, help="Grant access without showing the consent page.")
@click.option("--explain", is_flag=True, help="Say why a signature is refused.")
@click.option(
    "--query-rule",
    "query_rules",
    type=click.Choice(["merge", "omit", "url", "rfc5849"]),
    multiple=True,
    help="Accept queries signed so, and in no other way; may be given several times.",
)
@click.option("--enforce-pacing", is_flag=True, help="Answer 429 beyond the limits that IBKR publishes.")
@click.option("--cookie-auth", is_flag=True, help="Accept the session cookie in place of a signature.")
@click.option(
    "--token-lifetime",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=86400.0,
    show_default=True,
    help="Of live session tokens.",
)
@click.option("--quiet", is_flag=True, help="Do not log requests.")
@click.option(
    "--until-eof", is_flag=True, help="End when standard input ends, as it does with the program that holds it."
)
@click.option("--ibind", is_flag=True, help="Print the variables that ibind reads, too.")
@common.output_options
def command(
    host: str,
    port: int,
    tls: bool,
    public_url: str | None,
    keys_directory: Path | None,
    consumer_key: str,
    auto_consent: bool,
    explain: bool,
    query_rules: tuple[QueryRule, ...],
    enforce_pacing: bool,
    cookie_auth: bool,
    token_lifetime: float,
    quiet: bool,
    until_eof: bool,
    ibind: bool,
    as_json: bool,
) -> None:
    """Play Interactive Brokers on this machine, until Ctrl-C.

    Registers a consumer, grants it an access token, and prints the environment that a client needs,
    as lines for a shell; with --json, as one line once the sandbox is ready. Each request is then
    logged on standard error: method, path, status, the rule that the query was signed by, and the
    reason where it is refused. Tests in any language steer it by POST to the control URL that it
    prints: expire_token, drop_connection, maintenance and so on.
    """
    sandbox_class = common.import_sandbox()
    with ExitStack() as cleanup:
        cleanup.enter_context(_ended_by_signals())
        keys = _Keys.load(keys_directory or Path(cleanup.enter_context(_temporary_directory())))
        try:
            sandbox = sandbox_class(
                host=host,
                port=port,
                tls=tls,
                public_url=public_url,
                auto_consent=auto_consent,
                explain=explain,
                query_rules=query_rules or ("merge", "omit", "url"),
                enforce_pacing=enforce_pacing,
                cookie_auth=cookie_auth,
                live_session_token_lifetime=token_lifetime,
            )
            consumer = sandbox.register(
                consumer_key,
                keys.signing.public_pem(),
                keys.encryption.public_pem(),
                keys.dh_params.pem(),
                callback="oob",
            )
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        try:
            cleanup.enter_context(sandbox)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}, port {port}: {error.strerror}",
                advice="Give another --port, or none to take a free one.",
            ) from None
        environment = _environment(sandbox, consumer, keys)
        if ibind:
            environment |= _ibind_environment(environment, consumer, keys)
        stopped = threading.Event()
        if not quiet:
            cleanup.enter_context(_logged(stopped))
        if until_eof:
            threading.Thread(target=_wait_for_eof, args=(stopped,), daemon=True).start()
        with _ctrl_c_is_the_end():
            if as_json:
                common.print_json(_as_document(sandbox, consumer, environment), indent=None)
            else:
                _show(sandbox, consumer, environment)
            stopped.wait()


# --- Keys -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Keys:
    """The consumer's side of a key directory."""

    directory: Path
    signing: PrivateKey
    encryption: PrivateKey
    dh_params: DHParameters

    @classmethod
    def load(cls, directory: Path) -> _Keys:
        """What is in the directory, and what is missing made: all keys or none, and a public
        Diffie-Hellman group, since a sandbox has no use for a search that takes a minute."""
        directory = directory.expanduser().absolute()
        signing, encryption = (
            directory / keygen.PRIVATE_SIGNATURE,
            directory / keygen.PRIVATE_ENCRYPTION,
        )
        if signing.exists() != encryption.exists():
            there, missing = sorted((signing, encryption), key=Path.exists, reverse=True)
            raise MissingSetting(
                f"{directory} has {there.name}, and no {missing.name}",
                advice="Add the other key, or give a directory with neither: then both are made.",
            )
        parameters = directory / keygen.DH_PARAMS
        has_parameters = parameters.exists()
        dh_params = DHParameters.load(parameters) if has_parameters else DHParameters.rfc7919()
        if not signing.exists():
            keygen.generate_keys(directory, dh_params=dh_params)
        elif not has_parameters:
            keygen.write_dh_params(directory, dh_params)
        return cls(
            directory,
            PrivateKey.load(signing, what="signing key"),
            PrivateKey.load(encryption, what="encryption key"),
            dh_params,
        )


def _temporary_directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="ibkr-oauth-keys-")


# --- The environment of a client ------------------------------------------------------------------


def _environment(sandbox: Sandbox, consumer: RegisteredConsumer, keys: _Keys) -> dict[str, str]:
    """The secret in it is shown on purpose: it opens this sandbox and nothing else, is useless
    without the private key, and ends with the sandbox."""
    access_token, access_token_secret = sandbox.grant(consumer.key, USERNAME)
    environment = {
        "IBKR_OAUTH_BASE_URL": sandbox.base_url,
        "IBKR_OAUTH_CONSUMER_KEY": consumer.key,
        "IBKR_OAUTH_ACCESS_TOKEN": access_token,
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": access_token_secret,
        "IBKR_OAUTH_SIGNING_KEY": str(keys.directory / keygen.PRIVATE_SIGNATURE),
        "IBKR_OAUTH_ENCRYPTION_KEY": str(keys.directory / keygen.PRIVATE_ENCRYPTION),
        "IBKR_OAUTH_DH_PARAMS": str(keys.directory / keygen.DH_PARAMS),
    }
    if sandbox.ca_file is not None:
        environment["IBKR_OAUTH_CA_FILE"] = str(sandbox.ca_file)
    return environment


def _ibind_environment(environment: dict[str, str], consumer: RegisteredConsumer, keys: _Keys) -> dict[str, str]:
    """The same in ibind's words."""
    translated = {
        "IBIND_USE_OAUTH": "True",
        "IBIND_OAUTH1A_REST_URL": f"{environment['IBKR_OAUTH_BASE_URL']}/",
        "IBIND_OAUTH1A_CONSUMER_KEY": consumer.key,
        "IBIND_OAUTH1A_REALM": consumer.realm,
        "IBIND_OAUTH1A_ACCESS_TOKEN": environment["IBKR_OAUTH_ACCESS_TOKEN"],
        "IBIND_OAUTH1A_ACCESS_TOKEN_SECRET": environment["IBKR_OAUTH_ACCESS_TOKEN_SECRET"],
        "IBIND_OAUTH1A_SIGNATURE_KEY_FP": environment["IBKR_OAUTH_SIGNING_KEY"],
        "IBIND_OAUTH1A_ENCRYPTION_KEY_FP": environment["IBKR_OAUTH_ENCRYPTION_KEY"],
        "IBIND_OAUTH1A_DH_PRIME": f"{keys.dh_params.prime:x}",
    }
    if "IBKR_OAUTH_CA_FILE" in environment:
        # With OAuth ibind ignores its own IBIND_CACERT; this one is read by requests, below it.
        translated["REQUESTS_CA_BUNDLE"] = environment["IBKR_OAUTH_CA_FILE"]
    return translated


def _show(sandbox: Sandbox, consumer: RegisteredConsumer, environment: dict[str, str]) -> None:
    """All of standard output is text that a shell can read, comments included."""
    click.echo(f"# Sandbox at {sandbox.base_url}")
    click.echo(f"# Consumer {consumer.key}, user {USERNAME}; ends with Ctrl-C")
    click.echo(f"# Consent page: {sandbox.authorize_url}?oauth_token=REQUEST_TOKEN")
    click.echo(f"# Web socket: {sandbox.web_socket_url}?oauth_token=ACCESS_TOKEN")
    click.echo(f"# Control: {sandbox.control_url}/VERB")
    for name, value in environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()


def _as_document(sandbox: Sandbox, consumer: RegisteredConsumer, environment: dict[str, str]) -> dict[str, object]:
    return {
        "base_url": sandbox.base_url,
        "authorize_url": sandbox.authorize_url,
        "web_socket_url": sandbox.web_socket_url,
        "control_url": sandbox.control_url,
        "ca_file": None if sandbox.ca_file is None else str(sandbox.ca_file),
        "consumer_key": consumer.key,
        "username": USERNAME,
        "environment": environment,
    }


# --- The log --------------------------------------------------------------------------------------


@contextmanager
def _logged(stopped: threading.Event) -> Generator[None, None, None]:
    """Write each request to standard error, as the sandbox records it."""
    logger = logging.getLogger(_LOGGER)
    handler = _RequestLog(common.make_console(stderr=True), stopped)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _RequestLog(logging.Handler):
    """The sandbox logs on its own thread, once a request is recorded; an explanation before that."""

    def __init__(self, console: Console, stopped: threading.Event) -> None:
        super().__init__()
        self._console = console
        self._stopped = stopped
        self._explanations: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._explanations.append(record.getMessage())
            return
        try:
            self._print(self._line(cast("RecordedRequest", record.request)))  # type: ignore[attr-defined]
            for explanation in self._explanations:
                self._print(Text(f"  {common.printable(explanation)}", "yellow"))
        except (OSError, SystemExit):  # nobody reads any more, which rich takes for the end
            self._stopped.set()
        self._explanations.clear()

    def _line(self, request: RecordedRequest) -> Text:
        good = request.dropped is None and request.status < 400
        line = Text(f"{request.method} {common.printable(request.path)} ")
        line.append(str(request.status or "-"), "green" if good else "bold red")
        if request.query_rule is not None:
            line.append(f" {request.query_rule}", "dim")
        if request.refusal is not None:
            line.append(f" {common.printable(request.refusal)}", "red")
        if request.dropped is not None:
            line.append(f" connection cut {request.dropped}", "red")
        return line

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


# --- The end --------------------------------------------------------------------------------------


def _wait_for_eof(stopped: threading.Event) -> None:
    """So that a sandbox does not outlive the test that started it."""
    with suppress(OSError, ValueError):
        while sys.stdin.buffer.read(4096):
            pass
    stopped.set()


@contextmanager
def _ended_by_signals() -> Generator[None, None, None]:
    """Other signals than Ctrl-C end the program in order as well, so that the keys are removed."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _ctrl_c_is_the_end() -> Generator[None, None, None]:
    """The way to end a sandbox is no failure of it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("sandbox stopped", err=True)
