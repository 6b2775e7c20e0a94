"""Pictures of one shape, and those that keep their own."""

from __future__ import annotations

from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_cliprobust.datasets.framing import Framing, framing_of, keeps_shapes, load_squeezed
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder
from pytest_cliprobust.datasets.skipping import unreadable
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import Preprocessing
from pytest_cliprobust.targets.runtime import TorchTarget


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for name, shape in (("a", (40, 90, 3)), ("b", (90, 40, 3)), ("c", (50, 50, 3))):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "cat" / f"{name}.png")
    own = NaFlexPreprocessing(size=(32, 32), patch=8, most_patches=16)
    return ImageFolder(tmp_path / "photos", frame=own.frame, size=32)


def test_pictures_in_their_own_shapes_can_be_looked_at_together(folder: Any) -> None:
    folder.framing = Framing("own", None)
    part = Subset(folder, [2, 0])
    assert keeps_shapes(folder)
    assert keeps_shapes(part)
    images = load_squeezed(part, [0, 1], (32, 32))
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:1], folder.load([2]).images)
    assert not unreadable(folder, lambda done, total: None).any()


def test_how_a_models_frame_is_told() -> None:
    def frame_of(preprocessing: Any) -> Any:
        return MethodType(TorchTarget.frame, SimpleNamespace(preprocessing=preprocessing))

    fixed = Preprocessing(size=(32, 24))
    assert framing_of(frame_of(fixed), 64) == Framing(fixed.framing(), (64, 48))
    free = NaFlexPreprocessing(size=(32, 32), patch=8, most_patches=16)
    assert framing_of(frame_of(free), 64) == Framing(free.framing(), None)
    others: list[Any] = [None, free.frame, lambda image: image]
    assert [framing_of(own, 64) for own in others] == [None] * 3


@pytest.mark.parametrize("framing", [None, Framing("cut", (32, 32))])
def test_others_have_one_shape(folder: Any, framing: Framing | None) -> None:
    folder.framing = framing
    assert not keeps_shapes(folder)
    assert not keeps_shapes(Subset(folder, [0]))
