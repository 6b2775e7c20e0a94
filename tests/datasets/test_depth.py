"""Depth from files and from estimators: the right pixels, knowingly normalised, cached, errors named."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from pytest_cliprobust.cache import FeatureCache
from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.datasets.depth import base, files
from pytest_cliprobust.datasets.depth.estimator import CHUNK, DepthEstimator
from pytest_cliprobust.datasets.depth.estimator_loading import _check_processor
from pytest_cliprobust.datasets.depth.files import DepthFiles
from pytest_cliprobust.datasets.depth.loading import load_depth_source
from pytest_cliprobust.datasets.embedded import EmbeddedDataset
from pytest_cliprobust.datasets.framing import Framing
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.engine.encoding import Encoder
from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.figures.condition import Step
from pytest_cliprobust.targets.base import TargetInfo
from pytest_cliprobust.targets.naflex import NaFlexPreprocessing
from pytest_cliprobust.targets.preprocessing import Preprocessing

pytestmark = pytest.mark.floors

SIZE = 64


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture (H, W, 3) uint8 whose grey tells its depth (H, W): metres = 1 + grey / 50."""
    y, x = np.mgrid[:height, :width]
    grey = (40 + 160 * y / height + 40 * (x > width * 0.6)).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), (1 + grey / 50).astype(np.float32)


def photos(root: Path, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Write pictures, two a class, and return their depth."""
    maps = []
    for number, (height, width) in enumerate(sizes):
        folder = root / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels, metres = scene(height, width)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        maps.append(metres)
    return maps


def write_exr(path: Path, values: np.ndarray, channel: str = "Z") -> None:
    OpenEXR = pytest.importorskip("OpenEXR", reason="part of the test extra")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {channel: values.astype(np.float32)}).write(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> tuple[ImageFolder, Path]:
    """Images of several shapes, and depth maps in a folder that mirrors them, in three formats."""
    maps = photos(tmp_path / "images", [(90, 130), (150, 80), (64, 64), (77, 200)])
    for number, metres in enumerate(maps):
        target = tmp_path / "depth" / ("cat", "dog")[number % 2]
        target.mkdir(parents=True, exist_ok=True)
        if number == 0:
            np.save(target / "0.npy", metres)
        elif number == 1:
            Image.fromarray((metres * 1000).round().astype(np.uint16)).save(target / "1.png")
        elif number == 2:
            write_exr(target / "2_depth.exr", metres)
        else:
            np.save(target / "3.png.npy", metres[..., None].astype(np.float16))
    images = ImageFolder(tmp_path / "images", size=SIZE, cache=tmp_path / "digests")
    return images, tmp_path / "depth"


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_maps_follow_the_frame_of_their_images(folder: Any, mode: Any) -> None:
    images, where = folder
    preprocessing = Preprocessing((SIZE, SIZE), resize_mode=mode)
    images._frame = preprocessing.frame
    batch = images.load(range(4))
    found = DepthFiles(where).depth(images, batch.ids)
    assert found.shape == (4, 1, SIZE, SIZE)
    assert found.dtype == torch.float32
    expected = 1 + batch.images[:, :1].to(torch.float32) / 50
    inside = batch.images[:, :1] > 0  # padding is black, and no picture is
    error = (found - expected).abs()[inside]
    # A grey level is 0.02 m; half a pixel along the slope is up to 0.03 m.
    assert error.median() < 0.02
    assert error.quantile(0.95) < 0.06  # the step in depth is sharp, the picture's is not


def test_positions_are_exact() -> None:
    for height, width in ((300, 500), (500, 333), (64, 64), (30, 1500), (7, 5)):
        preprocessing = Preprocessing((224, 224))
        rows, columns = files.frame_positions(
            functools.partial(preprocessing.frame, size=224), height, width
        )
        scale = min(height, width) / 224
        for found, length in ((rows, height), (columns, width)):
            resized = int(224 * length / min(height, width))
            start = round((resized - 224) / 2)
            expected = (np.arange(224) + start + 0.5) * length / resized - 0.5
            assert np.abs(found - expected).max() < max(0.06 * scale, 0.1)


@pytest.mark.parametrize("fill", [(120, 128, 0), (120, 0, 255), (120, 120, 120)])
def test_positions_beside_padding_in_colours_of_the_probe(fill: tuple[int, int, int]) -> None:
    padded = Preprocessing((64, 64), resize_mode="longest", fill=fill)
    frame = functools.partial(padded.frame, size=64)
    place = np.arange(64) + 0.5
    for height, width in ((40, 90), (90, 40)):
        along, across = files.frame_positions(frame, height, width)
        if height < width:
            along, across = across, along
        assert np.abs(along - (place * 90 / 64 - 0.5)).max() < 0.1
        # 40 become 28 of 64 pixels, with 18 on either side.
        assert np.abs(across - ((place - 18) * 40 / 28 - 0.5)).max() < 0.2


def test_positions_of_a_small_part() -> None:
    rows, columns = files.frame_positions(lambda image: image[:, 100:108, 290:302], 200, 302)
    assert np.abs(rows - np.arange(100, 108)).max() < 0.01
    assert np.abs(columns - np.arange(290, 302)).max() < 0.01


def test_positions_where_there_is_nothing_to_fit() -> None:
    """A line needs two places: of one row, or of a frame that shows one colour, it is the middle."""
    squash = functools.partial(Preprocessing((8, 8), resize_mode="squash").frame, size=8)
    rows, columns = files.frame_positions(squash, 1, 9)
    assert rows.tolist() == [0.0] * 8
    assert np.abs(columns - ((np.arange(8) + 0.5) * 9 / 8 - 0.5)).max() < 0.1
    rows, columns = files.frame_positions(lambda image: image[:, :1, :1].expand(3, 4, 6), 21, 31)
    assert rows.tolist() == [10.0] * 4
    assert columns.tolist() == [15.0] * 6


def test_the_nearest_pixels_of_a_map_of_half_the_size() -> None:
    places = np.array([-3.0, 0.0, 1.0, 4.2, 9.7, 99.0])
    assert files._nearest(places, 10, 5).tolist() == [0, 0, 0, 2, 4, 4]
    assert files._nearest(places[1:4], 10, 20).tolist() == [0, 2, 9]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_picture_as_it_is_seen(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (7, 3)).save(tmp_path / "x.png", exif=exif)
    expected = (3, 7) if orientation < 5 else (7, 3)
    assert files.upright_size(tmp_path / "x.png") == expected


def test_which_of_several_maps_is_taken(tmp_path: Path) -> None:
    photos(tmp_path, [(8, 8)])
    images = ImageFolder(tmp_path, size=SIZE, cache=tmp_path / "digests")
    (tmp_path / "maps" / "cat").mkdir(parents=True)
    source = DepthFiles(tmp_path / "maps")
    order = [f"{stem}{suffix}" for stem in ("0", "0_depth", "0.png") for suffix in files.SUFFIXES]
    for name in reversed(order):
        path = tmp_path / "maps" / "cat" / name
        path.touch()
        assert source.find(images, "cat/0.png") == path
    # Beside the pictures a picture is no map of itself.
    (tmp_path / "cat" / "0_depth.npy").touch()
    beside = DepthFiles(tmp_path)
    assert beside.find(images, "cat/0.png") == tmp_path / "cat" / "0_depth.npy"


def test_maps_next_to_the_images(tmp_path: Path) -> None:
    maps = photos(tmp_path, [(64, 64), (64, 64)])
    np.save(tmp_path / "cat" / "0.npy", maps[0])
    np.save(tmp_path / "dog" / "1_depth.npy", maps[1] * 2)
    images = ImageFolder(tmp_path, size=SIZE, cache=tmp_path / "digests")
    assert len(images) == 2
    source = load_depth_source(str(tmp_path))
    assert isinstance(source, DepthFiles)
    found = source.depth(images, images.ids)
    assert torch.equal(found[0, 0], torch.from_numpy(maps[0]))
    assert torch.equal(found[1, 0], torch.from_numpy(maps[1] * 2))


def test_maps_of_another_size_but_the_same_shape(tmp_path: Path) -> None:
    maps = photos(tmp_path / "images", [(120, 160), (120, 160)])
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / "depth" / name).mkdir(parents=True)
        np.save(tmp_path / "depth" / name / f"{number}.npy", maps[number][::2, ::2])
    images = ImageFolder(tmp_path / "images", size=SIZE, cache=tmp_path / "digests")
    found = DepthFiles(tmp_path / "depth").depth(images, images.ids)
    expected = 1 + images.load([0, 1]).images[:, :1].to(torch.float32) / 50
    assert (found - expected).abs().median() < 0.03


def test_a_picture_turned_by_exif(tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    pixels, metres = scene(90, 140)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turned clockwise to be seen
    stored = np.rot90(pixels, 1)
    Image.fromarray(stored).save(tmp_path / "images" / "cat" / "0.png", exif=exif)
    (tmp_path / "depth" / "cat").mkdir(parents=True)
    np.save(tmp_path / "depth" / "cat" / "0.npy", metres)
    images = ImageFolder(tmp_path / "images", size=SIZE, cache=tmp_path / "digests")
    found = DepthFiles(tmp_path / "depth").depth(images, images.ids)
    expected = 1 + images.load([0]).images[:, :1].to(torch.float32) / 50
    assert (found - expected).abs().median() < 0.02


def test_pixels_without_a_measurement_are_far(folder: Any) -> None:
    images, where = folder
    path = where / "cat" / "0.npy"
    metres = np.load(path)
    metres[:45], metres[45, :40], metres[45, 40:60], metres[46] = 0, np.nan, np.inf, -1
    np.save(path, metres)
    found = DepthFiles(where).depth(images, ["cat/0.png"])
    assert bool(found.isfinite().all())
    assert found[0, 0, 0].min() == metres[47:].max() == found.max()
    assert found.min() > 1


@pytest.mark.parametrize(
    ("kind", "expected"), [("metric", [0.25, 0.5, 0.5]), ("inverse", [0.25, 0.5, -1.0])]
)
def test_how_far_a_pixel_is_that_was_not_measured(kind: Any, expected: list[float]) -> None:
    """A distance below a metre is one; disparity, known up to a shift, may be negative."""
    values = np.array([[0.25, 0.5, -1.0]], np.float32)
    found = base.filled(values, kind)
    assert found is not None
    assert found[0].tolist() == expected
    values[0, 1] = np.nan
    found = base.filled(values, kind)
    assert found is not None
    assert found[0, 1] == (0.25 if kind == "metric" else -1.0)


def test_frames_differ_by_what_they_make_of_pictures_on_end() -> None:
    class Frames:
        root = Path("photos")

        def __init__(self, on_end: int) -> None:
            self.on_end = on_end

        def frame(self, image: torch.Tensor) -> torch.Tensor:
            height, width = image.shape[1:]
            first = self.on_end if height > width else 0
            return image[:, first : first + 8, :8]

    assert base.frame_identity(object()) == ""
    same = base.frame_identity(Frames(0))
    assert base.frame_identity(Frames(0)) == same
    assert base.frame_identity(Frames(1)) != same


def test_inverse_depth_is_inverted_as_the_reference_does() -> None:
    disparity = torch.tensor([10.0, 10 + 1 / 640, 15.0, 20.0]).view(1, 1, 2, 2)
    found = base.depth_from_disparity(disparity).flatten()
    # MiDaS's file: stretched to 65535; the reference: /512, inverted, clamped at 0.5; times 128.
    stored = (disparity - 10) / 10 * 65535
    reference = (1 / (stored / 512 + 1e-6)).clamp(max=0.5).flatten()
    torch.testing.assert_close(found / 128, reference, rtol=2e-4, atol=1e-6)
    assert found.tolist() == [64, 64, 2, 1]
    shifted = base.depth_from_disparity(disparity * 7 + 3).flatten()
    torch.testing.assert_close(shifted, found)
    assert torch.equal(base.depth_from_disparity(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))
    odd = torch.tensor([2.0, 1.0, math.nan, math.inf, -math.inf, 0.0]).view(1, 1, 2, 3)
    assert base.depth_from_disparity(odd).flatten().tolist() == [1, 2, 64, 64, 64, 64]
    both = torch.stack((odd[0] * math.nan, odd[0]))
    assert base.depth_from_disparity(both).amin((1, 2, 3)).tolist() == [64, 1]


def test_kinds_of_files(folder: Any) -> None:
    images, where = folder
    metric = DepthFiles(where)
    (where / "depth.json").write_text('{"kind": "inverse"}')
    inverse = DepthFiles(where)
    (where / "depth.json").write_text('{"kind": "relative", "png_scale": 1}')
    relative = DepthFiles(where)
    assert len({source.key(images) for source in (metric, inverse, relative)}) == 3
    ids = images.ids
    near = metric.depth(images, ids).flatten(1).argmin(1)
    turned = inverse.depth(images, ids)
    assert turned.amin((1, 2, 3)).tolist() == [1] * 4
    assert (turned.flatten(1).gather(1, near[:, None]) == 64).all()
    scaled = relative.depth(images, ids)
    assert scaled.amin((1, 2, 3)).tolist() == [1] * 4
    torch.testing.assert_close(scaled.amax((1, 2, 3)), torch.full((4,), 10.0))
    assert (scaled.flatten(1).gather(1, near[:, None]) == 1).all()


def test_the_key_changes_with_any_map(folder: Any) -> None:
    images, where = folder
    source = DepthFiles(where)
    before = source.key(images)
    assert source.key(images) == before
    assert source.key(Subset(images, [0, 1])) != before
    np.save(where / "cat" / "0.npy", np.load(where / "cat" / "0.npy").astype(np.float64))
    assert source.key(images) != before


def test_maps_are_read_once(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    images, where = folder
    read: list[Path] = []
    really = files.read_depth

    def reading(path: Path, scale: float) -> np.ndarray:
        read.append(path)
        return really(path, scale)

    monkeypatch.setattr(files, "read_depth", reading)
    source = DepthFiles(where)
    first = source.depth(images, images.ids)
    assert torch.equal(source.depth(images, images.ids), first)
    assert len(read) == 4
    np.save(where / "cat" / "0.npy", np.load(where / "cat" / "0.npy") * 2.0)
    changed = source.depth(images, images.ids)
    assert len(read) == 5
    assert torch.equal(changed[0], first[0] * 2)
    monkeypatch.setattr(files, "KEPT_BYTES", 0)
    poor = DepthFiles(where)
    assert torch.equal(poor.depth(images, images.ids), changed)
    assert torch.equal(poor.depth(images, images.ids), changed)
    assert len(read) == 13


def damage(where: Path, kind: str) -> None:
    path = where / "cat" / "0.npy"
    values = np.load(path)
    if kind == "missing":
        path.unlink()
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "pickle":
        np.save(path, np.asarray([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "shape":
        np.save(path, values.T)
    elif kind == "vector":
        np.save(path, values[0])
    elif kind == "text":
        np.save(path, values.astype(str))
    elif kind == "nothing valid":
        np.save(path, np.zeros_like(values))
    elif kind == "8 bits":
        path.unlink()
        Image.fromarray(values.astype(np.uint8)).save(path.with_suffix(".png"))
    elif kind == "channels":
        path.unlink()
        write_exr(path.with_suffix(".exr"), values, "albedo.R")
        write_exr(path.with_suffix(".exr"), values, "A")
    elif kind == "png":
        path.unlink()
        path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\nnot much")
    elif kind == "exr":
        path.unlink()
        path.with_suffix(".exr").write_bytes(b"v/1\x01not much")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"cat/0\.png' has no depth map: .*depth/cat/0\.npy'.*--clip-depth"),
        ("cut short", r"cannot read depth file .*cat/0\.npy"),
        ("pickle", r"cannot read depth file .*cat/0\.npy"),
        ("shape", r"cat/0\.npy' is 90×130, its image .*cat/0\.png' 130×90"),
        ("vector", r"cat/0\.npy' holds float32 of shape \(130,\)"),
        ("text", r"cat/0\.npy' holds <U"),
        ("nothing valid", r"cat/0\.npy' holds no valid depth"),
        ("8 bits", r"cat/0\.png' is a png of mode L: too coarse"),
        ("png", r"cannot read depth file .*cat/0\.png"),
        ("exr", r"cannot read depth file .*cat/0\.exr"),
    ],
)
def test_a_bad_map_is_one_line_that_names_it(folder: Any, kind: str, message: str) -> None:
    images, where = folder
    damage(where, kind)
    with pytest.raises(ClipRobustError, match=message) as caught:
        DepthFiles(where).depth(images, images.ids)
    assert "\n" not in str(caught.value)
    if kind == "missing":
        with pytest.raises(ClipRobustError, match=message):
            DepthFiles(where).key(images)


@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (3, 4, 1), (1, 3, 1)])
@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8])
def test_numpy_maps_of_any_shape_that_is_one(
    tmp_path: Path, shape: tuple[int, ...], kind: type[Any]
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    np.save(tmp_path / "x.npy", values)
    found = files.read_depth(tmp_path / "x.npy")
    assert found.dtype == np.float32
    assert found.shape == ((3, 1) if shape == (1, 3, 1) else (3, 4))
    assert found.ravel().tolist() == list(range(values.size))


@pytest.mark.parametrize(
    "values", [np.zeros((2, 3, 4)), np.zeros((0, 4)), np.zeros((3, 4), bool), np.zeros((3, 4), complex)]
)  # fmt: skip
def test_numpy_files_that_are_no_map(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(ClipRobustError, match="one number for each pixel"):
        files.read_depth(tmp_path / "x.npy")


def test_scale_of_a_png(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1, 2], [500, 65535]], np.uint16)).save(tmp_path / "x.png")
    metres = files.read_depth(tmp_path / "x.png")
    np.testing.assert_allclose(metres, [[0.001, 0.002], [0.5, 65.535]], rtol=1e-6)
    whole = files.read_depth(tmp_path / "x.png", 2.0)
    assert whole.tolist() == [[2, 4], [1000, 131070]]


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((90, 130), True),
        ((45, 65), True),
        ((180, 260), True),
        ((44, 65), True),  # rounded by a pixel
        ((45, 66), True),
        ((43, 65), False),
        ((130, 90), False),
        ((90, 128), False),
    ],
)
def test_maps_of_the_shape_of_their_image(size: tuple[int, int], fits: bool) -> None:
    paths = Path("map.npy"), Path("image.png")
    if fits:
        base.require_shape(paths[0], size, paths[1], (90, 130))
    else:
        with pytest.raises(ClipRobustError, match=r"map\.npy' is .* 'image\.png' 130×90"):
            base.require_shape(paths[0], size, paths[1], (90, 130))


def test_metric_depth_is_never_zero() -> None:
    values = torch.tensor([0.0, 1e-6, 0.5, 70]).view(1, 1, 2, 2)
    assert base.normalise(values, "metric").flatten().tolist() == [
        pytest.approx(x) for x in (1e-3, 1e-3, 0.5, 70)
    ]
    flat = torch.full((1, 1, 2, 2), 3.0)
    assert base.normalise(flat, "relative").flatten().tolist() == [1] * 4


@pytest.mark.parametrize(
    ("kind", "expected"),
    # The farthest measurement; zero and below is none of metric depth only.
    [("metric", [5, 5, 2, 5, 5]), ("relative", [0, -1, 2, 5, 5]), ("inverse", [0, -1, 2, 5, -1])],
)
def test_what_stands_where_nothing_was_measured(kind: Any, expected: list[float]) -> None:
    found = base.filled(np.array([[0, -1, 2, 5, np.nan]], np.float32), kind)
    assert found is not None
    assert found[0].tolist() == expected
    assert base.filled(np.full((1, 2), np.inf, np.float32), kind) is None


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(ClipRobustError, match=r"cannot read image .*x\.png"):
        files.upright_size(tmp_path / "x.png")
    for turn, expected in ((1, (4, 6)), (4, (4, 6)), (5, (6, 4)), (8, (6, 4))):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.new("RGB", (6, 4)).save(tmp_path / "y.png", exif=exif)
        assert files.upright_size(tmp_path / "y.png") == expected


def test_data_without_files_has_no_maps(folder: Any) -> None:
    _, where = folder
    with pytest.raises(NotRun, match=r"'pictures' holds no image files.*--clip-depth"):
        DepthFiles(where).key(Pictures(2))
    with pytest.raises(ClipRobustError, match="there is no such folder"):
        DepthFiles(where / "nowhere")


def test_exr_channels(tmp_path: Path) -> None:
    values = np.linspace(1, 3, 12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "x.exr"
    for channel in ("Z", "depth", "Y", "R", "distance"):
        write_exr(path, values, channel)
        assert np.array_equal(files.read_depth(path), values)
    OpenEXR = pytest.importorskip("OpenEXR")
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"A": values, "B": values}).write(str(path))
    with pytest.raises(ClipRobustError, match=r"x\.exr' has the channels A, B; one called Z"):
        files.read_depth(path)


def test_without_openexr_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.exr").write_bytes(b"v/1\x01")
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ClipRobustError, match=r"x\.exr' needs OpenEXR.*pytest-cliprobust\[exr\]"):
        files.read_depth(tmp_path / "x.exr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "must hold a JSON object"),
        ('{"knid": "metric"}', "unknown key 'knid'. Did you mean 'kind'"),
        ('{"kind": "disparity"}', "kind 'disparity' is none of metric, inverse, relative"),
        ('{"png_scale": 0}', "png_scale must be a number above 0"),
        ('{"png_scale": true}', "png_scale must be a number above 0"),
        ('{"png_scale": "1"}', "png_scale must be a number above 0"),
        ('{"png_scale": -1}', "png_scale must be a number above 0"),
        ('{"png_scale": Infinity}', "png_scale must be a number above 0"),
        pytest.param('{"png_scale": ' + "9" * 400 + "}", "png_scale must be", id="huge"),
        pytest.param('{"kind": "' + "x" * 9000 + '"}', "is none of metric, inv", id="long"),
        pytest.param("[" * 60_000, "cannot be read", id="deep"),
    ],
)
def test_wrong_settings(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "depth.json").write_text(text)
    with pytest.raises(ClipRobustError, match=message) as caught:
        DepthFiles(tmp_path)
    assert len(str(caught.value)) < 500


def test_what_clip_depth_may_mean(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match=r"neither a model .* nor depth maps"):
        load_depth_source(str(tmp_path))
    (tmp_path / "maps" / "a" / "b").mkdir(parents=True)
    (tmp_path / "maps" / "readme.txt").touch()
    with pytest.raises(ClipRobustError, match=r"neither a model .* nor depth maps \(\.npy, "):
        load_depth_source(str(tmp_path / "maps"))
    for name in (*(f"{n}.txt" for n in range(20)), "x.npy"):  # whatever is listed first
        (tmp_path / "maps" / "a" / "b" / name).touch()
    assert isinstance(load_depth_source(str(tmp_path / "maps")), DepthFiles)
    for name in ("none", "a/b/c", "./a", "~/a"):
        with pytest.raises(ClipRobustError, match="no such folder, and it is no owner/name"):
            load_depth_source(name)
    with pytest.raises(ClipRobustError, match="no such folder, and it is no owner/name"):
        load_depth_source(str(tmp_path / "none"))
    with pytest.raises(ClipRobustError, match="no such folder, and it is no owner/name"):
        load_depth_source("dpt-large")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ClipRobustError, match="model of type 'clip'; known to give depth are dpt"):
        load_depth_source(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    with pytest.raises(ClipRobustError, match=r"has no preprocessor_config\.json"):
        load_depth_source(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ClipRobustError, match="holds no weights"):
        load_depth_source(str(tmp_path))


# --------------------------------------------------------------------------------------------------
# Estimators: tiny checkpoints, in transformers' own folder format
# --------------------------------------------------------------------------------------------------


def processor(size: int) -> dict[str, Any]:
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "ensure_multiple_of": 1,
        "keep_aspect_ratio": False,
        "resample": 3,
    }


def save_dpt(folder: Path) -> Path:
    from transformers import DPTConfig, DPTForDepthEstimation

    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
        add_projection=False,
    )
    model = DPTForDepthEstimation(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor(32)))
    return folder


def save_depth_anything(folder: Path, kind: str = "relative") -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(1)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor(28)))
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("estimators")
    return {
        "dpt": save_dpt(root / "dpt"),
        "anything": save_depth_anything(root / "anything"),
        "metric": save_depth_anything(root / "metric", "metric"),
    }


class Pictures:
    """A data set of noise; counts what is loaded."""

    def __init__(self, count: int, digest: str = "pictures") -> None:
        self.name, self.digest = "pictures", f"{digest}-{count}"
        self.ids = tuple(f"p/{i}" for i in range(count))
        self.labels = (0,) * count
        self.class_names: tuple[str, ...] = ("thing",)
        self.groups: dict[str, tuple[str, ...]] = {}
        self.loaded = 0

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        self.loaded += len(indices)
        images = [
            torch.nn.functional.interpolate(
                torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(i)), size=(40, 40)
            )[0]
            for i in indices
        ]
        stacked = (torch.stack(images) * 255).to(torch.uint8)
        return Batch(tuple(self.ids[i] for i in indices), stacked)


@pytest.mark.parametrize("name", ["dpt", "anything", "metric"])
def test_an_estimator_gives_what_transformers_pipeline_gives(
    checkpoints: dict[str, Path], tmp_path: Path, name: str
) -> None:
    from transformers import AutoModelForDepthEstimation

    data = Pictures(3)
    estimator = load_depth_source(str(checkpoints[name]), "cpu", FeatureCache(tmp_path))
    assert isinstance(estimator, DepthEstimator)
    assert estimator.kind == ("metric" if name == "metric" else "inverse")
    found = estimator.depth(data, data.ids)
    assert found.shape == (3, 1, 40, 40)
    assert found.dtype == torch.float32
    # By hand: resize, normalise, model, back to the image's size.
    side = 32 if name == "dpt" else 28
    images = data.load(range(3)).images
    resized = [
        Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)
        for image in images
    ]  # fmt: skip
    pixels = torch.from_numpy(np.stack([np.asarray(r) for r in resized])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        model = AutoModelForDepthEstimation.from_pretrained(checkpoints[name]).eval()
        raw = model(pixel_values=(pixels / 255 - 0.5) / 0.5).predicted_depth[:, None]
    raw = torch.nn.functional.interpolate(raw, (40, 40), mode="bicubic", align_corners=False)
    expected = base.normalise(raw, estimator.kind)
    relative = ((found - expected).abs() / expected).flatten(1)
    assert relative.median() < 0.02
    if name == "metric":
        assert found.max() < 20.5
    else:
        assert found.amin((1, 2, 3)).tolist() == [1.0] * 3
        near, far = raw.flatten(1).argmax(1), raw.flatten(1).argmin(1)
        flat = found.flatten(1)
        assert (flat.gather(1, near[:, None]) < flat.gather(1, far[:, None])).all()


def test_estimates_do_not_depend_on_what_is_asked_for_together(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    data = Pictures(CHUNK + 5)
    whole = DepthEstimator(str(checkpoints["dpt"]), cache=FeatureCache(tmp_path / "a"))
    together = whole.depth(data, data.ids)
    single = DepthEstimator(str(checkpoints["dpt"]), cache=FeatureCache(tmp_path / "b"))
    for row in (len(data) - 1, 0, CHUNK):
        assert torch.equal(single.depth(data, data.ids[row : row + 1])[0], together[row])
    part = Subset(data, [CHUNK + 1, 2])
    assert torch.equal(single.depth(part, part.ids), together[[CHUNK + 1, 2]])


def test_estimates_are_cached_by_weights_and_data(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    data = Pictures(CHUNK + 1)
    cache = FeatureCache(tmp_path / "cache")
    first = DepthEstimator(str(checkpoints["anything"]), cache=cache)
    cold = first.depth(data, data.ids)
    assert data.loaded == len(data)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    again = DepthEstimator(str(checkpoints["anything"]), cache=cache)
    assert torch.equal(again.depth(data, data.ids), cold)
    assert data.loaded == len(data)
    other = Pictures(CHUNK + 1, digest="others")
    again.depth(other, other.ids)
    assert other.loaded == len(other)
    different = save_dpt(tmp_path / "changed")
    assert (
        DepthEstimator(str(different), cache=cache).digest
        == DepthEstimator(str(checkpoints["dpt"]), cache=cache).digest
    )
    config = json.loads((different / "preprocessor_config.json").read_text())
    (different / "preprocessor_config.json").write_text(
        json.dumps(config | {"image_mean": [0.4, 0.5, 0.5]})
    )
    changed = DepthEstimator(str(different), cache=cache)
    assert changed.digest != DepthEstimator(str(checkpoints["dpt"]), cache=cache).digest
    assert changed.key(data) != first.key(data)


def test_estimates_of_pictures_framed_in_another_way_are_others(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """Two models of one size, of which one crops and one squeezes, share a cache and a digest of the data."""
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "cat" / "1.png")
    cache, maps = FeatureCache(tmp_path / "cache"), []
    for mode in ("shortest", "squash", "longest"):
        own = Preprocessing((32, 32), resize_mode=mode)
        data = ImageFolder(tmp_path / "photos", frame=own.frame, size=32)
        for estimator in (
            DepthEstimator(str(checkpoints["anything"]), cache=cache),
            DepthEstimator(str(checkpoints["anything"]), cache=FeatureCache(tmp_path / mode)),
        ):
            maps.append(estimator.depth(data, data.ids))
    cropped, alone, squeezed, squeezed_alone, padded, padded_alone = maps
    assert torch.equal(cropped, alone)
    assert torch.equal(squeezed, squeezed_alone)
    assert torch.equal(padded, padded_alone)
    assert not torch.equal(cropped, squeezed)


def test_pictures_in_their_own_shapes_are_estimated_one_by_one(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    for name, shape in (("1", (40, 90, 3)), ("2", (90, 40, 3)), ("3", (40, 90, 3))):
        pixels = np.random.default_rng(int(name)).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "cat" / f"{name}.png")
    own = NaFlexPreprocessing(size=(32, 32), patch=8, most_patches=16)
    data = ImageFolder(tmp_path / "photos", frame=own.frame, size=32)
    data.framing = Framing("own", None)
    estimator = DepthEstimator(str(checkpoints["anything"]), cache=FeatureCache(tmp_path / "cache"))
    assert estimator.depth(data, data.ids[1:2]).shape == (1, 1, 40, 24)
    both = estimator.depth(data, [data.ids[0], data.ids[2]])
    assert both.shape == (2, 1, 24, 40)
    assert torch.equal(both[1:], estimator.depth(data, data.ids[2:]))
    assert not torch.equal(both[0], both[1])


def test_only_some_chunks_stay_in_memory(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = DepthEstimator(str(checkpoints["dpt"]), cache=FeatureCache(tmp_path))
    asked: list[int] = []

    def made(data: Any, number: int) -> base.Maps:
        asked.append(number)
        return np.full((CHUNK, 1, 2, 2), number, np.float32)

    monkeypatch.setattr(estimator, "_estimate", made)
    data = Pictures(10 * CHUNK)
    found = estimator.depth(data, data.ids)
    assert found[:, 0, 0, 0].tolist() == [i // CHUNK for i in range(len(data))]
    assert asked == list(range(10))
    assert [number for *_, number in estimator._recent] == list(range(2, 10))
    again = estimator.depth(data, data.ids[:1])  # from the disk
    assert torch.equal(again, found[:1])
    assert asked == list(range(10))


def test_missing_tensors_and_memory_are_named(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_dpt(tmp_path / "part")
    state = load_file(folder / "model.safetensors")
    state.pop("head.head.0.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ClipRobustError, match=r"1 tensors are missing .*\(first: head\.head\.0"):
        DepthEstimator(str(folder))
    estimator = DepthEstimator(str(checkpoints["dpt"]), cache=FeatureCache(tmp_path / "cache"))

    def full(**_: Any) -> Any:
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(estimator, "_model", full)
    with pytest.raises(ClipRobustError, match=r"out of memory on cpu with 16 images"):
        estimator.depth(Pictures(2), ["p/1"])

    def broken(**_: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(estimator, "_model", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        estimator.depth(Pictures(2), ["p/1"])


def test_damaged_weights_and_nan_are_one_line(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    cut = save_dpt(tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(
        ClipRobustError, match=r"cut/model\.safetensors is truncated .* again"
    ) as caught:
        DepthEstimator(str(cut))
    assert "\n" not in str(caught.value)
    estimator = DepthEstimator(str(checkpoints["dpt"]), cache=FeatureCache(tmp_path / "cache"))
    for parameter in estimator._model.head.parameters():
        parameter.fill_(float("nan"))
    data = Pictures(2)
    with pytest.raises(ClipRobustError, match=r"NaN or infinite depth for 'p/0'"):
        estimator.depth(data, data.ids)


def changed(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"hidden_size": 10**9}, "'hidden_size' is 1000000000"),
        ("config.json", {"num_hidden_layers": 10**6}, "'num_hidden_layers' is 1000000"),
        ("config.json", {"backbone": "owner/name"}, "backbone \\('owner/name'\\) does not lie in"),
        ("config.json", {"backbone_config": {"model_type": "timm_backbone"}}, "timm_backbone"),
        ("config.json", {"backbone_config": {"model_type": "no such"}}, "cannot be loaded from"),
        ("config.json", {"quantization_config": {"a": 1}}, "its weights are quantised"),
        ("config.json", {"hidden_size": 4096}, "cannot be loaded|does not fit architecture"),
        (
            "preprocessor_config.json",
            {"size": {"height": 10**6, "width": 9}},
            "'height' is 1000000",
        ),
        ("preprocessor_config.json", {"size": [32, 4097]}, r"'size' is \[32, 4097\]; pictures of"),
        ("preprocessor_config.json", {"size": 4097}, "'size' is 4097; pictures of"),
        ("preprocessor_config.json", {"ensure_multiple_of": 10**5}, "'ensure_multiple_of' is"),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "x.Y"}}, "is never run"),
    ],
    ids=str,
)
def test_what_an_estimators_folder_may_not_ask_for(
    file: str, values: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked for a connection"))
    folder = save_dpt(tmp_path / "dpt")
    changed(folder, file, **values)
    with pytest.raises(ClipRobustError, match=words) as caught:
        DepthEstimator(str(folder))
    assert "\n" not in str(caught.value)


def test_the_largest_picture_and_the_other_name_of_a_processors_file(tmp_path: Path) -> None:
    """Transformers 5 writes processor_config.json, and 4096 pixels are still made."""
    settings = processor(32) | {"size": [4096, 32], "crop_size": {"height": 1, "width": 4096}}
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({"image_processor": settings}))
    _check_processor(tmp_path)
    path.write_text(json.dumps({"image_processor": settings | {"crop_size": {"width": 4097}}}))
    with pytest.raises(ClipRobustError, match=r"processor_config\.json: 'width' is 4097; pictures"):
        _check_processor(tmp_path)
    path.write_text(json.dumps({"image_processor": settings, "auto_map": {}}))
    _check_processor(tmp_path)
    path.unlink()
    with pytest.raises(ClipRobustError, match=r"has no preprocessor_config\.json; copy it there"):
        _check_processor(tmp_path)


@pytest.mark.slow
def test_code_in_an_estimators_folder_is_not_run(tmp_path: Path) -> None:
    folder = save_dpt(tmp_path / "dpt")
    before = DepthEstimator(str(folder)).digest
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w')\n")
    changed(folder, "config.json", auto_map={"AutoModelForDepthEstimation": "theirs.Model"})
    assert DepthEstimator(str(folder)).digest == before
    # Weights in a pickle are read as data, too.
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert DepthEstimator(str(folder)).digest == before
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("key", ["min_depth", "max_depth"])
def test_distances_are_no_numbers_of_layers(key: str, tmp_path: Path) -> None:
    from pytest_cliprobust.targets.configuration import check_values

    check_values({key: 0.001}, tmp_path)


# --------------------------------------------------------------------------------------------------
# In the engine
# --------------------------------------------------------------------------------------------------


class TinyTarget:
    """A random convolution with the interface of a target."""

    def __init__(self) -> None:
        self.weight = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.info = TargetInfo("tiny", "conv", "random", "0" * 64)
        self.device = torch.device("cpu")
        self.image_size = (SIZE, SIZE)
        self.embed_dim = 16
        self.logit_scale, self.logit_bias, self.probability = 10.0, None, "softmax"

    def preprocess(self, images: Tensor) -> Tensor:
        return images - 0.5

    def encode_image(self, pixels: Tensor) -> Tensor:
        features = torch.nn.functional.conv2d(pixels, self.weight, stride=8).relu().mean((2, 3))
        return torch.nn.functional.normalize(features, dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError


def encoder(path: Path, **options: Any) -> Encoder:
    return Encoder(TinyTarget(), FeatureCache(path), **options)  # type: ignore[arg-type]


def test_without_depth_the_remedy_is_named(folder: Any, tmp_path: Path) -> None:
    images, _ = folder
    engine = encoder(tmp_path / "cache")
    with pytest.raises(
        NotRun, match=r"has no depth, which 'fog_3d' needs; .*--clip-depth"
    ) as caught:
        engine.images(images, [Step("fog_3d", 3)])
    assert "\n" not in str(caught.value)
    engine.images(images, [Step("iso_noise", 3)])  # needs none


def test_with_depth_it_runs_and_the_key_knows(folder: Any, tmp_path: Path) -> None:
    images, where = folder
    results = {}
    for size in (1, 3):
        engine = encoder(tmp_path / str(size), batch_size=size, depth=DepthFiles(where))
        results[size] = engine.images(images, [Step("fog_3d", 3)])
    assert torch.equal(results[1], results[3])
    assert not torch.equal(results[1], engine.images(images))
    count = engine.forwarded
    assert torch.equal(engine.images(images, [Step("fog_3d", 3)]), results[3])
    assert engine.forwarded == count
    path = where / "cat" / "0.npy"
    np.save(path, np.load(path)[:, ::-1] ** 2)
    changed = engine.images(images, [Step("fog_3d", 3)])
    assert engine.forwarded == count + len(images)
    assert (changed != results[3]).any(1).tolist() == [name == "cat/0.png" for name in images.ids]
    engine.images(images, [Step("iso_noise", 3)])
    before = engine.forwarded
    np.save(path, np.load(path) + 1)
    engine.images(images, [Step("iso_noise", 3)])
    assert engine.forwarded == before


def test_depth_of_its_own_wins(folder: Any, tmp_path: Path) -> None:
    _, where = folder
    data = EmbeddedDataset("clean", profile="quick", limit=3, size=SIZE)
    plain = encoder(tmp_path / "plain").images(data, [Step("fog_3d", 3)])
    given = encoder(tmp_path / "given", depth=DepthFiles(where)).images(data, [Step("fog_3d", 3)])
    assert torch.equal(plain, given)


def test_before_and_after_for_evidence(folder: Any, tmp_path: Path) -> None:
    from pytest_cliprobust.perturbations import registry

    images, where = folder
    engine = encoder(tmp_path / "cache", depth=DepthFiles(where))
    before, after = engine.pictures(images, [2, 0], registry.get("fog_3d"), 5)
    assert before.shape == after.shape == (2, 3, SIZE, SIZE)
    assert not torch.equal(before, after)


SUITE = """
    import av
    import pytest
    from pytest_cliprobust.properties import accuracy

    av.codecs_available = {"mpeg4"}

    @pytest.mark.parametrize("name", ["fog_3d", "h265_crf", "iso_noise"])
    def test_mine(clip, gate, name):
        gate(accuracy.accuracy_of(clip.on("clean", name, 3)))
"""

BOUND = """
schema = 1
[[threshold]]
suite = "mine"
metric = "accuracy"
perturbation = "h265_crf"
min = 0.01
"""


@pytest.mark.long
def test_clip_depth_in_a_run(
    folder: Any, checkpoints: dict[str, Path], pytester: pytest.Pytester, tmp_path: Path
) -> None:
    """Without depth, and without an encoder, tests are not run; a bound that waits for them fails."""
    images, _ = folder
    pytester.makepyfile(test_mine=SUITE)
    (pytester.path / "thresholds.toml").write_text("schema = 1\n")
    common: tuple[str, ...] = ("--clip-model=reference", f"--clip-data={images.root}", "-rs")
    common += (f"--clip-cache-dir={tmp_path / 'features'}",)
    result = pytester.runpytest_subprocess(*common, "--clip-report=none.json")
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        ["*SKIPPED*'fog_3d' needs*--clip-depth*", "*SKIPPED*'h265_crf' needs*libx26*pip install*"]
    )
    told = json.loads((pytester.path / "none.json").read_text())
    assert len(told["not_run"]) == 2
    (pytester.path / "thresholds.toml").write_text(BOUND)
    result = pytester.runpytest_subprocess(*common, f"--clip-depth={checkpoints['dpt']}")
    result.assert_outcomes(passed=2, skipped=1)
    assert result.ret != 0
    result.stdout.fnmatch_lines(
        [f"clip depth: {checkpoints['dpt']}", "error: *h265_crf*was not measured*"]
    )
    result = pytester.runpytest_subprocess(*common, "--clip-depth=./nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --clip-depth ./nowhere: there is no such folder*"])


@pytest.mark.parametrize("model_type", ["dpt", "zoedepth", "depth_pro"])
def test_which_models_need_their_processors_own_last_step(model_type: str) -> None:
    """The two pad or turn a picture in a way that only a newer processor undoes."""
    bare = object.__new__(DepthEstimator)
    bare.name, bare._processor = "own", object()
    bare._model = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    outputs = SimpleNamespace(predicted_depth=torch.ones(2, 3, 4))
    if model_type == "dpt":
        assert bare._at_size(outputs, 6, 8, 2).shape == (2, 6, 8)
    else:
        with pytest.raises(ClipRobustError, match=r"'own' needs a newer transformers; upgrade it"):
            bare._at_size(outputs, 6, 8, 2)
