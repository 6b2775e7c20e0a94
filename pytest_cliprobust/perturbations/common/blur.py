"""Blur of the 2D common corruptions."""

from __future__ import annotations

from torch import Tensor

from pytest_cliprobust.perturbations.common.reference import SOURCE, relative_size
from pytest_cliprobust.perturbations.filters import gaussian_filter
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"sigma": s} for s in (1.0, 2.0, 3.0, 4.0, 6.0)),
    envelope={"sigma": (0.0, 8.0)},
    source=SOURCE,
    extra=True,
)
def gaussian_blur(images: Tensor, *, sigma: float) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels at 224."""
    return gaussian_filter(images, sigma * relative_size(images)).clamp(0, 1)
