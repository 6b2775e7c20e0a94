"""A metric of one's own: values of samples, and any statistic of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers import drawn_samples

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import mean_figure, proportion_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.measure import measure
from pytest_cliprobust.figures.samples import SampleArrays


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def samples(count: int, each: int = 1) -> SampleArrays:
    """Return samples, ``each`` of one unit."""
    return SampleArrays(
        Condition("mine"),
        tuple(f"i{number}" for number in range(count)),
        np.zeros(count, np.int64),
        np.zeros((count, 2)),
        units=tuple(f"u{number // each}" for number in range(count)),
        seed=3,
    )


@pytest.mark.parametrize("each", [1, 4])
def test_booleans_are_shares(each: int) -> None:
    hits, view = rng(1).random(40) < 0.7, samples(40, each)
    figure = measure("accuracy", view, lambda _: hits)
    want = proportion_figure("accuracy", hits, view.bootstrap)
    assert figure == want.measured_on(Condition("mine"))
    assert figure.units == 40 // each
    assert figure.outcomes is not None
    assert figure.outcomes.is_share


@pytest.mark.parametrize("each", [1, 4])
def test_statistics_are_of_the_drawn_values(each: int) -> None:
    values, view = rng(2).exponential(size=40), samples(40, each)
    plain = measure("nll", view, lambda _: values)
    median = measure("nll", view, lambda _: values, statistic=lambda v: float(np.median(v)))
    assert (plain.value, median.value) == (values.mean(), np.median(values))
    for figure in (plain, median):
        assert (figure.unit, figure.n, figure.units) == ("nats", 40, 40 // each)
        assert figure.low < figure.value < figure.high
        assert figure.outcomes is not None
        assert figure.outcomes.value() == pytest.approx(figure.value)
    assert plain == mean_figure(
        "nll", values, view.bootstrap, unit="nats", bounds=(0.0, math.inf)
    ).measured_on(Condition("mine"))
    drawn = drawn_samples(view.bootstrap, 40)
    np.testing.assert_allclose(median.replicates, [np.median(values[rows]) for rows in drawn])


def test_rows_of_values_need_a_statistic() -> None:
    table, view = rng(3).random((20, 3)), samples(20)
    figure = measure(
        "accuracy", view, lambda _: table, statistic=lambda rows: float(rows.max(axis=1).min())
    )
    assert figure.value == table.max(axis=1).min()
    want = [table[rows].max(axis=1).min() for rows in drawn_samples(view.bootstrap, 20)]
    np.testing.assert_array_equal(figure.replicates, want)
    with pytest.raises(ClipRobustError, match=r"values of shape \(20, 3\) need a statistic"):
        measure("accuracy", view, lambda _: table)
    with pytest.raises(ClipRobustError, match="'accuracy': 19 values for the 20 samples of mine"):
        measure("accuracy", view, lambda _: table[1:], statistic=np.mean)


def test_values_that_are_not_finite_have_no_interval() -> None:
    values = rng(4).random(20)
    for wrong in (math.nan, math.inf):
        values[3] = wrong
        figure = measure("nll", samples(20), lambda _: values)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)


def test_figures_of_ones_own_are_compared_in_pairs() -> None:
    first = rng(5).exponential(size=60)
    second, view = first + 0.1 * rng(6).normal(size=60), samples(60, 2)
    for statistic in (None, lambda v: float(np.quantile(v, 0.8))):
        before = measure("nll", view, lambda _: first, statistic=statistic)
        after = measure("nll", view, lambda _: second, statistic=statistic)
        change = change_between(after, before)
        assert (change.paired, change.n, change.units) == (True, 60, 30)
        assert change.difference == pytest.approx(after.value - before.value, abs=1e-12)
        apart = change_between(after, before, why_not="on purpose")
        assert change.standard_error < 0.5 * apart.standard_error


@pytest.mark.parametrize(
    ("values", "statistic", "words"),
    [
        (
            lambda _: 0.5,
            None,
            "'accuracy': one number for each sample is needed, not array\\(0.5\\)",
        ),
        (lambda _: None, None, "one number for each sample is needed"),
        (lambda view: list(view.ids), None, "one number for each sample is needed"),
        (lambda _: np.ones(20) * 1j, None, "one number for each sample is needed"),
        (
            lambda _: np.ones(20),
            "median",
            "a function from values to one number, .* not to 'median'",
        ),
        (lambda _: np.ones(20), np.sort, "a function from values to one number"),
        (lambda _: np.ones(20), lambda rows: None, "not to None"),
        (
            lambda _: np.full(20, 7.0),
            None,
            "'accuracy': 7 on mine is outside its range, 0 to 1; reg",
        ),
        # One number in a list is none: of two samples there would be two.
        (
            lambda _: np.ones(20),
            lambda rows: rows[:1],
            "from values to one number, such as np.median",
        ),
        (lambda _: np.ones(20), lambda rows: [0.5], "from values to one number"),
        (lambda _: np.full(20, -0.01), None, "-0.01 on mine is outside its range"),
        (lambda _: np.ones(20), lambda rows: 1.01, "1.01 on mine is outside its range"),
    ],
)
def test_what_is_no_measure_is_one_line(values: Any, statistic: Any, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words) as caught:
        measure("accuracy", samples(20), values, statistic)
    assert "\n" not in str(caught.value)


def test_a_last_digit_outside_the_range_is_inside() -> None:
    assert measure("accuracy", samples(20), lambda _: np.full(20, 1 + 1e-12)).value > 1
    assert measure("accuracy", samples(20), lambda _: np.full(20, -1e-12)).value < 0


def test_arguments_in_another_order_are_one_line() -> None:
    view = samples(20)
    for wrong in ((view, "accuracy"), ("accuracy", "clean")):
        with pytest.raises(ClipRobustError, match=r"the metric's name, samples such as clip\.on"):
            measure(wrong[0], wrong[1], np.asarray)  # type: ignore[arg-type, type-var]


def test_values_are_a_function_of_the_samples() -> None:
    for given in (np.zeros(4), [0.0] * 4, None):
        values: Any = given
        with pytest.raises(ClipRobustError) as error:
            measure("accuracy", samples(4), values)
        assert str(error.value) == (
            "metric 'accuracy': give a function of the samples, such as lambda view: view.correct, not an "
            "array: whose it is, an array does not say"
        )
