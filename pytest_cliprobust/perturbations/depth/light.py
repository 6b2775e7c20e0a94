"""Corruptions of light: fog, a flash at the camera, a dark room."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.depth.maps import (
    SOURCE,
    focal_length,
    normalised,
    quantiles,
    usable,
)
from pytest_cliprobust.perturbations.filters import (
    in_small_batches,
    spatial_mean,
    straight_through,
)
from pytest_cliprobust.perturbations.registry import register
from pytest_cliprobust.perturbations.warping import centred

FOG_DEPTH = 0.5
"""Normalised depth of the farthest point: the reference clamps ImageNet's there."""

LAMP = 2.5
"""Strength of the lamp that re-shading networks learn from (Omnidata; Eftekhar et al. 2021)."""

ROOM = 8.0
"""Light falls no further than at this multiple of the squared distance at which it has halved."""

MILDEST_RANGE = 0.6

PHOTONS, DEVIATION = 120.0, 0.018
"""Sensor noise of the dark image: the reference's Poisson–Gaussian noise at level 3."""


@register(
    severities=tuple({"extinction": e} for e in (4.0, 8.0, 12.0, 16.0, 20.0)),
    envelope={"extinction": (0.0, 25.0)},
    inputs=("depth",),
    source=SOURCE,
    version=3,
)
@in_small_batches
def fog_3d(images: Tensor, *, extinction: float, depth: Tensor) -> Tensor:
    """Fog by the standard optical model: I·t + A·(1 − t), t = exp(−extinction · depth).

    Depth is normalised to run from 0 at the image's nearest point to 0.5 at its farthest, as the
    reference's depth of ImageNet images does (1/128 to 1/2, whatever the scene); here, these are the 1%
    and 99% quantiles, so that one wrong pixel does not decide. The airlight A is grey, the mean of the
    image; the reference's is the mean of the batch.
    """
    if extinction == 0:
        return images
    transmission = torch.exp(normalised(usable(depth, images)) * (-extinction * FOG_DEPTH))
    colour = spatial_mean(images)
    airlight = (colour[:, :1] + colour[:, 1:2] + colour[:, 2:]) * (1 / 3)
    return (airlight + (images - airlight) * transmission).clamp(0, 1)


@register(
    severities=tuple({"gain": 1 / d} for d in (2.4, 1.4, 0.9, 0.6, 0.4)),
    envelope={"gain": (0.0, 3.0)},
    inputs=("depth",),
    optional=("focal",),
    source=SOURCE,
    version=3,
)
@in_small_batches
def flash(
    images: Tensor, *, gain: float, depth: Tensor, focal: Tensor | float | None = None
) -> Tensor:
    """Light at the camera: image + gain · image · shading, clamped; gain is one over {2.4, …, 0.4}.

    The reference takes the shading from a re-shading network. What that was trained to predict are white
    rooms lit by a lamp at the camera, of strength 2.5 and with light that falls as 8 / (8 + r²) over r
    metres, cut at 1. Ours is that scene rendered from depth, Lambert's cosine between the surface normal
    and the ray included. Depth is known up to a factor at best, so the scene's median distance stands for
    the √8 metres at which light has halved. What lies beyond √8 times that, the 8 metres of a large room,
    gets the light that it has there, so that a sky does not stay dark. A normal is that of the flatter side
    of each pixel, so that silhouettes get no dark rim.

    Args:
        images: (B, 3, H, W).
        gain: brightness of the full light, relative to what lights the scene already.
        depth: (B, 1, H, W).
        focal: see :func:`.maps.focal_length`.
    """
    if gain == 0:
        return images
    distance = usable(depth, images)
    length = focal_length(images, focal).view(-1, 1, 1, 1)
    x, y = centred(images)
    x, y = x / length, y[:, None] / length
    slope_x, slope_y = _slope(distance, -1) * length, _slope(distance, -2) * length
    # The normal of the surface (x·d, y·d, d), and the ray, scaled so that their product is 1.
    normal = slope_x.square() + slope_y.square() + (1 + x * slope_x + y * slope_y).square()
    ray = 1 + x.square() + y.square()
    cosine = (normal * ray).rsqrt()
    # Where the ray meets the nearest surface, not the optical axis, is the distance of light.
    squared = distance.square() * ray
    away = (squared / quantiles(squared, (0.5,))).clamp(max=ROOM)
    shading = (cosine * LAMP / (1 + away)).clamp(max=1.0)
    return (images + images * (shading * gain)).clamp(0, 1)


def _slope(depth: Tensor, dim: int) -> Tensor:
    """Return the relative slope of depth along ``dim``, per pixel, on the flatter side."""
    step = depth.diff(dim=dim)
    border = (1, 1, 0, 0) if dim == -1 else (0, 0, 1, 1)
    step, size = F.pad(step, border, mode="replicate"), depth.shape[dim]
    before, after = step.narrow(dim, 0, size), step.narrow(dim, 1, size)
    # The smaller in size of two, with its sign.
    flatter = (before + after - ((before.abs() - after.abs()).sign() * (before - after))) * 0.5
    return flatter / depth


@register(
    severities=tuple({"range": r} for r in (0.60, 0.50, 0.40, 0.30, 0.20)),
    envelope={"range": (1.0, 0.1)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def low_light(images: Tensor, *, range: float, seeds: Tensor) -> Tensor:
    """A dark room: the image's own range becomes 0 to ``range`` with gamma 2, then sensor noise.

    The noise is the reference's Poisson–Gaussian one at its level 3: 120 photons for white, and a
    deviation of 0.018. Above the mildest published range, 0.6, the result is blended with the image,
    so that 1 is the identity.
    """
    if range >= 1:
        return images
    low = images.amin((1, 2, 3), keepdim=True)
    span = images.amax((1, 2, 3), keepdim=True) - low
    dark = ((images - low) / (span + (span <= 0))).square() * range
    photons = random.poisson(seeds, dark * PHOTONS) * (1 / PHOTONS)
    counted = straight_through(photons.clamp(max=1.0), dark)
    noise = random.normal(seeds, images.shape[1:], stream=1, dtype=images.dtype)
    result = (counted + noise * DEVIATION).clamp(0, 1)
    if range > MILDEST_RANGE:
        share = (1 - range) / (1 - MILDEST_RANGE)
        result = images + (result - images) * share
    return result.clamp(0, 1)
