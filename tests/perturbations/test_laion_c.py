"""LAION-C's distortions against their published parameters and slow versions of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.path import Path
from PIL import Image, ImageDraw
from torch import Tensor

from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.perturbations import laion_c, random, registry
from pytest_cliprobust.perturbations.filters import box_resize

pytestmark = pytest.mark.floors

PUBLISHED: dict[str, list[tuple[float, ...]]] = {
    "geometric_shapes": [(150,), (300,), (600,), (800,), (1000,)],
    "stickers": [(100,), (200,), (400,), (600,), (1200,)],
    "luminance_checkerboard": [
        (low / 255, high / 255)
        for low, high in ((0, 50), (50, 100), (100, 125), (125, 150), (150, 255))
    ],
    "mosaic": [(4,), (6,), (8,), (16,), (28,)],
    "vertical_lines": [(224, 1), (178, 2), (112, 4), (84, 6), (60, 8)],
    "glitch": [(2,), (4,), (5,), (8,), (10,)],
}


def seeds(count: int) -> Tensor:
    return torch.arange(count) * 7919 + 5


@pytest.fixture(scope="module")
def scenes() -> Tensor:
    return load_dataset("clean", profile="quick").load([0, 67, 134]).images / 255


def test_published_parameters() -> None:
    assert set(registry.names("laion_c")) == set(PUBLISHED)
    for name, steps in PUBLISHED.items():
        severities = registry.get(name).severities
        assert [tuple(step.values()) for step in severities] == steps


# --------------------------------------------------------------------------------------------------
# Things strewn
# --------------------------------------------------------------------------------------------------


def drawn(kind: int, size: float, turn: float) -> np.ndarray:
    """Return what PIL fills, (64, 64) bool, of one shape at (24, 24)."""
    image = Image.new("L", (64, 64))
    draw = ImageDraw.Draw(image)
    x = y = 24.0
    if kind == 0:
        draw.polygon([(x, y), (x + size, y), (x + size / 2, y + size)], fill=1)
    elif kind == 1:
        draw.rectangle([x, y, x + size, y + size], fill=1)
    elif kind == 2:
        corners = []
        for i in range(10):
            radius = size / 1.2 * (1 if i % 2 == 0 else 0.5)
            angle = math.pi * i / 5 + turn
            corners.append((x + radius * math.sin(angle), y + radius * math.cos(angle)))
        draw.polygon(corners, fill=1)
    else:
        draw.ellipse([x, y, x + size, y + size], fill=1)
    return np.array(image) > 0


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("size", [6, 15])
def test_shapes_are_those_of_pil(kind: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = 0.7
    draws = torch.full((1, 4, 5), 0.5)
    draws[..., 0] = (size - 6 + 0.5) / 10
    draws[..., 1] = turn / (2 * math.pi)
    places = torch.full((1, 2, 4), 500, dtype=torch.int64)  # outside, but for one
    places[:, :, kind] = 24
    monkeypatch.setattr(laion_c, "_places", lambda *_: places)
    monkeypatch.setattr(random, "uniform", lambda *_, **__: draws)
    monkeypatch.setattr(laion_c, "relative_size", lambda _: 1.0)
    images = torch.zeros(1, 3, 64, 64)
    seen = laion_c.geometric_shapes(images, count=4.0, seeds=seeds(1))[0, 0].numpy() > 0.25
    expected = drawn(kind, size, turn)
    # PIL rounds a polygon's and an ellipse's rim its own way.
    assert (seen != expected).sum() <= 0.25 * expected.sum() + 4
    assert abs(int(seen.sum()) - int(expected.sum())) <= 0.25 * expected.sum() + 2


def test_edges_of_stickers_are_one_to_six_steep_in_any_direction() -> None:
    across, along = laion_c._edge(seeds(400), 20)
    steep, turn = torch.hypot(across, along), torch.atan2(along, across)
    assert across.shape == (400, 20)
    assert 1.0 - 1e-5 <= float(steep.min()) < 1.01
    assert 5.99 < float(steep.max()) <= 6.0 + 1e-5
    assert float(steep.mean()) == pytest.approx(3.5, abs=0.1)
    quarters = torch.histc(turn, 4, -torch.pi, torch.pi)
    assert float((quarters / 8000 - 0.25).abs().max()) < 0.03


def test_sides_of_an_edge() -> None:
    """Known: x · across + y · along, at most 1 either way."""
    down, right = torch.tensor([0.5, -0.25, 1.0]), torch.tensor([0.25, 0.5, 1.0])
    found = laion_c._side(down, right, torch.tensor(1.0), torch.tensor(0.5))
    assert found.tolist() == [0.5, 0.375, 1.0]
    assert laion_c._side(-down, -right, torch.tensor(1.0), torch.tensor(0.5)).tolist() == [
        *(-0.5, -0.375, -1.0)
    ]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_as_much_is_covered_as_random_squares_cover(severity: int) -> None:
    images = torch.full((4, 3, 224, 224), 0.5)
    corruption = registry.get("stickers")
    count = int(corruption.parameters(severity)["count"])
    covered = (corruption(images, severity, seeds=seeds(4)) != 0.5).any(1)
    inner = covered[:, 16:-16, 16:-16].float().mean()
    # Each place inside is equally likely: a pixel stays free with (1 − 256/208²)^n.
    assert float(inner) == pytest.approx(1 - (1 - 256 / 208**2) ** count, abs=0.03)


@pytest.mark.parametrize("name", ["stickers", "geometric_shapes"])
def test_more_things_lie_on_top_of_the_same(name: str) -> None:
    images = torch.full((2, 3, 96, 96), 0.5)
    corruption = registry.get(name)
    few, more = (corruption(images, count=c, seeds=seeds(2)) for c in (12.0, 20.0))
    gone = ((few != 0.5).any(1) & (more == 0.5).all(1)).sum()
    assert int(gone) == 0
    assert float((few == more).all(1).float().mean()) > 0.7


def test_later_things_lie_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    topmost = torch.full((1, 8, 8), -1, dtype=torch.int32)
    places = torch.tensor([[[0, 2, 4], [0, 2, 4]]])
    seen = laion_c._strewn(topmost, range(3), places, (0, 4))
    assert seen[0, 1, 1] == 0
    assert seen[0, 3, 3] == 1
    assert seen[0, 5, 5] == 2
    assert seen[0, 0, 7] == -1


# --------------------------------------------------------------------------------------------------
# Tiles
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_the_checkerboard_alternates_within_its_range(severity: int) -> None:
    low, high = PUBLISHED["luminance_checkerboard"][severity - 1]
    images = torch.full((3, 3, 224, 224), 0.5)
    change = registry.get("luminance_checkerboard")(images, severity, seeds=seeds(3)) - 0.5
    tiles = change.unfold(2, 14, 14).unfold(3, 14, 14)
    assert float((tiles.amax((-2, -1)) - tiles.amin((-2, -1))).max()) == 0
    amount = tiles[:, 0, :, :, 0, 0]
    grid = torch.arange(16)
    sign = 1 - 2 * ((grid[:, None] + grid) % 2)
    raised = amount * sign
    assert float(raised.min()) >= min(low, 0.5) - 1e-5
    assert float(raised.max()) <= min(high, 0.5) + 1e-5
    if high < 0.5:
        assert float(raised.mean()) == pytest.approx((low + high) / 2, abs=0.02)


@pytest.mark.parametrize("severity", [1, 3, 4, 5])
def test_tiles_of_a_mosaic_keep_their_mean_colour(severity: int, scenes: Tensor) -> None:
    images = 0.3 + 0.4 * scenes  # nothing is clamped
    tile = int(PUBLISHED["mosaic"][severity - 1][0])
    result = registry.get("mosaic")(images, severity, seeds=seeds(3))
    size = (224 // tile, 224 // tile)
    torch.testing.assert_close(
        box_resize(result, size), box_resize(images, size), rtol=0, atol=1e-5
    )
    inside = result.unfold(2, tile, tile).unfold(3, tile, tile).std((-2, -1))
    assert float(inside.mean()) > 0.03


# --------------------------------------------------------------------------------------------------
# Lines
# --------------------------------------------------------------------------------------------------


def slow_lines(picture: np.ndarray, lines: int, step: int) -> np.ndarray:
    """Draw the published lines with PIL on a picture (H, W, 3) of bytes."""
    height, width = picture.shape[:2]
    grey = picture @ np.array([0.299, 0.587, 0.114])
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for i in range(lines):
        x = i / lines * width
        last, columns = (x, 0.0), slice(int(x), min(int(x + width / lines), width))
        for y in range(0, height, step):
            cell = picture[y : y + step, columns].reshape(-1, 3)
            luma = grey[y : y + step, columns].mean() if cell.size else 0.0
            colour = tuple(int(c) for c in cell.mean(0)) if cell.size else (0, 0, 0)
            here = (x - 40 * (1 - luma / 255), float(y))
            draw.line((*last, *here), fill=colour)
            last = here
    return np.array(image)


@pytest.mark.parametrize("severity", [2, 3, 4, 5])
def test_vertical_lines_are_those_of_pil(severity: int, scenes: Tensor) -> None:
    lines, step = map(int, PUBLISHED["vertical_lines"][severity - 1])
    result = registry.get("vertical_lines")(scenes, severity)
    for picture, seen in zip(scenes, result, strict=True):
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        drawn = slow_lines(pixels, lines, step)[:-step]
        expected = torch.from_numpy(drawn).permute(2, 0, 1) / 255
        picture, seen = picture[:, step:], seen[:, step:]  # ours are a step lower
        ours, theirs = (torch.nn.functional.avg_pool2d(x, 8) for x in (seen, expected))
        assert float((ours - theirs).abs().mean()) < 0.06
        assert float((seen - expected).abs().mean()) < float((picture - expected).abs().mean())
        black, theirs_black = ((x.amax(0) == 0).float().mean() for x in (seen, expected))
        assert float(black) == pytest.approx(float(theirs_black), abs=0.08)


def exact_lines(grey: np.ndarray, lines: int, step: float, reach: float) -> np.ndarray:
    """Return which line each pixel shows, (H, W), −1 for none: all columns that each stroke covers."""
    height, width = grey.shape
    rows, spacing = round(height / step), width / lines
    cells = grey.reshape(rows, height // rows, lines, width // lines).mean((1, 3))
    shown = np.full((height, width), -1)
    turns = (np.arange(rows) + 1) * height / rows
    for line in range(lines):
        corner = line * spacing - reach * (1 - cells[:, line])
        for y in range(height):
            ends = np.interp([y, y + 1], turns, corner)
            left, right = math.floor(ends.min()), math.floor(ends.max())
            shown[y, max(left, 0) : max(right, left + 1, 0)] = line
    return shown


@pytest.mark.parametrize(
    ("lines", "step", "displacement"), [(12, 6.0, 9.5), (24, 3.0, 17.3), (48, 12.0, 1.2)]
)
def test_strokes_cover_the_columns_from_where_they_enter_a_row_to_where_they_leave_it(
    lines: int, step: float, displacement: float
) -> None:
    grey = np.random.default_rng(lines).random((48, 48))
    images = torch.from_numpy(grey)[None, None].expand(1, 3, 48, 48)
    # Lengths are for 224 pixels.
    scale = 48 / 224
    result = laion_c.vertical_lines(
        images, lines=lines, step=step / scale, displacement=displacement / scale
    )[0, 0].numpy()
    shown = exact_lines(grey, lines, step, displacement)
    rows = round(48 / step)
    cells = grey.reshape(rows, 48 // rows, lines, 48 // lines).mean((1, 3))
    tile = np.arange(48)[:, None] * rows // 48
    expected = np.where(shown < 0, 0.0, cells[tile, shown])
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_white_pictures_keep_their_lines_in_place() -> None:
    images = torch.ones(1, 3, 60, 60)
    result = laion_c.vertical_lines(images, lines=30.0, step=15.0)
    columns = result[0, 0].amax(0)
    assert torch.equal(result[0, 0].amin(0), columns)
    assert float(columns.mean()) == pytest.approx(0.5)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_glitch_moves_bands_and_a_channel_and_blacks_out_rows(severity: int) -> None:
    level = PUBLISHED["glitch"][severity - 1][0]
    images = torch.rand(6, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    result = registry.get("glitch")(images, severity, seeds=seeds(6))
    assert float(result[..., ::2, :].max()) == 0
    odd = result[..., 1::2, :]
    assert float(odd.min()) > 0
    moved_channels = 0
    for picture, seen in zip(images, odd, strict=True):
        exact = []
        for channel in range(3):
            rows = picture[channel, 1::2]
            # Each row is the picture's own, turned by up to level² per cent.
            offsets = [
                [s for s in range(96) if torch.equal(rows[i].roll(s), seen[channel, i])]
                for i in range(48)
            ]
            exact.append(all(offsets))
            if all(offsets):
                far = max(min(o[0], 96 - o[0]) for o in offsets)
                assert far <= int(level**2 / 100 * 96)
        moved_channels += exact.count(False)
    # One channel of each picture went up or down, unless by nothing.
    assert 3 <= moved_channels <= 6


def test_a_band_of_a_glitch_has_up_to_a_quarter_of_the_rows() -> None:
    images = (torch.arange(800) / 800).expand(128, 3, 40, 800)
    # One band of each picture, which moves all of its channels but perhaps one.
    result = laion_c.glitch(images, level=0.5, scan_lines=0.0, seeds=seeds(128))
    moved = ((result != images).any(dim=3).sum(dim=1) >= 2).sum(dim=1)
    assert (int(moved.min()), int(moved.max())) == (0, 10)


def test_no_level_without_scan_lines_is_the_identity() -> None:
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(laion_c.glitch(images, level=0.0, scan_lines=0.0, seeds=seeds(2)), images)


# --------------------------------------------------------------------------------------------------
# The sentences of the docstrings, redone place by place
# --------------------------------------------------------------------------------------------------

SHAPES = [(40, 56), (112, 75), (224, 230)]


def pictures_of(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(8))


def slopes(seeds: Tensor, count: int) -> Any:
    """Return the steepness of edges along both axes, (B, 2, N)."""
    turn, steep = random.uniform(seeds, (2, count), stream=2).double().unbind(1)
    steep = 1 + 5 * steep
    angle = 2 * np.pi * turn
    return torch.stack((angle.cos() * steep, angle.sin() * steep), 1).numpy()


@pytest.mark.parametrize("size", [*SHAPES, (16, 30)])
def test_stickers_lie_where_they_are_drawn_the_last_on_top(size: tuple[int, int]) -> None:
    seeds, count = torch.tensor([3, 4]), 25
    images = pictures_of(size)
    side = max(round(16 * min(size) / 224), 1)
    places = random.uniform(seeds, (count, 2)).numpy()
    colours = random.uniform(seeds, (6, count), stream=3).numpy()
    across, along = slopes(seeds, count).transpose(1, 0, 2)
    seen = registry.get("stickers")(images, count=float(count), seeds=seeds).numpy()
    expected = images.numpy().copy()
    inner = (2 * np.arange(side) + 1) / side - 1
    for row in range(2):
        for n in range(count):
            y, x = (int(places[row, n, a] * (size[a] - side)) for a in (0, 1))
            way = (inner[None] * across[row, n] + inner[:, None] * along[row, n]).clip(-1, 1)
            share = (way + 1) / 2
            first, second = colours[row, :3, n], colours[row, 3:, n]
            expected[row, :, y : y + side, x : x + side] = (
                first[:, None, None] * (1 - share) + second[:, None, None] * share
            )
    np.testing.assert_allclose(seen, expected, atol=1e-4)


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("severity", [1, 4])
def test_tiles_of_the_checkerboard_are_brighter_and_darker_in_turn(
    size: tuple[int, int], severity: int
) -> None:
    low, high = ((0, 50), (50, 100), (100, 125), (125, 150))[severity - 1]
    seeds, tile = torch.tensor([3, 4]), 14 * min(size) / 224
    images = pictures_of(size)
    counts = [int(np.ceil(side / tile - 1e-6)) for side in size]
    amount = random.uniform(seeds, (1, *counts), low / 255, high / 255).numpy()[:, 0]
    y, x = (
        np.minimum((np.arange(side) / tile + 1e-6).astype(int), c - 1)
        for side, c in zip(size, counts, strict=True)
    )
    sign = 1 - 2 * ((y[:, None] + x) % 2)
    expected = (images.numpy() + (amount[:, y[:, None], x] * sign)[:, None]).clip(0, 1)
    seen = registry.get("luminance_checkerboard")(images, severity, seeds=seeds).numpy()
    np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "tile", "counts"),
    [
        ((40, 56), 28.0, (8, 11)),
        ((112, 80), 16.0, (20, 14)),
        ((40, 56), 4.0, (20, 28)),
        ((64, 70), 1.0, (64, 70)),
    ],
)
def test_a_mosaic_s_tiles_are_edges_about_their_own_mean(
    size: tuple[int, int], tile: float, counts: tuple[int, int]
) -> None:
    seeds = torch.tensor([3, 4])
    images = pictures_of(size) * 0.4 + 0.3
    across, along = slopes(seeds, counts[0] * counts[1]).reshape(2, 2, *counts).swapaxes(0, 1)
    contrast = random.uniform(seeds, (3, *counts), -0.25, 0.25, stream=3).numpy()
    mean = boxed(images, counts)
    seen = registry.get("mosaic")(images, tile=tile, seeds=seeds).numpy()
    tiles = [
        [min(i * c // side, c - 1) for i in range(side)]
        for side, c in zip(size, counts, strict=True)
    ]
    for y in range(0, size[0], 3):
        for x in range(size[1]):
            i, j = tiles[0][y], tiles[1][x]
            down, right = (
                2 * (p - t.index(k) + 0.5) / t.count(k) - 1
                for p, t, k in ((y, tiles[0], i), (x, tiles[1], j))
            )
            for row in range(2):
                way = np.clip(right * across[row, i, j] + down * along[row, i, j], -1, 1)
                expected = (mean[row, :, i, j] + contrast[row, :, i, j] * way).clip(0, 1)
                np.testing.assert_allclose(seen[row, :, y, x], expected, atol=2e-4)


def boxed(images: Tensor, counts: tuple[int, int]) -> Any:
    """Return PIL's box filter of pictures, (B, 3, *counts)."""
    return np.stack(
        [
            np.stack(
                [
                    np.asarray(Image.fromarray(p).resize(counts[::-1], Image.Resampling.BOX))
                    for p in picture
                ]
            )
            for picture in images.numpy()
        ]
    )


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("severity", [1, 2, 5])
def test_a_glitch_is_bands_then_a_channel_then_dark_rows(
    size: tuple[int, int], severity: int
) -> None:
    level = (2, 4, 5, 8, 10)[severity - 1]
    height, width = size
    seeds = torch.arange(6) + 3
    images = pictures_of(size, 6)
    bands = random.uniform(seeds, (3, 2 * level)).double().numpy()
    moves = random.uniform(seeds, (3,), stream=1).double().numpy()
    seen = registry.get("glitch")(images, severity, seeds=seeds).numpy()
    reach, far = int(level * level / 100 * width), round(2 * level * min(size) / 224)

    def whole(draw: float, low: int, high: int) -> int:
        return low + min(int(draw * (high - low + 1)), high - low)

    for row, image in enumerate(images.numpy()):
        expected = image.copy()
        for offset, first, tall in bands[row].T:
            start, shift = whole(first, 0, height), whole(offset, -reach, reach)
            end = start + whole(tall, 1, height // 4)
            if shift:
                expected[:, start:end] = np.roll(image[:, start:end], shift, 2)
        down, right = whole(moves[row, 0], -far, far), whole(moves[row, 1], -far, far)
        channel = whole(moves[row, 2], 0, 2)
        if down or right:
            expected[channel] = np.roll(image[channel], (down, right), (0, 1))
        expected[:, ::2] = 0
        np.testing.assert_allclose(seen[row], expected, atol=1e-6)
    some = registry.get("glitch")(images, level=0.0, scan_lines=0.3, seeds=seeds)
    torch.testing.assert_close(some[:, :, ::2], images[:, :, ::2] * 0.7)
    assert torch.equal(some[:, :, 1::2], images[:, :, 1::2])


@pytest.mark.parametrize("size", [(112, 75), (60, 230), (224, 40)])
def test_shapes_are_drawn_in_turn_and_end_at_the_picture_s_edge(size: tuple[int, int]) -> None:
    seeds, count = torch.tensor([3, 4]), 90
    images = pictures_of(size)
    places = random.uniform(seeds, (count, 2)).numpy()
    drawn = random.uniform(seeds, (count, 5), stream=1).numpy()
    seen = registry.get("geometric_shapes")(images, count=float(count), seeds=seeds).numpy()
    expected = images.numpy().copy()
    y, x = np.mgrid[: size[0], : size[1]]
    for row in range(2):
        for n in range(count):
            side = np.float32(np.floor(drawn[row, n, 0] * 10) + 6) * (min(size) / 224)
            down, right = (
                place - int(places[row, n, axis] * size[axis]) for axis, place in enumerate((y, x))
            )
            if n % 4 == 0:
                inside = (down >= 0) & (down <= side) & (abs(right - side / 2) <= (side - down) / 2)
            elif n % 4 == 1:
                inside = (down >= 0) & (down <= side) & (right >= 0) & (right <= side)
            elif n % 4 == 3:
                inside = (down - side / 2) ** 2 + (right - side / 2) ** 2 <= (side / 2) ** 2
            else:
                turn = 2 * np.pi * drawn[row, n, 1]
                angles = turn + np.arange(10) * np.pi / 5
                radii = side / 1.2 * np.where(np.arange(10) % 2, 0.5, 1.0)
                corners = np.stack((radii * np.cos(angles), radii * np.sin(angles)), 1)
                inside = Path(corners).contains_points(
                    np.stack((down.ravel(), right.ravel()), 1), radius=1e-6
                ).reshape(size) | ((down == 0) & (right == 0))
            expected[row][:, inside] = drawn[row, n, 2:, None]
    # Places on a shape's very edge may fall to either side.
    assert (np.abs(seen - expected) > 1e-5).mean() < 0.004
    touched = 0
    for edge in (np.s_[..., 0, :], np.s_[..., -1, :], np.s_[..., 0], np.s_[..., -1]):
        assert (np.abs(seen[edge] - expected[edge]) > 1e-5).mean() < 0.03
        touched += bool((np.abs(seen[edge] - images.numpy()[edge]) > 1e-5).any())
    assert touched >= 3
