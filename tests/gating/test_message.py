"""What a failed test says."""

from __future__ import annotations

import math

import pytest
from gating_helpers import accuracy_rule, answered, answers, baseline_of, changed, condition
from gating_helpers import gap as measure
from gating_helpers import gap_rule as rule

from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.gating.words import format_value

WARN = Policy()


def test_a_failure_reads_well() -> None:
    figure = Figure("ece", 0.1423, 0.1211, 0.1634, 1000, method="stratified bootstrap, 1000")
    measurement = Measurement(
        "calibration", "ViT-B-32/openai", figure.measured_on(condition("clean", "fog_3d", 3))
    )
    text = (
        'schema = 1\n[[threshold]]\nmetric = "ece"\n# why not\nmax = 0.10\n'
        'because = "the probabilities are shown to users"\n'
    )
    bound = parse_thresholds(text, "thresholds.toml").rules[0]
    verdict = judge(measurement, bound, WARN)
    assert failure_message(verdict, measurement, ["pytest", "suites/test_x.py::test_ece[a b]"]) == (
        "calibration: ece of ViT-B-32/openai on clean, fog_3d at severity 3 breaks max 0.1\n"
        "  measured  0.142, 95% interval 0.121 to 0.163, n = 1,000 (stratified bootstrap, 1000)\n"
        "  bound     max 0.1 (thresholds.toml:5), because: the probabilities are shown to users\n"
        "  missed    by 0.042\n"
        "  why       the whole interval of ece lies above the bound, its nearer end by 0.021\n"
        "  run again pytest 'suites/test_x.py::test_ece[a b]'"
    )


def test_an_undecided_one_says_what_would_decide_it() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    verdict = judge(measurement, rule(max=0.55), Policy("fail"))
    needed = verdict.samples_needed
    assert needed is not None
    message = failure_message(verdict, measurement)
    assert "may break max 0.55" in message
    assert "400 samples cannot tell; about 3,300 would (80% chance" in message
    assert 3200 < needed <= 3300
    on_it = judge(measurement, rule(max=0.5), WARN)
    assert on_it.samples_needed is None
    assert "no number of samples would" in on_it.explanation


def test_what_was_not_measured_is_named() -> None:
    missing = judge(None, rule(max=0.1), WARN, key="calibration/ece/clean/clean/mine")
    first, *others = failure_message(missing, None).splitlines()
    assert first == "calibration/ece/clean/clean/mine: nothing was measured"
    assert [line.split()[0] for line in others] == ["bound", "why"]


def test_a_narrow_miss_is_not_rounded_away() -> None:
    measurement = measure(0.10004, 0.10001, 0.14)
    message = failure_message(judge(measurement, rule(max=0.1), WARN), measurement)
    assert "measured  0.10004," in message
    assert "missed    by 4e-05" in message


def test_only_a_figure_with_a_bound_of_its_own_is_told_from_it() -> None:
    """A bound on the change is of another number than the figure."""
    grown = measure(0.10004, 0.08, 0.12)
    baseline = baseline_of(measure(-0.5, -0.51, -0.49))
    verdict = judge(grown, rule(max_increase=0.1), WARN, baseline=baseline)
    assert verdict.failed
    message = failure_message(verdict, grown)
    assert "measured  0.100, 95% interval 0.080 to 0.120," in message
    assert "change    increase of 0.600, 95% interval 0.578 to 0.622" in message
    within = measure(0.09996, 0.08, 0.12)
    verdict = judge(within, rule(max=0.1), Policy("fail"))
    assert verdict.status == "inconclusive"
    message = failure_message(verdict, within)
    assert "measured  0.09996, 95% interval 0.080 to 0.120," in message
    assert "missed    by" not in message


def test_a_figure_without_an_interval_or_a_method_says_so() -> None:
    figure = Figure("ece", 0.2, math.nan, math.nan, 1234, unit="points").measured_on(condition())
    measurement = Measurement("calibration", "m", figure)
    verdict = judge(measurement, rule(max=0.1), WARN)
    lines = failure_message(verdict, measurement).splitlines()
    assert lines[1] == "  measured  0.2 points, no interval, n = 1,234"


def test_the_interval_shown_is_the_one_that_was_judged() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    widened = judge(measurement, rule(max=0.62), Policy("fail"), noise_floor=0.05)
    message = failure_message(widened, measurement)
    assert "measured  0.50, 95% interval 0.35 to 0.65," in message
    assert "may break max 0.62" in message
    # The noise of a change is shown beside the change; the figure stays as it was measured.
    before = baseline_of(measure(0.2, 0.15, 0.25))
    grown = judge(
        measurement, rule(max_increase=0.1), Policy("fail"), baseline=before, noise_floor=0.05
    )
    assert grown.failed
    message = failure_message(grown, measurement)
    assert "measured  0.50, 95% interval 0.40 to 0.60," in message
    assert f"interval {format_value(grown.low, 0.4)} to" in message
    away = math.hypot(0.1, 0.05)
    assert grown.low == pytest.approx(0.3 - away - 0.05)
    assert grown.high == pytest.approx(0.3 + away + 0.05)


def test_a_change_says_how_it_was_compared() -> None:
    """And what another bound has to tell stands below."""
    before = answers(1000)
    lost = answered(changed(before, 60, 10))
    bound = accuracy_rule("max_decrease = 0.01")
    verdict = judge(lost, bound, WARN, baseline=baseline_of(answered(before)))
    assert failure_message(verdict, lost) == (
        "accuracy: accuracy of reference on clean breaks max_decrease 0.01\n"
        "  measured  0.790, 95% interval 0.764 to 0.814, n = 1,000 (Wilson)\n"
        "  change    decrease of 0.050, 95% interval 0.035 to 0.067 (paired, n = 1,000)\n"
        "  bound     max_decrease 0.01 (t.toml:4)\n"
        "  missed    by 0.04\n"
        "  why       the decrease from 0.840 is real, and beyond the margin"
    )
    both = accuracy_rule("min = 0.83\nmax_decrease = 0.1")
    verdict = judge(lost, both, WARN, baseline=baseline_of(answered(before)))
    assert verdict.bound == "min 0.83"
    assert "\n  note      the decrease of 0.050 " in failure_message(verdict, lost)


def test_numbers() -> None:
    assert format_value(0.14234, 0.042) == "0.142"
    assert format_value(12.3456, 3.0) == "12.35"
    assert format_value(0.5, 1e-9) == "0.500000"
    assert format_value(0.123456, 0.0) == "0.1235"
    assert format_value(-0.0001, 0.1) == "0.00"
    assert format_value(math.nan, 0.1) == "nan"
