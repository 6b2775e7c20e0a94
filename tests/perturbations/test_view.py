"""Changes of view: against plain rotation and scaling, and against a composed scene seen again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.embedded import composer
from pytest_cliprobust.perturbations import registry

NAMES = registry.names("view")
SIZE = 112


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@lru_cache(maxsize=2)
def scene(index: int) -> tuple[composer.Scene, dict[str, Tensor]]:
    """Return an embedded scene, and its picture (1, 3, H, W) with depth, focal length and a seed."""
    data = EmbeddedDataset("clean", profile="quick", limit=index + 1, size=SIZE)
    made = data._scene(data._recipes[index])
    seen = composer.compose(made)
    return made, {
        "images": seen.image[None] / 255,
        "depth": seen.depth[None],
        "focal": torch.tensor([made.camera.focal]),
        "seeds": torch.tensor([5]),
    }


def apply(name: str, inputs: dict[str, Tensor], **parameters: float | None) -> Tensor:
    rest: dict[str, Any] = {key: value for key, value in inputs.items() if key != "images"}
    return registry.get(name)(inputs["images"], **{**rest, **parameters})[0]


def really_seen(
    made: composer.Scene, change: Callable[[composer.Camera], composer.Camera]
) -> Tensor:
    return composer.compose(made, change(made.camera)).image / 255


def middle(picture: Tensor, margin: int) -> Tensor:
    return picture[..., margin:-margin, margin:-margin]


# --------------------------------------------------------------------------------------------------
# Turning and zooming
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [8.0, 24.0, 40.0])
@pytest.mark.parametrize("direction", [1, -1])
def test_roll_is_a_plain_rotation(degrees: float, direction: int) -> None:
    _, inputs = scene(0)
    ours = apply("view_roll", inputs, degrees=degrees, direction=direction)
    # The camera turns clockwise, the picture against it.
    plain = ndimage.rotate(
        inputs["images"][0].numpy(), direction * degrees, axes=(1, 2), reshape=False, order=1
    )
    x = torch.arange(SIZE) - (SIZE - 1) / 2
    inside = (x.square() + x[:, None].square()).sqrt() < SIZE / 2 - 1
    truth = torch.from_numpy(plain)
    assert psnr(ours[:, inside], truth[:, inside]) > 45


def test_roll_clockwise_raises_the_right_side() -> None:
    images = torch.zeros(1, 3, 65, 65)
    images[..., 30:35, 46:51] = 1.0  # a spot to the right of the centre
    seen = registry.get("view_roll")(images, degrees=30.0, seeds=torch.tensor([1]), direction=1)
    rows, columns = seen[0, 0].sum(1), seen[0, 0].sum(0)
    place = torch.arange(65.0) - 32
    down, right = float(rows @ place / rows.sum()), float(columns @ place / columns.sum())
    assert down == pytest.approx(-16 * math.sin(math.radians(30)), abs=0.3)
    assert right == pytest.approx(16 * math.cos(math.radians(30)), abs=0.3)


@pytest.mark.parametrize("factor", [1.15, 1.6])
def test_a_narrow_field_of_view_is_a_crop_enlarged(factor: float) -> None:
    _, inputs = scene(0)
    ours = apply("view_field_of_view", inputs, factor=factor, direction=-1)
    whole = round(SIZE * factor)
    enlarged = F.interpolate(
        inputs["images"], scale_factor=factor, mode="bilinear", recompute_scale_factor=False
    )[0]
    start = (whole - SIZE) // 2
    crop = enlarged[:, start : start + SIZE, start : start + SIZE]
    # An odd rest leaves the crop half a pixel aside.
    assert psnr(middle(ours, 4), middle(crop, 4)) > (40 if (whole - SIZE) % 2 == 0 else 27)


@pytest.mark.parametrize("factor", [1.3, 1.75])
def test_a_wide_field_of_view_is_the_picture_shrunk(factor: float) -> None:
    _, inputs = scene(0)
    ours = apply("view_field_of_view", inputs, factor=factor, direction=1)
    size = round(SIZE / factor / 2) * 2
    shrunk = F.interpolate(inputs["images"], size=(size, size), mode="bilinear", antialias=True)[0]
    start = (SIZE - size) // 2
    inside = ours[:, start : start + size, start : start + size]
    assert psnr(middle(inside, 2), middle(shrunk, 2)) > 33
    # Around it the edge goes on: nothing of the object, whose colours differ from the wall's.
    corner = inputs["images"][0, :, :8, :8].mean((1, 2))
    torch.testing.assert_close(ours[:, 2, 2], corner, rtol=0, atol=0.05)


def test_a_wide_field_of_view_does_not_alias() -> None:
    noise = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    inputs = {"images": noise, "seeds": torch.tensor([1])}
    ours = apply("view_field_of_view", inputs, factor=1.75, direction=1)
    shrunk = F.interpolate(noise, size=(64, 64), mode="bilinear", antialias=True)[0]
    ratio = float(middle(ours, 28).std() / middle(shrunk, 4).std())
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("name", ["view_pitch", "view_yaw"])
def test_pitch_and_yaw_agree_with_the_composer(name: str, direction: int) -> None:
    made, inputs = scene(0)
    ours = apply(name, inputs, degrees=6.0, direction=direction)
    turn = math.radians(6.0) * direction
    if name == "view_pitch":
        truth = really_seen(made, lambda camera: replace(camera, pitch=camera.pitch + turn))
    else:
        # The composer's camera turns about the world's vertical; ours about its own. Level, they agree.
        level = replace(made, camera=replace(made.camera, pitch=0.0))
        seen = composer.compose(level)
        inputs = inputs | {"images": seen.image[None] / 255}
        ours = apply(name, inputs, degrees=6.0, direction=direction)
        truth = really_seen(level, lambda camera: replace(camera, yaw=camera.yaw + turn))
    margin = math.ceil(made.camera.focal * math.tan(math.radians(6))) + 3
    clean = inputs["images"][0]
    assert psnr(middle(ours, margin), middle(truth, margin)) > 34
    assert psnr(middle(clean, margin), middle(truth, margin)) < 27


def test_the_focal_length_counts() -> None:
    _, inputs = scene(0)
    default = apply("view_yaw", inputs, focal=None, degrees=6.0, direction=1)
    known = apply("view_yaw", inputs, degrees=6.0, direction=1)
    side = apply(
        "view_yaw", inputs | {"focal": torch.tensor([float(SIZE)])}, degrees=6.0, direction=1
    )
    assert torch.equal(default, side)
    assert not torch.equal(default, known)


# --------------------------------------------------------------------------------------------------
# Moving
# --------------------------------------------------------------------------------------------------


def moved(made: composer.Scene, right: float, down: float, forward: float) -> Tensor:
    def change(camera: composer.Camera) -> composer.Camera:
        steps = zip((right, down, forward), camera.axes, strict=True)
        parts = [[step * part for part in axis] for step, axis in steps]
        position = tuple(sum(column) for column in zip(camera.position, *parts, strict=True))
        return replace(camera, position=position)

    return really_seen(made, change)


def nearest(inputs: dict[str, Tensor]) -> float:
    return float(middle(inputs["depth"], SIZE // 4).min())


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(("direction", "angle"), [(1, 0.0), (-1, 0.0), (1, 90.0), (-1, 45.0)])
def test_translation_agrees_with_the_composer(index: int, direction: int, angle: float) -> None:
    made, inputs = scene(index)
    ours = apply("view_translation", inputs, shift=0.1, direction=direction, angle=angle)
    step = direction * 0.1 * SIZE * nearest(inputs) / made.camera.focal
    radians = math.radians(angle)
    truth = moved(made, step * math.cos(radians), step * math.sin(radians), 0.0)
    clean = inputs["images"][0]
    assert psnr(middle(ours, 14), middle(truth, 14)) > 27
    assert (
        psnr(middle(ours, 14), middle(truth, 14)) > psnr(middle(clean, 14), middle(truth, 14)) + 8
    )


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("direction", [1, -1])
def test_dolly_agrees_with_the_composer(index: int, direction: int) -> None:
    made, inputs = scene(index)
    ours = apply("view_dolly", inputs, share=0.2, direction=direction)
    truth = moved(made, 0.0, 0.0, direction * 0.2 * nearest(inputs))
    clean = inputs["images"][0]
    assert psnr(middle(ours, 14), middle(truth, 14)) > 28
    assert (
        psnr(middle(ours, 14), middle(truth, 14)) > psnr(middle(clean, 14), middle(truth, 14)) + 7
    )


# --------------------------------------------------------------------------------------------------
# Directions and severities
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_sample_draws_its_direction(name: str) -> None:
    _, inputs = scene(0)
    count = 8
    many = {key: value.expand(count, *value.shape[1:]) for key, value in inputs.items()}
    many["seeds"] = torch.arange(count) * 104_729
    corruption, images = registry.get(name), many.pop("images")
    drawn = corruption(images, 3, **many)
    right, left = (corruption(images, 3, direction=sign, **many)[0] for sign in (1, -1))
    assert not torch.equal(right, left)
    sides = [(torch.equal(row, right), torch.equal(row, left)) for row in drawn]
    assert set(sides) == {(True, False), (False, True)}


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("name", NAMES)
def test_severity_moves_pixels_further(name: str, direction: int) -> None:
    # Red and green tell where a pixel came from.
    side = 64
    ramp = torch.linspace(0, 1, side)
    images = torch.stack(
        (ramp.expand(side, side), ramp[:, None].expand(side, side), ramp * ramp[:, None])
    )
    inputs = {
        "images": images[None],
        "depth": torch.full((1, 1, side, side), 2.0),
        "seeds": torch.tensor([1]),
    }
    corruption = registry.get(name)
    distances = [
        float(
            (apply(name, inputs, direction=direction, **step) - images)[:2, 16:-16, 16:-16]
            .abs()
            .mean()
        )
        for step in corruption.severities
    ]
    assert distances == sorted(distances)
    assert distances[0] > 0.005
    assert distances[4] > 2.5 * distances[0]


@pytest.mark.parametrize("name", NAMES)
def test_views_never_make_up_colours(name: str) -> None:
    """What is uncovered and what lies beyond the frame comes from the picture."""
    images = torch.full((1, 3, 48, 64), 0.25)
    images[..., 12:30, 20:40] = 0.75
    depth = torch.full((1, 1, 48, 64), 5.0)
    depth[..., 12:30, 20:40] = 2.0
    for direction in (1, -1):
        seen = registry.get(name)(
            images, 5, depth=depth, seeds=torch.tensor([2]), direction=direction
        )
        assert float(seen.min()) >= 0.25 - 1e-5
        assert float(seen.max()) <= 0.75 + 1e-5
        # The object is seen once: no second one is made of the margin.
        bright = (seen[0, 0] > 0.5).float().sum()
        assert float(bright) < 360 * 3.2
