"""IDX files, on fixtures and on Debian's package dataset-fashion-mnist where it is installed."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import SUITES, Sessions, report
from layout_helpers import idx_files

from pytest_cliprobust import cli
from pytest_cliprobust.datasets.layouts.idx import GARMENTS, read_idx
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.errors import ClipRobustError

#: Where Debian's package puts the files.
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

installed = pytest.mark.skipif(
    not (DEBIAN / "t10k-images-idx3-ubyte.gz").is_file(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)


def untouched(image: Any, size: int) -> Any:
    return image


def load(layout: str, path: Path, **settings: Any) -> Any:
    return LAYOUTS[layout](path, **{"size": 28, "frame": untouched, **settings})


@pytest.mark.parametrize("layout", ["mnist", "fashion-mnist", "idx"])
def test_pictures_and_labels_are_those_of_the_files(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, labels = idx_files(tmp_path, count=23)
    (tmp_path / "classes.txt").write_text("".join(f"thing {n}\n" for n in range(10)))
    data = load(layout, tmp_path)
    assert data.name == ("idx:" + tmp_path.name if layout == "idx" else layout)
    assert (
        data.class_names[2] == {"mnist": "2", "fashion-mnist": "Pullover", "idx": "thing 2"}[layout]
    )
    for row, image in enumerate(data.load(range(23)).images.numpy()):
        number = int(data.ids[row].removeprefix("t10k/"))
        assert data.labels[row] == labels[number]
        assert (image == pixels[number]).all()
    assert sorted(data.labels[:10]) == list(range(10))  # every prefix is balanced
    assert cli.main(["data", "check", f"{layout}:{tmp_path}"]) == 0
    assert f"clean {data.name}: 23 samples" in capsys.readouterr().out


def test_compressed_or_not_it_is_the_same_data(tmp_path: Path) -> None:
    idx_files(tmp_path, count=12)
    plain = load("mnist", tmp_path)
    assert plain.templates == ('a photo of the number: "{}".',)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load("mnist", tmp_path).sample_digests == plain.sample_digests
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.with_suffix("").write_bytes(gzip.decompress(labels.read_bytes()))
    labels.unlink()  # one of both is
    assert load("mnist", tmp_path).sample_digests == plain.sample_digests
    assert load("mnist", tmp_path).labels == plain.labels
    assert load("mnist", tmp_path / "t10k-images-idx3-ubyte.gz").ids == plain.ids
    idx_files(tmp_path, count=5, split="train")
    assert load("mnist", tmp_path / "train-images-idx3-ubyte").ids[0].startswith("train/")


def test_names_of_ones_own_stand_beside_the_pictures(tmp_path: Path) -> None:
    """Under every name that publishers give the files; a file of pictures may be named itself."""
    pixels, labels = idx_files(tmp_path, count=12)
    (tmp_path / "classes.txt").write_text("\ufeff" + "".join(f" thing {n} \n\n" for n in range(10)))
    before = load("idx", tmp_path)
    assert before.class_names == tuple(f"thing {n}" for n in range(10))
    named = load("idx", tmp_path / "t10k-images-idx3-ubyte")
    assert named.name == "idx:t10k-images-idx3-ubyte"
    assert (named.class_names, named.sample_digests) == (before.class_names, before.sample_digests)
    images, told = (tmp_path / f"t10k-{n}-ubyte" for n in ("images-idx3", "labels-idx1"))
    for split, middle, ending in (("t10k", ".", ""), ("test", "-", ".gz"), ("test", ".", ".gz")):
        others = [
            f"{split}-{n}-ubyte{ending}" for n in (f"images{middle}idx3", f"labels{middle}idx1")
        ]
        for path, name in zip((images, told), others, strict=True):
            path.rename(tmp_path / name)
        images, told = (tmp_path / name for name in others)
        found = load("idx", tmp_path)
        assert found.sample_digests == before.sample_digests
        assert {name.partition("/")[0] for name in found.ids} == {split}
        assert dict(zip(found.ids, found.labels, strict=True)) == {
            f"{split}/{n}": label for n, label in enumerate(labels)
        }
    assert len(pixels) == 12


def test_a_file_of_no_pictures_is_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">III", 0, 2, 3))
    assert read_idx(path, "pictures").shape == (0, 2, 3)
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">III", 2, 1, 3) + bytes(range(6)))
    assert read_idx(path, "pictures").tolist() == [[[0, 1, 2]], [[3, 4, 5]]]
    for end, words in (
        (-1, "should hold 2 × 1 × 3 bytes of pictures, and holds 5"),
        (-7, "begins"),
    ):
        path.write_bytes((bytes((0, 0, 8, 3)) + struct.pack(">III", 2, 1, 3) + bytes(6))[:end])
        with pytest.raises(ClipRobustError, match=words):
            read_idx(path, "pictures")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "t10k-images-idx3-ubyte",
            b"",
            "which begins with the bytes 0 0 8 3; it begins with nothing",
        ),
        ("t10k-images-idx3-ubyte", b"\x89PNG", "it begins with 137 80 78 71"),
        ("t10k-labels-idx1-ubyte", bytes((0, 0, 13, 1)) + bytes(9), "it begins with 0 0 13 1"),
        (
            "t10k-labels-idx1-ubyte",
            bytes((0, 0, 8, 1, 0, 0, 0, 9, 1)),
            "should hold 9 bytes of labels",
        ),
        (
            "t10k-labels-idx1-ubyte",
            bytes((0, 0, 8, 1, 0, 0, 0, 1, 1)),
            "12 pictures, and .* 1 labels",
        ),
        (
            "t10k-labels-idx1-ubyte",
            bytes((0, 0, 8, 1)) + struct.pack(">I", 12) + bytes([10] * 12),
            "has the label 10, and there are 10 classes",
        ),
        ("t10k-labels-idx1-ubyte", b"\x1f\x8bno", "cannot be read"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    idx_files(tmp_path, count=12)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClipRobustError, match=words) as caught:
        load("mnist", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_told_what_is_expected_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        ClipRobustError, match=r"should hold t10k-images-idx3-ubyte .* it has photos$"
    ):
        load("fashion-mnist", tmp_path)
    for name in "fedcba":
        (tmp_path / name).touch()
    with pytest.raises(ClipRobustError, match=r"it has a, b, c, d, e$"):
        load("fashion-mnist", tmp_path)
    with pytest.raises(ClipRobustError, match=r"it has nothing$"):
        load("fashion-mnist", tmp_path / "photos")
    idx_files(tmp_path, count=12)
    with pytest.raises(ClipRobustError, match=r"should have classes.txt"):
        load("idx", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ClipRobustError, match="should have t10k-labels-idx1-ubyte beside it"):
        load("fashion-mnist", tmp_path)


@installed
def test_the_real_set_is_as_published() -> None:
    """60,000 and 10,000 pictures of 28 × 28, as many of each class."""
    assert read_idx(DEBIAN / "train-images-idx3-ubyte.gz", "pictures").shape == (60_000, 28, 28)
    train = read_idx(DEBIAN / "train-labels-idx1-ubyte.gz", "labels")
    assert Counter(train.tolist()) == dict.fromkeys(range(10), 6_000)
    data = load("fashion-mnist", DEBIAN)
    assert Counter(data.labels) == dict.fromkeys(range(10), 1_000)
    assert data.class_names == GARMENTS
    assert len(set(data.sample_digests)) == 10_000
    # The first picture of the test split is an ankle boot.
    row = data.ids.index("t10k/0")
    assert data.class_names[data.labels[row]] == "Ankle boot"
    image = data.load([row]).images[0].numpy()
    assert image.shape == (3, 28, 28)
    assert np.array_equal(image[0], read_idx(DEBIAN / "t10k-images-idx3-ubyte.gz", "pictures")[0])


@installed
def test_the_real_set_is_measured(run: Sessions) -> None:
    """The example of docs/data.md, with fewer pictures."""
    # OpenAI's longest prompts do not fit into the reference's few tokens.
    (run.path / "prompts.txt").write_text("a photo of a {}.\n")
    options = (
        f"--clip-data=fashion-mnist:{DEBIAN}",
        "--clip-templates=prompts.txt",
        "--clip-limit=40",
        "--clip-report=report.json",
    )
    run(f"{SUITES}/test_accuracy.py", "-k", "test_clean", *options).assert_outcomes(passed=1)
    (entry,) = report()["measurements"]
    figure = entry["figure"]
    assert figure["condition"]["dataset"] == "fashion-mnist"
    assert figure["n"] == 40
    assert 0.0 < figure["low"] < figure["value"] < figure["high"] < 1.0
