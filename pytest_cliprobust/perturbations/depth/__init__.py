"""3D common corruptions (Kar, Yeo, Atanov & Zamir, "3D Common Corruptions and Data Augmentation",
CVPR 2022) that need no codec. Parameters are those of the reference's ImageNet-3DCC.

``depth`` is (B, 1, H, W), along the optical axis. Only its ratios matter: metres and depth up to scale
give the same pictures. Inverse depth (the disparity that MiDaS, DPT or Depth Anything predict) goes
through :func:`pytest_cliprobust.datasets.depth.base.depth_from_disparity` first. What :mod:`.maps` says
holds for all: no depth (zero, negative, infinite, NaN) counts as the farthest depth of the image, and
depth ends at 64 times the nearest. Every image is its own: the reference takes fog's airlight and other
means over a batch. The same goes for changes of view, which are a family of their own.
"""

# The order of import is the order of the registry.
from pytest_cliprobust.perturbations.depth import focus, light, sensor, motion  # noqa: I001

__all__ = ["focus", "light", "motion", "sensor"]
