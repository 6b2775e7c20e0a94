"""From outcomes to figures: replicates against loops over the drawn rows, ends against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import coverage, drawn_rows, drawn_samples, keys_of, share_ends
from scipy import stats as scipy_stats

from pytest_cliprobust.figures import bootstrap as b
from pytest_cliprobust.figures import intervals, levels, paired, resampling
from pytest_cliprobust.figures.arrays import Bools, Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.clusters import design_effect_of_mean, size_effect
from pytest_cliprobust.figures.ends import on_logits
from pytest_cliprobust.figures.figure import Figure, IntervalMethod
from pytest_cliprobust.figures.outcomes import Outcomes, mean, sums

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without the counts of other tests."""
    monkeypatch.setattr(b, "_kept", {})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw two replicates of 30 samples at a time."""
    monkeypatch.setattr(resampling, "_CHUNK", 60)


def ends(figure: Figure | intervals.Interval) -> tuple[float, float]:
    return figure.low, figure.high


# --- Settings


def test_settings_reach_the_resampling() -> None:
    plan = Bootstrap(replicates=7, seed=5).plan(9, np.repeat([0, 1], [4, 5]))
    assert (plan.n, plan.replicates, plan.seed) == (9, 7, 5)
    assert plan.codes is not None
    assert plan.codes.tolist() == [0] * 4 + [1] * 5
    assert Bootstrap(replicates=1000, confidence=0.95, seed=0, keys=None) == b.DEFAULT
    assert Bootstrap(replicates=7).fewer(5).replicates == 5
    assert Bootstrap(replicates=7).fewer(9).replicates == 7


def test_a_figure_may_report_another_number_of_samples_than_it_is_made_of() -> None:
    values = RNG.random(12)
    known = Bootstrap(replicates=20, keys=keys_of(12, [i // 3 for i in range(12)]))
    outcomes = Outcomes({"value": values}, mean)
    for n, told in ((None, 12), (5, 5)):
        for figure in (
            b.mean_figure("nll", values, known, n=n),
            b.bootstrap_figure("nll", float(values.mean()), outcomes, known, n=n),
        ):
            assert (figure.n, figure.units) == (told, 4)


def test_keys_say_which_units_are_drawn() -> None:
    keys = keys_of(6, [0, 0, 1, 1, 1, 2])
    known = Bootstrap(replicates=20, seed=2, keys=keys)
    counts = np.concatenate(list(known.plan(6).counts()))
    want = resampling.Resampling(6, units=keys.units, replicates=20, seed=2)
    np.testing.assert_array_equal(counts, np.concatenate(list(want.counts())))
    assert (known.clustered, known.units(6)) == (True, 3)
    # Samples of one unit each, and unknown ones, are drawn one by one, all in the same way.
    alone = Bootstrap(replicates=20, seed=2, keys=keys_of(6))
    assert (alone.clustered, alone.units(6)) == (False, 6)
    assert (Bootstrap().clustered, Bootstrap().units(6)) == (False, 6)
    assert alone.plan(6).digest == Bootstrap(seed=2).plan(6).digest != known.plan(6).digest
    with pytest.raises(ValueError, match="5 samples are resampled, but the keys are of 6"):
        known.plan(5)


def test_subsets_have_keys_of_their_own() -> None:
    keys = keys_of(6, [0, 0, 1, 1, 1, 2])
    whole = Bootstrap(replicates=9, confidence=0.9, seed=4, keys=keys)
    part = whole.subset(np.array([0, 3, 5]))
    assert part.keys == keys.take([0, 3, 5])
    assert (part.replicates, part.confidence, part.seed) == (9, 0.9, 4)
    assert not part.clustered
    assert Bootstrap().subset(np.array([0])) == Bootstrap()
    assert whole.of(None) == Bootstrap(replicates=9, confidence=0.9, seed=4)
    assert whole.of(None).of(keys) == whole


# --- Counts


def test_counts_are_kept_for_the_next_figure_on_the_same_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Bootstrap(replicates=5)
    first = b.resampled_counts(10, settings)
    assert b.resampled_counts(10, settings) is first
    # Another number of replicates is another plan, although its digest is the same.
    more = np.concatenate(list(b.resampled_counts(10, Bootstrap(replicates=6))))
    assert more.shape == (6, 10)
    # As many plans are kept as fit, the oldest go first.
    assert b.resampled_counts(10, settings) is first
    monkeypatch.setattr(b, "_KEPT", 110)
    assert isinstance(b.resampled_counts(11, Bootstrap(replicates=1)), list)
    assert len(b._kept) == 2
    assert b.resampled_counts(10, settings) is not first
    monkeypatch.setattr(b, "_KEPT", 60)
    assert isinstance(b.resampled_counts(10, Bootstrap(replicates=6)), list)
    assert not isinstance(b.resampled_counts(61, Bootstrap(replicates=1)), list)


def test_all_blocks_of_a_plan_take_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "_CHUNK", 20)
    monkeypatch.setattr(b, "_KEPT", 110)
    first = b.resampled_counts(10, Bootstrap(replicates=5))
    assert len(list(first)) > 1
    second = b.resampled_counts(10, Bootstrap(replicates=6))
    assert b.resampled_counts(10, Bootstrap(replicates=5)) is first
    # There is no room for one more beside both; the oldest goes.
    b.resampled_counts(11, Bootstrap(replicates=1))
    assert b.resampled_counts(10, Bootstrap(replicates=6)) is second
    assert b.resampled_counts(10, Bootstrap(replicates=5)) is not first


def test_an_effect_that_cannot_be_known_is_none() -> None:
    # One sample, and samples of one unit, do not say how much they vary together.
    for count in (1, 3):
        known = Bootstrap(replicates=9, keys=keys_of(count, [0] * count))
        figure = b.mean_figure("nll", np.arange(1.0, count + 1.0), known)
        assert figure.value == pytest.approx((count + 1) / 2)
        assert math.isnan(figure.low)
        assert figure.design_effect == count
    outcomes = Outcomes({"value": np.arange(3.0)}, mean)
    for effect, told in ((2.5, 2.5), (math.inf, 1.0), (math.nan, 1.0)):
        made = b.figure_of_ends(
            *(
                "m",
                1.0,
                on_logits(0.5, 1.0, 9.0),
                outcomes,
                Bootstrap(),
                IntervalMethod.STUDENT,
                "t",
            ),
            effect=effect,
        )
        assert made.design_effect == told


def test_units_are_not_taken_for_strata_of_the_same_numbers() -> None:
    codes = np.repeat([0, 1, 2], 4)
    layered = np.concatenate(list(b.resampled_counts(12, Bootstrap(replicates=9), codes)))
    known = Bootstrap(replicates=9, keys=keys_of(12, codes))
    whole = np.concatenate(list(b.resampled_counts(12, known)))
    assert (layered.sum(axis=1) == 12).all()
    np.testing.assert_array_equal(whole[:, ::4], whole[:, 3::4])
    assert (layered[:, ::4] != layered[:, 3::4]).any()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("units", [None, np.arange(30) // 4])
def test_statistics_of_all_blocks_are_those_of_the_drawn_rows(units: np.ndarray | None) -> None:
    strata = np.arange(30) // 8
    keys = None if units is None else keys_of(30, units)
    settings = Bootstrap(replicates=9, seed=2, keys=keys)
    columns = RNG.normal(size=(30, 3)) * (RNG.random((30, 3)) < 0.5)
    assert len(list(b.resampled_counts(30, settings))) >= 5
    for kept in (None, strata):
        want = [columns[rows].sum() for rows in drawn_samples(settings, 30, kept)]
        outcomes = Outcomes({"value": columns}, lambda w, own: sums(w, own["value"]).sum(axis=1))
        np.testing.assert_allclose(b.resampled(outcomes, settings, kept), want, atol=1e-9)


# --- Figures


def drawn_figure(
    value: float,
    replicates: Floats,
    settings: Bootstrap,
    *,
    n: int = 50,
    strata: np.ndarray | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    trials: int = 0,
    method: resampling.Method = "percentile",
) -> Figure:
    """Return a figure of given replicates, whatever its outcomes are."""
    outcomes = Outcomes({"value": np.zeros(n)}, mean)
    return b.bootstrap_figure(
        *("m", value, outcomes, settings),
        replicates=replicates,
        strata=strata,
        bounds=bounds,
        trials=trials,
        method=method,
        unit="nats",
        details={"a": 1},
    )


def test_percentile_and_basic_intervals() -> None:
    drawn = RNG.exponential(size=999)
    settings = Bootstrap(replicates=999, confidence=0.9)
    # As far out as Student's quantile with the variance of 50 samples' replicates (Hesterberg 2015).
    far = scipy_stats.t.ppf(0.05, 49) * math.sqrt(50 / 49)
    low, high = np.quantile(drawn, scipy_stats.norm.cdf([far, -far]))
    plain = drawn_figure(1.0, drawn, settings)
    assert ends(plain) == pytest.approx((low, high))
    assert (plain.n, plain.confidence, plain.unit) == (50, 0.9, "nats")
    assert (plain.method, plain.details) == ("bootstrap, 999", {"a": 1})
    assert plain.replicates == tuple(drawn)
    basic = drawn_figure(1.0, drawn, settings, method="basic")
    assert ends(basic) == pytest.approx((2.0 - high, 2.0 - low))
    assert basic.method == "bootstrap, 999, basic"
    layered = drawn_figure(1.0, drawn, settings, strata=np.arange(50) % 2)
    assert layered.method == "stratified bootstrap, 999"


def test_a_figure_is_of_its_outcomes() -> None:
    values = RNG.exponential(size=40)
    settings = Bootstrap(replicates=12, keys=keys_of(40))
    outcomes = Outcomes({"value": values}, mean)
    figure = b.bootstrap_figure("nll", float(values.mean()), outcomes, settings, n=7)
    want = [values[rows].mean() for rows in drawn_rows(settings, 40)]
    np.testing.assert_allclose(figure.replicates, want, atol=1e-12)
    assert (figure.n, figure.units, figure.design_effect) == (7, 40, 1.0)
    assert figure.outcomes is not None
    assert figure.outcomes.keys == settings.keys
    assert figure.outcomes.value() == pytest.approx(figure.value)
    large = b.bootstrap_figure("nll", 1.0, outcomes, settings, comparable=False)
    assert large.outcomes is None
    with pytest.raises(ValueError, match="40 samples are resampled, but the keys are of 39"):
        b.bootstrap_figure("nll", 1.0, outcomes, Bootstrap(keys=keys_of(39)))


def test_intervals_keep_to_the_bounds_and_hold_the_estimate() -> None:
    drawn, settings = np.linspace(0.2, 0.8, 1001), Bootstrap(replicates=1001)
    assert ends(drawn_figure(0.5, drawn, settings, bounds=(0.4, 0.6))) == (0.4, 0.6)
    below = drawn_figure(0.1, drawn, settings)
    assert below.low == 0.1
    assert 0.7 < below.high < 0.8
    above = drawn_figure(0.9, drawn, settings)
    assert 0.2 < above.low < 0.3
    assert above.high == 0.9
    # A bound never cuts the estimate off.
    assert drawn_figure(0.9, drawn, settings, bounds=(0.0, 0.6)).high == 0.9


def test_undefined_figures_have_no_interval() -> None:
    for value, drawn in ((math.nan, np.ones(9)), (0.5, np.array([0.5] * 8 + [math.nan] * 2))):
        figure = drawn_figure(value, drawn, Bootstrap(), n=5, bounds=(0.0, 1.0), trials=5)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)


def test_replicates_without_spread_do_not_claim_certainty() -> None:
    flat, settings = np.full(20, 0.75), Bootstrap(replicates=20, confidence=0.9)
    share = drawn_figure(0.75, flat, settings, n=99, bounds=(0.0, 1.0), trials=8)
    assert ends(share) == pytest.approx(share_ends(6, 8, 0.9))
    assert share.method == "Wilson (the bootstrap has no spread)"
    assert share.details["trials"] == 8
    assert share.replicates == tuple(flat)
    # At another level it is Wilson's over the same trials, not over n.
    assert ends(levels.interval_at(share, 0.99)) == pytest.approx(share_ends(6, 8, 0.99))
    one = drawn_figure(0.75, flat, settings, n=99, bounds=(0.0, 1.0), trials=1)
    assert one.method.startswith("Wilson")
    bare = drawn_figure(0.75, flat, settings, n=99, bounds=(0.0, 1.0))
    assert ends(bare) == (0.75, 0.75)


def test_a_signed_figure_without_spread_has_the_share_of_the_rule_of_three() -> None:
    flat, strata = np.zeros(20), np.arange(30) % 2
    figure = drawn_figure(
        *(0.0, flat, Bootstrap(confidence=0.9)), n=30, strata=strata, bounds=(-1.0, 1.0), trials=30
    )
    # So many changes that 30 samples would show one with a probability of 95%.
    reach = figure.high
    assert (1.0 - reach) ** 30 == pytest.approx(0.05)
    assert figure.low == -reach
    assert figure.method == "rule of three (the stratified bootstrap has no spread)"
    assert figure.replicates == ()
    tight = drawn_figure(0.0, flat, Bootstrap(), n=30, bounds=(-0.01, 0.02), trials=30)
    assert ends(tight) == (-0.01, 0.02)
    wide = levels.interval_at(figure, 0.99)
    assert wide.high / reach == pytest.approx(2.575829 / 1.644854, rel=1e-5)


def test_shares_use_all_settings_and_are_undefined_over_nothing() -> None:
    hits = RNG.random(40) < 0.6
    settings = Bootstrap(replicates=6, confidence=0.8, seed=4, keys=keys_of(40))
    figure = b.proportion_figure("accuracy", hits, settings, {"a": 1})
    want = intervals.wilson(int(hits.sum()), 40, 0.8)
    assert ends(figure) == (want.low, want.high)
    assert (figure.value, figure.n, figure.units) == (hits.mean(), 40, 40)
    assert (figure.method, figure.interval) == ("Wilson", IntervalMethod.WILSON)
    # Nothing is resampled where there is a closed form.
    assert (figure.replicates, figure.details, figure.design_effect) == ((), {"a": 1}, 1.0)
    assert figure.outcomes is not None
    assert figure.outcomes.is_share
    assert figure.outcomes.keys == settings.keys
    empty = b.proportion_figure("accuracy", hits[:0], settings, {"a": 1})
    assert (empty.n, empty.confidence, empty.details) == (0, 0.8, {"a": 1})
    assert all(math.isnan(x) for x in (empty.value, empty.low, empty.high))
    assert empty.outcomes is None


def test_drops_have_the_score_interval() -> None:
    before, after = RNG.random((2, 50)) < 0.6
    settings = Bootstrap(confidence=0.9, seed=1, keys=keys_of(50))
    figure = b.paired_drop_figure("drop", before, after, settings, {"a": 1})
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    limits = intervals.paired_score(lost, gained, 50, 0.9)
    assert ends(figure) == (limits.low, limits.high)
    assert figure.value == pytest.approx((lost - gained) / 50)
    assert (figure.method, figure.interval) == ("paired, score", IntervalMethod.PAIRED_SCORE)
    assert figure.details == {
        "a": 1,
        "lost": lost,
        "gained": gained,
        "p_value": paired.mcnemar_p(gained, lost),
        "trials": 50,
    }
    assert (figure.n, figure.confidence, figure.units, figure.replicates) == (50, 0.9, 50, ())
    assert figure.outcomes is not None
    assert figure.outcomes.keys == settings.keys
    assert figure.outcomes.value() == pytest.approx(figure.value)


def test_a_drop_without_changes_has_no_certainty_and_no_negative_zero() -> None:
    answers = RNG.random(30) < 0.5
    figure = b.paired_drop_figure("drop", answers, answers, Bootstrap(keys=keys_of(30)))
    assert math.copysign(1.0, figure.value) == 1.0
    assert figure.low < 0.0 < figure.high


# --- Units


def alike(generator: np.random.Generator, count: int, each: int, share: float) -> Bools:
    """Return answers (count·each,) of which those of a unit are mostly the same."""
    units = np.repeat(generator.random(count) < share, each)
    other = generator.random(count * each) < share
    return np.where(generator.random(count * each) < 0.7, units, other)


def test_shares_in_units_are_over_what_they_are_worth() -> None:
    units = np.arange(120) // 4
    hits = alike(RNG, 30, 4, 0.6)
    figure = b.proportion_figure(
        "accuracy", hits, Bootstrap(confidence=0.9, keys=keys_of(120, units)), {"a": 1}
    )
    effect = figure.design_effect
    assert effect == pytest.approx(design_effect_of_mean(hits.astype(float), units), rel=0.1)
    assert effect > 1.5
    assert ends(figure) == pytest.approx(share_ends(hits.sum() / effect, 120 / effect, 0.9, 29))
    assert (figure.value, figure.n, figure.units) == (hits.mean(), 120, 30)
    assert figure.details == {"a": 1, "trials": pytest.approx(120 / effect)}
    assert figure.method == f"Wilson, design effect {effect:.2f}"
    perfect = b.proportion_figure(
        "accuracy", np.ones(120, bool), Bootstrap(keys=keys_of(120, units))
    )
    assert perfect.design_effect == 4.0
    assert perfect.low == pytest.approx(share_ends(30, 30, 0.95, 29)[0])


def test_drops_in_units_are_over_what_they_are_worth() -> None:
    units = np.arange(120) // 4
    before, after = alike(RNG, 30, 4, 0.8), alike(RNG, 30, 4, 0.5)
    figure = b.paired_drop_figure("drop", before, after, Bootstrap(keys=keys_of(120, units)))
    effect = design_effect_of_mean(before.astype(float) - after, units)
    assert effect > 1.5
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    want = intervals.paired_score(lost / effect, gained / effect, 120 / effect, degrees=29)
    assert ends(figure) == pytest.approx((want.low, want.high), abs=1e-12)
    # Which is that of the normal quantile at as much more: 29 degrees of freedom ask for.
    level = 1.0 - 2.0 * scipy_stats.norm.sf(scipy_stats.t.ppf(0.975, 29))
    normal = intervals.paired_score(lost / effect, gained / effect, 120 / effect, level)
    assert ends(figure) == pytest.approx((normal.low, normal.high))
    assert figure.value == (lost - gained) / 120
    assert (figure.details["lost"], figure.details["gained"]) == (lost, gained)
    assert figure.details["trials"] == pytest.approx(120 / effect)
    assert figure.method == f"paired, score, design effect {effect:.2f}"
    assert figure.units == 30
    assert figure.design_effect == pytest.approx(effect)


def test_replicates_are_of_whole_units_where_there_are_any() -> None:
    units = RNG.permutation(np.arange(60) // 3)
    values = RNG.normal(size=20)[units] + 0.5 * RNG.normal(size=60)
    settings = Bootstrap(replicates=300, keys=keys_of(60, units, kind="object"))
    outcomes = Outcomes({"value": values}, mean)
    figure = b.bootstrap_figure("nll", float(values.mean()), outcomes, settings)
    want = [values[rows].mean() for rows in drawn_samples(settings, 60)]
    np.testing.assert_allclose(figure.replicates, want, atol=1e-12)
    assert figure.method == "bootstrap of objects, 300"
    assert (figure.n, figure.units) == (60, 20)
    assert figure.design_effect == pytest.approx(design_effect_of_mean(values, units), rel=0.25)
    # Kept strata are told, those that cut through objects are not kept.
    for strata, name in ((units % 2, "stratified bootstrap"), (np.arange(60) % 2, "bootstrap")):
        layered = b.bootstrap_figure("nll", 0.0, outcomes, settings, strata=strata)
        assert layered.method == f"{name} of objects, 300"


def test_what_never_varies_has_no_design_effect() -> None:
    """Zero over zero would not be a number."""
    settings = Bootstrap(replicates=20, keys=keys_of(12, np.arange(12) // 2))
    constant = Outcomes({"value": np.full(12, 0.25)}, mean)
    assert b._design_effect(None, constant, settings, None) == 1.0
    varied = Outcomes({"value": np.arange(12) // 2 * 1.0}, mean)
    assert b._design_effect(np.array([0.5, np.nan]), varied, settings, None) == 1.0
    assert b._design_effect(np.array([0.5, 0.7]), varied, settings, None) > 0.0
    assert b._design_effect(None, varied, settings.of(None), None) == 1.0


def test_independent_samples_in_units_have_a_design_effect_of_about_one() -> None:
    values = RNG.normal(size=400)
    keys = keys_of(400, np.arange(400) // 2)
    figure = b.bootstrap_figure("nll", 0.0, Outcomes({"value": values}, mean), Bootstrap(keys=keys))
    assert figure.design_effect == pytest.approx(1.0, abs=0.25)
    alone = b.bootstrap_figure(
        "nll", 0.0, Outcomes({"value": values}, mean), Bootstrap(keys=keys_of(400))
    )
    assert alone.design_effect == 1.0
    # A single replicate has no spread that could be compared.
    one = b.bootstrap_figure(
        "nll", 0.0, Outcomes({"value": values}, mean), Bootstrap(replicates=1, keys=keys)
    )
    assert one.design_effect == 1.0


def test_the_design_effect_is_of_the_samples_whatever_else_is_resampled() -> None:
    units = np.arange(200) // 4
    values = RNG.normal(size=50)[units]
    settings = Bootstrap(replicates=500, keys=keys_of(200, units))
    outcomes = Outcomes({"value": values}, mean)
    usual = b.bootstrap_figure("m", 0.0, outcomes, settings)
    wild = b.bootstrap_figure("m", 0.0, outcomes, settings, replicates=9.0 * RNG.normal(size=500))
    assert usual.design_effect == pytest.approx(4.0, rel=0.3)
    assert wild.design_effect == pytest.approx(usual.design_effect, rel=0.2)


def test_what_is_alike_throughout_is_worth_its_units() -> None:
    units = np.arange(60) // 4
    settings = Bootstrap(replicates=20, keys=keys_of(60, units))
    outcomes = Outcomes({"value": np.ones(60)}, mean)
    share = b.bootstrap_figure("m", 1.0, outcomes, settings, bounds=(0.0, 1.0), trials=60)
    # As for any share in 15 units, and at every level.
    assert ends(share) == pytest.approx(share_ends(15, 15, 0.95, 14))
    assert ends(levels.interval_at(share, 0.8)) == pytest.approx(share_ends(15, 15, 0.8, 14))
    assert share.design_effect == size_effect(units) == 4.0
    assert share.details["trials"] == 15
    # Half of the samples are trials (the smaller group): worth half of the units.
    few = b.bootstrap_figure("m", 1.0, outcomes, settings, bounds=(0.0, 1.0), trials=30)
    assert few.low == pytest.approx(share_ends(7.5, 7.5, 0.95, 14)[0])
    signed = b.bootstrap_figure("m", 0.0, outcomes, settings, bounds=(-1.0, 1.0), trials=60)
    assert (1.0 - signed.high) ** 15 == pytest.approx(0.025)


@pytest.mark.parametrize("drawings", [30, 100])
def test_intervals_over_units_cover(drawings: int) -> None:
    """Units of 4 samples that agree mostly; the interval over samples holds the truth too rarely."""
    units = np.arange(4 * drawings) // 4

    def share(known: bool) -> float:
        def make(generator: np.random.Generator) -> tuple[float, float]:
            hits = alike(generator, drawings, 4, 0.8)
            keys = keys_of(len(hits), units) if known else None
            return ends(b.proportion_figure("accuracy", hits, Bootstrap(keys=keys)))

        return coverage(make, 0.8, 1000, 17)

    assert 0.925 < share(known=True) < 0.97
    assert share(known=False) < 0.85


@pytest.mark.slow
def test_drops_over_units_cover() -> None:
    units = np.arange(160) // 4

    def make(generator: np.random.Generator) -> tuple[float, float]:
        clean, harder = alike(generator, 40, 4, 0.9), alike(generator, 40, 4, 0.7)
        figure = b.paired_drop_figure(
            "drop", clean, clean & harder, Bootstrap(keys=keys_of(160, units))
        )
        return ends(figure)

    assert 0.925 < coverage(make, 0.9 * 0.3, 500, 18) < 0.975
