"""Defaults, limits and odd pixels of preprocessing, by hand and by the libraries' own constants."""

from __future__ import annotations

import json
import math
from typing import Any

import open_clip
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from torch import Tensor
from torchvision.transforms import InterpolationMode

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.targets.preprocessing import Preprocessing, centre_of_long


def numbered(height: int, width: int) -> Tensor:
    """Return a picture (3, H, W) uint8 whose neighbouring pixels differ."""
    return (torch.arange(3 * height * width) % 251).to(torch.uint8).view(3, height, width)


def test_defaults_are_those_of_open_clip() -> None:
    made = Preprocessing((8, 8))
    assert made.mean == open_clip.OPENAI_DATASET_MEAN
    assert made.std == open_clip.OPENAI_DATASET_STD
    assert Preprocessing.from_open_clip({}, 8) == made
    nothing = dict.fromkeys(("mean", "std", "interpolation", "resize_mode", "fill_color"))
    assert Preprocessing.from_open_clip(nothing, 8) == made
    assert json.loads(made.identity()) == {
        "fill": [0, 0, 0],
        "interpolation": "bicubic",
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "resize": None,
        "resize_mode": "shortest",
        "size": [8, 8],
        "std": list(open_clip.OPENAI_DATASET_STD),
    }
    floor = Preprocessing((8, 8), crop="floor")
    assert json.loads(floor.identity()) == {**json.loads(made.identity()), "crop": "floor"}


def test_framing_does_not_go_by_colours() -> None:
    made, other = Preprocessing((8, 8)), Preprocessing((8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    assert made.framing() == other.framing()
    assert json.loads(made.framing()) == {
        "crop": "round",
        "fill": [0, 0, 0],
        "interpolation": "bicubic",
        "resize": None,
        "resize_mode": "shortest",
        "size": [8, 8],
    }


@pytest.mark.parametrize(
    ("limit", "beyond"),
    [
        ({"size": (4096, 4096)}, {"size": (4097, 8)}),
        ({"size": (4096, 1)}, {"size": (8, 4097)}),
        ({"size": (1, 1)}, {"size": (1, 0)}),
        ({"size": (8, 8), "resize": 4096}, {"size": (8, 8), "resize": 4097}),
        ({"size": (8, 8), "resize": (4096, 4096)}, {"size": (8, 8), "resize": (4097, 8)}),
        ({"size": (8, 8), "resize": (8, 4096)}, {"size": (8, 8), "resize": (8, 4097)}),
        ({"size": (8, 8), "std": (1e-9,) * 3}, {"size": (8, 8), "std": (1.0, 1.0, 0.0)}),
        ({"size": (8, 8), "mean": (-9.0,) * 3}, {"size": (8, 8), "mean": (0.0, 0.0, math.inf)}),
        ({"size": (8, 8)}, {"size": (8, 8), "std": (1.0, 1.0, math.nan)}),
        ({"size": (8, 8)}, {"size": (8, 8), "mean": (0.0, 0.0)}),
        ({"size": (8, 8)}, {"size": (8, 8), "std": (1.0,) * 4}),
        ({"size": (8, 8)}, {"size": (8,)}),
        ({"size": (8, 8)}, {"size": (8, 8), "interpolation": None}),
        ({"size": (8, 8)}, {"size": (8, 8), "resize_mode": ["shortest"]}),
    ],
)
def test_what_is_just_allowed_and_what_no_longer(
    limit: dict[str, Any], beyond: dict[str, Any]
) -> None:
    Preprocessing(**limit)
    with pytest.raises(ClipRobustError, match="preprocessing:"):
        Preprocessing(**beyond)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"resize_mode": "keep"}, "it knows shortest, longest and squash"),
        ({"fill_color": 256}, "levels from 0 to 255, not 256"),
        ({"fill_color": (0, -1, 0)}, "levels from 0 to 255"),
        ({"fill_color": (0, 0)}, "one or three each"),
        ({"mean": "grey"}, "one or three each"),
        ({"std": 0}, "std above 0"),
    ],
)
def test_configurations_that_cannot_be(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ClipRobustError, match=words):
        Preprocessing.from_open_clip(config, 8)


def test_colours_at_the_ends_and_a_mean_of_nought() -> None:
    made = Preprocessing.from_open_clip({"fill_color": (0, 255, 7), "mean": 0}, [6])
    assert (made.fill, made.mean, made.size) == ((0, 255, 7), (0.0, 0.0, 0.0), (6, 6))


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((2, 128), slice(0, 2), slice(0, 128)),
        ((2, 129), slice(0, 2), slice(0, 129)),  # half a pixel either side is none
        ((2, 130), slice(0, 2), slice(1, 129)),
        ((133, 2), slice(2, 131), slice(0, 2)),
        ((1, 1), slice(0, 1), slice(0, 1)),
    ],
)
def test_the_centre_of_a_very_long_picture(
    shape: tuple[int, int], rows: slice, columns: slice
) -> None:
    image = numbered(*shape)
    assert torch.equal(centre_of_long(image), image[:, rows, columns])
    calls: list[tuple[int, ...]] = []
    original = tvf.resize

    def resize(image: Tensor, size: list[int], **settings: Any) -> Tensor:
        calls.append(tuple(image.shape[-2:]))
        resized: Tensor = original(image, size, **settings)
        return resized

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tvf, "resize", resize)
        Preprocessing((4, 4)).frame(image, 4)
        Preprocessing((4, 4), resize_mode="squash").frame(image, 4)
    assert calls == [(rows.stop - rows.start, columns.stop - columns.start), shape]


@pytest.mark.parametrize(
    ("settings", "source", "size", "expected"),
    [
        # The shorter edge; torchvision cuts the fraction of the longer one.
        ({}, (60, 90), (40, 40), (40, 60)),
        ({}, (90, 61), (40, 40), (59, 40)),
        ({}, (61, 90), (40, 40), (40, 59)),
        ({}, (70, 70), (40, 40), (40, 40)),
        ({"resize": 56}, (60, 90), (48, 48), (67, 100)),
        ({"resize": 56}, (60, 90), (40, 40), (56, 84)),
        ({"resize": (50, 56)}, (60, 90), (48, 48), (60, 90)),
        # Both edges at least as long as the crop's; rounded.
        ({}, (60, 90), (40, 50), (40, 60)),
        ({}, (60, 70), (40, 50), (43, 50)),
        ({}, (3, 400), (2, 1), (2, 267)),
        # The longer edge.
        ({"resize_mode": "longest"}, (60, 90), (40, 40), (27, 40)),
        ({"resize_mode": "longest"}, (60, 91), (40, 40), (26, 40)),
        ({"resize_mode": "longest"}, (1, 200), (40, 40), (1, 40)),
        ({"resize_mode": "longest"}, (200, 1), (40, 40), (40, 1)),
        ({"resize_mode": "squash"}, (60, 90), (40, 40), (40, 40)),
        ({"resize_mode": "squash", "resize": (60, 44)}, (60, 90), (40, 40), (60, 44)),
        ({"resize_mode": "squash", "resize": (60, 44)}, (60, 90), (20, 30), (30, 33)),
        ({"resize_mode": "squash", "resize": 60}, (60, 90), (20, 30), (30, 45)),
        ({"resize_mode": "keep"}, (61, 90), (40, 40), (61, 90)),
    ],
)
def test_sizes_before_the_crop(
    settings: dict[str, Any],
    source: tuple[int, int],
    size: tuple[int, int],
    expected: tuple[int, int],
) -> None:
    made = Preprocessing((40, 40), **settings)
    assert made._resized_size(source, size) == expected


@pytest.mark.parametrize("crop", ["round", "floor"])
@pytest.mark.parametrize("shape", [(9, 12), (10, 11), (11, 10), (13, 8), (8, 15)])
def test_odd_pixels_beside_the_crop(shape: tuple[int, int], crop: Any) -> None:
    image = numbered(*shape)
    framed = Preprocessing((8, 8), resize_mode="keep", crop=crop).frame(image, 8)
    beside = [(length - 8) / 2 for length in shape]
    top, left = (math.floor(b) if crop == "floor" else round(b) for b in beside)
    assert torch.equal(framed, image[:, top : top + 8, left : left + 8])
    if crop == "round":
        assert torch.equal(framed, tvf.center_crop(image, [8, 8]))


@pytest.mark.parametrize(
    ("shape", "down", "right"), [((5, 3), 1, 2), ((8, 5), 0, 1), ((3, 8), 2, 0)]
)
def test_odd_pixels_of_the_padding_go_below_and_right(
    shape: tuple[int, int], down: int, right: int
) -> None:
    image, fill = numbered(*shape), (10, 20, 250)
    made = Preprocessing((8, 8), resize_mode="keep", fill=fill)
    framed, fitted = made.frame(image, 8), made.fit(image[None].float() / 255)[0]
    expected = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1).repeat(1, 8, 8)
    expected[:, down : down + shape[0], right : right + shape[1]] = image
    assert torch.equal(framed, expected)
    torch.testing.assert_close(fitted, expected.float() / 255, rtol=0, atol=1e-7)


def test_a_model_that_is_not_square_is_resized_bicubically() -> None:
    # As open_clip does whatever its configuration says; the other modes keep to it.
    image = numbered(30, 44)[None].float() / 255
    modes = ("shortest", "longest", "squash")
    for mode, alike in zip(modes, (True, False, False), strict=True):
        nearest = Preprocessing((16, 20), resize_mode=mode, interpolation="nearest")  # type: ignore[arg-type]
        cubic = Preprocessing((16, 20), resize_mode=mode)  # type: ignore[arg-type]
        assert torch.equal(nearest.fit(image), cubic.fit(image)) == alike
    square = [Preprocessing((16, 16), interpolation=kind) for kind in ("nearest", "bicubic")]
    assert not torch.equal(square[0].fit(image), square[1].fit(image))


def test_bicubic_is_clipped_after_each_pass() -> None:
    edges = (torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    cubic = InterpolationMode.BICUBIC
    across = tvf.resize(edges, [40, 24], interpolation=cubic).clamp(0, 1)
    expected = tvf.resize(across, [16, 24], interpolation=cubic).clamp(0, 1)
    seen = Preprocessing((16, 24), resize_mode="squash").fit(edges)
    assert torch.equal(seen, expected)
    # Bilinear cannot overshoot: one call, and nothing is clipped.
    linear = InterpolationMode.BILINEAR
    made = Preprocessing((16, 24), resize_mode="squash", interpolation="bilinear")
    assert torch.equal(made.fit(edges * 2), tvf.resize(edges * 2, [16, 24], interpolation=linear))


def test_what_is_not_resized_is_not_clipped() -> None:
    images = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0)) * 3
    kept = Preprocessing((8, 8), resize_mode="keep").fit(images)
    assert torch.equal(kept, images[..., 2:10, 1:9])
    shortest = Preprocessing((10, 10)).fit(images)
    assert torch.equal(shortest, images[..., 1:11, :])
