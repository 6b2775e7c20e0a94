"""What a run has measured so far, on disk while it runs.

Beside the first report a file ``<name>.unfinished`` grows by one line a figure. If the run ends by
itself, the report has all figures and the file goes; if the run is killed, the figures are in it.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import counted
from pytest_cliprobust.files import not_written, shown_path
from pytest_cliprobust.results.plain import plain
from pytest_cliprobust.results.record import Record


def journal_of(report: Path) -> Path:
    """Return where the journal of a run lies, given its first report."""
    return report.with_name(f"{report.name}.unfinished")


class Journal:
    """Writes each figure as soon as its test is over.

    Attributes:
        notes: what the report header says of a run that did not finish.

    Args:
        report: the first report of the run, beside which the file lies.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: the file cannot be written.
    """

    def __init__(self, report: Path) -> None:
        self.path = journal_of(report)
        earlier = read(self.path)
        self._left = {str(record["key"]) for record in earlier}
        self.notes: list[str] = []
        if earlier:
            self.notes.append(
                f"an earlier run did not finish: its {counted(len(earlier), 'figure is', 'figures are')} in "
                f"{shown_path(self.path)}, the features it computed are in the cache"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write per line and no buffer: what is written survives the process.
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise not_written(f"--clip-report {report}: cannot be written", error) from None
        self._failed = False
        if earlier:
            self._write("")  # the last line may have been cut short
        self._write(json.dumps({"run": {"began": time.strftime("%Y-%m-%dT%H:%M:%S%z")}}))

    def _write(self, line: str) -> None:
        try:
            data = f"{line}\n".encode()
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._failed = True
            raise not_written(
                f"{shown_path(self.path)}: figures cannot be kept while the run lasts", error
            ) from None

    def add(self, records: Iterable[Record]) -> None:
        """Append the records of one test; of one that ran again the last ones count.

        Raises:
            ClipRobustError: they cannot be written; once, as nothing is tried again.
        """
        if not self._failed:
            for record in records:
                self._write(json.dumps(plain(record)))

    def leave(self) -> None:
        """Write no more; the file stays."""
        self._file.close()

    def close(self, written: Sequence[str]) -> None:
        """Remove the file if the report holds all of its figures (``written`` are their keys)."""
        self.leave()
        if self._left <= set(written):
            self.path.unlink(missing_ok=True)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal as plain data, the last of each key; lines cut short are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    records: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and "key" in entry:
            records[str(entry["key"])] = entry
    return list(records.values())
