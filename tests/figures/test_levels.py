"""Intervals at other levels than their own, and the level of one comparison among many."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers import keys_of, share_ends
from scipy import stats as scipy_stats

from pytest_cliprobust.figures import auroc, intervals
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.figures.resampling import Method, replicate_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ends(interval: intervals.Interval | Figure) -> tuple[float, float]:
    return interval.low, interval.high


PAIRS = np.repeat(np.arange(45), 2)


@pytest.mark.parametrize("units", [None, PAIRS])
def test_another_level_is_what_it_would_have_been_made_at(units: np.ndarray | None) -> None:
    keys = keys_of(90, units)
    usual, strict = (Bootstrap(replicates=50, confidence=c, keys=keys) for c in (0.95, 0.999))
    before, after = rng(5).uniform(size=(2, 90)) < 0.6
    before[1::2] = before[::2]
    share = interval_at(proportion_figure("accuracy", before, usual), 0.999)
    assert ends(share) == pytest.approx(
        ends(proportion_figure("accuracy", before, strict)), abs=1e-12
    )
    drop = interval_at(paired_drop_figure("accuracy_drop", before, after, usual), 0.999)
    wanted = paired_drop_figure("accuracy_drop", before, after, strict)
    assert ends(drop) == pytest.approx(ends(wanted), abs=1e-12)
    # Also of figures that come back from a report.
    told = paired_drop_figure("accuracy_drop", before, after, usual).as_dict()
    assert ends(interval_at(Figure.from_dict(told), 0.999)) == pytest.approx(
        ends(wanted), abs=1e-12
    )
    above, below = rng(1).normal(1, size=50), rng(2).normal(size=40)
    area, wide = (auroc.auroc("auroc", above, below, bootstrap=own) for own in (usual, strict))
    # Read off a curve, which is known at some levels and linear between those.
    read = interval_at(area, 0.999)
    assert ends(read) == pytest.approx(ends(wide), abs=2e-4 * (wide.high - wide.low))
    assert (read.confidence, read.method) == (0.999, wide.method)
    # Levels are nested, whichever of the two is the figure's own.
    assert read.low < area.low < interval_at(wide, 0.9).low < area.value
    assert area.value < interval_at(wide, 0.9).high < area.high < read.high


def test_wilsons_interval_goes_by_its_trials() -> None:
    # Two thirds of many are Wilson's own; where ten are missing, the exact end may lie farther out.
    for right, count in ((200, 300), (30, 40), (39, 40), (40, 40), (0, 40)):
        figure = proportion_figure("accuracy", np.arange(count) < right, Bootstrap())
        for level in (0.8, 0.95, 0.99):
            assert ends(interval_at(figure, level)) == pytest.approx(
                share_ends(right, count, level)
            )
    own = intervals.wilson(200, 300, 0.99)
    figure = proportion_figure("accuracy", np.arange(300) < 200, Bootstrap())
    assert ends(interval_at(figure, 0.99)) == pytest.approx(ends(own), abs=2e-3)
    perfect, strict = (
        auroc.auroc("auroc", [2.0, 3.0, 4.0], [0.0, 1.0], bootstrap=Bootstrap(confidence=c))
        for c in (0.95, 0.99)
    )
    assert interval_at(perfect, 0.99).low == pytest.approx(strict.low, abs=2e-4)
    assert strict.low < perfect.low


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_replicates_give_the_interval_of_any_level(method: Method) -> None:
    values = rng(3).exponential(size=50)
    figure = bootstrap_figure(
        "nll", float(values.mean()), Outcomes({"value": values}, mean), Bootstrap(), method=method
    )
    for level in (0.5, 0.9, 0.99):
        want = replicate_interval(figure.value, figure.replicates, level, method, units=50)
        assert ends(interval_at(figure, level)) == ends(want)
        made = bootstrap_figure(
            *("nll", figure.value, Outcomes({"value": values}, mean), Bootstrap(confidence=level)),
            method=method,
        )
        assert ends(interval_at(figure, level)) == ends(made)
    assert ends(interval_at(figure, 0.95)) == ends(figure)
    # 50 samples are few: their quantiles lie farther out than the replicates' own.
    plain = replicate_interval(figure.value, figure.replicates, 0.9, method)
    assert interval_at(figure, 0.9).low < plain.low
    assert plain.high < interval_at(figure, 0.9).high


def test_without_either_the_ends_are_scaled() -> None:
    bare = Figure("temperature", 1.0, 0.8, 1.3, 100)
    scaled = interval_at(bare, 0.99)
    assert (1.0 - scaled.low) / 0.2 == pytest.approx(2.5758 / 1.96, rel=1e-4)
    assert (scaled.high - 1.0) / 0.3 == pytest.approx(2.5758 / 1.96, rel=1e-4)
    assert scaled.method == "rescaled"
    for broken in (
        dataclasses.replace(bare, value=math.nan),
        dataclasses.replace(bare, low=-math.inf),
        dataclasses.replace(bare, high=math.inf),
    ):
        assert all(math.isnan(end) for end in ends(interval_at(broken, 0.99)))
    # At its own level a figure has its own interval, whatever it is.
    odd = dataclasses.replace(bare, low=-math.inf)
    assert interval_at(odd, 0.95).low == -math.inf
    with pytest.raises(ValueError, match="confidence"):
        interval_at(bare, 1.0)


def test_methods_without_their_counts_are_scaled() -> None:
    z = scipy_stats.norm.ppf(0.995) / scipy_stats.norm.ppf(0.975)
    methods = [IntervalMethod.PAIRED_SCORE, IntervalMethod.DELONG, IntervalMethod.PERCENTILE]
    for method in methods:
        bare = Figure("m", 0.4, 0.0, 1.0, 9, interval=method, details={"lost": 1})
        assert ends(interval_at(bare, 0.99)) == pytest.approx((0.4 - z * 0.4, 0.4 + z * 0.6))
    nothing = Figure("m", 0.4, 0.3, 0.5, 0, interval=IntervalMethod.WILSON)
    assert interval_at(nothing, 0.99).low == pytest.approx(0.4 - z * 0.1)
    # Wilson's trials need not be the samples.
    few = Figure("m", 0.4, 0.3, 0.5, 99, interval=IntervalMethod.WILSON, details={"trials": 5})
    assert ends(interval_at(few, 0.99)) == pytest.approx(share_ends(2, 5, 0.99))
    one = dataclasses.replace(few, value=1.0, details={"trials": 1})
    assert ends(interval_at(one, 0.99)) == pytest.approx((0.01, 1.0))
    # And that many were estimated from units: Student's quantile.
    units = dataclasses.replace(few, units=20)
    assert ends(interval_at(units, 0.99)) == pytest.approx(share_ends(2, 5, 0.99, 19))
    # Nor are the pairs of a drop, if samples share units: half as many are worth half the counts.
    drop = Figure(
        *("m", 0.1, 0.0, 0.2, 40),
        interval=IntervalMethod.PAIRED_SCORE,
        details={"lost": 6, "gained": 2, "trials": 20.0},
    )
    want = intervals.paired_score(3, 1, 20, 0.99)
    assert ends(interval_at(drop, 0.99)) == (want.low, want.high)
    # Without trials each pair is one.
    pairs = dataclasses.replace(drop, n=20, details={"lost": 3, "gained": 1})
    assert ends(interval_at(pairs, 0.99)) == (want.low, want.high)
    drawn = tuple(np.linspace(0.0, 1.0, 401))
    basic = Figure("m", 0.4, 0.0, 1.0, 9, interval=IntervalMethod.BASIC, replicates=drawn)
    assert interval_at(basic, 0.5).low == pytest.approx(0.8 - 0.75)


def test_an_area_without_a_curve_of_ends_is_scaled_as_log_odds() -> None:
    # Such come from reports of earlier versions; their ends are even about the value in log-odds.
    def odds(share: float) -> float:
        return math.log(share / (1.0 - share))

    area = Figure("auroc", 0.8, 0.7, 0.9, 50, method="DeLong", interval=IntervalMethod.DELONG)
    z = scipy_stats.norm.ppf(0.995) / scipy_stats.norm.ppf(0.975)
    wide = interval_at(area, 0.99)
    assert odds(wide.low) == pytest.approx(odds(0.8) - z * (odds(0.8) - odds(0.7)))
    assert odds(wide.high) == pytest.approx(odds(0.8) + z * (odds(0.9) - odds(0.8)))
    assert (wide.confidence, wide.method) == (0.99, "DeLong")
    # Replicates, which such a figure has for comparisons, do not take the place of that.
    drawn = dataclasses.replace(area, replicates=tuple(np.linspace(0.0, 1.0, 99)))
    assert interval_at(drawn, 0.99) == wide
    # An end at a border has no log-odds.
    for low, high in ((0.0, 0.9), (0.7, 1.0)):
        bare = interval_at(dataclasses.replace(area, low=low, high=high), 0.99)
        assert ends(bare) == pytest.approx((0.8 - z * (0.8 - low), 0.8 + z * (high - 0.8)))
        assert bare.method == "DeLong rescaled"
