"""AUROC with DeLong's interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap
from pytest_cliprobust.figures.clusters import variance_of_mean
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import two_sided_z, wilson
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
        v10[k] = (joint[:m] - _midranks(above[k])) / n
        v01[k] = 1.0 - (joint[m:] - _midranks(below[k])) / m
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

    With several samples a unit the variance is over units (Obuchowski 1997). Where it is zero (the
    classes are perfectly apart) it says nothing; the interval is then Wilson's over as many disjoint
    positive-negative pairs as there are units of the rarer class, which is valid and conservative.
    Scores with NaN give a NaN figure.

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
    confidence = bootstrap.confidence
    if np.isnan(above).any() or np.isnan(below).any():
        nan = math.nan
        return Figure(metric, nan, nan, nan, total, confidence, "DeLong", details=extra)
    value = float(delong(above, below)[0][0])
    keys = bootstrap.keys
    codes = np.arange(total) if keys is None else keys.codes
    parts = placements(above, below)
    variance = variance_of_area(*parts, codes)
    if variance > 0.0 and 0.0 < value < 1.0 and math.isfinite(variance):
        centre = float(special.logit(value))
        half = two_sided_z(confidence) * math.sqrt(variance) / (value * (1.0 - value))
        low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
        method, kind = "DeLong", IntervalMethod.DELONG
    else:
        pairs = min(len(np.unique(codes[:m])), len(np.unique(codes[m:])))
        ends = wilson(value * pairs, pairs, confidence)
        low, high = ends.low, ends.high
        method, kind = "Wilson over disjoint pairs (DeLong's variance is 0)", IntervalMethod.WILSON
        extra["trials"] = pairs
    single = variance_of_area(*parts, np.arange(total))
    inside = np.arange(total) < m
    return Figure(
        metric,
        value,
        low,
        high,
        total,
        confidence,
        method,
        details=extra,
        interval=kind,
        units=bootstrap.units(total),
        design_effect=variance / single if single > 0.0 and math.isfinite(variance) else 1.0,
        outcomes=Outcomes(
            {"score": np.concatenate([above, below])},
            area,
            attributes={"inside": inside, "stratum": inside.astype(np.int64)},
            keys=keys,
        ),
    )
