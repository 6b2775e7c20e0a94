"""A font that has the letters of class names, or none: boxes in place of letters attack nothing.

Pillow's own font has Latin letters only. matplotlib, which is always there, carries DejaVu Sans with Greek,
Cyrillic and more, the same on every machine. Fonts of the system are not looked for: another machine would
have others, and write other pictures.
"""

from __future__ import annotations

import hashlib
import importlib.util
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_cliprobust.errors import ClipRobustError, NotRun
from pytest_cliprobust.files import require_regular

if TYPE_CHECKING:
    from PIL import ImageFont

    Face = ImageFont.ImageFont | ImageFont.FreeTypeFont

FLAG = "--clip-font"

#: No character, so that every font draws what it draws for letters that it has not.
_NONE = "\uffff"

_SHOWN = 5


def face(height: int, font: str | None) -> Face:
    """Return a font of a size in pixels; without a file Pillow's own.

    Raises:
        ClipRobustError: the file cannot be read.
    """
    from PIL import ImageFont

    try:
        if font is None:
            return ImageFont.load_default(height)
        require_regular(Path(font), "font")
        return ImageFont.truetype(font, height)
    except OSError as error:
        raise ClipRobustError(
            f"font {font!r} cannot be read ({error}); give a .ttf or .otf file"
        ) from None


def font_for(names: Sequence[str], given: Path | None = None) -> Path | None:
    """Return the font that names are written in: the one given, else the first with all their letters.

    None stands for Pillow's own, which is the first.

    Raises:
        NotRun: letters are in none of them, or cannot be joined to words as their script demands.
        ClipRobustError: the font given cannot be read.
    """
    letters = "".join(sorted({letter for name in names for letter in name if not letter.isspace()}))
    _require_shaping(letters)
    fonts = [given] if given is not None else [None, *_bundled()]
    lacking = ""
    for font in fonts:
        lacking = lacking_letters(letters, None if font is None else str(font))
        if not lacking:
            return font
    what = f"the font {given}" if given is not None else "a bundled font"
    raise NotRun(
        f"class names cannot be written on pictures: {what} has no {_named(lacking)}; give one that has "
        f"with {FLAG} FILE"
    )


def identity(font: Path) -> str:
    """Return a digest of a font file: pictures that are written on depend on it."""
    return _digest(str(font), font.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def lacking_letters(letters: str, font: str | None) -> str:
    """Return those of some letters that a font draws as it draws what it has not.

    Raises:
        ClipRobustError: the font cannot be read.
    """
    drawn = face(32, font)
    absent = _drawing(drawn, _NONE)
    return "".join(letter for letter in letters if _drawing(drawn, letter) == absent)


@lru_cache(maxsize=8)
def _digest(font: str, modified: int) -> str:
    return hashlib.sha256(Path(font).read_bytes()).hexdigest()


def _drawing(drawn: Face, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = drawn.getmask(letter)
    return mask.size, bytes(mask)


def _bundled() -> list[Path]:
    """Return DejaVu Sans, without importing the library that carries it."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return []
    font = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [font] if font.is_file() else []


def _require_shaping(letters: Iterable[str]) -> None:
    """Raise for letters that change by their neighbours where Pillow cannot see to that."""
    from PIL import features

    if features.check("raqm"):
        return
    joined = [c for c in letters if unicodedata.bidirectional(c) in ("R", "AL") or _is_mark(c)]
    if joined:
        raise NotRun(
            f"class names cannot be written on pictures: {_named(''.join(joined))} must be joined to their "
            "neighbours, which Pillow does with the library raqm only; install libraqm and libfribidi"
        )


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter) in ("Mn", "Mc")


def _named(letters: str) -> str:
    shown = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in letters[:_SHOWN])
    more = len(letters) - _SHOWN
    return shown + (f" and {more} more letters" if more > 0 else "")
