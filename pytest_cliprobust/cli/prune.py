"""``cliprobust prune``: old runs leave the history."""

from __future__ import annotations

import argparse
from datetime import datetime

from pytest_cliprobust.cli._history import add_history_option, open_history
from pytest_cliprobust.errors import ClipRobustError

HELP = "remove old runs from the history"
DESCRIPTION = "Remove old runs from the history; anchors and runs with a tag stay."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust prune``."""
    parser.add_argument("--keep", metavar="N", type=_count, help="all but the newest N")
    parser.add_argument(
        "--before", metavar="DATE", type=_moment, help="what was written before, 2026-11-01 say"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say which would go")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Remove what the options say.

    Raises:
        ClipRobustError: they say nothing, or there is no history.
    """
    if options.keep is None and options.before is None:
        raise ClipRobustError("say what goes: --keep N or --before DATE")
    with open_history(options) as history:
        gone = history.prune(keep=options.keep, before=options.before, try_only=options.dry_run)
        left = len(history.entries()) - (len(gone) if options.dry_run else 0)
    numbers = ", ".join(map(str, gone)) or "none"
    print(f"{'would remove' if options.dry_run else 'removed'} runs: {numbers}; {left} remain")
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


_count.__name__, _moment.__name__ = "number of runs", "date"  # as argparse says it
