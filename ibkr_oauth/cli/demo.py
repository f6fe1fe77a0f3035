"""`ibkr-oauth demo`: every leg of the login and some calls, against a sandbox, step by step."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ibkr_oauth import AccessToken, Consumer, DHParameters, OAuthClient, PrivateKey, RequestToken
from ibkr_oauth.errors import BrokerageRefused, IBKROAuthError
from ibkr_oauth.redact import mask

from . import common
from .consent import ConsentListener

if TYPE_CHECKING:
    from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "DEMOTRADE"

#: Seconds that `--open` waits for the user.
CONSENT_TIMEOUT = 120.0


@click.command("demo")
@click.option(
    "--open",
    "in_browser",
    is_flag=True,
    help="Show the consent page in your browser, and wait for your answer.",
)
@common.output_options
@click.pass_context
def command(ctx: click.Context, in_browser: bool, as_json: bool) -> None:
    """Show every leg of the login: request token, authorisation, access token, live session token.

    Then signed calls: the brokerage session is opened, accounts and positions are read, and it is
    closed again. The other side is a sandbox on this machine, which verifies every byte over TLS.
    Nothing is sent to Interactive Brokers, and nothing is kept.
    """
    sandbox_class = common.import_sandbox()
    if not as_json:
        screen = _Screen(common.make_console())
        demo = _Demo(sandbox_class, screen, in_browser=in_browser)
        with screen:
            demo.run()
        screen.summary(demo)
        return
    demo = _Demo(sandbox_class, _NoScreen(), in_browser=in_browser)
    try:
        demo.run()
    except IBKROAuthError as error:  # the document has the steps that were reached nevertheless
        ctx.exit(common.report(error, common.settings(ctx), demo.as_document()))
    common.print_json(demo.as_document())


# --- What is done ---------------------------------------------------------------------------------


@dataclass
class Step:
    """One line of the table. Tokens in it are masked; secrets and signatures never get here."""

    name: str
    sent: str
    detail: str = ""
    received: str = ""
    ok: bool = False
    milliseconds: float = 0.0


class _View(Protocol):
    """Who watches."""

    def begin(self, name: str) -> None:
        """A step begins."""

    def ask(self, words: str) -> None:
        """The user has to do something."""

    def end(self, step: Step) -> None:
        """A step is over, well or not."""


class _Demo:
    """The story, told to a view while it happens."""

    def __init__(self, sandbox_class: type[Sandbox], view: _View, *, in_browser: bool) -> None:
        self._sandbox_class = sandbox_class
        self._view = view
        self._in_browser = in_browser
        self.base_url: str | None = None
        self.steps: list[Step] = []
        self.verified: list[str] = []

    @property
    def milliseconds(self) -> float:
        return round(sum(step.milliseconds for step in self.steps), 1)

    @contextmanager
    def _step(self, name: str, sent: str, detail: str = "") -> Generator[Step, None, None]:
        step = Step(name, sent, detail)
        self._view.begin(name)
        began = time.perf_counter()
        try:
            yield step
            step.ok = True
        except BaseException as error:
            reason = error.code if isinstance(error, IBKROAuthError) else type(error).__name__
            step.received = f"failed: {reason}"
            raise
        finally:
            step.milliseconds = round((time.perf_counter() - began) * 1000, 1)
            self.steps.append(step)
            self._view.end(step)

    def as_document(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "base_url": self.base_url,
            "consumer_key": CONSUMER_KEY,
            "steps": [asdict(step) for step in self.steps],
            "milliseconds": self.milliseconds,
            "verified": self.verified,
            "error": None,
        }

    def run(self) -> None:
        """Raises the IBKROAuthError of the leg that fails."""
        with ExitStack() as cleanup:
            with self._step("sandbox", "its own certificate authority") as step:
                sandbox = cleanup.enter_context(self._sandbox_class(tls=True))
                self.base_url = sandbox.base_url
                step.received = f"TLS on port {sandbox.port}"
            listener = None
            if self._in_browser:
                listener = ConsentListener(sandbox.authorize_url, sandbox.ca_file)
                cleanup.enter_context(listener)
            consumer = self._register(sandbox, listener)
            oauth = OAuthClient(
                consumer,
                base_url=sandbox.base_url,
                authorize_url=listener.authorize_url if listener else sandbox.authorize_url,
                ca_file=sandbox.ca_file,
            )
            cleanup.enter_context(oauth)
            self._calls(oauth, self._access_token(oauth, sandbox, listener))
            self._count(sandbox)

    def _register(self, sandbox: Sandbox, listener: ConsentListener | None) -> Consumer:
        """Keys of our own, and their public halves registered as one does in IBKR's portal."""
        with self._step("keys", "two RSA-2048, DH of RFC 7919") as step:
            with ThreadPoolExecutor() as pool:
                signing, encryption = pool.map(PrivateKey.generate, (2048, 2048))
            consumer = Consumer(CONSUMER_KEY, signing, encryption, DHParameters.rfc7919())
            step.received = f"SHA-256 {mask(signing.fingerprint)}, {mask(encryption.fingerprint)}"
        with self._step("registration", "two public keys, DH parameters") as step:
            registered = sandbox.register(
                consumer.key,
                signing.public_pem(),
                encryption.public_pem(),
                consumer.dh_params.pem(),
                callback=listener.callback_url if listener else "oob",
            )
            step.received = f"consumer {registered.key}"
        return consumer

    def _access_token(self, oauth: OAuthClient, sandbox: Sandbox, listener: ConsentListener | None) -> AccessToken:
        """The first two legs, and the user's consent between them."""
        with self._step("request token", "POST /oauth/request_token", "signed RSA-SHA256") as step:
            request_token = oauth.request_token()
            step.received = f"token {mask(request_token.token)}"
        sent = "the user's consent" if listener is None else "the user to the consent page"
        with self._step("authorisation", sent, f"to token {mask(request_token.token)}") as step:
            if listener is None:
                verifier = sandbox.consent(request_token.token)
            else:
                verifier = self._ask_the_user(listener, request_token)
            step.received = f"verifier, {len(verifier)} digits"
        detail = "verifier, signed RSA-SHA256"
        with self._step("access token", "POST /oauth/access_token", detail) as step:
            access_token = oauth.access_token(request_token, verifier)
            step.received = f"token {mask(access_token.token)} and its encrypted secret"
        return access_token

    def _ask_the_user(self, listener: ConsentListener, request_token: RequestToken) -> str:
        listener.expect(request_token.token)
        opened = webbrowser.open(request_token.authorization_url())
        what = "Answer in your browser" if opened else "Open this in a browser on this machine"
        self._view.ask(f"{what}: {listener.url}")
        return listener.wait(CONSENT_TIMEOUT)

    def _calls(self, oauth: OAuthClient, access_token: AccessToken) -> None:
        """The third leg, and what it is good for."""
        detail = "challenge, signed RSA-SHA256"
        with self._step("live session token", "POST /oauth/live_session_token", detail) as step:
            live_session_token = oauth.live_session_token(access_token)
            hours = live_session_token.remaining.total_seconds() / 3600
            step.received = f"verified, for {hours:.0f} h: signs the following"
        signer = oauth.signer(live_session_token)

        def call(method: str, path: str, body: object = None) -> Any:
            request = signer.sign(method, oauth.base_url + path)
            return oauth.send(request, json=body).raise_for_status().json()

        init = {"publish": True, "compete": False}
        detail = "publish: true, compete: false"
        with self._step("brokerage session", "POST /iserver/auth/ssodh/init", detail) as step:
            if call("POST", "/iserver/auth/ssodh/init", init).get("authenticated") is not True:
                raise BrokerageRefused("the brokerage session was not opened")
            step.received = "authenticated"
        with self._step("brokerage accounts", "GET /iserver/accounts") as step:
            account: str = call("GET", "/iserver/accounts")["accounts"][0]
            step.received = account
        with self._step("portfolio", "GET /portfolio/accounts") as step:
            first: dict[str, Any] = call("GET", "/portfolio/accounts")[0]
            step.received = f"{first['accountId']}, {first['currency']}"
        path = f"/portfolio/{account}/positions/0"
        with self._step("positions", f"GET {path}") as step:
            positions: list[dict[str, Any]] = call("GET", path)
            step.received = ", ".join(f"{one['position']:g} {one['ticker']}" for one in positions)
        with self._step("keep-alive", "POST /tickle") as step:
            status: dict[str, Any] = call("POST", "/tickle")["iserver"]["authStatus"]
            step.received = "alive" if status["authenticated"] else "not authenticated"
        with self._step("logout", "POST /logout") as step:
            step.received = "ended" if call("POST", "/logout")["status"] else "not ended"

    def _count(self, sandbox: Sandbox) -> None:
        """What the sandbox saw, from its own record."""
        signed = [one for one in sandbox.requests if "authorization" in one.headers]
        rsa = sum("/oauth/" in one.path for one in signed if one.refusal is None)
        hmac = sum("/oauth/" not in one.path for one in signed if one.refusal is None)
        self.verified = [
            "the TLS certificate, against the sandbox's authority and no other",
            f"{rsa} RSA-SHA256 and {hmac} HMAC-SHA256 signatures, with another library than ours",
            f"{rsa + hmac} nonces and timestamps, none used twice",
            "the access token secret, which the encryption key decrypts",
            "the live session token, by the server's proof, before its first use",
        ]


# --- What is shown --------------------------------------------------------------------------------


class _NoScreen:
    """For `--json`: only what the user has to do is said, on standard error."""

    def begin(self, name: str) -> None:
        pass

    def ask(self, words: str) -> None:
        click.echo(words, err=True)

    def end(self, step: Step) -> None:
        pass


class _Screen:
    """A table that grows by a line as each step ends, also where no terminal redraws anything."""

    _GAP = 2
    _STEP, _SENT, _MILLISECONDS = 18, 30, 6
    _NARROWEST, _WIDEST = 16, 40  # of the column "came back", which takes the room there is

    def __init__(self, console: Console) -> None:
        self._console = console
        fixed = self._STEP + self._SENT + self._MILLISECONDS + 3 * self._GAP
        self._received = max(self._NARROWEST, min(self._WIDEST, console.width - fixed))
        self._width = fixed + self._received
        self._status = console.status("") if console.is_terminal else None

    def __enter__(self) -> None:
        self._line("step", "sent", "came back", "ms", style="bold")
        self._rule()
        if self._status is not None:
            self._status.start()

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def begin(self, name: str) -> None:
        if self._status is not None:
            self._status.update(name)

    def ask(self, words: str) -> None:
        if self._status is not None:
            self._status.update(words)
        else:
            self._console.print(words, soft_wrap=True)

    def end(self, step: Step) -> None:
        detail = f"\n{step.detail}" if step.detail else ""
        self._line(
            step.name,
            Text.assemble(self._broken(step.sent), (detail, "dim")),
            Text(step.received, "green" if step.ok else "bold red"),
            f"{step.milliseconds:.1f}",
        )

    def summary(self, demo: _Demo) -> None:
        """The total, what was verified, and where to go from here."""
        self._rule()
        self._line("total", "", "", f"{demo.milliseconds:.1f}", style="bold")
        self._console.print("\nVerified:", style="bold")
        for line in demo.verified:
            self._console.print(Text.assemble(("  ✓ ", "green"), line))
        self._console.print("\nNext: `ibkr-oauth keygen DIRECTORY` makes your own keys,")
        self._console.print("`ibkr-oauth sandbox` keeps a sandbox open for your own program.")

    def _line(
        self,
        step: str | Text,
        sent: str | Text,
        received: str | Text,
        milliseconds: str,
        *,
        style: str = "",
    ) -> None:
        line = Table.grid(padding=(0, self._GAP, 0, 0), pad_edge=False)
        line.add_column(width=self._STEP)
        line.add_column(width=self._SENT, overflow="fold")
        line.add_column(width=self._received, overflow="fold")
        line.add_column(width=self._MILLISECONDS, justify="right")
        line.add_row(step, sent, received, milliseconds, style=style)
        self._console.print(line, width=self._width)

    def _rule(self) -> None:
        self._console.print("─" * min(self._width, self._console.width), style="dim")

    def _broken(self, text: str) -> str:
        """A path that is too long breaks before a slash."""
        if len(text) <= self._SENT:
            return text
        cut = text.rfind("/", 0, self._SENT + 1)
        return f"{text[:cut]}\n  {text[cut:]}" if cut > 0 else text
