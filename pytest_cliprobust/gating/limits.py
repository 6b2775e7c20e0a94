"""Bounds that say nothing: outside what a metric can be, beyond what any model misses, weaker than chance."""

from __future__ import annotations

from pytest_cliprobust.figures.metrics import Metric
from pytest_cliprobust.gating.rules import CHANGES, Kind

#: No figure of a metric without a limit comes near this, whatever the model.
BEYOND = 1e6


def why_useless(metric: Metric, kind: Kind, limit: float) -> str:
    """Return why a bound tells no model from another; empty if it does."""
    low = -BEYOND if metric.low is None else metric.low
    high = BEYOND if metric.high is None else metric.high
    if kind in CHANGES:
        most = _largest_change(metric)
        verb = "rise" if kind == "max_increase" else "fall"
        told = (
            f"no model misses it: {metric.name} cannot {verb} by more{_of_percent(metric, limit)}"
        )
        return "" if limit < most else told
    if kind == "min":
        unmissed, unmet, ends = limit <= low, limit > high, ("below", "above")
    else:
        unmissed, unmet, ends = limit >= high, limit < low, ("above", "below")
    end, other = (low, high) if kind == "min" else (high, low)
    if unmissed:
        return f"no model misses it: {metric.name} is never {ends[0]} {_shown(end)}"
    if not unmet:
        return ""
    percent = _of_percent(metric, limit)
    return f"no model meets it: {metric.name} is never {ends[1]} {_shown(other)}{percent}"


def why_not_gated(metric: Metric, kind: Kind) -> str:
    """Return why a metric's figures cannot be held to a bound of a kind; empty if they can.

    A figure whose interval misses the truth too often is reported, but a verdict on it would be wrong as
    often (``benchmarks/coverage.py`` measures how often).
    """
    may = metric.change_gateable if kind in CHANGES else metric.gateable
    return "" if may else metric.why_not_gateable


def _of_percent(metric: Metric, limit: float) -> str:
    """Return what a bound is as a share where it may have been meant in percent: `` (80% is 0.8)``."""
    return f" ({limit:g}% is {limit / 100:g})" if metric.high == 1.0 < limit <= 100.0 else ""


def _shown(end: float) -> str:
    return f"{end:g}" if abs(end) < BEYOND else f"{end:,.0f} or so"


def _largest_change(metric: Metric) -> float:
    """Return the change that no two models differ by: a drop from -1 to 1 is none that happens."""
    if metric.low is None or metric.high is None:
        return BEYOND
    if metric.higher_is_better is None:
        return metric.high - metric.low
    return max(abs(metric.low), abs(metric.high))


def chance_of(metric: Metric, classes: int | None = None) -> float | None:
    """Return what guessing reaches, where it is known; ``classes``: number of classes, if known."""
    if callable(metric.chance):
        return None if classes is None else metric.chance(classes)
    return metric.chance


def weaker_than_chance(
    metric: Metric, kind: Kind, limit: float, classes: int | None = None
) -> float | None:
    """Return the chance that a bound does not exceed; None if it does, or if chance is not known."""
    chance = chance_of(metric, classes)
    if chance is None or kind != ("min" if metric.higher_is_better else "max"):
        return None
    weaker = limit <= chance if metric.higher_is_better else limit >= chance
    return chance if weaker else None


def beyond_what_is_left(
    metric: Metric, kind: Kind, limit: float, recorded: float, classes: int | None = None
) -> float | None:
    """Return the worst that a model comes to if a margin allows it, and more; None if it does not.

    That is what guessing reaches, else the end of the metric's range: a margin of 0.9 on an accuracy that was
    recorded at 0.84 holds for any model.

    Args:
        metric: of the figure.
        kind: of the bound; only a margin on the bad side of a metric that has one is looked at.
        limit: the bound.
        recorded: the figure in the baseline.
        classes: number of classes, for the accuracy that guessing reaches; None if that is not known.
    """
    falls = kind == "max_decrease"
    if kind not in CHANGES or metric.higher_is_better is not falls:
        return None
    chance = chance_of(metric, classes)
    end = metric.low if falls else metric.high
    worst = end if chance is None else chance
    if worst is None:
        return None
    reached = recorded - limit if falls else recorded + limit
    return worst if (reached <= worst if falls else reached >= worst) else None


def chance_text(chance: float) -> str:
    """``weaker than chance (0.7%), ...``, as messages say it."""
    return (
        f"weaker than chance ({100 * chance:.2g}%): a model that guesses passes; "
        "write a stronger bound, or say why with 'because'"
    )
