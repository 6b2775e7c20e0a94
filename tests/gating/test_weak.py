"""Bounds that hardly gate: where guessing comes by luck, far from what was recorded, more than is left."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gating_helpers import HEAD, measure
from scipy import stats

from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.weak import lucky_guess, weak_bounds, weak_for


def rule(metric: str, bounds: str) -> Rule:
    text = f'{HEAD}[[threshold]]\nmetric = "{metric}"\n{bounds}\n'
    return parse_thresholds(text, "t.toml", known_metrics=("*",)).rules[0]


def told(metric: str, bounds: str, n: int = 100, classes: int | None = None, **given: Any) -> str:
    """Return the one line that is said of a bound; empty if there is none."""
    recorded = given.get("recorded")
    figure = None if recorded is None else measure(metric, recorded, half=0.02).figure
    lines = weak_for(rule(metric, bounds), measure(metric, 0.9, n=n), classes, figure)
    assert len(lines) <= 1
    return "".join(lines)


def wilson(p: float, n: int) -> tuple[float, float]:
    """Wilson's interval (1927) at 95%, as its two-sided formula has it."""
    z = float(stats.norm.ppf(0.975))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - half, middle + half


@pytest.mark.parametrize("n", [1, 2, 50, 1000])
def test_how_far_guessing_comes_by_luck(n: int) -> None:
    accuracy, auroc, fpr = (METRICS.named(name) for name in ("accuracy", "auroc_mcm", "fpr95_mcm"))
    assert lucky_guess(accuracy, 10, n) == pytest.approx(wilson(0.1, n)[1])
    assert lucky_guess(accuracy, 2, n) == pytest.approx(wilson(0.5, n)[1])
    assert lucky_guess(auroc, None, n) == pytest.approx(wilson(0.5, n)[1])
    assert lucky_guess(fpr, None, n) == pytest.approx(wilson(0.95, n)[0])


def test_where_chance_or_samples_are_not_known_there_is_no_lucky_guess() -> None:
    assert lucky_guess(METRICS.named("accuracy"), None, 100) is None
    assert lucky_guess(METRICS.named("accuracy"), 10, 0) is None
    assert lucky_guess(METRICS.named("nll"), 10, 100) is None


@pytest.mark.parametrize(("metric", "kind"), [("auroc_mcm", "min"), ("fpr95_mcm", "max")])
def test_a_bound_within_reach_of_a_lucky_guess_is_weak_its_end_included(
    metric: str, kind: str
) -> None:
    end = lucky_guess(METRICS.named(metric), None, 100)
    assert end is not None
    stronger = math.nextafter(end, 1.0 if kind == "min" else 0.0)
    said = told(metric, f"{kind} = {end!r}")
    assert said == (
        f"t.toml:4: {kind} {end:.12g} of {metric} is within what guessing reaches by luck on 100 samples "
        f"({end:.3g}): a model that guesses is not red; write a stronger bound, or say why with "
        f"'because' [metric={metric}]"
    )
    assert told(metric, f"{kind} = {stronger!r}") == ""
    assert told(metric, f"{kind} = {end!r}\nbecause = 'of noise'") == ""
    # On more samples luck is rarer.
    assert told(metric, f"{kind} = {end!r}", n=10_000) == ""


def test_luck_among_classes_counts_where_their_number_is_known() -> None:
    assert told("accuracy", "min = 0.2", 20) == ""
    assert "on 20 samples (0.301)" in told("accuracy", "min = 0.2", 20, classes=10)
    assert told("accuracy", "min = 0.302", 20, classes=10) == ""


@pytest.mark.parametrize(
    ("metric", "bound", "classes", "weak"),
    [
        # Half of the way from 0.8 to the worst: 0 of accuracy, 0.1 of ten classes, 0.5 of an AUROC.
        ("accuracy", "min = 0.401", None, False),
        ("accuracy", "min = 0.399", None, True),
        ("accuracy", "min = 0.451", 10, False),
        ("accuracy", "min = 0.449", 10, True),
        ("auroc_mcm", "min = 0.651", None, False),
        ("auroc_mcm", "min = 0.649", None, True),
        ("ece", "max = 0.899", None, False),
        ("ece", "max = 0.901", None, True),
        ("nll", "max = 1.59", None, False),
        ("nll", "max = 1.61", None, True),
        # The other side, and metrics without a good direction, say nothing.
        ("nll", "min = 0.001\nmax = 1.5", None, False),
        ("signed_gap", "min = -0.9", None, False),
        ("of_my_own", "min = -0.9", None, False),
    ],
)
def test_a_bound_far_from_what_was_recorded_is_weak(
    metric: str, bound: str, classes: int | None, weak: bool
) -> None:
    said = told(metric, bound, 10_000, classes, recorded=0.8)
    assert ("is far from the 0.8 that was recorded: a model much worse would pass" in said) is weak
    assert bool(said) is weak
    assert told(metric, bound, 10_000, classes) == ""


def test_a_bound_that_recording_may_write_is_not_far() -> None:
    """One width of the interval beyond its bad end."""
    wide = measure("accuracy", 0.8, half=0.15).figure  # 0.65 to 0.95: a width below is 0.35
    figure = measure("accuracy", 0.9, n=10_000)
    assert weak_for(rule("accuracy", "min = 0.351"), figure, None, wide) == []
    assert len(weak_for(rule("accuracy", "min = 0.349"), figure, None, wide)) == 1


@pytest.mark.parametrize(
    ("metric", "bound", "classes", "worst"),
    [
        ("accuracy", "max_decrease = 0.79", None, None),
        ("accuracy", "max_decrease = 0.8", None, "0"),
        ("accuracy", "max_decrease = 0.69", 10, None),
        ("accuracy", "max_decrease = 0.71", 10, "0.1"),
        ("auroc_mcm", "max_decrease = 0.29", None, None),
        ("auroc_mcm", "max_decrease = 0.31", None, "0.5"),
        ("ece", "max_increase = 0.19", None, None),
        ("ece", "max_increase = 0.21", None, "1"),
        ("nll", "max_increase = 100.0", None, None),
        # On the good side a margin limits no loss.
        ("accuracy", "max_decrease = 0.1\nmax_increase = 0.9", 10, None),
    ],
)
def test_a_margin_of_all_that_is_left_to_lose_allows_any_loss(
    metric: str, bound: str, classes: int | None, worst: str | None
) -> None:
    said = told(metric, bound, 10_000, classes, recorded=0.8)
    kind, _, limit = bound.partition(" = ")
    assert said == (
        ""
        if worst is None
        else f"t.toml:4: {kind} {limit} of {metric} allows any loss: it was recorded at 0.8, and {worst} is "
        f"the worst that a model comes to; write a smaller margin, or say why with 'because' [metric={metric}]"
    )
    assert told(metric, bound, 10_000, classes) == ""
    assert told(metric, f"{bound}\nbecause = 'x'", 10_000, classes, recorded=0.8) == ""


def test_a_margin_and_an_absolute_bound_are_told_each() -> None:
    both = rule("accuracy", "max_decrease = 0.8\nmin = 0.1")
    lines = weak_for(both, measure("accuracy", 0.9, n=50), 10, measure("accuracy", 0.8).figure)
    assert [line.partition(" of accuracy ")[0] for line in lines] == [
        "t.toml:4: max_decrease 0.8",
        "t.toml:5: min 0.1",
    ]


def test_bounds_are_held_against_the_figures_of_their_own_comments() -> None:
    text = (
        f'{HEAD}[[threshold]]\nmetric = "accuracy"\nmin = 0.1  # measured 0.8 [0.78, 0.82], n = 134\n'
        '[[threshold]]\nmetric = "accuracy"\nmodel = "m"\nmin = 0.7  # measured 0.8 [0.78, 0.82], n = 9\n'
        '[[threshold]]\nmetric = "ece"\nmax_increase = 0.1  # measured 0.1 [0.1, 0.1], n = 9\n'
        "max = 0.9  # measured 0.05 [0.04, 0.06], n = 134\n"
        '[[threshold]]\nmetric = ["ece", "nll"]\nmodel = "m"\n'
        "max = 0.95  # measured 0.05 [0.04, 0.06], n = 134\n"
    )
    rules = parse_thresholds(text, "t.toml").rules
    assert weak_bounds(text, rules) == [
        "t.toml:4: min 0.1 is far from the 0.8 that was measured: a model much worse would pass "
        "[metric=accuracy]",
        "t.toml:12: max 0.9 is far from the 0.05 that was measured: a model much worse would pass "
        "[metric=ece]",
    ]
