"""Corruptions of the sensor: noise at high ISO, too few bits."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.depth.maps import SOURCE
from pytest_cliprobust.perturbations.filters import in_small_batches, straight_through
from pytest_cliprobust.perturbations.registry import register

PHOTONS = 25.0
DEVIATIONS = tuple(0.7 * d for d in (0.08, 0.12, 0.18, 0.26, 0.38))


@register(
    severities=tuple({"deviation": d} for d in DEVIATIONS),
    envelope={"deviation": (0.0, 0.4)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def iso_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Photon noise (Poisson, 25 photons for white), then Gaussian noise of ``deviation``.

    The sensitivity changes the electronic noise, not the photons. Below the mildest published
    deviation, 0.056, the photon noise fades along, so that 0 is the identity.
    """
    if deviation <= 0:
        return images
    counted = random.poisson(seeds, images * PHOTONS) * (1 / PHOTONS)
    noisy = straight_through(counted.clamp(max=1.0), images)
    if deviation < DEVIATIONS[0]:
        noisy = images + (noisy - images) * (deviation / DEVIATIONS[0])
    noise = random.normal(seeds, images.shape[1:], stream=1, dtype=images.dtype)
    return (noisy + noise * deviation).clamp(0, 1)


@register(
    severities=tuple({"bits": 6.0 - s} for s in range(1, 6)),
    envelope={"bits": (8.0, 1.0)},
    source=SOURCE,
    version=2,
)
@in_small_batches
def color_quant(images: Tensor, *, bits: float) -> Tensor:
    """Keep the upper ``bits`` bits of eight in each channel (posterise), rounding down.

    Between whole numbers of bits the step 2^(8 − bits) is fractional. Eight bits are the identity, also
    on images with more. The gradient is that of the identity (straight through).
    """
    if bits >= 8:
        return images
    step = 2.0 ** (8 - bits)
    levels = (images * 255).round()
    kept = torch.floor(levels * (1 / step)) * (step / 255)
    return straight_through(kept.clamp(0, 1), images)
