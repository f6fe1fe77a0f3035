"""`ibkr-oauth get`, `post`, `put` and `delete`: a signed call from the command line."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ibkr_oauth import _core, paths, signing
from ibkr_oauth.errors import BrokerageError, IBKROAuthError, InvalidValue
from ibkr_oauth.redact import mask
from ibkr_oauth.signing import QuerySigning

from . import common

if TYPE_CHECKING:
    from ibkr_oauth import Response, Session
    from ibkr_oauth.flow import Call

#: What places or changes an order, or confirms one.
_ORDERS = re.compile(r"/iserver/account/[^/]+/orders?(?:/(?!whatif)[^/]+)?|/iserver/reply/[^/]+")

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


@dataclass
class _Options:
    """What the four commands have in common."""

    path: str
    params: tuple[str, ...]
    headers: tuple[str, ...]
    query_signing: QuerySigning
    dry_run: bool
    curl: bool
    show_signature: bool
    read_only: bool
    as_json: bool
    data: str | None = None
    yes: bool = False


def query_signing_option(command: _Decorated) -> _Decorated:
    """`--query-signing`: see `signing`."""
    return click.option(
        "--query-signing",
        type=click.Choice(get_args(QuerySigning)),
        default="omit",
        show_default=True,
        help="How the query takes part in the signature.",
    )(command)


def _call_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.argument("path"),
            click.option("--param", "params", metavar="NAME=VALUE", multiple=True, help="Of the query; repeatable."),
            click.option("--header", "headers", metavar="NAME:VALUE", multiple=True, help="To send along; repeatable."),
            query_signing_option,
            click.option("--dry-run", is_flag=True, help="Send nothing: show what would be sent and signed."),
            click.option("--curl", is_flag=True, help="Send nothing: print a line for curl that does the same."),
            click.option(
                "--show-signature", is_flag=True, help="With --curl: sign now, and put the signature into the line."
            ),
            click.option("--read-only", is_flag=True, help="Refuse what could change anything."),
            common.profile_options,
            click.pass_context,
        )
    ):
        command = option(command)
    return command


_data_option = click.option(
    "-d",
    "--data",
    metavar="JSON",
    help="The body: JSON text, @FILE, or - for standard input.",
)
_yes_option = click.option("--yes", is_flag=True, help="Do not ask before an order.")


@click.command("get")
@_call_options
def get(ctx: click.Context, **options: Any) -> None:
    """Make a signed GET of PATH, below base_url, for instance /portfolio/accounts.

    The body goes to standard output, as it came where that is no terminal; the status goes to
    standard error. What an error status means ends the program with the code of its family.
    """
    _run(ctx, "GET", _Options(**options))


@click.command("post")
@_data_option
@_yes_option
@_call_options
def post(ctx: click.Context, **options: Any) -> None:
    """Make a signed POST to PATH, once; see `get`.

    On a terminal you are asked before an order is placed, changed or confirmed.
    """
    _run(ctx, "POST", _Options(**options))


@click.command("put")
@_data_option
@_call_options
def put(ctx: click.Context, **options: Any) -> None:
    """Make a signed PUT to PATH, once; see `get`."""
    _run(ctx, "PUT", _Options(**options))


@click.command("delete")
@_call_options
def delete(ctx: click.Context, **options: Any) -> None:
    """Make a signed DELETE of PATH, once; see `get`."""
    _run(ctx, "DELETE", _Options(**options))


# --- What is done ---------------------------------------------------------------------------------


def _run(ctx: click.Context, method: str, options: _Options) -> None:
    if options.dry_run and options.curl:
        raise click.UsageError("--dry-run and --curl: one of them")
    if options.show_signature and not options.curl:
        raise click.UsageError("--show-signature goes with --curl")
    params = [_split(pair, "=", "--param") for pair in options.params]
    headers = dict(_split(line, ":", "--header") for line in options.headers)
    body = None if options.data is None else _read_json(options.data)
    with common.open_session(ctx, query_signing=options.query_signing, read_only=options.read_only) as session:
        call = session._flow.prepare(method, options.path, params or None, body, None, headers, None)
        if options.dry_run:
            _show_dry_run(session, call, options)
        elif options.curl:
            _show_curl(ctx, session, call, options)
        else:
            _confirm_order(call, options)
            _send(ctx, session, call, options)


def _send(ctx: click.Context, session: Session, call: Call, options: _Options) -> None:
    needs_brokerage = paths.needs_brokerage(call.path)
    was_open = needs_brokerage and _is_open(session)
    try:
        response = session._call(call)
    finally:
        # Only what this command opened for the sake of the path is logged out again: not what another program uses,
        # nor what the user has opened by this very call.
        if was_open or not needs_brokerage:
            session._flow.brokerage.is_inherited = True
    error: IBKROAuthError | None = None
    try:
        response.raise_for_status()
    except IBKROAuthError as refusal:
        error = refusal
    settings = common.settings(ctx)
    if options.as_json:
        document = _as_document(call, response)
        if error is not None:
            ctx.exit(common.report(error, settings, document))
        common.print_json(document)
        return
    milliseconds = response.elapsed.total_seconds() * 1000
    click.echo(f"{response.status_code} {call.method} {call.path}, {milliseconds:.0f} ms", err=True)
    _print_body(response)
    if error is not None:
        ctx.exit(common.report(error, settings))


def _is_open(session: Session) -> bool:
    """Whether there is a brokerage session already, whoever has opened it."""
    try:
        return session.status().authenticated
    except BrokerageError:
        return False


def _as_document(call: Call, response: Response) -> dict[str, object]:
    try:
        body: object = response.json()
    except IBKROAuthError:
        body = response.text
    milliseconds = round(response.elapsed.total_seconds() * 1000, 1)
    return {
        "method": call.method,
        "path": call.path,
        "status": response.status_code,
        "milliseconds": milliseconds,
        "body": body,
    }


def _print_body(response: Response) -> None:
    """As it is, for the next program; laid out, for a person."""
    if not response.content:
        return
    if not sys.stdout.isatty():
        click.echo(response.content, nl=False)
        return
    try:
        text = json.dumps(response.json(), indent=2, ensure_ascii=False)
    except IBKROAuthError:
        text = response.text
    console = common.make_console()
    console.print("\n".join(common.printable(line) for line in text.splitlines()), soft_wrap=True)


def _confirm_order(call: Call, options: _Options) -> None:
    is_order = call.method == "POST" and _ORDERS.fullmatch(call.path) is not None
    if is_order and not options.yes and sys.stdin.isatty():
        click.confirm(f"{call.method} {call.path}: this may place or change an order. Send it?", abort=True, err=True)


def _split(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise click.UsageError(f"{option}: expected NAME{separator}VALUE, and {name[:40]!r} has no {separator!r}")
    return (name.strip(), value.strip()) if separator == ":" else (name, value)


def _read_json(data: str) -> object:
    """The body from the command line, a file or standard input. Raises InvalidValue where it is no JSON."""
    where = "-d"
    if data == "-":
        where, data = "standard input", sys.stdin.read()
    elif data.startswith("@"):
        where = data[1:]
        try:
            data = Path(where).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InvalidValue(f"{where}: {reason}", advice="Give a file of JSON text after the @.") from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        place = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidValue(
            f"{where} is not JSON{place}", advice='Names and texts stand in double quotes: {"conids": [265598]}.'
        ) from None


# --- Without sending ------------------------------------------------------------------------------


def _url(call: Call) -> str:
    return call.url if call.params is None else _core.url_with_query(call.url, call.params)


def _show_dry_run(session: Session, call: Call, options: _Options) -> None:
    """What is signed and sent, but for the signature itself: the live session token is not asked for."""
    consumer, access_token = session.consumer, session.access_token
    assert consumer is not None
    assert access_token is not None
    url = _url(call)
    pairs = [
        ("oauth_consumer_key", consumer.key),
        ("oauth_nonce", signing.nonce()),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", str(int(session._flow.server_clock.now()))),
        ("oauth_token", access_token.token),
    ]
    base_string = signing.base_string(call.method, url, pairs, query_signing=options.query_signing)
    header = signing.authorization_header([*pairs, ("oauth_signature", "HIDDEN")], consumer.realm)
    shown = mask(access_token.token)
    base_string, header = (text.replace(access_token.token, shown) for text in (base_string, header))
    body = None if call.body is None else call.body.decode()
    headers = {"Authorization": header.replace("HIDDEN", "…"), **dict(call.given)}
    if options.as_json:
        document = {"method": call.method, "url": url, "headers": headers, "body": body, "base_string": base_string}
        common.print_json({"sent": False, **document})
        return
    lines = [f"{call.method} {url}", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [] if body is None else ["", body]
    lines += ["", "base string:", base_string]
    click.echo("\n".join(common.printable(line) for line in lines))
    click.echo("nothing was sent", err=True)


def _show_curl(ctx: click.Context, session: Session, call: Call, options: _Options) -> None:
    url = _url(call)
    if options.show_signature:
        authorization = shlex.quote(f"Authorization: {session.sign(call.method, url).headers['Authorization']}")
    else:
        profile = common.settings(ctx).profile
        words = ["ibkr-oauth", "sign", call.method, url]
        words += [] if profile is None else ["--profile", profile]
        words += [] if options.query_signing == "omit" else ["--query-signing", options.query_signing]
        authorization = f'"$({shlex.join(words)})"'
    found = common.load_settings(ctx).options()
    parts = ["curl", "-X", call.method]
    parts += ["--cacert", shlex.quote(found["ca_file"])] if "ca_file" in found else []
    # The address of a proxy may hold a password.
    parts += ["--proxy", '"$IBKR_OAUTH_PROXY"' if "@" in found["proxy"] else found["proxy"]] if "proxy" in found else []
    parts += ["-H", authorization]
    for name, value in call.given:
        parts += ["-H", shlex.quote(f"{name}: {value}")]
    if call.body is not None:
        parts += ["--data-raw", shlex.quote(call.body.decode())]
    elif call.method in ("POST", "PUT"):
        parts += ["-H", "'Content-Length: 0'"]
    line = " ".join([*parts, shlex.quote(url)])
    if options.as_json:
        common.print_json({"sent": False, "curl": line})
        return
    click.echo(line)
    if paths.needs_brokerage(call.path):
        click.echo("this path needs the brokerage session, which curl does not open", err=True)
