"""Blur of the 2D common corruptions: defocus, glass, motion, zoom and Gaussian blur.

The published corruptions work on 8-bit images and are rounded to 8 bits again; here nothing is rounded.
Lengths are those at 224 pixels and scale with the shorter side. All channels are treated alike: grey
pictures stay grey.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.reference import SOURCE, relative_size
from pytest_cliprobust.perturbations.filters import (
    batch_at_once,
    disk_filter,
    gaussian_filter,
    in_small_batches,
    motion_filter,
    on_host,
    sample_by_sample,
    tables,
)
from pytest_cliprobust.perturbations.registry import register

#: A chain of copies that is longer than 2^5 has probability below 2^-32 for each pixel.
_DOUBLINGS = 5


@register(
    severities=tuple(
        {"radius": r, "softness": s} for r, s in ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    ),
    envelope={"radius": (0.0, 12.0)},
    source=SOURCE,
)
@in_small_batches
def defocus_blur(images: Tensor, *, radius: float, softness: float = 0.5) -> Tensor:
    """Blur with the disk of a lens out of focus, its rim softened by a Gaussian; the edge is reflected.

    The disk is the mean over all offsets of at most ``radius`` pixels. Below one pixel, as on small
    images, the disk of radius 1 is mixed with the image in proportion.

    Differs from the reference at severities 4 and 5: there, blurring the kernel within a frame that the
    disk touches makes its sum 1.013 and 1.011, so the picture gets brighter. Ours sums to 1 always.

    Args:
        images: (B, 3, H, W) in [0, 1].
        radius: of the disk, in pixels at 224.
        softness: standard deviation of the Gaussian, in pixels at 224.
    """
    if radius <= 0:
        return images
    scale = relative_size(images)
    blurred = disk_filter(images, max(radius * scale, 1.0), softness * scale)
    if radius * scale < 1:
        blurred = torch.lerp(images, blurred, radius * scale)
    return blurred.clamp_(0, 1)


@register(
    severities=tuple(
        {"sigma": sigma, "reach": reach, "rounds": rounds}
        for sigma, reach, rounds in (
            (0.7, 1, 2),
            (0.9, 2, 1),
            (1.0, 2, 3),
            (1.1, 3, 2),
            (1.5, 4, 2),
        )
    ),
    envelope={"sigma": (0.0, 2.0), "reach": (0.0, 5.0)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def glass_blur(
    images: Tensor, *, sigma: float, reach: float, rounds: int = 3, seeds: Tensor
) -> Tensor:
    """Blur, let every pixel copy a random near one, ``rounds`` times, and blur again.

    The reference visits the pixels from the last to the first (a margin of ``reach`` is left out) and
    means to swap each with the one at an offset drawn from -reach to reach - 1 in x and y. Swapping
    two views of an array copies instead, in the published code as in its descendants: the visited
    pixel takes the other's value, which may be a copy itself. :func:`glass_sources` gives the same
    result as that loop for the same offsets, without the loop. The reference also truncates to 8 bits
    between the steps, which darkens by half a level; we do not.

    ``reach`` scales with the image and need not be whole: offsets are rounded down. Below one pixel, an
    offset is -1 with probability reach / 2, else 0.

    The published severities are not monotone in mean squared error: 2 has one round only, 3 has three.

    Args:
        images: (B, 3, H, W) in [0, 1].
        sigma: of both Gaussians, in pixels at 224.
        reach: largest offset, in pixels at 224.
        rounds: number of passes over the image.
        seeds: (B,) int64.
    """
    scale = relative_size(images)
    blurred = gaussian_filter(images, sigma * scale)
    if reach > 0 and rounds > 0:
        height, width = images.shape[-2:]
        sources = glass_sources(seeds, height, width, reach * scale, rounds)
        flat = blurred.flatten(2)
        index = sources[:, None].expand(-1, flat.shape[1], -1)
        blurred = flat.gather(2, index).view_as(images)
    return gaussian_filter(blurred, sigma * scale).clamp(0, 1)


def glass_sources(seeds: Tensor, height: int, width: int, reach: float, rounds: int) -> Tensor:
    """Return (B, H·W) int64: the pixel whose value each pixel has after ``rounds`` of copying."""
    margin = _margin(reach)
    inside = _inside(seeds, height, width, margin)[0]
    sources = None
    for turn in range(rounds):
        down, right = glass_offsets(seeds, height, width, reach, turn)
        step = _one_round((down * width).add_(right).mul_(inside), inside, chained=margin > 1)
        # A later round's sources are pixels of the round before.
        sources = step if sources is None else sources.gather(1, step)
    assert sources is not None
    return sources


def glass_offsets(
    seeds: Tensor, height: int, width: int, reach: float, turn: int
) -> tuple[Tensor, Tensor]:
    """Return the offsets down and to the right, (B, H·W) int64 each, of round ``turn``."""
    # 16 bits each of one draw, -32768 to 32767, and half a step to the middle of its cell.
    draw = random.bits(seeds, (height * width,), stream=turn)
    step = max(reach, 1.0) / 32768
    shift = 0.5 * step + max(1.0 - reach, 0.0)
    largest = _margin(reach) - 1
    halves = (draw >> 16, (draw << 16).bitwise_right_shift_(16))
    down, right = (
        half.to(torch.float32).mul_(step).add_(shift).floor_().clamp_(max=largest).to(torch.int64)
        for half in halves
    )
    return down, right


def _margin(reach: float) -> int:
    return max(math.ceil(reach - 1e-9), 1)


@tables
def _inside(height: int, width: int, margin: int) -> tuple[list[int]]:
    """1 for pixels that are visited, else 0, (H·W,)."""
    row = [int(margin < x <= width - margin) for x in range(width)]
    return (
        [v for y in range(height) for v in (row if margin < y <= height - margin else [0] * width)],
    )


def _one_round(offset: Tensor, inside: Tensor, *, chained: bool) -> Tensor:
    """Return each pixel's source (B, N) int64, from its offset (0 where it is not visited; overwritten).

    A pixel that copies from one visited before it gets what that one has copied: its source is found by
    following the offsets until they lead to a pixel not yet visited. Pointers are followed by doubling:
    each step replaces every pixel's pointer by its target's pointer.
    """
    here = torch.arange(offset.shape[1], device=offset.device)
    target = offset + here
    if not chained:
        return target
    # Pixels are visited from the last to the first: those behind have been visited.
    behind = inside.expand_as(target).gather(1, target).mul_(offset.clamp_(min=0))
    last, other = behind.add_(here), offset
    for _ in range(_DOUBLINGS):
        last, other = torch.gather(last, 1, last, out=other), last
    return torch.gather(target, 1, last, out=other)


@register(
    severities=tuple(
        {"radius": r, "sigma": s} for r, s in ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    ),
    envelope={"radius": (0.0, 25.0), "sigma": (0.0, 20.0)},
    inputs=("seeds",),
    source=SOURCE,
)
@sample_by_sample
def motion_blur(images: Tensor, *, radius: float, sigma: float, seeds: Tensor) -> Tensor:
    """Blur along a line at a random angle, uniform between -45° and 45° from the horizontal.

    The line starts at the pixel, has 2 · radius + 1 taps at a distance of one pixel, and fades as a
    Gaussian of ``sigma`` pixels; the edge is replicated (:func:`.filters.motion_filter`).

    Args:
        images: (B, 3, H, W) in [0, 1].
        radius: half the number of taps, at 224 pixels.
        sigma: standard deviation of the Gaussian, in pixels at 224.
        seeds: (B,) int64.
    """
    scale = relative_size(images)
    angle = random.uniform(seeds, (1,), -45.0, 45.0)[:, 0]
    taps = math.ceil(radius * scale - 1e-9)
    return motion_filter(images, taps, sigma * scale, angle).clamp(0, 1)


# The published lists of factors are 1, 1.01, … 1.11; … 1.15; 1, 1.02, … 1.2; … 1.24; 1, 1.03, … 1.3.
@register(
    severities=tuple(
        {"zoom": zoom, "layers": layers}
        for zoom, layers in ((1.11, 12), (1.15, 16), (1.2, 11), (1.24, 13), (1.3, 11))
    ),
    envelope={"zoom": (1.0, 1.4)},
    source=SOURCE,
)
@batch_at_once
def zoom_blur(images: Tensor, *, zoom: float, layers: int = 11) -> Tensor:
    """Average the image with copies of itself, enlarged by ``layers`` equidistant factors, 1 to ``zoom``.

    An enlarged copy is the central ceil(size / factor) pixels, resampled linearly, corner to corner, to
    round(size of the crop · factor) pixels, of which the first ``size`` are taken, as in the reference.

    Args:
        images: (B, 3, H, W) in [0, 1].
        zoom: the largest factor, at least 1; independent of the image's size.
        layers: number of copies, at least 2.
    """
    if zoom <= 1:
        return images
    learning = torch.is_grad_enabled() and images.requires_grad
    if on_host(images) and images.dtype == torch.float32 and not learning:
        return _zoom_on_host(images, zoom, layers)
    height, width = images.shape[-2:]
    # The first copy is the image itself.
    result = images * 2
    for layer in range(1, layers):
        top, rows, tall = _zoomed_part(height, zoom, layers, layer)
        left, columns, wide = _zoomed_part(width, zoom, layers, layer)
        copy = F.interpolate(
            images[..., top : top + rows, left : left + columns],
            size=(tall, wide),
            mode="bilinear",
            align_corners=True,
        )
        result = result.add_(copy[..., :height, :width])
    return result.mul_(1 / (layers + 1)).clamp_(0, 1).contiguous()


def _zoomed_part(size: int, zoom: float, layers: int, layer: int) -> tuple[int, int, int]:
    """Return the first of the pixels that a layer enlarges, how many they are, and how many they become."""
    factor = 1 + (zoom - 1) * layer / (layers - 1)
    # Factors carry rounding errors that must not add a pixel.
    length = math.ceil(size / factor - 1e-9)
    return (size - length) // 2, length, round(length * factor)


@tables
def _zoom_taps(size: int, zoom: float, layers: int) -> tuple[Any, ...]:
    """Return for each layer but the first the pixels before and after each place, and the part of the latter.

    In float32, as torch's own enlargement has it.
    """
    near, far, parts = [], [], []
    for layer in range(1, layers):
        start, length, enlarged = _zoomed_part(size, zoom, layers, layer)
        step = np.float32(length - 1) / np.float32(max(enlarged - 1, 1))
        places = np.arange(size, dtype=np.float32) * step
        first = np.minimum(np.floor(places), length - 1).astype(np.int64)
        near.append((first + start).tolist())
        far.append((np.minimum(first + 1, length - 1) + start).tolist())
        parts.append([[part] for part in (places - first).tolist()])
    return near, far, parts


def _zoom_on_host(images: Tensor, zoom: float, layers: int) -> Tensor:
    """Return what :func:`zoom_blur` does, along one side after the other.

    Whole rows are mixed, of the picture and of the picture turned over its diagonal, which is faster than to
    mix four pixels for each place. All pictures share the room for what is between.
    """
    height, width = images.shape[-2:]
    down, across = (_zoom_taps(images, size, zoom, layers) for size in (height, width))
    upright, copy, copy_too = (torch.empty_like(images[0]) for _ in range(3))
    turned, wide, wide_too = (images.new_empty((len(upright), width, height)) for _ in range(3))
    result = torch.empty_like(images)
    for image, place in zip(images, result, strict=True):
        turned.copy_(image.transpose(-2, -1))
        torch.mul(image, 2, out=place)
        for layer in range(layers - 1):
            _mix(turned, across, layer, wide, wide_too)
            upright.copy_(wide.transpose(-2, -1))
            place.add_(_mix(upright, down, layer, copy, copy_too))
        place.mul_(1 / (layers + 1)).clamp_(0, 1)
    return result


def _mix(
    source: Tensor, taps: tuple[Tensor, ...], layer: int, one: Tensor, other: Tensor
) -> Tensor:
    """Return what lies between two rows each of ``source`` (C, rows, …), in ``one``; ``other`` is room."""
    near, far, parts = (table[layer] for table in taps)
    torch.index_select(source, -2, near, out=one)
    torch.index_select(source, -2, far, out=other)
    return torch.lerp(one, other, parts, out=one)


@register(
    severities=tuple({"sigma": s} for s in (1.0, 2.0, 3.0, 4.0, 6.0)),
    envelope={"sigma": (0.0, 8.0)},
    source=SOURCE,
    version=2,
    extra=True,
)
@sample_by_sample
def gaussian_blur(images: Tensor, *, sigma: float) -> Tensor:
    """Blur with a Gaussian cut at four ``sigma``, the edge replicated.

    Args:
        images: (B, 3, H, W) in [0, 1].
        sigma: standard deviation, in pixels at 224.
    """
    return gaussian_filter(images, sigma * relative_size(images)).clamp(0, 1)
