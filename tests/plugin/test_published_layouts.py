"""The suites on data sets as they are published, from a user's disk, each under the role that it plays."""

from __future__ import annotations

import math
from typing import Any

import published_trees as trees
from helpers import SUITES, Sessions, report
from layout_helpers import by_wnid
from model_helpers import WORDY, write_folder

from pytest_cliprobust.datasets.wordnet import wnids

FILES = [f"{SUITES}/test_{name}.py" for name in ("shift", "factors", "corrupted", "compositional")]


def measured() -> dict[tuple[str, str], dict[str, Any]]:
    rows = [row["figure"] for row in report()["measurements"]]
    return {(row["condition"]["dataset"], row["metric"]): row for row in rows}


def test_each_new_layout_is_measured_under_its_role(run: Sessions) -> None:
    """Two sessions of a random model: beside ImageNet, whose classes are many, and beside CIFAR-10."""
    disk = run.path / "disk"
    model = write_folder(disk / "model", WORDY)
    (disk / "one.txt").write_text("a photo of a {}.\n", encoding="utf-8")
    trees.imagenet_x(disk / "imagenet")
    # ObjectNet's classes are measured against clean pictures of the same.
    shared = [wnids()[label] for label in (412, 423, 559, 765, 954)]
    by_wnid(disk / "imagenet" / "val", shared, start=101)
    choices, captions = trees.negbench(disk / "negbench")
    sources = [
        f"imagenet:{disk}/imagenet",
        f"imagenet-x:{disk}/imagenet",
        f"imagenet-d:{trees.imagenet_d(disk / 'imagenet-d')}",
        f"objectnet:{trees.objectnet(disk / 'objectnet')}",
        f"laion-c:{trees.laion_c(disk / 'laion-c')}",
        f"scam:{trees.scam(disk / 'scam')}",
        f"mmvp:{trees.mmvp(disk / 'mmvp')}",
        f"negbench:{choices}",
        f"retrieval=negbench:{captions}",
    ]
    options = [f"--clip-model={model}", f"--clip-templates={disk}/one.txt", "--clip-limit=400"]
    options += ["--clip-report=report.json"]
    own = [f"{SUITES}/test_typographic.py::test_written"]
    own += [f"{SUITES}/test_retrieval.py::test_retrieval"]
    data = [f"--clip-data={source}" for source in sources]
    result = run(*FILES, *own, *options, *data)
    assert "failed" not in result.parseoutcomes(), result.stdout.str()
    assert "error" not in result.parseoutcomes(), result.stdout.str()
    found = measured()
    table = "negbench:COCO_val_negated_retrieval_llama3.1_rephrased_affneg_true"
    for key, count in {
        ("objectnet", "accuracy"): 6,
        ("objectnet", "shift_drop"): 6,
        ("imagenet-x:pose", "factor_accuracy"): 6,
        ("imagenet-d:texture", "factor_accuracy"): 4,
        ("laion-c:mosaic@5", "accuracy"): 3,
        ("laion-c", "mean_corruption_accuracy"): 12,
        ("scam:NoSCAM", "caption_choice_accuracy"): 3,
        ("scam:SCAM", "attack_success"): 3,
        ("mmvp", "matching_image_score"): 4,
        ("mmvp:Texts", "matching_image_score"): 2,
        ("negbench:COCO_val_mcq_llama3.1_rephrased:hybrid", "caption_choice_accuracy"): 2,
        (table, "image_to_text_recall_at_1"): 12,
    }.items():
        assert found[key]["n"] == count, key
        assert math.isfinite(found[key]["value"])
    # The three variants of these photographs are the same picture here, and one word is on each.
    for metric in ("accuracy", "attack_success", "caption_choice_accuracy"):
        assert len({found[f"scam:{v}", metric]["value"] for v in ("SCAM", "NoSCAM")}) == 1

    labels = [n % 10 for n in range(20)]
    marks = [[int(c in (n % 10, 3)) for c in range(10)] for n in range(4)]
    trees.several_labels(disk / "several", marks, trees.CIFAR10)
    trees.saved(disk / "saved", [0, 1, 1], ("cat", "dog"))
    sources = [
        f"cifar10:{trees.cifar10(disk / 'cifar', labels)}",
        f"cifar10-c:{trees.cifar_c(disk / 'CIFAR-10-C', labels)}",
        f"shift=wds:{disk}/several",
        f"shift=hf:{disk}/saved",
    ]
    data = [f"--clip-data={source}" for source in sources]
    result = run(FILES[0], FILES[2], *options, *data)
    assert "failed" not in result.parseoutcomes(), result.stdout.str()
    found = measured()
    assert found["cifar10-c:fog@3", "accuracy_drop"]["n"] == 20  # each beside its own clean picture
    assert found["wds:several", "accuracy"]["n"] == 4
    assert found["hf:saved", "accuracy"]["n"] == 3
