"""The pages at ``/authorize``, where the user's browser is sent during the second leg: log in, then grant access."""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
from starlette.datastructures import Headers

from . import data
from .answers import Answer, Refusal, html_answer
from .state import RequestToken, State
from .verify import cookie_of

DEFAULT_USERNAME = "paper"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)


def show(state: State, headers: Headers, query: str) -> Answer:
    """``GET /authorize?oauth_token=…``: the page that is next, or at once the way back under auto consent."""
    token = dict(parse_qsl(query)).get("oauth_token", "")
    try:
        request_token = _issued_request_token(state, token)
    except Refusal as refusal:
        return _error_page(refusal)
    if state.settings.auto_consent:
        return _approve(state, request_token, DEFAULT_USERNAME)
    if _is_same(_cookie(request_token, headers), request_token.login_token):
        return _consent_page(request_token)
    return _login_page(state, request_token)


def receive(state: State, headers: Headers, form: str) -> Answer:
    """``POST /authorize``: what the user says to the login page or the consent page, in the same browser only.

    Three things prove it, each against another attack. The token in the form: no page elsewhere can read it. The
    cookie: who reads the form's token from a page of his own has not put it into this user's browser. The origin: what
    browsers say of the page that holds the form. To log in changes token and cookie: a form from before it is void.
    """
    fields = dict(parse_qsl(form, keep_blank_values=True))
    try:
        request_token = _issued_request_token(state, fields.get("oauth_token", ""))
    except Refusal as refusal:
        return _error_page(refusal)
    logs_in = "password" in fields
    expected = request_token.form_token if logs_in else request_token.login_token
    given = (fields.get("form_token", ""), _cookie(request_token, headers))
    if not _is_from_our_page(headers) or not all(_is_same(one, expected) for one in given):
        return _error_page(Refusal(403, "this answer does not come from the page in the same browser"))
    return _log_in(state, request_token, fields) if logs_in else _decide(state, request_token, fields)


def _log_in(state: State, request_token: RequestToken, fields: dict[str, str]) -> Answer:
    username = fields.get("username", "").strip()
    try:
        state.log_in(request_token, username, fields["password"].strip())
    except ValueError as error:
        wrong, _, rule = str(error).partition(": ")
        return _login_page(state, request_token, username, wrong, rule)
    # To be got, so that the page can be loaded anew without a question about sending the password again.
    location = f"/authorize?{urlencode({'oauth_token': request_token.token})}"
    cookie = _set_cookie(request_token, request_token.login_token)
    return Answer(303, b"", None, (("Location", location), ("Cache-Control", "no-store"), cookie))


def _decide(state: State, request_token: RequestToken, fields: dict[str, str]) -> Answer:
    match fields.get("decision"):
        case "approve":
            return _approve(state, request_token, request_token.username)
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


def _is_from_our_page(headers: Headers) -> bool:
    origin = headers.get("origin")  # absent from programs and old browsers, "null" from a page that hides its own
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _is_same(given: str, expected: str) -> bool:
    """In constant time. Nothing is the same as a token that there is not."""
    return expected != "" and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(request_token: RequestToken, headers: Headers) -> str:
    return cookie_of(headers, _cookie_name(request_token)) or ""


def _set_cookie(request_token: RequestToken, value: str) -> tuple[str, str]:
    # Not Secure: `ibkr-oauth demo --open` hands this page on over http at 127.0.0.1.
    return "Set-Cookie", f"{_cookie_name(request_token)}={value}; Path=/authorize; HttpOnly; SameSite=Strict"


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


def _login_page(
    state: State, request_token: RequestToken, username: str = DEFAULT_USERNAME, wrong: str = "", rule: str = ""
) -> Answer:
    """`wrong`: the field that was filled in so that it breaks the rule."""
    return _page(
        "login.html",
        _set_cookie(request_token, request_token.form_token),
        status=422 if wrong else 200,
        consumer_key=request_token.consumer.key,
        oauth_token=request_token.token,
        form_token=request_token.form_token,
        username=username,
        password=state.password,
        wrong=wrong,
        rule=rule,
    )


def _consent_page(request_token: RequestToken) -> Answer:
    consumer = request_token.consumer
    return _page(
        "consent.html",
        # Chromium applies form-action also to the redirect that follows the form.
        form_target=_origin(consumer.callback),
        consumer_key=consumer.key,
        callback=consumer.callback,
        oauth_token=request_token.token,
        form_token=request_token.login_token,
        username=request_token.username,
        account=data.account_id(request_token.username),
    )


def _error_page(refusal: Refusal) -> Answer:
    return _page("error.html", status=refusal.status, words=refusal.words)


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
