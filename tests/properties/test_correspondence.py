"""Correspondence: sampling against torch, matches and keypoints against loops."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import correspondence as co

FEW = Bootstrap(replicates=200)


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
