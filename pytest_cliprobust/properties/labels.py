"""Texts that stand at the wrong class: two classes whose images each prefer the other's text.

A swap of two class names among many moves the accuracy by less than its interval, so it needs a figure of
its own. The remedy is in the class names or the prompts, not in the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from pytest_cliprobust.errors import ClipRobustError, NotRun, first_of
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Samples
from pytest_cliprobust.figures.taken import takes_samples

#: Level of the test of each pair; a pair must also have both class means on the wrong side.
LEVEL = 0.001

#: Of a figure that is to be relied on the test would see a swap of so large a part of the pairs.
LEAST_SEEN = 0.5

#: Mean over standard deviation of a swapped pair's margins, for the number of images that a message names.
#: With the bundled model and the embedded benchmark the test sees 0, 43, 86 and 95% of the pairs at 1, 2, 3
#: and 4 images a class (the quick profile has 4), and 99% at 8 (the standard profile).
_USUAL_EFFECT = 2.0


@takes_samples
def swapped_labels(samples: Samples, *, level: float = LEVEL) -> Figure:
    """Return ``swapped_labels``, how many pairs of classes look as if their texts were swapped.

    See :func:`swapped_labels_figure`.

    Raises:
        NotRun: on so few images a class the test would not see a swap.
        ClipRobustError: a label is outside the classes.
    """
    figure = swapped_labels_figure(samples.logits, samples.labels, samples.class_names, level=level)
    if math.isnan(figure.low):
        raise NotRun(f"swapped labels on {samples.condition}: {figure.method}")
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

    Whether the test could see a swap at all is measured as well: if the texts of a pair were swapped, its
    margins would change their sign. Where fewer than :data:`LEAST_SEEN` of the pairs would reach the level
    then (few images a class), finding none says nothing: the interval is NaN, and no bound can be kept.

    Args:
        scores: (N, C) logits or cosines; any common scale.
        labels: (N,) class indices.
        class_names: names by index, which the figure's ``method`` names, so that a failure says them.
        level: of the test.

    Returns:
        the count; the uncertainty is in the test, so both ends of the interval are the count itself.
        ``details["seen"]`` is the share of pairs whose swap the test would see.

    Raises:
        ClipRobustError: shapes do not match, a label is no index of a class, a score is not finite, or the
            level lies outside (0, 1).
    """
    matrix = np.asarray(scores, dtype=np.float64)
    classes: Ints = np.asarray(labels).astype(np.int64)
    if not 0.0 < level < 1.0:
        raise ClipRobustError(f"the level of a test lies between 0 and 1, not {level!r}")
    if matrix.ndim != 2 or len(matrix) != len(classes) or matrix.shape[1] != len(class_names):
        raise ClipRobustError(
            f"scores {matrix.shape} do not fit {len(classes)} labels and {len(class_names)} classes"
        )
    if len(classes) and not 0 <= classes.min() <= classes.max() < matrix.shape[1]:
        raise ClipRobustError("a label lies outside the classes; leave OOD samples out")
    if len(classes) and not np.array_equal(classes, np.asarray(labels)):
        raise ClipRobustError("labels are whole numbers, the indices of the classes")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise ClipRobustError(f"scores of sample {row} are not finite; check the model's features")
    count, total, squares = _margins(matrix, classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count[:, None]
        n = count[:, None] + count[None, :]
        both = total + total.T
        average = both / n
        variance = np.maximum(squares + squares.T - both * average, 0.0) / (n - 1)
        statistic = average / np.sqrt(variance / n)
        wrong = (mean < 0) & (mean.T < 0) & (n > 2) & (stdtr(n - 1.0, statistic) < level)
        seen = (mean > 0) & (mean.T > 0) & (n > 2) & (stdtr(n - 1.0, -statistic) < level)
    pairs = np.argwhere(np.triu(wrong, 1))
    named = [f"{class_names[a]!r} and {class_names[b]!r}" for a, b in pairs]
    power = _share_of_pairs(seen | wrong, count > 0)
    blind = not named and power < LEAST_SEEN
    method = f"t test of each pair at {level:g}"
    if blind:
        method = f"cannot see a swap: the {method} would see {power:.0%} of them"
        needed = _images_needed(level)
        if len(classes) < needed * np.count_nonzero(count):
            method += f", with fewer than {needed} images a class"
    if named:
        method += f"; images prefer each other's text: {first_of(named, 5)}"
    value = float(len(pairs))
    return Figure(
        "swapped_labels",
        value,
        math.nan if blind else value,
        math.nan if blind else value,
        len(classes),
        method=method,
        details={"pairs": [[int(a), int(b)] for a, b in pairs], "level": level, "seen": power},
    )


def _share_of_pairs(chosen: Bools, present: Bools) -> float:
    """Return the share of pairs of classes with images that are chosen; 0 if there is no pair."""
    count = int(present.sum())
    pairs = count * (count - 1) / 2
    return float(np.triu(chosen, 1).sum() / pairs) if pairs else 0.0


def _images_needed(level: float) -> int:
    """Return the fewest images a class with which the test sees a usual effect."""
    each = 2
    while stdtr(2.0 * each - 1.0, -_USUAL_EFFECT * math.sqrt(2.0 * each)) >= level:
        each += 1
    return each


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
