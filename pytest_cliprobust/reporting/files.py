"""Writes a report in the form that its name asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import replace_file
from pytest_cliprobust.reporting import json, markdown
from pytest_cliprobust.results.run import Run

#: From a run and the folder of the report to its text, by ending of the name.
FORMS: Mapping[str, Callable[[Run, Path], str]] = {
    ".json": lambda run, folder: json.text(run),
    ".md": markdown.text,
}


def write(path: Path, run: Run) -> None:
    """Write the report to ``path`` in one step.

    Raises:
        ClipRobustError: an ending that stands for no form, or a path that cannot be written.
    """
    form = FORMS.get(path.suffix)
    if form is None:
        raise ClipRobustError(f"--clip-report {path}: end the name in {' or '.join(FORMS)}")
    try:
        replace_file(path, form(run, path.parent))
    except OSError as error:
        raise ClipRobustError(
            f"--clip-report {path}: cannot be written: {error.strerror}"
        ) from None
