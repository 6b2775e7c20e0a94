"""Framed pictures on disk, so that each is decoded once, however many conditions show it to a model.

One file a data set, beside the features: a header, a checksum of each picture, then the pictures at the
places that their rows have. A picture is there once its checksum is. So a run goes on from whatever ended the
one before, and two processes at once write the same bytes to the same places. No picture is taken before its
checksum has been looked at; one that does not match is decoded anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from filelock import FileLock
from torch import Tensor

from pytest_cliprobust.datasets.base import Dataset
from pytest_cliprobust.datasets.framing import Framing
from pytest_cliprobust.datasets.reading import require_file
from pytest_cliprobust.errors import ClipRobustError, Unavailable, counted
from pytest_cliprobust.files import FULL, replace_file

FORMAT = 2

LEAST_BYTES = 2**26
"""Pictures of a data set that take less are kept in memory instead."""

LARGEST_SHARE = 0.1
"""Of the free space a store may take so much unless it is asked for."""

_SUM = 16
_ABSENT = bytes(_SUM)
_PAGE = 4096

Pictures = npt.NDArray[np.uint8]

#: From row numbers to their pictures (B, 3, H, W), uint8.
Decode = Callable[[list[int]], Tensor]


class PictureStore:
    """The framed pictures (N, 3, H, W) of one data set in a file, as far as they were asked for.

    Args:
        path: of the file; what the pictures depend on decides its name.
        count: N.
        shape: (H, W) in pixels.

    Attributes:
        size: of the file in bytes.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, int]) -> None:
        self.path = path
        self._shape = (3, *shape)
        self._record = math.prod(self._shape)
        told = f"{FORMAT}\0{path.name}\0{count}\0{shape}"
        self._header = hashlib.sha256(told.encode()).digest()
        self._start = -(-(len(self._header) + _SUM * count) // _PAGE) * _PAGE
        self.size = self._start + count * self._record
        self._seen = np.zeros(count, np.bool_)  # whose checksum was looked at
        self._warned = False

    def get(self, rows: Sequence[int], decode: Decode) -> Tensor:
        """Return the pictures at ``rows`` (B, 3, H, W); ``decode`` makes those that are not there yet.

        Raises:
            OddPictures: pictures of another size.
            Unavailable: the disk is full.
            ClipRobustError: the file cannot be read or written, or other than one picture a row was made.
        """
        found = np.empty((len(rows), *self._shape), np.uint8)
        with self._errors():
            missing = self._read(rows, found) if rows else []
        if missing:
            fresh = decode([rows[place] for place in missing])
            if tuple(fresh.shape[1:]) != self._shape or fresh.dtype != torch.uint8:
                raise OddPictures
            # A single one would be taken for all of them.
            if len(fresh) != len(missing):
                raise ClipRobustError(
                    f"{counted(len(fresh), 'picture')} came of {counted(len(missing), 'row')} that were "
                    f"asked for, so none is kept in {self.path.parent}"
                )
            found[missing] = fresh.numpy()
            with self._errors():
                self._write([rows[place] for place in missing], found[missing])
        return torch.from_numpy(found)

    def _read(self, rows: Sequence[int], into: Pictures) -> list[int]:
        """Copy the pictures at ``rows``; return the places in ``rows`` of those that are not there."""
        if not self.path.exists():
            return list(range(len(rows)))
        missing = []
        first, count = min(rows), max(rows) - min(rows) + 1
        with self._opened("rb") as file:
            file.seek(len(self._header) + _SUM * first)
            sums = file.read(_SUM * count)
            # Mapped for this batch alone, so that the process does not seem to hold the whole file.
            pictures = np.memmap(
                file, np.uint8, "r", self._start + first * self._record, (count, *self._shape)
            )
            for place, row in enumerate(rows):
                at = row - first
                noted = sums[_SUM * at : _SUM * (at + 1)]
                if noted != _ABSENT:
                    into[place] = pictures[at]
                if noted == _ABSENT or not self._is_whole(row, into[place], noted):
                    missing.append(place)
        return missing

    def _is_whole(self, row: int, picture: Pictures, noted: bytes) -> bool:
        if not self._seen[row]:
            self._seen[row] = _sum(row, picture) == noted
            if not self._seen[row]:
                self._warn()
        return bool(self._seen[row])

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"store of pictures {self.path} is damaged; what is damaged in it is decoded anew",
                stacklevel=2,
            )

    def _write(self, rows: Sequence[int], pictures: Pictures) -> None:
        with self._opened("r+b") as file:
            for row, picture in zip(rows, pictures, strict=True):
                _put(file, self._start + row * self._record, picture.data.cast("B"))
                _put(file, len(self._header) + _SUM * row, _sum(row, picture))
                self._seen[row] = True

    @contextmanager
    def _opened(self, mode: str) -> Iterator[FileIO]:
        """Open the file; make it first where there is none, or another in its place."""
        for _ in range(2):
            if self.path.exists():
                require_file(self.path)
                with open(self.path, mode, buffering=0) as file:
                    assert isinstance(file, FileIO)
                    if self._is_ours(file):
                        yield file
                        return
            self._make()
        raise OSError("it is replaced again and again")

    def _is_ours(self, file: FileIO) -> bool:
        size = os.fstat(file.fileno()).st_size  # behind its end a mapping would end the process
        return size == self.size and file.read(len(self._header)) == self._header

    def _make(self) -> None:
        """Make an empty file, unless another process has by now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            if self.path.exists():
                require_file(self.path)
                with open(self.path, "rb", buffering=0) as file:
                    assert isinstance(file, FileIO)
                    if self._is_ours(file):
                        return
                self._warn()
            self._seen[:] = False
            replace_file(self.path, b"")
            with self.path.open("r+b") as file:
                file.truncate(self.size)
                file.write(self._header)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, NotImplementedError) as error:  # the second: a disk without locks
            kind = Unavailable if getattr(error, "errno", None) in FULL else ClipRobustError
            raise kind(
                f"cannot keep decoded pictures in {self.path.parent} "
                f"({getattr(error, 'strerror', None) or error}); make room, or do without with "
                "--clip-store=off"
            ) from None


class OddPictures(Exception):  # noqa: N818
    """What a data set gives is not what a store can keep: pictures of one size, and nothing beside them."""


class Stores:
    """The stores of a run, by data set.

    Args:
        folder: where they lie.
        mode: ``on``; ``off``; or ``auto``, which leaves a data set out that would take more than
            :data:`LARGEST_SHARE` of the free space.
        tell: is told, in one line, what space a new store will take, or why there is none.
    """

    def __init__(self, folder: Path, mode: str, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self._mode = mode
        self._tell = tell
        self._known: dict[str, PictureStore | None] = {}

    def of(self, dataset: Dataset) -> PictureStore | None:
        """Return the store of a data set; None where it has none.

        Raises:
            Unavailable: there is too little space.
        """
        framing = framing_to_keep(dataset)
        if framing is None or self._mode == "off":
            return None
        if dataset.digest not in self._known:
            self._known[dataset.digest] = self._of(dataset, framing)
        return self._known[dataset.digest]

    def forget(self, dataset: Dataset) -> None:
        """Do without a store for a data set from now on."""
        self._known[dataset.digest] = None

    def _of(self, dataset: Dataset, framing: Framing) -> PictureStore | None:
        assert framing.shape is not None  # see framing_to_keep
        store = PictureStore(
            self.folder / f"{_name(dataset, framing)}.pictures", len(dataset), framing.shape
        )
        if store.path.exists():
            return store
        free = shutil.disk_usage(self.folder.parent).free
        what = f"{len(dataset)} decoded pictures of {dataset.name} ({_amount(store.size)})"
        if self._mode == "auto" and store.size > LARGEST_SHARE * free:
            self._tell(
                f"clip store: the {what} are not kept, as {_amount(free)} are free in {self.folder.parent}: "
                "each condition decodes them again; --clip-store=on keeps them"
            )
            return None
        if store.size > free:
            raise Unavailable(
                f"no room for the {what} in {self.folder.parent}, where {_amount(free)} are free; make "
                "room, or do without with --clip-store=off"
            )
        self._tell(f"clip store: the {what} are kept in {self.folder}")
        return store


def framing_to_keep(dataset: Dataset) -> Framing | None:
    """Return how a data set frames its pictures if they are worth a store: many, of one known shape."""
    framing: Framing | None = getattr(dataset, "framing", None)
    if framing is None or framing.shape is None:
        return None
    if len(dataset) * 3 * math.prod(framing.shape) < LEAST_BYTES:
        return None
    return framing


def _name(dataset: Dataset, framing: Framing) -> str:
    """Return a digest of all that the pictures depend on, the versions of what decodes them included."""
    key: Mapping[str, object] = {
        "format": FORMAT,
        "data": dataset.digest,
        "frame": framing.how,
        "size": framing.shape,
        "made by": (PIL.__version__, torch.__version__, torchvision.__version__),
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _sum(row: int, picture: Pictures) -> bytes:
    """Return the checksum of a picture at its place; never all zeros, but for one in 2**128."""
    return hashlib.blake2b(picture.data, digest_size=_SUM, salt=row.to_bytes(8, "little")).digest()


def _put(file: FileIO, offset: int, content: bytes | memoryview) -> None:
    file.seek(offset)
    rest = memoryview(content)
    while len(rest):
        rest = rest[file.write(rest) :]


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
