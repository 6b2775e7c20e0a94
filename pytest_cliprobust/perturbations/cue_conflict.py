"""Cue conflict: the shape of one thing, the texture of another.

Baker et al. 2018 ("Deep convolutional networks do not classify based on global object shape", PLOS
Computational Biology 14(12)), experiment 1, filled the silhouette of one object with the texture of
another. Geirhos et al. 2019 ("ImageNet-trained CNNs are biased towards texture", ICLR) made their 1,280
stimuli by neural style transfer instead, which also keeps the shading of the content image. Here the
silhouette is filled as in Baker et al., and its shading is kept as low-frequency luminance: the solid
look of the shape stays, its own markings and colours go.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations.filters import in_small_batches
from pytest_cliprobust.perturbations.registry import register

# Rec. 601 luma.
_LUMA = (0.299, 0.587, 0.114)
# Luminance is smoothed with three boxes of 5 cells on a lattice of this many cells across: a Gaussian
# with a standard deviation of about 1/13 of the image side (three boxes: Wells 1986).
_LATTICE = 32
_BOX = 5
_BOXES = 3
# Shading may halve or raise the texture's lightness by this much, no more: it models light.
_DARKEST, _BRIGHTEST = 0.6, 1.3


def _smoothed(values: Tensor) -> Tensor:
    """Return (B, 1, H, W) low-passed: averaged on a coarse lattice, smoothed, interpolated."""
    size = values.shape[-2:]
    coarse = F.adaptive_avg_pool2d(values, (min(_LATTICE, size[0]), min(_LATTICE, size[1])))
    for _ in range(_BOXES):
        coarse = F.avg_pool2d(coarse, _BOX, stride=1, padding=_BOX // 2)
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _mean(values: Tensor) -> Tensor:
    """Return the mean (B, 1, 1, 1) of (B, 1, H, W), H and W at least 8, in two steps of pooling.

    ``Tensor.mean`` sums in another order for another batch size and number of threads.
    """
    return F.avg_pool2d(F.adaptive_avg_pool2d(values, (8, 8)), 8)


@register(
    severities=tuple({"strength": s} for s in (0.2, 0.4, 0.6, 0.8, 1.0)),
    envelope={"strength": (0.0, 1.0)},
    inputs=("mask", "texture"),
    source="Baker et al. 2018 (silhouette filled with a texture); Geirhos et al. 2019 (strength: ours)",
)
@in_small_batches  # A pool adds up each of its outputs by itself, in the same order in every batch.
def texture_fill(images: Tensor, *, mask: Tensor, texture: Tensor, strength: float) -> Tensor:
    """Fill the object's silhouette with a texture, keeping its low-frequency shading.

    Args:
        images: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W) in [0, 1], coverage of the object.
        texture: (B, 3, H, W) in [0, 1], which fills the frame.
        strength: 0 leaves the object as it is, 1 leaves nothing of its own surface but the shading.

    Returns:
        (B, 3, H, W) in [0, 1]; pixels outside the mask are unchanged.
    """
    fill, cover = texture.to(images.dtype), mask.to(images.dtype)
    light = images[:, :1] * _LUMA[0] + images[:, 1:2] * _LUMA[1] + images[:, 2:] * _LUMA[2]
    # Normalised convolution (Knutsson & Westin 1993): the background must not leak into the shading.
    weight = _smoothed(cover).clamp(min=1e-3)
    smooth = _smoothed(light * cover) / weight
    # Relative to the object's own mean, so that a dark thing does not merely darken the texture.
    mean = _mean(light * cover) / _mean(cover).clamp(min=1e-6)
    shading = ((smooth + 0.25) / (mean + 0.25)).clamp(_DARKEST, _BRIGHTEST)
    filled = (fill * shading).clamp(0.0, 1.0)
    out: Tensor = images + (filled - images) * (cover * strength)
    return out.clamp(0.0, 1.0)
