"""Correspondence: sampling against torch, matches and keypoints against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import drawn_rows, drawn_samples, keys_of, replicates_of, times_as_wide
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from pytest_cliprobust.datasets.base import Links
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import correspondence as co
from pytest_cliprobust.targets.base import LAST, Layer

FEW = Bootstrap(replicates=200)


def _view(seed: int = 0, channels: int = 24, grid: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, grid, grid))


def _errors(
    first: ArrayLike,
    second: ArrayLike,
    points: ArrayLike,
    truth: ArrayLike,
    image_size: tuple[int, int],
    candidates: ArrayLike | None = None,
    keep: int = co.MATCHES,
) -> Floats:
    """Return how far (K,) each match of a pair lies from the right place, in pixels."""
    where, right, among = (
        None if places is None else torch.from_numpy(np.array(places, dtype=np.float64))
        for places in (points, truth, candidates)
    )
    assert where is not None
    assert right is not None
    rows = co.match_pair(first, second, Links(where, right, among), image_size, (5.0,), keep=keep)
    return np.asarray(np.linalg.norm(rows[:, 2:4] - rows[:, 4:6], axis=1), dtype=np.float64)


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
    # Beyond the outermost centres, and beyond the image: the border's features.
    corners = co.sample_features(view, [[200.0, -90.0], [-90.0, 200.0]], (48, 60))
    for got, patch in zip(corners, (view[:, 0, 5], view[:, 5, 0]), strict=True):
        np.testing.assert_allclose(got, patch / np.linalg.norm(patch), atol=1e-12)
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
    errors = _errors(view, moved, points, truth, (64, 64))
    assert errors.shape == (48,)
    np.testing.assert_allclose(errors, 0.0, atol=1e-9)
    wrong = _errors(view, moved, points, truth + np.array([3.0, 4.0]), (64, 64))
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
    for first, second in (
        (target, target[:1]),
        (target[:0], target),
        (target, target[:, :2]),
        (target[0], target),
        (target, target[0]),
    ):
        with pytest.raises(ClipRobustError, match="Q >= 2"):
            co.match_features(first, second)


def test_equal_matches_go_to_the_first_and_two_certain_ones_are_not_distinctive() -> None:
    twice = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    matches = co.match_features(twice, twice[::-1])
    # The first two have two equal neighbours each (weight 0); only the third is distinctive.
    assert matches.source.tolist() == [2, 0, 1]
    assert matches.target.tolist() == [0, 1, 1]
    assert matches.weight.tolist() == [1.0 - 1e-9, 0.0, 0.0]
    assert co.match_features(twice, twice, keep=2).source.tolist() == [2, 0]


def test_matches_do_not_hang_on_the_order_of_summation() -> None:
    # As another number of threads of the linear-algebra library has it.
    rng = np.random.default_rng(12)
    first, second = rng.normal(size=(2, 60, 96))
    first, second = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (first, second))
    usual = co.match_features(first, second)
    for _ in range(5):
        order = rng.permutation(96)
        other = co.match_features(first[:, order], second[:, order])
        np.testing.assert_array_equal(other.source, usual.source)
        np.testing.assert_array_equal(other.target, usual.target)
        np.testing.assert_array_equal(other.weight, usual.weight)


def test_matches_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(9).normal(size=(2, 13, 5))
    whole = co.match_features(first, second)
    for block in (1, 4 * 13):
        monkeypatch.setattr(co, "_CHUNK", block)
        parts = co.match_features(first, second)
        np.testing.assert_array_equal(parts.source, whole.source)
        np.testing.assert_array_equal(parts.target, whole.target)
        np.testing.assert_allclose(parts.weight, whole.weight, atol=1e-12)


@pytest.mark.parametrize("block", [1, 3 * 9, 10**6])
def test_the_share_of_candidates_near_by_is_the_same_in_blocks(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, candidates = np.random.default_rng(4).uniform(0, 9, size=(2, 9, 3))
    limits = np.array([2.0, 5.0])
    monkeypatch.setattr(co, "_CHUNK", block)
    expected = (cdist(places, candidates)[:, :, None] < limits).mean(axis=1)
    np.testing.assert_allclose(co._near(places, candidates, limits), expected)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_and_points_that_are_not_finite_are_refused(broken: float) -> None:
    view, spoilt = _view(), _view()
    spoilt[0, 2, 3] = broken
    points = np.array([[4.0, 4.0], [20.0, 20.0]])
    wrong = np.array([[4.0, broken], [20.0, 20.0]])
    for first, second in ((spoilt, view), (view, spoilt)):
        with pytest.raises(ClipRobustError, match="must be finite, of shape"):
            _errors(first, second, points, points, (48, 48))
        with pytest.raises(ClipRobustError, match="must be finite, of shape"):
            co.keypoint_errors(first, second, points, points, (48, 48), 10.0)
    for where, truth, name in ((wrong, points, "points"), (points, wrong, "true positions")):
        with pytest.raises(ClipRobustError, match=f"^{name} must be finite"):
            _errors(view, view, where, truth, (48, 48))
    with pytest.raises(ClipRobustError, match="candidates must be finite"):
        _errors(view, view, points, points, (48, 48), wrong)


@pytest.mark.parametrize("shape", [(4, 4), (4, 0, 4), (1, 4, 4, 4)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ClipRobustError, match="dense features"):
        co.sample_features(np.ones(shape), [[1.0, 1.0]], (48, 48))


@pytest.mark.parametrize("points", [[1.0, 1.0], [[1.0, 1.0, 1.0]], np.zeros((0, 2))])
def test_points_of_another_shape_are_refused(points: ArrayLike) -> None:
    with pytest.raises(ClipRobustError, match=r"finite points of shape \(P, 2\)"):
        co.sample_features(_view(), points, (48, 48))
    with pytest.raises(ClipRobustError, match="3 and 2 samples"):
        _errors(_view(), _view(), np.ones((3, 2)), np.ones((2, 2)), (48, 48))


def test_dead_features_have_no_direction() -> None:
    view = _view()
    view[:, 0, :] = 0.0
    sampled = co.sample_features(view, [[4.0, 4.0], [4.0, 20.0]], (48, 48))
    assert sampled[0].tolist() == [0.0] * 24
    assert np.linalg.norm(sampled[1]) == pytest.approx(1.0)


def test_matching_among_candidates_only() -> None:
    view, points = _view(2, grid=8), co.patch_centres((8, 8), (64, 64))
    chosen = points[[3, 10, 20, 40]]
    errors = _errors(view, view, chosen, chosen, (64, 64), chosen[::-1])
    np.testing.assert_allclose(errors, 0.0, atol=1e-9)
    # The true patch is no candidate: each goes to one of the others.
    others = _errors(view, view, chosen[:1], chosen[:1], (64, 64), chosen[1:])
    distances = np.linalg.norm(chosen[1:] - chosen[0], axis=1)
    assert min(abs(others[0] - distances)) < 1e-9
    assert len(_errors(view, view, points, points, (64, 64), keep=5)) == 5


def test_recall_pools_matches_and_bins_by_viewpoint() -> None:
    errors = [np.array([1.0, 30.0]), np.array([4.9, 5.0, 60.0, 60.0])]
    figures = co.recall_figures(errors, [10.0, 30.0], bootstrap=FEW)
    assert figures["correspondence_recall_at_5px"].value == pytest.approx(2 / 6)
    assert figures["correspondence_recall_at_50px"].value == pytest.approx(4 / 6)
    assert figures["correspondence_recall_at_5px"].n == 2
    bins = figures["correspondence_recall_at_5px"].details["by_angle"]
    assert [b["n"] for b in bins] == [1, 1, 0, 0]
    assert [b["recall"] for b in bins] == [0.5, 0.25, None, None]
    assert [(b["low"], b["high"]) for b in bins] == [(0, 30), (30, 60), (60, 90), (90, 120)]
    details = figures["correspondence_recall_at_25px"].details
    assert (details["matches"], details["pixels"]) == (6, 25.0)
    assert set(figures) <= set(METRICS)
    assert "by_angle" not in co.recall_figures(errors, bootstrap=FEW)[co.recall_metric(5)].details
    with pytest.raises(ClipRobustError, match="2 and 1 samples"):
        co.recall_figures(errors, [10.0], bootstrap=FEW)
    with pytest.raises(ClipRobustError, match="pair 1"):
        co.recall_figures([np.ones(2), np.ones(0)])
    with pytest.raises(ClipRobustError, match="no pair"):
        co.recall_figures([])


def test_several_pairs_in_a_bin_have_their_mean_recall() -> None:
    errors = [np.zeros(4), np.array([0.0, 9.0]), np.array([9.0])]
    details = co.recall_figures(
        errors, [15.0, 29.0, 120.0], pixels=(5.0,), angle_edges=(15.0, 30.0, 120.0), bootstrap=FEW
    )["correspondence_recall_at_5px"].details
    assert details["by_angle"] == [
        {"low": 15.0, "high": 30.0, "n": 2, "recall": 0.75},
        {"low": 30.0, "high": 120.0, "n": 0, "recall": None},
    ]


def test_replicates_resample_pairs_with_all_their_matches() -> None:
    rng = np.random.default_rng(3)
    errors = [rng.uniform(0, 10, size=rng.integers(1, 6)) for _ in range(12)]
    classes = np.array([7, 7, 2, 2, 2, 7, 5, 5, 5, 5, 7, 2])
    boot = Bootstrap(replicates=10, keys=keys_of(12))
    recall = co.recall_figures(errors, pixels=(5.0,), bootstrap=boot)[co.recall_metric(5.0)]
    for value, drawn in zip(replicates_of(recall, boot), drawn_rows(boot, 12), strict=True):
        pool = np.concatenate([errors[i] for i in drawn])
        assert value == pytest.approx(np.mean(pool < 5.0))
    assert recall.outcomes is not None
    assert recall.outcomes.keys == boot.keys
    assert recall.outcomes.value() == pytest.approx(recall.value)
    pck = co.pck_figures(errors, classes, alpha=5.0, bootstrap=boot)["pck_at_5"]
    drawn_shares = replicates_of(pck, boot, classes)
    for value, drawn in zip(drawn_shares, drawn_rows(boot, 12, classes), strict=True):
        shares = [
            np.mean(np.concatenate([errors[i] for i in drawn if classes[i] == c]) < 5.0)
            for c in (2, 5, 7)
        ]
        assert value == pytest.approx(np.mean(shares))
    assert [(e["class"], e["n"]) for e in pck.details["per_class"]] == [(2, 4), (5, 4), (7, 4)]
    assert (pck.details["alpha"], pck.details["keypoints"]) == (5.0, sum(map(len, errors)))
    assert recall.method == pck.method == "t, skewness corrected"
    assert pck.outcomes is not None
    assert pck.outcomes.value() == pytest.approx(pck.value)
    np.testing.assert_array_equal(pck.outcomes["class"], np.searchsorted([2, 5, 7], classes))


def test_pairs_of_one_object_are_resampled_together() -> None:
    rng = np.random.default_rng(4)
    errors = [rng.uniform(0, 10, size=rng.integers(1, 6)) for _ in range(18)]
    units = np.arange(18) // 3
    boot = Bootstrap(replicates=15, keys=keys_of(18, units, kind="object"))
    recall = co.recall_figures(errors, pixels=(5.0,), bootstrap=boot)[co.recall_metric(5.0)]
    pck = co.pck_figures(errors, units % 2, alpha=5.0, bootstrap=boot)["pck_at_5"]
    for value, drawn in zip(replicates_of(recall, boot), drawn_samples(boot, 18), strict=True):
        pool = np.concatenate([errors[i] for i in drawn])
        assert value == pytest.approx(np.mean(pool < 5.0))
    drawn_shares = replicates_of(pck, boot, units % 2)
    for value, drawn in zip(drawn_shares, drawn_samples(boot, 18, units % 2), strict=True):
        shares = [
            np.mean(np.concatenate([errors[i] for i in drawn if units[i] % 2 == c]) < 5.0)
            for c in (0, 1)
        ]
        assert value == pytest.approx(np.mean(shares))
    assert pck.method == f"t, skewness corrected, design effect {pck.design_effect:.2f}"
    assert (recall.n, recall.units) == (18, 6)


def test_intervals_are_as_wide_as_resampling_objects_has_them() -> None:
    rng = np.random.default_rng(5)
    units, classes = np.arange(240) // 4, np.arange(240) // 4 % 3
    level = rng.normal(size=60)[units]
    errors = [5.0 + 2.0 * level[i] + rng.normal(size=rng.integers(3, 9)) for i in range(240)]
    boot = Bootstrap(replicates=400, keys=keys_of(240, units, kind="object"))
    recall = co.recall_figures(errors, pixels=(5.0,), bootstrap=boot)[co.recall_metric(5.0)]
    pck = co.pck_figures(errors, classes, alpha=5.0, bootstrap=boot)["pck_at_5"]
    assert 0.9 < times_as_wide(recall, boot) < 1.2
    # Classes with 20 objects show a little less than the spread that they have, which is allowed for.
    assert 0.95 < times_as_wide(pck, boot, classes) < 1.3
    assert min(recall.design_effect, pck.design_effect) > 2.0


def test_pairs_without_a_miss_claim_no_certainty_beyond_their_number() -> None:
    perfect = [np.zeros(9)] * 4
    recall = co.recall_figures(perfect, bootstrap=FEW)[co.recall_metric(5.0)]
    pck = co.pck_figures(perfect, [0, 0, 1, 1], bootstrap=FEW)["pck_at_0.1"]
    # Four pairs do not even rule out that half of the matches miss (0.5**4 is 0.06).
    for figure in (recall, pck):
        assert 0.0 < figure.low < wilson(4, 4).low < 0.52
        assert figure.high == 1.0
    more = co.recall_figures([np.zeros(9)] * 100, bootstrap=FEW)[co.recall_metric(5.0)]
    assert more.low == pytest.approx(wilson(100, 100).low, abs=0.01)


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
    for extent in (0.0, -1.0, np.nan):
        with pytest.raises(ClipRobustError, match="extent"):
            co.keypoint_errors(view, view, keypoints, keypoints, (100, 130), extent)
    assert co.keypoint_errors(view, view, keypoints, keypoints, (100, 130), 0.5).shape == (2,)
    with pytest.raises(ClipRobustError, match="2 and 1 samples"):
        co.keypoint_errors(view, view, keypoints, keypoints[:1], (100, 130), 50.0)


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
    with pytest.raises(ClipRobustError, match="pair 1"):
        co.pck_figures([np.ones(2), np.ones(0)], [0, 0])
    with pytest.raises(ClipRobustError, match="no pair"):
        co.pck_figures([], [])
    with pytest.raises(ClipRobustError, match="label -1"):
        co.pck_figures([np.ones(2), np.ones(1)], [0, -1])
    # Exactly at the threshold is outside.
    assert co.pck_figures([np.array([0.1])], [0], bootstrap=FEW)["pck_at_0.1"].value == 0.0


def test_the_published_settings() -> None:
    assert (co.NAVI_PIXELS, co.SCANNET_PIXELS) == ((5, 25, 50), (5, 10, 20))
    assert co.NAVI_ANGLES == (0, 30, 60, 90, 120)
    assert (co.MATCHES, co.PCK_ALPHA) == (1000, 0.1)


def _links(seed: int = 3, count: int = 30, scale: float = 1.0) -> Links:
    rng = np.random.default_rng(seed)
    points, truth, places = (
        torch.from_numpy(rng.uniform(0, 48, (n, 2))) for n in (count, count, 40)
    )
    return Links(points, truth, places, scale)


def test_the_rows_of_a_pair_are_what_scikit_learn_finds() -> None:
    first, second, links = _view(1), _view(2), _links(scale=2.0)
    assert links.candidates is not None
    rows = co.match_pair(first, second, links, (48, 48), (5.0, 20.0))
    assert rows.shape == (30, len(co.COLUMNS) + 2)
    ours, theirs = (
        co.sample_features(view, places, (48, 48))
        for view, places in ((first, links.points), (second, links.candidates))
    )
    distance, index = NearestNeighbors(n_neighbors=2, metric="cosine").fit(theirs).kneighbors(ours)
    ratio = 1 - distance[:, 0] / distance[:, 1]
    order = np.argsort(-ratio)
    # Ours are of features on a grid, whose cosines are exact.
    np.testing.assert_allclose(rows[:, 6], ratio[order], atol=1e-6)
    np.testing.assert_allclose(rows[:, :2], links.points.numpy()[order])
    np.testing.assert_allclose(rows[:, 2:4], links.candidates.numpy()[index[order, 0]])
    np.testing.assert_allclose(rows[:, 4:6], links.truth.numpy()[order])
    assert set(rows[:, 7]) == {2.0}
    # Chance, by counting; and errors, by Pythagoras: both over the scale.
    for row in rows:
        away = [
            float(((x - row[4]) ** 2 + (y - row[5]) ** 2) ** 0.5) / 2 for x, y in links.candidates
        ]
        assert row[9] == pytest.approx(sum(a < 5 for a in away) / 40)
        assert row[10] == pytest.approx(sum(a < 20 for a in away) / 40)
    assert np.isinf(rows[:, 8]).all()
    wanted = np.hypot(rows[:, 2] - rows[:, 4], rows[:, 3] - rows[:, 5]) / 2
    np.testing.assert_allclose(co.errors_of(rows), wanted)
    assert len(co.match_pair(first, second, links, (48, 48), (5.0,), keep=7)) == 7
    with pytest.raises(ClipRobustError, match="scale of 0"):
        co.match_pair(first, second, _links(scale=0.0), (48, 48), (5.0,))


def test_distances_in_space_are_told_in_centimetres() -> None:
    first, second, flat = _view(1), _view(2), _links()
    rng = np.random.default_rng(7)
    points, places = rng.uniform(0, 0.3, (30, 3)), rng.uniform(0, 0.3, (40, 3))
    links = replace(flat, truth_3d=torch.from_numpy(points), candidates_3d=torch.from_numpy(places))
    rows = co.match_pair(first, second, links, (48, 48), (5.0,), (2.0, 10.0))
    plain = co.match_pair(first, second, flat, (48, 48), (5.0,))
    np.testing.assert_array_equal(rows[:, [0, 1, 2, 3, 4, 5, 6, 7, 9]], plain[:, [*range(8), 9]])
    apart = 100 * cdist(points, places)
    for row in rows:
        point = flat.points.numpy().tolist().index(row[:2].tolist())
        found = flat.candidates.numpy().tolist().index(row[2:4].tolist())  # type: ignore[union-attr]
        assert row[8] == pytest.approx(apart[point, found])
        assert row[10] == pytest.approx((apart[point] < 2).mean())
        assert row[11] == pytest.approx((apart[point] < 10).mean())
    np.testing.assert_array_equal(co.errors_in_space_of(rows), rows[:, 8])
    for broken in (
        flat,
        replace(links, candidates_3d=None),
        replace(links, truth_3d=torch.from_numpy(points[:-1])),
        replace(links, candidates_3d=torch.from_numpy(places * np.nan)),
    ):
        with pytest.raises(ClipRobustError, match="centimetres need finite places in space"):
            co.match_pair(first, second, broken, (48, 48), (5.0,), (2.0,))


class Matched(SampleArrays):
    """Pairs whose matches are given."""

    limits: tuple[float, ...] = (5.0, 10.0)
    limits_cm: tuple[float, ...] = ()
    angle_edges: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0)
    rows: list[Floats]

    def matches(self, layer: Layer = LAST) -> list[Floats]:
        return self.rows


def _matched(errors: list[list[float]], angles: list[float] | None, **groups: list[str]) -> Matched:
    count = len(errors)
    columns = {name: tuple(values) for name, values in groups.items()}
    if angles is not None:
        columns["angle"] = tuple(map(str, angles))
    zeros = np.zeros((count, 2))
    ids = tuple(f"pair{i}" for i in range(count))
    made = Matched(Condition("mine"), ids, np.zeros(count, dtype=np.int64), zeros, groups=columns)
    made.__dict__["rows"] = [
        np.array([[0, 0, e, 0, 0, 0, 0.5, 1.0, 3 * e, 0.25, 0.5] for e in own], dtype=np.float64)
        for own in errors
    ]
    return made


def test_recall_of_pairs_over_all_and_by_viewpoint() -> None:
    pairs = _matched([[1], [7, 7, 1], [7, 12, 1], [1]], [5.0, 0.0, 15.0, 19.0])
    figures = {(_dataset(f), f.metric): f for f in co.recall_of(pairs)}
    five, ten = (co.recall_metric(limit) for limit in (5, 10))
    assert figures["mine", five].value == 4 / 8
    assert figures["mine", ten].value == 7 / 8
    assert figures["mine:0-10deg", five].value == 2 / 4
    assert figures["mine:10-20deg", five].value == 2 / 4
    assert figures["mine:10-20deg", ten].value == 3 / 4
    assert {d for d, _ in figures} == {"mine", "mine:0-10deg", "mine:10-20deg"}  # no pair beyond
    assert [figures[d, five].n for d in ("mine", "mine:0-10deg", "mine:10-20deg")] == [4, 2, 2]
    assert (figures["mine", five].details["chance"], figures["mine", ten].details["chance"]) == (
        0.25,
        0.5,
    )
    bins = figures["mine", five].details["by_angle"]
    assert [b["n"] for b in bins] == [2, 2, 0]
    assert {f.metric for f in figures.values()} <= set(METRICS)
    part = figures["mine:10-20deg", five].outcomes
    assert part is not None
    assert part.keys is not None
    assert part.keys.ids == ("pair2", "pair3")
    # Another layer is another condition; without angles there are no bins.
    assert {_dataset(f) for f in co.recall_of(pairs, -2)} == {
        "mine:block-2",
        "mine:block-2:0-10deg",
        "mine:block-2:10-20deg",
    }
    plain = co.recall_of(_matched([[1.0], [7.0]], None), "values")
    assert [_dataset(f) for f in plain] == ["mine:values"] * 2


def test_a_viewpoint_with_one_drawing_alone_is_left_out() -> None:
    """Of one pair, or of two of one drawing, nothing is known of how others would differ."""
    pairs = _matched([[1.0], [7.0], [1.0], [7.0], [1.0]], [5.0, 15.0, 16.0, 25.0, 26.0])
    pairs.__dict__["units"] = ("a", "b", "b", "c", "d")
    parts = list(co.parts_of(pairs))
    assert [part.rows.tolist() for part in parts] == [[0, 1, 2, 3, 4], [3, 4]]
    assert [{_dataset(f) for f in part.figures} for part in parts] == [{"mine"}, {"mine:20-30deg"}]
    flat = [figure for part in parts for figure in part.figures]
    assert [f.as_dict() for f in co.recall_of(pairs)] == [f.as_dict() for f in flat]


def test_recall_in_space_stands_beside_that_in_the_picture() -> None:
    pairs = _matched([[1], [7], [7, 12, 1], [1]], [5.0, 5.0, 15.0, 19.0])
    pairs.__dict__["limits_cm"] = (20.0, 5.0)
    pairs.__dict__["rows"] = [
        np.hstack([rows, np.full((len(rows), 2), (0.125, 0.0))]) for rows in pairs.rows
    ]
    figures = {(_dataset(f), f.metric): f for f in co.recall_of(pairs)}
    assert len(figures) == 3 * 4
    far, near = (f"correspondence_recall_at_{limit}cm" for limit in (20, 5))
    # The distances in space are three times those in the picture: 3 and 21, 21, 36 and 3, 3.
    assert figures["mine", far].value == figures["mine", near].value == 3 / 6
    assert figures["mine:10-20deg", near].value == 2 / 4
    assert figures["mine", co.recall_metric(10)].value == 5 / 6
    assert figures["mine", far].details["centimetres"] == 20.0
    assert figures["mine", far].details["chance"] == 0.125
    assert figures["mine", near].details["chance"] == 0.0
    assert [b["recall"] for b in figures["mine", near].details["by_angle"]] == [0.5, 2 / 3, None]
    assert {f.metric for f in figures.values()} <= set(METRICS)
    with pytest.raises(ClipRobustError, match="no pair of views"):
        co.recall_in_space_figures([])


def test_pck_of_pairs_by_class() -> None:
    pairs = _matched([[0.05, 0.2], [0.05], [0.3], [0.01]], None, **{"class": ["b", "b", "a", "a"]})
    pairs.__dict__["limits"] = (0.1,)
    (figure,) = co.pck_of(pairs)
    assert figure.metric == "pck_at_0.1"
    assert figure.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert [(c["name"], c["n"]) for c in figure.details["per_class"]] == [("a", 2), ("b", 2)]
    assert _dataset(figure) == "mine"


def _dataset(figure: Figure) -> str:
    assert figure.condition is not None
    return figure.condition.dataset
