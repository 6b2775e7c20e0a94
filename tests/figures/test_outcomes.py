"""What figures are functions of: columns and statistics against loops, and sums that do not round."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import drawn_rows, drawn_samples, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import outcomes as o
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.outcomes import Outcomes

RNG = np.random.default_rng(3)


def spread(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the weighted mean of the column ``value`` among those of the first group."""
    first = outcomes["group"] == 0
    return o.ratio(o.sums(weights, outcomes["value"] * first), o.sums(weights, first))


def case(n: int = 12) -> Outcomes:
    return Outcomes(
        {"value": RNG.normal(size=n)},
        spread,
        attributes={"group": np.arange(n) % 3, "stratum": np.arange(n) % 2},
        parameters={"strengths": [0.0, 0.5]},
        keys=keys_of(n),
    )


# --- Outcomes


def test_columns_attributes_and_keys_are_of_the_same_samples() -> None:
    flat, table = np.zeros(4), np.zeros((3, 2))
    for columns, attributes, keys in (
        ({"a": flat, "b": table}, {}, None),
        ({"a": flat}, {"b": table}, None),
        ({"a": flat}, {}, keys_of(3)),
    ):
        with pytest.raises(ClipRobustError, match=r"different samples: columns of \[3, 4\] rows"):
            Outcomes(columns, o.mean, attributes=attributes, keys=keys)
    fits = Outcomes({"a": flat, "b": np.zeros((4, 2))}, o.mean, keys=keys_of(4))
    assert len(fits) == 4


def test_taking_rows_takes_everything_with_them() -> None:
    whole = case()
    part = whole.take(np.array([7, 3, 0]))
    assert len(part) == 3
    np.testing.assert_array_equal(part["value"], whole["value"][[7, 3, 0]])
    assert part["group"].tolist() == [1, 0, 0]
    assert part["stratum"].tolist() == [1, 1, 0]
    assert part.keys is not None
    assert part.keys.ids == ("image7", "image3", "image0")
    assert (part.parameters, part.statistic) == (whole.parameters, whole.statistic)
    bare = whole.of(None).take(np.array([1]))
    assert bare.keys is None
    assert bare.of(keys_of(1)).keys == keys_of(1)


def test_the_value_counts_each_sample_once() -> None:
    outcomes = case()
    own = outcomes["value"][outcomes["group"] == 0]
    assert outcomes.value() == pytest.approx(own.mean())
    weights = np.array([[1.0] * 12, [0.0, 1.0, 2.0] * 4, [2.0, 0.0, 0.0] * 4])
    replicates = outcomes.at(weights)
    assert replicates.shape == (3,)
    assert replicates[[0, 2]] == pytest.approx([own.mean(), own.mean()])
    assert np.isnan(replicates[1])
    with pytest.raises(KeyError):
        outcomes["other"]


def test_a_share_is_a_mean_of_one_column_of_booleans() -> None:
    right, numbers = np.array([True, False]), np.array([1.0, 0.0])
    assert Outcomes({"value": right}, o.mean).is_share
    assert not Outcomes({"value": numbers}, o.mean).is_share
    assert not Outcomes({"value": right}, o.drop).is_share
    assert not Outcomes({"value": right, "other": right}, o.mean).is_share


def test_equal_answers_of_few_kinds_may_be_those_of_two_models() -> None:
    right, numbers = np.array([True, False]), np.array([0.25, 0.5])
    for columns, coarse, apart in (
        ({"value": right}, False, False),
        ({"value": right, "other": right}, False, False),
        ({"value": numbers}, False, True),
        ({"value": right, "other": numbers}, False, True),
        ({"value": numbers, "other": right}, False, True),
        ({"value": numbers}, True, False),
    ):
        made = Outcomes(columns, o.mean, coarse=coarse)
        assert made.tells_models_apart == apart, columns
    # What stands beside the answers is no answer.
    beside = Outcomes({"value": right}, o.mean, attributes={"weight": numbers})
    assert not beside.tells_models_apart


# --- Sums


@pytest.mark.parametrize("scale", [1e-200, 1.0, 3e8])
def test_exact_columns_sum_to_the_same_in_every_order(scale: float) -> None:
    columns = RNG.normal(size=1000) * scale
    fixed = o.exact(columns, 1000)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(1000)
        assert fixed[order].cumsum()[-1] == math.fsum(fixed)
    # The grid is the finest on which the largest sum has 52 bits.
    units = np.ldexp(fixed, 52 - math.frexp(np.abs(columns).max() * 1000)[1])
    np.testing.assert_array_equal(units, np.rint(units))
    assert (units % 2 == 1).any()
    np.testing.assert_allclose(fixed, columns, rtol=0, atol=1000 * scale * 6 / 2.0**52)


def test_columns_that_have_no_grid_are_left_alone() -> None:
    zero, endless = np.zeros((3, 2)), np.array([1.0, np.inf])
    assert o.exact(zero, 3) is zero
    assert o.exact(endless, 2) is endless
    assert o.exact(np.empty((0, 2)), 0).shape == (0, 2)


@pytest.mark.parametrize("large", [1, 40, 400])
def test_sums_of_resamples_do_not_round(large: int) -> None:
    # One unit of many samples among twenty of one: resamples of several times as many samples.
    units = np.concatenate([np.zeros(large, np.int64), np.arange(1, 21)])
    plan = Bootstrap(replicates=60, seed=3, keys=keys_of(len(units), units)).plan(len(units))
    weights = np.concatenate(list(plan.counts()))
    if large > 1:
        assert weights.sum(axis=1).max() > 2.5 * len(units)
    column = 1.0 + RNG.random(len(units))
    column[0] = 2.0 - 2.0**-52
    # As a linear-algebra library may add them: in two orders, all of it or the halves apart.
    totals = o.sums(weights, column)
    order = RNG.permutation(len(units))
    np.testing.assert_array_equal(o.sums(weights[:, order], column[order]), totals)
    halves = np.zeros((len(units), 2))
    halves[::2, 0], halves[1::2, 1] = column[::2], column[1::2]
    np.testing.assert_array_equal(o.sums(weights, halves).sum(axis=1), totals)
    want = [math.fsum(row * o.exact(column, o.ROOM * len(column))) for row in weights]
    np.testing.assert_array_equal(totals, want)
    np.testing.assert_allclose(totals, weights @ column, rtol=1e-12)


def test_the_room_is_as_large_as_it_says() -> None:
    # Numbers as large as can be, and eight times as many of them as there are samples.
    rng = np.random.default_rng(6)
    column = 2.0 - 0.1 * rng.random(64)
    column[0] = 2.0 - 2.0**-52
    weights = rng.multinomial(8 * 64, np.full(64, 1 / 64), size=40).astype(float)
    fixed = o.exact(column, o.ROOM * 64)
    want = [math.fsum(np.repeat(fixed, row.astype(int))) for row in weights]
    np.testing.assert_array_equal(o.sums(weights, column), want)


def test_ratio_is_undefined_over_zero() -> None:
    got = o.ratio([1.0, 0.0, -3.0], [2.0, 0.0, 0.0])
    assert got[0] == 0.5
    assert np.isnan(got[1:]).all()
    assert o.ratio(np.ones((2, 3)), 4.0).tolist() == [[0.25] * 3] * 2


# --- Statistics


def test_sums_and_means_of_columns_of_any_kind() -> None:
    weights = RNG.integers(0, 4, size=(5, 9)).astype(float)
    weights[0] = 0.0
    table, flags = RNG.normal(size=(9, 3)), RNG.random(9) < 0.5
    assert o.sums(weights, table).shape == o.means(weights, table).shape == (5, 3)
    np.testing.assert_allclose(o.sums(weights, table), weights @ table, atol=1e-9)
    np.testing.assert_array_equal(o.sums(weights, flags), (weights * flags).sum(axis=1))
    assert np.isnan(o.means(weights, table)[0]).all()
    assert np.isnan(o.means(weights, flags)[0])
    for row, got in zip(weights[1:], o.means(weights, table)[1:], strict=True):
        np.testing.assert_allclose(got, np.average(table, axis=0, weights=row))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_statistics_are_those_of_the_drawn_rows(seed: int, clustered: bool) -> None:
    rng = np.random.default_rng(seed)
    clean, shifted = rng.random(25) < 0.8, rng.random(25) < 0.6
    numbers, trials = rng.normal(size=25), rng.integers(1, 5, 25)
    keys = keys_of(25, np.arange(25) // 3) if clustered else None
    boot = Bootstrap(replicates=12, seed=seed % 1000, keys=keys)
    weights = np.concatenate(list(boot.plan(25).counts()))
    pair = {"clean": clean, "shifted": shifted}
    every = {
        "mean": Outcomes({"value": numbers}, o.mean),
        "drop": Outcomes(pair, o.drop),
        "relative": Outcomes(pair, o.relative_drop),
        "quotient": Outcomes({"hits": numbers, "trials": trials}, o.quotient),
    }
    have = {name: outcomes.at(weights) for name, outcomes in every.items()}
    rows = drawn_samples(boot, 25) if clustered else list(drawn_rows(boot, 25))
    for number, drawn in enumerate(rows):
        before, after = clean[drawn].mean(), shifted[drawn].mean()
        want = {
            "mean": numbers[drawn].mean(),
            "drop": before - after,
            "relative": (before - after) / before if before else math.nan,
            "quotient": numbers[drawn].sum() / trials[drawn].sum(),
        }
        got = {name: values[number] for name, values in have.items()}
        assert got == pytest.approx(want, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("made", "recorded", "same"),
    [
        (0.5, 0.5, True),
        (0.5, 0.5 + 0.9e-5, True),
        (0.5, 0.5 - 1.1e-5, False),
        (-0.5, 0.5, False),
        (300.0, 300.0029, True),
        (300.0, 300.0031, False),
        (-300.0, -300.0029, True),
        (-300.0, -300.0031, False),
        (0.0, 0.9e-5, True),
        (math.nan, math.nan, False),
    ],
)
def test_a_value_is_the_same_as_far_as_float32_keeps_it(
    made: float, recorded: float, same: bool
) -> None:
    assert o.same_value(made, recorded) == same
