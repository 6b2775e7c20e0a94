"""Pictures outside ImageNet's 1,000 classes, in class folders that say nothing of these: DTD, NINCO."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets.listed import (
    Labels,
    Listed,
    Row,
    pictures_in,
    place_of,
    shuffled,
    tree_of,
)
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out


@register_layout(
    "textures",
    plays=("far_ood",),
    path="the folder dtd, or its images",
    source="Cimpoi et al. 2014 (DTD), www.robots.ox.ac.uk/~vgg/data/dtd",
    licence="for research",
    published=True,
)
def textures(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return the Describable Textures: 47 kinds of texture, none of them a thing."""
    folder = place_of(Path(root), "DTD", "images", "banded")
    folder = folder if folder.name == "images" else folder.parent
    return outside("textures", folder, **options)


@register_layout(
    "ninco",
    plays=("near_ood",),
    path="the folder with NINCO_OOD_classes, or that one",
    source="Bitterwolf et al. 2023, github.com/j-cb/NINCO",
    licence="as its pictures' sources",
    published=True,
)
def ninco(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return NINCO: 64 classes looked through for anything of ImageNet's."""
    folder = place_of(Path(root), "NINCO", "NINCO_OOD_classes", ".")
    return outside("ninco", folder, **options)


def outside(name: str, root: Path, **options: Unpack[LayoutOptions]) -> Listed:
    """Return pictures in folders of kinds, or in none, without labels; a prefix is a random sample."""
    tree = tree_of(root, name)
    kinds = tree.folders()
    if not kinds:
        tree, kinds = tree_of(root, name), [""]  # a tree reads each folder once
    rows = [
        Row(path, path, columns={"folder": folder}) for folder, path in pictures_in(tree, kinds)
    ]
    return Listed(name, root, shuffled(rows), Labels(), notes=left_out(tree.notes()), **options)
