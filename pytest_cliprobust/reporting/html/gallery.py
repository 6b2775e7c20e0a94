"""The samples that changed sides: which, what either run answered, and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_cliprobust.figures.condition import CLEAN
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.properties.answers import Answer, answers_in
from pytest_cliprobust.reporting.facts import Line, answer_text
from pytest_cliprobust.reporting.html.pictures import Pictures, Shown
from pytest_cliprobust.results.compare import Sides, matched_answers

#: By metric, the column of its outcomes that says of each sample whether it was right; an accuracy stands
#: before a drop on the same condition.
COLUMNS = {"accuracy": "value", "accuracy_drop": "shifted"}

Answers = dict[str, Answer]

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
    """Return albums of the conditions that lost most: clean pictures first, then what can be drawn."""
    chosen: dict[tuple[str, str], Line] = {}
    for metric, column in COLUMNS.items():
        for line in lines:
            one = line.measurement
            if one.metric != metric or line.compared is None or one.condition.over:
                continue
            # A drop between two data sets goes by the names of the first: not those of the pictures.
            if metric != "accuracy" and not one.condition.steps:
                continue
            if column in line.compared.sides:
                # Of several severities the one that lost most; `lines` stand in that order.
                chosen.setdefault((one.dataset, one.perturbation), line)

    def rank(line: Line) -> tuple[bool, bool, bool, int]:
        one = line.measurement
        sides = _sides(line)
        plain = one.perturbation == CLEAN and not one.condition.part_of
        perturbed = bool(one.condition.steps) and pictures.draws(one.condition)
        first = plain and one.dataset == CLEAN
        return first, perturbed, not one.condition.part_of, len(sides.lost) - len(sides.gained)

    told = _Told(lines)
    ordered = sorted(chosen.values(), key=rank, reverse=True)
    return tuple(_album(line, told, pictures) for line in ordered[:CONDITIONS])


def _sides(line: Line) -> Sides:
    assert line.compared is not None
    return line.compared.sides[COLUMNS[line.measurement.metric]]


class _Told:
    """What was answered, by condition and sample, in both runs as far as they kept it."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = {
            (line.measurement.model, str(line.measurement.condition)): line
            for line in lines
            if line.measurement.metric == "accuracy"
        }

    def answers(self, line: Line) -> tuple[Answers, Answers]:
        """Return the answers of both runs, the earlier one's first, on the condition of a figure."""
        own = self._lines.get((line.measurement.model, str(line.measurement.condition)))
        if own is None:
            return {}, {}
        earlier = None if own.compared is None else own.compared.base.figure
        return _by_sample(earlier), _by_sample(own.measurement.figure)


def _album(line: Line, told: _Told, pictures: Pictures) -> Album:
    row, sides = line.compared, _sides(line)
    assert row is not None
    column = COLUMNS[line.measurement.metric]
    moved = [(place, was) for place, was, now in matched_answers(row, column) if was is not now]
    lost = [pair for pair in moved if pair[1]][:LOST]
    shown = [*lost, *[pair for pair in moved if not pair[1]][:GAINED]]
    outcomes = row.head.figure.outcomes
    keys = None if outcomes is None else outcomes.keys
    assert keys is not None  # else no sample had changed sides
    digests = keys.digests or ("",) * len(keys)
    drawn = pictures.of(
        line.measurement.condition, [(keys.ids[place], digests[place]) for place, _ in shown]
    )
    then, now = told.answers(line)
    cards = []
    for place, was in shown:
        name = keys.ids[place]
        before, after = then.get(name), now.get(name)
        label = next((a.label for a in (after, before) if a is not None), "")
        cards.append(
            Card(
                sample=name,
                lost=was,
                label=label,
                before=answer_text(before, was, label),
                after=answer_text(after, not was, label),
                kept=before is not None,
                shown=drawn.get(name),
            )
        )
    return Album(line, len(sides.lost), len(sides.gained), tuple(cards))


def _by_sample(figure: Figure | None) -> Answers:
    """Return the answers that a figure holds, by sample."""
    own = None if figure is None else figure.outcomes
    if figure is None or own is None or own.keys is None:
        return {}
    told = answers_in(figure.details)
    return {name: a for name, a in zip(own.keys.ids, told, strict=False) if a is not None}
