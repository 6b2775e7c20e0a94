"""Subgroups: by hand, against SciPy's chi-square, by units, and with groups that are too small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers import coverage, group_answers, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.samples import Choice, SampleArrays
from pytest_cliprobust.properties import groups
from pytest_cliprobust.properties.calibration import calibration_figures
from pytest_cliprobust.properties.retrieval import retrieval_of

#: Of rates, whose intervals are not asked for here, so that a simulation takes less.
FEW = Bootstrap(replicates=200)


def test_worst_and_gap_by_hand() -> None:
    right, names = group_answers(("a", 30, 40), ("b", 10, 40), ("c", 36, 40))
    found = groups.accuracy_figures(right, names)
    worst, gap = found["worst_group_accuracy"], found["group_accuracy_gap"]
    assert (worst.value, worst.details["worst"]) == (0.25, "b")
    assert gap.value == pytest.approx(0.9 - 0.25)
    assert (gap.details["best"], gap.details["worst"]) == ("c", "b")
    assert gap.details["groups"]["a"]["accuracy"] == 0.75
    assert gap.details["groups"]["a"]["n"] == 40
    assert gap.details["groups"]["a"]["low"] < 0.75 < gap.details["groups"]["a"]["high"]
    assert gap.low <= gap.value <= gap.high
    # All groups' ends decide, wherever they stand: the least and the largest are not the first.
    assert 0.2 < gap.low < 0.5
    assert 0.75 < gap.high < 0.95
    assert gap.outcomes is not None
    assert gap.outcomes.value() == pytest.approx(gap.value)
    assert "simultaneous over 3 groups" in gap.method


def test_a_small_group_is_named_and_no_candidate() -> None:
    right, names = group_answers(("a", 30, 40), ("b", 20, 40), ("few", 0, 3))
    found = groups.accuracy_figures(right, names)
    for figure in found.values():
        assert figure.n == 80
        assert list(figure.details["small"]) == ["few"]
        assert figure.details["small"]["few"]["accuracy"] == 0.0
        # Nobody knows how the model does on these.
        assert figure.details["small"]["few"]["high"] > 0.5
        assert "left out, of fewer than 20 samples: few 0 [0, 0.6316]" in figure.method
        assert "n = 3" in figure.method
    assert found["worst_group_accuracy"].value == 0.5
    assert groups.accuracy_figures(right, names, minimum=3)["worst_group_accuracy"].value == 0.0
    with pytest.raises(NotRun, match=r"two groups of at least 41 samples .* and 0 of 3 have"):
        groups.accuracy_figures(right, names, minimum=41)


def test_units_not_samples_make_a_group_large() -> None:
    right, names = group_answers(("a", 30, 40), ("b", 20, 40))
    boot = Bootstrap(keys=keys_of(80, np.arange(80) // 4))
    with pytest.raises(NotRun, match="at least 20 drawings"):
        groups.accuracy_figures(right, names, bootstrap=boot)
    found = groups.accuracy_figures(right, names, minimum=10, bootstrap=boot)
    assert found["group_accuracy_gap"].units == 20
    assert found["group_accuracy_gap"].details["groups"]["a"]["units"] == 10


@pytest.mark.slow
def test_the_intervals_hold_the_true_worst_and_gap() -> None:
    truth = (0.9, 0.7, 0.68, 0.8)

    def draw(rng: np.random.Generator, metric: str) -> tuple[float, float]:
        right = np.concatenate([rng.random(50) < share for share in truth])
        names = [str(i // 50) for i in range(200)]
        split = groups._split(names, 200, 20, Bootstrap())
        assert len(split.large) == 4
        figure = groups.accuracy_figures(right, names)[metric]
        return figure.low, figure.high

    monkey = pytest.MonkeyPatch()
    monkey.setattr(groups, "equal_error_rates", lambda *a, **k: {"p_value": 1.0})
    try:
        assert coverage(lambda rng: draw(rng, "group_accuracy_gap"), 0.22, 200, 1) > 0.93
        assert coverage(lambda rng: draw(rng, "worst_group_accuracy"), 0.68, 200, 2) > 0.93
    finally:
        monkey.undo()


def scored(seed: int, count: int = 120) -> SampleArrays:
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3
    logits = rng.normal(size=(count, 3)) + 2.0 * np.eye(3)[truth]
    logits[: count // 2] = 3.0 * rng.normal(size=(count // 2, 3))  # one half is sure of its guesses
    column = tuple("ab"[i >= count // 2] for i in range(count))
    ids = tuple(f"i{i}" for i in range(count))
    return SampleArrays(
        Condition("clean"), ids, truth, logits, groups={"half": column, "one": ("x",) * count}
    )


def test_calibration_of_groups_is_that_of_their_samples() -> None:
    samples = scored(0)
    found = {f.metric: f for f in groups.calibration_over(samples, "half")}
    parts = [
        calibration_figures(samples.logits[s], samples.labels[s])
        for s in (slice(60), slice(60, 120))
    ]
    ece = [p["ece"].value for p in parts]
    gaps = [p["signed_gap"].value for p in parts]
    worst, gap = found["worst_group_ece"], found["group_confidence_gap"]
    assert worst.value == pytest.approx(max(ece))
    assert worst.details["worst"] == "ab"[int(np.argmax(ece))]
    assert gap.value == pytest.approx(max(gaps) - min(gaps))
    assert gap.details["groups"]["a"]["signed_gap"] == pytest.approx(gaps[0])
    for figure in found.values():
        assert figure.condition == Condition("clean").part("half")
        assert figure.low <= figure.value <= figure.high
        assert figure.n == 120
    assert gap.low > 0.0  # the halves differ for sure
    with pytest.raises(NotRun, match="1 of 1 have as many"):
        groups.calibration_over(samples, "one")
    with pytest.raises(NotRun, match="no column 'age' of groups; it has half, one"):
        groups.accuracy_over(samples, "age")


def test_changes_of_gaps() -> None:
    before, after = scored(0), scored(0)
    after.logits[:60] /= 3.0
    for metric, over in (
        ("group_confidence_gap", groups.calibration_over),
        ("group_accuracy_gap", groups.accuracy_over),
    ):
        old, new = (
            next(f for f in over(side, "half") if f.metric == metric) for side in (before, after)
        )
        change = change_between(new, old)
        assert change.paired
        assert change.difference == pytest.approx(new.value - old.value)
        ends = change.interval(0.95)
        assert ends.low <= change.difference <= ends.high
        assert (change.difference < 0.0) == (metric == "group_confidence_gap")
    assert ends.low <= 0.0 <= ends.high  # the same answers


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(2, 4), st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0])
)
def test_any_answers_have_figures(seed: int, kinds: int, each: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random(kinds * each) < share
    names = [str(i % kinds) for i in range(kinds * each)]
    for figure in groups.accuracy_figures(right, names, minimum=1).values():
        assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0
        if each == 1:
            assert figure.high - figure.low > 0.5


# --- Shape bias, retrieval, detection ---------------------------------------------------------------


def cues(decided: list[tuple[str, str]], style: str = "ab") -> SampleArrays:
    """Return conflicts of a cat's shape and a dog's surface; each was decided as said, in a style.

    A decision is ``shape``, ``texture`` or ``neither``.
    """
    column = {"shape": 0, "texture": 1, "neither": 2}
    logits = np.eye(3)[[column[own] for own, _ in decided]] * 9.0
    count = len(decided)
    return SampleArrays(
        Condition("cues"),
        tuple(f"i{row}" for row in range(count)),
        np.zeros(count, dtype=np.int64),
        logits,
        class_names=("cat", "dog", "owl"),
        groups={
            "shape_label": ("cat",) * count,
            # The owl takes part, so that a decision for neither can be made.
            "texture_label": ("dog",) * (count - 1) + ("owl",),
            "style": tuple(name for _, name in decided),
        },
    )


def test_shape_bias_of_groups_by_hand() -> None:
    a = [("shape", "a")] * 12 + [("texture", "a")] * 4 + [("neither", "a")] * 9
    b = [("shape", "b")] * 5 + [("texture", "b")] * 15
    samples = cues([*a, *b, ("shape", "b")])
    found = {f.metric: f for f in groups.shape_bias_over(samples, "style")}
    worst, gap = found["worst_group_shape_bias"], found["group_shape_bias_gap"]
    assert worst.value == pytest.approx(6 / 21)
    assert worst.details["worst"] == "b"
    assert worst.details["groups"]["a"]["n"] == 16  # those decided for a cue
    assert gap.value == pytest.approx(12 / 16 - 6 / 21)
    assert (gap.details["best"], gap.details["worst"]) == ("a", "b")
    for figure in found.values():
        assert figure.condition == Condition("cues").part("style")
        assert figure.low < figure.value < figure.high
        assert figure.outcomes is not None
        assert figure.outcomes.value() == pytest.approx(figure.value)
    with pytest.raises(NotRun, match="no image of group 'c' was decided"):
        groups.shape_bias_over(cues([*a, *[("neither", "c")] * 20, ("shape", "a")]), "style")
    with pytest.raises(NotRun, match="at least 16 samples"):
        groups.shape_bias_over(cues([*a, ("shape", "b")]), "style")


class Captioned(SampleArrays):
    """Pictures along the axes, and captions whose features are given."""

    features = np.eye(60)
    captions = tuple((f"{row}", f"{row} again") for row in range(60))
    choices: tuple[tuple[Choice, ...], ...] = ()
    wrong = frozenset(range(10, 25))

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        # A wrong caption looks like the next picture; its twin is right.
        rows = [int(text.split()[0]) for text in texts]
        return np.eye(60)[
            [row + 1 if row in self.wrong and "again" not in text else row
             for row, text in zip(rows, texts, strict=True)]
        ]  # fmt: skip


def test_retrieval_of_groups_by_hand() -> None:
    samples = Captioned(
        Condition("captioned"),
        tuple(f"i{row}" for row in range(60)),
        np.zeros(60, dtype=np.int64),
        np.zeros((60, 1)),
        groups={"half": ("a",) * 30 + ("b",) * 30},
    )
    found = {f.metric: f for f in groups.retrieval_over(samples, "half")}
    # Of the 60 captions of group a 15 find another picture; a tie counts against the model.
    worst = found["worst_group_text_to_image_recall_at_1"]
    assert (worst.value, worst.details["worst"], worst.n) == (0.75, "a", 120)
    assert found["group_text_to_image_recall_at_1_gap"].value == 0.25
    # Picture 11 to 25 has its own caption on top, and beside it the one that is wrong.
    ties = 15 / 30
    assert found["worst_group_image_to_text_recall_at_1"].value == pytest.approx(1 - ties)
    assert found["group_image_to_text_recall_at_1_gap"].value == pytest.approx(ties)
    whole = {f.metric: f.value for f in retrieval_of(samples)}
    both = found["worst_group_text_to_image_recall_at_1"].details["groups"]
    assert whole["text_to_image_recall_at_1"] == pytest.approx(
        np.mean([own["text_to_image_recall_at_1"] for own in both.values()])
    )
    assert all(figure.condition == Condition("captioned").part("half") for figure in found.values())


def scores_of_groups(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    shift = np.repeat([2.0, 1.0, 0.5], [40, 50, 30])
    return rng.normal(size=120) + shift, rng.normal(size=80), [f"g{s:.1f}" for s in shift]


def test_detection_of_groups_is_scikit_learns() -> None:
    inside, outside, names = scores_of_groups(3)
    found = groups.detection_by_group(inside, outside, names, "mcm")
    areas, rates = {}, {}
    for name in dict.fromkeys(names):
        own = inside[[other == name for other in names]]
        truth = [1] * len(own) + [0] * len(outside)
        areas[name] = roc_auc_score(truth, np.concatenate([own, outside]))
        rates[name] = (outside >= np.sort(own)[len(own) - math.ceil(0.95 * len(own))]).mean()
    worst, gap = found["worst_group_auroc_mcm"], found["group_auroc_gap_mcm"]
    assert worst.value == pytest.approx(min(areas.values()))
    assert worst.details["worst"] == min(areas, key=lambda name: areas[name])
    assert gap.value == pytest.approx(max(areas.values()) - min(areas.values()))
    most, spread = found["worst_group_fpr95_mcm"], found["group_fpr95_gap_mcm"]
    assert most.value == pytest.approx(max(rates.values()))
    assert spread.value == pytest.approx(max(rates.values()) - min(rates.values()))
    # Of rates the largest is the worst.
    assert spread.details["worst"] == max(rates, key=lambda name: rates[name])
    assert spread.details["best"] == min(rates, key=lambda name: rates[name])
    for figure in found.values():
        assert figure.n == 200
        assert figure.low <= figure.value <= figure.high
        assert figure.outcomes is not None
        assert figure.outcomes.value() == pytest.approx(figure.value)


def test_detection_says_whose_groups_and_leaves_small_ones_out() -> None:
    inside, outside = scored(1), replace(scored(2), condition=Condition("far_ood"))
    column = ("few",) * 5 + inside.groups["half"][5:]
    inside = replace(inside, groups={"half": column}, cosines=np.tanh(inside.logits))
    outside = replace(outside, cosines=np.tanh(outside.logits) / 2)
    found = groups.detection_over(inside, outside, "half", ["mcm"])
    assert [figure.metric for figure in found] == [
        *("worst_group_auroc_mcm", "group_auroc_gap_mcm"),
        *("worst_group_fpr95_mcm", "group_fpr95_gap_mcm"),
    ]
    for figure in found:
        assert figure.condition is not None
        assert figure.condition.dataset == "far_ood:clean:half"
        assert figure.condition.over == (inside.condition, outside.condition)
        assert "left out, of fewer than 20 samples: few, n = 5" in figure.method
        assert figure.n == 115 + 120


def test_detection_of_arrays_counts_samples_and_names_what_is_left_out() -> None:
    inside, outside, names = scores_of_groups(1)
    whole = groups.detection_by_group(inside, outside, names, "mcm")
    assert not any("left out" in figure.method for figure in whole.values())
    names = ["few"] * 5 + list(names)[5:]
    for figure in groups.detection_by_group(inside, outside, names, "mcm").values():
        assert figure.method.endswith("; left out, of fewer than 20 samples: few, n = 5")


@pytest.mark.parametrize("worse", [0.0, 2.0])
def test_changes_of_worst_groups(worse: float) -> None:
    inside, outside, names = scores_of_groups(4)
    boot = Bootstrap(keys=keys_of(200))
    before = groups.detection_by_group(inside, outside, names, "mcm", bootstrap=boot)
    lower = inside - worse * (np.arange(120) < 40)
    after = groups.detection_by_group(lower, outside, names, "mcm", bootstrap=boot)
    for metric, figure in after.items():
        change = change_between(figure, before[metric])
        assert change.paired
        assert change.difference == pytest.approx(figure.value - before[metric].value)
        ends = change.interval(0.95)
        assert ends.low <= change.difference <= ends.high
        if not worse:
            assert change.difference == 0.0
        elif metric == "worst_group_auroc_mcm":
            # The best group became the worst: from 0.6 to 0.5 or so, its own change being -0.4.
            assert change.difference < -0.05
            assert ends.low < -0.3


def test_a_change_of_shape_bias_is_between_those_of_the_groups() -> None:
    decided = [("shape", "a")] * 20 + [("texture", "a")] * 20 + [("shape", "b")] * 30
    before = groups.shape_bias_over(cues([*decided, ("texture", "b")]), "style")
    turned = [("texture", name) for _, name in decided[:10]] + decided[10:]
    after = groups.shape_bias_over(cues([*turned, ("texture", "b")]), "style")
    worst, gap = (change_between(new, old) for new, old in zip(after, before, strict=True))
    assert worst.difference == pytest.approx(-0.25)
    assert gap.difference == pytest.approx(0.25)
    assert worst.interval(0.95).high <= 0.1
    assert worst.interval(0.95).low < -0.25 < worst.interval(0.95).high


@pytest.mark.slow
def test_the_intervals_hold_the_true_worst_group_of_detection() -> None:
    truth = float(norm.cdf(0.5 / math.sqrt(2)))  # both normal, half a deviation apart

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        inside = rng.normal(size=100) + np.repeat([0.5, 0.6], 50)
        found = groups.detection_by_group(
            inside, rng.normal(size=60), ["a"] * 50 + ["b"] * 50, "mcm", bootstrap=FEW
        )
        figure = found["worst_group_auroc_mcm"]
        return figure.low, figure.high

    assert coverage(draw, truth, 100, 3) > 0.93


class Divided(SampleArrays):
    """Samples of which three columns may be compared, one of them with too few samples each."""

    subgroups: tuple[str, ...] = ("few", "style", "number", "one")


def divided(count: int = 60) -> Divided:
    return Divided(
        Condition("clean"),
        tuple(f"i{row}" for row in range(count)),
        np.arange(count) % 3 % 2,
        np.eye(2)[np.arange(count) % 2],
        class_names=("cat", "dog"),
        groups={
            "few": tuple(str(row % 7) for row in range(count)),
            "style": tuple("ab"[row % 2] for row in range(count)),
            "number": tuple(map(str, range(count))),
            "one": ("same",) * count,
        },
    )


def test_every_column_that_can_be_compared_is() -> None:
    samples = divided()
    compared = groups.over_columns(samples, lambda c: groups.accuracy_over(samples, c))
    assert {str(figure.condition) for figure in next(compared)} == {"clean:style"}
    with pytest.raises(NotRun, match="two groups of at least 20"):
        next(compared)
    asked: list[str] = []

    def ask(column: str) -> list[Figure]:
        asked.append(column)
        return []

    assert list(groups.over_columns(samples, ask)) == [[], []]
    assert asked == ["few", "style"]
    samples.subgroups = ("number", "one")
    compared = groups.over_columns(samples, lambda c: groups.accuracy_over(samples, c))
    with pytest.raises(NotRun, match="clean has no column of two to 50 subgroups"):
        next(compared)
