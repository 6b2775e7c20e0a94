"""CIFAR-10 and CIFAR-100 in their binary form, which holds nothing that could be executed.

``cifar-10-batches-bin/test_batch.bin`` with ``batches.meta.txt``, and ``cifar-100-binary/test.bin`` with
``fine_label_names.txt``: records of one label byte (two for CIFAR-100, the fine one last) and 3 × 32 × 32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.datasets.fingerprints import fingerprints, joined
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds, place_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class Records(Listed):
    """Samples whose pictures are records of one file; an id is the number of its record."""

    def _fingerprints(self) -> list[str]:
        whole = fingerprints(self.root, [row.path for row in self._rows[:1]])[0]
        return [joined([whole, row.id]) for row in self._rows]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, 32, 32) uint8."""
        file = self.root / row.path
        width = int(row.columns["record"])
        pixels = np.fromfile(
            file, dtype=np.uint8, count=_PIXELS, offset=int(row.id) * width + width - _PIXELS
        )
        return torch.from_numpy(pixels.reshape(3, _SIDE, _SIDE))


@register_layout(
    "cifar10",
    path="the folder cifar-10-batches-bin, or the one around it",
    source="Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated",
    published=True,
)
def cifar10(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return CIFAR-10's test split."""
    folder = place_of(Path(root), "CIFAR-10 in binary form", "cifar-10-batches-bin", ".")
    names = "batches.meta.txt"
    return _records("cifar10", folder, "test_batch.bin", names, 1, **options)


@register_layout(
    "cifar100",
    path="the folder cifar-100-binary, or the one around it",
    source="Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated",
    published=True,
)
def cifar100(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return CIFAR-100's test split, by its fine labels."""
    folder = place_of(Path(root), "CIFAR-100 in binary form", "cifar-100-binary", ".")
    return _records("cifar100", folder, "test.bin", "fine_label_names.txt", 2, **options)


def _records(
    name: str,
    root: Path,
    file: str,
    names: str,
    heads: int,
    **options: Unpack[LayoutOptions],
) -> Listed:
    what = f"{name} in binary form"
    table, meta = place_of(root, what, file), place_of(root, what, names)
    content = np.fromfile(table, dtype=np.uint8)
    width = heads + _PIXELS
    if not len(content) or len(content) % width:
        raise ClipRobustError(
            f"{name}: {str(table)!r} is not made of records of {width} bytes; fetch it anew"
        )
    lines = meta.read_text(encoding="utf-8").splitlines()
    classes = tuple(line.strip().replace("_", " ") for line in lines if line.strip())
    labels = content.reshape(-1, width)[:, heads - 1].tolist()
    if max(labels) >= len(classes):
        raise ClipRobustError(f"{name}: {str(table)!r} has a label that {names} has no name for")
    rows = [
        Row(str(number), file, label, {"record": str(width)}) for number, label in enumerate(labels)
    ]
    return Records(name, root, in_rounds(rows), Labels(classes), **options)
