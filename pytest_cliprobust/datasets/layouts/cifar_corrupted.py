"""CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019): arrays that are mapped, never unpickled.

``<corruption>.npy`` (5 N, 32, 32, 3), severities one after the other, and ``labels.npy`` (5 N,), where N is
the number of test pictures (10,000), in their order. The column ``clean_id`` is the id of the same picture
in the layouts ``cifar10`` and ``cifar100``, with which it is paired.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from pytest_cliprobust.datasets.fingerprints import fingerprints, joined
from pytest_cliprobust.datasets.layouts.corrupted import SEVERITIES
from pytest_cliprobust.datasets.listed import Labels, Listed, Row, in_rounds, place_of, tree_of
from pytest_cliprobust.datasets.registry import LayoutOptions, register_layout
from pytest_cliprobust.errors import ClipRobustError, brief

CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)

#: The fine labels, which are in the order of the alphabet.
CIFAR100 = tuple(
    name
    for line in (
        "apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl",
        "boy, bridge, bus, butterfly, camel, can, castle, caterpillar, cattle, chair",
        "chimpanzee, clock, cloud, cockroach, couch, crab, crocodile, cup, dinosaur, dolphin",
        "elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp",
        "lawn mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain",
        "mouse, mushroom, oak tree, orange, orchid, otter, palm tree, pear, pickup truck",
        "pine tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road",
        "rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider",
        "squirrel, streetcar, sunflower, sweet pepper, table, tank, telephone, television",
        "tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow tree, wolf",
        "woman, worm",
    )
    for name in line.split(", ")
)

_LABELS = "labels.npy"
_SHAPE = (32, 32, 3)


class Arrays(Listed):
    """Samples whose pictures are rows of arrays; an id says which: ``fog/3/17``."""

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        count: int,
        **options: Unpack[LayoutOptions],
    ) -> None:
        self._count = count
        self._open: dict[str, Any] = {}
        super().__init__(name, root, rows, labels, unit="picture", **options)

    def _fingerprints(self) -> list[str]:
        files = sorted({row.path for row in self._rows})
        whole = dict(zip(files, fingerprints(self.root, files), strict=True))
        return [joined([whole[row.path], row.id]) for row in self._rows]

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, 32, 32) uint8."""
        if row.path not in self._open:
            self._open[row.path] = _mapped(self.root / row.path)
        _, severity, number = row.id.split("/")
        place = (int(severity) - 1) * self._count + int(number)
        return torch.from_numpy(np.array(self._open[row.path][place].transpose(2, 0, 1)))


@register_layout(
    "cifar10-c",
    plays=("corrupted",),
    path="the folder of fog.npy … and labels.npy",
    source="Hendrycks & Dietterich 2019, github.com/hendrycks/robustness",
    licence="CC BY 4.0; pictures of CIFAR-10",
    published=True,
)
def cifar10_c(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return CIFAR-10-C, or as many of its corruptions as are there."""
    return _corrupted("cifar10-c", "CIFAR-10-C", Path(root), CIFAR10, **options)


@register_layout(
    "cifar100-c",
    plays=("corrupted",),
    path="the folder of fog.npy … and labels.npy",
    source="Hendrycks & Dietterich 2019, github.com/hendrycks/robustness",
    licence="CC BY 4.0; pictures of CIFAR-100",
    published=True,
)
def cifar100_c(root: str | os.PathLike[str], /, **options: Unpack[LayoutOptions]) -> Listed:
    """Return CIFAR-100-C, or as many of its corruptions as are there."""
    return _corrupted("cifar100-c", "CIFAR-100-C", Path(root), CIFAR100, **options)


def _corrupted(
    name: str, what: str, given: Path, classes: tuple[str, ...], **options: Unpack[LayoutOptions]
) -> Listed:
    tree_of(given, name)
    root = place_of(given, what, what, ".")
    labels = np.asarray(_mapped(place_of(root, what, _LABELS)))
    files = sorted(path.name for path in root.glob("*.npy") if path.name != _LABELS)
    if not files:
        raise ClipRobustError(
            f"{name}: {str(root)!r} has no corruption, only labels; fetch fog.npy …"
        )
    count, rest = divmod(len(labels), len(SEVERITIES))
    if (
        labels.ndim != 1
        or rest
        or not count
        or not set(labels.tolist()) <= set(range(len(classes)))
    ):
        raise ClipRobustError(
            f"{name}: {str(root / _LABELS)!r} is no list of classes below {len(classes)} for each of the "
            f"{len(SEVERITIES)} severities; check which data set it is"
        )
    for file in files:
        array = _mapped(root / file)
        if array.shape != (len(labels), *_SHAPE) or array.dtype != np.uint8:
            raise ClipRobustError(
                f"{name}: {str(root / file)!r} has the shape {array.shape} of {array.dtype}; expected "
                f"{(len(labels), *_SHAPE)} of uint8, as many as labels; fetch it anew"
            )
    order = [
        int(row.id) for row in in_rounds(Row(str(n), "", int(labels[n])) for n in range(count))
    ]
    rows = list(_rows(order, files, labels.tolist(), count, options.get("limit")))
    return Arrays(name, root, rows, Labels(classes), count, **options)


def _rows(
    order: Sequence[int], files: Sequence[str], labels: Sequence[int], count: int, limit: int | None
) -> Iterator[Row]:
    """Yield every condition of a picture, picture by picture; as many as ``limit`` needs."""
    made = 0
    for number in order:
        for file in files:
            corruption = file.removesuffix(".npy")
            for turn, severity in enumerate(SEVERITIES):
                if limit is not None and made >= max(limit, 0):
                    return
                made += 1
                columns = {
                    "corruption": corruption,
                    "severity": severity,
                    "clean_id": str(number),
                }
                label = labels[turn * count + number]
                yield Row(
                    f"{corruption}/{severity}/{number}", file, label, columns, unit=str(number)
                )


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ClipRobustError(
            f"{str(path)!r} is no array that can be mapped ({brief(error)}); fetch it anew"
        ) from None
