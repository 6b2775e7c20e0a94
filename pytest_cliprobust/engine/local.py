"""What patches say by themselves: the local part of GL-MCM, computed batch by batch.

Patch features of a data set would be some hundred times as large as its features, and one number a sample is
all that is wanted of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.errors import NotRun
from pytest_cliprobust.figures.arrays import Floats
from pytest_cliprobust.figures.condition import Step


def local_mcm(encoder: Encoder, dataset: Dataset, steps: Sequence[Step], weights: Tensor) -> Floats:
    """Return the local MCM (N,) of a data set under perturbations, at temperature 1; cached on disk.

    The largest softmax over classes among all patches, as :func:`pytest_cliprobust.properties.ood.local_mcm`
    has it.

    Args:
        encoder: of the model.
        dataset: N samples.
        steps: perturbations.
        weights: (C, D) unit rows of the zero-shot head.

    Raises:
        NotRun: the model gives no patch features in the space of its texts.
    """
    patches = getattr(encoder.target, "local_features", None)
    if patches is None:
        raise NotRun(
            f"model {encoder.target.info.name!r} gives no patch features in the space of its texts; give "
            "it a method local_features(pixels) -> (B, P, D)"
        )
    classes = weights.to(encoder.target.device, torch.float32)

    def largest(pixels: Tensor) -> Tensor:
        cosines: Tensor = patches(pixels) @ classes.T
        return cosines.softmax(dim=-1).amax(dim=(1, 2))[:, None]

    head = hashlib.sha256(weights.cpu().numpy().tobytes()).hexdigest()
    found = encoder.rows(dataset, steps, {"kind": "local mcm", "head": head}, largest, 1)
    return np.asarray(found[:, 0], dtype=np.float64)
