"""The consent page at ``/authorize``: where the user's browser is sent during the second leg."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
from starlette.datastructures import Headers

from . import answers
from .answers import Answer, Refusal, html_answer
from .state import RequestToken, State
from .verify import cookie_of

DEFAULT_USERNAME = "paper"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def show(state: State, query: str) -> Answer:
    """``GET /authorize?oauth_token=…``: the page, or at once the way back under auto consent."""
    token = dict(parse_qsl(query)).get("oauth_token", "")
    try:
        request_token = _issued_request_token(state, token)
    except Refusal as refusal:
        return _error_page(refusal)
    if state.settings.auto_consent:
        return _approve(state, request_token, DEFAULT_USERNAME)
    return _consent_page(request_token)


def decide(state: State, headers: Headers, form: str) -> Answer:
    """``POST /authorize``: the user's answer, approve or deny, from our own page in the same browser only.

    Three things prove it, each against another attack. The form token: no page elsewhere can read it. The cookie: who
    reads the form token from a page of his own has not put it into this user's browser. The origin: what browsers say
    of the page that holds the form.
    """
    fields = dict(parse_qsl(form, keep_blank_values=True))
    try:
        request_token = _issued_request_token(state, fields.get("oauth_token", ""))
    except Refusal as refusal:
        return _error_page(refusal)
    if not _is_from_our_page(request_token, headers, fields):
        return _error_page(Refusal(403, "this answer does not come from the consent page in the same browser"))
    match fields.get("decision"):
        case "approve":
            username = fields.get("username", "").strip()
            try:
                return _approve(state, request_token, username)
            except ValueError as error:
                return _consent_page(request_token, username=username, error=str(error))
        case "deny":
            request_token.state = "denied"
            # Not seen at IBKR: the OAuth problem reporting extension's word for it.
            return _send_back(request_token, {"oauth_problem": "user_refused"})
        case _:
            return _error_page(Refusal(400, "neither approved nor denied"))


def approve(state: State, token: str, username: str) -> str:
    """Approve without the page; returns the verifier.

    Raises `LookupError` for a token that cannot be approved, `ValueError` for an odd username.
    """
    try:
        request_token = _issued_request_token(state, token)
    except Refusal as refusal:
        raise LookupError(refusal.words) from None
    return state.approve(request_token, username)


def _issued_request_token(state: State, token: str) -> RequestToken:
    if not token:
        raise Refusal(400, "the address lacks oauth_token")
    try:
        request_token = state.live_request_token(token)
    except Refusal as refusal:
        raise Refusal(404 if token not in state.request_tokens else 410, refusal.words) from None
    if request_token.state == "approved":
        raise Refusal(410, "this request token is approved already")
    return request_token


def _is_from_our_page(request_token: RequestToken, headers: Headers, fields: dict[str, str]) -> bool:
    origin = headers.get("origin")  # absent from programs and old browsers, "null" from a page that hides its own
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        return False
    given = (fields.get("form_token", ""), cookie_of(headers, _cookie_name(request_token)) or "")
    expected = request_token.form_token.encode()
    return all(hmac.compare_digest(one.encode("utf-8", "replace"), expected) for one in given)


def _cookie_name(request_token: RequestToken) -> str:
    """One for each request token: several consent pages may be open."""
    return f"consent-{request_token.token}"


def _approve(state: State, request_token: RequestToken, username: str) -> Answer:
    return _send_back(request_token, {"oauth_verifier": state.approve(request_token, username)})


def _send_back(request_token: RequestToken, outcome: dict[str, str]) -> Answer:
    """Redirect to the registered callback; without one, show the outcome on a page."""
    callback = request_token.consumer.callback
    if callback == "oob":
        return _page("outcome.html", verifier=outcome.get("oauth_verifier"))
    separator = "&" if urlsplit(callback).query else "?"
    query = urlencode({"oauth_token": request_token.token, **outcome})
    return Answer(
        302,
        b"",
        None,
        (("Location", f"{callback}{separator}{query}"), ("Cache-Control", "no-store")),
    )


def _consent_page(request_token: RequestToken, username: str = DEFAULT_USERNAME, error: str = "") -> Answer:
    consumer = request_token.consumer
    # Not Secure: `ibkr-oauth demo --open` hands this page on over http at 127.0.0.1.
    cookie = f"{_cookie_name(request_token)}={request_token.form_token}; Path=/authorize; HttpOnly; SameSite=Strict"
    return _page(
        "consent.html",
        ("Set-Cookie", cookie),
        status=422 if error else 200,
        # Chromium applies form-action also to the redirect that follows the form.
        form_target=_origin(consumer.callback),
        consumer_key=consumer.key,
        callback=consumer.callback,
        oauth_token=request_token.token,
        form_token=request_token.form_token,
        username=username,
        error=error,
    )


def _error_page(refusal: Refusal) -> Answer:
    title = answers.status_phrase(refusal.status)
    return _page("error.html", status=refusal.status, title=title, words=refusal.words)


def _page(
    template: str, *more_headers: tuple[str, str], status: int = 200, form_target: str = "", **values: object
) -> Answer:
    """Render a page that may load nothing, run nothing, and send its form only where it must."""
    nonce = secrets.token_urlsafe(12)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self' {form_target}".rstrip()
        + "; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = (
        ("Content-Security-Policy", policy),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "same-origin"),  # with no-referrer, browsers hide the origin of the form from us
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        *more_headers,
    )
    html = _TEMPLATES.get_template(template).render(style_nonce=nonce, **values)
    return html_answer(html, status, headers)


def _origin(callback: str) -> str:
    if callback == "oob":
        return ""
    parts = urlsplit(callback)
    return f"{parts.scheme}://{parts.netloc}"
