"""Settings of Sphinx for the pages that ``docs/site/build.py`` puts together; nothing is fetched, ever."""

import re
from typing import Any

from pytest_cliprobust import __version__

project = "pytest-cliprobust"
author = "The pytest-cliprobust developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "pytest-cliprobust"
html_copy_source = False
html_show_sphinx = False
#: As GitHub names them, so that a link works in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
toc_object_entries = False
#: Texts of a console and files of a person's own have no language to be highlighted by.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]

#: What in a docstring is markup: literals and roles, between backticks. All else is prose and formulas.
MARKUP = re.compile(r"(``.+?``|:[a-z:]+:`.+?`|`.+?`_?)")


def as_prose(line: str) -> str:
    """Return a line of a docstring with the characters escaped that mean something to Sphinx alone."""
    parts = MARKUP.split(line)
    parts[::2] = [re.sub(r"(?<!\\)([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Take ``|x|`` and ``5*s`` in docstrings for what they are: formulas."""
    lines[:] = map(as_prose, lines)


def setup(app: Any) -> None:
    """Look at docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", escape, priority=100)
