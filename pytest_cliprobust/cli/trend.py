"""``cliprobust trend``: figures over the runs of the history, and how far they have drifted."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_cliprobust.cli._history import add_history_option, open_history
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.cli.history import when

if TYPE_CHECKING:
    from pytest_cliprobust.results.compare import Compared
    from pytest_cliprobust.results.history import History, Point
    from pytest_cliprobust.results.trend import LeftOut

HELP = "show a figure over runs, and how far it has drifted"
DESCRIPTION = (
    "Show a figure over the runs of the history, with its drift since the anchor (or the first run), or the "
    "drift of several figures."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust trend``."""
    parser.add_argument("name", metavar="NAME", help="a metric, a model, a key, or a glob of keys")
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
    from pytest_cliprobust.results.history import SERIES

    head = ("key", "run", "written", "tags", "value", "low", "high", "n", "unit", "status", *SERIES)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(head)
    for key in keys:
        for point in history.points(key):
            ends = (point.value, point.low, point.high, point.n, point.unit, point.status)
            tags = " ".join(point.tags)
            series = (" ".join(v) if isinstance(v, list) else v for v in json.loads(point.series))
            writer.writerow((key, point.number, point.written, tags, *ends, *series))


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
    _print_left_out(trend.left_out)


def _print_several(history: History, keys: list[str]) -> None:
    from pytest_cliprobust.results.trend import drifts_of

    drifts = drifts_of(history, keys)
    rows = [
        (
            one.last.key,
            _named(one.first),
            f"{one.first.value:.4g}",
            _named(one.last),
            f"{one.last.value:.4g}",
            drift_text(one.row) if one.row else "–",
            str(one.row.word) if one.row else "–",
        )
        for one in drifts
    ]
    print_table(("figure", "from", "value", "to", "value", "drift [interval]", "verdict"), rows)
    _print_left_out([entry for one in drifts for entry in one.left_out])


def _print_left_out(entries: Sequence[LeftOut]) -> None:
    """Say which runs are no part of the line, and why, one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        names = by_reason.setdefault(entry.why, [])
        if _named(entry.point) not in names:
            names.append(_named(entry.point))
    for why, names in by_reason.items():
        are = "is" if len(names) == 1 else "are"
        print(f"{', '.join(names)} {are} left out, as not comparable: {why} (--csv has them)")


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
