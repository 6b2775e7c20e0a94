"""What samples of one unit are worth: closed forms, the definition, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.clusters import (
    degrees_of,
    design_effect_of_mean,
    design_effect_of_share,
    size_effect,
    variance_of_mean,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_definition(values: Floats, units: Ints) -> float:
    """Return the variance of a ratio over clusters, one unit after the other."""
    names = sorted(set(units.tolist()))
    squares = [sum(values[units == u] - values.mean()) ** 2 for u in names]
    return float(len(names) / (len(names) - 1) * sum(squares) / len(values) ** 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(2, 9))
def test_the_variance_of_a_mean_is_its_definition(seed: int, n: int, count: int) -> None:
    units = rng(seed).integers(count, size=n)
    units[:2] = [0, 1]
    values = rng(seed + 1).normal(size=n)
    assert variance_of_mean(values, units) == pytest.approx(by_definition(values, units))
    # Numbers that no sample has are no units.
    assert variance_of_mean(values, 3 * units + 5) == pytest.approx(by_definition(values, units))
    order = rng(seed).permutation(n)
    assert variance_of_mean(values[order], units[order]) == pytest.approx(
        variance_of_mean(values, units)
    )


def test_single_samples_have_the_usual_variance() -> None:
    values = rng(1).normal(size=30)
    assert variance_of_mean(values, np.arange(30)) == pytest.approx(values.var(ddof=1) / 30)
    # One unit says nothing of how units differ.
    assert variance_of_mean(values, np.zeros(30, np.int64)) == math.inf


@pytest.mark.parametrize("sizes", [[4] * 25, [1, 2, 3, 4, 5] * 8, [60, 1, 1, 1, 1, 1]])
def test_samples_that_agree_within_their_unit_have_kishs_effect(sizes: list[int]) -> None:
    units = np.repeat(np.arange(len(sizes)), sizes)
    kish = sum(size**2 for size in sizes) / sum(sizes)
    assert size_effect(units) == pytest.approx(kish)
    # Nothing varies: nothing is known but that they may all be alike.
    for flat in (np.zeros(len(units)), np.full(len(units), 0.7)):
        assert design_effect_of_mean(flat, units) == pytest.approx(kish)


def test_units_of_one_size_that_agree_have_their_size_as_effect() -> None:
    units = np.repeat(np.arange(500), 4)
    alike = (rng(2).random(500) < 0.6).astype(float)[units]
    assert design_effect_of_mean(alike, units) == pytest.approx(4 * 500 / 499)
    # A single unit does not say how units differ: as if all of its samples were one.
    assert design_effect_of_mean(rng(5).normal(size=12), np.zeros(12, np.int64)) == 12
    # Half of the variance between units: 1 + (m - 1) ρ, ρ = 1/2.
    half = rng(3).normal(size=500)[units] + rng(4).normal(size=2000)
    assert design_effect_of_mean(half, units) == pytest.approx(1 + 3 * 0.5, rel=0.15)


def test_independent_samples_have_an_effect_of_one() -> None:
    units = np.repeat(np.arange(500), 4)
    effects = [
        design_effect_of_mean((rng(seed).random(2000) < 0.7).astype(float), units)
        for seed in range(40)
    ]
    assert min(effects) == 1.0
    assert np.mean(effects) == pytest.approx(1.02, abs=0.04)
    assert max(effects) < 1.25


def test_units_that_differ_less_than_chance_are_no_reason_for_less() -> None:
    # Each unit is right on one of two: the mean does not vary at all.
    units = np.repeat(np.arange(20), 2)
    answers: Floats = (np.arange(40) % 2).astype(np.float64)
    assert variance_of_mean(answers, units) == 0.0
    assert design_effect_of_mean(answers, units) == 1.0
    # A single unit is worth one sample, however many it has.
    values = rng(5).normal(size=12)
    assert design_effect_of_mean(values, np.zeros(12, np.int64)) == 12.0


def test_the_variance_is_that_of_repeated_drawing() -> None:
    """Units of unequal size, larger ones with larger values: the mean of a drawn sample of them."""
    generator = rng(6)
    means, drawn = [], []
    for _ in range(1500):
        sizes = generator.integers(1, 7, size=60)
        units = np.repeat(np.arange(60), sizes)
        values = (0.2 * sizes + generator.normal(size=60))[units] + generator.normal(
            size=len(units)
        )
        means.append(values.mean())
        drawn.append(variance_of_mean(values, units))
    assert np.mean(drawn) == pytest.approx(np.var(means), rel=0.1)


def share_effect_by_definition(hits: Bools, units: Ints) -> float:
    """Return the design effect of a share, with a quarter of a unit of hits and of misses supposed."""
    names = sorted(set(units.tolist()))
    sizes = [int((units == u).sum()) for u in names]
    each = sum(size**2 for size in sizes) / sum(sizes)  # samples in a unit that is supposed
    supposed, total = 0.25 * each, len(hits) + 0.5 * each
    share = (float(hits.sum()) + supposed) / total
    squares = sum(
        float(hits[units == u].sum() - n * share) ** 2 for u, n in zip(names, sizes, strict=True)
    )
    squares += 0.25 * (each * (1 - share)) ** 2 + 0.25 * (each * share) ** 2
    drawn = len(names) + 0.5
    effect = drawn / (drawn - 1) * squares / (total * share * (1 - share))
    return min(max(1.0, effect), float(len(hits)))


@pytest.mark.parametrize(
    ("sizes", "misses"),
    [
        ([3, 5], [0]),
        ([4, 4], [4, 5, 6, 7]),  # one of two units is missed as a whole
        ([1, 1], [1]),
        ([1, 2, 3, 4, 5], [0, 3, 4, 5]),
        ([4] * 10, [7]),
        ([4] * 10, [4, 5, 6, 7]),
        ([60, 1, 1], [0, 61]),
    ],
)
def test_a_share_has_the_effect_of_its_units_and_of_two_halves_that_are_supposed(
    sizes: list[int], misses: list[int]
) -> None:
    units = np.repeat(np.arange(len(sizes)), sizes)
    hits = np.ones(len(units), dtype=np.bool_)
    hits[misses] = False
    want = share_effect_by_definition(hits, units)
    assert design_effect_of_share(hits, units) == pytest.approx(want)
    # Neither the order nor the numbers of the units count, and hits are as good as misses.
    assert design_effect_of_share(hits[::-1], 2 * units[::-1] + 3) == pytest.approx(want)
    assert design_effect_of_share(~hits, units) == pytest.approx(want)


def test_a_share_that_does_not_vary_is_worth_its_units_and_one_unit_is_worth_one() -> None:
    units = np.repeat([0, 1, 2], [1, 2, 3])
    for flat in (np.ones(6, dtype=np.bool_), np.zeros(6, dtype=np.bool_)):
        assert design_effect_of_share(flat, units) == pytest.approx(14 / 6)
    assert design_effect_of_share(np.arange(6) > 0, np.zeros(6, np.int64)) == 6.0


def test_degrees_of_freedom_are_those_of_the_units() -> None:
    assert [degrees_of(12, units) for units in (2, 3, 11)] == [1.0, 2.0, 10.0]
    # Single samples have no effect to estimate, and one unit cannot say how units differ.
    assert [degrees_of(12, units) for units in (None, 12, 13, 1, 0)] == [math.inf] * 5
