"""Published layouts, each on a fixture tree in its exact structure."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_helpers import (
    WNIDS,
    by_wnid,
    devkit,
    encoded,
    flat_imagenet,
    kaggle_solution,
    picture,
    pixels_of,
    shards,
    write_json,
)

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.layouts import openood
from pytest_cliprobust.datasets.prepared import aligned
from pytest_cliprobust.datasets.providers import provider_of
from pytest_cliprobust.datasets.registry import LAYOUTS, published, register_layout, told_of
from pytest_cliprobust.datasets.roles import ROLES
from pytest_cliprobust.datasets.sources import read_sources
from pytest_cliprobust.datasets.wordnet import wnids
from pytest_cliprobust.errors import ClipRobustError, Unavailable


def load(layout: str, path: Path, **settings: Any) -> Any:
    return LAYOUTS[layout](path, **{"size": 16, **settings})


def untouched(image: Any, size: int) -> Any:
    return image


# --- ImageNet --------------------------------------------------------------------------------------


def test_the_classes_of_imagenet() -> None:
    """Known: tench is 0, toilet tissue 999, and the cranes are the bird (134) and the machine (517)."""
    names, keys = imagenet.labels().names, wnids()
    assert len(names) == len(keys) == len(set(keys)) == 1000
    assert (names[0], keys[0]) == ("tench", "n01440764")
    assert keys[999] == "n15075141"
    assert keys[134] == "n02012849"
    assert keys[517] == "n03126707"


def test_imagenet_in_folders(tmp_path: Path) -> None:
    by_wnid(tmp_path / "val", WNIDS, each=2)
    data = load("imagenet", tmp_path)
    assert data.name == "imagenet"
    assert data.class_names == imagenet.labels().names
    assert data.labels == (0, 1, 2, 992, 998, 999) * 2  # every prefix is balanced
    assert data.ids[0] == "n01440764/ILSVRC2012_val_00000001.JPEG"
    assert load("imagenet", tmp_path / "val", limit=4).ids == data.ids[:4]
    assert data.load([5, 0]).images.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("form", ["kaggle", "devkit"])
def test_imagenet_flat(tmp_path: Path, form: str) -> None:
    classes = [WNIDS[5], WNIDS[0], WNIDS[2]]
    flat_imagenet(tmp_path / "val", classes)
    with pytest.raises(ClipRobustError, match="has neither folders by WordNet id nor"):
        load("imagenet", tmp_path)
    if form == "kaggle":
        kaggle_solution(tmp_path / "LOC_val_solution.csv", classes)
    else:
        # The kit's numbers are not in the order of the WordNet ids.
        numbers = {wnid: 500 - n for n, wnid in enumerate(WNIDS)}
        devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data", numbers, classes)
    data = load("imagenet", tmp_path)
    if form == "kaggle":  # it may lie beside the pictures, or their folder be named alone
        assert load("imagenet", tmp_path / "val").labels == data.labels
        (tmp_path / "LOC_val_solution.csv").rename(tmp_path / "val" / "LOC_val_solution.csv")
        assert load("imagenet", tmp_path).labels == data.labels
    else:
        (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").rename(tmp_path / "meta.mat")
        with pytest.raises(ClipRobustError, match="has neither folders by WordNet id nor"):
            load("imagenet", tmp_path)
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {f"ILSVRC2012_val_{n:08d}.JPEG": k for n, k in ((1, 999), (2, 0), (3, 2))}


def test_imagenet_v2_is_labelled_by_number(tmp_path: Path) -> None:
    for name in ("0", "2", "10", "999"):
        picture(tmp_path / name / "a.jpeg")
    data = load("imagenet-v2", tmp_path)
    assert {Path(i).parent.name: n for i, n in zip(data.ids, data.labels, strict=True)} == {
        "0": 0,
        "2": 2,
        "10": 10,
        "999": 999,
    }
    picture(tmp_path / "1000" / "a.jpeg")
    with pytest.raises(ClipRobustError, match="folders named 0 to 999"):
        load("imagenet-v2", tmp_path)


@pytest.mark.parametrize("layout", ["imagenet-r", "imagenet-a"])
def test_a_part_of_the_classes_restricts_the_head(tmp_path: Path, layout: str) -> None:
    by_wnid(tmp_path / "r", WNIDS[1:5:3])
    (tmp_path / "r" / "README.txt").write_text("n01443537 goldfish")
    data = load(layout, tmp_path / "r")
    assert (data.name, len(data.class_names), data.labels) == (layout, 2, (0, 1, 0, 1))
    clean = load("imagenet", by_wnid(tmp_path / "val", WNIDS))
    found: Any = aligned(data, clean, "shift")
    assert found.head_rows == (1, 998)
    assert found.class_names == tuple(clean.class_names[n] for n in (1, 998))
    assert found.labels == (0, 1, 0, 1)


def test_sketch_and_what_lies_outside(tmp_path: Path) -> None:
    by_wnid(tmp_path / "sketch", WNIDS[:3])
    assert load("imagenet-sketch", tmp_path).labels == (0, 1, 2) * 2
    by_wnid(tmp_path / "o", ["n01443537", "n99999999"])
    assert set(load("imagenet-o", tmp_path / "o").labels) == {-1}
    with pytest.raises(ClipRobustError, match="'n99999999' is none of ImageNet's"):
        load("imagenet-r", tmp_path / "o")
    with pytest.raises(ClipRobustError, match="no folders named by WordNet ids"):
        load("imagenet-a", tmp_path / "o" / "n01443537")


@pytest.mark.parametrize("inner", ["", "weather"])
def test_corrupted_trees(tmp_path: Path, inner: str) -> None:
    for corruption in ("fog", "snow"):
        for severity in ("1", "5"):
            by_wnid(tmp_path / inner / corruption / severity, WNIDS[:2], each=1)
    data = load("imagenet-c", tmp_path)
    assert len(data) == 8
    # A prefix has each condition equally often.
    first = list(zip(data.groups["corruption"][:4], data.groups["severity"][:4], strict=True))
    assert first == [("fog", "1"), ("fog", "5"), ("snow", "1"), ("snow", "5")]
    assert set(data.groups["clean_id"]) == set(
        load("imagenet", by_wnid(tmp_path / "val", WNIDS[:2], each=1)).ids
    )
    assert load("imagenet-3dcc", tmp_path / inner / "fog").groups["corruption"] == ("fog",) * 4
    with pytest.raises(ClipRobustError, match=r"no <corruption>/<1\|2\|3\|4\|5>/<class>/"):
        load("imagenet-c", tmp_path / "val")


def test_files_called_like_severities_are_none(tmp_path: Path) -> None:
    by_wnid(tmp_path / "fog" / "2", WNIDS[:1], each=2)
    by_wnid(tmp_path / "fog" / "6", WNIDS[:1], each=1)
    (tmp_path / "1").write_text("a file")
    (tmp_path / "fog" / "3").write_text("a file")
    data = load("imagenet-c", tmp_path)
    assert data.groups["corruption"] == ("fog", "fog")
    assert data.groups["severity"] == ("2", "2")
    assert set(data.ids) == {f"fog/2/{name}" for name in data.groups["clean_id"]}
    assert data.load([1]).images.shape == (1, 3, 16, 16)
    assert len(load("imagenet-c", tmp_path / "fog")) == 2


# --- Outside the label set -------------------------------------------------------------------------


def test_textures_and_ninco(tmp_path: Path) -> None:
    for kind in ("banded", "zigzagged"):
        picture(tmp_path / "dtd" / "images" / kind / f"{kind}_0001.jpg")
    for place in (tmp_path / "dtd", tmp_path / "dtd" / "images"):
        data = load("textures", place)
        assert sorted(data.groups["folder"]) == ["banded", "zigzagged"]
        assert data.labels == (-1, -1)
    picture(tmp_path / "ninco" / "NINCO_OOD_classes" / "amphiuma_means" / "a.jpeg")
    assert load("ninco", tmp_path / "ninco").ids == ("amphiuma_means/a.jpeg",)
    with pytest.raises(ClipRobustError, match="is no DTD: it has no 'images' or 'banded'"):
        load("textures", tmp_path / "ninco")


def test_subsets_of_mos(tmp_path: Path) -> None:
    root = tmp_path / "ImageNet_OOD_dataset"
    for name in ("iNaturalist", "SUN", "Places", "dtd/images/banded"):
        folder = root / name
        for number in range(3):
            inner = folder if name.startswith("dtd") else folder / "images"
            picture(inner / f"{number:032x}.jpg", number)
    (root / "Not of it" / "images").mkdir(parents=True)
    provider = provider_of(read_sources([f"mos:{root}"]))
    names = ["mos:iNaturalist", "mos:SUN", "mos:Places", "mos:dtd"]
    assert [provider.name_of(key) for key in provider.of("far_ood")] == names
    one = provider_of(read_sources([f"far_ood=mos:{root}/SUN"]))
    assert [one.name_of(key) for key in one.of("far_ood")] == ["mos:SUN"]
    for name, folders in (("Places", {""}), ("dtd", {"banded"})):
        data = load("mos", root / name)
        assert (data.name, data.labels) == (f"mos:{name}", (-1, -1, -1))
        assert set(data.groups["folder"]) == folders
    with pytest.raises(ClipRobustError, match="is no subset of MOS, nor a folder of them: it has"):
        load("mos", tmp_path)


def test_lists_of_openood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = tmp_path / "benchmark_imglist" / "imagenet"
    lists.mkdir(parents=True)
    picture(tmp_path / "images_largescale" / "ninco" / "a" / "x.jpg")
    picture(tmp_path / "images_classic" / "texture" / "banded" / "y z.jpg")
    (lists / "test_ninco.txt").write_text("ninco/a/x.jpg -1\ntexture/banded/y z.jpg -1\n")
    data = load("openood", lists / "test_ninco.txt")
    assert data.name == "openood:test_ninco"
    assert data.class_names == ()
    assert sorted(data.ids) == ["ninco/a/x.jpg", "texture/banded/y z.jpg"]
    assert data.load([0, 1]).images.shape == (2, 3, 16, 16)
    (lists / "test_imagenet.txt").write_text("ninco/a/x.jpg 65\n")
    labelled = load("openood", lists / "test_imagenet.txt")
    assert labelled.labels == (65,)
    assert labelled.class_names == imagenet.labels().names
    # Numbers from 1,000 on stand for no class of ImageNet.
    (lists / "test_both.txt").write_text("ninco/a/x.jpg 999\ntexture/banded/y z.jpg 1000\n")
    both = load("openood", lists / "test_both.txt")
    assert dict(zip(both.ids, both.labels, strict=True)) == {
        "ninco/a/x.jpg": 999,
        "texture/banded/y z.jpg": -1,
    }
    (lists / "test_both.txt").write_text("ninco/a/x.jpg -1\n\ntexture/banded/y z.jpg 0\n")
    both = load("openood", lists / "test_both.txt")
    assert dict(zip(both.ids, both.labels, strict=True)) == {
        "ninco/a/x.jpg": -1,
        "texture/banded/y z.jpg": 0,
    }
    assert both.class_names == imagenet.labels().names
    # A list that lies near the root of the disk: the pictures are looked for from there.
    monkeypatch.setattr(openood, "_LEVELS", 99)
    with pytest.raises(ClipRobustError, match=r"is neither in /images_"):
        load("openood", lists / "test_ninco.txt")
    monkeypatch.undo()
    (lists / "bad.txt").write_text("gone.jpg 1\n")
    with pytest.raises(ClipRobustError, match=r"'gone.jpg' is neither in"):
        load("openood", lists / "bad.txt")


# --- Cues and texts --------------------------------------------------------------------------------


def test_cue_conflict_in_both_forms(tmp_path: Path) -> None:
    for name in ("cat1-elephant3", "cat2-cat1", "dog7-cat1"):
        picture(tmp_path / "a" / name.rstrip("0123456789").partition("-")[0] / f"{name}.png")
    session = tmp_path / "b" / "session-1"
    picture(session / "0001_cl_dnn_u_cat_00_cat1-elephant3.png")
    one, two = load("cue-conflict", tmp_path / "a"), load("cue-conflict", tmp_path / "b")
    shown = set(zip(one.groups["shape_label"], one.groups["texture_label"], strict=True))
    assert shown == {("cat", "elephant"), ("dog", "cat")}
    assert two.groups["texture_label"] == ("elephant",)


def test_flickr30k(tmp_path: Path) -> None:
    for name in ("1007", "1009"):
        picture(tmp_path / "flickr30k-images" / f"{name}.jpg")
    (tmp_path / "flickr30k_test_karpathy.txt").write_text(
        "image,caption\n1007.jpg,A man, and a dog .\n1007.jpg,Two of them .\n1009.jpg,A cat .\n"
    )
    data = load("flickr30k", tmp_path)
    assert data.ids == ("1007.jpg", "1009.jpg")
    assert data.captions == (("A man, and a dog .", "Two of them ."), ("A cat .",))
    (tmp_path / "flickr30k_test_karpathy.txt").write_text("image,caption\nnothing\n")
    with pytest.raises(ClipRobustError, match=r"line 2: expected PICTURE.jpg,CAPTION"):
        load("flickr30k", tmp_path)


@pytest.mark.parametrize("name", ["coco_test_karpathy.json", "annotations/captions_val2014.json"])
def test_coco(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg")
    picture(tmp_path / "val2014" / "COCO_val2014_000000000043.jpg")
    table = {
        "images": [{"id": n, "file_name": f"COCO_val2014_0000000000{n}.jpg"} for n in (42, 43)],
        "annotations": [
            {"id": 0, "image_id": 43, "caption": "A dog."},
            {"id": 1, "image_id": 42, "caption": "A cat."},
            {"id": 2, "image_id": 42, "caption": " A black cat. "},
        ],
    }
    write_json(tmp_path / name, table)
    data = load("coco", tmp_path)
    assert dict(zip(data.ids, data.captions, strict=True)) == {
        "COCO_val2014_000000000042.jpg": ("A cat.", "A black cat."),
        "COCO_val2014_000000000043.jpg": ("A dog.",),
    }
    write_json(tmp_path / name, {"images": []})
    with pytest.raises(ClipRobustError, match="is no table of COCO's captions"):
        load("coco", tmp_path)


@pytest.mark.parametrize("folder", ["flickr30k-images", "images", "."])
def test_where_pictures_of_flickr_may_lie(tmp_path: Path, folder: str) -> None:
    table = "image,caption\n1.jpg,One.\n2.jpg, Two, .jpg, too. \n1.jpg,Another.\n"
    (tmp_path / "flickr30k_test_karpathy.txt").write_text(table)
    for number in (1, 2):
        picture(tmp_path / folder / f"{number}.jpg", number)
    data = load("flickr30k", tmp_path)
    assert data.captions == (("One.", "Another."), ("Two, .jpg, too.",))
    assert data.unreadable is None
    assert data.labels == (-1, -1)
    if folder == "images":  # the name of the publishers comes first
        picture(tmp_path / "flickr30k-images" / "1.jpg", 1)
        assert "2.jpg" in str(load("flickr30k", tmp_path).unreadable)


def test_which_of_several_tables_of_coco_is_taken(tmp_path: Path) -> None:
    """Karpathy's split before all of val2014; a picture without captions is no sample."""
    names = (
        "captions_val2014.json",
        "annotations/captions_val2014.json",
        "coco_test_karpathy.json",
    )
    for count, name in enumerate(names, start=1):
        images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(count + 1)]
        captions = [{"image_id": n, "caption": f"{name} {n}"} for n in range(count)]
        write_json(tmp_path / name, {"images": images, "annotations": captions})
        picture(tmp_path / f"{count}.jpg", count)
        data = load("coco", tmp_path)
        assert data.captions == tuple((f"{name} {n}",) for n in range(count))
        assert data.ids == tuple(f"{n}.jpg" for n in range(count))
    picture(tmp_path / "0.jpg")
    assert load("coco", tmp_path).unreadable is None
    (tmp_path / "images").mkdir()
    assert "images/0.jpg" in str(load("coco", tmp_path).unreadable)
    told = {"images": images, "annotations": [{"image_id": 9, "caption": "x"}]}
    write_json(tmp_path / names[2], told)
    with pytest.raises(ClipRobustError, match=r"karpathy.json' is no table of COCO's captions"):
        load("coco", tmp_path)


def test_sugarcrepe(tmp_path: Path) -> None:
    picture(tmp_path / "val2017" / "a.jpg")
    entry = {"filename": "a.jpg", "caption": "true", "negative_caption": "false"}
    write_json(tmp_path / "data" / "add_att.json", {"0": entry, "3": entry})
    write_json(tmp_path / "data" / "swap_obj.json", {"0": entry})
    data = load("sugarcrepe", tmp_path)
    assert sorted(data.ids) == ["add_att/0", "add_att/3", "swap_obj/0"]
    kinds = {id_: choices[0] for id_, choices in zip(data.ids, data.choices, strict=True)}
    assert kinds["swap_obj/0"] == ("swap_obj", "true", ("false",))
    assert data.units == ("a.jpg",) * 3
    write_json(tmp_path / "data" / "swap_obj.json", {"0": {"filename": "a.jpg"}})
    with pytest.raises(ClipRobustError, match="an entry lacks one of filename, caption"):
        load("sugarcrepe", tmp_path)


def test_aro_takes_the_box_alone(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "2.png", seed=2)
    entry = {
        "image_id": 2,
        "image_path": "2.png",
        "true_caption": "t",
        "false_caption": "f",
        "bbox_x": 3,
        "bbox_y": 4,
        "bbox_w": 16,
        "bbox_h": 16,
        "relation_name": "on",
    }
    write_json(tmp_path / "visual_genome_relation.json", [entry])
    data = load("aro", tmp_path, frame=untouched)
    assert data.choices[0][0].kind == "relation"
    expected = pixels_of(2, (24, 20))[:, 4:20, 3:19]
    assert np.array_equal(data.load([0]).images[0].numpy(), expected)


def test_attributions_of_aro(tmp_path: Path) -> None:
    for number in (1, 2):
        picture(tmp_path / "images" / f"{number}.png", number)
    box = {"bbox_x": 0, "bbox_y": 0, "bbox_w": 9, "bbox_h": 7}
    entries = [
        {"image_path": f"{n}.png", "true_caption": f"t{n}", "false_caption": f"f{n}", **box}
        for n in (1, 2)
    ]
    write_json(tmp_path / "visual_genome_attribution.json", entries)
    data = load("aro", tmp_path, frame=untouched)
    assert dict(zip(data.ids, zip(data.choices, data.units, strict=True), strict=True)) == {
        f"attribution/{n - 1}": ((("attribution", f"t{n}", (f"f{n}",)),), f"{n}.png")
        for n in (1, 2)
    }
    assert data.load([0]).images.shape == (1, 3, 7, 9)
    write_json(tmp_path / "visual_genome_relation.json", entries[:1])
    assert sorted(load("aro", tmp_path).ids) == ["attribution/0", "attribution/1", "relation/0"]
    del entries[1]["bbox_h"]
    write_json(tmp_path / "visual_genome_relation.json", entries)
    with pytest.raises(
        ClipRobustError, match=r"relation.json': an entry lacks one of bbox_x, bbox_y"
    ):
        load("aro", tmp_path)
    for kind in ("relation", "attribution"):
        (tmp_path / f"visual_genome_{kind}.json").unlink()
    with pytest.raises(ClipRobustError, match="is no ARO: it has no 'visual_genome_relation"):
        load("aro", tmp_path)


def test_pairs_of_winoground_stay_together(tmp_path: Path) -> None:
    lines = []
    for number in range(3):
        entry = {"id": 10 + number, "collapsed_tag": ("Object", "Relation", "Both")[number]}
        for side in "01":
            picture(tmp_path / "data" / "images" / f"{number}_{side}.png", 2 * number + int(side))
            name = f"{number}_{side}" + (".png" if number else "")
            entry |= {f"image_{side}": name, f"caption_{side}": f"{number} {side}"}
        lines.append(json.dumps(entry))
    (tmp_path / "data" / "examples.jsonl").write_text("\n\n".join(lines))
    data = load("winoground", tmp_path, frame=untouched, limit=4)
    assert data.ids == ("10/0", "10/1", "11/0", "11/1")
    assert data.units == data.groups["pair"] == ("10", "10", "11", "11")
    assert data.groups["tag"] == ("Object", "Object", "Relation", "Relation")
    assert (data.unit, data.captions[3]) == ("pair", ("1 1",))
    for row, image in enumerate(data.load(range(4)).images.numpy()):
        assert np.array_equal(image, pixels_of(row, (24, 20)))
    (tmp_path / "data" / "examples.jsonl").write_text("\n".join([lines[0], "{"]))
    with pytest.raises(ClipRobustError, match=r"examples.jsonl', line 2: no JSON"):
        load("winoground", tmp_path)


def test_winoground(tmp_path: Path) -> None:
    for side in "01":
        picture(tmp_path / "images" / f"ex_7_img_{side}.png")
    entry = {
        "id": 7,
        "image_0": "ex_7_img_0",
        "image_1": "ex_7_img_1",
        "collapsed_tag": "Object",
        "caption_0": "a b",
        "caption_1": "b a",
    }
    (tmp_path / "examples.jsonl").write_text(json.dumps(entry) + "\n")
    data = load("winoground", tmp_path)
    assert data.groups["pair"] == ("7", "7")
    assert data.captions == (("a b",), ("b a",))
    del entry["id"]  # then the number of the line
    (tmp_path / "examples.jsonl").write_text(json.dumps(entry) + "\n")
    assert load("winoground", tmp_path).groups["pair"] == ("1", "1")
    for text, words in {"[1]": "lacks one of image_0", "{": "line 1: no JSON"}.items():
        (tmp_path / "examples.jsonl").write_text(f"{text}\n")
        with pytest.raises(ClipRobustError, match=words):
            load("winoground", tmp_path)


# --- Tables, shards, records -----------------------------------------------------------------------


def test_manifest(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / "pictures" / f"{name}.png")
    (tmp_path / "mine.csv").write_text(
        "image,label,class_name,unit,place,id\n"
        "pictures/a.png,n2,dog,u1,indoors,one\n"
        "pictures/b.png,n10,cat,u1,outdoors,\n"
        "pictures/c.png,n2,dog,u2,indoors,\n"
        "pictures/d.png,,,u2,indoors,\n"
    )
    data = load("manifest", tmp_path / "mine.csv")
    assert data.name == "manifest:mine"
    assert data.class_names == ("dog", "cat")
    assert data.class_keys == ("n2", "n10")
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {"one": 0, "pictures/b.png": 1, "pictures/c.png": 0, "pictures/d.png": -1}
    assert data.subgroups == ("place",)
    assert len(set(data.units)) == 2


def test_every_column_that_is_nobodys_is_a_subgroup(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    row = {
        **dict.fromkeys(
            ("shape_label", "texture_label", "factor", "written_label", "variant"), "x"
        ),
        **dict.fromkeys(("corruption", "severity", "clean_id", "pair"), "3"),
        "place": "indoors",
        "light": "",
        "camera": None,
        "year": 2024,
        "label": "cat",
        "class_name": "grey_cat",
        "unit": "u",
        "kind": "k",
        "id": 7,
        "image": "a.png",
        "path": "gone.png",
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    data = load("manifest", tmp_path / "t.jsonl")
    assert data.subgroups == ("place", "light", "camera", "year")
    own = {*data.groups} - {*data.subgroups}
    assert own == {
        *("shape_label", "texture_label", "factor", "written_label", "variant"),
        *("corruption", "severity", "clean_id", "pair"),
    }
    assert (data.groups["camera"], data.groups["year"]) == (("",), ("2024",))
    assert (data.ids, data.units, data.class_names) == (("7",), ("u",), ("grey cat",))


def test_manifest_of_texts(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "id": "1", "caption": ["one", "two"]},
        {"image": "a.png", "id": "2", "caption": "t", "negative_caption": "f", "kind": "swap"},
        {"image": "a.png", "id": "3", "caption": "one\ntwo"},
        {"image": "a.png", "id": "4", "caption": '["one", "two"]'},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load("manifest", path)
    found = dict(zip(data.ids, data.captions, strict=True))
    assert found == {n: ("t",) if n == "2" else ("one", "two") for n in "1234"}
    assert data.choices[data.ids.index("2")] == (("swap", "t", ("f",)),)


def test_the_order_of_a_table_decides_nothing(tmp_path: Path) -> None:
    rows = [(f"{n}.png", "catdog"[3 * (n % 2) :][:3], str(n // 2)) for n in range(12)]
    for image, *_ in rows:
        picture(tmp_path / image, int(image.removesuffix(".png")))
    for name, order in (("a", rows), ("b", rows[::-1]), ("c", rows[5:] + rows[:5])):
        lines = ["image,label,pair", *map(",".join, order)]
        (tmp_path / name).mkdir()
        table = tmp_path / name / "t.csv"
        table.write_text("\n".join(lines).replace("\n", "\n../") + "\n")
    tables = [tmp_path / name / "t.csv" for name in "abc"]
    for limit in (None, 4, 7):
        one, *others = (load("manifest", table, limit=limit) for table in tables)
        assert [(other.ids, other.digest) for other in others] == [(one.ids, one.digest)] * 2
        assert abs(one.labels.count(0) - one.labels.count(1)) <= 1
    # Without labels pairs stay together, so that a prefix is of whole ones.
    for table in tables:
        table.write_text(table.read_text().replace("cat", "").replace("dog", ""))
    pairs = load("manifest", tables[1]).groups["pair"]
    assert pairs[::2] == pairs[1::2]
    assert pairs != tuple(sorted(pairs))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pic,label\na.png,x\n", "has no column of pictures"),
        ("image,label\n,x\n", "row 1: column 'image' is empty"),
        ("image,negative_caption\na.png,x\n", "needs a caption beside it"),
        ("image\na.png\na.png\n", "two samples have the id 'a.png'"),
        ("image\na.png,b\n", "more values than the head"),
        ("image\nb.png\na.png,b\n", "more values than the head"),
        ("", "it has no row|It has no row"),
    ],
)
def test_mistakes_in_a_manifest(tmp_path: Path, text: str, words: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ClipRobustError, match=words):
        load("manifest", tmp_path / "t.csv")
    with pytest.raises(ClipRobustError, match=r"is no file that ends in .csv"):
        load("manifest", tmp_path)
    (tmp_path / "t.txt").touch()
    with pytest.raises(ClipRobustError, match=r"is no file that ends in .csv"):
        load("manifest", tmp_path / "t.txt")
    with pytest.raises(ClipRobustError, match=r"t2\.csv' does not exist; check the path"):
        load("manifest", tmp_path / "t2.csv")


def test_a_false_caption_stands_against_the_first_true_one(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    row = {"image": "a.png", "caption": ["one", "two"], "negative_caption": ["no", "never"]}
    (tmp_path / "t.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({**row, "id": "b", "kind": "k"})
    )
    data = load("manifest", tmp_path / "t.jsonl")
    assert dict(zip(data.ids, data.choices, strict=True)) == {
        "a.png": (("negative", "one", ("no", "never")),),
        "b": (("k", "one", ("no", "never")),),
    }


def test_the_first_line_says_which_column_is_of_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = tmp_path / "t.jsonl"
    path.write_text('{"path": "a.png"}\n{"image": "b.png"}\n')
    with pytest.raises(ClipRobustError, match=r"t.jsonl, row 2: column 'path' is empty; name the"):
        load("manifest", path)
    path.write_text('{"path": "a.png", "image": "b.png"}')  # of several the first of those known
    assert load("manifest", path).ids == ("b.png",)
    path.write_text('{"imgae": "a.png"}\n{"image": "b.png"}\n')
    with pytest.raises(ClipRobustError, match=r"Did you mean 'imgae'\? It has imgae$"):
        load("manifest", path)
    path.write_text('{"image": "a.png"}\n[1]\n')
    with pytest.raises(ClipRobustError, match="each line must be a JSON object"):
        load("manifest", path)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    picture(tmp_path / "a.png")
    if importlib.util.find_spec("pyarrow") is None:
        path.touch()
        with pytest.raises(Unavailable, match=r"pip install .pytest-cliprobust\[arrow\]"):
            load("manifest", path)
        return
    arrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    parquet.write_table(arrow.table({"image": ["a.png"], "label": ["x"]}), path)
    assert load("manifest", path).class_names == ("x",)


def test_shards_of_classes(tmp_path: Path) -> None:
    metadata = io.BytesIO()
    np.save(metadata, np.array([3, 1]))
    kinds = ("webp", "png", "jpg")
    samples = [
        {
            kinds[n % 3]: encoded(n, "jpeg" if n % 3 == 2 else kinds[n % 3]),
            "cls": str(n % 2).encode(),
            "npy": metadata.getvalue(),
        }
        for n in range(25)
    ]
    root = shards(tmp_path / "wds_mine", samples, each=2)  # 10.tar comes after 9.tar
    (root / "classnames.txt").write_text("cat\ndog\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    data = load("wds", root, frame=untouched)
    assert data.name == "wds:wds_mine"
    assert data.templates == ("a photo of a {}.",)
    assert (data.class_names, len(data)) == (("cat", "dog"), 25)
    assert data.ids[:4] == ("0/s0000000", "0/s0000001", "1/s0000002", "1/s0000003")
    assert data.groups["metadata_0"] == ("3",) * 25
    rows = [data.ids.index(f"{n // 2}/s{n:07d}") for n in (4, 24)]
    for n, image in zip((4, 24), data.load(rows).images, strict=True):
        if n % 3 < 2:
            assert np.array_equal(image.numpy(), pixels_of(n))


def test_shards_of_captions(tmp_path: Path) -> None:
    root = shards(tmp_path / "r", [{"png": encoded(1, "png"), "txt": b"one\ntwo\n"}], each=1)
    (root / "dataset_type.txt").write_text("retrieval\n")
    assert load("wds", root).captions == (("one", "two"),)
    assert load("wds", root / "test").captions == (("one", "two"),)


def test_names_in_shards_are_those_of_the_library_webdataset(tmp_path: Path) -> None:
    """A sample is what is called alike up to the first dot, its folder included."""
    entries = {
        "./a/0.png": encoded(1, "png"),
        "b/0.big.PNG": b"not the picture",
        "b/0.PNG": encoded(2, "png"),
        "b/0.cls": b" 1\n",
        "c.txt": b"no picture",
        "d.jpeg": encoded(3, "jpeg"),
        "d.png": encoded(4, "png"),
    }
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    (tmp_path / "test").mkdir()
    with tarfile.open(tmp_path / "test" / "00.tar", "w") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("e.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    data = load("wds", tmp_path, frame=untouched)
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {"00/a/0": -1, "00/b/0": 1, "00/d": -1}
    for name, seed in (("a/0", 1), ("b/0", 2), ("d", 4)):  # png before jpeg
        image = data.load([data.ids.index(f"00/{name}")]).images[0].numpy()
        assert np.array_equal(image, pixels_of(seed))


@pytest.mark.parametrize("told", ["", "two", "1", "-2"])
def test_a_number_of_shards_that_is_not_there(tmp_path: Path, told: str) -> None:
    root = shards(tmp_path / "r", [{"png": encoded(n, "png")} for n in range(2)], each=1)
    assert len(load("wds", root)) == 2
    (root / "test" / "nshards.txt").write_text(f"{told}\n")
    words = f"has 2 tar files, and nshards.txt says {told or 'nothing'}; fetch the rest"
    with pytest.raises(ClipRobustError, match=words):
        load("wds", root)


@pytest.mark.parametrize(
    ("sample", "names", "words"),
    [
        ({"cls": b"0"}, "", "has the label '0', and no class has a name; put classnames.txt there"),
        ({"cls": b"2"}, "cat\ndog\n", "the label '2' is none of the 2 classes"),
        ({"cls": b"-1"}, "cat\ndog\n", "the label '-1' is none of the 2 classes"),
        ({"cls": b"1", "npy": b"no array"}, "cat\ndog\n", "metadata cannot be read"),
    ],
)
def test_samples_of_shards_that_are_refused(
    tmp_path: Path, sample: dict[str, bytes], names: str, words: str
) -> None:
    root = shards(tmp_path / "r", [{"png": encoded(1, "png"), **sample}], each=1)
    (root / "classnames.txt").write_text(names)
    with pytest.raises(ClipRobustError, match=words):
        load("wds", root)


def test_a_sample_of_a_shard_may_have_no_label(tmp_path: Path) -> None:
    samples = [{"png": encoded(1, "png"), "cls": b"1"}, {"png": encoded(2, "png")}]
    root = shards(tmp_path / "r", samples, each=2)
    (root / "classnames.txt").write_text("cat\ndog\n")
    assert sorted(load("wds", root).labels) == [-1, 1]


def test_mistakes_in_shards(tmp_path: Path) -> None:
    sample = {"png": encoded(1, "png"), "cls": b"7"}
    root = shards(tmp_path / "r", [sample, sample], each=1)
    (root / "classnames.txt").write_text("cat\n")
    with pytest.raises(ClipRobustError, match="the label '7' is none of the 1 classes"):
        load("wds", root)
    (root / "test" / "1.tar").write_text("version https://git-lfs")
    (root / "classnames.txt").write_text("a\n" * 8)
    with pytest.raises(ClipRobustError, match=r"is no tar file .*git LFS"):
        load("wds", root)
    (root / "test" / "1.tar").unlink()
    with pytest.raises(ClipRobustError, match=r"has 1 tar files, and nshards.txt says 2"):
        load("wds", root)


@pytest.mark.parametrize(("layout", "heads"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar(tmp_path: Path, layout: str, heads: int) -> None:
    inner = {1: "cifar-10-batches-bin", 2: "cifar-100-binary"}[heads]
    file = {1: "test_batch.bin", 2: "test.bin"}[heads]
    names = {1: "batches.meta.txt", 2: "fine_label_names.txt"}[heads]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    labels = [1, 0, 1, 1]
    records = b"".join(
        bytes([9] * (heads - 1) + [label]) + image.tobytes()
        for label, image in zip(labels, pixels, strict=True)
    )
    (tmp_path / inner).mkdir()
    (tmp_path / inner / file).write_bytes(records)
    (tmp_path / inner / names).write_text("airplane\naquarium_fish\n\n")
    data = load(layout, tmp_path, frame=untouched)
    assert data.class_names == ("airplane", "aquarium fish")
    found = dict(zip(data.ids, data.labels, strict=True))
    assert found == {str(n): label for n, label in enumerate(labels)}
    for row, image in enumerate(data.load(range(4)).images):
        assert np.array_equal(image.numpy(), pixels[int(data.ids[row])])
    (tmp_path / inner / file).write_bytes(records[:-1])
    with pytest.raises(ClipRobustError, match="is not made of records"):
        load(layout, tmp_path)


# --- All of them -----------------------------------------------------------------------------------


def test_which_roles_a_layout_plays() -> None:
    class Own:
        plays = ("far_ood", "near_ood")

    def load_it(root: str) -> None: ...

    with LAYOUTS.preserved():
        register_layout("a")(load_it)  # type: ignore[type-var]
        register_layout("b")(Own)  # type: ignore[type-var]
        register_layout("c", plays=("shift",))(Own)  # type: ignore[type-var]
        assert [told_of(name).plays for name in "abc"] == [("clean",), Own.plays, ("shift",)]
        Own.plays = ("shift", "far_od")
        for decorate in (register_layout("d"), register_layout("d", plays=Own.plays)):
            with pytest.raises(ClipRobustError, match="plays 'far_od', which is no role"):
                decorate(Own)  # type: ignore[type-var]
        assert "d" not in LAYOUTS


def test_every_layout_plays_a_role_and_says_where_it_comes_from() -> None:
    for name in LAYOUTS:
        told = told_of(name)
        assert set(told.plays) <= set(ROLES), name
        if told.published:
            assert told.source, name
            assert told.licence, name
    assert {"imagenet", "textures", "wds"} - set(published()) == {"wds"}


def test_a_copy_is_the_same_data(tmp_path: Path) -> None:
    by_wnid(tmp_path / "a" / "val", WNIDS)
    shutil.copytree(tmp_path / "a", tmp_path / "deep" / "b")
    one, two = load("imagenet", tmp_path / "a"), load("imagenet", tmp_path / "deep" / "b")
    assert (one.digest, one.sample_digests) == (two.digest, two.sample_digests)
    picture(tmp_path / "a" / "val" / WNIDS[0] / "ILSVRC2012_val_00000001.JPEG", seed=77)
    changed = load("imagenet", tmp_path / "a")
    assert changed.digest != one.digest
    assert sum(a != b for a, b in zip(changed.sample_digests, one.sample_digests, strict=True)) == 1
    assert load("imagenet", tmp_path / "a", size=8).content == changed.content


@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    """The library reads what is there and says nothing: an interrupted download would shrink the data."""
    samples = [{"png": encoded(n, "png"), "cls": b"0"} for n in range(8)]
    root = shards(tmp_path / "r", samples, each=8)
    (root / "classnames.txt").write_text("cat\n")
    tar = root / "test" / "0.tar"
    content = tar.read_bytes()
    assert len(load("wds", root)) == 8
    blocks = int(len(content) * kept) // 512
    for end in (512 * blocks, 512 * blocks + 100):
        tar.write_bytes(content[:end])
        with pytest.raises(ClipRobustError, match=r"0\.tar' is (cut off|no tar file)"):
            load("wds", root)
