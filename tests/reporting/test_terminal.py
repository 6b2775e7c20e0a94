"""The summary table: readable at 80 columns, failures first, severities in one row."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from _pytest._io import TerminalWriter
from report_helpers import figures, the_run

from pytest_cliprobust.figures.condition import Condition, Step
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.measurement import Measurement
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.reporting import terminal
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Run


def record(
    suite: str = "corruption_3d",
    metric: str = "accuracy",
    perturbation: str = "fog_3d",
    severity: int | None = None,
    value: float = 0.5,
    status: str = "pass",
    dataset: str = "clean",
    bound: str = "min 0.2",
) -> Record:
    step = Step(perturbation, severity)
    condition = Condition(dataset, () if perturbation == "clean" else (step,))
    figure = Figure(metric, value, value - 0.05, value + 0.05, 1072)
    kind, _, limit = bound.partition(" ")
    bounded = status != "unbounded"
    verdict = {
        "status": status,
        "outcome": "fail" if status == "fail" else "pass",
        "key": "",
        "kind": kind if bounded else None,
        "limit": float(limit) if bounded else None,
        "bound": bound if bounded else "",
        "where": "",
        "because": "",
        "explanation": "",
        "value": value,
        "low": value,
        "high": value,
        "confidence": 0.95,
        "n": 1072,
        "missed_by": None,
        "samples_needed": None,
        "rule_id": "",
    }
    measurement = Measurement(suite, "reference", figure.measured_on(condition))
    return Record(measurement, Verdict.from_dict(verdict), "test_mine.py::test_mine")


def lines(records: list[Record], width: int = 80, **options: bool) -> list[str]:
    return [text.plain for text in terminal.table(records, width, **options)]


def test_every_column_survives_in_eighty_columns() -> None:
    records = [
        record(metric=metric, perturbation=name)
        for metric in ("mean_corruption_accuracy", "worst_corruption_drop")
        for name in ("all_3d", "xy_motion_blur", "a_very_long_name_of_a_perturbation_indeed")
    ]
    shown = lines(records)
    assert all(len(part) <= 80 for line in shown for part in line.split("\n"))
    text = "\n".join(shown)
    for word in (
        "xy_motion_blur",
        "0.50 [0.45, 0.55]",
        "1072",
        "min 0.2",
        "pass",
        "bound",
        "verdict",
    ):
        assert word in text
    assert text.count("mean_corruption_accuracy") == 1


@pytest.mark.parametrize("width", [80, 87])
def test_columns_stand_below_each_other(width: int) -> None:
    long = "a_metric_whose_name_is_far_too_long_for_its_column"
    shown = lines(
        [
            record("calibration", "ece", value=0.0512, status="fail", bound="max 0.02"),
            record(severity=2, value=0.4),
            record(severity=3),
            record(metric=long, dataset="outdoor"),
            record(metric="brier", perturbation="clean", bound="max_increase 0.1"),
        ],
        width,
    )
    # Two spaces before each column; the name's has what is left of the width but for one.
    name = width - 1 - (21 + 4 + 10 + 7) - 4 * 2
    blank = " " * name

    def row(what: str, value: str, n: str, bound: str, verdict: str) -> str:
        return f"{what:<{name}}  {value:>21}  {n:>4}  {bound:<10}  {verdict}"

    assert shown == [
        row("property", "value [95% interval]", "n", "bound", "verdict"),
        "FAIL: on the wrong side of the bound, or not a number",
        row("  calibration: ece · fog_3d", "0.05 [0.00, 0.10]", "1072", "max 0.02", "FAIL"),
        "",
        "corruption_3d",
        row("  accuracy · fog_3d@2–3", "0.4 0.5", "1072", "min 0.2", "pass"),
        f"  {long} · outdoor · fog_3d\n"
        + row(blank, "0.50 [0.45, 0.55]", "1072", "min 0.2", "pass"),
        row("  brier · clean", "0.50 [0.45, 0.55]", "1072", "margin 0.1", "pass"),
        "",
    ]


def test_severities_share_a_row_unless_one_is_bad() -> None:
    severities = [
        record(severity=s, value=0.7 - s / 10, status="fail" if s == 5 else "pass")
        for s in range(1, 6)
    ]
    text = "\n".join(lines(severities))
    assert "fog_3d@1–4" in text
    assert "0.6 0.5 0.4 0.3" in text
    assert "fog_3d@5" in text


def test_what_needs_a_look_stands_first_and_is_counted_in_its_suite() -> None:
    shown = lines(
        [
            record("calibration", "ece", status="fail", value=float("nan")),
            record("calibration", "nll", status="inconclusive"),
            record("ood", "auroc_mcm", dataset="near_ood", perturbation="clean"),
            record("calibration", "brier"),
        ]
    )
    text = "\n".join(shown)
    assert "calibration  (1 FAIL, 1 open: see above)" in text
    assert text.index("FAIL: on") < text.index("inconclusive:") < text.index("auroc_mcm · near_ood")
    assert shown[1].startswith("FAIL: on the wrong side")
    assert "calibration: ece" in shown[2]
    assert "nan" in shown[2]


def test_the_verdict_counts_and_names_what_failed() -> None:
    assert str(terminal.totals([record(), record("a", "ece")], True)) == "2 pass"
    found = [
        record("calibration", "ece", status="fail"),
        record(status="unbounded"),
        record(status="inconclusive"),
        record(),
    ]
    assert str(terminal.totals(found, False)).splitlines() == [
        "FAIL: ece · fog_3d",
        "1 fail, 1 inconclusive, 1 pass, 1 without a bound (shown with -v)",
    ]
    other = [replace(one, measurement=replace(one.measurement, model="v2")) for one in found]
    assert str(terminal.totals([*found, *other], False)).startswith(
        "FAIL: ece · fog_3d (reference), ece · fog_3d (v2)\n"
    )


@pytest.mark.parametrize("width", [72, 80, 100])
def test_the_verdict_names_as_many_failures_as_fit(width: int) -> None:
    many = [record(perturbation=f"perturbation_{i}", status="fail") for i in range(5000)]
    first, second = str(terminal.totals(many, False, width)).splitlines()
    assert first.startswith("FAIL: accuracy · perturbation_0")
    shown = first.count("perturbation_")
    assert first.endswith(f" and {5000 - shown} more")
    assert len(first) <= width < len(first) + len(", accuracy · perturbation_9")
    assert second == "5000 fail"


def test_of_many_failures_the_first_are_shown() -> None:
    many = [record(perturbation=f"p{i}", status="fail") for i in range(70)]
    shown = lines(many)
    assert sum("accuracy · p" in line for line in shown) == 60
    assert "  … and 10 more (shown with -v)" in shown
    assert sum("accuracy · p" in line for line in lines(many, verbose=True)) == 70


def test_failures_are_named_once_more_below_other_words() -> None:
    class Last:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def write_line(self, text: str, **markup: bool) -> None:
            self.lines.append(text)

    def said(found: Run) -> list[str]:
        last = Last()
        terminal.say_last(last, found)
        return last.lines

    failed = the_run(figures((1, 2)))
    assert said(failed) == []  # pytest's own lines name them, just above
    cut = replace(failed, complete=False)
    assert said(cut)[-1] == "FAIL: 1 figure: accuracy · clean"
    assert said(cut)[0].startswith("PARTIAL: ")
    assert "FAIL" not in said(replace(cut, ending="interrupted"))[-1]


def test_names_move_no_cursor() -> None:
    made = lines([record(dataset="a\x1b[2J\n::error::b", status="fail")])
    parts = [part for line in made for part in line.split("\n")]
    assert all(part.isprintable() for part in parts)
    assert not any(part.lstrip().startswith("::") for part in parts)


def test_figures_without_a_bound_show_only_where_nothing_else_does() -> None:
    bounded = [record(), record(metric="ece", status="unbounded")]
    assert "ece" not in "\n".join(lines(bounded))
    assert "ece" in "\n".join(lines(bounded, verbose=True))
    alone = [record(metric=f"m{i}", status="unbounded") for i in range(20)]
    text = "\n".join(lines(alone))
    assert "m0" in text
    assert "and 8 more" in text


def test_long_passing_groups_fold() -> None:
    many = [record(perturbation=f"p{i:02d}", value=i / 100) for i in range(70)]
    shown = lines(many)
    assert len(shown) < 10
    assert any("70 conditions" in line and "0.00 … 0.69" in line for line in shown)
    assert len(lines(many, verbose=True)) > 70


@pytest.mark.parametrize(
    ("severities", "told"),
    [
        ((1, 3, 5), "fog_3d@1,3,5 "),
        ((3, 4, 5), "fog_3d@3–5 "),
        ((2, 3), "fog_3d@2–3 "),
        ((4,), "fog_3d@4 "),
    ],
)
def test_severities_are_named_that_were_measured(severities: tuple[int, ...], told: str) -> None:
    text = "\n".join(lines([record(severity=s, value=0.7 - s / 10) for s in severities]))
    assert told in text


def test_a_folded_group_counts_every_severity() -> None:
    many = [
        record(perturbation=f"p{i:02d}", severity=severity, value=severity / 10 + i / 1000)
        for i in range(70)
        for severity in (1, 3, 5)
    ]
    (line,) = (line for line in lines(many) if "conditions" in line)
    assert "70 conditions" in line
    assert "0.10 … 0.57" in line
    assert "210 bounds" in line


def group(count: int, **more: Any) -> list[terminal.Row]:
    """Return rows of one metric."""
    made = [
        terminal.row_of([record(perturbation=f"p{i}", value=i / 10, **more)]) for i in range(count)
    ]
    return [replace(row, n=str(100 + 10 * i)) for i, row in enumerate(made)]


def test_what_a_folded_group_says() -> None:
    few = group(terminal.LEAST_GROUP - 1)
    assert terminal.folded(few) == few
    same = [replace(row, n="100") for row in group(6)]
    (one,) = terminal.folded(same)
    assert (one.n, one.bound, one.on) == ("100", "6 bounds", "6 conditions")
    passing, free = group(6), group(7, status="unbounded")
    first, second = terminal.folded([*passing, *free])
    assert (first.suite, first.metric, first.status) == ("corruption_3d", "accuracy", "pass")
    assert (first.n, first.value, first.values) == (
        "100–150",
        "0.00 … 0.50",
        (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    )
    assert (second.n, second.bound, second.status) == ("100–160", "–", "unbounded")
    mixed = terminal.folded([*few, *free, *few])
    assert len(mixed) == 2 * len(few) + 1


def test_severities_with_bounds_of_their_own_are_counted() -> None:
    def bound(*bounds: str) -> str:
        return terminal.row_of([record(severity=i, bound=b) for i, b in enumerate(bounds, 1)]).bound

    assert bound("min 0.2", "min 0.2") == "min 0.2"
    assert bound("min 0.2", "min 0.3", "min 0.2") == "2 bounds"


def printed(found: Run, *, verbose: bool = False) -> list[str]:
    """Return what a plain terminal of 100 columns shows."""
    file = io.StringIO()
    writer = TerminalWriter(file)
    writer.fullwidth = 100

    class Reporter:
        _tw = writer

        def section(self, title: str, **options: str) -> None:
            writer.sep("=", title)

        def write_line(self, text: str, **markup: bool) -> None:
            writer.line(text)

    terminal.summarise(Reporter(), found, verbose=verbose)
    return file.getvalue().splitlines()


def test_the_verdict_stands_first_and_last_and_each_model_has_a_table() -> None:
    one = the_run(figures((1, 2)))
    alone = printed(one)
    totals = str(terminal.totals(one.records, False, 100)).splitlines()
    assert alone[0].strip("= ") == "CLIP robustness"
    assert alone[1 : 1 + len(totals)] == totals
    assert [line for line in alone if line in totals] == totals * 2
    assert not any(line.startswith("model ") for line in alone)
    (picture,) = (line for line in alone if line.startswith("picture of "))
    assert picture == f"picture of {one.records[0].key}: x.png"
    records = [replace(r, measurement=replace(r.measurement, model="v\x1b2")) for r in one.records]
    two = replace(
        one,
        records=(*one.records, *records),
        config=replace(one.config, models=("mine", "v\x1b2")),
    )
    both = printed(two)
    assert [line for line in both if line.startswith("model ")] == ["model mine", "model v\\x1b2"]
    assert sum(line.startswith("side by side") for line in both) == 1
    assert printed(replace(one, records=()))[0] != alone[0]


@pytest.mark.parametrize(("width", "word"), [(80, "open"), (120, "inconclusive")])
def test_words_fit_the_width(width: int, word: str) -> None:
    (line,) = (x for x in lines([record(status="inconclusive")], width) if "[0.45" in x)
    assert line.endswith(word)


def of(model: str, made: Record) -> Record:
    return replace(made, measurement=replace(made.measurement, model=model))


def beside(records: list[Record], width: int = 100) -> list[str]:
    return [text.plain for text in terminal.side_by_side(records, width)]


def test_models_stand_side_by_side() -> None:
    records = [
        of("a", record(metric="ece", status="unbounded", value=0.11)),
        of("a", record(metric="nll", value=0.22)),
        of("a", record(severity=3, value=0.333)),
        of("b", record(metric="ece", status="unbounded", value=0.44)),
        of("b", record(metric="nll", value=0.55)),
        of("b", record(severity=3, status="fail", value=0.666)),
        of("b", record(metric="brier", value=0.7)),
    ]
    head, *rows, last = beside(records)
    assert head.split() == ["side", "by", "side", "a", "b"]
    # What failed for either comes first, then what has a bound; what one model alone has is left out.
    assert [row.split()[-4:] for row in rows] == [
        ["·", "fog_3d@3", "0.333", "0.666"],
        ["·", "fog_3d", "0.22", "0.55"],
        ["·", "fog_3d", "0.11", "0.44"],
    ]
    assert last == ""


def test_one_model_has_nothing_beside_it() -> None:
    assert beside([record(), record(metric="ece")]) == []


@pytest.mark.parametrize("width", [72, 80, 100])
def test_side_by_side_keeps_to_the_width(width: int) -> None:
    models = [f"a-model-with-a-long-name-{number}" for number in range(6)]
    records = [
        of(model, record(metric="mean_corruption_accuracy_of_a_long_name", perturbation=f"p{i:02}"))
        for model in models
        for i in range(40)
    ]
    shown = beside(records, width)
    assert max(map(len, shown)) <= width
    assert len(shown) == terminal.BESIDE_ROWS + 3
    assert shown[-2] == "… and 20 more (in the reports)"
    assert "…" in shown[0]
    assert shown[0].rstrip().endswith("name-" + str((width - 30) // 16 - 1))


def test_a_long_name_loses_its_middle() -> None:
    assert terminal.cut("abcdefghij", 10) == "abcdefghij"
    assert terminal.cut("abcdefghijk", 10) == "abcde…hijk"


def test_side_by_side_each_figure_has_the_colour_of_its_verdict() -> None:
    records = [
        of("a", record(metric="ece")),
        of("b", record(metric="ece", status="fail")),
        of("a", record(metric="nll", status="unbounded")),
        of("b", record(metric="nll", status="inconclusive")),
        of("c", record(metric="nll")),
    ]
    _, *rows, _ = terminal.side_by_side(records, 100)
    styles = {row.plain.split()[1]: [str(span.style) for span in row.spans] for row in rows}
    known = terminal.STYLES
    assert styles["ece"] == [known["pass"], known["fail"], "dim"]  # c has none
    assert [row.plain.split()[-1] for row in rows if "ece" in row.plain] == ["–"]
    wanted = [known.get(status, "") for status in ("unbounded", "inconclusive", "pass")]
    assert styles["nll"] == [style for style in wanted if style]
