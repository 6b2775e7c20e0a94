"""LAION-C's six distortions (Li et al., ICML 2025), unlike anything that web-scale training data holds.

Their parameters are for pictures of 224 pixels; lengths scale with the shorter side. Two of the published
ones paste pictures: :func:`stickers` some of a hundred thousand web pictures shrunk to 16 pixels,
:func:`mosaic` those whose mean colour is nearest. Ours paste procedural ones instead (an edge between two
colours, of random direction and sharpness), so that nothing need be downloaded: they clutter as much, but
mean nothing. All draw from the sample's seed; the published :func:`glitch` is the same one for all
pictures. Nothing is saved as JPEG afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.common.reference import relative_size
from pytest_cliprobust.perturbations.filters import box_resize, in_small_batches, tables
from pytest_cliprobust.perturbations.registry import register

SOURCE = "Li et al. 2025, LAION-C"

_LUMA = (0.299, 0.587, 0.114)

# --------------------------------------------------------------------------------------------------
# Things strewn over the picture
# --------------------------------------------------------------------------------------------------


@tables
def _window(low: int, high: int) -> tuple[Any, ...]:
    """Return the rows and columns of a window's pixels, one after the other."""
    side = range(low, high)
    return [y for y in side for _ in side], [x for _ in side for x in side]


def _strewn(
    topmost: Tensor,
    numbers: range,
    places: Tensor,
    window: tuple[int, int],
    inside: Callable[[slice, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return ``topmost`` (B, H, W) int32 with the numbers of things that lie over what was there.

    Args:
        topmost: the number of the thing that each pixel shows so far, −1: none.
        numbers: of the things that are added: the larger lies on top.
        places: (B, 2, N) int64, row and column of each thing.
        window: which rows and columns about its place a thing may cover, first and one beyond.
        inside: (the things, rows, columns from their places) to what is inside, (B, n, pixels) bool; None:
            all of the window.
    """
    batch, height, width = topmost.shape
    rows, columns = _window(places, *window)
    order = torch.arange(
        numbers.start, numbers.stop, numbers.step, dtype=torch.int32, device=topmost.device
    )
    # As many at once as have the pixels of the picture together.
    at_once = max(height * width // len(rows), 1)
    flat = topmost.flatten(1)
    for start in range(0, len(numbers), at_once):
        some = slice(start, min(start + at_once, len(numbers)))
        y = places[:, 0, some, None] + rows
        x = places[:, 1, some, None] + columns
        shown = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        if inside is not None:
            shown &= inside(some, rows, columns)
        index = (y.clamp_(0, height - 1) * width).add_(x.clamp_(0, width - 1))
        values = torch.where(shown, order[some, None], -1).flatten(1)
        flat = flat.scatter_reduce(1, index.flatten(1), values, "amax")
    return flat.view(batch, height, width)


def _pasted(images: Tensor, topmost: Tensor, colours: Tensor) -> Tensor:
    """Return the picture with things of one colour (B, 3, N) each over it, by their ``topmost`` numbers."""
    flat = topmost.flatten(1)
    index = flat.clamp(min=0).to(torch.int64)[:, None].expand(-1, 3, -1)
    over = colours.to(images.dtype).gather(2, index).view_as(images)
    return torch.where((topmost >= 0)[:, None], over, images)


def _places(seeds: Tensor, count: int, height: int, width: int, stream: int) -> Tensor:
    """Return places (B, 2, N) int64, uniform over rows and columns below ``height`` and ``width``."""
    draw = random.uniform(seeds, (count, 2), stream=stream)
    y, x = (draw[..., i].mul(size).to(torch.int64) for i, size in enumerate((height, width)))
    return torch.stack((y.clamp_(max=height - 1), x.clamp_(max=width - 1)), dim=1)


def _star(down: Tensor, right: Tensor, radius: Tensor, turn: Tensor) -> Tensor:
    """Return what lies in stars of five points: kites between centre, inner corners and point."""
    tenth = math.pi / 5
    steep = 0.5 * math.sin(tenth) / (1 - 0.5 * math.cos(tenth))
    found: Tensor | None = None
    for point in range(5):
        angle = turn + point * 2 * tenth
        along = right * angle.sin() + down * angle.cos()
        aside = (right * angle.cos() - down * angle.sin()).abs()
        kite = (aside <= along * math.tan(tenth)) & (aside <= (radius - along) * steep)
        found = kite if found is None else found | kite
    assert found is not None
    return found


@register(
    severities=tuple({"count": float(c)} for c in (150, 300, 600, 800, 1000)),
    envelope={"count": (0.0, 1500.0)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def geometric_shapes(images: Tensor, *, count: float, seeds: Tensor) -> Tensor:
    """Strew ``count`` triangles, squares, stars and circles of one colour each over the picture.

    Sizes are 6 to 15 whole pixels at 224, places and colours uniform; a star has an outer radius of size /
    1.2, half of it inside, and any turn. Kinds take turns (the published ones are drawn at random). A larger
    count adds shapes on top.
    """
    number = round(count)
    if number <= 0:
        return images
    height, width = images.shape[-2:]
    scale = relative_size(images)
    places = _places(seeds, number, height, width, 0)
    draw = random.uniform(seeds, (number, 5), stream=1)
    size = (draw[..., :1] * 10).floor_().add_(6) * scale
    turn = draw[..., 1:2] * (2 * math.pi)
    topmost = torch.full((len(images), height, width), -1, dtype=torch.int32, device=images.device)

    def triangle(side: Tensor, _: Tensor, down: Tensor, right: Tensor) -> Tensor:
        return (down <= side) & ((right - side * 0.5).abs() <= (side - down) * 0.5)

    def square(side: Tensor, _: Tensor, down: Tensor, right: Tensor) -> Tensor:
        return (down <= side) & (right <= side)

    def circle(side: Tensor, _: Tensor, down: Tensor, right: Tensor) -> Tensor:
        half = side * 0.5
        return (down - half).square() + (right - half).square() <= half.square()

    def star(side: Tensor, turn: Tensor, down: Tensor, right: Tensor) -> Tensor:
        return _star(down, right, side * (1 / 1.2), turn)

    reach, span = math.ceil(15 * scale / 1.2), math.floor(15 * scale)
    for first, kind in enumerate((triangle, square, star, circle)):
        own, own_turn = size[:, first::4], turn[:, first::4]

        def inside(
            some: slice,
            rows: Tensor,
            columns: Tensor,
            kind: Any = kind,
            own: Tensor = own,
            own_turn: Tensor = own_turn,
        ) -> Tensor:
            found: Tensor = kind(own[:, some], own_turn[:, some], rows, columns)
            return found

        window = (-reach, reach + 1) if kind is star else (0, span + 1)
        numbers = range(first, number, 4)
        topmost = _strewn(topmost, numbers, places[:, :, first::4], window, inside)
    return _pasted(images, topmost, draw[..., 2:].transpose(1, 2))


@register(
    severities=tuple({"count": float(c)} for c in (100, 200, 400, 600, 1200)),
    envelope={"count": (0.0, 1500.0)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def stickers(images: Tensor, *, count: float, seeds: Tensor) -> Tensor:
    """Paste ``count`` small pictures of 16 pixels (at 224), one over the other, at random places.

    Each shows an edge between two random colours (see the module for the difference). Places are those at
    which all of it is inside. A larger count adds pictures on top.
    """
    number = round(count)
    if number <= 0:
        return images
    height, width = images.shape[-2:]
    side = max(round(16 * relative_size(images)), 1)
    places = _places(seeds, number, max(height - side, 1), max(width - side, 1), 0)
    topmost = torch.full((len(images), height, width), -1, dtype=torch.int32, device=images.device)
    topmost = _strewn(topmost, range(number), places, (0, side))
    index = topmost.flatten(1).clamp(min=0).to(torch.int64)
    # Where a pixel lies in its sticker, −1 to 1.
    rows = torch.arange(height, device=images.device)[:, None].expand(height, width).flatten()
    columns = torch.arange(width, device=images.device).repeat(height)
    down, right = (
        (place - places[:, axis].gather(1, index))
        .to(torch.float32)
        .add_(0.5)
        .mul_(2 / side)
        .sub_(1)
        for axis, place in enumerate((rows, columns))
    )
    edge = _edge(seeds, number)
    share = _side(down, right, *(part.gather(1, index) for part in edge)).mul_(0.5).add_(0.5)
    colours = random.uniform(seeds, (6, number), stream=3)
    picked = colours.gather(2, index[:, None].expand(-1, 6, -1))
    shown = torch.lerp(picked[:, :3], picked[:, 3:], share[:, None]).view(-1, 3, height, width)
    return torch.where((topmost >= 0)[:, None], shown.to(images.dtype), images)


def _edge(seeds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return slopes (B, N) along both axes of edges of random direction, 1 to 6 steep."""
    turn, steep = random.uniform(seeds, (2, count), stream=2).unbind(1)
    turn, steep = turn * (2 * math.pi), steep * 5 + 1
    return turn.cos() * steep, turn.sin() * steep


def _side(down: Tensor, right: Tensor, across: Tensor, along: Tensor) -> Tensor:
    """Return on which side of an edge through its middle a place lies, −1 to 1; odd about the middle."""
    return (right * across).addcmul_(down, along).clamp_(-1, 1)


# --------------------------------------------------------------------------------------------------
# Tiles
# --------------------------------------------------------------------------------------------------


@tables
def _tiles(size: int, count: int) -> tuple[Any, ...]:
    """Return for each of ``size`` pixels its tile of ``count``, and where in it the pixel lies, −1 to 1."""
    tile = [min(i * count // size, count - 1) for i in range(size)]
    first = {t: i for i, t in reversed(list(enumerate(tile)))}
    wide = [tile.count(t) for t in range(count)]
    places = [(2.0 * (i - first[t]) + 1) / wide[t] - 1 for i, t in enumerate(tile)]
    return tile, places


def _spread(values: Tensor, height: int, width: int) -> Tensor:
    """Return values (B, C, rows, columns) for each pixel of the tile, (B, C, height, width)."""
    rows, columns = values.shape[-2:]
    across = values.index_select(-1, _tiles(values, width, columns)[0])
    return across.index_select(-2, _tiles(values, height, rows)[0])


@register(
    severities=tuple(
        {"low": low / 255, "high": high / 255}
        for low, high in ((0, 50), (50, 100), (100, 125), (125, 150), (150, 255))
    ),
    envelope={"low": (0.0, 150 / 255), "high": (0.0, 1.0)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def luminance_checkerboard(images: Tensor, *, low: float, high: float, seeds: Tensor) -> Tensor:
    """Brighten and darken tiles of 14 pixels (at 224) in turn, each by a number from ``low`` to ``high``."""
    height, width = images.shape[-2:]
    tile = 14 * relative_size(images)
    rows, columns = (max(math.ceil(side / tile - 1e-6), 1) for side in (height, width))
    amount = random.uniform(seeds, (1, rows, columns), low, high).to(images.dtype)
    y = torch.arange(rows, device=images.device)[:, None]
    sign = 1 - 2 * ((y + torch.arange(columns, device=images.device)) % 2).to(images.dtype)
    index = [
        (torch.arange(side, device=images.device) / tile).to(torch.int64).clamp_(max=count - 1)
        for side, count in ((height, rows), (width, columns))
    ]
    spread = (amount * sign).index_select(-1, index[1]).index_select(-2, index[0])
    return (images + spread).clamp(0, 1)


_CONTRAST = 0.25


@register(
    severities=tuple({"tile": float(t)} for t in (4, 6, 8, 16, 28)),
    envelope={"tile": (0.0, 40.0)},
    inputs=("seeds",),
    source=SOURCE,
)
@in_small_batches
def mosaic(images: Tensor, *, tile: float, seeds: Tensor) -> Tensor:
    """Replace tiles of ``tile`` pixels (at 224) by small pictures of the same mean colour.

    The published bank has a million pictures, of which the one nearest in mean colour is taken. Ours are
    edges through the tile's middle with colours up to a quarter brighter on one side and darker on the
    other, so that the mean is the tile's own (but for clamping).
    """
    height, width = images.shape[-2:]
    # No picture is smaller than two pixels, unless it is asked for.
    pixels = max(tile * relative_size(images), min(tile, 2.0), 1e-3)
    rows, columns = (min(max(round(side / pixels), 1), side) for side in (height, width))
    mean = box_resize(images, (rows, columns))
    shape = (-1, 1, rows, columns)
    across, along = (part.view(shape).to(images.dtype) for part in _edge(seeds, rows * columns))
    contrast = random.uniform(seeds, (3, rows, columns), -_CONTRAST, _CONTRAST, stream=3)
    down, right = _tiles(images, height, rows)[1][:, None], _tiles(images, width, columns)[1]
    side = _side(down, right, _spread(across, height, width), _spread(along, height, width))
    colour = _spread(contrast.to(images.dtype), height, width)
    return torch.addcmul(_spread(mean, height, width), colour, side).clamp(0, 1)


# --------------------------------------------------------------------------------------------------
# Lines
# --------------------------------------------------------------------------------------------------


@register(
    severities=tuple(
        {"lines": float(lines), "step": float(step)}
        for lines, step in ((224, 1), (178, 2), (112, 4), (84, 6), (60, 8))
    ),
    envelope={"lines": (224.0, 60.0), "step": (1.0, 8.0), "displacement": (0.0, 40.0)},
    source=SOURCE,
)
@in_small_batches
def vertical_lines(
    images: Tensor, *, lines: float = 112.0, step: float = 4.0, displacement: float = 40.0
) -> Tensor:
    """Draw the picture anew as vertical lines on black, each moved to the left where the picture is dark.

    A line has a corner every ``step`` pixels, at its own place minus ``displacement``·(1 − luma) pixels (at
    224), where it has the mean luma of its cell, and the colour of the corner that it goes down to; lines
    further right lie on top. Everything is a step lower than published, so that a line's colours lie where
    the picture has them, and the first step is a line straight down.
    """
    height, width = images.shape[-2:]
    scale = relative_size(images)
    count = min(max(round(lines * width / min(height, width)), 1), width)
    rows = min(math.ceil(height / (step * scale) - 1e-6), height)
    cells = box_resize(images, (rows, count))
    luma = cells[:, :1] * _LUMA[0] + cells[:, 1:2] * _LUMA[1] + cells[:, 2:] * _LUMA[2]
    spacing, reach = width / count, displacement * scale
    corner = (luma.detach() - 1) * reach
    start = torch.arange(count, dtype=images.dtype, device=images.device) * spacing
    corner = corner + start
    # Where lines are at a row's upper and lower edge: at rows of cells they turn.
    before, after = _strokes(corner, height)
    # Columns are rows in memory: whole ones are fetched.
    before, after = before.mT.contiguous(), after.mT.contiguous()
    # In each row of pixels at least one, and none twice where lines are flat.
    left, right = torch.minimum(before, after).floor(), torch.maximum(before, after).floor()
    right = torch.maximum(right, left + 1)
    x = torch.arange(width, dtype=images.dtype, device=images.device)[:, None]
    first = [int(i / spacing) for i in range(width)]
    shown = torch.full((len(images), 1, width, height), -1.0, dtype=images.dtype, device=x.device)
    # A line is met at its own place or to the left of it.
    for further in range(math.ceil((reach + 1) / spacing) + 1):
        index = _numbers(x, *(min(place + further, count - 1) for place in first))[0]
        low, high = left.index_select(-2, index), right.index_select(-2, index)
        met = (low <= x) & (x < high)
        shown = torch.where(met, index[:, None].to(images.dtype), shown)
    shown = shown.mT
    drawn = cells.index_select(-2, _tiles(images, height, rows)[0])
    picked = drawn.gather(3, shown.clamp(min=0).to(torch.int64).expand(-1, 3, -1, -1))
    return torch.where(shown >= 0, picked, 0.0)


@tables
def _numbers(*numbers: int) -> tuple[list[int]]:
    return (list(numbers),)


def _strokes(corner: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Return where lines with ``corner`` (B, 1, rows, N) enter and leave each row of pixels."""
    rows = corner.shape[-2]
    place = torch.arange(height + 1, dtype=corner.dtype, device=corner.device) * (rows / height) - 1
    place = place.clamp(0, rows - 1)
    upper = place.floor().to(torch.int64)
    lower = (upper + 1).clamp(max=rows - 1)
    share = (place - upper)[:, None]
    along = torch.lerp(corner.index_select(-2, upper), corner.index_select(-2, lower), share)
    return along[..., :-1, :], along[..., 1:, :]


@register(
    severities=tuple({"level": float(v)} for v in (2, 4, 5, 8, 10)),
    envelope={"level": (0.0, 10.0), "scan_lines": (0.0, 1.0)},
    inputs=("seeds",),
    source=f"{SOURCE}, after the package glitch-this",
)
@in_small_batches
def glitch(images: Tensor, *, level: float, scan_lines: float = 1.0, seeds: Tensor) -> Tensor:
    """Shift bands of rows, one of the channels, and black out every other row.

    2·``level`` bands, up to a quarter of the height each, move by up to level² per cent of the width to
    either side, and wrap around; later ones lie on top. One channel moves by up to 2·level pixels (at 224)
    in both directions and wraps around. Of every other row the share ``scan_lines`` is black, at any size.
    """
    height, width = images.shape[-2:]
    bands = int(2 * level)
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    shift = torch.zeros((len(images), height), dtype=torch.int64, device=images.device)
    reach = int(level * level / 100 * width)
    if bands:
        draw = random.uniform(seeds, (3, bands))
        offset = _whole(draw[:, 0], -reach, reach)
        first = _whole(draw[:, 1], 0, height)
        tall = _whole(draw[:, 2], 1, max(height // 4, 1))
        for band in range(bands):
            own, start, size = (part[:, band, None] for part in (offset, first, tall))
            # No shift draws no band.
            inside = (y >= start) & (y < start + size) & (own != 0)
            shift = torch.where(inside, own, shift)
    column = (x - shift[:, :, None]) % width
    shown = images.gather(3, column[:, None].expand(-1, 3, -1, -1))
    draw = random.uniform(seeds, (3,), stream=1)
    far = round(2 * level * relative_size(images))
    down, right = (_whole(draw[:, i], -far, far)[:, None] for i in (0, 1))
    index = ((y - down) % height)[:, :, None] * width + ((x - right) % width)[:, None, :]
    # A moved channel is that of the picture without its bands.
    moved = images.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, 3, -1))
    channel = _whole(draw[:, 2], 0, 2)[:, None] == torch.arange(3, device=images.device)
    taken = channel & (down.ne(0) | right.ne(0))
    shown = torch.where(taken[:, :, None, None], moved.view_as(images), shown)
    return shown * (1 - scan_lines * (1 - y % 2).to(images.dtype))[:, None]


def _whole(draw: Tensor, low: int, high: int) -> Tensor:
    """Return whole numbers from ``low`` to ``high``, both included, of uniform ones."""
    return (draw * (high - low + 1)).to(torch.int64).clamp_(0, high - low).add_(low)
