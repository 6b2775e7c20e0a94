"""Further published layouts, each on a tree in its exact structure (tests/published_trees.py)."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import published_trees as trees
import pytest
from layout_helpers import WNIDS, by_wnid, picture, pixels_of, write_json

from pytest_cliprobust import cli
from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.layouts import cifar_corrupted, hf, imagenet_x
from pytest_cliprobust.datasets.layouts.imagenet_d import _name
from pytest_cliprobust.datasets.layouts.negbench import _picture
from pytest_cliprobust.datasets.prepared import aligned
from pytest_cliprobust.datasets.registry import LAYOUTS
from pytest_cliprobust.datasets.subset import Subset
from pytest_cliprobust.datasets.wordnet import wnid_of_lemmas, wnids
from pytest_cliprobust.errors import ClipRobustError, Unavailable


def load(layout: str, path: Path, **settings: Any) -> Any:
    return LAYOUTS[layout](path, **{"size": 16, **settings})


def untouched(image: Any, size: int) -> Any:
    return image


def by_id(data: Any, column: str) -> dict[str, str]:
    return dict(zip(data.ids, data.groups[column], strict=True))


# --- Classes of their own --------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "images"])
def test_scam(tmp_path: Path, inner: str) -> None:
    trees.scam(tmp_path / inner)
    data = load("scam", tmp_path)
    assert data.class_names == ("ball", "car", "chair", "usb cable", "zebra")
    assert data.own_classes
    told = by_id(data, "written_label")
    assert told["SCAM_img_0001"] == told["NoSCAM_img_0001"] == "zebra"
    label = dict(zip(data.ids, data.labels, strict=True))["SynthSCAM_img_0001"]
    assert data.class_names[label] == "usb cable"
    # A prefix is of whole photographs, in all three variants.
    first = load("scam", tmp_path, limit=3)
    assert len(set(first.units)) == 1
    assert set(first.groups["variant"]) == {"SCAM", "SynthSCAM", "NoSCAM"}


def test_scam_still_packed(tmp_path: Path) -> None:
    (tmp_path / "images.zip").touch()
    with pytest.raises(ClipRobustError, match=r"unpack images.zip there \(there is images.zip\)"):
        load("scam", tmp_path)
    trees.write_csv(tmp_path / "metadata.csv", [{"file_name": "a.jpg", "type": "SCAM"}])
    with pytest.raises(ClipRobustError, match="has no column 'object_label'"):
        load("scam", tmp_path)
    (tmp_path / "metadata.csv").unlink()
    whole = {"file_name": "a.jpg", "type": "SCAM", "object_label": "cup", "attack_word": "car"}
    lines = [whole, {k: v for k, v in whole.items() if k != "attack_word"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ClipRobustError, match="has no column 'attack_word'"):
        load("scam", tmp_path)


def test_classes_of_its_own_are_not_looked_for_in_those_of_clean(tmp_path: Path) -> None:
    clean = load("imagenet", by_wnid(tmp_path / "val", WNIDS))
    for name, tree in (("scam", trees.scam), ("laion-c", trees.laion_c)):
        data = load(name, tree(tmp_path / name))
        assert aligned(data, clean, "typographic") is data
        part: Any = Subset(data, [0])
        assert part.own_classes


def test_laion_c(tmp_path: Path) -> None:
    data = load("laion-c", trees.laion_c(tmp_path))
    assert len(data) == 2 * 2 * 3
    assert len(data.class_names) == 16
    # A prefix has each condition equally often.
    first = list(zip(data.groups["corruption"][:4], data.groups["severity"][:4], strict=True))
    assert first == [("mosaic", "1"), ("mosaic", "5"), ("stickers", "1"), ("stickers", "5")]
    label = dict(zip(data.groups["folder"], data.labels, strict=True))["timekeeping"]
    assert data.class_names[label] == "clock or watch"
    one = load("laion-c", tmp_path / "stickers")
    assert set(one.groups["corruption"]) == {"stickers"}
    assert data.own_classes
    assert "clean_id" not in data.groups  # none of its pictures is one of clean's
    picture(tmp_path / "mosaic" / "intensity_level_1" / "elephant" / "a.png")
    with pytest.raises(ClipRobustError, match="elephant' is none of its 16 classes"):
        load("laion-c", tmp_path)
    with pytest.raises(
        ClipRobustError, match=r"no <corruption>/<intensity_level_1\|.*there is car_truck, dog"
    ):
        load("laion-c", tmp_path / "mosaic" / "intensity_level_5")


def test_imagenet_d(tmp_path: Path) -> None:
    data = load("imagenet-d", trees.imagenet_d(tmp_path))
    assert data.class_names == (
        *("backpack", "binder (closed)", "coffee or french press", "iron (for clothes)"),
    )
    assert set(data.labels[:4]) == {0, 1, 2, 3}  # every prefix is balanced
    assert data.own_classes
    factors = by_id(data, "factor")
    assert factors["texture/backpack/backpack_texture_1.jpg"] == "texture"
    assert len(data) == 10
    with pytest.raises(
        ClipRobustError,
        match=r"no background, texture, material .*there is binder_closed, iron_for",
    ):
        load("imagenet-d", tmp_path / "background")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("t_shirt", "t shirt"),
        ("dress_shoe_men", "dress shoe (men)"),
        ("laptop_open", "laptop (open)"),
        ("weight_exercise", "weight (exercise)"),
        ("drying_rack_for_plates", "drying rack for plates"),
    ],
)
def test_names_of_imagenet_d(folder: str, name: str) -> None:
    """Known: the names in the published table of its classes."""
    assert _name(folder) == name


# --- Classes of ImageNet ---------------------------------------------------------------------------


def test_imagenet_x(tmp_path: Path) -> None:
    data = load("imagenet-x", trees.imagenet_x(tmp_path, each=4))
    assert len(data) == 6 * 3  # without the prototypes
    counts = {factor: data.groups["factor"].count(factor) for factor in set(data.groups["factor"])}
    assert counts == {"none": 6, "pose": 6, "darker": 6}
    assert set(data.labels[:6]) == {0, 1, 2, 992, 998, 999}
    # Pictures are called as in the layout of ImageNet, so that they pair.
    assert set(data.ids) < set(load("imagenet", tmp_path).ids)
    assert len(set(imagenet_x.FACTORS)) == 16
    (tmp_path / "annotations").mkdir()
    for name in ("imagenet_x_val_top_factor.jsonl", "prototypical_paths.csv"):
        (tmp_path / name).rename(tmp_path / "annotations" / name)
    assert load("imagenet-x", tmp_path).digest == data.digest
    assert load("imagenet-x", tmp_path / "annotations").digest == data.digest  # val lies beside
    (tmp_path / "val" / WNIDS[0] / "ILSVRC2012_val_00000002.JPEG").unlink()
    assert load("imagenet-x", tmp_path).notes == ("1 of 18 annotated pictures are not there",)


def test_pictures_of_imagenet_x_may_lie_beside_the_annotations(tmp_path: Path) -> None:
    whole = load("imagenet-x", trees.imagenet_x(tmp_path / "a", each=2))
    flat = trees.imagenet_x(tmp_path / "b", each=2)
    for path in (flat / "val").rglob("*.JPEG"):
        path.rename(flat / path.name)
    shutil.rmtree(flat / "val")
    data = load("imagenet-x", flat)
    told = {
        Path(name).name: (label, factor)
        for name, label, factor in zip(whole.ids, whole.labels, whole.groups["factor"], strict=True)
    }
    found = zip(data.labels, data.groups["factor"], strict=True)
    assert dict(zip(data.ids, found, strict=True)) == told
    assert data.groups["folder"] == tuple(wnids()[label] for label in data.labels)
    (flat / "annotations").mkdir()
    for name in ("imagenet_x_val_top_factor.jsonl", "prototypical_paths.csv"):
        (flat / name).rename(flat / "annotations" / name)
    for name in told:
        (flat / name).rename(flat / "annotations" / name)
    assert load("imagenet-x", flat).ids == tuple(f"annotations/{name}" for name in data.ids)


def test_mistakes_in_imagenet_x(tmp_path: Path) -> None:
    with pytest.raises(ClipRobustError, match=r"has no 'imagenet_x_val_top_factor.jsonl' or"):
        load("imagenet-x", tmp_path)
    trees.imagenet_x(tmp_path)
    table = tmp_path / "imagenet_x_val_top_factor.jsonl"
    lines = table.read_text().splitlines()
    several = {**json.loads(lines[0]), "pose": 1, "darker": 1}
    for line, words in (
        (
            json.dumps(several),
            "line 1: class 0 with the factors darker, pose; .* one factor at most",
        ),
        ('{"file_name": "a.JPEG", "class": 0}', "line 1: no entry of ImageNet-X"),
        ("[", "line 1: no entry of ImageNet-X"),
        (json.dumps({**json.loads(lines[0]), "class": 1000}), "class 1000 with the factors pose"),
    ):
        table.write_text(line)
        with pytest.raises(ClipRobustError, match=words):
            load("imagenet-x", tmp_path)
    table.write_text(lines[1].replace("ILSVRC", "other"))
    with pytest.raises(ClipRobustError, match="none of the 1 annotated pictures is below"):
        load("imagenet-x", tmp_path)
    (tmp_path / "prototypical_paths.csv").unlink()
    with pytest.raises(ClipRobustError, match=r"has no 'prototypical_paths.csv'"):
        load("imagenet-x", tmp_path)


def test_objectnet(tmp_path: Path) -> None:
    trees.objectnet(tmp_path / "objectnet-1.0")
    data = load("objectnet", tmp_path, frame=untouched)
    assert data.class_names == tuple(imagenet.labels().names[n] for n in (412, 423, 559, 765, 954))
    found = dict(
        zip(data.groups["folder"], zip(data.labels, data.further_labels, strict=True), strict=True)
    )
    # Known: trash can 412; barber chair 423, folding chair 559, rocking chair 765; banana 954.
    assert found == {"trash_bin": (0, ()), "chair": (1, (2, 3)), "banana": (4, ())}
    assert data.notes == ("left out: 1 class that ImageNet has not",)
    row = data.groups["folder"].index("chair")
    expected = np.random.default_rng(2).integers(0, 256, (28, 30, 3), dtype=np.uint8)
    assert np.array_equal(
        data.load([row]).images[0].numpy(), expected[2:-2, 2:-2].transpose(2, 0, 1)
    )
    clean = load("imagenet", by_wnid(tmp_path / "val", WNIDS))
    placed: Any = aligned(data, clean, "shift")
    assert placed.head_rows == (412, 423, 559, 765, 954)
    assert placed.labels == data.labels
    assert placed.further_labels == data.further_labels
    shutil.copytree(tmp_path / "objectnet-1.0", tmp_path / "other")
    for folder in ("banana", "chair", "trash_bin"):
        shutil.rmtree(tmp_path / "other" / "images" / folder)
    with pytest.raises(ClipRobustError, match="has none of the 3 folders that the mapping names"):
        load("objectnet", tmp_path / "other")
    (tmp_path / "objectnet-1.0" / "mappings" / "objectnet_to_imagenet_1k.json").write_text(
        '{"Banana": "bananas"}'
    )
    with pytest.raises(ClipRobustError, match="names 'bananas', which is no class of ImageNet"):
        load("objectnet", tmp_path)
    with pytest.raises(
        ClipRobustError,
        match=r"is no ObjectNet: it has no 'images'.*there is air_freshener, banana, chair and 1",
    ):
        load("objectnet", tmp_path / "objectnet-1.0" / "images")


@pytest.mark.parametrize(
    ("lemmas", "label"),
    [
        ("analog clock", 409),
        ("digital clock", 530),
        ("bow tie, bow-tie, bowtie", 457),
        ("cup", 968),
        ("toilet tissue, toilet paper, bathroom tissue", 999),
    ],
)
def test_classes_by_their_words(lemmas: str, label: int) -> None:
    """Known: the numbers of the classes."""
    assert wnid_of_lemmas(lemmas) == wnids()[label]


def test_words_of_no_class_or_of_two() -> None:
    assert wnid_of_lemmas("crane") is None
    assert wnid_of_lemmas("clock") is None


def test_each_real_folder_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    root = by_wnid(tmp_path / "r", WNIDS[:2])
    (root / WNIDS[0] / "loop").symlink_to(root)
    (root / WNIDS[2]).symlink_to(root / WNIDS[1])
    data = load("imagenet-r", root)
    assert len(data) == 4
    assert any("links to folders that are read already" in note for note in data.notes)
    for inner in ("fog/1", "fog/2"):
        by_wnid(tmp_path / "c" / inner, WNIDS[:1], each=1)
    (tmp_path / "c" / "fog" / "3").symlink_to(tmp_path / "c" / "fog" / "1")
    corrupted = load("imagenet-c", tmp_path / "c")
    assert sorted(corrupted.groups["severity"]) == ["1", "2"]
    (tmp_path / "c" / "up").symlink_to(tmp_path / "c")
    cues = tmp_path / "cues"
    picture(cues / "cat" / "cat1-dog2.png")
    (cues / "cat" / "again").symlink_to(cues)
    assert load("cue-conflict", cues).ids == ("cat/cat1-dog2.png",)


# --- CIFAR -----------------------------------------------------------------------------------------


def test_cifar_corrupted(tmp_path: Path) -> None:
    labels = [3, 0, 3, 9]
    clean = load("cifar10", trees.cifar10(tmp_path, labels))
    data = load("cifar10-c", trees.cifar_c(tmp_path / "CIFAR-10-C", labels), frame=untouched)
    assert data.class_names == clean.class_names
    assert len(data) == 4 * 2 * 5
    assert data.ids[:3] == ("fog/1/1", "fog/2/1", "fog/3/1")  # the first class is that of picture 1
    number = dict(zip(clean.ids, clean.labels, strict=True))
    assert all(
        label == number[made_of]
        for label, made_of in zip(data.labels, data.groups["clean_id"], strict=True)
    )
    # As many pictures of the same order as of clean, so that parts of both pair.
    assert dict.fromkeys(data.groups["clean_id"]) == dict.fromkeys(clean.ids)
    row = data.ids.index("jpeg_compression/4/2")
    expected = np.random.default_rng(4).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)[2]
    assert np.array_equal(data.load([row]).images[0].numpy(), expected)
    assert load("cifar10-c", tmp_path, limit=7).ids == data.ids[:7]
    assert load("cifar10-c", tmp_path, limit=7).sample_digests == data.sample_digests[:7]


@pytest.mark.parametrize(
    ("limit", "made"), [(None, 20), (7, 7), (20, 20), (99, 20), (0, 0), (-1, 0)]
)
def test_no_more_rows_are_made_than_are_wanted(limit: int | None, made: int) -> None:
    """Of the whole set there would be 950,000."""
    rows = list(cifar_corrupted._rows([1, 0], ["a.npy", "b.npy"], [*range(10)], 2, limit))
    assert len(rows) == made
    assert [row.id for row in rows[:2]] == ["a/1/1", "a/2/1"][:made]
    assert [row.label for row in rows[:3]] == [1, 3, 5][:made]


def test_mistakes_in_cifar_corrupted(tmp_path: Path) -> None:
    whole = trees.cifar_c(tmp_path / "whole", [3, 0])
    for labels in ([3, 10] * 5, [3, 0] * 4, [], [[3]] * 10, [3.5, 0] * 5, [3, -1] * 5):
        np.save(whole / "labels.npy", np.array(labels))
        with pytest.raises(
            ClipRobustError, match=r"is no list of classes below 10 for each of the 5"
        ):
            load("cifar10-c", whole)
    np.save(whole / "labels.npy", np.array([3, 9] * 4 + [3, 0]))
    data = load("cifar10-c", whole)
    found = dict(zip(data.ids, data.labels, strict=True))
    assert (found["fog/4/1"], found["fog/5/1"], found["fog/5/0"]) == (9, 0, 3)
    for name in ("fog", "jpeg_compression"):
        (whole / f"{name}.npy").unlink()
    with pytest.raises(ClipRobustError, match=r"has no corruption, only labels; fetch fog\.npy"):
        load("cifar10-c", whole)
    root = trees.cifar_c(tmp_path / "c", [3, 0, 70, 9])
    with pytest.raises(ClipRobustError, match=r"labels.npy' is no list of classes below 10"):
        load("cifar10-c", root)
    assert load("cifar100-c", root).class_names[70] == "rose"
    np.save(root / "snow.npy", np.zeros((20, 32, 32, 3)))
    with pytest.raises(ClipRobustError, match=r"snow.npy' has the shape .* of float64; expected"):
        load("cifar100-c", root)
    np.save(root / "snow.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ClipRobustError, match=r"snow.npy' is no array that can be mapped"):
        load("cifar100-c", root)
    (root / "labels.npy").unlink()
    with pytest.raises(ClipRobustError, match=r"has no 'labels.npy'.*there is fog.npy"):
        load("cifar100-c", root)


def test_the_names_of_cifar_are_in_the_order_of_the_alphabet() -> None:
    for names, count in ((cifar_corrupted.CIFAR10, 10), (cifar_corrupted.CIFAR100, 100)):
        assert len(set(names)) == count
        assert list(names) == sorted(names)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_pickles_are_refused(tmp_path: Path, inner: str) -> None:
    (tmp_path / inner).mkdir(exist_ok=True)
    (tmp_path / inner / "test_batch").write_bytes(b"\x80\x04")
    with pytest.raises(ClipRobustError, match=r"of pickles, .* fetch the binary version"):
        load("cifar10", tmp_path)


# --- Arrow, Parquet, shards ------------------------------------------------------------------------


def test_saved_data_sets(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    trees.saved(tmp_path / "test", [1, 0, None, 1, -1])
    trees.saved(tmp_path / "train", [1])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = load("hf", tmp_path, frame=untouched)
    assert data.name == f"hf:{tmp_path.name}"
    assert data.class_names == ("cat", "dog")
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {"0": 1, "1": 0, "2": -1, "3": 1, "4": -1}
    assert by_id(data, "place")["3"] == "outdoors"
    assert data.subgroups == ("place",)
    images = data.load([data.ids.index("3"), data.ids.index("0")]).images.numpy()
    assert np.array_equal(images[0], pixels_of(3))
    assert np.array_equal(images[1], pixels_of(0))
    assert len(set(data.sample_digests)) == 5
    assert load("hf", tmp_path / "train").labels == (1,)


def test_which_split_of_a_saved_data_set_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    names = ("train", "valid", "val", "validation", "test")
    for count, name in enumerate(names, start=1):
        trees.saved(tmp_path / name, [0] * count)
    for count in range(5, 1, -1):
        write_json(tmp_path / "dataset_dict.json", {"splits": [*names[:count]]})
        assert len(load("hf", tmp_path)) == count
    write_json(tmp_path / "dataset_dict.json", {"splits": ["train"]})
    assert len(load("hf", tmp_path)) == 1
    for told, has in (
        ({"splits": []}, "none"),
        ({"splits": ["train", "own"]}, "train, own"),
        ([], "none"),
    ):
        write_json(tmp_path / "dataset_dict.json", told)
        with pytest.raises(ClipRobustError, match=f"has the splits {has}; give the folder"):
            load("hf", tmp_path)


def test_a_saved_data_set_of_several_files(tmp_path: Path) -> None:
    """Rows are numbered through; a picture is that of its row, whichever file it lies in."""
    pytest.importorskip("pyarrow")
    folder, more = trees.saved(tmp_path / "a", [1, 0, 1]), trees.saved(tmp_path / "b", [0])
    first = load("hf", folder)
    (more / "data-00000-of-00001.arrow").rename(folder / "data-00001-of-00002.arrow")
    files = [{"filename": f"data-0000{n}-of-0000{n + 1}.arrow"} for n in range(2)]
    write_json(folder / "state.json", {"_data_files": files})
    data = load("hf", folder, frame=untouched)
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {"0": 1, "1": 0, "2": 1, "3": 0}
    rows = [data.ids.index(name) for name in "302"]
    for image, seed in zip(data.load(rows).images.numpy(), (0, 0, 2), strict=True):
        assert np.array_equal(image, pixels_of(seed))
    assert len(set(data.sample_digests)) == 4
    assert not set(data.sample_digests) & set(first.sample_digests)


def test_of_several_columns_of_pictures_the_first_is_taken(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    features = {name: {"_type": "Image"} for name in ("front", "back")}
    rows = [{"front": {"path": "a.png"}, "back": {"path": "b.png"}}]
    write_saved(arrow, tmp_path, features, rows)
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 2)
    data = load("hf", tmp_path, frame=untouched)
    assert np.array_equal(data.load([0]).images[0].numpy(), pixels_of(1, (24, 20)))


def test_pictures_may_be_paths(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    write_saved(arrow, tmp_path, {"image": {"_type": "Value"}}, [{"image": "a.png"}, {"image": ""}])
    picture(tmp_path / "a.png", 1)
    data = load("hf", tmp_path, frame=untouched)
    row = data.ids.index("0")
    assert np.array_equal(data.load([row]).images[0].numpy(), pixels_of(1, (24, 20)))
    with pytest.raises(ClipRobustError, match="'1' has no picture; save the data set anew"):
        data.load([1 - row])


def write_saved(arrow: Any, folder: Path, features: Any, rows: Any) -> None:
    """Write what save_to_disk writes."""
    table = arrow.Table.from_pylist(rows)
    with (
        arrow.OSFile(str(folder / "data.arrow"), "wb") as sink,
        arrow.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))


def test_a_row_of_a_saved_data_set_is_texts() -> None:
    entry = {"a": 3, "b": None, "c": {"x": 1}, "d": "t", "e": [1, 2], "f": 0.5, "label": 1}
    texts = {"a": "3", "b": None, "c": '{"x": 1}', "d": "t", "e": [1, 2], "f": "0.5"}
    plain = hf.Table((), None, "image", "", ())
    assert hf._entry(entry, plain, 7) == {**texts, "label": "1", "id": "7"}
    named = replace(plain, label="label", names=("cat", "dog"))
    assert hf._entry({**entry, "id": 5}, named, 7) == {**texts, "label": "dog", "id": "5"}


def test_a_saved_data_set_without_its_pictures(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    trees.saved(tmp_path / "a", [0])
    path = tmp_path / "a" / "dataset_info.json"
    told = json.loads(path.read_text())
    told["features"] = {"gone": {"_type": "Image"}, "label": told["features"]["label"]}
    path.write_text(json.dumps(told))
    with pytest.raises(ClipRobustError, match="has no column of pictures; it has gone, label"):
        load("hf", tmp_path / "a")


def test_mistakes_in_saved_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ClipRobustError, match=r"no state.json .*save_to_disk.*there is nothing"):
        load("hf", tmp_path)
    trees.saved(tmp_path / "a", [7])
    with pytest.raises(ClipRobustError, match="row 0 has the class 7 of 2"):
        load("hf", tmp_path / "a")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    with pytest.raises(
        ClipRobustError, match="has the splits a, b; give the folder of one of them"
    ):
        load("hf", tmp_path)
    (tmp_path / "a" / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(ClipRobustError, match=r"cannot be read.*save the data set anew"):
        load("hf", tmp_path / "a")
    (tmp_path / "a" / "state.json").write_text("{}")
    with pytest.raises(ClipRobustError, match=r"has a state.json or dataset_info.json of another"):
        load("hf", tmp_path / "a")
    trees.saved(tmp_path / "b", [0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unavailable, match=r"needs pyarrow .* 'pytest-cliprobust\[arrow\]'"):
        load("hf", tmp_path / "b")


def test_parquet_has_types(tmp_path: Path) -> None:
    """Numbers for classes, 0 among them, nothing in a cell, and lists of captions."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    table = {
        "image": ["a.png", "b.png", "c.png", "d.png"],
        "label": [10, 0, None, 2],
        "id": [0, 1, 2, 3],
        "caption": [["one", "two"], ["three"], [], None],
        "severity": [1, 2, 3, 4],
        "place": ["in", None, "out", "in"],
    }
    path = tmp_path / "label=5" / "t.parquet"  # a folder that is no column
    path.parent.mkdir()
    for name in "abcd":
        (tmp_path / f"{name}.png").rename(path.parent / f"{name}.png")
    parquet.write_table(arrow.table(table), path)
    data = load("manifest", path)
    assert data.class_names == ("0", "2", "10")
    assert dict(zip(data.ids, data.labels, strict=True)) == {"0": 2, "1": 0, "2": -1, "3": 1}
    assert by_id(data, "severity")["2"] == "3"
    assert by_id(data, "place")["1"] == ""
    told = dict(zip(data.ids, data.captions, strict=True))
    assert told == {"0": ("one", "two"), "1": ("three",), "2": (), "3": ()}
    lines = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    (path.parent / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    same = load("manifest", path.parent / "t.jsonl")
    assert (same.ids, same.labels, same.groups) == (data.ids, data.labels, data.groups)
    path.write_bytes(b"PAR1")
    with pytest.raises(ClipRobustError, match="cannot be read"):
        load("manifest", path)


def test_shards_of_several_labels(tmp_path: Path) -> None:
    names = ("cat", "dog", "person")
    marks = ([0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1])
    data = load("wds", trees.several_labels(tmp_path / "v", marks, names))
    labels = dict(zip(data.ids, zip(data.labels, data.further_labels, strict=True), strict=True))
    assert labels == {
        "0/s0000000": (1, (2,)),
        "0/s0000001": (0, ()),
        "1/s0000002": (-1, ()),
        "1/s0000003": (0, (1, 2)),
    }
    assert "several labels" in data.notes[0]
    assert data.groups == {}
    for bad in ([0, 1], [0, 1, 2]):
        trees.several_labels(tmp_path / str(bad), [bad], names)
        with pytest.raises(ClipRobustError, match=r"are not 0 or 1 for each of the 3 classes"):
            load("wds", tmp_path / str(bad))


# --- Texts -----------------------------------------------------------------------------------------


def test_negbench(tmp_path: Path) -> None:
    choices, captions = trees.negbench(tmp_path)
    data = load("negbench", choices)
    assert data.name == "negbench:COCO_val_mcq_llama3.1_rephrased"
    found = {id_: own[0] for id_, own in zip(data.ids, data.choices, strict=True)}
    assert found["1"].kind == "positive"
    assert found["4"] == (
        *("negative", "No dog 3."),
        ("A dog 3.", "A cat, but no dog 3.", "A dog, but no cat 3."),
    )
    assert set(data.units) == {"000000000001.jpg", "000000000002.jpg"}
    assert data.load([0, 1]).images.shape == (2, 3, 16, 16)
    told = load("negbench", captions)
    assert dict(zip(told.ids, told.captions, strict=True))["1"] == (
        *("It's a dog, and not a cat 0.", 'A "dog" 0.'),
    )


def test_which_caption_of_a_choice_is_the_right_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    rows = [
        {"correct_answer": right, "image_path": "a.jpg", "correct_answer_template": kind}
        | {f"caption_{n}": f" {text} " for n, text in enumerate(texts)}
        for right, kind, texts in (
            ("0", "positive", ("x", "y", "")),
            ("1.0", "", ("x", "y", "")),
            ("2", " hybrid ", ("x", "y", "z")),
        )
    ]
    data = load("negbench", trees.write_csv(tmp_path / "t.csv", rows))
    assert dict(zip(data.ids, data.choices, strict=True)) == {
        "1": (("positive", "x", ("y",)),),
        "2": (("negation", "y", ("x",)),),
        "3": (("hybrid", "z", ("x", "y")),),
    }
    assert (data.units, data.unit) == (("a.jpg",) * 3, "picture")


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (("d.jpg", "c/d.jpg", "b/c/d.jpg"), "b/c/d.jpg"),
        (("d.jpg", "c/d.jpg"), "c/d.jpg"),
        (("d.jpg", "images/d.jpg"), "d.jpg"),
        (("images/d.jpg",), "images/d.jpg"),
        (("images/c/d.jpg", "d.jpg"), "images/c/d.jpg"),
        (("../c/d.jpg", "d.jpg"), "../c/d.jpg"),
        (("a/b/c/d.jpg", "b/c/d.jpg"), "b/c/d.jpg"),
    ],
)
def test_where_a_table_of_negbench_finds_its_pictures(
    tmp_path: Path, places: tuple[str, ...], found: str
) -> None:
    """A path of somebody else's machine ends in the one here, of which the longest end counts."""
    table = tmp_path / "tables" / "t.csv"
    for place in places:
        picture(table.parent / place)
    assert _picture("/home/a/b/c/d.jpg", table, "row 1") == found
    assert _picture("C:\\home\\a\\b\\c\\d.jpg", table, "row 1") == found


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"image": "a.jpg"}, "is no table of NegBench: .* and has image"),
        ({"filepath": "a.jpg", "captions": "open('x')"}, "row 1: captions are no list of texts"),
        ({"filepath": "a.jpg", "captions": "[1]"}, "row 1: captions are no list of texts"),
        ({"filepath": "a.jpg", "captions": "[]"}, "row 1: captions are no list of texts"),
        ({"filepath": "a.jpg", "captions": "['x', 1]"}, "row 1: captions are no list of texts"),
        ({"filepath": "a.jpg", "captions": "('x',)"}, "row 1: captions are no list of texts"),
        (
            {"image_path": "a.jpg", "caption_0": "x", "caption_1": "", "correct_answer": 0},
            "row 1: the correct answer '0' is none of its 1 captions",
        ),
        (
            {"image_path": "a.jpg", "caption_0": "x", "caption_1": "y", "correct_answer": "-1"},
            "row 1: the correct answer '-1' is none of its 2 captions",
        ),
        ({"filepath": "gone.jpg", "captions": "['x']"}, "row 1: the picture 'gone.jpg' is neither"),
        (
            {"image_path": "a.jpg", "caption_0": "x", "caption_1": "y", "correct_answer": 2},
            "row 1: the correct answer '2' is none of its 2 captions",
        ),
    ],
)
def test_mistakes_in_negbench(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    picture(tmp_path / "a.jpg")
    with pytest.raises(ClipRobustError, match=words):
        load("negbench", trees.write_csv(tmp_path / "t.csv", [row]))


def test_mmvp(tmp_path: Path) -> None:
    data = load("mmvp", trees.mmvp(tmp_path))
    assert data.groups["pair"] == ("1", "1", "3", "3", "5", "5", "7", "7")
    assert data.groups["pattern"] == (*["Color and Appearance"] * 4, *["Texts"] * 4)
    assert data.captions[2] == ("a photo of a thing, number 3",)
    assert load("mmvp", tmp_path, limit=2).ids == ("1", "2")
    table = tmp_path / "Questions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(ClipRobustError, match="a pair lacks its half"):
        load("mmvp", tmp_path)
    table.write_text("\n".join([*lines[:2], "2,Texts"]))
    with pytest.raises(ClipRobustError, match="line 3 is not ID, PATTERN, STATEMENT"):
        load("mmvp", tmp_path)


# --- All of them -----------------------------------------------------------------------------------

NEW = {
    "scam": ("typographic", trees.scam),
    "imagenet-x": ("factors", trees.imagenet_x),
    "objectnet": ("shift", trees.objectnet),
    "imagenet-d": ("factors", trees.imagenet_d),
    "laion-c": ("corrupted", trees.laion_c),
    "cifar10-c": ("corrupted", lambda root: trees.cifar_c(root / "c", [3, 0])),
    "cifar100-c": ("corrupted", lambda root: trees.cifar_c(root / "c", [3, 70])),
    "negbench": ("compositional", lambda root: trees.negbench(root)[0]),
    "mmvp": ("compositional", trees.mmvp),
}


@pytest.mark.parametrize("layout", NEW)
def test_check(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    role, tree = NEW[layout]
    root = tmp_path / "here"
    root.mkdir()
    assert cli.main(["data", "check", f"{role}={layout}:{tree(root)}"]) == 0
    name = "negbench:COCO_val_mcq_llama3.1_rephrased" if layout == "negbench" else layout
    assert f"{role} {name}: " in capsys.readouterr().out


def test_annotated_pictures_are_those_of_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.imagenet_x(tmp_path)
    assert cli.main(["data", "check", f"imagenet:{root}", f"imagenet-x:{root}"]) == 0
    assert "the same in" not in capsys.readouterr().out
    assert cli.main(["data", "check", f"imagenet:{root}", f"shift=imagenet-r:{root}/val"]) == 1
    assert "24 pictures are the same in clean imagenet and shift" in capsys.readouterr().out


@pytest.mark.parametrize("layout", sorted({*NEW, "hf", "cifar10", "wds", "imagenet"}))
def test_a_wrong_folder_is_one_line(layout: str, tmp_path: Path) -> None:
    picture(tmp_path / "somewhere" / "else.jpg")
    with pytest.raises(ClipRobustError) as caught:
        load(layout, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(tmp_path) in text
    if layout not in (
        "negbench",
        "imagenet",
        "wds",
    ):  # which name a table, or say what they look for
        assert "somewhere" in text
