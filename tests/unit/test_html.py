"""How things look in a notebook: what is said, what is escaped, what is cut, and what is never shown."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from ibkr_oauth import AccessToken, LiveSessionToken, RequestToken, Response, Session
from ibkr_oauth.health import Counters, Health

VALUE = "dGhpcyBpcyB0d2VudHkgYnl0ZXM="  # 20 bytes, base64
SECRET = "c2VjcmV0" * 43
VOID = {"br", "hr", "img", "input", "meta", "link"}


class Reader(HTMLParser):
    """The text of a page; fails where a tag is not closed, or one is there that only an answer can have brought."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in {"div", "b", "code", "pre", "details", "summary", "table", "tr", "th", "td"}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(thing: object) -> str:
    reader = Reader()
    reader.feed(thing._repr_html_())  # type: ignore[attr-defined]
    reader.close()
    assert reader.open == []
    return " ".join(reader.words)


def answer(body: object, status: int = 200) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response("GET", "https://api.ibkr.com/v1/api/x?secret=1", status, [], content, 12_345)


def test_tokens_show_who_they_are_and_not_what_they_hold() -> None:
    token = LiveSessionToken(VALUE, datetime.now(UTC) + timedelta(hours=3, seconds=30), consumer_key="ABCDEFGHI")
    shown = read(token)
    assert "ABCDEFGHI" in shown
    assert token.fingerprint in shown
    assert "3 h 0 min" in shown
    assert VALUE not in shown
    access = read(AccessToken("a1b2c3d4e5f6a7b8c9d0", SECRET, is_paper=True))
    assert "a1b2…" in access
    assert "paper" in access
    assert SECRET not in access
    assert "a1b2c3d4e5f6" not in access + read(RequestToken("a1b2c3d4e5f6a7b8c9d0"))


def test_a_token_that_has_expired_says_so() -> None:
    assert "expired" in read(LiveSessionToken(VALUE, datetime.now(UTC) - timedelta(hours=1)))


def test_a_session_shows_its_tier_and_does_no_io() -> None:
    with Session(cookie="a-cookie-that-is-secret", keep_alive=None) as session:
        shown = read(session)
    assert "portfolio; the brokerage session is not open" in shown
    assert "https://api.ibkr.com/v1/api" in shown
    assert "a-cookie-that-is-secret" not in shown


def test_a_closed_session_has_no_tier_and_no_time_left() -> None:
    closed = read(Health("closed", "not open", False, timedelta(hours=5), None, None, 0.0, Counters(requests=7)))
    assert "closed" in closed
    assert "7 answered" in closed
    for words in ("portfolio", "5 h", "keep-alive"):
        assert words not in closed


def test_health_shows_clock_last_tickle_and_last_error() -> None:
    tickle = datetime.now(UTC) - timedelta(seconds=61)
    health = Health("open", "competing", True, timedelta(minutes=5), tickle, "<b>gone</b>", -40.0, Counters(requests=7))
    shown = read(health)
    for words in (
        "another login holds the brokerage session",
        "last tickle 1 min 1 s ago",
        "5 min 0 s",
        "40 s behind the server",
        "<b>gone</b>",
        "7 answered",
    ):
        assert words in shown


@pytest.mark.parametrize("attack", ["<script>alert(1)</script>", '" onload="x', "&lt;", "\ud800 lone"])
def test_what_an_answer_says_is_text_and_never_markup(attack: str) -> None:
    seen = attack.encode("utf-8", "replace").decode()
    assert seen in read(answer({attack: [attack]}))
    assert seen in read(answer(seen.encode()))


def test_an_answer_is_shown_as_a_tree_without_its_query() -> None:
    shown = read(answer({"accounts": [{"id": "DU123", "open": True, "sum": None, "net": 1.5}]}))
    for words in ("200", "GET https://api.ibkr.com/v1/api/x", "12 ms", "accounts", "DU123", "true", "null", "1.5"):
        assert words in shown
    assert "secret=1" not in shown


def test_a_number_is_told_from_its_text() -> None:
    shown = read(answer({"31": "227.52", "conid": 265598, "nothing": None, "word": "null"}))
    for words in ('"227.52"', " 265598", " null", '"null"'):
        assert words in shown


def test_secrets_in_an_answer_stay_hidden() -> None:
    cookie = {"session": "abc123def456", "sessionId": "abc123def456"}  # of tickle, and of /iserver/accounts
    secret = {**cookie, "list": [{"live_session_token_signature": "beef" * 10}], "other": SECRET}
    shown = read(answer(secret))
    assert shown.count("[hidden]") == 4
    for one in ("abc123def456", "beefbeef", "c2VjcmV0"):
        assert one not in shown
        assert one not in read(answer(b"no json: oauth_token_secret=" + secret["session"].encode() + SECRET.encode()))


def test_long_deep_and_large_answers_are_cut() -> None:
    many = answer(list(range(100_000)))._repr_html_()
    assert "cut here" in many
    assert len(many) < 100_000
    nested: object = 1
    for _ in range(500):
        nested = [nested]
    assert "not shown: too deep" in read(answer(nested))
    assert len(answer("x y " * 100_000)._repr_html_()) < 2_000
    assert len(answer(b'["' + b"x y " * 1_000_000 + b'"]')._repr_html_()) < 10_000
    assert len(read(answer(b"[" * 200_000))) < 10_000


def test_an_answer_without_a_body_is_its_status_and_no_more() -> None:
    shown = answer(b"", 204)
    assert "204" in read(shown)
    assert not re.search("<pre|<details", shown._repr_html_())


def test_what_is_empty_has_nothing_to_open() -> None:
    shown = answer({"groups": [], "aliases": {}})._repr_html_()
    assert shown.count("<details") == 1
    assert "<code>[]</code>" in shown
    assert "<code>{}</code>" in shown


def test_names_are_not_squeezed_by_a_long_text_beside_them() -> None:
    shown = answer([{"accountId": "DU1", "description": "some words " * 50}])._repr_html_()
    names = re.findall(r'<th scope="row" style="([^"]*)">', shown)
    assert names
    assert all("overflow-wrap:break-word" in style for style in names)  # `anywhere` is inherited from the cell around


def test_headers_are_looked_through_once() -> None:
    one = Response("GET", "https://api.ibkr.com/", 200, [("A", "1"), ("a", "2")], b"")
    assert one.headers is one.headers
    assert one.headers["A"] == "1, 2"


def test_nobody_pays_for_it_who_has_no_notebook() -> None:
    program = "import ibkr_oauth, sys; print(sorted({'html', 'ibkr_oauth.html', 'json'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
