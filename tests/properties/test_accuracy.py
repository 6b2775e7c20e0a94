"""Accuracy, drops, corruption errors and grids against loops, scikit-learn and hand examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import (
    drawn_rows,
    drawn_samples,
    keys_of,
    replicates_of,
    share_ends,
    times_as_wide,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap, bootstrap_figure
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.clusters import design_effect_of_share
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.properties import accuracy as acc

RNG = np.random.default_rng(0)


def _case(n: int = 200, classes: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    scores = rng.normal(size=(n, classes))
    scores[np.arange(n), labels] += 1.0
    return scores, labels


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_matches_scikit_learn(k: int) -> None:
    scores, labels = _case()
    figure = acc.accuracy(scores, labels, k=k)
    assert figure.value == pytest.approx(
        top_k_accuracy_score(labels, scores, k=k, labels=np.arange(8)), abs=1e-12
    )
    assert figure.metric == ("accuracy" if k == 1 else f"top{k}_accuracy")
    assert (figure.n, figure.confidence) == (200, 0.95)
    ends = wilson(round(figure.value * 200), 200)
    assert (figure.low, figure.high) == pytest.approx((ends.low, ends.high))


def test_ties_go_to_the_first_class_on_every_machine() -> None:
    scores = np.zeros((4, 4))
    np.testing.assert_array_equal(
        acc.correct_top_k(scores, [0, 1, 2, 3], 1), [True, False, False, False]
    )
    np.testing.assert_array_equal(
        acc.correct_top_k(scores, [0, 1, 2, 3], 3), [True, True, True, False]
    )


def test_duplicate_class_names_have_exact_ties_and_one_of_them_wins() -> None:
    scores = np.array([[0.2, 0.9, 0.9]])
    assert acc.correct_top_k(scores, [1])[0]
    assert not acc.correct_top_k(scores, [2])[0]
    assert acc.correct_top_k(scores, [2], 2)[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_accuracy_ignores_sample_order_and_monotone_transforms(seed: int, k: int) -> None:
    scores, labels = _case(40, 5, seed)
    order = np.random.default_rng(seed).permutation(40)
    base = acc.accuracy(scores, labels, k=k)
    assert acc.accuracy(scores[order], labels[order], k=k).value == base.value
    assert acc.accuracy(np.exp(scores / 10), labels, k=k).value == base.value
    doubled = acc.accuracy(np.tile(scores, (2, 1)), np.tile(labels, 2), k=k)
    assert doubled.value == base.value
    assert doubled.high - doubled.low < base.high - base.low


def test_balanced_accuracy_matches_scikit_learn_and_lists_classes() -> None:
    scores, labels = _case(150, 6, 3)
    labels[labels == 5] = 4  # a class without samples does not count
    figure = acc.balanced_accuracy(scores, labels)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        expected = balanced_accuracy_score(labels, scores.argmax(1))
    assert figure.value == pytest.approx(expected, abs=1e-12)
    assert [entry["class"] for entry in figure.details["per_class"]] == [0, 1, 2, 3, 4]
    assert sum(entry["n"] for entry in figure.details["per_class"]) == 150
    assert figure.low < figure.value < figure.high
    assert (figure.method, figure.replicates) == ("t, skewness corrected", ())
    right = scores.argmax(1) == labels
    for entry in figure.details["per_class"]:
        assert entry["n"] == (labels == entry["class"]).sum()
        assert entry["accuracy"] == pytest.approx(right[labels == entry["class"]].mean())
    boot = Bootstrap()
    drawn = replicates_of(figure, boot, labels)
    assert drawn.shape == (1000,)
    for value, rows in zip(drawn, drawn_rows(boot, 150, labels)[:20], strict=False):
        shares = [right[rows][labels[rows] == c].mean() for c in range(5)]
        assert value == pytest.approx(np.mean(shares))
    # The closed form is as wide as drawing whole classes has it, or a little wider.
    assert 0.95 < times_as_wide(figure, boot, labels) < 1.2


def test_balanced_accuracy_weighs_classes_and_accuracy_samples() -> None:
    scores = np.tile([1.0, 0.0], (10, 1))
    labels = np.array([0] * 9 + [1])
    assert acc.accuracy(scores, labels).value == 0.9
    assert acc.balanced_accuracy(scores, labels).value == 0.5


def test_all_right_does_not_claim_certainty() -> None:
    scores = np.eye(3)[np.arange(30) % 3]
    labels = np.arange(30) % 3
    for figure in (acc.accuracy(scores, labels), acc.balanced_accuracy(scores, labels)):
        assert figure.value == figure.high == 1.0
        far = interval_at(figure, 0.999)
        assert far.low < figure.low
        # If one in five were wrong, 30 samples would show it (0.8**30 is 0.001); one in fifty may not.
        assert 0.8 < figure.low < 0.98
        assert figure.low <= wilson(30, 30).low + 1e-12
    assert acc.accuracy(scores, labels).low == pytest.approx(wilson(30, 30).low)


def test_groups_are_measured_apart() -> None:
    correct = np.array([True, True, False, False, True, False])
    groups = ["b", "b", "b", "a", "a", "a"]
    figures = acc.accuracy_by_group(correct, groups)
    assert list(figures) == ["a", "b"]
    assert figures["a"].value == pytest.approx(1 / 3)
    assert figures["b"].value == pytest.approx(2 / 3)
    assert figures["a"].n == 3
    worst = acc.worst_group_accuracy(correct, groups)
    assert worst.value == pytest.approx(1 / 3)
    assert worst.details["worst"] == "a"
    assert worst.low <= worst.value <= worst.high
    assert worst.details["groups"] == {
        "a": {"accuracy": pytest.approx(1 / 3), "n": 3},
        "b": {"accuracy": pytest.approx(2 / 3), "n": 3},
    }
    assert worst.n == 6
    with pytest.raises(ClipRobustError, match="6 samples but 2 group values"):
        acc.worst_group_accuracy(correct, ["a", "b"])


def test_replicates_of_the_worst_group_keep_the_groups_sizes() -> None:
    rng = np.random.default_rng(2)
    correct, groups = rng.random(30) < 0.6, np.repeat(["x", "y", "z"], [5, 10, 15])
    boot = Bootstrap(replicates=20, keys=keys_of(30))
    figure = acc.worst_group_accuracy(correct, list(groups), bootstrap=boot)
    strata = np.repeat([0, 1, 2], [5, 10, 15])
    for value, drawn in zip(
        replicates_of(figure, boot, strata), drawn_rows(boot, 30, strata), strict=True
    ):
        shares = [correct[drawn][groups[drawn] == name].mean() for name in "xyz"]
        assert value == pytest.approx(min(shares))
    assert figure.method == "Wilson, simultaneous over 3 groups"
    assert figure.outcomes is not None
    assert figure.outcomes.keys == boot.keys
    assert figure.outcomes["group"].tolist() == strata.tolist()
    assert figure.outcomes.value() == pytest.approx(figure.value)
    # The least of each group's ends, all three at once (Bonferroni); at any level.
    for level in (0.8, 0.95):
        parts = [
            share_ends(int(correct[groups == name].sum()), int((groups == name).sum()), share)
            for name in "xyz"
            for share in [1.0 - (1.0 - level) / 3.0]
        ]
        ends = interval_at(figure, level)
        assert ends.low == pytest.approx(min(low for low, _ in parts), abs=1e-3)
        assert ends.high == pytest.approx(min(high for _, high in parts), abs=1e-3)
    # All right: as certain as the smallest group allows, of three.
    perfect = acc.worst_group_accuracy(np.ones(30, bool), list(groups), bootstrap=boot)
    assert perfect.value == perfect.high == 1.0
    assert perfect.low == pytest.approx(share_ends(5, 5, 1.0 - 0.05 / 3.0)[0])


def test_drop_is_paired_and_far_tighter_than_an_unpaired_one() -> None:
    rng = np.random.default_rng(1)
    clean = rng.random(1000) < 0.63
    shifted = clean.copy()
    shifted[np.flatnonzero(clean)[:19]] = False
    figure = acc.accuracy_drop_figure(clean, shifted)
    assert figure.value == pytest.approx(0.019)
    assert figure.low > 0.0
    assert (figure.details["lost"], figure.details["gained"]) == (19, 0)
    assert figure.details["clean_accuracy"] == clean.mean()
    assert figure.details["shifted_accuracy"] == shifted.mean()
    one, two = acc.accuracy_figure(clean), acc.accuracy_figure(shifted)
    unpaired = math.hypot(one.high - one.value, two.value - two.low)
    assert figure.high - figure.low < 0.5 * unpaired


def test_drop_sign_and_antisymmetry() -> None:
    a, b = RNG.random(100) < 0.7, RNG.random(100) < 0.5
    one, two = acc.accuracy_drop_figure(a, b), acc.accuracy_drop_figure(b, a)
    assert one.value == pytest.approx(a.mean() - b.mean())
    assert one.value == pytest.approx(-two.value)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))


def test_no_change_is_no_certainty() -> None:
    answers = np.ones(20, dtype=bool)
    figure = acc.accuracy_drop_figure(answers, answers)
    assert figure.value == 0.0
    assert figure.low < 0.0 < figure.high
    far = interval_at(figure, 0.999)
    assert far.low < figure.low
    assert far.high > figure.high


def test_relative_drop_by_hand_and_undefined_without_clean_accuracy() -> None:
    clean = np.array([True] * 8 + [False] * 2)
    shifted = np.array([True] * 6 + [False] * 4)
    figure = acc.relative_drop_figure(clean, shifted)
    assert figure.value == pytest.approx(0.25)
    assert figure.details == {"clean_accuracy": 0.8, "shifted_accuracy": 0.6}
    drawn = replicates_of(figure, Bootstrap())
    for value, rows in zip(drawn, drawn_rows(Bootstrap(), 10)[:20], strict=False):
        assert value == pytest.approx(1.0 - shifted[rows].sum() / clean[rows].sum())
    # Of many samples the interval is that of their ratio, by the delta method.
    many = np.tile(clean, 40), np.tile(shifted, 40)
    large = acc.relative_drop_figure(*many)
    spread = (many[0] * 0.75 - many[1]) / 0.8
    half = 1.966 * np.std(spread, ddof=1) / 20
    assert (large.low, large.high) == pytest.approx((0.25 - half, 0.25 + half), rel=0.02)
    nothing = acc.relative_drop_figure(np.zeros(5, bool), np.zeros(5, bool))
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)


def test_paired_metrics_refuse_other_samples() -> None:
    for figure in (acc.accuracy_drop_figure, acc.relative_drop_figure):
        with pytest.raises(ClipRobustError, match="3 and 4 samples"):
            figure(np.ones(3, bool), np.ones(4, bool))


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (np.zeros((0, 3)), [], "no samples"),
        ([[0.0, np.nan]], [0], "NaN"),
        ([[0.0, 1.0]], [2], "outside the label set"),
        ([[0.0, 1.0]], [-1], "without a class"),
        ([[0.0, 1.0]], [0, 1], "1 samples but labels"),
        ([[0.0, 1.0]], [0.0], "integers"),
        ([0.0, 1.0], [0], r"shape \(N, C\)"),
    ],
)
def test_broken_input_is_told_in_one_line(scores: ArrayLike, labels: ArrayLike, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words) as caught:
        acc.accuracy(scores, labels)
    assert "\n" not in str(caught.value)


def test_top_5_of_3_classes_is_refused() -> None:
    for k in (0, 4, 5):
        with pytest.raises(ClipRobustError, match=f"top-{k} accuracy is not defined for 3"):
            acc.accuracy(np.zeros((2, 3)), [0, 1], k=k)
    assert acc.accuracy(np.zeros((2, 3)), [0, 1], k=3).value == 1.0


# --- Corruption errors ------------------------------------------------------------------------------


def _answers(accuracies: list[float], n: int = 100) -> np.ndarray:
    return np.stack([np.arange(n) < round(a * n) for a in accuracies])


def test_mce_is_the_mean_and_relative_mce_subtracts_clean_errors() -> None:
    correct = {"fog": _answers([0.8, 0.6]), "snow": _answers([0.5, 0.3])}
    figures = acc.mean_corruption_error(
        correct,
        {"fog": 0.6, "snow": 0.8},
        baseline="B",
        clean=_answers([0.9])[0],
        baseline_clean_error=0.4,
    )
    assert figures["ce", "fog"].value == pytest.approx(0.3 / 0.6)
    assert figures["ce", "snow"].value == pytest.approx(0.6 / 0.8)
    assert figures["mce", ""].value == pytest.approx((0.5 + 0.75) / 2)
    assert figures["relative_ce", "fog"].value == pytest.approx((0.3 - 0.1) / 0.2)
    assert figures["relative_mce", ""].value == pytest.approx((1.0 + 0.5 / 0.4) / 2)
    for figure in figures.values():
        assert figure.low < figure.value < figure.high
        assert figure.details["baseline"] == "B"
        assert figure.n == 100
    assert figures["ce", "snow"].details["baseline_error"] == 0.8
    assert figures["mce", ""].details["corruptions"] == pytest.approx({"fog": 0.5, "snow": 0.75})


def test_replicates_of_mce_resample_samples_with_all_their_corruptions() -> None:
    rng = np.random.default_rng(4)
    correct = {"fog": rng.random((3, 30)) < 0.6, "snow": rng.random((3, 30)) < 0.4}
    clean, boot = rng.random(30) < 0.8, Bootstrap(replicates=12)
    figures = acc.mean_corruption_error(
        correct,
        {"fog": 0.6, "snow": 0.8},
        baseline="B",
        clean=clean,
        baseline_clean_error=0.4,
        bootstrap=boot,
    )
    values = {key: replicates_of(figure, boot) for key, figure in figures.items()}
    for number, drawn in enumerate(drawn_rows(boot, 30)):
        fog, snow = (1.0 - correct[name][:, drawn].mean() for name in ("fog", "snow"))
        base = 1.0 - clean[drawn].mean()
        want = {
            ("ce", "fog"): fog / 0.6,
            ("ce", "snow"): snow / 0.8,
            ("mce", ""): (fog / 0.6 + snow / 0.8) / 2,
            ("relative_ce", "fog"): (fog - base) / 0.2,
            ("relative_ce", "snow"): (snow - base) / 0.4,
            ("relative_mce", ""): ((fog - base) / 0.2 + (snow - base) / 0.4) / 2,
        }
        have = {key: float(drawn_values[number]) for key, drawn_values in values.items()}
        assert have == pytest.approx(want, abs=1e-9)
    for figure in figures.values():
        assert 0.85 < times_as_wide(figure, Bootstrap()) < 1.35


def test_relative_errors_need_both_clean_errors_and_an_excess_of_the_baseline() -> None:
    correct, baseline = {"fog": _answers([0.5]), "snow": _answers([0.5])}, {"fog": 0.5, "snow": 0.3}
    clean = _answers([0.9])[0]
    for half in ({"clean": clean}, {"baseline_clean_error": 0.2}):
        assert set(acc.mean_corruption_error(correct, baseline, baseline="B", **half)) == {
            ("ce", "fog"),
            ("ce", "snow"),
            ("mce", ""),
        }
    with pytest.raises(ClipRobustError, match="no worse on 'snow' than on clean"):
        acc.mean_corruption_error(
            correct, baseline, baseline="B", clean=clean, baseline_clean_error=0.3
        )
    with pytest.raises(ClipRobustError, match="9 and 100 samples"):
        acc.mean_corruption_error(
            correct, baseline, baseline="B", clean=clean[:9], baseline_clean_error=0.2
        )


@pytest.mark.parametrize("answers", [np.ones(4, bool), np.ones((1, 4)), np.ones((0, 4), bool)])
def test_answers_by_severity_are_a_table_of_booleans(answers: np.ndarray) -> None:
    with pytest.raises(ClipRobustError, match="corruption 'fog': answers must be booleans"):
        acc.mean_corruption_error({"fog": answers}, {"fog": 0.5}, baseline="B")


def test_the_baseline_against_itself_has_an_mce_of_one() -> None:
    correct = {"fog": _answers([0.18]), "snow": _answers([0.13]), "frost": _answers([0.17])}
    own = {name: float(1 - answers.mean()) for name, answers in correct.items()}
    figures = acc.mean_corruption_error(correct, own, baseline="itself")
    assert figures["mce", ""].value == pytest.approx(1.0)


def test_mce_over_a_subset_of_corruptions_is_refused() -> None:
    with pytest.raises(ClipRobustError, match="snow"):
        acc.mean_corruption_error({"fog": _answers([0.5])}, {"fog": 0.5, "snow": 0.5}, baseline="B")
    with pytest.raises(ClipRobustError, match="none given"):
        acc.mean_corruption_error({}, {}, baseline="B")
    for error in (0.0, 1.01):
        with pytest.raises(ClipRobustError, match="divide"):
            acc.mean_corruption_error({"fog": _answers([0.5])}, {"fog": error}, baseline="B")
    always = acc.mean_corruption_error({"fog": _answers([0.5])}, {"fog": 1.0}, baseline="B")
    assert always["ce", "fog"].value == pytest.approx(0.5)


# --- The bootstrap behind it ------------------------------------------------------------------------


def test_two_runs_on_the_same_samples_are_compared_in_pairs() -> None:
    scores, labels = _case(400, 5, 6)
    later = scores.copy()
    later[:8] = np.roll(later[:8], 1, axis=1)
    run = Bootstrap(keys=keys_of(400))
    one = acc.balanced_accuracy(scores, labels, bootstrap=run)
    two = acc.balanced_accuracy(later, labels, bootstrap=run)
    change = change_between(two, one)
    paired = change.interval(0.95)
    assert (change.paired, paired.method) == (True, "paired")
    alone = acc.balanced_accuracy(later, labels)
    apart = change_between(alone, acc.balanced_accuracy(scores, labels)).interval(0.95)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)
    # Groups pair as well, each with itself only, although they are of one size.
    groups = ["x", "y"] * 200
    before = acc.accuracy_by_group(acc.correct_top_k(scores, labels), groups, bootstrap=run)
    after = acc.accuracy_by_group(acc.correct_top_k(later, labels), groups, bootstrap=run)
    assert after["x"].outcomes is not None
    assert after["x"].outcomes.keys == keys_of(400).take(range(0, 400, 2))
    assert change_between(after["x"], before["x"]).interval(0.95).method == "paired, score"
    assert not change_between(after["x"], before["y"]).paired


def test_every_figure_is_a_function_of_its_outcomes() -> None:
    rng = np.random.default_rng(3)
    clean, shifted = rng.random((2, 40)) < 0.7
    scores, labels = _case(40, 4, 3)
    boot = Bootstrap(replicates=25, keys=keys_of(40, np.arange(40) // 3))
    grid = {"fog": rng.random((2, 40)) < 0.6}
    figures = [
        acc.accuracy_figure(clean, bootstrap=boot),
        acc.accuracy_drop_figure(clean, shifted, bootstrap=boot),
        acc.relative_drop_figure(clean, shifted, bootstrap=boot),
        acc.balanced_accuracy(scores, labels, bootstrap=boot),
        acc.worst_group_accuracy(clean, ["a", "b"] * 20, bootstrap=boot),
        *acc.mean_corruption_error(grid, {"fog": 0.5}, baseline="B", bootstrap=boot).values(),
    ]
    drawn = drawn_samples(boot, 40)
    for figure in figures:
        assert (figure.n, figure.units) == (40, 14)
        assert figure.outcomes is not None
        assert figure.outcomes.keys == boot.keys
        assert figure.outcomes.value() == pytest.approx(figure.value)
        for rows in drawn:
            counts = np.bincount(rows, minlength=40)[None].astype(float)
            again = figure.outcomes.take(rows).value()
            assert figure.outcomes.at(counts)[0] == pytest.approx(again, nan_ok=True)


@pytest.mark.parametrize("kept", [True, False])
def test_groups_in_units_are_resampled_by_whole_units(kept: bool) -> None:
    rng = np.random.default_rng(12)
    units = np.arange(36) // 3
    groups = units % 2 if kept else np.arange(36) % 2
    correct = rng.random(36) < 0.6
    boot = Bootstrap(replicates=30, keys=keys_of(36, units))
    figure = acc.worst_group_accuracy(correct, [f"g{g}" for g in groups], bootstrap=boot)
    for value, rows in zip(
        replicates_of(figure, boot, groups), drawn_samples(boot, 36, groups), strict=True
    ):
        shares = [correct[rows][groups[rows] == g].mean() for g in (0, 1)]
        assert value == pytest.approx(min(shares))
    # Each group is worth as much as its own units say.
    parts = []
    for g in (0, 1):
        own, known = correct[groups == g], units[groups == g]
        effect = design_effect_of_share(own, np.unique(known, return_inverse=True)[1])
        degrees = len(set(known.tolist())) - 1
        worth = len(own) / effect
        parts.append(share_ends(own.mean() * worth, worth, 0.975, degrees))
    assert figure.low == pytest.approx(min(low for low, _ in parts))
    assert figure.high == pytest.approx(min(high for _, high in parts))
    assert figure.method.startswith("Wilson, simultaneous over 2 groups, design effect")


def test_undefined_values_have_no_interval() -> None:
    outcomes = Outcomes({"value": np.array([0.1, 0.2])}, mean)
    figure = bootstrap_figure("m", float("nan"), outcomes, Bootstrap(replicates=2))
    assert math.isnan(figure.low)
    assert math.isnan(figure.high)


def test_intervals_cover_the_truth() -> None:
    """Drop and balanced accuracy: 95% intervals hold the truth in about 95% of 120 draws."""
    rng = np.random.default_rng(7)
    hits = {"drop": 0, "balanced": 0}
    for _ in range(120):
        clean = rng.random(150) < 0.8
        shifted = np.where(rng.random(150) < 0.3, rng.random(150) < 0.4, clean)
        figure = acc.accuracy_drop_figure(clean, shifted, bootstrap=Bootstrap(replicates=2))
        hits["drop"] += figure.low <= 0.3 * 0.4 <= figure.high
        labels = np.arange(150) % 3
        right = rng.random(150) < np.array([0.9, 0.6, 0.3])[labels]
        scores = np.eye(3)[np.where(right, labels, (labels + 1) % 3)]
        balanced = acc.balanced_accuracy(scores, labels, bootstrap=Bootstrap(replicates=300))
        hits["balanced"] += balanced.low <= 0.6 <= balanced.high
    # Binomial(120, 0.95) falls below 106 once in two thousand cases.
    assert min(hits.values()) >= 106
