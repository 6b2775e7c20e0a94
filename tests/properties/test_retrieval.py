"""Retrieval: ranks against loops, medians and chance by definition."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from captioned import told
from helpers import drawn_rows, keys_of, replicates_of, share_ends
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import bootstrap, resampling
from pytest_cliprobust.figures.arrays import unit_rows
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.clusters import design_effect_of_mean
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.outcomes import Outcomes
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
    monkeypatch.setattr(bootstrap, "_kept", {})
    pictures, texts, owner = _pairs(9, 20, 2)
    image_rank, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    boot = Bootstrap(replicates=12, seed=block, keys=keys_of(9))
    got = retrieval.retrieval_figures(pictures, texts, owner, at=(2,), bootstrap=boot)
    assert {name.split("_", 3)[-1] for name in got} == {"recall_at_2", "median_rank"}
    values = {}
    for name in ("image_to_text_median_rank", "text_to_image_median_rank"):
        outcomes = got[name].outcomes
        assert outcomes is not None
        values[name] = replicates_of(got[name], boot.of(outcomes.keys))
    for number, drawn in enumerate(drawn_rows(boot, 9)):
        # The first nine captions are of the nine images in order, so that images are drawn alike.
        pool = np.concatenate([text_rank[owner == i] for i in drawn])
        want = {
            "image_to_text_median_rank": np.median(image_rank[drawn]),
            "text_to_image_median_rank": np.median(pool),
        }
        assert {name: float(drawn[number]) for name, drawn in values.items()} == pytest.approx(want)
    assert {len(drawn) for drawn in values.values()} == {12}


def test_medians_have_the_order_statistics_interval() -> None:
    count, rng = 60, np.random.default_rng(7)
    pictures = rng.normal(size=(count, 6))
    texts = pictures + 2.0 * rng.normal(size=(count, 6))
    image_rank, _ = retrieval.retrieval_ranks(pictures, texts, np.arange(count))
    ordered = np.sort(image_rank)
    for level in (0.8, 0.95):
        figure = retrieval.retrieval_figures(
            pictures, texts, np.arange(count), bootstrap=Bootstrap(confidence=level)
        )["image_to_text_median_rank"]
        # As many below the median as a fair coin falls: with at most so many the interval misses.
        few = int(stats.binom.ppf((1.0 - level) / 2.0, count, 0.5))
        assert (figure.low, figure.high) == (ordered[few - 1], ordered[count - few])


def test_recalls_are_shares_of_queries_in_images() -> None:
    pictures, texts, owner = _pairs(30, 90, 1)
    image_rank, text_rank = retrieval.retrieval_ranks(pictures, texts, owner)
    figures = retrieval.retrieval_figures(pictures, texts, owner)
    images, texts_ = (figures[f"{way}_recall_at_5"] for way in ("image_to_text", "text_to_image"))
    want = share_ends(int((image_rank <= 5).sum()), 30)
    assert (images.low, images.high) == pytest.approx(want)
    effect = texts_.design_effect
    assert effect == pytest.approx(
        design_effect_of_mean((text_rank <= 5).astype(float), owner), rel=0.1
    )
    want = share_ends((text_rank <= 5).sum() / effect, 90 / effect, 0.95, 29)
    assert (texts_.low, texts_.high) == pytest.approx(want)
    assert (texts_.n, texts_.units, images.n, images.units) == (90, 30, 30, 30)


def test_captions_come_from_their_images_units() -> None:
    pictures, texts, owner = _pairs(9, 20, 2)
    keys = SampleKeys(
        tuple(f"p{i}" for i in range(9)),
        tuple(f"scene{i // 2}" for i in range(9)),
        tuple(f"d{i}" for i in range(9)),
        "scene",
    )
    for known in (keys, keys_of(9, kind="photo")):
        boot = Bootstrap(replicates=5, keys=known)
        figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=boot)
        for name, figure in figures.items():
            assert figure.outcomes is not None
            own = figure.outcomes.keys
            assert own is not None
            assert figure.units == known.unit_count
            if name.startswith("image"):
                assert (figure.n, own) == (9, known)
                continue
            assert (figure.n, len(set(own.ids))) == (20, 20)
            assert own.units == tuple(known.units[i] for i in owner)
            assert own.kind == ("scene" if known is keys else "image")
            assert own.digests == (tuple(keys.digests[i] for i in owner) if known is keys else ())
            # The captions of an image are numbered, in their order.
            numbers = [int(np.sum(owner[:row] == i)) for row, i in enumerate(owner)]
            assert own.ids == tuple(
                f"{known.ids[i]}#{number}" for i, number in zip(owner, numbers, strict=True)
            )


def test_captions_of_unknown_images_are_no_pair_for_another_run() -> None:
    pictures, texts, owner = _pairs(9, 20, 2)
    figures = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=FEW)
    for figure in figures.values():
        assert figure.outcomes is not None
        assert figure.outcomes.keys is None
    assert figures["text_to_image_median_rank"].units == 9
    boot = Bootstrap(replicates=200, keys=keys_of(9))
    known = retrieval.retrieval_figures(pictures, texts, owner, bootstrap=boot)
    assert known == figures
    assert change_between(
        known["text_to_image_recall_at_5"], known["text_to_image_recall_at_5"]
    ).paired


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_weighted_medians_are_those_of_the_repeated_ranks(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ranks, weights = rng.integers(1, 8, n), rng.integers(0, 4, size=(6, n)).astype(float)
    weights[:, 0] += 1.0
    outcomes = Outcomes({"rank": ranks}, retrieval._median)
    want = [np.median(np.repeat(ranks, row.astype(int))) for row in weights]
    assert outcomes.at(weights).tolist() == want


def test_ranks_in_blocks_of_images_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, texts, owner = _pairs(10, 24, 3)
    whole = retrieval.retrieval_ranks(pictures, texts, owner)
    for block in (1, 3 * 24):
        monkeypatch.setattr(retrieval, "CHUNK", block)
        parts = retrieval.retrieval_ranks(pictures, texts, owner)
        np.testing.assert_array_equal(parts[0], whole[0])
        np.testing.assert_array_equal(parts[1], whole[1])


def test_perfect_retrieval_claims_no_certainty_beyond_its_images() -> None:
    figures = retrieval.retrieval_figures(
        np.eye(6), np.eye(6)[np.arange(12) % 6], np.arange(12) % 6, bootstrap=FEW
    )
    for name, degrees in (
        ("image_to_text_recall_at_1", math.inf),
        ("text_to_image_recall_at_1", 5),  # twelve captions, in what six images tell
    ):
        assert figures[name].value == 1.0
        assert figures[name].low == pytest.approx(share_ends(6, 6, 0.95, degrees)[0])
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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 7), st.integers(0, 9), st.integers(1, 40))
def test_blocks_of_any_size_give_the_naive_ranks(
    seed: int, images: int, more: int, chunk: int
) -> None:
    pictures, texts, owner = _pairs(images, images + more, seed)
    texts = np.round(texts)  # with ties
    texts[(texts == 0).all(axis=1)] = 1.0
    similarity = unit_rows(pictures) @ unit_rows(texts).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "CHUNK", chunk)
        got_image, got_text = retrieval.retrieval_ranks(pictures, texts, owner)
    for i in range(images):
        mine = owner == i
        best = similarity[i, mine].max()
        assert got_image[i] == 1 + (similarity[i, ~mine] >= best).sum()
    for t in range(len(texts)):
        others = np.delete(similarity[:, t], owner[t])
        assert got_text[t] == 1 + (others >= similarity[owner[t], t]).sum()


def test_memory_is_that_of_a_chunk_not_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 x 10,000 pairs are 160 MB of similarities; a chunk of a million of them is 8 MB."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(2_000, 8)).astype(np.float32)
    owner = np.repeat(np.arange(2_000), 5)
    texts = (pictures[owner] + rng.normal(size=(10_000, 8))).astype(np.float32)
    peaks = []
    for chunk in (1_000_000, 250_000):
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        tracemalloc.start()
        try:
            retrieval.retrieval_ranks(pictures, texts, owner)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[0] < 30e6
    assert peaks[1] < 0.6 * peaks[0]


def test_retrieval_of_samples_with_captions_of_different_numbers() -> None:
    texts = dict(zip("abcd", np.eye(4), strict=True))
    samples = told(np.eye(4)[[0, 1, 2]], texts, captions=(("a", "d"), ("b",), ("c", "c")))
    found = {f.metric: f for f in retrieval.retrieval_of(samples)}
    assert found["image_to_text_recall_at_1"].value == 1.0
    assert found["image_to_text_recall_at_1"].n == 3
    assert found["text_to_image_recall_at_1"].n == 5
    # "d" is like no image: equally similar to all, which counts against it.
    assert found["text_to_image_recall_at_1"].value == 0.8
    keys = found["text_to_image_recall_at_1"].outcomes
    assert keys is not None
    assert keys.keys is not None
    assert keys.keys.ids == ("i0#0", "i0#1", "i1#0", "i2#0", "i2#1")
    assert keys.keys.units == ("i0", "i0", "i1", "i2", "i2")
    assert {f.condition for f in found.values()} == {samples.condition}
