"""How a picture was resized, squashed and decoded before it reaches the model: no noise, no blur of a lens.

Of the perturbations that VLM-RobustBench (2026) tried, resampling and geometry cost vision-language models
most, though people hardly see them. Severities are ours. All but :func:`aspect_squash` are about pixels at
any size, as resizes and decoders are: a larger picture loses less of a thing.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.filters import box_resize, in_small_batches, pad, tables
from pytest_cliprobust.perturbations.registry import register

SOURCE = "resampling, after VLM-RobustBench 2026 and Parmar et al. 2022; severities are ours"

Kernel = Literal["linear", "cubic"]


def _weight(kernel: Kernel, distance: float) -> float:
    """Return a kernel's weight at a distance in pixels; the cubic is that of Keys 1981, as in PIL."""
    x = abs(distance)
    if kernel == "linear":
        return max(1 - x, 0.0)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


@tables
def _windows(size: int, target: int, kernel: Kernel, antialias: bool) -> tuple[Any, ...]:
    """Return for each tap the positions and weights (taps, target) of a resize along one axis."""
    scale = size / target
    stretch = max(scale, 1.0) if antialias else 1.0
    reach = (1.0 if kernel == "linear" else 2.0) * stretch
    taps = math.ceil(reach) * 2 + 1
    positions: list[list[int]] = [[] for _ in range(taps)]
    weights: list[list[float]] = [[] for _ in range(taps)]
    for i in range(target):
        centre = (i + 0.5) * scale - 0.5
        first = math.floor(centre) - taps // 2 + 1
        window = [first + tap for tap in range(taps)]
        row = [_weight(kernel, (place - centre) / stretch) for place in window]
        if antialias:
            # As PIL: what lies beyond the edge does not count.
            row = [w if 0 <= p < size else 0.0 for w, p in zip(row, window, strict=True)]
        whole = sum(row)
        for tap, (place, weight) in enumerate(zip(window, row, strict=True)):
            positions[tap].append(min(max(place, 0), size - 1))
            weights[tap].append(weight / whole)
    used = [tap for tap in range(taps) if any(weights[tap])]
    return [positions[tap] for tap in used], [weights[tap] for tap in used]


def resized(
    images: Tensor, size: tuple[int, int], kernel: Kernel = "linear", *, antialias: bool = True
) -> Tensor:
    """Return images (B, C, *size), as PIL or ``interpolate`` resize them, row by row the same bits.

    Without ``antialias`` a kernel stays as wide as when enlarging, and what shrinks skips pixels.
    """
    for dim, target in ((-2, size[0]), (-1, size[1])):
        if images.shape[dim] == target:
            continue
        positions, weights = _windows(images, images.shape[dim], target, kernel, antialias)
        shape = (-1, 1) if dim == -2 else (-1,)
        result = images.index_select(dim, positions[0]) * weights[0].view(shape)
        for tap in range(1, len(positions)):
            taken = images.index_select(dim, positions[tap])
            result = torch.addcmul(result, taken, weights[tap].view(shape))
        images = result
    return images


def _smaller(images: Tensor, share: float) -> tuple[int, int]:
    height, width = images.shape[-2:]
    return max(round(height * share), 1), max(round(width * share), 1)


SHARES = (0.75, 0.5, 0.35, 0.25, 0.18)


@register(
    severities=tuple({"share": s} for s in SHARES),
    envelope={"share": (1.0, 0.12)},
    source=SOURCE,
)
@in_small_batches
def down_and_up(images: Tensor, *, share: float) -> Tensor:
    """Shrink to ``share`` of the sides and enlarge again, both by an antialiased cubic: a thumbnail."""
    shrunk = resized(images, _smaller(images, share), "cubic")
    height, width = images.shape[-2:]
    return resized(shrunk, (height, width), "cubic").clamp(0, 1)


@register(
    severities=tuple({"share": s} for s in SHARES),
    envelope={"share": (1.0, 0.12)},
    source=SOURCE,
)
@in_small_batches
def no_antialias(images: Tensor, *, share: float) -> Tensor:
    """Shrink to ``share`` of the sides as if enlarging (aliases and all), and enlarge again; bilinear.

    This is what a resize on tensors does by default, and OpenCV's does: every pixel of the smaller picture
    comes from four of the larger one, and the others are skipped.
    """
    shrunk = resized(images, _smaller(images, share), antialias=False)
    height, width = images.shape[-2:]
    return resized(shrunk, (height, width)).clamp(0, 1)


@register(
    severities=tuple({"softness": s} for s in (0.2, 0.4, 0.6, 0.8, 1.0)),
    envelope={"softness": (0.0, 1.2)},
    source=f"{SOURCE}; Mitchell & Netravali 1988",
)
@in_small_batches
def resize_filter(images: Tensor, *, softness: float) -> Tensor:
    """Resize to the same size by a cubic that does not go through its pixels.

    In Mitchell & Netravali's family ``softness`` is B: 0 are those filters that interpolate (bilinear,
    Catmull-Rom, all that PIL and OpenCV have by default), 1/3 is theirs, 1 is the B-spline, the softest in
    use. At the same size it is a blur of three pixels along each axis, B/6, 1 − B/3, B/6.
    """
    if softness <= 0:
        return images
    for dim, margins in ((-1, (0, 1)), (-2, (1, 0))):
        padded, size = pad(images, *margins, "replicate"), images.shape[dim]
        beside = padded.narrow(dim, 0, size) + padded.narrow(dim, 2, size)
        images = (images * (1 - softness / 3)).add(beside, alpha=softness / 6)
    return images.clamp(0, 1)


#: Rec. 601, which JPEG has, and Rec. 709, which video has: weights of red and blue in the luma.
_BT601, _BT709 = (0.299, 0.114), (0.2126, 0.0722)


def _differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return luma (B, 1, H, W) and Cb, Cr (B, 2, H, W), full range, about 0."""
    red, green, blue = images.chunk(3, 1)
    r, b = _BT601
    luma = red * r + green * (1 - r - b) + blue * b
    return luma, torch.cat(((blue - luma) * (0.5 / (1 - b)), (red - luma) * (0.5 / (1 - r))), 1)


def _colours(luma: Tensor, differences: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return red, green, blue (B, 3, H, W) of luma and differences under the luma's ``weights``."""
    r, b = weights
    cb, cr = differences.chunk(2, 1)
    red, blue = luma + cr * (2 * (1 - r)), luma + cb * (2 * (1 - b))
    green = (luma - red * r - blue * b) * (1 / (1 - r - b))
    return torch.cat((red, green, blue), 1)


@register(
    severities=tuple({"factor": f} for f in (2.0, 4.0, 6.0, 10.0, 16.0)),
    envelope={"factor": (1.0, 24.0)},
    source=SOURCE,
)
@in_small_batches
def chroma_subsampling(images: Tensor, *, factor: float) -> Tensor:
    """Keep one pixel of colour for ``factor`` × ``factor`` of brightness (2: 4:2:0), enlarged linearly."""
    if factor <= 1:
        return images
    height, width = images.shape[-2:]
    luma, differences = _differences(images)
    shrunk = box_resize(differences, _smaller(images, 1 / factor))
    return _colours(luma, resized(shrunk, (height, width)), _BT601).clamp(0, 1)


@register(
    severities=(
        {"blocks": 1.0, "matrix": 0.0, "range": 0.0},
        {"blocks": 1.0, "matrix": 0.5, "range": 0.0},
        {"blocks": 1.0, "matrix": 1.0, "range": 0.0},
        {"blocks": 1.0, "matrix": 1.0, "range": 0.5},
        {"blocks": 1.0, "matrix": 1.0, "range": 1.0},
    ),
    envelope={"blocks": (0.0, 1.0), "matrix": (0.0, 1.0), "range": (0.0, 1.0)},
    source=SOURCE,
)
@in_small_batches
def decoder_difference(
    images: Tensor, *, blocks: float = 1.0, matrix: float, range: float
) -> Tensor:
    """Decode as another decoder would, each difference by a share of 0 to 1.

    Args:
        images: (B, 3, H, W).
        blocks: colour at half the resolution (4:2:0) is repeated, not interpolated.
        matrix: YCbCr of Rec. 601 is taken for that of Rec. 709.
        range: limited range, 16 to 235, is taken for full range: pale blacks, grey whites.
    """
    height, width = images.shape[-2:]
    luma, differences = _differences(images)
    shrunk = box_resize(differences, ((height + 1) // 2, (width + 1) // 2))
    repeated = shrunk.repeat_interleave(2, -1)[..., :width].repeat_interleave(2, -2)
    differences = torch.lerp(differences, repeated[..., :height, :], blocks)
    decoded = _colours(luma, differences, _BT601)
    decoded = torch.lerp(decoded, _colours(luma, differences, _BT709), matrix)
    pale = decoded * (219 / 255) + 16 / 255
    return torch.lerp(decoded, pale, range).clamp(0, 1)


@register(
    severities=tuple({"share": s} for s in (0.9, 0.8, 0.7, 0.6, 0.5)),
    envelope={"share": (1.0, 0.4)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def aspect_squash(images: Tensor, *, share: float, seeds: Tensor) -> Tensor:
    """Show the middle ``share`` of one side, stretched to all of it: wrong proportions, as of a squash.

    A squash of the whole would need what lies beyond the frame. The sample's seed says which side.
    """
    height, width = images.shape[-2:]
    sideways = (random.uniform(seeds, (1,)) < 0.5).to(images.dtype)
    across, along = (1 - sideways * (1 - share)), (share + sideways * (1 - share))
    x, y = (
        (torch.arange(size, dtype=images.dtype, device=images.device) + 0.5) * (2 / size) - 1
        for size in (width, height)
    )
    shape = (len(images), height, width)
    grid = torch.stack(
        ((x * across)[:, None].expand(shape), (y * along)[:, :, None].expand(shape)), dim=-1
    )
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False).clamp(0, 1)
