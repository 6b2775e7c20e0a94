"""Published pairs of pictures with the places that correspond, from files: what their layouts share.

Pictures are brought to squares of the model's side without losing a part that places lie in, and the places
with them. Geometry is that of a pinhole camera that looks along +z, x to the right and y down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, Links, PairBatch
from pytest_cliprobust.datasets.fingerprints import fingerprints, joined, workers
from pytest_cliprobust.datasets.listed import Labels, Listed, Row
from pytest_cliprobust.datasets.reading import require_picture
from pytest_cliprobust.datasets.registry import LayoutOptions
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.figures.arrays import Floats

#: From the id of a pair and the side of its pictures in pixels to them, (3, side, side) uint8, and the links.
Loader = Callable[[str, int], tuple[Tensor, Tensor, Links]]


@dataclass(frozen=True)
class Judged:
    """By what matches are judged; see :class:`~pytest_cliprobust.datasets.base.PairedDataset`."""

    limits: tuple[float, ...]
    angle_edges: tuple[float, ...] = ()
    limits_cm: tuple[float, ...] = ()


class Paired(Listed):
    """Listed pairs; a row's path is that of its first picture.

    Args:
        name: what figures call it.
        root: the folder that the paths are relative to.
        rows: the pairs.
        labels: the label set.
        files: by id, what else a pair is made of beside its first picture: paths, relative to ``root``.
        loader: loads a pair.
        judged: by what its matches are judged.
        unit: the word for a unit.

    Raises:
        ClipRobustError: as for :class:`~pytest_cliprobust.datasets.listed.Listed`.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        files: Mapping[str, Sequence[str]],
        loader: Loader,
        judged: Judged,
        unit: str = "sample",
        **options: Unpack[LayoutOptions],
    ) -> None:
        self._files = files
        self._loader = loader
        self.limits = judged.limits
        self.angle_edges = judged.angle_edges
        self.limits_cm = judged.limits_cm
        super().__init__(name, root, rows, labels, unit=unit, **options)

    def _fingerprints(self) -> list[str]:
        paths = [(row.path, *self._files[row.id]) for row in self._rows]
        every = list(dict.fromkeys(path for own in paths for path in own))
        known = dict(zip(every, fingerprints(self.root, every), strict=True))
        return [joined(known[path] for path in own) for own in paths]

    def load(self, indices: Sequence[int]) -> Batch:
        """Load the first pictures of the pairs at ``indices``: (B, 3, size, size) uint8.

        Raises:
            ClipRobustError: a picture of them cannot be read, or a place is missing.
        """
        return self.load_pairs(indices).first

    def load_pairs(self, indices: Sequence[int]) -> PairBatch:
        """Load the pairs at ``indices``.

        Raises:
            ClipRobustError: a picture of them cannot be read, or a place is missing.
        """
        ids = tuple(self.ids[index] for index in indices)
        with ThreadPoolExecutor(workers()) as pool:
            found = list(pool.map(lambda name: self._loader(name, self.size), ids))
        empty = torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        first = torch.stack([one for one, _, _ in found]) if found else empty
        second = torch.stack([other for _, other, _ in found]) if found else empty
        links = tuple(own for _, _, own in found)
        return PairBatch(Batch(ids, first), Batch(ids, second), links)


# --- Pictures --------------------------------------------------------------------------------------


def padded(image: Tensor, value: int = 255) -> Tensor:
    """Return (3, H, W) with ``value`` to the right and below, so that it is a square."""
    height, width = image.shape[-2:]
    side = max(height, width)
    square = image.new_full((image.shape[0], side, side), value)
    square[:, :height, :width] = image
    return square


def resized(image: Tensor, side: int) -> Tensor:
    """Return a square picture uint8 with another side: bicubic, with antialiasing."""
    from torchvision.transforms.v2 import functional as V

    made: Tensor = V.resize(
        image, [side, side], interpolation=V.InterpolationMode.BICUBIC, antialias=True
    )
    return made


def read_levels(path: Path) -> Floats:
    """Return the levels (H, W) of a picture of one channel, such as depth in 16 bits.

    Raises:
        ClipRobustError: it cannot be read, or has several channels.
    """
    try:
        with Image.open(path) as image:
            require_picture(image)
            levels = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipRobustError(
            f"cannot read {str(path)!r} ({brief(error)}); fetch it anew"
        ) from error
    if levels.ndim != 2:
        raise ClipRobustError(
            f"{str(path)!r} should be a picture of one channel, and has the shape {levels.shape}"
        )
    return levels.astype(np.float64)


# --- Geometry --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """Places of a picture whose surface is known.

    Attributes:
        places: (P, 2) as (x, y) in pixels of the picture that the model sees.
        surface: (P, 3) the places in space, in metres, in the camera's own frame.
    """

    places: Floats
    surface: Floats


def linked(
    first: Seen, second: Seen, pose: Floats, project: Callable[[Floats], Floats], scale: float
) -> Links:
    """Return what corresponds in two views by their geometry: all places of both, as Probe3D has it.

    A place of the first view that the second does not see has no right match, and counts as a miss where it
    is among the most distinctive ones.

    Args:
        first, second: of both views.
        pose: (4, 4) from the first camera's frame to the second's, in metres.
        project: from places in space (P, 3) in the second camera's frame to those in its picture (P, 2).
        scale: what distances in pixels are divided by.

    Raises:
        ClipRobustError: a view has fewer than two places with a depth.
    """
    if len(first.places) < 2 or len(second.places) < 2:
        raise ClipRobustError("a view has hardly a place with a depth")
    moved = first.surface @ pose[:3, :3].T + pose[:3, 3]
    return Links(
        points=torch.from_numpy(first.places),
        truth=torch.from_numpy(project(moved)),
        candidates=torch.from_numpy(second.places),
        scale=scale,
        truth_3d=torch.from_numpy(moved),
        candidates_3d=torch.from_numpy(second.surface),
    )


def onto(matrix: Floats, surface: Floats) -> Floats:
    """Return where places in space (P, 3) appear, (P, 2), in a camera with a matrix (3, 3)."""
    seen = surface @ matrix.T
    return np.asarray(seen[:, :2] / np.maximum(seen[:, 2:], 1e-9))


def rotation_between(first: Floats, second: Floats) -> float:
    """Return the angle in degrees of the rotation between two poses (3, 3) or (4, 4)."""
    turn = second[:3, :3] @ first[:3, :3].T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0))))


def drawn(*texts: str) -> int:
    """Return a number that depends on texts alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join(texts).encode()).digest()[:8])
