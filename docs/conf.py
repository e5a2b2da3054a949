"""The documentation site: ``sphinx-build -W docs build/docs`` (extra ``docs``)."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent):
    sys.path.insert(0, str(folder))

import reference  # noqa: E402

import finequery  # noqa: E402

project = "FineQuery"
author = "the FineQuery developers"
copyright = f"2026, {author}"
version = release = finequery.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"FineQuery {version}"
html_copy_source = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "class"
# Prose of docstrings is Markdown's common core: code in double backquotes, as in reStructuredText.
suppress_warnings = ["myst.header"]

#: Pages that are written from the engine's own tables and from notebooks, so that they cannot say anything else.
(HERE / "functions.md").write_text(reference.functions(), encoding="utf-8")
(HERE / "settings.md").write_text(reference.settings(), encoding="utf-8")
for page, text in reference.notebooks().items():
    (HERE / page).write_text(text, encoding="utf-8")
(HERE / "dot-commands.txt").write_text(reference.dot_commands(), encoding="utf-8")
