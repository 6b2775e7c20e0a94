"""Published pairs of pictures: SPair-71k, ScanNet and NAVI, on fixtures whose geometry is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_helpers import STEP_ASIDE, TURNS, WALL, navi_tree, painted, scannet_tree, spair_tree
from PIL import Image
from scipy.spatial.transform import Rotation

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.base import PairedDataset
from pytest_cliprobust.datasets.layouts import navi
from pytest_cliprobust.datasets.layouts.navi import _around, _View, rotation
from pytest_cliprobust.datasets.paired import (
    Seen,
    linked,
    onto,
    padded,
    read_levels,
    resized,
    rotation_between,
)
from pytest_cliprobust.datasets.reading import read_image
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.datasets.skipping import unreadable
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.properties import correspondence

SIDE = 32
TREES: dict[str, Callable[..., Path]] = {
    "spair-71k": spair_tree,
    "scannet": scannet_tree,
    "navi": navi_tree,
}


def load(layout: str, path: Path, **settings: Any) -> Any:
    return LAYOUTS[layout](path, **{"size": SIDE, **settings})


@pytest.mark.parametrize("layout", TREES)
def test_each_passes_its_check_and_is_what_the_suite_asks_for(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TREES[layout](tmp_path)
    assert cli.main(["data", "check", f"{layout}:{tmp_path}"]) == 0
    data = load(layout, tmp_path)
    made: object = data
    assert isinstance(made, PairedDataset)
    pairs = data.load_pairs(range(len(data)))
    assert pairs.first.ids == pairs.second.ids == data.ids
    assert pairs.first.images.shape == pairs.second.images.shape == (len(data), 3, SIDE, SIDE)
    assert torch.equal(data.load([1]).images[0], pairs.first.images[1])
    assert data.load_pairs([]).first.images.shape == (0, 3, SIDE, SIDE)
    role = "semantic_correspondence" if layout == "spair-71k" else "correspondence"
    assert f"{role} {layout}: {len(data)} samples" in capsys.readouterr().out
    for links in pairs.links[:1]:
        first, second = np.random.default_rng(1).normal(size=(2, 4, 3, 3))
        size = (SIDE, SIDE)
        rows = correspondence.match_pair(first, second, links, size, data.limits, data.limits_cm)
        assert np.isfinite(rows).all() == bool(data.limits_cm)
        assert rows.shape[1] == 9 + len(data.limits) + len(data.limits_cm)


@pytest.mark.parametrize("layout", TREES)
def test_what_a_pair_is_made_of_is_in_its_digest(layout: str, tmp_path: Path) -> None:
    TREES[layout](tmp_path)
    before = load(layout, tmp_path)
    copy = tmp_path.parent / f"{tmp_path.name}-copy"
    shutil.copytree(tmp_path, copy)
    assert load(layout, copy).digest == before.digest
    row = before._rows[0]
    for path in before._files[row.id]:
        shutil.copytree(tmp_path, copy, dirs_exist_ok=True)
        if path.endswith((".jpg", ".png")):
            painted(copy / path, (9, 9), 99)
        elif path.endswith(".json"):
            told = json.loads((copy / path).read_text())
            (copy / path).write_text(json.dumps(told, indent=3))
        elif path.endswith(".txt"):
            np.savetxt(copy / path, np.loadtxt(copy / path) * 2)
        else:
            continue
        after = load(layout, copy)
        assert after.sample_digests[0] != before.sample_digests[0], path


# --- SPair-71k -------------------------------------------------------------------------------------


def test_keypoints_and_box_are_those_of_the_annotation(tmp_path: Path) -> None:
    data = load("spair-71k", spair_tree(tmp_path), size=40)
    assert data.class_names == ("bus", "cat")
    row = data.ids.index("000002-2008_000001-2009_000001:cat")
    assert data.labels[row] == 1
    pairs = data.load_pairs([row])
    (links,) = pairs.links
    # 80 × 60 and 50 × 100, padded to squares: half a pixel of the new is one, and 1.25 of the old.
    first = np.array([[20, 30], [60, 40], [16, 12]]) + 0.5
    second = np.array([[10, 20], [40, 80], [25, 51]]) + 0.5
    assert np.allclose(links.points, first * 40 / 80)
    assert np.allclose(links.truth, second * 40 / 100)
    assert links.scale == pytest.approx(80 * 40 / 100)  # the longer side of the second box
    picture = read_image(tmp_path / "JPEGImages" / "cat" / "2009_000001.jpg")
    assert torch.equal(pairs.second.images[0], resized(padded(picture), 40))
    other = read_image(tmp_path / "JPEGImages" / "cat" / "2008_000001.jpg")
    for first_image in (pairs.first.images[0], data.load([row]).images[0]):
        assert torch.equal(first_image, resized(padded(other), 40))
    assert data.groups["viewpoint_variation"][row] == "viewpoint_medium"
    assert data.groups["occlusion"][row] == "occluded_second"
    assert set(data.subgroups) == set(data.groups) - {"class"}
    assert data.units[row] == "JPEGImages/cat/2008_000001.jpg"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trg_kps": []}, "has no keypoints that both"),
        ({"trg_bndbox": [5, 5, 5, 5]}, "a box without extent"),
        ({"occlusion": 4}, "is no annotation of a pair"),
        ({"src_imname": None, "src_kps": "x"}, "is no annotation of a pair"),
    ],
)
def test_broken_annotations_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    spair_tree(tmp_path, each=1)
    path = next((tmp_path / "PairAnnotation" / "test").iterdir())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ClipRobustError, match=words):
        load("spair-71k", tmp_path)


@pytest.mark.parametrize(
    ("box", "side"), [([5, 5, 25, 15], 20), ([5, 5, 15, 25], 20), ([5, 5, 15, 5], 10)]
)
def test_distances_are_shares_of_the_longer_side(
    tmp_path: Path, box: list[float], side: float
) -> None:
    spair_tree(tmp_path, each=1)
    for path in (tmp_path / "PairAnnotation" / "test").iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"trg_bndbox": box}))
    data = load("spair-71k", tmp_path, size=40)
    row = next(n for n, name in enumerate(data.ids) if name.endswith(":cat"))
    assert data.load_pairs([row]).links[0].scale == pytest.approx(side * 40 / 100)


# --- ScanNet ---------------------------------------------------------------------------------------


def test_a_step_aside_moves_the_wall_by_its_parallax(tmp_path: Path) -> None:
    data = load("scannet", scannet_tree(tmp_path), size=64)
    assert sorted(data.ids) == ["scene0700_00/0-15", "scene0701_00/0-15"]
    assert set(data.groups["angle"]) == {"0.0000"}
    (links,) = data.load_pairs([0]).links
    factor = 64 / 640
    shift = 400 * STEP_ASIDE / WALL * factor
    assert np.allclose(links.truth, links.points - torch.tensor([shift, 0.0]))
    assert links.scale == pytest.approx(4 * factor)
    assert len(links.points) == 20 * 40
    assert np.allclose(links.points[0], np.array([280 + 2, 200 + 2]) * factor)
    assert np.allclose(links.candidates, links.points)
    assert (data.limits, data.limits_cm) == ((5.0, 10.0, 20.0), ())
    assert data.angle_edges == (0, 15, 30, 60, 180)


def test_pictures_of_scannet_are_640_by_480_and_padded(tmp_path: Path) -> None:
    scannet_tree(tmp_path, scenes=1)
    folder = tmp_path / "scene0700_00" / "color"
    painted(folder / "0.jpg", (640, 480), 1)
    painted(folder / "15.jpg", (640, 480), 2)
    pair = load("scannet", tmp_path, size=64).load_pairs([0])
    for batch, frame in ((pair.first, 0), (pair.second, 15)):
        shown = resized(padded(read_image(folder / f"{frame}.jpg")), 64)
        assert torch.equal(batch.images[0], shown)
        assert int(shown[:, 50:].min()) == 255  # the lower quarter is white
    painted(folder / "0.jpg", (1296, 968), 1)
    larger = load("scannet", tmp_path, size=64).load([0]).images[0].double()
    assert (larger - pair.first.images[0].double()).abs().mean() < 3


def test_only_places_with_a_depth_are_matched(tmp_path: Path) -> None:
    """Every fourth pixel, the first of four; behind a wall at 2 m a shelf at 1 m is seen in its own place."""
    scannet_tree(tmp_path, scenes=1)
    depth = np.zeros((480, 640))
    depth[400, 600] = 1000
    depth[100:104, 200:204] = 2000
    depth[401:404, 0:4] = 3000  # between the places
    for frame in (0, 15):
        Image.fromarray(depth.astype(np.uint16)).save(
            tmp_path / "scene0700_00" / "depth" / f"{frame}.png"
        )
    (links,) = load("scannet", tmp_path, size=64).load_pairs([0]).links
    assert np.allclose(links.points, np.array([[202, 102], [602, 402]]) / 10)
    shift = 400 * STEP_ASIDE / np.array([2.0, 1.0])
    assert np.allclose(links.truth, np.array([[202 - shift[0], 102], [602 - shift[1], 402]]) / 10)
    assert np.allclose(links.candidates_3d[:, 2], [2.0, 1.0])
    assert np.allclose(links.candidates_3d[:, 0], [2 * (202 - 320) / 400, (602 - 320) / 400])
    Image.fromarray(depth[:240].astype(np.uint16)).save(
        tmp_path / "scene0700_00" / "depth" / "0.png"
    )
    with pytest.raises(ClipRobustError, match=r"0\.png' should be 640 × 480, and is 640 × 240"):
        load("scannet", tmp_path, size=64).load_pairs([0])


def test_a_turn_is_told_in_degrees(tmp_path: Path) -> None:
    scannet_tree(tmp_path, scenes=1)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("y", 25, degrees=True).as_matrix()
    np.savetxt(tmp_path / "scene0700_00" / "pose" / "15.txt", pose)
    assert load("scannet", tmp_path).groups["angle"] == ("25.0000",)


def test_mistakes_of_scannet(tmp_path: Path) -> None:
    scannet_tree(tmp_path, scenes=1)
    scene = tmp_path / "scene0700_00"
    (scene / "pose" / "15.txt").write_text("1 2 3\n")
    with pytest.raises(ClipRobustError, match="should hold four lines of four finite numbers"):
        load("scannet", tmp_path)
    (scene / "pose" / "15.txt").unlink()
    with pytest.raises(ClipRobustError, match=r"15.txt' cannot be read"):
        load("scannet", tmp_path)
    scannet_tree(tmp_path, scenes=1)
    painted(scene / "depth" / "0.png", (640, 480), 1)
    with pytest.raises(ClipRobustError, match="should be a picture of one channel"):
        load("scannet", tmp_path).load([0])
    (tmp_path / "intrinsics.npz").write_bytes((tmp_path / "test.npz").read_bytes())
    with pytest.raises(ClipRobustError, match=r"intrinsics.npz has no camera of scene0700_00"):
        load("scannet", tmp_path)
    np.savez(tmp_path / "test.npz", pairs=np.zeros(3))
    with pytest.raises(ClipRobustError, match=r"rows of room, scan and two frames.* it has pairs"):
        load("scannet", tmp_path)
    (tmp_path / "test.npz").write_bytes(b"version https://git-lfs")
    with pytest.raises(ClipRobustError, match="is no table of arrays"):
        load("scannet", tmp_path)


# --- NAVI ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [True, False])
def test_an_object_that_is_turned_turns_about_its_middle(tmp_path: Path, copies: bool) -> None:
    data = load("navi", navi_tree(tmp_path / "navi_v1", copies=copies), size=64)
    # Every fourth of five pictures of each object, each with a partner not further than 120° away.
    assert {name.partition("-")[0] for name in data.ids} == {
        f"{thing}/{number}" for thing in ("dino", "mug") for number in ("000", "004")
    }
    assert load("navi", tmp_path).ids == data.ids
    for row, name in enumerate(data.ids):
        one, _, other = name.partition("/")[2].partition("-")
        turn = TURNS[int(other)] - TURNS[int(one)]
        assert float(data.groups["angle"][row]) == pytest.approx(abs(turn), abs=1e-3)
        assert 0 < abs(turn) <= 120
        pair = data.load_pairs([row])
        for batch, view in ((pair.first, one), (pair.second, other)):
            file = f"{'downsampled_' if copies else ''}{view}.jpg"
            place = tmp_path / "navi_v1" / name.partition("/")[0] / "wild_set" / "images" / file
            shown = resized(read_image(place)[:, 30:90, 50:110], 64)
            assert torch.equal(batch.images[0], shown)
        (links,) = pair.links
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        turned = (links.points.numpy() - 32) @ np.array([[cos, sin], [-sin, cos]]) + 32
        assert np.allclose(links.truth, turned, atol=1e-6)
        assert links.scale == 64 / 512
        # The crop is the object: 60 pixels at a focal length of 150 and half a metre are 20 cm wide.
        assert links.candidates_3d is not None
        width = np.ptp(links.candidates_3d[:, 0].numpy())
        assert width == pytest.approx(0.2 * 127 / 128, rel=1e-3)
    assert (data.limits, data.limits_cm) == ((5.0, 25.0, 50.0), (1.0, 2.0, 5.0))
    assert data.angle_edges == correspondence.NAVI_ANGLES
    assert data.unit == "object"


def test_a_camera_of_navi_is_in_metres_and_in_shares_of_the_picture() -> None:
    camera = {"q": [1, 0, 0, 0], "t": [100.0, -200.0, 500.0], "focal_length": 1500.0}
    view = navi._view({"image_size": [1200, 1600], "camera": camera}, "a.jpg", "a.png", Path("t"))
    assert (view.picture, view.depth, view.focal) == ("a.jpg", "a.png", 1.25)
    wanted = np.array([[1, 0, 0, 0.1], [0, 1, 0, -0.2], [0, 0, 1, 0.5], [0, 0, 0, 1]])
    assert np.allclose(view.pose, wanted, atol=1e-12)


def test_a_pair_needs_both_of_its_pictures(tmp_path: Path) -> None:
    """Which cannot be read shows only where pairs are loaded."""
    data = load("spair-71k", spair_tree(tmp_path))
    assert not unreadable(data, lambda done, total: None).any()
    for path in sorted((tmp_path / "JPEGImages" / "cat").iterdir()):
        content = path.read_bytes()
        path.write_bytes(b"no picture")
        bad = unreadable(data, lambda done, total: None)
        wanted = [path.stem in row and row.endswith("cat") for row in data.ids]
        assert bad.tolist() == wanted
        assert sum(wanted) == 1
        path.write_bytes(content)


def test_mistakes_of_spair(tmp_path: Path) -> None:
    (tmp_path / "PairAnnotation" / "test").mkdir(parents=True)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(ClipRobustError, match=r"should hold <number>-<first>-.* has no such file"):
        load("spair-71k", tmp_path)


def test_mistakes_of_navi(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ClipRobustError, match=r"should hold <object>/wild_set/.* it has photos$"):
        load("navi", tmp_path)
    navi_tree(tmp_path, ("dino",))
    path = tmp_path / "dino" / "wild_set" / "annotations.json"
    told = json.loads(path.read_text())
    del told[1]["camera"]["q"]
    path.write_text(json.dumps(told))
    with pytest.raises(ClipRobustError, match="a picture lacks its size or camera"):
        load("navi", tmp_path)
    path.write_text(json.dumps(told[:1]))
    with pytest.raises(ClipRobustError, match="no two pictures of an object"):
        load("navi", tmp_path)
    path.write_text("{}{")
    with pytest.raises(ClipRobustError, match="is no list of annotations"):
        load("navi", tmp_path)


def test_what_is_no_turn_is_no_pair(tmp_path: Path) -> None:
    navi_tree(tmp_path, ("dino",))
    path = tmp_path / "dino" / "wild_set" / "annotations.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps([{**entry, "camera": told[0]["camera"]} for entry in told]))
    with pytest.raises(ClipRobustError, match="no two pictures of an object"):
        load("navi", tmp_path)


def test_places_of_the_first_view_are_looked_for_among_those_of_the_second(tmp_path: Path) -> None:
    data = load("navi", navi_tree(tmp_path, ("dino",)), size=64)
    second = tmp_path / data._files[data.ids[0]][1]
    levels = read_levels(second)
    levels[60:] = 0  # the lower half has no depth
    Image.fromarray(levels.astype(np.uint16)).save(second)
    (links,) = data.load_pairs([0]).links
    assert len(links.points) == len(links.truth) == 128**2 - 124**2
    assert len(links.candidates) == 2 * 128 + 62 * 4


#: Rows and columns of an object in a picture of 60 × 100, and the corner (left, top) and side of its square.
OBJECTS = (
    ((10, 20), (30, 60), (30, 0, 30)),
    ((20, 50), (40, 50), (30, 20, 30)),
    ((20, 51), (40, 50), (29, 20, 31)),
    ((55, 60), (20, 50), (20, 30, 30)),
    ((20, 50), (78, 80), (50, 20, 30)),
    ((20, 21), (20, 21), (20, 20, 1)),
    ((0, 60), (30, 40), (20, 0, 60)),
)


@pytest.mark.parametrize(("rows", "columns", "expected"), OBJECTS)
@pytest.mark.parametrize("upright", [False, True])
def test_the_square_about_an_object(
    rows: tuple[int, int],
    columns: tuple[int, int],
    expected: tuple[int, int, int],
    upright: bool,
    tmp_path: Path,
) -> None:
    there = np.zeros((60, 100), bool)
    there[slice(*rows), slice(*columns)] = True
    # Beyond the middle square, which goes from 20 to 80, nothing counts.
    there[30, [19, 80]] = True
    view = _View("a.jpg", "a.png", 1.25, np.eye(4))
    crop = _around(there.T if upright else there, view, tmp_path)
    left, top, side = expected
    assert (crop.left, crop.top) == ((top, left) if upright else (left, top))
    assert crop.side == side
    centre = (30, 50) if upright else (50, 30)
    assert np.array_equal(crop.camera, [[75, 0, centre[0]], [0, 75, centre[1]], [0, 0, 1]])


def test_an_object_outside_the_middle_square_is_none(tmp_path: Path) -> None:
    there = np.zeros((60, 100), bool)
    there[30, [19, 80]] = True
    with pytest.raises(ClipRobustError, match=r"a.png' has no depth anywhere"):
        _around(there, _View("a.jpg", "a.png", 1.0, np.eye(4)), tmp_path)


# --- Geometry --------------------------------------------------------------------------------------

QUATERNIONS = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(
    lambda q: float(np.linalg.norm(q)) > 0.1
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(QUATERNIONS, QUATERNIONS)
def test_rotations_are_those_of_scipy(first: list[float], second: list[float]) -> None:
    one, other = (Rotation.from_quat([*q[1:], q[0]]) for q in (first, second))
    assert np.allclose(rotation(np.array(first)), one.as_matrix(), atol=1e-12)
    expected = np.degrees((other * one.inv()).magnitude())
    found = rotation_between(rotation(np.array(first)), rotation(np.array(second)))
    assert found == pytest.approx(expected, abs=1e-4)


def test_places_are_projected_by_the_camera() -> None:
    camera = np.array([[100.0, 0, 50], [0, 200, 40], [0, 0, 1]])
    assert np.allclose(onto(camera, np.array([[1.0, 2.0, 4.0]])), [[75.0, 140.0]])
    # In the camera's plane and behind it: far away, on the side where it is.
    assert np.allclose(onto(camera, np.array([[1.0, 2.0, 0.0]])), [[1e11, 4e11]])
    assert np.allclose(onto(camera, np.array([[1.0, 2.0, -1.0]])), [[5e10, 3.6e11]])


@pytest.mark.parametrize("counts", [(1, 2), (2, 1), (0, 5)])
def test_a_view_needs_two_places(counts: tuple[int, int]) -> None:
    first, second = (Seen(np.zeros((n, 2)), np.zeros((n, 3))) for n in counts)
    with pytest.raises(ClipRobustError, match="hardly a place"):
        linked(first, second, np.eye(4), lambda surface: surface[:, :2], 1.0)


def test_places_move_with_the_camera() -> None:
    """A quarter turn about the axis of sight, then a step: (x, y, z) is seen at (-y, x, z) + (1, 2, 3)."""
    first = Seen(np.array([[4.0, 5.0], [6.0, 7.0]]), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    second = Seen(np.array([[8.0, 9.0], [1.0, 1.0]]), np.array([[7.0, 8.0, 9.0], [0.0, 1.0, 2.0]]))
    pose = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    links: Any = linked(first, second, pose, lambda surface: surface[:, :2] * 10, 0.5)
    assert links.truth_3d.tolist() == [[-1, 3, 6], [-4, 6, 9]]
    assert links.truth.tolist() == [[-10, 30], [-40, 60]]
    assert links.points.tolist() == first.places.tolist()
    assert links.candidates.tolist() == second.places.tolist()
    assert links.candidates_3d.tolist() == second.surface.tolist()
    assert links.scale == 0.5


def test_pictures_are_padded_with_white_and_levels_are_of_one_channel(tmp_path: Path) -> None:
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    square = padded(image)
    assert square.shape == (3, 6, 6)
    assert int(square[:, 4:].min()) == 255
    assert int(square[:, :4].max()) == 0
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ClipRobustError, match=r"cannot read .*a.png"):
        read_levels(tmp_path / "a.png")
