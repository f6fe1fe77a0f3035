"""The table of what is said and what it means: complete, the only one, and found from whatever people paste."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ibkr_oauth import advice, answers, errors
from ibkr_oauth.errors import IBKROAuthError
from ibkr_oauth.sandbox import answers as sandbox_answers
from ibkr_oauth.sandbox.answers import Refusal
from ibkr_oauth.transport import Response

BASE = "https://api.ibkr.com/v1/api"


def answer(status: int, body: str, path: str) -> Response:
    return Response("GET", f"{BASE}{path}?a=1", status, [], body.encode())


def error_of(status: int, body: str, path: str) -> IBKROAuthError:
    error = answers.error_of(answer(status, body, path))
    assert error is not None
    return error


# --- The table itself -----------------------------------------------------------------------------


def test_entries_are_complete_and_distinct() -> None:
    assert len({entry.id for entry in advice.ENTRIES}) == len(advice.ENTRIES) >= 50
    assert len({entry.says for entry in advice.ENTRIES}) == len(advice.ENTRIES)
    for entry in advice.ENTRIES:
        assert entry.texts
        assert entry.causes, entry.id
        assert all(text == text.lower() for text in entry.texts), entry.id
        for words in (entry.means, entry.remedy, *entry.causes):
            assert words.rstrip().endswith((".", "NEW.", "FILE.")), (entry.id, words)


def test_every_class_that_is_raised_has_an_entry_that_says_what_the_class_says() -> None:
    kinds = [vars(errors)[name] for name in errors.__all__]
    leaves = [kind for kind in kinds if not kind.__subclasses__()]
    told = {entry.kind for entry in advice.ENTRIES if entry.remedy == entry.kind.default_advice}
    # A value that cannot be signed is named in its own message.
    assert {kind.__name__ for kind in leaves} - {kind.__name__ for kind in told} == {"InvalidValue", "ServerError"}


@pytest.mark.parametrize("entry", advice.ENTRIES, ids=lambda entry: entry.id)
def test_each_entry_is_found_by_what_it_says(entry: advice.Entry) -> None:
    """With status and path where these are what it is known by."""
    if any(text in entry.says.lower() for text in entry.texts if text not in (advice.ANY, advice.NO_TEXT)):
        assert advice.explain(entry.says)[0].kind is entry.kind
    elif entry.status and entry.texts[0] in (advice.ANY, advice.NO_TEXT):
        path = (entry.paths or ("/somewhere",))[0]
        heard = advice.Heard("" if advice.NO_TEXT in entry.texts else "odd", entry.status[0], path)
        assert advice.explain_heard(heard)[0] is entry
    else:
        assert advice.explain(f"{entry.status[0] if entry.status else ''} {entry.texts[-1]}")[0] is entry


# --- One home -------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", advice.ENTRIES, ids=lambda entry: entry.id)
def test_an_error_has_the_kind_and_the_advice_of_the_table(entry: advice.Entry) -> None:
    text = next((text for text in entry.texts if text != advice.ANY), "odd")
    for status in entry.status:
        if status < 400:
            continue
        path = (entry.paths or ("/somewhere",))[0]
        meant = advice.meaning_of(status, text, path)
        assert meant is not None
        assert meant.kind is entry.kind, f"{entry.id} is hidden by {meant.id}"
        error = error_of(status, text, path)
        assert type(error) is meant.kind
        if status not in (502, 503, 504):
            assert error.advice == meant.remedy


def test_what_nobody_knows_is_named_by_its_status() -> None:
    assert advice.meaning_of(418, "teapot", "/tickle") is None
    assert type(error_of(418, "teapot", "/tickle")) is errors.ServiceError
    assert type(error_of(500, "oops", "/tickle")) is errors.ServerError


def refusals() -> list[Refusal]:
    """All that the sandbox can say."""
    given = {
        "expected": "limited_poa",
        "why": "odd",
        "name": "oauth_nonce",
        "seconds": 600,
        "window": 60,
        "token": "a1",
    }
    made: list[Refusal] = []
    for function in vars(sandbox_answers).values():
        if inspect.isfunction(function) and function.__annotations__.get("return") in ("Refusal", Refusal):
            names = [name for name, one in inspect.signature(function).parameters.items() if one.default is one.empty]
            made.append(function(*(given[name] for name in names)))
    return made


def test_all_that_the_sandbox_says_is_explained() -> None:
    """From its body alone, as it is sent."""
    said = refusals()
    assert len(said) > 35
    unknown: list[str] = []
    for refusal in said:
        body = refusal.answer(39687).body.decode()
        path = "/portfolio/U1/positions/0" if refusal.shape == "empty" else ""
        heard = advice.hear(f"HTTP/1.1 {refusal.status} No\n\n{body}")._replace(path=path)
        found = advice.explain_heard(heard)
        if not found or not advice.is_recognised(found[0], heard):
            unknown.append(refusal.words)
    # These name what is wrong themselves; the second one is known by its status.
    assert unknown == ["Bad Request: odd", "Not Found", "Method Not Allowed"]


def test_the_page_is_made_from_the_table(project: Path, script: Callable[[str], ModuleType]) -> None:
    page = script("docs/generate.py").troubleshooting_page()
    assert (project / "docs" / "troubleshooting.md").read_text() == page
    for entry in advice.ENTRIES:
        assert f"### `{entry.says}`" in page
        assert entry.remedy in page


def test_importing_the_library_does_not_read_the_table() -> None:
    code = "import sys, ibkr_oauth; ibkr_oauth.Session; print('ibkr_oauth.advice' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


# --- What people paste ----------------------------------------------------------------------------

INVALID = '{"error":"id: 39687, error: invalid consumer","statusCode":401}'

FROM_REQUESTS = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
    session.brokerage.open(compete=True, verifier=1)
requests.exceptions.HTTPError: 401 Client Error: for url: https://api.ibkr.com/v1/api/oauth/live_session_token"""

FROM_IBIND = """Traceback (most recent call last):
  File "ibind/client.py", line 9, in shutdown
    self.live_session_token
AttributeError: 'IbkrClient' object has no attribute 'live_session_token'"""

PASTED = [
    ("invalid consumer", "invalid-consumer"),
    (INVALID, "invalid-consumer"),
    (f"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n{INVALID}", "invalid-consumer"),
    (f"HTTP/2 401\ncontent-type: application/json\n\n{INVALID}", "invalid-consumer"),
    (f"IbkrClient: response error Result(data=None) :: 401 :: Unauthorized :: {INVALID}", "invalid-consumer"),
    ('{"type":"/simple","title":"Unauthorized","status":401,"detail":"Access token expired"}', "live-session-token-expired"),
    ("HTTP/1.1 403 Forbidden\n\n<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD></HTML>", "refused-by-edge"),
    (FROM_REQUESTS, "lst-refused"),
    (FROM_IBIND, "masked-refusal"),
    ("binascii.Error: Invalid base64-encoded string: number of data characters (129) cannot be 1 more", "secret-miscopied"),
    ("requests.exceptions.ConnectionError: [Errno -2] Name or service not known", "host-not-found"),
    ("ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "certificate"),
    ('{"session":"0123","hmds":{"error":"no bridge"},"iserver":{"authStatus":{"authenticated":true}}}', "hmds-no-bridge"),
    ('{"iserver":{"authStatus":{"authenticated":true,"competing":true}}}', "competing"),
    ('{"error": "no session"}', "no-session"),
    ("2026-11-24 ERROR ibkr: 500 failed to generate sso dh token", "no-sso-dh-token"),
    ("POST /v1/api/oauth/live_session_token: refused with status 401: no text", "lst-refused"),
    ("GET /v1/api/sso/validate: refused with status 401: whatever", "sso-validate"),
    ('{"error": {"code": "clock_skew", "message": "odd", "advice": "", "exit_code": 4}}', "timestamp"),
    ('{"error": {"code": "consumer_not_active"}}', "invalid-consumer"),
    ("CompetingSession", "competing"),
    ("410 Gone", "gone"),
    ("503", "unavailable"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), PASTED)
def test_what_people_paste(text: str, expected: str) -> None:
    assert advice.explain(text)[0].id == expected


@pytest.mark.parametrize("text", ["", "odd", "hello world", "token", "{", "[" * 50_000, "\0", "418 I'm a teapot"])
def test_what_nobody_knows(text: str) -> None:
    assert advice.explain(text) == []


@pytest.mark.parametrize(
    ("status", "body", "path"),
    [
        (401, INVALID, "/oauth/request_token"),
        (401, "", "/portfolio/U1/positions/0"),
        (400, '{"error":"Bad Request: no bridge","statusCode":400}', "/iserver/accounts"),
        (500, '{"error":"Please query /accounts first"}', "/iserver/account/orders"),
        (401, '{"error":"id: 2, error: unknown token"}', "/oauth/access_token"),
        (429, "", "/tickle"),
    ],
)
def test_a_traceback_of_ours_is_explained_as_the_error_in_it(status: int, body: str, path: str) -> None:
    """And so is what the command prints, in words and as JSON."""
    try:
        answer(status, body, path).raise_for_status()
    except IBKROAuthError as error:
        raised = error
    meant = advice.meaning_of(status, body, path)
    shown = "".join(traceback.format_exception(raised))
    document = json.dumps({"error": {"code": raised.code, "message": raised.message, "advice": raised.advice}})
    for text in (shown, f"error: {raised.message}\n{raised.advice}", document):
        assert advice.explain(text)[0] is meant, text


def test_a_long_text_takes_no_time() -> None:
    import time

    began = time.perf_counter()
    advice.explain("lorem ipsum GET /x {" * 500_000)
    assert time.perf_counter() - began < 2


def test_the_representation_hides_secrets() -> None:
    assert "abc%2B" not in repr(advice.hear("401 oauth_signature=abc%2Bdef"))


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"error":"x","statusCode":401}', 401),
        ('{"error":"x","status":503}', 503),
        ('{"error": "x", "statusCode" : 503 }', 503),
        ('{"error":"x","statusCode":99}', None),
        ('{"error":"x","statusCode":"401"}', None),
    ],
)
def test_the_status_that_a_body_names(text: str, status: int | None) -> None:
    assert advice.hear(text).status == status
