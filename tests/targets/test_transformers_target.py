"""What texts become before a model of transformers reads them, with a tokenizer made up here."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.transformers_target import (
    TransformersTarget,
    _context_length,
    _logit_scale,
)


class Tokenizer:
    """Gives a token for each letter, and keeps what it was asked for."""

    def __init__(self, *, masks: bool = True) -> None:
        self.masks = masks
        self.asked: list[tuple[list[str], dict[str, Any]]] = []

    def __call__(self, texts: list[str], **more: Any) -> dict[str, torch.Tensor]:
        self.asked.append((texts, more))
        length = more["max_length"]
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor([ord(letter) for letter in text[:length]])
        return {"input_ids": ids, **({"attention_mask": (ids > 0).long()} if self.masks else {})}


def tokens(kind: str, tokenizer: Tokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    """Return what a model of some kind, with room for six tokens, is given."""
    target: Any = SimpleNamespace(
        model_type=kind, tokenizer=tokenizer, context_length=6, device=torch.device("cpu")
    )
    return TransformersTarget.tokens(target, texts)


@pytest.mark.parametrize(
    ("kind", "masks", "names", "read"),
    [
        ("clip", True, ["attention_mask", "input_ids"], "A, B."),
        ("clip", False, ["input_ids"], "A, B."),
        # Trained on padding that is not masked, and on texts in small letters without punctuation.
        ("siglip", True, ["input_ids"], "a b"),
        ("siglip2", True, ["input_ids"], "a b"),
    ],
)
def test_texts_are_padded_and_masked_as_the_family_was_trained(
    kind: str, masks: bool, names: list[str], read: str
) -> None:
    tokenizer = Tokenizer(masks=masks)
    found = tokens(kind, tokenizer, ["A, B."])
    assert sorted(found) == names
    ((texts, more),) = tokenizer.asked
    assert texts == [read]
    assert (more["padding"], more["max_length"], more["truncation"]) == ("max_length", 6, True)
    if "attention_mask" in found:
        assert found["attention_mask"].tolist() == [[1] * 5 + [0]]


def test_the_scale_of_logits() -> None:
    log = SimpleNamespace(logit_scale=torch.tensor(4.0))
    assert _logit_scale(log, "m") == pytest.approx(math.exp(4.0), rel=1e-6)
    assert _logit_scale(SimpleNamespace(temperature=torch.tensor(0.25)), "m") == 4.0
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(
            ClipRobustError, match=r"'m' has a temperature of .*; check its weights"
        ):
            _logit_scale(SimpleNamespace(temperature=torch.tensor(wrong)), "m")


@pytest.mark.parametrize(
    ("kind", "positions", "length"),
    [("clip", 77, 77), ("align", 512, 64), ("align", 32, 32), ("clip", 512, 512)],
)
def test_texts_are_as_long_as_in_training(kind: str, positions: int, length: int) -> None:
    config = SimpleNamespace(
        model_type=kind, text_config=SimpleNamespace(max_position_embeddings=positions)
    )
    assert _context_length(config) == length
