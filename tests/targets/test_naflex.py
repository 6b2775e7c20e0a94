"""The shapes that pictures have for a NaFlex model: those of transformers' own processor."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import Preprocessing


def made(patch: int = 8, most: int = 16, **more: Any) -> NaFlexPreprocessing:
    return NaFlexPreprocessing(size=(32, 32), patch=patch, most_patches=most, **more)


SIDE = st.integers(1, 5000)


@settings(deadline=None)  # the first imports transformers
@given(SIDE, SIDE, st.sampled_from([8, 14, 16]), st.integers(1, 1024))
@example(1, 1, 16, 256)
@example(427, 640, 16, 256)
@example(1, 5000, 16, 256)
def test_shapes_are_those_of_transformers(height: int, width: int, patch: int, most: int) -> None:
    processors = pytest.importorskip("transformers.models.siglip2.image_processing_siglip2")
    expected = processors.get_image_size_for_max_num_patches(height, width, patch, most)
    own = made(patch, most)
    assert own.own_shape((height, width)) == expected
    assert own.takes(expected)
    # What was framed is not resized again, but for pictures of so few pixels that the scale has an end.
    if height * width > most * patch * patch / 5000:
        assert own.own_shape(expected) == expected


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((32, 32), True),
        ((8, 128), True),
        ((16, 40), True),
        ((16, 41), False),
        ((36, 32), False),
        ((40, 32), False),
        ((0, 32), False),
    ],
)
def test_whole_patches_are_taken_and_no_more_than_there_may_be(
    shape: tuple[int, int], taken: bool
) -> None:
    assert made().takes(shape) == taken


def test_pictures_are_resized_to_their_own_shape_alone() -> None:
    image = torch.randint(
        0, 256, (3, 60, 200), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    own = made(interpolation="bilinear")
    for size in (32, 224):  # the side asked for is that of a square picture: it decides nothing
        framed = own.frame(image, size)
        assert framed.shape == (3, 16, 56)
        assert framed.dtype == torch.uint8
    squashed = Preprocessing(size=(16, 56), resize_mode="squash", interpolation="bilinear")
    assert torch.equal(framed, squashed.frame(image, 56))
    pixels = framed[None].float() / 255
    assert torch.equal(own.fit(pixels), pixels)
    assert own.fit(torch.rand(2, 3, 224, 224)).shape == (2, 3, 32, 32)
    assert not own.alters_shape((60, 200))
    assert own.any_shape
    assert not squashed.any_shape
    with pytest.raises(ClipRobustError, match="must be \\(3, H, W\\) uint8"):
        own.frame(image.float(), 32)


def test_patches_are_part_of_its_identity() -> None:
    texts = [made(), made(most=15), made(patch=16), Preprocessing(size=(32, 32))]
    assert len({text.identity() for text in texts}) == 4
    assert json.loads(made().framing())["most_patches"] == 16
