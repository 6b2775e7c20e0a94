"""Folders and pictures as users have them: each is read as it was meant, or named with the remedy."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import time
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_helpers import encoded, shards, write_json
from PIL import Image

from pytest_cliprobust.datasets.depth.files import read_depth
from pytest_cliprobust.datasets.label_sets import label_set
from pytest_cliprobust.datasets.layouts import cifar, imagefolder
from pytest_cliprobust.datasets.layouts.imagefolder import ImageFolder, read_image, shortest_side
from pytest_cliprobust.datasets.layouts.pictures import Pictures
from pytest_cliprobust.datasets.loading import load_dataset
from pytest_cliprobust.datasets.paired import read_levels
from pytest_cliprobust.datasets.reading import EXTENSIONS, decode_image
from pytest_cliprobust.datasets.skipping import Skipped, unreadable, without
from pytest_cliprobust.datasets.walking import _LISTED, Tree
from pytest_cliprobust.errors import ClipRobustError, UnreadableSample
from pytest_cliprobust.targets.base import ResizeMode
from pytest_cliprobust.targets.preprocessing import Preprocessing, centre_of_long


def picture(path: Path, colour: tuple[int, int, int] = (10, 200, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


def load(root: Path, **options: object) -> ImageFolder:
    return ImageFolder(root, **{"size": 16, "cache": root.parent / "cache", **options})  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten pictures."""
    root = tmp_path / "set"
    for name in ("cat", "dog"):
        for number in range(10):
            picture(root / name / f"{number}.png", (number, 0, 200))
    return root


# --- Label sets ------------------------------------------------------------------------------------


def mistake(*paths: str, given: dict[str, str] | None = None) -> str:
    """Return what is wrong with the label set of these pictures."""
    folders = list(dict.fromkeys(path.split("/")[0] for path in paths))
    found = label_set(
        folders, [[p for p in paths if p.startswith(f"{f}/")] for f in folders], given
    )
    return found.mistake or ""


def test_wordnet_ids_get_their_names(tmp_path: Path) -> None:
    for folder in ("n01440764", "n02123045", "n00004475"):
        picture(tmp_path / "set" / folder / "x.png")
    data = load(tmp_path / "set")
    assert data.class_names == ("organism", "tench", "tabby cat")
    assert data.label_mistake is None
    assert data.notes == ("3 class folders called by WordNet ids got their names",)
    assert data.groups["folder"] == ("n00004475", "n01440764", "n02123045")
    assert "'n99999999' is no known WordNet id; give names in classes.txt" in mistake(
        "n99999999/x.png", "n01440764/x.png"
    )
    # A name of the user's own wins.
    (tmp_path / "set" / "classes.txt").write_text("n01440764\ta\nn02123045\tb\nn00004475\tc\n")
    assert load(tmp_path / "set").class_names == ("c", "a", "b")


def test_a_thousand_ids_or_numbers_are_imagenet() -> None:
    from timm.data import ImageNetInfo

    ids = list(ImageNetInfo("imagenet-1k").label_names())
    assert list(label_set(ids, [[f"{i}/x.png"] for i in ids], None).names) == list(
        open_clip.IMAGENET_CLASSNAMES
    )
    for form in ("{}", "{:04}"):
        numbers = [form.format(number) for number in reversed(range(1000))]
        found = label_set(numbers, [[f"{n}/x.png"] for n in numbers], None)
        assert list(found.names) == list(reversed(open_clip.IMAGENET_CLASSNAMES))
        assert found.mistake is None
        assert found.notes


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["0/x.png", "1/x.png", "2/x.png"], "'a photo of a 0' means nothing; give names in classes.txt"),
        (["train/cat/x.png", "val/cat/x.png"], "train, val are splits of a data set, not classes"),
        (["Test/x.png"], "splits of a data set"),
        (["fog/1/n01440764/x.png", "snow/2/n01440764/x.png"], "ImageNet-C's tree.*…/fog/3"),
        ([f"fog/{s}/n01440764/x.png" for s in range(1, 6)], "are corruptions.*…/fog/3"),
        (["blur/zoom/1/n01440764/x.png", "noise/shot/2/n1/x.png"], "groups of.*…/blur/zoom/3"),
        (["1/n01440764/x.png", "5/n01440764/x.png"], "severities.*such as …/1"),
        (["my_cat/x.png", "my cat/x.png"], "'my_cat' and 'my cat' have one name.*classes.txt"),
        (["Cat/x.png", "dog/x.png", "cat/x.png"], "'Cat' and 'cat' have one name"),
        (["t-shirt/x.png", "t_shirt/x.png"], "have one name"),
        (["cat/x.png"], "one class only .'cat'.*pictures:PATH"),
        (["caf\udce9/x.png", "dog/x.png"], r"'caf\\xe9' has a name that is not UTF-8, .*; rename it"),
        (["a\x1b[2J/x.png", "b\n/x.png"], r"'a\\x1b\[2J' has a name that"),
    ],
)  # fmt: skip
def test_what_is_no_label_set_is_named_with_the_remedy(paths: list[str], words: str) -> None:

    told = mistake(*paths)
    assert re.search(words, told), told
    assert "\n" not in told


@pytest.mark.parametrize(
    "paths",
    [
        ["train/x.png", "car/x.png"],
        ["747/x.png", "A380/x.png"],
        ["cat/1/a/x.png", "dog/x.png"],
        ["cat/1/a/x.png", "dog/new/a/x.png"],
        ["cat/old/1/a/x.png", "dog/new/a/x.png"],
        ["1/x.png", "two/x.png"],
        ["1/a/x.png", "two/a/x.png"],
        ["schéma/x.png", "猫/x.png"],
    ],
)
def test_what_may_be_meant_is_taken(paths: list[str]) -> None:
    assert mistake(*paths) == ""


def test_names_that_somebody_gave_may_be_one() -> None:
    found = label_set(["a", "b"], [["a/x"], ["b/x"]], {"a": "crane", "b": "Crane"})
    assert found.mistake is None
    assert found.notes == ["classes of one name: 'a' and 'b'"]
    assert "one class only" in mistake("0/x.png", given={"0": "cat"})
    # Digits are named by digits where somebody says so.
    assert mistake("0/x.png", "1/x.png", given={"0": "0", "1": "1"}) == ""


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True))
def test_any_names_are_told_in_one_line_or_distinct(folders: list[str]) -> None:
    found = label_set(folders, [[f"{i}/x.png"] for i in range(len(folders))], None)
    assert len(found.names) == len(folders)
    if found.mistake is None:
        assert len({unicodedata.normalize("NFKC", n).casefold() for n in found.names}) == len(
            folders
        )


def test_accents_in_two_parts_are_one_letter(tmp_path: Path) -> None:
    """Some systems write é as two characters; what a person types into classes.txt is one."""
    picture(tmp_path / "set" / "cafe\u0301" / "x.png")
    picture(tmp_path / "set" / "bar" / "x.png")
    assert load(tmp_path / "set").class_names == ("bar", "caf\u00e9")
    (tmp_path / "set" / "classes.txt").write_text("caf\u00e9\tcoffee\nbar\tpub\n", "utf-8")
    assert load(tmp_path / "set").class_names == ("pub", "coffee")


def test_the_most_frequent_endings_that_are_no_pictures_are_counted(tmp_path: Path) -> None:
    endings = ["x", "y", "txt", "md", "csv", "json", "pdf", "zip"]
    for number, ending in enumerate(endings):
        for count in range(number // 2 + 1):
            (tmp_path / f"{count}.{ending}").touch()
    (tmp_path / "no ending").touch()
    tree = Tree(tmp_path)
    assert tree.pictures([""]) == [[]]
    counted = [
        *("4 .pdf", "4 .zip", "3 .csv", "3 .json", "2 .md", "2 .txt"),
        *("1 without an ending", "1 .x", "1 .y"),
    ]
    assert tree.notes() == [f"files that are no pictures: {', '.join(counted[:_LISTED])}"]
    assert len(counted) > _LISTED


def test_data_of_which_all_can_be_read_stay_as_they_are(root: Path) -> None:
    data = load(root)
    kept, left_out = without(data, np.zeros(len(data), dtype=np.bool_))
    assert kept is data
    assert left_out is None
    # What could not be read at first, and can by now, is kept.
    kept, left_out = without(data, np.ones(len(data), dtype=np.bool_))
    assert kept is data
    assert left_out is None


def test_what_was_left_out_is_all_told() -> None:
    found = Skipped("mine", 300, (("a", "cut short"), ("b", "gone"), ("c", "gone")))
    assert Skipped.from_dict(found.as_dict()) == found
    assert len(found.unnamed().samples) == 3
    assert found.line(2).endswith(": a (cut short); b (gone); 1 more")
    assert found.line(3).endswith(": a (cut short); b (gone); c (gone)")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_names_in_another_encoding_are_one_line(root: Path, encoding: str) -> None:
    (root / "classes.txt").write_bytes("cat\tchat\ndog\tchien à poil\n".encode(encoding))
    with pytest.raises(ClipRobustError, match=r"classes\.txt', line [12]: not in UTF-8"):
        load(root)


def test_a_file_of_names_may_not_be_of_any_size(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "cat\tchat\ndog\tchien\n"
    (root / "classes.txt").write_text(content)
    monkeypatch.setattr(imagefolder, "MAX_JSON", len(content))
    assert load(root).class_names == ("chat", "chien")
    monkeypatch.setattr(imagefolder, "MAX_JSON", len(content) - 1)
    with pytest.raises(
        ClipRobustError, match=r"classes\.txt' has more than 18 bytes, too many for"
    ):
        load(root)


def test_a_pipe_in_place_of_the_names(root: Path) -> None:
    os.mkfifo(root / "classes.txt")
    with pytest.raises(ClipRobustError, match=r"classes\.txt is a pipe, not a file"):
        load(root)


# --- Folders ---------------------------------------------------------------------------------------


def test_folders_of_the_system_and_empty_ones_are_no_classes(root: Path) -> None:
    alone = load(root)
    for name in ("__MACOSX", "@eaDir", "lost+found", "cat/@eaDir", "$RECYCLE.BIN"):
        picture(root / name / "x.png")
    (root / "nothing").mkdir()
    (root / "cat" / "notes.txt").write_text("")
    (root / "dog" / "drawing.svg").write_text("")
    data = load(root)
    assert data.class_names == ("cat", "dog")
    assert data.digest == alone.digest
    told = "\n".join(data.notes)
    assert "class folders without pictures: nothing" in told
    assert "folders of the system: $RECYCLE.BIN, @eaDir, __MACOSX and 2 more" in told
    assert "files that are no pictures: 1 .svg, 1 .txt" in told
    assert alone.notes == ()
    # Somebody who names it means it.
    (root / "classes.txt").write_text("cat\tcat\ndog\tdog\nnothing\tbird\n")
    assert load(root).class_names == ("cat", "dog", "bird")


def test_each_real_folder_is_read_once(root: Path) -> None:
    alone = load(root)
    (root / "cat" / "up").symlink_to("..")
    (root / "cat" / "above").symlink_to("../..")
    (root / "cat" / "again").symlink_to(".")
    (root / "cat" / "other").symlink_to("../dog")
    (root / "dog" / "loop").symlink_to("loop")
    (root / "bird").symlink_to("dog")
    data = load(root)
    assert len(data) == 20
    assert data.ids == alone.ids
    assert data.digest == alone.digest
    assert any("links to folders that are read already" in note for note in data.notes)


def test_links_to_folders_elsewhere_are_followed(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "elsewhere" / "deeper" / f"{number}.png")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "bird").symlink_to(tmp_path / "elsewhere" / "deeper")
    data = load(root)
    # Under the link that comes first in the tree: a class folder's own place is not special.
    assert len(data) == 23
    assert sum(name.startswith("bird/") for name in data.ids) == 3


def test_a_folder_that_must_not_be_read_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ClipRobustError, match=r"set/dog' cannot be read \(Permission denied\)"):
        load(root)


def test_names_of_files_that_are_not_utf8(root: Path) -> None:
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/\xe9t\xe9.png")
    data = load(root)
    name = r"cat/\xe9t\xe9.png"
    assert name in data.ids
    assert data.load([data.ids.index(name)]).images[0, 0, 8, 8] == 0
    assert len(Pictures(root, cache=root.parent / "cache", size=16)) == 20
    data.digest.encode()


# --- Framing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("shape", [(2, 1500), (1500, 2), (1, 200_000), (1, 1)])
def test_pictures_much_longer_than_wide_are_framed(
    mode: ResizeMode, shape: tuple[int, int]
) -> None:
    image = torch.full((3, *shape), 7, dtype=torch.uint8)
    framed = Preprocessing(size=(224, 224), resize_mode=mode, fill=(7, 7, 7)).frame(image, 224)
    assert framed.shape == (3, 224, 224)
    assert (framed == 7).all()


def test_what_is_framed_of_a_long_picture_is_its_centre() -> None:
    image = torch.zeros(3, 2, 2 * 64 * 5 + 2, dtype=torch.uint8)
    image[..., image.shape[-1] // 2 - 1 : image.shape[-1] // 2 + 1] = 255
    framed = Preprocessing(size=(32, 32)).frame(image, 32)
    assert framed.float().mean() > 200
    assert torch.equal(framed, framed.flip(-1))
    assert torch.equal(framed, shortest_side(image, 32))
    # Up to that length nothing is cropped before.
    wide = torch.arange(256, dtype=torch.uint8).repeat(3, 4, 1)
    assert centre_of_long(wide) is not wide
    assert torch.equal(centre_of_long(wide), wide)


# --- Pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_floating_point_is_read_by_its_range(tmp_path: Path, scale: float) -> None:
    levels = np.array([[0, 0.25], [0.5, 1]], np.float32) * np.float32(scale)
    Image.fromarray(levels).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[1].tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize(
    "levels", [[-1, 1], [0, 1.5], [0, 1e6], [float("nan"), 1], [0, float("inf")]]
)
def test_floating_point_of_another_range_is_refused(tmp_path: Path, levels: list[float]) -> None:
    Image.fromarray(np.array([levels], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableSample, match=r"x\.tif' \(levels in floating point from"):
        read_image(tmp_path / "x.tif")


def test_eight_bits_in_thirty_two(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100, 255]], np.int32)).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0].tolist() == [[0, 100, 255]]


@pytest.mark.parametrize("ending", ["gif", "avif", "jfif", "jp2", "ppm", "jpe"])
def test_further_endings_are_pictures(root: Path, ending: str) -> None:
    if f".{ending}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow reads no .{ending}")
    picture(root / "cat" / f"new.{ending}", (200, 100, 50))
    data = load(root)
    assert len(data) == 21
    pixel = data.load([data.ids.index(f"cat/new.{ending}")]).images[0, :, 8, 8].float()
    assert (pixel - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 12


def test_what_needs_a_package_is_counted_and_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "registered_extensions", lambda: {".png": "PNG"})
    for number in range(3):
        (root / "cat" / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    data, plain = load(root), Pictures(root, cache=root.parent / "cache")
    told = "3 of 23 pictures need pillow-heif to be read (first: 'cat/0.heic'); install it, convert them"
    assert str(data.unreadable).startswith(told)
    assert str(plain.unreadable).startswith(told[:40])
    kept, skipped = without(data, unreadable(data, lambda done, total: None))
    assert len(kept) == 20
    assert skipped is not None
    assert {reason for _, reason in skipped.samples} == {"no image in a format that Pillow reads"}
    with pytest.raises(UnreadableSample, match="install pillow-heif, or convert the file"):
        data.load([data.ids.index("cat/0.heic")])


def _palette(path: Path) -> None:
    image = Image.new("RGB", (40, 30), (10, 200, 30)).convert("P")
    image.save(path, transparency=bytes([0, 128, 255]))


def _odd_exif(path: Path) -> None:
    image = Image.new("RGB", (40, 30))
    image.save(path, "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40)


def _large(path: Path) -> None:
    """Of more pixels than Pillow takes without a warning, with the limit of the test."""
    Image.new("1", (110, 110), 1).save(path)


@pytest.mark.parametrize("write", [_palette, _odd_exif, _large])
def test_warnings_that_are_errors_stop_no_picture(
    tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 110 * 110 - 1)
    path = tmp_path / "x.png"
    write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(read_image(path), expected)
        # Shards and tables have no file for each picture.
        assert torch.equal(decode_image(path.read_bytes(), "'x'"), expected)


def test_a_bomb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 110 * 55 - 1)
    Image.new("1", (110, 110)).save(tmp_path / "x.png")
    with pytest.raises(UnreadableSample, match=r"x\.png' \(Image size .* exceeds limit"):
        read_image(tmp_path / "x.png")


def test_no_picture_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives EPS to Ghostscript, whatever the file is called, and IPTC holds a file of any format."""
    from PIL import EpsImagePlugin

    started: list[object] = []

    def ghostscript(*arguments: object, **_: object) -> Any:
        started.append(arguments)
        return Image.new("RGB", (8, 8)).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    path = tmp_path / "x.jpg"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    path.write_bytes(eps)
    for read in (
        lambda: read_image(path),
        lambda: decode_image(eps, "'x'"),
        lambda: read_levels(path),
    ):
        with pytest.raises(ClipRobustError, match="its content is EPS, which is not read"):
            read()
    path.rename(tmp_path / "x.png")
    with pytest.raises(ClipRobustError, match="its content is EPS"):
        read_depth(tmp_path / "x.png")
    assert not started
    with Image.open(tmp_path / "x.png") as file:
        file.load()
    assert started  # the trap is one


@pytest.mark.parametrize("ending", sorted(EXTENSIONS))
def test_what_pillow_writes_for_an_ending_is_read(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    Image.init()
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        pytest.skip("Pillow writes no such file here")
    Image.new("1" if ending == ".pbm" else "L" if ending == ".pgm" else "RGB", (20, 16)).save(path)
    assert read_image(path).shape == (3, 16, 20)


def test_endless_sides_take_no_memory(tmp_path: Path) -> None:
    """Rows of one pixel cost eight bytes of administration each, and a line may be longer than Pillow's."""
    for name, size in (("tall", (1, 2**26)), ("wide", (2**26, 1))):
        path = tmp_path / f"{name}.png"
        Image.new("1", (1, 1)).save(path)
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", *size)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        with pytest.raises(UnreadableSample, match="67108864 pixels along a side, more than 65536"):
            read_image(path)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (np.array([[0, 4095]], np.uint16), "greys from 0 to 4095"),
        (np.array([[-1, 200]], np.int32), "greys from -1 to 200"),
        (np.array([[0, 65536]], np.int32), "greys from 0 to 65536"),
    ],
    ids=str,
)
def test_greys_of_a_range_that_nobody_knows_are_refused(
    levels: npt.NDArray[Any], words: str, tmp_path: Path
) -> None:
    Image.fromarray(levels).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableSample, match=words):
        read_image(tmp_path / "x.tif")


def test_black_is_black_in_any_number_of_bits(tmp_path: Path) -> None:
    for number, kind in enumerate((np.uint16, np.int32, np.float32)):
        Image.fromarray(np.zeros((2, 2), kind)).save(tmp_path / f"{number}.tif")
        assert not read_image(tmp_path / f"{number}.tif").any()
    Image.fromarray(np.array([[0, 4096]], np.uint16)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[0].tolist() == [[0, 16]]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _cut(path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4000])


BAD = [_pipe, _device, _nowhere, _to_itself, _cut]


@pytest.mark.parametrize("write", BAD)
def test_what_is_no_picture_is_one_line_at_once(root: Path, write: Callable[[Path], None]) -> None:
    write(root / "cat" / "bad.png")
    told: list[str] = []
    early: list[str | None] = []

    def read() -> None:
        try:
            data = load(root)
            early.append(data.unreadable)
            data.load(range(len(data)))
        except ClipRobustError as error:
            told.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert len(told) == 1
    assert "cat/bad.png" in told[0]
    assert "repair or remove the file" in told[0]
    assert "\n" not in told[0]
    # Whatever is no file is known before anything is measured.
    assert early == [None if write is _cut else told[0]]


@pytest.mark.parametrize("write", BAD)
def test_what_is_no_picture_is_left_out_where_asked(
    root: Path, write: Callable[[Path], None]
) -> None:
    whole = load(root)
    write(root / "cat" / "99.png")
    data = load(root)
    kept, skipped = without(data, unreadable(data, lambda done, total: None))
    assert kept.ids == whole.ids
    assert kept.labels == whole.labels
    assert kept.class_names == whole.class_names
    assert torch.equal(kept.load(range(20)).images, whole.load(range(20)).images)
    assert kept.digest not in (data.digest, whole.digest)
    assert skipped is not None
    assert (skipped.total, skipped.data) == (21, "imagefolder:set")
    ((name, reason),) = skipped.samples
    assert name == "cat/99.png"
    assert reason
    assert str(root) not in reason
    assert skipped.too_many
    assert Skipped.from_dict(skipped.as_dict()) == skipped


def test_one_in_a_hundred_may_be_left_out() -> None:
    one = (("a", "damaged"),)
    assert not Skipped("x", 100, one).too_many
    assert Skipped("x", 99, one).too_many
    assert "1 of 99 samples of x cannot be read, 1.1%, and" in Skipped("x", 99, one).mistake()
    many = Skipped("x", 9, (("a", "p"), ("b", "q"), ("c", "r")))
    assert many.line(2) == (
        "3 of 9 samples of x left out, as they cannot be read: a (p); b (q); 1 more"
    )
    assert many.mistake().startswith(
        "3 of 9 samples of x cannot be read, 33.4%, and --clip-bad-data"
    )
    assert (
        Skipped("x", 200, many.samples)
        .mistake()
        .startswith("3 of 200 samples of x cannot be read, 1.5%,")
    )
    assert [sample for sample, _ in many.unnamed().samples] != ["a", "b", "c"]
    assert len(set(many.unnamed().samples)) == 3
    assert {reason for _, reason in many.unnamed().samples} == {"cannot be read"}


def test_every_sample_that_cannot_be_read_is_left_out_and_told(root: Path) -> None:
    """In several of the parts that are tried at a time, the first and the last sample among them."""
    for number in range(10, 40):
        picture(root / "cat" / f"{number}.png", (number, 0, 200))
    whole = load(root)
    bad = [0, 1, 31, 32, 49]
    for row in bad:
        (root / whole.ids[row]).write_bytes(b"nothing")
    data = load(root)
    tried: list[tuple[int, int]] = []
    found = unreadable(data, lambda done, total: tried.append((done, total)))
    assert np.flatnonzero(found).tolist() == bad
    assert tried == [(32, 50), (50, 50)]
    kept, skipped = without(data, found)
    assert kept.ids == tuple(name for row, name in enumerate(whole.ids) if row not in bad)
    assert skipped is not None
    assert [name for name, _ in skipped.samples] == [whole.ids[row] for row in bad]
    assert skipped.total == 50
    # One that can be read by now is kept.
    picture(root / whole.ids[31])
    again, fewer = without(data, found)
    assert len(again) == 46
    assert fewer is not None
    assert whole.ids[31] not in dict(fewer.samples)


def test_a_data_set_of_nothing_readable_is_one_line(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(b"nothing")
    data = load(root)
    with pytest.raises(
        ClipRobustError, match="none of the 20 samples of imagefolder:set can be read"
    ):
        without(data, unreadable(data, lambda done, total: None))


# --- Anything at all -------------------------------------------------------------------------------

KINDS = ("picture", "cut", "text", "pipe", "folder", "up", "down", "self", "device", "names")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    things=st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.sampled_from(["", "cat/", "dog/", "cat/inner/", "n02123045/"]),
            st.binary(min_size=1, max_size=6).filter(lambda b: not {*b} & {*b"./\0"}),
            st.sampled_from([".png", ".PNG", ".heic", ".txt", ""]),
        ),
        max_size=8,
    )
)
def test_any_tree_is_read_or_refused_in_one_line_at_once(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[str, str, bytes, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "set"
    for name in ("cat", "dog"):
        picture(root / name / "a.png")
    for kind, folder, stem, ending in things:
        (root / folder).mkdir(parents=True, exist_ok=True)
        _put(kind, os.fsencode(root / folder) + b"/" + stem + ending.encode(), root)
    began = time.monotonic()
    try:
        data = load(root)
        assert len(data) == len(set(data.ids)) >= 1
        kept, skipped = without(data, unreadable(data, lambda done, total: None))
        assert len(kept) + (0 if skipped is None else len(skipped.samples)) == len(data)
        for told in (*data.notes, data.label_mistake, data.unreadable):
            assert told is None or "\n" not in told
            str(told).encode()
    except ClipRobustError as error:
        str(error).encode()
    assert time.monotonic() - began < 10


def _put(kind: str, path: bytes, root: Path) -> None:
    """Put something at a path, unless something lies there."""
    where = os.fsdecode(path)
    if os.path.lexists(where):
        return
    if kind == "pipe":
        os.mkfifo(where)
    elif kind == "folder":
        os.mkdir(where)
    elif kind in ("up", "down", "self", "device"):
        targets = {"up": "..", "down": str(root / "cat"), "self": where, "device": "/dev/zero"}
        os.symlink(targets[kind], where)
    elif kind == "names":
        (root / "classes.txt").write_bytes(b"cat\tx\ndog\t" + path[-4:] + b"\n")
    elif kind == "text":
        Path(where).write_bytes(b"nothing")
    else:
        content = (root / "cat" / "a.png").read_bytes()
        Path(where).write_bytes(content[:60] if kind == "cut" else content)


# --- Layouts ---------------------------------------------------------------------------------------


def test_pictures_in_shards_are_decoded_as_those_in_files_are(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    deep = io.BytesIO()
    Image.fromarray(levels).save(deep, "png")
    root = shards(tmp_path / "set", [{"png": deep.getvalue()}, {"png": b"no picture"}], each=2)
    data = load_dataset(f"wds:{root}", size=8)
    assert np.array_equal(data.load([0]).images[0, 0].numpy(), levels >> 8)
    with pytest.raises(UnreadableSample, match=r"'0/s0000001' of .*0\.tar") as caught:
        data.load([1])
    assert caught.value.reason == "no image in a format that Pillow reads"
    (root / "test" / "0.tar").unlink()
    with pytest.raises(UnreadableSample, match="fetch the shard anew"):
        data.load([0])


def test_what_a_file_of_a_layout_says_is_shown_in_short(tmp_path: Path) -> None:
    root = shards(tmp_path / "set", [{"png": encoded(1, "png")}], each=1)
    (root / "test" / "nshards.txt").write_text("1\n1\n" + "1" * 9000)
    with pytest.raises(ClipRobustError, match=r"nshards.txt says 1\\n1") as caught:
        load_dataset(f"wds:{root}")
    assert len(str(caught.value)) < 500
    entry = {"filename": "x" * 5000, "caption": "a", "negative_caption": "b"}
    write_json(tmp_path / "data" / "add_att.json", {"0": entry})
    (tmp_path / "val2017").mkdir()
    pairs: Any = load_dataset(f"sugarcrepe:{tmp_path}")
    with pytest.raises(UnreadableSample, match="cannot read") as unread:
        pairs.load([0])
    for told in (str(pairs.unreadable), str(unread.value)):
        assert "/val2017/xxx" in told
        assert len(told) < 1000


@pytest.mark.parametrize("box", [(3, 4, 0, 16), (500, 4, 16, 16), (-20, 4, 16, 16)])
def test_a_box_without_pixels_is_one_line(tmp_path: Path, box: tuple[int, ...]) -> None:
    picture(tmp_path / "images" / "2.png")
    sides = {f"bbox_{side}": value for side, value in zip("xywh", box, strict=True)}
    entry = {"image_path": "2.png", "true_caption": "t", "false_caption": "f", **sides}
    write_json(tmp_path / "visual_genome_relation.json", [entry])
    data = load_dataset(f"aro:{tmp_path}", size=8)
    with pytest.raises(UnreadableSample, match=r"'relation/0': its box .* holds no pixel"):
        data.load([0])


def test_what_a_layout_of_ours_did_not_expect_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_: object, **__: object) -> None:
        raise KeyError("a name\nthat nobody foresaw")

    monkeypatch.setattr(cifar, "_records", stumbles)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(
        ClipRobustError, match=r"cannot be read .*KeyError.*nobody foresaw"
    ) as caught:
        load_dataset(f"cifar10:{tmp_path}")
    told = str(caught.value)
    assert told.isprintable()
    assert "as their publisher has them (Krizhevsky 2009" in told
