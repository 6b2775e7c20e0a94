"""ImageNet-X (Idrissi et al. 2022): which visual factor makes a picture of ImageNet's validation set unusual.

``imagenet_x_val_top_factor.jsonl`` with ``prototypical_paths.csv`` beside it, and the validation pictures
in folders by WordNet id or flat. An entry has ``file_name``, ``class`` (0 to 999) and 0 or 1 for each of
sixteen factors. The prototypes, with which people compared, are left out, as published.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.layouts.manifest import read_rows
from pytest_cliprobust.datasets.listed import (
    Listed,
    Row,
    in_rounds,
    pictures_in,
    place_of,
    shuffled,
    tree_of,
)
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.wordnet import wnids
from pytest_cliprobust.errors import ClipRobustError, brief

FACTORS = (
    *(
        "multiple_objects",
        "background",
        "color",
        "brighter",
        "darker",
        "style",
        "larger",
        "smaller",
    ),
    *("object_blocking", "person_blocking", "partial_view", "pattern", "pose", "shape"),
    *("subcategory", "texture"),
)

_TOP = "imagenet_x_val_top_factor.jsonl"
_PROTOTYPES = "prototypical_paths.csv"
_FOLDERS = ("", "annotations", "imagenet_x", "imagenet_x/annotations")

#: The value of ``factor`` where none was found, which no figure counts.
NONE = "none"


@register_layout(
    "imagenet-x",
    plays=("factors",),
    path="the folder of the annotations, with val in it or beside it",
    source="Idrissi et al. 2022, github.com/facebookresearch/imagenetx",
    licence="CC BY-NC 4.0; pictures of ImageNet",
    published=True,
)
def imagenet_x(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the annotated pictures; ids are those of the layout ``imagenet``.

    Raises:
        ClipRobustError: annotations, prototypes or pictures are missing, or an entry has another form.
    """
    folder = Path(root)
    tree_of(folder, "imagenet-x")
    table = place_of(folder, "ImageNet-X", *(f"{inner}/{_TOP}".lstrip("/") for inner in _FOLDERS))
    prototypes = read_rows(place_of(table.parent, "folder of ImageNet-X", _PROTOTYPES))
    removed = {row.get("file_name") for row in prototypes}
    entries = {name: value for name, value in _entries(table) if name not in removed}
    places = (folder / "val", folder.parent / "val", folder)
    pictures = next(place for place in places if place.is_dir())
    found = {
        Path(path).name: path for _, path in pictures_in(tree_of(pictures, "imagenet-x"), [""])
    }
    rows = [
        Row(found[name], found[name], label, {"factor": factor, "folder": wnids()[label]})
        for name, (label, factor) in entries.items()
        if name in found
    ]
    if not rows:
        raise ClipRobustError(
            f"imagenet-x: none of the {len(entries):,} annotated pictures is below {str(pictures)!r}; put "
            "ImageNet's val there"
        )
    lost = len(entries) - len(rows)
    notes = [f"{lost:,} of {len(entries):,} annotated pictures are not there"] if lost else []
    order = in_rounds(shuffled(rows))
    return Listed("imagenet-x", pictures, order, imagenet.labels(), notes=notes, **options)


def _entries(table: Path) -> list[tuple[str, tuple[int, str]]]:
    """Return (file name, (class, factor)) of each entry."""
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"{str(table)!r} cannot be read ({brief(error)})") from None
    return [_entry(line, f"{str(table)!r}, line {n}") for n, line in enumerate(lines, 1) if line]


def _entry(line: str, where: str) -> tuple[str, tuple[int, str]]:
    try:
        entry: Any = json.loads(line)
        name, label = str(entry["file_name"]), int(entry["class"])
        shown = [factor for factor in FACTORS if entry[factor]]
    except (ValueError, KeyError, TypeError) as error:
        raise ClipRobustError(
            f"{where}: no entry of ImageNet-X ({brief(error)}); it needs file_name, class and the factors"
        ) from None
    if not 0 <= label < len(wnids()) or len(shown) > 1:
        raise ClipRobustError(
            f"{where}: class {label} with the factors {', '.join(shown) or NONE}; a class from 0 to 999 and "
            "one factor at most are expected"
        )
    return name, (label, shown[0] if shown else NONE)
