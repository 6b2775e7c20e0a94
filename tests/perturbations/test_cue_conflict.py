"""The contract of the cue-conflict fill; what it shows is tested with the data set that is made by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import SIZES, Watch, check_result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
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


@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(height=SIZES, width=SIZES, severity=st.integers(1, 5))
@example(height=16, width=16, severity=5)
@example(height=512, width=333, severity=3)
def test_any_size(height: int, width: int, severity: int) -> None:
    images, given = inputs(3, height, width)
    result = FILL(images, severity, **given)
    check_result(result, images)
    last = FILL(images[2:], severity, **{name: tensor[2:] for name, tensor in given.items()})
    assert torch.equal(last, result[2:])


def test_bits_do_not_depend_on_who_goes_along() -> None:
    # At 224 pixels four samples go at once on the host.
    images, given = inputs(7, 224, 224)
    whole = FILL(images, 4, **given)
    for rows in (slice(3, 4), slice(3, 7), slice(0, 4)):
        part = FILL(images[rows], 4, **{name: tensor[rows] for name, tensor in given.items()})
        assert torch.equal(part, whole[rows])


def test_no_pictures_give_no_pictures() -> None:
    images, given = inputs(0, 32, 48)
    assert FILL(images, 3, **given).shape == (0, 3, 32, 48)


@pytest.mark.parametrize("severity", [1, 5])
def test_never_leaves_the_device_and_needs_little_memory(severity: int) -> None:
    with FakeTensorMode():
        images, texture = (torch.empty(16, 3, 224, 224, device="cuda") for _ in range(2))
        mask = torch.empty(16, 1, 224, 224, device="cuda")
        with Watch() as watch:
            result = FILL(images, severity, mask=mask, texture=texture)
        assert result.device == images.device
        assert result.shape == images.shape
    assert watch.peak < 12 * 16 * 3 * 224 * 224 * 4


def test_needs_little_memory_on_the_host() -> None:
    images, given = inputs(16, 224, 224)
    with Watch() as watch:
        FILL(images, 5, **given)
    assert watch.peak < 12 * images.numel() * 4


@pytest.mark.slow
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


def smoothed(values: Any, lattice: int = 32) -> Any:
    """Return (H, W) averaged on a lattice, under three boxes of five cells, and enlarged linearly."""
    cells = [min(lattice, side) for side in values.shape]
    coarse = values.reshape(cells[0], values.shape[0] // cells[0], cells[1], -1).mean((1, 3))
    for _ in range(3):
        coarse = ndimage.uniform_filter(coarse, 5, mode="constant")
    for axis, side in enumerate(values.shape):
        places = (np.arange(side) + 0.5) * cells[axis] / side - 0.5
        # Turned over each time, and so upright in the end.
        lines = [np.interp(places, np.arange(cells[axis]), line) for line in coarse.T]
        coarse = np.stack(lines)
    return coarse


@pytest.mark.parametrize("size", [(64, 96), (24, 64), (96, 16)])
def test_the_texture_has_the_object_s_light_and_no_other(size: tuple[int, int]) -> None:
    """The formula of the docstrings, redone in numpy; light that goes beyond both bounds among it."""
    _, given = inputs(2, *size)
    y = torch.linspace(0, 1, size[0]).view(-1, 1).expand(size)
    x = torch.linspace(0, 1, size[1]).expand(size)
    images = torch.stack((0.9 * x * y, 0.7 * x, 0.02 + 0.5 * y))[None].repeat(2, 1, 1, 1)
    images[1] = 0.98 * (torch.minimum(x, y) > 0.4)
    reached: set[str] = set()
    for severity in range(1, 6):
        result = FILL(images, severity, **given)
        for image, mask, texture, seen in zip(
            images.double().numpy(),
            given["mask"].double().numpy()[:, 0],
            given["texture"].double().numpy(),
            result.numpy(),
            strict=True,
        ):
            light = np.tensordot((0.299, 0.587, 0.114), image, 1)
            smooth = smoothed(light * mask) / np.maximum(smoothed(mask), 1e-3)
            mean = (light * mask).sum() / mask.sum()
            shading = (smooth + 0.25) / (mean + 0.25)
            reached |= {"dark"} if shading[mask > 0].min() < 0.6 else set()
            reached |= {"bright"} if shading[mask > 0].max() > 1.3 else set()
            filled = np.clip(texture * np.clip(shading, 0.6, 1.3), 0, 1)
            expected = image + (filled - image) * mask * severity / 5
            np.testing.assert_allclose(seen, expected, atol=2e-5)
    assert reached == {"dark", "bright"}


def test_an_object_of_nothing_leaves_the_picture() -> None:
    images, given = inputs(2, 32, 40)
    given["mask"] = torch.zeros_like(given["mask"])
    assert torch.equal(FILL(images, 5, **given), images)
