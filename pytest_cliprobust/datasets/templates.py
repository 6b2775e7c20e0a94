"""Prompt templates of the user's own: a file with one a line. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_cliprobust.errors import ClipRobustError, brief
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
        ClipRobustError: none, or one without such a place.
    """
    if not texts:
        raise ClipRobustError(f"{where} has no template; write one, such as 'a photo of a {{}}.'")
    for text in texts:
        if PLACE not in text and OTHER_PLACE not in text:
            raise ClipRobustError(
                f"{where}: template {text!r} has no place for the class; write {{}} or {{c}} into it"
            )
    return tuple(text.replace(OTHER_PLACE, PLACE) for text in texts)
