"""A thousand sessions in one process."""

from pathlib import Path

from support.proof_sandbox import SandboxProcess

_INTERVAL = 3.0  # seconds between two tickles of each; proof_programs has it


def test_thousand_sessions(pem: dict[str, str], tmp_path: Path) -> None:
    with SandboxProcess(pem, tmp_path / "keys") as sandbox:
        said, closed, _ = sandbox.run("thousand_sessions")
    print(said)
    assert said["kept"] == 1000
    assert said["engine_threads"] == 1
    assert said["threads"] == 3, "Python's own, the engine's, and the one that listens"
    assert said["bytes_each"] < 60 * 1024
    assert said["failures"] == 0
    # All are due at about the same time: `turn` is what a thousand take here, 3 to 4 seconds, and longer on a busy machine.
    behind_others = max(5, said["turn"])
    assert _INTERVAL * 0.9 < said["longest_silence"] < _INTERVAL + behind_others
    assert closed == {"after_close": 0}
