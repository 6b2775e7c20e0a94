"""Retrieval: ranks against loops, medians and chance by definition."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import drawn_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import resampling
from pytest_cliprobust.figures.arrays import unit_rows
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.intervals import wilson
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
        order = np.argsort(-similarity[i], kind="stable")
        assert got_image[i] == 1 + next(r for r, t in enumerate(order) if owner[t] == i)
    for t in range(len(texts)):
        order = np.argsort(-similarity[:, t], kind="stable")
        assert got_text[t] == 1 + order.tolist().index(owner[t])


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


@pytest.mark.parametrize("block", [2, 1000])
def test_replicates_are_the_metrics_of_the_drawn_images(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "_CHUNK", 9 * block)
    pictures, texts, owner = _pairs(9, 20, 2)
    image_rank, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    boot = Bootstrap(replicates=12, seed=block)
    got = retrieval.retrieval_figures(pictures, texts, owner, at=(2,), bootstrap=boot)
    assert {name.split("_", 3)[-1] for name in got} == {"recall_at_2", "median_rank"}
    for number, drawn in enumerate(drawn_rows(boot, 9)):
        pool = np.concatenate([text_rank[owner == i] for i in drawn])
        want = {
            "image_to_text_recall_at_2": np.mean(image_rank[drawn] <= 2),
            "text_to_image_recall_at_2": np.mean(pool <= 2),
            "image_to_text_median_rank": np.median(image_rank[drawn]),
            "text_to_image_median_rank": np.median(pool),
        }
        have = {name: figure.replicates[number] for name, figure in got.items()}
        assert have == pytest.approx(want)
    assert all(len(figure.replicates) == 12 for figure in got.values())


def test_images_are_resampled_whatever_n_is() -> None:
    pictures, texts, owner = _pairs(9, 20, 2)
    boot = Bootstrap(replicates=5, samples="pictures")
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=boot)
    names = {figure.details["resampling"] for figure in figures.values()}
    assert names == {f"pictures:{boot.plan(9).digest}"}
    assert {figure.n for name, figure in figures.items() if name.startswith("image")} == {9}
    assert {figure.n for name, figure in figures.items() if name.startswith("text")} == {20}


def test_ranks_in_blocks_of_images_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, texts, owner = _pairs(10, 24, 3)
    whole = retrieval.retrieval_ranks(pictures, texts, owner)
    for block in (1, 3 * 24):
        monkeypatch.setattr(retrieval, "_CHUNK", block)
        parts = retrieval.retrieval_ranks(pictures, texts, owner)
        np.testing.assert_array_equal(parts[0], whole[0])
        np.testing.assert_array_equal(parts[1], whole[1])


def test_perfect_retrieval_claims_no_certainty_beyond_its_images() -> None:
    figures = retrieval.retrieval_figures(
        np.eye(6), np.eye(6)[np.arange(12) % 6], np.arange(12) % 6, bootstrap=FEW
    )
    for name in ("image_to_text_recall_at_1", "text_to_image_recall_at_1"):
        assert figures[name].value == 1.0
        assert figures[name].low == wilson(6, 6).low
    # More cut-offs than candidates: a hit by chance alone.
    assert figures["text_to_image_recall_at_10"].details["chance"] == 1.0
    assert figures["text_to_image_recall_at_5"].details["chance"] == pytest.approx(5 / 6)
    few = retrieval.retrieval_figures(np.eye(3), np.eye(3), np.arange(3), at=(2, 5), bootstrap=FEW)
    assert few["image_to_text_recall_at_2"].details["chance"] == pytest.approx(2 / 3)
    assert few["image_to_text_recall_at_5"].details["chance"] == 1.0


def test_retrieval_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ClipRobustError, match=r"image 1 \(and 1 others\) has no caption"):
        retrieval.retrieval_ranks(np.eye(3), np.eye(3), [0, 0, 0])
    with pytest.raises(ClipRobustError, match="outside the label set of 2"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(2), [0, 2])
    with pytest.raises(ClipRobustError, match="same model"):
        retrieval.retrieval_ranks(np.eye(2), np.eye(3), [0, 1, 1])
