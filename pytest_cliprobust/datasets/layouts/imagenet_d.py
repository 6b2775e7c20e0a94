"""ImageNet-D (Zhang et al. 2024): painted things with an odd background, texture or material.

``{background,texture,material}/<class>/*``. Its 113 classes are its own, with a zero-shot head of their
names, as CLIP models are evaluated by those who published it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.listed import (
    Labels,
    Listed,
    Row,
    in_rounds,
    pictures_in,
    shuffled,
    tree_of,
    what_is_there,
)
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out, natural_key
from pytest_cliprobust.errors import ClipRobustError

FACTORS = ("background", "texture", "material")

#: Folders whose last word says which thing of that name is meant.
_EXPLAINED = frozenset(
    {
        *("binder_closed", "dress_shoe_men", "iron_for_clothes", "laptop_open", "nail_fastener"),
        "weight_exercise",
    }
)


@register_layout(
    "imagenet-d",
    plays=("factors",),
    path="the folder of background, texture and material",
    source="Zhang et al. 2024, github.com/chenshuang-zhang/imagenet_d",
    licence="MIT (code)",
    published=True,
)
def imagenet_d(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the pictures of all three factors, or of those that are there.

    Raises:
        ClipRobustError: none is.
    """
    folder = Path(root)
    tree = tree_of(folder, "imagenet-d")
    places = [
        f"{factor}/{name}"
        for factor in FACTORS
        if (folder / factor).is_dir()
        for name in tree_of(folder / factor, "imagenet-d").folders()
    ]
    if not places:
        raise ClipRobustError(
            f"imagenet-d: {str(folder)!r} has no {', '.join(FACTORS)} with folders of classes; check the "
            f"path (there is {what_is_there(folder)})"
        )
    classes = sorted({place.partition("/")[2] for place in places}, key=natural_key)
    number = {name: row for row, name in enumerate(classes)}
    rows = []
    for place, path in pictures_in(tree, places):
        factor, _, name = place.partition("/")
        rows.append(Row(path, path, number[name], {"factor": factor, "folder": name}))
    labels = Labels(tuple(map(_name, classes)), tuple(classes), own=True)
    notes = left_out(tree.notes())
    return Listed("imagenet-d", folder, in_rounds(shuffled(rows)), labels, notes=notes, **options)


def _name(folder: str) -> str:
    """Return what a class is called: ``binder (closed)``, ``coffee or french press``."""
    if folder not in _EXPLAINED:
        return folder.replace("_", " ")
    for inner in ("_for_", "_"):
        thing, sign, which = folder.rpartition(inner)
        if sign:
            return f"{thing} ({inner.strip('_')} {which})".replace("( ", "(").replace("_", " ")
    return folder
