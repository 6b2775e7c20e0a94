"""CIFAR-10 and CIFAR-100 in their binary form, which holds nothing that could be executed.

The version for Python, which torchvision fetches, is of pickles and is refused; pictures in folders of
classes are read by the layout ``imagefolder``.

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
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds, place_of, tree_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE

#: Folders of the version for Python, which torchvision leaves.
_PICKLES = ("cifar-10-batches-py", "cifar-100-python")


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
    folder = _folder(Path(root), "cifar10", "cifar-10-batches-bin")
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
    folder = _folder(Path(root), "cifar100", "cifar-100-binary")
    return _records("cifar100", folder, "test.bin", "fine_label_names.txt", 2, **options)


def _folder(root: Path, name: str, inner: str) -> Path:
    """Return the folder of the binary form.

    Raises:
        ClipRobustError: it is the form of pickles, or no folder.
    """
    tree_of(root, name)
    folder = place_of(root, f"{name} in binary form", inner, ".")
    pickles = (place for place in (folder, *map(folder.joinpath, _PICKLES)) if _is_pickled(place))
    if (found := next(pickles, None)) is not None:
        raise ClipRobustError(
            f"{name}: {str(found)!r} is the version of pickles, which may run code and are not read; fetch "
            f"the binary version ({inner}), or give folders of pictures as imagefolder:PATH"
        )
    return folder


def _is_pickled(folder: Path) -> bool:
    names = ("data_batch_1", "test_batch", "test")
    return any((folder / name).is_file() for name in names) and not list(folder.glob("*.bin"))


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
