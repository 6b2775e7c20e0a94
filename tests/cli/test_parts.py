"""Parts of the commands: pictures as they are cut, sheets that are too large, what is said of data."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_cliprobust.cli import _perturb_options as words
from pytest_cliprobust.cli import _rows, _subjects
from pytest_cliprobust.cli import data as command
from pytest_cliprobust.cli._images import crop, load_image
from pytest_cliprobust.cli._perturb_options import Options
from pytest_cliprobust.datasets.base import Batch
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.perturbations.typographic import render_text

# --- Pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_square_is_cut_from_the_middle(upright: bool, smooth: bool) -> None:
    """Known where nothing is resized: rows or columns 7 to 26 of 33."""
    image = torch.rand(1, 3, 20, 33, generator=torch.Generator().manual_seed(0))
    expected = image[..., 6:26]
    if upright:
        image, expected = image.mT, expected.mT
    assert torch.allclose(crop(image, 20, smooth=smooth), expected, atol=1e-6)


def test_depth_is_resized_without_values_in_between() -> None:
    depth = torch.tensor([[[[1.0, 9.0, 1.0, 9.0], [2.0, 8.0, 2.0, 8.0]]]])
    found = crop(depth, 4, smooth=False)
    assert found.tolist() == [[[[9, 9, 1, 1]] * 2 + [[8, 8, 2, 2]] * 2]]


@pytest.mark.parametrize("size", [(1, 101), (101, 1), (2, 201), (201, 2)])
def test_a_picture_that_is_too_narrow(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(ClipRobustError, match=f"is {size[0]}×{size[1]}, too narrow"):
        load_image(tmp_path / "a.png")
    side = (min(size[0], 100), min(size[1], 100))
    Image.new("RGB", side).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == (1, 3, side[1], side[0])


def test_a_picture_with_its_opacity(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    pixels[..., 3] = np.arange(35).reshape(5, 7) * 7
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load_image(tmp_path / "a.png", alpha=True)
    assert found.shape == (1, 4, 5, 7)
    assert torch.equal(found[0, 3], torch.from_numpy(pixels[..., 3]).float() / 255)


def test_what_a_filter_adds_outside_of_the_range_is_cut_off(tmp_path: Path) -> None:
    pixels = np.kron(np.indices((4, 4)).sum(0) % 2 * 255, np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rough = crop(load_image(tmp_path / "a.png"), 40)
    assert float(rough.min()) < -0.01
    assert float(rough.max()) > 1.01
    file = tmp_path / "a.png"
    given = options(images=[file], size=40, text=None, mask=file, occluder=file, texture=file)
    (subject,) = _subjects._file_subjects(given)
    assert torch.equal(subject.image, rough.clamp(0, 1))
    assert (subject.name, subject.sample, subject.inputs) == ("a", "a", {})
    inputs = _subjects._given_inputs(given)
    assert torch.equal(inputs["texture"], rough.clamp(0, 1))
    assert torch.allclose(inputs["mask"], rough[:, :1].clamp(0, 1), atol=1e-6)
    assert torch.equal(inputs["occluder"][:, 3], torch.ones(1, 64, 64))
    assert "text" not in inputs
    none = dict.fromkeys(("mask", "occluder", "texture"))
    worded = _subjects._given_inputs(options(size=40, text="cat", **none))
    assert list(worded) == ["text"]
    assert torch.equal(worded["text"], render_text(["cat"]))
    assert _subjects._given_inputs(options(size=40, text=None, **none)) == {}


# --- Options ---------------------------------------------------------------------------------------


def options(**changed: Any) -> Any:
    usual: dict[str, Any] = {"size": 16, "cell": 16, "blocks": 1, "severity": None, "colours": None}
    usual |= {"images": [Path("a")], "depth": None, "depth_scale": 1000.0}
    return Options(**{**usual, **changed})


@pytest.mark.parametrize(
    ("changed", "rows"),
    [
        ({"size": 4096}, 2),  # 2^24 pixels, of the picture and five severities
        ({"cell": 4096}, 2),
        ({"size": 4096, "severity": [3]}, 8),
        ({"size": 4096, "severity": [3], "blocks": 8}, 1),
        ({"colours": 2}, 1),
        ({"colours": 256}, 1),
    ],
)
def test_a_sheet_of_the_largest_size(changed: dict[str, Any], rows: int) -> None:
    words._check_layout(options(**changed), rows)


@pytest.mark.parametrize(
    ("changed", "rows", "told"),
    [
        ({"size": 4096}, 3, "too large a sheet"),
        ({"cell": 4096}, 3, "too large a sheet"),
        ({"size": 4096, "severity": [3]}, 9, "too large a sheet"),
        ({"size": 4096, "severity": [3], "blocks": 9}, 1, "too large a sheet"),
        ({"size": 15}, 1, "--size 15 is too small; 16 is the least"),
        ({"cell": 15}, 1, "--cell must be 16 or more"),
        ({"blocks": 0}, 1, "--blocks 1 or more"),
        ({"colours": 1}, 1, "a number from 2 to 256"),
        ({"colours": 257}, 1, "a number from 2 to 256"),
    ],
)
def test_a_sheet_that_cannot_be(changed: dict[str, Any], rows: int, told: str) -> None:
    with pytest.raises(ClipRobustError, match=told):
        words._check_layout(options(**changed), rows)


@pytest.mark.parametrize(
    ("depths", "images", "scale", "told"),
    [
        (0, 3, 1.0, ""),
        (1, 3, 1.0, ""),
        (3, 3, 1.0, ""),
        (2, 3, 1.0, "2 depth maps for 3 images"),
        (1, 0, 1.0, "--depth belongs to image files"),
        (1, 1, 0.0, "--depth-scale 0 must be above 0"),
        (1, 1, float("inf"), "--depth-scale inf must be above 0, and finite"),
        (1, 1, float("nan"), "--depth-scale nan"),
    ],
)
def test_maps_of_depth(depths: int, images: int, scale: float, told: str) -> None:
    given = options(depth=[Path("d")] * depths, images=[Path("a")] * images, depth_scale=scale)
    if not told:
        words._check_depth(given)
        return
    with pytest.raises(ClipRobustError, match=told):
        words._check_depth(given)


def test_numbers_of_parameters() -> None:
    assert words._setting("sigma=0.5") == ("sigma", 0.5)
    name, value = words._setting("count= -16 ")
    assert (name, value, type(value)) == ("count", -16, int)
    assert type(words._setting("count=16.0")[1]) is float
    for text in ("sigma", "=3", "sigma=", "sigma=inf", "sigma=nan", "sigma=x"):
        with pytest.raises(argparse.ArgumentTypeError, match="write NAME=NUMBER"):
            words._setting(text)
    assert [words._severity(text) for text in "15"] == [1, 5]
    for text in ("0", "6", "1.0", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="a severity is 1, 2, 3, 4 or 5"):
            words._severity(text)


# --- Data ------------------------------------------------------------------------------------------


class Made:
    """A data set without pictures; every third cannot be loaded."""

    name, digest = "made", "0123456789abcdef"

    def __init__(self, classes: int, labels: list[int], **groups: tuple[str, ...]) -> None:
        self.class_names = tuple(f"c{n}" for n in range(classes))
        self.labels, self.groups = tuple(labels), groups

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, rows: list[int]) -> None:
        """Fail at every third."""
        if rows[0] % 3 == 0:
            raise ClipRobustError(f"sample {rows[0]} is broken")


def test_what_is_said_of_a_data_set() -> None:
    made: Any = Made(3, [0, 0, 0, 2, -1, -1], place=("a", "b", "a", "a", "b", "b"))
    assert command._told("clean", made) == [
        "clean made: 6 samples, digest 0123456789ab",
        "  2 of 3 classes, 1 to 3 samples each",
        "  c0 3, c2 1, c1 0",
        "  without samples: c1",
        "  2 samples have no class of the label set",
        "  column place: 'a', 'b'",
    ]
    many: Any = Made(12, list(range(12)), place=tuple(map(str, range(12))))
    told = command._told("clean", many)
    assert told[2].endswith("c9 1 and 2 more")
    assert told[3].endswith("'6', '7' and 2 more")
    assert len(told) == 4
    assert command._told("far_ood", Made(0, [-1])) == [  # type: ignore[arg-type]
        "far_ood made: 1 sample, digest 0123456789ab",
        "  1 sample has no class of the label set",
    ]


def test_samples_that_cannot_be_read_are_counted_and_ten_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: Any = Made(1, [0] * 34)
    assert command._unreadable(made) == 12
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  sample 0 is broken"
    assert lines[9:] == ["  sample 27 is broken", "  12 of 34 samples cannot be read"]


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        ([{("clean", "a")}], []),
        ([{("clean", "a"), ("shift", "a")}], []),  # one data set in two roles
        ([{("clean", "a"), ("factors", "x")}], []),
        (
            [{("factors", "x"), ("shift", "a")}],
            ["1 picture is the same in factors x and shift a"],
        ),
        (
            [{("clean", "a"), ("shift", "b")}, {("clean", "a")}, {("clean", "a"), ("shift", "b")}],
            ["2 pictures are the same in clean a and shift b"],
        ),
    ],
)
def test_pictures_that_two_data_sets_have(
    owners: list[set[tuple[str, str]]], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = command._shared({str(n): own for n, own in enumerate(owners)})
    assert found == bool(told)
    assert capsys.readouterr().out.splitlines() == told


# --- What is drawn ---------------------------------------------------------------------------------


class Data:
    """A data set of two samples, the second without a class, and with depth or without."""

    ids = ("a/1.png", "b/2.png")
    labels = (0, -1)
    class_names = ("ant",)
    groups: ClassVar[dict[str, Any]] = {}
    name = digest = "mine"

    def __init__(self, depth: bool) -> None:
        self.depth = torch.full((1, 1, 16, 16), 2.0) if depth else None

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, rows: Any) -> Batch:
        images = torch.zeros(len(rows), 3, 16, 16, dtype=torch.uint8)
        return Batch(tuple(self.ids[row] for row in rows), images, self.depth)


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_depth_is_the_data_sets_own_where_it_has_any(has: bool, given: bool) -> None:
    far = SimpleNamespace(depth=lambda data, names: torch.full((1, 1, 16, 16), 9.0))
    asked: Any = options(text="cat", seed=0)
    source: Any = far if given else None
    data: Any = Data(has)
    inputs = _subjects._data_subject(asked, data, 0, source).inputs
    assert ("depth" in inputs) == (has or given)
    if has or given:
        assert inputs["depth"].unique().tolist() == [2.0 if has else 9.0]


def test_a_word_is_written_on_a_sample_of_a_class_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def writer(perturbation: object, sample: Any, seed: int) -> Any:
        return lambda batch: replace(batch, extras={"text": torch.ones(1, 4, 4, 4)})

    monkeypatch.setattr(_subjects, "text_writer", writer)
    for text, row, written in ((None, 0, True), ("cat", 0, False), (None, 1, False)):
        data: Any = Data(False)
        subject = _subjects._data_subject(options(text=text, seed=0), data, row)
        assert ("text" in subject.inputs) == written
    assert (subject.name, subject.sample) == ("b-2", "b/2.png")


def test_every_picture_that_the_options_name_is_drawn() -> None:
    given: dict[str, Any] = {"images": [], "embedded": ["0", "2"], "clip_data": None, "seed": 0}
    given |= dict.fromkeys(("text", "mask", "occluder", "texture"))
    asked = options(**given)
    drawn = list(_subjects.subjects(asked, torch.device("cpu")))
    assert [subject.sample for subject in drawn] == ["clean-00000", "clean-00002"]
    assert all("text" in subject.inputs for subject in drawn)
    worded = options(**{**given, "text": "kiwi"})
    for subject in _subjects.subjects(worded, torch.device("cpu")):
        assert torch.equal(subject.inputs["text"], render_text(["kiwi"]))


def test_every_sample_that_is_named_is_drawn_and_another_is_a_slip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_subjects, "load_dataset", lambda name, **how: Data(True))

    def samples(named: list[str], data: str | None = "mine") -> list[str]:
        asked = options(
            clip_data=data, clip_depth=None, text="cat", seed=0, device="cpu", sample=named
        )
        return [subject.sample for subject in _subjects._sample_subjects(asked)]

    assert samples(["b/2.png", "a/1.png"]) == ["b/2.png", "a/1.png"]
    assert samples([]) == samples(["a/1.png"], data=None) == []
    for named in (["a/2.png"], ["a/1.png", "a/2.png"]):
        with pytest.raises(ClipRobustError, match=r"--sample a/2\.png: mine has no such sample"):
            samples(named)


def test_the_last_depth_map_is_for_all_further_images(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def depth(file: Path, *_: object) -> torch.Tensor:
        read.append(file.name)
        return torch.ones(1, 1, 8, 8)

    monkeypatch.setattr(_subjects, "load_depth", depth)
    monkeypatch.setattr(_subjects, "load_image", lambda path: torch.zeros(1, 3, 8, 8))
    given: Any = SimpleNamespace(
        depth=[Path("one.npy"), Path("two.npy")],
        images=[Path(f"{number}.png") for number in range(3)],
        size=8,
        depth_kind="metric",
        depth_scale=1.0,
    )
    assert len(list(_subjects._file_subjects(given))) == 3
    assert read == ["one.npy", "two.npy", "two.npy"]


def test_a_failure_names_every_parameter() -> None:
    class Broken:
        name, origin = "mine", None

        def __call__(self, image: torch.Tensor, **given: Any) -> torch.Tensor:
            if "fails" in given:
                raise ValueError("no such\nthing")
            return image[..., :2] if "cuts" in given else image / 0

    made: Any = Broken()
    image = torch.ones(1, 3, 4, 4)
    for given, told in (
        (
            {"fails": 1, "b": 0.5},
            "perturbation 'mine' with fails=1, b=0.5 fails (ValueError: no such); give other values, or "
            "another --size",
        ),
        ({"cuts": 1}, "with cuts=1 makes (1, 3, 4, 2) of (1, 3, 4, 4), but a perturbation keeps"),
        ({}, "with its defaults gives NaN or infinite pixels; give other values"),
    ):
        with pytest.raises(ClipRobustError) as caught:
            _rows._apply(made, image, given, {})
        assert told in str(caught.value)


def test_depth_of_a_file_has_no_values_in_between(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    depth = np.kron(np.array([[1.0, 5.0], [9.0, 3.0]]), np.ones((8, 8))).astype(np.float32)
    np.save(tmp_path / "a.npy", depth)
    given = options(
        images=[tmp_path / "a.png"] * 2,
        size=40,
        depth=[tmp_path / "a.npy"],
        depth_kind="metric",
        depth_scale=1.0,
    )
    for subject in _subjects._file_subjects(given):
        found = subject.inputs["depth"]
        assert found.shape == (1, 1, 40, 40)
        assert len(found.unique()) == 4
