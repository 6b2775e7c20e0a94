"""Changes of view: the camera turns, zooms, or moves.

The corruptions of Kar et al. (CVPR 2022, "view changes": field of view, roll, pitch, yaw) are rendered
from scanned scenes. From a single picture with depth, turning and zooming are exact where the old frame
reaches; moving the camera shows parallax, and what it uncovers is filled from behind (:mod:`.warping`).
Beyond the old frame its edge is continued. The severities are ours: no published set has them for
single images.

Every change goes one way or the other: ``direction`` is +1 or −1, or None, when it is drawn for each
sample from its seed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.depth.maps import focal_length, relative, usable
from pytest_cliprobust.perturbations.filters import batch_at_once, gaussian_filter, in_small_batches
from pytest_cliprobust.perturbations.registry import register
from pytest_cliprobust.perturbations.warping import Movement, moved_view, turned_view

SOURCE = "view changes of Kar et al. 2022, by depth-based warping; severities are ours"


def _signs(images: Tensor, seeds: Tensor, direction: float | None) -> Tensor:
    """Return (B,) ±1."""
    if direction is None:
        draw = random.uniform(seeds, (1,), dtype=images.dtype)[:, 0]
        return (draw < 0.5).to(images.dtype) * -2 + 1
    sign = math.copysign(1.0, direction)
    return torch.full((images.shape[0],), sign, dtype=images.dtype, device=images.device)


def _turned(
    images: Tensor,
    degrees: float,
    axes: tuple[int, int],
    seeds: Tensor,
    direction: float | None,
    focal: Tensor | float | None = None,
) -> Tensor:
    """Turn the camera from one of its axes (0: right, 1: down, 2: forward) towards another."""
    if degrees == 0:
        return images
    signs = _signs(images, seeds, direction)
    # A turn about the optical axis is the same at every focal length.
    length = torch.ones_like(signs) if 2 not in axes else focal_length(images, focal)
    sine = signs * math.sin(math.radians(degrees))
    cosine = torch.full_like(sine, math.cos(math.radians(degrees)))
    zero, one = torch.zeros_like(sine), torch.ones_like(sine)
    first, second = axes
    rows = [[one if i == j else zero for j in range(3)] for i in range(3)]
    rows[first][first] = rows[second][second] = cosine
    rows[first][second], rows[second][first] = sine, -sine
    rotation = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    return turned_view(images, rotation, length, length).clamp_(0, 1)


@register(
    severities=tuple({"factor": f} for f in (1.15, 1.3, 1.45, 1.6, 1.75)),
    envelope={"factor": (1.0, 2.0)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def view_field_of_view(
    images: Tensor, *, factor: float, seeds: Tensor, direction: float | None = None
) -> Tensor:
    """A wider (+1) or narrower (−1) lens at the same place: the frame covers ``factor`` times as much
    in each direction, or as little.
    """
    if factor <= 1:
        return images
    signs = _signs(images, seeds, direction)
    wide = (signs > 0).to(images.dtype)
    # A wider lens shrinks the picture: what the new pixels cannot hold is blurred away before.
    soft = gaussian_filter(images, 0.5 * math.sqrt(factor * factor - 1))
    images = images + (soft - images) * wide.view(-1, 1, 1, 1)
    focal = torch.ones_like(signs)
    straight = torch.eye(3, dtype=images.dtype, device=images.device)
    rotation = straight.expand(images.shape[0], 3, 3)
    zoomed = factor + (1 / factor - factor) * wide
    return turned_view(images, rotation, focal, zoomed).clamp(0, 1)


@register(
    severities=tuple({"degrees": d} for d in (8.0, 16.0, 24.0, 32.0, 40.0)),
    envelope={"degrees": (0.0, 60.0)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def view_roll(
    images: Tensor, *, degrees: float, seeds: Tensor, direction: float | None = None
) -> Tensor:
    """The camera turns about its optical axis, clockwise (+1; the picture turns the other way)."""
    return _turned(images, degrees, (0, 1), seeds, direction)


@register(
    severities=tuple({"degrees": d} for d in (3.0, 6.0, 9.0, 12.0, 15.0)),
    envelope={"degrees": (0.0, 25.0)},
    inputs=("seeds",),
    optional=("focal",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def view_pitch(
    images: Tensor,
    *,
    degrees: float,
    seeds: Tensor,
    focal: Tensor | float | None = None,
    direction: float | None = None,
) -> Tensor:
    """The camera looks further down (+1) or up (−1). ``focal``: see :func:`.maps.focal_length`."""
    return _turned(images, degrees, (2, 1), seeds, direction, focal)


@register(
    severities=tuple({"degrees": d} for d in (3.0, 6.0, 9.0, 12.0, 15.0)),
    envelope={"degrees": (0.0, 25.0)},
    inputs=("seeds",),
    optional=("focal",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def view_yaw(
    images: Tensor,
    *,
    degrees: float,
    seeds: Tensor,
    focal: Tensor | float | None = None,
    direction: float | None = None,
) -> Tensor:
    """The camera looks to the right (+1) or left (−1). ``focal``: see :func:`.maps.focal_length`."""
    return _turned(images, degrees, (2, 0), seeds, direction, focal)


@register(
    severities=tuple({"shift": s} for s in (0.04, 0.08, 0.12, 0.16, 0.2)),
    envelope={"shift": (0.0, 0.25)},
    inputs=("depth", "seeds"),
    source=SOURCE,
    version=2,
)
@batch_at_once
def view_translation(
    images: Tensor,
    *,
    shift: float,
    depth: Tensor,
    seeds: Tensor,
    angle: float = 0.0,
    direction: float | None = None,
) -> Tensor:
    """The camera steps to the right (+1) or left (−1), without turning.

    Args:
        images: (B, 3, H, W).
        shift: how far the nearest point in the image's middle half moves, in shorter image sides.
        depth: (B, 1, H, W).
        seeds: (B,).
        angle: degrees by which the step leads downwards (90: straight down, or up).
        direction: +1, −1, or drawn.
    """
    if shift == 0:
        return images
    signs = _signs(images, seeds, direction)
    side = min(images.shape[-2:])
    radians = math.radians(angle)
    movement = Movement(
        across=signs * (shift * side * math.cos(radians)),
        down=signs * (shift * side * math.sin(radians)),
    )
    distance = relative(usable(depth, images))
    return moved_view(images, distance, movement, reach=shift * side)


@register(
    severities=tuple({"share": s} for s in (0.06, 0.12, 0.18, 0.24, 0.3)),
    envelope={"share": (0.0, 0.4)},
    inputs=("depth", "seeds"),
    source=SOURCE,
    version=2,
)
@batch_at_once
def view_dolly(
    images: Tensor,
    *,
    share: float,
    depth: Tensor,
    seeds: Tensor,
    direction: float | None = None,
) -> Tensor:
    """The camera steps forward (+1) or back (−1), by ``share`` of the distance to the nearest point in
    the image's middle half.
    """
    if share == 0:
        return images
    signs = _signs(images, seeds, direction)
    still = torch.zeros_like(signs)
    movement = Movement(across=still, down=still, approach=signs * share)
    distance = relative(usable(depth, images))
    reach = share * max(images.shape[-2:]) / 4
    return moved_view(images, distance, movement, reach=reach)
