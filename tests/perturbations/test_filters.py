"""How batches are cut on the CPU, and what that rests on: bits that do not depend on the place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import mostly_slow
from torch import Tensor

from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.filters import (
    Border,
    batch_at_once,
    border_positions,
    in_small_batches,
    sample_by_sample,
)


@pytest.mark.parametrize(
    ("border", "mode"),
    [("replicate", "edge"), ("reflect", "reflect"), ("symmetric", "symmetric")],
)
@pytest.mark.parametrize(("size", "radius"), [(1, 0), (1, 3), (2, 5), (4, 3), (5, 17)])
def test_borders_are_those_of_numpy(border: Border, mode: str, size: int, radius: int) -> None:
    expected = np.pad(np.arange(size), radius, mode=mode)  # type: ignore[call-overload]
    assert border_positions(size, radius, border) == expected.tolist()


@pytest.mark.parametrize(
    ("decorator", "side", "sizes"),
    [
        (sample_by_sample, 224, [1] * 7),
        (in_small_batches, 224, [4, 3]),
        (in_small_batches, 112, [7]),
        (in_small_batches, 512, [1] * 7),
        (batch_at_once, 224, [7]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_parts_of_a_batch(
    decorator: Callable[..., Callable[..., Tensor]], side: int, sizes: list[int], dtype: torch.dtype
) -> None:
    seen: list[tuple[int, int, torch.dtype]] = []

    @decorator
    def shift(images: Tensor, amount: Tensor, *, factor: float, more: Tensor) -> Tensor:
        seen.append((len(images), len(amount), images.dtype))
        assert more.shape == (3, 1, 1)
        return images * factor + amount.view(-1, 1, 1, 1) + more

    images = torch.zeros(7, 3, side, side, dtype=dtype)
    amount = torch.arange(7.0)
    result = shift(images, amount, factor=2.0, more=torch.zeros(3, 1, 1))
    assert [count for count, _, _ in seen] == [count for _, count, _ in seen] == sizes
    assert {kind for _, _, kind in seen} == {
        torch.float64 if dtype == torch.float64 else torch.float32
    }
    assert result.dtype == dtype
    assert torch.equal(result, amount.to(dtype).view(-1, 1, 1, 1).expand_as(result))

    if dtype == torch.float32:
        images.requires_grad_()
        shift(images, amount, factor=2.0, more=torch.zeros(3, 1, 1)).sum().backward()
        assert images.grad is not None
        assert torch.equal(images.grad, torch.full_like(images, 2.0))


def unit(x: Tensor) -> Tensor:
    return x.abs().frac().clamp(1e-3, 1 - 1e-3)


#: What perturbations in small batches do with numbers, beside adding and comparing them.
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "exp": lambda x, y, z: (x * 3).exp(),
    "sin": lambda x, y, z: (x * 5).sin(),
    "cos": lambda x, y, z: (x * 5).cos(),
    "erfinv": lambda x, y, z: (unit(x) * 2 - 1).erfinv(),
    "sqrt": lambda x, y, z: unit(x).sqrt(),
    "rsqrt": lambda x, y, z: unit(x).rsqrt(),
    "reciprocal": lambda x, y, z: unit(x).reciprocal(),
    "square": lambda x, y, z: x.square(),
    "div": lambda x, y, z: x / unit(y),
    "add": lambda x, y, z: torch.add(x, y, alpha=0.37),
    "sub": lambda x, y, z: torch.sub(x, y, alpha=0.37),
    "addcmul": lambda x, y, z: torch.addcmul(x, y, z, value=-0.37),
    "addcmul_": lambda x, y, z: x.clone().addcmul_(y, z),
    "lerp": lambda x, y, z: torch.lerp(x, y, z),
    "lerp by a number": lambda x, y, z: torch.lerp(x, y, 0.37),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("threads", mostly_slow((1, 2, 3), {3}))
def test_bits_do_not_depend_on_the_place(name: str, threads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(3, 150_001, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = FUNCTIONS[name](*numbers)
        for start in torch.randint(0, 100_000, (30,), generator=generator).tolist():
            for count in (1, 5, 33, 1000, 40_001):
                part = numbers[:, start : start + count].clone()
                assert torch.equal(FUNCTIONS[name](*part), whole[start : start + count])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        (*registry.names("common"), *registry.names("depth"), *registry.names("view")),
        {"defocus_blur", "fog", "pixelate", "flash"},
    ),
)
def test_bits_do_not_depend_on_who_goes_along(name: str) -> None:
    # At 224 pixels four samples go at once: here the same one as the first, the last, or on its own.
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(7, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(224, 224), mode="bilinear")
    depth = torch.nn.functional.interpolate(1 + 4 * coarse[:, :1], size=(224, 224), mode="nearest")
    seeds = registry.sample_seeds(tuple(f"s/{i}" for i in range(7)), "test", 0)
    corruption = registry.get(name)
    whole = corruption(images, 4, depth=depth, seeds=seeds)
    for rows in (slice(3, 4), slice(3, 7), slice(0, 4)):
        part = corruption(images[rows], 4, depth=depth[rows], seeds=seeds[rows])
        assert torch.equal(part, whole[rows])
