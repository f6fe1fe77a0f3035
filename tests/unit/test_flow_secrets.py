"""No secret of a session shows, whatever goes wrong: in logs, reprs, errors, their causes, and tracebacks with local variables."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from support.drivers import Driver
from support.fake_clock import FakeClock
from support.fake_service import EMPTY_401, INIT, LST, NO_DH, ORDERS, STALE, Answer, FakeService

from ibkr_oauth import AccessToken, Event, Secret
from ibkr_oauth.errors import ConnectError, IBKROAuthError, LiveSessionTokenError, OutcomeUnknown, Timeout, TLSError

from .conftest import TOKEN

Open = Callable[..., Driver]
PATH = "/portfolio/DU1/summary"
SNAPSHOT = "/iserver/marketdata/snapshot"
COOKIE, QUERY, BODY, HEADER = "planted0cookie", "planted0query", "planted0body", "planted0header"
#: What the caller gave as arguments is in his own frames as well, and no secret of ours.
THE_CALLERS_OWN = {"query", "body", "header"}
EXTRA: dict[str, Any] = {"params": {"q": QUERY}, "headers": {"X-Mine": HEADER}}


class Planted:
    """Every secret in every form that text can take; signatures are taken from what the service saw."""

    def __init__(self, service: FakeService, access_token: AccessToken) -> None:
        self.service = service
        self.texts = {
            "access token secret": access_token.secret[:40],
            "decrypted secret": service.secret.hex(),
            "decrypted secret, repr": repr(service.secret)[2:20],
            "cookie": COOKIE,
            "query": QUERY,
            "body": BODY,
            "header": HEADER,
        }

    def found_in(self, text: str) -> list[str]:
        texts = dict(self.texts)
        for token in [TOKEN, *self.service.tokens]:
            live = Secret(token).reveal_base64()
            texts |= {
                f"live {live}": live,
                f"encoded {live}": quote(live, safe=""),
                f"hex {live}": token.hex(),
                f"repr {live}": repr(token)[2:22],
            }
        for seen in self.service.seen:
            signature = seen.oauth.get("oauth_signature")
            if signature:
                texts |= {f"signature {seen.path}": signature, f"encoded {seen.path}": quote(signature, safe="")}
        return [name for name, secret in texts.items() if secret in text]


def shown(error: BaseException) -> list[str]:
    """All that an error and what led to it say."""
    texts: list[str] = []
    for each in chain(error):
        texts += [str(each), repr(each), *map(repr, vars(each).values())]
    if isinstance(error, IBKROAuthError):
        texts.append(repr(pickle.dumps(error)))
    return texts


def local_variables(error: BaseException) -> list[str]:
    """Of our own frames, as error reports of services and `pytest -l` show them."""
    return [
        f"{frame.name}: {name} = {value}"
        for each in chain(error)
        for frame in traceback.TracebackException.from_exception(each, capture_locals=True).stack
        if "/ibkr_oauth/" in frame.filename
        for name, value in (frame.locals or {}).items()
    ]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its causes, and those that were being handled when it came."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def scenarios() -> dict[str, tuple[dict[str, tuple[Any, ...]], Callable[[Driver], Any]]]:
    """What the service does, and the call that it does it to."""

    def get(ibkr: Driver) -> Any:
        return ibkr.get(PATH, **EXTRA).raise_for_status()

    def post(ibkr: Driver) -> Any:
        return ibkr.post(ORDERS, json={"note": BODY}, **EXTRA).raise_for_status()

    def form(ibkr: Driver) -> Any:
        return ibkr.post(PATH, data={"note": BODY}, **EXTRA).raise_for_status()

    echo = {"error": f'oauth_signature="{"x" * 43}=" session={COOKIE}', "session": COOKIE}
    return {
        "connect": ({PATH: (ConnectError("refused"),) * 3}, get),
        "timeout": ({PATH: (Timeout("slow", sent=True),) * 3}, get),
        "tls": ({PATH: (TLSError("unknown authority"),)}, get),
        "outcome unknown": ({ORDERS: (OutcomeUnknown("reset", sent=True),)}, post),
        "outcome of a form unknown": ({PATH: (OutcomeUnknown("reset", sent=True),)}, form),
        "error of the transport's own": ({PATH: (RuntimeError("broken"),)}, get),
        "refused": ({PATH: (STALE, STALE)}, get),
        "empty refusal": ({PATH: (EMPTY_401,), "/tickle": (ConnectError("refused"),) * 3}, get),
        "maintenance": ({PATH: (Answer(503),) * 3}, get),
        "echo": ({PATH: (Answer(500, echo),)}, get),
        "echo as text": ({PATH: (Answer(400, f'Cookie: {"session"}={COOKIE}'),)}, get),
        "rate": ({PATH: (Answer(429, "", headers=(("Retry-After", "99"),)),)}, get),
        "rate, locally": ({PATH: (Answer(429, "", headers=(("Retry-After", "99"),)),)}, lambda ibkr: [get(ibkr) for _ in range(2)]),
        "no token": ({PATH: (STALE,), LST: (Answer(503),) * 3}, get),
        "a token that proves nothing": ({PATH: (STALE,), LST: (Answer(body={"diffie_hellman_response": "3", "live_session_token_signature": "0" * 40}),)}, get),
        "a half that is none": ({PATH: (STALE,), LST: (Answer(body={"diffie_hellman_response": "1", "live_session_token_signature": "0" * 40}),) * 3}, get),
        "nonsense for a token": ({PATH: (STALE,), LST: (Answer(body=["?"]),) * 3}, get),
        "no token for an order": ({PATH: (STALE,), LST: (LiveSessionTokenError("odd"),) * 3}, form),
        "no brokerage session": ({INIT: (NO_DH, NO_DH)}, post),
        "no JSON": ({PATH: (Answer(body="<html>"),)}, lambda ibkr: ibkr.get(PATH, **EXTRA).json()),
        "a body that is no JSON": ({}, lambda ibkr: ibkr.post(PATH, json={"note": BODY, "odd": object()})),
        "a parameter that is none": ({}, lambda ibkr: ibkr.get(PATH, params={"a": QUERY, "b": object()})),
        "a form that is none": ({}, lambda ibkr: ibkr.post(PATH, data=[("note", f"{BODY}\ud800")])),
        "another address": ({}, lambda ibkr: ibkr.sign("GET", f"https://example.com/?q={QUERY}")),
    }  # fmt: skip


@pytest.mark.parametrize("name", scenarios())
def test_what_goes_wrong_shows_nothing(
    open_session: Open, service: FakeService, access_token: AccessToken, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = Planted(service, access_token)
    events: list[Event] = []
    scripts, call = scenarios()[name]
    for path, answers in scripts.items():
        service.script(path, *answers)
    ibkr = open_session(cookie=COOKIE, pacing=10, on_event=events.append)
    with pytest.raises((IBKROAuthError, RuntimeError, TypeError)) as caught:
        call(ibkr)
    variables = local_variables(caught.value)
    assert variables
    for text in variables:
        assert [name for name in planted.found_in(text) if name not in THE_CALLERS_OWN] == [], text
    texts = shown(caught.value)
    texts += [str(event) for event in events]
    texts += [str(ibkr.health()), repr(ibkr.session), repr(ibkr.session.brokerage), repr(ibkr.session._flow)]
    texts += [logging.Formatter("%(name)s %(message)s").format(record) for record in caplog.records]
    for text in texts:
        assert planted.found_in(text) == [], text


def test_debug_log_of_a_good_day(
    open_session: Open,
    service: FakeService,
    clock: FakeClock,
    access_token: AccessToken,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of every logger there is."""
    caplog.set_level(logging.DEBUG)
    planted = Planted(service, access_token)
    ibkr = open_session(live_session_token=None, cookie=COOKIE)
    ibkr.post(ORDERS, json={"note": BODY}, **EXTRA)
    service.lose_brokerage()
    ibkr.get(SNAPSHOT, **EXTRA)
    clock.advance(86_400)
    ibkr.post(PATH, data={"note": BODY}, **EXTRA)
    ibkr.close()
    assert len(service.tokens) == 2
    assert any(record.name == "ibkr_oauth.session" for record in caplog.records)
    assert planted.found_in(caplog.text) == []


def test_what_is_planted_would_be_found(open_session: Open, service: FakeService, access_token: AccessToken) -> None:
    """The search itself works: the requests have all of it."""
    planted = Planted(service, access_token)
    ibkr = open_session(cookie=COOKIE)
    ibkr.post(PATH, data={"note": BODY}, **EXTRA)
    seen = service.seen[-1]
    found = planted.found_in(f"{seen} {service.secret!r} {Secret(TOKEN).reveal_base64()}")
    assert {name.partition(" ")[0] for name in found} >= {
        "cookie",
        "query",
        "body",
        "header",
        "signature",
        "encoded",
        "live",
        "decrypted",
    }
