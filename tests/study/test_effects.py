"""Effects of factors: known answers, textbook formulas, and what cannot be told apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression
from study_helpers import FLEET

from pytest_cliprobust.study.cards import UNKNOWN, Card
from pytest_cliprobust.study.effects import (
    Column,
    _among,
    confounding,
    design_of,
    paired_effect,
    regression,
    seed_spread,
)

CARDS = [UNKNOWN.updated(facts, "here") for facts in FLEET.values()]
NAMES = list(FLEET)


def test_the_design_of_a_fleet() -> None:
    design = design_of(CARDS)
    assert [column.name for column in design.columns] == [
        "architecture: ViT instead of ResNet",
        "training distribution: drawings instead of photos",
        "training-set size, twice as large",
        "fine-tuning: labels instead of none",
        "contrastive loss: sigmoid instead of softmax",
    ]
    assert design.constant == ("parameters",)
    assert design.unknown == ()
    assert design.confounded == ()
    assert design.freedom == 2


def test_a_sibling_has_the_effect_by_which_it_differs_from_the_mean_of_the_base() -> None:
    # Each sibling stands alone in its column: its effect is the distance from the mean of the seeds, and the
    # interval is Student's of a new draw against the mean of three.
    values = np.array([1.0, 1.2, 1.4, 2.0, 0.8, 1.2, 1.5, 0.5])
    made = regression(values, CARDS)
    assert made is not None
    spread = np.std([1.0, 1.2, 1.4], ddof=1)
    assert made.residual == pytest.approx(spread)
    assert made.base == pytest.approx(1.2)
    vit = made.effects[0]
    half = stats.t.ppf(0.975, 2) * spread * math.sqrt(1 + 1 / 3)
    assert (vit.value, vit.low, vit.high) == pytest.approx((0.8, 0.8 - half, 0.8 + half))
    assert made.effects[2].value == pytest.approx(0.4)  # half the data: -0.4
    # One column: the F test is the t test.
    assert made.joint["architecture"] == pytest.approx(vit.p)


def test_a_joint_test_is_the_analysis_of_variance() -> None:
    generator = np.random.default_rng(3)
    kinds = ["ResNet"] * 5 + ["ViT"] * 4 + ["ConvNeXt"] * 6
    values = generator.normal(size=15) + np.array([kind == "ViT" for kind in kinds])
    cards = [replace(CARDS[0], architecture=kind) for kind in kinds]
    made = regression(values, cards)
    assert made is not None
    groups = [values[[k == kind for k in kinds]] for kind in dict.fromkeys(kinds)]
    assert made.joint["architecture"] == pytest.approx(stats.f_oneway(*groups).pvalue)
    # The most common level is the reference.
    assert {effect.column.reference for effect in made.effects} == {"ConvNeXt"}


def test_factors_that_never_vary_apart_have_no_effect() -> None:
    cards = [
        replace(CARDS[0], seed=""),
        replace(CARDS[0], seed=""),
        replace(CARDS[0], data="drawings", loss="sigmoid"),
        replace(CARDS[0], data="drawings", loss="sigmoid"),
        replace(CARDS[0], architecture="ViT"),
    ]
    made = regression(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), cards)
    assert made is not None
    design = design_of(cards)
    assert design.confounded == ((1, 2),)
    assert design.inseparable == {1, 2}
    assert made.effects[1].why == ("confounded with contrastive loss: sigmoid instead of softmax")
    assert math.isnan(made.effects[1].value)
    assert set(made.joint) == {"architecture"}
    # Another factor's effect is told all the same.
    assert made.effects[0].value == pytest.approx(5.0 - 1.5)


def test_two_groups_of_confounded_factors_are_told_apart() -> None:
    a, b = np.array([0, 0, 1, 1, 0, 0.0]), np.array([0, 0, 0, 0, 1, 1.0])
    matrix = np.column_stack([np.ones(6), a, b, a, 2 * b, [0, 1, 0, 1, 0, 1]])
    assert confounding(matrix) == ((0, 2), (1, 3))


def test_a_factor_that_is_the_intercept_is_confounded() -> None:
    a = np.array([0, 0, 1, 1.0])
    assert confounding(np.column_stack([np.ones(4), a, 1 - a])) == ((0, 1),)


def test_a_factor_of_which_a_card_says_nothing_is_left_out() -> None:
    cards = [*CARDS, replace(CARDS[0], loss="")]
    design = design_of(cards)
    assert design.unknown == ("loss",)
    assert "loss" not in {column.factor for column in design.columns}


def test_two_factors_have_the_tests_of_nested_models() -> None:
    generator = np.random.default_rng(5)
    kinds = ["ResNet", "ViT", "ConvNeXt"] * 5
    losses = ["softmax"] * 8 + ["sigmoid"] * 7
    cards = [
        replace(CARDS[0], architecture=kind, loss=loss)
        for kind, loss in zip(kinds, losses, strict=True)
    ]
    values = generator.normal(size=15) + np.array([kind == "ViT" for kind in kinds])
    made = regression(values, cards, confidence=0.8)
    assert made is not None
    vit, conv = (np.array([kind == one for kind in kinds], float) for one in ("ViT", "ConvNeXt"))
    sigmoid = np.array([loss == "sigmoid" for loss in losses], float)

    def left(*columns: np.ndarray) -> float:
        x = np.stack(columns, axis=1)
        return float(((values - LinearRegression().fit(x, values).predict(x)) ** 2).sum())

    whole = left(vit, conv, sigmoid)
    variance = whole / 11
    assert (made.freedom, made.models) == (11, 15)
    assert made.residual == pytest.approx(math.sqrt(variance))
    ratio = (left(sigmoid) - whole) / 2 / variance
    assert made.joint["architecture"] == pytest.approx(stats.f.sf(ratio, 2, 11))
    ratio = (left(vit, conv) - whole) / variance
    assert made.joint["loss"] == pytest.approx(stats.f.sf(ratio, 1, 11))
    # Of one column the F test is the t test, and the interval is of the level that was asked for.
    loss = made.effects[-1]
    assert loss.p == pytest.approx(made.joint["loss"])
    reach = stats.t.ppf(0.9, 11) / stats.t.isf(loss.p / 2, 11) * abs(loss.value)
    assert (loss.low, loss.high) == pytest.approx((loss.value - reach, loss.value + reach))


def test_at_equal_accuracy_the_base_is_that_of_the_mean_accuracy() -> None:
    accuracy = np.array([1.0, 2.0, 3.0, 4.0, 1.5, 2.5])
    cards = [CARDS[0]] * 4 + [CARDS[3]] * 2
    values = 0.5 + 2.0 * accuracy + np.array([0, 0, 0, 0, 0.75, 0.75])
    made = regression(values, cards, beside=accuracy)
    assert made is not None
    assert made.base == pytest.approx(0.5 + 2.0 * accuracy.mean())
    assert made.effects[0].value == pytest.approx(0.75)
    assert made.freedom == 3
    # A model without the one or the other is left out.
    values[0], accuracy[5] = math.nan, math.nan
    made = regression(values, cards, beside=accuracy)
    assert made is not None
    assert made.models == 4
    assert made.effects[0].value == pytest.approx(0.75)


def test_three_models_are_enough_and_two_are_not() -> None:
    cards = [CARDS[0], CARDS[0], CARDS[3]]
    made = regression(np.array([1.0, 2.0, 4.0]), cards)
    assert made is not None
    assert made.effects[0].value == pytest.approx(2.5)
    assert regression(np.array([1.0, math.nan, 4.0]), cards) is None


def test_sizes_a_tenth_apart_are_one() -> None:
    for share, known in ((2**0.149, False), (2**0.151, True), (2**-0.151, True)):
        cards = [replace(CARDS[0], parameters=size) for size in (7e5, 7e5, 7e5 * share)]
        assert ("parameters" in design_of(cards).constant) is not known
    cards = [replace(CARDS[0], parameters=size) for size in (7e5, 7e5, 14e5, 28e5)]
    made = regression(np.array([1.0, 1.0, 1.5, 2.0]), cards)
    assert made is not None
    # By doublings, from the middle one: half a doubling above the two small ones.
    assert made.effects[0].value == pytest.approx(0.5)
    assert made.base == pytest.approx(1.25)


def test_paired_changes_of_two_models_at_another_level() -> None:
    before, after = np.array([1.0, 2.0]), np.array([1.5, 3.0])
    effect = paired_effect(before, after, Column("prompts", "b", "a"), 0.8)
    ends = stats.ttest_rel(after, before).confidence_interval(0.8)
    assert (effect.low, effect.high) == pytest.approx((ends.low, ends.high))


def test_as_many_factors_as_models_have_no_interval() -> None:
    cards = [CARDS[0], CARDS[3], CARDS[5]]
    made = regression(np.array([0.0, 1.0, 2.0]), cards)
    assert made is not None
    assert made.freedom == 0
    assert [effect.value for effect in made.effects] == pytest.approx([1.0, 2.0])
    assert all("spread" in effect.why for effect in made.effects)
    assert regression(np.array([0.0, 1.0, np.nan]), cards) is None
    assert regression(np.zeros(4), [CARDS[0]] * 4) is None


def test_a_factor_that_is_accuracy_in_disguise_has_no_effect_at_equal_accuracy() -> None:
    cards = [CARDS[0], CARDS[0], CARDS[0], CARDS[3], CARDS[3]]
    accuracy = np.array([1.0, 1.0, 1.0, 2.0, 2.0])
    made = regression(np.array([1.0, 1.1, 0.9, 3.0, 3.1]), cards, beside=accuracy)
    assert made is not None
    assert made.effects[0].why == "confounded with ID accuracy"


def test_a_property_that_all_models_share_has_no_p_values_from_rounding() -> None:
    for size in (0.1, 123456.7, -3e9, 1e-9):
        made = regression(np.full(len(CARDS), size), CARDS)
        assert made is not None
        assert made.residual == 0.0
        assert made.joint == {}
        assert all(effect.value == 0.0 and math.isnan(effect.low) for effect in made.effects)
        assert all("no spread to judge by" in effect.why for effect in made.effects)
    # A count that one model alone has: its effect is known, and how certain it is is not.
    alone = np.array([float(card == CARDS[-1]) for card in CARDS])
    made = regression(alone, CARDS)
    assert made is not None
    assert all(math.isnan(effect.low) for effect in made.effects)


def test_sizes_that_are_about_equal_are_one() -> None:
    cards = [replace(CARDS[0], parameters=size) for size in (700e3, 710e3, 690e3)]
    assert "parameters" in design_of(cards).constant
    cards.append(replace(CARDS[0], parameters=350e3))
    (column,) = design_of(cards).columns
    assert column.name == "model size, twice as large"


def test_the_spread_between_seeds_is_pooled_over_models() -> None:
    other = [replace(CARDS[3], seed=str(seed)) for seed in range(2)]
    cards = [*CARDS[:3], *other, CARDS[5]]
    values = np.array([1.0, 2.0, 3.0, 10.0, 14.0, 99.0])
    spread = seed_spread(values, cards)
    assert spread.freedom == 3
    assert spread.value == pytest.approx(math.sqrt((2.0 + 8.0) / 3))
    assert math.isnan(seed_spread(values[3:], [CARDS[0], *CARDS[3:5]]).value)
    assert seed_spread(np.array([1.0, np.nan]), CARDS[:2]).freedom == 0


def test_prompts_are_compared_within_models() -> None:
    before, after = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.5, 2.4, 3.9, 7.0])
    effect = paired_effect(before, after, Column("prompts", "b", "a"))
    theirs = stats.ttest_rel(after[:3], before[:3])
    ends = theirs.confidence_interval(0.95)
    assert (effect.value, effect.low, effect.high, effect.p) == pytest.approx(
        (0.6, ends.low, ends.high, theirs.pvalue)
    )
    assert paired_effect(before[:1], after[:1], effect.column).why == "one model has both"
    assert paired_effect(before[3:], after[3:], effect.column).why == "no model has both"


@pytest.mark.slow
def test_19_of_20_intervals_hold_the_effect() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        made = regression(generator.normal(size=len(CARDS)), CARDS)
        assert made is not None
        held += made.effects[0].low <= 0 <= made.effects[0].high
    assert 0.93 < held / 600 < 0.97


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ViT", "ResNet"]),
            st.sampled_from(["a", "b", "c"]),
            st.floats(1, 1e9),
            st.floats(-3, 3),
        ),
        min_size=3,
        max_size=9,
    )
)
def test_what_can_be_told_apart_is_what_fits_exactly(
    models: list[tuple[str, str, float, float]],
) -> None:
    """Values made from effects give them back, for every effect that has a value."""
    cards = [Card(architecture=a, data=d, set_size=s) for a, d, s, _ in models]
    design = design_of(cards)
    if not design.columns:
        return
    truth = np.linspace(1, 2, len(design.columns) + 1)
    made = regression(design.matrix @ truth, cards)
    assert made is not None
    for effect, wanted in zip(made.effects, truth[1:], strict=True):
        assert math.isnan(effect.value) or effect.value == pytest.approx(wanted, abs=1e-3)


def test_groups_without_the_column_behind_the_factors() -> None:
    assert _among([(0, 5), (3,), (1, 2), (4, 5)], 3) == ((0,), (1, 2))
    assert _among([], 3) == ()


def test_effects_far_below_one_are_told_and_rounding_is_not() -> None:
    small = np.array([0.0, 2.0, -2.0, 9.0, 3.0, 0.0, 1.0, 0.0])
    plain, tiny = (regression(0.5 + scale * small, CARDS) for scale in (1e-3, 1e-9))
    assert plain is not None
    assert tiny is not None
    for found, wanted in zip(tiny.effects, plain.effects, strict=True):
        assert found.value == pytest.approx(wanted.value * 1e-6, rel=1e-4, abs=1e-16)
        assert found.p == pytest.approx(wanted.p, rel=1e-3)
    none = regression(0.5 + 1e-15 * small, CARDS)
    assert none is not None
    assert [effect.value for effect in none.effects] == [0.0] * 5
    assert none.residual == 0.0
