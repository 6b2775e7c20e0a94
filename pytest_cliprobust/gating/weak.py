"""Bounds far weaker than what their own comment says was measured."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_cliprobust.figures.metrics import METRICS, Metric
from pytest_cliprobust.gating.limits import chance_of
from pytest_cliprobust.gating.measured import measured_in
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


def _far_from(rule: Rule, kind: Kind, limit: float, row: str) -> float | None:
    """Return the figure that the row's comment names, if the bound is far weaker."""
    metric = _metric_of(rule)
    items = measured_in(row)
    position = rule.place.element or 0
    item = items[position if position < len(items) else 0] if items else None
    if metric is None or item is None or kind != ("min" if metric.higher_is_better else "max"):
        return None
    value, low, high = item
    worst = _worst(metric, kind, value)
    # Nor is a bound weak that lies within a width of the interval's bad end: recording writes such.
    end = (low - (high - low)) if kind == "min" else (high + (high - low))
    half = value + _SHARE * (worst - value)
    weak = limit < min(half, end) if kind == "min" else limit > max(half, end)
    return value if weak else None


def _metric_of(rule: Rule) -> Metric | None:
    """Return the one metric that a rule is for, if it has a good direction."""
    names = [literal(pattern) for pattern in rule.selectors["metric"]]
    metric = METRICS.find(names[0]) if len(names) == 1 and names[0] is not None else None
    return None if metric is None or metric.higher_is_better is None else metric


def _worst(metric: Metric, kind: Kind, value: float) -> float:
    """Return what guessing reaches, else the end of the range; without one, thrice the figure."""
    chance = chance_of(metric)
    if chance is not None:
        return chance
    end = metric.low if kind == "min" else metric.high
    if end is None:
        return value - 2 * abs(value) if kind == "min" else value + 2 * abs(value)
    return max(end, 0.0) if kind == "min" else end
