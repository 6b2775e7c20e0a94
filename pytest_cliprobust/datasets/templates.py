"""Prompt templates of the user's own: a file with one a line. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError, brief, one_line
from pytest_cliprobust.files import require_regular

#: Where the class goes; CLIP_benchmark's files have ``{c}``.
PLACE, OTHER_PLACE = "{}", "{c}"


@dataclass(frozen=True)
class TemplateSummary:
    """Which prompt templates were used, as header and reports tell it.

    Attributes:
        name: where they come from.
        count: how many.
        digest: of their texts.
    """

    name: str
    count: int
    digest: str

    def __str__(self) -> str:
        """``OpenAI's for ImageNet (80, digest 1f2e3d4c5b6a)``."""
        return f"{self.name} ({self.count}, digest {self.digest[:12]})"


#: Letters that join others, which Persian, Hindi and emoji are written with.
_JOINERS = "\u200c\u200d"

#: What ends a line or a word, as captions of published data do.
_BLANKS = "\t\n\r"


def unfit(text: str, *, lines: bool = False) -> bool:
    """Return whether a text holds what no prompt is meant to: controls, ends of lines, halves of letters.

    A tokenizer reads them as tokens of their own, or drops them with what stands beside, and no figure shows
    it; written anywhere else they move a terminal's cursor.

    Args:
        text: a name of a class, a template, a caption.
        lines: whether tabs and ends of lines are blanks, as in captions.
    """
    if text.isprintable():
        return False
    allowed = _JOINERS + (_BLANKS if lines else "")
    return any(
        unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in allowed
        for letter in text
    )


def digest_of(texts: Iterable[str]) -> str:
    """Return a hex sha256 of texts, in their order."""
    hasher = hashlib.sha256()
    for text in texts:
        hasher.update(f"\1{text}".encode())
    return hasher.hexdigest()


def read_templates(path: Path) -> tuple[str, ...]:
    """Return the templates of a file, one a line; empty lines and those that begin with ``#`` are none.

    Raises:
        ClipRobustError: the file cannot be read, has no template, or one without a place for the class.
    """
    require_regular(path, "template file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ClipRobustError(f"template file {path} cannot be read ({brief(error)})") from None
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return checked_templates(texts, f"template file {path}")


def checked_templates(texts: Sequence[str], where: str) -> tuple[str, ...]:
    """Return templates with ``{}`` for the class, from such with ``{}`` or ``{c}``.

    Raises:
        ClipRobustError: none, one without such a place, or one with a control letter.
    """
    if not texts:
        raise ClipRobustError(f"{where} has no template; write one, such as 'a photo of a {{}}.'")
    for text in texts:
        if unfit(text):
            raise ClipRobustError(
                f"{where}: template '{one_line(text)[:80]}' holds a control letter or the end of a line; "
                "remove it"
            )
        if PLACE not in text and OTHER_PLACE not in text:
            raise ClipRobustError(
                f"{where}: template {text!r} has no place for the class; write {{}} or {{c}} into it"
            )
    return tuple(text.replace(OTHER_PLACE, PLACE) for text in texts)
