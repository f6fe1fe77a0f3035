"""The second tier: the brokerage session, which `/iserver` paths need and a user name can have only one of."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from . import answers
from .errors import BrokerageError, BrokerageRefused, CompetingSession, IBKROAuthError, ServerError, ServiceError
from .steps import Enter, Gate, Pause

if TYPE_CHECKING:
    from .flow import Flow
    from .health import BrokerageState, BrokerageStatus
    from .steps import Steps
    from .transport import Response

BrokerageMode: TypeAlias = Literal["lazy", "eager", "never"]
CompetingPolicy: TypeAlias = Literal["raise", "yield", "take"]

#: After `ssodh/init` the service may take some seconds until the session is authenticated.
_LOOKS = 5
_BETWEEN_LOOKS = 1.0
#: Seconds for which a refusal to open is believed, before a call asks again; doubled each time.
_FIRST_REST = 5.0
_LONGEST_REST = 60.0


class Brokerage:
    """State and policy of the brokerage session. Opened by one caller while the others wait."""

    __slots__ = (
        "_failure",
        "_primed",
        "_rest",
        "_rest_ends",
        "_taken",
        "_was_ours",
        "gate",
        "is_inherited",
        "mode",
        "on_competing",
        "openings",
        "state",
    )

    def __init__(self, mode: BrokerageMode, on_competing: CompetingPolicy, gate: Gate) -> None:
        self.mode = mode
        self.on_competing = on_competing
        self.state: BrokerageState = "not open"
        self.openings = 0
        self.gate = gate
        self._primed = False
        self._was_ours = False  # and ended since
        self._taken = False  # taken over while it was ours: `raise` means that only the caller may take it back
        self.is_inherited = False  # opened by another process, which logs it out itself
        self._failure: IBKROAuthError | None = None
        self._rest = 0.0
        self._rest_ends = 0.0

    # --- What calls need -------------------------------------------------------------------------

    def need(self, flow: Flow, *, primed: bool) -> Steps[None]:
        """Opens the session where it is not. `primed`: `/iserver/accounts` must have been asked as well."""
        if self.mode == "never":
            return  # the service's own answer tells
        for last in (False, True):
            if self.state != "open":
                yield from self._open_politely(flow)
            if not primed or self._primed:
                return
            opening = self.openings
            try:
                yield from self._prime_once(flow)
            except BrokerageError as error:
                if last:
                    raise
                yield from self.recover(flow, error, opening)  # it was gone, and nobody had noticed

    def _prime_once(self, flow: Flow) -> Steps[None]:
        yield Enter(self.gate)
        try:
            if not self._primed:
                yield from self.prime(flow)
        finally:
            self.gate.release()

    def is_ready(self, *, primed: bool) -> bool:
        """Whether `need` would have nothing to do."""
        return self.mode == "never" or (self.state == "open" and (self._primed or not primed))

    def prime(self, flow: Flow) -> Steps[None]:
        """`GET /iserver/accounts`: the service wants it before orders and market data."""
        response = yield from flow.own("GET", "/iserver/accounts")
        response.raise_for_status()
        self._primed = True

    def used_by_hand(self, flow: Flow, path: str, response: Response) -> None:
        """The caller did by a plain call what we would have done."""
        if path == "/iserver/accounts":
            self._primed = True
        elif path == "/logout":
            self.state = "not open"
        else:
            with contextlib.suppress(IBKROAuthError):  # the caller sees the answer and judges for himself
                if status_of(response).authenticated and self.state != "open":
                    self._opened(flow)

    def open(self, flow: Flow, compete: bool | None = None) -> Steps[BrokerageStatus]:
        """On the caller's own word. `compete`: whether another login is thrown out; else `on_competing` says."""
        yield Enter(self.gate)
        try:
            self._taken = False
            return (yield from self._init(flow, self.on_competing == "take" if compete is None else compete))
        finally:
            self.gate.release()

    def close(self, flow: Flow) -> Steps[None]:
        """Logs out, where this session opened it."""
        if self.state == "open" and not self.is_inherited:
            self.state = "not open"
            (yield from flow.own("POST", "/logout", last=True)).raise_for_status()

    def recover(self, flow: Flow, error: BrokerageError, opening: int) -> Steps[None]:
        """A call was refused for want of the session: opens it again, or raises what keeps it from that.

        `opening`: what `openings` was when the call went out; another caller may have opened it since.
        """
        if opening != self.openings:
            return
        competing = isinstance(error, CompetingSession)
        self.ended(flow, competing, error.message)
        if competing and self.on_competing != "take":
            raise _competing()
        yield from self._open_politely(flow)

    def ended(self, flow: Flow, competing: bool, why: str) -> None:
        """It is not ours any more."""
        was_open, self.state = self.state == "open", "competing" if competing else "lost"
        if was_open:
            self._was_ours = True
            self._taken = competing
            flow.emit("competing" if competing else "brokerage_lost", why)

    # --- What the keep-alive hears ---------------------------------------------------------------

    def heard(self, flow: Flow, status: BrokerageStatus) -> bool:
        """Compares a tickle's answer with what we think; True where the session is to be opened again now."""
        if self.state == "open" and not status.authenticated:
            why = "another login of the user name" if status.competing else "the service ended it"
            self.ended(flow, status.competing, f"the brokerage session is gone: {why}")
        elif self.state == "competing" and not status.competing:
            self.state = "lost"  # the other one has left, so that former refusals mean nothing
            self._failure, self._rest = None, 0.0
        if self.mode == "never" or self.state in ("open", "not open", "refused"):
            return False
        if self.state == "competing":
            return self.on_competing == "take"
        return not self._taken or self.on_competing != "raise"

    def reopen(self, flow: Flow) -> Steps[None]:
        """In the background. What goes wrong is an event; the next tickle tries again."""
        try:
            yield from self._open_politely(flow)
        except IBKROAuthError as error:
            if not flow.closed:
                flow.emit("brokerage_failed", error.message)

    # --- Opening ---------------------------------------------------------------------------------

    def _open_politely(self, flow: Flow) -> Steps[None]:
        if self._taken and self.on_competing == "raise":
            raise _competing()
        yield Enter(self.gate)
        try:
            if self.state == "open":
                return  # somebody else did
            if self._failure is not None and flow.clock.steady() < self._rest_ends:
                raise copy.copy(self._failure)
            try:
                yield from self._init(flow, self.on_competing == "take")
            except IBKROAuthError as error:
                self._failure = error
                self._rest = min(2 * self._rest, _LONGEST_REST) or _FIRST_REST
                self._rest_ends = flow.clock.steady() + self._rest
                raise
        finally:
            self.gate.release()

    def _init(self, flow: Flow, compete: bool) -> Steps[BrokerageStatus]:
        if flow.shares_token and not compete:
            shared = yield from self._find_open(flow)
            if shared is not None:
                return shared
        response = yield from self._ask_for_it(flow, compete)
        status = status_of(response)
        for _ in range(_LOOKS):
            if status.authenticated or (status.competing and not compete):
                break
            yield Pause(_BETWEEN_LOOKS)
            status = status_of((yield from flow.own("POST", "/iserver/auth/status")))
        if not status.authenticated:
            if status.competing:
                error = _competing()
                if self.state != "competing":
                    flow.emit("competing", error.message)
                self.state, self._taken = "competing", self._was_ours
                raise error
            self.state = "refused"
            raise BrokerageRefused(f"the brokerage session was not authenticated within {_LOOKS * _BETWEEN_LOOKS:g} s")
        self._opened(flow)
        return status

    def _find_open(self, flow: Flow) -> Steps[BrokerageStatus | None]:
        """Another process with the same token may have it open, and loses it if this one logs out at its end."""
        try:
            status = status_of((yield from flow.own("POST", "/iserver/auth/status")))
        except (BrokerageError, ServiceError):
            return None  # opening it tells more
        if not status.authenticated:
            return None
        self._opened(flow)
        self.is_inherited = True
        return status

    def _opened(self, flow: Flow) -> None:
        self.state = "open"
        self.openings += 1
        self._primed = self._was_ours = self._taken = self.is_inherited = False
        self._failure, self._rest = None, 0.0
        flow.count("brokerage_openings")
        flow.emit("brokerage_opened", "the brokerage session is open")

    def _ask_for_it(self, flow: Flow, compete: bool) -> Steps[Response]:
        for last in (False, True):
            body = {"publish": True, "compete": compete}  # IBKR answers 500 to publish: false
            response = yield from flow.own("POST", "/iserver/auth/ssodh/init", body)
            error = answers.error_of(response)
            if error is None:
                break
            self.state = "refused" if isinstance(error, BrokerageError) else "lost"
            if last or not isinstance(error, BrokerageRefused):
                raise error
            # Seen to go away by itself after a tickle and a moment.
            yield from flow.own("POST", "/tickle")
            yield Pause(_BETWEEN_LOOKS)
        return response


def status_of(response: Response) -> BrokerageStatus:
    """From the answer of `auth/status`, `ssodh/init` or `tickle`. Raises what the answer means, or ServerError.

    A tickle may say "no session" with status 200: then nothing is authenticated.
    """
    body = response.raise_for_status().json()
    if not isinstance(body, dict):
        raise answers.describe(response, ServerError, f"the answer is a JSON {type(body).__name__}, expected an object")
    fields = cast("dict[str, Any]", body)
    iserver = fields.get("iserver")
    status = cast("dict[str, Any]", iserver).get("authStatus") if isinstance(iserver, dict) else fields
    status = cast("dict[str, Any]", status) if isinstance(status, dict) else {}
    from .health import BrokerageStatus  # noqa: PLC0415 - slow to import, and not every program gets here

    return BrokerageStatus(
        authenticated=status.get("authenticated") is True,
        competing=status.get("competing") is True,
        connected=status.get("connected") is True,
        message=str(status.get("message") or fields.get("error") or ""),
    )


def _competing() -> CompetingSession:
    return CompetingSession(
        "the user name is active elsewhere, and holds the brokerage session",
        advice="Use a second user name for the API, log out there, or let this session take over with "
        "on_competing='take' or brokerage.open(compete=True).",
    )
