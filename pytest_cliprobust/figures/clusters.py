"""Samples that come from units: what they are worth.

Several scenes of one drawing are right or wrong together. The variance of a mean over them is larger than
that over as many independent samples, by the *design effect* (Kish 1965).
"""

from __future__ import annotations

import numpy as np

from pytest_cliprobust.figures.arrays import Floats, Ints


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
