"""Depth maps as data sets have them, with holes and outliers, made fit for use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations.filters import Table, on_host, tables

SOURCE = "Kar et al. 2022, ImageNet-3DCC"

FARTHEST = 64.0
"""Depth ends at this multiple of the nearest. The reference's depth of ImageNet images does: 512 over
16-bit inverse depth, at most 0.5, runs from 1/128 to 1/2."""

_SIDE = 48
"""Quantiles are those of at least this many rows and columns (or all), evenly spread."""

_NEAREST_SHARE = 0.01


def usable(depth: Tensor, images: Tensor) -> Tensor:
    """Return depth (B, 1, H, W) in the dtype of ``images``, positive and finite, without gradient.

    Where there is no depth (zero, negative, infinite or NaN) it is the farthest of the image, as of a
    sky; an image without any depth is flat. Depth beyond :data:`FARTHEST` times the nearest (the 1%
    quantile, so that one wrong pixel does not decide) is set to that.

    Raises:
        ClipRobustError: the map has another size than the images.
    """
    if depth.shape != (images.shape[0], 1, *images.shape[-2:]):
        raise ClipRobustError(
            f"depth has shape {tuple(depth.shape)} for images {tuple(images.shape)}; it must be "
            "(B, 1, H, W), one map of the same size for each image"
        )
    known = depth.detach().to(images.dtype).contiguous()
    if on_host(known) and _regular(known):
        return known
    known = torch.nan_to_num(known, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0)
    largest = known.amax((-2, -1), keepdim=True)
    largest = largest + (largest <= 0)
    known = torch.addcmul(known, (known <= 0).to(images.dtype), largest)
    nearest = quantiles(known, (_NEAREST_SHARE,))
    return torch.minimum(known, nearest * FARTHEST)


def _regular(depth: Tensor) -> bool:
    """Return whether nothing about ``depth``, in host memory, needs mending."""
    ends = (end.tolist() for end in (depth.amin((1, 2, 3)), depth.amax((1, 2, 3))))
    # A NaN is neither.
    return all(
        nearest > 0 and farthest < math.inf and farthest <= nearest * FARTHEST
        for nearest, farthest in zip(*ends, strict=True)
    )


@tables
def _places(count: int, *shares: float) -> tuple[Table, ...]:
    """Return the two neighbours of each share of ``count`` ordered values, and their weights."""
    places = [share * (count - 1) for share in shares]
    low = [min(int(place), count - 1) for place in places]
    high = [min(place + 1, count - 1) for place in low]
    parts = [place - whole for place, whole in zip(places, low, strict=True)]
    return low, high, [1 - part for part in parts], parts


def quantiles(values: Tensor, shares: Sequence[float]) -> Tensor:
    """Return quantiles (B, N, 1, 1) of values (B, 1, H, W) at ``shares`` (N), linearly interpolated.

    They are those of an even grid of 48 to 95 rows and columns where the map has more.
    """
    down, across = (max(size // _SIDE, 1) for size in values.shape[-2:])
    grid = slice(None), 0, slice(down // 2, None, down), slice(across // 2, None, across)
    if on_host(values) and values.dtype != torch.bfloat16:
        # NumPy sorts several times as fast.
        picked = values.detach().numpy()[grid]
        ordered = torch.from_numpy(np.sort(picked.reshape(len(picked), -1), axis=1))
    else:
        ordered = values[grid].flatten(1).sort(dim=1).values
    low, high, first, second = _places(ordered, ordered.shape[1], *shares)
    lower, upper = ordered.index_select(1, low), ordered.index_select(1, high)
    return (lower * first + upper * second)[:, :, None, None]


def normalised(depth: Tensor) -> Tensor:
    """Return :func:`usable` depth scaled to [0, 1] for each image, by its 1% and 99% quantiles."""
    ends = quantiles(depth, (_NEAREST_SHARE, 1 - _NEAREST_SHARE))
    near, span = ends[:, :1], ends[:, 1:] - ends[:, :1]
    return ((depth - near) / (span + (span <= 0))).clamp(0, 1)


def relative(depth: Tensor) -> Tensor:
    """Return :func:`usable` depth over that of the nearest point in the middle half of the image.

    The reference's camera paths are told by what that point does. It is the 1% quantile there.
    """
    height, width = depth.shape[-2:]
    middle = depth[..., height // 4 : height - height // 4, width // 4 : width - width // 4]
    return depth / quantiles(middle, (_NEAREST_SHARE,))


def focal_length(images: Tensor, focal: Tensor | float | None) -> Tensor:
    """Return the focal length in pixels, (B,) or (1,), of the data set or the default.

    Args:
        images: (B, C, H, W).
        focal: (B,) or a number, in pixels of these images; None: the longer side, a field of view of
            53° along it. The reference's camera has 512 pixels at 512, the same.
    """
    if isinstance(focal, Tensor):
        return focal.to(images.dtype).reshape(-1)
    length = float(max(images.shape[-2:])) if focal is None else float(focal)
    return torch.full((1,), length, dtype=images.dtype, device=images.device)
