"""The pictures below a folder: each real folder once, whatever links lead to it, and what is left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pytest_cliprobust.datasets.reading import EXTENSIONS
from pytest_cliprobust.errors import ClipRobustError, first_of, one_line

#: Folders that systems, network drives and unpackers leave beside data, in lower case.
SYSTEM_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "#snapshot", "lost+found", "$recycle.bin"),
        *("system volume information", "__pycache__"),
    }
)

_LISTED = 3


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Return a sorting key that puts ``img2`` before ``img10``; case counts only between equals."""
    pieces = (piece for piece in re.split(r"(\d+)", text) if piece)
    key = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in pieces)
    return key, text


def as_text(path: str) -> str:
    """Return a path as text that can be written anywhere: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Tree:
    """Pictures below a folder.

    Links to folders are followed, but every real folder is read once, under its own name where it lies in
    the tree; a link that points upwards adds nothing. Hidden files and :data:`SYSTEM_FOLDERS` are left out.
    Paths are relative to the root, with ``/``.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        real = root.resolve()
        self._seen = {_identity(folder) for folder in real.parents}
        self._system: list[str] = []
        self._again: list[str] = []
        self._others: Counter[str] = Counter()

    def folders(self) -> list[str]:
        """Return the names of the folders in the root, in natural order.

        Raises:
            ClipRobustError: it cannot be read.
        """
        self._seen.add(_identity(self.root))
        return [entry.name for entry in self._entries("") if self._is_inner(entry, entry.name)]

    def pictures(self, folders: Sequence[str]) -> list[list[str]]:
        """Return the pictures below each of some folders (``""``: the root), in natural order.

        Raises:
            ClipRobustError: a folder below cannot be read.
        """
        found: list[list[str]] = [[] for _ in folders]
        links: list[tuple[int, str]] = []
        for number, folder in enumerate(folders):
            if folder and (self.root / folder).is_symlink():
                links.append((number, folder))
            else:
                self._collect(number, folder, found, links)
        # What lies in the tree itself comes first; the list grows while links lead to further links.
        for number, folder in links:
            self._collect(number, folder, found, links)
        return [sorted(paths, key=natural_key) for paths in found]

    def notes(self) -> list[str]:
        """Return what was left out, one line each."""
        told = []
        if self._system:
            told.append(f"folders of the system: {listed(self._system)}")
        if self._again:
            told.append(f"links to folders that are read already, or above: {listed(self._again)}")
        if self._others:
            counts = (f"{n} {ending or 'without an ending'}" for ending, n in self._counted())
            told.append(f"files that are no pictures: {', '.join(counts)}")
        return told

    def _counted(self) -> list[tuple[str, int]]:
        return sorted(self._others.items(), key=lambda item: (-item[1], item[0]))[:_LISTED]

    def _collect(
        self, number: int, top: str, found: list[list[str]], links: list[tuple[int, str]]
    ) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            identity = _identity(self.root / folder)
            if identity in self._seen:
                self._again.append(folder)
                continue
            self._seen.add(identity)
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if self._is_inner(entry, path):
                    if entry.is_symlink():
                        links.append((number, path))
                    else:
                        waiting.append(path)
                elif not _is_folder(entry):
                    self._take(entry.name, path, found[number])

    def _take(self, name: str, path: str, found: list[str]) -> None:
        ending = Path(name).suffix.lower()
        if ending in EXTENSIONS:
            found.append(path)
        else:
            self._others[as_text(ending)] += 1

    def _is_inner(self, entry: os.DirEntry[str], path: str) -> bool:
        """Return whether an entry is a folder to look into; one of the system's is noted."""
        if not _is_folder(entry):
            return False
        if entry.name.lower() in SYSTEM_FOLDERS:
            self._system.append(path)
            return False
        return True

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Yield what lies in a folder, in natural order, without what is hidden."""
        try:
            with os.scandir(self.root / folder) as entries:
                shown = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise ClipRobustError(
                f"folder {as_text(str(self.root / folder))!r} cannot be read ({error.strerror}); give the "
                "right to read it, or take it out of the data"
            ) from None
        yield from sorted(shown, key=lambda entry: natural_key(entry.name))


def listed(names: Iterable[str], most: int = _LISTED) -> str:
    """Return some names as one text, those beyond ``most`` counted."""
    return first_of([one_line(as_text(name)) for name in names], most)


def left_out(told: Sequence[str]) -> tuple[str, ...]:
    """Return what is told of what was left out, one line each."""
    return tuple(f"left out: {text}" for text in told)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Return what a folder is, by whichever name it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino
