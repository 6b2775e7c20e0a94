"""``cliprobust trend``: figures over the runs of the history, and how far they have drifted."""

from __future__ import annotations

import argparse
import csv
import sys
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import add_history_option, open_history
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.cli.history import when

if TYPE_CHECKING:
    from pytest_cliprobust.results.compare import Compared
    from pytest_cliprobust.results.history import History, Point

HELP = "show a figure over runs, and how far it has drifted"
DESCRIPTION = (
    "Show a figure over the runs of the history, with its drift since the anchor (or the first run), or the "
    "drift of several figures."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust trend``."""
    parser.add_argument("name", metavar="METRIC_OR_KEY", help="a metric, a key, or a glob of keys")
    parser.add_argument("--csv", action="store_true", help="every figure of every run, as CSV")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the trend.

    Raises:
        ClipRobustError: no such figure.
    """
    from pytest_cliprobust.results.trend import keys_for

    with open_history(options) as history:
        keys = keys_for(history, options.name)
        if options.csv:
            _print_csv(history, keys)
        elif len(keys) == 1:
            _print_one(history, keys[0])
        else:
            _print_several(history, keys)
    return 0


def _print_csv(history: History, keys: list[str]) -> None:
    head = ("key", "run", "written", "tags", "value", "low", "high", "n", "unit", "status")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(head)
    for key in keys:
        for point in history.points(key):
            ends = (point.value, point.low, point.high, point.n, point.unit, point.status)
            tags = " ".join(point.tags)
            writer.writerow((key, point.number, point.written, tags, *ends))


def _print_one(history: History, key: str) -> None:
    from pytest_cliprobust.results.trend import trend_of

    trend = trend_of(history, key)
    since = f"since {_named(trend.since)}"
    print(key)
    rows = [
        (
            str(point.number),
            when(point.written),
            ", ".join(point.tags),
            f"{point.value:.4g} [{point.low:.4g}, {point.high:.4g}]",
            f"{point.n:,}",
            drift_text(drift) if drift else "–",
        )
        for point, drift in zip(trend.points, trend.drifts, strict=True)
    ]
    print_table(("run", "when", "tags", "value [interval]", "n", since), rows)
    if trend.left_out:
        print(
            f"{trend.left_out} runs of other models, data, profiles or limits are left out (--csv)"
        )


def _print_several(history: History, keys: list[str]) -> None:
    from pytest_cliprobust.results.trend import drifts_of

    rows = [
        (
            last.key,
            _named(first),
            f"{first.value:.4g}",
            _named(last),
            f"{last.value:.4g}",
            drift_text(drift) if drift else "–",
            str(drift.word) if drift else "–",
        )
        for first, last, drift in drifts_of(history, keys)
    ]
    print_table(("figure", "from", "value", "to", "value", "drift [interval]", "verdict"), rows)


def _named(point: Point) -> str:
    return f"run {point.number}" + (" (anchor)" if point.anchor else "")


def drift_text(row: Compared) -> str:
    """Return a difference with its interval."""
    if row.change is None:
        return row.how
    width = (row.high - row.low) / 10.0
    value, low, high = (_signed(number, width) for number in (row.difference, row.low, row.high))
    return f"{value} [{low}, {high}]"


def _signed(value: float, width: float) -> str:
    from pytest_cliprobust.gating.words import format_value

    text = format_value(value, width)
    return text if text.startswith("-") or float(text) == 0.0 else f"+{text}"
