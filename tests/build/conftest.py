"""Running other programs, as people and makefiles do."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run(project: Path) -> Run:
    """Runs a program in the project's folder; fails with what it printed unless it was to fail."""

    def run(*command: object, fails: bool = False, cwd: Path = project, **environment: str):
        # What an outer make or virtual environment says is not meant for this program.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MAKE", "MFLAGS", "PYTHON", "IBKR_OAUTH_", "COV_"))
        }
        done = subprocess.run(
            [str(word) for word in command],
            check=False,
            cwd=cwd,
            env=inherited | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if (done.returncode != 0) != fails:
            pytest.fail(f"{' '.join(done.args)}: exit {done.returncode}\n{done.stdout}", pytrace=False)
        return done

    return run
