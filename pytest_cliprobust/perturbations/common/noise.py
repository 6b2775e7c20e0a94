"""Noise of the 2D common corruptions: Gaussian, shot, impulse and speckle noise.

The published corruptions work on 8-bit images and are rounded to 8 bits again; here nothing is rounded.
Each colour channel has noise of its own, as in the reference, so grey pictures do not stay grey. Noise is
per pixel at every image size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.reference import SOURCE
from pytest_cliprobust.perturbations.filters import in_small_batches, straight_through
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"deviation": d} for d in (0.08, 0.12, 0.18, 0.26, 0.38)),
    envelope={"deviation": (0.0, 0.5)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def gaussian_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Add Gaussian noise: clamp(x + deviation · n), n standard normal and independent per value.

    Args:
        images: (B, 3, H, W) in [0, 1].
        deviation: standard deviation of the noise, on the scale of the images.
        seeds: (B,) int64.
    """
    noise = random.normal(seeds, images.shape[1:], dtype=images.dtype)
    return torch.add(images, noise, alpha=deviation).clamp_(0, 1)


@register(
    severities=tuple({"deviation": photons**-0.5} for photons in (60, 25, 12, 5, 3)),
    envelope={"deviation": (0.0, 0.7)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def shot_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Count photons: clamp(Poisson(c · x) / c) with c = 1 / deviation² photons for full intensity.

    The published parameter is c (60, 25, 12, 5, 3). Its inverse root, the standard deviation at x = 1, has
    the identity at 0 and grows with the distortion. The gradient is that of the mean, the image itself.

    Args:
        images: (B, 3, H, W) in [0, 1].
        deviation: standard deviation of the noise where the image is 1.
        seeds: (B,) int64.
    """
    if deviation <= 0:
        return images
    photons = deviation**-2
    counts = random.poisson(seeds, images * photons)
    return straight_through(counts.mul_(1 / photons), images).clamp(0, 1)


@register(
    severities=tuple({"amount": a} for a in (0.03, 0.06, 0.09, 0.17, 0.27)),
    envelope={"amount": (0.0, 0.4)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def impulse_noise(images: Tensor, *, amount: float, seeds: Tensor) -> Tensor:
    """Replace a share ``amount`` of the values (each channel on its own) by 0 or 1, half each.

    Args:
        images: (B, 3, H, W) in [0, 1].
        amount: share of replaced values, 0 to 1.
        seeds: (B,) int64.
    """
    draw = random.uniform(seeds, images.shape[1:], -1.0, 1.0, dtype=images.dtype)
    limit = 1 - amount
    # Masks as numbers: torch.where takes several times as long.
    salt = torch.gt(draw, limit, out=torch.empty_like(draw))
    return salt.addcmul(images, draw.abs_().le_(limit))


@register(
    severities=tuple({"deviation": d} for d in (0.15, 0.2, 0.35, 0.45, 0.6)),
    envelope={"deviation": (0.0, 0.8)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
    extra=True,
)
@in_small_batches
def speckle_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Add noise in proportion to the intensity: clamp(x + x · deviation · n), n standard normal.

    Args:
        images: (B, 3, H, W) in [0, 1].
        deviation: standard deviation of the noise where the image is 1.
        seeds: (B,) int64.
    """
    noise = random.normal(seeds, images.shape[1:], dtype=images.dtype)
    return torch.addcmul(images, images, noise, value=deviation).clamp_(0, 1)
