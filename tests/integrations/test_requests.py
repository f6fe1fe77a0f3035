"""requests, as people use it, with our signatures."""

import io
import logging
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from urllib3 import Retry

from ibkr_oauth import AsyncSession, InvalidValue, Session
from ibkr_oauth.integrations.requests import IBKRAdapter, IBKRAuth
from ibkr_oauth.sandbox import Sandbox

from .conftest import FORM, ORDER, PARAMS, QUERIES, RULES, Redirector, api_requests, assert_signed

ACCOUNTS = "/portfolio/accounts"


@pytest.fixture(params=["auth", "adapter"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def new_client(way: str) -> Iterator[Callable[..., requests.Session]]:
    made: list[requests.Session] = []

    def make(ibkr: Session, sandbox: Sandbox | None = None) -> requests.Session:
        client = requests.Session()
        client.trust_env = False
        if sandbox is not None:
            client.verify = str(sandbox.ca_file)
        if way == "auth":
            client.auth = IBKRAuth(ibkr)
        else:
            client.mount(f"{ibkr.base_url}/", IBKRAdapter(ibkr))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(ibkr: Session, sandbox: Sandbox, new_client: Callable[..., requests.Session]) -> requests.Session:
    return new_client(ibkr, sandbox)


@pytest.mark.parametrize("rule", RULES)
def test_queries_are_signed_as_they_are_sent(
    rule: Any,
    new_sandbox: Callable[..., Sandbox],
    new_session: Callable[..., Session],
    new_client: Callable[..., requests.Session],
) -> None:
    sandbox = new_sandbox(query_rules=(rule,))
    ibkr = new_session(sandbox, query_signing=rule)
    client = new_client(ibkr, sandbox)
    for query in QUERIES:
        assert client.get(f"{ibkr.base_url}{ACCOUNTS}?{query}#part").status_code == 200, query
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}", params=PARAMS).status_code == 200
    assert {request.query_rule for request in api_requests(sandbox)} == {rule}


def test_all_methods_with_json_and_forms(client: requests.Session, ibkr: Session, sandbox: Sandbox) -> None:
    url = ibkr.base_url
    assert client.post(f"{url}/iserver/auth/ssodh/init", data=FORM).json()["authenticated"] is True
    account = client.get(f"{url}/iserver/accounts").json()["accounts"][0]
    placed = client.post(f"{url}/iserver/account/{account}/orders", json={"orders": [ORDER]})
    assert placed.status_code == 200
    place = f"{url}/iserver/account/{account}/order/{placed.json()[0]['order_id']}"
    assert client.put(place, json={**ORDER, "quantity": 2}).status_code == 200
    assert client.delete(place).status_code == 200
    assert client.post(f"{url}/tickle").status_code == 200
    assert len(sandbox.orders) == 1


def test_a_form_as_text_is_signed(client: requests.Session, ibkr: Session) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    for form in ("publish=true&compete=false&name=a+b%2Bc", b"publish=true&empty=&flag&flag"):
        answer = client.post(f"{ibkr.base_url}/iserver/auth/ssodh/init", data=form, headers=headers)
        assert answer.status_code == 200, answer.text


def test_headers_may_be_bytes(client: requests.Session, ibkr: Session, sandbox: Sandbox) -> None:
    """Which requests sends as they are."""
    headers: Any = {"Content-Type": b"application/x-www-form-urlencoded"}
    answer = client.post(f"{ibkr.base_url}/tickle", data="a=1&b=%C3%BC", headers=headers)
    assert answer.status_code == 200, answer.text
    assert api_requests(sandbox)[-1].refusal is None


def test_a_form_that_cannot_be_signed_is_refused_unsent(
    client: requests.Session, ibkr: Session, sandbox: Sandbox
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, words in ((io.BytesIO(b"a=1"), "stream"), (b"a=%FF", "UTF-8"), ("ü=1".encode(), "UTF-8")):
        with pytest.raises(InvalidValue, match=words):
            client.post(f"{ibkr.base_url}/tickle", data=body, headers=headers)
    assert api_requests(sandbox) == []


def test_a_single_call_needs_no_session_of_requests(ibkr: Session, sandbox: Sandbox) -> None:
    answer = requests.get(f"{ibkr.base_url}{ACCOUNTS}", auth=IBKRAuth(ibkr), verify=str(sandbox.ca_file))
    assert answer.status_code == 200


@pytest.mark.parametrize("new_body", [lambda: None, lambda: b"{}", lambda: io.BytesIO(b'{"orders":[]}')])
def test_a_stale_token_is_renewed_for_a_post_too(
    new_body: Callable[[], Any], client: requests.Session, ibkr: Session, sandbox: Sandbox
) -> None:
    url = f"{ibkr.base_url}/tickle"
    assert client.post(url).status_code == 200
    sandbox.expire_token()
    assert client.post(url, data=new_body()).status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200]
    assert api_requests(sandbox)[1].headers["content-length"] == api_requests(sandbox)[2].headers["content-length"]


def test_a_body_that_cannot_be_rewound_is_not_sent_again(
    client: requests.Session, ibkr: Session, sandbox: Sandbox
) -> None:
    url = f"{ibkr.base_url}/tickle"
    client.post(url)
    sandbox.expire_token()
    assert client.post(url, data=(part for part in [b"{", b"}"])).status_code == 401
    assert client.post(url).status_code == 200  # renewed all the same
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200]


def test_a_wrong_clock_is_corrected(
    new_client: Callable[..., requests.Session], new_session: Callable[..., Session], sandbox: Sandbox
) -> None:
    ibkr = new_session(sandbox)
    client = new_client(ibkr, sandbox)
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    sandbox.skew(600)
    assert client.post(f"{ibkr.base_url}/tickle").status_code == 200
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200, 200]


def test_a_foreign_account_is_answered_once(client: requests.Session, ibkr: Session, sandbox: Sandbox) -> None:
    client.get(f"{ibkr.base_url}{ACCOUNTS}")
    answer = client.get(f"{ibkr.base_url}/portfolio/U0000000/positions/0")
    assert (answer.status_code, answer.content) == (401, b"")
    assert [request.path.rpartition("/")[0] for request in api_requests(sandbox)].count(
        "/v1/api/portfolio/U0000000/positions"
    ) == 1


def test_a_lasting_refusal_is_returned_after_one_renewal(
    client: requests.Session, ibkr: Session, sandbox: Sandbox
) -> None:
    url = f"{ibkr.base_url}/tickle"
    client.post(url)
    body = '{"error":"Access token expired"}'
    sandbox.fail_next(401, 2, body, path="/tickle")
    assert client.post(url).status_code == 401
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 401]


def test_each_request_has_its_own_chance_of_a_renewal(
    client: requests.Session, ibkr: Session, sandbox: Sandbox
) -> None:
    client.get(f"{ibkr.base_url}{ACCOUNTS}")
    for _ in range(2):
        sandbox.expire_token()
        assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, 401, 200, 401, 200]


def test_what_was_refused_is_in_the_history(ibkr: Session, sandbox: Sandbox) -> None:
    options: dict[str, Any] = {"auth": IBKRAuth(ibkr), "verify": str(sandbox.ca_file)}
    requests.get(f"{ibkr.base_url}{ACCOUNTS}", **options)
    sandbox.expire_token()
    answer = requests.get(f"{ibkr.base_url}{ACCOUNTS}", **options)
    assert (answer.status_code, [refused.status_code for refused in answer.history]) == (200, [401])


# --- Where it must not go ------------------------------------------------------------------------


def test_other_addresses_get_no_signature(ibkr: Session, elsewhere: Redirector, sandbox: Sandbox) -> None:
    addresses = [
        f"{elsewhere.origin}/v1/api/tickle",
        f"{sandbox.origin}/other",
        f"{sandbox.origin}@127.0.0.1{ACCOUNTS}",
        f"{ibkr.base_url}.example{ACCOUNTS}",
    ]
    with requests.Session() as client:
        client.trust_env = False
        client.verify = str(sandbox.ca_file)
        client.mount("https://", IBKRAdapter(ibkr))
        client.mount("http://", IBKRAdapter(ibkr))
        for address in addresses:
            for options in ({"auth": IBKRAuth(ibkr)}, {}):
                with pytest.raises((InvalidValue, requests.exceptions.InvalidURL)):
                    client.get(address, **options)
    assert elsewhere.seen == []
    assert api_requests(sandbox) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_is_signed_for_its_own_address(
    status: int, redirected: Session, redirector: Redirector, new_client: Callable[..., requests.Session]
) -> None:
    redirector.answers["/v1/api/old?a=1"] = [(status, "/v1/api/new?b=c+d,e|f#part")]
    redirector.answers["/v1/api/new?b=c+d,e%7Cf"] = [(status, "newest")]
    answer = new_client(redirected).get(f"{redirected.base_url}/old?a=1")
    assert answer.status_code == 200
    assert [seen.target for seen in redirector.seen] == ["/v1/api/old?a=1", "/v1/api/new?b=c+d,e%7Cf", "/v1/api/newest"]
    assert len({assert_signed(seen, redirector) for seen in redirector.seen}) == 3


def test_a_redirect_that_leaves_carries_no_signature(
    redirected: Session, redirector: Redirector, elsewhere: Redirector, new_client: Callable[..., requests.Session]
) -> None:
    for target in (elsewhere.base_url, f"{redirector.origin}/other"):
        redirector.answers["/v1/api/old"] = [(302, f"{target}/new")]
        assert new_client(redirected).get(f"{redirected.base_url}/old").status_code == 200
    left = [elsewhere.seen[0], redirector.seen[-1]]
    assert [seen.target for seen in left] == ["/v1/api/new", "/other/new"]
    for seen in left:
        assert not {"authorization", "cookie"} & set(seen.headers)


@pytest.mark.parametrize(("method", "status"), [("POST", 307), ("POST", 308), ("PUT", 307), ("DELETE", 301)])
def test_what_changes_something_is_not_redirected(
    method: str,
    status: int,
    redirected: Session,
    redirector: Redirector,
    elsewhere: Redirector,
    new_client: Callable[..., requests.Session],
) -> None:
    redirector.answers["/v1/api/orders"] = [(status, f"{elsewhere.base_url}/orders"), (status, "/v1/api/new")]
    for allow_redirects in (True, False):
        answer = new_client(redirected).request(
            method, f"{redirected.base_url}/orders", json={"orders": []}, allow_redirects=allow_redirects
        )
        assert answer.status_code == status
        assert answer.headers["Location"]
    assert [seen.target for seen in redirector.seen] == ["/v1/api/orders"] * 2
    assert elsewhere.seen == []


def test_a_post_that_turns_into_a_get_is_followed(
    redirected: Session, redirector: Redirector, new_client: Callable[..., requests.Session]
) -> None:
    redirector.answers["/v1/api/form"] = [(303, "/v1/api/result?x=1")]
    assert new_client(redirected).post(f"{redirected.base_url}/form", data={"a": "b c"}).status_code == 200
    assert [seen.method for seen in redirector.seen] == ["POST", "GET"]
    assert len({assert_signed(seen, redirector) for seen in redirector.seen}) == 2


def test_redirects_are_followed_only_where_they_are_allowed(
    redirected: Session, redirector: Redirector, new_client: Callable[..., requests.Session]
) -> None:
    redirector.answers["/v1/api/old"] = [(302, "/v1/api/new")]
    answer = new_client(redirected).get(f"{redirected.base_url}/old", allow_redirects=False)
    assert answer.status_code == 302
    assert len(redirector.seen) == 1


def test_a_session_with_nothing_but_a_cookie(
    redirector: Redirector, new_client: Callable[..., requests.Session]
) -> None:
    redirector.answers["/v1/api/old"] = [(302, "/v1/api/new")]
    with Session(cookie="abc", base_url=redirector.base_url, keep_alive=None) as ibkr:
        assert new_client(ibkr).get(f"{ibkr.base_url}/old").status_code == 200
    assert redirector.seen[0].headers["cookie"] == "api=abc"
    assert not any("authorization" in seen.headers for seen in redirector.seen)


# --- Retries -------------------------------------------------------------------------------------


@pytest.fixture
def new_retrying(ibkr: Session, sandbox: Sandbox) -> Iterator[Callable[..., requests.Session]]:
    made: list[requests.Session] = []

    def make(retries: Retry | int) -> requests.Session:
        client = requests.Session()
        client.trust_env = False
        client.verify = str(sandbox.ca_file)
        client.mount(f"{ibkr.base_url}/", IBKRAdapter(ibkr, max_retries=retries, pool_maxsize=1))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def test_retries_after_an_answer_are_signed_anew(
    new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox
) -> None:
    client = new_retrying(Retry(3, status_forcelist=[503], allowed_methods=["GET", "PUT"]))
    sandbox.fail_next(503, 2, path=ACCOUNTS)
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [503, 503, 200]


@pytest.mark.parametrize("before_processing", [True, False])
def test_retries_after_a_cut_connection_are_signed_anew(
    before_processing: bool, new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox
) -> None:
    client = new_retrying(2)
    sandbox.drop_connection(times=2, path=ACCOUNTS, before_processing=before_processing)
    # A signature that was sent twice would be refused here: the sandbox remembers nonces.
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    assert len(api_requests(sandbox)) == 3


def test_a_stale_token_among_retries(
    new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox
) -> None:
    client = new_retrying(Retry(2, status_forcelist=[503]))
    client.get(f"{ibkr.base_url}{ACCOUNTS}")
    sandbox.expire_token()
    sandbox.fail_next(503, path=ACCOUNTS)
    assert client.get(f"{ibkr.base_url}{ACCOUNTS}").status_code == 200
    assert [request.status for request in api_requests(sandbox)] == [200, 503, 401, 200]


@pytest.mark.parametrize("cut", [True, False])
def test_retries_send_the_whole_body_again_or_nothing(
    cut: bool, new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox
) -> None:
    client = new_retrying(Retry(2, status_forcelist=[503], allowed_methods=None))
    url = f"{ibkr.base_url}/iserver/auth/ssodh/init"
    headers = {"Content-Type": "application/json"}
    body = b'{"publish":true,"compete":false}'

    def fail() -> None:
        if cut:
            sandbox.drop_connection(path="/iserver/auth/ssodh/init", before_processing=True)
        else:
            sandbox.fail_next(503, path="/iserver/auth/ssodh/init")

    fail()
    assert client.post(url, data=io.BytesIO(body), headers=headers).json()["authenticated"] is True
    fail()
    try:
        assert client.post(url, data=iter([body]), headers=headers).status_code == 503
    except requests.ConnectionError:
        assert cut
    assert len(api_requests(sandbox)) == 3


def test_what_the_policy_does_not_allow_is_sent_once(
    new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox
) -> None:
    client = new_retrying(Retry(3, status_forcelist=[503]))
    sandbox.fail_next(503, path="/tickle")
    assert client.post(f"{ibkr.base_url}/tickle").status_code == 503
    sandbox.drop_connection(path="/tickle")
    with pytest.raises(requests.ConnectionError):
        client.post(f"{ibkr.base_url}/tickle")
    assert [request.path for request in api_requests(sandbox)] == ["/v1/api/tickle"] * 2


def test_retries_end(new_retrying: Callable[..., requests.Session], ibkr: Session, sandbox: Sandbox) -> None:
    url = f"{ibkr.base_url}{ACCOUNTS}"
    sandbox.fail_next(503, 2, path=ACCOUNTS)
    with pytest.raises(requests.exceptions.RetryError) as caught:
        new_retrying(Retry(1, status_forcelist=[503])).get(url)
    assert "oauth" not in str(caught.value)
    assert caught.value.response is not None
    assert caught.value.response.raw.connection is None  # it went back, and is not left to the garbage collection
    assert caught.value.response.json()["error"]
    sandbox.fail_next(503, 2, path=ACCOUNTS)
    patient = new_retrying(Retry(1, status_forcelist=[503], raise_on_status=False))
    assert patient.get(url).status_code == 503
    sandbox.drop_connection(times=2, path=ACCOUNTS)
    with pytest.raises(requests.ConnectionError):
        new_retrying(1).get(url)
    assert len(api_requests(sandbox)) == 6


def test_nothing_listens(redirected: Session, redirector: Redirector) -> None:
    redirector.stop()
    with requests.Session() as client:
        client.trust_env = False
        client.mount("http://", IBKRAdapter(redirected, max_retries=1))
        with pytest.raises(requests.ConnectionError):
            client.post(f"{redirected.base_url}/tickle")


# --- What is given, and what is shown ------------------------------------------------------------


def test_other_things_than_sessions_are_refused() -> None:
    for adapter in (IBKRAuth, IBKRAdapter):
        for wrong in (None, object(), AsyncSession(cookie="c")):
            with pytest.raises(TypeError, match=r"needs an ibkr_oauth\.Session, not"):
                adapter(wrong)  # type: ignore[arg-type]


def test_nothing_secret_is_shown(
    client: requests.Session, ibkr: Session, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.post(f"{ibkr.base_url}/tickle")
        sandbox.expire_token()
        client.post(f"{ibkr.base_url}/tickle")
    shown = caplog.text + repr(client.auth) + repr(client.adapters)
    assert "oauth_signature" not in shown
    assert ibkr.access_token is not None
    assert ibkr.access_token.token not in shown
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(IBKRAdapter(ibkr))
