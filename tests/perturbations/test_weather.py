"""Weather corruptions against ``imagecorruptions``: the right severity and no other."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from imagecorruptions import corrupt
from scipy import ndimage
from torch import Tensor

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import random, registry
from pytest_cliprobust.perturbations.common import fields, weather

GREY = 100 / 255
COUNT = 32


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    dataset = load_dataset("clean", profile="quick")
    return dataset.load(range(0, len(dataset.ids), 67)).images


def reference(name: str, severity: int, value: int = 100) -> Tensor:
    """Return what the reference makes of plain grey, (COUNT, 3, 224, 224) in [0, 1]."""
    np.random.seed(severity)  # the reference draws from the global generator
    plain = np.full((224, 224, 3), value, np.uint8)
    drawn = [corrupt(plain, corruption_name=name, severity=severity) for _ in range(COUNT)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2) / 255


def ours(name: str, severity: int, value: int = 100) -> Tensor:
    """Return what ours makes of it."""
    plain = torch.full((COUNT, 3, 224, 224), value / 255)
    return registry.get(name)(plain, severity, seeds=torch.arange(COUNT) * 104729 + 11)


def statistics(images: Tensor) -> dict[str, float]:
    """Return moments, quantiles, coverage and correlations at two pixels' distance."""
    grey = images.double().mean(1)
    centred = grey - grey.mean((1, 2), keepdim=True)
    power = centred.square().mean()
    quantiles = torch.quantile(grey.flatten()[::7], torch.tensor([0.5, 0.9, 0.99]).double())
    roughness = {
        f"rough{k}": float((grey[:, :, k:] - grey[:, :, :-k]).square().mean().sqrt())
        for k in (4, 16)
    }
    return {
        "mean": float(grey.mean()),
        "deviation": float(power.sqrt()),
        "median": float(quantiles[0]),
        "p90": float(quantiles[1]),
        "p99": float(quantiles[2]),
        "coverage": float(((grey - GREY).abs() > 2 / 255).double().mean()),
        "across": float((centred[:, :, 2:] * centred[:, :, :-2]).mean() / power),
        "down": float((centred[:, 2:] * centred[:, :-2]).mean() / power),
        **roughness,
    }


def spectrum(images: Tensor) -> Tensor:
    """Return the shares of the power in six bands from coarse to fine."""
    grey = images.double().mean(1)
    window = torch.hann_window(grey.shape[-1], periodic=False, dtype=torch.float64)
    centred = (grey - grey.mean((1, 2), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(centred).abs().square()
    power = power / power.sum((1, 2), keepdim=True)
    axis = torch.fft.fftfreq(grey.shape[-1], dtype=torch.float64)
    frequency = torch.hypot(axis[:, None], axis)
    bands = ((0.0, 0.03), (0.03, 0.06), (0.06, 0.12), (0.12, 0.25), (0.25, 0.8))
    return torch.stack(
        [power[:, (frequency >= a) & (frequency < b)].sum(1).mean() for a, b in bands]
    )


def disagreements(
    a: Mapping[str, float], b: Mapping[str, float], absolute: Mapping[str, float], relative: Any
) -> list[str]:
    return [key for key, bound in absolute.items() if abs(a[key] - b[key]) > bound] + [
        key for key, bound in relative.items() if abs(a[key] / b[key] - 1) > bound
    ]


#: For each corruption how far statistics may lie apart, absolutely and relatively: some three times
#: what was measured with 48 draws.
BOUNDS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "snow": (
        {"mean": 0.012, "median": 0.012, "p90": 0.02, "p99": 0.04, "across": 0.07, "down": 0.07},
        {"deviation": 0.06},
    ),
    "fog": (
        {"mean": 0.035, "p99": 0.03},
        {"deviation": 0.16, "rough4": 0.08, "rough16": 0.12},
    ),
    "spatter": (
        {"mean": 0.006, "median": 0.001, "p99": 0.05, "across": 0.06, "down": 0.06},
        {"deviation": 0.12, "coverage": 0.12},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_statistics_match_those_of_the_reference_at_no_other_severity(name: str) -> None:
    expected = [statistics(reference(name, severity)) for severity in range(1, 6)]
    found = [statistics(ours(name, severity)) for severity in range(1, 6)]
    for i, statistic in enumerate(expected):
        assert disagreements(found[i], statistic, *BOUNDS[name]) == [], i + 1
        for j in {max(i - 1, 0), min(i + 1, 4)} - {i}:
            if (name, i + j) == ("fog", 1):
                continue  # the first two differ in their amount alone, which another test measures
            assert disagreements(found[j], statistic, *BOUNDS[name]), (i + 1, j + 1)


@pytest.mark.parametrize("severity", range(1, 6))
def test_brightness_matches_the_reference_and_no_other_severity_does(
    severity: int, scenes: Tensor
) -> None:
    picture = scenes[5:6]
    expected = corrupt(
        picture[0].permute(1, 2, 0).numpy(), corruption_name="brightness", severity=severity
    )
    for other in range(1, 6):
        result = registry.get("brightness")(picture / 255, other)[0].permute(1, 2, 0)
        error = (result - torch.from_numpy(expected) / 255).double().square().mean()
        agreement = -10 * float(torch.log10(error))
        assert agreement > 51 if other == severity else agreement < 35


def test_brightness_of_black_is_grey_and_hue_stays() -> None:
    images = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.4, 0.1]]).view(2, 3, 1, 1)
    lifted = weather.brightness(images, lift=0.4)[..., 0, 0]
    torch.testing.assert_close(lifted, torch.tensor([[0.4, 0.4, 0.4], [0.4, 0.8, 0.2]]))


def test_snow_falls_within_45_degrees_of_the_vertical_and_in_both_halves() -> None:
    flakes = ours("snow", 3, 0)
    flakes = flakes - flakes.amin((1, 2, 3), keepdim=True)
    # On black, what falls is the same upside down.
    torch.testing.assert_close(flakes, flakes.flip((2, 3)), rtol=0, atol=1e-5)
    statistic = statistics(ours("snow", 3))
    assert statistic["down"] > statistic["across"] + 0.15


@pytest.mark.parametrize("severity", range(1, 6))
def test_fog_dims_what_is_behind_it_as_the_reference_does(severity: int) -> None:
    """The veil cancels from two pictures that share it: what is left is m / (m + amount)."""
    pair = []
    for value in (60, 120):
        picture = np.full((64, 64, 3), value, np.uint8)
        picture[5, 5] = 200
        pair.append(picture)
    theirs = []
    for picture in pair:
        np.random.seed(severity)
        theirs.append(corrupt(picture, corruption_name="fog", severity=severity).mean())
    images = torch.from_numpy(np.stack(pair)).permute(0, 3, 1, 2) / 255
    for other in range(1, 6):
        results = registry.get("fog")(images, other, seeds=torch.tensor([7, 7]))
        dimming = float(results[1].mean() - results[0].mean()) * 255
        close = dimming == pytest.approx(theirs[1] - theirs[0], rel=0.04)
        amounts = [registry.get("fog").parameters(s)["amount"] for s in (severity, other)]
        assert close == (amounts[0] == amounts[1])


def test_fog_is_a_full_range_veil_that_keeps_the_brightest_value() -> None:
    size, amount = 64, 2.0
    images = torch.full((6, 3, size, size), 0.25)
    images[:, :, 0, 0] = 0.8
    seeds = torch.arange(6)
    result = weather.fog(images, amount=amount, decay=1.7, seeds=seeds)
    veil = (result * (0.8 + amount) / 0.8 - images) / amount
    assert float((veil.amax((1, 2, 3)) - 1).abs().max()) < 1e-4
    assert float(veil.amin((1, 2, 3)).abs().max()) < 1e-4
    torch.testing.assert_close(veil[:, 0], veil[:, 2], rtol=0, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# Frost
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", range(1, 6))
def test_frost_blends_with_the_published_weights(severity: int) -> None:
    keep, weight = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    seeds = torch.arange(8)
    frost = registry.get("frost")
    black = frost(torch.zeros(8, 3, 96, 96), severity, seeds=seeds)
    grey = frost(torch.full((8, 3, 96, 96), 0.2), severity, seeds=seeds)
    inside = grey < 1
    torch.testing.assert_close((grey - black)[inside], torch.full_like(grey, 0.2 * keep)[inside])
    pane = weather.frost(torch.zeros(8, 3, 96, 96), keep=1.0, frost=1.0, seeds=seeds)
    torch.testing.assert_close(black, pane * weight, rtol=1e-4, atol=1e-5)


def photographs() -> Tensor:
    """Return crops of the reference's six photographs of frost, enlarged as there: (48, 3, 224, 224)."""
    import cv2

    crops = []
    folder = importlib.resources.files("imagecorruptions") / "frost"
    for i in range(1, 7):
        path = folder / f"frost{i}.{'png' if i < 4 else 'jpg'}"
        photograph = np.asarray(cv2.imread(str(path)))[..., ::-1]
        photograph = cv2.resize(photograph, None, fx=1.1, fy=1.1, interpolation=cv2.INTER_CUBIC)
        rows, columns = (side - 224 for side in photograph.shape[:2])
        crops += [
            photograph[rows * j // 3 :, columns * k :][:224, :224]
            for j in range(4)
            for k in range(2)
        ]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255


@pytest.mark.slow
def test_frost_looks_like_the_reference_s_photographs() -> None:
    count = 96
    pane = weather.frost(
        torch.zeros(count, 3, 224, 224), keep=1.0, frost=1.0, seeds=torch.arange(count) * 31 + 5
    )
    real = photographs()
    means = [images.mean((0, 2, 3)).tolist() for images in (pane, real)]
    assert means[0] == pytest.approx(means[1], abs=0.05)
    contrast = [float(images.mean(1).std((1, 2)).mean()) for images in (pane, real)]
    assert contrast[0] == pytest.approx(contrast[1], rel=0.2)
    between = [float(images.mean((1, 2, 3)).std()) for images in (pane, real)]
    assert between[0] == pytest.approx(between[1], rel=0.35)
    bands = [spectrum(images).tolist() for images in (pane, real)]
    assert bands[0] == pytest.approx(bands[1], abs=0.2)


def test_large_crystals_at_half_the_resolution_are_those_at_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unbent(seeds: Tensor, size: tuple[int, int], *_: Any, **__: Any) -> Tensor:
        return torch.zeros(len(seeds), 1, *size)

    monkeypatch.setattr(weather, "smooth_noise", unbent)
    seeds = torch.arange(3)
    half = weather._crystals(seeds, 224, 224, 1.0)[0]
    (spacing, _, fine), small = weather._SIZES
    monkeypatch.setattr(weather, "_SIZES", ((spacing, 1, fine), small))
    full = weather._crystals(seeds, 224, 224, 1.0)[0]
    means = torch.nn.functional.avg_pool2d(full, 2)
    assert float((means - half).abs().mean()) < 0.02


# --------------------------------------------------------------------------------------------------
# Spatter
# --------------------------------------------------------------------------------------------------


def test_published_parameters_of_spatter() -> None:
    published = [
        # mean, deviation, sigma, threshold, and strength of water or rim of mud
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ]
    names = ("mean", "deviation", "sigma", "threshold")
    for step, values in zip(registry.get("spatter").severities, published, strict=True):
        mud = values[-1]
        last = {"rim": values[4], "mud": mud} if mud else {"strength": values[4]}
        assert dict(step) == dict(zip(names, values[:4], strict=True)) | last


def blobs() -> Tensor:
    """Return levels (4, 1, 96, 96) as spatter has them: 0, and 173 and more within drops."""
    noise = fields.smooth_noise(torch.arange(4), (96, 96), 2.5)
    return ((noise > 0.8) * (173 + 8 * (noise - 0.8))).floor()


def test_edges_are_those_of_opencv_s_canny() -> None:
    import cv2

    levels = blobs()
    for picture, edges in zip(levels, weather._edges(levels), strict=True):
        expected = cv2.Canny(picture[0].numpy().astype(np.uint8), 150, 150) > 0
        assert (edges[0].numpy() == expected).mean() > 0.999


def test_distances_are_euclidean_up_to_the_limit() -> None:
    edges = weather._edges(blobs())
    for mask, distance in zip(edges, weather._distance(edges, 20), strict=True):
        expected = ndimage.distance_transform_edt(~mask[0].numpy())
        np.testing.assert_allclose(distance[0].numpy(), np.minimum(expected, 20), atol=1e-4)


def test_histogram_is_equalised_as_opencv_does() -> None:
    import cv2

    levels = weather._distance(weather._edges(blobs()), 20).floor()
    for picture, equal in zip(levels, weather._equalised(levels, 21), strict=True):
        expected = cv2.equalizeHist(picture[0].numpy().astype(np.uint8))
        assert np.abs(equal[0].numpy() - expected).max() <= 1


def test_a_pane_without_drops_stays_as_it_is() -> None:
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    for mud in (0, 1):
        result = weather.spatter(images, mean=0.0, mud=mud, seeds=torch.arange(2))
        assert torch.equal(result, images)


def test_water_is_turquoise_and_mud_is_brown() -> None:
    plain = torch.zeros(2, 3, 64, 64)
    water = registry.get("spatter")(plain, 3, seeds=torch.arange(2))
    wet = water[:, 1] > 0.05
    torch.testing.assert_close(
        water[:, 0][wet] / water[:, 1][wet],
        torch.tensor(175 / 238).expand(int(wet.sum())),
        rtol=1e-3,
        atol=1e-3,
    )
    assert float(water.max()) == pytest.approx(0.5 * 238 / 255, abs=1e-3)
    mud = registry.get("spatter")(plain + 1, 5, seeds=torch.arange(2))
    darkest = mud.flatten(2).amin(2)
    expected = torch.tensor([63.0, 42.0, 20.0]) / 255
    torch.testing.assert_close(darkest, expected.expand(2, 3), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["snow", "spatter"])
def test_look_scales_with_the_picture(name: str) -> None:
    """Twice the side: the same coverage and brightness."""
    both = []
    for side in (112, 224):
        plain = torch.full((24, 3, side, side), GREY)
        both.append(statistics(registry.get(name)(plain, 3, seeds=torch.arange(24))))
    assert both[0]["mean"] == pytest.approx(both[1]["mean"], abs=0.02)
    assert both[0]["deviation"] == pytest.approx(both[1]["deviation"], rel=0.2)
    assert both[0]["coverage"] == pytest.approx(both[1]["coverage"], rel=0.2)


@pytest.mark.parametrize("sigma", [3.0, 6.0, 14.0])
def test_smooth_noise_has_unit_variance_and_the_gaussians_correlation(sigma: float) -> None:
    noise = fields.smooth_noise(torch.arange(8), (768, 768), sigma)[..., 100:-100, 100:-100]
    assert float(noise.var()) == pytest.approx(1.0, abs=0.025)
    far = round(2 * sigma)
    shifted = (noise[..., far:] * noise[..., :-far]).mean() / noise.var()
    assert float(shifted) == pytest.approx(np.exp(-((far / sigma) ** 2) / 4), abs=0.04)


@pytest.mark.parametrize("side", [112, 448])
def test_streaks_of_snow_are_as_long_as_the_picture_is_large(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []

    def spied(flakes: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
        seen.append((radius, sigma))
        return flakes

    monkeypatch.setattr(weather, "motion_filter", spied)
    registry.get("snow")(torch.rand(1, 3, side, side), 3, seeds=torch.arange(1))
    registry.get("snow")(torch.rand(1, 3, 224, 224), 3, seeds=torch.arange(1))
    (radius, sigma), (plain_radius, plain_sigma) = seen
    assert radius == pytest.approx(plain_radius * side / 224, abs=1)
    assert sigma == pytest.approx(plain_sigma * side / 224)


# --------------------------------------------------------------------------------------------------
# The formulas of the docstrings, redone
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mean", "edge"])
def test_the_mean_of_nine_is_that_of_scipy(name: str) -> None:
    values = torch.rand(2, 1, 9, 14, generator=torch.Generator().manual_seed(2)).double()
    if name == "edge":
        values[:, :, 2:-2, 2:-2] = 0
    expected = ndimage.uniform_filter(values.numpy(), (1, 1, 3, 3), mode="mirror")
    np.testing.assert_allclose(weather._mean_of_nine(values).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_light_on_drops_is_embossed_as_opencv_does(scale: float) -> None:
    import cv2

    far = round(20 * scale)
    for picture, light in zip(blobs(), weather._light(blobs(), scale), strict=True):
        edges = weather._edges(picture[None])[0, 0].numpy()
        distance = np.minimum(ndimage.distance_transform_edt(~edges), far) * (20 / far)
        means = ndimage.uniform_filter(distance, 3, mode="mirror")
        equal = cv2.equalizeHist(np.floor(means + 1e-4).astype(np.uint8)).astype(float)
        kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=float)
        embossed = ndimage.correlate(equal, kernel, mode="mirror").clip(0, 255)
        expected = ndimage.uniform_filter(embossed, 3, mode="mirror")
        # OpenCV rounds its table in single precision: a level may differ by one.
        assert np.abs(light[0].numpy() - expected).max() < 6
        assert np.abs(light[0].numpy() - expected).mean() < 0.2


@pytest.mark.parametrize(("size", "severity"), [((40, 56), 1), ((112, 100), 3), ((64, 224), 2)])
def test_water_is_liquid_in_its_light(size: tuple[int, int], severity: int) -> None:
    seeds = torch.tensor([4, 9, 11])
    corruption = registry.get("spatter")
    values = corruption.parameters(severity)
    mean, deviation, sigma, threshold, strength = (
        float(values[n]) for n in ("mean", "deviation", "sigma", "threshold", "strength")
    )
    scale = min(size) / 224
    impulse = np.zeros(81)
    impulse[40] = 1
    gain = np.square(ndimage.gaussian_filter(impulse, sigma, truncate=4.0)).sum()
    liquid = fields.smooth_noise(seeds, size, sigma * scale) * (deviation * gain) + mean
    liquid = liquid * (liquid > threshold)
    assert bool((liquid > 0).any())
    levels = (liquid * 255).floor().clamp(0, 255)
    light = levels * weather._light(levels, scale)
    water = strength * light / light.amax((2, 3), keepdim=True)
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(1))
    colour = torch.tensor([175.0, 238.0, 238.0]).view(3, 1, 1) / 255
    expected = (images + water * colour).clamp(0, 1)
    seen = corruption(images, severity, seeds=seeds)
    # A level on the border of two may fall to either.
    assert float(((seen - expected).abs() > 1e-4).float().mean()) < 0.002


@pytest.mark.parametrize(("severity", "side"), [(4, 112), (5, 224)])
def test_mud_covers_what_is_left_of_a_blurred_mask(severity: int, side: int) -> None:
    seeds = torch.tensor([4, 9])
    corruption = registry.get("spatter")
    values = corruption.parameters(severity)
    scale = side / 224
    impulse = np.zeros(21)
    impulse[10] = 1
    gain = np.square(ndimage.gaussian_filter(impulse, 1.0, truncate=4.0)).sum()
    liquid = fields.smooth_noise(seeds, (side, side), scale).numpy()[:, 0]
    mask = liquid * (float(values["deviation"]) * gain) + float(values["mean"]) > 0.65
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    seen = corruption(images, severity, seeds=seeds).numpy()
    for image, inside, result in zip(images.numpy(), mask.astype(float), seen, strict=True):
        cover = ndimage.gaussian_filter(inside, 1.5 * scale, mode="nearest")
        cover[cover < 0.8] = 0
        mud = np.array([63, 42, 20]).reshape(3, 1, 1) / 255
        expected = image + (mud - image) * cover
        assert (np.abs(result - expected) > 1e-3).mean() < 0.002
        assert 0.01 < (cover > 0).mean() < 0.9


def diamond_square(noise: Any, decay: float) -> Any:
    """Return the fractal of one grid of deviations (size, size), place by place."""
    size = len(noise)
    field = np.zeros((size, size))
    step, swing = size, 1.0
    while step > 1:
        half = step // 2
        for i in range(0, size, step):
            for j in range(0, size, step):
                corners = [
                    field[(i + a) % size, (j + b) % size] for a in (0, step) for b in (0, step)
                ]
                field[i + half, j + half] = np.mean(corners) + swing * noise[i + half, j + half]
        for i in range(0, size, half):
            for j in range((i + half) % step, size, step):
                around = [
                    field[(i + a) % size, (j + b) % size]
                    for a, b in ((-half, 0), (half, 0), (0, -half), (0, half))
                ]
                field[i, j] = np.mean(around) + swing * noise[i, j]
        step, swing = half, swing / decay**2
    return field


@pytest.mark.parametrize(("size", "square"), [((32, 20), 32), ((9, 17), 32), ((16, 16), 16)])
def test_fog_is_a_plasma_fractal_over_the_whole_square(size: tuple[int, int], square: int) -> None:
    seeds = torch.tensor([5, 6])
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 0.9
    noise = weather._grain(seeds, square, square, 1)[:, 0].double().numpy()
    for severity, (amount, decay) in enumerate(
        [(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)], 1
    ):
        seen = registry.get("fog")(images, severity, seeds=seeds).numpy()
        for image, deviations, result in zip(images.numpy(), noise, seen, strict=True):
            veil = diamond_square(deviations, decay)
            veil = (veil - veil.min()) / (veil.max() - veil.min())
            largest = image.max()
            expected = (image + amount * veil[: size[0], : size[1]]) * largest / (largest + amount)
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_grain_has_all_256_levels_equally_often() -> None:
    grain = weather._grain(torch.arange(16), 63, 65, 4)
    assert grain.shape == (16, 1, 63, 65)
    levels, counts = np.unique(grain.numpy(), return_counts=True)
    np.testing.assert_array_equal(levels, np.arange(-128, 128))
    assert counts.min() > 0.7 * grain.numel() / 256
    assert counts.max() < 1.3 * grain.numel() / 256


@pytest.mark.parametrize("size", [(40, 56), (96, 64), (224, 230)])
@pytest.mark.parametrize("severity", range(1, 6))
def test_snow_is_flakes_once_more_upside_down_over_a_whitened_picture(
    size: tuple[int, int], severity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Tensor, int, float, Tensor]] = []

    def unblurred(flakes: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
        asked.append((flakes, radius, sigma, angle))
        return flakes

    monkeypatch.setattr(weather, "motion_filter", unblurred)
    mean, zoom, threshold, radius, sigma, keep = (
        (0.1, 3.0, 0.5, 10.0, 4.0, 0.8),
        (0.2, 2.0, 0.5, 12.0, 4.0, 0.7),
        (0.55, 4.0, 0.9, 12.0, 8.0, 0.7),
        (0.55, 4.5, 0.85, 12.0, 8.0, 0.65),
        (0.55, 2.5, 0.85, 12.0, 12.0, 0.55),
    )[severity - 1]
    seeds = torch.arange(2) + 8
    images = 0.8 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    seen = registry.get("snow")(images, severity, seeds=seeds).numpy()
    flakes = torch.cat([one[0] for one in asked])
    angles = torch.cat([one[3] for one in asked])
    for _, reach, spread, _ in asked:
        assert reach == max(round(radius * min(size) / 224), 1)
        assert spread == pytest.approx(sigma * min(size) / 224)
    torch.testing.assert_close(angles, random.uniform(seeds, (), -135, -45, stream=1))
    times = max(zoom * min(size) / 224, 1.0)
    small = [int(np.ceil(side / times)) for side in size]
    drawn = random.normal(seeds, (1, *small)).double().numpy() * 0.3 + mean
    for image, layer, noise, result in zip(
        images.numpy(), flakes.numpy(), drawn, seen, strict=True
    ):
        large = noise[0]
        if times > 1:
            places = [
                np.arange(side) * (few - 1) / (max(round(few * times), side) - 1)
                for side, few in zip(size, small, strict=True)
            ]
            at = np.meshgrid(*places, indexing="ij")
            large = ndimage.map_coordinates(large, at, order=1, mode="nearest")
        expected = np.where(large > threshold, large, 0).clip(0, 1)
        assert (np.abs(layer[0] - expected) > 1e-4).mean() < 0.002
        grey = np.tensordot((0.299, 0.587, 0.114), image, 1)
        white = np.maximum(image, 1.5 * grey + 0.5)
        both = layer + layer[:, ::-1, ::-1]
        whole = (keep * image + (1 - keep) * white + both).clip(0, 1)
        np.testing.assert_allclose(result, whole, atol=1e-5)
