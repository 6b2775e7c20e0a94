"""Lines against ID accuracy: checked against scikit-learn, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression

from pytest_cliprobust.study.axes import LINEAR, LOGIT, axis_of
from pytest_cliprobust.study.lines import correlation, fitted

X = np.random.default_rng(1).normal(size=12)
Y = 0.5 + 0.8 * X + np.random.default_rng(2).normal(scale=0.3, size=12)


def test_the_line_is_that_of_scikit_learn() -> None:
    line = fitted(X, Y)
    assert line is not None
    theirs = LinearRegression().fit(X[:, None], Y)
    assert line.slope == pytest.approx(theirs.coef_[0])
    assert line.intercept == pytest.approx(theirs.intercept_)
    assert line.at(X) == pytest.approx(theirs.predict(X[:, None]))


def test_the_band_is_that_of_a_regression_centred_there() -> None:
    # The intercept of a regression on x - a is the line at a, and its standard error the band's.
    line = fitted(X, Y, confidence=0.9)
    assert line is not None
    for place in (-1.0, 0.0, 2.5):
        shifted = stats.linregress(X - place, Y)
        half = stats.t.ppf(0.95, 10) * shifted.intercept_stderr
        low, high = line.band(np.array([place]))
        assert (low[0], high[0]) == pytest.approx(
            (shifted.intercept - half, shifted.intercept + half)
        )


def test_the_correlations_interval_is_scipys() -> None:
    ours = correlation(X, Y, 0.9)
    theirs = stats.pearsonr(X, Y)
    assert ours[0] == pytest.approx(theirs.statistic)
    assert ours[1:] == pytest.approx(tuple(theirs.confidence_interval(0.9)))


@pytest.mark.slow
def test_three_of_four_slopes_lie_in_a_75_percent_interval() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(800):
        x = generator.normal(size=8)
        line = fitted(x, 2 * x + generator.normal(size=8), confidence=0.75)
        assert line is not None
        held += line.low <= 2 <= line.high
    assert 0.70 < held / 800 < 0.80


def test_too_few_models_have_no_line() -> None:
    assert fitted(X[:2], Y[:2]) is None
    assert fitted(np.ones(5), Y[:5]) is None
    assert fitted(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])) is None
    assert all(map(math.isnan, correlation(np.ones(5), Y[:5])))
    assert correlation(X[:3], Y[:3])[1:] == (-1.0, 1.0)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=8))
def test_whatever_the_models_the_slope_lies_in_its_interval(
    points: list[tuple[float, float]],
) -> None:
    x, y = np.array(points).T
    line = fitted(x, y)
    if line is not None:
        assert line.low <= line.slope <= line.high
        low, high = line.band(x)
        assert (low <= line.at(x)).all()
        assert (line.at(x) <= high).all()


def test_shares_are_compared_as_logits() -> None:
    assert axis_of("accuracy") == LOGIT
    assert axis_of("nll") == LINEAR
    assert axis_of("accuracy_drop") == LINEAR
    assert axis_of("nobody_knows") == LINEAR


def test_three_models_have_a_line_and_what_hardly_varies_has_none() -> None:
    line = fitted(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0]), 0.9)
    assert line is not None
    # By hand: slope 1/2, residuals -1/2, 1, -1/2 with one degree of freedom, spread 2.
    assert line.n == 3
    assert (line.slope, line.intercept) == pytest.approx((0.5, 0.5))
    assert (line.residual, line.centre, line.spread) == pytest.approx((math.sqrt(1.5), 1.0, 2.0))
    half = stats.t.ppf(0.95, 1) * math.sqrt(1.5 / 2.0)
    assert (line.low, line.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert line.correlation[0] == pytest.approx(0.5)
    assert fitted(np.array([1e6, 1e6 + 5e-4, 1e6]), Y[:3]) is None
    assert fitted(np.array([0.0, 5e-10, 0.0]), Y[:3]) is None
    assert fitted(np.array([0.0, 2e-9, 0.0]), Y[:3]) is not None
    assert fitted(X[:4], np.array([1.0, np.inf, np.nan, 2.0])) is None


def test_the_fewest_models_of_a_correlation() -> None:
    ends = correlation(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert ends == pytest.approx((-1.0, -1.0, 1.0))
    assert all(map(math.isnan, correlation(X[:1], Y[:1])))
    for count in (2, 3, 5):  # without a difference there is no interval either, not even [-1, 1]
        assert all(map(math.isnan, correlation(X[:count], np.ones(count))))
        assert all(map(math.isnan, correlation(np.ones(count), Y[:count])))
    r, low, high = correlation(X[:4], Y[:4])
    theirs = stats.pearsonr(X[:4], Y[:4]).confidence_interval(0.95)
    assert (low, high) == pytest.approx((theirs.low, theirs.high))
    assert low < r < high
    # What lies on a line is known for sure.
    assert correlation(X, 2 * X)[1:] == pytest.approx((1.0, 1.0))


def test_how_far_shares_are_moved_in() -> None:
    ends = np.array([0.0, 1.0])
    for n, margin in ((None, 1e-3), (np.full(2, 100.0), 0.005), (np.full(2, 1.0), 0.25)):
        moved = math.log((1 - margin) / margin)
        assert LOGIT.to(ends, n) == pytest.approx([-moved, moved])
    assert LOGIT.to(ends, np.zeros(2)) == pytest.approx([-math.log(3), math.log(3)])
    assert LOGIT.to(np.array([0.25])) == pytest.approx([-math.log(3)])
    assert LOGIT.back(np.array([-math.log(3), 0.0])) == pytest.approx([0.25, 0.5])
    assert LINEAR.to(ends, np.ones(2)).tolist() == LINEAR.back(ends).tolist() == [0.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1), st.integers(1, 10**6))
def test_shares_of_0_and_1_stay_finite(values: list[float], n: int) -> None:
    there = LOGIT.to(np.array(values), np.full(len(values), float(n)))
    assert np.isfinite(there).all()
    assert np.abs(LOGIT.back(there) - values).max() <= 0.5 / n + 1e-9
    assert np.isfinite(LOGIT.to(np.array(values))).all()
