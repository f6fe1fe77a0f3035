"""Everything that is written while calls go well and badly, with every logger of the process at DEBUG: no secret is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.planted import Planted

#: Runs in a process of its own, so that whatever is written is ours to look at. Secrets are noted as they come into being.
PROGRAM = '''
import asyncio, json, logging, sys, traceback, urllib.parse, warnings

logging.basicConfig(level=0, filename=sys.argv[1], format="%(name)s %(levelname)s %(pathname)s %(message)s")
logging.captureWarnings(True)
warnings.simplefilter("always")
asyncio.get_event_loop_policy()

from ibkr_oauth import (
    AccessToken, AsyncSession, Consumer, DHParameters, IBKROAuthError, LiveSessionToken, OAuthClient, PrivateKey, Secret,
    Session,
)
from ibkr_oauth.cli.app import program
from ibkr_oauth.sandbox import Sandbox, crypto

secrets = {"text": set(), "bytes": set(), "pem": set()}

def note(owner, name, collect):
    real = getattr(owner, name)
    def wrapper(*arguments, **options):
        result = real(*arguments, **options)
        collect(result)
        return result
    setattr(owner, name, staticmethod(wrapper) if isinstance(owner, type) and hasattr(real, "__self__") else wrapper)

note(PrivateKey, "generate", lambda key: secrets["pem"].add(key.private_pem().reveal().decode()))
note(OAuthClient, "access_token", lambda token: secrets["text"].add(token.secret[:90]))
note(crypto, "live_session_token", lambda token: secrets["bytes"].add(token.hex()))
note(Consumer, "decrypt_secret", lambda secret: secrets["bytes"].add(secret.reveal().hex()))

try:
    program.main(["demo"], prog_name="ibkr-oauth")
except SystemExit as end:
    assert not end.code, "the demo failed"

signing, encryption, group = PrivateKey.generate(), PrivateKey.generate(), DHParameters.rfc7919()
consumer = Consumer("PLANTEDKY", signing, encryption, group)
reach = {"retries": 1, "timeout": 5, "pacing": None, "keep_alive": 0.05}
with Sandbox(tls=True, explain=True) as sandbox:
    sandbox.register("PLANTEDKY", signing.public_pem(), encryption.public_pem(), group.pem())
    token = AccessToken(*sandbox.grant("PLANTEDKY"))
    secrets["text"].add(token.secret[:90])
    reach |= {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file, "on_event": print}

    def badly(step):
        """Does something to the service, and calls; what is raised is printed as a program would."""
        step()
        for path in ("/portfolio/accounts", "/iserver/accounts", "/tickle"):
            try:
                response = ibkr.post("/tickle") if path == "/tickle" else ibkr.get(path, params={"a": "b"})
                response.raise_for_status()
            except IBKROAuthError as error:
                logging.getLogger("program").exception("it failed: %r", error)
                traceback.print_exc()
                print(error, vars(error))

    lst = "/oauth/live_session_token"
    steps = [
        lambda: None,
        lambda: sandbox.expire_token(),
        lambda: sandbox.fail_next(500, body=json.dumps({"oauth_token_secret": token.secret, "echo": token.secret})),
        lambda: sandbox.fail_next(503, times=2),
        lambda: sandbox.skew(1000),
        lambda: sandbox.compete_from("TWS"),
        lambda: sandbox.drop_connection(),
        lambda: (sandbox.expire_token(), sandbox.tamper_next(lst, lambda body: body | {"live_session_token_signature": "0" * 40})),
        lambda: (sandbox.expire_token(), sandbox.tamper_next(lst, lambda body: body | {"diffie_hellman_response": "1"})),
        lambda: sandbox.deactivate_consumer("PLANTEDKY"),
    ]
    with Session(consumer, token, **reach) as ibkr:
        for step in steps:
            badly(step)
        print(ibkr, ibkr.health())

with Sandbox(tls=True) as sandbox:
    sandbox.register("PLANTEDKY", signing.public_pem(), encryption.public_pem(), group.pem())
    token = AccessToken(*sandbox.grant("PLANTEDKY"))
    secrets["text"].add(token.secret[:90])

    async def later():
        async with AsyncSession(consumer, token, **(reach | {"base_url": sandbox.base_url, "ca_file": sandbox.ca_file})) as ibkr:
            print((await ibkr.get("/portfolio/accounts")).json())
            sandbox.fail_next(401, path="/tickle")
            try:
                (await ibkr.post("/tickle")).raise_for_status()
            except IBKROAuthError:
                logging.getLogger("program").exception("it failed")

    asyncio.run(later(), debug=True)

for bad in (lambda: consumer.signing_key.decrypt(token.secret), lambda: LiveSessionToken(token.secret)):
    try:
        bad()
    except IBKROAuthError:
        logging.getLogger("program").exception("it failed")
with open(sys.argv[2], "w") as file:
    json.dump({name: sorted(found) for name, found in secrets.items()}, file)
'''


@pytest.mark.timeout(300)
def test_nothing_that_is_written_holds_a_secret(tmp_path: Path) -> None:
    log, noted = tmp_path / "log", tmp_path / "secrets.json"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, str(log), str(noted)],
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONASYNCIODEBUG": "1"},
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    secrets = json.loads(noted.read_text())
    assert len(secrets["pem"]) >= 4
    assert len(secrets["bytes"]) >= 6
    assert len(secrets["text"]) >= 3
    planted = Planted()
    for number, text in enumerate(secrets["pem"]):
        planted.add_pem(f"key {number}", text)
    for number, digits in enumerate(secrets["bytes"]):
        planted.add(f"secret or token {number}", bytes.fromhex(digits))
    for number, text in enumerate(secrets["text"]):
        planted.add(f"access token secret {number}", text)

    written = {"log": log.read_bytes(), "output": done.stdout, "errors": done.stderr}
    for name in ("ibkr_oauth.session", "ibkr_oauth.http", "program ERROR", "asyncio"):
        assert name.encode() in written["log"], f"{name} has written nothing"
    assert b"Traceback" in written["errors"]
    others = [file for file in tmp_path.rglob("*") if file.is_file() and file not in (log, noted)]
    for name, data in [*written.items(), *((str(file), file.read_bytes()) for file in others)]:
        assert not planted.found_in(data), name


def test_libcurl_has_no_words_of_its_own(project: Path) -> None:
    """It would write the Authorization header: the switch that makes it talk occurs nowhere."""
    sources = [*(project / "csrc").rglob("*.[ch]")]
    assert len(sources) > 40
    assert not [file.name for file in sources if "CURLOPT_VERBOSE" in file.read_text("utf-8")]
