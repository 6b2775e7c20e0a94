"""Retrieval, prompts, effective robustness, correspondence, and the table of metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from pytest_cliprobust.engine.head import unit_rows
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import correspondence as co
from pytest_cliprobust.properties import factors, prompts, retrieval

FEW = Bootstrap(replicates=200)


# --- Retrieval --------------------------------------------------------------------------------------


def _pairs(images: int, captions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(images), rng.integers(images, size=captions - images)])
    pictures = rng.normal(size=(images, 8))
    texts = pictures[owner] + 1.2 * rng.normal(size=(captions, 8))
    return pictures, texts, owner


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 15))
def test_ranks_match_a_loop(seed: int, images: int) -> None:
    pictures, texts, owner = _pairs(images, images + 9, seed)
    got_image, got_text = retrieval.retrieval_ranks(pictures, texts, owner)
    similarity = unit_rows(pictures) @ unit_rows(texts).T
    for i in range(images):
        order = sorted(range(len(texts)), key=lambda t, i=i: -similarity[i, t])
        assert got_image[i] == 1 + next(r for r, t in enumerate(order) if owner[t] == i)
    for t in range(len(texts)):
        order = sorted(range(images), key=lambda i, t=t: -similarity[i, t])
        assert got_text[t] == 1 + order.index(owner[t])


def test_any_of_the_captions_is_a_hit() -> None:
    pictures = np.eye(3)
    good, bad = np.eye(3), -np.eye(3)
    texts, owner = np.concatenate([bad, good]), [0, 1, 2, 0, 1, 2]
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=FEW)
    assert figures["image_to_text_recall_at_1"].value == 1.0
    # With the first caption only, nothing is found.
    alone = retrieval.retrieval_figures(pictures, bad, [0, 1, 2], bootstrap=FEW)
    assert alone["image_to_text_recall_at_1"].value == 0.0
    assert figures["text_to_image_recall_at_1"].value == 0.5


def test_a_collapsed_model_is_at_the_bottom() -> None:
    figures = retrieval.retrieval_figures(
        np.ones((6, 4)), np.ones((12, 4)), np.arange(12) % 6, bootstrap=FEW
    )
    assert figures["image_to_text_recall_at_1"].value == 0.0
    assert figures["image_to_text_recall_at_10"].value == 0.0
    assert figures["text_to_image_recall_at_5"].value == 0.0
    assert figures["image_to_text_median_rank"].value == 11.0


def test_retrieval_figures_and_chance() -> None:
    pictures, texts, owner = _pairs(30, 90, 1)
    image_rank, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=FEW)
    assert set(figures) <= set(METRICS)
    assert len(figures) == 8
    assert figures["image_to_text_recall_at_5"].value == np.mean(image_rank <= 5)
    assert figures["text_to_image_recall_at_5"].value == pytest.approx(np.mean(text_rank <= 5))
    assert figures["text_to_image_median_rank"].value == np.median(text_rank)
    assert figures["image_to_text_recall_at_1"].n == 30
    assert figures["text_to_image_recall_at_1"].n == 90
    assert figures["text_to_image_recall_at_5"].details["chance"] == pytest.approx(5 / 30)
    captions = np.bincount(owner)
    chance = np.mean([1 - np.prod([(90 - c - j) / (90 - j) for j in range(5)]) for c in captions])
    assert figures["image_to_text_recall_at_5"].details["chance"] == pytest.approx(chance)
    for figure in figures.values():
        assert figure.low <= figure.value <= figure.high


def test_median_replicates_are_medians() -> None:
    pictures, texts, owner = _pairs(9, 20, 2)
    _, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    boot = Bootstrap(replicates=12)
    figure = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=boot)
    rows = np.concatenate(list(boot.plan(9).indices()))
    for number, drawn in enumerate(rows):
        pool = np.concatenate([text_rank[owner == i] for i in drawn])
        assert figure["text_to_image_median_rank"].replicates[number] == np.median(pool)


def test_retrieval_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ClipRobustError, match="image 1"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(2), [0, 0])
    with pytest.raises(ClipRobustError, match="same model"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(3), [0, 1, 1])


# --- Prompts ----------------------------------------------------------------------------------------


def test_prompt_figures_by_hand() -> None:
    correct = np.array(
        [[True, True, False, False], [True, False, False, False], [True, True, True, False]]
    )
    ensemble = np.array([True, True, True, True])
    figures = prompts.prompt_figures(correct, ["a", "b", "c"], ensemble, bootstrap=FEW)
    assert {name: figure.value for name, figure in figures.items()} == pytest.approx(
        {
            "prompt_mean_accuracy": 0.5,
            "prompt_worst_accuracy": 0.25,
            "prompt_best_accuracy": 0.75,
            "prompt_accuracy_spread": 0.5,
            "prompt_accuracy_std": np.std([0.5, 0.25, 0.75]),
            "prompt_ensemble_accuracy": 1.0,
            "prompt_ensemble_gain": 0.5,
        }
    )
    assert figures["prompt_worst_accuracy"].details["template"] == "b"
    assert set(figures) <= set(METRICS)
    assert "basic" in figures["prompt_accuracy_spread"].method
    assert "basic" not in figures["prompt_mean_accuracy"].method
    with pytest.raises(ClipRobustError, match="2 templates"):
        prompts.prompt_figures(correct, ["a", "b"], ensemble)


def test_equal_templates_have_no_spread_but_no_certainty_either() -> None:
    row = np.random.default_rng(0).random(50) < 0.5
    figures = prompts.prompt_figures(np.stack([row, row]), ["a", "a"], row, bootstrap=FEW)
    assert figures["prompt_accuracy_spread"].value == 0.0
    assert figures["prompt_accuracy_spread"].high > 0.0
    assert figures["prompt_ensemble_gain"].low < 0.0 < figures["prompt_ensemble_gain"].high


# --- Factors and effective robustness ---------------------------------------------------------------


def test_error_ratio_replicates_and_undefined_ratio() -> None:
    correct = np.random.default_rng(1).random(200) < 0.6
    names = ["pose", "style"] * 100
    figures = factors.factor_figures(correct, names, bootstrap=FEW)
    weights = [figures[f]["error_ratio"].value for f in ("pose", "style")]
    assert np.mean(weights) == pytest.approx(1.0)
    for entry in figures.values():
        assert entry["error_ratio"].low < 1.3
        assert entry["error_ratio"].low <= entry["error_ratio"].value <= entry["error_ratio"].high
    perfect = factors.factor_figures(np.ones(4, bool), ["a", "a", "b", "b"])
    assert np.isnan(perfect["a"]["error_ratio"].value)
    assert np.isnan(perfect["a"]["error_ratio"].low)
    with pytest.raises(ClipRobustError, match="annotated"):
        factors.factor_figures(np.ones(2, bool), ["", "prototype"])
    assert len(set(factors.IMAGENET_X_FACTORS)) == 16


def test_the_line_is_fitted_on_logits() -> None:
    fleet = np.array([0.3, 0.5, 0.6, 0.7, 0.8])
    shifted = expit(0.8 * logit(fleet) - 0.5)
    line = factors.fit_accuracy_line(fleet, shifted)
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((0.8, -0.5, 1.0))
    assert line.predict(0.65) == pytest.approx(expit(0.8 * logit(0.65) - 0.5))
    noisy = np.clip(shifted + np.array([0.02, -0.03, 0.01, 0.03, -0.02]), 0.01, 0.99)
    slope, intercept = np.polyfit(logit(fleet), logit(noisy), 1)
    got = factors.fit_accuracy_line(fleet, noisy)
    assert (got.slope, got.intercept) == pytest.approx((slope, intercept))
    assert got.r_squared == pytest.approx(np.corrcoef(logit(fleet), logit(noisy))[0, 1] ** 2)


@pytest.mark.parametrize("paired", [True, False])
def test_a_model_on_the_line_has_no_effective_robustness(paired: bool) -> None:
    rng = np.random.default_rng(2)
    fleet = rng.uniform(0.3, 0.9, size=12)
    shifted = expit(0.9 * logit(fleet) - 1.0 + 0.05 * rng.normal(size=12))
    inside = np.arange(1000) < 700
    expected = float(expit(0.9 * logit(0.7) - 1.0))
    on_line = np.arange(1000) < round(1000 * expected)
    figure = factors.effective_robustness(
        inside, on_line, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert figure.low < 0.0 < figure.high
    assert abs(figure.value) < 0.03
    robust = np.arange(1000) < 690
    above = factors.effective_robustness(
        inside, robust, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert above.low > 0.1
    assert above.value == pytest.approx(0.69 - above.details["predicted_accuracy"])
    assert above.details["fleet"] == 12


def test_fleets_without_a_line_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="at least 3"):
        factors.fit_accuracy_line([0.5, 0.6], [0.4, 0.5])
    with pytest.raises(ClipRobustError, match="strictly between"):
        factors.fit_accuracy_line([0.5, 0.6, 1.0], [0.4, 0.5, 0.6])
    with pytest.raises(ClipRobustError, match="same ID accuracy"):
        factors.fit_accuracy_line([0.5, 0.5, 0.5], [0.4, 0.5, 0.6])
    with pytest.raises(ClipRobustError, match="no logit"):
        factors.effective_robustness(
            np.ones(3, bool), np.ones(3, bool), [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]
        )


# --- Correspondence ---------------------------------------------------------------------------------


def _view(seed: int = 0, channels: int = 24, grid: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, grid, grid))


def test_features_at_patch_centres_are_the_patches_and_between_them_bilinear() -> None:
    view = _view()
    centres = co.patch_centres((6, 6), (48, 60))
    assert centres[0].tolist() == [5.0, 4.0]
    assert centres[7].tolist() == [15.0, 12.0]
    np.testing.assert_allclose(
        co.sample_features(view, centres, (48, 60)),
        (view.reshape(24, -1) / np.linalg.norm(view.reshape(24, -1), axis=0)).T,
        atol=1e-12,
    )
    between = co.sample_features(view, [[10.0, 4.0]], (48, 60))[0]
    mean = (view[:, 0, 0] + view[:, 0, 1]) / 2
    np.testing.assert_allclose(between, mean / np.linalg.norm(mean), atol=1e-12)
    import torch

    points = np.random.default_rng(1).uniform(0, 48, size=(20, 2))
    grid = torch.from_numpy(points / 24 - 1)[None, None]
    want = torch.nn.functional.grid_sample(
        torch.from_numpy(view)[None], grid, align_corners=False, padding_mode="border"
    )[0, :, 0].T
    np.testing.assert_allclose(
        co.sample_features(view, points, (48, 48)),
        torch.nn.functional.normalize(want, dim=1).numpy(),
        atol=1e-9,
    )


def test_a_shifted_view_is_matched_exactly() -> None:
    view = _view(2, grid=8)
    moved = np.roll(view, 2, axis=2)
    points = co.patch_centres((8, 8), (64, 64))
    points = points[points[:, 0] < 48]  # what stays in view
    truth = points + np.array([16.0, 0.0])
    errors = co.geometric_errors(view, moved, points, truth, (64, 64))
    assert errors.shape == (48,)
    np.testing.assert_allclose(errors, 0.0, atol=1e-9)
    wrong = co.geometric_errors(view, moved, points, truth + np.array([3.0, 4.0]), (64, 64))
    np.testing.assert_allclose(wrong, 5.0, atol=1e-9)


def test_the_most_distinctive_matches_are_kept() -> None:
    target = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    clear, vague = [1.0, 0.0, 0.0], [0.0, 0.72, 0.694]
    matches = co.match_features([vague, clear], target, keep=1)
    assert (matches.source.tolist(), matches.target.tolist()) == ([1], [0])
    both = co.match_features([vague, clear], target)
    assert both.source.tolist() == [1, 0]
    assert both.target.tolist() == [0, 1]
    one, two = 1 - 0.72, 1 - 0.694
    assert both.weight.tolist() == pytest.approx([1 - 1e-9, 1 - one / two])
    with pytest.raises(ClipRobustError, match="Q >= 2"):
        co.match_features(target, target[:1])


def test_recall_pools_matches_and_bins_by_viewpoint() -> None:
    errors = [np.array([1.0, 30.0]), np.array([4.9, 5.0, 60.0, 60.0])]
    figures = co.recall_figures(errors, [10.0, 30.0], bootstrap=FEW)
    assert figures["correspondence_recall_at_5px"].value == pytest.approx(2 / 6)
    assert figures["correspondence_recall_at_50px"].value == pytest.approx(4 / 6)
    assert figures["correspondence_recall_at_5px"].n == 2
    bins = figures["correspondence_recall_at_5px"].details["by_angle"]
    assert [b["n"] for b in bins] == [1, 1, 0, 0]
    assert [b["recall"] for b in bins] == [0.5, 0.25, None, None]
    assert set(figures) <= set(METRICS)
    with pytest.raises(ClipRobustError, match="pair 1"):
        co.recall_figures([np.ones(2), np.ones(0)])
    with pytest.raises(ClipRobustError, match="no pair"):
        co.recall_figures([])


def test_keypoints_and_the_scale_of_the_threshold() -> None:
    view = _view(3, grid=10)
    keypoints = np.array([[84.0, 84.0], [44.0, 124.0]])  # near patch centres (85, 85), (45, 125)
    errors = co.keypoint_errors(view, view, keypoints, keypoints, (100, 130), 50.0)
    distance = np.linalg.norm(co.patch_centres((10, 10), (100, 130))[[86, 93]] - keypoints, axis=1)
    assert errors.shape == (2,)
    # The error is a fraction of the box in the pixels of the resized image: half the box, twice
    # the error (a threshold in unresized pixels cost others five points of PCK).
    np.testing.assert_allclose(
        co.keypoint_errors(view, view, keypoints, keypoints, (100, 130), 25.0), 2 * errors
    )
    assert errors[0] <= distance[0]
    with pytest.raises(ClipRobustError, match="extent"):
        co.keypoint_errors(view, view, keypoints, keypoints, (100, 130), 0.0)


def test_keypoints_match_a_loop() -> None:
    first, second = _view(4), _view(5)
    keypoints = np.random.default_rng(6).uniform(0, 60, size=(12, 2))
    truth = np.random.default_rng(7).uniform(0, 60, size=(12, 2))
    got = co.keypoint_errors(first, second, keypoints, truth, (60, 60), 30.0)
    for k in range(12):
        query = co.sample_features(first, keypoints[k : k + 1], (60, 60))[0]
        best, where = -2.0, (0.0, 0.0)
        for i in range(6):
            for j in range(6):
                patch = second[:, i, j] / np.linalg.norm(second[:, i, j])
                if query @ patch > best:
                    best, where = query @ patch, (10 * j + 5.0, 10 * i + 5.0)
        assert got[k] == pytest.approx(np.linalg.norm(np.array(where) - truth[k]) / 30.0)


def test_pck_is_a_mean_over_classes_not_over_keypoints() -> None:
    errors = [np.zeros(9), np.array([0.5]), np.array([0.05, 0.2])]
    figure = co.pck_figures(errors, [0, 1, 1], bootstrap=FEW)["pck_at_0.1"]
    assert figure.value == pytest.approx((1.0 + 1 / 3) / 2)
    assert figure.n == 3
    assert [entry["pck"] for entry in figure.details["per_class"]] == pytest.approx([1.0, 1 / 3])
    assert figure.low <= figure.value <= figure.high
    assert "pck_at_0.1" in METRICS
    # Exactly at the threshold is outside.
    assert co.pck_figures([np.array([0.1])], [0], bootstrap=FEW)["pck_at_0.1"].value == 0.0


# --- The table --------------------------------------------------------------------------------------


def test_the_table_of_metrics_is_complete_and_consistent() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert name == name.lower()
        assert " " not in name
        assert metric.meaning
        assert "\n" not in metric.meaning
        if metric.low is not None and metric.high is not None:
            assert metric.low < metric.high
    assert METRICS["accuracy"].higher_is_better is True
    assert METRICS["ece"].higher_is_better is False
    assert METRICS["signed_gap"].higher_is_better is None
    assert METRICS["fpr95_mcm"].higher_is_better is False


def test_the_table_agrees_with_the_threshold_vocabulary() -> None:
    from pytest_cliprobust.gating import vocabulary

    for name, metric in METRICS.items():
        try:
            info = vocabulary.metric_named(name)
        except ClipRobustError:
            pytest.fail(f"thresholds do not know {name!r}")
        assert info.higher_is_better is metric.higher_is_better, name


def test_every_figure_is_plain_numbers_and_json() -> None:
    import json

    from pytest_cliprobust.properties import accuracy, calibration, corruption, ood, shape_bias

    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(60, 6)), rng.integers(6, size=60)
    right = accuracy.correct_top_k(scores, labels)
    grid = rng.random((2, 3, 60)) < 0.5
    pictures, texts, owner = _pairs(10, 20, 0)
    few = Bootstrap(replicates=20, samples="abc")
    names = [str(i) for i in range(6)]
    figures = [
        accuracy.accuracy(scores, labels, bootstrap=few),
        accuracy.balanced_accuracy(scores, labels, bootstrap=few),
        accuracy.worst_group_accuracy(right, ["a", "b"] * 30, bootstrap=few),
        accuracy.accuracy_drop_figure(right, grid[0, 0], bootstrap=few),
        accuracy.relative_drop_figure(right, grid[0, 0], bootstrap=few),
        *accuracy.mean_corruption_error({"f": grid[0]}, {"f": 0.5}, baseline="B").values(),
        *corruption.corruption_figures(right, grid, ["f", "g"], [1, 2, 3], bootstrap=few).values(),
        *calibration.calibration_figures(
            scores, labels, probability="sigmoid", bootstrap=few
        ).values(),
        calibration.temperature_figure(scores, labels, bootstrap=few)[1],
        *ood.detection_figures(scores[:, 0], scores[:, 1], "mcm", bootstrap=few).values(),
        *shape_bias.shape_bias_figures(
            labels, labels, (labels + 1) % 6, names, bootstrap=few
        ).values(),
        *retrieval.retrieval_figures(pictures, texts, owner, bootstrap=few).values(),
        *prompts.prompt_figures(grid[0], ["a", "b", "c"], right, bootstrap=few).values(),
        *factors.factor_figures(right, ["p", "q"] * 30, bootstrap=few)["p"].values(),
        *co.recall_figures([np.ones(3), np.ones(2)], [3.0, 40.0], bootstrap=few).values(),
        *co.pck_figures([np.ones(3)], [0], bootstrap=few).values(),
    ]
    for figure in figures:
        assert figure.metric in METRICS, figure.metric
        json.dumps(figure.details, allow_nan=False)
        for number in (figure.value, figure.low, figure.high, *figure.replicates[:2]):
            assert type(number) is float, figure.metric
        assert type(figure.n) is int
        assert figure.method
        metric = METRICS[figure.metric]
        if metric.low is not None:
            assert figure.low >= metric.low
        if metric.high is not None:
            assert figure.high <= metric.high
