"""Calibration against textbook loops, scikit-learn and hand examples, and the published pitfalls."""

from __future__ import annotations

import hashlib
import math
import time
from functools import partial

import numpy as np
import pytest
from helpers import drawn_rows, drawn_samples, keys_of, replicates_of, times_as_wide
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult
from sklearn.metrics import log_loss

from pytest_cliprobust.engine.head import probabilities
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap, resampled
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.figures.intervals import wilson
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.outcomes import Outcomes
from pytest_cliprobust.properties import calibration as cal

FEW = Bootstrap(replicates=200)


def textbook_ece(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, equation 3, bin by bin; [low, high), the last bin closed."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = (confidence >= low) & ((confidence < high) | (b == bins - 1))
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.sum() / len(confidence) * gap
    return total


def textbook_classwise_ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Kull et al. 2019: the mean over classes of each class probability's own ECE."""
    classes = range(probabilities.shape[1])
    return float(np.mean([textbook_ece(probabilities[:, c], labels == c) for c in classes]))


def _case(
    n: int = 300, classes: int = 5, seed: int = 0, scale: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * scale
    chances = probabilities(logits)
    labels = np.array([rng.choice(classes, p=row) for row in chances])
    return logits, labels


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 20))
def test_ece_matches_the_textbook(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    # Many values on bin edges and at both ends, where implementations differ.
    confidence = rng.choice(np.append(np.arange(bins + 1) / bins, rng.random(5)), size=n)
    correct = rng.random(n) < 0.5
    got = cal.expected_calibration_error(confidence, correct, bins)
    assert got == pytest.approx(textbook_ece(confidence, correct, bins), abs=1e-12)
    order = rng.permutation(n)
    assert cal.expected_calibration_error(confidence[order], correct[order], bins) == pytest.approx(
        got, abs=1e-12
    )
    assert cal.expected_calibration_error(
        np.tile(confidence, 3), np.tile(correct, 3), bins
    ) == pytest.approx(got, abs=1e-12)


def test_confidence_of_one_is_in_the_last_bin() -> None:
    # torchmetrics#3510 puts 1.0 in a bin of its own: |0.5 - 0.97|·½ and |1 - 1|·… do not cancel.
    confidence = np.array([1.0, 1.0, 0.94, 0.94])
    correct = np.array([0.0, 1.0, 1.0, 1.0])
    # One bin: mean confidence 0.97, accuracy 0.75. Apart: ½·0.5 + ½·0.06 = 0.28.
    assert cal.expected_calibration_error(confidence, correct, 15) == pytest.approx(0.22)
    assert cal.equal_width_bins(confidence, 15).tolist() == [14, 14, 14, 14]
    assert cal.equal_width_bins(np.array([0.0, 1 / 15, 0.2]), 15).tolist() == [0, 1, 3]


@pytest.mark.parametrize(("confidence", "expected"), [(0.6 - 1e-9, 0.5), (0.6, 0.7 / 3)])
def test_ece_jumps_where_a_confidence_crosses_a_border(confidence: float, expected: float) -> None:
    """By hand: the third sample, right, joins a right one at 0.55 or a wrong one at 0.65."""
    sure, right = [0.55, 0.65, confidence], [True, False, True]
    assert cal.expected_calibration_error(sure, right) == pytest.approx(expected, abs=1e-8)


def test_the_number_of_bins_is_a_parameter() -> None:
    confidence, correct = np.array([0.6, 0.9]), np.array([1.0, 0.0])
    assert cal.expected_calibration_error(confidence, correct, 1) == pytest.approx(0.25)
    assert cal.expected_calibration_error(confidence, correct, 15) == pytest.approx(0.65)
    with pytest.raises(ClipRobustError, match="at least 1"):
        cal.expected_calibration_error(confidence, correct, 0)


def test_logits_are_no_confidences() -> None:
    for wrong in (1.001, -0.001, np.nan):
        with pytest.raises(ClipRobustError, match=r"of sample 1 is outside .*, not logits"):
            cal.expected_calibration_error([0.5, wrong], [1.0, 1.0])
    assert cal.BINS == 15


def test_adaptive_ece_by_hand_and_with_ties() -> None:
    confidence = np.array([0.9, 0.1, 0.3, 0.7])
    correct = np.array([1.0, 0.0, 1.0, 0.0])
    # Two bins of two: |0.2 - 0.5|/2 + |0.8 - 0.5|/2.
    assert cal.adaptive_calibration_error(confidence, correct, 2) == pytest.approx(0.3)
    # Equal confidences are exchangeable: every order gives the same, 0.5 ± 0.
    same = np.full(6, 0.5)
    hits = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(6)
        assert cal.adaptive_calibration_error(same, hits[order], 3) == pytest.approx(0.0, abs=1e-15)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 50), st.integers(1, 8))
def test_adaptive_ece_matches_array_split_without_ties(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, correct = rng.random(n), (rng.random(n) < 0.5).astype(float)
    order = np.argsort(confidence)
    parts = np.array_split(order, min(bins, n))
    want = sum(abs(confidence[p].mean() - correct[p].mean()) * len(p) for p in parts) / n
    got = cal.adaptive_calibration_error(confidence, correct, bins)
    assert got == pytest.approx(want, abs=1e-12)
    shuffled = rng.permutation(n)
    assert cal.adaptive_calibration_error(
        confidence[shuffled], correct[shuffled], bins
    ) == pytest.approx(got, abs=1e-12)


def test_classwise_ece_is_the_mean_of_one_class_at_a_time() -> None:
    logits, labels = _case(80, 4)
    probs = probabilities(logits)
    figure = cal.calibration_figures(logits, labels, bootstrap=FEW)["classwise_ece"]
    assert figure.value == pytest.approx(textbook_classwise_ece(probs, labels), abs=1e-12)


def test_classwise_ece_in_blocks_of_classes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = _case(60, 7)
    whole = cal.calibration_figures(logits, labels, bootstrap=FEW)["classwise_ece"]
    for chunk in (130, 1):
        monkeypatch.setattr(cal, "_CLASSWISE_CHUNK", chunk)
        parts = cal.calibration_figures(logits, labels, bootstrap=FEW)["classwise_ece"]
        assert parts.value == pytest.approx(whole.value, abs=1e-12)
        assert parts.ends is not None
        assert whole.ends is not None
        np.testing.assert_allclose(parts.ends.lows, whole.ends.lows, atol=1e-10)
        np.testing.assert_allclose(parts.ends.highs, whole.ends.highs, atol=1e-10)


def test_figures_match_loops_and_scikit_learn() -> None:
    logits, labels = _case()
    probs = probabilities(logits)
    figures = cal.calibration_figures(logits, labels, bootstrap=FEW)
    confidence, right = probs.max(1), probs.argmax(1) == labels
    assert figures["ece"].value == pytest.approx(textbook_ece(confidence, right), abs=1e-12)
    assert figures["adaptive_ece"].value == pytest.approx(
        cal.adaptive_calibration_error(confidence, right), abs=1e-12
    )
    assert figures["nll"].value == pytest.approx(log_loss(labels, probs), abs=1e-10)
    assert figures["nll"].unit == "nats"
    brier = np.mean(
        [((row - np.eye(5)[y]) ** 2).sum() for row, y in zip(probs, labels, strict=True)]
    )
    assert figures["brier"].value == pytest.approx(brier, abs=1e-12)
    assert figures["signed_gap"].value == pytest.approx(confidence.mean() - right.mean())
    assert set(figures) <= set(METRICS)
    for figure in figures.values():
        assert figure.n == 300
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high
        assert figure.ends is not None
        assert figure.replicates == ()


def test_replicates_are_the_metric_of_the_resampled_data() -> None:
    logits, labels = _case(50, 4)
    boot = Bootstrap(replicates=20)
    figures = cal.calibration_figures(logits, labels, bootstrap=boot)
    probs = probabilities(logits)
    values = {
        name: replicates_of(figure, boot)
        for name, figure in figures.items()
        if name != "classwise_ece"
    }
    assert {len(drawn) for drawn in values.values()} == {20}
    for number, drawn in enumerate(drawn_rows(boot, 50)):
        confidence, right = probs[drawn].max(1), probs[drawn].argmax(1) == labels[drawn]
        assert values["ece"][number] == pytest.approx(textbook_ece(confidence, right), abs=1e-9)
        assert values["nll"][number] == pytest.approx(
            log_loss(labels[drawn], probs[drawn], labels=np.arange(4)), abs=1e-9
        )
        assert values["signed_gap"][number] == pytest.approx(
            confidence.mean() - right.mean(), abs=1e-9
        )
        errors = ((probs[drawn] - np.eye(4)[labels[drawn]]) ** 2).sum(axis=1)
        assert values["brier"][number] == pytest.approx(errors.mean(), abs=1e-9)
    assert {name for name, f in figures.items() if f.interval is IntervalMethod.BINNED} == {
        "ece",
        "adaptive_ece",
        "classwise_ece",
    }


@pytest.mark.parametrize("units", [None, np.arange(200) // 4])
def test_intervals_are_as_wide_as_resampling_has_them(units: np.ndarray | None) -> None:
    """Means in closed form; calibration errors reach down by the bias that resampling shows as well."""
    logits, labels = _case(200, 4)
    if units is not None:
        logits, labels = logits[units * 4], labels[units * 4]
        logits = logits + 0.3 * np.random.default_rng(1).normal(size=logits.shape)
    boot = Bootstrap(replicates=400, keys=keys_of(200, units))
    figures = cal.calibration_figures(logits, labels, bootstrap=boot)
    for name in ("nll", "brier", "signed_gap"):
        assert 0.85 < times_as_wide(figures[name], boot) < 1.3, name
    probs = probabilities(logits)
    drawn = {
        **{name: replicates_of(figures[name], boot) for name in ("ece", "adaptive_ece")},
        "classwise_ece": np.array(
            [textbook_classwise_ece(probs[rows], labels[rows]) for rows in drawn_samples(boot, 200)]
        ),
    }
    for name, values in drawn.items():
        figure = figures[name]
        assert figure.high - figure.value > 1.3 * values.std()
        assert figure.high - figure.value < 3.5 * values.std()
        # Resampling adds about the bias that the figure has, and so the truth may lie lower by as much.
        bias = values.mean() - figure.value
        assert bias > 0.0
        assert figure.low < max(0.0, figure.value - bias - 0.5 * values.std()) + 1e-12, name
    # And wider, where scenes of one drawing are alike.
    alone = cal.calibration_figures(logits, labels, bootstrap=Bootstrap(keys=keys_of(200)))
    for name, figure in figures.items():
        ratio = (figure.high - figure.low) / (alone[name].high - alone[name].low)
        assert ratio == 1.0 if units is None else ratio > 1.1, name


def test_figures_keep_what_they_are_functions_of() -> None:
    logits, labels = _case(60, 4)
    units = np.arange(60) // 4
    boot = Bootstrap(replicates=12, keys=keys_of(60, units))
    figures = cal.calibration_figures(logits, labels, probability="sigmoid", bootstrap=boot)
    counts = np.concatenate(list(boot.plan(60).counts()))
    drawn = drawn_samples(boot, 60)
    for name, figure in figures.items():
        assert (figure.n, figure.units) == (60, 15)
        assert figure.method.endswith(f", design effect {figure.design_effect:.2f}")
        assert figure.design_effect >= 1.0
        if name == "classwise_ece":
            # All probabilities of all samples would be too much to keep.
            assert figure.outcomes is None
            continue
        assert figure.outcomes is not None
        assert figure.outcomes.keys == boot.keys
        assert figure.outcomes.value() == pytest.approx(figure.value, abs=1e-12)
        if name == "adaptive_ece":
            continue  # its bins are those of the data, not of the replicate
        want = [figure.outcomes.take(rows).value() for rows in drawn]
        np.testing.assert_allclose(figure.outcomes.at(counts), want, atol=1e-9)
    assert cal.temperature_figure(logits, labels, bootstrap=boot)[1].outcomes is None


def test_replicates_of_the_sigmoids_figures_are_those_of_the_resampled_data() -> None:
    logits, labels = _case(50, 4)
    boot = Bootstrap(replicates=10)
    figures = cal.calibration_figures(
        logits - 2.0, labels, probability="sigmoid", bins=10, bootstrap=boot
    )
    top, right = probabilities(logits - 2.0, "sigmoid").max(1), logits.argmax(1) == labels
    values = {
        name: replicates_of(figures[name], boot)
        for name in ("ece_sigmoid", "signed_gap_sigmoid", "signed_gap")
    }
    for number, drawn in enumerate(drawn_rows(boot, 50)):
        assert values["ece_sigmoid"][number] == pytest.approx(
            textbook_ece(top[drawn], right[drawn], 10), abs=1e-9
        )
        assert values["signed_gap_sigmoid"][number] == pytest.approx(
            top[drawn].mean() - right[drawn].mean(), abs=1e-9
        )
        confidence = probabilities(logits)[drawn].max(1)
        assert values["signed_gap"][number] == pytest.approx(
            confidence.mean() - right[drawn].mean(), abs=1e-9
        )
    details = figures["ece_sigmoid"].details
    assert (details["bins"], len(details["reliability"])) == (10, 10)
    assert details["mean_confidence"] == pytest.approx(top.mean())
    # With a temperature there are no sigmoids: it is fitted to the softmax.
    fitted = cal.fit_temperature(logits, labels)
    scaled = cal.calibration_figures(
        logits, labels, probability="sigmoid", temperature=fitted, bootstrap=boot
    )
    assert all(name.endswith("_scaled") for name in scaled)


def test_replicates_of_adaptive_ece_keep_the_bins_of_the_data() -> None:
    logits, labels = _case(50, 4)
    boot = Bootstrap(replicates=10)
    figure = cal.calibration_figures(logits, labels, bins=4, bootstrap=boot)["adaptive_ece"]
    probs = probabilities(logits)
    confidence, right = probs.max(1), (probs.argmax(1) == labels).astype(float)
    order = np.argsort(confidence)
    part = np.empty(50, dtype=int)
    for number, members in enumerate(np.array_split(order, 4)):
        part[members] = number
    for value, drawn in zip(replicates_of(figure, boot), drawn_rows(boot, 50), strict=True):
        gaps = (confidence - right)[drawn]
        want = sum(abs(gaps[part[drawn] == b].sum()) for b in range(4)) / 50
        assert value == pytest.approx(want, abs=1e-9)


def test_reliability_diagram_adds_up() -> None:
    logits, labels = _case()
    details = cal.calibration_figures(logits, labels, bootstrap=FEW)["ece"].details
    bins = details["reliability"]
    assert len(bins) == 15
    assert sum(b["n"] for b in bins) == 300
    assert (bins[0]["low"], bins[-1]["high"]) == (0.0, 1.0)
    ece = sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["n"]) / 300
    probs = probabilities(logits)
    assert ece == pytest.approx(textbook_ece(probs.max(1), probs.argmax(1) == labels), abs=1e-12)
    empty = [b for b in bins if b["n"] == 0]
    assert empty
    assert all(b["confidence"] is None and b["accuracy"] is None for b in empty)
    for number, b in enumerate(bins):
        assert (b["low"], b["high"]) == (number / 15, (number + 1) / 15)
    assert details["mean_confidence"] == pytest.approx(probs.max(1).mean())
    assert details["accuracy"] == pytest.approx(np.mean(probs.argmax(1) == labels))


def test_gap_tells_over_from_under_confidence() -> None:
    logits, labels = _case(400, 5, 1)
    over = cal.calibration_figures(logits * 4, labels, bootstrap=FEW)["signed_gap"]
    under = cal.calibration_figures(logits / 4, labels, bootstrap=FEW)["signed_gap"]
    assert over.low > 0.0
    assert under.high < 0.0


# --- Temperature ------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(true: float) -> None:
    logits, labels = _case(3000, 5, 20)
    ids = [f"c{i}" for i in range(3000)]
    fitted, figure = cal.temperature_figure(logits * true, labels, ids, bootstrap=FEW)
    assert figure.low < true < figure.high
    assert fitted.value == figure.value
    assert fitted.nll_after <= fitted.nll_before
    assert not fitted.at_limit
    # Against a grid in steps of 2%.
    grid = true * np.exp(np.linspace(-0.4, 0.4, 41))
    rows = np.arange(3000)
    nlls = [-np.log(probabilities(logits * true / t)[rows, labels]).mean() for t in grid]
    assert fitted.value == pytest.approx(grid[int(np.argmin(nlls))], rel=0.011)
    assert fitted.nll_after <= min(nlls) + 1e-12


def test_temperature_replicates_are_the_fits_of_the_resamples() -> None:
    logits, labels = _case(120, 3, 3)
    boot = Bootstrap(replicates=6)
    _, figure = cal.temperature_figure(logits * 2, labels, bootstrap=boot)
    for number, drawn in enumerate(drawn_rows(boot, 120)):
        again = cal.fit_temperature(logits[drawn] * 2, labels[drawn])
        assert figure.replicates[number] == pytest.approx(again.value, rel=2e-3)


def test_scaling_keeps_accuracy_and_mends_calibration() -> None:
    logits, labels = _case(2000, 5, 4)
    ids = [f"s{i}" for i in range(2000)]
    chosen = cal.calibration_split(ids)
    names = np.array(ids)
    fitted = cal.fit_temperature(logits[chosen] * 5, labels[chosen], list(names[chosen]))
    rest = ~chosen
    before = cal.calibration_figures(logits[rest] * 5, labels[rest], bootstrap=FEW)
    after = cal.calibration_figures(
        logits[rest] * 5, labels[rest], temperature=fitted, ids=list(names[rest]), bootstrap=FEW
    )
    assert after["ece_scaled"].high < before["ece"].low
    assert after["ece_scaled"].details["accuracy"] == before["ece"].details["accuracy"]
    assert after["ece_scaled"].details["temperature"] == fitted.value
    assert set(after) <= set(METRICS)
    # Held fixed under a shift: the same temperature, whatever the shifted data would prefer.
    shifted = cal.calibration_figures(
        logits[rest], labels[rest], temperature=fitted, ids=list(names[rest]), bootstrap=FEW
    )
    assert shifted["signed_gap_scaled"].high < 0.0


def test_evaluating_on_the_calibration_split_is_refused() -> None:
    logits, labels = _case(10)
    fitted = cal.fit_temperature(logits, labels, [f"i{i}" for i in range(10)])
    with pytest.raises(ClipRobustError, match="'i3'"):
        cal.calibration_figures(
            logits[:1], labels[:1], temperature=fitted, ids=["i3"], bootstrap=FEW
        )
    with pytest.raises(ClipRobustError, match="10 samples but 0 ids; pass the sample ids"):
        cal.calibration_figures(logits, labels, temperature=fitted, bootstrap=FEW)
    # A temperature from elsewhere, of unknown samples, cannot be checked.
    free = cal.Temperature(1.5, 0.0, 0.0, 9)
    assert "ece_scaled" in cal.calibration_figures(logits, labels, temperature=free, bootstrap=FEW)


def test_the_split_goes_by_id_and_by_nothing_else() -> None:
    ids = [f"image-{i:04d}" for i in range(1000)]
    chosen = cal.calibration_split(ids, 0.3)
    assert 0.25 < chosen.mean() < 0.35
    np.testing.assert_array_equal(cal.calibration_split(ids[::-1], 0.3), chosen[::-1])
    np.testing.assert_array_equal(cal.calibration_split(ids[200:500], 0.3), chosen[200:500])
    assert (cal.calibration_split(ids, 0.3, seed=1) != chosen).any()
    for fraction in (0.0, 1.0):
        with pytest.raises(ClipRobustError, match=r"must lie in \(0, 1\)"):
            cal.calibration_split(ids, fraction)
    # The split is part of what a baseline means: a hash's first eight bytes against a share.
    assert chosen[:12].tolist() == [
        int.from_bytes(hashlib.sha256(b"0\0" + name.encode()).digest()[:8], "big") < 0.3 * 2**64
        for name in ids[:12]
    ]
    np.testing.assert_array_equal(cal.calibration_split(ids), cal.calibration_split(ids, 0.5))
    with pytest.raises(ClipRobustError, match="empty"):
        cal.calibration_split(["one"], 0.5)
    for fraction in (1e-6, 1.0 - 1e-6):
        with pytest.raises(ClipRobustError, match="leaves one side of 3 samples empty"):
            cal.calibration_split(ids[:3], fraction)


def test_separable_data_stop_at_the_limit_and_say_so() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    fitted = cal.fit_temperature(logits, np.arange(30) % 3)
    assert fitted.at_limit
    assert fitted.nll_after == pytest.approx(0.0, abs=1e-9)
    random = np.random.default_rng(0)
    useless = cal.fit_temperature(
        random.normal(size=(50, 3)) - 9 * np.eye(3)[np.arange(50) % 3], np.arange(50) % 3
    )
    assert useless.at_limit
    assert useless.value > 50
    assert fitted.value < 0.03
    _, figure = cal.temperature_figure(logits, np.arange(30) % 3, bootstrap=FEW)
    assert figure.details["at_limit"]
    # Nor do replicates leave the limits.
    assert min(figure.replicates) == pytest.approx(0.01)


def test_the_temperature_says_what_it_did() -> None:
    logits, labels = _case(400, 3, 6)
    fitted, figure = cal.temperature_figure(logits * 2, labels, ["a", "b"], bootstrap=FEW)
    assert (fitted.n, figure.n, fitted.ids) == (400, 400, frozenset({"a", "b"}))
    rows = np.arange(400)
    before = -np.log(probabilities(logits * 2)[rows, labels]).mean()
    assert fitted.nll_before == pytest.approx(before)
    after = -np.log(probabilities(logits * 2 / fitted.value)[rows, labels]).mean()
    assert fitted.nll_after == pytest.approx(after)
    assert figure.details == {
        "nll_before": fitted.nll_before,
        "nll_after": fitted.nll_after,
        "at_limit": False,
    }


def test_a_search_that_ends_worse_than_it_began_leaves_the_logits_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, labels = _case(40, 3, 6)
    stopped = OptimizeResult(x=0.5, fun=9.0)
    monkeypatch.setattr(cal, "minimize_scalar", lambda *_, **__: stopped)
    fitted = cal.fit_temperature(logits, labels)
    assert (fitted.value, fitted.nll_after) == (1.0, fitted.nll_before)


def test_a_parabola_finds_the_minimum_between_grid_points() -> None:
    grid = np.linspace(-1.0, 1.0, 9)
    for minimum in (-0.9, -0.3, 0.0, 0.49, 0.8):
        values = 3.0 * (grid - minimum) ** 2
        assert cal._parabolic_minimum(grid, values[None])[0] == pytest.approx(minimum)
    # Beyond either end it stays within a step of the grid; a straight line has no minimum inside.
    rows = np.stack([(grid - 9.0) ** 2, (grid + 9.0) ** 2, grid, -grid, np.zeros(9)])
    assert cal._parabolic_minimum(grid, rows).tolist() == [1.0, -1.0, -0.75, 0.75, -0.75]


# --- Sigmoid models ---------------------------------------------------------------------------------


def test_sigmoid_models_get_the_softmax_headline_and_their_sigmoid_beside_it() -> None:
    logits, labels = _case()
    plain = cal.calibration_figures(logits, labels, bootstrap=FEW)
    both = cal.calibration_figures(logits - 7.0, labels, probability="sigmoid", bootstrap=FEW)
    assert set(both) - set(plain) == {"ece_sigmoid", "signed_gap_sigmoid"}
    assert both["ece"].value == pytest.approx(plain["ece"].value, abs=1e-9)
    top = probabilities(logits - 7.0, "sigmoid").max(1)
    right = logits.argmax(1) == labels
    assert both["ece_sigmoid"].value == pytest.approx(textbook_ece(top, right), abs=1e-12)
    gap = both["signed_gap_sigmoid"]
    assert gap.value == pytest.approx(top.mean() - right.mean())
    assert gap.low < gap.value < gap.high < 0.0


# --- Intervals --------------------------------------------------------------------------------------


def test_a_thousand_replicates_of_a_thousand_samples_take_a_tenth_of_a_second() -> None:
    rng = np.random.default_rng(0)
    columns = {"confidence": rng.random(1000), "correct": rng.random(1000) < 0.5}
    outcomes = Outcomes(columns, partial(cal._binned_error, kind=cal._equal_width, bins=15))
    times = []
    for seed in range(5):  # another seed each time, so that no resampling is reused
        start = time.process_time()
        replicates = resampled(outcomes, Bootstrap(seed=seed))
        times.append(time.process_time() - start)
        assert replicates.shape == (1000,)
    assert min(times) < 0.1


def test_ece_intervals_hold_the_truth_where_percentiles_do_not() -> None:
    """Accuracy is confidence - 0.04 throughout, so that the true ECE is 0.04; 60 draws of 400."""
    rng = np.random.default_rng(8)
    held = percentile = 0
    for _ in range(60):
        confidence = 0.5 + 0.5 * rng.beta(3, 3, size=400)
        wrong = rng.random(400) > confidence - 0.04
        logits = np.stack([np.log(confidence), np.log(1.0 - confidence)], axis=1)
        figure = cal.calibration_figures(logits, wrong.astype(int), bootstrap=FEW)["ece"]
        held += figure.low <= 0.04 <= figure.high
        low, high = np.quantile(replicates_of(figure, FEW), [0.025, 0.975])
        percentile += low <= 0.04 <= high
    assert held >= 56
    assert percentile < held


def test_perfect_answers_do_not_claim_certainty() -> None:
    logits = np.eye(3)[np.arange(30) % 3] * 1000.0
    figure = cal.calibration_figures(logits, np.arange(30) % 3, bootstrap=FEW)["ece"]
    assert figure.value == 0.0
    # An error of 0.2 would have shown among 30 (0.8**30 is 0.001); one of 0.09 not yet (0.06).
    assert 0.09 < figure.high < 0.2
    assert figure.high == pytest.approx(wilson(0, 30).high, abs=0.03)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        ([[0.0, np.nan]], [0], "NaN"),
        ([[0.0, 1.0]], [-1], "outside the label set"),
        (np.zeros((0, 2)), [], "no samples"),
    ],
)
def test_broken_input_is_refused(logits: ArrayLike, labels: ArrayLike, words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        cal.calibration_figures(logits, labels)
    with pytest.raises(ClipRobustError, match=words):
        cal.fit_temperature(logits, labels)


def test_what_a_right_and_a_wrong_answer_would_have_scored() -> None:
    logits = np.log([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    truth, top = np.array([2, 2]), np.array([0, 2])
    log = cal._log_scores(logits, truth, top)
    np.testing.assert_allclose(log.values, -np.log([0.2, 0.6]))
    np.testing.assert_allclose(log.if_right, -np.log([0.5, 0.6]))
    # Of the others, as probable as the model has them: 3 to 2, then 1 to 1.
    wrong = [0.6 * math.log(0.3) + 0.4 * math.log(0.2), math.log(0.2)]
    np.testing.assert_allclose(log.if_wrong, -np.array(wrong))
    brier = cal._brier_scores(np.exp(logits), truth, top)
    np.testing.assert_allclose(brier.values, [0.25 + 0.09 + 0.64, 0.04 + 0.04 + 0.16])
    np.testing.assert_allclose(brier.if_right, [0.38, 0.24])
    np.testing.assert_allclose(brier.if_wrong, [1.38 - 2 * (0.6 * 0.3 + 0.4 * 0.2), 1.44 - 0.4])


def test_a_single_class_is_never_wrong() -> None:
    one = np.zeros(3, dtype=np.int64)
    for scores in (
        cal._log_scores(np.full((3, 1), 2.0), one, one),
        cal._brier_scores(np.ones((3, 1)), one, one),
    ):
        np.testing.assert_allclose(
            [scores.values, scores.if_right, scores.if_wrong], 0.0, atol=1e-12
        )
