"""What a bound was recorded from, as a threshold file says it in a comment.

``# measured 0.681 [0.64, 0.72], n = 134``; of a row with a list of severities one item for each, in the
same order: ``# measured 0.82 [0.78, 0.85], 0.71 [0.66, 0.75], n = 134``. Samples in other numbers stand
as ``n = 134/67``, another level than 95% at the end, and ``?`` is what is not known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_cliprobust.gating.words import level_text

#: How a ``because`` begins that recording wrote before bounds had comments.
RECORDED = "recorded"

_ITEM = r"(?:-?[\d.]+(?:e[+-]\d+)? \[[^\]\n]*\]|\?)"
_COMMENT = re.compile(
    rf"# measured (?P<items>{_ITEM}(?:, {_ITEM})*), n = (?P<n>[\d?]+(?:/[\d?]+)*)"
    r"(?:, at (?P<level>[\d.]+%))?"
)
_USUAL = "95%"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_PARTS = re.compile(rf"({_NUMBER})(?: \[({_NUMBER}), ({_NUMBER})\])?|\?")


@dataclass(frozen=True)
class Measured:
    """A figure, its interval at the level at which it was judged, and its number of samples."""

    value: float
    low: float
    high: float
    n: int
    level: float

    @property
    def item(self) -> str:
        """``0.681 [0.64, 0.72]``."""
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    @property
    def reason(self) -> str:
        """The ``because`` that recording wrote before bounds had comments."""
        return (
            f"{RECORDED} at {self.value:.4g}, {100 * self.level:.5g}% interval {self.low:.4g} to "
            f"{self.high:.4g}, n = {self.n}"
        )


@dataclass(frozen=True)
class Comment:
    """A comment of recording: an item and an n for each severity."""

    items: tuple[str, ...]
    counts: tuple[str, ...]
    level: str = _USUAL

    def __str__(self) -> str:
        """The comment, with its ``#``."""
        counts = self.counts[:1] if len(set(self.counts)) == 1 else self.counts
        text = f"# measured {', '.join(self.items)}, n = {'/'.join(counts)}"
        return text if self.level == _USUAL else f"{text}, at {self.level}"


def comment_on(measured: Sequence[Measured | None]) -> Comment:
    """Return the comment for a row, given what was measured at each of its severities."""
    known = [one for one in measured if one is not None]
    return Comment(
        tuple("?" if one is None else one.item for one in measured),
        tuple("?" if one is None else str(one.n) for one in measured),
        level_text(known[0].level),
    )


def find_comment(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where a comment that recording wrote stands in this part of a line, or None."""
    match = _COMMENT.search(text, start, end)
    return None if match is None else match.span()


def measured_in(line: str) -> list[tuple[float, float, float] | None]:
    """Return (value, low, high) of each item of a line's comment; None for what is not known."""
    comment = line.rpartition("# measured ")[2] if "# measured " in line else ""
    found: list[tuple[float, float, float] | None] = []
    for match in _PARTS.finditer(comment.partition(", n =")[0]):
        if match[1] is None:
            found.append(None)
            continue
        value = float(match[1])
        found.append((value, float(match[2] or value), float(match[3] or value)))
    return found


def renewed(text: str, changes: Mapping[int, Measured], size: int) -> Comment:
    """Return a comment of ``size`` items with those in ``changes`` replaced.

    What the old comment says of the others stays, if it has as many items and the same level.
    """
    fresh = comment_on([changes.get(index) for index in range(size)])
    match = _COMMENT.fullmatch(text)
    if match is None or (match["level"] or _USUAL) != fresh.level:
        return fresh
    items = re.findall(_ITEM, match["items"])
    counts = match["n"].split("/")
    counts = counts * size if len(counts) == 1 else counts
    if len(items) != size or len(counts) != size:
        return fresh
    return Comment(
        tuple(
            new if i in changes else old
            for i, (new, old) in enumerate(zip(fresh.items, items, strict=True))
        ),
        tuple(
            new if i in changes else old
            for i, (new, old) in enumerate(zip(fresh.counts, counts, strict=True))
        ),
        fresh.level,
    )
