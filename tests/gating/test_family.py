"""Many bounds in one run: headlines, details, and how seldom a run cries wolf."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from gating_helpers import (
    accuracy_rule,
    answered,
    answers,
    baseline_of,
    changed,
    condition,
    gap,
    gap_rule,
)

from pytest_cliprobust.figures.condition import Condition, Step, against, together
from pytest_cliprobust.gating.baseline import Baseline
from pytest_cliprobust.gating.family import FIGURES_A_TEST, Family, is_headline, settled
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.policy import Policy
from pytest_cliprobust.gating.rules import Rule
from pytest_cliprobust.gating.verdict import Verdict, judge

CLEAN = condition()
FOG = [condition("clean", "fog_3d", severity) for severity in (1, 3, 5)]
PLAIN = answers(100)


def on(where: Condition) -> Measurement:
    return answered(PLAIN, on=where)


@pytest.mark.parametrize(
    ("where", "headline"),
    [
        (CLEAN, True),
        (Condition("clean", limit=500), True),
        (Condition("near_ood"), True),
        (together(FOG), False),
        (together([*FOG, condition("clean", "snow", 3)], "all_mine"), True),
        (Condition("clean", label="apgd", over=(CLEAN,)), True),
        (against(FOG[1], FOG[0]), False),
        (FOG[0], False),
        (condition("clean", "fog_3d", 0), False),
        (Condition("clean", (Step("rotation", None, (("degrees", 12.5),)),)), False),
        (Condition("clean", (Step("kornia:RandomGrayscale"),)), False),
        (Condition("clean", (Step("snow", 3), Step("fog_3d", 1))), False),
        # Inside against outside, at one severity.
        (dataclasses.replace(FOG[1], over=(CLEAN, FOG[1])), False),
        (CLEAN.part("noto"), False),
        (FOG[0].part("noto"), False),
        (together([one.part("noto") for one in FOG]), False),
        # A data set of that name is a whole one.
        (Condition("imagefolder:photos"), True),
    ],
)
def test_headlines_sum_up(where: Condition, headline: bool) -> None:
    assert is_headline(on(where)) is headline


def test_each_family_has_half_of_the_error_rate() -> None:
    policy = Policy(family_wise_error_rate=0.1)
    both = together([*FOG, condition("clean", "snow", 3)], "all_mine")
    family = Family.of([on(CLEAN), on(both), *map(on, FOG), on(CLEAN.part("noto"))])
    assert family == Family(headlines=2, details=4)
    # Two-sided: of both sides only one is a loss, so half of it is the family's half.
    assert family.error_rate(on(CLEAN), policy) == pytest.approx(0.1 / 2)
    assert family.error_rate(on(FOG[1]), policy) == pytest.approx(0.1 / 4)
    # A hundred details cost a headline nothing.
    many = Family(headlines=2, details=100)
    assert many.error_rate(on(CLEAN), policy) == pytest.approx(0.1 / 2)
    # What nobody expected is judged as one.
    assert Family(headlines=0, details=0).error_rate(on(CLEAN), policy) == pytest.approx(0.1)


def test_of_an_unknown_family_some_for_each_test_are_expected() -> None:
    policy = Policy()
    # Half is for the end, and of the other half the expected ones of each test have half.
    each = pytest.approx(0.05 / 4 / FIGURES_A_TEST)
    assert Family().error_rate(on(CLEAN), policy) == each
    assert Family(headlines=5).error_rate(on(FOG[0]), policy) == each
    assert Family(headlines=5).error_rate(on(CLEAN), policy) == pytest.approx(0.01)
    assert Family(tests=10).error_rate(on(CLEAN), policy) == pytest.approx(
        0.005 / 4 / FIGURES_A_TEST
    )
    assert Family().error_rate(on(CLEAN), policy, seen=FIGURES_A_TEST) == each
    # Behind those that were expected the levels fall: number k has that of k (k - 1) / expected.
    beyond = FIGURES_A_TEST + 1
    fallen = pytest.approx(0.05 / 4 / (beyond * (beyond - 1) / FIGURES_A_TEST))
    assert Family().error_rate(on(CLEAN), policy, seen=beyond) == fallen


@pytest.mark.parametrize("family", [Family(), Family(tests=7), Family(3, 500, tests=7, more=True)])
def test_all_levels_together_are_within_the_rate_however_many_are_judged(family: Family) -> None:
    policy = Policy()
    for where, headline in ((CLEAN, True), (FOG[0], False)):
        one = on(where)
        levels = [family.error_rate(one, policy, seen=k) for k in range(1, 5001)]
        assert levels == sorted(levels, reverse=True)
        at_once = family.tests * sum(levels)
        assert 0.48 * 0.05 < at_once <= 0.5 * 0.05
        # At the end Holm's method has the other half, or the whole, if what was judged at once is part of it.
        highest = round(0.05 / levels[0])
        assert family.rate_at_the_end(headline, highest, policy) == 0.05
        assert family.rate_at_the_end(headline, highest + 1, policy) == 0.025


def test_where_more_may_be_judged_than_is_known_as_many_are_expected_as_of_an_unknown_family() -> (
    None
):
    policy = Policy()
    known = Family(headlines=1, details=200)
    assert known.rate_at_the_end(False, 10_000, policy) == 0.05
    more = known.at_least(10)
    assert more == Family(1, 200, tests=10, more=True)
    assert more.error_rate(on(CLEAN), policy) == Family(tests=10).error_rate(on(CLEAN), policy)
    assert more.error_rate(on(FOG[0]), policy) == pytest.approx(0.05 / 4 / 200)


LOOSE = gap_rule(max=0.0)
#: The two-sided normal quantile at 95%, which :func:`missed` scales its intervals by.
Z = 1.959963985


def missed(sigma: float, where: Condition = CLEAN) -> Measurement:
    """Return a figure that lies so many standard errors of one beyond ``max = 0``."""
    figure = dataclasses.replace(gap(sigma, sigma - Z, sigma + Z).figure)
    return Measurement("calibration", "reference", figure.measured_on(where))


def judged(
    measurements: list[Measurement], family: Family, policy: Policy, rule: Rule = LOOSE
) -> list[tuple[Measurement, Verdict]]:
    rates = [family.error_rate(one, policy) for one in measurements]
    return [
        (one, judge(one, rule, policy, error_rate=rate))
        for one, rate in zip(measurements, rates, strict=True)
    ]


def statuses(verdicts: list[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


def test_the_later_steps_of_holm_fail_what_the_first_left_open() -> None:
    """Ten figures: once the worst ones are real, the next need to be less unlikely."""
    policy = Policy(inconclusive="pass")
    run = judged([missed(s) for s in (4.0, 3.2, 2.7, 2.6, 1.0, *[-0.1] * 5)], Family(10), policy)
    # At 0.05 / 10, both sides together, z is 2.81, at 0.05 / 8 it is 2.73, at / 7 it is 2.69.
    assert statuses([verdict for _, verdict in run])[:5] == ["fail"] * 2 + ["inconclusive"] * 3
    after = settled(run, policy)
    assert statuses(after)[:5] == ["fail"] * 2 + ["inconclusive"] * 3
    run = judged([missed(s) for s in (4.0, 3.2, 2.77, 2.71, 1.0, *[-0.1] * 5)], Family(10), policy)
    assert statuses([verdict for _, verdict in run])[:5] == ["fail"] * 2 + ["inconclusive"] * 3
    after = settled(run, policy)
    assert statuses(after)[:5] == ["fail"] * 4 + ["inconclusive"]
    assert [verdict.outcome for verdict in after][:5] == ["fail"] * 4 + ["pass"]
    assert after[2].explanation == (
        "the loss is real, given the others that this run found (Holm's method); by itself it was undecided: "
        + run[2][1].explanation
    )
    assert [verdict.late for verdict in after][:5] == [False, False, True, True, False]
    # What failed, and what is not touched, stays as it was.
    assert after[:2] == [verdict for _, verdict in run[:2]]
    assert after[4:] == [verdict for _, verdict in run[4:]]
    assert settled(list(zip((m for m, _ in run), after, strict=True)), policy) == after


def test_only_what_lies_beyond_its_bound_is_called_real_later() -> None:
    """A sure gain, a loss within its margin and a missing figure are no steps."""
    before = answers(2000)
    bounds = {size: accuracy_rule(f"max_decrease = {size}") for size in (0.005, 0.03)}
    policy = Policy()
    baseline = baseline_of(answered(before))
    family = Family(headlines=4)
    runs = [(60, 10, 0.005), (30, 8, 0.005), (30, 8, 0.03), (8, 30, 0.005)]
    run = []
    for lost, gained, size in runs:
        one = answered(changed(before, lost, gained))
        rate = family.error_rate(one, policy)
        run.append((one, judge(one, bounds[size], policy, baseline=baseline, error_rate=rate)))
    unbounded = judge(run[0][0], None, policy)
    lacking = judge(run[0][0], bounds[0.03], policy)
    run += [(run[0][0], unbounded), (run[0][0], lacking)]
    assert [verdict.p_value is None for _, verdict in run] == [False, False, True, True, True, True]
    after = settled(run, policy)
    assert statuses(after) == ["fail", "fail", "pass", "pass", "unbounded", "inconclusive"]
    assert after[4:] == [unbounded, lacking]


def test_headlines_and_details_take_no_steps_together() -> None:
    policy = Policy()
    headline, detail = missed(2.1), missed(9.0, FOG[0])
    # Alone 2.1 is beyond 0.05 (z = 1.96); as one of two steps with the detail it would be, too.
    quiet = [missed(-1.0) for _ in range(3)]
    run = judged([headline, detail, *quiet], Family(4, 1), policy)
    assert statuses(settled(run, policy))[:2] == ["inconclusive", "fail"]
    # Nor does a detail lose its power to headlines.
    run = judged([missed(2.1, FOG[0]), *quiet], Family(4, 1), policy)
    assert statuses(settled(run, policy))[0] == "fail"


@pytest.mark.parametrize(("one", "others"), [(FOG[0], CLEAN), (CLEAN, FOG[0])])
def test_a_figure_has_only_those_of_its_own_kind_before_it_at_the_end(
    one: Condition, others: Condition
) -> None:
    """Judged strictly before: alone 2.1 standard errors are real, as one of four they are not."""
    policy = Policy(inconclusive="pass")
    for where, status in ((others, "fail"), (one, "inconclusive")):
        measured = [missed(2.1, one), *[missed(-1.0, where)] * 3]
        run = [(m, judge(m, LOOSE, policy, error_rate=1e-6)) for m in measured]
        assert statuses([verdict for _, verdict in run])[0] == "inconclusive"
        assert statuses(settled(run, policy))[0] == status


def test_a_loss_of_a_share_is_called_real_at_the_rate_and_not_above() -> None:
    policy = Policy(inconclusive="pass")
    one = Measurement("calibration", "reference", gap(0.02, 0.0, 0.04).figure.measured_on(CLEAN))
    own = judge(one, LOOSE, policy, error_rate=1e-6)
    assert own.status == "inconclusive"
    assert own.missed_by == pytest.approx(0.02)
    for p, status in ((0.05, "fail"), (0.05 + 1e-9, "inconclusive")):
        (after,) = settled([(one, dataclasses.replace(own, p_value=p))], policy)
        assert after.status == status


def test_the_adjusted_level_is_that_of_the_failure() -> None:
    policy = Policy(family_wise_error_rate=0.04)
    family = Family(headlines=10)
    rate = family.error_rate(missed(1.0), policy)
    assert rate == pytest.approx(0.004)
    z = 2.878162
    run = judged([missed(z * 1.001), missed(z * 0.999)], family, policy)
    (_, real), (_, open_) = run
    assert real.status == "fail"
    assert real.confidence == pytest.approx(0.996)
    assert real.low == pytest.approx(0.001 * z, rel=0.01)
    assert (open_.status, open_.confidence) == ("inconclusive", 0.95)
    assert open_.p_value == pytest.approx(0.004, rel=0.02)
    # A run of two has Holm's first step at 0.02 / 2.
    assert statuses(settled(run, policy)) == ["fail", "fail"]


def test_an_empty_run_is_settled() -> None:
    assert settled([], Policy()) == []


class Nulls:
    """Runs of an equally good model: every answer changes by chance, half of them to the worse."""

    def __init__(self, n: int, rule: Rule, policy: Policy, rate: float) -> None:
        self.before = answers(n)
        self.rule, self.policy, self.rate = rule, policy, rate
        self.baseline: Baseline = baseline_of(answered(self.before, on=FOG[0]))
        self.known: dict[tuple[int, int], tuple[Measurement, Verdict]] = {}

    def judged(self, lost: int, gained: int) -> tuple[Measurement, Verdict]:
        """Return the real verdict; the same counts are judged once."""
        if (lost, gained) not in self.known:
            one = answered(changed(self.before, lost, gained), on=FOG[0])
            verdict = judge(
                one, self.rule, self.policy, baseline=self.baseline, error_rate=self.rate
            )
            self.known[lost, gained] = (one, verdict)
        return self.known[lost, gained]


@pytest.mark.slow
def test_a_run_of_a_hundred_true_nulls_is_seldom_red() -> None:
    """At the strictest margin there is, where whatever is called real fails."""
    runs, bounds, n, churn = 300, 100, 200, 0.06
    policy = Policy(family_wise_error_rate=0.05)
    rate = Family(0, bounds).error_rate(on(FOG[0]), policy)
    nulls = Nulls(n, accuracy_rule("max_decrease = 0"), policy, rate)
    generator = np.random.default_rng(11)
    changes = generator.binomial(n, churn, size=(runs, bounds))
    losses = generator.binomial(changes, 0.5)
    red = 0
    for total, lost in zip(changes.tolist(), losses.tolist(), strict=True):
        run = [nulls.judged(a, b - a) for a, b in zip(lost, total, strict=True)]
        red += any(verdict.failed for verdict in settled(run, policy))
    assert red / runs <= 0.05
    # Judged one by one at the policy's confidence nearly every run would be.
    single = Nulls(n, nulls.rule, policy, 1.0 - policy.confidence)
    alone = [
        any(single.judged(a, b - a)[1].failed for a, b in zip(lost, total, strict=True))
        for total, lost in zip(changes[:50].tolist(), losses[:50].tolist(), strict=True)
    ]
    assert np.mean(alone) > 0.8


@pytest.mark.parametrize(("tests", "figures"), [(1, 300), (1, 20), (40, 30), (25, 6)])
def test_figures_that_nobody_expected_are_seldom_called_real(tests: int, figures: int) -> None:
    """All of them at their bounds, independent of each other, so that each level is used up."""
    policy, family, draws = Policy(), Family(tests=tests), 4000
    levels = np.array(
        [family.error_rate(on(FOG[0]), policy, seen=k) for k in range(1, figures + 1)]
    )
    count = tests * figures
    first = family.rate_at_the_end(False, count, policy) / count
    generator = np.random.default_rng(4)
    red = 0
    for _ in range(draws):
        # Two-sided: only one side is a loss. Holm's first step alone can make a run red.
        p_values = 2.0 * generator.random((tests, figures))
        red += bool((p_values <= np.maximum(levels, first)).any())
    # Half of the rate is that of headlines.
    assert red / draws <= 0.025 + 3.0 * math.sqrt(0.025 / draws)


def test_a_family_is_settled_at_the_rate_that_is_left() -> None:
    """Three hundred figures of one test: beyond Holm's first step with the whole rate, not with half."""
    policy = Policy(inconclusive="pass")
    quiet = [missed(-0.1, FOG[0])] * 299
    # 0.05 / 300 is 3.76 standard errors, both sides together, and 0.025 / 300 is 3.93.
    for sigma, family, status in (
        (3.85, Family(0, 300), "fail"),
        (3.85, Family(), "inconclusive"),
        # What is known of the other family is nothing to this one.
        (3.85, Family(headlines=300), "inconclusive"),
        (3.85, Family(details=300), "fail"),
        (4.0, Family(), "fail"),
    ):
        one = missed(sigma, FOG[0])
        run = [(m, judge(m, LOOSE, policy, error_rate=1e-6)) for m in (one, *quiet)]
        assert statuses(settled(run, policy, family))[0] == status


@pytest.mark.slow
def test_a_true_loss_among_a_hundred_is_seen() -> None:
    """Two margins, in one cell of 1,000 samples."""
    policy = Policy()
    rate = Family(1, 100).error_rate(on(FOG[0]), policy)
    cell = Nulls(1000, accuracy_rule("max_decrease = 0.029"), policy, rate)
    generator = np.random.default_rng(2)
    lost = generator.binomial(1000, 0.03 + 2 * 0.029, size=200)
    gained = generator.binomial(1000, 0.03, size=200)
    seen = [
        cell.judged(a, b)[1].failed for a, b in zip(lost.tolist(), gained.tolist(), strict=True)
    ]
    assert np.mean(seen) > 0.9
    assert math.isclose(cell.rate, 0.05 / 100)
