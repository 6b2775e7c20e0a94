"""IDX files, the form of MNIST: ``mnist:FOLDER``, ``fashion-mnist:FOLDER``, and ``idx:FOLDER`` for others.

``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, compressed (``.gz``) or not, are the test split;
the path of a file of pictures (``train-images-idx3-ubyte.gz``) means that file. A file is two zero bytes, the
type (8: unsigned bytes), the number of axes, their lengths in four bytes each, the largest first, and the
values (LeCun, Cortes & Burges, yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief
from pytest_cliprobust.files import own_name

#: The classes by label, as their authors name them.
DIGITS = tuple(map(str, range(10)))
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

#: The prompt of CLIP's authors for MNIST.
_NUMBER = ('a photo of the number: "{}".',)

_SPLITS, _MIDDLES = ("t10k", "test"), ("-idx3-ubyte", ".idx3-ubyte")
_UNSIGNED, _AXES = 8, {"pictures": 3, "labels": 1}


class Pictures(Listed):
    """Samples whose pictures are one array; an id is the file's split and the number in it."""

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        pixels: npt.NDArray[np.uint8],
        **options: Unpack[LayoutOptions],
    ) -> None:
        self.pixels = pixels
        super().__init__(name, root, rows, labels, **options)

    def _number(self, row: Row) -> int:
        return int(row.id.rpartition("/")[2])

    def _fingerprints(self) -> list[str]:
        # Of the pictures, so that a compressed copy is the same data.
        return [
            hashlib.sha256(self.pixels[self._number(row)].tobytes()).hexdigest()
            for row in self._rows
        ]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8: three times its grey levels."""
        grey = torch.from_numpy(self.pixels[self._number(row)].copy())
        return grey.expand(3, *grey.shape).contiguous()


@register_layout(
    "mnist",
    path="the folder with t10k-images-idx3-ubyte, or a file of pictures",
    source="LeCun, Cortes & Burges, yann.lecun.com/exdb/mnist",
    licence="none stated",
    published=True,
)
def mnist(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return MNIST's test split, or the split whose file of pictures ``root`` is.

    Raises:
        ClipRobustError: there are no such files, or they are damaged.
    """
    data = _data("mnist", Path(root), DIGITS, **options)
    data.templates = _NUMBER  # type: ignore[attr-defined]
    return data


@register_layout(
    "fashion-mnist",
    path="the folder with t10k-images-idx3-ubyte, or a file of pictures",
    source="Xiao et al. 2017, github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    published=True,
)
def fashion_mnist(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return Fashion-MNIST's test split, or the split whose file of pictures ``root`` is.

    Raises:
        ClipRobustError: there are no such files, or they are damaged.
    """
    return _data("fashion-mnist", Path(root), GARMENTS, **options)


@register_layout(
    "idx",
    path="the folder with t10k-images-idx3-ubyte, labels and classes.txt; or a file of pictures",
)
def idx(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return pictures in IDX files of one's own; ``classes.txt`` beside names the labels, one a line.

    Raises:
        ClipRobustError: there are no such files, or they are damaged.
    """
    folder = Path(root) if Path(root).is_dir() else Path(root).parent
    try:
        lines = (folder / "classes.txt").read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ClipRobustError(
            f"idx: {str(folder)!r} should have classes.txt, the names of labels 0, 1, …, one a line "
            f"({brief(error)})"
        ) from None
    names = tuple(line.strip() for line in lines if line.strip())
    return _data(f"idx:{own_name(os.fspath(root))}", Path(root), names, **options)


def _data(
    name: str, root: Path, classes: Sequence[str], **options: Unpack[LayoutOptions]
) -> Pictures:
    images = root if root.is_file() else _images(root, name)
    split = images.name.partition("images")[0].rstrip("-.") or images.name
    beside = images.name.replace("images", "labels").replace("idx3", "idx1")
    tables = [images.with_name(beside), images.with_name(_other(beside))]
    labels = next((path for path in tables if path.is_file() and path != images), None)
    if labels is None:
        raise ClipRobustError(f"{name}: {str(images)!r} should have {beside} beside it")
    pixels, told = read_idx(images, "pictures"), read_idx(labels, "labels")
    if len(pixels) != len(told):
        raise ClipRobustError(
            f"{name}: {images.name} has {len(pixels)} pictures, and {labels.name} {len(told)} labels"
        )
    if len(told) and int(told.max()) >= len(classes):
        raise ClipRobustError(
            f"{name}: {labels.name} has the label {int(told.max())}, and there are {len(classes)} classes"
        )
    rows = [
        Row(f"{split}/{number}", images.name, label) for number, label in enumerate(told.tolist())
    ]
    labelled = Labels(tuple(classes))
    return Pictures(name, images.parent, in_rounds(rows), labelled, pixels, **options)


def _images(folder: Path, name: str) -> Path:
    """Return the file with the pictures of the test split."""
    names = [f"{s}-images{m}{e}" for s in _SPLITS for m in _MIDDLES for e in ("", ".gz")]
    found = next((folder / one for one in names if (folder / one).is_file()), None)
    if found is None:
        there = sorted(path.name for path in folder.iterdir())[:5] if folder.is_dir() else []
        raise ClipRobustError(
            f"{name}: {str(folder)!r} should hold {names[0]} (or .gz), or be a file of pictures; it has "
            f"{', '.join(there) or 'nothing'}"
        )
    return found


def _other(name: str) -> str:
    """Return the name of the compressed form of a file, or of that of a compressed one the plain."""
    return name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"


def read_idx(path: Path, what: str) -> npt.NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file, of as many axes as ``"pictures"`` or ``"labels"`` have.

    Raises:
        ClipRobustError: it cannot be read, or is no such file.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ClipRobustError(f"{str(path)!r} cannot be read ({brief(error)})") from None
    axes = _AXES[what]
    head = 4 + 4 * axes
    if content[:4] != bytes((0, 0, _UNSIGNED, axes)) or len(content) < head:
        raise ClipRobustError(
            f"{str(path)!r} should be an IDX file of {what}, which begins with the bytes 0 0 8 {axes}; it "
            f"begins with {' '.join(map(str, content[:4])) or 'nothing'}"
        )
    shape: Any = np.frombuffer(content, ">u4", axes, 4).tolist()
    if len(content) - head != math.prod(shape):
        raise ClipRobustError(
            f"{str(path)!r} should hold {' × '.join(map(str, shape))} bytes of {what}, and holds "
            f"{len(content) - head}; fetch it anew"
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
