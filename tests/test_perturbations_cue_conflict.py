"""The contract of the cue-conflict fill; what it shows is tested with the data set that is made by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.perturbations import registry

FILL = registry.get("texture_fill")


def inputs(count: int, height: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pictures (B, 3, H, W), a disk as their mask, and textures."""
    generator = torch.Generator().manual_seed(3)
    images, texture = torch.rand(2, count, 3, height, width, generator=generator)
    y = torch.linspace(-1, 1, height).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width).view(1, 1, 1, -1)
    mask = ((x.square() + y.square()) < 0.5).float().expand(count, 1, height, width).clone()
    return images, {"mask": mask, "texture": texture}


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("size", [(16, 16), (37, 50), (224, 224)])
def test_rows_are_bit_identical_in_every_batch_and_order(
    size: tuple[int, int], severity: int
) -> None:
    images, given = inputs(5, *size)
    whole = FILL(images, severity, **given)
    for rows in (slice(0, 1), slice(3, 4), slice(1, 5)):
        part = FILL(images[rows], severity, **{name: t[rows] for name, t in given.items()})
        assert torch.equal(part, whole[rows])
    turned = FILL(images.flip(0), severity, **{name: t.flip(0) for name, t in given.items()})
    assert torch.equal(turned.flip(0), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_range_stay_and_the_background_too(dtype: torch.dtype) -> None:
    images, given = inputs(2, 40, 56)
    images = images.to(dtype)
    result = FILL(images, 5, **given)
    assert result.dtype == dtype
    assert 0 <= result.min() <= result.max() <= 1
    outside = (given["mask"] == 0).expand_as(images)
    assert torch.equal(result[outside], images[outside])
    assert not torch.equal(result, images)


def test_never_leaves_the_device() -> None:
    with FakeTensorMode():
        images, texture = (torch.empty(4, 3, 224, 224, device="cuda") for _ in range(2))
        mask = torch.empty(4, 1, 224, 224, device="cuda")
        result = FILL(images, 3, mask=mask, texture=texture)
        assert result.device == images.device
        assert result.shape == images.shape


def test_one_graph() -> None:
    images, given = inputs(2, 32, 48)
    torch._dynamo.reset()
    compiled = torch.compile(FILL.function, fullgraph=True, backend="eager")
    parameters = dict(FILL.parameters(3))
    assert torch.equal(compiled(images, **parameters, **given), FILL(images, 3, **given))


def test_gradients_reach_the_images() -> None:
    images, given = inputs(1, 32, 32)
    images.requires_grad_()
    FILL(images, 3, **given).sum().backward()
    assert images.grad is not None
    assert bool((images.grad != 0).any())
