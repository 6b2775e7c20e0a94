"""Bounds far weaker than what was measured before, or no stronger than what guessing reaches by luck."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.limits import beyond_what_is_left, chance_of
from pytest_cliprobust.gating.measured import measured_in
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.rules import Kind, Rule, literal

#: What is left of the way from the figure to the worst must be at least this share.
_SHARE = 0.5


def weak_bounds(text: str, rules: Sequence[Rule]) -> list[str]:
    """Return a line for each bound that is far weaker than the figure that its comment names."""
    lines = text.split("\n")
    told = []
    for rule in rules:
        for kind in ("min", "max"):
            limit = rule.bounds.get(kind)
            if limit is None:
                continue
            row = lines[rule.lines.get(kind, rule.line) - 1]
            value = _far_from(rule, kind, limit, row)
            if value is not None:
                told.append(
                    f"{rule.where_of(kind)}: {kind} {limit:.12g} is far from the {value:.12g} that "
                    f"was measured: a model much worse would pass [{rule.id}]"
                )
    return told


def weak_for(
    rule: Rule, measurement: Measurement, classes: int | None, recorded: Figure | None = None
) -> list[str]:
    """Return a line for each bound that hardly gates a figure, unless the rule says why.

    Such an absolute bound lies where a model that guesses comes by luck, on as many samples, or more than
    half of the way from the recorded figure to chance. Such a margin allows more than is left to lose.

    Args:
        rule: that judges the figure.
        measurement: the figure.
        classes: number of classes, for the accuracy that guessing reaches; None if that is not known.
        recorded: the figure in the baseline; None if it is not there.
    """
    metric = METRICS.find(measurement.metric)
    if metric is None or metric.higher_is_better is None or rule.because:
        return []
    told = []
    kind: Kind = "max_decrease" if metric.higher_is_better else "max_increase"
    if recorded is not None and kind in rule.bounds:
        told = _weak_margin(rule, metric, kind, recorded, classes)
    return told + _weak_limit(rule, measurement, metric, classes, recorded)


def _weak_margin(
    rule: Rule, metric: Metric, kind: Kind, recorded: Figure, classes: int | None
) -> list[str]:
    """Return a line for a margin that allows more than the recorded figure can lose."""
    worst = beyond_what_is_left(metric, kind, rule.bounds[kind], recorded.value, classes)
    if worst is None:
        return []
    return [
        f"{rule.where_of(kind)}: {kind} {rule.bounds[kind]:.12g} of {metric.name} allows any loss: it was "
        f"recorded at {recorded.value:.4g}, and {worst:.3g} is the worst that a model comes to; write a "
        f"smaller margin, or say why with 'because' [{rule.id}]"
    ]


def _weak_limit(
    rule: Rule,
    measurement: Measurement,
    metric: Metric,
    classes: int | None,
    recorded: Figure | None,
) -> list[str]:
    """Return a line for an absolute bound that hardly gates."""
    kind: Kind = "min" if metric.higher_is_better else "max"
    limit = rule.bounds.get(kind)
    if limit is None:
        return []
    start = f"{rule.where_of(kind)}: {kind} {limit:.12g} of {metric.name} "
    end = lucky_guess(metric, classes, measurement.figure.n)
    if end is not None and (limit <= end if kind == "min" else limit >= end):
        return [
            f"{start}is within what guessing reaches by luck on {measurement.figure.n:,} samples "
            f"({end:.3g}): a model that guesses is not red; write a stronger bound, or say why with "
            f"'because' [{rule.id}]"
        ]
    if recorded is None or not _is_far(metric, kind, limit, _ends_of(recorded), classes):
        return []
    return [
        f"{start}is far from the {recorded.value:.4g} that was recorded: a model much worse would "
        f"pass; write a stronger bound, or say why with 'because' [{rule.id}]"
    ]


def lucky_guess(metric: Metric, classes: int | None, n: int) -> float | None:
    """Return how far a model that guesses may come on ``n`` samples; None if chance is not known.

    The better end of Wilson's 95% interval around chance.
    """
    chance = chance_of(metric, classes)
    if chance is None or n < 1 or not 0.0 <= chance <= 1.0:
        return None
    ends = wilson(chance * n, n)
    return ends.high if metric.higher_is_better else ends.low


def _ends_of(figure: Figure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def _far_from(rule: Rule, kind: Kind, limit: float, row: str) -> float | None:
    """Return the figure that the row's comment names, if the bound is far weaker."""
    metric = _metric_of(rule)
    items = measured_in(row)
    position = rule.place.element or 0
    item = items[position if position < len(items) else 0] if items else None
    if metric is None or item is None or kind != ("min" if metric.higher_is_better else "max"):
        return None
    return item[0] if _is_far(metric, kind, limit, item) else None


def _is_far(
    metric: Metric,
    kind: Kind,
    limit: float,
    measured: tuple[float, float, float],
    classes: int | None = None,
) -> bool:
    """Return whether a bound is far weaker than what was measured: (value, low, high)."""
    value, low, high = measured
    worst = _worst(metric, kind, value, classes)
    # Nor is a bound weak that lies within a width of the interval's bad end: recording writes such.
    end = (low - (high - low)) if kind == "min" else (high + (high - low))
    half = value + _SHARE * (worst - value)
    return limit < min(half, end) if kind == "min" else limit > max(half, end)


def _metric_of(rule: Rule) -> Metric | None:
    """Return the one metric that a rule is for, if it has a good direction."""
    names = [literal(pattern) for pattern in rule.selectors["metric"]]
    metric = METRICS.find(names[0]) if len(names) == 1 and names[0] is not None else None
    return None if metric is None or metric.higher_is_better is None else metric


def _worst(metric: Metric, kind: Kind, value: float, classes: int | None) -> float:
    """Return what guessing reaches, else the end of the range; without one, thrice the figure."""
    chance = chance_of(metric, classes)
    if chance is not None:
        return chance
    end = metric.low if kind == "min" else metric.high
    if end is None:
        return value - 2 * abs(value) if kind == "min" else value + 2 * abs(value)
    return max(end, 0.0) if kind == "min" else end
