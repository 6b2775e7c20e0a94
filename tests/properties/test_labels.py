"""Swapped texts: each pair's test against scipy's t test of the margins."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.verdict import judge
from pytest_cliprobust.properties import labels

BOUND = 'schema = 1\n[[threshold]]\nmetric = "swapped_labels"\nmax = 0\n'
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
    assert found.details == {"pairs": [[0, 1]], "level": 1.001 * p, "seen": 1 / 3}
    assert "'cat' and 'dog'" in found.method
    missed = labels.swapped_labels_figure(scores, truth, NAMES, level=0.999 * p)
    assert (missed.value, missed.details["pairs"]) == (0.0, [])
    assert f"t test of each pair at {0.999 * p:g}" in missed.method
    assert labels.LEVEL == 0.001
    # A class of which there is no image makes no pair that could be seen.
    absent = np.column_stack([scores, np.full(19, -9.0)])
    wider = labels.swapped_labels_figure(absent, truth, [*NAMES, "elk"], level=1.001 * p)
    assert wider.details == found.details


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
    # So a swap of right answers would be seen of three, and not of two.
    for n, seen in ((2, 0.0), (3, 1.0), (4, 1.0)):
        right = labels.swapped_labels_figure(scores[:n, ::-1], truth[:n], NAMES[:2])
        assert (right.value, right.details["seen"]) == (0.0, seen)
        assert math.isnan(right.low) == (seen == 0.0)


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
        (np.zeros((2, 3)), [0.0, 1.5], "whole numbers"),
        (np.array([[0, 1, 2], [0, np.nan, 1]]), [0, 1], "sample 1 are not finite"),
        (np.array([[0, np.inf, 2], [0, 0, 1]]), [0, 1], "sample 0 are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(scores: np.ndarray, truth: list[int], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        labels.swapped_labels_figure(scores, truth, NAMES)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ClipRobustError, match="level of a test lies between 0 and 1"):
        labels.swapped_labels_figure(np.zeros((2, 3)), [0, 1], NAMES, level=level)


@pytest.mark.parametrize(("each", "blind"), [(1, True), (2, True), (4, False), (8, False)])
def test_too_few_images_to_see_a_swap_are_not_green(each: int, blind: bool) -> None:
    truth = np.tile(np.arange(20), each)
    rng = np.random.default_rng(0)
    scores = 2.0 * np.eye(20)[truth] + 0.6 * rng.normal(size=(len(truth), 20))
    figure = labels.swapped_labels_figure(scores, truth, [f"c{i}" for i in range(20)])
    assert figure.value == 0.0
    # What it says of its power is what it has: each pair's texts swapped, and looked for.
    found = 0
    for a in range(20):
        for b in range(a):
            order = np.arange(20)
            order[[a, b]] = b, a
            pairs = labels.swapped_labels_figure(scores[:, order], truth, [""] * 20).details[
                "pairs"
            ]
            found += [b, a] in pairs
    assert figure.details["seen"] == pytest.approx(found / 190)
    assert (found / 190 < labels.LEAST_SEEN) == blind
    assert math.isnan(figure.low) == math.isnan(figure.high) == blind
    told = (
        f"cannot see a swap: the t test of each pair at 0.001 would see {found / 190:.0%} of them"
    )
    assert (f"{told}, with fewer than 4 images a class" == figure.method) == blind
    (bound,) = parse_thresholds(BOUND).rules
    measured = Measurement("s", "m", figure.measured_on(Condition("clean")))
    verdict = judge(measured, bound, Policy("warn"))
    assert verdict.outcome == ("fail" if blind else "pass")


def test_many_images_that_are_confused_hide_a_swap_too() -> None:
    truth = np.repeat(np.arange(4), 30)
    scores = np.random.default_rng(0).normal(size=(120, 4))
    figure = labels.swapped_labels_figure(scores, truth, list("abcd"))
    assert (figure.value, math.isnan(figure.low)) == (0.0, True)
    assert figure.method.endswith("would see 0% of them")


def test_the_outermost_classes_are_classes() -> None:
    assert labels.swapped_labels_figure(np.zeros((2, 3)), [0, 2], NAMES).value == 0.0


def test_on_too_few_images_nothing_is_said() -> None:
    scores, truth = np.eye(3)[[0, 1, 2]], np.arange(3)
    samples = SampleArrays(
        Condition("clean"), tuple("abc"), truth, scores, class_names=tuple(NAMES)
    )
    with pytest.raises(NotRun, match="swapped labels on clean: cannot see a swap"):
        labels.swapped_labels(samples)
