"""ScanNet's 1,500 test pairs (Dai et al. 2017; pairs of SuperGlue, as LoFTR publishes them).

``test.npz`` names them (``name``: room, scan, first and second frame), ``intrinsics.npz`` holds the camera of
each scene; ``scene<room>_<scan>/{color/<frame>.jpg, depth/<frame>.png, pose/<frame>.txt}``. Depth is in
millimetres, 640 × 480, and a pose leads from the camera to the room. Probe3D judges matches by pixels at a
quarter of that resolution.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from pytest_cliprobust.datasets.base import Links
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, place_of, shuffled
from pytest_cliprobust.datasets.paired import (
    Judged,
    Paired,
    Seen,
    linked,
    onto,
    padded,
    read_levels,
    resized,
    rotation_between,
)
from pytest_cliprobust.datasets.reading import read_image
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.figures.arrays import Floats

_WIDTH, _HEIGHT = 640, 480

#: Probe3D matches every fourth pixel, and counts distances in fours of pixels.
_STEP = 4

#: Probe3D's thresholds, and its bins of viewpoint change.
LIMITS, ANGLES = (5.0, 10.0, 20.0), (0.0, 15.0, 30.0, 60.0, 180.0)


@register_layout(
    "scannet",
    plays=("correspondence",),
    path="the folder scannet_test_1500 with test.npz and intrinsics.npz",
    source="Dai et al. 2017, www.scan-net.org; pairs of github.com/zju3dv/LoFTR",
    licence="ScanNet Terms of Use, after agreement",
    published=True,
)
def scannet(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ScanNet's test pairs, in an order of which a prefix is a random sample.

    Raises:
        ClipRobustError: a table, a camera or a pose is missing or of another form.
    """
    folder = Path(root)
    table = _table(place_of(folder, "ScanNet test set", "test.npz"))
    cameras = _table(place_of(folder, "ScanNet test set", "intrinsics.npz"))
    names = np.asarray(table.get("name", ()))
    if names.ndim != 2 or names.shape[1] != 4 or not len(names):
        raise ClipRobustError(
            f"scannet: test.npz should have rows of room, scan and two frames under 'name'; it has "
            f"{', '.join(table) or 'nothing'}"
        )
    rows, files = [], {}
    for room, scan, first, second in names.tolist():
        scene = f"scene{int(room):04d}_{int(scan):02d}"
        if scene not in cameras:
            raise ClipRobustError(f"scannet: intrinsics.npz has no camera of {scene}")
        one, other = f"{scene}/{{}}/{int(first)}", f"{scene}/{{}}/{int(second)}"
        angle = rotation_between(
            *(_pose(folder / f"{view.format('pose')}.txt") for view in (one, other))
        )
        row = Row(
            f"{scene}/{int(first)}-{int(second)}",
            f"{one.format('color')}.jpg",
            columns={"angle": f"{angle:.4f}", "scene": scene},
            unit=scene,
        )
        rows.append(row)
        files[row.id] = (
            f"{other.format('color')}.jpg",
            *(f"{v.format('depth')}.png" for v in (one, other)),
            *(f"{v.format('pose')}.txt" for v in (one, other)),
            "intrinsics.npz",
        )

    def load(name: str, side: int) -> tuple[Tensor, Tensor, Links]:
        scene, _, frames = name.partition("/")
        return _load(folder / scene, frames.split("-"), cameras[scene], side)

    judged = Judged(LIMITS, ANGLES)
    data = Paired(
        "scannet", folder, shuffled(rows), Labels(), files, load, judged, "scene", **options
    )
    data.subgroups = ()  # type: ignore[attr-defined]
    return data


def _table(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ClipRobustError(
            f"scannet: {str(path)!r} is no table of arrays ({brief(error)})"
        ) from None


def _pose(path: Path) -> Floats:
    """Return a pose (4, 4), from the camera to the room."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        pose = np.array([line.split() for line in lines if line.strip()], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"scannet: {str(path)!r} cannot be read ({brief(error)})") from None
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise ClipRobustError(
            f"scannet: {str(path)!r} should hold four lines of four finite numbers"
        )
    return pose


def _load(scene: Path, frames: list[str], camera: Any, side: int) -> tuple[Tensor, Tensor, Links]:
    """Return a pair: pictures of 640 × 480, padded to squares with white."""
    matrix, factor = np.asarray(camera, dtype=np.float64)[:3, :3], side / _WIDTH
    pictures = [_picture(scene / "color" / f"{frame}.jpg", side) for frame in frames]
    seen = [_seen(scene / "depth" / f"{frame}.png", matrix, factor) for frame in frames]
    poses = [_pose(scene / "pose" / f"{frame}.txt") for frame in frames]
    links = linked(
        seen[0],
        seen[1],
        np.linalg.inv(poses[1]) @ poses[0],
        lambda surface: onto(matrix, surface) * factor,
        _STEP * factor,
    )
    return pictures[0], pictures[1], links


def _picture(path: Path, side: int) -> Tensor:
    from torchvision.transforms.v2 import functional as V

    image = V.resize(
        read_image(path),
        [_HEIGHT, _WIDTH],
        interpolation=V.InterpolationMode.BICUBIC,
        antialias=True,
    )
    return resized(padded(image), side)


def _seen(path: Path, matrix: Floats, factor: float) -> Seen:
    """Return every fourth place of a frame that has a depth."""
    depth = read_levels(path) / 1000.0
    if depth.shape != (_HEIGHT, _WIDTH):
        raise ClipRobustError(
            f"scannet: {str(path)!r} should be {_WIDTH} × {_HEIGHT}, and is {depth.shape[1]} × "
            f"{depth.shape[0]}"
        )
    # As interpolating to a quarter does by the nearest pixel: the first of four.
    y, x = (axis.ravel() for axis in np.mgrid[: _HEIGHT // _STEP, : _WIDTH // _STEP])
    far = depth[::_STEP, ::_STEP].ravel()
    places = np.stack([x + 0.5, y + 0.5], axis=1)[far > 0] * _STEP
    rays = np.concatenate([places, np.ones((len(places), 1))], axis=1) @ np.linalg.inv(matrix).T
    return Seen(places * factor, rays * far[far > 0][:, None])
