"""What a page has room for, so that no run makes one that a browser or a forge refuses.

Of each part the first are kept, which tell most, and what is left out is counted where it would stand: the
JSON report has everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from pytest_cliprobust.errors import counted
from pytest_cliprobust.reporting.html.gallery import Album
from pytest_cliprobust.reporting.html.sections import Group, Section, SuitePart

#: Bytes that a page may have.
PAGE = 5_000_000

#: Of them those of drawings, of pictures beside missed bounds, of the samples that changed sides, and of one
#: list of texts. Whatever these leave is there for the figures.
DRAWINGS, EVIDENCE, SAMPLES, LIST = 1_600_000, 900_000, 900_000, 60_000

#: Most suites with a heading of their own.
SUITES = 250

#: Letters of one text: a reason or a message that is longer is cut.
TEXT = 2_000

WHERE = "the JSON report has all (--clip-report report.json)"

T = TypeVar("T")


def size(*texts: str) -> int:
    """Return the bytes that texts take in a file."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def shortened(text: str, most: int = TEXT) -> str:
    """Return a text, or its beginning and how much is left out."""
    if len(text) <= most:
        return text
    return f"{text[:most]} … ({counted(len(text) - most, 'letter')} more: {WHERE})"


def fitting(items: Iterable[tuple[T, int]], room: int) -> list[T]:
    """Return the first of items (item, bytes) whose bytes fit into the room."""
    kept = []
    for item, taken in items:
        room -= taken
        if room < 0:
            break
        kept.append(item)
    return kept


def listed(texts: Sequence[str], room: int = LIST) -> list[str]:
    """Return the first texts of a list that fit, and how many do not."""
    cut = [shortened(text) for text in texts]
    kept = fitting(((text, size(text) + 100) for text in cut), room)
    left = len(cut) - len(kept)
    return [*kept, f"… and {left:,} more: {WHERE}"] if left else kept


def drawn(sections: Sequence[Section], room: int = DRAWINGS) -> tuple[Section, ...]:
    """Return sections with the drawings that fit, which are drawn here, and with so many suites at most.

    What fails comes first, and of each suite its first group before any suite's second, so that one suite
    does not take all.
    """
    order = sorted(
        (suite for section in sections for suite in section.suites),
        key=lambda suite: not suite.failed,
    )[:SUITES]
    groups = sorted(
        (
            (not suite.failed, number, place, group)
            for place, suite in enumerate(order)
            for number, group in enumerate(suite.groups)
        ),
        key=lambda found: found[:3],
    )
    kept: dict[int, Group] = {}
    for *_, group in groups:
        count = 0
        for plot in group.plots if room >= 0 else ():
            room -= size(plot.svg, plot.caption, *(cell for row in plot.rows for cell in row))
            if room < 0:  # whatever comes after is not drawn at all: that is what takes time
                break
            count += 1
        kept[id(group)] = _first(group, count)
    shown = {id(suite) for suite in order}

    def suites(of: Section) -> tuple[SuitePart, ...]:
        return tuple(
            replace(suite, groups=tuple(kept[id(group)] for group in suite.groups))
            for suite in of.suites
            if id(suite) in shown
        )

    return tuple(
        replace(
            section,
            suites=suites(section),
            hidden=tuple(suite for suite in section.suites if id(suite) not in shown),
        )
        for section in sections
    )


def _first(group: Group, count: int) -> Group:
    left = len(group.plots) - count
    if not left:
        return group
    note = f"{counted(left, 'more drawing')} had no room in this page. {group.note}".strip()
    return replace(group, plots=group.plots[:count], note=note)


def samples(albums: Sequence[Album], room: int = SAMPLES) -> tuple[Album, ...]:
    """Return albums with the cards that fit, the first albums' first."""
    found = []
    for album in albums:
        sizes = [
            size(card.shown.clean, card.shown.perturbed) if card.shown else 0
            for card in album.cards
        ]
        cards = fitting(zip(album.cards, sizes, strict=True), room)
        room -= sum(sizes[: len(cards)])
        found.append(replace(album, cards=tuple(cards)))
    return tuple(album for album in found if album.cards)
