"""The contract of every registered 2D and 3D corruption (families ``common`` and ``depth``)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import registry

NAMES = [*registry.names("common"), *registry.names("depth")]
#: Published severities 1 and 2 of saturate take colour away, 3 to 5 add it: no common order.
#: A picture that moves may come to lie on its like: views are tested by how far they move.
MONOTONE = [name for name in NAMES if name != "saturate" and not name.startswith("view_")]


def scene(count: int, height: int = 48, width: int = 48) -> tuple[Tensor, dict[str, Tensor]]:
    """Return smooth random pictures (B, 3, H, W) and what a data set offers beside them."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    rows = torch.linspace(4, 1, height).view(1, 1, -1, 1).expand(count, 1, height, width).clone()
    rows[:, :, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1.5
    seeds = registry.sample_seeds(tuple(f"s/{i}" for i in range(count)), "test", 0)
    return images.clamp(0, 1), {"depth": rows, "seeds": seeds}


def some(inputs: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in inputs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_severities_keep_shape_range_and_dtype(name: str) -> None:
    images, inputs = scene(2, 40, 56)
    corruption = registry.get(name)
    assert corruption.source
    assert corruption(images, 0, **inputs) is images
    for severity in range(1, 6):
        result = corruption(images, severity, **inputs)
        assert result.shape == images.shape
        assert result.dtype == images.dtype
        assert result.min() >= 0
        assert result.max() <= 1
        assert not torch.equal(result, images)


@pytest.mark.parametrize("name", MONOTONE)
def test_distortion_grows_with_severity(name: str) -> None:
    images, inputs = scene(4, 112, 112)
    corruption = registry.get(name)
    errors = [
        float((corruption(images, severity, **inputs) - images).square().mean())
        for severity in range(1, 6)
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_bit_identical_in_every_batch_and_order(name: str) -> None:
    images, inputs = scene(9)
    corruption = registry.get(name)
    whole = corruption(images, 3, **inputs)
    for rows in (slice(0, 1), slice(3, 4), slice(2, 9)):
        assert torch.equal(corruption(images[rows], 3, **some(inputs, rows)), whole[rows])
    turned = corruption(images.flip(0), 3, **{k: v.flip(0) for k, v in inputs.items()})
    assert torch.equal(turned.flip(0), whole)


@pytest.mark.parametrize("name", NAMES)
def test_never_leaves_the_device(name: str) -> None:
    with FakeTensorMode():
        images = torch.empty(2, 3, 32, 32, device="cuda")
        depth = torch.empty(2, 1, 32, 32, device="cuda")
        seeds = torch.empty(2, dtype=torch.int64, device="cuda")
        result = registry.get(name)(images, 3, depth=depth, seeds=seeds)
        assert result.device == images.device


@pytest.mark.parametrize("name", NAMES)
def test_one_graph(name: str) -> None:
    images, inputs = scene(2, 32, 32)
    corruption = registry.get(name)
    kept = {k: v for k, v in inputs.items() if k in corruption.inputs}
    parameters = dict(corruption.parameters(3))
    compiled = torch.compile(corruption.function, fullgraph=True, backend="eager")
    assert torch.equal(
        compiled(images, **parameters, **kept), corruption.function(images, **parameters, **kept)
    )
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["gaussian_noise", "fog_3d", "xy_motion_blur", "gaussian_blur"])
@settings(max_examples=8, deadline=None)
@given(height=st.integers(16, 96), width=st.integers(16, 96), severity=st.integers(1, 5))
def test_any_size(name: str, height: int, width: int, severity: int) -> None:
    images, inputs = scene(1, height, width)
    result = registry.get(name)(images, severity, **inputs)
    assert result.shape == images.shape
    assert bool(result.isfinite().all())


def test_focus_keeps_its_own_plane_sharp() -> None:
    images, inputs = scene(1)
    images = (images + 0.3 * torch.rand(images.shape, generator=torch.Generator())).clamp(0, 1)
    near = (registry.get("near_focus")(images, 5, **inputs) - images).abs().mean((0, 1))
    far = (registry.get("far_focus")(images, 5, **inputs) - images).abs().mean((0, 1))
    assert near[-2:].mean() < near[:4].mean()
    assert far[:2].mean() < far[-4:].mean()


def test_same_noise_at_every_severity() -> None:
    images, inputs = scene(1)
    images = torch.full_like(images, 0.5)
    low, high = (
        registry.get("gaussian_noise")(images, severity, **inputs) - 0.5 for severity in (1, 2)
    )
    inside = (low.abs() < 0.3) & (high.abs() < 0.3)
    torch.testing.assert_close(low[inside] / 0.08, high[inside] / 0.12, rtol=1e-3, atol=1e-3)


def test_a_missing_depth_is_named() -> None:
    images, inputs = scene(1)
    with pytest.raises(ClipRobustError, match="'fog_3d' needs depth"):
        registry.get("fog_3d")(images, 1, seeds=inputs["seeds"])
