"""Edits of a threshold file's text: where a bound goes, what its comment says, what stays."""

from __future__ import annotations

import itertools

import pytest
from gating_helpers import HEAD

from pytest_cliprobust.gating import editing as module
from pytest_cliprobust.gating.editing import Addition, Update, written_with
from pytest_cliprobust.gating.measured import Measured
from pytest_cliprobust.gating.rules import Kind, Place

ONE = Measured(0.15, 0.13, 0.17, 1000, 0.95)
COMMENT = "# measured 0.15 [0.13, 0.17], n = 1000"
TABLE = '[[threshold]]\nsuite = "calibration"\nmetric = "ece"\n'


def updated(text: str, place: Place, values: dict[Kind, float], **replaced: Kind) -> str:
    names: dict[Kind, Kind] = {"max": replaced["max"]} if replaced else {}
    return written_with(text, [Update(place, values, ONE, names)], [])


def added(text: str, *fields: dict[str, str | int], values: dict[Kind, float] | None = None) -> str:
    bounds = values or {"max": 0.19}
    return written_with(text, [], [Addition(each, bounds, ONE) for each in fields])


def test_nothing_to_write_is_the_same_text() -> None:
    text = f"{HEAD}{TABLE}max = 0.2  # tight"
    assert written_with(text, [], []) == text


@pytest.mark.parametrize("element", [0, 1, 2])
@pytest.mark.parametrize("new", [0.1, 0.2, 0.3, 0.4])
def test_of_a_list_one_element_is_replaced(element: int, new: float) -> None:
    """Also by what another element has already; and the comment speaks of that element alone."""
    text = f"{HEAD}{TABLE}bounds = [\n  {{{{ severity = [1, 3, 5], max = [{{}}] }}}},{{}}\n]\n"
    old = [0.1, 0.2, 0.3]
    before = text.format(", ".join(map(str, old)), "")
    after = updated(before, Place(0, 0, element), {"max": new})
    if old[element] == new:
        assert after == before
        return
    values = [*old[:element], new, *old[element + 1 :]]
    items = ["?"] * 3
    items[element] = "0.15 [0.13, 0.17]"
    counts = ["?"] * 3
    counts[element] = "1000"
    comment = f"  # measured {', '.join(items)}, n = {'/'.join(counts)}"
    assert after == text.format(", ".join(map(str, values)), comment)


def test_elements_of_several_rows_are_replaced_together() -> None:
    row = "  {{ severity = [1, 3], max = [{}, {}], max_increase = [0.1, 0.2] }},{}\n"
    text = f"{HEAD}{TABLE}bounds = [\n{{}}]\n"
    before = text.format(row.format(0.1, 0.2, "") + row.format(0.3, 0.4, "  # c"))
    other = Measured(0.5, 0.4, 0.6, 50, 0.95)
    updates = [
        Update(Place(0, 0, 1), {"max": 0.6}, other),
        Update(Place(0, 1, 0), {"max": 0.7}, ONE),
        Update(Place(0, 0, 0), {"max": 0.5}, ONE),
    ]
    comment = "  # measured 0.15 [0.13, 0.17], 0.5 [0.4, 0.6], n = 1000/50"
    assert written_with(before, updates, []) == text.format(
        row.format(0.5, 0.6, comment) + row.format(0.7, 0.4, "  # c")
    )


@pytest.mark.parametrize("because", ["", 'because = "users see it"\n'])
def test_a_margin_that_a_table_gets_says_what_it_comes_from(because: str) -> None:
    """Only so is it known for recording's own. An absolute bound of a table is exact either way."""
    text = f"{HEAD}{TABLE}{because}max = 0.19\n[policy]\n"
    margin = f"max_increase = 0.01  {COMMENT}\n"
    assert updated(text, Place(), {"max_increase": 0.01}) == text.replace(
        "max = 0.19\n", f"max = 0.19\n{margin}"
    )
    assert updated(text, Place(), {"min": 0.1}) == text.replace(
        "max = 0.19\n", "max = 0.19\nmin = 0.1\n"
    )


def test_a_table_whose_reason_is_of_recording_needs_no_comment() -> None:
    reason = 'because = "recorded at {}, 95% interval {}, n = {}"\n'
    text = f"{HEAD}{TABLE}max = 0.3\n{reason}"
    before = text.format("0.3", "0.2 to 0.4", 5)
    after = text.format("0.15", "0.13 to 0.17", 1000)
    assert updated(before, Place(), {"max_increase": 0.01}) == f"{after}max_increase = 0.01\n"
    assert updated(before, Place(), {"max": 0.19}) == after.replace("max = 0.3", "max = 0.19")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_key_goes_behind_the_last_one_also_where_the_file_ends_without_a_newline(
    newline: str,
) -> None:
    text = f"{HEAD}{TABLE}  max = 0.19".replace("\n", newline)
    after = updated(text, Place(), {"min": 0.1, "max_increase": 0.01})
    assert after == f"{text}{newline}  min = 0.1{newline}  max_increase = 0.01  {COMMENT}"


def test_a_bound_is_renamed_where_it_stands() -> None:
    text = f"{HEAD}{TABLE}max_increase  =  0.01  # max_increase\nmin = 0.1\n"
    after = updated(text, Place(), {"max": 0.19}, max="max_increase")
    assert after == f"{HEAD}{TABLE}max  =  0.19  # max_increase\nmin = 0.1\n"
    # In a row likewise; what is not there cannot be renamed, and is added.
    text = f"{HEAD}{TABLE}bounds = [{{ max_increase = 0.01 }}]\n"
    after = updated(text, Place(0, 0), {"max": 0.19}, max="max_increase")
    assert after == f"{HEAD}{TABLE}bounds = [{{ max = 0.19 }}]\n"
    after = updated(text, Place(0, 0), {"max": 0.19}, max="max_decrease")
    assert "{ max_increase = 0.01, max = 0.19 }" in after


def test_of_tables_with_as_much_in_common_the_first_takes_a_row() -> None:
    table = f'{TABLE}dataset = "clean"\nbounds = [\n  {{{{ severity = 1, max = 0.5 }}}},\n{{}}]\n'
    fields: dict[str, str | int] = {"suite": "calibration", "metric": "ece", "dataset": "clean"}
    after = added(HEAD + table.format("") * 2, {**fields, "severity": 3})
    assert after == HEAD + table.format(f"  {{ severity = 3, max = 0.19 }},  {COMMENT}\n") + (
        table.format("")
    )
    # An exact data set counts for more than one that is left open, wherever it stands.
    loose = table.replace('dataset = "clean"\n', "")
    for order in itertools.permutations([loose, table]):
        before = HEAD + "".join(one.format("") for one in order)
        new = f"  {{ severity = 3, max = 0.19 }},  {COMMENT}\n"
        expected = HEAD + "".join(one.format(new if one == table else "") for one in order)
        assert added(before, {**fields, "severity": 3}) == expected


def test_a_row_goes_to_the_table_of_its_metric_behind_others() -> None:
    """Tables without rows, of other suites and of other metrics are passed over."""
    row = "bounds = [\n  {{ severity = 1, max = 0.5 }},\n{}]\n"
    other = [f"{TABLE}max = 0.9\n", TABLE.replace("ece", "nll") + row.format("").replace("{{", "{")]
    other.append(TABLE.replace("calibration", "ood") + row.format(""))
    after = added(
        HEAD + "".join([*other, TABLE, row.format("")]).replace("{{", "{").replace("}}", "}"),
        {"suite": "calibration", "metric": "ece", "severity": 3},
    )
    new = row.format(f"  {{ severity = 3, max = 0.19 }},  {COMMENT}\n")
    assert after == HEAD + "".join([*other, TABLE, new]).replace("{{", "{").replace("}}", "}")


def test_severities_of_one_selector_share_a_row_the_mildest_first() -> None:
    fields: dict[str, str | int] = {"suite": "calibration", "metric": "ece"}
    after = added(
        HEAD,
        {**fields, "perturbation": "snow", "severity": 5},
        {**fields, "perturbation": "snow"},
        {**fields, "perturbation": "snow", "severity": 0},
        {**fields, "perturbation": "fog", "severity": 2},
    )
    item = "0.15 [0.13, 0.17]"
    assert after == (
        f"{HEAD}\n{TABLE}bounds = [\n"
        f'    {{ perturbation = "snow", severity = [0, 5], max = [0.19, 0.19] }},'
        f"  # measured {item}, {item}, n = 1000\n"
        f'    {{ perturbation = "snow", max = 0.19 }},  {COMMENT}\n'
        f'    {{ perturbation = "fog", severity = 2, max = 0.19 }},  {COMMENT}\n'
        "]\n"
    )


def test_new_tables_stand_behind_their_suite_and_the_rest_at_the_end() -> None:
    suites = [
        f'[[threshold]]\nsuite = "{name}"\nmetric = "m"\nmax = 0.5\n# of {name}\n' for name in "aba"
    ]
    text = HEAD + "".join(suites) + "[policy]\nconfidence = 0.9"
    fields: list[dict[str, str | int]] = [
        {"suite": suite, "metric": metric, "model": "x"}
        for suite, metric in ("an", "bn", "cn", "ao")
    ]

    def new(suite: str, metric: str) -> str:
        return (
            f'\n[[threshold]]\nsuite = "{suite}"\nmetric = "{metric}"\nmodel = "x"\n'
            f"bounds = [\n    {{ max = 0.19 }},  {COMMENT}\n]\n"
        )

    after = added(text, *fields)
    bare = [one.partition("# of")[0] for one in suites]
    assert after == (
        f"{HEAD}{suites[0]}{bare[1]}{new('b', 'n')}# of b\n{bare[2]}{new('a', 'n')}{new('a', 'o')}"
        f"# of a\n[policy]\nconfidence = 0.9\n{new('c', 'n')}"
    )


def test_a_table_names_once_what_all_of_its_rows_share() -> None:
    fields: dict[str, str | int] = {
        "suite": "s",
        "metric": "m",
        "dataset": "d",
        "perturbation": "p",
        "model": "x",
        "profile": "quick",
    }
    head = '\n[[threshold]]\nsuite = "s"\nmetric = "m"\n'
    one = added(HEAD, fields)
    assert one == (
        f'{HEAD}{head}dataset = "d"\nmodel = "x"\nprofile = "quick"\nbounds = [\n'
        f'    {{ perturbation = "p", max = 0.19 }},  {COMMENT}\n]\n'
    )
    # Of several rows the perturbation too; what any row has otherwise stands in the rows.
    two = added(HEAD, fields, {**fields, "model": "y"})
    assert two == (
        f'{HEAD}{head}dataset = "d"\nperturbation = "p"\nprofile = "quick"\nbounds = [\n'
        f'    {{ model = "x", max = 0.19 }},  {COMMENT}\n'
        f'    {{ model = "y", max = 0.19 }},  {COMMENT}\n]\n'
    )
    # What the defaults say already is not repeated.
    defaults = f'{HEAD}[defaults]\ndataset = "d"\nprofile = "full"\n'
    assert added(defaults, fields) == (
        f'{defaults}{head}model = "x"\nprofile = "quick"\nbounds = [\n'
        f'    {{ perturbation = "p", max = 0.19 }},  {COMMENT}\n]\n'
    )


@pytest.mark.parametrize(
    ("text", "edits", "ends"),
    [
        ("a = 1", [], False),
        ("a = 1\n", [], True),
        # What comes last behind the end of the text decides, by its place and then by its rank.
        ("a = 1", [(5, 5, "\n", 1), (5, 5, "x", 2)], False),
        ("a = 1", [(5, 5, "x", 1), (5, 5, "\n", 2)], True),
        ("a = 1", [(4, 5, "x", 9), (5, 5, "\n", 1)], True),
        ("a = 1\n", [(5, 6, "x", 1)], False),
        # What is changed elsewhere does not.
        ("a = 1", [(0, 0, "\n", 9)], False),
        ("a = 1\n", [(0, 1, "x", 9)], True),
        ("a = 1", [(0, 0, "x", 9), (5, 5, "\n", 1)], True),
    ],
)
def test_whether_what_is_appended_begins_a_line(
    text: str, edits: list[tuple[int, int, str, int]], ends: bool
) -> None:
    for order in (edits, edits[::-1]):
        editor = module._Editor(text)
        for start, end, new, rank in order:
            editor._edit(start, end, new, rank)
        assert editor._ends_line() is ends
