"""Noise of the 2D common corruptions: Gaussian, speckle and impulse noise."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.reference import SOURCE
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"deviation": d} for d in (0.08, 0.12, 0.18, 0.26, 0.38)),
    envelope={"deviation": (0.0, 0.5)},
    inputs=("seeds",),
    source=SOURCE,
)
def gaussian_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Add Gaussian noise of standard ``deviation`` (of the range [0, 1]) and clamp."""
    noise = random.normal(seeds, images.shape[1:], dtype=images.dtype)
    return (images + deviation * noise).clamp(0, 1)


@register(
    severities=tuple({"deviation": d} for d in (0.15, 0.2, 0.35, 0.45, 0.6)),
    envelope={"deviation": (0.0, 0.8)},
    inputs=("seeds",),
    source=SOURCE,
    extra=True,
)
def speckle_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Add Gaussian noise in proportion to the intensity and clamp."""
    noise = random.normal(seeds, images.shape[1:], dtype=images.dtype)
    return (images + images * deviation * noise).clamp(0, 1)


@register(
    severities=tuple({"amount": a} for a in (0.03, 0.06, 0.09, 0.17, 0.27)),
    envelope={"amount": (0.0, 0.4)},
    inputs=("seeds",),
    source=SOURCE,
)
def impulse_noise(images: Tensor, *, amount: float, seeds: Tensor) -> Tensor:
    """Replace a share ``amount`` of the values (each channel on its own) by 0 or 1, half each."""
    draw = random.uniform(seeds, images.shape[1:], dtype=torch.float32)
    salted = torch.where(draw < amount / 2, torch.zeros_like(images), images)
    return torch.where(draw > 1 - amount / 2, torch.ones_like(images), salted)
