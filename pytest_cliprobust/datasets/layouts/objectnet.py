"""ObjectNet (Barbu et al. 2019): things of 313 classes, photographed from odd sides in odd places.

``images/<class>/*.png`` and, in ``mappings/``, ``folder_to_objectnet_label.json`` and
``objectnet_to_imagenet_1k.json``: 113 of the classes are one or several of ImageNet's. The pictures of
these are read; any of the several is right of them, as published. Around each picture is a red border, of
which two pixels at each side are cut off, as by the published loader.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.layouts.image_text import read_json
from pytest_cliprobust.datasets.listed import Listed, Row, in_rounds, pictures_in, place_of, tree_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out
from pytest_cliprobust.datasets.wordnet import wnid_of_lemmas
from pytest_cliprobust.errors import ClipRobustError

BORDER = 2

_LABELS, _OVERLAP = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"


@register_layout(
    "objectnet",
    plays=("shift",),
    path="the folder of images and mappings",
    source="Barbu et al. 2019, objectnet.dev",
    licence="CC BY 4.0 with two clauses: no model is tuned on it, pictures are shown with their border",
    published=True,
)
def objectnet(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the pictures of the classes that ImageNet has, too, to which the head is restricted.

    Raises:
        ClipRobustError: the mappings or the pictures are missing, or a name is no class of ImageNet.
    """
    tree_of(Path(root), "objectnet")
    folder = place_of(Path(root), "ObjectNet", "objectnet-1.0", ".")
    pictures = place_of(folder, "ObjectNet", "images")
    classes = _overlap(place_of(folder, "ObjectNet", "mappings"))
    tree = tree_of(pictures, "objectnet")
    there = tree.folders()
    own = [name for name in there if name in classes]
    if not own:
        raise ClipRobustError(
            f"objectnet: {str(pictures)!r} has none of the {len(classes)} folders that the mapping names; "
            "check the path"
        )
    labels = imagenet.part(sorted({key for keys in classes.values() for key in keys}))
    number = {key: row for row, key in enumerate(labels.keys)}
    rows = []
    for name, path in pictures_in(tree, own):
        first, *others = (number[key] for key in classes[name])
        further = tuple(others)
        rows.append(Row(path, path, first, {"folder": name}, border=BORDER, further=further))
    notes = [*left_out(tree.notes())]
    if rest := len(there) - len(own):
        notes.append(f"left out: {rest} class{'es' if rest > 1 else ''} that ImageNet has not")
    return Listed("objectnet", pictures, in_rounds(rows), labels, notes=notes, **options)


def _overlap(mappings: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the WordNet ids of each folder whose class ImageNet has."""
    labels, overlap = (
        read_json(place_of(mappings, "folder of ObjectNet's mappings", name))
        for name in (_LABELS, _OVERLAP)
    )
    if not isinstance(labels, dict) or not isinstance(overlap, dict):
        raise ClipRobustError(f"objectnet: {str(mappings)!r} has tables of another form")
    return {
        str(folder): tuple(_wnid(name) for name in str(overlap[label]).split(";"))
        for folder, label in labels.items()
        if label in overlap
    }


def _wnid(name: str) -> str:
    found = wnid_of_lemmas(name.strip())
    if found is None:
        raise ClipRobustError(
            f"objectnet: {_OVERLAP} names {name!r}, which is no class of ImageNet"
        )
    return found
