"""``cliprobust show``: one run of the history."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, history_path
from pytest_cliprobust.cli._tables import print_table
from pytest_cliprobust.errors import ClipRobustError, did_you_mean, printable

if TYPE_CHECKING:
    from pytest_cliprobust.results.earlier import Earlier

HELP = "show a run: what was under test, and its figures"
DESCRIPTION = (
    "Show a run of the history, or of a JSON report: what was under test, and its figures."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust show``."""
    parser.add_argument("run_", metavar="RUN", help=f"{REFERENCE}, or a JSON report")
    parser.add_argument("--figure", metavar="NAME", help="only figures of this metric, key or glob")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the run.

    Raises:
        ClipRobustError: no such run, or it has no such figure.
    """
    from pytest_cliprobust.results.history import earlier_run

    found = earlier_run(options.run_, history_path(options))
    rows = _rows(found, options.figure)
    if options.figure is not None and not rows:
        metrics = list(dict.fromkeys(one.metric for one in found.measurements.values()))
        raise ClipRobustError(
            f"{found.source} has no figure {options.figure!r}."
            f"{did_you_mean(options.figure, [*metrics, *found.measurements])} Give a metric "
            f"({', '.join(metrics)}), a key, or a glob of keys"
        )
    for line in _header(found):
        print(printable(line))
    print()
    print_table(("figure", "value [interval]", "n", "bound", "verdict"), rows)
    return 0


def _header(found: Earlier) -> list[str]:
    told = found.header
    config = told.get("config", {})
    tags = f" ({', '.join(found.tags)})" if found.tags else ""
    state = "" if found.complete else ", cut short"
    lines = [
        f"{found.source}{tags}, {told.get('written')}, exit code {told.get('exit_status')}{state}, "
        f"pytest-cliprobust {told.get('pytest_cliprobust')}"
    ]
    for name, model in told.get("models", {}).items():
        lines.append(
            f"model: {name} ({model['architecture']}, {model['pretrained']}), weights "
            f"{model['digest'][:12]}, {model['device']}, precision {model['precision']}"
        )
    size = f", at most {config['limit']} samples" if config.get("limit") else ""
    lines.append(
        f"data: {config.get('data')}, profile {config.get('profile')}{size}, seed {config.get('seed')}; "
        f"thresholds: {told.get('thresholds') or 'none'}"
    )
    lines += [f"note: {note}" for note in told.get("notes", ())]
    return [*lines, *(f"mistake: {mistake}" for mistake in told.get("mistakes", ()))]


def _rows(found: Earlier, name: str | None) -> list[tuple[str, ...]]:
    return [
        (
            key,
            measurement.figure.interval_text(),
            f"{measurement.figure.n:,}",
            _bound(found.verdicts[key]),
            str(found.verdicts[key]["status"]),
        )
        for key, measurement in found.measurements.items()
        if name is None or name == measurement.metric or fnmatch.fnmatchcase(key, name)
    ]


def _bound(verdict: Mapping[str, Any]) -> str:
    return str(verdict.get("bound") or "–")
