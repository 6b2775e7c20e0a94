"""A user's disk for every role at once, made of photographs, each set in its published structure.

The photographs are those that scikit-image and scikit-learn bring along. A picture of a class is a part of
its photograph, from another place and of another size each time, saved as JPEG: pictures of one class
are like each other as those of a real set are, and no two are the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import skimage
from layout_helpers import datacomp_pack, navi_tree, spair_tree, write_json
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from published_trees import write_csv
from sklearn.datasets import load_sample_image

from pytest_cliprobust.datasets.layouts.imagenet_x import FACTORS
from pytest_cliprobust.datasets.wordnet import imagenet_names, wnids

#: The classes of clean, by WordNet id in ImageNet's order: the photograph that shows something of the kind.
CLASSES = {
    "n02123045": "chelsea.png",  # a tabby cat
    "n03791053": "motorcycle_left.png",  # a motor scooter
    "n03877845": "china.jpg",  # a palace
    "n04069434": "camera.png",  # a reflex camera
    "n04266014": "rocket.jpg",  # a space shuttle
    "n04326547": "brick.png",  # a stone wall
    "n07920052": "coffee.png",  # an espresso
    "n11939491": "flower.jpg",  # a daisy
}

#: Photographs of none of ImageNet's classes: of things, and of something else altogether.
NEAR, FAR = ("astronaut.png", "coins.png"), ("gravel.png", "grass.png", "retina.jpg")

#: Of ImageNet-C's corruptions three; here they blur or pale, more with each severity.
CORRUPTIONS = ("defocus_blur", "fog", "contrast")


@functools.cache
def photograph(name: str) -> Image.Image:
    """Return a photograph by its file's name."""
    if name in ("china.jpg", "flower.jpg"):
        return Image.fromarray(load_sample_image(name))
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def part(name: str, number: int) -> Image.Image:
    """Return a part of a photograph, from 90 pixels to half of it on each side: another for each number."""
    whole = photograph(name)
    draw = np.random.default_rng([number, *name.encode()])
    width, height = (int(draw.integers(90, max(92, side // 2))) for side in whole.size)
    left, top = int(draw.integers(whole.width - width)), int(draw.integers(whole.height - height))
    return whole.crop((left, top, left + width, top + height))


def save(path: Path, image: Image.Image) -> None:
    """Write a picture as JPEG, or by another ending of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        image.save(path)
    else:
        image.save(path, quality=92)


def name_of(wnid: str) -> str:
    """Return what ImageNet calls a class."""
    return imagenet_names()[wnids().index(wnid)]


def write_disk(root: Path, each: int = 7) -> Path:
    """Write data for every role below ``root``, and a TOML file that names it; return this.

    ``each``: pictures of each class of clean, of which there are eight.
    """
    pictures = write_imagenet(root / "imagenet", each)
    write_variants(root, pictures)
    write_outside(root)
    write_depth(root)
    write_texts(root)
    return write_table(root)


def write_imagenet(root: Path, each: int) -> dict[str, Image.Image]:
    """Write the validation set and ImageNet-X's annotations; return the pictures by their path below val."""
    pictures, lines = {}, []
    for number in range(len(CLASSES) * each):
        wnid = list(CLASSES)[number % len(CLASSES)]
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        pictures[f"{wnid}/{name}"] = part(CLASSES[wnid], number)
        shown = "smaller" if number // len(CLASSES) % 2 else "pose"
        factors = {factor: int(factor == shown) for factor in FACTORS}
        lines.append(json.dumps({"file_name": name, "class": wnids().index(wnid), **factors}))
    for path, image in pictures.items():
        save(root / "val" / path, image)
    (root / "imagenet_x_val_top_factor.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_csv(root / "prototypical_paths.csv", [{"file_name": "ILSVRC2012_val_00000001.JPEG"}])
    return pictures


def write_variants(root: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Write what has labels of clean: shifts, corrupted pictures, cue conflicts, groups, and hard ones."""
    for number, (path, image) in enumerate(pictures.items()):
        wnid = path.partition("/")[0]
        if number < 2 * len(CLASSES):
            save(
                root / "v2" / str(wnids().index(wnid)) / f"{number}.jpeg",
                part(CLASSES[wnid], 500 + number),
            )
            drawn = ImageOps.invert(image.convert("L").filter(ImageFilter.FIND_EDGES))
            save(root / "imagenet-r" / wnid / f"sketch_{number}.jpg", drawn.convert("RGB"))
            save(root / "hard" / wnid / f"{number}.jpg", part(CLASSES[wnid], 900 + number))
        if number < len(CLASSES):
            for place, corruption in enumerate(CORRUPTIONS):
                for severity in range(1, 6):
                    corrupted = _blurred(image, severity) if place % 2 else _pale(image, severity)
                    save(root / "imagenet-c" / corruption / str(severity) / path, corrupted)
    rows = [
        {
            "image": f"people/{n}.jpg",
            "label": wnid,
            "class_name": name,
            "light": ("day", "night")[n % 2],
        }
        for n, (wnid, name) in enumerate(6 * [(w, name_of(w)) for w in CLASSES])
    ]
    for n, row in enumerate(rows):
        image = part(CLASSES[row["label"]], 700 + n)
        save(root / row["image"], ImageEnhance.Brightness(image).enhance(0.4 if n % 2 else 1.0))
    write_csv(root / "people.csv", rows)
    cues = []
    for number, (shape, texture) in enumerate(permutations(CLASSES, 2)):
        edges = part(CLASSES[shape], number).filter(ImageFilter.EDGE_ENHANCE_MORE)
        mixed = Image.blend(
            edges.resize((120, 120)), part(CLASSES[texture], number).resize((120, 120)), 0.4
        )
        save(root / "cues" / f"{number}.png", mixed)
        cues.append(
            {
                "image": f"cues/{number}.png",
                "shape_label": name_of(shape),
                "texture_label": name_of(texture),
                "style": ("even", "odd")[number % 2],
            }
        )
    write_csv(root / "cues.csv", cues)


def write_depth(root: Path) -> None:
    """Write a depth map for each picture whose data is measured under corruptions that need one: a floor."""
    places = {
        "imagenet/val": "*/*",
        "imagenet-r": "*/*",
        "v2": "*/*",
        "inbox": "*",
        "NINCO/NINCO_OOD_classes": "*/*",
        "dtd/images": "*/*",
        ".": "people/*",
    }
    for folder, pattern in places.items():
        inner = root / folder
        for path in sorted(inner.glob(pattern)):
            width, height = Image.open(path).size
            rows = np.linspace(5.0, 1.0, height, dtype=np.float32)[:, None]
            place = (root / "depth" / path.relative_to(inner)).with_suffix(".npy")
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, np.repeat(rows, width, axis=1)[::4, ::4])


def write_outside(root: Path) -> None:
    """Write what has none of its classes, or no label: OOD of both kinds, and pictures of production."""
    for number in range(24):
        near, far = NEAR[number % len(NEAR)], FAR[number % len(FAR)]
        save(
            root / "NINCO" / "NINCO_OOD_classes" / Path(near).stem / f"{number}.jpeg",
            part(near, number),
        )
        save(root / "dtd" / "images" / "banded" / f"banded_{number:04d}.jpg", part(far, number))
        save(root / "inbox" / f"2025-11-{number + 1:02d}.jpg", part("chelsea.png", 300 + number))


def write_texts(root: Path) -> None:
    """Write pictures with captions, true and false ones, and with words on them."""
    captions, choices, pairs, notes = ["image,caption"], {}, [], []
    names = {wnid: name_of(wnid) for wnid in CLASSES}
    for number, (wnid, source) in enumerate(2 * list(CLASSES.items())):
        image, other = (
            part(source, 1000 + number),
            names[list(CLASSES)[(number + 1) % len(CLASSES)]],
        )
        save(root / "flickr30k" / "flickr30k-images" / f"{number}.jpg", image)
        captions += [f"{number}.jpg,A photo of a {names[wnid]} {k}." for k in ("here", "there")]
        save(root / "sugar-crepe" / "val2017" / f"{number:012d}.jpg", image)
        choices[str(number)] = {
            "filename": f"{number:012d}.jpg",
            "caption": f"a {names[wnid]} on a table",
            "negative_caption": f"a {other} on a table",
        }
        for side in "01":
            save(
                root / "winoground" / "images" / f"ex_{number}_img_{side}.png", part(source, number)
            )
        pairs.append(
            {
                "id": number,
                **{f"image_{side}": f"ex_{number}_img_{side}" for side in "01"},
                "caption_0": f"a {other} and a {names[wnid]}",
                "caption_1": f"a {names[wnid]} and a {other}",
                "collapsed_tag": "Object",
            }
        )
        for variant in ("NoSCAM", "SCAM", "SynthSCAM"):
            name = f"{variant}_img_{number:04d}"
            save(root / "SCAM" / "train" / f"{name}.jpg", _noted(image, other, variant != "NoSCAM"))
            notes.append(
                {
                    "file_name": f"train/{name}.jpg",
                    "type": variant,
                    "object_label": names[wnid],
                    "attack_word": other,
                    "postit_area_pct": 5.0,
                    "id": name,
                }
            )
    text = "\n".join(captions) + "\n"
    (root / "flickr30k" / "flickr30k_test_karpathy.txt").write_text(text, encoding="utf-8")
    write_json(root / "sugar-crepe" / "data" / "replace_obj.json", choices)
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    (root / "winoground" / "examples.jsonl").write_text(lines, encoding="utf-8")
    write_csv(root / "SCAM" / "metadata.csv", notes)


def write_table(root: Path) -> Path:
    """Write the sets of pairs and of tasks, which need no photographs, and the TOML file that names all."""
    navi_tree(root / "navi_v1")
    spair_tree(root / "SPair-71k")
    datacomp_pack(root / "datacomp")
    path = root / "data.toml"
    labels = ", ".join(f'"{wnid}"' for wnid in CLASSES)
    path.write_text(TABLE.replace("LABELS", labels), encoding="utf-8")
    return path


#: Every role but calibration, which a fifth of clean plays.
TABLE = """
[data]
shift = ["imagenet-v2:v2", "imagenet-r:imagenet-r"]
corrupted = "imagenet-c:imagenet-c"
near_ood = "ninco:NINCO"
far_ood = "textures:dtd"
cue_conflict = "manifest:cues.csv"
factors = "imagenet-x:imagenet"
groups = "manifest:people.csv"
retrieval = "flickr30k:flickr30k"
compositional = ["sugarcrepe:sugar-crepe", "winoground:winoground"]
typographic = "scam:SCAM"
lmm = "imagefolder:hard"
unlabelled = "pictures:inbox"
correspondence = "navi:navi_v1"
semantic_correspondence = "spair-71k:SPair-71k"
tasks = "datacomp:datacomp"

[data.clean]
source = "imagenet:imagenet"
templates = ["a photo of a {}."]
labels = [LABELS]

[data.clean.classes]
"tabby cat" = ["tabby cat", "cat with stripes"]
"""


def _blurred(image: Image.Image, severity: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(severity))


def _pale(image: Image.Image, severity: int) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (128, 128, 128)), severity / 6)


def _noted(image: Image.Image, word: str, written: bool) -> Image.Image:
    """Return a picture with a note on it, and the word on the note if it is ``written``."""
    noted = image.resize((140, 140))
    draw = ImageDraw.Draw(noted)
    draw.rectangle((5, 100, 135, 130), fill="yellow")
    if written:
        draw.text((10, 108), word, fill="black")
    return noted
