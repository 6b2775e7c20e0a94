"""3D corruptions: each against its formula or a slow exact version, and the family's contract."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from helpers import Watch, mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations import random, registry
from pytest_cliprobust.perturbations.depth import focus, maps, motion
from pytest_cliprobust.perturbations.warping import Movement
from pytest_cliprobust.search.envelope import at_strength

CORRUPTIONS = registry.names("depth")
NAMES = (*CORRUPTIONS, *registry.names("view"))
NEED_DEPTH = [name for name in NAMES if "depth" in registry.get(name).inputs]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@lru_cache(maxsize=1)
def scenes() -> tuple[Tensor, Tensor]:
    """Return two embedded scenes and their depth, at 224 pixels."""
    batch = load_dataset("clean", profile="quick").load([0, 3])
    assert batch.depth is not None
    return batch.images / 255, batch.depth


def sample(count: int, height: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return smooth random pictures with a box before a slope, and seeds."""
    generator = torch.Generator().manual_seed(11)
    coarse = torch.rand(count, 3, 7, 7, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    depth = torch.linspace(6, 1.5, height).view(1, 1, -1, 1).repeat(count, 1, 1, width)
    depth[:, :, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1.5
    depth = depth * torch.linspace(1, 3, count).view(-1, 1, 1, 1)
    seeds = torch.arange(count) * 7919 + 5
    return images.clamp(0, 1), {"depth": depth, "seeds": seeds}


# --------------------------------------------------------------------------------------------------
# The published parameters
# --------------------------------------------------------------------------------------------------

PUBLISHED = {
    "fog_3d": ("extinction", [4, 8, 12, 16, 20]),
    "near_focus": ("aperture", [3, 4, 5, 6, 7]),
    "far_focus": ("aperture", [1.5, 2.5, 3.5, 4.5, 5.5]),
    "flash": ("gain", [1 / 2.4, 1 / 1.4, 1 / 0.9, 1 / 0.6, 1 / 0.4]),
    "color_quant": ("bits", [5, 4, 3, 2, 1]),
    "low_light": ("range", [0.6, 0.5, 0.4, 0.3, 0.2]),
    "iso_noise": ("deviation", [0.056, 0.084, 0.126, 0.182, 0.266]),
    "xy_motion_blur": ("frames", [20, 30, 40, 50, 60]),
    "z_motion_blur": ("frames", [20, 25, 30, 35, 38]),
}


def test_published_parameters() -> None:
    assert set(PUBLISHED) == set(CORRUPTIONS)
    for name, (parameter, values) in PUBLISHED.items():
        severities = registry.get(name).severities
        assert [step[parameter] for step in severities] == pytest.approx(values)


# --------------------------------------------------------------------------------------------------
# Light
# --------------------------------------------------------------------------------------------------


def test_fog_follows_the_optical_model() -> None:
    images, inputs = sample(2, 48, 40)
    depth = inputs["depth"].clone()
    depth[:, :, -3:] = depth[:, :, -4:-3]  # the nearest 1% is then the nearest
    near, far = (f(depth, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    for severity, extinction in enumerate((4, 8, 12, 16, 20), start=1):
        t = torch.exp(-extinction * 0.5 * (depth - near) / (far - near))
        expected = images * t + images.mean((1, 2, 3), keepdim=True) * (1 - t)
        torch.testing.assert_close(registry.get("fog_3d")(images, severity, depth=depth), expected)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.4, 0.0), (-0.3, 0.5)])
def test_flash_lights_a_plane_by_lambert_and_distance(tilt: tuple[float, float]) -> None:
    height, width, focal = 40, 56, 50.0
    u = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) / focal
    v = (torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2) / focal
    # The plane z = 2 + tilt · (x, y).
    depth = 2 / (1 - tilt[0] * u - tilt[1] * v)
    ray = torch.sqrt(1 + u**2 + v**2)
    cosine = (1 - tilt[0] * u - tilt[1] * v) / (math.hypot(1, *tilt) * ray)
    squared = (depth * ray) ** 2
    away = (squared / squared.quantile(0.5)).clamp(max=8)
    shading = (2.5 * cosine / (1 + away)).clamp(max=1)
    images = torch.full((1, 3, height, width), 0.3, dtype=torch.float64)
    lit = registry.get("flash")(images, gain=0.8, depth=depth[None, None], focal=focal)
    error = (lit - (0.3 + 0.3 * 0.8 * shading)).abs()
    # One-sided slopes on a grid, and quantiles of a part of the pixels.
    assert float(error.max()) < 0.012
    assert float(lit.max() - lit.min()) > 0.02


def test_flash_leaves_no_dark_rim_at_a_silhouette() -> None:
    depth = torch.full((1, 1, 32, 32), 4.0)
    depth[..., 8:24, 8:24] = 2.0
    images = torch.full((1, 3, 32, 32), 0.4)
    lit = (registry.get("flash")(images, gain=1.0, depth=depth) - 0.4) / 0.4
    # The median is the wall's: it gets half of the lamp's light in its middle, the box four fifths.
    box, wall = lit[..., 8:24, 8:24], lit[..., 2:6, :]
    assert float(box.min()) == 1
    assert float(lit[..., 4:28, 4:28].min()) > 0.75
    assert 0.75 < float(wall.min()) <= float(wall.max()) < 1.25


@pytest.mark.parametrize("farthest", [10.0, 64.0])
def test_flash_has_light_for_a_scene_of_any_depth(farthest: float) -> None:
    """Most of the scene lies far beyond its nearest point, as in maps of disparity."""
    depth = torch.linspace(1, 3, 64).view(1, 1, -1, 1).repeat(1, 1, 1, 64)
    depth[:, :, :24] = farthest
    lit = (
        registry.get("flash")(torch.full((1, 3, 64, 64), 0.2), gain=1.0, depth=depth) - 0.2
    ) / 0.2
    sky, ground = lit[..., :20, :], lit[..., 28:, :]
    # 2.5 / (1 + 8) is the least that a surface straight ahead gets; slanted rays lower it a little.
    assert float(sky.min()) > 0.2
    assert float(sky.mean()) < float(ground.mean())
    assert float(lit.mean()) > 0.4


def test_flash_is_no_brighter_on_a_stray_pixel() -> None:
    depth = torch.full((1, 1, 32, 32), 2.0)
    depth[..., 16, 16] = 0.5
    lit = registry.get("flash")(torch.full((1, 3, 32, 32), 0.3), gain=1.0, depth=depth)
    assert float(lit.max()) < 0.6 + 1e-6


def test_low_light_has_gamma_two_and_the_noise_of_level_three() -> None:
    images = torch.full((6, 3, 64, 64), 0.6)
    images[:, :, 0, 0], images[:, :, 0, 1] = 0.1, 0.9
    seeds = torch.arange(6) * 31 + 1
    for severity, scale in enumerate((0.6, 0.5, 0.4, 0.3, 0.2), start=1):
        dark = ((0.6 - 0.1) / 0.8) ** 2 * scale
        seen = registry.get("low_light")(images, severity, seeds=seeds)[:, :, 1:]
        assert float(seen.mean()) == pytest.approx(dark, rel=0.01)
        assert float(seen.var()) == pytest.approx(dark / 120 + 0.018**2, rel=0.05)


# --------------------------------------------------------------------------------------------------
# Sensor
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.12, 0.4, 0.95])
def test_iso_noise_is_poisson_then_gaussian(value: float) -> None:
    images = torch.full((4, 3, 64, 64), value)
    seeds = torch.arange(4) * 31 + 1
    counts = np.random.default_rng(0).poisson(value * 25, 400_000) / 25
    for severity, scale in ((1, 0.08), (3, 0.18), (5, 0.38)):
        exact = np.clip(counts, 0, 1) + np.random.default_rng(1).normal(
            0, 0.7 * scale, counts.shape
        )
        exact = np.clip(exact, 0, 1)
        seen = registry.get("iso_noise")(images, severity, seeds=seeds).double()
        assert float(seen.mean()) == pytest.approx(exact.mean(), abs=0.005)
        assert float(seen.std()) == pytest.approx(exact.std(), rel=0.02)
        ours, theirs = (np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95]) for x in (seen, exact))
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_below_the_mildest_level_all_noise_fades_in_proportion() -> None:
    images = torch.full((1, 3, 32, 32), 0.5)
    noise = {
        level: registry.get("iso_noise")(images, deviation=level, seeds=torch.tensor([3])) - images
        for level in (0.056, 0.028, 0.014)
    }
    # A grey in the middle is hardly ever clamped.
    free = noise[0.056].abs() < 0.5
    assert float(free.float().mean()) > 0.99
    for level, share in ((0.028, 0.5), (0.014, 0.25)):
        expected = noise[0.056] * share
        torch.testing.assert_close(noise[level][free], expected[free], rtol=0, atol=1e-5)


def test_iso_noise_counts_photons() -> None:
    """Photons come in whole numbers: with little electronic noise the levels show."""
    images = torch.full((1, 3, 96, 96), 0.12)
    seen = registry.get("iso_noise")(images, 1, seeds=torch.tensor([3]))
    other = registry.get("iso_noise")(images, 2, seeds=torch.tensor([3]))
    # Both severities share photons and deviates, so that the photons can be told from the two.
    photons = (seen * 0.084 - other * 0.056) / (0.084 - 0.056) * 25
    inside = (seen > 0) & (seen < 1) & (other > 0) & (other < 1)
    values = photons[inside]
    assert float((values - values.round()).abs().max()) < 1e-2
    # Three photons are expected, and none is not rare, but then Gaussian noise reaches below 0.
    assert {1, 2, 3, 4, 5, 6} <= set(values.round().int().tolist())


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_color_quant_is_that_of_pil(severity: int) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(3).reshape(16, 16, 3)
    expected = np.array(ImageOps.posterize(Image.fromarray(pixels), 6 - severity))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    seen = registry.get("color_quant")(images, severity) * 255
    torch.testing.assert_close(seen[0].permute(1, 2, 0), torch.from_numpy(expected).float())


# --------------------------------------------------------------------------------------------------
# Focus
# --------------------------------------------------------------------------------------------------


def slow_focus(image: np.ndarray, depth: np.ndarray, aperture: float, layer: int) -> np.ndarray:
    """The reference's way: nine blurs of any width, of which each pixel mixes two."""
    bounds = np.quantile(depth, np.arange(9) / 8)
    bounds[0], bounds[-1] = bounds[0] - 1e-4, bounds[-1] + 1e-4
    circles = aperture * np.abs(bounds - bounds[layer]) / bounds
    blurred = []
    for circle in circles:
        filtered = image
        radius = int(1.5 * circle)
        if radius:
            for axis in (1, 2):
                filtered = ndimage.gaussian_filter1d(
                    filtered, circle, axis=axis, mode="nearest", radius=radius
                )
        blurred.append(filtered)
    number = np.clip(np.searchsorted(bounds, depth) - 1, 0, 7)
    share = (depth - bounds[number]) / (bounds[number + 1] - bounds[number])
    first, second = 1 - share**2, 1 - (1 - share) ** 2
    stack = np.stack(blurred)
    rows, columns = np.indices(depth.shape)
    near, far = (stack[n, :, rows, columns].transpose(2, 0, 1) for n in (number, number + 1))
    mixed: np.ndarray = (first * near + second * far) / (first + second)
    return mixed


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", ["near_focus", "far_focus"])
def test_focus_agrees_with_the_reference(name: str, severity: int) -> None:
    images, depth = scenes()
    corruption = registry.get(name)
    seen = corruption(images, severity, depth=depth)
    for i in range(len(images)):
        exact = torch.from_numpy(
            slow_focus(
                images[i].numpy().astype(np.float64),
                depth[i, 0].numpy().astype(np.float64),
                corruption.parameters(severity)["aperture"],
                0 if name == "near_focus" else 7,
            )
        )
        # A mix of two blurs is nearly a third one; with little blur, every detail shows.
        assert psnr(seen[i], exact) > (50 if (name, severity) == ("near_focus", 1) else 42)
        assert psnr(seen[i], exact) > psnr(images[i], exact) + 6


@pytest.mark.slow
def test_far_focus_is_as_strong_as_published_on_disparity() -> None:
    """Depth of a disparity map runs from 1 to 64: the blur is wider than the picture."""
    images, depth = scenes()
    inverse = 1 / depth
    low, high = inverse.amin((1, 2, 3), keepdim=True), inverse.amax((1, 2, 3), keepdim=True)
    depth = 1 / ((inverse - low) / (high - low)).clamp(min=1 / 64)
    strengths = []
    for aperture in (1.5, 3.5, 5.5):
        seen = registry.get("far_focus")(images, aperture=aperture, depth=depth)
        exact = slow_focus(
            images[0].numpy().astype(np.float64),
            depth[0, 0].numpy().astype(np.float64),
            aperture,
            7,
        )
        ours, theirs = (
            float((x - images[0]).square().mean().sqrt())
            for x in (seen[0], torch.from_numpy(exact))
        )
        assert 0.82 < ours / theirs < 1.02
        strengths.append(ours)
    # The published severities are told apart.
    assert strengths[1] > 1.1 * strengths[0]
    assert strengths[2] > 1.02 * strengths[1]


def test_focus_mixes_the_blurs_of_a_layer_by_squares() -> None:
    # A checkerboard is grey after any blur: what contrast is left is the weight of the sharp boundary.
    board = (torch.arange(224)[:, None] + torch.arange(224)) % 2 * 0.4 + 0.3
    depth = torch.linspace(1, 9, 224).view(1, 1, -1, 1).expand(1, 1, 224, 224)
    seen = registry.get("near_focus")(board.expand(1, 3, -1, -1), 5, depth=depth)[0, 0]
    contrast = (seen[:, ::2].mean(1) - seen[:, 1::2].mean(1)).abs()[1:28] / 0.4
    share = (depth[0, 0, 1:28, 0] - 1) / (maps.quantiles(depth, [1 / 8]).item() - 1)
    first, second = 1 - share**2, 1 - (1 - share) ** 2
    torch.testing.assert_close(contrast, first / (first + second), rtol=0, atol=0.03)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_relative_depth_is_that_of_the_middle_half(edge: str) -> None:
    depth = torch.full((1, 1, 64, 96), 4.0)
    rows, columns = {
        "top": (slice(0, 16), slice(None)),
        "bottom": (slice(48, 64), slice(None)),
        "left": (slice(None), slice(0, 24)),
        "right": (slice(None), slice(72, 96)),
    }[edge]
    depth[..., rows, columns] = 1
    assert maps.relative(depth).unique().tolist() == [0.25, 1]
    # One row or column further in it counts.
    depth = torch.full((1, 1, 64, 96), 4.0)
    depth[..., 16:18, 24:72] = 2
    assert maps.relative(depth).unique().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "aperture", "layer_in_focus"), [("near_focus", 8.0, 0), ("far_focus", 4.0, 7)]
)
def test_focus_mixes_in_every_layer(name: str, aperture: float, layer_in_focus: int) -> None:
    # A grating along the rows, each row at a depth of its own. A blur leaves a share of its contrast, and
    # a mix of two blurs the mix of their shares: within a layer contrast is linear in the weight.
    size = 480
    grating = 0.5 + 0.4 * torch.cos(torch.arange(size, dtype=torch.float64) * (2 * math.pi / 40))
    images = grating.expand(1, 3, size, size)
    # Inverse depth is even, so that the circles of confusion of all boundaries differ.
    depth = 1 / torch.linspace(1, 0.3, size, dtype=torch.float64).view(1, 1, -1, 1)
    depth = depth.expand(1, 1, size, size)
    seen = registry.get(name)(images, aperture=aperture, depth=depth)[0, 0]
    contrast = (seen[:, 80:400] @ (grating[80:400] - 0.5)) / (0.16 * 160)
    rows = depth[0, 0, :, 0]
    bounds = maps.quantiles(depth, [i / 8 for i in range(9)]).flatten()
    bounds[0], bounds[-1] = rows[0], rows[-1]
    ends: list[float] = []
    for layer, (near, far) in enumerate(itertools.pairwise(bounds.tolist())):
        inside = (rows >= near) & (rows <= far)
        share = (rows[inside] - near) / (far - near)
        first, second = 1 - share**2, 1 - (1 - share) ** 2
        weight = second / (first + second)
        slope, start = np.polyfit(weight, contrast[inside], 1)
        assert abs(slope) > 0.02, layer
        left = contrast[inside] - start - slope * weight
        assert float(left.abs().max()) < 1e-3 * abs(slope), layer
        ends += [start, start + slope]
    # Each layer ends as the next one begins, and what is in focus keeps all of the contrast.
    assert ends[1:-1:2] == pytest.approx(ends[2::2], abs=1e-4)
    assert ends[2 * layer_in_focus] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["near_focus", "far_focus"])
def test_focus_scales_with_the_image(name: str) -> None:
    images, depth = scenes()
    twice = [torch.nn.functional.interpolate(x, scale_factor=2.0) for x in (images, depth)]
    seen = registry.get(name)(twice[0], 4, depth=twice[1])
    seen = torch.nn.functional.avg_pool2d(seen, 2)
    assert psnr(seen, registry.get(name)(images, 4, depth=depth)) > 40


def test_focus_keeps_its_own_plane_sharp() -> None:
    images, inputs = sample(1, 96, 96)
    images = (images + 0.3 * torch.rand(images.shape, generator=torch.Generator())).clamp(0, 1)
    near, far = (
        (registry.get(name)(images, 5, **inputs) - images).abs().mean((0, 1))
        for name in ("near_focus", "far_focus")
    )
    assert near[40:56, 40:56].mean() < 0.1 * near[:8].mean()
    assert far[:4].mean() < 0.1 * far[40:56, 40:56].mean()


# --------------------------------------------------------------------------------------------------
# Motion: where a point goes, on images of the published size
# --------------------------------------------------------------------------------------------------


def traces(name: str, severity: int, count: int = 12) -> tuple[Tensor, Tensor]:
    """Return how far the middle of a bright spot's trace lies right and down of it, (N,) pixels."""
    images = torch.zeros(count, 3, 256, 256)
    images[:, :, 124:132, 188:196] = 1.0
    seeds = torch.arange(count) * 1_000_003 + 17
    depth = torch.full((count, 1, 256, 256), 3.0)
    seen = registry.get(name)(images, severity, seeds=seeds, depth=depth)[:, 0]
    place = torch.arange(256) + 0.5
    mass = seen.sum((1, 2))
    return (seen.sum(1) @ place) / mass - 192, (seen.sum(2) @ place) / mass - 128


@pytest.mark.parametrize(("severity", "frames"), [(1, 20), (3, 40), (5, 60)])
def test_xy_motion_goes_as_far_as_published(severity: int, frames: int) -> None:
    right, down = traces("xy_motion_blur", severity)
    # The middle of the trace is half-way; 256 pixels are half of 512.
    whole = (frames - 1) / 59 / 2 / 2
    assert float(right.abs().min()) > 48 * whole
    assert float(right.abs().max()) < 77 * whole
    assert float(down.abs().max()) < 77 * whole
    assert float(down.abs().max()) > 20 * whole
    assert (right > 0).any()
    assert (right < 0).any()


def test_z_motion_zooms_as_far_as_published() -> None:
    right, down = traces("z_motion_blur", 5)
    time = torch.linspace(0, 37 / 59, 1001)
    # The spot is 64 pixels right of the centre; places are over 1 − approach · t.
    ends = [float((64 / (1 - share * time) - 64).mean()) for share in (0.4, 0.5)]
    # A spot that grows weighs more at the end; sideways the camera moves up to 15 pixels.
    side = 15 * float(time.mean()) * 1.4
    assert float(right.min()) > ends[0] - side
    assert float(right.max()) < ends[1] * 1.35 + side
    assert float(right.mean()) > ends[0] * 0.9
    assert float(down.abs().max()) < side * 1.2


def test_far_points_move_less() -> None:
    images = torch.zeros(1, 3, 128, 128)
    images[..., 60:68, 30:34] = images[..., 60:68, 94:98] = 1.0
    depth = torch.full((1, 1, 128, 128), 1.0)
    depth[..., 64:] = 4.0
    seen = registry.get("xy_motion_blur")(images, 5, depth=depth, seeds=torch.tensor([4]))[0, 0]
    place = torch.arange(128) + 0.5
    near, far = seen[:, :64], seen[:, 64:]
    moved = [
        float((part.sum(0) @ (place[:64] + offset)) / part.sum()) - start
        for part, offset, start in ((near, 0, 32), (far, 64, 96))
    ]
    assert abs(moved[0]) > 5
    assert moved[1] / moved[0] == pytest.approx(0.25, abs=0.05)


# --------------------------------------------------------------------------------------------------
# Depth maps as they come
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEED_DEPTH)
def test_holes_in_depth_count_as_the_farthest(name: str) -> None:
    images, inputs = sample(2, 48, 56)
    holes, filled = inputs["depth"].clone(), inputs["depth"].clone()
    for row, hole in enumerate((0.0, -1.0, math.inf, math.nan, -math.inf)):
        holes[:, :, 5 * row + 3 : 5 * row + 6, 10:30] = hole
        filled[:, :, 5 * row + 3 : 5 * row + 6, 10:30] = (
            inputs["depth"].amax((1, 2, 3)).view(2, 1, 1, 1)
        )
    corruption = registry.get(name)
    seen = corruption(images, 3, depth=holes, seeds=inputs["seeds"])
    assert torch.equal(seen, corruption(images, 3, depth=filled, seeds=inputs["seeds"]))
    nothing = corruption(images, 3, depth=torch.full_like(holes, math.nan), seeds=inputs["seeds"])
    assert bool(nothing.isfinite().all())


@pytest.mark.parametrize("name", NEED_DEPTH)
def test_only_ratios_of_depth_matter(name: str) -> None:
    images, inputs = sample(2, 48, 56)
    corruption = registry.get(name)
    expected = corruption(images, 3, **inputs)
    for scale in (0.125, 1024.0):
        seen = corruption(images, 3, depth=inputs["depth"] * scale, seeds=inputs["seeds"])
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("name", NEED_DEPTH)
def test_one_wrong_pixel_does_not_decide(name: str) -> None:
    images, inputs = sample(1, 96, 96)
    wrong = inputs["depth"].clone()
    wrong[..., 49, 49], wrong[..., 50, 49] = 1e-3, 1e6
    corruption = registry.get(name)
    seen = corruption(images, 3, depth=wrong, seeds=inputs["seeds"])
    assert psnr(seen, corruption(images, 3, **inputs)) > 30


def test_depth_ends_at_sixty_four_times_the_nearest() -> None:
    images, inputs = sample(1, 48, 48)
    depth = inputs["depth"].clamp(min=2.0)
    depth[..., :10, :] = 65535.0  # a sky, as some files write it
    ended = depth.clamp(max=128.0)
    seen = registry.get("fog_3d")(images, 2, depth=depth)
    assert torch.equal(seen, registry.get("fog_3d")(images, 2, depth=ended))
    assert psnr(seen[..., 16:, :], images[..., 16:, :]) < 50


def test_quantiles_of_small_maps_are_exact() -> None:
    values = torch.rand(2, 1, 40, 60, generator=torch.Generator().manual_seed(1))
    shares = [0.0, 0.01, 0.125, 0.5, 1.0]
    exact = values.flatten(1).quantile(torch.tensor(shares), dim=1).T
    torch.testing.assert_close(maps.quantiles(values, shares)[:, :, 0, 0], exact)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 24, 32), (2, 3, 24, 32)])
def test_depth_of_another_size_is_named(shape: tuple[int, ...]) -> None:
    images, inputs = sample(2, 24, 32)
    with pytest.raises(ClipRobustError, match=r"depth has shape .* for images \(\d, 3, 24, 32\)"):
        registry.get("fog_3d")(images, 1, depth=torch.ones(shape), seeds=inputs["seeds"])


# --------------------------------------------------------------------------------------------------
# The contract, for every name of the family
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_no_strength_is_the_identity(name: str) -> None:
    images, inputs = sample(2, 40, 56)
    corruption = registry.get(name)
    assert torch.equal(corruption(images, **at_strength(corruption, 0.0), **inputs), images)
    little = corruption(images, **at_strength(corruption, 0.01), **inputs)
    much = corruption(images, **at_strength(corruption, 0.8), **inputs)
    assert not torch.equal(much, images)
    assert float((little - images).abs().mean()) < 0.25 * float((much - images).abs().mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_dtype(name: str, dtype: torch.dtype) -> None:
    images, inputs = sample(2, 32, 40)
    seen = registry.get(name)(images.to(dtype), 3, **inputs)
    assert seen.dtype == dtype
    assert seen.shape == images.shape
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    # Rounding may change single photons and levels, not the picture.
    exact = registry.get(name)(images.double(), 3, **inputs)
    assert float((seen.double() - exact).abs().mean()) < (0.02 if name == "color_quant" else 0.012)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None)
@given(height=st.integers(16, 96), width=st.integers(16, 96), severity=st.integers(1, 5))
def test_any_size(name: str, height: int, width: int, severity: int) -> None:
    images, inputs = sample(1, height, width)
    seen = registry.get(name)(images, severity, **inputs)
    assert seen.shape == images.shape
    assert bool(seen.isfinite().all())
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


@pytest.mark.parametrize("size", [(16, 512), (512, 384)])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_sizes(name: str, size: tuple[int, int]) -> None:
    images, inputs = sample(1, *size)
    seen = registry.get(name)(images, 5, **inputs)
    assert seen.shape == images.shape
    assert bool(seen.isfinite().all())
    assert not torch.equal(seen, images)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_depend_on_the_batch(name: str) -> None:
    images, inputs = sample(5, 51, 47)
    corruption = registry.get(name)
    whole = corruption(images, 4, **inputs)
    order = torch.tensor([3, 0, 4])
    part = corruption(images[order], 4, **{key: value[order] for key, value in inputs.items()})
    assert torch.equal(part, whole[order])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_images(name: str) -> None:
    images, inputs = sample(2, 32, 40)
    images = (images * 0.8 + 0.1).requires_grad_()
    seen = registry.get(name)(images, 2, **inputs)
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert bool(gradient.isfinite().all())
    # A turned or shifted picture does not show all of the old one.
    assert float((gradient != 0).float().mean()) > (0.4 if name.startswith("view_") else 0.8)


@pytest.mark.parametrize("name", mostly_slow(NAMES, {"near_focus", "view_yaw"}))
def test_on_a_device_memory_stays_below_twelve_batches(name: str) -> None:
    with FakeTensorMode():
        images = torch.empty(8, 3, 224, 224, device="cuda")
        depth = torch.empty(8, 1, 224, 224, device="cuda")
        seeds = torch.empty(8, dtype=torch.int64, device="cuda")
        focal = torch.empty(8, device="cuda")
        with Watch() as live, torch.no_grad():
            seen = registry.get(name)(images, 5, depth=depth, seeds=seeds, focal=focal)
        assert seen.device == images.device
        batch = images.untyped_storage().nbytes()
        assert batch <= live.peak < 12 * batch


@pytest.mark.parametrize("size", [(64, 128), (128, 96)])
@pytest.mark.parametrize("severity", [1, 5])
def test_paths_are_as_long_as_published_for_the_shorter_side(
    size: tuple[int, int], severity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(9, 3, *size)
    depth = torch.rand(9, 1, *size) + 1
    seeds = torch.arange(9) * 31 + 7
    draw = random.uniform(seeds, (3,))
    unit = min(size) / 512
    asked: list[tuple[Tensor, Movement, dict[str, float]]] = []

    def spied(images: Tensor, distance: Tensor, movement: Movement, **others: float) -> Tensor:
        asked.append((distance, movement, others))
        return images

    monkeypatch.setattr(motion, "mean_view", spied)
    for name, frames in (("xy_motion_blur", (20, 60)), ("z_motion_blur", (20, 38))):
        asked.clear()
        registry.get(name)(images, severity, depth=depth, seeds=seeds)
        distance, movement, others = asked[0]
        torch.testing.assert_close(distance, maps.relative(maps.usable(depth, images)))
        assert others["time"] == pytest.approx((frames[severity == 5] - 1) / 59)
        if name == "xy_motion_blur":
            side = torch.where(draw[:, 0] < 0.5, 1.0, -1.0)
            torch.testing.assert_close(movement.across, side * (50 + 25 * draw[:, 1]) * unit)
            torch.testing.assert_close(movement.down, (150 * draw[:, 2] - 75) * unit)
            assert others["reach"] == pytest.approx(75 * unit)
            assert set(side.tolist()) == {-1.0, 1.0}
        else:
            torch.testing.assert_close(movement.across, (60 * draw[:, 1] - 30) * unit)
            torch.testing.assert_close(movement.down, (60 * draw[:, 2] - 30) * unit)
            torch.testing.assert_close(movement.approach, 0.5 - 0.1 * draw[:, 0])
            assert others["reach"] >= 30 * unit + 0.1 * max(size)


@pytest.mark.parametrize("frames", [0.5, 1.0])
def test_a_path_of_one_frame_is_the_picture(frames: float) -> None:
    images, inputs = sample(2, 40, 48)
    for name in ("xy_motion_blur", "z_motion_blur"):
        assert registry.get(name)(images, frames=frames, **inputs) is images


def test_a_plain_picture_in_low_light_is_black_but_for_the_noise() -> None:
    images = torch.full((2, 3, 64, 64), 0.7)
    seen = registry.get("low_light")(images, 3, seeds=torch.tensor([4, 5]))
    # Half of the noise is cut off at black: its mean is the deviation over the root of 2 pi.
    assert float(seen.mean()) == pytest.approx(0.018 / math.sqrt(2 * math.pi), rel=0.05)
    assert float(seen.max()) < 6 * 0.018


def test_above_the_mildest_range_low_light_fades_into_the_picture() -> None:
    images, inputs = sample(2, 40, 48)
    corruption = registry.get("low_light")
    for strength in (0.6, 0.7, 0.9):
        seen = corruption(images, range=strength, seeds=inputs["seeds"])
        share = min((1 - strength) / 0.4, 1.0)
        low = images.amin((1, 2, 3), keepdim=True)
        dark = ((images - low) / (images.amax((1, 2, 3), keepdim=True) - low)).square() * strength
        photons = (random.poisson(inputs["seeds"], dark * 120) / 120).clamp(max=1)
        noise = random.normal(inputs["seeds"], images.shape[1:], stream=1)
        noisy = (photons + noise * 0.018).clamp(0, 1)
        torch.testing.assert_close(seen, images + (noisy - images) * share, rtol=0, atol=1e-5)
    assert corruption(images, range=1.0, seeds=inputs["seeds"]) is images


@pytest.mark.parametrize("size", [(47, 48), (95, 96), (96, 200), (145, 500)])
def test_quantiles_of_large_maps_are_those_of_an_even_grid(size: tuple[int, int]) -> None:
    values = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))
    down, across = (max(side // 48, 1) for side in size)
    picked = values[:, 0, down // 2 :: down, across // 2 :: across].flatten(1)
    shares = [0.0, 0.01, 0.3, 0.99, 1.0]
    exact = picked.quantile(torch.tensor(shares), dim=1).T
    for dtype in (torch.float32, torch.bfloat16):
        seen = maps.quantiles(values.to(dtype), shares)[:, :, 0, 0]
        tolerance = 1e-6 if dtype == torch.float32 else 0.01
        torch.testing.assert_close(seen.float(), exact, rtol=0, atol=tolerance)


def test_normalised_depth_runs_from_the_first_to_the_last_percent() -> None:
    depth = torch.linspace(2, 10, 40 * 48).view(1, 1, 40, 48)
    depth = torch.cat((depth, torch.full_like(depth, 3.0)))
    seen = maps.normalised(depth)
    near, far = 2 + 8 * 0.01, 2 + 8 * 0.99
    torch.testing.assert_close(seen[0], ((depth[0] - near) / (far - near)).clamp(0, 1))
    # A wall straight ahead has no range, and is all near.
    assert torch.equal(seen[1], torch.zeros_like(seen[1]))


def test_relative_depth_is_one_at_the_first_percent_of_the_middle_half() -> None:
    depth = torch.rand(3, 1, 41, 66, generator=torch.Generator().manual_seed(1)) + 1
    middle = depth[:, 0, 10:31, 16:50].flatten(1)
    expected = depth / middle.quantile(0.01, dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(maps.relative(depth), expected)


@pytest.mark.parametrize("focal", [None, 33.0, torch.tensor([20.0, 30.0])])
def test_the_focal_length_is_given_or_the_longer_side(focal: Tensor | float | None) -> None:
    expected = focal.tolist() if isinstance(focal, Tensor) else [52.0 if focal is None else focal]
    for size in ((40, 52), (52, 40)):
        seen = maps.focal_length(torch.zeros(2, 3, *size, dtype=torch.float64), focal)
        assert seen.dtype == torch.float64
        assert seen.tolist() == expected


def test_mended_depth_is_positive_and_ends_at_the_farthest() -> None:
    depth = torch.full((3, 1, 20, 30), 2.0)
    depth[0, 0, 0] = torch.tensor([0.0, -1.0, math.nan, math.inf, -math.inf]).repeat(6)
    depth[0, 0, 1, 0], depth[0, 0, 2:12] = 5.0, 4.0
    depth[1, 0, 0, 0] = 1000.0
    depth[2] = math.nan
    seen = maps.usable(depth, torch.zeros(3, 3, 20, 30))
    expected = depth.clone()
    expected[0, 0, 0] = 5.0
    expected[1, 0, 0, 0] = 128.0
    expected[2] = 1.0
    torch.testing.assert_close(seen, expected)
    # Nothing to mend: it is the map itself.
    fine = torch.rand(2, 1, 20, 30) + 0.5
    assert torch.equal(maps.usable(fine, torch.zeros(2, 3, 20, 30)), fine)


@pytest.mark.parametrize("gap", [1, 2, 4, 5, 6, 8, 16])
def test_a_level_of_the_ladder_is_a_pass_along_both_axes(gap: int) -> None:
    level = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1)).double()
    kernel = np.zeros(2 * gap + 1)
    kernel[[0, gap, -1]] = 1, 2, 1
    expected = level.numpy()
    for axis in (-1, -2):
        expected = ndimage.correlate1d(expected, kernel, axis, mode="nearest")
    np.testing.assert_allclose(focus._blurred(level, gap).numpy(), expected, atol=1e-12)


def test_the_ladder_ends_beyond_the_widest_blur_or_the_picture() -> None:
    assert focus._ladder(100, 0.0) == [0.0]
    assert focus._ladder(100, 0.5) == pytest.approx([0.0, 0.5])
    assert focus._ladder(100, 0.51) == pytest.approx([0.0, 0.5, 2.5])
    assert focus._ladder(100, 42.0) == pytest.approx([0.0, 0.5, 2.5, 10.5, 42.5])
    # A triangle of half-width 64 about 16 pixels is the last one.
    assert focus._ladder(16, 1e9)[-1] == pytest.approx((4.0**6 - 1) / 6)
    assert len(focus._ladder(15, 1e9)) == 6


def test_the_variance_of_a_cut_gaussian() -> None:
    circle = [0.0, 0.3, 0.66, 0.67, 1.0, 4.0, 7.3, 16.0, 16.1, 40.0]
    seen = focus._variance(torch.tensor([circle], dtype=torch.float64))[0].tolist()
    for width, variance in zip(circle, seen, strict=True):
        taps = np.arange(-int(1.5 * width), int(1.5 * width) + 1)
        weights = np.exp(-0.5 * (taps / max(width, 1e-3)) ** 2)
        exact = float((taps**2 * weights).sum() / weights.sum())
        # Wide ones are as wide as those that are cut at no whole pixel.
        assert variance == pytest.approx(exact, rel=1e-9 if width <= 16 else 0.05, abs=1e-12)
    assert seen[-1] == pytest.approx((40 * 0.7427) ** 2)
