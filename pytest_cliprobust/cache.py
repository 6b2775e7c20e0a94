"""The feature cache: atomic files named by the digest of all that decides their content.

Only features are cached, never verdicts. A key covers weights, preprocessing, data, perturbation (with
its version and parameters), precision, seed and the code's own format version, so that one model can
never be served another's answers.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from platformdirs import user_cache_path

from pytest_cliprobust.errors import ClipRobustError, Unavailable
from pytest_cliprobust.files import FULL, replace_file

FORMAT = 1
"""Raise it whenever a change in this package alters features without altering any digest."""

Array = npt.NDArray[np.float32]


class FeatureCache:
    """Arrays on disk, each with a checksum in front; safe for several processes.

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
        again. A damaged file is named in a warning, and computed anew.
        """
        path = self.path(key)
        stored = self._read(path)
        if stored is not None:
            return stored
        with self._lock(path):
            stored = self._read(path)
            if stored is None:
                self._sweep(path)
                stored = np.ascontiguousarray(compute(), dtype=np.float32)
                self._write(path, stored)
                self.unfinished(key).remove()
            return stored

    def unfinished(self, key: Mapping[str, Any]) -> Unfinished:
        """Return the place for the first rows of a long computation of ``key``."""
        return Unfinished(self, self.path(key).with_suffix(".unfinished"))

    def _lock(self, path: Path) -> FileLock:
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None
        return FileLock(f"{path}.lock")

    def _unwritable(self, error: OSError) -> ClipRobustError:
        kind = Unavailable if error.errno in FULL else ClipRobustError
        return kind(
            f"cannot write to the cache folder {self.root} ({error.strerror or error}); make room, or "
            "choose another with --clip-cache-dir DIR"
        )

    @staticmethod
    def _read(path: Path) -> Array | None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ClipRobustError(
                f"cannot read cache file {path} ({error.strerror or error}); remove it, or choose "
                "another folder with --clip-cache-dir DIR"
            ) from None
        checksum, payload = content[:32], content[32:]
        if hashlib.sha256(payload).digest() != checksum:
            warnings.warn(
                f"cache file {path} is damaged (cut short?); its features are computed anew",
                stacklevel=2,
            )
            return None
        array: Array = np.load(io.BytesIO(payload), allow_pickle=False)
        return array

    @staticmethod
    def _sweep(path: Path) -> None:
        """Remove what a killed process was writing for a key; the caller holds its lock."""
        for partial in path.parent.glob(f"{path.stem}.*.part"):
            partial.unlink(missing_ok=True)

    def _write(self, path: Path, array: Array) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        payload = buffer.getvalue()
        try:
            replace_file(path, hashlib.sha256(payload).digest() + payload)
        except OSError as error:
            raise self._unwritable(error) from None


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
        self._path.unlink(missing_ok=True)
