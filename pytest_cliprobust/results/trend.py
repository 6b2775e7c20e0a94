"""Figures over runs, and how far they have drifted from where they began.

Small losses, each within its margin, add up: what counts is the change against the anchor of a series, or
against its first run where there is no anchor. Runs of other models, data, profiles or sizes are not
comparable with these: they are left out of the line, each with the reason.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.files import is_path, own_name
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.compare import Compared, compare, judged
from pytest_cliprobust.results.history import SERIES, History, Point


@dataclass(frozen=True)
class LeftOut:
    """A run that has the figure and is not comparable.

    Attributes:
        point: its figure.
        why: in what it differs, in words: ``limit 3, not none``.
    """

    point: Point
    why: str


@dataclass(frozen=True)
class Drift:
    """One figure from where drift is told to its newest point.

    Attributes:
        first, last: the two points.
        row: what changed between them; None if they are one.
        left_out: runs that have the figure, too, and are not comparable.
    """

    first: Point
    last: Point
    row: Compared | None
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Trend:
    """One figure over the runs of a series.

    Attributes:
        points: one a run, the oldest first.
        since: the run that drift is told against.
        drifts: of each point against it; None for that run itself.
        left_out: runs that have the figure, too, and are not comparable.
    """

    points: tuple[Point, ...]
    since: Point
    drifts: tuple[Compared | None, ...]
    left_out: tuple[LeftOut, ...]


def keys_for(history: History, name: str) -> list[str]:
    """Return the keys of figures that a name means: a key, a glob of keys, a metric or a model.

    A model goes by its name, or by the path that has this name: ``v1`` and ``./v1``.

    Raises:
        ClipRobustError: none.
    """
    known = history.keys()
    model = own_name(name) if is_path(name) or name.endswith("/") else name
    found = [
        key
        for key, metric, of in known
        if name in (key, metric) or of == model or fnmatch.fnmatchcase(key, name)
    ]
    if not found:
        metrics, models = (list(dict.fromkeys(row[i] for row in known)) for i in (1, 2))
        hint = did_you_mean(model, [*metrics, *models])
        raise ClipRobustError(
            f"no figure in {history.shown} is called {name!r}.{hint} Give a metric "
            f"({', '.join(metrics) or 'there is none yet'}), a model ({', '.join(models) or 'none'}), "
            "a key, or a glob of keys"
        )
    return found


def start_of(points: Sequence[Point]) -> Point:
    """Return the point that drift is told against: the anchor, else the first."""
    return next((point for point in reversed(points) if point.anchor), points[0])


def own_series(points: Sequence[Point]) -> tuple[list[Point], tuple[LeftOut, ...]]:
    """Return the points that are comparable with the newest one, and the others with the reason."""
    reasons = [_apart(point, points[-1]) for point in points]
    pairs = list(zip(points, reasons, strict=True))
    own = [point for point, why in pairs if not why]
    return own, tuple(LeftOut(point, why) for point, why in pairs if why)


def _apart(point: Point, newest: Point) -> str:
    """Return in what a point is not comparable with the newest one; empty if it is."""
    theirs, own = json.loads(point.series), json.loads(newest.series)
    told = [
        f"{name} {_shown(then)}, not {_shown(now)}"
        for name, then, now in zip(SERIES, theirs, own, strict=True)
        if then != now
    ]
    if not told and point.n != newest.n:
        told = [f"n = {point.n:,}, not {newest.n:,}"]
    return ", ".join(told)


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "none")


def trend_of(history: History, key: str) -> Trend:
    """Return one figure over the runs that are comparable with the newest one.

    Raises:
        ClipRobustError: no run that came to its end has it.
    """
    every = history.points(key)
    if not every:
        raise ClipRobustError(f"no run that came to its end has {key} (in {history.shown})")
    points, left_out = own_series(every)
    since = start_of(points)
    base = history.outcomes_of(since.number, key)
    drifts = tuple(
        None
        if point.number == since.number
        else compare(base, history.outcomes_of(point.number, key)).rows[0]
        for point in points
    )
    return Trend(tuple(points), since, drifts, left_out)


def drifts_of(history: History, keys: Sequence[str]) -> list[Drift]:
    """Return, for each figure, where drift is told from, its newest point, and what changed between them.

    The words take all of them into account.
    """
    ends = []
    for key in keys:
        every = history.points(key)
        if every:
            points, left_out = own_series(every)
            ends.append((start_of(points), points[-1], left_out))
    pairs: dict[tuple[int, int], set[str]] = {}
    for first, last, _ in ends:
        if first.number != last.number:
            pairs.setdefault((first.number, last.number), set()).add(last.key)
    rows: dict[str, Compared] = {}
    for (first_run, last_run), wanted in pairs.items():

        def only(measurement: Measurement, wanted: set[str] = wanted) -> bool:
            return measurement.key in wanted

        made = compare(history.run(first_run), history.run(last_run), only=only)
        rows |= {row.key: row for row in made.rows}
    words = {row.key: row for row in judged(rows.values())}
    return [Drift(first, last, words.get(last.key), left_out) for first, last, left_out in ends]
