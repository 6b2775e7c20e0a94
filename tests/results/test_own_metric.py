"""A metric of a user's own: one call from arrays to a figure that is judged like every other."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Sessions, report
from scipy import stats as scipy_stats

from pytest_cliprobust.engine.evaluation import Evaluation
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.condition import Condition
from pytest_cliprobust.figures.figure import IntervalMethod
from pytest_cliprobust.figures.measure import measure
from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.figures.samples import SampleArrays

COUNT = 60


@pytest.fixture(scope="module")
def samples() -> SampleArrays:
    ids = tuple(f"s/{i}" for i in range(COUNT))
    return SampleArrays(Condition("mine"), ids, np.zeros(COUNT, np.int64), np.eye(COUNT, 3))


@pytest.fixture(scope="module")
def numbers() -> Floats:
    return np.random.default_rng(1).exponential(size=COUNT)


def test_of_numbers_the_mean_is_taken(samples: SampleArrays, numbers: Floats) -> None:
    figure = measure("nll", samples, lambda _: numbers)
    assert figure.value == pytest.approx(numbers.mean())
    assert (figure.n, figure.unit, figure.condition) == (COUNT, "nats", samples.condition)
    # Student's interval, but farther up, where the skewed numbers have their tail.
    error = scipy_stats.sem(numbers)
    low, high = scipy_stats.t.interval(0.95, COUNT - 1, loc=numbers.mean(), scale=error)
    assert figure.low == pytest.approx(low)
    assert high < figure.high < numbers.mean() + 2 * (high - numbers.mean())
    assert measure("nll", samples, lambda _: list(numbers)) == figure


def test_of_booleans_the_share_is_taken(samples: SampleArrays) -> None:
    figure = measure("accuracy", samples, lambda _: np.arange(COUNT) % 4 != 0)
    assert figure.value == pytest.approx(0.75)
    assert figure.interval is IntervalMethod.WILSON
    assert figure.low == pytest.approx(0.627, abs=2e-3)
    assert figure.high == pytest.approx(0.842, abs=2e-3)


def test_a_statistic_is_resampled(samples: SampleArrays, numbers: Floats) -> None:
    figure = measure("nll", samples, lambda _: numbers, statistic=np.median)
    assert figure.value == np.median(numbers)
    assert figure.low < figure.value < figure.high < numbers.mean() + 1
    rows = np.stack([numbers, 2 * numbers], axis=1)

    def slope(pairs: Floats) -> float:
        return float(pairs[:, 1].sum() / pairs[:, 0].sum())

    assert measure("nll", samples, lambda _: rows, statistic=slope).value == pytest.approx(2)
    with pytest.raises(ClipRobustError, match=r"shape \(60, 2\) need a statistic"):
        measure("nll", samples, lambda _: rows)


def test_the_interval_stays_in_the_metrics_range(samples: SampleArrays) -> None:
    values = np.linspace(0.98, 1.0, COUNT)
    figure = measure(
        "brier", samples, lambda _: values, statistic=lambda rows: 2 - float(np.ptp(rows)) ** 9
    )
    assert figure.high <= 2.0


def test_an_unknown_metric_is_one_line_with_the_remedy(samples: SampleArrays) -> None:
    with pytest.raises(
        ClipRobustError, match=r"unknown metric 'acuracy'.*'accuracy'.*register_metric"
    ):
        measure("acuracy", samples, lambda _: np.ones(COUNT))


SUITE = """
    import numpy as np
    from pytest_cliprobust.figures.measure import measure
    from pytest_cliprobust.figures.metrics import register_metric

    @register_metric("margin", higher_is_better=True, meaning="best less second-best probability")
    def margin(view):
        from pytest_cliprobust.engine import head

        def margins(view):
            ordered = np.sort(head.probabilities(view.logits, view.probability), axis=1)
            return ordered[:, -1] - ordered[:, -2]

        return measure("margin", view, margins)

    def test_mine(clip, gate):
        gate(margin(clip.on("clean")))
"""

BOUND = 'schema = 1\n[[threshold]]\nsuite = "mine"\nmetric = "margin"\nmin = 0.01\n'


def test_a_registered_one_is_judged_with_its_range_and_noise(
    run: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluation, "noise", (0.01, 0.02))
    with METRICS.preserved():
        result = run("--clip-report=report.json", suite=SUITE, thresholds=BOUND)
    result.assert_outcomes(passed=1)
    (record,) = report()["measurements"]
    assert record["key"] == "mine/margin/clean/clean/reference"
    assert record["verdict"]["status"] == "pass"
    assert record["noise_floor"] == 0.01
    assert record["verdict"]["low"] == pytest.approx(record["figure"]["low"] - 0.01)
