"""What published layouts have in common: samples that are listed, each with a picture below a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pytest_cliprobust.datasets.base import Batch, Frame, check_limit
from pytest_cliprobust.datasets.fingerprints import fingerprints_or_none, joined, workers
from pytest_cliprobust.datasets.layouts.imagefolder import read_image, shortest_side
from pytest_cliprobust.datasets.walking import Tree, listed
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
        border: pixels at each side of the picture that are none of it.
        further: classes that are right of it, too, beside its label.
    """

    id: str
    path: str
    label: int = -1
    columns: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    unit: str = ""
    box: tuple[int, int, int, int] | None = None
    border: int = field(default=0, repr=False)
    further: tuple[int, ...] = field(default=(), repr=False)

    @property
    def described(self) -> str:
        """All that is said of it, as digests of data have it; what most rows have not is told where it is."""
        more = {"border": self.border, "further": self.further}
        return f"{self!r}{''.join(f'|{name}={value}' for name, value in more.items() if value)}"


@dataclass(frozen=True)
class Labels:
    """A label set.

    Attributes:
        names: what fills the templates, by class index.
        keys: what identifies classes among data sets (wnids); () for the names.
        restricted: whether the head counts for these classes only, however many ``clean`` has.
        own: whether the data keeps its classes, and has a zero-shot head of them, whatever ``clean`` has.
    """

    names: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    restricted: bool = False
    own: bool = False


class Listed:
    """Listed samples as a :class:`~pytest_cliprobust.datasets.base.Dataset`.

    Args:
        name: what figures call it.
        root: the folder that the rows' paths are relative to.
        rows: the samples, in the order of which ``limit`` takes a prefix.
        labels: the label set.
        limit: use that many samples at most.
        frame: brings each picture to the frame; the shorter side and the centre unless given.
        size: longer side of the frame in pixels.
        unit: the word for a unit, where rows have some.
        notes: what a reader must know of it, one line each.

    Attributes:
        unreadable: what keeps pictures from being read that is seen at once, in one line with the remedy;
            None: nothing. They are samples all the same, which :meth:`load` refuses.

    Raises:
        ClipRobustError: no rows, two with one id, or a limit that leaves none.
    """

    unreadable: str | None = None

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
        notes: Sequence[str] = (),
    ) -> None:
        check_limit(limit)
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
        self.restricted, self.own_classes = labels.restricted, labels.own
        self.notes = tuple(notes)
        columns = dict.fromkeys(column for row in self._rows for column in row.columns)
        self.groups = {
            column: tuple(row.columns.get(column, "") for row in self._rows) for column in columns
        }
        self.captions = _or_none([row.captions for row in self._rows])
        self.choices = _or_none([row.choices for row in self._rows])
        self.further_labels = _or_none([row.further for row in self._rows])
        if any(row.unit for row in self._rows):
            self.units = tuple(row.unit or row.id for row in self._rows)
            self.unit = unit
        digests = self._fingerprints()
        self.sample_digests = tuple(digest[:16] for digest in digests)
        told = [
            f"{row.described}\0{digest}" for row, digest in zip(self._rows, digests, strict=True)
        ]
        self.content = joined([*labels.names, *told])
        self.digest = hashlib.sha256(f"{size}\0{self.content}".encode()).hexdigest()

    def _fingerprints(self) -> list[str]:
        found, self.unreadable = fingerprints_or_none(self.root, [r.path for r in self._rows])
        return found

    def picture(self, row: Row) -> Tensor:
        """Return the picture of a sample, (3, H, W) uint8.

        Raises:
            ClipRobustError: it cannot be read.
        """
        return read_image(self.root / row.path)

    def frame(self, image: Tensor) -> Tensor:
        """Bring a picture (3, H, W) uint8 to the frame, (3, h, w)."""
        return self._frame(image, self.size)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def load(self, indices: Sequence[int]) -> Batch:
        """Decode the pictures at ``indices``, in parallel threads: (B, 3, h, w) uint8.

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
        if row.border:
            image = image[:, row.border : -row.border, row.border : -row.border]
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
    return sorted(rows, key=lambda row: hash_of(row.id))


def hash_of(text: str) -> bytes:
    """Return a hash of an id, by which samples are put into an order that has nothing to do with them."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def tree_of(root: Path, what: str) -> Tree:
    """Return the tree below a folder: each real folder once, whatever links lead to it.

    Args:
        root: the folder.
        what: the layout, as a message calls it.

    Raises:
        ClipRobustError: it is no folder; the message says what lies there.
    """
    if not root.is_dir():
        there = "is a file; give the folder" if root.exists() else "does not exist; check the path"
        raise ClipRobustError(f"{what}: {str(root)!r} {there} of the data set")
    return Tree(root)


def pictures_in(tree: Tree, folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return (folder, picture) of the pictures below some folders of a tree, in natural order in each.

    Args:
        tree: what is read of it once is not read again.
        folders: relative to its root; ``""`` for the root itself.
    """
    found = tree.pictures(folders)
    return [(folder, path) for folder, own in zip(folders, found, strict=True) for path in own]


def what_is_there(root: Path) -> str:
    """Return what lies in a folder, for a message: the names of a few folders and files."""
    try:
        names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return error.strerror or "nothing that can be read"
    return f"{listed(names)}" if names else "nothing"


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
        f"{str(root)!r} is no {what}: it has no {looked}; check the path of the data set (there is "
        f"{what_is_there(root)})"
    )
