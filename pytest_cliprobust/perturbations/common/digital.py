"""Digital artefacts of the 2D common corruptions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.common.reference import SOURCE
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"gain": g} for g in (0.4, 0.3, 0.2, 0.1, 0.05)),
    envelope={"gain": (1.0, 0.02)},
    source=SOURCE,
)
def contrast(images: Tensor, *, gain: float) -> Tensor:
    """Scale the distance of each value from its channel's mean by ``gain``."""
    mean = images.mean((-2, -1), keepdim=True)
    return ((images - mean) * gain + mean).clamp(0, 1)


@register(
    severities=tuple(
        {"gain": g, "lift": c}
        for g, c in ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
    ),
    envelope={"gain": (1.0, 20.0), "lift": (0.0, 0.2)},
    source=SOURCE,
    extra=True,
)
def saturate(images: Tensor, *, gain: float, lift: float = 0.0) -> Tensor:
    """Turn the saturation of HSV into ``gain`` · saturation + ``lift``, clamped to [0, 1].

    The published severities 1 and 2 desaturate, 3 to 5 saturate: they are not monotone in distortion.
    Grey has no hue; as in the usual HSV code it counts as red, so ``lift`` tints it.
    """
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    saturation = chroma / value.clamp(min=1e-6)
    wanted = (saturation * gain + lift).clamp(0, 1)
    # (value - channel) / chroma is each channel's relative depth below the value, from 0 to 1.
    depth = (value - images) / chroma.clamp(min=1e-6)
    red = torch.ones_like(images)
    red[:, 0] = 0
    depth = torch.where(chroma > 1e-6, depth, red)
    return (value - depth * wanted * value).clamp(0, 1)


@register(
    severities=tuple({"share": s} for s in (0.6, 0.5, 0.4, 0.3, 0.25)),
    envelope={"share": (1.0, 0.15)},
    source=SOURCE,
)
def pixelate(images: Tensor, *, share: float) -> Tensor:
    """Shrink to ``share`` of the side with a box filter and enlarge again without interpolation."""
    height, width = images.shape[-2:]
    small = (max(1, int(height * share)), max(1, int(width * share)))
    shrunk = F.interpolate(images, size=small, mode="area")
    return F.interpolate(shrunk, size=(height, width), mode="nearest-exact").clamp(0, 1)
