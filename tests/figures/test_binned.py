"""Sums of absolute values over bins: bias, its bounds, and the change between two runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from pytest_cliprobust.figures import binned as b
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.clusters import variance_of_mean
from pytest_cliprobust.figures.ends import at_level
from pytest_cliprobust.figures.means import means_of


def expected(function: object, m: float) -> float:
    density = stats.norm.pdf
    value, _ = integrate.quad(
        lambda x: function(x) * density(x - m),  # type: ignore[operator]
        m - 9,
        m + 9,
        points=[0.0] if abs(m) < 9 else None,
    )
    return float(value)


def test_the_bias_of_an_absolute_value() -> None:
    for m in (0.0, 0.4, 1.0, 2.5):
        assert b._bias(np.array([m]))[0] == pytest.approx(expected(abs, m) - m, abs=1e-8)


def test_what_is_left_of_the_bias_is_at_most_what_it_says() -> None:
    left = [
        expected(lambda x: abs(x) - 2.0 * stats.norm.pdf(x), m) - m
        for m in np.linspace(0.0, 5.0, 51)
    ]
    assert max(map(abs, left)) == pytest.approx(b._LEFT, abs=1e-3)
    assert max(left) == pytest.approx(left[0], abs=1e-9)
    assert left[0] == pytest.approx(0.2336, abs=1e-3)


def one_bin(count: int, bins: int, index: Ints) -> Floats:
    members = np.zeros((count, bins))
    members[np.arange(count), index] = 1.0
    return members


def made(seed: int = 0, count: int = 200) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    correct = (rng.random(count) < confidence).astype(np.float64)
    return one_bin(count, 5, (confidence * 5).astype(np.int64)), confidence, correct


def test_the_parts_are_those_of_the_sum() -> None:
    members, confidence, correct = made()
    codes = np.arange(200) // 4
    for units in (None, codes):
        parts = b.binned(members, confidence, correct, units)
        gaps = confidence - correct
        np.testing.assert_allclose(parts.sums, members.T @ gaps / 200)
        assert parts.signed.mean() == pytest.approx(np.abs(parts.sums).sum())
        model = members.T @ (confidence * (1 - confidence)) / 200**2
        for k in range(5):
            single = variance_of_mean(members[:, k] * gaps, np.arange(200))
            drawn = single if units is None else variance_of_mean(members[:, k] * gaps, units)
            assert parts.errors[k] ** 2 == pytest.approx(max(single, drawn, model[k]))
        assert parts.debiased < np.abs(parts.sums).sum()
        assert 0.0 < parts.largest_bias <= 0.7979 * parts.errors.sum()
        assert parts.supposed[1] - parts.supposed[0] == pytest.approx(
            (members @ np.where(parts.sums >= 0, 1.0, -1.0)).mean()
        )


def test_the_interval_reaches_down_by_the_bias_and_up_by_the_error_alone() -> None:
    signed = means_of(np.random.default_rng(1).normal(size=80), None)
    mean = float(signed.values[0])
    low, high = at_level(b.ends_of(0.3, signed, 0.05), 0.95)
    below, above = at_level(signed.column(), 0.95)
    half = max(above - mean, mean - below)
    assert (low, high) == pytest.approx((0.25 - half, 0.3 + half))


def test_signs_that_are_plain_leave_no_bias() -> None:
    sums, errors = np.array([0.5, -0.4, 0.0]), np.array([0.01, 0.01, 0.0])
    assert b.largest_bias(sums, errors) == pytest.approx(0.0, abs=1e-12)
    assert b.largest_bias(np.zeros(3), np.full(3, 0.1)) == pytest.approx(0.3 * 0.79788, abs=1e-4)


def test_a_calibrated_run_against_one_that_is_not() -> None:
    """The plain difference of the two figures is biased; the estimate of the change far less so."""
    count, plain, found, held = 1000, [], [], 0
    for seed in range(80):
        rng = np.random.default_rng([seed, 1])
        members, confidence, correct = made(seed, count)
        bold = 0.12 + 0.88 * confidence
        wide = one_bin(count, 5, np.minimum((bold * 5).astype(np.int64), 4))
        again = (rng.random(count) < confidence).astype(np.float64)
        before = b.binned(members, confidence, correct, None)
        after = b.binned(wide, bold, again, None)
        compared = b.compare_binned(before, after, None)
        plain.append(np.abs(after.sums).sum() - np.abs(before.sums).sum())
        found.append(compared.difference)
        interval = compared.ends.at(0.95)
        assert interval.low < compared.difference < interval.high
        held += interval.low <= 0.06 <= interval.high
    # 0.12 + 0.88 c is 0.06 too high on average.
    assert np.mean(plain) < 0.043
    assert abs(np.mean(found) - 0.06) < 0.6 * abs(np.mean(plain) - 0.06)
    assert held >= 75


def test_one_unit_has_no_interval() -> None:
    members, confidence, correct = made(count=4)
    codes = np.zeros(4, dtype=np.int64)
    parts = b.binned(members, confidence, correct, codes)
    signed = means_of(parts.signed, codes, parts.supposed)
    assert math.isnan(at_level(b.ends_of(0.1, signed, parts.largest_bias), 0.95)[0])
