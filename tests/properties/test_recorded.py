"""Every property's figures of a few hundred made-up samples, to the last detail, as the record has them.

That they are right is for the other tests to show, one by one and against independent answers. This one
holds that nothing else of them moves unnoticed: a bin, a detail of a report, the end of an interval, the
change against another run. After a change that is meant, look at what differs and record anew::

    PYTHONPATH=tests python tests/properties/test_recorded.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up import PARTS, flat, rounded, same

from pytest_cliprobust.figures.change import change_between
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.figures.levels import interval_at
from pytest_cliprobust.figures.recipes import recipe_of

#: With the newest libraries only: older ones' arithmetic differs in its last bits, which may decide.
pytestmark = pytest.mark.slow

RECORD = Path(__file__).with_name("figures.json")


def said(figure: Figure, later: Figure) -> dict[str, Any]:
    """Return all that a figure says, and what another run's has changed."""
    change = change_between(later, figure)
    ends, wider = change.interval(0.95), interval_at(figure, 0.99)
    data = {
        **figure.as_dict(),
        "at_99": [wider.low, wider.high],
        "change": [change.difference, ends.low, ends.high, change.p_beyond(0.01), change.changed],
        "compared": [change.n, change.units, change.why_not, change.kind, change.design_effect],
        "answers": [len(change.lost), len(change.gained), change.identical, change.one_model],
        "spread": [change.standard_error, recipe_of(figure, later) is not None],
    }
    return {name: rounded(value) for name, value in data.items()}


def seen(part: str) -> list[dict[str, Any]]:
    """Return what the figures of a part say."""
    pairs = zip(flat(PARTS[part](0)), flat(PARTS[part](1)), strict=True)
    return [said(first, second) for first, second in pairs]


def record() -> None:
    """Write down what all figures say, one a line."""
    lines = []
    for part in PARTS:
        figures = ",\n".join(json.dumps(figure, separators=(",", ":")) for figure in seen(part))
        lines.append(f"{json.dumps(part)}: [\n{figures}\n]")
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.mark.parametrize("part", PARTS)
def test_figures_are_those_of_the_record(part: str) -> None:
    then = json.loads(RECORD.read_text())[part]
    now = json.loads(json.dumps(seen(part)))
    assert [figure["metric"] for figure in now] == [figure["metric"] for figure in then]
    for one, other in zip(now, then, strict=True):
        same(one, other, one["metric"])


if __name__ == "__main__":
    record()
