"""Figures without labels, against loops, scikit-learn's neighbours and cases counted by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers import coverage, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap, mean_figure
from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import unlabelled

RNG = np.random.default_rng(0)
BEFORE = RNG.normal(size=(60, 8))
AFTER = BEFORE + 0.5 * RNG.normal(size=(60, 8))
HEAD = RNG.normal(size=(8, 5))


@dataclass(frozen=True)
class Pictures(SampleArrays):
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def pictures(features: np.ndarray, *steps: Step, first: int = 0) -> Pictures:
    ids = tuple(f"p{i + first}" for i in range(len(features)))
    nobody_knows = np.full(len(features), -1)
    return Pictures(
        Condition("photos", steps),
        ids,
        labels=nobody_knows,
        logits=features @ HEAD,
        features=features,
    )


def test_answers_by_hand() -> None:
    before = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])
    after = np.array([[0.6, 0.4], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9]])
    figures = unlabelled.answer_figures(before, after)
    assert figures["flip_rate"].value == 0.25
    assert figures["confidence_shift"].value == pytest.approx((-0.3 + 0.2 + 0.2 + 0.1) / 4)
    assert figures["confidence_shift"].details == pytest.approx({"before": 0.75, "after": 0.8})
    # As of a mean to which one sample that is half surer, and one that is half less sure, are added.
    shift = figures["confidence_shift"]
    want = mean_figure("m", np.array([-0.3, 0.2, 0.2, 0.1]), Bootstrap(), supposed=(-0.5, 0.5))
    assert (shift.low, shift.high) == pytest.approx((want.low, want.high))
    # Of equally sure answers the first counts, on either side.
    even = unlabelled.answer_figures([[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.4, 0.6]])
    assert even["flip_rate"].value == 0.5
    named = unlabelled.answer_figures(before, after, prefix="baseline_")
    assert list(named) == ["baseline_flip_rate", "baseline_confidence_shift"]
    with pytest.raises(ClipRobustError, match="flip_rate"):
        unlabelled.answer_figures(before, after[:3])


def test_answers_that_are_none_or_among_other_classes_are_no_agreement() -> None:
    """NaN has its largest value in the first column, before and after: no flip, if nobody looks."""
    with pytest.raises(ClipRobustError, match="answers before: 3 of 3 rows hold NaN"):
        unlabelled.answer_figures(np.full((3, 2), np.nan), np.full((3, 2), 0.5))
    with pytest.raises(ClipRobustError, match="among 2 classes before and 4 after"):
        unlabelled.answer_figures(np.full((3, 2), 0.5), np.full((3, 4), 0.25))
    with pytest.raises(ClipRobustError, match="no samples"):
        unlabelled.answer_figures(np.empty((0, 2)), np.empty((0, 2)))


def test_drift_is_the_mean_cosine_distance() -> None:
    figure = unlabelled.drift_figure(3 * BEFORE, AFTER)
    each = np.diag(cosine_distances(BEFORE, AFTER))
    assert figure.value == pytest.approx(each.mean(), abs=1e-8)
    assert figure.details["largest"] == pytest.approx(each.max())
    assert figure.details["median"] == pytest.approx(np.median(each))
    want = mean_figure("m", each, Bootstrap(), supposed=(0.0, float(each.max())))
    assert (figure.low, figure.high) == pytest.approx((want.low, want.high))
    assert unlabelled.drift_figure(BEFORE, BEFORE).value == 0.0
    opposite = unlabelled.drift_figure(BEFORE, -BEFORE)
    assert (opposite.value, opposite.high) == pytest.approx((2.0, 2.0))
    # Of five that all but one drift as far as can be: the interval ends there.
    few = np.where(np.arange(5)[:, None] < 4, -BEFORE[:5], BEFORE[:5])
    assert unlabelled.drift_figure(BEFORE[:5], few).high == 2.0


@pytest.mark.parametrize("pairs", [8_000_000, 130])
def test_overlap_is_that_of_scikit_learns_neighbours(
    monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    monkeypatch.setattr(unlabelled, "_PAIRS", pairs)
    sides = []
    for features in (BEFORE, AFTER):
        found = NearestNeighbors(n_neighbors=11, metric="cosine").fit(features)
        sides.append(found.kneighbors(features, return_distance=False)[:, 1:])
    want = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*sides, strict=True)])
    figure = unlabelled.overlap_figure(BEFORE, AFTER)
    assert figure.value == pytest.approx(want)
    assert figure.details["guessing"] == pytest.approx(10 / 59)
    assert unlabelled.overlap_figure(BEFORE, 2 * BEFORE).value == 1.0


def test_of_equally_near_pictures_the_first_are_neighbours() -> None:
    # Four alike, and one that is near none; afterwards the last two of the four are alike to it.
    before = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    after = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    figure = unlabelled.overlap_figure(before, after, k=2, prefix="baseline_")
    # Nearest before: 12, 02, 01, 01, 01; after: 12, 02, 34, 24, 23.
    assert figure.value == pytest.approx((1.0 + 1.0 + 0.0 + 0.0 + 0.0) / 5)
    assert (figure.metric, figure.n) == ("baseline_neighbour_overlap", 5)
    assert figure.details == {"k": 2, "guessing": 0.5}
    three = unlabelled.overlap_figure(before, after, k=3)
    # 123, 023, 013, 012, 012; after: 123, 023, 034, 024, 023.
    assert three.value == pytest.approx((3 + 3 + 2 + 2 + 2) / 15)


def test_overlap_of_unrelated_features_is_guessing() -> None:
    rng = np.random.default_rng(1)
    figure = unlabelled.overlap_figure(rng.normal(size=(400, 8)), rng.normal(size=(400, 5)), k=20)
    assert figure.value == pytest.approx(20 / 399, abs=0.01)
    with pytest.raises(NotRun, match="10 neighbours needs more than 10 pictures"):
        unlabelled.overlap_figure(BEFORE[:10], AFTER[:10])
    assert unlabelled.overlap_figure(BEFORE[:11], AFTER[:11]).value == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(12, 20))
def test_figures_stay_inside_their_bounds(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    # Few different pictures: equal ones are equally near.
    features = rng.integers(1, 3, size=(count, 3)).astype(float)
    changed = rng.permutation(features)
    for figure in unlabelled.perturbed_of(
        pictures(features[:, [0, 1, 2, 0, 1, 2, 0, 1]]),
        pictures(changed[:, [0, 1, 2, 0, 1, 2, 0, 1]], Step("fog", 3)),
    ):
        low, high = METRICS.named(figure.metric).bounds
        assert low <= figure.low <= figure.value <= figure.high <= high


def test_of_views_by_id() -> None:
    clean = pictures(BEFORE)
    changed = pictures(AFTER[20:], Step("fog", 3), first=20)
    figures = {f.metric: f for f in unlabelled.perturbed_of(clean, changed)}
    assert set(figures) == {"flip_rate", "confidence_shift", "neighbour_overlap", "embedding_drift"}
    for figure in figures.values():
        assert figure.n == 40
        assert figure.condition == changed.condition
    # Two perturbed sides, and fewer neighbours.
    mild = pictures(BEFORE, Step("fog", 1))
    for figure in unlabelled.perturbed_of(mild, changed, k=4):
        assert figure.condition is not None
        assert figure.condition.perturbation == "fog@3-from-fog@1"
        assert figure.details.get("k", 4) == 4
    flips = (BEFORE @ HEAD).argmax(1)[20:] != (AFTER @ HEAD).argmax(1)[20:]
    assert figures["flip_rate"].value == flips.mean()
    assert figures["embedding_drift"].value == pytest.approx(
        unlabelled.drift_figure(BEFORE[20:], AFTER[20:]).value
    )
    assert figures["neighbour_overlap"].value == pytest.approx(
        unlabelled.overlap_figure(BEFORE[20:], AFTER[20:]).value
    )


def test_between_two_models_whose_features_are_of_another_kind() -> None:
    other = Pictures(
        Condition("photos"),
        pictures(BEFORE).ids,
        labels=np.full(60, -1),
        logits=AFTER @ HEAD,
        features=RNG.normal(size=(60, 3)),
    )
    figures = {f.metric: f for f in unlabelled.between_models(pictures(BEFORE), other)}
    assert set(figures) == {
        "baseline_flip_rate",
        "baseline_confidence_shift",
        "baseline_neighbour_overlap",
    }
    assert all(figure.condition == other.condition for figure in figures.values())
    shift = figures["baseline_confidence_shift"].details
    surer = [float(softmax(side @ HEAD, axis=1).max(axis=1).mean()) for side in (BEFORE, AFTER)]
    assert [shift["before"], shift["after"]] == pytest.approx(surer)
    few = {f.metric: f for f in unlabelled.between_models(pictures(BEFORE), other, k=3)}
    assert few["baseline_neighbour_overlap"].details["k"] == 3
    flips = (BEFORE @ HEAD).argmax(1) != (AFTER @ HEAD).argmax(1)
    assert figures["baseline_flip_rate"].value == flips.mean()
    assert not METRICS.named("baseline_neighbour_overlap").gateable
    assert METRICS.named("baseline_flip_rate").gateable


@pytest.mark.parametrize("units", [80, 20])
def test_the_interval_of_drift_holds_the_truth(units: int) -> None:
    """Turned by an angle, exponential in its cosine distance with mean 0.1."""

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        distance = np.minimum(rng.exponential(0.1, units).repeat(80 // units), 2.0)
        before = np.tile([1.0, 0.0], (80, 1))
        after = np.stack([1 - distance, np.sqrt(distance * (2 - distance))], axis=1)
        keys = keys_of(80, np.arange(80) // (80 // units))
        figure = unlabelled.drift_figure(before, after, bootstrap=Bootstrap(keys=keys))
        return figure.low, figure.high

    assert coverage(interval, 0.1, 150, seed=1) > 0.9
