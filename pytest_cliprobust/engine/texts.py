"""Different class texts that a model gives the same features: it cannot tell these classes apart.

Three mistakes do this, and give chance or worse without any error: a wrong ``eos_token_id``
(huggingface/transformers#24650) and missing tokenizer files make all texts the same; names that differ
only after the last token that the model reads make some the same (Long-CLIP). Equal names (ImageNet's two
cranes) are no mistake: they are allowed to have equal features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats, Ints

#: From texts to unit features (N, D), float64.
Encode = Callable[[Sequence[str]], Tensor]

EQUAL = 1e-5
"""Unit features no further apart are the same. Measured on equal texts in one batch: 0 in fp32, fp16 and
bf16; different short texts lie 0.1 and more apart."""

TOKENIZER = (
    "check that the tokenizer files belong to the model, and that eos_token_id in its configuration is "
    "the tokenizer's"
)

_PLAIN = ("a photo of a cat.", "a photo of two red cars")
_NAMED = 3
_LONGEST = 48


def refuse_equal(
    labels: Sequence[str], prompts: Sequence[str], features: Tensor, encode: Encode, model: str
) -> None:
    """Raise if different prompts have equal features.

    Args:
        labels: (C,) class names.
        prompts: (C,) their prompts in one template.
        features: (C, D) unit features of the prompts.
        encode: for the search for the cause.
        model: its name.

    Raises:
        ClipRobustError: names some of the classes, and the likely cause.
    """
    groups = equal_rows(features.numpy())
    for rows in groups:
        # One of each prompt: equal prompts are the same text.
        distinct = list({prompts[row]: int(row) for row in rows}.values())
        if len(distinct) > 1:
            everything = len(distinct) == len(set(prompts))
            cause = _cause([prompts[row] for row in distinct], everything, encode)
            raise ClipRobustError(
                f"model {model!r} cannot tell {_named([labels[row] for row in distinct])} apart: "
                f"{'all class' if everything else 'these'} texts have the same features; {cause}"
            )


def equal_rows(features: Floats) -> list[Ints]:
    """Return groups (of two or more) of rows that are equal, in the order of their first row.

    Equal rows have equal projections on any vector: only neighbours in that order are compared.
    """
    direction = np.random.default_rng(0).normal(size=features.shape[1])
    projected = features @ (direction / np.linalg.norm(direction))
    order = np.argsort(projected, kind="stable")
    group = np.arange(len(features))
    for step in range(1, len(order)):
        near = np.flatnonzero(projected[order[step:]] - projected[order[:-step]] <= EQUAL)
        if not len(near):
            break
        left, right = order[near], order[near + step]
        new = group[left] != group[right]
        apart = np.linalg.norm(features[left[new]] - features[right[new]], axis=1)
        for a, b in zip(left[new][apart <= EQUAL], right[new][apart <= EQUAL], strict=True):
            group[group == group[b]] = group[a]
    members = [np.flatnonzero(group == value) for value in dict.fromkeys(group.tolist())]
    return sorted((rows for rows in members if len(rows) > 1), key=lambda rows: int(rows[0]))


def _cause(prompts: Sequence[str], everything: bool, encode: Encode) -> str:
    """Return the likely cause, and the remedy."""
    if everything and _same(_PLAIN, encode):
        return f"so has any other text: {TOKENIZER}"
    if _same((prompts[0], f"{prompts[0]} and some more words"), encode):
        return (
            "they differ only after the last token that it reads (77 with most CLIP models); give "
            "shorter names, or put first what differs"
        )
    if len({_letters(prompt) for prompt in prompts}) < len(prompts):
        return "they differ only in case, spaces or punctuation, which it ignores; rename classes"
    return "its tokenizer may not know these words; check its files, or rename classes"


def _same(texts: Sequence[str], encode: Encode) -> bool:
    features = encode(texts)
    return bool((features - features[:1]).norm(dim=1).max() <= EQUAL)


def _shared(texts: Sequence[str]) -> int:
    """Return how many characters the texts have in common at their start."""
    columns = zip(*texts, strict=False)
    return next(
        (i for i, column in enumerate(columns) if len(set(column)) > 1), min(map(len, texts))
    )


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _named(labels: Sequence[str]) -> str:
    shown = [repr(_short(label, labels)) for label in labels[:_NAMED]]
    more = len(labels) - len(shown)
    *first, last = [*shown, f"{more} more"] if more else shown
    return f"{', '.join(first)} and {last}"


def _short(label: str, labels: Sequence[str]) -> str:
    """Return a long name with its middle left out: what tells it from the others stays."""
    if len(label) <= _LONGEST:
        return label
    shared = _shared(labels)
    start = max(min(shared - 8, len(label) - _LONGEST // 2), _LONGEST // 2)
    return f"{label[: _LONGEST // 2]}…{label[start : start + _LONGEST // 2]}"
