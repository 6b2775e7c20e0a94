"""Intervals in closed form: published tables, scipy, root finding, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import coverage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures import intervals
from pytest_cliprobust.figures.intervals import paired_score, wilson


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- Shares


def test_wilson_matches_newcombes_table() -> None:
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        ends = wilson(successes, trials)
        assert (round(ends.low, 4), round(ends.high, 4)) == (low, high)


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 10, 13, 25, 20, 1000])
def test_none_and_all_have_exact_ends(trials: int) -> None:
    assert wilson(0, trials).low == 0.0
    assert wilson(trials, trials).high == 1.0


@settings(max_examples=25, deadline=None)
@given(
    trials=st.integers(1, 3000),
    share=st.floats(0, 1),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.9999]),
)
def test_wilson_matches_scipy(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    test = scipy_stats.binomtest(successes, trials)
    expected = test.proportion_ci(confidence, method="wilson")
    ends = wilson(successes, trials, confidence)
    assert (ends.low, ends.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_wilson_of_a_fraction_of_a_trial_solves_its_equation() -> None:
    # What clustered samples are worth is no whole number: |p - x/n| = z sqrt(p (1 - p) / n).
    successes, trials, z = 41.3, 57.7, scipy_stats.norm.ppf(0.95)
    ends = wilson(successes, trials, 0.9)
    for end in (ends.low, ends.high):
        error = math.sqrt(end * (1.0 - end) / trials)
        assert abs(end - successes / trials) == pytest.approx(z * error, rel=1e-12)
    assert ends.low < successes / trials < ends.high


def test_wilson_covers() -> None:
    def score(generator: np.random.Generator) -> tuple[float, float]:
        ends = wilson(int(generator.binomial(80, 0.9)), 80)
        return ends.low, ends.high

    assert 0.925 < coverage(score, 0.9, 2000, 12) < 0.975


def test_intervals_need_samples() -> None:
    with pytest.raises(ClipRobustError, match="no samples"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="5 successes out of 4"):
        wilson(5, 4)
    with pytest.raises(ValueError, match="-1 successes out of 4"):
        wilson(-1, 4)
    for confidence in (0.0, 1.0):
        with pytest.raises(ValueError, match="confidence"):
            wilson(1, 2, confidence)
        with pytest.raises(ValueError, match="confidence"):
            paired_score(1, 2, 5, confidence)


# --- Paired differences


def likeliest(first: float, second: float, n: float, delta: float) -> float:
    """Return the share of ``second`` that is likeliest where the difference is ``delta``, by search."""
    rest = n - first - second

    def loss(share: float) -> float:
        cells = [(first, share + delta), (second, share), (rest, 1.0 - 2.0 * share - delta)]
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count > 0)

    low, high = max(0.0, -delta), (1.0 - delta) / 2.0
    found = optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
    )
    return min((float(found.x), low, high), key=loss)


def tango(first: float, second: float, n: float, confidence: float) -> tuple[float, float]:
    """Return the score interval by maximising the likelihood and finding roots, step by step."""
    z = scipy_stats.norm.ppf((1.0 + confidence) / 2.0)
    estimate = (first - second) / n

    def excess(delta: float) -> float:
        share = likeliest(first, second, n, delta)
        spread = n * (2.0 * share + delta * (1.0 - delta))
        # Squared, and without a quotient: the spread vanishes at the ends.
        return float((first - second - n * delta) ** 2 - z * z * spread)

    ends = []
    for border in (-1.0, 1.0):
        inside = estimate + 1e-9 * border
        if abs(estimate - border) < 1e-9 or excess(border) <= 0.0:
            ends.append(border)
        else:
            ends.append(float(optimize.brentq(excess, inside, border, xtol=1e-12)))
    return ends[0], ends[1]


def test_paired_scores_as_published() -> None:
    # Fagerland, Lydersen & Laake (2014), airway hyper-responsiveness: 1 and 7 of 21 pairs.
    ends = paired_score(1, 7, 21)
    assert (round(ends.low, 3), round(ends.high, 3)) == (-0.517, -0.026)
    # Tango (1998), contact lenses: 0 and 1 of 44 pairs, at 90%.
    ends = paired_score(0, 1, 44, 0.9)
    assert (round(ends.low, 3), round(ends.high, 3)) == (-0.096, 0.037)


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 40),
    second=st.integers(0, 40),
    rest=st.integers(0, 60),
    share=st.sampled_from([1.0, 0.37]),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_paired_scores_are_roots_of_the_likelihood_score(
    first: int, second: int, rest: int, share: float, confidence: float
) -> None:
    n = (first + second + rest) * share
    if n == 0:
        return
    ends = paired_score(first * share, second * share, n, confidence)
    want = tango(first * share, second * share, n, confidence)
    assert (ends.low, ends.high) == pytest.approx(want, abs=2e-6)
    assert ends.confidence == confidence


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_paired_scores_are_ordered_and_antisymmetric(first: int, second: int, rest: int) -> None:
    n = first + second + rest
    if n == 0:
        return
    ends, back = paired_score(first, second, n), paired_score(second, first, n)
    assert -1.0 <= ends.low <= (first - second) / n <= ends.high <= 1.0
    assert (ends.low, ends.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    wide = paired_score(first, second, n, 0.99)
    assert wide.low <= ends.low
    assert ends.high <= wide.high
    # Both ends rise with the pairs that speak for the difference, and with each one that changes over.
    if rest:
        more = paired_score(first + 1, second, n)
        assert more.low > ends.low
        assert more.high >= ends.high
    if second:
        turned = paired_score(first + 1, second - 1, n)
        assert turned.low > ends.low
        assert turned.high >= ends.high
    # Four times as many pairs of each kind tell twice as much, about.
    more = paired_score(4 * first, 4 * second, 4 * n)
    assert ends.low < more.low or ends.low == -1.0
    assert more.high < ends.high or ends.high == 1.0


def test_no_changes_and_all_changes_do_not_claim_certainty() -> None:
    none = paired_score(0, 0, 40)
    assert none.low == -none.high
    # The likeliest second share is zero at any difference, so that n δ² = z² δ (1 - δ).
    z = scipy_stats.norm.ppf(0.975)
    assert none.high == pytest.approx(z * z / (40 + z * z), rel=1e-9)
    every = paired_score(40, 0, 40)
    assert every.high == 1.0
    assert 0.8 < every.low < 1.0
    # 19 of 1,000 pairs, all one way: Wilson's lower end of such a share, near enough.
    one_way = paired_score(19, 0, 1000)
    assert one_way.low == pytest.approx(wilson(19, 1000).low, abs=2e-3)
    single = paired_score(1, 0, 1)
    assert single.high == 1.0
    assert single.low < 0.5


def test_paired_scores_of_arrays_are_those_of_each() -> None:
    first = np.array([[0.0, 3.0, 17.0], [5.5, 40.0, 1.0]])
    second = np.array([2.0, 0.0, 9.0])
    n = np.array([[40.0], [61.5]])
    ends = paired_score(first, second, n, 0.9)
    assert ends.lows.shape == ends.highs.shape == (2, 3)
    for row in range(2):
        for column in range(3):
            one = paired_score(first[row, column], second[column], n[row, 0], 0.9)
            assert (one.low, one.high) == (ends.lows[row, column], ends.highs[row, column])
    assert paired_score(np.empty(0), np.empty(0), 5).lows.shape == (0,)


@pytest.mark.parametrize("cells", [(0.1, 0.06), (0.02, 0.0), (0.005, 0.005)])
def test_paired_scores_cover(cells: tuple[float, float]) -> None:
    gain, loss = cells

    counts = rng(15).multinomial(150, [gain, loss, 1.0 - gain - loss], size=3000)
    ends = paired_score(counts[:, 0], counts[:, 1], 150)
    covered = np.mean((ends.lows <= gain - loss) & (gain - loss <= ends.highs))
    # With few changes it is conservative, but never far below its level.
    assert 0.93 < covered <= 1.0


# --- Sample size


def test_samples_needed() -> None:
    # Half-width 0.04 at n = 100, distance 0.02: four times the samples.
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52) == 400
    assert intervals.samples_needed(0.5, 0.46, 0.56, 100, 0.52) == 900
    assert intervals.samples_needed(0.5, 0.46, 0.56, 100, 0.48) == 400
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.5) is None
    assert intervals.samples_needed(math.nan, 0.0, 1.0, 100, 0.5) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 0, 0.52) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 1, 0.52) == 4
    assert intervals.samples_needed(0.5, -math.inf, 0.54, 100, 0.48) is None
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, math.inf) is None
    # An interval that does not hold the value (noise floors): one sample would do.
    assert intervals.samples_needed(0.5, 0.52, 0.54, 100, 0.4) == 1
    assert intervals.samples_needed(0.5, 0.0, 1.0, 100, 0.5 + 1e-200) is None
    for power in (0.49, 1.0):
        with pytest.raises(ValueError, match="power"):
            intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, power=power)
    assert intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, confidence=0.8, power=0.8) == (
        math.ceil(400 * ((1.281552 + 0.841621) / 1.281552) ** 2)
    )
    strict = intervals.samples_needed(0.5, 0.46, 0.54, 100, 0.52, power=0.8)
    assert strict == math.ceil(400 * ((1.959964 + 0.841621) / 1.959964) ** 2)


def test_samples_needed_decides_as_often_as_it_says() -> None:
    generator = rng(51)
    truth, bound = 0.8, 0.75
    pilot = wilson(160, 200)
    n = intervals.samples_needed(truth, pilot.low, pilot.high, 200, bound, power=0.8)
    assert n is not None
    draws = generator.binomial(n, truth, size=600)
    decided = np.mean([wilson(int(k), n).low > bound for k in draws])
    assert decided == pytest.approx(0.8, abs=0.08)
