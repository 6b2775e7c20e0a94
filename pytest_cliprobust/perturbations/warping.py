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

No step has a data-dependent shape where the tensors cannot be asked; all arithmetic is element-wise or a
gather, so that row ``i`` is bit-identical in every batch. Everything takes float32 or float64. Gradients
flow to the images, not to the distances.

Places are in pixels from the picture's centre, x to the right and y down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.filters import box_resize, on_host, straight_through, tables

NEAREST = 0.5
"""Relative distances below this one count as this one, so that the longest walk is known."""

_HOLE = 0.25
"""Pixels by which two surfaces part before the gap is a hole; less is a slanted surface, stretched."""

_RIM = 1.0
"""Pixels from the last one of the near surface to the one that the fill of a hole is mirrored at."""

_CELL = 8
"""Pixels over which what lies beyond the frame is averaged, and after how many it is."""

_FINE = 2.0
"""Pixels of a walk that are met one by one, rather than in means of three.

Against the mean of 41 rendered views of embedded scenes (PSNR, mean of twelve) a walk pixel by pixel comes to
43.7 dB, one that is fine for four pixels to 41.8, this one to 41.6; the still picture to 20.2. (Before
:func:`_without_combs`, which adds a decibel.)"""

_STRIDE = 2
"""Pixels between two places that :func:`moved_view` looks at: it makes every near thing three wide."""

_STEEP = 2.0**24

_AT_ONCE = 4
"""Samples that go at once on the host, where that is faster."""

Span = tuple[int, int]
"""Rows of a picture: the first one, and how many."""


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


class _Shifts(NamedTuple):
    """Whole pixels to the right and down, (B, N) int64 each, at N lengths along parallel lines."""

    right: Tensor
    low: Tensor

    def some(self, samples: slice, numbers: slice) -> _Shifts:
        """Return some of the stops, of some of the samples."""
        return _Shifts(self.right[samples, numbers], self.low[samples, numbers])

    def met(self, layers: Tensor, spans: Sequence[Span]) -> Iterator[Tensor]:
        """Yield ``layers`` (B, C, H, W) as met at each stop, (B, C, h, W): ``spans`` has the rows.

        Beyond the frame its edge is continued.
        """
        height, width = layers.shape[-2:]
        if on_host(layers) and len(layers) == 1:
            # Nothing need be fetched: a window moves over the picture.
            right, low = (part[0].tolist() for part in self)
            wide, high = max(map(abs, right), default=0), max(map(abs, low), default=0)
            padded = F.pad(layers, (wide, wide, high, high), mode="replicate")
            strides = padded.stride()
            for column, row, (first, size) in zip(right, low, spans, strict=True):
                start = (high + row + first) * strides[-2] + wide + column
                yield padded.as_strided((*layers.shape[:2], size, width), strides, start)
            return
        columns = torch.arange(width, device=layers.device) + self.right[:, :, None]
        columns, rows = columns.clamp_(0, width - 1), self.rows(height) * width
        flat = layers.flatten(2)
        for number, (first, size) in enumerate(spans):
            index = rows[:, number, first : first + size, None] + columns[:, number, None, :]
            index = index.flatten(1)[:, None].expand(-1, layers.shape[1], -1)
            yield flat.gather(2, index).view(*layers.shape[:2], size, width)

    def rows(self, height: int) -> Tensor:
        """Return the rows (B, N, H) that are met from each row."""
        rows = torch.arange(height, device=self.low.device) + self.low[:, :, None]
        return rows.clamp_(0, height - 1)


class _Places(NamedTuple):
    """Places x (B, N, W) and y (B, N, H), as ``grid_sample`` has them, at N lengths along any lines."""

    x: Tensor
    y: Tensor

    def some(self, samples: slice, numbers: slice) -> _Places:
        """Return some of the stops, of some of the samples."""
        return _Places(self.x[samples, numbers], self.y[samples, numbers])

    def met(self, layers: Tensor, spans: Sequence[Span]) -> Iterator[Tensor]:
        """Yield the nearest pixels of ``layers``; see :meth:`_Shifts.met`."""
        kept = torch.is_grad_enabled() and layers.requires_grad
        for grid in self._grids(spans, kept):
            yield F.grid_sample(
                layers, grid, mode="nearest", padding_mode="border", align_corners=False
            )

    def _grids(self, spans: Sequence[Span], kept: bool) -> Iterator[Tensor]:
        """Yield the grid (B, h, W, 2) of each stop; one that is not ``kept`` ends with the next one."""
        count, width = len(self.x), self.x.shape[-1]
        if on_host(self.x):
            # One pass over the memory instead of two, which are not in its order.
            zero = torch.zeros(1, dtype=self.x.dtype)
            x, y = torch.complex(self.x, zero)[:, :, None], torch.complex(zero, self.y)[..., None]
            highest = max((size for _, size in spans), default=0)
            room = None if kept else x.new_empty((count, highest, width))
            for number, (first, size) in enumerate(spans):
                rows = y[:, number, first : first + size]
                out = None if room is None else room[:, :size]
                yield torch.view_as_real(torch.add(x[:, number], rows, out=out))
            return
        for number, (first, size) in enumerate(spans):
            shape = count, size, width
            rows = self.y[:, number, first : first + size, None].expand(shape)
            yield torch.stack((self.x[:, number, None].expand(shape), rows), dim=-1)

    def rows(self, height: int) -> Tensor:
        """Return the rows (B, N, H) that are met from each row, give or take one."""
        rows = torch.add(height / 2, self.y, alpha=height / 2)
        return rows.clamp_(0, height - 1).to(torch.int64)


def _spans(stops: _Shifts | _Places, distance: Tensor, limits: Sequence[float]) -> list[Span]:
    """Return for each stop the rows that may meet something no farther than its limit.

    Those are all rows where the tensors cannot be asked. What is near, and so is met far along the
    lines, often fills a part of the frame only.
    """
    height = distance.shape[-2]
    if not on_host(distance):
        return [(0, height)] * len(limits)
    nearest = distance.amin(dim=(1, 3)).numpy()
    # The row is known give or take one, and the caller's comparison may round another way.
    around = nearest.copy()
    np.minimum(around[:, 1:], nearest[:, :-1], out=around[:, 1:])
    np.minimum(around[:, :-1], nearest[:, 1:], out=around[:, :-1])
    sample = np.arange(len(nearest))[:, None, None]
    met = around[sample, stops.rows(height).numpy()].min(axis=0)
    below = met <= np.multiply(limits, 1 + 1e-5)[:, None]
    first, last = below.argmax(axis=1), height - below[:, ::-1].argmax(axis=1)
    sizes = np.where(below[np.arange(len(below)), first], last - first, 0)
    return list(zip(first.tolist(), sizes.tolist(), strict=True))


class _Lines(NamedTuple):
    """Lines through the picture: the place x, y of each one's pixel, and its slope along both axes."""

    x: Tensor
    y: Tensor
    across: Tensor
    down: Tensor

    def place(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return x, y of the points ``length`` along the lines."""
        return (
            torch.addcmul(self.x, length, self.across),
            torch.addcmul(self.y, length, self.down),
        )

    def moved(self, x: float, y: float) -> _Lines:
        """Return the lines as seen from (−x, −y)."""
        return self._replace(x=self.x + x, y=self.y + y)

    def some(self, samples: slice) -> _Lines:
        """Return the lines of some of the samples."""
        return self._replace(across=self.across[samples], down=self.down[samples])

    def at(self, pixels: Tensor, height: int, width: int) -> _Lines:
        """Return the lines of ``pixels`` (N), numbered through all samples, (1, 1, 1 or N) each."""
        where = pixels // (height * width), pixels // width % height, pixels % width

        def picked(part: Tensor) -> Tensor:
            axes = [axis for axis, size in zip(where, part.shape, strict=True) if size > 1]
            part = part.squeeze()
            return (part[tuple(axes)] if axes else part.expand(1))[None, None]

        return _Lines(*map(picked, self))


class _Walk:
    """What is met on the way along each pixel's line.

    A length along a line is in pixels, as measured half-way to the frame where lines are not parallel.
    """

    def __init__(self, images: Tensor, movement: Movement) -> None:
        self.height, self.width = images.shape[-2:]
        self.movement = Movement(
            *(None if part is None else part.to(images.dtype) for part in movement)  # type: ignore[arg-type]
        )
        # A camera at rest has no lines; any positive length gives it lines of one pixel.
        self.unit = self.movement.reach(self.height, self.width).clamp(min=1e-6)
        self.centred = centred(images)

    def longest(self, distance: Tensor, time: float, reach: float) -> list[float]:
        """Return how long the walk must be: on the host as long as needed by each sample."""
        if on_host(distance):
            nearest = distance.flatten(1).amin(dim=1).clamp_(min=NEAREST)
            # A little more than needed: what a walk adds that is longer, for another sample's sake, must
            # be nothing to the last bit.
            return (self.unit / nearest * (time * (1 + 1e-5))).tolist()
        return [reach * time / NEAREST]

    def stops(self, lengths: Sequence[float]) -> _Shifts | _Places:
        """Return what is met after each of ``lengths``: the nearest pixels."""
        share = _lengths(self.unit, *lengths)[0] / self.unit[:, None]
        across = share * self.movement.across[:, None]
        down = share * self.movement.down[:, None]
        if self.movement.approach is None:
            return _Shifts(*((part + 0.5).floor().to(torch.int64) for part in (across, down)))
        centre_x, centre_y = self.centred
        scale = (1 - share * self.movement.approach[:, None])[:, :, None]
        return _Places(
            torch.addcmul(across[:, :, None], scale, centre_x).mul_(2 / self.width),
            torch.addcmul(down[:, :, None], scale, centre_y).mul_(2 / self.height),
        )

    def lines(self) -> _Lines:
        """Return where each pixel's line begins, and its slope, (1 or B, 1 or H, 1 or W) each."""
        x, y = self.centred
        x, y = x[None, None], y[None, :, None]
        across, down = (
            (part / self.unit)[:, None, None] for part in (self.movement.across, self.movement.down)
        )
        if self.movement.approach is None:
            return _Lines(x, y, across, down)
        approach = (self.movement.approach / self.unit)[:, None, None]
        return _Lines(x, y, across - x * approach, down - y * approach)


def centred(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return x (W,) and y (H,) of the pixels' centres, in pixels from the picture's centre."""
    height, width = images.shape[-2:]
    return _centres(images, width)[0], _centres(images, height)[0]


@tables
def _centres(size: int) -> tuple[list[float]]:
    return ([place - (size - 1) / 2 for place in range(size)],)


def fetch(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return images (B, C, h, w) at the places x, y (B, h, w), bilinearly.

    Beyond the frame its edge is continued, soon in means of :data:`_CELL` pixels, so that it makes no
    streaks. A mirrored picture would look better, but show its object twice.
    """
    height, width = images.shape[-2:]
    if on_host(x):
        grid = torch.view_as_real(torch.complex(x * (2 / width), y * (2 / height)))
    else:
        grid = torch.stack((x * (2 / width), y * (2 / height)), dim=-1)
    shown = _bilinear(images, grid)
    across, down = x.abs().sub_((width - 1) / 2), y.abs().sub_((height - 1) / 2)
    outside = torch.maximum(across, down, out=across)
    if not on_host(outside):
        beyond = outside.mul_(1 / _CELL).clamp_(0, 1)
        return torch.lerp(shown, _bilinear(_cells(images), grid), beyond[:, None])
    # Most pixels lie inside the frame: only the others are fetched a second time.
    pixels = [_positive(one) for one in outside]
    if not any(map(len, pixels)):
        return shown
    parts = zip(shown, _cells(images), grid, outside, pixels, strict=True)
    continued = [_continued(*part) for part in parts]
    return torch.stack(continued) if shown.requires_grad else shown


def _continued(
    shown: Tensor, cells: Tensor, grid: Tensor, outside: Tensor, pixels: Tensor
) -> Tensor:
    """Return one sample's ``shown`` (C, h, w) with means where ``pixels`` lie ``outside`` its frame.

    Without gradients it is changed in place.
    """
    if not len(pixels):
        return shown
    beyond = outside.view(-1).index_select(0, pixels).mul_(1 / _CELL).clamp_(max=1)
    places = grid.view(-1, 2).index_select(0, pixels)
    around = _bilinear(cells[None], places[None, None])[0, :, 0]
    flat = shown.view(len(shown), -1)
    index = pixels.expand(len(flat), -1)
    mixed = torch.lerp(flat.gather(1, index), around, beyond)
    put = flat.scatter if flat.requires_grad else flat.scatter_
    return put(1, index, mixed).view_as(shown)


def _cells(images: Tensor) -> Tensor:
    """Return the means over squares of :data:`_CELL` pixels."""
    height, width = images.shape[-2:]
    if height % _CELL or width % _CELL:
        return box_resize(images, (max(height // _CELL, 1), max(width // _CELL, 1)))
    cells = images
    while cells.shape[-2] * _CELL > height:
        cells = cells[..., ::2, :] + cells[..., 1::2, :]
    while cells.shape[-1] * _CELL > width:
        cells = cells[..., ::2] + cells[..., 1::2]
    return cells * (1 / _CELL**2)


def _bilinear(images: Tensor, grid: Tensor) -> Tensor:
    """Return images (B, C, h, w) at the places of ``grid``, in halves of the frame, beyond it its edge."""
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
        images: (B, C, H, W) in [0, 1].
        distance: (B, 1, H, W) relative distances, from :data:`NEAREST` (nearer ones count as that).
        movement: the camera's.
        time: how long, a positive python number.
        reach: python number, no less than ``movement.reach(H, W)``: the length of the walk where
            the tensors cannot be asked.
    """
    walk = _Walk(images, movement)
    distance = distance.detach()
    needed = [_steps(longest) for longest in walk.longest(distance, time, reach)]
    all_steps = max(needed, key=len)[::-1]
    all_stops = walk.stops([*((start + end) / 2 for start, end in all_steps[:-1]), 0.0, -1.0, 1.0])
    unit = walk.unit.view(-1, 1, 1, 1)

    def mean(samples: slice) -> Tensor:
        steps = all_steps[-max(map(len, needed[samples])) :]
        stops = all_stops.some(samples, slice(len(all_steps) - len(steps), None))
        per_pixel = distance[samples].clamp(min=NEAREST) / unit[samples]
        # What is so far away that it moves by less than a step's start is not seen there. All that is
        # seen at a step or at those before it lies in the step's span.
        limits = [*(time / start for start, _ in steps[:-1]), time / steps[-1][1]]
        on_way = stops.some(slice(None), slice(len(steps)))
        spans = _growing(_spans(on_way, per_pixel, limits))

        def some(some: slice) -> Tensor:
            those = stops.some(some, slice(None))
            return _mean(images[samples][some], per_pixel[some], those, steps, spans, time)

        return _one_by_one(some, per_pixel, stops)

    return _by_samples(mean, images)


def _mean(
    images: Tensor,
    per_pixel: Tensor,
    stops: _Shifts | _Places,
    steps: list[tuple[float, float]],
    spans: list[Span],
    time: float,
) -> Tensor:
    """Return the mean view, from what is met at ``stops``: all but the last of ``steps``, 0, −1 and 1."""
    lengths = [(start + end) / 2 for start, end in steps[:-1]]
    everywhere = (0, images.shape[-2])
    spans = [*spans, everywhere]
    coarse = sum(length > _FINE + 1 for length in lengths)

    def met() -> Iterator[Tensor]:
        layers = torch.cat((per_pixel, images), dim=1)
        if coarse:
            # A step of three pixels shows the mean of three, or edges would print at every step.
            beside = stops.some(slice(None), slice(-2, None))
            before, after = beside.met(images, [everywhere, everywhere])
            smooth = torch.cat((per_pixel, (before + images).add_(after).mul_(1 / 3)), dim=1)
            del before, after
            far = stops.some(slice(None), slice(coarse))
            yield from far.met(smooth, spans[1 : coarse + 1])
            del smooth
        near = stops.some(slice(None), slice(coarse, len(lengths)))
        yield from near.met(layers, spans[coarse + 1 : -1])
        yield layers

    # A surface met between the lengths ``start`` and ``end`` is seen for the times from start·d to
    # end·d of those that are left, when nothing nearer passes. Times that neither it nor a nearer
    # surface fills belong to the farther neighbour: so each colour lasts until the next surface leaves.
    # Times are shares of the whole.
    result = torch.zeros_like(images)
    left = torch.ones_like(per_pixel)
    farther: Tensor | None = None
    walked = zip(steps, pairwise(spans), met(), strict=True)
    for number, ((_, end), (here, there), nearer) in enumerate(walked):
        if farther is not None and here[1]:
            passing = nearer[:, :1].narrow(-2, here[0] - there[0], here[1])
            times = left.narrow(-2, *here)
            leaves = torch.minimum(passing, farther[:, :1])
            seen = torch.sub(times, leaves, alpha=end / time).clamp_(min=0)
            times.sub_(seen)
            result.narrow(-2, *here).addcmul_(seen, farther[:, 1:])
            del leaves, seen
        farther = nearer
        if coarse and number == coarse:
            beside = stops.some(slice(None), slice(-2, None))
            result = _without_combs(result, beside)
            # Times do not depend on colours.
            left = _without_combs(left, beside).detach()
    return result.addcmul_(left, images)


def _without_combs(layers: Tensor, beside: _Shifts | _Places) -> Tensor:
    """Return what steps of three pixels have added up, in means of three pixels along the lines.

    An edge is met up to a step late, and how late repeats every three pixels along the lines: without
    this, near edges leave combs. Power above a quarter of a cycle a pixel, over that of the mean of all
    rendered views, was 4.7 at the last severity of :func:`.xy_motion_blur` (median of twelve embedded
    scenes) and 3.0 at that of :func:`.z_motion_blur`; it is 2.1 and 2.6.
    """
    everywhere = (0, layers.shape[-2])
    mean = layers * (1 / 3)
    for shifted in beside.met(layers, [everywhere, everywhere]):
        mean = mean.add_(shifted, alpha=1 / 3)
    return mean


def _by_samples(function: Callable[[slice], Tensor], images: Tensor) -> Tensor:
    """Return the results of ``function(samples)``, kept in [0, 1], put together.

    On the host a call has :data:`_AT_ONCE` samples (see :mod:`.filters`), else all.
    """
    batch = len(images)
    step = _AT_ONCE if on_host(images) else batch
    parts = [slice(start, start + step) for start in range(0, batch, step)]
    if torch.is_grad_enabled() and images.requires_grad:
        whole = torch.cat([function(samples) for samples in parts])
        # What rounding takes beyond the range must not lose its gradient.
        return straight_through(whole.detach().clamp(0, 1), whole)
    if len(parts) == 1:
        return function(parts[0]).clamp_(0, 1)
    result = torch.empty_like(images)
    for samples in parts:
        torch.clamp(function(samples), 0, 1, out=result[samples])
    return result


def _one_by_one(
    function: Callable[[slice], Tensor], tensor: Tensor, stops: _Shifts | _Places
) -> Tensor:
    """Return the results of ``function(samples)`` for those of ``tensor``, put together.

    On the host, where lines are parallel, a call has one sample: see :meth:`_Shifts.met`.
    """
    if len(tensor) == 1 or not on_host(tensor) or isinstance(stops, _Places):
        return function(slice(None))
    return torch.cat([function(slice(i, i + 1)) for i in range(len(tensor))])


def _growing(spans: Sequence[Span]) -> list[Span]:
    """Return for each of ``spans`` the least one that holds it and all before it."""
    result: list[Span] = []
    for first, count in spans:
        if not result or not result[-1][1]:
            result.append((first, count))
        elif not count:
            result.append(result[-1])
        else:
            start, end = result[-1][0], sum(result[-1])
            start, end = min(start, first), max(end, first + count)
            result.append((start, end - start))
    return result


def moved_view(images: Tensor, distance: Tensor, movement: Movement, *, reach: float) -> Tensor:
    """Return what the camera sees after one unit of time.

    Disocclusions show the farther surface beside them, mirrored at the silhouette; beyond the old frame
    see :func:`fetch`. See :func:`mean_view` for the arguments.
    """
    walk = _Walk(images, movement)
    distance = distance.detach()
    counts = [int(longest / _STRIDE) + 2 for longest in walk.longest(distance, 1.0, reach)]
    lengths = [float(_STRIDE * (number + 1)) for number in range(max(counts))]
    all_stops, lines = walk.stops(lengths), walk.lines()
    unit = walk.unit.view(-1, 1, 1, 1)

    def moved(samples: slice) -> Tensor:
        # A silhouette's pixels mix both surfaces. They go with the near one, or would stay as its shadow.
        way = unit[samples] / _grown(distance[samples].clamp(min=NEAREST))
        number = max(counts[samples])
        stops = all_stops.some(samples, slice(number))
        spans = _spans(stops, way.reciprocal(), [1 / (length - 0.5) for length in lengths[:number]])

        def some(some: slice) -> Tensor:
            return _farthest(way[some], stops.some(some, slice(None)), lengths[:number], spans)

        return _show(images[samples], way[:, 0], lines.some(samples), _one_by_one(some, way, stops))

    return _by_samples(moved, images)


def _farthest(
    way: Tensor, stops: _Shifts | _Places, lengths: Sequence[float], spans: Sequence[Span]
) -> Tensor:
    """Return the greatest of ``lengths`` (B, H, W) at which something passes by now, or has passed.

    ``way`` (B, 1, H, W) is how far along its line what each pixel shows has moved by now.
    """
    length = torch.zeros_like(way)
    # A comparison would cost more than this steep ramp.
    for number, span, met in zip(lengths, spans, stops.met(way * _STEEP, spans), strict=True):
        passed = torch.sub(met, _STEEP * (number - 0.5)).clamp_(max=number)
        length.narrow(-2, *span).clamp_(min=passed)
    return length[:, 0].floor_()


def _grown(distance: Tensor) -> Tensor:
    """Return the least distance among each pixel and its eight neighbours."""
    for dim, border in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        padded, size = F.pad(distance, border, mode="replicate"), distance.shape[dim]
        beside = torch.minimum(padded.narrow(dim, 0, size), padded.narrow(dim, 2, size))
        distance = torch.minimum(distance, beside)
    return distance


def _show(images: Tensor, way: Tensor, from_centre: _Lines, length: Tensor) -> Tensor:
    """Return the picture whose pixel shows what lies about ``length`` (B, H, W) along its line.

    ``way`` (B, H, W) is as in :func:`_farthest`.
    """
    height, width = images.shape[-2:]
    # Places are told from the picture's centre, but those of pixels from its corner.
    lines = from_centre.moved(width / 2, height / 2)

    flat = way.flatten(1)

    def passing(lines: _Lines, length: Tensor, first: Tensor | None = None) -> Tensor:
        """Return the length at which what is met at ``length`` passes the pixel now.

        ``first`` has the number of the first pixel of each one's sample, where samples are mixed.
        """
        column, row = lines.place(length)
        column, row = (
            place.clamp_(0, size - 1).floor_() for place, size in ((column, width), (row, height))
        )
        index = column.add_(row, alpha=width).to(torch.int64).flatten(1)
        if first is not None:
            return flat.view(1, -1).gather(1, index.add_(first)).view_as(length)
        return flat.gather(1, index).view_as(length)

    # The search went in strides of two pixels; what lies a pixel further may pass as well.
    own, beyond, high = passing(lines, length), passing(lines, length + 1), length + 0.5
    further = torch.gt(beyond, high, out=torch.empty_like(length))
    length, own = length.add_(further), torch.lerp(own, beyond, further)
    high = high.add_(further)
    shown = torch.clamp(own, length - 0.5, high)

    def filled(lines: _Lines, length: Tensor, first: Tensor | None = None) -> Tensor:
        """Return what a hole shows: what lies behind, its place on the line mirrored at the silhouette."""
        behind = passing(lines, length + 1, first)
        edge = length + _RIM
        mirrored = torch.maximum(2 * edge - behind, edge)
        # Another near object at the mirrored place is no background.
        return torch.where(passing(lines, mirrored, first) > 1.25 * behind, edge, mirrored)

    gap = own.sub_(high).sub_(_HOLE)
    if on_host(gap):
        # Few pixels are holes.
        holes = _positive(gap)
        there = length.view(-1).index_select(0, holes)[None, None]
        size = height * width
        fill = filled(lines.at(holes, height, width), there, holes // size * size)
        shown.view(-1).scatter_(0, holes, fill.view(-1))
    else:
        shown = torch.where(gap > 0, filled(lines, length), shown)
    return fetch(images, *from_centre.place(shown))


def _positive(values: Tensor) -> Tensor:
    """Return the numbers (N,) of the elements of ``values``, in host memory, that are above zero."""
    # NumPy is several times as fast.
    return torch.from_numpy(np.flatnonzero(values.detach().numpy() > 0))


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
