"""What the 2D common corruptions share: their source and the size that its parameters are meant for."""

from __future__ import annotations

from torch import Tensor

REFERENCE_SIDE = 224.0
SOURCE = "Hendrycks & Dietterich 2019, ImageNet-C"


def relative_size(images: Tensor) -> float:
    """Return the shorter side of images (B, C, H, W) over 224: the scale of all published lengths."""
    return min(images.shape[-2:]) / REFERENCE_SIDE
