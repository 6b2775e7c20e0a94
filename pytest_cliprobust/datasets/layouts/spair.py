"""SPair-71k (Min et al. 2019): keypoints of one thing, to be found in another of its class.

``PairAnnotation/test/<number>-<first>-<second>:<class>.json`` with ``src_imname``, ``trg_imname``, the
keypoints that both have (``src_kps``, ``trg_kps``, as (x, y)), ``trg_bndbox`` and the levels of difficulty;
``JPEGImages/<class>/``. PCK divides distances by the longer side of the second thing's box.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Links
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, place_of, shuffled
from pytest_cliprobust.datasets.paired import Judged, Paired, padded, resized
from pytest_cliprobust.datasets.reading import read_image
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief

#: The levels of difficulty, by the number that the annotation holds.
LEVELS: Mapping[str, tuple[str, ...]] = {
    "viewpoint_variation": ("viewpoint_easy", "viewpoint_medium", "viewpoint_hard"),
    "scale_variation": ("scale_easy", "scale_medium", "scale_hard"),
    "truncation": ("truncated_none", "truncated_first", "truncated_second", "truncated_both"),
    "occlusion": ("occluded_none", "occluded_first", "occluded_second", "occluded_both"),
}


@dataclass(frozen=True)
class _Pair:
    """One annotation: paths of both pictures, keypoints (K, 2) of both, and the longer side of the box."""

    paths: tuple[str, str]
    points: tuple[Tensor, Tensor]
    box: float


@register_layout(
    "spair-71k",
    plays=("semantic_correspondence",),
    path="the folder with PairAnnotation and JPEGImages",
    source="Min et al. 2019, cvlab.postech.ac.kr/research/SPair-71k",
    licence="none stated; pictures of PASCAL VOC (Flickr)",
    published=True,
)
def spair(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return SPair-71k's test pairs, in an order of which a prefix is a random sample.

    The published 12,234 where all are there. Pictures are padded to squares with white and resized, as in
    Probe3D.

    Raises:
        ClipRobustError: the folders are missing, or an annotation lacks something.
    """
    folder = Path(root)
    annotations = place_of(folder, "SPair-71k", "PairAnnotation/test")
    place_of(folder, "SPair-71k", "JPEGImages")
    files = sorted(annotations.glob("*.json"))
    if not files:
        raise ClipRobustError(
            f"spair-71k: {str(annotations)!r} should hold <number>-<first>-<second>:<class>.json; it has no "
            "such file"
        )
    rows, pairs = [], {}
    for path in files:
        row, pair = _read(path)
        rows.append(row)
        pairs[row.id] = pair
    names = tuple(sorted({row.columns["class"] for row in rows}))
    rows = [
        Row(r.id, r.path, names.index(r.columns["class"]), r.columns, unit=r.unit) for r in rows
    ]

    def load(name: str, side: int) -> tuple[Tensor, Tensor, Links]:
        return _load(folder, pairs[name], side)

    data = Paired(
        "spair-71k",
        folder,
        shuffled(rows),
        Labels(names),
        {row.id: (pairs[row.id].paths[1], f"PairAnnotation/test/{row.id}.json") for row in rows},
        load,
        Judged((0.1,)),
        "picture",
        **options,
    )
    data.subgroups = tuple(LEVELS)  # type: ignore[attr-defined]
    return data


def _read(path: Path) -> tuple[Row, _Pair]:
    """Return a pair from its annotation.

    Raises:
        ClipRobustError: it lacks something.
    """
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = str(told["category"])
        names = [f"JPEGImages/{kind}/{told[key]}" for key in ("src_imname", "trg_imname")]
        first, second = (
            torch.tensor(told[key], dtype=torch.float64) for key in ("src_kps", "trg_kps")
        )
        left, upper, right, lower = (float(value) for value in told["trg_bndbox"])
        levels = {key: values[int(told[key])] for key, values in LEVELS.items()}
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise ClipRobustError(
            f"spair-71k: {str(path)!r} is no annotation of a pair ({brief(error)})"
        ) from None
    if first.ndim != 2 or first.shape != second.shape or first.shape[1] != 2 or not len(first):
        raise ClipRobustError(f"spair-71k: {str(path)!r} has no keypoints that both pictures have")
    if not max(right - left, lower - upper) > 0:
        raise ClipRobustError(f"spair-71k: {str(path)!r} has a box without extent")
    row = Row(path.stem, names[0], columns={"class": kind, **levels}, unit=names[0])
    # Keypoints are numbers of pixels; their centres are half a pixel on.
    points = (first + 0.5, second + 0.5)
    return row, _Pair((names[0], names[1]), points, max(right - left, lower - upper))


def _load(root: Path, pair: _Pair, side: int) -> tuple[Tensor, Tensor, Links]:
    pictures = [padded(read_image(root / path)) for path in pair.paths]
    factors = [side / picture.shape[-1] for picture in pictures]
    links = Links(
        points=pair.points[0] * factors[0],
        truth=pair.points[1] * factors[1],
        scale=pair.box * factors[1],
    )
    return resized(pictures[0], side), resized(pictures[1], side), links
