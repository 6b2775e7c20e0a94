"""Proposed margins, held against simulations with the gate's own judge."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from gating_helpers import (
    accuracy_rule,
    answered,
    answers,
    averaged,
    baseline_of,
    changed,
    condition,
)
from helpers import keys_of
from scipy import stats

from pytest_cliprobust.figures.auroc import auroc
from pytest_cliprobust.figures.bootstrap import Bootstrap, paired_drop_figure
from pytest_cliprobust.figures.clusters import design_effect_of_mean
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import paired_score
from pytest_cliprobust.gating import margins
from pytest_cliprobust.gating.family import Family
from pytest_cliprobust.gating.margins import Margin, change_effect, decidable, expected_churn
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.verdict import judge

POLICY = Policy()
REACH = 2.0 * 1.644853627
DRAWS = 20_000


def margin_of(measurement: Measurement, policy: Policy = POLICY, noise: float = 0.0) -> Margin:
    found = decidable(measurement.figure, policy, noise)
    assert found is not None
    return found


def judged(n: int, size: float, loss: float = 0.0, *, seed: int = 0) -> Counter[str]:
    """Return the verdicts on draws of the next model, whose answers change by 6% beside the loss.

    Verdicts on the same counts are the same, so each is made once.
    """
    before = answers(n)
    baseline, rule = baseline_of(answered(before)), accuracy_rule(f"max_decrease = {size!r}")
    rate = Family(20, 100).error_rate(answered(before), POLICY)
    generator = np.random.default_rng(seed)
    lost, gained, _ = generator.multinomial(n, [0.03 + loss, 0.03, 0.94 - loss], size=DRAWS).T
    found: Counter[str] = Counter()
    for (a, b), times in Counter(zip(lost.tolist(), gained.tolist(), strict=True)).items():
        after = answered(changed(before, a, b))
        found[judge(after, rule, POLICY, baseline=baseline, error_rate=rate).status] += times
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "most"), [(134, 0.09), pytest.param(1000, 0.03, marks=pytest.mark.long)]
)
def test_an_equally_good_model_keeps_the_proposed_margin(n: int, most: float) -> None:
    size = margin_of(answered(answers(n))).size
    assert size <= most
    verdicts = judged(n, size)
    assert verdicts["pass"] / DRAWS == pytest.approx(0.95, abs=0.015)
    assert verdicts["fail"] / DRAWS < 0.001
    # A margin that is a fifth smaller is one that many equally good models do not keep.
    assert judged(n, round(0.8 * size, 4))["pass"] / DRAWS < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "seen"), [(134, 0.85), pytest.param(1000, 0.95, marks=pytest.mark.long)]
)
def test_a_loss_of_two_margins_is_seen(n: int, seen: float) -> None:
    size = margin_of(answered(answers(n))).size
    assert judged(n, size, 2.0 * size)["fail"] / DRAWS > seen


def test_the_margin_is_the_quantile_of_what_the_judge_looks_at() -> None:
    """Brute force: the far ends of the intervals of equally good models, drawn one by one."""
    for n, churn in ((134, 0.06), (400, 0.02), (50, 0.1)):
        generator = np.random.default_rng(n)
        lost, gained, _ = generator.multinomial(n, [churn / 2, churn / 2, 1 - churn], size=40_000).T
        ends = np.sort(paired_score(lost, gained, n).highs)
        low, high = ends[[int(len(ends) * q) for q in (0.945, 0.955)]]
        size = margins._share_margin(float(n), churn, 0.95)
        assert low - 1e-9 <= size <= high + 1e-9


def test_more_samples_decide_less() -> None:
    sizes = [margin_of(answered(answers(n))).size for n in (67, 134, 268, 536, 1000, 2000, 5000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] <= 0.09
    assert sizes[4] <= 0.03
    assert sizes[6] <= 0.013
    # With many samples it is the textbook's number of standard errors.
    assert sizes[6] == pytest.approx(REACH * math.sqrt(0.06 / 5000), abs=0.001)


def test_there_is_no_step_where_the_normal_quantile_takes_over() -> None:
    """Both are a quantile of the same distribution."""
    for churn in (0.5, 0.06, 0.01):
        n = margins._LARGE / churn
        below, above = (margins._share_margin(round(n * f), churn, 0.95) for f in (0.99, 1.02))
        assert above < below < 1.06 * above


def test_a_churn_that_the_policy_names_is_that_of_the_margin() -> None:
    one = answered(answers(1000))
    sizes = [margin_of(one, Policy(churn=churn)).size for churn in (0.02, 0.06, 0.12)]
    assert sizes == sorted(sizes)
    assert sizes[2] / sizes[1] == pytest.approx(math.sqrt(2.0), rel=0.1)
    assert margin_of(one, Policy(churn=0.06)).standard_error == pytest.approx(math.sqrt(6e-5))
    # And so is the level at which it is to be kept.
    assert margin_of(one, Policy(confidence=0.99)).size > sizes[1]


def test_answers_can_change_no_more_than_chance_has_it() -> None:
    """Two models of 99% that have nothing to do with each other differ in 2% of their answers."""
    assert expected_churn(0.84, POLICY) == 0.06
    assert expected_churn(0.99, POLICY) == pytest.approx(0.0198)
    assert expected_churn(0.01, POLICY) == pytest.approx(0.0198)
    assert expected_churn(1.0, POLICY) == 0.0
    good, better = (margin_of(answered(answers(1000, share))).size for share in (0.84, 0.99))
    assert better < 0.7 * good


@pytest.mark.parametrize("n", [40, 1000, 5000, 100_000])
def test_a_perfect_model_has_a_margin(n: int) -> None:
    """So many samples without a change leave that much open, and no more."""
    margin = margin_of(answered(answers(n, 1.0)))
    z2 = 1.644853627**2
    open_ = z2 / (n + z2)
    assert open_ <= margin.size <= open_ * 1.1 + 1e-4
    assert margin.size > 0.0
    one = answered(answers(n, 1.0))
    rule = accuracy_rule(f"max_decrease = {margin.size!r}")
    assert judge(one, rule, POLICY, baseline=baseline_of(one)).status == "pass"


def test_samples_of_one_unit_decide_less() -> None:
    """As the excess of the design effect of a change is a fifth of the figure's."""
    assert change_effect(1.0) == 1.0
    assert change_effect(0.3) == 1.0
    assert change_effect(3.0) == pytest.approx(1.4)
    hits = np.repeat(answers(250), 4)
    units = np.arange(1000) // 4
    single = margin_of(answered(hits))
    together = margin_of(answered(hits, keys_of(1000, units)))
    effect = change_effect(answered(hits, keys_of(1000, units)).figure.design_effect)
    # Answers alike in each unit of four: 4 by the usual estimate, next to that by the one of shares.
    assert effect == pytest.approx(
        change_effect(design_effect_of_mean(hits.astype(float), units)), abs=0.02
    )
    assert effect == pytest.approx(1.6, abs=0.02)
    assert together.size > single.size
    assert together.standard_error == pytest.approx(single.standard_error * math.sqrt(effect))
    worth = round(1000 / effect)
    assert together.size == pytest.approx(margin_of(answered(answers(worth))).size, abs=0.0011)
    assert together.n == 1000


def of_others() -> list[Figure]:
    generator = np.random.default_rng(3)
    keys = keys_of(600)
    before = generator.random(600) < 0.8
    after = before & (generator.random(600) < 0.9)
    return [
        averaged(generator.exponential(size=600), keys).figure,
        paired_drop_figure("accuracy_drop", before, after, Bootstrap(keys=keys)),
        auroc(
            "auroc_mcm",
            generator.normal(1.0, 1.0, 300),
            generator.normal(0.0, 1.0, 300),
            bootstrap=Bootstrap(keys=keys),
        ),
    ]


@pytest.mark.parametrize("figure", of_others(), ids=lambda figure: figure.metric)
def test_of_other_metrics_the_spread_of_the_figure_tells(figure: Figure) -> None:
    """A share of its own standard error, which was measured."""
    if figure.replicates:
        own = float(np.std(figure.replicates, ddof=1))
    else:
        own = (figure.high - figure.low) / 2.0 / 1.959963985
    found = decidable(figure, POLICY)
    assert found is not None
    share = {"nll": 0.45, "accuracy_drop": 1.1, "auroc_mcm": 0.5}[figure.metric]
    assert found.standard_error == pytest.approx(own * share)
    assert found.size == pytest.approx(REACH * found.standard_error, rel=0.1)
    assert found.size >= REACH * found.standard_error
    # Four times the churn is twice the error.
    wild = decidable(figure, Policy(churn=0.24))
    assert wild is not None
    assert wild.standard_error == pytest.approx(2.0 * own * share)


def test_few_units_have_wide_intervals() -> None:
    """Student's, of a figure whose standard error is the same."""
    figure = averaged(np.random.default_rng(0).exponential(size=400)).figure
    many, few = (decidable(dataclasses.replace(figure, units=u), POLICY) for u in (400, 4))
    assert many is not None
    assert few is not None
    assert few.standard_error == many.standard_error
    assert few.size / many.size == pytest.approx((2.353363 + 1.644854) / REACH, rel=0.1)
    one = decidable(dataclasses.replace(figure, units=1), POLICY)
    assert one is not None
    # As of two, of which one is free to vary: Student's quantile at 0.95 is 6.31.
    assert one == decidable(dataclasses.replace(figure, units=2), POLICY)
    exact = (6.313752 + 1.644854) * one.standard_error
    assert exact <= one.size <= exact * 1.1
    unknown = decidable(dataclasses.replace(figure, units=None), POLICY)
    assert unknown == decidable(dataclasses.replace(figure, units=figure.n), POLICY)


def test_the_change_of_a_clustered_figure_hangs_less_on_the_drawing() -> None:
    figure = averaged(np.random.default_rng(0).exponential(size=400)).figure
    figure = dataclasses.replace(figure, metric="shape_bias")  # of answers
    plain, clustered = (
        decidable(dataclasses.replace(figure, design_effect=effect), POLICY)
        for effect in (1.0, 3.0)
    )
    assert plain is not None
    assert clustered is not None
    # The same spread of the figure: of a change, 1.4 of 3 parts.
    ratio = clustered.standard_error / plain.standard_error
    assert ratio == pytest.approx(math.sqrt(1.4 / 3.0))


def test_without_a_spread_there_is_no_margin() -> None:
    assert decidable(Figure("ece", 0.1, 0.1, 0.1, 100), POLICY) is None
    assert decidable(Figure("ece", 0.1, math.nan, math.nan, 100), POLICY) is None
    # Replicates that are not finite say nothing, nor do ones that are all the same.
    broken = Figure("ece", 0.1, 0.05, 0.15, 100, replicates=(math.nan, 0.1, 0.1))
    found = decidable(broken, POLICY)
    assert found is not None
    own = 0.05 / 1.959963985
    assert found.standard_error == pytest.approx(own * 0.8)


def test_one_replicate_is_no_spread() -> None:
    figure = Figure("ece", 0.1, 0.05, 0.15, 100)
    lone = dataclasses.replace(figure, replicates=(0.2,))
    assert margins.standard_error(lone) == margins.standard_error(figure)
    two = dataclasses.replace(figure, replicates=(0.2, 0.4, math.nan))
    assert margins.standard_error(two) == pytest.approx(math.sqrt(0.02))


def test_shares_of_the_error_by_metric() -> None:
    """The first pattern that fits counts; what none fits is a share of answers, at 84%."""
    figure = Figure("ece", 0.1, 0.05, 0.15, 100)

    def share(metric: str, effect: float = 1.0) -> float:
        made = dataclasses.replace(figure, metric=metric, design_effect=effect)
        return margins._share_of_error(made)

    assert share("severity_monotonicity") == 2.0
    assert share("worst_case_drop") == 1.1
    assert share("fpr95_mcm") == 0.8
    answers_of = math.sqrt(2.0 * 0.06 / (2.0 * 0.84 * 0.16))
    assert share("shape_bias") == pytest.approx(answers_of)
    assert share("shape_bias", 0.5) == pytest.approx(answers_of * math.sqrt(1.0))
    assert share("shape_bias", 2.0) == pytest.approx(answers_of * math.sqrt(1.2 / 2.0))


def test_the_exact_quantile_of_few_samples() -> None:
    """All losses and gains of 40 samples, each with its chance."""
    n, churn = 40, 0.1
    pairs = [(a, b) for a in range(n + 1) for b in range(n + 1 - a)]
    chances = stats.multinomial.pmf(
        [(a, b, n - a - b) for a, b in pairs], n, [churn / 2, churn / 2, 1 - churn]
    )
    lost, gained = np.array(pairs).T
    ends = paired_score(lost, gained, float(n), 0.9).highs
    order = np.argsort(ends)
    expected = ends[order][np.searchsorted(np.cumsum(chances[order]), 0.95)]
    assert margins._share_margin(float(n), churn, 0.9) == pytest.approx(expected, abs=1e-9)
    # Less than one sample's worth is one.
    assert margins._share_margin(0.4, churn, 0.9) == margins._share_margin(1.0, churn, 0.9)


def test_a_share_that_is_not_its_outcomes_mean_is_no_plain_share() -> None:
    one = answered(answers(1000)).figure
    assert margins._is_share(one)
    assert not margins._is_share(dataclasses.replace(one, value=one.value - 0.1))
    assert not margins._is_share(dataclasses.replace(one, n=999))
    assert not margins._is_share(dataclasses.replace(one, outcomes=None))
    assert not margins._is_share(averaged(np.ones(100)).figure)


def test_a_share_of_some_samples_only_is_no_plain_share() -> None:
    """Its figure rests on another number of samples than its outcomes."""
    one = answered(answers(1000))
    figure = dataclasses.replace(one.figure, n=500)
    found = decidable(figure, POLICY)
    assert found is not None
    assert found.standard_error != margin_of(one).standard_error


def test_noise_has_room_in_the_margin() -> None:
    one = answered(answers(1000))
    exact = margins._share_margin(1000.0, 0.06, 0.9)
    assert margin_of(one).size == pytest.approx(exact, abs=0.001)
    assert margin_of(one, noise=0.01).size == pytest.approx(exact + 0.01, abs=0.001)
    # As in the judge, so an equally good model passes still.
    assert margin_of(one, noise=0.01).size >= exact + 0.01
    # Where noise is all there is, twice as much is allowed.
    assert margin_of(answered(answers(100_000, 1.0)), noise=0.01).size == 0.02


@pytest.mark.parametrize(
    ("size", "rounded"),
    [
        (0.02877, 0.029),
        (0.029, 0.029),
        (0.0290001, 0.030),
        (0.0884, 0.089),
        (0.1012, 0.11),
        (0.9999, 1.0),
        (0.00123, 0.0013),
        (0.000123, 0.0002),
        (1e-9, 0.0001),
        (1.234, 1.3),
        (123.4, 130.0),
        (0.0, 0.0),
    ],
)
def test_margins_are_rounded_up(size: float, rounded: float) -> None:
    assert margins._rounded(size) == rounded


def test_a_smaller_margin_needs_more_samples() -> None:
    margin = Margin(0.03, 0.009, 1000)
    assert margin.samples_for(0.01) == 9000
    assert margin.samples_for(0.03) == 1000
    assert margin.samples_for(0.0) == 0
    assert margin.samples_for(0.0299) == 1007
    assert margins.samples_for(0.0, 0.03, 1000) is None
    assert margins.samples_for(1e-200, 0.03, 1000) is None
    size = margin_of(answered(answers(1000))).size
    found = margin_of(answered(answers(margin.samples_for(0.01)))).size
    assert found == pytest.approx(size / 3.0, rel=0.1)


def test_a_figure_of_a_part_has_the_margin_of_its_samples() -> None:
    whole, part = answered(answers(1000)), answered(answers(134), on=condition().part("noto"))
    assert margin_of(part).size > 2 * margin_of(whole).size
    assert margin_of(part) == margin_of(answered(answers(134)))
