"""Throughput of every 2D and 3D corruption: ``pytest benchmarks/ -n0 --benchmark-group-by=param:name``.

Batch of 32 at 224 pixels, severity 3, on the CPU; compare ratios within one run only.
"""

from __future__ import annotations

import pytest
import torch

from pytest_cliprobust.perturbations import registry


@pytest.mark.parametrize("name", [*registry.names("common"), *registry.names("depth")])
def test_throughput(benchmark, name):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 3, 224, 224, generator=generator)
    depth = 1 + 3 * torch.rand(32, 1, 224, 224, generator=generator)
    seeds = torch.arange(32)
    benchmark.extra_info["images"] = len(images)
    benchmark.pedantic(
        registry.get(name), (images, 3), {"depth": depth, "seeds": seeds}, rounds=3, warmup_rounds=1
    )
