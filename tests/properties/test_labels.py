"""Swapped texts: each pair's test against scipy's t test of the margins."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.properties import labels

NAMES = ["cat", "dog", "owl"]


def case(swapped: float = 0.6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of 8 cats, 6 dogs and 5 owls; cats and dogs prefer each other's text."""
    truth = np.repeat([0, 1, 2], [8, 6, 5])
    scores = np.random.default_rng(seed).normal(size=(19, 3))
    scores[np.arange(19), np.array([1, 0, 2])[truth]] += swapped
    return scores, truth


def margins(scores: np.ndarray, truth: np.ndarray, a: int, b: int) -> np.ndarray:
    of_a, of_b = scores[truth == a], scores[truth == b]
    return np.concatenate([of_a[:, a] - of_a[:, b], of_b[:, b] - of_b[:, a]])


def test_the_level_decides_as_a_t_test_does() -> None:
    scores, truth = case()
    both = margins(scores, truth, 0, 1)
    p = float(stats.ttest_1samp(both, 0.0, alternative="less").pvalue)
    assert 1e-6 < p < 0.5
    found = labels.swapped_labels_figure(scores, truth, NAMES, level=1.001 * p)
    assert (found.value, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 19)
    assert found.details == {"pairs": [[0, 1]], "level": 1.001 * p}
    assert "'cat' and 'dog'" in found.method
    missed = labels.swapped_labels_figure(scores, truth, NAMES, level=0.999 * p)
    assert (missed.value, missed.details["pairs"]) == (0.0, [])
    assert missed.method == f"t test of each pair at {0.999 * p:g}"
    assert labels.LEVEL == 0.001


def test_both_classes_must_prefer_the_others_text() -> None:
    scores, truth = case(8.0)
    assert labels.swapped_labels_figure(scores, truth, NAMES).value == 1.0
    # All are taken for cats: the dogs' margin is far below zero, the cats' above.
    scores[:, 0] = 9.0
    assert margins(scores, truth, 0, 1).mean() < 9.0
    assert labels.swapped_labels_figure(scores, truth, NAMES).value == 0.0
    # Nor do more cats who are right outvote the dogs, or the other way round.
    for right in (0, 1):
        again, _ = case(8.0)
        again[truth == right, right] = 30.0
        assert labels.swapped_labels_figure(again, truth, NAMES).value == 0.0
        # However small the margin by which one of them prefers its own.
        again[truth == right, right] = again[truth == right, 1 - right] + 1e-3
        assert labels.swapped_labels_figure(again, truth, NAMES, level=0.5).value == 0.0


def test_three_images_without_spread_are_enough_and_two_are_not() -> None:
    scores = np.tile([[0.1, 0.3], [0.3, 0.1]], (3, 1))
    truth = np.array([0, 1] * 3)
    # Equal margins, whose sum of squares may round to below that of their mean.
    for size in (0.1, 0.3, 0.7, 1.1, 2.3):
        for n in (3, 4, 5, 6):
            figure = labels.swapped_labels_figure(size * scores[:n], truth[:n], NAMES[:2])
            assert figure.value == 1.0, (size, n)
    assert labels.swapped_labels_figure(scores[:2], truth[:2], NAMES[:2]).value == 0.0


def test_equal_scores_and_absent_classes_are_no_swap() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, truth = case(8.0)
        absent = labels.swapped_labels_figure(scores[truth != 1], truth[truth != 1], NAMES)
        assert absent.value == 0.0
        assert labels.swapped_labels_figure(np.zeros((6, 2)), [0, 1] * 3, NAMES[:2]).value == 0.0
        empty = labels.swapped_labels_figure(np.zeros((0, 2)), [], NAMES[:2])
    assert (empty.value, empty.n) == (0.0, 0)


@pytest.mark.parametrize(("classes", "more"), [(10, ""), (12, " and 1 more"), (16, " and 3 more")])
def test_at_most_five_pairs_are_named(classes: int, more: str) -> None:
    truth = np.repeat(np.arange(classes), 5)
    scores = (
        np.eye(classes)[truth ^ 1]
        + np.random.default_rng(0).normal(size=(5 * classes, classes)) / 9
    )
    figure = labels.swapped_labels_figure(scores, truth, [f"c{i}" for i in range(classes)])
    assert figure.value == classes / 2
    assert figure.details["pairs"] == [[i, i + 1] for i in range(0, classes, 2)]
    assert figure.method.endswith(f"'c8' and 'c9'{more}")
    assert "'c10'" not in figure.method


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        (np.zeros(3), [0, 1, 2], r"\(3,\) do not fit"),
        (np.zeros((2, 3)), [0], "1 labels and 3 classes"),
        (np.zeros((2, 2)), [0, 1], "2 labels and 3 classes"),
        (np.zeros((2, 3)), [0, 3], "outside the classes"),
        (np.zeros((2, 3)), [-1, 2], "outside the classes"),
    ],
)
def test_what_does_not_fit_is_refused(scores: np.ndarray, truth: list[int], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        labels.swapped_labels_figure(scores, truth, NAMES)


def test_the_outermost_classes_are_classes() -> None:
    assert labels.swapped_labels_figure(np.zeros((2, 3)), [0, 2], NAMES).value == 0.0
