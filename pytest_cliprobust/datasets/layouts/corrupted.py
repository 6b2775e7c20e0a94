"""Pictures that were corrupted before: ImageNet-C, ImageNet-3DCC, in ``<corruption>/<1 to 5>/<wnid>/``.

The id of a sample has the corruption in it; the column ``clean_id`` is the id of the same picture in the
layout ``imagenet``, with which it is paired.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.listed import (
    Labels,
    Listed,
    Row,
    in_rounds,
    pictures_in,
    tree_of,
    what_is_there,
)
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.datasets.walking import left_out
from pytest_cliprobust.datasets.wordnet import wnids
from pytest_cliprobust.errors import ClipRobustError

SEVERITIES = ("1", "2", "3", "4", "5")


@register_layout(
    "imagenet-c",
    plays=("corrupted",),
    path="the folder of the corruptions, or one of these",
    source="Hendrycks & Dietterich 2019, github.com/hendrycks/robustness",
    licence="CC BY 4.0; pictures of ImageNet",
    published=True,
)
def imagenet_c(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-C, or as many of its corruptions as are there."""
    return _corrupted("imagenet-c", Path(root), **options)


@register_layout(
    "imagenet-3dcc",
    plays=("corrupted",),
    path="the folder of the corruptions, or one of these",
    source="Kar et al. 2022, github.com/EPFL-VILAB/3DCommonCorruptions",
    licence="CC BY-NC 4.0; pictures of ImageNet",
    published=True,
)
def imagenet_3dcc(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return ImageNet-3DCC, or as many of its corruptions as are there."""
    return _corrupted("imagenet-3dcc", Path(root), **options)


def _corrupted(name: str, root: Path, **options: Unpack[LayoutOptions]) -> Listed:
    number = {key: row for row, key in enumerate(wnids())}
    severities = {severity: severity for severity in SEVERITIES}
    return conditions_below(
        name, root, severities, number, imagenet.labels(), of_clean=True, **options
    )


def conditions_below(
    name: str,
    root: Path,
    severities: Mapping[str, str],
    number: Mapping[str, int],
    labels: Labels,
    *,
    of_clean: bool,
    **options: Unpack[LayoutOptions],
) -> Listed:
    """Return all pictures below ``<corruption>/<severity>/<class>/``.

    Every prefix has each corruption and severity about equally often.

    Args:
        name: of the data set.
        root: the folder of the corruptions, or one of these.
        severities: the severity of each folder that has one's name.
        number: the class index of each folder of a class.
        labels: the label set.
        of_clean: whether a picture is called as the one of ``clean`` that it was made of.
        **options: as for all layouts.

    Raises:
        ClipRobustError: there are no such folders, or one is no class.
    """
    tree = tree_of(root, name)
    places = _severities(root, severities)
    if not places:
        raise ClipRobustError(
            f"{name}: {str(root)!r} has no <corruption>/<{'|'.join(severities)}>/<class>/ below it; check "
            f"the path (there is {what_is_there(root)})"
        )
    conditions = []
    for place in places:
        classes = tree_of(place, name).folders()
        unknown = [folder for folder in classes if folder not in number]
        if unknown:
            raise ClipRobustError(
                f"{name}: folder {str(place / unknown[0])!r} is none of its {len(number):,} classes"
            )
        inner = place.relative_to(root).as_posix()
        told = {"corruption": place.parent.name, "severity": severities[place.name]}
        rows = []
        for folder, path in pictures_in(tree, [f"{inner}/{folder}" for folder in classes]):
            picture = path.removeprefix(f"{inner}/")
            kind = folder.removeprefix(f"{inner}/")
            columns = {**told, "folder": kind, **({"clean_id": picture} if of_clean else {})}
            rows.append(Row(path, path, number[kind], columns, unit=picture))
        conditions.append(in_rounds(rows))
    turns = [(k, n) for n, rows in enumerate(conditions) for k in range(len(rows))]
    mixed = [conditions[n][k] for k, n in sorted(turns)]
    notes = left_out(tree.notes())
    return Listed(name, root, mixed, labels, unit="picture", notes=notes, **options)


def _severities(root: Path, severities: Collection[str]) -> list[Path]:
    """Return the folders of severities below a folder: of one corruption, of all, or of groups of these."""
    for depth in ("*", "*/*", "*/*/*"):
        found = [path for path in sorted(root.glob(depth)) if path.name in severities]
        found = [path for path in found if path.is_dir()]
        if found:
            return found
    return []
