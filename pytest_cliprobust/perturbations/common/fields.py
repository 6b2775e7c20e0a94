"""Random fields that weather and digital corruptions share."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor

from pytest_cliprobust.perturbations import random
from pytest_cliprobust.perturbations.filters import Border, gaussian_filter, gaussian_weights

#: A field is drawn on a grid that many times coarser as leaves its Gaussian this wide there: linear
#: interpolation then adds no visible facets.
_SMOOTH_ENOUGH = 1.1


def smooth_noise(
    seeds: Tensor,
    size: tuple[int, int],
    sigma: float,
    *,
    channels: int = 1,
    border: Border = "replicate",
    truncate: float = 4.0,
    stream: int = 0,
) -> Tensor:
    """Return white noise under a Gaussian of ``sigma`` pixels, (B, channels, *size) float32.

    Mean 0 and variance 1 (away from the border). The white noise is uniform: under a Gaussian it is
    close to normal. Where sigma allows, the field is drawn on a grid 2, 4, … times coarser and
    enlarged linearly, its Gaussian narrowed by what the enlargement blurs.
    """
    coarser = 1
    while sigma / (2 * coarser) >= _SMOOTH_ENOUGH and min(size) > 8 * coarser:
        coarser *= 2
    height, width = (math.ceil(side / coarser) for side in size)
    narrowed = sigma / coarser
    # Linear interpolation halfway around adds the variance of its two weights, w·(1 − w) on average.
    phases = [(i + 0.5) / coarser - 0.5 for i in range(coarser)]
    spread = sum(abs(p) * (1 - abs(p)) for p in phases) / coarser
    narrowed = math.sqrt(max(narrowed**2 - spread, 0.0))
    half = gaussian_weights(narrowed, truncate) if narrowed > 0 else [1.0]
    weights = half[:0:-1] + half
    alone = sum(w * w for w in weights)
    neighbours = sum(a * b for a, b in itertools.pairwise(weights))
    # Variance along one axis after filter and interpolation, averaged over the phases.
    gain = sum(
        ((1 - abs(p)) ** 2 + p * p) * alone + 2 * abs(p) * (1 - abs(p)) * neighbours for p in phases
    ) / len(phases)
    end = math.sqrt(3.0) / gain
    field = random.uniform(seeds, (channels, height, width), -end, end, stream=stream)
    field = gaussian_filter(field, narrowed, border=border, truncate=truncate)
    if coarser > 1:
        field = F.interpolate(
            field, size=(height * coarser, width * coarser), mode="bilinear", align_corners=False
        )[..., : size[0], : size[1]]
    return field
