"""What identifies the content of files: digests, each made once as long as size and time stay the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import platformdirs

from pytest_cliprobust.datasets.reading import require_file
from pytest_cliprobust.errors import ClipRobustError
from pytest_cliprobust.files import replace_file

_BLOCK = 1 << 20


def workers() -> int:
    """Return how many threads read files."""
    return min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a file.

    Attributes:
        size: in bytes.
        modified: when, in nanoseconds.
        digest: of its content, in hex digits.
    """

    size: int
    modified: int
    digest: str


def look_at(
    root: Path, paths: Mapping[str, str], store: str, cache: Path | None = None
) -> tuple[dict[str, Fingerprint], dict[str, str]]:
    """Return what identifies files below ``root``, and why some cannot be read; both by name.

    Contents are hashed once: what is known of a file holds as long as its size and time stay the same.

    Args:
        root: the folder.
        paths: by name, relative to it.
        store: name of the folder, in the user's cache folder, in which digests are kept.
        cache: that folder, if it is another.
    """
    folder = cache or platformdirs.user_cache_path("pytest-cliprobust") / store
    file = folder / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"
    known = _known(file)
    wrong: dict[str, str] = {}

    def one(name: str) -> Fingerprint | None:
        try:
            return _identified(root / paths[name], known.get(name))
        except (OSError, ValueError) as error:
            wrong[name] = getattr(error, "strerror", None) or str(error)
            return None

    with ThreadPoolExecutor(workers()) as pool:
        entries = zip(paths, pool.map(one, paths), strict=True)
        found = {name: entry for name, entry in entries if entry is not None}
    fresh = {name: list(astuple(entry)) for name, entry in found.items()}
    if any(known.get(name) != value for name, value in fresh.items()):
        with suppress(OSError):  # a read-only home: the digests are right, only slower next time
            replace_file(file, json.dumps(known | fresh))
    return found, wrong


#: In place of the digest of a file that cannot be read.
UNREADABLE = "unreadable"


def fingerprints_or_none(
    root: Path, paths: Sequence[str], cache: Path | None = None
) -> tuple[list[str], str | None]:
    """Return a hex digest of the content of each file below ``root``, and what keeps some from being read.

    Args:
        root: the folder.
        paths: relative to it.
        cache: folder in which digests are kept; one in the user's cache folder unless given.

    Returns:
        The digests, :data:`UNREADABLE` where there is none, and one line that names the first such file; None
        where all can be read.
    """
    found, wrong = look_at(root, {path: path for path in paths}, "fingerprints", cache)
    told = None
    first = next((path for path in paths if path in wrong), None)
    if first is not None:
        more = f", nor {len(wrong) - 1} more of {len(paths)} files" if len(wrong) > 1 else ""
        told = (
            f"cannot read {str(root / first)!r:.500} ({wrong[first]:.200}){more}; repair or remove "
            f"{'them' if more else 'the file'}"
        )
    return [found[path].digest if path in found else UNREADABLE for path in paths], told


def fingerprints(root: Path, paths: Sequence[str], cache: Path | None = None) -> list[str]:
    """Return a hex digest of the content of each file below ``root``: see :func:`fingerprints_or_none`.

    Raises:
        ClipRobustError: a file cannot be read; the message names it.
    """
    found, told = fingerprints_or_none(root, paths, cache)
    if told is not None:
        raise ClipRobustError(told)
    return found


def _identified(path: Path, known: object) -> Fingerprint:
    """Return what identifies a file, where it is not known by its size and time already.

    Raises:
        OSError: it cannot be read, or is no file: a pipe never ends.
        ValueError: no path can be so.
    """
    require_file(path)
    status = path.stat()
    size, modified = status.st_size, status.st_mtime_ns
    if isinstance(known, list) and len(known) == 3 and known[:2] == [size, modified]:
        return Fingerprint(size, modified, str(known[2]))
    return Fingerprint(size, modified, _digest(path))


def _known(store: Path) -> dict[str, list[int | str]]:
    try:
        require_file(store)  # a pipe in its place would never end
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
