"""A figure's interval at another level, and the level that many comparisons need."""

from __future__ import annotations

import math

from scipy import special

from pytest_cliprobust.figures.clusters import degrees_of
from pytest_cliprobust.figures.ends import at_level, share_ends
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import (
    Interval,
    check_confidence,
    paired_score,
    two_sided_z,
)
from pytest_cliprobust.figures.resampling import METHODS, replicate_interval


def interval_at(figure: Figure, confidence: float) -> Interval:
    """Return a figure's interval at another level.

    At the figure's own level it is the figure's own. Else it is read off the figure's ends, if it has
    those; Wilson's and the score interval of a loss (``details`` has ``lost`` and ``gained``) are computed
    anew; replicates give theirs (:func:`replicate_interval`); without any of these the two half-widths are
    scaled by the ratio of normal quantiles.
    """
    check_confidence(confidence)
    if math.isclose(confidence, figure.confidence, rel_tol=0.0, abs_tol=1e-12):
        return Interval(figure.low, figure.high, figure.confidence, figure.method)
    if figure.ends is not None:
        return figure.ends.at(confidence, figure.method)
    if not all(math.isfinite(x) for x in (figure.value, figure.low, figure.high)):
        return Interval(math.nan, math.nan, confidence, figure.method)
    ends = _recomputed(figure, confidence)
    if ends is not None:
        return Interval(ends.low, ends.high, confidence, figure.method)
    stretch = two_sided_z(confidence) / two_sided_z(figure.confidence)
    if figure.interval is IntervalMethod.DELONG and 0.0 < figure.low < figure.high < 1.0:
        centre = float(special.logit(figure.value))
        low, high = (
            float(special.expit(centre + stretch * (float(special.logit(end)) - centre)))
            for end in (figure.low, figure.high)
        )
        return Interval(low, high, confidence, figure.method)
    return Interval(
        figure.value - stretch * (figure.value - figure.low),
        figure.value + stretch * (figure.high - figure.value),
        confidence,
        f"{figure.method} rescaled".strip(),
    )


def _recomputed(figure: Figure, confidence: float) -> Interval | None:
    """Return the interval from the counts or replicates that a figure keeps; None: it has none."""
    kind, details = figure.interval, figure.details
    trials = float(details.get("trials", figure.n))
    degrees = degrees_of(figure.n, figure.units)
    if kind is IntervalMethod.WILSON and trials > 0:
        low, high = at_level(share_ends(figure.value, trials, degrees), confidence)
        return Interval(low, high, confidence, figure.method)
    if kind is IntervalMethod.PAIRED_SCORE and {"lost", "gained"} <= details.keys():
        worth = trials / figure.n
        ends = paired_score(
            details["lost"] * worth, details["gained"] * worth, trials, confidence, degrees
        )
        return Interval(ends.low, ends.high, confidence, figure.method)
    if figure.replicates and kind is not IntervalMethod.DELONG:
        method = METHODS.get(kind, "percentile")
        return replicate_interval(
            figure.value, figure.replicates, confidence, method, units=figure.units
        )
    return None


def comparison_confidence(family_wise_error_rate: float, comparisons: int) -> float:
    """Return the confidence of each of ``comparisons`` intervals that keeps the family's error rate.

    Šidák's 1 − (1 − α)^(1/m) holds for two-sided intervals of jointly normal estimates whatever
    their correlation (Šidák 1967), which is what large-sample intervals over shared test images are;
    Bonferroni's α/m holds always and is at most a few percent wider. Holm's method is more powerful
    for tests but gives no intervals of its own: each step's level depends on the outcome of all other
    comparisons, which the single test, as it runs, cannot know. So: Šidák, single-step.

    Raises:
        ValueError: a rate outside (0, 1), or fewer than one comparison.
    """
    if not 0.0 < family_wise_error_rate < 1.0:
        raise ValueError(f"an error rate lies between 0 and 1, not {family_wise_error_rate!r}")
    if comparisons < 1:
        raise ValueError(f"at least one comparison is needed, not {comparisons}")
    return math.exp(math.log1p(-family_wise_error_rate) / comparisons)
