"""Asks a multimodal model about the pictures of a view, and keeps its answers on disk.

Answers are cached as features are, in blocks of :data:`BLOCK` choices: by the digest of weights, processor
and prompt, the data, the condition, and every question. A killed run goes on at the block that it was in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.engine.view import View
from pytest_cliprobust.properties.multimodal import (
    QUESTION,
    SEES_THROUGH,
    ChoiceAnswers,
    HardChoices,
    named_option,
)
from pytest_cliprobust.targets.multimodal import MultimodalModel

BLOCK = 64
"""Choices that are asked and kept together, always."""

Array = npt.NDArray[np.float32]


class Interviewer:
    """A multimodal model that hard choices are put to.

    Args:
        load: loads it, at the first question.
        encoder: gives the pictures and the cache.
        phrases: (C,) what each class is called in a sentence, "an ant".
        precision: part of the cache key.
        sees_through: whose image encoder it has, where that is known to be another than the CLIP's.
    """

    def __init__(
        self,
        load: Callable[[], MultimodalModel],
        encoder: Encoder,
        phrases: Sequence[str],
        precision: str,
        sees_through: str = "",
    ) -> None:
        self._load = load
        self._encoder = encoder
        self._phrases = phrases
        self._precision = precision
        self._sees_through = sees_through
        self.asked = 0

    @cached_property
    def model(self) -> MultimodalModel:
        """The model."""
        return self._load()

    def answers(self, view: View, choices: HardChoices) -> ChoiceAnswers:
        """Return what the model answers to the choices of a view, in both orders.

        Raises:
            NotRun: a perturbation needs what the data set does not have.
            ClipRobustError: the model cannot be loaded, or fails.
        """
        likelihoods, said = [], []
        for start in range(0, len(choices), BLOCK):
            block = slice(start, start + BLOCK)
            found, texts = self._block(view, choices, block)
            likelihoods.append(found)
            said += texts
            done = min(start + BLOCK, len(choices))
            self._encoder.progress(f"{view.condition} · lmm", done, len(choices))
        return ChoiceAnswers(
            np.concatenate(likelihoods), self._named(view, choices, said), tuple(said), self._about
        )

    @property
    def _about(self) -> dict[str, str]:
        info = self.model.info
        about = {
            "model": info.name,
            "model_type": info.model_type,
            "vision_tower": info.tower,
            "weights": info.digest[:12],
        }
        return about | ({SEES_THROUGH: self._sees_through} if self._sees_through else {})

    def _named(
        self, view: View, choices: HardChoices, said: Sequence[tuple[str, str]]
    ) -> npt.NDArray[np.int64]:
        """Return which option each answer names (M, 2)."""

        def called(label: int) -> tuple[str, str]:
            return self._phrases[label], view.class_names[label]

        codes = [
            [named_option(text, called(true), called(other)) for text in texts]
            for texts, true, other in zip(
                said, choices.true.tolist(), choices.other.tolist(), strict=True
            )
        ]
        return np.array(codes, dtype=np.int64)

    def _block(
        self, view: View, choices: HardChoices, block: slice
    ) -> tuple[npt.NDArray[np.float64], list[tuple[str, str]]]:
        """Return likelihoods (m, 2, 2) and answers of some of the choices."""
        rows = choices.rows[block].tolist()
        pairs = [
            (self._phrases[true], self._phrases[other])
            for true, other in zip(
                choices.true[block].tolist(), choices.other[block].tolist(), strict=True
            )
        ]
        # True option first, then second.
        orders = [
            [QUESTION.format(first=first, second=second) for first, second in pairs],
            [QUESTION.format(first=first, second=second) for second, first in pairs],
        ]
        key: dict[str, Any] = {
            "model": self.model.info.digest,
            "precision": self._precision,
            "data": view.data.digest,
            "condition": self._encoder.described(view.data, view.condition.steps),
            "asked": [[view.ids[row], *pair] for row, pair in zip(rows, pairs, strict=True)],
        }
        cache = self._encoder.cache
        pictures: list[Any] = []

        def images() -> Any:
            if not pictures:
                pictures.append(self._encoder.shown(view.data, rows, view.condition.steps))
                self.asked += len(rows)
            return pictures[0]

        def likelihoods() -> Array:
            both = [self.model.likelihoods(images(), order, pairs) for order in orders]
            return np.stack(both, axis=1).astype(np.float32)

        def words() -> Array:
            both = [self.model.answers(images(), order) for order in orders]
            return packed([text for texts in zip(*both, strict=True) for text in texts])

        found = cache.get_or_compute({**key, "kind": "option likelihoods"}, likelihoods)
        texts = unpacked(cache.get_or_compute({**key, "kind": "answers"}, words))
        said = list(zip(texts[0::2], texts[1::2], strict=True))
        return found.astype(np.float64), said


def packed(texts: Sequence[str]) -> Array:
    """Return texts as an array (N, L), as the cache holds no other thing: UTF-8, ended by -1."""
    encoded = [text.encode() for text in texts]
    array = np.full((len(texts), max(map(len, encoded), default=0) + 1), -1.0, dtype=np.float32)
    for row, content in enumerate(encoded):
        array[row, : len(content)] = list(content)
    return array


def unpacked(array: Array) -> list[str]:
    """Return the texts that :func:`packed` was given."""
    return [bytes(row[row >= 0].astype(np.uint8)).decode() for row in array]
