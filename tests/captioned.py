"""Samples with captions under a model that is a table from texts to features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import Choice, SampleArrays


@dataclass(frozen=True)
class Told(SampleArrays):
    """What :func:`told` returns."""

    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    captions: tuple[tuple[str, ...], ...] = ()
    choices: tuple[tuple[Choice, ...], ...] = ()
    texts: dict[str, np.ndarray] = field(default_factory=dict)

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.texts[text] for text in texts])


def told(
    features: np.ndarray,
    texts: dict[str, np.ndarray],
    *,
    captions: tuple[tuple[str, ...], ...] = (),
    choices: tuple[tuple[Choice, ...], ...] = (),
    pairs: Sequence[str] = (),
) -> Told:
    """Return samples with these image features (N, D), and the features (D,) of every text."""
    count = len(features)
    return Told(
        Condition("mine"),
        tuple(f"i{i}" for i in range(count)),
        np.zeros(count, dtype=np.int64),
        np.zeros((count, 2)),
        groups={"pair": tuple(pairs)} if pairs else {},
        features=features,
        captions=captions,
        choices=choices,
        texts=texts,
    )
