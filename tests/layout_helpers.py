"""Fixture trees in the exact structure in which data sets are published, of a few small pictures."""

from __future__ import annotations

import csv
import importlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

#: The first and the last three of ImageNet's classes, and three that several variants have.
WNIDS = ("n01440764", "n01443537", "n01484850", "n12998815", "n13133613", "n15075141")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (24, 20)) -> Path:
    """Write a picture of random pixels, (width, height), by the ending of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def by_wnid(root: Path, wnids: Sequence[str], each: int = 2, start: int = 1) -> Path:
    """Write ``<wnid>/ILSVRC2012_val_<number>.JPEG``."""
    number = start
    for wnid in wnids:
        for _ in range(each):
            picture(root / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", number)
            number += 1
    return root


def flat_imagenet(root: Path, classes: Sequence[str]) -> Path:
    """Write flat pictures, one of each class."""
    for number in range(1, len(classes) + 1):
        picture(root / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return root


def kaggle_solution(path: Path, classes: Sequence[str]) -> None:
    """Write Kaggle's ground truth of flat pictures."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "PredictionString"])
        for number, wnid in enumerate(classes, start=1):
            writer.writerow([f"ILSVRC2012_val_{number:08d}", f"{wnid} 1 2 30 40 "])


def devkit(folder: Path, numbers: Mapping[str, int], classes: Sequence[str]) -> None:
    """Write the ground truth of the development kit: numbers of its own, which ``meta.mat`` explains."""
    folder.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(n, w, "word", 0) for w, n in numbers.items()], dtype=kinds)
    savemat(folder / "meta.mat", {"synsets": synsets})
    lines = "".join(f"{numbers[wnid]}\n" for wnid in classes)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(lines, encoding="utf-8")


def shards(
    root: Path, samples: Sequence[Mapping[str, bytes]], each: int, split: str = "test"
) -> Path:
    """Write tars of ``each`` samples: ending -> content."""
    folder = root / split
    folder.mkdir(parents=True)
    count = -(-len(samples) // each)
    for number in range(count):
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for row in range(number * each, min((number + 1) * each, len(samples))):
                for ending, content in samples[row].items():
                    entry = tarfile.TarInfo(f"s{row:07d}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    (folder / "nshards.txt").write_text(f"{count}\n", encoding="utf-8")
    return root


def encoded(seed: int, kind: str = "webp") -> bytes:
    """Return a small picture as the bytes of a file; webp and png without loss."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **({"lossless": True} if kind == "webp" else {}))
    return content.getvalue()


def pixels_of(seed: int, size: tuple[int, int] = (16, 16)) -> Any:
    """Return the pixels (3, H, W) that a picture of this seed has."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return pixels.transpose(2, 0, 1)


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def metadata(*values: int) -> bytes:
    """Return the bytes of an array, as shards keep the groups of a sample."""
    content = io.BytesIO()
    np.save(content, np.array(values))
    return content.getvalue()


def first_seed(folder: Path) -> int:
    """Return the seed of a task's first picture; no two tasks have a picture in common."""
    return zlib.crc32(folder.name.encode())


def task_shards(
    folder: Path, classes: Sequence[str], samples: Sequence[tuple[int, tuple[int, ...]]]
) -> Path:
    """Write a task of DataComp: of each sample its class, none if negative, and its metadata."""
    written: list[dict[str, bytes]] = []
    start = first_seed(folder)
    for seed, (label, groups) in enumerate(samples, start):
        sample = {"webp": encoded(seed)}
        sample |= {"cls": str(label).encode()} if label >= 0 else {}
        sample |= {"npy": metadata(*groups)} if groups else {}
        written.append(sample)
    shards(folder, written, each=16)
    (folder / "classnames.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text(
        "a photo of a {c}.\na drawing of the {c}.\n", encoding="utf-8"
    )
    return folder


#: What the classes of the pack's tasks are called.
THINGS = ("cat", "dog", "car", "house", "tree", "boat", "chair")


def datacomp_pack(root: Path) -> Path:
    """Write a pack of DataComp's tasks as its download script does, of each kind of metric one."""
    draw = np.random.default_rng(5)

    def labels(count: int, classes: int = len(THINGS)) -> list[int]:
        return [int(n) for n in draw.integers(0, classes, count)]

    def plain(name: str, count: int) -> None:
        task_shards(root / f"wds_{name}_test", THINGS, [(label, ()) for label in labels(count)])

    plain("imagenet1k", 60)
    plain("imagenetv2", 20)
    plain("vtab-pets", 25)
    iwildcam = [(label, (9, 8, 7, 6, 5, 4, 3, 2, label)) for label in labels(40)]
    task_shards(root / "wds_wilds-iwildcam_test", THINGS, iwildcam)
    fmow = [(label, (n % 4, 2, label)) for n, label in enumerate(labels(24))]
    task_shards(root / "wds_wilds-fmow_test", THINGS, fmow)
    street = [(label, (n % 3, 50 + n, 1)) for n, label in enumerate(labels(30))]
    task_shards(root / "wds_dollar_street_test", THINGS, street)
    faces = ("race:white", "race:black", "gender:man", "gender:woman", "age:old")
    people = [(-1, (1, n % 2, n % 3, int(n % 3 > 0))) for n in range(18)]
    folder = task_shards(root / "wds_fairface_test", faces, people)
    (folder / "dataset_type.txt").write_text("multilabel\n", encoding="utf-8")
    (folder / "zeroshot_classification_templates.txt").write_text(
        "race:a photo of a {c} person.\ngender:a photo of a {c}.\nage:a photo of {c}.\n",
        encoding="utf-8",
    )
    return root


def datacomp_cache(root: Path) -> Path:
    """Write two of the image-and-text tasks as the library ``datasets`` caches them; needs pyarrow."""
    arrow: Any = importlib.import_module("pyarrow")

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        folder = root / "hf_cache" / f"nlphuji___{name}" / "TEST" / "1.1.0" / "abc"
        folder.mkdir(parents=True)
        table = arrow.Table.from_pylist(rows)
        with arrow.ipc.new_stream(str(folder / f"{name}-test.arrow"), table.schema) as writer:
            writer.write_table(table)

    def held(seed: int) -> dict[str, Any]:
        return {"bytes": encoded(seed, "png"), "path": None}

    flickr = [{"image": held(n), "caption": [f"thing {n}", f"a {n}"]} for n in range(12)]
    write("flickr_1k_test_image_text_retrieval", flickr)
    cues = []
    for n, size in enumerate((5, 10, 12, 10)):
        names = [f"{n}-{place}" for place in range(size)]
        cues.append(
            {
                "candidates": names,
                "candidate_images": [held(100 * n + place) for place in range(size)],
                "cue": ("Owl", "pear", "ant", "Sea")[n],
                "associations": names[1 : 3 + n],
            }
        )
    write("winogavil", cues)
    return root


def painted(path: Path, size: tuple[int, int], seed: int) -> Path:
    """Write a picture of large random squares, (width, height): something that features can tell apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.NEAREST).save(path)
    return path


def spair_tree(root: Path, classes: Sequence[str] = ("cat", "bus"), each: int = 3) -> Path:
    """Write test pairs of SPair-71k: of each class some, of pictures 80 × 60 and 50 × 100."""
    number = 0
    for kind in classes:
        for n in range(each):
            names = (f"2008_{n:06d}", f"2009_{n:06d}")
            sizes = ((80, 60), (50, 100))
            for name, size in zip(names, sizes, strict=True):
                painted(root / "JPEGImages" / kind / f"{name}.jpg", size, number)
            number += 1
            told = {
                "pair_id": number,
                "filename": f"{number:06d}-{names[0]}-{names[1]}:{kind}",
                "src_imname": f"{names[0]}.jpg",
                "trg_imname": f"{names[1]}.jpg",
                "src_imsize": [*sizes[0], 3],
                "trg_imsize": [*sizes[1], 3],
                "src_bndbox": [10, 10, 70, 50],
                "trg_bndbox": [5, 10, 45, 90],
                "category": kind,
                "src_kps": [[20, 30], [60, 40], [15 + n, 12]],
                "trg_kps": [[10, 20], [40, 80], [25, 50 + n]],
                "kps_ids": ["0", "3", "7"],
                "mirror": 0,
                "viewpoint_variation": n % 3,
                "scale_variation": (n + 1) % 3,
                "truncation": n % 4,
                "occlusion": (n + 1) % 4,
            }
            write_json(root / "PairAnnotation" / "test" / f"{told['filename']}.json", told)
    return root


def _depth(path: Path, levels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(levels, dtype=np.uint16)).save(path)


#: The wall of the fixtures of ScanNet is so far from the first camera; the second moves so far. In metres.
WALL, STEP_ASIDE = 2.0, 0.25


def scannet_tree(root: Path, scenes: int = 2) -> Path:
    """Write pairs of ScanNet: a flat wall, before which the camera steps aside (or turns a little)."""
    names = []
    camera = np.array([[400.0, 0, 320, 0], [0, 400, 240, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for number in range(scenes):
        scene = root / f"scene07{number:02d}_00"
        for frame, aside in ((0, 0.0), (15, STEP_ASIDE)):
            painted(scene / "color" / f"{frame}.jpg", (648, 484), number)
            # Of a small part of it: matching twenty thousand places takes its time.
            depth = np.zeros((480, 640))
            depth[200:280, 280:440] = round(WALL * 1000)
            _depth(scene / "depth" / f"{frame}.png", depth)
            pose = np.eye(4)
            pose[0, 3] = aside
            (scene / "pose").mkdir(exist_ok=True)
            np.savetxt(scene / "pose" / f"{frame}.txt", pose)
        names.append((700 + number, 0, 0, 15))
    np.savez(root / "test.npz", name=np.array(names), rel_pose=np.zeros((scenes, 3, 4)))
    cameras: Any = {f"scene07{n:02d}_00": camera for n in range(scenes)}
    np.savez(root / "intrinsics.npz", **cameras)
    return root


#: The angles in degrees at which the fixtures of NAVI show an object.
TURNS = (0.0, 20.0, 50.0, 100.0, 170.0)


def navi_tree(root: Path, objects: Sequence[str] = ("dino", "mug"), copies: bool = True) -> Path:
    """Write objects of NAVI: a flat thing half a metre away, turned about the axis of sight."""
    for seed, name in enumerate(objects):
        folder = root / name / "wild_set"
        told = []
        prefix = "downsampled_" if copies else ""
        for number, turn in enumerate(TURNS):
            half = np.radians(turn) / 2.0
            painted(folder / "images" / f"{prefix}{number:03d}.jpg", (160, 120), 10 * seed + number)
            levels = np.zeros((120, 160))
            levels[30:90, 50:110] = round(655.35 / 0.5)
            levels[31:89, 51:109] = 0  # a frame: few places, for speed
            _depth(folder / "depth" / f"{prefix}{number:03d}.png", levels)
            told.append(
                {
                    "object_id": name,
                    "filename": f"{number:03d}.jpg",
                    "image_size": [1200, 1600],
                    "split": "val",
                    "camera": {
                        "q": [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))],
                        "t": [0.0, 0.0, 500.0],
                        "focal_length": 1500.0,
                    },
                }
            )
        write_json(folder / "annotations.json", told)
    return root


def idx_files(root: Path, count: int, split: str = "t10k") -> tuple[Any, Any]:
    """Write pictures of 28 × 28 and labels from 0 to 9 as IDX files, and return both arrays."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4) for n in array.shape)
        (root / f"{split}-{name}-ubyte").write_bytes(head + array.tobytes())
    return pixels, labels
