"""Texts that stand at the wrong class: two classes whose images each prefer the other's text.

A swap of two class names among many moves the accuracy by less than its interval, so it needs a figure of
its own. The remedy is in the class names or the prompts, not in the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples

#: Level of the test of each pair; a pair must also have both class means on the wrong side.
LEVEL = 0.001


def swapped_labels(samples: Samples, *, level: float = LEVEL) -> Figure:
    """Return ``swapped_labels``, how many pairs of classes look as if their texts were swapped.

    See :func:`swapped_labels_figure`.

    Raises:
        ClipRobustError: a label is outside the classes.
    """
    figure = swapped_labels_figure(samples.logits, samples.labels, samples.class_names, level=level)
    return figure.measured_on(samples.condition)


@register_metric(
    "swapped_labels",
    higher_is_better=False,
    meaning="pairs of classes whose images prefer each other's text",
    high=None,
)
def swapped_labels_figure(
    scores: ArrayLike, labels: ArrayLike, class_names: Sequence[str], *, level: float = LEVEL
) -> Figure:
    """Return how many pairs of classes look as if their texts were swapped.

    For a pair (a, b), the margin of an image is the score of its own class minus that of the other
    class of the pair. The pair counts if the mean margin is negative over the images of a, over those
    of b, and over both together by a one-sided t test at ``level``.

    Args:
        scores: (N, C) logits or cosines; any common scale.
        labels: (N,) class indices.
        class_names: names by index, which the figure's ``method`` names, so that a failure says them.
        level: of the test.

    Returns:
        the count; the uncertainty is in the test, so both ends of the interval are the count itself.

    Raises:
        ClipRobustError: shapes do not match, or a label is outside the classes.
    """
    matrix = np.asarray(scores, dtype=np.float64)
    classes: Ints = np.asarray(labels, dtype=np.int64)
    if matrix.ndim != 2 or len(matrix) != len(classes) or matrix.shape[1] != len(class_names):
        raise ClipRobustError(
            f"scores {matrix.shape} do not fit {len(classes)} labels and {len(class_names)} classes"
        )
    if len(classes) and not 0 <= classes.min() <= classes.max() < matrix.shape[1]:
        raise ClipRobustError("a label lies outside the classes; leave OOD samples out")
    count, total, squares = _margins(matrix, classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count[:, None]
        n = count[:, None] + count[None, :]
        both = total + total.T
        average = both / n
        variance = np.maximum(squares + squares.T - both * average, 0.0) / (n - 1)
        statistic = average / np.sqrt(variance / n)
        p = stdtr(n - 1.0, statistic)
    wrong = (mean < 0) & (mean.T < 0) & (n > 2) & (p < level)
    pairs = np.argwhere(np.triu(wrong, 1))
    named = [f"{class_names[a]!r} and {class_names[b]!r}" for a, b in pairs]
    method = f"t test of each pair at {level:g}"
    if named:
        shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        method += f"; images prefer each other's text: {shown}"
    value = float(len(pairs))
    return Figure(
        "swapped_labels",
        value,
        value,
        value,
        len(classes),
        method=method,
        details={"pairs": [[int(a), int(b)] for a, b in pairs], "level": level},
    )


def _margins(matrix: Floats, labels: Ints) -> tuple[Floats, Floats, Floats]:
    """Return per class the number of images (C,), and sums of margins and of their squares (C, C)."""
    classes = matrix.shape[1]
    count = np.bincount(labels, minlength=classes).astype(np.float64)
    total = np.zeros((classes, classes))
    squares = np.zeros((classes, classes))
    for label in np.unique(labels):
        rows = matrix[labels == label]
        margins = rows[:, [label]] - rows
        total[label] = margins.sum(axis=0)
        squares[label] = np.square(margins).sum(axis=0)
    return count, total, squares
