"""Figures over runs, and how far they have drifted from where they began.

Small losses, each within its margin, add up: what counts is the change against the anchor of a series, or
against its first run where there is no anchor.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.results.compare import Compared, compare, judged
from pytest_cliprobust.results.history import History, Point


@dataclass(frozen=True)
class Trend:
    """One figure over the runs of a series.

    Attributes:
        points: one a run, the oldest first.
        since: the run that drift is told against.
        drifts: of each point against it; None for that run itself.
        left_out: how many runs of other series have the figure, too.
    """

    points: tuple[Point, ...]
    since: Point
    drifts: tuple[Compared | None, ...]
    left_out: int


def keys_for(history: History, name: str) -> list[str]:
    """Return the keys of figures that a name means: a key, a glob of keys, or a metric.

    Raises:
        ClipRobustError: none.
    """
    known = history.keys()
    found = [
        key for key, metric in known if name in (key, metric) or fnmatch.fnmatchcase(key, name)
    ]
    if not found:
        metrics = dict.fromkeys(metric for _, metric in known)
        raise ClipRobustError(
            f"no figure in {history.shown} is called {name!r}.{did_you_mean(name, metrics)} Give a "
            f"metric ({', '.join(metrics) or 'there is none yet'}), a key, or a glob of keys"
        )
    return found


def start_of(points: Sequence[Point]) -> Point:
    """Return the point that drift is told against: the anchor, else the first."""
    return next((point for point in reversed(points) if point.anchor), points[0])


def own_series(points: Sequence[Point]) -> list[Point]:
    """Return the points of the newest one's series."""
    return [point for point in points if point.series == points[-1].series]


def trend_of(history: History, key: str) -> Trend:
    """Return one figure over the runs of its newest series.

    Raises:
        ClipRobustError: no run that came to its end has it.
    """
    every = history.points(key)
    if not every:
        raise ClipRobustError(f"no run that came to its end has {key} (in {history.shown})")
    points = own_series(every)
    since = start_of(points)
    base = history.outcomes_of(since.number, key)
    drifts = tuple(
        None
        if point.number == since.number
        else compare(base, history.outcomes_of(point.number, key)).rows[0]
        for point in points
    )
    return Trend(tuple(points), since, drifts, len(every) - len(points))


def drifts_of(history: History, keys: Sequence[str]) -> list[tuple[Point, Point, Compared | None]]:
    """Return, for each figure, where drift is told from, its newest point, and what changed between them.

    The words take all of them into account.
    """
    ends = []
    for key in keys:
        points = own_series(history.points(key))
        if points:
            ends.append((start_of(points), points[-1]))
    pairs: dict[tuple[int, int], set[str]] = {}
    for first, last in ends:
        if first.number != last.number:
            pairs.setdefault((first.number, last.number), set()).add(last.key)
    rows: dict[str, Compared] = {}
    for (first_run, last_run), wanted in pairs.items():

        def only(measurement: Measurement, wanted: set[str] = wanted) -> bool:
            return measurement.key in wanted

        made = compare(history.run(first_run), history.run(last_run), only=only)
        rows |= {row.key: row for row in made.rows}
    words = {row.key: row for row in judged(rows.values())}
    return [(first, last, words.get(last.key)) for first, last in ends]
