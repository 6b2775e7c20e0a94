"""How the pictures of a data set were brought to their size, told so that it can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_cliprobust.datasets.base import Frame


@dataclass(frozen=True)
class Framing:
    """What decides, beside the files, the pictures that a data set gives.

    Attributes:
        how: the settings of resize and crop; equal texts, equal pictures.
        shape: (height, width) of the pictures in pixels.
    """

    how: str
    shape: tuple[int, int]


def framing_of(frame: Frame | None, size: int) -> Framing | None:
    """Return how ``frame`` brings pictures to ``size`` (their longer side); None where that cannot be told.

    It can be of the models that this package loads; a target of the user's own may frame as it likes.
    """
    from pytest_cliprobust.targets.runtime import TorchTarget

    if getattr(frame, "__func__", None) is not TorchTarget.frame:
        return None
    target: TorchTarget = getattr(frame, "__self__")  # noqa: B009 - a method's own, unknown to its type
    preprocessing = target.preprocessing
    return Framing(preprocessing.framing(), preprocessing.frame_shape(size))
