"""Figures where there is little to go by: one sample, one unit, ties, all right, all wrong, no spread."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from helpers import mostly_slow
from made_up import PARTS, flat

from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap, proportion_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import accuracy, calibration, corruption, ood, prompts
from pytest_cliprobust.properties.correspondence import pck_figures, recall_figures
from pytest_cliprobust.properties.factors import factor_figures
from pytest_cliprobust.properties.frontier import first_crossings, frontier_strength_figure
from pytest_cliprobust.properties.retrieval import retrieval_figures
from pytest_cliprobust.properties.shape_bias import shape_bias_figures

Figures = dict[str, Figure]
LEVELS = (0.2, 0.5, 0.8, 0.9, 0.95, 0.99, 0.9995, 1.0 - 1e-7, 1.0 - 1e-11)


def settings(count: int, each: int = 1) -> Bootstrap:
    names = tuple(map(str, range(count)))
    return Bootstrap(keys=SampleKeys(names, tuple(str(i // each) for i in range(count))))


def calibrated(logits: Floats, labels: object, boot: Bootstrap) -> Figures:
    return calibration.calibration_figures(logits, labels, bootstrap=boot)  # type: ignore[arg-type]


def answered(right: Bools, boot: Bootstrap, *, spread: bool = True) -> Figures:
    """Return every figure that is made of answers, from one row of them."""
    count = len(right)
    groups = ["a" if i < count / 2 else "b" for i in range(count)]
    labels = np.arange(count) % 3
    scores = np.zeros((count, 4))
    scores[np.arange(count), np.where(right, labels, 3)] = 1.0
    flip = right ^ ((np.arange(count) % 7 == 0) & spread)
    cells = np.stack([np.stack([right, flip]), np.stack([flip, right])])
    answers = np.stack([right, right, flip, flip & (np.arange(count) % 2 == 0)], axis=1)
    made = [
        accuracy.accuracy_figure(right, bootstrap=boot),
        accuracy.accuracy_drop_figure(right, flip, bootstrap=boot),
        accuracy.relative_drop_figure(right, flip, bootstrap=boot),
        accuracy.balanced_accuracy(scores, labels, bootstrap=boot),
        accuracy.worst_group_accuracy(right, groups, bootstrap=boot),
        *corruption.corruption_figures(right, cells, ["x", "y"], [1, 2], bootstrap=boot).values(),
        *prompts.prompt_figures(
            np.stack([right, flip]), ["s", "t"], right, bootstrap=boot
        ).values(),
        *factor_figures(right, groups, bootstrap=boot)["a"].values(),
        frontier_strength_figure(np.array([0.0, 0.5, 1.0]), answers, 0.1, {}, boot),
        frontier_strength_figure(np.array([0.0, 0.5, 1.0]), answers, None, {}, boot),
        *accuracy.mean_corruption_error(
            {"x": cells[0], "y": cells[1]}, {"x": 0.5, "y": 0.6}, baseline="b", bootstrap=boot
        ).values(),
    ]
    return {f"{number} {figure.metric}": figure for number, figure in enumerate(made)}


def sound(figure: Figure) -> None:
    """An interval that holds the value, inside the metric's range, and wider at higher levels."""
    metric = METRICS.find(figure.metric)
    if figure.replicates:  # whose quantiles know no range at another level
        assert figure.low <= figure.value <= figure.high
        return
    ends = [interval_at(figure, level) for level in LEVELS]
    for narrow, wide in pairwise(ends):
        assert wide.low <= narrow.low + 1e-9, figure.metric
        assert wide.high >= narrow.high - 1e-9, figure.metric
    for end in (*ends, interval_at(figure, figure.confidence)):
        assert end.low <= figure.value <= end.high, figure.metric
        if metric is not None and figure.ends is not None:
            assert metric.bounds[0] <= end.low, figure.metric
            assert end.high <= metric.bounds[1], figure.metric


# --- One sample, one unit


def test_a_mean_over_one_sample_has_no_interval() -> None:
    figures = calibrated(np.array([[2.0, 1.0, 0.0]]), [0], settings(1))
    for name, figure in figures.items():
        assert math.isfinite(figure.value), name
        assert math.isnan(figure.low), name
        assert math.isnan(figure.high), name
        assert math.isnan(interval_at(figure, 0.99).low), name


def test_a_share_of_one_sample_is_as_uncertain_as_one_trial() -> None:
    figure = proportion_figure("accuracy", np.array([True]), settings(1))
    assert (figure.low, figure.high) == pytest.approx((0.05, 1.0))
    four = proportion_figure("accuracy", np.array([True] * 4), settings(4, 4))
    assert (four.low, four.high) == (figure.low, figure.high)
    sound(four)


@pytest.mark.parametrize("right", [0, 2, 4])
def test_scenes_of_one_drawing_have_no_interval_but_shares(right: int) -> None:
    boot = settings(4, 4)
    rng = np.random.default_rng(0)
    figures = calibrated(rng.normal(size=(4, 3)), [0, 1, 2, 0], boot)
    figures |= answered(np.arange(4) < right, boot)
    for name, figure in figures.items():
        if name.split()[-1] in ("accuracy", "accuracy_drop", "prompt_ensemble_accuracy"):
            sound(figure)
            assert figure.high - figure.low > 0.5
        elif not METRICS.named(figure.metric).gateable or "group" in name or "factor" in name:
            continue
        else:
            assert math.isnan(figure.low) or not math.isfinite(figure.value), name


def test_detection_with_one_unit_on_a_side_has_no_interval() -> None:
    keys = settings(4, 4).keys
    assert keys is not None
    rng = np.random.default_rng(0)
    figures = ood.detection_figures(
        rng.normal(1.0, size=4),
        rng.normal(size=4),
        "mcm",
        bootstrap=Bootstrap(keys=keys.beside(keys)),
    )
    for figure in figures.values():
        assert math.isfinite(figure.value)
        assert math.isnan(figure.low)


# --- All right, all wrong, no spread


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("right", ["all", "none", "some"])
@pytest.mark.parametrize("spread", [True, False])
def test_answers_claim_no_certainty(right: str, each: int, spread: bool) -> None:
    count = 40
    answers = {
        "all": np.ones(count, dtype=np.bool_),
        "none": np.zeros(count, dtype=np.bool_),
        "some": np.arange(count) % 5 > 0,
    }[right]
    for name, figure in answered(answers, settings(count, each), spread=spread).items():
        metric = METRICS.find(figure.metric)
        assert metric is not None
        if not math.isfinite(figure.value):
            assert "relative" in name or "error_ratio" in name
            assert math.isnan(figure.low)
            continue
        sound(figure)
        # A curve that stays far from its limit crosses it nowhere, in any sample.
        certain = figure.metric == "frontier_strength" and figure.value == 1.0
        if metric.gateable and not certain:
            assert figure.high - figure.low > 0.01, name
        change = change_between(figure, figure)
        ends = change.interval(0.95)
        assert change.identical, name
        if metric.change_gateable and not certain:
            assert ends.low < 0.0 < ends.high, name
        assert change.p_value == 1.0


def confident(share: float, count: int = 60, scale: float = 1000.0) -> tuple[Floats, np.ndarray]:
    """Return logits whose confidences are 1 to the last bit, and labels of which a share is right."""
    labels = np.arange(count) % 3
    logits = scale * np.eye(3)[labels]
    labels = np.where(np.arange(count) < share * count, labels, (labels + 1) % 3)
    return logits, labels


@pytest.mark.parametrize("each", [1, 4])
@pytest.mark.parametrize("share", [1.0, 0.8, 0.0])
def test_saturated_confidences_claim_no_certainty(share: float, each: int) -> None:
    logits, labels = confident(share)
    figures = calibrated(logits, labels, settings(60, each))
    for figure in figures.values():
        sound(figure)
        assert figure.high - figure.low > 0.01, figure.metric
    assert figures["ece"].value == pytest.approx(1.0 - share)
    assert figures["adaptive_ece"].value == pytest.approx(1.0 - share)
    assert figures["adaptive_ece"].low == pytest.approx(figures["ece"].low, abs=0.05)
    # 60 right answers do not rule out that a few in a hundred are wrong.
    if share == 1.0:
        assert figures["ece"].high > 0.03
        assert figures["brier"].high > 0.06
        assert figures["signed_gap"].high > 0.03


def test_the_same_scores_are_the_same_model() -> None:
    logits, labels = confident(0.8, scale=5.0)
    before = calibrated(logits, labels, settings(60))
    for name, figure in calibrated(logits.copy(), labels, settings(60)).items():
        change = change_between(figure, before[name])
        if METRICS.named(name).change_gateable:
            assert (change.interval(0.95).low, change.interval(0.95).high) == (0.0, 0.0), name


@pytest.mark.parametrize("each", [1, 4])
def test_scores_that_are_apart_or_all_the_same_claim_no_certainty(each: int) -> None:
    keys = settings(40, each).keys
    assert keys is not None
    boot = Bootstrap(keys=keys.beside(keys))
    rng = np.random.default_rng(2)
    pairs: list[tuple[Floats, Floats]] = [
        (10.0 + rng.random(40), rng.random(40)),
        (rng.random(40), 10.0 + rng.random(40)),
        (np.ones(40), np.ones(40)),
        (np.ones(40), np.where(np.arange(40) < 20, 1.0, 0.0)),
        (np.minimum(rng.normal(1.0, size=40), 0.5), np.minimum(rng.normal(size=40), 0.5)),
    ]
    for inside, outside in pairs:
        for figure in ood.detection_figures(inside, outside, "mcm", bootstrap=boot).values():
            sound(figure)
            assert figure.high - figure.low > 0.02, figure.metric
            other = ood.detection_figures(inside, outside + 1e-3, "mcm", bootstrap=boot)
            ends = change_between(other[figure.metric], figure).interval(0.95)
            assert ends.low < ends.high


@pytest.mark.parametrize("each", [1, 4])
def test_perfect_retrieval_matches_and_decisions_claim_no_certainty(each: int) -> None:
    boot = settings(20, each)
    figures = retrieval_figures(np.eye(20), np.eye(20), np.arange(20), bootstrap=boot)
    figures |= recall_figures([[0.0, 1.0]] * 20, bootstrap=boot)
    figures |= pck_figures([[0.0, 1.0]] * 20, np.arange(20) // 4, bootstrap=boot)
    zeros = np.zeros(20, dtype=np.int64)
    figures |= shape_bias_figures(zeros, zeros, zeros + 1, ["a", "b"], bootstrap=boot)
    for name, figure in figures.items():
        sound(figure)
        if "rank" not in name:
            assert figure.high - figure.low > 0.05, name


# --- Crossings


@pytest.mark.parametrize("allowed", [0.1, 0.35])
def test_first_crossings_read_each_curve(allowed: float) -> None:
    strengths = np.array([0.0, 0.25, 0.5, 1.0])
    drops = np.array(
        [
            [0.0, 0.0, 0.0, 0.0],  # never
            [0.4, 0.0, 0.0, 0.5],  # at once
            [0.0, 0.2, 0.4, 0.6],
            [0.0, 0.5, 0.0, 0.5],  # the first time counts
        ]
    )

    def slow(row: Floats) -> float:
        for i in range(4):
            if row[i] > allowed:
                if i == 0:
                    return 0.0
                share = (allowed - row[i - 1]) / (row[i] - row[i - 1])
                return float(strengths[i - 1] + share * (strengths[i] - strengths[i - 1]))
        return 1.0

    found = first_crossings(strengths, drops, np.full(4, allowed))
    np.testing.assert_allclose(found, [slow(row) for row in drops])


def test_what_is_not_gateable_says_why() -> None:
    barred = [m for m in METRICS.values() if not (m.gateable and m.change_gateable)]
    assert {m.name for m in barred} >= {"temperature", "classwise_ece", "severity_monotonicity"}
    for metric in METRICS.values():
        assert bool(metric.why_not_gateable) == (metric in barred), metric.name
    must: Callable[[str], bool] = lambda name: METRICS.named(name).gateable  # noqa: E731
    for name in (
        *("accuracy", "accuracy_drop", "relative_drop", "mean_corruption_accuracy", "nll", "brier"),
        *("mean_corruption_drop", "auroc_mcm", "fpr95_mcm", "shape_bias", "attack_success"),
        *("image_to_text_recall_at_1", "worst_case_drop", "frontier_strength"),
    ):
        assert must(name), name
        assert METRICS.named(name).change_gateable, name
    assert METRICS.named("ece").change_gateable


@pytest.mark.parametrize("part", mostly_slow(PARTS, set(PARTS) - {"detections"}))
def test_at_whatever_level_an_interval_stays_inside_the_metrics_range(part: str) -> None:
    """Of every property's figures: one that nothing holds there leaves it at a high level."""
    for figure in flat(PARTS[part](0)):
        sound(figure)
