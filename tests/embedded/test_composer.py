"""The composer against geometry worked out by hand, and the purity of what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pytest_cliprobust.embedded import composer, procedural
from pytest_cliprobust.embedded.composer import Camera, Placement, Scene, compose
from pytest_cliprobust.errors import ClipRobustError

SIZE = 96


def disc(colour: tuple[int, int, int] = (200, 60, 40), side: int = 160) -> composer.Pixels:
    """A disc with some drawing inside: stripes of two lightnesses."""
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(x + 0.5 - side / 2, y + 0.5 - side / 2)
    sprite = np.zeros((side, side, 4), np.uint8)
    sprite[..., :3] = colour
    sprite[(y // 20) % 2 == 0, :3] = np.array(colour, np.uint8) // 2
    sprite[..., 3] = np.clip((side / 2 - distance + 0.5) * 255, 0, 255).astype(np.uint8)
    return sprite


def block(
    width: int = 120, height: int = 80, colour: tuple[int, int, int] = (30, 90, 220)
) -> composer.Pixels:
    sprite = np.zeros((height, width, 4), np.uint8)
    sprite[..., :3] = colour
    sprite[..., 3] = 255
    return sprite


def simple(item: Placement, *, pitch: float = 0.0, size: int = SIZE, height: float = 1.0) -> Scene:
    return Scene(
        camera=Camera(size=size, focal=1.3 * size, position=(0.0, height, 0.0), pitch=pitch),
        wall_distance=9.0,
        wall_seed=1,
        ground_seed=2,
        ground_scale=2.0,
        objects=(item,),
    )


def pixel_tangents(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Tangents of the pixels' angles to the optical axis: right and down."""
    place = (np.arange(scene.camera.size) + 0.5 - scene.camera.size / 2) / scene.camera.focal
    return place[None, :].repeat(len(place), 0), place[:, None].repeat(len(place), 1)


@pytest.mark.parametrize("degrees", [0.0, 4.0, 13.0])
def test_depth_of_ground_and_wall_is_that_of_the_planes(degrees: float) -> None:
    pitch = math.radians(degrees)
    hidden = Placement(sprite=block(), centre=(50.0, 0.5, 4.0), side=0.1)
    scene = simple(hidden, pitch=pitch, height=1.4)
    depth = compose(scene).depth[0].numpy()
    _, down = pixel_tangents(scene)
    # A point at depth t lies t (sin p + down cos p) below the camera and t (cos p - down sin p) ahead.
    below = math.sin(pitch) + down * math.cos(pitch)
    ahead = math.cos(pitch) - down * math.sin(pitch)
    ground = np.where(below > 0, 1.4 / np.where(below > 0, below, 1.0), np.inf)
    expected = np.minimum(ground, 9.0 / ahead)
    assert np.allclose(depth, expected, rtol=1e-5)
    assert (ground < 9.0 / ahead).any()
    assert (ground > 9.0 / ahead).any()


@pytest.mark.parametrize("yaw", [0.0, 25.0, -50.0])
def test_depth_of_a_flat_billboard_is_that_of_its_plane(yaw: float) -> None:
    turn = math.radians(yaw)
    item = Placement(sprite=block(), centre=(0.1, 1.0, 3.0), side=1.2, yaw=turn, relief=0.0)
    scene = simple(item)
    result = compose(scene)
    right, _ = pixel_tangents(scene)
    # The plane (x - 0.1) sin(yaw) + (z - 3) cos(yaw) = 0, and x = t right, z = t.
    expected = (0.1 * math.sin(turn) + 3.0 * math.cos(turn)) / (
        right * math.sin(turn) + math.cos(turn)
    )
    inside = result.mask[0].numpy() >= 0.5
    assert inside.sum() > 200
    assert np.allclose(result.depth[0].numpy()[inside], expected[inside], rtol=1e-5)


def test_relief_bulges_towards_the_camera_and_ends_at_the_edge() -> None:
    item = Placement(sprite=disc(), centre=(0.0, 1.0, 3.0), side=1.6, relief=0.8)
    result = compose(simple(item, size=160))
    bulge = 3.0 - result.depth[0]
    solid = result.mask[0] >= 0.999
    assert float(bulge[result.mask[0] >= 0.5].min()) > -1e-4
    # The largest inscribed circle is the disc itself: radius 0.8 m, so the bulge is 0.64 m high.
    assert float(bulge[80, 80]) == pytest.approx(0.64, rel=0.05)
    assert float(bulge[solid].max()) == float(bulge[76:84, 76:84].max())
    row = bulge[80][solid[80]]
    assert float(row[0]) < 0.15
    rising = row[: len(row) // 2]
    assert bool((rising[1:] >= rising[:-1] - 1e-4).all())


@pytest.mark.parametrize(("sprite", "share"), [(block(), 1.0), (disc(), math.pi / 4)])
def test_mask_covers_the_projected_area(sprite: composer.Pixels, share: float) -> None:
    item = Placement(sprite=sprite, centre=(0.0, 1.0, 3.0), side=1.1)
    scene = simple(item)
    mask = compose(scene).mask
    width, height = item.extent
    area = share * width * height * (scene.camera.focal / 3.0) ** 2
    assert float(mask.sum()) == pytest.approx(area, rel=0.01)
    assert float(mask.min()) == 0.0
    assert float(mask.max()) <= 1.0
    x, y, _ = scene.camera.project(item.centre)
    place = torch.arange(SIZE) + 0.5
    assert float((mask[0].sum(0) * place).sum() / mask.sum()) == pytest.approx(x, abs=0.1)
    assert float((mask[0].sum(1) * place).sum() / mask.sum()) == pytest.approx(y, abs=0.1)


def test_shrunk_sprites_do_not_alias() -> None:
    fine = block(224, 224)
    y, x = np.mgrid[:224, :224]
    fine[..., :3] = np.where((x + y) % 2, 255, 0)[..., None]
    item = Placement(sprite=fine, centre=(0.0, 1.0, 4.0), side=1.0)
    result = compose(simple(item))
    inside = result.image[:, result.mask[0] >= 0.999].float()
    assert inside.shape[1] > 300
    assert float(inside.std()) < 4.0
    assert float(inside.mean()) == pytest.approx(127.5, abs=3.0)


def test_nearer_objects_hide_farther_ones() -> None:
    main = Placement(sprite=block(), centre=(0.0, 1.0, 3.0), side=1.2)
    blocker = Placement(sprite=block(colour=(250, 250, 0)), centre=(0.3, 1.0, 2.0), side=0.8)
    alone = compose(simple(main))
    both = compose(replace(simple(main), objects=(main, blocker)))
    assert float(both.mask.sum()) < 0.8 * float(alone.mask.sum())
    behind = replace(blocker, centre=(0.0, 1.0, 4.0), side=0.5)
    unhidden = compose(replace(simple(main), objects=(main, behind)))
    assert torch.equal(unhidden.mask, alone.mask)


@pytest.mark.parametrize("degrees", [80.0, -80.0])
def test_a_thing_that_reaches_behind_the_camera_is_not_drawn(degrees: float) -> None:
    # At 80 degrees 1.48 m of a side of 3 m lie before its centre, which is 1 m away.
    main = Placement(sprite=block(), centre=(0.0, 1.0, 1.0), side=3.0, yaw=math.radians(degrees))
    assert not compose(simple(main)).mask.any()
    assert compose(simple(replace(main, centre=(0.0, 1.0, 2.0)))).mask.any()


# --------------------------------------------------------------------------------------------------
# Two views
# --------------------------------------------------------------------------------------------------


def posed_scene(number: int = 3, size: int = SIZE) -> tuple[Scene, Camera]:
    scene = composer.neutral(f"test-{number}", disc(), size)
    camera, _ = composer.second_camera(scene, f"test-{number}", angle=(-1) ** number * 17.0)
    return scene, camera


def test_correspondence_is_the_reprojection_of_the_depth() -> None:
    scene, camera = posed_scene()
    first, second = compose(scene), compose(scene, camera)
    pixels, visible = composer.correspondence(first, second)

    def pose(view: Camera) -> np.ndarray:
        # Rotation from the camera (x right, y down, z ahead) to the world, written independently:
        # pitch about x, then yaw about the vertical, then the flip from y down to y up.
        cp, sp, cy, sy = (f(a) for a in (view.pitch, view.yaw) for f in (math.cos, math.sin))
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        rotation: np.ndarray = yaw @ np.diag([1.0, -1.0, 1.0]) @ pitch
        return rotation

    k = np.array([[camera.focal, 0, SIZE / 2], [0, camera.focal, SIZE / 2], [0, 0, 1]])
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    homogeneous = np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    local = np.linalg.inv(k) @ homogeneous * first.depth.numpy().reshape(1, -1)
    world = pose(first.camera) @ local + np.array(first.camera.position)[:, None]
    there = k @ pose(camera).T @ (world - np.array(camera.position)[:, None])
    expected = (there[:2] / there[2]).reshape(2, SIZE, SIZE)
    seen = visible[0].numpy()
    error = np.abs(pixels.numpy() - expected)[:, seen]
    assert seen.mean() > 0.4
    assert error.max() < 0.5
    assert error.max() < 0.01


@pytest.mark.parametrize("number", [1, 2])
def test_second_view_shows_the_same_surface(number: int) -> None:
    scene, camera = posed_scene(number, 160)
    first, second = compose(scene), compose(scene, camera)
    pixels, visible = composer.correspondence(first, second)
    there, back_visible = composer.correspondence(second, first)
    grid = (pixels / 160 * 2 - 1).permute(1, 2, 0)[None]
    warped = F.grid_sample(second.image[None].float(), grid, align_corners=False)[0]
    # Away from edges, where a pixel mixes two surfaces.
    core = F.max_pool2d(1 - first.mask[None], 5, 1, 2)[0] < 0.01
    inner = core & visible
    assert float(inner.sum()) > 0.8 * float(core.sum())
    error = (warped - first.image.float()).abs().mean(0, keepdim=True)
    assert float(error[inner].mean()) < 6.0
    wrong = (warped.roll(7, 2) - first.image.float()).abs().mean(0, keepdim=True)
    assert float(wrong[inner].mean()) > 1.5 * float(error[inner].mean())
    # There and back again.
    returned = F.grid_sample(there[None], grid, align_corners=False)[0]
    home = torch.stack(
        torch.meshgrid(torch.arange(160) + 0.5, torch.arange(160) + 0.5, indexing="xy")
    )
    drift = (returned - home).norm(dim=0)[inner[0]]
    assert float(drift.median()) < 0.1
    assert float((drift < 0.5).float().mean()) > 0.97
    assert bool(back_visible.any())


def test_a_view_corresponds_to_itself() -> None:
    scene, _ = posed_scene()
    view = compose(scene)
    pixels, visible = composer.correspondence(view, view)
    place = torch.arange(SIZE) + 0.5
    assert bool(visible.all())
    assert float((pixels[0] - place[None, :]).abs().max()) < 1e-3
    assert float((pixels[1] - place[:, None]).abs().max()) < 1e-3


def test_marching_agrees_with_the_direct_view() -> None:
    """A camera an inch to the side goes the general way; a hair's breadth must not change the picture."""
    scene, _ = posed_scene()
    direct = compose(scene)
    x, y, z = scene.camera.position
    marched = compose(scene, replace(scene.camera, position=(x + 1e-6, y, z)))
    difference = (direct.image.int() - marched.image.int()).abs().float()
    assert float(difference.mean()) < 1.0
    both = (direct.mask > 0.99) & (marched.mask > 0.99)
    assert float((direct.mask - marched.mask).abs().mean()) < 0.003
    assert float((direct.depth - marched.depth)[both].abs().max()) < 0.01 * float(
        direct.depth.min()
    )


# --------------------------------------------------------------------------------------------------
# Purity
# --------------------------------------------------------------------------------------------------


def scenes() -> list[tuple[Scene, Camera | None]]:
    sprites = [disc(), block(), disc((240, 240, 240)), block(60, 200)]
    return [(composer.neutral(f"pure-{i}", sprites[i % 4], 56), None) for i in range(7)]


def same(a: composer.Rendering, b: composer.Rendering) -> bool:
    return (
        torch.equal(a.image, b.image)
        and torch.equal(a.depth, b.depth)
        and torch.equal(a.mask, b.mask)
    )


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(7)), cut=st.integers(1, 6))
def test_company_and_order_change_no_bit(order: list[int], cut: int) -> None:
    views = scenes()
    alone = [compose(scene) for scene, _ in views]
    drawn = composer.compose_all([views[i] for i in order[:cut]])
    drawn += composer.compose_all([views[i] for i in order[cut:]])
    assert all(same(picture, alone[i]) for picture, i in zip(drawn, order, strict=True))


def test_threads_change_no_bit() -> None:
    before = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(composer.compose_all(scenes()))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(same(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("size", [96, 224])
def test_a_wall_has_the_same_bits_with_any_number_of_threads(size: int) -> None:
    # All channels at once, torch interpolates them in another order with a single thread.
    small = torch.rand(1, 3, size // 3, size // 3, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        walls = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            walls.append(composer._full_wall(small, size))
    finally:
        torch.set_num_threads(before)
    assert walls[0].shape == (1, 3, size, size)
    assert all(torch.equal(walls[0], other) for other in walls[1:])
    torch.testing.assert_close(walls[0], F.interpolate(small, (size, size), mode="bilinear"))


def test_sample_ids_alone_decide_the_scene() -> None:
    sprite = disc()
    assert composer.neutral("a", sprite) == composer.neutral("a", sprite)
    assert composer.neutral("a", sprite).camera != composer.neutral("b", sprite).camera
    assert same(
        compose(composer.neutral("a", sprite, SIZE)),
        compose(composer.neutral("a", sprite.copy(), SIZE)),
    )


@pytest.mark.parametrize("number", range(8))
def test_neutral_scenes_show_one_object_in_the_middle(number: int) -> None:
    sprite = [disc(), block(), block(60, 200), block(224, 50)][number % 4]
    result = compose(composer.neutral(f"neutral-{number}", sprite, SIZE))
    rows = torch.nonzero(result.mask[0].amax(1) > 0.5)[:, 0]
    columns = torch.nonzero(result.mask[0].amax(0) > 0.5)[:, 0]
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    smallest, largest = composer.OBJECT_SHARE
    assert smallest - 0.04 <= max(height, width) / SIZE <= largest + 0.03
    assert abs(float(rows[0] + rows[-1]) / 2 / SIZE - 0.5) < 0.07
    assert abs(float(columns[0] + columns[-1]) / 2 / SIZE - 0.5) < 0.07


# --------------------------------------------------------------------------------------------------
# Factors
# --------------------------------------------------------------------------------------------------


def varied(factor: str, number: int = 0) -> tuple[composer.Rendering, composer.Rendering, Scene]:
    scene = composer.neutral(f"factor-{number}", disc(), SIZE)
    changed = composer.vary(
        scene,
        factor,
        f"factor-{number}",
        other_style=block(colour=(10, 200, 30)),
        companions=[block(50, 150), block(150, 60)],
    )
    return compose(scene), compose(changed), changed


@pytest.mark.parametrize("factor", composer.FACTORS)
@pytest.mark.parametrize("number", [0, 1])
def test_every_factor_shows_and_leaves_the_camera_alone(factor: str, number: int) -> None:
    before, after, scene = varied(factor, number)
    assert scene.camera == before.camera
    assert float((before.image.int() - after.image.int()).abs().float().mean()) > 0.5
    if factor != "background":
        assert (scene.wall_seed, scene.ground_seed) == (
            composer.hashed(f"factor-{number}", "wall"),
            composer.hashed(f"factor-{number}", "ground"),
        )
    if factor not in ("brighter", "darker"):
        # Where both show the bare wall or ground, away from shadows, nothing has changed.
        sky = (before.depth > 0.9 * scene.wall_distance) & (before.depth == after.depth)
        untouched = sky & (before.mask == 0) & (after.mask == 0)
        if factor not in ("background", "object_blocking", "multiple_objects"):
            assert bool(untouched.any())
            assert torch.equal(before.image[:, untouched[0]], after.image[:, untouched[0]])


@pytest.mark.parametrize("factor", ["color", "texture", "pattern"])
def test_repainting_leaves_everything_outside_the_object(factor: str) -> None:
    before, after, _ = varied(factor)
    assert torch.equal(before.mask, after.mask)
    assert torch.equal(before.depth, after.depth)
    outside = before.mask[0] == 0
    assert torch.equal(before.image[:, outside], after.image[:, outside])
    inside = before.mask[0] > 0.99
    change = (before.image[:, inside].int() - after.image[:, inside].int()).abs().amax(0)
    assert float((change > 20).float().mean()) > 0.5


@pytest.mark.parametrize("kind", ["color", "texture", "pattern", "tint"])
def test_no_paint_is_lighter_than_white(kind: str) -> None:
    """A white thing in half of the light has 128 levels at most, whatever it is painted with."""
    item = Placement(block(colour=(255, 255, 255)), (0.0, 1.0, 4.0), 2.0, relief=0.0)
    lightest = []
    for seed in range(4 if kind == "tint" else 24):
        painted = replace(item, paint=composer.Paint(kind, seed))
        found = compose(replace(simple(painted), exposure=0.5))
        lightest.append(int(found.image[:, found.mask[0] > 0.99].max()))
    assert max(lightest) <= 128
    assert max(lightest) >= 100  # so that a limit is met, or all but met


def test_background_leaves_the_object() -> None:
    before, after, _ = varied("background")
    assert torch.equal(before.mask, after.mask)
    assert torch.equal(before.depth, after.depth)
    solid = before.mask[0] == 1
    assert int(solid.sum()) > 500
    assert torch.equal(before.image[:, solid], after.image[:, solid])
    empty = before.mask[0] == 0
    change = (before.image[:, empty].int() - after.image[:, empty].int()).abs().amax(0)
    assert float((change > 8).float().mean()) > 0.7


@pytest.mark.parametrize("number", range(3))
def test_sizes_visibility_and_light(number: int) -> None:
    before, smaller, _ = varied("smaller", number)
    area = float(before.mask.sum())
    assert 0.08 < float(smaller.mask.sum()) / area < 0.25
    _, larger, _ = varied("larger", number)
    assert float(larger.mask.sum()) > 1.3 * area
    _, blocked, _ = varied("object_blocking", number)
    assert 0.3 < float(blocked.mask.sum()) / area < 0.8
    _, partial, _ = varied("partial_view", number)
    assert 0.3 < float(partial.mask.sum()) / area < 0.7
    edge = torch.cat([partial.mask[0, :, 0], partial.mask[0, :, -1]])
    assert float(edge.max()) > 0.9
    _, crowd, scene = varied("multiple_objects", number)
    assert len(scene.objects) == 3
    assert torch.equal(crowd.mask, before.mask)
    for factor, low, high in (("brighter", 1.4, 2.5), ("darker", 0.15, 0.45)):
        _, lit, _ = varied(factor, number)
        assert torch.equal(lit.depth, before.depth)
        fair = (before.image > 40) & (before.image < 120)
        ratio = lit.image[fair].float() / before.image[fair].float()
        assert low < float(ratio.median()) < high


@pytest.mark.parametrize("number", range(3))
def test_pose_turns_the_object_within_the_frame(number: int) -> None:
    _, after, scene = varied("pose", number)
    item = scene.objects[0]
    assert abs(item.roll) > 0.6 or abs(item.yaw) > 0.6
    assert item.centre[1] - item.lowest() > -1e-6
    border = torch.cat(
        [after.mask[0, 0], after.mask[0, -1], after.mask[0, :, 0], after.mask[0, :, -1]]
    )
    assert float(border.max()) == 0.0


@pytest.mark.parametrize("colour", [(220, 30, 30), (128, 128, 128), (245, 245, 245), (40, 90, 230)])
def test_color_changes_hue_and_keeps_lightness(colour: tuple[int, int, int]) -> None:
    scene = composer.neutral("hue", disc(colour), SIZE)
    before, after = compose(scene), compose(composer.vary(scene, "color", "hue"))
    inside = before.mask[0] > 0.99

    def mean(picture: composer.Rendering) -> Tensor:
        return picture.image[:, inside].float().mean(1)

    old, new = mean(before), mean(after)
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert float(new.max() - new.min()) > 25
    old_chroma, new_chroma = old - old.mean(), new - new.mean()
    if float(old_chroma.norm()) > 20:
        cosine = float(F.cosine_similarity(old_chroma, new_chroma, dim=0))
        assert cosine < 0.35
    lightness = float((old * weights).sum()), float((new * weights).sum())
    assert 0.5 < lightness[1] / lightness[0] < 1.15


def test_mistakes_are_named() -> None:
    scene = composer.neutral("x", disc(), SIZE)
    with pytest.raises(ClipRobustError, match="Did you mean 'pose'"):
        composer.vary(scene, "poze", "x")
    with pytest.raises(ClipRobustError, match="style"):
        composer.vary(scene, "style", "x")
    with pytest.raises(ClipRobustError, match="multiple_objects"):
        composer.vary(scene, "multiple_objects", "x")


def test_interior_shows_the_surface_without_the_outline() -> None:
    sprite = disc((0, 200, 0))
    y, x = np.mgrid[:160, :160]
    rim = np.hypot(x - 79.5, y - 79.5) > 74
    sprite[rim, :3] = (255, 0, 255)
    texture = composer.interior(sprite, 64)
    assert texture.shape == (3, 64, 64)
    assert float(texture[0].max()) < 0.05
    assert float(texture[1].max()) > 0.7
    assert float(texture[1].std()) > 0.1
    with pytest.raises(ClipRobustError, match="transparent"):
        composer.interior(np.zeros((8, 8, 4), np.uint8))


# --------------------------------------------------------------------------------------------------
# Procedural pictures
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [procedural.backgrounds, procedural.patterns])
def test_more_pictures_than_are_made_at_once(make: Callable[..., Tensor]) -> None:
    # 64 of this size are made at once, of one kind and of all.
    seeds = torch.arange(150)
    kinds = procedural.BACKGROUNDS if make is procedural.backgrounds else procedural.PATTERNS
    whole = make(seeds, 64, 64, kinds=kinds[:1])
    for row in (0, 63, 64, 127, 128, 149):
        assert torch.equal(make(seeds[row : row + 1], 64, 64, kinds=kinds[:1])[0], whole[row])
    assert len(whole.flatten(1).unique(dim=0)) == 150


@settings(max_examples=10, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**62), min_size=1, max_size=9, unique=True),
    height=st.sampled_from([17, 64, 75]),
    width=st.sampled_from([33, 64]),
    pattern=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
def test_procedural_pictures_are_functions_of_the_seed(
    seeds: list[int], height: int, width: int, pattern: bool, threads: int
) -> None:
    make = procedural.patterns if pattern else procedural.backgrounds
    before = torch.get_num_threads()
    together = make(torch.tensor(seeds), height, width)
    try:
        torch.set_num_threads(threads)
        single = torch.cat([make(torch.tensor([seed]), height, width) for seed in seeds])
    finally:
        torch.set_num_threads(before)
    assert together.shape == (len(seeds), 3, height, width)
    assert torch.equal(together, single)
    assert float(together.min()) >= 0.0
    assert float(together.max()) <= 1.0


@pytest.mark.parametrize("family", ["backgrounds", "patterns"])
def test_procedural_pictures_vary(family: str) -> None:
    make = getattr(procedural, family)
    names = procedural.BACKGROUNDS if family == "backgrounds" else procedural.PATTERNS
    for name in names:
        pictures = make(torch.arange(6), 48, 48, kinds=[name])
        # Different seeds, different pictures, none of them blank.
        assert float(torch.pdist(pictures.flatten(1)).min()) > 1.0
        assert float(pictures.flatten(1).std(1).min()) > 0.008
    table = procedural._BACKGROUNDS if family == "backgrounds" else procedural._PATTERNS
    kinds, drawn = procedural._draw(table, torch.arange(400), None)
    assert {kinds[index] for index in drawn.tolist()} == set(names)
    with pytest.raises(ClipRobustError, match="unknown procedural kind"):
        make(torch.arange(2), 8, 8, kinds=["strips"])


def test_patterns_are_bolder_than_backgrounds() -> None:
    assert not set(procedural.BACKGROUNDS) & set(procedural.PATTERNS)
    seeds = torch.arange(60)

    def detail(pictures: Tensor) -> Tensor:
        return (pictures[..., 1:] - pictures[..., :-1]).abs().mean(dim=(1, 2, 3))

    quiet = detail(procedural.backgrounds(seeds, 64, 64, grain=False))
    bold = detail(procedural.patterns(seeds, 64, 64))
    assert float(bold.median()) > 4 * float(quiet.median())


def test_the_interior_of_a_sprite_is_tiled_from_the_middle() -> None:
    sprite = np.zeros((60, 60, 4), np.uint8)
    sprite[..., 0], sprite[..., 1] = np.arange(60) * 4, np.arange(60)[:, None] * 4
    sprite[..., 3] = 255
    found = composer.interior(sprite, size=100)
    across, down = found[0, 50], found[1, :, 50]
    for line, other in ((across, found[0, 20]), (down, found[1, :, 20])):
        assert torch.allclose(line, other, atol=1e-5)  # each channel changes in its direction alone
        assert float(line[49:51].mean()) == pytest.approx(118 / 255, abs=0.01)
        steps = line.diff()
        assert bool((steps[30:70] > 0).all())
        # 2.5 tiles: mirrored once to each side.
        assert int((steps[1:].sign() != steps[:-1].sign()).sum()) <= 4
        assert bool((steps[:29] < 0).all())
        assert bool((steps[71:] < 0).all())
    sprite[..., 3] = 249
    with pytest.raises(ClipRobustError, match="transparent everywhere"):
        composer.interior(sprite)
