"""Intervals in closed form: of shares, of paired changes of shares, and how many samples one needs.

Everything in this folder is numpy in float64, deterministic, and free of torch. Which interval for what:

* an accuracy, or another share: :func:`wilson`;
* a paired change of a share: :func:`paired_score`;
* another mean, or what is nearly one: :mod:`~.means`;
* a sum of absolute values over bins: :mod:`~.binned`; the least or largest of several: :mod:`~.extremes`;
* any other function of the samples: the bootstrap (:func:`~.bootstrap.bootstrap_figure`);
* an AUROC: :func:`~.auroc.auroc` (DeLong's variance on the logit scale, and Newcombe's);
* one run against another on the same samples: :func:`~.change.change_between`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True)
class PairedInterval:
    """Intervals of paired differences: arrays of the shape that was asked for."""

    lows: Floats
    highs: Floats
    confidence: float

    @property
    def low(self) -> float:
        """Lower end, of a single one."""
        return float(self.lows)

    @property
    def high(self) -> float:
        """Upper end, of a single one."""
        return float(self.highs)


def check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence!r}")


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile of ``probability``."""
    return float(special.ndtri(probability))


def two_sided_z(confidence: float) -> float:
    check_confidence(confidence)
    # Through the lower tail: 1 - alpha/2 would round to 1 for very small alpha.
    return -normal_quantile((1.0 - confidence) / 2.0)


def student(tails: Floats, degrees: float) -> Floats:
    """Return Student's quantiles (L,) that leave out ``tails`` above; NaN without degrees of freedom."""
    if not degrees > 0.0:
        return np.full(len(tails), math.nan)
    if math.isinf(degrees):
        return np.asarray(-special.ndtri(tails))
    return np.asarray(-special.stdtrit(degrees, tails))


def two_sided_t(confidence: float, degrees: float) -> float:
    """Return Student's quantile of a two-sided interval; the normal one for infinite degrees."""
    check_confidence(confidence)
    return float(student(np.array([(1.0 - confidence) / 2.0]), degrees)[0])


def _check_count(successes: float, trials: float) -> None:
    if not trials > 0:
        raise ClipRobustError("an accuracy over no samples has no interval; check the data set")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes out of {trials} trials")


def wilson(
    successes: float, trials: float, confidence: float = 0.95, degrees: float = math.inf
) -> Interval:
    """Return the score interval for a proportion (Wilson 1927; Newcombe 1998, method 3).

    Both may be fractions: what clustered samples are worth (Dean & Pagano 2015). That worth is estimated
    from the units, so that Student's quantile with their ``degrees`` of freedom stands in the place of the
    normal one, which is the allowance of Korn & Graubard (1998).

    Raises:
        ClipRobustError: no trials.
        ValueError: more successes than trials, or a confidence outside (0, 1).
    """
    _check_count(successes, trials)
    z = two_sided_t(confidence, degrees)
    share = successes / trials
    scale = 1.0 + z * z / trials
    centre = (share + z * z / (2.0 * trials)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high, confidence, "Wilson")


def paired_score(
    first: ArrayLike,
    second: ArrayLike,
    n: ArrayLike,
    confidence: float = 0.95,
    degrees: float = math.inf,
) -> PairedInterval:
    """Return the score interval of a paired difference of shares, (first - second) / n (Tango 1998).

    The ends are the differences δ at which (first - second - n·δ) / √(n·(2q + δ(1 - δ))) is ±z, q being
    the maximum-likelihood share of ``second`` at δ. It does not collapse where nothing changed, and
    keeps its level where all changes go one way. Counts may be fractions (what clustered pairs are
    worth), and arrays, which are computed together.

    Args:
        first: pairs that speak for the difference (right only before).
        second: pairs that speak against it.
        n: number of pairs, above 0.
        confidence: of the two-sided interval.
        degrees: of freedom, as for :func:`wilson`.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    z = two_sided_t(confidence, degrees)
    b, c, pairs = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (first, second, n))
    )
    estimate = (b - c) / pairs

    def score(delta: Floats) -> Floats:
        middle = -b - c + (2.0 * pairs - b + c) * delta
        last = -c * delta * (1.0 - delta)
        root = np.sqrt(np.maximum(middle * middle - 8.0 * pairs * last, 0.0))
        share = (root - middle) / (4.0 * pairs)
        spread = pairs * (2.0 * share + delta * (1.0 - delta))
        away = b - c - pairs * delta
        with np.errstate(divide="ignore", invalid="ignore"):
            value = away / np.sqrt(np.maximum(spread, 0.0))
        return np.asarray(np.where(np.abs(away) <= 1e-12 * pairs, 0.0, value))

    def end(sign: float) -> Floats:
        inside, outside = estimate.copy(), np.full(estimate.shape, sign)
        for _ in range(60):
            middle = (inside + outside) / 2.0
            far = -sign * score(middle) > z
            outside, inside = np.where(far, middle, outside), np.where(far, inside, middle)
        return np.asarray(outside)

    return PairedInterval(end(-1.0), end(1.0), confidence)


def samples_needed(
    value: float,
    low: float,
    high: float,
    n: int,
    bound: float,
    *,
    confidence: float = 0.95,
    power: float = 0.5,
) -> int | None:
    """Return the n at which the interval would lie wholly on one side of ``bound``.

    The half-width facing the bound shrinks with 1/sqrt(n). If the value stayed as it is, n times the
    square of half-width over distance would do; since it will not, that decides with probability 0.5
    only, and ``power`` asks for more: the distance must then be z(confidence) + z(power) standard
    errors.

    Args:
        value: the point estimate.
        low: lower end of the interval at ``confidence``.
        high: upper end of the interval at ``confidence``.
        n: present number of samples.
        bound: the bound to decide on.
        confidence: level of the interval.
        power: probability of a decision, 0.5 to below 1.

    Returns:
        The number of samples, at least 1; None if no number would do (the value sits on the bound,
        or is not finite).
    """
    if not 0.5 <= power < 1.0:
        raise ValueError(f"power must be at least 0.5 and below 1, not {power!r}")
    half = high - value if bound >= value else value - low
    distance = abs(bound - value)
    if not (math.isfinite(half) and math.isfinite(distance)) or distance == 0.0 or n < 1:
        return None
    z = two_sided_z(confidence)
    ratio = max(half, 0.0) / distance * (1.0 + normal_quantile(power) / z)
    needed = n * ratio * ratio  # a power would raise where a product overflows to infinity
    return max(1, math.ceil(needed - 1e-9)) if math.isfinite(needed) else None
