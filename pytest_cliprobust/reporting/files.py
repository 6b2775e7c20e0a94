"""Writes a report in the form that its name asks for."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.files import not_written, replace_file, try_writing
from pytest_cliprobust.reporting import json, markdown, sarif, statement
from pytest_cliprobust.results.run import Run

#: Ending of the name of a report for people, with pictures.
PAGE = ".html"

#: Endings of reports that show the earlier run beside this one.
BESIDE = (PAGE, ".md")


def _page(run: Run, folder: Path) -> str:
    from pytest_cliprobust.reporting.html.page import text  # draws, and is slower to import

    return text(run, folder)


#: From a run and the folder of the report to its text, by ending of the name; the longest that fits counts.
FORMS: Mapping[str, Callable[[Run, Path], str]] = {
    ".json": lambda run, folder: json.text(run),
    ".md": markdown.text,
    ".comment.md": markdown.comment,
    PAGE: _page,
    ".sarif": sarif.text,
    ".intoto.jsonl": statement.text,
}


def check(path: Path) -> None:
    """Find out before a run whether its report can be written, and leave nothing behind.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: it cannot be written.
    """
    try:
        try_writing(path)
    except OSError as error:
        raise not_written(f"--clip-report {path}: cannot be written", error) from None


def write(path: Path, run: Run) -> None:
    """Write the report to ``path`` in one step.

    Raises:
        Unavailable: the disk is full, or a fault of this package's keeps the report from being made.
        ClipRobustError: an ending that stands for no form, or a path that cannot be written.
    """
    ending = max((one for one in FORMS if path.name.endswith(one)), key=len, default=None)
    if ending is None:
        raise ClipRobustError(f"--clip-report {path}: end the name in {' or '.join(FORMS)}")
    try:
        replace_file(path, _made(path, ending, run))
    except OSError as error:
        check(path)  # says the same thing in the words of before the run, so that it is told once
        raise not_written(f"--clip-report {path}: cannot be written", error) from None


def _made(path: Path, ending: str, run: Run) -> str:
    """Return the report's text; a fault in one form must not cost the run its other reports and history."""
    try:
        return FORMS[ending](run, path.parent)
    except (ClipRobustError, OSError, MemoryError):
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise Unavailable(
            f"--clip-report {path}: could not be made, which is a fault of pytest-cliprobust "
            f"({type(error).__name__}: {error!s:.200}, {Path(where.filename).name}:{where.lineno})"
        ) from error
