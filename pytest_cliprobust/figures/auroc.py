"""AUROC with DeLong's interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import two_sided_z, wilson


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


def auroc(
    metric: str,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    confidence: float = 0.95,
    details: Mapping[str, Any] | None = None,
) -> Figure:
    """Return an AUROC as a figure, with DeLong's variance on the logit scale (Pepe 2003, 5.2).

    Where the variance is zero (the classes are perfectly apart) it says nothing; the interval is
    then Wilson's over min(m, n) disjoint positive-negative pairs, which is valid and conservative.
    Scores with NaN give a NaN figure.

    Args:
        metric: name of the metric.
        positive: (m,) scores of the positive class.
        negative: (n,) scores of the negative class.
        confidence: level of the interval.
        details: see :class:`Figure`.

    Raises:
        ClipRobustError: fewer than two samples of either class.
    """
    above = np.asarray(positive, dtype=np.float64).ravel()
    below = np.asarray(negative, dtype=np.float64).ravel()
    extra = {**(details or {}), "positives": len(above), "negatives": len(below)}
    total = len(above) + len(below)
    if np.isnan(above).any() or np.isnan(below).any():
        nan = math.nan
        return Figure(metric, nan, nan, nan, total, confidence, "DeLong", details=extra)
    areas, covariance = delong(above, below)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if variance > 0.0 and 0.0 < area < 1.0:
        centre = float(special.logit(area))
        half = two_sided_z(confidence) * math.sqrt(variance) / (area * (1.0 - area))
        low, high = float(special.expit(centre - half)), float(special.expit(centre + half))
        method, kind = "DeLong", IntervalMethod.DELONG
    else:
        pairs = min(len(above), len(below))
        ends = wilson(area * pairs, pairs, confidence)
        low, high = ends.low, ends.high
        method, kind = "Wilson over disjoint pairs (DeLong's variance is 0)", IntervalMethod.WILSON
        extra["trials"] = pairs
    return Figure(metric, area, low, high, total, confidence, method, details=extra, interval=kind)
