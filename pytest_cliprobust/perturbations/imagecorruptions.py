"""What the package ``imagecorruptions`` does otherwise than ImageNet-C's own script."""

from __future__ import annotations

from torch import Tensor

from pytest_cliprobust.perturbations.common.digital import elastic_transform
from pytest_cliprobust.perturbations.registry import register


@register(
    severities=tuple({"displacement": d} for d in (14.0, 18.2, 23.8, 28.0, 33.6)),
    envelope={"displacement": (0.0, 45.0)},
    inputs=("seeds",),
    source="Michaelis et al. 2019 (imagecorruptions), after Hendrycks & Dietterich 2019",
)
def elastic_transform_imagecorruptions(
    images: Tensor, *, displacement: float, seeds: Tensor
) -> Tensor:
    """Shift each pixel by a smooth random field: :func:`.elastic_transform` without its affine map.

    The field is white noise within ± ``displacement`` pixels under a Gaussian of 2.24 pixels, at 224
    pixels. Its severities grow evenly; AlexNet's published errors do not belong to them.
    """
    return elastic_transform(images, displacement=displacement, sigma=2.24, affine=0.0, seeds=seeds)
