"""The history: runs in an SQLite file, with what their figures are functions of, by sample.

One row a run with the whole report (compressed), one row a figure for questions in SQL, and the arrays and
sample keys once each, whatever number of figures and runs share them. A run is one transaction. Only the
process that reports writes; several of them may share a file.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from pytest_cliprobust.errors import ClipRobustError, brief, did_you_mean
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.baseline import Anchor, first_key
from pytest_cliprobust.results.database import Database
from pytest_cliprobust.results.earlier import Earlier, of_document, of_file
from pytest_cliprobust.results.outcomes import names_in, to_manifest
from pytest_cliprobust.results.tags import checked_tag

#: Name of the file in the cache folder.
NAME = "history.sqlite"

#: The largest whole number that SQLite takes.
_MOST = 2**63 - 1

#: So many spans of numbers are told where there is no run of a number.
_SPANS = 5

#: What a run can be called beside its number and its tags.
LAST = re.compile(r"last(?:~(\d+))?")


def default_path(cache_dir: Path | None = None) -> Path:
    """Return where the history is if nobody says otherwise: in the cache folder."""
    return (cache_dir or user_cache_path("pytest-cliprobust")) / NAME


# --- What is told of it ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A run as the list shows it.

    Attributes:
        number: its id.
        began, written: when.
        version: of this package.
        config: the options.
        models: weights' digests by name.
        suites: those that measured anything.
        figures: how many.
        failed: how many of them missed a bound.
        exit_status: pytest's.
        complete: whether it came to its end.
        partial: whether single tests were picked for it.
        tags: sorted.
        anchor: whether it is what drift is told against.
    """

    number: int
    began: str
    written: str
    version: str
    config: Mapping[str, Any]
    models: Mapping[str, str]
    suites: tuple[str, ...]
    figures: int
    failed: int
    exit_status: int
    complete: bool
    partial: bool
    tags: tuple[str, ...]
    anchor: bool


@dataclass(frozen=True)
class Point:
    """One figure of one run; ``series``: see :func:`series_of`."""

    number: int
    written: str
    tags: tuple[str, ...]
    anchor: bool
    key: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    status: str
    series: str


#: What runs must have in common to be of one series.
SERIES = ("models", "data", "profile", "limit")


def series_of(config: Mapping[str, Any]) -> str:
    """Return what a run has of :data:`SERIES`, as JSON."""
    models = sorted(map(str, config.get("models", ())))
    return json.dumps([models, *(config.get(name) for name in SERIES[1:])])


# --- The file --------------------------------------------------------------------------------------


class History(Database):
    """Runs in a file; see :class:`Database`."""

    # --- Writing -----------------------------------------------------------------------------------

    def write(
        self, document: Mapping[str, Any], figures: Mapping[str, Figure], tags: Iterable[str] = ()
    ) -> int:
        """Add a run, and return its number.

        Args:
            document: the JSON report.
            figures: its figures by key, with their outcomes.
            tags: names of the run.

        Raises:
            ClipRobustError: a tag that cannot be one, or a file that cannot be written.
        """
        names = sorted({checked_tag(name) for name in tags})
        blobs: dict[str, bytes] = {}
        measurements = []
        for entry in document["measurements"]:
            told = {k: v for k, v in entry["figure"].items() if k != "replicates"}
            figure = figures.get(entry["key"])
            told["outcomes"] = to_manifest(figure.outcomes, blobs) if figure else None
            better = METRICS.find(entry["metric"])
            measurements.append(
                {
                    **entry,
                    "figure": told,
                    "higher_is_better": better.higher_is_better if better else None,
                }
            )
        whole = {**document, "measurements": measurements}
        content = zlib.compress(json.dumps(whole, separators=(",", ":")).encode(), 6)
        with self.transaction() as connection:
            number = _insert_run(connection, document, content)
            connection.executemany(
                "INSERT INTO tags (run, name) VALUES (?, ?)", ((number, name) for name in names)
            )
            connection.executemany(
                f"INSERT INTO figures VALUES ({', '.join('?' * 19)})",
                (_figure_row(number, entry) for entry in measurements),
            )
            connection.executemany(
                "INSERT OR IGNORE INTO blobs (digest, data) VALUES (?, ?)", blobs.items()
            )
            connection.executemany(
                "INSERT INTO outcomes SELECT ?, id FROM blobs WHERE digest = ?",
                ((number, digest) for digest in blobs),
            )
        return number

    def tag(self, number: int, name: str, *, remove: bool = False) -> None:
        """Give a run a name, or take it away.

        Raises:
            ClipRobustError: no such run, a name that cannot be a tag, or no such tag to remove.
        """
        if remove:
            with self.transaction() as connection:
                self._require(number)
                done = connection.execute(
                    "DELETE FROM tags WHERE run = ? AND name = ?", (number, name)
                )
                if not done.rowcount:
                    raise ClipRobustError(f"run {number} has no tag {name!r}")
            return
        checked_tag(name)
        with self.transaction() as connection:
            self._require(number)
            connection.execute("INSERT OR IGNORE INTO tags VALUES (?, ?)", (number, name))

    def set_anchor(self, number: int, *, only_first: bool = False) -> bool:
        """Make a run the anchor of its series, in place of any other; return whether it is one now.

        ``only_first``: unless the series has an anchor already.

        Raises:
            ClipRobustError: no such run.
        """
        with self.transaction() as connection:
            self._require(number)
            (series,) = connection.execute(
                "SELECT series FROM runs WHERE id = ?", (number,)
            ).fetchone()
            if only_first and connection.execute(
                "SELECT 1 FROM runs WHERE series = ? AND anchor", (series,)
            ).fetchone() not in (None, (number,)):
                return False
            connection.execute(
                "UPDATE runs SET anchor = (id = ?) WHERE series = ?", (number, series)
            )
        return True

    def drop_anchor(self, number: int) -> None:
        """Make a run an ordinary one again.

        Raises:
            ClipRobustError: no such run.
        """
        with self.transaction() as connection:
            self._require(number)
            connection.execute("UPDATE runs SET anchor = 0 WHERE id = ?", (number,))

    def prune(
        self, *, keep: int | None = None, before: datetime | None = None, try_only: bool = False
    ) -> list[int]:
        """Remove old runs but those that are anchors or have a tag, and return their numbers.

        Args:
            keep: remove all but so many of the newest.
            before: remove what was written before.
            try_only: remove nothing.
        """
        entries = self.entries()
        old = [e for e in entries if before is None or moment(e.written) < before]
        if keep is not None:
            newest = {entry.number for entry in entries[-keep:]} if keep else set()
            old = [e for e in old if e.number not in newest]
        numbers = [e.number for e in old if not e.anchor and not e.tags]
        if not numbers or try_only:
            return numbers
        with self.transaction() as connection:
            connection.executemany("DELETE FROM runs WHERE id = ?", ((n,) for n in numbers))
            connection.execute("DELETE FROM blobs WHERE id NOT IN (SELECT blob FROM outcomes)")
        # Readers may keep it from getting smaller now; the next time will do.
        with contextlib.suppress(sqlite3.OperationalError):
            self.connection.execute("VACUUM")
        return numbers

    # --- Reading -----------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return all runs, the oldest first."""
        tags = self._tags()
        suites: dict[int, dict[str, tuple[int, int]]] = {}
        for number, suite, count, failed in self.rows(
            "SELECT run, suite, count(*), sum(outcome = 'fail') FROM figures GROUP BY run, suite"
        ):
            suites.setdefault(number, {})[suite] = (count, failed)
        rows = self.rows(
            "SELECT id, began, written, version, config, models, exit_status, complete, partial, anchor "
            "FROM runs ORDER BY id"
        )
        try:
            return [_entry(row, suites.get(row[0], {}), tags.get(row[0], ())) for row in rows]
        except (TypeError, ValueError) as error:
            raise ClipRobustError(
                f"{self.shown}: a damaged history ({brief(error)}); move it away, or name another file"
            ) from None

    def _tags(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, tuple[str, ...]] = {}
        for number, name in self.rows("SELECT run, name FROM tags ORDER BY name"):
            found[number] = (*found.get(number, ()), name)
        return found

    def find(self, reference: str, series: str | None = None) -> int:
        """Return the number of the run that a reference means.

        Args:
            reference: a number; ``last``, the newest that came to its end and was not of single tests;
                ``last~2``, the second before it; ``tag:NAME``, the newest of that name; ``anchor``.
            series: of :func:`series_of`: only runs of this one count, except by number.

        Raises:
            ClipRobustError: there is none.
        """
        among = "" if series is None else " AND series = ?"
        values = () if series is None else (series,)
        what = "" if series is None else " of these models, data and profile"
        if reference.isdecimal():
            number = _whole(reference)
            self._require(number)
            return number
        matched = LAST.fullmatch(reference)
        if matched:
            back = min(_whole(matched[1] or "0"), _MOST)
            found = self.rows(
                f"SELECT id FROM runs WHERE complete AND NOT partial{among} "
                "ORDER BY id DESC LIMIT 1 OFFSET ?",
                *(*values, back),
            )
            return self._one(found, f"{reference}: no such run{what} that came to its end")
        if reference == "anchor":
            found = self.rows(
                f"SELECT id FROM runs WHERE anchor{among} ORDER BY id DESC LIMIT 1", *values
            )
            return self._one(
                found, f"no run{what} is the anchor; `cliprobust anchor RUN` makes one it"
            )
        kind, _, name = reference.partition(":")
        if kind == "tag":
            found = self.rows(
                "SELECT max(id) FROM runs JOIN tags ON run = id WHERE name = ?" + among,
                *(name, *values),
            )
            known = [name for (name,) in self.rows("SELECT DISTINCT name FROM tags")]
            hint = did_you_mean(name, known)
            missing = f"no run{what} has the tag {name!r}{'.' if hint else ''}{hint.rstrip()}"
            return self._one([row for row in found if row[0] is not None], missing)
        raise ClipRobustError(
            f"{reference!r} is no run of a history: give its number, last, last~1, tag:NAME or anchor"
        )

    def _one(self, found: Sequence[tuple[Any, ...]], missing: str) -> int:
        if not found:
            raise ClipRobustError(f"{missing} (in {self.shown})")
        return int(found[0][0])

    def document(self, number: int, *, samples: bool = True) -> dict[str, Any]:
        """Return the report of a run, with its outcomes under ``blobs`` if ``samples``.

        Raises:
            ClipRobustError: no such run, or it is damaged.
        """
        document = self._document(number)
        if not samples:
            for entry in document["measurements"]:
                entry["figure"].pop("outcomes", None)
            return document
        blobs = self._blobs(number)
        document["blobs"] = {
            name: base64.b64encode(blobs[name]).decode("ascii") for name in sorted(blobs)
        }
        return document

    def _require(self, number: int) -> None:
        if not self._row("1", number):
            raise self._no_run(number)

    def _row(self, columns: str, number: int) -> list[tuple[Any, ...]]:
        """Return the row of a run; nothing if there is none of this number."""
        if not 0 < number <= _MOST:
            return []
        return self.rows(f"SELECT {columns} FROM runs WHERE id = ?", number)

    def _no_run(self, number: int) -> ClipRobustError:
        """Return the error of a number that no run has; it names those that there are."""
        known = _spans([each for (each,) in self.rows("SELECT id FROM runs ORDER BY id")])
        return ClipRobustError(f"no run {number} (in {self.shown}, which has {known or 'none'})")

    def _document(self, number: int) -> dict[str, Any]:
        found = self._row("document", number)
        if not found:
            raise self._no_run(number)
        try:
            document: dict[str, Any] = json.loads(zlib.decompress(found[0][0]))
        except (zlib.error, ValueError, TypeError, RecursionError) as error:
            raise ClipRobustError(f"{self.shown}: run {number} is damaged ({error})") from None
        if not isinstance(document, dict):
            raise ClipRobustError(f"{self.shown}: run {number} is damaged (it is no report)")
        return document

    def _blobs(self, number: int) -> dict[str, bytes]:
        return dict(
            self.rows(
                "SELECT digest, data FROM outcomes JOIN blobs ON id = blob WHERE run = ?", number
            )
        )

    def run(self, number: int) -> Earlier:
        """Return a run with its figures and their outcomes.

        Raises:
            ClipRobustError: no such run, or it is damaged.
        """
        tags = self._tags().get(number, ())
        found = of_document(
            self._document(number), self._blobs(number), f"run {number}", number, tags
        )
        return replace(found, anchors=self._anchors(number))

    def _anchors(self, number: int) -> dict[str, Anchor]:
        """Return the figures of the anchor of a run's series, by the keys that a baseline has them by."""
        rows = self.rows(
            "SELECT key, model, value, written FROM figures JOIN runs ON id = run WHERE anchor "
            "AND value IS NOT NULL AND series = (SELECT series FROM runs WHERE id = ?)",
            number,
        )
        models = {model for _, model, _, _ in rows}
        return {
            first_key(key.removesuffix(f"/{model}"), model, models): Anchor(value, written[:10])
            for key, model, value, written in rows
        }

    def outcomes_of(self, number: int, key: str) -> Earlier:
        """Return a run with one of its figures only, which is quicker.

        Raises:
            ClipRobustError: no such run, or it is damaged.
        """
        document = self._document(number)
        document["measurements"] = [e for e in document["measurements"] if e["key"] == key]
        names = [n for e in document["measurements"] for n in names_in(e["figure"]["outcomes"])]
        marks = ", ".join("?" * len(names))
        blobs = self.rows(f"SELECT digest, data FROM blobs WHERE digest IN ({marks})", *names)
        return of_document(document, dict(blobs), f"run {number}", number)

    def keys(self) -> list[tuple[str, str, str]]:
        """Return (key, metric, model) of all figures of all runs."""
        rows = self.rows("SELECT DISTINCT key, metric, model FROM figures ORDER BY key")
        return [(str(key), str(metric), str(model)) for key, metric, model in rows]

    def points(self, key: str) -> list[Point]:
        """Return one figure over all runs that came to their end, the oldest first."""
        tags = self._tags()
        return [
            Point(
                number,
                written,
                tags.get(number, ()),
                bool(anchor),
                key,
                _number(value),
                _number(low),
                _number(high),
                n,
                unit,
                status,
                series,
            )
            for number, written, anchor, value, low, high, n, unit, status, series in self.rows(
                "SELECT run, written, anchor, value, low, high, n, unit, status, series "
                "FROM figures JOIN runs ON id = run WHERE key = ? AND complete ORDER BY run",
                key,
            )
        ]


def _entry(
    row: tuple[Any, ...], suites: Mapping[str, tuple[int, int]], tags: tuple[str, ...]
) -> Entry:
    number, began, written, version, config, models, exit_status, complete, partial, anchor = row
    return Entry(
        number=number,
        began=began,
        written=written,
        version=version,
        config=_object(config),
        models=_object(models),
        suites=tuple(suites),
        figures=sum(count for count, _ in suites.values()),
        failed=sum(failed for _, failed in suites.values()),
        exit_status=exit_status,
        complete=bool(complete),
        partial=bool(partial),
        tags=tags,
        anchor=bool(anchor),
    )


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        TypeError, ValueError: it is none.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"no JSON object: {value!r:.40}")
    return value


def _whole(digits: str) -> int:
    """Return the number that digits are; of more than any number has, a number that is too large, too."""
    return int(digits[:40])  # Python takes no text of more than 4,300 for one


def _spans(numbers: Sequence[int]) -> str:
    """Return ascending numbers in few words: ``1–3, 5``; of many gaps the last alone."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        goes_on = bool(spans) and spans[-1][1] == number - 1
        spans[-1:] = [(spans[-1][0], number)] if goes_on else [*spans[-1:], (number, number)]
    told = [f"{first}–{last}" if first < last else str(last) for first, last in spans]
    return ", ".join(["…", *told[-_SPANS:]] if len(told) > _SPANS else told)


def _number(value: float | None) -> float:
    """Return what SQLite keeps, which is nothing for NaN."""
    return math.nan if value is None else value


def _insert_run(connection: sqlite3.Connection, document: Mapping[str, Any], content: bytes) -> int:
    config = document["config"]
    digests = {name: model["digest"] for name, model in document["models"].items()}
    done = connection.execute(
        "INSERT INTO runs (began, written, version, series, config, environment, models, thresholds, "
        "exit_status, complete, partial, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            document.get("began") or document["written"],
            document["written"],
            document["pytest_cliprobust"],
            series_of(config),
            json.dumps(config),
            json.dumps(document["environment"]),
            json.dumps(digests),
            document["thresholds"],
            int(document["exit_status"]),
            bool(document["complete"]),
            bool(document.get("partial", False)),
            content,
        ),
    )
    assert done.lastrowid is not None
    return done.lastrowid


def _figure_row(number: int, entry: Mapping[str, Any]) -> tuple[Any, ...]:
    figure, verdict = entry["figure"], entry["verdict"]
    names = ("key", "suite", "metric", "dataset", "perturbation", "severity", "model")
    return (
        number,
        *(entry[name] for name in names),
        *(float(figure[name]) for name in ("value", "low", "high", "confidence")),
        figure["n"],
        figure["units"],
        figure["unit"],
        entry["higher_is_better"],
        verdict["status"],
        verdict["outcome"],
        verdict["bound"],
    )


def moment(text: str) -> datetime:
    """Return when something was written; a time without an offset is one of this place.

    Raises:
        ValueError: no time.
    """
    return datetime.fromisoformat(text).astimezone()


def earlier_run(reference: str, path: Path, series: str | None = None) -> Earlier:
    """Return the run that a reference means: of the history at ``path``, or of a JSON file.

    Args:
        reference: see :meth:`History.find`, or the path of a JSON report or export.
        path: of the history.
        series: see :meth:`History.find`.

    Raises:
        ClipRobustError: there is none, or it is damaged.
    """
    if is_file(reference):
        return of_file(Path(reference))
    if not is_reference(reference):
        raise ClipRobustError(
            f"{reference!r} is no run: give its number, last, last~1, tag:NAME, anchor or a JSON report"
        )
    with History(path) as history:
        return history.run(history.find(reference, series))


def is_reference(text: str) -> bool:
    """Return whether a text may mean a run of a history; whether there is one, the history knows."""
    known = text.isdecimal() or LAST.fullmatch(text) is not None or text == "anchor"
    return known or text.startswith("tag:")


def is_file(reference: str) -> bool:
    """Return whether a reference means a file, not a run of the history."""
    if reference.isdecimal() or LAST.fullmatch(reference) or reference == "anchor":
        return False
    return reference.endswith(".json") or (
        not reference.startswith("tag:") and Path(reference).is_file()
    )
