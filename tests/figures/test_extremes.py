"""The least and the largest of several: simultaneous intervals, and the change between two runs."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.figures.ends import at_level, share_ends
from pytest_cliprobust.figures.extremes import compare_extremes, extreme_ends
from pytest_cliprobust.figures.means import means_of

RNG = np.random.default_rng(4)


def test_one_part_is_its_own_extreme() -> None:
    own = at_level(share_ends(0.75, 40.0), 0.95)
    for largest in (False, True):
        assert at_level(extreme_ends([share_ends(0.75, 40.0)], largest=largest), 0.95) == own


def test_ends_are_the_extremes_of_simultaneous_ones() -> None:
    parts = [share_ends(*part) for part in ((0.9, 30.0), (0.7, 50.0), (0.75, 10.0))]
    lows, highs = zip(*(at_level(part, 1.0 - 0.05 / 3.0) for part in parts), strict=True)
    assert at_level(extreme_ends(parts), 0.95) == pytest.approx((min(lows), min(highs)))
    assert at_level(extreme_ends(parts, largest=True), 0.95) == pytest.approx(
        (max(lows), max(highs))
    )


def test_the_change_of_an_extreme_lies_between_those_of_what_may_be_extreme() -> None:
    before = [RNG.normal(m, 1.0, size=400) for m in (0.0, 0.1, 5.0)]
    after = [before[0] - 0.3, before[1] + 0.2, before[2] - 3.0]
    compared = compare_extremes(before, after, [None] * 3)
    least = [min(float(v.mean()) for v in side) for side in (before, after)]
    assert compared.difference == pytest.approx(least[1] - least[0])
    ends = compared.ends.at(0.95)
    # The third part is far from the least in either run: its large change does not count.
    assert -0.35 < ends.low <= compared.difference <= ends.high < 0.25
    flipped = compare_extremes([-v for v in before], [-v for v in after], [None] * 3, largest=True)
    other = flipped.ends.at(0.95)
    assert flipped.difference == pytest.approx(-compared.difference)
    assert (other.low, other.high) == pytest.approx((-ends.high, -ends.low))


def test_units_widen_the_change() -> None:
    codes = np.arange(100) // 4
    step = np.repeat(RNG.normal(size=25), 4)
    before = [RNG.normal(size=100)]
    after = [before[0] + step]
    alone = compare_extremes(before, after, [None])
    units = compare_extremes(before, after, [codes])
    assert units.design_effect == pytest.approx(means_of(step, codes, (1.0,)).effects[0])
    assert units.standard_error > 1.5 * alone.standard_error


def test_answers_that_do_not_change_claim_no_certainty() -> None:
    same = [np.ones(30), np.zeros(30)]
    ends = compare_extremes(same, same, [None, None]).ends.at(0.95)
    assert ends.low < 0.0 < ends.high
