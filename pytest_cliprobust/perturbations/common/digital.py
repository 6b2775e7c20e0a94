"""Digital artefacts of the 2D common corruptions: contrast, saturation, elastic, pixelate, JPEG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.fields import smooth_noise
from pytest_cliprobust.perturbations.common.reference import SOURCE, relative_size
from pytest_cliprobust.perturbations.filters import (
    batch_at_once,
    box_resize,
    gaussian_weights,
    in_small_batches,
    on_host,
    spatial_mean,
    straight_through,
    tables,
    working_dtype,
)
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"gain": g} for g in (0.4, 0.3, 0.2, 0.1, 0.05)),
    envelope={"gain": (1.0, 0.02)},
    source=SOURCE,
)
@batch_at_once
def contrast(images: Tensor, *, gain: float) -> Tensor:
    """Scale the distance of each value from its channel's mean by ``gain``: m + gain·(x − m)."""
    if not on_host(images):
        return torch.add(spatial_mean(images) * (1 - gain), images, alpha=gain).clamp_(0, 1)
    if torch.is_grad_enabled() and images.requires_grad:
        return torch.stack([_scaled(image, gain).clamp_(0, 1) for image in images])
    # Not sample_by_sample: written right into its place, a copy less.
    result = torch.empty_like(images)
    for image, place in zip(images, result, strict=True):
        _scaled(image, gain, out=place).clamp_(0, 1)
    return result


def _scaled(image: Tensor, gain: float, out: Tensor | None = None) -> Tensor:
    """Return a picture (3, H, W) with less contrast, in ``out`` if given."""
    rest = image.mean((-2, -1), keepdim=True) * (1 - gain)
    return torch.add(rest, image, alpha=gain, out=out)


@register(
    severities=tuple(
        {"gain": g, "lift": c}
        for g, c in ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
    ),
    envelope={"gain": (1.0, 20.0), "lift": (0.0, 0.2)},
    source=SOURCE,
    extra=True,
)
@in_small_batches
def saturate(images: Tensor, *, gain: float, lift: float = 0.0) -> Tensor:
    """Turn the saturation of HSV into ``gain`` · saturation + ``lift``, clamped to [0, 1].

    With value V (the largest channel), chroma C and the new saturation S' a channel x becomes
    V − (V − x)·S'·V/C. Grey has no hue; as in the usual HSV code it counts as red, so that ``lift``
    tints it. The published severities 1 and 2 desaturate, 3 to 5 saturate: they are not monotone in
    distortion.
    """
    red, green, blue = images.chunk(3, 1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # The chroma may grow up to the value (saturation 1); one of 8-bit images is at least 1/255.
    wanted = torch.minimum(chroma * gain + value * lift, value) if lift else (chroma * gain)
    if not lift and gain > 1:
        wanted = torch.minimum(wanted, value)
    grey = chroma < 1e-6
    ratio = wanted / chroma.clamp(min=1e-6)
    result = torch.addcmul(value, images - value, ratio)
    if lift:
        tinted = torch.cat((value, value - wanted, value - wanted), 1)
        result = torch.where(grey, tinted, result)
    return result.clamp_(0, 1)


#: ImageNet-C's own side is written 244 where :func:`elastic_transform` has its parameters.
_ELASTIC_SIDE = 244.0


@register(
    severities=tuple(
        {
            "displacement": _ELASTIC_SIDE * displacement,
            "sigma": _ELASTIC_SIDE * sigma,
            "affine": _ELASTIC_SIDE * affine,
        }
        for displacement, sigma, affine in (
            (2.0, 0.7, 0.1),
            (2.0, 0.08, 0.2),
            (0.05, 0.01, 0.02),
            (0.07, 0.01, 0.02),
            (0.12, 0.01, 0.02),
        )
    ),
    envelope={"displacement": (0.0, 45.0), "affine": (0.0, 24.4)},
    inputs=("seeds",),
    source=f"{SOURCE}, its own script; Simard et al. 2003",
    version=2,
)
@in_small_batches
def elastic_transform(
    images: Tensor,
    *,
    displacement: float,
    sigma: float = _ELASTIC_SIDE * 0.01,
    affine: float = 0.0,
    seeds: Tensor,
) -> Tensor:
    """Jolt the picture by an affine map, and shift each pixel by a smooth random field, bilinear.

    Pixel p shows what lies at A⁻¹(p + d(p)); edges are reflected. Both components of d are white noise,
    uniform within ± ``displacement`` pixels, under a Gaussian of ``sigma`` pixels cut at 3 sigma (Simard
    et al., "Best practices for convolutional neural networks", ICDAR 2003). A moves three corners of
    a square two thirds of the side wide by up to ``affine`` pixels along each axis. Lengths are for 224
    pixels.

    The severities are those of ImageNet-C's own script, which AlexNet's published errors, the baseline
    of mCE, belong to: the first two are affine jolts, the last three small ripples, so that they are not
    monotone in distortion. Those of ``imagecorruptions`` are :func:`.elastic_transform_imagecorruptions`.

    Differences: both steps are one interpolation; the field is drawn on a coarser grid where it is smooth
    enough, scaled to the variance that the formula has at 224 pixels; sigma follows the shorter side. A
    map that folds the picture to less than a twentieth of its area stops there.
    """
    if displacement <= 0 and affine <= 0:
        return images
    height, width = images.shape[-2:]
    scale = relative_size(images)
    down: Tensor = torch.arange(height, dtype=images.dtype, device=images.device).view(1, -1, 1)
    right: Tensor = torch.arange(width, dtype=images.dtype, device=images.device).view(1, 1, -1)
    if displacement > 0:
        field = smooth_noise(
            seeds, (height, width), sigma * scale, channels=2, border="symmetric", truncate=3.0
        )
        # The variance of a uniform variable is a third; the filter's gain is that at 224 pixels.
        field = field.mul_(displacement / math.sqrt(3) * _gain(sigma) * scale).to(images.dtype)
        right, down = right + field[:, 0], down + field[:, 1]
    if affine > 0:
        moved = random.uniform(seeds, (3, 2), -affine * scale, affine * scale, stream=7)
        right, down = _before_jolt(right, down, moved.to(images.dtype), (height, width))
    # From pixels to grid_sample's [-1, 1], whose ends are the outer edges of the pixels.
    shape = (images.shape[0], height, width)
    right = (right * (2 / width) + (1 / width - 1)).expand(shape)
    down = (down * (2 / height) + (1 / height - 1)).expand(shape)
    grid = torch.stack((right, down), -1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp_(0, 1)


#: Least share of its area that an affine jolt leaves of the picture.
_LEAST_AREA = 0.05


def _before_jolt(
    right: Tensor, down: Tensor, moved: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return where the places ``right``, ``down`` (1 or B, H, W) lay before an affine jolt.

    Args:
        right: x in pixels.
        down: y in pixels.
        moved: (B, 3, 2), how far the corners (+, +), (+, −) and (−, −) of a square about the picture's
            centre went; its half side is a third of the shorter side.
        size: (H, W) of the picture.
    """
    third = min(size) // 3
    first, second, last = moved[..., None, None].unbind(1)
    # The matrix I + J of the jolt: its columns are what a step of a pixel right, and down, becomes.
    along_x, along_y = (second - last) * (0.5 / third), (first - second) * (0.5 / third)
    a, c = along_x[:, 0] + 1, along_x[:, 1]
    b, d = along_y[:, 0], along_y[:, 1] + 1
    area = a * d - b * c
    sign = (area >= 0).to(area.dtype) * 2 - 1
    over = sign / area.abs().clamp(min=_LEAST_AREA)
    corner_x, corner_y = float(size[1] // 2 + third), float(size[0] // 2 + third)
    x, y = right - (first[:, 0] + corner_x), down - (first[:, 1] + corner_y)
    return (x * d - y * b) * over + corner_x, (y * a - x * c) * over + corner_y


def _gain(sigma: float) -> float:
    half = gaussian_weights(sigma, 3.0)
    return half[0] ** 2 + 2 * sum(w * w for w in half[1:])


def _box(size: int, target: int) -> list[list[int]]:
    """Return the positions that PIL's BOX filter averages for each target."""
    scale = size / target
    windows = []
    for i in range(target):
        # In PIL's own order of rounding: a pixel on a seam falls to the same side.
        centre = (i + 0.5) * scale
        low = max(int(centre - 0.5 * scale + 0.5), 0)
        high = min(int(centre + 0.5 * scale + 0.5), size)
        window = [j for j in range(low, high) if -0.5 < (j - centre + 0.5) * (1 / scale) <= 0.5]
        windows.append(window or [min(int(centre), size - 1)])
    return windows


@tables
def _bags(size: int, target: int, planes: int) -> tuple[Any, ...]:
    """Row numbers, first of each bag and weights: what ``embedding_bag`` needs for a box filter."""
    windows = [[j + p * size for j in w] for p in range(planes) for w in _box(size, target)]
    starts = [sum(len(w) for w in windows[:i]) for i in range(len(windows))]
    return [j for w in windows for j in w], starts, [1.0 / len(w) for w in windows for _ in w]


@tables
def _blocks(size: int, target: int) -> tuple[Any, ...]:
    """Weights (2·reach + 1, size) of the neighbours at −reach … reach: shrink and enlarge in one."""
    windows, blocks = _box(size, target), _nearest(target, size)
    reach = max(abs(j - i) for i in range(size) for j in windows[blocks[i]])
    weights = [[0.0] * size for _ in range(2 * reach + 1)]
    for i in range(size):
        for j in windows[blocks[i]]:
            weights[j - i + reach][i] = 1.0 / len(windows[blocks[i]])
    return (weights,)


def _nearest(size: int, target: int) -> list[int]:
    """Return the position that PIL's NEAREST filter takes for each target."""
    positions, place, step = [], 0.5 * size / target, size / target
    for _ in range(target):
        positions.append(min(int(place), size - 1))
        # Added up as PIL does: a position on a seam falls to the same side.
        place += step
    return positions


@tables
def _nearest_table(size: int, target: int) -> tuple[Any, ...]:
    return (_nearest(size, target),)


@register(
    severities=tuple({"share": s} for s in (0.6, 0.5, 0.4, 0.3, 0.25)),
    envelope={"share": (1.0, 0.15)},
    source=SOURCE,
)
def pixelate(images: Tensor, *, share: float) -> Tensor:
    """Shrink to ``share`` of the sides with a box filter and enlarge again without interpolation.

    As PIL's BOX and NEAREST, whose rounding to 8 bits after each step is left out.
    """
    dtype = working_dtype(images)
    height, width = images.shape[-2:]
    rows, columns = max(1, int(height * share)), max(1, int(width * share))
    if dtype != images.dtype or (torch.is_grad_enabled() and images.requires_grad):
        shrunk = _pixel_rows(images.to(dtype), rows, columns, False)
        return shrunk.index_select(-2, _nearest_table(images, rows, height)[0]).to(images.dtype)
    # Not sample_by_sample: written right into its place, a copy less.
    result = torch.empty_like(images, memory_format=torch.contiguous_format)
    for one, place in zip(*_parts(images, result), strict=True):
        shrunk = _pixel_rows(one, rows, columns, on_host(images))
        torch.index_select(shrunk, -2, _nearest_table(one, rows, height)[0], out=place)
    return result


def _pixel_rows(images: Tensor, rows: int, columns: int, host: bool) -> Tensor:
    """Return (B, C, rows, W): rows shrunk; columns shrunk and enlarged again."""
    batch, planes, height, width = images.shape
    if host:
        # One pass instead of one for each tap.
        bags, starts, shares = _bags(images, height, rows, planes)
        table = images.reshape(-1, width)
        result = F.embedding_bag(bags, table, starts, mode="sum", per_sample_weights=shares)
        result = result.view(batch, planes, rows, width)
    else:
        result = box_resize(images, (rows, width))
    if columns < width:
        # A gather along a row costs more than the few neighbours that a block has.
        weights = _blocks(images, width, columns)[0]
        reach = weights.shape[0] // 2
        padded = F.pad(result, (reach, reach, 0, 0))
        result = padded.narrow(-1, 0, width) * weights[0]
        for i in range(1, 2 * reach + 1):
            result = result.addcmul_(padded.narrow(-1, i, width), weights[i])
    return result.clamp(0, 1)


# --------------------------------------------------------------------------------------------------
# JPEG
# --------------------------------------------------------------------------------------------------

#: ITU-T T.81, annex K, tables K.1 and K.2, row by row.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
#: Pushes coefficients half-way between two steps away from zero, as libjpeg rounds them.
_AWAY = 1 + 2e-6
# Red and blue from luma differences: Cr = (R − Y) / 1.402, Cb = (B − Y) / 1.772 (JFIF).
_RED, _BLUE = 1.402, 1.772
_WEIGHTS = (0.299, 0.587, 0.114)


def _quantisation(table: tuple[tuple[int, ...], ...], quality: float) -> list[list[float]]:
    """Return the steps (8, 8) as libjpeg scales them, whole numbers from 1 to 255."""
    percent = math.floor(5000 / quality) if quality < 50 else 200 - 2 * quality
    return [
        [float(min(max(math.floor((step * percent + 50) / 100), 1), 255)) for step in row]
        for row in table
    ]


def _cosines() -> list[list[float]]:
    """Return the orthonormal DCT of 8 values as a matrix (frequency, position)."""
    return [
        [
            math.sqrt(0.125 if k == 0 else 0.25) * math.cos((2 * j + 1) * k * math.pi / 16)
            for j in range(8)
        ]
        for k in range(8)
    ]


@tables
def _transforms() -> tuple[Any, ...]:
    """Matrices: analysis (8, 8), synthesis (8, 8), and both with a halved grid: (8, 16), (16, 8).

    Analysis of a halved grid means pairs first; synthesis repeats linearly, weights 3/4 and 1/4, and
    takes the block's own edge value where the neighbouring block's is due: :func:`_mend` adds that.
    """
    cosines = _cosines()
    root = math.sqrt(_AWAY)
    analysis = [[root * c for c in row] for row in cosines]
    synthesis = [list(column) for column in zip(*cosines, strict=True)]
    halving = [[row[j // 2] * 0.5 for j in range(16)] for row in analysis]
    doubling = []
    for i in range(16):
        near, other = i // 2, min(max(i // 2 + (1 if i % 2 else -1), 0), 7)
        doubling.append([0.75 * synthesis[near][k] + 0.25 * synthesis[other][k] for k in range(8)])
    return analysis, synthesis, halving, doubling


@tables
def _steps(quality: float, luma_blocks: int, chroma_blocks: int) -> tuple[Any, ...]:
    """Inverse steps of luma (8, 8·blocks), its steps, and both of chroma (2, 1, 8, 8·blocks).

    The chroma's inverse steps turn Y − R and Y − B into Cr and Cb; steps lead to [0, 1].
    """
    luma = _quantisation(_LUMINANCE, quality)
    chroma = _quantisation(_CHROMINANCE, quality)
    steps = [row * luma_blocks for row in luma]
    factors = (-1 / _RED, -1 / _BLUE)
    forth = [[[f / s for s in row] * chroma_blocks for row in chroma] for f in factors]
    back = [[[s / 255 for s in row] * chroma_blocks for row in chroma] for _ in factors]
    return (
        [[1 / s for s in row] for row in steps],
        [[s / 255 for s in row] for row in steps],
        [[rows] for rows in forth],
        [[rows] for rows in back],
    )


def _parts(images: Tensor, result: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return both batches split into what is worked on at once: samples on the host, else all."""
    if on_host(images):
        rows = range(images.shape[0])
        return [images[i : i + 1] for i in rows], [result[i : i + 1] for i in rows]
    return (images,), (result,)


def _padded(images: Tensor) -> Tensor:
    """Return images (…, H, W) continued to multiples of 16."""
    below, beyond = -images.shape[-2] % 16, -images.shape[-1] % 16
    return F.pad(images, (0, beyond, 0, below), mode="replicate") if below or beyond else images


def _luma(red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    luma = (red * (255 * _WEIGHTS[0])).add_(green, alpha=255 * _WEIGHTS[1])
    return luma.add_(blue, alpha=255 * _WEIGHTS[2])


def _green(luma: Tensor, red: Tensor, blue: Tensor) -> Tensor:
    """Return green: the weighted sum of the channels is the luma."""
    green = torch.add(luma, red, alpha=-_RED * _WEIGHTS[0] / _WEIGHTS[1])
    return green.add_(blue, alpha=-_BLUE * _WEIGHTS[2] / _WEIGHTS[1])


def _along(images: Tensor, matrix: Tensor) -> Tensor:
    """Apply ``matrix`` (m, k) to each run of k columns of (B, H, W): (B, W·m/k, H), axes swapped."""
    taps = matrix.shape[-1]
    runs = torch.unflatten(images, -1, (-1, taps))
    total = runs[..., :1] * matrix[:, 0]
    for i in range(1, taps):
        total = torch.addcmul(total, runs[..., i : i + 1], matrix[:, i])
    return total.flatten(-2).transpose(-1, -2).contiguous()


def _mend(images: Tensor, planes: int) -> Tensor:
    """Let blocks of 16 rows of (B, planes·H, W) share their edges, weights 3/4 and 1/4, in place."""
    high = images.shape[1] // planes
    if high > 16:
        blocks = torch.unflatten(images, 1, (planes, high))[:, :, 15:-1]
        edges = torch.unflatten(blocks, 2, (-1, 16))[:, :, :, :2]
        edges.lerp_(edges.flip(3), 0.25)
    return images


def _codec(images: Tensor, constants: Sequence[Tensor]) -> Tensor:
    """Return images (B, 3, H, W) as JPEG gives them back; only steps whose bits never vary."""
    height, width = images.shape[-2:]
    analysis, synthesis, halving, doubling, luma_in, luma_out, chroma_in, chroma_out = constants
    red, green, blue = _padded(images).unbind(1)
    rows = red.shape[1]
    luma = _luma(red, green, blue)
    # One tall picture of both chroma planes: blocks never cross from one to the other.
    chroma = torch.cat([torch.sub(luma, c, alpha=255.0) for c in (red, blue)], 1)
    chroma = torch.unflatten(_along(_along(chroma, halving), halving), 1, (2, -1, 8))
    chroma = (chroma * chroma_in).round_().mul_(chroma_out).flatten(1, 3)
    chroma = _mend(_along(_mend(_along(chroma, doubling), 1), doubling), 2)
    luma = _along(_along(luma.round_().sub_(128.0), analysis), analysis)
    luma = torch.unflatten(luma, 1, (-1, 8))
    luma = (luma * luma_in).round_().mul_(luma_out).flatten(1, 2)
    luma = _along(_along(luma, synthesis), synthesis).add_(128 / 255)[:, :height, :width]
    red, blue = chroma[:, :height, :width], chroma[:, rows : rows + height, :width]
    channels = (luma.add(red, alpha=_RED), _green(luma, red, blue), luma.add(blue, alpha=_BLUE))
    return torch.stack(channels, 1).clamp_(0, 1)


def _blockwise(plane: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """What :func:`_along` does, for one plane (height, width) in any shape: (width·m/k, height)."""
    taps = matrix.shape[1]
    count = width // taps
    # The BLAS reads (blocks, taps, rows) where they lie.
    runs = plane.as_strided((count, taps, height), (taps, 1, width))
    return torch.bmm(matrix.expand(count, -1, -1), runs)


def _mend_plane(plane: Tensor, planes: int, height: int, width: int) -> Tensor:
    """What :func:`_mend` does, for ``planes`` of (height, width) in any shape."""
    if height > 16:
        shape = (planes, height // 16 - 1, 2, width)
        strides = (height * width, 16 * width, width, 1)
        edges = plane.as_strided(shape, strides, 15 * width)
        edges.lerp_(edges.flip(2), 0.25)
    return plane


def _codec_on_host(image: Tensor, constants: Sequence[Tensor], place: Tensor) -> None:
    """Write into ``place`` (3, H, W) what :func:`_codec` makes of one image, faster."""
    _, h, w = image.shape
    analysis, synthesis, halving, doubling, luma_in, luma_out, chroma_in, chroma_out = constants
    image = _padded(image[None])[0]
    height, width = image.shape[1:]
    red, green, blue = image.unbind(0)
    luma = _luma(red, green, blue)
    chroma = torch.empty((2, height, width), dtype=image.dtype)
    torch.sub(luma, image[::2], alpha=255.0, out=chroma)
    chroma = _blockwise(chroma, halving, 2 * height, width)
    chroma = _blockwise(chroma, halving, width // 2, 2 * height)
    chroma = chroma.view(2, -1, 8, width // 2).mul_(chroma_in).round_().mul_(chroma_out)
    chroma = _blockwise(chroma, doubling, height, width // 2)
    chroma = _mend_plane(chroma, 1, width, height)
    chroma = _blockwise(chroma, doubling, width, height)
    chroma = _mend_plane(chroma, 2, height, width)
    luma = _blockwise(luma.round_().sub_(128.0), analysis, height, width)
    luma = _blockwise(luma, analysis, width, height)
    luma = luma.mul_(luma_in).round_().mul_(luma_out)
    luma = _blockwise(luma, synthesis, height, width)
    luma = _blockwise(luma, synthesis, width, height).add_(128 / 255)
    luma = luma.view(height, width)[:h, :w]
    red, blue = chroma.view(2, height, width)[:, :h, :w].unbind(0)
    # Channel by channel, while the cache holds it.
    torch.clamp(torch.add(luma, red, alpha=_RED), 0, 1, out=place[0])
    torch.clamp(_green(luma, red, blue), 0, 1, out=place[1])
    torch.clamp(torch.add(luma, blue, alpha=_BLUE), 0, 1, out=place[2])


@register(
    severities=tuple({"quality": q} for q in (25.0, 18.0, 15.0, 10.0, 7.0)),
    envelope={"quality": (100.0, 4.0)},
    source=SOURCE,
)
def jpeg_compression(images: Tensor, *, quality: float) -> Tensor:
    """Compress as JPEG of ``quality`` (1 to 100, the scale of libjpeg) and decompress.

    The lossy steps of baseline JPEG as PIL's encoder and decoder take them (ITU-T T.81; JFIF): luma
    and two chroma planes, chroma at half the resolution (4:2:0, mean of 2 × 2), DCT of 8 × 8 blocks,
    rounding to multiples of the tables of annex K, scaled by quality as libjpeg does, inverse DCT,
    triangular interpolation of the chroma. Sides that are no multiples of 16 are continued by their
    last pixel. Luma is rounded to 8 bits before its transform as there; chroma and the result are
    not. Entropy coding loses nothing and is left out. Quality may be a fraction. The gradient is that
    of the identity (straight through).
    """
    with torch.no_grad():
        dtype = working_dtype(images)
        like = images.detach()[:1, :1, :1, :1].to(dtype)
        blocks = math.ceil(images.shape[-1] / 16)
        constants = (*_transforms(like), *_steps(like, quality, 2 * blocks, blocks))
        if on_host(images):
            # Not sample_by_sample: written right into its place, a copy less.
            result = torch.empty_like(images, dtype=dtype, memory_format=torch.contiguous_format)
            for image, place in zip(images, result, strict=True):
                _codec_on_host(image.to(dtype).contiguous(), constants, place)
        else:
            result = _codec(images.to(dtype), constants)
    return straight_through(result.to(images.dtype), images)
