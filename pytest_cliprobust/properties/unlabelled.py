"""Without labels: what a change does to answers and features, told on pictures as they come in production.

Nobody has to know what the pictures show. A flip is another top-1 answer among the label set's classes,
right or wrong; drift is how far the feature moves; neighbour overlap says whether a search over these
pictures still finds the same ones (k nearest, the picture itself left out); confidence shift whether the
model has become surer.

Against a baseline model the same is asked of two models on the same pictures: how often they disagree, what a
search finds in both, and which is surer. Their features lie in different spaces, so there is no drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import (
    Floats,
    Ints,
    as_matrix,
    same_samples,
    softmax,
    unit_rows,
)
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, mean_figure, proportion_figure
from pytest_cliprobust.figures.condition import against
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import METRICS, register_metric
from pytest_cliprobust.figures.samples import Embedded, shared
from pytest_cliprobust.figures.taken import takes_samples

#: Neighbours that are looked at.
NEIGHBOURS = 10

#: Similarities that are computed at a time.
_PAIRS = 8_000_000

#: What names of figures start with, and what they compare.
_COMPARED: Mapping[str, str] = MappingProxyType(
    {"": "a perturbation", "baseline_": "the change from a baseline model"}
)


@takes_samples
def perturbed_of(clean: Embedded, changed: Embedded, *, k: int = NEIGHBOURS) -> list[Figure]:
    """Return ``flip_rate``, ``embedding_drift``, ``neighbour_overlap`` and ``confidence_shift``.

    On the samples that both have; labels are not looked at. They are figures of ``changed``'s condition.

    Args:
        clean: the pictures as they are.
        changed: the same under a perturbation.
        k: neighbours.

    Raises:
        NotRun: no more than ``k`` pictures.
        ClipRobustError: no sample is in both.
    """
    figures, before, after, bootstrap = _compared(clean, changed, k, "")
    drift = drift_figure(*_features(clean, changed, before, after), bootstrap=bootstrap)
    condition = against(changed.condition, clean.condition)
    return [figure.measured_on(condition) for figure in (*figures, drift)]


@takes_samples
def between_models(baseline: Embedded, samples: Embedded, *, k: int = NEIGHBOURS) -> list[Figure]:
    """Return ``baseline_flip_rate``, ``baseline_neighbour_overlap`` and ``baseline_confidence_shift``.

    Args:
        baseline: pictures as the baseline model sees them.
        samples: the same pictures as the model under test does.
        k: neighbours.

    Raises:
        NotRun: no more than ``k`` pictures.
        ClipRobustError: no sample is in both.
    """
    figures, *_ = _compared(baseline, samples, k, "baseline_")
    return [figure.measured_on(samples.condition) for figure in figures]


def _compared(
    first: Embedded, second: Embedded, k: int, prefix: str
) -> tuple[list[Figure], Ints, Ints, Bootstrap]:
    """Return the figures that two models have as well, the rows that both sides share, and who they are."""
    common = shared(first, second)
    before, after = common.rows
    settings = common.bootstrap
    found = answer_figures(
        softmax(first.logits[before]),
        softmax(second.logits[after]),
        prefix=prefix,
        bootstrap=settings,
    )
    overlap = overlap_figure(
        *_features(first, second, before, after), k=k, prefix=prefix, bootstrap=settings
    )
    return [*found.values(), overlap], before, after, settings


def _features(
    first: Embedded, second: Embedded, before: Ints, after: Ints
) -> tuple[Floats, Floats]:
    return (
        np.asarray(first.features, dtype=np.float64)[before],
        np.asarray(second.features, dtype=np.float64)[after],
    )


@register_metric(
    "{}flip_rate",
    higher_is_better=False,
    meaning="share of pictures whose top-1 answer is another after {}",
    each=_COMPARED,
)
@register_metric(
    "{}confidence_shift",
    higher_is_better=None,
    meaning="mean top-1 confidence after {} less that before",
    low=-1.0,
    each=_COMPARED,
)
def answer_figures(
    before: ArrayLike, after: ArrayLike, *, prefix: str = "", bootstrap: Bootstrap = DEFAULT
) -> dict[str, Figure]:
    """Return ``flip_rate`` (Wilson's interval) and ``confidence_shift`` in [-1, 1], negative = less sure.

    Args:
        before, after: (N, C) probabilities of the same samples in the same order.
        prefix: of the metrics' names: ``"baseline_"`` between two models.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: different numbers of samples or classes, no samples, or probabilities that are not
            finite.
    """
    first, second = as_matrix(before, "answers before"), as_matrix(after, "answers after")
    same_samples("flip_rate", first, second)
    if first.shape[1] != second.shape[1]:
        raise ClipRobustError(
            f"flip_rate: answers are among {first.shape[1]} classes before and {second.shape[1]} after; both "
            "must be among the same."
        )
    flipped = first.argmax(axis=1) != second.argmax(axis=1)
    sure = [side.max(axis=1) for side in (first, second)]
    name = f"{prefix}confidence_shift"
    figures = [
        proportion_figure(f"{prefix}flip_rate", flipped, bootstrap),
        mean_figure(
            name,
            sure[1] - sure[0],
            bootstrap,
            # A sample that loses, and one that gains, all but chance.
            supposed=(-0.5, 0.5),
            bounds=METRICS.named(name).bounds,
            details={"before": float(sure[0].mean()), "after": float(sure[1].mean())},
        ),
    ]
    return {figure.metric: figure for figure in figures}


@register_metric(
    "embedding_drift",
    higher_is_better=False,
    meaning="mean cosine distance between a picture's feature before and after a perturbation",
    high=2.0,
)
def drift_figure(before: ArrayLike, after: ArrayLike, *, bootstrap: Bootstrap = DEFAULT) -> Figure:
    """Return ``embedding_drift``, the mean of 1 - cosine, in [0, 2].

    Args:
        before, after: (N, D) features of the same samples in the same order; normalised here.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: different numbers of samples, or features that cannot be normalised.
    """
    first, second = unit_rows(before), unit_rows(after)
    same_samples("embedding_drift", first, second)
    # Half the squared distance, which does not fall below 0 by rounding.
    distance = 0.5 * ((first - second) ** 2).sum(axis=1)
    return mean_figure(
        "embedding_drift",
        distance,
        bootstrap,
        # One that stays, and one that drifts as far as any.
        supposed=(0.0, float(distance.max())),
        bounds=(0.0, 2.0),
        details={"median": float(np.median(distance)), "largest": float(distance.max())},
    )


@register_metric(
    "{}neighbour_overlap",
    higher_is_better=True,
    meaning="share of a picture's ten nearest among these pictures that stay so after {}",
    each=_COMPARED,
    gateable=False,
    why_not_gateable="pictures are each other's neighbours, and its interval, which takes them for "
    "independent, holds the truth in seven to eight of ten draws; bound flip_rate or embedding_drift",
)
def overlap_figure(
    before: ArrayLike,
    after: ArrayLike,
    *,
    k: int = NEIGHBOURS,
    prefix: str = "",
    bootstrap: Bootstrap = DEFAULT,
) -> Figure:
    """Return ``neighbour_overlap``: the mean share of the k nearest pictures that are the same, in [0, 1].

    By cosine, the picture itself left out; of equally near ones the first. Both sides are searched among
    all N pictures of their own, so that the figure depends on N: guessing has k / (N - 1), which the
    details hold.

    Args:
        before, after: (N, D) and (N, E) features of the same samples in the same order.
        k: neighbours.
        prefix: of the metric's name.
        bootstrap: interval settings.

    Raises:
        NotRun: no more than ``k`` pictures.
        ClipRobustError: different numbers of samples, or features that cannot be normalised.
    """
    first, second = unit_rows(before), unit_rows(after)
    count = same_samples("neighbour_overlap", first, second)
    if count <= k:
        raise NotRun(f"the overlap of {k} neighbours needs more than {count} pictures")
    kept = np.empty(count)
    step = max(1, _PAIRS // count)
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        near, then = (_nearest(side, rows, k) for side in (first, second))
        kept[rows] = (near[:, :, None] == then[:, None, :]).any(axis=2).mean(axis=1)
    return mean_figure(
        f"{prefix}neighbour_overlap",
        kept,
        bootstrap,
        supposed=(1.0, 0.0),
        coarse=True,
        bounds=(0.0, 1.0),
        details={"k": k, "guessing": k / (count - 1.0)},
    )


def _nearest(features: Floats, rows: Ints, k: int) -> Ints:
    """Return the k nearest (len(rows), k) of all others, for the samples at ``rows``."""
    cosines = features[rows] @ features.T
    cosines[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k].astype(np.int64)
