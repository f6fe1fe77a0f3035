"""Each mistake of the table, made for real: doctor names its true cause and the right next step, and shows no secret."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from doctor.conftest import NewCase
from doctor.mistakes import MISTAKES, PASSWORD, Case, Mistake

from ibkr_oauth import PrivateKey, config, doctor
from ibkr_oauth.clock import Clock
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


def test_a_keyring_that_fails_is_a_finding(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    case = new_case()
    register(case)
    del case.environment["IBKR_OAUTH_ACCESS_TOKEN_SECRET"]
    path = case.folder / "config.toml"
    path.write_text("default_profile = 'paper'\n[profile.paper]\nkeyring = true\n")
    path.chmod(0o600)
    case.set("CONFIG", str(path))

    def fail(account: str) -> str:
        raise ConfigurationError(f"the system's keyring failed for {account}", advice="Unlock it.")

    monkeypatch.setattr(config, "_from_keyring", fail)
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
