"""What a run has measured so far, on disk while it runs.

Beside the first report a file ``<name>.unfinished`` grows by one line a figure. If the run ends by
itself, the report has all figures and the file goes; if the run is killed, the figures are in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import shown_path
from pytest_cliprobust.results.plain import plain
from pytest_cliprobust.results.record import Record


class Journal:
    """Writes each figure as soon as its test is over.

    Attributes:
        notes: what the report header says of a run that did not finish.

    Args:
        report: the first report of the run, beside which the file lies.

    Raises:
        ClipRobustError: the file cannot be written.
    """

    def __init__(self, report: Path) -> None:
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

    def add(self, records: Iterable[Record]) -> None:
        """Append the records of one test."""
        for record in records:
            self._write(plain(record))

    def close(self, written: Sequence[str]) -> None:
        """Remove the file if the report holds all of its figures (``written`` are their keys)."""
        self._file.close()
        if self._left <= set(written):
            self.path.unlink(missing_ok=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal as plain data; a last line cut short is left out."""
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
