"""Intervals of means: closed forms, units, supposed samples, and what cannot be known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pytest_cliprobust.figures.bootstrap import Bootstrap, mean_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.clusters import (
    design_effect_of_mean,
    design_effect_of_share,
    variance_of_mean,
)
from pytest_cliprobust.figures.ends import at_level
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.means import (
    IN_A_CHANGE,
    IN_A_MEAN,
    SUPPOSED,
    column_values,
    compare_means,
    compared,
    group_values,
    means_of,
    quotient_values,
    ratio_values,
    unit_sums,
)
from pytest_cliprobust.figures.outcomes import Outcomes, mean, quotient

RNG = np.random.default_rng(8)


def keys_of(count: int, each: int = 1) -> SampleKeys:
    names = tuple(map(str, range(count)))
    return SampleKeys(names, tuple(str(i // each) for i in range(count)))


def test_without_skewness_it_is_students_interval() -> None:
    half = RNG.normal(size=20)
    values = np.concatenate([half, -half]) + 3.0
    found = means_of(values, None)
    low, high = at_level(found.column(), 0.9)
    expected = stats.t.interval(0.9, 39, loc=3.0, scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-9)
    assert found.degrees == 39
    assert found.skews[0] == pytest.approx(0.0, abs=1e-12)


def test_skewness_moves_the_long_side_out_as_halls_transformation_says() -> None:
    values = RNG.exponential(size=50)
    found = means_of(values, None)
    skew = stats.skew(values) / math.sqrt(50) * (49 / 50) ** 1.5
    assert found.skews[0] == pytest.approx(skew, rel=1e-9)
    low, high = at_level(found.column(), 0.95)
    t = stats.t.ppf(0.975, 49)

    def transformed(end: float) -> float:
        # Hall (1992): T + g T²/3 + g² T³/27 + g/6 is nearly normal.
        z = (values.mean() - end) / stats.sem(values)
        return float(z + skew * z**2 / 3 + skew**2 * z**3 / 27 + skew / 6)

    assert transformed(high) == pytest.approx(-t, rel=1e-6)
    assert high - values.mean() > values.mean() - low
    assert low == pytest.approx(values.mean() - t * stats.sem(values))


def test_units_are_what_was_drawn() -> None:
    codes = np.arange(40) // 4
    values = RNG.normal(size=10)[codes] + 0.1 * RNG.normal(size=40)
    found = means_of(values, codes)
    assert found.plain[0] ** 2 == pytest.approx(variance_of_mean(values, codes))
    assert found.effects[0] == pytest.approx(
        design_effect_of_mean(values, codes) * 39 / 40, rel=1e-9
    )
    assert found.degrees == 9
    # Units that differ less than chance would have them are no reason for a narrower interval.
    mixed = np.tile([0.0, 1.0, 2.0, 3.0], 10)
    assert means_of(mixed, codes).errors[0] == pytest.approx(stats.sem(mixed))
    # Codes need not run from 0.
    other = means_of(values, codes * 7 + 3)
    assert other.errors[0] == pytest.approx(found.errors[0])


def test_columns_are_computed_together() -> None:
    table, codes = RNG.normal(size=(30, 3)), np.arange(30) // 3
    together = means_of(table, codes, (1.0, np.array([0.0, -1.0, 2.0])))
    tails = np.array([0.025, 0.001])
    for k, below in enumerate((0.0, -1.0, 2.0)):
        alone = means_of(table[:, k], codes, (1.0, below))
        for mine, theirs in zip(together.ends(tails), alone.ends(tails), strict=True):
            np.testing.assert_allclose(mine[:, k], theirs[:, 0], rtol=1e-12)


def test_supposed_samples_are_added_with_the_units_worth() -> None:
    values = RNG.normal(size=24)
    found = means_of(values, None, (5.0, -5.0), worth=2.0)
    grown = np.concatenate([values, [5.0] * 2, [-5.0] * 2])
    assert found.centres[0] == pytest.approx(grown.mean())
    assert found.errors[0] == pytest.approx(grown.std() / math.sqrt(len(grown)), rel=0.05)
    assert found.values[0] == pytest.approx(values.mean())
    # Where nothing differs, whole units are supposed.
    flat = means_of(np.zeros(24), np.arange(24) // 4, (1.0,), worth=1.0)
    assert flat.effects[0] == 4.0
    assert flat.errors[0] > means_of(np.zeros(24), None, (1.0,), worth=1.0).errors[0]


@pytest.mark.parametrize("codes", [None, np.zeros(4, dtype=np.int64)])
def test_one_unit_has_no_interval(codes: np.ndarray | None) -> None:
    values = np.array([1.0]) if codes is None else np.array([1.0, 2.0, 3.0, 4.0])
    low, high = at_level(means_of(values, codes, (0.0, 1.0)).column(), 0.95)
    assert math.isnan(low)
    assert math.isnan(high)
    boot = Bootstrap(keys=keys_of(len(values), len(values)))
    figure = mean_figure("m", values, boot, supposed=(0.0, 1.0))
    assert math.isfinite(figure.value)
    assert math.isnan(figure.low)
    assert math.isnan(figure.high)


def test_few_misses_say_little_of_how_alike_scenes_are() -> None:
    codes = np.arange(100) // 4
    for wrong in ([], [0]):
        hits = ~np.isin(np.arange(100), wrong)
        plain = design_effect_of_mean(hits.astype(np.float64), codes)
        effect = design_effect_of_share(hits, codes)
        assert effect == 4.0 if not wrong else 1.5 < effect < 4.0
        assert plain <= effect
    # Many misses speak for themselves.
    hits = RNG.random(4000) < 0.7
    many = np.arange(4000) // 4
    assert design_effect_of_share(hits, many) == pytest.approx(
        max(1.0, design_effect_of_mean(hits.astype(np.float64), many)), abs=0.01
    )
    alike = np.repeat(RNG.random(200) < 0.7, 4)
    assert design_effect_of_share(alike, np.arange(800) // 4) == pytest.approx(4.0, abs=0.05)
    assert design_effect_of_share(hits[:4], np.zeros(4, dtype=np.int64)) == 4.0


def test_unit_sums_are_sums_over_units() -> None:
    rows, codes = RNG.normal(size=(7, 2)), np.array([4, 1, 4, 4, 9, 1, 9])
    expected = [rows[codes == code].sum(axis=0) for code in (1, 4, 9)]
    np.testing.assert_allclose(unit_sums(rows, codes), expected)


def test_ratios_are_means_of_their_linear_part() -> None:
    trials = RNG.integers(3, 9, size=40).astype(np.float64)
    hits = np.floor(trials * RNG.random(40))
    values = ratio_values(hits, trials)
    assert values.mean() == pytest.approx(hits.sum() / trials.sum())
    # The jackknife agrees.
    left = np.array([np.delete(hits, i).sum() / np.delete(trials, i).sum() for i in range(40)])
    jackknife = math.sqrt(39 / 40 * ((left - left.mean()) ** 2).sum())
    assert means_of(values, None).errors[0] == pytest.approx(jackknife, rel=0.02)
    outcomes = Outcomes({"hits": hits, "trials": trials}, quotient)
    np.testing.assert_allclose(quotient_values(outcomes), values)
    assert np.isnan(ratio_values(np.zeros(3), np.zeros(3))).all()


def test_groups_with_a_single_unit_have_the_spread_of_all() -> None:
    groups = np.arange(60)
    hits = (RNG.random(60) < 0.7).astype(np.float64)
    values = group_values(hits, np.ones(60), groups, None)
    assert values.mean() == pytest.approx(hits.mean())
    # One sample a group: the variance of the mean of so many answers, as if they were alike.
    assert values.var() == pytest.approx(hits.var(), rel=1e-9)
    # Many samples a group: the variance within groups.
    many = np.repeat(np.arange(2), 500)
    answers = np.concatenate([np.ones(500), (np.arange(500) < 250)]).astype(np.float64)
    spread = group_values(answers, np.ones(1000), many, None)
    assert spread.mean() == pytest.approx(0.75)
    assert spread.var() == pytest.approx(0.5 * 0.25, rel=0.02)
    # Four scenes of one drawing are one unit of their group.
    codes = np.arange(60) // 4
    alike = np.repeat(hits[:15], 4)
    assert means_of(group_values(alike, np.ones(60), codes, codes), codes).errors[
        0
    ] == pytest.approx(stats.sem(hits[:15]), rel=1e-6)


def test_values_without_spread_claim_no_certainty_where_others_are_supposed() -> None:
    boot = Bootstrap(keys=keys_of(50))
    figure = mean_figure("m", np.ones(50), boot, supposed=(1.0, 0.0), bounds=(0.0, 1.0))
    assert 0.9 < figure.low < 0.99
    assert figure.high == 1.0


def test_equal_answers_may_be_those_of_another_model() -> None:
    boot = Bootstrap(keys=keys_of(50))
    coarse = mean_figure("m", np.ones(50), boot, supposed=(1.0, 0.0), coarse=True)
    change = change_between(coarse, coarse)
    ends = change.interval(0.95)
    assert change.identical
    assert change.p_value == 1.0
    assert ends.low < 0.0 < ends.high
    fine = mean_figure("m", RNG.random(50), boot, supposed=(1.0, 0.0))
    same = change_between(fine, fine).interval(0.95)
    assert (same.low, same.high) == (0.0, 0.0)


def test_a_change_supposes_two_samples_that_change_as_much_as_any_did() -> None:
    half = np.random.default_rng(9).normal(size=30)
    step = np.concatenate([half, -half])
    largest = float(np.abs(step).max())
    for least, most in ((0.1, largest), (3.0 * largest, 3.0 * largest)):
        found = compared(step, None, 0.25, 59.0, least)
        expected = means_of(step, None, (most, -most), IN_A_CHANGE)
        assert found.difference == 0.25
        assert found.standard_error == pytest.approx(expected.errors[0])


def test_ends_hold_the_mean_at_every_level() -> None:
    # What is supposed lies to one side of values that are all the same.
    for values, supposed in ((np.zeros(9), (0.0, 1.0)), (np.ones(9), (1.0, 0.0))):
        for level in (0.01, 0.1, 0.5, 0.99):
            low, high = at_level(means_of(values, None, supposed).column(), level)
            assert low <= values[0] <= high
            assert low < high


THEN, NOW = np.array([0.0, 1.0, 1.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.0, 1.0, 1.0, 0.25, 0.5])


@pytest.mark.parametrize(
    ("then", "now", "before", "after", "supposed", "worth"),
    [
        # Of each pair of answers that were supposed in the two runs.
        (THEN, NOW, (1.0, 0.0), (0.75, 0.0), (-0.25, -1.0, 0.75, 0.0), IN_A_CHANGE),
        # A report of before that knows of none, on either side: as much as any changed.
        (THEN, NOW, None, None, (-1.0, 1.0), IN_A_MEAN),
        (THEN, NOW, None, (1.0, 0.0), (-1.0, 1.0), IN_A_MEAN),
        (THEN, NOW, (1.0, 0.0), None, (-1.0, 1.0), IN_A_MEAN),
        (THEN, THEN + 0.25, None, None, (-0.25, 0.25), IN_A_MEAN),
        # None changed: as far as any is from the mean, which is 7/12.
        (THEN, THEN, None, None, (-7 / 12, 7 / 12), IN_A_MEAN),
        (np.full(6, 0.5), np.full(6, 0.5), None, None, (-1.0, 1.0), IN_A_MEAN),
    ],
)
@pytest.mark.parametrize("each", [1, 2])
def test_the_change_of_a_mean_is_the_mean_change(
    then: Any, now: Any, before: Any, after: Any, supposed: Any, worth: float, each: int
) -> None:
    sides = [
        Outcomes(
            {"value": values},
            mean,
            parameters={} if known is None else {SUPPOSED: known},
            keys=keys_of(6, each),
        )
        for values, known in ((then, before), (now, after))
    ]
    found = compare_means(column_values, (-0.2, 0.9))(*sides)
    want = means_of(now - then, None if each == 1 else np.arange(6) // each, supposed, worth)
    assert found.difference == pytest.approx(float((now - then).mean()))
    assert found.standard_error == pytest.approx(want.errors[0])
    assert found.design_effect == pytest.approx(want.effects[0])
    low, high = at_level(want.column(), 0.9)
    ends = found.ends.at(0.9)
    assert (ends.low, ends.high) == pytest.approx((max(low, -0.2), min(high, 0.9)), abs=1e-3)


def test_the_ends_of_a_change_move_with_a_figure_that_is_only_nearly_the_mean() -> None:
    sides = [
        Outcomes({"value": values}, lambda w, own: mean(w, own) * 3.0) for values in (THEN, NOW)
    ]
    found = compare_means(column_values)(*sides)
    low, high = at_level(means_of(NOW - THEN, None, (-1.0, 1.0), IN_A_MEAN).column(), 0.95)
    ends, step = found.ends.at(0.95), float((NOW - THEN).mean())
    assert found.difference == pytest.approx(3.0 * step)
    assert (ends.low, ends.high) == pytest.approx((low + 2.0 * step, high + 2.0 * step), abs=1e-3)
