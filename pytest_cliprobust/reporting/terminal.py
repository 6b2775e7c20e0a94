"""The summary at the end of a run, as a table in the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from pytest_cliprobust.errors import counted, first_of, one_line
from pytest_cliprobust.figures.figure import Figure
from pytest_cliprobust.gating.rules import CHANGES
from pytest_cliprobust.gating.verdict import Verdict
from pytest_cliprobust.gating.words import format_value
from pytest_cliprobust.reporting.ending import LISTED, WAIVED, last_words
from pytest_cliprobust.reporting.remarks import remarks
from pytest_cliprobust.results.record import Record
from pytest_cliprobust.results.run import Run

STYLES = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "not compared": "bold yellow",
    "waived": "bold magenta",
    "unbounded": "dim",
}

#: Words of the verdict column, and shorter ones for a terminal of 80 columns.
WORDS = {
    "pass": "pass",
    "fail": "FAIL",
    "inconclusive": "inconclusive",
    "not compared": "not compared",
    "waived": "waived",
    "unbounded": "no bound",
}
SHORT = {**WORDS, "inconclusive": "open", "not compared": "no base"}
WIDE = 88

#: What needs a look, each figure in a row of its own, under a title; in this order.
_TITLES = {
    "fail": "FAIL: on the wrong side of the bound, or not a number",
    "not compared": "not compared: a bound on a change, and nothing to hold the figure against",
    "waived": "waived: the bound is missed, and a waiver says that it may be",
    "inconclusive": "inconclusive: the interval contains the bound",
}
_BAD = tuple(_TITLES)

HEADINGS = ("value [95% interval]", "n", "bound", "verdict")

#: More rows than this, and groups of passing rows become one row each (all are shown with -v).
MOST_ROWS = 60
LEAST_GROUP = 6

#: So many rows of one kind that needs a look are shown (all with -v).
MOST_BAD = 60

#: Of several models beside each other: rows that are shown, and widths of a name and of a model's column.
BESIDE_ROWS, BESIDE_NAME, BESIDE_COLUMN = 20, 30, 14

#: So many failures are named in one line at most, as far as they fit.
NAMED = 6

#: Rows shown of a suite that has no bound at all.
UNBOUNDED_ROWS = 12


@dataclass(frozen=True)
class Row:
    """A line of the table: one figure, or one figure at several severities."""

    suite: str
    metric: str
    on: str
    value: str
    n: str
    bound: str
    status: str
    values: tuple[float, ...] = ()
    waiver: str = ""

    @property
    def bad(self) -> bool:
        """Whether the row needs a look: it stands before all others."""
        return self.status in _BAD


def summarise(reporter: Any, run: Run, *, verbose: bool = False) -> None:
    """Print what failed, all that was measured, then what else a reader must know, the gravest last.

    Args:
        reporter: pytest's terminal reporter.
        run: what to tell of.
        verbose: whether to show figures without a bound, and every row.
    """
    if run.records:
        _print_tables(reporter, run, verbose)
    for record in run.records:
        if record.evidence is not None:
            reporter.write_line(one_line(f"picture of {record.key}: {record.evidence.picture}"))
    for change in run.changes:
        reporter.write_line(str(change))
    if run.kept:
        reporter.write_line(f"history: {run.kept}")
    for where in run.logged:
        reporter.write_line(one_line(f"logged to {where}"))
    for remark in remarks(run, most=LISTED):
        reporter.write_line(
            one_line(f"{remark.level}: {remark.text}"),
            red=remark.grave or remark.level in ("error", "ERROR"),
            yellow=remark.level == "warning" and not remark.grave,
            bold=remark.grave,
        )


def say_last(reporter: Any, run: Run) -> None:
    """Print what keeps a run from being whole, or green, below all else and in red; yellow what is waived.

    Where that is not all, the failures are named once more at the very end: what else there is to say must
    not look like the verdict.
    """
    words = last_words(run)
    for line in words:
        waived = line.startswith(WAIVED)
        reporter.write_line(one_line(line), red=not waived, yellow=waived, bold=True)
    failed = _failed_names(run.records)
    if words and failed and run.ending == "regression":
        told = _fitting(f"FAIL: {counted(len(failed), 'figure')}: ", failed, WIDE)
        reporter.write_line(told, red=True, bold=True)


def _print_tables(reporter: Any, run: Run, verbose: bool) -> None:
    """Print the table of each model's figures, and the line that counts the verdicts."""
    writer = reporter._tw
    reporter.section("CLIP robustness", sep="=")
    console = Console(
        file=writer._file,
        width=max(72, writer.fullwidth),
        force_terminal=bool(writer.hasmarkup),
        no_color=not writer.hasmarkup,
        highlight=False,
    )
    # First and last: a table of many figures is longer than a screen.
    verdict = totals(run.records, verbose, console.width)
    console.print(verdict, Text(), sep="\n", soft_wrap=True)
    for model, records in by_model(run.records):
        if len(run.config.models) > 1:
            console.print(Text(f"model {one_line(model)}", style="bold"), soft_wrap=True)
        for row in table(records, console.width, verbose=verbose):
            console.print(row, soft_wrap=True)
    for row in side_by_side(run.records, console.width):
        console.print(row, soft_wrap=True)
    console.print(verdict, soft_wrap=True)


def by_model(records: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    """Return the records of each model, in the order in which the models come up."""
    models = dict.fromkeys(record.model for record in records)
    return [(model, [r for r in records if r.model == model]) for model in models]


def side_by_side(records: Sequence[Record], width: int) -> list[Text]:
    """Return a table of several models, a column each: what needs a look first; none of a single model.

    As many models as fit have a column; a name too long for its column is cut.
    """
    fits = max(1, (width - BESIDE_NAME) // (BESIDE_COLUMN + 2))
    models = [model for model, _ in by_model(records)][:fits]
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        name = f"{record.suite}: {named(row_of([record]))}"
        found.setdefault(name, {})[record.model] = record
    rows = [row for row in found.items() if sum(model in row[1] for model in models) > 1]
    if not rows:
        return []
    chosen = sorted(rows, key=lambda row: _rank(row[1].values()))[:BESIDE_ROWS]
    left = width - len(models) * (BESIDE_COLUMN + 2)
    head = "".join(f"  {cut(one_line(model), BESIDE_COLUMN):>{BESIDE_COLUMN}}" for model in models)
    lines = [Text(f"{'side by side':<{left}}{head}", style="bold")]
    lines += [_beside(name, by_name, models, left) for name, by_name in chosen]
    if len(rows) > len(chosen):
        lines.append(Text(f"… and {len(rows) - len(chosen)} more (in the reports)", style="dim"))
    return [*lines, Text()]


def _rank(records: Iterable[Record]) -> int:
    """Return 0 for a figure that needs a look for some model, 1 for one with a bound, 2 for others."""
    rows = [row_of([record]) for record in records]
    if any(row.bad for row in rows):
        return 0
    return 2 if all(row.status == "unbounded" for row in rows) else 1


def _beside(name: str, by_name: Mapping[str, Record], models: Sequence[str], left: int) -> Text:
    line = Text(f"{cut(name, left - 1):<{left}}")
    for model in models:
        record = by_name.get(model)
        told = "–" if record is None else f"{record.figure.value:.3g}"
        style = "dim" if record is None else STYLES.get(row_of([record]).status, "")
        line.append(f"  {told:>{BESIDE_COLUMN}}", style=style)
    return line


def cut(name: str, width: int) -> str:
    """Return a name that fits a width: what is too long loses its middle."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def totals(records: Sequence[Record], verbose: bool, width: int = WIDE) -> Text:
    """Return the line that counts the verdicts: failures first, and as many of their names as fit."""
    counts = Counter(row_of([record]).status for record in records)
    text = Text()
    for status in ("fail", "not compared", "inconclusive", "waived", "pass"):
        if counts[status]:
            text.append(", " if text else "")
            text.append(f"{counts[status]} {status}", style=STYLES[status])
    if counts["unbounded"]:
        text.append(", " if text else "")
        hint = "" if verbose else " (shown with -v)"
        text.append(f"{counts['unbounded']} without a bound{hint}", style="dim")
    failed = _failed_names(records)
    if not failed:
        return text
    return Text.assemble((_fitting("FAIL: ", failed, width), STYLES["fail"]), "\n", text)


def _fitting(start: str, names: Sequence[str], width: int) -> str:
    """Return a line with as many of the names as fit, and how many others there are."""
    for most in range(min(len(names), NAMED), 1, -1):
        told = start + first_of(names, most)
        if len(told) <= width:
            return told
    return start + first_of(names, 1)


def _failed_names(records: Sequence[Record]) -> list[str]:
    """Return what failed, as the table names it; of several models with the model's name."""
    several = len({record.model for record in records}) > 1
    failed = [(record, row_of([record])) for record in records]
    return [
        f"{named(row)} ({one_line(record.model)})" if several else named(row)
        for record, row in failed
        if row.status == "fail"
    ]


def table(records: Sequence[Record], width: int, *, verbose: bool = False) -> list[Text]:
    """Return the lines of one model's figures: what needs a look, the gravest first, then suite by suite.

    Figures without a bound are left out where their suite has others, unless ``verbose``.
    """
    rows = rows_of(records, verbose)
    bad = [row for row in rows if row.bad]
    good = [row for row in rows if not row.bad]
    if len(good) > MOST_ROWS and not verbose:
        good = folded(good)
    layout = Layout([*good, *bad], width)
    lines = [layout.line("property", HEADINGS, "bold"), *_bad_lines(bad, layout, verbose)]
    for suite, group in groupby(good, key=lambda row: row.suite):
        counts = Counter(row.status for row in bad if row.suite == suite)
        missing = ", ".join(f"{counts[s]} {layout.words[s]}" for s in _BAD if counts[s])
        lines.append(Text.assemble((suite, "bold"), f"  ({missing}: see above)" if missing else ""))
        lines += suite_lines(list(group), layout)
    return [*lines, Text()]


def _bad_lines(rows: Sequence[Row], layout: Layout, verbose: bool) -> list[Text]:
    """Return a block for each kind of verdict that needs a look, failures first."""
    lines: list[Text] = []
    for status, title in _TITLES.items():
        chosen = [row for row in rows if row.status == status]
        if chosen:
            lines.append(Text(title, style=STYLES[status]))
            shown = chosen if verbose else chosen[:MOST_BAD]
            for row in shown:
                lines.append(layout.row(f"  {row.suite}: {named(row)}", row))
                lines += [Text(f"    {one_line(row.waiver)}", style="dim")] if row.waiver else []
            more = len(chosen) - len(shown)
            lines += [Text(f"  … and {more} more (shown with -v)", style="dim")] if more else []
            lines.append(Text())
    return lines


def suite_lines(rows: list[Row], layout: Layout) -> list[Text]:
    """Return a suite's lines; a metric that comes three times or more in a row is named once."""
    lines = []
    for metric, group in groupby(rows, key=lambda row: row.metric):
        same = list(group)
        if len(same) < 3 or not metric:
            lines += [layout.row(f"  {named(row)}", row) for row in same]
            continue
        lines.append(Text(f"  {metric}"))
        lines += [layout.row(f"    {row.on}", row) for row in same]
    return lines


class Layout:
    """Widths of the columns: the names get what the figures leave."""

    def __init__(self, rows: Sequence[Row], width: int) -> None:
        self.words = WORDS if width >= WIDE else SHORT
        cells = [HEADINGS, *(self._cells(row) for row in rows)]
        self._widths = [max(len(row[i]) for row in cells) for i in range(len(HEADINGS))]
        left = width - sum(self._widths) - 2 * len(self._widths) - 1
        self._name = max(left, 12)

    def _cells(self, row: Row) -> tuple[str, str, str, str]:
        return row.value, row.n, row.bound, self.words[row.status]

    def row(self, name: str, row: Row) -> Text:
        """Return the line of one figure."""
        return self.line(name, self._cells(row), STYLES.get(row.status, ""))

    def line(self, name: str, cells: tuple[str, str, str, str], style: str) -> Text:
        """Return a line; a name too long for its column stands on a line of its own."""
        value, n, bound, verdict = cells
        a, b, c, _ = self._widths
        text = Text(name)
        if len(name) > self._name:
            text.append("\n" + " " * self._name)
        else:
            text.append(" " * (self._name - len(name)))
        text.append(f"  {value:>{a}}  {n:>{b}}  {bound:<{c}}  ")
        text.append(verdict, style=style)
        return text


def named(row: Row) -> str:
    """Return ``ece · fog_3d@3``."""
    return f"{row.metric} · {row.on}" if row.metric else row.on


def rows_of(records: Sequence[Record], verbose: bool) -> list[Row]:
    """Return the rows of the table; a figure at several severities is one row unless it is bad."""
    rows: list[Row] = []
    bounded = {r.suite for r in records if r.verdict.status != "unbounded"}
    hidden: Counter[str] = Counter()
    for suite, group in groupby(records, key=lambda record: record.suite):
        for same in severities_together(list(group)):
            row = row_of(same)
            if row.status == "unbounded" and not verbose:
                hidden[suite] += 1
                if suite in bounded or hidden[suite] > UNBOUNDED_ROWS:
                    continue
            rows.append(row)
        more = hidden[suite] - UNBOUNDED_ROWS
        if suite not in bounded and more > 0:
            rows.append(Row(suite, "", f"… and {more} more", "", "", "", "unbounded"))
    return rows


def severities_together(records: list[Record]) -> list[list[Record]]:
    """Return groups of records that differ in severity and figure alone; bad ones stand alone."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for position, record in enumerate(records):
        verdict = record.verdict
        alone = record.measurement.severity is None or verdict.status in _BAD
        key = (
            record.measurement.metric,
            record.measurement.dataset,
            record.measurement.perturbation,
            verdict.status,
            position if alone else -1,
        )
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def row_of(records: list[Record]) -> Row:
    """Return the row of one record, or of one figure at several severities."""
    first = records[0]
    verdict = first.verdict
    status: str = verdict.status
    if status == "unbounded" and verdict.outcome == "fail":
        status = "fail"
    if verdict.not_compared:
        status = "not compared"
    # The data set goes without saying where it is the clean one, perturbed.
    perturbed = first.measurement.perturbation != "clean"
    on = first.measurement.perturbation if perturbed else first.measurement.dataset
    if perturbed and first.measurement.dataset != "clean":
        on = f"{first.measurement.dataset} · {on}"
    severities = [record.measurement.severity for record in records]
    texts = sorted({bound_of(record.verdict) for record in records})
    if severities[0] is not None:
        on += f"@{listed([s for s in severities if s is not None])}"
    value = interval(first.figure)
    if len(records) > 1:
        value = " ".join(f"{record.figure.value:.3g}" for record in records)
    return Row(
        suite=first.suite,
        metric=one_line(first.measurement.metric),
        on=one_line(on),
        value=value,
        n=str(first.figure.n),
        bound=texts[0] if len(texts) == 1 else f"{len(texts)} bounds",
        status=status,
        values=tuple(record.figure.value for record in records),
        waiver=verdict.waiver.text() if verdict.waiver else "",
    )


def listed(severities: Sequence[int]) -> str:
    """Return ``3``, ``1–5`` where none in between is left out, or ``1,3,5``."""
    first, last = severities[0], severities[-1]
    if len(severities) > 1 and list(severities) == list(range(first, last + 1)):
        return f"{first}–{last}"
    return ",".join(map(str, severities))


def bound_of(verdict: Verdict) -> str:
    """Return ``min 0.8``, or ``margin 0.029`` of a change in either direction; ``–`` without a bound."""
    if verdict.kind in CHANGES:
        return f"margin {verdict.limit:.12g}"
    return verdict.bound or "–"


def interval(figure: Figure) -> str:
    """Return ``0.244 [0.210, 0.283]`` with as many digits as the interval makes meaningful."""
    value, low, high = figure.value, figure.low, figure.high
    width = high - low if math.isfinite(high - low) else 0.0
    unit = f" {figure.unit}" if figure.unit else ""
    ends = f"[{format_value(low, width)}, {format_value(high, width)}]"
    return f"{format_value(value, width)} {ends}{unit}"


def folded(rows: list[Row]) -> list[Row]:
    """Return rows in which a long run of passing figures of one metric is a single row."""
    result: list[Row] = []
    for _, group in groupby(rows, key=lambda row: (row.suite, row.metric, row.status)):
        same = list(group)
        if len(same) < LEAST_GROUP:
            result += same
            continue
        values = [value for row in same for value in row.values]
        sizes = sorted({int(row.n) for row in same})
        result.append(
            Row(
                suite=same[0].suite,
                metric=same[0].metric,
                on=f"{len(same)} conditions",
                value=f"{min(values):.2f} … {max(values):.2f}",
                n=str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}",
                bound=same[0].bound
                if same[0].status == "unbounded"
                else f"{sum(len(row.values) for row in same)} bounds",
                status=same[0].status,
                values=tuple(values),
            )
        )
    return result
