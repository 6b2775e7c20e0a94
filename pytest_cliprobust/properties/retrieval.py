"""Zero-shot retrieval between images and captions: recall at 1, 5, 10 and the median rank.

The Flickr30k and COCO protocol (Karpathy & Fei-Fei 2015): every image has several captions (five).
Image→text: the query is an image and *any* of its captions is a hit, so the rank is that of its best
caption. Text→image: each caption is a query with one right image.

The search is exact, in chunks of bounded memory: for N images and M captions N·M similarities are computed,
of which :data:`CHUNK` at most are held at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Floats, Ints, as_labels, unit_rows
from pytest_cliprobust.figures.bootstrap import (
    DEFAULT,
    Bootstrap,
    figure_of_ends,
    proportion_figure,
)
from pytest_cliprobust.figures.clusters import degrees_of, design_effect_of_mean
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.intervals import student
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.means import codes_of
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.figures.samples import Captioned
from pytest_cliprobust.figures.taken import takes_samples

#: The cut-offs k of R@k.
RECALL_AT = (1, 5, 10)
_RANKS = {str(k): str(k) for k in RECALL_AT}

#: So many similarities (float64) are held at a time, with some masks of theirs: 64 MB.
CHUNK = 8_000_000


@takes_samples
def retrieval_of(samples: Captioned) -> list[Figure]:
    """Return the retrieval figures of samples with captions: see :func:`retrieval_figures`.

    A hit is a caption of the very image, or its very image: what else a caption may be true of counts as
    wrong, as in Flickr30k and COCO.

    Raises:
        NotRun: the data has no captions.
    """
    features, texts, owner = captions_of(samples)
    figures = retrieval_figures(features, texts, owner, bootstrap=samples.bootstrap)
    return [figure.measured_on(samples.condition) for figure in figures.values()]


@takes_samples
def captions_of(
    samples: Captioned, changed: Callable[[str, str], str] | None = None
) -> tuple[Any, Any, Ints]:
    """Return image features (N, D), caption features (M, D), and the image of each caption (M,).

    Args:
        samples: with captions.
        changed: from a caption and its id to the text that is encoded instead.

    Raises:
        NotRun: the data has no captions.
    """
    if not samples.captions:
        raise NotRun(f"{samples.condition} has no captions to retrieve")
    owner = np.repeat(np.arange(len(samples.captions)), [len(c) for c in samples.captions])
    texts = [text for captions in samples.captions for text in captions]
    if changed is not None:
        names = caption_keys(samples.bootstrap.keys, owner).ids
        texts = [changed(text, name) for text, name in zip(texts, names, strict=True)]
    return samples.features, samples.text_features(texts), owner.astype(np.int64)


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
    image_rank[:] = 1
    for rows, columns in _blocks(len(images), len(texts)):
        similarity = images[rows] @ texts[columns].T
        other = owner[columns][None, :] != np.arange(rows.start, rows.stop)[:, None]
        image_rank[rows] += ((similarity >= best[rows][:, None]) & other).sum(axis=1)
        text_rank[columns] += ((similarity >= own[columns]) & other).sum(axis=0)
    return image_rank, text_rank


def _blocks(images: int, texts: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks of at most :data:`CHUNK` pairs; any number of either is fine."""
    wide = min(texts, max(1, CHUNK))
    tall = max(1, CHUNK // wide)
    for top in range(0, images, tall):
        for left in range(0, texts, wide):
            yield (
                slice(top, min(top + tall, images)),
                slice(left, min(left + wide, texts)),
            )


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

    Images are the units, each with all its captions. n is the number of queries. Chance level is in
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
    captions = np.bincount(owner, minlength=images)
    by_caption = bootstrap.of(caption_keys(bootstrap.keys, owner))
    figures = []
    for k in at:
        chance = 1.0 - float(np.mean([_all_miss(texts, int(c), k) for c in captions]))
        figures += [
            proportion_figure(
                f"image_to_text_recall_at_{k}", image_rank <= k, bootstrap, {"chance": chance}
            ),
            proportion_figure(
                f"text_to_image_recall_at_{k}",
                text_rank <= k,
                by_caption,
                {"chance": min(1.0, k / images)},
            ),
        ]
    figures += [
        _median_figure("image_to_text_median_rank", image_rank, bootstrap),
        _median_figure("text_to_image_median_rank", text_rank, by_caption),
    ]
    if bootstrap.keys is None:
        # Captions of unknown images are resampled by image, but not known to another run.
        figures = [
            replace(figure, outcomes=None if figure.outcomes is None else figure.outcomes.of(None))
            for figure in figures
        ]
    return {figure.metric: figure for figure in figures}


def caption_keys(keys: SampleKeys | None, owner: Ints) -> SampleKeys:
    """Return the keys of captions: each comes from its image's unit."""
    seen: dict[int, int] = {}
    names, units, digests = [], [], []
    for image in owner.tolist():
        number = seen[image] = seen.get(image, -1) + 1
        names.append(f"{image if keys is None else keys.ids[image]}#{number}")
        units.append(str(image) if keys is None else keys.units[image])
        if keys is not None and keys.digests:
            digests.append(keys.digests[image])
    kind = "image" if keys is None or not keys.clustered else keys.kind
    return SampleKeys(tuple(names), tuple(units), tuple(digests), kind)


def _all_miss(candidates: int, right: int, k: int) -> float:
    """Return the chance that ``k`` random candidates hold none of the ``right`` ones."""
    drawn = np.arange(min(k, candidates))
    # No factor below 0 counts: one before it is 0.
    return float(np.prod((candidates - right - drawn) / (candidates - drawn)))


def _median_figure(metric: str, ranks: Ints, bootstrap: Bootstrap) -> Figure:
    """Return the median rank, with the order statistics' interval (David & Nagaraja 2003, 7.1).

    The share of ranks below the true median is a half, so it is the ranks at the ends of a half's
    interval between which it lies.
    """
    count, ordered = len(ranks), np.sort(ranks).astype(np.float64)
    value = float(np.median(ranks))
    above = (ranks > value).astype(np.float64)
    codes = codes_of(bootstrap.keys)
    effect = 1.0 if codes is None else design_effect_of_mean(above, codes)
    degrees = degrees_of(count, bootstrap.units(count))

    def at(tails: Floats) -> tuple[Floats, Floats]:
        half = student(tails, degrees) / 2.0 / np.sqrt(count / effect)
        # A rank at the very ends says nothing of what lies beyond it.
        low = np.floor((0.5 - half) * count).astype(np.int64) - 1
        high = np.ceil((0.5 + half) * count).astype(np.int64)
        return (
            np.where(low < 0, 1.0, ordered[low.clip(0)]),
            np.where(high >= count, np.inf, ordered[high.clip(max=count - 1)]),
        )

    return figure_of_ends(
        metric,
        value,
        at,
        Outcomes({"rank": ranks}, _median, coarse=True),
        bootstrap,
        IntervalMethod.ORDER,
        "order statistics",
        bounds=(1.0, math.inf),
        effect=effect,
    )


def _median(weights: Floats, outcomes: Outcomes) -> Floats:
    """Return the median rank of each replicate (R,): the mean of its two middle elements."""
    ranks = outcomes["rank"]
    order = np.argsort(ranks, kind="stable")
    ordered: Floats = ranks[order].astype(np.float64)
    total = np.cumsum(weights[:, order], axis=1)
    half = total[:, -1:] / 2.0
    lower, upper = (total >= half).argmax(axis=1), (total > half).argmax(axis=1)
    return np.asarray((ordered[lower] + ordered[upper]) / 2.0)
