"""From columns to figures: replicates against loops over the drawn rows, ends against closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from helpers import drawn_rows
from scipy import sparse

from pytest_cliprobust.figures import bootstrap as b
from pytest_cliprobust.figures import intervals, levels, paired, resampling
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.bootstrap import Bootstrap
from pytest_cliprobust.figures.figure import Figure

RNG = np.random.default_rng(3)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw two replicates of 30 samples at a time."""
    monkeypatch.setattr(resampling, "_CHUNK", 60)
    b._kept.clear()
    yield
    b._kept.clear()


# --- Settings


def test_settings_reach_the_resampling() -> None:
    plan = Bootstrap(replicates=7, seed=5).plan(9, np.repeat([0, 1], [4, 5]))
    assert (plan.n, plan.replicates, plan.seed) == (9, 7, 5)
    assert plan.codes is not None
    assert plan.codes.tolist() == [0] * 4 + [1] * 5
    assert Bootstrap(replicates=1000, confidence=0.95, seed=0, samples="") == b.DEFAULT
    assert Bootstrap(replicates=7).fewer(5).replicates == 5
    assert Bootstrap(replicates=7).fewer(9).replicates == 7


def test_subsets_have_identities_of_their_own() -> None:
    whole = Bootstrap(samples="clean")
    first, second = np.array([0, 1, 2]), np.array([0, 1, 3])
    assert whole.subset(first).samples == whole.subset(first).samples
    assert whole.subset(first).samples.startswith("clean/")
    assert len({whole.samples, whole.subset(first).samples, whole.subset(second).samples}) == 3
    assert Bootstrap().subset(first) == Bootstrap()
    assert whole.unpaired() == Bootstrap()


def test_two_subsets_of_equal_size_are_no_pair() -> None:
    hits = RNG.random(40) < 0.7
    whole = Bootstrap(samples="clean", replicates=50)
    halves = [np.arange(20), np.arange(20, 40)]
    one, two, again = (
        b.proportion_figure("accuracy", hits[rows], whole.subset(rows))
        for rows in (*halves, halves[0])
    )
    assert paired.difference_interval(one, two).method == "MOVER, independent runs"
    assert paired.difference_interval(one, again).method == "paired bootstrap"


# --- Sums


def test_counts_are_kept_for_the_next_figure_on_the_same_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Bootstrap(replicates=5)
    first = b.resampled_counts(10, settings)
    assert b.resampled_counts(10, settings) is first
    # Another number of replicates is another plan, although its digest is the same.
    more = np.concatenate(list(b.resampled_counts(10, Bootstrap(replicates=6))))
    assert more.shape == (6, 10)
    assert len(b._kept) == 1
    monkeypatch.setattr(b, "_KEPT", 60)
    assert b.resampled_counts(10, Bootstrap(replicates=6)) is not None
    assert isinstance(b.resampled_counts(10, Bootstrap(replicates=6)), list)
    assert not isinstance(b.resampled_counts(61, Bootstrap(replicates=1)), list)


@pytest.mark.usefixtures("small_blocks")
def test_sums_of_all_blocks_are_sums_over_the_drawn_rows() -> None:
    settings, strata = Bootstrap(replicates=9, seed=2), np.arange(30) % 4
    columns = RNG.normal(size=(30, 3)) * (RNG.random((30, 3)) < 0.5)
    assert len(list(b.resampled_counts(30, settings))) == 5
    for kept in (None, strata):
        want = np.stack([columns[row].sum(axis=0) for row in drawn_rows(settings, 30, kept)])
        dense = b.resampled_sums(columns, settings, kept)
        thin = b.resampled_sums(sparse.csr_array(columns), settings, kept)
        np.testing.assert_allclose(dense, want, atol=1e-9)
        np.testing.assert_array_equal(thin, dense)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 3e8])
def test_exact_columns_sum_to_the_same_in_every_order(scale: float) -> None:
    columns = RNG.normal(size=1000) * scale
    fixed = b.exact(columns, 1000)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(1000)
        assert fixed[order].cumsum()[-1] == math.fsum(fixed)
    # The grid is the finest on which the largest sum has 52 bits.
    units = np.ldexp(fixed, 52 - math.frexp(np.abs(columns).max() * 1000)[1])
    np.testing.assert_array_equal(units, np.rint(units))
    assert (units % 2 == 1).any()
    np.testing.assert_allclose(fixed, columns, rtol=0, atol=1000 * scale * 6 / 2.0**52)


def test_columns_that_have_no_grid_are_left_alone() -> None:
    zero, endless = np.zeros((3, 2)), np.array([1.0, np.inf])
    assert b.exact(zero, 3) is zero
    assert b.exact(endless, 2) is endless
    assert b.exact(np.empty((0, 2)), 0).shape == (0, 2)


def test_ratio_is_undefined_over_zero() -> None:
    got = b.ratio([1.0, 0.0, -3.0], [2.0, 0.0, 0.0])
    assert got[0] == 0.5
    assert np.isnan(got[1:]).all()
    assert b.ratio(np.ones((2, 3)), 4.0).tolist() == [[0.25] * 3] * 2


# --- Figures


def ends(figure: Figure) -> tuple[float, float]:
    return figure.low, figure.high


def test_percentile_and_basic_intervals() -> None:
    drawn = RNG.exponential(size=999)
    settings = Bootstrap(replicates=999, confidence=0.9)
    low, high = np.quantile(drawn, [0.05, 0.95])
    plain = b.bootstrap_figure("m", 1.0, drawn, 50, settings, unit="nats", details={"a": 1})
    assert ends(plain) == pytest.approx((low, high))
    assert (plain.n, plain.confidence, plain.unit) == (50, 0.9, "nats")
    assert (plain.method, plain.details) == ("bootstrap, 999", {"a": 1})
    assert plain.replicates == tuple(drawn)
    basic = b.bootstrap_figure("m", 1.0, drawn, 50, settings, method="basic")
    assert ends(basic) == pytest.approx((2.0 - high, 2.0 - low))
    assert basic.method == "bootstrap, 999, basic"
    layered = b.bootstrap_figure("m", 1.0, drawn, 50, settings, strata=np.arange(50) % 2)
    assert layered.method == "stratified bootstrap, 999"


def test_intervals_keep_to_the_bounds_and_hold_the_estimate() -> None:
    drawn, settings = np.linspace(0.2, 0.8, 1001), Bootstrap(replicates=1001)
    figure = b.bootstrap_figure("m", 0.5, drawn, 50, settings, bounds=(0.4, 0.6))
    assert ends(figure) == (0.4, 0.6)
    below = b.bootstrap_figure("m", 0.1, drawn, 50, settings)
    assert below.low == 0.1
    assert 0.7 < below.high < 0.8
    above = b.bootstrap_figure("m", 0.9, drawn, 50, settings)
    assert 0.2 < above.low < 0.3
    assert above.high == 0.9
    # A bound never cuts the estimate off.
    outside = b.bootstrap_figure("m", 0.9, drawn, 50, settings, bounds=(0.0, 0.6))
    assert outside.high == 0.9


def test_undefined_figures_have_no_interval() -> None:
    for value, drawn in ((math.nan, np.ones(9)), (0.5, np.array([0.5] * 8 + [math.nan] * 2))):
        figure = b.bootstrap_figure("m", value, drawn, 5, Bootstrap(), bounds=(0.0, 1.0), trials=5)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)


def test_replicates_without_spread_do_not_claim_certainty() -> None:
    flat, settings = np.full(20, 0.75), Bootstrap(replicates=20, confidence=0.9)
    share = b.bootstrap_figure("m", 0.75, flat, 99, settings, bounds=(0.0, 1.0), trials=8)
    wilson = intervals.wilson(6, 8, 0.9)
    assert ends(share) == (wilson.low, wilson.high)
    assert share.method == "Wilson (the bootstrap has no spread)"
    assert share.details["trials"] == 8
    assert share.replicates == tuple(flat)
    # At another level it is Wilson's over the same trials, not over n.
    assert levels.interval_at(share, 0.99).low == intervals.wilson(6, 8, 0.99).low
    one = b.bootstrap_figure("m", 0.75, flat, 99, settings, bounds=(0.0, 1.0), trials=1)
    assert one.method.startswith("Wilson")
    bare = b.bootstrap_figure("m", 0.75, flat, 99, settings, bounds=(0.0, 1.0))
    assert ends(bare) == (0.75, 0.75)


def test_a_signed_figure_without_spread_has_the_share_of_the_rule_of_three() -> None:
    flat, strata = np.zeros(20), np.arange(30) % 2
    figure = b.bootstrap_figure(
        "m", 0.0, flat, 30, Bootstrap(confidence=0.9), strata=strata, bounds=(-1.0, 1.0), trials=30
    )
    # So many changes that 30 samples would show one with a probability of 95%.
    reach = figure.high
    assert (1.0 - reach) ** 30 == pytest.approx(0.05)
    assert figure.low == -reach
    assert figure.method == "rule of three (the stratified bootstrap has no spread)"
    assert figure.replicates == ()
    tight = b.bootstrap_figure("m", 0.0, flat, 30, Bootstrap(), bounds=(-0.01, 0.02), trials=30)
    assert ends(tight) == (-0.01, 0.02)
    wide = levels.interval_at(figure, 0.99)
    assert wide.high / reach == pytest.approx(2.575829 / 1.644854, rel=1e-5)


def test_the_resampling_is_named_where_the_samples_are_known() -> None:
    drawn, strata = RNG.random(5), np.arange(30) % 3
    known = Bootstrap(replicates=5, samples="clean")

    def name(*, n: int = 30, samples: int | None = None, strata: np.ndarray | None = None) -> str:
        figure = b.bootstrap_figure("m", 0.5, drawn, n, known, samples=samples, strata=strata)
        return str(figure.details["resampling"])

    assert name() == f"clean:{known.plan(30).digest}"
    assert name(strata=strata) == f"clean:{known.plan(30, strata).digest}"
    # Captions of 12 images: the images were resampled.
    assert name(samples=12) == f"clean:{known.plan(12).digest}"
    unknown = b.bootstrap_figure("m", 0.5, drawn, 30, Bootstrap(replicates=5))
    assert "resampling" not in unknown.details


def test_shares_use_all_settings_and_are_undefined_over_nothing() -> None:
    hits = RNG.random(40) < 0.6
    settings = Bootstrap(replicates=6, confidence=0.8, seed=4, samples="clean")
    figure = b.proportion_figure("accuracy", hits, settings, {"a": 1})
    want = intervals.wilson(int(hits.sum()), 40, 0.8)
    assert ends(figure) == (want.low, want.high)
    np.testing.assert_allclose(
        figure.replicates, [hits[row].mean() for row in drawn_rows(settings, 40)]
    )
    assert figure.details == {"a": 1, "resampling": f"clean:{settings.plan(40).digest}"}
    empty = b.proportion_figure("accuracy", hits[:0], settings, {"a": 1})
    assert (empty.n, empty.confidence, empty.details) == (0, 0.8, {"a": 1})
    assert all(math.isnan(x) for x in (empty.value, empty.low, empty.high))


def test_drops_keep_paired_replicates() -> None:
    before, after = RNG.random((2, 50)) < 0.6
    settings = Bootstrap(replicates=20, confidence=0.9, seed=1, samples="clean")
    figure = b.paired_drop_figure("drop", before, after, settings, {"a": 1})
    change: Floats = before.astype(float) - after
    want = [change[row].mean() for row in drawn_rows(settings, 50)]
    np.testing.assert_allclose(figure.replicates, want, atol=1e-12)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    limits = intervals.agresti_min(lost, gained, 50, 0.9)
    assert ends(figure) == pytest.approx((limits.low, limits.high))
    assert figure.value == pytest.approx((lost - gained) / 50)
    assert figure.details == {
        "a": 1,
        "lost": lost,
        "gained": gained,
        "p_value": paired.mcnemar_p(gained, lost),
        "resampling": f"clean:{settings.plan(50).digest}",
    }
    assert (figure.n, figure.confidence) == (50, 0.9)
    alone = b.paired_drop_figure("drop", before, after, Bootstrap(replicates=20))
    assert "resampling" not in alone.details


def test_a_drop_without_changes_has_no_replicates_and_no_negative_zero() -> None:
    answers = RNG.random(30) < 0.5
    figure = b.paired_drop_figure("drop", answers, answers, Bootstrap(samples="clean"))
    assert figure.replicates == ()
    assert "resampling" not in figure.details
    assert math.copysign(1.0, figure.value) == 1.0
    assert figure.low < 0.0 < figure.high
