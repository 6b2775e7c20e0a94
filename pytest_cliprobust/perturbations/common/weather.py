"""Weather of the 2D common corruptions."""

from __future__ import annotations

import torch
from torch import Tensor

from pytest_cliprobust.perturbations.common.reference import SOURCE
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"lift": v} for v in (0.1, 0.2, 0.3, 0.4, 0.5)),
    envelope={"lift": (0.0, 0.6)},
    source=SOURCE,
)
def brightness(images: Tensor, *, lift: float) -> Tensor:
    """Raise the value of HSV by ``lift``, clamped; hue and saturation stay."""
    value = images.amax(1, keepdim=True)
    lifted = (value + lift).clamp(0, 1)
    # Scaling all channels alike keeps hue and saturation; black becomes grey.
    scaled = images * (lifted / value.clamp(min=1e-6))
    return torch.where(value > 1e-6, scaled, lifted).clamp(0, 1)
