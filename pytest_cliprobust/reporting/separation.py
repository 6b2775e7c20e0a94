"""How far scores tell inside from outside: a ROC curve and two histograms, small enough for a report.

They follow from outcomes by sample, which a JSON report does not have; so it has them beside each figure that
is made of scores, and a page that is made of it shows the same curves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.outcomes import Outcomes

#: Under this name it stands among the details of a figure.
DETAIL = "separation"

#: Points of the curve, evenly along the share of OOD that is taken for ID, and bins of the histograms.
POINTS, BINS = 41, 28


@dataclass(frozen=True)
class Separation:
    """Scores, higher for inside, as curves.

    Attributes:
        found: share of inside that is found, in [0, 1], at each of :data:`POINTS` shares of outside that is
            taken for it.
        low, high: ends of the histograms.
        inside, outside: share of the samples in each bin.
        medians: of the scores inside and outside.
    """

    found: tuple[float, ...]
    low: float
    high: float
    inside: tuple[float, ...]
    outside: tuple[float, ...]
    medians: tuple[float, float]

    @classmethod
    def of(cls, scores: Floats, inside: Bools) -> Separation | None:
        """Return that of scores (N,) and what is inside (N,); None where one side has no finite score."""
        there = np.isfinite(scores)
        # As exact as outcomes are kept and handed over by workers: the report is the same with them.
        scores, inside = scores[there].astype(np.float32).astype(np.float64), inside[there]
        if not inside.any() or inside.all():
            return None
        from sklearn.metrics import roc_curve

        false, true, _ = roc_curve(inside, scores)
        edges = np.histogram_bin_edges(scores, BINS)
        inner, outer = (
            np.histogram(scores[rows], edges)[0] / rows.sum() for rows in (inside, ~inside)
        )
        return cls(
            _rounded(np.interp(np.linspace(0.0, 1.0, POINTS), false, true)),
            float(edges[0]),
            float(edges[-1]),
            _rounded(inner),
            _rounded(outer),
            (float(np.median(scores[inside])), float(np.median(scores[~inside]))),
        )

    @classmethod
    def of_figure(cls, figure: Figure, later: Figure | None = None) -> Separation | None:
        """Return that of a figure's outcomes, else of its details; None where it is not made of scores.

        Args:
            figure: the figure.
            later: one on the same samples, which knows what is inside where ``figure`` does not.
        """
        outcomes = figure.outcomes
        scores = None if outcomes is None else outcomes.columns.get("score")
        inside = _inside(outcomes, None if later is None else later.outcomes)
        if scores is not None and inside is not None:
            return cls.of(np.asarray(scores, dtype=np.float64), inside)
        told = figure.details.get(DETAIL)
        return cls.from_dict(told) if isinstance(told, Mapping) else None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able data."""
        return {
            "found": list(self.found),
            "range": [self.low, self.high],
            "inside": list(self.inside),
            "outside": list(self.outside),
            "medians": list(self.medians),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Separation | None:
        """Return what :meth:`as_dict` wrote; None of anything else."""
        try:
            low, high = map(float, data["range"])
            inner, outer = map(float, data["medians"])
            found, inside, outside = (
                tuple(map(float, data[name])) for name in ("found", "inside", "outside")
            )
        except (KeyError, TypeError, ValueError):
            return None
        if len(found) != POINTS or not len(inside) == len(outside) == BINS:
            return None
        return cls(found, low, high, inside, outside, (inner, outer))


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, 4).tolist())


def _inside(own: Outcomes | None, later: Outcomes | None) -> Bools | None:
    if own is None:
        return None
    found = own.attributes.get("inside")
    if found is None and later is not None and len(later) == len(own):
        found = later.attributes.get("inside")
    return None if found is None else np.asarray(found).astype(np.bool_)
