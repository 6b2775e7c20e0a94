"""AUROC: DeLong's and Obuchowski's variances by definition, weighted areas against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import coverage, drawn_samples, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import auroc, resampling
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.outcomes import Outcomes


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def wins(positive: Floats, negative: Floats) -> Floats:
    """Return ψ (m, n): 1 where a positive is above a negative, a half where they tie."""
    above: Floats = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return above


def obuchowski(positive: Floats, negative: Floats, above: Ints, below: Ints) -> float:
    """Return the variance of the area with clusters ``above`` and ``below``, as the paper writes it."""
    psi = wins(positive, negative)
    area, m, n = psi.mean(), len(positive), len(negative)
    total = 0.0
    for components, clusters, size in ((psi.mean(axis=1), above, m), (psi.mean(axis=0), below, n)):
        names = set(clusters.tolist())
        sums = [
            components[clusters == name].sum() - (clusters == name).sum() * area for name in names
        ]
        s = len(names) / ((len(names) - 1) * size) * sum(value**2 for value in sums)
        total += s / size
    return float(total)


def newcombe(area: float, m: float, n: float, t: float) -> tuple[float, float]:
    """Return the ends as far from ``area`` as ``t`` of Hanley & McNeil's errors there (Newcombe 2006).

    With his N* = (m + n)/2 - 1 in the place of both m - 1 and n - 1.
    """

    def away(theta: float) -> float:
        q1, q2 = theta / (2.0 - theta), 2.0 * theta**2 / (1.0 + theta)
        extra = (m + n) / 2.0 - 1.0
        square = theta * (1.0 - theta) + extra * (q1 - theta**2 + q2 - theta**2)
        return (theta - area) ** 2 - t * t * square / (m * n)

    edge = 1e-12
    low = optimize.brentq(away, edge, area - edge) if area > 0.0 else 0.0
    high = optimize.brentq(away, area + edge, 1.0 - edge) if area < 1.0 else 1.0
    return float(low), float(high)


def on_logits(area: float, error: float, t: float) -> tuple[float, float]:
    """Return ``t`` standard errors on the logit scale, by the delta method."""
    logit, half = math.log(area / (1.0 - area)), t * error / (area * (1.0 - area))
    return 1.0 / (1.0 + math.exp(half - logit)), 1.0 / (1.0 + math.exp(-half - logit))


def t_of(confidence: float, degrees: float) -> float:
    return float(scipy_stats.t.ppf((1.0 + confidence) / 2.0, degrees))


# --- DeLong


@settings(max_examples=25, deadline=None)
@given(
    positive=st.lists(st.integers(-4, 6), min_size=2, max_size=12),
    negative=st.lists(st.integers(-6, 4), min_size=2, max_size=12),
)
def test_delong_matches_its_definition(positive: list[int], negative: list[int]) -> None:
    areas, covariance = auroc.delong(positive, negative)
    psi = wins(np.array(positive, float), np.array(negative, float))
    labels = [1] * len(positive) + [0] * len(negative)
    assert areas[0] == pytest.approx(roc_auc_score(labels, positive + negative))
    variance = psi.mean(axis=1).var(ddof=1) / len(positive)
    variance += psi.mean(axis=0).var(ddof=1) / len(negative)
    assert covariance[0, 0] == pytest.approx(variance, abs=1e-12)
    first, second = auroc.placements(np.array(positive, float), np.array(negative, float))
    np.testing.assert_allclose(first, psi.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(second, psi.mean(axis=0), atol=1e-12)
    alone = auroc.variance_of_area(first, second, np.arange(len(labels)))
    assert alone == pytest.approx(variance, abs=1e-12)


def test_delong_covariance_of_two_scores() -> None:
    generator = rng(21)
    shared = generator.normal(size=(1, 90))
    scores = shared + 0.5 * generator.normal(size=(2, 90))
    scores[:, :40] += 1.0
    areas, covariance = auroc.delong(scores[:, :40], scores[:, 40:])
    # Reference: bootstrap of both AUROCs, stratified by class.
    plan = resampling.Resampling(90, strata=np.arange(90) < 40, replicates=4000)
    weights = np.concatenate(list(plan.counts()))
    above = scores[:, :40, None] > scores[:, None, 40:]
    drawn = np.einsum("rp,kpn,rn->rk", weights[:, :40], above, weights[:, 40:]) / (40 * 50)
    assert np.cov(drawn.T)[0, 1] > 0
    np.testing.assert_allclose(covariance, np.cov(drawn.T), rtol=0.1)
    np.testing.assert_allclose(areas, drawn.mean(axis=0), atol=0.01)


def test_broken_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc.delong([1.0, 2.0], [math.nan, 0.0])
    for one, two in ((np.ones((1, 2, 2)), np.ones((1, 2))), (np.ones((2, 3)), np.ones((1, 3)))):
        with pytest.raises(ValueError, match=r"\(.*\) and \(.*\)"):
            auroc.delong(one, two)
    for positive, negative in (([1.0], [0.0, 1.0]), ([0.0, 1.0], [1.0])):
        with pytest.raises(ClipRobustError, match="two samples of each class"):
            auroc.auroc("auroc", positive, negative)


# --- Weighted areas


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 30), st.integers(2, 30), st.booleans())
def test_weighted_areas_match_scikit_learn(seed: int, m: int, n: int, ties: bool) -> None:
    generator = rng(seed)
    scores = np.concatenate([generator.normal(0.7, 1, m), generator.normal(0, 1, n)])
    scores = scores.round() if ties else scores
    order = generator.permutation(m + n)
    scores, inside = scores[order], (np.arange(m + n) < m)[order]
    outcomes = Outcomes({"score": scores}, auroc.area, attributes={"inside": inside})
    weights = generator.integers(0, 4, size=(6, m + n)).astype(float)
    weights[:, np.flatnonzero(inside)[0]] += 1.0
    weights[:, np.flatnonzero(~inside)[0]] += 1.0
    want = [roc_auc_score(inside, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(outcomes.at(weights), want, atol=1e-12)
    assert outcomes.value() == pytest.approx(roc_auc_score(inside, scores), abs=1e-12)


def test_an_area_needs_both_classes() -> None:
    outcomes = Outcomes(
        {"score": np.array([1.0, 2.0, 0.0])},
        auroc.area,
        attributes={"inside": np.array([True, True, False])},
    )
    values = outcomes.at(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.0, 1.0, 2.0]]))
    assert np.isnan(values[:2]).all()
    assert values[2] == 1.0
    endless = Outcomes(
        {"score": np.array([np.inf, 1.0, -np.inf, 1.0])},
        auroc.area,
        attributes={"inside": np.array([True, True, False, False])},
    )
    assert endless.value() == 1.0 - 0.5 / 4


# --- Units


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 30), st.integers(4, 30))
def test_clustered_variance_is_obuchowskis(seed: int, m: int, n: int) -> None:
    generator = rng(seed)
    above, below = generator.integers(3, size=m), 3 + generator.integers(4, size=n)
    above[:2], below[:2] = [0, 1], [3, 4]
    positive = (generator.normal(size=3)[above] + generator.normal(0.5, 1, m)).round(1)
    negative = (generator.normal(size=4)[below - 3] + generator.normal(size=n)).round(1)
    parts = auroc.placements(positive, negative)
    got = auroc.variance_of_area(*parts, np.concatenate([above, below]))
    assert got == pytest.approx(obuchowski(positive, negative, above, below), abs=1e-12)


def clustered(
    generator: np.random.Generator, drawings: int = 40, each: int = 4, gap: float = 1.2
) -> tuple[Floats, Floats, SampleKeys]:
    """Return scores of both classes, alike in each drawing by a half, and their keys."""
    units = np.repeat(np.arange(2 * drawings), each)
    scores = generator.normal(size=2 * drawings)[units] + generator.normal(size=len(units))
    scores[: drawings * each] += gap
    keys = keys_of(len(units), units)
    return scores[: drawings * each], scores[drawings * each :], keys


def test_clustered_variance_is_that_of_drawing_whole_units() -> None:
    positive, negative, keys = clustered(rng(31))
    figure = auroc.auroc("auroc", positive, negative, bootstrap=Bootstrap(keys=keys))
    assert figure.outcomes is not None
    boot = Bootstrap(replicates=3000, keys=keys)
    inside = (np.arange(len(keys)) < len(positive)).astype(np.int64)
    plan = boot.plan(len(keys), inside)
    assert plan.stratified
    drawn = np.concatenate([figure.outcomes.at(counts) for counts in plan.counts()])
    variance = auroc.variance_of_area(*auroc.placements(positive, negative), keys.codes)
    assert variance == pytest.approx(drawn.var(), rel=0.1)
    # And those are the areas of the drawn samples.
    scores = np.concatenate([positive, negative])
    for value, rows in zip(drawn, drawn_samples(boot.fewer(20), len(keys), inside), strict=False):
        assert value == pytest.approx(roc_auc_score(inside[rows], scores[rows]))


def test_units_widen_the_interval_by_their_design_effect() -> None:
    positive, negative, keys = clustered(rng(32))
    plain = auroc.auroc("auroc", positive, negative)
    figure = auroc.auroc("auroc", positive, negative, bootstrap=Bootstrap(keys=keys))
    assert (plain.units, plain.design_effect, plain.n) == (320, 1.0, 320)
    assert (figure.units, figure.n, figure.value) == (80, 320, plain.value)
    assert 1.5 < figure.design_effect < 4.0
    widths = [
        math.log(f.high / (1 - f.high)) - math.log(f.low / (1 - f.low)) for f in (figure, plain)
    ]
    # And by Student's quantile: 40 drawings of each class know less of it than 160 samples.
    known = (t_of(0.95, 39) / t_of(0.95, 159)) ** 2
    assert (widths[0] / widths[1]) ** 2 == pytest.approx(known * figure.design_effect, rel=0.02)
    parts = auroc.placements(positive, negative)
    error = math.sqrt(auroc.variance_of_area(*parts, keys.codes))
    low, high = on_logits(figure.value, error, t_of(0.95, 39))
    assert figure.low <= low + 1e-12
    assert high - 1e-12 <= figure.high
    assert figure.high - figure.low < 1.05 * (high - low)
    # Samples of one unit each are single samples.
    single = auroc.auroc("auroc", positive, negative, bootstrap=Bootstrap(keys=keys_of(320)))
    assert (single.low, single.high, single.units) == (plain.low, plain.high, 320)


def test_what_is_apart_counts_as_many_pairs_as_there_are_units() -> None:
    keys = keys_of(12, [0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4])
    figure = auroc.auroc("auroc", np.arange(6) + 50.0, np.arange(6), bootstrap=Bootstrap(keys=keys))
    # Six samples of the drawings with three each are worth two, and so many are the others' then.
    assert (figure.value, figure.design_effect) == (1.0, 3.0)
    assert figure.low == pytest.approx(newcombe(1.0, 2, 2, t_of(0.95, 1))[0])
    assert figure.method == "Newcombe (DeLong's variance is 0), design effect 3.00"
    # A single unit on a side says nothing of how units differ.
    one = keys_of(8, [0, 0, 0, 0, 1, 2, 3, 4])
    scores = rng(1).normal(size=8)
    figure = auroc.auroc("auroc", scores[:4], scores[4:], bootstrap=Bootstrap(keys=one))
    assert 0.0 < figure.value < 1.0
    assert math.isnan(figure.low)
    assert math.isnan(figure.high)
    assert (figure.interval, figure.design_effect) == (IntervalMethod.DELONG, 4.0)


# --- Figures


def test_auroc_figures() -> None:
    figure = auroc.auroc("auroc", [1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5])
    assert figure.low < figure.value < figure.high <= 1.0
    assert (figure.n, figure.details["positives"], figure.details["negatives"]) == (7, 4, 3)
    perfect = auroc.auroc("auroc", np.arange(100) + 1000.0, np.arange(50))
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(newcombe(1.0, 100, 50, t_of(0.95, 49))[0])
    assert math.isnan(auroc.auroc("auroc", [1.0, math.nan], [0.0, 1.0]).value)
    # Infinite energies have ranks like any other.
    assert auroc.auroc("auroc", [1.0, math.inf], [0.0, -math.inf]).value == 1.0
    level = auroc.auroc(
        "auroc", [1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5], bootstrap=Bootstrap(confidence=0.8)
    )
    assert (level.confidence, level.method) == (0.8, "DeLong and Newcombe")
    assert figure.low < level.low < level.high < figure.high
    area, variance = (float(x.item()) for x in auroc.delong([1.0, 2.0, 2.5, 0.4], [0.0, 0.3, 1.5]))
    # The hull of both, with the quantile of the rarer class's three samples.
    ends = on_logits(area, math.sqrt(variance), t_of(0.8, 2)), newcombe(area, 4, 3, t_of(0.8, 2))
    assert level.low == pytest.approx(min(low for low, _ in ends))
    assert level.high == pytest.approx(max(high for _, high in ends))
    # With many samples and an area in between the two agree.
    above, below = rng(3).normal(0.5, size=400), rng(4).normal(size=300)
    many = auroc.auroc("auroc", above, below)
    area, variance = (float(x.item()) for x in auroc.delong(above, below))
    for ends_of_one in (
        on_logits(area, math.sqrt(variance), t_of(0.95, 299)),
        newcombe(area, 400, 300, t_of(0.95, 299)),
    ):
        assert (many.low, many.high) == pytest.approx(ends_of_one, abs=0.005)
    # No wins at all: the mirror of nothing but wins.
    worst = auroc.auroc("auroc", [0.0, 1.0], [2.0, 3.0, 4.0], details={"a": 1})
    assert (worst.value, worst.low) == (0.0, 0.0)
    best = auroc.auroc("auroc", [2.0, 3.0, 4.0], [0.0, 1.0])
    assert worst.high == pytest.approx(1.0 - best.low)
    assert worst.details == {"a": 1, "positives": 2, "negatives": 3}


def test_a_figure_keeps_its_scores_by_sample() -> None:
    scores, keys = rng(2).normal(size=9), keys_of(9, kind="photo")
    figure = auroc.auroc("auroc", scores[:5], scores[5:], bootstrap=Bootstrap(keys=keys))
    assert figure.outcomes is not None
    assert figure.outcomes.keys == keys
    np.testing.assert_array_equal(figure.outcomes["score"], scores)
    assert figure.outcomes["inside"].tolist() == [True] * 5 + [False] * 4
    assert figure.outcomes["stratum"].tolist() == [1] * 5 + [0] * 4
    assert figure.outcomes.value() == pytest.approx(figure.value)
    bare = auroc.auroc("auroc", scores[:5], scores[5:])
    assert bare.outcomes is not None
    assert bare.outcomes.keys is None


TRUTH = float(scipy_stats.norm.cdf(1.5 / math.sqrt(2)))


@pytest.mark.slow
def test_delongs_interval_covers() -> None:
    def area(generator: np.random.Generator) -> tuple[float, float]:
        figure = auroc.auroc("auroc", generator.normal(1.5, size=50), generator.normal(size=40))
        return figure.low, figure.high

    assert 0.92 < coverage(area, TRUTH, 800, 14) < 0.98


@pytest.mark.slow
def test_the_interval_over_units_covers_where_that_over_samples_does_not() -> None:
    # Scores of variance 2 in each class, and of variance 1 between drawings.
    def area(known: bool) -> float:
        def make(generator: np.random.Generator) -> tuple[float, float]:
            positive, negative, keys = clustered(generator, gap=1.5 * math.sqrt(2))
            boot = Bootstrap(keys=keys if known else None)
            figure = auroc.auroc("auroc", positive, negative, bootstrap=boot)
            return figure.low, figure.high

        return coverage(make, TRUTH, 400, 16)

    assert 0.91 < area(known=True) < 0.985
    assert area(known=False) < 0.85


def test_a_change_of_samples_that_nobody_knows_is_that_of_single_ones() -> None:
    rng = np.random.default_rng(11)
    inside = np.arange(40) < 25
    scores = rng.normal(size=(2, 40)) + inside

    def side(number: int, keys: SampleKeys | None) -> Outcomes:
        attributes = {"inside": inside, "stratum": inside.astype(np.int64)}
        return Outcomes({"score": scores[number]}, auroc.area, attributes=attributes, keys=keys)

    known = auroc.compare_areas(*(side(n, keys_of(40)) for n in (0, 1)))
    alone = auroc.compare_areas(*(side(n, None) for n in (0, 1)))
    assert alone == known
    areas = [roc_auc_score(inside, own) for own in scores]
    assert alone.difference == pytest.approx(areas[1] - areas[0])
    # One unit on a side, or none, says nothing of how the change varies.
    one = keys_of(40, np.where(inside, 0, np.arange(40)))
    single = auroc.compare_areas(side(0, one), side(1, one))
    assert single.difference == pytest.approx(areas[1] - areas[0])
    assert np.isnan(single.ends.at(0.95).low)
    two = keys_of(40, np.where(inside, np.arange(40) % 2, np.arange(40)))
    assert np.isfinite(auroc.compare_areas(side(0, two), side(1, two)).ends.at(0.95).low)
    nothing = Outcomes(
        *({"score": scores[0]}, auroc.area),
        attributes={"inside": inside | True, "stratum": inside.astype(np.int64)},
    )
    assert np.isnan(auroc.compare_areas(nothing, nothing).difference)
