"""The samples that changed sides: which, what either run answered, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.properties.answers import Answer, answers_in
from pytest_cliprobust.reporting.html.facts import Line, answer_text
from pytest_cliprobust.reporting.html.pictures import Pictures, Shown
from pytest_cliprobust.results.compare import matched_answers

#: So many conditions are shown, and so many samples of each that were lost, and gained.
CONDITIONS, LOST, GAINED = 7, 8, 3


@dataclass(frozen=True)
class Card:
    """A sample that one run had right and the other has not.

    Attributes:
        sample: its id.
        lost: whether it was right before; else it is right now.
        label: its class; empty where that is not known.
        before, after: what either run answered.
        kept: whether the earlier run's answer is known, beside whether it was right.
        shown: its pictures; None where they cannot be drawn.
    """

    sample: str
    lost: bool
    label: str
    before: str
    after: str
    kept: bool
    shown: Shown | None


@dataclass(frozen=True)
class Album:
    """The samples of one condition that changed sides.

    Attributes:
        line: the accuracy on that condition.
        lost, gained: how many there are.
        cards: those that are shown.
    """

    line: Line
    lost: int
    gained: int
    cards: tuple[Card, ...]


def albums_of(lines: Sequence[Line], pictures: Pictures) -> tuple[Album, ...]:
    """Return albums of the conditions that lost most, clean pictures first."""
    chosen: dict[tuple[str, str], Line] = {}
    for line in lines:
        one = line.measurement
        if one.metric != "accuracy" or line.compared is None or not one.condition.dataset:
            continue
        if one.condition.over or "value" not in line.compared.sides:
            continue
        # Of several severities the one that lost most; `lines` stand in that order.
        chosen.setdefault((one.dataset, one.perturbation), line)

    def rank(line: Line) -> tuple[bool, bool, int]:
        one = line.measurement
        assert line.compared is not None
        plain = one.perturbation == CLEAN and not one.condition.part_of
        sides = line.compared.sides["value"]
        return plain, not one.condition.part_of, len(sides.lost) - len(sides.gained)

    ordered = sorted(chosen.values(), key=rank, reverse=True)
    return tuple(_album(line, pictures) for line in ordered[:CONDITIONS])


def _album(line: Line, pictures: Pictures) -> Album:
    row = line.compared
    assert row is not None
    sides = row.sides["value"]
    moved = [(place, was) for place, was, now in matched_answers(row) if was is not now]
    shown = [pair for pair in moved if pair[1]][:LOST] + [pair for pair in moved if not pair[1]][
        :GAINED
    ]
    outcomes = row.head.figure.outcomes
    keys = None if outcomes is None else outcomes.keys
    assert keys is not None  # else no sample had changed sides
    digests = keys.digests or ("",) * len(keys)
    drawn = pictures.of(
        line.measurement.condition, [(keys.ids[place], digests[place]) for place, _ in shown]
    )
    now = answers_in(row.head.figure.details)
    then = _by_sample(line)
    cards = []
    for place, was in shown:
        answer = now[place] if place < len(now) else None
        earlier = then.get(keys.ids[place])
        label = next((a.label for a in (answer, earlier) if a is not None), "")
        cards.append(
            Card(
                sample=keys.ids[place],
                lost=was,
                label=label,
                before=answer_text(earlier, was),
                after=answer_text(answer, not was),
                kept=earlier is not None,
                shown=drawn.get(keys.ids[place]),
            )
        )
    return Album(line, len(sides.lost), len(sides.gained), tuple(cards))


def _by_sample(line: Line) -> dict[str, Answer | None]:
    """Return the earlier run's answers by sample, as far as it kept them."""
    assert line.compared is not None
    figure = line.compared.base.figure
    own = figure.outcomes
    if own is None or own.keys is None:
        return {}
    return dict(zip(own.keys.ids, answers_in(figure.details), strict=False))
