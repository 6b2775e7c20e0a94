"""Whose line of code an error comes from: for one-line messages about code that is not ours.

Perturbations, layouts, metrics and encoders of a user's own may raise anything. A traceback through this
package and torch hides the one line that is theirs.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError, UserCodeError, brief
from pytest_cliprobust.files import shown_path

_OURS = Path(__file__).resolve().parent
_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib")
)


def is_users(path: str | Path) -> bool:
    """Return whether a file is the user's own: neither this package's nor installed."""
    real = Path(path).resolve()
    foreign = is_ours(real) or "site-packages" in real.parts
    return not foreign and not any(map(real.is_relative_to, _LIBRARIES)) and real.is_file()


def is_ours(path: str | Path) -> bool:
    """Return whether a file belongs to this package."""
    return Path(path).resolve().is_relative_to(_OURS)


def own_frames(error: BaseException, file: Path | None = None) -> list[traceback.FrameSummary]:
    """Return the lines of the user's code that an error came through, the innermost last.

    Args:
        error: one that was caught.
        file: whose code it is, where that is known: it counts as the user's wherever it lies.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if _counts(frame.filename, file)]


def _counts(name: str, file: Path | None) -> bool:
    return is_users(name) or (file is not None and Path(name).resolve() == file.resolve())


def place_of(error: BaseException, file: Path | None = None) -> str:
    """Return ``mine.py:5``, the innermost line of the user's that an error came through; "": none.

    Arguments as for :func:`own_frames`.
    """
    if isinstance(error, SyntaxError) and error.filename and _counts(error.filename, file):
        return f"{shown_path(Path(error.filename))}:{error.lineno}"
    frames = own_frames(error, file)
    return f"{shown_path(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else ""


def told(error: BaseException, file: Path | None = None) -> str:
    """Return ``NameError: name 'x' is not defined, at mine.py:5``; arguments as for :func:`own_frames`."""
    place = place_of(error, file)
    return f"{_in_words(error)}, at {place}" if place else _in_words(error)


def _in_words(error: BaseException) -> str:
    # As a text a SyntaxError names its place, too, and less well.
    return (
        f"{type(error).__name__}: {error.msg}" if isinstance(error, SyntaxError) else brief(error)
    )


def import_mistake(error: BaseException) -> str | None:
    """Return the one line for an error that the import of a user's file ended with.

    None: it is no business of ours; no file on its way names this package.
    """
    place = place_of(error)
    if isinstance(error, ClipRobustError):
        # What was raised from another error names that one's place.
        return f"{place}: {error}" if place and error.__cause__ is None else str(error)
    files = {frame.filename for frame in own_frames(error)}
    if isinstance(error, SyntaxError) and error.filename:
        files.add(error.filename)
    if place and any(_names_us(Path(file)) for file in files):
        return f"{place}: {_in_words(error)}"
    return None


def _names_us(file: Path) -> bool:
    try:
        return is_users(file) and _OURS.name in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@contextmanager
def users_code(
    what: str, file: Path | None = None, *, passing: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Tell whatever goes wrong inside in one line that begins with ``what``.

    Args:
        what: whose code runs, such as ``"perturbation 'sepia'"``.
        file: where it stands, where that is known.
        passing: errors that are left as they are, as those of ours.

    Raises:
        UserCodeError: anything else.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # a script's own end would be that of the session
        if isinstance(error, (ClipRobustError, *passing)):
            raise
        raise UserCodeError(f"{what} fails ({told(error, file)})") from error


def shown_frames(error: BaseException) -> str:
    """Return the user's own lines that an error and its cause came through, as a traceback shows them.

    All lines of the cause where none of them is the user's: the mistake is ours, or a library's.
    """
    cause = error.__cause__
    frames = own_frames(error)
    if cause is not None:
        frames += own_frames(cause) or traceback.extract_tb(cause.__traceback__)
    return "\n".join(
        f"{shown_path(Path(frame.filename))}:{frame.lineno}: in {frame.name}\n    {frame.line}"
        for frame in frames
    )
