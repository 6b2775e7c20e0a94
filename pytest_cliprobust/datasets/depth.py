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

import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.errors import ClipRobustError, NotRun, brief, did_you_mean
from pytest_cliprobust.targets.digest import canonical, model_digest
from pytest_cliprobust.targets.hub import hub_folder

Floats = npt.NDArray[np.float32]
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

CHUNK = 16
"""Images a forward pass of an estimator, always: figures must not depend on the batch size."""

KEPT_BYTES = 2**28
"""Memory for framed maps that are kept between perturbations."""

SUFFIXES = (".npy", ".exr", ".png")
SETTINGS = "depth.json"

#: What transformers' depth models give, by model_type.
ESTIMATORS: dict[str, Kind] = {
    "dpt": "inverse",
    "depth_anything": "inverse",
    "zoedepth": "metric",
    "glpn": "metric",
    "depth_pro": "metric",
}

HUB_REMEDY = "give a local folder of the estimator, or of depth maps, as --clip-depth PATH"
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
        """Bring an image (3, H, W) uint8 to the frame, (3, size, size)."""
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


def whole_of(dataset: Dataset) -> Dataset:
    """Return the data set that a subset is of, or the data set itself."""
    while isinstance(dataset, Subset):
        dataset = dataset.whole
    return dataset


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------


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
            turned = file.getexif().get(0x0112, 1) >= 5
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipRobustError(
            f"cannot read image {str(path)!r} ({brief(error)}); repair or remove the file"
        ) from None
    return (width, height) if turned else (height, width)


def read_depth(path: Path, png_scale: float = 0.001) -> Floats:
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
        raise ClipRobustError(
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


def filled(values: Floats, kind: Kind) -> Floats | None:
    """Return a map whose pixels without a measurement have the farthest depth; None if none has any."""
    valid = np.isfinite(values)
    if kind == "metric":
        valid &= values > 0
    if not valid.any():
        return None
    farthest = values[valid].min() if kind == "inverse" else values[valid].max()
    return np.where(valid, values, farthest)


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


@dataclass
class _Known:
    """What is kept for one data set: where its frames lie, and framed maps by file."""

    positions: dict[tuple[int, int], Positions] = field(default_factory=dict)
    maps: dict[tuple[str, int, int], Floats] = field(default_factory=dict)
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

    def _one(self, images: Framed, name: str, known: _Known) -> Floats:
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

    def _framed(self, images: Framed, name: str, path: Path, known: _Known) -> Floats:
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
        framed: Floats = np.ascontiguousarray(values[row][:, column])
        return framed


def _nearest(positions: npt.NDArray[Any], length: int, size: int) -> npt.NDArray[np.int64]:
    """Return pixels of a map of ``size`` at positions in an image of ``length`` pixels."""
    scaled = (positions + 0.5) * (size / length) - 0.5
    return np.clip(np.round(scaled), 0, size - 1).astype(np.int64)


def _settings(path: Path) -> tuple[Kind, float]:
    if not path.is_file():
        return "metric", 0.001
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"{str(path)!r} cannot be read ({brief(error)})") from None
    known = ("kind", "png_scale")
    if not isinstance(content, dict):
        raise ClipRobustError(f"{str(path)!r} must hold an object with {' and '.join(known)}")
    for name in content:
        if name not in known:
            raise ClipRobustError(
                f"{str(path)!r}: unknown key {name!r}.{did_you_mean(name, known)} "
                f"Known are {', '.join(known)}"
            )
    kind, scale = content.get("kind", "metric"), content.get("png_scale", 0.001)
    if kind not in get_args(Kind):
        raise ClipRobustError(
            f"{str(path)!r}: kind {kind!r} is none of {', '.join(get_args(Kind))}"
        )
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < np.inf:
        raise ClipRobustError(f"{str(path)!r}: png_scale must be a number above 0, not {scale!r}")
    return kind, float(scale)


# --------------------------------------------------------------------------------------------------
# Estimators
# --------------------------------------------------------------------------------------------------


class DepthEstimator:
    """A depth-estimation model of transformers, as a :class:`DepthSource`.

    It is shown the image as the model under test is (resized and cropped, before the model's own
    normalisation), so that its maps need no framing. Maps are kept on disk in float32, 200 kB an image of
    224 pixels, in files of :data:`CHUNK` samples, by the digest of weights and processor, the data's digest
    and :data:`VERSION`; a forward pass always has :data:`CHUNK` images, so that a map is the same to the
    last bit whatever the batch size.

    Args:
        name: a folder, or ``owner/repository`` on the model hub.
        device: where it runs.
        cache: where maps are kept; None for the platform's folder.

    Raises:
        ClipRobustError: transformers is missing; no such model; not a model that is known to give depth;
            weights missing or damaged.
    """

    def __init__(
        self, name: str, device: torch.device | str = "cpu", cache: FeatureCache | None = None
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        self._cache = cache or FeatureCache()
        try:
            import transformers
        except ImportError:
            raise ClipRobustError(
                f"depth estimator {name!r} needs transformers; install it with "
                "`pip install pytest-cliprobust[transformers]`"
            ) from None
        folder = Path(name).expanduser()
        if not folder.is_dir():
            folder = hub_folder(name, f"depth estimator {name!r}", HUB_REMEDY)
        self.kind = self._kind(folder)
        self._model, self._processor = self._load(transformers, folder)
        self.digest = model_digest(
            self._model.state_dict(),
            {"class": type(self._model).__name__, "kind": self.kind, "version": VERSION},
            canonical(self._processor.to_dict()),
            canonical(self._model.config.to_diff_dict()),
        )
        self._recent: dict[tuple[str, int], Tensor] = {}

    def _kind(self, folder: Path) -> Kind:
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            model_type = config["model_type"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClipRobustError(
                f"depth estimator {self.name!r}: {str(path)!r} cannot be used ({brief(error)})"
            ) from None
        if model_type not in ESTIMATORS:
            raise ClipRobustError(
                f"depth estimator {self.name!r} is a model of type {model_type!r}; known to give depth are "
                f"{', '.join(ESTIMATORS)}"
            )
        if config.get("depth_estimation_type") == "metric":
            return "metric"
        return ESTIMATORS[model_type]

    def _load(self, transformers: Any, folder: Path) -> tuple[Any, Any]:
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True
            )
            model, found = transformers.AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # safetensors, torch, OSError, KeyError: whatever a file causes
            raise ClipRobustError(
                f"depth estimator {self.name!r} cannot be loaded from {str(folder)!r} ({brief(error)}); "
                "copy or download it again"
            ) from None
        if found["missing_keys"]:
            first = sorted(found["missing_keys"])[0]
            raise ClipRobustError(
                f"depth estimator {self.name!r}: {len(found['missing_keys'])} tensors are missing in "
                f"{str(folder)!r} (first: {first}); copy or download it again"
            )
        return model.float().eval().requires_grad_(False).to(self.device), processor

    def key(self, dataset: Dataset) -> str:
        """Return the estimator's digest; see :class:`DepthSource`. The data's own is in the key already."""
        return self.digest

    def depth(self, dataset: Dataset, ids: Sequence[str]) -> Tensor:
        """Return depth (B, 1, H, W), estimated or from the cache.

        Raises:
            ClipRobustError: an unreadable image, or an estimate that is not finite.
        """
        whole = whole_of(dataset)
        rows = _rows(whole)
        maps = [self._chunk(whole, rows[i] // CHUNK)[rows[i] % CHUNK] for i in ids]
        return torch.stack(maps)

    def _chunk(self, dataset: Dataset, number: int) -> Tensor:
        recent = (dataset.digest, number)
        if recent not in self._recent:
            key = {
                "kind": "depth",
                "estimator": self.digest,
                "data": dataset.digest,
                "chunk": [number, CHUNK],
                "device": self.device.type,
                "torch": torch.__version__,
            }
            values = self._cache.get_or_compute(key, lambda: self._estimate(dataset, number))
            while len(self._recent) >= 8:
                self._recent.pop(next(iter(self._recent)))
            self._recent[recent] = torch.from_numpy(values)
        return self._recent[recent]

    def _estimate(self, dataset: Dataset, number: int) -> Floats:
        rows = range(number * CHUNK, min((number + 1) * CHUNK, len(dataset)))
        images = dataset.load(rows).images
        height, width = images.shape[-2:]
        padded = torch.cat([images, images[-1:].expand(CHUNK - len(images), -1, -1, -1)])
        arrays = list(padded.permute(0, 2, 3, 1).contiguous().numpy())
        try:
            with torch.inference_mode():
                inputs = self._processor(images=arrays, return_tensors="pt").to(self.device)
                outputs = self._model(**inputs)
                values = self._at_size(outputs, height, width)[: len(images), None].float()
                depth = normalise(values, self.kind).cpu()
        except torch.OutOfMemoryError:
            raise ClipRobustError(
                f"depth estimator {self.name!r}: out of memory on {self.device} with {CHUNK} images; take a "
                "smaller estimator, or precomputed depth maps"
            ) from None
        bad = ~values.isfinite().flatten(1).all(1)
        if bad.any():
            culprit = dataset.ids[rows[int(bad.nonzero()[0])]]
            raise ClipRobustError(
                f"depth estimator {self.name!r} gives NaN or infinite depth for {culprit!r}; check its "
                "weights"
            )
        result: Floats = depth.numpy()
        return result

    def _at_size(self, outputs: Any, height: int, width: int) -> Tensor:
        """Return estimates (B, H, W) in the image's frame (without what a processor padded)."""
        process = getattr(self._processor, "post_process_depth_estimation", None)
        if process is not None:
            sizes = [(height, width)] * CHUNK
            known = inspect.signature(process).parameters
            more = {"source_sizes": sizes} if "source_sizes" in known else {}
            maps = process(outputs, target_sizes=sizes, **more)
            return torch.stack([one["predicted_depth"].reshape(height, width) for one in maps])
        if self._model.config.model_type in ("zoedepth", "depth_pro"):
            raise ClipRobustError(
                f"depth estimator {self.name!r} needs a newer transformers; upgrade it"
            )
        return torch.nn.functional.interpolate(
            outputs.predicted_depth[:, None], (height, width), mode="bicubic", align_corners=False
        )[:, 0]


_ROWS: dict[str, dict[str, int]] = {}


def _rows(dataset: Dataset) -> dict[str, int]:
    """Return the row of each id."""
    found = _ROWS.get(dataset.digest)
    if found is None:
        found = {name: row for row, name in enumerate(dataset.ids)}
        _ROWS.clear()
        _ROWS[dataset.digest] = found
    return found


# --------------------------------------------------------------------------------------------------
# What the user wrote
# --------------------------------------------------------------------------------------------------


def load_depth_source(
    text: str, device: torch.device | str = "cpu", cache: FeatureCache | None = None
) -> DepthSource:
    """Return the depth source that ``--clip-depth text`` means.

    A folder with a ``config.json`` is a model of transformers; one with depth maps somewhere in it is a
    folder of maps; what is no folder is the name of a hub repository, ``owner/name``.

    Raises:
        ClipRobustError: none of these.
    """
    folder = Path(text).expanduser()
    if (folder / "config.json").is_file():
        return _estimator(str(folder), str(device), cache and cache.root)
    if folder.is_dir():
        if not _holds_maps(folder):
            raise ClipRobustError(
                f"--clip-depth {text}: the folder holds neither a model (config.json) nor depth maps "
                f"({', '.join(SUFFIXES)})"
            )
        return DepthFiles(text)
    if text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise ClipRobustError(
            f"--clip-depth {text}: there is no such folder, and it is no owner/name of the model hub; "
            "give a model's folder or a folder of depth maps"
        )
    return _estimator(text, str(device), cache and cache.root)


@functools.lru_cache(maxsize=2)
def _estimator(name: str, device: str, root: Path | None) -> DepthEstimator:
    """Return an estimator; the models of a run share it."""
    return DepthEstimator(name, device, FeatureCache(root))


def _holds_maps(folder: Path) -> bool:
    return any(
        Path(name).suffix in SUFFIXES
        for _, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
