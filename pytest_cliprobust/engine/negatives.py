"""Negative labels: names of things outside the label set, for the OOD score NegLabel.

The candidates are the data's own ``negative_phrases``, or else open_clip's names of ImageNet's classes (in
the paper, WordNet's nouns and adjectives, which do not ship). Of those the ones are kept that are farthest
from the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.engine import head
from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.properties.ood import mine_negative_labels

#: The share of candidates that is kept, and how many of them there must be. The paper keeps 15% of some
#: 70,000 words; of a few hundred names of things most are far from any label.
KEPT, LEAST = 0.5, 100


@dataclass(frozen=True)
class Negatives:
    """The labels and their negative labels, by the same templates.

    Attributes:
        labels: (C, D) unit rows, float64.
        weights: (M, D) unit rows of the negative labels, the farthest first.
        names: (M,) what they are, as it fills a template.
    """

    labels: Tensor
    weights: Tensor
    names: tuple[str, ...]


def mined(target: head.TextEncoder, clean: Dataset, phrases: Sequence[str]) -> Negatives:
    """Return negative labels for the label set of ``clean``.

    Data without prompt templates of its own has open_clip's seven simple ones here, not OpenAI's eighty.

    Args:
        target: encodes texts.
        clean: the data set.
        phrases: (C,) what fills the templates for its classes.

    Raises:
        NotRun: fewer than :data:`LEAST` candidates lie outside the label set.
    """
    import open_clip

    own = {name.casefold() for name in (*clean.class_names, *phrases)}
    given = getattr(clean, "negative_phrases", tuple(open_clip.IMAGENET_CLASSNAMES))
    candidates = tuple(dict.fromkeys(name for name in given if name.casefold() not in own))
    if len(candidates) < LEAST:
        raise NotRun(
            f"NegLabel needs at least {LEAST} names outside the label set, and of ImageNet's class names "
            f"{len(candidates)} are; give the data set negative_phrases"
        )
    templates = getattr(clean, "templates", open_clip.SIMPLE_IMAGENET_TEMPLATES)
    labels = head.zero_shot_head(target, phrases, templates)
    # Candidates that a model cannot tell apart are one negative label twice: no harm.
    pool = head.zero_shot_head(target, candidates, templates, distinct=False)
    keep = mine_negative_labels(pool.numpy(), labels.numpy(), keep=round(KEPT * len(candidates)))
    return Negatives(labels, pool[keep], tuple(candidates[row] for row in keep))
