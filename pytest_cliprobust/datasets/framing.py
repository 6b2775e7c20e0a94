"""How the pictures of a data set were brought to their size, told so that it can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset, Frame
from pytest_cliprobust.datasets.subset import whole_of


@dataclass(frozen=True)
class Framing:
    """What decides, beside the files, the pictures that a data set gives.

    Attributes:
        how: the settings of resize and crop; equal texts, equal pictures.
        shape: (height, width) of the pictures in pixels; None: each has its own.
    """

    how: str
    shape: tuple[int, int] | None


def framing_of(frame: Frame | None, size: int) -> Framing | None:
    """Return how ``frame`` brings pictures to ``size`` (their longer side); None where that cannot be told.

    It can be of the models that this package loads; a target of the user's own may frame as it likes.
    """
    from pytest_cliprobust.targets.runtime import TorchTarget

    if getattr(frame, "__func__", None) is not TorchTarget.frame:
        return None
    target: TorchTarget = getattr(frame, "__self__")  # noqa: B009 - a method's own, unknown to its type
    preprocessing = target.preprocessing
    shape = None if preprocessing.any_shape else preprocessing.frame_shape(size)
    return Framing(preprocessing.framing(), shape)


def keeps_shapes(dataset: Dataset) -> bool:
    """Return whether the pictures of a data set have a shape each, so that few can be loaded together."""
    framing: Framing | None = getattr(whole_of(dataset), "framing", None)
    return framing is not None and framing.shape is None


def load_squeezed(dataset: Dataset, rows: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Return pictures (B, 3, h, w) uint8, each squeezed to ``size``, so that they can go through together.

    For what is timed, and for whether a model can be trusted: no figure of robustness is made of them.
    """
    images = [tvf.resize(dataset.load([row]).images, list(size)) for row in rows]
    return torch.cat(images)
