"""Checks of arrays, and softmax, sigmoid and unit rows against scipy, to the last bit where promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from scipy import special

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import arrays


def test_vectors_and_matrices_are_finite_float64() -> None:
    vector = arrays.as_vector([1, 2], "scores")
    assert vector.dtype == np.float64
    assert vector.tolist() == [1.0, 2.0]
    matrix = arrays.as_matrix(np.ones((2, 1), np.float32), "scores")
    assert matrix.dtype == np.float64
    assert matrix.shape == (2, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0]], r"scores must have shape \(N,\), got \(1, 1\)"),
        (1.0, r"shape \(N,\), got \(\)"),
        ([], "scores: no samples"),
        ([0.0, np.nan, np.inf], r"2 of 3 rows hold NaN or infinite values \(first: row 1\)"),
    ],
)
def test_broken_vectors_are_refused(values: ArrayLike, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        arrays.as_vector(values, "scores")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], r"scores must have shape \(N, C\), got \(1,\)"),
        (np.ones((1, 1, 1)), r"shape \(N, C\), got \(1, 1, 1\)"),
        (np.ones((0, 3)), "scores: no samples"),
        (np.ones((3, 0)), "scores: no samples"),
        # One bad number spoils its row, and no other.
        ([[0.0, 1.0], [-np.inf, 1.0]], r"1 of 2 rows hold NaN or infinite values \(first: row 1\)"),
    ],
)
def test_broken_matrices_are_refused(values: ArrayLike, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        arrays.as_matrix(values, "scores")


def test_labels_are_indices_of_the_label_set() -> None:
    labels = arrays.as_labels(np.array([0, 2], np.int8), 2, 3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 2]
    with pytest.raises(ClipRobustError, match=r"label 3 of sample 1 is outside .* 3 classes"):
        arrays.as_labels([0, 3], 2, 3)
    with pytest.raises(ClipRobustError, match="label -1 of sample 0"):
        arrays.as_labels([-1, 3], 2, 3)
    with pytest.raises(ClipRobustError, match=r"2 samples but labels of shape \(3,\)"):
        arrays.as_labels([0, 1, 2], 2, 3)
    with pytest.raises(ClipRobustError, match=r"integers.*float64"):
        arrays.as_labels([0.0, 1.0], 2, 3)


def test_answers_are_flat_booleans() -> None:
    assert arrays.as_correct([True, False], "answers").tolist() == [True, False]
    wrong: ArrayLike
    for wrong in ([1, 0], [[True]], np.zeros(0, bool)):
        with pytest.raises(ClipRobustError, match="answers"):
            arrays.as_correct(wrong, "answers")


def test_pairs_have_one_length_and_groups_are_sorted() -> None:
    assert arrays.same_samples("drop", np.ones(3), "abc") == 3
    with pytest.raises(ClipRobustError, match=r"drop: .* got 3 and 2 and 3 samples"):
        arrays.same_samples("drop", np.ones(3), "ab", np.ones(3))
    groups = arrays.distinct_groups(["b", "a", "b"], 3, "styles")
    assert {name: rows.tolist() for name, rows in groups.items()} == {"a": [1], "b": [0, 2]}
    assert list(groups) == ["a", "b"]
    with pytest.raises(ClipRobustError, match="styles: 4 samples but 3 group values"):
        arrays.distinct_groups(["b", "a", "b"], 4, "styles")


def test_softmax_and_sigmoid_do_not_overflow() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, -0.5, 2.0]])
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(
            arrays.softmax(logits), special.softmax(logits, axis=-1), atol=1e-15
        )
        np.testing.assert_allclose(
            arrays.log_softmax(logits), special.log_softmax(logits, axis=-1), rtol=1e-14, atol=1e-15
        )
        np.testing.assert_allclose(arrays.sigmoid(logits), special.expit(logits), atol=1e-15)
    assert arrays.sigmoid(np.array([-30.0]))[0] == pytest.approx(special.expit(-30.0), rel=1e-12)
    assert arrays.sigmoid(np.array([0.0]))[0] == 0.5
    near = np.linspace(-2.0, 2.0, 41)
    np.testing.assert_allclose(arrays.sigmoid(near), special.expit(near), rtol=1e-15)


def test_unit_rows_lie_on_a_grid_on_which_products_do_not_round() -> None:
    features = np.random.default_rng(0).normal(size=(20, 33))
    rows = arrays.unit_rows(features)
    exact = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_array_equal(rows * 2.0**26, np.rint(exact * 2.0**26))
    order = np.random.default_rng(1).permutation(33)
    products = (rows[0] * rows[1])[order].cumsum()[-1]
    assert products == (rows[0] * rows[1]).cumsum()[-1] == rows[0] @ rows[1]


def test_unit_rows_take_tensors_of_any_kind() -> None:
    tensor = torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_allclose(arrays.unit_rows(tensor), [[0.6, 0.8]], atol=2.0**-26)


def test_features_without_direction_are_named() -> None:
    features = np.array([[1.0, 0.0], [0.0, 0.0], [np.inf, 1.0]])
    with pytest.raises(
        ClipRobustError, match=r"'bank'.* 2 of 3 samples .*first: sample number 1\)"
    ):
        arrays.unit_rows(features, dataset="bank")
    with pytest.raises(ClipRobustError, match=r"first: sample b\)"):
        arrays.unit_rows(features, ids=["a", "b", "c"])
    for empty in (np.ones(3), np.ones((0, 3)), np.ones((3, 0)), np.ones((1, 1, 1))):
        with pytest.raises(ClipRobustError, match=r"features must be \(N, D\)"):
            arrays.unit_rows(empty)
