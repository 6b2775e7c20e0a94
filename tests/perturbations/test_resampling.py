"""Resampling against torch, PIL and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import color
from torch import Tensor

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import random, registry, resampling

NAMES = registry.names("resampling")


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    return load_dataset("clean", profile="quick").load([0, 67, 134]).images / 255


def test_the_family() -> None:
    assert set(NAMES) == {
        "down_and_up",
        "no_antialias",
        "resize_filter",
        "chroma_subsampling",
        "decoder_difference",
        "aspect_squash",
    }
    for name in NAMES:
        assert len(registry.get(name).severities) == 5


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    antialias=st.booleans(),
)
def test_a_linear_resize_is_that_of_torch(
    size: tuple[int, int], target: tuple[int, int], antialias: bool
) -> None:
    images = torch.rand(
        2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    ours = resampling.resized(images, target, antialias=antialias)
    # Rows first: torch (2.14) reads wrong rows of a picture that its antialiased resize made one column wide.
    theirs = images
    for step in ((target[0], size[1]), target):
        theirs = F.interpolate(theirs, size=step, mode="bilinear", antialias=antialias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_an_antialiased_resize_to_one_column_is_that_of_pil() -> None:
    picture = torch.rand(1, 1, 9, 7, generator=torch.Generator().manual_seed(1))
    ours = resampling.resized(picture, (4, 1), antialias=True)
    expected = Image.fromarray(picture[0, 0].numpy()).resize((1, 4), Image.Resampling.BILINEAR)
    assert np.abs(ours[0, 0].numpy() - np.array(expected)).max() < 1e-6


@pytest.mark.parametrize("target", [(56, 56), (31, 90), (300, 224), (224, 500)])
def test_a_cubic_resize_is_that_of_pil(target: tuple[int, int], scenes: Tensor) -> None:
    ours = resampling.resized(scenes, target, "cubic")
    for picture, result in zip(scenes, ours, strict=True):
        plane = Image.fromarray(picture[1].numpy())  # of floats, which PIL does not round
        expected = np.array(plane.resize(target[::-1], Image.Resampling.BICUBIC))
        assert np.abs(result[1].numpy() - expected).max() < 1e-5


def test_without_antialias_fine_stripes_turn_into_broad_ones() -> None:
    # A period of three pixels: a quarter of the pixels shows nothing of it, or broad stripes.
    stripes = (torch.arange(224) % 3 == 0).double().expand(1, 3, 224, 224)
    smooth = resampling.down_and_up(stripes, share=0.25)
    aliased = resampling.no_antialias(stripes, share=0.25)
    inner = slice(20, -20)
    assert float(smooth[..., inner].std()) < 0.02
    assert float(aliased[..., inner].std()) > 0.1


def test_the_softest_filter_is_the_b_spline() -> None:
    spot = torch.zeros(1, 3, 9, 9)
    spot[..., 4, 4] = 1
    seen = registry.get("resize_filter")(spot, 5)[0, 0]
    row = torch.tensor([1 / 6, 2 / 3, 1 / 6])
    torch.testing.assert_close(seen[3:6, 3:6], row[:, None] * row)
    assert float(seen.sum()) == pytest.approx(1)


def test_colours_go_to_luma_and_back() -> None:
    images = torch.rand(2, 3, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    luma, differences = resampling._differences(images)
    # scikit-image has the limited range: 16 to 235, and 112 about 128.
    theirs = color.rgb2ycbcr(images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(luma[:, 0].numpy() * 219 + 16, theirs[..., 0], atol=0.01)
    for channel in (0, 1):
        ours = differences[:, channel].numpy() * 224 + 128
        np.testing.assert_allclose(ours, theirs[..., channel + 1], atol=0.01)
    back = resampling._colours(luma, differences, resampling._BT601)
    torch.testing.assert_close(back, images)


@pytest.mark.parametrize("name", ["chroma_subsampling", "decoder_difference"])
def test_luma_stays_where_only_colour_is_lost(name: str) -> None:
    images = 0.35 + 0.3 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    luma = resampling._differences(images)[0]
    result = registry.get(name)(images, 1)
    torch.testing.assert_close(resampling._differences(result)[0], luma, rtol=0, atol=1e-5)
    assert float((result - images).abs().mean()) > 0.01


def test_half_the_chroma_is_a_mean_of_four() -> None:
    images = 0.4 + 0.2 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    decoded = resampling.decoder_difference(images, blocks=1.0, matrix=0.0, range=0.0)
    before, after = (resampling._differences(x)[1] for x in (images, decoded))
    blocks = F.avg_pool2d(before, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(after, blocks, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 9), (8, 9), (7, 8), (1, 1)])
def test_the_last_block_of_an_odd_side_is_cut(size: tuple[int, int]) -> None:
    images = 0.4 + 0.2 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(4))
    decoded = resampling.decoder_difference(images, blocks=1.0, matrix=0.0, range=0.0)
    assert decoded.shape == images.shape
    chroma = resampling._differences(decoded)[1]
    for dim, side in zip((-2, -1), size, strict=True):
        first, second = chroma.narrow(dim, 0, side // 2 * 2).unflatten(dim, (-1, 2)).unbind(dim)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_another_matrix_and_range_are_those_of_the_standards() -> None:
    red = torch.tensor([0.6, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    y = 0.299 * 0.6 + 0.587 * 0.2 + 0.114 * 0.1
    cb, cr = (0.1 - y) / 1.772, (0.6 - y) / 1.402
    expected = [y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb]
    seen = resampling.decoder_difference(red, matrix=1.0, range=0.0)[0, :, 2, 2]
    assert seen.tolist() == pytest.approx(expected, abs=2e-4)
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    pale = resampling.decoder_difference(ends, matrix=0.0, range=1.0)
    assert pale[0, 0, 0].tolist() == pytest.approx([16 / 255, 235 / 255])


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_a_squash_stretches_one_side_about_the_middle(share: float) -> None:
    x = torch.arange(200, dtype=torch.float32).expand(8, 1, 200, 200) / 200
    images = torch.cat((x, x.mT, torch.zeros_like(x)), 1)
    result = resampling.aspect_squash(images, share=share, seeds=torch.arange(8))
    slopes = [
        (
            float((row[0, 100, 150] - row[0, 100, 50]) * 2),
            float((row[1, 150, 100] - row[1, 50, 100]) * 2),
        )
        for row in result
    ]
    kinds = {tuple(round(s, 3) for s in slope) for slope in slopes}
    assert kinds == {(1.0, share), (share, 1.0)}
    torch.testing.assert_close(
        result[..., 99:101, 99:101].mean((-2, -1)), images[..., 99:101, 99:101].mean((-2, -1))
    )


def test_a_filter_that_changes_nothing_is_the_identity() -> None:
    images = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(5))
    assert torch.equal(resampling.down_and_up(images, share=1.0), images)
    assert torch.equal(resampling.no_antialias(images, share=1.0), images)
    assert torch.equal(resampling.chroma_subsampling(images, factor=1.0), images)


def test_the_parameters_of_all_severities() -> None:
    shares = [{"share": s} for s in (0.75, 0.5, 0.35, 0.25, 0.18)]
    expected: dict[str, list[dict[str, float]]] = {
        "down_and_up": shares,
        "no_antialias": shares,
        "resize_filter": [{"softness": s} for s in (0.2, 0.4, 0.6, 0.8, 1.0)],
        "chroma_subsampling": [{"factor": f} for f in (2.0, 4.0, 6.0, 10.0, 16.0)],
        "decoder_difference": [
            {"blocks": 1.0, "matrix": m, "range": r}
            for m, r in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
        ],
        "aspect_squash": [{"share": s} for s in (0.9, 0.8, 0.7, 0.6, 0.5)],
    }
    for name, steps in expected.items():
        assert [dict(step) for step in registry.get(name).severities] == steps


def resized_by_pil(images: Tensor, size: tuple[int, int], how: Image.Resampling) -> Tensor:
    """Return pictures (B, C, *size) as PIL resizes planes of floats, which it does not round."""
    planes = [
        [np.array(Image.fromarray(plane.numpy()).resize(size[::-1], how)) for plane in picture]
        for picture in images
    ]
    return torch.from_numpy(np.array(planes))


@pytest.mark.parametrize("size", [(40, 57), (33, 24)])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_what_is_lost_is_lost_by_pil_s_and_torch_s_resizes(
    size: tuple[int, int], severity: int
) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(6))
    share = (0.75, 0.5, 0.35, 0.25, 0.18)[severity - 1]
    small = (max(round(size[0] * share), 1), max(round(size[1] * share), 1))
    cubic = Image.Resampling.BICUBIC
    expected = resized_by_pil(resized_by_pil(images, small, cubic), size, cubic).clamp(0, 1)
    seen = registry.get("down_and_up")(images, severity)
    torch.testing.assert_close(seen, expected, rtol=0, atol=2e-5)
    shrunk = F.interpolate(images, size=small, mode="bilinear")
    expected = F.interpolate(shrunk, size=size, mode="bilinear")
    seen = registry.get("no_antialias")(images, severity)
    torch.testing.assert_close(seen, expected, rtol=0, atol=2e-5)
    # Colour alone is lost, by means and linearly.
    factor = (2.0, 4.0, 6.0, 10.0, 16.0)[severity - 1]
    few = (max(round(size[0] / factor), 1), max(round(size[1] / factor), 1))
    luma, differences = resampling._differences(images)
    colour = resized_by_pil(differences, few, Image.Resampling.BOX)
    colour = resized_by_pil(colour, size, Image.Resampling.BILINEAR)
    y, cb, cr = luma, colour[:, :1], colour[:, 1:]
    expected = torch.cat((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), 1)
    seen = registry.get("chroma_subsampling")(images, severity)
    torch.testing.assert_close(seen, expected.clamp(0, 1), rtol=0, atol=5e-5)


@pytest.mark.parametrize("size", [(24, 40), (41, 30)])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_squash_takes_the_middle_of_one_side(size: tuple[int, int], share: float) -> None:
    seeds = torch.arange(6)
    images = torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(6))
    seen = resampling.aspect_squash(images, share=share, seeds=seeds).numpy()
    axes = set()
    for image, draw, result in zip(images.numpy(), random.uniform(seeds, (1,)), seen, strict=True):
        axis = 2 if float(draw) < 0.5 else 1
        side = size[axis - 1]
        places = (np.arange(side) + 0.5 - side / 2) * share + side / 2 - 0.5
        first = np.floor(places).astype(int)
        one, two = (np.take(image, (first + k).clip(0, side - 1), axis) for k in (0, 1))
        part = (places - first).reshape((-1, 1) if axis == 1 else (-1,))
        np.testing.assert_allclose(result, one * (1 - part) + two * part, atol=1e-4)
        axes.add(axis)
    assert axes == {1, 2}
