"""Who wrote a bound: recording, or a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gating_helpers import HEAD

from pytest_cliprobust.figures.metrics import METRICS
from pytest_cliprobust.gating.authors import Authors
from pytest_cliprobust.gating.limits import why_useless
from pytest_cliprobust.gating.reading import parse_thresholds
from pytest_cliprobust.gating.rules import Kind, Rule
from pytest_cliprobust.gating.suggestion import Side, suggest_bound

GAP = METRICS.named("signed_gap")


def of(text: str, margin: float = 0.5) -> tuple[Authors, tuple[Rule, ...]]:
    rules = parse_thresholds(text, "t.toml").rules
    return Authors(text, rules, margin), rules


def row(bounds: str, comment: str = "", metric: str = "accuracy") -> str:
    mark = f"  # {comment}" if comment else ""
    return (
        f'{HEAD}[[threshold]]\nmetric = "{metric}"\nbounds = [\n'
        f"    {{ model = 'm', {bounds} }},{mark}\n]\n"
    )


def persons_bound(text: str, side: Side = "min", margin: float = 0.5) -> bool:
    authors, rules = of(text, margin)
    found = {authors.wrote_bound(rule, side) for rule in rules}
    assert len(found) == 1
    return found.pop()


def persons_margin(text: str, kind: Kind = "max_decrease", side: Side = "min") -> bool:
    authors, rules = of(text)
    return authors.wrote_margin(rules[0], kind, side)


MEASURED = "measured 0.8 [0.78, 0.82], n = 1000"


def test_a_bound_without_a_line_of_its_own_has_no_comment() -> None:
    text = row("min = 0.76", MEASURED) + f"# {MEASURED}"
    authors, (rule,) = of(text)
    assert authors._line(rule, "min") == f"    {{ model = 'm', min = 0.76 }},  # {MEASURED}"
    for line in (0, len(text.split("\n")) + 1):
        assert authors._line(replace(rule, line=line, lines={}), "min") == ""
    last = replace(rule, line=len(text.split("\n")), lines={})
    assert authors._line(last, "min") == f"# {MEASURED}"


@pytest.mark.parametrize(
    ("bound", "comment", "person"),
    [
        ("0.76", MEASURED, False),
        ("0.76", "", True),
        ("0.76", "checked by hand", True),
        ("0.76", f"{MEASURED}; twice on ARM", False),
        # Somebody has moved it, up or down.
        ("0.75", MEASURED, True),
        ("0.77", MEASURED, True),
        ("0.80", MEASURED, True),
        ("0.5", MEASURED, True),
        # Rounding outwards, and the digits of the comment, move it by less.
        ("0.757", MEASURED, False),
        ("0.756", MEASURED, False),
        ("0.7605", MEASURED, False),
        ("0.76", "measured ?, n = ?", True),
        ("0.76", "measured 0.8, n = 1000", True),
    ],
)
def test_a_bound_is_recordings_where_recording_has_put_it(
    bound: str, comment: str, person: bool
) -> None:
    assert persons_bound(row(f"min = {bound}", comment)) is person


def test_the_other_side_and_another_margin() -> None:
    assert not persons_bound(row("max = 0.19", "measured 0.15 [0.13, 0.17], n = 9", "ece"), "max")
    assert persons_bound(row("max = 0.15", "measured 0.15 [0.13, 0.17], n = 9", "ece"), "max")
    assert not persons_bound(row("min = 0.9", "measured 1 [0.95, 1], n = 9"), margin=1.0)
    assert persons_bound(row("min = 0.9", "measured 1 [0.95, 1], n = 9"), margin=0.0)
    # There is none on that side.
    assert not persons_bound(row("max_decrease = 0.9", MEASURED))


@pytest.mark.parametrize("value", [0.03, 0.3456789, 0.8123456, 0.9987])
@pytest.mark.parametrize("width", [0.0004, 0.0123, 0.0876, 0.2])
def test_whatever_recording_writes_is_known_again(value: float, width: float) -> None:
    low, high = max(0.0, value - width / 2), min(1.0, value + width / 2)
    comment = f"measured {value:.4g} [{low:.4g}, {high:.4g}], n = 1000"
    written = 0
    sides: tuple[tuple[Side, float], ...] = (("min", low), ("max", high))
    for side, end in sides:
        bound = suggest_bound(end, high - low, 0.5, side, GAP)
        if why_useless(GAP, side, bound):
            continue  # recording writes none
        written += 1
        assert not persons_bound(row(f"{side} = {bound}", comment, "signed_gap"), side)
    assert written


def test_a_list_is_a_persons_if_any_of_it_is() -> None:
    comment = "measured 0.8 [0.78, 0.82], 0.6 [0.58, 0.62], n = 1000"
    assert not persons_bound(row("severity = [1, 3], min = [0.76, 0.56]", comment))
    assert persons_bound(row("severity = [1, 3], min = [0.76, 0.5]", comment))
    assert persons_bound(row("severity = [1, 3], min = 0.56", comment))
    unknown = comment.replace("0.6 [0.58, 0.62]", "?")
    assert persons_bound(row("severity = [1, 3], min = [0.76, 0.56]", unknown))
    # The rows beside it are their own.
    both = row("severity = [1, 3], min = [0.76, 0.56]", comment)
    both += "[[threshold]]\nmetric = 'top5_accuracy'\nmin = 0.3\n"
    authors, rules = of(both)
    assert [authors.wrote_bound(rule, "min") for rule in rules] == [False, False, True]


def test_a_margin_is_recordings_where_its_line_says_what_was_measured() -> None:
    assert persons_margin(row("max_decrease = 0.03"))
    assert not persons_margin(row("max_decrease = 0.03", MEASURED))
    assert not persons_margin(row("min = 0.5", MEASURED))
    assert not persons_margin(row("min = 0.5"))
    # Beside a bound that recording wrote it is a person's: recording writes the one or the other.
    assert persons_margin(row("min = 0.76, max_decrease = 0.03", MEASURED))
    # In both directions recording writes them alike.
    mark = "measured 0.1 [0.08, 0.12], n = 1000"
    for sizes, person in (((0.03, 0.03), False), ((0.03, 0.02), True)):
        text = row("max_increase = {}, max_decrease = {}".format(*sizes), mark, "signed_gap")
        assert persons_margin(text) is person
        assert persons_margin(text, "max_increase", "max") is person
    # Beside a person's it is recording's.
    assert not persons_margin(row("min = 0.7, max_decrease = 0.03", MEASURED))


def test_in_a_table_each_key_has_a_line_of_its_own() -> None:
    table = f'{HEAD}[[threshold]]\nmetric = "accuracy"\nmin = 0.76{{}}\nmax_decrease = 0.03{{}}\n'
    mark = f"  # {MEASURED}"
    cases = [(("", ""), True, True), ((mark, ""), False, True), (("", mark), True, False)]
    for marks, bound, margin in cases:
        text = table.format(*marks)
        assert (persons_bound(text), persons_margin(text)) == (bound, margin)


def test_what_an_earlier_version_recorded_says_so_in_its_because() -> None:
    table = f'{HEAD}[[threshold]]\nmetric = "accuracy"\n{{}}because = "{{}}"\n'
    recorded = "recorded at 0.8, 95% interval 0.78 to 0.82, n = 1000"
    assert not persons_bound(table.format("min = 0.76\n", recorded))
    assert persons_bound(table.format("min = 0.76\n", "we want it"))
    assert not persons_margin(table.format("max_decrease = 0.03\n", recorded))
    assert persons_margin(table.format("max_decrease = 0.03\nmin = 0.76\n", recorded))


def test_lines_are_counted_as_toml_counts_them() -> None:
    """A form feed or a line separator in a comment ends no line."""
    text = row("min = 0.76", MEASURED).replace(HEAD, f"{HEAD}# a\u2028b\u0085c\n")
    assert not persons_bound(text)


def test_rules_of_packs_are_a_persons_and_say_nothing_of_the_files_own(tmp_path: Path) -> None:
    """The first table of a pack has the same place as the file's: it is another document's."""
    bounds = "max = 0.9, max_increase = 0.1"
    # In the same line as the file's own row, which was recorded.
    (tmp_path / "pack.toml").write_text("# mine\n" + row(bounds, MEASURED, "ece"))
    text = row("min = 0.76", MEASURED).replace(HEAD, f'{HEAD}extends = "./pack.toml"\n')
    rules = parse_thresholds(text, "t.toml", tmp_path).rules
    own, packs = sorted(rules, key=lambda rule: rule.rank, reverse=True)
    assert (own.place, own.line) == (packs.place, packs.line)
    assert (own.rank, packs.rank) == (0, -1)
    authors = Authors(text, rules, 0.5)
    assert not authors.wrote_bound(own, "min")
    assert not authors.wrote_bound(own, "max")
    assert authors.wrote_bound(packs, "max")
    assert authors.wrote_margin(packs, "max_increase", "max")
    assert not authors.wrote_margin(packs, "max_decrease", "max")
