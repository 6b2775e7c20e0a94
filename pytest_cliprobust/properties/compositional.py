"""Compositional understanding: is the true caption told from one of nearly the same words?

Hard negatives as of ARO (Yuksekgonul et al. 2023), SugarCrepe (Hsieh et al. 2023) and NegBench (Alhamoud et
al. 2025): each image with a true caption and one or more false ones; the answer is right if the true one is
the most similar. Winoground (Thrush et al. 2022) and MMVP-VLM (Tong et al. 2024) have two images and two
captions, of which each is true of one image; :func:`matching_figures` has their scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Bools, Floats, Ints, unit_rows
from pytest_cliprobust.figures.bootstrap import DEFAULT, Bootstrap, proportion_figure
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.metrics import register_metric
from pytest_cliprobust.figures.samples import Captioned
from pytest_cliprobust.figures.taken import takes_samples

#: The column that says which two samples belong together.
PAIR = "pair"

#: The column that says what the samples of a pair differ in.
PATTERN = "pattern"


@takes_samples
def choices_of(samples: Captioned) -> list[Figure]:
    """Return ``caption_choice_accuracy`` for each kind of choice that the data poses.

    Figures are filed as parts of the data set, by kind (``compositional:negation``).

    Raises:
        NotRun: the data poses no choices.
        ClipRobustError: a choice without a false caption, or a sample with two of one kind.
    """
    if not any(samples.choices):
        raise NotRun(f"{samples.condition} poses no choices between captions")
    kinds = dict.fromkeys(choice.kind for own in samples.choices for choice in own)
    texts = list(
        dict.fromkeys(t for own in samples.choices for c in own for t in (c.true, *c.false))
    )
    place = {text: row for row, text in enumerate(texts)}
    images = unit_rows(samples.features, dataset=samples.condition.dataset, ids=samples.ids)
    words = unit_rows(samples.text_features(texts), dataset="captions")
    figures = []
    for kind in kinds:
        posed = [
            (row, [place[text] for text in (choice.true, *choice.false)])
            for row, own in enumerate(samples.choices)
            for choice in own
            if choice.kind == kind
        ]
        rows = np.array([row for row, _ in posed], dtype=np.int64)
        if len(set(rows.tolist())) < len(rows):
            raise ClipRobustError(
                f"{samples.condition}: a sample poses two choices of the kind {kind!r}; give each a "
                "sample of its own"
            )
        similarities = [words[options] @ images[row] for row, options in posed]
        figure = choice_figure(similarities, bootstrap=samples.bootstrap.subset(rows))
        figures.append(figure.measured_on(samples.condition.part(kind)))
    return figures


@register_metric(
    "caption_choice_accuracy",
    higher_is_better=True,
    meaning="share of images whose true caption beats the false ones",
)
def choice_figure(similarities: Sequence[ArrayLike], *, bootstrap: Bootstrap = DEFAULT) -> Figure:
    """Return ``caption_choice_accuracy``, the share of choices that the true caption wins, in [0, 1].

    Ties count against the model. The details hold ``chance``, the mean over the choices of one in as many
    as there are captions.

    Args:
        similarities: (N,) of each choice those of the captions to the image, the true caption's first; two
            or more, not as many for each choice.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: no choices, one with a single caption, or similarities that are not finite.
    """
    rows = [np.asarray(row, dtype=np.float64) for row in similarities]
    if not rows:
        raise ClipRobustError("no choices between captions, so there is nothing to measure.")
    for number, row in enumerate(rows):
        if row.ndim != 1 or len(row) < 2 or not np.isfinite(row).all():
            raise ClipRobustError(
                f"choice {number} needs the finite similarities of two captions or more, got {row}."
            )
    hits: Bools = np.array([row[0] > row[1:].max() for row in rows], dtype=np.bool_)
    chance = float(np.mean([1.0 / len(row) for row in rows]))
    figure = proportion_figure("caption_choice_accuracy", hits, bootstrap, {"chance": chance})
    return _said(figure, f", chance {chance:.3g}")


@takes_samples
def matching_of(samples: Captioned) -> list[Figure]:
    """Return the Winoground scores of pairs of samples, whose captions are true of one of them each.

    The samples with equal values in the column ``pair`` belong together, and the first caption of each
    counts; a sample without its partner (the data was cut short) is left out. Where a column ``pattern`` says
    what the pictures of a pair differ in (MMVP-VLM), the scores of each pattern follow, as parts of the data
    set (``mmvp:Texts``).

    Raises:
        NotRun: the data has no pairs with captions.
        ClipRobustError: more than two samples have one value.
    """
    column = samples.groups.get(PAIR, ())
    if not column or not samples.captions:
        raise NotRun(f"{samples.condition} has no pairs of samples (column {PAIR!r}) with captions")
    members: dict[str, list[int]] = {}
    for row, name in enumerate(column):
        members.setdefault(name, []).append(row)
    if any(len(rows) > 2 for rows in members.values()):
        raise ClipRobustError(f"{samples.condition}: a pair is of two samples, in column {PAIR!r}")
    pairs = np.array([rows for rows in members.values() if len(rows) == 2], dtype=np.int64)
    if not len(pairs):
        raise NotRun(f"{samples.condition} has no whole pair of samples; raise --clip-limit")
    images = unit_rows(samples.features, dataset=samples.condition.dataset, ids=samples.ids)
    captions = [samples.captions[row][0] for row in pairs.ravel()]
    words = unit_rows(samples.text_features(captions), dataset="captions").reshape(
        len(pairs), 2, -1
    )
    similarities = np.einsum("pcd,pid->pci", words, images[pairs])
    settings = samples.bootstrap.of(_pair_keys(samples.bootstrap.keys, pairs))
    figures = matching_figures(similarities, bootstrap=settings)
    found = [figure.measured_on(samples.condition) for figure in figures.values()]
    patterns = samples.groups.get(PATTERN, ())
    of_pairs = np.array([patterns[first] if patterns else "" for first, _ in pairs], dtype=object)
    for name in sorted(set(of_pairs) - {""}):
        rows = np.flatnonzero(of_pairs == name).astype(np.int64)
        part = matching_figures(similarities[rows], bootstrap=settings.subset(rows))
        found += [figure.measured_on(samples.condition.part(name)) for figure in part.values()]
    return found


def _pair_keys(keys: SampleKeys | None, pairs: Ints) -> SampleKeys | None:
    """Return the keys of pairs: each is of its first sample's unit."""
    if keys is None:
        return None
    return SampleKeys(
        tuple(f"{keys.ids[a]}+{keys.ids[b]}" for a, b in pairs),
        tuple(keys.units[a] for a, _ in pairs),
        tuple(keys.digests[a] + keys.digests[b] for a, b in pairs) if keys.digests else (),
        keys.kind,
    )


@register_metric(
    "matching_text_score",
    higher_is_better=True,
    meaning="share of pairs in which each image prefers its own caption",
    chance=0.25,
)
@register_metric(
    "matching_image_score",
    higher_is_better=True,
    meaning="share of pairs in which each caption prefers its own image",
    chance=0.25,
)
@register_metric(
    "matching_group_score",
    higher_is_better=True,
    meaning="share of pairs in which both are so",
    chance=1.0 / 6.0,
)
def matching_figures(
    similarities: ArrayLike, *, bootstrap: Bootstrap = DEFAULT
) -> dict[str, Figure]:
    """Return ``matching_text_score``, ``matching_image_score`` and ``matching_group_score``.

    Winoground's text, image and group score (Thrush et al. 2022, section 4): each image prefers its own
    caption; each caption prefers its own image; both. Chance is 1/4, 1/4 and 1/6. Ties count against the
    model.

    Args:
        similarities: (P, 2, 2) of caption (first) and image (second); caption k is true of image k.
        bootstrap: interval settings.

    Raises:
        ClipRobustError: another shape, no pairs, or similarities that are not finite.
    """
    scores: Floats = np.asarray(similarities, dtype=np.float64)
    if scores.ndim != 3 or scores.shape[1:] != (2, 2) or not len(scores):
        raise ClipRobustError(f"pairs have similarities of shape (P, 2, 2), got {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ClipRobustError("similarities of pairs are not finite; check the model's features.")
    own, other = scores[:, [0, 1], [0, 1]], scores[:, [1, 0], [0, 1]]
    # Column k of `other` is the other caption for image k; that of the other image for caption k:
    others_image = scores[:, [0, 1], [1, 0]]
    text: Bools = np.asarray((own > other).all(axis=1))
    image: Bools = np.asarray((own > others_image).all(axis=1))
    figures = [
        _said(
            proportion_figure(f"matching_{name}_score", hits, bootstrap, {"chance": chance}),
            f", chance {chance:.3g}",
        )
        for name, hits, chance in (
            ("text", text, 0.25),
            ("image", image, 0.25),
            ("group", text & image, 1.0 / 6.0),
        )
    ]
    return {figure.metric: figure for figure in figures}


def _said(figure: Figure, words: str) -> Figure:
    """Return a figure whose method says something more."""
    return replace(figure, method=figure.method + words)
