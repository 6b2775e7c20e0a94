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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.filters import on_host

NEAREST = 0.5
"""Relative distances below this one count as this one, so that the longest walk is known."""

_HOLE = 1.0
"""Pixels by which two surfaces part before the gap is a hole; less is a slanted surface, stretched."""

_RIM = 1.5
"""Pixels from the last one of the near surface to where the fill of a hole is mirrored."""


class Movement(NamedTuple):
    """How the camera moves in one unit of time, told by what a point at relative distance 1 does.

    A point at place x and relative distance d appears, at time t, at
    (x − across·t/d, y − down·t/d) / (1 − approach·t/d).

    Attributes:
        across: (B,) pixels that the camera moves to the right.
        down: (B,) pixels that it moves down.
        approach: (B,) share of its distance by which the point comes nearer; negative: it recedes.
    """

    across: Tensor
    down: Tensor
    approach: Tensor

    def longest(self, height: int, width: int) -> Tensor:
        """Return (B,) the largest step, along an axis, at relative distance 1 in one unit of time."""
        spread = self.approach.abs()
        return torch.maximum(
            self.across.abs() + spread * (width / 2), self.down.abs() + spread * (height / 2)
        )


class _Walk:
    """Pixels met on the way back along each pixel's line, ``length`` pixels away in the fastest row."""

    def __init__(self, images: Tensor, movement: Movement) -> None:
        self.height, self.width = images.shape[-2:]
        self.x, self.y = centred(images)
        self.across, self.down, self.approach = (
            part.to(images.dtype).view(-1, 1) for part in movement
        )
        # A camera at rest has no lines; any positive length gives it lines of one pixel.
        self.longest = movement.longest(self.height, self.width).to(images.dtype).clamp(min=1e-6)

    def bound(self, distance: Tensor, time: float, reach: float) -> float:
        """Return how long the walk must be: on the host as long as needed, else for ``reach``."""
        if on_host(distance):
            nearest = distance.flatten(1).amin(dim=1)
            return float((self.longest / nearest).max()) * time
        return reach * time / NEAREST

    def index(self, length: float) -> Tensor:
        """Return (B, H·W) the flat index of the pixel ``length`` pixels along each line."""
        share = (length / self.longest)[:, None]
        scale = 1 - share * self.approach
        column = (self.x * scale + (share * self.across + self.width / 2)).floor()
        row = (self.y * scale + (share * self.down + self.height / 2)).floor()
        column = column.clamp(0, self.width - 1).to(torch.int64)
        row = row.clamp(0, self.height - 1).to(torch.int64) * self.width
        return (row[:, :, None] + column[:, None, :]).flatten(1)

    def place(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return x, y (B, H, W) of the points ``length`` (B, H, W) pixels along the lines."""
        share = length / self.longest[:, None, None]
        scale = 1 - share * self.approach[:, :, None]
        return (
            self.x * scale + share * self.across[:, :, None],
            self.y[:, None] * scale + share * self.down[:, :, None],
        )


def centred(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return x (W,) and y (H,) of the pixels' centres, in pixels from the picture's centre."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    y = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    return x, y


def fetch(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return images (B, C, h, w) at the places x, y (B, h, w), bilinearly; beyond the frame: mirrored."""
    height, width = images.shape[-2:]
    grid = torch.stack((x * (2 / width), y * (2 / height)), dim=-1)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _steps(length: float) -> list[tuple[float, float]]:
    """Return the intervals that a walk of ``length`` pixels is cut into, finer at its start.

    Far surfaces use the start alone, and show their detail; what comes from farther away is blurred
    over many steps.
    """
    steps, end = [(0.0, 0.5)], 0.5
    while end < length:
        width = 1.0 if end < 4 else 2.0 if end < 14 else 3.0
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
        reach: python number, no less than ``movement.longest(H, W)``: the length of the walk where
            the tensors cannot be asked.
    """
    walk = _Walk(images, movement)
    distance = distance.detach().clamp(min=NEAREST)
    steps = _steps(walk.bound(distance, time, reach))
    per_pixel = distance / walk.longest.view(-1, 1, 1, 1)
    batch, channels = images.shape[:2]
    layers = torch.cat((per_pixel, images), dim=1).flatten(2)
    # What is seen from the time ``open`` on is settled by the steps walked so far.
    open_ = torch.full_like(layers[:, :1], time)
    result = torch.zeros_like(layers[:, 1:])
    weight, colour = torch.zeros_like(open_), layers[:, 1:]
    for number in reversed(range(len(steps))):
        start, end = steps[number]
        met = layers
        if number:
            index = walk.index((start + end) / 2)
            met = layers.gather(2, index[:, None].expand(batch, channels + 1, -1))
        leaves = torch.minimum(open_, met[:, :1] * end)
        comes = torch.minimum(open_, met[:, :1] * start)
        # Times that neither this pixel nor a nearer surface fills belong to the farther neighbour.
        result = result.addcmul_(weight + (open_ - leaves), colour)
        weight, colour, open_ = leaves - comes, met[:, 1:], comes
    result = result.addcmul_(weight, colour)
    return (result * (1 / time)).view_as(images)


def moved_view(images: Tensor, distance: Tensor, movement: Movement, *, reach: float) -> Tensor:
    """Return what the camera sees after one unit of time.

    Disocclusions show the farther surface beside them, mirrored at the silhouette; what lies beyond
    the old frame is the picture mirrored at its edge. See :func:`mean_view` for the arguments.
    """
    walk = _Walk(images, movement)
    # A silhouette's pixels mix both surfaces. They go with the near one, or would stay as its shadow.
    distance = _grown(distance.detach().clamp(min=NEAREST))
    per_pixel = (distance / walk.longest.view(-1, 1, 1, 1)).flatten(1)
    last = int(walk.bound(distance, 1.0, reach)) + 1
    # The farthest step along the line at which something passes by now, or has passed.
    step = torch.zeros_like(per_pixel)
    for number in range(1, last + 1):
        met = per_pixel.gather(1, walk.index(number))
        step = torch.maximum(step, torch.le(met, 1 / (number - 0.5)) * float(number))
    return _show(images, per_pixel, walk, step.view(-1, *images.shape[-2:]))


def _grown(distance: Tensor) -> Tensor:
    """Return the least distance among each pixel and its eight neighbours."""
    for dim, border in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        padded, size = F.pad(distance, border, mode="replicate"), distance.shape[dim]
        beside = torch.minimum(padded.narrow(dim, 0, size), padded.narrow(dim, 2, size))
        distance = torch.minimum(distance, beside)
    return distance


def _show(images: Tensor, per_pixel: Tensor, walk: _Walk, step: Tensor) -> Tensor:
    """Return the picture whose pixel shows what lies about ``step`` (B, H, W) pixels along its line."""
    height, width = walk.height, walk.width

    def nearest(length: Tensor) -> Tensor:
        x, y = walk.place(length)
        column = (x + width / 2).floor().clamp(0, width - 1)
        row = (y + height / 2).floor().clamp(0, height - 1)
        index = (row * width + column).to(torch.int64).flatten(1)
        return per_pixel.gather(1, index).view_as(step)

    # The surface met at the step passes here at exactly the length 1 / per_pixel.
    own = 1 / nearest(step)
    hole = own > step + (0.5 + _HOLE)
    length = torch.maximum(torch.minimum(own, step + 0.5), step - 0.5)
    # What the hole shows lies behind; its place on the line is mirrored at the silhouette.
    behind = 1 / nearest(step + 1)
    edge = step + _RIM
    mirrored = torch.maximum(2 * edge - behind, edge)
    # Another near object at the mirrored place is no background.
    mirrored = torch.where(1 / nearest(mirrored) > 1.25 * behind, edge, mirrored)
    return fetch(images, *walk.place(torch.where(hole, mirrored, length)))


def turned_view(images: Tensor, rotation: Tensor, focal: Tensor, new_focal: Tensor) -> Tensor:
    """Return what a camera sees that was turned, or whose focal length was changed.

    Args:
        images: (B, C, H, W).
        rotation: (B, 3, 3), whose rows are the turned camera's axes (right, down, forward) in the
            old camera's coordinates.
        focal: (B,) focal length in pixels.
        new_focal: (B,) that of the turned camera.

    What lies beyond the old frame is the picture mirrored at its edge; so is what lies behind the old
    camera, at the direction's mirror image.
    """
    x, y = centred(images)
    focal, new_focal = focal.view(-1, 1, 1), new_focal.view(-1, 1, 1)
    axes = rotation.to(images.dtype)[:, :, :, None, None]
    x, y = (x / new_focal).expand(-1, y.shape[0], -1), y[:, None] / new_focal
    right, down, forward = (x * axes[:, 0, i] + y * axes[:, 1, i] + axes[:, 2, i] for i in range(3))
    depth = focal / forward.abs().clamp(min=1e-3)
    return fetch(images, right * depth, down * depth)
