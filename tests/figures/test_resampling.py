"""Which samples a replicate draws, whole units among them, and intervals of replicates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from helpers import coverage
from scipy import stats as scipy_stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import resampling
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.resampling import Method, Resampling, replicate_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(plan: Resampling) -> Floats:
    """Return how often (R, n) each sample is drawn."""
    return np.concatenate(list(plan.counts()))


def means(
    values: Floats, *, strata: object = None, replicates: int = 1000, seed: int = 0
) -> Floats:
    """Return the means (R,) of resampled values, by the rows themselves."""
    plan = Resampling(
        len(values),
        strata=None if strata is None else np.asarray(strata),
        replicates=replicates,
        seed=seed,
    )
    return np.concatenate([values[rows].mean(axis=1) for rows in plan.indices()])


# --- Single samples


def test_resampling_does_not_depend_on_chunks_or_number_of_replicates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strata = rng(1).integers(0, 4, 50)
    whole = np.concatenate(list(Resampling(50, strata=strata, replicates=40).indices()))
    monkeypatch.setattr(resampling, "_CHUNK", 150)
    pieces = list(Resampling(50, strata=strata, replicates=40).indices())
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    fewer = np.concatenate(list(Resampling(50, strata=strata, replicates=7).indices()))
    np.testing.assert_array_equal(fewer, whole[:7])
    other = np.concatenate(list(Resampling(50, strata=strata, replicates=7, seed=1).indices()))
    assert (other != fewer).any()


def test_counts_are_how_often_the_positions_occur() -> None:
    plan = Resampling(9, strata=[0, 1, 1, 0, 2, 2, 2, 1, 0], replicates=30, seed=3)
    rows = np.concatenate(list(plan.indices()))
    want = np.stack([np.bincount(row, minlength=9) for row in rows])
    np.testing.assert_array_equal(drawn(plan), want)


def test_every_stratum_keeps_its_size() -> None:
    strata = np.array(["cat", "dog", "cat", "owl", "dog", "cat", "dog", "dog"])
    plan = Resampling(8, strata=strata, replicates=200)
    assert plan.stratified
    for counts in plan.counts():
        for name, size in (("cat", 3), ("dog", 4), ("owl", 1)):
            np.testing.assert_array_equal(counts[:, strata == name].sum(axis=1), size)
    many = drawn(Resampling(8, strata=strata, replicates=4000))
    np.testing.assert_allclose(many.mean(axis=0), 1.0, atol=0.07)
    # Multinomial within a stratum of 3: variance 3 * (1/3) * (2/3).
    np.testing.assert_allclose(many[:, [0, 2, 5]].var(axis=0), 2 / 3, atol=0.07)


def test_same_seed_same_bits() -> None:
    values = rng(3).normal(size=500)
    first = means(values, seed=9)
    assert first.tobytes() == means(values, seed=9).tobytes()
    assert first.tobytes() != means(values, seed=8).tobytes()


def test_the_spread_of_the_replicates_is_the_standard_error() -> None:
    values = rng(4).exponential(size=400)
    assert means(values, replicates=4000).std() == pytest.approx(values.std() / 20, rel=0.05)
    # Between-class variance is gone when the classes are strata.
    centres = np.repeat([0.0, 10.0], 200)
    noisy = centres + rng(5).normal(size=400)
    flat = means(noisy, replicates=500).std()
    stratified = means(noisy, strata=centres, replicates=2000).std()
    assert flat > 4 * stratified
    assert stratified == pytest.approx(1 / 20, rel=0.1)


def test_wrong_calls() -> None:
    with pytest.raises(ClipRobustError, match="no samples"):
        Resampling(0)
    with pytest.raises(ValueError, match=r"strata have shape \(2,\), the samples \(3,\)"):
        Resampling(3, strata=[0, 1])
    with pytest.raises(ValueError, match=r"units have shape \(4,\), the samples \(3,\)"):
        Resampling(3, units=[0, 1, 2, 2])
    with pytest.raises(ValueError, match="at least one replicate"):
        Resampling(3, replicates=0)


# --- Whole units

UNITS = np.array(["b", "a", "b", "c", "c", "c", "a", "d", "e", "e"])


@pytest.mark.parametrize("chunk", [1 << 21, 25, 10, 1])
def test_samples_of_a_unit_are_drawn_together(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = drawn(Resampling(10, units=UNITS, replicates=40, seed=2))
    monkeypatch.setattr(resampling, "_CHUNK", chunk)
    plan = Resampling(10, units=UNITS, replicates=40, seed=2)
    blocks = list(plan.counts())
    assert len(blocks) >= min(40, 400 // chunk)
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    np.testing.assert_array_equal(
        drawn(Resampling(10, units=UNITS, replicates=7, seed=2)), whole[:7]
    )
    for unit in "abcde":
        own = whole[:, unit == UNITS]
        np.testing.assert_array_equal(own, own[:, :1] * np.ones(own.shape))
    # As many units as there are, so that the number of samples is right on average only.
    first = [np.flatnonzero(unit == UNITS)[0] for unit in "abcde"]
    np.testing.assert_array_equal(whole[:, first].sum(axis=1), 5)
    assert len(set(whole.sum(axis=1))) > 3
    with pytest.raises(ValueError, match=r"differ in size: use counts\(\)"):
        next(iter(plan.indices()))


def test_units_are_drawn_as_samples_are() -> None:
    # Units in the order of their labels are samples of a plan with as many samples.
    plan = Resampling(10, units=UNITS, replicates=30, seed=4)
    alone = drawn(Resampling(5, replicates=30, seed=4))
    np.testing.assert_array_equal(drawn(plan), alone[:, np.searchsorted(list("abcde"), UNITS)])


def test_the_spread_of_whole_units_is_that_of_their_sums() -> None:
    generator = rng(6)
    units = np.repeat(np.arange(100), generator.integers(1, 6, 100))
    values = generator.normal(size=100)[units] + 0.3 * generator.normal(size=len(units))
    weights = drawn(Resampling(len(units), units=units, replicates=4000))
    ratios = (weights @ values) / weights.sum(axis=1)
    by_unit = np.bincount(units, weights=values - values.mean())
    assert ratios.std() == pytest.approx(math.sqrt((by_unit**2).sum()) / len(units), rel=0.06)
    single = drawn(Resampling(len(units), replicates=4000))
    assert ratios.var() > 2.0 * ((single @ values) / len(units)).var()


def test_units_of_one_sample_each_are_samples() -> None:
    plain = Resampling(10, replicates=8, seed=1)
    named = Resampling(10, replicates=8, seed=1, units=list("abcdefghij"))
    np.testing.assert_array_equal(drawn(named), drawn(plain))
    assert named.digest == plain.digest
    assert next(iter(named.indices())).shape == (8, 10)


@pytest.mark.parametrize("strata", [None, np.arange(10) % 3])
@pytest.mark.parametrize("units", [np.arange(10), UNITS])
def test_what_is_drawn_does_not_depend_on_the_order_of_the_samples(
    units: np.ndarray, strata: np.ndarray | None
) -> None:
    order = rng(7).permutation(10)
    plain = Resampling(10, units=units, strata=strata, replicates=30, seed=4)
    mixed = Resampling(
        10,
        units=units[order],
        strata=None if strata is None else strata[order],
        replicates=30,
        seed=4,
    )
    np.testing.assert_array_equal(drawn(mixed), drawn(plain)[:, order])
    # Counts are of the samples as they come, so plans of another order are not taken for each other.
    assert mixed.digest != plain.digest


def test_strata_of_whole_units_keep_their_number_of_units() -> None:
    strata = np.where(np.isin(UNITS, ["a", "b", "e"]), "x", "y")
    plan = Resampling(10, units=UNITS, strata=strata, replicates=200)
    assert plan.stratified
    weights = drawn(plan)
    first = {unit: int(np.flatnonzero(unit == UNITS)[0]) for unit in "abcde"}
    np.testing.assert_array_equal(weights[:, [first[u] for u in "abe"]].sum(axis=1), 3)
    np.testing.assert_array_equal(weights[:, [first[u] for u in "cd"]].sum(axis=1), 2)
    # Units of 2 samples each: their stratum keeps its number of samples, too.
    np.testing.assert_array_equal(weights[:, strata == "x"].sum(axis=1), 6)
    assert len(set(weights[:, strata == "y"].sum(axis=1))) > 1


def test_strata_that_cut_through_units_are_not_kept() -> None:
    strata = np.arange(10) % 2
    cut = Resampling(10, units=UNITS, strata=strata, replicates=50, seed=5)
    assert not cut.stratified
    np.testing.assert_array_equal(
        drawn(cut), drawn(Resampling(10, units=UNITS, replicates=50, seed=5))
    )
    # A single sample of one unit in another stratum is enough.
    nearly = np.where(np.isin(UNITS, ["a", "b", "e"]), 0, 1)
    nearly[-1] = 1
    assert not Resampling(10, units=UNITS, strata=nearly).stratified
    assert not Resampling(10, units=UNITS).stratified
    assert not Resampling(10).stratified


def test_the_digest_tells_what_is_drawn() -> None:
    plain = Resampling(6, seed=1)
    halves, thirds = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]
    digests = {
        plain.digest,
        Resampling(7, seed=1).digest,
        Resampling(6, seed=2).digest,
        Resampling(6, seed=1, strata=halves).digest,
        Resampling(6, seed=1, strata=[0, 0, 1, 1, 1, 1]).digest,
        # The same numbers as units are another plan than as strata, and both are a third one.
        Resampling(6, seed=1, units=halves).digest,
        Resampling(6, seed=1, units=thirds).digest,
        Resampling(6, seed=1, units=halves, strata=halves).digest,
        Resampling(6, seed=1, units=thirds, strata=[0, 0, 0, 0, 1, 1]).digest,
    }
    assert len(digests) == 9
    assert all(len(digest) == 24 for digest in digests)
    # The number of replicates and the names of strata and units do not matter.
    assert Resampling(6, seed=1, replicates=3).digest == plain.digest
    named = Resampling(6, seed=1, strata=list("aaabbb"))
    assert named.digest == Resampling(6, seed=1, strata=halves).digest
    drawings = Resampling(6, seed=1, units=list("xxyyzz"))
    assert drawings.digest == Resampling(6, seed=1, units=thirds).digest


# --- Intervals of replicates


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_intervals_agree_with_scipy(method: Method) -> None:
    values = rng(6).exponential(size=80)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method=method, rng=rng(7), vectorized=True
    ).confidence_interval
    ends = replicate_interval(values.mean(), means(values, replicates=20000), 0.95, method)
    width = expected.high - expected.low
    assert ends.low == pytest.approx(expected.low, abs=0.04 * width)
    assert ends.high == pytest.approx(expected.high, abs=0.04 * width)
    assert (ends.confidence, ends.method) == (0.95, method)


def test_percentiles_on_efrons_data_against_scipy() -> None:
    # The 15 law schools of Efron & Tibshirani (1993), table 3.1; correlation 0.776.
    lsat = np.array(
        [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594], float
    )
    gpa = np.array(
        [3.39, 3.3, 2.81, 3.03, 3.44, 3.07, 3.0, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
    )

    def correlation(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.corrcoef(x, y)[0, 1])

    rows = np.concatenate(list(Resampling(15, replicates=4000).indices()))
    replicates = np.array([correlation(lsat[row], gpa[row]) for row in rows])
    value = correlation(lsat, gpa)
    assert value == pytest.approx(0.776, abs=5e-4)
    # Their figure 6.2: 3,200 replicates have a standard error of 0.132.
    assert replicates.std() == pytest.approx(0.132, abs=0.006)
    expected = scipy_stats.bootstrap(
        (lsat, gpa),
        correlation,
        paired=True,
        vectorized=False,
        n_resamples=3000,
        method="percentile",
        rng=rng(1),
    ).confidence_interval
    ends = replicate_interval(value, replicates)
    assert ends.low == pytest.approx(expected.low, abs=0.04)
    assert ends.high == pytest.approx(expected.high, abs=0.01)


def test_far_levels_are_extrapolated_monotonically() -> None:
    values = rng(9).normal(size=200)
    replicates = means(values)
    levels = [0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.999999]
    ends = [replicate_interval(values.mean(), replicates, level) for level in levels]
    assert all(a.low > b.low and a.high < b.high for a, b in itertools.pairwise(ends))
    # A normal sample: the far end follows z, although no replicate lies there.
    far = ends[-1]
    assert far.high > replicates.max()
    error = values.std() / math.sqrt(200)
    assert (far.high - far.low) / 2 == pytest.approx(4.89 * error, rel=0.12)


def test_quantiles_are_read_off_as_far_as_five_replicates_lie_beyond() -> None:
    replicates = np.sort(rng(9).exponential(size=100))
    near = replicate_interval(1.0, replicates, 0.9)
    assert (near.low, near.high) == pytest.approx(tuple(np.quantile(replicates, [0.05, 0.95])))
    # Further out the distance from the median grows like the normal quantile.
    far = replicate_interval(1.0, replicates, 0.98)
    stretch = scipy_stats.norm.ppf(0.01) / scipy_stats.norm.ppf(0.05)
    low, median, high = np.quantile(replicates, [0.05, 0.5, 0.95])
    assert far.low == pytest.approx(median + (low - median) * stretch)
    assert far.high == pytest.approx(median + (high - median) * stretch)
    # So few replicates have no tail to go by.
    few = replicate_interval(1.0, replicates[:20], 0.98)
    assert (few.low, few.high) == pytest.approx(tuple(np.quantile(replicates[:20], [0.01, 0.99])))
    more = replicate_interval(1.0, replicates[:21], 0.98)
    assert more.low < np.quantile(replicates[:21], 0.01)


def test_the_basic_interval_is_reflected_at_the_estimate() -> None:
    replicates = rng(8).exponential(size=2000)
    plain = replicate_interval(0.8, replicates, 0.9)
    basic = replicate_interval(0.8, replicates, 0.9, "basic")
    assert (basic.low, basic.high) == pytest.approx((1.6 - plain.high, 1.6 - plain.low))


def test_undefined_replicates() -> None:
    some = np.linspace(0, 1, 100)
    some[:5] = np.nan
    kept = replicate_interval(0.5, some)
    assert math.isfinite(kept.low)
    some[:6] = np.nan
    assert math.isnan(replicate_interval(0.5, some).low)
    assert math.isnan(replicate_interval(math.nan, np.linspace(0, 1, 100)).high)
    assert math.isnan(replicate_interval(0.5, []).low)
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match="confidence must lie between"):
            replicate_interval(0.5, some, confidence)


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_coverage(method: Method) -> None:
    def mean(generator: np.random.Generator) -> tuple[float, float]:
        values = generator.exponential(size=60)
        replicates = means(values, replicates=300, seed=int(generator.integers(1 << 30)))
        ends = replicate_interval(values.mean(), replicates, 0.9, method)
        return ends.low, ends.high

    # Skewed data: first-order methods fall a few points short at n = 60.
    assert 0.81 < coverage(mean, 1.0, 300, 11) < 0.95


def test_whole_units_cover_where_single_samples_do_not() -> None:
    """40 units of 5 samples, which agree by 0.8: samples drawn one by one claim too much."""
    units = np.repeat(np.arange(40), 5)

    def make(kept: object) -> Callable[[np.random.Generator], tuple[float, float]]:
        def mean(generator: np.random.Generator) -> tuple[float, float]:
            values = generator.normal(size=40)[units] + 0.5 * generator.normal(size=200)
            plan = Resampling(
                200,
                units=None if kept is None else units,
                replicates=300,
                seed=int(generator.integers(1 << 30)),
            )
            weights = drawn(plan)
            ends = replicate_interval(values.mean(), weights @ values / weights.sum(axis=1), 0.9)
            return ends.low, ends.high

        return mean

    assert 0.83 < coverage(make(units), 0.0, 300, 12) < 0.96
    assert coverage(make(None), 0.0, 300, 12) < 0.7


@pytest.mark.parametrize("units", [2, 3, 10, 200])
def test_the_percentiles_of_normal_replicates_lie_as_far_out_as_students(units: int) -> None:
    """Hesterberg 2015: t quantiles of units - 1 degrees, wider by the root of units / (units - 1)."""
    replicates = scipy_stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    expected = scipy_stats.t.ppf(0.975, units - 1) * math.sqrt(units / (units - 1))
    methods: tuple[Method, ...] = ("percentile", "basic")
    for method in methods:
        found = replicate_interval(0.0, replicates, 0.95, method, units=units)
        assert (found.low, found.high) == pytest.approx((-expected, expected), rel=0.02)
    alone = replicate_interval(0.0, replicates, 0.95)
    assert alone.high == pytest.approx(scipy_stats.norm.ppf(0.975), rel=0.005)
