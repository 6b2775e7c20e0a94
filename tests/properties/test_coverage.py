"""Intervals hold the truth as often as they say: a small edition of ``benchmarks/coverage.py``.

Each metric that can be gated, and its change between two models, in samples drawn one by one and in scenes
of drawings. The table in docs/properties.md has more draws; here a coverage that is clearly below 93%
fails. What cannot be gated is not asked.
"""

from __future__ import annotations

import math
from types import ModuleType

import pytest
from helpers import ROOT, module_of

from pytest_cliprobust.figures.metrics import METRICS, Metric

#: What an interval must hold at least, and how many standard errors of the share may be missing from it.
LEAST, ERRORS = 0.93, 2.0

#: Samples that the truth comes from.
KNOWN = 100_000


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return module_of(ROOT / "benchmarks/coverage.py", known_as="coverage_table")


def metric_of(name: str) -> Metric:
    """Return the metric of a row; detection's rows do without the score, others have a word more."""
    first = name.split()[0]
    found = METRICS.find(first) or METRICS.find(f"{first}_mcm") or METRICS.find("pck_at_0.1")
    assert found is not None
    return found


def too_few(share: float, draws: int) -> bool:
    return share < LEAST - ERRORS * math.sqrt(LEAST * (1.0 - LEAST) / draws)


def missing(table: ModuleType, world: str, n: int, draws: int) -> list[str]:
    """Return the metrics whose intervals hold the truth too seldom."""
    (chosen,) = (w for w in table.WORLDS if w.name == world)
    chosen.known = KNOWN
    short = []
    for clustered in (False, True):
        found = table.measure(chosen, table.Design(n, clustered), draws, seed=1)
        for (name, _, design, kind), count in found.items():
            metric = metric_of(name)
            asked = metric.gateable if kind.startswith("own") else metric.change_gateable
            assert count.draws == draws
            if asked and too_few(count.share, count.draws):
                short.append(f"{name}, {design}, {kind}: {count.share:.3f}")
    return short


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "world",
    [
        *("usual", "honest", "saturated", "accurate", "answers", "good answers", "detection"),
        *("strong", "ties", "decisions", "pairs", "subgroups", "equal groups"),
        *("choices", "good choices", "unlabelled"),
    ],
)
def test_a_hundred_samples(table: ModuleType, world: str) -> None:
    assert missing(table, world, 100, 100) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("world", ["usual", "honest", "answers", "detection"])
def test_a_thousand_samples(table: ModuleType, world: str) -> None:
    assert missing(table, world, 1000, 40) == []


@pytest.mark.exhaustive
def test_a_true_change_of_a_calibration_error_is_found_at_its_size(table: ModuleType) -> None:
    """The difference of two calibration errors is too small by what the better model's is biased."""
    (world,) = (w for w in table.WORLDS if w.name == "honest")
    world.known = KNOWN
    found = table.measure(world, table.Design(1000, False), 60, seed=2)
    own, after = (found["ece", "honest", "1000", kind] for kind in ("own", "own'"))
    change = found["ece", "honest", "1000", "changed"]
    plain = (after.error - own.error) / own.draws
    assert plain < -0.015
    assert abs(change.error / change.draws) < 0.6 * abs(plain)
