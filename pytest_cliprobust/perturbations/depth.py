"""3D common corruptions (Kar, Yeo, Atanov & Zamir, "3D Common Corruptions and Data Augmentation",
CVPR 2022): the nine that need no codec. Parameters are those of the reference's ImageNet-3DCC.

``depth`` is metric depth in metres along the optical axis, (B, 1, H, W). Where the reference uses depth
normalised to [0, 1] we normalise per image by its own nearest and farthest point, so that one image
never depends on another (the reference normalises and takes the airlight over a batch). Relative depth
works the same way; inverse depth (disparity) has to be inverted first. Lengths in pixels are published
for 512 pixels and scale with the image side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.filters import gaussian_filter
from pytest_cliprobust.perturbations.registry import register

SOURCE = "Kar et al. 2022, ImageNet-3DCC"
PUBLISHED_SIDE = 512.0

FOCUS_LEVELS = 5
"""Blur levels that the focus corruptions blend between."""

STEPS = 12
"""Camera positions that stand for the path's 20 to 60: the mean of every few frames."""


def normalise_depth(depth: Tensor) -> Tensor:
    """Return depth (B, 1, H, W) scaled to [0, 1] for each image; a flat one becomes 0."""
    near = depth.amin((1, 2, 3), keepdim=True)
    far = depth.amax((1, 2, 3), keepdim=True)
    return (depth - near) / (far - near).clamp(min=1e-6)


@register(
    severities=tuple({"extinction": e} for e in (4.0, 8.0, 12.0, 16.0, 20.0)),
    envelope={"extinction": (0.0, 25.0)},
    inputs=("depth",),
    source=SOURCE,
)
def fog_3d(images: Tensor, *, extinction: float, depth: Tensor) -> Tensor:
    """Fog by the standard optical model: I·t + A·(1 − t), t = exp(−extinction · depth).

    Depth is normalised per image; the airlight A is the image's mean colour.
    """
    transmission = torch.exp(-extinction * normalise_depth(depth)).to(images.dtype)
    airlight = images.mean((-2, -1), keepdim=True)
    return (images * transmission + airlight * (1 - transmission)).clamp(0, 1)


def _defocus(images: Tensor, depth: Tensor, aperture: float, quantile: float) -> Tensor:
    """Blur by the circle of confusion aperture · |d − d_focus| / d, the focus at a depth quantile.

    The reference splits depth in eight layers and blends them; ours blends, for each pixel, between
    two neighbouring levels of blur, which leaves no seams. Depth is shifted by a tenth of its range so
    that the nearest point keeps a finite circle.
    """
    scaled = normalise_depth(depth).to(images.dtype) + 0.1
    flat = scaled.flatten(1).sort(dim=1).values
    position = min(flat.shape[1] - 1, int(quantile * flat.shape[1]))
    focus = flat[:, position].view(-1, 1, 1, 1)
    circle = aperture * (scaled - focus).abs() / scaled
    circle = circle * (min(images.shape[-2:]) / PUBLISHED_SIDE)
    largest = aperture * (min(images.shape[-2:]) / PUBLISHED_SIDE) * 2.0
    level = (circle / largest).clamp(0, 1) * (FOCUS_LEVELS - 1)
    result = images * (1 - level).clamp(min=0)
    for i in range(1, FOCUS_LEVELS):
        weight = (1 - (level - i).abs()).clamp(min=0)
        result = result + weight * gaussian_filter(images, largest * i / (FOCUS_LEVELS - 1) / 2)
    return result.clamp(0, 1)


@register(
    severities=tuple({"aperture": s + 2.0} for s in range(1, 6)),
    envelope={"aperture": (0.0, 9.0)},
    inputs=("depth",),
    source=SOURCE,
)
def near_focus(images: Tensor, *, aperture: float, depth: Tensor) -> Tensor:
    """Focus on the nearest eighth of the scene; what lies behind is blurred."""
    return _defocus(images, depth, aperture, 1 / 16)


@register(
    severities=tuple({"aperture": s + 0.5} for s in range(1, 6)),
    envelope={"aperture": (0.0, 8.0)},
    inputs=("depth",),
    source=SOURCE,
)
def far_focus(images: Tensor, *, aperture: float, depth: Tensor) -> Tensor:
    """Focus on the farthest eighth of the scene; what lies in front is blurred."""
    return _defocus(images, depth, aperture, 15 / 16)


@register(
    severities=tuple({"divisor": d} for d in (2.4, 1.4, 0.9, 0.6, 0.4)),
    envelope={"divisor": (20.0, 0.3)},
    inputs=("depth",),
    source=SOURCE,
)
def flash(images: Tensor, *, divisor: float, depth: Tensor) -> Tensor:
    """Light at the camera: image + image · shading / divisor, clamped.

    The reference takes shading from a re-shading network; ours derives it: Lambert's cosine between
    the surface normal (from depth gradients) and the view axis, over the squared distance relative to
    the scene's nearest point.
    """
    near = depth.amin((1, 2, 3), keepdim=True).clamp(min=1e-6)
    relative = depth / near
    side = max(images.shape[-2:])
    padded = F.pad(relative, (1, 1, 1, 1), mode="replicate")
    slope_x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * (0.5 * side) / relative
    slope_y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * (0.5 * side) / relative
    cosine = (1 + slope_x.square() + slope_y.square()).rsqrt()
    shading = (cosine / relative.square()).to(images.dtype)
    return (images + images * shading / divisor).clamp(0, 1)


@register(
    severities=tuple({"bits": 6.0 - s} for s in range(1, 6)),
    envelope={"bits": (8.0, 1.0)},
    source=SOURCE,
    differentiable=False,
)
def color_quant(images: Tensor, *, bits: float) -> Tensor:
    """Keep the upper ``bits`` bits of eight in each channel (posterise)."""
    step = 2.0 ** (8 - int(bits))
    levels = (images * 255).round()
    return (torch.floor(levels / step) * step / 255).clamp(0, 1)


@register(
    severities=tuple({"range": r} for r in (0.60, 0.50, 0.40, 0.30, 0.20)),
    envelope={"range": (1.0, 0.1)},
    inputs=("seeds",),
    source=SOURCE,
)
def low_light(images: Tensor, *, range: float, seeds: Tensor) -> Tensor:
    """Scale the range to ``range`` with gamma 2, then sensor noise (Poisson–Gaussian, level 3)."""
    dark = images.square() * range
    return _sensor_noise(dark, 0.7 * 0.18 * 0.25, seeds)


@register(
    severities=tuple({"deviation": 0.7 * d} for d in (0.08, 0.12, 0.18, 0.26, 0.38)),
    envelope={"deviation": (0.0, 0.4)},
    inputs=("seeds",),
    source=SOURCE,
)
def iso_noise(images: Tensor, *, deviation: float, seeds: Tensor) -> Tensor:
    """Photon noise at 25 photons, then Gaussian noise of ``deviation``.

    Poisson's distribution is replaced by the Gaussian of its mean and variance: the same first two
    moments, and a counter-based generator can draw it on the device.
    """
    return _sensor_noise(images, deviation, seeds)


def _sensor_noise(images: Tensor, deviation: float, seeds: Tensor) -> Tensor:
    photons = 25.0 * (0.18 * 0.7 / max(deviation, 1e-6)) ** 2 if deviation < 0.05 else 25.0
    variance = images / photons + deviation**2
    noise = random.normal(seeds, images.shape[1:], dtype=images.dtype)
    return (images + variance.clamp(min=0).sqrt() * noise).clamp(0, 1)


def _mean_of_views(
    images: Tensor, depth: Tensor, shift_x: Tensor, shift_y: Tensor, zoom: Tensor, share: float
) -> Tensor:
    """Return the mean of the pictures that a moving camera sees over ``share`` of its path.

    ``shift_x``, ``shift_y`` (B,) are the movement of the nearest point over the whole path in widths
    of the image; farther points move in proportion to nearest depth / depth. ``zoom`` (B,) is the
    share of the frame that a point at nearest depth is zoomed to at the path's end. Views are sampled
    backwards, the depth of the target pixel standing for the source's; at a silhouette the background
    is stretched rather than inpainted.
    """
    count, _, height, width = images.shape
    near = depth.amin((1, 2, 3), keepdim=True).clamp(min=1e-6)
    parallax = (near / depth.clamp(min=1e-6)).to(images.dtype)[:, 0]
    x = (torch.arange(width, device=images.device, dtype=images.dtype) * 2 + 1) / width - 1
    y = (torch.arange(height, device=images.device, dtype=images.dtype) * 2 + 1) / height - 1
    result = torch.zeros_like(images)
    for step in range(STEPS):
        t = share * step / (STEPS - 1)
        scale = 1 + (zoom.view(-1, 1, 1) - 1) * t * parallax
        move = 2 * t * parallax
        grid_x = x.view(1, 1, -1) * scale + move * shift_x.view(-1, 1, 1)
        grid_y = y.view(1, -1, 1) * scale + move * shift_y.view(-1, 1, 1)
        grid = torch.stack([grid_x.expand(count, height, width), grid_y], dim=-1)
        result = result + F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return (result / STEPS).clamp(0, 1)


@register(
    severities=tuple({"frames": f} for f in (20.0, 30.0, 40.0, 50.0, 60.0)),
    envelope={"frames": (0.0, 70.0)},
    inputs=("depth", "seeds"),
    source=SOURCE,
)
def xy_motion_blur(images: Tensor, *, frames: float, depth: Tensor, seeds: Tensor) -> Tensor:
    """A camera that moves sideways: the mean of the first ``frames`` of a 60-frame path.

    Over the path the nearest point moves by 50 to 75 pixels horizontally, either way, and by −75 to 75
    vertically (at 512 pixels).
    """
    draw = random.uniform(seeds, (3,), dtype=images.dtype)
    sign = torch.where(draw[:, 0] < 0.5, -1.0, 1.0).to(images.dtype)
    horizontal = sign * (50 + 25 * draw[:, 1]) / PUBLISHED_SIDE
    vertical = (150 * draw[:, 2] - 75) / PUBLISHED_SIDE
    still = torch.ones_like(horizontal)
    return _mean_of_views(images, depth, horizontal, vertical, still, frames / 60)


@register(
    severities=tuple({"frames": f} for f in (20.0, 25.0, 30.0, 35.0, 38.0)),
    envelope={"frames": (0.0, 50.0)},
    inputs=("depth", "seeds"),
    source=SOURCE,
)
def z_motion_blur(images: Tensor, *, frames: float, depth: Tensor, seeds: Tensor) -> Tensor:
    """A camera that moves forward: the mean of the first ``frames`` of a 60-frame path.

    The path ends at a crop of 0.5 to 0.6 of the frame whose centre lies within 30 pixels (at 512).
    """
    draw = random.uniform(seeds, (3,), dtype=images.dtype)
    zoom = 0.5 + 0.1 * draw[:, 0]
    horizontal = (60 * draw[:, 1] - 30) / PUBLISHED_SIDE
    vertical = (60 * draw[:, 2] - 30) / PUBLISHED_SIDE
    return _mean_of_views(images, depth, horizontal, vertical, zoom, frames / 60)
