"""2D common corruptions (Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019), eight of the nineteen so far.

Severity parameters are those published for ImageNet-C at 224 pixels. Lengths (blur widths) scale with
the shorter image side over 224, so that a picture of another size is corrupted to the same look.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.registry import register

REFERENCE_SIDE = 224.0
SOURCE = "Hendrycks & Dietterich 2019, ImageNet-C"


def gaussian_filter(images: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) under a Gaussian of ``sigma`` pixels, edges replicated.

    A sum of shifted copies, cut at four sigma: slower than a convolution, but row i of the result
    never depends on the batch, to the last bit.
    """
    if sigma <= 0:
        return images
    radius = max(1, int(4 * sigma + 0.5))
    weights = [2.718281828459045 ** (-0.5 * (i / sigma) ** 2) for i in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    result = images
    for axis in (-1, -2):
        pad = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        padded = F.pad(result, pad, mode="replicate")
        length = images.shape[axis]
        out = result * (weights[0] / total)
        for i in range(1, radius + 1):
            pair = padded.narrow(axis, radius - i, length) + padded.narrow(axis, radius + i, length)
            out = torch.add(out, pair, alpha=weights[i] / total)
        result = out
    return result


def _scale(images: Tensor) -> float:
    return min(images.shape[-2:]) / REFERENCE_SIDE


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


@register(
    severities=tuple({"sigma": s} for s in (1.0, 2.0, 3.0, 4.0, 6.0)),
    envelope={"sigma": (0.0, 8.0)},
    source=SOURCE,
    extra=True,
)
def gaussian_blur(images: Tensor, *, sigma: float) -> Tensor:
    """Blur with a Gaussian of ``sigma`` pixels at 224."""
    return gaussian_filter(images, sigma * _scale(images)).clamp(0, 1)


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
