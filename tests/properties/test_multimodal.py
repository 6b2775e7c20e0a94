"""Hard choices: which pairs are asked, what an answer names, and the figures in closed form."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import keys_of
from hypothesis import given
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties.multimodal import (
    Answer,
    ChoiceAnswers,
    HardChoices,
    clip_scores,
    confused_classes,
    hard_choices,
    multimodal_figures,
    multimodal_of,
    named_option,
)

NAMES = ("ant", "bee", "cat", "dog")
#: Answers of a CLIP: ants are taken for bees twice and for cats once, bees for ants and for dogs, cats for
#: nothing else.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
ANSWERS = np.array([1, 1, 2, 0, 0, 3, 1, 2, 2, 0])


def scores_of(answers: list[int] | np.ndarray, classes: int = 4) -> Floats:
    """Return scores (N, classes) of which ``answers`` are the largest."""
    scores = np.zeros((len(answers), classes))
    scores[np.arange(len(answers)), answers] = 1.0
    return scores


def samples_of(scores: Floats, labels: np.ndarray = LABELS) -> SampleArrays:
    ids = tuple(f"image{i}" for i in range(len(labels)))
    return SampleArrays(Condition("clean"), ids, labels, scores, class_names=NAMES)


def test_the_class_that_a_class_is_taken_for_most_often() -> None:
    scores = scores_of(ANSWERS)
    scores[4:7, 3] += 0.5  # a bee looks more like a dog than like an ant
    found, tied = confused_classes(scores, LABELS)
    assert found.tolist() == [1, 3, -1, 0]
    assert tied == (1,)


def test_a_tie_without_a_difference_goes_to_the_first_class() -> None:
    found, tied = confused_classes(scores_of([2, 1]), [0, 0])
    assert found.tolist() == [1, -1, -1, -1]
    assert tied == (0,)


def test_classes_that_are_called_alike_are_no_choice() -> None:
    # ImageNet has two cranes: to take one for the other is an error, but no question.
    texts = ("crane", "crane", "cat", "dog")
    found, _ = confused_classes(scores_of([1, 1, 1, 2]), [0, 0, 0, 0], texts)
    assert found.tolist() == [2, -1, -1, -1]
    assert confused_classes(scores_of([1, 1]), [0, 0], texts)[0].tolist() == [-1] * 4


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_confusions_against_a_plain_count(rows: list[tuple[int, int]]) -> None:
    labels, answers = map(list, zip(*rows, strict=True))
    found, tied = confused_classes(scores_of(answers), labels)
    for label in range(4):
        wrong = Counter(a for t, a in rows if t == label and a != label)
        if not wrong:
            assert found[label] == -1
            assert label not in tied
            continue
        most = max(wrong.values())
        assert wrong[int(found[label])] == most
        assert (label in tied) == (list(wrong.values()).count(most) > 1)


@pytest.mark.parametrize(
    ("labels", "texts", "message"),
    [
        ([0, 4], (), "labels"),
        ([0, -1], (), "labels"),
        ([0, 1], ("a", "b"), "2 class texts for 4 classes"),
    ],
)
def test_mistakes_are_told(labels: list[int], texts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ClipRobustError, match=message):
        confused_classes(scores_of([0, 1]), labels, texts)


def test_all_samples_of_confused_classes_are_asked_about() -> None:
    choices = hard_choices(samples_of(scores_of(ANSWERS)))
    assert choices.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 9]  # no cat
    assert choices.true.tolist() == [0, 0, 0, 0, 1, 1, 1, 3]
    assert choices.other.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert choices.unconfused == (2,)
    assert choices.tied == (1,)
    right = clip_scores(samples_of(scores_of(ANSWERS)), choices)
    # An ant taken for a cat: the bee and the ant score alike, which is not right.
    assert right.tolist() == [False, False, False, True, False, False, True, False]


def test_pairs_may_come_from_other_samples() -> None:
    perfect = samples_of(scores_of(LABELS))
    choices = hard_choices(perfect, chosen_on=samples_of(scores_of(ANSWERS)))
    assert choices.true.tolist() == [0, 0, 0, 0, 1, 1, 1, 3]
    assert clip_scores(perfect, choices).all()


def test_a_perfect_clip_has_no_hard_choices() -> None:
    with pytest.raises(
        NotRun, match=r"needs classes that the model confuses.* all 10 samples of clean"
    ):
        hard_choices(samples_of(scores_of(LABELS)))


ANT, BEE = ("an ant", "ant"), ("a bee", "bee")


@pytest.mark.parametrize(
    ("answer", "true", "other", "names"),
    [
        ("an ant", ANT, BEE, Answer.TRUE),
        ("Bee.", ANT, BEE, Answer.OTHER),
        ("It is an ANT, not a bee", ANT, BEE, Answer.BOTH),
        ("a giant beetle", ANT, BEE, Answer.NEITHER),
        ("", ANT, BEE, Answer.NEITHER),
        ("Yes", ANT, BEE, Answer.NEITHER),
        ("ants", ANT, BEE, Answer.NEITHER),
        # The longer option covers the shorter one.
        ("an apple pie", ("an apple",), ("an apple pie",), Answer.OTHER),
        ("An apple.", ("an apple",), ("an apple pie",), Answer.TRUE),
        ("an apple, or an apple pie", ("an apple",), ("an apple pie",), Answer.BOTH),
        # By its name without what goes before it in a sentence, and with other hyphens.
        ("skis", ("a pair of skis", "skis"), ("a sled",), Answer.TRUE),
        ("Four leaf clover", ("a four-leaf clover",), ("a rose",), Answer.TRUE),
        ("the jack-o'-lantern", ("a jack-o'-lantern",), ("a rose",), Answer.TRUE),
        # A class may be called like an article, or hold what means something in a pattern.
        ("The A", ("the", "The A"), ("b",), Answer.TRUE),
        ("c++", ("c++",), ("d",), Answer.TRUE),
        # Signs alone are no words, and two options that are called alike cannot be told apart.
        ("maybe", ("?",), ("a bee",), Answer.NEITHER),
        ("a crane", ("a crane",), ("the crane",), Answer.BOTH),
    ],
)
def test_what_an_answer_names(
    answer: str, true: tuple[str, ...], other: tuple[str, ...], names: Answer
) -> None:
    assert named_option(answer, true, other) == names
    swapped = {Answer.TRUE: Answer.OTHER, Answer.OTHER: Answer.TRUE}
    assert named_option(answer, other, true) == swapped.get(names, names)


@given(st.text(), st.text(min_size=1), st.text(min_size=1))
def test_any_text_names_something_or_nothing(answer: str, true: str, other: str) -> None:
    assert named_option(answer, [true], [other]) in list(Answer)


def choices_of(count: int, others: int = 1) -> HardChoices:
    rows = np.arange(count)
    return HardChoices(rows, rows % 2, np.full(count, 2) + rows % others, (3,), (0,))


def answers_of(right: np.ndarray, words: np.ndarray | None = None) -> ChoiceAnswers:
    """Return answers whose likelihoods settle the choices where ``right`` (M, 2) is 1, or 0.5."""
    apart = np.asarray(right, np.float64) - 0.5
    likelihoods = np.stack([apart - 3.0, -apart - 3.0], axis=-1)
    codes = np.where(np.asarray(right) == 1, Answer.TRUE, Answer.OTHER) if words is None else words
    said = tuple((f"first {i}", f"second {i}") for i in range(len(apart)))
    return ChoiceAnswers(likelihoods, np.asarray(codes), said, {"model": "mine"})


RIGHT = np.array([[1, 1], [1, 0], [0, 1], [0, 0], [1, 0.5], [1, 1], [0, 0], [1, 0]])
CLIP = np.array([True, False, True, True, False, False, False, True])
WORDS = np.array([[1, 1], [3, 0], [0, 0], [2, 2], [1, 3], [1, 1], [2, 2], [1, 2]])


def test_figures_are_what_they_say() -> None:
    figures = multimodal_figures(choices_of(8), answers_of(RIGHT, WORDS), CLIP, NAMES)
    values = {name: figure.value for name, figure in figures.items()}
    likely = [1, 0.5, 0.5, 0, 0.75, 1, 0, 0.5]
    assert values["lmm_accuracy"] == pytest.approx(np.mean(likely))
    assert values["clip_choice_accuracy"] == 0.5
    assert values["lmm_gain"] == pytest.approx(np.mean(likely) - 0.5)
    # Rows that only one of them settles, half rows where the order decides.
    assert values["lmm_gained"] == pytest.approx((0.5 + 0.75 + 1 + 0) / 8)
    assert values["lmm_lost"] == pytest.approx((0 + 0.5 + 1 + 0.5) / 8)
    assert values["lmm_gain"] == pytest.approx(values["lmm_gained"] - values["lmm_lost"])
    assert values["lmm_by_position"] == 4 / 8
    assert values["lmm_order_gap"] == pytest.approx((5 - 3) / 8)
    assert values["lmm_generated_accuracy"] == 6 / 16
    assert values["lmm_named_both"] == 2 / 16
    assert values["lmm_named_neither"] == 3 / 16
    assert set(values) <= set(METRICS)
    for figure in figures.values():
        assert figure.n == 8
        low, high = METRICS[figure.metric].bounds
        assert low <= figure.low <= figure.value <= figure.high <= high
    assert figures["lmm_accuracy"].details == {
        "by_order": {"true option first": 5 / 8, "true option second": 3.5 / 8},
        "model": "mine",
    }
    assert figures["lmm_by_position"].details == {"first": 3 / 8, "second": 1 / 8}
    assert figures["lmm_named_neither"].details["said"] == ["second 1", "first 2", "second 2"]


def test_one_sample_of_each_class_leaves_the_clip_nothing_to_settle() -> None:
    """Its only sample is wrong, or the class would not be asked about: 0 whatever the model is."""
    ids, labels = tuple("abcd"), np.array([0, 1, 2, 3])
    scores = np.eye(4)[[1, 0, 2, 2]]
    alone = SampleArrays(Condition("clean"), ids, labels, scores)
    choices = hard_choices(alone)
    assert choices.single
    assert not clip_scores(alone, choices).any()
    figures = multimodal_figures(
        choices, answers_of(np.ones((3, 2))), clip_scores(alone, choices), NAMES
    )
    assert len(figures) == 10
    for metric, figure in figures.items():
        gains = metric in ("clip_choice_accuracy", "lmm_gain", "lmm_gained", "lmm_lost")
        assert ("0 by selection (one sample of each class)" in figure.method) == gains
    # Four more, of which the first of each class is asked about: the pairs come of all.
    more = SampleArrays(
        Condition("clean"),
        tuple("abcdefgh"),
        np.tile(labels, 2),
        np.eye(4)[[0, 0, 2, 2, 1, 1, 2, 3]],
    )
    asked = SampleArrays(Condition("clean"), ids, labels, more.logits[:4])
    found = hard_choices(asked, chosen_on=more)
    assert not found.single
    assert clip_scores(asked, found).tolist() == [True, False, False]
    assert not hard_choices(more).single


def test_gains_of_a_model_on_another_encoder_say_so() -> None:
    answers = answers_of(RIGHT, WORDS)
    other = replace(answers, about={**answers.about, "sees_through": "reference"})
    own, told = (multimodal_figures(choices_of(8), a, CLIP, NAMES) for a in (answers, other))
    for name, figure in told.items():
        assert (figure.value, figure.low, figure.high) == (
            own[name].value,
            own[name].low,
            own[name].high,
        )
        says = name in ("lmm_gain", "lmm_gained", "lmm_lost")
        assert ("of two encoders (the multimodal model has reference's)" in figure.method) == says
    assert told["lmm_gain"].details["sees_through"] == "reference"
    assert "sees_through" not in own["lmm_gain"].details


def test_shares_have_textbook_intervals() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((400, 1)) < 0.7).astype(float).repeat(2, axis=1)
    figure = multimodal_figures(choices_of(400), answers_of(right), right[:, 0] == 1, NAMES)
    share = right[:, 0].mean()
    half = 1.96 * math.sqrt(share * (1 - share) / 400)
    accuracy = figure["lmm_accuracy"]
    assert accuracy.low == pytest.approx(share - half, abs=0.006)
    assert accuracy.high == pytest.approx(share + half, abs=0.006)
    # Nothing was gained, and nothing depends on the order; neither is certain.
    for name in ("lmm_gain", "lmm_order_gap", "lmm_by_position"):
        assert figure[name].value == 0.0
        assert figure[name].high > 0.0
    assert figure["lmm_gain"].low < 0.0


def test_an_always_first_answer_is_half_right_and_all_position() -> None:
    first = np.tile([1.0, 0.0], (50, 1))
    figures = multimodal_figures(choices_of(50), answers_of(first), np.ones(50, bool), NAMES)
    assert figures["lmm_accuracy"].value == 0.5
    assert figures["lmm_by_position"].value == 1.0
    assert figures["lmm_by_position"].details == {"first": 1.0, "second": 0.0}
    assert figures["lmm_order_gap"].value == 1.0


def test_equal_likelihoods_are_half_right() -> None:
    figures = multimodal_figures(
        choices_of(6), answers_of(np.full((6, 2), 0.5)), np.zeros(6, bool), NAMES
    )
    assert figures["lmm_accuracy"].value == 0.5
    assert figures["lmm_by_position"].value == 0.0


def test_pairs_say_what_became_of_each() -> None:
    pairs = multimodal_figures(choices_of(8), answers_of(RIGHT), CLIP, NAMES)["lmm_gain"].details
    assert pairs["classes_without_confusion"] == 1
    assert pairs["classes_with_ties"] == 1
    ant, bee = sorted(pairs["pairs"], key=lambda pair: pair["class"])
    assert ant == {
        "class": 0,
        "name": "ant",
        "other": 2,
        "other_name": "cat",
        "n": 4,
        "clip": 0.5,
        "lmm": pytest.approx((1 + 0.5 + 0.75 + 0) / 4),
        "gained": pytest.approx(0.75 / 4),
        "lost": pytest.approx(0.5 / 4),
    }
    assert bee["n"] == 4
    changes = [abs(pair["lmm"] - pair["clip"]) for pair in pairs["pairs"]]
    assert changes == sorted(changes, reverse=True)


def test_what_does_not_fit_is_refused() -> None:
    good = answers_of(RIGHT)
    with pytest.raises(ClipRobustError, match="no hard choices"):
        multimodal_figures(choices_of(0), answers_of(np.empty((0, 2))), [], NAMES)
    with pytest.raises(ClipRobustError, match="7 choices in two orders"):
        multimodal_figures(choices_of(7), good, CLIP[:7], NAMES)
    with pytest.raises(ClipRobustError, match="3 answers of the CLIP to 8 choices"):
        multimodal_figures(choices_of(8), good, CLIP[:3], NAMES)
    # Either of the two may be of something else.
    fewer = replace(good, likelihoods=good.likelihoods[:7])
    other = replace(good, words=good.words[:, :1])
    for answers, shapes in (
        (fewer, r"likelihoods \(7, 2, 2\) and answers \(8, 2\)"),
        (other, r"likelihoods \(8, 2, 2\) and answers \(8, 1\)"),
    ):
        with pytest.raises(ClipRobustError, match=f"^8 choices in two orders, but {shapes}"):
            multimodal_figures(choices_of(8), answers, CLIP, NAMES)
    broken = good.likelihoods.copy()
    broken[5, 1, 0] = math.nan
    with pytest.raises(ClipRobustError, match="likelihoods of choice 5 are NaN"):
        multimodal_figures(choices_of(8), replace(good, likelihoods=broken), CLIP, NAMES)


def test_a_view_files_its_figures_and_keeps_its_rows() -> None:
    samples = samples_of(scores_of(ANSWERS))
    choices = hard_choices(samples)
    right = np.ones((len(choices), 2))
    figures = multimodal_of(samples, choices, answers_of(right))
    for figure in figures.values():
        assert figure.condition == samples.condition
        assert figure.outcomes is not None
        assert figure.outcomes.keys is not None
        assert figure.outcomes.keys.ids == tuple(samples.ids[row] for row in choices.rows)
    assert figures["clip_choice_accuracy"].value == 2 / 8


@dataclass(frozen=True)
class Known(SampleArrays):
    """Samples whose contents are known."""

    digests: tuple[str, ...] = ()

    @property
    def keys(self) -> SampleKeys:
        """Who the samples are, and what is in them."""
        return SampleKeys(self.ids, self.units, self.digests)


@dataclass(frozen=True)
class Nameless(SampleArrays):
    """Samples that nobody knows again."""

    @property
    def bootstrap(self) -> Bootstrap:
        """How intervals are made."""
        return Bootstrap()


def test_runs_are_compared_on_the_questions_that_both_asked() -> None:
    """Another CLIP confuses other classes: what was asked about a sample is part of what it is."""
    before = samples_of(scores_of(ANSWERS))
    other = ANSWERS.copy()
    other[:2] = 3  # ants are taken for dogs now
    after = samples_of(scores_of(other))
    figures = []
    for samples in (before, after):
        choices = hard_choices(samples)
        right = np.ones((len(choices), 2))
        figures.append(multimodal_of(samples, choices, answers_of(right))["lmm_accuracy"])
    change = change_between(figures[1], figures[0])
    assert change.paired
    assert change.n == 4  # three bees and a dog
    same = change_between(figures[0], figures[0])
    assert same.n == 8
    # The digests are of what is in the samples, where that is known, and of the other option.
    outcomes = figures[1].outcomes
    assert outcomes is not None
    assert outcomes.keys is not None
    assert outcomes.keys.digests[:2] == ("image0 or dog", "image1 or dog")
    # Samples that nobody knows again are measured all the same, and are in no other run.
    nameless = Nameless(**vars(before))
    told = multimodal_of(nameless, hard_choices(nameless), answers_of(np.ones((8, 2))))
    assert told["lmm_accuracy"].value == figures[0].value
    assert told["lmm_accuracy"].outcomes is None or told["lmm_accuracy"].outcomes.keys is None
    digests = tuple(f"{i:02x}" for i in range(len(before.ids)))
    known = Known(**vars(before), digests=digests)
    told = multimodal_of(known, hard_choices(known), answers_of(np.ones((8, 2))))
    outcomes = told["lmm_accuracy"].outcomes
    assert outcomes is not None
    assert outcomes.keys is not None
    assert outcomes.keys.digests[::7] == ("00 or bee", "09 or ant")


def test_units_are_resampled_whole() -> None:
    right = np.repeat([[1.0, 1.0], [0.0, 0.0]], 20, axis=0)
    single = multimodal_figures(
        choices_of(40),
        answers_of(right),
        right[:, 0] == 1,
        NAMES,
        bootstrap=Bootstrap(keys=keys_of(40)),
    )["lmm_accuracy"]
    whole = multimodal_figures(
        choices_of(40),
        answers_of(right),
        right[:, 0] == 1,
        NAMES,
        bootstrap=Bootstrap(keys=keys_of(40, [i // 4 for i in range(40)])),
    )["lmm_accuracy"]
    assert whole.units == 10
    assert whole.high - whole.low > 1.5 * (single.high - single.low)
