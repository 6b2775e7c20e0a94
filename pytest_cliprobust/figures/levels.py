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
