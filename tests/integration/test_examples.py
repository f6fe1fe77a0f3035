"""Every example runs as its reader would run it: a program of its own, with its settings in the environment."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ibkr_oauth.sandbox import Sandbox

from .conftest import CONSUMER_KEY

#: These have tests of their own.
ELSEWHERE = ("adapters_", "web_socket")

AAPL = "265598"
ORDERS = "/iserver/account/DU7028233/orders"
ORDER = ("BUY", "1", AAPL, "--limit", "100.00")


def settings_for(sandbox: Sandbox, pem: dict[str, str], keys: Path) -> dict[str, str]:
    """The variables of a first party, whose keys are put into that folder."""
    for name, key in (("private_signature", "signing"), ("private_encryption", "encryption"), ("dhparam", "dh_params")):
        (keys / f"{name}.pem").write_text(pem[key])
        (keys / f"{name}.pem").chmod(0o600)
    access_token, secret = sandbox.grant(CONSUMER_KEY)
    return {
        "IBKR_OAUTH_KEYS_DIR": str(keys),
        "IBKR_OAUTH_CONSUMER_KEY": CONSUMER_KEY,
        "IBKR_OAUTH_ACCESS_TOKEN": access_token,
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": secret,
        "IBKR_OAUTH_BASE_URL": sandbox.base_url,
        "IBKR_OAUTH_CA_FILE": str(sandbox.ca_file),
    }


class Program:
    """A running example. `output`: what it wrote so far, errors included."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        while text not in self.output:
            line = self.process.stdout.readline()
            assert line, f"ended without {text!r}:\n{self.output}"
            self.output += line

    def wait_for_end(self, status: int = 0) -> None:
        rest, _ = self.process.communicate()
        self.output += rest
        assert self.process.returncode == status, self.output


class Examples:
    """Starts the examples with a folder of keys and these variables."""

    def __init__(self, project: Path, settings: dict[str, str]) -> None:
        self._project = project
        others = {name: value for name, value in os.environ.items() if not name.startswith(("IBKR_", "IBIND_"))}
        self.environment = others | settings | {"PYTHONPATH": str(project), "PYTHONUNBUFFERED": "1"}

    @contextmanager
    def started(self, name: str, *arguments: str) -> Iterator[Program]:
        with subprocess.Popen(
            [sys.executable, "-W", "error", f"examples/{name}.py", *arguments],
            cwd=self._project,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            watch = threading.Timer(30, process.kill)  # one that hangs is ended, so that reading it comes to an end
            watch.start()
            try:
                yield Program(process)
            finally:
                watch.cancel()
                process.kill()

    def run(self, name: str, *arguments: str, status: int = 0) -> str:
        with self.started(name, *arguments) as program:
            program.wait_for_end(status)
        return program.output


@pytest.fixture
def examples(project: Path, sandbox: Sandbox, pem: dict[str, str], tmp_path: Path) -> Examples:
    return Examples(project, settings_for(sandbox, pem, tmp_path))


def count(sandbox: Sandbox, path: str) -> int:
    return sandbox.counts.get(f"/v1/api{path}", 0)


def test_every_example_is_run(project: Path) -> None:
    """And listed in the README beside them."""
    own = Path(__file__).read_text("utf-8")
    listed = (project / "examples/README.md").read_text("utf-8")
    for path in sorted((project / "examples").glob("*.py")):
        assert f"`{path.name}`" in listed
        if not path.name.startswith(ELSEWHERE):
            assert re.search(rf'\b(run|started)\("{path.stem}"', own), path.name


def test_positions(examples: Examples, sandbox: Sandbox) -> None:
    output = examples.run("positions")
    assert re.search(r"AAPL +120 +27,302.40 USD", output)
    assert output.count("USD") == 3
    assert count(sandbox, "/iserver/auth/ssodh/init") == 0


def test_snapshot(examples: Examples, sandbox: Sandbox) -> None:
    output = examples.run("snapshot", "AAPL", "ibm", "NOSUCH")
    assert "NOSUCH: no such contract" in output
    assert "AAPL last 227.52 bid 227.51 ask 227.54" in output
    assert "IBM last" in output
    # Refused for want of priming, which the session does; then one that only starts the flow; then one with data.
    assert count(sandbox, "/iserver/marketdata/snapshot") == 3
    assert count(sandbox, "/logout") == 1


def test_place_order(examples: Examples, sandbox: Sandbox) -> None:
    output = examples.run("place_order", *ORDER)
    (order,) = sandbox.orders
    assert output == f"placed as {order.order_id}, our number {order.coid}\n"


def test_place_order_whose_answer_is_lost(examples: Examples, sandbox: Sandbox) -> None:
    sandbox.drop_connection(path=ORDERS)
    output = examples.run("place_order", *ORDER)
    (order,) = sandbox.orders
    assert "looking for the order" in output
    assert f"placed as {order.order_id}, our number {order.coid}" in output


def test_place_order_that_never_arrived(examples: Examples, sandbox: Sandbox) -> None:
    """It says that nobody knows, and sends nothing again."""
    sandbox.drop_connection(path=ORDERS, before_processing=True)
    output = examples.run("place_order", *ORDER, "--looks", "1", status=1)
    assert "OutcomeUnknown" in output
    assert sandbox.orders == ()
    assert count(sandbox, ORDERS) == 1


def test_place_order_with_questions(examples: Examples, sandbox: Sandbox) -> None:
    question = '[{"id":"5a1b","message":["The price is far from the market. Sure?"],"isSuppressed":false}]'
    taken = '[{"order_id":"77","order_status":"Submitted","encrypt_message":"1"}]'
    sandbox.fail_next(200, 2, question, "application/json", path=ORDERS)
    assert "Sure?\nnot placed" in examples.run("place_order", *ORDER)
    assert count(sandbox, "/iserver/reply/5a1b") == 0
    sandbox.fail_next(200, 1, taken, "application/json", path="/iserver/reply/5a1b")
    assert "placed as 77" in examples.run("place_order", *ORDER, "--yes")


def test_week(examples: Examples, sandbox: Sandbox) -> None:
    """A bad week in a second: maintenance, a reset, an expired token. Then SIGTERM."""
    with examples.started("week", "--every", "0.05") as program:
        program.wait_for("1 account(s)")
        sandbox.maintenance()
        program.wait_for("maintenance: ")
        sandbox.maintenance(False)
        program.wait_for("event: brokerage_lost")
        program.wait_for("event: brokerage_opened")
        sandbox.expire_token()
        program.wait_for("event: renewed")
        program.process.send_signal(signal.SIGTERM)
        program.wait_for_end()
    assert "event: closed" in program.output
    assert program.output.endswith("ended\n")
    assert "Traceback" not in program.output
    assert count(sandbox, "/logout") == 1


def test_threads(examples: Examples) -> None:
    assert examples.run("threads") == "DU7028233: net liquidation 69,750.40 USD, cash 25,000.00\n"


def test_many_quotes(examples: Examples) -> None:
    unknown = [f"X{number}" for number in range(61)]
    output = examples.run("many_quotes", "--per-second", "1000", "AAPL", "ibm", "SPY", *unknown)
    assert "AAPL   227.52\nIBM    221.04\nSPY    573.76\n3 of 64 symbols" in output


def test_third_party(examples: Examples, sandbox: Sandbox) -> None:
    for name in ("ACCESS_TOKEN", "ACCESS_TOKEN_SECRET"):
        del examples.environment[f"IBKR_OAUTH_{name}"]
    with examples.started("third_party") as program:
        program.wait_for("oauth_token=")
        token = program.output.split("oauth_token=")[1].strip()
        assert program.process.stdin is not None
        verifier = sandbox.consent(token)
        program.process.stdin.write(f"http://localhost:20000/?oauth_token={token}&oauth_verifier={verifier}\n")
        program.wait_for_end()
    assert "secret of 344 characters" in program.output
    assert "may now act for DU7028233" in program.output


def test_competing_raise(examples: Examples, sandbox: Sandbox) -> None:
    sandbox.compete_from("TWS")
    assert "Use a second user name" in examples.run("competing", "raise")
    assert sandbox.brokerage_holder() == "TWS"


def test_competing_yield(examples: Examples, sandbox: Sandbox) -> None:
    sandbox.compete_from("TWS")
    with examples.started("competing", "yield", "--look-every", "0.1") as program:
        program.wait_for("waiting until the other login has left")
        assert sandbox.brokerage_holder() == "TWS"
        sandbox.stop_competing()
        program.wait_for_end()
    assert "trading as DU7028233" in program.output


def test_competing_take(examples: Examples, sandbox: Sandbox) -> None:
    sandbox.compete_from("TWS")
    assert "trading as DU7028233" in examples.run("competing", "take")
    assert sandbox.brokerage_holder() is None  # taken, used, and logged out


def test_own_http_client(examples: Examples) -> None:
    output = examples.run("own_http_client")
    assert "live session token until 20" in output
    assert output.endswith("DU7028233\n")
