"""The ends of an interval at every level.

A verdict may ask for another level than a figure's own (many comparisons at once), and so may a comparison
with another run. An interval that follows from no few numbers is therefore kept as a curve: its ends on a
grid of normal quantiles, between which they are interpolated. (Such a curve is a confidence distribution,
Xie & Singh 2013.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import special

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.intervals import Interval, student, two_sided_z

#: From the chances (L,) left out on either side, to the lower and the upper ends (L,).
EndsAt: TypeAlias = Callable[[Floats], tuple[Floats, Floats]]

#: Two-sided normal quantiles at which ends are kept; the last stands for all but 2e-9.
GRID: Floats = np.linspace(0.0625, 6.0, 96)
#: What is left out on either side there.
TAILS: Floats = special.ndtr(-GRID)


@dataclass(frozen=True)
class Ends:
    """Lower and upper ends at the levels of :data:`GRID`.

    Attributes:
        lows, highs: one for each level; they move apart as it rises.
        bounds: what neither can leave.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @classmethod
    def of(cls, at: EndsAt, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Ends:
        """Return the ends that a function gives on the grid."""
        lows, highs = at(TAILS)
        return cls(
            tuple(np.minimum.accumulate(lows).tolist()),
            tuple(np.maximum.accumulate(highs).tolist()),
            bounds,
        )

    def at(self, confidence: float, method: str = "") -> Interval:
        """Return the interval at a level, linear in the normal quantile between those of the grid.

        Beyond them the last step goes on. Ends that are not finite stay so.
        """
        z = two_sided_z(confidence)
        low = max(_read(self.lows, z), self.bounds[0])
        high = min(_read(self.highs, z), self.bounds[1])
        return Interval(low, high, confidence, method)


def _read(ends: tuple[float, ...], z: float) -> float:
    step = float(GRID[1] - GRID[0])
    place = max(z / step - 1.0, 0.0)
    before = min(int(place), len(ends) - 2)
    first, second = ends[before], ends[before + 1]
    if not (math.isfinite(first) and math.isfinite(second)):
        return first if place == before else second
    return first + (second - first) * (place - before)


@dataclass(frozen=True)
class Compared:
    """The change of a statistic between two runs on the same samples.

    Attributes:
        difference: the estimate of the change; that of the two figures, unless those are biased.
        ends: of its interval.
        standard_error: of the estimate.
        design_effect: of the estimate.
    """

    difference: float
    ends: Ends
    standard_error: float
    design_effect: float = 1.0


def at_level(at: EndsAt, confidence: float) -> tuple[float, float]:
    """Return the ends at one level."""
    lows, highs = at(np.array([(1.0 - confidence) / 2.0]))
    return float(lows[0]), float(highs[0])


def within(at: EndsAt, value: float, bounds: tuple[float, float]) -> EndsAt:
    """Return ends that keep to ``bounds`` and hold ``value``; NaN where they are NaN."""

    def clipped(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = at(tails)
        return (
            np.minimum(np.maximum(lows, bounds[0]), value),
            np.maximum(np.minimum(highs, bounds[1]), value),
        )

    return clipped


def on_logits(value: float, error: float, degrees: float) -> EndsAt:
    """Return Student's ends around a share's logit.

    Args:
        value: in (0, 1).
        error: standard error of the logit.
        degrees: degrees of freedom.
    """
    centre = float(special.logit(value))

    def at(tails: Floats) -> tuple[Floats, Floats]:
        half = student(tails, degrees) * error
        return np.asarray(special.expit(centre - half)), np.asarray(special.expit(centre + half))

    return at


def share_ends(share: float, trials: float, degrees: float = math.inf) -> EndsAt:
    """Return the ends of a share at every level: Wilson's, and exact ones where Wilson's fall short.

    Near 0 and 1 Wilson's interval misses more than it says at the share that one or two successes just
    leave out (Brown, Cai & DasGupta 2001, section 4.1.1). They replace its end there by a one-sided exact
    one at twice the chance; so does the hull with Clopper & Pearson's (1934) at that chance, which lies
    inside Wilson's elsewhere.

    Args:
        share: in [0, 1].
        trials: independent trials that the samples are worth; a fraction, perhaps.
        degrees: of freedom that this worth was estimated with.
    """
    hits, misses = share * trials, (1.0 - share) * trials

    def at(tails: Floats) -> tuple[Floats, Floats]:
        t = student(tails, degrees)
        square = t**2 / trials
        centre = (share + square / 2.0) / (1.0 + square)
        half = np.sqrt(share * (1.0 - share) * square + square**2 / 4.0) / (1.0 + square)
        lows, highs = np.zeros_like(square), np.ones_like(square)
        twice = np.maximum(2.0 * special.ndtr(-t), 1e-12)  # further out Wilson's is the wider one
        if hits > 0.0:
            lows = np.minimum(centre - half, special.betaincinv(hits, misses + 1.0, twice))
        if misses > 0.0:
            highs = np.maximum(centre + half, special.betainccinv(hits + 1.0, misses, twice))
        return lows, highs

    return at


def hull(*parts: EndsAt) -> EndsAt:
    """Return the ends of the smallest interval that holds all of ``parts``' at each level."""

    def at(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = zip(*(part(tails) for part in parts), strict=True)
        return np.asarray(np.min(lows, axis=0)), np.asarray(np.max(highs, axis=0))

    return at


def packed(ends: Ends | None) -> list[float]:
    """Return the numbers of a curve in one row; empty without one."""
    return [] if ends is None else [*ends.lows, *ends.highs, *ends.bounds]


def unpacked(numbers: Any) -> Ends | None:
    """Return the curve that :func:`packed` made a row of; None for another number of them."""
    row = tuple(float(number) for number in numbers)
    count = len(GRID)
    if len(row) != 2 * count + 2:
        return None
    return Ends(row[:count], row[count:-2], (row[-2], row[-1]))
