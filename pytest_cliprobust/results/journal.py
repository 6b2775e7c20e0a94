"""What a run has measured so far, on disk after each test: a run that is killed loses nothing.

Beside the first ``--clip-report FILE`` stands ``FILE.unfinished``, JSON Lines: one object with ``run`` for
each run that began, then one record (as in the JSON report) for each figure. It goes away when the report
that holds all its figures is written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.reporting.files import compact

if TYPE_CHECKING:
    from pytest_cliprobust.plugin import Session


class Journal:
    """The file, opened for appending.

    Attributes:
        path: the file.
        notes: what the report header says of a run that did not finish.

    Raises:
        ClipRobustError: the file cannot be written.
    """

    def __init__(self, session: Session) -> None:
        report = session.reports[0]
        self.path = report.with_name(f"{report.name}.unfinished")
        earlier = read(self.path)
        self._left = {str(record["key"]) for record in earlier}
        self.notes: list[str] = []
        if earlier:
            self.notes.append(
                f"an earlier run did not finish: its {len(earlier)} figures are in "
                f"{shown_path(self.path)}, the features it computed are in the cache"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write per line and no buffer: what is written survives the process.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise ClipRobustError(
                f"--clip-report {report}: cannot be written: {error.strerror}"
            ) from None
        if earlier:
            self._file.write(b"\n")  # the last line may have been cut short
        self._write({"run": {"began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}})

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write((json.dumps(entry) + "\n").encode())

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Append the records of one test."""
        for record in records:
            self._write(compact(record))

    def close(self, written: Sequence[str]) -> None:
        """Remove the file if the report holds all of its figures (``written`` are their keys)."""
        self._file.close()
        if self._left <= set(written):
            self.path.unlink(missing_ok=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal; a last line cut short is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "key" in entry:
            records.append(entry)
    return records
