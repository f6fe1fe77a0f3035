"""Each mistake of the table, made for real: doctor names its true cause and the right next step, and shows no secret."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from doctor import mistakes
from doctor.conftest import NewCase
from doctor.mistakes import MISTAKES, PASSWORD, Case, Mistake

from ibkr_oauth import PrivateKey, _core, config, doctor, errors
from ibkr_oauth.clock import Clock
from ibkr_oauth.doctor import offline
from ibkr_oauth.errors import ConfigurationError


class Impatient(Clock):
    """Waits for nothing."""

    def sleep(self, seconds: float, closing: object) -> None:
        del seconds, closing


def register(case: Case) -> None:
    """What the portal has, what it gives, and what happens afterwards."""
    case.sandbox.register(case.consumer_key, *case.portal, realm=case.realm, active=case.active)
    token, secret = case.token or case.sandbox.grant(case.consumer_key, case.username)
    case.environment.setdefault("IBKR_OAUTH_CONSUMER_KEY", case.consumer_key)
    case.environment.setdefault("IBKR_OAUTH_ACCESS_TOKEN", token)
    case.environment.setdefault("IBKR_OAUTH_ACCESS_TOKEN_SECRET", secret)
    for act in case.later:
        act()


def diagnose(case: Case, *, offline: bool = False) -> doctor.Report:
    try:
        settings = config.load(environment=case.environment)
    except ConfigurationError as error:
        return doctor.unreadable(error)
    return doctor.diagnose(settings, offline=offline, timeout=case.timeout, clock=Impatient())


def pattern(text: str) -> str:
    """In which … stands for anything: paths, times, fingerprints."""
    return ".+".join(re.escape(part) for part in text.split("…"))


def secrets(case: Case) -> list[str]:
    """Pieces of all that must not be seen."""
    texts = [case.pem["signing"], case.pem["encryption"], case.environment.get("IBKR_OAUTH_ACCESS_TOKEN_SECRET", "")]
    texts += [path.read_text("latin-1") for path in case.folder.glob("private*")]
    pieces = [line for text in texts for line in re.findall(r"[A-Za-z0-9+/=]{40,64}", text)]
    for path in Path(case.environment.get("XDG_STATE_HOME", "/nowhere")).rglob("*.json"):
        pieces += [json.loads(path.read_text())["live_session_token"]]
    given = case.environment.get("IBKR_OAUTH_ACCESS_TOKEN_SECRET", "")
    try:
        pieces.append(PrivateKey.load(case.pem["encryption"]).decrypt(given).reveal().hex())
    except Exception:  # noqa: BLE001 - a spoilt secret has no plain text
        pieces.append("ab" * 32)
    return [*pieces, PASSWORD]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[re.sub(r"\W+", "-", one.did) for one in MISTAKES])
def test_doctor_names_the_cause_and_the_next_step(mistake: Mistake, new_case: NewCase) -> None:
    case = new_case()
    mistake.spoil(case)
    register(case)
    report = diagnose(case, offline=mistake.offline)
    said = json.dumps(report.as_document(), ensure_ascii=False, indent=1)
    assert report.cause == mistake.cause, said
    assert re.fullmatch(pattern(mistake.verdict), report.verdict), said
    assert re.fullmatch(pattern(mistake.step), report.next_step), said
    assert report.next_step.endswith((".", "?"))
    assert [piece for piece in secrets(case) if piece in said or piece in repr(report)] == []
    assert case.sandbox.brokerage_holder(case.username) in (None, "TWS")


def test_a_set_up_that_works_is_found_good(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    report = diagnose(case)
    assert [one for one in report.findings if one.state != "good"] == []
    assert (report.good, report.cause, report.verdict) == (True, None, "Everything works.")
    assert case.sandbox.brokerage_holder(case.username) is None
    assert [piece for piece in secrets(case) if piece in repr(report)] == []


STATUS, LST, INIT = "/iserver/auth/status", "/oauth/live_session_token", "/iserver/auth/ssodh/init"
AUTHENTICATED = '{"authenticated":true,"competing":false,"connected":true}'
COMPETING = '{"authenticated":false,"competing":true,"connected":true}'
REFUSED = '{"error":"id: 1, error: error 23804 Error validating signature","statusCode":401}'


def first_ask(case: Case) -> None:
    """The answer that the unsigned request gets anyway, so that what is armed next waits for a signed one."""
    case.fail(401, STATUS)


def find_brokerage_open(case: Case) -> None:
    """What is armed next waits for the queries."""
    first_ask(case)
    case.fail(200, STATUS, body=AUTHENTICATED)


def lost_after_the_status(case: Case) -> None:
    def alter(body: dict[str, object]) -> dict[str, object]:
        case.sandbox.drop_connection(path=STATUS)
        return {**body, "authenticated": True}

    case.later.append(lambda: case.sandbox.tamper_next(STATUS, alter, 1))


def other_signing_key(case: Case, bits: int = 2048) -> None:
    case.portal[0] = mistakes._public(mistakes.other_key(bits))


def long_signing_key(case: Case) -> None:
    other_signing_key(case, 3072)
    case.write("private_signature.pem", mistakes._private(mistakes.other_key(3072)))


def no_date(case: Case) -> None:
    mistakes._stand_in(case).answering(lambda peer: peer.answer(b"{}", "401 Unauthorized"))


def proxy_of_the_environment(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        case.set("BASE_URL", f"https://127.0.0.1:{free.getsockname()[1]}/v1/api")
    case.environment["HTTPS_PROXY"] = "http://proxy.example:3128"


#: What is too rare for the page of mistakes: what was done, the step that it shows at, how, and words of what is said.
RARE: dict[str, tuple[Callable[[Case], object], str, str, str | None, str]] = {
    "a consumer key with odd characters": (
        lambda c: c.set("CONSUMER_KEY", "CASE/AKEY"),
        *("consumer_key", "bad", "consumer-key-characters", "characters that none has"),
    ),
    "an access token that is cut": (
        lambda c: c.change("ACCESS_TOKEN", lambda text: text[:-1]),
        *("access_token", "warning", "access-token-shape", "has 19 characters; those seen so far have 20"),
    ),
    "a secret in the base64 of addresses": (
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda text: "-_" + text[2:].translate({43: 45, 47: 95})),
        *("access_token_secret", "bad", "secret-url-base64", "base64 with - and _"),
    ),
    "a secret of the right length, and of more bytes": (
        lambda c: c.change("ACCESS_TOKEN_SECRET", lambda text: text.rstrip("=") + "AA"),
        *("key_roles", "bad", "secret-truncated", "258 bytes"),
    ),
    "a signing key of another size": (
        long_signing_key,
        *("key_roles", "good", None, "decrypts with the encryption key"),
    ),
    "a proxy that only the environment names": (
        proxy_of_the_environment,
        *("tcp", "bad", "connection-refused", "connection refused"),
    ),
    "a refusal before anything is signed": (
        lambda c: c.fail(403, STATUS, body='{"error":"forbidden"}'),
        *("service", "good", None, "answers (403)"),
    ),
    "an answer without a date": (no_date, "clock", "warning", "no-date", "its answer has no Date"),
    "half of an exchange that cannot be": (
        lambda c: c.sandbox.tamper_next(LST, lambda body: {**body, "diffie_hellman_response": "0"}, 1),
        *("live_session_token", "bad", "dh-parameters-differ", "the service's half of the exchange does not fit"),
    ),
    "a refusal of our half of the exchange": (
        lambda c: c.fail(400, LST, body='{"error":"diffie_hellman_challenge is out of range"}'),
        *("live_session_token", "bad", "dh-parameters-differ", "the service refuses our half of the exchange"),
    ),
    "an answer to the exchange that holds nothing": (
        lambda c: c.fail(200, LST, body="{}"),
        *("live_session_token", "bad", "live-session-token", "diffie_hellman_response"),
    ),
    "a signed call that is answered by a page": (
        lambda c: c.fail(200, "/portfolio/accounts", body="<p>Hello", html=True),
        *("portfolio", "bad", "server", "not JSON (text/html, 8 bytes)"),
    ),
    "a refused signature, and then no answer": (
        lambda c: (
            other_signing_key(c),
            c.later.append(lambda: c.sandbox.drop_connection(path="/oauth/request_token")),
        ),
        *("live_session_token", "bad", "signature-rejected", "signature"),
    ),
    "a refused signature, and then a fault": (
        lambda c: (other_signing_key(c), c.fail(500, "/oauth/request_token")),
        *("live_session_token", "bad", "signature-rejected", "signature"),
    ),
    "no word about the brokerage session": (
        lambda c: (first_ask(c), c.fail(500, STATUS)),
        *("brokerage", "bad", "server", "refused with status 500"),
    ),
    "another login that comes in between": (
        lambda c: c.fail(200, INIT, body=COMPETING),
        *("competing", "bad", "competing-login", "another login of the user name"),
    ),
    "a brokerage session that is said not to be authenticated": (
        lambda c: c.fail(200, INIT, body='{"authenticated":false,"competing":false,"connected":true}'),
        *("brokerage", "bad", "brokerage-refused", "OAuth works, and the brokerage session does not: "),
    ),
    "no answer to a query": (
        lost_after_the_status,
        *("query_signing", "skipped", None, "no answer: connection lost"),
    ),
    "a fault at a query": (
        lambda c: (find_brokerage_open(c), c.fail(500, STATUS)),
        *("query_signing", "skipped", None, "answers with status 500"),
    ),
    "no rule for queries that is accepted": (
        lambda c: (find_brokerage_open(c), c.fail(401, STATUS, times=4, body=REFUSED)),
        *("query_signing", "warning", "query-signing", "accepts none of the rules"),
    ),
}


@pytest.mark.parametrize("what", RARE)
def test_rare_findings(what: str, new_case: NewCase) -> None:
    spoil, step, state, cause, words = RARE[what]
    case = new_case()
    spoil(case)
    register(case)
    report = diagnose(case)
    said = json.dumps(report.as_document(), ensure_ascii=False, indent=1)
    (found,) = (one for one in report.findings if one.id == step)
    assert (found.state, found.cause) == (state, cause), said
    assert words in found.detail, said
    assert bool(found.advice) is (state in ("bad", "warning"))
    assert [piece for piece in secrets(case) if piece in said] == []


def test_a_proxy_that_only_the_environment_names_is_named_in_the_advice(new_case: NewCase) -> None:
    case = new_case()
    proxy_of_the_environment(case)
    register(case)
    assert "set IBKR_OAUTH_PROXY to that address" in diagnose(case).next_step


def test_a_published_key_is_nobodys_own(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = new_case()
    register(case)
    key = PrivateKey.load(case.pem["signing"])
    monkeypatch.setitem(offline._TESTCONS_KEYS, "signing_key", key.fingerprint)
    report = diagnose(case, offline=True)
    assert report.cause == "published-key"
    assert "which everybody has" in report.verdict


def test_a_system_without_authorities(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = new_case()
    register(case)
    del case.environment["IBKR_OAUTH_CA_FILE"]

    def find_ca() -> tuple[str, str]:
        words = "no file of certificate authorities on this system"
        raise errors.from_core("ca_missing", words, "ibk_http_find_ca", "none", 0, False)

    monkeypatch.setattr(_core, "find_ca", find_ca)
    report = diagnose(case, offline=True)
    assert report.cause == "ca-missing"
    assert "ca-certificates" in report.next_step


def test_what_follows_a_failed_step_is_skipped_and_says_why(new_case: NewCase) -> None:
    case = new_case()
    case.active = False
    register(case)
    states = {one.id: (one.state, one.detail) for one in diagnose(case).findings}
    assert states["clock"][0] == "good"
    assert states["live_session_token"][0] == "bad"
    for step in ("token_signature", "portfolio", "brokerage", "competing", "query_signing"):
        assert states[step] == ("skipped", "not tried: Live session token comes first")


def test_the_network_is_looked_at_while_a_key_is_wrong(new_case: NewCase) -> None:
    case = new_case()
    case.write("private_signature.pem", "")
    register(case)
    report = diagnose(case)
    states = {one.id: one.state for one in report.findings}
    assert states["signing_key"] == "bad"
    assert states["service"] == states["tls"] == "good"
    assert states["live_session_token"] == "skipped"


def test_a_brokerage_session_of_another_program_stays_open(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    settings = config.load(environment=case.environment)
    from ibkr_oauth import Session

    with Session(settings.consumer(), settings.access_token(), keep_alive=None, **settings.options()) as other:
        other.brokerage.open()
        report = diagnose(case)
        assert report.good
        assert "left as it is" in next(one.detail for one in report.findings if one.id == "brokerage")
        assert case.sandbox.brokerage_holder(case.username) is not None


def lock_keyring(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is said to be in the system's keyring, which fails."""
    del case.environment["IBKR_OAUTH_ACCESS_TOKEN_SECRET"]
    path = case.folder / "config.toml"
    path.write_text("default_profile = 'paper'\n[profile.paper]\nkeyring = true\n")
    path.chmod(0o600)
    case.set("CONFIG", str(path))

    def fail(account: str) -> str:
        raise ConfigurationError(f"the system's keyring failed for {account}", advice="Unlock it.")

    monkeypatch.setattr(config, "_from_keyring", fail)


def test_a_keyring_that_fails_is_a_finding(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = new_case()
    register(case)
    lock_keyring(case, monkeypatch)
    report = diagnose(case)
    assert (report.cause, report.next_step) == ("keyring", "Unlock it.")


def test_nobody_is_thrown_out(new_case: NewCase) -> None:
    case = new_case()
    register(case)
    case.sandbox.compete_from("TWS", case.username)
    assert diagnose(case).cause == "competing-login"
    assert case.sandbox.brokerage_holder(case.username) == "TWS"


def test_the_table_is_large_and_without_repetition() -> None:
    assert len(MISTAKES) >= 40
    assert len({one.cause for one in MISTAKES}) >= 40
    assert [did for did, times in Counter(one.did for one in MISTAKES).items() if times > 1] == []


def test_the_page_is_made_of_this_table(project: Path) -> None:
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import runpy, sys; sys.stdout.buffer.write(runpy.run_path({str(project / 'docs' / 'generate.py')!r})['mistakes_page']().encode())",
        ],
        check=True,
        capture_output=True,
        cwd=project,
    )
    assert (project / "docs" / "mistakes.md").read_text("utf-8") == made.stdout.decode()
