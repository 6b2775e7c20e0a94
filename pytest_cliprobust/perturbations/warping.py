"""What a moved or turned camera sees of a picture with depth, and the mean of what it sees on its way.

**Turning** the camera (or changing its field of view) moves every pixel by a homography, whatever its
depth: :func:`turned_view`.

**Moving** it shifts near points more than far ones. Seen from the moved camera, pixel y shows a point
that lay at y + r·u in the old picture, on a straight line (the epipolar line), and a point of relative
distance d gets there at the time r·d: near points are fast. So one walk along each pixel's line, from
its far end back to the pixel, finds all that passes the pixel, and in which order: what passes at the
same time from farther away along the line is nearer to the camera and hides the rest (a z-buffer
without a scatter; McMillan 1995's occlusion-compatible order, seen from the target). Where the walk
leaves a surface for a farther one, times are left over in which the pixel sees what was hidden in the
old picture: this disocclusion is filled from the farther surface.

:func:`moved_view` keeps what is there at one time. :func:`mean_view` integrates over an interval of
time, in closed form for each step of the walk, so that the blur of a whole camera path costs one walk.

No step has a data-dependent shape; all arithmetic is element-wise or a gather, and row ``i`` is
bit-identical in every batch if a CPU caller goes sample by sample (:func:`.filters.sample_by_sample`).
Everything takes float32 or float64. Gradients flow to the images, not to the distances.

Places are in pixels from the picture's centre, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.filters import box_resize, on_host, tables

NEAREST = 0.5
"""Relative distances below this one count as this one, so that the longest walk is known."""

_HOLE = 0.25
"""Pixels by which two surfaces part before the gap is a hole; less is a slanted surface, stretched."""

_RIM = 1.0
"""Pixels from the last one of the near surface to the one that the fill of a hole is mirrored at."""


_CELL = 8
"""Pixels over which what lies beyond the frame is averaged, and after how many it is."""

_FINE = 4.0
"""Pixels of a walk that are met one by one, rather than in means of three."""

_STRIDE = 2
"""Pixels between two places that :func:`moved_view` looks at: it makes every near thing three wide."""

_STEEP = 2.0**24


class Movement(NamedTuple):
    """How the camera moves in one unit of time, told by what a point at relative distance 1 does.

    A point at place x and relative distance d appears, at time t, at
    (x − across·t/d, y − down·t/d) / (1 − approach·t/d).

    Attributes:
        across: (B,) pixels that the camera moves to the right.
        down: (B,) pixels that it moves down.
        approach: (B,) share of its distance by which the point comes nearer; negative: it recedes.
            None: no approach, all lines are parallel.
    """

    across: Tensor
    down: Tensor
    approach: Tensor | None = None

    def reach(self, height: int, width: int) -> Tensor:
        """Return (B,) how far a point half-way to the frame moves at distance 1, along an axis."""
        across, down = self.across.abs(), self.down.abs()
        if self.approach is not None:
            spread = self.approach.abs()
            across, down = across + spread * (width / 4), down + spread * (height / 4)
        return torch.maximum(across, down)


@tables
def _lengths(*numbers: float) -> tuple[list[float]]:
    return (list(numbers),)


class _Walk:
    """What is met on the way along each pixel's line.

    A length along a line is in pixels, as measured half-way to the frame where lines are not parallel.
    """

    def __init__(self, images: Tensor, movement: Movement) -> None:
        self.height, self.width = images.shape[-2:]
        self.images = images
        self.movement = Movement(
            *(None if part is None else part.to(images.dtype) for part in movement)  # type: ignore[arg-type]
        )
        # A camera at rest has no lines; any positive length gives it lines of one pixel.
        self.unit = self.movement.reach(self.height, self.width).clamp(min=1e-6)

    def longest(self, distance: Tensor, time: float, reach: float) -> float:
        """Return how long the walk must be: on the host as long as needed, else for ``reach``."""
        if on_host(distance):
            nearest = distance.flatten(1).amin(dim=1)
            return float((self.unit / nearest).max()) * time
        return reach * time / NEAREST

    def met(self, layers: Tensor, lengths: Sequence[float]) -> Iterator[Tensor]:
        """Yield ``layers`` (B, C, H, W) as met after each of ``lengths``, at the nearest pixel.

        Beyond the frame its edge is continued.
        """
        share = _lengths(self.images, *lengths)[0] / self.unit[:, None]
        across = share * self.movement.across[:, None]
        down = share * self.movement.down[:, None]
        if self.movement.approach is None:
            right, low = (
                (across + 0.5).floor().to(torch.int64),
                (down + 0.5).floor().to(torch.int64),
            )
            if on_host(layers) and layers.shape[0] == 1:
                yield from self._slices(layers, right[0].tolist(), low[0].tolist())
                return
            x = torch.arange(self.width, device=layers.device) + right[:, :, None]
            y = torch.arange(self.height, device=layers.device) + low[:, :, None]
            columns, rows = x.clamp(0, self.width - 1), y.clamp(0, self.height - 1)
        else:
            centre_x, centre_y = centred(self.images)
            scale = (1 - share * self.movement.approach[:, None])[:, :, None]
            x = torch.addcmul((across + self.width / 2)[:, :, None], scale, centre_x)
            y = torch.addcmul((down + self.height / 2)[:, :, None], scale, centre_y)
            # Conversion cuts the fraction off; nothing is negative by then.
            columns = x.clamp(0, self.width - 1).to(torch.int64)
            rows = y.clamp(0, self.height - 1).to(torch.int64)
        rows = rows * self.width
        batch, channels = layers.shape[:2]
        flat = layers.flatten(2)
        for number in range(len(lengths)):
            index = rows[:, number, :, None] + columns[:, number, None, :]
            index = index.view(batch, 1, -1).expand(batch, channels, -1)
            yield flat.gather(2, index).view_as(layers)

    def _slices(self, layers: Tensor, right: list[int], low: list[int]) -> Iterator[Tensor]:
        wide, high = max(map(abs, right), default=0), max(map(abs, low), default=0)
        padded = F.pad(layers, (wide, wide, high, high), mode="replicate")
        for column, row in zip(right, low, strict=True):
            rows = padded.narrow(-2, high + row, self.height)
            yield rows.narrow(-1, wide + column, self.width)

    def place(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return x, y (B, H, W) of the points ``length`` (B, H, W) along the lines."""
        across, down = (
            (part / self.unit)[:, None, None] for part in (self.movement.across, self.movement.down)
        )
        x, y = centred(self.images)
        y = y[:, None]
        if self.movement.approach is None:
            return length * across + x, length * down + y
        approach = (self.movement.approach / self.unit)[:, None, None]
        return length * (across - x * approach) + x, length * (down - y * approach) + y


def centred(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return x (W,) and y (H,) of the pixels' centres, in pixels from the picture's centre."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    return x, y


def fetch(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return images (B, C, h, w) at the places x, y (B, h, w), bilinearly.

    Beyond the frame its edge is continued, soon in means of :data:`_CELL` pixels, so that it makes no
    streaks. A mirrored picture would look better, but show its object twice.
    """
    height, width = images.shape[-2:]
    grid = torch.stack((x * (2 / width), y * (2 / height)), dim=1).permute(0, 2, 3, 1)
    shown = _bilinear(images, grid)
    across, down = x.abs() - (width - 1) / 2, y.abs() - (height - 1) / 2
    beyond = torch.maximum(across, down).mul_(1 / _CELL).clamp_(0, 1)
    few = on_host(beyond) and len(images) == 1
    if few:
        outside = beyond.flatten().nonzero()[:, 0]
        if not len(outside):
            return shown
    cells = _cells(images)
    if not few:
        return torch.lerp(shown, _bilinear(cells, grid), beyond[:, None])
    # Most pixels lie inside the frame: only the others are fetched a second time.
    places = grid.view(-1, 2).T.gather(1, outside.expand(2, -1)).T[None, None]
    around = _bilinear(cells, places)[0, :, 0]
    flat = shown.view(images.shape[1], -1)
    index = outside.expand(len(flat), -1)
    mixed = torch.lerp(flat.gather(1, index), around, beyond.view(-1).gather(0, outside))
    put = flat.scatter if flat.requires_grad else flat.scatter_
    return put(1, index, mixed).view_as(shown)


def _cells(images: Tensor) -> Tensor:
    """Return the means over squares of :data:`_CELL` pixels."""
    height, width = images.shape[-2:]
    if height % _CELL or width % _CELL:
        return box_resize(images, (max(height // _CELL, 1), max(width // _CELL, 1)))
    rows = images[..., ::_CELL, :]
    for i in range(1, _CELL):
        rows = rows + images[..., i::_CELL, :]
    columns = rows[..., ::_CELL]
    for i in range(1, _CELL):
        columns = columns + rows[..., i::_CELL]
    return columns * (1 / _CELL**2)


def _bilinear(images: Tensor, grid: Tensor) -> Tensor:
    """Return images (B, C, h, w) at the places of ``grid``, in halves of the frame, beyond it its edge."""
    batch, height, width = grid.shape[:3]
    if on_host(grid) and batch == 1 and height % 2 == 0:
        # Threads share the work by samples: of one picture make two.
        grid = grid.reshape(2, height // 2, width, 2)
        halves = F.grid_sample(
            images.expand(2, -1, -1, -1), grid, padding_mode="border", align_corners=False
        )
        return halves.transpose(0, 1).reshape(1, -1, height, width)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _steps(length: float) -> list[tuple[float, float]]:
    """Return the intervals that a walk of ``length`` pixels is cut into: one pixel, later three.

    Far surfaces use the start alone, and show their detail; the rest is blurred over many steps.
    """
    steps, end = [(0.0, 0.5)], 0.5
    while end < length:
        width = 1.0 if end < _FINE else 3.0
        steps.append((end, end + width))
        end += width
    return steps


def mean_view(
    images: Tensor, distance: Tensor, movement: Movement, *, time: float, reach: float
) -> Tensor:
    """Return the mean of what a moving camera sees from time 0 to ``time``.

    Args:
        images: (B, C, H, W).
        distance: (B, 1, H, W) relative distances, from :data:`NEAREST` (nearer ones count as that).
        movement: the camera's.
        time: how long, a positive python number.
        reach: python number, no less than ``movement.reach(H, W)``: the length of the walk where
            the tensors cannot be asked.
    """
    walk = _Walk(images, movement)
    distance = distance.detach().clamp(min=NEAREST)
    steps = _steps(walk.longest(distance, time, reach))[::-1]
    per_pixel = distance / walk.unit.view(-1, 1, 1, 1)
    lengths = [(start + end) / 2 for start, end in steps[:-1]]
    result = torch.zeros_like(images)

    def met() -> Iterator[Tensor]:
        coarse = [length for length in lengths if length > _FINE + 1]
        if coarse:
            # A step of three pixels shows the mean of three, or edges would print at every step.
            before, after = walk.met(images, [-1.0, 1.0])
            smooth = (before + images + after) * (1 / 3)
            del before, after
            yield from walk.met(torch.cat((per_pixel, smooth), dim=1), coarse)
            del smooth
        yield from walk.met(torch.cat((per_pixel, images), dim=1), [*lengths[len(coarse) :], 0.0])

    # A surface met between the lengths ``start`` and ``end`` is seen for the times from start·d to
    # end·d of those before ``open_``, when nothing nearer passes. Times that neither it nor a nearer
    # surface fills belong to the farther neighbour: so each colour lasts until the next surface leaves.
    open_ = torch.full_like(per_pixel, time)
    colour, reached, start = images, None, steps[0][1]
    for (following, _), layers in zip(steps, met(), strict=True):
        passing = layers[:, :1]
        leaves = passing if reached is None else torch.minimum(passing, reached)
        leaves = torch.minimum(open_, leaves * start)
        result = result.addcmul_(open_ - leaves, colour)
        open_, colour, reached, start = leaves, layers[:, 1:], passing, following
    result = result.addcmul_(open_, colour)
    return result.mul_(1 / time)


def moved_view(images: Tensor, distance: Tensor, movement: Movement, *, reach: float) -> Tensor:
    """Return what the camera sees after one unit of time.

    Disocclusions show the farther surface beside them, mirrored at the silhouette; beyond the old frame
    see :func:`fetch`. See :func:`mean_view` for the arguments.
    """
    walk = _Walk(images, movement)
    # A silhouette's pixels mix both surfaces. They go with the near one, or would stay as its shadow.
    distance = _grown(distance.detach().clamp(min=NEAREST))
    per_pixel = distance / walk.unit.view(-1, 1, 1, 1)
    count = int(walk.longest(distance, 1.0, reach) / _STRIDE) + 2
    lengths = [float(_STRIDE * (number + 1)) for number in range(count)]
    # The greatest length at which something passes by now, or has passed. A comparison would cost
    # more than this steep ramp.
    length = torch.zeros_like(per_pixel)
    for number, met in zip(lengths, walk.met(per_pixel * _STEEP, lengths), strict=True):
        passed = torch.rsub(met, _STEEP / (number - 0.5)).clamp(max=number)
        length = torch.maximum(length, passed)
    return _show(images, per_pixel[:, 0], walk, length[:, 0].floor())


def _grown(distance: Tensor) -> Tensor:
    """Return the least distance among each pixel and its eight neighbours."""
    for dim, border in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        padded, size = F.pad(distance, border, mode="replicate"), distance.shape[dim]
        beside = torch.minimum(padded.narrow(dim, 0, size), padded.narrow(dim, 2, size))
        distance = torch.minimum(distance, beside)
    return distance


def _show(images: Tensor, per_pixel: Tensor, walk: _Walk, length: Tensor) -> Tensor:
    """Return the picture whose pixel shows what lies about ``length`` (B, H, W) along its line."""
    height, width = walk.height, walk.width

    def reciprocal(length: Tensor) -> Tensor:
        """Return the length at which what is met at ``length`` passes the pixel now."""
        x, y = walk.place(length)
        column = (x + width / 2).clamp(0, width - 1).floor()
        row = (y + height / 2).clamp(0, height - 1).floor()
        index = torch.add(column, row, alpha=width).to(torch.int64).flatten(1)
        return 1 / per_pixel.flatten(1).gather(1, index).view_as(length)

    # The search went in strides of two pixels; what lies a pixel further may pass as well.
    beyond = reciprocal(length + 1)
    length = length + (beyond > length + 0.5).to(length.dtype)
    own = reciprocal(length)
    hole = own > length + (0.5 + _HOLE)
    # What the hole shows lies behind; its place on the line is mirrored at the silhouette.
    behind = reciprocal(length + 1)
    edge = length + _RIM
    mirrored = torch.maximum(2 * edge - behind, edge)
    # Another near object at the mirrored place is no background.
    mirrored = torch.where(reciprocal(mirrored) > 1.25 * behind, edge, mirrored)
    shown = torch.maximum(torch.minimum(own, length + 0.5), length - 0.5)
    return fetch(images, *walk.place(torch.where(hole, mirrored, shown)))


def turned_view(images: Tensor, rotation: Tensor, focal: Tensor, new_focal: Tensor) -> Tensor:
    """Return what a camera sees that was turned, or whose focal length was changed.

    Args:
        images: (B, C, H, W).
        rotation: (B, 3, 3), whose rows are the turned camera's axes (right, down, forward) in the
            old camera's coordinates.
        focal: (B,) focal length in pixels.
        new_focal: (B,) that of the turned camera.

    Beyond the old frame see :func:`fetch`. The turn must leave the frame in front of the old camera.
    """
    x, y = centred(images)
    focal, new_focal = focal.view(-1, 1, 1), new_focal.view(-1, 1, 1)
    axes = rotation.to(images.dtype)[:, :, :, None, None]
    x, y = (x / new_focal).expand(-1, y.shape[0], -1), y[:, None] / new_focal
    right, down, forward = (x * axes[:, 0, i] + y * axes[:, 1, i] + axes[:, 2, i] for i in range(3))
    depth = focal / forward.abs().clamp(min=1e-3)
    return fetch(images, right * depth, down * depth)
