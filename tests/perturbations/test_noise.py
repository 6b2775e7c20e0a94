"""Noise of the 2D corruptions, against the published code (imagecorruptions)."""

from __future__ import annotations

import functools
import itertools
import math

import imagecorruptions
import numpy as np
import pytest
import torch
from helpers import mostly_slow
from torch import Tensor

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import registry
from pytest_cliprobust.perturbations.registry import sample_seeds

NAMES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
SEEDS = sample_seeds(("a", "b", "c", "d"), "noise", 0)


@functools.cache
def scenes() -> Tensor:
    """Four embedded pictures, (4, 3, 224, 224) uint8."""
    return load_dataset("clean", profile="quick", limit=4).load(range(4)).images


def ours(name: str, severity: int) -> np.ndarray:
    """Our result, (4, H, W, 3), cut to 8 bits as the reference's is."""
    result = registry.get(name)(scenes().float() / 255, severity, seeds=SEEDS)
    # A little is added so that counts that are whole levels but for rounding stay whole.
    return (result.permute(0, 2, 3, 1).numpy() * 255 + 1e-3).astype(np.uint8)


def reference(name: str, severity: int) -> np.ndarray:
    np.random.seed(severity)
    pictures = scenes().permute(0, 2, 3, 1).numpy()
    results = []
    for number, picture in enumerate(pictures):
        seed = {"seed": 10 * severity + number} if name == "impulse_noise" else {}
        results.append(
            imagecorruptions.corrupt(picture, corruption_name=name, severity=severity, **seed)
        )
    return np.stack(results)


def histogram(results: np.ndarray) -> np.ndarray:
    """Joint distribution of the intensity (8 bins) and of the change (steps of 4 levels)."""
    pictures = scenes().permute(0, 2, 3, 1).numpy()
    change = results.astype(int) - pictures
    bins = [np.arange(9) - 0.5, np.arange(-258, 262, 4) - 0.5]
    counts = np.histogram2d(pictures.ravel() // 32, change.ravel(), bins=bins)[0]
    shares: np.ndarray = counts / counts.sum()
    return shares


@pytest.mark.parametrize("name", mostly_slow(NAMES, {"gaussian_noise", "impulse_noise"}))
def test_distribution_is_the_references(name: str) -> None:
    # Measured: 0.002 to 0.016 for the same severity (two runs of the reference: the same), and from
    # 0.030 (impulse noise) or 0.118 (the others) up for its neighbour.
    bound = 0.006 if name == "impulse_noise" else 0.02
    mine = [histogram(ours(name, severity)) for severity in range(1, 6)]
    for severity in range(1, 6):
        published = histogram(reference(name, severity))
        distances = [0.5 * float(np.abs(h - published).sum()) for h in mine]
        assert distances[severity - 1] < bound, (severity, distances)
        others = [d for level, d in enumerate(distances, 1) if level != severity]
        assert min(others) > 4 * bound, "a neighbouring severity must not pass"


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_white_and_differs_between_the_channels(name: str) -> None:
    grey = torch.full((4, 3, 128, 128), 0.5)
    noise = registry.get(name)(grey, 2, seeds=SEEDS) - grey
    noise = noise / noise.std()
    count = noise.numel() // 3
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((noise[:, first] * noise[:, second]).mean())) < 4 / math.sqrt(count)
    power = torch.fft.fft2(noise - noise.mean()).abs().square().mean((0, 1)) / 128**2
    y, x = torch.meshgrid(torch.fft.fftfreq(128), torch.fft.fftfreq(128), indexing="ij")
    radius = (y.square() + x.square()).sqrt()
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.71)):
        band = power[(radius >= low) & (radius < high)]
        # Half of the band's coefficients are independent, 12 pictures each.
        assert abs(float(band.mean()) - 1) < 4 / math.sqrt(6 * len(band)), (low, high)


@pytest.mark.parametrize("name", NAMES)
def test_distortion_grows_with_severity(name: str) -> None:
    pictures = scenes().float() / 255
    errors = [
        float((registry.get(name)(pictures, level, seeds=SEEDS) - pictures).square().mean())
        for level in range(1, 6)
    ]
    assert all(low < high for low, high in itertools.pairwise(errors))


def test_shot_noise_counts_photons() -> None:
    grey = torch.full((1, 3, 400, 400), 0.3)
    result = registry.get("shot_noise")(grey, deviation=0.2, seeds=SEEDS[:1])
    counts = result * 25
    assert (counts - counts.round()).abs().max() < 1e-4
    assert abs(float(counts.mean()) - 7.5) < 5 * math.sqrt(7.5 / counts.numel())
    assert abs(float(counts.var()) / 7.5 - 1) < 0.02


def test_impulse_noise_leaves_the_other_values_alone() -> None:
    pictures = scenes().float() / 255 * 0.98 + 0.01
    result = registry.get("impulse_noise")(pictures, amount=0.2, seeds=SEEDS)
    changed = result != pictures
    assert set(result[changed].tolist()) == {0.0, 1.0}
    assert abs(float(changed.float().mean()) - 0.2) < 0.002
    assert abs(float(result[changed].mean()) - 0.5) < 0.005


@pytest.mark.parametrize("name", ["gaussian_noise", "speckle_noise"])
def test_same_noise_at_every_severity(name: str) -> None:
    images = torch.full((1, 3, 40, 40), 0.5)
    perturbation = registry.get(name)
    low, high = (perturbation(images, level, seeds=SEEDS[:1]) - 0.5 for level in (1, 2))
    ratio = perturbation.parameters(2)["deviation"] / perturbation.parameters(1)["deviation"]
    inside = high.abs() < 0.49
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(high[inside], low[inside] * ratio, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gaussian_noise", lambda x, y: ((y > 0) & (y < 1)).float()),
        ("speckle_noise", lambda x, y: torch.where((y > 0) & (y < 1), y / x, 0.0)),
        ("impulse_noise", lambda x, y: (x == y).float()),
        ("shot_noise", lambda x, y: (y < 1).float()),
    ],
)
def test_gradient_of_noise(name: str, expected: object) -> None:
    generator = torch.Generator().manual_seed(0)
    images = (0.1 + 0.8 * torch.rand(2, 3, 24, 24, generator=generator)).requires_grad_()
    result = registry.get(name)(images, 3, seeds=SEEDS[:2])
    result.sum().backward()
    assert images.grad is not None
    assert callable(expected)
    wanted = expected(images.detach(), result.detach())
    inside = (result > 1e-6) & (result < 1 - 1e-6)
    torch.testing.assert_close(images.grad[inside], wanted[inside], rtol=1e-3, atol=1e-3)
    assert inside.float().mean() > 0.5
