"""Tests of paired answers, and many tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.figures.arrays import Floats


def mcnemar_p(gains: int, losses: int) -> float:
    """Return the two-sided exact p-value of McNemar's test (binomial test of the discordant pairs)."""
    if gains < 0 or losses < 0:
        raise ValueError(f"counts cannot be negative: {gains}, {losses}")
    return min(1.0, 2.0 * float(special.bdtr(min(gains, losses), gains + losses, 0.5)))


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values (m,) adjusted by Holm's step-down method (1979): family-wise error rate."""
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise ValueError("p-values must be a flat array of numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    m = len(values)
    adjusted = np.empty(m)
    steps = np.maximum.accumulate(values[order] * (m - np.arange(m)))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted
