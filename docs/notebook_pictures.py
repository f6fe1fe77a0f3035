"""Runs the example notebooks and takes pictures of them in headless Chromium, in the light and the dark of JupyterLab.

    python docs/notebook_pictures.py            # docs/images/notebook-*.png: the cells that are tagged "picture"
    python docs/notebook_pictures.py FOLDER     # every notebook whole, in both themes, to be looked at

`make notebooks` does both. What is shown differs a little each time: keys and tokens are made anew.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

DOCS = Path(__file__).parent
NOTEBOOKS = DOCS.parent / "examples/notebooks"

#: Those of the page about notebooks: theme, and height in pixels.
PICTURES = {"first_party": ("light", 850), "third_party": ("dark", 255)}
WIDTH = 800


def execute(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        return NotebookClient(notebook, timeout=60, resources={"metadata": {"path": folder}}).execute()


def photograph(notebook: Any, theme: str, height: int, picture: Path) -> None:
    page, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "notebook.html"
        file.write_text(page, "utf-8")
        # Without the browser's own sandbox, which root cannot have, and without the network: all that is shown is ours.
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/user"]
        options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={WIDTH},{height}"]
        subprocess.run(
            ["chromium", *options, f"--screenshot={picture}", file.as_uri()], check=True, stderr=subprocess.DEVNULL
        )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            notebook = execute(path)
            for theme in ("light", "dark"):
                photograph(notebook, theme, 3000, folder / f"{path.stem}-{theme}.png")
        elif path.stem in PICTURES:
            notebook = execute(path)
            notebook.cells = [cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", [])]
            name = path.stem.replace("_", "-")
            photograph(notebook, *PICTURES[path.stem], DOCS / f"images/notebook-{name}.png")


if __name__ == "__main__":
    main()
