"""2D common corruptions (Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019).

Severity parameters are those published for ImageNet-C at 224 pixels. Lengths (blur widths, shifts)
scale with the shorter image side over 224, so that a picture of another size is corrupted to the same
look. :mod:`.noise`, :mod:`.blur`, :mod:`.weather` and :mod:`.digital` follow the paper's own groups.
"""

# The order of import is the order of the registry: the paper's.
from pytest_cliprobust.perturbations.common import noise, blur, weather, digital  # noqa: I001

__all__ = ["blur", "digital", "noise", "weather"]
