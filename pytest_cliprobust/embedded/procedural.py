"""Procedural pictures: backgrounds for scenes, and bold patterns as far out-of-distribution images.

Two families that never share a generator:

* :func:`backgrounds` makes quiet, varied pictures that stand behind an object (gradients, sky over
  ground, hills, rooms, fractal noise, stone-like grain, faint stripes and checks, blobs, bokeh);
* :func:`patterns` makes pictures that are nothing but a texture (bold stripes, checkerboards, dots,
  bricks, Voronoi cells, wood-like rings, plaid, mazes, waves, zigzags). They take the place that the
  Textures subset (Cimpoi et al., "Describing textures in the wild", CVPR 2014) has among the OOD sets
  of Huang & Li (CVPR 2021).

Fractal noise sums octaves of value noise whose amplitude falls by a constant factor, an approximation
of 1/f noise (Perlin, "An image synthesizer", SIGGRAPH 1985; Saupe in "The science of fractal images",
1988). All randomness is counter-based (:mod:`pytest_cliprobust.perturbations.random`), so a picture
is a pure function of (seed, height, width), whatever batch it is made in.

On grids only +, −, ×, ÷, square roots, floors and comparisons are used, which IEEE 754 rounds exactly:
vectorised transcendental functions round the last lanes of a tensor differently from the others, and
a picture would then depend on its place in the batch. A parabola stands in for the sine. For the same
reason trigonometric functions of per-sample parameters are taken in float64 and rounded to float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pytest_cliprobust.errors import ClipRobustError, did_you_mean
from pytest_cliprobust.perturbations import random

#: Raise it whenever any picture changes; it is part of the digest of the embedded data sets.
VERSION = 1

_Maker = Callable[[Tensor, int, int], Tensor]

#: Pixels (rows x height x width) that are worked on at once, so that temporaries stay in the cache.
_CHUNK_PIXELS = 1 << 18


# --------------------------------------------------------------------------------------------------
# Building blocks
# --------------------------------------------------------------------------------------------------


def _parameter(seeds: Tensor, stream: int, low: float, high: float) -> Tensor:
    """Return one uniform number per sample, shape (B, 1, 1, 1)."""
    return random.uniform(seeds, (1, 1, 1), low, high, stream=stream)


def _choice(seeds: Tensor, stream: int, count: int) -> Tensor:
    """Return one uniform integer in [0, count) per sample, shape (B,)."""
    unit = random.uniform(seeds, (1,), stream=stream)[:, 0]
    return (unit * count).floor().clamp(0, count - 1).to(torch.int64)


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return x (1, 1, 1, W) and y (1, 1, H, 1): pixel centres, the longer side being [0, 1]."""
    side = max(height, width)
    x = (torch.arange(width, dtype=torch.float32) + 0.5) / side
    y = (torch.arange(height, dtype=torch.float32) + 0.5) / side
    return x.view(1, 1, 1, -1), y.view(1, 1, -1, 1)


def _direction(
    seeds: Tensor, stream: int, low: float = 0.0, high: float = math.tau
) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine of a random angle per sample, each (B, 1, 1, 1)."""
    angle = _parameter(seeds, stream, low, high).to(torch.float64)
    return angle.cos().to(torch.float32), angle.sin().to(torch.float32)


def _smooth(x: Tensor) -> Tensor:
    """Return the cubic 3x² − 2x³ of x clamped to [0, 1]."""
    x = x.clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _wave(phase: Tensor) -> Tensor:
    """Return a wave in [−1, 1] of period 1, two parabolas per period (within 0.06 of a sine)."""
    t = 2.0 * (phase - phase.floor()) - 1.0
    return 4.0 * t * (1.0 - t.abs())


def _edge(distance: Tensor, side: int) -> Tensor:
    """Return coverage (0 outside, 1 inside) of a signed distance in units of the side: one-pixel edge."""
    return (distance * side + 0.5).clamp(0.0, 1.0)


def _blend(low: Tensor, high: Tensor, amount: Tensor) -> Tensor:
    return low + (high - low) * amount


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return RGB stacked along a new last dimension, from hue (in turns, any real), saturation, value."""
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = offset / 6.0 + hue
        k = (k - k.floor()) * 6.0
        channels.append(value - value * saturation * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.stack(channels, dim=-1)


def _palette(
    seeds: Tensor,
    count: int,
    stream: int,
    *,
    saturation: tuple[float, float] = (0.05, 0.65),
    value: tuple[float, float] = (0.25, 0.95),
    hue_spread: float = 0.12,
) -> list[Tensor]:
    """Return ``count`` related colours, each (B, 3, 1, 1): one hue and its neighbours."""
    base = random.uniform(seeds, (1,), stream=stream)
    hue = base + random.uniform(seeds, (count,), -hue_spread, hue_spread, stream=stream + 1)
    s = random.uniform(seeds, (count,), *saturation, stream=stream + 2)
    v = random.uniform(seeds, (count,), *value, stream=stream + 3)
    rgb = hsv_to_rgb(hue, s, v)
    return [rgb[:, i].view(-1, 3, 1, 1) for i in range(count)]


def _colour(
    seeds: Tensor,
    stream: int,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Tensor:
    """Return one colour per sample, (B, 3, 1, 1), from ranges of hue, saturation and value."""
    rgb = hsv_to_rgb(
        random.uniform(seeds, (1,), *hue, stream=stream),
        random.uniform(seeds, (1,), *saturation, stream=stream + 1),
        random.uniform(seeds, (1,), *value, stream=stream + 2),
    )
    return rgb.view(-1, 3, 1, 1)


def fractal_noise(
    seeds: Tensor,
    height: int,
    width: int,
    *,
    base: int = 4,
    persistence: Tensor | float = 0.55,
    stream: int = 900,
    finest: int = 128,
) -> Tensor:
    """Return fractal value noise (B, 1, H, W), roughly in [−1, 1] with mean 0.

    The lattice starts at ``base`` cells and doubles until it is as fine as the picture (at most
    ``finest``); each octave is ``persistence`` times as strong as the one before.
    """
    amplitude: Tensor | float = 1.0
    field = random.uniform(seeds, (1, base, base), -1.0, 1.0, stream=stream)
    size = base
    while size * 2 <= min(finest, max(height, width)):
        size *= 2
        stream += 1
        amplitude = amplitude * persistence
        field = F.interpolate(field, size=(size, size), mode="bilinear", align_corners=False)
        field = field + random.uniform(seeds, (1, size, size), -1.0, 1.0, stream=stream) * amplitude
    if (size, size) != (height, width):
        field = F.interpolate(field, size=(height, width), mode="bicubic", align_corners=False)
    return field * 0.8


def _grain(seeds: Tensor, height: int, width: int, stream: int) -> Tensor:
    """Return per-pixel noise (B, 1, H, W) in (−1, 1)."""
    return random.uniform(seeds, (1, height, width), -1.0, 1.0, stream=stream)


# --------------------------------------------------------------------------------------------------
# Backgrounds
# --------------------------------------------------------------------------------------------------


def _gradient(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    first, second, third = _palette(seeds, 3, 10)
    c, s = _direction(seeds, 20)
    linear = (x - 0.5) * c + (y - 0.5) * s + 0.5
    dx = x - _parameter(seeds, 21, 0.1, 0.9)
    dy = y - _parameter(seeds, 22, 0.1, 0.9)
    radial = (dx * dx + dy * dy).sqrt() * 1.3
    is_radial = (_parameter(seeds, 23, 0.0, 1.0) > 0.6).to(torch.float32)
    t = _blend(linear, radial, is_radial).clamp(0.0, 1.0)
    middle = _parameter(seeds, 24, 0.3, 0.7)
    return _blend(
        _blend(first, second, _smooth(t / middle)), third, _smooth((t - middle) / (1.0 - middle))
    )


def _sky_and_ground(seeds: Tensor, height: int, width: int) -> Tensor:
    _, y = _grid(height, width)
    noise = fractal_noise(seeds, height, width, base=4, persistence=0.6)
    zenith = _colour(seeds, 10, (0.50, 0.66), (0.2, 0.7), (0.5, 0.95))
    dusk = _colour(seeds, 13, (-0.05, 0.12), (0.1, 0.5), (0.7, 1.0))
    haze = _colour(seeds, 16, (0.45, 0.65), (0.0, 0.2), (0.8, 1.0))
    at_dusk = (_parameter(seeds, 19, 0.0, 1.0) > 0.75).to(torch.float32)
    near = _colour(seeds, 20, (0.05, 0.42), (0.15, 0.6), (0.2, 0.75))
    far = _colour(seeds, 23, (0.05, 0.42), (0.1, 0.45), (0.35, 0.8))
    horizon = _parameter(seeds, 26, 0.35, 0.75)
    softness = _parameter(seeds, 27, 0.005, 0.12)
    clouds = _smooth(noise * 1.4 - _parameter(seeds, 28, -0.1, 0.8)) * 0.6
    sky = _blend(zenith, _blend(haze, dusk, at_dusk), (y / horizon).clamp(0.0, 1.0))
    sky = sky + (0.96 - sky) * clouds
    t = ((y - horizon) / (1.0 - horizon)).clamp(0.0, 1.0)
    ground = _blend(far, near, t) * (1.0 + noise * 0.22 * (0.3 + t))
    return _blend(sky, ground, _smooth((y - horizon) / softness + 0.5))


def _hills(seeds: Tensor, height: int, width: int) -> Tensor:
    _, y = _grid(height, width)
    sky_top = _colour(seeds, 10, (0.45, 0.70), (0.1, 0.6), (0.6, 1.0))
    sky_low = _colour(seeds, 13, (0.0, 1.0), (0.0, 0.25), (0.8, 1.0))
    picture = _blend(sky_top, sky_low, _smooth(y * 1.6)).expand(-1, -1, -1, width)
    earth = _colour(seeds, 16, (0.05, 0.65), (0.15, 0.6), (0.15, 0.5))
    level = _parameter(seeds, 19, 0.30, 0.5)
    for layer in range(3):
        ridge = F.interpolate(
            random.uniform(seeds, (1, 1, 7 + 3 * layer), -1.0, 1.0, stream=30 + layer),
            size=(1, width),
            mode="bicubic",
            align_corners=False,
        )
        top = level + 0.16 * layer + ridge * (0.10 - 0.02 * layer)
        colour = _blend(sky_low, earth, torch.tensor(0.40 + 0.28 * layer))
        picture = _blend(
            picture,
            colour * (1.0 - 0.25 * (y - top).clamp(0, 1)),
            _edge(y - top, max(height, width)),
        )
    return picture * (1.0 + 0.06 * fractal_noise(seeds, height, width, base=8, persistence=0.8))


def _room(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    side = max(height, width)
    wall = _colour(seeds, 10, (0.0, 1.0), (0.02, 0.4), (0.45, 0.95))
    floor = _colour(seeds, 13, (0.02, 0.14), (0.1, 0.65), (0.25, 0.8))
    line = _parameter(seeds, 16, 0.55, 0.82)
    light = _parameter(seeds, 17, 0.0, 1.0)
    fall = _parameter(seeds, 18, 0.0, 0.55)
    shade = 1.0 - fall * (x - light).abs() - 0.15 * (1.0 - y)
    noise = fractal_noise(seeds, height, width, base=8, persistence=0.8)
    upper = wall * shade * (1.0 + 0.05 * noise)
    # Boards run towards the viewer: their number per unit of x falls with depth below the line.
    depth = 0.06 + (y - line).clamp(min=0.0)
    boards = (x - 0.5) / depth * _parameter(seeds, 19, 0.2, 0.6)
    seam = ((boards - boards.floor()) < 0.06).to(torch.float32) * _parameter(seeds, 20, 0.0, 0.3)
    lower = floor * (0.75 + 0.5 * depth) * (1.0 - seam) * (1.0 + 0.10 * noise)
    board = _edge(y - line + 0.035, side) * (_parameter(seeds, 21, 0.0, 1.0) > 0.5).to(
        torch.float32
    )
    upper = _blend(upper, wall * 0.55 + 0.4, board)
    return _blend(upper, lower, _edge(y - line, side))


def _plasma(seeds: Tensor, height: int, width: int) -> Tensor:
    first, second, third = _palette(seeds, 3, 10, hue_spread=0.25)
    persistence = _parameter(seeds, 20, 0.35, 0.65)
    noise = fractal_noise(seeds, height, width, base=3, persistence=persistence)
    t = 0.5 + 0.5 * noise
    return _blend(_blend(first, second, _smooth(t * 2.0)), third, _smooth(t * 2.0 - 1.0))


def _stone(seeds: Tensor, height: int, width: int) -> Tensor:
    colour = _colour(seeds, 10, (0.0, 1.0), (0.0, 0.45), (0.25, 0.85))
    tint = _colour(seeds, 13, (0.0, 1.0), (0.0, 0.5), (0.3, 0.9))
    coarse = fractal_noise(seeds, height, width, base=4, persistence=0.5)
    fine = fractal_noise(seeds, height, width, base=16, persistence=0.85, stream=920)
    return _blend(colour, tint, _smooth(coarse) * 0.4) * (
        1.0 + _parameter(seeds, 20, 0.08, 0.28) * fine
    )


def _faint_stripes(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    first, second = _palette(seeds, 2, 10, value=(0.45, 0.9))
    second = _blend(first, second, _parameter(seeds, 20, 0.12, 0.4))
    c, s = _direction(seeds, 21)
    warp = fractal_noise(seeds, height, width, base=3, persistence=0.4) * _parameter(
        seeds, 22, 0.0, 0.08
    )
    wave = _wave((x * c + y * s + warp) * _parameter(seeds, 23, 3.0, 9.0))
    return _blend(first, second, _smooth(wave * _parameter(seeds, 24, 0.5, 2.0) + 0.5))


def _faint_checks(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    first, second = _palette(seeds, 2, 10, value=(0.45, 0.9))
    second = _blend(first, second, _parameter(seeds, 20, 0.12, 0.35))
    c, s = _direction(seeds, 21)
    scale = _parameter(seeds, 22, 2.0, 6.0)
    product = _wave((x * c + y * s) * scale) * _wave((y * c - x * s) * scale)
    light = 1.0 + 0.12 * fractal_noise(seeds, height, width, base=3, persistence=0.5)
    return _blend(first, second, _smooth(product * 3.0 + 0.5)) * light


def _blobs(seeds: Tensor, height: int, width: int) -> Tensor:
    first, second, third = _palette(seeds, 3, 10, hue_spread=0.15)
    second = _blend(first, second, _parameter(seeds, 20, 0.3, 0.7))
    third = _blend(first, third, _parameter(seeds, 21, 0.3, 0.7))
    sharpness = _parameter(seeds, 22, 2.0, 8.0)
    a = fractal_noise(seeds, height, width, base=4, persistence=0.3)
    b = fractal_noise(seeds, height, width, base=5, persistence=0.3, stream=940)
    return _blend(
        _blend(first, second, _smooth(a * sharpness + 0.5)), third, _smooth((b - 0.2) * sharpness)
    )


def _bokeh(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    side = max(height, width)
    dark, darker = _palette(seeds, 2, 10, value=(0.08, 0.5), saturation=(0.2, 0.8))
    picture = _blend(dark, darker, y).expand(-1, -1, -1, width)
    count = 9
    place = random.uniform(seeds, (3, count), stream=20)
    glow = hsv_to_rgb(
        random.uniform(seeds, (count,), -0.1, 0.1, stream=22)
        + _parameter(seeds, 23, 0.0, 1.0)[:, :, 0, 0],
        random.uniform(seeds, (count,), 0.1, 0.8, stream=24),
        random.uniform(seeds, (count,), 0.15, 0.5, stream=25),
    )
    softness = _parameter(seeds, 26, 0.02, 0.5)
    for i in range(count):
        dx = x - place[:, 0, i].view(-1, 1, 1, 1)
        dy = y - place[:, 1, i].view(-1, 1, 1, 1)
        radius = 0.03 + 0.11 * place[:, 2, i].view(-1, 1, 1, 1)
        inside = 1.0 - (dx * dx + dy * dy).sqrt() / radius
        disc = (inside / softness).clamp(0.0, 1.0) * _edge(inside * radius, side)
        picture = picture + glow[:, i].view(-1, 3, 1, 1) * disc
    return picture


#: Generators of :func:`backgrounds` and how often each is drawn (parts of the sum).
_BACKGROUNDS: dict[str, tuple[_Maker, int]] = {
    "gradient": (_gradient, 3),
    "sky_and_ground": (_sky_and_ground, 4),
    "hills": (_hills, 2),
    "room": (_room, 3),
    "plasma": (_plasma, 3),
    "stone": (_stone, 2),
    "faint_stripes": (_faint_stripes, 1),
    "faint_checks": (_faint_checks, 1),
    "blobs": (_blobs, 2),
    "bokeh": (_bokeh, 2),
}

#: Names of the background generators.
BACKGROUNDS: tuple[str, ...] = tuple(_BACKGROUNDS)


# --------------------------------------------------------------------------------------------------
# Patterns
# --------------------------------------------------------------------------------------------------


def _bold(seeds: Tensor, count: int, stream: int) -> list[Tensor]:
    """Return ``count`` strongly different colours, each (B, 3, 1, 1)."""
    order = torch.arange(count, dtype=torch.float32)[None]
    hue = random.uniform(seeds, (1,), stream=stream) + order / count
    hue = hue + random.uniform(seeds, (count,), -0.1, 0.1, stream=stream + 1)
    saturation = random.uniform(seeds, (count,), 0.0, 1.0, stream=stream + 2)
    # Light and dark alternate, so that neighbours always stand out from each other.
    low = random.uniform(seeds, (count,), 0.0, 0.35, stream=stream + 3)
    value = torch.where((order % 2 == 0).expand_as(low), 1.0 - low, low + 0.1)
    rgb = hsv_to_rgb(hue, saturation, value)
    return [rgb[:, i].view(-1, 3, 1, 1) for i in range(count)]


def _rotated(
    seeds: Tensor, height: int, width: int, stream: int, cells: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rotated, scaled coordinates (in cells) and the number of cells per side."""
    x, y = _grid(height, width)
    c, s = _direction(seeds, stream)
    scale = _parameter(seeds, stream + 1, *cells)
    shift = random.uniform(seeds, (2,), 0.0, 1.0, stream=stream + 2).view(-1, 2, 1, 1)
    u = (x * c + y * s) * scale + shift[:, :1]
    v = (y * c - x * s) * scale + shift[:, 1:]
    return u, v, scale


def _fraction(x: Tensor) -> Tensor:
    return x - x.floor()


def _ramp(distance: Tensor, scale: Tensor, side: int) -> Tensor:
    """Return coverage of a signed distance given in cells: a one-pixel edge."""
    return (distance / scale * side + 0.5).clamp(0.0, 1.0)


def _bold_stripes(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b, c = _bold(seeds, 3, 10)
    u, _, scale = _rotated(seeds, height, width, 20, (3.0, 10.0))
    duty = _parameter(seeds, 23, 0.3, 0.7)
    side = max(height, width)
    f = _fraction(u)
    stripe = _ramp(torch.minimum(f, duty - f), scale, side)
    thin = _ramp(0.06 - (f - (duty + 1.0) / 2.0).abs(), scale, side)
    return _blend(_blend(a, b, stripe), c, thin)


def _checkerboard(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b = _bold(seeds, 2, 10)
    u, v, scale = _rotated(seeds, height, width, 20, (1.5, 6.0))
    side = max(height, width)
    p = _ramp((_fraction(u) - 0.5).abs() - 0.25, scale, side)
    q = _ramp((_fraction(v) - 0.5).abs() - 0.25, scale, side)
    return _blend(a, b, p + q - 2.0 * p * q)


def _dots(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b = _bold(seeds, 2, 10)
    u, v, scale = _rotated(seeds, height, width, 20, (4.0, 11.0))
    u = u + 0.5 * (v.floor() - 2.0 * (v * 0.5).floor())
    du, dv = _fraction(u) - 0.5, _fraction(v) - 0.5
    inside = _parameter(seeds, 23, 0.18, 0.42) - (du * du + dv * dv).sqrt()
    return _blend(a, b, _ramp(inside, scale, max(height, width)))


def _cell_noise(seeds: Tensor, u: Tensor, v: Tensor, stream: int) -> Tensor:
    """Return one uniform number per lattice cell, looked up in a 16 x 16 table that repeats."""
    table = random.uniform(seeds, (256,), stream=stream)
    wrapped_u = (u.floor() - 16.0 * (u / 16.0).floor()).to(torch.int64)
    wrapped_v = (v.floor() - 16.0 * (v / 16.0).floor()).to(torch.int64)
    index = (wrapped_v * 16 + wrapped_u).clamp(0, 255)
    return table.gather(1, index.flatten(1)).view(index.shape)


def _bricks(seeds: Tensor, height: int, width: int) -> Tensor:
    _, mortar = _bold(seeds, 2, 10)
    brick = _colour(seeds, 14, (-0.03, 0.10), (0.4, 0.85), (0.4, 0.85))
    x, y = _grid(height, width)
    rows = _parameter(seeds, 20, 6.0, 13.0)
    v = y * rows + x * 0.0
    u = x * rows * 0.45 + 0.5 * (v.floor() - 2.0 * (v * 0.5).floor())
    du, dv = _fraction(u), _fraction(v)
    gap = torch.minimum(torch.minimum(du, 1.0 - du) / 0.45, torch.minimum(dv, 1.0 - dv)) - 0.07
    tone = 0.7 + 0.5 * _cell_noise(seeds, u, v, 24)
    noise = 1.0 + 0.15 * fractal_noise(seeds, height, width, base=16, persistence=0.9)
    return _blend(mortar, brick * tone * noise, _ramp(gap, rows, max(height, width)))


def _voronoi(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    count = 28
    place = random.uniform(seeds, (2, count), -0.05, 1.05, stream=20)
    spread = random.uniform(seeds, (1,), 0.05, 0.5, stream=25)
    colours = hsv_to_rgb(
        random.uniform(seeds, (1,), stream=21)
        + random.uniform(seeds, (count,), stream=22) * spread,
        random.uniform(seeds, (count,), 0.3, 1.0, stream=23),
        random.uniform(seeds, (count,), 0.25, 1.0, stream=24),
    )
    rows = seeds.shape[0]
    nearest = torch.full((rows, 1, height, width), 9.0)
    second = nearest.clone()
    picture = torch.zeros(rows, 3, height, width)
    for i in range(count):
        dx = x - place[:, 0, i].view(-1, 1, 1, 1)
        dy = y - place[:, 1, i].view(-1, 1, 1, 1)
        distance = (dx * dx + dy * dy).sqrt()
        closer = distance < nearest
        second = torch.where(closer, nearest, torch.minimum(second, distance))
        nearest = torch.where(closer, distance, nearest)
        picture = torch.where(closer, colours[:, i].view(-1, 3, 1, 1), picture)
    border = _parameter(seeds, 26, 0.004, 0.02)
    return picture * (0.08 + 0.92 * _edge((second - nearest) * 0.5 - border, max(height, width)))


def _rings(seeds: Tensor, height: int, width: int) -> Tensor:
    x, y = _grid(height, width)
    dark = _colour(seeds, 10, (0.03, 0.09), (0.5, 0.9), (0.2, 0.45))
    light = _colour(seeds, 13, (0.05, 0.12), (0.3, 0.7), (0.65, 0.95))
    dx = (x - _parameter(seeds, 20, -0.8, 1.2)) * _parameter(seeds, 21, 0.2, 1.0)
    dy = y - _parameter(seeds, 22, -0.3, 1.3)
    warp = fractal_noise(seeds, height, width, base=3, persistence=0.45)
    phase = (dx * dx + dy * dy).sqrt() * _parameter(seeds, 23, 8.0, 16.0) + warp * 0.7
    f = _fraction(phase)
    # Early wood brightens slowly, late wood ends in a dark line.
    ring = torch.minimum(f * 1.25, (1.0 - f) * 5.0).clamp(0.0, 1.0)
    grain = 1.0 + 0.1 * fractal_noise(seeds, height, width, base=16, persistence=0.9, stream=930)
    return _blend(dark, light, 1.0 - _smooth(ring)) * grain


def _plaid(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b, c = _bold(seeds, 3, 10)
    x, y = _grid(height, width)
    side = max(height, width)
    scale = _parameter(seeds, 20, 2.5, 6.0)
    phase = _parameter(seeds, 21, 0.0, 1.0)
    duty = _parameter(seeds, 22, 0.15, 0.3)
    picture = a
    for axis in (x, y):
        f = (_fraction(axis * scale + phase) - 0.5).abs()
        picture = _blend(picture, b, 0.5 * _ramp(duty - f, scale, side))
        picture = _blend(picture, c, 0.7 * _ramp(0.035 - (f - 0.4).abs(), scale, side))
    return picture


def _maze(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b = _bold(seeds, 2, 10)
    x, y = _grid(height, width)
    scale = _parameter(seeds, 20, 6.0, 12.0)
    u, v = x * scale + y * 0.0, y * scale + x * 0.0
    fu, fv = _fraction(u), _fraction(v)
    flip = _cell_noise(seeds, u, v, 21) > 0.5
    fu = torch.where(flip, fu, 1.0 - fu)
    # A diagonal wall in each cell, with the corners that neighbours' walls cut off.
    diagonal = (fu - fv).abs() * math.sqrt(0.5)
    corner = torch.minimum(fu + (1.0 - fv), (1.0 - fu) + fv) * math.sqrt(0.5)
    wall = 0.17 - torch.minimum(diagonal, corner)
    return _blend(a, b, _ramp(wall, scale, max(height, width)))


def _waves(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b, c = _bold(seeds, 3, 10)
    u, v, scale = _rotated(seeds, height, width, 20, (4.0, 9.0))
    bend = _wave(v * _parameter(seeds, 23, 0.25, 0.6)) * _parameter(seeds, 24, 0.4, 1.1)
    side = max(height, width)
    f = _fraction(u + bend)
    picture = _blend(a, b, _ramp(torch.minimum(f, 0.55 - f), scale, side))
    return _blend(picture, c, _ramp(torch.minimum(f - 0.7, 0.82 - f), scale, side))


def _zigzag(seeds: Tensor, height: int, width: int) -> Tensor:
    a, b = _bold(seeds, 2, 10)
    u, v, scale = _rotated(seeds, height, width, 20, (4.0, 9.0))
    f = _fraction(u + (_fraction(v * 0.8) - 0.5).abs() * _parameter(seeds, 23, 1.0, 2.2))
    return _blend(a, b, _ramp(torch.minimum(f, 0.5 - f), scale, max(height, width)))


#: Generators of :func:`patterns`, equally frequent.
_PATTERNS: dict[str, tuple[_Maker, int]] = {
    "bold_stripes": (_bold_stripes, 1),
    "checkerboard": (_checkerboard, 1),
    "dots": (_dots, 1),
    "bricks": (_bricks, 1),
    "voronoi": (_voronoi, 1),
    "rings": (_rings, 1),
    "plaid": (_plaid, 1),
    "maze": (_maze, 1),
    "waves": (_waves, 1),
    "zigzag": (_zigzag, 1),
}

#: Names of the pattern generators.
PATTERNS: tuple[str, ...] = tuple(_PATTERNS)


# --------------------------------------------------------------------------------------------------
# Front ends
# --------------------------------------------------------------------------------------------------

_KIND_STREAM = 1
_FINISH_STREAM = 2


def _draw(
    family: dict[str, tuple[_Maker, int]], seeds: Tensor, kinds: Sequence[str] | None
) -> tuple[list[str], Tensor]:
    """Return the kinds in play and, per sample, which of them it is: (B,) int64."""
    names = list(family) if kinds is None else list(kinds)
    for name in names:
        if name not in family:
            raise ClipRobustError(
                f"unknown procedural kind {name!r}.{did_you_mean(name, family)} "
                f"Known are {', '.join(family)}"
            )
    weighted = [i for i, name in enumerate(names) for _ in range(family[name][1])]
    return names, torch.tensor(weighted)[_choice(seeds, _KIND_STREAM, len(weighted))]


def _render(
    family: dict[str, tuple[_Maker, int]],
    seeds: Tensor,
    height: int,
    width: int,
    kinds: Sequence[str] | None,
) -> Tensor:
    names, drawn = _draw(family, seeds, kinds)
    images = torch.empty(seeds.shape[0], 3, height, width)
    rows_at_once = max(1, _CHUNK_PIXELS // (height * width))
    for i, name in enumerate(names):
        for rows in torch.split(torch.nonzero(drawn == i)[:, 0], rows_at_once):
            if rows.numel():
                images[rows] = family[name][0](seeds[rows], height, width)
    return images


def backgrounds(
    seeds: Tensor,
    height: int,
    width: int,
    *,
    kinds: Sequence[str] | None = None,
    grain: bool = True,
) -> Tensor:
    """Return quiet, varied pictures to stand behind an object.

    Args:
        seeds: (B,) int64, one per picture.
        height: pixels.
        width: pixels.
        kinds: restrict to these generators (names in :data:`BACKGROUNDS`).
        grain: add a little per-pixel noise, as a sensor does.

    Returns:
        (B, 3, H, W) float32 in [0, 1]; row ``i`` depends on ``seeds[i]`` and the size alone.

    Raises:
        ClipRobustError: a kind is unknown.
    """
    images = _render(_BACKGROUNDS, seeds, height, width, kinds)
    # A little exposure, contrast and sensor grain, so that no two pictures share exact colours.
    finish = random.uniform(seeds, (3,), stream=_FINISH_STREAM).view(-1, 3, 1, 1)
    contrast = 0.75 + 0.35 * finish[:, :1]
    offset = 0.5 - 0.5 * contrast + 0.16 * (finish[:, 1:2] - 0.5)
    strength = 0.03 * finish[:, 2:]
    out = torch.empty_like(images)
    rows_at_once = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, seeds.shape[0], rows_at_once):
        rows = slice(start, start + rows_at_once)
        part = images[rows] * contrast[rows] + offset[rows]
        if grain:
            noise = _grain(seeds[rows], height, width, _FINISH_STREAM + 1)
            part = part + noise * strength[rows]
        out[rows] = part.clamp_(0.0, 1.0)
    return out


def patterns(
    seeds: Tensor, height: int, width: int, *, kinds: Sequence[str] | None = None
) -> Tensor:
    """Return pictures that are a texture and nothing else; :func:`backgrounds` never makes these.

    Args:
        seeds: (B,) int64, one per picture.
        height: pixels.
        width: pixels.
        kinds: restrict to these generators (names in :data:`PATTERNS`).

    Returns:
        (B, 3, H, W) float32 in [0, 1]; row ``i`` depends on ``seeds[i]`` and the size alone.

    Raises:
        ClipRobustError: a kind is unknown.
    """
    return _render(_PATTERNS, seeds, height, width, kinds).clamp_(0.0, 1.0)
