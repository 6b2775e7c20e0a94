"""Throughput, latency and peak memory beside a baseline model: the arithmetic, on made-up times."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays
from pytest_cliprobust.properties import performance

SECONDS = st.floats(1e-6, 1e3)


def times(own: list[float], baseline: list[float]) -> NDArray[np.float64]:
    return np.column_stack([own, baseline])


def named(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.metric: figure for figure in figures}


def pictures(count: int) -> SampleArrays:
    labels = np.zeros(count, dtype=np.int64)
    return SampleArrays(
        Condition("clean", limit=count),
        ids=tuple(map(str, range(count))),
        labels=labels,
        logits=np.zeros((count, 2)),
    )


def test_twice_as_fast() -> None:
    found = named(performance.throughput_of(pictures(32), times([0.5] * 12, [1.0] * 12)))
    assert found["relative_throughput"].value == 2.0
    assert (found["relative_throughput"].low, found["relative_throughput"].high) == (2.0, 2.0)
    assert found["throughput"].value == 64.0
    assert found["throughput"].unit == "images/s"
    assert found["throughput"].details == {"images": 32, "baseline": 32.0}
    late = named(performance.latency_of(pictures(1), times([0.5] * 12, [1.0] * 12)))
    assert late["relative_latency"].value == 0.5
    assert (late["latency"].value, late["latency"].unit) == (500.0, "ms")
    assert late["latency"].details == {"baseline": 1000.0}
    for figure in (*found.values(), *late.values()):
        assert figure.n == figure.units == 12
        assert figure.condition is not None


def test_a_machine_that_slows_down_slows_both() -> None:
    load = np.linspace(1.0, 9.0, 12)
    found = named(performance.latency_figures(times(list(3.0 * load), list(2.0 * load))))
    figure = found["relative_latency"]
    assert (figure.low, figure.value, figure.high) == pytest.approx((1.5, 1.5, 1.5))


def test_two_disturbed_rounds_of_twelve_move_nothing() -> None:
    own = [1.0] * 10 + [50.0, 70.0]
    figure = named(performance.latency_figures(times(own, [1.0] * 12)))["relative_latency"]
    assert (figure.low, figure.value, figure.high) == (1.0, 1.0, 1.0)


@settings(max_examples=40)
@given(
    st.lists(SECONDS, min_size=6, max_size=80, unique=True),
    st.sampled_from([0.6, 0.8, 0.9, 0.95]),
)
def test_the_interval_is_that_of_scipy(values: list[float], confidence: float) -> None:
    tail = (1.0 - confidence) / 2.0
    low, high = performance.median_ends(np.array(values))(np.array([tail]))
    theirs = stats.quantile_test(values, p=0.5).confidence_interval(confidence)
    wanted = (theirs.low, theirs.high)
    assert (low[0], high[0]) == tuple(
        end if math.isfinite(end) else other
        for end, other in zip(wanted, (0.0, math.inf), strict=True)
    )


def test_few_rounds_say_nothing() -> None:
    figure = named(performance.latency_figures(times([1.0] * 5, [1.0] * 5)))["relative_latency"]
    assert (figure.low, figure.high) == (0.0, math.inf)
    # Six throws are all heads in 1.6%, which is less than 2.5.
    figure = named(performance.latency_figures(times([1.0] * 6, [1.0] * 6)))["relative_latency"]
    assert (figure.low, figure.high) == (1.0, 1.0)


def test_the_interval_at_another_level_is_wider() -> None:
    own = np.linspace(0.9, 1.1, 12)
    figure = named(performance.latency_figures(times(list(own), [1.0] * 12)))["relative_latency"]
    ordered = np.sort(own)
    assert (figure.low, figure.high) == (ordered[2], ordered[9])
    wide = interval_at(figure, 0.999)
    assert (wide.low, wide.high) == pytest.approx((ordered[0], ordered[11]))
    none = interval_at(figure, 1 - 1e-6)
    assert (none.low, none.high) == (0.0, math.inf)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [12, 30])
def test_the_interval_holds_the_truth_as_often_as_it_says(rounds: int) -> None:
    """Times with a heavy tail on either side: a model that is 1.2 times as slow."""
    generator = np.random.default_rng(7)
    draws = 2000
    disturbed = generator.pareto(1.5, size=(draws, rounds, 2)) * 0.1 + 1.0
    held = 0
    for draw in disturbed:
        draw[:, 0] *= 1.2
        figure = performance.latency_figures(draw)[0]
        held += figure.low <= 1.2 <= figure.high
    assert held / draws > 0.95 - 2.0 * math.sqrt(0.95 * 0.05 / draws)


def test_memory_has_the_range_of_the_passes() -> None:
    found = named(performance.peak_memory_of(pictures(32), [2e6, 2e6, 2e6], [1e6, 1e6, 1e6]))
    ratio, own = found["relative_peak_memory"], found["peak_memory"]
    assert (ratio.low, ratio.value, ratio.high, ratio.n) == (2.0, 2.0, 2.0, 3)
    assert (own.low, own.value, own.high, own.unit) == (2.0, 2.0, 2.0, "MB")
    found = named(performance.peak_memory_figures([2e6, 3e6, 2e6], [1e6, 1e6, 2e6]))
    ratio = found["relative_peak_memory"]
    assert (ratio.low, ratio.high) == (1.0, 3.0)
    assert interval_at(ratio, 0.999).low <= 1.0


def test_only_ratios_can_be_bounded_and_by_a_person_alone() -> None:
    for name in ("throughput", "latency", "peak_memory"):
        absolute, ratio = METRICS.named(name), METRICS.named(f"relative_{name}")
        assert not absolute.gateable
        assert not absolute.change_gateable
        assert f"relative_{name}" in absolute.why_not_gateable
        assert ratio.gateable
        assert not ratio.change_gateable
        assert not ratio.recorded
        assert ratio.higher_is_better == absolute.higher_is_better == (name == "throughput")


@pytest.mark.parametrize(
    "seconds", [[], [1.0, 2.0], [[1.0, 2.0, 3.0]], [[1.0, 0.0]], [[1.0, math.nan]], [[-1.0, 1.0]]]
)
def test_what_is_no_time_is_refused(seconds: list[float]) -> None:
    with pytest.raises(ClipRobustError, match="seconds"):
        performance.latency_figures(seconds)
