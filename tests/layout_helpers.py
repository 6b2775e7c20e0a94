"""Fixture trees in the exact structure in which data sets are published, of a few small pictures."""

from __future__ import annotations

import csv
import io
import json
import tarfile
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
