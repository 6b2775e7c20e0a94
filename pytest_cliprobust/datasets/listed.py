"""What published layouts have in common: samples that are listed, each with a picture below a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, Frame
from pytest_cliprobust.datasets.fingerprints import fingerprints, joined, workers
from pytest_cliprobust.datasets.layouts.imagefolder import (
    EXTENSIONS,
    natural_key,
    read_image,
    shortest_side,
)
from pytest_cliprobust.errors import ClipRobustError, UnreadableSample
from pytest_cliprobust.figures.samples import Choice


@dataclass(frozen=True)
class Row:
    """One sample.

    Attributes:
        id: unique within the data set, and the same wherever it lies.
        path: of the picture, relative to the root.
        label: class index; -1 for none.
        columns: further values by column of ``groups``.
        captions: texts that are true of it.
        choices: between a true caption and false ones.
        unit: what it was drawn from; empty: itself.
        box: (left, upper, right, lower) in pixels of the part of the picture that counts; None: all of it.
    """

    id: str
    path: str
    label: int = -1
    columns: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    unit: str = ""
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Labels:
    """A label set.

    Attributes:
        names: what fills the templates, by class index.
        keys: what identifies classes among data sets (wnids); () for the names.
        restricted: whether the head counts for these classes only, however many ``clean`` has.
    """

    names: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    restricted: bool = False


class Listed:
    """Listed samples as a :class:`~pytest_cliprobust.datasets.base.Dataset`.

    Args:
        name: what figures call it.
        root: the folder that the rows' paths are relative to.
        rows: the samples, in the order of which ``limit`` takes a prefix.
        labels: the label set.
        limit: use that many samples at most.
        frame: brings each picture to the frame; the shorter side and the centre unless given.
        size: side of the frame in pixels.
        unit: the word for a unit, where rows have some.

    Raises:
        ClipRobustError: no rows, two with one id, a file that cannot be read, or a limit that leaves none.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        rows: Sequence[Row],
        labels: Labels,
        *,
        limit: int | None = None,
        frame: Frame | None = None,
        size: int = 224,
        unit: str = "unit",
    ) -> None:
        if limit is not None and limit < 1:
            raise ClipRobustError(f"a limit of {limit} samples leaves none; give a positive number")
        if not rows:
            raise ClipRobustError(f"{name}: {str(root)!r} has no pictures in this layout")
        self._rows = tuple(rows[:limit])
        self.name, self.root, self.size = name, root, size
        self._frame = frame or shortest_side
        self.ids = tuple(row.id for row in self._rows)
        if len(set(self.ids)) < len(self.ids):
            twice = next(i for n, i in enumerate(self.ids) if i in self.ids[:n])
            raise ClipRobustError(f"{name}: two samples have the id {twice!r}; give each its own")
        self.labels = tuple(row.label for row in self._rows)
        self.class_names = labels.names
        if labels.keys:
            self.class_keys = labels.keys
        self.restricted = labels.restricted
        columns = dict.fromkeys(column for row in self._rows for column in row.columns)
        self.groups = {
            column: tuple(row.columns.get(column, "") for row in self._rows) for column in columns
        }
        self.captions = _or_none([row.captions for row in self._rows])
        self.choices = _or_none([row.choices for row in self._rows])
        if any(row.unit for row in self._rows):
            self.units = tuple(row.unit or row.id for row in self._rows)
            self.unit = unit
        digests = self._fingerprints()
        self.sample_digests = tuple(digest[:16] for digest in digests)
        told = [f"{row!r}\0{digest}" for row, digest in zip(self._rows, digests, strict=True)]
        self.content = joined([*labels.names, *told])
        self.digest = hashlib.sha256(f"{size}\0{self.content}".encode()).hexdigest()

    def _fingerprints(self) -> list[str]:
        return fingerprints(self.root, [row.path for row in self._rows])

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8.

        Raises:
            ClipRobustError: it cannot be read.
        """
        return read_image(self.root / row.path)

    def frame(self, image: Tensor) -> Tensor:
        """Bring a picture (3, H, W) uint8 to the frame, (3, size, size)."""
        return self._frame(image, self.size)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        """Decode the pictures at ``indices``, in parallel threads: (B, 3, size, size) uint8.

        Raises:
            ClipRobustError: a picture cannot be read; the message names it.
        """
        chosen = [self._rows[index] for index in indices]
        with ThreadPoolExecutor(workers()) as pool:
            images = list(pool.map(self._framed, chosen))
        empty = torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return Batch(tuple(row.id for row in chosen), torch.stack(images) if images else empty)

    def _framed(self, row: Row) -> Tensor:
        image = self.picture(row)
        if row.box is not None:
            left, upper, right, lower = (max(edge, 0) for edge in row.box)
            image = image[:, upper:lower, left:right]
            if not image.numel():
                reason = f"its box {row.box} holds no pixel"
                raise UnreadableSample(
                    f"{self.name}: sample {row.id!r}: {reason}; check it", reason
                )
        return self.frame(image)


def _or_none(values: Sequence[tuple[object, ...]]) -> tuple[tuple[object, ...], ...]:
    return tuple(values) if any(values) else ()


# --- What layouts share ----------------------------------------------------------------------------


def in_rounds(rows: Iterable[Row]) -> list[Row]:
    """Return rows so that every prefix is balanced over the classes: the first of each, then the second."""
    by_class: dict[int, list[Row]] = {}
    for row in rows:
        by_class.setdefault(row.label, []).append(row)
    turns = [(k, label, row) for label, own in by_class.items() for k, row in enumerate(own)]
    return [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])]


def shuffled(rows: Iterable[Row]) -> list[Row]:
    """Return rows by a hash of their ids, so that a prefix is a random sample, the same every time."""
    return sorted(
        rows, key=lambda row: hashlib.sha256(row.id.encode(errors="surrogateescape")).digest()
    )


def pictures_below(root: Path, folder: str = "") -> list[str]:
    """Return the pictures below a folder, relative to ``root``, in natural order, without hidden ones."""
    below = root / folder
    found = (path for path in below.rglob("*") if path.suffix.lower() in EXTENSIONS)
    names = [path.relative_to(root).as_posix() for path in found]
    visible = (
        name for name in names if not any(part.startswith((".", "__")) for part in name.split("/"))
    )
    return sorted(visible, key=natural_key)


def folders_of(root: Path) -> list[str]:
    """Return the names of the folders in a folder, in natural order; hidden ones are left out."""
    names = (path.name for path in root.iterdir() if path.is_dir())
    return sorted((name for name in names if not name.startswith((".", "__"))), key=natural_key)


def place_of(root: Path, what: str, *candidates: str) -> Path:
    """Return the first of some folders or files below ``root`` that is there.

    Raises:
        ClipRobustError: none is; the message names what was looked for.
    """
    for name in candidates:
        if (root / name).exists():
            return root / name
    looked = " or ".join(repr(name) for name in candidates)
    raise ClipRobustError(
        f"{str(root)!r} is no {what}: it has no {looked}; check the path of the data set"
    )
