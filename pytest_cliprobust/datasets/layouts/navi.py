"""NAVI (Jampani et al. 2023): objects photographed from all sides, with depth and camera.

``<object>/wild_set/{images/<id>.jpg, depth/<id>.png, annotations.json}``, with the smaller copies
``downsampled_<id>`` that Probe3D makes in place of each where they are there. Depth is an inverse in 16 bits
(0: no surface); the annotation holds the size of the picture, the focal length in its pixels, and the pose
from the object to the camera, a quaternion (w, x, y, z) and millimetres.

As in Probe3D (El Banani et al. 2024) every fourth picture of ``wild_set`` gets a partner at most 120° away,
pictures are cropped to the object, and places are a grid of 128 × 128 on the crop, distances in pixels of a
crop of 512. There partners are drawn by a generator over whatever order the files come in; here by a hash of
their names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from pytest_cliprobust.datasets.base import Links
from pytest_cliprobust.datasets.layouts.imagefolder import natural_key
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, shuffled, tree_of, what_is_there
from pytest_cliprobust.datasets.paired import (
    Judged,
    Paired,
    Seen,
    drawn,
    linked,
    onto,
    read_levels,
    resized,
    rotation_between,
)
from pytest_cliprobust.datasets.reading import read_image
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.figures.arrays import Floats

#: Probe3D's thresholds in pixels of a crop of :data:`CROP` and in centimetres, its bins of viewpoint change.
LIMITS, LIMITS_CM, ANGLES = (5.0, 25.0, 50.0), (1.0, 2.0, 5.0), (0.0, 30.0, 60.0, 90.0, 120.0)
CROP, GRID = 512, 128

_SET, _EACH, _FURTHEST = "wild_set", 4, 120.0

#: From a level of the depth picture to metres: millimetres are 655,350 over the level.
_INVERSE = 655.35


@dataclass(frozen=True)
class _View:
    """A picture of an object.

    Attributes:
        picture, depth: paths relative to the root.
        focal: focal length over the shorter side of the picture.
        pose: (4, 4) from the object to the camera, in metres.
    """

    picture: str
    depth: str
    focal: float
    pose: Floats


@register_layout(
    "navi",
    plays=("correspondence",),
    path="the folder navi_v1 of <object>/wild_set",
    source="Jampani et al. 2023, github.com/google/navi",
    licence="Apache 2.0 (code); the pictures' is not stated beside it",
    published=True,
)
def navi(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return pairs of pictures of one object, in an order of which a prefix is a random sample.

    Raises:
        ClipRobustError: there are no objects, or an annotation lacks something.
    """
    folder = Path(root)
    if (folder / "navi_v1").is_dir():
        folder = folder / "navi_v1"
    objects = [n for n in tree_of(folder, "navi").folders() if (folder / n / _SET).is_dir()]
    if not objects:
        raise ClipRobustError(
            f"navi: {str(folder)!r} should hold <object>/{_SET}/annotations.json with images and depth; it "
            f"has {what_is_there(folder)}"
        )
    rows: list[Row] = []
    pairs: dict[str, tuple[_View, _View]] = {}
    for name in objects:
        for row, views in _pairs_of(folder, name):
            rows.append(row)
            pairs[row.id] = views
    if not rows:
        raise ClipRobustError(
            f"navi: no two pictures of an object in {str(folder)!r} are at most {_FURTHEST:g}° apart"
        )

    def load(name: str, side: int) -> tuple[Tensor, Tensor, Links]:
        return _load(folder, *pairs[name], side)

    files = {
        row.id: (
            *(view.depth for view in pairs[row.id]),
            pairs[row.id][1].picture,
            f"{row.columns['object']}/{_SET}/annotations.json",
        )
        for row in rows
    }
    judged = Judged(LIMITS, ANGLES, LIMITS_CM)
    data = Paired(
        "navi", folder, shuffled(rows), Labels(), files, load, judged, "object", **options
    )
    data.subgroups = ()  # type: ignore[attr-defined]
    return data


def _pairs_of(root: Path, name: str) -> Iterator[tuple[Row, tuple[_View, _View]]]:
    views = _views_of(root, name)
    ids = sorted(views, key=natural_key)
    for one in ids[::_EACH]:
        near = {
            other: angle
            for other in ids
            if other != one
            and 0.0 < (angle := rotation_between(views[one].pose, views[other].pose)) <= _FURTHEST
        }
        if near:
            other = min(near, key=lambda other: drawn(name, one, other))
            row = Row(
                f"{name}/{one}-{other}",
                views[one].picture,
                columns={"angle": f"{near[other]:.4f}", "object": name},
                unit=name,
            )
            yield row, (views[one], views[other])


def _views_of(root: Path, name: str) -> dict[str, _View]:
    """Return the views of an object that have a picture and a depth."""
    inner = f"{name}/{_SET}"
    path = root / inner / "annotations.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        entries = {str(entry["filename"]).partition(".")[0]: entry for entry in told}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClipRobustError(
            f"navi: {str(path)!r} is no list of annotations ({brief(error)})"
        ) from None
    found = {}
    for key, entry in entries.items():
        picture = _there(root, f"{inner}/images", key, "jpg")
        depth = _there(root, f"{inner}/depth", key, "png")
        if picture and depth:
            found[key] = _view(entry, picture, depth, path)
    return found


def _there(root: Path, folder: str, key: str, ending: str) -> str:
    """Return the smaller copy of a file, or the file; empty if neither is there."""
    names = (f"{folder}/downsampled_{key}.{ending}", f"{folder}/{key}.{ending}")
    return next((name for name in names if (root / name).is_file()), "")


def _view(entry: Mapping[str, Any], picture: str, depth: str, path: Path) -> _View:
    try:
        camera = entry["camera"]
        focal = float(camera["focal_length"]) / min(float(x) for x in entry["image_size"])
        pose = np.eye(4)
        pose[:3, :3] = rotation(np.array(camera["q"], dtype=np.float64))
        pose[:3, 3] = np.array(camera["t"], dtype=np.float64) / 1000.0
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ClipRobustError(
            f"navi: {str(path)!r}: a picture lacks its size or camera ({brief(error)})"
        ) from None
    return _View(picture, depth, focal, pose)


def rotation(quaternion: Floats) -> Floats:
    """Return the rotation (3, 3) that a quaternion (w, x, y, z) of any length stands for."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True)
class _Crop:
    """A square of a picture: its corner and side in pixels, and the camera in those pixels (3, 3)."""

    left: int
    top: int
    side: int
    camera: Floats


def _load(root: Path, first: _View, second: _View, side: int) -> tuple[Tensor, Tensor, Links]:
    pictures, seen, crops = [], [], []
    for view in (first, second):
        picture, crop, found = _cropped(root, view, side)
        pictures.append(picture)
        crops.append(crop)
        seen.append(found)
    into = crops[1]

    def project(surface: Floats) -> Floats:
        places = onto(into.camera, surface) - (into.left, into.top)
        return np.asarray(places * side / into.side)

    pose = second.pose @ np.linalg.inv(first.pose)
    links = linked(seen[0], seen[1], pose, project, side / CROP)
    return pictures[0], pictures[1], links


def _cropped(root: Path, view: _View, side: int) -> tuple[Tensor, _Crop, Seen]:
    """Return the square around the object, and the places of its grid that lie on it."""
    image = read_image(root / view.picture)
    levels = read_levels(root / view.depth)
    height, width = image.shape[-2:]
    rows, columns = (
        (np.arange(n) * size) // n for n, size in zip((height, width), levels.shape, strict=True)
    )
    levels = levels[rows][:, columns]
    depth = np.divide(_INVERSE, levels, out=np.zeros_like(levels), where=levels > 0)
    crop = _around(depth > 0, view, root)
    square = (slice(crop.top, crop.top + crop.side), slice(crop.left, crop.left + crop.side))
    return resized(image[:, square[0], square[1]], side), crop, _grid(depth[square], crop, side)


def _around(there: np.ndarray[Any, Any], view: _View, root: Path) -> _Crop:
    """Return the square around the object in the middle square of its picture."""
    height, width = there.shape
    whole = min(height, width)
    top, left = (height - whole) // 2, (width - whole) // 2
    inside = there[top : top + whole, left : left + whole]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        raise ClipRobustError(f"navi: {str(root / view.depth)!r} has no depth anywhere")
    side = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    corner = [
        int(np.clip((ends[0] + ends[-1] + 1 - side) // 2, 0, whole - side))
        for ends in (rows, columns)
    ]
    focal = view.focal * whole
    camera = np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])
    return _Crop(left + corner[1], top + corner[0], side, camera)


def _grid(depth: Floats, crop: _Crop, side: int) -> Seen:
    """Return the places of the grid whose nearest pixel has a depth."""
    y, x = (axis.ravel() + 0.5 for axis in np.mgrid[:GRID, :GRID])
    within = np.stack([x, y], axis=1) * crop.side / GRID
    columns, rows = within.astype(np.int64).T
    far = depth[rows, columns]
    places, far = within[far > 0], far[far > 0]
    whole = places + np.array([crop.left, crop.top])
    rays = np.concatenate([whole, np.ones((len(places), 1))], axis=1)
    surface = rays @ np.linalg.inv(crop.camera).T * far[:, None]
    return Seen(places * side / crop.side, surface)
