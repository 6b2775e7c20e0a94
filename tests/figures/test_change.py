"""What changed between two runs: counts, closed forms, scipy, and bootstraps written out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import coverage, drawn_rows, drawn_samples, keys_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import auroc, intervals, resampling
from pytest_cliprobust.figures import change as change_module
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import (
    Bootstrap,
    bootstrap_figure,
    paired_drop_figure,
    proportion_figure,
)
from pytest_cliprobust.figures.change import REPLICATES, SAME, Change, change_between
from pytest_cliprobust.figures.clusters import design_effect_of_mean
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.keys import SampleKeys
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.means import SUPPOSED
from pytest_cliprobust.figures.outcomes import Outcomes, mean
from pytest_cliprobust.properties import accuracy as acc
from pytest_cliprobust.properties import calibration, ood
from pytest_cliprobust.properties.frontier import frontier_strength_figure


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def share(hits: Bools, keys: SampleKeys | None, metric: str = "accuracy") -> Figure:
    return proportion_figure(metric, hits, Bootstrap(keys=keys))


def average(values: Floats, keys: SampleKeys | None) -> Figure:
    outcomes = Outcomes({"value": values}, mean)
    boot = Bootstrap(replicates=50, keys=keys)
    return bootstrap_figure("nll", float(values.mean()), outcomes, boot)


def answers(seed: int, n: int = 200, *, better: float = 0.0, each: int = 1) -> tuple[Bools, Bools]:
    """Return answers of two runs on the same samples, alike for each unit."""
    generator = rng(seed)
    ease = np.repeat(generator.random(n // each), each) + 0.1 * generator.normal(size=n)
    noise = np.repeat(0.1 * generator.normal(size=n // each), each)
    return ease < 0.7, ease + noise < 0.7 + better


def ends(interval: intervals.Interval) -> tuple[float, float]:
    return interval.low, interval.high


def z(confidence: float) -> float:
    return float(scipy_stats.norm.ppf((1.0 + confidence) / 2.0))


def t(confidence: float, units: int) -> float:
    return float(scipy_stats.t.ppf((1.0 + confidence) / 2.0, units - 1))


# --- The same outcomes


def test_a_run_does_not_differ_from_itself() -> None:
    hits, _ = answers(1)
    figures = [
        share(hits, keys_of(200)),
        average(rng(2).normal(size=200), keys_of(200, np.arange(200) // 2)),
        paired_drop_figure("drop", hits, hits[::-1], Bootstrap(keys=keys_of(200))),
    ]
    for figure in figures:
        change = change_between(figure, figure, same_model=True)
        assert change.identical
        assert change.one_model
        assert change.paired
        assert (change.difference, change.standard_error, change.p_value) == (0.0, 0.0, 1.0)
        assert (change.changed, change.lost, change.gained) == (0.0, (), ())
        assert change.before == change.after == figure.value
        interval = change.interval(0.99)
        assert (interval.low, interval.high, interval.confidence) == (0.0, 0.0, 0.99)
        assert interval.method == "identical outcomes"


def test_equal_answers_tell_two_models_apart_only_by_chance() -> None:
    """As nothing is known of the samples that were not drawn; equal scores are one model's."""
    hits, _ = answers(1)
    made = share(hits, keys_of(200))
    drop = paired_drop_figure("drop", hits, hits[::-1], Bootstrap(keys=keys_of(200)))
    for figure in (made, drop):
        change = change_between(figure, figure)
        assert (change.identical, change.one_model) == (True, False)
        assert (change.difference, change.p_value, change.changed) == (0.0, 1.0, 0.0)
        low, high = ends(change.interval(0.95))
        assert low == pytest.approx(-high)
        # A change of one answer in a hundred would have been seen, one in five hundred would not.
        assert 0.002 < high < 0.035
    # Where n answers are the same, what is left out is z² / (n + z²).
    assert change_between(made, made).interval(0.9).high == pytest.approx(
        z(0.9) ** 2 / (200 + z(0.9) ** 2)
    )
    scores = average(rng(2).normal(size=200), keys_of(200))
    assert change_between(scores, scores).one_model
    # A known model does not hide what did change.
    other = hits.copy()
    other[:3] ^= True
    change = change_between(share(other, keys_of(200)), made, same_model=True)
    assert (change.identical, change.one_model, change.changed) == (False, False, 3 / 200)
    assert change.interval(0.95).high > 0.0


@pytest.mark.parametrize(
    ("n", "differ", "ties"),
    [(32, 1, True), (32, 2, False), (2000, 2, True), (2000, 3, False)],
)
def test_ties_of_one_model_are_one_outcome_or_one_in_a_thousand(
    n: int, differ: int, ties: bool
) -> None:
    hits = rng(5).random(n) < 0.8
    other = hits.copy()
    other[:differ] ^= True
    now, then = share(other, keys_of(n)), share(hits, keys_of(n))
    assert change_between(now, then, same_model=True).ties is ties
    assert not change_between(now, then).ties  # of another model it is a change


def test_what_float32_does_not_keep_is_no_change() -> None:
    scores = rng(3).normal(size=50)
    figure, keys = average(scores, keys_of(50)), keys_of(50)
    assert change_between(average(scores + 0.9 * SAME, keys), figure).identical
    moved = scores.copy()
    moved[[4, 7, 9]] += 1.1 * SAME
    change = change_between(average(moved, keys), figure)
    assert not change.identical
    assert change.changed == 3 / 50
    # More noise than that is said by whoever compares.
    assert change_between(average(moved, keys), figure, noise=1e-5).identical
    moved[3] += 0.02
    change = change_between(average(moved, keys), figure, noise=1e-5)
    assert (change.identical, change.changed) == (False, 1 / 50)
    # Answers are the same or not, whatever the noise.
    hits, other = answers(1)
    assert change_between(
        share(hits, keys_of(200)), share(other, keys_of(200)), noise=0.5
    ).changed == pytest.approx((hits != other).mean())


def test_endless_scores_are_the_same_if_they_are_equal() -> None:
    scores = np.array([np.inf, 3.0, 1.0, -np.inf, 0.0, 2.0, np.nan])
    outcomes = Outcomes({"value": scores}, lambda w, _: np.ones(len(w)), keys=keys_of(7))
    figure = Figure("m", 1.0, 0.0, 2.0, 7, outcomes=outcomes)
    assert change_between(figure, figure).identical
    turned = scores.copy()
    turned[[0, 5, 6]] = [-np.inf, np.nan, 1.0]
    after = replace(figure, outcomes=replace(outcomes, columns={"value": turned}))
    assert change_between(after, figure).changed == pytest.approx(3 / 7)
    area = auroc.auroc("auroc", scores[:3], scores[3:6], bootstrap=Bootstrap(keys=keys_of(6)))
    assert change_between(area, area).identical


# --- Shares


def test_a_share_is_compared_answer_by_answer() -> None:
    before, after = answers(4, better=0.05)
    keys = keys_of(200)
    change = change_between(share(after, keys), share(before, keys))
    gained, lost = np.flatnonzero(after & ~before), np.flatnonzero(before & ~after)
    assert change.gained == tuple(f"image{i}" for i in gained)
    assert change.lost == tuple(f"image{i}" for i in lost)
    assert min(len(gained), len(lost)) > 2
    assert change.difference == pytest.approx((len(gained) - len(lost)) / 200)
    assert (change.before, change.after) == (before.mean(), after.mean())
    assert (change.n, change.units, change.design_effect) == (200, 200, 1.0)
    assert change.changed == (len(gained) + len(lost)) / 200
    step = after.astype(float) - before
    assert change.standard_error == pytest.approx(step.std() / math.sqrt(200))
    for confidence in (0.8, 0.95, 0.9999):
        want = intervals.paired_score(len(gained), len(lost), 200, confidence)
        got = change.interval(confidence)
        assert ends(got) == (want.low, want.high)
        assert (got.confidence, got.method) == (confidence, "paired, score")
    assert change.text() == "paired, n = 200"
    with pytest.raises(ValueError, match="confidence"):
        change.interval(1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30))
def test_the_p_value_of_a_share_is_mcnemars(gains: int, losses: int) -> None:
    if gains == losses == 0:
        return
    before = np.repeat([False, True, True], [gains, losses, 40])
    after = np.repeat([True, False, True], [gains, losses, 40])
    keys = keys_of(len(before))
    change = change_between(share(after, keys), share(before, keys))
    # Uncorrected: statsmodels' mcnemar(exact=False, correction=False).
    statistic = (gains - losses) ** 2 / (gains + losses)
    assert change.p_value == pytest.approx(scipy_stats.chi2.sf(statistic, 1), abs=1e-12)
    # The interval excludes zero where the test rejects: both are the score's.
    for confidence in (0.8, 0.95, 0.99):
        low, high = ends(change.interval(confidence))
        assert (low > 0.0 or high < 0.0) == (change.p_value < 1.0 - confidence)


def test_units_weaken_a_change_of_a_share() -> None:
    before, after = answers(5, 400, better=0.03, each=4)
    units = np.arange(400) // 4
    keys = keys_of(400, units)
    change = change_between(share(after, keys), share(before, keys))
    step = after.astype(float) - before
    effect = design_effect_of_mean(step, units)
    assert effect > 1.5
    assert change.design_effect == pytest.approx(effect)
    assert (change.n, change.units, change.kind) == (400, 100, "drawing")
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    want = intervals.paired_score(gained / effect, lost / effect, 400 / effect, 0.9, degrees=99)
    assert ends(change.interval(0.9)) == (want.low, want.high)
    # Which is the normal one at the level that Student's quantile of 100 units has there.
    level = 1.0 - 2.0 * float(scipy_stats.norm.sf(t(0.9, 100)))
    normal = intervals.paired_score(gained / effect, lost / effect, 400 / effect, level)
    assert ends(change.interval(0.9)) == pytest.approx((normal.low, normal.high))
    statistic = (gained - lost) ** 2 / (gained + lost) / effect
    # McNemar's with Student's quantile; the interval at this level just leaves out that nothing changed.
    assert change.p_value == pytest.approx(2 * scipy_stats.t.sf(math.sqrt(statistic), 99))
    assert min(map(abs, ends(change.interval(1.0 - change.p_value)))) == pytest.approx(0, abs=1e-9)
    assert change.standard_error == pytest.approx(step.std() * math.sqrt(effect / 400))
    alone = change_between(share(after, keys_of(400)), share(before, keys_of(400)))
    assert alone.p_value < change.p_value
    assert alone.interval(0.9).low > change.interval(0.9).low
    assert change.text() == "paired, n = 400 in 100 drawings"


@pytest.mark.slow
def test_p_values_are_uniform_where_nothing_changed() -> None:
    """Runs that differ by chance only, in units of 4 samples that change together mostly."""
    units = np.arange(480) // 4
    keys = keys_of(480, units)
    known, unknown = [], []
    for seed in range(300):
        generator = rng(seed)
        before = (generator.random(120) < 0.7)[units]
        turned = (generator.random(120) < 0.25)[units] & (generator.random(480) < 0.8)
        after = np.where(turned, (generator.random(120) < 0.7)[units], before)
        known.append(change_between(share(after, keys), share(before, keys)).p_value)
        alone = keys_of(480)
        unknown.append(change_between(share(after, alone), share(before, alone)).p_value)
    assert np.mean(np.array(known) < 0.05) < 0.085
    assert scipy_stats.kstest(known, "uniform").pvalue > 0.001
    assert np.mean(np.array(unknown) < 0.05) > 0.15


@pytest.mark.slow
def test_changes_of_shares_cover_what_changed() -> None:
    units = np.arange(240) // 3

    def make(generator: np.random.Generator) -> tuple[float, float]:
        before = (generator.random(80) < 0.8)[units]
        lost = (generator.random(80) < 0.1)[units]
        keys = keys_of(240, units)
        return ends(change_between(share(before & ~lost, keys), share(before, keys)).interval(0.95))

    assert 0.925 < coverage(make, -0.08, 400, 19) < 0.985


# --- Which samples


def test_only_samples_that_both_runs_have_are_compared() -> None:
    before, after = answers(6, 60)
    ids = tuple(f"s{i}" for i in range(60))
    digests = tuple(map(str, range(60)))
    early = SampleKeys(ids, ids, digests)
    # The later run lacks ten samples, has them in another order, and two with other content.
    order = rng(7).permutation(60)[:50]
    fresh = list(digests)
    for row in order[[3, 20]]:
        fresh[row] = "new"
    late = SampleKeys(ids, ids, tuple(fresh)).take(order)
    change = change_between(share(after[order], late), share(before, early))
    kept = np.delete(order, [3, 20])
    assert (change.n, change.units) == (48, 48)
    assert change.before == before[kept].mean()
    assert change.after == after[kept].mean()
    assert change.difference == pytest.approx(after[kept].mean() - before[kept].mean())
    assert change.gained == tuple(ids[row] for row in kept if after[row] and not before[row])
    # The runs' own figures are another matter.
    assert share(after[order], late).value != change.after


def test_statistics_are_computed_anew_on_the_samples_compared() -> None:
    generator = rng(8)
    logits, labels = 2.0 * generator.normal(size=(90, 5)), generator.integers(5, size=90)
    later = logits + 0.3 * generator.normal(size=(90, 5))
    rows = generator.permutation(90)[:70]
    keys = keys_of(90)
    few = Bootstrap(replicates=20)
    first = calibration.calibration_figures(logits, labels, bootstrap=few.of(keys))
    second = calibration.calibration_figures(
        later[rows], labels[rows], bootstrap=few.of(keys.take(rows))
    )
    own = calibration.calibration_figures(logits[rows], labels[rows], bootstrap=few)
    for name in ("ece", "adaptive_ece", "nll", "brier", "signed_gap"):
        change = change_between(second[name], first[name])
        assert (change.paired, change.n) == (True, 70)
        assert change.before == pytest.approx(own[name].value, abs=1e-9)
        assert change.after == pytest.approx(second[name].value, abs=1e-9)
    balanced = [
        acc.balanced_accuracy(scores, truth, bootstrap=few.of(known))
        for scores, truth, known in (
            (later[rows], labels[rows], keys.take(rows)),
            (logits, labels, keys),
            (logits[rows], labels[rows], keys.take(rows)),
        )
    ]
    assert change_between(balanced[0], balanced[1]).before == pytest.approx(balanced[2].value)


def test_an_earlier_run_needs_no_statistic_and_no_attributes() -> None:
    def gone(weights: Floats, outcomes: Outcomes) -> Floats:
        raise AssertionError("the earlier run has columns only")

    generator = rng(9)
    scores, labels = generator.normal(size=(60, 3)), np.arange(60) % 3
    later = scores + 0.5 * generator.normal(size=(60, 3))
    boot = Bootstrap(replicates=20, keys=keys_of(60))
    earlier, figure = (acc.balanced_accuracy(s, labels, bootstrap=boot) for s in (scores, later))
    assert earlier.outcomes is not None
    stored = Outcomes(
        earlier.outcomes.columns,
        gone,
        parameters=earlier.outcomes.parameters,
        keys=earlier.outcomes.keys,
    )
    assert change_between(figure, replace(earlier, outcomes=stored)) == change_between(
        figure, earlier
    )


# --- Statistics


@pytest.mark.parametrize("units", [None, np.arange(80) // 4])
def test_the_standard_error_is_that_of_resampling_both_runs_at_once(
    units: np.ndarray | None,
) -> None:
    generator = rng(10)
    within = np.arange(80) if units is None else units
    before = generator.exponential(size=80)
    after = before + generator.normal(size=80)[within] + 0.2 * generator.normal(size=80)
    keys = keys_of(80, units)
    change = change_between(average(after, keys), average(before, keys), seed=3)
    boot = Bootstrap(replicates=REPLICATES, seed=3, keys=keys)
    drawn = [after[r].mean() - before[r].mean() for r in drawn_samples(boot, 80)]
    assert change.standard_error == pytest.approx(np.std(drawn, ddof=1))
    assert change.difference == pytest.approx((after - before).mean())
    count = 80 if units is None else 20
    half = t(0.9, count) * change.standard_error
    got = change.interval(0.9)
    assert ends(got) == pytest.approx((change.difference - half, change.difference + half))
    assert got.method == "paired bootstrap"
    test = 2.0 * scipy_stats.t.sf(abs(change.difference) / change.standard_error, count - 1)
    assert change.p_value == pytest.approx(test)
    assert (change.n, change.units, change.changed) == (80, count, 1.0)
    assert (change.lost, change.gained) == ((), ())
    alone = [after[r].mean() - before[r].mean() for r in drawn_rows(boot.singly(), 80)]
    effect = 1.0 if units is None else np.var(drawn, ddof=1) / np.var(alone, ddof=1)
    assert change.design_effect == pytest.approx(effect)
    again = change_between(average(after, keys), average(before, keys), seed=4)
    assert again.standard_error != change.standard_error
    assert again.standard_error == pytest.approx(change.standard_error, rel=0.15)


def test_blocks_of_replicates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rng(15).exponential(size=40)
    after = before + rng(16).normal(size=40)
    for keys in (keys_of(40), keys_of(40, np.arange(40) // 4)):
        figures = average(after, keys), average(before, keys)
        whole = change_between(*figures)
        with monkeypatch.context() as patched:
            patched.setattr(resampling, "_CHUNK", 40 * 7)
            assert change_between(*figures) == whole


def test_strata_are_kept_and_answers_count_half_a_pair_more() -> None:
    generator = rng(11)
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    right = generator.random((2, 70)) < np.array([0.9, 0.6, 0.3])[labels]
    scores = [np.eye(3)[np.where(own, labels, (labels + 1) % 3)] for own in right]
    boot = Bootstrap(replicates=20, keys=keys_of(70))
    made = []
    for own in scores:
        figure = acc.balanced_accuracy(own, labels, bootstrap=boot)
        assert figure.outcomes is not None
        # A statistic without a closed form of its change.
        outcomes = replace(
            figure.outcomes,
            compare=None,
            attributes={**figure.outcomes.attributes, "stratum": labels},
        )
        made.append(replace(figure, outcomes=outcomes))
    before, after = made
    change = change_between(after, before, seed=2)
    differences = []
    drawn = Bootstrap(seed=2, replicates=REPLICATES, keys=keys_of(70))
    for rows in drawn_rows(drawn, 70, labels):
        shares = [
            [own[rows][labels[rows] == c].mean() for c in range(3)] for own in (right[1], right[0])
        ]
        differences.append(np.mean(shares[0]) - np.mean(shares[1]))
    want = math.sqrt(np.var(differences, ddof=1) + (1 / 70) ** 2)
    assert change.standard_error == pytest.approx(want)
    # Answers may stand beside numbers, as in a calibration error.
    logits = 2.0 * generator.normal(size=(2, 70, 3))
    eces = [calibration.calibration_figures(s, labels, bootstrap=boot)["ece"] for s in logits]
    eces = [
        replace(figure, outcomes=replace(figure.outcomes, compare=None))
        for figure in eces
        if figure.outcomes is not None
    ]
    counts = np.concatenate(list(drawn.plan(70).counts()))
    differences = [figure.outcomes.at(counts) for figure in eces if figure.outcomes is not None]
    want = math.sqrt(np.var(differences[1] - differences[0], ddof=1) + (1 / 70) ** 2)
    assert change_between(eces[1], eces[0], seed=2).standard_error == pytest.approx(want)


def test_means_over_classes_are_compared_by_what_each_sample_adds() -> None:
    generator = rng(11)
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    right = generator.random((2, 70)) < np.array([0.9, 0.6, 0.3])[labels]
    scores = [np.eye(3)[np.where(own, labels, (labels + 1) % 3)] for own in right]
    before, after = (
        acc.balanced_accuracy(s, labels, bootstrap=Bootstrap(keys=keys_of(70))) for s in scores
    )
    change = change_between(after, before)
    assert change.difference == pytest.approx(after.value - before.value)
    # A sample of a class of 10 counts 4 times as much as one of 40. Supposed are four: right in both runs,
    # wrong in both, and right in either alone.
    weights = 70 / 3 / np.array([10, 20, 40])[labels]
    step = weights * (right[1].astype(float) - right[0])
    grown = np.append(step, [0.0, 0.0, 1.0, -1.0])
    assert change.standard_error == pytest.approx(grown.std() / math.sqrt(len(grown)), rel=0.02)
    # Next to that of drawing whole classes; and wider, for what was supposed.
    drawn = []
    for rows in drawn_rows(Bootstrap(replicates=REPLICATES), 70, labels):
        shares = [np.mean([own[rows][labels[rows] == c].mean() for c in range(3)]) for own in right]
        drawn.append(shares[1] - shares[0])
    assert 0.95 < change.standard_error / np.std(drawn) < 1.15
    half = t(0.95, 70) * change.standard_error
    low, high = ends(change.interval(0.95))
    assert (high - low) / 2.0 == pytest.approx(half, rel=0.1)
    assert change.interval(0.95).method == "paired"


def test_units_that_differ_less_than_chance_do_not_sharpen_a_change() -> None:
    # Each unit gains on one sample what it loses on the other: no spread between units at all.
    step = np.tile([1.0, -1.0], 20) * (1.0 + 0.01 * rng(12).normal(size=40))
    keys = keys_of(40, np.arange(40) // 2)
    before = rng(13).normal(size=40)
    change = change_between(average(before + step, keys), average(before, keys))
    alone = change_between(average(before + step, keys_of(40)), average(before, keys_of(40)))
    assert change.standard_error == pytest.approx(alone.standard_error)
    assert change.design_effect == 1.0
    # But it is judged by the number of units.
    assert change.interval(0.9).high > alone.interval(0.9).high


def test_next_to_no_change_of_answers_does_not_claim_certainty() -> None:
    clean = np.ones(50, bool)
    shifted = rng(14).random(50) < 0.6
    keys = keys_of(50)
    before = paired_drop_figure("drop", clean, shifted, Bootstrap(keys=keys))
    other = shifted.copy()
    other[[int(np.flatnonzero(shifted)[0]), int(np.flatnonzero(~shifted)[0])]] ^= True
    after = paired_drop_figure("drop", clean, other, Bootstrap(keys=keys))
    change = change_between(after, before)
    assert change.difference == 0.0
    assert change.changed == 2 / 50
    assert change.p_value == 1.0
    assert change.standard_error > 1 / 50
    low, high = ends(change.interval(0.95))
    assert low == pytest.approx(-high)
    assert high > 0.04


def test_what_cannot_be_estimated_is_endless() -> None:
    # A relative drop without a right clean answer in a third of the resamples.
    clean, shifted = np.arange(30) == 0, np.zeros(30, bool)
    boot = Bootstrap(replicates=20, keys=keys_of(30))
    before = acc.relative_drop_figure(clean, shifted, bootstrap=boot)
    after = acc.relative_drop_figure(clean, clean, bootstrap=boot)
    assert after.outcomes is not None
    resampled = replace(after, outcomes=replace(after.outcomes, compare=None))
    change = change_between(resampled, before)
    assert (change.difference, change.standard_error) == (-1.0, math.inf)
    assert ends(change.interval(0.95)) == (-math.inf, math.inf)
    assert change.p_value == 1.0
    # Its closed form has an end, but says nothing: it holds whatever the change could be.
    change = change_between(after, before)
    assert change.difference == -1.0
    low, high = ends(change.interval(0.95))
    assert low < -1.0
    assert high > 1.0
    assert change.p_value > 0.5
    # And one that is not defined has no interval at all.
    nothing = acc.relative_drop_figure(shifted, clean, bootstrap=boot)
    change = change_between(nothing, before)
    assert math.isnan(change.difference)
    assert math.isnan(change.interval(0.95).low)
    assert math.isnan(change.p_value)


@pytest.mark.slow
def test_p_values_of_statistics_are_uniform_where_nothing_changed() -> None:
    p_values = []
    for seed in range(150):
        both = rng(seed).normal(size=(2, 60))
        figures = [
            replace(
                average(values, None),
                outcomes=Outcomes({"value": values}, mean, keys=keys_of(60)),
            )
            for values in both
        ]
        p_values.append(change_between(*figures, seed=seed).p_value)
    assert scipy_stats.kstest(p_values, "uniform").pvalue > 0.001


# --- AUROC


def areas(
    seed: int, keys: SampleKeys | None = None, n: int = 90, m: int = 40
) -> tuple[Figure, Figure, Floats]:
    """Return the AUROCs of two runs, m positives of n samples, and their scores (2, n)."""
    generator = rng(seed)
    shared = generator.normal(size=n)
    if keys is not None and keys.clustered:
        shared = shared[keys.codes]
    scores = shared + 0.5 * generator.normal(size=(2, n))
    scores[:, :m] += np.array([[0.8], [1.0]])
    boot = Bootstrap(keys=keys_of(n) if keys is None else keys)
    first, second = (auroc.auroc("auroc", s[:m], s[m:], bootstrap=boot) for s in scores)
    return first, second, scores


def test_areas_are_compared_by_delongs_paired_variance() -> None:
    earlier, figure, scores = areas(21)
    change = change_between(figure, earlier)
    both, covariance = auroc.delong(scores[:, :40], scores[:, 40:])
    variance = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
    assert change.difference == pytest.approx(both[1] - both[0])
    # Once more, by the definition: components of each positive and negative.
    wins = scores[:, :40, None] > scores[:, None, 40:]
    step = wins[1].astype(float) - wins[0]
    parts = [step.mean(axis=1), step.mean(axis=0)]
    byhand = parts[0].var(ddof=1) / 40 + parts[1].var(ddof=1) / 50
    assert variance == pytest.approx(byhand)
    # What each sample adds, and two supposed ones that change by as much as any did, either way.
    adds = np.concatenate([(part - part.mean()) * 90 / len(part) for part in parts])
    assert adds.var() / 90 == pytest.approx(variance, rel=0.03)
    grown = np.append(adds, [np.abs(adds).max(), -np.abs(adds).max()])
    assert change.standard_error == pytest.approx(grown.std() / math.sqrt(92), rel=0.01)
    assert math.sqrt(variance) < change.standard_error < 1.1 * math.sqrt(variance)
    # Student's, with the rarer class's 40 samples, and farther out where what samples add is skewed.
    half = t(0.95, 40) * change.standard_error
    got = change.interval(0.95)
    assert got.low <= change.difference - half + 1e-4
    assert got.high >= change.difference + half - 1e-4
    assert got.high - got.low < 2.2 * half
    assert got.method == "paired"
    assert (change.n, change.units, change.design_effect, change.changed) == (90, 90, 1.0, 1.0)


def test_areas_over_units_are_compared_by_whole_units() -> None:
    # Units of one to seven samples, positive and negative ones in any order.
    units = np.repeat(np.arange(42), np.tile(np.arange(1, 8), 6))
    inside = units % 3 > 0
    generator = rng(22)
    units = units[order := generator.permutation(len(units))]
    inside, n = inside[order], len(units)
    scores = generator.normal(size=(2, 42))[:, units] + 0.5 * generator.normal(size=(2, n))
    scores[:, inside] += 1.0
    keys = keys_of(n, units)
    made = []
    for own in scores:
        outcomes = Outcomes({"score": own}, auroc.area, {"inside": inside}, keys=keys)
        made.append(Figure("auroc", outcomes.value(), 0.0, 1.0, n, outcomes=outcomes))
    earlier, figure = made
    change = change_between(figure, earlier)
    wins = scores[:, inside][:, :, None] > scores[:, ~inside][:, None, :]
    step = wins[1].astype(float) - wins[0]
    variance = 0.0
    for parts, own in ((step.mean(axis=1), units[inside]), (step.mean(axis=0), units[~inside])):
        names = set(own.tolist())
        sums = [(parts - parts.mean())[own == name].sum() for name in names]
        variance += len(names) / (len(names) - 1) * np.square(sums).sum() / len(parts) ** 2
    assert change.difference == pytest.approx(step.mean())
    # Two supposed units more, and one finite correction for both sides instead of each its own.
    assert change.standard_error == pytest.approx(math.sqrt(variance), rel=0.06)
    alone = [replace(f, outcomes=f.outcomes.of(keys_of(n))) for f in made if f.outcomes is not None]
    assert change.standard_error > 1.5 * change_between(alone[1], alone[0]).standard_error
    assert change.units == 42
    assert change.design_effect > 2.0
    # As drawing whole drawings has it.
    plan = Bootstrap(replicates=3000, keys=keys).plan(n, inside.astype(np.int64))
    assert plan.stratified
    drawn = np.concatenate(
        [
            figure.outcomes.at(w) - earlier.outcomes.at(w)
            for w in plan.counts()
            if figure.outcomes and earlier.outcomes
        ]
    )
    assert change.standard_error == pytest.approx(drawn.std(), rel=0.1)


def test_a_part_of_the_samples_without_a_class_has_no_area() -> None:
    earlier, figure, scores = areas(23)
    keys = keys_of(90)
    for rows in (np.arange(40), np.arange(40, 90)):
        assert figure.outcomes is not None
        part = replace(figure, n=len(rows), outcomes=figure.outcomes.take(rows))
        change = change_between(part, earlier)
        assert change.paired
        assert math.isnan(change.difference)
        assert change.standard_error == math.inf
        assert math.isnan(change.p_value)
    # A single one of a class says nothing of its spread.
    rows = np.arange(39, 90)
    one = replace(figure, n=51, outcomes=figure.outcomes.take(rows)) if figure.outcomes else figure
    change = change_between(one, earlier)
    assert change.standard_error == math.inf
    assert math.isnan(change.interval(0.95).low)
    assert change.difference == pytest.approx(change.after - change.before)
    assert change.before == pytest.approx((scores[0, 39] > scores[0, 40:]).mean())
    assert len(keys) == 90


# --- Frontier


def frontier(strengths: list[float], correct: Bools, keys: SampleKeys) -> Figure:
    boot = Bootstrap(replicates=20, keys=keys)
    return frontier_strength_figure(np.array(strengths), correct, 0.2, {}, boot)


def test_frontiers_are_compared_at_strengths_of_their_own() -> None:
    generator = rng(24)
    keys, ease = keys_of(150), generator.random(150)
    grids = ([0.0, 0.25, 0.5, 1.0], [0.0, 0.1, 0.3, 0.6, 1.0])
    columns = [
        np.stack([ease < 0.9 - 0.6 * s * slope for s in (0.0, *grid)], axis=1)
        for grid, slope in zip(grids, (1.0, 0.7), strict=True)
    ]
    earlier, figure = (frontier(grid, own, keys) for grid, own in zip(grids, columns, strict=True))
    change = change_between(figure, earlier)
    assert change.paired
    assert (change.before, change.after) == (earlier.value, figure.value)
    assert change.changed == 1.0
    assert change.difference > 0.0
    # The replicates, written out: each run's strength, read off its own curve.
    drawn = []
    for rows in drawn_rows(Bootstrap(replicates=REPLICATES), 150):
        read = []
        for grid, own in zip(grids, columns, strict=True):
            drops = own[rows, 0].mean() - own[rows, 1:].mean(axis=0)
            beyond = int(np.argmax(np.append(drops, 9.0) > 0.2))
            if beyond == len(grid):
                read.append(1.0)
            else:
                read.append(
                    float(
                        np.interp(
                            0.2, drops[beyond - 1 : beyond + 1], grid[beyond - 1 : beyond + 1]
                        )
                    )
                )
        drawn.append(read[1] - read[0])
    # Crossings of curves with corners are rough: the interval may be too wide, and is not too short.
    assert change.standard_error > np.std(drawn, ddof=1)
    # Both cross where the same samples are lost, so they vary together as closely as is believed (0.9).
    for level in (0.8, 0.95):
        low, high = ends(change.interval(level))
        mine, other = interval_at(figure, level), interval_at(earlier, level)
        sides = (
            (figure.value - mine.low, other.high - earlier.value),
            (mine.high - figure.value, earlier.value - other.low),
        )
        below, above = (math.sqrt(a**2 + b**2 - 2 * 0.9 * a * b) for a, b in sides)
        assert low == pytest.approx(change.difference - below, abs=1e-3)
        assert high == pytest.approx(change.difference + above, abs=1e-3)
    assert change.difference == pytest.approx(np.mean(drawn), abs=0.02)
    # The same answers at other strengths are another outcome.
    moved = frontier([0.0, 0.3, 0.5, 1.0], columns[0], keys)
    change = change_between(moved, earlier)
    assert not change.identical
    assert change.changed == 0.0
    assert change_between(earlier, earlier).identical


# --- Runs that are no pair


def test_mover_matches_newcombes_difference() -> None:
    # Newcombe (1998b), table II, method 10, 56/70 - 48/80: 0.0524 to 0.3339.
    first, second = share(np.arange(70) < 56, None), share(np.arange(80) < 48, None)
    change = change_between(first, second)
    interval = change.interval(0.95)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0524, 0.3339)
    assert interval.method == "MOVER, independent runs"
    back = change_between(second, first).interval(0.95)
    assert ends(back) == pytest.approx((-interval.high, -interval.low))
    assert (change_between(second, first).n, change_between(second, first).units) == (70, 70)
    wide = change.interval(0.99)
    assert wide.low < interval.low < interval.high < wide.high
    assert (change.n, change.units, change.changed, change.paired) == (70, 70, None, False)
    assert (change.before, change.after, change.identical) == (0.6, 0.8, False)
    half = (interval.high - interval.low) / 2.0
    assert change.standard_error == pytest.approx(half / z(0.95))
    # The p-value is that of the interval which just leaves out no change.
    assert change.interval(1.0 - change.p_value).low == pytest.approx(0.0, abs=1e-6)
    assert change.p_value < 0.01


def test_why_runs_are_no_pair() -> None:
    hits, other = answers(25)
    known, bare = share(hits, keys_of(200)), share(other, None)
    elsewhere = SampleKeys(tuple(f"b{i}" for i in range(200)), tuple(f"b{i}" for i in range(200)))
    single = SampleKeys(("image0", *elsewhere.ids[1:]), elsewhere.units)
    other_columns = replace(
        known,
        outcomes=Outcomes({"hits": hits, "trials": hits}, mean, keys=keys_of(200)),
    )
    table = replace(
        known, outcomes=Outcomes({"value": np.stack([hits] * 2, 1)}, mean, keys=keys_of(200))
    )
    columns = {"clean": hits, "cells": np.stack([hits] * 3, 1)}
    grid = replace(known, outcomes=Outcomes(columns, mean, keys=keys_of(200)))
    columns = {"clean": hits, "cells": np.stack([hits] * 2, 1)}
    fewer = replace(known, outcomes=Outcomes(columns, mean, keys=keys_of(200)))
    gone = replace(known, outcomes=None)
    for figure, earlier, reason in (
        (bare, known, "this figure has no outcomes by sample"),
        (gone, known, "this figure has no outcomes by sample"),
        (known, bare, "the earlier run kept no outcomes by sample"),
        (known, gone, "the earlier run kept no outcomes by sample"),
        (known, other_columns, "the earlier run measured something else"),
        (known, table, "the earlier run measured something else"),
        (grid, fewer, "the earlier run measured something else"),
        (fewer, grid, "the earlier run measured something else"),
        (known, share(other, elsewhere), "the runs have no samples in common"),
        (known, share(other, single), "the runs have no samples in common"),
    ):
        change = change_between(figure, earlier)
        assert (change.paired, change.why_not) == (False, reason)
        assert change.text() == f"not paired: {reason}; n = 200"
        assert change.interval(0.9).method == "MOVER, independent runs"
    told = change_between(known, share(other, keys_of(200)), why_not="the model was not the same")
    assert told.text() == "not paired: the model was not the same; n = 200"
    with pytest.raises(ClipRobustError, match="accuracy cannot be compared with ece"):
        change_between(known, share(hits, keys_of(200), "ece"))


def test_units_are_told_also_where_runs_are_no_pair() -> None:
    hits, other = answers(25)
    keys = keys_of(200, np.arange(200) // 2)
    change = change_between(share(hits, keys), share(other, None))
    assert (change.n, change.units) == (200, 100)
    assert change.text().endswith("earlier run kept no outcomes by sample; n = 200 in 100 drawings")
    unknown = replace(share(hits, keys), outcomes=None)
    assert change_between(unknown, unknown).text().endswith("n = 200 in 100 units")


def test_undefined_figures_have_no_change() -> None:
    empty, known = share(np.zeros(0, bool), None), share(np.ones(9, bool), keys_of(9))
    change = change_between(empty, known)
    assert not change.paired
    assert math.isnan(change.difference)
    assert math.isnan(change.interval(0.95).low)
    assert math.isnan(change.p_value)


# --- Pairing


def figures_of(scores: Floats, labels: np.ndarray, boot: Bootstrap) -> dict[str, Figure]:
    right = acc.correct_top_k(scores, labels)
    return {
        "accuracy": proportion_figure("accuracy", right, boot),
        "balanced_accuracy": acc.balanced_accuracy(scores, labels, bootstrap=boot),
        **calibration.calibration_figures(scores, labels, bootstrap=boot),
        **ood.detection_figures(
            scores.max(axis=1)[:150], scores.max(axis=1)[150:], "x", bootstrap=boot
        ),
    }


@pytest.mark.parametrize("each", [1, 3])
def test_pairing_sharpens_every_comparison(each: int) -> None:
    generator = rng(31)
    labels = generator.integers(4, size=300)
    scores = 2.0 * np.eye(4)[labels] + generator.normal(size=(300, 4))
    scores[:150] += 1.0 * np.eye(4)[labels[:150]]
    later = scores + 0.2 * generator.normal(size=(300, 4))
    boot = Bootstrap(replicates=400, keys=keys_of(300, np.arange(300) // each))
    before, after = (figures_of(own, labels, boot) for own in (scores, later))
    for name, figure in after.items():
        change = change_between(figure, before[name])
        if name.startswith("classwise"):
            assert not change.paired
            continue
        assert change.paired
        paired = change.interval(0.95)
        plain = figure.value - before[name].value
        if name.endswith("ece"):
            # Without the bias of either; the plain difference is inside, as the bias is about the same.
            assert abs(change.difference - plain) < change.standard_error
            assert paired.low < plain < paired.high
        else:
            assert change.difference == pytest.approx(plain, abs=1e-12)
        apart = change_between(figure, before[name], why_not="on purpose")
        unpaired = apart.interval(0.95)
        assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low), name
        assert paired.low <= change.difference <= paired.high
        wide = change.interval(0.999)
        assert wide.low < paired.low < paired.high < wide.high


def test_groups_are_compared_each_with_itself() -> None:
    hits, other = answers(32)
    groups = ["x", "y"] * 100
    boot = Bootstrap(keys=keys_of(200))
    before, after = (acc.accuracy_by_group(own, groups, bootstrap=boot) for own in (hits, other))
    change = change_between(after["x"], before["x"])
    assert (change.paired, change.n) == (True, 100)
    assert change.why_not == ""
    # The groups have no samples in common, although they are of one size.
    assert change_between(after["x"], before["y"]).why_not == "the runs have no samples in common"


def test_a_change_says_what_it_is() -> None:
    change = Change(0.1, 0.05, paired=True, n=1072, units=268, before=0.5, after=0.6, kind="scene")
    assert change.text() == "paired, n = 1,072 in 268 scenes"
    assert replace(change, standard_error=0.0).p_value == 0.0
    assert replace(change, standard_error=0.0, difference=0.0).p_value == 1.0
    # A single unit has the widest of Student's distributions.
    alone = replace(change, units=1).interval(0.95)
    assert alone.high - 0.1 == pytest.approx(t(0.95, 2) * 0.05)
    assert replace(change, units=1).p_value == pytest.approx(2.0 * scipy_stats.t.sf(2.0, 1))


def test_an_unpaired_p_value_is_that_of_its_interval() -> None:
    lost = change_between(share(np.zeros(1, np.bool_), keys_of(1)), share(answers(3)[0], None))
    assert not lost.paired
    wide = lost.interval(0.95)
    assert wide.low < lost.difference < 0.0 < wide.high
    assert lost.p_value > 0.05
    edge = lost.interval(1.0 - lost.p_value)
    assert edge.high == pytest.approx(0.0, abs=1e-6)


def test_a_recorded_value_that_its_samples_do_not_give_does_not_count() -> None:
    before, after = answers(4, better=0.05)
    keys = keys_of(200)
    plain = change_between(share(after, keys), share(before, keys))
    edited = change_between(share(after, keys), replace(share(before, keys), value=0.2))
    assert edited.before == plain.before == before.mean()
    assert edited.difference == plain.difference


# --- What counts as the same outcome


@pytest.mark.parametrize(("common", "paired"), [(0, False), (1, False), (2, True), (3, True)])
def test_two_samples_in_common_are_a_pair_of_runs(common: int, paired: bool) -> None:
    first = average(rng(0).normal(size=5), SampleKeys(tuple("abcde"), tuple("abcde")))
    others = tuple("abcde"[:common]) + tuple("vwxyz"[common:])
    change = change_between(average(rng(1).normal(size=5), SampleKeys(others, others)), first)
    assert change.paired == paired
    assert change.n == (common if paired else 5)
    assert (change.why_not == "the runs have no samples in common") == (not paired)


def test_noise_is_absolute_or_in_standard_deviations() -> None:
    values = np.array([1.0, 3.0, math.inf, math.nan, 5.0])
    spread = float(np.std([1.0, 3.0, 5.0]))
    assert change_module._Noise(1e-6, 0.0).of(values) == 1e-6
    assert change_module._Noise(1e-6, 1e-3).of(values) == pytest.approx(1e-3 * spread, rel=1e-12)
    assert change_module._Noise(0.5, 1e-3).of(values) == 0.5
    assert change_module._Noise(1e-6, 1e-3).of(np.array([math.inf, math.nan])) == 1e-6
    assert (SAME, change_module.SAME_OF_ONE_MODEL, REPLICATES) == (1e-6, 1e-3, 1000)


@pytest.mark.parametrize("same_model", [False, True])
def test_what_is_just_the_same_and_what_no_longer(same_model: bool) -> None:
    values = rng(3).normal(size=400)
    made = average(values, keys_of(400))
    limit = 1e-3 * float(values.std()) if same_model else 1e-6
    for step, same in ((0.9 * limit, True), (1.1 * limit, False)):
        moved = values.copy()
        moved[7] += step
        change = change_between(average(moved, keys_of(400)), made, same_model=same_model)
        assert change.identical == same
        assert change.changed == (0.0 if same else 1 / 400)
        with_noise = change_between(
            average(moved, keys_of(400)), made, same_model=same_model, noise=2 * limit
        )
        assert with_noise.identical


@pytest.mark.parametrize(
    ("now", "then", "apart"),
    [
        (0.25, 0.0, False),
        (0.2501, 0.0, True),
        (-0.25, 0.0, False),
        (math.inf, math.inf, False),
        (math.inf, -math.inf, True),
        (math.inf, 1.0, True),
        (math.nan, math.nan, False),
        (math.nan, 1.0, True),
        (1.0, math.nan, True),
    ],
)
def test_numbers_that_are_apart(now: float, then: float, apart: bool) -> None:
    assert bool(change_module._apart(np.array([now]), np.array([then]), 0.25)[0]) == apart


def test_every_parameter_and_every_column_counts() -> None:
    columns = {"first": np.zeros(3), "second": np.zeros((3, 2))}
    made = Outcomes(columns, mean, parameters={"a": [1.0], "b": [2.0, 3.0], SUPPOSED: [1.0]})
    same, differs = change_module._same_parameters, change_module._differs
    noise = change_module._Noise(1e-6, 0.0)
    assert same(made, made, 1e-6)
    assert not differs(made, made, noise).any()
    for name, row in (("a", [1.1]), ("b", [2.0, 3.1]), ("b", [2.0]), ("c", [0.0])):
        other = replace(made, parameters={**made.parameters, name: row})
        assert not same(made, other, 1e-6)
        assert not same(other, made, 1e-6)
    assert same(made, replace(made, parameters={**made.parameters, SUPPOSED: [9.0]}), 1e-6)
    for name, place in (("first", 1), ("second", (1, 1)), ("second", (1, 0))):
        moved = {**columns, name: columns[name].copy()}
        moved[name][place] = 1.0
        assert differs(made, replace(made, columns=moved), noise).tolist() == [False, True, False]
    wider = replace(made, columns={**columns, "second": np.zeros((3, 3))})
    assert differs(made, wider, noise).all()


def test_degrees_of_freedom_and_how_an_interval_is_left_out() -> None:
    change = Change(0.5, 0.2, True, n=40, units=10, before=0.0, after=0.5)
    half = t(0.9, 10) * 0.2
    assert ends(change.interval(0.9)) == pytest.approx((0.5 - half, 0.5 + half))
    assert change.interval(0.9).method == "paired bootstrap"
    assert change.p_value == pytest.approx(2 * scipy_stats.t.sf(2.5, 9))
    assert change.p_beyond(0.1) == pytest.approx(2 * scipy_stats.t.sf(2.0, 9))
    assert replace(change, difference=-0.5).p_beyond(0.1) == pytest.approx(change.p_beyond(0.1))
    assert change.p_beyond(0.5) == change.p_beyond(0.6) == 1.0
    alone = replace(change, units=1)
    assert ends(alone.interval(0.9))[1] == pytest.approx(0.5 + t(0.9, 2) * 0.2)
    assert alone.p_value == pytest.approx(2 * scipy_stats.t.sf(2.5, 1))
    assert replace(change, standard_error=0.0).p_value == 0.0
    assert math.isnan(replace(change, standard_error=math.nan).p_value)
    assert math.isnan(replace(change, difference=math.nan).p_value)
    assert replace(change, identical=True).p_value == 1.0
    unpaired = replace(change, paired=False)
    assert unpaired.p_value == pytest.approx(2 * scipy_stats.norm.sf(2.5))


def test_a_change_of_runs_apart_is_movers_at_every_level() -> None:
    first, second = share(answers(1)[0], None), share(answers(2)[0][:150], None)
    change = change_between(first, second)
    assert not change.paired
    edge = change.p_value
    assert 0.0 < edge < 1.0
    just_inside, just_outside = (change.interval(1.0 - edge * factor) for factor in (0.99, 1.01))
    assert just_inside.low < 0.0 < just_inside.high
    assert not just_outside.low <= 0.0 <= just_outside.high
    assert (change.n, change.units, change.kind) == (150, 150, "unit")
    half = (change.interval(0.95).high - change.interval(0.95).low) / 2
    assert change.standard_error == pytest.approx(half / z(0.95))
