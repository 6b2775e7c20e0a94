"""Zero-shot retrieval between images and captions: recall at 1, 5, 10 and the median rank.

The Flickr30k and COCO protocol (Karpathy & Fei-Fei 2015): every image has several captions (five).
Image→text: the query is an image and *any* of its captions is a hit, so the rank is that of its best
caption. Text→image: each caption is a query with one right image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints, as_labels, unit_rows
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    bootstrap_figure,
    ratio,
    resampled_counts,
    resampled_sums,
)
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.metrics import register_metric

#: The cut-offs k of R@k.
RECALL_AT = (1, 5, 10)
_RANKS = {str(k): str(k) for k in RECALL_AT}

_CHUNK = 8_000_000


def retrieval_ranks(
    image_features: ArrayLike, text_features: ArrayLike, image_of_text: ArrayLike
) -> tuple[Ints, Ints]:
    """Return ranks, 1 = best: of each image's best caption (N,), and of each caption's image (M,).

    Ties count against the model (a wrong candidate with the same similarity is ranked first), so
    that a collapsed model, to which everything is equally similar, is at the bottom and not on top.

    Args:
        image_features: (N, D), any length.
        text_features: (M, D), any length.
        image_of_text: (M,) index of each caption's image; every image needs one at least.

    Raises:
        ClipRobustError: features of different widths, broken features, or an image without caption.
    """
    images = unit_rows(image_features, dataset="images")
    texts = unit_rows(text_features, dataset="captions")
    if images.shape[1] != texts.shape[1]:
        raise ClipRobustError(
            f"retrieval: image features have {images.shape[1]} dimensions, captions "
            f"{texts.shape[1]}; both must come from the same model."
        )
    owner = as_labels(image_of_text, len(texts), len(images), "image of each caption")
    lonely = np.flatnonzero(np.bincount(owner, minlength=len(images)) == 0)
    if len(lonely):
        raise ClipRobustError(
            f"retrieval: image {lonely[0]} (and {len(lonely) - 1} others) has no caption."
        )
    # Products of these unit vectors do not round (see pytest_cliprobust.engine.head), so a pair's similarity
    # is the same number wherever it is computed.
    own = np.einsum("md,md->m", texts, images[owner])
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, owner, own)
    image_rank = np.empty(len(images), dtype=np.int64)
    text_rank = np.ones(len(texts), dtype=np.int64)
    step = max(1, _CHUNK // len(texts))
    for first in range(0, len(images), step):
        rows = np.arange(first, min(first + step, len(images)))
        similarity = images[rows] @ texts.T
        other = owner[None, :] != rows[:, None]
        image_rank[rows] = 1 + ((similarity >= best[rows][:, None]) & other).sum(axis=1)
        text_rank += ((similarity >= own) & other).sum(axis=0)
    return image_rank, text_rank


@register_metric(
    "image_to_text_recall_at_{}",
    higher_is_better=True,
    meaning="share of queries with a hit in the best {}, image to text",
    each=_RANKS,
)
@register_metric(
    "image_to_text_median_rank",
    higher_is_better=False,
    meaning="median rank of the best hit, image to text",
    low=1.0,
    high=None,
)
@register_metric(
    "text_to_image_recall_at_{}",
    higher_is_better=True,
    meaning="share of queries with a hit in the best {}, text to image",
    each=_RANKS,
)
@register_metric(
    "text_to_image_median_rank",
    higher_is_better=False,
    meaning="median rank of the best hit, text to image",
    low=1.0,
    high=None,
)
def retrieval_figures(
    image_features: ArrayLike,
    text_features: ArrayLike,
    image_of_text: ArrayLike,
    *,
    at: Sequence[int] = RECALL_AT,
    bootstrap: Bootstrap = DEFAULT,
) -> dict[str, Figure]:
    """Return ``image_to_text_recall_at_<k>``, ``image_to_text_median_rank`` and the reverse.

    Images are resampled, each with all its captions. n is the number of queries. Chance level is in
    the details.

    Args:
        image_features, text_features, image_of_text: see :func:`retrieval_ranks`.
        at: cut-offs k.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: as for :func:`retrieval_ranks`.
    """
    image_rank, text_rank = retrieval_ranks(image_features, text_features, image_of_text)
    owner = np.asarray(image_of_text, dtype=np.int64)
    images, texts = len(image_rank), len(text_rank)
    captions = np.bincount(owner, minlength=images).astype(np.float64)
    figures = []
    for k in at:
        hits_image = (image_rank <= k).astype(np.float64)
        hits_text = (text_rank <= k).astype(np.float64)
        by_image = np.bincount(owner, weights=hits_text, minlength=images)
        sums = resampled_sums(np.stack([hits_image, by_image, captions], axis=1), bootstrap)
        chance_image = 1.0 - np.mean([_all_miss(texts, int(c), k) for c in captions])
        figures += [
            bootstrap_figure(
                f"image_to_text_recall_at_{k}",
                float(hits_image.mean()),
                sums[:, 0] / images,
                images,
                bootstrap,
                bounds=(0.0, 1.0),
                trials=images,
                details={"chance": float(chance_image)},
            ),
            bootstrap_figure(
                f"text_to_image_recall_at_{k}",
                float(hits_text.mean()),
                ratio(sums[:, 1], sums[:, 2]),
                texts,
                bootstrap,
                samples=images,
                bounds=(0.0, 1.0),
                trials=images,
                details={"chance": min(1.0, k / images)},
            ),
        ]
    alone = np.arange(images, dtype=np.int64)
    figures += [
        _median_figure("image_to_text_median_rank", image_rank, alone, images, bootstrap),
        _median_figure("text_to_image_median_rank", text_rank, owner, images, bootstrap),
    ]
    return {figure.metric: figure for figure in figures}


def _all_miss(candidates: int, right: int, k: int) -> float:
    """Return the chance that ``k`` random candidates hold none of the ``right`` ones."""
    drawn = np.arange(min(k, candidates))
    left = np.maximum(candidates - right - drawn, 0)
    return float(np.prod(left / (candidates - drawn)))


def _median_figure(
    metric: str, ranks: Ints, owner: Ints, images: int, bootstrap: Bootstrap
) -> Figure:
    order = np.argsort(ranks, kind="stable")
    ordered: Floats = ranks[order].astype(np.float64)
    who = owner[order]
    drawn = []
    for counts in resampled_counts(images, bootstrap):
        total = np.cumsum(counts[:, who], axis=1)
        # The median of the multiset: the mean of its two middle elements (one and the same if odd).
        half = total[:, -1:] / 2.0
        lower = (total >= half).argmax(axis=1)
        upper = (total > half).argmax(axis=1)
        drawn.append((ordered[lower] + ordered[upper]) / 2.0)
    return bootstrap_figure(
        metric,
        float(np.median(ranks)),
        np.concatenate(drawn),
        len(ranks),
        bootstrap,
        samples=images,
    )
