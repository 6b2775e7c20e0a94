"""AUROC with DeLong's interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, figure_of_ends
from pytest_cliprobust.figures.clusters import size_effect, variance_of_mean
from pytest_cliprobust.figures.ends import Compared, EndsAt, hull, on_logits
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import student
from pytest_cliprobust.figures.means import compared, unknown
from pytest_cliprobust.figures.outcomes import Outcomes, ratio


def _midranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2.0)[inverse]
    return ranks


def delong(positive: ArrayLike, negative: ArrayLike) -> tuple[Floats, Floats]:
    """Return AUROCs and their covariance, for K scores on the same samples.

    DeLong, DeLong & Clarke-Pearson (1988), by the midrank algorithm of Sun & Xu (2014), in
    O(n log n). Larger scores speak for the positive class; ties count a half.

    Args:
        positive: (m,) or (K, m) scores of the positive samples.
        negative: (n,) or (K, n) scores of the negative samples.

    Returns:
        AUROCs (K,) and covariance (K, K).

    Raises:
        ClipRobustError: fewer than two samples of either class.
        ValueError: NaN, or shapes that do not fit.
    """
    above = np.atleast_2d(np.asarray(positive, dtype=np.float64))
    below = np.atleast_2d(np.asarray(negative, dtype=np.float64))
    if above.ndim != 2 or below.ndim != 2 or len(above) != len(below):
        raise ValueError(f"scores have shapes {above.shape} and {below.shape}")
    m, n = above.shape[1], below.shape[1]
    if m < 2 or n < 2:
        raise ClipRobustError(
            f"an AUROC's variance needs two samples of each class, not {m} positive and "
            f"{n} negative ones; check the data sets"
        )
    if np.isnan(above).any() or np.isnan(below).any():
        raise ValueError("scores contain NaN")
    areas = np.empty(len(above))
    v10 = np.empty(above.shape)
    v01 = np.empty(below.shape)
    for k in range(len(above)):
        joint = _midranks(np.concatenate([above[k], below[k]]))
        areas[k] = (joint[:m].sum() - m * (m + 1) / 2.0) / (m * n)
        v10[k], v01[k] = placements(above[k], below[k])
    covariance: Floats = np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n
    return areas, covariance


def placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return the share of negatives below each positive (m,), and of positives above each negative (n,).

    Their means are the AUROC; ties count a half.
    """
    m, n = len(positive), len(negative)
    joint = _midranks(np.concatenate([positive, negative]))
    return (joint[:m] - _midranks(positive)) / n, 1.0 - (joint[m:] - _midranks(negative)) / m


def area(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the AUROC (R,) of the column ``score``, the attribute ``inside`` being positive.

    Args:
        weights: (R, N).
        outcomes: of N samples.
    """
    scores, inside = outcomes["score"], outcomes["inside"]
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    drawn = weights[:, order]
    above = np.add.reduceat(drawn * inside[order], starts, axis=1)
    below = np.add.reduceat(drawn * ~inside[order], starts, axis=1)
    ahead = np.cumsum(below, axis=1) - below / 2.0
    return ratio((above * ahead).sum(axis=1), above.sum(axis=1) * below.sum(axis=1))


def variance_of_area(positive: Floats, negative: Floats, codes: Ints) -> float:
    """Return the variance of a mean of placements whose units were drawn (DeLong 1988; Obuchowski 1997).

    Also that of a difference of AUROCs, if the placements are differences.

    Args:
        positive: (m,) placements of the positive samples.
        negative: (n,) of the negative ones.
        codes: (m + n,) unit of each; no unit has samples of both kinds.
    """
    m = len(positive)
    return variance_of_mean(positive, codes[:m]) + variance_of_mean(negative, codes[m:])


def auroc(
    metric: str,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    bootstrap: Bootstrap = DEFAULT,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return an AUROC as a figure, with DeLong's variance on the logit scale (Pepe 2003, 5.2).

    With several samples a unit the variance is over units (Obuchowski 1997), and the quantile Student's
    over those of the rarer class. Where the classes are nearly apart the variance is estimated from very
    few pairs, and where they are apart it is zero; the interval is therefore the hull with Newcombe's
    (2006, method 5), which takes the variance from the AUROC itself. Scores with NaN give a NaN figure.

    Args:
        metric: name of the metric.
        positive: (m,) scores of the positive class.
        negative: (n,) scores of the negative class.
        bootstrap: confidence, and the keys of the m positive and then the n negative samples.
        details: see :class:`Figure`.

    Raises:
        ClipRobustError: fewer than two samples of either class.
    """
    above = np.asarray(positive, dtype=np.float64).ravel()
    below = np.asarray(negative, dtype=np.float64).ravel()
    m, total = len(above), len(above) + len(below)
    extra = {**(details or {}), "positives": m, "negatives": len(below)}
    if np.isnan(above).any() or np.isnan(below).any():
        nan = math.nan
        return Figure(metric, nan, nan, nan, total, bootstrap.confidence, "DeLong", details=extra)
    value = float(delong(above, below)[0][0])
    keys = bootstrap.keys
    codes = np.arange(total) if keys is None else keys.codes
    parts = placements(above, below)
    spread = _Spread.of(*parts, codes)
    worth = (len(above) / spread.effect, len(below) / spread.effect)
    at, method = _newcombe(value, worth, spread.degrees), "Newcombe (DeLong's variance is 0)"
    if spread.error > 0.0 and 0.0 < value < 1.0:
        error = spread.error / (value * (1.0 - value))
        at, method = hull(on_logits(value, error, spread.degrees), at), "DeLong and Newcombe"
    inside = np.arange(total) < m
    return figure_of_ends(
        metric,
        value,
        at,
        Outcomes(
            {"score": np.concatenate([above, below])},
            area,
            attributes={"inside": inside, "stratum": inside.astype(np.int64)},
            compare=compare_areas,
        ),
        bootstrap,
        IntervalMethod.DELONG,
        method,
        bounds=(0.0, 1.0),
        details=extra,
        effect=spread.effect,
    )


@dataclass(frozen=True)
class _Spread:
    """The standard error of a mean of placements, the design effect, and the degrees of freedom."""

    error: float
    effect: float
    degrees: float

    @classmethod
    def of(cls, positive: Floats, negative: Floats, codes: Ints) -> _Spread:
        """Return those of placements whose units (m + n,) were drawn."""
        m = len(positive)
        drawn = variance_of_area(positive, negative, codes)
        single = variance_of_area(positive, negative, np.arange(len(codes)))
        units = min(len(np.unique(codes[:m])), len(np.unique(codes[m:])))
        if single > 0.0 and math.isfinite(drawn):
            effect = max(1.0, drawn / single)
        else:
            effect = max(size_effect(codes[:m]), size_effect(codes[m:] - codes[m:].min()))
        return cls(math.sqrt(max(drawn, single)), effect, units - 1.0)


def _newcombe(value: float, worth: tuple[float, float], degrees: float) -> EndsAt:
    """Return Newcombe's ends of an AUROC (2006, "Part 2", method 5), the classes being worth so many.

    They are where the AUROC's distance is so many of the standard errors that Hanley & McNeil (1982) give
    for it, and do not collapse where the classes are (nearly) apart.
    """
    positives, negatives = worth
    extra = (positives + negatives) / 2.0 - 1.0

    def error(area: Floats) -> Floats:
        spread = 1.0 + extra * (1.0 - area) / (2.0 - area) + extra * area / (1.0 + area)
        return np.sqrt(np.maximum(area * (1.0 - area) * spread, 0.0) / (positives * negatives))

    def at(tails: Floats) -> tuple[Floats, Floats]:
        t = student(tails, degrees)

        def end(limit: float) -> Floats:
            inside, outside = np.full(len(t), value), np.full(len(t), limit)
            for _ in range(50):
                middle = (inside + outside) / 2.0
                far = np.abs(middle - value) > t * error(middle)
                outside, inside = np.where(far, middle, outside), np.where(far, inside, middle)
            return np.where(np.isnan(t), math.nan, outside)

        return end(0.0), end(1.0)

    return at


def compare_areas(before: Outcomes, after: Outcomes) -> Compared:
    """Return the change of an AUROC, with DeLong's paired variance over placements as what samples add."""
    inside = after["inside"].astype(bool)
    if inside.all() or not inside.any():
        return unknown()
    codes = np.arange(len(inside)) if after.keys is None else after.keys.codes
    adds, values = [], []
    for outcomes in (before, after):
        scores = outcomes["score"].astype(np.float64)
        own = np.empty(len(scores))
        own[inside], own[~inside] = placements(scores[inside], scores[~inside])
        values.append(float(own[inside].mean()))
        for side in (inside, ~inside):
            own[side] = (own[side] - values[-1]) * (len(own) / side.sum())
        adds.append(own)
    units = [len(np.unique(codes[side])) for side in (inside, ~inside)]
    if min(units) < 2:
        return replace(unknown(), difference=values[1] - values[0])
    # A unit may come to lie behind one of the other side.
    sides = zip((inside, ~inside), units[::-1], strict=True)
    least = size_effect(codes) * max(len(inside) / side.sum() / other for side, other in sides)
    degrees = min(units) - 1.0
    return compared(adds[1] - adds[0], codes, values[1] - values[0], degrees, float(least))
