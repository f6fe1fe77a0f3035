"""A sandbox for all cases, and set-ups that work until a case spoils them."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doctor.mistakes import Case

from ibkr_oauth.sandbox import Sandbox

NewCase = Callable[[], Case]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    """Each case has a consumer and a user name of its own in it."""
    with Sandbox(tls=True) as running:
        yield running


@pytest.fixture
def new_case(
    shared_sandbox: Sandbox, pem: dict[str, str], vectors: dict[str, Any], tmp_path: Path
) -> Iterator[NewCase]:
    """Makes a set-up that is right in every point; what a case did to the sandbox is undone afterwards."""
    made: list[Case] = []

    def new_case() -> Case:
        texts = pem | {"other_dh": vectors["dh_groups"]["modp2048"]["pem"]}
        folder = tmp_path / "keys"
        folder.mkdir()
        case = Case(
            shared_sandbox,
            folder,
            texts,
            _consumer_key(),
            {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")},
            [pem["signing_public"], pem["encryption_public"], pem["dh_params"]],
        )
        case.write("private_signature.pem", pem["signing"])
        case.write("private_encryption.pem", pem["encryption"])
        case.write("dhparam.pem", pem["dh_params"])
        case.set("KEYS_DIR", str(folder))
        case.set("BASE_URL", shared_sandbox.base_url)
        case.set("CA_FILE", str(shared_sandbox.ca_file))
        made.append(case)
        return case

    yield new_case
    for case in made:
        for undo in case.undo:
            undo()


def _consumer_key() -> str:
    number = next(_numbers)
    letters = string.ascii_uppercase
    return f"CASE{letters[number // 26 % 26]}{letters[number % 26]}KEY"
