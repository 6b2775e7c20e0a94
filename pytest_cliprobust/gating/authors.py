"""Who wrote a bound, recording or a person: what a person wrote is not replaced.

Recording leaves a comment (or once left a ``because``) that says what was measured. A line without one is a
person's. So is an absolute bound that is not where recording would have put it, given its comment: somebody
has changed it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_cliprobust.gating.measured import RECORDED, find_comment, measured_in
from pytest_cliprobust.gating.rules import CHANGES, Kind, Rule
from pytest_cliprobust.gating.suggestion import Side

#: Recording rounds outwards by up to a tenth of the interval's width, and comments have four digits.
_OF_WIDTH, _OF_VALUE = 0.12, 1.1e-3


class Authors:
    """Knows the authors of a file's bounds.

    Args:
        text: the file.
        rules: the rules in it; those of packs that it extends are a person's.
        margin: in interval widths, how far beyond the interval recording puts an absolute bound.
    """

    def __init__(self, text: str, rules: Sequence[Rule], margin: float) -> None:
        self._lines = text.split("\n")
        self._rules = [rule for rule in rules if not rule.rank]
        self._margin = margin

    def wrote_margin(self, rule: Rule, kind: Kind, side: Side) -> bool:
        """Return whether a rule's bound on the change is a person's.

        Beside an absolute bound that recording wrote it is: recording writes the one or the other. So is
        one of two in both directions that differ: recording writes them alike.
        """
        if kind not in rule.bounds:
            return False
        if rule.rank:
            return True
        beside = side in rule.bounds and not self.wrote_bound(rule, side)
        apart = len({rule.bounds[each] for each in CHANGES if each in rule.bounds}) > 1
        return beside or apart or not self._was_recorded(rule, kind)

    def wrote_bound(self, rule: Rule, side: Side) -> bool:
        """Return whether a rule's absolute bound is a person's; of a list, whether any is."""
        if side not in rule.bounds:
            return False
        if rule.rank:
            return True
        row = (rule.place.table, rule.place.row)
        of_row = [one for one in self._rules if (one.place.table, one.place.row) == row]
        return not all(self._is_as_recorded(one, side) for one in of_row or [rule])

    def _was_recorded(self, rule: Rule, kind: Kind) -> bool:
        line = self._line(rule, kind)
        return rule.because.startswith(RECORDED) or find_comment(line, 0, len(line)) is not None

    def _line(self, rule: Rule, kind: Kind) -> str:
        number = rule.lines.get(kind, rule.line)
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def _is_as_recorded(self, rule: Rule, side: Side) -> bool:
        """Return whether an absolute bound stands where its comment has recording put it."""
        if rule.because.startswith(RECORDED):
            return True
        items = measured_in(self._line(rule, side))
        place = rule.place.element or 0
        item = items[place] if place < len(items) else None
        if item is None:
            return False
        _, low, high = item
        away = self._margin * (high - low)
        expected = low - away if side == "min" else high + away
        tolerance = _OF_WIDTH * (high - low) + _OF_VALUE * max(abs(low), abs(high))
        return abs(rule.bounds[side] - expected) <= tolerance
