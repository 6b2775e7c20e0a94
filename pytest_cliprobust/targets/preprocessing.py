"""A model's own image preprocessing, on tensors of any device.

The geometry follows ``open_clip.image_transform`` (open_clip 3.3, evaluation mode) and torchvision's
``Resize``/``CenterCrop``; the arithmetic runs on tensors instead of PIL images. Two paths:

* :meth:`Preprocessing.frame` keeps uint8 and the shape of the model's input, with torchvision's fixed-point
  antialiased resize on the CPU, which follows PIL's own algorithm (mean difference below 0.01/255, at most
  1/255);
* :meth:`Preprocessing.fit` works on float batches in [0, 1], differentiable. It does not round to whole
  grey levels after each pass of the resize as PIL does, so that it differs from PIL by about 0.3/255 on
  average and 1.1/255 at most. An image that has the model's size already passes unchanged, bit for bit.

Both resize horizontally first. So did every Pillow before 13, with which the published models were
trained and measured; Pillow 13 begins with the vertical pass where an image shrinks more in height
(python-pillow/Pillow#9549), which moves single pixels of tall images by up to 5/255 (0.25/255 on
average). Features here do not depend on the Pillow that is installed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor
from torchvision.transforms import InterpolationMode

from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.targets.base import Interpolation, ResizeMode

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

MAX_SIZE = 4096
"""Largest side of a model's input in pixels; the largest that is published has 1,024."""

LONGEST = 64
"""A picture more times as long as wide is cropped before it is enlarged by its shorter side."""

_MODES = {
    "bicubic": InterpolationMode.BICUBIC,
    "bilinear": InterpolationMode.BILINEAR,
    # PIL's nearest picks pixel centres, which torch calls nearest-exact.
    "nearest": InterpolationMode.NEAREST_EXACT,
}


@dataclass(frozen=True)
class Preprocessing:
    """How a model wants its images.

    Attributes:
        size: (height, width) of the model's input, pixels.
        mean, std: per channel, of images in [0, 1].
        interpolation: of the resize (always antialiased, as PIL's is).
        resize_mode: ``"shortest"`` (shorter edge to the size, centre crop), ``"longest"`` (longer edge
            to the size, padded with ``fill``), ``"squash"`` (both edges, aspect ratio ignored),
            ``"keep"`` (no resize: cropped to the size around the centre, padded where too small).
        fill: colour of the padding, 0 to 255.
        resize: shorter edge before the centre crop, if it is not the crop's own size (some
            transformers configurations resize to 256 and crop 224); with ``"squash"`` (height, width).
        crop: where an odd pixel beside the crop goes. ``"round"``: half of them, rounded to even, before
            it, as torchvision crops; ``"floor"``: half of them, rounded down, as transformers does.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill: tuple[int, int, int] = (0, 0, 0)
    resize: int | tuple[int, int] | None = None
    crop: Literal["round", "floor"] = "round"

    def __post_init__(self) -> None:
        """Check the values, which come from configuration files.

        Raises:
            ClipRobustError: a value that no image can be preprocessed with.
        """
        if not isinstance(self.interpolation, str) or self.interpolation not in get_args(
            Interpolation
        ):
            raise ClipRobustError(
                f"preprocessing: interpolation {self.interpolation!r} is not supported; "
                f"known are {', '.join(get_args(Interpolation))}"
            )
        if not isinstance(self.resize_mode, str) or self.resize_mode not in get_args(ResizeMode):
            raise ClipRobustError(
                f"preprocessing: resize_mode {self.resize_mode!r} is not supported; "
                f"known are {', '.join(get_args(ResizeMode))}"
            )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ClipRobustError(f"preprocessing: image size {self.size!r} is not (height, width)")
        if max(self.size) > MAX_SIZE or max(as_pair(self.resize or 1)) > MAX_SIZE:
            raise ClipRobustError(
                f"preprocessing: image size {self.size!r} (resized to {self.resize!r}) is more than "
                f"{MAX_SIZE} pixels"
            )
        if not all(math.isfinite(n) for n in (*self.mean, *self.std)):
            raise ClipRobustError(
                f"preprocessing: mean {self.mean!r} and std {self.std!r} must be finite numbers"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ClipRobustError(
                f"preprocessing: mean {self.mean!r} and std {self.std!r} must be three numbers each, "
                "std above 0"
            )

    @property
    def any_shape(self) -> bool:
        """Whether the model takes pictures of any shape, each framed in its own."""
        return False

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether pictures of (height, width) are what the model takes."""
        return tuple(shape) == self.size

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any], size: int | Sequence[int]) -> Preprocessing:
        """Return the preprocessing that an open_clip ``preprocess_cfg`` or pretrained tag describes.

        Keys that are missing take open_clip's defaults (OpenAI's mean and std, bicubic, shortest).
        ``size`` is the image size of the vision tower, which open_clip lets win over the config's.

        Raises:
            ClipRobustError: a value of another type, or one that no image can be preprocessed with.
        """
        # open_clip's evaluation transform takes "random" (a training setting) for bicubic.
        interpolation: Any = config.get("interpolation") or "bicubic"
        if config.get("resize_mode") == "keep":
            raise ClipRobustError(
                "preprocessing: resize_mode 'keep' is not open_clip's; it knows shortest, longest and squash"
            )
        try:
            return cls(
                size=as_pair(size),
                mean=triple(OPENAI_MEAN if config.get("mean") is None else config["mean"]),
                std=triple(OPENAI_STD if config.get("std") is None else config["std"]),
                interpolation="bicubic" if interpolation == "random" else interpolation,
                resize_mode=config.get("resize_mode") or "shortest",
                fill=_colour(config.get("fill_color") or 0),
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise ClipRobustError(
                f"preprocessing: {brief(error)}; mean, std and fill_color are numbers, one or three each"
            ) from None

    def identity(self) -> str:
        """Return a canonical text of all settings, for digests."""
        settings = asdict(self)
        if self.crop == "round":  # what all had before there was another
            del settings["crop"]
        if self.size[0] != self.size[1]:  # once framed as squares: those features are others
            settings["frame"] = "own shape"
        return json.dumps(settings, sort_keys=True)

    def framing(self) -> str:
        """Return a canonical text of the settings that :meth:`frame` goes by: equal texts, equal pictures."""
        settings = asdict(self)
        del settings["mean"], settings["std"]
        return json.dumps(settings, sort_keys=True)

    def frame_shape(self, size: int) -> tuple[int, int]:
        """Return (height, width) of a framed picture whose longer side has ``size`` pixels.

        It has the shape of the model's input: a square for all but a few models.
        """
        longest = max(self.size)
        height, width = (max(round(edge * size / longest), 1) for edge in self.size)
        return height, width

    def frame(self, image: Tensor, size: int) -> Tensor:
        """Resize and crop one image (3, H, W) uint8 as the model would, but to another size.

        It becomes uint8 of the shape that :meth:`frame_shape` gives for ``size``.

        Raises:
            ClipRobustError: not a uint8 image with three channels.
        """
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ClipRobustError(
                f"an image to frame must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}"
            )
        return self._framed(image, size).contiguous()

    def _framed(self, image: Tensor, size: int) -> Tensor:
        if self.resize_mode == "shortest":
            image = centre_of_long(image)
        return self._resize_and_crop(image, self.frame_shape(size))

    def fit(self, images: Tensor) -> Tensor:
        """Resize and crop floats (B, 3, H, W) in [0, 1] to (B, 3, h, w) in [0, 1]; differentiable."""
        return self._resize_and_crop(images, self.size)

    def alters_shape(self, source: Sequence[int]) -> bool:
        """Return whether pictures of (height, width) are cropped or padded on their way to the model."""
        height, width = source
        if (height, width) == self.size:
            return False
        return self._resized_size((height, width), self.size) != self.size

    def constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and std, (3, 1, 1) each, on ``device``."""
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
            for values in (self.mean, self.std)
        )
        return mean, std

    def _resize_and_crop(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(images.shape[-2:]) == size:
            return images
        images = self._resized(images, self._resized_size(images.shape[-2:], size))
        return _centre(images, size, self.fill, self.crop)

    def _resized_size(self, source: Sequence[int], size: tuple[int, int]) -> tuple[int, int]:
        height, width = source
        if self.resize_mode == "keep":
            return height, width
        before = None if self.resize is None else as_pair(self.resize)
        if self.resize_mode == "squash":
            if before is None:
                return size
            return round(size[0] * before[0] / self.size[0]), round(
                size[1] * before[1] / self.size[1]
            )
        if self.resize_mode == "shortest" and (size[0] == size[1] or before is not None):
            edge = size[0]
            if before is not None:
                edge = round(size[0] * before[0] / self.size[0])
            # torchvision truncates the longer edge (Resize with a single number).
            if width <= height:
                return int(edge * height / width), edge
            return edge, int(edge * width / height)
        ratios = (height / size[0], width / size[1])
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(round(height / ratio), 1), max(round(width / ratio), 1)

    def _resized(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(images.shape[-2:]) == size:
            return images
        mode = _MODES[self.interpolation]
        if (
            self.resize_mode == "shortest"
            and self.size[0] != self.size[1]
            and self.resize is None  # else it is a transformers configuration
        ):
            # open_clip leaves the interpolation of this one case at its default, bicubic.
            mode = InterpolationMode.BICUBIC
        if (
            images.is_floating_point()
        ):  # pictures as decoded are resized as they are, to the same pixels
            images = images.contiguous()
        if mode is InterpolationMode.BICUBIC and images.is_floating_point():
            # Bicubic overshoots at edges and PIL clips after each of its two passes; without the
            # first clip pixels next to an edge are up to 6/255 off.
            across: Tensor = _interpolate(images, (images.shape[-2], size[1]), mode).clamp(0, 1)
            return _interpolate(across, size, mode).clamp(0, 1)
        return _interpolate(images, size, mode)


def _interpolate(images: Tensor, size: tuple[int, int], mode: InterpolationMode) -> Tensor:
    resized: Tensor = tvf.resize(images, list(size), interpolation=mode, antialias=True)
    return resized


def centre_of_long(image: Tensor) -> Tensor:
    """Return the centre of a picture (3, H, W) that is more than :data:`LONGEST` times as long as wide.

    Its ends are cut away after it was enlarged by its shorter side, and would need gigabytes until then.
    """
    height, width = image.shape[-2:]
    most = LONGEST * min(height, width)
    rows, columns = (max(length - most, 0) // 2 for length in (height, width))
    return image[..., rows : height - rows, columns : width - columns]


def as_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) from one number or two."""
    if isinstance(size, int):
        return size, size
    values = [int(value) for value in size]
    return (values[0], values[0]) if len(values) == 1 else (values[-2], values[-1])


def triple(values: float | Sequence[float]) -> tuple[float, float, float]:
    """Return three numbers, one for each channel, from one number or three.

    Raises:
        ClipRobustError: another count.
    """
    numbers = [float(values)] * 3 if isinstance(values, int | float) else [float(v) for v in values]
    if len(numbers) != 3:
        raise ClipRobustError(f"preprocessing: expected three channels, got {numbers}")
    return numbers[0], numbers[1], numbers[2]


def _colour(value: int | Sequence[int]) -> tuple[int, int, int]:
    red, green, blue = (value,) * 3 if isinstance(value, int) else (int(v) for v in value)
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ValueError(f"a colour has levels from 0 to 255, not {value!r:.40}")
    return red, green, blue


def _centre(
    images: Tensor, size: tuple[int, int], fill: tuple[int, int, int], crop: str = "round"
) -> Tensor:
    """Crop to ``size`` around the centre, after padding with ``fill`` where the image is smaller."""
    height, width = images.shape[-2:]
    if height < size[0] or width < size[1]:
        down, right = max(size[0] - height, 0), max(size[1] - width, 0)
        scale = 255 if images.is_floating_point() else 1
        colour = torch.tensor([c / scale for c in fill], device=images.device).to(images.dtype)
        padded = colour.view(3, 1, 1).expand(*images.shape[:-2], height + down, width + right)
        # One channel's colour at a time would need three pads; writing into the colour needs none.
        padded = padded.clone()
        padded[..., down // 2 : down // 2 + height, right // 2 : right // 2 + width] = images
        images, (height, width) = padded, padded.shape[-2:]
    half = math.floor if crop == "floor" else round
    top, left = half((height - size[0]) / 2), half((width - size[1]) / 2)
    return images[..., top : top + size[0], left : left + size[1]]
