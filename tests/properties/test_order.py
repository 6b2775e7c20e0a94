"""What the order of the samples changes: nothing, for every metric that can be gated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_up import COUNT, IN_ORDER, PARTS, Order, flat

from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.metrics import METRICS

pytestmark = pytest.mark.slow

#: Before any test has registered one of its own.
GATEABLE = {m.name for m in METRICS.values() if m.gateable or m.change_gateable}

#: Gateable, but not of samples that could come in another order.
OF_NO_SAMPLES = {
    "relative_throughput": "of passes of the clock",
    "relative_latency": "of passes of the clock",
    "relative_peak_memory": "of a process",
    "worst_case_drop": "of the answers under a search, as accuracy_drop is of answers",
}

#: Fits end where a library ends them, and sums round by the order of what is added.
CLOSE = {"rel": 1e-6, "abs": 1e-7}


def figures_of(run: int, order: Order) -> list[Figure]:
    return [figure for part in PARTS.values() for figure in flat(part(run, order))]


@pytest.fixture(scope="module")
def plain() -> list[tuple[Figure, Figure]]:
    """Return the figures of two runs, of samples as they stand."""
    return list(zip(figures_of(0, IN_ORDER), figures_of(1, IN_ORDER), strict=True))


def told_numbers(first: Figure, second: Figure) -> Iterator[float]:
    """Yield all that is judged: figure, interval at two levels, change and its interval."""
    change = change_between(second, first)
    ends, wide = change.interval(0.95), interval_at(second, 0.999)
    yield from (second.value, second.low, second.high, wide.low, wide.high, second.design_effect)
    yield from (
        change.difference,
        ends.low,
        ends.high,
        change.p_beyond(0.01),
        change.standard_error,
    )


def test_every_gateable_metric_is_asked(plain: list[tuple[Figure, Figure]]) -> None:
    seen = {METRICS.named(first.metric).name for first, _ in plain}
    assert GATEABLE - seen == set(OF_NO_SAMPLES)


def test_figures_intervals_and_changes_do_not_depend_on_the_order_of_samples(
    plain: list[tuple[Figure, Figure]],
) -> None:
    # The second run's in another order than the first's, too.
    mixed = [Order(np.random.default_rng([1, run]).permutation(COUNT)) for run in (0, 1)]
    shuffled = [figures_of(run, order) for run, order in enumerate(mixed)]
    moved = []
    for one, first, second in zip(plain, *shuffled, strict=True):
        assert one[0].metric == first.metric == second.metric
        now, then = list(told_numbers(first, second)), list(told_numbers(*one))
        gateable = METRICS.named(first.metric).name in GATEABLE
        if gateable and now != pytest.approx(then, nan_ok=True, **CLOSE):
            moved.append((first.metric, now, then))
    assert moved == []
