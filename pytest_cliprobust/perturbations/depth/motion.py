"""Blur by a camera that moves, near points more than far ones, in one walk (see :mod:`..warping`).

The reference renders 60 frames of a camera's path as a point cloud, with what is uncovered inpainted
by a network, and takes the mean of the first few. Ours is the integral over that part of the path,
in which every surface, occlusion and disocclusion has its own time.
"""

from __future__ import annotations

from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.depth.maps import SOURCE, relative, usable
from pytest_cliprobust.perturbations.filters import batch_at_once
from pytest_cliprobust.perturbations.registry import register
from pytest_cliprobust.perturbations.warping import Movement, mean_view

SIDE = 512.0
"""The published lengths are pixels of images of this side; they scale with the shorter side."""

STEPS = 59
"""Steps between the 60 frames of a path."""


@register(
    severities=tuple({"frames": f} for f in (20.0, 30.0, 40.0, 50.0, 60.0)),
    envelope={"frames": (1.0, 70.0)},
    inputs=("depth", "seeds"),
    source=SOURCE,
    version=4,
)
@batch_at_once
def xy_motion_blur(images: Tensor, *, frames: float, depth: Tensor, seeds: Tensor) -> Tensor:
    """A camera that moves sideways: the mean of the first ``frames`` of a 60-frame path.

    Over the whole path the nearest point in the image's middle half moves by 50 to 75 pixels
    horizontally, either way, and by −75 to 75 vertically (of 512).
    """
    if frames <= 1:
        return images
    unit = min(images.shape[-2:]) / SIDE
    draw = random.uniform(seeds, (3,), dtype=images.dtype)
    sign = (draw[:, 0] < 0.5).to(images.dtype) * 2 - 1
    movement = Movement(
        across=sign * (50 + 25 * draw[:, 1]) * unit,
        down=(150 * draw[:, 2] - 75) * unit,
    )
    distance = relative(usable(depth, images))
    time = (frames - 1) / STEPS
    return mean_view(images, distance, movement, time=time, reach=75 * unit)


@register(
    severities=tuple({"frames": f} for f in (20.0, 25.0, 30.0, 35.0, 38.0)),
    envelope={"frames": (1.0, 50.0)},
    inputs=("depth", "seeds"),
    source=SOURCE,
    version=4,
)
@batch_at_once
def z_motion_blur(images: Tensor, *, frames: float, depth: Tensor, seeds: Tensor) -> Tensor:
    """A camera that moves forward: the mean of the first ``frames`` of a 60-frame path.

    The whole path brings the nearest point in the image's middle half to 0.5 to 0.6 of its depth, the
    zoom that crops that share of the frame, and moves it by up to 30 pixels (of 512) in each
    direction. The path is straight; the reference's bends a little, its sideways step shrinking with
    the crop.
    """
    if frames <= 1:
        return images
    height, width = images.shape[-2:]
    unit = min(height, width) / SIDE
    draw = random.uniform(seeds, (3,), dtype=images.dtype)
    movement = Movement(
        across=(60 * draw[:, 1] - 30) * unit,
        down=(60 * draw[:, 2] - 30) * unit,
        approach=0.5 - 0.1 * draw[:, 0],
    )
    distance = relative(usable(depth, images))
    time = (frames - 1) / STEPS
    reach = 30 * unit + 0.125 * max(height, width)
    return mean_view(images, distance, movement, time=time, reach=reach)
