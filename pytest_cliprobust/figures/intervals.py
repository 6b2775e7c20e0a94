"""Intervals in closed form: of shares, of paired changes of shares, and how many samples one needs.

Everything in this folder is numpy in float64, deterministic, and free of torch. Which interval for what:

* an accuracy on independent samples: :func:`~.resampling.proportion` (Wilson's score interval);
* a figure reported per class, or any other function of the samples: :func:`~.resampling.bootstrap`;
* an AUROC: :func:`~.auroc.auroc` (DeLong's variance on the logit scale);
* one run against another on the same samples: :func:`~.paired.mcnemar`, :func:`~.paired.paired_bootstrap`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from pytest_cliprobust.errors import ClipRobustError


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float
    confidence: float
    method: str


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


def _check_count(successes: float, trials: int) -> None:
    if trials < 1:
        raise ClipRobustError("an accuracy over no samples has no interval; check the data set")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes out of {trials} trials")


def wilson(successes: float, trials: int, confidence: float = 0.95) -> Interval:
    """Return the score interval for a proportion (Wilson 1927; Newcombe 1998, method 3).

    ``successes`` may be a fraction (an AUROC times its number of pairs, say).

    Raises:
        ClipRobustError: no trials.
        ValueError: more successes than trials, or a confidence outside (0, 1).
    """
    _check_count(successes, trials)
    z = two_sided_z(confidence)
    share = successes / trials
    scale = 1.0 + z * z / trials
    centre = (share + z * z / (2.0 * trials)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high, confidence, "Wilson")


def agresti_min(gains: int, losses: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the interval for ``(gains - losses) / n`` over ``n`` pairs (Agresti & Min 2005).

    Wald's, with half a pair added to each of the four cells; it does not collapse where no pair is
    discordant.
    """
    total = n + 2.0
    centre = (gains - losses) / total
    spread = (gains + losses + 1.0) - (gains - losses) ** 2 / total
    half = two_sided_z(confidence) * math.sqrt(spread) / total
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return Interval(low, high, confidence, "paired, Agresti-Min")


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
