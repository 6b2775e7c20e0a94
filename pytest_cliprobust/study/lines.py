"""The line of a property against ID accuracy, over models."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pytest_cliprobust.figures.arrays import Floats


@dataclass(frozen=True)
class Line:
    """A least-squares line y = intercept + slope · x.

    Attributes:
        intercept, slope: of the line.
        low, high: ends of the interval of the slope.
        n: number of models.
        residual: standard deviation of the models about the line.
        centre: mean of x.
        spread: Σ (x - centre)².
        correlation: Pearson's, with the ends of its interval.
        quantile: of Student's t for the interval's level.
    """

    intercept: float
    slope: float
    low: float
    high: float
    n: int
    residual: float
    centre: float
    spread: float
    correlation: tuple[float, float, float]
    quantile: float

    def at(self, x: Floats) -> Floats:
        """Return the line at ``x`` (M,)."""
        return self.intercept + self.slope * x

    def band(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the ends (M,) of the interval of the line itself at ``x`` (M,), point by point."""
        share = np.sqrt(1.0 / self.n + (x - self.centre) ** 2 / self.spread)
        half = self.quantile * self.residual * share
        return self.at(x) - half, self.at(x) + half


def fitted(x: Floats, y: Floats, confidence: float = 0.95) -> Line | None:
    """Return the line through models at ``x`` and ``y`` (M,); None if fewer than 3, or x does not vary.

    Intervals are Student's t, with M - 2 degrees of freedom, and Fisher's z for the correlation. They
    take models for independent draws, and so leave out that models are kin.
    """
    there = np.isfinite(x) & np.isfinite(y)
    x, y = x[there], y[there]
    if len(x) < 3 or np.ptp(x) <= 1e-9 * max(1.0, float(np.abs(x).max())):
        return None
    made = stats.linregress(x, y)
    freedom = len(x) - 2
    quantile = float(stats.t.ppf(0.5 + confidence / 2, freedom))
    residuals = y - (made.intercept + made.slope * x)
    residual = math.sqrt(float(residuals @ residuals) / freedom)
    spread = float(((x - x.mean()) ** 2).sum())
    half = quantile * residual / math.sqrt(spread)
    return Line(
        intercept=float(made.intercept),
        slope=float(made.slope),
        low=float(made.slope) - half,
        high=float(made.slope) + half,
        n=len(x),
        residual=residual,
        centre=float(x.mean()),
        spread=spread,
        correlation=correlation(x, y, confidence),
        quantile=quantile,
    )


def correlation(x: Floats, y: Floats, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return Pearson's correlation of two (M,) and the ends of its interval (Fisher's z).

    NaN if either does not vary; the interval is [-1, 1] below four models.
    """
    if len(x) < 2 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return (math.nan, math.nan, math.nan)
    r = float(np.corrcoef(x, y)[0, 1])
    if len(x) < 4:
        return (r, -1.0, 1.0)
    with np.errstate(divide="ignore"):
        z = np.arctanh(r)
    half = float(stats.norm.ppf(0.5 + confidence / 2)) / math.sqrt(len(x) - 3)
    return (r, float(np.tanh(z - half)), float(np.tanh(z + half)))
