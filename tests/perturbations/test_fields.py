"""Smooth random fields: unit variance and the Gaussian asked for, on whatever grid they are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common import fields


class OneDraw:
    """White noise that is 0 but for one place of its grid, where it is at its upper end."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.ends = (0.0, 0.0)

    def uniform(
        self, seeds: Tensor, shape: Sequence[int], low: float, high: float, stream: int
    ) -> Tensor:
        self.shape, self.ends = tuple(shape), (low, high)
        drawn = torch.zeros(len(seeds), *shape)
        drawn[..., shape[-2] // 2, shape[-1] // 2] = high
        return drawn


@pytest.mark.parametrize(
    ("size", "sigma", "coarser"),
    [
        ((80, 96), 0.8, 1),
        ((80, 96), 2.1, 1),
        ((80, 96), 2.2, 2),  # 1.1 pixels of the coarser grid, and no less
        ((80, 96), 4.3, 2),
        ((160, 176), 9.0, 8),
        ((16, 90), 2.9, 2),
        ((90, 16), 5.0, 2),  # twice as coarse it would have four rows
        ((17, 90), 2.5, 2),
    ],
)
def test_each_draw_spreads_as_the_gaussian_and_keeps_the_variance(
    size: tuple[int, int], sigma: float, coarser: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = OneDraw()
    monkeypatch.setattr(fields, "random", one)
    seen = fields.smooth_noise(torch.zeros(1), size, sigma, channels=2, truncate=5.0).double()
    assert seen.shape == (1, 2, *size)
    assert one.shape == (2, *(-(-side // coarser) for side in size))
    low, high = one.ends
    assert low == -high
    # A field is a sum of such spots, each times a draw, whose variance is a third of its end squared.
    if min(size) > 12 * sigma:
        assert float(seen[0, 0].square().sum()) / 3 / coarser**2 == pytest.approx(1, rel=0.01)
    for axis in (0, 1):
        if size[axis] <= 12 * sigma:
            continue  # the edges bend it
        spot = seen[0, 1].sum(1 - axis).numpy()
        places = np.arange(size[axis])
        middle = float((spot * places).sum() / spot.sum())
        assert middle == pytest.approx((one.shape[1 + axis] // 2 + 0.5) * coarser - 0.5, abs=0.06)
        width = np.sqrt((spot * (places - middle) ** 2).sum() / spot.sum())
        assert width == pytest.approx(sigma, rel=0.012)


@pytest.mark.parametrize(("border", "mode"), [("replicate", "nearest"), ("symmetric", "reflect")])
def test_on_its_own_grid_it_is_white_noise_under_a_gaussian(border: str, mode: str) -> None:
    seeds, sigma, truncate = torch.tensor([3, 2**40]), 1.7, 3.0
    white = random.uniform(seeds, (2, 30, 41), -(3**0.5), 3**0.5, stream=5).double().numpy()
    impulse = np.zeros(41)
    impulse[20] = 1
    gain = np.square(ndimage.gaussian_filter(impulse, sigma, truncate=truncate)).sum()
    expected = ndimage.gaussian_filter(white, (0, 0, sigma, sigma), mode=mode, truncate=truncate)
    seen = fields.smooth_noise(
        seeds,
        (30, 41),
        sigma,
        channels=2,
        border=border,  # type: ignore[arg-type]
        truncate=truncate,
        stream=5,
    )
    np.testing.assert_allclose(seen.numpy(), expected / gain, atol=2e-5)


def test_without_a_width_it_is_white_noise() -> None:
    seeds = torch.tensor([1, 2, 3])
    seen = fields.smooth_noise(seeds, (12, 9), 0.0)
    torch.testing.assert_close(seen, random.uniform(seeds, (1, 12, 9), -(3**0.5), 3**0.5))
