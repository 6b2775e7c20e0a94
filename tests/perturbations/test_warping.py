"""Warping by depth against exact pictures: layers shifted by hand, and scenes really seen again."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import mostly_slow
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_cliprobust.embedded import composer
from pytest_cliprobust.perturbations import warping
from pytest_cliprobust.perturbations.warping import Movement, mean_view, moved_view, turned_view

SIDE = 112


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def movement(across: float, down: float, approach: float = 0.0, count: int = 1) -> Movement:
    return Movement(
        torch.full((count,), across),
        torch.full((count,), down),
        torch.full((count,), approach) if approach else None,
    )


def texture(height: int, width: int, seed: int) -> Tensor:
    """Return a smooth random picture (1, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=generator)
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return fine.clamp(0, 1)


class Layers:
    """A far plane and a near rectangle before it, both facing the camera: exact from everywhere."""

    def __init__(self, near: float = 1.0, far: float = 4.0) -> None:
        self.far_plane = texture(3 * SIDE, 3 * SIDE, 1)
        self.near_plane = texture(3 * SIDE, 3 * SIDE, 2)
        self.mask = torch.zeros(1, 1, 3 * SIDE, 3 * SIDE)
        self.mask[..., SIDE + 30 : SIDE + 70, SIDE + 40 : SIDE + 75] = 1
        self.near, self.far = near, far

    def seen(self, moved: Movement, time: float) -> tuple[Tensor, Tensor]:
        """Return picture and relative distance (1, C, SIDE, SIDE) at a time."""
        x = torch.arange(SIDE) - (SIDE - 1) / 2
        parts = []
        for plane, distance in ((self.far_plane, self.far), (self.near_plane, self.near)):
            share = time / distance
            approach = 0.0 if moved.approach is None else float(moved.approach[0])
            columns = x * (1 - share * approach) + share * float(moved.across[0])
            rows = x * (1 - share * approach) + share * float(moved.down[0])
            grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
            grid = grid * (2 / (3 * SIDE))
            parts.append(F.grid_sample(plane, grid, align_corners=False))
            parts.append(F.grid_sample(self.mask, grid, align_corners=False))
        far, _, near, mask = parts
        depth = torch.where(mask >= 0.5, self.near, self.far)
        return far + (near - far) * mask, depth

    def known(self, moved: Movement, time: float) -> Tensor:
        """Return (SIDE, SIDE) bool: what the first frame shows of what is seen at a time.

        The far plane behind the near rectangle is not known, nor is what lies beyond the frame. Four
        pixels beside a silhouette are left out: they go with the near surface, zoomed.
        """
        depth = self.seen(moved, time)[1]
        # The far plane moves a quarter as much: so it was hidden where the rectangle is by then.
        hidden = self.seen(moved, time / self.far)[1] < 2
        unknown = ((depth > 2) & hidden).float()
        near = (depth < 2).float()
        edge = F.max_pool2d(near, 9, 1, 4) - (1 - F.max_pool2d(1 - near, 9, 1, 4))
        result = (F.max_pool2d(unknown, 5, 1, 2) + edge)[0, 0] == 0
        margin = torch.zeros_like(result)
        margin[20:-20, 20:-20] = True
        return result & margin


#: Across, down, approach: pixels of SIDE.
PATHS = [(17, 0, 0), (-9, 15, 0), (0, -12, 0), (4, -5, 0.4), (-3, 2, 0.45)]


@pytest.mark.parametrize("path", mostly_slow(PATHS, PATHS[:1]))
def test_mean_of_a_path_is_that_of_its_frames(path: tuple[float, float, float]) -> None:
    scene, moved, time = Layers(), movement(*path), 0.8
    times = [time * k / 63 for k in range(64)]
    exact = torch.stack([scene.seen(moved, t)[0] for t in times]).mean(0)
    clean, distance = scene.seen(moved, 0.0)
    ours = mean_view(clean, distance, moved, time=time, reach=40)
    # Where nothing ever comes from behind the rectangle, the mean is that of all frames; elsewhere it
    # is at least much nearer to it than the still picture.
    known = torch.stack([scene.known(moved, t) for t in times[::7]]).all(0)
    assert known.float().mean() > 0.15
    assert psnr(ours[0, :, known], exact[0, :, known]) > 33
    inside = (..., slice(20, -20), slice(20, -20))
    assert psnr(ours[inside], exact[inside]) > psnr(clean[inside], exact[inside]) + 10


@pytest.mark.parametrize("path", PATHS)
def test_moved_view_is_what_the_moved_camera_sees(path: tuple[float, float, float]) -> None:
    scene, moved = Layers(), movement(*path)
    clean, distance = scene.seen(moved, 0.0)
    exact, _ = scene.seen(moved, 1.0)
    ours = moved_view(clean, distance, moved, reach=40)
    known = scene.known(moved, 1.0)
    assert known.float().mean() > 0.25
    assert psnr(ours[0, :, known], exact[0, :, known]) > 31
    assert psnr(clean[0, :, known], exact[0, :, known]) < 20


def plain(near: float = 1.0, far: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return a red square on blue, 64 × 64, and its distance."""
    image = torch.zeros(1, 3, 64, 64)
    image[:, 2] = 1
    distance = torch.full((1, 1, 64, 64), far)
    image[:, 0, 24:40, 20:36], image[:, 2, 24:40, 20:36] = 1, 0
    distance[..., 24:40, 20:36] = near
    return image, distance


@pytest.mark.parametrize(("across", "down"), [(9, 0), (-9, 0), (0, 6), (6, -9)])
def test_holes_show_the_background(across: int, down: int) -> None:
    image, distance = plain()
    seen = moved_view(image, distance, movement(across, down), reach=9)
    # The near square moves against the camera, and its rim of one pixel with it.
    expected = image.roll((-down, -across), (2, 3))
    rim = F.max_pool2d(expected[:, :1], 3, 1, 1) - expected[:, :1]
    changed = (seen - expected).abs().amax(1, keepdim=True) > 1e-4
    assert not (changed & (rim == 0)).any()


def test_holes_go_on_as_the_background_does() -> None:
    image, distance = plain()
    image[:, 1:2] = torch.linspace(0, 1, 64) * (1 - image[:, :1])
    seen = moved_view(image, distance, movement(9, 0), reach=9)[0, 1, 26:38]
    # Columns 28 to 33 were hidden; from 34 on the old background shows, and before it its mirror image.
    torch.testing.assert_close(seen[:, 28:34].flip(1), seen[:, 35:41], rtol=0, atol=1e-4)
    assert float((seen[:, 28] - seen[:, 33]).min()) > 3 / 64


def test_holes_do_not_show_the_next_object() -> None:
    image, distance = plain()
    image[:, :, 24:40, 40:56] = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    distance[..., 24:40, 40:56] = 1.0
    seen = moved_view(image, distance, movement(9, 0), reach=9)
    # The two objects, now at columns 11 and 31, with their rims leave a gap of two columns.
    assert float(seen[0, 2, 26:38, 28:30].min()) > 0.99


def test_the_nearer_hides_the_farther() -> None:
    image, distance = plain(near=3.0, far=1.0)  # a blue frame, and red three times as far
    seen = moved_view(image, distance, movement(9, 0), reach=9)
    # The window moves by nine pixels, what is behind by three: the frame covers six columns of that.
    assert bool((seen[0, 0, 26:38, 13:25] > 0.99).all())
    assert bool((seen[0, 2, 26:38, 28:34] > 0.99).all())


def test_a_line_leaves_an_even_trace() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[..., 48] = 1.0
    distance = torch.ones(1, 1, 64, 64)
    trace = mean_view(image, distance, movement(30, 0), time=1.0, reach=30)[0, 0, 32]
    # The line moves from column 48 to column 18, at even speed: it is 1/30 bright everywhere.
    torch.testing.assert_close(trace[22:45], torch.full((23,), 1 / 30), rtol=0.05, atol=0)
    # Where steps of three pixels give way to those of one, the mean of three moves a third of a step.
    assert float(trace[45:47].sum()) == pytest.approx(2 / 30, rel=0.2)
    assert float(trace.sum()) == pytest.approx(1, rel=0.02)
    assert float(trace[:15].max()) == float(trace[51:].max()) == 0


def test_times_of_a_path_add_up() -> None:
    generator = torch.Generator().manual_seed(3)
    distance = 0.4 + 3 * torch.rand(2, 1, 40, 56, generator=generator)
    for path in PATHS:
        white = torch.ones(2, 3, 40, 56, requires_grad=True)
        seen = mean_view(white, distance, movement(*path, count=2), time=0.7, reach=40)
        torch.testing.assert_close(seen, torch.ones_like(seen))
        # Each pixel's weights are a partition of the time, so the gradients are as well.
        (gradient,) = torch.autograd.grad(seen.sum(), white)
        assert float(gradient.sum()) == pytest.approx(white.numel(), rel=1e-4)
        assert float(gradient.min()) >= 0


def fine_power(images: Tensor) -> float:
    """Return the power above a quarter of a cycle a pixel, the frame's edge faded out."""
    fade = torch.hann_window(images.shape[-1])
    faded = (images - images.mean((-2, -1), keepdim=True)) * fade * fade[:, None]
    frequency = torch.fft.fftfreq(images.shape[-1])
    fine = (frequency.square() + frequency[:, None].square()).sqrt() > 0.25
    return float(torch.fft.fft2(faded).abs().square()[..., fine].sum())


@pytest.mark.parametrize("path", [(24.0, 9.0), (-17.0, 21.0)])
def test_near_edges_leave_no_combs(path: tuple[float, float]) -> None:
    # A near disc: all of its edges are slanted, and its trace has no detail across its way.
    place = torch.arange(SIDE) - SIDE / 2
    disc = ((place.square() + place[:, None].square()).sqrt() < 18).float()[None, None]
    images = 0.2 + 0.7 * disc.expand(1, 3, -1, -1)
    distance = 4 - 3 * disc
    whole = movement(*path)
    seen = mean_view(images, distance, whole, time=1.0, reach=30)
    frames = torch.linspace(0, 1, 60).tolist()[1:]
    views = [
        moved_view(images, distance, movement(path[0] * t, path[1] * t), reach=30) for t in frames
    ]
    expected = torch.stack([images, *views]).mean(0)
    # It was thirty times as much.
    assert fine_power(seen) < 10 * fine_power(expected)


def test_a_camera_at_rest_sees_the_same() -> None:
    image, distance = Layers().seen(movement(0, 0), 0.0)
    torch.testing.assert_close(mean_view(image, distance, movement(0, 0), time=1.0, reach=1), image)
    still = moved_view(image, distance, movement(0, 0), reach=1)
    torch.testing.assert_close(still, image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("path", PATHS)
def test_the_host_takes_a_shortcut_to_the_same_bits(
    path: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, distance = Layers().seen(movement(0, 0), 0.0)
    image = torch.cat((image, image.flip(3)))
    distance = torch.cat((distance, distance.flip(2)))
    moved = movement(*path, count=2)
    rows = [
        (
            image[i : i + 1],
            distance[i : i + 1],
            Movement(*(p[:1] for p in moved if p is not None)),
        )
        for i in (0, 1)
    ]
    mean = torch.cat([mean_view(*row, time=0.7, reach=30) for row in rows])
    view = torch.cat([moved_view(*row, reach=30) for row in rows])
    monkeypatch.setattr(warping, "on_host", lambda tensor: False)
    assert torch.equal(mean_view(image, distance, moved, time=0.7, reach=30), mean)
    torch.testing.assert_close(
        moved_view(image, distance, moved, reach=30), view, rtol=0, atol=1e-5
    )


# --------------------------------------------------------------------------------------------------
# Against the composer: another camera really looks at the scene
# --------------------------------------------------------------------------------------------------


def drawing(side: int = 120) -> composer.Pixels:
    """A striped disc with a handle."""
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(x + 0.5 - side / 2, y + 0.5 - side / 2)
    sprite = np.zeros((side, side, 4), np.uint8)
    sprite[..., :3] = (210, 80, 50)
    sprite[(y // 15) % 2 == 0, :3] = (90, 30, 120)
    alpha = np.clip((side * 0.4 - distance + 0.5) * 255, 0, 255)
    alpha[side // 2 - 8 : side // 2 + 8, side // 2 :] = 255
    sprite[..., 3] = alpha
    return sprite


@lru_cache(maxsize=4)
def scene(name: str) -> tuple[composer.Scene, composer.Rendering, float]:
    """Return a scene, its picture, and the depth of the nearest point in its middle half."""
    made = composer.neutral(name, drawing(), SIDE)
    seen = composer.compose(made)
    middle = seen.depth[..., SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
    return made, seen, float(middle.min())


def really_seen(name: str, across: float, down: float, approach: float, time: float) -> Tensor:
    made, _, nearest = scene(name)
    steps = [time * p * nearest / made.camera.focal for p in (across, down)]
    steps.append(time * approach * nearest)
    position = tuple(
        place + sum(step * axis[i] for step, axis in zip(steps, made.camera.axes, strict=True))
        for i, place in enumerate(made.camera.position)
    )
    picture = composer.compose(made, replace(made.camera, position=position)).image  # type: ignore[arg-type]
    return picture / 255


SCENES = ["warped/0", "warped/1"]
STEPS = [(12, 0, 0), (-12, 0, 0), (0, 6, 0), (0, 0, 0.2), (0, 0, -0.2)]


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("step", STEPS)
def test_moved_view_agrees_with_the_composer(name: str, step: tuple[float, float, float]) -> None:
    _, seen, nearest = scene(name)
    image, distance = seen.image[None] / 255, seen.depth[None] / nearest
    ours = moved_view(image, distance, movement(*step), reach=30)[0]
    truth = really_seen(name, *step, 1.0)
    # Leave out the margin that may have come from beyond the old frame.
    inside = (slice(None), slice(16, -16), slice(16, -16))
    ours, truth, clean = ours[inside], truth[inside], image[0][inside]
    assert psnr(ours, truth) > 27
    assert psnr(ours, truth) > psnr(clean, truth) + 8


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("path", [(11, 7, 0), (-9, -12, 0), (4, -5, 0.5)])
def test_mean_view_agrees_with_the_composer(name: str, path: tuple[float, float, float]) -> None:
    _, seen, nearest = scene(name)
    image, distance = seen.image[None] / 255, seen.depth[None] / nearest
    frames = [really_seen(name, *path, 0.65 * k / 12) for k in range(13)]
    # Trapezoidal rule: the ends of the path count half.
    truth = (sum(frames) - (frames[0] + frames[-1]) / 2) / 12
    ours = mean_view(image, distance, movement(*path), time=0.65, reach=30)[0]
    assert psnr(ours, truth) > 34
    assert psnr(ours, truth) > psnr(image[0], truth) + 10


@pytest.mark.parametrize(("pitch", "yaw"), [(8.0, 0.0), (-5.0, 0.0), (0.0, 9.0), (0.0, -6.0)])
def test_turned_view_agrees_with_the_composer(pitch: float, yaw: float) -> None:
    made, seen, _ = scene(SCENES[0])
    first = made.camera
    turned = replace(
        first, pitch=first.pitch + math.radians(pitch), yaw=first.yaw + math.radians(yaw)
    )
    truth = composer.compose(made, turned).image / 255
    axes = torch.tensor(
        [
            [sum(a * b for a, b in zip(row, old, strict=True)) for old in first.axes]
            for row in turned.axes
        ]
    )
    focal = torch.tensor([first.focal])
    image = seen.image[None] / 255
    ours = turned_view(image, axes[None], focal, focal)[0]
    covered = turned_view(torch.ones_like(image), axes[None], focal, focal)[0]
    torch.testing.assert_close(covered, torch.ones_like(covered))
    shift = math.ceil(first.focal * math.tan(math.radians(abs(pitch) + abs(yaw)))) + 8
    inside = (slice(None), slice(shift, -shift), slice(shift, -shift))
    assert psnr(ours[inside], truth[inside]) > 32
    assert psnr(image[0][inside], truth[inside]) < 24


# --------------------------------------------------------------------------------------------------
# Turning, and what lies beyond the frame
# --------------------------------------------------------------------------------------------------


def test_a_quarter_turn_is_exact() -> None:
    image = texture(40, 40, 5)
    one = torch.ones(1)
    turn = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    torch.testing.assert_close(
        turned_view(image, turn, one, one), image.rot90(1, (2, 3)), rtol=0, atol=1e-4
    )


def test_twice_the_focal_length_is_a_zoom() -> None:
    image = texture(64, 48, 6)
    straight = torch.eye(3)[None]
    zoomed = turned_view(image, straight, torch.tensor([30.0]), torch.tensor([60.0]))
    exact = F.interpolate(image[..., 15:49, 11:37], scale_factor=2, mode="bilinear")[
        ..., 2:-2, 2:-2
    ]
    torch.testing.assert_close(zoomed, exact, rtol=0, atol=1e-4)


def test_beyond_the_frame_the_edge_is_continued() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., ::2, 48:] = torch.linspace(0, 1, 32).view(-1, 1)  # lines, which would make streaks
    image[..., 20:40, 10:30] = 5.0  # an object, which must not show again
    x, y = warping.centred(image)
    place = (x + 64).expand(1, 64, 64), y[:, None].expand(1, 64, 64)
    beyond = warping.fetch(image, *place)[0, 0]
    # Close to the frame the lines go on; further out they are means of eight rows.
    assert float((beyond[60, 0] - beyond[61, 0]).abs()) > 0.8
    assert torch.equal(beyond[:, 20], beyond[:, 60])
    means = image[0, 0, :, 63].view(8, 8).mean(1)
    expected = torch.lerp(means[:-1], means[1:], 1 / 16)
    torch.testing.assert_close(beyond[4:53:8, 40], expected, rtol=0, atol=1e-4)


def test_never_leaves_the_device() -> None:
    with FakeTensorMode():
        image = torch.empty(2, 3, 32, 40, device="cuda")
        distance = torch.empty(2, 1, 32, 40, device="cuda")
        part = torch.empty(2, device="cuda")
        for moved in (Movement(part, part), Movement(part, part, part)):
            assert mean_view(image, distance, moved, time=0.5, reach=9).device == image.device
            assert moved_view(image, distance, moved, reach=9).device == image.device
        turn = torch.empty(2, 3, 3, device="cuda")
        assert turned_view(image, turn, part, part).device == image.device


@pytest.mark.parametrize("shape", [(64, 60), (60, 64), (64, 64)])
def test_cells_are_means_of_squares_whatever_the_size(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    cells = warping._cells(images)
    height, width = (side // warping._CELL for side in shape)
    assert cells.shape == (2, 3, height, width)
    torch.testing.assert_close(cells.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=2e-3)
    if shape == (64, 64):
        wanted = F.adaptive_avg_pool2d(images, (height, width))
        torch.testing.assert_close(cells, wanted, rtol=0, atol=1e-6)
