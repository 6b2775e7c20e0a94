"""Retrieval: ranks against loops, medians and chance by definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import unit_rows
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.properties import retrieval

FEW = Bootstrap(replicates=200)


def _pairs(images: int, captions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(images), rng.integers(images, size=captions - images)])
    pictures = rng.normal(size=(images, 8))
    texts = pictures[owner] + 1.2 * rng.normal(size=(captions, 8))
    return pictures, texts, owner


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 15))
def test_ranks_match_a_loop(seed: int, images: int) -> None:
    pictures, texts, owner = _pairs(images, images + 9, seed)
    got_image, got_text = retrieval.retrieval_ranks(pictures, texts, owner)
    similarity = unit_rows(pictures) @ unit_rows(texts).T
    for i in range(images):
        order = sorted(range(len(texts)), key=lambda t, i=i: -similarity[i, t])
        assert got_image[i] == 1 + next(r for r, t in enumerate(order) if owner[t] == i)
    for t in range(len(texts)):
        order = sorted(range(images), key=lambda i, t=t: -similarity[i, t])
        assert got_text[t] == 1 + order.index(owner[t])


def test_any_of_the_captions_is_a_hit() -> None:
    pictures = np.eye(3)
    good, bad = np.eye(3), -np.eye(3)
    texts, owner = np.concatenate([bad, good]), [0, 1, 2, 0, 1, 2]
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=FEW)
    assert figures["image_to_text_recall_at_1"].value == 1.0
    # With the first caption only, nothing is found.
    alone = retrieval.retrieval_figures(pictures, bad, [0, 1, 2], bootstrap=FEW)
    assert alone["image_to_text_recall_at_1"].value == 0.0
    assert figures["text_to_image_recall_at_1"].value == 0.5


def test_a_collapsed_model_is_at_the_bottom() -> None:
    figures = retrieval.retrieval_figures(
        np.ones((6, 4)), np.ones((12, 4)), np.arange(12) % 6, bootstrap=FEW
    )
    assert figures["image_to_text_recall_at_1"].value == 0.0
    assert figures["image_to_text_recall_at_10"].value == 0.0
    assert figures["text_to_image_recall_at_5"].value == 0.0
    assert figures["image_to_text_median_rank"].value == 11.0


def test_retrieval_figures_and_chance() -> None:
    pictures, texts, owner = _pairs(30, 90, 1)
    image_rank, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=FEW)
    assert set(figures) <= set(METRICS)
    assert len(figures) == 8
    assert figures["image_to_text_recall_at_5"].value == np.mean(image_rank <= 5)
    assert figures["text_to_image_recall_at_5"].value == pytest.approx(np.mean(text_rank <= 5))
    assert figures["text_to_image_median_rank"].value == np.median(text_rank)
    assert figures["image_to_text_recall_at_1"].n == 30
    assert figures["text_to_image_recall_at_1"].n == 90
    assert figures["text_to_image_recall_at_5"].details["chance"] == pytest.approx(5 / 30)
    captions = np.bincount(owner)
    chance = np.mean([1 - np.prod([(90 - c - j) / (90 - j) for j in range(5)]) for c in captions])
    assert figures["image_to_text_recall_at_5"].details["chance"] == pytest.approx(chance)
    for figure in figures.values():
        assert figure.low <= figure.value <= figure.high


def test_median_replicates_are_medians() -> None:
    pictures, texts, owner = _pairs(9, 20, 2)
    _, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    boot = Bootstrap(replicates=12)
    figure = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=boot)
    rows = np.concatenate(list(boot.plan(9).indices()))
    for number, drawn in enumerate(rows):
        pool = np.concatenate([text_rank[owner == i] for i in drawn])
        assert figure["text_to_image_median_rank"].replicates[number] == np.median(pool)


def test_retrieval_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ClipRobustError, match="image 1"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(2), [0, 0])
    with pytest.raises(ClipRobustError, match="same model"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(3), [0, 1, 1])
