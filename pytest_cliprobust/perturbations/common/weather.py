"""Weather of the 2D common corruptions: snow, frost, fog, brightness, spatter."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.fields import smooth_noise
from pytest_cliprobust.perturbations.common.reference import SOURCE, relative_size
from pytest_cliprobust.perturbations.filters import (
    batch_at_once,
    gaussian_filter,
    gaussian_weights,
    in_small_batches,
    motion_filter,
    on_host,
    pad,
    tables,
)
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple(
        {
            "mean": mean,
            "deviation": 0.3,
            "zoom": zoom,
            "threshold": threshold,
            "radius": radius,
            "sigma": sigma,
            "keep": keep,
        }
        for mean, zoom, threshold, radius, sigma, keep in (
            (0.1, 3.0, 0.5, 10.0, 4.0, 0.8),
            (0.2, 2.0, 0.5, 12.0, 4.0, 0.7),
            (0.55, 4.0, 0.9, 12.0, 8.0, 0.7),
            (0.55, 4.5, 0.85, 12.0, 8.0, 0.65),
            (0.55, 2.5, 0.85, 12.0, 12.0, 0.55),
        )
    ),
    envelope={"mean": (-1.2, 0.55), "keep": (1.0, 0.55)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def snow(
    images: Tensor,
    *,
    mean: float,
    keep: float,
    deviation: float = 0.3,
    zoom: float = 4.0,
    threshold: float = 0.9,
    radius: float = 12.0,
    sigma: float = 8.0,
    seeds: Tensor,
) -> Tensor:
    """Whiten the picture and let flakes fall in front of it, once more upside down.

    Flakes s: normal noise (``mean``, ``deviation``), enlarged linearly ``zoom`` times, set to 0 below
    ``threshold``, clamped and blurred along a line of 2·``radius`` + 1 pixels that fades with
    ``sigma``, at −135 to −45 degrees. The result is k·x + (1 − k)·max(x, 1.5·grey + 0.5) + s + s
    turned by 180 degrees, with k = ``keep``. Lengths (zoom, radius, sigma) are for 224 pixels; zoom
    never falls below 1. The flakes are not rounded to 8 bits.
    """
    height, width = images.shape[-2:]
    scale = relative_size(images)
    times = max(zoom * scale, 1.0)
    small = (math.ceil(height / times), math.ceil(width / times))
    flakes = random.normal(seeds, (1, *small)).mul_(deviation).add_(mean)
    if times > 1:
        # SciPy's zoom: the corners of both grids coincide; what is too much is cut off.
        size = (max(round(small[0] * times), height), max(round(small[1] * times), width))
        flakes = F.interpolate(flakes, size=size, mode="bilinear", align_corners=True)
        flakes = flakes[..., :height, :width]
    flakes = F.threshold(flakes, threshold, 0.0).clamp_(0, 1).to(images.dtype)
    angle = random.uniform(seeds, (), -135.0, -45.0, stream=1)
    flakes = motion_filter(flakes, max(round(radius * scale), 1), sigma * scale, angle)
    flakes = flakes + flakes.flip((-2, -1))
    red, green, blue = images.chunk(3, 1)
    grey = torch.add(red * (0.299 * 1.5), green, alpha=0.587 * 1.5)
    grey = grey.add(blue, alpha=0.114 * 1.5).add_(0.5)
    white = torch.maximum(images, grey)
    return torch.lerp(images, white, 1 - keep).add_(flakes).clamp_(0, 1)


# --------------------------------------------------------------------------------------------------
# Frost
# --------------------------------------------------------------------------------------------------

#: Two sizes of crystals: distance between neighbours in pixels at 224, how much coarser their grid of
#: pixels may be, and how fine their needles are.
_SIZES = ((72.0, 2, 1.0), (32.0, 1, 1.7))


@tables
def _crystal_ranges() -> tuple[Any, ...]:
    """Lowest value and range (9, 1) of what is drawn for each crystal.

    Place (2) in cells, direction, 1/length, 1/width, needles per pixel at 224, their slant, height
    and by how much one side is lit. Nothing reaches three quarters of a cell far: the grid would show.
    """
    low = (-0.25, -0.25, 0.0, 1.35, 2.4, 0.06, 0.6, 0.6, 0.0)
    span = (0.5, 0.5, 2 * math.pi, 0.9, 3.6, 0.1, 0.9, 0.4, 0.5)
    return [[v] for v in low], [[v] for v in span]


def _crystals(seeds: Tensor, height: int, width: int, scale: float) -> list[Tensor]:
    """Return the relief of bundles of ice needles on a pane, large and small ones: (B, 1, …, …) in [0, 1].

    One crystal stands near each point of a square grid; a pixel takes the highest of the four around
    it. A crystal falls off along its spine and, as a roof does, to both sides, one of them lit. It
    is a bundle of needles along its spine, bent by smooth noise, without which they look printed. Large
    ones are drawn at half the resolution.
    """
    cells = [max(3, round(spacing * scale / coarser)) for spacing, coarser, _ in _SIZES]
    sizes = [(math.ceil(height / coarser), math.ceil(width / coarser)) for _, coarser, _ in _SIZES]
    grids = [(math.ceil(h / c), math.ceil(w / c)) for c, (h, w) in zip(cells, sizes, strict=True)]
    counts = [(rows + 1) * (columns + 1) for rows, columns in grids]
    draws = random.uniform(seeds, (9, sum(counts)), stream=1)
    low, span = _crystal_ranges(draws)
    draws = torch.addcmul(low, draws, span)
    x, y, turn, long, slim, needles, slant, tone, light = draws.unbind(1)
    across, up = turn.cos(), turn.sin()
    ends = (across * long, up * long, across * slim, up * slim)
    drawn = torch.stack(
        (x, y, *ends, 0.25 * needles / long, needles * slant / slim, tone, light), 1
    )
    layers = []
    for k, own in enumerate(torch.split(drawn, counts, -1)):
        cell, (rows, columns) = cells[k], grids[k]
        own = own.reshape(own.shape[0], -1, rows + 1, columns + 1)
        corners = [(i, j) for i in range(2) for j in range(2)]
        around = torch.stack([own[..., i : i + rows, j : j + columns] for i, j in corners], 2)
        # Each (B, 4, rows, columns, 1, 1).
        x, y, ca, sa, cb, sb, lengthwise, crosswise, tone, light = around[..., None, None].unbind(1)
        place = torch.arange(cell, dtype=torch.float32, device=seeds.device).add(0.5).mul(1 / cell)
        places = torch.stack((place, place - 1))
        # Place relative to the crystal's centre, (B, 4, …, cell, 1) and (B, 4, …, 1, cell).
        down = places.repeat_interleave(2, 0)[:, None, None, :, None] - y
        right = places.repeat(2, 1)[:, None, None, None] - x
        along = right * ca + down * sa
        off = down * cb - right * sb
        bend = smooth_noise(
            seeds, (rows * cell, columns * cell), 6 * scale / _SIZES[k][1], stream=6 + k
        )
        bend = bend.mul_(0.35).view(-1, 1, rows, cell, columns, cell).transpose(3, 4)
        relief = torch.addcmul(tone, along, along, value=-1).addcmul_(off, light)
        # Needles per cell: a triangular wave.
        density = _SIZES[k][2] * cell * _SIZES[k][1] / scale
        wave = along.mul(lengthwise * density).addcmul_(off, crosswise * density)
        wave.add_(bend)
        wave.sub_(wave.round()).abs_()
        off.abs_()
        relief = relief.sub_(off).add_(wave, alpha=1.3).amax(1)
        relief = relief.permute(0, 1, 3, 2, 4).reshape(-1, 1, rows * cell, columns * cell)
        layers.append(relief[..., : sizes[k][0], : sizes[k][1]].clamp(0, 1.3))
    return layers


def _grain(seeds: Tensor, height: int, width: int, stream: int) -> Tensor:
    """Return noise of 256 levels from −128 to 127, (B, 1, H, W) float32: four from each hash."""
    count = height * width
    drawn = random.bits(seeds, ((count + 3) // 4,), stream=stream).view(torch.int8)
    return drawn[:, :count].to(torch.float32).view(-1, 1, height, width)


def _pane(seeds: Tensor, height: int, width: int, scale: float) -> Tensor:
    """Return frost on a pane, (B, 1, H, W), mean 0 and variance 1 on average over panes."""
    large, small = _crystals(seeds, height, width, scale)
    h, w = large.shape[-2:]
    large.add_(smooth_noise(seeds, (h, w), 18 * scale, stream=3), alpha=0.1)
    large.add_(_grain(seeds, h, w, 4), alpha=0.28 / 74)
    size = (2 * h, 2 * w)
    large = F.interpolate(large, size=size, mode="bilinear", align_corners=False)
    relief = torch.maximum(large[..., :height, :width], small)
    relief.add_(_grain(seeds, height, width, 5), alpha=0.07 / 74)
    return relief.sub_(0.438).mul_(1 / 0.368)


@register(
    severities=tuple(
        {"keep": k, "frost": f}
        for k, f in ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    ),
    envelope={"keep": (1.0, 0.6), "frost": (0.0, 0.75)},
    inputs=("seeds",),
    source=SOURCE,
    version=2,
)
@in_small_batches
def frost(images: Tensor, *, keep: float, frost: float, seeds: Tensor) -> Tensor:
    """Lay a frosted pane over the picture: ``keep`` · x + ``frost`` · overlay, clamped.

    The reference crops one of six photographs of frost; here the overlay is synthesised from the
    seed: bundles of ice needles in two sizes (one oriented crystal to each cell of a grid, after
    Worley, "A cellular texture basis function", SIGGRAPH 1996), haze and grain. Brightness, contrast
    and tint vary from pane to pane about as among the photographs: mean 0.3 to 0.83, standard
    deviation 0.135 for dark ones down to 0.075 for bright ones, blue above red by 0.06 to 0.22; mean,
    contrast and power spectrum were fitted to theirs.
    """
    height, width = images.shape[-2:]
    pane = _pane(seeds, height, width, relative_size(images))
    # Bright panes are pale and even, dark ones blue and rich in contrast.
    bright, tint = random.uniform(seeds, (2,), stream=5)[..., None, None, None].unbind(1)
    pane = pane * (frost * (0.135 - 0.06 * bright)) + frost * (0.3 + 0.53 * bright)
    tint = tint * (0.08 * frost) + 0.03 * frost
    colour = torch.cat((tint * -1.1, tint * 0.17, tint * 0.93), 1)
    overlay = (pane + colour).clamp_(0, frost).to(images.dtype)
    return torch.add(overlay, images, alpha=keep).clamp_(0, 1)


# --------------------------------------------------------------------------------------------------
# Fog
# --------------------------------------------------------------------------------------------------


def _plasma(seeds: Tensor, size: int, decay: float) -> Tensor:
    """Return a fractal of the diamond-square algorithm that wraps around, (B, size, size) float32.

    Every point is the mean of four neighbours plus a uniform deviation that falls by ``decay`` squared
    from level to level (Fournier, Fussell & Carpenter, "Computer rendering of stochastic models", CACM
    1982); not normalised. ``size`` is a power of two.
    """
    noise = _grain(seeds, size, size, 1)[:, 0]
    field = torch.zeros((noise.shape[0], 1, 1), dtype=torch.float32, device=seeds.device)
    step, swing = size, 1.0
    while step >= 2:
        half = step // 2
        middle = noise[:, half::step, half::step] * swing
        right = field + field.roll(-1, -1)
        centre = (right + right.roll(-1, -2)).mul_(0.25).add_(middle)
        down = field + field.roll(-1, -2)
        top = (right + centre + centre.roll(1, -2)).mul_(0.25)
        left = (down + centre + centre.roll(1, -1)).mul_(0.25)
        finer = field.new_empty((noise.shape[0], size // half, size // half))
        finer[:, ::2, ::2] = field
        finer[:, 1::2, 1::2] = centre
        finer[:, ::2, 1::2] = top.add_(noise[:, ::step, half::step], alpha=swing)
        finer[:, 1::2, ::2] = left.add_(noise[:, half::step, ::step], alpha=swing)
        field, step, swing = finer, half, swing / decay**2
    return field


@register(
    severities=tuple(
        {"amount": a, "decay": d}
        for a, d in ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
    ),
    envelope={"amount": (0.0, 3.5), "decay": (2.0, 1.4)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def fog(images: Tensor, *, amount: float, decay: float = 1.7, seeds: Tensor) -> Tensor:
    """Add a plasma fractal f in [0, 1] and scale back: (x + a·f) · m / (m + a), a = ``amount``.

    m is the largest value of the picture. f is a diamond-square fractal on a square whose side is the
    next power of two, normalised to [0, 1] there and cropped; ``decay`` is by how much the root of its
    deviations falls from level to level. As in the reference, f does not scale with the picture
    between powers of two; its deviations take 256 levels here.
    """
    height, width = images.shape[-2:]
    plasma = _plasma(seeds, 1 << (max(height, width) - 1).bit_length(), decay).to(images.dtype)
    low, high = plasma.amin((-2, -1), keepdim=True), plasma.amax((-2, -1), keepdim=True)
    largest = images.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
    dim = largest / (largest + amount)
    slope = dim[:, 0] * amount / (high - low)
    veil = torch.addcmul(-low * slope, plasma[:, :height, :width], slope)
    return torch.addcmul(veil.unsqueeze(1), images, dim).clamp_(0, 1)


@register(
    severities=tuple({"lift": v} for v in (0.1, 0.2, 0.3, 0.4, 0.5)),
    envelope={"lift": (0.0, 0.6)},
    source=SOURCE,
)
@batch_at_once
def brightness(images: Tensor, *, lift: float) -> Tensor:
    """Raise the value of HSV by ``lift``, clamped; hue and saturation stay.

    All channels are scaled by the same factor, new value over old; black becomes grey.
    """
    if on_host(images) and not (torch.is_grad_enabled() and images.requires_grad):
        return _brightness_on_host(images, lift)
    red, green, blue = images.chunk(3, 1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lifted = value.add(lift).clamp_(max=1)
    black = (value < _BLACK).to(images.dtype)
    # Where all channels are 0 the sum is the lifted value, and elsewhere the product.
    return torch.addcmul(lifted * black, images, lifted / value.clamp(min=_BLACK)).clamp_(0, 1)


#: Below this value a pixel has no hue to keep.
_BLACK = 1e-6


def _brightness_on_host(images: Tensor, lift: float) -> Tensor:
    """Return what :func:`brightness` does, picture by picture, which share the room for what is between."""
    result = torch.empty_like(images)
    value, lifted = images.new_empty((2, *images.shape[-2:]))
    for image, place in zip(images, result, strict=True):
        red, green, blue = image
        torch.maximum(torch.maximum(red, green, out=value), blue, out=value)
        torch.add(value, lift, out=lifted).clamp_(max=1)
        black = value < _BLACK
        torch.mul(image, torch.div(lifted, value.clamp_(min=_BLACK), out=value), out=place)
        if bool(black.any()):
            place.add_(lifted.mul_(black))
        place.clamp_(0, 1)
    return result


# --------------------------------------------------------------------------------------------------
# Spatter
# --------------------------------------------------------------------------------------------------

_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)


@tables
def _colours(red: float, green: float, blue: float) -> tuple[Any, ...]:
    return ([[[red]], [[green]], [[blue]]],)


#: The published distance, in pixels at 224, beyond which all places are alike.
_FAR = 20


def _edges(levels: Tensor) -> Tensor:
    """Return the strong edges of whole ``levels`` (B, 1, H, W) from 0 to 255, as bool.

    Canny's detector (PAMI 1986) as OpenCV has it: Sobel gradients, magnitude |x| + |y|, kept where it
    exceeds 150 and is the largest of three along the gradient's direction, in steps of 45 degrees.
    """
    height, width = levels.shape[-2:]
    padded = pad(levels, 1, 1, "replicate")
    high, middle, low = (padded.narrow(-2, i, height) for i in range(3))
    column = torch.add(high + low, middle, alpha=2)
    x = column.narrow(-1, 2, width) - column.narrow(-1, 0, width)
    row = low - high
    y = row.narrow(-1, 0, width) + row.narrow(-1, 2, width)
    y.add_(row.narrow(-1, 1, width), alpha=2)
    falling = torch.signbit(x * y)
    x.abs_()
    y.abs_()
    strength = x + y
    around = F.pad(strength, (1, 1, 1, 1))

    def at(down: int, right: int) -> Tensor:
        return around[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    tangent = math.tan(math.pi / 8)
    across = y < x * tangent
    along = y > x * (tangent + 2)
    ridge = (strength > at(0, -1)) & (strength >= at(0, 1)) & across
    ridge |= (strength > at(-1, 0)) & (strength >= at(1, 0)) & along
    steep = ~(across | along)
    ridge |= (strength > at(-1, -1)) & (strength > at(1, 1)) & steep & ~falling
    ridge |= (strength > at(-1, 1)) & (strength > at(1, -1)) & steep & falling
    return ridge & (strength > 150)


def _distance(edges: Tensor, far: int) -> Tensor:
    """Return the Euclidean distance in pixels to the next edge, at most ``far``, float32 (B, 1, H, W).

    Along rows by doubling strides; along columns squares grow by the odd numbers, one for each step
    (minima with a small parabola, as in Lotufo & Zampirolli 2001).
    """
    # Whole numbers: half the width is half the time.
    squares = (~edges).to(torch.int16 if far < 128 else torch.int32).mul_(far)
    stride = 1
    while stride < far:
        if stride < squares.shape[-1]:
            left, right = squares[..., :-stride], squares[..., stride:]
            left.clamp_(max=right + stride)
            right.clamp_(max=left + stride)
        stride *= 2
    squares = squares * squares
    for step in range(1, far + 1):
        nearer = squares + (2 * step - 1)
        squares[..., :-1, :].clamp_(max=nearer[..., 1:, :])
        squares[..., 1:, :].clamp_(max=nearer[..., :-1, :])
    return squares.to(torch.float32).sqrt_()


def _mean_of_nine(values: Tensor) -> Tensor:
    """Return the mean over 3 × 3 neighbours of (B, 1, H, W), reflected at the edge."""
    for dim, margins in ((-2, (1, 0)), (-1, (0, 1))):
        padded, size = pad(values, *margins, "reflect"), values.shape[dim]
        values = padded.narrow(dim, 0, size) + padded.narrow(dim, 1, size)
        values = values.add_(padded.narrow(dim, 2, size)).mul_(1 / 3)
    return values


def _equalised(levels: Tensor, count: int) -> Tensor:
    """Return the equalised histogram of whole ``levels`` (B, 1, H, W) below ``count``: 0 to 255."""
    index = levels.to(torch.int64).flatten(1)
    counts = torch.zeros((index.shape[0], count), dtype=torch.int64, device=levels.device)
    counts = counts.scatter_add_(1, index, torch.ones_like(index)).cumsum(1)
    lowest = counts.gather(1, index.amin(1, keepdim=True))
    above = (counts - lowest).to(torch.float32)
    # All pixels alike: nothing is above the lowest.
    table = (above * 255 / above[:, -1:].clamp(min=1)).clamp_(min=0).round_()
    return table.gather(1, index).view(levels.shape)


def _light(levels: Tensor, scale: float) -> Tensor:
    """Return how drops of ``levels`` (B, 1, H, W) catch the light, 0 to 255: embossed distances."""
    far = max(round(_FAR * scale), 2)
    distance = _distance(_edges(levels), far).mul_(_FAR / far)
    levels = _mean_of_nine(distance).add_(1e-4).floor_()
    equal = _equalised(levels, _FAR + 1)
    height, width = equal.shape[-2:]
    around = pad(equal, 1, 1, "reflect")

    def at(row: int, column: int) -> Tensor:
        return around[..., row : row + height, column : column + width]

    # The kernel −2 −1 0 / −1 1 1 / 0 1 2.
    embossed = equal + at(1, 2) + at(2, 1) - at(0, 1) - at(1, 0)
    embossed.add_(at(2, 2), alpha=2).sub_(at(0, 0), alpha=2).clamp_(0, 255)
    return _mean_of_nine(embossed)


@register(
    severities=(
        {"mean": 0.65, "deviation": 0.3, "sigma": 4.0, "threshold": 0.69, "strength": 0.6},
        {"mean": 0.65, "deviation": 0.3, "sigma": 3.0, "threshold": 0.68, "strength": 0.6},
        {"mean": 0.65, "deviation": 0.3, "sigma": 2.0, "threshold": 0.68, "strength": 0.5},
        {"mean": 0.65, "deviation": 0.3, "sigma": 1.0, "threshold": 0.65, "rim": 1.5, "mud": 1},
        {"mean": 0.67, "deviation": 0.4, "sigma": 1.0, "threshold": 0.65, "rim": 1.5, "mud": 1},
    ),
    envelope={"mean": (0.4, 0.7)},
    inputs=("seeds",),
    source=SOURCE,
    extra=True,
)
@in_small_batches
def spatter(
    images: Tensor,
    *,
    mean: float,
    deviation: float = 0.3,
    sigma: float = 2.0,
    threshold: float = 0.68,
    strength: float = 0.5,
    rim: float = 1.5,
    mud: float = 0,
    seeds: Tensor,
) -> Tensor:
    """Spatter the lens with water (severities 1 to 3) or mud (4 and 5).

    Liquid is white noise (``mean``, ``deviation``) under a Gaussian of ``sigma`` pixels at 224, where
    it exceeds ``threshold``. Water is the liquid times the light on its drops (distance to their rims
    up to 20 pixels, blurred, equalised, embossed and blurred again), scaled to ``strength`` at its
    brightest, and is added in pale turquoise. Mud covers what a Gaussian of ``rim`` pixels over the
    liquid's mask leaves above 0.8. Differences: of Canny's edges the weak ones, which go on from
    strong ones, are left out; distances are exact and not those of a 5 × 5 chamfer; the light is not
    rounded to 8 bits. At other sizes than 224 the liquid has the variance that it has there.
    """
    height, width = images.shape[-2:]
    scale = relative_size(images)
    half = gaussian_weights(sigma)
    gain = half[0] ** 2 + 2 * sum(w * w for w in half[1:])
    # In units of its own deviation, the threshold is a number.
    liquid = smooth_noise(seeds, (height, width), sigma * scale)
    inside = liquid > (threshold - mean) / (deviation * gain)
    if mud:
        cover = gaussian_filter(inside.to(torch.float32), rim * scale)
        cover = (cover * (cover >= 0.8)).to(images.dtype)
        colour = _colours(images, *_MUD)[0]
        return torch.addcmul(images, colour - images, cover).clamp_(0, 1)
    liquid = liquid.mul_(deviation * gain).add_(mean).mul_(inside)
    levels = liquid.mul_(255).floor_().clamp_(0, 255)
    light = levels * _light(levels, scale)
    brightest = light.amax((-2, -1), keepdim=True).clamp(min=1e-6)
    water = light.mul_(strength / brightest).to(images.dtype)
    return torch.addcmul(images, water, _colours(images, *_WATER)[0]).clamp_(0, 1)
