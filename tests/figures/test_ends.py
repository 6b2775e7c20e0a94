"""Ends at every level: on the grid, between, beyond, and through JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap, mean_figure
from pytest_cliprobust.figures.ends import (
    GRID,
    TAILS,
    Ends,
    at_level,
    hull,
    on_logits,
    packed,
    share_ends,
    unpacked,
    within,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import student, two_sided_t, two_sided_z, wilson
from pytest_cliprobust.figures.levels import interval_at


def normal(tails: Floats) -> tuple[Floats, Floats]:
    half = student(tails, math.inf)
    return 1.0 - half, 1.0 + half


def test_quantiles() -> None:
    assert student(np.array([0.025]), 7.0)[0] == pytest.approx(stats.t.ppf(0.975, 7))
    assert student(np.array([0.025]), math.inf)[0] == pytest.approx(1.959964, abs=1e-6)
    assert np.isnan(student(np.array([0.025]), 0.0)).all()
    assert two_sided_t(0.9, math.inf) == pytest.approx(two_sided_z(0.9))
    np.testing.assert_allclose(TAILS, stats.norm.sf(GRID))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.9995, 1.0 - 1e-8, 1.0 - 1e-12])
def test_a_curve_is_linear_in_the_normal_quantile(confidence: float) -> None:
    curve = Ends.of(normal)
    interval = curve.at(confidence, "mine")
    z = two_sided_z(confidence)
    assert (interval.low, interval.high) == pytest.approx((1.0 - z, 1.0 + z), rel=1e-6)
    assert (interval.confidence, interval.method) == (confidence, "mine")


def test_below_the_grid_its_first_ends_hold_and_beyond_it_infinite_ones_stay() -> None:
    first = Ends.of(normal).at(0.01)
    assert (first.low, first.high) == pytest.approx((1.0 - GRID[0], 1.0 + GRID[0]))
    open_ = Ends((0.0,) * 95 + (-math.inf,), (1.0,) * 96)
    for confidence, low in ((0.5, 0.0), (1.0 - 1e-12, -math.inf)):
        assert open_.at(confidence).low == low
        assert open_.at(confidence).high == 1.0
    # At a level of the grid its own ends count, whatever the next ones are.
    nan = Ends((0.0, math.nan), (1.0, math.nan))
    assert nan.at(0.01).low == 0.0
    assert math.isnan(nan.at(0.08).low)


def test_ends_never_come_nearer_at_a_higher_level() -> None:
    def wavy(tails: Floats) -> tuple[Floats, Floats]:
        lows, highs = normal(tails)
        return lows + np.sin(10 * lows), highs + np.sin(10 * highs)

    curve = Ends.of(wavy)
    assert (np.diff(curve.lows) <= 0.0).all()
    assert (np.diff(curve.highs) >= 0.0).all()


def test_ends_keep_to_bounds_and_hold_the_value() -> None:
    low, high = at_level(within(normal, 1.0, (0.5, 2.0)), 0.95)
    assert (low, high) == (0.5, 2.0)
    low, high = at_level(within(normal, -3.0, (-math.inf, math.inf)), 0.95)
    assert low == -3.0
    assert high > 2.9


def test_shares_have_wilsons_ends_and_exact_ones_near_the_borders() -> None:
    for share, trials in ((0.0, 120.0), (0.4, 400.0), (1.0, 70.0)):
        own = wilson(share * trials, trials, 0.9)
        assert at_level(share_ends(share, trials), 0.9) == pytest.approx((own.low, own.high))
        few = wilson(share * trials, trials, 0.9, 5.0)
        assert at_level(share_ends(share, trials, 5.0), 0.9) == pytest.approx((few.low, few.high))
        assert few.high - few.low > own.high - own.low
    # One success of 100: exact, at twice the chance (Clopper & Pearson's lower end of 90%).
    low, high = at_level(share_ends(0.01, 100.0), 0.95)
    assert low == pytest.approx(stats.beta.ppf(0.05, 1, 100))
    assert low < wilson(1, 100).low
    assert high == pytest.approx(wilson(1, 100).high)
    assert at_level(share_ends(0.99, 100.0), 0.95) == pytest.approx((1.0 - high, 1.0 - low))
    # At the share that two successes of 100 just leave out, Wilson's interval holds in 92%.
    chance = wilson(2, 100).low - 1e-6
    counts = np.arange(101)
    mass = stats.binom.pmf(counts, 100, chance)

    def held(ends: list[tuple[float, float]]) -> float:
        return float(sum(m for m, e in zip(mass, ends, strict=True) if e[0] <= chance <= e[1]))

    textbook = [wilson(float(k), 100) for k in counts]
    assert held([(e.low, e.high) for e in textbook]) < 0.93
    assert held([at_level(share_ends(k / 100, 100.0), 0.95) for k in counts]) > 0.95


@pytest.mark.parametrize("count", [50, 100, 1000])
def test_intervals_of_shares_hold_in_93_percent_wherever_the_share_lies(count: int) -> None:
    """Exactly: over all counts that could come up, with their binomial chances."""
    counts = np.arange(count + 1)
    ends = np.array([at_level(share_ends(k / count, float(count)), 0.95) for k in counts])
    shares = np.linspace(0.5, 0.9995, 200)[:, None]
    held = (ends[:, 0] <= shares) & (shares <= ends[:, 1])
    chances = stats.binom.pmf(counts, count, shares)
    assert (chances * held).sum(axis=1).min() > 0.93


def test_hull_and_logits() -> None:
    low, high = at_level(on_logits(0.8, 0.25, math.inf), 0.95)
    assert math.log(high / (1 - high)) - math.log(4.0) == pytest.approx(0.25 * 1.959964, abs=1e-6)
    assert math.log(4.0) - math.log(low / (1 - low)) == pytest.approx(0.25 * 1.959964, abs=1e-6)
    other = at_level(share_ends(0.8, 100.0), 0.95)
    both = at_level(hull(on_logits(0.8, 0.25, math.inf), share_ends(0.8, 100.0)), 0.95)
    assert both == (min(low, other[0]), max(high, other[1]))


def test_a_figure_keeps_its_ends_in_json_where_replicates_are_kept() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    figure = mean_figure("m", values, Bootstrap(), supposed=(0.0, 5.0))
    assert figure.ends is not None
    data = json.loads(json.dumps(figure.as_dict(replicates=True)))
    again = Figure.from_dict(data)
    for confidence in (0.5, 0.95, 0.9995):
        mine, theirs = interval_at(figure, confidence), interval_at(again, confidence)
        assert (mine.low, mine.high) == (theirs.low, theirs.high)
    assert "ends" not in figure.as_dict()
    assert unpacked(packed(figure.ends)) == figure.ends
    assert packed(None) == []
    assert unpacked([1.0, 2.0]) is None


def test_other_levels_are_what_they_would_have_been_made_at() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    figure = mean_figure("m", values, Bootstrap(), supposed=(0.0, 5.0))
    for confidence in (0.6, 0.99, 0.9995):
        other = mean_figure("m", values, Bootstrap(confidence=confidence), supposed=(0.0, 5.0))
        ends = interval_at(figure, confidence)
        width = other.high - other.low
        assert (ends.low, ends.high) == pytest.approx((other.low, other.high), abs=0.01 * width)
        own = interval_at(other, confidence)
        assert (own.low, own.high) == (other.low, other.high)


def test_a_figure_that_is_not_finite_has_no_ends() -> None:
    figure = mean_figure("m", np.ones(5), Bootstrap(), value=math.nan)
    assert figure.ends is None
    assert math.isnan(figure.low)
    assert math.isnan(interval_at(figure, 0.99).high)
