"""How Sphinx builds these pages: `make docs`. Every warning is an error, and nothing is fetched from the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_oauth._version import VERSION

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ibkr_oauth"
author = "the ibkr_oauth authors"
project_copyright = "the ibkr_oauth authors"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.strikethrough"]

# Pages are Markdown that reads well without Sphinx: links to headings are spelt as everywhere else.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

# Docstrings are written for `help()`, with Markdown's single back quotes.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
# References to the standard library would need its index from the network; those to ourselves must resolve.
nitpick_ignore_regex = [(r"py:.*", r"(?!ibkr_oauth\.[A-Z]).*")]

html_theme = "furo"
html_title = f"ibkr_oauth {VERSION}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False


def _fences_to_blocks(_app: Sphinx, _what: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """Docstrings fence their examples as Markdown does; autodoc reads reStructuredText."""
    inside, changed = False, []
    for line in lines:
        if line.startswith("```"):
            inside = not inside
            changed += ["", ".. code-block:: python", ""] if inside else [""]
        else:
            changed.append(f"   {line}" if inside else line)
    lines[:] = changed


def setup(app: Sphinx) -> None:
    """What Sphinx calls first."""
    app.connect("autodoc-process-docstring", _fences_to_blocks)
