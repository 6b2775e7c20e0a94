"""``cliprobust tag``: names for a run of the history."""

from __future__ import annotations

import argparse

from pytest_cliprobust.cli._history import REFERENCE, add_history_option, open_history

HELP = "name a run of the history"
DESCRIPTION = "Give a run of the history names; tag:NAME then means the newest run of that name."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cliprobust tag``."""
    parser.add_argument("run_", metavar="RUN", help=REFERENCE)
    parser.add_argument("names", metavar="NAME", nargs="+")
    parser.add_argument("--remove", action="store_true", help="take the names away")
    add_history_option(parser)


def run(options: argparse.Namespace) -> int:
    """Name the run.

    Raises:
        ClipRobustError: no such run, or a name that cannot be one.
    """
    with open_history(options) as history:
        number = history.find(options.run_)
        for name in options.names:
            history.tag(number, name, remove=options.remove)
        tags = next(entry.tags for entry in history.entries() if entry.number == number)
    print(f"run {number}: {', '.join(tags) or 'no tags'}")
    return 0
