"""The table of metrics: directions and ranges, which bounds are checked against."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.metrics import METRICS, register_metric
from pytest_cliprobust.properties.ood import OOD_SCORES

SUFFIXES = ("", "_scaled")

#: What a model costs, each also beside a baseline model.
COSTS = ("throughput", "latency", "peak_memory")

#: Ranges other than a share's.
RANGES: dict[tuple[float | None, float | None], set[str]] = {
    (0.0, None): {
        *("conformal_set_size_lac", "conformal_set_size_aps"),
        *("swapped_labels", "ce", "mce", "temperature", "error_ratio"),
        *(f"nll{suffix}" for suffix in SUFFIXES),
        *(f"{kind}{cost}" for kind in ("", "relative_") for cost in COSTS),
    },
    (-1.0, 1.0): {
        *("accuracy_drop", "mean_corruption_drop", "worst_corruption_drop", "worst_case_drop"),
        *("signed_gap", "signed_gap_scaled", "signed_gap_sigmoid"),
        *("effective_robustness", "prompt_ensemble_gain", "shift_drop", "caption_drop"),
        "shape_bias_change",
        *("lmm_gain", "lmm_order_gap"),
        *("confidence_shift", "baseline_confidence_shift"),
    },
    (None, 1.0): {"relative_drop", "relative_corruption_drop"},
    (None, None): {"relative_ce", "relative_mce", "few_sample_cost", "label_set_cost"},
    (0.0, 2.0): {
        *(f"brier{suffix}" for suffix in SUFFIXES),
        "group_confidence_gap",
        "embedding_drift",
    },
    (1.0, None): {"image_to_text_median_rank", "text_to_image_median_rank"},
}

LOWER_IS_BETTER = {
    *("swapped_labels", "ce", "mce", "relative_ce", "relative_mce"),
    *("accuracy_drop", "relative_drop", "worst_case_drop", "attack_success"),
    *("shift_drop", "caption_drop"),
    *("group_accuracy_gap", "worst_group_ece", "group_confidence_gap", "group_shape_bias_gap"),
    *(f"group_{way}_recall_at_1_gap" for way in ("image_to_text", "text_to_image")),
    *(f"group_{word}_gap_{score}" for word in ("auroc", "fpr95") for score in OOD_SCORES),
    *(f"worst_group_fpr95_{score}" for score in OOD_SCORES),
    *("mean_corruption_drop", "relative_corruption_drop", "worst_corruption_drop"),
    *("image_to_text_median_rank", "text_to_image_median_rank"),
    *("error_ratio", "other_decisions", "prompt_accuracy_spread", "prompt_accuracy_std"),
    *(f"{kind}ece{suffix}" for kind in ("", "adaptive_", "classwise_") for suffix in SUFFIXES),
    *(f"{name}{suffix}" for name in ("nll", "brier") for suffix in SUFFIXES),
    "ece_sigmoid",
    *("aurc", "excess_aurc", "abstention", "conformal_set_size_aps", "conformal_set_size_lac"),
    *("few_sample_cost", "label_set_cost", "embedding_drift", "flip_rate", "baseline_flip_rate"),
    *("lmm_by_position", "lmm_lost", "lmm_named_both", "lmm_named_neither"),
    *(f"fpr95_{score}" for score in OOD_SCORES),
    *(f"{kind}{cost}" for kind in ("", "relative_") for cost in COSTS[1:]),
}

NEITHER = {
    *("signed_gap", "signed_gap_scaled", "signed_gap_sigmoid"),
    *("temperature", "lmm_order_gap", "confidence_shift", "baseline_confidence_shift"),
    *("shape_bias_change", "prompt_shape_bias_spread"),
}


def test_every_metric_has_the_range_of_its_definition() -> None:
    for name, metric in METRICS.items():
        expected = [limits for limits, names in RANGES.items() if name in names] or [(0.0, 1.0)]
        assert [(metric.low, metric.high)] == expected, name
    assert set().union(*RANGES.values()) <= set(METRICS)


def test_every_metric_has_the_direction_of_its_definition() -> None:
    by_direction = {
        better: {name for name, metric in METRICS.items() if metric.higher_is_better is better}
        for better in (False, None)
    }
    assert by_direction == {False: LOWER_IS_BETTER, None: NEITHER}


def test_what_guessing_reaches() -> None:
    scores = ("accuracy", "balanced_accuracy", "mean_corruption_accuracy", "factor_accuracy")
    prompts = tuple(f"prompt_{which}_accuracy" for which in ("ensemble", "best", "worst", "mean"))
    known: dict[str, float] = dict.fromkeys((*scores, *prompts), 1 / 7)
    for score in OOD_SCORES:
        known[f"auroc_{score}"] = known[f"worst_group_auroc_{score}"] = 0.5
        known[f"fpr95_{score}"] = 0.95
    known["lmm_accuracy"] = 0.5
    # Two pictures and two texts: one of two, twice; both at once, where the right two of the four
    # scores are the largest, which is one pair of six.
    known |= {
        "matching_image_score": 0.25,
        "matching_text_score": 0.25,
        "matching_group_score": 1 / 6,
    }
    found = {
        name: metric.chance(7) if callable(metric.chance) else metric.chance
        for name, metric in METRICS.items()
        if metric.chance is not None
    }
    assert found == pytest.approx(known)


def test_units_and_cut_offs() -> None:
    assert {name: metric.unit for name, metric in METRICS.items() if metric.unit} == {
        **dict.fromkeys(("nll", "nll_scaled", "few_sample_cost", "label_set_cost"), "nats"),
        **dict.fromkeys(("conformal_set_size_lac", "conformal_set_size_aps"), "classes"),
        **dict(zip(COSTS, ("images/s", "ms", "MB"), strict=True)),
    }
    recalls = {name for name in METRICS if "recall" in name}
    assert recalls == {
        "mean_recall_at_1",
        *(f"image_to_text_recall_at_{k}" for k in (1, 5, 10)),
        *(f"text_to_image_recall_at_{k}" for k in (1, 5, 10)),
        *(f"correspondence_recall_at_{pixels}px" for pixels in (5, 10, 20, 25, 50)),
        *(f"correspondence_recall_at_{centimetres}cm" for centimetres in (1, 2, 5, 10, 20)),
        *(f"worst_group_{way}_recall_at_1" for way in ("image_to_text", "text_to_image")),
        *(f"group_{way}_recall_at_1_gap" for way in ("image_to_text", "text_to_image")),
    }


def test_values_are_brought_inside_the_range() -> None:
    for name, values in (
        ("accuracy", {-0.1: 0.0, 0.0: 0.0, 0.4: 0.4, 1.0: 1.0, 1.1: 1.0}),
        ("nll", {-0.1: 0.0, 9.0: 9.0}),
        ("relative_drop", {-9.0: -9.0, 1.1: 1.0}),
    ):
        assert {value: METRICS[name].inside(value) for value in values} == values


def test_what_a_metric_can_be() -> None:
    for name, inside, outside in (
        ("accuracy", (0.0, 0.5, 1.0, 1.0 + 1e-10, -1e-10), (1.0 + 1e-6, -1e-6, 7.0)),
        ("nll", (0.0, 9e9, -1e-10), (-1e-6, -9.0)),
        ("relative_drop", (-9e9, 1.0), (1.0 + 1e-6,)),
        ("relative_ce", (-9e9, 9e9), ()),
    ):
        # What is not finite is judged elsewhere.
        for value in (*inside, math.nan, math.inf, -math.inf):
            assert METRICS[name].can_be(value), (name, value)
        for value in outside:
            assert not METRICS[name].can_be(value), (name, value)
    bounds = {name: METRICS[name].bounds for name in ("accuracy", "nll", "relative_drop")}
    assert bounds == {
        "accuracy": (0.0, 1.0),
        "nll": (0.0, math.inf),
        "relative_drop": (-math.inf, 1.0),
    }


def test_one_decorator_registers_a_family_or_a_metric_alone() -> None:
    def own() -> None: ...

    words: dict[str, Any] = {"higher_is_better": False, "meaning": "share of {}"}
    with METRICS.preserved():
        assert register_metric("made_alone", **words)(own) is own
        alone = METRICS["made_alone"]
        assert (alone.meaning, alone.low, alone.high, alone.gateable) == (
            "share of ",
            0.0,
            1.0,
            True,
        )
        each = {"": "all", "first_": "the first", "last_": "the last"}
        register_metric("{}made", **words, each=each, unit="ms", high=None)(own)
        assert {name: METRICS[f"{name}made"].meaning for name in each} == {
            name: f"share of {sense}" for name, sense in each.items()
        }
        assert [METRICS[f"{name}made"].unit for name in each] == ["ms"] * 3
        # No metric is of nothing at all: its ends lie apart, where it has both.
        for low, high in ((None, -7.0), (7.0, None), (None, None), (-1.0, 0.0)):
            register_metric("made_limits", **words, low=low, high=high)(own)
            assert (METRICS["made_limits"].low, METRICS["made_limits"].high) == (low, high)
        for low, high in ((1.0, 1.0), (2.0, 1.0)):
            with pytest.raises(
                ClipRobustError, match=f"'made_limits': low {low:g} is not below high 1$"
            ):
                register_metric("made_limits", **words, low=low, high=high)(own)
        # What cannot be gated says why, be it the value or the change.
        mute: list[dict[str, Any]] = [{"gateable": False}, {"change_gateable": False}]
        for given in mute:
            with pytest.raises(ClipRobustError, match="why_not_gateable must say why"):
                register_metric("made_limits", **words, **given)(own)
        register_metric("made_told", **words, gateable=False, why_not_gateable="so")(own)
        told = METRICS["made_told"]
        assert (told.gateable, told.change_gateable, told.why_not_gateable) == (False, False, "so")
        register_metric(
            "made_value", **words, gateable=False, change_gateable=True, why_not_gateable="so"
        )(own)
        assert METRICS["made_value"].change_gateable
    assert "made_alone" not in METRICS
