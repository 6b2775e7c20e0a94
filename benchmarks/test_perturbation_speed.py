"""Speed of every 2D and 3D corruption, beside the reference, a 2D blur and a ViT-B-32, in one run.

``pytest benchmarks/test_perturbation_speed.py -n0``: 224 × 224, batch 32, severity 3, on the CPU. All
calls take turns and the least time of each counts (``benchmarks/perturbation_table.py``, which also
writes the documentation's table); ``extra_info`` of each benchmark has the figures of that run. The
claims are tested on them.
"""

from __future__ import annotations

import pytest
from perturbation_table import BATCH, COMMON, DEPTH, batch, measure, ours

from pytest_cliprobust.perturbations import registry


@pytest.fixture(scope="module")
def measured():
    return measure()


@pytest.fixture(scope="module")
def pictures():
    return batch()


@pytest.mark.parametrize("name", [*COMMON, *DEPTH])
def test_throughput(benchmark, measured, pictures, name):
    row = next(row for row in measured.rows if row.name == name)
    benchmark.group = "2D" if name in COMMON else "3D"
    benchmark.extra_info["images"] = BATCH
    benchmark.extra_info["ms an image"] = row.seconds * 1e3
    benchmark.extra_info["of a ViT-B-32"] = row.seconds / measured.model
    benchmark.extra_info["memory in batches"] = row.memory
    if name in COMMON:
        benchmark.extra_info["times as fast as imagecorruptions"] = row.reference / row.seconds
    else:
        benchmark.extra_info["of a 2D blur"] = row.seconds / measured.blur
    benchmark.pedantic(ours(name, *pictures), rounds=3, warmup_rounds=1)
    assert row.memory < 12


def test_five_times_as_fast_as_imagecorruptions(measured):
    assert measured.speedup > 5


@pytest.mark.parametrize("name", COMMON)
def test_none_is_slower_than_imagecorruptions(measured, name):
    row = next(row for row in measured.rows if row.name == name)
    assert row.seconds < row.reference


def test_the_median_costs_little_beside_a_forward_pass(measured):
    assert measured.share < 0.05


@pytest.mark.parametrize("name", [n for n in DEPTH if "depth" in registry.get(n).inputs])
def test_3d_ones_cost_at_most_three_2d_blurs(measured, name):
    row = next(row for row in measured.rows if row.name == name)
    assert row.seconds < 3 * measured.blur
