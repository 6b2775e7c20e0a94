"""The summary at the end of a run, as a table in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_cliprobust.reporting.files import interval_text

if TYPE_CHECKING:
    from pytest_cliprobust.plugin import Session

STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "unbounded": "dim"}


def summarise(reporter: Any, session: Session) -> None:
    """Print every bounded figure, then what was measured without a bound, changed or went unused."""
    writer = reporter._tw
    if session.records:
        reporter.section("CLIP robustness", sep="=")
        width = max(80, writer.fullwidth)
        console = Console(
            file=writer._file, width=width, force_terminal=bool(writer.hasmarkup), highlight=False
        )
        console.print(table(session.records, len(session.evaluations) > 1))
        counts = Counter(record["verdict"]["status"] for record in session.records)
        console.print(
            Text(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
        )
    for record in session.records:
        if "evidence" in record:
            reporter.write_line(f"picture of {record['key']}: {record['evidence']['picture']}")
    for change in session.changes:
        reporter.write_line(str(change))
    for evaluation in session.evaluations.values():
        for note in evaluation.encoder.notes:
            reporter.write_line(f"note: {note}")
    skipped = {
        Path(report.nodeid.partition("::")[0]).stem.removeprefix("test_")
        for report in reporter.stats.get("skipped", [])
    }
    unused = unused_bounds(session, skipped)
    # A partial run (-k, -m, one file) leaves most bounds unused; that is no news then.
    if unused and not is_partial(session):
        for line in unused:
            reporter.write_line(f"warning: {line}", yellow=True)
    for mistake in dict.fromkeys(session.mistakes):
        reporter.write_line(f"ERROR: {mistake}", red=True)


def table(records: list[dict[str, Any]], several_models: bool) -> Table:
    """Return the table of the figures that have a bound or failed."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    result.add_column("suite", no_wrap=True)
    result.add_column("metric", no_wrap=True)
    result.add_column("on", overflow="fold")
    result.add_column("value [95% interval]", justify="right", no_wrap=True)
    result.add_column("n", justify="right", no_wrap=True)
    result.add_column("bound", no_wrap=True)
    result.add_column("verdict", no_wrap=True)
    previous = ""
    for record in records:
        verdict = record["verdict"]
        if verdict["status"] == "unbounded" and verdict["outcome"] != "fail":
            continue
        on = record["dataset"]
        if record["perturbation"] != "clean":
            on += f" · {record['perturbation']}"
            if record["severity"] is not None:
                on += f"@{record['severity']}"
        if several_models:
            on += f" · {record['model']}"
        suite = record["suite"] if record["suite"] != previous else ""
        previous = record["suite"]
        result.add_row(
            suite,
            record["metric"],
            on,
            interval_text(record["figure"]),
            str(record["figure"]["n"]),
            verdict.get("bound") or "–",
            Text(verdict["status"], style=STYLES.get(verdict["status"], "")),
        )
    return result


def unused_bounds(session: Session, skipped: Collection[str] = ()) -> list[str]:
    """Return one line for each bound that no test of this run used.

    Bounds of a suite that was ``skipped``, wholly or in part, are no news: pytest lists the skips.
    """
    thresholds = session.thresholds
    if thresholds is None:
        return []
    for record in session.records:
        thresholds.merge_uses([name for name in (record["rule"],) if name])
        thresholds.merge_uses(record.get("also_used", ()))
    return thresholds.describe_unused(skipped)


def is_partial(session: Session) -> bool:
    """Return whether the command line selected only some of the tests."""
    option = session.pytest_config.option
    return bool(
        option.keyword
        or option.markexpr
        or getattr(option, "lf", False)
        or any("::" in arg or arg.endswith(".py") for arg in session.pytest_config.args)
    )
