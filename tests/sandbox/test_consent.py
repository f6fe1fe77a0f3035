"""The login page and the consent page: what a person sees and clicks, and what a page on another site cannot do."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import Connect
from .reference import Client, Reply, exchange


class Page(HTMLParser):
    """The tags of a page, checked to be nested properly, and the values of its form."""

    VOID = frozenset({"meta", "input", "link", "img", "br"})

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(reply.body.decode())
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def form(self, **changes: str) -> dict[str, str]:
        values = {str(one["name"]): str(one.get("value")) for one in self.all("input")}
        return values | changes


@pytest.fixture
def token(consumer: Client) -> str:
    return str(consumer.get_request_token().json()["oauth_token"])


def open_page(sandbox: Sandbox, token: str, cookie: str = "") -> Reply:
    return exchange(sandbox, "GET", f"/authorize?oauth_token={token}", {"User-Agent": "browser", "Cookie": cookie})


def cookie_of(form: dict[str, str]) -> str:
    """What a browser sends that was shown the page with this form; test_the_cookies... shows that it is set so."""
    return f"consent-{form['oauth_token']}={form.get('form_token', '')}"


def submit(sandbox: Sandbox, form: dict[str, str], **headers_too: str) -> Reply:
    body = urlencode(form).encode()
    headers = {
        "User-Agent": "browser",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(body)),
        "Cookie": cookie_of(form),
    }
    return exchange(sandbox, "POST", "/authorize", headers | headers_too, body)


def password_of(page: Page) -> str:
    (password,) = re.findall(r"with the password (\w+)", page.text)
    return str(password)


def login_form(sandbox: Sandbox, token: str, **changes: str) -> dict[str, str]:
    """As a person fills it in."""
    page = Page(open_page(sandbox, token))
    return page.form(password=password_of(page)) | changes


def log_in(sandbox: Sandbox, token: str, username: str = "paper") -> Reply:
    """The consent page, as the browser gets it that logged in."""
    reply = submit(sandbox, login_form(sandbox, token, username=username))
    assert reply.status == 303
    assert reply.headers["location"] == f"/authorize?oauth_token={token}"
    return open_page(sandbox, token, reply.headers["set-cookie"].partition(";")[0])


# --- A person's way ------------------------------------------------------------------------------


def test_approve(sandbox: Sandbox, consumer: Client, token: str) -> None:
    reply = log_in(sandbox, token, " trader1 ")
    assert reply.status == 200
    page = Page(reply)
    assert "VECTORKEY asks for access to your account" in page.text
    assert "http://localhost:20000/" in page.text
    assert "trader1" in page.text
    assert [one["value"] for one in page.all("button")] == ["approve", "deny"]

    redirect = submit(sandbox, page.form(decision="approve"))
    assert redirect.status == 302
    address = urlsplit(redirect.headers["location"])
    assert address._replace(query="").geturl() == "http://localhost:20000/"
    returned = parse_qs(address.query)
    assert list(returned) == ["oauth_token", "oauth_verifier"]
    assert returned["oauth_token"] == [token]

    assert consumer.get_access_token(token, returned["oauth_verifier"][0]).status == 200
    assert sandbox.grant("VECTORKEY", username="trader1")[0] == consumer.access_token


def test_deny(sandbox: Sandbox, consumer: Client, token: str) -> None:
    redirect = submit(sandbox, Page(log_in(sandbox, token)).form(decision="deny"))
    assert redirect.status == 302
    returned = parse_qs(urlsplit(redirect.headers["location"]).query)
    assert returned == {"oauth_token": [token], "oauth_problem": ["user_refused"]}
    assert consumer.get_access_token(token, "0" * 20).error == "the user denied this request token"
    assert open_page(sandbox, token).status == 410


@pytest.mark.parametrize(("decision", "title"), [("approve", "granted"), ("deny", "denied")])
def test_out_of_band(sandbox: Sandbox, connect: Connect, decision: str, title: str) -> None:
    consumer = connect(sandbox, callback="oob")
    token = consumer.get_request_token().json()["oauth_token"]
    page = Page(log_in(sandbox, token))
    assert "this page, with a code to copy" in page.text
    reply = submit(sandbox, page.form(decision=decision))
    assert reply.status == 200
    outcome = Page(reply)
    assert f"Access {title}" in outcome.text
    if decision == "approve":
        (verifier,) = re.findall(r"\b[0-9a-f]{20}\b", outcome.text)
        assert consumer.get_access_token(token, verifier).status == 200


ODD_LOGINS = [("username", one) for one in ("", " ", "a b", '"><script>', "x" * 65)]
ODD_LOGINS += [("password", one) for one in ("", "guess", "é", '"><script>')]


@pytest.mark.parametrize(("name", "typed"), ODD_LOGINS)
def test_odd_logins_are_asked_for_again(sandbox: Sandbox, token: str, name: str, typed: str) -> None:
    reply = submit(sandbox, login_form(sandbox, token) | {name: typed})
    assert reply.status == 422
    page = Page(reply)
    fields = {str(one["name"]): one for one in page.all("input")}
    assert fields["username"]["value"] == (typed.strip() if name == "username" else "paper")
    assert fields["password"]["value"] == ""  # never sent back
    assert [field for field, one in fields.items() if one.get("aria-invalid")] == [name]
    assert any(one.get("id") == fields[name]["aria-describedby"] for one in page.all("p"))
    assert {"username": "1 to 64 letters", "password": "Not the one above"}[name] in page.text
    assert not page.all("script")
    again = page.form(username="paper", password=password_of(page))
    assert submit(sandbox, again).status == 303


def test_each_sandbox_has_a_password_of_its_own(sandbox: Sandbox, connect: Connect, token: str) -> None:
    with Sandbox() as other:
        others = connect(other).get_request_token().json()["oauth_token"]
        assert password_of(Page(open_page(other, others))) != password_of(Page(open_page(sandbox, token)))


def test_who_logs_in_again_is_asked_as_the_other_user(sandbox: Sandbox, token: str) -> None:
    former, now = (Page(log_in(sandbox, token, name)) for name in ("trader1", "trader2"))
    assert "trader2" in now.text
    assert submit(sandbox, former.form(decision="approve")).status == 403
    assert submit(sandbox, now.form(decision="approve")).status == 302


def test_auto_consent_redirects_at_once(connect: Connect) -> None:
    with Sandbox(auto_consent=True) as sandbox:
        consumer = connect(sandbox)
        token = consumer.get_request_token().json()["oauth_token"]
        redirect = open_page(sandbox, token)
        assert redirect.status == 302
        assert "oauth_verifier=" in redirect.headers["location"]
        assert open_page(sandbox, token).status == 410


# --- Tokens that lead nowhere --------------------------------------------------------------------


def test_tokens_that_lead_nowhere(sandbox: Sandbox, consumer: Client, token: str) -> None:
    for address, status, words in (
        ("/authorize", 400, "the address lacks oauth_token"),
        ("/authorize?oauth_token=", 400, "the address lacks oauth_token"),
        ("/authorize?oauth_token=<script>", 404, "unknown request token"),
    ):
        reply = exchange(sandbox, "GET", address.replace("<", "%3C").replace(">", "%3E"))
        assert reply.status == status
        assert f"{words[0].upper()}{words[1:]}." in Page(reply).text
    verifier = sandbox.consent(token)
    assert "is approved already" in Page(open_page(sandbox, token)).text
    consumer.get_access_token(token, verifier)
    for reply in (open_page(sandbox, token), submit(sandbox, {"oauth_token": token})):
        assert reply.status == 410
        assert "Request token was used before" in Page(reply).text
    with pytest.raises(LookupError, match="used before"):
        sandbox.consent(token)
    with pytest.raises(LookupError, match="unknown request token"):
        sandbox.consent("nonsense")


def test_expired_token(connect: Connect) -> None:
    now = time.time()
    with Sandbox(clock=lambda: now) as sandbox:
        token = connect(sandbox).get_request_token().json()["oauth_token"]
        now += 600
        assert "Request token has expired" in Page(open_page(sandbox, token)).text


# --- Safety --------------------------------------------------------------------------------------


Fill = Callable[[Sandbox, str], dict[str, str]]


def consent_form(sandbox: Sandbox, token: str) -> dict[str, str]:
    return Page(log_in(sandbox, token)).form(decision="approve")


#: Each page's form, filled in, and the status that it leads to.
both_forms = pytest.mark.parametrize(("fill", "good"), [(login_form, 303), (consent_form, 302)])


@both_forms
@pytest.mark.parametrize("form_token", [None, "", "guess", "é"])
def test_an_answer_from_elsewhere_is_refused(
    sandbox: Sandbox, token: str, fill: Fill, good: int, form_token: str | None
) -> None:
    form = fill(sandbox, token)
    forged = {name: value for name, value in form.items() if name != "form_token"}
    reply = submit(sandbox, forged if form_token is None else form | {"form_token": form_token})
    assert reply.status == 403
    assert "does not come from the page" in Page(reply).text
    assert submit(sandbox, form).status == good


@both_forms
def test_the_cookies_bind_the_answer_to_the_browser(sandbox: Sandbox, token: str, fill: Fill, good: int) -> None:
    """Somebody else may know the form token, from a page that he opened himself: his cookie is in another browser."""
    form = fill(sandbox, token)
    pair = cookie_of(form)
    for cookie in ("", "consent=1", pair.rpartition("=")[0] + "=guess", f"consent-other={form['form_token']}"):
        assert submit(sandbox, form, Cookie=cookie).status == 403
    assert submit(sandbox, form, Cookie=f"other=1; {pair}; api=x").status == good


def test_how_the_cookies_are_set(sandbox: Sandbox, token: str) -> None:
    form = login_form(sandbox, token)
    logged_in = submit(sandbox, form)
    for reply, value in ((open_page(sandbox, token), form["form_token"]), (logged_in, None)):
        pair, *attributes = reply.headers["set-cookie"].split("; ")
        assert set(attributes) == {"Path=/authorize", "HttpOnly", "SameSite=Strict"}
        if value is None:
            assert cookie_of(Page(open_page(sandbox, token, pair)).form()) == pair != cookie_of(form)
        else:
            assert cookie_of(form) == pair


def test_nobody_decides_without_logging_in(sandbox: Sandbox, token: str) -> None:
    """Neither before a user has logged in, nor in another browser after it."""
    form = Page(open_page(sandbox, token)).form(decision="approve")
    del form["password"]
    for _ in range(2):
        assert submit(sandbox, form).status == 403
        assert submit(sandbox, form | {"form_token": ""}).status == 403
        log_in(sandbox, token)
    assert "Log in" in Page(open_page(sandbox, token)).text


@both_forms
@pytest.mark.parametrize(
    "origin", ["null", "", "https://evil.example", "http://127.0.0.1:1", "http://127.0.0.1", "http://["]
)
def test_an_answer_from_another_origin_is_refused(
    sandbox: Sandbox, token: str, fill: Fill, good: int, origin: str
) -> None:
    form = fill(sandbox, token)
    assert submit(sandbox, form, Origin=origin).status == 403
    assert submit(sandbox, form, Origin=f"http://127.0.0.1:{sandbox.port}").status == good


def test_form_tokens_differ(sandbox: Sandbox, consumer: Client) -> None:
    tokens = [consumer.get_request_token().json()["oauth_token"] for _ in range(2)]
    first, second = (Page(open_page(sandbox, token)).form() for token in tokens)
    assert first["form_token"] != second["form_token"]
    crossed = first | {"form_token": second["form_token"]}
    assert submit(sandbox, crossed).status == 403


def test_neither_approved_nor_denied(sandbox: Sandbox, token: str) -> None:
    form = Page(log_in(sandbox, token)).form()
    assert submit(sandbox, form).status == 400
    assert submit(sandbox, form | {"decision": "perhaps"}).status == 400


def test_pages_load_and_run_nothing(sandbox: Sandbox, token: str) -> None:
    for reply in (open_page(sandbox, token), log_in(sandbox, token), exchange(sandbox, "GET", "/authorize")):
        policy = dict(
            directive.strip().split(" ", 1) for directive in reply.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["base-uri"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        page = Page(reply)
        (style,) = page.all("style")
        assert policy["style-src"] == f"'nonce-{style['nonce']}'"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        for tag, attributes in page.tags:
            assert tag not in {"script", "link", "img", "iframe"}
            assert "style" not in attributes
            assert not any(name.startswith("on") for name in attributes)
        assert b"url(" not in reply.body
        assert b"@import" not in reply.body


def test_style_nonces_differ(sandbox: Sandbox, token: str) -> None:
    first, second = (Page(open_page(sandbox, token)).all("style")[0] for _ in range(2))
    assert first["nonce"] != second["nonce"]


def test_form_may_lead_to_the_callback(sandbox: Sandbox, connect: Connect) -> None:
    """Chromium applies form-action to the redirect after the form, so it must name the callback."""
    consumer = connect(sandbox, callback="http://localhost:8123/path?x=1")
    reply = log_in(sandbox, consumer.get_request_token().json()["oauth_token"])
    policy = reply.headers["content-security-policy"]
    assert "form-action 'self' http://localhost:8123;" in policy


def test_small(sandbox: Sandbox, token: str) -> None:
    """How they look and read is seen in tests/browser."""
    for reply in (open_page(sandbox, token), log_in(sandbox, token)):
        assert len(reply.body) < 8192


def test_values_are_escaped(sandbox: Sandbox, connect: Connect) -> None:
    callback = 'http://localhost:20000/?a="><script>alert(1)</script>'
    consumer = connect(sandbox, callback=callback)
    reply = log_in(sandbox, consumer.get_request_token().json()["oauth_token"])
    assert not Page(reply).all("script")
    assert callback in html.unescape(reply.body.decode())
