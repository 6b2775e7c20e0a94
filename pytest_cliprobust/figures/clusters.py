"""Samples that come from units: what they are worth.

Several scenes of one drawing are right or wrong together. The variance of a mean over them is larger than
that over as many independent samples, by the *design effect* (Kish 1965).
"""

from __future__ import annotations

import math

import numpy as np

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints

#: Units of hits, and of misses, that are supposed where a share's design effect is estimated.
_SUPPOSED = 0.25


def variance_of_mean(values: Floats, units: Ints) -> float:
    """Return the variance of the mean of ``values`` (N,) whose units (N,) were drawn, not they.

    The linearised estimate of a ratio over clusters (Särndal, Swensson & Wretman 1992, section 5.6):
    U/(U-1) · Σ_u (Σ_i in u (y_i - mean))² / N². Infinite with a single unit.
    """
    sums = np.bincount(units, weights=values - values.mean())
    count = len(np.unique(units))
    if count < 2:
        return float("inf")
    return float(count / (count - 1.0) * (sums**2).sum() / len(values) ** 2)


def size_effect(units: Ints) -> float:
    """Return the design effect of samples that are alike within their unit: Σ n_u² / N."""
    sizes = np.bincount(units).astype(np.float64)
    return float((sizes**2).sum() / sizes.sum())


def design_effect_of_mean(values: Floats, units: Ints) -> float:
    """Return the design effect of the mean of ``values`` (N,), at least 1.

    Where the values are all the same they say nothing of it, and samples of a unit count as alike. Units
    that differ less than chance would have them are no reason for an interval below the usual one.
    """
    # Asked of the values themselves: a variance of equal ones need not round to zero.
    if np.ptp(values) == 0.0:
        return size_effect(units)
    single = float(values.var()) / len(values)
    return max(1.0, min(variance_of_mean(values, units) / single, float(len(values))))


def design_effect_of_share(hits: Bools, units: Ints) -> float:
    """Return the design effect of a share of True, at least 1, from units that few misses tell little of.

    One miss looks like one of independent samples, and its like are often misses of whole units. So a
    quarter of a unit of hits and as much of misses are supposed: with many misses they say next to nothing.
    """
    share, count = float(hits.mean()), len(hits)
    sizes = np.bincount(units).astype(np.float64)
    whole = size_effect(units)
    if share in (0.0, 1.0):
        return whole
    if np.count_nonzero(sizes) < 2:
        return float(count)
    total = count + 2.0 * _SUPPOSED * whole
    shrunk = (share * count + _SUPPOSED * whole) / total
    apart = np.bincount(units, weights=hits) - sizes * shrunk
    added = _SUPPOSED * whole**2 * ((1.0 - shrunk) ** 2 + shrunk**2)
    drawn = np.count_nonzero(sizes) + 2.0 * _SUPPOSED
    squares = drawn / (drawn - 1.0) * (float((apart**2).sum()) + added)
    return float(min(max(1.0, squares / (total * shrunk * (1.0 - shrunk))), count))


def degrees_of(samples: int, units: int | None) -> float:
    """Return the degrees of freedom that a design effect is estimated with; infinite without units.

    A single unit leaves none to estimate it with; its samples then count as one, which needs no allowance.
    """
    if units is None or units >= samples or units < 2:
        return math.inf
    return units - 1.0
