"""What identifies the content of files: digests, each made once as long as size and time stay the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import platformdirs

from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import replace_file

_BLOCK = 1 << 20


def workers() -> int:
    """Return how many threads read files."""
    return min(16, os.cpu_count() or 1)


def fingerprints(root: Path, paths: Sequence[str], cache: Path | None = None) -> list[str]:
    """Return a hex digest of the content of each file below ``root``.

    Args:
        root: the folder.
        paths: relative to it.
        cache: folder in which digests are kept; the user's cache folder unless given.

    Raises:
        ClipRobustError: a file cannot be read; the message names it.
    """
    folder = cache or platformdirs.user_cache_path("pytest-cliprobust") / "fingerprints"
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    store = folder / f"{key}.json"
    known = _known(store)

    def one(path: str) -> tuple[list[int | str], bool]:
        try:
            status = (root / path).stat()
            stamp: list[int | str] = [status.st_size, status.st_mtime_ns]
            old = known.get(path)
            if isinstance(old, list) and len(old) == 3 and old[:2] == stamp:
                return old, False
            return [*stamp, _digest(root / path)], True
        except OSError as error:
            raise ClipRobustError(
                f"cannot read {str(root / path)!r} ({error.strerror}); repair or remove the file"
            ) from error

    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(workers()) as pool:
        entries = dict(zip(distinct, pool.map(one, distinct), strict=True))
    if any(fresh for _, fresh in entries.values()):
        known.update({path: value for path, (value, _) in entries.items()})
        with suppress(OSError):  # a read-only home: the digests are right, only slower next time
            replace_file(store, json.dumps(known))
    return [str(entries[path][0][2]) for path in paths]


def _known(store: Path) -> dict[str, list[int | str]]:
    try:
        loaded = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # none yet, or damaged: everything is hashed anew
    return loaded if isinstance(loaded, dict) else {}


def _digest(path: Path) -> str:
    content = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            content.update(block)
    return content.hexdigest()


def joined(texts: Iterable[str]) -> str:
    """Return a hex sha256 of texts, in their order."""
    total = hashlib.sha256()
    for text in texts:
        total.update(f"\0{text}".encode("utf-8", "surrogateescape"))
    return total.hexdigest()
