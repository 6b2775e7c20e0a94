"""Verdicts: interval against bound, baselines, policies."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from gating_helpers import condition
from gating_helpers import temperature as measure
from gating_helpers import temperature_rule as rule
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import intervals, levels, resampling
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.policy import Inconclusive, Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.verdict import Verdict, judge

WARN = Policy()


@pytest.mark.parametrize(
    ("interval", "bounds", "status"),
    [
        ((0.5, 0.4, 0.6), {"max": 0.7}, "pass"),
        ((0.5, 0.4, 0.6), {"max": 0.6}, "pass"),
        ((0.5, 0.4, 0.6), {"max": 0.5999}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"max": 0.4}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"max": 0.3999}, "fail"),
        ((0.5, 0.4, 0.6), {"min": 0.3}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.4}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.4001}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.6}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.6001}, "fail"),
        ((0.5, 0.4, 0.6), {"min": 0.3, "max": 0.7}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.3, "max": 0.55}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.45, "max": 0.3999 + 0.1}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.1, "max": 0.2}, "fail"),
        # A biased bootstrap whose interval leaves out the estimate: both must be on the good side.
        ((0.5, 0.52, 0.6), {"min": 0.51}, "inconclusive"),
        ((0.5, 0.52, 0.6), {"max": 0.51}, "inconclusive"),
    ],
)
def test_the_whole_interval_decides(
    interval: tuple[float, float, float], bounds: dict[str, float], status: str
) -> None:
    verdict = judge(measure(*interval), rule(**bounds), WARN)
    assert verdict.kind in bounds
    assert verdict.limit == bounds[str(verdict.kind)]
    assert verdict.status == status
    assert verdict.outcome == {"pass": "pass", "fail": "fail", "inconclusive": "warn"}[status]
    assert verdict.failed == (status == "fail")
    assert (verdict.samples_needed is not None) == (
        status == "inconclusive" and verdict.limit != 0.5
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(-1.5, 1.5))
def test_min_mirrors_max(value: float, below: float, above: float, bound: float) -> None:
    upper = judge(measure(value, value - below, value + above), rule(max=bound), WARN)
    lower = judge(measure(-value, -value - above, -value + below), rule(min=-bound), WARN)
    assert upper.status == lower.status
    assert upper.missed_by == lower.missed_by
    assert upper.samples_needed == lower.samples_needed


@pytest.mark.parametrize("policy", ["fail", "warn", "pass"])
def test_the_policy_says_what_undecided_counts_as(policy: Inconclusive) -> None:
    verdict = judge(measure(0.5, 0.4, 0.6), rule(max=0.55), Policy(policy))
    assert (verdict.status, verdict.outcome) == ("inconclusive", policy)
    assert verdict.samples_needed == intervals.samples_needed(0.5, 0.4, 0.6, 400, 0.55, power=0.8)
    assert f"counts this as a {policy}".replace("fail", "failure").replace("warn", "warning") in (
        failure_message(verdict, measure(0.5, 0.4, 0.6))
    )


@pytest.mark.parametrize("policy", ["warn", "pass"])
@pytest.mark.parametrize("bounds", [{"max": 1e9}, {"min": -1e9}, {"max_increase": 1e9}, None])
@pytest.mark.parametrize(
    "figure",
    [
        (math.nan, 0.0, 1.0, 10),
        (math.inf, 0.0, 1.0, 10),
        (-math.inf, 0.0, 1.0, 10),
        (0.5, math.nan, 1.0, 10),
        (0.5, 0.0, math.nan, 10),
        (0.5, 0.0, math.inf, 10),
        (0.5, 0.0, 1.0, 0),
    ],
)
def test_what_is_not_finite_is_never_green(
    figure: tuple[float, float, float, int], bounds: dict[str, float] | None, policy: Inconclusive
) -> None:
    measurement = measure(*figure)
    baseline = {measurement.key: measure(0.5, 0.4, 0.6).figure}
    found = rule(**bounds) if bounds else None
    verdict = judge(measurement, found, Policy(policy), baseline=baseline)
    assert (verdict.status, verdict.outcome) == ("fail", "fail")
    message = failure_message(verdict, measurement)
    assert "cannot be judged" in message
    assert "finite" in message or "no samples" in message
    assert Verdict.from_dict(json.loads(json.dumps(verdict.as_dict(), allow_nan=False))) is not None


def test_what_is_missing_is_never_green() -> None:
    verdict = judge(None, rule(max=1.0), Policy("pass"), key="calibration/ece")
    assert verdict.failed
    message = failure_message(verdict, None, "pytest x")
    assert message.startswith("calibration/ece: nothing was measured")
    assert "bound     max 1 (t.toml:4), because: it matters" in message
    assert judge(None, None, WARN).failed


def test_without_a_bound() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    free = judge(measurement, None, WARN)
    assert (free.status, free.outcome, free.bound, free.where) == ("unbounded", "pass", "", "")
    assert (free.kind, free.limit) == (None, None)
    policy = Policy(require_bound=True, where="t.toml:3")
    strict = judge(measurement, None, policy)
    assert (strict.status, strict.outcome) == ("unbounded", "fail")
    assert "no bound applies, and t.toml:3 requires one" in failure_message(strict, measurement)


def test_the_level_of_the_policy_is_used() -> None:
    hits = np.arange(400) < 300
    figure = resampling.proportion("accuracy", hits, replicates=0)
    measurement = Measurement("corruption", "reference", figure.measured_on(condition()))
    text = 'schema = 1\n[[threshold]]\nmetric = "accuracy"\nmin = 0.70\n'
    bound = parse_thresholds(text).rules[0]
    assert judge(measurement, bound, Policy(confidence=0.95)).status == "pass"
    wide = judge(measurement, bound, Policy(confidence=0.999))
    assert wide.status == "inconclusive"
    assert wide.low == intervals.wilson(300, 400, 0.999).low
    family = Policy(family_wise_error_rate=0.05)
    assert judge(measurement, bound, family).status == "pass"
    many = judge(measurement, bound, family, comparisons=50)
    assert many.status == "inconclusive"
    assert many.confidence == pytest.approx(levels.comparison_confidence(0.05, 50))
    assert "99.8975% interval" in failure_message(many, measurement)


def test_a_family_of_true_nulls_is_rarely_wrong() -> None:
    """With an error rate of 0.1 over 20 bounds, a run decides wrongly at most that often."""
    generator = np.random.default_rng(3)
    policy = Policy(family_wise_error_rate=0.1)
    bound = rule(max=0.0)
    wrong = 0
    for row in generator.normal(size=(150, 20)):
        z = 1.959964
        verdicts = [judge(measure(v, v - z, v + z), bound, policy, comparisons=20) for v in row]
        wrong += any(verdict.status != "inconclusive" for verdict in verdicts)
    assert wrong / 150 < 0.1 + 3 * math.sqrt(0.09 / 150)
    assert wrong > 0


def test_the_noise_floor_widens_both_ends() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    assert judge(measurement, rule(max=0.61), WARN).status == "pass"
    assert judge(measurement, rule(max=0.61), WARN, noise_floor=0.02).status == "inconclusive"
    assert judge(measurement, rule(max=0.39), WARN).status == "fail"
    assert judge(measurement, rule(max=0.39), WARN, noise_floor=0.02).status == "inconclusive"
    with pytest.raises(ClipRobustError, match="noise floor"):
        judge(measurement, None, WARN, noise_floor=-1.0)


def runs() -> tuple[Measurement, Measurement]:
    """A model and its successor, right on 3% fewer of the same 2,000 samples."""
    generator = np.random.default_rng(7)
    before = generator.uniform(size=2000) < 0.7
    after = before & (generator.uniform(size=2000) < 0.97)
    first, second = (
        resampling.proportion("accuracy", hits, samples="ids") for hits in (before, after)
    )
    return (
        Measurement("corruption", "v1", first.measured_on(condition())),
        Measurement("corruption", "v2", second.measured_on(condition())),
    )


def accuracy_rule(bounds: str) -> Rule:
    text = f'schema = 1\n[[threshold]]\nmetric = "accuracy"\n{bounds}\n'
    return parse_thresholds(text, "t.toml").rules[0]


def test_a_drop_against_the_baseline_is_judged_in_pairs() -> None:
    before, after = runs()
    policy = Policy(baseline_model="v1")
    baseline = {before.key: before.figure}
    small = accuracy_rule("max_decrease = 0.01")
    verdict = judge(after, small, policy, baseline=baseline)
    drop = before.figure.value - after.figure.value
    assert verdict.status == "fail"
    assert verdict.value == pytest.approx(drop)
    assert verdict.missed_by == pytest.approx(drop - 0.01)
    assert verdict.low < drop < verdict.high < drop + 0.01
    assert verdict.where == "t.toml:4"
    message = failure_message(verdict, after)
    assert f"decrease of {drop:.3f}" in message
    assert judge(after, accuracy_rule("max_decrease = 0.05"), policy, baseline=baseline).status == (
        "pass"
    )
    # As independent runs, which they are not, the same samples could not tell.
    stranger = dataclasses.replace(before.figure, details={}, replicates=())
    unpaired = judge(after, small, policy, baseline={before.key: stranger})
    assert unpaired.status == "inconclusive"
    # A better model never breaks it, nor does the same model again.
    back = judge(before, small, Policy(baseline_model="v2"), baseline={after.key: after.figure})
    assert back.status == "pass"
    same = judge(before, accuracy_rule("max_decrease = 0"), Policy(), baseline=baseline)
    assert same.status == "pass"


def test_an_increase_is_the_other_direction() -> None:
    first, second = measure(1.0, 0.98, 1.02), measure(1.2, 1.18, 1.22)
    baseline = {first.key: first.figure}
    grown = judge(second, rule(max_increase=0.1), WARN, baseline=baseline)
    assert grown.status == "fail"
    assert grown.missed_by == pytest.approx(0.1)
    assert "increase of 0.200" in failure_message(grown, second)
    assert judge(second, rule(max_decrease=0.1), WARN, baseline=baseline).status == "pass"
    assert judge(second, rule(max_increase=0.21), WARN, baseline=baseline).status == "inconclusive"


def test_a_missing_or_broken_baseline_fails() -> None:
    before, after = runs()
    bound = accuracy_rule("max_decrease = 0.9")
    none = judge(after, bound, WARN)
    assert none.failed
    assert "there is no baseline; name one in [policy]" in none.explanation
    other = judge(after, bound, WARN, baseline={before.key: before.figure})
    assert other.failed
    assert f"the baseline has no figure for {after.key}" in other.explanation
    broken = dataclasses.replace(before.figure, value=math.nan)
    assert judge(after, bound, WARN, baseline={after.key: broken}).failed
    assert "cannot be judged" in failure_message(other, after)


def test_the_worst_of_several_bounds_counts() -> None:
    before, after = runs()
    policy = Policy(baseline_model="v1")
    baseline = {before.key: before.figure}
    both = judge(after, accuracy_rule("min = 0.5\nmax_decrease = 0.01"), policy, baseline=baseline)
    assert (both.status, both.bound, both.where) == ("fail", "max_decrease 0.01", "t.toml:5")
    floor = judge(after, accuracy_rule("min = 0.9\nmax_decrease = 0.05"), policy, baseline=baseline)
    assert (floor.status, floor.bound, floor.where) == ("fail", "min 0.9", "t.toml:4")
    # A missing baseline is worse than any miss.
    assert judge(after, accuracy_rule("min = 0.9\nmax_decrease = 0.05"), policy).bound == (
        "max_decrease 0.05"
    )


VERDICTS = [
    judge(measure(0.5, 0.4, 0.6), rule(max=0.55), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(max=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(min=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(max_increase=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), None, WARN),
    judge(measure(math.nan, 0.0, 1.0), rule(max=1.0), WARN),
    judge(None, rule(max_decrease=0.5), WARN, key="calibration/ece"),
]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_json_round_trip(verdict: Verdict) -> None:
    data = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    back = Verdict.from_dict(data)
    # Not-a-number is never equal to itself; as data it is.
    assert back.as_dict() == data == verdict.as_dict()
    assert (back.kind, back.limit, back.bound) == (verdict.kind, verdict.limit, verdict.bound)
    assert data["bound"] == verdict.bound
    if not math.isnan(verdict.value):
        assert back == verdict


def test_json_keeps_what_is_not_finite() -> None:
    back = Verdict.from_dict(json.loads(json.dumps(VERDICTS[5].as_dict(), allow_nan=False)))
    assert math.isnan(back.value)
    assert (back.missed_by, back.samples_needed) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"), [("status", "green"), ("outcome", "inconclusive"), ("kind", "maximum")]
)
def test_json_of_something_else_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"unknown {name}.* '{value}'"):
        Verdict.from_dict({**VERDICTS[0].as_dict(), name: value})


def test_the_deciding_bound_has_a_kind_and_a_limit() -> None:
    exact = judge(measure(0.5, 0.4, 0.6), rule(max=1 / 3), WARN)
    assert (exact.kind, exact.limit, exact.bound) == ("max", 1 / 3, "max 0.333333333333")
    assert not exact.on_change
    change = judge(measure(0.5, 0.4, 0.6), rule(max_increase=0.1), WARN)
    assert (change.kind, change.limit, change.on_change) == ("max_increase", 0.1, True)
    # Of several bounds that a figure without statistics breaks all, the first is named.
    broken = judge(measure(math.nan, 0.0, 1.0), rule(max=1.0, min=0.5), WARN)
    assert (broken.kind, broken.limit, broken.where) == ("min", 0.5, "t.toml:5")


def test_a_noise_floor_ends_at_the_range_of_the_metric() -> None:
    """What no figure can reach must not put one in doubt that is as good as it can be."""

    def of(metric: str, value: float, low: float, high: float, **bounds: float) -> str:
        figure = Figure(metric, value, low, high, 100).measured_on(condition())
        found = rule(**bounds)
        return judge(Measurement("s", "m", figure), found, WARN, noise_floor=0.01).status

    assert of("ece", 0.0, 0.0, 0.1, min=0.0, max=0.5) == "pass"
    assert of("accuracy", 1.0, 0.9, 1.0, min=0.5, max=1.0) == "pass"
    assert of("accuracy", 0.995, 0.9, 0.995, min=0.5, max=0.999) == "inconclusive"
    assert of("nll", 1.0, 0.9, 1.0, max=1.005) == "inconclusive"
    # A figure outside of the range keeps its own interval.
    assert of("accuracy", 1.2, 1.1, 1.3, min=1.0, max=1.3) == "pass"
