"""Image files and depth maps that options name, as tensors."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from pytest_cliprobust.datasets.depth.base import Kind, filled, normalise
from pytest_cliprobust.datasets.depth.files import read_depth
from pytest_cliprobust.datasets.layouts.imagefolder import read_image
from pytest_cliprobust.errors import ClipRobustError


def load_image(path: Path, *, alpha: bool = False) -> Tensor:
    """Return an image file as (1, 3, H, W) float32 in [0, 1], read as data sets read theirs.

    With ``alpha`` there is a fourth channel, its opacity.

    Raises:
        ClipRobustError: no such file, no image in it, or one that is too narrow.
    """
    _require_file(path)
    image = read_image(path)
    height, width = image.shape[1:]
    if max(height, width) > 100 * min(height, width):
        raise ClipRobustError(
            f"image {str(path)!r} is {width}×{height}, too narrow for a square to be cut from it; "
            "crop it"
        )
    if alpha:
        with Image.open(path) as file:
            opacity = ImageOps.exif_transpose(file).convert("RGBA").getchannel("A").tobytes()
        channel = torch.frombuffer(bytearray(opacity), dtype=torch.uint8)
        image = torch.cat((image, channel.reshape(1, height, width)))
    return image[None].float() / 255


def load_depth(path: Path, kind: Kind, scale: float) -> Tensor:
    """Return depth (1, 1, H, W) from a map of some ``kind``, whose png has ``scale`` steps a unit.

    Raises:
        ClipRobustError: no such file, no depth map in it, or no valid pixel.
    """
    _require_file(path)
    values = filled(read_depth(path, 1 / scale), kind)
    if values is None:
        raise ClipRobustError(
            f"depth file {str(path)!r} has no valid pixel: all are zero, negative or not finite; "
            "see docs/depth.md, and --depth-kind"
        )
    return normalise(torch.from_numpy(values)[None, None], kind)


def crop(image: Tensor, size: int, *, smooth: bool = True) -> Tensor:
    """Return (1, C, H, W) resized to ``size`` on the shorter side and cropped in the middle.

    With ``smooth`` the filter is bicubic: values may lie a little outside the image's range.
    """
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    new = (max(size, round(height * scale)), max(size, round(width * scale)))
    if smooth:
        image = F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False)
    else:
        image = F.interpolate(image, new, mode="nearest-exact")
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    return image[..., top : top + size, left : left + size].contiguous()


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise ClipRobustError(f"no file {str(path)!r}; check the path")
