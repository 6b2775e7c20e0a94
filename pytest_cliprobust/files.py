"""Paths as messages show them, what is called after them, and files that are replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Any

from pytest_cliprobust.errors import ClipRobustError, Unavailable, brief, one_line

#: What the system says where there is no more room: on the disk, or for one user or file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: A name of the user's own, as in ``NAME=PATH``.
_NAME = re.compile(r"\w[\w.+-]*")


def shown_path(path: Path) -> Path:
    """Return a path as the reader can type it: relative, if it lies below the working directory."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


# --- Names -----------------------------------------------------------------------------------------


def is_path(text: str) -> bool:
    """Return whether a text is written as a path, whether or not anything lies there."""
    return text in (".", "..", "~") or text.startswith(("/", "./", "../", "~"))


def lies_there(path: str | Path) -> bool:
    """Return whether something lies at a path; nothing does where no path can be so long."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def own_name(path: str) -> str:
    """Return the last component of a path, which is the same on every machine; a link keeps its own.

    Figures, bounds and reports carry it: what moves a cursor or begins a line is escaped.
    """
    return one_line(Path(os.path.abspath(os.path.expanduser(path))).name)


def split_name(text: str, flag: str) -> tuple[str | None, str]:
    """Return the NAME and the rest of ``NAME=PATH``; None and the whole text where no name is given.

    A text that is a path itself is one, whatever it holds: ``./lr=0.1``.

    Args:
        text: as the user wrote it.
        flag: the option that it stands behind, for the message.

    Raises:
        ClipRobustError: nothing on either side of the sign, or a name that is none.
    """
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or ":" in name or is_path(text) or lies_there(text):
        return None, text
    if not rest or not name:
        raise ClipRobustError(f"{flag} {text}: something is missing; write NAME=PATH")
    if not _NAME.fullmatch(name):
        raise ClipRobustError(
            f"{flag} {text}: a name may hold letters, digits, '_', '.', '+' and '-', and {name!r} is "
            "none; write NAME=PATH"
        )
    return name, rest


# --- Files -----------------------------------------------------------------------------------------

#: Bytes of a JSON file of a model; the index of a large one has some 100,000.
MAX_JSON = 2**24


def require_regular(path: Path, what: str) -> None:
    """Raise unless a path is a file, or a link to one: a pipe or a device never ends, a folder is none.

    Args:
        path: the file.
        what: what it should be, for the message: ``"checkpoint"``.

    Raises:
        ClipRobustError: it is something else, or cannot be looked at.
    """
    try:
        kind = irregular(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClipRobustError(f"{what} {path} cannot be read ({reason}); check the path") from None
    if kind is not None:
        raise ClipRobustError(f"{what} {path} is {kind}, not a file; give a file")


def irregular(path: Path) -> str | None:
    """Return what lies at a path in place of a file, ``"a pipe"``; None where it is a file.

    Raises:
        OSError: nothing lies there, or it cannot be looked at.
        ValueError: no path can be so.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_json(path: Path, what: str, limit: int = MAX_JSON) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Args:
        path: the file.
        what: what it is, for messages: ``"configuration"``.
        limit: bytes that it may have.

    Raises:
        ClipRobustError: it is no regular file, too large, no JSON, or no object.
    """
    require_regular(path, what)
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"{path.stat().st_size} bytes, more than {limit}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ClipRobustError(f"{path} cannot be read ({brief(error)})") from None
    if not isinstance(content, dict):
        raise ClipRobustError(f"{path} must hold a JSON object")
    return content


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's content, read once as long as its size and time stay the same.

    Raises:
        OSError: it cannot be read.
    """
    there = path.stat()
    return _sha256_of(path, there.st_size, there.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_written(text: str, error: OSError) -> ClipRobustError:
    """Return the error for a file that cannot be written, in one line that ``text`` begins.

    It is :class:`Unavailable` where the disk is full, which is no mistake of the user's.
    """
    full = error.errno in FULL
    kind = Unavailable if full else ClipRobustError
    return kind(f"{text}: {error.strerror or error}" + ("; make room" if full else ""))


def try_writing(path: Path) -> None:
    """Find out whether a file can be written to ``path``, and leave nothing behind.

    Raises:
        OSError: it cannot: there is a folder, a pipe or a read-only file of that name, or a file where its
            folder should be made, or the folder is not for writing.
    """
    target = Path(os.path.realpath(path))
    if _is_device(target):
        return
    # Another process may try the same, and remove a folder that it made.
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            _try_in(target.parent, path)
            return
    _try_in(target.parent, path)


def _try_in(parent: Path, path: Path) -> None:
    """Find out whether a folder takes the file, and leave nothing behind."""
    folder = parent
    made: list[Path] = []
    while not os.path.lexists(folder):
        made.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file", str(path))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=parent, prefix=f".{path.name}."):
            pass
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def replace_file(
    path: Path,
    content: str | bytes | tuple[bytes | memoryview, ...],
    *,
    durable: bool = False,
) -> None:
    """Write a file in one step: whoever reads it sees all of the old content or all of the new.

    A link is followed; missing folders are made; permissions of a file that is replaced stay. Whatever
    goes wrong, the old file stays and nothing is left beside it. A device (``/dev/full``, ``/dev/null``)
    is never replaced, but written to.

    Args:
        path: the file.
        content: a text is written as UTF-8, its line endings as they are; several parts one after the other.
        durable: whether it must be on the disk when this returns, which takes a while.

    Raises:
        OSError: it cannot be written; the caller says what that means.
    """
    target = Path(os.path.realpath(path))
    data = content.encode("utf-8") if isinstance(content, str) else content
    parts = data if isinstance(data, tuple) else (data,)
    if _is_device(target):
        with target.open("wb") as device:
            device.writelines(parts)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(parts)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.chmod(partial, _permissions(target))
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _is_device(target: Path) -> bool:
    """Return whether what lies at a path is a device, which is written to and not replaced.

    Raises:
        OSError: it is something that can be neither: a folder, a pipe, a socket, a file that is read-only.
    """
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a socket", str(target))
    # The administrator may write to what nobody is to write to; it was made read-only for a reason.
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(target))
    return not stat.S_ISREG(mode)


def _permissions(path: Path) -> int:
    """Those of the file, or those that a new one gets."""
    if path.exists():
        return path.stat().st_mode & 0o7777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
