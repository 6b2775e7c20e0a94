"""Intervals, paired tests, multiple-testing control: textbook values, scipy, coverage."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import auroc, intervals, levels, paired, resampling
from pytest_cliprobust.figures.figure import Figure, IntervalMethod


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- Proportions


def test_wilson_matches_newcombes_table() -> None:
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        ends = intervals.wilson(successes, trials)
        assert (round(ends.low, 4), round(ends.high, 4)) == (low, high)


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 10, 13, 25, 20, 1000])
def test_none_and_all_have_exact_ends(trials: int) -> None:
    assert intervals.wilson(0, trials).low == 0.0
    assert intervals.wilson(trials, trials).high == 1.0


@settings(max_examples=25, deadline=None)
@given(
    trials=st.integers(1, 3000),
    share=st.floats(0, 1),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.9999]),
)
def test_wilson_matches_scipy(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    test = scipy_stats.binomtest(successes, trials)
    expected = test.proportion_ci(confidence, method="wilson")
    ends = intervals.wilson(successes, trials, confidence)
    assert (ends.low, ends.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_intervals_need_samples() -> None:
    with pytest.raises(ClipRobustError, match="no samples"):
        intervals.wilson(0, 0)
    with pytest.raises(ClipRobustError, match="no samples"):
        resampling.bootstrap_mean([])
    with pytest.raises(ValueError, match="5 successes out of 4"):
        intervals.wilson(5, 4)
    with pytest.raises(ValueError, match="-1 successes out of 4"):
        intervals.wilson(-1, 4)
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match="confidence"):
            intervals.wilson(1, 2, confidence)


DEFAULTS = {
    "replicates": 1000,
    "seed": 0,
    "confidence": 0.95,
    "method": "percentile",
    "weighted": False,
    "acceleration": 0.0,
    "power": 0.5,
    "samples": "",
    "unit": "",
}


@pytest.mark.parametrize(
    "function",
    [
        *(
            intervals.wilson,
            resampling.Resampling,
            resampling.replicate_interval,
            resampling.bootstrap,
            resampling.bootstrap_mean,
        ),
        *(
            resampling.proportion,
            auroc.auroc,
            intervals.agresti_min,
            paired.mcnemar,
            paired.paired_bootstrap,
        ),
        *(paired.difference_interval, intervals.samples_needed),
    ],
)
def test_settings_mean_the_same_everywhere(function: Callable[..., object]) -> None:
    parameters = inspect.signature(function).parameters
    given_ = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name in DEFAULTS and parameter.default is not inspect.Parameter.empty
    }
    assert given_
    assert given_ == {name: DEFAULTS[name] for name in given_}


# --- Bootstrap


def test_resampling_does_not_depend_on_chunks_or_number_of_replicates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strata = rng(1).integers(0, 4, 50)
    whole = np.concatenate(list(resampling.Resampling(50, strata=strata, replicates=40).indices()))
    monkeypatch.setattr(resampling, "_CHUNK", 150)
    pieces = list(resampling.Resampling(50, strata=strata, replicates=40).indices())
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    fewer = np.concatenate(list(resampling.Resampling(50, strata=strata, replicates=7).indices()))
    np.testing.assert_array_equal(fewer, whole[:7])
    other = np.concatenate(
        list(resampling.Resampling(50, strata=strata, replicates=7, seed=1).indices())
    )
    assert (other != fewer).any()


def test_every_stratum_keeps_its_size() -> None:
    strata = np.array(["cat", "dog", "cat", "owl", "dog", "cat", "dog", "dog"])
    for counts in resampling.Resampling(8, strata=strata, replicates=200).counts():
        for name, size in (("cat", 3), ("dog", 4), ("owl", 1)):
            np.testing.assert_array_equal(counts[:, strata == name].sum(axis=1), size)
    drawn = np.concatenate(list(resampling.Resampling(8, strata=strata, replicates=4000).counts()))
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.07)
    # Multinomial within a stratum of 3: variance 3 * (1/3) * (2/3).
    np.testing.assert_allclose(drawn[:, [0, 2, 5]].var(axis=0), 2 / 3, atol=0.07)


@pytest.mark.parametrize("block", [7, 1000])
def test_three_ways_to_the_same_replicates(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CHUNK", 60 * block)
    values = rng(2).normal(size=60)
    strata = np.arange(60) % 5
    fast = resampling.bootstrap(
        np.mean, values, strata=strata, replicates=300, seed=4, method="bca"
    )
    slow = resampling.bootstrap(
        lambda x: x.mean(), values, strata=strata, replicates=300, seed=4, method="bca"
    )
    heavy = resampling.bootstrap(
        lambda w, x: (w * x).sum(axis=1) / w.sum(axis=1),
        values,
        strata=strata,
        replicates=300,
        seed=4,
        method="bca",
        weighted=True,
    )
    np.testing.assert_allclose(fast.replicates, slow.replicates, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.replicates, heavy.replicates, rtol=0, atol=1e-12)
    plain = resampling.bootstrap(lambda x: x.mean(), values, replicates=3)
    assert (
        plain.acceleration is resampling.bootstrap_mean(values, replicates=3).acceleration is None
    )
    assert fast.acceleration is not None
    assert slow.acceleration == pytest.approx(fast.acceleration, rel=0.2)
    assert slow.acceleration == pytest.approx(heavy.acceleration, rel=1e-6)
    assert fast.method == "stratified bootstrap, 300, BCa"


def test_the_digest_tells_what_is_drawn() -> None:
    plain = resampling.Resampling(6, seed=1)
    digests = {
        plain.digest,
        resampling.Resampling(7, seed=1).digest,
        resampling.Resampling(6, seed=2).digest,
        resampling.Resampling(6, seed=1, strata=[0, 0, 0, 1, 1, 1]).digest,
        resampling.Resampling(6, seed=1, strata=[0, 0, 1, 1, 1, 1]).digest,
    }
    assert len(digests) == 5
    assert len(plain.digest) == 24
    # The number of replicates and the names of the strata do not matter.
    assert resampling.Resampling(6, seed=1, replicates=3).digest == plain.digest
    named = resampling.Resampling(6, seed=1, strata=list("aaabbb"))
    assert named.digest == resampling.Resampling(6, seed=1, strata=[0, 0, 0, 1, 1, 1]).digest


def test_samples_have_the_digest_of_their_ids_in_order() -> None:
    digests = {
        resampling.samples_digest(ids) for ids in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"])
    }
    assert len(digests) == 4
    assert all(len(digest) == 24 for digest in digests)


def test_same_seed_same_bits() -> None:
    values = rng(3).normal(size=500)
    first = resampling.bootstrap_mean(values, seed=9)
    assert (
        first.replicates.tobytes() == resampling.bootstrap_mean(values, seed=9).replicates.tobytes()
    )
    assert (
        first.replicates.tobytes() != resampling.bootstrap_mean(values, seed=8).replicates.tobytes()
    )


def test_the_spread_of_the_replicates_is_the_standard_error() -> None:
    values = rng(4).exponential(size=400)
    result = resampling.bootstrap_mean(values, replicates=4000)
    assert result.replicates.std() == pytest.approx(values.std() / 20, rel=0.05)
    # Between-class variance is gone when the classes are strata.
    means = np.repeat([0.0, 10.0], 200)
    noisy = means + rng(5).normal(size=400)
    flat = resampling.bootstrap_mean(noisy, replicates=500).replicates.std()
    stratified = resampling.bootstrap_mean(noisy, strata=means, replicates=2000).replicates.std()
    assert flat > 4 * stratified
    assert stratified == pytest.approx(1 / 20, rel=0.1)


@pytest.mark.parametrize("method", ["percentile", "bca", "basic"])
def test_intervals_agree_with_scipy(method: str) -> None:
    values = rng(6).exponential(size=80)
    expected = scipy_stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20000,
        method="BCa" if method == "bca" else method,
        rng=rng(7),
        vectorized=True,
    ).confidence_interval
    ours = resampling.bootstrap(np.mean, values, replicates=20000, method=method)  # type: ignore[arg-type]
    width = expected.high - expected.low
    assert ours.low == pytest.approx(expected.low, abs=0.04 * width)
    assert ours.high == pytest.approx(expected.high, abs=0.04 * width)


def test_bca_on_efrons_data_against_scipy_for_a_general_statistic() -> None:
    # The 15 law schools of Efron & Tibshirani (1993), table 3.1; correlation 0.776.
    lsat = np.array(
        [576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594], float
    )
    gpa = np.array(
        [3.39, 3.3, 2.81, 3.03, 3.44, 3.07, 3.0, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]
    )

    def correlation(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.corrcoef(x, y)[0, 1])

    ours = resampling.bootstrap(correlation, lsat, gpa, replicates=4000, method="bca")
    assert ours.value == pytest.approx(0.776, abs=5e-4)
    # Their figure 6.2: 3,200 replicates have a standard error of 0.132.
    assert ours.replicates.std() == pytest.approx(0.132, abs=0.006)
    expected = scipy_stats.bootstrap(
        (lsat, gpa), correlation, paired=True, vectorized=False, n_resamples=3000, rng=rng(1)
    ).confidence_interval
    assert ours.low == pytest.approx(expected.low, abs=0.06)
    assert ours.high == pytest.approx(expected.high, abs=0.02)


def test_grouped_jackknife_approximates_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(8).exponential(size=600)

    def run() -> float:
        result = resampling.bootstrap(lambda x: x.mean(), values, replicates=2, method="bca")
        assert result.acceleration is not None
        return result.acceleration

    full = run()
    monkeypatch.setattr(resampling, "_JACKKNIFE_GROUPS", 150)
    grouped = run()
    # Skewness 2 gives 2/(6 sqrt(600)) = 0.0136; noise of the grouped one: sqrt(15)/(6 * 150).
    assert full == pytest.approx(0.0136, abs=0.006)
    assert grouped == pytest.approx(full, abs=0.012)


def test_far_levels_are_extrapolated_monotonically() -> None:
    values = rng(9).normal(size=200)
    result = resampling.bootstrap_mean(values)
    levels = [0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.999999]
    ends = [
        resampling.replicate_interval(result.value, result.replicates, level) for level in levels
    ]
    assert all(a.low > b.low and a.high < b.high for a, b in itertools.pairwise(ends))
    # A normal sample: the far end follows z, although no replicate lies there.
    far = ends[-1]
    assert far.high > result.replicates.max()
    error = values.std() / math.sqrt(200)
    assert (far.high - far.low) / 2 == pytest.approx(4.89 * error, rel=0.12)


def test_replicates_equal_to_the_estimate_count_half() -> None:
    # Symmetric about an estimate that many replicates hit exactly: no bias to correct.
    drawn = np.concatenate([np.linspace(-1.0, 1.0, 401), np.zeros(300)])
    corrected = resampling.replicate_interval(0.0, drawn, 0.9, "bca")
    plain = resampling.replicate_interval(0.0, drawn, 0.9, "percentile")
    assert (corrected.low, corrected.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


def test_quantiles_are_read_off_as_far_as_five_replicates_lie_beyond() -> None:
    drawn = np.sort(rng(9).exponential(size=100))
    near = resampling.replicate_interval(1.0, drawn, 0.9)
    assert (near.low, near.high) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])))
    # Further out the distance from the median grows like the normal quantile.
    far = resampling.replicate_interval(1.0, drawn, 0.98)
    stretch = scipy_stats.norm.ppf(0.01) / scipy_stats.norm.ppf(0.05)
    low, median, high = np.quantile(drawn, [0.05, 0.5, 0.95])
    assert far.low == pytest.approx(median + (low - median) * stretch)
    assert far.high == pytest.approx(median + (high - median) * stretch)
    # So few replicates have no tail to go by.
    few = resampling.replicate_interval(1.0, drawn[:20], 0.98)
    assert (few.low, few.high) == pytest.approx(tuple(np.quantile(drawn[:20], [0.01, 0.99])))
    more = resampling.replicate_interval(1.0, drawn[:21], 0.98)
    assert more.low < np.quantile(drawn[:21], 0.01)


@pytest.mark.parametrize("acceleration", [-0.05, 0.0, 0.08])
def test_bca_ends_by_efrons_formula(acceleration: float) -> None:
    drawn = rng(8).exponential(size=2000)
    norm = scipy_stats.norm
    bias = norm.ppf(np.mean(drawn < 0.8))
    z = norm.ppf([0.05, 0.95])
    levels = norm.cdf(bias + (bias + z) / (1.0 - acceleration * (bias + z)))
    ends = resampling.replicate_interval(0.8, drawn, 0.9, "bca", acceleration)
    assert (ends.low, ends.high) == pytest.approx(tuple(np.quantile(drawn, levels)), rel=1e-6)
    assert (ends.confidence, ends.method) == (0.9, "bca")


def test_bca_stays_finite_where_its_formula_does_not() -> None:
    drawn = np.linspace(1.0, 2.0, 1000)
    for estimate in (0.5, 2.5):  # all replicates on one side
        ends = resampling.replicate_interval(estimate, drawn, 0.95, "bca")
        assert math.isfinite(ends.low)
        assert ends.low < ends.high
    # 1 - a z <= 0: as far as the transformation goes, in the direction of the end.
    wild = resampling.replicate_interval(1.5, drawn, 0.95, "bca", 0.6)
    stretch = scipy_stats.norm.ppf(1.0 - 1e-15) / scipy_stats.norm.ppf(0.995)
    assert wild.high == pytest.approx(1.5 + (np.quantile(drawn, 0.995) - 1.5) * stretch, rel=1e-3)
    assert 1.0 < wild.low < 1.5
    flat = resampling.replicate_interval(0.5, np.ones(50), 0.95, "bca")
    assert (flat.low, flat.high) == (1.0, 1.0)


def test_acceleration_of_strata_and_of_constant_samples() -> None:
    values, strata = rng(3).exponential(size=61), np.append(np.arange(60) % 3, -1)

    def run(statistic: Callable[..., object], x: np.ndarray) -> float:
        result = resampling.bootstrap(statistic, x, strata=strata, replicates=2, method="bca")
        assert result.acceleration is not None
        return result.acceleration

    def mean(x: np.ndarray) -> float:
        return float(x.mean())

    # By hand: third and second moments of the strata's deviations, the first of one sample.
    centred = np.concatenate(
        [values[strata == c] - values[strata == c].mean() for c in range(-1, 3)]
    )
    want = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    assert run(np.mean, values) == pytest.approx(want)
    assert run(mean, values) == pytest.approx(want, rel=0.2)
    assert run(np.mean, np.ones(61)) == run(mean, np.ones(61)) == 0.0


def test_undefined_replicates() -> None:
    some = np.linspace(0, 1, 100)
    some[:5] = np.nan
    kept = resampling.replicate_interval(0.5, some)
    assert math.isfinite(kept.low)
    some[:6] = np.nan
    assert math.isnan(resampling.replicate_interval(0.5, some).low)
    assert math.isnan(resampling.replicate_interval(math.nan, np.linspace(0, 1, 100)).high)
    assert math.isnan(resampling.bootstrap_mean([1.0, math.nan, 2.0]).low)
    assert math.isnan(resampling.replicate_interval(0.5, []).low)
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match="confidence must lie between"):
            resampling.replicate_interval(0.5, some, confidence)


def test_wrong_calls_of_bootstrap() -> None:
    with pytest.raises(ValueError, match="first dimension"):
        resampling.bootstrap(np.mean, [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="first dimension"):
        resampling.bootstrap(np.mean)
    with pytest.raises(ValueError, match="gives back shape"):
        resampling.bootstrap(lambda w, x: 1.0, [1.0, 2.0], weighted=True)
    with pytest.raises(ValueError, match="strata have shape"):
        resampling.bootstrap_mean([1, 2, 3], strata=[0, 1])
    with pytest.raises(ValueError, match="expected"):
        resampling.bootstrap_mean(np.ones((2, 2)))
    with pytest.raises(ValueError, match="at least one replicate"):
        resampling.bootstrap_mean([1, 2, 3], replicates=0)


def coverage(make: object, truth: float, draws: int, seed: int) -> float:
    generator = rng(seed)
    hits = 0
    for _ in range(draws):
        low, high = make(generator)  # type: ignore[operator]
        hits += low <= truth <= high
    return hits / draws


def test_coverage() -> None:
    """Each nominal 90% or 95% interval covers as often, within four standard errors."""

    def mean(method: str) -> object:
        def make(generator: np.random.Generator) -> tuple[float, float]:
            result = resampling.bootstrap_mean(
                generator.exponential(size=60),
                replicates=300,
                confidence=0.9,
                method=method,  # type: ignore[arg-type]
                seed=int(generator.integers(1 << 30)),
            )
            return result.low, result.high

        return make

    for method in ("percentile", "bca", "basic"):
        # Skewed data: first-order methods fall a few points short at n = 60.
        assert 0.81 < coverage(mean(method), 1.0, 300, 11) < 0.95

    def score(generator: np.random.Generator) -> tuple[float, float]:
        ends = intervals.wilson(int(generator.binomial(80, 0.9)), 80)
        return ends.low, ends.high

    assert 0.925 < coverage(score, 0.9, 2000, 12) < 0.975

    truth = scipy_stats.norm.cdf(1.5 / math.sqrt(2))

    def area(generator: np.random.Generator) -> tuple[float, float]:
        figure = auroc.auroc("auroc", generator.normal(1.5, size=50), generator.normal(size=40))
        return figure.low, figure.high

    assert 0.92 < coverage(area, truth, 800, 14) < 0.98

    def pairs(generator: np.random.Generator) -> tuple[float, float]:
        cells = generator.choice(4, size=150, p=[0.6, 0.1, 0.06, 0.24])
        test = paired.mcnemar(np.isin(cells, (0, 2)), np.isin(cells, (0, 1)))
        return test.low, test.high

    assert 0.925 < coverage(pairs, 0.04, 1500, 15) < 0.98


# --- Figures


def test_proportion_figures() -> None:
    hits = np.array([1] * 30 + [0] * 10)
    plain = resampling.proportion("accuracy", hits, samples="abc")
    assert (plain.value, plain.n, plain.method) == (0.75, 40, "Wilson")
    assert (plain.low, plain.high) == (intervals.wilson(30, 40).low, intervals.wilson(30, 40).high)
    assert len(plain.replicates) == 1000
    assert plain.details["resampling"].startswith("abc:")
    assert resampling.proportion("accuracy", hits, replicates=0).replicates == ()
    strata = np.arange(40) % 4
    stratified = resampling.proportion("accuracy", hits, strata=strata)
    assert stratified.method == "stratified bootstrap, 1000"
    certain = resampling.proportion("accuracy", np.ones(40), strata=strata)
    assert certain.low < 0.95
    assert certain.high == 1.0
    assert certain.method.startswith("Wilson")
    for wrong in ([0.5, 1.0], [[1.0, 0.0]]):
        with pytest.raises(ValueError, match="0 and 1"):
            resampling.proportion("accuracy", wrong)
    assert (stratified.low, stratified.high) == (
        resampling.bootstrap_mean(hits, strata=strata).low,
        resampling.bootstrap_mean(hits, strata=strata).high,
    )
    settings_ = resampling.proportion(
        "accuracy", hits, confidence=0.8, replicates=30, seed=3, unit="x", details={"a": 1}
    )
    assert (settings_.confidence, settings_.unit, settings_.details) == (0.8, "x", {"a": 1})
    assert settings_.low == intervals.wilson(30, 40, 0.8).low
    drawn = resampling.bootstrap_mean(hits, replicates=30, seed=3).replicates
    assert settings_.replicates == tuple(drawn)


def test_interval_at_other_levels() -> None:
    hits = np.array([1] * 30 + [0] * 10)
    ends, expected = (
        levels.interval_at(resampling.proportion("accuracy", hits), 0.99),
        intervals.wilson(30, 40, 0.99),
    )
    assert (ends.low, ends.high) == (expected.low, expected.high)
    area = auroc.auroc("auroc", rng(1).normal(1, size=50), rng(2).normal(size=50))
    wide = auroc.auroc("auroc", rng(1).normal(1, size=50), rng(2).normal(size=50), confidence=0.999)
    ends = levels.interval_at(area, 0.999)
    assert (ends.low, ends.high) == pytest.approx((wide.low, wide.high), abs=1e-12)
    perfect = auroc.auroc("auroc", [2.0, 3.0, 4.0], [0.0, 1.0])
    assert levels.interval_at(perfect, 0.99).low == intervals.wilson(2, 2, 0.99).low
    from pytest_cliprobust.figures.bootstrap import Bootstrap, paired_drop_figure

    before, after = rng(5).uniform(size=(2, 90)) < 0.6
    drop = paired_drop_figure("accuracy_drop", before, after, Bootstrap(replicates=50))
    wider = paired_drop_figure(
        "accuracy_drop", before, after, Bootstrap(replicates=50, confidence=0.999)
    )
    ends = levels.interval_at(drop, 0.999)
    assert (ends.low, ends.high) == pytest.approx((wider.low, wider.high), abs=1e-12)
    result = resampling.bootstrap(np.mean, rng(3).exponential(size=50), method="bca")
    drawn = levels.interval_at(result.figure("nll"), 0.9)
    assert result.acceleration is not None
    corrected = resampling.replicate_interval(
        result.value, result.replicates, 0.9, "bca", result.acceleration
    )
    assert (drawn.low, drawn.high) == (corrected.low, corrected.high)
    own = levels.interval_at(result.figure("nll"), 0.95)
    assert (own.low, own.high) == (result.low, result.high)
    bare = Figure("temperature", 1.0, 0.8, 1.3, 100)
    ends = levels.interval_at(bare, 0.99)
    assert (1.0 - ends.low) / 0.2 == pytest.approx(2.5758 / 1.96, rel=1e-4)
    assert (ends.high - 1.0) / 0.3 == pytest.approx(2.5758 / 1.96, rel=1e-4)
    assert ends.method == "rescaled"
    for broken in (
        dataclasses.replace(bare, value=math.nan),
        dataclasses.replace(bare, low=-math.inf),
        dataclasses.replace(bare, high=math.inf),
    ):
        ends = levels.interval_at(broken, 0.99)
        assert math.isnan(ends.low)
        assert math.isnan(ends.high)
    # At its own level a figure has its own interval, whatever it is.
    odd = dataclasses.replace(bare, low=-math.inf)
    assert levels.interval_at(odd, 0.95).low == -math.inf
    with pytest.raises(ValueError, match="confidence"):
        levels.interval_at(bare, 1.0)


def test_methods_without_their_counts_are_scaled() -> None:
    z = scipy_stats.norm.ppf(0.995) / scipy_stats.norm.ppf(0.975)
    methods = [IntervalMethod.AGRESTI_MIN, IntervalMethod.DELONG, IntervalMethod.PERCENTILE]
    for method in methods:
        bare = Figure("m", 0.4, 0.0, 1.0, 9, interval=method, details={"lost": 1})
        ends = levels.interval_at(bare, 0.99)
        assert (ends.low, ends.high) == pytest.approx((0.4 - z * 0.4, 0.4 + z * 0.6))
    nothing = Figure("m", 0.4, 0.3, 0.5, 0, interval=IntervalMethod.WILSON)
    assert levels.interval_at(nothing, 0.99).low == pytest.approx(0.4 - z * 0.1)
    # Wilson's trials need not be the samples.
    few = Figure("m", 0.4, 0.3, 0.5, 99, interval=IntervalMethod.WILSON, details={"trials": 5})
    assert levels.interval_at(few, 0.99).low == intervals.wilson(2, 5, 0.99).low
    one = dataclasses.replace(few, value=1.0, details={"trials": 1})
    assert levels.interval_at(one, 0.99).low == intervals.wilson(1, 1, 0.99).low
    drawn = tuple(np.linspace(0.0, 1.0, 401))
    basic = Figure("m", 0.4, 0.0, 1.0, 9, interval=IntervalMethod.BASIC, replicates=drawn)
    assert levels.interval_at(basic, 0.5).low == pytest.approx(0.8 - 0.75)


# --- AUROC


@settings(max_examples=25, deadline=None)
@given(
    positive=st.lists(st.integers(-4, 6), min_size=2, max_size=12),
    negative=st.lists(st.integers(-6, 4), min_size=2, max_size=12),
)
def test_delong_matches_its_definition(positive: list[int], negative: list[int]) -> None:
    areas, covariance = auroc.delong(positive, negative)
    x, y = np.array(positive, float)[:, None], np.array(negative, float)[None]
    psi = (x > y) + 0.5 * (x == y)
    labels = [1] * len(positive) + [0] * len(negative)
    assert areas[0] == pytest.approx(roc_auc_score(labels, positive + negative))
    variance = psi.mean(axis=1).var(ddof=1) / len(positive)
    variance += psi.mean(axis=0).var(ddof=1) / len(negative)
    assert covariance[0, 0] == pytest.approx(variance, abs=1e-12)


def test_delong_covariance_of_two_scores() -> None:
    generator = rng(21)
    shared = generator.normal(size=(1, 90))
    scores = shared + 0.5 * generator.normal(size=(2, 90))
    scores[:, :40] += 1.0
    areas, covariance = auroc.delong(scores[:, :40], scores[:, 40:])
    # Reference: bootstrap of both AUROCs, stratified by class.
    labels = np.arange(90) < 40
    plan = resampling.Resampling(90, strata=labels, replicates=4000)
    weights = np.concatenate(list(plan.counts()))
    wins = scores[:, :40, None] > scores[:, None, 40:]
    drawn = np.einsum("rp,kpn,rn->rk", weights[:, :40], wins, weights[:, 40:]) / (40 * 50)
    assert np.cov(drawn.T)[0, 1] > 0
    np.testing.assert_allclose(covariance, np.cov(drawn.T), rtol=0.1)
    np.testing.assert_allclose(areas, drawn.mean(axis=0), atol=0.01)


def test_auroc_figures() -> None:
    figure = auroc.auroc("auroc", [1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5])
    assert figure.low < figure.value < figure.high <= 1.0
    assert (figure.n, figure.details["positives"], figure.details["negatives"]) == (7, 4, 3)
    perfect = auroc.auroc("auroc", np.arange(100) + 1000.0, np.arange(50))
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == intervals.wilson(50, 50).low
    assert math.isnan(auroc.auroc("auroc", [1.0, math.nan], [0.0, 1.0]).value)
    # Infinite energies have ranks like any other.
    assert auroc.auroc("auroc", [1.0, math.inf], [0.0, -math.inf]).value == 1.0
    level = auroc.auroc("auroc", [1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5], confidence=0.8)
    assert (level.confidence, level.method) == (0.8, "DeLong")
    assert figure.low < level.low < level.high < figure.high
    area, variance = (float(x.item()) for x in auroc.delong([1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5]))
    half = scipy_stats.norm.ppf(0.9) * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    assert level.low == pytest.approx(1 / (1 + math.exp(half - logit)))
    assert level.high == pytest.approx(1 / (1 + math.exp(-half - logit)))
    for positive, negative in (([1.0], [0.0, 1.0]), ([0.0, 1.0], [1.0])):
        with pytest.raises(ClipRobustError, match="two samples of each class"):
            auroc.auroc("auroc", positive, negative)
    # No wins at all: the interval of that many losses.
    worst = auroc.auroc("auroc", [0.0, 1.0], [2.0, 3.0, 4.0], details={"a": 1})
    assert (worst.value, worst.low, worst.high) == (0.0, 0.0, intervals.wilson(0, 2).high)
    assert worst.details == {"a": 1, "positives": 2, "negatives": 3, "trials": 2}
    with pytest.raises(ValueError, match="NaN"):
        auroc.delong([1.0, 2.0], [math.nan, 0.0])
    for one, two in ((np.ones((1, 2, 2)), np.ones((1, 2))), (np.ones((2, 3)), np.ones((1, 3)))):
        with pytest.raises(ValueError, match=r"\(.*\) and \(.*\)"):
            auroc.delong(one, two)


# --- Pairs


def test_mcnemar_textbook_value_and_scipy() -> None:
    # Agresti (Categorical Data Analysis, table 10.1): 86 against 150 switchers of 1,600.
    assert paired.mcnemar_p(86, 150) == pytest.approx(
        scipy_stats.binomtest(86, 236).pvalue, rel=1e-9
    )
    assert paired.mcnemar_p(0, 0) == 1.0
    assert paired.mcnemar_p(5, 5) == 1.0
    assert paired.mcnemar_p(0, 6) == paired.mcnemar_p(6, 0) == pytest.approx(2 / 64)
    assert paired.mcnemar_p(150, 86) == paired.mcnemar_p(86, 150)
    first = np.repeat([1, 1, 0, 0], [794, 150, 86, 570])
    second = np.repeat([1, 0, 1, 0], [794, 150, 86, 570])
    test = paired.mcnemar(first, second)
    assert (test.gains, test.losses, test.n) == (86, 150, 1600)
    assert test.difference == pytest.approx(-0.04)
    # Agresti's Wald interval is (-0.06, -0.02) at two digits.
    assert (round(test.low, 2), round(test.high, 2)) == (-0.06, -0.02)
    same = paired.mcnemar(first, first)
    assert same.p_value == 1.0
    assert same.low < 0 < same.high
    assert paired.mcnemar(first, second, 0.8).high - paired.mcnemar(first, second, 0.8).low < 0.03
    for before, after in (([1, 0], [1]), ([[1, 0]], [[1, 0]])):
        with pytest.raises(ValueError, match="pairs are needed"):
            paired.mcnemar(before, after)
    with pytest.raises(ClipRobustError, match="without samples"):
        paired.mcnemar([], [])
    for gains, losses in ((-1, 2), (2, -1)):
        with pytest.raises(ValueError, match="negative"):
            paired.mcnemar_p(gains, losses)


def test_agresti_min_by_hand() -> None:
    # Wald's interval with half a pair in each cell: 9 gains and 3 losses of 40 pairs.
    gains, losses, n = 9.5, 3.5, 42.0
    half = 1.959964 * math.sqrt(gains + losses - (gains - losses) ** 2 / n) / n
    ends = intervals.agresti_min(9, 3, 40)
    assert (ends.low, ends.high) == pytest.approx((6 / 42 - half, 6 / 42 + half), rel=1e-6)
    assert ends.method == "paired, Agresti-Min"
    assert intervals.agresti_min(1, 0, 1).high == 1.0
    assert intervals.agresti_min(0, 1, 1).low == -1.0
    assert intervals.agresti_min(0, 1, 1).high == -intervals.agresti_min(1, 0, 1).low


def test_pairing_sharpens_a_comparison() -> None:
    generator = rng(31)
    easy = generator.uniform(size=1000)
    first = (easy < 0.63).astype(float)
    second = (easy < 0.60).astype(float)
    test = paired.paired_bootstrap(np.mean, first, second)
    assert test.high < 0 < test.difference + 0.05
    assert test.p_value < 0.01
    unpaired = paired.difference_interval(
        resampling.proportion("accuracy", second), resampling.proportion("accuracy", first)
    )
    assert unpaired.method.startswith("MOVER")
    assert unpaired.high > 0
    assert test.p_value == pytest.approx(2 / 1001)
    assert (test.n, test.confidence, test.method) == (1000, 0.95, "paired bootstrap, 1000")
    with pytest.raises(ValueError, match="pairs are needed"):
        paired.paired_bootstrap(np.mean, first, second[1:])
    same = paired.paired_bootstrap(np.mean, first, first)
    assert (same.difference, same.p_value) == (0.0, 1.0)


def test_paired_bootstrap_of_a_general_statistic_matches_both_runs_bootstraps() -> None:
    generator = rng(32)
    x, y, z = generator.normal(size=(3, 40))

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.sum() / (b**2).sum())

    def weighted(w: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((w * a).sum(axis=1) / (w * b**2).sum(axis=1))

    test = paired.paired_bootstrap(ratio, (x, y), (z, y), replicates=50, seed=5)
    first = resampling.bootstrap(ratio, x, y, replicates=50, seed=5).replicates
    second = resampling.bootstrap(ratio, z, y, replicates=50, seed=5).replicates
    np.testing.assert_allclose(test.replicates, second - first, atol=1e-12)
    # Twice the smaller side, with one more above and below the line.
    below, above = np.sum(second <= first), np.sum(second >= first)
    assert test.p_value == pytest.approx(min(1.0, 2 * (min(below, above) + 1) / 51))
    undefined = paired.paired_bootstrap(lambda a: math.nan, x, y, replicates=5)
    assert math.isnan(undefined.p_value)
    strata = np.arange(40) % 2
    layered = paired.paired_bootstrap(
        np.mean, x, y, strata=strata, replicates=50, seed=5, confidence=0.8, method="basic"
    )
    want = resampling.bootstrap_mean(
        y - x, strata=strata, replicates=50, seed=5, confidence=0.8, method="basic"
    )
    assert (layered.low, layered.high, layered.confidence) == (want.low, want.high, 0.8)
    assert layered.replicates == tuple(want.replicates)
    general = paired.paired_bootstrap(
        lambda a: float(a.mean()),
        x,
        y,
        strata=strata,
        replicates=50,
        seed=5,
        confidence=0.8,
        method="basic",
    )
    assert (general.low, general.high) == pytest.approx((layered.low, layered.high))
    fast = paired.paired_bootstrap(weighted, (x, y), (z, y), replicates=50, seed=5, weighted=True)
    np.testing.assert_allclose(test.replicates, fast.replicates, atol=1e-9)


def test_p_values_of_the_paired_bootstrap_are_uniform_under_the_null() -> None:
    generator = rng(33)
    p_values = [
        paired.paired_bootstrap(np.mean, *generator.normal(size=(2, 60)), replicates=199).p_value
        for _ in range(300)
    ]
    assert scipy_stats.kstest(p_values, "uniform").pvalue > 0.001


def test_difference_interval_pairs_only_the_same_samples() -> None:
    hits = rng(34).uniform(size=400) < 0.7
    worse = hits & (rng(35).uniform(size=400) < 0.97)
    ids = resampling.samples_digest([f"image{i}" for i in range(400)])
    before = resampling.proportion("accuracy", hits, samples=ids)
    after = resampling.proportion("accuracy", worse, samples=ids)
    ends = paired.difference_interval(after, before)
    assert ends.method == "paired bootstrap"
    expected = paired.paired_bootstrap(np.mean, hits, worse)
    assert (ends.low, ends.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    for other in (
        resampling.proportion("accuracy", worse, samples=resampling.samples_digest(["other"])),
        resampling.proportion("accuracy", worse, samples=ids, seed=1),
        resampling.proportion("accuracy", worse, samples=ids, replicates=500),
        resampling.proportion("accuracy", worse, samples=ids, replicates=0),
    ):
        assert paired.difference_interval(other, before).method == "MOVER, independent runs"
    same = paired.difference_interval(before, before)
    assert (same.low, same.high) == (0.0, 0.0)


def test_mover_matches_newcombes_difference() -> None:
    # Newcombe (1998b), table II, method 10, 56/70 - 48/80: 0.0524 to 0.3339.
    first = resampling.proportion("accuracy", np.arange(70) < 56, replicates=0)
    second = resampling.proportion("accuracy", np.arange(80) < 48, replicates=0)
    ends = paired.difference_interval(first, second)
    assert (round(ends.low, 4), round(ends.high, 4)) == (0.0524, 0.3339)
    back = paired.difference_interval(second, first)
    assert (back.low, back.high) == pytest.approx((-ends.high, -ends.low))
    wide = paired.difference_interval(first, second, 0.99)
    assert wide.low < ends.low < ends.high < wide.high


def test_figures_of_unknown_samples_are_no_pair() -> None:
    # Equal resampling, but nobody knows of which samples.
    hits = rng(34).uniform(size=40) < 0.7
    bare = resampling.proportion("accuracy", hits)
    assert paired.difference_interval(bare, bare).method == "MOVER, independent runs"
    known = resampling.proportion("accuracy", hits, samples="x")
    short = dataclasses.replace(known, replicates=known.replicates[:-1])
    for one, two in ((known, short), (short, known), (known, bare), (bare, known)):
        assert paired.difference_interval(one, two).method == "MOVER, independent runs"
    ends = paired.difference_interval(
        resampling.proportion("accuracy", ~hits, samples="x"), known, 0.8
    )
    drawn = 1.0 - 2.0 * np.array(known.replicates)
    assert (ends.low, ends.high) == pytest.approx(tuple(np.quantile(drawn, [0.1, 0.9])))


# --- Many comparisons


def test_holm_textbook_values() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(paired.holm(p), [0.03, 0.06, 0.06, 0.02])
    # Benjamini & Hochberg (1995), section 3.3: of 15 p-values Holm's method rejects 3 at 0.05.
    table = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    table += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (paired.holm(table) <= 0.05).sum() == 3
    assert paired.holm([]).shape == (0,)
    assert paired.holm([0.0, 1.0]).tolist() == [0.0, 1.0]
    for wrong in ([0.5, math.nan], [0.5, -0.1], [0.5, 1.1], [[0.5]]):
        with pytest.raises(ValueError, match="p-values"):
            paired.holm(wrong)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_adjusted_p_values(p: list[float]) -> None:
    adjusted = paired.holm(p)
    assert (adjusted >= scipy_stats.false_discovery_control(p) - 1e-12).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1.0) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_comparison_confidence() -> None:
    assert levels.comparison_confidence(0.05, 1) == pytest.approx(0.95)
    assert levels.comparison_confidence(0.05, 10) == pytest.approx(1 - 0.0051162, abs=1e-7)
    # The family of m independent intervals misses with the rate asked for.
    generator = rng(41)
    level = levels.comparison_confidence(0.1, 8)
    z = intervals.normal_quantile(0.5 + level / 2)
    missed = (np.abs(generator.normal(size=(20000, 8))) > z).any(axis=1).mean()
    assert missed == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="at least one"):
        levels.comparison_confidence(0.05, 0)
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            levels.comparison_confidence(rate, 2)


# --- Sample size


def test_samples_needed() -> None:
    # Half-width 0.04 at n = 100, distance 0.02: four times the samples.
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52) == 400
    assert intervals.samples_needed(0.5, 0.46, 0.56, 100, 0.52) == 900
    assert intervals.samples_needed(0.5, 0.46, 0.56, 100, 0.48) == 400
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.5) is None
    assert intervals.samples_needed(math.nan, 0.0, 1.0, 100, 0.5) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 0, 0.52) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 1, 0.52) == 4
    assert intervals.samples_needed(0.5, -math.inf, 0.54, 100, 0.48) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, math.inf) is None
    # An interval that does not hold the value (noise floors): one sample would do.
    assert intervals.samples_needed(0.5, 0.52, 0.54, 100, 0.4) == 1
    assert intervals.samples_needed(0.5, 0.0, 1.0, 100, 0.5 + 1e-200) is None
    for power in (0.49, 1.0):
        with pytest.raises(ValueError, match="power"):
            intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, power=power)
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, confidence=0.8, power=0.8) == (
        math.ceil(400 * ((1.281552 + 0.841621) / 1.281552) ** 2)
    )
    strict = intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, power=0.8)
    assert strict == math.ceil(400 * ((1.959964 + 0.841621) / 1.959964) ** 2)


def test_samples_needed_decides_as_often_as_it_says() -> None:
    generator = rng(51)
    truth, bound = 0.8, 0.75
    pilot = intervals.wilson(160, 200)
    n = intervals.samples_needed(truth, pilot.low, pilot.high, 200, bound, power=0.8)
    assert n is not None
    draws = generator.binomial(n, truth, size=600)
    decided = np.mean([intervals.wilson(int(k), n).low > bound for k in draws])
    assert decided == pytest.approx(0.8, abs=0.08)


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, pytest_cliprobust.figures.paired, pytest_cliprobust.gating.thresholds, "
        "pytest_cliprobust.gating.verdict; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
