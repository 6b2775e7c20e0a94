"""Bounds that say nothing, at their borders."""

from __future__ import annotations

import pytest

from pytest_cliprobust.figures.metrics import Metric
from pytest_cliprobust.gating.limits import (
    BEYOND,
    beyond_what_is_left,
    chance_of,
    weaker_than_chance,
    why_useless,
)
from pytest_cliprobust.gating.rules import Kind


def metric(higher: bool | None = True, low: float | None = 0.0, high: float | None = 1.0) -> Metric:
    return Metric("made_up", higher, "made up", low=low, high=high)


@pytest.mark.parametrize(
    ("of", "kind", "useful", "useless", "words"),
    [
        (metric(), "min", 1e-9, 0.0, "no model misses it: made_up is never below 0"),
        (metric(), "min", 1.0, 80.0, "no model meets it: made_up is never above 1 (80% is 0.8)"),
        (metric(), "min", 1.0, 101.0, "no model meets it: made_up is never above 1"),
        (metric(), "max", 0.999, 1.0, "no model misses it: made_up is never above 1"),
        (metric(), "max", 0.0, -1e-9, "no model meets it: made_up is never below 0"),
        (metric(), "max_decrease", 0.999, 1.0, "no model misses it: made_up cannot fall by more"),
        (metric(), "max_increase", 0.999, 1.0, "no model misses it: made_up cannot rise by more"),
        (metric(), "max_decrease", 0.5, 5.0, "cannot fall by more (5% is 0.05)"),
        # A good direction: no two models lie at both ends. None: they may.
        (metric(True, -3.0, 2.0), "max_decrease", 2.999, 3.0, "cannot fall by more"),
        (metric(False, -2.0, 3.0), "max_increase", 2.999, 3.0, "cannot rise by more"),
        (metric(None, -3.0, 2.0), "max_increase", 4.999, 5.0, "cannot rise by more"),
        (metric(False, 0.0, None), "max", 999_999.0, 1e6, "never above 1,000,000 or so"),
        (metric(False, 0.0, None), "max_increase", 999_999.0, 1e6, "cannot rise by more"),
        (metric(False, None, 1.0), "min", -999_999.0, -1e6, "never below -1,000,000 or so"),
    ],
)
def test_bounds_that_no_model_misses_or_meets(
    of: Metric, kind: Kind, useful: float, useless: float, words: str
) -> None:
    assert why_useless(of, kind, useful) == ""
    said = why_useless(of, kind, useless)
    assert words in said
    assert ("%" in said) == ("%" in words)
    assert BEYOND == 1e6


@pytest.mark.parametrize(
    ("higher", "kind", "recorded", "chance", "worst"),
    [
        (True, "max_decrease", 0.75, None, 0.0),
        (True, "max_decrease", 0.75, 0.25, 0.25),
        (False, "max_increase", 0.25, None, 1.0),
        (False, "max_increase", 0.25, 0.5, 0.5),
    ],
)
def test_a_margin_that_no_model_can_miss(
    higher: bool, kind: Kind, recorded: float, chance: float | None, worst: float
) -> None:
    made = Metric("made_up", higher, "made up", chance=chance)
    left = abs(recorded - worst)
    assert beyond_what_is_left(made, kind, left, recorded) == worst
    assert beyond_what_is_left(made, kind, left + 0.1, recorded) == worst
    assert beyond_what_is_left(made, kind, left - 1e-6, recorded) is None
    # On the good side, of a bound that is no margin, and without a good side it is not looked at.
    other: Kind = "max_increase" if kind == "max_decrease" else "max_decrease"
    assert beyond_what_is_left(made, other, 9.0, recorded) is None
    assert beyond_what_is_left(made, "min", 9.0, recorded) is None
    assert beyond_what_is_left(metric(None), kind, 9.0, recorded) is None
    assert beyond_what_is_left(metric(higher, None, None), kind, 9.0, recorded) is None


def test_chance_by_the_number_of_classes() -> None:
    made = Metric("made_up", True, "made up", chance=lambda classes: 1 / classes)
    assert chance_of(made) is None
    assert chance_of(made, 4) == 0.25
    assert weaker_than_chance(made, "min", 0.25, 4) == 0.25
    assert weaker_than_chance(made, "min", 0.2501, 4) is None
    assert weaker_than_chance(made, "max", 0.1, 4) is None
    assert weaker_than_chance(made, "min", 0.1) is None
    falling = Metric("made_up", False, "made up", chance=0.5)
    assert weaker_than_chance(falling, "max", 0.5) == 0.5
    assert weaker_than_chance(falling, "max", 0.4999) is None
    assert weaker_than_chance(falling, "min", 0.9) is None
