"""Pictures that were corrupted before: ImageNet-C, ImageNet-3DCC, in ``<corruption>/<1 to 5>/<wnid>/``.

The id of a sample has the corruption in it; the column ``clean_id`` is the id of the same picture in the
layout ``imagenet``, with which it is paired.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from pytest_cliprobust.datasets import imagenet
from pytest_cliprobust.datasets.listed import Listed, Row, folders_of, in_rounds, pictures_below
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
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
    """Return all pictures; every prefix has each corruption and severity about equally often."""
    places = _severities(root)
    if not places:
        raise ClipRobustError(
            f"{name}: {str(root)!r} has no <corruption>/<1 to 5>/<wnid>/ below it; check the path"
        )
    number = {key: row for row, key in enumerate(wnids())}
    conditions = []
    for place in places:
        rows = []
        for folder in folders_of(place):
            if folder not in number:
                raise ClipRobustError(
                    f"{name}: folder {str(place / folder)!r} is no class of ImageNet"
                )
            columns = {
                "corruption": place.parent.name,
                "severity": place.name,
                "folder": folder,
            }
            for picture in pictures_below(place, folder):
                path = (place / picture).relative_to(root).as_posix()
                own = {**columns, "clean_id": picture}
                rows.append(Row(path, path, number[folder], own, unit=picture))
        conditions.append(in_rounds(rows))
    turns = [(k, n) for n, rows in enumerate(conditions) for k in range(len(rows))]
    mixed = [conditions[n][k] for k, n in sorted(turns)]
    return Listed(
        name,
        root,
        mixed,
        imagenet.labels(),
        **options,
        unit="picture",
    )


def _severities(root: Path) -> list[Path]:
    """Return the folders of severities below a folder: of one corruption, of all, or of groups of these."""
    for depth in ("*", "*/*", "*/*/*"):
        found = [path for path in sorted(root.glob(depth)) if path.name in SEVERITIES]
        found = [path for path in found if path.is_dir()]
        if found:
            return found
    return []
