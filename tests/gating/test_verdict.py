"""Verdicts: interval against bound, baselines, policies."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from gating_helpers import (
    HEAD,
    accuracy_rule,
    answered,
    answers,
    averaged,
    baseline_of,
    changed,
    condition,
    same_again,
)
from gating_helpers import gap as measure
from gating_helpers import gap_rule as rule
from helpers import keys_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import intervals
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.intervals import Interval
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.gating import verdict as verdict_module
from pytest_cliprobust.gating.baseline import Anchor, Provenance
from pytest_cliprobust.gating.margins import samples_for
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.message import failure_message
from pytest_cliprobust.gating.policy import Inconclusive, Policy
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.verdict import Status, Verdict, judge
from pytest_cliprobust.gating.words import rounded_up

WARN = Policy()


@pytest.mark.parametrize(
    ("interval", "bounds", "status"),
    [
        ((0.5, 0.4, 0.6), {"max": 0.7}, "pass"),
        ((0.5, 0.4, 0.6), {"max": 0.6}, "pass"),
        ((0.5, 0.4, 0.6), {"max": 0.5999}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"max": 0.4}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"max": 0.3999}, "fail"),
        ((0.5, 0.4, 0.6), {"min": 0.3}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.4}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.4001}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.6}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.6001}, "fail"),
        ((0.5, 0.4, 0.6), {"min": 0.3, "max": 0.7}, "pass"),
        ((0.5, 0.4, 0.6), {"min": 0.3, "max": 0.55}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.45, "max": 0.3999 + 0.1}, "inconclusive"),
        ((0.5, 0.4, 0.6), {"min": 0.1, "max": 0.2}, "fail"),
        # A biased bootstrap whose interval leaves out the estimate: both must be on the good side.
        ((0.5, 0.52, 0.6), {"min": 0.51}, "inconclusive"),
        ((0.5, 0.52, 0.6), {"max": 0.51}, "inconclusive"),
    ],
)
def test_the_whole_interval_decides(
    interval: tuple[float, float, float], bounds: dict[str, float], status: str
) -> None:
    verdict = judge(measure(*interval), rule(**bounds), WARN)
    assert verdict.kind in bounds
    assert verdict.limit == bounds[str(verdict.kind)]
    assert verdict.status == status
    assert verdict.outcome == {"pass": "pass", "fail": "fail", "inconclusive": "warn"}[status]
    assert verdict.failed == (status == "fail")
    assert (verdict.samples_needed is not None) == (
        status == "inconclusive" and verdict.limit != 0.5
    )


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(-1.5, 1.5))
def test_min_mirrors_max(value: float, below: float, above: float, bound: float) -> None:
    upper = judge(measure(value, value - below, value + above), rule(max=bound), WARN)
    lower = judge(measure(-value, -value - above, -value + below), rule(min=-bound), WARN)
    assert upper.status == lower.status
    assert upper.missed_by == lower.missed_by
    assert upper.samples_needed == lower.samples_needed


@pytest.mark.parametrize("policy", ["fail", "warn", "pass"])
def test_the_policy_says_what_undecided_counts_as(policy: Inconclusive) -> None:
    verdict = judge(measure(0.5, 0.4, 0.6), rule(max=0.55), Policy(policy))
    assert (verdict.status, verdict.outcome) == ("inconclusive", policy)
    assert verdict.samples_needed == intervals.samples_needed(0.5, 0.4, 0.6, 400, 0.55, power=0.8)
    assert f"counts this as a {policy}".replace("fail", "failure").replace("warn", "warning") in (
        failure_message(verdict, measure(0.5, 0.4, 0.6))
    )


@pytest.mark.parametrize("policy", ["warn", "pass"])
@pytest.mark.parametrize("bounds", [{"max": 1e9}, {"min": -1e9}, {"max_increase": 1e9}, None])
@pytest.mark.parametrize(
    "figure",
    [
        (math.nan, 0.0, 1.0, 10),
        (math.inf, 0.0, 1.0, 10),
        (-math.inf, 0.0, 1.0, 10),
        (0.5, math.nan, 1.0, 10),
        (0.5, 0.0, math.nan, 10),
        (0.5, 0.0, math.inf, 10),
        (0.5, 0.0, 1.0, 0),
    ],
)
def test_what_is_not_finite_is_never_green(
    figure: tuple[float, float, float, int], bounds: dict[str, float] | None, policy: Inconclusive
) -> None:
    measurement = measure(*figure)
    baseline = baseline_of(measure(0.5, 0.4, 0.6))
    found = rule(**bounds) if bounds else None
    verdict = judge(measurement, found, Policy(policy), baseline=baseline)
    assert (verdict.status, verdict.outcome) == ("fail", "fail")
    message = failure_message(verdict, measurement)
    assert "cannot be judged" in message
    assert "finite" in message or "no samples" in message
    assert Verdict.from_dict(json.loads(json.dumps(verdict.as_dict(), allow_nan=False))) is not None


def test_what_is_missing_is_never_green() -> None:
    verdict = judge(None, rule(max=1.0), Policy("pass"), key="calibration/ece")
    assert verdict.failed
    message = failure_message(verdict, None, "pytest x")
    assert message.startswith("calibration/ece: nothing was measured")
    assert "bound     max 1 (t.toml:4), because: it matters" in message
    assert judge(None, None, WARN).failed


def test_without_a_bound() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    free = judge(measurement, None, WARN)
    assert (free.status, free.outcome, free.bound, free.where) == ("unbounded", "pass", "", "")
    assert (free.kind, free.limit) == (None, None)
    policy = Policy(require_bound=True, where="t.toml:3")
    strict = judge(measurement, None, policy)
    assert (strict.status, strict.outcome) == ("unbounded", "fail")
    assert "no bound applies, and t.toml:3 requires one" in failure_message(strict, measurement)


def test_a_bound_is_kept_at_the_level_of_the_policy() -> None:
    """However many bounds a run has: the error rate is for losses."""
    measurement = answered(np.arange(400) < 300)
    bound = accuracy_rule("min = 0.70")
    assert judge(measurement, bound, Policy(confidence=0.95)).status == "pass"
    assert judge(measurement, bound, WARN, error_rate=1e-5).status == "pass"
    wide = judge(measurement, bound, Policy(confidence=0.999))
    assert wide.status == "inconclusive"
    assert wide.low == intervals.wilson(300, 400, 0.999).low
    assert "99.9% interval" in failure_message(wide, measurement)


def test_a_bound_is_missed_at_the_error_rate_of_the_run() -> None:
    measurement = answered(np.arange(400) < 300)
    bound = accuracy_rule("min = 0.80")
    one = judge(measurement, bound, WARN)
    assert (one.status, one.confidence) == ("fail", 0.95)
    assert one.high == intervals.wilson(300, 400, 0.95).high
    some = judge(measurement, bound, WARN, error_rate=0.03)
    assert (some.status, some.confidence) == ("fail", 0.97)
    assert some.high == intervals.wilson(300, 400, 0.97).high < 0.80
    many = judge(measurement, bound, WARN, error_rate=0.001)
    assert (many.status, many.confidence) == ("inconclusive", 0.95)
    assert many.high == one.high
    assert many.missed_by == one.missed_by == pytest.approx(0.05)
    assert "lies beyond the bound, but not by enough among so many bounds" in many.explanation
    assert many.samples_needed is not None
    # It takes more samples to be as sure as that.
    strict = judge(measurement, bound, WARN, error_rate=1e-6).samples_needed
    assert strict is not None
    assert 400 < many.samples_needed < strict


def test_the_p_value_is_the_rate_at_which_a_miss_is_real() -> None:
    measurement = answered(np.arange(400) < 300)
    bound = accuracy_rule("min = 0.80")
    p = judge(measurement, bound, WARN).p_value
    assert p is not None
    z = (0.80 - 0.75) / math.sqrt(
        0.80 * 0.20 / 400
    )  # the score test, which Wilson's interval inverts
    assert p == pytest.approx(math.erfc(z / math.sqrt(2.0)), rel=1e-6)
    assert judge(measurement, bound, WARN, error_rate=p * 1.001).failed
    assert not judge(measurement, bound, WARN, error_rate=p * 0.999).failed
    assert judge(measurement, accuracy_rule("min = 0.75"), WARN).p_value is None
    assert judge(measurement, accuracy_rule("min = 0.9999999999"), WARN).p_value == 1e-15
    near = judge(measure(0.5, 0.4, 0.6), rule(max=0.5 - 1e-14), WARN).p_value
    assert near == pytest.approx(1.0)


def test_the_noise_floor_widens_both_ends() -> None:
    measurement = measure(0.5, 0.4, 0.6)
    assert judge(measurement, rule(max=0.61), WARN).status == "pass"
    assert judge(measurement, rule(max=0.61), WARN, noise_floor=0.02).status == "inconclusive"
    assert judge(measurement, rule(max=0.39), WARN).status == "fail"
    assert judge(measurement, rule(max=0.39), WARN, noise_floor=0.02).status == "inconclusive"
    with pytest.raises(ClipRobustError, match="noise floor"):
        judge(measurement, None, WARN, noise_floor=-1.0)


def runs() -> tuple[Measurement, Measurement]:
    """A model and its successor, right on 3% fewer of the same 2,000 samples."""
    generator = np.random.default_rng(7)
    before = generator.uniform(size=2000) < 0.7
    after = before & (generator.uniform(size=2000) < 0.97)
    return answered(before, model="v1"), answered(after, model="v2")


def test_a_drop_against_the_baseline_is_judged_in_pairs() -> None:
    before, after = runs()
    policy = Policy(baseline_model="v1")
    baseline = baseline_of(before)
    small = accuracy_rule("max_decrease = 0.01")
    verdict = judge(after, small, policy, baseline=baseline)
    drop = before.figure.value - after.figure.value
    lost = round(2000 * drop)
    score = intervals.paired_score(lost, 0, 2000)
    assert verdict.status == "fail"
    assert verdict.value == pytest.approx(drop)
    assert verdict.missed_by == pytest.approx(drop - 0.01)
    assert (verdict.low, verdict.high) == pytest.approx((score.low, score.high))
    assert verdict.compared == "paired, n = 2,000"
    assert verdict.changed == lost / 2000
    assert verdict.p_value == pytest.approx(math.erfc(math.sqrt(lost / 2.0)))
    assert verdict.where == "t.toml:4"
    message = failure_message(verdict, after)
    assert f"decrease of {drop:.3f}" in message
    assert judge(after, accuracy_rule("max_decrease = 0.05"), policy, baseline=baseline).status == (
        "pass"
    )
    # A better model never breaks it, nor does the same model again.
    back = judge(before, small, Policy(baseline_model="v2"), baseline=baseline_of(after))
    assert (back.status, back.missed_by) == ("pass", 0.0)


def test_as_independent_runs_the_same_samples_cannot_tell() -> None:
    """And the verdict says why they are none."""
    before, after = runs()
    report = dataclasses.replace(before.figure, outcomes=None).measured_on(before.condition)
    baseline = baseline_of(dataclasses.replace(before, figure=report))
    bound = accuracy_rule("max_decrease = 0.01")
    unpaired = judge(after, bound, Policy(baseline_model="v1"), baseline=baseline)
    assert unpaired.status == "inconclusive"
    assert unpaired.compared == (
        "not paired: the earlier run kept no outcomes by sample; n = 2,000"
    )
    assert unpaired.changed is None
    assert unpaired.compared in failure_message(unpaired, after)
    # That a margin is kept is asked on one side: 95% sure is a two-sided 90%.
    own, other = (
        intervals.wilson(round(2000 * m.figure.value), 2000, 0.9) for m in (after, before)
    )
    reach = math.hypot(own.high - after.figure.value, before.figure.value - other.low)
    drop = before.figure.value - after.figure.value
    assert unpaired.low == pytest.approx(drop - reach)


def test_identical_outcomes_keep_any_margin() -> None:
    before, _ = runs()
    bound = accuracy_rule("max_decrease = 0")
    again = judge(before, bound, WARN, baseline=same_again(before), noise_floor=0.001)
    assert (again.status, again.value, again.low, again.high) == ("pass", 0.0, 0.0, 0.0)
    assert again.explanation == "every outcome is the same as in the baseline"
    assert (again.changed, again.decidable, again.note, again.p_value) == (0.0, None, "", None)
    # What a machine's last digits do to numbers is no other outcome.
    values = np.linspace(0.5, 3.0, 50)
    first, second = averaged(values), averaged(values + 1e-5)
    still = parse_thresholds(f'{HEAD}[[threshold]]\nmetric = "nll"\nmax_increase = 0\n').rules[0]
    baseline = baseline_of(first)
    assert judge(second, still, WARN, baseline=baseline, noise_floor=2e-5).status == "pass"
    assert judge(second, still, WARN, baseline=baseline, noise_floor=2e-5).value == 0.0
    assert judge(second, still, WARN, baseline=baseline).status != "pass"


def test_one_other_answer_of_the_same_weights_keeps_a_margin_that_has_room_for_it() -> None:
    """On another processor two answers that tie change places: no statistics, but no free loss either."""
    hits = answers(40)
    other = hits.copy()
    other[int(np.flatnonzero(hits)[0])] = False
    before, after = answered(hits), answered(other)
    wide, narrow = (accuracy_rule(f"max_decrease = {limit}") for limit in (0.03, 0.02))
    again = judge(after, wide, WARN, baseline=same_again(before))
    assert (again.status, again.changed) == ("pass", 1 / 40)
    assert again.explanation == (
        "the same weights as in the baseline: 1 of 40 outcomes differs, as ties do on another processor"
    )
    assert judge(after, narrow, WARN, baseline=same_again(before)).status == "inconclusive"
    assert judge(after, wide, WARN, baseline=baseline_of(before)).status == "inconclusive"


def test_equal_answers_of_another_model_are_judged_by_what_so_many_can_tell() -> None:
    """Ten equal answers do not show that a model which may differ elsewhere has lost nothing."""
    for n, status in ((10, "inconclusive"), (1000, "pass")):
        one = answered(answers(n))
        known = same_again(one)
        assert known.provenance is not None
        other = {one.model: "other"}
        others = [
            baseline_of(one),
            dataclasses.replace(known, current=None),
            *(
                dataclasses.replace(known, current=current)
                for current in (
                    dataclasses.replace(known.provenance, weights=other),
                    dataclasses.replace(known.provenance, precision=other),
                    dataclasses.replace(known.provenance, templates=other),
                )
            ),
            dataclasses.replace(known, provenance=Provenance(), current=Provenance()),
        ]
        for baseline in others:
            verdict = judge(one, accuracy_rule("max_decrease = 0.01"), WARN, baseline=baseline)
            assert (verdict.status, verdict.value, verdict.changed) == (status, 0.0, 0.0)
            # The rule of the score interval: z² / (n + z²), at the 90% of a one-sided question.
            z2 = 1.644853627**2
            assert verdict.high == pytest.approx(z2 / (n + z2))
            assert verdict.decidable == verdict.high
        same = judge(one, accuracy_rule("max_decrease = 0.01"), WARN, baseline=known)
        assert (same.status, same.low, same.high) == ("pass", 0.0, 0.0)


def test_one_answer_more_or_less_is_no_identity() -> None:
    before = answers(1000)
    bound = accuracy_rule("max_decrease = 0")
    for after in (changed(before, 1), changed(before, 1, 1)):
        verdict = judge(answered(after), bound, WARN, baseline=baseline_of(answered(before)))
        assert verdict.status == "inconclusive"
        assert verdict.low < 0.0 < verdict.high
        # No number of samples decides that there is not the least loss.
        assert verdict.samples_needed is None
        assert "; one of 0 needs no number of them" in verdict.explanation


def test_a_real_loss_within_the_margin_is_told() -> None:
    before = answers(4000)
    lost = answered(changed(before, 60, 20))
    bound = accuracy_rule("max_decrease = 0.03")
    baseline = baseline_of(answered(before))
    verdict = judge(lost, bound, WARN, baseline=baseline, error_rate=0.001)
    assert (verdict.status, verdict.missed_by) == ("pass", 0.0)
    assert (
        verdict.explanation == "the interval of the decrease from 0.8400 rules out more than 0.03"
    )
    start = (
        "the decrease of 0.0100 [0.0058, 0.0147] (paired, n = 4,000) is real by itself, and within "
        "the margin of 0.03; a margin of 0.0100 needs about "
    )
    assert verdict.note.startswith(start)
    # As many samples as decide a margin of that size, at the churn that was measured.
    error = math.sqrt((80 / 4000 - 0.01**2) / 4000)
    needed = 4000 * ((1.644854 + 1.644854) * error / 0.01) ** 2
    told = int(verdict.note.removeprefix(start).removesuffix(" samples").replace(",", ""))
    assert needed <= told < 1.1 * needed
    # It is told of the figure by itself, however many bounds there are.
    assert judge(lost, bound, WARN, baseline=baseline, error_rate=1e-6).note.startswith(start)
    # Nor is a gain a loss.
    better = answered(changed(before, 20, 60))
    assert judge(better, bound, WARN, baseline=baseline).note == ""
    # It is told, too, where a bound beside the margin decides, and where it is not sure that the
    # margin is kept.
    both = judge(lost, accuracy_rule("min = 0.5\nmax_decrease = 0.03"), WARN, baseline=baseline)
    assert (both.bound, both.note[:24]) == ("min 0.5", "the decrease of 0.0100 [")
    close = judge(lost, accuracy_rule("max_decrease = 0.0101"), WARN, baseline=baseline)
    assert close.status == "inconclusive"
    assert (
        "is real by itself, and these samples cannot tell whether it lies within the margin"
        in close.note
    )
    beyond = accuracy_rule("max_decrease = 0.0005")
    unsure = judge(lost, beyond, WARN, baseline=baseline, error_rate=1e-8)
    assert unsure.status == "inconclusive"
    assert "beyond the margin of 0.0005 by the estimate, though not surely enough" in unsure.note
    assert "needs about" not in unsure.note


def test_a_margin_too_small_to_be_decided_says_what_it_needs() -> None:
    before = answers(134)
    after = answered(changed(before, 4, 4))
    baseline = baseline_of(answered(before))
    verdict = judge(after, accuracy_rule("max_decrease = 0.01"), WARN, baseline=baseline)
    assert verdict.status == "inconclusive"
    error = math.sqrt(8) / 134
    assert verdict.decidable == pytest.approx((1.644854 + 1.644854) * error)
    assert verdict.decidable is not None
    needed = math.ceil(134 * (verdict.decidable / 0.01) ** 2)
    assert verdict.samples_needed == needed
    assert verdict.explanation.endswith(
        f"; 134 samples decide a margin of {verdict.decidable:.2g}; one of 0.01 needs about "
        f"{rounded_up(needed)}"
    )
    wide = judge(after, accuracy_rule("max_decrease = 0.1"), WARN, baseline=baseline)
    assert wide.status == "pass"
    assert wide.samples_needed is None
    # A better model is no failure, and the same margin is not decided by it either.
    better = judge(
        answered(changed(before, 2, 4)),
        accuracy_rule("max_decrease = 0.01"),
        WARN,
        baseline=baseline,
    )
    assert better.status == "inconclusive"
    assert "holds losses on both sides" in better.explanation


def test_an_undecided_change_says_how_many_samples_would_tell() -> None:
    before = answers(1000)
    baseline = baseline_of(answered(before))
    after = answered(changed(before, 40, 20))
    within = judge(after, accuracy_rule("max_decrease = 0.03"), WARN, baseline=baseline)
    assert within.status == "inconclusive"
    score = intervals.paired_score(40, 20, 1000, 0.9)
    assert within.samples_needed == intervals.samples_needed(
        0.02, score.low, score.high, 1000, 0.03, confidence=0.9, power=0.8
    )
    beyond = judge(
        after, accuracy_rule("max_decrease = 0.0199"), WARN, baseline=baseline, error_rate=1e-4
    )
    assert beyond.status == "inconclusive"
    assert "holds losses on both sides of the margin; 1,000 samples" in beyond.explanation
    # Far beyond the margin, and still no certainty among thousands.
    more = answered(changed(before, 9))
    far = judge(
        more, accuracy_rule("max_decrease = 0.0001"), WARN, baseline=baseline, error_rate=1e-5
    )
    assert far.status == "inconclusive"
    assert far.low > 0.0001
    assert "lies beyond the margin, but is not sure enough among so many bounds" in far.explanation
    assert far.samples_needed is not None
    assert far.samples_needed > 1000
    assert judge(more, accuracy_rule("max_decrease = 0.0001"), WARN, baseline=baseline).failed


def test_what_both_runs_have_is_compared() -> None:
    """Whatever the order, by sample and content."""
    before = answers(1000)
    keys = keys_of(1000)
    baseline = baseline_of(answered(before, keys))
    bound = accuracy_rule("max_decrease = 0.01")
    order = np.random.default_rng(0).permutation(1000)
    after = changed(before, 30)
    mixed = judge(answered(after[order], keys.take(order)), bound, WARN, baseline=baseline)
    plain = judge(answered(after, keys), bound, WARN, baseline=baseline)
    assert (mixed.status, mixed.low, mixed.high) == (plain.status, plain.low, plain.high)
    # Of a part, and of one that has samples of its own, what is shared.
    part = order[:300]
    some = judge(answered(after[part], keys.take(part)), bound, WARN, baseline=baseline)
    assert some.compared == "paired, n = 300"
    assert some.n == 300
    assert some.value == pytest.approx(float(before[part].mean() - after[part].mean()))
    extra = answers(100, 0.0)
    ids = (*keys.ids, *(f"new{i}" for i in range(100)))
    more = SampleKeys(ids, ids, kind="drawing")
    grown = judge(answered(np.r_[after, extra], more), bound, WARN, baseline=baseline)
    assert (grown.compared, grown.value) == ("paired, n = 1,000", plain.value)
    # Others are strangers.
    other = SampleKeys(ids[1000:], ids[1000:], kind="drawing")
    none = judge(answered(extra, other), bound, WARN, baseline=baseline)
    assert none.compared == "not paired: the runs have no samples in common; n = 100"
    assert none.failed


def test_what_has_another_content_is_another_sample() -> None:
    before, ids = answers(200), keys_of(200).ids
    then = SampleKeys(ids, ids, tuple(f"{i:x}" for i in range(200)))
    now = dataclasses.replace(then, digests=("other",) * 50 + then.digests[50:])
    baseline = baseline_of(answered(before, then))
    bound = accuracy_rule("max_decrease = 0.05")
    verdict = judge(answered(before, now), bound, WARN, baseline=baseline)
    assert verdict.compared == "paired, n = 150"
    # Where the content is not known, the name counts.
    unknown = judge(
        answered(before, dataclasses.replace(then, digests=())), bound, WARN, baseline=baseline
    )
    assert unknown.compared == "paired, n = 200"


def test_samples_of_one_drawing_count_as_what_they_are_worth() -> None:
    """Four scenes of each of 250 drawings, all four lost together, are no 1,000 samples."""
    before = answers(1000, 1.0)
    after = before.copy()
    after[:40] = False
    baseline = baseline_of(answered(before))
    bound = accuracy_rule("max_decrease = 0.01")
    single = judge(answered(after), bound, WARN, baseline=baseline)
    units = keys_of(1000, np.arange(1000) // 4)
    together = judge(answered(after, units), bound, WARN, baseline=baseline)
    assert together.compared == "paired, n = 1,000 in 250 drawings"
    assert together.value == single.value == pytest.approx(0.04)
    assert single.p_value is not None
    assert together.p_value is not None
    assert together.p_value > 100 * single.p_value
    assert together.low < single.low
    assert together.high > single.high


def test_the_noise_of_a_change_widens_both_ends() -> None:
    before = answers(1000)
    after = answered(changed(before, 30, 10))
    baseline = baseline_of(answered(before))
    bound = accuracy_rule("max_decrease = 0.01")
    plain = judge(after, bound, WARN, baseline=baseline)
    noisy = judge(after, bound, WARN, baseline=baseline, noise_floor=0.002)
    assert plain.failed
    assert noisy.low == pytest.approx(plain.low - 0.002)
    assert noisy.high == pytest.approx(plain.high + 0.002)
    assert plain.decidable is not None
    assert noisy.decidable == pytest.approx(plain.decidable + 0.002)
    assert plain.p_value is not None
    assert noisy.p_value is not None
    assert noisy.p_value > plain.p_value
    # No loss is real that the noise of the machine may be.
    assert judge(after, bound, WARN, baseline=baseline, noise_floor=0.015).status == "inconclusive"
    kept = accuracy_rule("max_decrease = 0.04")
    assert judge(after, kept, WARN, baseline=baseline).status == "pass"
    assert judge(after, kept, WARN, baseline=baseline, noise_floor=0.015).status == "inconclusive"


def test_an_increase_is_the_other_direction() -> None:
    first, second = measure(1.0, 0.98, 1.02), measure(1.2, 1.18, 1.22)
    baseline = baseline_of(first)
    grown = judge(second, rule(max_increase=0.1), WARN, baseline=baseline)
    assert grown.status == "fail"
    assert grown.missed_by == pytest.approx(0.1)
    assert "increase of 0.200" in failure_message(grown, second)
    assert judge(second, rule(max_decrease=0.1), WARN, baseline=baseline).status == "pass"
    within = judge(second, rule(max_increase=0.21), WARN, baseline=baseline)
    assert within.status == "inconclusive"
    assert "the increase of 0.200" in within.note


def test_a_loss_must_be_real_and_beyond_the_margin() -> None:
    """Neither alone fails: a real one within it, nor one beyond it that may be none."""
    baseline = baseline_of(measure(1.0, 0.99, 1.01))
    small_and_sure = measure(1.05, 1.04, 1.06)
    assert judge(small_and_sure, rule(max_increase=0.2), WARN, baseline=baseline).status == "pass"
    large_and_not = measure(1.3, 0.8, 1.8)
    verdict = judge(large_and_not, rule(max_increase=0.2), WARN, baseline=baseline)
    assert (verdict.status, verdict.outcome) == ("inconclusive", "warn")
    # Real, beyond the margin, and not sure that it is: the loss is, and that is enough.
    verdict = judge(measure(1.3, 1.1, 1.5), rule(max_increase=0.2), WARN, baseline=baseline)
    assert verdict.low < 0.2 < verdict.value
    assert verdict.status == "fail"


def test_a_margin_that_no_model_could_miss_is_no_evidence() -> None:
    """It allows more than is left to lose, so that it rules nothing out."""
    before = answered(answers(share=0.84), model="v1")
    after = answered(changed(answers(share=0.84), 30), model="v2")
    baseline = baseline_of(before)
    for size, status in ((0.9, "inconclusive"), (0.84, "inconclusive"), (0.83, "pass")):
        verdict = judge(after, accuracy_rule(f"max_decrease = {size}"), WARN, baseline=baseline)
        assert (size, verdict.status) == (size, status)
    wide = judge(after, accuracy_rule("max_decrease = 0.9"), WARN, baseline=baseline)
    assert "is real by itself, and within the margin of 0.9" in wide.note
    assert wide.explanation.startswith(
        "a margin of 0.9 allows any loss: accuracy was recorded at 0.84, and 0 is the worst that a model "
        "comes to; write a smaller margin: 1,000 samples decide one of 0.0"
    )
    same = same_again(before)
    again = judge(before, accuracy_rule("max_decrease = 0.9"), WARN, baseline=same)
    assert again.status == "pass"


def test_what_has_nothing_to_be_compared_with_is_not_judged() -> None:
    """It is no loss, so it fails for none; that the run is not green for it is for the run's end to say."""
    _, after = runs()
    bound = accuracy_rule("max_decrease = 0.9")
    for policy in (Policy("pass"), WARN, Policy("fail")):
        none = judge(after, bound, policy)
        assert (none.status, none.outcome, none.not_compared) == ("inconclusive", "warn", True)
        assert not none.waivable
    assert none.explanation == (
        "there is no baseline: --clip-record writes one, or name one with --clip-baseline"
    )
    assert judge(after, bound, WARN, no_baseline="it is gone").explanation == "it is gone"
    told = failure_message(none, after)
    assert "cannot be judged" in told
    assert "policy" not in told
    # An absolute bound beside it is judged all the same.
    beside = judge(after, accuracy_rule("min = 0.99\nmax_decrease = 0.9"), WARN)
    assert (beside.status, beside.kind, beside.not_compared) == ("fail", "min", False)
    kept = judge(after, accuracy_rule("min = 0.01\nmax_decrease = 0.9"), WARN)
    assert (kept.kind, kept.not_compared) == ("max_decrease", True)
    assert Verdict.from_dict(kept.as_dict()).not_compared


def test_a_missing_figure_is_not_judged_and_a_broken_one_fails() -> None:
    before, after = runs()
    bound = accuracy_rule("max_decrease = 0.9")
    both = baseline_of(before, dataclasses.replace(before, model="v3"))
    other = judge(after, bound, WARN, baseline=both)
    assert other.not_compared
    assert "is of v1, v3, not of v2; name one of them as baseline_model" in other.explanation
    assert "cannot be judged" in failure_message(other, after)
    foggy = answered(answers(), model="v2", on=condition("clean", "fog_3d", 3))
    lacking = judge(foggy, bound, WARN, baseline=baseline_of(before))
    assert lacking.not_compared
    assert lacking.explanation.endswith(
        " has no figure for accuracy/accuracy/clean/fog_3d@3; record it anew"
    )
    for value in (math.nan, math.inf):
        figure = dataclasses.replace(before.figure, value=value, outcomes=None)
        broken = dataclasses.replace(before, figure=figure.measured_on(before.condition))
        verdict = judge(after, bound, Policy("pass"), baseline=baseline_of(broken))
        assert verdict.failed
        assert not verdict.not_compared
        assert verdict.explanation.startswith(f"the baseline's accuracy is {value}, or the change")


def test_the_worst_of_several_bounds_counts() -> None:
    before, after = runs()
    policy = Policy(baseline_model="v1")
    baseline = baseline_of(before)
    both = judge(after, accuracy_rule("min = 0.5\nmax_decrease = 0.01"), policy, baseline=baseline)
    assert (both.status, both.bound, both.where) == ("fail", "max_decrease 0.01", "t.toml:5")
    floor = judge(after, accuracy_rule("min = 0.9\nmax_decrease = 0.05"), policy, baseline=baseline)
    assert (floor.status, floor.bound, floor.where) == ("fail", "min 0.9", "t.toml:4")
    # A miss that was seen is worse than a change that was not, and that is worse than an undecided bound.
    assert judge(after, accuracy_rule("min = 0.9\nmax_decrease = 0.05"), policy).bound == "min 0.9"
    assert judge(after, accuracy_rule("min = 0.68\nmax_decrease = 0.05"), policy).not_compared


VERDICTS = [
    judge(measure(0.5, 0.4, 0.6), rule(max=0.55), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(max=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(min=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), rule(max_increase=0.1), WARN),
    judge(measure(0.5, 0.4, 0.6), None, WARN),
    judge(measure(math.nan, 0.0, 1.0), rule(max=1.0), WARN),
    judge(None, rule(max_decrease=0.5), WARN, key="calibration/ece"),
    *(
        judge(
            runs()[1],
            accuracy_rule(f"max_decrease = {size}"),
            WARN,
            baseline=baseline_of(runs()[0]),
        )
        for size in (0.01, 0.03, 0.05)
    ),
]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_json_round_trip(verdict: Verdict) -> None:
    data = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    back = Verdict.from_dict(data)
    # Not-a-number is never equal to itself; as data it is.
    assert back.as_dict() == data == verdict.as_dict()
    assert (back.kind, back.limit, back.bound) == (verdict.kind, verdict.limit, verdict.bound)
    assert data["bound"] == verdict.bound
    if not math.isnan(verdict.value):
        assert back == verdict


def test_the_verdicts_of_the_round_trip_are_of_all_kinds() -> None:
    assert {verdict.status for verdict in VERDICTS} == {"pass", "inconclusive", "fail", "unbounded"}
    assert any(verdict.note and verdict.changed and verdict.decidable for verdict in VERDICTS)


def test_a_verdict_of_an_older_version_is_read() -> None:
    """Reports and histories outlive the fields that came later."""
    data = VERDICTS[-1].as_dict()
    for name in ("p_value", "compared", "decidable", "changed", "note"):
        del data[name]
    back = Verdict.from_dict(data)
    assert (back.p_value, back.compared, back.decidable, back.note) == (None, "", None, "")
    assert back.status == VERDICTS[-1].status


def test_json_keeps_what_is_not_finite() -> None:
    back = Verdict.from_dict(json.loads(json.dumps(VERDICTS[5].as_dict(), allow_nan=False)))
    assert math.isnan(back.value)
    assert (back.missed_by, back.samples_needed) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"), [("status", "green"), ("outcome", "inconclusive"), ("kind", "maximum")]
)
def test_json_of_something_else_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"unknown {name}.* '{value}'"):
        Verdict.from_dict({**VERDICTS[0].as_dict(), name: value})


def test_the_deciding_bound_has_a_kind_and_a_limit() -> None:
    exact = judge(measure(0.5, 0.4, 0.6), rule(max=1 / 3), WARN)
    assert (exact.kind, exact.limit, exact.bound) == ("max", 1 / 3, "max 0.333333333333")
    assert not exact.on_change
    change = judge(measure(0.5, 0.4, 0.6), rule(max_increase=0.1), WARN)
    assert (change.kind, change.limit, change.on_change) == ("max_increase", 0.1, True)
    # Of several bounds that a figure without statistics breaks all, the first is named.
    broken = judge(measure(math.nan, 0.0, 1.0), rule(max=1.0, min=0.5), WARN)
    assert (broken.kind, broken.limit, broken.where) == ("min", 0.5, "t.toml:5")


def test_a_noise_floor_ends_at_the_range_of_the_metric() -> None:
    """What no figure can reach must not put one in doubt that is as good as it can be."""

    def of(metric: str, value: float, low: float, high: float, **bounds: float) -> str:
        figure = Figure(metric, value, low, high, 100).measured_on(condition())
        found = rule(**bounds)
        return judge(Measurement("s", "m", figure), found, WARN, noise_floor=0.01).status

    assert of("ece", 0.0, 0.0, 0.1, min=0.0, max=0.5) == "pass"
    assert of("accuracy", 1.0, 0.9, 1.0, min=0.5, max=1.0) == "pass"
    assert of("accuracy", 0.995, 0.9, 0.995, min=0.5, max=0.999) == "inconclusive"
    assert of("nll", 1.0, 0.9, 1.0, max=1.005) == "inconclusive"
    # A figure outside of the range keeps its own interval.
    assert of("accuracy", 1.2, 1.1, 1.3, min=1.0, max=1.3) == "pass"


def test_what_is_judged_by_nothing_still_says_what_was_measured() -> None:
    found = measure(0.5, 0.4, 0.6)
    unbounded = judge(found, None, WARN)
    said = (unbounded.value, unbounded.low, unbounded.high, unbounded.n, unbounded.confidence)
    assert said == (0.5, 0.4, 0.6, 400, 0.95)
    assert (unbounded.kind, unbounded.limit, unbounded.where, unbounded.because) == (
        None,
        None,
        "",
        "",
    )
    assert (unbounded.key, unbounded.rule_id, unbounded.missed_by) == (found.key, "", None)
    assert (unbounded.status, unbounded.outcome) == ("unbounded", "pass")
    assert unbounded.explanation == "no bound applies"
    strict = judge(found, None, Policy(require_bound=True))
    assert (strict.status, strict.outcome) == ("unbounded", "fail")
    assert strict.explanation.startswith("no bound applies, and ")
    bad = judge(measure(math.nan, 0.4, 0.6), rule(max=0.7, min=0.1), WARN)
    assert (bad.kind, bad.limit) == next(iter(rule(max=0.7, min=0.1).bounds.items()))
    assert (bad.because, bad.n) == ("it matters", 400)
    assert bad.where.startswith("t.toml")
    nothing = judge(None, rule(max=0.7), WARN, key="calibration/ece")
    assert (nothing.key, nothing.kind, nothing.limit, nothing.n) == (
        *("calibration/ece", "max", 0.7),
        0,
    )
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)


@pytest.mark.parametrize(
    ("interval", "bounds", "explanation"),
    [
        (
            (0.5, 0.4, 0.6),
            {"max": 0.25},
            "the whole interval of signed_gap lies above the bound, its nearer end by 0.15",
        ),
        (
            (0.5, 0.4, 0.6),
            {"min": 0.9},
            "the whole interval of signed_gap lies below the bound, its nearer end by 0.3",
        ),
        ((0.5, 0.4, 0.6), {"min": 0.3}, "the whole interval of signed_gap keeps min 0.3"),
        ((0.5, 0.4, 0.6), {"max": 0.6}, "the whole interval of signed_gap keeps max 0.6"),
        (
            (0.5, 0.4, 0.6),
            {"max": 0.5},
            "the interval of signed_gap contains the bound, so 400 samples cannot tell; the estimate "
            "sits on the bound, so no number of samples would",
        ),
    ],
)
def test_verdicts_in_words(
    interval: tuple[float, float, float], bounds: dict[str, float], explanation: str
) -> None:
    verdict = judge(measure(*interval), rule(**bounds), WARN)
    assert verdict.explanation == explanation
    limit = next(iter(bounds.values()))
    missed = limit - 0.5 if "min" in bounds else 0.5 - limit
    assert verdict.missed_by == pytest.approx(max(0.0, missed))
    assert (verdict.p_value is None) == (missed <= 0.0)


@pytest.mark.parametrize(("bounds", "inside"), [({"max": 0.4}, True), ({"min": 0.6}, True)])
def test_a_bound_on_the_end_of_an_interval_lies_in_it(
    bounds: dict[str, float], inside: bool
) -> None:
    verdict = judge(measure(0.5, 0.4, 0.6), rule(**bounds), WARN)
    assert ("contains the bound" in verdict.explanation) == inside
    # With many bounds a miss may lie outside of the interval and be no failure yet.
    beyond = {"max": 0.39} if "max" in bounds else {"min": 0.61}
    among = judge(measure(0.5, 0.4, 0.6), rule(**beyond), WARN, error_rate=0.001)
    assert among.status == "inconclusive"
    assert "lies beyond the bound, but not by enough among so many bounds" in among.explanation


def test_an_estimate_outside_of_its_interval_is_taken_into_it() -> None:
    for shown, expected in (
        ((0.5, 0.52, 0.6), (0.5, 0.6)),
        ((0.5, 0.3, 0.48), (0.3, 0.5)),
        ((0.5, 0.4, 0.6), (0.4, 0.6)),
    ):
        verdict = judge(measure(*shown), rule(max=1.0), WARN)
        assert (verdict.low, verdict.high) == expected
    # Its end is then the estimate itself, at which a bound is kept.
    assert judge(measure(0.5, 0.3, 0.48), rule(max=0.5), WARN).status == "pass"
    assert judge(measure(0.5, 0.3, 0.48), rule(max=0.49), WARN).status == "inconclusive"


def test_noise_widens_both_ends_and_stays_in_the_range_of_a_metric() -> None:
    noisy = judge(measure(0.5, 0.4, 0.6), rule(max=1.0), WARN, noise_floor=0.125)
    assert (noisy.low, noisy.high) == pytest.approx((0.275, 0.725))
    share = verdict_module._widened(intervals_of(0.05, 0.95), 0.125, "accuracy")
    assert (share.low, share.high) == (0.0, 1.0)
    # An end beyond the range stays where it was.
    odd = verdict_module._widened(intervals_of(-0.5, 1.5), 0.125, "accuracy")
    assert (odd.low, odd.high) == (-0.5, 1.5)
    for wrong in (-1e-9, math.nan, math.inf):
        with pytest.raises(ClipRobustError, match="noise floor must be 0 or more"):
            judge(measure(0.5, 0.4, 0.6), rule(max=1.0), WARN, noise_floor=wrong)
    assert judge(measure(0.5, 0.4, 0.6), rule(max=1.0), WARN, noise_floor=0.0).low == 0.4


def intervals_of(low: float, high: float) -> Interval:
    return Interval(low, high, 0.95, "made up")


@pytest.mark.parametrize("edge", [1e-14, 1e-9, 1e-4, 0.04, 0.5, 0.9])
def test_the_level_at_which_something_is_left_out_is_found(edge: float) -> None:
    found = verdict_module._p_value(lambda confidence: 1.0 - confidence > edge)
    assert found == pytest.approx(edge, rel=1e-2 if edge < 1e-12 else 1e-6)


def test_levels_beyond_those_that_numbers_hold() -> None:
    assert verdict_module._p_value(lambda confidence: False) == 1.0
    assert verdict_module._p_value(lambda confidence: True) == 1e-15


def test_samples_for_a_margin_go_by_its_square() -> None:
    assert samples_for(0.01, 0.03, 100) == 900
    assert samples_for(0.03, 0.01, 100) == 12
    assert samples_for(0.03, 0.03, 100) == 100
    assert samples_for(0.0, 0.03, 100) is None
    assert samples_for(-0.1, 0.03, 100) is None
    assert samples_for(1e-200, 0.03, 100) is None
    assert samples_for(math.nan, 0.03, 100) is None
    assert samples_for(1e-320, 0.03, 100) is None


def test_the_smallest_margin_of_all_is_judged_like_any() -> None:
    before = answers(400)
    baseline = baseline_of(answered(before))
    rule_of_nothing = accuracy_rule("max_decrease = 1e-200")
    for after in (changed(before, 12, 9), changed(before, 9, 12)):
        verdict = judge(answered(after), rule_of_nothing, WARN, baseline=baseline)
        assert verdict.status == "inconclusive"
        assert "one of 1e-200 needs no number of them" in verdict.explanation
        assert verdict.samples_needed is None


@pytest.mark.parametrize(
    ("status", "value", "words"),
    [
        ("pass", 0.05, "within the margin of 0.03"),
        ("inconclusive", 0.05, "beyond the margin of 0.03 by the estimate, though not surely"),
        ("inconclusive", 0.03, "these samples cannot tell whether it lies within the margin"),
        ("inconclusive", 0.02, "these samples cannot tell whether it lies within the margin"),
    ],
)
def test_where_a_real_loss_lies(status: Status, value: float, words: str) -> None:
    interval = Interval(0.01, 0.09, 0.95, "made up")
    judged = verdict_module._Judged(
        "max_decrease", 0.03, status, interval, value, 400, max(0.0, value - 0.03), ""
    )
    assert verdict_module._place(judged).startswith(words)


def test_drift_is_told_where_the_samples_show_it() -> None:
    """One sample that is wrong is no loss of 84 points since the first recording."""
    before = answered(answers(share=0.80))
    key = "accuracy/accuracy/clean/clean"
    baseline = dataclasses.replace(baseline_of(before), anchors={key: Anchor(0.84, "2026-11-01")})
    bound = accuracy_rule("max_decrease = 0.035")
    many = judge(answered(changed(answers(share=0.80), 10)), bound, WARN, baseline=baseline)
    assert (
        "was 0.840 when it was first recorded, 2026-11-01: since then it has lost 0.05,"
        in many.note
    )
    few = judge(answered(np.array([False])), bound, WARN, baseline=baseline)
    assert few.status == "inconclusive"
    assert "first recorded" not in few.note
