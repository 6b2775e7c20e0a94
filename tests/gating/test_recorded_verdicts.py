"""What is said of a few dozen figures against bounds, word for word, as the record has it.

That it is right is for the other tests to show. This one holds that no word, number or margin of it moves
unnoticed. After a change that is meant, look at what differs and record anew::

    PYTHONPATH=tests python tests/gating/test_recorded_verdicts.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gating_helpers import HEAD, baseline_of
from made_up import PARTS, flat, rounded, same

from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.margins import decidable
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.suggestion import suggest_bound
from pytest_cliprobust.gating.verdict import judge

#: With the newest libraries only: older ones' arithmetic differs in its last bits, which may decide.
pytestmark = pytest.mark.slow

RECORD = Path(__file__).with_name("verdicts.json")

#: Those whose every digit follows from counts and sums: no fit, no other library.
CHOSEN = ("accuracies", "detections", "matches")


def measured(figure: Figure) -> Measurement:
    filed = figure if figure.condition is not None else figure.measured_on(Condition("mine"))
    return Measurement("own", "tiny", filed)


def rule(figure: Figure, bounds: str) -> Rule:
    text = f"{HEAD}[[threshold]]\nmetric = '{figure.metric}'\nbecause = 'why'\n{bounds}\n"
    return parse_thresholds(text, "t.toml").rules[0]


def bounds_of(figure: Figure, margin: float) -> Iterator[str]:
    """Yield bounds that are kept, undecided and missed, on the figure and on its change."""
    metric = METRICS.named(figure.metric)
    better = metric.higher_is_better is not False
    side, sign = ("min", -1.0) if better else ("max", 1.0)
    width = figure.high - figure.low
    for away in (1.2, 0.2, -1.7):
        limit = figure.value + sign * away * width
        if metric.bounds[0] < limit < metric.bounds[1]:
            yield f"{side} = {limit:.4f}"
    yield f"{'max_decrease' if better else 'max_increase'} = {margin:.4f}"


def said(earlier: Figure, figure: Figure) -> dict[str, Any]:
    """Return margin, proposed bounds and verdicts of a figure, with another run's as the baseline."""
    policy, metric = Policy(), METRICS.named(figure.metric)
    margin = decidable(figure, policy, 0.001)
    told = []
    for bounds in bounds_of(figure, margin.size if margin else 0.05):
        found = rule(figure, bounds)
        baseline = baseline_of(measured(earlier))
        now = measured(figure)
        verdict = judge(now, found, policy, baseline=baseline, error_rate=0.01, noise_floor=0.001)
        told.append(
            [
                failure_message(verdict, now, ["pytest", "a b"]),
                verdict.p_value,
                verdict.samples_needed,
            ]
        )
    width = figure.high - figure.low
    proposed = [
        suggest_bound(figure.low, width, 0.5, "min", metric, 0.001),
        suggest_bound(figure.high, width, 0.5, "max", metric, 0.001),
    ]
    return {
        "metric": figure.metric,
        "margin": None
        if margin is None
        else [margin.size, margin.standard_error, margin.samples_for(0.01)],
        "proposed": proposed,
        "verdicts": rounded(told),
    }


def seen() -> list[dict[str, Any]]:
    """Return what is said of every fourth figure that a threshold may bound."""
    pairs = [
        pair
        for part in CHOSEN
        for pair in zip(flat(PARTS[part](0)), flat(PARTS[part](1)), strict=True)
        if pair[0].outcomes is not None and METRICS.named(pair[0].metric).gateable
    ]
    return [rounded(said(earlier, figure)) for earlier, figure in pairs[::4]]


def record() -> None:
    """Write down what is said, one figure a line."""
    RECORD.write_text("[\n" + ",\n".join(map(json.dumps, seen())) + "\n]\n", encoding="utf-8")


def test_verdicts_are_those_of_the_record() -> None:
    then = json.loads(RECORD.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(seen()))
    assert [one["metric"] for one in now] == [one["metric"] for one in then]
    for one, other in zip(now, then, strict=True):
        same(one, other, one["metric"])


if __name__ == "__main__":
    record()
