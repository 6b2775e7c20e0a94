"""Occlusion: another object, or a plain patch, in front of the image.

ImageNet-X (Idrissi et al. 2022) names ``object_blocking`` and ``partial_view`` among the factors that
classifiers fail on. Here the factor is dosed: the share of the object (of the image, where no object
mask is known) that is hidden is the severity, and it is *solved for*, not merely sampled.

Coverage is counted in integers (mask and alpha in 255 steps), because integer sums do not depend on
the order of summation: the solved scale, hence the pixels, are the same in every batch. For the same
reason the geometry uses only the arithmetic that IEEE 754 rounds exactly (no sine, no exponential).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.filters import in_small_batches
from pytest_cliprobust.perturbations.registry import register

#: The share of the object that severities 1 to 5 hide.
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5)

# Coverage is solved for on every k-th pixel, k such that about this many remain along a side.
_WORKING_SIDE = 96
# Sizes on screen, in units of the longer image side, that the search tries before it bisects.
_LADDER = tuple(0.04 * 2.0 ** (step / 2) for step in range(14))
_BISECTIONS = 9
_MARGIN = 8  # transparent pixels around a sticker: room for the widest prefilter below


def premultiplied(stickers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return stickers (B, 4, h, w), straight RGBA in [0, 1], as (B, 4, h+16, w+16), premultiplied.

    Colour times alpha is what may be interpolated without fringes; the transparent margin of 8 pixels
    is room for :func:`prefilter`.
    """
    stickers = stickers.to(dtype)
    alpha = stickers[:, 3:]
    return F.pad(torch.cat((stickers[:, :3] * alpha, alpha), dim=1), (_MARGIN,) * 4)


def _smooth(image: Tensor, step: int, dim: int) -> Tensor:
    """Return ``image`` under the kernel (1, 2, 1)/4 with taps ``step`` apart, along ``dim``."""
    inner = image.shape[dim] - step
    result = image * 0.5
    result.narrow(dim, step, inner).add_(image.narrow(dim, 0, inner), alpha=0.25)
    result.narrow(dim, 0, inner).add_(image.narrow(dim, step, inner), alpha=0.25)
    return result


def prefilter(stickers: Tensor, scale: Tensor) -> Tensor:
    """Return stickers blurred as much as drawing them ``scale`` (B,) times as large asks for.

    Bilinear sampling aliases when a sticker shrinks. A cascade of B3-like kernels with doubling
    spacing stands in for a mipmap; between its levels (shrinking 1, 2, 4, 8 times) it interpolates.
    """
    shrink = (1 / scale.clamp(min=1e-6)).clamp(1.0, 8.0)[:, None, None, None]
    result, level = stickers, stickers
    for exponent in range(3):
        finer = 2.0**exponent
        for dim in (-1, -2):
            level = _smooth(level, 2**exponent, dim)
        weight = ((shrink - finer) / finer).clamp(0.0, 1.0)
        result = (level - result).mul_(weight).add_(result)
    return result


@dataclass(frozen=True)
class StickerGrid:
    """Where a sticker lies on the image, but for its scale.

    Attributes:
        direction: (B, 2, h, w), where each pixel of the image lies in the sticker relative to its
            anchor, for a scale of 1, in units of half the sticker.
        offset: (B, 2, 1, 1), where the anchor lies in the sticker, -1 to 1.
    """

    direction: Tensor
    offset: Tensor

    def at(self, scale: Tensor) -> Tensor:
        """Return the sampling grid (B, h, w, 2) for ``scale`` (B,) image pixels per sticker pixel."""
        places = (self.direction * (1 / scale)[:, None, None, None]).add_(self.offset)
        return places.permute(0, 2, 3, 1)

    def every(self, stride: int) -> StickerGrid:
        """Return the grid of every ``stride``-th pixel only, from ``stride // 2`` on."""
        start = stride // 2
        kept = self.direction[..., start::stride, start::stride].contiguous()
        return StickerGrid(kept, self.offset)


def sticker_grid(
    *,
    size: tuple[int, int],
    sticker_size: tuple[int, int],
    centre: Tensor,
    anchor: Tensor,
    half_tangent: Tensor,
    mirror: Tensor,
) -> StickerGrid:
    """Return the grid that draws stickers.

    Args:
        size: (H, W) of the image.
        sticker_size: (h, w) of the sticker, margins included.
        centre: (B, 2), x and y in the image, in pixels, where the anchor comes to lie.
        anchor: (B, 2), x and y in the sticker, in pixels.
        half_tangent: (B,) tangent of half the angle of rotation (so that sine and cosine are rational).
        mirror: (B,) +1, or -1 for a sticker mirrored left to right.
    """
    dtype, device = centre.dtype, centre.device
    y = torch.arange(size[0], device=device, dtype=dtype) + 0.5
    x = torch.arange(size[1], device=device, dtype=dtype) + 0.5
    dx = (x[None, :] - centre[:, :1])[:, None, :]
    dy = (y[None, :] - centre[:, 1:])[:, :, None]
    square = half_tangent * half_tangent
    cosine = (1 - square) / (1 + square)
    sine = 2 * half_tangent / (1 + square)
    height, width = sticker_size
    across, down = mirror * (2 / width), 2 / height
    u = dx * (cosine * across)[:, None, None] + dy * (sine * across)[:, None, None]
    v = dy * (cosine * down)[:, None, None] - dx * (sine * down)[:, None, None]
    offset = torch.stack((anchor[:, 0] * (2 / width) - 1, anchor[:, 1] * (2 / height) - 1), dim=1)
    return StickerGrid(torch.stack((u, v), dim=1), offset[:, :, None, None])


def paste(images: Tensor, stickers: Tensor, grid: Tensor, opacity: float) -> Tensor:
    """Return images (B, 3, H, W) with premultiplied stickers (B, 4, h, w) over them, in [0, 1].

    Both have the same dtype. The stickers have gone through :func:`premultiplied` and :func:`prefilter`.
    """
    drawn = F.grid_sample(
        stickers, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    drawn = drawn.mul_(opacity).clamp_(0, 1)
    over = images * (1 - drawn[:, 3:])
    return over.add_(drawn[:, :3]).clamp_(0, 1)


def _integers(weights: Tensor) -> Tensor:
    """Return weights in [0, 1] as integers 0 to 255 (int32)."""
    return (weights.clamp(0, 1) * 255 + 0.5).to(torch.int32)


def _object(images: Tensor, mask: Tensor | None, stride: int) -> Tensor:
    """Return the object on the working grid, (B, h, w) int32 of 0 to 255.

    Without a mask, or where a mask is empty, the whole image counts as the object.
    """
    batch, _, height, width = images.shape
    start = stride // 2
    rows = len(range(start, height, stride))
    columns = len(range(start, width, stride))
    everything = torch.full((batch, rows, columns), 255, dtype=torch.int32, device=images.device)
    if mask is None:
        return everything
    inside = _integers(mask[:, 0, start::stride, start::stride].to(torch.float32))
    empty = inside.sum(dim=(1, 2), keepdim=True) == 0
    return torch.where(empty, everything, inside)


def _stride(images: Tensor) -> int:
    return max(1, round(max(images.shape[-2:]) / _WORKING_SIDE))


def _centroid(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centroid, x and y (B,) each, of integer weights (B, h, w), in cells from 0."""
    total = weights.sum(dim=(1, 2)).clamp(min=1).to(torch.float32)
    columns = torch.arange(weights.shape[2], device=weights.device)
    rows = torch.arange(weights.shape[1], device=weights.device)
    x = (weights.sum(dim=1) * columns).sum(dim=1).to(torch.float32) / total
    y = (weights.sum(dim=2) * rows).sum(dim=1).to(torch.float32) / total
    return x, y


def _random_cell(weights: Tensor, seeds: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    """Return x and y (B,) of a cell drawn in proportion to integer weights (B, h, w)."""
    flat = weights.flatten(1).to(torch.int64)
    cumulated = flat.cumsum(dim=1)
    threshold = random.uniform(seeds, (1,), stream=stream) * cumulated[:, -1:].to(torch.float32)
    index = (cumulated <= threshold.to(torch.int64)).sum(dim=1).clamp(max=flat.shape[1] - 1)
    x = index % weights.shape[2]
    y = torch.div(index, weights.shape[2], rounding_mode="floor")
    return x.to(torch.float32), y.to(torch.float32)


def _focus(inside: Tensor, seeds: Tensor, stride: int) -> Tensor:
    """Return (B, 2): halfway between the object's centroid and a random point of it, in pixels.

    Halfway, since an occluder that starts at the object's rim must grow far beyond it to hide half.
    """
    centroid = torch.stack(_centroid(inside), dim=1)
    point = torch.stack(_random_cell(inside, seeds, stream=0), dim=1)
    return (centroid + point) * (0.5 * stride) + (stride // 2 + 0.5)


@register(
    severities=tuple({"coverage": c} for c in COVERAGES),
    envelope={"coverage": (0.0, 0.6)},
    inputs=("seeds", "occluder"),
    optional=("mask",),
    source="factor object_blocking of ImageNet-X (Idrissi et al. 2022); coverage 10 to 50 % is ours",
    version=2,
)
@in_small_batches
def occlusion(
    images: Tensor,
    *,
    coverage: float,
    seeds: Tensor,
    occluder: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Hide a share of the object behind another object.

    The occluder lies at a seeded point of the object, mirrored and tilted (up to 20 degrees) at
    random, and is scaled until it hides the wanted share: sizes from 4 % to 360 % of the image's
    longer side are tried in steps of √2, and the first interval that brackets the share is bisected.
    The same sample keeps point, tilt and mirroring at every severity; the occluder only grows. The
    share is met to about one per cent. An occluder that can never hide as much (a thin outline) takes
    the size at which it hides most.

    Args:
        images: (B, 3, H, W) in [0, 1].
        coverage: share of the object to hide, 0 to 1; 0 is the identity.
        seeds: (B,) int64.
        occluder: (B, 4, h, w) RGBA, straight alpha, in [0, 1]; any size.
        mask: (B, 1, H, W) in [0, 1], the object; without it (or where it is empty) the share is that
            of the whole image.
    """
    if coverage <= 0:
        return images
    height, width = images.shape[-2:]
    dtype = images.dtype
    stride = _stride(images)
    inside = _object(images, mask, stride)
    needed = inside.sum(dim=(1, 2)).to(torch.float32) * (coverage * 255)

    stickers = premultiplied(occluder, dtype)
    sticker_size = (stickers.shape[2], stickers.shape[3])
    anchor = torch.stack(_centroid(_integers(stickers[:, 3].to(torch.float32))), dim=1) + 0.5
    choice = random.uniform(seeds, (2,), -1.0, 1.0, stream=1)
    mirror = torch.where(choice[:, 0] < 0, -1.0, 1.0)
    half_tangent = choice[:, 1] * 0.1763  # tangent of 10 degrees: a tilt of up to 20
    centre = _focus(inside, seeds, stride)

    grid = sticker_grid(
        size=(height, width),
        sticker_size=sticker_size,
        centre=centre.to(dtype),
        anchor=anchor.to(dtype),
        half_tangent=half_tangent.to(dtype),
        mirror=mirror.to(dtype),
    )
    alpha = stickers[:, 3:].detach()
    coarse = grid.every(stride)

    def hidden(scale: Tensor) -> Tensor:
        drawn = F.grid_sample(
            alpha, coarse.at(scale.to(dtype)), padding_mode="zeros", align_corners=False
        )
        return (_integers(drawn[:, 0]) * inside).sum(dim=(1, 2)).to(torch.float32)

    unit = max(height, width) / (max(sticker_size) - 2 * _MARGIN)
    ladder = [torch.full_like(centre[:, 0], step * unit) for step in _LADDER]
    covered = torch.stack([hidden(scale) for scale in ladder])
    scales = torch.stack([torch.full_like(ladder[0], 1e-3 * unit), *ladder])
    enough = covered >= needed
    first = enough.to(torch.int32).argmax(dim=0)
    low = scales.gather(0, first[None])[0]
    high = scales.gather(0, first[None] + 1)[0]
    for _ in range(_BISECTIONS):
        middle = (low + high) * 0.5
        over = hidden(middle) >= needed
        high = torch.where(over, middle, high)
        low = torch.where(over, low, middle)
    best = scales.gather(0, covered.argmax(dim=0)[None] + 1)[0]
    scale = torch.where(enough.any(dim=0), high, best)
    scale = scale.to(dtype)
    return paste(images, prefilter(stickers, scale), grid.at(scale), 1.0)


def _band(share: Tensor, position: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return how much of each pixel (B, n) along an axis of ``count`` a band covers, in [0, 1].

    The band is ``share`` (B,) of the axis long; its ends divide the rest as ``position`` (B,) says,
    so that it contains the point ``position`` and longer bands contain shorter ones.
    """
    length = share.to(dtype) * count
    start = (position.to(dtype) * (count - length))[:, None]
    pixel = torch.arange(count, device=share.device, dtype=dtype)[None, :]
    begin = torch.maximum(pixel, start)
    end = torch.minimum(pixel + 1, start + length[:, None])
    return (end - begin).clamp(0, 1)


@register(
    severities=tuple({"coverage": c} for c in COVERAGES),
    envelope={"coverage": (0.0, 0.6)},
    inputs=("seeds",),
    optional=("mask",),
    source="Random Erasing (Zhong et al. 2020): aspect 0.3 to 1/0.3; coverage 10 to 50 % is ours",
)
@in_small_batches
def patch_occlusion(
    images: Tensor,
    *,
    coverage: float,
    value: float = 0.5,
    seeds: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Hide a share of the image, or of the object, behind one plain rectangle.

    The aspect ratio is uniform in (0.3, 1/0.3) as in Random Erasing (a side that would leave the
    image is cut and the other grows); the position is seeded, and a larger share contains a smaller.
    Edges are anti-aliased, so that the area is exact. With a mask, the rectangle's position is that
    of a point of the object, and its area is bisected until it hides the share of the object.

    Args:
        images: (B, 3, H, W) in [0, 1].
        coverage: share to hide, 0 to 1; 0 is the identity.
        value: grey value of the patch, 0 to 1.
        seeds: (B,) int64.
        mask: (B, 1, H, W) in [0, 1], the object.
    """
    if coverage <= 0:
        return images
    height, width = images.shape[-2:]
    dtype = images.dtype
    draws = random.uniform(seeds, (3,), stream=2)
    aspect = 0.3 + draws[:, 0] * (1 / 0.3 - 0.3)

    def sides(area: Tensor) -> tuple[Tensor, Tensor]:
        across = torch.maximum((area * aspect).sqrt(), area).clamp(max=1.0)
        return (area / across).clamp(max=1.0), across

    area = torch.full_like(aspect, min(coverage, 1.0))
    x, y = draws[:, 1], draws[:, 2]
    if mask is not None:
        inside = _object(images, mask, 1)
        total = inside.sum(dim=(1, 2)).to(torch.float32)
        needed = total * (coverage * 255)
        whole = total == float(inside.shape[1] * inside.shape[2] * 255)
        centre = _focus(inside, seeds, 1)
        x = torch.where(whole, x, centre[:, 0] * (1 / width))
        y = torch.where(whole, y, centre[:, 1] * (1 / height))
        low, high = torch.zeros_like(area), torch.ones_like(area)
        for _ in range(16):
            middle = (low + high) * 0.5
            down, across = sides(middle)
            rows = _integers(_band(down, y, height, torch.float32))[:, :, None]
            columns = _integers(_band(across, x, width, torch.float32))[:, None, :]
            # (x + 1) * 257 >> 16 is x // 255 up to 255², without a slow division.
            hidden = (rows * columns).add_(1).mul_(257).bitwise_right_shift_(16).mul_(inside)
            total_hidden = hidden.sum(dim=2, dtype=torch.int32).sum(dim=1)
            over = total_hidden.to(torch.float32) >= needed
            high = torch.where(over, middle, high)
            low = torch.where(over, low, middle)
        area = torch.where(whole, area, high)
    down, across = sides(area)
    rows = _band(down, y, height, dtype)[:, None, :, None]
    columns = _band(across, x, width, dtype)[:, None, None, :]
    cover = rows * columns
    result: Tensor = images * (1 - cover) + cover * value
    return result.clamp(0, 1)
