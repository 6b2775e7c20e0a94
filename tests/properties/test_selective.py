"""Selective prediction and conformal sets, against loops over all coverages and cases counted by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import coverage, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import selective

RNG = np.random.default_rng(0)


def curve_area(correct: list[bool]) -> float:
    """AURC of answers in order, the surest first: Geifman et al. 2019, by a loop."""
    risks = [sum(not c for c in correct[:k]) / k for k in range(1, len(correct) + 1)]
    return sum(risks) / len(risks)


def test_by_hand() -> None:
    # right, wrong, right, right: errors among the surest 0, 1/2, 1/3, 1/4.
    figures = selective.selective_figures([0.9, 0.8, 0.7, 0.6], np.array([True, False, True, True]))
    assert figures["aurc"].value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    # At best the wrong one comes last.
    assert figures["excess_aurc"].value == pytest.approx((1 / 2 + 1 / 3) / 4)
    assert figures["aurc"].details["error"] == 0.25
    curve = {entry["coverage"]: entry for entry in figures["aurc"].details["curve"]}
    assert curve[0.5] == {"coverage": 0.5, "error": 0.5, "n": 2}
    assert curve[1.0] == {"coverage": 1.0, "error": 0.25, "n": 4}
    assert curve[0.1]["n"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=6))
def test_ties_are_the_mean_over_their_orders(answers: list[tuple[int, bool]]) -> None:
    sure, right = (np.array(column) for column in zip(*answers, strict=True))
    areas = [
        curve_area([right[i] for i in order])
        for order in itertools.permutations(range(len(sure)))
        if all(sure[a] >= sure[b] for a, b in itertools.pairwise(order))
    ]
    figures = selective.selective_figures(sure, right)
    assert figures["aurc"].value == pytest.approx(np.mean(areas), abs=1e-12)
    best = curve_area(sorted(right, reverse=True))
    assert figures["excess_aurc"].value == pytest.approx(max(0.0, np.mean(areas) - best), abs=1e-12)
    assert figures["aurc"].low <= figures["aurc"].value <= figures["aurc"].high


def test_confidence_that_says_nothing_has_the_error_and_a_perfect_one_no_excess() -> None:
    right = RNG.random(500) < 0.8
    none = selective.selective_figures(np.zeros(500), right)
    assert none["aurc"].value == pytest.approx(1 - right.mean())
    perfect = selective.selective_figures(right + 0.1 * RNG.random(500), right)
    assert perfect["excess_aurc"].value == pytest.approx(0.0, abs=1e-12)
    error = 1 - right.mean()
    closed = error + (1 - error) * math.log(1 - error)
    assert perfect["aurc"].value == pytest.approx(closed, rel=0.02)
    assert selective.selective_figures(RNG.random(50), np.ones(50, bool))["aurc"].value == 0.0
    assert selective.selective_figures(RNG.random(50), np.zeros(50, bool))["aurc"].value == 1.0


def test_each_figure_is_the_mean_of_what_its_samples_add() -> None:
    generator = np.random.default_rng(11)
    sure = generator.random(4000)
    figures = selective.selective_figures(sure, generator.random(4000) < 0.5 + 0.4 * sure)
    influences = {"aurc": selective._influence, "excess_aurc": selective._excess_influence}
    for metric, influence in influences.items():
        outcomes = figures[metric].outcomes
        assert outcomes is not None
        assert influence(outcomes).mean() == pytest.approx(figures[metric].value, abs=1e-3)


def test_replicates_are_those_of_samples_written_out() -> None:
    sure, right = np.round(RNG.random(30), 1), RNG.random(30) < 0.7
    for metric in ("aurc", "excess_aurc"):
        outcomes = selective.selective_figures(sure, right)[metric].outcomes
        assert outcomes is not None
        weights = RNG.integers(0, 4, size=(5, 30)).astype(float)
        for row, value in zip(weights, outcomes.at(weights), strict=True):
            drawn = np.repeat(np.arange(30), row.astype(int))
            again = selective.selective_figures(sure[drawn], right[drawn])[metric]
            assert value == pytest.approx(again.value, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("units", [80, 20])
def test_intervals_hold_the_truth(units: int) -> None:
    """Confidence uniform, right with that probability: AURC = E[(1 - c)(-log(1 - c))] = 1/4."""

    def interval(rng: np.random.Generator) -> tuple[float, float]:
        sure = rng.random(units).repeat(80 // units)
        right = rng.random(80) < sure
        keys = keys_of(80, np.arange(80) // (80 // units))
        figure = selective.selective_figures(sure, right, bootstrap=Bootstrap(keys=keys))["aurc"]
        return figure.low, figure.high

    assert coverage(interval, 0.25, 150, seed=1) > 0.9


def test_two_runs_pair() -> None:
    keys = keys_of(200)
    sure, right = RNG.random(200), RNG.random(200) < 0.8
    before = selective.selective_figures(sure, right, bootstrap=Bootstrap(keys=keys))["aurc"]
    worse = right & (sure < 0.9)
    after = selective.selective_figures(sure, worse, bootstrap=Bootstrap(keys=keys))["aurc"]
    change = change_between(after, before)
    assert change.difference == pytest.approx(after.value - before.value)
    assert change.interval(0.95).low > 0
    assert change_between(before, before).identical


# --- Abstention -------------------------------------------------------------------------------------


def test_abstention_by_hand() -> None:
    known = np.arange(1, 11) / 10.0  # nine of ten are answered at 0.2 and above
    sure = np.array([0.1, 0.2, 0.5, 0.15, 0.9, 0.95])
    labels = np.array([0, 0, 1, 1, 1, 2])
    right = np.array([True, False, True, True, True, False])
    figures = selective.abstention_figures(sure, labels, right, known)
    silent, answered = figures["abstention"], figures["answered_accuracy"]
    assert silent.details["threshold"] == 0.2
    assert silent.value == pytest.approx(2 / 6)
    assert (answered.value, answered.n) == (0.5, 4)
    found = [(e["class"], e["share"], e["n"]) for e in silent.details["per_class"]]
    assert found == [(0, 0.5, 2), (1, pytest.approx(1 / 3), 3), (2, 0.0, 1)]
    assert all(e["low"] <= e["share"] <= e["high"] for e in silent.details["per_class"])
    none = selective.abstention_figures(sure / 100, labels, right, known)
    assert none["abstention"].value == 1.0
    assert math.isnan(none["answered_accuracy"].value)


# --- Conformal sets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "threshold"),
    # The surest, as many as make the share, or one more where it is no whole number; 0.3 · 10 is no more
    # than three, and one at least.
    [(0.0, 9.0), (0.1, 9.0), (0.25, 7.0), (0.3, 7.0), (0.7, 3.0), (0.91, 0.0), (1.0, 0.0)],
)
def test_the_threshold_of_a_share(target: float, threshold: float) -> None:
    known = np.random.default_rng(0).permutation(10).astype(float)
    sure = np.array([threshold - 0.5, threshold, threshold + 0.5])
    figures = selective.abstention_figures(
        sure, [0, 0, 1], [False, True, False], known, target=target
    )
    assert figures["abstention"].details["threshold"] == threshold
    # As sure as that is sure enough.
    assert figures["abstention"].value == pytest.approx(1 / 3)
    assert figures["answered_accuracy"].value == 0.5


def test_scores_by_hand() -> None:
    shares = np.array([[0.5, 0.2, 0.3], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(selective.lac_scores(shares), 1 - shares)
    np.testing.assert_allclose(selective.aps_scores(shares), [[0.5, 1.0, 0.8], [0.75, 1.0, 0.5]])


def test_the_threshold_by_hand() -> None:
    scores = np.arange(1, 20) / 20.0  # ⌈20 · 0.9⌉ = 18th of 19
    assert selective.conformal_threshold(scores[::-1]) == 0.9
    assert selective.conformal_threshold(scores, 0.5) == 0.5
    with pytest.raises(NotRun, match="8 calibration samples are too few"):
        selective.conformal_threshold(scores[:8])
    assert selective.conformal_threshold(scores[:9]) == 9 / 20
    for target in (0.0, 1.0):
        with pytest.raises(ClipRobustError, match="between 0 and 1"):
            selective.conformal_threshold(scores, target)


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(5, 0.4), n)
    return shares, np.array([rng.choice(5, p=p) for p in shares])


def test_sets_by_loops() -> None:
    (shares, labels), (known, answers) = drawn(80, 1), drawn(60, 2)
    figures = selective.conformal_figures(shares, labels, known, answers)
    for name in selective.SETS:

        def score(p: np.ndarray, c: int, name: str = name) -> float:
            return float(1 - p[c] if name == "lac" else sum(x for x in p if x >= p[c]))

        ordered = sorted(score(p, y) for p, y in zip(known, answers, strict=True))
        limit = ordered[math.ceil(61 * 0.9) - 1] + 1e-12
        sets = [[c for c in range(5) if score(p, c) <= limit] for p in shares]
        held = np.mean([y in s for s, y in zip(sets, labels, strict=True)])
        assert figures[f"conformal_coverage_{name}"].value == pytest.approx(held)
        size = figures[f"conformal_set_size_{name}"]
        assert size.value == pytest.approx(np.mean([len(s) for s in sets]))
        assert size.unit == METRICS.named(size.metric).unit == "classes"
        assert size.details["empty"] == np.mean([not s for s in sets])


def test_exchangeable_samples_are_covered_as_promised() -> None:
    (shares, labels), (known, answers) = drawn(4000, 3), drawn(4000, 4)
    figures = selective.conformal_figures(shares, labels, known, answers)
    assert figures["conformal_coverage_lac"].value == pytest.approx(0.9, abs=0.02)
    assert figures["conformal_coverage_aps"].value >= 0.88
    # LAC's sets are the smallest on average (Sadinle et al. 2019).
    sizes = [figures[f"conformal_set_size_{name}"].value for name in ("lac", "aps")]
    assert sizes[0] < sizes[1]
    alien = selective.conformal_figures(shares, (labels + 1) % 5, known, answers)
    assert alien["conformal_coverage_lac"].high < 0.8


def test_of_samples() -> None:
    (shares, labels), (known, answers) = drawn(80, 1), drawn(60, 2)
    view, bank = (
        SampleArrays(
            Condition(name), tuple(f"{name}{i}" for i in range(len(y))), labels=y, logits=np.log(p)
        )
        for name, p, y in (("clean", shares, labels), ("bank", known, answers))
    )
    found = [
        *selective.selective_of(view),
        *selective.abstention_of(view, bank),
        *selective.conformal_of(view, bank),
    ]
    plain = selective.conformal_figures(shares, labels, known, answers)
    assert len(found) == 8
    for figure in found:
        assert figure.condition == Condition("clean")
        if figure.metric in plain:
            assert figure.value == pytest.approx(plain[figure.metric].value)
    by_hand = selective.selective_figures(shares.max(axis=1), shares.argmax(axis=1) == labels)
    assert found[0].value == pytest.approx(by_hand["aurc"].value)


@dataclass(frozen=True)
class Restricted(SampleArrays):
    """Samples under a head of some of the calibration split's classes."""

    head_rows: tuple[int, ...] = ()


def test_a_shift_of_some_classes_has_thresholds_among_these() -> None:
    """ImageNet-R's 200 of the 1,000: among more classes a model is less sure, and sets are larger."""
    rng = np.random.default_rng(7)
    scores, labels = rng.normal(size=(60, 5)), np.arange(60) % 5
    bank = SampleArrays(Condition("calibration"), tuple(map(str, range(60))), labels, scores)
    rows = (3, 0, 1)
    view = Restricted(
        Condition("mine"),
        tuple("abcd"),
        np.array([0, 1, 2, 0]),
        rng.normal(size=(4, 3)),
        head_rows=rows,
    )
    mine = [i for i in range(60) if labels[i] in rows]
    known = np.exp(scores[mine][:, rows])
    known /= known.sum(axis=1, keepdims=True)
    answers = np.array([rows.index(labels[i]) for i in mine])
    shares = np.exp(view.logits)
    shares /= shares.sum(axis=1, keepdims=True)
    plain = selective.conformal_figures(shares, view.labels, known, answers)
    found = {f.metric: f for f in selective.conformal_of(view, bank)}
    for metric, figure in plain.items():
        assert found[metric].value == figure.value
        if "threshold" in figure.details:
            assert found[metric].details["threshold"] == pytest.approx(figure.details["threshold"])
            assert found[metric].details["calibration"] == 36
    silent = selective.abstention_of(view, bank)[0]
    assert silent.details["threshold"] == pytest.approx(np.sort(known.max(axis=1))[::-1][32])
    with pytest.raises(NotRun, match="no sample of calibration is of a class of mine"):
        selective.conformal_of(
            view, SampleArrays(bank.condition, ("x",), np.array([2]), scores[:1])
        )


def test_sets_of_all_classes_do_not_hang_on_rounding() -> None:
    """Where the true class is last too often, no class can be left out; sums of all are 1 or nearly."""
    rng = np.random.default_rng(3)
    known, shares = (rng.dirichlet(np.ones(7), size=n) for n in (50, 200))
    figures = selective.conformal_figures(
        shares, shares.argmin(axis=1), known, known.argmin(axis=1)
    )
    assert figures["conformal_set_size_aps"].value == 7.0
    assert figures["conformal_coverage_aps"].value == 1.0


def test_probabilities_of_other_classes_or_none_at_all_are_refused() -> None:
    shares, labels = np.full((4, 2), 0.5), np.zeros(4, dtype=int)
    with pytest.raises(ClipRobustError, match="2 classes, but 4 in the calibration split"):
        selective.conformal_figures(shares, labels, np.full((20, 4), 0.25), [0] * 20)
    with pytest.raises(ClipRobustError, match="apply the softmax first"):
        selective.conformal_figures(9 * shares, labels, shares, labels)
    with pytest.raises(ClipRobustError, match=r"calibration probabilities lie in \[0, 1\]"):
        selective.conformal_figures(shares, labels, 9 * shares, labels)
