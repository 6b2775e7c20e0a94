"""Files of ``torch.save`` and archives of TorchScript, read as tensors: no code in them runs.

Three formats share one pickle with the weights' places (:mod:`.unpickling`) and their bytes beside it:
the zip of today's ``torch.save`` (``NAME/data.pkl``, ``NAME/data/KEY``), the same zip with a program
(TorchScript: ``NAME/code/``, which OpenAI's own CLIP checkpoints are), of which only the lists of
parameters and buffers are read as text, and the stream of ``torch.save`` before 1.6.

Nothing is unpacked to the disk. A record may not be larger than the file that it is in, so that none
grows when it is read; only the program's text may be compressed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from pytest_cliprobust.targets.unpickling import (
    MAX_PICKLE,
    Forbidden,
    Opaque,
    StoredBytes,
    StoredTensor,
    tensors_of,
    unpickle,
)

#: What the stream of ``torch.save`` before 1.6 begins with: a pickle of a number.
LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

#: Bytes of the text of one class of a TorchScript program.
_MAX_TEXT = 2**22


@dataclass
class Content:
    """What a file of torch holds.

    Attributes:
        value: the pickled object; tensors are :class:`~.unpickling.StoredTensor`, objects of classes
            that are not loaded :class:`~.unpickling.Opaque`.
        read: returns the bytes of a storage.
        torchscript: it is a TorchScript program; ``value`` are the tensors of its state dict.
    """

    value: Any
    read: Callable[[StoredBytes], bytearray]
    torchscript: bool = False
    _kept: dict[StoredBytes, bytearray] = field(default_factory=dict)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Return a tensor of the file.

        Raises:
            Forbidden: it reaches beyond its storage.
            Exception: its bytes cannot be read.
        """
        storage = stored.storage
        if storage not in self._kept:
            self._kept[storage] = self.read(storage)
        content = self._kept[storage]
        count = len(content) // stored.dtype.itemsize
        last = stored.offset + sum(
            (n - 1) * s for n, s in zip(stored.size, stored.stride, strict=True)
        )
        numel = math.prod(stored.size)
        if numel == 0:
            return torch.empty(stored.size, dtype=stored.dtype)
        if last >= count or numel > count:
            raise Forbidden("a tensor that is larger than its storage")
        flat = torch.frombuffer(content, dtype=stored.dtype)
        return torch.as_strided(flat, stored.size, stored.stride, stored.offset)


@contextlib.contextmanager
def reading_zip(path: Path) -> Iterator[Content]:
    """Read the zip of ``torch.save`` or of TorchScript, open as long as the context.

    Raises:
        Forbidden: it holds what no checkpoint needs, or is packed with compression.
        Exception: it is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        names = {info.filename: info for info in archive.infolist()}
        roots = [n.removesuffix("/data.pkl") for n in names if re.fullmatch(r"[^/]+/data\.pkl", n)]
        if len(roots) != 1:
            raise Forbidden("a zip without the data.pkl of torch.save")
        root = roots[0]
        order = names.get(f"{root}/byteorder")
        if order is not None and _bounded(archive, order, 16) == b"big":
            raise Forbidden("numbers in the byte order of another machine")
        scripted = any(n.startswith((f"{root}/code/", f"{root}/constants.pkl")) for n in names)
        program = _Program(archive, names, root) if scripted else None
        content = _bounded(archive, names[f"{root}/data.pkl"], MAX_PICKLE)
        value = unpickle(io.BytesIO(content), program.stand_in if program else None)
        if program is not None:
            if not isinstance(value, Opaque):
                raise Forbidden("a TorchScript archive without a module")
            value = tensors_of(value)

        def read(storage: StoredBytes) -> bytearray:
            return _record(archive, names[f"{root}/data/{storage.key}"], storage, size)

        yield Content(value, read, torchscript=scripted)


@contextlib.contextmanager
def reading_legacy(path: Path) -> Iterator[Content]:
    """Read the stream that ``torch.save`` wrote before 1.6, open as long as the context.

    Raises:
        Forbidden: it holds what no checkpoint needs.
        Exception: it is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for _ in range(3):  # the magic number, the protocol, the sizes of the writer's integers
            unpickle(_bounded_pickle(file))
        value = unpickle(_bounded_pickle(file))
        keys = unpickle(_bounded_pickle(file))
        places = _places(file, keys, _storages_in(value))

        def read(storage: StoredBytes) -> bytearray:
            start, length = places[storage.key]
            if start + length > size:
                raise EOFError("cut short")
            content = bytearray(length)
            file.seek(start)
            _fill(file, content)
            return content

        yield Content(value, read)


def _places(
    file: IO[bytes], keys: Any, storages: Mapping[str, StoredBytes]
) -> dict[str, tuple[int, int]]:
    """Return where the bytes of each storage begin, and how many they are."""
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else []:
        (numel,) = struct.unpack("<q", file.read(8))
        known = storages.get(key) if isinstance(key, str) else None
        if known is None or numel != known.numel:
            raise Forbidden("a storage that no tensor uses")
        places[known.key] = (file.tell(), numel * known.dtype.itemsize)
        file.seek(numel * known.dtype.itemsize, 1)
    return places


def _bounded_pickle(file: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", _Bounded(file))


class _Bounded:
    """A file of which one pickle may read no more than :data:`.unpickling.MAX_PICKLE` bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MAX_PICKLE

    def read(self, count: int = -1) -> bytes:
        self._left -= count
        if self._left < 0 or count < 0:
            raise Forbidden("a pickle larger than any checkpoint's")
        return self._file.read(count)

    def readline(self) -> bytes:
        line = self._file.readline(_MAX_TEXT)
        self._left -= len(line)
        return line

    def readinto(self, buffer: Any) -> int:
        raise Forbidden("an opcode that no checkpoint needs")


def _storages_in(value: Any) -> dict[str, StoredBytes]:
    """Return the storages of all tensors in a pickled object, however deep."""
    found: dict[str, StoredBytes] = {}
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, StoredTensor):
            found[item.storage.key] = item.storage
        elif isinstance(item, StoredBytes):
            found[item.key] = item
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, Opaque):
            waiting.append(item.state)
    return found


# --- Records ---------------------------------------------------------------------------------------


def _bounded(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Return a record of at most ``limit`` bytes, compressed or not."""
    if info.file_size > limit:
        raise Forbidden(f"{info.filename} of {info.file_size} bytes")
    # However much its packed bytes would grow to, zipfile gives no more than the entry says.
    with archive.open(_checked_where_known(info)) as file:
        return file.read()


def _record(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, storage: StoredBytes, file_size: int
) -> bytearray:
    """Return the bytes of a storage."""
    wanted = storage.numel * storage.dtype.itemsize
    if info.compress_type != zipfile.ZIP_STORED:
        raise Forbidden("tensors packed with compression")
    if info.file_size != wanted or wanted > file_size:
        raise EOFError("cut short")
    content = bytearray(wanted)
    with archive.open(_checked_where_known(info)) as file:
        _fill(file, content)
    return content


def _checked_where_known(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return the entry of a record, without its checksum where ``torch.save`` was told to write none."""
    if info.CRC != 0:
        return info
    unchecked = copy.copy(info)
    del unchecked.CRC
    return unchecked


def _fill(file: IO[bytes], content: bytearray) -> None:
    """Read until ``content`` is full, and to the end of a record, where its checksum is looked at."""
    view, done = memoryview(content), 0
    while done < len(content):
        got = file.readinto(view[done : done + 2**26])  # type: ignore[attr-defined]
        if not got:
            raise EOFError("cut short")
        done += got
    if isinstance(file, zipfile.ZipExtFile):
        file.read(1)


# --- TorchScript -----------------------------------------------------------------------------------


class _Program:
    """The text of a TorchScript program, of which only two lists a class are read."""

    def __init__(
        self, archive: zipfile.ZipFile, names: Mapping[str, zipfile.ZipInfo], root: str
    ) -> None:
        self._archive, self._names, self._root = archive, names, root
        self._left = 4 * _MAX_TEXT

    def stand_in(self, module: str, name: str) -> type[Opaque]:
        """Return a stand-in for a class; ``tensors`` are the attributes that its state dict has."""
        called = f"{module}.{name}"
        return type("Opaque", (Opaque,), {"called": called, "tensors": self._tensors(module, name)})

    def _tensors(self, module: str, name: str) -> frozenset[str] | None:
        info = self._names.get(f"{self._root}/code/{module.replace('.', '/')}.py")
        if info is None:
            return None
        self._left -= info.file_size
        if self._left < 0:
            raise Forbidden("a TorchScript program longer than any model's")
        text = _bounded(self._archive, info, _MAX_TEXT).decode("utf-8")
        found = re.search(rf"^class {re.escape(name)}\(Module\):\n((?:  .*\n|\n)*)", text, re.M)
        if found is None:
            return None
        lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", found[1], re.M)
        if len(lists) < 2:  # older archives do not list their buffers
            return None
        return frozenset(re.findall(r'"([^"]*)"', ", ".join(lists)))


__all__ = ["LEGACY_START", "Content", "reading_legacy", "reading_zip"]
