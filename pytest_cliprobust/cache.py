"""The feature cache: atomic files named by the digest of all that decides their content.

Only features are cached, never verdicts. A key covers weights, preprocessing, data, perturbation (with
its version and parameters), precision, seed and the code's own format version, so that one model can
never be served another's answers.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from platformdirs import user_cache_path

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.files import FULL, replace_file

FORMAT = 2
"""Raise it whenever a change in this package alters features without altering any digest."""

MAPPED_BYTES = 2**20
"""Arrays from this size on stay on the disk and are mapped; each mapping holds a file open."""

_BLOCK = 2**20

Array = npt.NDArray[np.float32]


class FeatureCache:
    """Arrays on disk, each with a checksum in front; safe for several processes.

    The checksum covers key, shape and content: an entry that was moved to another's place is damaged, as
    is one that was cut short.

    Args:
        root: folder; made when missing. Default: the platform's cache folder.

    Raises:
        Unavailable: the disk is full.
        ClipRobustError: the folder cannot be made or written.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or user_cache_path("pytest-cliprobust") / "features"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise self._unwritable(error) from None

    def path(self, key: Mapping[str, Any]) -> Path:
        """Return the file of ``key`` (JSON-able; the order of its entries does not matter)."""
        text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.root / name[:2] / f"{name}.features"

    def get_or_compute(self, key: Mapping[str, Any], compute: Callable[[], Array]) -> Array:
        """Return the array of ``key``, computing and storing it when it is not there yet.

        A second process that asks for the same key waits for the first one rather than computing it
        again. A damaged file is named in a warning, and computed anew. An array of :data:`MAPPED_BYTES` or
        more is mapped from its file: it takes no memory beyond what is being looked at, and what is written
        into it changes nothing on the disk.
        """
        path = self.path(key)
        stored = self._read(path)
        if stored is not None:
            return stored
        with self._locked(path):
            stored = self._read(path)
            if stored is None:
                self._sweep(path)
                stored = np.ascontiguousarray(compute(), dtype=np.float32)
                self._write(path, stored)
                self.unfinished(key).remove()
                if stored.nbytes >= MAPPED_BYTES:
                    found = self._read(path)
                    stored = stored if found is None else found
            return stored

    def unfinished(self, key: Mapping[str, Any]) -> Unfinished:
        """Return the place for the first rows of a long computation of ``key``."""
        return Unfinished(self, self.path(key).with_suffix(".unfinished"))

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Hold the lock of a key.

        Raises:
            ClipRobustError: it cannot be had, whatever lies in its place.
        """
        lock = path.with_name(f"{path.name}.lock")
        try:
            path.parent.mkdir(exist_ok=True)
            if lock.exists() and not lock.is_file():
                raise OSError(errno.EINVAL, f"{lock} is no file")
            held = FileLock(lock)
            held.acquire()
        except (OSError, NotImplementedError) as error:  # the second: a disk without locks
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            held.release()

    def _unwritable(self, error: Exception) -> ClipRobustError:
        full = getattr(error, "errno", None) in FULL
        kind = Unavailable if full else ClipRobustError
        reason = getattr(error, "strerror", None) or error
        if self.root.is_file():
            reason = "it is a file"
        return kind(
            f"cannot write to the cache folder {self.root} ({reason}); {'make room, or ' * full}"
            "choose another with --clip-cache-dir DIR"
        )

    @staticmethod
    def _read(path: Path) -> Array | None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would never end
                raise OSError(errno.EINVAL, "it is no file")
            with path.open("rb") as file:
                array = _unpacked(path, file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ClipRobustError(
                f"cannot read cache file {path} ({error.strerror or error}); remove it, or choose "
                "another folder with --clip-cache-dir DIR"
            ) from None
        if array is None:
            warnings.warn(
                f"cache file {path} is damaged (cut short, or moved there?); its features are computed "
                "anew",
                stacklevel=2,
            )
        return array

    @staticmethod
    def _sweep(path: Path) -> None:
        """Remove what a killed process was writing for a key; the caller holds its lock."""
        for partial in path.parent.glob(f".{path.stem}.*.part"):  # as replace_file calls them
            with suppress(OSError):  # what it is, if it is not ours, is in nobody's way
                partial.unlink()

    def _write(self, path: Path, array: Array) -> None:
        try:
            replace_file(path, _packed(path, array))
        except OSError as error:
            raise self._unwritable(error) from None


def _checksum(path: Path, payload: Iterable[bytes | memoryview]) -> bytes:
    # The name is the key's digest, and its ending tells a finished array from one that is not.
    digest = hashlib.sha256(f"{path.name}\0".encode())
    for part in payload:
        digest.update(part)
    return digest.digest()


def _packed(path: Path, array: Array) -> tuple[bytes | memoryview, ...]:
    """Return the content of the file of an array, in parts: a checksum, and numpy's own format."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    # In parts, not put together: beside an accelerator each copy of the features counts.
    payload = header.getvalue(), array.reshape(-1).view(np.uint8).data
    return _checksum(path, payload), *payload


def _unpacked(path: Path, file: BinaryIO) -> Array | None:
    """Return the array of a file; None if it is not what was written there."""
    checksum = file.read(32)
    if _checksum(path, iter(lambda: file.read(_BLOCK), b"")) != checksum:
        return None
    size = file.seek(0, io.SEEK_END)
    file.seek(32)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            return None
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, EOFError, SyntaxError):
        return None
    start, count = file.tell(), math.prod(shape)
    if dtype != np.float32 or columns_first or size - start != 4 * count:
        return None
    if size - start >= MAPPED_BYTES:
        return np.asarray(np.memmap(file, np.float32, "c", offset=start, shape=shape))
    array: Array = np.frombuffer(bytearray(file.read()), dtype=np.float32).reshape(shape)
    return array


class Unfinished:
    """The rows that a computation had when it was last saved, so that a killed run can go on from there.

    Only the process that holds the lock of :meth:`FeatureCache.get_or_compute` reads and writes it.
    """

    def __init__(self, cache: FeatureCache, path: Path) -> None:
        self._cache = cache
        self._path = path

    def load(self) -> Array | None:
        """Return the rows saved last, or None."""
        return self._cache._read(self._path)

    def save(self, rows: Array) -> None:
        """Replace what is saved, in one step."""
        self._cache._write(self._path, rows)

    def remove(self) -> None:
        """Forget it: the computation is finished."""
        with suppress(OSError):
            self._path.unlink()
