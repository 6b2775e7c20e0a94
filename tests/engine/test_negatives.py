"""Negative labels: which words are candidates, and which of them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import Tensor

from pytest_cliprobust.embedded import sprites
from pytest_cliprobust.engine import negatives
from pytest_cliprobust.engine.config import RunConfig
from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError, NotRun


class Words:
    """Gives each text a direction of its own, by its letters."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.asked += texts
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return torch.tensor(np.array(rows), dtype=torch.float32)


def data(**more: Any) -> Any:
    return SimpleNamespace(class_names=("Cat", "dog"), **more)


def test_the_farthest_half_of_the_datas_own_words() -> None:
    words = tuple(f"a thing {i}" for i in range(120))
    given = data(negative_phrases=(*words, "a cat", "DOG", words[0]), templates=("{}",))
    found = negatives.mined(Words(), given, ("a cat", "a dog"))
    assert len(found.names) == len(found.weights) == 60
    assert set(found.names) <= set(words)
    labels, pool = (
        torch.nn.functional.normalize(Words().encode_text(texts).double(), dim=-1)
        for texts in (["a cat", "a dog"], list(words))
    )
    similar = np.quantile((pool @ labels.T).numpy(), 0.95, axis=1)
    assert [words.index(name) for name in found.names] == np.argsort(similar)[:60].tolist()
    torch.testing.assert_close(found.labels, labels)


def test_candidates_that_the_model_cannot_tell_apart_are_none_the_less_negative() -> None:
    class Short(Words):
        """Knows nothing after the third word."""

        def encode_text(self, texts: Sequence[str]) -> Tensor:
            return super().encode_text([" ".join(text.split()[:3]) for text in texts])

    words = tuple(f"a certain thing {i}" for i in range(120))
    found = negatives.mined(
        Short(), data(negative_phrases=words, templates=("{}",)), ("a cat", "a dog")
    )
    assert len(set(found.names)) == 60
    assert torch.equal(found.weights[0], found.weights[-1])
    # Of the labels it has to.
    with pytest.raises(ClipRobustError, match="cannot tell"):
        negatives.mined(
            Short(),
            data(negative_phrases=words, templates=("{}",)),
            ("a certain thing x", "a certain thing y"),
        )


def test_data_without_words_has_imagenets_in_seven_templates() -> None:
    encoder = Words()
    found = negatives.mined(encoder, data(), ("cat", "dog"))
    assert (
        len(set(found.names))
        == len(found.names)
        == round(len(set(open_clip.IMAGENET_CLASSNAMES)) / 2)
    )
    assert len(encoder.asked) == 7 * (2 + len(set(open_clip.IMAGENET_CLASSNAMES)))
    own = SimpleNamespace(class_names=tuple(open_clip.IMAGENET_CLASSNAMES))
    with pytest.raises(NotRun, match="at least 100 names outside the label set"):
        negatives.mined(encoder, own, own.class_names)


def test_a_hundred_words_are_enough() -> None:
    words = tuple(f"a thing {i}" for i in range(101))
    given = data(negative_phrases=(*words[:100], "Cat"), templates=("{}",))
    assert len(negatives.mined(Words(), given, ("a cat", "a dog")).names) == 50
    given = data(negative_phrases=(*words[:99], "Cat"), templates=("{}",))
    with pytest.raises(NotRun, match="99 are; give the data set negative_phrases"):
        negatives.mined(Words(), given, ("a cat", "a dog"))


def test_embedded_words_are_what_the_reference_was_trained_on_beside_the_labels() -> None:
    phrases = sprites.training_only_phrases()
    assert {"an abacus", "a set of bowling pins", "a lunch box"} <= set(phrases)
    assert len(phrases) == len(sprites.training_only_names())
    labels = {f"{c.article} {c.label}" for c in sprites.load_label_classes()}
    outside = {f"{c.article} {c.label}" for c in sprites.near_ood_classes()}
    assert not labels & set(phrases)
    assert not outside & set(phrases)


@pytest.mark.slow
def test_a_view_beside_negatives(shared_cache: Path) -> None:
    options = RunConfig(("reference",), limit=24, profile="quick", cache_dir=shared_cache)
    clip = Evaluation(options, "reference")
    view = clip.on("clean")
    inside, outside = clip.beside_negatives(view)
    np.testing.assert_allclose(inside, view.cosines, atol=1e-9)
    assert outside.shape == (24, len(clip.negatives.names))
    # Pictures of the classes are more like their names than like other things'.
    assert (inside.max(axis=1) > outside.max(axis=1)).mean() > 0.7
