"""Blur of the 2D corruptions, against the published code (imagecorruptions)."""

from __future__ import annotations

import functools
import itertools
import math

import imagecorruptions
import numpy as np
import pytest
import torch
from helpers import mostly_slow
from imagecorruptions.corruptions import disk
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import filters, random, registry
from pytest_cliprobust.perturbations.common import blur

NAMES = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur")
KERNELS = {1: (3, 0.1), 2: (4, 0.5), 3: (6, 0.5), 4: (8, 0.5), 5: (10, 0.5)}
SEEDS = registry.sample_seeds(("a", "b", "c", "d"), "blur", 0)


@functools.cache
def scenes() -> Tensor:
    """Four embedded pictures, (4, 3, 224, 224) uint8."""
    return load_dataset("clean", profile="quick", limit=4).load(range(4)).images


def ours(name: str, severity: int, seeds: Tensor = SEEDS) -> np.ndarray:
    """Our result, (4, H, W, 3), 0 to 255."""
    result = registry.get(name)(scenes().float() / 255, severity, seeds=seeds)
    return result.permute(0, 2, 3, 1).double().numpy() * 255


def reference(name: str, severity: int, count: int = 4, **arguments: int) -> np.ndarray:
    """The published result, half a level up: it is truncated to 8 bits, not rounded."""
    pictures = scenes()[:count].permute(0, 2, 3, 1).numpy()
    results = [
        imagecorruptions.corrupt(p, corruption_name=name, severity=severity, **arguments)
        for p in pictures
    ]
    return np.stack(results).astype(float) + 0.5


def signal_to_noise(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR in dB, the mean over pictures."""
    errors = ((first - second) ** 2).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / errors)).mean())


@pytest.mark.parametrize(
    ("name", "bound"),
    # Truncation alone gives 58.9 dB. Taps of motion blur may differ by one pixel where they are halves.
    [
        ("defocus_blur", 54),
        ("motion_blur", 55),
        pytest.param("zoom_blur", 57, marks=pytest.mark.slow),
        ("gaussian_blur", 56),
    ],
)
def test_pictures_are_the_references(
    name: str, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "motion_blur":
        angles = iter(random.uniform(SEEDS, (1,), -45.0, 45.0)[:, 0].tolist() * 5)
        monkeypatch.setattr(np.random, "uniform", lambda low, high: next(angles))
    mine = [ours(name, severity) for severity in range(1, 6)]
    for severity in range(1, 6):
        published = reference(name, severity)
        if name == "defocus_blur":
            # Its kernel sums to 1.013 and 1.011 at severities 4 and 5, so it brightens the picture.
            published /= disk(
                **dict(zip(("radius", "alias_blur"), KERNELS[severity], strict=True))
            ).sum()
        ratios = [signal_to_noise(m, published) for m in mine]
        assert ratios[severity - 1] > bound, (severity, ratios)
        others = [r for level, r in enumerate(ratios, 1) if level != severity]
        assert max(others) < 43, "a neighbouring severity must not pass"
        for own, theirs in zip(mine[severity - 1], published, strict=True):
            similarity = structural_similarity(own, theirs, channel_axis=-1, data_range=255)
            assert similarity > 0.998


@pytest.mark.slow
def test_glass_blur_has_the_references_mean_and_spread() -> None:
    # Over five draws: the mean picture shows the kernel, the spread how much the copying scatters.
    def moments(draws: list[np.ndarray]) -> tuple[np.ndarray, float]:
        return np.mean(draws, axis=0), float(np.std(draws, axis=0).mean())

    levels = range(1, 6)
    mine = [
        moments([np.floor(ours("glass_blur", level, SEEDS + draw)[:2]) + 0.5 for draw in range(5)])
        for level in levels
    ]
    for severity in levels:
        # Half a level more for the truncation between the steps.
        theirs = moments(
            [reference("glass_blur", severity, 2, seed=draw) + 0.5 for draw in range(5)]
        )
        ratios = [signal_to_noise(mean, theirs[0]) for mean, _ in mine]
        assert ratios.index(max(ratios)) == severity - 1
        assert ratios[severity - 1] > 40, (severity, ratios)
        # Measured: 2.6 to 7 dB above the nearest neighbour.
        assert sorted(ratios)[-2] < ratios[severity - 1] - 2
        assert abs(mine[severity - 1][1] / theirs[1] - 1) < 0.015


@pytest.mark.parametrize(
    ("height", "width", "reach", "rounds"),
    [
        (40, 50, 1.0, 2),
        (40, 50, 2.0, 1),
        (64, 40, 2.0, 3),
        (50, 64, 3.0, 2),
        (60, 70, 4.0, 2),
        (33, 47, 2.4, 2),
        (30, 30, 0.4, 2),
        (7, 9, 4.0, 1),
        (5, 30, 3.0, 2),
    ],
)
def test_glass_blur_copies_as_the_references_loop_does(
    height: int, width: int, reach: float, rounds: int
) -> None:
    sources = blur.glass_sources(SEEDS[:2], height, width, reach, rounds)
    margin = math.ceil(reach)
    for sample in range(2):
        expected = np.arange(height * width).reshape(height, width)
        for turn in range(rounds):
            down, right = (
                o[sample].view(height, width).numpy()
                for o in blur.glass_offsets(SEEDS[:2], height, width, reach, turn)
            )
            for row in range(height - margin, margin, -1):
                for column in range(width - margin, margin, -1):
                    expected[row, column] = expected[
                        row + down[row, column], column + right[row, column]
                    ]
        assert np.array_equal(expected.ravel(), sources[sample].numpy())


@pytest.mark.parametrize("reach", [1.0, 2.0, 4.0, 2.5, 0.3])
def test_offsets_of_glass_blur_are_uniform(reach: float) -> None:
    down, right = blur.glass_offsets(SEEDS, 100, 100, reach, 0)
    values = torch.arange(-5, 5)
    if reach < 1:
        expected = torch.where(
            values == -1, reach / 2, torch.where(values == 0, 1 - reach / 2, 0.0)
        )
    else:
        inside = torch.minimum(values + 1.0, torch.tensor(reach))
        expected = (inside - values.clamp(min=-reach)).clamp(min=0) / (2 * reach)
    for offset in (down, right):
        seen = (offset.flatten()[:, None] == values).float().mean(0)
        assert (seen - expected).abs().max() < 4 * 0.5 / math.sqrt(offset.numel())
    both = torch.stack((down, right)).flatten(1).double()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 4 / math.sqrt(down.numel())


def test_a_reach_of_next_to_nothing_moves_nothing() -> None:
    for offsets in blur.glass_offsets(SEEDS, 16, 16, 1e-12, 0):
        assert not offsets.any()
    sources = blur.glass_sources(SEEDS, 16, 16, 1e-12, 2)
    assert torch.equal(sources, torch.arange(256).expand_as(sources))


@pytest.mark.parametrize("name", mostly_slow(NAMES, set(NAMES) - {"glass_blur", "zoom_blur"}))
def test_distortion_grows_with_severity(name: str) -> None:
    pictures = scenes().double().permute(0, 2, 3, 1).numpy()
    errors = [float(((ours(name, level) - pictures) ** 2).mean()) for level in range(1, 6)]
    if name == "glass_blur":
        # As published: one round at severity 2, three at 3, two at 4. The errors are the reference's.
        assert errors[1] < errors[0] < errors[3] < errors[2] < errors[4]
        for level, error in enumerate(errors, 1):
            published = ((reference(name, level, seed=level) - pictures) ** 2).mean()
            assert abs(error / published - 1) < 0.04, level
    else:
        assert all(low < high for low, high in itertools.pairwise(errors))


@pytest.mark.parametrize("name", NAMES)
def test_grey_stays_grey_and_flat_stays_flat(name: str) -> None:
    picture = scenes()[:2, :1].float().expand(-1, 3, -1, -1) / 255
    result = registry.get(name)(picture, 4, seeds=SEEDS[:2])
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])
    flat = torch.full((1, 3, 60, 81), 0.7)
    torch.testing.assert_close(registry.get(name)(flat, 5, seeds=SEEDS[:1]), flat)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur"])
def test_lengths_scale_with_the_picture(name: str) -> None:
    small = scenes()[:2].float() / 255
    large = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    blurred = registry.get(name)(large, 3, seeds=SEEDS[:2])
    halved = torch.nn.functional.avg_pool2d(blurred, 2)
    expected = registry.get(name)(torch.nn.functional.avg_pool2d(large, 2), 3, seeds=SEEDS[:2])
    error = float((halved - expected).square().mean())
    change = float((expected - small).square().mean())
    assert error < 0.01 * change


@pytest.mark.parametrize(("height", "width"), [(224, 224), (61, 83), (7, 2), (1, 1)])
@pytest.mark.parametrize("severity", [1, 5])
def test_zooms_row_by_row_are_torchs_enlargements(height: int, width: int, severity: int) -> None:
    """Float64 goes by torch's resampling; a float32 place is a hundred-thousandth of a pixel off at most."""
    pictures = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    zoom = registry.get("zoom_blur")
    whole = zoom(pictures, severity)
    torch.testing.assert_close(whole, zoom(pictures.double(), severity).float(), atol=3e-5, rtol=0)
    assert torch.equal(whole[1:], zoom(pictures[1:], severity))
    learning = pictures.clone().requires_grad_()
    zoom(learning, severity).sum().backward()
    assert learning.grad is not None
    assert bool(torch.isfinite(learning.grad).all())


def test_published_parameters() -> None:
    def steps(name: str) -> list[tuple[float, ...]]:
        return [tuple(step.values()) for step in registry.get(name).severities]

    assert steps("defocus_blur") == list(KERNELS.values())
    assert steps("glass_blur") == [
        (0.7, 1, 2),
        (0.9, 2, 1),
        (1, 2, 3),
        (1.1, 3, 2),
        (1.5, 4, 2),
    ]
    assert steps("motion_blur") == [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)]
    factors = ((0.01, 1.11), (0.01, 1.16), (0.02, 1.21), (0.02, 1.26), (0.03, 1.31))
    # Its ranges leave their end out.
    lists = [np.arange(1, end, step) for step, end in factors]
    found = [(factors[-1], len(factors)) for factors in lists]
    for (zoom, layers), (largest, count) in zip(steps("zoom_blur"), found, strict=True):
        assert zoom == pytest.approx(largest)
        assert layers == count


def by_scipy(images: Tensor, kernel: np.ndarray) -> Tensor:
    """Convolve every channel, the edge reflected as OpenCV does."""
    return torch.from_numpy(ndimage.convolve(images.numpy(), kernel[None, None], mode="mirror"))


@pytest.mark.parametrize(
    ("side", "radius", "softness"),
    [(16, 3.0, 0.1), (32, 3.0, 0.5), (56, 2.0, 2.0), (112, 1.9, 0.0), (112, 2.0, 0.0), (224, 0.3, 0.0)],
)  # fmt: skip
def test_a_disk_below_one_pixel_is_mixed_with_the_picture(
    side: int, radius: float, softness: float
) -> None:
    generator = torch.Generator().manual_seed(side)
    images = torch.rand(2, 3, side, side + 9, generator=generator, dtype=torch.float64)
    seen = registry.get("defocus_blur")(images, radius=radius, softness=softness)
    scale = side / 224
    assert radius * scale <= 1
    kernel = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5.0
    expected = by_scipy(images, kernel)
    if softness * scale > 0.2:
        rim = np.array([math.exp(-0.5 * (i / (softness * scale)) ** 2) for i in (-1, 0, 1)])
        expected = by_scipy(expected, np.outer(rim, rim) / rim.sum() ** 2)
    share = radius * scale
    assert_close = torch.testing.assert_close
    assert_close(seen, images + (expected - images) * share, rtol=0, atol=1e-7)
    # On the way to nothing the picture itself is left.
    faint = registry.get("defocus_blur")(images, radius=1e-4, softness=softness)
    assert_close(faint, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [56, 112, pytest.param(336, marks=pytest.mark.slow)])
def test_both_gaussians_of_glass_blur_scale_with_the_picture(side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    images = torch.rand(2, 3, side, side, generator=generator, dtype=torch.float64)
    sigma = 1.5 * side / 224
    for reach, rounds in ((0.0, 2), (4.0, 0), (4.0, 2)):
        seen = registry.get("glass_blur")(
            images, sigma=1.5, reach=reach, rounds=rounds, seeds=SEEDS[:2]
        )
        expected = filters.gaussian_filter(images, sigma)
        if reach and rounds:
            sources = blur.glass_sources(SEEDS[:2], side, side, reach * side / 224, rounds)
            expected = expected.flatten(2).gather(2, sources[:, None].expand(-1, 3, -1))
            expected = expected.view_as(images)
        expected = filters.gaussian_filter(expected, sigma)
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-12)


def test_motion_blur_follows_its_angle() -> None:
    seeds = torch.arange(64)
    spots = torch.zeros(64, 3, 101, 101)
    spots[..., 50, 50] = 1
    result = registry.get("motion_blur")(spots, radius=15, sigma=12, seeds=seeds)[:, 0]
    place = torch.arange(101.0) - 50
    # The line goes from the pixel towards the angle, so light spreads the other way.
    down = -(result.sum(2) * place).sum(1)
    right = -(result.sum(1) * place).sum(1)
    angles = random.uniform(seeds, (1,), -45.0, 45.0)[:, 0]
    assert (torch.rad2deg(torch.atan2(down, right)) - angles).abs().max() < 3
    assert angles.min() < -38
    assert angles.max() > 38


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (224, 150)])
@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5, 6.0, 30.0])
@pytest.mark.parametrize("border", ["replicate", "reflect", "symmetric"])
def test_gaussian_filter_is_scipys(
    size: tuple[int, int], sigma: float, border: filters.Border
) -> None:
    from scipy.ndimage import gaussian_filter

    generator = torch.Generator().manual_seed(1)
    images = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64)
    mode = {"replicate": "nearest", "reflect": "mirror", "symmetric": "reflect"}[border]
    expected = gaussian_filter(images.numpy(), sigma, mode=mode, truncate=4.0, axes=(-2, -1))
    result = filters.gaussian_filter(images, sigma, border=border)
    assert np.abs(result.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_device_path_agrees_with_the_host_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = scenes()[:2].float() / 255
    host = registry.get(name)(pictures, 3, seeds=SEEDS[:2])
    for module in (filters, blur, random):
        monkeypatch.setattr(module, "on_host", lambda images: False)
    torch.testing.assert_close(
        registry.get(name)(pictures, 3, seeds=SEEDS[:2]), host, rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_blur(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 20, 26, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    perturbation = registry.get(name)
    images.requires_grad_()
    weight = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    (perturbation(images, 5, seeds=SEEDS[:2]) * weight).sum().backward()
    assert images.grad is not None
    # Blurs are linear in the image: the gradient predicts a finite change exactly.
    change = 0.05 * torch.rand(images.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        moved = perturbation(images + change, 5, seeds=SEEDS[:2])
        difference = ((moved - perturbation(images, 5, seeds=SEEDS[:2])) * weight).sum()
    torch.testing.assert_close((images.grad * change).sum(), difference, rtol=1e-6, atol=1e-9)
