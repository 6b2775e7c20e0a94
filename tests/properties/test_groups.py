"""Subgroups: by hand, against SciPy's chi-square, by units, and with groups that are too small."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import coverage, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact

from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import groups
from pytest_cliprobust.properties.calibration import calibration_figures


def answers(*shares: tuple[str, int, int]) -> tuple[np.ndarray, list[str]]:
    """Return right and wrong answers of groups, each with so many right of so many."""
    right = np.concatenate([np.arange(n) < hits for _, hits, n in shares])
    return right, [name for name, _, n in shares for _ in range(n)]


def test_worst_and_gap_by_hand() -> None:
    right, names = answers(("a", 30, 40), ("b", 10, 40), ("c", 36, 40))
    found = groups.accuracy_figures(right, names)
    worst, gap = found["worst_group_accuracy"], found["group_accuracy_gap"]
    assert (worst.value, worst.details["worst"]) == (0.25, "b")
    assert gap.value == pytest.approx(0.9 - 0.25)
    assert (gap.details["best"], gap.details["worst"]) == ("c", "b")
    assert gap.details["groups"]["a"]["accuracy"] == 0.75
    assert gap.details["groups"]["a"]["n"] == 40
    assert gap.details["groups"]["a"]["low"] < 0.75 < gap.details["groups"]["a"]["high"]
    assert gap.low <= gap.value <= gap.high
    assert gap.outcomes is not None
    assert gap.outcomes.value() == pytest.approx(gap.value)
    assert "simultaneous over 3 groups" in gap.method


def test_a_small_group_is_named_and_no_candidate() -> None:
    right, names = answers(("a", 30, 40), ("b", 20, 40), ("few", 0, 3))
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
    right, names = answers(("a", 30, 40), ("b", 20, 40))
    boot = Bootstrap(keys=keys_of(80, np.arange(80) // 4))
    with pytest.raises(NotRun, match="at least 20 drawings"):
        groups.accuracy_figures(right, names, bootstrap=boot)
    found = groups.accuracy_figures(right, names, minimum=10, bootstrap=boot)
    assert found["group_accuracy_gap"].units == 20
    assert found["group_accuracy_gap"].details["groups"]["a"]["units"] == 10


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=2, max_size=5))
def test_the_statistic_is_pearsons(table: list[tuple[int, int]]) -> None:
    shares = [(str(i), min(hits, n), n) for i, (hits, n) in enumerate(table)]
    right, names = answers(*shares)
    found = groups.equal_error_rates(right, names, permutations=19)
    assert 0.0 < found["p_value"] <= 1.0
    if right.all() or not right.any():
        assert found["chi2"] == 0.0
        assert found["p_value"] == 1.0
        return
    cells = [[hits, n - hits] for _, hits, n in shares]
    assert found["chi2"] == pytest.approx(chi2_contingency(cells, correction=False).statistic)


def test_the_p_value_is_the_exact_tests() -> None:
    right, names = answers(("a", 30, 40), ("b", 21, 40))
    found = groups.equal_error_rates(right, names)
    want = fisher_exact([[30, 10], [21, 19]]).pvalue
    assert found["p_value"] == pytest.approx(want, abs=0.01)
    assert found["of"] == "samples"


def test_copies_of_samples_are_no_evidence() -> None:
    right, names = answers(("a", 30, 40), ("b", 21, 40))
    alone = groups.equal_error_rates(right, names)["p_value"]
    four, named = np.repeat(right, 4), list(np.repeat(names, 4))
    boot = Bootstrap(keys=keys_of(320, np.arange(320) // 4))
    copied = groups.equal_error_rates(four, named, bootstrap=boot)
    assert copied["p_value"] == pytest.approx(alone, abs=0.015)
    assert copied["of"] == "drawings"
    # Taken for samples of their own they would be.
    assert groups.equal_error_rates(four, named)["p_value"] < 0.01


def test_equal_groups_are_rejected_as_seldom_as_the_level_says() -> None:
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(200):
        whole = np.repeat(rng.random(30) < 0.6, 4)
        boot = Bootstrap(keys=keys_of(120, np.arange(120) // 4))
        names = ["a"] * 40 + ["b"] * 80
        found = groups.equal_error_rates(whole, names, permutations=199, bootstrap=boot)
        rejected += found["p_value"] <= 0.05
    assert rejected <= 20


def test_groups_that_cross_units_are_exchanged_within_them() -> None:
    rng = np.random.default_rng(6)
    # Each drawing once by day and once by night; by night it is wrong more often.
    drawing = np.repeat(rng.random(60), 2)
    night = np.arange(120) % 2 == 1
    right = drawing + 0.25 * ~night > 0.5
    boot = Bootstrap(keys=keys_of(120, np.arange(120) // 2))
    found = groups.equal_error_rates(right, list(np.where(night, "night", "day")), bootstrap=boot)
    assert found["of"] == "samples within drawings"
    # A sign test of the drawings that differ, all in one direction.
    differ = int((right[::2] != right[1::2]).sum())
    assert found["p_value"] == pytest.approx(2 * 0.5**differ, abs=0.002)


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
