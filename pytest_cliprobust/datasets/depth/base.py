"""Depth for data sets that come without: from files beside the images, or from a monocular estimator.

What perturbations get is depth along the optical axis, (B, 1, H, W) float32, larger farther away, in the
frame of the image as the model sees it, and positive everywhere. Where it comes from decides what its
unit is:

* *metric* (embedded scenes, RGB-D cameras, ZoeDepth, GLPN, Depth Pro, Depth Anything's metric models):
  metres, taken as they are. Pixels without a measurement (zero, negative, NaN, infinite) get the farthest
  depth of their image, as the reference does with Taskonomy's.
* *inverse* (MiDaS, DPT, Depth Anything): disparity, known up to scale and shift. The reference
  (``create_3dcc/dataset.py``, its lines for ImageNet) reads MiDaS maps that were stretched to 0 to 65535
  for each image, divides them by 512, inverts and clamps at 0.5: depth is 1 at the nearest point, 64 at
  the farthest, up to a factor of 1/128. :func:`depth_from_disparity` does the same without the factor.
* *relative* depth, known up to scale and shift, nearest 1 and farthest 10; no published model gives it,
  files may.

The factor makes no difference to corruptions that normalise depth per image (all but those that use it
in metres, of which there are none with published parameters).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.errors import ClipRobustError, NotRun

Maps = npt.NDArray[np.float32]


Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


Kind = Literal["metric", "inverse", "relative"]


VERSION = 1
"""Raise it whenever the same files or weights give other depth."""


DISPARITY_RANGE = 64.0
"""Farthest over nearest depth after inversion: 65535 / 512 times the reference's clamp, 0.5."""


RELATIVE_RANGE = 10.0
"""Farthest over nearest depth for relative depth, whose ratio nobody knows."""


SMALLEST = 1e-3
"""Metric depth is at least this, in metres: perturbations divide by it."""


REMEDY = "name an estimator or a folder of depth maps with --clip-depth"


class MissingDepth(NotRun):
    """A perturbation needs depth, and neither the data set nor ``--clip-depth`` gives any."""


class DepthSource(Protocol):
    """Gives depth to samples of a data set that has none.

    Attributes:
        name: as the user wrote it.
    """

    name: str

    def key(self, dataset: Dataset) -> str:
        """Return a digest of all that decides the depth of ``dataset``, for cache keys."""
        ...

    def depth(self, dataset: Dataset, ids: Sequence[str]) -> Tensor:
        """Return the depth (B, 1, H, W) of the samples ``ids``, float32 on the CPU."""
        ...


@runtime_checkable
class Framed(Protocol):
    """A data set of image files, whose ids are paths below ``root``."""

    root: Path

    def frame(self, image: Tensor) -> Tensor:
        """Bring an image (3, H, W) uint8 to the frame."""
        ...


def depth_from_disparity(disparity: Tensor) -> Tensor:
    """Return depth from inverse depth that is known up to scale and shift, (B, 1, H, W).

    Disparity is stretched to [0, 1] for each image, clamped at 1/64 and inverted: the nearest point gets
    1, the farthest 64, and so does what is not finite. A flat map gets 1 everywhere. This is what the
    reference makes of MiDaS's maps, but for a constant factor.
    """
    valid = disparity.isfinite()
    low = disparity.where(valid, math.inf).amin((1, 2, 3), keepdim=True)
    high = disparity.where(valid, -math.inf).amax((1, 2, 3), keepdim=True)
    share = torch.where(high > low, (disparity - low) / (high - low).clamp(min=1e-12), 1.0)
    return 1 / share.where(valid, 0.0).clamp(min=1 / DISPARITY_RANGE)


def depth_from_relative(depth: Tensor) -> Tensor:
    """Return depth from depth that is known up to scale and shift: 1 at the nearest point, 10 farthest."""
    low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    share = (depth - low) / (high - low).clamp(min=1e-12)
    return 1 + share * (RELATIVE_RANGE - 1)


def normalise(values: Tensor, kind: Kind) -> Tensor:
    """Return depth from values (B, 1, H, W) of any kind; see the module's docstring."""
    if kind == "inverse":
        return depth_from_disparity(values)
    if kind == "relative":
        return depth_from_relative(values)
    return values.clamp(min=SMALLEST)


def frame_identity(dataset: object) -> str:
    """Return a digest of how a data set frames its pictures, by what it makes of two that are no squares.

    The digest of a data set knows the size of its pictures alone, and models of one size may crop, squeeze
    or pad. ``""`` where pictures are not framed (scenes are composed in their size).
    """
    if not isinstance(dataset, Framed):
        return ""
    digest = hashlib.sha256()
    for height, width in ((24, 40), (40, 24)):
        ramp = torch.arange(3 * height * width, dtype=torch.int64).mul(37).remainder(256)
        seen = dataset.frame(ramp.to(torch.uint8).reshape(3, height, width))
        digest.update(f"{tuple(seen.shape)}".encode() + seen.contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_shape(
    path: Path, size: tuple[int, ...], image_path: Path, image_size: tuple[int, ...]
) -> None:
    """Return if a depth map has its image's size, or at least its shape; sizes are (height, width).

    Raises:
        ClipRobustError: it has not; the message names both files.
    """
    (tall, wide), (height, width) = size, image_size
    if abs(tall * width - wide * height) > max(tall, wide, height, width):
        raise ClipRobustError(
            f"depth file {str(path)!r} is {wide}×{tall}, its image {str(image_path)!r} "
            f"{width}×{height} (as EXIF turns it); both must have the same shape"
        )


def filled(values: Maps, kind: Kind) -> Maps | None:
    """Return a map whose pixels without a measurement have the farthest depth; None if none has any."""
    valid = np.isfinite(values)
    if kind == "metric":
        valid &= values > 0
    if not valid.any():
        return None
    farthest = values[valid].min() if kind == "inverse" else values[valid].max()
    return np.where(valid, values, farthest)
