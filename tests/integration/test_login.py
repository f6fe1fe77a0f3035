"""`ibkr_oauth.login`: the three legs in two steps, the redirect caught or given by hand, cells run again."""

import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from ibkr_oauth import Consumer, Session, errors, login
from ibkr_oauth.login import Login
from ibkr_oauth.sandbox import Sandbox

CONSUMER_KEY = "THIRDPART"


def visit(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture
def callback() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}/done"


@pytest.fixture
def third_party(sandbox: Sandbox, pem: dict[str, str], callback: str) -> Consumer:
    public = (pem["signing_public"], pem["encryption_public"], pem["dh_params"])
    sandbox.register(CONSUMER_KEY, *public, callback=callback)
    return Consumer(CONSUMER_KEY, pem["signing"], pem["encryption"], pem["dh_params"])


Start = Callable[..., Login]


@pytest.fixture
def start(sandbox: Sandbox, third_party: Consumer) -> Iterator[Start]:
    started: list[Login] = []

    def one(callback: str | None = None) -> Login:
        started.append(login.start(third_party, callback, base_url=sandbox.base_url, ca_file=sandbox.ca_file))
        return started[-1]

    yield one
    for login_ in started:
        login_.close()


def token_of(started: Login) -> str:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(started.authorization_url).query)["oauth_token"][0]


def redirect_of(sandbox: Sandbox, started: Login, callback: str) -> str:
    """Where the browser is sent once the user has granted access."""
    token = token_of(started)
    query = urllib.parse.urlencode({"oauth_token": token, "oauth_verifier": sandbox.consent(token)})
    return f"{callback}?{query}"


def test_the_redirect_is_caught(sandbox: Sandbox, start: Start, callback: str, third_party: Consumer) -> None:
    started = start(callback)
    assert started.listens
    assert visit(redirect_of(sandbox, started, callback)) == 200
    access_token = started.finish(timeout=5)
    with Session(third_party, access_token, base_url=sandbox.base_url, ca_file=sandbox.ca_file) as ibkr:
        assert ibkr.get("/portfolio/accounts").json()
    with pytest.raises(errors.UsageError, match="over"):
        started.finish(timeout=5)


@pytest.mark.parametrize("given", [None, "https://your.example/callback"])
def test_the_address_is_given_by_hand(sandbox: Sandbox, start: Start, callback: str, given: str | None) -> None:
    """A wrong one is refused, and the right one still works."""
    started = start(given)
    assert not started.listens
    with pytest.raises(errors.UsageError, match="nothing on this machine"):
        started.finish()
    redirect = redirect_of(sandbox, started, callback)
    with pytest.raises(errors.AuthorizationError):
        started.finish(redirect.replace("oauth_token=", "oauth_token=0"))
    assert started.finish(redirect).is_paper is True


def test_a_cell_that_is_run_again(sandbox: Sandbox, start: Start, callback: str) -> None:
    """The same port, though the former login was never finished; that one is over, and says so."""
    former = start(callback)
    late = redirect_of(sandbox, former, callback)
    started = start(callback)
    with pytest.raises(errors.UsageError, match="started again"):
        former.finish(timeout=5)
    assert visit(late) == 400  # its answer is not taken for the new one's
    assert visit(redirect_of(sandbox, started, callback)) == 200
    assert started.finish(timeout=5).token


def test_denied(sandbox: Sandbox, start: Start, callback: str) -> None:
    started = start(callback)
    visit(f"{callback}?oauth_token={token_of(started)}&oauth_problem=user_refused")
    with pytest.raises(errors.AuthorizationError, match="denied"):
        started.finish(timeout=5)


def test_nobody_answers(start: Start, callback: str) -> None:
    with pytest.raises(errors.AuthorizationError, match="nobody answered"):
        start(callback).finish(timeout=0.05)


def test_the_port_is_taken(start: Start, callback: str) -> None:
    port = urllib.parse.urlsplit(callback).port
    with socket.create_server(("127.0.0.1", port or 0)), pytest.raises(errors.UsageError, match=f"port {port}"):
        start(callback)


def test_a_request_token_that_is_refused_frees_the_port(sandbox: Sandbox, pem: dict[str, str], callback: str) -> None:
    unknown = Consumer("NOBODYKEY", pem["signing"], pem["encryption"], pem["dh_params"])
    with pytest.raises(errors.ConsumerNotActive):
        login.start(unknown, callback, base_url=sandbox.base_url, ca_file=sandbox.ca_file)
    port = urllib.parse.urlsplit(callback).port
    with socket.create_server(("127.0.0.1", port or 0)):
        pass


@pytest.mark.parametrize("callback", ["http://127.0.0.1:99999/", "http://[::1"])
def test_no_address(start: Start, callback: str) -> None:
    with pytest.raises(errors.InvalidValue, match="callback"):
        start(callback)


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        ("http://127.0.0.1:20000/", True),
        ("http://localhost:20000/x", True),
        ("https://127.0.0.1:20000/", False),
        ("http://127.0.0.1/", False),
        ("http://127.0.0.1.example:20000/", False),
        ("oob", False),
    ],
)
def test_which_addresses_are_here(callback: str, expected: bool) -> None:
    assert login.is_here(callback) is expected


def test_how_it_looks(start: Start, callback: str) -> None:
    """The link is there to be followed; the text shows no token."""
    listening, pasted = start(callback), start()
    shown = listening._repr_html_()
    assert f'href="{listening.authorization_url}"' in shown
    assert "call finish()." in shown
    assert "with the address that the browser ends at" in pasted._repr_html_()
    for one in (listening, pasted):
        assert token_of(one) not in repr(one)
