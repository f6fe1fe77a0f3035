"""The example notebooks run from top to bottom, show what they promise and no secret; and the kernel stays in its user's hands."""

import base64
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client import BlockingKernelClient, KernelManager
from nbclient import NotebookClient

from ibkr_oauth import config
from ibkr_oauth.sandbox import Sandbox

from .test_examples import settings_for

NOTEBOOKS = Path(__file__).parents[2] / "examples/notebooks"

#: The cells that show one of our objects, and words of what they show.
SHOWN = {
    "first_party": {
        "account": "Access token",
        "session": "none yet",
        "accounts": "DU7028233",
        "brokerage": "brokerage (orders and market data)",
        "expiry": "cashbalance",
        "health": "brokerage (orders",
        "end": "closed",
    },
    "third_party": {
        "start": "Log in and grant access",
        "finish": "Access token",
        "paste-start": "with the address that the browser ends at",
        "paste-finish": "Access token",
    },
    "many_quotes": {"session": "DU7028233", "together": "227.52", "end": "closed"},
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kernels keep their files; nothing of the user who runs the tests is read."""
    for name in list(os.environ):
        if name.startswith(("IBKR_", "IBIND_", "JUPYTER", "IPYTHON", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parents[1]))
    return tmp_path


# --- The examples --------------------------------------------------------------------------------

#: Before the first cell, and after the last one: what was secret, however short it lived.
_NOTE_SECRETS = """
from ibkr_oauth import tokens

secrets_seen = []


def note(made, secret, *rest):
    init(made, secret, *rest)
    secrets_seen.append(made.reveal())


init, tokens.LiveSessionToken._init = tokens.LiveSessionToken._init, note
"""
_TELL_SECRETS = """
import json

keys = [key.private_pem().reveal().decode() for key in (consumer.signing_key, consumer.encryption_key)]
plain = consumer.decrypt_secret(access_token).reveal().hex()
cookies = [one.session for one in sandbox._state.access_tokens.values()]
print(json.dumps([*secrets_seen, access_token.secret, plain, *cookies, *(line for pem in keys for line in pem.splitlines()[1:-1])]))
"""


def execute(name: str, home: Path) -> tuple[Any, list[str]]:
    """The executed notebook, and the secrets that it had to keep."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("127.0.0.1:20000", f"127.0.0.1:{free_port()}")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_NOTE_SECRETS))
    notebook.cells.append(nbformat.v4.new_code_cell(_TELL_SECRETS))
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(home)}}).execute()
    told = notebook.cells.pop().outputs[0].text
    notebook.cells.pop(0)
    return notebook, json.loads(told)


@pytest.mark.parametrize("name", SHOWN)
def test_notebook(name: str, home: Path) -> None:
    notebook, secrets = execute(name, home)
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    for cell, found in outputs.items():
        assert [one for one in found if one.output_type == "error" or one.get("name") == "stderr"] == [], cell
    for cell, words in SHOWN[name].items():
        shown = [one.data["text/html"] for one in outputs[cell] if one.output_type == "execute_result"]
        assert len(shown) == 1
        assert words in shown[0]

    written = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert len(secrets) > 50  # lines of keys, most of them
    for secret in secrets:
        assert secret not in written
    live_session_token = base64.b64decode(secrets[0])
    assert live_session_token.hex() not in written

    said = {cell: "".join(one.get("text", "") for one in found) for cell, found in outputs.items()}
    if name == "first_party":
        assert "27,302.40 USD" in outputs["positions"][0].data["text/markdown"]
        assert "renewed" in said["events"]
        assert "Make a session without it" in said["read-only"]
    elif name == "third_party":
        assert "may now act for DU7028233" in said["session"]
    else:
        took = re.match(r"21 answers in ([\d.]+) s", said["together"])
        assert took is not None
        assert float(took[1]) < 21 * 0.2 - 1
        assert said["plain"] == "True 200\n"


def test_every_notebook_is_run_and_kept_without_outputs(project: Path) -> None:
    """Outputs would differ with each run, and tell of the machine that they were made on."""
    listed = (project / "examples/README.md").read_text("utf-8")
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert path.stem in SHOWN
        assert f"`notebooks/{path.name}`" in listed
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert cell.get("outputs", []) == []
            assert cell.get("execution_count") is None


@pytest.mark.parametrize("name", SHOWN)
def test_what_takes_the_place_of_the_sandbox(
    name: str, home: Path, sandbox: Sandbox, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines for one's own account, with a profile as `ibkr-oauth init` keeps it."""
    for variable, value in settings_for(sandbox, pem, home).items():
        monkeypatch.setenv(variable, value)
    found = {setting: config.from_env().get(setting) for setting in config.NAMES}
    config.save_profile("paper", {setting: value.text for setting, value in found.items() if value is not None})
    for variable in list(os.environ):
        if variable.startswith("IBKR_"):
            monkeypatch.delenv(variable)
    title = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[0].source
    names: dict[str, Any] = {}
    exec(title.partition("```python\n")[2].partition("```")[0], names)
    reached = names["reach"] if name == "third_party" else {"base_url": names["ibkr"].base_url}
    assert reached["base_url"] == sandbox.base_url


# --- A kernel in its user's hands ----------------------------------------------------------------


class Kernel:
    """A running kernel. `run` is a cell, from its start to its end."""

    def __init__(self) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel()
        self._connect()

    def _connect(self) -> None:
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        return int(self.run("import os; print(os.getpid())"))

    def start(self, code: str) -> str:
        return self.client.execute(code)

    def finish(self, cell: str, timeout: float = 30) -> str:
        """What it printed; fails with its traceback."""
        said = ""
        while True:
            message = self.client.get_iopub_msg(timeout=timeout)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                said += content["text"]
            elif message["msg_type"] == "error":
                raise AssertionError("\n".join(content["traceback"]))
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return said

    def run(self, code: str) -> str:
        return self.finish(self.start(code))

    def restart(self) -> None:
        """As the button does, but that nobody loses patience: the kernel has to end by itself."""
        self.client.shutdown(restart=True)
        began = time.monotonic()
        while self.manager.is_alive():
            assert time.monotonic() < began + 30, "the kernel does not end"
            time.sleep(0.01)
        print(f"ended by itself within {time.monotonic() - began:.2f} s")
        self.client.stop_channels()
        self.manager.restart_kernel()
        self._connect()

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(home: Path, sandbox: Sandbox, pem: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    for name, value in settings_for(sandbox, pem, home).items():
        monkeypatch.setenv(name, value)
    running = Kernel()
    try:
        yield running
    finally:
        running.stop()


_INTERRUPTED = """
import time
try:
    {statement}
except KeyboardInterrupt:
    print(time.monotonic())
"""

_AT_ONCE = 0.3  # seconds, on a machine that is busy
LEDGER = "/portfolio/DU7028233/ledger"


def test_a_cell_that_waits_is_interrupted_and_run_again(kernel: Kernel, sandbox: Sandbox) -> None:
    port = free_port()
    kernel.run("from ibkr_oauth import Session, config, login\nsettings = config.from_env()\nibkr = Session.from_env()")
    start = f"started = login.start(settings.consumer(), 'http://127.0.0.1:{port}/', **settings.options())"
    stalls = {
        "started.finish()": lambda: time.sleep(0.2),
        f"ibkr.get('{LEDGER}')": lambda: sandbox.wait_until(lambda: sandbox.counts.get(f"/v1/api{LEDGER}")),
    }
    kernel.run(start)
    kernel.run(start)  # the same port: the former login is given up
    sandbox.delay(100, path=LEDGER)
    for statement, wait in stalls.items():
        cell = kernel.start(_INTERRUPTED.format(statement=statement))
        wait()
        interrupted = time.monotonic()
        kernel.manager.interrupt_kernel()
        took = float(kernel.finish(cell)) - interrupted
        print(f"{statement}: interrupted within {took * 1000:.0f} ms")
        assert took < _AT_ONCE
    assert kernel.run(f"print(ibkr.get('{LEDGER}').status_code)") == "200\n"
    token = kernel.run("print(started.authorization_url.partition('oauth_token=')[2])").strip()
    callback = f"http://127.0.0.1:{port}/?oauth_token={token}&oauth_verifier={sandbox.consent(token)}"
    kernel.run(f"from urllib.request import urlopen; urlopen({callback!r}).close()")
    assert kernel.run("print(bool(started.finish()))") == "True\n"


def test_a_kernel_that_is_restarted_leaves_nothing_behind(kernel: Kernel) -> None:
    """With a session that is kept alive and a login that waits; neither keeps the kernel from ending by itself."""
    port = free_port()
    begin = f"""
from ibkr_oauth import Session, config, login
settings = config.from_env()
ibkr = Session.from_env(keep_alive=1)
started = login.start(settings.consumer(), "http://127.0.0.1:{port}/", **settings.options())
print(ibkr.get("/portfolio/accounts").status_code, ibkr.health().keep_alive)
"""
    assert kernel.run(begin) == "200 True\n"
    former = kernel.pid
    kernel.restart()
    with pytest.raises(ProcessLookupError):
        os.kill(former, 0)
    assert kernel.run(begin) == "200 True\n"
