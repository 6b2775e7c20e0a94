"""Paths as messages show them, and files that are replaced in one step or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def shown_path(path: Path) -> Path:
    """Return a path as the reader can type it: relative, if it lies below the working directory."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def replace_file(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file in one step: whoever reads it sees all of the old content or all of the new.

    A link is followed; missing folders are made; permissions of a file that is replaced stay. Whatever
    goes wrong, the old file stays and nothing is left beside it.

    Args:
        path: the file.
        content: a text is written as UTF-8, its line endings as they are.
        durable: whether it must be on the disk when this returns, which takes a while.

    Raises:
        OSError: it cannot be written; the caller says what that means.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.chmod(partial, _permissions(target))
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _permissions(path: Path) -> int:
    """Those of the file, or those that a new one gets."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
