"""Depth from files beside the images: npy, exr, 16-bit png."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.depth.base import (
    REMEDY,
    VERSION,
    Framed,
    Kind,
    Maps,
    MissingDepth,
    Positions,
    filled,
    normalise,
    require_shape,
)
from pytest_cliprobust.datasets.reading import require_picture
from pytest_cliprobust.datasets.subset import whole_of
from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, did_you_mean
from pytest_cliprobust.files import read_json

KEPT_BYTES = 2**28
"""Memory for framed maps that are kept between perturbations."""


SUFFIXES = (".npy", ".exr", ".png")


SETTINGS = "depth.json"

MAX_SETTINGS = 2**16
"""Bytes of that file, which has two entries."""


def frame_positions(frame: Callable[[Tensor], Tensor], height: int, width: int) -> Positions:
    """Return where a frame's rows and columns lie in an image of ``height`` by ``width`` pixels.

    The frame (any resize and crop along the axes) is shown ramps of grey, and a line is fitted to what
    comes back; a second, steeper ramp over the part that is seen makes it exact to a small fraction of
    a pixel. Positions are in pixels, the first pixel's centre at 0; those of padding lie outside.
    """
    positions = []
    for axis, length in ((1, height), (2, width)):
        first, last = 0.0, float(length - 1)
        slope, start = 0.0, 0.0
        for _ in range(3):
            ramp = (torch.arange(length) - first) / max(last - first, 1e-9) * 255
            values = ramp.clamp(0, 255).round().to(torch.uint8)
            probe = torch.full((3, height, width), 255, dtype=torch.uint8)
            probe[0] = values[:, None] if axis == 1 else values[None, :]
            probe[1] = 128
            seen = frame(probe)
            side = seen.shape[axis]
            middle = seen.shape[3 - axis] // 2
            line = seen[:, :, middle] if axis == 1 else seen[:, middle, :]
            grey = line[0].to(torch.float64).numpy()
            # Padding shows another colour in the constant channels than the probe has.
            inside = (line[1].numpy() == 128) & (line[2].numpy() == 255)
            usable = inside & (grey > 3) & (grey < 252)
            where = np.flatnonzero(usable if usable.sum() > 1 else inside)
            if length == 1 or len(where) < 2 or np.ptp(grey[where]) == 0:
                slope, start = 0.0, (length - 1) / 2
                break
            found = first + grey[where] / 255 * (last - first)
            slope, start = np.polyfit(where, found, 1)
            ends = start + slope * np.asarray([-2.0, side + 1.0])
            first, last = max(ends.min(), 0.0), min(ends.max(), length - 1.0)
        positions.append(start + slope * np.arange(seen.shape[axis], dtype=np.float64))
    return positions[0], positions[1]


def upright_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file, turned the way its EXIF orientation says."""
    try:
        with Image.open(path) as file:
            width, height = file.size
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipRobustError(
            f"cannot read image {str(path)!r} ({brief(error)}); repair or remove the file"
        ) from None
    return (width, height) if turned else (height, width)


def read_depth(path: Path, png_scale: float = 0.001) -> Maps:
    """Read a depth map (H, W) float32.

    ``.npy``: any real array of that shape ((H, W, 1) and (1, H, W) too); ``.exr``: channel ``Z``,
    ``depth``, ``Y`` or ``R``, or the only one; ``.png``: 16 bits, times ``png_scale``.

    Raises:
        ClipRobustError: unreadable, no such channel, 8 bits, not a map, or OpenEXR is not installed;
            the message names the file.
    """
    try:
        if path.suffix == ".npy":
            values = np.asarray(np.load(path, allow_pickle=False))
        elif path.suffix == ".exr":
            values = _read_exr(path)
        else:
            with Image.open(path) as file:
                require_picture(file)
                if not file.mode.startswith("I"):
                    raise ClipRobustError(
                        f"depth file {str(path)!r} is a png of mode {file.mode}: too coarse; write one "
                        "channel of 16 bits"
                    )
                values = np.asarray(file, dtype=np.float64) * png_scale
    except ClipRobustError:
        raise
    except Exception as error:  # whatever the three libraries raise on a damaged file
        raise ClipRobustError(
            f"cannot read depth file {str(path)!r} ({brief(error)}); write it again, or remove it "
            "together with its image"
        ) from None
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.size:
        raise ClipRobustError(
            f"depth file {str(path)!r} holds {values.dtype} of shape {values.shape}; one number for each "
            "pixel, (height, width), is needed"
        )
    return values.astype(np.float32)


def _read_exr(path: Path) -> npt.NDArray[Any]:
    try:
        import OpenEXR
    except ImportError:
        raise Unavailable(
            f"depth file {str(path)!r} needs OpenEXR; install it with "
            "`pip install pytest-cliprobust[exr]`"
        ) from None
    channels = OpenEXR.File(str(path), separate_channels=True).channels()
    for name in ("Z", "depth", "Y", "R", *(channels if len(channels) == 1 else ())):
        if name in channels:
            return np.asarray(channels[name].pixels)
    raise ClipRobustError(
        f"depth file {str(path)!r} has the channels {', '.join(channels)}; one called Z, depth, Y or R is "
        "needed"
    )


@dataclass
class _Known:
    """What is kept for one data set: where its frames lie, and framed maps by file."""

    positions: dict[tuple[int, int], Positions] = field(default_factory=dict)
    maps: dict[tuple[str, int, int], Maps] = field(default_factory=dict)
    size: int = 0


class DepthFiles:
    """Depth maps in a folder that mirrors the images', or next to them, as a :class:`DepthSource`.

    The map of ``cat/1.jpg`` is ``cat/1.npy``, ``cat/1.exr`` or ``cat/1.png`` below ``folder``, the first
    that exists; or the same with ``_depth`` after the ``1``, or after the whole name (``cat/1.jpg.npy``).
    Next to the images there can be ``.npy`` and ``.exr`` alone: a png would be one of the images.

    A map has its image's size (as EXIF turns the image), or at least its shape. It is framed as the image
    is, taking for each pixel of the frame the nearest of the map: a mean of object and background would be a
    depth at which there is nothing.

    ``folder/depth.json`` may say what the maps hold, by default ``{"kind": "metric", "png_scale": 0.001}``:
    ``kind`` is metric (metres), inverse or relative, ``png_scale`` metres (or other units) per step of a png.

    Args:
        folder: where the maps are.

    Raises:
        ClipRobustError: no such folder, or a ``depth.json`` that says something else.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.name = os.fspath(folder)
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ClipRobustError(
                f"--clip-depth {self.name}: there is no such folder; check the path"
            )
        self.kind, self.png_scale = _settings(self.folder / SETTINGS)
        self._known: WeakKeyDictionary[Framed, _Known] = WeakKeyDictionary()

    def key(self, dataset: Dataset) -> str:
        """Return a digest over names, sizes and times of the maps; see :class:`DepthSource`.

        Raises:
            ClipRobustError: a sample has no map; the message names it.
        """
        images = self._images(dataset)
        total = hashlib.sha256(f"{VERSION}\0{self.kind}\0{self.png_scale}".encode())
        for name in dataset.ids:
            path = self.find(images, name)
            status = path.stat()
            total.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
        return total.hexdigest()

    def find(self, images: Framed, name: str) -> Path:
        """Return the depth map of the image ``name``.

        Raises:
            ClipRobustError: there is none.
        """
        image = Path(name)
        stems = (image.with_suffix(""), image.with_name(f"{image.stem}_depth"), image)
        candidates = [self.folder / f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
        for path in candidates:
            if path.is_file() and not path.samefile(images.root / name):
                return path
        raise ClipRobustError(
            f"image {str(images.root / name)!r} has no depth map: {str(candidates[0])!r} (or .exr, .png) "
            "does not exist; write it, or name an estimator with --clip-depth"
        )

    def depth(self, dataset: Dataset, ids: Sequence[str]) -> Tensor:
        """Read the maps of ``ids`` in parallel threads: (B, 1, size, size) float32.

        Raises:
            ClipRobustError: a map is missing, unreadable, empty, or of another shape than its image.
        """
        images = self._images(dataset)
        known = self._known.setdefault(images, _Known())
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            maps = list(pool.map(lambda name: self._one(images, name, known), ids))
        return normalise(torch.from_numpy(np.stack(maps))[:, None], self.kind)

    def _images(self, dataset: Dataset) -> Framed:
        whole = whole_of(dataset)
        if not isinstance(whole, Framed):
            raise MissingDepth(
                f"data set {dataset.name!r} holds no image files that depth maps could belong to; {REMEDY}"
            )
        return whole

    def _one(self, images: Framed, name: str, known: _Known) -> Maps:
        path = self.find(images, name)
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in known.maps:
            framed = self._framed(images, name, path, known)
            if known.size + framed.nbytes > KEPT_BYTES:
                return framed
            known.maps[key] = framed
            known.size += framed.nbytes
        return known.maps[key]

    def _framed(self, images: Framed, name: str, path: Path, known: _Known) -> Maps:
        values = filled(read_depth(path, self.png_scale), self.kind)
        if values is None:
            raise ClipRobustError(
                f"depth file {str(path)!r} holds no valid depth (all zero, negative or not finite); "
                "write it again, or remove it together with its image"
            )
        height, width = upright_size(images.root / name)
        tall, wide = values.shape
        require_shape(path, (tall, wide), images.root / name, (height, width))
        if (height, width) not in known.positions:
            known.positions[height, width] = frame_positions(images.frame, height, width)
        rows, columns = known.positions[height, width]
        row = _nearest(rows, height, tall)
        column = _nearest(columns, width, wide)
        framed: Maps = np.ascontiguousarray(values[row][:, column])
        return framed


def _nearest(positions: npt.NDArray[Any], length: int, size: int) -> npt.NDArray[np.int64]:
    """Return pixels of a map of ``size`` at positions in an image of ``length`` pixels."""
    scaled = (positions + 0.5) * (size / length) - 0.5
    return np.clip(np.round(scaled), 0, size - 1).astype(np.int64)


def _settings(path: Path) -> tuple[Kind, float]:
    if not path.is_file():
        return "metric", 0.001
    content = read_json(path, "depth settings", MAX_SETTINGS)
    known = ("kind", "png_scale")
    for name in content:
        if name not in known:
            raise ClipRobustError(
                f"{str(path)!r}: unknown key {name!r:.60}.{did_you_mean(name, known)} "
                f"Known are {', '.join(known)}"
            )
    kind, scale = content.get("kind", "metric"), content.get("png_scale", 0.001)
    if kind not in get_args(Kind):
        raise ClipRobustError(
            f"{str(path)!r}: kind {kind!r:.60} is none of {', '.join(get_args(Kind))}"
        )
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise ClipRobustError(
            f"{str(path)!r}: png_scale must be a number above 0 and below a million, not {scale!r:.40}"
        )
    return kind, float(scale)
