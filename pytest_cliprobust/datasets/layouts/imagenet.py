"""ImageNet-1k's validation set: folders by WordNet id, or flat with its ground truth.

Flat, the classes come from Kaggle's ``LOC_val_solution.csv``, or from
``ILSVRC2012_validation_ground_truth.txt`` with ``meta.mat`` of the development kit: the numbers of the ground
truth are ILSVRC's, which are not in the order of the WordNet ids.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.listed import Listed, Row, in_rounds, pictures_in, tree_of
from pytest_cliprobust.datasets.matfile import read_structs
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out
from pytest_cliprobust.datasets.wordnet import WNID, wnids
from pytest_cliprobust.errors import ClipRobustError, brief

_SOLUTION = "LOC_val_solution.csv"
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_KIT = "ILSVRC2012_devkit_t12/data"


@register_layout(
    "imagenet",
    path="the folder of the validation pictures, or the one around val",
    source="Russakovsky et al. 2015, image-net.org",
    licence="for research, after registration",
    published=True,
)
def imagenet_1k(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-1k's validation set.

    Raises:
        ClipRobustError: it is in neither form, or a picture has no ground truth.
    """
    folder = Path(root)
    inner = folder / "val" if (folder / "val").is_dir() else folder
    if any(WNID.fullmatch(name) for name in tree_of(inner, "imagenet").folders()):
        return imagenet.by_folder("imagenet", inner, **options)
    truth = _truth(folder, inner)
    number = {key: row for row, key in enumerate(wnids())}
    rows, tree = [], tree_of(inner, "imagenet")
    for _, path in pictures_in(tree, [""]):
        key = truth.get(Path(path).stem)
        if key not in number:
            raise ClipRobustError(
                f"imagenet: {str(inner / path)!r} has no class in the ground truth; remove it, or check the "
                "ground truth"
            )
        rows.append(Row(path, path, number[key], {"folder": key}))
    labels = imagenet.labels()
    return Listed(
        "imagenet", inner, in_rounds(rows), labels, notes=left_out(tree.notes()), **options
    )


def _truth(*folders: Path) -> Mapping[str, str]:
    """Return the WordNet id by stem of the picture's file name."""
    places = [place for folder in folders for place in (folder, folder / _KIT, folder.parent)]
    for place in places:
        if (place / _SOLUTION).is_file():
            return _of_solution(place / _SOLUTION)
        if (place / _TRUTH).is_file() and (place / _META).is_file():
            return _of_kit(place / _TRUTH, place / _META)
    raise ClipRobustError(
        f"imagenet: {str(folders[0])!r} has neither folders by WordNet id nor {_SOLUTION}, nor {_TRUTH} with "
        f"{_META} ({_KIT}); put one of them there"
    )


def _of_solution(path: Path) -> Mapping[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (KeyError, IndexError, AttributeError):
        raise ClipRobustError(
            f"{str(path)!r} must have the columns ImageId and PredictionString, with a class in each row"
        ) from None


def _of_kit(truth: Path, meta: Path) -> Mapping[str, str]:
    """Return the classes by the development kit: line n of the ground truth is of picture n."""
    try:
        synsets = read_structs(meta, "synsets", ("ILSVRC2012_ID", "WNID"))
        wnid = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        numbers = [int(line) for line in truth.read_text(encoding="utf-8").split()]
        return {
            f"ILSVRC2012_val_{place:08d}": wnid[number]
            for place, number in enumerate(numbers, start=1)
        }
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise ClipRobustError(
            f"{str(truth)!r} with {str(meta)!r} cannot be read ({brief(error)}); take both from the same kit"
        ) from None
