"""Array checks and functions that the zero-shot head and all properties share. Numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_cliprobust.errors import ClipRobustError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


def as_vector(values: ArrayLike, what: str) -> Floats:
    """Return ``values`` as finite float64 of shape (N,), N >= 1.

    Raises:
        ClipRobustError: empty, not one-dimensional, NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ClipRobustError(f"{what} must have shape (N,), got {array.shape}.")
    return _checked(array, what)


def as_matrix(values: ArrayLike, what: str) -> Floats:
    """Return ``values`` as finite float64 of shape (N, C), N >= 1 and C >= 1.

    Raises:
        ClipRobustError: empty, not two-dimensional, NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ClipRobustError(f"{what} must have shape (N, C), got {array.shape}.")
    return _checked(array, what)


def _checked(array: Floats, what: str) -> Floats:
    if array.size == 0:
        raise ClipRobustError(f"{what}: no samples, so there is nothing to measure.")
    finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise ClipRobustError(
            f"{what}: {len(rows)} of {len(array)} rows hold NaN or infinite values "
            f"(first: row {rows[0]}); check the model and the precision it runs in."
        )
    return array


def as_labels(labels: ArrayLike, count: int, classes: int, what: str = "labels") -> Ints:
    """Return class indices as int64 of shape (``count``,), each in [0, ``classes``).

    Raises:
        ClipRobustError: wrong length, or a label outside the label set (out-of-distribution samples
            carry -1 and have no accuracy or calibration).
    """
    array = np.asarray(labels)
    if array.shape != (count,):
        raise ClipRobustError(f"{what}: {count} samples but labels of shape {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise ClipRobustError(f"{what} must be class indices (integers), got {array.dtype}.")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if len(wrong):
        raise ClipRobustError(
            f"{what}: label {array[wrong[0]]} of sample {wrong[0]} is outside the label set of "
            f"{classes} classes; leave samples without a class (-1) out of this metric."
        )
    return array.astype(np.int64)


def as_correct(correct: ArrayLike, what: str) -> Bools:
    """Return right (True) and wrong (False) answers as bool of shape (N,), N >= 1."""
    array = np.asarray(correct)
    if array.ndim != 1 or array.dtype != np.bool_:
        raise ClipRobustError(
            f"{what} must be booleans of shape (N,), got {array.dtype} of shape {array.shape}."
        )
    if array.size == 0:
        raise ClipRobustError(f"{what}: no samples, so there is nothing to measure.")
    return array


def same_samples(what: str, *arrays: NDArray[np.generic] | Sequence[object]) -> int:
    """Return the common length of ``arrays``; raise ClipRobustError where they differ."""
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1:
        raise ClipRobustError(
            f"{what}: a paired comparison needs the same samples in the same order, "
            f"got {' and '.join(str(len(array)) for array in arrays)} samples."
        )
    return lengths.pop()


def distinct_groups(groups: Sequence[str], count: int, what: str) -> dict[str, Ints]:
    """Return sample indices by group value, in the sorted order of the values."""
    if len(groups) != count:
        raise ClipRobustError(f"{what}: {count} samples but {len(groups)} group values.")
    values = np.asarray(groups, dtype=object)
    return {
        value: np.flatnonzero(values == value).astype(np.int64) for value in sorted(set(groups))
    }


def softmax(logits: Floats) -> Floats:
    """Return softmax over the last axis, in float64 and without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), dtype=np.float64)


def log_softmax(logits: Floats) -> Floats:
    """Return log-softmax over the last axis, in float64 and without overflow."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.asarray(shifted - log_sum, dtype=np.float64)


def sigmoid(logits: Floats) -> Floats:
    """Return the logistic function, in float64 and without overflow."""
    magnitude = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, magnitude) / (1.0 + magnitude), dtype=np.float64)


# Unit vectors are rounded to multiples of 2**-26. A product of two such numbers is a multiple of
# 2**-52, and every partial sum of a dot product of unit vectors is below 2 (Cauchy-Schwarz), so
# it fits float64's 53 bits: no rounding happens in the product, whatever the order of summation.
_GRID = 2.0**26


def unit_rows(
    features: Any, *, dataset: str = "features", ids: Sequence[str] | None = None
) -> Floats:
    """Return features (N, D) as float64 unit vectors, rounded to multiples of 2**-26.

    The rounding moves a cosine by less than 1e-7, about what float32 features leave open anyhow,
    and makes every later dot product exact.

    Args:
        features: (N, D), an array or a tensor of any floating dtype, on any device.
        dataset: the name that an error message uses.
        ids: sample ids for the error message.

    Raises:
        ClipRobustError: a row is zero or holds NaN or infinity, or there are no rows.
    """
    if hasattr(features, "detach"):  # a torch tensor: this module does without torch
        features = features.detach().cpu().double().numpy()
    array = np.ascontiguousarray(features, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ClipRobustError(f"{dataset}: features must be (N, D), N >= 1, got {array.shape}.")
    norms = np.sqrt((array * array).sum(axis=1, keepdims=True))
    broken = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)).ravel())
    if len(broken):
        first = ids[broken[0]] if ids is not None else f"number {broken[0]}"
        raise ClipRobustError(
            f"data set {dataset!r}: the features of {len(broken)} of {len(array)} samples are zero "
            f"or not finite (first: sample {first}); check the image, or run the model in float32."
        )
    return on_grid(array / norms)


def on_grid(vectors: Floats) -> Floats:
    """Return vectors of length 1 or less, rounded to multiples of 2**-26: dot products of them are exact.

    They are then the same whatever the linear-algebra library and its number of threads.
    """
    return np.asarray(np.rint(vectors * _GRID) / _GRID, dtype=np.float64)
