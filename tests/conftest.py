"""What every test may use."""

import importlib.util
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

try:
    from hypothesis import settings
except ModuleNotFoundError:  # in the environments of tests/watched, where tests/binding alone is run
    pass
else:
    # The same examples every time, so that `make test` says the same twice. `--hypothesis-profile=long` looks for new ones.
    settings.register_profile("short", derandomize=True, database=None, deadline=None, max_examples=25)
    settings.register_profile("long", deadline=None, max_examples=500)
    settings.load_profile("short")

# A shell without job control starts what runs in the background with Ctrl-C ignored, and so would every program that the tests
# start; several of them are about Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project() -> Path:
    """The top folder of the project."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def script(project: Path) -> Callable[[str], ModuleType]:
    """Loads a Python file of the project that belongs to no package: its path, from the top."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.removesuffix(".py").replace("/", "_"), project / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look there
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    """Known answers: keys, groups, tokens, requests, and IBKR's published signatures. None of them comes from this project."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("vectors").joinpath("vectors.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="session")
def pem(vectors: dict[str, Any]) -> dict[str, str]:
    """The PEM texts of one consumer."""
    keys = vectors["keys"]
    return {
        "signing": keys["signature"]["private_pkcs8_pem"],
        "signing_public": keys["signature"]["public_spki_pem"],
        "encryption": keys["encryption"]["private_pkcs8_pem"],
        "encryption_public": keys["encryption"]["public_spki_pem"],
        "dh_params": vectors["dh_groups"]["ffdhe2048"]["pem"],
    }
