"""All figures of one run in one file: `machine` says where they were measured, `turns` is by contest and contestant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .table import Results


def write(path: Path, machine: dict[str, Any], results: Results) -> None:
    """A line for each contestant, so that two runs can be compared; four digits are more than a turn can repeat."""
    contests = [
        ",\n".join(
            f"  {json.dumps(who)}: {json.dumps([float(f'{figure:.4g}') for figure in figures])}"
            for who, figures in contestants.items()
        )
        for contestants in results.turns.values()
    ]
    turns = ",\n".join(
        f" {json.dumps(name)}: {{\n{lines}\n }}" for name, lines in zip(results.turns, contests, strict=True)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"machine": {json.dumps(machine, indent=1)},\n"turns": {{\n{turns}\n}}}}\n', encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], Results]:
    run = json.loads(path.read_text("utf-8"))
    return run["machine"], Results(run["turns"])
