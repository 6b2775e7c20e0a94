"""Whether all that a run is going to write can be written: found out before any model is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_cliprobust.files import not_written, try_writing
from pytest_cliprobust.gating.baseline import beside
from pytest_cliprobust.results.history import History
from pytest_cliprobust.results.journal import journal_of


def check_writing(
    reports: Sequence[Path], recorded: Path | None = None, history: Path | None = None
) -> None:
    """Raise if anything that a run writes at its end could not be written, and leave nothing behind.

    Args:
        reports: the reports that were asked for; the journal and pictures go beside the first.
        recorded: the threshold file that is recorded into, with the baseline beside it; None if none is.
        history: the file that the user named for the history; None if they named none.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: something cannot be written, in one line that names option and path.
    """
    for option, path in _written(reports, recorded, history):
        try:
            try_writing(path)
        except OSError as error:
            raise not_written(f"{option} {path}: cannot be written", error) from None
    if history is not None and history.is_file():
        History(history).close()  # it may be a file of something else, or a newer version's


def _written(
    reports: Sequence[Path], recorded: Path | None, history: Path | None
) -> Iterator[tuple[str, Path]]:
    """Yield each path with the option that asked for it."""
    for path in reports:
        yield "--clip-report", path
    for path in reports[:1]:
        yield "--clip-report", journal_of(path)
        yield "--clip-report", pictures_of(path) / "picture.png"
    if recorded is not None:
        yield "--clip-record", recorded
        yield "--clip-record", beside(recorded)
    if history is not None:
        yield "--clip-history", history


def pictures_of(report: Path) -> Path:
    """Return the folder for the pictures of a report."""
    return report.with_name(f"{report.stem}-pictures")
