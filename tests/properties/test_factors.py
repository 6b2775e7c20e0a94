"""Visual factors and effective robustness: by hand, polyfit and loops."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import drawn_rows, drawn_samples, keys_of, replicates_of, times_as_wide
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import factors

FEW = Bootstrap(replicates=200)


def test_error_ratio_by_hand_over_annotated_images_only() -> None:
    #      pose: 1 of 2 wrong; style: 0 of 2 wrong; the rest must not count.
    correct = np.array([True, False, True, True, False, False, False])
    names = ["pose", "pose", "style", "style", "", "prototype", "none"]
    figures = factors.factor_figures(correct, names)
    assert list(figures) == ["pose", "style"]
    assert figures["pose"]["error_ratio"].value == pytest.approx(0.5 / 0.25)
    assert figures["style"]["error_ratio"].value == 0.0
    assert figures["pose"]["error_ratio"].details["annotated"] == 4
    assert figures["pose"]["error_ratio"].details["overall_accuracy"] == 0.75
    assert figures["pose"]["factor_accuracy"].value == 0.5
    assert figures["pose"]["factor_accuracy"].n == 2


def test_error_ratio_replicates_and_undefined_ratio() -> None:
    correct = np.random.default_rng(1).random(200) < 0.6
    names = ["pose", "style"] * 100
    figures = factors.factor_figures(correct, names, bootstrap=FEW)
    weights = [figures[f]["error_ratio"].value for f in ("pose", "style")]
    assert np.mean(weights) == pytest.approx(1.0)
    for entry in figures.values():
        assert entry["error_ratio"].low < 1.3
        assert entry["error_ratio"].low <= entry["error_ratio"].value <= entry["error_ratio"].high
    perfect = factors.factor_figures(np.ones(4, bool), ["a", "a", "b", "b"])
    assert np.isnan(perfect["a"]["error_ratio"].value)
    assert np.isnan(perfect["a"]["error_ratio"].low)
    with pytest.raises(ClipRobustError, match="annotated"):
        factors.factor_figures(np.ones(2, bool), ["", "prototype"])


def test_replicates_of_error_ratios_are_those_of_the_annotated_images() -> None:
    rng = np.random.default_rng(5)
    correct = rng.random(40) < 0.5
    names = np.array(["pose", "style", "", "pose"])[rng.integers(4, size=40)]
    kept = np.flatnonzero(names != "")
    boot = Bootstrap(replicates=12, keys=keys_of(40))
    figures = factors.factor_figures(correct, list(names), bootstrap=boot)
    wrong, annotated = ~correct[kept], names[kept]
    inner = boot.subset(kept)
    for factor, entry in figures.items():
        want = []
        for drawn in drawn_rows(inner, len(kept)):
            mine = annotated[drawn] == factor
            want.append(wrong[drawn][mine].mean() / wrong[drawn].mean())
        np.testing.assert_allclose(replicates_of(entry["error_ratio"], inner), want)
        assert 0.8 < times_as_wide(entry["error_ratio"], replace(inner, replicates=400)) < 1.3
        rows = np.flatnonzero(annotated == factor)
        assert entry["error_ratio"].n == entry["factor_accuracy"].n == len(rows)
        assert entry["error_ratio"].details["factor_accuracy"] == pytest.approx(
            1.0 - wrong[rows].mean()
        )
        outcomes, own = entry["error_ratio"].outcomes, entry["factor_accuracy"].outcomes
        assert outcomes is not None
        assert own is not None
        assert outcomes.keys == inner.keys
        assert own.keys == inner.subset(rows).keys
        assert outcomes.value() == pytest.approx(entry["error_ratio"].value)
    # All annotated: the samples are the data set's own.
    every = factors.factor_figures(correct, ["pose"] * 40, bootstrap=boot)["pose"]
    assert every["error_ratio"].outcomes is not None
    assert every["error_ratio"].outcomes.keys == boot.keys
    assert every["error_ratio"].value == 1.0
    with pytest.raises(ClipRobustError, match="3 samples but 2 factor values"):
        factors.factor_figures(np.ones(3, bool), ["a", "b"])


def test_the_line_is_fitted_on_logits() -> None:
    fleet = np.array([0.3, 0.5, 0.6, 0.7, 0.8])
    shifted = expit(0.8 * logit(fleet) - 0.5)
    line = factors.fit_accuracy_line(fleet, shifted)
    assert (line.slope, line.intercept, line.r_squared) == pytest.approx((0.8, -0.5, 1.0))
    assert line.predict(0.65) == pytest.approx(expit(0.8 * logit(0.65) - 0.5))
    noisy = np.clip(shifted + np.array([0.02, -0.03, 0.01, 0.03, -0.02]), 0.01, 0.99)
    slope, intercept = np.polyfit(logit(fleet), logit(noisy), 1)
    got = factors.fit_accuracy_line(fleet, noisy)
    assert (got.slope, got.intercept) == pytest.approx((slope, intercept))
    assert got.r_squared == pytest.approx(np.corrcoef(logit(fleet), logit(noisy))[0, 1] ** 2)


@pytest.mark.parametrize("paired", [True, False])
def test_a_model_on_the_line_has_no_effective_robustness(paired: bool) -> None:
    rng = np.random.default_rng(2)
    fleet = rng.uniform(0.3, 0.9, size=12)
    shifted = expit(0.9 * logit(fleet) - 1.0 + 0.05 * rng.normal(size=12))
    inside = np.arange(1000) < 700
    expected = float(expit(0.9 * logit(0.7) - 1.0))
    on_line = np.arange(1000) < round(1000 * expected)
    figure = factors.effective_robustness(
        inside, on_line, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert figure.low < 0.0 < figure.high
    assert abs(figure.value) < 0.03
    robust = np.arange(1000) < 690
    above = factors.effective_robustness(
        inside, robust, fleet, shifted, paired=paired, bootstrap=FEW
    )
    assert above.low > 0.1
    assert above.value == pytest.approx(0.69 - above.details["predicted_accuracy"])
    assert above.details["fleet"] == 12


def test_a_fleet_without_shift_has_a_flat_line() -> None:
    line = factors.fit_accuracy_line([0.5, 0.6, 0.7], [0.4, 0.4, 0.4])
    assert line.slope == pytest.approx(0.0, abs=1e-12)
    assert (line.r_squared, line.n) == (1.0, 3)
    assert line.predict([0.2, 0.9]).tolist() == pytest.approx([0.4, 0.4])


@pytest.mark.parametrize("paired", [True, False])
def test_replicates_resample_images_and_fleet(paired: bool) -> None:
    rng = np.random.default_rng(8)
    inside, shifted = rng.random(30) < 0.7, rng.random(30 if paired else 20) < 0.5
    fleet, under = rng.uniform(0.3, 0.9, 6), rng.uniform(0.2, 0.8, 6)
    boot = Bootstrap(replicates=12, seed=3, keys=keys_of(30 if paired else 50))
    figure = factors.effective_robustness(
        inside, shifted, fleet, under, paired=paired, bootstrap=boot
    )
    strata = None if paired else np.repeat([0, 1], [30, 20])
    models = np.random.default_rng([3, 1]).integers(6, size=(12, 6))
    want = []
    for drawn, chosen in zip(drawn_rows(boot, 30 if paired else 50, strata), models, strict=True):
        first = inside[drawn] if paired else inside[drawn[:30]]
        second = shifted[drawn] if paired else shifted[drawn[30:] - 30]
        slope, intercept = np.polyfit(logit(fleet[chosen]), logit(under[chosen]), 1)
        want.append(second.mean() - expit(slope * logit(first.mean()) + intercept))
    np.testing.assert_allclose(figure.replicates, want, atol=1e-9)
    assert figure.n == len(shifted)
    assert figure.details["id_accuracy"] == inside.mean()
    assert figure.details["shifted_accuracy"] == shifted.mean()
    slope, intercept = np.polyfit(logit(fleet), logit(under), 1)
    assert (figure.details["slope"], figure.details["intercept"]) == pytest.approx(
        (slope, intercept)
    )
    assert figure.value == pytest.approx(
        shifted.mean() - expit(slope * logit(inside.mean()) + intercept)
    )
    # The fleet is drawn by every run alike, but a comparison of runs takes its line as it is.
    assert figure.outcomes is not None
    assert figure.outcomes.keys == boot.keys
    assert figure.outcomes.value() == pytest.approx(figure.value)
    line = factors.fit_accuracy_line(fleet, under)
    counts = np.concatenate(list(boot.plan(30 if paired else 50, strata).counts()))
    held = []
    for drawn in drawn_rows(boot, 30 if paired else 50, strata):
        first = inside[drawn] if paired else inside[drawn[:30]]
        second = shifted[drawn] if paired else shifted[drawn[30:] - 30]
        held.append(second.mean() - float(line.predict(first.mean())))
    np.testing.assert_allclose(figure.outcomes.at(counts), held, atol=1e-9)


def test_scenes_of_one_drawing_are_resampled_together() -> None:
    rng = np.random.default_rng(6)
    units = np.arange(48) // 4
    correct = np.where(rng.random(48) < 0.8, (rng.random(12) < 0.5)[units], rng.random(48) < 0.5)
    names = np.array(["pose", "style"])[rng.integers(2, size=48)]
    boot = Bootstrap(replicates=40, keys=keys_of(48, units))
    entry = factors.factor_figures(correct, list(names), bootstrap=boot)["pose"]
    want = []
    for drawn in drawn_samples(boot, 48):
        mine = names[drawn] == "pose"
        want.append((~correct[drawn][mine]).mean() / (~correct[drawn]).mean())
    np.testing.assert_allclose(replicates_of(entry["error_ratio"], boot), want)
    assert entry["error_ratio"].units == 12
    share = entry["factor_accuracy"]
    assert share.units == len(set(units[names == "pose"]))
    assert share.design_effect > 1.0
    # A fleet that varies more than the images do is no part of the design effect.
    fleet = np.array([0.2, 0.5, 0.8, 0.9])
    calm, wild = (
        factors.effective_robustness(
            correct, ~correct, fleet, under, paired=True, bootstrap=replace(boot, replicates=300)
        )
        for under in (fleet, np.array([0.1, 0.9, 0.1, 0.9]))
    )
    assert np.nanvar(wild.replicates) > 1.5 * np.nanvar(calm.replicates)
    assert wild.design_effect == pytest.approx(calm.design_effect, rel=0.25)


def test_replicates_without_an_id_error_count_half_a_sample() -> None:
    inside, fleet = np.array([True, True, False]), np.array([0.4, 0.6, 0.8])
    boot = Bootstrap(replicates=40)
    figure = factors.effective_robustness(inside, inside, fleet, fleet, paired=True, bootstrap=boot)
    assert np.isfinite(figure.replicates).mean() > 0.8
    shares = inside[drawn_rows(boot, 3)].mean(axis=1)
    drawn = np.array(figure.replicates)
    # A fleet on the diagonal predicts the ID accuracy itself.
    assert np.nanmax(drawn[shares == 1.0]) == pytest.approx(0.5 / 3)
    assert np.nanmin(drawn[shares == 1.0]) == pytest.approx(0.5 / 3)
    assert np.nanmax(drawn[shares == 0.0]) == pytest.approx(-0.5 / 3)


def test_a_fleet_too_small_for_an_interval_says_why_there_is_none() -> None:
    rng = np.random.default_rng(8)
    inside, fleet = rng.random(200) < 0.7, np.array([0.4, 0.6, 0.8, 0.9])
    shifted = inside & (rng.random(200) < 0.8)
    three, four = (
        factors.effective_robustness(inside, shifted, some, 0.8 * some, paired=True)
        for some in (fleet[:3], fleet)
    )
    assert np.isfinite(three.value)
    assert np.isnan([three.low, three.high]).all()
    said = re.search(r"no interval, as (\d+) of 1000 redraws of the fleet's 3 models", three.method)
    assert said, three.method
    # All three redrawn models are one: 3 of 27 ways.
    assert int(said[1]) == np.isnan(three.replicates).sum() == pytest.approx(1000 / 9, abs=30)
    assert np.isfinite([four.low, four.high]).all()
    assert "no interval" not in four.method


def test_fleets_without_a_line_are_refused() -> None:
    with pytest.raises(ClipRobustError, match="at least 3"):
        factors.fit_accuracy_line([0.5, 0.6], [0.4, 0.5])
    for edge in (0.0, 1.0):
        with pytest.raises(ClipRobustError, match=f"strictly between 0 and 1, got {edge}"):
            factors.fit_accuracy_line([0.5, 0.6, edge], [0.4, 0.5, 0.6])
        with pytest.raises(ClipRobustError, match="strictly between"):
            factors.fit_accuracy_line([0.4, 0.5, 0.6], [0.5, 0.6, edge])
    with pytest.raises(ClipRobustError, match=r"fleet: .* 3 and 4 samples"):
        factors.fit_accuracy_line([0.4, 0.5, 0.6], [0.4, 0.5, 0.6, 0.7])
    with pytest.raises(ClipRobustError, match="same ID accuracy"):
        factors.fit_accuracy_line([0.5, 0.5, 0.5], [0.4, 0.5, 0.6])
    with pytest.raises(ClipRobustError, match="no logit"):
        factors.effective_robustness(
            np.ones(3, bool), np.ones(3, bool), [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]
        )
    with pytest.raises(ClipRobustError, match="ID accuracy is 0 exactly"):
        factors.effective_robustness(
            np.zeros(3, bool), np.ones(3, bool), [0.5, 0.6, 0.7], [0.4, 0.5, 0.6]
        )


def seen(
    dataset: str, ids: list[str], right: list[bool], factor: list[str] | None = None
) -> SampleArrays:
    labels = np.zeros(len(ids), dtype=np.int64)
    answers = np.eye(2)[1 - np.array(right, dtype=int)]
    columns = {} if factor is None else {"factor": tuple(factor)}
    return SampleArrays(Condition(dataset), tuple(ids), labels, answers, groups=columns)


def test_a_changed_factor_is_compared_with_the_same_pictures() -> None:
    clean = seen("clean", list("abcdef"), [True, True, True, False, False, False])
    # In another order, and fewer: a was right and is wrong, d is wrong still, e is right now, b stays right.
    pose = seen("factor-pose", list("edba"), [True, False, True, False], ["pose"] * 4)
    found = {f.metric: f for f in factors.factors_of(clean, pose)}
    assert set(found) == {"factor_accuracy", "accuracy_drop", "error_ratio"}
    assert {f.condition for f in found.values()} == {Condition("factor-pose")}
    assert found["factor_accuracy"].value == 0.5
    assert found["accuracy_drop"].value == 0.0
    assert found["accuracy_drop"].details["lost"] == 1
    assert found["error_ratio"].value == pytest.approx(0.5 / 0.5)
    assert found["error_ratio"].details["overall_accuracy"] == 0.5
    assert found["error_ratio"].outcomes is not None
    assert found["error_ratio"].outcomes.keys == clean.keys.take([0, 1, 3, 4])
    with pytest.raises(ClipRobustError, match="no sample in common"):
        factors.factors_of(clean, seen("factor-pose", ["x"], [True], ["pose"]))


def test_annotated_pictures_are_compared_with_all_of_them() -> None:
    right = [True, False, True, True, False, False]
    column = ["pose", "pose", "style", "style", "", "prototype"]
    # With clean or without: what is annotated is compared with what is annotated.
    annotated = seen("imagenet-x", list("abcdef"), right, column)
    found = factors.factors_of(seen("clean", ["z"], [True]), annotated)
    assert [(f.metric, str(f.condition)) for f in found] == [
        (metric, f"imagenet-x:{factor}")
        for factor in ("pose", "style")
        for metric in ("factor_accuracy", "error_ratio")
    ]
    assert found[1].value == pytest.approx(0.5 / 0.25)
    with pytest.raises(ClipRobustError, match="annotated"):
        factors.factors_of(annotated, seen("x", ["a"], [True], ["none"]))
    with pytest.raises(ClipRobustError, match=r"x has no column 'factor', .* it has none"):
        factors.factors_of(annotated, seen("x", ["a"], [True]))


def test_no_error_on_a_factor_is_no_certainty_that_there_is_none() -> None:
    """Thirty right answers leave an error of 11% open (Wilson), which is a fifth of everybody's half."""
    right = np.repeat([True, False], 30)
    annotated = factors.factor_figures(right, ["pose"] * 30 + ["style"] * 30)
    for ratio in (
        annotated["pose"]["error_ratio"],
        factors.intervention_figures(~right, np.ones(60, dtype=bool))["error_ratio"],
    ):
        assert (ratio.value, ratio.low) == (0.0, 0.0)
        assert 0.05 < ratio.high < 0.5
    # All wrong: the factor's error is 1, and everybody's is known to some 13 points.
    assert annotated["style"]["error_ratio"].value == 2.0
    assert annotated["style"]["error_ratio"].high > 2.3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_error_ratios_of_any_answers(pairs: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    ratio = factors.intervention_figures(before, after)["error_ratio"]
    if before.all():
        assert np.isnan(ratio.value)
        assert np.isnan(ratio.low)
    else:
        assert ratio.value == pytest.approx((~after).sum() / (~before).sum())
        assert not ratio.low > ratio.value
        assert ratio.outcomes is not None
        assert ratio.outcomes.value() == pytest.approx(ratio.value)
