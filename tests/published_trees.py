"""Trees of data sets as they are published, of a few small pictures: more of them than layout_helpers has."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from layout_helpers import WNIDS, by_wnid, encoded, picture, shards, write_json
from PIL import Image

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a CSV whose columns are those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def scam(root: Path) -> Path:
    """Write what images.zip unpacks to: three photographs, each with the word, drawn in, and without."""
    rows = []
    for number, (thing, word) in enumerate(
        [("usb cable", "zebra"), ("ball", "car"), ("chair", "ball")], start=1
    ):
        for variant in ("NoSCAM", "SCAM", "SynthSCAM"):
            name = f"{variant}_img_{number:04d}"
            picture(root / "train" / f"{name}.jpg", number)
            rows.append(
                {
                    "file_name": f"train/{name}.jpg",
                    "type": variant,
                    "object_label": thing,
                    "attack_word": word,
                    "postit_area_pct": 1.5,
                    "id": name,
                }
            )
    write_csv(root / "metadata.csv", rows)
    return root


def imagenet_x(root: Path, *, each: int = 4) -> Path:
    """Write val and annotations: of each class one prototype, one with no factor, and others with one."""
    by_wnid(root / "val", WNIDS, each=each)
    from pytest_cliprobust.datasets.layouts.imagenet_x import FACTORS

    classes = (0, 1, 2, 992, 998, 999)
    lines = []
    for number in range(len(WNIDS) * each):
        turn = number % each
        shown = {2: "pose", 3: "darker"}.get(turn, "pose" if turn == 0 else "")
        factors = {factor: int(factor == shown) for factor in FACTORS}
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        entry = {"file_name": name, "class": classes[number // each], **factors}
        lines.append(json.dumps({**entry, "justification": "as it is", "one_word": "it"}))
    (root / "imagenet_x_val_top_factor.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    firsts = [n for n in range(len(WNIDS) * each) if n % each == 0]
    names = [{"file_name": f"ILSVRC2012_val_{n + 1:08d}.JPEG"} for n in firsts]
    write_csv(root / "prototypical_paths.csv", names)
    return root


def objectnet(root: Path) -> Path:
    """Write two pictures of each of four classes, with a red border; ImageNet has three of the classes."""
    labels = {
        "air_freshener": "Air freshener",
        "banana": "Banana",
        "chair": "Chair",
        "trash_bin": "Trash bin",
    }
    for seed, folder in enumerate(labels):
        for turn in range(2):
            pixels = np.random.default_rng(seed).integers(0, 256, (28, 30, 3), dtype=np.uint8)
            pixels[[0, -1]] = pixels[:, [0, -1]] = (255, 0, 0)
            path = root / "images" / folder / f"{seed:07x}{turn:08x}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    write_json(root / "mappings" / "folder_to_objectnet_label.json", labels)
    write_json(
        root / "mappings" / "objectnet_to_imagenet_1k.json",
        {
            "Banana": "banana",
            "Chair": "barber chair; folding chair; rocking chair, rocker",
            "Trash bin": "ashcan, trash can, garbage can, wastebin, ash bin, ash-bin, ashbin, dustbin, trash "
            "barrel, trash bin",
        },
    )
    return root


def imagenet_d(root: Path) -> Path:
    """Write pictures of three factors, not each of every class."""
    for factor, names in {
        "background": ("binder_closed", "iron_for_clothes"),
        "texture": ("backpack", "iron_for_clothes"),
        "material": ("coffee_or_french_press",),
    }.items():
        for name in names:
            for turn in range(2):
                picture(root / factor / name / f"{name}_{factor}_{turn}.jpg", turn)
    write_csv(root / "questions" / "background.csv", [{"image_dir": "x"}])
    return root


def laion_c(root: Path) -> Path:
    """Write two distortions at two intensities, of three classes."""
    for distortion in ("mosaic", "stickers"):
        for level in (1, 5):
            for name in ("car_truck", "dog", "timekeeping"):
                folder = root / distortion / f"intensity_level_{level}" / name
                picture(folder / "ILSVRC2012_val_00000042.png", level)
    return root


def cifar10(root: Path, labels: Sequence[int]) -> Path:
    """Write the binary form of CIFAR-10's test split: pixels of the seed 0."""
    inner = root / "cifar-10-batches-bin"
    inner.mkdir(parents=True)
    pixels = _cifar(len(labels), 0)
    records = (
        bytes([label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)
    )
    (inner / "test_batch.bin").write_bytes(b"".join(records))
    (inner / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n\n", encoding="utf-8")
    return root


def cifar_c(root: Path, labels: Sequence[int]) -> Path:
    """Write two corruptions as arrays: severity s of a picture has the pixels of the seed s."""
    root.mkdir(parents=True)
    stacked = np.concatenate([_cifar(len(labels), s) for s in range(1, 6)]).transpose(0, 2, 3, 1)
    for corruption in ("fog", "jpeg_compression"):
        np.save(root / f"{corruption}.npy", stacked)
    np.save(root / "labels.npy", np.array([*labels] * 5, dtype=np.uint8))
    return root


def _cifar(count: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def saved(
    folder: Path, labels: Sequence[int | None], names: Sequence[str] = ("cat", "dog")
) -> Path:
    """Write what save_to_disk writes of a data set with an image, a class and a further column."""
    arrow = importlib.import_module("pyarrow")
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [*names], "_type": "ClassLabel"},
        "place": {"dtype": "string", "_type": "Value"},
    }
    kind = arrow.schema(
        [
            ("image", arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])),
            ("label", arrow.int64()),
            ("place", arrow.string()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {
            "image": {"bytes": encoded(n, "png"), "path": f"{n}.png"},
            "label": label,
            "place": ("indoors", "outdoors")[n % 2],
        }
        for n, label in enumerate(labels)
    ]
    folder.mkdir(parents=True)
    file = "data-00000-of-00001.arrow"
    with arrow.OSFile(str(folder / file), "wb") as sink, arrow.ipc.new_stream(sink, kind) as writer:
        for start in range(0, len(rows), 2):  # several batches, as the library writes them
            writer.write_batch(arrow.RecordBatch.from_pylist(rows[start : start + 2], schema=kind))
    write_json(folder / "dataset_info.json", {"citation": "", "features": features, "license": ""})
    state = {"_data_files": [{"filename": file}], "_fingerprint": "0", "_format_columns": None}
    write_json(folder / "state.json", {**state, "_format_type": None, "_split": "test"})
    return folder


def negbench(root: Path) -> tuple[Path, Path]:
    """Write a table of choices and one of captions, with pictures beside them."""
    for number in range(1, 13):
        picture(root / "val2017" / f"{number:012d}.jpg", number)
    choices = [
        {
            "correct_answer": n % 4,
            "caption_0": f"A dog {n}.",
            "caption_1": f"A cat, but no dog {n}.",
            "caption_2": f"A dog, but no cat {n}.",
            "caption_3": f"No dog {n}.",
            "correct_answer_template": ("positive", "hybrid", "hybrid", "negative")[n % 4],
            "image_path": f"/where/they/were/data/coco/images/val2017/{n % 2 + 1:012d}.jpg",
        }
        for n in range(4)
    ]
    captions = [
        {
            "positive_objects": "['dog']",
            "filepath": f"data/coco/images/val2017/{n + 1:012d}.jpg",
            "captions": str([f"It's a dog, and not a cat {n}.", f'A "dog" {n}.']),
        }
        for n in range(12)
    ]
    return (
        write_csv(root / "COCO_val_mcq_llama3.1_rephrased.csv", choices),
        write_csv(root / "COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true.csv", captions),
    )


def mmvp(root: Path) -> Path:
    """Write two pairs of each of two patterns."""
    lines = ["Question ID,Type,Statement"]
    for number in range(1, 9):
        pattern = "Texts" if number > 4 else "Color and Appearance"
        picture(root / "MLLM_VLM Images" / pattern / f"{number}.jpg", number)
        lines.append(f'{number},{pattern},"a thing, number {number}"')
    (root / "Questions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def several_labels(root: Path, marks: Sequence[Sequence[int]], names: Sequence[str]) -> Path:
    """Write shards whose samples have several labels, 0 or 1 for each class."""
    import io

    samples = []
    for number, own in enumerate(marks):
        array = io.BytesIO()
        np.save(array, np.array(own))
        samples.append({"webp": encoded(number), "npy": array.getvalue()})
    shards(root, samples, each=2)
    (root / "classnames.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / "dataset_type.txt").write_text("multilabel\n", encoding="utf-8")
    return root
