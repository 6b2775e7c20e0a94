"""ImageNet-1k's classes, and what its variants' folders have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
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
from pytest_cliprobust.datasets.registry import LayoutOptions
from pytest_cliprobust.datasets.walking import left_out
from pytest_cliprobust.datasets.wordnet import WNID, imagenet_names, wnids
from pytest_cliprobust.errors import ClipRobustError


@cache
def labels() -> Labels:
    """Return the label set: open_clip's names, which keep both cranes and both maillots."""
    return Labels(imagenet_names(), wnids())


def part(keys: Sequence[str]) -> Labels:
    """Return the label set of some of the classes, to which the zero-shot head is restricted.

    Args:
        keys: WordNet ids among the 1,000.
    """
    place = {key: row for row, key in enumerate(wnids())}
    chosen = sorted(keys, key=place.__getitem__)
    names = labels().names
    return Labels(tuple(names[place[key]] for key in chosen), tuple(chosen), restricted=True)


def by_folder(
    name: str,
    root: Path,
    *,
    restricted: bool = False,
    outside: bool = False,
    **options: Unpack[LayoutOptions],
) -> Listed:
    """Return the pictures of folders that are named by WordNet ids.

    Args:
        name: of the data set.
        root: the folder of these folders.
        restricted: whether the head is restricted to the classes that have a folder (-A, -R).
        outside: whether the classes lie outside the 1,000 (-O), so that no sample has a label.
        **options: as for all layouts.

    Raises:
        ClipRobustError: there are no such folders, or one is no class of the 1,000.
    """
    tree = tree_of(root, name)
    folders = [folder for folder in tree.folders() if WNID.fullmatch(folder)]
    if not folders:
        raise ClipRobustError(
            f"{name}: {str(root)!r} has no folders named by WordNet ids (n01440764 …); check the path "
            f"(there is {what_is_there(root)})"
        )
    unknown = [] if outside else [folder for folder in folders if folder not in set(wnids())]
    if unknown:
        raise ClipRobustError(f"{name}: folder {unknown[0]!r} is none of ImageNet's 1,000 classes")
    own = Labels() if outside else part(folders) if restricted else labels()
    number = {key: row for row, key in enumerate(own.keys)}
    rows = [
        Row(path, path, number.get(folder, -1), {"folder": folder})
        for folder, path in pictures_in(tree, folders)
    ]
    order = shuffled if outside else in_rounds
    return Listed(name, root, order(rows), own, notes=left_out(tree.notes()), **options)
