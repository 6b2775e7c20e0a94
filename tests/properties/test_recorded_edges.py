"""Figures of samples at the edges, as the record has them: few, all alike, wholly apart, of a single drawing.

That they are right is for the other tests to show. After a change that is meant, look at what differs in
``edges.txt`` and record anew::

    RECORD=1 python -m pytest -q tests/properties/test_recorded_edges.py
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from made_up import Seen, flat, rounded, samples

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.properties import (
    accuracy,
    calibration,
    compositional,
    groups,
    ood,
    retrieval,
    selective,
)

#: With the newest libraries only: older ones' arithmetic differs in its last bits, which may decide.
pytestmark = pytest.mark.slow

RECORD = Path(__file__).with_name("edges.txt")


def part_of(seen: Seen, rows: range | np.ndarray, **changes: Any) -> Seen:
    """Return some of the samples, and what else is to be other."""
    chosen = list(rows)

    def of(column: Any) -> Any:
        return tuple(column[r] for r in chosen) if isinstance(column, tuple) else column[chosen]

    columns = {n: of(getattr(seen, n)) for n in ("ids", "labels", "logits", "cosines", "features")}
    columns["units"] = of(seen.units)
    columns["groups"] = {name: of(column) for name, column in seen.groups.items()}
    return replace(seen, **{**columns, **changes})


#: From a whole sample to one at the edge.
KINDS: dict[str, Callable[[Seen], Seen]] = {
    "two": lambda seen: part_of(seen, range(2)),
    "seven": lambda seen: part_of(seen, range(7)),
    "thirty": lambda seen: part_of(seen, range(30)),
    "rare ones": lambda seen: part_of(seen, range(212, 224)),
    "all right": lambda seen: sure(part_of(seen, range(24)), 1.0),
    "all wrong": lambda seen: sure(part_of(seen, range(24)), -1.0),
    "all alike": lambda seen: sure(part_of(seen, range(24)), 0.0),
    "ties": lambda seen: tied(part_of(seen, range(40))),
    "of one drawing": lambda seen: replace(
        part := part_of(seen, range(24)), units=("d",) * len(part.ids)
    ),
    "of four drawings": lambda seen: replace(
        part := part_of(seen, range(24)), units=tuple("abcd"[n % 4] for n in range(len(part.ids)))
    ),
    "of its own each": lambda seen: replace(part := part_of(seen, range(24)), units=part.ids),
    "of one class": lambda seen: part_of(seen, range(0, 96, 6)),
}


def sure(seen: Seen, sign: float) -> Seen:
    """Return samples whose answers are all right (1), all wrong (-1) or all the same (0)."""
    logits = sign * 9.0 * np.eye(seen.logits.shape[1])[seen.labels]
    return replace(seen, logits=logits, cosines=logits / 10)


def tied(seen: Seen) -> Seen:
    """Return samples whose logits have few values."""
    return replace(seen, logits=np.round(seen.logits / 3), cosines=np.round(seen.cosines * 3) / 3)


def figures_of(clean: Seen, far: Seen) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what makes figures of samples."""
    half = len(clean.ids) // 2
    yield "accuracy", lambda: accuracy.accuracy_of(clean)
    yield "calibration", lambda: calibration.calibration_of(clean, bins=4)
    yield "selective", lambda: selective.selective_of(clean)
    yield "abstention", lambda: selective.abstention_of(clean, far)
    yield "detection", lambda: ood.detection(clean, far, ["mcm", "energy"])
    yield "detection of few", lambda: ood.detection(part_of(clean, range(half)), far, ["mcm"])
    yield "detection by few", lambda: ood.detection(clean, part_of(far, range(half)), ["mcm"])
    yield "groups", lambda: groups.accuracy_over(clean, "style")
    yield "groups' calibration", lambda: groups.calibration_over(clean, "style")
    yield "groups' detection", lambda: groups.detection_over(clean, far, "style")
    yield (
        "retrieval",
        lambda: retrieval.retrieval_figures(
            clean.features, clean.features[::-1] + 0.4 * far.features, np.arange(len(clean.ids))
        ),
    )
    yield "choices", lambda: compositional.choice_figure(list(clean.logits[:, :3]))


def made(call: Callable[[], Any]) -> list[Figure] | str:
    """Return figures, or why there are none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return flat([call()])
    except (ClipRobustError, NotRun) as error:
        return f"{type(error).__name__}: {error}"


def said(figure: Figure, later: Figure) -> Iterator[str]:
    """Yield a figure's number, its intervals at three levels, its details and its change."""
    ends = [interval_at(figure, level) for level in (0.5, 0.95, 0.999)]
    shown = " ".join(f"[{one.low:.4f}, {one.high:.4f}]" for one in ends)
    yield f"  {figure.metric}: {figure.value:.4f} {shown} n={figure.n} {figure.method}"
    details = json.dumps(rounded(dict(figure.details)), sort_keys=True, default=str)
    if details != "{}":
        yield f"    {details[:300]}"
    change = change_between(later, figure)
    low_high = change.interval(0.95)
    yield (
        f"    change {change.difference:.4f} [{low_high.low:.4f}, {low_high.high:.4f}], "
        f"{change.standard_error:.4f}, {change.p_beyond(0.01):.4f}, {change.why_not or change.kind}"
    )


def recorded(kind: str) -> list[str]:
    """Return what is recorded of one kind of samples."""
    one, two = (
        [KINDS[kind](samples(run)), KINDS[kind](samples(run, 1.6, dataset="far", first=240))]
        for run in (0, 1)
    )
    lines = []
    for (name, first), (_, second) in zip(figures_of(*one), figures_of(*two), strict=True):
        own, later = made(first), made(second)
        lines.append(f"{name}: {own if isinstance(own, str) else len(own)}")
        if not isinstance(own, str) and not isinstance(later, str):
            for figure, other in zip(own, later, strict=False):
                lines += said(figure, other)
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_the_record(kind: str) -> None:
    records.check(RECORD, KINDS, kind, recorded(kind), tolerance=4e-4)
