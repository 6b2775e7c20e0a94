"""The paper's claims: what is looked at, what is said of it, and where the borders lie."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit
from study_helpers import ACCURACY, BASE, FLEET, a_run

from pytest_cliprobust.study import claims
from pytest_cliprobust.study.claims import KEPT, Claim, Word
from pytest_cliprobust.study.effects import Column, Effect, Regression
from pytest_cliprobust.study.gather import Table, gathered

SHAPE = "shape_bias/shape_bias/cue/clean"
DROP = "corruption_3d/relative_corruption_drop/clean/all_3d"
AUROC = "ood/auroc_mcm/near/clean"
ECE, ECE_FOG = "calibration/ece_scaled/clean/clean", "calibration/ece_scaled/clean/fog_3d"


def table(
    values: Mapping[str, Mapping[str, float]], tags: Mapping[str, Mapping[str, str]] | None = None
) -> Table:
    """Return the table of a run of models, all of which have some accuracy."""
    models = {name: {ACCURACY: 0.5} | dict(own) for name, own in values.items()}
    return gathered([a_run(models, FLEET if tags is None else tags)])


# --- Words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "wanted", "word"),
    [
        (0.1, 0.2, 1, Word.SUPPORTED),
        (0.0, 0.2, 1, Word.NOT_DECIDED),
        (-0.2, 0.0, 1, Word.NOT_DECIDED),
        (-0.2, -0.1, 1, Word.CONTRADICTED),
        (-0.2, -0.1, -1, Word.SUPPORTED),
        (0.1, 0.2, -1, Word.CONTRADICTED),
        (-0.1, 0.2, -1, Word.NOT_DECIDED),
        (math.nan, math.nan, 1, Word.NOT_DECIDED),
    ],
)
def test_on_which_side_of_none_an_interval_lies(
    low: float, high: float, wanted: int, word: Word
) -> None:
    assert claims._sign(low, high, wanted) is word


def test_an_interval_below_a_limit() -> None:
    assert claims._below(-1.0, 0.0499, 0.05) is Word.SUPPORTED
    assert claims._below(-1.0, 0.05, 0.05) is Word.NOT_DECIDED
    assert claims._below(0.05, 0.06, 0.05) is Word.NOT_DECIDED
    assert claims._below(0.0501, 0.06, 0.05) is Word.CONTRADICTED


def test_several_checks_of_one_claim() -> None:
    yes, no, open_ = Word.SUPPORTED, Word.CONTRADICTED, Word.NOT_DECIDED
    assert claims._together([yes, yes]) is yes
    assert claims._together([no]) is no
    assert claims._together([yes, no, open_]) is Word.IN_PART
    assert claims._together([yes, open_]) is open_
    assert claims._together([open_, no]) is open_


# --- Fine-tuning -----------------------------------------------------------------------------------


def fine_tuned(base: float, tuned: float, seeds: tuple[float, ...] = ()) -> Claim:
    values = {"base": {SHAPE: base}, "tuned": {SHAPE: tuned}, "half": {}}
    values |= {f"base{i}": {SHAPE: value} for i, value in enumerate(seeds, start=1)}
    return claims.fine_tuning_lowers_shape_bias(table(values))


def test_a_fine_tuned_model_is_held_against_the_one_it_comes_from() -> None:
    claim = fine_tuned(0.5, 0.3, (0.52, 0.48))
    assert claim.word is Word.SUPPORTED
    # Both intervals reach 0.02 to each side, and the runs are no pair: together sqrt(2) times as far.
    assert claim.figures == (
        f"tuned against base, {SHAPE}: 0.500 to 0.300, change -0.200 [-0.228, -0.172], not in pairs; "
        "spread between seeds 0.020",
    )
    assert fine_tuned(0.3, 0.5).word is Word.CONTRADICTED
    # Without a second training there is no spread to be held against, and none is told.
    assert fine_tuned(0.5, 0.46).word is Word.SUPPORTED
    assert fine_tuned(0.5, 0.46).figures[0].endswith("not in pairs")
    assert fine_tuned(0.5, 0.48).word is Word.NOT_DECIDED


def test_a_change_within_twice_the_spread_between_seeds_is_not_decided() -> None:
    # Trainings at 0.4, 0.5 and 0.6 have a standard deviation of 0.1.
    assert fine_tuned(0.5, 0.31, (0.4, 0.6)).word is Word.NOT_DECIDED
    assert fine_tuned(0.5, 0.29, (0.4, 0.6)).word is Word.SUPPORTED
    assert fine_tuned(0.5, 0.71, (0.4, 0.6)).word is Word.CONTRADICTED


def test_without_a_base_or_its_shape_bias_nothing_is_said_of_fine_tuning() -> None:
    values = {"base": {SHAPE: 0.5}, "tuned": {}, "vit": {SHAPE: 0.4}}
    assert claims.fine_tuning_lowers_shape_bias(table(values)).word is Word.NOT_MEASURED
    values = {"base1": {SHAPE: 0.5}, "tuned": {SHAPE: 0.3}}
    assert claims.fine_tuning_lowers_shape_bias(table(values)).word is Word.NOT_MEASURED


# --- Architecture ----------------------------------------------------------------------------------


def test_how_far_a_factor_reaches() -> None:
    own, other = Column("architecture", "ViT"), Column("data", "drawings")
    effects = (
        Effect(own, -0.5, -0.7, -0.3),
        Effect(own, 0.2, -0.1, 0.5),
        Effect(other, 0.4, 0.1, 0.9),
    )
    made = Regression(effects, 0.0, 0.0, 3, {}, 9)
    assert claims._reach(made, "architecture") == claims.Reach(0.5, 0.3, 0.7)
    assert claims._reach(made, "data") == claims.Reach(0.4, 0.1, 0.9)
    flat = Regression((Effect(own, 0.1, -0.2, 0.3),), 0.0, 0.0, 3, {}, 9)
    assert claims._reach(flat, "architecture") == claims.Reach(0.1, 0.0, 0.3)


def architecture(**changes: float) -> Claim:
    values = {"base": 0.4, "base1": 0.41, "base2": 0.39}
    values |= {name: changes.get(name, 0.4) for name in FLEET if name not in values}
    return claims.architecture_decides_3d_corruption(
        table({name: {DROP: value} for name, value in values.items()})
    )


def test_architecture_is_held_against_the_other_factors() -> None:
    claim = architecture(vit=0.1, half=0.3)
    assert claim.word is Word.SUPPORTED
    head, *lines = claim.figures
    # Student's t of a new training against the mean of three, as an F test.
    t = -0.3 / (0.01 * math.sqrt(4 / 3))
    assert head.startswith(f"{DROP}, F tests: architecture p = {2 * stats.t.sf(-t, 2):.3g}, ")
    assert ", training-set size p = " in head
    half = stats.t.ppf(0.975, 2) * 0.01 * math.sqrt(4 / 3)
    assert lines[0] == (
        f"architecture: ViT instead of ResNet: -0.300 [{-0.3 - half:+.3f}, {-0.3 + half:+.3f}]"
    )
    assert len(lines) == 5
    # It has an effect, and another factor has a larger one that may be as small.
    assert architecture(vit=0.1, half=0.095).word is Word.NOT_DECIDED
    # Another one's is larger, by their intervals.
    assert architecture(vit=0.39, half=0.1).word is Word.CONTRADICTED
    # The largest of all, and no effect.
    assert architecture(vit=0.38).word is Word.NOT_DECIDED


def test_other_means_and_metrics_are_not_taken_for_the_drop_over_3d_corruptions() -> None:
    other = {
        "corruption_2d/relative_corruption_drop/clean/all_2d": 0.3,
        "corruption_3d/accuracy/clean/all_3d": 0.3,
    }
    claim = claims.architecture_decides_3d_corruption(table(dict.fromkeys(FLEET, other)))
    assert claim.word is Word.NOT_MEASURED
    assert "no run has the mean over all 3D corruptions" in claim.why
    same = {name: {DROP: 0.4} for name in ("base", "base1", "half", "other")}
    claim = claims.architecture_decides_3d_corruption(table(same))
    assert claim.why == "the architecture does not vary apart from other factors here"


# --- Out of distribution ---------------------------------------------------------------------------


def of_source(*areas: float, **facts: str) -> Claim:
    values = {f"m{i}": {ACCURACY: 0.3 + 0.1 * i, AUROC: area} for i, area in enumerate(areas)}
    return claims.accuracy_goes_with_ood(table(values, dict.fromkeys(values, BASE | facts)))


def test_four_models_of_a_source_have_a_correlation() -> None:
    areas = (0.6, 0.65, 0.8, 0.82, 0.9)
    claim = of_source(*areas)
    assert claim.word is Word.SUPPORTED
    found = stats.pearsonr(logit([0.3, 0.4, 0.5, 0.6, 0.7]), logit(areas))
    low, high = found.confidence_interval(0.95)
    assert claim.figures == (
        f"{AUROC}, 5 models of photos: r = {found.statistic:+.3f} [{low:+.3f}, {high:+.3f}]",
    )
    assert of_source(0.6, 0.7, 0.5, 0.8).word is Word.NOT_DECIDED
    assert of_source(0.6, 0.7, 0.8).word is Word.NOT_MEASURED
    assert of_source(0.6, 0.7, 0.8, math.nan).word is Word.NOT_MEASURED
    assert of_source(*areas[::-1]).word is Word.CONTRADICTED
    assert "models of unknown source" in of_source(*areas, data="").figures[0]


def test_sources_are_taken_apart_and_other_scores_are_not_looked_at() -> None:
    values = {
        f"{source}{i}": {
            ACCURACY: 0.3 + 0.1 * i,
            AUROC: 0.5 + sign * 0.1 * i,
            "ood/auroc_energy/near/clean": 0.9 - 0.1 * i,
            "other/auroc_mcm/near/clean": 0.9 - 0.1 * i,
        }
        for source, sign in (("up", 1), ("down", -1))
        for i in range(5)
    }
    facts = {name: BASE | {"data": name[:-1]} for name in values}
    claim = claims.accuracy_goes_with_ood(table(values, facts))
    assert claim.word is Word.IN_PART
    assert [line.partition(":")[0] for line in claim.figures] == [
        f"{AUROC}, 5 models of up",
        f"{AUROC}, 5 models of down",
    ]


# --- Calibration -----------------------------------------------------------------------------------


def test_the_growth_of_the_calibration_error_is_a_mean_over_models() -> None:
    growth = np.array([0.01, 0.02, 0.06])
    values = {
        name: {
            ECE: 0.05,
            ECE_FOG: 0.05 + more,
            "calibration/ece/clean/fog_3d": 0.2 + more,
            "other/ece_scaled/clean/fog_3d": 0.9,
        }
        for name, more in zip(("base", "vit", "half"), growth, strict=True)
    }
    values["tuned"] = {ECE: 0.05, ECE_FOG: 0.9}  # no zero-shot model
    claim = claims.calibrated_under_shift(table(values))
    low, high = stats.t.interval(0.95, 2, growth.mean(), stats.sem(growth))
    assert claim.word is Word.NOT_DECIDED
    assert claim.figures == (
        f"{ECE_FOG}: +0.030 [{low:+.3f}, {high:+.3f}] more than on ID data; on average 0.080, before "
        "scaling 0.230",
    )
    assert f"stay below {KEPT}" in claim.why
    assert KEPT == 0.05
    for own in values.values():
        own.pop("calibration/ece/clean/fog_3d", None)
    assert (
        claims.calibrated_under_shift(table(values))
        .figures[0]
        .endswith("before scaling not measured")
    )


def test_calibration_needs_two_zero_shot_models_and_a_shift() -> None:
    one = {"base": {ECE: 0.05, ECE_FOG: 0.06}, "tuned": {ECE: 0.05, ECE_FOG: 0.06}}
    assert claims.calibrated_under_shift(table(one)).word is Word.NOT_MEASURED
    no_shift = {"base": {ECE: 0.05}, "vit": {ECE: 0.05}}
    assert claims.calibrated_under_shift(table(no_shift)).word is Word.NOT_MEASURED
    no_id = {name: {ECE_FOG: 0.05} for name in ("base", "vit")}
    assert claims.calibrated_under_shift(table(no_id)).word is Word.NOT_MEASURED
    # Two shifts, of which one was measured on one model alone.
    snow = ECE_FOG.replace("fog_3d", "snow")
    two = {"base": {ECE: 0.05, ECE_FOG: 0.06, snow: 0.9}, "vit": {ECE: 0.05, ECE_FOG: 0.07}}
    claim = claims.calibrated_under_shift(table(two))
    assert [line.partition(":")[0] for line in claim.figures] == [ECE_FOG]
    alone = {"base": {ECE: 0.05, ECE_FOG: 0.06}, "vit": {ECE: 0.05}}
    assert claims.calibrated_under_shift(table(alone)).why.endswith("have ece_scaled under a shift")


# --- Multimodal models -----------------------------------------------------------------------------


def test_only_gains_of_multimodal_models_count() -> None:
    values = {
        "base": {
            "lmm/lmm_gain/clean/clean": 0.2,
            "lmm/lmm_accuracy/clean/clean": -0.5,
            "prompts/prompt_gain/clean/clean": -0.5,
        },
        "vit": {"lmm/lmm_gain/clean/clean": 0.01},
    }
    claim = claims.multimodal_models_gain(table(values))
    assert claim.word is Word.NOT_DECIDED
    assert claim.figures == (
        "base, lmm/lmm_gain/clean/clean: +0.200 [+0.180, +0.220]",
        "vit, lmm/lmm_gain/clean/clean: +0.010 [-0.010, +0.030]",
    )
