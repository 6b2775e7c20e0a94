"""Choices between captions and Winoground's scores: models that know all, nothing, or the words only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from captioned import Told, told
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import Choice
from pytest_cliprobust.properties import compositional
from pytest_cliprobust.properties.captions import caption_drop
from pytest_cliprobust.properties.retrieval import retrieval_of


def by_kind(figures: list[Figure]) -> dict[str, Figure]:
    return {f.condition.dataset: f for f in figures if f.condition is not None}


def embedded_under(truth: float, seed: int = 0) -> Told:
    """The embedded pictures under a model that knows how true a text is; its bias is the text's alone."""
    data = EmbeddedDataset("compositional", limit=60, size=32)
    rng = np.random.default_rng(seed)
    true = [{c.true for c in own} | set(data.captions[i]) for i, own in enumerate(data.choices)]
    every = dict.fromkeys(
        [t for own in data.choices for c in own for t in (c.true, *c.false)]
        + [t for own in data.captions for t in own]
    )
    width = len(data) + 1
    texts = {
        text: np.array([truth * (text in known) for known in true] + [1.0 + rng.random()])
        for text in every
    }
    # All of equal length, so that a cosine is what was meant.
    texts = {
        text: np.append(row / 10.0, np.sqrt(100.0 - (row / 10.0) @ (row / 10.0)))
        for text, row in texts.items()
    }
    features = np.eye(width + 1)[: len(data)] + np.eye(width + 1)[width - 1]
    return Told(
        Condition("compositional"),
        data.ids,
        np.array(data.labels),
        np.zeros((len(data), 134)),
        groups=data.groups,
        units=data.units,
        features=features,
        captions=data.captions,
        choices=data.choices,
        texts=texts,
    )


def test_a_model_that_knows_what_is_true_has_all_right() -> None:
    samples = embedded_under(5.0)
    found = by_kind(compositional.choices_of(samples))
    assert {name.partition(":")[2] for name in found} == {
        *("relation", "swap", "object", "attribute", "order", "negation")
    }
    assert {figure.value for figure in found.values()} == {1.0}
    assert {figure.n for figure in found.values()} == {60}
    assert {figure.units for figure in found.values()} == {30}
    assert {f.value for f in compositional.matching_of(samples)} == {1.0}
    for figure in retrieval_of(samples):
        assert figure.value == 1.0  # recall, and the median rank


def test_a_model_that_reads_the_words_only_has_half_right() -> None:
    samples = embedded_under(0.0)
    found = by_kind(compositional.choices_of(samples))
    for kind in ("relation", "swap", "attribute"):
        figure = found[f"compositional:{kind}"]
        assert figure.value == 0.5
        assert figure.details["chance"] == 0.5
        assert "chance 0.5" in figure.method
    # It likes one caption more whatever the picture, and no picture more than another.
    scores = {f.metric: f.value for f in compositional.matching_of(samples)}
    assert scores == dict.fromkeys(scores, 0.0)


def test_choices_by_hand() -> None:
    figure = compositional.choice_figure([[0.9, 0.1], [0.2, 0.2], [0.1, 0.3], [0.5, 0.4, 0.3, 0.2]])
    assert figure.value == 0.5  # a tie is no answer
    assert figure.n == 4
    assert figure.details["chance"] == pytest.approx((0.5 + 0.5 + 0.5 + 0.25) / 4)
    assert figure.low < 0.16
    assert figure.high > 0.84
    for wrong, words in (
        ([], "no choices"),
        ([[0.5]], "choice 0 needs the finite similarities of two captions"),
        ([[0.5, 0.1], [np.nan, 0.1]], "choice 1 needs the finite"),
    ):
        with pytest.raises(ClipRobustError, match=words):
            compositional.choice_figure(wrong)


def test_choices_of_several_kinds_and_lengths() -> None:
    texts = dict(zip("abcd", np.eye(4), strict=True))
    choices = (
        (Choice("one", "a", ("b", "c")),),
        (Choice("two", "b", ("a",)), Choice("one", "c", ("d",))),
        (),
    )
    samples = told(np.eye(4)[[0, 1, 2]], texts, choices=choices)
    found = by_kind(compositional.choices_of(samples))
    assert found["mine:one"].value == 0.5
    assert found["mine:one"].n == 2
    assert found["mine:one"].details["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["mine:two"].value == 1.0
    twice = ((Choice("one", "a", ("b",)), Choice("one", "a", ("c",))),)
    with pytest.raises(ClipRobustError, match="two choices of the kind 'one'"):
        compositional.choices_of(told(np.eye(4)[[0]], texts, choices=twice))
    with pytest.raises(NotRun, match="mine poses no choices between captions"):
        compositional.choices_of(told(np.eye(4)[[0]], texts, choices=((),)))


SIMILARITIES = arrays(
    np.float64, st.tuples(st.integers(1, 8), st.just(2), st.just(2)), elements=st.integers(-3, 3)
)


@settings(max_examples=80, deadline=None)
@given(SIMILARITIES)
def test_winoground_scores_are_those_of_a_loop(scores: np.ndarray) -> None:
    """In the terms of Thrush et al. (2022), section 4: s(caption, image)."""
    text = image = group = 0
    for s in scores:
        t = s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1]
        i = s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]
        text, image, group = text + t, image + i, group + (t and i)
    found = compositional.matching_figures(scores)
    assert {name: round(f.value * len(scores)) for name, f in found.items()} == {
        "matching_text_score": text,
        "matching_image_score": image,
        "matching_group_score": group,
    }
    assert set(found) <= set(METRICS)


def test_chance_of_the_scores() -> None:
    found = compositional.matching_figures(np.random.default_rng(0).normal(size=(20_000, 2, 2)))
    for figure in found.values():
        assert figure.details["chance"] == METRICS[figure.metric].chance
        assert figure.value == pytest.approx(figure.details["chance"], abs=0.01)


def test_scores_of_each_pattern_follow_those_of_all_pairs() -> None:
    """Two pairs of one pattern right and wrong, one of another right; by hand."""
    texts = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    captions = (("a",), ("b",)) * 3
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    samples = told(features, texts, captions=captions, pairs=tuple("xxyyzz"))
    groups = {**samples.groups, "pattern": ("Color", "Color", "Color", "Color", "Texts", "Texts")}
    found = compositional.matching_of(replace(samples, groups=groups))
    values = {(f.condition.dataset, f.metric): (f.value, f.n) for f in found if f.condition}
    whole = samples.condition.dataset
    for metric in ("matching_text_score", "matching_image_score", "matching_group_score"):
        assert values[whole, metric] == (2 / 3, 3)
        assert values[f"{whole}:Color", metric] == (0.5, 2)
        assert values[f"{whole}:Texts", metric] == (1.0, 1)
    assert len(found) == 9


def test_pairs_are_found_by_their_column() -> None:
    texts = dict(zip("abc", np.eye(3), strict=True))
    captions = (("a",), ("b",), ("c",), ("a",))
    features = np.eye(3)[[0, 1, 2, 0]]
    samples = told(features, texts, captions=captions, pairs=("x", "y", "x", "z"))
    found = compositional.matching_of(samples)
    assert [f.n for f in found] == [1, 1, 1]  # y and z are alone
    assert [f.value for f in found] == [1.0, 1.0, 1.0]
    assert found[0].outcomes is not None
    assert found[0].outcomes.keys == SampleKeys(("i0+i2",), ("i0",))
    with pytest.raises(ClipRobustError, match="a pair is of two samples"):
        compositional.matching_of(told(features, texts, captions=captions, pairs=("x",) * 4))
    with pytest.raises(NotRun, match="no whole pair"):
        compositional.matching_of(told(features, texts, captions=captions, pairs=tuple("wxyz")))
    with pytest.raises(NotRun, match="column 'pair'"):
        compositional.matching_of(told(features, texts, captions=captions))
    with pytest.raises(ClipRobustError, match=r"shape \(P, 2, 2\), got \(3, 2\)"):
        compositional.matching_figures(np.zeros((3, 2)))
    with pytest.raises(ClipRobustError, match="not finite"):
        compositional.matching_figures(np.full((1, 2, 2), np.inf))


class Keyed(Told):
    """Samples that know what they were drawn from, and what is in them."""

    @property
    def bootstrap(self) -> Bootstrap:
        """Two samples of each drawing, the digest of each its letter."""
        digests = tuple("abcdefgh"[: len(self.ids)])
        return Bootstrap(replicates=30, keys=SampleKeys(self.ids, self.units, digests, "drawing"))


class Nobody(Told):
    """Samples of which nothing is known."""

    @property
    def bootstrap(self) -> Bootstrap:
        """Without keys."""
        return Bootstrap(replicates=30)


def test_a_pair_is_of_its_first_samples_drawing_and_of_both_contents() -> None:
    texts = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    made = told(
        *(np.eye(2)[[0, 1] * 4], texts), captions=(("a",), ("b",)) * 4, pairs=tuple("xyxyzwzw")
    )
    samples = Keyed(**{**vars(made), "units": ("u", "u", "v", "v", "u", "u", "w", "w")})
    first, *_ = compositional.matching_of(samples)
    assert first.outcomes is not None
    assert first.outcomes.keys == SampleKeys(
        ("i0+i2", "i1+i3", "i4+i6", "i5+i7"),
        ("u", "u", "u", "u"),
        ("ac", "bd", "eg", "fh"),
        "drawing",
    )
    assert (first.n, first.units) == (4, 1)
    # Who the samples are need not be known.
    nobody = Nobody(**vars(made))
    alone, *_ = compositional.matching_of(nobody)
    assert (alone.value, alone.n) == (first.value, 4)
    assert alone.outcomes is None or alone.outcomes.keys is None


def test_without_captions_nothing_is_retrieved() -> None:
    samples = told(np.eye(2), {})
    for call in (retrieval_of, lambda s: caption_drop(s, "caption_typos")):
        with pytest.raises(NotRun, match="mine has no captions to retrieve"):
            call(samples)
    assert samples.bootstrap == Bootstrap(keys=samples.keys)
